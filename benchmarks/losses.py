"""The ArcFace loss, forward and backward: the kit against pytorch-metric-learning.

K = 4 photographs of each individual of the batch, in 512 dimensions, out of 438 classes, as many as the competition has
turtles. Before anything is timed, both are given random batches in double precision: losses and gradients must agree to
1e-6, or the case ends with an error.
"""

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from harness import Contest, NotHereError, Options
from torch import Tensor, nn

from reid.models.losses import ClassificationLoss

try:
    from pytorch_metric_learning.losses import ArcFaceLoss
except ImportError:
    ArcFaceLoss = None

DIMENSIONS, CLASSES, PHOTOGRAPHS = 512, 438, 4
SCALE, MARGIN = 30.0, 0.5
AGREED = 1e-6
"""Of the largest value: how far losses and gradients may be apart in double precision."""

KIT, PEER = "reid", "pytorch-metric-learning"


def contests(options: Options) -> Iterator[Contest]:
    """Batches of 64 to 1024 photographs, on the GPU where there is one."""
    if ArcFaceLoss is None:
        raise NotHereError("pytorch-metric-learning is not here: pip install pytorch-metric-learning")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    apart = check_agreement()
    for photographs in (64,) if options.quick else (64, 256, 1024):
        ours, theirs = both_losses(torch.float32, device)
        embeddings, labels = batch(photographs, 0, torch.float32, device)
        yield Contest(
            size=photographs,
            label=f"ArcFace, {photographs} photographs on the {device}",
            peers={
                KIT: partial(step, ours, ours.weight, embeddings, labels),
                PEER: partial(step, theirs, theirs.W, embeddings, labels),
            },
            reference=PEER,
            items=photographs,
            notes=partial(agreement, apart),
            on_gpu=device == "cuda",
        )


def agreement(apart: float, results: object) -> dict[str, str]:
    """The note next to the kit's times."""
    return {KIT: f"20 batches in float64 agree within {apart:.1e}"}


def batch(photographs: int, seed: int, dtype: torch.dtype, device: str = "cpu") -> tuple[Tensor, Tensor]:
    """Embeddings (B, D) and labels (B,) of individuals with K photographs each."""
    seeded = torch.Generator().manual_seed(seed)
    individuals = torch.randperm(CLASSES, generator=seeded)[: max(1, photographs // PHOTOGRAPHS)]
    embeddings = torch.randn(len(individuals) * PHOTOGRAPHS, DIMENSIONS, generator=seeded, dtype=dtype)
    return embeddings.to(device).requires_grad_(), individuals.repeat_interleave(PHOTOGRAPHS).to(device)


def both_losses(dtype: torch.dtype, device: str) -> tuple[ClassificationLoss, Any]:
    """The two losses with the same class weights."""
    torch.manual_seed(0)
    ours = ClassificationLoss(DIMENSIONS, torch.zeros(CLASSES, dtype=torch.long), SCALE, MARGIN).to(device, dtype)
    settings = {"num_classes": CLASSES, "embedding_size": DIMENSIONS, "margin": math.degrees(MARGIN), "scale": SCALE}
    theirs = ArcFaceLoss(**settings).to(device, dtype)
    with torch.no_grad():
        theirs.W.copy_(ours.weight.T)
    return ours, theirs


def step(loss: nn.Module, weight: nn.Parameter, embeddings: Tensor, labels: Tensor) -> list[Tensor]:
    """Forward and backward; returns the loss and its gradients."""
    value = loss(embeddings, labels)
    return [value.detach(), *torch.autograd.grad(value, [embeddings, weight])]


def check_agreement() -> float:
    """The largest difference over random batches in double precision, as a share of the largest value."""
    ours, theirs = both_losses(torch.float64, "cpu")
    apart = 0.0
    for seed in range(20):
        embeddings, labels = batch(64, seed, torch.float64)
        results = step(ours, ours.weight, embeddings, labels), step(theirs, theirs.W, embeddings, labels)
        for one, other in zip(*results, strict=True):
            other = other.T if one.shape != other.shape else other  # the peer keeps its class weights upright
            apart = max(apart, float((one - other).abs().max() / other.abs().max()))
    if apart > AGREED:
        raise SystemExit(f"{KIT} and {PEER} are {apart:.1e} apart, more than {AGREED}")
    return apart


if __name__ == "__main__":
    print(f"{KIT} and {PEER} agree within {check_agreement():.1e}")
