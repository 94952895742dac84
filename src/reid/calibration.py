"""The decision between a known individual and a new one: fitted on the database, never guessed.

The database plays its own contest: its pseudo-queries (`questions`) are answered by every scorer that the recipe
allows, and the scorer and the threshold are taken that win most, on individuals that they were not fitted on.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from reid import InputError
from reid.fusion import SINGLE, Scorer, cross_fitted, fit_scorer, scorers_for
from reid.progress import track
from reid.questions import FEW, PseudoQueries, Questions, join_questions
from reid.recipe import Recipe

__all__ = ["Calibration", "Curve", "Sweep", "Threshold", "calibration_from", "drift", "fit_calibrations", "sweep"]

PLATEAU = 0.005
"""Thresholds and scorers whose mean score is within half a point of the best are taken as equal: far less than splits
differ."""

SLACK = 0.5
"""Of FEW individuals a simpler scorer is taken if it is behind by less than so many standard deviations of the
difference over splits: among so few, what is flexible finds sense in anything. It fades with the square of their
number; from about 25 on PLATEAU alone decides. Where all datasets' questions are asked, all their individuals count."""

HARDLY = 0.2
"""Where less of the known individuals' photographs is expected to be named rightly, it is said; the competition's
winners had 0.32 to 0.52 (BAKS), at thresholds that refuse much."""


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


def sweep(queries: PseudoQueries, times: np.ndarray | None = None) -> Sweep:
    """BAKS and BAUS at every threshold, exactly: one sort and two cumulative sums.

    A query is named when its distance is below the threshold. An individual weighs the same however many photographs
    it has, as in the competition's score. Both are 0 where there is no such query.

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
        baks=gained_below(weight * (queries.right & ~queries.new)),
        baus=lost[-1] - lost,
        share_new=1 - gained_below(times / max(1e-9, times.sum())),
    )


@dataclass(frozen=True)
class Threshold:
    """When a nearest individual is near enough, for one dataset.

    Attributes:
        dataset: whose.
        value: a query whose distance (the scorer's doubt) is below it is named.
        score: the expected sqrt(BAKS x BAUS): the mean over splits, each on individuals that its own threshold was not
            fitted on; None when it could not be measured.
        interval: nine of ten splits lie between these.
        baks, baus: expected.
        share_new: the share of queries that it will call new, if they are like the pseudo-queries.
        plateau: thresholds between these two do as well, to within half a point.
        known, new: individuals that played known, and new.
        note: what a person must know about it, a line each; "" when nothing.
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


@dataclass(frozen=True)
class Curve:
    """Expected BAKS, BAUS, score and share called new over the threshold, (T,) each; for pictures."""

    threshold: list[float]
    baks: list[float]
    baus: list[float]
    score: list[float]
    share_new: list[float]


@dataclass(frozen=True)
class Calibration:
    """How one dataset's queries are decided.

    Attributes:
        threshold: the decision.
        scorer: makes the doubts that the threshold is about.
        unit: what the encoder's distances are divided by before the scorer sees them.
        contenders: by scorer, the mean score that it would have won, cross-fitted.
        curve: over the threshold.
        known, new: doubts of the known and of the new pseudo-queries, ascending.
    """

    threshold: Threshold
    scorer: Scorer
    unit: float
    contenders: dict[str, float]
    curve: Curve
    known: list[float]
    new: list[float]


def fit_calibrations(questions: Mapping[str, Questions], recipe: Recipe, few: int = FEW) -> dict[str, Calibration]:
    """Chooses scorer and threshold of every dataset by its own pseudo-queries, or by all datasets' where it has few.

    Args:
        questions: by dataset, in their units.
        recipe: `scorers`, `new_share`, `calibration_splits`, `seed`.
        few: a dataset with fewer known or fewer new individuals takes those of all datasets.
    """
    pooled = _pooled(questions)
    fitted = {}
    for dataset, asked in questions.items():
        enough = min(_individuals(asked, new=False), _individuals(asked, new=True)) >= few
        source = asked if enough or len(questions) == 1 else pooled
        fitted[dataset] = _fit(dataset, asked, source, recipe, few)
    return fitted


def _pooled(questions: Mapping[str, Questions]) -> Questions:
    """All datasets' questions as if they were one's; individuals of one name in two datasets stay apart."""
    named = {dataset: np.char.add(f"{dataset} ", asked.individual) for dataset, asked in questions.items()}
    return join_questions([replace(asked, individual=named[dataset]) for dataset, asked in questions.items()])


def _individuals(questions: Questions, new: bool) -> int:
    return len(np.unique(questions.individual[questions.new == new]))


def _fit(dataset: str, questions: Questions, source: Questions, recipe: Recipe, few: int) -> Calibration:
    """The calibration of a dataset, learned from `source`: its own questions or those of all datasets."""
    notes = [str(note) for note in questions.notes]
    if source is not questions:
        notes.append(
            f"{_individuals(questions, new=False)} known and {_individuals(questions, new=True)} new individuals can "
            f"be asked for, fewer than {few}: scorer and threshold are those of all datasets together"
        )
    kinds = _kinds_of_scorers(dataset, questions, recipe)
    splits = list(_splits(source, recipe))
    if not splits or not source.right.any():
        return _guessed(dataset, questions, Scorer(kinds[0], {}), notes)
    contest = _contest(dataset, source, kinds, splits, recipe)
    edges, curves = _mean_curves([sweep(contest.answers, split.times) for split in splits])
    threshold = _threshold(dataset, questions, contest.outcomes, _plateau(edges, curves.score), notes)
    known, new = _seen(questions, contest.scorer)
    curve = _thinned(edges, curves)
    return _in_lengths(Calibration(threshold, contest.scorer, questions.unit, contest.contenders, curve, known, new))


def _kinds_of_scorers(dataset: str, questions: Questions, recipe: Recipe) -> list[str]:
    """Those of the recipe's scorers that the questions' cues can feed, the simplest first."""
    kinds = scorers_for(recipe.scorers, tuple(questions.pairs.features))
    if not kinds:
        raise InputError(
            f"{dataset}: recipe field scorers: expected one that its cues can feed, found {', '.join(recipe.scorers)}; "
            f"there are {', '.join(cue for cue in SINGLE if cue in questions.pairs.features)} "
            "(keypoints on the animal are told apart only where the encoder's attention has a shape)"
        )
    return kinds


class Outcome(NamedTuple):
    """What a threshold won on individuals that it was not fitted on."""

    score: float
    baks: float
    baus: float
    share_new: float


class Split(NamedTuple):
    """A random contest among the questions."""

    times: np.ndarray
    """(Q,) int, how often the query's individual counts."""
    left_over: np.ndarray
    """(Q,) bool, queries of individuals that were not drawn, to try the threshold on."""


class Contest(NamedTuple):
    """What the scorers won on the same splits, and the one that is taken."""

    scorer: Scorer
    """Fitted on all questions."""
    answers: PseudoQueries
    """Its own, cross-fitted."""
    outcomes: list[Outcome]
    """Its own, of the splits that have one."""
    contenders: dict[str, float]
    """See `Calibration`."""


def _contest(
    dataset: str, questions: Questions, kinds: Sequence[str], splits: Sequence[Split], recipe: Recipe
) -> Contest:
    """Lets every kind of scorer answer the questions, cross-fitted, and weighs the kinds on the same splits."""
    weight, group = _pair_weights(questions), questions.individual[questions.pairs.query]
    answers = {
        kind: questions.answered(cross_fitted(kind, questions.pairs, questions.right, weight, group, recipe.seed))
        for kind in track(kinds, f"weighing the scorers of {dataset}")
    }
    outcomes = {kind: [_outcome(answers[kind], split) for split in splits] for kind in kinds}
    scores = {kind: np.array([outcome.score for outcome in outcomes[kind]]) for kind in kinds}
    winner = _choose(scores, min(_individuals(questions, new=False), _individuals(questions, new=True)))
    return Contest(
        scorer=fit_scorer(winner, questions.pairs, questions.right, weight, recipe.seed),
        answers=answers[winner],
        outcomes=[outcome for outcome in outcomes[winner] if not np.isnan(outcome.score)],
        contenders={kind: _mean_of(values) for kind, values in scores.items() if not np.isnan(values).all()},
    )


def _threshold(
    dataset: str, questions: Questions, outcomes: Sequence[Outcome], plateau: tuple[float, float], notes: Sequence[str]
) -> Threshold:
    """The middle of the plateau, and what is expected of it by the outcomes of the splits."""
    mean = Outcome(*np.mean(outcomes, axis=0).tolist()) if outcomes else None
    if mean and mean.baks < HARDLY:
        notes = [
            *notes,
            f"hardly any known animal is expected to be named: {mean.baks:.0%} of their photographs rightly (BAKS), "
            "the others called new or somebody else. More photographs of each animal, or another recipe, may help",
        ]
    scores = [outcome.score for outcome in outcomes]
    low, high = plateau
    return Threshold(
        dataset=dataset,
        value=(low + high) / 2,
        score=mean.score if mean else None,
        interval=tuple(np.quantile(scores, [0.05, 0.95]).tolist()) if scores else None,
        baks=mean.baks if mean else None,
        baus=mean.baus if mean else None,
        share_new=mean.share_new if mean else None,
        plateau=plateau,
        known=_individuals(questions, new=False),
        new=_individuals(questions, new=True),
        note="\n".join(notes),
    )


def _splits(questions: Questions, recipe: Recipe) -> Iterator[Split]:
    """Random contests: who plays new, and who is drawn.

    An individual that can play either role plays new with the chance `new_share`, in strata by its number of queries.
    Of the players of each role as many are drawn as there are, with replacement, so that about a third is left over
    (the bootstrap of Efron 1979 and its out-of-bag rest).
    """
    rng = np.random.default_rng([recipe.seed, 4])
    both = np.intersect1d(questions.individual[questions.new], questions.individual[~questions.new])
    counts = np.array([(questions.individual == individual).sum() for individual in both.tolist()], int)
    for _ in range(recipe.calibration_splits):
        steps = np.floor(np.arange(len(both) + 1) * recipe.new_share + rng.random())
        plays_new = np.zeros(len(both), bool)
        plays_new[np.lexsort((rng.random(len(both)), counts))] = np.diff(steps) > 0
        times, left_over = np.zeros(len(questions.new), int), np.zeros(len(questions.new), bool)
        for new, absent in ((True, both[~plays_new]), (False, both[plays_new])):
            rows = (questions.new == new) & ~np.isin(questions.individual, absent)
            players, inverse = np.unique(questions.individual[rows], return_inverse=True)
            if len(players):
                times[rows] = rng.multinomial(len(players), np.full(len(players), 1 / len(players)))[inverse]
            left_over |= rows & (times == 0)
        if times[questions.new].any() and times[~questions.new].any():
            yield Split(times, left_over)


def _outcome(queries: PseudoQueries, split: Split) -> Outcome:
    """What the drawn individuals' best threshold wins on those left over; NaN where a role is missing."""
    edges, curves = _mean_curves([sweep(queries, split.times)])
    rest = queries.of(split.left_over)
    if not len(edges) or not rest.new.any() or rest.new.all():
        return Outcome(*[float("nan")] * 4)
    low, high = _plateau(edges, curves.score)
    reached = sweep(rest).at(np.array([(low + high) / 2]))
    return Outcome(float(np.sqrt(reached.baks[0] * reached.baus[0])), *(float(curve[0]) for curve in reached[1:]))


def _choose(scores: Mapping[str, np.ndarray], individuals: int) -> str:
    """The simplest scorer that is as good as the best, to within what luck may do among so many individuals."""
    slack = SLACK * min(1.0, FEW / max(1, individuals)) ** 2
    best = max(scores, key=lambda kind: _mean_of(scores[kind]))
    for kind in scores:
        behind = scores[best] - scores[kind]
        behind = behind[~np.isnan(behind)]
        if not len(behind) or behind.mean() <= max(PLATEAU, slack * behind.std()):
            return kind
    return best


def _mean_of(scores: np.ndarray) -> float:
    """Over the splits that have one; 0 where none has."""
    measured = scores[~np.isnan(scores)]
    return float(measured.mean()) if len(measured) else 0.0


class MeanCurves(NamedTuple):
    """Means over splits, (T,) each, at the edges and in the step below each."""

    baks: np.ndarray
    baus: np.ndarray
    score: np.ndarray
    share_new: np.ndarray


def _mean_curves(sweeps: Sequence[Sweep]) -> tuple[np.ndarray, MeanCurves]:
    """The finite edges of all sweeps, (T,), and the mean curves there.

    A step lies below each edge; the one above the last is what no query needs.
    """
    edges = np.unique(np.concatenate([swept.edges for swept in sweeps]))
    edges = edges[np.isfinite(edges)]
    at_edges = [swept.at(edges) for swept in sweeps]
    baks, baus, share_new = (
        np.stack([getattr(swept, name) for swept in at_edges]) for name in ("baks", "baus", "share_new")
    )
    return edges, MeanCurves(baks.mean(0), baus.mean(0), np.sqrt(baks * baus).mean(0), share_new.mean(0))


def _plateau(edges: np.ndarray, score: np.ndarray) -> tuple[float, float]:
    """The run of steps around the highest whose values are as good: from where to where the threshold may lie."""
    good = score >= score.max() - PLATEAU
    first = last = int(score.argmax())
    while first > 0 and good[first - 1]:
        first -= 1
    while last + 1 < len(score) and good[last + 1]:
        last += 1
    return float(edges[first - 1]) if first else 0.0, float(edges[last])


def _pair_weights(questions: Questions) -> np.ndarray:
    """(P,) Every individual weighs the same in each role, however many photographs of it are asked for."""
    rows = np.char.add(np.where(questions.new, "new ", "known "), questions.individual)
    _, inverse, counts = np.unique(rows, return_inverse=True, return_counts=True)
    weights: np.ndarray = 1 / counts[inverse][questions.pairs.query]
    return weights


def _guessed(dataset: str, questions: Questions, scorer: Scorer, notes: list[str]) -> Calibration:
    """Without known or without new pseudo-queries nothing can be weighed; winners of the competition over-reject."""
    known, new = _seen(questions, scorer)
    if known:
        value = max(known)
        notes.append("no individual could play the new one: every distance seen so far counts as known")
    elif new:
        value = float(np.quantile(new, 0.05))
        notes.append("no individual has two photographs to compare: 5 % of the new pseudo-queries would be named")
    else:
        value = 0.0
        notes.append("too few individuals to hold any out: every query is called new")
    threshold = Threshold(
        dataset=dataset,
        value=value,
        score=None,
        interval=None,
        baks=None,
        baus=None,
        share_new=None,
        plateau=(value, value),
        known=_individuals(questions, new=False),
        new=_individuals(questions, new=True),
        note="\n".join(notes),
    )
    return _in_lengths(Calibration(threshold, scorer, questions.unit, {}, Curve([], [], [], [], []), known, new))


def _seen(questions: Questions, scorer: Scorer) -> tuple[list[float], list[float]]:
    """The doubts of the known and of the new pseudo-queries, ascending, without those that have no pair."""
    queries = questions.answered(scorer.doubts(questions.pairs))
    finite = np.isfinite(queries.distance)
    known, new = (np.sort(queries.distance[finite & (queries.new == role)]).tolist() for role in (False, True))
    return known, new


def _thinned(edges: np.ndarray, curves: MeanCurves) -> Curve:
    """At most 200 places of the curves: enough for a picture."""
    places = np.unique(np.linspace(0, max(0, len(edges) - 1), min(200, len(edges))).astype(int))
    columns = (edges, curves.baks, curves.baus, curves.score, curves.share_new)
    return Curve(*([float(value) for value in column[places]] for column in columns))


def calibration_from(stored: Mapping[str, Any]) -> Calibration:
    """The inverse of `dataclasses.asdict`, from what JSON gives back.

    Raises:
        TypeError, KeyError: it is damaged.
    """
    threshold = dict(stored["threshold"])
    threshold["plateau"] = tuple(threshold["plateau"])
    threshold["interval"] = threshold["interval"] and tuple(threshold["interval"])
    rebuilt = {
        "threshold": Threshold(**threshold),
        "scorer": Scorer(**stored["scorer"]),
        "curve": Curve(**stored["curve"]),
    }
    return Calibration(**{**stored, **rebuilt})


def _in_lengths(calibration: Calibration) -> Calibration:
    """With the scorer "distance" the threshold is the encoder's own distance, in no other unit."""
    if calibration.scorer.kind != "distance":
        return calibration
    unit, threshold = calibration.unit, calibration.threshold
    low, high = threshold.plateau
    return replace(
        calibration,
        threshold=replace(threshold, value=threshold.value * unit, plateau=(low * unit, high * unit)),
        unit=1.0,
        curve=replace(calibration.curve, threshold=[value * unit for value in calibration.curve.threshold]),
        known=[value * unit for value in calibration.known],
        new=[value * unit for value in calibration.new],
    )


def drift(live: np.ndarray, calibration: Calibration) -> float:
    """How far live doubts are from any mixture of the known and the new ones that the threshold was fitted on.

    How many live queries are new is not known, so the mixture that fits best is taken: the smallest
    Kolmogorov-Smirnov distance over the share of new ones.

    Args:
        live: (Q,) the doubts of one dataset's queries.
        calibration: the dataset's.

    Returns:
        0 (the same) to 1; 0 where there is nothing to compare.
    """
    live = np.sort(live[np.isfinite(live)])
    if not len(live) or not (calibration.known or calibration.new):
        return 0.0
    known, new = (
        np.array(doubts or other)
        for doubts, other in ((calibration.known, calibration.new), (calibration.new, calibration.known))
    )
    grid = np.unique(np.concatenate([live, known, new]))
    reached, by_known, by_new = (
        np.searchsorted(doubts, grid, side="right") / len(doubts) for doubts in (live, known, new)
    )
    shares = np.linspace(0, 1, 51)
    return float(min(np.abs(reached - (share * by_new + (1 - share) * by_known)).max() for share in shares))
