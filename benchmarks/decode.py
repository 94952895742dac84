"""Large JPEG photographs to squares of 224 and 384 pixels: the kit against full decoding and other decoders.

Every peer runs on one core but the last two. Pixels are compared with those of decoding in full with Pillow and one
antialiased bicubic resize. Where it leaves a choice, a peer decodes at the same reduced scale as the kit: the smallest
that leaves twice the wanted pixels on each side.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from harness import Contest, NotHereError, Options
from PIL import Image
from torchvision.io import ImageReadMode, decode_jpeg, read_file
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import resize

from reid.config.presets import PRESETS
from reid.data.loading import photograph_batches
from reid.data.photographs import View, open_photograph

KIT, FULL = "reid", "Pillow, full decode"
Opener = Callable[[Path, int], np.ndarray]


def contests(options: Options) -> Iterator[Contest]:
    """Squares of 224 and 384 pixels."""
    paths = sorted(options.photographs.glob("*.jp*g"))
    if not paths:
        raise NotHereError(f"expected JPEGs in {options.photographs}, found none; name a folder with --photos")
    paths = paths[:8] if options.quick else paths
    openers = {KIT: open_photograph, FULL: full_decode, "torchvision, full decode": torchvision_decode}
    if find_spec("cv2"):
        openers["OpenCV, reduced"] = opencv_reduced
    if find_spec("simplejpeg"):
        openers["simplejpeg, reduced"] = simplejpeg_reduced
    cores, threads = len(os.sched_getaffinity(0)), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for size in (224, 384):
            peers = {name: partial(open_all, opener, paths, size) for name, opener in openers.items()}
            peers[f"reid, {cores} processes"] = partial(open_in_processes, paths, size, cores)
            peers[f"reid, {cores} threads"] = partial(open_in_threads, paths, size, cores)
            yield Contest(size, f"{len(paths)} photographs to {size} px", peers, FULL, len(paths), compare)
    finally:
        torch.set_num_threads(threads)


def open_all(opener: Opener, paths: list[Path], size: int) -> np.ndarray:
    """(N, S, S, 3) uint8, one after the other."""
    return np.stack([opener(path, size) for path in paths])


def open_in_processes(paths: list[Path], size: int, workers: int) -> np.ndarray:
    """(N, S, S, 3) uint8, as a recipe that names workers has them opened; starting the processes is part of it."""
    recipe = replace(PRESETS["paper"], image_size=size, workers=workers, batch_size=-(-len(paths) // (2 * workers)))
    batches = photograph_batches(paths, [View(recipe.backbone.image_size)] * len(paths), recipe, "decoding")
    return torch.cat([opened.pixels for opened in batches]).permute(0, 2, 3, 1).numpy()


def open_in_threads(paths: list[Path], size: int, workers: int) -> np.ndarray:
    """(N, S, S, 3) uint8, as recipes do by default; Pillow lets Python's lock go while it decodes and resizes."""
    with ThreadPoolExecutor(workers) as pool:
        return np.stack(list(pool.map(partial(open_photograph, view=size), paths)))


def full_decode(path: Path, size: int) -> np.ndarray:
    """Every pixel, then one antialiased bicubic resize."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BICUBIC))


def torchvision_decode(path: Path, size: int) -> np.ndarray:
    """Every pixel, then one antialiased bicubic resize of a uint8 tensor."""
    pixels = decode_jpeg(read_file(str(path)), mode=ImageReadMode.RGB)
    return resize(pixels, [size, size], InterpolationMode.BICUBIC, antialias=True).permute(1, 2, 0).numpy()


def opencv_reduced(path: Path, size: int) -> np.ndarray:
    """IMREAD_REDUCED_COLOR_2, 4 or 8, then the mean over areas, OpenCV's antialiased resize."""
    import cv2

    cv2.setNumThreads(1)
    with Image.open(path) as image:  # OpenCV must be told the scale before it has seen the size
        flag = getattr(cv2, f"IMREAD_REDUCED_COLOR_{scale}") if (scale := _scale(image.size, size)) > 1 else 1
    opened = cv2.imread(str(path), flag)
    assert opened is not None
    pixels = cv2.resize(opened, (size, size), interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def simplejpeg_reduced(path: Path, size: int) -> np.ndarray:
    """libjpeg-turbo without Pillow around it, then Pillow's resize."""
    import simplejpeg

    pixels = simplejpeg.decode_jpeg(path.read_bytes(), min_height=2 * size, min_width=2 * size, min_factor=1)
    return np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC))


def _scale(shape: tuple[int, int], size: int) -> int:
    """8, 4, 2 or 1: the largest that leaves twice the wanted pixels on each side."""
    return next((scale for scale in (8, 4, 2) if min(shape) >= 2 * size * scale), 1)


def compare(results: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Mean and largest absolute difference of grey levels to decoding in full."""
    full = results[FULL].astype(np.int16)
    apart = {name: np.abs(pixels.astype(np.int16) - full) for name, pixels in results.items() if name != FULL}
    return {name: f"grey levels apart: mean {own.mean():.2f}, max {own.max()}" for name, own in apart.items()}
