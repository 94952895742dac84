"""Photographs as pixels: opening them upright and fast, one by one, in threads or in processes, and augmenting them.

Whoever sees a photograph (training, enrolment, prediction) sees the same pixels: `open_photograph` is the only door.
"""

import functools
import math
import os
import struct
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pandas as pd
import torch
from PIL import ExifTags, Image, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from reid import InputError
from reid.catalogue import Catalogue
from reid.files import sha256_of
from reid.keypoints import Extraction, Keypoints, extract
from reid.progress import track
from reid.ranks import cores, share
from reid.recipe import AUGMENTATIONS, Recipe
from reid.sampler import Batch
from reid.workers import begin, clean_processes, count_workers, is_death, starting

__all__ = [
    "OPENED_AS",
    "PhotographStore",
    "UnreadableError",
    "View",
    "augment",
    "extraction_of",
    "open_photograph",
    "photograph_batches",
    "scratch_folder",
    "store_photographs",
    "survey",
    "thumbnails",
    "training_batches",
    "upright_size",
    "views_of",
]

Item = TypeVar("Item")

OPENED_AS = "draft 2, resized from edge to edge, turned, padded with 128"
"""What `open_photograph` does, in words that change when its pixels do: vectors that were kept of others are stale.
What it is asked for stands in a `View`."""

GREY = 128
"""What stands where a photograph has no pixels: near the mean of every trunk's normalisation."""

UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""By the tag Orientation of EXIF 2.32."""

SIDEWAYS = (5, 6, 7, 8)
"""Those of them that exchange width and height."""

QUARTERS = {90: Image.Transpose.ROTATE_90, -90: Image.Transpose.ROTATE_270, 180: Image.Transpose.ROTATE_180}
"""By degrees against the clock."""

TURNS = {"right": -90, "left": 90, "bottom": 180}
"""Degrees against the clock that bring a photograph of that orientation upright. So the competition's salamanders are
turned in WildlifeDatasets/wildlife-datasets, AnimalCLEF2025."""

FILTERS = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
    "nearest": Image.Resampling.NEAREST,
}
"""By timm's words."""

BATCHES_AHEAD = 8
"""Are being opened, or lie opened, beside a GPU: 512 photographs, which take as long as the networks to be loaded. They
hold 77 MB at 224 pixels, and as much as 0.5 MB each for their keypoints."""

ZEROS = 2**20
"""Bytes that are written at a time where a file's place on the disk can't be taken otherwise."""

BROKEN = (
    *(OSError, ValueError, SyntaxError, ArithmeticError, EOFError, struct.error, RuntimeError, LookupError, TypeError),
    *(Image.DecompressionBombError, MemoryError),
)
"""What Pillow's decoders raise on broken files (seen by changing random bytes; RuntimeError is AVIF's; MemoryError that
of a strip 100,000,000 pixels long)."""

KINDS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "JPEG2000", "AVIF", "PPM")
"""What cameras and scanners write. Pillow knows others, and for one of them, EPS, it starts another program that runs
what the file says, Ghostscript: a photograph may not do that."""


class UnreadableError(Exception):
    """A photograph that can't be opened; the message says why, without the path."""


@dataclass(frozen=True)
class View:
    """How a photograph is looked at.

    Attributes:
        size: S, pixels on a side; 0 where no network looks.
        fit: "squash" changes its shape, "pad" keeps it and fills up with grey.
        turn: degrees against the clock, a multiple of 90, after its EXIF tag was obeyed.
        interpolation: "bicubic", "bilinear", "lanczos" or "nearest", antialiased.
        detail: pixels on a side that decoding must leave for keypoints, as far as the file has them.
        mirror: left and right are exchanged, after it was turned.
    """

    size: int
    fit: str = "squash"
    turn: int = 0
    interpolation: str = "bicubic"
    detail: int = 0
    mirror: bool = False

    @property
    def least(self) -> int:
        """Pixels that decoding must leave on each side: twice the network's, so that the resize that follows averages
        over what it leaves out."""
        return max(2 * self.size, self.detail)


def views_of(catalogue: Catalogue, recipe: Recipe, mirror: bool = False) -> list[View]:
    """How each photograph of a catalogue is looked at, in training, enrolment and prediction alike.

    Args:
        catalogue: the photographs; their columns `dataset` and `orientation` say which to turn.
        recipe: `image_size`, `fit`, `interpolation`, `upright`, `scales`, none of them left to the trunk any more;
            `cues`, `keypoint_size`.
        mirror: left and right are exchanged.
    """
    largest = max(1.0, *recipe.scales)  # a larger scale sees more than an enlargement
    size = round(recipe.image_size * largest) if "encoder" in recipe.cues else 0
    detail = recipe.keypoint_size if "local" in recipe.cues else 0
    columns = zip(catalogue.table["dataset"], catalogue.table["orientation"], strict=True)
    turns = [TURNS.get(orientation, 0) if dataset in recipe.upright else 0 for dataset, orientation in columns]
    return [View(size, recipe.fit, turn, recipe.interpolation, detail, mirror) for turn in turns]


def extraction_of(recipe: Recipe) -> Extraction | None:
    """How the recipe finds keypoints; None where it asks for none."""
    if "local" not in recipe.cues:
        return None
    return Extraction(
        recipe.keypoint_size,
        max(recipe.keypoint_count, recipe.keypoint_candidates if "encoder" in recipe.cues else 0),
        recipe.keypoint_clahe,
        recipe.keypoint_contrast,
        recipe.keypoint_upright,
    )


def open_photograph(path: Path, view: View | int) -> np.ndarray:
    """Opens a photograph, turns it upright by its EXIF tag and its view, and makes it a square.

    A JPEG is decoded at a scale of 1/2, 1/4 or 1/8 as long as that leaves at least twice the wanted pixels on each
    side; then one antialiased resize follows.

    Args:
        path: the file.
        view: how to look at it; S alone for `View(S)`.

    Returns:
        (S, S, 3) uint8, RGB.

    Raises:
        UnreadableError: the file is missing, no image, cut short or too large.
    """
    view = View(view) if isinstance(view, int) else view
    return _squared(_decoded(path, view), view)


def upright_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels of a photograph that its EXIF tag has turned upright.

    Raises:
        UnreadableError: as `open_photograph`.
    """
    with _opened(path) as image:
        try:
            width, height = image.size
            return (height, width) if _orientation(image) in SIDEWAYS else (width, height)
        except BROKEN as problem:
            raise UnreadableError(_undecodable(problem)) from None


class Decoded(NamedTuple):
    """A photograph out of its file, no larger than its view needs it, and as it lies there."""

    image: Image.Image
    """RGB."""
    extent: tuple[float, float]
    """Width and height of the photograph in it: the last column and row of a JPEG that is decoded at a smaller scale
    reach up to a pixel beyond its edge."""
    turns: list[Image.Transpose]
    """What brings it upright, one after the other."""

    def upright(self, image: Image.Image) -> Image.Image:
        """The photograph, or what was made of it, as its view wants it."""
        return functools.reduce(Image.Image.transpose, self.turns, image)


def _decoded(path: Path, view: View) -> Decoded:
    with _opened(path) as image:
        try:
            drafted = image.draft("RGB", (view.least, view.least))
            orientation = _orientation(image)
            rgb = _as_rgb(image)
        except BROKEN as problem:
            raise UnreadableError(_undecodable(problem)) from None
    turns = [
        *([UPRIGHT[orientation]] if orientation in UPRIGHT else []),
        *([QUARTERS[view.turn]] if view.turn else []),
        *([Image.Transpose.FLIP_LEFT_RIGHT] if view.mirror else []),
    ]
    return Decoded(rgb, drafted[1][2:] if drafted else rgb.size, turns)


def _orientation(image: Image.Image) -> Any:
    """Of its EXIF tag: one of `UPRIGHT`, or whatever else stands there, words or bytes among it."""
    return image.getexif().get(ExifTags.Base.Orientation)


def _undecodable(problem: BaseException) -> str:
    return f"it can't be decoded ({str(problem) or type(problem).__name__})"


def _squared(decoded: Decoded, view: View) -> np.ndarray:
    """(S, S, 3) uint8"""
    if not view.size:
        return np.zeros((0, 0, 3), np.uint8)
    scale = view.size / max(decoded.extent)
    width, height = (max(1, round(side * scale)) if view.fit == "pad" else view.size for side in decoded.extent)
    try:
        resized = decoded.image.resize((width, height), FILTERS[view.interpolation], box=(0, 0, *decoded.extent))
        small = np.asarray(decoded.upright(resized))
    except MemoryError as problem:  # a strip of 1 x 100,000,000
        raise UnreadableError(_undecodable(problem)) from None
    if view.fit == "squash":
        return small
    square = np.full((view.size, view.size, 3), GREY, np.uint8)
    height, width = small.shape[:2]
    top, left = (view.size - height) // 2, (view.size - width) // 2
    square[top : top + height, left : left + width] = small
    return square


def _opened(path: Path) -> Image.Image:
    try:
        if not path.is_file():  # opening a pipe would wait for ever
            raise UnreadableError("not a file" if path.exists() else "no such file")
        if not path.stat().st_size:
            raise UnreadableError("the file is empty; copy it again")
        return Image.open(path, formats=_kinds())
    except UnidentifiedImageError:
        advice = "; it is a HEIC, as telephones make them: export it as JPEG" if _is_heic(path) else ""
        raise UnreadableError(f"it is no image of a kind that is read here ({', '.join(_kinds())}){advice}") from None
    except Image.DecompressionBombError as problem:
        raise UnreadableError(str(problem)) from None
    except BROKEN as problem:
        raise UnreadableError(f"it can't be opened ({getattr(problem, 'strerror', None) or problem})") from None


def _is_heic(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(12)[4:] in (b"ftypheic", b"ftypheix", b"ftyphevc")


@functools.cache
def _kinds() -> tuple[str, ...]:
    """Those of `KINDS` that this Pillow was built with."""
    Image.init()
    return tuple(kind for kind in KINDS if kind in Image.OPEN)


def _as_rgb(image: Image.Image) -> Image.Image:
    """Eight bits of red, green and blue; transparency is left aside."""
    if image.mode.startswith("I"):  # 16 bits of grey, which Pillow would cut off at 255
        image = Image.fromarray((np.asarray(image) // 256).clip(0, 255).astype(np.uint8))
    if image.mode == "F":  # nobody can tell which number is white; Pillow would make it black
        raise ValueError("its pixels are floating-point numbers; save it with 8 or 16 bits")
    if image.mode == "P":  # by this way Pillow doesn't warn of a palette with transparency
        image = image.convert("RGBA")
    return image.convert("RGB")


class Opened(NamedTuple):
    """Photographs out of their files."""

    pixels: Tensor
    """(B, 3, S, S) uint8; grey for a photograph that can't be read, so that one broken file never ends a run."""
    keypoints: list[Keypoints | None]
    """(B,), None where none are asked for, or the photograph can't be read."""
    problems: list[str]
    """(B,) what was wrong: "" when all is well, else the reason."""


@dataclass
class PhotographFiles(Dataset[Opened]):
    """Photographs straight from their files, one by one."""

    paths: Sequence[Path]
    views: Sequence[View]
    extractions: Sequence[Extraction | None]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Opened:
        view, extraction, keypoints, problem = self.views[index], self.extractions[index], None, ""
        try:
            decoded = _decoded(self.paths[index], view)
            pixels = _squared(decoded, view)
            if extraction:
                keypoints = extract(np.asarray(decoded.upright(decoded.image)), extraction)
        except UnreadableError as unreadable:
            pixels, problem = np.full((view.size, view.size, 3), GREY, np.uint8), str(unreadable)
        return Opened(torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None], [keypoints], [problem])


def _together(opened: list[Opened]) -> Opened:
    return Opened(
        torch.cat([photograph.pixels for photograph in opened]),
        [photograph.keypoints[0] for photograph in opened],
        [photograph.problems[0] for photograph in opened],
    )


def photograph_batches(
    paths: Sequence[Path],
    views: Sequence[View],
    recipe: Recipe,
    what: str,
    extractions: Sequence[Extraction | None] | None = None,
) -> Iterator[Opened]:
    """Batches of photographs from their files, in order.

    Each file is decoded once, for the networks and for the keypoints. Unless the recipe names worker processes, threads
    of this one open them on its cores: beside a GPU those of some batches to come; without one, where they would only
    take turns with the network, those of the batch that is asked for.

    Args:
        paths: the files.
        views: how to look at each; all of one size.
        recipe: `batch_size`, `workers`.
        what: the work in a few words.
        extractions: how keypoints are found on each; None for not at all.

    Raises:
        InputError: the system killed a worker; or see `count_workers`.
    """
    files = PhotographFiles(paths, views, extractions or [None] * len(paths))
    count = -(-len(files) // recipe.batch_size)
    if recipe.workers < 0:
        yield from track(_by_threads(files, recipe.batch_size, torch.cuda.is_available()), what, total=count)
        return
    workers = count_workers(recipe, count)
    loader = DataLoader(
        files,
        batch_size=recipe.batch_size,
        num_workers=workers,
        multiprocessing_context=clean_processes() if workers else None,
        worker_init_fn=begin,
        collate_fn=_together,
        pin_memory=torch.cuda.is_available(),
    )
    try:
        with starting():
            batches = iter(loader)
        yield from track(batches, what, total=count)
    except RuntimeError as problem:
        if not is_death(problem):
            raise
        raise InputError(
            f"{what}: a process that opens photographs was killed, most likely for want of memory (if not, it says why "
            "above). Close other programs, or let fewer of them work: --set workers=1 (0 for none beside this one)"
        ) from None


def _by_threads(files: PhotographFiles, batch_size: int, gpu: bool) -> Iterator[Opened]:
    """Decoding and OpenCV release Python's lock; sorting keypoints does not.

    Beside a GPU torch keeps to one thread meanwhile: of several, each would wait, and not idly, for those that have no
    core (benchmarks/README.md, Predict).
    """
    waiting: deque[list[Future[Opened]]] = deque()
    pool, threads = ThreadPoolExecutor(cores()), torch.get_num_threads()
    torch.set_num_threads(1 if gpu else threads)
    try:
        for start in range(0, len(files), batch_size):
            rows = range(start, min(start + batch_size, len(files)))
            waiting.append([pool.submit(files.__getitem__, row) for row in rows])
            if len(waiting) > BATCHES_AHEAD * gpu:
                yield _arrived(waiting.popleft(), gpu)
        while waiting:
            yield _arrived(waiting.popleft(), gpu)
    finally:
        torch.set_num_threads(threads)
        pool.shutdown(cancel_futures=True)


def _arrived(batch: list[Future[Opened]], gpu: bool) -> Opened:
    """In memory that a GPU copies from by itself."""
    opened = _together([opening.result() for opening in batch])
    return opened._replace(pixels=opened.pixels.pin_memory()) if gpu else opened


@dataclass(frozen=True)
class PhotographStore:
    """Photographs decoded once and kept on disk for the whole training.

    Attributes:
        file: an array (N, 3, S, S) uint8 in NumPy's format, which is mapped into memory.
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
    views = views_of(catalogue, recipe)
    shape = (len(catalogue), 3, views[0].size, views[0].size)
    try:
        pixels = np.lib.format.open_memmap(file, mode="w+", dtype=np.uint8, shape=shape)
        _reserve(file, pixels.offset)
    except OSError as problem:
        raise InputError(
            f"{file}: {math.prod(shape) / 1e9:.1f} GB of decoded photographs don't fit there ({problem.strerror}); "
            "name a larger disk with the variable TMPDIR"
        ) from None
    problems: list[str] = []
    for opened in photograph_batches(catalogue.paths, views, recipe, "decoding photographs"):
        pixels[len(problems) : len(problems) + len(opened.pixels)] = opened.pixels.numpy()
        problems += opened.problems
    pixels.flush()
    return PhotographStore(file, tuple(problems))


def _reserve(file: Path, start: int) -> None:
    """Takes a file's place on the disk: a mapped file on a full disk would kill the process instead.

    Args:
        file: as long as it will be.
        start: from which byte on it is zeros.

    Raises:
        OSError: the disk is full.
    """
    end = file.stat().st_size
    with file.open("r+b") as reserved:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(reserved.fileno(), 0, end)
            return
        reserved.seek(start)  # macOS and Windows: what is written takes its place
        for place in range(start, end, ZEROS):
            reserved.write(bytes(min(ZEROS, end - place)))


def scratch_folder() -> tempfile.TemporaryDirectory[str]:
    """A folder that is gone afterwards, on the fast local disk that $TMPDIR names on a cluster.

    Raises:
        InputError: there is no place for one.
    """
    try:
        return tempfile.TemporaryDirectory(prefix="reid-", ignore_cleanup_errors=True)
    except OSError as problem:
        raise InputError(
            f"no folder for decoded photographs can be made ({problem.strerror or problem}); name a disk with free "
            "space with the variable TMPDIR"
        ) from None


class Part(NamedTuple):
    """Some photographs of a batch."""

    rows: int
    """Of the whole batch."""
    own: slice
    """Which of them."""


def augment(photographs: Tensor, recipe: Recipe, rng: np.random.Generator, part: Part | None = None) -> Tensor:
    """The report's five augmentations on a whole batch at once, each photograph with its own, and then the erasing.

    Flip, rotation, crop and affine are one resampling together, and the jitter one product with a matrix per
    photograph, so that a batch costs milliseconds on a processor and nothing to speak of on a GPU. The report names the
    five without amounts; these keep every marking recognisable.

    Args:
        photographs: (B, 3, S, S) uint8, on any device.
        recipe: `augmentations`, and `augment`: one of them for each photograph, or each with probability 1/2; and
            `erasing`.
        rng: the same state gives the same pixels.
        part: which part of a batch these are; each comes to the same pixels as in the whole. None for all of it.

    Returns:
        (B, 3, S, S) uint8.
    """
    part = part or Part(len(photographs), slice(None))
    if recipe.augmentations:
        photographs = _augmented(photographs, recipe, rng, part)
    return _erased(photographs, recipe.erasing, rng, part) if recipe.erasing else photographs


def _augmented(photographs: Tensor, recipe: Recipe, rng: np.random.Generator, part: Part) -> Tensor:
    names, rows = recipe.augmentations, part.rows
    drawn = rng.random((rows, len(names))) < 0.5
    if recipe.augment == "one":
        drawn = rng.integers(len(names), size=rows)[:, None] == np.arange(len(names))
    masks = {
        name: drawn[:, names.index(name)] if name in names else np.zeros(rows, dtype=bool) for name in AUGMENTATIONS
    }
    colour, offset = (amounts[part.own] for amounts in _jitters(masks["jitter"], rng))
    placements = _placements(masks, rng)[part.own]
    device = photographs.device
    grid = functional.affine_grid(torch.from_numpy(placements).to(device), list(photographs.shape), align_corners=False)
    moved = functional.grid_sample(photographs.float(), grid, padding_mode="reflection", align_corners=False)
    grey = moved.mean((1, 2, 3))[:, None, None, None]  # what the contrast is about
    tinted = torch.einsum("bij,bjhw->bihw", torch.from_numpy(colour).to(device), moved)
    return (tinted + grey * torch.from_numpy(offset).to(device)[:, None, None, None]).round().clamp(0, 255).byte()


def _erased(photographs: Tensor, probability: float, rng: np.random.Generator, part: Part) -> Tensor:
    """Paints a grey rectangle over some photographs (Zhong et al. 2017, arXiv 1708.04896).

    Amounts as there: 2 to 40 % of the area, sides from 0.3 to 3.3 times each other.
    """
    rows, (height, width) = part.rows, photographs.shape[2:]
    area = rng.uniform(0.02, 0.4, rows)
    aspect = np.exp(rng.uniform(np.log(0.3), np.log(3.3), rows))
    tall, wide = np.minimum(np.sqrt(area * aspect), 1), np.minimum(np.sqrt(area / aspect), 1)  # shares of the sides
    top, left = rng.uniform(0, 1 - tall), rng.uniform(0, 1 - wide)
    erased = rng.random(rows) < probability
    y, x = ((np.arange(side) + 0.5) / side for side in (height, width))
    inside_y = (y >= top[:, None]) & (y < (top + tall)[:, None])
    inside_x = (x >= left[:, None]) & (x < (left + wide)[:, None])
    inside = (inside_y[:, :, None] & inside_x[:, None, :] & erased[:, None, None])[part.own, None]
    return photographs.masked_fill(torch.from_numpy(inside).to(photographs.device), GREY)


def _placements(masks: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Where each output pixel comes from: (B, 2, 3) float32, in coordinates from -1 to 1.

    Amounts: rotation 20 degrees; crop 70 to 100 % of the area; affine 10 degrees, 10 % shift, 15 % scale, shear 8.
    """
    rows = len(masks["flip"])
    angle = np.radians(rng.uniform(-20, 20, rows) * masks["rotation"] + rng.uniform(-10, 10, rows) * masks["affine"])
    shear = np.tan(np.radians(rng.uniform(-8, 8, rows) * masks["affine"]))
    scale = np.where(masks["affine"], rng.uniform(0.85, 1.15, rows), 1.0)
    side = np.where(masks["crop"], np.sqrt(rng.uniform(0.7, 1.0, rows)), 1.0)
    shift = rng.uniform(-0.2, 0.2, (2, rows)) * masks["affine"] + rng.uniform(-1, 1, (2, rows)) * (1 - side)
    mirror = np.where(masks["flip"], -1.0, 1.0)
    cos, sin, zoom = np.cos(angle), np.sin(angle), side / scale
    linear = np.stack([np.stack([cos, -sin + shear * cos], -1), np.stack([sin, cos + shear * sin], -1)], 1)
    linear *= zoom[:, None, None]
    linear[:, :, 0] *= mirror[:, None]
    return np.concatenate([linear, shift.T[:, :, None]], axis=2).astype(np.float32)


def _jitters(is_jittered: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Brightness, contrast, saturation and hue as a matrix (B, 3, 3) and a share of the mean grey to add (B,), float32.

    Amounts: 30 % of the first three; hue turned by up to 10 degrees around the grey axis.
    """
    rows = len(is_jittered)
    brightness, contrast, saturation = (np.where(is_jittered, rng.uniform(0.7, 1.3, rows), 1.0) for _ in range(3))
    turn = np.radians(np.where(is_jittered, rng.uniform(-10, 10, rows), 0.0))
    grey_projection = np.full((3, 3), 1 / 3)  # the projection onto the grey axis; Rodrigues' rotation around it
    cross_matrix = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)
    cos, sin = np.cos(turn)[:, None, None], np.sin(turn)[:, None, None]
    chroma = cos * (np.eye(3) - grey_projection) + sin * cross_matrix
    matrix = grey_projection + saturation[:, None, None] * chroma
    gain = (brightness * contrast)[:, None, None]
    return (gain * matrix).astype(np.float32), (brightness * (1 - contrast)).astype(np.float32)


def training_batches(
    store: PhotographStore, recipe: Recipe, sampler: Iterable[Batch], device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """This rank's share of the augmented photographs, (b, 3, S, S) uint8, and the places of all, (B,) int64, on the
    device.

    The photographs are decoded already, so one process is fast enough: the augmentation is the device's work. While it
    works on a batch, the next is read from the file.
    """
    for batch, part, read in _ahead(_read_batches(store, sampler, device)):
        photographs, places = (
            tensor.to(device, non_blocking=True) for tensor in (read, torch.from_numpy(batch.places))
        )
        yield augment(photographs, recipe, np.random.default_rng(batch.seed), part), places


def _read_batches(
    store: PhotographStore, sampler: Iterable[Batch], device: torch.device
) -> Iterator[tuple[Batch, Part, Tensor]]:
    """This rank's photographs out of the store, (b, 3, S, S) uint8, in memory that a GPU copies from by itself."""
    pixels = store.pixels()
    for batch in sampler:
        part = Part(len(batch.places), share(len(batch.places)))
        read = torch.from_numpy(pixels[batch.places[part.own]])
        yield batch, part, read.pin_memory() if device.type == "cuda" else read


def _ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The same items, each made by another thread while the one before it is in use."""
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(next, items, None)
        while (item := waiting.result()) is not None:
            waiting = thread.submit(next, items, None)
            yield item


def thumbnails(paths: Sequence[Path]) -> np.ndarray:
    """What tells near-duplicates: (N, 256) float32, 16 x 16 grey values of mean 0 and length 1; all zeros for a
    photograph that can't be read or is flat."""
    with ThreadPoolExecutor(max_workers=cores()) as pool:
        return np.stack(list(track(pool.map(_thumbnail, paths), "looking for near-duplicates", total=len(paths))))


def _thumbnail(path: Path) -> np.ndarray:
    try:
        grey = open_photograph(path, 16).mean(2).ravel().astype(np.float32)
    except UnreadableError:
        return np.zeros(256, np.float32)
    grey -= grey.mean()
    return np.asarray(grey / max(1.0, np.linalg.norm(grey)))


def survey(catalogue: Catalogue) -> pd.DataFrame:
    """Opens every photograph of a catalogue in full.

    Returns:
        One row per photograph, in order: image_id, sha256 of the file ("" when it can't be read), width and height in
        pixels (0 when unknown), and problem ("" when it can be opened).
    """
    with ThreadPoolExecutor(max_workers=cores()) as pool:  # decoding releases Python's lock
        looked = track(pool.map(_survey_file, catalogue.paths), "opening photographs", total=len(catalogue))
        rows = [(image_id, *row) for image_id, row in zip(catalogue.image_ids, looked, strict=True)]
    return pd.DataFrame(rows, columns=["image_id", "sha256", "width", "height", "problem"])


def _survey_file(path: Path) -> tuple[str, int, int, str]:
    try:
        with _opened(path) as image:
            width, height = image.size
        open_photograph(path, 16)  # what passes here passes everywhere: there is one door
        return sha256_of(path), width, height, ""
    except UnreadableError as unreadable:
        return "", 0, 0, str(unreadable)
    except BROKEN as problem:
        return "", 0, 0, _undecodable(problem)
