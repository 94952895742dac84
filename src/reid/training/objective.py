"""What a network is trained to do: the losses of a recipe put together, with the weights that only training needs."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from reid.config.recipe import Recipe
from reid.models.losses import ClassificationLoss, batch_hard_triplet
from reid.models.networks import Network

__all__ = ["EncoderObjective", "Labels", "SpeciesObjective", "label_photographs"]


class Labels(NamedTuple):
    """What photographs show; (N,) int64 each, or (B,) for a batch."""

    target: Tensor
    """The class among those that are learned; -1 for none."""
    individual: Tensor

    def at(self, places: Tensor) -> "Labels":
        """Return the labels of some photographs."""
        return Labels(*(each[places] for each in self))


def label_photographs(targets: np.ndarray, individuals: np.ndarray) -> Labels:
    """Labels of all photographs of a catalogue.

    Args:
        targets: (N,) integers.
        individuals: (N,) str or integers.
    """
    return Labels(
        target=torch.from_numpy(targets),
        individual=torch.from_numpy(np.unique(individuals, return_inverse=True)[1]),
    )


class SpeciesObjective(nn.Module):
    """Cross-entropy of a classifier's own outputs."""

    def forward(self, network: Network, outputs: Tensor, labels: Labels) -> tuple[Tensor, dict[str, float]]:
        """Return the mean loss, and nothing to log beside it.

        Args:
            network: as for `EncoderObjective`.
            outputs: (B, classes) float32.
            labels: of the batch.
        """
        return functional.cross_entropy(outputs, labels.target), {}


class EncoderObjective(nn.Module):
    """Triplet loss, classification loss, or both.

    Both see the embedding, or, with a neck and where the recipe says so, the triplet loss sees what is before the neck:
    Luo et al. 2019 (arXiv 1903.07071, section 3.6) found the two to want different things.
    """

    def __init__(self, recipe: Recipe, size: int, groups: Tensor) -> None:
        """
        Args:
            recipe: the losses, their weights and what they mine.
            size: D.
            groups: (C,) integers, ascending: the dataset of each class.
        """
        super().__init__()
        self.recipe = recipe
        self.classification: ClassificationLoss | None = None
        if recipe.loss.classification != "none":
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(recipe.seed)
                self.classification = ClassificationLoss(
                    size,
                    groups,
                    scale=None if recipe.loss.classification == "softmax" else recipe.loss.scale,
                    margin=recipe.loss.arcface_margin if recipe.loss.classification == "arcface" else 0.0,
                )

    def forward(self, network: Network, vectors: Tensor, labels: Labels) -> tuple[Tensor, dict[str, float]]:
        """Return the weighted sum of the losses, and figures to log.

        Args:
            network: for its neck; it is trained along.
            vectors: (B, D) float32, what its head gives.
            labels: of the batch.
        """
        recipe = self.recipe
        finished = network.finish(vectors)
        figures = {"norm": float(vectors.detach().norm(dim=1).mean())}
        loss = vectors.new_zeros(())
        if recipe.loss.triplet_weight:
            triplet, mined = batch_hard_triplet(
                vectors if network.plan.neck and recipe.loss.triplet_before_neck else finished,
                labels.individual,
                None if recipe.loss.soft_margin else recipe.loss.margin,
                soft_scale=recipe.loss.soft_scale,
            )
            loss = loss + recipe.loss.triplet_weight * triplet
            figures |= {"triplet": float(triplet.detach()), "active": mined.active}
            figures |= {"positive": _mean(mined.positive), "negative": _mean(mined.negative)}
        if self.classification is not None:
            classification = self.classification(finished, labels.target)
            loss = loss + recipe.loss.classification_weight * classification
            figures["classification"] = float(classification.detach())
        return loss, figures


def _mean(values: Tensor) -> float:
    return float(values.mean()) if len(values) else float("nan")
