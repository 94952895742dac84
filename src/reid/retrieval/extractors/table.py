"""The local features by name, and an extractor out of settings and weights."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol, runtime_checkable

import cv2
import numpy as np
import torch

from reid.config.recipe import ROOTSIFT, KeypointConfig
from reid.errors import InputError
from reid.retrieval.extractors import aliked, disk, rootsift, xfeat
from reid.retrieval.extractors.learned import LearnedExtractor, LearnedFeature
from reid.retrieval.extractors.weights import load_weights
from reid.retrieval.keypoints import Detection, Keypoints, check_keypoints

__all__ = ["HAND_MADE", "LEARNED", "Extractor", "detect", "open_extractor"]

LEARNED: dict[str, LearnedFeature] = {
    feature.name: feature for module in (aliked, xfeat, disk) for feature in module.FEATURES
}
"""The learned local features, those of `config.recipe.LEARNED_EXTRACTORS`."""


class Extractor(Protocol):
    """Finds the keypoints of photographs; made once from settings and weights."""

    @property
    def name(self) -> str:
        """As `keypoints.extractor` names it."""

    @property
    def dimension(self) -> int:
        """D of its descriptors."""

    @property
    def device(self) -> torch.device:
        """Where it works."""

    @property
    def made_with(self) -> dict[str, object]:
        """Everything that shapes the keypoints besides settings and photograph, for keys of a cache."""

    def extract(self, image: np.ndarray) -> Keypoints:
        """Return the keypoints of an upright photograph, (H, W, 3) uint8, RGB; see `keypoints.check_keypoints`."""


@runtime_checkable
class Detector(Protocol):
    """An extractor that describes keypoints when it is known which of them are wanted."""

    def detect(self, image: np.ndarray) -> Detection:
        """Return the keypoints that `Extractor.extract` returns, not yet described."""


class RootSift:
    """RootSIFT: no weights, no network."""

    name, dimension, device = ROOTSIFT, 128, torch.device("cpu")

    def __init__(self, config: KeypointConfig) -> None:
        self._config = config

    @property
    def made_with(self) -> dict[str, object]:
        return {"extractor": [rootsift.NAME, rootsift.VERSION], "versions": [cv2.__version__]}

    def extract(self, image: np.ndarray) -> Keypoints:
        return rootsift.extract(image, self._config)

    def detect(self, image: np.ndarray) -> Detection:
        return rootsift.detect(image, self._config)


HAND_MADE: dict[str, Callable[[KeypointConfig], Extractor]] = {ROOTSIFT: RootSift}
"""The local features that need no weights."""


def detect(extractor: Extractor, image: np.ndarray) -> Detection:
    """Return the keypoints of an upright photograph, (H, W, 3) uint8, RGB, described or not yet."""
    if isinstance(extractor, Detector):
        return extractor.detect(image)
    return Detection.complete(check_keypoints(extractor.extract(image), extractor.name, extractor.dimension))


def open_extractor(config: KeypointConfig, weights: Path | None = None) -> Extractor:
    """Return the extractor that settings name.

    Args:
        config: the settings.
        weights: the file of a learned feature's weights; not opened for a hand-made one.

    Raises:
        InputError: kornia or the weights are missing, or the weights are another feature's.
    """
    if config.extractor in HAND_MADE:
        return HAND_MADE[config.extractor](config)
    feature = LEARNED[config.extractor]
    if weights is None or not weights.is_file():
        raise InputError(
            f"local feature {feature.name}: expected a file with its weights, found {weights or 'none'}; run `reid "
            f"enroll DATA --weights WEIGHTS --set keypoints.extractor={feature.name}`, which puts them into the folder"
        )
    return LearnedExtractor(feature, config, weights, partial(load_weights, feature, weights))
