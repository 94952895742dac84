"""How long work shows itself: a bar with the time left on a terminal, a plain line now and then elsewhere."""

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TypeVar

from tqdm import tqdm

from reid.runtime.distributed import is_main

__all__ = ["LINE_EVERY", "bar", "printable", "say", "stage", "track"]

Item = TypeVar("Item")


LINE_EVERY = 15.0
"""Seconds between two plain lines: a log of an hour's work stays a few pages long."""


def say(line: str) -> None:
    """Print a line without tearing a progress bar that may be open. Of several ranks the first one speaks."""
    if not is_main():
        return
    with tqdm.external_write_mode(file=sys.stdout):
        print(printable(line), flush=True)


def printable(text: str) -> str:
    """Return the text without what would steer a terminal, such as the escape sequences in a hostile file's name."""
    return "".join(one if one.isprintable() or one == "\n" else ascii(one)[1:-1] for one in text)


def track(items: Iterable[Item], what: str, total: int | None = None) -> Iterator[Item]:
    """Yield the items and shows how far they are.

    Args:
        items: what is worked through.
        what: the work in a few words, e.g. "embedding LynxID2025".
        total: how many items there are, where `len(items)` can't say.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    if sys.stderr.isatty():
        yield from bar(items, what, total)
        return
    started = said = time.monotonic()
    for done, item in enumerate(items):
        now = time.monotonic()
        if now - said >= LINE_EVERY:
            said = now
            left = f", about {(now - started) / done * (total - done):.0f} s left" if total and done else ""
            say(f"  {what}: {done} of {total or '?'}{left}")
        yield item


def bar(items: Iterable[Item], what: str, total: int | None) -> Iterator[Item]:
    """Yield the items; on a terminal, beside a bar."""
    yield from tqdm(
        items, desc=what, total=total, leave=False, dynamic_ncols=True, disable=not (is_main() and sys.stderr.isatty())
    )


@contextmanager
def stage(what: str, seconds: dict[str, float]) -> Iterator[None]:
    """Add the wall time of the block, in seconds, to `seconds[what]`."""
    started = time.monotonic()
    try:
        yield
    finally:
        seconds[what] = seconds.get(what, 0.0) + time.monotonic() - started
