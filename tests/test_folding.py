"""Folded trunks say what the trunks say."""

import pytest
import timm
import torch
from torch import Tensor, nn

from reid.folding import folded

PIXELS = torch.rand(4, 3, 96, 96, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def trunk_with_norms(name: str) -> nn.Module:
    """A trunk in float64 whose norms have seen these pixels; new ones would scale and shift by nothing."""
    torch.manual_seed(0)
    trunk = timm.create_model(name, pretrained=False, num_classes=0).double()
    for module in trunk.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    with torch.no_grad():
        trunk.train()(PIXELS)
    return trunk.eval()


def features(trunk: nn.Module, pixels: Tensor = PIXELS) -> Tensor:
    with torch.no_grad():
        return trunk(pixels)


def norms(trunk: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in trunk.modules())


@pytest.mark.parametrize(
    "name",
    ["resnet18", "test_efficientnet", "test_byobnet", "tf_efficientnet_lite0", "mobilenetv3_small_050", "regnety_002"],
)
def test_every_norm_goes_into_a_convolution_and_changes_nothing(name: str) -> None:
    trunk = trunk_with_norms(name)
    assert norms(trunk)
    expected = features(trunk)
    quick = folded(trunk)
    assert not norms(quick)
    torch.testing.assert_close(features(quick), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["resnetv2_50", "densenet121", "test_convnext"])
def test_norms_behind_something_else_stay_and_nothing_changes(name: str) -> None:
    trunk = trunk_with_norms(name)
    expected = features(trunk)
    torch.testing.assert_close(features(folded(trunk)), expected, rtol=1e-9, atol=1e-9)


class Doubled(nn.Conv2d):
    """A convolution of its own kind."""

    def forward(self, pixels: Tensor) -> Tensor:
        return 2 * super().forward(pixels)


class Shared(nn.Module):
    """A convolution, or a norm, that is called twice."""

    def __init__(self, norms: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(3) for _ in range(norms))

    def forward(self, pixels: Tensor) -> Tensor:
        if len(self.norms) == 1:
            return self.norms[0](self.second(self.norms[0](self.first(pixels))))
        return self.norms[1](self.first(self.norms[0](self.first(pixels))))


class Branched(nn.Module):
    """A convolution that not only the norm looks at."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, pixels: Tensor) -> Tensor:
        output = self.convolution(pixels)
        return output + self.norm(output)


@pytest.mark.parametrize(
    "trunk",
    [nn.Sequential(Doubled(3, 3, 1), nn.BatchNorm2d(3)), Shared(norms=1), Shared(norms=2), Branched()],
    ids=[
        "another kind of convolution",
        "a norm that is called twice",
        "a convolution that is called twice",
        "branched",
    ],
)
def test_what_is_not_alone_or_not_plain_is_not_folded(trunk: nn.Module) -> None:
    trunk.double().train()(PIXELS)
    expected, before = features(trunk.eval()), norms(trunk)
    quick = folded(trunk)
    assert norms(quick) == before
    torch.testing.assert_close(features(quick), expected)


def test_a_trunk_that_cannot_be_traced_runs_as_it_is() -> None:
    class Branching(nn.Module):
        def forward(self, pixels: Tensor) -> Tensor:
            return pixels if pixels.sum() > 0 else -pixels

    trunk = Branching()
    assert folded(trunk) is trunk
