"""One cache for what is slow to compute again: embeddings, keypoints and matches.

The key of an entry is a hash of everything that shapes its value, so that no entry can be stale: whatever has changed
since has another key. All entries lie in one SQLite file inside the weights folder. It is a convenience: a file that
is missing, damaged, locked, read-only or another program's is as good as an empty one, and never an error.
"""

import hashlib
import json
import logging
import sqlite3
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Lock

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from reid.data.masks import is_run_length
from reid.data.photographs import View
from reid.runtime.distributed import core_count
from reid.runtime.files import is_file, sha256_of
from reid.runtime.progress import track

__all__ = ["CACHE_FOLDER", "Arrays", "Cache", "array_digest", "cache_key", "photograph_digests"]

log = logging.getLogger(__name__)

Arrays = dict[str, np.ndarray]
"""The value of an entry: arrays by name."""

CACHE_FOLDER = "cache"
"""Inside the weights folder; the manifest does not name it, so it is never uploaded."""

CACHE_VERSION = 1
"""Raise it whenever the arrays of an entry get other names or meanings: entries of another version are not found."""

TIMEOUT = 10.0
"""Seconds to wait for other processes, whose transactions take milliseconds each."""

REPLACED = {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
"""What SQLite answers where the file holds another table, is damaged, or is no database: a new file helps."""

FAILURES = (sqlite3.Error, UnicodeDecodeError)
"""The second where SQLite's message about a damaged file quotes it."""


def cache_key(kind: str, made_with: Mapping[str, object], content: str) -> str:
    """Return the key of an entry, a SHA-256 in hex.

    Args:
        kind: "embedding", "keypoints" or "matches".
        made_with: whatever shapes the value besides the photographs: versions, settings, hashes; as JSON can say it.
        content: the digest of the photographs.
    """
    return hashlib.sha256(json.dumps([CACHE_VERSION, kind, made_with, content], sort_keys=True).encode()).hexdigest()


class Cache:
    """Arrays by key, kept on disk between runs. Several threads and processes may share it.

    Attributes:
        path: the SQLite file; it appears with the first entry.
    """

    def __init__(self, folder: Path) -> None:
        """
        Args:
            folder: the weights folder.
        """
        self.path = folder / CACHE_FOLDER / "cache.sqlite"
        self._connection: sqlite3.Connection | None = None
        self._lock = Lock()
        # set to False by the first failure: waiting for a locked file 10 s for each photograph would take days
        self._readable = self._writable = True

    def get(self, key: str) -> Arrays | None:
        """Return the value of an entry; None where there is none, or where it is damaged."""
        with self._lock:
            checksum, value = self._find(key)
        if isinstance(value, bytes) and checksum == _checksum(key, value):
            with suppress(SafetensorError):
                return load(value)
        return None

    def put_many(self, entries: Mapping[str, Arrays]) -> None:
        """Keep entries by their keys, all in one transaction; where the file can't be written, nothing happens."""
        encoded = [(key, save(arrays)) for key, arrays in entries.items()]
        rows = [(bytes.fromhex(key), _checksum(key, value), value) for key, value in encoded]
        with self._lock:
            try:
                if self._writable and rows:
                    self._write(rows)
            except (*FAILURES, OSError) as problem:
                self._writable = False
                log.debug("%s: nothing is kept in it (%s)", self.path, problem)

    def _find(self, key: str) -> tuple[object, object]:
        """Return the checksum and the value of an entry as they are in the file, (None, None) where there is none."""
        try:
            if self._readable and is_file(self.path):
                query = "SELECT checksum, value FROM entries WHERE key = ?"
                return self._connect().execute(query, (bytes.fromhex(key),)).fetchone() or (None, None)
        except FAILURES as problem:
            self._readable = False
            log.debug("%s: taken for empty (%s)", self.path, problem)
        return None, None

    def _write(self, rows: Sequence[tuple[bytes, bytes, bytes]]) -> None:
        """Write rows, into a new file where the one that is there can't be used."""
        try:
            self._insert(rows)
        except FAILURES as problem:
            if getattr(problem, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF not in REPLACED:
                raise
            log.debug("%s: replaced by a new file (%s)", self.path, problem)
            self._remove()
            self._insert(rows)
        self._readable = True

    def _insert(self, rows: Sequence[tuple[bytes, bytes, bytes]]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._connect() as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS entries (key BLOB PRIMARY KEY, checksum BLOB, value BLOB)")
            connection.executemany("INSERT OR REPLACE INTO entries (key, checksum, value) VALUES (?, ?, ?)", rows)

    def _connect(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = sqlite3.connect(
                self.path, timeout=TIMEOUT, isolation_level="IMMEDIATE", check_same_thread=False
            )
            # without waiting for the disk: if the machine stops in between, the file may be damaged, see above
            self._connection.execute("PRAGMA synchronous = OFF")
        return self._connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _remove(self) -> None:
        self._close()
        for ending in ("-journal", ""):  # the journal of a damaged file would be played back into the new one
            self.path.with_name(self.path.name + ending).unlink(missing_ok=True)

    def __del__(self) -> None:
        self._close()


def _checksum(key: str, value: bytes) -> bytes:
    """Return the SHA-256 of an entry: a flipped bit in a vector would change an answer unnoticed."""
    return hashlib.sha256(bytes.fromhex(key) + value).digest()


def photograph_digests(paths: Sequence[Path], views: Sequence[View]) -> list[str]:
    """Return what tells photographs apart, whatever their names: the SHA-256 of the file's bytes, its view,
    its box and its mask.

    "" for a file that can't be read.
    """
    with ThreadPoolExecutor(core_count()) as pool:  # hashing releases Python's lock
        return list(track(pool.map(_digest, paths, views), "hashing photographs", total=len(paths)))


def _digest(path: Path, view: View) -> str:
    with suppress(OSError):
        if path.is_file():  # opening a pipe would wait for ever
            mask = sha256_of(Path(view.mask)) if view.mask and not is_run_length(view.mask) else view.mask
            return " ".join(filter(None, [sha256_of(path), str(view), str(view.crop or ""), mask]))
    return ""


def array_digest(arrays: Arrays) -> str:
    """Return the SHA-256 of arrays with their names, shapes and types, in hex."""
    return hashlib.sha256(save(arrays)).hexdigest()
