"""Linkage of some pairs beside a slow twin that holds every pair, and the links, which count more than any of them."""

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reid.decision.linkage import APART, JOINED, SplitParts, cluster, merge_tree

METHODS: dict[str, Any] = {"average": np.mean, "complete": np.max, "single": np.min}


def full_matrix(n: int, pairs: np.ndarray, dissimilarity: np.ndarray) -> np.ndarray:
    full = np.ones((n, n))
    full[pairs[:, 0], pairs[:, 1]] = full[pairs[:, 1], pairs[:, 0]] = dissimilarity
    return full


def slow_twin(
    full: np.ndarray, cut: float, must: Any = (), cannot: Any = (), method: str = "average"
) -> set[frozenset[int]]:
    """Join what must be joined, then the two nearest clusters that may be, as long as they are below the cut."""
    clusters = [{row} for row in range(len(full))]
    for one, other in np.reshape(must, (-1, 2)).tolist():
        mine, yours = (next(some for some in clusters if row in some) for row in (one, other))
        if mine is not yours:
            clusters.remove(yours)
            mine |= yours

    def distance(one: set[int], other: set[int]) -> float:
        if any((a in one and b in other) or (a in other and b in one) for a, b in np.reshape(cannot, (-1, 2)).tolist()):
            return np.inf
        return float(METHODS[method]([full[a, b] for a in one for b in other]))

    while len(clusters) > 1:
        nearest = min(itertools.combinations(clusters, 2), key=lambda both: distance(*both))
        if not distance(*nearest) < cut:
            break
        clusters.remove(nearest[1])
        nearest[0].update(nearest[1])
    return set(map(frozenset, clusters))


def as_sets(labels: np.ndarray) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(labels == label).tolist()) for label in np.unique(labels)}


def random_pairs(rng: np.random.Generator, n: int, share: float) -> tuple[np.ndarray, np.ndarray]:
    every = np.array(list(itertools.combinations(range(n), 2)), np.int64).reshape(-1, 2)
    pairs = every[rng.random(len(every)) < share]
    return pairs, rng.random(len(pairs))


def random_links(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Must-links and cannot-links that agree with some truth."""
    truth = rng.integers(0, max(1, n // 2), n)
    some = rng.integers(0, n, (rng.integers(0, n + 1), 2))
    some = some[some[:, 0] != some[:, 1]]
    same = truth[some[:, 0]] == truth[some[:, 1]]
    return some[same], some[~same]


@given(st.integers(0, 2**32), st.integers(1, 14), st.floats(0, 1), st.floats(0, 1))
def test_average_linkage_with_links_is_that_of_the_full_matrix(seed: int, n: int, share: float, cut: float) -> None:
    rng = np.random.default_rng(seed)
    pairs, dissimilarity = random_pairs(rng, n, share)
    must, cannot = random_links(rng, n)
    labels, split = cluster(n, pairs, dissimilarity, cut, must, cannot)
    assert labels.dtype == np.int64
    assert as_sets(labels) == slow_twin(full_matrix(n, pairs, dissimilarity), cut, must, cannot)
    assert split == SplitParts()


@pytest.mark.parametrize("method", ["complete", "single"])
@given(st.integers(0, 2**32), st.integers(1, 12), st.floats(0, 1))
def test_so_are_complete_and_single_linkage(method: Any, seed: int, n: int, cut: float) -> None:
    rng = np.random.default_rng(seed)
    pairs, dissimilarity = random_pairs(rng, n, 0.7)
    must, cannot = random_links(rng, n)
    if method == "single":
        with pytest.raises(ValueError, match="single linkage knows no cannot-links"):
            cluster(2, pairs[:0], dissimilarity[:0], cut, cannot=np.array([[0, 1]]), method=method)
        cannot = cannot[:0]
    labels, _ = cluster(n, pairs, dissimilarity, cut, must, cannot, method)
    assert as_sets(labels) == slow_twin(full_matrix(n, pairs, dissimilarity), cut, must, cannot, method)


@given(st.integers(0, 2**32), st.integers(1, 14), st.floats(0, 1), st.integers(2, 9))
def test_whatever_ties_there_are_links_are_honoured_and_the_order_of_pairs_changes_nothing(
    seed: int, n: int, cut: float, most: int
) -> None:
    rng = np.random.default_rng(seed)
    pairs, _ = random_pairs(rng, n, 0.8)
    dissimilarity = rng.integers(0, 3, len(pairs)) / 2  # ties everywhere
    must, cannot = random_links(rng, n)
    labels, _ = cluster(n, pairs, dissimilarity, cut, must, cannot, most=most)
    assert (labels[must[:, 0]] == labels[must[:, 1]]).all()
    assert (labels[cannot[:, 0]] != labels[cannot[:, 1]]).all()
    assert labels.tolist() == np.unique(labels, return_index=True)[1].argsort().argsort()[labels].tolist()
    order, links = rng.permutation(len(pairs)), rng.permutation(len(must))
    again, _ = cluster(n, pairs[order], dissimilarity[order], cut, must[links, ::-1], cannot[::-1, ::-1], most=most)
    assert again.tolist() == labels.tolist()


@given(st.integers(0, 2**32), st.integers(1, 12), st.lists(st.floats(0, 1), min_size=1, max_size=4))
def test_one_tree_has_the_clusters_of_every_lower_cut(seed: int, n: int, cuts: list[float]) -> None:
    rng = np.random.default_rng(seed)
    pairs, dissimilarity = random_pairs(rng, n, 0.6)
    links = random_links(rng, n)
    tree = merge_tree(n, pairs, dissimilarity, *links, cut=max(cuts))
    for cut in cuts:
        assert tree.labels(cut).tolist() == cluster(n, pairs, dissimilarity, cut, *links)[0].tolist()


def test_a_dissimilarity_that_equals_the_cut_joins_nothing() -> None:
    pairs, dissimilarity = np.array([[0, 1], [2, 3], [1, 2]]), np.array([0.5, 0.25, 1.0])
    assert cluster(4, pairs, dissimilarity, 0.5)[0].tolist() == [0, 1, 2, 2]
    assert cluster(4, pairs, dissimilarity, np.nextafter(0.5, 1))[0].tolist() == [0, 0, 1, 1]
    # 2 joins 0 and 1 at the mean of 0.25 and of the 1 that no pair says
    pairs, dissimilarity = np.array([[0, 1], [1, 2]]), np.array([0.0, 0.25])
    assert cluster(3, pairs, dissimilarity, 0.625)[0].tolist() == [0, 0, 1]
    assert cluster(3, pairs, dissimilarity, np.nextafter(0.625, 1))[0].tolist() == [0, 0, 0]
    assert cluster(3, pairs, dissimilarity, 0)[0].tolist() == [0, 1, 2]  # nothing is below 0
    assert cluster(3, pairs, dissimilarity, 0, np.array([[0, 2]]))[0].tolist() == [0, 1, 0]  # but what a person says
    # pairs that are not listed count as 1, which is below no cut
    assert cluster(3, pairs[:0], dissimilarity[:0], 1)[0].tolist() == [0, 1, 2]


def test_a_photograph_joins_no_part_of_a_group() -> None:
    """2 is a copy of 1 and unlike 0: it is at 0.5 from the group, not at 0 from one half of it."""
    pairs, dissimilarity = np.array([[1, 2]]), np.array([0.0])
    must = np.array([[0, 1]])
    assert cluster(3, pairs, dissimilarity, 0.5, must)[0].tolist() == [0, 0, 1]
    assert cluster(3, pairs, dissimilarity, 0.6, must)[0].tolist() == [0, 0, 0]
    assert cluster(3, pairs, dissimilarity, 1, must, np.array([[0, 2]]))[0].tolist() == [0, 0, 1]


def test_the_merges_are_scipys_and_tell_links_by_their_heights() -> None:
    pairs, dissimilarity = np.array([[1, 4], [3, 4]]), np.array([0.25, 0.5])
    (part,) = merge_tree(6, pairs, dissimilarity, np.array([[0, 1]]), np.array([[3, 0]])).parts
    assert part.rows.tolist() == [0, 1, 3, 4]
    # 4 is at 0.625 from the group, and at 0.5 from 3
    assert part.merges.tolist() == [[0, 1, JOINED, 2], [2, 3, 0.5, 2], [4, 5, (2 * APART + 1.25) / 4, 4]]


def test_one_cannot_link_keeps_three_thousand_photographs_in_two_halves() -> None:
    """Its mean is the smallest there can be: over the pairs of two clusters of 1,500."""
    pairs = np.stack(np.triu_indices(3000, 1), axis=1)
    across = (pairs[:, 0] < 1500) & (pairs[:, 1] >= 1500)
    dissimilarity = np.where(across, 0.5, np.random.default_rng(0).random(len(pairs)) / 1000)
    assert not cluster(3000, pairs, dissimilarity, 0.6)[0].any()
    labels, split = cluster(3000, pairs, dissimilarity, 1, cannot=np.array([[3, 2997]]))
    assert as_sets(labels) == {frozenset(range(1500)), frozenset(range(1500, 3000))}
    assert split == SplitParts()


def test_a_part_that_is_too_large_is_divided_where_it_holds_together_least() -> None:
    # two tight groups of four, one weak pair between them; then one that is small enough
    tight = np.array(list(itertools.combinations(range(4), 2)))
    pairs = np.concatenate([tight, tight + 4, [[3, 4]], [[8, 9]]])
    dissimilarity = np.concatenate([np.full(12, 0.1), [0.3, 0.3]])
    labels, split = cluster(11, pairs, dissimilarity, 0.4, most=7)
    assert labels.tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 3]
    assert split == SplitParts(parts=1, photographs=8, pieces=2, pairs=1)
    assert cluster(11, pairs, dissimilarity, 0.4, most=8)[1] == SplitParts()


def test_copies_fill_pieces_and_groups_stay_whole() -> None:
    pairs = np.array(list(itertools.combinations(range(10), 2)))
    labels, split = cluster(10, pairs, np.zeros(len(pairs)), 0.4, most=4)
    assert split == SplitParts(1, 10, 3, 45 - 6 - 6 - 1)
    assert sorted(map(len, as_sets(labels))) == [2, 4, 4]
    chain = np.stack([np.arange(5), np.arange(5) + 1], axis=1)
    labels, split = cluster(10, pairs, np.zeros(len(pairs)), 0.4, must=chain, most=4)
    assert as_sets(labels) == {frozenset(range(6)), frozenset(range(6, 10))}
    assert split == SplitParts(1, 10, 2, 24)


@given(st.integers(0, 2**32), st.integers(2, 30), st.integers(2, 8))
def test_pieces_are_small_enough_and_each_is_clustered_by_itself(seed: int, n: int, most: int) -> None:
    rng = np.random.default_rng(seed)
    pairs, dissimilarity = random_pairs(rng, n, 0.3)
    tree = merge_tree(n, pairs, dissimilarity, cut=0.7, most=most)
    assert all(len(part.rows) <= most for part in tree.parts)
    full = full_matrix(n, pairs, dissimilarity)
    for part in tree.parts:
        own = full[np.ix_(part.rows, part.rows)]
        assert as_sets(np.unique(tree.labels()[part.rows], return_inverse=True)[1]) == slow_twin(own, 0.7)
    piece = np.arange(n)
    for part in tree.parts:
        piece[part.rows] = part.rows[0]
    between = piece[pairs[:, 0]] != piece[pairs[:, 1]]
    assert tree.split.pairs == (between & (dissimilarity < 0.7)).sum()
    # any two pieces that a pair would have joined are too large together
    sizes = np.bincount(piece, minlength=n)
    for one, other in piece[pairs[between & (dissimilarity < 0.7)]]:
        assert sizes[one] + sizes[other] > most


def test_without_photographs_or_pairs_there_is_nothing_to_join() -> None:
    none = np.zeros((0, 2), np.int64)
    for n in (0, 1, 3):
        labels, split = cluster(n, none, np.zeros(0), 0.5)
        assert (labels.tolist(), split) == (list(range(n)), SplitParts())
        assert merge_tree(n, none, np.zeros(0)).parts == ()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"dissimilarity": [0.1, np.nan]}, "dissimilarity: expected 0 to 1, found nan for \\[1, 2\\]"),
        ({"dissimilarity": [0.1, 1.5]}, "found 1.5 for"),
        ({"dissimilarity": [-0.1, 1]}, "found -0.1 for"),
        ({"dissimilarity": [0.1]}, "expected 2, one for each pair"),
        ({"pairs": [[0, 1], [2, 1]]}, "pairs: expected i < j"),
        ({"pairs": [[0, 1], [0, 1]]}, "pairs: expected each pair once"),
        ({"pairs": [[0, 1], [1, 3]]}, "pairs: expected rows from 0 to 2, found 0 to 3"),
        ({"pairs": [0, 1]}, "pairs: expected \\(P, 2\\) whole numbers"),
        ({"pairs": [[0.5, 1], [1, 2]]}, "pairs: expected \\(P, 2\\) whole numbers"),
        ({"must": [[0, 5]]}, "must: expected rows from 0 to 2"),
        ({"cannot": [[-1, 0]]}, "cannot: expected rows from 0 to 2"),
        ({"must": [[0, 1], [2, 1]], "cannot": [[2, 0]]}, "must-links join the photographs of \\[2, 0\\]"),
        ({"cannot": [[1, 1]]}, "must-links join the photographs of \\[1, 1\\]"),
        ({"cut": 1.1}, "cut: expected 0 to 1"),
        ({"cut": np.nan}, "cut: expected 0 to 1"),
        ({"method": "ward"}, "method: expected average, complete or single, found 'ward'"),
    ],
)
def test_what_is_not_as_described_is_refused(changed: dict[str, Any], words: str) -> None:
    described: dict[str, Any] = {"pairs": [[0, 1], [1, 2]], "dissimilarity": [0.1, 0.2], "cut": 0.5, **changed}
    arrays: dict[str, Any] = {
        name: np.array(value) if isinstance(value, list) else value for name, value in described.items()
    }
    with pytest.raises(ValueError, match=words):
        cluster(3, **arrays)


def test_a_tree_knows_no_higher_cut() -> None:
    tree = merge_tree(2, np.array([[0, 1]]), np.array([0.4]), cut=0.3)
    for cut in (0.5, -0.1, np.nan):
        with pytest.raises(ValueError, match="expected a cut from 0 to the tree's"):
            tree.labels(cut)
