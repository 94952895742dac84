"""Which photographs of the database stand for a collection of unknown animals, see `reference`."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from reid.config.recipe import Recipe
from reid.decision.artifact import encoder_file, fold_folder, gallery_file
from reid.decision.pseudo_queries import numbered
from reid.decision.reference import Reference, is_first
from reid.models.distances import pairwise_distances
from reid.models.networks import read_plan
from reid.retrieval.gallery import Gallery, load_gallery

__all__ = ["find_reference"]

PHOTOGRAPHS = 300
"""Of a dataset at most, out of which pseudo-collections are drawn. All their descriptors are compared with each other:
the time grows with the square of their number."""

OF_ONE = 12
"""Of one individual at most, or a few with hundreds would be all there is."""


def find_reference(
    folder: Path, dataset: str, recipe: Recipe, days: np.ndarray, duplicates: np.ndarray, first: Gallery
) -> Reference:
    """Choose photographs that no encoder, or not every one, has learned from.

    Args:
        folder: the weights folder, with the galleries of all folds.
        dataset: whose.
        recipe: `training.folds`, `matching.cues`, `seed`.
        days: (N,) str, the days of the gallery's photographs.
        duplicates: (N,) int64, the group of near-duplicates that each belongs to, see `near_duplicates`.
        first: the gallery, N photographs.
    """
    labels, image_ids = numbered(np.array(first.identity)), np.array(first.embeddings.image_id)
    folders = [fold_folder(folder, fold) for fold in range(recipe.training.folds)] if recipe.uses_encoder else []
    folders = [path for path in folders if (path / gallery_file(dataset)).exists()]
    met = _met([path / encoder_file(dataset) for path in folders], labels, image_ids)
    rows = _choose(labels, duplicates, image_ids, np.asarray(~met.all(0)), recipe.seed)
    distances = _unmet_distances([path / gallery_file(dataset) for path in folders], met, rows)
    return Reference(tuple(image_ids[rows]), tuple(labels[rows]), tuple(days[rows].tolist()), distances)


def _met(encoders: Sequence[Path], labels: np.ndarray, image_ids: np.ndarray) -> np.ndarray:
    """(folds, N) bool, whether each encoder has learned from any photograph of the individual; one row of False where
    there is no encoder."""
    if not encoders:
        return np.zeros((1, len(labels)), bool)
    learned = [np.isin(image_ids, read_plan(encoder).trained_on) for encoder in encoders]
    return np.stack([np.isin(labels, labels[mask]) for mask in learned])


def _choose(
    labels: np.ndarray, duplicates: np.ndarray, image_ids: np.ndarray, unmet: np.ndarray, seed: int
) -> np.ndarray:
    """Return the rows of `PHOTOGRAPHS` photographs, (n,) int64, ascending: individuals in random order, up to `OF_ONE`
    of each; one of near-duplicates and of mirror images."""
    rng = np.random.default_rng([seed, 5])
    usable = np.flatnonzero(unmet & is_first(duplicates) & is_first(image_ids))
    chosen: list[int] = []
    for individual in rng.permutation(np.unique(labels[usable])):
        own = usable[labels[usable] == individual]
        chosen += rng.permutation(own)[:OF_ONE].tolist()
        if len(chosen) >= PHOTOGRAPHS:
            break
    return np.sort(np.array(chosen[:PHOTOGRAPHS], np.int64))


def _unmet_distances(galleries: Sequence[Path], met: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """See `Reference.distances`."""
    if not galleries:
        return np.zeros((0, 0), np.float32)
    total, weight = np.zeros((len(rows), len(rows))), np.zeros((len(rows), len(rows)))
    for path, known in zip(galleries, met[:, rows], strict=True):
        vectors = load_gallery(path).embeddings.vectors[torch.from_numpy(rows)]
        distances = pairwise_distances(vectors, vectors).double().numpy()
        median = np.median(distances[~np.eye(len(rows), dtype=bool)]) if len(rows) > 1 else 1.0
        neither = ~known[:, None] & ~known
        one = known[:, None] ^ known
        counts = np.where(neither, 1e6, one)  # an encoder that has met neither outweighs any other
        total += counts * distances / (median or 1.0)
        weight += counts
    return np.asarray(total / np.maximum(weight, 1e-9), np.float32)
