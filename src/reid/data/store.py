"""Photographs decoded once and kept on disk for a training, and its batches out of them."""

import math
import os
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from reid.config.recipe import AugmentationConfig, Recipe
from reid.config.runtime import Runtime
from reid.data.augmentation import Part, augment
from reid.data.boxes import by_photograph
from reid.data.catalogue import Catalogue
from reid.data.loading import photograph_batches
from reid.data.photographs import views_of
from reid.data.sampling import Batch
from reid.errors import InputError
from reid.runtime.distributed import shard

__all__ = ["PhotographStore", "decode_photographs", "temporary_folder", "training_batches"]

Item = TypeVar("Item")

ZEROS = 2**20
"""Bytes that are written at a time to reserve a file's space where the system has no call for it."""


@dataclass(frozen=True)
class PhotographStore:
    """Photographs decoded once and kept on disk for the whole training.

    Attributes:
        file: an array (N, 3, S, S) uint8, or (N, 4, S, S) with `View.covers`, in NumPy's format, to be mapped into
            memory.
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
    shape = (len(catalogue), 3 + views[0].covers, views[0].size, views[0].size)
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
