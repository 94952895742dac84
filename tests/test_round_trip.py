"""What survives an import, an export, and an import of what was exported.

docs/formats.md has the table. After a change: `python tests/test_round_trip.py`, and put what it prints there.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sources import draw_all, imported, megadetector, write_csv, write_json

from reid.data.boxes import read_box
from reid.errors import InputError
from reid.formats.export_choices import ExportChoices
from reid.formats.exporting import export_names

PAGE = Path(__file__).parents[1] / "docs" / "formats.md"

COLUMNS = (
    *("image_id", "identity", "date", "orientation", "species", "split", "dataset", "place", "encounter", "bbox"),
    *("latitude", "longitude"),
)

BACK = {"camtrap-dp": "package", "wildbook": "sheet.csv", "coco": "coco.json"}
"""What each exporter writes."""

SHARES = dict(zip(("bbox_x", "bbox_y", "bbox_w", "bbox_h"), (0.1, 0.2, 0.25, 0.5), strict=True))

CELLS = {"orientation": "left", "species": "Lynx lynx", "dataset": "Alps", "encounter": "e1"}


def of_folder(folder: Path) -> tuple[Path, dict[str, Any]]:
    draw_all(folder, ["Mira/e1/1.jpg", "unknown/2.jpg"], taken="2024:05:03 07:03:09")
    return folder, {}


def of_wildlife_datasets(folder: Path) -> tuple[Path, dict[str, Any]]:
    row = {"image_id": 7, "identity": "Mira", "path": "1.jpg", "date": "2024-05-03 07:03:09", "bbox": "[4, 6, 10, 15]"}
    rows = [
        row | CELLS | {"split": "train"},
        row | CELLS | {"image_id": 8, "identity": "", "path": "2.jpg", "split": "test"},
    ]
    return write_csv(folder / "metadata.csv", rows), {}


def of_megadetector(folder: Path) -> tuple[Path, dict[str, Any]]:
    box = {"category": "1", "conf": 0.9, "bbox": [0.1, 0.2, 0.25, 0.5], "classifications": [["0", 0.9]]}
    images = [{"file": name, "datetime": "2024:05:03 07:03:09", "detections": [box]} for name in ("1.jpg", "2.jpg")]
    content = megadetector(images, classification_categories={"0": "Lynx lynx"})
    return write_json(folder / "md.json", content), {}


def of_coco(folder: Path) -> tuple[Path, dict[str, Any]]:
    more = {"datetime": "2024-05-03 07:03:09", "location": "ridge", "seq_id": "e1"}
    images = [{"id": number, "file_name": f"{number}.jpg", **more} for number in (1, 2)]
    box = {"category_id": 1, "bbox": [4, 6, 10, 15], "viewpoint": "left"}
    annotations = [box | {"id": 7, "image_id": 1, "individual_id": "Mira"}, box | {"id": 8, "image_id": 2}]
    categories = [{"id": 1, "name": "Lynx lynx"}]
    return write_json(folder / "c.json", {"images": images, "annotations": annotations, "categories": categories}), {}


def of_camtrap_dp(folder: Path) -> tuple[Path, dict[str, Any]]:
    profile = "https://raw.githubusercontent.com/tdwg/camtrap-dp/1.0.2/camtrap-dp-profile.json"
    resources = [{"name": name, "path": f"{name}.csv"} for name in ("deployments", "media", "observations")]
    write_json(folder / "datapackage.json", {"profile": profile, "resources": resources})
    place = {"deploymentID": "d1", "locationName": "ridge", "latitude": 47.1, "longitude": 8.2}
    write_csv(folder / "deployments.csv", [place])
    time = "2024-05-03T07:03:09+0200"
    media = [
        {"mediaID": name, "deploymentID": "d1", "timestamp": time, "filePath": name} for name in ("1.jpg", "2.jpg")
    ]
    write_csv(folder / "media.csv", media)
    box = {
        "bboxX": 0.1,
        "bboxY": 0.2,
        "bboxWidth": 0.25,
        "bboxHeight": 0.5,
        "scientificName": "Lynx lynx",
        "eventID": "e1",
    }
    common = box | {"deploymentID": "d1", "observationLevel": "media", "observationType": "animal"}
    rows = [common | {"observationID": f"o{number}", "mediaID": f"{number}.jpg"} for number in (1, 2)]
    rows = [
        row | {"individualID": name, "eventStart": time, "eventEnd": time}
        for row, name in zip(rows, ("Mira", ""), strict=True)
    ]
    write_csv(folder / "observations.csv", rows)
    return folder, {}


def of_wildbook(folder: Path) -> tuple[Path, dict[str, Any]]:
    row: dict[str, Any] = {
        "Encounter.encounterID": "e1",
        "Encounter.genus": "Lynx",
        "Encounter.specificEpithet": "lynx",
    }
    row |= {
        "Encounter.year": 2024,
        "Encounter.month": 5,
        "Encounter.day": 3,
        "Encounter.hour": 7,
        "Encounter.minutes": 3,
    }
    row |= {"Encounter.locationID": "ridge", "Encounter.decimalLatitude": 47.1, "Encounter.decimalLongitude": 8.2}
    row |= {"Annotation0.bbox": "[4, 6, 10, 15]", "Annotation0.ViewPoint": "left"}
    first = row | {"Encounter.mediaAsset0": "1.jpg", "MarkedIndividual.individualID": "Mira"}
    second = row | {
        "Encounter.mediaAsset0": "2.jpg",
        "MarkedIndividual.individualID": "",
        "Encounter.encounterID": "e2",
    }
    return write_csv(folder / "wb.csv", [first, second]), {}


def of_animl(folder: Path) -> tuple[Path, dict[str, Any]]:
    row = {
        "createdate": "2024-05-03 07:03:09",
        "category": 1,
        "conf": 0.9,
        "prediction": "Lynx lynx",
        "station": "ridge",
    }
    rows = [row | SHARES | {"filepath": name, "individual": who} for name, who in (("1.jpg", "Mira"), ("2.jpg", ""))]
    return write_csv(folder / "manifest.csv", rows), {}


def of_matchypatchy(folder: Path) -> tuple[Path, dict[str, Any]]:
    row = {
        "timestamp": "2024-05-03 07:03:09",
        "viewpoint": 0,
        "species": "Lynx lynx",
        "station": "ridge",
        "sequence_id": "e1",
    }
    rows = [row | SHARES | {"id": 7, "filepath": "1.jpg", "individual": "Mira"}]
    return write_csv(folder / "rois.csv", [*rows, rows[0] | {"id": 8, "filepath": "2.jpg", "individual": ""}]), {}


def of_timelapse(folder: Path) -> tuple[Path, dict[str, Any]]:
    row = {
        "RelativePath": "",
        "DateTime": "2024-05-03 07:03:09",
        "Species": "Lynx lynx",
        "Side": "left",
        "Camera": "ridge",
    }
    rows = [row | {"File": "1.jpg", "Animal": "Mira"}, row | {"File": "2.jpg", "Animal": ""}]
    columns = {"identity": "Animal", "species": "Species", "orientation": "Side", "place": "Camera"}
    return write_csv(folder / "ImageData.csv", rows), {"columns": columns}


SOURCES: dict[str, Callable[[Path], tuple[Path, dict[str, Any]]]] = {
    "folder": of_folder,
    "wildlife-datasets": of_wildlife_datasets,
    "megadetector": of_megadetector,
    "coco": of_coco,
    "camtrap-dp": of_camtrap_dp,
    "wildbook": of_wildbook,
    "animl": of_animl,
    "matchypatchy": of_matchypatchy,
    "timelapse": of_timelapse,
}
"""By importer, a file with two photographs, of Mira and of somebody without a name, and all that the format can say."""


def there_and_back(source_format: str, export_format: str, folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Import, export, import; return both tables, with boxes in pixels as numbers."""
    draw_all(folder / "source", ["1.jpg", "2.jpg"])
    source, choices = SOURCES[source_format](folder / "source")
    if source_format == "folder":
        for name in ("1.jpg", "2.jpg"):
            (folder / "source" / name).unlink()
    first = imported(source_format, source, folder / "data", **choices).table
    places = [
        {"deploymentID": place, "latitude": 47.1, "longitude": 8.2} for place in set(first.get("place", [])) - {""}
    ]
    more: dict[str, Any] = {"deployments": write_csv(folder / "places.csv", places)} if places else {}
    out = folder / "data" / BACK[export_format]
    if export_format == "wildbook":  # a sheet names photographs without their folders
        root = (folder / "data" / first["path"].iloc[0]).parent
        if source_format == "folder":
            root = folder / "flat"
            draw_all(root, ["1.jpg", "2.jpg"])
    else:
        root = folder / "data"
    export_names(export_format, folder / "data", out, choices=ExportChoices(zone="+02:00", **more))
    return first, imported(export_format, out, folder / "back", root=root).table


def surviving(source_format: str, export_format: str, folder: Path) -> str:
    """In words, which of the columns that the import filled are the same afterwards."""
    try:
        first, back = there_and_back(source_format, export_format, folder)
    except InputError as problem:
        return "refused: no place" if "and a place, which Camtrap DP" in str(problem) else str(problem)
    filled = [name for name in COLUMNS if name in first and (first[name] != "").any()]
    kept = [name for name in filled if name in back and same(first, back, name)]
    lost = [name for name in filled if name not in kept]
    return "all" if not lost else f"all but {', '.join(lost)}"


def same(first: pd.DataFrame, back: pd.DataFrame, column: str) -> bool:
    cells = [
        sorted((Path(path).name, plain(cell)) for path, cell in zip(table["path"], table[column], strict=True))
        for table in (first, back)
    ]
    if column == "bbox":
        units = [{"pixels": (1, 1), "shares": (40, 30)}[table["bbox_unit"].iloc[0]] for table in (first, back)]
        return all(
            [round(number * factor) for number, factor in zip(read_box(cell) or (), unit * 2, strict=True)]
            == [4, 6, 10, 15]
            for unit, rows in zip(units, cells, strict=True)
            for _, cell in rows
        )
    return cells[0] == cells[1]


def plain(cell: str) -> str:
    """A date without what formats write differently: its separators and its zone."""
    return (
        cell.replace("T", " ").removesuffix("+0200")
        if cell[:2] == "20"
        else {"train": "database", "test": "query"}.get(cell, cell)
    )


def table(folder: Path) -> str:
    lines = [f"| imported from | {' | '.join(BACK)} |", f"|---|{'---|' * len(BACK)}"]
    for source_format in SOURCES:
        cells = [surviving(source_format, back, folder / source_format / back) for back in BACK]
        lines.append(f"| {source_format} | {' | '.join(cells)} |")
    return "\n".join(lines)


@pytest.mark.parametrize("export_format", BACK)
def test_names_and_boxes_come_back(tmp_path: Path, export_format: str) -> None:
    first, back = there_and_back("camtrap-dp", export_format, tmp_path)
    assert list(back["identity"]) == list(first["identity"]) == ["Mira", ""]
    assert same(first, back, "bbox")
    assert not same(first.assign(bbox="0.1,0.2,0.25,0.6"), back, "bbox")


def test_the_page_shows_what_survives(tmp_path: Path) -> None:
    assert table(tmp_path) in PAGE.read_text("utf-8")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    with tempfile.TemporaryDirectory() as folder:
        print(table(Path(folder)))
