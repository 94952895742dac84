"""Every choice that shapes a run, in one frozen dataclass, and the recipes that are shipped.

`seed` is the report "Multi-Species Individual Animal Reidentification" (A. Gordon, 2025) to the letter; where the
report is silent, the PyTorch precedent that it names is followed (CoinCheung/triplet-reid-pytorch: the head's sizes,
Adam at 3e-4). `best` is what this kit recommends. `toy` is small enough for a laptop.
"""

import difflib
from dataclasses import dataclass, fields, replace
from typing import Any, get_args, get_origin, get_type_hints

from reid import InputError
from reid.files import as_fields

__all__ = [
    "AUGMENTATIONS",
    "CALIBRATION_FIELDS",
    "ENROLMENT_FIELDS",
    "PREDICTION_FIELDS",
    "RECIPES",
    "SMALLEST",
    "WORK_FIELDS",
    "Recipe",
    "override",
    "recipe_from_json",
    "recipe_named",
]

AUGMENTATIONS = ("flip", "rotation", "jitter", "crop", "affine")
CHOICES = {
    "init": ("hub", "none"),
    "interpolation": ("trunk", "bicubic", "bilinear", "lanczos"),
    "fit": ("squash", "pad"),
    "pooling": ("trunk", "gem"),
    "neck": ("none", "bnneck"),
    "classification": ("none", "softmax", "arcface"),
    "positives": ("hardest", "easiest"),
    "keep": ("last", "best"),
    "optimizer": ("adam", "adamw"),
    "schedule": ("constant", "cosine"),
    "augment": ("one", "each"),
    "route": ("classifier", "column", "auto"),
    "device": ("auto", "cuda"),
    "precision": ("auto", "float32", "bfloat16", "float16"),
    "match_model": ("affine", "homography"),
    "pseudo_dates": ("earlier", "other", "any"),
}
WORDS = {
    "augmentations": AUGMENTATIONS,
    "cues": ("encoder", "local"),
    "scorers": ("distance", "local", "inliers", "focused", "focused_inliers", "mean", "logistic", "boosted"),
}
"""Fields that hold some of these words."""


WORK_FIELDS = ("device", "precision", "batch_size", "workers")
"""How a machine does the work: whoever runs a verb may choose it for that run."""

PREDICTION_FIELDS = ("route", *WORK_FIELDS)
"""What may still be chosen when the networks are trained."""

ENROLMENT_FIELDS = (
    *("flip_average", "scales", "mirrored", "keypoint_size", "keypoint_count", "keypoint_candidates", "focus"),
    *("keypoint_clahe", "keypoint_contrast", "keypoint_upright"),
)
"""What may still be chosen when the galleries are made again; galleries and queries must agree in it."""

CALIBRATION_FIELDS = (
    *("scorers", "shortlist", "whole_gallery", "verified", "local_best", "neighbours", "centre_spread"),
    *("match_ratio", "match_model", "match_tolerance", "pseudo_queries", "pseudo_dates", "pseudo_photographs"),
    *("new_share", "calibration_splits"),
)
"""What may still be chosen when scorers and thresholds are fitted again."""


@dataclass(frozen=True)
class Recipe:
    """Every choice of a run; the values here are the report's.

    Attributes:
        name: the recipe that this one started from.
        seed: of everything random; the same seed on the same machine gives the same weights.

        trunk: the network below the head: a name that timm knows, or "hf-hub:OWNER/NAME" for a repository on its hub.
        init: the trunk's first weights when no `--init FILE` is given: "hub" (timm's, for most trunks from ImageNet) or
            "none" (random).
        image_size: pixels on a side that a network sees; 0 for the size of the trunk's first weights.
        interpolation: how photographs are resized: "trunk" for the way of its first weights, "bicubic", "bilinear" or
            "lanczos".
        fit: a photograph is made square: "squash" changes its shape, "pad" fills up with grey.
        upright: datasets whose photographs are turned by their column `orientation` first (right by -90 degrees, left
            by 90, bottom by 180), as the competition's salamanders ask for.

        last_stride: 1 leaves out the last halving of a convolutional trunk's feature map (Luo 2019); 2 is as published.
        pooling: "trunk" for the trunk's own, or "gem" for generalised means (Radenovic 2018).
        hidden_size: units of the embedding head's hidden layer; 0 for a single linear layer.
        embedding_size: dimensions of an embedding; 0 for the trunk's features as they are, without a head.
        neck: "bnneck" puts a batch norm after the head (Luo 2019), "none" doesn't.
        normalise: embeddings have length 1, so that Euclidean distances rank and stop as cosines do: d² = 2 - 2 cos.

        individuals_per_batch: P of the P x K batches.
        photographs_per_individual: K of the P x K batches.
        balance: 1 draws every individual once an epoch, 0 until all of its photographs are drawn.

        triplet_weight: of the triplet loss; 0 for none.
        triplet_before_neck: it sees what is before the neck (Luo 2019); otherwise the embedding, as prediction does.
        soft_margin: the triplet loss log(1 + exp(p - n)); otherwise the hinge with `margin`.
        soft_scale: of the distances in the soft margin; embeddings of length 1 are 2 apart at most, so that without it
            the loss would hardly tell right from wrong.
        margin: of the hinge, in units of distance.
        positives: which photograph of the individual a triplet takes: the "hardest", or the "easiest" (Xuan 2020).
        positives_by_view: only photographs with the same `orientation` are positives, where both have one.
        copies_are_positives: augmented copies of one photograph are positives too, as in the report; otherwise an
            individual with one photograph is in no triplet, except as a negative.
        classification: a second loss: "softmax", or "arcface" (Deng 2019); "none" for the triplet loss alone.
        classification_weight: of it.
        classes_by_view: each `orientation` of an individual is a class of its own.
        label_smoothing: the share of a target that is spread over all classes.
        arcface_scale, arcface_margin: s, and m in radians.
        centres: vectors per class; 3 for sub-centre ArcFace (Deng 2020).

        augmentations: which of flip, rotation, jitter, crop, affine a training photograph may get.
        augment: "one" of them, drawn per photograph, or "each" of them with probability 1/2.
        erasing: the probability that a rectangle of a training photograph is painted over (Zhong 2017).

        optimizer: "adam" or "adamw".
        learning_rate: of what is new: head, neck, class weights.
        trunk_rate: the trunk's learning rate as a share of it; 0 freezes the trunk: then photographs are embedded
            once, and the rest is trained in minutes.
        freeze_norms: the trunk's batch norms keep the means and variances of its first weights.
        feature_views: of a frozen trunk: how many augmented views of each photograph are embedded; 0 for the photograph
            as it is.
        weight_decay: of the optimizer.
        schedule: "constant", or "cosine" down to zero over the epoch limit.
        warmup: the share of the steps in which the learning rate rises to its value.
        ema: the weights are averaged exponentially over the steps with this decay, and the average is kept; 0 for none.

        shared: one encoder learns from all datasets, each batch from one of them.
        tune_epochs: epochs in which each dataset then goes on from it alone.
        epochs: an encoder's limit; in an epoch every individual is drawn once or more.
        validate_every: epochs between two validations.
        stop_accuracy: an encoder or the classifier stops when its validation accuracy reaches this.
        keep: the "last" epoch's weights, or those of the "best" validation score.
        soup: so many encoders are trained with other batches and augmentations, and their weights averaged (Wortsman
            2022).

        species_epochs: the species classifier's limit; in an epoch every photograph is drawn once or more.
        species_batch: photographs in a batch of the classifier.
        species_shrink: by how much smaller than the encoders the classifier sees a photograph; 2 for half the side, at
            a quarter of the cost.

        folds: 1 holds out a share of the individuals and trains one encoder. More cross-fit: so many encoders are
            trained, each without another part of the individuals, so that all of them can be asked for when scorers and
            thresholds are fitted; the first encoder is the one that predicts.
        held_out_individuals: with one fold, the share of individuals that the encoder never sees: validation, and "new"
            animals for the threshold.
        held_out_photographs: the share of the other individuals that keep one photograph from the encoder: "known"
            animals for the threshold.

        cues: what speaks for an individual: "encoder" (a trained network's embedding), "local" (keypoints), or both.
        scorers: which ways to make one number of the cues compete for a dataset; see `fusion.SCORERS`.
        shortlist: gallery photographs that a query is compared with closely: the nearest by each cue.
        whole_gallery: up to so many photographs, descriptors are matched against the whole gallery, beyond it against
            the shortlist of the encoder.
        verified: of the shortlist, so many photographs' matches are checked for a common arrangement.
        local_best: an individual's local score is the mean over so many of its best photographs.

        keypoint_size: pixels of a photograph's longer side where keypoints are sought.
        keypoint_count: the strongest so many are kept, and the strongest so many of those on the animal.
        keypoint_candidates: of so many, or of `keypoint_count` if that is more; on a large animal in front of a bush
            most of the strongest are leaves.
        focus: keypoints where the encoder's attention is at least this share of its peak are on the animal.
        keypoint_clahe: clip limit of the contrast normalisation, 0 for none.
        keypoint_contrast: SIFT's contrast threshold; a low one finds enough keypoints in smooth coats.
        keypoint_upright: descriptors are not turned by the keypoint's own gradient.
        neighbours: nearest descriptors that vote for their photographs.
        centre_spread: standard deviation of a weight for keypoints near the photograph's centre, in shares of its
            sides; 0 for none.
        match_ratio: a match's distance is at most this share of the second nearest's.
        match_model: "affine" or "homography", the arrangement that inliers share.
        match_tolerance: how far an inlier may lie from where the arrangement puts it, as a share of the longer side.

        pseudo_queries: at most so many database photographs of a dataset are asked for in calibration.
        pseudo_dates: a pseudo-query meets photographs of "earlier" days only, of "other" days than its individual's
            own, or of "any" day (which leaks, and is here to measure how much).
        pseudo_photographs: a known pseudo-query meets at most so many photographs of its individual; 0 for as many as a
            random individual of the database has.
        new_share: the share of held-out individuals that play new in a calibration split.
        calibration_splits: how many random splits the threshold is averaged over.

        flip_average: an embedding is the mean over a photograph and its mirror image.
        scales: an embedding is the mean over these sizes of the photograph, 1 being `image_size`.
        mirrored: datasets whose galleries also hold every photograph's mirror image, for animals whose sides match.

        route: who chooses a query's encoder: the species "classifier", the dataset "column", or "auto" (the column
            where it names a dataset with a gallery, the classifier elsewhere).
        device: "auto" works on a GPU where there is one; "cuda" refuses to work where there is none.
        precision: the number format that networks compute in: "auto" takes bfloat16 where the device has it, float16 on
            other GPUs, "float32" elsewhere; the weights themselves are float32 in any case.
        skip_unreadable: train without the photographs that can't be read, instead of refusing.
        batch_size: photographs in a batch of embedding.
        workers: processes that open photographs; -1 for none, but threads of this one on its cores; 0 for none and no
            threads.
    """

    name: str = "seed"
    seed: int = 0

    trunk: str = "resnet50"
    init: str = "hub"
    image_size: int = 224
    interpolation: str = "trunk"
    fit: str = "squash"
    upright: tuple[str, ...] = ()

    last_stride: int = 2
    pooling: str = "trunk"
    hidden_size: int = 1024
    embedding_size: int = 128
    neck: str = "none"
    normalise: bool = False

    individuals_per_batch: int = 16
    photographs_per_individual: int = 4
    balance: float = 1.0

    triplet_weight: float = 1.0
    triplet_before_neck: bool = True
    soft_margin: bool = True
    soft_scale: float = 1.0
    margin: float = 0.3
    positives: str = "hardest"
    positives_by_view: bool = False
    copies_are_positives: bool = True
    classification: str = "none"
    classification_weight: float = 1.0
    classes_by_view: bool = False
    label_smoothing: float = 0.0
    arcface_scale: float = 30.0
    arcface_margin: float = 0.3
    centres: int = 1

    augmentations: tuple[str, ...] = AUGMENTATIONS
    augment: str = "one"
    erasing: float = 0.0

    optimizer: str = "adam"
    learning_rate: float = 3e-4
    trunk_rate: float = 1.0
    freeze_norms: bool = False
    feature_views: int = 0
    weight_decay: float = 0.0
    schedule: str = "cosine"
    warmup: float = 0.0
    ema: float = 0.0

    shared: bool = False
    tune_epochs: int = 0
    epochs: int = 100
    validate_every: int = 2
    stop_accuracy: float = 0.99
    keep: str = "last"
    soup: int = 1

    species_epochs: int = 10
    species_batch: int = 64
    species_shrink: int = 1

    folds: int = 1
    held_out_individuals: float = 0.2
    held_out_photographs: float = 0.5

    cues: tuple[str, ...] = ("encoder",)
    scorers: tuple[str, ...] = ("distance",)
    shortlist: int = 50
    whole_gallery: int = 1000
    verified: int = 20
    local_best: int = 1

    keypoint_size: int = 400
    keypoint_count: int = 300
    keypoint_candidates: int = 1000
    focus: float = 0.4
    keypoint_clahe: float = 2.0
    keypoint_contrast: float = 0.01
    keypoint_upright: bool = True
    neighbours: int = 4
    centre_spread: float = 0.0
    match_ratio: float = 0.9
    match_model: str = "affine"
    match_tolerance: float = 0.03

    pseudo_queries: int = 200
    pseudo_dates: str = "earlier"
    pseudo_photographs: int = 0
    new_share: float = 0.5
    calibration_splits: int = 50

    flip_average: bool = False
    scales: tuple[float, ...] = (1.0,)
    mirrored: tuple[str, ...] = ()

    route: str = "classifier"
    device: str = "auto"
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
        for field, words in WORDS.items():
            unknown = [word for word in getattr(self, field) if word not in words]
            if unknown:
                raise InputError(f"recipe field {field}: expected some of {', '.join(words)}, found {unknown[0]!r}")
        if not self.cues:
            raise InputError("recipe field cues: expected encoder, local or both, found none")
        local = {"local", "inliers", "mean", "logistic", "boosted"}
        attends = "encoder" in self.cues and self.pooling == "gem"  # see NetworkPlan.attends
        both = {"focused", "focused_inliers"} if attends else set()
        able = {"distance"} & set(self.scorers) if "encoder" in self.cues else set()
        able |= (local | both) & set(self.scorers) if "local" in self.cues else set()
        if not able:
            raise InputError(
                f"recipe field scorers: expected one that the cues {', '.join(self.cues)} can feed (focused ones also "
                f"need pooling=gem), found {', '.join(self.scorers) or 'none'}"
            )
        for field, (lowest, highest) in LIMITS.items():
            if not lowest <= getattr(self, field) <= highest:  # also catches NaN
                raise InputError(f"recipe field {field}: expected {lowest} to {highest}, found {getattr(self, field)}")
        if 0 < self.image_size < SMALLEST:
            raise InputError(
                f"recipe field image_size: expected {SMALLEST} or more, or 0 for the trunk's own size, found "
                f"{self.image_size}"
            )
        if not self.scales or not all(0.25 <= scale <= 4 for scale in self.scales):
            raise InputError(f"recipe field scales: expected sizes from 0.25 to 4, found {self.scales}")
        if not self.triplet_weight and (self.classification == "none" or not self.classification_weight):
            raise InputError(
                "recipe fields triplet_weight, classification: with neither loss there is nothing to learn; "
                "set triplet_weight=1 or classification=softmax"
            )

    @property
    def trains_encoders(self) -> bool:
        """Whether encoders learn anything: a frozen trunk without a head or a neck has nothing to be changed."""
        return self.epochs > 0 and (self.trunk_rate > 0 or self.embedding_size > 0 or self.neck != "none")

    @property
    def used(self) -> tuple[str, ...]:
        """The fields that say anything of this recipe: without an encoder nothing is trained, and nothing embedded."""
        fields = tuple(self.__dataclass_fields__)
        if "encoder" in self.cues:
            return fields
        training = set(fields[fields.index("trunk") : fields.index("cues")]) - {"upright"}
        embedding = {"whole_gallery", "focus", "flip_average", "scales", "precision", "skip_unreadable"}
        return tuple(field for field in fields if field not in training | embedding)


SMALLEST = 16
"""Pixels on a side; below, no trunk has anything left to pool."""

LIMITS: dict[str, tuple[float, float]] = {
    "seed": (0, 2**31 - 1),
    "image_size": (0, 2048),
    "last_stride": (1, 2),
    "hidden_size": (0, 65536),
    "embedding_size": (0, 65536),
    "individuals_per_batch": (2, 4096),
    "photographs_per_individual": (2, 256),
    "balance": (0, 1),
    "triplet_weight": (0, 1000),
    "soft_scale": (0.01, 1000),
    "margin": (0, 1000),
    "classification_weight": (0, 1000),
    "label_smoothing": (0, 0.9),
    "arcface_scale": (1, 1000),
    "arcface_margin": (0, 1.5),  # radians; beyond, a target would have to lie behind the class's opposite
    "centres": (1, 64),
    "erasing": (0, 1),
    "learning_rate": (0, 10),
    "trunk_rate": (0, 100),
    "feature_views": (0, 1000),
    "weight_decay": (0, 10),
    "warmup": (0, 1),
    "ema": (0, 0.99999),
    "tune_epochs": (0, 100_000),
    "epochs": (0, 100_000),
    "validate_every": (1, 100_000),
    "stop_accuracy": (0, 2),  # above 1: never stop before the limit
    "soup": (1, 100),
    "species_epochs": (0, 100_000),
    "species_batch": (2, 4096),
    "species_shrink": (1, 16),
    "folds": (1, 20),
    "held_out_individuals": (0, 0.9),
    "held_out_photographs": (0, 1),
    "shortlist": (1, 10_000),
    "whole_gallery": (0, 1_000_000),
    "verified": (0, 10_000),
    "local_best": (1, 1000),
    "keypoint_size": (16, 4096),
    "keypoint_count": (1, 10_000),
    "keypoint_candidates": (1, 100_000),
    "focus": (0, 1),
    "keypoint_clahe": (0, 100),
    "keypoint_contrast": (0, 1),
    "neighbours": (1, 100),
    "centre_spread": (0, 10),
    "match_ratio": (0.1, 1),
    "match_tolerance": (0.001, 1),
    "pseudo_queries": (1, 1_000_000),
    "pseudo_photographs": (0, 10_000),
    "new_share": (0.01, 0.99),
    "calibration_splits": (1, 10_000),
    "batch_size": (1, 65536),
    "workers": (-1, 256),
}

STRONG: dict[str, Any] = {
    "pooling": "gem",
    "hidden_size": 0,
    "embedding_size": 512,
    "neck": "bnneck",
    "normalise": True,
    "triplet_before_neck": False,
    "soft_scale": 4.0,
    "classification": "arcface",
    "arcface_scale": 16.0,
    "arcface_margin": 0.0,
    "augment": "each",
    "augmentations": ("rotation", "jitter", "crop", "affine"),
    "optimizer": "adamw",
    "learning_rate": 1e-3,
    "weight_decay": 0.05,
    "warmup": 0.1,
    "stop_accuracy": 2.0,
    "route": "auto",
}
"""What won its place among the encoders, or has it from others' measurements (benchmarks/README.md)."""

EVERY_CUE: dict[str, Any] = {
    "folds": 5,
    "cues": ("encoder", "local"),
    "scorers": ("distance", "local", "inliers", "focused", "focused_inliers", "mean", "logistic", "boosted"),
}
"""What won its place among the decisions (likewise)."""

RECIPES = {
    "seed": Recipe(),
    "baseline": Recipe(
        name="baseline",
        trunk="hf-hub:BVRA/MegaDescriptor-L-384",
        image_size=0,
        hidden_size=0,
        embedding_size=0,
        normalise=True,
        trunk_rate=0.0,
        epochs=0,
        augmentations=(),
        route="auto",
    ),
    "local": Recipe(
        name="local",
        cues=("local",),
        scorers=("local", "inliers", "mean", "logistic", "boosted"),
        route="column",
    ),
    "light": Recipe(name="light", trunk_rate=0.0, feature_views=4, epochs=60, validate_every=60, **STRONG, **EVERY_CUE),
    "best": Recipe(name="best", trunk_rate=0.1, freeze_norms=True, shared=True, epochs=60, **STRONG, **EVERY_CUE),
    "toy": Recipe(
        name="toy",
        trunk="test_resnet",
        init="none",
        image_size=64,
        interpolation="bicubic",
        hidden_size=0,
        neck="bnneck",
        normalise=True,
        triplet_before_neck=False,
        soft_scale=4.0,
        optimizer="adamw",
        learning_rate=5e-3,
        weight_decay=0.05,
        epochs=150,
        validate_every=50,
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
        near = difflib.get_close_matches(name, RECIPES, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise InputError(f"recipe: expected one of {', '.join(RECIPES)}, found {name!r}{hint}")
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
    words = [word for word in text.split(",") if word]
    return tuple(_parse(field, get_args(kind)[0], word) for word in words)


def recipe_from_json(values: dict[str, Any]) -> Recipe:
    """The recipe that a manifest stores; the inverse of `dataclasses.asdict`.

    Raises:
        InputError: fields that this version doesn't know, or lacks.
    """
    known = {field.name for field in fields(Recipe)}
    if set(values) != known:
        odd = ", ".join(sorted(set(values) ^ known))
        raise InputError(f"recipe: another version of this kit wrote it (fields that differ: {odd}); train again")
    for field, kind in get_type_hints(Recipe).items():
        expected = (int, float) if kind is float else get_origin(kind) or kind
        if not isinstance(values[field], (list, tuple) if expected is tuple else expected):
            raise InputError(
                f"recipe field {field}: found {values[field]!r}, which training never wrote; it is damaged"
            )
    return Recipe(**as_fields(values))
