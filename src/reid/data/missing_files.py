"""Why a table's photographs are not where its paths say: paths of another system, another folder, another spelling."""

import os
import re
import unicodedata
from collections.abc import Iterator, Mapping
from itertools import takewhile
from pathlib import Path

from reid.data.catalogue import Catalogue
from reid.data.folders import is_hidden

__all__ = ["with_causes"]


def with_causes(catalogue: Catalogue, problems: Mapping[str, str]) -> dict[str, str]:
    """Return the problems of photographs, those of files that are not there with the likely cause and what to type.

    Args:
        catalogue: the photographs.
        problems: by image_id, why a photograph can't be read.
    """
    paths = dict(zip(catalogue.image_ids, catalogue.table["path"], strict=True))
    missing = {name: paths[name] for name in problems if not os.path.lexists(catalogue.root / paths[name])}
    there = _files_below(catalogue.root) if missing else {}
    causes = {name: _cause(catalogue.root, path, there) for name, path in missing.items()}
    return {name: f"{problem}{causes.get(name, '')}" for name, problem in problems.items()}


def _files_below(root: Path) -> dict[str, list[str]]:
    """Return the files below a folder, as paths relative to it, by the last part of their key."""
    there: dict[str, list[str]] = {}
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not is_hidden(name)]
        for name in files:
            path = os.path.relpath(os.path.join(folder, name), root).replace(os.sep, "/")
            there.setdefault(_parts(path)[-1], []).append(path)
    return there


def _parts(path: str) -> list[str]:
    """Return the parts of a path as a person reads them: "D:\\Survey\\IMG 1.JPG " -> ["survey", "img 1.jpg"]"""
    composed = unicodedata.normalize("NFC", path).casefold().replace("\\", "/")
    parts = [part.strip() for part in re.sub(r"^(file://|[a-z]:)", "", composed).split("/")]
    return [part for part in parts if part not in ("", ".")] or [""]


def _cause(root: Path, path: str, there: Mapping[str, list[str]]) -> str:
    """Return the likely cause and what to type; "" where nothing of that name is near."""
    if re.match(r"https?://", path, re.IGNORECASE):
        return "; it is an address on the web: download the photograph into the folder, and write its path there"
    parts = _parts(path)
    found = max(there.get(parts[-1], []), key=lambda other: _shared(parts, _parts(other)), default="")
    if found:
        return f"; {' and '.join(_differences(path, found))}: write {found!r}"
    if (root.parent / path).exists():
        return f"; it lies beside this folder: move metadata.csv one folder up, and type {str(root.parent)!r}"
    return "; no file of that name is below the folder: copy it there, or remove the row"


def _shared(one: list[str], other: list[str]) -> int:
    """Return how many of their last parts two paths share."""
    pairs = zip(reversed(one), reversed(other), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _differences(path: str, found: str) -> Iterator[str]:
    """Yield in words what makes a path another one than that of the file that is there."""
    if "\\" in path:
        yield "it has backslashes, as Windows writes paths"
    if path != path.strip():
        yield "it begins or ends with a blank"
    own = re.split(r"[\\/]", path.strip())
    there = found.split("/")
    shared = _shared(_parts(path), _parts(found))
    if before := own[: len(own) - shared]:
        yield f"it begins with {'/'.join(before)!r}, which is not in this folder"
    if below := there[: len(there) - shared]:
        yield f"the file lies below {'/'.join(below)!r}"
    pairs = [pair for pair in zip(own[::-1], there[::-1], strict=False) if pair[0] != pair[1]][:shared]
    if any(unicodedata.normalize("NFC", one) == unicodedata.normalize("NFC", other) for one, other in pairs):
        yield "its accented letters are composed in another way"
    elif any(one.casefold() == other.casefold() for one, other in pairs):
        yield "it has other capital letters"
