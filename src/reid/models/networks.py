"""The networks: a species classifier and encoders on timm's backbones, in and out of safetensors files.

A network takes photographs as bytes, (B, 3, S, S) uint8, resizes and normalises them itself: how it was trained is
written in its file. The file also names the photographs that it was trained on, because a threshold may only be fitted
on others.
"""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import timm
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from reid.config.runtime import Runtime
from reid.errors import InputError
from reid.models.backbones import build_backbone, feature_map, first_line, gives_feature_map
from reid.models.timm_import import shapes_only
from reid.runtime.files import as_fields

__all__ = [
    "GeM",
    "Network",
    "NetworkPlan",
    "best_device",
    "cell_weights",
    "channels_last",
    "check_device",
    "has_same_backbone",
    "load_head",
    "load_network",
    "read_plan",
]

NEARLY = 0.05
"""Of the largest feature: so much bfloat16 may change a mean of 49 cells."""

LARGEST = 65536
"""No layer has more units and no photograph more pixels on a side; a recipe may not either."""


@dataclass(frozen=True)
class NetworkPlan:
    """All that is needed to build a network again, without timm's hub.

    Attributes:
        backbone: the architecture, as timm calls it.
        image_size: pixels on a side of the backbone's input.
        mean, std: per channel, of values in 0..1, as the backbone's first weights were trained.
        interpolation: how the photographs that it learned from were resized.
        features: F, the backbone's outputs.
        last_stride: 1 leaves out the last halving of a convolutional backbone's feature map, 2 is as published.
        pooling: "backbone" for the backbone's own, "gem" for generalised means.
        hidden_size: of the head's hidden layer; 0 for none.
        embedding_size: D of an encoder; 0 for the features as they are, or for a classifier.
        neck: a batch norm after the head (BNNeck); the triplet loss may take what is before it, everything else takes
            what is after it.
        normalise: embeddings have length 1, so that a distance d stands for the cosine 1 - d² / 2.
        classes: what a classifier's outputs stand for; empty for an encoder.
        trained_on: image_ids of the photographs it has learned from.
    """

    backbone: str
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    features: int
    last_stride: int = 2
    pooling: str = "backbone"
    hidden_size: int = 0
    embedding_size: int = 0
    neck: bool = False
    normalise: bool = False
    classes: tuple[str, ...] = ()
    trained_on: tuple[str, ...] = ()

    @property
    def has_saliency(self) -> bool:
        """Whether the network can return its saliency."""
        return self.pooling == "gem" or gives_feature_map(self.backbone, self.image_size, self.last_stride)

    @property
    def outputs(self) -> int:
        """D of an encoder, the number of classes of a classifier."""
        return self.embedding_size or len(self.classes) or self.features


class GeM(nn.Module):
    """Generalised-mean pooling (Radenovic, Tolias, Chum 2018, arXiv 1711.02512, equation 3), its exponent learned.

    1 would be the average, infinity the maximum; 3 is where the paper starts.
    """

    def __init__(self) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.tensor(3.0))

    def forward(self, feature_map: Tensor, weights: Tensor | None = None) -> Tensor:
        """(B, F, H, W) -> (B, F) float32; float16 would not hold the powers. `weights` as from `cell_weights`."""
        powers = feature_map.float().clamp(min=1e-6).pow(self.p)  # the paper's epsilon: no power of a negative number
        powers = powers if weights is None else powers * weights
        return powers.mean((2, 3)).pow(1 / self.p)


def cell_weights(covered: Tensor, height: int, width: int) -> Tensor:
    """Return what each cell of a feature map counts in its mean: the share of it that a mask covers, over the mean
    share; 1 for all cells where the mask covers nothing.

    Args:
        covered: (B, 1, S, S) uint8, how much of each pixel the mask covers, 255 for all of it.
        height, width: h and w of the map.

    Returns:
        (B, 1, h, w) float32 of mean 1.
    """
    shares = functional.adaptive_avg_pool2d(covered.float(), (height, width))
    mean = shares.mean((2, 3), keepdim=True)
    return torch.where(mean > 0, shares / mean.clamp(min=1e-9), 1.0)


class Network(nn.Module):
    """A backbone, a head and a neck. An encoder gives embeddings (B, D), a classifier gives logits (B, classes)."""

    mean: Tensor
    std: Tensor
    backbone: Any
    """timm's: their parts have no types."""

    def __init__(self, plan: NetworkPlan, backbone: nn.Module | None = None) -> None:
        """
        Args:
            plan: what to build.
            backbone: one that is there already, to be shared; None to build it.
        """
        super().__init__()
        self.plan = plan
        self.backbone = backbone or build_backbone(plan.backbone, plan.image_size, plan.pooling, plan.last_stride)
        self._means: bool | None = None
        self.pool = GeM() if plan.pooling == "gem" else nn.Identity()
        self.head = _make_head(plan)
        self.neck: nn.Module = nn.Identity()
        if plan.neck:  # Luo et al. 2019, arXiv 1903.07071, section 3.6: without a bias, so that classes lie around zero
            self.neck = nn.BatchNorm1d(plan.outputs)
            self.neck.bias.requires_grad_(False)
        for name, colour in (("mean", plan.mean), ("std", plan.std)):  # real also in a network that is only a shape
            self.register_buffer(name, torch.tensor(colour, device="cpu").view(1, -1, 1, 1) * 255, persistent=False)

    def forward(self, photographs: Tensor, scale: float = 1.0) -> Tensor:
        """Return embeddings, or logits of a classifier.

        Args:
            photographs: (B, 3, S, S) uint8; or (B, 4, S, S) with how much of each pixel a mask covers, 0 to 255, under
                which the feature map is pooled.
            scale: of the image size that the backbone was trained with; others than 1 are for convolutional backbones.

        Returns:
            (B, D) float32, whatever the precision of the backbone.
        """
        return self.finish(self.head(self.pooled_features(photographs, scale)))

    def features_with_saliency(self, photographs: Tensor, scale: float = 1.0) -> tuple[Tensor, Tensor]:
        """Return the backbone's features and the saliency, (B, F) float32 and (B, h, w) float32 from 0 to 1.

        Where GeM pools, it is the norm of the feature map as a share of its peak: a network trained on animals responds
        strongly where there is one, and weakly to the ground that it stands on. Other backbones often end in a layer
        norm, after which all cells have about one length: there it is how much of a cell lies along the class token,
        or, without one, along the mean of the cells.

        Only where the plan says `has_saliency`.
        """
        output = self._unpooled(photographs, scale)
        strength = self._strength(output.detach())  # (B, h, w)
        strongest = strength.amax((1, 2), keepdim=True).clamp(min=1e-9)
        return self._pooled(output, photographs[:, 3:]), strength / strongest

    def _unpooled(self, photographs: Tensor, scale: float) -> Tensor:
        """Return what the backbone gives before it is pooled, see `feature_map`."""
        see = self.backbone if self.plan.pooling == "gem" else self.backbone.forward_features
        return cast(Tensor, see(self.backbone_input(photographs, scale)))

    def _pooled(self, output: Tensor, covered: Tensor) -> Tensor:
        """Pool under masks (B, 1, S, S), or everywhere where there are none, (B, 0, S, S)."""
        if self.plan.pooling == "gem":
            pooled = self.pool(output, cell_weights(covered, *output.shape[2:]) if len(covered[0]) else None)
        else:
            pooled = self.backbone.forward_head(self._weighted(output, covered) if len(covered[0]) else output)
        return cast(Tensor, pooled.float())

    def _weighted(self, output: Tensor, covered: Tensor) -> Tensor:
        """Return the output with each cell times its weight, so that its mean is the one under the mask; as it is where
        the backbone pools otherwise."""
        if feature_map(self.backbone, output) is None or not self._pools_by_mean(output):
            return output
        weighted = output.clone()
        cells = cast(Tensor, feature_map(self.backbone, weighted))
        cells *= cell_weights(covered, *cells.shape[2:]).to(cells.dtype)
        return weighted

    @torch.no_grad()
    def _pools_by_mean(self, output: Tensor) -> bool:
        """Return whether the backbone's own pooling takes the mean of the cells, or none of them at all, found by
        replacing the cells of noise by their mean."""
        if self._means is None:
            modes = [(module, module.training) for module in self.backbone.modules()]
            self.backbone.eval()  # or the noise would shift the statistics of norms
            noise = 100 * torch.randn(output[:1].shape, generator=torch.Generator().manual_seed(0)).to(output)
            flat = noise.clone()
            cells = cast(Tensor, feature_map(self.backbone, flat))
            cells[:] = cells.mean((2, 3), keepdim=True)
            one, other = (self.backbone.forward_head(each).float() for each in (noise, flat))
            self._means = bool((one - other).abs().max() <= NEARLY * one.abs().max())
            for module, training in modes:
                module.training = training
        return self._means

    def _strength(self, output: Tensor) -> Tensor:
        if self.plan.pooling == "gem":
            return cast(Tensor, output.float().norm(dim=1))
        cells = feature_map(self.backbone, output)
        assert cells is not None
        is_token = output.ndim == 3 and getattr(self.backbone, "global_pool", "") == "token"
        along = output[:, 0].float() if is_token else cells.float().mean((2, 3))
        strength: Tensor = torch.einsum("bfhw,bf->bhw", cells.float(), along)
        return strength.clamp(min=0)  # a cell that points away has none

    def pooled_features(self, photographs: Tensor, scale: float = 1.0) -> Tensor:
        """Return the backbone's features: (B, 3 or 4, S, S) uint8 -> (B, F) float32."""
        if photographs.shape[1] > 3:
            return self._pooled(self._unpooled(photographs, scale), photographs[:, 3:])
        return cast(Tensor, self.pool(self.backbone(self.backbone_input(photographs, scale))).float())

    def backbone_input(self, photographs: Tensor, scale: float = 1.0) -> Tensor:
        """Return what the backbone takes of photographs (B, 3 or 4, S, S) uint8: (B, 3, s, s), normalised."""
        pixels = (photographs[:, :3].to(self.mean.dtype) - self.mean) / self.std
        side = round(self.plan.image_size * scale)
        if pixels.shape[-1] != side:
            pixels = functional.interpolate(pixels, (side, side), mode="bilinear", antialias=True)
        return pixels.to(next(self.backbone.parameters()).dtype, memory_format=torch.channels_last)

    def finish(self, vectors: Tensor) -> Tensor:
        """Apply what comes after the head, neck and normalisation: (B, D) -> (B, D)."""
        vectors = self.neck(vectors)
        return functional.normalize(vectors) if self.plan.normalise else vectors


def _make_head(plan: NetworkPlan) -> nn.Module:
    if not plan.embedding_size and not plan.classes:
        return nn.Identity()
    if not plan.hidden_size:
        return nn.Sequential(nn.Linear(plan.features, plan.outputs))
    # CoinCheung/triplet-reid-pytorch, after Hermans et al. 2017, section 5.1: two layers, norm in between
    hidden = [nn.Linear(plan.features, plan.hidden_size), nn.BatchNorm1d(plan.hidden_size), nn.ReLU()]
    return nn.Sequential(*hidden, nn.Linear(plan.hidden_size, plan.outputs))


def channels_last(network: nn.Module) -> None:
    """Lay the weights of convolutions out channels last, which processors and GPUs compute faster, in place.

    `Module.to(memory_format=...)` would stop at the five-dimensional tables that a traced Swin transformer holds.
    """
    for tensor in (*network.parameters(), *network.buffers()):
        if tensor.ndim == 4:
            tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)


def best_device() -> torch.device:
    """Return the GPU when there is one, else the processor."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def check_device(runtime: Runtime) -> None:
    """Check that there is a GPU where one is asked for.

    Raises:
        InputError: there is none; the message says why.
    """
    if runtime.device == "cuda" and not torch.cuda.is_available():
        why = "this PyTorch was built without CUDA" if not torch.version.cuda else "PyTorch sees none"
        raise InputError(
            f"--device cuda: expected a GPU with CUDA, found none ({why}). `nvidia-smi` shows what the machine "
            "has; on a cluster ask for --gpus-per-node=1; to work on the processor: --device auto"
        )


def read_plan(path: Path) -> NetworkPlan:
    """Return the plan of a network's file, without its weights.

    Raises:
        InputError: no such file, or not one that `save_network` wrote.
    """
    with _loading(path), safe_open(path, framework="pt") as opened:
        plan = NetworkPlan(**_renamed(as_fields(json.loads((opened.metadata() or {})["plan"]))))
        _check_plan(plan)
    return plan


def _renamed(plan: dict[str, Any]) -> dict[str, Any]:
    """Return a plan in today's words: 0.1.0 called the backbone a trunk."""
    if "trunk" in plan:
        plan["backbone"] = plan.pop("trunk")
        plan["pooling"] = "backbone" if plan["pooling"] == "trunk" else plan["pooling"]
    return plan


def _tensor_name(name: str) -> str:
    """Return today's name of a tensor in a file of 0.1.0."""
    return f"backbone.{name.removeprefix('trunk.')}" if name.startswith("trunk.") else name


def _check_plan(plan: NetworkPlan) -> None:
    """Refuse what no network was ever planned with, before anything is built from it."""
    if not isinstance(plan.backbone, str) or not timm.is_model(plan.backbone):  # or timm would ask its hub
        raise ValueError(f"its backbone is {plan.backbone!r}")
    sizes = (plan.image_size, plan.features, plan.last_stride, plan.hidden_size, plan.embedding_size)
    if not all(type(size) is int and 0 <= size <= LARGEST for size in sizes) or not plan.image_size:
        raise ValueError(f"its sizes are {sizes}")
    colours = (*plan.mean, *plan.std)
    if not (len(plan.mean) == len(plan.std) == 3 and all(map(math.isfinite, colours)) and min(plan.std) > 0):
        raise ValueError(f"its colours are {colours}")
    if not all(isinstance(word, str) for word in (*plan.classes, *plan.trained_on)):
        raise ValueError("its classes or photographs are no texts")


def _check_shapes(path: Path, shapes: dict[str, Tensor]) -> None:
    """Compare a file's tensors with those that its plan needs, before memory is taken for them."""
    needed = {name: list(tensor.shape) for name, tensor in shapes.items()}
    with safe_open(path, framework="pt") as opened:
        names = list(opened.keys())
        found = {_tensor_name(name): opened.get_slice(name).get_shape() for name in names}
    misfits = sorted(name for name in needed.keys() | found if needed.get(name) != found.get(name))
    if misfits:
        raise ValueError(f"{misfits[0]}: expected {needed.get(misfits[0])}, found {found.get(misfits[0])}")


def load_network(path: Path) -> Network:
    """Return the network of a file, ready to embed.

    Raises:
        InputError: no such file, or not one that `save_network` wrote.
    """
    plan = read_plan(path)
    with _loading(path):
        with shapes_only():  # drawing random weights would take longer than reading the file
            network = Network(plan)
        shapes = network.state_dict()
        _check_shapes(path, shapes)
        tensors = {_tensor_name(name): tensor for name, tensor in load_file(path).items()}
        tensors = {name: tensor.to(shapes[name].dtype) for name, tensor in tensors.items()}
        network.load_state_dict(tensors, assign=True)
        if not _has_values(network):  # some backbones, such as Swin, compute tables when they are built
            network = Network(plan)
            network.load_state_dict(tensors)
    channels_last(network)
    return network.eval()


def has_same_backbone(path: Path, other: Path) -> bool:
    """Return whether the networks of two files see a photograph alike, down to the last weight, and differ at most in
    their heads: as where a backbone was not trained.

    Raises:
        InputError: no such file, or not one that `save_network` wrote.
    """
    alike = ("backbone", "image_size", "mean", "std", "pooling", "last_stride")
    plan, plan_of_other = read_plan(path), read_plan(other)
    if any(getattr(plan, name) != getattr(plan_of_other, name) for name in alike):
        return False
    with _loading(path), safe_open(path, framework="pt") as one, safe_open(other, framework="pt") as two:
        names, names_of_other = ({name for name in opened.keys() if _is_shared(name)} for opened in (one, two))  # noqa: SIM118
        return names == names_of_other and all(
            torch.equal(one.get_tensor(name), two.get_tensor(name)) for name in sorted(names)
        )


def _is_shared(name: str) -> bool:
    """Return whether a tensor of that name belongs to what networks with the same backbone share."""
    return _tensor_name(name).startswith(("backbone.", "pool."))


def load_head(path: Path, other: Network) -> Network:
    """Return the network of a file that has the backbone of another network, see `has_same_backbone`; they share it.

    Raises:
        InputError: no such file, or not one that `save_network` wrote.
    """
    plan = read_plan(path)
    with _loading(path):
        with shapes_only():
            network = Network(plan, other.backbone)
        network.pool = other.pool
        with safe_open(path, framework="pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys() if not _is_shared(name)}  # noqa: SIM118
        nn.ModuleDict({"head": network.head, "neck": network.neck}).load_state_dict(tensors, assign=True)
    return network.eval()


def _has_values(network: Network) -> bool:
    """Return whether every tensor of a network has values, and none is a mere shape."""
    values = (
        value for module in network.modules() for value in (*module.buffers(recurse=False), *vars(module).values())
    )
    return not any(isinstance(value, Tensor) and value.is_meta for value in values)


@contextmanager
def _loading(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise InputError(f"{path}: expected a network's weights here, found no file") from None
    except (SafetensorError, KeyError, TypeError, ValueError, AttributeError, RuntimeError, OSError) as problem:
        raise InputError(
            f"{path}: expected a network written by this kit, but it can't be loaded with timm {timm.__version__} "
            f"({first_line(problem)}). Copy the weights folder again, or train again"
        ) from None
