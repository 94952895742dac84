"""What a network is trained to do: the losses of a recipe together, with the weights that only training needs."""

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
    """Return the labels of all photographs of a catalogue.

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
        """Return the mean loss, and no further figures.

        Args:
            network: as for `EncoderObjective`.
            outputs: (B, classes) float32.
            labels: of the batch.
        """
        return functional.cross_entropy(outputs, labels.target), {}


class EncoderObjective(nn.Module):
    """Triplet loss, classification loss, or both.

    Both see the embedding. With a neck, `triplet_before_neck` lets the triplet loss see the vectors before it, as Luo
    et al. 2019 (arXiv 1903.07071, section 3.6) do.
    """

    def __init__(self, recipe: Recipe, size: int, groups: Tensor) -> None:
        """
        Args:
            recipe: the losses and their weights.
            size: D, of an embedding.
            groups: (C,) integers, ascending: the dataset of each class.
        """
        super().__init__()
        kind, config = recipe.loss.classification, recipe.loss
        self.recipe = recipe
        self.classification: ClassificationLoss | None = None
        if kind != "none":
            scale = None if kind == "softmax" else config.scale
            margin = config.arcface_margin if kind == "arcface" else 0.0
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(recipe.seed)
                self.classification = ClassificationLoss(size, groups, scale, margin)

    def forward(self, network: Network, vectors: Tensor, labels: Labels) -> tuple[Tensor, dict[str, float]]:
        """Return the weighted sum of the losses, and figures to log.

        Args:
            network: for its neck, which is trained too.
            vectors: (B, D) float32, the head's outputs.
            labels: of the batch.
        """
        config, embeddings = self.recipe.loss, network.finish(vectors)
        figures = {"norm": float(vectors.detach().norm(dim=1).mean())}
        loss = vectors.new_zeros(())
        if config.triplet_weight:
            triplet, mined = batch_hard_triplet(
                vectors if network.plan.neck and config.triplet_before_neck else embeddings,
                labels.individual,
                None if config.soft_margin else config.margin,
                soft_scale=config.soft_scale,
            )
            loss = loss + config.triplet_weight * triplet
            figures |= {"triplet": float(triplet.detach()), "active": mined.active}
            figures |= {"positive": _mean(mined.positive), "negative": _mean(mined.negative)}
        if self.classification is not None:
            classification = self.classification(embeddings, labels.target)
            loss = loss + config.classification_weight * classification
            figures["classification"] = float(classification.detach())
        return loss, figures


def _mean(values: Tensor) -> float:
    return float(values.mean()) if len(values) else float("nan")
