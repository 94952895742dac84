"""What is wrong with a table's boxes, and with rows that share a photograph, as far as the table alone tells."""

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from reid.config.recipe import UNKNOWN_WORDS
from reid.data.boxes import (
    SHARES_UP_TO,
    UNITS,
    Box,
    BoxError,
    Crop,
    looks_like_corners,
    photograph_keys,
    read_box,
)
from reid.data.spelling import is_unknown, name_key

__all__ = ["CORNERS", "box_faults", "shared_photographs"]

CORNERS = (
    "expected x,y,w,h, but all boxes lie within their photographs only as x1,y1,x2,y2; if that is what they are, write "
    "x2-x1 and y2-y1 in place of the last two, or import the source again with --box-layout xyxy"
)

WHOLE = (1.0, 1.0)
"""Width and height of a photograph in shares."""


def box_faults(table: pd.DataFrame) -> Iterator[tuple[str, str, pd.Series]]:
    """Yield the column, what is expected of it, and which rows are faulty, (N,) bool."""
    if "bbox" not in table:
        return
    boxes = table["bbox"].map(_box_or_none)
    yield "bbox", "expected four numbers x,y,w,h, or an empty cell", boxes.isna()
    boxes = boxes[boxes.map(bool)]
    if "bbox_unit" not in table:
        words = "expected a column bbox_unit beside it, with pixels or shares in every row with a box"
        yield "bbox", words, pd.Series(table.index.isin(boxes.index), table.index)
        return
    unit = table["bbox_unit"][boxes.index]
    yield from (
        (column, words, is_faulty.reindex(table.index, fill_value=False))
        for column, words, is_faulty in _of_boxes(boxes, unit)
    )


def _of_boxes(boxes: pd.Series, unit: pd.Series) -> Iterator[tuple[str, str, pd.Series]]:
    """Yield the same of the rows with a box that can be read."""
    yield "bbox", "expected a width and a height above 0", boxes.map(lambda box: min(box[2:]) <= 0).astype(bool)
    known = unit[unit.isin(UNITS)]
    yield "bbox_unit", "expected pixels or shares in a row with a box", ~unit.isin(UNITS)
    if known.empty:
        return
    first = f"row {known.index[0] + 2} has {known.iloc[0]}"
    yield "bbox_unit", f"expected one unit in all rows with a box, and {first}", unit.isin({*UNITS} - {known.iloc[0]})
    in_shares, largest = unit == "shares", boxes.map(lambda box: max(map(abs, box))).astype(float)
    words = "expected shares of the photograph, 0 to 1; if these are pixels, write pixels into bbox_unit"
    yield "bbox", words, in_shares & (largest > SHARES_UP_TO)
    words = "expected pixels, and no box has a number above 1; if these are shares, write shares into bbox_unit"
    yield "bbox", words, ~in_shares & bool((largest[unit == "pixels"] <= SHARES_UP_TO).all())
    shares = boxes[in_shares & (largest <= SHARES_UP_TO)]
    corners = looks_like_corners([(box, WHOLE) for box in shares])
    yield "bbox", CORNERS, pd.Series(boxes.index.isin(shares.index[corners]), boxes.index)


def _box_or_none(cell: str) -> Box | tuple[()] | None:
    """Return the box of a cell; () where it has none, None where it can't be read."""
    try:
        return read_box(cell) or ()
    except BoxError:
        return None


def shared_photographs(table: pd.DataFrame) -> dict[int, str]:
    """Return what is wrong with rows that share a photograph, by row as a spreadsheet counts: each must have a box of
    its own, around an animal of its own.

    Args:
        table: with the column `crop`, see `boxes.with_crops`.
    """
    named = table[table["path"] != ""]
    faults: dict[int, str] = {}
    for _, rows in named.groupby(photograph_keys(named), sort=False):
        if len(rows) > 1:
            faults |= _shared_by(rows.to_dict("index"))
    return {row: f"expected {faults[row]}" for row in sorted(faults)}


def _shared_by(rows: Mapping[Any, Mapping[Any, Any]]) -> Iterator[tuple[int, str]]:
    """Yield what is wrong with the rows of one photograph."""
    by_box: dict[Any, tuple[int, Mapping[Any, Any]]] = {}
    by_name: dict[tuple[str, str], int] = {}
    for place, own in rows.items():
        row, crop = place + 2, own["crop"]
        box = crop.box if isinstance(crop, Crop) else None
        first, other = by_box.setdefault(box, (row, own))
        if first != row:
            yield row, _again(first, other, own, " with the same box" if box else "")
        elif box is None and any(isinstance(each["crop"], Crop) for each in rows.values()):
            yield row, f"a box, as other rows of {own['path'][:99]!r} have; found none. Fill in bbox, or remove the row"
        elif own["identity"] and not is_unknown(own["identity"], UNKNOWN_WORDS):
            first = by_name.setdefault((own["dataset"], name_key(own["identity"])), row)
            if first != row:
                yield (
                    row,
                    f"boxes on one photograph to be around different animals, found {own['identity'][:99]!r} here and "
                    f"on row {first}, {own['path'][:99]!r}. Correct one of the names, or remove the worse box's row",
                )


def _again(first: int, other: Mapping[Any, Any], own: Mapping[Any, Any], box: str) -> str:
    """Return what to say of a row that shows what an earlier one shows too."""
    found = f"every photograph once, found that of row {first} again{box}, {own['path'][:99]!r}"
    if own["split"] != other["split"]:
        return f"{found}, there as {other['split']} and here as {own['split']}. Remove one of the rows"
    if own["identity"] != other["identity"]:
        names = f"there as {other['identity'][:99]!r} and here as {own['identity'][:99]!r}"
        return f"{found}, {names}. Decide who it is, and remove the other row"
    return f"{found}. Remove one of the rows"
