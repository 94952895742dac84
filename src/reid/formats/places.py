"""Where the photographs that a source names lie, and how the data folder gets at them."""

import filecmp
import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from PIL import ExifTags, Image

from reid.data.folders import PHOTOGRAPH_ENDINGS
from reid.data.library_warnings import opening
from reid.data.photographs import _kinds
from reid.errors import InputError
from reid.formats.boxes import Frame

__all__ = ["Placed", "find_files", "look_into", "place_file", "put_file"]

WINDOWS = re.compile(r"[A-Za-z]:[\\/]|\\\\")
"""How absolute paths of Windows begin."""

TRIED = 100
"""Photographs that decide how many folders of absolute paths to leave out."""


@dataclass(frozen=True)
class Placed:
    """A photograph's file, and its path in metadata.csv.

    Attributes:
        path: relative to the data folder, with slashes.
        source: the file to link or copy to it; None where it lies in the data folder.
    """

    path: str
    source: Path | None


def find_files(photographs: Iterable[str], base: Path, root: Path | None) -> dict[str, Path | str]:
    """Return, by photograph as a source writes it, its file; or why there is none, in words that many share.

    Relative paths begin at `root`, or else at `base`. Of absolute ones, with a `root`, as many of the first folders are
    left out as makes most files exist; the same for all of them.

    Raises:
        InputError: `root` is no folder.
    """
    if root is not None and not root.is_dir():
        raise InputError(f"--root {root}: expected the folder that the photographs lie in, found none")
    names = list(dict.fromkeys(photographs))
    absolute = [name for name in names if _is_absolute(name)]
    left_out = _folders_to_leave_out(absolute, root) if root is not None else 0
    return {name: _find(name, root or base, root is not None, left_out) for name in names}


def _is_absolute(name: str) -> bool:
    return name.startswith("/") or bool(WINDOWS.match(name))


def _parts(name: str) -> list[str]:
    """ "C:\\cams\\1.jpg" -> ["C:", "cams", "1.jpg"]"""
    return [part for part in re.split(r"[\\/]", name) if part not in ("", ".")]


def _folders_to_leave_out(absolute: list[str], root: Path) -> int:
    some = [_parts(name) for name in absolute[:: max(1, len(absolute) // TRIED)]]
    folders = [parts[:-1] for parts in some]
    levels = zip(*folders, strict=False)
    shared = sum(1 for _ in takewhile(lambda names: len(set(names)) == 1, levels))
    counts = {
        left_out: sum(root.joinpath(*parts[left_out:]).is_file() for parts in some) for left_out in range(1, shared + 1)
    }
    return max(counts, key=lambda left_out: (counts[left_out], -left_out), default=1)


def _find(name: str, base: Path, has_root: bool, left_out: int) -> Path | str:
    if re.match(r"[a-z][a-z0-9+.-]+://", name, re.IGNORECASE):
        return "a photograph named by a URL: download it, and name the folder with --root"
    if not name.casefold().endswith(PHOTOGRAPH_ENDINGS):
        return "no photograph by its ending"
    if _is_absolute(name) and not has_root:
        if WINDOWS.match(name) and os.name != "nt":
            return "an absolute path of Windows: name the folder that holds the photographs with --root"
        file = Path(name)
    elif _is_absolute(name):
        file = base.joinpath(*_parts(name)[left_out:])
    else:
        file = base / name if (base / name).exists() else base.joinpath(*_parts(name))
        if not Path(os.path.normpath(file)).is_relative_to(os.path.normpath(base)):
            return "a path that leads out of its folder: name one further up with --root"
    if file.is_file():
        return Path(os.path.normpath(file))
    return f"a photograph that is not below {base}: name the folder that holds the photographs with --root"


def place_file(file: Path, base: Path, data: Path) -> Placed:
    """Return what metadata.csv calls a file: its path where it lies in the data folder, else `photographs/...`."""
    real, folder = os.path.realpath(file), os.path.realpath(data)
    if real.startswith(os.path.join(folder, "")):
        inside = os.path.relpath(real, folder)
        return Placed(Path(inside).as_posix(), None)
    below = os.path.relpath(file, base)
    below = file.as_posix().lstrip("/").replace(":", "") if below.startswith("..") else below
    target, number = Path("photographs", below), 1
    while not _is_same(data / target, file):  # another file of that name, from an earlier import
        number += 1
        target = Path(f"photographs-{number}", below)
    return Placed(target.as_posix(), file)


def _is_same(target: Path, file: Path) -> bool:
    """Return whether nothing is there, or the file itself, or its copy."""
    if not target.exists():
        return True
    return target.samefile(file) or filecmp.cmp(target, file)


def put_file(placed: Placed, data: Path, copy: bool) -> None:
    """Link a photograph into the data folder, or copy it.

    A link is a hard one: one file under two names. Nothing is read through a link that leads out of the data folder.

    Raises:
        InputError: it can't be linked, for example because it lies on another disk.
    """
    target = data / placed.path
    if placed.source is None or target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        if not copy:
            os.link(placed.source, target)
            return
        temporary = target.with_name(f".{target.name}.part")
        shutil.copy2(placed.source, temporary)
        temporary.replace(target)
    except OSError as problem:
        raise InputError(
            f"{placed.source}: could not be {'copied' if copy else 'linked'} into {data} "
            f"({problem.strerror or problem}); "
            + ("free some space" if copy else "say --copy, or let --out be the folder that the photographs lie in")
        ) from None


def look_into(file: Path) -> tuple[Frame | None, str]:
    """Return a photograph's size, None where it can't be opened, and when it was taken, "" where its EXIF data does not
    say; a file's own time says nothing of that.

    >>> look_into(Path("IMG_1.JPG"))
    (Frame(stored=(4000, 3000), orientation=6), "2024-05-03 07:03:09")
    """
    try:
        with opening(file), Image.open(file, formats=_kinds()) as image:
            exif = image.getexif()
            orientation = exif.get(ExifTags.Base.Orientation)
            taken = exif.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.DateTimeOriginal)
            tags = getattr(image, "tag_v2", {})  # of a TIFF, whose size Pillow has turned already
            stored = (int(tags[256]), int(tags[257])) if tags else image.size
    except Exception:  # whatever a broken file makes Pillow raise; `check` says what it is
        return None, ""
    known = orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1
    return Frame(stored, known), _moment(taken)


def _moment(taken: object) -> str:
    """ "2024:05:03 07:03:09" -> "2024-05-03 07:03:09"; "" for the blanks and zeros of a camera that does not know"""
    found = re.match(r"(\d{4}):(\d\d):(\d\d)(?: (\d\d:\d\d:\d\d))?", taken) if isinstance(taken, str) else None
    if not found or found[1] == "0000":
        return ""
    return " ".join(filter(None, ["-".join(found.group(1, 2, 3)), found[4]]))
