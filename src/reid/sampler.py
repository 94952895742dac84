"""Batches for the triplet loss: P individuals, K photographs of each (Hermans, Beyer, Leibe 2017, section 2)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

__all__ = ["Draw", "PKSampler", "ShuffledSampler"]


class Draw(NamedTuple):
    """One place in a batch: which photograph, and the seed of the augmentation that it gets there."""

    place: int
    seed: int


@dataclass
class PKSampler:
    """The batches of one epoch: every individual exactly once, with K photographs, at most P individuals a batch.

    The individuals are spread evenly: 34 of them with P = 16 come as batches of 12, 11 and 11, because a rest of two
    would be a batch with hardly a negative. An individual with fewer than K photographs gives all of them, and some
    again until there are K: each place has its own augmentation, so these are the report's augmented copies.

    Attributes:
        identities: per photograph the individual's id.
        individuals: P, at most so many individuals a batch.
        photographs: K, the photographs of each.
        seed: the same seed and epoch give the same batches.
        epoch: set by who iterates, before each epoch.
    """

    identities: Sequence[str] | np.ndarray
    individuals: int
    photographs: int
    seed: int
    epoch: int = 0

    def __post_init__(self) -> None:
        labels = np.asarray(self.identities)
        self._photographs_of = [np.flatnonzero(labels == identity) for identity in np.unique(labels)]

    def __len__(self) -> int:
        return -(-len(self._photographs_of) // self.individuals)

    def __iter__(self) -> Iterator[list[Draw]]:
        rng = np.random.default_rng([self.seed, self.epoch])
        order = rng.permutation(len(self._photographs_of))
        for batch in np.array_split(order, len(self)):
            chosen = np.concatenate([self._draw(self._photographs_of[individual], rng) for individual in batch])
            seeds = rng.integers(2**63, size=len(chosen))
            yield [Draw(int(place), int(seed)) for place, seed in zip(chosen, seeds, strict=True)]

    def _draw(self, photographs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """K of an individual's photographs, all of them before any comes again. (K,)"""
        rounds = -(-self.photographs // len(photographs))
        return np.concatenate([rng.permutation(photographs) for _ in range(rounds)])[: self.photographs]


@dataclass
class ShuffledSampler:
    """The batches of one epoch of plain classification: every photograph once, in a new order.

    Classes of very different size are balanced: in each epoch every class gives as many places as the largest, its
    photographs coming again with other augmentations, but at most `repeat` times as many as it has.
    """

    labels: Sequence[str] | np.ndarray
    batch_size: int
    seed: int
    repeat: int = 4
    epoch: int = 0

    def __post_init__(self) -> None:
        labels = np.asarray(self.labels)
        self._photographs_of = [np.flatnonzero(labels == label) for label in np.unique(labels)]
        largest = max(map(len, self._photographs_of))
        self._places = [min(largest, self.repeat * len(photographs)) for photographs in self._photographs_of]

    def __len__(self) -> int:
        return -(-sum(self._places) // self.batch_size)

    def __iter__(self) -> Iterator[list[Draw]]:
        rng = np.random.default_rng([self.seed, self.epoch])
        drawn = [
            np.concatenate([rng.permutation(photographs) for _ in range(-(-places // len(photographs)))])[:places]
            for photographs, places in zip(self._photographs_of, self._places, strict=True)
        ]
        order = rng.permutation(np.concatenate(drawn))
        seeds = rng.integers(2**63, size=len(order))
        for batch in np.array_split(np.arange(len(order)), len(self)):
            yield [Draw(int(order[place]), int(seeds[place])) for place in batch]
