"""The known photographs of each dataset, compared with each other as if nobody had named them: who is under two names,
and under which name there are two?

They are the reference photographs on which `discover` fits its cut, which no encoder that compares them has learned.
"""

import logging
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from reid.config.recipe import Recipe
from reid.decision.artifact import Weights, gallery_file
from reid.decision.cuts import Source
from reid.decision.discover import Known, fit_pair_score
from reid.decision.pair_scores import LabelledPairs
from reid.retrieval.cache import Cache
from reid.retrieval.gallery import gallery_names
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
    """Return the reference photographs of every dataset that has two of one individual.

    Args:
        weights: the folder, calibrated by a version that keeps reference photographs.
        recipe: `matching`, `seed`.
        cache: of the weights folder.
    """
    known = Known(weights, recipe, cache)
    found = []
    for dataset in weights.datasets:
        if source := known.source(dataset, whole=True):
            found.append(_compared(source, known, gallery_names(weights.folder / gallery_file(dataset))))
        else:
            log.warning("%s: nothing to compare, because no individual has two photographs", dataset)
    return found


def _compared(source: Source, known: Known, names: Mapping[str, str]) -> KnownPhotographs:
    """Return one dataset's reference photographs, compared with each other.

    Args:
        source: the photographs.
        known: what the weights know.
        names: the individual on each photograph of the gallery, by image_id.
    """
    reference = source.reference
    live = compare(source.pool, np.arange(len(reference)))
    fit = fit_pair_score(source.dataset, live, known)
    pairs = LabelledPairs(fit.transform(live), np.char.add(f"{source.dataset} ", reference.identity))
    scored, none = fit.cut.scorer.held_out(pairs), np.zeros((0, 2), np.int64)
    rows = np.stack([live.first, live.second], 1)
    image_ids = np.array(reference.image_id, dtype=object)
    individuals = np.array([names[image_id] for image_id in reference.image_id])
    return KnownPhotographs(Collection(source.dataset, image_ids, rows, scored, none, none, fit.cut.value), individuals)
