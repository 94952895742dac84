"""The batch-hard triplet loss, forward and backward: the kit against pytorch-metric-learning.

K = 4 photographs of each individual in 512 dimensions, the soft margin log(1 + exp(p - n)), Euclidean distances.
"""

from collections.abc import Callable, Iterator, Mapping

import torch
from harness import Contest, NotHereError, Options
from torch import Tensor

from reid.models.losses import batch_hard_triplet

try:
    from pytorch_metric_learning.distances import LpDistance
    from pytorch_metric_learning.losses import TripletMarginLoss
    from pytorch_metric_learning.miners import BatchHardMiner
    from pytorch_metric_learning.reducers import MeanReducer
except ImportError:
    LpDistance = None

DIMENSIONS = 512
PHOTOGRAPHS_PER_INDIVIDUAL = 4

KIT, PEER = "reid", "pytorch-metric-learning"


def contests(options: Options) -> Iterator[Contest]:
    """Batches of 64 to 4096 photographs, on the GPU where there is one."""
    if LpDistance is None:
        raise NotHereError("pytorch-metric-learning is not here: pip install pytorch-metric-learning")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for photographs in (64, 256) if options.quick else (64, 128, 256, 512, 1024, 2048, 4096):
        seeded = torch.Generator().manual_seed(0)
        embeddings = torch.randn(photographs, DIMENSIONS, generator=seeded).to(device).requires_grad_()
        labels = torch.arange(photographs // PHOTOGRAPHS_PER_INDIVIDUAL, device=device)
        labels = labels.repeat_interleave(PHOTOGRAPHS_PER_INDIVIDUAL)
        yield Contest(
            size=photographs,
            label=f"{photographs} photographs on the {device}",
            peers={
                KIT: step(lambda x, y: batch_hard_triplet(x, y)[0], embeddings, labels),
                PEER: step(peer_loss(), embeddings, labels),
            },
            reference=PEER,
            items=photographs,
            notes=compare,
            on_gpu=device == "cuda",
        )


def peer_loss() -> Callable[[Tensor, Tensor], Tensor]:
    """The same loss in the peer's terms; its distance serves the miner and the loss."""
    distance = LpDistance(normalize_embeddings=False)
    miner = BatchHardMiner(distance=distance)
    loss = TripletMarginLoss(margin=0, smooth_loss=True, distance=distance, reducer=MeanReducer())
    return lambda embeddings, labels: loss(embeddings, labels, miner(embeddings, labels))


def step(
    loss: Callable[[Tensor, Tensor], Tensor], embeddings: Tensor, labels: Tensor
) -> Callable[[], tuple[float, Tensor]]:
    """Forward and backward; returns the loss and its gradient."""

    def forward_and_backward() -> tuple[float, Tensor]:
        value = loss(embeddings, labels)
        (gradient,) = torch.autograd.grad(value, embeddings)
        return value.item(), gradient

    return forward_and_backward


def compare(results: Mapping[str, tuple[float, Tensor]]) -> dict[str, str]:
    """How far loss and gradient are apart."""
    (loss, gradient), (peer_value, peer_gradient) = results[KIT], results[PEER]
    apart = float((gradient - peer_gradient).abs().max() / peer_gradient.abs().max())
    return {KIT: f"loss {loss:.6f} and {peer_value:.6f}, gradients within {apart:.1e} of the largest"}
