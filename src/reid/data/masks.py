"""Masks: which pixels of a photograph show a row's animal.

The cell `mask` is the path of an image file, relative to the data folder, whose bright pixels are the animal's; or
COCO's run-length code as JSON, {"size": [height, width], "counts": ...}. Either has the size of the picture as a viewer
shows it.
"""

import json

import numpy as np

from reid.data.boxes import Box, BoxError

__all__ = ["cut_mask", "is_run_length", "read_run_length"]

MOST = 2**29
"""Pixels; three times what Pillow opens of a photograph."""


def is_run_length(cell: str) -> bool:
    """Return whether a cell is a code, not a path."""
    return cell.lstrip().startswith("{")


def read_run_length(text: str) -> np.ndarray:
    """Return COCO's run-length code as pixels, (H, W) bool: runs of pixels off and on the animal in turn, column by
    column.

    >>> read_run_length('{"size": [2, 3], "counts": [1, 3, 2]}').astype(int).tolist()
    [[0, 1, 0], [1, 1, 0]]

    Raises:
        BoxError: it is no such code.
    """
    try:
        code = json.loads(text)
        height, width = map(int, code["size"])
        counts = code["counts"]
        runs = np.array(_unpacked(counts) if isinstance(counts, str) else counts, np.int64)
        if min(height, width) < 1 or height * width > MOST or (runs < 0).any() or runs.sum() != height * width:
            raise ValueError
    except (ValueError, TypeError, KeyError, IndexError, OverflowError, RecursionError):
        raise BoxError("a mask that is no run-length code of COCO") from None
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T


def _unpacked(text: str) -> list[int]:
    """Return the runs of a packed code (maskApi.c of cocoapi, rleFrString): groups of five bits as characters from "0"
    on, the sixth says that more follow; from the fourth run on, the difference to the one before the last."""
    runs: list[int] = []
    value = shift = 0
    for bits in (ord(character) - 48 for character in text):
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value |= -1 << shift if bits & 16 else 0
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return runs


def cut_mask(mask: np.ndarray, part: Box, turn: int, mirror: bool) -> np.ndarray:
    """Return the part of a mask (H, W) that a view shows, turned as the view is.

    Args:
        mask: bool, of the picture as a viewer shows it.
        part: x,y,w,h in shares of it.
        turn, mirror: see `photographs.View`.

    Raises:
        BoxError: nothing of the animal is in it.
    """
    x, y, w, h = part
    high, wide = mask.shape
    left, top = int(x * wide), int(y * high)
    cut = mask[top : max(top + 1, round((y + h) * high)), left : max(left + 1, round((x + w) * wide))]
    if not cut.any():
        raise BoxError("a mask that shows nothing within its box")
    cut = np.rot90(cut, turn // 90)
    return cut[:, ::-1] if mirror else cut
