"""Rows that were imported, put together with a metadata.csv that is there: its image_ids and its rows stay."""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256

from reid.data.catalogue import COLUMNS

__all__ = ["OPTIONAL", "Merged", "Row", "merge"]

Row = dict[str, str]
"""Cells by column."""

OPTIONAL = ("place", "encounter", "bbox", "bbox_unit", "detection_confidence", "latitude", "longitude")
"""Columns that are written where a row has something in them, behind `COLUMNS` and before the source's others."""

ORIGIN = ("source", "source_id")
"""Which format a row was imported from, and its id there: by these an import finds its rows again."""

LONGEST_ID = 180
"""Characters of an image_id, which may have 200 in all."""

SEVERAL_BOXES = (
    "a box on a photograph that a row without a box names already, one of several: which is that animal's is not said"
)
SEVERAL_ROWS = "a photograph of which metadata.csv has several boxes: which of them this is is not said"


@dataclass
class Merged:
    """metadata.csv with what was imported.

    Attributes:
        rows: those that were there, in their order, then the new ones.
        added: how many are new.
        found: how many were there.
        filled: how many of these got cells that were empty.
        changed: by column, how many cells the source has otherwise; they were changed only if that was asked for.
        left_out: how many rows were left out, by reason.
        gone: how many rows of earlier imports of this format the source does not have; they stay.
    """

    rows: list[Row]
    added: int = 0
    found: int = 0
    filled: int = 0
    changed: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    gone: int = 0

    @property
    def columns(self) -> list[str]:
        """The columns that some row needs, in order."""
        others = dict.fromkeys(name for row in self.rows for name in row if name not in (*COLUMNS, *OPTIONAL, *ORIGIN))
        some = [name for name in OPTIONAL if any(row.get(name) for row in self.rows)]
        return [*COLUMNS, *some, *others, *(name for name in ORIGIN if any(row.get(name) for row in self.rows))]


def merge(there: list[Row], new: Iterable[Row], source: str, update: bool) -> Merged:
    """Return the rows of a table with those of a source.

    A row is found again by its `source_id` and photograph, or by its photograph and box. A single box goes to the
    single row of its photograph that has none, and a row without a box to the single one of its photograph.

    Args:
        there: rows of metadata.csv, all cells.
        new: rows with `path`, and with `image_id` "" or what the source calls the row; `bbox` in the unit of `there`.
        source: the format's name.
        update: whether the source's cells count where they differ from those that are there; else they are counted.
    """
    merged, new = Merged([dict(row) for row in there]), list(new)
    places = defaultdict(list)
    for place, row in enumerate(merged.rows):
        places[os.path.normpath(row["path"])].append(place)
    boxes = Counter(row["path"] for row in new if row.get("bbox"))
    taken = {row["image_id"] for row in merged.rows}
    used: set[int] = set()
    for row in new:
        same = [place for place in places[os.path.normpath(row["path"])] if place not in used]
        found = _find(row, same, merged.rows, boxes[row["path"]], source)
        if isinstance(found, str):
            merged.left_out[found] += 1
            continue
        place = len(merged.rows) if found is None else found
        if found is None:
            merged.rows.append({**row, "image_id": _free_id(row, places, taken), "source": source})
            places[os.path.normpath(row["path"])].append(place)
            merged.added += 1
        else:
            _fill(merged, merged.rows[place], row, update)
        used.add(place)
    merged.gone = sum(row.get("source") == source for place, row in enumerate(merged.rows) if place not in used)
    return merged


def _find(row: Row, same: list[int], rows: list[Row], boxes: int, source: str) -> int | str | None:
    """Return the row of the table that a new one is; None for none, or why that can't be told.

    Args:
        row: the new one.
        same: unused rows of its photograph, their places.
        rows: the table.
        boxes: how many boxes the source has on the photograph.
        source: the format's name.
    """
    for place in same:
        ids = (rows[place].get("source"), rows[place].get("source_id"))
        if row.get("source_id") and ids == (source, row["source_id"]):
            return place
    others = [
        place
        for place in same
        if not (row.get("source_id") and rows[place].get("source") == source and rows[place].get("source_id"))
    ]
    alike = [place for place in others if rows[place].get("bbox", "") == row.get("bbox", "")]
    if alike:
        return alike[0]
    if row.get("bbox"):
        whole = [place for place in others if not rows[place].get("bbox")]
        if len(others) == len(whole) == 1:
            return whole[0] if boxes == 1 else SEVERAL_BOXES
        return None
    return None if not others else others[0] if len(others) == 1 else SEVERAL_ROWS


def _fill(merged: Merged, own: Row, row: Row, update: bool) -> None:
    """Put a new row's cells into the one that is there."""
    merged.found += 1
    empty = {name for name, cell in row.items() if cell and not own.get(name) and name not in ("image_id", *ORIGIN)}
    differ = {
        name
        for name, cell in row.items()
        if cell
        and own.get(name)
        and own[name] != cell
        and name not in ("image_id", "path", "split", "bbox_unit", *ORIGIN)
    }
    merged.changed.update(differ)
    merged.filled += bool(empty)
    chosen = empty | (differ if update else set())
    if "identity" in chosen and row.get("split"):
        chosen = {*chosen, "split"}
    own.update({name: row[name] for name in chosen})


def _free_id(row: Row, places: Mapping[str, list[int]], taken: set[str]) -> str:
    """Return an image_id that no row has: the source's, or the photograph's path, with a number behind it."""
    number = len(places[os.path.normpath(row["path"])]) + 1
    name = row["image_id"] or row["path"] + (f"#{number}" if row.get("bbox") or number > 1 else "")
    if len(name) > LONGEST_ID:
        name = f"{name[: LONGEST_ID - 17]}-{sha256(name.encode()).hexdigest()[:16]}"
    free, again = name, 2
    while free in taken:
        free, again = f"{name}-{again}", again + 1
    taken.add(free)
    return free
