"""Verdicts: what became of every query, and which of them a person should look at first."""

import numpy as np
import pandas as pd

from reid.data.catalogue import NEW_INDIVIDUAL
from reid.decision.pseudo_queries import OpenSetQueries
from reid.decision.thresholds import Sweep, sweep

__all__ = ["MARKS", "OUTCOMES", "classify_outcomes", "live_sweep", "oracle_threshold", "stratified_order"]

OUTCOMES = {
    "wrong": "wrong individual",
    "named": "new called known",
    "missed": "known called new",
    "right": "right",
    "open-named": "named",
    "open-new": "called new",
}
"""From the worst to the best; the last two are all that can be said of a query whose truth is not known."""


MARKS = dict(zip(OUTCOMES, "\u2717\u2691\u25cb\u2713\u25cf\u25cb", strict=True))
"""A sign per outcome, so that colour is not the only difference."""


def classify_outcomes(matches: pd.DataFrame, solution: pd.DataFrame | None) -> pd.DataFrame:
    """Matches with their outcomes, the worst first.

    Worst are confident faults: a wrong name far below the threshold, a known animal far above it. Among right answers
    and those whose truth is not known, the first are those nearest the threshold.

    Args:
        matches: see `submission.Prediction`.
        solution: columns image_id, identity, new_identity; None where it is not known.

    Returns:
        The matches with the columns truth ("" where not known), truth_new (bool), outcome (a key of `OUTCOMES`) and
        ratio (distance / threshold).
    """
    rows = matches.reset_index(drop=True)
    truth = pd.Series("", index=rows.index)
    truth_new = pd.Series(False, index=rows.index)
    if solution is not None:
        by_id = solution.set_index("image_id")
        truth = rows["image_id"].map(by_id["identity"]).fillna("").astype(object)
        truth_new = rows["image_id"].map(by_id["new_identity"]).eq(True)
    called_new = rows["answer"] == NEW_INDIVIDUAL
    outcome = np.select(
        [
            (truth == "") & called_new,
            truth == "",
            (truth_new & called_new) | (~truth_new & (rows["answer"] == truth)),
            truth_new,
            called_new,
        ],
        ["open-new", "open-named", "right", "named", "missed"],
        "wrong",
    )
    limits, distances = rows["threshold"].to_numpy(float), rows["distance"].to_numpy(float)
    ratio = np.divide(distances, limits, out=np.full(len(rows), np.inf), where=limits > 0)
    order = np.select([np.isin(outcome, ["wrong", "named"]), outcome == "missed"], [ratio, -ratio], np.abs(ratio - 1))
    order = np.where(rows["problem"] != "", -np.inf, order)  # what can't be read is looked at first
    ranks = np.array([list(OUTCOMES).index(one) for one in outcome])
    judged = rows.assign(truth=truth, truth_new=truth_new, outcome=outcome, ratio=ratio)
    return judged.iloc[np.lexsort((order, ranks))].reset_index(drop=True)


def stratified_order(judged: pd.DataFrame) -> list[int]:
    """(Q,) places in a table of `classify_outcomes`: the worst of every outcome and dataset first, then the second of
    each, ...

    Whoever shows only some of the queries takes the first ones.
    """
    turn = judged.groupby(["outcome", "dataset"]).cumcount().to_numpy()
    return [int(place) for place in np.argsort(turn, kind="stable")]


def live_sweep(judged: pd.DataFrame) -> Sweep | None:
    """BAKS and BAUS of one dataset's queries over the threshold; None where it can't be known."""
    rows = judged[judged["truth"] != ""]
    if rows["truth_new"].nunique() < 2:
        return None
    return sweep(
        OpenSetQueries(
            distance=np.where(rows["problem"] == "", rows["distance"].to_numpy(float), np.inf),
            is_match=(rows["identity"] == rows["truth"]).to_numpy(bool),
            individual=rows["truth"].to_numpy(str),
            new=rows["truth_new"].to_numpy(bool),
        )
    )


def oracle_threshold(judged: pd.DataFrame) -> tuple[float, float] | None:
    """Return the threshold that would have been best for one dataset's queries, and its score."""
    curves = live_sweep(judged)
    if curves is None or not np.isfinite(curves.edges).any():
        return None
    read = curves.at(curves.edges[np.isfinite(curves.edges)])
    product = np.sqrt(read.baks * read.baus)
    return float(read.edges[product.argmax()]), float(product.max())
