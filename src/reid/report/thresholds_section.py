"""Section "Thresholds": each dataset's threshold, on the pseudo-queries that it was fitted on and on the queries."""

from typing import Any

import numpy as np
import pandas as pd

from reid.data.catalogue import NEW_INDIVIDUAL
from reid.decision.calibration import Calibration
from reid.decision.decide import has_shifted
from reid.decision.thresholds import Sweep
from reid.report.charts import ThresholdPlot, threshold_chart
from reid.report.outcomes import Evaluation, oracle_threshold, query_sweep

__all__ = ["thresholds_section"]


def thresholds_section(evaluation: Evaluation) -> dict[str, Any]:
    """Return what the section shows."""
    by_dataset = {name: evaluation.outcomes[evaluation.outcomes["dataset"] == name] for name in evaluation.calibrations}
    return {
        "rows": [_row(name, outcomes, evaluation) for name, outcomes in by_dataset.items()],
        "charts": [(name, _charts(outcomes, evaluation.calibrations[name])) for name, outcomes in by_dataset.items()],
        "scorers": [
            (name, calibration.scorer.kind, calibration.scorer_scores)
            for name, calibration in evaluation.calibrations.items()
            if len(calibration.scorer_scores) > 1
        ],
    }


def _row(name: str, outcomes: pd.DataFrame, evaluation: Evaluation) -> dict[str, Any]:
    """Return one dataset's row; `outcomes` are its queries."""
    calibration, score = evaluation.calibrations[name], evaluation.scores.get(name)
    with_truth = outcomes[outcomes["truth"] != ""]
    shift = evaluation.shifts.get(name, 0.0)
    return {
        "dataset": name,
        "scorer": calibration.scorer.kind,
        "threshold": calibration.threshold,
        "score": score.score if score else None,
        "oracle": oracle_threshold(outcomes),
        "called_new": float((outcomes["answer"] == NEW_INDIVIDUAL).mean()) if len(outcomes) else None,
        "truly_new": float(with_truth["truth_new"].mean()) if len(with_truth) else None,
        "shift": shift,
        "has_shifted": has_shifted(shift, len(outcomes)),
    }


def _charts(outcomes: pd.DataFrame, calibration: Calibration) -> list[tuple[str, str]]:
    """Return title and chart of the pseudo-queries and of the queries of one dataset, on the same axis."""
    threshold = calibration.threshold
    readable = outcomes[(outcomes["problem"] == "") & np.isfinite(outcomes["dissimilarity"])]
    shown = [readable["dissimilarity"], calibration.known, calibration.new, [threshold.value]]
    values = np.concatenate(shown).astype(float)
    low, high = values.min(), values.max()
    margin = 0.03 * (high - low) or 1e-6
    ends = (low - margin, high + margin)
    charts = []
    if calibration.known or calibration.new:
        plot, title = _pseudo_query_plot(calibration), "the database's own photographs as queries"
        charts.append((title, threshold_chart(plot, threshold, ends, title)))
    if len(readable):
        plot, title = _query_plot(outcomes, readable, threshold.dataset, ends), "the queries"
        charts.append((title, threshold_chart(plot, threshold, ends, title)))
    return charts


def _pseudo_query_plot(calibration: Calibration) -> ThresholdPlot:
    curve = calibration.curve
    score = np.array(curve.score)
    columns = (np.array(column) for column in (curve.threshold, curve.baks, curve.baus, curve.share_new))
    none = np.zeros(0)
    return ThresholdPlot(
        name=f"pseudo-queries-{calibration.threshold.dataset}",
        groups=(np.array(calibration.known), none, np.array(calibration.new), none),
        curves=Sweep(*columns) if len(score) else None,
        score=score,
        best=(curve.threshold[int(score.argmax())], float(score.max())) if len(score) else None,
    )


def _query_plot(
    outcomes: pd.DataFrame, readable: pd.DataFrame, dataset: str, ends: tuple[float, float]
) -> ThresholdPlot:
    sweep = query_sweep(outcomes)
    curves = sweep.at(np.linspace(*ends, 400)) if sweep is not None else None
    dissimilarity, is_new = readable["dissimilarity"].to_numpy(float), readable["truth_new"].to_numpy(bool)
    has_truth = (readable["truth"] != "").to_numpy(bool)
    is_match = (readable["identity"] == readable["truth"]).to_numpy(bool)
    known = has_truth & ~is_new
    return ThresholdPlot(
        name=f"queries-{dataset}",
        groups=(
            dissimilarity[known & is_match],
            dissimilarity[known & ~is_match],
            dissimilarity[has_truth & is_new],
            dissimilarity[~has_truth],
        ),
        curves=curves,
        score=np.sqrt(curves.baks * curves.baus) if curves is not None else np.zeros(0),
        best=oracle_threshold(outcomes),
    )
