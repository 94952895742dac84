"""Charts: bars as long as their values, the page's colours, unique ids, no scripts."""

import re

import numpy as np
import pandas as pd
import pytest

from reid.decision.thresholds import Sweep, Threshold
from reid.report.charts import (
    PAINT,
    Bars,
    ThresholdPlot,
    companions_chart,
    date_chart,
    history_chart,
    metrics_chart,
    rand_index_chart,
    recipes_chart,
    size_chart,
    threshold_chart,
)


def test_a_bar_is_as_long_as_its_value_and_has_its_number_next_to_it() -> None:
    ours = Bars("this recipe", {"overall": 0.5, "Lynx": 0.25}, {"Lynx": (0.1, 0.4)})
    other = Bars("other", {"Lynx": 0.75, "Newt": float("nan")}, {})
    svg = recipes_chart([ours, other])
    for words in ("0.500", "0.250", "0.750", "overall", "Lynx", "Newt", "\u2014"):
        assert f">{words}<" in svg, words
    bars = re.findall(
        r'd="M ([\d.]+) [\d.]+ \nL ([\d.]+) [\d.]+ \nL [^"]*" clip-path="[^"]*" style="fill: (var\(--\w+\))', svg
    )
    lengths = [(round(float(right) - float(left), 3), colour) for left, right, colour in bars]
    whole = lengths[0][0] / 0.5  # overall comes first
    assert [(round(length / whole, 3), colour) for length, colour in lengths[:3]] == [
        (0.5, "var(--score)"),
        (0.25, "var(--score)"),
        (0.75, "var(--other0)"),
    ]


def plot(name: str) -> ThresholdPlot:
    values = np.array([0.2, 0.4, 0.6])
    curves = Sweep(values, np.array([0.0, 0.5, 1.0]), np.array([1.0, 0.5, 0.0]), np.array([1.0, 0.5, 0.2]))
    return ThresholdPlot(name, (values, values, values, values), curves, np.array([0, 0.5, 0]), (0.4, 0.5))


def test_charts_have_the_pages_colours_no_date_and_unique_ids() -> None:
    threshold = Threshold("Lynx", 0.4, 0.5, (0.4, 0.6), 0.5, 0.5, 0.4, (0.3, 0.5), 5, 5)
    bars = Bars("score", {"$\\frac<b>$": 0.5}, {})  # a dataset may have any name
    history = pd.DataFrame(
        {"epoch": [1.0, 2.0], "loss": [1.0, 0.5], "accuracy": [np.nan, 1.0], "open_set_score": [np.nan] * 2}
    )
    svgs = [
        metrics_chart(bars, bars, bars),
        threshold_chart(plot("queries-Lynx"), threshold, (0.1, 0.7), "words"),
        threshold_chart(plot("pseudo-queries-Lynx"), threshold, (0.1, 0.7), "words"),
        date_chart("Lynx", ["2020-01-01", "2021-06-30"], []),
        date_chart("Newt", ["2020-01-01"], ["2020-01-01"]),
        history_chart("0", history),
        rand_index_chart([bars, Bars("expected", {"Lynx": -0.1}, {"Lynx": (-0.2, 0.1)})]),
        companions_chart([bars, bars, bars]),
        size_chart("0", np.array([1, 2, 5])),
    ]
    ids = [one for svg in svgs for one in re.findall(r'\bid="([^"]*)"', svg)]
    assert len(ids) == len(set(ids))
    for svg in svgs:
        assert svg.startswith("<svg ")
        assert not any(stand_in in svg for stand_in in PAINT)
        assert not re.search(r"<(script|style|image|metadata)|http://(?!www.w3.org)", svg)
        assert 'role="img"' in svg
    assert "$\\frac&lt;b&gt;$" in svgs[0]
    assert "threshold" not in svgs[0]


@pytest.mark.parametrize(
    ("days", "labels"),
    [
        (["2020-01-01", "2021-06-30"], ["2020-01", "2020-07", "2020-12", "2021-06"]),
        (["2025-04-02", "2025-05-20"], ["2025-04-02", "2025-04-18", "2025-05-04", "2025-05-20"]),
        (["2025-04-02", "2025-04-03"], ["2025-04-02", "2025-04-03"]),
        (["2025-04-02"], ["2025-04"]),
    ],
)
def test_all_dates_of_an_axis_are_different(days: list[str], labels: list[str]) -> None:
    assert re.findall(r">(\d{4}-\d\d(?:-\d\d)?)<", date_chart("Lynx", days, [])) == labels


@pytest.mark.parametrize(
    ("most", "end"), [(0.0, 0.5), (0.5, 0.5), (0.51, 0.75), (7.4, 7.5), (31.0, 40.0), (900.0, 1000.0)]
)
def test_an_axis_of_numbers_ends_beyond_the_largest(most: float, end: float) -> None:
    svg = companions_chart([Bars("estimated", {"Lynx": most, "Newt": float("nan")}, {"Lynx": (0, 0)})])
    numbers = [float(number) for number in re.findall(r">(\d[\d.]*)<", svg)]
    assert max(numbers) == end
    assert f">{most:.1f}<" in svg
