"""The decision between a known individual and a new one: fitted on the database, never guessed.

The database plays its own contest: its pseudo-queries (`pseudo_queries`) are answered by every scorer that the recipe
allows, and the scorer and the threshold are taken that win most, on individuals that they were not fitted on.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from reid.config.legacy import VALUES
from reid.config.recipe import Recipe
from reid.config.settings import with_settings
from reid.data.catalogue import Catalogue
from reid.data.photographs import thumbnails
from reid.decision.artifact import CALIBRATION, Weights, encoder_file, fold_folder, gallery_file
from reid.decision.pseudo_queries import (
    MIN_INDIVIDUALS,
    HeldOut,
    OpenSetQueries,
    PseudoQueryPairs,
    join_pseudo_query_pairs,
    match_pseudo_queries,
    near_duplicates,
    select_pseudo_queries,
)
from reid.decision.scorers import SINGLE_CUES, Scorer, cross_fitted, fit_scorer, scorers_for
from reid.decision.thresholds import PLATEAU, MeanCurves, Threshold, mean_curves, mean_of_splits, plateau_of, sweep
from reid.errors import InputError
from reid.models.networks import read_plan
from reid.retrieval.gallery import load_gallery
from reid.runtime.files import read_json, write_json
from reid.runtime.progress import track

__all__ = [
    "Calibration",
    "Curve",
    "calibrate",
    "calibration_from",
    "distribution_shift",
    "fit_calibrations",
    "load_calibrations",
    "pseudo_query_pairs",
]

SIMPLICITY_SLACK = 0.5
"""Of FEW individuals a simpler scorer is taken if it is behind by less than so many standard deviations of the
difference over splits: among so few, what is flexible finds sense in anything. It fades with the square of their
number; from about 25 on PLATEAU alone decides. Where all datasets' pseudo_queries are asked, all their individuals
count."""


LOW_BAKS = 0.2
"""Where less of the known individuals' photographs is expected to be named rightly, it is said; the competition's
winners had 0.32 to 0.52 (BAKS), at thresholds that refuse much."""


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
        scorer: makes the dissimilarity that the threshold is about.
        unit: what the encoder's distances are divided by before the scorer sees them.
        scorer_scores: by scorer, the mean score that it would have won, cross-fitted.
        curve: over the threshold.
        known, new: dissimilarity of the known and of the new pseudo-queries, ascending.
    """

    threshold: Threshold
    scorer: Scorer
    unit: float
    scorer_scores: dict[str, float]
    curve: Curve
    known: list[float]
    new: list[float]


def fit_calibrations(
    pseudo_queries: Mapping[str, PseudoQueryPairs], recipe: Recipe, few: int = MIN_INDIVIDUALS
) -> dict[str, Calibration]:
    """Choose scorer and threshold of every dataset by its own pseudo-queries, or by all datasets' where it has few.

    Args:
        pseudo_queries: by dataset, in their units.
        recipe: `scorers`, `new_share`, `calibration_splits`, `seed`.
        few: a dataset with fewer known or fewer new individuals takes those of all datasets.
    """
    pooled = _pooled(pseudo_queries)
    fitted = {}
    for dataset, asked in pseudo_queries.items():
        enough = min(_individuals(asked, new=False), _individuals(asked, new=True)) >= few
        source = asked if enough or len(pseudo_queries) == 1 else pooled
        fitted[dataset] = _fit(dataset, asked, source, recipe, few)
    return fitted


def _pooled(pseudo_queries: Mapping[str, PseudoQueryPairs]) -> PseudoQueryPairs:
    """Return all datasets' pseudo_queries as if they were one's; individuals of one name in two datasets stay apart."""
    named = {dataset: np.char.add(f"{dataset} ", asked.individual) for dataset, asked in pseudo_queries.items()}
    return join_pseudo_query_pairs(
        [replace(asked, individual=named[dataset]) for dataset, asked in pseudo_queries.items()]
    )


def _individuals(pseudo_queries: PseudoQueryPairs, new: bool) -> int:
    return len(np.unique(pseudo_queries.individual[pseudo_queries.new == new]))


def _fit(
    dataset: str, pseudo_queries: PseudoQueryPairs, source: PseudoQueryPairs, recipe: Recipe, few: int
) -> Calibration:
    """Return the calibration of a dataset, learned from `source`: its own pseudo_queries or those of all datasets."""
    notes = [str(note) for note in pseudo_queries.notes]
    if source is not pseudo_queries:
        notes.append(
            f"{_individuals(pseudo_queries, new=False)} known and {_individuals(pseudo_queries, new=True)} new individuals can "
            f"be asked for, fewer than {few}: scorer and threshold are those of all datasets together"
        )
    kinds = _kinds_of_scorers(dataset, pseudo_queries, recipe)
    splits = list(_splits(source, recipe))
    if not splits or not source.is_match.any():
        return _fallback(dataset, pseudo_queries, Scorer(kinds[0], {}), notes)
    contest = _contest(dataset, source, kinds, splits, recipe)
    edges, curves = mean_curves([sweep(contest.answers, split.times) for split in splits])
    threshold = _threshold(dataset, pseudo_queries, contest.outcomes, plateau_of(edges, curves.score), notes)
    known, new = _seen_individuals(pseudo_queries, contest.scorer)
    curve = _thinned(edges, curves)
    return _in_lengths(
        Calibration(threshold, contest.scorer, pseudo_queries.unit, contest.scorer_scores, curve, known, new)
    )


def _kinds_of_scorers(dataset: str, pseudo_queries: PseudoQueryPairs, recipe: Recipe) -> list[str]:
    """Those of the recipe's scorers that the pseudo_queries' cues can feed, the simplest first."""
    kinds = scorers_for(recipe.calibration.scorers, tuple(pseudo_queries.pairs.features))
    if not kinds:
        raise InputError(
            f"{dataset}: recipe field scorers: expected one that its cues can feed, found {', '.join(recipe.calibration.scorers)}; "
            f"there are {', '.join(cue for cue in SINGLE_CUES if cue in pseudo_queries.pairs.features)} "
            "(keypoints on the animal are told apart only where the encoder's saliency has a shape)"
        )
    return kinds


class Outcome(NamedTuple):
    """What a threshold won on individuals that it was not fitted on."""

    score: float
    baks: float
    baus: float
    share_new: float


class Split(NamedTuple):
    """A random contest among the pseudo_queries."""

    times: np.ndarray
    """(Q,) int, how often the query's individual counts."""
    left_over: np.ndarray
    """(Q,) bool, queries of individuals that were not drawn, to try the threshold on."""


class Contest(NamedTuple):
    """What the scorers won on the same splits, and the one that is taken."""

    scorer: Scorer
    """Fitted on all pseudo_queries."""
    answers: OpenSetQueries
    """Its own, cross-fitted."""
    outcomes: list[Outcome]
    """Its own, of the splits that have one."""
    scorer_scores: dict[str, float]
    """See `Calibration`."""


def _contest(
    dataset: str, pseudo_queries: PseudoQueryPairs, kinds: Sequence[str], splits: Sequence[Split], recipe: Recipe
) -> Contest:
    """Let every kind of scorer answer the pseudo_queries, cross-fitted, and weighs the kinds on the same splits."""
    weight, group = _pair_weights(pseudo_queries), pseudo_queries.individual[pseudo_queries.pairs.query]
    answers = {
        kind: pseudo_queries.answered(
            cross_fitted(kind, pseudo_queries.pairs, pseudo_queries.is_match, weight, group, recipe.seed)
        )
        for kind in track(kinds, f"weighing the scorers of {dataset}")
    }
    outcomes = {kind: [_outcome(answers[kind], split) for split in splits] for kind in kinds}
    scores = {kind: np.array([outcome.score for outcome in outcomes[kind]]) for kind in kinds}
    winner = _choose(scores, min(_individuals(pseudo_queries, new=False), _individuals(pseudo_queries, new=True)))
    return Contest(
        scorer=fit_scorer(winner, pseudo_queries.pairs, pseudo_queries.is_match, weight, recipe.seed),
        answers=answers[winner],
        outcomes=[outcome for outcome in outcomes[winner] if not np.isnan(outcome.score)],
        scorer_scores={kind: mean_of_splits(values) for kind, values in scores.items() if not np.isnan(values).all()},
    )


def _threshold(
    dataset: str,
    pseudo_queries: PseudoQueryPairs,
    outcomes: Sequence[Outcome],
    plateau: tuple[float, float],
    notes: Sequence[str],
) -> Threshold:
    """Return the middle of the plateau, and what is expected of it by the outcomes of the splits."""
    mean = Outcome(*np.mean(outcomes, axis=0).tolist()) if outcomes else None
    if mean and mean.baks < LOW_BAKS:
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
        known=_individuals(pseudo_queries, new=False),
        new=_individuals(pseudo_queries, new=True),
        note="\n".join(notes),
    )


def _splits(pseudo_queries: PseudoQueryPairs, recipe: Recipe) -> Iterator[Split]:
    """Random contests: who plays new, and who is drawn.

    An individual that can play either role plays new with the chance `new_share`, in strata by its number of queries.
    Of the players of each role as many are drawn as there are, with replacement, so that about a third is left over
    (the bootstrap of Efron 1979 and its out-of-bag rest).
    """
    rng = np.random.default_rng([recipe.seed, 4])
    both = np.intersect1d(pseudo_queries.individual[pseudo_queries.new], pseudo_queries.individual[~pseudo_queries.new])
    counts = np.array([(pseudo_queries.individual == individual).sum() for individual in both.tolist()], int)
    for _ in range(recipe.calibration.splits):
        steps = np.floor(np.arange(len(both) + 1) * recipe.calibration.new_share + rng.random())
        plays_new = np.zeros(len(both), bool)
        plays_new[np.lexsort((rng.random(len(both)), counts))] = np.diff(steps) > 0
        times, left_over = np.zeros(len(pseudo_queries.new), int), np.zeros(len(pseudo_queries.new), bool)
        for new, absent in ((True, both[~plays_new]), (False, both[plays_new])):
            rows = (pseudo_queries.new == new) & ~np.isin(pseudo_queries.individual, absent)
            players, inverse = np.unique(pseudo_queries.individual[rows], return_inverse=True)
            if len(players):
                times[rows] = rng.multinomial(len(players), np.full(len(players), 1 / len(players)))[inverse]
            left_over |= rows & (times == 0)
        if times[pseudo_queries.new].any() and times[~pseudo_queries.new].any():
            yield Split(times, left_over)


def _outcome(queries: OpenSetQueries, split: Split) -> Outcome:
    """Return what the drawn individuals' best threshold wins on those left over; NaN where a role is missing."""
    edges, curves = mean_curves([sweep(queries, split.times)])
    rest = queries.of(split.left_over)
    if not len(edges) or not rest.new.any() or rest.new.all():
        return Outcome(*[float("nan")] * 4)
    low, high = plateau_of(edges, curves.score)
    reached = sweep(rest).at(np.array([(low + high) / 2]))
    return Outcome(float(np.sqrt(reached.baks[0] * reached.baus[0])), *(float(curve[0]) for curve in reached[1:]))


def _choose(scores: Mapping[str, np.ndarray], individuals: int) -> str:
    """Return the simplest scorer that is as good as the best, to within what luck may do among so many individuals."""
    slack = SIMPLICITY_SLACK * min(1.0, MIN_INDIVIDUALS / max(1, individuals)) ** 2
    best = max(scores, key=lambda kind: mean_of_splits(scores[kind]))
    for kind in scores:
        behind = scores[best] - scores[kind]
        behind = behind[~np.isnan(behind)]
        if not len(behind) or behind.mean() <= max(PLATEAU, slack * behind.std()):
            return kind
    return best


def _pair_weights(pseudo_queries: PseudoQueryPairs) -> np.ndarray:
    """(P,) Every individual weighs the same in each role, however many photographs of it are asked for."""
    rows = np.char.add(np.where(pseudo_queries.new, "new ", "known "), pseudo_queries.individual)
    _, inverse, counts = np.unique(rows, return_inverse=True, return_counts=True)
    weights: np.ndarray = 1 / counts[inverse][pseudo_queries.pairs.query]
    return weights


def _fallback(dataset: str, pseudo_queries: PseudoQueryPairs, scorer: Scorer, notes: list[str]) -> Calibration:
    """Without known or without new pseudo-queries nothing can be weighed; winners of the competition over-reject."""
    known, new = _seen_individuals(pseudo_queries, scorer)
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
        known=_individuals(pseudo_queries, new=False),
        new=_individuals(pseudo_queries, new=True),
        note="\n".join(notes),
    )
    return _in_lengths(Calibration(threshold, scorer, pseudo_queries.unit, {}, Curve([], [], [], [], []), known, new))


def _seen_individuals(pseudo_queries: PseudoQueryPairs, scorer: Scorer) -> tuple[list[float], list[float]]:
    """Return the dissimilarity of the known and of the new pseudo-queries, ascending, without those that have no
    pair."""
    queries = pseudo_queries.answered(scorer.dissimilarity(pseudo_queries.pairs))
    finite = np.isfinite(queries.distance)
    known, new = (np.sort(queries.distance[finite & (queries.new == role)]).tolist() for role in (False, True))
    return known, new


def _thinned(edges: np.ndarray, curves: MeanCurves) -> Curve:
    """At most 200 places of the curves: enough for a picture."""
    places = np.unique(np.linspace(0, max(0, len(edges) - 1), min(200, len(edges))).astype(int))
    columns = (edges, curves.baks, curves.baus, curves.score, curves.share_new)
    return Curve(*([float(value) for value in column[places]] for column in columns))


def calibration_from(stored: Mapping[str, Any]) -> Calibration:
    """Return the inverse of `dataclasses.asdict`, from what JSON gives back.

    Raises:
        TypeError, KeyError: it is damaged.
    """
    threshold = dict(stored["threshold"])
    threshold["plateau"] = tuple(threshold["plateau"])
    threshold["interval"] = threshold["interval"] and tuple(threshold["interval"])
    stored = dict(stored)
    if "contenders" in stored:  # 0.1.0 called them so
        stored["scorer_scores"] = stored.pop("contenders")
    rebuilt = {
        "threshold": Threshold(**threshold),
        "scorer": _scorer_from(stored["scorer"]),
        "curve": Curve(**stored["curve"]),
    }
    return Calibration(**{**stored, **rebuilt})


def _scorer_from(stored: Mapping[str, Any]) -> Scorer:
    """Read a scorer, or one of 0.1.0, which called the cues of the foreground focused."""
    words = VALUES["calibration.scorers"]
    kind = words.get(stored["kind"], stored["kind"])
    fitted = {words.get(name, name): value for name, value in stored["fitted"].items()}
    return Scorer(kind, fitted)


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


def distribution_shift(live: np.ndarray, calibration: Calibration) -> float:
    """Return how far live dissimilarity are from any mixture of the known and the new ones that the threshold was
    fitted on.

    How many live queries are new is not known, so the mixture that fits best is taken: the smallest
    Kolmogorov-Smirnov distance over the share of new ones.

    Args:
        live: (Q,) the dissimilarity of one dataset's queries.
        calibration: the dataset's.

    Returns:
        0 (the same) to 1; 0 where there is nothing to compare.
    """
    live = np.sort(live[np.isfinite(live)])
    if not len(live) or not (calibration.known or calibration.new):
        return 0.0
    known, new = (
        np.array(dissimilarity or other)
        for dissimilarity, other in ((calibration.known, calibration.new), (calibration.new, calibration.known))
    )
    grid = np.unique(np.concatenate([live, known, new]))
    reached, by_known, by_new = (
        np.searchsorted(dissimilarity, grid, side="right") / len(dissimilarity) for dissimilarity in (live, known, new)
    )
    shares = np.linspace(0, 1, 51)
    return float(min(np.abs(reached - (share * by_new + (1 - share) * by_known)).max() for share in shares))


def calibrate(catalogue: Catalogue, folder: Path, datasets: Sequence[str], recipe: Recipe) -> dict[str, Calibration]:
    """Fit every dataset's scorer and threshold on its gallery and writes `calibration.json`."""
    pseudo_queries = {dataset: pseudo_query_pairs(catalogue, folder, dataset, recipe) for dataset in datasets}
    calibrations = fit_calibrations(pseudo_queries, recipe)
    write_json(folder / CALIBRATION, {dataset: asdict(calibration) for dataset, calibration in calibrations.items()})
    return calibrations


def pseudo_query_pairs(catalogue: Catalogue, folder: Path, dataset: str, recipe: Recipe) -> PseudoQueryPairs:
    """Return one dataset's pseudo-queries, in their units, by the encoder of every fold that the weights folder holds.

    Only photographs that an encoder has not learned from are asked for; without an encoder, any.
    """
    folders = [fold_folder(folder, fold) for fold in range(recipe.training.folds)]
    folders = [path for path in folders if (path / gallery_file(dataset)).exists()]
    gallery = load_gallery(folders[0] / gallery_file(dataset))
    labels, image_ids = np.array(gallery.identity), np.array(gallery.embeddings.image_id)
    del gallery  # a gallery with keypoints may take a gigabyte: one at a time
    _check_enrolled(catalogue, image_ids, dataset)
    held_out = _held_out([path / encoder_file(dataset) for path in folders], labels, image_ids, recipe)
    rows = catalogue.database.table.set_index("image_id").reindex(image_ids).fillna("")
    photographs = Catalogue(catalogue.root, rows.reset_index(names="image_id"))
    days, duplicates = rows["day"].to_numpy(str), near_duplicates(thumbnails(photographs.paths))
    sides = rows["orientation"].to_numpy(str)
    fold_recipe = with_settings(
        recipe, {"calibration.pseudo_queries": -(-recipe.calibration.pseudo_queries // len(folders))}
    )
    ever = np.any([unseen.either for unseen in held_out], axis=0)
    pseudo_queries = []
    for folder_of_fold, unseen in zip(folders, held_out, strict=True):
        asked = select_pseudo_queries(labels, days, duplicates, unseen, fold_recipe, sides, ever)
        pseudo_queries.append(
            match_pseudo_queries(
                load_gallery(folder_of_fold / gallery_file(dataset)), asked, dataset, recipe
            ).in_units()
        )
    return join_pseudo_query_pairs(pseudo_queries)


def _check_enrolled(catalogue: Catalogue, image_ids: np.ndarray, dataset: str) -> None:
    """Refuse a folder that does not know the gallery's photographs: without their dates and sides, and without the
    photographs themselves, nothing would keep pseudo-queries from what gives the answer away."""
    strange = image_ids[~np.isin(image_ids, catalogue.database.image_ids)]
    if len(strange):
        raise InputError(
            f"{catalogue.root / 'metadata.csv'}: expected database rows for the {len(image_ids)} photographs of the "
            f"gallery of {dataset}, found none for {len(strange)} of them, such as {strange[0]}; name the folder that "
            "was enrolled, or `python -m reid enroll` this one first"
        )


def _held_out(encoders: list[Path], labels: np.ndarray, image_ids: np.ndarray, recipe: Recipe) -> list[HeldOut]:
    """Return what each fold's encoder has not learned from and is to be asked for, over all folds each photograph once.

    Args:
        encoders: a file for each fold.
        labels, image_ids: (N,) str, of the gallery.
        recipe: `cues`.
    """
    original = ~pd.Series(image_ids).duplicated().to_numpy()  # a mirror image is not asked for
    if not recipe.uses_encoder:
        return [HeldOut(individuals=original, photographs=np.zeros(len(labels), bool))]
    learned = [np.isin(image_ids, read_plan(encoder).trained_on) for encoder in encoders]
    unseen = np.stack([~np.isin(labels, labels[mask]) for mask in learned])  # (folds, N)
    # where an individual is held out as a whole it is asked for as such; its single photographs in the fold after
    turn = np.argmax(unseen, axis=0)
    strangers = unseen.all(0)  # enrolled after the training; they take turns
    turn[strangers] = np.unique(labels, return_inverse=True)[1][strangers] % len(encoders)
    return [
        HeldOut(
            individuals=unseen[fold] & original & (turn == fold),
            photographs=~unseen[fold] & ~learned[fold] & original & ((turn + 1) % len(encoders) == fold),
        )
        for fold in range(len(encoders))
    ]


def load_calibrations(weights: Weights) -> dict[str, Calibration]:
    """Scorers and thresholds by dataset.

    Raises:
        InputError: the file is damaged.
    """
    path = weights.folder / CALIBRATION
    try:
        return {dataset: calibration_from(stored) for dataset, stored in read_json(path).items()}
    except (TypeError, KeyError, AttributeError, ValueError) as problem:
        raise InputError(f"{path}: it is damaged ({problem}); run `python -m reid calibrate`") from None
