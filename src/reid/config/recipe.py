"""Every choice that shapes a run, in frozen groups of settings.

The defaults are those of the report "Multi-Species Individual Animal Reidentification" (A. Gordon, 2025), to the
letter; where the report is silent, they follow the PyTorch code that it names (CoinCheung/triplet-reid-pytorch: the
head's sizes, Adam at 3e-4). `presets` has the shipped recipes; `runtime` has how a machine does the work.
"""

from dataclasses import dataclass, field, fields
from typing import Any

from reid.config.setting import check_values, setting
from reid.errors import InputError

__all__ = [
    "AUGMENTATIONS",
    "CUES",
    "EXTRACTORS",
    "FITTED_SCORERS",
    "LEARNED_EXTRACTORS",
    "LIGHTGLUE",
    "LIGHTGLUE_EXTRACTORS",
    "MOST_BACKBONES",
    "MOST_EXTRACTORS",
    "RATIO",
    "ROOTSIFT",
    "SCORERS",
    "SMALLEST",
    "AugmentationConfig",
    "BackboneConfig",
    "BatchConfig",
    "CalibrationConfig",
    "ClassifierConfig",
    "DataConfig",
    "HeadConfig",
    "KeypointConfig",
    "LossConfig",
    "MatchingConfig",
    "PredictionConfig",
    "Recipe",
    "TrainingConfig",
    "extractor_names",
    "settings_of",
]

AUGMENTATIONS = ("flip", "rotation", "jitter", "crop", "affine")
CUES = ("encoder", "local")
ROOTSIFT = "rootsift"
LEARNED_EXTRACTORS = ("aliked-n16", "aliked-n16rot", "aliked-n32", "aliked-t16", "xfeat", "disk")
"""Local features that are networks, with weights of their own."""
EXTRACTORS = (ROOTSIFT, *LEARNED_EXTRACTORS)
"""Local features, see `retrieval.extractors.table`."""
MOST_EXTRACTORS = 3
"""That are used beside each other: so many sets of cues there are among `decision.scorers.SINGLE_CUES`."""
RATIO, LIGHTGLUE = "ratio", "lightglue"
LIGHTGLUE_EXTRACTORS = ("aliked-n16", "disk")
"""Local features with which LightGlue was trained, see `retrieval.lightglue`."""
FITTED_SCORERS = ("mean", "logistic", "boosted", "ensemble")
SCORERS = ("distance", "local", "inliers", "foreground", "foreground_inliers", *FITTED_SCORERS)
"""From the simplest to the most flexible, see `decision.scorers`."""

UNKNOWN_WORDS = (
    "unknown",
    "unk",
    "unidentified",
    "unassigned",
    "new_individual",
    "na",
    "nan",
    "none",
    "null",
    "tbd",
    "?",
)
"""What tables have in place of a name: `unknown` in wildlife-datasets, `____` in Wild Me's COCO files, NA in Wildbook's
exports."""

SMALLEST = 16
"""Pixels on a side; with fewer, no backbone has anything left to pool."""

LARGEST_IMAGE = 2048

MOST_BACKBONES = 3
"""That decide together: so many distances there are among `decision.scorers.SINGLE_CUES`."""

ENCODERS_ONLY = (
    *("backbone", "head", "batches", "loss", "augmentation", "training", "classifier"),
    *("data.skip_unreadable", "keypoints.foreground", "keypoints.saliency", "keypoints.candidates"),
    "data.pool_under_masks",
    "matching.whole_gallery",
    *("prediction.flip_average", "prediction.scales"),
)
"""Groups and settings that a recipe without an encoder does not use."""

ROOTSIFT_ONLY = ("keypoints.clahe", "keypoints.contrast", "keypoints.upright")
"""Settings that learned local features do not use: they were trained on photographs as they are."""

KEYPOINTS_ONLY = (
    "keypoints",
    *(f"matching.{name}" for name in ("probes", "whole_gallery", "verified", "local_best", "neighbours")),
    *(f"matching.{name}" for name in ("verifier", "lightglue_keypoints", "ratio", "model", "iterations", "tolerance")),
)
"""Groups and settings that a recipe without keypoints does not use."""


class Group:
    """Settings that belong together, whose values are checked when they are made."""

    _place = ""  # without an annotation, for it is no setting

    def __init_subclass__(cls, name: str) -> None:
        cls._place = f"recipe field {name}"

    def __post_init__(self) -> None:
        check_values(self._place, self)


@dataclass(frozen=True)
class DataConfig(Group, name="data"):
    """Which photographs are used, and which are turned."""

    upright: tuple[str, ...] = setting(
        (),
        "datasets whose photographs are turned by their column orientation first (right by -90 degrees, left by 90, "
        "bottom by 180), as the competition's salamanders need",
    )
    use_boxes: bool = setting(
        True, "where a row has a box or a mask, only that part of its photograph counts; false for whole photographs"
    )
    box_margin: float = setting(
        0.1,
        "where a row has a box (column bbox), the share of the box's width and height that is added on each side",
        limits=(0, 2),
    )
    pool_under_masks: bool = setting(
        True,
        "where a row has a mask, a network's feature map is pooled over the cells that it covers, each by its covered "
        "share",
    )
    skip_unreadable: bool = setting(
        False, "train without the photographs that can't be read, instead of stopping with an error"
    )
    unknown_words: tuple[str, ...] = setting(
        UNKNOWN_WORDS,
        "identities that name nobody, whatever their capital letters and punctuation: database photographs called so "
        "are left out",
    )
    join_names: bool = setting(
        False,
        "identities of a dataset, and datasets, that differ only in capital letters, blanks, invisible characters, "
        "composed accents, zeros before a number or .0 behind it, are one",
    )


@dataclass(frozen=True)
class BackboneConfig(Group, name="backbone"):
    """The network below the head, and the photographs that it takes."""

    name: str = setting(
        "resnet50",
        "a name that timm knows, or hf-hub:OWNER/NAME for a repository on its hub; several with + between them decide "
        "together, and NAME@PIXELS takes photographs of another size than the others",
    )
    init: str = setting(
        "hub",
        "first weights where no --init FILE is given: hub (timm's, for most backbones from ImageNet) or none (random)",
        choices=("hub", "none"),
    )
    image_size: int = setting(
        224,
        "pixels on a side that a network takes; 0 for the size of the backbone's first weights",
        limits=(0, LARGEST_IMAGE),
    )
    interpolation: str = setting(
        "backbone",
        "how photographs are resized; backbone for the way of its first weights",
        choices=("backbone", "bicubic", "bilinear", "lanczos"),
    )
    fit: str = setting(
        "squash",
        "a photograph is made square: squash changes its shape, pad fills up with grey",
        choices=("squash", "pad"),
    )
    last_stride: int = setting(
        2,
        "1 leaves out the last halving of a convolutional backbone's feature map (Luo 2019); 2 is as published",
        limits=(1, 2),
    )
    pooling: str = setting(
        "backbone",
        "backbone for its own pooling, or gem for generalised means (Radenovic 2018)",
        choices=("backbone", "gem"),
    )
    freeze_norms: bool = setting(False, "batch norms keep the means and variances of the first weights")

    def __post_init__(self) -> None:
        super().__post_init__()
        if 0 < self.image_size < SMALLEST:
            raise InputError(
                f"recipe field backbone.image_size: expected {SMALLEST} or more, or 0 for the backbone's own size, "
                f"found {self.image_size}"
            )
        names = self.names
        if not all(names) or len(set(names)) < len(names) or len(names) > MOST_BACKBONES:
            raise InputError(
                f"recipe field backbone.name: expected a backbone, or up to {MOST_BACKBONES} different ones with + "
                f"between them, found {self.name!r}"
            )
        for part in self.name.split("+"):
            _, pixels = _divided(part)
            if pixels and not _is_size(pixels):
                raise InputError(
                    f"recipe field backbone.name: expected {SMALLEST} to {LARGEST_IMAGE} pixels after @, found {part!r}"
                )

    @property
    def names(self) -> tuple[str, ...]:
        """The backbones, without their sizes."""
        return tuple(_divided(part)[0] for part in self.name.split("+"))

    @property
    def sizes(self) -> tuple[int, ...]:
        """Pixels on a side that each of them takes; 0 for the size of its first weights."""
        parts = (_divided(part)[1] for part in self.name.split("+"))
        return tuple(int(pixels) if pixels else self.image_size for pixels in parts)


def _divided(part: str) -> tuple[str, str]:
    """Return a backbone's name and what stands after the @ behind it; of a repository on timm's hub an @ that no size
    follows names a revision."""
    name, at, pixels = part.rpartition("@")
    if not at or (part.startswith("hf-hub:") and not _is_size(pixels)):
        return part, ""
    return name, pixels or "@"


def _is_size(pixels: str) -> bool:
    return pixels.isdecimal() and SMALLEST <= int(pixels) <= LARGEST_IMAGE


@dataclass(frozen=True)
class HeadConfig(Group, name="head"):
    """From the backbone's features to an embedding."""

    hidden_size: int = setting(1024, "units of the hidden layer; 0 for a single linear layer", limits=(0, 65536))
    embedding_size: int = setting(
        128, "dimensions of an embedding; 0 for the backbone's features as they are, without a head", limits=(0, 65536)
    )
    neck: str = setting(
        "none", "bnneck puts a batch norm after the head (Luo 2019), none doesn't", choices=("none", "bnneck")
    )
    normalise: bool = setting(
        False, "embeddings have length 1, so that Euclidean distances rank as cosines do: d^2 = 2 - 2 cos"
    )


@dataclass(frozen=True)
class BatchConfig(Group, name="batches"):
    """P x K batches of the encoders."""

    individuals: int = setting(16, "P: individuals in a batch", limits=(2, 4096))
    photographs: int = setting(4, "K: photographs of each individual in a batch", limits=(2, 256))


@dataclass(frozen=True)
class LossConfig(Group, name="loss"):
    """What an encoder minimises."""

    triplet_weight: float = setting(1.0, "weight of the triplet loss; 0 for none", limits=(0, 1000))
    triplet_before_neck: bool = setting(
        True, "the triplet loss takes what is before the neck (Luo 2019); otherwise the embedding, as prediction does"
    )
    soft_margin: bool = setting(True, "the triplet loss log(1 + exp(p - n)); otherwise the hinge with margin")
    soft_scale: float = setting(
        1.0,
        "factor of the distances in the soft margin; embeddings of length 1 are at most 2 apart, so that without it "
        "the loss would hardly separate individuals",
        limits=(0.01, 1000),
    )
    margin: float = setting(0.3, "of the hinge, in units of distance", limits=(0, 1000))
    classification: str = setting(
        "none",
        "a second loss over the individuals as classes: softmax, cosine_softmax (of unit vectors) or arcface "
        "(Deng 2019); none for the triplet loss alone",
        choices=("none", "softmax", "cosine_softmax", "arcface"),
    )
    classification_weight: float = setting(1.0, "weight of the classification loss", limits=(0, 1000))
    classes_by_view: bool = setting(False, "each orientation of an individual is a class of its own")
    scale: float = setting(30.0, "s, the factor of the cosines in cosine_softmax and arcface", limits=(1, 1000))
    arcface_margin: float = setting(
        0.3, "m of arcface, in radians; beyond 1.5 a target would lie behind the class's opposite", limits=(0, 1.5)
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.triplet_weight and (self.classification == "none" or not self.classification_weight):
            raise InputError(
                "recipe fields loss.triplet_weight, loss.classification: with neither loss there is nothing to learn; "
                "set loss.triplet_weight=1 or loss.classification=softmax"
            )


@dataclass(frozen=True)
class AugmentationConfig(Group, name="augmentation"):
    """What happens to a training photograph."""

    kinds: tuple[str, ...] = setting(
        AUGMENTATIONS, "which augmentations a training photograph may get", words=AUGMENTATIONS
    )
    choose: str = setting(
        "one", "one of them, drawn per photograph, or each of them with probability 1/2", choices=("one", "each")
    )
    erasing: float = setting(
        0.0, "probability that a rectangle of a training photograph is painted over (Zhong 2017)", limits=(0, 1)
    )
    feature_views: int = setting(
        0,
        "with a frozen backbone: how many augmented views of each photograph are embedded; 0 for the photograph as it "
        "is",
        limits=(0, 1000),
    )


@dataclass(frozen=True)
class TrainingConfig(Group, name="training"):
    """How the encoders learn, and what is held out from them."""

    optimizer: str = setting("adam", "adam or adamw", choices=("adam", "adamw"))
    learning_rate: float = setting(3e-4, "of the new parts: head, neck, class weights", limits=(0, 10))
    backbone_rate: float = setting(
        1.0,
        "the backbone's learning rate as a share of learning_rate; 0 freezes the backbone: then photographs are "
        "embedded once, and the rest is trained in minutes",
        limits=(0, 100),
    )
    weight_decay: float = setting(0.0, "of the optimizer", limits=(0, 10))
    schedule: str = setting(
        "cosine", "constant, or cosine down to zero over the epoch limit", choices=("constant", "cosine")
    )
    warmup: float = setting(0.0, "the share of the steps in which the learning rate rises to its value", limits=(0, 1))
    shared: bool = setting(
        False, "one encoder learns from all datasets, each batch from one of them; otherwise one per dataset"
    )
    epochs: int = setting(
        100, "an encoder's limit; in an epoch every individual is drawn once or more", limits=(0, 100_000)
    )
    validate_every: int = setting(2, "epochs between two validations", limits=(1, 100_000))
    stop_accuracy: float = setting(
        0.99,
        "an encoder or the classifier stops when its validation accuracy reaches this; above 1 it never stops before "
        "the limit",
        limits=(0, 2),
    )
    folds: int = setting(
        1,
        "1 holds out a share of the individuals and trains one encoder; more are cross-fitting: so many encoders are "
        "trained, each without another part of the individuals, so that all of them can be pseudo-queries; the first "
        "encoder predicts",
        limits=(1, 20),
    )
    held_out_individuals: float = setting(
        0.2,
        'with one fold, the share of individuals that the encoder never learns from: validation, and "new" animals '
        "for the threshold",
        limits=(0, 0.9),
    )
    held_out_photographs: float = setting(
        0.5,
        'the share of the other individuals that keep one photograph from the encoder: "known" animals for the '
        "threshold",
        limits=(0, 1),
    )


@dataclass(frozen=True)
class ClassifierConfig(Group, name="classifier"):
    """The species classifier."""

    epochs: int = setting(10, "its limit; in an epoch every photograph is drawn once or more", limits=(0, 100_000))
    batch_size: int = setting(64, "photographs in a training batch", limits=(2, 4096))
    shrink: int = setting(
        1,
        "how much smaller its photographs are than the encoders'; 2 for half the side, at a quarter of the cost",
        limits=(1, 16),
    )


def extractor_names(joined: str) -> tuple[str, ...]:
    """Return the names of the local features that are used beside each other; () for "".

    >>> extractor_names("rootsift+aliked-n16")
    ('rootsift', 'aliked-n16')
    """
    return tuple(joined.split("+")) if joined else ()


@dataclass(frozen=True)
class KeypointConfig(Group, name="keypoints"):
    """How local features are found."""

    extractor: str = setting(
        ROOTSIFT,
        "the local feature: rootsift, or a learned one, which needs the package kornia and weights "
        "(docs/backbones.md): aliked-n16, aliked-n16rot (any rotation), aliked-n32, aliked-t16, xfeat, disk; "
        "rootsift+aliked-n16 for both beside each other, up to three",
        choices=EXTRACTORS,
        joined=True,
    )
    extractors: tuple[str, ...] = setting(
        (),
        "several local features that compete: enrolment keeps for each dataset the one that names its own photographs "
        "best, and the first where that can't be told; empty for the one of keypoints.extractor",
        words=EXTRACTORS,
        joined=True,
    )
    size: int = setting(
        400,
        "pixels of a photograph's longer side when keypoints are detected, at most: a larger one is reduced to it",
        limits=(16, 4096),
    )
    least_size: int = setting(
        280,
        "pixels to which the longer side of a smaller photograph is enlarged, keypoints.size at most",
        limits=(1, 4096),
    )
    count: int = setting(
        300, "how many of the strongest are kept, and of the strongest on the animal", limits=(1, 10_000)
    )
    candidates: int = setting(
        1000,
        "how many are detected to choose from, at least count; on a large animal in front of a bush most of the "
        "strongest are leaves",
        limits=(1, 100_000),
    )
    foreground: float = setting(
        0.4,
        "keypoints where the encoder's saliency is at least this share of its peak are on the animal",
        limits=(0, 1),
    )
    saliency: str = setting(
        "any",
        "which encoders tell keypoints on the animal from others: any whose backbone gives a feature map or a grid of "
        "tokens, or gem, those that are pooled by GeM alone",
        choices=("any", "gem"),
    )
    clahe: float = setting(2.0, "clip limit of the contrast normalisation, 0 for none", limits=(0, 100))
    contrast: float = setting(
        0.01, "SIFT's contrast threshold; a low one finds enough keypoints in smooth coats", limits=(0, 1)
    )
    upright: bool = setting(True, "descriptors are not turned to the keypoint's own gradient")

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(set(self.extractors)) < len(self.extractors):
            raise InputError(f"recipe field keypoints.extractors: expected each once, found {self.extractors}")
        for own, joined in (("extractor", self.extractor), *(("extractors", one) for one in self.extractors)):
            names = extractor_names(joined)
            if len(names) > MOST_EXTRACTORS or len(set(names)) < len(names):
                raise InputError(
                    f"recipe field keypoints.{own}: expected up to {MOST_EXTRACTORS} local features, each once, "
                    f"found {joined!r}"
                )

    def side(self, longer: int) -> int:
        """Return the pixels that a photograph's longer side has when keypoints are detected, from those it has.

        >>> [KeypointConfig().side(longer) for longer in (130, 310, 2000)]
        [280, 310, 400]
        """
        return min(self.size, max(longer, self.least_size))

    @property
    def competing(self) -> tuple[str, ...]:
        """The local features to choose from, the preferred one first."""
        return self.extractors or (self.extractor,)

    @property
    def every_extractor(self) -> tuple[str, ...]:
        """The names of all local features that may be used, each once."""
        return tuple(dict.fromkeys(name for joined in self.competing for name in extractor_names(joined)))


@dataclass(frozen=True)
class MatchingConfig(Group, name="matching"):
    """Which cues speak for an individual, and how they are computed."""

    cues: tuple[str, ...] = setting(
        ("encoder",), "encoder (a trained network's embedding), local (keypoints), or both", words=CUES
    )
    shortlist: int = setting(
        50, "gallery photographs that a query is compared with in full: the nearest by each cue", limits=(1, 10_000)
    )
    probes: int = setting(
        16,
        "parts of the gallery's descriptors, out of some hundred, that a query's descriptor is compared with: those "
        "whose centres are nearest; 0 for all of them, as in 0.1",
        limits=(0, 100_000),
    )
    whole_gallery: int = setting(
        1000,
        "among up to so many photographs, `discover` compares descriptors with all others; among more, with each "
        "one's shortlist. With probes 0 also for galleries",
        limits=(0, 1_000_000),
    )
    verified: int = setting(
        20,
        "how many photographs of the shortlist have their matches checked for a common arrangement",
        limits=(0, 10_000),
    )
    verifier: str = setting(
        RATIO,
        "what matches the keypoints of two photographs before their arrangement is checked: ratio (mutual nearest "
        "neighbours), or lightglue (a network, for keypoints of aliked-n16 or disk alone; docs/backbones.md)",
        choices=(RATIO, LIGHTGLUE),
    )
    lightglue_keypoints: int = setting(
        256, "with verifier lightglue: how many of a photograph's strongest keypoints it matches", limits=(1, 4096)
    )
    local_best: int = setting(
        1, "an individual's local score is the mean over how many of its best photographs", limits=(1, 1000)
    )
    neighbours: int = setting(4, "nearest descriptors that vote for their photographs", limits=(1, 100))
    ratio: float = setting(
        0.9,
        "a match's distance is at most this share of the second nearest's (Lowe, IJCV 2004, section 7.1)",
        limits=(0.1, 1),
    )
    model: str = setting(
        "affine", "the arrangement that inliers share: affine or homography", choices=("affine", "homography")
    )
    iterations: int = setting(
        500,
        "arrangements that are tried on a pair of photographs at most; 2000 in 0.1",
        limits=(1, 1_000_000),
    )
    tolerance: float = setting(
        0.03,
        "how far an inlier may lie from where the arrangement puts it, as a share of the longer side",
        limits=(0.001, 1),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.cues:
            raise InputError("recipe field matching.cues: expected encoder, local or both, found none")


@dataclass(frozen=True)
class CalibrationConfig(Group, name="calibration"):
    """How scorers and thresholds are fitted on the database."""

    scorers: tuple[str, ...] = setting(
        ("distance",), "which scorers, ways to make one number of the cues, compete for a dataset", words=SCORERS
    )
    pseudo_queries: int = setting(
        200, "at most how many database photographs of a dataset play queries", limits=(1, 1_000_000)
    )
    dates: str = setting(
        "earlier",
        "a pseudo-query is compared with photographs of earlier days only, of other days than its individual's own, "
        "or of any day (which leaks; it is here to measure how much)",
        choices=("earlier", "other", "any"),
    )
    photographs: int = setting(
        0,
        "a known pseudo-query is compared with at most so many photographs of its individual; 0 for as many as a "
        "random individual of the database has",
        limits=(0, 10_000),
    )
    new_share: float = setting(
        0.5, "the share of held-out individuals that play new in a calibration split", limits=(0.01, 0.99)
    )
    splits: int = setting(50, "over how many random splits the threshold is averaged", limits=(1, 10_000))
    prior: float = setting(
        1.0,
        "the threshold is chosen as if so many more known individuals had been seen, each as similar as the most "
        "similar of four new ones: where few are known, chance alone would decide; 0 for none, as in 0.1",
        limits=(0, 1000),
    )
    probability: str = setting(
        "scorer",
        "the probability in matches.csv: fitted on the pseudo-queries, by scorers that had not seen them, for any "
        "scorer; or what the scorer itself says, which is nothing for a single cue",
        choices=("scorer", "fitted"),
    )


@dataclass(frozen=True)
class PredictionConfig(Group, name="prediction"):
    """How galleries and queries are embedded, and which encoder a query gets."""

    route: str = setting(
        "classifier",
        "who chooses a query's encoder: the species classifier, the dataset column, or auto (the column where it names "
        "a dataset with a gallery, the classifier elsewhere)",
        choices=("classifier", "column", "auto"),
    )
    flip_average: bool = setting(False, "an embedding is the mean over a photograph and its mirror image")
    scales: tuple[float, ...] = setting(
        (1.0,), "an embedding is the mean over these sizes of the photograph, 1 being backbone.image_size"
    )
    encounter_minutes: float = setting(
        0.0,
        "queries of one place, each at most so many minutes after the one before, or with the same cell encounter, are "
        "answered together by the mean of their dissimilarities; 0 for each by itself",
        limits=(0, 1440),
    )
    mirrored: tuple[str, ...] = setting(
        (), "datasets whose galleries also hold every photograph's mirror image, for animals whose sides match"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.scales or not all(0.25 <= scale <= 4 for scale in self.scales):
            raise InputError(f"recipe field prediction.scales: expected sizes from 0.25 to 4, found {self.scales}")


@dataclass(frozen=True)
class Recipe:
    """Every choice of a run.

    Attributes:
        name: the preset that this recipe started from.
        seed: of everything random; the same seed on the same machine gives the same weights.
    """

    name: str = "paper"
    seed: int = 0
    data: DataConfig = field(default_factory=DataConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    batches: BatchConfig = field(default_factory=BatchConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    classifier: ClassifierConfig = field(default_factory=ClassifierConfig)
    keypoints: KeypointConfig = field(default_factory=KeypointConfig)
    matching: MatchingConfig = field(default_factory=MatchingConfig)
    calibration: CalibrationConfig = field(default_factory=CalibrationConfig)
    prediction: PredictionConfig = field(default_factory=PredictionConfig)

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**31:
            raise InputError(f"recipe field seed: expected 0 to {2**31 - 1}, found {self.seed}")
        if self.uses_encoder and len(self.backbone.names) > 1 and not self.head.normalise:
            raise InputError(
                "recipe field head.normalise: expected true with several backbones, or the longer embeddings would "
                "decide alone; add --set head.normalise=true"
            )
        if not set(self.calibration.scorers) & self._possible_scorers():
            raise InputError(
                f"recipe field calibration.scorers: expected one that the cues {', '.join(self.matching.cues)} can "
                "feed (foreground ones also need backbone.pooling=gem or keypoints.saliency=any), found "
                f"{', '.join(self.calibration.scorers) or 'none'}"
            )

        strange = [joined for joined in self.keypoints.competing if joined not in LIGHTGLUE_EXTRACTORS]
        if strange and self.uses_keypoints and self.matching.verifier == LIGHTGLUE:
            raise InputError(
                "recipe fields matching.verifier, keypoints: LightGlue was trained with the local features "
                f"{' and '.join(LIGHTGLUE_EXTRACTORS)}, found {strange[0]}; set keypoints.extractor to one of these, "
                f"or matching.verifier={RATIO}"
            )

    def _possible_scorers(self) -> set[str]:
        """Return the scorers that the cues can feed."""
        possible = {"distance"} if self.uses_encoder else set()
        if self.uses_keypoints or len(self.backbone.names) > 1:
            possible |= set(FITTED_SCORERS)
        if self.uses_keypoints:
            possible |= {"local", "inliers"}
            if self.uses_encoder and (self.backbone.pooling == "gem" or self.keypoints.saliency == "any"):
                possible |= {"foreground", "foreground_inliers"}
        return possible

    @property
    def uses_encoder(self) -> bool:
        """Whether a network's embedding is one of the cues."""
        return "encoder" in self.matching.cues

    @property
    def uses_keypoints(self) -> bool:
        """Whether local features are one of the cues."""
        return "local" in self.matching.cues

    @property
    def trains_encoders(self) -> bool:
        """Whether encoders learn anything: a frozen backbone without a head or a neck has nothing to learn."""
        training, head = self.training, self.head
        return training.epochs > 0 and (training.backbone_rate > 0 or head.embedding_size > 0 or head.neck != "none")

    @property
    def used(self) -> tuple[str, ...]:
        """The settings that this recipe uses, as "group.field": without an encoder nothing is trained and embedded,
        without keypoints none are detected and matched."""
        unused = (() if self.uses_encoder else ENCODERS_ONLY) + (() if self.uses_keypoints else KEYPOINTS_ONLY)
        unused += ROOTSIFT_ONLY if ROOTSIFT not in self.keypoints.every_extractor else ()
        unused += ("matching.ratio",) if self.matching.verifier == LIGHTGLUE else ("matching.lightglue_keypoints",)
        names = [name for name, _, _, _ in settings_of(self)]
        return tuple(name for name in names if name not in unused and name.partition(".")[0] not in unused)


def settings_of(recipe: Recipe) -> list[tuple[str, Any, Any, str]]:
    """Return every setting of a recipe: its name as "group.field", value, default and help."""
    rows: list[tuple[str, Any, Any, str]] = [
        ("seed", recipe.seed, 0, "of everything random; the same seed on the same machine gives the same weights")
    ]
    for group in fields(recipe):
        settings = getattr(recipe, group.name)
        if group.name not in ("name", "seed"):
            rows += [
                (f"{group.name}.{each.name}", getattr(settings, each.name), each.default, each.metadata["help"])
                for each in fields(settings)
            ]
    return rows
