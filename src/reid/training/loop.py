"""Training: the networks of a recipe one after the other, each epoch by epoch, with checkpoints.

A network's file in the weights folder appears when it is trained to its end; until then its state lies in
`training/` beside it, and the same command goes on from there.
"""

import logging
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from reid.config.recipe import Recipe
from reid.config.runtime import Runtime
from reid.data.catalogue import Catalogue
from reid.data.loading import PhotographStore, decode_photographs, temporary_folder
from reid.data.photographs import UnreadableError, open_photograph, views_of
from reid.decision.artifact import CLASSIFIER, MANIFEST, RUN_FOLDER, fold_folder
from reid.errors import InputError, Stopped
from reid.models.backbones import Backbone, describe_backbone
from reid.models.networks import Network, best_device, check_device, load_network, plan_network, save_network
from reid.retrieval.cache import Cache, photograph_digests
from reid.retrieval.embedding import Embedder
from reid.runtime.distributed import (
    all_cores,
    all_gather_object,
    any_rank,
    barrier,
    broadcast_from_local_main,
    broadcast_from_main,
    is_main,
    rank,
    world_size,
)
from reid.runtime.files import write_json
from reid.runtime.progress import bar
from reid.runtime.signals import StopRequest
from reid.training.checkpoints import SAVE_EVERY, Checkpoint, differences, lock_networks
from reid.training.history import History, StepTimer, TensorBoardLog
from reid.training.objective import Labels
from reid.training.run_folder import (
    RUN,
    SHARED,
    chosen_files,
    forget,
    lock_names,
    missing_networks,
    network_files,
    network_name,
    photographs_of,
    refuse_another_run,
    run_record,
)
from reid.training.state import TrainState
from reid.training.tasks import RunContext, TrainingTask, check_individuals, classifier_task, encoder_task
from reid.training.validation import describe_collapse

__all__ = ["resolve_defaults", "train_encoder", "train_networks"]

log = logging.getLogger(__name__)


def resolve_defaults(recipe: Recipe, backbone: Backbone) -> Recipe:
    """Return the recipe with what it leaves to the backbone filled in: the image size and how photographs are
    resized."""
    chosen = recipe.backbone
    known = backbone.interpolation if backbone.interpolation in ("bilinear", "lanczos") else "bicubic"
    resolved = replace(
        chosen,
        image_size=chosen.image_size or backbone.image_size,
        interpolation=known if chosen.interpolation == "backbone" else chosen.interpolation,
    )
    return replace(recipe, backbone=resolved)


def train_networks(
    catalogue: Catalogue,
    recipe: Recipe,
    folder: Path,
    init: Path | None = None,
    fresh: bool = False,
    only: Sequence[str] = (),
    stop: StopRequest | None = None,
    save_every: float = SAVE_EVERY,
    runtime: Runtime = Runtime(),
) -> str:
    """Train the species classifier and one encoder per dataset into a weights folder.

    Networks that are already there are kept, one that was interrupted goes on.

    Args:
        catalogue: the photographs; only database rows are looked at.
        recipe: how.
        folder: the weights folder; made where there is none.
        init: a file with the backbone's first weights; None for what the recipe says.
        fresh: forget what an earlier run left.
        only: the networks to train, "species" or a dataset; empty for all. Others may train in the same folder.
        stop: who asks for an early end; None for nobody.
        save_every: seconds between two checkpoints.
        runtime: device, precision, batch size.

    Returns:
        The fingerprint of the data.

    Raises:
        InputError: photographs that can't be read, a dataset without database rows, a folder that another run uses, a
            backbone that is unknown or can't do what the recipe wants, no GPU where the recipe asks for one, `only` or
            `init` where it trains no network.
        Stopped: `stop` asked; the state is saved.
    """
    database = catalogue.database
    _check_datasets(catalogue)
    check_device(runtime)
    if not recipe.uses_encoder:
        return _train_nothing(database, recipe, folder, init, fresh, only)
    backbone = describe_backbone(recipe.backbone.name, init)
    recipe = resolve_defaults(recipe, backbone)
    record = run_record(database, recipe, init)
    plan_network(
        backbone, recipe.backbone.image_size, last_stride=recipe.backbone.last_stride, pooling=recipe.backbone.pooling
    )  # refuses early
    files = chosen_files(network_files(database), only)
    others = [file for file in network_files(database) if file not in files]
    if fresh and recipe.training.shared and others and files != [CLASSIFIER]:
        raise InputError("--fresh --only: the other encoders hang on the shared one too; start over with all of them")
    _refuse_other_ranks(record)
    with lock_networks(folder / RUN_FOLDER, lock_names(files, recipe) if is_main() else []):
        refuse_another_run(folder, others if fresh else network_files(database), record, only)
        if not fresh and not broadcast_from_main(missing_networks(folder, files, recipe)):
            log.info(f"every network is trained already in {folder}; --fresh starts over")
            return str(record["data"])
        needed = database if CLASSIFIER in files or recipe.training.shared else photographs_of(database, files)
        with _stored(needed, recipe, runtime) as store:
            readable = _readable(needed, store, recipe)
            first_weights = init or (recipe.backbone.name if recipe.backbone.init == "hub" else "none")
            stop = stop or StopRequest()
            run = RunContext(
                needed, store, readable, recipe, runtime, backbone, first_weights, folder, record, stop, save_every
            )
            for dataset in needed.by_dataset():
                check_individuals(dataset, run)
            if is_main():
                if fresh:  # not earlier: a run that can't start must not cost the weights of the last one
                    forget(folder, files, others)
                write_json(folder / RUN_FOLDER / RUN, record)
                (folder / MANIFEST).unlink(missing_ok=True)  # from here on the folder is not whole
            barrier()
            for fold in range(recipe.training.folds):
                for file in files:
                    _train(file, replace(run, fold=fold, folder=fold_folder(folder, fold)))
            _remember(run, [file for file in files if file != CLASSIFIER])
    return str(record["data"])


def _train_nothing(
    database: Catalogue, recipe: Recipe, folder: Path, init: Path | None, fresh: bool, only: Sequence[str]
) -> str:
    """Take the folder for a run that matches keypoints alone: no other run's galleries may be overwritten by its own.

    Returns:
        The fingerprint of the data.
    """
    if only:
        raise InputError(
            f"--only {only[0]}: expected a recipe with networks to train, found one that matches keypoints alone "
            f"(cues={','.join(recipe.matching.cues)}). Leave --only out, or choose another recipe"
        )
    if init is not None:
        raise InputError(
            f"--init {init}: expected a recipe with a backbone to start from these weights, found {recipe.name}, which "
            "matches keypoints alone. Leave --init out, or choose another recipe, such as --recipe frozen"
        )
    record, files = run_record(database, recipe, None), network_files(database)
    _refuse_other_ranks(record)
    with lock_networks(folder / RUN_FOLDER, lock_names(files, recipe) if is_main() else []):
        refuse_another_run(folder, [] if fresh else files, record)
        _refuse_unreadable(database)
        barrier()  # until all ranks have looked
        if is_main():
            if fresh:
                forget(folder, files, [])
            write_json(folder / RUN_FOLDER / RUN, record)
        barrier()
    log.info("no network to train: the recipe matches keypoints alone")
    return str(record["data"])


@contextmanager
def _stored(photographs: Catalogue, recipe: Recipe, runtime: Runtime) -> Iterator[PhotographStore]:
    """The photographs, decoded once on each machine; its ranks share them."""
    with temporary_folder() as scratch:
        is_leader = int(os.environ.get("LOCAL_RANK", 0)) == 0 or world_size() == 1
        with all_cores():  # the other ranks wait
            store = broadcast_from_local_main(
                decode_photographs(photographs, recipe, Path(scratch), runtime) if is_leader else None
            )
        assert store is not None
        yield store
        barrier()  # the leader's scratch folder goes when nobody reads from it


def _refuse_other_ranks(record: dict[str, Any]) -> None:
    """Return all ranks must train the same."""
    for other, theirs in enumerate(all_gather_object((socket.gethostname(), record))):
        host, different = theirs[0], differences(record, theirs[1])
        if different:
            raise InputError(
                f"rank {other} on host {host} is called otherwise than rank {rank()} on host {socket.gethostname()}: "
                f"{'; '.join(different[:3])}. Start all ranks with one command on one data folder"
            )


def _train(file: str, run: RunContext) -> None:
    """Return one network, unless it is there."""
    if file == CLASSIFIER and run.fold:
        return
    if broadcast_from_main((run.folder / file).exists()):
        log.info(f"{network_name(file)}{f', fold {run.fold + 1}' if run.fold else ''}: trained already")
    elif file == CLASSIFIER:
        _fit(classifier_task(run), run)
    else:
        train_encoder(file, run)


def _remember(run: RunContext, files: list[str]) -> None:
    """Encoders on a frozen backbone remember what its features, which are there by now, say of their photographs."""
    features = run.features.get(run.recipe.backbone.image_size)
    if features is None or run.recipe.prediction.flip_average or run.recipe.prediction.scales != (1.0,):
        return
    features.compute()
    if not is_main():
        return
    digests = photograph_digests(run.database.paths, views_of(run.database, run.recipe))
    for fold in range(run.recipe.training.folds):
        for file in files:
            places = np.flatnonzero(run.column("dataset") == network_name(file))
            embedder = Embedder(fold_folder(run.folder, fold) / file, run.recipe, run.runtime)
            features.fill_cache(Cache(run.folder), embedder, places, digests)


def _check_datasets(catalogue: Catalogue) -> None:
    without = sorted(set(catalogue.by_dataset()) - set(catalogue.database.by_dataset()))
    if without:
        rows = len(catalogue.of(without[0]))
        raise InputError(
            f"{catalogue.root / 'metadata.csv'}: dataset {without[0]} has {rows} query rows and no database row to "
            "learn from. Add its known photographs, or remove its rows"
        )


def _readable(database: Catalogue, store: PhotographStore, recipe: Recipe) -> np.ndarray:
    """(N,) bool: which photographs can be trained on."""
    broken = [
        f"{database.row_name(image_id)}: {problem}"
        for image_id, problem in zip(database.image_ids, store.problems, strict=True)
        if problem
    ]
    if broken and not recipe.data.skip_unreadable:
        raise InputError(
            f"{database.root / 'metadata.csv'}: {len(broken)} photographs can't be read, the first is {broken[0]}. "
            "Mend or remove the rows, or train without them: --set data.skip_unreadable=true"
        )
    for line in broken:
        log.warning(f"{line}; it is left out")
    readable = np.array([not problem for problem in store.problems])
    for dataset in database.by_dataset():
        if not readable[database.table["dataset"] == dataset].any():
            raise _none_readable(database, dataset)
    return readable


def _refuse_unreadable(database: Catalogue) -> None:
    """Return every dataset needs a photograph that can be read; the first one is enough to know."""
    for dataset, photographs in database.by_dataset().items():
        if not any(map(_opens, photographs.paths)):
            raise _none_readable(database, dataset)


def _opens(path: Path) -> bool:
    try:
        open_photograph(path, 16)  # as `check` does: what passes here passes everywhere
        return True
    except UnreadableError:
        return False


def _none_readable(database: Catalogue, dataset: str) -> InputError:
    return InputError(f"{database.root / 'metadata.csv'}: dataset {dataset}: none of its photographs can be read")


def train_encoder(file: str, run: RunContext) -> None:
    """Train one dataset's encoder, by the way of the shared one where the recipe wants that."""
    recipe, dataset = run.recipe, file.removesuffix(".safetensors")
    if not recipe.training.shared:
        _fit(encoder_task(file, [dataset], run), run)
        return
    shared = run.folder / RUN_FOLDER / f"{SHARED}.safetensors"
    if not broadcast_from_main(shared.exists()):
        _fit(encoder_task(f"{RUN_FOLDER}/{SHARED}.safetensors", list(run.database.by_dataset()), run), run)
    _save(run.folder / file, load_network(shared))
    log.info(f"{dataset}: takes the shared encoder")


def _save(path: Path, network: Network) -> None:
    """Return the first rank writes; the others wait until the file is there."""
    if is_main():
        save_network(path, network)
    barrier()


def _fit(task: TrainingTask, run: RunContext) -> None:
    """Train until the validation accuracy or the epoch limit is reached, then writes the network's file."""
    recipe, name, folder = run.recipe, task.name, run.folder / RUN_FOLDER
    steps = task.epochs * len(task.sampler)
    network = task.start().to(best_device())
    train_state = TrainState.start(network, task.objective, recipe, steps, task.sampler.seed, run.runtime)
    history = History()
    checkpoint = Checkpoint(folder / f"{name}.checkpoint.pt", run.record, run.save_every)
    _check_world(task)
    if state := checkpoint.load():
        train_state.restore(state["train_state"])
        history = History(**state["history"])
        log.info(f"{name}: going on after {history.where}")
    if len(set(all_gather_object(history.where))) > 1:
        raise InputError(f"{checkpoint.path}: ranks see other checkpoints; the folder must be the same on all machines")
    timer = StepTimer(name, task.epochs, len(task.sampler))
    figures = folder / "tensorboard" / name
    with run.stop.defer(), closing(TensorBoardLog(figures, len(history.epochs), is_main())) as board:
        while len(history.epochs) < task.epochs and not history.is_reached(recipe.training.stop_accuracy):
            _train_epoch(task, train_state, history, checkpoint, timer, run.stop)
            _end_epoch(task, train_state, history, recipe)
            if is_main():
                history.write(folder / f"{name}.history.csv")
                board.add(history.epochs[-1])
        _save(run.folder / task.file, network)
        if is_main():
            checkpoint.remove()
        log.info(f"{name}: {history.ending(recipe)}")


def _check_world(task: TrainingTask) -> None:
    """Return every rank must get a row of every batch."""
    if world_size() > 1:
        smallest = min(len(batch.places) for batch in task.sampler)
        if smallest < world_size():
            field = "classifier.batch_size" if task.file == CLASSIFIER else "batches.individuals"
            raise InputError(
                f"{world_size()} ranks: expected no more than there are photographs in a batch, found a batch of {smallest} "
                f"for {task.name}; start fewer, or --set {field} higher"
            )


def _train_epoch(
    task: TrainingTask,
    train_state: TrainState,
    history: History,
    checkpoint: Checkpoint,
    timer: StepTimer,
    stop: StopRequest,
) -> None:
    """Run an epoch from where the history is.

    Raises:
        Stopped: a signal came; the state after the step is saved.
    """
    train_state.train()
    device = next(train_state.network.parameters()).device
    labels = Labels(*(each.to(device) for each in task.labels))
    task.sampler.epoch = len(history.epochs)
    if not history.steps:
        history.rate = float(train_state.schedule.get_last_lr()[-1])
    batches = task.inputs.draw(islice(task.sampler, len(history.steps), None), device)
    timer.start()
    left = len(task.sampler) - len(history.steps)
    for inputs, places in bar(batches, f"training {task.name} epoch {len(history.epochs) + 1}", left):
        figures = train_state.learn(inputs, labels.at(places))
        history.add(figures, len(places), timer.tick())
        timer.say(history)
        is_end = any_rank(bool(stop.requested))  # all ranks after the same step
        if is_main() and (is_end or checkpoint.is_due):
            checkpoint.save({"train_state": train_state.state(), "history": history.state()})
        if is_end:
            barrier()
            raise Stopped(
                f"stopped by {stop.requested or 'a signal to another rank'} in {task.name}, saved", stop.requested
            )


def _end_epoch(task: TrainingTask, train_state: TrainState, history: History, recipe: Recipe) -> None:
    """Close the epoch and validates where it is time to."""
    history.end_epoch()
    row = history.epochs[-1]
    if row["epoch"] % task.validate_every and row["epoch"] < task.epochs:
        return
    row["accuracy"], row["score"] = task.validate(train_state.network)
    log.info(history.line(task.name, task.epochs))
    if collapse := describe_collapse(history.epochs, recipe):
        log.warning(f"{task.name}: {collapse}")
