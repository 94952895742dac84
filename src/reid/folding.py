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
"""What is folded into what. Other classes derived from these do something else with their weights."""


def folded(trunk: nn.Module) -> nn.Module:
    """The trunk with batch norms folded into the convolutions before them, where it can be traced for that.

    Args:
        trunk: in evaluation mode; its modules go into what is given back.
    """
    try:
        traced = fx.GraphModule(trunk, _Tracer().trace(trunk))
    except Exception:  # tracing meets every kind of code in other people's trunks; they run as they are
        return trunk
    calls = Counter(node.target for node in traced.graph.nodes)
    for node in traced.graph.nodes:
        norm = _module_of(traced, node)
        if type(norm) not in NORMS:
            continue
        (before,) = node.all_input_nodes
        convolution = _module_of(traced, before)
        if type(convolution) in CONVOLUTIONS and calls[before.target] == calls[node.target] == len(before.users) == 1:
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
