"""Batch norms over several ranks: each sees a part of the batch, means and variances must be those of all of it."""

import copy

import torch
from timm.layers.norm_act import BatchNormAct2d, convert_sync_batchnorm
from torch import Tensor, nn

from reid.models.networks import Network
from reid.runtime.distributed import all_reduce, all_reduce_with_gradients, world_size

__all__ = ["NORMS", "synchronise_batch_norms"]

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
"""timm's own batch norms are subclasses of these."""


def synchronise_batch_norms(network: Network) -> Network:
    """Return the network for training by several ranks; it shares every tensor with `network`.

    Its backbone and its head take means and variances over the rows of all ranks. The neck gets gathered rows, and
    stays as it is.
    """
    if world_size() == 1:
        return network
    tensors = [*network.parameters(), *network.buffers()]
    trained = copy.deepcopy(network, {id(tensor): tensor for tensor in tensors})
    on_gpu = tensors[0].is_cuda
    trained.backbone, trained.head = (
        (convert_sync_batchnorm if on_gpu else _synchronised)(part) for part in (trained.backbone, trained.head)
    )
    return trained


def _synchronised(module: nn.Module) -> nn.Module:
    if isinstance(module, NORMS):
        return _SynchronisedBatchNorm(module)
    for name, child in module.named_children():
        setattr(module, name, _synchronised(child))
    return module


class _SynchronisedBatchNorm(nn.Module):
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
        count = all_reduce(torch.tensor(rows.numel() / rows.shape[1]))
        mean = all_reduce_with_gradients(rows.float().sum(dimensions)) / count  # (C,)
        centred = rows.float() - mean.view(shape)
        variance = all_reduce_with_gradients(centred.pow(2).sum(dimensions)) / count
        _move_running_statistics(norm, mean.detach(), variance.detach() * count / (count - 1))
        scale = norm.weight * (variance + norm.eps).rsqrt()
        normed = (centred * scale.view(shape) + norm.bias.view(shape)).to(rows.dtype)
        return norm.act(norm.drop(normed)) if isinstance(norm, BatchNormAct2d) else normed


@torch.no_grad()
def _move_running_statistics(norm: nn.BatchNorm1d | nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
    """Move the running mean and variance of a norm, as the norm itself would."""
    if norm.running_mean is None or norm.running_var is None or norm.num_batches_tracked is None:
        return
    norm.num_batches_tracked += 1
    momentum = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean, momentum)
    norm.running_var.lerp_(variance, momentum)
