"""What was decided when photographs were put into clusters: which groups were joined, which were kept apart, and how
near to the cut.

A group is a half of a cluster, or a cluster next to another one. Between two groups counts the mean dissimilarity of
their photographs, as under average linkage; a pair that was not compared counts as 1.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse

from reid.decision.discovered import Clusters, Cut
from reid.report.dendrogram import Joins

__all__ = ["APART", "JOINED", "Decision", "Decisions", "find_decisions"]

JOINED, APART = "joined", "apart"

MAX_APART = 100
"""Pairs of clusters per dataset that are looked at, nearest to the cut first: 10,000 photographs have millions."""

MAX_MEMBERS = 500
"""Photographs of a cluster whose joins are computed; of 500 they take 10 ms and 2 MB, of 10,000 seconds and 800 MB."""


@dataclass(frozen=True)
class Decision:
    """Two groups of photographs that were joined, or kept apart.

    Attributes:
        kind: `JOINED` or `APART`.
        cut: of their dataset.
        clusters: the clusters that the groups belong to; twice the same where they were joined.
        groups: the image_ids of each group, those that are most like the other group first.
        dissimilarity: the mean over all pairs between the groups.
        members: the image_ids of the cluster, in the order of `joins`; of a large cluster `MAX_MEMBERS` of them. () if
            the groups were kept apart.
        joins: how they were joined; None if the groups were kept apart.
    """

    kind: str
    cut: Cut
    clusters: tuple[str, str]
    groups: tuple[tuple[str, ...], tuple[str, ...]]
    dissimilarity: float
    members: tuple[str, ...] = ()
    joins: Joins | None = None

    @property
    def margin(self) -> float:
        """How far the dissimilarity is on its side of the cut; below 0 where something other than the cut decided."""
        distance = self.dissimilarity - self.cut.value
        return distance if self.kind == APART else -distance


class Decisions(NamedTuple):
    """The decisions of all datasets."""

    of_clusters: list[Decision]
    """The most doubtful first."""
    compared: int
    """Pairs of clusters of which photographs were compared; `MAX_APART` per dataset of them are decisions."""


def find_decisions(clusters: Clusters) -> Decisions:
    """Return the joining of every cluster of two photographs or more, and the pairs of clusters that are nearest to
    being joined. Datasets without a cut have none."""
    found: list[Decision] = []
    compared = 0
    for dataset, photographs in clusters.photographs.groupby("dataset", sort=True):
        if dataset in clusters.cuts:
            pairs = clusters.pairs[clusters.pairs["dataset"] == dataset]
            partition = _Partition.of(photographs, pairs, clusters.cuts[str(dataset)])
            apart, count = partition.apart()
            found += [*partition.joined(), *apart]
            compared += count
    return Decisions(sorted(found, key=lambda one: (one.margin, one.cut.dataset, one.clusters)), compared)


@dataclass(frozen=True)
class _Partition:
    """One dataset's photographs, and how alike they are.

    Attributes:
        cut: the dataset's.
        image_ids: (N,) of its photographs.
        names: (C,) of its clusters.
        members: (C,) the places of each cluster's photographs.
        similarity: (N, N) 1 - dissimilarity, symmetric, nothing on the diagonal and where a pair was not compared.
    """

    cut: Cut
    image_ids: np.ndarray
    names: list[str]
    members: list[np.ndarray]
    similarity: sparse.csr_array

    @classmethod
    def of(cls, photographs: pd.DataFrame, pairs: pd.DataFrame, cut: Cut) -> "_Partition":
        codes, names = pd.factorize(photographs["cluster"])
        order = np.argsort(codes, kind="stable")
        members = np.split(order, np.cumsum(np.bincount(codes))[:-1])
        image_ids = photographs["image_id"].to_numpy(object)
        return cls(cut, image_ids, [str(name) for name in names], members, _similarity(image_ids, pairs))

    def joined(self) -> Iterator[Decision]:
        """Yield the joining of every cluster of two photographs or more."""
        for name, members in zip(self.names, self.members, strict=True):
            if len(members) > 1:
                yield self._joining(name, _sample(members))

    def _joining(self, name: str, members: np.ndarray) -> Decision:
        dissimilarity = 1 - self.similarity[members][:, members].toarray()
        joins = Joins.of(dissimilarity)
        left, right = joins.halves
        groups = self._groups(members[left], members[right])
        return Decision(
            JOINED, self.cut, (name, name), groups, joins.height, tuple(self.image_ids[members].tolist()), joins
        )

    def apart(self) -> tuple[list[Decision], int]:
        """Return the pairs of clusters that are nearest to being joined, and how many were compared."""
        sizes = np.array([len(members) for members in self.members])
        rows, columns = np.concatenate(self.members), np.repeat(np.arange(len(sizes)), sizes)
        ones = np.ones(len(rows), np.float32)
        membership = sparse.coo_array((ones, (rows, columns)), (len(rows), len(sizes))).tocsr()
        sums = sparse.triu(membership.T @ self.similarity @ membership, k=1).tocoo()
        dissimilarity = 1 - sums.data.astype(float) / (sizes[sums.row] * sizes[sums.col])
        nearest = np.argsort(dissimilarity, kind="stable")[:MAX_APART]
        found = [
            Decision(
                APART,
                self.cut,
                (self.names[sums.row[place]], self.names[sums.col[place]]),
                self._groups(self.members[sums.row[place]], self.members[sums.col[place]]),
                float(dissimilarity[place]),
            )
            for place in nearest
        ]
        return found, len(dissimilarity)

    def _groups(self, a: np.ndarray, b: np.ndarray) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the image_ids of two groups, those that are most like the other group first."""
        between = self.similarity[a][:, b]
        orders = (np.argsort(-between.sum(1), kind="stable"), np.argsort(-between.sum(0), kind="stable"))
        return tuple(self.image_ids[a[orders[0]]].tolist()), tuple(self.image_ids[b[orders[1]]].tolist())


def _similarity(image_ids: np.ndarray, pairs: pd.DataFrame) -> sparse.csr_array:
    """(N, N) see `_Partition`; a pair that is there twice, in whatever order, counts once."""
    places = pd.Index(image_ids)
    ends = np.stack([places.get_indexer(pairs[column]) for column in ("image_id_a", "image_id_b")])
    known = (ends >= 0).all(0) & (ends[0] != ends[1])
    low, high = np.sort(ends[:, known], axis=0)
    _, first = np.unique(low * len(places) + high, return_index=True)
    values = (1 - pairs["dissimilarity"].to_numpy(float)[known][first]).astype(np.float32)
    half = sparse.coo_array((values, (low[first], high[first])), (len(places), len(places))).tocsr()
    return (half + half.T).tocsr()


def _sample(members: np.ndarray) -> np.ndarray:
    """Return at most `MAX_MEMBERS`, evenly spaced."""
    places = np.linspace(0, len(members) - 1, min(len(members), MAX_MEMBERS)).astype(int)
    sample: np.ndarray = members[places]
    return sample
