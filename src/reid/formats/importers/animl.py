"""animl's manifest, CSV: one row per detection, boxes x,y,w,h in shares of the photograph as it is stored: animl does
not turn photographs as EXIF says.

animl writes the file's own time as `datetime` where EXIF has none; only `createdate`, or a `datetime` that differs from
`filemodifydate`, is taken for a date.
"""

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from reid.errors import InputError
from reid.formats.found import NO_TURN, SHARES, Choices, Found, LeftOut, mapped
from reid.formats.importers.megadetector import confident
from reid.formats.tables import read_header, read_rows

__all__ = ["read"]

USUAL = {
    "path": ("filepath", "FilePath", "file"),
    "species": ("prediction", "species"),
    "place": ("station", "camera", "site"),
    "confidence": ("conf", "confidence"),
    "identity": ("individual", "identity"),
    "category": ("category",),
    "date": (),
    "dataset": (),
    "orientation": ("viewpoint",),
}

BOXES = (("bbox_x", "bbox_y", "bbox_w", "bbox_h"), ("bbox1", "bbox2", "bbox3", "bbox4"))

CATEGORIES = {"0": "empty", "2": "person", "3": "vehicle"}

NOT_ANIMALS = ("empty", "blank", "human", "person", "vehicle")


def read(source: Path, choices: Choices) -> Iterator[Found | LeftOut]:
    """Yield the detections of a manifest."""
    header = read_header(source)
    columns = mapped(choices, header, USUAL)
    box = next((names for names in BOXES if set(names) <= set(header)), None)
    if "path" not in columns or box is None:
        raise InputError(
            f"{source}: expected animl's columns filepath and {', '.join(BOXES[0])}, found {', '.join(header)[:300]}; "
            "name a manifest with detections, or --map path=COLUMN"
        )
    rows = (_of_row(where, row, columns, box) for where, row in read_rows(source))
    for _, (photograph, *more) in (
        (name, list(pairs)) for name, pairs in groupby(rows, lambda pair: pair[0].photograph)
    ):
        detections = [each for _, each in (photograph, *more) if not _is_empty(each)]
        yield from confident(detections, photograph[0], choices)


def _is_empty(row: Found | LeftOut) -> bool:
    return isinstance(row, LeftOut) and row.reason == ""


def _of_row(
    where: str, row: dict[str, str], columns: dict[str, str], box: tuple[str, ...]
) -> tuple[Found, Found | LeftOut]:
    """Return a row's photograph and its detection."""
    cells = {ours: row[theirs] for ours, theirs in columns.items()}
    category = CATEGORIES.get(cells.get("category", "").removesuffix(".0"), "")
    species = cells.get("species", "")
    photograph = Found(
        where,
        cells["path"],
        date=cells.get("date") or _date(row),
        place=cells.get("place", ""),
        layout=SHARES,
        turned=NO_TURN,
    )
    if category == "empty":
        return photograph, LeftOut(where, "")
    if category or species.casefold() in NOT_ANIMALS:
        return photograph, LeftOut(where, f"a detection of the category {category or species}")
    try:
        confidence = float(cells.get("confidence", ""))
    except ValueError:
        confidence = None
    animal = photograph._replace(
        identity=cells.get("identity", ""),
        species=species,
        dataset=cells.get("dataset", ""),
        orientation=cells.get("orientation", ""),
        box=[row[name] for name in box],
        confidence=confidence,
    )
    return photograph, animal


def _date(row: dict[str, str]) -> str:
    if "createdate" in row:
        return row["createdate"]
    date = row.get("datetime", "")
    return "" if date == row.get("filemodifydate") else date
