"""What calibration leaves of each dataset in `calibration.json`: scorer, threshold, and what is expected of them.

`calibrate` fits them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from reid.decision.artifact import CALIBRATION, Weights, upgrade_calibration
from reid.decision.probability import ProbabilityCurve
from reid.decision.scorers import Scorer
from reid.decision.thresholds import Threshold
from reid.errors import InputError
from reid.runtime.files import read_json

__all__ = [
    "Calibration",
    "Curve",
    "calibration_from",
    "distribution_shift",
    "fit_mixture",
    "load_calibrations",
]


@dataclass(frozen=True)
class Curve:
    """Expected BAKS, BAUS, score and share called new over the threshold, (T,) each; for pictures."""

    threshold: list[float]
    baks: list[float]
    baus: list[float]
    score: list[float]
    share_new: list[float]


@dataclass(frozen=True)
class Calibration:
    """How one dataset's queries are decided.

    Attributes:
        threshold: the decision.
        scorer: makes the dissimilarity that the threshold is about.
        unit: what the encoder's distances are divided by before the scorer sees them.
        scorer_scores: by scorer, the mean score over the splits, cross-fitted.
        curve: over the threshold.
        known, new: dissimilarity of the known and of the new pseudo-queries, ascending, by scorers that were fitted on
            other individuals, as the threshold's are.
        unmatchable: why the known photographs tell nobody apart, see `unmatchable`; then every query is called new.
        probability: that a query's best candidate is right, over its dissimilarity; None for what the scorer says.
    """

    threshold: Threshold
    scorer: Scorer
    unit: float
    scorer_scores: dict[str, float]
    curve: Curve
    known: list[float]
    new: list[float]
    unmatchable: str = ""
    probability: ProbabilityCurve | None = None


def distribution_shift(live: np.ndarray, calibration: Calibration) -> float:
    """Return how far the queries' dissimilarities are from any mixture of the known and the new pseudo-queries', 0 (the
    same) to 1, see `fit_mixture`; 0 where there is nothing to compare."""
    return fit_mixture(live, calibration)[0]


def fit_mixture(live: np.ndarray, calibration: Calibration) -> tuple[float, float | None]:
    """Return how far the queries' dissimilarities are from a mixture of the known and the new pseudo-queries', and the
    share of new ones in it.

    How many queries are new is not known, so the mixture that fits best is taken: the smallest Kolmogorov-Smirnov
    distance over the share of new ones.

    Args:
        live: (Q,) the dissimilarity of one dataset's queries to their best candidates.
        calibration: the dataset's.

    Returns:
        0 (the same) to 1, 0 where there is nothing to compare; and 0 to 1, None where there are no known or no new
        pseudo-queries.
    """
    live = np.sort(live[np.isfinite(live)])
    if not len(live) or not (calibration.known or calibration.new):
        return 0.0, None
    known, new = (
        np.array(dissimilarity or other)
        for dissimilarity, other in ((calibration.known, calibration.new), (calibration.new, calibration.known))
    )
    grid = np.unique(np.concatenate([live, known, new]))
    reached, by_known, by_new = (
        np.searchsorted(dissimilarity, grid, side="right") / len(dissimilarity) for dissimilarity in (live, known, new)
    )
    distances = {
        float(share): float(np.abs(reached - (share * by_new + (1 - share) * by_known)).max())
        for share in np.linspace(0, 1, 51)
    }
    share = min(distances, key=distances.__getitem__)
    return distances[share], share if calibration.known and calibration.new else None


def calibration_from(stored: Mapping[str, Any]) -> Calibration:
    """Return the inverse of `dataclasses.asdict`, from what JSON gives back.

    Raises:
        TypeError, KeyError: it is damaged.
    """
    threshold = dict(stored["threshold"])
    threshold["plateau"] = tuple(threshold["plateau"])
    for name in ("interval", "support"):
        threshold[name] = tuple(threshold[name]) if threshold.get(name) else None
    rebuilt = {
        "threshold": Threshold(**threshold),
        "scorer": Scorer(**stored["scorer"]),
        "curve": Curve(**stored["curve"]),
        "probability": ProbabilityCurve(**curve) if (curve := stored.get("probability")) else None,
    }
    return Calibration(**{**stored, **rebuilt})


def load_calibrations(weights: Weights) -> dict[str, Calibration]:
    """Return scorers and thresholds by dataset.

    Raises:
        InputError: the file is damaged, or lacks a dataset that was enrolled after it was written.
    """
    path = weights.folder / CALIBRATION
    try:
        stored = upgrade_calibration(read_json(path))
        calibrations = {dataset: calibration_from(one) for dataset, one in stored.items()}
    except (TypeError, KeyError, AttributeError, ValueError) as problem:
        raise InputError(f"{path}: it is damaged ({problem}); run `reid calibrate`") from None
    if missing := [dataset for dataset in weights.datasets if dataset not in calibrations]:
        raise InputError(f"{path}: expected thresholds for {', '.join(missing)}, found none; run `reid calibrate`")
    return calibrations
