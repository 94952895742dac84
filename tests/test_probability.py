"""Probabilities of best candidates, against a truth that is known, and what becomes of them in an answer."""

from dataclasses import asdict, replace

import numpy as np
import pytest
from test_calibration import RECIPE, drawn_pairs
from test_predict import best, calibrated, table

from reid.config.settings import override
from reid.decision.calibrate import fit_calibrations
from reid.decision.calibration import Calibration, calibration_from
from reid.decision.decide import decide
from reid.decision.open_set import OpenSetQueries
from reid.decision.probability import ProbabilityCurve, fit_probability


def drawn(count: int, seed: int, is_distance: bool) -> tuple[OpenSetQueries, np.ndarray]:
    """Known queries, one of each individual, whose best candidate is right with a chance that is told too, and as many
    new ones, whose best candidates are never right."""
    rng = np.random.default_rng(seed)
    dissimilarity = rng.uniform(0.05, 0.95, count)
    similarity = -np.log(dissimilarity) + (0 if is_distance else np.log(1 - dissimilarity))
    chance = 1 / (1 + np.exp(-(1.5 * similarity - 1)))
    right = rng.random(count) < chance
    individual = np.array([f"animal {number}" for number in range(count)])
    new = ~right & (rng.random(count) < 0.5)
    return OpenSetQueries(dissimilarity, right, individual, new), chance


@pytest.mark.parametrize("is_distance", [False, True])
def test_the_curve_finds_the_chances_that_were_drawn(is_distance: bool) -> None:
    queries, chance = drawn(20_000, 0, is_distance)
    half = queries.new.mean()  # known and new ones count half each, so odds change as their shares do
    curve = fit_probability(queries, is_distance)
    assert curve is not None
    odds = chance / (1 - chance)
    wrong_new = queries.new.sum() / (~queries.is_match).sum()
    wrong = wrong_new * 0.5 / half + (1 - wrong_new) * 0.5 / (1 - half)
    expected = odds * 0.5 / (1 - half) / (odds * 0.5 / (1 - half) + wrong)
    assert curve.of(queries.distance) == pytest.approx(expected, abs=0.03)


def test_nothing_is_fitted_where_nothing_can_be_told() -> None:
    queries, _ = drawn(50, 0, False)
    assert fit_probability(queries._replace(is_match=np.ones(50, bool)), False) is None
    assert fit_probability(queries._replace(is_match=np.zeros(50, bool)), False) is None
    backwards = queries._replace(distance=1 - queries.distance)
    curve = fit_probability(backwards, False)
    assert curve is not None
    assert len(set(curve.of(backwards.distance).tolist())) == 1


def test_a_probability_does_not_depend_on_the_unit_of_distances() -> None:
    curve = ProbabilityCurve(1.5, -0.5, True)
    distances = np.array([0.1, 1, 7])
    assert curve.in_unit(20).of(20 * distances) == pytest.approx(curve.of(distances))


def with_curve(kind: str) -> Calibration:
    return replace(calibrated("lynx", 0.5, kind), probability=ProbabilityCurve(1.0, 0.0, False))


@pytest.mark.parametrize("kind", ["inliers", "boosted"])
def test_fitted_probabilities_are_told_for_any_scorer_and_are_one_at_most_together(kind: str) -> None:
    candidates = best([("q0", "a", 0.25), ("q0", "b", 0.5), ("q0", "c", 0.5), ("q1", "a", 1.0)])
    candidates["rank"] = [1, 2, 3, 1]
    decided = decide(table([("lynx", "", "lynx", "")] * 2), candidates, {"lynx": with_curve(kind)}, "column")
    assert decided.candidates["probability"].tolist() == pytest.approx([0.75, 0.25, 0, 0], abs=1e-3)


def test_a_recipe_asks_for_it_and_what_was_fitted_comes_back_from_json() -> None:
    pseudo_queries = drawn_pairs(apart=0.5, seed=4)
    without = fit_calibrations({"x": pseudo_queries}, RECIPE)["x"]
    fitted = fit_calibrations({"x": pseudo_queries}, override(RECIPE, ["calibration.probability=fitted"]))["x"]
    assert without.probability is None
    assert replace(fitted, probability=None) == without
    assert fitted.probability is not None
    assert np.all(np.diff(fitted.probability.of(np.array(fitted.curve.threshold))) < 0)
    assert calibration_from(asdict(fitted)) == fitted
