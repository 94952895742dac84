"""Photographs as pixels: opening them upright and fast, augmenting them, and the loaders that do it in processes.

Whoever sees a photograph (training, enrolment, prediction) sees the same pixels: `open_photograph` is the only door.
"""

import os
import struct
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from reid.catalogue import Catalogue
from reid.files import sha256_of
from reid.progress import track
from reid.recipe import Recipe
from reid.sampler import Draw

__all__ = [
    "PhotographStore",
    "UnreadableError",
    "augmentation",
    "open_photograph",
    "photograph_batches",
    "scratch_folder",
    "store_photographs",
    "survey",
    "training_loader",
]

BROKEN = (OSError, ValueError, SyntaxError, ArithmeticError, EOFError, struct.error)
"""What Pillow's decoders raise on broken files."""


class UnreadableError(Exception):
    """A photograph that can't be opened; the message says why, without the path."""


def open_photograph(path: Path, size: int) -> np.ndarray:
    """Opens a photograph, turns it upright by its EXIF tag and squashes it to a square.

    A JPEG is decoded at a scale of 1/2, 1/4 or 1/8 as long as that leaves at least twice the wanted pixels on each
    side; then one antialiased bicubic resize follows.

    Args:
        path: the file.
        size: S, pixels on a side.

    Returns:
        (S, S, 3) uint8, RGB.

    Raises:
        UnreadableError: the file is missing, no image, cut short or too large.
    """
    with _opened(path) as image:
        try:
            image.draft("RGB", (2 * size, 2 * size))
            upright = ImageOps.exif_transpose(image).convert("RGB")
        except BROKEN as problem:
            raise UnreadableError(f"it can't be decoded ({problem})") from None
    return np.asarray(upright.resize((size, size), Image.Resampling.BICUBIC))


def _opened(path: Path) -> Image.Image:
    if not path.is_file():
        raise UnreadableError("not a file" if path.exists() else "no such file")
    try:
        return Image.open(path)
    except Image.DecompressionBombError as problem:
        raise UnreadableError(str(problem)) from None
    except BROKEN as problem:
        raise UnreadableError(f"it is no image ({type(problem).__name__})") from None


@dataclass
class PhotographFiles(Dataset[tuple[Tensor, str]]):
    """Photographs straight from their files.

    An item is the pixels, (3, S, S) uint8, and what was wrong: "" when all is well, else the reason, and grey pixels
    in its place, so that one broken file never ends a run.
    """

    paths: Sequence[Path]
    size: int

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, str]:
        try:
            pixels, problem = open_photograph(self.paths[index], self.size), ""
        except UnreadableError as unreadable:
            pixels, problem = np.full((self.size, self.size, 3), 128, np.uint8), str(unreadable)
        return torch.from_numpy(pixels.transpose(2, 0, 1).copy()), problem


def photograph_batches(paths: Sequence[Path], recipe: Recipe, what: str) -> Iterator[tuple[Tensor, list[str]]]:
    """Batches of photographs from their files, in order, decoded in worker processes.

    Yields:
        (B, 3, S, S) uint8 and per photograph what was wrong with it ("" when nothing).
    """
    loader = DataLoader(
        PhotographFiles(paths, recipe.image_size),
        batch_size=recipe.batch_size,
        num_workers=min(_workers(recipe), -(-len(paths) // recipe.batch_size)),
        pin_memory=torch.cuda.is_available(),
    )
    for pixels, problems in track(loader, what):
        yield pixels, list(problems)


def _workers(recipe: Recipe) -> int:
    return recipe.workers if recipe.workers >= 0 else min(7, max(1, len(os.sched_getaffinity(0)) - 1))


@dataclass(frozen=True)
class PhotographStore:
    """Photographs decoded once and kept on disk for the whole training.

    Attributes:
        file: an array (N, 3, S, S) uint8 in NumPy's format, which worker processes map into memory.
        problems: per photograph what was wrong with it, "" when nothing.
    """

    file: Path
    problems: tuple[str, ...]

    def pixels(self) -> np.ndarray:
        """(N, 3, S, S) uint8, mapped from the file."""
        mapped: np.ndarray = np.load(self.file, mmap_mode="r")
        return mapped

    def batches(self, places: np.ndarray, batch_size: int) -> Iterator[Tensor]:
        """Photographs as they are enrolled, in the order of the places. (B, 3, S, S) uint8"""
        pixels = self.pixels()
        for start in range(0, len(places), batch_size):
            yield torch.from_numpy(pixels[places[start : start + batch_size]])


def store_photographs(catalogue: Catalogue, recipe: Recipe, folder: Path) -> PhotographStore:
    """Decodes every photograph of a catalogue once, into a file in `folder`."""
    file = folder / "photographs.npy"
    shape = (len(catalogue), 3, recipe.image_size, recipe.image_size)
    pixels = np.lib.format.open_memmap(file, mode="w+", dtype=np.uint8, shape=shape)
    problems: list[str] = []
    for batch, batch_problems in photograph_batches(catalogue.paths, recipe, "decoding photographs"):
        pixels[len(problems) : len(problems) + len(batch)] = batch.numpy()
        problems += batch_problems
    pixels.flush()
    return PhotographStore(file, tuple(problems))


def scratch_folder() -> tempfile.TemporaryDirectory[str]:
    """A folder that is gone afterwards, on the fast local disk that $TMPDIR names on a cluster."""
    return tempfile.TemporaryDirectory(prefix="reid-")


def augmentation(recipe: Recipe) -> v2.Transform:
    """The report's five augmentations, for (3, S, S) uint8 tensors.

    The report names them without amounts; these keep every marking in the picture and recognisable.
    """
    size = [recipe.image_size, recipe.image_size]
    steps: dict[str, v2.Transform] = {
        "flip": v2.RandomHorizontalFlip(p=1.0),
        "rotation": v2.RandomRotation(20, interpolation=v2.InterpolationMode.BILINEAR),
        "jitter": v2.ColorJitter(brightness=0.3, contrast=0.3, saturation=0.3, hue=0.03),
        "crop": v2.RandomResizedCrop(size, scale=(0.7, 1.0), ratio=(0.85, 1.18), antialias=True),
        "affine": v2.RandomAffine(
            10, translate=(0.1, 0.1), scale=(0.85, 1.15), shear=8, interpolation=v2.InterpolationMode.BILINEAR
        ),
    }
    chosen = [steps[name] for name in recipe.augmentations]
    if not chosen:
        return v2.Identity()
    if recipe.augment == "one":
        return v2.RandomChoice(chosen)
    return v2.Compose([v2.RandomApply([step], p=0.5) for step in chosen])


@dataclass
class DrawnPhotographs(Dataset[tuple[Tensor, int]]):
    """Stored photographs, augmented: the same `Draw` gives the same pixels, in whichever process it is asked for.

    Attributes:
        store: all photographs.
        places: (M,) integers, those to draw from.
        targets: (M,) integers, the class or individual of each.
        augment: (3, S, S) uint8 -> (3, S, S) uint8.
    """

    store: PhotographStore
    places: np.ndarray
    targets: np.ndarray
    augment: v2.Transform

    def __getitem__(self, draw: Draw) -> tuple[Tensor, int]:
        photograph = torch.from_numpy(self.store.pixels()[self.places[draw.place]].copy())
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(draw.seed)
            augmented: Tensor = self.augment(photograph)
        return augmented, int(self.targets[draw.place])


def training_loader(
    store: PhotographStore, places: np.ndarray, targets: np.ndarray, recipe: Recipe, sampler: Iterable[list[Draw]]
) -> DataLoader[Any]:
    """Augmented batches, one per batch of draws: photographs (B, 3, S, S) uint8 and targets (B,) int64."""
    workers = _workers(recipe)
    return DataLoader(
        DrawnPhotographs(store, places, targets, augmentation(recipe)),
        batch_sampler=sampler,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
    )


def survey(catalogue: Catalogue) -> pd.DataFrame:
    """Opens every photograph of a catalogue in full.

    Returns:
        One row per photograph, in order: image_id, sha256 of the file ("" when it can't be read), width and height in
        pixels (0 when unknown), and problem ("" when it can be opened).
    """
    with ThreadPoolExecutor(max_workers=len(os.sched_getaffinity(0))) as pool:  # decoding releases Python's lock
        looked = track(pool.map(_survey_file, catalogue.paths), "opening photographs", total=len(catalogue))
        rows = [(image_id, *row) for image_id, row in zip(catalogue.image_ids, looked, strict=True)]
    return pd.DataFrame(rows, columns=["image_id", "sha256", "width", "height", "problem"])


def _survey_file(path: Path) -> tuple[str, int, int, str]:
    try:
        with _opened(path) as image:
            image.load()
            width, height = image.size
        return sha256_of(path), width, height, ""
    except UnreadableError as unreadable:
        return "", 0, 0, str(unreadable)
    except BROKEN as problem:
        return "", 0, 0, f"it can't be decoded ({problem})"
