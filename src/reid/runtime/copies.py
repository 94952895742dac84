"""A file's copy next to it, before the file is changed."""

from pathlib import Path

from reid.runtime.files import write_bytes

__all__ = ["keep_copy"]


def keep_copy(path: Path) -> Path:
    """Copy a file next to itself, metadata.csv -> metadata.csv.1, or the next number that is free; return where."""
    number = 1
    while (free := path.with_name(f"{path.name}.{number}")).exists():
        number += 1
    write_bytes(free, path.read_bytes())
    return free
