"""The names of version 0.1.0: this version loads its weights folders and understands its `--set FIELD=VALUE`."""

from typing import Any

__all__ = ["BEFORE", "FIELDS", "PRESETS", "REMOVED", "RUNTIME", "VALUES"]

PRESETS = {"seed": "paper", "local": "keypoints", "light": "frozen", "best": "finetuned"}
"""The names of 0.1.0 for presets, accepted through all of 0.2."""

KEPT = {
    "data": ("upright", "skip_unreadable"),
    "backbone": ("init", "image_size", "interpolation", "fit", "last_stride", "pooling", "freeze_norms"),
    "head": ("hidden_size", "embedding_size", "neck", "normalise"),
    "loss": (
        *("triplet_weight", "triplet_before_neck", "soft_margin", "soft_scale", "margin", "classification"),
        *("classification_weight", "classes_by_view", "arcface_margin"),
    ),
    "augmentation": ("erasing", "feature_views"),
    "training": (
        *("optimizer", "learning_rate", "weight_decay", "schedule", "warmup", "shared", "epochs"),
        *("validate_every", "stop_accuracy", "folds", "held_out_individuals", "held_out_photographs"),
    ),
    "matching": ("cues", "shortlist", "whole_gallery", "verified", "local_best", "neighbours"),
    "calibration": ("scorers", "pseudo_queries", "new_share"),
    "prediction": ("route", "flip_average", "scales", "mirrored"),
}
"""Fields of 0.1.0 that have kept their name, by the group in which they stand now."""

FIELDS = {
    **{name: f"{group}.{name}" for group, names in KEPT.items() for name in names},
    "trunk": "backbone.name",
    "backbone": "backbone.name",  # new in 0.2, but short for the same
    "individuals_per_batch": "batches.individuals",
    "photographs_per_individual": "batches.photographs",
    "arcface_scale": "loss.scale",
    "augmentations": "augmentation.kinds",
    "augment": "augmentation.choose",
    "trunk_rate": "training.backbone_rate",
    "species_epochs": "classifier.epochs",
    "species_batch": "classifier.batch_size",
    "species_shrink": "classifier.shrink",
    "keypoint_size": "keypoints.size",
    "keypoint_count": "keypoints.count",
    "keypoint_candidates": "keypoints.candidates",
    "focus": "keypoints.foreground",
    "keypoint_clahe": "keypoints.clahe",
    "keypoint_contrast": "keypoints.contrast",
    "keypoint_upright": "keypoints.upright",
    "match_ratio": "matching.ratio",
    "match_model": "matching.model",
    "match_tolerance": "matching.tolerance",
    "pseudo_dates": "calibration.dates",
    "pseudo_photographs": "calibration.photographs",
    "calibration_splits": "calibration.splits",
}
"""The setting that a flat field of 0.1.0 has become."""

RUNTIME = ("device", "precision", "batch_size", "threads")
"""What belongs to `runtime.Runtime`, three of them fields of 0.1.0: no part of a recipe any more."""

REMOVED: dict[str, tuple[Any, str]] = {
    "balance": (1.0, "training"),
    "positives": ("hardest", "training"),
    "positives_by_view": (False, "training"),
    "copies_are_positives": (True, "training"),
    "label_smoothing": (0.0, "training"),
    "centres": (1, "training"),
    "ema": (0.0, "training"),
    "tune_epochs": (0, "training"),
    "keep": ("last", "training"),
    "soup": (1, "training"),
    "workers": (-1, "speed"),
    "centre_spread": (0.0, "answers"),
}
"""Fields that are gone because none of them won in benchmarks/README.md: their default, and what they shaped. At the
default they are ignored; at another value, those that shaped training or speed are reported, those that shape answers
refused."""

VALUES: dict[str, dict[str, str]] = {
    "backbone.interpolation": {"trunk": "backbone"},
    "backbone.pooling": {"trunk": "backbone"},
    "calibration.scorers": {"focused": "foreground", "focused_inliers": "foreground_inliers"},
}
"""Values that have another name now, by setting."""

BEFORE: dict[str, Any] = {
    "data.unknown_words": (),
    "data.use_boxes": False,
    "data.pool_under_masks": False,
    "keypoints.saliency": "gem",
    "keypoints.least_size": 4096,
    "matching.probes": 0,
    "matching.iterations": 2000,
    "calibration.prior": 0.0,
    "calibration.probability": "scorer",
}
"""For settings that are newer than 0.2.0: the value by which folders that lack them behave, where that is not the
default."""
