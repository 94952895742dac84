"""TODO data.checks."""

import os
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
import pandas as pd

from reid.data.catalogue import DATASET_NAME, NAME, NEW_INDIVIDUAL, SPLITS, Catalogue, leads_below, read_rows
from reid.data.photographs import BROKEN, UnreadableError, open_image, open_photograph, undecodable
from reid.errors import InputError
from reid.runtime.distributed import core_count
from reid.runtime.files import group_rows, sha256_of
from reid.runtime.progress import track

__all__ = [
    "describe",
    "describe_unreadable",
    "find_blanks",
    "find_faults",
    "find_formulas",
    "find_unread_dates",
    "numbered_cells",
    "read_catalogue",
    "scan_files",
]


def read_catalogue(folder: Path | str) -> Catalogue:
    """Read and validates `folder/metadata.csv`.

    Raises:
        InputError: the file is missing or has a fault; the first one is named, `check` lists all.
    """
    catalogue = read_rows(Path(folder))
    faults = find_faults(catalogue)
    if faults:
        others = f" ({len(faults) - 1} more: `python -m reid check {folder}` lists them)" if len(faults) > 1 else ""
        raise InputError(f"{catalogue.root / 'metadata.csv'}: {faults[0]}{others}")
    return catalogue


class _Check(NamedTuple):
    """What is expected of a column's cells."""

    column: str
    expected: str
    faulty: pd.Series
    """bool, the rows that are otherwise."""


def find_faults(catalogue: Catalogue) -> list[str]:
    """Return every fault of the rows in a sentence that names the row, what was expected, what was found and what to
    do.

    Rows that share a fault to the letter, as those behind one link do, share a sentence when they are many.
    """
    table = catalogue.table
    sentences = [
        {
            row: f"{check.column}: {check.expected}; found {cell[:99]!r}. Mend or remove it"
            for row, cell in numbered_cells(table.loc[check.faulty, check.column])
        }
        for check in _checks(table)
    ]
    outside = table["path"].map(leads_below) & ~table["path"].map(_is_inside(catalogue.root))
    sentences.append(
        {
            row: "path: expected a path that stays in the data folder, links followed, but a link leads out of it; "
            f"found {_link_in(catalogue.root, cell)}. Copy what it leads to into the folder, or remove the rows"
            for row, cell in numbered_cells(table.loc[outside, "path"])
        }
    )
    faults = [f"{rows}, column {words}" for kind in sentences for rows, words in group_rows(kind.items())]
    if not (table["split"] == "database").any():
        faults.append(
            "expected rows with split 'database' to learn from, found none; add the photographs that are known"
        )
    return faults


def _checks(table: pd.DataFrame) -> list[_Check]:
    """Return what the table alone can tell, in the order in which faults are named."""
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
        _Check("path", "expected a relative path that stays in the data folder", ~table["path"].map(leads_below)),
    ]


def _fits(column: pd.Series, pattern: re.Pattern[str]) -> pd.Series:
    """Return whether each cell is what the pattern describes, from its beginning to its end."""
    return column.map(lambda cell: bool(pattern.fullmatch(cell)))


def describe_unreadable(catalogue: Catalogue, problems: Mapping[str, str]) -> list[str]:
    """Return what is wrong with photographs, in sentences that name their rows; many with the same problem share one.

    Args:
        catalogue: the photographs.
        problems: by image_id.
    """
    ids = dict(numbered_cells(catalogue.table["image_id"][catalogue.table["image_id"].isin(list(problems))]))
    told = group_rows((row, problems[image_id]) for row, image_id in ids.items())
    names = {f"row {row}": catalogue.row_name(image_id) for row, image_id in ids.items()}
    return [f"{names.get(rows, rows)}: {problem}" for rows, problem in told]


def numbered_cells(column: pd.Series) -> list[tuple[int, str]]:
    """Return the cells with their rows, as a spreadsheet counts."""
    return list(zip((column.index.to_numpy(int) + 2).tolist(), column.tolist(), strict=True))


def _link_in(root: Path, path: str) -> str:
    """Return the first link of a path that leads out of the folder, and where to."""
    inside = _is_inside(root)
    parts = PurePosixPath(path).parts
    ways = ("/".join(parts[:end]) for end in range(1, len(parts) + 1))
    link = next((way for way in ways if not inside(way)), path)
    return f"{link!r}, which is {os.path.realpath(root / link)!r}"


def _is_inside(root: Path) -> "_Inside":
    return _Inside(os.path.realpath(root))


@dataclass(frozen=True)
class _Inside:
    """Whether a relative path stays in the folder, links followed."""

    root: str

    def __call__(self, path: str) -> bool:
        if not leads_below(path):
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
    told = ((row, f"{cell[:99]!r} begins or ends with a blank") for row, cell in numbered_cells(blank))
    words = "it is another individual than without"
    return [f"{rows}, column identity: {cell}; {words}" for rows, cell in group_rows(told)]


def find_unread_dates(catalogue: Catalogue) -> list[str]:
    """Return the dates that can't be read, in a sentence per dataset; no faults, for such photographs count as
    undated."""
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
    """Count a person can use, one row per dataset.

    Args:
        catalogue: the photographs.
        survey: what their files are: columns image_id, sha256, problem (see `images.scan_files`), any order.

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


def scan_files(catalogue: Catalogue) -> pd.DataFrame:
    """Open every photograph of a catalogue in full.

    Returns:
        One row per photograph, in order: image_id, sha256 of the file ("" when it can't be read), width and height in
        pixels (0 when unknown), and problem ("" when it can be opened).
    """
    with ThreadPoolExecutor(max_workers=core_count()) as pool:  # decoding releases Python's lock
        looked = track(pool.map(_scan_file, catalogue.paths), "opening photographs", total=len(catalogue))
        rows = [(image_id, *row) for image_id, row in zip(catalogue.image_ids, looked, strict=True)]
    return pd.DataFrame(rows, columns=["image_id", "sha256", "width", "height", "problem"])


def _scan_file(path: Path) -> tuple[str, int, int, str]:
    try:
        with open_image(path) as image:
            width, height = image.size
        open_photograph(path, 16)  # what passes here passes everywhere: there is one door
        return sha256_of(path), width, height, ""
    except UnreadableError as unreadable:
        return "", 0, 0, str(unreadable)
    except BROKEN as problem:
        return "", 0, 0, undecodable(problem)
