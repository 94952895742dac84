"""Scorers: what they read from JSON equals scikit-learn's results, and each learns what there is to learn."""

import json
import math
from dataclasses import asdict

import numpy as np
import pytest
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

from reid.config.recipe import FITTED_SCORERS, SCORERS
from reid.decision.scorers import SINGLE_CUES, Scorer, cross_fitted, fit_scorer, scorers_for
from reid.retrieval.candidates import CandidatePairs, best_and_runner_up


def some_pairs(
    seed: int, queries: int = 60, others: int = 8, help_of_local: float = 1.0
) -> tuple[CandidatePairs, np.ndarray]:
    """Each query beside its own individual (the first) and others; both cues help, each with its own noise."""
    rng = np.random.default_rng(seed)
    query = np.repeat(np.arange(queries), others + 1)
    right = np.tile(np.arange(others + 1) == 0, queries)
    count = len(query)
    features = {
        "distance": 2 + rng.normal(size=count) * 0.5 - right,
        "cohort": rng.normal(size=count) - right,
        "local": np.maximum(0, rng.gamma(2, size=count) + 4 * help_of_local * right),
        "inliers": rng.poisson(4 + 6 * help_of_local * right).astype(float),
        "foreground": np.maximum(0, rng.gamma(2, size=count) + 4 * help_of_local * right),
        "foreground_inliers": rng.poisson(4 + 6 * help_of_local * right).astype(float),
        "photographs": rng.integers(1, 9, count).astype(float),
        "same side": rng.integers(0, 2, count).astype(float),
        "other side": np.zeros(count),
    }
    return CandidatePairs(query, rng.integers(0, 30, count), np.arange(count), features), right


def slow_columns(pairs: CandidatePairs) -> np.ndarray:
    """What a scorer of all features is fitted on, (P, F): cue by cue how strong it is and how far ahead of the query's
    best other pair, then the rest."""
    features = pairs.features
    strengths = {"distance": -features["distance"]}
    strengths |= {
        cue: np.log(1 + features[cue])
        for cue in ("local", "inliers", "foreground", "foreground_inliers")
        if cue in features
    }
    rows = []
    for row, query in enumerate(pairs.query):
        others = [other for other in np.flatnonzero(pairs.query == query) if other != row]
        cells = []
        for strength in strengths.values():
            ahead_of = max((strength[other] for other in others), default=strength[row])
            cells += [strength[row], strength[row] - ahead_of]
        counts = [np.log(features["photographs"][row]), features["same side"][row], features["other side"][row]]
        rows.append([*cells, -features["cohort"][row], *counts])
    return np.array(rows)


def pairs_of_any_number(seed: int) -> tuple[CandidatePairs, np.ndarray]:
    """Queries with one pair, with two, and with many."""
    pairs, right = some_pairs(seed)
    place = np.arange(len(pairs)) % 9  # of nine pairs each
    kept = (place == 0) | (pairs.query % 4 != 0) & ((place < 2) | (pairs.query % 4 != 1))
    return pairs.of(kept), right[kept]


def stored(scorer: Scorer) -> Scorer:
    """The scorer as `calibration.json` gives it back."""
    return Scorer(**json.loads(json.dumps(asdict(scorer))))


@pytest.mark.parametrize("kind", SCORERS)
def test_a_scorer_gives_the_same_after_json(kind: str) -> None:
    pairs, right = some_pairs(0)
    scorer = fit_scorer(kind, pairs, right, np.ones(len(right)), seed=0)
    assert np.array_equal(stored(scorer).dissimilarity(pairs), scorer.dissimilarity(pairs))


@pytest.mark.parametrize("kind", SCORERS)
def test_right_pairs_are_less_dissimilar(kind: str) -> None:
    pairs, right = some_pairs(1)
    dissimilarity = fit_scorer(kind, *some_pairs(0), np.ones(len(right)), seed=0).dissimilarity(pairs)
    assert np.isfinite(dissimilarity).all()
    assert np.median(dissimilarity[right]) < np.quantile(dissimilarity[~right], 0.25)


def test_logistic_regression_equals_scikit_learns() -> None:
    pairs, right = pairs_of_any_number(0)
    weight = np.random.default_rng(1).uniform(0.5, 2, len(right))
    columns = slow_columns(pairs)
    scaled = (columns - columns.mean(0)) / np.where(columns.std(0) < 1e-9, 1, columns.std(0))
    model = LogisticRegression(max_iter=1000).fit(scaled, right, sample_weight=weight)
    dissimilarity = fit_scorer("logistic", pairs, right, weight, seed=0).dissimilarity(pairs)
    assert dissimilarity == pytest.approx(model.predict_proba(scaled)[:, 0], abs=1e-9)


def test_boosted_trees_equal_scikit_learns() -> None:
    pairs, right = pairs_of_any_number(0)
    weight = np.random.default_rng(1).uniform(0.5, 2, len(right))
    columns = slow_columns(pairs)
    settings = {"n_estimators": 60, "max_depth": 3, "learning_rate": 0.1, "min_samples_leaf": 20}
    model = GradientBoostingClassifier(**settings, subsample=0.7, max_features="sqrt", random_state=7)
    model.fit(columns, right, sample_weight=weight)
    dissimilarity = fit_scorer("boosted", pairs, right, weight, seed=7).dissimilarity(pairs)
    assert dissimilarity == pytest.approx(model.predict_proba(columns)[:, 0], abs=1e-9)


def chances_by(cue: str, fitted_on: np.ndarray, right: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The calibrated probability at some values of one cue alone."""

    def pairs(values: np.ndarray) -> CandidatePairs:
        rows = np.arange(len(values))
        return CandidatePairs(rows, rows, rows, {cue: values})

    return 1 - fit_scorer("mean", pairs(fitted_on), right, np.ones(len(right)), seed=0).dissimilarity(pairs(places))


def test_the_curve_of_a_cue_never_turns_and_tells_any_two_values_apart() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=200)
    right = rng.random(200) < 1 / (1 + np.exp(-2 * values))
    places = np.linspace(values.min(), values.max(), 400)
    for cue, sign in (("local", 1), ("distance", -1)):
        heights = chances_by(cue, sign * values, right, sign * places)
        assert (np.diff(heights) > 0).all()
        assert heights.min() >= -0.01
        assert heights.max() <= 1.01


def test_a_curve_passes_through_the_shares_of_the_data() -> None:
    values = np.repeat([1.0, 2.0, 3.0], 100)
    right = np.concatenate([np.arange(100) < share for share in (10, 40, 90)])
    assert chances_by("local", values, right, np.array([1.0, 2.0, 3.0])) == pytest.approx([0.1, 0.4, 0.9], abs=0.01)


def test_the_mean_gives_little_weight_to_a_cue_without_information() -> None:
    pairs, right = some_pairs(0, queries=200, help_of_local=0)
    shares = {cue: share for cue, (share, _) in fit_scorer("mean", pairs, right, np.ones(len(right)), 0).fitted.items()}
    assert shares["distance"] == max(shares.values()) >= 0.75


def test_a_cross_fitted_dissimilarity_comes_from_scorers_of_other_individuals() -> None:
    pairs, right = some_pairs(0, queries=25)
    group = np.array([f"animal {number % 5}" for number in pairs.query])
    weight = np.ones(len(right))
    dissimilarity = cross_fitted("logistic", pairs, right, weight, group, seed=0)
    for animal in np.unique(group):  # five individuals, five folds
        rest = group != animal
        scorer = fit_scorer("logistic", pairs.of(rest), right[rest], weight[rest], seed=0)
        assert np.array_equal(dissimilarity[~rest], scorer.dissimilarity(pairs.of(~rest)))


def test_an_ensemble_has_the_mean_of_the_log_odds_of_the_others() -> None:
    pairs, right = some_pairs(1)
    others = [
        fit_scorer(kind, *some_pairs(0), np.ones(len(right)), seed=0).dissimilarity(pairs)
        for kind in ("mean", "logistic", "boosted")
    ]
    odds = [[math.log((1 - value) / value) for value in np.clip(one, 1e-4, 1 - 1e-4)] for one in others]
    expected = [1 / (1 + math.exp(sum(each) / 3)) for each in zip(*odds, strict=True)]
    dissimilarity = fit_scorer("ensemble", *some_pairs(0), np.ones(len(right)), seed=0).dissimilarity(pairs)
    assert dissimilarity == pytest.approx(expected, abs=1e-12)


def test_an_ensemble_of_known_dissimilarities_is_the_one_that_is_fitted() -> None:
    pairs, right = some_pairs(0, queries=39)
    group, weight = np.array([f"animal {number % 13}" for number in pairs.query]), np.ones(len(right))
    known: dict[str, np.ndarray] = {}
    for kind in ("mean", "logistic", "boosted"):
        known[kind] = cross_fitted(kind, pairs, right, weight, group, seed=0)
    made = cross_fitted("ensemble", pairs, right, weight, group, seed=0, known=known)
    assert made == pytest.approx(cross_fitted("ensemble", pairs, right, weight, group, seed=0), abs=1e-12)
    other = cross_fitted("ensemble", pairs, right, weight, group, seed=0, known={**known, "mean": known["boosted"]})
    assert np.abs(other - made).max() > 0.01  # it is made of what is known, not fitted again


@pytest.mark.parametrize("telling", ["distance", "local", "local 2", "inliers 3"])
def test_a_cue_that_tells_everything_gets_the_whole_weight_of_the_mean(telling: str) -> None:
    pairs, right = some_pairs(0, help_of_local=0)
    noise = np.random.default_rng(1).random((4, len(right)))
    pairs.features.update(zip(("distance", "local", "local 2", "inliers 3"), noise, strict=True))
    pairs.features[telling] = (right == SINGLE_CUES[telling]).astype(float)
    fitted = fit_scorer("mean", pairs, right, np.ones(len(right)), seed=0).fitted
    assert {cue: weight for cue, (weight, _) in fitted.items() if weight} == {telling: 1}


@pytest.mark.parametrize("kind", FITTED_SCORERS)
def test_the_dissimilarities_of_an_individual_do_not_depend_on_its_own_truth(kind: str) -> None:
    pairs, right = some_pairs(0, queries=39)
    group = np.array([f"animal {number % 13}" for number in pairs.query])  # more than there are folds
    before = cross_fitted(kind, pairs, right, np.ones(len(right)), group, seed=0)
    own = group == "animal 7"
    after = cross_fitted(kind, pairs, np.where(own, ~right, right), np.ones(len(right)), group, seed=0)
    assert np.array_equal(after[own], before[own])
    assert not np.array_equal(after[~own], before[~own])


def test_the_best_pair_and_the_runner_up_equal_the_slow_twin() -> None:
    rng = np.random.default_rng(0)
    query = np.sort(rng.integers(0, 12, 40))
    dissimilarity = rng.integers(0, 5, 40) / 4  # with ties, of which the first wins
    first, second = best_and_runner_up(query, dissimilarity, 14)
    for number in range(14):
        own = sorted(np.flatnonzero(query == number), key=lambda place: (dissimilarity[place], place))
        assert [first[number], second[number]] == [*own[:2], -1, -1][:2]


def test_only_scorers_that_the_cues_can_feed_are_compared_the_simplest_first() -> None:
    assert scorers_for(SCORERS, ("distance",)) == ["distance"]
    assert scorers_for(SCORERS, ("local", "inliers")) == ["local", "inliers", *FITTED_SCORERS]
    assert scorers_for(("boosted", "mean", "distance"), ("distance", "local")) == ["distance", "mean", "boosted"]


def test_scaled_distances_leave_the_other_features_alone() -> None:
    pairs, _ = some_pairs(0)
    scaled = pairs.scaled(4)
    assert np.array_equal(scaled.features["distance"] * 4, pairs.features["distance"])
    assert scaled.features["local"] is pairs.features["local"]


@pytest.mark.parametrize("kind", SCORERS)
def test_a_fitted_scorer_gives_one_minus_a_calibrated_probability(kind: str) -> None:
    """Of pairs of other queries about as many are right as the probabilities add up to."""
    pairs, right = some_pairs(1, queries=400)
    scorer = fit_scorer(kind, *some_pairs(0, queries=400), np.ones(len(right)), seed=0)
    assert scorer.gives_probability == (kind not in SINGLE_CUES)
    if scorer.gives_probability:
        assert (1 - scorer.dissimilarity(pairs)).sum() == pytest.approx(right.sum(), rel=0.15)
