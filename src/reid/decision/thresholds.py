"""Thresholds: BAKS and BAUS at every threshold at once, and where the best one lies.

BAKS and BAUS are the competition's (see `metrics`): balanced accuracy on known and on unknown samples. Both are step
functions of the threshold, so they are computed exactly, at the dissimilarities that there are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from reid.decision.open_set import OpenSetQueries

__all__ = ["Sweep", "Threshold", "mean_curves", "mean_of_splits", "plateau_of", "run_around_best", "sweep"]


PLATEAU = 0.005
"""Thresholds whose mean score is within half a point of the best are taken as equal: far less than splits differ."""

NEAREST_OF = 4
"""A prior individual is as similar to its best candidate as the nearest of so many new ones is to theirs. 2, 4 and 8
were tried on collections of 10 to 40 individuals (benchmarks/few_individuals.py)."""


class Sweep(NamedTuple):
    """BAKS and BAUS between any two neighbouring dissimilarities.

    Step i holds for thresholds above `edges[i - 1]` and not above `edges[i]`; the first has no lower edge, the last no
    upper one.
    """

    edges: np.ndarray
    """(T,) float, the distinct dissimilarities, ascending."""
    baks: np.ndarray
    """(T + 1,) float."""
    baus: np.ndarray
    """(T + 1,) float."""
    share_new: np.ndarray
    """(T + 1,) float, the share of the queries that are called new."""

    def at(self, thresholds: np.ndarray) -> "Sweep":
        """Return the same functions read at other thresholds."""
        step = np.searchsorted(self.edges, thresholds, side="left")
        return Sweep(thresholds, self.baks[step], self.baus[step], self.share_new[step])

    def with_prior(self, share: float) -> "Sweep":
        """Return the same with a share of BAKS, 0 to 1, by what is believed before any known query was seen: that a
        right match is as near as the nearest of `NEAREST_OF` new queries. So a handful of matches, all by chance far
        away or none at all, do not push the threshold to where everybody or nobody is named."""
        believed = 1 - np.clip(self.baus, 0, 1) ** NEAREST_OF
        return self._replace(baks=(1 - share) * self.baks + share * believed)


def sweep(queries: OpenSetQueries, times: np.ndarray | None = None) -> Sweep:
    """Return BAKS and BAUS at every threshold, exactly: one sort and two cumulative sums.

    A query is named when its dissimilarity is below the threshold. An individual weighs the same however many
    photographs it has, as in the competition's score. Both are 0 where there is no such query.

    Args:
        queries: Q of them.
        times: (Q,) how often the query's individual counts, the same on all of its queries; None for once.
    """
    times = np.ones(len(queries.distance)) if times is None else times.astype(float)
    weight = np.zeros(len(queries.distance))
    for kind in (queries.new, ~queries.new):
        _, inverse, counts = np.unique(queries.individual[kind], return_inverse=True, return_counts=True)
        weight[kind] = times[kind] / counts[inverse]
        weight[kind] /= max(1e-9, weight[kind].sum())
    order = np.argsort(queries.distance, kind="stable")
    edges, starts = np.unique(queries.distance[order], return_index=True)

    def gained_below(gain: np.ndarray) -> np.ndarray:
        """(T + 1,) the sum of what is gained by naming every query below each step."""
        return np.concatenate([[0.0], np.add.reduceat(gain[order], starts).cumsum()]) if len(gain) else np.zeros(1)

    lost = gained_below(weight * queries.new)
    return Sweep(
        edges=edges,
        baks=gained_below(weight * (queries.is_match & ~queries.new)),
        baus=lost[-1] - lost,
        share_new=1 - gained_below(times / max(1e-9, times.sum())),
    )


@dataclass(frozen=True)
class Threshold:
    """Below which dissimilarity a query is named, for one dataset.

    Attributes:
        dataset: whose.
        value: a query whose dissimilarity to the best candidate is below it is named.
        score: the expected sqrt(BAKS x BAUS): the mean over splits, each on individuals that its own threshold was not
            fitted on; None when it could not be measured.
        interval: nine of ten splits lie between these.
        baks, baus: expected.
        share_new: the expected share of queries called new, if they are like the pseudo-queries.
        plateau: thresholds between these two do as well, to within half a point.
        known, new: how many individuals were known and new pseudo-queries.
        note: what a person must know about it, a line each; "" when nothing.
        support: what the data can support: nine of ten thresholds, each fitted on another draw of the individuals,
            reach a score between these on all of them; None where it could not be measured, and in folders of earlier
            versions.
    """

    dataset: str
    value: float
    score: float | None
    interval: tuple[float, float] | None
    baks: float | None
    baus: float | None
    share_new: float | None
    plateau: tuple[float, float]
    known: int
    new: int
    note: str = ""
    support: tuple[float, float] | None = None


def mean_of_splits(scores: np.ndarray) -> float:
    """Return the mean over the splits that have a score; 0 where none has."""
    measured = scores[~np.isnan(scores)]
    return float(measured.mean()) if len(measured) else 0.0


class MeanCurves(NamedTuple):
    """Means over splits, (T,) each, at the edges and in the step below each."""

    baks: np.ndarray
    baus: np.ndarray
    score: np.ndarray
    share_new: np.ndarray


def mean_curves(sweeps: Sequence[Sweep]) -> tuple[np.ndarray, MeanCurves]:
    """Return the finite edges of all sweeps, (T,), and the mean curves there.

    A step lies below each edge; the one above the last is what no query needs.
    """
    edges = np.unique(np.concatenate([swept.edges for swept in sweeps]))
    edges = edges[np.isfinite(edges)]
    at_edges = [swept.at(edges) for swept in sweeps]
    baks, baus, share_new = (
        np.stack([getattr(swept, name) for swept in at_edges]) for name in ("baks", "baus", "share_new")
    )
    return edges, MeanCurves(baks.mean(0), baus.mean(0), np.sqrt(baks * baus).mean(0), share_new.mean(0))


def plateau_of(edges: np.ndarray, score: np.ndarray) -> tuple[float, float]:
    """Return the run of steps around the highest whose values are as good: from where to where the threshold may
    lie."""
    first, last = run_around_best(score, PLATEAU)
    return float(edges[first - 1]) if first else 0.0, float(edges[last])


def run_around_best(score: np.ndarray, slack: float) -> tuple[int, int]:
    """Return the first and the last of the neighbouring places around the highest that are within `slack` of it."""
    good = score >= score.max() - slack
    first = last = int(score.argmax())
    while first > 0 and good[first - 1]:
        first -= 1
    while last + 1 < len(score) and good[last + 1]:
        last += 1
    return first, last
