"""Backbones by timm's names: how one is built, which photographs it takes, and its feature map."""

import functools
import logging
import math
from typing import Any

import timm
import torch
from torch import Tensor, nn

from reid.errors import InputError
from reid.models.timm_import import shapes_only

__all__ = ["build_backbone", "check_scales", "contiguous", "feature_map", "first_line", "gives_feature_map"]

log = logging.getLogger(__name__)


def _takes_any_size(name: str) -> bool:
    """Return whether a backbone takes photographs of any size once it is built, as convolutions do."""
    settings = timm.get_pretrained_cfg(name, allow_unregistered=True)
    return not (settings and settings.fixed_input_size)


def build_backbone(name: str, image_size: int, pooling: str, last_stride: int) -> Any:
    """Return a backbone with random weights.

    Raises:
        InputError: timm has no such backbone. A name on the hub is none either: building never needs the internet.
    """
    if not timm.is_model(name):
        raise InputError(f"backbone: expected a name that timm {timm.__version__} knows, found {name!r}")
    settings: dict[str, Any] = {} if _takes_any_size(name) else {"img_size": image_size}
    if pooling == "gem":
        settings["global_pool"] = ""  # gives the feature map itself
    backbone = timm.create_model(name, pretrained=False, num_classes=0, **settings)
    if last_stride == 1:
        _drop_last_stride(backbone, name)
    return backbone


def _drop_last_stride(backbone: nn.Module, name: str) -> None:
    """Leave out the last halving of the feature map (Luo et al. 2019, section 3.5)."""
    halving = [
        path
        for path, module in backbone.named_modules()
        if isinstance(module, nn.Conv2d | nn.AvgPool2d | nn.MaxPool2d) and module.stride in (2, (2, 2))
    ]
    if not halving:
        raise InputError(
            f"recipe field backbone.last_stride: the backbone {name} halves nothing by a stride; set it to 2"
        )
    stage = ".".join(halving[-1].split(".")[:2])  # layer4.0 of a ResNet, blocks.5 of an EfficientNet
    for path in halving:
        module = backbone.get_submodule(path)
        if not path.startswith(f"{stage}."):
            continue
        if isinstance(module, nn.Conv2d) and module.kernel_size[0] % 2:  # works with a stride of 1 as well
            module.stride = (1, 1)
        elif isinstance(module, nn.AvgPool2d) and module.kernel_size == 2:  # the shortcut of a ResNet-D
            backbone.set_submodule(path, nn.Identity())
        else:  # patches without overlap, a pooling over more than two
            raise InputError(
                f"recipe field backbone.last_stride: the last halving of the backbone {name} can't be left out; set "
                "it to 2"
            )


def feature_map(backbone: nn.Module, output: Any) -> Tensor | None:
    """Return the cells of what a backbone's `forward_features` gives, (B, F, h, w), as a view of it; None where they
    form no grid, or one of a single cell.

    Args:
        backbone: timm's.
        output: (B, F, h, w), (B, h, w, F), or tokens (B, N, F) of a transformer: what stands before those of the h x h
            patches, such as a class token, is left out.
    """
    if not isinstance(output, Tensor) or output.ndim not in (3, 4):
        return None
    if output.ndim == 4:
        cells = output.permute(0, 3, 1, 2) if getattr(backbone, "output_fmt", "NCHW") == "NHWC" else output
        return cells if cells.shape[2] * cells.shape[3] > 1 else None
    tokens = output.shape[1]
    first = getattr(backbone, "num_prefix_tokens", None)
    first = min(1, tokens - math.isqrt(tokens) ** 2) if first is None else int(first)
    side = math.isqrt(tokens - first)
    if side < 2 or side**2 != tokens - first:
        return None
    return output[:, first:].transpose(1, 2).view(len(output), -1, side, side)


@functools.cache
def gives_feature_map(name: str, image_size: int, last_stride: int) -> bool:
    """Return whether a backbone has a feature map below its own pooling, see `feature_map`."""
    try:
        with shapes_only(), torch.no_grad():
            backbone = build_backbone(name, image_size, "backbone", last_stride).eval()
            cells = feature_map(backbone, backbone.forward_features(torch.zeros(1, 3, image_size, image_size)))
    except Exception as problem:  # each backbone raises its own
        log.debug("the backbone %s gives no feature map (%s)", name, first_line(problem))
        return False
    return cells is not None


def check_scales(name: str, image_size: int, pooling: str, last_stride: int, scales: tuple[float, ...]) -> None:
    """Check that a backbone, built for one size of photographs, takes them at these scales too.

    Raises:
        InputError: it does not; the message names the nearest scales that it takes.
    """
    if scales == (1.0,):
        return
    if not _takes_any_size(name):
        raise InputError(
            f"recipe field prediction.scales: the backbone {name} takes photographs of one size only; set it to 1"
        )
    with shapes_only():
        backbone = build_backbone(name, image_size, pooling, last_stride).eval()
    for scale in scales:
        side = round(image_size * scale)
        if not _takes(backbone, side):
            choose = " or ".join(f"{size / image_size:.4g} ({size} pixels)" for size in _nearest_sizes(backbone, side))
            raise InputError(
                f"recipe field prediction.scales: the backbone {name} can't take photographs of {side} pixels, "
                f"{scale:g} of {image_size}; set it to {choose or '1'}"
            )


@torch.no_grad()
def _takes(backbone: nn.Module, size: int) -> bool:
    """Return whether a backbone on the meta device takes photographs of a size."""
    try:
        with shapes_only():
            backbone(torch.zeros(1, 3, size, size))
        return True
    except Exception:  # each backbone raises its own
        return False


def _nearest_sizes(backbone: nn.Module, side: int) -> list[int]:
    """Return the sizes next to one that a backbone takes."""
    for unit in (32, 14):  # five halvings of a convolutional backbone, the patches of DINOv2
        below = side // unit * unit
        if found := [size for size in (below, below + unit) if size and _takes(backbone, size)]:
            return found
    return []


def first_line(problem: Exception) -> str:
    """Return the first line of an error, or its kind where it says nothing."""
    return (str(problem).splitlines() or [type(problem).__name__])[0][:300]


def contiguous(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return copies on the processor that a safetensors file can hold: it takes no two that share memory."""
    return {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()
    }
