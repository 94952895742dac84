"""The photographs of a data folder: `metadata.csv` -> a validated `Catalogue`.

The columns are those of the Kaggle competition AnimalCLEF25. Networks, galleries and thresholds are made per value of
the column `dataset`, whatever the names; `species` is for people only, whole splits of the competition's data leave it
empty.
"""

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from itertools import starmap
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
import pandas as pd

from reid.data.box_faults import box_faults, shared_photographs
from reid.data.boxes import Crop, with_crops
from reid.data.dates import find_date_problems, read_days
from reid.data.masks import is_run_length
from reid.data.sides import read_side
from reid.data.spelling import name_key
from reid.errors import InputError
from reid.runtime.files import first_of, group_rows, read_table

__all__ = [
    "COLUMNS",
    "NEW_INDIVIDUAL",
    "Catalogue",
    "find_cell_faults",
    "find_faults",
    "find_shared_photographs",
    "numbered_cells",
    "read_catalogue",
    "read_rows",
    "rows_to_predict",
]

NEW_INDIVIDUAL = "new_individual"
"""What a submission says of a photograph whose animal is not in the database (the competition's word)."""

COLUMNS = ("image_id", "identity", "path", "date", "orientation", "species", "split", "dataset")

SPLITS = {"database": "database", "train": "database", "query": "query", "test": "query"}
"""What the words of a table's column split mean here; AnimalCLEF26 and WildlifeReID-10k say train and test."""

DATASET_NAME = re.compile(
    r"(?!species$|.*\.(gallery|reference|extractor|matcher|backbone-\d)$)\w[\w.-]{0,99}", re.ASCII | re.IGNORECASE
)
"""A dataset's name becomes a file's name in the weights folder, next to `species.safetensors` and other datasets'
`NAME.gallery.safetensors`."""

NAME = re.compile(r"(?:[^\x00-\x1f\x7f]|\t|\r?\n){0,200}")
"""What the columns image_id and identity may hold. They are written again into submissions and galleries, where a NUL
would be lost in an array of strings, a lone carriage return would break a row, and one cell of a megabyte would take a
gigabyte in an array of a thousand."""


@dataclass(frozen=True)
class Catalogue:
    """The photographs of one data folder, or a selection of them.

    Attributes:
        root: the data folder; `path` cells are relative to it.
        table: one row per photograph, every cell of the file a `str`. The columns `COLUMNS`, with `split` and
            `orientation` in the words of this kit, where they were understood; `day` (the date as YYYY-MM-DD, empty
            where none can be read or believed), `date_problem` (a word of `dates.PROBLEMS`, or empty), `answered`
            (whether a query's identity was taken out) and whatever else the file has; with boxes, also the columns of
            `boxes.with_crops`. The index is the row's place in `metadata.csv`.
    """

    root: Path
    table: pd.DataFrame

    def __len__(self) -> int:
        return len(self.table)

    @property
    def database(self) -> "Catalogue":
        """The photographs whose individual is known."""
        return self._where(self.table["split"] == "database")

    @property
    def query(self) -> "Catalogue":
        """The photographs whose individual is asked for."""
        return self._where(self.table["split"] == "query")

    def of(self, dataset: str) -> "Catalogue":
        """Return the photographs of one dataset."""
        return self._where(self.table["dataset"] == dataset)

    def by_dataset(self) -> dict[str, "Catalogue"]:
        """Return a catalogue per dataset, in alphabetical order; rows without a dataset are in none."""
        return {dataset: self.of(dataset) for dataset in sorted(set(self.table["dataset"]) - {""})}

    def without(self, image_ids: Sequence[str]) -> "Catalogue":
        """Return the photographs that are not named."""
        return self._where(~self.table["image_id"].isin(list(image_ids)))

    def limited(self, photographs: int) -> "Catalogue":
        """Return all queries, and of each dataset at most so many database photographs, but whole individuals."""
        keep = self.table["split"] == "query"
        for catalogue in self.database.by_dataset().values():
            running_total = catalogue.table.groupby("identity", sort=False).size().cumsum()
            fits = (running_total <= photographs) | (running_total == running_total.iloc[0])
            keep |= (self.table["dataset"] == catalogue.table["dataset"].iloc[0]) & self.table["identity"].isin(
                running_total.index[fits]
            )
        return self._where(keep)

    @property
    def image_ids(self) -> list[str]:
        return list(self.table["image_id"])

    @property
    def identities(self) -> list[str]:
        """Per photograph the individual's id, the empty string on query rows."""
        return list(self.table["identity"])

    @property
    def paths(self) -> list[Path]:
        """Per photograph its file."""
        return [self.root / path for path in self.table["path"]]

    @property
    def crops(self) -> list[Crop | None]:
        """Per photograph the part of it that the row is about; None for all of it."""
        cells = self.table["crop"] if "crop" in self.table else [None] * len(self)
        return [cell if isinstance(cell, Crop) else None for cell in cells]

    @property
    def masks(self) -> list[str]:
        """Per photograph the file of its mask, an absolute path, or its run-length code; "" where there is none."""
        cells = self.table["mask"].str.strip() if "mask" in self.table else [""] * len(self)
        root = self.root.absolute()
        return [cell if not cell or is_run_length(cell) else str(root / cell) for cell in cells]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the rows and of the files' sizes, in hex: another label, box or photograph changes it.

        Sizes instead of contents, because 13,000 photographs are 13 GB to read.
        """
        more = [*(["bbox", "bbox_unit"] if any(self.crops) else []), *(["mask"] if any(self.masks) else [])]
        columns = [*COLUMNS, *more, "size"]
        rows = self.table.assign(size=[_size(path) for path in self.paths]).sort_values("image_id")[columns]
        return hashlib.sha256(rows.to_csv(index=False, lineterminator="\n").encode()).hexdigest()

    def row_name(self, image_id: str) -> str:
        """Return how a message names a row: as a spreadsheet counts, the header being row 1."""
        rows = self.table[self.table["image_id"] == image_id]
        return f"row {rows.index.to_numpy(int)[0] + 2} (image_id {image_id}, {rows['path'].iloc[0]})"

    def _where(self, mask: pd.Series) -> "Catalogue":
        return replace(self, table=self.table[mask])


def read_catalogue(folder: Path | str, today: date | None = None) -> Catalogue:
    """Read and validate `folder/metadata.csv`.

    Args:
        folder: the data folder.
        today: photographs of a later day count as undated; None for the day on which this runs.

    Raises:
        InputError: the file is missing or has a fault; the message names the first one, `reid check` lists all.
    """
    catalogue = read_rows(Path(folder), today)
    faults = find_faults(catalogue)
    if faults:
        others = f" ({len(faults) - 1} more: `reid check {folder}` lists them)" if len(faults) > 1 else ""
        raise InputError(f"{catalogue.root / 'metadata.csv'}: {faults[0]}{others}")
    return catalogue


def read_rows(folder: Path, today: date | None = None) -> Catalogue:
    """Read `folder/metadata.csv` without checking its rows.

    Args:
        folder: the data folder.
        today: as for `read_catalogue`.

    Raises:
        InputError: the file is missing, empty or no CSV with the columns.
    """
    _refuse_folder(folder)
    table = _without_empty_edges(folder / "metadata.csv", read_table(folder / "metadata.csv", COLUMNS))
    if table.empty:
        raise InputError(f"{folder / 'metadata.csv'}: expected one row per photograph, found none below the header")
    table["split"] = table["split"].map(lambda word: SPLITS.get(word.strip().casefold(), word))
    table["orientation"] = table["orientation"].map(lambda word: read_side(word)[0])
    # a query's identity is what is to be predicted: where a file gives it away, nothing downstream may see it
    table["answered"] = (table["split"] == "query") & (table["identity"] != "")
    table.loc[table["answered"], "identity"] = ""
    days = read_days(table["date"])
    table["date_problem"] = find_date_problems(table, days, today or date.today())
    table["day"] = days.where(table["date_problem"] == "", "")
    return Catalogue(root=folder, table=with_crops(table))


def _without_empty_edges(path: Path, table: pd.DataFrame) -> pd.DataFrame:
    """Return the table without the empty columns and, at its end, empty rows that a spreadsheet adds."""
    unnamed = [place for place, column in enumerate(table.columns) if not column.strip()]
    for place in unnamed:
        filled = table.index[table.iloc[:, place].str.strip() != ""]
        if len(filled):
            raise InputError(
                f"{path}: row {filled[0] + 2}: expected nothing in column {place + 1}, which has no name, found "
                f"{str(table.iat[filled[0], place])[:99]!r}; name the column in the first line, or empty its cells"
            )
    named = table.iloc[:, [place for place in range(table.shape[1]) if place not in unnamed]]
    filled_rows = np.flatnonzero((named != "").any(axis=1))
    return named.iloc[: filled_rows[-1] + 1 if len(filled_rows) else 0]


def _refuse_folder(folder: Path) -> None:
    """Refuse a folder without metadata.csv; name what looks like it, where something does."""
    if not folder.is_dir():
        raise InputError(
            f"{folder}: expected a folder with metadata.csv, found "
            + ("a file; name the folder that it lies in" if folder.exists() else "no such folder; check the name")
        )
    if os.path.exists(folder / "metadata.csv"):
        return
    raise InputError(f"{folder}: expected a folder with metadata.csv, found {_found_instead(folder)}")


def _found_instead(folder: Path) -> str:
    """Return what there is in place of metadata.csv, and what to do."""
    try:
        alike = sorted(path.name for path in folder.iterdir() if path.name.casefold().startswith("metadata."))
        below = sorted(path.parent.name for path in folder.glob("*/metadata.csv"))
    except OSError:  # a folder that may not be entered
        alike, below = [], []
    if alike:
        as_csv = alike[0].casefold().endswith((".csv", ".txt"))
        return f"{alike[0]!r}; " + ("rename it to metadata.csv" if as_csv else 'save it as "CSV UTF-8", metadata.csv')
    if below:
        return f"one in each of these folders below it: {first_of(below)}; type for example {folder / below[0]}"
    if (folder.parent / "metadata.csv").is_file():
        return f"one in the folder above it; type {folder.parent}"
    return "none in it; name the one that holds it"


def _size(path: Path) -> str:
    try:
        return str(path.stat().st_size) if path.is_file() else "missing"
    except OSError:  # a name that is too long, a folder that may not be entered
        return "missing"


def find_faults(catalogue: Catalogue) -> list[str]:
    """Return every fault of the rows in a sentence: the row, what was expected, what was found and what to do.

    Many rows with the very same fault share a sentence.
    """
    return [*find_cell_faults(catalogue), *find_shared_photographs(catalogue)]


def find_cell_faults(catalogue: Catalogue) -> list[str]:
    """Return the faults of single cells; with one of them a path may lead anywhere, and nothing should be opened."""
    table, root = catalogue.table, os.path.realpath(catalogue.root)
    by_kind = [
        {
            row: f"{check.column}: {check.expected}; found {cell[:99]!r}. Correct it or remove the row"
            for row, cell in numbered_cells(table.loc[check.is_faulty, check.column])
        }
        for check in _checks(table)
    ]
    for paths in [table["path"], *([_mask_files(table["mask"])] if "mask" in table else [])]:
        outside = paths.map(lambda path: _leads_below(path) and not _stays_in(root, path))
        by_kind.append(
            {
                row: f"{paths.name}: expected a path that stays in the data folder, links followed, but a link leads "
                f"out of it; found {_link_out_of(root, cell)}. Copy what it leads to into the folder, or remove the "
                "rows"
                for row, cell in numbered_cells(paths[outside])
            }
        )
    return [f"{rows}, column {words}" for kind in by_kind for rows, words in group_rows(kind.items())]


def find_shared_photographs(catalogue: Catalogue) -> list[str]:
    """Return the rows whose photograph an earlier row has too, other than with another box around another animal."""
    faults = shared_photographs(catalogue.table.assign(crop=pd.Series(catalogue.crops, catalogue.table.index, object)))
    return [f"{rows}, column path: {words}" for rows, words in group_rows(faults.items())]


class _Check(NamedTuple):
    """What a column's cells must be."""

    column: str
    expected: str
    is_faulty: pd.Series
    """bool, one per row."""


def _checks(table: pd.DataFrame) -> list[_Check]:
    """Return what the table alone can tell, in the order in which faults are reported."""
    image_id, identity, dataset = table["image_id"], table["identity"], table["dataset"]
    database = table["split"] == "database"
    characters = "expected 200 characters at most, and no control characters among them"
    return [
        _Check("image_id", characters, ~_matches(image_id, NAME)),
        _Check("identity", characters, ~_matches(identity, NAME)),
        _Check("image_id", "expected an id, found an empty cell", image_id == ""),
        _Check("image_id", "expected every id once, it came before", image_id.duplicated() & (image_id != "")),
        _Check("split", "expected database (or train) or query (or test)", ~table["split"].isin(SPLITS)),
        _Check("identity", "expected the individual on a database row", database & (identity.map(name_key) == "")),
        _Check("identity", "expected an individual; that word is the submission's", identity == NEW_INDIVIDUAL),
        _Check(
            "dataset",
            "expected a name of letters, digits, '_', '-', '.' (it names files), other than 'species', "
            "'X.gallery', 'X.reference', 'X.extractor', 'X.matcher' and 'X.backbone-2'",
            (database | (dataset != "")) & ~_matches(dataset, DATASET_NAME),
        ),
        _Check("path", "expected a relative path that stays in the data folder", ~table["path"].map(_leads_below)),
        *starmap(_Check, box_faults(table)),
        *([_mask_check(table["mask"])] if "mask" in table else []),
    ]


def _mask_check(column: pd.Series) -> _Check:
    expected = "expected a relative path that stays in the data folder, or a run-length code of COCO as JSON"
    return _Check("mask", expected, ~_mask_files(column).map(lambda path: not path or _leads_below(path)))


def _mask_files(column: pd.Series) -> pd.Series:
    """Return the paths in a column of masks; "" where there is none."""
    return column.str.strip().map(lambda cell: "" if is_run_length(cell) else cell)


def _matches(column: pd.Series, pattern: re.Pattern[str]) -> pd.Series:
    """Return whether the pattern describes each whole cell."""
    return column.map(lambda cell: bool(pattern.fullmatch(cell)))


def numbered_cells(column: pd.Series) -> list[tuple[int, str]]:
    """Return the cells with their rows, as a spreadsheet counts."""
    return list(zip((column.index.to_numpy(int) + 2).tolist(), column.tolist(), strict=True))


def _leads_below(path: str) -> bool:
    """Return whether a path, as it is written, is relative and leads downwards."""
    parts = PurePosixPath(path)
    return bool(path) and "\0" not in path and not parts.is_absolute() and ".." not in parts.parts


def _stays_in(root: str, path: str) -> bool:
    """Return whether a path that leads below a folder stays in it, links followed."""
    return os.path.realpath(os.path.join(root, path)).startswith(root.rstrip(os.sep) + os.sep)


def _link_out_of(root: str, path: str) -> str:
    """Return the first link of a path that leads out of the folder, and where to."""
    parts = PurePosixPath(path).parts
    steps = ("/".join(parts[:end]) for end in range(1, len(parts) + 1))
    link = next((step for step in steps if not _stays_in(root, step)), path)  # "." has no steps
    return f"{link!r}, which is {os.path.realpath(os.path.join(root, link))!r}"


def rows_to_predict(catalogue: Catalogue) -> Catalogue:
    """Return the query rows in the order of `sample_submission.csv`, or of metadata.csv where there is none.

    Raises:
        InputError: there are no queries, or the sample names photographs that are none.
    """
    queries = catalogue.query
    if not len(queries):
        raise InputError(
            f"{catalogue.root / 'metadata.csv'}: expected rows with split 'query' to answer, found none; add the "
            "photographs to be named"
        )
    sample = catalogue.root / "sample_submission.csv"
    if not sample.exists():
        return queries
    wanted = read_table(sample, ("image_id",))["image_id"]
    if wanted.empty:
        raise InputError(
            f"{sample}: expected the rows to answer, found none below the header; copy the file again or remove it"
        )
    unknown = wanted[~wanted.isin(queries.image_ids)]
    if len(unknown):
        raise InputError(
            f"{sample}: row {unknown.index[0] + 2}: image_id {unknown.iloc[0]} is no query row of metadata.csv; "
            "take both files from the same download"
        )
    if wanted.duplicated().any():
        raise InputError(
            f"{sample}: row {wanted.index[wanted.duplicated()][0] + 2}: this image_id stands there a second time"
        )
    places = pd.Series(queries.table.index, index=queries.image_ids)[wanted]
    return Catalogue(queries.root, queries.table.loc[places])
