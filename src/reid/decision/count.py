"""How many individuals a collection shows, from its clusters and from answers to pairs that were drawn evenly.

**Clusters.** Let photograph i lie in a cluster of s_i photographs. Over all photographs, 1 / s_i sums to the number of
clusters C; over those of individual k, to its share h_k of the clusters: 1 where its photographs are a cluster, 2 where
they are two, less where others are among them. So K, the number of individuals, is C / mean(h). In pseudo-collections
of known animals (`cuts.Trial`), clustered at a cut that others have fitted, h_k is known.

**Density.** h grows with the number n of photographs of an individual, and collections differ in that. The individuals
of the pseudo-collections are weighted by exp(t n): each t is a density, and gives a mean of h. `discover` estimates the
density from the similarities alone, in companions per photograph; the logarithm of its error is taken as normal with a
standard deviation of `DENSITY_ERROR`.

**Answers.** S, the number of pairs of one animal among those of photographs near each other (`near_pairs`), tells the
density better. Of the M near pairs that nobody chose to ask about, m were drawn evenly: S is M times the share of one
animal among these, corrected by each pair's probability (a difference estimator: Särndal, Swensson and Wretman, Model
Assisted Survey Sampling, 1992, section 6.3). Pairs that were chosen are known, and counted as they are. For each t the
pseudo-collections say how many near pairs of one animal so many photographs have, to within `RATE_ERROR`; so the
densities are weighted anew, by Bayes' rule.

**Interval.** At each density K is normal around C / mean(h), with the variance of h among as many individuals, and
among the known; the interval holds nine tenths of all densities together.

That pairs drawn by a known law and answered by a person give the number of individuals with an interval, because it is
a sum over photographs of one over how many their individual has, is the idea of arXiv 2312.05287, which draws
photographs and then their neighbours.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import ndtr

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
    "read_answers",
]

COUNT_COLUMNS = ("dataset", "group", "photographs", "clusters", "individuals", "low", "high", "answers")

GROUPS = ("orientation", "season")
"""Columns of metadata.csv by which individuals are counted too, where they say something."""

ADDED = ("answered", "date_problem", "day", "crop", "beside")
"""Columns of a catalogue that are not in metadata.csv."""

NEAREST = 5
"""Photographs next to each one with which it is a near pair."""

TILTS = np.linspace(-3, 4, 141)
"""The values of t: from photographs of which hardly one has a companion, to as dense as the database has animals."""

LEAST_EFFECTIVE = 10.0
"""Individuals that must count, at least, at a density (one over the sum of the squared weights)."""

FLOOR = 0.1
"""Companions that are added before a logarithm is taken, for there may be none."""

DENSITY_ERROR = 0.4
"""Of the logarithm of the density that `discover` estimates: on real photographs it was 1.0, 1.0 and 0.8 of the truth
for cattle with three seeds, and 1.3, 1.5 and 3.4 of it for nyala (benchmarks/README.md)."""

RATE_ERROR = 0.15
"""Of the number of near pairs of one animal that pseudo-collections tell, as a share of it: among more photographs more
strangers are near."""

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
    """What pseudo-collections of known animals say, see above; a row for each individual in each of them, I in all."""

    photographs: np.ndarray
    """(I,) float64, n."""
    shares: np.ndarray
    """(I,) float64, h."""
    near: np.ndarray
    """(I,) float64, its near pairs, each of which is two photographs of it."""
    known: int
    """Individuals."""
    residual: float
    """The mean square of what an answer to a near pair adds beyond its probability."""


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
    offered = [name for name in map(str, table.columns) if name not in ADDED]
    if missing := [name for name in by if name not in offered]:
        raise InputError(f"--by {missing[0]}: expected a column of metadata.csv or year, one of {', '.join(offered)}")
    answers = read_answers(catalogue, links_file)
    clusters = discover(catalogue, weights, recipe, use_cache, runtime, use_answers=False)
    groups = table.set_index("image_id")[[name for name in by or GROUPS if name in table]]
    return count_table(clusters, answers, groups)


def read_answers(catalogue: Catalogue, links_file: Path | None = None) -> list[tuple[str, str, bool, bool]]:
    """Return what people said of pairs: two image_ids, whether they show one animal, whether the pair was drawn evenly.

    Raises:
        InputError: see `links.read_links`.
    """
    path = links_file or catalogue.root / PAIRS
    if not links_file and not os.path.lexists(path):
        return []
    read_links(catalogue, path)  # refuses those that contradict each other, and those about a competition's queries
    datasets = dict(zip(catalogue.image_ids, catalogue.table["dataset"], strict=True))
    notes = read_table(path, ()).get("note", pd.Series(dtype=str))
    return [
        (*one.pair, one.answer == "same", bool(DRAWN.search(notes.get(one.row - 2, ""))))
        for one in read_pairs(path, datasets)
        if one.answer != "unsure"
    ]


def count_table(
    clusters: Clusters, answers: Sequence[tuple[str, str, bool, bool]], groups: pd.DataFrame
) -> pd.DataFrame:
    """Return what `count` returns.

    Args:
        clusters: made without answers.
        answers: see `read_answers`.
        groups: by image_id, the columns whose values are counted apart; "" is no value.
    """
    rows = []
    readable = clusters.photographs[~clusters.photographs["flags"].str.contains("unreadable")]
    for dataset, photographs in readable.groupby("dataset"):
        collection = _Collection.of(photographs, clusters.pairs, answers)
        experience = experience_of(clusters.trials.get(str(dataset), ()))
        companions = clusters.cuts[str(dataset)].companions
        own = groups.reindex(photographs["image_id"])
        chosen = [("", np.ones(len(photographs), bool))]
        for column in groups:
            values = own[column].fillna("").to_numpy()
            several = [value for value in sorted(set(values)) if value]
            chosen += [(f"{column} {value}", values == value) for value in several if len(several) > 1]
        for group, mask in chosen:
            found = collection.count(mask, experience, companions)
            estimate = (found.individuals, *found.interval, found.answers)
            rows.append((dataset, group, found.photographs, found.clusters, *estimate))
    return pd.DataFrame(rows, columns=list(COUNT_COLUMNS))


def describe_counts(counts: pd.DataFrame) -> list[str]:
    """Return a line for each row of `count`."""
    lines = []
    for row in counts.to_dict("records"):
        what = f"{row['dataset']}, {row['group']}" if row["group"] else row["dataset"]
        known = f"{row['low']:.0f} to {row['high']:.0f} in nine of ten cases"
        interval = known if row["low"] == row["low"] else "no interval: too few known individuals"
        made_of = f"photographs: {row['photographs']}, clusters: {row['clusters']}, drawn answers: {row['answers']}"
        number = f"{row['individuals']:.0f}"
        lines.append(f"{what}: about {number} individual{'s' * (number != '1')} ({interval}); {made_of}")
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

    def count(self, mask: np.ndarray, experience: Experience | None, companions: float) -> Count:
        """Count the individuals on some of the photographs, (N,) bool."""
        place = np.cumsum(mask) - 1
        among, near = (mask[pairs].all(1) for pairs in (self.pairs, self.near))
        own = mask[self.answered.pairs].all(1)
        answered = Answered(place[self.answered.pairs[own]], self.answered.same[own], self.answered.drawn[own])
        labels = np.unique(self.labels[mask], return_inverse=True)[1]
        pairs, dissimilarity = place[self.pairs[among]], self.dissimilarity[among]
        return count_individuals(labels, pairs, dissimilarity, experience, companions, answered, place[self.near[near]])


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
    rows, residuals = [], []
    for trial in trials:
        size = len(trial.labels)
        labels = merge_tree(size, trial.pairs, trial.dissimilarity, cut=trial.cut).labels()
        _, truth, photographs = np.unique(trial.labels, return_inverse=True, return_counts=True)
        pairs = near_pairs(size, trial.pairs, trial.dissimilarity)
        same = truth[pairs[:, 0]] == truth[pairs[:, 1]]
        shares = np.bincount(truth, 1 / np.bincount(labels)[labels])
        rows.append(np.stack([photographs, shares, np.bincount(truth[pairs[same, 0]], minlength=len(shares))]))
        chances = _chances(pairs, trial.pairs, trial.dissimilarity, size)
        residuals.append(np.square(same - chances).mean() if len(pairs) else 0.0)
    photographs, shares, near = np.concatenate(rows, 1).astype(float)
    return Experience(photographs, shares, near, known, float(np.mean(residuals)))


def count_individuals(
    labels: np.ndarray,
    pairs: np.ndarray,
    dissimilarity: np.ndarray,
    experience: Experience | None,
    companions: float,
    answered: Answered = NOTHING,
    near: np.ndarray | None = None,
) -> Count:
    """Return how many individuals some photographs show.

    Args:
        labels: (N,) int64, their clusters, made without answers.
        pairs, dissimilarity: (P, 2) int64 and (P,) float64, see `Clusters.pairs`.
        experience: see `experience_of`; None where there is none: the number is that of the clusters, without interval.
        companions: the estimated density, see `Cut.companions`.
        answered: answers; those about pairs that are not near are not used.
        near: (M, 2) int64, the near pairs where the photographs are some of those among which pairs were drawn; None
            where they are all.
    """
    size, clusters = len(labels), len(np.unique(labels))
    if experience is None:
        return Count(size, clusters, float(clusters), (float("nan"), float("nan")), 0)
    near = near_pairs(size, pairs, dissimilarity) if near is None else near
    chances = _chances(near, pairs, dissimilarity, size)
    same = _same_near_pairs(near, chances, answered, size, experience.residual)
    numbers, errors, weights = _at_densities(size, clusters, experience, companions, same)
    grid = np.geomspace(1, max(2, size), 2000)  # from one animal to one per photograph
    below = (ndtr((grid[:, None] - numbers) / errors) * weights).sum(1)
    low, middle, high = np.interp([0.05, 0.5, 0.95], below / below[-1], grid)
    interval = (float(np.floor(low)), float(min(size, np.ceil(high))))
    return Count(size, clusters, float(min(size, middle)), interval, same.answers if same else 0)


class _Same(NamedTuple):
    """S, see above, as it is estimated."""

    number: float
    variance: float
    answers: int
    """To pairs that were drawn."""


def _same_near_pairs(
    near: np.ndarray, chances: np.ndarray, answered: Answered, size: int, residual: float
) -> _Same | None:
    """Return S; None where no pair was drawn.

    Args:
        near: (M, 2) int64, the near pairs.
        chances: (M,) float64, that each shows one animal.
        answered: the answers.
        size: photographs.
        residual: see `Experience`.
    """
    answer, is_drawn = _answers_of(near, answered, size)
    if not is_drawn.any():
        return None
    left = answer - chances
    chosen = ~np.isnan(answer) & ~is_drawn
    drawn, among = left[is_drawn], int((~chosen).sum())
    square = (np.square(drawn - drawn.mean()).sum() + PRIOR * residual) / (len(drawn) - 1 + PRIOR)
    variance = among**2 * square / len(drawn) * (1 - len(drawn) / among)
    return _Same(float(chances.sum() + left[chosen].sum() + among * drawn.mean()), float(variance), len(drawn))


def _at_densities(
    size: int, clusters: int, experience: Experience, companions: float, same: _Same | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return K, its standard deviation and the weight of each density, (T,) float64 each."""
    n, h, near = experience.photographs, experience.shares, experience.near
    tilts = TILTS[:, None] * n
    weight = np.exp(tilts - tilts.max(1, keepdims=True))
    weight /= weight.sum(1, keepdims=True)  # (T, I)
    effective = 1 / np.square(weight).sum(1)
    enough = effective >= min(LEAST_EFFECTIVE, len(n) / 2)
    weight, effective = weight[enough], effective[enough]
    photographs, share, pairs = weight @ n, weight @ h, weight @ near
    density = np.log(weight @ (n * (n - 1)) / photographs + FLOOR)
    step = np.gradient(density) + 1e-9  # where all have as many photographs, all densities are one
    prior = step * np.exp(-0.5 * ((density - np.log(companions + FLOOR)) / DENSITY_ERROR) ** 2)
    number = clusters / share
    spread = np.maximum(weight @ np.square(h) - share**2, 0)  # rounding, where everybody's is the same
    known = np.minimum(experience.known, effective)
    error = number / share * np.sqrt(spread * (1 / number + 1 / known))
    if same:
        rate = pairs / photographs
        own = (weight * np.square(near - rate[:, None] * n)).sum(1) * number * (1 + number / known)
        variance = own + same.variance + (RATE_ERROR * size * rate) ** 2
        prior = prior * np.exp(-0.5 * (same.number - size * rate) ** 2 / variance) / np.sqrt(variance)
    return number, np.maximum(error, 0.1), prior / max(prior.sum(), 1e-300)


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
