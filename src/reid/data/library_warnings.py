"""What Pillow warns of, with the photograph's name: its own words tell neither the file nor, twice, the same."""

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TextIO

from PIL import Image

__all__ = ["library_warnings_logged", "opening"]

log = logging.getLogger(__name__)

OPENED: ContextVar[Path | None] = ContextVar("OPENED", default=None)
"""The photograph that this thread opens."""


@contextmanager
def opening(path: Path) -> Iterator[None]:
    """Inside, what a library warns of is about this photograph."""
    token = OPENED.set(path)
    try:
        yield
    finally:
        OPENED.reset(token)


@contextmanager
def library_warnings_logged() -> Iterator[None]:
    """Inside, log what Pillow warns of photographs, in any thread: once for each file and text.

    For a program's entry: it changes what Python does with warnings, which is the program's business and not a
    library's.
    """
    logged: set[tuple[Path, str]] = set()
    lock = threading.Lock()

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        path, words = OPENED.get(), " ".join(str(message).split())
        if path is None:
            show_before(message, category, filename, lineno, file, line)
            return
        with lock:
            is_new = (path, words) not in logged
            logged.add((path, words))
        if is_new:
            log.warning("%s: Pillow warns: %s", path, words)

    with warnings.catch_warnings():
        warnings.filterwarnings("always", module=r"PIL\.")
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # `inspect_photograph` notes such a size
        show_before, warnings.showwarning = warnings.showwarning, show
        yield
