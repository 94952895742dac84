"""Routes and decisions, row by row, against their definitions."""

import numpy as np
import pandas as pd
import pytest

from reid import NEW_INDIVIDUAL
from reid.calibration import Calibration, Curve, Threshold
from reid.fusion import Scorer
from reid.looking import route_queries
from reid.submission import decide

DATASETS = ("lynx", "turtle")


def calibrated(dataset: str, value: float) -> Calibration:
    threshold = Threshold(dataset, value, None, None, None, None, None, (value, value), 0, 0)
    return Calibration(threshold, Scorer("distance", {}), 1.0, {}, Curve([], [], [], [], []), [], [])


@pytest.mark.parametrize(
    ("route", "expected"),
    [
        ("classifier", ["turtle", "turtle", "lynx", "lynx"]),
        ("column", ["lynx", "turtle", "lynx", "lynx"]),
        ("auto", ["lynx", "turtle", "lynx", "lynx"]),
    ],
)
def test_a_route_sends_each_query_to_its_encoder(route: str, expected: list[str]) -> None:
    column = ["lynx", "turtle", "", "zebra"]  # a query without a dataset, and one of a dataset without a gallery
    species = ["turtle", "turtle", "lynx", "lynx"]
    assert route_queries(route, column, species, DATASETS) == expected


def test_a_query_is_named_only_below_its_own_datasets_threshold_and_when_it_could_be_read() -> None:
    matches = pd.DataFrame(
        {
            "dataset": ["lynx", "lynx", "turtle", "turtle", "turtle"],
            "identity": ["a", "b", "c", "d", "e"],
            "distance": [0.49, 0.5, 0.6, np.inf, 0.1],
            "problem": ["", "", "", "", "cut short"],
        }
    )
    decided = decide(matches, {"lynx": calibrated("lynx", 0.5), "turtle": calibrated("turtle", 0.7)})
    assert list(decided["answer"]) == ["a", NEW_INDIVIDUAL, "c", NEW_INDIVIDUAL, NEW_INDIVIDUAL]
    assert list(decided["threshold"]) == [0.5, 0.5, 0.7, 0.7, 0.7]
