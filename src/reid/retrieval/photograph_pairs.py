"""Pairs of photographs: what each cue says of whether two photographs show one animal, whoever it is.

Unlike `candidates`, where a photograph is compared with individuals that may have many photographs, both sides of a
pair are single photographs and every feature is symmetric. Features are about a collection, the photographs that are
compared with each other: who else is near decides how much it means that two photographs are.

collection -> each photograph's shortlist by every cue -> pairs -> features of each pair
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from reid.config.recipe import MatchingConfig, Recipe
from reid.models.distances import pairwise_distances
from reid.models.networks import best_device
from reid.retrieval.candidates import POWERS, cue_of, keypoint_sets
from reid.retrieval.gallery import GalleryFeatures
from reid.retrieval.keypoints import Keypoints
from reid.retrieval.local_matching import Matcher, lnbnn, stack_descriptors, verify
from reid.retrieval.search import nearest
from reid.runtime.progress import track

__all__ = ["PhotographPairs", "Pool", "compare", "compares_all", "rank_normalised"]

COHORT = 300
"""Other photographs whose distances say how near a photograph is to anybody."""

BLOCK = 16_000_000
"""Products of descriptors held at a time, float32."""

KEPT = 48
"""Photographs that are remembered of each descriptor, the nearest first. A collection drawn from a pool of eight times
its size still finds its `matching.neighbours` among them."""


SIDE_FEATURES = ("same side", "other side")

DISTANCE_FEATURES = ("distance", "distance cohort", "distance rank", "distance worse rank")

LOCAL_FEATURES = ("", " less", " share", " rank", " worse rank", " inliers", " inliers ahead")
"""Behind the name of the cue."""


@dataclass(frozen=True)
class PhotographPairs:
    """Pairs of a collection's photographs.

    Attributes:
        size: N, photographs in the collection.
        first, second: (P,) int64, rows of the collection, first < second, in ascending order; each pair once.
        features: (P,) float64 each, all finite, by name; the more, the more alike.
    """

    size: int
    first: np.ndarray
    second: np.ndarray
    features: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.first)

    @property
    def columns(self) -> np.ndarray:
        """(P, F) float64, the features in alphabetical order."""
        return np.stack([self.features[name] for name in sorted(self.features)], 1)

    def with_features(self, names: Sequence[str]) -> "PhotographPairs":
        """Return the pairs with these of their features."""
        return replace(self, features={name: values for name, values in self.features.items() if name in names})


def rank_normalised(pairs: PhotographPairs, names: Sequence[str] = ()) -> PhotographPairs:
    """Return the pairs with their features by rank: what a distance is worth in one dataset says nothing in another,
    but that few pairs are nearer does.

    A feature becomes the logarithm of how many photographs there are for each pair that has as much of it or more: two
    such pairs per photograph are the same in a small collection and in a large one, and the few that are the most alike
    are far ahead of the rest. Equal pairs share the middle of their ranks.

    Args:
        pairs: P of them.
        names: the features to keep; () for all.
    """
    from scipy.stats import rankdata

    kept = {name: pairs.features[name] for name in names or pairs.features if name in pairs.features}
    ranked = {name: np.log(pairs.size / (rankdata(-values) - 0.5)) for name, values in kept.items()}
    return replace(pairs, features=ranked)


class Neighbours(NamedTuple):
    """Of each descriptor of some photographs, the photographs that have the most similar descriptors."""

    starts: np.ndarray
    """(N + 1,) int64, where each photograph's descriptors begin."""
    distance: np.ndarray
    """(M, C) float32, squared, to the photograph's most similar descriptor; the nearest first, inf where there is
    none."""
    photograph: np.ndarray
    """(M, C) int32"""
    weights: np.ndarray
    """(M,) float32, what a vote of the descriptor counts."""


@dataclass(frozen=True)
class Pool:
    """Photographs out of which collections are drawn.

    Attributes:
        sides: (N,) str, "" where not known.
        vectors: (N, D) float32, of the encoder; D is 0 where there is none, or where `distances` stand for them.
        distances: (N, N) float32, how far apart the photographs are; None where the vectors tell.
        keypoint_sets: by cue, see `candidates.GalleryIndex`.
        neighbours: by cue; empty where a photograph's descriptors are compared with its shortlist's alone.
        matching: the recipe's.
        turn: (N,) int64, the photographs' places in an order that their keypoints have: of a pair, the first is the
            query that is verified, whatever the rows, because matches are not quite the same the other way around.
        matcher: the network that matches their keypoints; None for nearest neighbours.
        inliers: by cue and pair, of those that were verified already.
    """

    sides: np.ndarray
    vectors: Tensor
    distances: np.ndarray | None
    keypoint_sets: dict[str, tuple[Keypoints, ...]]
    neighbours: dict[str, Neighbours]
    matching: MatchingConfig
    turn: np.ndarray
    matcher: Matcher | None = None
    inliers: dict[str, dict[tuple[int, int], int]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.sides)

    @property
    def has_encoder(self) -> bool:
        return self.distances is not None or self.vectors.shape[1] > 0

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The features that pairs of its photographs have."""
        local = (f"{cue}{name}" for cue in self.keypoint_sets for name in LOCAL_FEATURES)
        return (*SIDE_FEATURES, *(DISTANCE_FEATURES if self.has_encoder else ()), *local)

    @classmethod
    def of(
        cls,
        photographs: GalleryFeatures,
        recipe: Recipe,
        what: str,
        distances: np.ndarray | None = None,
        kept: int = KEPT,
        whole: bool | None = None,
        matcher: Matcher | None = None,
    ) -> "Pool":
        """Prepare photographs of one dataset.

        Args:
            photographs: N of them.
            recipe: `matching`, `keypoints`.
            what: the work in a few words, for the progress.
            distances: see `Pool.distances`.
            whole: whether descriptors are compared with all other photographs', as in `compares_all`; None for what it
                says of so many photographs. Pseudo-collections must do as the photographs that they stand for.
            kept: see `KEPT`; where all photographs are one collection, one more than `matching.neighbours` will do.
            matcher: see `Pool.matcher`.
        """
        sets: dict[str, tuple[Keypoints, ...]] = {}
        for number, each in enumerate(photographs.every_keypoints if recipe.uses_keypoints else ()):
            own = keypoint_sets(each, recipe.keypoints)
            weights = [keypoints.weights for keypoints in each if len(keypoints)]
            if not any((values < 1).any() for values in weights):  # the encoder can't tell animal from background
                own.pop("foreground", None)
            sets |= {cue_of(cue, number): keypoints for cue, keypoints in own.items()}
        whole = compares_all(len(photographs), recipe) if whole is None else whole
        searched = sets.items() if whole else ()
        found = {cue: _neighbours(cue, keypoints, kept, f"{what}, {cue}") for cue, keypoints in searched}
        sides = np.array(photographs.orientation or [""] * len(photographs), dtype=str)
        memo: dict[str, dict[tuple[int, int], int]] = {cue: {} for cue in sets}
        vectors = photographs.vectors if recipe.uses_encoder else photographs.vectors[:, :0]
        turn = _turn(photographs.every_keypoints if sets else ((),))
        return cls(sides, vectors, distances, sets, found, recipe.matching, turn, matcher, memo)


def _power_of(cue: str) -> float:
    """See `POWERS`; those of further local features have a number behind them."""
    return POWERS[cue.partition(" ")[0]]


def _turn(by_feature: Sequence[Sequence[Keypoints]]) -> np.ndarray:
    """See `Pool.turn`."""
    content = [tuple(keypoints.points.tobytes() for keypoints in own) for own in zip(*by_feature, strict=True)]
    turn = np.empty(len(content), np.int64)
    turn[sorted(range(len(content)), key=content.__getitem__)] = np.arange(len(content))
    return turn


def compares_all(photographs: int, recipe: Recipe) -> bool:
    """Return whether the descriptors of so many photographs are compared with all others', not with each one's
    shortlist: without an encoder there is no other way to find one."""
    return not recipe.uses_encoder or photographs <= recipe.matching.whole_gallery


def _neighbours(cue: str, photographs: Sequence[Keypoints], kept: int, what: str) -> Neighbours:
    """Return, per descriptor, the photographs with the most similar ones, but not its own."""
    stacked = stack_descriptors(photographs, _power_of(cue))
    starts, owner = stacked.starts.numpy(), stacked.owner.numpy()
    vectors = stacked.vectors.float()
    filled = np.flatnonzero(np.diff(starts))  # photographs with descriptors
    count = min(kept, max(0, len(filled) - 1))
    distance = np.full((len(vectors), count), np.inf, np.float32)
    photograph = np.zeros((len(vectors), count), np.int32)
    height = max(1, BLOCK // max(1, len(vectors)))
    device = best_device()
    every = vectors.to(device)
    for start in track(range(0, len(vectors) if count else 0, height), what):
        rows = slice(start, start + height)
        products = (every[rows] @ every.T).cpu().numpy()
        similarity = np.maximum.reduceat(products, starts[filled], axis=1)  # (b, filled)
        similarity[filled[None, :] == owner[rows, None]] = -np.inf
        values, places = torch.from_numpy(similarity).topk(count)
        distance[rows] = np.clip(2 - 2 * values.numpy(), 0, None)
        photograph[rows] = filled[places.numpy()]
    return Neighbours(starts, distance, photograph, stacked.weights.numpy())


def compare(pool: Pool, rows: np.ndarray) -> PhotographPairs:
    """Compare the photographs of a collection with each other.

    Args:
        pool: N photographs.
        rows: (n,) int64, those of the collection.

    Returns:
        The pairs that are on the shortlist of either photograph; the others have nothing in common.
    """
    collection = _Collection(pool, rows)
    source, target = collection.shortlists()
    if not len(source):
        return PhotographPairs(len(rows), source, target, {name: np.zeros(0) for name in pool.feature_names})
    edges = _Edges.of(source, target, len(rows))
    features = collection.side_features(edges)
    if pool.has_encoder:
        features |= collection.distance_features(edges)
    for cue in pool.keypoint_sets:
        features |= collection.local_features(cue, edges)
    return PhotographPairs(len(rows), edges.source[edges.forward], edges.target[edges.forward], features)


class _Edges(NamedTuple):
    """Pairs in both directions, (E,) int64 each, ascending by source and then by target."""

    source: np.ndarray
    target: np.ndarray
    forward: np.ndarray
    """(P,) the edges from the smaller row to the larger."""
    backward: np.ndarray
    """(P,) the same pairs' other edges."""
    starts: np.ndarray
    """(n + 1,) where each row's edges begin."""
    size: int

    @classmethod
    def of(cls, source: np.ndarray, target: np.ndarray, size: int) -> "_Edges":
        """Return the edges of pairs, each given in either direction or both."""
        cells = np.unique(np.concatenate([source * size + target, target * size + source]))
        source, target = np.divmod(cells, size)
        forward = np.flatnonzero(source < target)
        backward = np.searchsorted(cells, target[forward] * size + source[forward])
        return cls(source, target, forward, backward, np.searchsorted(source, np.arange(size + 1)), size)

    def both(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the values (E,) of each pair's two directions, (P,) each."""
        return values[self.forward], values[self.backward]

    def rank(self, values: np.ndarray) -> np.ndarray:
        """Return each edge's place among those of its source, (E,) float64, 0 for the largest value."""
        order = np.lexsort((-values, self.source))
        rank = np.empty(len(values))
        rank[order] = np.arange(len(values)) - self.starts[self.source[order]]
        return rank

    def tied_rank(self, values: np.ndarray) -> np.ndarray:
        """Return how many of its source's edges have a larger value, (E,) float64: equal values have equal ranks, or
        the order of the photographs would tell them apart."""
        order = np.lexsort((-values, self.source))
        starts = np.r_[True, (np.diff(values[order]) != 0) | (np.diff(self.source[order]) != 0)]
        rank = np.empty(len(values))
        rank[order] = self.rank(values)[order][np.flatnonzero(starts)[np.cumsum(starts) - 1]]
        return rank

    def sum_of_row(self, values: np.ndarray) -> np.ndarray:
        """Return the sum over the edges of each edge's source, (E,)."""
        total: np.ndarray = np.bincount(self.source, values, self.size)[self.source]
        return total

    def best_other(self, values: np.ndarray) -> np.ndarray:
        """Return the largest value among the other edges of the source, (E,); 0 where there is none."""
        rank = self.rank(values)
        best, second = np.zeros(self.size), np.zeros(self.size)
        best[self.source[rank == 0]] = values[rank == 0]
        second[self.source[rank == 1]] = values[rank == 1]
        other: np.ndarray = np.where(rank == 0, second[self.source], best[self.source])
        return other


class _Collection:
    """Photographs of a pool that are compared with each other."""

    def __init__(self, pool: Pool, rows: np.ndarray) -> None:
        self.pool, self.rows = pool, rows
        self.votes = {
            cue: _dense_votes(pool.neighbours[cue], rows, pool.matching.neighbours) for cue in pool.neighbours
        }

    def shortlists(self) -> tuple[np.ndarray, np.ndarray]:
        """Return each photograph's nearest by every cue that can search, (E,) int64 source and target."""
        count = min(self.pool.matching.shortlist, len(self.rows) - 1)
        if count < 1:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        lists = [_largest(votes + votes.T, count) for votes in self.votes.values()]
        if self.pool.has_encoder:
            lists.append(self._nearest(count))
        source = np.concatenate([np.repeat(np.arange(len(self.rows)), count) for _ in lists])
        target = np.concatenate([some.ravel() for some in lists])
        keep = (target >= 0) & (source != target)
        return source[keep], target[keep]

    def _nearest(self, count: int) -> np.ndarray:
        """(n, count) int64, the nearest by the encoder, the nearest first."""
        if self.pool.distances is not None:
            distances = self.pool.distances[np.ix_(self.rows, self.rows)].astype(float)
            np.fill_diagonal(distances, np.inf)
            return np.argsort(distances, axis=1, kind="stable")[:, :count]
        vectors = self.pool.vectors[torch.from_numpy(self.rows)]
        found = [block.place.numpy() for block in nearest(vectors, vectors, count + 1, device=best_device())]
        places = np.concatenate(found)
        own = places == np.arange(len(places))[:, None]
        own[~own.any(1), -1] = True  # of many equal photographs its own may not be among them
        others: np.ndarray = places[~own].reshape(len(places), -1)
        return others

    def _distances(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Return how far apart photographs are, (E,) float64."""
        if self.pool.distances is not None:
            return np.asarray(self.pool.distances[self.rows[one], self.rows[other]], float)
        vectors = self.pool.vectors[torch.from_numpy(self.rows)]
        blocks = np.array_split(np.arange(len(one)), -(-max(1, len(one)) // 100_000))
        return np.concatenate([(vectors[one[part]] - vectors[other[part]]).norm(dim=1).numpy() for part in blocks])

    def _cohort(self) -> tuple[np.ndarray, np.ndarray, float]:
        """Return mean and standard deviation of each photograph's distances to others, (n,) each, and the median of
        all of these."""
        size = len(self.rows)
        sample = np.unique(np.linspace(0, size - 1, COHORT).astype(int))
        if self.pool.distances is not None:
            distances = self.pool.distances[np.ix_(self.rows, self.rows[sample])].astype(float)
        else:
            vectors = self.pool.vectors[torch.from_numpy(self.rows)]
            # float64, or the distances of copies would be rounding, and their standard deviation too
            distances = pairwise_distances(vectors.double(), vectors[torch.from_numpy(sample)].double()).numpy()
        distances[sample, np.arange(len(sample))] = np.nan
        mean, deviation = np.nanmean(distances, 1), np.nanstd(distances, 1)
        return mean, np.where(deviation > 1e-6, deviation, 1), float(np.nanmedian(distances)) or 1.0

    def side_features(self, edges: _Edges) -> dict[str, np.ndarray]:
        """Return whether the two photographs show the same side, and whether another one."""
        sides = self.pool.sides[self.rows]
        one, other = sides[edges.source[edges.forward]], sides[edges.target[edges.forward]]
        known = (one != "") & (other != "")
        return {
            "same side": (known & (one == other)).astype(float),
            "other side": (known & (one != other)).astype(float),
        }

    def distance_features(self, edges: _Edges) -> dict[str, np.ndarray]:
        """Return how near the photographs are by the encoder: in the collection's median, in standard deviations of how
        far either is from anybody (cohort normalisation, Auckenthaler et al. 2000), and by rank."""
        distance = self._distances(edges.source, edges.target)
        mean, deviation, median = self._cohort()
        one, other = edges.both((distance - mean[edges.source]) / deviation[edges.source])
        ranks = edges.both(self._ranks(edges, -distance))
        return {
            "distance": -distance[edges.forward] / median,
            "distance cohort": -(one + other) / 2,
            "distance rank": -np.minimum(*ranks),
            "distance worse rank": -np.maximum(*ranks),
        }

    def _ranks(self, edges: _Edges, values: np.ndarray) -> np.ndarray:
        """Return log(1 + rank), no rank being beyond the shortlist: rows that many others list are no longer for it."""
        ranks: np.ndarray = np.log1p(np.minimum(edges.tied_rank(values), self.pool.matching.shortlist))
        return ranks

    def local_features(self, cue: str, edges: _Edges) -> dict[str, np.ndarray]:
        """Return what the keypoints of a cue say: votes, their share of all that a photograph gives, their ranks, and
        inliers of the verified pairs."""
        votes = self._edge_votes(cue, edges)
        given, taken = edges.both(votes)
        share, share_back = edges.both(votes / (edges.sum_of_row(votes) + 1e-6))
        ranks = edges.both(self._ranks(edges, votes))
        inliers = self._inliers(cue, edges, votes)
        ahead = edges.both(np.log1p(inliers) - np.log1p(edges.best_other(inliers)))
        return {
            cue: np.log1p(given + taken),
            f"{cue} less": np.log1p(np.minimum(given, taken)),
            f"{cue} share": np.log(np.sqrt(share * share_back) + 1e-3),
            f"{cue} rank": -np.minimum(*ranks),
            f"{cue} worse rank": -np.maximum(*ranks),
            f"{cue} inliers": np.log1p(inliers[edges.forward]),
            f"{cue} inliers ahead": (ahead[0] + ahead[1]) / 2,
        }

    def _edge_votes(self, cue: str, edges: _Edges) -> np.ndarray:
        """Return what the source's descriptors vote for the target, (E,) float64: among all photographs of the
        collection, or among the source's shortlist."""
        if cue in self.votes:
            return np.asarray(self.votes[cue][edges.source, edges.target], float)
        power = _power_of(cue)
        photographs = [self.pool.keypoint_sets[cue][row] for row in self.rows]
        votes = np.zeros(len(edges.source))
        for row, (start, end) in enumerate(zip(edges.starts, edges.starts[1:], strict=False)):
            if start < end:
                listed = stack_descriptors([photographs[place] for place in edges.target[start:end]])
                one = stack_descriptors([photographs[row]], power)
                votes[start:end] = lnbnn(one, listed, k=self.pool.matching.neighbours, device=best_device())[0].numpy()
        return votes

    def _inliers(self, cue: str, edges: _Edges, votes: np.ndarray) -> np.ndarray:
        """Return the inliers of each photograph's pairs with the most votes, (E,) float64; 0 for the others. Half of
        `matching.verified`, since most pairs are among those of either photograph."""
        both = np.zeros(len(votes))
        both[edges.forward] = both[edges.backward] = np.add(*edges.both(votes))
        chosen = (edges.rank(both) < self.pool.matching.verified / 2) & (both > 0)
        either = np.logical_or(*edges.both(chosen))
        wanted = np.stack([edges.source[edges.forward][either], edges.target[edges.forward][either]], 1)
        inliers = np.zeros(len(votes))
        found = _verified(self.pool, cue, self.rows[wanted])
        inliers[edges.forward[either]] = inliers[edges.backward[either]] = found
        return inliers


def _dense_votes(neighbours: Neighbours, rows: np.ndarray, count: int) -> np.ndarray:
    """Return the votes of local naive Bayes nearest neighbours within a collection, (n, n) float32.

    As `local_matching.lnbnn` (McCann and Lowe, CVPR 2012), with photographs as labels and photographs as neighbours: a
    descriptor votes for its `count` nearest photographs with the squared distance by which they are nearer than the
    next one. Where fewer are remembered, the farthest that is takes its place: of the collection if all of that are,
    else of the pool.
    """
    place = np.full(len(neighbours.starts) - 1, -1)
    place[rows] = np.arange(len(rows))
    votes = np.zeros((len(rows), len(rows)), np.float32)
    if not neighbours.distance.shape[1]:
        return votes
    filled = np.count_nonzero(np.diff(neighbours.starts)[rows])
    for row, photograph in enumerate(rows):
        own = slice(neighbours.starts[photograph], neighbours.starts[photograph + 1])
        target, distance = place[neighbours.photograph[own]], neighbours.distance[own]
        there = (target >= 0) & np.isfinite(distance)
        nearer = np.cumsum(there, 1)  # the how-manieth of the collection's photographs
        complete = there.sum(1, keepdims=True) == filled - 1
        farthest = np.where(np.where(complete, there, np.isfinite(distance)), distance, -np.inf).max(1)
        limit = np.where(there & (nearer == count + 1), distance, np.inf).min(1)
        limit = np.where(np.isfinite(limit), limit, farthest)
        counted = there & (nearer <= count)
        values = np.where(counted, (limit[:, None] - distance) * neighbours.weights[own][:, None], 0)
        votes[row] = np.bincount(np.where(counted, target, 0).ravel(), values.ravel(), len(rows))
    np.fill_diagonal(votes, 0)
    return votes


def _largest(values: np.ndarray, count: int) -> np.ndarray:
    """(n, count) int64, the columns of each row's largest values, -1 where a value is not above 0."""
    order = np.argsort(-values, axis=1, kind="stable")[:, :count]
    return np.where(np.take_along_axis(values, order, 1) > 0, order, -1)


def _verified(pool: Pool, cue: str, pairs: np.ndarray) -> np.ndarray:
    """Return the inliers of pairs (C, 2) of the pool's rows, (C,) float64; each pair is fitted once, in the direction
    that `Pool.turn` says."""
    memo, sets = pool.inliers[cue], pool.keypoint_sets[cue]
    swap = pool.turn[pairs[:, 0]] > pool.turn[pairs[:, 1]]
    ordered = [(one, other) for one, other in np.where(swap[:, None], pairs[:, ::-1], pairs).tolist()]
    missing = sorted({pair for pair in ordered if pair not in memo})
    lists: dict[int, list[int]] = {}
    for one, other in missing:
        lists.setdefault(one, []).append(other)
    shortlist = [np.array(others) for others in lists.values()]
    found = verify([sets[one] for one in lists], sets, shortlist, pool.matching, best_device(), pool.matcher)
    for (one, others), matches in zip(lists.items(), found, strict=True):
        memo.update({(one, other): match.inliers for other, match in zip(others, matches, strict=True)})
    return np.array([memo[pair] for pair in ordered], float)
