"""Photographs as pixels: opening them upright and fast, one by one, in threads or in processes, and augmenting them.

Whoever sees a photograph (training, enrolment, prediction) sees the same pixels: `open_photograph` is the only door.
"""

import functools
import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from reid.config.recipe import Recipe
from reid.data.catalogue import Catalogue
from reid.runtime.distributed import core_count
from reid.runtime.progress import track

__all__ = [
    "DECODER_VERSION",
    "UnreadableError",
    "View",
    "decode",
    "fit_square",
    "open_image",
    "open_photograph",
    "thumbnails",
    "undecodable",
    "upright_size",
    "views_of",
]

DECODER_VERSION = "draft 2, resized from edge to edge, turned, padded with 128"
"""What `open_photograph` does, in words that change when its pixels do: vectors that were kept of others are stale.
What it is asked for stands in a `View`."""


GREY = 128
"""What stands where a photograph has no pixels: near the mean of every backbone's normalisation."""


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
        size: S, pixels on a side; 0 where no network sees it.
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
    """Return how each photograph of a catalogue is looked at, in training, enrolment and prediction alike.

    Args:
        catalogue: the photographs; their columns `dataset` and `orientation` say which to turn.
        recipe: `image_size`, `fit`, `interpolation`, `upright`, `scales`, none of them left to the backbone any more;
            `cues`, `keypoint_size`.
        mirror: left and right are exchanged.
    """
    largest = max(1.0, *recipe.prediction.scales)  # a larger scale sees more than an enlargement
    size = round(recipe.backbone.image_size * largest) if recipe.uses_encoder else 0
    detail = recipe.keypoints.size if recipe.uses_keypoints else 0
    columns = zip(catalogue.table["dataset"], catalogue.table["orientation"], strict=True)
    turns = [TURNS.get(orientation, 0) if dataset in recipe.data.upright else 0 for dataset, orientation in columns]
    return [View(size, recipe.backbone.fit, turn, recipe.backbone.interpolation, detail, mirror) for turn in turns]


def open_photograph(path: Path, view: View | int) -> np.ndarray:
    """Open a photograph, turns it upright by its EXIF tag and its view, and makes it a square.

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
    return fit_square(decode(path, view), view)


def upright_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels of a photograph that its EXIF tag has turned upright.

    Raises:
        UnreadableError: as `open_photograph`.
    """
    with open_image(path) as image:
        try:
            width, height = image.size
            return (height, width) if _orientation(image) in SIDEWAYS else (width, height)
        except BROKEN as problem:
            raise UnreadableError(undecodable(problem)) from None


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
        """Return the photograph, or what was made of it, as its view wants it."""
        return functools.reduce(Image.Image.transpose, self.turns, image)


def decode(path: Path, view: View) -> Decoded:
    with open_image(path) as image:
        try:
            drafted = image.draft("RGB", (view.least, view.least))
            orientation = _orientation(image)
            rgb = _as_rgb(image)
        except BROKEN as problem:
            raise UnreadableError(undecodable(problem)) from None
    turns = [
        *([UPRIGHT[orientation]] if orientation in UPRIGHT else []),
        *([QUARTERS[view.turn]] if view.turn else []),
        *([Image.Transpose.FLIP_LEFT_RIGHT] if view.mirror else []),
    ]
    return Decoded(rgb, drafted[1][2:] if drafted else rgb.size, turns)


def _orientation(image: Image.Image) -> Any:
    """Of its EXIF tag: one of `UPRIGHT`, or whatever else stands there, words or bytes among it."""
    return image.getexif().get(ExifTags.Base.Orientation)


def undecodable(problem: BaseException) -> str:
    return f"it can't be decoded ({str(problem) or type(problem).__name__})"


def fit_square(decoded: Decoded, view: View) -> np.ndarray:
    """(S, S, 3) uint8"""
    if not view.size:
        return np.zeros((0, 0, 3), np.uint8)
    scale = view.size / max(decoded.extent)
    width, height = (max(1, round(side * scale)) if view.fit == "pad" else view.size for side in decoded.extent)
    try:
        resized = decoded.image.resize((width, height), FILTERS[view.interpolation], box=(0, 0, *decoded.extent))
        small = np.asarray(decoded.upright(resized))
    except MemoryError as problem:  # a strip of 1 x 100,000,000
        raise UnreadableError(undecodable(problem)) from None
    if view.fit == "squash":
        return small
    square = np.full((view.size, view.size, 3), GREY, np.uint8)
    height, width = small.shape[:2]
    top, left = (view.size - height) // 2, (view.size - width) // 2
    square[top : top + height, left : left + width] = small
    return square


def open_image(path: Path) -> Image.Image:
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


def thumbnails(paths: Sequence[Path]) -> np.ndarray:
    """Return what tells near-duplicates: (N, 256) float32, 16 x 16 grey values of mean 0 and length 1; all zeros for a
    photograph that can't be read or is flat."""
    with ThreadPoolExecutor(max_workers=core_count()) as pool:
        return np.stack(list(track(pool.map(_thumbnail, paths), "looking for near-duplicates", total=len(paths))))


def _thumbnail(path: Path) -> np.ndarray:
    try:
        grey = open_photograph(path, 16).mean(2).ravel().astype(np.float32)
    except UnreadableError:
        return np.zeros(256, np.float32)
    grey -= grey.mean()
    return np.asarray(grey / max(1.0, np.linalg.norm(grey)))
