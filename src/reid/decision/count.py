"""How many individuals a collection shows, from its clusters and from answers to pairs that were drawn evenly.

**From clusters.** Let photograph i lie in a cluster of s_i photographs. Over all photographs, 1 / s_i sums to the
number of clusters C; over those of individual k, to its share h_k of the clusters: 1 where its photographs are a
cluster, 2 where they are two, less where others are among them. So C / K is the mean of h_k over the K individuals. In
pseudo-collections of known animals (`cuts.Trial`), clustered at a cut that others have fitted, h_k is known; K is
estimated as C / mean(h).

**From answers.** K = C + (animals that share a cluster with others) - (clusters that share their animal with others).
To first order the two differences together are a sum D over pairs of photographs that are near each other
(`near_pairs`): two animals in a cluster of s photographs with e near pairs add s / 2e, because a single stray
photograph is in 2e / s of them on average; one animal in two clusters with e near pairs between them takes 1 / e away.
Of the M pairs that nobody chose to ask about, m were drawn evenly: the sum is M times the mean over these, here of what
remains when each pair's expectation by its probability is taken away (a difference estimator: Särndal, Swensson and
Wretman, Model Assisted Survey Sampling, 1992, section 6.3). Pairs that were chosen are known, and counted as they are.

**Together.** K is estimated as a C + b D. Individual k's share d_k of D is half of each pair in which it is; in the
pseudo-collections the mean of a h + b d is 1 for a = (1 - b mean(d)) / mean(h), and b is chosen so that the variance is
least: that of a h + b d among as many individuals, here and among the known, and of its mean between
pseudo-collections beyond that, plus b^2 times that of the draw. Without answers b is 0.

That pairs drawn by a known law and answered by a person give the number of individuals with an interval, because it is
a sum over photographs of one over how many their individual has, is the idea of arXiv 2312.05287, which draws
photographs and then their neighbours.
"""

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from reid.config.recipe import Recipe
from reid.config.runtime import Runtime
from reid.data.catalogue import Catalogue
from reid.decision.answers import PAIRS, read_pairs
from reid.decision.artifact import Weights
from reid.decision.cuts import Trial
from reid.decision.discover import discover
from reid.decision.discovered import Clusters
from reid.decision.linkage import merge_tree
from reid.decision.links import read_links
from reid.errors import InputError
from reid.runtime.files import read_table

__all__ = [
    "COUNT_COLUMNS",
    "GROUPS",
    "NEAREST",
    "Answered",
    "Count",
    "Experience",
    "count",
    "count_individuals",
    "count_table",
    "describe_counts",
    "experience_of",
    "near_pairs",
]

COUNT_COLUMNS = ("dataset", "group", "photographs", "clusters", "individuals", "low", "high", "answers")

GROUPS = ("orientation", "season")
"""Columns of metadata.csv by which individuals are counted too, where they say something."""

NEAREST = 5
"""Photographs next to each one with which it is a near pair."""

NORMAL = 1.645
"""Standard deviations of nine of ten normal values."""

PRIOR = 10.0
"""Answers that what is known of the pseudo-collections' pairs counts as, for the variance of few answers."""

DRAWN = re.compile(r"evenly drawn: \d+ of \d+")
"""In an answer's note: the pair was drawn evenly from all near pairs without an answer, not chosen."""


class Answered(NamedTuple):
    """Pairs of photographs that a person answered."""

    pairs: np.ndarray
    """(A, 2) int64, rows of the photographs."""
    same: np.ndarray
    """(A,) bool, whether they show one animal."""
    drawn: np.ndarray
    """(A,) bool, whether the pair was drawn evenly from all near pairs without an answer; else it was chosen."""


NOTHING = Answered(np.zeros((0, 2), np.int64), np.zeros(0, bool), np.zeros(0, bool))


@dataclass(frozen=True)
class Count:
    """How many individuals some photographs show.

    Attributes:
        photographs, clusters: how many there are.
        individuals: the estimate.
        interval: whole numbers; the number is one of them or between them in nine of ten cases. NaN where nothing is
            known of it.
        answers: how many drawn pairs it is based on.
    """

    photographs: int
    clusters: int
    individuals: float
    interval: tuple[float, float]
    answers: int


class Experience(NamedTuple):
    """What pseudo-collections say of clusters and near pairs."""

    shares: np.ndarray
    """(2,) float64, the means of h and d, see above."""
    within: np.ndarray
    """(2, 2) float64, the covariance of h and d among individuals."""
    between: np.ndarray
    """(2, 2) float64, the covariance of their means between pseudo-collections, beyond that of their individuals."""
    known: int
    """Individuals."""
    residual: float
    """The mean square of what an answer to a near pair adds beyond its expectation."""


def count(
    catalogue: Catalogue,
    weights: Weights,
    recipe: Recipe | None = None,
    use_cache: bool = True,
    runtime: Runtime | None = None,
    links_file: Path | None = None,
    by: Sequence[str] = (),
) -> pd.DataFrame:
    """Count the individuals on the query photographs of each dataset, and of each group of them.

    Args:
        catalogue: the data folder.
        weights, recipe, use_cache, runtime: see `discover`, which puts the photographs together without answers.
        links_file: what people said of pairs; None for `pairs.csv` in the data folder, if it is there.
        by: columns of metadata.csv, or year, whose values are counted apart; () for `GROUPS`.

    Returns:
        The columns `COUNT_COLUMNS`, see `Count`; group is "" for all of a dataset's photographs, else such as
        "orientation left", whose count says how many individuals these photographs show.

    Raises:
        InputError: as `discover` and `links.read_links`; there is no such column.
    """
    table = catalogue.table.assign(year=catalogue.table["day"].str[:4])
    if missing := [name for name in by if name not in table]:
        raise InputError(
            f"--by {missing[0]}: expected a column of metadata.csv or year, one of {', '.join(map(str, table.columns))}"
        )
    path = links_file or catalogue.root / PAIRS
    answers = []
    if links_file or os.path.lexists(path):
        read_links(catalogue, path)  # refuses those that contradict each other, and those about a competition's queries
        datasets = dict(zip(catalogue.image_ids, table["dataset"], strict=True))
        notes = read_table(path, ()).get("note", pd.Series(dtype=str))
        answers = [
            (*one.pair, one.answer == "same", bool(DRAWN.search(notes.get(one.row - 2, ""))))
            for one in read_pairs(path, datasets)
            if one.answer != "unsure"
        ]
    clusters = discover(catalogue, weights, recipe, use_cache, runtime, use_answers=False)
    groups = table.set_index("image_id")[[name for name in by or GROUPS if name in table]]
    return count_table(clusters, answers, groups)


def count_table(
    clusters: Clusters, answers: Sequence[tuple[str, str, bool, bool]], groups: pd.DataFrame
) -> pd.DataFrame:
    """Return what `count` returns.

    Args:
        clusters: made without answers.
        answers: two image_ids, whether they show one animal, and whether the pair was drawn evenly.
        groups: by image_id, the columns whose values are counted apart; "" is no value.
    """
    rows = []
    readable = clusters.photographs[~clusters.photographs["flags"].str.contains("unreadable")]
    for dataset, photographs in readable.groupby("dataset"):
        collection = _Collection.of(photographs, clusters.pairs, answers)
        experience = experience_of(clusters.trials.get(str(dataset), ()))
        own = groups.reindex(photographs["image_id"])
        chosen = [("", np.ones(len(photographs), bool))]
        for column in groups:
            values = own[column].fillna("").to_numpy()
            several = [value for value in sorted(set(values)) if value]
            chosen += [(f"{column} {value}", values == value) for value in several if len(several) > 1]
        for group, mask in chosen:
            found = collection.count(mask, experience)
            estimate = (found.individuals, *found.interval, found.answers)
            rows.append((dataset, group, found.photographs, found.clusters, *estimate))
    return pd.DataFrame(rows, columns=list(COUNT_COLUMNS))


def describe_counts(counts: pd.DataFrame) -> list[str]:
    """Return a line for each row of `count`."""
    lines = []
    for row in counts.to_dict("records"):
        what = f"{row['dataset']}, {row['group']}" if row["group"] else row["dataset"]
        known = f"{row['low']:.0f} to {row['high']:.0f} in nine of ten cases"
        interval = known if row["low"] == row["low"] else "no interval: too few known individuals, no answers"
        made_of = f"photographs: {row['photographs']}, clusters: {row['clusters']}, drawn answers: {row['answers']}"
        lines.append(f"{what}: about {row['individuals']:.0f} individuals ({interval}); {made_of}")
    return lines


@dataclass(frozen=True)
class _Collection:
    """One dataset's photographs, with what `count_individuals` takes."""

    labels: np.ndarray
    pairs: np.ndarray
    dissimilarity: np.ndarray
    answered: Answered
    near: np.ndarray

    @classmethod
    def of(
        cls, photographs: pd.DataFrame, pairs: pd.DataFrame, answers: Sequence[tuple[str, str, bool, bool]]
    ) -> "_Collection":
        """Return rows of `Clusters.photographs` with the pairs and answers that are about them."""
        row_of = {image_id: row for row, image_id in enumerate(photographs["image_id"])}
        ends = pd.DataFrame({name: pairs[name].map(row_of) for name in ("image_id_a", "image_id_b")}).dropna()
        dissimilarity = pairs.loc[ends.index, "dissimilarity"].to_numpy(float)
        own = [(row_of[a], row_of[b], same, drawn) for a, b, same, drawn in answers if a in row_of and b in row_of]
        cells = np.array(own, np.int64).reshape(-1, 4)
        answered = Answered(cells[:, :2], cells[:, 2].astype(bool), cells[:, 3].astype(bool))
        rows = np.sort(ends.to_numpy(np.int64), axis=1)
        labels = pd.factorize(photographs["cluster"])[0]
        return cls(labels, rows, dissimilarity, answered, near_pairs(len(labels), rows, dissimilarity))

    def count(self, mask: np.ndarray, experience: Experience | None) -> Count:
        """Count the individuals on some of the photographs, (N,) bool."""
        place = np.cumsum(mask) - 1
        among, near = (mask[pairs].all(1) for pairs in (self.pairs, self.near))
        own = mask[self.answered.pairs].all(1)
        answered = Answered(place[self.answered.pairs[own]], self.answered.same[own], self.answered.drawn[own])
        labels = np.unique(self.labels[mask], return_inverse=True)[1]
        pairs, dissimilarity = place[self.pairs[among]], self.dissimilarity[among]
        return count_individuals(labels, pairs, dissimilarity, experience, answered, place[self.near[near]])


def near_pairs(size: int, pairs: np.ndarray, dissimilarity: np.ndarray) -> np.ndarray:
    """Return each photograph's `NEAREST` among those that it was compared with, (M, 2) int64, i < j, each pair once.

    Args:
        size: photographs.
        pairs: (P, 2) int64, each once.
        dissimilarity: (P,) float64.
    """
    ends = np.concatenate([pairs, pairs[:, ::-1]])
    values = np.concatenate([dissimilarity, dissimilarity])
    ends = ends[np.lexsort((ends[:, 1], values, ends[:, 0]))]
    near = np.arange(len(ends)) - np.searchsorted(ends[:, 0], np.arange(size))[ends[:, 0]] < NEAREST
    return np.unique(np.sort(ends[near], axis=1), axis=0).reshape(-1, 2)


def experience_of(trials: Sequence[Trial]) -> Experience | None:
    """Return what pseudo-collections say; None without any, or with one individual."""
    known = len(np.unique(np.concatenate([[], *(trial.labels for trial in trials)])))
    if known < 2:
        return None
    shares, residuals = [], []
    for trial in trials:
        size = len(trial.labels)
        labels = merge_tree(size, trial.pairs, trial.dissimilarity, cut=trial.cut).labels()
        _, truth = np.unique(trial.labels, return_inverse=True)
        near = near_pairs(size, trial.pairs, trial.dissimilarity)
        effect = _effects(labels, near)
        exact = effect((truth[near[:, 0]] == truth[near[:, 1]]).astype(float))
        expected = effect(_chances(near, trial.pairs, trial.dissimilarity, size))
        of_clusters = np.bincount(truth, 1 / np.bincount(labels)[labels])
        of_pairs = sum(np.bincount(truth[near[:, end]], exact / 2, len(of_clusters)) for end in (0, 1))
        shares.append(np.stack([of_clusters, of_pairs]))
        residuals.append(np.square(exact - expected).mean() if len(near) else 0.0)
    means, within = np.stack([some.mean(1) for some in shares], 1), np.cov(np.concatenate(shares, 1))
    by_chance = within * np.mean([1 / some.shape[1] for some in shares])
    return Experience(
        shares=means.mean(1),
        within=within,
        between=_without_negative(np.cov(means) - by_chance) if len(trials) > 1 else np.zeros((2, 2)),
        known=known,
        residual=float(np.mean(residuals)),
    )


def _without_negative(covariance: np.ndarray) -> np.ndarray:
    """Return the nearest matrix that is a covariance."""
    values, vectors = np.linalg.eigh(covariance)
    nearest: np.ndarray = vectors * np.maximum(values, 0) @ vectors.T
    return nearest


def count_individuals(
    labels: np.ndarray,
    pairs: np.ndarray,
    dissimilarity: np.ndarray,
    experience: Experience | None,
    answered: Answered = NOTHING,
    near: np.ndarray | None = None,
) -> Count:
    """Return how many individuals some photographs show.

    Args:
        labels: (N,) int64, their clusters, made without answers.
        pairs, dissimilarity: (P, 2) int64 and (P,) float64, see `Clusters.pairs`.
        experience: see `experience_of`; None where there is none, then clusters alone give no interval.
        answered: answers; those about pairs that are not near are not used.
        near: (M, 2) int64, the near pairs where the photographs are some of those among which pairs were drawn; None
            where they are all.
    """
    size, clusters = len(labels), len(np.unique(labels))
    near = near_pairs(size, pairs, dissimilarity) if near is None else near
    chances = _chances(near, pairs, dissimilarity, size)
    sums = _sum_of_pairs(labels, near, chances, answered, experience.residual if experience else 0.0)
    if experience:
        number, variance = _together(clusters, sums, experience)
    elif sums:
        number, variance = clusters + sums.value, sums.variance
    else:
        number, variance = float(clusters), float("nan")
    factor = np.exp(NORMAL * np.sqrt(variance) / max(1.0, number))  # no number is below one
    low, high = np.clip([np.floor(number / factor), np.ceil(number * factor)], 1, size).tolist()
    return Count(size, clusters, float(np.clip(number, 1, size)), (low, high), sums.answers if sums else 0)


class _Sum(NamedTuple):
    """D, see above, as it is estimated."""

    value: float
    variance: float
    answers: int
    """To pairs that were drawn."""


def _together(clusters: int, sums: _Sum | None, experience: Experience) -> tuple[float, float]:
    """Return the number of individuals and its variance, see above, "Together"."""
    share, of_pairs = experience.shares
    number = clusters / share
    covariance = number * (1 + number / experience.known) * experience.within + number**2 * experience.between
    turned = np.array([[1, 0], [-of_pairs, share]]) / share  # h and d become h / mean(h) and d - h mean(d) / mean(h)
    (own, shared), (_, other) = turned @ covariance @ turned.T
    if not sums:
        return number, own
    b = -shared / max(1e-9, other + sums.variance)
    return max(1.0, number + b * (sums.value - of_pairs * number)), max(0.0, own + b * shared)


def _sum_of_pairs(
    labels: np.ndarray, near: np.ndarray, chances: np.ndarray, answered: Answered, residual: float
) -> _Sum | None:
    """Return D, see above, "From answers"; None where no pair was drawn.

    Args:
        labels: (N,) int64, the clusters.
        near: (M, 2) int64, the near pairs.
        chances: (M,) float64, that each shows one animal.
        answered: the answers.
        residual: see `Experience`.
    """
    answer, is_drawn = _answers_of(near, answered, len(labels))
    if not is_drawn.any():
        return None
    effect = _effects(labels, near)
    expected = effect(chances)
    left = effect(answer) - expected
    chosen = ~np.isnan(answer) & ~is_drawn
    drawn, among = left[is_drawn], int((~chosen).sum())
    square = (np.square(drawn - drawn.mean()).sum() + PRIOR * residual) / (len(drawn) - 1 + PRIOR)
    variance = among**2 * square / len(drawn) * (1 - len(drawn) / among)
    return _Sum(float(expected.sum() + left[chosen].sum() + among * drawn.mean()), float(variance), len(drawn))


def _effects(labels: np.ndarray, near: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return what turns whether near pairs show one animal, (M,) float64 from 0 to 1, into what each adds to the number
    of clusters on the way to that of individuals, see above."""
    ends = np.sort(labels[near], axis=1)
    _, kind, counts = np.unique(ends, axis=0, return_inverse=True, return_counts=True)
    of_kind = counts[kind.reshape(-1)] if len(near) else np.zeros(0)
    joined = ends[:, 0] == ends[:, 1]
    sizes = np.bincount(labels)[ends[:, 0]] if len(near) else np.zeros(0)

    def effect(same: np.ndarray) -> np.ndarray:
        added: np.ndarray = np.where(joined, (1 - same) * sizes / (2 * of_kind), -same / of_kind)
        return added

    return effect


def _chances(near: np.ndarray, pairs: np.ndarray, dissimilarity: np.ndarray, size: int) -> np.ndarray:
    """Return the chance that each near pair shows one animal, (M,) float64."""
    keys = np.sort(pairs, axis=1) @ [size, 1]
    order = np.argsort(keys)
    places = order[np.searchsorted(keys[order], near @ [size, 1])]
    return np.asarray(1 - dissimilarity[places])


def _answers_of(near: np.ndarray, answered: Answered, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return of each near pair its answer, (M,) float64: 1 for one animal, 0 for two, NaN for none; and whether it was
    drawn, (M,) bool."""
    row_of = {key: row for row, key in enumerate((near @ [size, 1]).tolist())}
    answer, drawn = np.full(len(near), np.nan), np.zeros(len(near), bool)
    keys = (np.sort(answered.pairs, axis=1) @ [size, 1]).tolist()
    for key, same, was_drawn in zip(keys, answered.same.tolist(), answered.drawn.tolist(), strict=True):
        if key in row_of:
            answer[row_of[key]], drawn[row_of[key]] = same, was_drawn
    return answer, drawn
