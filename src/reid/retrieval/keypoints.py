"""Keypoints: the local features of a photograph, whichever extractor found them.

An extractor is a module of `retrieval.extractors` with its NAME, its VERSION, and a function
`extract(image, config) -> Keypoints` whose descriptors have unit length and are the more alike the larger their inner
product.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from reid.config.recipe import KeypointConfig

__all__ = [
    "NO_KEYPOINTS",
    "Keypoints",
    "cue_masks",
    "foreground",
    "keypoints_from",
    "select_keypoints",
    "tensors_of",
    "top_k",
    "weight_by_saliency",
]


@dataclass(frozen=True)
class Keypoints:
    """One photograph's local features, the strongest first.

    Attributes:
        points: (N, 4) float32: x and y of the centre, the diameter, and the angle in radians. Lengths are shares of the
            photograph's longer side.
        descriptors: (N, D) float16 of unit length; a component is off by 2^-11 of itself, a similarity by less than
            0.001.
        extent: the photograph's width and height, the longer of them 1.
        weights: (N,) float32 from 0 to 1, how surely each lies on the animal; 1 where no encoder can tell.
    """

    points: np.ndarray
    descriptors: np.ndarray
    extent: tuple[float, float]
    weights: np.ndarray

    def __len__(self) -> int:
        return len(self.points)

    def of(self, chosen: np.ndarray) -> "Keypoints":
        """Return the keypoints that a mask or places choose."""
        return Keypoints(self.points[chosen], self.descriptors[chosen], self.extent, self.weights[chosen])


NO_KEYPOINTS = Keypoints(
    np.zeros((0, 4), np.float32), np.zeros((0, 128), np.float16), (1.0, 1.0), np.zeros(0, np.float32)
)


def weight_by_saliency(keypoints: Keypoints, saliency: np.ndarray, fit: str) -> Keypoints:
    """Return keypoints whose weights are the saliency of a network at their places.

    Args:
        keypoints: of a photograph.
        saliency: (h, w) float32 from 0 to 1, over the square that the network embedded.
        fit: how the photograph was made a square, "squash" or "pad".
    """
    if not len(keypoints):
        return keypoints
    extent = np.array(keypoints.extent)
    across = keypoints.points[:, :2] / extent if fit == "squash" else keypoints.points[:, :2] + (1 - extent) / 2
    x, y = (across * saliency.shape[::-1] - 0.5).T.astype(np.float32)  # the centre of a cell is where its value holds
    weights = cv2.remap(saliency, x[None], y[None], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return replace(keypoints, weights=np.asarray(weights, np.float32).ravel())


def select_keypoints(keypoints: Keypoints, count: int, least: float) -> Keypoints:
    """Return the strongest `count` keypoints, and the strongest `count` of those on the animal (see `foreground`)."""
    on_animal = keypoints.weights >= least
    chosen = np.arange(len(keypoints)) < count
    chosen |= on_animal & (on_animal.cumsum() <= count)
    return keypoints.of(chosen)


def top_k(keypoints: Keypoints, count: int) -> Keypoints:
    """Return the `count` keypoints of the strongest response, wherever they are."""
    return keypoints.of(np.arange(min(count, len(keypoints))))


def foreground(keypoints: Keypoints, least: float) -> Keypoints:
    """Return the keypoints on the animal: those whose weight is `least` or more."""
    return keypoints.of(keypoints.weights >= least)


def cue_masks(keypoints: Keypoints, config: KeypointConfig) -> dict[str, np.ndarray]:
    """Return which of a photograph's (N,) keypoints each cue matches, (N,) bool: "local" the strongest, "foreground"
    those on the animal."""
    return {
        "local": np.arange(len(keypoints)) < config.count,
        "foreground": keypoints.weights >= config.foreground,
    }


def tensors_of(photographs: Sequence[Keypoints]) -> dict[str, np.ndarray]:
    """Return what a safetensors file can hold: points (M, 4), descriptors (M, D) and weights (M,), extents (N, 2) and
    counts (N,)."""
    return {
        "points": np.concatenate([keypoints.points for keypoints in photographs]),
        "descriptors": np.concatenate([keypoints.descriptors for keypoints in photographs]),
        "weights": np.concatenate([keypoints.weights for keypoints in photographs]),
        "extents": np.array([keypoints.extent for keypoints in photographs]),
        "counts": np.array([len(keypoints) for keypoints in photographs]),
    }


def keypoints_from(tensors: dict[str, np.ndarray]) -> tuple[Keypoints, ...]:
    """Return the inverse of `tensors_of`."""
    ends = np.cumsum(tensors["counts"])[:-1]
    points, descriptors, weights = (np.split(tensors[name], ends) for name in ("points", "descriptors", "weights"))
    extents = [(width, height) for width, height in tensors["extents"].tolist()]
    return tuple(map(Keypoints, points, descriptors, extents, weights))
