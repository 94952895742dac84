"""The known photographs of each dataset, compared with each other as if nobody had named them: who is under two names,
and under which name there are two?

They are all photographs of the gallery, or where an encoder has learned their names, those on which `discover` fits its
cut, which no encoder that compares them has learned.
"""

import logging
from collections.abc import Collection as Some
from typing import NamedTuple

import numpy as np

from reid.config.recipe import Recipe
from reid.decision.artifact import Weights, gallery_file
from reid.decision.cuts import Source
from reid.decision.discover import Known, fit_pair_score
from reid.decision.pair_scores import LabelledPairs
from reid.decision.pseudo_queries import numbered
from reid.models.networks import read_plan
from reid.retrieval.cache import Cache
from reid.retrieval.gallery import Gallery, load_gallery
from reid.retrieval.photograph_pairs import PhotographPairs, Pool, compare, compares_all
from reid.review.collection import Collection

__all__ = ["KnownPhotographs", "known_photographs"]

log = logging.getLogger(__name__)


class KnownPhotographs(NamedTuple):
    """One dataset's known photographs, or some of them."""

    collection: Collection
    names: np.ndarray
    """(N,) str, the individual on each."""


def known_photographs(
    weights: Weights,
    recipe: Recipe,
    shown: Some[str],
    apart: Some[tuple[str, str]] = (),
    cache: Cache | None = None,
) -> list[KnownPhotographs]:
    """Return the known photographs of every dataset in which somebody has two.

    Args:
        weights: the folder, calibrated by a version that keeps reference photographs.
        recipe: `matching`, `seed`.
        shown: image_ids; other photographs of the galleries are left out.
        apart: pairs of image_ids that certainly show two animals.
        cache: of the weights folder.
    """
    known = Known(weights, recipe, cache)
    found = []
    for dataset in weights.datasets:
        gallery = load_gallery(weights.folder / gallery_file(dataset), recipe)
        learned = _has_learned(weights, dataset)
        source = known.source(dataset, learned or compares_all(len(gallery.identity), recipe))
        if not source:
            cause = known.calibrations[dataset].unmatchable or "no individual has two photographs to compare"
            log.warning("%s: nothing to compare: %s", dataset, cause)
            continue
        asked = set(shown) & set(source.reference.image_id if learned else gallery.embeddings.image_id)
        if learned and (others := len(set(shown) & set(gallery.embeddings.image_id)) - len(asked)):
            log.warning("%s: %d photographs are left out: the encoder has learned their names", dataset, others)
        image_ids, live = _unlearned(source, asked) if learned else _all(dataset, gallery, asked, known)
        found.append(_scored(dataset, gallery, image_ids, live, apart, known))
    return found


def _has_learned(weights: Weights, dataset: str) -> bool:
    """Return whether a dataset's encoder knows names: photographs of one name are then alike whoever is on them."""
    return weights.recipe.uses_encoder and bool(read_plan(weights.encoders[dataset]).trained_on)


def _unlearned(source: Source, asked: Some[str]) -> tuple[np.ndarray, PhotographPairs]:
    """Return reference photographs, (N,) str, and their pairs, by encoders that have not learned who is on them."""
    image_ids = np.array(source.reference.image_id, dtype=object)
    rows = np.flatnonzero(np.isin(image_ids, list(asked)))
    return image_ids[rows], compare(source.pool, rows)


def _all(dataset: str, gallery: Gallery, asked: Some[str], known: Known) -> tuple[np.ndarray, PhotographPairs]:
    """Return photographs of a gallery, (N,) str, without their mirror images, and their pairs."""
    image_ids = np.array(gallery.embeddings.image_id, dtype=object)
    rows = np.flatnonzero(np.isin(image_ids, list(asked)))
    rows = rows[np.sort(np.unique(image_ids[rows], return_index=True)[1])]
    kept = known.recipe.matching.neighbours + 1
    photographs, matcher = gallery.embeddings.of(rows), known.matcher(dataset)
    pool = Pool.of(photographs, known.recipe, f"comparing {dataset}", kept=kept, matcher=matcher)
    return image_ids[rows], compare(pool, np.arange(len(rows)))


def _scored(
    dataset: str,
    gallery: Gallery,
    image_ids: np.ndarray,
    live: PhotographPairs,
    apart: Some[tuple[str, str]],
    known: Known,
) -> KnownPhotographs:
    """Return one dataset's photographs (N,) with what the pair score says of their pairs."""
    fit = fit_pair_score(dataset, live, known)
    row_of = {image_id: row for row, image_id in reversed(list(enumerate(gallery.embeddings.image_id)))}
    rows = np.array([row_of[image_id] for image_id in image_ids], np.int64)
    names = np.array(gallery.identity)
    individuals = numbered(names)[rows]  # as the reference has them
    pairs = LabelledPairs(fit.transform(live), np.char.add(f"{dataset} ", individuals))
    place = {image_id: row for row, image_id in enumerate(image_ids.tolist())}
    different = [(place[one], place[other]) for one, other in apart if one in place and other in place]
    collection = Collection(
        dataset,
        image_ids,
        np.stack([live.first, live.second], 1),
        fit.cut.scorer.held_out(pairs),
        np.zeros((0, 2), np.int64),
        np.array(different, np.int64).reshape(-1, 2),
        fit.cut.value,
    )
    return KnownPhotographs(collection, names[rows])
