"""Batch norms: synchronised over several ranks in training, folded into convolutions for embedding.

Training: every rank sees a part of the batch, and means and variances must be those of the whole batch.

Embedding: a batch norm in evaluation mode is a scale and a shift per channel, which the convolution before it can
apply along with its own weights (Jacob et al. 2018, arXiv 1712.05877, section 3.2): a pass over the feature map less.
"""

import copy
import logging
from collections import Counter
from typing import Any

import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.norm_act import BatchNormAct2d, convert_sync_batchnorm
from torch import Tensor, fx, nn
from torch.nn.utils import fuse_conv_bn_eval

from reid.models.backbones import first_line
from reid.models.networks import Network
from reid.runtime.distributed import all_reduce, all_reduce_with_gradients, world_size

__all__ = ["NORMS", "fold_batch_norms", "synchronise_batch_norms"]

log = logging.getLogger(__name__)

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


CONVOLUTIONS, FOLDABLE = (nn.Conv2d, Conv2dSame), (nn.BatchNorm2d, BatchNormAct2d)
"""What is folded into what, and no subclasses: those may use their weights in another way."""


def fold_batch_norms(backbone: nn.Module) -> nn.Module:
    """Return the backbone with batch norms folded into the convolutions before them, where that can be done.

    Args:
        backbone: in evaluation mode; it is not changed, and shares all other modules with the result.

    Returns:
        A new module; or the backbone itself where it has no batch norms, or where its code can't be traced, which is
        logged, for it is slower.
    """
    if not any(type(module) in FOLDABLE for module in backbone.modules()):
        return backbone
    try:
        return _folded(backbone)
    except Exception as problem:  # timm's backbones hold every kind of code, and tracing raises every kind of error
        name = type(backbone).__name__
        log.info("%s: its batch norms are not folded, which is slower (%s)", name, first_line(problem))
        return backbone


def _folded(backbone: nn.Module) -> fx.GraphModule:
    traced = fx.GraphModule(backbone, _Tracer().trace(backbone))
    calls = Counter(node.target for node in traced.graph.nodes if node.op == "call_module")
    read = {node.target.rpartition(".")[0] for node in traced.graph.nodes if node.op == "get_attr"}
    for node in traced.graph.nodes:
        norm = _module_of(traced, node)
        if type(norm) not in FOLDABLE:
            continue
        (before,) = node.all_input_nodes
        convolution = _module_of(traced, before)
        if type(convolution) not in CONVOLUTIONS or len(before.users) > 1:
            continue
        if calls[before.target] == calls[node.target] == 1 and not read & {before.target, node.target}:
            traced.set_submodule(before.target, fuse_conv_bn_eval(convolution, norm))
            traced.set_submodule(node.target, norm.act if isinstance(norm, BatchNormAct2d) else nn.Identity())
    return traced


class _Tracer(fx.Tracer):
    """Trace a backbone, but not its convolutions and norms: the code of some of timm's branches on shapes."""

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return isinstance(module, nn.Conv2d | nn.BatchNorm2d) or super().is_leaf_module(module, name)


def _module_of(traced: fx.GraphModule, node: fx.Node) -> Any:
    """Return the module that a node calls; None where it calls something else."""
    return traced.get_submodule(str(node.target)) if node.op == "call_module" else None
