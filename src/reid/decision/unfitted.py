"""The kit's own pair score and cut, for photographs of which nobody has named any, in no dataset of the weights.

A logistic regression on rank-normalised features, and cuts by density, fitted on public photographs of cattle faces and
nyala flanks (`benchmarks/unfitted.py` makes the numbers). Another species may need another cut: what is made with it is
flagged `unfitted`, and a few answers of a person are worth more.
"""

from dataclasses import dataclass

import numpy as np

from reid.decision.cuts import FittedCut, confident_companions
from reid.decision.pair_scores import PairScorer
from reid.retrieval.photograph_pairs import PhotographPairs

__all__ = ["CUES", "unfitted_cut"]


@dataclass(frozen=True)
class Numbers:
    """What was fitted for some cues.

    Attributes:
        bias, weights: of the logistic regression, by feature.
        levels: (companions, confident companions, cut) of pseudo-collections of one density each, ascending.
    """

    bias: float
    weights: dict[str, float]
    levels: tuple[tuple[float, float, float], ...]


CUES: dict[str, Numbers] = {}
"""By the cues that there are: "encoder", "local" or "encoder local"."""


def unfitted_cut(live: PhotographPairs) -> FittedCut:
    """Return the kit's own pair score and cut.

    Args:
        live: the pairs of the unknown photographs, rank-normalised.
    """
    cues = [cue for cue, feature in (("encoder", "distance"), ("local", "local")) if feature in live.features]
    numbers = CUES[" ".join(cues) or "encoder"]
    names = sorted(live.features)
    weights = np.array([numbers.weights.get(name, 0.0) for name in names])
    scorer = PairScorer("unfitted", (lambda columns: columns @ weights + numbers.bias,), {})
    companions, confident, cuts = np.array(numbers.levels).T
    found = confident_companions(live.size, scorer.dissimilarity(live))
    expected = float(np.interp(found, confident, companions))
    value = float(np.interp(expected, companions, cuts))
    nothing = np.zeros(0)
    return FittedCut(scorer, value, (value, value), nothing, float("nan"), expected, expected, {}, nothing)
