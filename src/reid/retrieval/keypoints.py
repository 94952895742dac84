"""Keypoints: the local features of a photograph, whichever extractor found them.

Descriptors have unit length and are the more alike the larger their inner product. `retrieval.extractors.table` has the
extractors by name.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import cv2
import numpy as np

from reid.config.recipe import KeypointConfig
from reid.errors import InputError

__all__ = [
    "NO_KEYPOINTS",
    "Detection",
    "Keypoints",
    "check_keypoints",
    "cue_masks",
    "foreground",
    "keypoints_from",
    "on_mask",
    "saliency_weights",
    "selection",
    "stack_arrays",
    "tensors_of",
    "top_k",
]


@dataclass(frozen=True)
class Keypoints:
    """One photograph's local features, the strongest first.

    Attributes:
        points: (N, 4) float32: x and y of the centre, the diameter, and the angle in radians. Lengths are shares of the
            photograph's longer side. Learned features have neither diameter nor angle: 0. Matching and verification use
            the centres alone.
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


@dataclass(frozen=True)
class Detection:
    """One photograph's local features, the strongest first, before it is known which of them need descriptors.

    Attributes:
        points: (N, 4) float32, see `Keypoints`.
        extent: likewise.
        describe: returns the descriptors, (n, D) float16, of those at some places, (n,) int64, ascending.
    """

    points: np.ndarray
    extent: tuple[float, float]
    describe: Callable[[np.ndarray], np.ndarray]

    def __len__(self) -> int:
        return len(self.points)

    def of(self, chosen: np.ndarray) -> "Detection":
        """Return the keypoints that a mask chooses."""
        places = np.flatnonzero(chosen)
        return Detection(self.points[places], self.extent, lambda some: self.describe(places[some]))

    def described(self, places: np.ndarray) -> Keypoints:
        """Return the keypoints at some places, (n,) int64, ascending, with their descriptors; all weights are 1."""
        weights = np.ones(len(places), np.float32)
        return Keypoints(self.points[places], self.describe(places), self.extent, weights)

    def at_once(self) -> "Detection":
        """Return the same keypoints, described now."""
        return Detection.complete(self.described(np.arange(len(self))))

    @classmethod
    def complete(cls, keypoints: Keypoints) -> "Detection":
        """Return keypoints that are described already."""
        return cls(keypoints.points, keypoints.extent, lambda places: keypoints.descriptors[places])


Found = TypeVar("Found", Keypoints, Detection)


def saliency_weights(points: np.ndarray, extent: tuple[float, float], saliency: np.ndarray, fit: str) -> np.ndarray:
    """Return the saliency of a network at the places of keypoints, (N,) float32.

    Args:
        points: (N, 4) of a photograph.
        extent: of the photograph.
        saliency: (h, w) float32 from 0 to 1, over the square that the network embedded.
        fit: how the photograph was made a square, "squash" or "pad".
    """
    if not len(points):
        return np.zeros(0, np.float32)
    sides = np.array(extent)
    across = points[:, :2] / sides if fit == "squash" else points[:, :2] + (1 - sides) / 2
    x, y = (across * saliency.shape[::-1] - 0.5).T.astype(np.float32)  # the centre of a cell is where its value holds
    weights = cv2.remap(saliency, x[None], y[None], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(weights, np.float32).ravel()


def on_mask(keypoints: Found, mask: np.ndarray | None) -> Found:
    """Return the keypoints whose centre lies on the animal by a mask (h, w) bool over the whole photograph, if any."""
    if mask is None or not len(keypoints):
        return keypoints
    size = np.array(mask.shape[::-1])
    x, y = np.minimum((keypoints.points[:, :2] / keypoints.extent * size).astype(int), size - 1).T
    return keypoints.of(mask[y, x])


def selection(weights: np.ndarray, count: int, least: float) -> np.ndarray:
    """Return which keypoints cues use, (N,) bool: the strongest `count`, and the strongest `count` of those on the
    animal (see `foreground`).

    Args:
        weights: (N,), see `Keypoints`.
        count, least: `keypoints.count` and `keypoints.foreground`.
    """
    on_animal = weights >= least
    chosen: np.ndarray = np.arange(len(weights)) < count
    return chosen | (on_animal & (on_animal.cumsum() <= count))


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


def check_keypoints(keypoints: Keypoints, name: str, dimension: int) -> Keypoints:
    """Return keypoints as they are, after every promise of an extractor is checked.

    Args:
        keypoints: of a photograph.
        name: of the extractor.
        dimension: D of its descriptors.

    Raises:
        InputError: shapes, types, places outside the photograph, descriptors of another length, or no numbers.
    """
    if problem := _broken_promise(keypoints, dimension):
        raise InputError(
            f"local feature {name}: expected {problem}. Its weights are damaged, or its code has a fault: fetch the "
            f"weights again (`reid fetch {name} --out FILE`), or choose another with --set keypoints.extractor=NAME"
        )
    return keypoints


def _broken_promise(keypoints: Keypoints, dimension: int) -> str:
    """Return what was expected of keypoints and what was found; "" where all is well."""
    points, descriptors, weights = keypoints.points, keypoints.descriptors, keypoints.weights
    found = [(array.shape, array.dtype.name) for array in (points, descriptors, weights)]
    count = len(points)
    wanted = [((count, 4), "float32"), ((count, dimension), "float16"), ((count,), "float32")]
    if found != wanted:
        return f"points, descriptors and weights of {wanted}, found {found}"
    if not all(np.isfinite(array).all() for array in (points, descriptors, weights)):
        return "numbers, found NaN or infinity"
    if not (max(keypoints.extent) == 1 and min(keypoints.extent) > 0):
        return f"an extent whose longer side is 1, found {keypoints.extent}"
    if ((points[:, :2] < 0) | (points[:, :2] > np.array(keypoints.extent, np.float32))).any() or (
        points[:, 2] < 0
    ).any():
        return f"places inside the photograph of extent {keypoints.extent}, found others"
    lengths = np.linalg.norm(descriptors.astype(np.float32), axis=1)
    if (off := (np.abs(lengths - 1) > 2e-3) & (lengths > 0)).any():  # SIFT has zeros where it sees no gradient
        return f"descriptors of length 1, found {lengths[off][0]:.3g}"
    if ((weights < 0) | (weights > 1)).any():
        return "weights from 0 to 1, found others"
    return ""


def stack_arrays(photographs: Sequence[Keypoints]) -> np.ndarray:
    """Return the descriptors of photographs of one extractor, (M, D) float16, one photograph below the other.

    Those without keypoints have no say in D: where none has any, it is that of `NO_KEYPOINTS`. Where they lie below
    each other already, as those of a gallery's file do, nothing is copied: they may stay on the disk.
    """
    parts = [one.descriptors for one in photographs if len(one)] or [NO_KEYPOINTS.descriptors]
    whole = parts[0].base
    if whole is None or not _adjoin(parts, whole):
        return np.concatenate(parts)
    first = (_address(parts[0]) - _address(whole)) // parts[0][0].nbytes
    return whole[first : first + sum(map(len, parts))]


def _adjoin(parts: Sequence[np.ndarray], whole: np.ndarray) -> bool:
    """Return whether some matrices are rows of a whole one, each beginning in memory where the one before it ends."""
    if not all(part.base is whole and part.flags.c_contiguous for part in parts):
        return False
    if (whole.shape[1:], whole.dtype) != (parts[0].shape[1:], parts[0].dtype) or not whole.flags.c_contiguous:
        return False
    return all(_address(one) + one.nbytes == _address(other) for one, other in pairwise(parts))


def _address(array: np.ndarray) -> int:
    return int(array.ctypes.data)


def tensors_of(photographs: Sequence[Keypoints]) -> dict[str, np.ndarray]:
    """Return what a safetensors file can hold: points (M, 4), descriptors (M, D) and weights (M,), extents (N, 2) and
    counts (N,)."""
    return {
        "points": np.concatenate([keypoints.points for keypoints in photographs]),
        "descriptors": stack_arrays(photographs),
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
