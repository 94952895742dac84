"""The names of version 0.1.0: this version loads its weights folders and understands its `--set FIELD=VALUE`."""

from typing import Any

__all__ = ["BEFORE", "FIELDS", "PRESETS", "REMOVED", "RUNTIME", "VALUES"]

PRESETS = {"seed": "paper", "local": "keypoints", "light": "frozen", "best": "finetuned"}
"""The names of 0.1.0 for presets, accepted through all of 0.2."""

FIELDS = {
    "upright": "data.upright",
    "skip_unreadable": "data.skip_unreadable",
    "trunk": "backbone.name",
    "backbone": "backbone.name",  # new in 0.2, but short for the same
    "init": "backbone.init",
    "image_size": "backbone.image_size",
    "interpolation": "backbone.interpolation",
    "fit": "backbone.fit",
    "last_stride": "backbone.last_stride",
    "pooling": "backbone.pooling",
    "freeze_norms": "backbone.freeze_norms",
    "hidden_size": "head.hidden_size",
    "embedding_size": "head.embedding_size",
    "neck": "head.neck",
    "normalise": "head.normalise",
    "individuals_per_batch": "batches.individuals",
    "photographs_per_individual": "batches.photographs",
    "triplet_weight": "loss.triplet_weight",
    "triplet_before_neck": "loss.triplet_before_neck",
    "soft_margin": "loss.soft_margin",
    "soft_scale": "loss.soft_scale",
    "margin": "loss.margin",
    "classification": "loss.classification",
    "classification_weight": "loss.classification_weight",
    "classes_by_view": "loss.classes_by_view",
    "arcface_scale": "loss.scale",
    "arcface_margin": "loss.arcface_margin",
    "augmentations": "augmentation.kinds",
    "augment": "augmentation.choose",
    "erasing": "augmentation.erasing",
    "feature_views": "augmentation.feature_views",
    "optimizer": "training.optimizer",
    "learning_rate": "training.learning_rate",
    "trunk_rate": "training.backbone_rate",
    "weight_decay": "training.weight_decay",
    "schedule": "training.schedule",
    "warmup": "training.warmup",
    "shared": "training.shared",
    "epochs": "training.epochs",
    "validate_every": "training.validate_every",
    "stop_accuracy": "training.stop_accuracy",
    "folds": "training.folds",
    "held_out_individuals": "training.held_out_individuals",
    "held_out_photographs": "training.held_out_photographs",
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
    "cues": "matching.cues",
    "shortlist": "matching.shortlist",
    "whole_gallery": "matching.whole_gallery",
    "verified": "matching.verified",
    "local_best": "matching.local_best",
    "neighbours": "matching.neighbours",
    "match_ratio": "matching.ratio",
    "match_model": "matching.model",
    "match_tolerance": "matching.tolerance",
    "scorers": "calibration.scorers",
    "pseudo_queries": "calibration.pseudo_queries",
    "pseudo_dates": "calibration.dates",
    "pseudo_photographs": "calibration.photographs",
    "new_share": "calibration.new_share",
    "calibration_splits": "calibration.splits",
    "route": "prediction.route",
    "flip_average": "prediction.flip_average",
    "scales": "prediction.scales",
    "mirrored": "prediction.mirrored",
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

BEFORE: dict[str, Any] = {"data.unknown_words": ()}
"""For settings that are newer than 0.2.0: the value by which folders that lack them behave, where that is not the
default."""
