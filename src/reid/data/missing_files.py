"""Why a table's photographs are not where its paths say: paths of another system, another folder, another spelling."""

import os
import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import unquote

from reid.data.catalogue import Catalogue

__all__ = ["with_causes"]


class _File(NamedTuple):
    """A file that is there."""

    path: str
    """Relative to the data folder."""
    parts: list[str]
    """See `_parts`."""


def with_causes(catalogue: Catalogue, problems: Mapping[str, str]) -> dict[str, str]:
    """Return the problems of photographs, those of files that are not there with the likely cause and what to type.

    A file that another row names is not proposed: it shows another animal.

    Args:
        catalogue: the photographs.
        problems: by image_id, why a photograph can't be read.
    """
    paths = dict(zip(catalogue.image_ids, catalogue.table["path"], strict=True))
    missing = {name: paths[name] for name in problems if not os.path.lexists(catalogue.root / paths[name])}
    there = _files_below(catalogue.root, set(paths.values())) if missing else {}
    causes = {name: _cause(catalogue.root, path, there) for name, path in missing.items()}
    return {name: f"{problem}{causes.get(name, '')}" for name, problem in problems.items()}


def _files_below(root: Path, named: Collection[str]) -> dict[str, list[_File]]:
    """Return the files below a folder that the table does not name, by the last of their parts."""
    there: dict[str, list[_File]] = {}
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            path = os.path.relpath(os.path.join(folder, name), root).replace(os.sep, "/")
            if path not in named and not name.startswith("."):
                there.setdefault(_parts(path)[-1], []).append(_File(path, _parts(path)))
    return there


def _parts(path: str) -> list[str]:
    """Return the parts of a path as a person reads them: "D:\\Survey\\IMG%201.JPG " -> ["survey", "img 1"]"""
    composed = unicodedata.normalize("NFC", unquote(path)).replace("\\", "/")
    plain = unicodedata.normalize("NFC", re.sub(r"^(file://|[A-Za-z]:)", "", composed).casefold())
    parts = [part.strip() for part in plain.split("/") if part.strip() not in ("", ".")] or [""]
    return [*parts[:-1], PurePosixPath(parts[-1]).stem]


def _cause(root: Path, path: str, there: Mapping[str, list[_File]]) -> str:
    """Return the likely cause and what to type."""
    if re.match(r"https?://", path, re.IGNORECASE):
        return "; it is an address on the web: download the photograph into the folder, and write its path there"
    parts = _parts(path)
    ranked = sorted(there.get(parts[-1], []), key=lambda file: -_shared(parts, file.parts))
    if ranked and (len(ranked) == 1 or _shared(parts, ranked[0].parts) > _shared(parts, ranked[1].parts)):
        found = ranked[0].path
        return f"; {' and '.join(_differences(path, found)) or 'it is spelt in another way'}: write {found!r}"
    if ranked:
        several = f"{len(ranked)} files are called so, such as {ranked[0].path!r}"
        return f"; {several}: write the path of the one that shows this animal"
    if (root.parent / path).exists():
        return f"; it lies beside this folder: move metadata.csv one folder up, and type {str(root.parent)!r}"
    return "; no other file of that name is below the folder: correct the path, copy the file there, or remove the row"


def _shared(one: list[str], other: list[str]) -> int:
    """Return how many of their last parts two paths share."""
    pairs = zip(reversed(one), reversed(other), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _differences(path: str, found: str) -> Iterator[str]:
    """Yield in words what makes a path another one than that of the file that is there."""
    if "\\" in path:
        yield "it has backslashes, as Windows writes paths"
    if "%" in path and unquote(path) != path:
        yield "it is written as an address is, with % and numbers"
    if path != path.strip():
        yield "it begins or ends with a blank"
    own = re.split(r"[\\/]", unquote(path).strip())
    there = found.split("/")
    shared = _shared(_parts(path), _parts(found))
    if before := own[: len(own) - shared]:
        yield f"it begins with {'/'.join(before)!r}, which is not in this folder"
    if below := there[: len(there) - shared]:
        yield f"the file lies below {'/'.join(below)!r}"
    ending, other_ending = (PurePosixPath(name).suffix for name in (own[-1], there[-1]))
    if ending.casefold() != other_ending.casefold():
        yield f"its ending is {ending!r}, that of the file {other_ending!r}"
    pairs = [pair for pair in zip(own[::-1], there[::-1], strict=False) if pair[0] != pair[1]][:shared]
    if any(unicodedata.normalize("NFC", one) == unicodedata.normalize("NFC", other) for one, other in pairs):
        yield "its accented letters are composed in another way"
    elif any(one.casefold() == other.casefold() for one, other in pairs):
        yield "it has other capital letters"
