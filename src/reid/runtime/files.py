"""Files that are either complete or absent, and the hashes that prove it."""

import csv
import hashlib
import json
import os
import secrets
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from reid.errors import InputError

__all__ = [
    "ALIKE",
    "as_fields",
    "atomic_path",
    "first_of",
    "group_rows",
    "is_file",
    "read_json",
    "read_table",
    "refuse_unwritable",
    "sha256_of",
    "write_bytes",
    "write_json",
    "write_table",
]

ALIKE = 9
"""Rows or photographs with the very same fault are told one by one up to so many, and together beyond."""


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Return a temporary path beside `path`; renames it to `path` when the block ends well, removes it when not.

    The bytes are on the disk before the rename, so a file that exists under its final name is complete, whatever
    happened to the process or the machine.

    Raises:
        InputError: the disk is full, the folder can't be written, or a pipe or a device has that name.
    """
    _refuse_special(path)
    # numbers of processes repeat on other machines, which may share the folder
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    except OSError as problem:
        raise InputError(
            f"{path}: could not be written ({problem.strerror or problem}); nothing was left under that name. "
            "Free some space or choose a folder that can be written, then run the command again"
        ) from problem
    finally:
        with suppress(OSError):  # nothing there, or a place that can hold nothing
            temporary.unlink()


def refuse_unwritable(path: Path) -> None:
    """Refuse a place that could not be written: noticed after the last photograph, hours of work would be lost.

    Raises:
        InputError: a folder, a pipe or a device lies there, or its own folder can't be written.
    """
    if path.is_dir():
        raise InputError(f"{path}: expected the name of a file to write, found a folder; name a file in it")
    _refuse_special(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):  # it has no name, so that nothing is left of it
            pass
    except OSError as problem:
        raise InputError(
            f"{path}: could not be written ({problem.strerror or problem}); choose another folder, or free some space"
        ) from None


def _refuse_special(path: Path) -> None:
    """Return a rename would put a file in the place of a pipe or a device."""
    if os.path.exists(path) and not (path.is_file() or path.is_dir()):
        raise InputError(f"{path}: expected the name of a file to write, found a pipe or a device; name another")


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex."""
    with open(path, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def write_json(path: Path, content: Any) -> None:
    """Write JSON that a person can read, keys in the order given."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        InputError: the file is missing, unreadable or no JSON.
    """
    _refuse_others(path, "a JSON file")
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as problem:  # a million brackets are a recursion
        raise InputError(f"{path}: expected JSON, but it can't be read ({problem})") from None


def is_file(path: Path) -> bool:
    """Return whether a file lies there: a pipe would be waited for, a device read without end."""
    try:
        return path.is_file()
    except OSError:  # a name that is too long, a folder that may not be entered
        return False


def _refuse_others(path: Path, wanted: str) -> None:
    if not is_file(path):
        found = "none"
        with suppress(OSError):  # of a name that is too long
            found = "a folder" if path.is_dir() else "a pipe or a device" if path.exists() else "none"
        raise InputError(f"{path}: expected {wanted} here, found {found}")


def as_fields(values: dict[str, Any]) -> dict[str, Any]:
    """Return what JSON gives back of a dataclass of numbers, words and tuples: its lists are tuples again."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a CSV file with LF line ends and no index."""
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")


def read_table(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    """Read a CSV file as text cells: nothing is guessed, an empty cell is the empty string.

    Args:
        path: a comma-separated file in UTF-8, with or without a byte order mark.
        columns: the columns that must be there; others are kept as they are.

    Returns:
        One row per record, every cell a `str`. Row i of the table is record i + 1 of the file, its header not counted.

    Raises:
        InputError: the file is missing or no such CSV; a column is missing or stands twice; a row has other columns.
    """
    _refuse_others(path, "a CSV file")
    try:
        header, *records = _records(path) or [[]]
    except (OSError, ValueError) as problem:
        advice = '; save it as "CSV UTF-8"' if isinstance(problem, UnicodeDecodeError) else ""
        raise InputError(f"{path}: expected a CSV file in UTF-8, but it can't be read ({problem}){advice}") from None
    missing = [column for column in columns if column not in header]
    if missing:
        separated = len(header) == 1 and any(separator in header[0] for separator in ";\t")
        advice = "Separate the columns with commas" if separated else "Rename or add them"
        raise InputError(
            f"{path}: expected the columns {', '.join(columns)} in the first line, "
            f"found {', '.join(header) or 'none'}; missing: {', '.join(missing)}. {advice}"
        )
    doubled = sorted({column for column in header if header.count(column) > 1})
    if doubled:
        raise InputError(
            f"{path}: the first line names {', '.join(doubled)} more than once; keep one column of each name"
        )
    for place, record in enumerate(records):
        if len(record) != len(header):  # pandas would fill up or cut off such a row without a word
            raise InputError(
                f"{path}: row {place + 2}: expected {len(header)} cells as in the first line, found {len(record)}; "
                "a cell that holds a comma stands between double quotes"
            )
    return pd.DataFrame(records, columns=header, dtype=str)


def _records(path: Path) -> list[list[str]]:
    """Return the cells of every record, the header among them, without empty lines at the end."""
    with open(path, encoding="utf-8-sig", newline="") as opened:
        reader = csv.reader(opened, strict=True)
        try:
            records = list(reader)
        except csv.Error as problem:
            raise ValueError(f"line {reader.line_num}: {problem}") from None
    while records and not records[-1]:
        records.pop()
    return records


def group_rows(told: Iterable[tuple[int, str]]) -> list[tuple[str, str]]:
    """Rows and what is told of them: ("row 7", ...), or ("rows 7-20, 31", ...) where many have the very same.

    Args:
        told: rows as a spreadsheet counts them, ascending, and words; a row may come with several.
    """
    sentences: list[tuple[str, str]] = []
    alike: dict[str, list[int]] = {}
    for row, words in told:
        alike.setdefault(words, []).append(row)
    for words, rows in alike.items():
        if len(rows) <= ALIKE:
            sentences += [(f"row {row}", words) for row in rows]
            continue
        runs = np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1)
        spans = (f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)
        sentences.append((f"rows {', '.join(spans)}", words))
    return sentences


def first_of(names: Sequence[str]) -> str:
    """a, b, c and 3 more"""
    return ", ".join(names[:ALIKE]) + (f" and {len(names) - ALIKE} more" if len(names) > ALIKE else "")
