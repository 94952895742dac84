"""From what people have to metadata.csv: the table of formats, and what every import does after its reader.

The reader yields rows as the source has them. Here the photographs are found, the boxes are made into x,y,w,h of the
picture as a viewer shows it, words become those of this kit, and the rows are merged with what is there.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pandas as pd

from reid.config.recipe import UNKNOWN_WORDS
from reid.data.boxes import BoxError
from reid.data.catalogue import COLUMNS
from reid.data.dates import read_days
from reid.data.sides import read_side
from reid.data.spelling import is_unknown
from reid.errors import InputError
from reid.formats.boxed import Boxed, Excluded, sizes_of, with_boxes
from reid.formats.boxes import as_unit, written_box
from reid.formats.found import Choices, Found, Layout, LeftOut
from reid.formats.importers import (
    animl,
    camtrap_dp,
    coco,
    folder,
    matchypatchy,
    megadetector,
    timelapse,
    wildbook,
    wildlife_datasets,
)
from reid.formats.merging import Merged, Row, merge
from reid.formats.places import Placed, find_files, look_into, place_file, put_file
from reid.runtime.copies import keep_copy
from reid.runtime.files import first_of, read_table, write_table

__all__ = ["FORMATS", "Imported", "import_source"]

READERS: dict[str, Callable[[Path, Choices], Iterator[Found | LeftOut]]] = {
    "folder": folder.read,
    "wildlife-datasets": wildlife_datasets.read,
    "megadetector": megadetector.read,
    "coco": coco.read,
    "camtrap-dp": camtrap_dp.read,
    "wildbook": wildbook.read,
    "animl": animl.read,
    "matchypatchy": matchypatchy.read,
    "timelapse": timelapse.read,
}

FORMATS = {
    "folder": "a folder per animal, with folders per encounter in it or not",
    "wildlife-datasets": "its table, and WildlifeReID-10k's metadata.csv",
    "megadetector": "MegaDetector's results, and PytorchWildlife's (JSON)",
    "coco": "COCO, COCO Camera Traps, Wild Me's COCO (JSON)",
    "camtrap-dp": "Camtrap DP 1.0",
    "wildbook": "Wildbook's export of annotations (CSV or XLSX)",
    "animl": "animl's manifest (CSV)",
    "matchypatchy": "MatchyPatchy's regions of interest (CSV)",
    "timelapse": "Timelapse's ImageData.csv, with --map",
}
"""What can be imported, in a few words each."""

DATASET_CHARACTERS = re.compile(r"[^\w.-]+", re.ASCII)


@dataclass(frozen=True)
class Imported:
    """What an import understood, and made of it.

    Attributes:
        table: metadata.csv as it is now, or would be.
        merged: how the rows came together with those that were there.
        source_format: one of `FORMATS`.
        boxed: what was understood of the boxes.
        dates: how many rows of the source have a date that can be read, one that can't, and none.
        left_out: how many entries of the source became no row, by reason.
        examples: by reason, where some of these stand.
        saved: where the earlier metadata.csv was copied to; None where there was none, or it did not change.
        is_written: whether metadata.csv was written.
    """

    table: pd.DataFrame
    merged: Merged
    source_format: str
    boxed: Boxed
    dates: tuple[int, int, int]
    left_out: Counter[str]
    examples: Mapping[str, list[str]]
    saved: Path | None = None
    is_written: bool = False

    @property
    def new_rows(self) -> pd.DataFrame:
        """The rows of the table that were not there before."""
        return self.table.iloc[len(self.table) - self.merged.added :]

    @property
    def layout(self) -> Layout | None:
        """What the numbers of the boxes were taken for; None without boxes."""
        return self.boxed.layout


def import_source(
    source_format: str, source: Path | str, out: Path | str, choices: Choices | None = None, dry_run: bool = False
) -> Imported:
    """Make metadata.csv of what another tool wrote, or add to the one that is there.

    Args:
        source_format: one of `FORMATS`.
        source: the file or folder.
        out: the data folder; its metadata.csv is copied before it is changed.
        choices: what the source alone does not say.
        dry_run: write nothing.

    Raises:
        InputError: the source can't be read or understood, or nothing of it can be used; a folder can't be written.
    """
    source, out, choices = Path(source), Path(out), choices or Choices()
    if source_format not in READERS:
        raise InputError(f"{source_format}: expected a format, one of {', '.join(READERS)}")
    if not source.exists():
        raise InputError(f"{source}: expected a file or folder to import, found none; check the name")
    there, excluded = _rows_there(out), Excluded()
    found = _read(source_format, source, choices, excluded)
    files = _files_of(found, _base(source), choices, excluded)
    found = [row for row in found if row.photograph in files]
    boxed = with_boxes(_with_dates(found, files) if choices.exif_dates else found, files, choices, excluded)
    _refuse_nothing(source, boxed, excluded)
    base = choices.root or _base(source)
    placed = {
        name: place_file(files[name], base, out) for name in dict.fromkeys(row.photograph for row, _ in boxed.rows)
    }
    dataset_of = _dataset(source_format, source, choices, there)
    rows = list(_rows(boxed, files, placed, dataset_of, _unit_there(there), excluded))
    merged = merge(there, rows, source_format, choices.update)
    columns = merged.columns
    table = pd.DataFrame([{name: row.get(name, "") for name in columns} for row in merged.rows])
    left_out = excluded.counts + merged.left_out
    dates = _count_dates(row.date for row, _ in boxed.rows)
    imported = Imported(table, merged, source_format, boxed, dates, left_out, excluded.examples)
    if dry_run or merged.rows == there:
        return imported
    return _write(imported, placed.values(), out, choices.copy)


def _rows_there(out: Path) -> list[Row]:
    """Return the rows of metadata.csv, with all cells; none where there is none."""
    path = out / "metadata.csv"
    if not path.exists():
        return []
    records = read_table(path, COLUMNS).to_dict("records")
    return [{str(name): str(cell) for name, cell in row.items()} for row in records if any(row.values())]


def _read(source_format: str, source: Path, choices: Choices, excluded: Excluded) -> list[Found]:
    found = []
    for each in READERS[source_format](source, choices):
        if isinstance(each, LeftOut):
            excluded.add(each.where, each.reason)
        else:
            found.append(each)
    return found


def _base(source: Path) -> Path:
    """Return where a source's relative paths begin."""
    return source if source.is_dir() else source.parent


def _files_of(found: list[Found], base: Path, choices: Choices, excluded: Excluded) -> dict[str, Path]:
    """Return the files of the photographs that are there; rows of the others are left out."""
    places = find_files((row.photograph for row in found), base, choices.root)
    for row in found:
        if isinstance(reason := places[row.photograph], str):
            excluded.add(f"{row.where}: {row.photograph[:99]}", reason)
    return {name: place for name, place in places.items() if isinstance(place, Path)}


def _with_dates(found: list[Found], files: Mapping[str, Path]) -> list[Found]:
    """Return the rows, those without a date with that of their photograph's EXIF data."""
    undated = {row.photograph for row in found if not row.date.strip()}
    taken = {name: look_into(files[name])[1] for name in undated}
    return [row if row.date.strip() else row._replace(date=taken[row.photograph]) for row in found]


def _refuse_nothing(source: Path, boxed: Boxed, excluded: Excluded) -> None:
    if boxed.rows:
        return
    reasons = [
        f"{count} × {reason} ({first_of(excluded.examples[reason])})"
        for reason, count in excluded.counts.most_common(3)
    ]
    raise InputError(
        f"{source}: expected photographs of animals, found none to use: "
        f"{'; '.join(reasons) or 'there is nothing in it'}"
    )


def _unit_there(there: list[Row]) -> str:
    """Return the unit of the boxes of a table; "" without boxes."""
    units = {row.get("bbox_unit", "") for row in there if row.get("bbox")}
    if len(units) > 1 or units - {"pixels", "shares"}:
        raise InputError(
            "metadata.csv, column bbox_unit: expected pixels or shares, the same in every row with a box; found "
            f"{', '.join(map(repr, sorted(units)))}. Correct it before you import more"
        )
    return units.pop() if units else ""


def _dataset(source_format: str, source: Path, choices: Choices, there: list[Row]) -> Callable[[Found], str]:
    """Return what tells a row's dataset: what the person says; what the source says, or its species; the only dataset
    that is there; the source's name."""
    known = {row["dataset"] for row in there if row["dataset"]}
    name = source.resolve().name if source.is_dir() else source.stem
    default = known.pop() if len(known) == 1 else as_dataset(name) or source_format
    return lambda row: choices.dataset or as_dataset(row.dataset) or as_dataset(row.species) or default


def as_dataset(words: str) -> str:
    """Return words as the column dataset may hold them: "Lynx lynx" -> "Lynx_lynx"."""
    return DATASET_CHARACTERS.sub("_", words.strip()).strip("_.-")[:100]


def _rows(
    boxed: Boxed,
    files: Mapping[str, Path],
    placed: Mapping[str, Placed],
    dataset_of: Callable[[Found], str],
    unit: str,
    excluded: Excluded,
) -> Iterator[Row]:
    """Yield rows for metadata.csv.

    Args:
        boxed: rows of the source.
        files: see `_files_of`.
        placed: by photograph as the source names it.
        dataset_of: see `_dataset`.
        unit: of the boxes that are there; "" for that of the source.
        excluded: boxes that can't be given in that unit are added to it.
    """
    layout, frames = boxed.layout, boxed.frames
    if layout and unit and unit != layout.unit:
        frames = sizes_of((row.photograph for row, box in boxed.rows if box), files)
    for found, box in boxed.rows:
        cells = _cells(found, placed[found.photograph].path, dataset_of(found))
        if box is not None and layout is not None:
            wanted = unit or layout.unit
            try:
                cells["bbox"] = written_box(as_unit(box, layout.unit, wanted, frames.get(found.photograph)), wanted)
            except BoxError as problem:
                excluded.add(found.where, str(problem))
                continue
            cells["bbox_unit"] = wanted
        yield cells


def _cells(found: Found, path: str, dataset: str) -> Row:
    identity = "" if _is_nobody(found.identity) else found.identity
    split = found.split or ("database" if identity else "query")
    return {
        "image_id": found.key,
        "identity": identity,
        "path": path,
        "date": found.date.strip(),
        "orientation": read_side(found.orientation)[0],
        "species": found.species,
        "split": split if identity or split in ("query", "test") else "query",
        "dataset": dataset,
        "place": found.place,
        "encounter": found.encounter,
        "bbox": "",
        "bbox_unit": "",
        "detection_confidence": "" if found.confidence is None else f"{found.confidence:.4g}",
        **found.more,
        "source_id": found.key,
    }


@cache
def _is_nobody(name: str) -> bool:
    """Return whether a name is a word for nobody; remembered, because a table has few names on many rows."""
    return is_unknown(name, UNKNOWN_WORDS)


def _count_dates(dates: Iterable[str]) -> tuple[int, int, int]:
    """Return how many dates can be read, can't be read, and are empty."""
    cells = pd.Series(list(dates), dtype=object)
    days = read_days(cells)
    empty = cells.str.strip() == ""
    return int((days != "").sum()), int(((days == "") & ~empty).sum()), int(empty.sum())


def _write(imported: Imported, placed: Iterable[Placed], out: Path, copy: bool) -> Imported:
    """Put photographs and metadata.csv into the data folder; the earlier table is copied first."""
    path = out / "metadata.csv"
    used = set(imported.table["path"])
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise InputError(f"--out {out}: expected a folder to make, but it can't be made ({problem.strerror})") from None
    for each in placed:
        if each.path in used:
            put_file(each, out, copy)
    if path.exists():
        imported = replace(imported, saved=keep_copy(path))
    write_table(path, imported.table)
    return replace(imported, is_written=True)
