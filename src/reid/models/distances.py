"""Distances between embeddings."""

import torch
from torch import Tensor

__all__ = ["pairwise_distances"]


def pairwise_distances(x: Tensor, y: Tensor) -> Tensor:
    """Return the Euclidean distances between rows; the gradient of a zero distance is zero.

    Args:
        x: (N, D) float.
        y: (M, D) float.

    Returns:
        (N, M), never negative, never NaN for finite input.
    """
    squared = x.pow(2).sum(1)[:, None] + y.pow(2).sum(1)[None, :] - 2 * x @ y.T  # (N, M)
    is_zero = squared <= 0  # rounding can make it slightly negative
    return torch.where(is_zero, 0.0, torch.where(is_zero, 1.0, squared).sqrt())
