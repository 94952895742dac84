"""Do the probabilities of the first candidates hold? Compared with the share that is right, bin by bin."""

from typing import NamedTuple

import numpy as np
import pandas as pd

__all__ = ["BINS", "Reliability", "reliability", "reliability_of"]

BINS = 5
"""Of equal count."""

LEAST = 10 * BINS
"""Queries: with fewer, each bin would say little."""


class Reliability(NamedTuple):
    """Probabilities next to what came true.

    Attributes:
        said, right: (B,) float, the mean probability and the share that is right of each bin, ascending.
        error: the expected calibration error, the mean over the queries of how far the two are apart (Naeini et al.
            2015, with bins of equal count).
        brier: the mean square of probability minus what came true (Brier 1950).
        base: the Brier score of one probability for all.
        queries: how many.
    """

    said: np.ndarray
    right: np.ndarray
    error: float
    brier: float
    base: float
    queries: int


def reliability(probability: np.ndarray, right: np.ndarray) -> Reliability:
    """Compare probabilities with what came true.

    Args:
        probability: (Q,) float, 0 to 1; Q > 0.
        right: (Q,) bool.
    """
    bins = [rows for rows in np.array_split(np.argsort(probability, kind="stable"), BINS) if len(rows)]
    said, true = (np.array([values[rows].mean() for rows in bins]) for values in (probability, right))
    return Reliability(
        said,
        true,
        float(np.average(np.abs(said - true), weights=[len(rows) for rows in bins])),
        float(np.square(probability - right).mean()),
        float(right.mean() * (1 - right.mean())),
        len(right),
    )


def reliability_of(candidates: pd.DataFrame, solution: pd.DataFrame) -> Reliability | None:
    """Return the reliability of the first candidates of the queries in a solution; a query without a candidate, or
    whose candidate has no probability, counts as 0. None with too few queries, or where no candidate has a probability.

    Args:
        candidates: columns image_id, rank, candidate, probability, see `Matches`.
        solution: columns image_id, identity.
    """
    first = candidates[candidates["rank"] == 1].set_index("image_id").reindex(solution["image_id"])
    if len(solution) < LEAST or first["probability"].isna().all():
        return None
    right = first["candidate"].to_numpy(object) == solution["identity"].to_numpy(object)
    return reliability(first["probability"].fillna(0).to_numpy(float), right.astype(bool))
