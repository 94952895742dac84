"""Networks before they are trained: their plan, their first weights, and the file of one."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from reid.models.backbones import contiguous
from reid.models.networks import Network, NetworkPlan, channels_last
from reid.models.pretrained import Backbone, count_features, describe_backbone, load_pretrained
from reid.runtime.files import write_bytes

__all__ = ["build_network", "plan_network", "save_network"]


def plan_network(backbone: Backbone | str, image_size: int, **rest: Any) -> NetworkPlan:
    """Return a plan on a backbone, or on a backbone of that name as timm describes it.

    Raises:
        InputError: timm has no such backbone; it can't take photographs of that size; its pooling or its last stride
            can't be changed as `rest` says.
    """
    backbone = describe_backbone(backbone) if isinstance(backbone, str) else backbone
    features = count_features(backbone, image_size, rest.get("pooling", "backbone"), rest.get("last_stride", 2))
    return NetworkPlan(backbone.name, image_size, backbone.mean, backbone.std, backbone.interpolation, features, **rest)


def build_network(plan: NetworkPlan, seed: int, init: Path | str) -> Network:
    """Return a network to be trained: the backbone's first weights from `init`, the head's from the seed.

    Args:
        plan: what to build.
        seed: of the random weights.
        init: a file with the backbone's state dict, a name on timm's hub, or "none" for random weights.

    Raises:
        InputError: the file does not fit the backbone, or the hub can't be reached.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Network(plan)
    if init != "none":
        load_pretrained(network.backbone, plan.backbone, init)
    channels_last(network)
    return network


def save_network(path: Path, network: Network) -> None:
    """Write the weights and the plan into one safetensors file."""
    write_bytes(path, save(contiguous(network.state_dict()), metadata={"plan": json.dumps(asdict(network.plan))}))
