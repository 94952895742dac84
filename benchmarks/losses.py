"""Classification losses and easy positives, forward and backward: the kit against pytorch-metric-learning.

K = 4 photographs of each individual of the batch, in 512 dimensions, out of 438 classes, as many as the competition has
turtles. Before anything is timed, both are given random batches in double precision: losses and gradients must agree to
1e-6, or the case ends with an error.
"""

import math
from collections.abc import Callable, Iterator
from functools import partial

import torch
from harness import Contest, NotHereError, Options
from torch import Tensor, nn

from reid.models.losses import ClassificationLoss, batch_hard_triplet

try:
    from pytorch_metric_learning.distances import LpDistance
    from pytorch_metric_learning.losses import ArcFaceLoss, SubCenterArcFaceLoss, TripletMarginLoss
    from pytorch_metric_learning.miners import BatchEasyHardMiner
    from pytorch_metric_learning.reducers import MeanReducer
except ImportError:
    LpDistance = None

DIMENSIONS, CLASSES, PHOTOGRAPHS = 512, 438, 4
SCALE, MARGIN, CENTRES = 30.0, 0.5, 3
AGREED = 1e-6
"""Of the largest value: how far losses and gradients may be apart in double precision."""

KIT, PEER = "reid", "pytorch-metric-learning"

Loss = Callable[[Tensor, Tensor], Tensor]


def agreement(apart: float, results: object) -> dict[str, str]:
    """What stands beside the kit's times."""
    return {KIT: f"20 batches in float64 agree within {apart:.1e}"}


def contests(options: Options) -> Iterator[Contest]:
    """Batches of 64 to 1024 photographs for each loss, on the GPU where there is one."""
    if LpDistance is None:
        raise NotHereError("pytorch-metric-learning is not here: pip install pytorch-metric-learning")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for name, pair in (("ArcFace", arcface), ("sub-centre ArcFace", sub_centre), ("easy positives", easy_positive)):
        apart = check_agreement(pair)
        for photographs in (64,) if options.quick else (64, 256, 1024):
            ours, theirs, weights = pair(torch.float32, device)
            embeddings, labels = batch(photographs, 0, torch.float32, device)
            yield Contest(
                size=photographs,
                label=f"{name}, {photographs} photographs on the {device}",
                peers={
                    KIT: step(ours, embeddings, labels, weights[0]),
                    PEER: step(theirs, embeddings, labels, weights[1]),
                },
                reference=PEER,
                items=photographs,
                notes=partial(agreement, apart),
                on_gpu=device == "cuda",
            )


def batch(photographs: int, seed: int, dtype: torch.dtype, device: str = "cpu") -> tuple[Tensor, Tensor]:
    """Embeddings (B, D) and labels (B,) of individuals with K photographs each."""
    seeded = torch.Generator().manual_seed(seed)
    individuals = torch.randperm(CLASSES, generator=seeded)[: max(1, photographs // PHOTOGRAPHS)]
    embeddings = torch.randn(len(individuals) * PHOTOGRAPHS, DIMENSIONS, generator=seeded, dtype=dtype)
    return embeddings.to(device).requires_grad_(), individuals.repeat_interleave(PHOTOGRAPHS).to(device)


Pair = tuple[Loss, Loss, tuple[list[nn.Parameter], list[nn.Parameter]]]


def arcface(dtype: torch.dtype, device: str, centres: int = 1) -> Pair:
    """The two losses on the same class weights."""
    torch.manual_seed(0)
    ours = ClassificationLoss(DIMENSIONS, torch.zeros(CLASSES, dtype=torch.long), SCALE, MARGIN, centres).to(
        device, dtype
    )
    settings = {"num_classes": CLASSES, "embedding_size": DIMENSIONS, "margin": math.degrees(MARGIN), "scale": SCALE}
    theirs = SubCenterArcFaceLoss(**settings, sub_centers=centres) if centres > 1 else ArcFaceLoss(**settings)
    theirs = theirs.to(device, dtype)
    with torch.no_grad():
        theirs.W.copy_(ours.weight.T)
    return ours, theirs, ([ours.weight], [theirs.W])


def sub_centre(dtype: torch.dtype, device: str) -> Pair:
    """Three vectors per class."""
    return arcface(dtype, device, CENTRES)


def easy_positive(dtype: torch.dtype, device: str) -> Pair:
    """Triplets of the nearest positive and the nearest negative; nothing in them is learned."""
    distance = LpDistance(normalize_embeddings=False)
    miner = BatchEasyHardMiner(pos_strategy="easy", neg_strategy="hard", distance=distance)
    loss = TripletMarginLoss(margin=0, smooth_loss=True, distance=distance, reducer=MeanReducer())
    return (
        lambda embeddings, labels: batch_hard_triplet(embeddings, labels, easy_positive=True)[0],
        lambda embeddings, labels: loss(embeddings, labels, miner(embeddings, labels)),
        ([], []),
    )


def step(loss: Loss, embeddings: Tensor, labels: Tensor, weights: list[nn.Parameter]) -> Callable[[], list[Tensor]]:
    """Forward and backward; returns the loss and its gradients."""

    def forward_and_backward() -> list[Tensor]:
        value = loss(embeddings, labels)
        return [value.detach(), *torch.autograd.grad(value, [embeddings, *weights])]

    return forward_and_backward


def check_agreement(pair: Callable[[torch.dtype, str], Pair]) -> float:
    """The largest difference over random batches in double precision, as a share of the largest value."""
    ours, theirs, (own, others) = pair(torch.float64, "cpu")
    apart = 0.0
    for seed in range(20):
        embeddings, labels = batch(64, seed, torch.float64)
        results = step(ours, embeddings, labels, own)(), step(theirs, embeddings, labels, others)()
        for one, other in zip(*results, strict=True):
            other = other.T if one.shape != other.shape else other  # the peer keeps its class weights upright
            apart = max(apart, float((one - other).abs().max() / other.abs().max()))
    if apart > AGREED:
        raise SystemExit(f"{pair.__name__}: {KIT} and {PEER} are {apart:.1e} apart, more than {AGREED}")
    return apart


if __name__ == "__main__":
    for one in (arcface, sub_centre, easy_positive):
        print(f"{one.__name__}: {KIT} and {PEER} agree within {check_agreement(one):.1e}")
