"""What became of every query (its outcome), what that is worth (scores), and which queries to show a person first."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from reid.data.catalogue import NEW_INDIVIDUAL
from reid.decision.calibration import Calibration
from reid.decision.matches import Matches
from reid.decision.metrics import Score, resampled, score_submission
from reid.decision.open_set import OpenSetQueries
from reid.decision.thresholds import Sweep, Threshold, sweep

__all__ = [
    "MARKS",
    "OUTCOMES",
    "Evaluation",
    "classify_outcomes",
    "evaluate",
    "oracle_threshold",
    "query_sweep",
    "stratified_order",
]

OUTCOMES = {
    "wrong": "wrong individual",
    "named": "new called known",
    "missed": "known called new",
    "right": "right",
    "open-named": "named",
    "open-new": "called new",
}
"""From the worst to the best; the last two are for queries whose true answer is not known."""

MARKS = dict(zip(OUTCOMES, "\u2717\u2691\u25cb\u2713\u25cf\u25cb", strict=True))
"""A sign per outcome, so that colour is not the only difference."""


@dataclass(frozen=True)
class Evaluation:
    """The answers, with all that is known of how good they are.

    Attributes:
        outcomes: a row per query, see `classify_outcomes`.
        scores: by dataset; empty without a solution.
        draws: by dataset, bootstrap samples of the scores, see `metrics.resampled`; empty without a solution.
        calibrations: by dataset, the threshold and the score expected of it.
        shifts: by dataset, how far its queries' dissimilarities are from those that the threshold was fitted on, see
            `calibrate.distribution_shift`.
    """

    outcomes: pd.DataFrame
    scores: dict[str, Score]
    draws: dict[str, np.ndarray]
    calibrations: Mapping[str, Calibration]
    shifts: Mapping[str, float]

    @property
    def thresholds(self) -> dict[str, Threshold]:
        return {name: calibration.threshold for name, calibration in self.calibrations.items()}

    @property
    def has_truth(self) -> bool:
        """Whether the true answer of any query is known."""
        return bool((self.outcomes["truth"] != "").any())


def evaluate(matches: Matches, solution: pd.DataFrame | None, calibrations: Mapping[str, Calibration]) -> Evaluation:
    """Compare the answers with the true ones, where these are known.

    Raises:
        InputError: the solution has a photograph that was not answered.
    """
    return Evaluation(
        outcomes=classify_outcomes(matches.wide, solution),
        scores={} if solution is None else score_submission(matches.submission, solution),
        draws={} if solution is None else resampled(matches.submission, solution),
        calibrations=calibrations,
        shifts=matches.shifts,
    )


def classify_outcomes(matches: pd.DataFrame, solution: pd.DataFrame | None) -> pd.DataFrame:
    """Return the matches with their outcomes, the worst first.

    Worst are confident errors: a wrong name far below the threshold, a known animal far above it. Right answers, and
    those whose truth is not known, begin with the least certain: those closest to the threshold.

    Args:
        matches: see `Matches.wide`.
        solution: columns image_id, identity, new_identity; None where it is not known.

    Returns:
        The matches with the columns truth ("" where not known), truth_new (bool), outcome (a key of `OUTCOMES`) and
        ratio (dissimilarity / threshold).
    """
    rows = _with_truth(matches.rename(columns={"distance": "dissimilarity"}).reset_index(drop=True), solution)
    limits, values = rows["threshold"].to_numpy(float), rows["dissimilarity"].to_numpy(float)
    ratio = np.divide(values, limits, out=np.full(len(rows), np.inf), where=limits > 0)
    outcome = _outcomes_of(rows)
    order = np.select([np.isin(outcome, ["wrong", "named"]), outcome == "missed"], [ratio, -ratio], np.abs(ratio - 1))
    order = np.where(rows["problem"] != "", -np.inf, order)  # unreadable queries come before all others
    severity = np.array([list(OUTCOMES).index(one) for one in outcome])
    sorted_rows = rows.assign(outcome=outcome, ratio=ratio).iloc[np.lexsort((order, severity))]
    return sorted_rows.reset_index(drop=True)


def _with_truth(rows: pd.DataFrame, solution: pd.DataFrame | None) -> pd.DataFrame:
    """Add the columns truth and truth_new."""
    if solution is None:
        return rows.assign(truth="", truth_new=False)
    by_id = solution.set_index("image_id")
    truth = rows["image_id"].map(by_id["identity"]).fillna("").astype(object)
    return rows.assign(truth=truth, truth_new=rows["image_id"].map(by_id["new_identity"]).eq(True))


def _outcomes_of(rows: pd.DataFrame) -> np.ndarray:
    """(Q,) keys of `OUTCOMES`."""
    truth, truth_new, called_new = rows["truth"], rows["truth_new"], rows["answer"] == NEW_INDIVIDUAL
    is_right = (truth_new & called_new) | (~truth_new & (rows["answer"] == truth))
    conditions = [(truth == "") & called_new, truth == "", is_right, truth_new, called_new]
    return np.select(conditions, ["open-new", "open-named", "right", "named", "missed"], "wrong")


def stratified_order(outcomes: pd.DataFrame) -> list[int]:
    """Return the places of a table of `classify_outcomes`, (Q,), so that any first few of them show something of
    everything: the worst of every outcome and dataset, then the second of each, and so on."""
    turn = outcomes.groupby(["outcome", "dataset"]).cumcount().to_numpy()
    return [int(place) for place in np.argsort(turn, kind="stable")]


def query_sweep(outcomes: pd.DataFrame) -> Sweep | None:
    """Return BAKS and BAUS of one dataset's queries over the threshold; None without both known and new ones."""
    rows = outcomes[outcomes["truth"] != ""]
    if rows["truth_new"].nunique() < 2:
        return None
    return sweep(
        OpenSetQueries(
            distance=np.where(rows["problem"] == "", rows["dissimilarity"].to_numpy(float), np.inf),
            is_match=(rows["identity"] == rows["truth"]).to_numpy(bool),
            individual=rows["truth"].to_numpy(str),
            new=rows["truth_new"].to_numpy(bool),
        )
    )


def oracle_threshold(outcomes: pd.DataFrame) -> tuple[float, float] | None:
    """Return the threshold that scores best on one dataset's queries, and its score; None where it can't be known."""
    curves = query_sweep(outcomes)
    if curves is None or not np.isfinite(curves.edges).any():
        return None
    at_edges = curves.at(curves.edges[np.isfinite(curves.edges)])
    score = np.sqrt(at_edges.baks * at_edges.baus)
    return float(at_edges.edges[score.argmax()]), float(score.max())
