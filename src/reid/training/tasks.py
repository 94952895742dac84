"""What the networks of a recipe are trained on and for: photographs, classes, losses, and how they are validated."""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from reid.config.recipe import SMALLEST, Recipe
from reid.config.runtime import Runtime
from reid.data.catalogue import Catalogue
from reid.data.loading import PhotographStore
from reid.data.sampling import PKSampler, ShuffledSampler, TurnsSampler
from reid.decision.artifact import CLASSIFIER
from reid.decision.pseudo_queries import hold_out
from reid.errors import InputError
from reid.models.backbones import Backbone
from reid.models.networks import Network, NetworkPlan, build_network, plan_network
from reid.runtime.signals import StopRequest
from reid.training.checkpoints import SAVE_EVERY
from reid.training.inputs import Features, Photographs
from reid.training.objective import EncoderObjective, Labels, SpeciesObjective, label_photographs
from reid.training.validation import open_set_score, rank1_accuracy

__all__ = ["RunContext", "TrainingTask", "Validation", "check_individuals", "classifier_task", "encoder_task"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunContext:
    """What all networks of one call have in common.

    Attributes:
        database: the photographs to learn from.
        store: their pixels.
        readable: (N,) bool, which of them could be read.
        recipe: with nothing left to the backbone.
        runtime: device, precision, batch size.
        backbone: what is known of the recipe's.
        init: the backbone's first weights, as for `build_network`.
        folder: the weights folder.
        record: what tells this run from others, see `checkpoints.differences`.
        stop: whether somebody asked for the end.
        save_every: seconds between two checkpoints.
        fold: what is held out, see `questions.hold_out`.
        features: of a frozen backbone, by the image size; filled when they are first asked for.
    """

    database: Catalogue
    store: PhotographStore
    readable: np.ndarray
    recipe: Recipe
    runtime: Runtime
    backbone: Backbone
    init: Path | str
    folder: Path
    record: dict[str, Any]
    stop: StopRequest = field(default_factory=StopRequest)
    save_every: float = SAVE_EVERY
    fold: int = 0
    features: dict[int, Features] = field(default_factory=dict)

    def column(self, name: str) -> np.ndarray:
        """(N,) str: the cells of a column of metadata.csv."""
        return self.database.table[name].to_numpy(str)

    def plan(self, image_size: int, **rest: Any) -> NetworkPlan:
        """Return a plan on the recipe's backbone."""
        stride, pooling = self.recipe.backbone.last_stride, self.recipe.backbone.pooling
        plan = plan_network(self.backbone, image_size, last_stride=stride, pooling=pooling, **rest)
        return replace(plan, interpolation=self.recipe.backbone.interpolation)

    def inputs(self, plan: NetworkPlan) -> Photographs | Features:
        """Return what a network learns from; networks on the same frozen backbone share its features."""
        if self.recipe.training.backbone_rate:
            return Photographs(self.store, self.recipe, self.runtime)
        features = Features(self.store, self.recipe, plan, self.init, self.runtime)
        return self.features.setdefault(plan.image_size, features)


class Validation(NamedTuple):
    """How well a network does on individuals that it does not learn from; NaN where there are none to ask for."""

    accuracy: float
    """The share of right classes, or of right nearest neighbours."""
    score: float = math.nan
    """The competition's, with some of the individuals new."""


@dataclass(frozen=True)
class TrainingTask:
    """One network's training.

    Attributes:
        file: where it is written to, in the weights folder.
        start: builds the network as it is before the first step.
        objective: what it is trained to do.
        inputs: what it learns from.
        sampler: draws the batches of an epoch.
        labels: of all photographs of the database.
        validate: how well it does.
        epochs: the limit.
        validate_every: epochs between two validations.
    """

    file: str
    start: Callable[[], Network]
    objective: nn.Module
    inputs: Photographs | Features
    sampler: PKSampler | ShuffledSampler | TurnsSampler
    labels: Labels
    validate: Callable[[Network], Validation]
    epochs: int
    validate_every: int

    @property
    def name(self) -> str:
        return Path(self.file).name.removesuffix(".safetensors")


def classifier_task(run: RunContext) -> TrainingTask:
    """Return which dataset does a photograph belong to? Validated on individuals that the classifier has not learned
    from."""
    recipe, datasets = run.recipe, run.column("dataset")
    learn = run.readable.copy()
    for dataset, photographs in run.database.by_dataset().items():
        learn[datasets == dataset] &= ~hold_out(photographs, recipe).individuals
    train_on, validate_on = np.flatnonzero(learn), np.flatnonzero(run.readable & ~learn)
    classes, targets = np.unique(datasets, return_inverse=True)
    plan = run.plan(
        max(SMALLEST, recipe.backbone.image_size // recipe.classifier.shrink),
        classes=tuple(classes.tolist()),
        trained_on=tuple(run.column("image_id")[train_on].tolist()),
    )
    inputs = run.inputs(plan)

    def validate(network: Network) -> Validation:
        if not len(validate_on):
            return Validation(math.nan)
        logits = inputs.outputs(network, validate_on)
        return Validation(float((logits.argmax(1).numpy() == targets[validate_on]).mean()))

    return TrainingTask(
        file=CLASSIFIER,
        start=lambda: build_network(plan, recipe.seed, run.init),
        objective=SpeciesObjective(),
        inputs=inputs,
        sampler=ShuffledSampler(train_on, targets[train_on], recipe.classifier.batch_size, seed=recipe.seed),
        labels=label_photographs(targets, run.column("identity")),
        validate=validate,
        epochs=recipe.classifier.epochs,
        validate_every=1,
    )


def encoder_task(file: str, datasets: list[str], run: RunContext) -> TrainingTask:
    """Who is it? Validated among individuals that the encoder has not learned from.

    Args:
        file: where the encoder is written to.
        datasets: what it learns from.
        run: the run.
    """
    recipe, identities = run.recipe, run.column("identity")
    splits = {dataset: _split(dataset, run) for dataset in datasets}
    train_on = np.concatenate([places for places, _ in splits.values()])
    targets, groups = _classes(run, train_on)
    plan = run.plan(
        recipe.backbone.image_size,
        hidden_size=recipe.head.hidden_size,
        embedding_size=recipe.head.embedding_size,
        neck=recipe.head.neck == "bnneck",
        normalise=recipe.head.normalise,
        trained_on=tuple(run.column("image_id")[train_on].tolist()) if recipe.trains_encoders else (),
    )
    inputs = run.inputs(plan)
    samplers = tuple(
        PKSampler(
            places,
            identities[places],
            recipe.batches.individuals,
            recipe.batches.photographs,
            seed=recipe.seed,
        )
        for places, _ in splits.values()
    )

    def validate(network: Network) -> Validation:
        rows = [_validate_on(places, run, inputs, network) for _, places in splits.values() if len(places)]
        measured = [np.array([value for value in column if value is not None]) for column in zip(*rows, strict=True)]
        means = [float(values.mean()) if len(values) else math.nan for values in measured] or [math.nan]
        return Validation(*means)

    return TrainingTask(
        file=file,
        start=lambda: build_network(plan, recipe.seed, run.init),
        objective=EncoderObjective(recipe, plan.outputs, groups),
        inputs=inputs,
        sampler=samplers[0] if len(samplers) == 1 else TurnsSampler(samplers, seed=recipe.seed),
        labels=label_photographs(targets, identities),
        validate=validate,
        epochs=recipe.training.epochs if recipe.trains_encoders else 0,
        validate_every=recipe.training.validate_every,
    )


def _split(dataset: str, run: RunContext) -> tuple[np.ndarray, np.ndarray]:
    """Return a dataset's photographs to learn from, and those of individuals to validate on."""
    places = np.flatnonzero(run.column("dataset") == dataset)
    readable = run.readable[places]
    held_out = hold_out(run.database.of(dataset), run.recipe, run.fold)
    return places[readable & ~held_out.individuals & ~held_out.photographs], places[readable & held_out.individuals]


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


def _validate_on(
    places: np.ndarray, run: RunContext, inputs: Photographs | Features, network: Network
) -> tuple[float | None, float | None]:
    """Rank-1 accuracy and open-set score on photographs of one dataset."""
    vectors, identities = inputs.outputs(network, places), run.column("identity")[places]
    return (
        rank1_accuracy(vectors, np.unique(identities, return_inverse=True)[1]),
        open_set_score(vectors, identities.tolist(), run.column("day")[places].tolist(), run.recipe),
    )


def check_individuals(dataset: str, run: RunContext) -> None:
    """Refuse what nothing can be learned from, and says where little can."""
    recipe, database = run.recipe, run.database
    if not recipe.trains_encoders:
        return
    train_on, _ = _split(dataset, run)
    individuals, counts = np.unique(run.column("identity")[train_on], return_counts=True)
    where = f"{database.root / 'metadata.csv'}: dataset {dataset}"
    if len(individuals) < 2:
        raise InputError(
            f"{where}: an encoder needs two individuals to learn from, found {len(individuals)} of "
            f"{len(set(database.of(dataset).identities))} that can be read and are not held out. Add photographs of "
            "others, or remove the dataset's rows"
        )
    if counts.max() == 1:
        log.warning(f"{dataset}: every individual that is learned from has one photograph; only copies are compared")
    if len(individuals) < recipe.batches.individuals:
        log.info(
            f"{dataset}: {len(individuals)} individuals to learn from, fewer than the P = "
            f"{recipe.batches.individuals} of a batch: every batch holds all of them"
        )
