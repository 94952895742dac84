"""Files that are either complete or absent, the hashes that prove it, and rows of tables in words."""

import csv
import errno
import hashlib
import json
import logging
import math
import os
import re
import secrets
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from reid.errors import InputError, MachineError

__all__ = [
    "ALIKE",
    "as_fields",
    "atomic_path",
    "first_of",
    "group_rows",
    "is_file",
    "read_json",
    "read_table",
    "refuse_header",
    "refuse_unwritable",
    "sha256_of",
    "unquoted",
    "without_nan",
    "write_bytes",
    "write_json",
    "write_table",
]

log = logging.getLogger(__name__)

ALIKE = 5
"""A message names at most so many rows or photographs, and counts the others; `-v` lists all of them."""

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
"""The disk is full, or so is this person's share of it, or it fails."""


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to `path`; rename it to `path` when the block ends well, remove it when not.

    The bytes are on the disk before the rename, so a file that exists under its final name is complete, whatever
    happened to the process or the machine.

    Raises:
        MachineError: the disk is full or fails.
        InputError: the folder can't be written, or a pipe or a device has that name.
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
        raise _unwritable(
            path,
            problem,
            "nothing was left under that name. Free some space or choose a folder that can be written, then run the "
            "command again",
        ) from problem
    finally:
        with suppress(OSError):  # nothing there, or a place that can hold nothing
            temporary.unlink()


def _unwritable(path: Path, problem: OSError, advice: str) -> InputError:
    kind = MachineError if problem.errno in DISK_ERRORS else InputError
    return kind(f"{path}: could not be written ({problem.strerror or problem}); {advice}")


def refuse_unwritable(path: Path) -> None:
    """Refuse a file that could not be written: noticed after the last photograph, hours of work would be lost.

    Raises:
        MachineError: the disk is full or fails.
        InputError: a folder, a pipe or a device has that name, or its folder can't be written.
    """
    if path.is_dir():
        raise InputError(f"{path}: expected the name of a file to write, found a folder; name a file in it")
    _refuse_special(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):  # it has no name, so that nothing is left of it
            pass
    except OSError as problem:
        raise _unwritable(path, problem, "choose another folder, or free some space") from None


def _refuse_special(path: Path) -> None:
    """Refuse a pipe or a device, which a rename would replace by a file."""
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


def without_nan(value: Any) -> Any:
    """Return an object for JSON, which knows no NaN and no infinity: they become None, tuples become lists."""
    if isinstance(value, dict):
        return {name: without_nan(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


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
    """Return whether a regular file is there: reading a pipe would wait, reading a device might never end."""
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
    """Return the fields of a dataclass of numbers, texts and tuples from JSON, whose lists become tuples again."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a CSV file with LF line ends and no index."""
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")


def read_table(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    """Read a CSV file as text cells: nothing is guessed, an empty cell is the empty string.

    Args:
        path: a comma-separated file in UTF-8, with or without a byte order mark.
        columns: the columns that the file must have; others are kept as they are.

    Returns:
        One row per record, every cell a `str`. Row i of the table is record i + 1 of the file, its header not counted.

    Raises:
        InputError: the file is missing or no such CSV; a column is missing or comes twice; a row has other columns.
    """
    _refuse_others(path, "a CSV file")
    try:
        header, *records = _records(path) or [[]]
    except (OSError, ValueError) as problem:
        advice = '; save it as "CSV UTF-8"' if isinstance(problem, UnicodeDecodeError) else ""
        raise InputError(f"{path}: expected a CSV file in UTF-8, but it can't be read ({problem}){advice}") from None
    refuse_header(path, header, columns)
    for place, record in enumerate(records):
        if len(record) != len(header):  # pandas would fill up or cut off such a row without a word
            raise InputError(
                f"{path}: row {place + 2}: expected {len(header)} cells as in the first line, found {len(record)}; "
                "put a cell that holds a comma between double quotes"
            )
    return pd.DataFrame(records, columns=header, dtype=str)


def refuse_header(path: Path, header: list[str], columns: tuple[str, ...]) -> None:
    """Refuse the first line of a table.

    Raises:
        InputError: a column is missing, or a name comes twice.
    """
    missing = [column for column in columns if column not in header]
    if missing:
        advice = _cause_of(header)
        raise InputError(
            f"{path}: expected the columns {', '.join(columns)} in the first line, "
            f"found {', '.join(header) or 'none'}; missing: {', '.join(missing)}. {advice}"
        )
    doubled = sorted({column for column in header if column and header.count(column) > 1})
    if doubled:
        raise InputError(
            f"{path}: the first line names {', '.join(doubled)} more than once; keep one column of each name"
        )


def _cause_of(header: list[str]) -> str:
    """Return what to do about a first line without the columns."""
    if header and header[0].casefold().startswith("sep="):
        return "Excel's line sep= stands above it: delete that line"
    if len(header) == 1 and any(separator in header[0] for separator in ";\t"):
        return "Separate the columns with commas"
    return "Rename or add them"


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


def group_rows(faults: Iterable[tuple[int, str]]) -> list[tuple[str, str]]:
    """Put rows and what is wrong with them into sentences, few enough to be read.

    >>> group_rows([(7, "split: found 'x'")])
    [('row 7', "split: found 'x'")]

    More than ALIKE rows with the very same words share a sentence, and so do all rows beyond the first ALIKE different
    words that differ only in what they quote. What is cut is logged in full at the level DEBUG.

    Args:
        faults: rows as a spreadsheet counts them, ascending, and words; a row may come with several.

    Returns:
        Rows ("row 7", or "rows 7-20, 31 and 480 more") and words.
    """
    rows_by_words: dict[str, list[int]] = {}
    for row, words in faults:
        rows_by_words.setdefault(words, []).append(row)
    words_by_kind: dict[str, list[str]] = {}
    for words in rows_by_words:
        words_by_kind.setdefault(unquoted(words), []).append(words)
    sentences: list[tuple[str, str]] = []
    for alike in words_by_kind.values():
        for words in alike[:ALIKE]:
            sentences += _sentences(rows_by_words[words], words)
        if others := [(row, words) for words in alike[ALIKE:] for row in rows_by_words[words]]:
            sentences.append((_rows_in_words(sorted(row for row, _ in others)), _common(alike)))
            log.debug("%s", "\n".join(f"row {row}: {words}" for row, words in others))
    return sentences


QUOTED = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|\d+""")
"""What differs between two faults of one kind: texts as `repr` quotes them, and numbers."""


def unquoted(words: str) -> str:
    """Return what messages of one kind have in common: the words without what they quote, and without numbers."""
    return QUOTED.sub("...", words)


def _sentences(rows: list[int], words: str) -> list[tuple[str, str]]:
    if len(rows) <= ALIKE:
        return [(f"row {row}", words) for row in rows]
    return [(_rows_in_words(rows), words)]


def _common(words: Sequence[str]) -> str:
    """["expected 'a'; found 'b'", "expected 'a'; found 'c'"] -> "expected 'a'; found ..." """
    quotes = zip(*map(QUOTED.findall, words), strict=True)
    differ = iter([len(set(quoted)) > 1 for quoted in quotes])
    return QUOTED.sub(lambda quoted: "..." if next(differ) else quoted[0], words[0])


def _rows_in_words(rows: list[int]) -> str:
    """[2, 3, 4, 9] -> "rows 2-4, 9"; only the first ALIKE stretches, and the number of the other rows"""
    runs = np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1)
    spans = [f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs]
    if len(spans) <= ALIKE:
        return f"rows {', '.join(spans)}"
    log.debug("rows %s", ", ".join(spans))
    return f"rows {', '.join(spans[:ALIKE])} and {sum(map(len, runs[ALIKE:])):,} more"


def first_of(names: Sequence[str], separator: str = ", ") -> str:
    """a, b, c, d, e and 3 more"""
    if len(names) <= ALIKE:
        return separator.join(names)
    log.debug("%s", separator.join(names))
    return f"{separator.join(names[:ALIKE])} and {len(names) - ALIKE:,} more"
