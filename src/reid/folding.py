"""Trunks without their batch norms: one that no longer learns is a scale and a shift, and goes into the weights of the
convolution before it.
"""

from collections import Counter
from typing import Any

from timm.layers.conv2d_same import Conv2dSame
from timm.layers.norm_act import BatchNormAct2d
from torch import fx, nn
from torch.nn.utils import fuse_conv_bn_eval

__all__ = ["folded"]

CONVOLUTIONS, NORMS = (nn.Conv2d, Conv2dSame), (nn.BatchNorm2d, BatchNormAct2d)
"""What is folded into what. Other classes derived from these may do something else with their weights."""


def folded(trunk: nn.Module) -> nn.Module:
    """The trunk with batch norms folded into the convolutions before them, where that can be done.

    Args:
        trunk: in evaluation mode; it stays as it is, and shares all other modules with what is given back.
    """
    try:
        return _folded(trunk)
    except Exception:  # other people's trunks hold every kind of code; those that can't be traced run as they are
        return trunk


def _folded(trunk: nn.Module) -> fx.GraphModule:
    traced = fx.GraphModule(trunk, _Tracer().trace(trunk))
    calls = Counter(node.target for node in traced.graph.nodes if node.op == "call_module")
    read = {node.target.rpartition(".")[0] for node in traced.graph.nodes if node.op == "get_attr"}
    for node in traced.graph.nodes:
        norm = _module_of(traced, node)
        if type(norm) not in NORMS:
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
    """Looks into a trunk, but not into its convolutions and norms: some of timm's decide by shapes and switches."""

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return isinstance(module, nn.Conv2d | nn.BatchNorm2d) or super().is_leaf_module(module, name)


def _module_of(traced: fx.GraphModule, node: fx.Node) -> Any:
    """The module that a node calls; None where it calls something else."""
    return traced.get_submodule(str(node.target)) if node.op == "call_module" else None
