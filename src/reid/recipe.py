"""Every choice that shapes a run, in one frozen dataclass, and the recipes that are shipped.

`seed` is the report "Multi-Species Individual Animal Reidentification" (A. Gordon, 2025) to the letter; where the
report is silent, the PyTorch precedent that it names is followed (CoinCheung/triplet-reid-pytorch: the head's sizes,
Adam at 3e-4). `best` is what this kit recommends. `toy` is small enough for a laptop.
"""

import difflib
from dataclasses import dataclass, fields, replace
from typing import Any, get_type_hints

from reid import InputError

__all__ = [
    "AUGMENTATIONS",
    "CALIBRATION_FIELDS",
    "PREDICTION_FIELDS",
    "RECIPES",
    "Recipe",
    "override",
    "recipe_from_json",
    "recipe_named",
]

AUGMENTATIONS = ("flip", "rotation", "jitter", "crop", "affine")
CHOICES = {
    "init": ("imagenet", "none"),
    "optimizer": ("adam", "adamw"),
    "schedule": ("constant", "cosine"),
    "augment": ("one", "each"),
    "route": ("classifier", "column", "auto"),
    "precision": ("auto", "float32", "bfloat16", "float16"),
}


PREDICTION_FIELDS = ("route", "precision", "batch_size", "workers")
"""What may still be chosen when the networks are trained."""

CALIBRATION_FIELDS = ("new_share", "calibration_splits")
"""What may still be chosen when the thresholds are fitted again."""


@dataclass(frozen=True)
class Recipe:
    """Every choice of a run; the values here are the report's.

    Attributes:
        name: the recipe that this one started from.
        seed: of everything random; the same seed on the same machine gives the same weights.
        trunk: the convolutional network, by timm's name.
        init: the trunk's first weights when no `--init FILE` is given: "imagenet" (timm's hub) or "none" (random).
        image_size: pixels on a side that a network sees; photographs are squashed to a square.
        hidden_size: units of the embedding head's hidden layer; 0 for a single linear layer.
        embedding_size: dimensions of an embedding.
        individuals_per_batch: P of the P x K batches.
        photographs_per_individual: K of the P x K batches.
        soft_margin: the triplet loss log(1 + exp(p - n)); otherwise the hinge with `margin`.
        margin: of the hinge, in units of distance.
        augmentations: which of flip, rotation, jitter, crop, affine a training photograph may get.
        augment: "one" of them, drawn per photograph, or "each" of them with probability 1/2.
        optimizer: "adam" or "adamw".
        learning_rate: at the start.
        weight_decay: of the optimizer.
        schedule: "constant", or "cosine" down to zero over the epoch limit.
        epochs: an encoder's limit; in an epoch every individual is drawn once.
        validate_every: epochs between two validations.
        stop_accuracy: an encoder or the classifier stops when its validation accuracy reaches this.
        species_epochs: the species classifier's limit; in an epoch every photograph is drawn once or more.
        species_batch: photographs in a batch of the classifier.
        species_shrink: by how much smaller than the encoders the classifier sees a photograph; 2 for half the side, at
            a quarter of the cost.
        held_out_individuals: the share of individuals that the encoder never sees: validation, and "new" animals for
            the threshold.
        held_out_photographs: the share of the other individuals that keep one photograph from the encoder: "known"
            animals for the threshold.
        new_share: the share of held-out individuals that a calibration split takes out of the gallery.
        calibration_splits: how many random splits the threshold is averaged over.
        route: who chooses a query's encoder: the species "classifier", the dataset "column", or "auto" (the column
            where it names a dataset with a gallery, the classifier elsewhere).
        precision: the number format that networks compute in: "auto" takes bfloat16 where the device has it, float16 on
            other GPUs, "float32" elsewhere; the weights themselves are float32 in any case.
        skip_unreadable: train without the photographs that can't be read, instead of refusing.
        batch_size: photographs in a batch of embedding.
        workers: processes that decode; -1 for one less than there are cores, 7 at most.
    """

    name: str = "seed"
    seed: int = 0
    trunk: str = "resnet50"
    init: str = "imagenet"
    image_size: int = 224
    hidden_size: int = 1024
    embedding_size: int = 128
    individuals_per_batch: int = 16
    photographs_per_individual: int = 4
    soft_margin: bool = True
    margin: float = 0.3
    augmentations: tuple[str, ...] = AUGMENTATIONS
    augment: str = "one"
    optimizer: str = "adam"
    learning_rate: float = 3e-4
    weight_decay: float = 0.0
    schedule: str = "cosine"
    epochs: int = 100
    validate_every: int = 2
    stop_accuracy: float = 0.99
    species_epochs: int = 10
    species_batch: int = 64
    species_shrink: int = 1
    held_out_individuals: float = 0.2
    held_out_photographs: float = 0.5
    new_share: float = 0.5
    calibration_splits: int = 50
    route: str = "classifier"
    precision: str = "auto"
    skip_unreadable: bool = False
    batch_size: int = 64
    workers: int = -1

    def __post_init__(self) -> None:
        for field, choices in CHOICES.items():
            if getattr(self, field) not in choices:
                raise InputError(
                    f"recipe field {field}: expected {' or '.join(choices)}, found {getattr(self, field)!r}"
                )
        unknown = [word for word in self.augmentations if word not in AUGMENTATIONS]
        if unknown:
            raise InputError(
                f"recipe field augmentations: expected some of {', '.join(AUGMENTATIONS)}, found {unknown[0]!r}"
            )
        for field, (lowest, highest) in LIMITS.items():
            if not lowest <= getattr(self, field) <= highest:  # also catches NaN
                raise InputError(f"recipe field {field}: expected {lowest} to {highest}, found {getattr(self, field)}")


LIMITS: dict[str, tuple[float, float]] = {
    "seed": (0, 2**31 - 1),
    "image_size": (16, 2048),
    "hidden_size": (0, 65536),
    "embedding_size": (1, 65536),
    "individuals_per_batch": (2, 4096),
    "photographs_per_individual": (2, 256),
    "margin": (0, 1000),
    "learning_rate": (0, 10),
    "weight_decay": (0, 10),
    "epochs": (0, 100_000),
    "validate_every": (1, 100_000),
    "stop_accuracy": (0, 2),  # above 1: never stop before the limit
    "species_epochs": (0, 100_000),
    "species_batch": (2, 4096),
    "species_shrink": (1, 16),
    "held_out_individuals": (0, 0.9),
    "held_out_photographs": (0, 1),
    "new_share": (0.01, 0.99),
    "calibration_splits": (1, 10_000),
    "batch_size": (1, 65536),
    "workers": (-1, 256),
}

RECIPES = {
    "seed": Recipe(),
    # route auto is the only part of `best` that differs from `seed` so far: see benchmarks/README.md
    "best": Recipe(name="best", route="auto"),
    "toy": Recipe(
        name="toy",
        trunk="test_resnet",
        init="none",
        image_size=64,
        hidden_size=0,
        optimizer="adamw",
        learning_rate=5e-3,
        weight_decay=0.05,
        epochs=300,
        validate_every=100,
        stop_accuracy=2,  # a handful of validation photographs are all right long before the markings are learned
        species_epochs=8,
        precision="float32",  # so small a network gains nothing from a shorter format
    ),
}


def recipe_named(name: str) -> Recipe:
    """The shipped recipe of that name.

    Raises:
        InputError: there is none.
    """
    if name not in RECIPES:
        raise InputError(f"recipe: expected one of {', '.join(RECIPES)}, found {name!r}")
    return RECIPES[name]


def override(recipe: Recipe, settings: list[str], only: tuple[str, ...] = ()) -> Recipe:
    """The recipe with some fields set anew.

    Args:
        recipe: what to start from.
        settings: "FIELD=VALUE" each; a list is comma-separated, a truth value is true or false.
        only: the fields that may be set; empty for all.

    Raises:
        InputError: an unknown field, one that may not be set, or a value of the wrong type or out of range.
    """
    kinds = get_type_hints(Recipe)
    changes: dict[str, Any] = {}
    for setting in settings:
        field, equals, text = setting.partition("=")
        if not equals:
            raise InputError(f"--set {setting}: expected FIELD=VALUE, found no '='")
        if field not in kinds or field == "name":
            near = difflib.get_close_matches(field, kinds, n=3)
            hint = f"did you mean {' or '.join(near)}?" if near else f"the fields are {', '.join(kinds)}"
            raise InputError(f"--set {setting}: a recipe has no field {field!r}; {hint}")
        if only and field not in only:
            raise InputError(f"--set {setting}: training has decided that; here you may set {', '.join(only)}")
        changes[field] = _parse(field, kinds[field], text)
    return replace(recipe, **changes)


def _parse(field: str, kind: Any, text: str) -> Any:
    if kind is str:
        return text
    if kind is bool:
        if text.lower() in ("true", "false"):
            return text.lower() == "true"
        raise InputError(f"--set {field}: expected true or false, found {text!r}")
    if kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            what = "a whole number" if kind is int else "a number"
            raise InputError(f"--set {field}: expected {what}, found {text!r}") from None
    return tuple(word for word in text.split(",") if word)


def recipe_from_json(values: dict[str, Any]) -> Recipe:
    """The recipe that a manifest stores; the inverse of `dataclasses.asdict`.

    Raises:
        InputError: fields that this version doesn't know, or lacks.
    """
    known = {field.name for field in fields(Recipe)}
    if set(values) != known:
        odd = ", ".join(sorted(set(values) ^ known))
        raise InputError(f"recipe: another version of this kit wrote it (fields that differ: {odd}); train again")
    restored: dict[str, Any] = {
        field: tuple(value) if isinstance(value, list) else value for field, value in values.items()
    }
    return Recipe(**restored)
