"""Small photographs and files as other tools write them, for the tests of import and export.

Each file is made from the format's documentation; docs/formats.md says which of them a tool itself was seen to write.
"""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

import reid
from reid.formats.found import Choices
from reid.formats.importing import Imported, import_source

EXIF, TAKEN, ORIENTATION = 0x8769, 0x9003, 274


def draw(path: Path, size: tuple[int, int] = (40, 30), orientation: int = 0, taken: str = "", shade: int = 0) -> Path:
    """Write a photograph whose picture is stored with this width and height."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if orientation:
        exif[ORIENTATION] = orientation
    if taken:
        exif.get_ifd(EXIF)[TAKEN] = taken
    Image.new("RGB", size, (shade, 90, 20)).save(path, exif=exif)
    return path


def draw_all(folder: Path, names: Iterable[str], **more: Any) -> None:
    for shade, name in enumerate(names):
        draw(folder / name, shade=shade, **more)


def write_json(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), "utf-8")
    return path


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8", newline="") as opened:
        writer = csv.DictWriter(opened, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def detection(box: Any, confidence: Any = 0.9, category: str = "1", **more: Any) -> dict[str, Any]:
    return {"category": category, "conf": confidence, "bbox": box, **more}


def megadetector(images: Sequence[Mapping[str, Any]], version: Any = "1.6", **more: Any) -> dict[str, Any]:
    """Results as MegaDetector writes them, the photographs before the categories."""
    categories = {"1": "animal", "2": "person", "3": "vehicle"}
    info = {"format_version": version, "detector": "md_v5a.0.0.pt"}
    return {"images": list(images), "detection_categories": categories, "info": info, **more}


def rows_of(imported: Imported) -> list[dict[str, str]]:
    """The rows that are new, without empty cells."""
    rows = imported.new_rows.to_dict("records")
    return [{str(name): cell for name, cell in row.items() if cell} for row in rows]


def imported(
    source_format: str, source: Path, out: Path | None = None, *, dry_run: bool = False, **choices: Any
) -> Imported:
    """Import into `data` next to the source, unless another folder is named."""
    folder = source if source.is_dir() else source.parent
    return import_source(source_format, source, out or folder.parent / "data", Choices(**choices), dry_run)


def refusal(source_format: str, source: Path, **choices: Any) -> str:
    """The words with which an import is refused; it must leave nothing behind."""
    out = (source if source.is_dir() else source.parent).parent / "refused"
    try:
        imported(source_format, source, out, **choices)
    except reid.InputError as problem:
        assert not out.exists()
        return str(problem)
    raise AssertionError("it was not refused")
