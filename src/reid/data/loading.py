"""Photographs by the batch, opened by threads."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import groupby, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from reid.config.runtime import Runtime
from reid.data.photographs import GREY, Decoded, UnreadableError, View, covered_square, decode_all, fit_square
from reid.runtime.distributed import core_count
from reid.runtime.progress import track

__all__ = ["photograph_batches"]

Extractor = Callable[..., Any]
"""From an upright photograph (H, W, 3) uint8, RGB, to local features or whatever else is wanted of it; of one with a
mask also from this, (h, w) bool, see `photographs.Decoded`."""

BATCHES_AHEAD = 8
"""How many batches are opened in advance while a GPU works: 512 photographs, which take as long as the networks take to
load. They hold 77 MB at 224 pixels, and up to 0.5 MB each for their keypoints."""


class Opened(NamedTuple):
    """A batch of photographs out of their files."""

    pixels: Tensor
    """(B, 3, S, S) uint8, with `View.covers` (B, 4, S, S); grey for a photograph that can't be read, so that one broken
    file never ends a run."""
    extracted: list[Any]
    """(B,) what its extractor returned; None where there was none, or the photograph can't be read."""
    problems: list[str]
    """(B,) why a photograph can't be read; "" where it can."""


Row = tuple[Tensor, Any, str]
"""One photograph's row of `Opened`."""


def _open(path: Path, views: Sequence[View], extractors: Sequence[Extractor | None]) -> list[Row]:
    """Return the rows of one photograph, which is decoded once."""
    decoded = decode_all(path, views)
    return [_row(*each) for each in zip(decoded, views, extractors, strict=True)]


def _row(decoded: Decoded | UnreadableError, view: View, extract: Extractor | None) -> Row:
    extracted, problem = None, ""
    try:
        if isinstance(decoded, UnreadableError):
            raise decoded
        pixels = fit_square(decoded, view)
        if view.covers:
            pixels = np.concatenate([pixels, covered_square(decoded, view)], axis=2)
        if extract:
            mask = [] if decoded.mask is None else [decoded.mask]
            extracted = extract(np.asarray(decoded.upright(decoded.image)), *mask)
    except UnreadableError as unreadable:
        pixels, problem = np.full((view.size, view.size, 3 + view.covers), GREY, np.uint8), str(unreadable)
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy()), extracted, problem


def photograph_batches(
    paths: Sequence[Path],
    views: Sequence[View],
    runtime: Runtime,
    what: str,
    extractors: Sequence[Extractor | None] | None = None,
) -> Iterator[Opened]:
    """Yield batches of photographs from their files, in order.

    Each file is decoded once, for the network and for its extractor, and for all rows of it that follow each other
    (see `boxes.by_photograph`). Threads do it. With a GPU they are some batches
    ahead of it; without one they would only take turns with the network on the same cores, and open a batch when it is
    wanted.

    Args:
        paths: the files.
        views: how to open each; all of one size.
        runtime: `batch_size`, `threads`.
        what: the work in a few words, for the progress.
        extractors: what else to compute of each photograph; None for nothing.
    """
    jobs = list(zip(paths, views, extractors or [None] * len(paths), strict=True))
    batches = open_in_threads(jobs, runtime, torch.cuda.is_available())
    yield from track(batches, what, total=-(-len(jobs) // runtime.batch_size))


def open_in_threads(
    jobs: Sequence[tuple[Path, View, Extractor | None]], runtime: Runtime, has_gpu: bool
) -> Iterator[Opened]:
    """Yield batches of photographs; with a GPU, `BATCHES_AHEAD` of them are opened in advance.

    Decoding and OpenCV release Python's lock; sorting keypoints does not. With a GPU, torch keeps to one thread
    meanwhile: several would wait actively for those of them that get no core (benchmarks/README.md, Predict).
    """
    waiting: deque[list[_Coming]] = deque()
    pool, threads = ThreadPoolExecutor(runtime.threads or core_count()), torch.get_num_threads()
    torch.set_num_threads(1 if has_gpu else threads)
    try:
        coming = _submitted(jobs, pool)
        for _ in range(0, len(jobs), runtime.batch_size):
            waiting.append(list(islice(coming, runtime.batch_size)))
            if len(waiting) > BATCHES_AHEAD * has_gpu:
                yield _collate(waiting.popleft(), has_gpu)
        while waiting:
            yield _collate(waiting.popleft(), has_gpu)
    finally:
        torch.set_num_threads(threads)
        pool.shutdown(cancel_futures=True)


_Coming = tuple[Future[list[Row]], int]
"""The rows of a photograph as soon as it is opened, and which of them is meant."""


def _submitted(jobs: Sequence[tuple[Path, View, Extractor | None]], pool: ThreadPoolExecutor) -> Iterator[_Coming]:
    """Yield a place for each job; when the first of a photograph is asked for, a thread begins to open it."""
    for path, group in groupby(jobs, key=lambda job: job[0]):
        _, views, extractors = zip(*group, strict=True)
        future = pool.submit(_open, path, views, extractors)
        yield from ((future, row) for row in range(len(views)))


def _collate(opening: Sequence[_Coming], has_gpu: bool) -> Opened:
    """Return a batch as soon as its photographs are opened, with a GPU in memory that it copies from by itself."""
    pixels, extracted, problems = zip(*(future.result()[row] for future, row in opening), strict=True)
    batch = torch.stack(pixels)
    return Opened(batch.pin_memory() if has_gpu else batch, list(extracted), list(problems))
