"""The cut: below which mean dissimilarity two clusters of photographs are taken for one animal. Fitted, never guessed.

Pseudo-collections (`reference`), as dense as the live photographs if the database allows it, are scored and clustered
as these are (`linkage`), and the cut with the highest mean adjusted Rand index over them is taken. How dense the live
photographs are is not known; it is estimated from how many confident pairs they have, compared with the
pseudo-collections.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from reid.decision.linkage import MergeTree, Method, Part, merge_tree
from reid.decision.pair_scores import LabelledPairs, PairScorer, fit_pair_scorer
from reid.decision.reference import Reference, companions_of, draw_collection
from reid.decision.thresholds import run_around_best
from reid.retrieval.photograph_pairs import PhotographPairs, Pool, compare
from reid.runtime.progress import track

__all__ = [
    "GRID",
    "FittedCut",
    "Source",
    "Trial",
    "confident_companions",
    "curve_of",
    "fit_cut",
    "middle_of_plateau",
    "rand_index_at",
]

COLLECTIONS = 12
"""Pseudo-collections that the cut is fitted on."""

ROUNDS = 3
"""Of drawing, scoring and estimating the density, at most."""

FIRST_COMPANIONS = 3.0
"""In the first round: an assumption that the later rounds replace."""

STEADY = 1.15
"""A density that changes by less than this factor is not estimated again."""

CONFIDENT = 0.3
"""From which chance on a pair counts for the density."""

LEAST = 0.3
"""Companions that are estimated at least: with none there would be nothing to fit."""

GRID = np.linspace(0, 1, 201)
"""Cuts that are compared."""

PLATEAU = 0.01
"""Cuts whose mean index is within a hundredth of the best are taken as equal."""


class Source(NamedTuple):
    """Known photographs out of which pseudo-collections are drawn."""

    dataset: str
    reference: Reference
    pool: Pool


class Trial(NamedTuple):
    """A pseudo-collection as it was clustered to find the cut."""

    labels: np.ndarray
    """(N,) str, the individual on each photograph."""
    pairs: np.ndarray
    """(P, 2) int64, its pairs."""
    dissimilarity: np.ndarray
    """(P,) float64, of models that lack the pair's individuals."""
    cut: float
    """Fitted on the other pseudo-collections."""


@dataclass(frozen=True)
class FittedCut:
    """A pair score and its cut.

    Attributes:
        scorer: the pair score.
        value: the cut, the middle of the plateau.
        plateau: cuts between these two do as well.
        scores: (R,) float64, the adjusted Rand index of each pseudo-collection at the cut that the others have; (0,)
            where there are no others. All are drawn from the same individuals: how much they differ says how much
            draws differ, not other animals.
        companions: of the live photographs, estimated, see `reference.companions_of`.
        fitted_companions: of the pseudo-collections, mean.
        trials: the pseudo-collections; () where there are none.
    """

    scorer: PairScorer
    value: float
    plateau: tuple[float, float]
    scores: np.ndarray
    companions: float
    fitted_companions: float
    trials: tuple[Trial, ...] = ()


def fit_cut(
    sources: Sequence[Source],
    live: PhotographPairs,
    seed: int,
    transform: Callable[[PhotographPairs], PhotographPairs] = lambda pairs: pairs,
    companions: float | None = None,
    kind: str = "both",
    method: Method = "average",
) -> FittedCut | None:
    """Fit pair score and cut for a collection of unknown animals.

    Args:
        sources: known photographs, of the same dataset or, for a dataset that borrows, of others.
        live: the pairs of the unknown photographs.
        seed: of everything random.
        transform: applied to the pairs of the pseudo-collections as it was to `live`.
        companions: how dense the live photographs are; None to estimate it.
        kind: of pair score, see `pair_scores.KINDS`.
        method: of linkage.

    Returns:
        None where nothing can be fitted: too few individuals with several photographs.
    """
    rng = np.random.default_rng([seed, 7])
    estimate = FIRST_COMPANIONS if companions is None else companions
    fitted: FittedCut | None = None
    for _ in track(range(ROUNDS), "fitting the cut"):
        again = _fit(kind, _draw(sources, estimate, live.size, rng, transform), live, seed, method)
        fitted = again or fitted  # where collections of another density are too sparse, the last one's cut stays
        if again is None or fitted is None or companions is not None:
            break
        if 1 / STEADY < fitted.companions / estimate < STEADY:
            break
        # half the way only: from a wrong density it is estimated badly
        estimate = float(np.sqrt(estimate * fitted.companions))
    return fitted


def _draw(
    sources: Sequence[Source],
    companions: float,
    size: int,
    rng: np.random.Generator,
    transform: Callable[[PhotographPairs], PhotographPairs],
) -> list[LabelledPairs]:
    """Return pseudo-collections of all sources in turn."""
    collections = []
    for number in range(COLLECTIONS):
        source = sources[number % len(sources)]
        drawn = draw_collection(source.reference, companions, size, rng)
        pairs = transform(compare(source.pool, drawn.rows))
        if len(pairs):
            collections.append(LabelledPairs(pairs, np.char.add(f"{source.dataset} ", drawn.labels)))
    return collections


def _fit(
    kind: str, collections: Sequence[LabelledPairs], live: PhotographPairs, seed: int, method: Method
) -> FittedCut | None:
    if not collections:
        return None
    scorer = fit_pair_scorer(kind, collections, seed)
    if scorer is None:
        return None
    scored = [scorer.held_out(collection) for collection in collections]
    curves = np.stack([curve_of(one, values, method) for one, values in zip(collections, scored, strict=True)])
    value, plateau = middle_of_plateau(curves.mean(0))
    known = np.array([companions_of(collection.labels) for collection in collections])
    cuts = _cuts_of_others(curves)
    places = [int(np.abs(GRID - cut).argmin()) for cut in cuts]
    trials = zip(collections, scored, cuts, strict=True)
    return FittedCut(
        scorer=scorer,
        value=value,
        plateau=plateau,
        scores=curves[np.arange(len(curves)), places] if len(curves) > 1 else np.zeros(0),
        companions=_estimate(collections, scored, live.size, scorer.dissimilarity(live)),
        fitted_companions=float(known.mean()),
        trials=tuple(
            Trial(one.labels, np.stack([one.pairs.first, one.pairs.second], 1), values, cut)
            for one, values, cut in trials
        ),
    )


def _estimate(
    collections: Sequence[LabelledPairs], scored: Sequence[np.ndarray], size: int, dissimilarity: np.ndarray
) -> float:
    """Return how many companions a live photograph has, from how many it confidently has.

    Of the confident ones in the pseudo-collections, those of the same animal grow with its companions, at a rate that
    is known there; the others do not, since a photograph's features are about what it shares with the others, however
    many these are (adjusted count, Forman 2008).

    Args:
        collections, scored: pseudo-collections, and the dissimilarities of their pairs.
        size, dissimilarity: the same of the live photographs.
    """
    right = wrong = companions = 0.0
    for one, values in zip(collections, scored, strict=True):
        right += confident_companions(one.pairs.size, values[one.is_match]) / len(collections)
        wrong += confident_companions(one.pairs.size, values[~one.is_match]) / len(collections)
        companions += companions_of(one.labels) / len(collections)
    found = confident_companions(size, dissimilarity) - wrong
    return float(np.clip(found * companions / max(1e-9, right), LEAST, max(LEAST, size - 1)))


def confident_companions(size: int, dissimilarity: np.ndarray) -> float:
    """Return how many other photographs a photograph confidently shares its animal with, on average."""
    chance = 1 - dissimilarity
    return float(2 * chance[chance > CONFIDENT].sum() / max(1, size))


def curve_of(collection: LabelledPairs, dissimilarity: np.ndarray, method: Method = "average") -> np.ndarray:
    """Return the adjusted Rand index of a pseudo-collection at the cuts of `GRID`, (201,) float64."""
    pairs = collection.pairs
    tree = merge_tree(pairs.size, np.stack([pairs.first, pairs.second], 1), dissimilarity, method=method)
    return rand_index_at(tree, collection.labels, GRID)


def rand_index_at(tree: MergeTree, labels: np.ndarray, cuts: np.ndarray) -> np.ndarray:
    """Return the adjusted Rand index of the clusters at each cut, (C,) float64, in one walk through the merges.

    Args:
        tree: all merges.
        labels: (N,) the individual on each photograph.
        cuts: (C,) float64.
    """
    _, truth, counts = np.unique(labels, return_inverse=True, return_counts=True)
    gained = [np.zeros((0, 3)), *(_gained(part, truth) for part in tree.parts)]
    height, both, joined = np.concatenate(gained).T
    order = np.argsort(height, kind="stable")
    step = np.searchsorted(height[order], cuts, side="left")
    both, joined = (np.concatenate([[0], values[order].cumsum()])[step] for values in (both, joined))
    right, every = (counts * (counts - 1) // 2).sum(), max(1, len(labels) * (len(labels) - 1) // 2)
    by_chance = joined * right / every
    most = (joined + right) / 2
    certain = most <= by_chance  # nothing to join, and nothing joined
    index: np.ndarray = np.where(certain, 1, both - by_chance) / np.where(certain, 1, most - by_chance)
    return index


def _gained(part: Part, truth: np.ndarray) -> np.ndarray:
    """Return of each merge its height, how many pairs of one individual it joins, and how many pairs, (M - 1, 3)."""
    clusters = [{individual: 1} for individual in truth[part.rows].tolist()]
    gained = np.zeros((len(part.merges), 3))
    for place, (one, other, height, _) in enumerate(part.merges.tolist()):
        small, large = sorted((clusters[int(one)], clusters[int(other)]), key=len)
        both = sum(count * large.get(individual, 0) for individual, count in small.items())
        gained[place] = height, both, sum(small.values()) * sum(large.values())
        clusters.append({**large, **{name: count + large.get(name, 0) for name, count in small.items()}})
    return gained


def middle_of_plateau(curve: np.ndarray) -> tuple[float, tuple[float, float]]:
    """Return the middle of the run of cuts around the best that are as good, and its ends."""
    first, last = run_around_best(curve, PLATEAU)
    return float((GRID[first] + GRID[last]) / 2), (float(GRID[first]), float(GRID[last]))


def _cuts_of_others(curves: np.ndarray) -> list[float]:
    """Return, for each pseudo-collection, the cut that is fitted on the others; on itself where it is alone."""
    if len(curves) == 1:
        return [middle_of_plateau(curves[0])[0]]
    total = curves.sum(0)
    return [middle_of_plateau((total - own) / (len(curves) - 1))[0] for own in curves]
