"""Batch norms folded into convolutions: a pass over the feature map less.

In evaluation mode a batch norm is a scale and a shift per channel, which the convolution before it can apply along with
its own weights (Jacob et al. 2018, arXiv 1712.05877, section 3.2).
"""

import copy
import logging
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import fuse_conv_bn_eval
from torch.overrides import TorchFunctionMode

from reid.models.backbones import first_line

__all__ = ["fold_batch_norms"]

log = logging.getLogger(__name__)

CONVOLUTIONS, FOLDABLE = (nn.Conv2d, Conv2dSame), (nn.BatchNorm2d, BatchNormAct2d)
"""What is folded into what, and no subclasses: those may use their weights in another way."""

READS_VALUES = ("__bool__", "__float__", "__index__", "__int__", "allclose", "equal", "is_nonzero", "item", "tolist")
"""Code that calls one of these on a tensor may compute something else for another photograph."""

ROUNDING = 0.01
"""Of the largest feature: so much may folding change. The 155 norms of a ResNet-152 in float32 change 0.0006, measured
with random weights; a shift that gets lost changes more."""


def fold_batch_norms(backbone: nn.Module, image_size: int) -> nn.Module:
    """Return the backbone with batch norms folded into the convolutions before them, where that can be done.

    Which convolution stands before a batch norm, and that nothing else uses its output, is seen in a forward pass. A
    second one compares the features with those before.

    Args:
        backbone: in evaluation mode; it is not changed, and shares all other tensors with the result.
        image_size: pixels on a side of the passes' photograph, which is noise.

    Returns:
        A new module; or the backbone itself where no batch norm can be folded; where it should be possible and fails,
        that is logged, for it is slower.
    """
    if not any(type(module) in FOLDABLE for module in backbone.modules()):
        return backbone
    try:
        return _folded(backbone, image_size)
    except Exception as problem:  # timm's backbones hold every kind of code, which raises every kind of error
        name = type(backbone).__name__
        log.info("%s: its batch norms are not folded, which is slower (%s)", name, first_line(problem))
        return backbone


@torch.no_grad()
def _folded(backbone: nn.Module, image_size: int) -> nn.Module:
    if backbone.training:
        raise ValueError("it is being trained")
    tensors = [*backbone.parameters(), *backbone.buffers()]
    folded = copy.deepcopy(backbone, {id(tensor): tensor for tensor in tensors})
    noise = torch.rand(1, 3, image_size, image_size, generator=torch.Generator().manual_seed(0)).to(tensors[0])
    with _Uses() as uses:
        expected = folded(noise)
    replaced: dict[nn.Module, nn.Module] = {}
    for convolution, norm in _pairs(folded, uses):
        replaced[convolution] = fuse_conv_bn_eval(convolution, norm)
        replaced[norm] = norm.act if isinstance(norm, BatchNormAct2d) else nn.Identity()
    if not replaced:
        raise ValueError("none of them takes the output of a convolution that nothing else takes")
    for path, module in [*folded.named_modules(remove_duplicate=False)]:
        if module in replaced:
            folded.set_submodule(path, replaced[module])
    if not (folded(noise) - expected).abs().max() <= ROUNDING * expected.abs().max():
        raise ValueError("folded, it gives other features")
    return folded


def _pairs(backbone: nn.Module, uses: "_Uses") -> Iterator[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Yield convolutions and batch norms where the norm alone uses the output, and nothing else their tensors."""
    modules = [module for module in backbone.modules() if type(module) in (*CONVOLUTIONS, *FOLDABLE)]
    convolutions = {id(module.weight): module for module in modules if isinstance(module, nn.Conv2d)}
    for norm in modules:
        if not isinstance(norm, nn.BatchNorm2d) or uses.normed.get(id(norm.running_mean)) not in convolutions:
            continue
        convolution = convolutions[uses.normed[id(norm.running_mean)]]
        tensors = (convolution.weight, convolution.bias, norm.weight, norm.bias, norm.running_mean, norm.running_var)
        alone = uses.outputs[id(convolution.weight)] == 1
        if alone and all(uses.tensors[id(tensor)] == 1 for tensor in tensors if tensor is not None):
            yield convolution, norm


class _Uses(TorchFunctionMode):
    """Count what a forward pass uses.

    Attributes:
        tensors: calls that take a tensor, by its id.
        outputs: calls that take a convolution's output, by the id of its weight.
        normed: the id of the weight of the convolution before a batch norm, by the id of the norm's running mean.
    """

    def __init__(self) -> None:
        super().__init__()
        self.tensors, self.outputs = Counter[int](), Counter[int]()
        self.normed: dict[int, int] = {}
        self._weights: dict[int, int] = {}  # of convolutions, by the id of an output that may still be used

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the function as the backbone does, and count its arguments."""
        if function.__name__ in READS_VALUES:
            raise ValueError("its code depends on the values of the photograph")
        result = function(*args, **(kwargs or {}))
        made = {id(tensor) for tensor in _tensors_in(result)}
        if result is not None and not made:  # a shape, a type
            return result
        taken = [id(tensor) for tensor in _tensors_in((args, kwargs))]
        self.tensors.update(taken)
        self.outputs.update(self._weights[tensor] for tensor in taken if tensor in self._weights)
        if function is functional.batch_norm and id(args[0]) in self._weights:
            self.normed[id(args[1])] = self._weights[id(args[0])]
        for tensor in made.difference(taken):  # ids of tensors that are freed are given to new ones
            self._weights.pop(tensor, None)
        if function is functional.conv2d:
            self._weights[id(result)] = id(args[1])
        return result


def _tensors_in(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in arguments or results, which may be lists and dicts."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _tensors_in(part)
