"""Peers measured side by side: one process, in turns, each warmed up once, every time kept.

A case is a generator of contests, `def contests(options: Options) -> Iterator[Contest]`; a contest is one size of the
work and the callables that do it. `run.py` lists the cases.
"""

import ctypes
import gc
import math
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd
import torch

__all__ = ["Contest", "NotHereError", "Options", "children", "interval", "machine", "measure", "plot", "show", "table"]

ROUNDS = 3, 50
"""Every peer gets at least so many timed calls, and at most so many: three have a median."""


CHEAP = 1.0
"""Seconds of work of a call that may be called once more."""


class NotHereError(Exception):
    """A case can't be measured here; the message says why."""


@dataclass(frozen=True)
class Options:
    """What the command line chose.

    Attributes:
        quick: small sizes.
        seconds: how long the timed rounds of one contest go on, once each peer has had its three.
        photographs: a folder of large photographs.
    """

    quick: bool
    seconds: float
    photographs: Path


@dataclass(frozen=True)
class Contest:
    """One size of the work.

    Attributes:
        size: what the plot's x axis counts.
        label: the size in words, with its unit.
        peers: by name; a call does the whole work and returns its result.
        reference: the peer that the others' ratios are to.
        items: how many things a call works through, for the rate.
        notes: says what the peers' results are worth, from the results of the warm-up, by name.
        on_gpu: whether the peers' memory is the GPU's.
    """

    size: float
    label: str
    peers: Mapping[str, Callable[[], Any]]
    reference: str
    items: int = 1
    notes: Callable[[Mapping[str, Any]], Mapping[str, str]] = lambda results: {}
    on_gpu: bool = False


T95 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 9: 2.31, 10: 2.26}
"""Student's t for a two-sided interval of 95 % over so many seeds."""


def interval(values: pd.Series) -> str:
    """Mean and 95 % interval over seeds."""
    if len(values) < 2:
        return f"{values.mean():.3f}"
    return f"{values.mean():.3f} ± {T95[min(10, len(values))] * values.std(ddof=1) / math.sqrt(len(values)):.3f}"


def machine() -> str:
    """The machine in a line: cores, memory, versions, threads."""
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    names = (line.split(": ")[1] for line in _lines("/proc/cpuinfo") if line.startswith("model name"))
    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return (
        f"{len(os.sched_getaffinity(0))} cores of {next(names, 'a processor')}, {gigabytes:.0f} GB{gpu}; "
        f"Python {platform.python_version()}, torch {torch.__version__} with {torch.get_num_threads()} threads; "
        f"load before the start {os.getloadavg()[0]:.1f}"
    )


def measure(contest: Contest, seconds: float) -> list[dict[str, Any]]:
    """Calls every peer once to warm it up and see its memory, a cheap one once more for its memory, because the first
    call also takes what libraries take once; then all of them in turns: A B C A B C ...

    Returns:
        A row per peer: size, label, peer, calls; median_s, min_s, max_s, seconds of a call; per_second, items by the
        median; ratio, the median over the rounds of its time to the reference's time of the same round, so that a
        neighbour on the machine who slows a round down slows both; cpu_s, the median of the seconds that processors
        worked for it, its worker processes' too, which neighbours hardly change, and cpu_ratio of them; peak_mb, memory
        at its highest above what was held before the warm-up call, in MB; note.
    """
    results, peaks = {}, {}
    for name, call in contest.peers.items():
        worked = _work()
        results[name], peaks[name] = _peak_memory(call, contest.on_gpu)
        if _work() - worked < CHEAP:
            peaks[name] = _peak_memory(call, contest.on_gpu)[1]
    notes = contest.notes(results)
    del results
    times: dict[str, list[float]] = {name: [] for name in contest.peers}
    works: dict[str, list[float]] = {name: [] for name in contest.peers}
    started, (fewest, most) = time.monotonic(), ROUNDS
    for done in range(most):
        if done >= fewest and time.monotonic() - started > seconds:
            break
        for name, call in contest.peers.items():
            seconds_of_call, work = _seconds(call)
            times[name].append(seconds_of_call)
            works[name].append(work)
    return [
        {
            "size": contest.size,
            "label": contest.label,
            "peer": name,
            "calls": len(own),
            "median_s": statistics.median(own),
            "min_s": min(own),
            "max_s": max(own),
            "per_second": contest.items / statistics.median(own),
            "ratio": _ratio(own, times[contest.reference]),
            "cpu_s": statistics.median(works[name]),
            "cpu_ratio": _ratio(works[name], works[contest.reference]),
            "peak_mb": peaks[name] / 1e6,
            "note": notes.get(name, ""),
        }
        for name, own in times.items()
    ]


def _ratio(own: list[float], reference: list[float]) -> float:
    """The median over the rounds; NaN where the clock ticks too slowly to see the reference work."""
    return statistics.median(a / b if b else math.nan for a, b in zip(own, reference, strict=True))


def table(contests: Iterator[Contest], seconds: float) -> Iterator[pd.DataFrame]:
    """The rows of each contest as soon as it is measured."""
    for contest in contests:
        yield pd.DataFrame(measure(contest, seconds))


def show(rows: pd.DataFrame) -> str:
    """The rows of one contest for a terminal or a page, as a Markdown table."""
    lines = [
        f"| {rows['label'].iloc[0]} | median | min | max | ratio | CPU | CPU ratio | per second | peak MB | calls | |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    row: Any
    for row in rows.itertuples():
        times = " | ".join(_duration(value) for value in (row.median_s, row.min_s, row.max_s))
        lines.append(
            f"| {row.peer} | {times} | {row.ratio:.2f} | {_duration(row.cpu_s)} | {row.cpu_ratio:.2f} "
            f"| {row.per_second:,.4g} | {row.peak_mb:,.0f} | {row.calls} | {row.note} |"
        )
    return "\n".join(lines)


def plot(rows: pd.DataFrame, title: str, across: str, path: Path) -> None:
    """Draws seconds of a call against the size, both logarithmic, with bars from the fastest to the slowest call;
    dotted, the seconds that processors worked for it."""
    plt.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "reid"}  # small files; the same rows give the same bytes
    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    for peer, own in rows.groupby("peer", sort=False):
        bars = [own["median_s"] - own["min_s"], own["max_s"] - own["median_s"]]
        drawn = axes.errorbar(own["size"], own["median_s"], yerr=bars, marker="o", markersize=4, capsize=3, label=peer)
        axes.plot(own["size"], own["cpu_s"], linestyle=":", color=drawn[0].get_color())
    axes.set(xscale="log", yscale="log", xlabel=across, ylabel="seconds of a call; dotted: of work", title=title)
    axes.grid(which="both", alpha=0.2)
    axes.legend()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _seconds(call: Callable[[], Any]) -> tuple[float, float]:
    """How long a call takes, and how long processors work for it."""
    _wait()
    started, worked = time.perf_counter(), _work()
    kept = call()  # what it returns is freed after the clock has stopped
    _wait()
    seconds, work = time.perf_counter() - started, _work() - worked
    del kept
    return seconds, work


def _work() -> float:
    """Seconds that processors worked for this process and for those that it started."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime + sum(map(_work_of, children(os.getpid())))


def children(process: int) -> list[int]:
    """The processes that one started and that live, one of them the server that its workers are copies of."""
    found = []
    for file in Path(f"/proc/{process}/task").glob("*/children"):
        with suppress(OSError):  # the process, or one of its threads, may end at any moment
            found += [int(child) for child in file.read_text().split()]
    return found


def _work_of(process: int) -> float:
    """Seconds that processors worked for a living process and for those that it started and that have ended."""
    with suppress(OSError):  # it may end at any moment
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")  # utime, stime, cutime, cstime: proc(5)
    return 0.0


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _peak_memory(call: Callable[[], Any], on_gpu: bool) -> tuple[Any, float]:
    """What the call returns, and by how many bytes memory stood above its start at the highest."""
    gc.collect()
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
        result = call()
        return result, float(torch.cuda.max_memory_allocated() - held)
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # else freed memory that malloc keeps for itself would hide what is taken
    Path("/proc/self/clear_refs").write_text("5")  # sets the kernel's high-water mark to what is held now, proc(5)
    before = _status("VmRSS")
    result = call()
    return result, _status("VmHWM") - before


def _status(field: str) -> float:
    """A field of this process's memory, in bytes."""
    line = next(line for line in _lines("/proc/self/status") if line.startswith(f"{field}:"))
    return float(line.split()[1]) * 1024


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()


def _duration(seconds: float) -> str:
    """Three digits and a unit."""
    unit, factor = next((unit for unit in (("s", 1.0), ("ms", 1e3)) if seconds * unit[1] >= 1), ("µs", 1e6))
    return f"{seconds * factor:.3g} {unit}"
