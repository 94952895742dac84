"""The networks: a species classifier and encoders on timm's trunks, in and out of safetensors files.

A network takes photographs as bytes, (B, 3, S, S) uint8, brings them to its own size and normalises them itself: what
it was trained with travels in its file and can't be forgotten. Its file also names the photographs that it was trained
on, because a threshold may only be fitted on others.
"""

import difflib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import timm
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn import functional

from reid import InputError
from reid.files import write_bytes

__all__ = [
    "Network",
    "NetworkPlan",
    "best_device",
    "build_network",
    "load_network",
    "plan_network",
    "save_network",
]


@dataclass(frozen=True)
class NetworkPlan:
    """All that is needed to build a network again, without a hub.

    Attributes:
        trunk: timm's name.
        image_size: pixels on a side that the trunk sees.
        mean, std: per channel, of values in 0..1, as the trunk's first weights were trained.
        hidden_size: of the head's hidden layer; 0 for none.
        embedding_size: D of an encoder; 0 for a classifier.
        classes: what a classifier's outputs stand for; empty for an encoder.
        trained_on: image_ids of the photographs it has learned from.
    """

    trunk: str
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    hidden_size: int = 0
    embedding_size: int = 0
    classes: tuple[str, ...] = ()
    trained_on: tuple[str, ...] = ()

    @property
    def outputs(self) -> int:
        """D of an encoder, the number of classes of a classifier."""
        return self.embedding_size or len(self.classes)


class Network(nn.Module):
    """A trunk and a head. An encoder gives embeddings (B, D), a classifier gives logits (B, classes)."""

    mean: Tensor
    std: Tensor

    def __init__(self, plan: NetworkPlan) -> None:
        super().__init__()
        self.plan = plan
        self.trunk = cast(Any, timm.create_model(plan.trunk, pretrained=False, num_classes=0))
        # some trunks widen their features once more before the head that was taken off
        features: int = getattr(self.trunk, "head_hidden_size", None) or self.trunk.num_features
        if plan.hidden_size:
            # CoinCheung/triplet-reid-pytorch, after Hermans et al. 2017, section 5.1: two layers, norm in between
            hidden = [nn.Linear(features, plan.hidden_size), nn.BatchNorm1d(plan.hidden_size), nn.ReLU()]
            self.head = nn.Sequential(*hidden, nn.Linear(plan.hidden_size, plan.outputs))
        else:
            self.head = nn.Sequential(nn.Linear(features, plan.outputs))
        self.register_buffer("mean", torch.tensor(plan.mean).view(1, -1, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(plan.std).view(1, -1, 1, 1) * 255, persistent=False)

    def forward(self, photographs: Tensor) -> Tensor:
        """(B, 3, S, S) uint8 -> (B, D) float32. The trunk may have another precision; what is around it has not."""
        pixels = (photographs.to(self.mean.dtype) - self.mean) / self.std
        if pixels.shape[-1] != self.plan.image_size:
            size = (self.plan.image_size, self.plan.image_size)
            pixels = functional.interpolate(pixels, size, mode="bilinear", antialias=True)
        pixels = pixels.to(next(self.trunk.parameters()).dtype, memory_format=torch.channels_last)
        return cast(Tensor, self.head(self.trunk(pixels).float()))


def best_device() -> torch.device:
    """The GPU when there is one, else the processor."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def plan_network(trunk: str, image_size: int, **head: Any) -> NetworkPlan:
    """A plan with the mean and deviation that timm knows for the trunk.

    Raises:
        InputError: timm has no such trunk; the nearest names are offered.
    """
    if not timm.is_model(trunk):
        near = difflib.get_close_matches(trunk, timm.list_models(), n=3)
        raise InputError(
            f"trunk: expected a name that timm {timm.__version__} knows, found {trunk!r}"
            + (f"; near it are {', '.join(near)}" if near else "; `timm.list_models()` lists them")
        )
    known = timm.get_pretrained_cfg(trunk, allow_unregistered=True)
    mean, std = (known.mean, known.std) if known else ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    return NetworkPlan(trunk=trunk, image_size=image_size, mean=tuple(mean), std=tuple(std), **head)


def build_network(plan: NetworkPlan, seed: int, init: Path | str) -> Network:
    """A network to be trained: the trunk's first weights from `init`, the head's from the seed.

    Args:
        plan: what to build.
        seed: of the random weights.
        init: a file with the trunk's state dict, "imagenet" for timm's hub, or "none" for random weights.

    Raises:
        InputError: the file does not fit the trunk, or the hub can't be reached.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Network(plan)
    if init == "imagenet":
        network.trunk.load_state_dict(_from_hub(plan.trunk))
    elif init != "none":
        _load_trunk(network.trunk, Path(init))
    return network.to(memory_format=torch.channels_last)


def _from_hub(trunk: str) -> dict[str, Tensor]:
    try:
        return cast(dict[str, Tensor], timm.create_model(trunk, pretrained=True, num_classes=0).state_dict())
    except Exception as problem:  # the hub's client raises its own, urllib's and timm's errors
        raise InputError(
            f"init: expected ImageNet weights of {trunk} from timm's hub, got none ({str(problem).splitlines()[0]}). "
            "Without a network, name a file with --init FILE, or train from random weights with --set init=none"
        ) from None


def _load_trunk(trunk: nn.Module, path: Path) -> None:
    """Fills the trunk from a state dict; tensors of a classifier's head are left aside."""
    try:
        if path.suffix == ".safetensors":
            found = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)  # tensors only: no code of a pickle runs
    except FileNotFoundError:
        raise InputError(
            f"--init {path}: expected a state dict of the trunk (.safetensors or .pth), found no file"
        ) from None
    except Exception as problem:  # safetensors, zip and pickle have each their own errors
        reason = str(problem).splitlines()[0]
        raise InputError(
            f"--init {path}: expected a state dict (.safetensors or .pth), but it can't be read ({reason})"
        ) from None
    expected = trunk.state_dict()
    missing = [name for name in expected if name not in found and not name.endswith("num_batches_tracked")]
    misfits = [
        f"{name} (expected {tuple(expected[name].shape)}, found {tuple(found[name].shape)})"
        for name in expected
        if name in found and found[name].shape != expected[name].shape
    ]
    faults = [f"{name} (missing)" for name in missing] + misfits
    if faults:
        others = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise InputError(
            f"--init {path}: its tensors don't fit the trunk: {', '.join(faults[:3])}{others}. "
            "Name the trunk that the file belongs to with --set trunk=NAME"
        )
    trunk.load_state_dict({name: found[name] for name in expected if name in found}, strict=False)


def save_network(path: Path, network: Network) -> None:
    """Writes the weights and the plan into one safetensors file."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    write_bytes(path, save(tensors, metadata={"plan": json.dumps(asdict(network.plan))}))


def load_network(path: Path) -> Network:
    """The network of a file, ready to embed.

    Raises:
        InputError: no such file, or not one that `save_network` wrote.
    """
    try:
        with safe_open(path, framework="pt") as opened:
            stored = json.loads((opened.metadata() or {})["plan"])
        restored: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in stored.items()
        }
        plan = NetworkPlan(**restored)
        network = Network(plan)
        network.load_state_dict(load_file(path))
    except FileNotFoundError:
        raise InputError(f"{path}: expected a network's weights here, found no file") from None
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError, OSError) as problem:
        reason = str(problem).splitlines()[0][:300]
        raise InputError(
            f"{path}: expected a network written by this kit, but it can't be loaded with timm {timm.__version__} "
            f"({reason}). Copy the weights folder again, or train again"
        ) from None
    return network.eval().to(memory_format=torch.channels_last)
