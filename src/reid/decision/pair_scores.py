"""Pair scores: the chance that two photographs of a collection show one animal, fitted on pseudo-collections.

Each model is fitted without the pairs of a fifth of the individuals. A pair of the pseudo-collections is scored by the
models that lack its individuals, a pair of unknown animals by all of them: scores on which a cut is fitted are on the
scale of those that it is applied to.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reid.retrieval.photograph_pairs import PhotographPairs

__all__ = ["KINDS", "LabelledPairs", "PairScorer", "fit_pair_scorer"]

KINDS = ("logistic", "boosted", "both")
"""Of pair scores; "both", the mean of the two others' logits, is what `discover` uses, the others are for benchmarks:
on cattle it is far ahead of the first, on nyala not behind it (benchmarks/README.md)."""

FOLDS = 5
"""Of the individuals."""

MOST = 60_000
"""Pairs that a model is fitted on: all of one animal, and a random choice of the others."""

Model = Callable[[np.ndarray], np.ndarray]
"""From columns (P, F) to logits (P,)."""


@dataclass(frozen=True)
class LabelledPairs:
    """The pairs of a pseudo-collection.

    Attributes:
        pairs: P of them.
        labels: (N,) str, the individual on each photograph; those of two datasets have different names.
    """

    pairs: PhotographPairs
    labels: np.ndarray

    @property
    def is_match(self) -> np.ndarray:
        """(P,) bool, whether the pair shows one animal."""
        same: np.ndarray = self.labels[self.pairs.first] == self.labels[self.pairs.second]
        return same


@dataclass(frozen=True)
class PairScorer:
    """Scores pairs of photographs.

    Attributes:
        kind: one of `KINDS`.
        models: one without each fold of the individuals.
        fold: the fold of each individual of the pseudo-collections.
    """

    kind: str
    models: tuple[Model, ...]
    fold: dict[str, int]

    def dissimilarity(self, pairs: PhotographPairs) -> np.ndarray:
        """Return one minus the chance that each pair shows one animal, (P,) float64, for animals that it was not
        fitted on."""
        if not len(pairs):
            return np.zeros(0)
        return _one_minus_chance(np.mean([model(pairs.columns) for model in self.models], axis=0))

    def held_out(self, collection: LabelledPairs) -> np.ndarray:
        """Return the same for a pseudo-collection, (P,): the mean of the models that lack either individual. Models
        were fitted without a fold of the individuals, and all of them without an individual that is in no fold."""
        pairs = collection.pairs
        if not len(pairs):
            return np.zeros(0)
        logits = np.stack([model(pairs.columns) for model in self.models])
        logits = np.concatenate([logits, logits.mean(0, keepdims=True)])
        fold = np.array([self.fold.get(label, len(self.models)) for label in collection.labels.tolist()])
        row = np.arange(len(pairs))
        return _one_minus_chance((logits[fold[pairs.first], row] + logits[fold[pairs.second], row]) / 2)


def _one_minus_chance(logits: np.ndarray) -> np.ndarray:
    """Return one minus the logistic function, in a form that does not overflow."""
    result: np.ndarray = 0.5 * (1 - np.tanh(logits / 2))
    return result


def fit_pair_scorer(kind: str, collections: Sequence[LabelledPairs], seed: int) -> PairScorer | None:
    """Fit a scorer of a kind.

    Args:
        kind: one of `KINDS`.
        collections: pseudo-collections.
        seed: of folds and samples.

    Returns:
        None where some fold leaves no pair of one animal, or no other, to learn from.
    """
    rng = np.random.default_rng([seed, 6])
    individuals = np.unique(np.concatenate([collection.labels for collection in collections]))
    fold = dict(zip(rng.permutation(individuals).tolist(), (np.arange(len(individuals)) % FOLDS).tolist(), strict=True))
    columns = np.concatenate([collection.pairs.columns for collection in collections if len(collection.pairs)])
    is_match = np.concatenate([collection.is_match for collection in collections])
    ends = [
        (collection.labels[collection.pairs.first], collection.labels[collection.pairs.second])
        for collection in collections
    ]
    one, other = (
        np.array([fold[label] for labels in side for label in labels.tolist()], int) for side in zip(*ends, strict=True)
    )
    models = []
    for number in range(min(FOLDS, len(individuals))):
        rest = np.flatnonzero((one != number) & (other != number))
        if not is_match[rest].any() or is_match[rest].all():
            return None
        rows, offset = _sample(rest, is_match, rng)
        models.append(_fit(kind, columns[rows], is_match[rows], offset, seed))
    return PairScorer(kind, tuple(models), fold)


def _sample(rows: np.ndarray, is_match: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Return at most about `MOST` of the rows, all of one animal and some of the others, and what must be added to
    logits that are fitted on them."""
    match, other = rows[is_match[rows]], rows[~is_match[rows]]
    chosen = rng.permutation(other)[: max(1, MOST - len(match))]
    return np.concatenate([match, chosen]), float(np.log(len(chosen) / len(other)))


def _fit(kind: str, columns: np.ndarray, is_match: np.ndarray, offset: float, seed: int) -> Model:
    if kind == "both":
        parts = [_fit(part, columns, is_match, offset, seed) for part in ("logistic", "boosted")]
        return lambda others: np.asarray(np.mean([part(others) for part in parts], axis=0))
    model = _logistic(columns, is_match) if kind == "logistic" else _trees(columns, is_match, seed)
    return lambda others: np.asarray(model.decision_function(others) + offset)


def _logistic(columns: np.ndarray, is_match: np.ndarray) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000)).fit(columns, is_match)


def _trees(columns: np.ndarray, is_match: np.ndarray, seed: int) -> Any:
    """Shallow ones, few: what tells animals apart must hold for animals that were never seen."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    settings = {
        "max_iter": 100,
        "max_depth": 3,
        "learning_rate": 0.06,
        "min_samples_leaf": 40,
        "l2_regularization": 1.0,
    }
    return HistGradientBoostingClassifier(**settings, random_state=seed).fit(columns, is_match)
