"""Training: the networks of a recipe one after the other, each epoch by epoch, with checkpoints.

A network's file in the weights folder appears when it is trained to its end; until then its state lies in
`training/` beside it, and the same command goes on from there.
"""

import json
import os
import re
import shutil
import socket
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reid import InputError, Stopped
from reid.catalogue import Catalogue
from reid.checkpoints import SAVE_EVERY, Checkpoint, differences, locked
from reid.embedding import CACHE_FOLDER, digests_of, load_embedder
from reid.files import read_json, sha256_of, write_json
from reid.history import History, Pace, TensorBoardLog
from reid.images import PhotographStore, UnreadableError, open_photograph, scratch_folder, store_photographs, views_of
from reid.learner import Learner
from reid.networks import Network, best_device, check_device, load_network, plan_network, save_network
from reid.objective import Labels
from reid.progress import bar, say
from reid.ranks import alone, any_rank, collected, first_says, is_first, leader_says, rank, wait, world
from reid.recipe import CHOICES, Recipe
from reid.signals import Stop
from reid.trunks import Trunk, describe_trunk
from reid.validation import describe_collapse
from reid.weights import CALIBRATION, MANIFEST, RUN_FOLDER, SPECIES, encoder_file, fold_folder, gallery_file
from reid.work import Run, Work, check_individuals, encoder_work, species_work

__all__ = ["missing_networks", "network_files", "settle", "train_encoder", "train_networks"]

RUN = "run.json"
SHARED = "all datasets"
"""The encoder that learns from all of them. Its file stays in the run folder; each dataset's is made from it. Because
of its space, no dataset can have this name."""

LEFT = re.compile(r"(.+?)\.(?:checkpoint(?:\.new|\.previous)?\.pt|history\.csv|safetensors)")
"""What a training leaves in `training/`, and under which name it ran: a network's, or that of a soup's member."""


def settle(recipe: Recipe, trunk: Trunk) -> Recipe:
    """The recipe with what it leaves to the trunk filled in: the image size and how photographs are resized."""
    known = trunk.interpolation if trunk.interpolation in CHOICES["interpolation"] else "bicubic"
    return replace(
        recipe,
        image_size=recipe.image_size or trunk.image_size,
        interpolation=known if recipe.interpolation == "trunk" else recipe.interpolation,
    )


def train_networks(
    catalogue: Catalogue,
    recipe: Recipe,
    folder: Path,
    init: Path | None = None,
    fresh: bool = False,
    only: Sequence[str] = (),
    stop: Stop | None = None,
    save_every: float = SAVE_EVERY,
) -> str:
    """Trains the species classifier and one encoder per dataset into a weights folder.

    Networks that are already there are kept, one that was interrupted goes on.

    Args:
        catalogue: the photographs; only database rows are looked at.
        recipe: how.
        folder: the weights folder; made where there is none.
        init: a file with the trunk's first weights; None for what the recipe says.
        fresh: forget what an earlier run left.
        only: the networks to train, "species" or a dataset; empty for all. Others may train in the same folder.
        stop: who asks for an early end; None for nobody.
        save_every: seconds between two checkpoints.

    Returns:
        The fingerprint of the data.

    Raises:
        InputError: photographs that can't be read, a dataset without database rows, a folder that another run uses, a
            trunk that is unknown or can't do what the recipe wants, no GPU where the recipe asks for one, `only` or
            `init` where it trains no network.
        Stopped: `stop` asked; the state is saved.
    """
    database = catalogue.database
    _check_datasets(catalogue)
    check_device(recipe)
    if "encoder" not in recipe.cues:
        return _train_nothing(database, recipe, folder, init, fresh, only)
    trunk = describe_trunk(recipe.trunk, init)
    recipe = settle(recipe, trunk)
    record = _record(database, recipe, init)
    plan_network(trunk, recipe.image_size, last_stride=recipe.last_stride, pooling=recipe.pooling)  # refuses early
    files = _chosen(network_files(database), only)
    others = [file for file in network_files(database) if file not in files]
    if fresh and recipe.shared and others and files != [SPECIES]:
        raise InputError("--fresh --only: the other encoders hang on the shared one too; start over with all of them")
    _refuse_other_ranks(record)
    with locked(folder / RUN_FOLDER, _locks(files, recipe) if is_first() else []):
        _refuse_another_run(folder, others if fresh else network_files(database), record, only)
        if not fresh and not first_says(missing_networks(folder, files, recipe)):
            say(f"every network is trained already in {folder}; --fresh starts over")
            return str(record["data"])
        needed = database if SPECIES in files or recipe.shared else _of_encoders(database, files)
        with _stored(needed, recipe) as store:
            readable = _readable(needed, store, recipe)
            first_weights = init or (recipe.trunk if recipe.init == "hub" else "none")
            stop = stop or Stop()
            run = Run(needed, store, readable, recipe, trunk, first_weights, folder, record, stop, save_every)
            for dataset in needed.by_dataset():
                check_individuals(dataset, run)
            if is_first():
                if fresh:  # not earlier: a run that can't start must not cost the weights of the last one
                    _forget(folder, files, others, recipe)
                write_json(folder / RUN_FOLDER / RUN, record)
                (folder / MANIFEST).unlink(missing_ok=True)  # from here on the folder is not whole
            wait()
            for fold in range(recipe.folds):
                for file in files:
                    _train(file, replace(run, fold=fold, folder=fold_folder(folder, fold)))
            _remember(run, [file for file in files if file != SPECIES])
    return str(record["data"])


def _train_nothing(
    database: Catalogue, recipe: Recipe, folder: Path, init: Path | None, fresh: bool, only: Sequence[str]
) -> str:
    """Takes the folder for a run that matches keypoints alone: no other run's galleries may be overwritten by its own.

    Returns:
        The fingerprint of the data.
    """
    if only:
        raise InputError(
            f"--only {only[0]}: expected a recipe with networks to train, found one that matches keypoints alone "
            f"(cues={','.join(recipe.cues)}). Leave --only out, or choose another recipe"
        )
    if init is not None:
        raise InputError(
            f"--init {init}: expected a recipe with a trunk to start from these weights, found {recipe.name}, which "
            "matches keypoints alone. Leave --init out, or choose another recipe, such as --recipe light"
        )
    record, files = _record(database, recipe, None), network_files(database)
    _refuse_other_ranks(record)
    with locked(folder / RUN_FOLDER, _locks(files, recipe) if is_first() else []):
        _refuse_another_run(folder, [] if fresh else files, record)
        _refuse_unreadable(database)
        wait()  # until all ranks have looked
        if is_first():
            if fresh:
                _forget(folder, files, [], recipe)
            write_json(folder / RUN_FOLDER / RUN, record)
        wait()
    say("no network to train: the recipe matches keypoints alone")
    return str(record["data"])


@contextmanager
def _stored(photographs: Catalogue, recipe: Recipe) -> Iterator[PhotographStore]:
    """The photographs, decoded once on each machine; its ranks share them."""
    with scratch_folder() as scratch:
        is_leader = int(os.environ.get("LOCAL_RANK", 0)) == 0 or world() == 1
        with alone():  # the other ranks wait
            store = leader_says(store_photographs(photographs, recipe, Path(scratch)) if is_leader else None)
        assert store is not None
        yield store
        wait()  # the leader's scratch folder goes when nobody reads from it


def _refuse_other_ranks(record: dict[str, Any]) -> None:
    """All ranks must train the same."""
    for other, theirs in enumerate(collected((socket.gethostname(), record))):
        host, different = theirs[0], differences(record, theirs[1])
        if different:
            raise InputError(
                f"rank {other} on host {host} is called otherwise than rank {rank()} on host {socket.gethostname()}: "
                f"{'; '.join(different[:3])}. Start all ranks with one command on one data folder"
            )


def network_files(database: Catalogue) -> list[str]:
    """The files of all networks; a single dataset needs no species classifier."""
    datasets = list(database.by_dataset())
    return [SPECIES] * (len(datasets) > 1) + [encoder_file(dataset) for dataset in datasets]


def missing_networks(folder: Path, files: Sequence[str], recipe: Recipe) -> list[str]:
    """The names of those networks that are not trained to their end, in any fold."""
    missing = []
    for file in files:
        folds = [fold_folder(folder, fold) for fold in range(1 if file == SPECIES else recipe.folds)]
        if not all((path / file).exists() for path in folds):
            missing.append(_name_of(file))
    return missing


def _chosen(files: list[str], only: Sequence[str]) -> list[str]:
    """The files of the networks that `--only` names; all where it names none."""
    known = {_name_of(file): file for file in files}
    unknown = [name for name in only if name not in known]
    if unknown:
        raise InputError(f"--only {unknown[0]}: expected some of {', '.join(known)}, found {unknown[0]!r}")
    return [file for name, file in known.items() if not only or name in only]


def _of_encoders(database: Catalogue, files: list[str]) -> Catalogue:
    """The photographs that these encoders learn from."""
    return replace(database, table=database.table[database.table["dataset"].map(encoder_file).isin(files)])


def _locks(files: list[str], recipe: Recipe) -> list[str]:
    """What nobody else may train meanwhile; the encoders of a shared one are trained one after the other."""
    shared = recipe.shared and any(file != SPECIES for file in files)
    return [*map(_name_of, files), *([SHARED] if shared else [])]


def _name_of(file: str) -> str:
    return Path(file).name.removesuffix(".safetensors")


def _train(file: str, run: Run) -> None:
    """One network, unless it is there."""
    if file == SPECIES and run.fold:
        return
    if first_says((run.folder / file).exists()):
        say(f"{_name_of(file)}{f', fold {run.fold + 1}' if run.fold else ''}: trained already")
    elif file == SPECIES:
        _fit(species_work(run), run)
    else:
        train_encoder(file, run)


def _remember(run: Run, files: list[str]) -> None:
    """Encoders on a frozen trunk remember what its features, which are there by now, say of their photographs."""
    features = run.features.get(run.recipe.image_size)
    if features is None or run.recipe.flip_average or run.recipe.scales != (1.0,):
        return
    features.compute()
    if not is_first():
        return
    digests = digests_of(run.database.paths, views_of(run.database, run.recipe))
    for fold in range(run.recipe.folds):
        for file in files:
            places = np.flatnonzero(run.column("dataset") == _name_of(file))
            features.remember_for(load_embedder(fold_folder(run.folder, fold), file, run.recipe), places, digests)


def _check_datasets(catalogue: Catalogue) -> None:
    without = sorted(set(catalogue.by_dataset()) - set(catalogue.database.by_dataset()))
    if without:
        rows = len(catalogue.of(without[0]))
        raise InputError(
            f"{catalogue.root / 'metadata.csv'}: dataset {without[0]} has {rows} query rows and no database row to "
            "learn from. Add its known photographs, or remove its rows"
        )


def _forget(folder: Path, files: Sequence[str], others: Sequence[str], recipe: Recipe) -> None:
    """Removes what runs wrote of these networks, the manifest first, and nothing else; locks stay, they are held.

    Args:
        folder: the weights folder.
        files: the networks.
        others: those that stay, of the same recipe. A dataset may be called as a member of another's soup is.
        recipe: how all of them are trained.
    """
    names = [*map(_name_of, files), *([] if others else [SHARED])]
    kept = {name for file in others for name in _trained_as(file, recipe)}
    gone = [folder / MANIFEST, folder / CALIBRATION, *_made(folder, names)]
    gone += [path for name, path in _left(folder, names) if name not in kept]
    for path in gone:
        path.unlink(missing_ok=True)
    shutil.rmtree(folder / CACHE_FOLDER, ignore_errors=True)


def _folds(folder: Path) -> list[Path]:
    """Where the networks of all folds that there are lie."""
    return [folder, *folder.glob(f"{RUN_FOLDER}/fold-*")]


def _made(folder: Path, names: Collection[str]) -> list[Path]:
    """These networks and their galleries in all folds, whether they are there or not."""
    return [
        fold / file for fold in _folds(folder) for name in names for file in (encoder_file(name), gallery_file(name))
    ]


def _left(folder: Path, names: Collection[str]) -> Iterator[tuple[str, Path]]:
    """What runs left of these networks in `training/`: under which name it was trained, and the file.

    Members of a soup are NAME.1, NAME.2 and so on, however many they were; so may another dataset be called.
    """
    for fold in _folds(folder):
        for path in fold.glob(f"{RUN_FOLDER}/*"):
            if match := LEFT.fullmatch(path.name):
                soup, _, member = match[1].rpartition(".")
                if match[1] in names or (soup in names and member.isdecimal()):
                    yield match[1], path


def _trained_as(file: str, recipe: Recipe) -> list[str]:
    """The names under which a network is trained: its own, or those of the members of its soup."""
    if file == SPECIES or recipe.soup == 1:
        return [_name_of(file)]
    return [f"{_name_of(file)}.{member + 1}" for member in range(recipe.soup)]


def _record(database: Catalogue, recipe: Recipe, init: Path | None) -> dict[str, Any]:
    """What tells this run from others: recipe, data and first weights, as JSON gives them back."""
    if init is not None and not init.is_file():
        raise InputError(f"--init {init}: expected a state dict of the trunk (.safetensors or .pth), found no file")
    return {
        "recipe": json.loads(json.dumps(asdict(recipe))),
        "data": database.fingerprint,
        "init": sha256_of(init) if init else None,
    }


def _refuse_another_run(folder: Path, files: list[str], record: dict[str, Any], only: Sequence[str] = ()) -> None:
    """A folder with these networks, checkpoints or galleries of them can only be gone on with by the run that made
    them."""
    path = folder / RUN_FOLDER / RUN
    if not files or not _holds(folder, files):
        return
    over = "--fresh and without --only" if only else "--fresh"  # what helps whichever networks are another run's
    if not path.exists():
        raise InputError(
            f"{folder}: expected an empty folder or an unfinished run, found weights from elsewhere; "
            f"choose another folder, or replace them with {over}"
        )
    before = read_json(path)
    if not (isinstance(before, dict) and isinstance(before.get("recipe"), dict) and {"data", "init"} <= set(before)):
        raise InputError(f"{path}: it is damaged, so that the run can't be gone on with; start over with {over}")
    if different := differences(before, record):
        raise InputError(
            f"{folder}: it holds a run with other settings ({'; '.join(different[:3])}). Go on with the same ones, "
            f"choose another folder, or start over with {over}"
        )


def _holds(folder: Path, files: list[str]) -> bool:
    """Whether a folder is whole, or has these networks, checkpoints or galleries of them; histories are no loss."""
    names = [SHARED, *map(_name_of, files)]
    traces = [folder / MANIFEST, *_made(folder, names)]
    traces += [path for _, path in _left(folder, names) if path.suffix != ".csv"]
    return any(path.exists() for path in traces)


def _readable(database: Catalogue, store: PhotographStore, recipe: Recipe) -> np.ndarray:
    """(N,) bool: which photographs can be trained on."""
    broken = [
        f"{database.row_name(image_id)}: {problem}"
        for image_id, problem in zip(database.image_ids, store.problems, strict=True)
        if problem
    ]
    if broken and not recipe.skip_unreadable:
        raise InputError(
            f"{database.root / 'metadata.csv'}: {len(broken)} photographs can't be read, the first is {broken[0]}. "
            "Mend or remove the rows, or train without them: --set skip_unreadable=true"
        )
    for line in broken:
        say(f"warning: {line}; it is left out")
    readable = np.array([not problem for problem in store.problems])
    for dataset in database.by_dataset():
        if not readable[database.table["dataset"] == dataset].any():
            raise _none_readable(database, dataset)
    return readable


def _refuse_unreadable(database: Catalogue) -> None:
    """Every dataset needs a photograph that can be read; the first one is enough to know."""
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


def train_encoder(file: str, run: Run) -> None:
    """Trains one dataset's encoder, by the way of the shared one where the recipe wants that."""
    recipe, dataset = run.recipe, file.removesuffix(".safetensors")
    if not recipe.shared:
        _fit_soup(file, [dataset], run)
        return
    shared = run.folder / RUN_FOLDER / f"{SHARED}.safetensors"
    if not first_says(shared.exists()):
        _fit_soup(f"{RUN_FOLDER}/{SHARED}.safetensors", list(run.database.by_dataset()), run)
    if recipe.tune_epochs:
        _fit_soup(file, [dataset], run, shared)
    else:
        _save(run.folder / file, load_network(shared))
        say(f"{dataset}: takes the shared encoder")


def _fit_soup(file: str, datasets: list[str], run: Run, shared: Path | None = None) -> None:
    """Trains an encoder, or several whose weights are averaged.

    Their heads start from the same weights: only what began at one point can be averaged (Wortsman et al. 2022, arXiv
    2203.05482).
    """
    if run.recipe.soup == 1:
        _fit(encoder_work(file, datasets, run, shared), run)
        return
    members = [f"{RUN_FOLDER}/{name}.safetensors" for name in _trained_as(file, run.recipe)]
    for member, member_file in enumerate(members):
        if not first_says((run.folder / member_file).exists()):
            _fit(encoder_work(member_file, datasets, run, shared, member), run)
    network, *others = (load_network(run.folder / member_file) for member_file in members)
    states = [encoder.state_dict() for encoder in (network, *others)]
    for key, tensor in states[0].items():
        if tensor.is_floating_point():
            tensor.copy_(torch.stack([state[key] for state in states]).mean(0))
    _save(run.folder / file, network)
    say(f"{_name_of(file)}: the mean of {len(members)} encoders")


def _save(path: Path, network: Network) -> None:
    """The first rank writes; the others wait until the file is there."""
    if is_first():
        save_network(path, network)
    wait()


def _fit(work: Work, run: Run) -> None:
    """Trains until the validation accuracy or the epoch limit is reached, then writes the network's file."""
    recipe, name, folder = run.recipe, work.name, run.folder / RUN_FOLDER
    steps = work.epochs * len(work.sampler)
    learner = Learner.start(work.start().to(best_device()), work.objective, recipe, steps, work.sampler.seed)
    history = History()
    checkpoint = Checkpoint(folder / f"{name}.checkpoint.pt", run.record, run.save_every)
    _check_world(work)
    if state := checkpoint.load():
        learner.restore(state["learner"])
        history = History(**state["history"])
        say(f"{name}: going on after {history.where}")
    if len(set(collected(history.where))) > 1:
        raise InputError(f"{checkpoint.path}: ranks see other checkpoints; the folder must be the same on all machines")
    pace = Pace(name, work.epochs, len(work.sampler))
    figures = folder / "tensorboard" / name
    with run.stop.held(), closing(TensorBoardLog(figures, len(history.epochs), is_first())) as board:
        while len(history.epochs) < work.epochs and not history.is_reached(recipe.stop_accuracy):
            _train_epoch(work, learner, history, checkpoint, pace, run.stop)
            _end_epoch(work, learner, history, recipe)
            if is_first():
                history.write(folder / f"{name}.history.csv")
                board.add(history.epochs[-1])
        network = learner.result
        if learner.best:
            network.load_state_dict(learner.best)
        _save(run.folder / work.file, network)
        if is_first():
            checkpoint.remove()
        say(f"{name}: {history.ending(recipe, bool(learner.best))}")


def _check_world(work: Work) -> None:
    """Every rank must get a row of every batch."""
    if world() > 1:
        smallest = min(len(batch.places) for batch in work.sampler)
        if smallest < world():
            field = "species_batch" if work.file == SPECIES else "individuals_per_batch"
            raise InputError(
                f"{world()} ranks: expected no more than there are photographs in a batch, found a batch of {smallest} "
                f"for {work.name}; start fewer, or --set {field} higher"
            )


def _train_epoch(
    work: Work, learner: Learner, history: History, checkpoint: Checkpoint, pace: Pace, stop: Stop
) -> None:
    """Runs an epoch from where the history is.

    Raises:
        Stopped: a signal came; the state after the step is saved.
    """
    learner.train()
    device = next(learner.network.parameters()).device
    labels = Labels(*(each.to(device) for each in work.labels))
    work.sampler.epoch = len(history.epochs)
    if not history.steps:
        history.rate = float(learner.schedule.get_last_lr()[-1])
    batches = work.inputs.draw(islice(work.sampler, len(history.steps), None), device)
    pace.start()
    left = len(work.sampler) - len(history.steps)
    for inputs, places in bar(batches, f"training {work.name} epoch {len(history.epochs) + 1}", left):
        figures = learner.learn(inputs, labels.at(places))
        history.add(figures, len(places), pace.tick())
        pace.say(history)
        is_end = any_rank(bool(stop.asked))  # all ranks after the same step
        if is_first() and (is_end or checkpoint.is_due):
            checkpoint.save({"learner": learner.state(), "history": history.state()})
        if is_end:
            wait()
            raise Stopped(f"stopped by {stop.asked or 'a signal to another rank'} in {work.name}, saved", stop.asked)


def _end_epoch(work: Work, learner: Learner, history: History, recipe: Recipe) -> None:
    """Closes the epoch, validates where it is time to, and keeps the weights where they are the best."""
    history.end_epoch()
    row = history.epochs[-1]
    if row["epoch"] % work.validate_every and row["epoch"] < work.epochs:
        return
    row["accuracy"], row["score"] = work.validate(learner.result)
    if recipe.keep == "best" and history.best is row:
        learner.keep()
    say(history.line(work.name, work.epochs))
    if collapse := describe_collapse(history.epochs, recipe):
        say(f"warning: {work.name}: {collapse}")
