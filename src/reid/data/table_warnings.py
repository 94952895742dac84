"""What is no fault of a table, but may not be as it was meant: dates, sides, names, columns that are not used."""

import re
from collections.abc import Iterator

import pandas as pd

from reid.config.recipe import UNKNOWN_WORDS, DataConfig
from reid.data.catalogue import Catalogue, numbered_cells
from reid.data.dates import PROBLEMS
from reid.data.names import describe_names, without_unknown
from reid.data.sides import read_side
from reid.data.spelling import is_unknown
from reid.runtime.files import first_of, group_rows

__all__ = ["find_date_warnings", "find_table_warnings"]

OLD = "1995"
"""Before it hardly anybody had a digital camera; scanned slides are real."""

USED = ("bbox", "bbox_unit", "mask", "encounter")

UNUSED = ("bbox", "xmin", "ymin", "segmentation", "mask", "encounter", "occurrence", "sequence", "cluster_id")
"""How columns begin that mean something in other tools, and that this version does not use."""


def find_table_warnings(catalogue: Catalogue) -> list[str]:
    """Return every warning of a table as it was read, in a sentence each; of names, what the default settings do."""
    return [
        *_empty_galleries(without_unknown(catalogue, DataConfig())),
        *find_date_warnings(catalogue),
        *_answered(catalogue),
        *describe_names(catalogue, DataConfig()),
        *_unknown_datasets(catalogue),
        *_blanks(catalogue),
        *_unread_sides(catalogue),
        *_unused_columns(catalogue),
        *_formulas(catalogue),
    ]


def _empty_galleries(catalogue: Catalogue) -> Iterator[str]:
    """Yield the datasets that have queries and no known photograph; a new species may begin like that."""
    if not len(catalogue.database):
        yield (
            "no row has split 'database': nobody is known here, so nobody can be named; add known animals, or let "
            "`reid discover` put the photographs together by individual, after `reid train` with --recipe keypoints"
        )
        return
    known = set(catalogue.database.table["dataset"])
    for dataset, queries in catalogue.query.by_dataset().items():
        if dataset not in known:
            yield (
                f"{dataset}: no row has split 'database', so nobody can be named there; its {len(queries)} "
                f"{'query' if len(queries) == 1 else 'queries'} can only be called new. Add photographs of known "
                "individuals"
            )


def find_date_warnings(catalogue: Catalogue) -> list[str]:
    """Return the dates of database rows that can't be read or believed, in a sentence per dataset and kind: such
    photographs count as undated. Those before 1995 are only told."""
    sentences = []
    for dataset, photographs in catalogue.database.by_dataset().items():
        table = photographs.table
        for problem, words in PROBLEMS.items():
            doubted = table["date"][table["date_problem"] == problem]
            if len(doubted):
                sentences.append(
                    f"{dataset}: {_some_dates(doubted, table['date'])} {words}. Correct them: without its day, a "
                    "photograph can't be kept apart from others of the same day, and the expected scores come out too "
                    "high"
                )
        old = table["date"][(table["day"] != "") & (table["day"] < OLD)]
        if len(old):
            sentences.append(
                f"{dataset}: {_some_dates(old, table['date'])} are before {OLD}: right if they were scanned"
            )
    return sentences


def _some_dates(some: pd.Series, dates: pd.Series) -> str:
    """3 of 20 dates (row 2: '2099-01-01'; 7; 9)"""
    rows = first_of([str(row) for row, _ in numbered_cells(some)])
    return f"{len(some)} of {(dates != '').sum()} dates ({str(some.iloc[0])[:99]!r}; row {rows})"


def _answered(catalogue: Catalogue) -> Iterator[str]:
    if answered := int(catalogue.table["answered"].sum()):
        yield (
            f"{answered} query {'row' if answered == 1 else 'rows'} with an identity, which is not used; answers "
            "belong in solution.csv, which `reid score` reads"
        )


def _unknown_datasets(catalogue: Catalogue) -> Iterator[str]:
    for dataset, rows in catalogue.by_dataset().items():
        if is_unknown(dataset, UNKNOWN_WORDS):
            yield (
                f"column dataset: {dataset!r} ({len(rows)} rows) is taken for a dataset's name; leave the cell of a "
                "query empty where it is not known"
            )


def _blanks(catalogue: Catalogue) -> Iterator[str]:
    """Yield identities that begin or end with blanks, as spreadsheets leave them."""
    identities = catalogue.table["identity"]
    cells = numbered_cells(identities[identities != identities.str.strip()])
    for rows, words in group_rows((row, f"{cell[:99]!r} begins or ends with a blank") for row, cell in cells):
        yield f"{rows}, column identity: {words}; it is another individual than without"


def _unread_sides(catalogue: Catalogue) -> Iterator[str]:
    sides = catalogue.table["orientation"]
    counts = sides[~sides.map(lambda cell: read_side(cell)[1])].value_counts()
    if len(counts):
        words = first_of(
            [f"{word[:99]!r} ({count})" for word, count in zip(counts.index.astype(str), counts, strict=True)]
        )
        yield (
            f"column orientation: {words}: no side that is known here; such photographs count as showing a side of "
            "their own. Write left, right, front, back, top, bottom, or leave it empty"
        )


def _unused_columns(catalogue: Catalogue) -> Iterator[str]:
    table = catalogue.table
    meant = [
        column for column in map(str, table.columns) if column.casefold().startswith(UNUSED) and column not in USED
    ]
    filled = [column for column in meant if (table[column] != "").any()]
    if filled:
        yield f"columns {', '.join(filled)}: not used by this version; boxes stand in bbox and bbox_unit"


def _formulas(catalogue: Catalogue) -> Iterator[str]:
    """Yield image_ids and identities that a spreadsheet would run as formulas when somebody opens a submission.

    They are names like others here, and must be written as they are: Kaggle compares them letter by letter.
    """
    cells = pd.unique(pd.concat([catalogue.table["image_id"], catalogue.table["identity"]]))
    formulas = [cell for cell in cells if re.match(r"[=@\t]|[+-](?![\d.]+$)", cell)]
    if formulas:
        yield (
            f"a spreadsheet runs names such as {formulas[0][:99]!r} ({len(formulas)}) as formulas: open submissions "
            "with these columns as text"
        )
