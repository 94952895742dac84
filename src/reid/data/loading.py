"""Photographs by the batch: opened by threads, or decoded once and kept on disk for a training."""

import math
import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from reid.config.recipe import AugmentationConfig, Recipe
from reid.config.runtime import Runtime
from reid.data.augmentation import Part, augment
from reid.data.boxes import by_photograph
from reid.data.catalogue import Catalogue
from reid.data.photographs import GREY, Decoded, UnreadableError, View, decode_all, fit_square, views_of
from reid.data.sampling import Batch
from reid.errors import InputError
from reid.runtime.distributed import core_count, shard
from reid.runtime.progress import track

__all__ = ["PhotographStore", "decode_photographs", "photograph_batches", "temporary_folder", "training_batches"]

Item = TypeVar("Item")

Extractor = Callable[..., Any]
"""From an upright photograph (H, W, 3) uint8, RGB, to local features or whatever else is wanted of it; of one with a
mask also from this, (h, w) bool, see `photographs.Decoded`."""

BATCHES_AHEAD = 8
"""How many batches are opened in advance while a GPU works: 512 photographs, which take as long as the networks take to
load. They hold 77 MB at 224 pixels, and up to 0.5 MB each for their keypoints."""

ZEROS = 2**20
"""Bytes that are written at a time to reserve a file's space where the system has no call for it."""


class Opened(NamedTuple):
    """A batch of photographs out of their files."""

    pixels: Tensor
    """(B, 3, S, S) uint8; grey for a photograph that can't be read, so that one broken file never ends a run."""
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
        if extract:
            mask = [] if decoded.mask is None else [decoded.mask]
            extracted = extract(np.asarray(decoded.upright(decoded.image)), *mask)
    except UnreadableError as unreadable:
        pixels, problem = np.full((view.size, view.size, 3), GREY, np.uint8), str(unreadable)
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


@dataclass(frozen=True)
class PhotographStore:
    """Photographs decoded once and kept on disk for the whole training.

    Attributes:
        file: an array (N, 3, S, S) uint8 in NumPy's format, to be mapped into memory.
        problems: (N,) why a photograph can't be read; "" where it can.
    """

    file: Path
    problems: tuple[str, ...]

    def pixels(self) -> np.ndarray:
        """Return all photographs, (N, 3, S, S) uint8, mapped from the file."""
        mapped: np.ndarray = np.load(self.file, mmap_mode="r")
        return mapped

    def batches(self, places: np.ndarray, batch_size: int) -> Iterator[Tensor]:
        """Yield photographs without augmentation in the order of the places, (B, 3, S, S) uint8."""
        pixels = self.pixels()
        for start in range(0, len(places), batch_size):
            yield torch.from_numpy(pixels[places[start : start + batch_size]])


def decode_photographs(
    catalogue: Catalogue, recipe: Recipe, folder: Path, runtime: Runtime = Runtime()
) -> PhotographStore:
    """Decode every photograph of a catalogue once, into a file in `folder`.

    Raises:
        InputError: the disk is full.
    """
    file = folder / "photographs.npy"
    views = views_of(catalogue, recipe)
    shape = (len(catalogue), 3, views[0].size, views[0].size)
    try:
        pixels = np.lib.format.open_memmap(file, mode="w+", dtype=np.uint8, shape=shape)
        _reserve(file, pixels.offset)
    except OSError as problem:
        raise InputError(
            f"{file}: {math.prod(shape) / 1e9:.1f} GB of decoded photographs don't fit there ({problem.strerror}); "
            "name a larger disk with the variable TMPDIR"
        ) from None
    paths, problems = catalogue.paths, np.full(len(catalogue), "", object)
    order, done = np.concatenate(by_photograph(paths)), 0
    ordered = [paths[row] for row in order], [views[row] for row in order]
    for opened in photograph_batches(*ordered, runtime, "decoding photographs"):
        rows = order[done : done + len(opened.problems)]
        pixels[rows], problems[rows] = opened.pixels.numpy(), opened.problems
        done += len(rows)
    pixels.flush()
    return PhotographStore(file, tuple(problems.tolist()))


def _reserve(file: Path, start: int) -> None:
    """Reserve a file's space on the disk: writing to a mapped file on a full disk would kill the process.

    Args:
        file: as long as it will be.
        start: the first byte of the zeros that fill it.

    Raises:
        OSError: the disk is full.
    """
    end = file.stat().st_size
    with file.open("r+b") as reserved:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(reserved.fileno(), 0, end)
            return
        reserved.seek(start)  # macOS and Windows reserve what is written
        for place in range(start, end, ZEROS):
            reserved.write(bytes(min(ZEROS, end - place)))


def temporary_folder() -> tempfile.TemporaryDirectory[str]:
    """Return a folder that is deleted afterwards, on the fast local disk that $TMPDIR names on a cluster.

    Raises:
        InputError: none can be made.
    """
    try:
        return tempfile.TemporaryDirectory(prefix="reid-", ignore_cleanup_errors=True)
    except OSError as problem:
        raise InputError(
            f"no folder for decoded photographs can be made ({problem.strerror or problem}); name a disk with free "
            "space with the variable TMPDIR"
        ) from None


def training_batches(
    store: PhotographStore, config: AugmentationConfig, sampler: Iterable[Batch], device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield this rank's share of each batch, augmented, and the places of the whole batch.

    While the device augments and learns from a batch, the next one is read from the store.

    Yields:
        (b, 3, S, S) uint8 and (B,) int64, both on the device.
    """
    for batch, part, read in _prefetched(_read_batches(store, sampler, device)):
        photographs, places = (
            tensor.to(device, non_blocking=True) for tensor in (read, torch.from_numpy(batch.places))
        )
        yield augment(photographs, config, np.random.default_rng(batch.seed), part), places


def _read_batches(
    store: PhotographStore, sampler: Iterable[Batch], device: torch.device
) -> Iterator[tuple[Batch, Part, Tensor]]:
    """Yield this rank's photographs of each batch, (b, 3, S, S) uint8, for a GPU in memory that it copies from by
    itself."""
    pixels = store.pixels()
    for batch in sampler:
        part = Part(len(batch.places), shard(len(batch.places)))
        read = torch.from_numpy(pixels[batch.places[part.own]])
        yield batch, part, read.pin_memory() if device.type == "cuda" else read


def _prefetched(items: Iterator[Item]) -> Iterator[Item]:
    """Yield the same items; a thread makes the next one while one is in use."""
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(next, items, None)
        while (item := waiting.result()) is not None:
            waiting = thread.submit(next, items, None)
            yield item
