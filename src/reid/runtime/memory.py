"""Memory that the process keeps for the next array instead of giving it back.

By default glibc asks the system for large blocks one by one, and gives back what is free at the end of the heap. The
next photograph's arrays are then cleared by the system page by page again, which was a tenth of the time of commands
that find keypoints (benchmarks/README.md, "Memory that is kept").
"""

import ctypes
from contextlib import suppress

__all__ = ["keep_freed_memory"]

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""From glibc's malloc.h."""

LARGEST_KEPT = 32 << 20
"""Bytes; larger blocks are given back as before. The most that glibc takes on 64-bit machines."""

KEPT = 256 << 20
"""Bytes at the end of the heap that are not given back."""


def keep_freed_memory() -> bool:
    """Tell the C library to keep freed memory for what comes next, in this process and those that it forks.

    Returns:
        Whether it did: only glibc, the C library of most Linux systems, can be told.
    """
    with suppress(OSError, AttributeError):  # no such library, or one without the function
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        return bool(mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT)) and bool(mallopt(M_TRIM_THRESHOLD, KEPT))
    return False
