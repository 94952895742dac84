"""The page's thresholds: what they were fitted on, and what the queries make of them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from reid.decision.calibrate import Calibration
from reid.decision.metrics import Score
from reid.decision.predict import Prediction, has_shifted
from reid.decision.thresholds import Sweep
from reid.report.charts import (
    Contest,
    threshold_chart,
)
from reid.report.outcomes import live_sweep, oracle_threshold

__all__ = ["threshold_charts", "threshold_rows"]


def threshold_rows(
    judged: pd.DataFrame,
    scores: Mapping[str, Score],
    calibrations: Mapping[str, Calibration],
    prediction: Prediction,
) -> list[dict[str, Any]]:
    rows = []
    share_new = prediction.share_new()
    for name, calibration in calibrations.items():
        queries = judged[judged["dataset"] == name]
        solved = queries[queries["truth"] != ""]
        drift = prediction.drifts.get(name, 0.0)
        rows.append(
            {
                "dataset": name,
                "scorer": calibration.scorer.kind,
                "one": calibration.threshold,
                "live": scores[name].score if name in scores else None,
                "best": oracle_threshold(queries),
                "live_new": share_new.get(name),
                "truly_new": float(solved["truth_new"].mean()) if len(solved) else None,
                "drift": drift,
                "drifted": has_shifted(drift, len(queries)),
            }
        )
    return rows


def threshold_charts(
    judged: pd.DataFrame, calibration: Calibration, scores: Mapping[str, Score]
) -> list[tuple[str, str]]:
    """Return what the threshold was fitted on, and what the queries make of it, on the same axis."""
    threshold = calibration.threshold
    rows = judged[(judged["problem"] == "") & np.isfinite(judged["distance"])]
    distances = np.concatenate([rows["distance"], calibration.known, calibration.new, [threshold.value]]).astype(float)
    low, high = distances.min(), distances.max()
    room = 0.03 * (high - low) or 1e-6
    ends = (low - room, high + room)
    charts = []
    if calibration.known or calibration.new:
        contest, words = _calibration_curves(calibration), "the database's own photographs as queries"
        charts.append((words, threshold_chart(contest, threshold, ends, words)))
    if len(rows):
        contest, words = _live_curves(judged, rows, threshold.dataset, ends), "the queries"
        charts.append((words, threshold_chart(contest, threshold, ends, words)))
    return charts


def _calibration_curves(calibration: Calibration) -> Contest:
    curve = calibration.curve
    score = np.array(curve.score)
    columns = (np.array(column) for column in (curve.threshold, curve.baks, curve.baus, curve.share_new))
    nobody = np.zeros(0)
    return Contest(
        name=f"asked-{calibration.threshold.dataset}",
        groups=(np.array(calibration.known), nobody, np.array(calibration.new), nobody),
        curves=Sweep(*columns) if len(score) else None,
        score=score,
        best=(curve.threshold[int(score.argmax())], float(score.max())) if len(score) else None,
    )


def _live_curves(judged: pd.DataFrame, rows: pd.DataFrame, dataset: str, ends: tuple[float, float]) -> Contest:
    curves = live_sweep(judged)
    read = curves.at(np.linspace(*ends, 400)) if curves is not None else None
    distances, is_new = rows["distance"].to_numpy(float), rows["truth_new"].to_numpy(bool)
    solved, is_right = (rows["truth"] != "").to_numpy(bool), (rows["identity"] == rows["truth"]).to_numpy(bool)
    masks = (solved & is_right & ~is_new, solved & ~is_right & ~is_new, solved & is_new, ~solved)
    right, misled, new, unknown = (distances[mask] for mask in masks)
    return Contest(
        name=f"live-{dataset}",
        groups=(right, misled, new, unknown),
        curves=read,
        score=np.sqrt(read.baks * read.baus) if read is not None else np.zeros(0),
        best=oracle_threshold(judged),
    )
