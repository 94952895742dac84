"""How good an encoder is on individuals that it has not learned from, which decides when to stop."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from reid.config.recipe import Recipe
from reid.config.settings import with_settings
from reid.decision.calibrate import fit_calibrations
from reid.decision.pseudo_queries import HeldOut, match_pseudo_queries, select_pseudo_queries
from reid.models.distances import pairwise_distances
from reid.retrieval.gallery import Gallery, GalleryFeatures

__all__ = ["describe_collapse", "open_set_score", "rank1_accuracy"]


def rank1_accuracy(vectors: Tensor, labels: np.ndarray) -> float | None:
    """Return the share of photographs whose nearest other photograph shows the same individual.

    Args:
        vectors: (N, D) float.
        labels: (N,) integers; only individuals with two photographs or more count.

    Returns:
        0 to 1; None when no individual has two photographs.
    """
    has_partner = np.bincount(labels)[labels] > 1 if len(labels) else np.zeros(0, dtype=bool)
    if not has_partner.any():
        return None
    nearest = pairwise_distances(vectors, vectors).fill_diagonal_(torch.inf).argmin(1).numpy()
    return float((labels[nearest] == labels)[has_partner].mean())


def open_set_score(vectors: Tensor, labels: Sequence[str], days: Sequence[str], recipe: Recipe) -> float | None:
    """Return the competition's score among these photographs, at the threshold that is best for them.

    In each of many splits some individuals leave the gallery and are queries as new ones, the others as known ones.

    Args:
        vectors: (N, D) float.
        labels: (N,) individuals.
        days: (N,) "" where there is none.
        recipe: `calibration` and `seed`.

    Returns:
        0 to 1; None where no individual can be known, or none new.
    """
    if len(set(labels)) < 2:
        return None
    everyone = np.ones(len(labels), dtype=bool)
    held_out = HeldOut(individuals=everyone, photographs=~everyone)
    selection = select_pseudo_queries(np.array(labels), np.array(days), np.arange(len(labels)), held_out, recipe)
    gallery = Gallery(GalleryFeatures(tuple(map(str, range(len(labels)))), vectors), tuple(labels))
    by_distance = with_settings(recipe, {"matching.cues": ("encoder",), "calibration.scorers": ("distance",)})
    pairs = match_pseudo_queries(gallery, selection, "the held-out photographs", by_distance).in_units()
    # of so few individuals none can be kept aside to test the threshold on: the best of all counts
    return max(fit_calibrations({"validation": pairs}, by_distance)["validation"].curve.score, default=None)


def describe_collapse(history: Sequence[dict[str, float]], recipe: Recipe) -> str:
    """Return a warning when a triplet loss has driven all photographs onto one point; "" when it has not.

    There every distance is zero, so that the loss rests at log(1 + exp(0)) = ln 2, or at the margin of the hinge, and
    hardly any gradient is left (reported in VisualComputingInstitute/triplet-reid#4 and #30).

    Args:
        history: a row per epoch, with the means of the triplet loss and of the distance to the negatives.
        recipe: the loss.
    """
    rows = [row for row in history if not math.isnan(row.get("negative", math.nan))]
    resting_loss = math.log(2) if recipe.loss.soft_margin else recipe.loss.margin
    latest = rows[-3:]
    is_stuck = len(rows) > 3 and all(abs(row["triplet"] - resting_loss) < 0.02 * resting_loss for row in latest)
    if not is_stuck or latest[-1]["negative"] > 0.1 * rows[0]["negative"]:
        return ""
    first, last = rows[0]["negative"], latest[-1]["negative"]
    return (
        f"the triplets have collapsed: the loss stays at {resting_loss:.3f}, while the distance to the nearest other "
        f"individual shrank from {first:.3g} to {last:.3g}. Nothing is learned from here on: start over with --fresh "
        f"and --set training.learning_rate={recipe.training.learning_rate / 10:g} --set training.warmup=0.2, or with a "
        "second loss: --set loss.classification=softmax"
    )
