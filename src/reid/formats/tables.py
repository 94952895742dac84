"""Tables of other tools, CSV or XLSX, read row by row as text."""

import csv
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from reid.errors import InputError
from reid.runtime.files import is_file, refuse_header

__all__ = ["read_header", "read_rows"]

LONGEST_CELL = 1 << 24
"""Characters; a polygon of an animal has some thousands, and Python's own limit is 131,072."""


def read_rows(path: Path, columns: tuple[str, ...] = ()) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the rows of a table, each with how a message names it ("row 2") and its cells as text.

    Args:
        path: `.csv` in UTF-8, with commas, or `.xlsx`, whose first sheet counts.
        columns: those that must be there.

    Raises:
        InputError: no such file, no such table, a column is missing or comes twice, a row has other columns; or
            openpyxl is not installed and the file is an XLSX.
    """
    records = _records(path)
    header = next(records, [])
    refuse_header(path, header, columns)
    for number, record in enumerate(records, 2):
        if not any(record):
            continue
        if len(record) != len(header):
            raise InputError(
                f"{path}: row {number}: expected {len(header)} cells as in the first line, found {len(record)}; the "
                "file may have been cut short, or a cell that holds a comma is not between double quotes"
            )
        yield f"row {number}", dict(zip(header, record, strict=True))


def read_header(path: Path) -> list[str]:
    """Return the names of a table's columns.

    Raises:
        InputError: as `read_rows`.
    """
    return next(_records(path), [])


def _records(path: Path) -> Iterator[list[str]]:
    if not is_file(path):
        raise InputError(f"{path}: expected a table here, found {'a folder' if path.is_dir() else 'none'}")
    yield from _of_sheet(path) if path.suffix.casefold() in (".xlsx", ".xlsm") else _of_csv(path)


def _of_csv(path: Path) -> Iterator[list[str]]:
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_CELL))
    with open(path, encoding="utf-8-sig", newline="") as opened:
        reader = csv.reader(opened, strict=True)
        try:
            yield from reader
        except csv.Error as problem:
            raise InputError(
                f"{path}: line {reader.line_num}: expected a CSV file, but it can't be read ({problem}); it may have "
                "been cut short: copy it again"
            ) from None
        except UnicodeDecodeError as problem:
            raise InputError(
                f'{path}: expected a CSV file in UTF-8, but it can\'t be read ({problem}); save it as "CSV UTF-8"'
            ) from None


def _of_sheet(path: Path) -> Iterator[list[str]]:
    try:
        import openpyxl
    except ImportError:
        raise InputError(
            f"{path}: expected a .csv, because reading .xlsx needs openpyxl; `pip install openpyxl`, or save the "
            'sheet as "CSV UTF-8"'
        ) from None
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    except Exception as problem:  # zipfile's, openpyxl's and xml's own
        raise InputError(f"{path}: expected an XLSX file, but it can't be read ({problem}); save it again") from None
    rows = [[_as_text(cell) for cell in row] for row in book.worksheets[0].iter_rows(values_only=True)]
    book.close()
    width = max((place + 1 for place, cell in enumerate(rows[0]) if cell), default=0) if rows else 0
    yield from (row[:width] + [""] * (width - len(row)) for row in rows)


def _as_text(cell: Any) -> str:
    """7.0 -> "7": a spreadsheet keeps every number as a float"""
    if cell is None:
        return ""
    if isinstance(cell, datetime):
        return cell.isoformat(" ")
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell)
