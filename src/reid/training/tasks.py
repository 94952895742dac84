"""What each network of a recipe is trained for: its photographs, classes, loss and validation."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from reid.config.recipe import SMALLEST, Recipe
from reid.config.runtime import Runtime
from reid.data.catalogue import Catalogue
from reid.data.sampling import PKSampler, ShuffledSampler, TurnsSampler
from reid.data.store import PhotographStore
from reid.decision.artifact import CLASSIFIER
from reid.decision.pseudo_queries import hold_out
from reid.models.networks import Network, NetworkPlan
from reid.models.new_networks import build_network, plan_network
from reid.models.pretrained import Backbone
from reid.runtime.signals import StopRequest
from reid.training.checkpoints import SAVE_EVERY
from reid.training.inputs import AugmentedPhotographs, FrozenFeatures
from reid.training.objective import EncoderObjective, Labels, SpeciesObjective, label_photographs
from reid.training.validation import open_set_score, rank1_accuracy

__all__ = [
    "RunContext",
    "Split",
    "TrainingOptions",
    "TrainingTask",
    "Validation",
    "classifier_task",
    "encoder_split",
    "encoder_task",
]


@dataclass(frozen=True)
class TrainingOptions:
    """How one call trains; none of it belongs to the recipe.

    Attributes:
        init: a file with the backbone's first weights; None for what the recipe says.
        fresh: delete what an earlier run left, and start over.
        only: the networks to train, "species" or a dataset; empty for all. Other runs may train others in the folder.
        save_every: seconds between two checkpoints.
        stop: whether a signal asked for the end.
        runtime: device, precision, batch size.
        image_size: pixels on a side that the networks take where photographs are decoded larger, for another backbone;
            0 for the recipe's.
        main: the weights folder, where these are the encoders on a further backbone, in a folder of their own; the
            classifier is the first backbone's.
    """

    init: Path | None = None
    fresh: bool = False
    only: tuple[str, ...] = ()
    save_every: float = SAVE_EVERY
    stop: StopRequest = field(default_factory=StopRequest)
    runtime: Runtime = Runtime()
    image_size: int = 0
    main: Path | None = None


@dataclass(frozen=True)
class RunContext:
    """What all networks of one call have in common.

    Attributes:
        database: the photographs to learn from.
        store: their pixels.
        readable: (N,) bool, which of them could be read.
        recipe: with the image size and interpolation of its backbone filled in.
        backbone: what is known of the recipe's.
        init: the backbone's first weights, as for `build_network`.
        folder: the weights folder; of a later fold, the folder of its encoders.
        record: identifies this run, see `run_folder.run_record`.
        options: how this call trains.
        fold: which individuals are held out, see `pseudo_queries.hold_out`.
        features: of a frozen backbone, by image size; computed when a network first needs them.
    """

    database: Catalogue
    store: PhotographStore
    readable: np.ndarray
    recipe: Recipe
    backbone: Backbone
    init: Path | str
    folder: Path
    record: dict[str, Any]
    options: TrainingOptions = field(default_factory=TrainingOptions)
    fold: int = 0
    features: dict[int, FrozenFeatures] = field(default_factory=dict)

    def column(self, name: str) -> np.ndarray:
        """Return the cells of a column of metadata.csv, (N,) str."""
        return self.database.table[name].to_numpy(str)

    @property
    def image_size(self) -> int:
        """Pixels on a side that the encoders take."""
        return self.options.image_size or self.recipe.backbone.image_size

    def plan(self, image_size: int) -> NetworkPlan:
        """Return the plan of the recipe's backbone alone."""
        config = self.recipe.backbone
        plan = plan_network(self.backbone, image_size, last_stride=config.last_stride, pooling=config.pooling)
        return replace(plan, interpolation=config.interpolation)

    def inputs(self, plan: NetworkPlan) -> AugmentedPhotographs | FrozenFeatures:
        """Return what a network learns from; networks on the same frozen backbone share its features."""
        if self.recipe.training.backbone_rate:
            return AugmentedPhotographs(self.store, self.recipe, self.options.runtime)
        features = FrozenFeatures(self.store, self.recipe, plan, self.init, self.options.runtime)
        return self.features.setdefault(plan.image_size, features)


class Validation(NamedTuple):
    """How well a network does on individuals that it does not learn from; NaN where it can't be measured."""

    accuracy: float
    """The share of right classes, or of right nearest neighbours."""
    open_set_score: float = math.nan
    """The competition's score, with some of the individuals new."""


@dataclass(frozen=True)
class TrainingTask:
    """One network's training.

    Attributes:
        file: where the network is written to, in the weights folder.
        start: builds the network as it is before the first step.
        objective: its loss.
        inputs: what it learns from.
        sampler: draws the batches of an epoch.
        labels: of all photographs of the database.
        validate: measures the network.
        epochs: the limit.
        validate_every: epochs between two validations.
    """

    file: str
    start: Callable[[], Network]
    objective: nn.Module
    inputs: AugmentedPhotographs | FrozenFeatures
    sampler: ShuffledSampler | TurnsSampler
    labels: Labels
    validate: Callable[[Network], Validation]
    epochs: int
    validate_every: int

    @property
    def name(self) -> str:
        return Path(self.file).name.removesuffix(".safetensors")


class Split(NamedTuple):
    """Photographs, by their places in the database."""

    train: np.ndarray
    """(n,) int64, to learn from."""
    validation: np.ndarray
    """(m,) int64, of individuals that are not learned from."""


def classifier_task(run: RunContext) -> TrainingTask:
    """Return the training of the species classifier: which dataset does a photograph belong to?"""
    recipe = run.recipe
    split = _classifier_split(run)
    classes, targets = np.unique(run.column("dataset"), return_inverse=True)
    plan = replace(
        run.plan(max(SMALLEST, run.image_size // recipe.classifier.shrink)),
        classes=tuple(classes.tolist()),
        trained_on=tuple(run.column("image_id")[split.train].tolist()),
    )
    inputs = run.inputs(plan)

    def validate(network: Network) -> Validation:
        if not len(split.validation):
            return Validation(math.nan)
        predicted = inputs.outputs(network, split.validation).argmax(1).numpy()
        return Validation(float((predicted == targets[split.validation]).mean()))

    return TrainingTask(
        file=CLASSIFIER,
        start=lambda: build_network(plan, recipe.seed, run.init),
        objective=SpeciesObjective(),
        inputs=inputs,
        sampler=ShuffledSampler(split.train, targets[split.train], recipe.classifier.batch_size, seed=recipe.seed),
        labels=label_photographs(targets, run.column("identity")),
        validate=validate,
        epochs=recipe.classifier.epochs,
        validate_every=1,
    )


def _classifier_split(run: RunContext) -> Split:
    """Validate on the individuals that the first fold's encoders do not learn from either."""
    learn = run.readable.copy()
    for dataset, photographs in run.database.by_dataset().items():
        learn[run.column("dataset") == dataset] &= ~hold_out(photographs, run.recipe).individuals
    return Split(np.flatnonzero(learn), np.flatnonzero(run.readable & ~learn))


def encoder_task(file: str, datasets: Sequence[str], run: RunContext) -> TrainingTask:
    """Return the training of an encoder: which individual is it?

    Args:
        file: where the encoder is written to.
        datasets: what it learns from.
        run: the run.
    """
    recipe, splits = run.recipe, [encoder_split(dataset, run) for dataset in datasets]
    train_on = np.concatenate([split.train for split in splits])
    targets, groups = _classes(run, train_on)
    plan = _encoder_plan(run, train_on)
    inputs = run.inputs(plan)
    return TrainingTask(
        file=file,
        start=lambda: build_network(plan, recipe.seed, run.init),
        objective=EncoderObjective(recipe, plan.outputs, groups),
        inputs=inputs,
        sampler=_encoder_sampler(run, splits),
        labels=label_photographs(targets, run.column("identity")),
        validate=lambda network: _validate_encoder(network, run, inputs, splits),
        epochs=recipe.training.epochs if recipe.trains_encoders else 0,
        validate_every=recipe.training.validate_every,
    )


def encoder_split(dataset: str, run: RunContext) -> Split:
    """Return a dataset's photographs to learn from, and those of individuals to validate on."""
    places = np.flatnonzero(run.column("dataset") == dataset)
    readable = run.readable[places]
    held_out = hold_out(run.database.of(dataset), run.recipe, run.fold)
    return Split(places[readable & ~held_out.either], places[readable & held_out.individuals])


def _encoder_plan(run: RunContext, train_on: np.ndarray) -> NetworkPlan:
    recipe = run.recipe
    return replace(
        run.plan(run.image_size),
        hidden_size=recipe.head.hidden_size,
        embedding_size=recipe.head.embedding_size,
        neck=recipe.head.neck == "bnneck",
        normalise=recipe.head.normalise,
        trained_on=tuple(run.column("image_id")[train_on].tolist()) if recipe.trains_encoders else (),
    )


def _encoder_sampler(run: RunContext, splits: Sequence[Split]) -> TurnsSampler:
    batches, seed, identities = run.recipe.batches, run.recipe.seed, run.column("identity")
    samplers = (
        PKSampler(split.train, identities[split.train], batches.individuals, batches.photographs, seed)
        for split in splits
    )
    return TurnsSampler(tuple(samplers), seed)


def _classes(run: RunContext, train_on: np.ndarray) -> tuple[np.ndarray, torch.Tensor]:
    """Return the class of each photograph (N,), -1 where it is not learned from; and the dataset of each class (C,)."""
    views = run.column("orientation") if run.recipe.loss.classes_by_view else np.full(len(run.database), "")
    cells = zip(run.column("dataset"), run.column("identity"), views, strict=True)
    names = np.array(["\t".join(row) for row in cells])  # a tab sorts first: classes of one dataset stand together
    classes, learned = np.unique(names[train_on], return_inverse=True)
    targets = np.full(len(names), -1)
    targets[train_on] = learned
    datasets = np.unique([name.split("\t")[0] for name in classes], return_inverse=True)[1]
    return targets, torch.from_numpy(datasets)


def _validate_encoder(
    network: Network, run: RunContext, inputs: AugmentedPhotographs | FrozenFeatures, splits: Sequence[Split]
) -> Validation:
    """Return the means over the datasets that have photographs to validate on."""
    each = [_validate_on(split.validation, network, run, inputs) for split in splits if len(split.validation)]
    measured = [[value for value in column if not math.isnan(value)] for column in zip(*each, strict=True)]
    return Validation(*(float(np.mean(values)) if values else math.nan for values in measured or [[]]))


def _validate_on(
    places: np.ndarray, network: Network, run: RunContext, inputs: AugmentedPhotographs | FrozenFeatures
) -> Validation:
    """Measure an encoder on photographs of one dataset."""
    vectors, identities = inputs.outputs(network, places), run.column("identity")[places]
    accuracy = rank1_accuracy(vectors, np.unique(identities, return_inverse=True)[1])
    score = open_set_score(vectors, identities.tolist(), run.column("day")[places].tolist(), run.recipe)
    return Validation(*(math.nan if value is None else value for value in (accuracy, score)))
