"""Each augmentation changes a photograph as it says, and no more."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scene import scene

from reid.config.recipe import AUGMENTATIONS, AugmentationConfig
from reid.data.augmentation import augment


def photographs(count: int = 64) -> torch.Tensor:
    pixels = np.asarray(scene().resize((32, 32))).transpose(2, 0, 1)
    return torch.from_numpy(pixels.copy()).expand(count, -1, -1, -1)


def augmented(config: AugmentationConfig, seed: int = 0, count: int = 64) -> torch.Tensor:
    return augment(photographs(count), config, np.random.default_rng(seed))


def only(name: str) -> AugmentationConfig:
    return AugmentationConfig(kinds=(name,))


def test_the_same_seed_gives_the_same_pixels_and_each_photograph_its_own() -> None:
    first = augmented(AugmentationConfig())
    assert torch.equal(first, augmented(AugmentationConfig()))
    assert not torch.equal(first, augmented(AugmentationConfig(), seed=1))
    assert len({photograph.numpy().tobytes() for photograph in first}) > 40


def test_a_flip_is_a_flip() -> None:
    assert (augmented(only("flip")).int() - photographs().flip(3).int()).abs().max() <= 1


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_every_augmentation_changes_the_picture_and_keeps_it_recognisable(name: str) -> None:
    changed = (augmented(only(name)).float() - photographs().float()).abs().mean((1, 2, 3))
    assert changed.median() > 1
    if name != "flip":
        assert changed.max() < 60  # of 255; another scene would differ by more


def test_none_is_none() -> None:
    assert torch.equal(augmented(AugmentationConfig(kinds=())), photographs())


def test_each_with_one_half_leaves_half_of_them_alone() -> None:
    changed = augmented(replace(only("flip"), choose="each"), count=400).int() - photographs(400).int()
    untouched = changed.abs().amax((1, 2, 3)) <= 1
    assert 0.4 < untouched.float().mean() < 0.6


def test_jitter_keeps_grey_grey() -> None:
    """Saturation and hue turn around the grey axis, and contrast about the mean: a flat grey picture only gets darker
    or brighter."""
    grey = torch.full((50, 3, 8, 8), 100, dtype=torch.uint8)
    jittered = augment(grey, only("jitter"), np.random.default_rng(0)).int()
    assert (jittered.amax((1, 2, 3)) - jittered.amin((1, 2, 3))).max() <= 1
    assert jittered.min() >= 69
    assert jittered.max() <= 131


def test_a_crop_is_a_stretch_of_at_most_three_tenths_of_the_area_and_invents_nothing() -> None:
    ramp = torch.arange(0, 256, 4).expand(200, 3, 64, 64).byte()
    cropped = augment(ramp, only("crop"), np.random.default_rng(0)).float()
    slope = (cropped[:, 0, 0, 60] - cropped[:, 0, 0, 3]) / 57 / 4
    assert slope.min() > 0.7**0.5 - 0.01
    assert slope.max() < 1.01
    assert slope.min() < 0.86  # the whole range is drawn from
    assert slope.max() > 0.98
    assert (cropped.diff(dim=3) >= 0).all()  # a reflected edge would turn round


def test_rotation_turns_by_at_most_twenty_degrees_about_the_centre() -> None:
    ray = torch.zeros(200, 3, 65, 65, dtype=torch.uint8)
    ray[:, :, 32, 32:] = 255  # from the centre to the right
    turned = augment(ray, only("rotation"), np.random.default_rng(0)).float()[:, 0]
    y, x = torch.meshgrid(torch.arange(65) - 32, torch.arange(65) - 32, indexing="ij")
    far = (x**2 + y**2 > 15**2) & (x**2 + y**2 < 30**2)
    weight = turned * far
    degrees = torch.rad2deg(torch.atan2((weight * y).sum((1, 2)), (weight * x).sum((1, 2))))
    assert degrees.abs().max() < 20.5
    assert degrees.min() < -17
    assert degrees.max() > 17
    assert (turned[:, 32, 32] > 100).all()


def test_erasing_paints_one_grey_rectangle_over_some_photographs() -> None:
    config = AugmentationConfig(kinds=(), erasing=0.5)
    white = torch.full((400, 3, 32, 32), 255, dtype=torch.uint8)
    erased = augment(white, config, np.random.default_rng(0))
    assert set(erased.unique().tolist()) == {128, 255}
    painted = (erased == 128).all(1)  # (B, H, W)
    share = painted.float().mean((1, 2))
    assert 0.4 < (share > 0).float().mean() < 0.6
    assert share.max() < 0.45
    for rectangle in painted[share > 0]:
        height, width = rectangle.any(1).sum(), rectangle.any(0).sum()
        assert rectangle.sum() == height * width  # filled, in one piece
    assert torch.equal(augment(white, config, np.random.default_rng(0)), erased)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_a_mask_moves_with_its_photograph_and_keeps_its_values(name: str) -> None:
    """The first channel as a mask: it goes where the channel goes, and no jitter of colours or erasing reaches it."""
    with_masks = torch.cat([photographs(), photographs()[:, :1]], 1)
    moved, alone = (augment(some, only(name), np.random.default_rng(0)) for some in (with_masks, photographs()))
    assert torch.equal(moved[:, :3], alone)
    assert torch.equal(moved[:, 3:], photographs()[:, :1] if name == "jitter" else alone[:, :1])
    erased = augment(with_masks, AugmentationConfig(kinds=(), erasing=1.0), np.random.default_rng(0))
    assert torch.equal(erased[:, 3:], with_masks[:, 3:])
    assert not torch.equal(erased[:, :3], with_masks[:, :3])
