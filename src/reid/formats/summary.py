"""What an import understood, in lines that a person reads."""

from collections.abc import Iterator

import pandas as pd

from reid.data.catalogue import COLUMNS
from reid.formats.importing import Imported
from reid.formats.merging import OPTIONAL

__all__ = ["describe_import", "first_rows", "import_warnings"]

SHOWN = 10
"""Rows that a dry run shows."""


def describe_import(imported: Imported) -> list[str]:
    """Return what was read, what its numbers and words were taken for, and what became of it."""
    rows = [row for row, _ in imported.boxed.rows]
    readable, unreadable, none = imported.dates
    table = imported.table
    known = table[table["identity"] != ""]
    return [
        f"read: {_count(len(rows), 'row')} on {_count(len({row.photograph for row in rows}), 'photograph')}",
        f"boxes: {_boxes(imported)}",
        f"dates: {readable} with, {none} without{f', {unreadable} that cannot be read' if unreadable else ''}",
        *(f"left out: {count} × {reason}" for reason, count in imported.left_out.most_common()),
        f"metadata.csv: {_count(imported.merged.added, 'row')} added, {imported.merged.found} were there"
        + (f" ({imported.merged.filled} of them filled up)" if imported.merged.filled else ""),
        f"it now names {_count(len(known[['dataset', 'identity']].drop_duplicates()), 'individual')} on "
        f"{_count(len(known), 'row')}; {_count(int(table['split'].isin(['query', 'test']).sum()), 'row')} to be named",
        f"datasets: {', '.join(f'{name} {count}' for name, count in table['dataset'].value_counts().items())}",
    ]


def _boxes(imported: Imported) -> str:
    layout, boxed = imported.layout, imported.boxed
    if layout is None:
        return "none, whole photographs"
    unit = "shares of the photograph" if layout.unit == "shares" else "pixels"
    count, rows = sum(box is not None for _, box in boxed.rows), len(boxed.rows)
    numbers = "x1,y1,x2,y2" if layout.corners else "x,y,w,h"
    cut = f"; {boxed.clipped} clipped at the edge" if boxed.clipped else ""
    turned = f"; {boxed.turned} made before EXIF rotation were turned" if boxed.turned else ""
    return f"on {count} of {_count(rows, 'row')}, {numbers} in {unit}{cut}{turned}"


def import_warnings(imported: Imported) -> Iterator[str]:
    """Yield what a person should look at."""
    merged, boxed = imported.merged, imported.boxed
    if boxed.lying:
        yield (
            f"boxes that leave a photograph that EXIF rotates, and lie within it as it is stored: {boxed.lying}. They "
            "were probably made before the rotation: remove these rows, and import again with --boxes-before-rotation"
        )
    for column, count in merged.changed.items():
        yield (
            f"column {column}: the source differs from metadata.csv in {_count(count, 'cell')}; the cells of "
            "metadata.csv stay unless --update is given"
        )
    if merged.gone:
        yield (
            f"{_count(merged.gone, 'row')} of earlier imports of {imported.source_format} are not in this source; they "
            "stay in metadata.csv, with what people answered about them"
        )
    for reason, places in imported.examples.items():
        if reason.startswith(("a box", "a path", "an absolute", "a photograph that", "a photograph named")):
            yield f"left out, {reason}: {', '.join(places)}{' ...' * (imported.left_out[reason] > len(places))}"


def first_rows(imported: Imported) -> pd.DataFrame:
    """Return the first rows that are new, without columns that are empty in all of them."""
    rows = imported.new_rows.head(SHOWN)
    columns = [name for name in (*COLUMNS, *OPTIONAL) if name in rows and (rows[name] != "").any()]
    return rows[columns]


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"
