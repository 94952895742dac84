"""What training minimises: the batch-hard triplet loss, classification losses."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = [
    "ClassificationLoss",
    "MinedTriplets",
    "add_angular_margin",
    "batch_hard_triplet",
]


class MinedTriplets(NamedTuple):
    """The hardest triplets of a batch, one for each anchor that has a positive and a negative."""

    positive: Tensor
    """(A,) distance to the farthest photograph of the same individual."""
    negative: Tensor
    """(A,) distance to the nearest photograph of another individual."""

    @property
    def active(self) -> float:
        """The share of triplets in the wrong order, the negative no farther than the positive; 0 without triplets."""
        return float((self.negative <= self.positive).float().mean()) if len(self.positive) else 0.0


def batch_hard_triplet(
    embeddings: Tensor,
    labels: Tensor,
    margin: float | None = None,
    soft_scale: float = 1.0,
) -> tuple[Tensor, MinedTriplets]:
    """Return the batch-hard triplet loss (Hermans, Beyer, Leibe 2017, arXiv 1703.07737, equation 5).

    It is averaged over the anchors that have another photograph of their individual and one of another individual.

    Args:
        embeddings: (B, D) float.
        labels: (B,) integers, the individual of each row.
        margin: of the hinge, in units of distance; None for the soft margin log(1 + exp(p - n)).
        soft_scale: the factor of the distances in the soft margin.

    Returns:
        The mean loss, a differentiable scalar, 0 where no anchor has a triplet; and the triplets.
    """
    same = labels[:, None] == labels[None, :]
    pairs = same.clone().fill_diagonal_(False)
    has_triplet = pairs.any(1) & (~same).any(1)  # (B,)
    chosen = _mine(embeddings.detach(), pairs, same)
    positive, negative = (_row_distances(embeddings, embeddings[place])[has_triplet] for place in chosen)  # (A,)
    mined = MinedTriplets(positive.detach(), negative.detach())
    if not has_triplet.any():
        return embeddings.sum() * 0.0, mined
    gap = positive - negative
    losses = functional.softplus(soft_scale * gap) if margin is None else functional.relu(gap + margin)
    return losses.mean(), mined


@torch.no_grad()
def _mine(embeddings: Tensor, pairs: Tensor, same: Tensor) -> tuple[Tensor, Tensor]:
    """Return the place of each row's hardest positive and negative, (B,) each; any place for a row that has none.

    Mining has no gradient, only the distances of the mined triplets have: the backward pass costs B x D, and keeps no
    matrix of B x B.
    """
    # |x - y|^2 = |x|^2 + 2 (|y|^2 / 2 - xy), and |x|^2 is the same over a row
    relative_distances = torch.addmm(embeddings.pow(2).sum(1) / 2, embeddings, embeddings.T, alpha=-1)  # (B, B)
    positive = torch.where(pairs, relative_distances, -torch.inf).argmax(1)
    return positive, relative_distances.masked_fill_(same, torch.inf).argmin(1)


def _row_distances(x: Tensor, y: Tensor) -> Tensor:
    """Return the Euclidean distances (N,) between the rows of two (N, D); the gradient of a zero distance is zero."""
    squared = (x - y).pow(2).sum(1)
    is_zero = squared == 0
    return torch.where(is_zero, 0.0, torch.where(is_zero, 1.0, squared).sqrt())


class ClassificationLoss(nn.Module):
    """Cross-entropy over the individuals of the training set; its weights are dropped after the training.

    Where a network learns from several datasets, each is a group of classes: a batch of one dataset is compared with
    that dataset's individuals only.

    Attributes:
        groups: (C,) integers, ascending: the dataset of each class.
        scale: s of ArcFace; None for plain products without a bias (Luo et al. 2019, arXiv 1903.07071).
        margin: m of ArcFace, in radians; 0 for a cosine softmax.
    """

    groups: Tensor

    def __init__(
        self,
        size: int,
        groups: Tensor,
        scale: float | None = None,
        margin: float = 0.0,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(len(groups), size))
        nn.init.normal_(self.weight, std=0.001)  # as in Luo's code: at first every class is equally likely
        if scale is not None:
            nn.init.xavier_uniform_(self.weight)
        self.register_buffer("groups", groups)
        self.scale, self.margin = scale, margin

    def forward(self, vectors: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss.

        Args:
            vectors: (B, D) float.
            targets: (B,) integers, classes of one group.
        """
        first, last = (
            int(torch.searchsorted(self.groups, self.groups[targets[0]], right=right)) for right in (False, True)
        )
        targets = targets - first
        weight = self.weight[first:last]
        if self.scale is None:
            logits = vectors @ weight.T
        else:
            cosines = functional.normalize(vectors) @ functional.normalize(weight).T  # (B, C)
            logits = self.scale * add_angular_margin(cosines, targets, self.margin)
        return functional.cross_entropy(logits, targets)


def add_angular_margin(cosines: Tensor, targets: Tensor, margin: float) -> Tensor:
    """Make the target's angle larger: cos(θ) becomes cos(θ + m) (ArcFace: Deng et al. 2019, arXiv 1801.07698, eq. 3).

    Beyond θ = π - m, where cos(θ + m) would rise again, it goes on falling as cos(θ) - m sin(m), as in the authors'
    code.

    Args:
        cosines: (B, C) float, -1 to 1.
        targets: (B,) integers.
        margin: m, in radians, 0 to π.
    """
    target_cosine = cosines.gather(1, targets[:, None]).clamp(-1, 1)  # (B, 1)
    sines = (1 - target_cosine.pow(2)).clamp(min=1e-12).sqrt()  # the gradient of a root has no value at 0
    moved = target_cosine * math.cos(margin) - sines * math.sin(margin)
    moved = torch.where(target_cosine > math.cos(math.pi - margin), moved, target_cosine - margin * math.sin(margin))
    return cosines.scatter(1, targets[:, None], moved)
