"""The shipped recipes, and a recipe by its name or from a file."""

import difflib
from pathlib import Path

from reid.config import legacy
from reid.config.recipe import AUGMENTATIONS, Recipe
from reid.config.settings import recipe_from_manifest, recipe_from_toml, with_settings
from reid.errors import InputError

__all__ = ["DEFAULT", "PRECISIONS", "PRESETS", "SUMMARIES", "preset", "read_recipe"]

STRONG = {
    "backbone.pooling": "gem",
    "head.hidden_size": 0,
    "head.embedding_size": 512,
    "head.neck": "bnneck",
    "head.normalise": True,
    "loss.triplet_before_neck": False,
    "loss.soft_scale": 4.0,
    "loss.classification": "cosine_softmax",
    "loss.scale": 16.0,
    "augmentation.choose": "each",
    "augmentation.kinds": tuple(kind for kind in AUGMENTATIONS if kind != "flip"),
    "training.optimizer": "adamw",
    "training.learning_rate": 1e-3,
    "training.weight_decay": 0.05,
    "training.warmup": 0.1,
    "training.stop_accuracy": 2.0,
    "training.epochs": 60,
    "prediction.route": "auto",
}
"""What won among the encoders, here or in others' measurements (benchmarks/README.md)."""

EVERY_CUE = {
    "training.folds": 5,
    "matching.cues": ("encoder", "local"),
    "calibration.scorers": ("distance", "ensemble"),
    "calibration.probability": "fitted",
}
"""What won among the decisions (likewise)."""

PRESETS = {
    "paper": Recipe(),
    "baseline": with_settings(
        Recipe(name="baseline"),
        {
            "backbone.name": "hf-hub:BVRA/MegaDescriptor-L-384",
            "backbone.image_size": 0,
            "head.hidden_size": 0,
            "head.embedding_size": 0,
            "head.normalise": True,
            "training.backbone_rate": 0.0,
            "training.epochs": 0,
            "augmentation.kinds": (),
            "prediction.route": "auto",
        },
    ),
    "keypoints": with_settings(
        Recipe(name="keypoints"),
        {
            "matching.cues": ("local",),
            "calibration.scorers": ("local", "ensemble"),
            "calibration.probability": "fitted",
            "prediction.route": "column",
        },
    ),
    "frozen": with_settings(
        Recipe(name="frozen"),
        {
            **STRONG,
            **EVERY_CUE,
            "training.backbone_rate": 0.0,
            "augmentation.feature_views": 4,
            "training.validate_every": 60,
        },
    ),
    "pair": with_settings(
        Recipe(name="pair"),
        {
            **STRONG,
            **EVERY_CUE,
            "backbone.name": "hf-hub:BVRA/MegaDescriptor-L-384@384+efficientnetv2_rw_m@440",
            "backbone.image_size": 0,
            "backbone.pooling": "backbone",  # GeM needs a convolutional one
            "training.backbone_rate": 0.0,
            "augmentation.feature_views": 4,
            "training.validate_every": 60,
        },
    ),
    "finetuned": with_settings(
        Recipe(name="finetuned"),
        {
            **STRONG,
            **EVERY_CUE,
            "training.backbone_rate": 0.1,
            "backbone.freeze_norms": True,
            "training.shared": True,
        },
    ),
    "toy": with_settings(
        Recipe(name="toy"),
        {
            "backbone.name": "test_resnet",
            "backbone.init": "none",
            "backbone.image_size": 64,
            "backbone.interpolation": "bicubic",
            "head.hidden_size": 0,
            "head.neck": "bnneck",
            "head.normalise": True,
            "loss.triplet_before_neck": False,
            "loss.soft_scale": 4.0,
            "training.optimizer": "adamw",
            "training.learning_rate": 5e-3,
            "training.weight_decay": 0.05,
            "training.epochs": 30,
            "training.validate_every": 15,
            # a handful of validation photographs are all named rightly long before the markings are learned
            "training.stop_accuracy": 2.0,
            "classifier.epochs": 8,
            "keypoints.size": 180,  # the drawn photographs' own
            "keypoints.count": 100,
            "keypoints.candidates": 300,
            "matching.cues": ("encoder", "local"),
            "calibration.scorers": ("distance", "ensemble"),
            "calibration.probability": "fitted",
        },
    ),
}

SUMMARIES = {
    "paper": "the report: one encoder for each dataset, triplet loss",
    "baseline": "the competition's starter: MegaDescriptor as it is, nothing is trained",
    "keypoints": "local features alone, no network",
    "frozen": "a frozen backbone, a trained head, and local features (default)",
    "pair": "as frozen, with two backbones that know wild animals, MegaDescriptor-L and MiewID",
    "finetuned": "as frozen, and the backbone is trained too: five times the cost",
    "toy": "a tiny network and keypoints, for the drawn world on a laptop",
}

DEFAULT = "frozen"
"""Scores as much as `finetuned` on real photographs at a fifth of the cost (benchmarks/README.md)."""

PRECISIONS = {"toy": "float32"}
"""The number format that a preset asks for where the call names none: so small a network gains nothing from another."""


def preset(name: str) -> Recipe:
    """Return the shipped recipe of that name, or of the name that 0.1.0 gave it.

    Raises:
        InputError: there is none.
    """
    name = legacy.PRESETS.get(name, name)
    if name not in PRESETS:
        near = difflib.get_close_matches(name, [*PRESETS, *legacy.PRESETS], n=1)
        advice = f"; did you mean {near[0]}?" if near else ""
        raise InputError(
            f"recipe: expected one of {', '.join(PRESETS)}, a .toml file or a weights folder, found {name!r}{advice}"
        )
    return PRESETS[name]


def read_recipe(name: str) -> Recipe:
    """Return a preset by its name, or the recipe in a .toml file, a manifest.json or a weights folder.

    Raises:
        InputError: there is none of that name, or the file holds no recipe.
    """
    path = Path(name)
    if name.endswith(".toml"):
        return recipe_from_toml(path, PRESETS)
    if name.endswith(".json"):
        return recipe_from_manifest(path)
    if legacy.PRESETS.get(name, name) not in PRESETS and path.is_dir():
        return recipe_from_manifest(path / "manifest.json")
    return preset(name)
