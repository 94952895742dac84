"""Which of several local features a dataset gets: the one that names its own photographs best, where that is sure."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from reid.decision.open_set import MIN_INDIVIDUALS

__all__ = ["ExtractorChoice", "SplitScores", "choose_extractors"]

SURE = 0.8
"""In so large a share of the splits a local feature must be the better one to be taken in place of another. A split is
scored on a third of the individuals, those left over, so the mean over splits is surer than this share."""


class SplitScores(NamedTuple):
    """What calibration expects of a dataset with one local feature."""

    scores: np.ndarray
    """(splits,) on individuals that were not fitted on; NaN where none were left over; the splits of all local features
    are the same."""
    individuals: int
    """Known or new ones among the pseudo-queries, whichever are fewer."""


class ExtractorChoice(NamedTuple):
    """The local feature of a dataset."""

    name: str
    own: bool
    """Whether the dataset's own photographs decided; else those of all datasets."""
    expected: dict[str, float]
    """The mean score of each; empty where nothing could be measured."""
    sure: float
    """In which share of the splits the chosen one is better than the best of the others; NaN likewise."""

    def __str__(self) -> str:
        scores = ", ".join(f"{name} {score:.3f}" for name, score in self.expected.items()) or "can't be measured"
        whose = "its own photographs" if self.own else "all datasets' photographs"
        better = "" if np.isnan(self.sure) else f"; here it is the best in {self.sure:.0%} of the splits"
        return f"local feature {self.name}, chosen by {whose}. Expected scores: {scores}{better}"


def choose_extractors(results: Mapping[str, Mapping[str, SplitScores]]) -> dict[str, ExtractorChoice]:
    """Return the local feature of each dataset.

    All datasets together choose first; a dataset with enough individuals departs from that where its own photographs
    are sure of another (see `SURE`). Where nothing is sure it is the first.

    Args:
        results: by dataset, by local feature, the preferred one first.
    """
    scores = {dataset: {name: one.scores for name, one in each.items()} for dataset, each in results.items()}
    measured = [each for each in scores.values() if _is_measured(each)]
    names = list(next(iter(scores.values()), {}))
    pooled = names[0] if names else ""
    if measured:
        pooled = _surest({name: _mean_of([each[name] for each in measured]) for name in names}, pooled)
    return {dataset: _choose(scores[dataset], each, pooled) for dataset, each in results.items()}


def _choose(scores: Mapping[str, np.ndarray], results: Mapping[str, SplitScores], pooled: str) -> ExtractorChoice:
    if not _is_measured(scores):
        return ExtractorChoice(pooled, False, {}, float("nan"))
    enough = min(one.individuals for one in results.values()) >= MIN_INDIVIDUALS
    name = _surest(scores, pooled) if enough else pooled
    expected = {other: float(np.nanmean(values)) for other, values in scores.items()}
    rivals = [_share_better(scores[name], scores[other]) for other in scores if other != name]
    return ExtractorChoice(name, enough and name != pooled, expected, min(rivals, default=float("nan")))


def _surest(scores: Mapping[str, np.ndarray], preferred: str) -> str:
    """Return the best, if it is surely better than the preferred one; else that."""
    best = max(scores, key=lambda name: float(np.nanmean(scores[name])))
    return best if _share_better(scores[best], scores[preferred]) >= SURE else preferred


def _share_better(one: np.ndarray, other: np.ndarray) -> float:
    """Return in which share of the splits one is better than the other; a draw counts half."""
    ahead = (one - other)[~np.isnan(one - other)]
    return float((ahead > 0).mean() + (ahead == 0).mean() / 2) if len(ahead) else 0.0


def _is_measured(scores: Mapping[str, np.ndarray]) -> bool:
    return bool(scores) and all(len(values) and not np.isnan(values).all() for values in scores.values())


def _mean_of(parts: list[np.ndarray]) -> np.ndarray:
    """Return the mean over datasets in each split, (splits,); of those that have a score in it."""
    length = min(map(len, parts))
    stacked = np.stack([part[:length] for part in parts])
    known = ~np.isnan(stacked)
    total = np.where(known, stacked, 0).sum(0)
    return np.where(known.any(0), total / np.maximum(known.sum(0), 1), np.nan)
