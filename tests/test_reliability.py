"""Probabilities next to what came true: known answers, and what the report shows of them."""

import numpy as np
import pandas as pd
import pytest

from reid.report.charts import reliability_chart
from reid.report.reliability import reliability, reliability_of


def test_calibrated_probabilities_have_the_error_of_chance() -> None:
    rng = np.random.default_rng(0)
    probability = rng.random(20_000)
    right = rng.random(20_000) < probability
    found = reliability(probability, right)
    assert found.error < 0.01
    assert found.brier == pytest.approx(1 / 6, abs=0.005)  # the mean of p (1 - p)
    assert found.base == pytest.approx(0.25, abs=0.005)
    assert reliability(np.full(20_000, 0.9), right).error == pytest.approx(0.4, abs=0.02)


def test_bins_are_of_equal_count_and_ascending() -> None:
    probability = np.array([0.9, 0.1, 0.1, 0.5, 0.5, 0.7, 0.7, 0.9, 0.3, 0.3])
    right = np.array([True, False, False, True, False, True, True, True, False, True])
    found = reliability(probability, right)
    assert found.said == pytest.approx([0.1, 0.3, 0.5, 0.7, 0.9])
    assert found.right == pytest.approx([0, 0.5, 0.5, 1, 1])
    assert found.error == pytest.approx((0.1 + 0.2 + 0 + 0.3 + 0.1) / 5)


def table(queries: int, probability: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Queries whose first candidate is "a", the first of them without any; half of them show "a"."""
    ids = [f"query {number}" for number in range(queries)]
    first = pd.DataFrame({"image_id": ids[1:], "rank": 1, "candidate": "a", "probability": probability})
    second = first.assign(rank=2, candidate="b", probability=1.0)
    truth = ["a" if number % 2 else "new" for number in range(queries)]
    return pd.concat([first, second]), pd.DataFrame({"image_id": ids[::-1], "identity": truth[::-1]})


def test_queries_without_a_candidate_count_as_not_found() -> None:
    found = reliability_of(*table(100, 0.5))
    assert found
    assert found.queries == 100
    assert found.brier == pytest.approx(0.25 * 99 / 100)
    assert found.right.mean() == pytest.approx(0.5)


def test_nothing_is_said_of_few_queries_or_without_probabilities() -> None:
    assert reliability_of(*table(49, 0.5)) is None
    assert reliability_of(*table(100, float("nan"))) is None
    assert reliability_of(*table(50, 0.5)) is not None


def test_the_chart_is_the_same_every_time() -> None:
    found = reliability_of(*table(100, 0.5))
    assert found
    drawn = reliability_chart(found.said, found.right)
    assert drawn == reliability_chart(found.said, found.right)
    assert drawn != reliability_chart(found.said, found.right / 2)
    assert drawn != reliability_chart(found.said / 2, found.right)
    assert 'role="img"' in drawn
    assert "share that is right" in drawn
