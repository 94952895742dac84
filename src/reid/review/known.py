"""The known photographs of each dataset, compared with each other as if nobody had named them: who is under two names,
and under which name there are two?

They are the reference photographs on which `discover` fits its cut, which no encoder that compares them has learned.
"""

import logging
from typing import NamedTuple

import numpy as np

from reid.config.recipe import Recipe
from reid.decision.artifact import Weights
from reid.decision.cuts import Source, fit_cut
from reid.decision.discover import Known
from reid.decision.pair_scores import LabelledPairs
from reid.decision.reference import companions_of
from reid.retrieval.cache import Cache
from reid.retrieval.photograph_pairs import compare
from reid.review.collection import Collection

__all__ = ["KnownPhotographs", "known_photographs"]

log = logging.getLogger(__name__)


class KnownPhotographs(NamedTuple):
    """Some of one dataset's known photographs."""

    collection: Collection
    names: np.ndarray
    """(N,) str, the individual on each."""


def known_photographs(weights: Weights, recipe: Recipe, cache: Cache | None = None) -> list[KnownPhotographs]:
    """Return the reference photographs of every dataset that has enough of them to fit a pair score on.

    Args:
        weights: the folder, calibrated by a version that keeps reference photographs.
        recipe: `matching`, `seed`.
        cache: of the weights folder.
    """
    known = Known(weights, recipe, cache)
    found = []
    for dataset in weights.datasets:
        source = known.source(dataset, whole=True)
        compared = _compared(source, recipe) if source else None
        if compared is None:
            log.warning("%s: too few known individuals with several photographs to compare them", dataset)
        else:
            found.append(compared)
    return found


def _compared(source: Source, recipe: Recipe) -> KnownPhotographs | None:
    reference = source.reference
    names = np.array(reference.identity)
    live = compare(source.pool, np.arange(len(names)))
    fitted = fit_cut([source], live, recipe.seed, companions=companions_of(names))
    if fitted is None:
        return None
    scored = fitted.scorer.held_out(LabelledPairs(live, np.char.add(f"{source.dataset} ", names)))
    none = np.zeros((0, 2), np.int64)
    image_ids = np.array(reference.image_id, dtype=object)
    pairs = np.stack([live.first, live.second], 1)
    return KnownPhotographs(Collection(source.dataset, image_ids, pairs, scored, none, none, fitted.value), names)
