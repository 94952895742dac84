"""Augmentation of training photographs: flip, rotation, colour jitter, crop, affine map, and random erasing."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from reid.config.recipe import AUGMENTATIONS, AugmentationConfig
from reid.data.photographs import GREY

__all__ = ["Part", "augment"]


class Part(NamedTuple):
    """A rank's share of a batch."""

    rows: int
    """Of the whole batch."""
    own: slice
    """Which of them are the share."""


def augment(
    photographs: Tensor, config: AugmentationConfig, rng: np.random.Generator, part: Part | None = None
) -> Tensor:
    """Augment a batch, each photograph in its own way.

    Flip, rotation, crop and affine map are one resampling together, and the jitter one product with a matrix per
    photograph, so that a batch costs milliseconds on a processor and next to nothing on a GPU. The report names these
    five without amounts; the amounts here keep every marking recognisable.

    Args:
        photographs: (B, 3, S, S) uint8, on any device; or (B, 4, S, S) with masks, which move along and keep their
            values.
        config: which kinds, one of them or each with probability 1/2, and the probability of erasing.
        rng: the same state gives the same pixels.
        part: which part of a batch these are; their pixels are the same as in the whole. None for a whole batch.

    Returns:
        The same shape, uint8.
    """
    part = part or Part(len(photographs), slice(None))
    if config.kinds:
        photographs = _augmented(photographs, config, rng, part)
    return _erased(photographs, config.erasing, rng, part) if config.erasing else photographs


def _augmented(photographs: Tensor, config: AugmentationConfig, rng: np.random.Generator, part: Part) -> Tensor:
    names, rows = config.kinds, part.rows
    drawn = rng.random((rows, len(names))) < 0.5
    if config.choose == "one":
        drawn = rng.integers(len(names), size=rows)[:, None] == np.arange(len(names))
    masks = {
        name: drawn[:, names.index(name)] if name in names else np.zeros(rows, dtype=bool) for name in AUGMENTATIONS
    }
    colour, offset = (amounts[part.own] for amounts in _jitters(masks["jitter"], rng))
    placements = _placements(masks, rng)[part.own]
    device = photographs.device
    grid = functional.affine_grid(torch.from_numpy(placements).to(device), list(photographs.shape), align_corners=False)
    moved = functional.grid_sample(photographs.float(), grid, padding_mode="reflection", align_corners=False)
    colours, masks_moved = moved[:, :3], moved[:, 3:]
    grey = colours.mean((1, 2, 3))[:, None, None, None]  # contrast pulls towards it
    tinted = torch.einsum("bij,bjhw->bihw", torch.from_numpy(colour).to(device), colours)
    tinted = tinted + grey * torch.from_numpy(offset).to(device)[:, None, None, None]
    return torch.cat([tinted, masks_moved], 1).round().clamp(0, 255).byte()


def _erased(photographs: Tensor, probability: float, rng: np.random.Generator, part: Part) -> Tensor:
    """Paint a grey rectangle over some photographs (Zhong et al. 2017, arXiv 1708.04896).

    Amounts as there: 2 to 40 % of the area, sides from 0.3 to 3.3 times each other.
    """
    rows, (height, width) = part.rows, photographs.shape[2:]
    area = rng.uniform(0.02, 0.4, rows)
    aspect = np.exp(rng.uniform(np.log(0.3), np.log(3.3), rows))
    tall, wide = np.minimum(np.sqrt(area * aspect), 1), np.minimum(np.sqrt(area / aspect), 1)  # shares of the sides
    top, left = rng.uniform(0, 1 - tall), rng.uniform(0, 1 - wide)
    erased = rng.random(rows) < probability
    y, x = ((np.arange(side) + 0.5) / side for side in (height, width))
    inside_y = (y >= top[:, None]) & (y < (top + tall)[:, None])
    inside_x = (x >= left[:, None]) & (x < (left + wide)[:, None])
    inside = (inside_y[:, :, None] & inside_x[:, None, :] & erased[:, None, None])[part.own, None]
    painted = photographs[:, :3].masked_fill(torch.from_numpy(inside).to(photographs.device), GREY)
    return torch.cat([painted, photographs[:, 3:]], 1)


def _placements(masks: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Return where each output pixel comes from: (B, 2, 3) float32, in coordinates from -1 to 1.

    Amounts: rotation 20 degrees; crop 70 to 100 % of the area; affine 10 degrees, 10 % shift, 15 % scale, shear 8.
    """
    rows = len(masks["flip"])
    angle = np.radians(rng.uniform(-20, 20, rows) * masks["rotation"] + rng.uniform(-10, 10, rows) * masks["affine"])
    shear = np.tan(np.radians(rng.uniform(-8, 8, rows) * masks["affine"]))
    scale = np.where(masks["affine"], rng.uniform(0.85, 1.15, rows), 1.0)
    side = np.where(masks["crop"], np.sqrt(rng.uniform(0.7, 1.0, rows)), 1.0)
    shift = rng.uniform(-0.2, 0.2, (2, rows)) * masks["affine"] + rng.uniform(-1, 1, (2, rows)) * (1 - side)
    mirror = np.where(masks["flip"], -1.0, 1.0)
    cos, sin, zoom = np.cos(angle), np.sin(angle), side / scale
    linear = np.stack([np.stack([cos, -sin + shear * cos], -1), np.stack([sin, cos + shear * sin], -1)], 1)
    linear *= zoom[:, None, None]
    linear[:, :, 0] *= mirror[:, None]
    return np.concatenate([linear, shift.T[:, :, None]], axis=2).astype(np.float32)


def _jitters(is_jittered: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return brightness, contrast, saturation and hue as a matrix (B, 3, 3) and a share of the mean grey to add (B,),
    float32.

    Amounts: 30 % of the first three; hue turned by up to 10 degrees around the grey axis.
    """
    rows = len(is_jittered)
    brightness, contrast, saturation = (np.where(is_jittered, rng.uniform(0.7, 1.3, rows), 1.0) for _ in range(3))
    turn = np.radians(np.where(is_jittered, rng.uniform(-10, 10, rows), 0.0))
    grey_projection = np.full((3, 3), 1 / 3)  # the projection onto the grey axis; Rodrigues' rotation around it
    cross_matrix = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)
    cos, sin = np.cos(turn)[:, None, None], np.sin(turn)[:, None, None]
    chroma = cos * (np.eye(3) - grey_projection) + sin * cross_matrix
    matrix = grey_projection + saturation[:, None, None] * chroma
    gain = (brightness * contrast)[:, None, None]
    return (gain * matrix).astype(np.float32), (brightness * (1 - contrast)).astype(np.float32)
