"""Hierarchical clustering of photographs from the dissimilarities of some pairs, with must-links and cannot-links.

Average linkage joins the two clusters with the smallest mean dissimilarity, again and again (UPGMA, Sokal and Michener
1958); SciPy does it. The pairs that are not listed count as 1, the largest, and N x N numbers are never held at once:
a mean below the cut needs at least one pair below the cut, so the connected parts of the graph of such pairs are
clustered one by one, and nothing is lost by that. The same holds for single and for complete linkage.

Links are honoured exactly, whatever the dissimilarities say:

- Photographs joined by must-links, directly or over others, are one group. Its pairs count as `JOINED`, less than any
  dissimilarity, so each group is whole before anything else is joined; with others, its members count as any
  photograph.
- A cannot-link holds for the whole groups of both photographs. Its pairs count as `APART`, so much that the mean over
  two clusters that hold only one such pair is still above every cut.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from scipy.cluster.hierarchy import linkage
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

__all__ = ["APART", "JOINED", "MOST", "MergeTree", "Method", "Part", "SplitParts", "cluster", "merge_tree"]

MOST = 3000
"""Photographs of a part that are clustered at once: 36 MB of dissimilarities, and a quarter of a second."""

JOINED = -1.0
"""What a pair of a must-link group counts as."""

APART = 1e9
"""What a pair that a cannot-link keeps apart counts as. Two clusters have at most a quarter of the square of their
part's photographs as pairs, so the mean stays above 1 in parts of up to 60,000 photographs, whose dissimilarities would
not fit into memory."""

Method = Literal["average", "complete", "single"]


@dataclass(frozen=True)
class Part:
    """Photographs that only pairs among themselves could join.

    Attributes:
        rows: (M,) int64, ascending, M >= 2.
        merges: (M - 1, 4) float64, SciPy's linkage matrix, whose leaf i is `rows[i]`. A height of `JOINED` (-1) is a
            must-link; one above 1 holds a cannot-link and is no merge at any cut.
    """

    rows: np.ndarray
    merges: np.ndarray


@dataclass(frozen=True)
class SplitParts:
    """What was given up because parts were too large to be clustered at once; all zeros where nothing was.

    Attributes:
        parts: how many parts had more photographs than allowed.
        photographs: how many photographs these have.
        pieces: into how many pieces they were divided.
        pairs: how many pairs below the cut are between two pieces, and could not join them.
    """

    parts: int = 0
    photographs: int = 0
    pieces: int = 0
    pairs: int = 0


@dataclass(frozen=True)
class MergeTree:
    """Every merge below a cut; of all lower cuts the clusters can be read from it.

    Attributes:
        n: the number of photographs.
        cut: the merges below it are those of the whole data; what `Part.merges` holds above it is not to be used.
        parts: the parts of two or more photographs, in the order of their first ones. All others are alone.
        split: what was given up.
    """

    n: int
    cut: float
    parts: tuple[Part, ...]
    split: SplitParts

    def labels(self, cut: float | None = None) -> np.ndarray:
        """Return each photograph's cluster, (n,) int64: 0, 1, 2 ... in the order of the clusters' first photographs.

        Args:
            cut: clusters are joined where their dissimilarity is below it, not where it equals it. None for the tree's.

        Raises:
            ValueError: the cut is above the tree's, or below 0.
        """
        cut = self.cut if cut is None else cut
        if not 0 <= cut <= self.cut:
            raise ValueError(f"expected a cut from 0 to the tree's, {self.cut}, found {cut}")
        children, parents, heights = self._joins
        below = heights < cut
        return _components(self.n + len(heights) // 2, children[below], parents[below])[: self.n]

    @cached_property
    def _joins(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(2K,) int64, int64, float64: both children of each of the K merges, the merge itself, and its height;
        photographs are 0 to n - 1, the merges follow."""
        children, first = [np.zeros((0, 2), np.int64)], self.n
        for part in self.parts:
            nodes = np.concatenate([part.rows, np.arange(first, first + len(part.merges))])
            children.append(nodes[part.merges[:, :2].astype(np.int64)])
            first += len(part.merges)
        heights = np.concatenate([np.zeros(0), *(part.merges[:, 2] for part in self.parts)])
        return np.concatenate(children).ravel(), np.repeat(np.arange(self.n, first), 2), np.repeat(heights, 2)


def cluster(
    n: int,
    pairs: np.ndarray,
    dissimilarity: np.ndarray,
    cut: float,
    must: np.ndarray | None = None,
    cannot: np.ndarray | None = None,
    method: Method = "average",
    most: int = MOST,
) -> tuple[np.ndarray, SplitParts]:
    """Return the flat clusters at a cut, and what was given up for parts that are too large.

    Args:
        n, pairs, dissimilarity, must, cannot, method, most: as for `merge_tree`.
        cut: clusters are joined as long as their dissimilarity is below it; at exactly the cut they are not.

    Returns:
        (n,) int64, numbered in the order of the clusters' first photographs. The order of the pairs changes nothing.

    Raises:
        ValueError: as `merge_tree`.
    """
    tree = merge_tree(n, pairs, dissimilarity, must, cannot, method, cut, most)
    return tree.labels(), tree.split


def merge_tree(
    n: int,
    pairs: np.ndarray,
    dissimilarity: np.ndarray,
    must: np.ndarray | None = None,
    cannot: np.ndarray | None = None,
    method: Method = "average",
    cut: float = 1.0,
    most: int = MOST,
) -> MergeTree:
    """Return all merges below a cut.

    A part with more than `most` photographs is divided where it holds together least: its pairs below the cut are gone
    through from the smallest dissimilarity, and each joins its two pieces unless these would be too large together.
    The pairs left over between pieces then count as not below the cut. The higher the cut, the larger the parts: ask
    for no higher one than is needed. Only must-link groups are never divided.

    Args:
        n: the number of photographs.
        pairs: (P, 2) int64, i < j, each pair once, in any order.
        dissimilarity: (P,) float64 in [0, 1]; pairs that are not listed count as 1.
        must: (M, 2) int64, photographs of one cluster; None for none. It counts more than a listed dissimilarity.
        cannot: (C, 2) int64, photographs of two clusters, likewise.
        method: SciPy's word for the dissimilarity of two clusters: the mean over their pairs, the largest, or the
            smallest. Single linkage knows no cannot-links: the smallest passes them by.
        cut: 0 to 1.
        most: of how many photographs a part is clustered at once.

    Raises:
        ValueError: one of these is not as described, a dissimilarity is NaN, or a must-link group holds a cannot-link.
    """
    must, cannot = (np.zeros((0, 2), np.int64) if some is None else np.asarray(some) for some in (must, cannot))
    _check_rows(n, pairs=pairs, must=must, cannot=cannot)
    _check_dissimilarity(pairs, dissimilarity)
    _check_method(method, cannot, cut)
    keys, values = _with_links(n, pairs, dissimilarity, must, cannot)
    below = values < cut
    first, second = np.divmod(keys, n) if n else (keys, keys)
    parts = _components(n, first[below], second[below])
    pieces = _pieces(parts, first[below], second[below], values[below], most)
    trees = _trees(pieces, first, second, values, method)
    return MergeTree(n, cut, trees, _split(parts, pieces, first[below], second[below], most))


def _check_rows(n: int, **rows: np.ndarray) -> None:
    for name, some in rows.items():
        if some.ndim != 2 or some.shape[1] != 2 or (some.size and not np.issubdtype(some.dtype, np.integer)):
            raise ValueError(f"{name}: expected (P, 2) whole numbers, found {some.shape} of {some.dtype}")
        if some.size and not (some.min() >= 0 and some.max() < n):
            raise ValueError(f"{name}: expected rows from 0 to {n - 1}, found {some.min()} to {some.max()}")


def _check_dissimilarity(pairs: np.ndarray, dissimilarity: np.ndarray) -> None:
    if not (pairs[:, 0] < pairs[:, 1]).all():
        raise ValueError("pairs: expected i < j in each")
    if dissimilarity.shape != (len(pairs),):
        raise ValueError(f"dissimilarity: expected {len(pairs)}, one for each pair, found {dissimilarity.shape}")
    wrong = np.flatnonzero(~((dissimilarity >= 0) & (dissimilarity <= 1)))
    if len(wrong):
        found = f"{dissimilarity[wrong[0]]} for {pairs[wrong[0]].tolist()}"
        raise ValueError(f"dissimilarity: expected 0 to 1, found {found}")


def _check_method(method: str, cannot: np.ndarray, cut: float) -> None:
    if method not in ("average", "complete", "single"):
        raise ValueError(f"method: expected average, complete or single, found {method!r}")
    if method == "single" and len(cannot):
        raise ValueError("single linkage knows no cannot-links; use average or complete")
    if not 0 <= cut <= 1:
        raise ValueError(f"cut: expected 0 to 1, found {cut}")


def _with_links(
    n: int, pairs: np.ndarray, dissimilarity: np.ndarray, must: np.ndarray, cannot: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return every pair that does not count as 1, each once: (Q,) int64, i * n + j, and what it counts as, (Q,)
    float64.

    The links of photographs become those of their groups, as sparse matrices of zeros and ones: members x groups for
    the must-links, and, between groups, the cannot-links.
    """
    groups = _components(n, must[:, 0], must[:, 1])
    members = _ones(np.arange(n), groups, (n, n))
    between = _ones(groups[cannot[:, 0]], groups[cannot[:, 1]], (n, n))
    if between.diagonal().any():
        both = cannot[groups[cannot[:, 0]] == groups[cannot[:, 1]]][0]
        raise ValueError(f"cannot: must-links join the photographs of {both.tolist()}")
    joined = _keys(members @ members.T)
    apart = _keys(members @ (between + between.T) @ members.T)
    listed = pairs[:, 0].astype(np.int64) * n + pairs[:, 1]
    if not np.diff(np.sort(listed)).all():
        raise ValueError("pairs: expected each pair once")
    linked = np.concatenate([joined, apart])
    free = ~np.isin(listed, linked, assume_unique=True)
    keys = np.concatenate([listed[free], linked])
    values = np.concatenate([dissimilarity[free], np.full(len(joined), JOINED), np.full(len(apart), APART)])
    return keys, values


def _ones(first: np.ndarray, second: np.ndarray, shape: tuple[int, int]) -> csr_array:
    return csr_array((np.ones(len(first)), (first, second)), shape)


def _keys(symmetric: csr_array) -> np.ndarray:
    """Return where a sparse matrix is not 0, above its diagonal: (Q,) int64, i * n + j."""
    places = symmetric.tocoo()
    above = places.row < places.col
    keys: np.ndarray = places.row[above].astype(np.int64) * symmetric.shape[0] + places.col[above]
    return keys


def _components(n: int, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the connected component of each of n nodes, (n,) int64, in the order of their first nodes."""
    if not n:
        return np.zeros(0, np.int64)
    _, found = connected_components(coo_array((np.ones(len(first), bool), (first, second)), (n, n)), directed=False)
    _, places, inverse = np.unique(found, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(places))[inverse]


def _pieces(parts: np.ndarray, first: np.ndarray, second: np.ndarray, values: np.ndarray, most: int) -> np.ndarray:
    """Return the parts, those that are too large divided as `merge_tree` says: (n,) int64.

    Args:
        parts: (n,) int64.
        first, second, values: (E,) the pairs below the cut.
        most: photographs of a piece.
    """
    large = (np.bincount(parts) > most)[parts] if len(parts) else np.zeros(0, bool)
    if not large.any():
        return parts
    inside = np.flatnonzero(large[first])
    # among equal ones the rows decide: copies of one photograph, all at 0, would otherwise be joined all or not at all
    order = inside[np.lexsort((second[inside], first[inside], values[inside]))]
    piece, size = list(range(len(parts))), [1] * len(parts)
    kept = []
    for place, one, other, value in zip(
        order.tolist(), first[order].tolist(), second[order].tolist(), values[order].tolist(), strict=True
    ):
        one, other = _root(piece, one), _root(piece, other)
        if one != other and (size[one] + size[other] <= most or value == JOINED):
            one, other = (one, other) if size[one] >= size[other] else (other, one)
            piece[other] = one
            size[one] += size[other]
            kept.append(place)
    chosen = np.concatenate([np.flatnonzero(~large[first]), np.array(kept, np.int64)])
    return _components(len(parts), first[chosen], second[chosen])


def _root(parents: list[int], node: int) -> int:
    """Return the root of a node's tree, and shorten the way to it (union-find with path halving, Tarjan 1975)."""
    while parents[node] != node:
        parents[node] = node = parents[parents[node]]
    return node


def _split(parts: np.ndarray, pieces: np.ndarray, first: np.ndarray, second: np.ndarray, most: int) -> SplitParts:
    large = np.bincount(parts) > most if len(parts) else np.zeros(0, bool)
    inside = large[parts]
    return SplitParts(
        parts=int(large.sum()),
        photographs=int(inside.sum()),
        pieces=len(np.unique(pieces[inside])),
        pairs=int((pieces[first] != pieces[second]).sum()),
    )


def _trees(
    pieces: np.ndarray, first: np.ndarray, second: np.ndarray, values: np.ndarray, method: str
) -> tuple[Part, ...]:
    """Return the merges within each piece of two or more photographs.

    Args:
        pieces: (n,) int64.
        first, second, values: (Q,) the pairs that do not count as 1.
        method: SciPy's.
    """
    order, counts = np.argsort(pieces, kind="stable"), np.bincount(pieces)
    places = np.empty(len(pieces), np.int64)
    places[order] = np.arange(len(pieces)) - np.repeat(np.cumsum(counts) - counts, counts)  # of a row in its piece
    inside = np.flatnonzero(pieces[first] == pieces[second])
    inside = inside[np.argsort(pieces[first[inside]], kind="stable")]
    rows_of = np.split(order, np.cumsum(counts)[:-1])
    pairs_of = np.split(inside, np.cumsum(np.bincount(pieces[first[inside]], minlength=len(counts)))[:-1])
    trees = []
    for rows, own in zip(rows_of, pairs_of, strict=True):
        if len(rows) > 1:
            condensed = np.ones(len(rows) * (len(rows) - 1) // 2)
            i, j = places[first[own]], places[second[own]]
            condensed[len(rows) * i - i * (i + 1) // 2 + j - i - 1] = values[own]
            trees.append(Part(rows, linkage(condensed, method)))
    return tuple(trees)
