"""Wildbook's export of annotations, CSV or XLSX: one row per encounter, N columns of each kind for its N photographs.

`Encounter.mediaAssetN` is a photograph, `AnnotationN.bbox` its box, text "[x, y, w, h]" in pixels, and
`AnnotationN.ViewPoint` its side. The sheet that `reid export wildbook` writes is read too.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from reid.errors import InputError
from reid.formats.found import PIXELS, Choices, Found, LeftOut, mapped
from reid.formats.tables import read_header, read_rows

__all__ = ["read"]

ASSET = re.compile(r"Encounter\.mediaAsset(\d+)")

USUAL = {
    "identity": ("MarkedIndividual.individualID", "Encounter.individualID", "Name0.value", "MarkedIndividual.nickname"),
    "encounter": (
        "Encounter.encounterID",
        "Encounter.catalogNumber",
        "Encounter.sourceUrl",
        "Encounter.otherCatalogNumbers",
    ),
    "place": ("Encounter.locationID", "Encounter.verbatimLocality"),
    "year": ("Encounter.year",),
    "month": ("Encounter.month",),
    "day": ("Encounter.day",),
    "hour": ("Encounter.hour",),
    "minutes": ("Encounter.minutes",),
    "genus": ("Encounter.genus",),
    "epithet": ("Encounter.specificEpithet",),
    "species": (),
    "date": (),
    "dataset": (),
    "latitude": ("Encounter.decimalLatitude", "Encounter.latitude"),
    "longitude": ("Encounter.decimalLongitude", "Encounter.longitude"),
}


def read(source: Path, choices: Choices) -> Iterator[Found | LeftOut]:
    """Yield the photographs of the encounters."""
    header = read_header(source)
    columns = mapped(choices, header, USUAL)
    numbers = sorted(int(found[1]) for name in header if (found := ASSET.fullmatch(name)))
    if not numbers:
        raise InputError(
            f"{source}: expected the columns Encounter.mediaAsset0, ... of Wildbook's export of annotations, found "
            f"{', '.join(header)[:300] or 'none'}; export again with the photographs' names"
        )
    for where, row in read_rows(source):
        yield from _of_encounter(where, row, numbers, {ours: row[theirs] for ours, theirs in columns.items()})


def _of_encounter(
    where: str, row: dict[str, str], numbers: list[int], cells: dict[str, str]
) -> Iterator[Found | LeftOut]:
    there = [number for number in numbers if row[f"Encounter.mediaAsset{number}"].strip()]
    if not there:
        yield LeftOut(where, "an encounter without a photograph")
    for number in there:
        encounter = cells.get("encounter", "")
        yield Found(
            where,
            row[f"Encounter.mediaAsset{number}"].strip(),
            key=f"{encounter}-{number}" if encounter else "",
            identity=cells.get("identity", ""),
            date=cells.get("date") or _date(cells),
            orientation=row.get(f"Annotation{number}.ViewPoint", row.get(f"Annotation{number}.Viewpoint", "")),
            species=cells.get("species") or " ".join(filter(None, [cells.get("genus"), cells.get("epithet")])),
            dataset=cells.get("dataset", ""),
            place=cells.get("place", ""),
            encounter=encounter,
            box=row.get(f"Annotation{number}.bbox") or None,
            layout=PIXELS,
            more={name: cells[name] for name in ("latitude", "longitude") if cells.get(name)},
        )


def _date(cells: dict[str, str]) -> str:
    """2024, 5, 3, 7, 5 -> "2024-05-03 07:05"; as much of it as the row has"""
    day = []
    for name in ("year", "month", "day"):
        if not cells.get(name, "").isdigit() or int(cells[name]) == 0:
            break
        day.append(cells[name].zfill(4 if name == "year" else 2))
    hour, minutes = cells.get("hour", ""), cells.get("minutes", "")
    time = (
        f" {int(hour):02}:{int(minutes or 0):02}"
        if len(day) == 3 and hour.isdigit() and (minutes or "0").isdigit()
        else ""
    )
    return "-".join(day) + time
