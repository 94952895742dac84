"""The page's scores: measured, expected, and those of other recipes."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from reid.decision.metrics import Score, overall, read_scores, read_submission, resampled, score_submission
from reid.decision.thresholds import Threshold
from reid.errors import InputError
from reid.report.charts import (
    Bars,
    kinds_chart,
    score_chart,
)
from reid.report.outcomes import OUTCOMES

__all__ = ["OtherResult", "comparison_chart", "headline", "read_other_result", "score_bars", "score_rows"]

INTERVAL = (0.05, 0.95)
"""Nine of ten samples."""


class OtherResult(NamedTuple):
    """Another recipe's results on the same queries."""

    name: str
    scores: dict[str, Score]
    draws: dict[str, np.ndarray]
    """See `metrics.resampled`; empty where only the scores are known."""


def read_other_result(name: str, path: Path, solution: pd.DataFrame | None) -> OtherResult:
    """Another recipe's results, from its submission or from what `score --json` printed.

    Raises:
        InputError: no such file, no file of these kinds, or a submission without a solution to score it by.
    """
    if path.suffix == ".json":
        return OtherResult(name, read_scores(path), {})
    if solution is None:
        raise InputError(
            f"{path}: a submission can only be compared where the answers are known; add --solution CSV, or name the "
            "JSON file that `python -m reid score --json` printed"
        )
    submission = read_submission(path)
    scores = score_submission(submission, solution, (str(path), "the solution"))
    return OtherResult(name, scores, resampled(submission, solution))


class Headline(NamedTuple):
    """The page's first lines."""

    score: float | None
    interval: tuple[float, float] | None
    expected: float | None
    spread: float | None
    """Standard deviation of the mean over the datasets, if they are independent."""
    measured: int
    """Datasets with an expected score."""
    datasets: int
    outcomes: list[tuple[str, str, int, float]]
    """Key, words, count, share."""
    astray: int
    """Queries that were sent to another dataset's encoder than the one in their row."""


def headline(
    judged: pd.DataFrame,
    scores: Mapping[str, Score],
    draws: Mapping[str, np.ndarray],
    thresholds: Mapping[str, Threshold],
) -> Headline:
    expected = [threshold.score for threshold in thresholds.values() if threshold.score is not None]
    spreads = [spread for threshold in thresholds.values() if (spread := _spread(threshold)) is not None]
    counts = Counter(judged["outcome"])
    return Headline(
        score=overall(dict(scores)) if scores else None,
        interval=_middle(_overall_draws(draws)) if scores else None,
        expected=float(np.mean(expected)) if expected else None,
        spread=float(np.sqrt(np.square(spreads).sum()) / len(spreads)) if spreads else None,
        measured=len(expected),
        datasets=len(thresholds),
        outcomes=[(key, OUTCOMES[key], counts[key], counts[key] / len(judged)) for key in OUTCOMES if counts[key]],
        astray=int(((judged["column"] != "") & (judged["column"] != judged["dataset"])).sum()),
    )


def _spread(threshold: Threshold) -> float | None:
    """Return the standard deviation that an interval of nine tenths has if it is normal: 1.645 of them on either
    side."""
    return None if threshold.interval is None else (threshold.interval[1] - threshold.interval[0]) / 2 / 1.645


def _overall_draws(draws: Mapping[str, np.ndarray]) -> np.ndarray:
    """(R,) the mean score over the datasets, of each sample."""
    mean: np.ndarray = np.mean([samples[:, 2] for samples in draws.values()], axis=0)
    return mean


def _middle(values: np.ndarray) -> tuple[float, float]:
    """Return where nine of ten values lie; NaN twice where there are none."""
    known = values[~np.isnan(values)]
    low, high = np.quantile(known, INTERVAL) if len(known) else (np.nan, np.nan)
    return float(low), float(high)


class Intervals(NamedTuple):
    """Of one dataset's figures."""

    baks: tuple[float, float]
    baus: tuple[float, float]
    score: tuple[float, float]


def _intervals(draws: Mapping[str, np.ndarray]) -> dict[str, Intervals]:
    return {name: Intervals(*(_middle(column) for column in samples.T)) for name, samples in draws.items()}


def score_bars(
    scores: Mapping[str, Score], draws: Mapping[str, np.ndarray], thresholds: Mapping[str, Threshold]
) -> str:
    """Score, BAKS and BAUS: measured ones where there are any, else expected ones."""
    if scores:
        intervals = _intervals(draws)
        kinds = {
            kind: Bars(
                kind,
                {name: getattr(score, kind) for name, score in scores.items()},
                {name: getattr(ends, kind) for name, ends in intervals.items() if name in scores},
            )
            for kind in ("score", "baks", "baus")
        }
        total = _overall_bars("score", kinds["score"], overall(dict(scores)), draws)
        return kinds_chart(total, kinds["baks"], kinds["baus"])
    kinds = {
        kind: Bars(kind, {name: getattr(threshold, kind) for name, threshold in thresholds.items()}, {})
        for kind in ("score", "baks", "baus")
    }
    ranges = {name: threshold.interval for name, threshold in thresholds.items() if threshold.interval}
    return kinds_chart(kinds["score"]._replace(ranges=ranges), kinds["baks"], kinds["baus"])


def _overall_bars(name: str, bars: Bars, mean: float, draws: Mapping[str, np.ndarray]) -> Bars:
    """Bars with one for all datasets before them."""
    ranges = {"overall": _middle(_overall_draws(draws))} if draws else {}
    return Bars(name, {"overall": mean, **bars.values}, {**ranges, **bars.ranges})


def comparison_chart(
    scores: Mapping[str, Score],
    draws: Mapping[str, np.ndarray],
    thresholds: Mapping[str, Threshold],
    others: Sequence[OtherResult],
) -> dict[str, Any]:
    """Return the report's Figure 3: a recipe's bar next to what was expected of it and next to other recipes, per
    dataset."""
    expected = {name: threshold.score for name, threshold in thresholds.items() if threshold.score is not None}
    ranges = {name: threshold.interval for name, threshold in thresholds.items() if threshold.interval is not None}
    series = [_total_bars("this one", scores, draws)] if scores else []
    series += [Bars("this one, as expected", expected, ranges)] if expected else []
    series += [_total_bars(*other) for other in others]
    return {"names": [bars.name for bars in series], "svg": score_chart(series) if len(series) > 1 else ""}


def _total_bars(name: str, scores: Mapping[str, Score], draws: Mapping[str, np.ndarray]) -> Bars:
    """Return a recipe's score per dataset and over all."""
    values = {dataset: score.score for dataset, score in scores.items()}
    ranges = {dataset: intervals.score for dataset, intervals in _intervals(draws).items()}
    return _overall_bars(name, Bars(name, values, ranges), overall(dict(scores)), draws)


class OtherResultRow(NamedTuple):
    """Another recipe's figures on one dataset."""

    name: str
    score: Score
    ahead: float | None
    """By how much this page's score is higher."""
    interval: tuple[float, float] | None


def score_rows(
    scores: Mapping[str, Score],
    draws: Mapping[str, np.ndarray],
    thresholds: Mapping[str, Threshold],
    others: Sequence[OtherResult],
) -> list[dict[str, Any]]:
    intervals = _intervals(draws)
    names = sorted({*scores, *thresholds, *(name for other in others for name in other.scores)})
    return [
        {
            "dataset": name,
            "live": scores.get(name),
            "intervals": intervals.get(name),
            "expected": thresholds.get(name),
            "others": [_other_result_row(name, other, scores, draws) for other in others if name in other.scores],
        }
        for name in names
    ]


def _other_result_row(
    name: str, other: OtherResult, scores: Mapping[str, Score], draws: Mapping[str, np.ndarray]
) -> OtherResultRow:
    ahead = scores[name].score - other.scores[name].score if name in scores else None
    paired = name in draws and name in other.draws
    interval = _middle(draws[name][:, 2] - other.draws[name][:, 2]) if paired else None
    return OtherResultRow(other.name, other.scores[name], ahead, interval)
