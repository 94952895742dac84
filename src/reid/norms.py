"""Batch norms over the batch of all ranks."""

import copy

import torch
from timm.layers.norm_act import BatchNormAct2d, convert_sync_batchnorm
from torch import Tensor, nn

from reid.networks import Network
from reid.ranks import summed, total, world

__all__ = ["NORMS", "over_ranks"]

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
"""timm's own batch norms are among them by inheritance."""


def over_ranks(network: Network) -> Network:
    """The network as it is trained: it shares every tensor with `network`, but its trunk and its head take means and
    variances over the rows of all ranks. The neck sees rows that have been gathered, and needs no such thing.
    """
    if world() == 1:
        return network
    tensors = [*network.parameters(), *network.buffers()]
    trained = copy.deepcopy(network, {id(tensor): tensor for tensor in tensors})
    on_gpu = tensors[0].is_cuda
    trained.trunk, trained.head = (
        (convert_sync_batchnorm if on_gpu else _exchanged)(part) for part in (trained.trunk, trained.head)
    )
    return trained


def _exchanged(module: nn.Module) -> nn.Module:
    if isinstance(module, NORMS):
        return _NormOverRanks(module)
    for name, child in module.named_children():
        setattr(module, name, _exchanged(child))
    return module


class _NormOverRanks(nn.Module):
    """A batch norm whose batch is that of all ranks, on processors: PyTorch's SyncBatchNorm is for GPUs only."""

    def __init__(self, norm: nn.BatchNorm1d | nn.BatchNorm2d) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, rows: Tensor) -> Tensor:
        """(n, C, ...), a rank's share -> the same shape."""
        norm = self.norm
        if not norm.training:
            return norm(rows)  # type: ignore[no-any-return]
        dimensions, shape = [0, *range(2, rows.ndim)], [1, -1] + [1] * (rows.ndim - 2)
        count = total(torch.tensor(rows.numel() / rows.shape[1]))
        mean = summed(rows.float().sum(dimensions)) / count  # (C,)
        centred = rows.float() - mean.view(shape)
        variance = summed(centred.pow(2).sum(dimensions)) / count
        _remember(norm, mean.detach(), variance.detach() * count / (count - 1))
        scale = norm.weight * (variance + norm.eps).rsqrt()
        normed = (centred * scale.view(shape) + norm.bias.view(shape)).to(rows.dtype)
        return norm.act(norm.drop(normed)) if isinstance(norm, BatchNormAct2d) else normed


@torch.no_grad()
def _remember(norm: nn.BatchNorm1d | nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
    """Moves the running mean and the running variance, as the norm itself would."""
    if norm.running_mean is None or norm.running_var is None or norm.num_batches_tracked is None:
        return
    norm.num_batches_tracked += 1
    momentum = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean, momentum)
    norm.running_var.lerp_(variance, momentum)
