"""What is known of a backbone before it is built, and its first weights from timm's hub or a file.

Where there is no internet, a file that `fetch_backbone` wrote replaces the hub: it holds the weights, and how
photographs must be prepared for them.
"""

import difflib
import functools
import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import timm
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from timm.models import load_model_config_from_hf, model_entrypoint
from torch import Tensor, nn

from reid.errors import InputError
from reid.models.backbones import build_backbone, contiguous, first_line
from reid.models.checkpoint_files import find_state_dict, read_checkpoint, tensor_faults
from reid.models.timm_import import shapes_only
from reid.runtime.files import as_fields, write_bytes

__all__ = [
    "Backbone",
    "count_features",
    "describe_backbone",
    "described_in",
    "fetch_backbone",
    "load_pretrained",
    "save_backbone",
    "state_dict_from_hub",
]

log = logging.getLogger(__name__)

HUB = "hf-hub:"
"""What timm puts before the name of a repository on its hub."""


@dataclass(frozen=True)
class Backbone:
    """What is known of a backbone before it is built.

    Attributes:
        name: the architecture, as timm calls it.
        image_size: pixels on a side that its first weights were trained with.
        mean, std: per channel, of values in 0..1, likewise.
        interpolation: how photographs were resized for it: "bicubic", "bilinear", ...
    """

    name: str
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str


def describe_backbone(name: str, init: Path | None = None) -> Backbone:
    """Return what is known of a backbone.

    Args:
        name: timm's name, with a tag or without; or "hf-hub:OWNER/NAME" for a repository on timm's hub.
        init: a file that `fetch_backbone` wrote describes its own backbone, whatever the name; other files are ignored.

    Raises:
        InputError: timm has no such backbone (the nearest names are offered), or the hub has no such repository.
    """
    if init is not None and (description := _metadata(init).get("backbone")):
        return _backbone_in_file(init, description)
    if name.startswith(HUB):
        with _from_hub(name):
            settings, architecture, _ = load_model_config_from_hf(name.removeprefix(HUB))
        return _backbone_from_settings(architecture, settings)
    if not timm.is_model(name):
        similar = difflib.get_close_matches(name, timm.list_models(), n=3)
        hint = f"; did you mean {' or '.join(similar)}?" if similar else "; `timm.list_models()` lists them"
        hint = f"; for a repository on timm's hub: --set backbone={HUB}{name}" if "/" in name else hint
        raise InputError(f"backbone: expected a name that timm {timm.__version__} knows, found {name!r}{hint}")
    architecture, _, tag = name.partition(".")
    try:
        settings = timm.get_pretrained_cfg(name, allow_unregistered=True)
    except RuntimeError:
        tags = [tagged.partition(".")[2] for tagged in timm.list_pretrained(f"{architecture}.*")]
        raise InputError(
            f"backbone: timm has no weights {tag!r} of {architecture}; it has {', '.join(tags) or 'none'}"
        ) from None
    return _backbone_from_settings(architecture, asdict(settings) if settings else {})


def described_in(init: Path) -> str:
    """Return the name under which `fetch_backbone` fetched the weights in a file; "" of other files."""
    return _metadata(init).get("fetched", "")


def _backbone_in_file(init: Path, description: str) -> Backbone:
    """Return the backbone that a fetched file describes."""
    try:
        backbone = Backbone(**as_fields(json.loads(description)))
        if timm.is_model(backbone.name) and backbone.image_size > 0 and len(backbone.mean) == len(backbone.std) == 3:
            return backbone
        problem = f"found {backbone}"
    except (ValueError, TypeError, AttributeError, RecursionError) as damage:
        problem = first_line(damage)
    raise InputError(f"--init {init}: expected what `reid fetch` writes of a backbone, {problem}; fetch it again")


def _backbone_from_settings(architecture: str, settings: dict[str, Any]) -> Backbone:
    """Return what timm's settings of the first weights say; where they are silent, ImageNet's."""
    return Backbone(
        name=architecture,
        image_size=(settings.get("input_size") or (3, 224, 224))[-1],
        mean=tuple(settings.get("mean") or (0.485, 0.456, 0.406)),
        std=tuple(settings.get("std") or (0.229, 0.224, 0.225)),
        interpolation=settings.get("interpolation") or "bicubic",
    )


def _metadata(path: Path) -> dict[str, str]:
    """Return the metadata of a safetensors file; nothing where it is no such file."""
    if not path.is_file():  # reading a pipe would wait forever
        return {}
    try:
        with safe_open(path, framework="pt") as opened:
            return opened.metadata() or {}
    except (SafetensorError, OSError):
        return {}


@functools.cache
def count_features(backbone: Backbone, image_size: int, pooling: str, last_stride: int) -> int:
    """Return F, the number of features, from a photograph that has a shape and no pixels.

    Raises:
        InputError: the backbone can't take photographs of this size, or be pooled or strided like this.
    """
    name = backbone.name
    cannot = f"image_size: the backbone {name} can't take photographs of {image_size} pixels"
    with _refused(cannot, f"its own size is {backbone.image_size}"):
        features = _output_shape(name, image_size, "backbone", 2)
    if last_stride == 1:
        with _refused(f"last_stride: the last halving of the backbone {name} can't be left out", "set it to 2"):
            features = _output_shape(name, image_size, "backbone", 1)
    if pooling == "gem":
        cannot = f"pooling: gem pools the feature map of a convolutional backbone, and {name} gives none"
        with _refused(cannot, "set it to backbone"):
            found = _output_shape(name, image_size, "gem", last_stride)
            if len(found) != 4 or found[:2] != features:
                raise ValueError(f"its output has the shape {found}")
    return features[1]


def _output_shape(name: str, image_size: int, pooling: str, last_stride: int) -> tuple[int, ...]:
    with shapes_only(), torch.no_grad():
        backbone = build_backbone(name, image_size, pooling, last_stride).eval()
        output = backbone(torch.zeros(1, 3, image_size, image_size))
    if not isinstance(output, Tensor):
        raise ValueError(f"its output is a {type(output).__name__}")
    return tuple(output.shape)


@contextmanager
def _refused(cannot: str, choose: str) -> Iterator[None]:
    """Inside, a backbone is tried: each raises its own kind of error for what it can't do.

    Raises:
        InputError: it raised one; the message begins with the setting, and ends with what to choose.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as problem:
        raise InputError(f"recipe field backbone.{cannot} ({first_line(problem)}); {choose}") from None


def fetch_backbone(name: str, path: Path) -> Backbone:
    """Write a backbone's first weights from timm's hub, or from its cache on this machine, into a safetensors file.

    The file also holds what `describe_backbone` returns, so that training from it needs no internet.

    Args:
        name: as for `describe_backbone`.
        path: the file to write.

    Raises:
        InputError: timm has no such backbone, or neither the hub nor the cache gives its weights.
    """
    backbone = describe_backbone(name)
    save_backbone(path, backbone, state_dict_from_hub(name), name)
    return backbone


def save_backbone(path: Path, backbone: Backbone, tensors: dict[str, Tensor], name: str) -> None:
    """Write a state dict and what is known of its backbone, fetched under that name, into a safetensors file."""
    metadata = {"backbone": json.dumps(asdict(backbone)), "fetched": name}
    write_bytes(path, save(contiguous(tensors), metadata=metadata))


def state_dict_from_hub(name: str) -> dict[str, Tensor]:
    """Return a backbone's first weights from timm's hub, or from its cache on this machine.

    Raises:
        InputError: neither has them.
    """
    with _from_hub(name):
        return cast(dict[str, Tensor], timm.create_model(name, pretrained=True, num_classes=0).state_dict())


@contextmanager
def _from_hub(name: str) -> Iterator[None]:
    """Inside, timm's hub may be asked: without internet its client tries for a minute, and warns of every try.

    Raises:
        InputError: neither the hub nor the cache on this machine has the backbone.
    """
    _announce(name)
    hub_logger = logging.getLogger("huggingface_hub")
    level_before = hub_logger.level
    hub_logger.setLevel(logging.ERROR)
    try:
        yield
    except Exception as problem:  # the hub's client raises its own and urllib's errors, timm KeyErrors
        raise InputError(
            f"backbone: expected weights of {name} from timm's hub, got none ({first_line(problem)}). Without "
            f"internet: type `reid fetch {name} --out FILE` on a machine that has it, copy the file here and use "
            "--init FILE, which takes any file with the backbone's weights; or --recipe keypoints, which needs none; "
            "or --set backbone.init=none, which starts from random ones"
        ) from None
    finally:
        hub_logger.setLevel(level_before)


@functools.cache  # several networks start from the same weights
def _announce(name: str) -> None:
    log.info("asking timm's hub for %s (without internet, this may take a minute to fail)", name)


A_BACKBONE = "expected a state dict of the backbone (.safetensors or .pth)"


def load_pretrained(backbone: nn.Module, name: str, init: Path | str) -> None:
    """Load first weights into a backbone; tensors of a classifier's head are ignored.

    Args:
        backbone: from `build_backbone`.
        name: the architecture.
        init: a file with its state dict, alone, as a part of a larger model or in a checkpoint; or a name on timm's
            hub.

    Raises:
        InputError: the file or the hub gives no weights, or they don't fit; the message names tensors and shapes.
    """
    where, content = (
        (f"--init {init}", read_checkpoint(init, f"--init {init}: {A_BACKBONE}"))
        if isinstance(init, Path)
        else (init, state_dict_from_hub(init))
    )
    expected: dict[str, Tensor] = backbone.state_dict()
    found = find_state_dict(content, set(expected), where)
    tensors = _with_timm_names(found, backbone, name)
    if not expected.keys() & tensors:
        raise InputError(
            f"{where}: expected the tensors of the backbone {name}, such as {min(expected)}, found "
            f"{f'none of them, but such as {min(found)}' if found else 'no tensors'}. Name the file with its weights; "
            "or, with --set backbone=NAME, the backbone whose weights these are, as timm calls it"
        )
    if problem := _misfits(expected, tensors):
        raise InputError(f"{where}: its tensors don't fit the backbone {name}: {problem}")
    backbone.load_state_dict({key: tensors[key] for key in expected if key in tensors}, strict=False)


def _misfits(expected: dict[str, Tensor], tensors: dict[str, Tensor]) -> str:
    """Return which tensors are missing or have other shapes, and what to do; nothing where all fit."""
    missing, misfits = tensor_faults(expected, tensors)
    faults = missing + misfits
    if not faults:
        return ""
    choose = "Name the backbone that the file belongs to with --set backbone=NAME"
    if not misfits:
        choose = (
            "All that it holds fits, so it is a part of this backbone, or a smaller one: save the whole state dict, or "
            "name the smaller one with --set backbone=NAME"
        )
    return f"{', '.join(faults[:3])}{f' and {len(faults) - 3} more' if len(faults) > 3 else ''}. {choose}"


def _with_timm_names(tensors: dict[str, Tensor], backbone: nn.Module, name: str) -> dict[str, Tensor]:
    """Translate older names and resize position tables to the image size, as timm does when it loads weights."""
    family = sys.modules[model_entrypoint(name).__module__]
    translate = getattr(family, "checkpoint_filter_fn", None)
    try:
        return cast(dict[str, Tensor], translate(dict(tensors), backbone)) if translate else tensors
    except Exception:  # the tensors are of another backbone: the caller names those that don't fit
        return tensors
