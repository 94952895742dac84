"""The photographs below a folder, without the files that cameras, systems and network drives leave between them."""

import os
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from reid.errors import InputError

__all__ = ["PHOTOGRAPH_ENDINGS", "Listing", "find_photographs", "is_hidden"]

PHOTOGRAPH_ENDINGS = (
    *(".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".jp2", ".avif"),
    *(".heic", ".heif", ".dng", ".nef", ".cr2", ".cr3", ".arw", ".orf", ".rw2", ".raf", ".pef"),
)
"""The second row can't be opened here; `check` says so of each, and what to do."""

HIDDEN_FOLDERS = ("__macosx", "$recycle.bin", "system volume information", "lost+found", "thumbs.db", "desktop.ini")
"""Folders and files of macOS, Windows and Linux; further ones begin with a dot, or, on network drives, with @ or #."""


class Listing(NamedTuple):
    """What lies below a folder."""

    paths: list[Path]
    """The photographs, relative to the folder, in alphabetical order."""
    skipped: Counter[str]
    """How many other files there are, by kind."""


def is_hidden(name: str) -> bool:
    """Return whether a file or folder of this name is made by a system and not by a person."""
    return name.startswith((".", "@", "#")) or name.casefold() in HIDDEN_FOLDERS


def find_photographs(folder: Path | str) -> Listing:
    """Return the photographs below a folder; what people do not see, and thumbnails, is skipped and counted.

    Links to folders are not followed.

    Raises:
        InputError: there is no such folder.
    """
    if not Path(folder).is_dir():
        raise InputError(f"{folder}: expected a folder with photographs, found none; check the name, and where you are")
    root, listing = Path(folder), Listing([], Counter())
    for place, _, files in os.walk(root):
        for name in files:
            path = Path(place, name).relative_to(root)
            if kind := _reason_to_skip(path):
                listing.skipped[kind] += 1
            else:
                listing.paths.append(path)
    listing.paths.sort()
    return listing


def _reason_to_skip(path: Path) -> str:
    """Return what a file is where it is no photograph of a person's; "" where it is one."""
    if path.name.startswith("._"):
        return "AppleDouble (what macOS notes of a file)"
    if any(map(is_hidden, path.parts)):
        return "hidden, or a system's own"
    return "" if path.suffix.casefold() in PHOTOGRAPH_ENDINGS else "no photograph by its ending"
