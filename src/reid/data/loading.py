"""Photographs by the batch: from their files, or decoded once and kept on disk for a training."""

import math
import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from reid.config.recipe import Recipe
from reid.config.runtime import Runtime
from reid.data.augmentation import Part, augment
from reid.data.catalogue import Catalogue
from reid.data.photographs import GREY, UnreadableError, View, decode, fit_square, views_of
from reid.data.sampling import Batch
from reid.errors import InputError
from reid.runtime.distributed import core_count, shard
from reid.runtime.progress import track

__all__ = ["PhotographStore", "decode_photographs", "photograph_batches", "temporary_folder", "training_batches"]

Item = TypeVar("Item")

Extractor = Callable[[np.ndarray], Any]
"""From an upright photograph (H, W, 3) uint8, RGB, to whatever is to be known of it beside the network's pixels."""


BATCHES_AHEAD = 8
"""Are being opened, or lie opened, beside a GPU: 512 photographs, which take as long as the networks to be loaded. They
hold 77 MB at 224 pixels, and as much as 0.5 MB each for their keypoints."""


ZEROS = 2**20
"""Bytes that are written at a time where a file's place on the disk can't be taken otherwise."""


class Opened(NamedTuple):
    """Photographs out of their files."""

    pixels: Tensor
    """(B, 3, S, S) uint8; grey for a photograph that can't be read, so that one broken file never ends a run."""
    extracted: list[Any]
    """(B,) what the extractor found; None where it was not asked, or the photograph can't be read."""
    problems: list[str]
    """(B,) what was wrong: "" when all is well, else the reason."""


def _open(path: Path, view: View, extract: Extractor | None) -> Opened:
    """Open one photograph."""
    extracted, problem = None, ""
    try:
        decoded = decode(path, view)
        pixels = fit_square(decoded, view)
        if extract:
            extracted = extract(np.asarray(decoded.upright(decoded.image)))
    except UnreadableError as unreadable:
        pixels, problem = np.full((view.size, view.size, 3), GREY, np.uint8), str(unreadable)
    return Opened(torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None], [extracted], [problem])


def _together(opened: list[Opened]) -> Opened:
    return Opened(
        torch.cat([photograph.pixels for photograph in opened]),
        [photograph.extracted[0] for photograph in opened],
        [photograph.problems[0] for photograph in opened],
    )


def photograph_batches(
    paths: Sequence[Path],
    views: Sequence[View],
    runtime: Runtime,
    what: str,
    extractors: Sequence[Extractor | None] | None = None,
) -> Iterator[Opened]:
    """Batches of photographs from their files, in order.

    Each file is decoded once, for the networks and for the extractors. Threads open them: beside a GPU those of some
    batches to come; without one, where they would only take turns with the network, those of the batch that is asked
    for.

    Args:
        paths: the files.
        views: how to look at each; all of one size.
        runtime: `batch_size`, `threads`.
        what: the work in a few words.
        extractors: what else is to be known of each photograph; None for nothing.
    """
    jobs = list(zip(paths, views, extractors or [None] * len(paths), strict=True))
    batches = _by_threads(jobs, runtime, torch.cuda.is_available())
    yield from track(batches, what, total=-(-len(jobs) // runtime.batch_size))


def _by_threads(jobs: Sequence[tuple[Path, View, Extractor | None]], runtime: Runtime, gpu: bool) -> Iterator[Opened]:
    """Decoding and OpenCV release Python's lock; sorting keypoints does not.

    Beside a GPU torch keeps to one thread meanwhile: of several, each would wait, and not idly, for those that have no
    core (benchmarks/README.md, Predict).
    """
    waiting: deque[list[Future[Opened]]] = deque()
    pool, threads = ThreadPoolExecutor(runtime.threads or core_count()), torch.get_num_threads()
    torch.set_num_threads(1 if gpu else threads)
    try:
        for start in range(0, len(jobs), runtime.batch_size):
            waiting.append([pool.submit(_open, *job) for job in jobs[start : start + runtime.batch_size]])
            if len(waiting) > BATCHES_AHEAD * gpu:
                yield _arrived(waiting.popleft(), gpu)
        while waiting:
            yield _arrived(waiting.popleft(), gpu)
    finally:
        torch.set_num_threads(threads)
        pool.shutdown(cancel_futures=True)


def _arrived(batch: list[Future[Opened]], gpu: bool) -> Opened:
    """In memory that a GPU copies from by itself."""
    opened = _together([opening.result() for opening in batch])
    return opened._replace(pixels=opened.pixels.pin_memory()) if gpu else opened


@dataclass(frozen=True)
class PhotographStore:
    """Photographs decoded once and kept on disk for the whole training.

    Attributes:
        file: an array (N, 3, S, S) uint8 in NumPy's format, which is mapped into memory.
        problems: per photograph what was wrong with it, "" when nothing.
    """

    file: Path
    problems: tuple[str, ...]

    def pixels(self) -> np.ndarray:
        """(N, 3, S, S) uint8, mapped from the file."""
        mapped: np.ndarray = np.load(self.file, mmap_mode="r")
        return mapped

    def batches(self, places: np.ndarray, batch_size: int) -> Iterator[Tensor]:
        """Photographs as they are enrolled, in the order of the places. (B, 3, S, S) uint8"""
        pixels = self.pixels()
        for start in range(0, len(places), batch_size):
            yield torch.from_numpy(pixels[places[start : start + batch_size]])


def decode_photographs(
    catalogue: Catalogue, recipe: Recipe, folder: Path, runtime: Runtime = Runtime()
) -> PhotographStore:
    """Decode every photograph of a catalogue once, into a file in `folder`."""
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
    problems: list[str] = []
    for opened in photograph_batches(catalogue.paths, views, runtime, "decoding photographs"):
        pixels[len(problems) : len(problems) + len(opened.pixels)] = opened.pixels.numpy()
        problems += opened.problems
    pixels.flush()
    return PhotographStore(file, tuple(problems))


def _reserve(file: Path, start: int) -> None:
    """Take a file's place on the disk: a mapped file on a full disk would kill the process instead.

    Args:
        file: as long as it will be.
        start: from which byte on it is zeros.

    Raises:
        OSError: the disk is full.
    """
    end = file.stat().st_size
    with file.open("r+b") as reserved:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(reserved.fileno(), 0, end)
            return
        reserved.seek(start)  # macOS and Windows: what is written takes its place
        for place in range(start, end, ZEROS):
            reserved.write(bytes(min(ZEROS, end - place)))


def temporary_folder() -> tempfile.TemporaryDirectory[str]:
    """Return a folder that is gone afterwards, on the fast local disk that $TMPDIR names on a cluster.

    Raises:
        InputError: there is no place for one.
    """
    try:
        return tempfile.TemporaryDirectory(prefix="reid-", ignore_cleanup_errors=True)
    except OSError as problem:
        raise InputError(
            f"no folder for decoded photographs can be made ({problem.strerror or problem}); name a disk with free "
            "space with the variable TMPDIR"
        ) from None


def training_batches(
    store: PhotographStore, recipe: Recipe, sampler: Iterable[Batch], device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """This rank's share of the augmented photographs, (b, 3, S, S) uint8, and the places of all, (B,) int64, on the
    device.

    The photographs are decoded already, so one process is fast enough: the augmentation is the device's work. While it
    works on a batch, the next is read from the file.
    """
    for batch, part, read in _prefetched(_read_batches(store, sampler, device)):
        photographs, places = (
            tensor.to(device, non_blocking=True) for tensor in (read, torch.from_numpy(batch.places))
        )
        yield augment(photographs, recipe, np.random.default_rng(batch.seed), part), places


def _read_batches(
    store: PhotographStore, sampler: Iterable[Batch], device: torch.device
) -> Iterator[tuple[Batch, Part, Tensor]]:
    """This rank's photographs out of the store, (b, 3, S, S) uint8, in memory that a GPU copies from by itself."""
    pixels = store.pixels()
    for batch in sampler:
        part = Part(len(batch.places), shard(len(batch.places)))
        read = torch.from_numpy(pixels[batch.places[part.own]])
        yield batch, part, read.pin_memory() if device.type == "cuda" else read


def _prefetched(items: Iterator[Item]) -> Iterator[Item]:
    """Return the same items, each made by another thread while the one before it is in use."""
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(next, items, None)
        while (item := waiting.result()) is not None:
            waiting = thread.submit(next, items, None)
            yield item
