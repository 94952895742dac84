"""RootSIFT keypoints, through OpenCV."""

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from reid.config.recipe import KeypointConfig
from reid.retrieval.keypoints import NO_KEYPOINTS, Keypoints

__all__ = ["NAME", "VERSION", "extract"]

NAME = "RootSIFT"

VERSION = 1
"""Raise it whenever `extract` gives other keypoints than before: those in caches are stale then."""


def extract(image: np.ndarray, config: KeypointConfig) -> Keypoints:
    """Return the RootSIFT keypoints of a photograph: SIFT descriptors, L1-normalised, square root (Arandjelovic and
    Zisserman, CVPR 2012).

    Args:
        image: (H, W, 3) uint8, RGB, of any size and shape.
        config: the settings; `candidates` and `foreground` are not used here.

    Returns:
        At most `count` keypoints with D = 128, the strongest first; none on a flat image.
    """
    grey = _normalised(image, config)
    height, width = grey.shape
    extent = (width / config.size, height / config.size)
    sift = cv2.SIFT.create(contrastThreshold=config.contrast)
    detected = _strongest(sift.detect(grey), config)
    if not detected:
        return replace(NO_KEYPOINTS, extent=extent)
    described, raw = sift.compute(grey, detected)
    rows = np.array([(point.pt[0] + 0.5, point.pt[1] + 0.5, point.size, point.angle) for point in described])
    points = rows / config.size
    points[:, 3] = np.radians(rows[:, 3])
    descriptors = np.sqrt(raw / np.maximum(raw.sum(1, keepdims=True), 1))  # SIFT's components are whole numbers
    weights = np.ones(len(points), np.float32)
    return Keypoints(points.astype(np.float32), descriptors.astype(np.float16), extent, weights)


def _normalised(image: np.ndarray, config: KeypointConfig) -> np.ndarray:
    """Return the photograph in grey, (h, w) uint8, its longer side of `size` pixels, its contrast normalised."""
    height, width = image.shape[:2]
    factor = config.size / max(height, width)
    scaled_size = max(1, round(width * factor)), max(1, round(height * factor))
    interpolation = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    grey = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), scaled_size, interpolation=interpolation)
    return cv2.createCLAHE(config.clahe, (8, 8)).apply(grey) if config.clahe else grey


def _strongest(detected: Sequence[cv2.KeyPoint], config: KeypointConfig) -> list[cv2.KeyPoint]:
    """Return the keypoints of the strongest response, in an order that does not depend on OpenCV's threads."""
    if config.upright:  # SIFT repeats a keypoint for every strong angle; without angles these are one
        for point in detected:
            point.angle = 0
        detected = list({(point.pt, point.size): point for point in detected}.values())
    return sorted(detected, key=_strength)[: config.count]


def _strength(point: cv2.KeyPoint) -> tuple[float, ...]:
    return (-point.response, *point.pt, point.size, point.angle)
