"""Training the networks of a recipe, one after the other.

A network's file appears in the weights folder when it is trained to its end; until then its state lies in `training/`
in that folder, and the same call resumes it.
"""

import logging
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from reid.config.recipe import Recipe
from reid.config.settings import with_settings
from reid.data.catalogue import Catalogue
from reid.data.photographs import views_of
from reid.decision.artifact import CLASSIFIER, MANIFEST, RUN_FOLDER, fold_folder
from reid.errors import InputError
from reid.models.backbones import check_scales
from reid.models.networks import check_device, load_network
from reid.models.new_networks import plan_network, save_network
from reid.models.pretrained import Backbone, describe_backbone
from reid.retrieval.cache import Cache, photograph_digests
from reid.retrieval.embedding import Embedder
from reid.runtime.distributed import all_gather_object, barrier, broadcast_from_main, is_main, rank
from reid.runtime.files import write_json
from reid.training.checkpoints import differences, lock_networks
from reid.training.checks import (
    decoded_photographs,
    readable_photographs,
    refuse_few_individuals,
    refuse_unreadable,
    warn_of_missing_rows,
)
from reid.training.loop import train_network
from reid.training.run_folder import (
    RUN,
    SHARED,
    chosen_files,
    forget,
    further_folder,
    lock_names,
    missing_networks,
    network_files,
    network_name,
    photographs_of,
    refuse_another_run,
    refuse_missing_weights,
    run_record,
)
from reid.training.tasks import RunContext, TrainingOptions, classifier_task, encoder_task

__all__ = ["check_backbone", "resolve_defaults", "train_encoder", "train_networks"]

log = logging.getLogger(__name__)


def resolve_defaults(recipe: Recipe, backbone: Backbone) -> Recipe:
    """Return the recipe with what it leaves to the backbone filled in: image size and interpolation."""
    chosen = recipe.backbone
    known = backbone.interpolation if backbone.interpolation in ("bilinear", "lanczos") else "bicubic"
    resolved = replace(
        chosen,
        image_size=chosen.image_size or backbone.image_size,
        interpolation=known if chosen.interpolation == "backbone" else chosen.interpolation,
    )
    return replace(recipe, backbone=resolved)


def check_backbone(recipe: Recipe, backbone: Backbone, image_size: int, init: Path | None) -> None:
    """Check that a backbone can do what the recipe wants, before anything is trained.

    Args:
        recipe: `backbone.pooling`, `backbone.last_stride`, `prediction.scales`.
        backbone: which.
        image_size: pixels on a side that it takes.
        init: a file with its first weights; None for what the recipe says.

    Raises:
        InputError: it can't, or there is no such file.
    """
    refuse_missing_weights(init)
    pooling, last_stride = recipe.backbone.pooling, recipe.backbone.last_stride
    plan_network(backbone, image_size, last_stride=last_stride, pooling=pooling)
    check_scales(backbone.name, image_size, pooling, last_stride, recipe.prediction.scales)


def train_networks(catalogue: Catalogue, recipe: Recipe, folder: Path, options: TrainingOptions | None = None) -> None:
    """Train the species classifier and one encoder per dataset into a weights folder.

    Networks that are already there are kept, one that was interrupted is resumed. A recipe that only matches keypoints
    trains none: then the folder is reserved for its galleries.

    Args:
        catalogue: the photographs; only database rows are used.
        recipe: what to train and how.
        folder: the weights folder; made where there is none.
        options: see there; None for the defaults.

    Raises:
        InputError: photographs that can't be read, a folder that another run uses, a backbone that is unknown or can't
            do what the recipe wants, no GPU where one is asked for, `only` or `init` where no network is trained.
        Stopped: a signal came; the state is saved.
    """
    options = options or TrainingOptions()
    warn_of_missing_rows(catalogue)
    check_device(options.runtime)
    if recipe.uses_encoder:
        _train_missing(catalogue.database, recipe, folder, options)
    else:
        _reserve_folder(catalogue.database, recipe, folder, options)


@dataclass(frozen=True)
class _Call:
    """One call of `train_networks`.

    Attributes:
        folder, recipe, options: as there, the recipe without anything left to the backbone.
        record: identifies the run, see `run_record`.
        files: the networks that it trains.
        others: those that it leaves alone.
    """

    folder: Path
    recipe: Recipe
    options: TrainingOptions
    record: dict[str, Any]
    files: list[str]
    others: list[str]

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the locks of the networks, in a folder where no other run has made anything of them."""
        self._refuse_other_ranks()
        names = lock_names(self.files, self.recipe) if is_main() else []
        with lock_networks(self.folder / RUN_FOLDER, names):
            stays = self.others if self.options.fresh else [*self.files, *self.others]
            refuse_another_run(self.folder, stays, self.record, self.options.only)
            yield

    def _refuse_other_ranks(self) -> None:
        """Refuse ranks that would train something else."""
        for other, (host, record) in enumerate(all_gather_object((socket.gethostname(), self.record))):
            if found := differences(self.record, record):
                raise InputError(
                    f"rank {other} on host {host} is called otherwise than rank {rank()} on host "
                    f"{socket.gethostname()}: {'; '.join(found[:3])}. Start all ranks with one command on one data "
                    "folder"
                )

    def _forget(self) -> None:
        """Delete what earlier runs made of the networks, also on further backbones: what is left of them would be
        another run's where this one is interrupted before their turn."""
        for further in self.folder.glob(f"{RUN_FOLDER}/{further_folder('*')}"):
            with lock_networks(further / RUN_FOLDER, lock_names(self.files, self.recipe)):
                forget(further, self.files, self.others)
        forget(self.folder, self.files, self.others)

    def start(self) -> None:
        """Mark the folder as this run's. From here on it is incomplete, and with `fresh` the old networks are gone: not
        earlier, because a call that fails its checks must not cost them."""
        barrier()  # until all ranks have checked the folder
        if is_main():
            if self.options.fresh:
                self._forget()
            write_json(self.folder / RUN_FOLDER / RUN, self.record)
            (self.folder / MANIFEST).unlink(missing_ok=True)
        barrier()


def _reserve_folder(database: Catalogue, recipe: Recipe, folder: Path, options: TrainingOptions) -> None:
    """Make the folder that of a recipe without networks, so that it can't overwrite another run's galleries."""
    if options.only:
        raise InputError(
            f"--only {options.only[0]}: expected a recipe with networks to train, found one that only matches "
            f"keypoints (matching.cues={','.join(recipe.matching.cues)}). Leave --only out, or choose another recipe"
        )
    if options.init is not None:
        raise InputError(
            f"--init {options.init}: expected a recipe with a backbone to start from these weights, found "
            f"{recipe.name}, which only matches keypoints. Leave --init out, or choose another recipe, such as "
            "--recipe frozen"
        )
    call = _Call(folder, recipe, options, run_record(database, recipe, None), network_files(database), [])
    with call.locked():
        refuse_unreadable(database)
        call.start()
    log.info("no network to train: the recipe only matches keypoints")


def _train_missing(database: Catalogue, recipe: Recipe, folder: Path, options: TrainingOptions) -> None:
    """Train the networks that are chosen and not there yet."""
    backbone = describe_backbone(recipe.backbone.name, options.init)
    recipe = resolve_defaults(recipe, backbone)
    config = recipe.backbone
    size = options.image_size or config.image_size
    named = config.name if size == config.image_size else f"{config.name}@{size}"
    record = run_record(database, with_settings(recipe, {"backbone.name": named}), options.init)
    check_backbone(recipe, backbone, size, options.init)
    every = [file for file in network_files(database) if file != CLASSIFIER or not options.main]
    files = chosen_files(every, options.only)
    others = [file for file in every if file not in files]
    if options.fresh and recipe.training.shared and others and files != [CLASSIFIER]:
        raise InputError(
            "--fresh --only: the other encoders are copies of the shared one too; start over with all of them"
        )
    call = _Call(folder, recipe, options, record, files, others)
    with call.locked():
        if not options.fresh and not broadcast_from_main(missing_networks(folder, files, recipe)):
            log.info(f"every network is trained already in {folder}; --fresh starts over")
            return
        needed = database if CLASSIFIER in files or recipe.training.shared else photographs_of(database, files)
        with decoded_photographs(needed, recipe, options.runtime) as store:
            readable = readable_photographs(needed, store, recipe)
            init = options.init or (config.name if config.init == "hub" else "none")
            _train_files(call, RunContext(needed, store, readable, recipe, backbone, init, folder, record, options))


def _train_files(call: _Call, run: RunContext) -> None:
    """Train one network after the other, fold by fold; those that are there stay."""
    for dataset in run.database.by_dataset():
        refuse_few_individuals(dataset, run)
    call.start()
    encoders = [file for file in call.files if file != CLASSIFIER]
    if CLASSIFIER in call.files and not _is_trained(CLASSIFIER, run):
        train_network(classifier_task(run), run)
    for fold in range(run.recipe.training.folds):
        for file in encoders:
            of_fold = replace(run, fold=fold, folder=fold_folder(run.folder, fold))
            if not _is_trained(file, of_fold):
                train_encoder(file, of_fold)
    _cache_frozen_features(encoders, run)


def _is_trained(file: str, run: RunContext) -> bool:
    exists = broadcast_from_main((run.folder / file).exists())
    if exists:
        fold = f", fold {run.fold + 1}" if run.fold else ""
        log.info(f"{network_name(file)}{fold}: trained already")
    return exists


def train_encoder(file: str, run: RunContext) -> None:
    """Train one dataset's encoder; where the recipe shares one encoder, train that first, and copy it."""
    dataset = network_name(file)
    if not run.recipe.training.shared:
        train_network(encoder_task(file, [dataset], run), run)
        return
    shared = f"{RUN_FOLDER}/{SHARED}.safetensors"
    if not broadcast_from_main((run.folder / shared).exists()):
        train_network(encoder_task(shared, list(run.database.by_dataset()), run), run)
    if is_main():
        save_network(run.folder / file, load_network(run.folder / shared))
    barrier()  # until the file is there
    log.info(f"{dataset}: takes the shared encoder")


def _cache_frozen_features(encoders: Sequence[str], run: RunContext) -> None:
    """Fill the encoders' caches from a frozen backbone's features: enrolment need not embed the photographs again."""
    features, prediction = run.features.get(run.image_size), run.recipe.prediction
    if features is None or prediction.flip_average or prediction.scales != (1.0,):
        return
    features.compute()
    if not is_main():
        return
    digests = photograph_digests(run.database.paths, views_of(run.database, run.recipe))
    for fold in range(run.recipe.training.folds):
        for file in encoders:
            embedder = Embedder(fold_folder(run.folder, fold) / file, run.recipe, run.options.runtime)
            places = np.flatnonzero(run.column("dataset") == network_name(file))
            features.fill_cache(Cache(run.options.main or run.folder), embedder, places, digests)
