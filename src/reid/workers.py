"""The processes that open photographs, where a recipe names some: started clean, and ended with the one that asked.

A worker is a copy of a server that has loaded `reid.images` and done nothing else. A copy of the asking process would
not do: a lock that another thread holds in the moment of the fork (OpenCV's, say, while a thread that used it ends)
stays locked in the copy, which waits for it for ever.
"""

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Thread
from types import ModuleType

import cv2

from reid import InputError
from reid.recipe import Recipe

__all__ = ["begin", "clean_processes", "count_workers", "is_death", "starting"]

LONGEST_TMPDIR = 75
"""Bytes. A socket's address has 107, of which Python's multiprocessing adds 32; beyond, workers wait for ever."""

DEATH = re.compile(r"DataLoader worker .*(exited unexpectedly|is killed by signal)")
"""How torch tells that a worker is gone."""


def count_workers(recipe: Recipe, batches: int) -> int:
    """How many processes open photographs; 0 for none beside the asking one.

    Args:
        recipe: `workers`, 0 or more.
        batches: how many there are to open.

    Raises:
        InputError: the folder for temporary files has too long a name for their sockets.
    """
    count = min(recipe.workers, batches)
    temporary = tempfile.gettempdir()
    if count and len(os.fsencode(temporary)) > LONGEST_TMPDIR:
        raise InputError(
            f"TMPDIR: expected a path of at most {LONGEST_TMPDIR} bytes, so that the processes that open photographs "
            f"can put their sockets there, found {temporary}; name a shorter one, or --set workers=0"
        )
    return count


def clean_processes() -> ForkServerContext:
    """What starts them; inside `starting`."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["reid.images"])
    return context


@contextmanager
def starting() -> Iterator[None]:
    """Inside, processes that are started load this package and what it needs, and nothing else.

    They don't load the running program, as `multiprocessing.spawn` would have them: they need nothing of it, and it may
    come from a pipe, or lack `if __name__ == "__main__"`. Nor does their server look for modules in the working folder,
    which may be a stranger's.
    """
    program, before = sys.modules["__main__"], dict(os.environ)
    sys.modules["__main__"] = ModuleType("__main__")
    package = str(Path(__file__).resolve().parents[1])
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [package, before.get("PYTHONPATH")]))
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        sys.modules["__main__"] = program
        for name in ("PYTHONPATH", "PYTHONSAFEPATH"):
            os.environ.pop(name)
            os.environ.update({name: before[name]} if name in before else {})


def begin(_: int) -> None:
    """A worker's first deed: it keeps to one core, as torch sees to by itself, and will end with who asked for it."""
    cv2.setNumThreads(1)
    if asking := parent_process():
        Thread(target=_end_with, args=(asking,), daemon=True).start()


def _end_with(asking: BaseProcess) -> None:
    """Torch only looks whether the server lives, and the server lives as long as its workers."""
    asking.join()
    os._exit(1)


def is_death(problem: RuntimeError) -> bool:
    """Whether torch says by it that a worker is gone."""
    return bool(DEATH.search(str(problem)))
