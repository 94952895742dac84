"""What `check` reports of a data folder apart from faults: warnings, counts and photographs that can't be opened."""

import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd

from reid.data.catalogue import Catalogue, numbered_cells
from reid.data.photographs import BROKEN, UnreadableError, open_image, open_photograph, undecodable
from reid.runtime.distributed import core_count
from reid.runtime.files import group_rows, sha256_of
from reid.runtime.progress import track

__all__ = [
    "describe",
    "describe_unreadable",
    "find_blanks",
    "find_empty_galleries",
    "find_formulas",
    "find_unread_dates",
    "scan_files",
]


def find_formulas(catalogue: Catalogue) -> list[str]:
    """Return image_ids and identities that a spreadsheet would run as formulas when somebody opens a submission.

    They are names like others here, and must be written as they are: Kaggle compares them letter by letter.
    """
    cells = pd.unique(pd.concat([catalogue.table["image_id"], catalogue.table["identity"]]))
    return [cell for cell in cells if re.match(r"[=@\t]|[+-](?![\d.]+$)", cell)]


def find_blanks(catalogue: Catalogue) -> list[str]:
    """Return identities that begin or end with blanks, as spreadsheets leave them, in a sentence with their rows."""
    identities = catalogue.table["identity"]
    cells = numbered_cells(identities[identities != identities.str.strip()])
    sentences = group_rows((row, f"{cell[:99]!r} begins or ends with a blank") for row, cell in cells)
    return [f"{rows}, column identity: {words}; it is another individual than without" for rows, words in sentences]


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
                f"found {str(unread.iloc[0])[:99]!r}. Correct them: without its day, a photograph can't be kept apart "
                "from others of the same day, and the expected scores come out too high"
            )
    return sentences


def find_empty_galleries(catalogue: Catalogue) -> list[str]:
    """Return the datasets that have queries and no known photograph, in a sentence each; no faults, for a new species
    may begin like that."""
    known = set(catalogue.database.table["dataset"])
    return [
        f"{dataset}: no row has split 'database', so nobody can be named there; its {len(queries)} "
        f"{'query' if len(queries) == 1 else 'queries'} can only be called new. Add photographs of known individuals"
        for dataset, queries in catalogue.query.by_dataset().items()
        if dataset not in known
    ]


def describe(catalogue: Catalogue, files: pd.DataFrame) -> pd.DataFrame:
    """Count what is there, one row per dataset.

    Args:
        catalogue: the photographs.
        files: columns image_id, sha256, problem of their files in any order, see `scan_files`.

    Returns:
        Columns dataset, images, individuals, singletons, largest, query, unreadable (files missing or broken) and
        duplicates (query photographs whose bytes are in the database too).
    """
    table = catalogue.table[["image_id", "identity", "split", "dataset"]]
    table = table.merge(files[["image_id", "sha256", "problem"]], on="image_id", how="left")
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
                "duplicates": int(query["sha256"].isin(known_bytes).sum()),
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
        files = track(pool.map(_scan_file, catalogue.paths), "opening photographs", total=len(catalogue))
        rows = [(image_id, *file) for image_id, file in zip(catalogue.image_ids, files, strict=True)]
    return pd.DataFrame(rows, columns=["image_id", "sha256", "width", "height", "problem"])


def _scan_file(path: Path) -> tuple[str, int, int, str]:
    try:
        with open_image(path) as image:
            width, height = image.size
        open_photograph(path, 16)  # as every other part of the kit opens it: what passes here passes everywhere
        return sha256_of(path), width, height, ""
    except UnreadableError as unreadable:
        return "", 0, 0, str(unreadable)
    except BROKEN as problem:
        return "", 0, 0, undecodable(problem)


def describe_unreadable(catalogue: Catalogue, problems: Mapping[str, str]) -> list[str]:
    """Return what is wrong with photographs, in sentences that name their rows; many with the same problem share one.

    Args:
        catalogue: the photographs.
        problems: by image_id.
    """
    ids = dict(numbered_cells(catalogue.table["image_id"][catalogue.table["image_id"].isin(list(problems))]))
    sentences = group_rows((row, problems[image_id]) for row, image_id in ids.items())
    names = {f"row {row}": catalogue.row_name(image_id) for row, image_id in ids.items()}
    return [f"{names.get(rows, rows)}: {problem}" for rows, problem in sentences]
