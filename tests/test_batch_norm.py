"""Folded backbones give the same features, and those that can't be folded stay as they are.

Synchronised batch norms need several ranks: tests/test_ranks.py.
"""

import logging
from collections.abc import Callable

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from reid.models.batch_norm import fold_batch_norms

PIXELS = torch.rand(4, 3, 96, 96, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def trained(backbone: nn.Module) -> nn.Module:
    """The backbone in float64 with the statistics of these pixels; new norms would scale and shift by nothing."""
    torch.manual_seed(0)
    backbone = backbone.double()
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
            if module.affine:
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.uniform_(module.bias, -0.5, 0.5)
    with torch.no_grad():
        backbone.train()(PIXELS)
    return backbone.eval()


def make(name: str) -> nn.Module:
    torch.manual_seed(0)
    return trained(timm.create_model(name, pretrained=False, num_classes=0))


def features(backbone: nn.Module) -> Tensor:
    with torch.no_grad():
        return backbone(PIXELS)


def norms(backbone: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in backbone.modules())


@pytest.mark.parametrize(
    ("name", "there", "left"),
    [
        ("resnet18", 20, 0),
        ("test_efficientnet", 13, 0),
        ("test_byobnet", 14, 0),
        ("tf_efficientnet_lite0", 49, 0),
        ("mobilenetv3_small_050", 34, 0),
        ("regnety_002", 44, 0),
        ("resnetv2_50", 49, 17),  # these stand before their convolutions
        ("densenet121", 121, 62),  # likewise
        ("mobilevit_xxs", 32, 0),  # shapes decide what its code does
        ("efficientvit_b0", 26, 0),
        ("cpubone_nano", 19, 0),
        ("efficientvim_m1", 38, 0),
    ],
)
def test_norms_go_into_the_convolutions_before_them_and_nothing_changes(name: str, there: int, left: int) -> None:
    backbone = make(name)
    expected = features(backbone)
    folded = fold_batch_norms(backbone, 96)
    assert (norms(backbone), norms(folded)) == (there, left)
    torch.testing.assert_close(features(folded), expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(features(backbone), expected, rtol=0, atol=0)
    smaller = PIXELS[:, :, :64, :64]  # another size than that of the passes
    with torch.no_grad():
        torch.testing.assert_close(folded(smaller), backbone(smaller), rtol=1e-9, atol=1e-9)


class Doubled(nn.Conv2d):
    """A convolution of its own kind."""

    def forward(self, pixels: Tensor) -> Tensor:
        return 2 * super().forward(pixels)


class Squared(nn.BatchNorm2d):
    """A norm of its own kind."""

    def forward(self, pixels: Tensor) -> Tensor:
        return super().forward(pixels) ** 2


class Pair(nn.Module):
    """Two convolutions and two norms, to be called in some order."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(2))
        self.norm, self.other_norm = nn.BatchNorm2d(3), nn.BatchNorm2d(3)


class OneNorm(Pair):
    def forward(self, pixels: Tensor) -> Tensor:
        return self.norm(self.second(self.norm(self.first(pixels))))


class OneConvolution(Pair):
    def forward(self, pixels: Tensor) -> Tensor:
        return self.other_norm(self.first(self.norm(self.first(pixels))))


class Branched(Pair):
    def forward(self, pixels: Tensor) -> Tensor:
        output = self.first(pixels)
        return output + self.norm(output)


class WeightsRead(Pair):
    def forward(self, pixels: Tensor) -> Tensor:
        return self.norm(self.first(pixels)) + self.first.weight.sum()


class ShiftRead(Pair):
    def forward(self, pixels: Tensor) -> Tensor:
        return self.norm(self.first(pixels)) + self.norm.bias.sum()


class Listed(Pair):
    def forward(self, pixels: Tensor) -> Tensor:
        output = self.first(pixels)
        return torch.cat([output, self.norm(output)])


class Overwritten(Pair):
    def forward(self, pixels: Tensor) -> Tensor:
        output = self.first(pixels)
        output.add_(1)
        return self.norm(output)


class WeightsAlone(Pair):
    """Its convolution's weights are used, its bias, which folding would change, is not."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 3, 3, bias=False)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.norm(functional.conv2d(pixels, self.first.weight))


class NormReplaced(Pair):
    """Its norm's numbers are used by other code."""

    def forward(self, pixels: Tensor) -> Tensor:
        norm = self.norm
        return functional.batch_norm(self.first(pixels), norm.running_mean, norm.running_var, norm.weight, norm.bias)


@pytest.mark.parametrize(
    "build",
    [
        lambda: nn.Sequential(Doubled(3, 3, 1), nn.BatchNorm2d(3)),
        lambda: nn.Sequential(nn.Conv2d(3, 3, 1), Squared(3)),
        lambda: nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, track_running_stats=False)),
        OneNorm,
        OneConvolution,
        Branched,
        WeightsRead,
        ShiftRead,
        Listed,
        Overwritten,
        WeightsAlone,
        NormReplaced,
    ],
)
def test_what_is_not_plain_or_not_alone_is_not_folded(build: Callable[[], nn.Module]) -> None:
    backbone = trained(build())
    folded = fold_batch_norms(backbone, 96)
    used = [module for module in folded.modules() if isinstance(module, nn.BatchNorm2d)]
    assert used
    torch.testing.assert_close(features(folded), features(backbone))


def test_a_norm_without_scale_and_a_convolution_without_bias_are_folded() -> None:
    backbone = trained(nn.Sequential(nn.Conv2d(3, 5, 1, bias=False), nn.BatchNorm2d(5, affine=False)))
    folded = fold_batch_norms(backbone, 96)
    assert not norms(folded)
    torch.testing.assert_close(features(folded), features(backbone))


def test_modules_under_two_names_are_folded_under_both() -> None:
    class Twice(Pair):
        def __init__(self) -> None:
            super().__init__()
            self.path = nn.Sequential(self.first, self.norm)

        def forward(self, pixels: Tensor) -> Tensor:
            return self.path(pixels)

    backbone = trained(Twice())
    folded = fold_batch_norms(backbone, 96)
    assert (norms(backbone), norms(folded)) == (2, 1)  # the other norm is not used
    torch.testing.assert_close(features(folded), features(backbone), rtol=1e-9, atol=1e-9)


def test_folding_leaves_the_numbers_of_the_backbone_and_the_global_generator_alone() -> None:
    backbone = make("test_efficientnet")
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    fold_batch_norms(backbone, 96)
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.state_dict().items())


def test_a_backbone_in_training_mode_stays_as_it_is() -> None:
    backbone = make("test_resnet").train()
    assert fold_batch_norms(backbone, 96) is backbone


def test_a_backbone_that_looks_at_values_stays_as_it_is_which_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    class Branching(Pair):
        def forward(self, pixels: Tensor) -> Tensor:
            return self.norm(self.first(pixels)) if pixels.sum() > 0 else pixels

    caplog.set_level(logging.INFO, "reid")
    backbone = Branching().eval()
    assert fold_batch_norms(backbone, 96) is backbone
    assert caplog.messages[0].startswith("Branching: its batch norms are not folded, which is slower (")


def test_norms_after_activations_stay_which_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "reid")
    backbone = trained(nn.Sequential(nn.Conv2d(3, 3, 1), nn.GELU(), nn.BatchNorm2d(3)))  # as in a ConvMixer
    assert fold_batch_norms(backbone, 96) is backbone
    assert caplog.messages[0].startswith("Sequential: its batch norms are not folded, which is slower (none of them")


def test_a_backbone_without_batch_norms_stays_as_it_is_and_nothing_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "reid")
    backbone = timm.create_model("test_vit", num_classes=0).eval()
    assert fold_batch_norms(backbone, 96) is backbone
    assert not caplog.messages
