"""Boxes that reach over the edges of their photographs, counted while these are opened anyway.

A table of boxes in pixels does not tell them, and `check` opens every photograph to list them. The other commands count
those that they come by.
"""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote

from reid.data.boxes import Box, BoxError, Crop, looks_like_corners

__all__ = ["clipped_boxes_logged", "note_boxes"]

log = logging.getLogger(__name__)

Noted = dict[tuple[Path, Box], tuple[Crop, tuple[int, int]]]
"""By photograph and box: the box, and the photograph's width and height."""

NOTED: list[Noted] = []
"""What is noted where, by every thread; empty where nobody asks."""


def note_boxes(path: Path, crops: Iterable[Crop], size: tuple[int, int]) -> None:
    """Note the boxes of a photograph that is open.

    Args:
        path: its file.
        crops: its boxes.
        size: width and height as a viewer shows it, in pixels.
    """
    for noted in NOTED:
        noted.update(((path, crop.box), (crop, size)) for crop in crops)


@contextmanager
def clipped_boxes_logged(data: Path | None) -> Iterator[None]:
    """Inside, note the boxes of photographs that are opened, in any thread; at the end, log how many were clipped.

    Args:
        data: the data folder; None for a command without one, of which nothing is noted.
    """
    if data is None:
        yield
        return
    noted: Noted = {}
    NOTED.append(noted)
    try:
        yield
    finally:
        NOTED.pop()
        if words := _words(list(noted.values())):
            log.warning("%s: %s. `reid check %s` names their rows", data / "metadata.csv", words, quote(str(data)))


def _words(boxes: list[tuple[Crop, tuple[int, int]]]) -> str:
    """Return what to say of boxes, each with the size of its photograph; "" where none was clipped."""
    in_pixels = [(crop.box, size) for crop, size in boxes if crop.unit == "pixels"]
    corners = len(looks_like_corners(in_pixels))  # those in shares are faults of the table
    clipped = sum(_is_clipped(crop, size) for crop, size in boxes)
    if not (clipped or corners):
        return ""
    words = f"boxes that reach over the edge of their photograph and are clipped: {clipped} of {len(boxes)} opened"
    return words + f"; that look like corners x1,y1,x2,y2, not x,y,w,h: {corners}" * (corners > 0)


def _is_clipped(crop: Crop, size: tuple[int, int]) -> bool:
    try:
        return crop.part(*size)[1]
    except BoxError:  # told as a photograph that can't be read
        return False
