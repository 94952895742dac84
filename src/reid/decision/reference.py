"""Pseudo-collections: photographs of the database that play a collection of unknown animals, so that a cut can be
fitted.

Which photographs, and how far apart they are for encoders that have not learned from them, is found once, when a
weights folder is calibrated (`find_reference`); it stands in a file next to the gallery. `discover` draws
pseudo-collections from it, as dense as the photographs it has to put together if there are so many of an individual
(`draw_collection`).
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from reid.decision.artifact import reference_file
from reid.errors import InputError
from reid.runtime.files import write_bytes

__all__ = ["Reference", "companions_of", "draw_collection", "is_first", "load_reference", "save_reference"]


@dataclass(frozen=True)
class Reference:
    """Known photographs of one dataset, out of which pseudo-collections are drawn.

    Attributes:
        image_id: (n,) which; no two of them are near-duplicates.
        identity: (n,) the individual on each, by a number (`pseudo_queries.numbered`); in folders of earlier versions
            by its name.
        day: (n,) as in the catalogue, "" where not known.
        distances: (n, n) float32, how far apart they are for encoders that have met neither of the two individuals, or
            where there is none, for the two encoders that have met one of them; in the median distance of each
            encoder. (0, 0) where there is no encoder.
    """

    image_id: tuple[str, ...]
    identity: tuple[str, ...]
    day: tuple[str, ...]
    distances: np.ndarray

    def __len__(self) -> int:
        return len(self.image_id)

    @property
    def individuals(self) -> int:
        """How many individuals have two photographs or more."""
        return int((np.unique(self.identity, return_counts=True)[1] > 1).sum()) if self.identity else 0


def is_first(groups: np.ndarray) -> np.ndarray:
    """(N,) bool, the first row of each group (N,)."""
    first = np.zeros(len(groups), bool)
    first[np.unique(groups, return_index=True)[1]] = True
    return first


def save_reference(folder: Path, dataset: str, reference: Reference) -> None:
    """Write the file of a dataset's reference photographs."""
    rows = {"image_id": reference.image_id, "identity": reference.identity, "day": reference.day}
    tensors = {
        "distances": torch.from_numpy(reference.distances),
        "rows": torch.from_numpy(np.frombuffer(json.dumps(rows).encode(), np.uint8).copy()),
    }
    write_bytes(folder / reference_file(dataset), save(tensors))


def load_reference(folder: Path, dataset: str) -> Reference | None:
    """Return the reference photographs of a dataset; None where the folder was calibrated by a version without them.

    Raises:
        InputError: the file is damaged.
    """
    path = folder / reference_file(dataset)
    if not path.exists():
        return None
    try:
        tensors = load_file(path)
        rows = json.loads(tensors["rows"].numpy().tobytes())
        image_id, identity, day = (tuple(map(str, rows[name])) for name in ("image_id", "identity", "day"))
        distances = tensors["distances"].numpy()
        size = len(image_id)
        if not size == len(identity) == len(day) or distances.shape not in ((0, 0), (size, size)):
            raise ValueError("its columns have other lengths")
        return Reference(image_id, identity, day, distances)
    except (SafetensorError, LookupError, TypeError, ValueError, OSError) as problem:
        raise InputError(f"{path}: it can't be read ({problem}); run `reid calibrate` again") from None


class Collection(NamedTuple):
    """A pseudo-collection."""

    rows: np.ndarray
    """(n,) int64, rows of the reference, ascending."""
    labels: np.ndarray
    """(n,) str, the individuals."""


def companions_of(labels: np.ndarray) -> float:
    """Return how many other photographs of the same individual a photograph has on average."""
    counts = np.unique(labels, return_counts=True)[1]
    return float((counts * (counts - 1)).sum() / max(1, len(labels)))


def draw_collection(reference: Reference, companions: float, size: int, rng: np.random.Generator) -> Collection:
    """Draw a pseudo-collection of a density.

    Individuals in random order, each with a random number of photographs, geometric, so that a photograph has so many
    companions on average (2 (m - 1) at a mean of m photographs), or fewer where the reference has no more. Photographs
    of one individual are of different days where days are known: those of one day are alike by more than the animal.

    Args:
        reference: known photographs.
        companions: see `companions_of`.
        size: photographs at most.
        rng: random numbers.
    """
    labels, days = np.array(reference.identity), np.array(reference.day)
    chosen: list[int] = []
    for individual in rng.permutation(np.unique(labels)):
        own = rng.permutation(np.flatnonzero(labels == individual))
        own = own[is_first(days[own]) | (days[own] == "")]
        chosen += own[: rng.geometric(1 / (1 + companions / 2))].tolist()
        if len(chosen) >= size:
            break
    rows = np.sort(np.array(chosen[:size], np.int64))
    return Collection(rows, labels[rows])
