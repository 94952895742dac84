"""Backbones by timm's names: what is known of one, its first weights from the hub or a file, and how it is built.

Where there is no internet, a file that `fetch_backbone` wrote replaces the hub: it holds the weights, and how
photographs must be prepared for them.
"""

import difflib
import functools
import json
import logging
import math
import pickle
import re
import shlex
import sys
import zipfile
from collections import Counter
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

from reid.errors import InputError
from reid.runtime.files import as_fields, write_bytes

__all__ = [
    "Backbone",
    "build_backbone",
    "check_scales",
    "contiguous",
    "count_features",
    "describe_backbone",
    "described_in",
    "feature_map",
    "fetch_backbone",
    "find_state_dict",
    "first_line",
    "gives_feature_map",
    "load_pretrained",
    "read_checkpoint",
    "state_dict_from_hub",
    "tensor_faults",
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
    with torch.device("meta"), torch.no_grad():
        backbone = build_backbone(name, image_size, pooling, last_stride).eval()
        output = backbone(torch.zeros(1, 3, image_size, image_size))
    if not isinstance(output, Tensor):
        raise ValueError(f"its output is a {type(output).__name__}")
    return tuple(output.shape)


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
        with torch.device("meta"), torch.no_grad():
            backbone = build_backbone(name, image_size, "backbone", last_stride).eval()
            cells = feature_map(backbone, backbone.forward_features(torch.zeros(1, 3, image_size, image_size)))
    except Exception:  # each backbone raises its own
        return False
    return cells is not None


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
    with torch.device("meta"):
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
        backbone(torch.zeros(1, 3, size, size, device="meta"))
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


def contiguous(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return copies on the processor that a safetensors file can hold: it takes no two that share memory."""
    return {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()
    }


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


def read_checkpoint(path: Path, expected: str) -> Any:
    """Return what a file with weights holds: a state dict, or a checkpoint with one somewhere in it. No code of the
    file runs.

    Args:
        path: a .safetensors file, or one that `torch.save` wrote.
        expected: how a message begins: what named the file, and what should be in it.

    Raises:
        InputError: there is no such file, it can't be read, or it holds more than tensors.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)  # runs no code of the file
    except (FileNotFoundError, IsADirectoryError):
        found_there = "a folder" if path.is_dir() else "no file"
        raise InputError(f"{expected}, found {found_there}; name the file with the weights") from None
    except pickle.UnpicklingError as problem:  # torch's message advises to run the code in it
        raise InputError(f"{expected}, {_how_to_extract(path, str(problem))}") from None
    except Exception as problem:  # safetensors and zip files raise their own
        raise InputError(f"{expected}, but it can't be read ({first_line(problem)})") from None


EXTRACT = (
    "import torch; from safetensors.torch import save_file; "
    "c = torch.load({old}, 'cpu', weights_only=False); c = c if isinstance(c, dict) else {{'model': c.state_dict()}}; "
    "save_file({{f'{{k}}.{{n}}': t.contiguous().clone() for k, d in {{'': c, **c}}.items() if isinstance(d, dict) "
    "for n, t in d.items() if isinstance(t, torch.Tensor)}}, {new})"
).replace("'", '"')  # a shell's single quotes go around it
"""What somebody who trusts a checkpoint types to get the tensors out of it."""


def _how_to_extract(path: Path, problem: str) -> str:
    """Return what torch found beside tensors and refused to load, and what to do."""
    # a name without a module, such as getattr, is no value that a training script keeps
    refused = re.search(r"GLOBAL (\S+\.\S+) was not an allowed", problem)
    if not refused or not zipfile.is_zipfile(path):
        return "but it can't be read: it is none, or holds more than tensors; name the file with the weights"
    extracted = path.with_suffix(".safetensors")
    code = EXTRACT.format(old=json.dumps(str(path)), new=json.dumps(str(extracted)))
    return (
        f"found {refused[1]} beside the tensors, which is not loaded, because loading it can run code. If you trust "
        f"those who made the file, name {extracted} instead, which this line writes: python -c {shlex.quote(code)}"
    )


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


def tensor_faults(expected: dict[str, Tensor], tensors: dict[str, Tensor]) -> tuple[list[str], list[str]]:
    """Return which of the expected tensors are missing, and which have other shapes, in words."""
    missing = [key for key in expected if key not in tensors and not key.endswith("num_batches_tracked")]
    misfits = [
        f"{key} (expected {tuple(expected[key].shape)}, found {tuple(tensors[key].shape)})"
        for key in expected
        if key in tensors and tensors[key].shape != expected[key].shape
    ]
    return [f"{key} (missing)" for key in missing], misfits


AVERAGED = ("ema", "teacher")
"""Where two state dicts fit alike, the one under such a key is taken, as timm does: it is the mean over many steps."""


def find_state_dict(content: Any, expected: set[str], where: str) -> dict[str, Tensor]:
    """Return the state dict in a checkpoint that holds most of a network's names, without what stands before them: the
    keys of nested dicts, and what a larger model puts there, such as "module.backbone.".

    Args:
        content: see `read_checkpoint`.
        expected: the network's names.
        where: what a message names as the place.
    """
    candidates: dict[str, dict[str, Tensor]] = {}
    for place, tensors in _state_dicts(content):
        prefixes = Counter(name.removesuffix(end) for name in tensors for end in _ends(name) if end in expected)
        for prefix in {""} | {prefix for prefix, count in prefixes.items() if count > len(expected) / 2}:
            own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
            candidates[place + prefix] = own
    fitting = {place: len(expected & candidates[place].keys()) for place in sorted(candidates)}
    averaged = {place: any(word in place.lower() for word in AVERAGED) for place in fitting}
    best = max(fitting, key=lambda place: (fitting[place], averaged[place], len(candidates[place])), default="")
    alike = [place for place in fitting if fitting[place] == fitting[best]] if fitting.get(best) else []
    if len(alike) > 1:
        log.info(f"{where}: it holds such weights {len(alike)} times ({', '.join(alike)}); those of {best} are taken")
    return candidates.get(best, {})


def _state_dicts(content: Any, place: str = "", depth: int = 0) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield the tensors of each of nested dicts, with the keys that lead there."""
    if isinstance(content, dict) and depth < 8:  # a dict may hold itself; training scripts nest two or three
        yield place, {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
        for name, value in content.items():
            yield from _state_dicts(value, f"{place}{name}.", depth + 1)


def _ends(name: str) -> list[str]:
    """Return what a name ends in: a.b.c, b.c, c."""
    parts = name.split(".")
    return [".".join(parts[start:]) for start in range(len(parts))]


def _with_timm_names(tensors: dict[str, Tensor], backbone: nn.Module, name: str) -> dict[str, Tensor]:
    """Translate older names and resize position tables to the image size, as timm does when it loads weights."""
    family = sys.modules[model_entrypoint(name).__module__]
    translate = getattr(family, "checkpoint_filter_fn", None)
    try:
        return cast(dict[str, Tensor], translate(dict(tensors), backbone)) if translate else tensors
    except Exception:  # the tensors are of another backbone: the caller names those that don't fit
        return tensors
