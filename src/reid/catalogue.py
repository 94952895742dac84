"""The photographs of a data folder: `metadata.csv` -> a validated `Catalogue`.

The columns are those of the Kaggle competition AnimalCLEF25. Networks, galleries and thresholds are made per value of
the column `dataset`, whatever the names; `species` is empty on whole splits of the competition's data and only read by
people.
"""

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
import pandas as pd

from reid import NEW_INDIVIDUAL, InputError
from reid.files import read_table, rows_alike

__all__ = [
    "COLUMNS",
    "Catalogue",
    "describe",
    "find_blanks",
    "find_faults",
    "find_formulas",
    "find_unread_dates",
    "read_catalogue",
    "read_rows",
    "tell_problems",
    "wanted_rows",
]

COLUMNS = ("image_id", "identity", "path", "date", "orientation", "species", "split", "dataset")
SPLITS = ("database", "query")
DATASET_NAME = re.compile(r"(?!species$|.*\.gallery$)\w[\w.-]{0,99}", re.ASCII | re.IGNORECASE)
"""A dataset's name becomes a file's name in the weights folder, beside `species.safetensors` and other datasets'
`NAME.gallery.safetensors`."""

NAME = re.compile(r"(?:[^\x00-\x1f\x7f]|\t|\r?\n){0,200}")
"""What may stand in the columns image_id and identity, which are written again into submissions and galleries: a NUL
would be lost in an array of words, a lone carriage return break a row, and one cell of a megabyte be a gigabyte in an
array of a thousand."""

WRITTEN = re.compile(r"^(\d{4})([-:])(\d\d?)(?:\2(\d\d?))?(?!\d)")
"""Year, month and day with hyphens or with the colons of EXIF 2.32, whose month and day may have one digit."""


@dataclass(frozen=True)
class Catalogue:
    """The photographs of one data folder, or a selection of them.

    Attributes:
        root: the data folder; `path` cells are relative to it.
        table: one row per photograph, every cell of the file a `str`. The columns `COLUMNS`, `day` (the date as
            YYYY-MM-DD, empty where none can be read), `answered` (whether a query's identity was taken out) and
            whatever else the file has. The index is the row's place in `metadata.csv`.
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
        """The photographs of one dataset."""
        return self._where(self.table["dataset"] == dataset)

    def by_dataset(self) -> dict[str, "Catalogue"]:
        """A catalogue per dataset, in alphabetical order; rows without a dataset are in none."""
        return {dataset: self.of(dataset) for dataset in sorted(set(self.table["dataset"]) - {""})}

    def without(self, image_ids: Sequence[str]) -> "Catalogue":
        """The photographs that are not named."""
        return self._where(~self.table["image_id"].isin(list(image_ids)))

    def limited(self, photographs: int) -> "Catalogue":
        """At most so many database photographs per dataset, as whole individuals (at least one); and every query."""
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
        """Per photograph the file's place."""
        return [self.root / path for path in self.table["path"]]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the rows and of the files' sizes, in hex: another label or another photograph changes it.

        Sizes instead of contents, because 13,000 photographs are 13 GB to read.
        """
        rows = self.table.assign(size=[_size(path) for path in self.paths]).sort_values("image_id")[[*COLUMNS, "size"]]
        return hashlib.sha256(rows.to_csv(index=False, lineterminator="\n").encode()).hexdigest()

    def row_name(self, image_id: str) -> str:
        """How a message names a row: as a spreadsheet counts, the header being row 1."""
        rows = self.table[self.table["image_id"] == image_id]
        return f"row {rows.index.to_numpy(int)[0] + 2} (image_id {image_id}, {rows['path'].iloc[0]})"

    def _where(self, mask: pd.Series) -> "Catalogue":
        return replace(self, table=self.table[mask])


def read_catalogue(folder: Path) -> Catalogue:
    """Reads and validates `folder/metadata.csv`.

    Raises:
        InputError: the file is missing or has a fault; the first one is named, `check` lists all.
    """
    catalogue = read_rows(folder)
    faults = find_faults(catalogue)
    if faults:
        others = f" ({len(faults) - 1} more: `python -m reid check {folder}` lists them)" if len(faults) > 1 else ""
        raise InputError(f"{folder / 'metadata.csv'}: {faults[0]}{others}")
    return catalogue


def read_rows(folder: Path) -> Catalogue:
    """Reads `folder/metadata.csv` without looking for faults in its rows.

    Raises:
        InputError: the file is missing, empty or no CSV with the columns.
    """
    if not folder.is_dir():
        raise InputError(
            f"{folder}: expected a folder with metadata.csv, found "
            + ("a file; name the folder that it lies in" if folder.exists() else "no such folder; mend the name")
        )
    if not os.path.exists(folder / "metadata.csv"):
        raise InputError(f"{folder}: expected a folder with metadata.csv, found none in it; name the one that holds it")
    table = read_table(folder / "metadata.csv", COLUMNS)
    if table.empty:
        raise InputError(f"{folder / 'metadata.csv'}: expected one row per photograph, found none below the header")
    table["day"] = _days(table["date"])
    # a query's identity is what is asked for: where a file gives it away, nothing downstream may see it
    table["answered"] = (table["split"] == "query") & (table["identity"] != "")
    table.loc[table["answered"], "identity"] = ""
    return Catalogue(root=folder, table=table)


def _days(dates: pd.Series) -> pd.Series:
    """The days as they are written, whatever the clock and the time zone, as YYYY-MM-DD, or YYYY-MM or YYYY where no
    more is told; "" where none can be read."""
    padded = dates.str.replace(WRITTEN, _padded, regex=True)
    # without this pandas takes "now" for a date
    written = padded.str.extract(r"^(\d{4}(?:-?\d\d){0,2})(?:[T ].*)?$", expand=False)
    days = pd.to_datetime(written, errors="coerce", format="ISO8601")
    digits, whole = written.str.replace("-", "").str.len(), days.dt.strftime("%Y-%m-%d")
    told = whole.where(digits == 8, whole.str[:7].where(digits == 6, whole.str[:4]))
    return told.fillna("").astype(object)


def _padded(written: re.Match[str]) -> str:
    """2020:5:3 -> 2020-05-03"""
    return "-".join(number.zfill(2) for number in written.group(1, 3, 4) if number)


class _Check(NamedTuple):
    """What is expected of a column's cells."""

    column: str
    expected: str
    faulty: pd.Series
    """bool, the rows that are otherwise."""


def find_faults(catalogue: Catalogue) -> list[str]:
    """Every fault of the rows in a sentence that names the row, what was expected, what was found and what to do.

    Rows that share a fault to the letter, as those behind one link do, share a sentence when they are many.
    """
    table = catalogue.table
    sentences = [
        {
            row: f"{check.column}: {check.expected}; found {cell[:99]!r}. Mend or remove it"
            for row, cell in _cells(table.loc[check.faulty, check.column])
        }
        for check in _checks(table)
    ]
    outside = table["path"].map(_is_below) & ~table["path"].map(_is_inside(catalogue.root))
    sentences.append(
        {
            row: "path: expected a path that stays in the data folder, links followed, but a link leads out of it; "
            f"found {_link_in(catalogue.root, cell)}. Copy what it leads to into the folder, or remove the rows"
            for row, cell in _cells(table.loc[outside, "path"])
        }
    )
    faults = [f"{rows}, column {words}" for kind in sentences for rows, words in rows_alike(kind.items())]
    if not (table["split"] == "database").any():
        faults.append(
            "expected rows with split 'database' to learn from, found none; add the photographs that are known"
        )
    return faults


def _checks(table: pd.DataFrame) -> list[_Check]:
    """What the table alone can tell, in the order in which faults are named."""
    image_id, identity, dataset = table["image_id"], table["identity"], table["dataset"]
    database = table["split"] == "database"
    characters = "expected 200 characters at most, and no control characters among them"
    return [
        _Check("image_id", characters, ~_fits(image_id, NAME)),
        _Check("identity", characters, ~_fits(identity, NAME)),
        _Check("image_id", "expected an id, found an empty cell", image_id == ""),
        _Check("image_id", "expected every id once, it came before", image_id.duplicated() & (image_id != "")),
        _Check("split", "expected database or query", ~table["split"].isin(SPLITS)),
        _Check("identity", "expected the individual on a database row", database & (identity == "")),
        _Check("identity", "expected an individual; that word is the submission's", identity == NEW_INDIVIDUAL),
        _Check(
            "dataset",
            "expected a name of letters, digits, '_', '-', '.' (it names files), other than 'species' and 'X.gallery'",
            (database | (dataset != "")) & ~_fits(dataset, DATASET_NAME),
        ),
        _Check("path", "expected a relative path that stays in the data folder", ~table["path"].map(_is_below)),
    ]


def _fits(column: pd.Series, pattern: re.Pattern[str]) -> pd.Series:
    """Whether each cell is what the pattern describes, from its beginning to its end."""
    return column.map(lambda cell: bool(pattern.fullmatch(cell)))


def tell_problems(catalogue: Catalogue, problems: Mapping[str, str]) -> list[str]:
    """What is wrong with photographs, in sentences that name their rows; many with the same problem share one.

    Args:
        catalogue: the photographs.
        problems: by image_id.
    """
    ids = dict(_cells(catalogue.table["image_id"][catalogue.table["image_id"].isin(list(problems))]))
    told = rows_alike((row, problems[image_id]) for row, image_id in ids.items())
    names = {f"row {row}": catalogue.row_name(image_id) for row, image_id in ids.items()}
    return [f"{names.get(rows, rows)}: {problem}" for rows, problem in told]


def _cells(column: pd.Series) -> list[tuple[int, str]]:
    """The cells with their rows, as a spreadsheet counts."""
    return list(zip((column.index.to_numpy(int) + 2).tolist(), column.tolist(), strict=True))


def _link_in(root: Path, path: str) -> str:
    """The first link of a path that leads out of the folder, and where to."""
    inside = _is_inside(root)
    parts = PurePosixPath(path).parts
    ways = ("/".join(parts[:end]) for end in range(1, len(parts) + 1))
    link = next((way for way in ways if not inside(way)), path)
    return f"{link!r}, which is {os.path.realpath(root / link)!r}"


def _size(path: Path) -> str:
    try:
        return str(path.stat().st_size) if path.is_file() else "missing"
    except OSError:  # a name that is too long, a folder that may not be entered
        return "missing"


def _is_below(path: str) -> bool:
    """Whether a path is relative and leads downwards, as it is written."""
    parts = PurePosixPath(path)
    return bool(path) and "\0" not in path and not parts.is_absolute() and ".." not in parts.parts


def _is_inside(root: Path) -> "_Inside":
    return _Inside(os.path.realpath(root))


@dataclass(frozen=True)
class _Inside:
    """Whether a relative path stays in the folder, links followed."""

    root: str

    def __call__(self, path: str) -> bool:
        if not _is_below(path):
            return False
        return os.path.realpath(os.path.join(self.root, path)).startswith(self.root.rstrip(os.sep) + os.sep)


def find_formulas(catalogue: Catalogue) -> list[str]:
    """Image_ids and identities that a spreadsheet would run as formulas when somebody opens a submission with them.

    They are names like others here, and must be written as they are: Kaggle compares them letter by letter.
    """
    cells = pd.unique(pd.concat([catalogue.table["image_id"], catalogue.table["identity"]]))
    return [cell for cell in cells if re.match(r"[=@\t]|[+-](?![\d.]+$)", cell)]


def find_blanks(catalogue: Catalogue) -> list[str]:
    """Identities that begin or end with blanks, as spreadsheets leave them, in a sentence with their rows."""
    identities = catalogue.table["identity"]
    blank = identities[identities != identities.str.strip()]
    told = ((row, f"{cell[:99]!r} begins or ends with a blank") for row, cell in _cells(blank))
    words = "it is another individual than without"
    return [f"{rows}, column identity: {cell}; {words}" for rows, cell in rows_alike(told)]


def find_unread_dates(catalogue: Catalogue) -> list[str]:
    """The dates that can't be read, in a sentence per dataset; no faults, for such photographs count as undated."""
    sentences = []
    for dataset, photographs in catalogue.by_dataset().items():
        dates = photographs.table["date"][photographs.table["date"] != ""]
        unread = dates[photographs.table["day"][dates.index] == ""]
        if len(unread):
            rows = ", ".join(str(place + 2) for place in unread.index[:5]) + ", ..." * (len(unread) > 5)
            sentences.append(
                f"{dataset}: {len(unread)} of {len(dates)} dates can't be read (row {rows}): expected YYYY-MM-DD, "
                f"found {str(unread.iloc[0])[:99]!r}. Mend them: nothing keeps photographs of one day from vouching "
                "for each other"
            )
    return sentences


def describe(catalogue: Catalogue, survey: pd.DataFrame) -> pd.DataFrame:
    """Counts a person can use, one row per dataset.

    Args:
        catalogue: the photographs.
        survey: what their files are: columns image_id, sha256, problem (see `images.survey`), any order.

    Returns:
        Columns dataset, images, individuals, singletons, largest, query, unreadable (files missing or broken) and
        duplicates (query photographs whose bytes are in the database too).
    """
    table = catalogue.table[["image_id", "identity", "split", "dataset"]]
    table = table.merge(survey[["image_id", "sha256", "problem"]], on="image_id", how="left")
    known_bytes = set(table.loc[(table["split"] == "database") & (table["sha256"] != ""), "sha256"])
    rows = []
    for dataset, photographs in table.groupby("dataset", sort=True):
        database, query = photographs[photographs["split"] == "database"], photographs[photographs["split"] == "query"]
        sizes = database["identity"].value_counts()
        rows.append(
            {
                "dataset": dataset or "(none)",
                "images": len(database),
                "individuals": len(sizes),
                "singletons": int((sizes == 1).sum()),
                "largest": int(sizes.max()) if len(sizes) else 0,
                "query": len(query),
                "unreadable": int((photographs["problem"] != "").sum()),
                "duplicates": int(np.isin(query["sha256"].to_numpy(str), list(known_bytes)).sum())
                if known_bytes
                else 0,
            }
        )
    return pd.DataFrame(rows)


def wanted_rows(catalogue: Catalogue) -> Catalogue:
    """The query rows in the order of `sample_submission.csv`, or of metadata.csv where there is none.

    Raises:
        InputError: there are no queries, or the sample names photographs that are none.
    """
    queries = catalogue.query
    if not len(queries):
        raise InputError(f"{catalogue.root / 'metadata.csv'}: expected rows with split 'query' to answer, found none")
    sample = catalogue.root / "sample_submission.csv"
    if not sample.exists():
        return queries
    wanted = read_table(sample, ("image_id",))["image_id"]
    if wanted.empty:
        raise InputError(f"{sample}: expected the rows to answer, found none below the header; remove or mend the file")
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
