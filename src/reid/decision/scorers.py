"""Scorers: from several cues to one dissimilarity of a query and an individual.

A pair is a query and one individual of its shortlist, with its cues: how far apart their embeddings are, how many local
features they share, how many of these lie in the same arrangement. A scorer makes one number of them, the
dissimilarity: the smaller, the more alike. Which scorer a dataset gets is decided by its own pseudo-queries
(`calibrate`).

What is fitted with scikit-learn is kept as plain numbers in `calibration.json` and read again with NumPy alone: no
pickle, and the kernel needs no scikit-learn of the same version.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reid.config.recipe import MOST_BACKBONES, MOST_EXTRACTORS, SCORERS
from reid.retrieval.candidates import LOCAL_CUES, CandidatePairs, best_and_runner_up, cue_of, distance_of
from reid.runtime.threads import map_in_threads

__all__ = ["SINGLE_CUES", "Scorer", "cross_fitted", "fit_scorer", "scorers_for"]

SINGLE_CUES = {
    "distance": False,
    **{distance_of(number): False for number in range(MOST_BACKBONES)},
    **{cue_of(cue, number): True for number in range(MOST_EXTRACTORS) for cue in LOCAL_CUES},
}
"""The cues, each a scorer of its own that fits nothing, and whether more of it is more alike. The other `SCORERS` are
"mean", WildFusion's mean of calibrated cues (Cermak et al. 2024, arXiv 2408.12934), here with weights; "logistic" and
"boosted", which are fitted on all features; and "ensemble", which averages these three."""

ENSEMBLE = ("mean", "logistic", "boosted")
"""Whose log-odds the scorer "ensemble" averages. They err on different animals: on real photographs it is ahead of each
of them (benchmarks/README.md)."""

QUARTERS = 4
"""The weights of "mean" are whole numbers of parts, of which so many make one."""

LEAST_CHANCE = 1e-4
"""Chances nearer to 0 or 1 are taken for so much, so that no scorer outvotes the others of an ensemble."""

FOLDS = 5
"""Of cross-fitting. An assumption: each scorer is fitted on four fifths of the individuals."""


@dataclass(frozen=True)
class Scorer:
    """How dissimilarities are made.

    Attributes:
        kind: one of `SCORERS` or `SINGLE_CUES`.
        fitted: its numbers, as JSON holds them.
    """

    kind: str
    fitted: dict[str, Any]

    @property
    def is_distance(self) -> bool:
        """Whether the dissimilarity is a distance of embeddings."""
        return not SINGLE_CUES.get(self.kind, True)

    @property
    def gives_probability(self) -> bool:
        """Whether 1 - dissimilarity is the probability, calibrated on the database, that a pair shows one animal."""
        return self.kind not in SINGLE_CUES

    def dissimilarity(self, pairs: CandidatePairs) -> np.ndarray:
        """Return the dissimilarity of each pair, (P,) float64: the smaller, the more alike.

        Distances are given as they are, the cues of keypoints give 1 / (1 + cue), the others one minus a
        probability that was calibrated on the database.
        """
        if self.kind in SINGLE_CUES:
            cue = np.asarray(pairs.features[self.kind])
            return 1 / (1 + cue) if SINGLE_CUES[self.kind] else cue
        if self.kind == "mean":
            chances = [weight * _read_curve(curve, pairs.features[cue]) for cue, (weight, curve) in self.fitted.items()]
            return np.asarray(1 - np.sum(chances, axis=0))
        if self.kind == "ensemble":
            return _averaged([Scorer(kind, fitted).dissimilarity(pairs) for kind, fitted in self.fitted.items()])
        columns = _columns(pairs)
        if self.kind == "logistic":
            logits = (columns - self.fitted["mean"]) / self.fitted["std"] @ self.fitted["weights"] + self.fitted["bias"]
        else:
            logits = self.fitted["bias"] + sum(_tree_values(tree, columns) for tree in self.fitted["trees"])
        return _one_minus_chance(logits)


def _one_minus_chance(log_odds: np.ndarray) -> np.ndarray:
    """Return one minus the logistic function, in a form that does not overflow."""
    result: np.ndarray = 0.5 * (1 - np.tanh(log_odds / 2))
    return result


def _averaged(dissimilarities: Sequence[np.ndarray]) -> np.ndarray:
    """Return the dissimilarity with the mean of several ones' log-odds, (P,) each."""
    chances = np.clip(1 - np.stack(dissimilarities), LEAST_CHANCE, 1 - LEAST_CHANCE)
    return _one_minus_chance(np.log(chances / (1 - chances)).mean(0))


def scorers_for(kinds: Sequence[str], cues: Sequence[str]) -> list[str]:
    """Return which of the kinds can be made of the cues that there are, the simplest first. Of several backbones each
    has a distance of its own, which competes where "distance" does."""
    several = len(set(SINGLE_CUES) & set(cues)) > 1
    possible = [kind for kind in SCORERS if kind in kinds and (kind in cues if kind in SINGLE_CUES else several)]
    own = [cue for cue in SINGLE_CUES if cue not in SCORERS and cue in cues and not SINGLE_CUES[cue]]
    return possible[:1] + own + possible[1:] if possible[:1] == ["distance"] else possible


def fit_scorer(kind: str, pairs: CandidatePairs, is_match: np.ndarray, weight: np.ndarray, seed: int) -> Scorer:
    """Fit a scorer of a kind.

    Args:
        kind: one of `SCORERS`.
        pairs: P pairs.
        is_match: (P,) bool, whether the pair's individual is the one on the query; both values must be among them.
        weight: (P,) float, what a pair counts.
        seed: of the boosted trees' samples.
    """
    if kind in SINGLE_CUES:
        return Scorer(kind, {})
    if kind == "mean":
        return Scorer(kind, _fit_mean(pairs, is_match, weight))
    if kind == "ensemble":
        return Scorer(kind, {part: fit_scorer(part, pairs, is_match, weight, seed).fitted for part in ENSEMBLE})
    columns = _columns(pairs)
    fitted = (
        _fit_logistic(columns, is_match, weight) if kind == "logistic" else _fit_trees(columns, is_match, weight, seed)
    )
    return Scorer(kind, fitted)


def cross_fitted(
    kind: str,
    pairs: CandidatePairs,
    is_match: np.ndarray,
    weight: np.ndarray,
    group: np.ndarray,
    seed: int,
    known: Mapping[str, np.ndarray] | None = None,
) -> np.ndarray:
    """Return the dissimilarity of pairs by scorers that were fitted on other individuals' queries.

    Args:
        kind, pairs, is_match, weight, seed: see `fit_scorer`.
        group: (P,) the individual on the query.
        known: what this has returned for other kinds; an ensemble is made of these where it can.

    Returns:
        (P,) float64.
    """
    if kind in SINGLE_CUES:
        return Scorer(kind, {}).dissimilarity(pairs)
    if kind == "ensemble" and known and set(ENSEMBLE) <= set(known):
        return _averaged([known[part] for part in ENSEMBLE])
    individuals = np.random.default_rng([seed, 3]).permutation(np.unique(group))
    fold_of = dict(zip(individuals.tolist(), (np.arange(len(individuals)) % FOLDS).tolist(), strict=True))
    fold = np.array([fold_of[individual] for individual in group.tolist()])

    def answered(number: int) -> np.ndarray | float:
        rest = fold != number
        if not is_match[rest].any() or is_match[rest].all():
            return 1.0
        return fit_scorer(kind, pairs.of(rest), is_match[rest], weight[rest], seed).dissimilarity(pairs.of(~rest))

    dissimilarity = np.ones(len(pairs))
    for number, values in enumerate(map_in_threads(answered, range(min(FOLDS, len(individuals))))):
        dissimilarity[fold == number] = values
    return dissimilarity


def _columns(pairs: CandidatePairs) -> np.ndarray:
    """Return what "logistic" and "boosted" are fitted on, (P, F) float64: the features on scales that suit a weighted
    sum, and how far each cue is ahead of the query's best other individual."""
    features = pairs.features
    columns = []
    for cue, more in SINGLE_CUES.items():
        if cue in features:
            strength = _strength(features[cue]) if more else -features[cue]
            columns += [strength, strength - _best_other(pairs.query, strength)]
    if "cohort" in features:
        columns.append(-features["cohort"])
    columns += [np.log(features["photographs"]), features["same side"], features["other side"]]
    return np.stack(columns, 1)


def _strength(counts: np.ndarray) -> np.ndarray:
    """Return counts and sums of votes on a scale on which twice as many are the same step, be they many or few."""
    logarithm: np.ndarray = np.log1p(counts)
    return logarithm


def _best_other(query: np.ndarray, strength: np.ndarray) -> np.ndarray:
    """Return the largest strength among the query's other pairs, (P,); its own where it is alone."""
    first, second = best_and_runner_up(query, -strength, int(query[-1]) + 1 if len(query) else 0)
    other = np.where(np.arange(len(query)) == first[query], second[query], first[query])
    result: np.ndarray = strength[np.where(other < 0, np.arange(len(query)), other)]
    return result


def _fit_mean(pairs: CandidatePairs, is_match: np.ndarray, weight: np.ndarray) -> dict[str, Any]:
    """Return, per cue, its weight and its curve from the cue to a probability."""
    cues = [cue for cue in SINGLE_CUES if cue in pairs.features]
    curves = {cue: _fit_curve(pairs.features[cue], is_match, weight, SINGLE_CUES[cue]) for cue in cues}
    chances = np.stack([_read_curve(curves[cue], pairs.features[cue]) for cue in cues])  # (C, P)

    def loss(share: tuple[int, ...]) -> float:
        chance = np.clip(np.array(share) / QUARTERS @ chances, 1e-3, 1 - 1e-3)
        return -float((weight * np.log(np.where(is_match, chance, 1 - chance))).sum())

    best = min(_compositions(QUARTERS, len(cues)), key=loss)
    return {cue: [share / QUARTERS, curves[cue]] for cue, share in zip(cues, best, strict=True)}


def _compositions(total: int, parts: int) -> Iterator[tuple[int, ...]]:
    """Yield all ways to write a number as a sum of so many whole numbers from 0 on, in their order."""
    if parts == 1:
        yield (total,)
        return
    for first in range(total + 1):
        yield from ((first, *rest) for rest in _compositions(total - first, parts - 1))


def _fit_curve(cue: np.ndarray, is_match: np.ndarray, weight: np.ndarray, more: bool) -> list[list[float]]:
    """Return an isotonic regression through the centres of its flat pieces (Oron and Flournoy 2017), as
    [cues, probabilities].

    Through the centres, because on a flat piece the better match could not be told from the worse one; for the same
    reason the ends rise a little.
    """
    from sklearn.isotonic import IsotonicRegression

    regression = IsotonicRegression(increasing=more).fit(cue, is_match, sample_weight=weight)
    chance = regression.predict(cue)
    levels, piece = np.unique(chance, return_inverse=True)
    total = np.bincount(piece, weight)
    centres = np.bincount(piece, weight * cue) / total
    lowest, highest = float(cue.min()), float(cue.max())
    ends = [lowest, highest] if more else [highest, lowest]
    places = np.concatenate([[ends[0]], centres, [ends[1]]])
    heights = np.concatenate([[levels[0] - 1e-3], levels, [levels[-1] + 1e-3]])
    order = np.lexsort((heights if more else -heights, places))
    return [places[order].tolist(), heights[order].tolist()]


def _read_curve(curve: list[list[float]], cue: np.ndarray) -> np.ndarray:
    return np.asarray(np.interp(cue, curve[0], curve[1]))


def _fit_logistic(columns: np.ndarray, is_match: np.ndarray, weight: np.ndarray) -> dict[str, Any]:
    from sklearn.linear_model import LogisticRegression

    mean = columns.mean(0)
    std = columns.std(0)
    std[std < 1e-9] = 1  # a column that never changes
    model = LogisticRegression(max_iter=1000).fit((columns - mean) / std, is_match, sample_weight=weight)
    return {
        "mean": mean.tolist(),
        "std": std.tolist(),
        "weights": model.coef_[0].tolist(),
        "bias": float(model.intercept_[0]),
    }


def _fit_trees(columns: np.ndarray, is_match: np.ndarray, weight: np.ndarray, seed: int) -> dict[str, Any]:
    """Return a few shallow trees, of random rows (Friedman 2002) and, at each branch, random features (Breiman 2001):
    there are hundreds of pseudo-queries, not millions. With all features they name no more animals
    (benchmarks/README.md)."""
    from sklearn.ensemble import GradientBoostingClassifier

    settings = {"n_estimators": 60, "max_depth": 3, "learning_rate": 0.1, "min_samples_leaf": 20}
    model = GradientBoostingClassifier(**settings, subsample=0.7, max_features="sqrt", random_state=seed)
    model.fit(columns, is_match, sample_weight=weight)
    share = float(np.average(is_match, weights=weight))
    trees = []
    for (regressor,) in model.estimators_:
        tree = regressor.tree_
        trees.append(
            {
                "feature": tree.feature.tolist(),
                "limit": tree.threshold.tolist(),
                "left": tree.children_left.tolist(),
                "right": tree.children_right.tolist(),
                "value": (model.learning_rate * tree.value[:, 0, 0]).tolist(),
            }
        )
    return {"bias": float(np.log(share / (1 - share))), "trees": trees}


def _tree_values(tree: dict[str, list[float]], columns: np.ndarray) -> np.ndarray:
    """Return the value of a regression tree for each row, (P,): left where the feature is not above the limit."""
    feature, limit, left, right, value = (
        np.array(tree[name]) for name in ("feature", "limit", "left", "right", "value")
    )
    node = np.zeros(len(columns), int)
    columns = columns.astype(np.float32)  # as scikit-learn compares them
    rows = np.arange(len(columns))
    while (inner := left[node] >= 0).any():
        below = columns[rows, feature[node]] <= limit[node]
        node = np.where(inner, np.where(below, left[node], right[node]), node)
    leaves: np.ndarray = value[node]
    return leaves
