"""A verb as a process of its own: minutes, work of the processor, and the memory of all its processes together."""

import ctypes
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from harness import children

__all__ = ["Cost", "adopt", "measured"]

BE_REAPER = 36
"""PR_SET_CHILD_SUBREAPER of prctl(2)."""


@dataclass(frozen=True)
class Cost:
    """What a stage took.

    Attributes:
        wall: seconds until it had ended.
        work: seconds of processors, for it and for all that it started.
        peak: bytes that its processes held together at the highest, looked at twice a second.
    """

    wall: float
    work: float
    peak: float


def adopt() -> None:
    """From now on what a stage leaves behind becomes a child of this process, whose work is counted too."""
    ctypes.CDLL(None).prctl(BE_REAPER, 1)


def measured(words: Sequence[str | Path], log: Path) -> Cost:
    """Runs `python -m reid` with these words; what it says goes into the log."""
    command = [sys.executable, "-m", "reid", *map(str, words)]
    before, started, peak = worked(), time.monotonic(), 0.0
    with log.open("w") as said:
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT)
        ended = threading.Event()

        def watch() -> None:
            nonlocal peak
            while not ended.wait(0.5):
                peak = max(peak, held(process.pid))

        watching = threading.Thread(target=watch)
        watching.start()
        status = process.wait()
        ended.set()
        watching.join()
    if status:
        sys.exit(f"{' '.join(command)}: ended with status {status}; its words stand in {log}")
    return Cost(time.monotonic() - started, worked() - before, peak)


def worked() -> float:
    """Seconds of processors for all processes that have ended, those that a stage left behind among them."""
    with suppress(ChildProcessError):
        while True:
            os.wait()
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ended.ru_utime + ended.ru_stime


def defer(process: int) -> float:
    """Bytes that a process and its children hold, a page that some share counted once (proc(5), Pss)."""
    total = 0.0
    with suppress(OSError):  # it may end at any moment
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += float(line.split()[1]) * 1024
    return total + sum(map(held, children(process)))
