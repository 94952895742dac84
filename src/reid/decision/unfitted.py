"""The kit's own pair score and cut, for photographs of which nobody has named any, in no dataset of the weights.

A logistic regression on features by rank, fitted on public photographs of cattle faces and nyala flanks, and the cut
that is best where a photograph has `COMPANIONS` others of its animal; `benchmarks/unfitted.py` makes the numbers. How
dense other photographs are can't be told without known ones, and another species may need another cut: what is made
with it is flagged `unfitted`, and a few answers of a person are worth more.
"""

from dataclasses import dataclass

import numpy as np

from reid.decision.cuts import FittedCut
from reid.decision.pair_scores import PairScorer
from reid.retrieval.photograph_pairs import PhotographPairs

__all__ = ["COMPANIONS", "CUES", "unfitted_cut"]

COMPANIONS = 1.4
"""An assumption: other photographs of the same animal that a photograph has on average."""


@dataclass(frozen=True)
class Numbers:
    """What was fitted for some cues.

    Attributes:
        bias, weights: of the logistic regression, by feature.
        cut: the best one.
    """

    bias: float
    weights: dict[str, float]
    cut: float


CUES = {
    "encoder": Numbers(
        -3.081,
        {"distance": -0.072, "distance cohort": 0.459, "distance rank": 0.17, "distance worse rank": -0.062},
        0.955,
    ),
    "local": Numbers(
        -2.833,
        {
            "local": -0.172,
            "local inliers": 0.457,
            "local inliers ahead": 0.035,
            "local less": -0.117,
            "local rank": -0.098,
            "local share": 0.301,
            "local worse rank": 0.178,
        },
        0.943,
    ),
    "encoder local": Numbers(
        -2.193,
        {
            "distance": -0.145,
            "distance cohort": 0.375,
            "distance rank": 0.174,
            "distance worse rank": -0.068,
            "local": -0.157,
            "local inliers": 0.402,
            "local inliers ahead": 0.038,
            "local less": 0.028,
            "local rank": 0.002,
            "local share": 0.087,
            "local worse rank": 0.111,
        },
        0.923,
    ),
}
"""By the cues that there are."""


def unfitted_cut(live: PhotographPairs) -> FittedCut:
    """Return the kit's own pair score and cut.

    Args:
        live: the pairs of the unknown photographs, `rank_normalised`.
    """
    cues = [cue for cue, feature in (("encoder", "distance"), ("local", "local")) if feature in live.features]
    numbers = CUES[" ".join(cues) or "encoder"]
    weights = np.array([numbers.weights.get(name, 0.0) for name in sorted(live.features)])
    scorer = PairScorer("unfitted", (lambda columns: columns @ weights + numbers.bias,), {})
    cut = numbers.cut
    return FittedCut(scorer, cut, (cut, cut), np.zeros(0), COMPANIONS, COMPANIONS)
