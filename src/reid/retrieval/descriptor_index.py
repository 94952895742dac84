"""Which descriptors of a gallery are nearest to those of queries: of all of them, or of the most promising cells only.

An inverted file (Sivic and Zisserman, ICCV 2003; Jégou, Douze and Schmid, PAMI 2011, section 4): the gallery's
descriptors lie in cells around the centroids of a k-means, and a descriptor of a query is compared with those of the
few cells whose centroids are nearest to it. With a single cell the search is exact. One pass serves all cues, because
the sets of keypoints that they match have most of their descriptors in common.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from reid.config.recipe import KeypointConfig
from reid.retrieval.keypoints import NO_KEYPOINTS, Keypoints, cue_masks, stack_arrays
from reid.retrieval.search import SPARE, exact, inner_products, merge, nearest
from reid.runtime.distributed import core_count
from reid.runtime.threads import map_in_threads

__all__ = [
    "EXACT",
    "Cells",
    "DescriptorIndex",
    "DescriptorSets",
    "Neighbours",
    "cells_around",
    "find_cells",
    "one_cell",
    "stack_vectors",
]

EXACT = 20_000
"""Up to so many descriptors a gallery has a single cell."""

SAMPLE = 64
"""Descriptors of each cell that the k-means sees."""

ROUNDS = 10
"""Of the k-means: the cells need not be the best, only of similar size."""

MOST_LATE = 1_000_000
"""Neighbours in later cells that are noted before they are merged. Four times as many were no faster, and took 30 MB
more."""

FEWEST_OF_A_THREAD = 4000
"""Descriptors of queries for which another thread is worth the cells that it reads anew: with 1,600 for each the work
has doubled."""

ROWS, COLUMNS = 1024, 4096
"""Descriptors of queries and of the gallery that are compared at a time; their products take 16 MB."""


@dataclass(frozen=True)
class DescriptorSets:
    """The descriptors of N photographs, one photograph below the other, and which of them each cue matches.

    Attributes:
        vectors: (M, D) float16 of unit length.
        owner: (M,) int64, the photograph of each; from 0 to N - 1.
        photographs: N.
        members: by cue, (M,) bool.
        weights: by cue, (M,) float32, what a vote of the descriptor counts.
    """

    vectors: Tensor
    owner: Tensor
    photographs: int
    members: dict[str, Tensor]
    weights: dict[str, Tensor]

    @classmethod
    def of(
        cls, photographs: Sequence[Keypoints], config: KeypointConfig, powers: Mapping[str, float]
    ) -> "DescriptorSets":
        """Return the descriptors of photographs.

        Args:
            photographs: N, of one extractor.
            config: which keypoints each cue matches, see `keypoints.cue_masks`.
            powers: by cue, to which power the weight of a keypoint counts; 0 for not at all.
        """
        counts = torch.tensor([*map(len, photographs)], dtype=torch.long)
        masks = [cue_masks(keypoints, config) for keypoints in photographs]
        weights = np.concatenate([keypoints.weights for keypoints in [NO_KEYPOINTS, *photographs]])
        members = {cue: np.concatenate([np.zeros(0, bool), *(mask[cue] for mask in masks)]) for cue in powers}
        return cls(
            stack_vectors(photographs),
            torch.repeat_interleave(torch.arange(len(photographs)), counts),
            len(photographs),
            {cue: torch.from_numpy(of_cue) for cue, of_cue in members.items()},
            {cue: torch.from_numpy((weights**power).astype(np.float32)) for cue, power in powers.items()},
        )


def stack_vectors(photographs: Sequence[Keypoints]) -> Tensor:
    """Return the descriptors of photographs, (M, D) float16, one photograph below the other."""
    return torch.from_numpy(stack_arrays(photographs))


@dataclass(frozen=True)
class Cells:
    """Where the descriptors of a gallery lie.

    Attributes:
        centroids: (C, D) float32.
        cell: (M,) int32, the cell of each descriptor.
    """

    centroids: Tensor
    cell: Tensor


def find_cells(vectors: Tensor) -> Cells:
    """Divide the descriptors of a gallery into cells, half as many as the square root of their number; few descriptors
    have a single one.

    Args:
        vectors: (M, D) float16 of unit length.
    """
    if len(vectors) <= EXACT:
        return one_cell(vectors)
    from sklearn.cluster import KMeans

    count = round(len(vectors) ** 0.5 / 2)
    sample = vectors[np.unique(np.linspace(0, len(vectors) - 1, SAMPLE * count).astype(int))].float().numpy()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Number of distinct clusters")  # descriptors may repeat
        fitted = KMeans(count, init="random", n_init=1, max_iter=ROUNDS, random_state=0).fit(sample)
    return cells_around(torch.from_numpy(fitted.cluster_centers_), vectors)


def one_cell(vectors: Tensor) -> Cells:
    """Put descriptors (M, D) into a single cell."""
    return Cells(torch.zeros(1, vectors.shape[1]), torch.zeros(len(vectors), dtype=torch.int32))


def cells_around(centroids: Tensor, vectors: Tensor) -> Cells:
    """Put descriptors (M, D) into the cells of the nearest centroids (C, D)."""
    return Cells(centroids, torch.cat([found.place[:, 0] for found in nearest(vectors, centroids, 1)]).int())


class Neighbours(NamedTuple):
    """The neighbours of descriptors, the nearest first."""

    distance: Tensor
    """(n, C) float32, squared; inf where none was found."""
    place: Tensor
    """(n, C) int64, rows of the gallery's descriptors; 0 where none was found."""


@dataclass(frozen=True)
class DescriptorIndex:
    """The descriptors of a gallery, ready to be searched.

    Attributes:
        gallery: its M descriptors, of N photographs.
        centroids: (C, D) float32.
        order: (M,) int64, the rows of the gallery by cell.
        starts: (C + 1,) where in `order` each cell begins.
        half_squares: (M,) float32, half the squared length of each descriptor.
        probes: how many cells a descriptor of a query is compared with.
        device: where.
    """

    gallery: DescriptorSets
    centroids: Tensor
    order: Tensor
    starts: list[int]
    half_squares: Tensor
    probes: int
    device: torch.device

    @classmethod
    def of(cls, gallery: DescriptorSets, cells: Cells, probes: int, device: torch.device) -> "DescriptorIndex":
        cell = cells.cell.long()
        starts = [0, *torch.bincount(cell, minlength=len(cells.centroids)).cumsum(0).tolist()]
        lengths = [torch.linalg.vector_norm(some.float(), dim=1) for some in torch.split(gallery.vectors, 65_536)]
        half_squares = (torch.cat(lengths).square() / 2).to(device)
        return cls(gallery, cells.centroids, cell.argsort(stable=True), starts, half_squares, probes, device)

    def search(
        self, vectors: Tensor, owner: Tensor, count: int, hidden: Tensor | None = None, cue: str | None = None
    ) -> Neighbours:
        """Return the nearest descriptors of the gallery.

        Args:
            vectors: (n, D) float16, of queries.
            owner: (n,) int64, the photograph of each, or the row of `hidden` that is about it.
            count: how many neighbours; C is that, or M if that is fewer.
            hidden: (Q, N) bool, which gallery photographs are not there for which owner; None for none.
            cue: whose descriptors alone are searched; None for all.

        Returns:
            The neighbours in the cells that were visited: exact where these are all. They depend neither on the other
            queries nor on the size of the blocks.
        """
        if self.device.type != "cpu" or not len(vectors):
            return self._search(vectors, owner, count, hidden, cue)

        def found(share: tuple[Tensor, Tensor]) -> Neighbours:
            first, last = (int(end) for end in share[1].aminmax())
            own = None if hidden is None else hidden[first : last + 1]
            return self._search(share[0], share[1] - first, count, own, cue)

        parts = min(core_count(), -(-len(vectors) // FEWEST_OF_A_THREAD))
        shares = list(zip(vectors.tensor_split(parts), owner.tensor_split(parts), strict=True))
        return Neighbours(*(torch.cat(column) for column in zip(*map_in_threads(found, shares), strict=True)))

    def _search(self, vectors: Tensor, owner: Tensor, count: int, hidden: Tensor | None, cue: str | None) -> Neighbours:
        """Return what `search` returns, in this thread."""
        candidates = min(count + SPARE, len(self.gallery.vectors))
        if not candidates or not len(vectors):
            return Neighbours(torch.zeros(len(vectors), 0), torch.zeros(len(vectors), 0, dtype=torch.long))
        dimensions = vectors.shape[1]
        asked = torch.ones(len(vectors), dimensions + 1, device=self.device)
        asked[:, :dimensions] = vectors.to(self.device)
        penalty = None
        if hidden is not None and hidden.any():
            penalty = torch.zeros(hidden.shape).masked_fill(hidden, -torch.inf).to(self.device)
        closeness = torch.full((len(asked), candidates), -torch.inf, device=self.device)
        place = torch.zeros((len(asked), candidates), dtype=torch.long, device=self.device)
        late = _Late(closeness, place)
        for rows, places, is_nearest in self._visits(vectors):
            if cue is not None:
                places = places[self.gallery.members[cue][places]]
            if not len(places):
                continue
            columns = places.to(self.device)
            # |q - g|^2 = |q|^2 - 2 (qg - |g|^2 / 2), and |q|^2 is the same for all of a query's neighbours; what is
            # taken off stands in a column of its own, for a pass over the products would cost more
            known = torch.empty(len(places), dimensions + 1, device=self.device)
            known[:, :dimensions] = self.gallery.vectors.index_select(0, places).to(self.device)
            known[:, dimensions] = -self.half_squares.index_select(0, columns)
            products = inner_products(asked.index_select(0, rows.to(self.device)), known)
            if penalty is not None:
                owners, counts = torch.unique_consecutive(owner[rows], return_counts=True)
                of_owners = penalty[:, self.gallery.owner[places].to(self.device)]  # (Q, b)
                for one, part in zip(owners.tolist(), torch.split(products, counts.tolist()), strict=True):
                    part += of_owners[one]
            if is_nearest:
                merge(products, closeness, place, columns, rows)
            else:
                late.add(products, rows, places)
        late.merge()
        block = vectors.to(self.device)
        return Neighbours(*exact(block, self.gallery.vectors, closeness, place, min(count, candidates)))

    def _visits(self, vectors: Tensor) -> Iterator[tuple[Tensor, Tensor, bool]]:
        """Yield rows of the queries' descriptors and of the gallery's that are compared, and whether they are merged at
        once: of many descriptors those of everyone's nearest cell, which come first. For fewer than there are cells
        every cell is read once, and all are merged: there it is reading that takes the time."""
        probed = torch.zeros((len(vectors), 1), dtype=torch.long)
        if len(self.centroids) > 1:
            probes = min(self.probes, len(self.centroids))
            probed = torch.cat([found.place for found in nearest(vectors, self.centroids, probes)])
        nearest_first = [(True, probed[:, :1]), (False, probed[:, 1:])]
        for is_nearest, columns in nearest_first if len(vectors) > len(self.centroids) else [(True, probed)]:
            cell, order = columns.flatten().sort(stable=True)
            rows_by_cell = torch.div(order, max(1, columns.shape[1]), rounding_mode="floor")
            counts = torch.bincount(cell, minlength=len(self.centroids)).tolist()
            for rows, start, end in zip(torch.split(rows_by_cell, counts), self.starts, self.starts[1:], strict=False):
                for some in torch.split(rows, ROWS) if len(rows) else ():
                    for places in torch.split(self.order[start:end], COLUMNS) if end > start else ():
                        yield some, places, is_nearest


class _Late:
    """Neighbours in the cells that are not the nearest: few are nearer than those that were found there, and they are
    merged with them at the end.

    Attributes:
        closeness: (n, C), the largest so far, the largest first; changed by `merge`.
        place: (n, C) int64, where they are; likewise.
    """

    def __init__(self, closeness: Tensor, place: Tensor) -> None:
        self.closeness, self.place = closeness, place
        self._found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._size = 0

    def add(self, products: Tensor, rows: Tensor, places: Tensor) -> None:
        """Note what is nearer than the neighbours so far.

        Args:
            products: (q, b).
            rows: (q,) int64, the queries' descriptors.
            places: (b,) int64, the gallery's.
        """
        least = self.closeness[rows, -1:]
        incomplete = least[:, 0] == -torch.inf  # everything would be nearer
        if incomplete.any():
            merge(products[incomplete], self.closeness, self.place, places, rows[incomplete])
            least = least.masked_fill(incomplete[:, None], torch.inf)
        cells = np.flatnonzero(products.numpy() > least.numpy())
        row, column = np.divmod(cells, products.shape[1])
        self._found.append((rows.numpy()[row], products.numpy().ravel()[cells], places.numpy()[column]))
        self._size += len(cells)
        if self._size > MOST_LATE:
            self.merge()

    def merge(self) -> None:
        """Merge what was noted into the neighbours."""
        if not self._size:
            return
        row, value, place = (np.concatenate(column) for column in zip(*self._found, strict=True))
        self._found, self._size = [], 0
        order = np.argsort(row << 32 | _descending(value), kind="stable")
        row, value, place = row[order], value[order], place[order]
        rank = np.arange(len(row)) - np.searchsorted(row, row)
        kept = rank < self.closeness.shape[1]
        rows, line = np.unique(row[kept], return_inverse=True)
        values = np.full((len(rows), int(rank[kept].max()) + 1), -np.inf, np.float32)
        places = np.zeros(values.shape, np.int64)
        values[line, rank[kept]], places[line, rank[kept]] = value[kept], place[kept]
        changed = torch.from_numpy(rows)
        best, best_of = torch.cat([self.closeness[changed], torch.from_numpy(values)], 1).topk(self.closeness.shape[1])
        self.place[changed] = torch.cat([self.place[changed], torch.from_numpy(places)], 1).gather(1, best_of)
        self.closeness[changed] = best


def _descending(values: np.ndarray) -> np.ndarray:
    """Return whole numbers from 0 to 2^32 - 1 in the opposite order of the values, (N,) float32 -> (N,) int64."""
    bits = values.view(np.int32).astype(np.int64)
    ascending = np.where(bits < 0, -1 - (bits & 0x7FFFFFFF), bits)
    descending: np.ndarray = 0x7FFFFFFF - ascending
    return descending
