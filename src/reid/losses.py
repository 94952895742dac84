"""Pairwise distances and the batch-hard triplet loss (Hermans, Beyer, Leibe 2017, arXiv 1703.07737)."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["Mined", "batch_hard_triplet", "pairwise_distances"]


class Mined(NamedTuple):
    """The batch-hard triplets of a batch: a value per anchor that has a positive and a negative."""

    positive: Tensor
    """(A,) distance to the farthest photograph of the same individual."""
    negative: Tensor
    """(A,) distance to the nearest photograph of another individual."""

    @property
    def active(self) -> float:
        """The share of triplets in the wrong order, the negative no farther than the positive; 0 without triplets."""
        return float((self.negative <= self.positive).float().mean()) if len(self.positive) else 0.0


def pairwise_distances(x: Tensor, y: Tensor) -> Tensor:
    """Euclidean distances between rows.

    The gradient of a zero distance is taken as zero, where the square root has none.

    Args:
        x: (N, D) float.
        y: (M, D) float.

    Returns:
        (N, M), never negative, never NaN for finite input.
    """
    squared = x.pow(2).sum(1)[:, None] + y.pow(2).sum(1)[None, :] - 2 * x @ y.T  # (N, M)
    is_zero = squared <= 0  # rounding can make it slightly negative
    return torch.where(is_zero, 0.0, torch.where(is_zero, 1.0, squared).sqrt())


def batch_hard_triplet(embeddings: Tensor, labels: Tensor, margin: float | None = None) -> tuple[Tensor, Mined]:
    """Batch-hard triplet loss, equation 5 of arXiv 1703.07737, averaged over the anchors that have a triplet.

    An anchor without another photograph of its individual, or without one of another individual, counts nothing:
    a positive is never invented.

    Args:
        embeddings: (B, D) float.
        labels: (B,) integers, the individual of each row.
        margin: the hard margin of the hinge, in units of distance; None for the soft margin log(1 + exp(p - n)).

    Returns:
        The mean loss (a scalar that can be differentiated; 0 when no anchor has a triplet) and what was mined.
    """
    distances = pairwise_distances(embeddings, embeddings)  # (B, B)
    same = labels[:, None] == labels[None, :]
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    has_triplet = (same & ~itself).any(1) & (~same).any(1)  # (B,)
    hardest_positive = distances.masked_fill(~same | itself, -torch.inf).amax(1)[has_triplet]  # (A,)
    hardest_negative = distances.masked_fill(same, torch.inf).amin(1)[has_triplet]  # (A,)
    mined = Mined(hardest_positive.detach(), hardest_negative.detach())
    if not has_triplet.any():
        return embeddings.sum() * 0.0, mined
    gap = hardest_positive - hardest_negative
    losses = functional.softplus(gap) if margin is None else functional.relu(gap + margin)
    return losses.mean(), mined
