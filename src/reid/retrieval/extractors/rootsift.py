"""RootSIFT keypoints, through OpenCV."""

from collections.abc import Sequence

import cv2
import numpy as np

from reid.config.recipe import KeypointConfig
from reid.retrieval.keypoints import NO_KEYPOINTS, Detection, Keypoints

__all__ = ["NAME", "VERSION", "detect", "extract"]

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
    detection = detect(image, config)
    return detection.described(np.arange(len(detection)))


def detect(image: np.ndarray, config: KeypointConfig) -> Detection:
    """Return the same keypoints; their descriptors, which take half of the time, are computed when they are wanted.
    They are the same whichever others are wanted with them."""
    grey = _normalised(image, config)
    height, width = grey.shape
    sift = cv2.SIFT.create(contrastThreshold=config.contrast)
    detected = _strongest(sift.detect(grey), config)
    side = max(width, height)
    rows = np.array([(point.pt[0] + 0.5, point.pt[1] + 0.5, point.size, point.angle) for point in detected])
    points = rows.reshape(-1, 4) / side
    points[:, 3] = np.radians(rows.reshape(-1, 4)[:, 3])

    def describe(places: np.ndarray) -> np.ndarray:
        if not len(places):
            return NO_KEYPOINTS.descriptors
        # SIFT doubles the photograph only where one of the keypoints is of the first octave: the first of those comes
        # along, so that all are described on the same pyramid
        smallest = min(detected, key=_octave)
        _, raw = sift.compute(grey, [smallest, *(detected[place] for place in places)])
        raw = raw[1:]  # SIFT's components are whole numbers
        descriptors: np.ndarray = np.sqrt(raw / np.maximum(raw.sum(1, keepdims=True), 1))
        return descriptors.astype(np.float16)

    return Detection(points.astype(np.float32), (width / side, height / side), describe)


def _octave(point: cv2.KeyPoint) -> int:
    """Return the level of SIFT's pyramid on which a keypoint was found; the first is -1."""
    octave: int = point.octave & 255
    return octave - 256 if octave > 127 else octave


def _normalised(image: np.ndarray, config: KeypointConfig) -> np.ndarray:
    """Return the photograph in grey, (h, w) uint8, of the size that settings ask for, its contrast normalised."""
    height, width = image.shape[:2]
    factor = config.side(max(height, width)) / max(height, width)
    scaled_size = max(1, round(width * factor)), max(1, round(height * factor))
    interpolation = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    grey = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), scaled_size, interpolation=interpolation)
    return cv2.createCLAHE(config.clahe, (8, 8)).apply(grey) if config.clahe else grey


def _strongest(detected: Sequence[cv2.KeyPoint], config: KeypointConfig) -> list[cv2.KeyPoint]:
    """Return the keypoints of the strongest response, in an order that does not depend on OpenCV's threads."""
    promising = _leading(detected, 3 * config.count // 2)
    found = _sorted(promising, config)
    if len(found) < config.count and len(promising) < len(detected):
        found = _sorted(detected, config)
    return found[: config.count]


def _leading(detected: Sequence[cv2.KeyPoint], count: int) -> Sequence[cv2.KeyPoint]:
    """Return `count` keypoints of the strongest response and those that are as strong as the last of them: to sort all
    of them takes longer."""
    if len(detected) <= count:
        return detected
    responses = np.array([point.response for point in detected])
    least = np.partition(responses, -count)[-count]
    return [point for point, is_strong in zip(detected, responses >= least, strict=True) if is_strong]


def _sorted(detected: Sequence[cv2.KeyPoint], config: KeypointConfig) -> list[cv2.KeyPoint]:
    if config.upright:  # SIFT repeats a keypoint for every strong angle; without angles these are one
        for point in detected:
            point.angle = 0
        detected = list({(point.pt, point.size): point for point in detected}.values())
    return sorted(detected, key=_strength)


def _strength(point: cv2.KeyPoint) -> tuple[float, ...]:
    return (-point.response, *point.pt, point.size, point.angle)
