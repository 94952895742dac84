"""A folder per animal: `SOURCE/ANIMAL/photograph.jpg`, or with a folder per encounter, `SOURCE/ANIMAL/ENCOUNTER/...`.

Folders that `--queries` names, and such as are called by a word for nobody, hold photographs to be named. Dates are
those of EXIF.
"""

from collections.abc import Iterator
from pathlib import Path

from reid.config.recipe import UNKNOWN_WORDS
from reid.data.folders import find_photographs
from reid.data.spelling import is_unknown
from reid.errors import InputError
from reid.formats.found import Choices, Found, LeftOut
from reid.formats.places import look_into

__all__ = ["read"]


def read(source: Path, choices: Choices) -> Iterator[Found | LeftOut]:
    """Yield the photographs of a folder per animal, and what lies between them."""
    listing = find_photographs(source)
    for kind, count in listing.skipped.items():
        yield from (
            LeftOut(str(source), f"a file that is {kind}" if kind.startswith("hidden") else kind) for _ in range(count)
        )
    if missing := [name for name in choices.queries if not (source / name).is_dir()]:
        raise InputError(f"--queries {missing[0]}: expected a folder in {source}, found none; check the name")
    for path in listing.paths:
        yield _of_path(path, source, choices)


def _of_path(path: Path, source: Path, choices: Choices) -> Found | LeftOut:
    animal, *encounter = path.parts[:-1] or ("",)
    if not animal and "." not in choices.queries:
        return LeftOut(path.as_posix(), "a photograph in no animal's folder (--queries . takes such as to be named)")
    is_query = animal in choices.queries or not animal or is_unknown(animal, UNKNOWN_WORDS)
    return Found(
        where=path.as_posix(),
        photograph=path.as_posix(),
        identity="" if is_query else animal,
        split="query" if is_query else "database",
        date=look_into(source / path)[1],
        encounter="/".join((animal, *encounter)) if encounter else "",
    )
