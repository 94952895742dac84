"""Large JSON files read one item at a time, so that memory does not grow with the file.

The standard library decodes each item. ijson, the usual way, refuses the NaN that Python's own `json` writes and
detectors' scripts leave in their files; with this reader one such number costs its row and not the file.
"""

import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, TextIO

from reid.errors import InputError
from reid.runtime.files import is_file

__all__ = ["read_items", "read_members"]

CHUNK = 1 << 20
"""Characters that are read at a time."""

LONGEST = 1 << 26
"""An item of more characters is refused: without a limit, a fault in the middle would put the rest into memory."""

DECODER = json.JSONDecoder()

WORDS = ("true", "false", "null", "NaN", "Infinity", "-Infinity")


def read_members(path: Path, skip: Collection[str]) -> dict[str, Any]:
    """Return the members of the object that a file holds, but of those in `skip` only the number of items.

    Raises:
        InputError: no such file, or no JSON object in UTF-8; the message says where.
    """
    return {
        name: sum(1 for _ in stream.items()) if name in skip and stream.peek() == "[" else stream.value()
        for name, stream in _members(path)
    }


def read_items(path: Path, name: str) -> Iterator[tuple[str, Any]]:
    """Yield the items of one list of the object that a file holds, each with how a message names it: "images[7]".

    Raises:
        InputError: as `read_members`; or the member is no list.
    """
    for member, stream in _members(path):
        if member != name:
            stream.skip()
        elif stream.peek() != "[":
            raise InputError(f"{path}: expected a list as {name!r}, found {str(stream.value())[:99]!r}")
        else:
            yield from ((f"{name}[{place}]", item) for place, item in enumerate(stream.items()))


def _members(path: Path) -> Iterator[tuple[str, "_Stream"]]:
    """Yield the names of an object's members; the stream then stands before the value, which must be read."""
    if not is_file(path):
        raise InputError(f"{path}: expected a JSON file here, found {'a folder' if path.is_dir() else 'none'}")
    with open(path, encoding="utf-8-sig") as opened:
        stream = _Stream(path, opened)
        if stream.peek() != "{":
            raise InputError(f"{path}: expected a JSON object, which begins with {{, found {stream.peek()!r}")
        stream.take("{")
        while stream.peek() != "}":
            name = stream.value()
            stream.take(":")
            yield str(name), stream
            if stream.peek() != "}":
                stream.take(",")


class _Stream:
    """The text of a file from where it was read to."""

    def __init__(self, path: Path, opened: TextIO) -> None:
        self.path, self.opened = path, opened
        self.text, self.place, self.before = "", 0, 0

    def peek(self) -> str:
        """Return the next character that is no blank."""
        while True:
            while self.place < len(self.text):
                if not self.text[self.place].isspace():
                    return self.text[self.place]
                self.place += 1
            if not self._more(CHUNK):
                raise self._cut_short()

    def take(self, character: str) -> None:
        """Read one character."""
        if self.peek() != character:
            raise self._fault(f"expected {character!r}, found {self.peek()!r}", self.place)
        self.place += 1

    def value(self) -> Any:
        """Read a value."""
        self.peek()
        while True:
            try:
                value, end = DECODER.raw_decode(self.text, self.place)
            except json.JSONDecodeError as problem:
                too_long = len(self.text) - self.place > LONGEST
                if too_long or not self._more(max(CHUNK, len(self.text))):
                    is_end = self._ends_at(problem)
                    raise self._cut_short() if is_end else self._fault(problem.msg, problem.pos) from None
                continue
            except RecursionError:
                raise self._fault("brackets are nested too deeply", self.place) from None
            if end + len("e-1") < len(self.text) or not self._more(CHUNK):  # a number may go on in the next chunk
                self.place = end
                return value

    def _ends_at(self, problem: json.JSONDecodeError) -> bool:
        """Return whether the text ends where it can't be read."""
        rest = self.text[problem.pos :].strip()
        return problem.msg.startswith(("Unterminated", "Invalid \\")) or any(word.startswith(rest) for word in WORDS)

    def items(self) -> Iterator[Any]:
        """Read a list item by item."""
        self.take("[")
        while self.peek() != "]":
            yield self.value()
            if self.peek() != "]":
                self.take(",")
        self.take("]")

    def skip(self) -> None:
        """Read a value and forget it."""
        if self.peek() == "[":
            for _ in self.items():
                pass
        else:
            self.value()

    def _more(self, characters: int) -> bool:
        """Read on, forgetting what was used; return whether there was more."""
        try:
            more = self.opened.read(characters)
        except UnicodeDecodeError as problem:
            words = f"expected JSON in UTF-8, found other bytes ({problem}); save it as UTF-8"
            raise InputError(f"{self.path}: {words}") from None
        if not more:
            return False
        self.before += self.place
        self.text, self.place = self.text[self.place :] + more, 0
        return True

    def _cut_short(self) -> InputError:
        return InputError(
            f"{self.path}: expected JSON to its end, but the file was cut short after "
            f"{self.before + len(self.text):,} characters; copy or write it again"
        )

    def _fault(self, words: str, place: int) -> InputError:
        found = self.text[place : place + 40]
        return InputError(
            f"{self.path}: expected JSON, but at character {self.before + place + 1:,} it can't be read ({words}): "
            f"{found!r}; write the file again"
        )
