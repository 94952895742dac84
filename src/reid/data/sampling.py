"""Batches for the triplet loss: P individuals, K photographs of each (Hermans, Beyer, Leibe 2017, section 2)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

__all__ = ["Batch", "PKSampler", "ShuffledSampler", "TurnsSampler"]


class Batch(NamedTuple):
    """The photographs of one training step, and the seed of their augmentations."""

    places: np.ndarray
    """(B,) integers, where the photographs stand in the database."""
    seed: int


@dataclass
class PKSampler:
    """The batches of one epoch: every individual once, with K photographs, at most P individuals a batch.

    The individuals are spread evenly: 34 of them with P = 16 come as batches of 12, 11 and 11, because a last batch of
    two would have hardly any negatives. An individual with fewer than K photographs gives all of them, and some again
    until there are K; each copy has its own augmentation, so these are the report's augmented copies.

    Attributes:
        places: (M,) integers, the photographs to learn from.
        identities: (M,) the individual on each.
        individuals: P, the most individuals in a batch.
        photographs: K, the photographs of each.
        seed: the same seed and epoch give the same batches.
        epoch: to be set before each epoch.
    """

    places: np.ndarray
    identities: np.ndarray
    individuals: int
    photographs: int
    seed: int
    epoch: int = 0

    def __post_init__(self) -> None:
        self._photographs_of = _grouped(self.places, self.identities)

    def __len__(self) -> int:
        return -(-len(self._photographs_of) // self.individuals)

    def __iter__(self) -> Iterator[Batch]:
        rng = np.random.default_rng([self.seed, self.epoch])
        order = rng.permutation(len(self._photographs_of))
        for batch in range(len(self)):
            individuals = order[batch :: len(self)]
            chosen = [_draw(self._photographs_of[one], self.photographs, rng) for one in individuals]
            yield Batch(np.concatenate(chosen), int(rng.integers(2**63)))


@dataclass
class TurnsSampler:
    """Batches of several datasets in one epoch, each batch from one of them, in random order.

    Attributes:
        samplers: one per dataset.
        seed, epoch: as for `PKSampler`.
    """

    samplers: tuple[PKSampler, ...]
    seed: int
    epoch: int = 0

    def __len__(self) -> int:
        return sum(map(len, self.samplers))

    def __iter__(self) -> Iterator[Batch]:
        for sampler in self.samplers:
            sampler.epoch = self.epoch
        turns = np.repeat(np.arange(len(self.samplers)), [len(sampler) for sampler in self.samplers])
        batches = [iter(sampler) for sampler in self.samplers]
        for turn in np.random.default_rng([self.seed, self.epoch, 1]).permutation(turns):
            yield next(batches[turn])


@dataclass
class ShuffledSampler:
    """The batches of one epoch of plain classification: every photograph once, in a new order.

    Classes of very different size are balanced: in each epoch every class gives as many photographs as the largest,
    some of them several times with other augmentations, but at most `repeat` times as many as it has.

    Attributes:
        places: (M,) integers, the photographs to learn from.
        labels: (M,) the class of each.
        batch_size: the most photographs in a batch.
        seed, epoch: as for `PKSampler`.
        repeat: how often a photograph of a small class may come in an epoch.
    """

    places: np.ndarray
    labels: np.ndarray
    batch_size: int
    seed: int
    repeat: int = 4
    epoch: int = 0

    def __post_init__(self) -> None:
        self._photographs_of = _grouped(self.places, self.labels)
        largest = max(map(len, self._photographs_of))
        self._counts = [min(largest, self.repeat * len(photographs)) for photographs in self._photographs_of]

    def __len__(self) -> int:
        return -(-sum(self._counts) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        rng = np.random.default_rng([self.seed, self.epoch])
        pairs = zip(self._photographs_of, self._counts, strict=True)
        drawn = [_draw(photographs, count, rng) for photographs, count in pairs]
        for batch in np.array_split(rng.permutation(np.concatenate(drawn)), len(self)):
            yield Batch(batch, int(rng.integers(2**63)))


def _grouped(places: np.ndarray, labels: np.ndarray) -> list[np.ndarray]:
    """Return the places of each label, labels in ascending order."""
    return [places[labels == label] for label in np.unique(labels)]


def _draw(photographs: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw (count,) photographs; all of them come before any comes again."""
    rounds = [rng.permutation(photographs) for _ in range(-(-count // len(photographs)))]
    return np.concatenate(rounds)[:count]
