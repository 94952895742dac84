"""Memory that the process keeps for the next array instead of giving it back.

By default glibc gives back what is free at the end of its heap as soon as that is about twice the largest block of
late. The next photograph's arrays are then cleared by the system page by page again, which was a tenth of the time of
commands that find keypoints (benchmarks/README.md, "Memory that is kept").
"""

import ctypes
import os
from contextlib import suppress

__all__ = ["keep_freed_memory"]

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""From glibc's malloc.h."""

LARGEST_KEPT = 32 << 20
"""Bytes; a larger block is given back by itself. Older versions of glibc take no more here."""

KEPT = 256 << 20
"""Bytes that stay free at the end of the main thread's heap. Free blocks between used ones stay as well; heaps of other
threads, 64 MB each, are given back once they are empty."""

OWN_SETTINGS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")
"""Variables of the environment by which a person tells glibc the same."""


def keep_freed_memory() -> bool:
    """Tell glibc to keep freed memory for what comes next, in this process and those that it forks, unless the
    environment tells it something else.

    Returns:
        Whether glibc took it; False with another C library.
    """
    if any(name in os.environ for name in OWN_SETTINGS):
        return False
    with suppress(OSError, AttributeError):  # no such library, or one without the function
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        return bool(mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT)) and bool(mallopt(M_TRIM_THRESHOLD, KEPT))
    return False
