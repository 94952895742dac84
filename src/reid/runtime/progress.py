"""What a person sees of a command: results on stdout; progress, messages and warnings on stderr.

Library modules print nothing: they log to `logging.getLogger(__name__)` and show how far they are with `track`. Only
where messages of the level INFO are wanted, as inside `messages_on_stderr`, does `track` show anything.
"""

import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TypeVar

from tqdm import tqdm

from reid.runtime.distributed import is_main

__all__ = ["LINE_EVERY", "bar", "messages_on_stderr", "print_result", "printable", "stage", "track"]

Item = TypeVar("Item")

log = logging.getLogger(__name__)

LINE_EVERY = 15.0
"""Seconds between two plain lines: a log of an hour's work stays a few pages long."""


def print_result(text: str) -> None:
    """Print a result of a command on stdout; of several ranks only the first one prints."""
    if is_main():
        print(printable(text), flush=True)


def printable(text: str) -> str:
    """Return the text without what would steer a terminal, such as the escape sequences in a hostile file's name."""
    return "".join(one if one.isprintable() or one == "\n" else ascii(one)[1:-1] for one in text)


@contextmanager
def messages_on_stderr(level: int = logging.INFO) -> Iterator[None]:
    """Inside, print on stderr what the package logs; of several ranks only the first one prints.

    Args:
        level: of `logging`; what is less important stays silent.
    """
    logger, handler = logging.getLogger("reid"), _StderrHandler()
    before = logger.level
    logger.setLevel(level)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


class _StderrHandler(logging.Handler):
    """Prints one line per message, without tearing a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        if is_main():
            prefix = "warning: " if record.levelno >= logging.WARNING else ""
            with tqdm.external_write_mode(file=sys.stderr):
                print(prefix + printable(self.format(record)), file=sys.stderr, flush=True)


def track(items: Iterable[Item], what: str, total: int | None = None) -> Iterator[Item]:
    """Yield the items and show how far they are: a bar on a terminal, a line now and then elsewhere.

    Args:
        items: what is worked through.
        what: the work in a few words, e.g. "embedding LynxID2025".
        total: how many items there are, where `len(items)` can't tell.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    if sys.stderr.isatty():
        yield from bar(items, what, total)
        return
    started = last_line_at = time.monotonic()
    for done, item in enumerate(items):
        now = time.monotonic()
        if now - last_line_at >= LINE_EVERY:
            last_line_at = now
            left = f", about {(now - started) / done * (total - done):.0f} s left" if total and done else ""
            log.info("  %s: %s of %s%s", what, done, total or "?", left)
        yield item


def bar(items: Iterable[Item], what: str, total: int | None) -> Iterator[Item]:
    """Yield the items; on a terminal, show a bar meanwhile."""
    is_shown = is_main() and sys.stderr.isatty() and log.isEnabledFor(logging.INFO)
    yield from tqdm(items, desc=what, total=total, leave=False, dynamic_ncols=True, disable=not is_shown)


@contextmanager
def stage(what: str, seconds: dict[str, float]) -> Iterator[None]:
    """Add the wall time of the block, in seconds, to `seconds[what]`."""
    started = time.monotonic()
    try:
        yield
    finally:
        seconds[what] = seconds.get(what, 0.0) + time.monotonic() - started
