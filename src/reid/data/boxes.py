"""Boxes: which part of a photograph shows a row's animal.

The cell `bbox` is x,y,w,h of the picture as a viewer shows it, after EXIF rotation; `bbox_unit` says whether these are
pixels or shares of its width and height.
"""

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

__all__ = [
    "SHARES_UP_TO",
    "UNITS",
    "Box",
    "BoxError",
    "Crop",
    "by_photograph",
    "clipped",
    "is_beyond",
    "looks_like_corners",
    "photograph_keys",
    "read_box",
    "turned",
    "with_crops",
]

Box = tuple[float, float, float, float]

UNITS = ("pixels", "shares")

NO_BOX = ("", "null", "none", "nan", "[]", "na")
"""Cells that say that there is no box (Wildbook writes null)."""

SHARES_UP_TO = 1.05
"""Above it a number is no share: detectors round, and boxes reach over the edge by a hundredth at most (assumed)."""

SLACK = 0.02
"""A box may reach over the edge by this share of the photograph, and by one pixel, before it counts as outside."""


class BoxError(Exception):
    """Why a box can't be used, in words that many share."""


def read_box(cell: Any) -> Box | None:
    """Return the four numbers of a box; None where the cell says that there is none.

    >>> read_box("[1, 2, 3.5, 4]"), read_box([1, 2, 3, 4]), read_box("null")
    ((1.0, 2.0, 3.5, 4.0), (1.0, 2.0, 3.0, 4.0), None)

    Raises:
        BoxError: it has other than four numbers, text, or a number that is none.
    """
    if cell is None or (isinstance(cell, str) and cell.strip().casefold() in NO_BOX):
        return None
    cells = re.split(r"[\s,;]+", cell.strip().strip("[]()").strip()) if isinstance(cell, str) else cell
    if not isinstance(cells, (list, tuple)):
        raise BoxError("a box that is not four numbers")
    if all(isinstance(number, str) and not number.strip() for number in cells) or all(each is None for each in cells):
        return None
    try:
        numbers = [float(number) for number in cells]
    except (TypeError, ValueError):
        raise BoxError("a box with text in place of a number") from None
    if len(numbers) != 4:
        raise BoxError("a box that is not four numbers")
    if not all(map(math.isfinite, numbers)):
        raise BoxError("a box with NaN or infinity")
    x, y, w, h = numbers
    return x, y, w, h


def is_beyond(right: float, bottom: float, edge: tuple[float, float]) -> bool:
    """Return whether a box that ends there leaves a picture of this width and height by more than a rounding."""
    slack = 0.0 if edge == (1.0, 1.0) else 1.0
    return right > edge[0] * (1 + SLACK) + slack or bottom > edge[1] * (1 + SLACK) + slack


def looks_like_corners(boxes: Sequence[tuple[Box, tuple[float, float] | None]]) -> list[int]:
    """Return which boxes, each with the width and height of its picture where these are known, leave it as x,y,w,h,
    where all of them lie within it as x1,y1,x2,y2; none where they do not."""
    as_corners = all(x2 > x1 and y2 > y1 and not (edge and is_beyond(x2, y2, edge)) for (x1, y1, x2, y2), edge in boxes)
    beyond = [row for row, ((x, y, w, h), edge) in enumerate(boxes) if edge and is_beyond(x + w, y + h, edge)]
    return beyond if as_corners else []


def turned(box: Box, orientation: int, width: float, height: float) -> Box:
    """Return where a box of a stored picture of this size lies when EXIF's orientation has turned the picture."""
    x, y, w, h = box
    right, bottom = width - x - w, height - y - h
    return {
        2: (right, y, w, h),
        3: (right, bottom, w, h),
        4: (x, bottom, w, h),
        5: (y, x, h, w),
        6: (bottom, x, h, w),
        7: (bottom, right, h, w),
        8: (y, right, h, w),
    }.get(orientation, box)


def clipped(box: Box, width: float, height: float) -> tuple[Box, bool]:
    """Return the part of a box x,y,w,h that lies in the photograph, and whether more than a rounding was cut off.

    Raises:
        BoxError: nothing is left.
    """
    x, y, w, h = box
    left, top, right, bottom = max(x, 0.0), max(y, 0.0), min(x + w, width), min(y + h, height)
    if right <= left or bottom <= top:
        raise BoxError("a box outside the photograph")
    cut = max(left - x, top - y, x + w - right, y + h - bottom)
    return (left, top, right - left, bottom - top), cut > 0.01 * max(width, height) + (width > 1)


@dataclass(frozen=True)
class Crop:
    """The part of a photograph that a row is about.

    Attributes:
        box: x,y,w,h of the picture as a viewer shows it, of positive size.
        unit: "pixels" or "shares".
        least: the smallest width and the smallest height of all boxes on the photograph, for which it is decoded.
        margin: the share of the box's width and height that is added on each side.
    """

    box: Box
    unit: str
    least: tuple[float, float]
    margin: float = 0.0

    def part(self, width: float, height: float) -> tuple[Box, bool]:
        """Return the box with its margin, clipped, in shares of the photograph, and whether the box itself was clipped.

        Args:
            width, height: of the picture as a viewer shows it, in pixels.

        Raises:
            BoxError: nothing of it lies in the photograph.
        """
        wide, high = (width, height) if self.unit == "pixels" else (1.0, 1.0)
        (x, y, w, h), was_cut = clipped(self.box, wide, high)
        more = self.margin * w, self.margin * h
        (x, y, w, h), _ = clipped((x - more[0], y - more[1], w + 2 * more[0], h + 2 * more[1]), wide, high)
        return (x / wide, y / high, w / wide, h / high), was_cut

    def least_part(self, width: float, height: float) -> tuple[float, float]:
        """Return `least` in shares of the photograph."""
        wide, high = (width, height) if self.unit == "pixels" else (1.0, 1.0)
        return min(1.0, self.least[0] / wide), min(1.0, self.least[1] / high)


def photograph_keys(table: pd.DataFrame) -> pd.Series:
    """Return what the rows of one photograph share: its path, however it is written."""
    return table["path"].map(os.path.normpath)


def with_crops(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table with the columns `crop`, a `Crop` or None where there is no box or a faulty one, and `beside`,
    dataset and name of the known individuals on the same photograph; as it is where no row has a box."""
    boxes = [_positive(cell) for cell in table["bbox"]] if "bbox" in table and "bbox_unit" in table else []
    if not any(boxes):
        return table
    keys = photograph_keys(table)
    sizes = pd.DataFrame([(box[2], box[3]) if box else (math.inf, math.inf) for box in boxes], index=table.index)
    least = sizes.groupby(keys).transform("min").to_numpy().tolist()
    beside: dict[str, set[tuple[str, str]]] = {key: set() for key in keys}
    known = table["split"] == "database"
    for key, dataset, name in zip(keys[known], table["dataset"][known], table["identity"][known], strict=True):
        beside[key].add((dataset, name))
    crops = [
        Crop(box, unit, (width, height)) if box else None
        for box, unit, (width, height) in zip(boxes, table["bbox_unit"], least, strict=True)
    ]
    columns = {"crop": crops, "beside": [tuple(sorted(beside[key])) for key in keys]}
    return table.assign(**{name: pd.Series(cells, table.index, object) for name, cells in columns.items()})


def _positive(cell: str) -> Box | None:
    try:
        box = read_box(cell)
    except BoxError:
        return None
    return box if box and box[2] > 0 and box[3] > 0 else None


def by_photograph(paths: Sequence[Path]) -> list[np.ndarray]:
    """Return the places of each photograph's rows, photographs in the order of their first row: a file that several
    rows share is opened once."""
    places: dict[str, list[int]] = {}
    for place, path in enumerate(paths):
        places.setdefault(os.path.normpath(path), []).append(place)
    return [np.array(some) for some in places.values()]
