"""One photograph: from its file to pixels, upright, square and fast.

Training, enrolment and prediction all open photographs through `decode`, so that they get the same pixels.
"""

import contextlib
import functools
import hashlib
import io
import math
import os
import re
import struct
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

from reid.config.recipe import Recipe
from reid.data.bit_depth import eight_bits
from reid.data.box_warnings import note_boxes
from reid.data.boxes import Box, BoxError, Crop, by_photograph, is_beyond, turned
from reid.data.catalogue import Catalogue
from reid.data.damage import damage, source_of
from reid.data.file_kinds import HEAD, other_kind, raw_kind, read_tiff_pages
from reid.data.jpeg import JpegSource, jpeg_damage
from reid.data.library_warnings import opening
from reid.data.masks import cut_mask, is_run_length, read_run_length
from reid.runtime.distributed import core_count
from reid.runtime.progress import track

__all__ = [
    "DECODER_VERSION",
    "Inspection",
    "UnreadableError",
    "View",
    "covered_square",
    "decode",
    "decode_all",
    "fit_square",
    "inspect_photograph",
    "inspect_photographs",
    "open_image",
    "open_photograph",
    "thumbnails",
    "undecodable",
    "views_of",
]

DECODER_VERSION = "draft 2, resized from edge to edge, turned once, bits in use, padded with 128"
"""What `open_photograph` does, in words that change when its pixels do: embeddings of other pixels are stale then. What
varies from call to call stands in a `View`."""

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
"""The values that exchange width and height."""

BACK = {6: 8, 8: 6}
"""What undoes the values that do not undo themselves."""

QUARTERS = {90: Image.Transpose.ROTATE_90, -90: Image.Transpose.ROTATE_270, 180: Image.Transpose.ROTATE_180}
"""By degrees, anticlockwise."""

TURNS = {"right": -90, "left": 90, "bottom": 180}
"""Degrees, anticlockwise, that bring a photograph of that orientation upright, as WildlifeDatasets/wildlife-datasets,
AnimalCLEF2025, turns the competition's salamanders."""

FILTERS = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
    "nearest": Image.Resampling.NEAREST,
}
"""By timm's names."""

BROKEN = (
    *(OSError, ValueError, SyntaxError, ArithmeticError, EOFError, struct.error, RuntimeError, LookupError, TypeError),
    *(Image.DecompressionBombError, MemoryError),
)
"""What Pillow's decoders raise on broken files, found by changing random bytes. RuntimeError is AVIF's; MemoryError is
that of a strip 100,000,000 pixels long."""

LARGEST_FILE = 2**31
"""Bytes; the most pixels that Pillow opens, of eight bytes each, are 1.4 GB."""

THUMBNAIL = 64
"""Pixels on a side of what `inspect_photograph` shows."""

KINDS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "JPEG2000", "AVIF", "PPM")
"""What cameras and scanners write. Pillow knows others; one of them, EPS, is refused above all: Pillow would let
Ghostscript run the program in the file."""


class UnreadableError(Exception):
    """A photograph that can't be opened; the message says why, without the path."""


@dataclass(frozen=True)
class View:
    """How a photograph is opened.

    Attributes:
        size: S, pixels on a side; 0 where no network needs it.
        fit: "squash" changes its shape, "pad" keeps it and fills up with grey.
        turn: degrees, anticlockwise, a multiple of 90, on top of its EXIF tag.
        interpolation: "bicubic", "bilinear", "lanczos" or "nearest", antialiased.
        detail: pixels on a side that decoding must keep for keypoints, as far as the file has them.
        mirror: exchange left and right, after turning.
        crop: the part of it that counts, before it is turned; None for all of it.
        mask: which pixels show the animal, see `Catalogue.masks`; "" where nobody says.
        covers: networks get the mask too, as a fourth channel, see `covered_square`.
    """

    size: int
    fit: str = "squash"
    turn: int = 0
    interpolation: str = "bicubic"
    detail: int = 0
    mirror: bool = False
    # `cache.photograph_digests` names these where there are any
    crop: Crop | None = field(default=None, repr=False)
    mask: str = field(default="", repr=False)
    covers: bool = field(default=False, repr=False)

    @property
    def min_side(self) -> int:
        """Pixels that decoding must keep on each side: twice the network's, so that the resize that follows averages
        over what it leaves out."""
        return max(2 * self.size, self.detail)


def views_of(catalogue: Catalogue, recipe: Recipe, mirror: bool = False) -> list[View]:
    """Return how to open each photograph of a catalogue, in training, enrolment and prediction alike.

    Args:
        catalogue: the photographs; their columns `dataset` and `orientation` say which to turn.
        recipe: with the backbone's image size and interpolation filled in; also `data.upright`, `data.use_boxes`,
            `data.box_margin`, `data.pool_under_masks`, `prediction.scales`, `matching.cues` and `keypoints.size`.
        mirror: exchange left and right.
    """
    largest = max(1.0, *recipe.prediction.scales)  # so that a larger scale is no mere enlargement
    size = round(recipe.backbone.image_size * largest) if recipe.uses_encoder else 0
    detail = recipe.keypoints.size if recipe.uses_keypoints else 0
    columns = zip(catalogue.table["dataset"], catalogue.table["orientation"], strict=True)
    turns = [TURNS.get(orientation, 0) if dataset in recipe.data.upright else 0 for dataset, orientation in columns]
    crops: list[Crop | None] = [None] * len(catalogue)
    masks = [""] * len(catalogue)
    pools = recipe.uses_encoder and recipe.data.pool_under_masks
    if recipe.data.use_boxes:
        crops = [crop and replace(crop, margin=recipe.data.box_margin) for crop in catalogue.crops]
        masks = catalogue.masks if recipe.uses_keypoints or pools else masks
    covers = pools and any(masks)
    return [
        View(size, recipe.backbone.fit, turn, recipe.backbone.interpolation, detail, mirror, crop, mask, covers)
        for turn, crop, mask in zip(turns, crops, masks, strict=True)
    ]


def open_photograph(path: Path, view: View | int) -> np.ndarray:
    """Open a photograph, turn it upright by its EXIF tag and its view, and make it a square.

    A JPEG is decoded at a scale of 1/2, 1/4 or 1/8 as long as that leaves at least twice the wanted pixels on each
    side; then one antialiased resize follows.

    Args:
        path: the file.
        view: how to open it; S alone for `View(S)`.

    Returns:
        (S, S, 3) uint8, RGB.

    Raises:
        UnreadableError: the file is missing, no image, cut short or too large.
    """
    view = View(view) if isinstance(view, int) else view
    return fit_square(decode(path, view), view)


class Inspection(NamedTuple):
    """What a photograph's file holds."""

    sha256: str
    """Of its bytes and its box; "" for a photograph that can't be opened."""
    width: int
    """Pixels as a viewer shows it; 0 where they are unknown."""
    height: int
    thumbnail: np.ndarray
    """(64, 64) uint8, grey, upright; zeros for a photograph that can't be opened."""
    problem: str
    """Why it can't be opened; "" where it can."""
    notes: tuple[str, ...]
    """What a person should know of it although it can be opened."""


def inspect_photograph(path: Path) -> Inspection:
    """Open a photograph as every other part of the kit does, from a single reading of its file; raise nothing."""
    return inspect_photographs(path, [View(0)])[0]


def inspect_photographs(path: Path, views: Sequence[View]) -> list[Inspection]:
    """Do the same for several parts of a photograph, with their masks; of views only `crop` and `mask` count."""
    views = [View(THUMBNAIL, crop=view.crop, mask=view.mask) for view in views]
    try:
        with _reasons(path):
            content = _read(path)
            picture = _decode(content, views)
    except UnreadableError as unreadable:
        return [_uninspected(unreadable)] * len(views)
    return [_inspected(content, picture, view) for view in views]


def _inspected(content: bytes, picture: "_Picture", view: View) -> Inspection:
    try:
        decoded = _viewed(picture, view)
        grey = np.asarray(Image.fromarray(fit_square(decoded, view)).convert("L"))
    except UnreadableError as unreadable:
        return _uninspected(unreadable)
    box = str(view.crop.box).encode() if view.crop else b""
    notes = (*picture.notes, *filter(None, [decoded.note]))
    return Inspection(hashlib.sha256(content + box).hexdigest(), *picture.upright_size, grey, "", notes)


def _uninspected(unreadable: UnreadableError) -> Inspection:
    return Inspection("", 0, 0, np.zeros((THUMBNAIL, THUMBNAIL), np.uint8), str(unreadable), ())


class Decoded(NamedTuple):
    """A photograph, or the part of it that counts, as it is stored in its file, decoded no larger than its view needs
    it."""

    image: Image.Image
    """RGB."""
    extent: tuple[float, float]
    """Width and height of the photograph in the image: the last column and row of a JPEG that is decoded at a smaller
    scale reach up to a pixel beyond its edge."""
    turns: list[Image.Transpose]
    """What brings it upright, one after the other."""
    note: str = ""
    """What a person should know of its box."""
    mask: np.ndarray | None = None
    """(h, w) bool, which of its pixels show the animal, upright and at the mask's own scale; None where nobody says."""

    def upright(self, image: Image.Image) -> Image.Image:
        """Return the image, or what was made of it, turned as its view wants it."""
        return functools.reduce(Image.Image.transpose, self.turns, image)


class _Picture(NamedTuple):
    """A photograph as it is stored: its pixels, their extent as in `Decoded`, what turns it upright, its size in the
    file, and what is worth a note."""

    rgb: Image.Image
    extent: tuple[float, float]
    orientation: Any
    stored_size: tuple[int, int]
    notes: tuple[str, ...]

    @property
    def upright_size(self) -> tuple[int, int]:
        """Its width and height as a viewer shows it."""
        return self.stored_size[::-1] if self.orientation in SIDEWAYS else self.stored_size


def decode(path: Path, view: View) -> Decoded:
    """Decode a photograph's file.

    Raises:
        UnreadableError: as `open_photograph`.
    """
    (decoded,) = decode_all(path, [view])
    if isinstance(decoded, UnreadableError):
        raise decoded
    return decoded


def decode_all(path: Path, views: Sequence[View]) -> list[Decoded | UnreadableError]:
    """Decode a photograph's file once for several views, and return what each of them shows, or why it can't."""
    try:
        with _reasons(path):
            picture = _decode(_read(path), views)
    except UnreadableError as unreadable:
        return [unreadable] * len(views)
    note_boxes(path, [view.crop for view in views if view.crop], picture.upright_size)
    shown: list[Decoded | UnreadableError] = []
    for view in views:
        try:
            shown.append(_viewed(picture, view))
        except UnreadableError as unreadable:
            shown.append(unreadable)
    return shown


def _viewed(picture: _Picture, view: View) -> Decoded:
    turns = [
        *([UPRIGHT[picture.orientation]] if picture.orientation in UPRIGHT else []),
        *([QUARTERS[view.turn]] if view.turn else []),
        *([Image.Transpose.FLIP_LEFT_RIGHT] if view.mirror else []),
    ]
    part, was_cut, rotated = (0.0, 0.0, 1.0, 1.0), False, ""
    if view.crop:
        rotated = _rotated_hint(picture, view.crop)
        try:
            part, was_cut = view.crop.part(*picture.upright_size)
        except BoxError:
            raise UnreadableError(f"its box lies outside the photograph{rotated}") from None
    note = f"its box reaches over the edge of the photograph and is clipped{rotated}" if was_cut else ""
    mask = _mask_of(picture, view, part) if view.mask else None
    if view.crop is None:
        return Decoded(picture.rgb, picture.extent, turns, note, mask)
    x, y, w, h = turned(part, BACK.get(picture.orientation, picture.orientation), 1.0, 1.0)
    width, height = picture.extent
    left, top, right, bottom = (round(edge, 3) for edge in (x * width, y * height, (x + w) * width, (y + h) * height))
    # to whole pixels outwards, so that a box between two has some
    rgb = picture.rgb.crop((math.floor(left), math.floor(top), math.ceil(right), math.ceil(bottom)))
    return Decoded(rgb, rgb.size, turns, note, mask)


def _mask_of(picture: _Picture, view: View, part: Box) -> np.ndarray:
    """Return `Decoded.mask` of a part, x,y,w,h in shares of a photograph."""
    try:
        mask = read_run_length(view.mask) if is_run_length(view.mask) else _read_mask(Path(view.mask))
        if mask.shape != picture.upright_size[::-1]:
            found, expected = (f"{width} x {height}" for width, height in (mask.shape[::-1], picture.upright_size))
            raise UnreadableError(
                f"its mask has {found} pixels, the photograph {expected} as a viewer shows it; save it in that size"
            )
        return cut_mask(mask, part, view.turn, view.mirror)
    except BoxError as problem:
        raise UnreadableError(f"its mask can't be used: {problem}") from None


def _read_mask(path: Path) -> np.ndarray:
    """Return which pixels of an image file are bright, (H, W) bool."""
    try:
        decoded = decode(path, View(0, detail=Image.MAX_IMAGE_PIXELS or 2**31))
    except UnreadableError as unreadable:
        raise BoxError(f"{path.name}: {unreadable}") from None
    grey = np.asarray(decoded.upright(decoded.image.convert("L")))
    return np.asarray(grey > grey.max() / 2)


def _rotated_hint(picture: _Picture, crop: Crop) -> str:
    """Return what to do with a box in pixels that leaves a photograph and lies within it as it is stored."""
    right, bottom = crop.box[0] + crop.box[2], crop.box[1] + crop.box[3]
    if crop.unit != "pixels" or not is_beyond(right, bottom, picture.upright_size):
        return ""
    if is_beyond(right, bottom, picture.stored_size):
        return ""
    return (
        ", and lies within it as it is stored, before EXIF rotation: import the source again with "
        "`reid import --boxes-before-rotation`"
    )


def _decode(content: bytes, views: Sequence[View]) -> _Picture:
    """Decode a photograph's bytes, at a smaller scale as long as that leaves every view its `min_side` pixels."""
    source = source_of(content)
    with _open(content, source) as image:
        stored_size, notes = image.size, _notes(image, content)
        drafted = None
        if isinstance(source, JpegSource):  # others have one scale, and asking some for EXIF data decodes them
            drafted = image.draft("RGB", _wanted_size(views, stored_size, _orientation(image)))
        try:
            eight, depth = eight_bits(image, lambda: _open(content, io.BytesIO(content)))
            rgb = _as_rgb(eight)
        except OSError:
            if isinstance(source, JpegSource) and (reason := jpeg_damage(source)):
                raise UnreadableError(reason) from None
            raise
        orientation = _orientation(image)  # after loading: Pillow turns a TIFF meanwhile and takes the tag away
    if reason := damage(source, rgb):
        raise UnreadableError(reason)
    extent = drafted[1][2:] if drafted else rgb.size
    return _Picture(rgb, extent, orientation, stored_size, (*notes, *filter(None, [depth])))


def _wanted_size(views: Sequence[View], stored: tuple[int, int], orientation: Any) -> tuple[int, int]:
    """Return the width and height that a whole photograph must have for its views, as it is stored."""
    wide, high = 1, 1
    for view in views:
        upright = stored[::-1] if orientation in SIDEWAYS else stored
        least = view.crop.least_part(*upright) if view.crop else (1.0, 1.0)
        across, down = least[::-1] if orientation in SIDEWAYS else least
        wide, high = max(wide, math.ceil(view.min_side / across)), max(high, math.ceil(view.min_side / down))
    return wide, high


def _notes(image: ImageFile.ImageFile, content: bytes) -> tuple[str, ...]:
    """Return what a person should know of a photograph before it is decoded."""
    pixels, limit = image.width * image.height, Image.MAX_IMAGE_PIXELS
    pages = [page for page in read_tiff_pages(content)[0] if not page.is_extra]
    count = len(pages) if image.format == "TIFF" else getattr(image, "n_frames", 1) * (image.format != "MPO")
    return (
        *([f"it has {pixels / 1e6:.3g} megapixels; a smaller copy takes less memory"] * bool(limit and pixels > limit)),
        *([f"it holds {count} pictures; the first one is used"] * (count > 1)),
    )


def _orientation(image: Image.Image) -> Any:
    """Return what its EXIF tag says: a key of `UPRIGHT`, or anything else, such as text or bytes."""
    return image.getexif().get(ExifTags.Base.Orientation)


@contextlib.contextmanager
def _reasons(path: Path) -> Iterator[None]:
    """Inside, whatever a broken photograph raises is an UnreadableError, and what Pillow warns of is about it."""
    try:
        with opening(path):
            yield
    except BROKEN as problem:
        raise UnreadableError(undecodable(problem)) from None


def undecodable(problem: BaseException) -> str:
    """Return the reason of an `UnreadableError` in words."""
    words = str(problem) or type(problem).__name__
    if isinstance(problem, Image.DecompressionBombError):
        pixels, limit = (int(number) / 1e6 for number in re.findall(r"\d+", words)[:2])
        return f"it has {pixels:.4g} megapixels, of which at most {limit:.4g} are opened: save a smaller copy"
    if "MAX_TEXT" in words:
        return "it holds more text than is read, such as a program's history: save it again without metadata"
    if "truncated" in words:
        return f"it can't be decoded: the file ends before its picture does ({words}); copy the file again"
    if "broken data stream" in words or "decoder error" in words:
        return f"it can't be decoded: its data are damaged ({words}); copy the file again"
    return f"it can't be decoded ({words})"


def fit_square(decoded: Decoded, view: View) -> np.ndarray:
    """Return the photograph upright as a square: (S, S, 3) uint8, RGB; (0, 0, 3) where no network needs it."""
    if not view.size:
        return np.zeros((0, 0, 3), np.uint8)
    scale = view.size / max(decoded.extent)
    width, height = (max(1, round(side * scale)) if view.fit == "pad" else view.size for side in decoded.extent)
    try:
        resized = decoded.image.resize((width, height), FILTERS[view.interpolation], box=(0, 0, *decoded.extent))
        small = np.asarray(decoded.upright(resized))
    except MemoryError as problem:  # a strip of 1 x 100,000,000 pixels
        raise UnreadableError(undecodable(problem)) from None
    if view.fit == "squash":
        return small
    square = np.full((view.size, view.size, 3), GREY, np.uint8)
    height, width = small.shape[:2]
    top, left = (view.size - height) // 2, (view.size - width) // 2
    square[top : top + height, left : left + width] = small
    return square


def covered_square(decoded: Decoded, view: View) -> np.ndarray:
    """Return how much of each pixel of `fit_square` the photograph's mask covers, (S, S, 1) uint8, 255 for all of it;
    255 everywhere where it has none."""
    if decoded.mask is None or not view.size:
        return np.full((view.size, view.size, 1), 255, np.uint8)
    scale = view.size / max(decoded.mask.shape)
    height, width = (max(1, round(side * scale)) if view.fit == "pad" else view.size for side in decoded.mask.shape)
    mask = Image.fromarray(decoded.mask.astype(np.uint8) * 255).resize((width, height), Image.Resampling.BOX)
    square = np.zeros((view.size, view.size, 1), np.uint8)
    top, left = (view.size - height) // 2, (view.size - width) // 2
    square[top : top + height, left : left + width, 0] = np.asarray(mask)
    return square


def open_image(path: Path) -> ImageFile.ImageFile:
    """Open a photograph's file without decoding its pixels.

    Raises:
        UnreadableError: as `open_photograph`.
    """
    with _reasons(path):
        content = _read(path)
        return _open(content, source_of(content))


def _read(path: Path) -> bytes:
    """Return a file's bytes, unless it is none, or one of another kind, such as a video of any length."""
    try:
        if not path.is_file():  # opening a pipe would wait forever
            raise UnreadableError("not a file" if path.exists() else "no such file")
        with open(path, "rb", buffering=0) as file:
            head = file.read(HEAD)
            if not head:
                raise UnreadableError("the file is empty; copy it again")
            if kind := other_kind(head):
                raise UnreadableError(kind)
            if os.fstat(file.fileno()).st_size > LARGEST_FILE:
                raise UnreadableError(f"the file has more than {LARGEST_FILE / 1e9:.1f} GB, which no photograph needs")
            file.seek(0)
            return file.read()
    except BROKEN as problem:
        raise UnreadableError(f"it can't be opened ({getattr(problem, 'strerror', None) or problem})") from None


def _open(content: bytes, source: io.BytesIO) -> ImageFile.ImageFile:
    """Open a photograph at its first picture of full size.

    Args:
        content: the file.
        source: the same, as the decoder shall read it.
    """
    pages, below = read_tiff_pages(content)
    if raw := raw_kind(pages, below):
        raise UnreadableError(raw)
    try:
        image = Image.open(source, formats=_kinds())
    except UnidentifiedImageError:
        bits = source.jpeg.precision if isinstance(source, JpegSource) else 8
        if bits != 8:
            raise UnreadableError(f"it is a JPEG of {bits} bits a colour: save it as a JPEG of 8 bits") from None
        raise UnreadableError(f"it is no image of a kind that is read here ({', '.join(_kinds())})") from None
    first = next((number for number, page in enumerate(pages) if not page.is_extra), 0)
    if first:
        image.seek(first)
    return image


@functools.cache
def _kinds() -> tuple[str, ...]:
    """Return those of `KINDS` that this Pillow was built with."""
    Image.init()
    return tuple(kind for kind in KINDS if kind in Image.OPEN)


def _as_rgb(image: Image.Image) -> Image.Image:
    """Return eight bits of red, green and blue each; transparency is dropped."""
    if image.mode == "F":  # nothing says which number is white; Pillow would make most of it black
        raise ValueError("its pixels are floating-point numbers; save it with 8 or 16 bits")
    if image.mode == "P":  # through RGBA, or Pillow warns of palettes with transparency
        image = image.convert("RGBA")
    return image.convert("RGB")


def thumbnails(catalogue: Catalogue) -> np.ndarray:
    """Return 16 x 16 grey values of each photograph, by which near-duplicates are found.

    Returns:
        (N, 256) float32, rows of mean 0 and length 1; zeros for a photograph that can't be read or has one colour.
    """
    paths, views = catalogue.paths, [View(16, crop=crop) for crop in catalogue.crops]
    groups = by_photograph(paths)
    jobs = [(paths[places[0]], [views[place] for place in places]) for places in groups]
    found = np.zeros((len(paths), 256), np.float32)
    with ThreadPoolExecutor(max_workers=core_count()) as pool:
        drawn = pool.map(_thumbnails, *zip(*jobs, strict=True)) if jobs else iter(())
        for places, grey in zip(groups, track(drawn, "looking for near-duplicates", total=len(groups)), strict=True):
            found[places] = grey
    return found


def _thumbnails(path: Path, views: Sequence[View]) -> np.ndarray:
    """Return the same of the parts of one photograph, (V, 256) float32."""
    grey = np.zeros((len(views), 256), np.float32)
    for row, (view, decoded) in enumerate(zip(views, decode_all(path, views), strict=True)):
        if isinstance(decoded, Decoded):
            with contextlib.suppress(UnreadableError):
                grey[row] = fit_square(decoded, view).mean(2).ravel()
    grey -= grey.mean(1, keepdims=True)
    return np.asarray(grey / np.maximum(1.0, np.linalg.norm(grey, axis=1, keepdims=True)))
