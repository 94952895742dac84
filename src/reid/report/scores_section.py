"""Section "Scores": measured and expected scores, those of other recipes, and how well the candidates are ranked."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from reid.decision.metrics import (
    RetrievalScore,
    Score,
    mean_retrieval,
    overall,
    read_scores,
    read_submission,
    resampled,
    score_submission,
)
from reid.decision.thresholds import Threshold
from reid.errors import InputError
from reid.report.charts import Bars, metrics_chart, recipes_chart, reliability_chart
from reid.report.outcomes import OUTCOMES, Evaluation
from reid.report.reliability import Reliability

__all__ = ["OtherResult", "read_other_result", "scores_section"]

INTERVAL = (0.05, 0.95)
"""Quantiles: the ends of a 90% interval."""

METRICS = ("score", "baks", "baus")


class OtherResult(NamedTuple):
    """Another recipe's results on the same queries."""

    name: str
    scores: dict[str, Score]
    draws: dict[str, np.ndarray]
    """See `metrics.resampled`; empty where only the scores are known."""


def read_other_result(name: str, path: Path, solution: pd.DataFrame | None) -> OtherResult:
    """Read another recipe's results, from its submission or from what `reid score --json` printed.

    Raises:
        InputError: no such file, no file of these kinds, or a submission without a solution to score it by.
    """
    if path.suffix == ".json":
        return OtherResult(name, read_scores(path), {})
    if solution is None:
        raise InputError(
            f"{path}: expected --solution CSV with it, for a submission can only be compared where the answers are "
            "known; add it, or name the JSON file that `reid score --json` printed"
        )
    submission = read_submission(path)
    scores = score_submission(submission, solution, (str(path), "the solution"))
    return OtherResult(name, scores, resampled(submission, solution))


def scores_section(
    evaluation: Evaluation,
    others: Sequence[OtherResult],
    ranking: Mapping[str, RetrievalScore],
    reliability: Reliability | None = None,
) -> dict[str, Any]:
    """Return what the section shows.

    Args:
        evaluation: the answers with their scores.
        others: results of other recipes on the same queries.
        ranking: by dataset; empty where it was not measured.
        reliability: of the probabilities; None where it was not measured.
    """
    return {
        "headline": _headline(evaluation),
        "metrics_chart": _metrics_chart(evaluation),
        "others": [other.name for other in others],
        "recipes_chart": _recipes_chart(evaluation, others),
        "rows": _score_rows(evaluation, others),
        "ranking": _ranking_rows(ranking),
        "reliability": reliability,
        "reliability_chart": reliability_chart(reliability.said, reliability.right) if reliability else "",
    }


def _headline(evaluation: Evaluation) -> dict[str, Any]:
    """Return the page's first figures."""
    thresholds, outcomes = evaluation.thresholds.values(), evaluation.outcomes
    expected = [threshold.score for threshold in thresholds if threshold.score is not None]
    spreads = [_spread(*threshold.interval) for threshold in thresholds if threshold.interval is not None]
    counts = Counter(outcomes["outcome"])
    return {
        "score": overall(evaluation.scores) if evaluation.scores else None,
        "interval": _interval(_overall_draws(evaluation.draws)) if evaluation.draws else None,
        "expected": float(np.mean(expected)) if expected else None,
        # of the mean over the datasets, if they are independent
        "spread": float(np.sqrt(np.square(spreads).sum()) / len(spreads)) if spreads else None,
        "with_expected": len(expected),
        "datasets": len(thresholds),
        "outcomes": [(key, OUTCOMES[key], counts[key], counts[key] / len(outcomes)) for key in OUTCOMES if counts[key]],
        "rerouted": int(((outcomes["column"] != "") & (outcomes["column"] != outcomes["dataset"])).sum()),
    }


def _spread(low: float, high: float) -> float:
    """Return the standard deviation of a normal distribution with this 90% interval: it is 2 x 1.645 of them wide."""
    return (high - low) / 2 / 1.645


def _overall_draws(draws: Mapping[str, np.ndarray]) -> np.ndarray:
    """(R,) the mean score over the datasets, of each bootstrap sample."""
    mean: np.ndarray = np.mean([samples[:, 2] for samples in draws.values()], axis=0)
    return mean


def _interval(values: np.ndarray) -> tuple[float, float]:
    """Return the 90% interval of the values that are known; NaN twice where none is."""
    known = values[~np.isnan(values)]
    low, high = np.quantile(known, INTERVAL) if len(known) else (np.nan, np.nan)
    return float(low), float(high)


def _intervals(draws: Mapping[str, np.ndarray], metric: str) -> dict[str, tuple[float, float]]:
    column = ("baks", "baus", "score").index(metric)
    return {name: _interval(samples[:, column]) for name, samples in draws.items()}


def _metrics_chart(evaluation: Evaluation) -> str:
    """Draw score, BAKS and BAUS per dataset: measured where there is a solution, else expected."""
    scores, draws = evaluation.scores, evaluation.draws
    if scores:
        _, baks, baus = (_bars(metric, metric, scores, _intervals(draws, metric)) for metric in METRICS)
        return metrics_chart(_score_bars("score", scores, draws), baks, baus)
    thresholds = evaluation.thresholds
    ranges = {name: threshold.interval for name, threshold in thresholds.items() if threshold.interval is not None}
    score, baks, baus = (_bars(metric, metric, thresholds, ranges if metric == "score" else {}) for metric in METRICS)
    return metrics_chart(score, baks, baus)


def _bars(
    name: str,
    metric: str,
    figures: Mapping[str, Score] | Mapping[str, Threshold],
    ranges: Mapping[str, tuple[float, float]],
) -> Bars:
    return Bars(name, {dataset: getattr(figure, metric) for dataset, figure in figures.items()}, ranges)


def _score_bars(name: str, scores: Mapping[str, Score], draws: Mapping[str, np.ndarray]) -> Bars:
    """Return the score over all datasets, and per dataset."""
    bars = _bars(name, "score", scores, _intervals(draws, "score"))
    overall_range = {"overall": _interval(_overall_draws(draws))} if draws else {}
    return Bars(name, {"overall": overall(dict(scores)), **bars.values}, {**overall_range, **bars.ranges})


def _recipes_chart(evaluation: Evaluation, others: Sequence[OtherResult]) -> dict[str, Any]:
    """Compare the score with the expected one and with other recipes (the report's Figure 3)."""
    known = {name: threshold for name, threshold in evaluation.thresholds.items() if threshold.score is not None}
    ranges = {name: threshold.interval for name, threshold in known.items() if threshold.interval is not None}
    series = [_score_bars("this recipe", evaluation.scores, evaluation.draws)] if evaluation.scores else []
    series += [_bars("this recipe, expected", "score", known, ranges)] if known else []
    series += [_score_bars(*other) for other in others]
    return {"names": [bars.name for bars in series], "svg": recipes_chart(series) if len(series) > 1 else ""}


def _score_rows(evaluation: Evaluation, others: Sequence[OtherResult]) -> list[dict[str, Any]]:
    scores, thresholds = evaluation.scores, evaluation.thresholds
    intervals = {metric: _intervals(evaluation.draws, metric) for metric in METRICS}
    names = sorted({*scores, *thresholds, *(name for other in others for name in other.scores)})
    return [
        {
            "dataset": name,
            "measured": scores.get(name),
            "intervals": {metric: intervals[metric].get(name) for metric in METRICS},
            "expected": thresholds.get(name),
            "others": [_other_row(name, other, evaluation) for other in others if name in other.scores],
        }
        for name in names
    ]


def _other_row(name: str, other: OtherResult, evaluation: Evaluation) -> dict[str, Any]:
    """Return another recipe's figures on one dataset, and by how much this page's score is higher."""
    scores, draws = evaluation.scores, evaluation.draws
    paired = name in draws and name in other.draws
    return {
        "name": other.name,
        "score": other.scores[name],
        "difference": scores[name].score - other.scores[name].score if name in scores else None,
        "interval": _interval(draws[name][:, 2] - other.draws[name][:, 2]) if paired else None,
    }


def _ranking_rows(ranking: Mapping[str, RetrievalScore]) -> list[tuple[str, RetrievalScore]]:
    """Return a row per dataset and, of several, one for their mean."""
    rows = [(name or "(none)", ranking[name]) for name in sorted(ranking)]
    return [*rows, ("mean", mean_retrieval(ranking))] if len(rows) > 1 else rows
