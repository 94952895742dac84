"""A sheet for Wildbook's bulk import: one row per encounter, CSV or XLSX.

Rows of one encounter that have one name are one row, with a column for each photograph; a row without an encounter is
one of its own.
"""

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import pandas as pd

from reid.data.boxes import read_box
from reid.data.dates import read_moments
from reid.errors import InputError
from reid.formats.boxed import sizes_of
from reid.formats.boxes import Frame, as_unit
from reid.formats.export_choices import ExportChoices, Exported
from reid.formats.named import Named
from reid.runtime.files import atomic_path, write_table

__all__ = ["write"]


def write(named: Named, out: Path, choices: ExportChoices) -> Exported:
    """Write the sheet.

    Raises:
        InputError: openpyxl is not installed and `out` is an XLSX.
    """
    table = named.table.assign(moment=read_moments(named.table["date"], named.table["day"]))
    bare = table["path"].map(lambda path: Path(path).name)
    is_bare = bare.nunique() == table["path"].nunique()
    table["asset"] = bare if is_bare else table["path"]
    shares = table[(table["bbox"] != "") & (table["bbox_unit"] == "shares")]
    frames = sizes_of(shares["path"], {path: named.catalogue.root / path for path in shares["path"]})
    groups: dict[Hashable, list[dict[Hashable, Any]]] = {}
    for row in table.to_dict("records"):
        key = (row["encounter"], row["name"], row["dataset"], row["day"]) if row["encounter"] else row["image_id"]
        groups.setdefault(key, []).append(row)
    encounters = [_encounter(rows, frames) for rows in groups.values()]
    columns = sorted({name for cells in encounters for name in cells}, key=_column_order)
    sheet = pd.DataFrame([{name: cells.get(name, "") for name in columns} for cells in encounters])
    _write_sheet(out, sheet)
    told = [
        "boxes and sides stand in the columns of Wildbook's export (Annotation0.bbox, Annotation0.ViewPoint), which an "
        "import may not read",
        *(
            []
            if is_bare
            else ["photographs of one name lie in several folders, so their paths are given; Wildbook wants names"]
        ),
    ]
    if any(len(species.split()) != 2 for species in table["species"]):
        told.append("Wildbook requires genus and epithet; the column species has rows that are not two words")
    return Exported([out], len(table), told)


def _column_order(name: str) -> tuple[bool, int, str]:
    """Photographs and boxes stand last, in their order."""
    number = re.search(r"mediaAsset(\d+)|Annotation(\d+)", name)
    return number is not None, int(number[1] or number[2]) if number else 0, name


def _encounter(rows: list[dict[Hashable, Any]], frames: dict[str, Frame | None]) -> dict[str, str]:
    first = rows[0]
    genus, _, epithet = first["species"].partition(" ")
    year, month, day = (*first["day"].split("-"), "", "", "")[:3]
    hour, minutes = (first["moment"][11:13], first["moment"][14:16]) if first["moment"] else ("", "")
    cells = {f"Encounter.mediaAsset{place}": row["asset"] for place, row in enumerate(rows)}
    cells |= {
        "Encounter.genus": genus,
        "Encounter.specificEpithet": epithet,
        "Encounter.year": year,
        "Encounter.month": month.lstrip("0"),
        "Encounter.day": day.lstrip("0"),
        "Encounter.hour": hour,
        "Encounter.minutes": minutes,
        "Encounter.locationID": first["place"],
        "Encounter.decimalLatitude": first["latitude"],
        "Encounter.decimalLongitude": first["longitude"],
        "Encounter.otherCatalogNumbers": first["encounter"] or first["image_id"],
        "MarkedIndividual.individualID": first["name"],
        "Encounter.researcherComments": _comment(first),
    }
    for place, row in enumerate(rows):
        box = read_box(row["bbox"])
        pixels = as_unit(box, row["bbox_unit"], "pixels", frames.get(row["path"])) if box else None
        cells[f"Annotation{place}.bbox"] = str([round(number) for number in pixels]) if pixels else ""
        cells[f"Annotation{place}.ViewPoint"] = row["orientation"]
    return cells


def _comment(row: dict[Hashable, Any]) -> str:
    if not row["name"]:
        return ""
    probability = "" if row["probability"] != row["probability"] else f", probability {row['probability']:.3f}"
    by = f" by {row['confirmed_by']}" if row["confirmed_by"] else ""
    return (
        f"name: {row['method']}{probability}, {f'confirmed{by}' if row['confirmed'] else 'not confirmed by a person'}"
    )


def _write_sheet(out: Path, sheet: pd.DataFrame) -> None:
    if out.suffix.casefold() != ".xlsx":
        write_table(out, sheet)
        return
    try:
        import openpyxl
    except ImportError:
        raise InputError(
            f"{out}: expected a .csv, because writing .xlsx needs openpyxl; `pip install openpyxl`, or name a .csv"
        ) from None
    book = openpyxl.Workbook(write_only=True)
    page = book.create_sheet("import")
    for cells in (list(sheet.columns), *sheet.to_numpy().tolist()):
        page.append(cells)
    with atomic_path(out) as temporary:
        book.save(temporary)
