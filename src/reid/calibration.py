"""The threshold between a known individual and a new one: fitted on the database, never guessed.

The database plays its own contest. Some photographs are kept from the encoder (`hold_out`); afterwards they are asked
for as if they were queries, some of their individuals being taken out of the gallery, so that they are new. The
threshold is the one that would have won these contests.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from reid.catalogue import Catalogue
from reid.recipe import Recipe

__all__ = ["HeldOut", "PseudoQueries", "Sweep", "Threshold", "fit_threshold", "hold_out", "pseudo_queries", "sweep"]

PLATEAU = 0.005
"""Thresholds whose mean score is within half a point of the best are taken as equal: far less than splits differ."""


class HeldOut(NamedTuple):
    """Photographs that an encoder does not learn from."""

    individuals: np.ndarray
    """(N,) bool: all photographs of some individuals. They are validated on, and are the new animals of calibration."""
    photographs: np.ndarray
    """(N,) bool: one photograph, or one day's, of some of the others. They are the known animals of calibration."""


def hold_out(catalogue: Catalogue, recipe: Recipe) -> HeldOut:
    """Chooses what an encoder does not learn from.

    Where photographs have dates, an individual's last day is held out instead of a photograph: live queries are later
    than the database, and photographs of one day resemble each other more than the animal.

    Args:
        catalogue: one dataset's database photographs.
        recipe: `held_out_individuals`, `held_out_photographs`, `seed`.
    """
    rng = np.random.default_rng([recipe.seed, 1])
    labels, days = np.array(catalogue.identities), catalogue.table["day"].to_numpy(str)
    individuals, counts = np.unique(labels, return_counts=True)
    # as many pairs as singletons, in proportion: stratified by whether there is anything to compare
    chosen = np.concatenate(
        [
            rng.permutation(group)[: round(recipe.held_out_individuals * len(group))]
            for group in (individuals[counts > 1], individuals[counts == 1])
        ]
    )
    whole = np.isin(labels, chosen)
    single = np.zeros(len(labels), dtype=bool)
    # two photographs must be left to learn from
    candidates = rng.permutation(individuals[(counts >= 3) & ~np.isin(individuals, chosen)])
    for individual in candidates[: round(recipe.held_out_photographs * len(candidates))]:
        own = np.flatnonzero(labels == individual)
        last_day = own[days[own] == max(days[own])]
        leaves_two = len(own) - len(last_day) >= 2
        single[last_day if leaves_two else rng.choice(own, size=1)] = True
    return HeldOut(individuals=whole, photographs=single)


class PseudoQueries(NamedTuple):
    """Queries from the database whose answer is known."""

    distance: np.ndarray
    """(Q,) float: to the nearest photograph of the gallery."""
    right: np.ndarray
    """(Q,) bool: that photograph shows the same individual."""
    individual: np.ndarray
    """(Q,) str: who is asked for."""
    new: np.ndarray
    """(Q,) bool: that individual is not in the gallery."""


def pseudo_queries(
    distances: np.ndarray, asked: np.ndarray, labels: np.ndarray, days: np.ndarray, held_out: HeldOut, recipe: Recipe
) -> Iterator[PseudoQueries]:
    """Random contests from one database.

    In each, a share of the held-out individuals leaves the gallery and is asked for as new. Known are the held-out
    photographs of individuals that the encoder learned from, as on Kaggle, and one photograph each of the held-out
    individuals that stay. A query is never compared with itself, nor with its own individual's photographs of one day.

    Args:
        distances: (A, N) float, from the held-out photographs to all photographs of the database.
        asked: (A,) integers, the held-out photographs' places in the database.
        labels: (N,) str, individuals.
        days: (N,) str, "" where there is none.
        held_out: what the encoder did not learn from.
        recipe: `calibration_splits`, `new_share`, `seed`.
    """
    rng = np.random.default_rng([recipe.seed, 2])
    unseen = np.unique(labels[held_out.individuals])
    same_individual = labels[asked][:, None] == labels[None, :]  # (A, N)
    same_day = (days[asked][:, None] == days[None, :]) & (days[asked] != "")[:, None]
    itself = asked[:, None] == np.arange(len(labels))[None, :]
    hidden = itself | (same_individual & same_day)
    for _ in range(recipe.calibration_splits):
        leaving = rng.permutation(unseen)[: max(1, round(recipe.new_share * len(unseen)))]
        leaves = np.isin(labels, leaving)  # (N,)
        is_new = leaves[asked]
        stays = held_out.individuals[asked] & ~is_new
        order = rng.permutation(len(asked))
        first_of_its_own = np.zeros(len(asked), dtype=bool)
        first_of_its_own[order[np.unique(labels[asked[order]], return_index=True)[1]]] = True
        compared = ~hidden & ~leaves[None, :]  # (A, N)
        is_known = ~is_new & (first_of_its_own | ~stays) & (compared & same_individual).any(1)
        rows = np.flatnonzero((is_new | is_known) & compared.any(1))
        masked = np.where(compared[rows], distances[rows], np.inf)
        nearest = masked.argmin(1)
        yield PseudoQueries(
            distance=masked[np.arange(len(rows)), nearest],
            right=labels[nearest] == labels[asked[rows]],
            individual=labels[asked[rows]],
            new=is_new[rows],
        )


class Sweep(NamedTuple):
    """BAKS and BAUS between any two neighbouring distances: they are step functions of the threshold.

    Step i holds for thresholds above `edges[i - 1]` and not above `edges[i]`; the first has no lower edge, the last no
    upper one.
    """

    edges: np.ndarray
    """(T,) float, the distinct distances, ascending."""
    baks: np.ndarray
    """(T + 1,) float."""
    baus: np.ndarray
    """(T + 1,) float."""
    share_new: np.ndarray
    """(T + 1,) float, the share of the queries that are called new."""

    def at(self, thresholds: np.ndarray) -> "Sweep":
        """The same functions read at other thresholds."""
        step = np.searchsorted(self.edges, thresholds, side="left")
        return Sweep(thresholds, self.baks[step], self.baus[step], self.share_new[step])


def sweep(queries: PseudoQueries) -> Sweep:
    """BAKS and BAUS at every threshold, exactly: one sort and two cumulative sums.

    A query is named when its distance is below the threshold. An individual weighs the same however many photographs
    it has, as in the competition's score. Both are 0 where there is no such query.
    """
    weight = np.zeros(len(queries.distance))
    for kind in (queries.new, ~queries.new):
        individuals, inverse, counts = np.unique(queries.individual[kind], return_inverse=True, return_counts=True)
        weight[kind] = 1 / counts[inverse] / max(1, len(individuals))
    order = np.argsort(queries.distance, kind="stable")
    edges, starts = np.unique(queries.distance[order], return_index=True)

    def gained_below(gain: np.ndarray) -> np.ndarray:
        """(T + 1,) the sum of what is gained by naming every query below each step."""
        return np.concatenate([[0.0], np.add.reduceat(gain[order], starts).cumsum()]) if len(gain) else np.zeros(1)

    lost = gained_below(weight * queries.new)
    return Sweep(
        edges=edges,
        baks=gained_below(weight * (queries.right & ~queries.new)),
        baus=lost[-1] - lost,
        share_new=1 - gained_below(np.full(len(weight), 1 / max(1, len(weight)))),
    )


@dataclass(frozen=True)
class Threshold:
    """When a nearest neighbour is near enough, for one dataset.

    Attributes:
        dataset: whose.
        value: a query whose distance is below it is named.
        score: the expected sqrt(BAKS x BAUS), the mean over the splits; None when it could not be measured.
        spread: standard deviation of the score over the splits.
        baks, baus: expected.
        share_new: the share of queries that it will call new, if they are like the pseudo-queries.
        plateau: thresholds between these two do as well, to within half a point.
        known, new: pseudo-queries in the mean split.
        note: what a person must know about it, "" when nothing.
    """

    dataset: str
    value: float
    score: float | None
    spread: float | None
    baks: float | None
    baus: float | None
    share_new: float | None
    plateau: tuple[float, float]
    known: float
    new: float
    note: str = ""


def fit_threshold(
    dataset: str,
    distances: np.ndarray,
    asked: np.ndarray,
    labels: Sequence[str],
    days: Sequence[str],
    held_out: HeldOut,
    recipe: Recipe,
) -> Threshold:
    """The threshold with the best mean score over random splits, from the centre of its plateau.

    Args:
        dataset: its name.
        distances, asked, labels, days, held_out, recipe: as for `pseudo_queries`.

    Returns:
        A threshold; with a note instead of an expected score where the database has no known or no new pseudo-queries
        (then the threshold is a cautious guess from the distances that there are).
    """
    splits = list(pseudo_queries(distances, asked, np.array(labels), np.array(days), held_out, recipe))
    known = float(np.mean([(~split.new).sum() for split in splits]))
    new = float(np.mean([split.new.sum() for split in splits]))
    usable = [split for split in splits if split.new.any() and not split.new.all()]
    if not usable:
        return _guess(dataset, splits, known, new)
    sweeps = [sweep(split) for split in usable]
    edges = np.unique(np.concatenate([one.edges for one in sweeps]))
    # a step of the mean curve lies below each edge, and one above the last, which no query needs
    curves = np.stack([np.sqrt(one.at(edges).baks * one.at(edges).baus) for one in sweeps])  # (splits, T)
    mean = curves.mean(0)
    first, last = _plateau(mean)
    low, high = float(edges[first - 1]) if first else 0.0, float(edges[last])
    value = (low + high) / 2
    chosen = [one.at(np.array([value])) for one in sweeps]
    scores = [float(np.sqrt(one.baks[0] * one.baus[0])) for one in chosen]
    return Threshold(
        dataset=dataset,
        value=value,
        score=float(np.mean(scores)),
        spread=float(np.std(scores)),
        baks=float(np.mean([one.baks[0] for one in chosen])),
        baus=float(np.mean([one.baus[0] for one in chosen])),
        share_new=float(np.mean([one.share_new[0] for one in chosen])),
        plateau=(low, high),
        known=known,
        new=new,
    )


def _plateau(curve: np.ndarray) -> tuple[int, int]:
    """The run of steps around the highest whose values are as good: its first and last place."""
    good = curve >= curve.max() - PLATEAU
    first = last = int(curve.argmax())
    while first > 0 and good[first - 1]:
        first -= 1
    while last + 1 < len(curve) and good[last + 1]:
        last += 1
    return first, last


def _guess(dataset: str, splits: list[PseudoQueries], known: float, new: float) -> Threshold:
    """Without known or without new pseudo-queries nothing can be weighed; winners of the competition over-reject."""
    distances = np.concatenate([split.distance for split in splits])
    if known:
        value, note = (
            float(distances.max()),
            "no individual could play the new one: every distance seen so far counts as known",
        )
    elif new:
        value = float(np.quantile(distances, 0.05))
        note = "no individual has two photographs to compare: 5 % of the new pseudo-queries would be named"
    else:
        value, note = 0.0, "too few individuals to hold any out: every query is called new"
    return Threshold(dataset, value, None, None, None, None, None, (value, value), known, new, note)
