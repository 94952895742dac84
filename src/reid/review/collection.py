"""The photographs of one dataset as they are reviewed: how alike they are, what is certain of them, and the decisions
that follow from both.

A decision is about two groups of photographs that were joined, or kept apart.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse

from reid.decision.count import near_pairs
from reid.decision.discovered import Clusters
from reid.decision.linkage import JOINED, MergeTree, merge_tree

__all__ = ["Collection", "Decision", "chance_same", "collection_of"]


class Decision(NamedTuple):
    """Two groups of photographs."""

    groups: tuple[np.ndarray, np.ndarray]
    """(A,) and (B,) int64, rows of the collection."""
    dissimilarity: float
    """The mean over all pairs between the groups."""
    nearest: float
    """The smallest of a pair."""
    joined: bool

    @property
    def size(self) -> int:
        """How many pairs of photographs it joins or keeps apart."""
        return len(self.groups[0]) * len(self.groups[1])


def chance_same(dissimilarity: float, cut: float) -> float:
    """Return the chance that two groups show one animal: one half at the cut, linear from there to 1 for groups that
    are the same, and to 0 for groups that have nothing in common."""
    if dissimilarity < cut:
        return 1 - dissimilarity / (2 * cut)
    return (1 - dissimilarity) / (2 * (1 - cut)) if cut < 1 else 0.5


@dataclass(frozen=True)
class Collection:
    """Photographs that are reviewed together.

    Attributes:
        dataset: theirs.
        image_ids: (N,) str.
        pairs: (P, 2) int64, rows i < j, those that were compared, each once.
        dissimilarity: (P,) float64, 0 to 1; a pair that was not compared counts as 1.
        must, cannot: (M, 2) and (C, 2) int64, rows of photographs that certainly show one animal, and two.
        cut: groups whose mean dissimilarity is below it are joined.
    """

    dataset: str
    image_ids: np.ndarray
    pairs: np.ndarray
    dissimilarity: np.ndarray
    must: np.ndarray
    cannot: np.ndarray
    cut: float

    def __len__(self) -> int:
        return len(self.image_ids)

    @cached_property
    def tree(self) -> MergeTree:
        """Which photographs are joined, and in which order."""
        return merge_tree(len(self), self.pairs, self.dissimilarity, self.must, self.cannot, cut=self.cut)

    @cached_property
    def labels(self) -> np.ndarray:
        """(N,) int64, the cluster of each photograph."""
        return self.tree.labels()

    @cached_property
    def similarity(self) -> sparse.csr_array:
        """(N, N) float64, 1 - dissimilarity, symmetric; nothing where a pair was not compared."""
        first, second = self.pairs.T
        half = sparse.coo_array((1 - self.dissimilarity, (first, second)), (len(self), len(self))).tocsr()
        return (half + half.T).tocsr()

    def with_links(self, must: np.ndarray, cannot: np.ndarray) -> "Collection":
        """Return the same photographs, with further links (M, 2) and (C, 2)."""
        return replace(self, must=np.concatenate([self.must, must]), cannot=np.concatenate([self.cannot, cannot]))

    def joins(self) -> Iterator[Decision]:
        """Yield every join within a cluster that is not certain, both groups as they were when they were joined."""
        yield from (one for one in self.joins_of(self.tree) if JOINED < one.dissimilarity < self.cut)

    def joins_of(self, tree: MergeTree) -> Iterator[Decision]:
        """Yield every join of a tree of these photographs."""
        for part in tree.parts:
            nodes = [np.array([row]) for row in part.rows]
            for one, other, height, _ in part.merges.tolist():
                groups = nodes[int(one)], nodes[int(other)]
                nodes.append(np.concatenate(groups))
                yield Decision(groups, height, 1 - self.similarity[groups[0]][:, groups[1]].max(), True)

    def apart(self, labels: np.ndarray) -> Iterator[Decision]:
        """Yield every two groups of which photographs were compared, and that no link keeps apart.

        Args:
            labels: (N,) int64, from 0 on, the group of each photograph.
        """
        order, sizes = np.argsort(labels, kind="stable"), np.bincount(labels)
        members = np.split(order, np.cumsum(sizes)[:-1]) if len(labels) else []
        kept_apart = {(min(pair), max(pair)) for pair in labels[self.cannot].tolist()}
        ends = np.sort(labels[self.pairs], axis=1)
        between = ends[:, 0] != ends[:, 1]
        keys, inverse = np.unique(ends[between, 0] * len(sizes) + ends[between, 1], return_inverse=True)
        total = np.bincount(inverse, 1 - self.dissimilarity[between], len(keys))
        nearest = np.ones(len(keys))
        np.minimum.at(nearest, inverse, self.dissimilarity[between])
        for key, similar, least in zip(keys.tolist(), total.tolist(), nearest.tolist(), strict=True):
            one, other = divmod(key, len(sizes))
            if (one, other) not in kept_apart:
                yield Decision((members[one], members[other]), 1 - similar / (sizes[one] * sizes[other]), least, False)

    def candidate_pairs(self) -> np.ndarray:
        """Return the pairs of which some are drawn evenly, (Q, 2) int64, see `count.near_pairs`."""
        return near_pairs(len(self), self.pairs, self.dissimilarity)


def collection_of(clusters: Clusters, dataset: str) -> Collection:
    """Return one dataset's photographs, as `discover` has put them together.

    Args:
        clusters: what it returned.
        dataset: one of `clusters.cuts`.
    """
    photographs, pairs, links = (
        table[table["dataset"] == dataset] for table in (clusters.photographs, clusters.pairs, clusters.links)
    )
    image_ids = photographs["image_id"].to_numpy(object)
    rows = np.sort(_rows_of(image_ids, pairs), axis=1)
    certain = _rows_of(image_ids, links)
    same = (links["answer"] == "same").to_numpy(bool)
    dissimilarity = pairs["dissimilarity"].to_numpy(float)
    cut = clusters.cuts[dataset].value
    return Collection(dataset, image_ids, rows, dissimilarity, certain[same], certain[~same], cut)


def _rows_of(image_ids: np.ndarray, pairs: pd.DataFrame) -> np.ndarray:
    """(P, 2) int64, the places of the photographs of some pairs."""
    places = pd.Index(image_ids)
    return np.stack([places.get_indexer(pairs[name]) for name in ("image_id_a", "image_id_b")], 1).astype(np.int64)
