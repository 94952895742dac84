"""Photographs to find keypoints on, whose warped copies have keypoints at known places."""

import cv2
import numpy as np

from reid.config.recipe import KeypointConfig
from reid.retrieval.extractors.rootsift import extract
from reid.retrieval.keypoints import Keypoints

SMALL = KeypointConfig(size=160, count=150, upright=False)
TURNED = np.array([[0.9, 0.25, -8.0], [-0.2, 0.95, 22.0]])
"""An affine map that keeps most of a texture of 160 x 160 pixels inside."""


def texture(seed: int, side: int = 160) -> np.ndarray:
    """Blobs of many sizes, (side, side, 3) uint8: SIFT finds many keypoints on them."""
    rng = np.random.default_rng(seed)
    blobs = sum(
        cv2.resize(rng.normal(size=(side // cell, side // cell)), (side, side), interpolation=cv2.INTER_CUBIC)
        for cell in (4, 8, 16)
    )
    grey = np.clip(128 + 45 * np.asarray(blobs), 0, 255).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, 2)


def warped(image: np.ndarray, matrix: np.ndarray = TURNED) -> np.ndarray:
    return np.asarray(cv2.warpAffine(image, matrix, image.shape[1::-1], borderMode=cv2.BORDER_REFLECT))


def blank() -> Keypoints:
    return extract(np.full((40, 60, 3), 90, np.uint8), SMALL)


def equal(one: Keypoints, other: Keypoints) -> bool:
    names = ("points", "descriptors", "weights")
    return one.extent == other.extent and all(
        np.array_equal(getattr(one, name), getattr(other, name)) for name in names
    )
