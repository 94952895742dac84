"""The photographs of a data folder: `metadata.csv` -> a validated `Catalogue`.

The columns are those of the Kaggle competition AnimalCLEF25. Networks, galleries and thresholds are made per value of
the column `dataset`, whatever the names; `species` is empty on whole splits of the competition's data and only read by
people.
"""

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import pandas as pd

from reid.errors import InputError
from reid.runtime.files import read_table

__all__ = ["COLUMNS", "NEW_INDIVIDUAL", "Catalogue", "leads_below", "read_rows", "rows_to_predict"]

NEW_INDIVIDUAL = "new_individual"
"""What a submission says of a photograph whose animal is not in the database (the competition's word)."""


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
        """Return the photographs of one dataset."""
        return self._where(self.table["dataset"] == dataset)

    def by_dataset(self) -> dict[str, "Catalogue"]:
        """Return a catalogue per dataset, in alphabetical order; rows without a dataset are in none."""
        return {dataset: self.of(dataset) for dataset in sorted(set(self.table["dataset"]) - {""})}

    def without(self, image_ids: Sequence[str]) -> "Catalogue":
        """Return the photographs that are not named."""
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
        """Return how a message names a row: as a spreadsheet counts, the header being row 1."""
        rows = self.table[self.table["image_id"] == image_id]
        return f"row {rows.index.to_numpy(int)[0] + 2} (image_id {image_id}, {rows['path'].iloc[0]})"

    def _where(self, mask: pd.Series) -> "Catalogue":
        return replace(self, table=self.table[mask])


def read_rows(folder: Path) -> Catalogue:
    """Read `folder/metadata.csv` without looking for faults in its rows.

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
    """Return the days as they are written, whatever the clock and the time zone, as YYYY-MM-DD, or YYYY-MM or YYYY
    where no more is told; "" where none can be read."""
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


def _size(path: Path) -> str:
    try:
        return str(path.stat().st_size) if path.is_file() else "missing"
    except OSError:  # a name that is too long, a folder that may not be entered
        return "missing"


def leads_below(path: str) -> bool:
    """Return whether a path is relative and leads downwards, as it is written."""
    parts = PurePosixPath(path)
    return bool(path) and "\0" not in path and not parts.is_absolute() and ".." not in parts.parts


def rows_to_predict(catalogue: Catalogue) -> Catalogue:
    """Return the query rows in the order of `sample_submission.csv`, or of metadata.csv where there is none.

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
