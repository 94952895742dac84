"""The exact sweep against a slow twin, and scorers and thresholds on pseudo-queries whose outcome is known."""

import json
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest

from reid.config.presets import PRESETS
from reid.config.recipe import FITTED_SCORERS, SCORERS, Recipe
from reid.config.settings import override, recipe_from_json, with_settings
from reid.data.catalogue import NEW_INDIVIDUAL
from reid.decision.calibrate import LOW_BAKS, choose_scorer, fit_calibrations
from reid.decision.calibration import Calibration, calibration_from, distribution_shift
from reid.decision.metrics import score_submission
from reid.decision.open_set import OpenSetQueries
from reid.decision.pseudo_queries import PseudoQueryPairs
from reid.decision.scorers import cross_fitted
from reid.decision.thresholds import NEAREST_OF, PLATEAU, sweep
from reid.errors import InputError
from reid.retrieval.candidates import CandidatePairs

RECIPE = override(PRESETS["toy"], ["calibration.splits=20", "calibration.probability=scorer"])


def random_queries(seed: int) -> OpenSetQueries:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 40))
    individual = rng.choice([f"animal {n}" for n in range(8)], size=count)
    return OpenSetQueries(
        distance=rng.integers(0, 12, size=count) / 4,  # many ties
        is_match=rng.random(count) < 0.6,
        individual=individual,
        new=np.isin(individual, ["animal 0", "animal 3", "animal 5"]),
    )


def slow_score(queries: OpenSetQueries, threshold: float) -> tuple[float, float, float]:
    """BAKS, BAUS and the share called new, by the competition's scorer itself."""
    rows = range(len(queries.distance))
    named = ["itself" if queries.is_match[i] else "another" for i in rows]
    answers = [named[i] if queries.distance[i] < threshold else NEW_INDIVIDUAL for i in rows]
    truth = pd.DataFrame({"image_id": rows, "identity": queries.individual, "new_identity": queries.new})
    truth["dataset"] = "x"
    answered = [truth["identity"][i] if answers[i] == "itself" else answers[i] for i in rows]
    score = score_submission(pd.DataFrame({"image_id": rows, "identity": answered}), truth)["x"]
    return np.nan_to_num(score.baks), np.nan_to_num(score.baus), float(np.mean([a == NEW_INDIVIDUAL for a in answers]))


@pytest.mark.parametrize("seed", range(25))
def test_the_sweep_equals_scoring_at_every_threshold(seed: int) -> None:
    queries = random_queries(seed)
    swept = sweep(queries)
    between = np.concatenate([swept.edges - 0.01, swept.edges, swept.edges + 0.01, [-1.0, 99.0]])
    at = swept.at(between)
    for place, threshold in enumerate(between):
        expected = slow_score(queries, threshold)
        assert (at.baks[place], at.baus[place], at.share_new[place]) == pytest.approx(expected, abs=1e-12)


def test_an_individual_that_counts_twice_is_as_good_as_two_of_it() -> None:
    queries = random_queries(3)
    times = np.array([hash_of % 3 for hash_of in (int(name[-1]) for name in queries.individual)])
    copies = [queries.of(np.flatnonzero(times > copy)) for copy in range(2)]
    twice = OpenSetQueries(
        distance=np.concatenate([copy.distance for copy in copies]),
        is_match=np.concatenate([copy.is_match for copy in copies]),
        individual=np.concatenate([np.char.add(f"{number} ", copy.individual) for number, copy in enumerate(copies)]),
        new=np.concatenate([copy.new for copy in copies]),
    )
    places = np.linspace(0, 3, 50)
    for weighted, copied in zip(sweep(queries, times).at(places), sweep(twice).at(places), strict=True):
        assert weighted == pytest.approx(copied, abs=1e-12)


def drawn_pairs(
    seed: int = 0, individuals: int = 20, apart: float = 3.0, shuffled: bool = False, local: float | None = None
) -> PseudoQueryPairs:
    """Every individual plays known three times and new three times, each time next to eight others.

    A right pair has a distance around 1, a wrong one `apart` more; `local` votes stand out by that much on right pairs.
    """
    rng = np.random.default_rng(seed)
    individual = np.repeat([f"animal {number:02d}" for number in range(individuals)], 6)
    new = np.tile([False] * 3 + [True] * 3, individuals)
    query = np.repeat(np.arange(len(new)), 9)
    right = np.tile(np.arange(9) == 0, len(new)) & ~new[query]
    looks_right = rng.permutation(right) if shuffled else right
    features = {"distance": np.abs(1 + 0.3 * rng.normal(size=len(query)) + apart * ~looks_right)}
    if local is not None:
        features["local"] = rng.gamma(2, size=len(query)) + local * looks_right
        features["inliers"] = rng.poisson(3, len(query)).astype(float)
    features |= {name: np.ones(len(query)) for name in ("photographs", "same side", "other side")}
    pairs = CandidatePairs(query, np.tile(np.arange(9), len(new)), np.tile(np.arange(9), len(new)), features)
    return PseudoQueryPairs(individual, new, pairs, right)


def fit(pseudo_queries: PseudoQueryPairs, recipe: Recipe = RECIPE) -> Calibration:
    return fit_calibrations({"x": pseudo_queries.in_units()}, recipe)["x"]


def test_the_fitted_threshold_separates_and_expects_it() -> None:
    pseudo_queries = drawn_pairs()
    threshold = fit(pseudo_queries).threshold
    distances = pseudo_queries.pairs.features["distance"]
    assert distances[pseudo_queries.is_match].max() <= threshold.value <= distances[~pseudo_queries.is_match].min()
    assert threshold.plateau[0] < threshold.value < threshold.plateau[1]
    assert threshold.score is not None
    assert threshold.interval is not None
    assert threshold.score == pytest.approx(1, abs=0.02)
    assert threshold.interval[0] <= threshold.score <= threshold.interval[1]
    assert (threshold.known, threshold.new, threshold.note) == (20, 20, "")


def test_nothing_is_expected_of_shuffled_pairs() -> None:
    """A ninth of the known queries is right by luck, and what is named by luck is lost among the new."""
    for scorers in ("distance", "distance,local,mean,logistic,boosted"):
        recipe = override(
            PRESETS["toy"], ["matching.cues=encoder,local", f"calibration.scorers={scorers}", "calibration.splits=20"]
        )
        threshold = fit(drawn_pairs(shuffled=True, local=2), recipe).threshold
        assert threshold.score is not None
        assert threshold.score < 0.35
        assert threshold.baks is not None
        assert threshold.baks < LOW_BAKS
        words = f"hardly any known animal is expected to be named: {threshold.baks:.0%} of their photographs correctly"
        assert threshold.note.startswith(words)


@pytest.mark.parametrize(("apart", "seed"), [(0.5, 4), (0.5, 1), (0.8, 2)])  # runs of one step, of two and of three
def test_the_threshold_is_the_middle_of_the_best_run_of_steps(apart: float, seed: int) -> None:
    calibrated = fit(drawn_pairs(apart=apart, seed=seed), override(RECIPE, ["calibration.prior=0"]))
    score, edges = np.array(calibrated.curve.score), np.array(calibrated.curve.threshold)
    assert len(edges) <= 120, "a place for every query at most: nothing of the curve is left out"
    good = score >= score.max() - PLATEAU
    first = last = int(score.argmax())
    while good[first - 1]:
        first -= 1
    while good[last + 1]:
        last += 1
    assert calibrated.threshold.plateau == (edges[first - 1], edges[last])
    assert calibrated.threshold.value == (edges[first - 1] + edges[last]) / 2


def test_the_prior_is_one_more_known_individual_among_those_that_there_are() -> None:
    """With three known individuals a fourth is as near as the nearest of `NEAREST_OF` drawn new queries: by simulation.
    Without a prior, nothing changes."""
    queries = OpenSetQueries(
        np.array([0.1, 0.4, 0.8, *np.linspace(0.2, 1, 9)]),
        np.array([True, False, True, *[False] * 9]),
        np.array([f"animal {number}" for number in range(12)]),
        np.array([False] * 3 + [True] * 9),
    )
    rng = np.random.default_rng(0)
    nearest = rng.choice(queries.distance[queries.new], (20_000, NEAREST_OF)).min(1)
    thresholds = np.array([0.05, 0.25, 0.45, 0.9])
    swept = sweep(queries)
    expected = [(3 * swept.at(np.array([t])).baks[0] + (nearest < t).mean()) / 4 for t in thresholds]
    assert swept.with_prior(1 / 4).at(thresholds).baks == pytest.approx(np.array(expected), abs=0.005)
    assert np.array_equal(swept.with_prior(0).baks, swept.baks)


def test_where_no_known_animal_was_found_the_new_ones_still_tell_a_threshold() -> None:
    """All candidates of the known are wrong: without a prior every threshold is equally bad, and the middle of them all
    is anywhere. Stored recipes, which lack the setting, have none."""
    drawn = drawn_pairs(individuals=12)
    no_match = replace(drawn, is_match=np.zeros(len(drawn.pairs), bool))
    no_match.is_match[0] = True  # one pair, or nothing could be measured
    answered = no_match.answered(no_match.pairs.features["distance"])
    value = fit(no_match).threshold.value
    assert 0.5 < float(sweep(answered).at(np.array([value])).baus[0]) < 0.95
    stored = asdict(RECIPE)
    del stored["calibration"]["prior"]
    assert recipe_from_json(stored).calibration.prior == 0
    assert recipe_from_json(asdict(RECIPE)).calibration.prior == 1


def test_what_thresholds_of_other_draws_reach_is_told() -> None:
    """Where all is clear every threshold is perfect; else none reaches more than the best in hindsight."""
    assert fit(drawn_pairs(individuals=40)).threshold.support == pytest.approx((1, 1))
    pseudo_queries = drawn_pairs(apart=0.5, seed=4, individuals=12)
    support = fit(pseudo_queries).threshold.support
    own = sweep(pseudo_queries.answered(pseudo_queries.pairs.features["distance"]))
    assert support is not None
    assert 0 < support[0] < support[1] <= np.sqrt(own.baks * own.baus).max()


def test_the_curve_is_the_mean_over_draws_of_individuals() -> None:
    """Against splits drawn as the documentation says: a quarter plays new, individuals are drawn with replacement, as
    many as there are."""
    pseudo_queries, rng = drawn_pairs(apart=0.5, seed=4), np.random.default_rng(1)
    answered = pseudo_queries.answered(pseudo_queries.pairs.features["distance"])
    curve = fit(pseudo_queries, override(RECIPE, ["calibration.splits=400", "calibration.new_share=0.25"])).curve
    places = np.array(curve.threshold)
    named = answered.distance[:, None] < places  # (Q, T)
    animals = np.unique(answered.individual)
    right = {
        name: (named & answered.is_match[:, None])[(answered.individual == name) & ~answered.new] for name in animals
    }
    refused = {name: ~named[(answered.individual == name) & answered.new] for name in animals}
    scores = []
    for _ in range(400):
        order = rng.permutation(animals)
        baks = np.mean([right[name].mean(0) for name in rng.choice(order[5:], 15)], axis=0)
        baus = np.mean([refused[name].mean(0) for name in rng.choice(order[:5], 5)], axis=0)
        scores.append(np.sqrt(baks * baus))
    error = np.std(scores, axis=0).max() / 20
    assert np.array(curve.score) == pytest.approx(np.mean(scores, axis=0), abs=5 * error)
    assert error < 0.02


def test_the_expected_score_is_not_learned_from_its_own_individuals() -> None:
    """On pairs without any sense a threshold fitted on 12 individuals still finds luck in them, but not in others."""
    scores = []
    for seed in range(6):
        pseudo_queries = drawn_pairs(apart=0, seed=seed, individuals=12)
        answered = pseudo_queries.answered(pseudo_queries.pairs.features["distance"])
        own = sweep(answered)
        scores.append((fit(pseudo_queries).threshold.score or 0.0, float(np.sqrt(own.baks * own.baus).max())))
    expected, oracle = np.mean(scores, axis=0)
    assert 0 < expected < oracle - 0.01


@pytest.mark.parametrize("share", [0.25, 0.5, 0.8])
def test_an_individual_plays_one_role_at_a_time_and_so_many_play_new(share: float) -> None:
    """Where all is clear, as many are called new as play new; if everybody played both roles, it would be a half."""
    recipe = override(RECIPE, [f"calibration.new_share={share}", "calibration.splits=200"])
    threshold = fit(drawn_pairs(individuals=40), recipe).threshold
    assert threshold.share_new == pytest.approx(share, abs=0.02)
    assert threshold.score == pytest.approx(1, abs=0.01)


def alike(seed: int, individuals: int = 12) -> PseudoQueryPairs:
    """Every individual plays known once and new once, next to one other; all distances are of one kind."""
    names = np.repeat([f"animal {number:02d}" for number in range(individuals)], 2)
    new, rows = np.tile([False, True], individuals), np.arange(2 * individuals)
    features = {"distance": np.random.default_rng(seed).random(2 * individuals)}
    features |= {name: np.ones(2 * individuals) for name in ("photographs", "same side", "other side")}
    return PseudoQueryPairs(names, new, CandidatePairs(rows, rows, rows, features), ~new)


def test_what_is_expected_is_measured_on_individuals_that_the_threshold_was_not_fitted_on() -> None:
    """A threshold names known and new ones alike, so that BAKS + BAUS is 1 on others than it was fitted on; a threshold
    finds more than that among those that it was fitted on."""
    expected, own = [], []
    for seed in range(25):
        pseudo_queries = alike(seed)
        threshold = fit(pseudo_queries).threshold
        assert threshold.baks is not None
        assert threshold.baus is not None
        expected.append(threshold.baks + threshold.baus)
        swept = sweep(pseudo_queries.answered(pseudo_queries.pairs.features["distance"])).at(
            np.array([threshold.value])
        )
        own.append(swept.baks[0] + swept.baus[0])
    error = float(np.std(expected)) / 5
    assert np.mean(expected) == pytest.approx(1, abs=3 * error)
    assert np.mean(own) > 1 + 3 * error


RICH = override(
    PRESETS["toy"],
    [
        "matching.cues=encoder,local",
        "calibration.scorers=distance,local,inliers,mean,logistic,boosted,ensemble",
        "calibration.splits=20",
    ],
)


def test_a_perfect_cue_is_chosen_and_the_simplest_scorer_of_equals() -> None:
    assert fit(drawn_pairs(local=0), RICH).scorer.kind == "distance"
    assert fit(drawn_pairs(apart=0, local=30), RICH).scorer.kind == "local"


def test_two_weak_cues_are_fused_and_that_is_expected_to_win() -> None:
    calibrated = fit(drawn_pairs(apart=0.45, local=3, individuals=40), RICH)
    assert calibrated.scorer.kind in FITTED_SCORERS
    alone = max(calibrated.scorer_scores["distance"], calibrated.scorer_scores["local"])
    assert calibrated.scorer_scores[calibrated.scorer.kind] > alone + 0.03
    assert calibrated.threshold.score == pytest.approx(calibrated.scorer_scores[calibrated.scorer.kind])


def test_with_few_labels_the_simple_scorer_wins_by_itself() -> None:
    """One cue says something, the others nothing: eight individuals are enough for the trees to find sense in them."""
    chosen = [fit(drawn_pairs(seed=seed, apart=0.6, local=0, individuals=8), RICH) for seed in range(5)]
    assert [one.scorer.kind for one in chosen].count("distance") >= 4
    assert not any(one.scorer.kind == "boosted" for one in chosen)


def test_the_fewer_individuals_the_further_the_best_must_be_ahead() -> None:
    luck = np.array([0.1, -0.1] * 20)
    scores = {"distance": np.full(40, 0.5), "logistic": 0.53 + luck, "boosted": 0.534 + luck}
    assert [choose_scorer(scores, count) for count in (3, 8, 40)] == ["distance", "distance", "logistic"]
    clearly = {"distance": np.full(40, 0.5), "logistic": 0.56 + luck, "boosted": 0.7 + luck}
    assert [choose_scorer(clearly, count) for count in (8, 40)] == ["boosted", "boosted"]


def test_a_dataset_with_few_individuals_takes_the_decision_of_all_in_its_own_units() -> None:
    many, few = drawn_pairs(apart=3), drawn_pairs(individuals=3, seed=1, apart=3)
    in_feet = replace(few, pairs=few.pairs.scaled(0.1))  # ten times as long distances
    fitted = fit_calibrations({"few": in_feet.in_units(), "many": many.in_units()}, RECIPE)
    assert "3 known and 3 new individuals among the pseudo-queries, fewer than 8" in fitted["few"].threshold.note
    assert fitted["few"].threshold.value == pytest.approx(10 * fitted["many"].threshold.value, rel=0.2)
    assert fitted["many"].threshold.note == ""


def in_role(drawn: PseudoQueryPairs, roles: str) -> PseudoQueryPairs:
    """Only those that play "new", or "known", or none of them."""
    keep = {"new": drawn.new, "known": ~drawn.new, "none": np.zeros(len(drawn.new), bool)}[roles]
    rows = keep[drawn.pairs.query]
    renumbered = replace(drawn.pairs.of(rows), query=(keep.cumsum() - 1)[drawn.pairs.query[rows]])
    return PseudoQueryPairs(drawn.individual[keep], drawn.new[keep], renumbered, drawn.is_match[rows])


@pytest.mark.parametrize(
    ("roles", "words"),
    [
        ("new", "no individual has two photographs"),
        ("known", "no individual could play the new one"),
        ("none", "too few individuals to hold any out"),
    ],
)
def test_a_database_that_cannot_play_gets_a_cautious_threshold_and_a_note(roles: str, words: str) -> None:
    calibrated = fit(in_role(drawn_pairs(individuals=3), roles))
    assert words in calibrated.threshold.note
    assert np.isfinite(calibrated.threshold.value)
    assert calibrated.threshold.score is None


@pytest.mark.parametrize("roles", ["new", "known", "none"])
@pytest.mark.parametrize("kind", FITTED_SCORERS)
def test_where_a_scorer_cannot_be_fitted_a_simple_one_is_used_and_that_is_reported(kind: str, roles: str) -> None:
    """In a database without known or without new pseudo-queries."""
    recipe = with_settings(RICH, {"calibration.scorers": (kind,)})
    calibrated = fit(in_role(drawn_pairs(individuals=3, local=2), roles), recipe)
    assert calibrated.scorer.kind == "distance"
    words = f"{kind} can't be fitted without known and new individuals to tell apart: distance is used"
    assert words in calibrated.threshold.note.splitlines()


def test_a_gallery_of_one_individual_has_no_wrong_pair_to_fit_a_scorer_on() -> None:
    """Its new pseudo-queries have no candidate, so that every pair is a match."""
    drawn = drawn_pairs(individuals=1, local=2)
    right = drawn.is_match
    matching = PseudoQueryPairs(drawn.individual, drawn.new, drawn.pairs.of(right), right[right])
    calibrated = fit(matching, with_settings(RICH, {"calibration.scorers": ("logistic", "boosted")}))
    assert calibrated.scorer.kind == "distance"
    assert calibrated.threshold.value <= max(calibrated.known)


def test_datasets_with_different_cues_are_pooled_by_the_cues_that_all_have() -> None:
    """The saliency of one dataset may be flat everywhere, so that it has no keypoints on the animal."""
    one, other = (drawn_pairs(individuals=4, seed=seed, local=2) for seed in (0, 1))
    on_animal = {"foreground": one.pairs.features["local"], "foreground_inliers": one.pairs.features["inliers"]}
    richer = replace(one, pairs=replace(one.pairs, features={**one.pairs.features, **on_animal}))
    recipe = with_settings(PRESETS["frozen"], {"calibration.splits": 5, "calibration.scorers": SCORERS})
    for names in (("a", "b"), ("b", "a")):
        parts = dict(zip(names, (richer.in_units(), other.in_units()), strict=True))
        fitted = fit_calibrations(parts, recipe)
        assert fitted["a"].scorer == fitted["b"].scorer
        assert set(fitted["a"].scorer_scores) == {"distance", "local", "inliers", *FITTED_SCORERS}


@pytest.mark.parametrize("kind", FITTED_SCORERS)
def test_known_and_new_are_measured_by_scorers_that_were_fitted_on_other_individuals(kind: str) -> None:
    """As the threshold is."""
    drawn = drawn_pairs(individuals=20, apart=0, local=0).in_units()
    calibrated = fit(drawn, with_settings(RICH, {"calibration.scorers": (kind,)}))
    weight, group = np.full(len(drawn.pairs), 1 / 3), drawn.individual[drawn.pairs.query]
    others = drawn.answered(cross_fitted(kind, drawn.pairs, drawn.is_match, weight, group, RICH.seed))
    assert calibrated.known == sorted(others.distance[~others.new])
    assert calibrated.new == sorted(others.distance[others.new])


def test_pooled_datasets_keep_their_own_known_and_new() -> None:
    parts = {
        name: drawn_pairs(individuals=4, seed=seed, apart=apart) for name, seed, apart in (("a", 0, 3), ("b", 1, 5))
    }
    fitted = fit_calibrations({name: part.in_units() for name, part in parts.items()}, RECIPE)
    for name, part in parts.items():
        answered = part.answered(part.pairs.features["distance"])
        assert fitted[name].known == pytest.approx(sorted(answered.distance[~answered.new]))
        assert fitted[name].new == pytest.approx(sorted(answered.distance[answered.new]))


def test_queries_without_any_candidate_are_wrong_and_no_number_is_lost() -> None:
    pseudo_queries = drawn_pairs()
    rows = pseudo_queries.pairs.query % 7 != 0
    calibrated = fit(
        replace(pseudo_queries, pairs=pseudo_queries.pairs.of(rows), is_match=pseudo_queries.is_match[rows])
    )
    assert np.isfinite(calibrated.threshold.value)
    assert calibrated.threshold.score is not None
    assert 0.7 < calibrated.threshold.score < 1
    assert np.isfinite(calibrated.known).all()


@pytest.mark.parametrize("recipe", [RECIPE, RICH])
def test_a_calibration_comes_back_from_json_as_it_was(recipe: Recipe) -> None:
    calibrated = fit(drawn_pairs(apart=0.45, local=3), recipe)
    assert calibration_from(json.loads(json.dumps(asdict(calibrated)))) == calibrated


def test_dissimilarities_that_are_a_mixture_of_the_known_and_new_ones_have_not_shifted() -> None:
    rng = np.random.default_rng(0)
    calibrated = replace(fit(drawn_pairs()), known=sorted(rng.normal(1, 0.3, 300)), new=sorted(rng.normal(4, 0.5, 300)))
    for share in (0.0, 0.3, 1.0):
        live = np.where(rng.random(400) < share, rng.normal(4, 0.5, 400), rng.normal(1, 0.3, 400))
        assert distribution_shift(live, calibrated) < 0.1
    assert distribution_shift(rng.normal(2.4, 0.3, 400), calibrated) > 0.3
    assert distribution_shift(np.array([]), calibrated) == 0
    assert distribution_shift(rng.normal(1, 0.3, 400), replace(calibrated, new=[])) < 0.1


def test_scorers_that_none_of_the_cues_feeds_are_refused() -> None:
    words = (
        "lynx: recipe field calibration.scorers: expected one that its cues can feed, found foreground; there are dist"
    )
    with pytest.raises(InputError, match=words):
        fit_calibrations(
            {"lynx": drawn_pairs().in_units()},
            with_settings(PRESETS["frozen"], {"calibration.scorers": ("foreground",)}),
        )
