"""Wheels that travel beside the kernel: their sums where it is built, and their packages where it runs.

Kaggle installs nothing, and may or may not unpack what it takes for an archive. A wheel is therefore known by two sums:
of its file, and of its RECORD, which lists every file in it with a sum.
"""

import atexit
import base64
import csv
import hashlib
import importlib
import io
import os
import re
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from reid.errors import InputError
from reid.runtime.files import sha256_of

__all__ = ["Sums", "sums_of_wheels", "use_wheels"]

Sums = Mapping[str, Sequence[str]]
"""By the name of a wheel: the SHA-256 of its file and of its RECORD."""


def sums_of_wheels(folder: Path, packages: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Return the sums of one wheel of each package.

    Args:
        folder: where they lie.
        packages: as the names of their wheels begin, such as "kornia_rs".

    Raises:
        InputError: none or several of a package, or one that is no wheel.
    """
    sums = {}
    for package in packages:
        found = sorted(folder.glob(f"{package}-*.whl"))
        if len(found) != 1:
            names = ", ".join(path.name for path in found) or "none"
            raise InputError(
                f"{folder}: expected one wheel {package}-VERSION-....whl, found {names}. For Kaggle's Python: pip "
                f"download {package.replace('_', '-')} --no-deps --only-binary=:all: --python-version 3.12 --dest "
                f"{folder}"
            )
        sums[found[0].name] = (sha256_of(found[0]), hashlib.sha256(_record_of(found[0])).hexdigest())
    return sums


def _record_of(wheel: Path) -> bytes:
    try:
        with zipfile.ZipFile(wheel) as archive:
            return archive.read(f"{_info_folder(wheel.name)}/RECORD")
    except (zipfile.BadZipFile, KeyError, OSError) as problem:
        raise InputError(f"{wheel}: expected a wheel, but it can't be read ({problem}); download it again") from None


def _info_folder(wheel: str) -> str:
    """Return the folder in a wheel that has its RECORD: kornia-0.8.3-py2.py3-none-any.whl -> kornia-0.8.3.dist-info"""
    return "-".join(wheel.split("-")[:2]) + ".dist-info"


def use_wheels(sums: Sums, places: Iterable[Path]) -> None:
    """Put the packages of wheels first on Python's path, copied into a temporary folder that goes when the process
    ends.

    Args:
        sums: of the only wheels that are taken.
        places: folders in which they may lie, as files or unpacked.

    Raises:
        InputError: one is not there, or not the one that it should be.
    """
    places = list(places)
    target = Path(tempfile.mkdtemp(prefix="reid-wheels-"))
    atexit.register(_remove, target, os.getpid())
    for wheel, (of_file, of_record) in sums.items():
        _unpack(wheel, of_file, of_record, places, target)
    sys.path.insert(0, str(target))
    os.environ["PYTHONPATH"] = os.pathsep.join([str(target), *filter(None, [os.environ.get("PYTHONPATH")])])
    importlib.invalidate_caches()


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # not in a forked process
        shutil.rmtree(folder, ignore_errors=True)


def _unpack(wheel: str, of_file: str, of_record: str, places: Sequence[Path], target: Path) -> None:
    """Copy the files of a wheel, wherever it lies, after every one has been checked."""
    wrong = []
    for place in places:
        for path, expected, copy in [
            (place / wheel, of_file, _from_file),
            (place / _info_folder(wheel) / "RECORD", of_record, _from_folder),
        ]:
            if not path.is_file():
                continue
            if (found := sha256_of(path)) == expected:
                copy(path, target)
                return
            wrong.append(f"{path} with sha256 {found[:12]}...")
    raise InputError(
        f"expected the wheel {wheel} with sha256 {of_file[:12]}..., which this kernel was built with, found "
        f"{', '.join(wrong) or 'none'}. Choose the latest version of its dataset under Input, or run `make push-kernel "
        "KORNIA=DIR` again"
    )


def _from_file(wheel: Path, target: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)


def _from_folder(record: Path, target: Path) -> None:
    """Copy what a RECORD lists, and nothing that lies beside it."""
    root = record.parents[1]
    for name, listed, *_ in csv.reader(io.StringIO(record.read_text("utf-8"))):
        content = _read(root / name)
        expected = re.sub("^sha256=", "", listed)
        found = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
        if root / name != record and found != expected:
            raise InputError(
                f"{root / name}: expected sha256 {expected[:12]}..., as {record} lists it, found {found[:12]}...; run "
                "`make push-kernel KORNIA=DIR` again"
            )
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_bytes(content)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as problem:
        raise InputError(
            f"{path}: expected a file of a wheel, found none ({problem.strerror}); run `make push-kernel "
            "KORNIA=DIR` again"
        ) from None
