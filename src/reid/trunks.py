"""Trunks by timm's names: what is known of one, its first weights from the hub or a file, and how it is built.

Where there is no network, a file that `fetch_trunk` wrote stands for the hub: it holds the weights and everything that
photographs must be for them.
"""

import difflib
import functools
import json
import logging
import pickle
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import timm
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from timm.models import load_model_config_from_hf, model_entrypoint
from torch import Tensor, nn

from reid import InputError
from reid.files import as_fields, write_bytes
from reid.progress import say

__all__ = [
    "Trunk",
    "count_features",
    "describe_trunk",
    "fetch_trunk",
    "first_line",
    "load_first_weights",
    "make_trunk",
    "takes_any_size",
]

HUB = "hf-hub:"
"""What timm puts before the name of a repository on its hub."""


@dataclass(frozen=True)
class Trunk:
    """What is known of a trunk before it is built.

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


def describe_trunk(name: str, init: Path | None = None) -> Trunk:
    """What is known of a trunk.

    Args:
        name: timm's name, with a tag or without; or "hf-hub:OWNER/NAME" for a repository on timm's hub.
        init: a file that `fetch_trunk` wrote says what is in it, whatever the name; others say nothing.

    Raises:
        InputError: timm has no such trunk (the nearest names are offered), or the hub has no such repository.
    """
    if init is not None and (description := _metadata(init).get("trunk")):
        return _trunk_in_file(init, description)
    if name.startswith(HUB):
        with _asking_hub(name):
            settings, architecture, _ = load_model_config_from_hf(name.removeprefix(HUB))
        return _trunk_from_settings(architecture, settings)
    if not timm.is_model(name):
        similar = difflib.get_close_matches(name, timm.list_models(), n=3)
        hint = f"; near it are {', '.join(similar)}" if similar else "; `timm.list_models()` lists them"
        hint = f"; with --set trunk={HUB}{name} it is looked for on timm's hub" if "/" in name else hint
        raise InputError(f"trunk: expected a name that timm {timm.__version__} knows, found {name!r}{hint}")
    architecture, _, tag = name.partition(".")
    try:
        settings = timm.get_pretrained_cfg(name, allow_unregistered=True)
    except RuntimeError:
        tags = [tagged.partition(".")[2] for tagged in timm.list_pretrained(f"{architecture}.*")]
        raise InputError(
            f"trunk: timm has no weights {tag!r} of {architecture}; it has {', '.join(tags) or 'none'}"
        ) from None
    return _trunk_from_settings(architecture, asdict(settings) if settings else {})


def _trunk_in_file(init: Path, description: str) -> Trunk:
    """What a fetched file says of its trunk."""
    try:
        trunk = Trunk(**as_fields(json.loads(description)))
        if timm.is_model(trunk.name) and trunk.image_size > 0 and len(trunk.mean) == len(trunk.std) == 3:
            return trunk
        problem = f"found {trunk}"
    except (ValueError, TypeError, AttributeError, RecursionError) as damage:
        problem = first_line(damage)
    raise InputError(
        f"--init {init}: expected what `python -m reid fetch` writes of a trunk, {problem}; fetch it again"
    )


def _trunk_from_settings(architecture: str, settings: dict[str, Any]) -> Trunk:
    """From timm's settings of the first weights; where there are none, ImageNet's."""
    return Trunk(
        name=architecture,
        image_size=(settings.get("input_size") or (3, 224, 224))[-1],
        mean=tuple(settings.get("mean") or (0.485, 0.456, 0.406)),
        std=tuple(settings.get("std") or (0.229, 0.224, 0.225)),
        interpolation=settings.get("interpolation") or "bicubic",
    )


def _metadata(path: Path) -> dict[str, str]:
    """What is written beside the tensors of a safetensors file; nothing where it is no such file."""
    if not path.is_file():  # a pipe would be waited for
        return {}
    try:
        with safe_open(path, framework="pt") as opened:
            return opened.metadata() or {}
    except (SafetensorError, OSError):
        return {}


def takes_any_size(name: str) -> bool:
    """Whether a trunk, once it is built, takes photographs of any size, as convolutions do."""
    settings = timm.get_pretrained_cfg(name, allow_unregistered=True)
    return not (settings and settings.fixed_input_size)


def make_trunk(name: str, image_size: int, pooling: str, last_stride: int) -> Any:
    """A trunk with random weights.

    Raises:
        InputError: timm has no such trunk; a name on a hub is none here, nothing is asked of a network.
    """
    if not timm.is_model(name):
        raise InputError(f"trunk: expected a name that timm {timm.__version__} knows, found {name!r}")
    settings: dict[str, Any] = {} if takes_any_size(name) else {"img_size": image_size}
    if pooling == "gem":
        settings["global_pool"] = ""  # the feature map as it is
    trunk = timm.create_model(name, pretrained=False, num_classes=0, **settings)
    if last_stride == 1:
        _drop_last_stride(trunk, name)
    return trunk


def _drop_last_stride(trunk: nn.Module, name: str) -> None:
    """Leaves out the last halving of the feature map (Luo et al. 2019, section 3.5)."""
    halving = [
        path
        for path, module in trunk.named_modules()
        if isinstance(module, nn.Conv2d | nn.AvgPool2d | nn.MaxPool2d) and module.stride in (2, (2, 2))
    ]
    if not halving:
        raise InputError(f"recipe field last_stride: the trunk {name} halves nothing by a stride; set it to 2")
    stage = ".".join(halving[-1].split(".")[:2])  # layer4.0 of a ResNet, blocks.5 of an EfficientNet
    for path in halving:
        module = trunk.get_submodule(path)
        if not path.startswith(f"{stage}."):
            continue
        if isinstance(module, nn.Conv2d) and module.kernel_size[0] % 2:  # means the same with a stride of 1
            module.stride = (1, 1)
        elif isinstance(module, nn.AvgPool2d) and module.kernel_size == 2:  # the shortcut of a ResNet-D
            trunk.set_submodule(path, nn.Identity())
        else:  # a patch that is cut out, a pool that does more
            raise InputError(
                f"recipe field last_stride: the last halving of the trunk {name} can't be left out; set it to 2"
            )


@functools.cache
def count_features(trunk: Trunk, image_size: int, pooling: str, last_stride: int) -> int:
    """F, by a photograph that has a shape and no pixels."""
    photograph = torch.zeros(1, 3, image_size, image_size, device="meta")
    try:
        with torch.device("meta"), torch.no_grad():
            features = make_trunk(trunk.name, image_size, "trunk", last_stride).eval()(photograph)
    except InputError:
        raise
    except Exception as problem:  # every trunk says it in its own way
        raise InputError(
            f"recipe field image_size: the trunk {trunk.name} can't take photographs of {image_size} pixels "
            f"({first_line(problem)}); its own size is {trunk.image_size}"
        ) from None
    if pooling == "gem":
        try:
            with torch.device("meta"), torch.no_grad():
                feature_map = make_trunk(trunk.name, image_size, "gem", last_stride).eval()(photograph)
            if feature_map.ndim == 4 and feature_map.shape[1] == features.shape[1]:
                return int(features.shape[1])
        except (TypeError, ValueError, RuntimeError, AssertionError):  # a trunk whose pooling can't be taken off
            pass
        raise InputError(
            f"recipe field pooling: gem pools the feature map of a convolutional trunk, and {trunk.name} gives none; "
            "set it to trunk"
        )
    return int(features.shape[1])


def first_line(problem: Exception) -> str:
    return (str(problem).splitlines() or [type(problem).__name__])[0][:300]


def fetch_trunk(name: str, path: Path) -> Trunk:
    """Writes a trunk's first weights from timm's hub, or from its cache on this machine, into a safetensors file.

    The file carries what `describe_trunk` says, so that it can be trained from where there is no network.

    Args:
        name: as for `describe_trunk`.
        path: the file to write.

    Raises:
        InputError: timm has no such trunk, or neither the hub nor the cache gives its weights.
    """
    trunk = describe_trunk(name)
    save_trunk(path, trunk, _from_hub(name), name)
    return trunk


def save_trunk(path: Path, trunk: Trunk, tensors: dict[str, Tensor], name: str) -> None:
    """Writes a state dict and what is known of its trunk, fetched under that name, into a safetensors file."""
    metadata = {"trunk": json.dumps(asdict(trunk)), "fetched": name}
    write_bytes(path, save({key: tensor.contiguous() for key, tensor in tensors.items()}, metadata=metadata))


def _from_hub(name: str) -> dict[str, Tensor]:
    with _asking_hub(name):
        return cast(dict[str, Tensor], timm.create_model(name, pretrained=True, num_classes=0).state_dict())


@contextmanager
def _asking_hub(name: str) -> Iterator[None]:
    """What a trunk's hub is asked in, for its client tries for a minute, and warns of every try, where there is none.

    Raises:
        InputError: neither the hub nor the cache on this machine has the trunk.
    """
    _tell_of_hub(name)
    hub_logger = logging.getLogger("huggingface_hub")
    level_before = hub_logger.level
    hub_logger.setLevel(logging.ERROR)
    try:
        yield
    except Exception as problem:  # the hub's client raises its own and urllib's errors, timm KeyErrors
        raise InputError(
            f"trunk: expected weights of {name} from timm's hub, got none ({first_line(problem)}). Where there is no "
            f"network: `python -m reid fetch {name} --out FILE`, typed on a machine that has one, writes a file to "
            "bring here for `train --init FILE`, where any file of its weights serves; recipe local needs none; --set "
            "init=none starts from random ones"
        ) from None
    finally:
        hub_logger.setLevel(level_before)


@functools.cache  # networks are many, their first weights the same
def _tell_of_hub(name: str) -> None:
    say(f"asking timm's hub for {name} (where there is no network, that may take a minute to fail)")


def _read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a state dict, also where it lies in a checkpoint among other things."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True)  # tensors only: no code of a pickle runs
        for word in ("state_dict", "model"):  # where training scripts put it
            loaded = loaded[word] if isinstance(loaded.get(word), dict) else loaded
        return {str(name): tensor for name, tensor in loaded.items() if isinstance(tensor, Tensor)}
    except (FileNotFoundError, IsADirectoryError):
        found_there = "a folder" if path.is_dir() else "no file"
        raise InputError(
            f"--init {path}: expected a state dict of the trunk (.safetensors or .pth), found {found_there}; name the "
            "file with the weights"
        ) from None
    except pickle.UnpicklingError:  # torch's own words advise to run the code in it
        raise InputError(
            f"--init {path}: expected a state dict (.safetensors or .pth), but it can't be read: it is none, or holds "
            "more than tensors; name the file with the weights"
        ) from None
    except Exception as problem:  # safetensors and zip have each their own errors
        raise InputError(
            f"--init {path}: expected a state dict (.safetensors or .pth), but it can't be read ({first_line(problem)})"
        ) from None


def load_first_weights(trunk: nn.Module, name: str, init: Path | str) -> None:
    """Fills a trunk; tensors of a classifier's head are left aside.

    Args:
        trunk: what `make_trunk` made.
        name: the architecture.
        init: a file with its state dict, alone or as a part of a larger model; or a name on timm's hub.

    Raises:
        InputError: the file or the hub gives no weights, or they don't fit; tensors are named with their shapes.
    """
    from_file = isinstance(init, Path)
    tensors = _read_tensors(init) if isinstance(init, Path) else _from_hub(init)
    expected: dict[str, Tensor] = trunk.state_dict()
    tensors = _as_timm_names_them(_without_prefix(tensors, set(expected)), trunk, name)
    missing = [key for key in expected if key not in tensors and not key.endswith("num_batches_tracked")]
    misfits = [
        f"{key} (expected {tuple(expected[key].shape)}, found {tuple(tensors[key].shape)})"
        for key in expected
        if key in tensors and tensors[key].shape != expected[key].shape
    ]
    faults = [f"{key} (missing)" for key in missing] + misfits
    if faults:
        others = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise InputError(
            f"{'--init ' * from_file}{init}: its tensors don't fit the trunk {name}: {', '.join(faults[:3])}{others}. "
            "Name the trunk that the file belongs to with --set trunk=NAME"
        )
    trunk.load_state_dict({key: tensors[key] for key in expected if key in tensors}, strict=False)


def _without_prefix(tensors: dict[str, Tensor], expected: set[str]) -> dict[str, Tensor]:
    """Takes off what a larger model puts before its trunk's names, such as "backbone."."""
    probe = min(expected)
    prefixes = {""} | {name.removesuffix(probe) for name in tensors if name.endswith(probe)}
    best = max(sorted(prefixes), key=lambda prefix: sum(prefix + name in tensors for name in expected))
    return {name.removeprefix(best): tensor for name, tensor in tensors.items() if name.startswith(best)}


def _as_timm_names_them(tensors: dict[str, Tensor], trunk: nn.Module, name: str) -> dict[str, Tensor]:
    """As timm's own loading does it: older names are translated, position tables resized to the image size."""
    family = sys.modules[model_entrypoint(name).__module__]
    translate = getattr(family, "checkpoint_filter_fn", None)
    try:
        return cast(dict[str, Tensor], translate(dict(tensors), trunk)) if translate else tensors
    except Exception:  # a translation of something that is no such trunk: what doesn't fit is then named
        return tensors
