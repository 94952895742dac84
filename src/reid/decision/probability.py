"""From the dissimilarity of a query's best candidate to the probability that it is the animal on the query.

Platt scaling (Platt 1999): a logistic curve of two numbers, fitted on pseudo-queries whose dissimilarities are those of
scorers that had not seen their individuals. Known and new ones count half each.
"""

from dataclasses import dataclass

import numpy as np

from reid.decision.open_set import OpenSetQueries

__all__ = ["ProbabilityCurve", "fit_probability"]

SMALLEST = 1e-4
"""Of dissimilarities and what they lack of 1, before the logarithm."""


@dataclass(frozen=True)
class ProbabilityCurve:
    """The probability that a query's best candidate is the animal on it.

    Attributes:
        slope, intercept: of the log odds over the similarity, see `_similarity`.
        is_distance: dissimilarities are distances, which have no upper end; others lie between 0 and 1.
    """

    slope: float
    intercept: float
    is_distance: bool

    def of(self, dissimilarity: np.ndarray) -> np.ndarray:
        """Return the probabilities, (Q,) float64, of dissimilarities, (Q,)."""
        logits = self.slope * _similarity(dissimilarity, self.is_distance) + self.intercept
        probability: np.ndarray = 0.5 * (1 + np.tanh(logits / 2))
        return probability

    def in_unit(self, unit: float) -> "ProbabilityCurve":
        """Return the curve over distances that are `unit` times as long."""
        return ProbabilityCurve(self.slope, self.intercept + self.slope * float(np.log(unit)), self.is_distance)


def _similarity(dissimilarity: np.ndarray, is_distance: bool) -> np.ndarray:
    """Return the log odds of one minus the dissimilarity, or minus the logarithm of a distance."""
    near = np.maximum(dissimilarity, SMALLEST)
    similarity: np.ndarray = -np.log(near)
    return similarity if is_distance else similarity + np.log(np.maximum(1 - dissimilarity, SMALLEST))


def fit_probability(queries: OpenSetQueries, is_distance: bool) -> ProbabilityCurve | None:
    """Return the curve; None where no best candidate is right, or none is wrong.

    Args:
        queries: pseudo-queries, cross-fitted. Every individual weighs the same in its role, and both roles the same.
        is_distance: see `ProbabilityCurve`.
    """
    from sklearn.linear_model import LogisticRegression

    weight = np.zeros(len(queries.new))
    for role in (queries.new, ~queries.new):
        _, inverse, counts = np.unique(queries.individual[role], return_inverse=True, return_counts=True)
        weight[role] = len(queries.new) / 2 / max(1, len(counts)) / counts[inverse]
    seen = np.isfinite(queries.distance)
    right = queries.is_match[seen]
    if not right.any() or right.all():
        return None
    similarity = _similarity(queries.distance[seen], is_distance)
    model = LogisticRegression().fit(similarity[:, None], right, sample_weight=weight[seen])
    slope = float(model.coef_[0, 0])
    if slope > 0:
        return ProbabilityCurve(slope, float(model.intercept_[0]), is_distance)
    share = float(np.average(right, weights=weight[seen]))  # the nearer, the worse: nothing can be told from it
    return ProbabilityCurve(0.0, float(np.log(share / (1 - share))), is_distance)
