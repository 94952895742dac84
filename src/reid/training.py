"""Training: the networks of a recipe one after the other, each epoch by epoch, with checkpoints.

A network's file in the weights folder appears when it is trained to its end; until then its state lies in
`training/` beside it, and the same command goes on from there.
"""

import io
import json
import math
import shutil
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from reid import InputError
from reid.catalogue import Catalogue
from reid.embedding import CACHE_FOLDER
from reid.files import read_json, sha256_of, write_bytes, write_json, write_table
from reid.images import PhotographStore, scratch_folder, store_photographs
from reid.learner import Learner
from reid.networks import best_device, load_network, plan_network, save_network
from reid.objective import Labels
from reid.progress import say, track
from reid.recipe import CALIBRATION_FIELDS, CHOICES, ENROLMENT_FIELDS, PREDICTION_FIELDS, Recipe
from reid.trunks import Trunk, describe_trunk
from reid.validation import describe_collapse
from reid.weights import CALIBRATION, MANIFEST, RUN_FOLDER, SPECIES, encoder_file, fold_folder, gallery_file
from reid.work import Run, Work, check_individuals, encoder_work, species_work

__all__ = ["settle", "train_encoder", "train_networks"]

RUN = "run.json"
SHARED = "all datasets"
"""The encoder that learns from all of them. Its file stays in the run folder; each dataset's is made from it. Because
of its space, no dataset can have this name."""


def settle(recipe: Recipe, trunk: Trunk) -> Recipe:
    """The recipe with what it leaves to the trunk filled in: the image size and how photographs are resized."""
    known = trunk.interpolation if trunk.interpolation in CHOICES["interpolation"] else "bicubic"
    return replace(
        recipe,
        image_size=recipe.image_size or trunk.image_size,
        interpolation=known if recipe.interpolation == "trunk" else recipe.interpolation,
    )


def train_networks(
    catalogue: Catalogue, recipe: Recipe, folder: Path, init: Path | None = None, fresh: bool = False
) -> str:
    """Trains the species classifier and one encoder per dataset into a weights folder.

    Networks that are already there are kept, one that was interrupted goes on.

    Args:
        catalogue: the photographs; only database rows are looked at.
        recipe: how.
        folder: the weights folder; made where there is none.
        init: a file with the trunk's first weights; None for what the recipe says.
        fresh: forget what an earlier run left.

    Returns:
        The fingerprint of the data.

    Raises:
        InputError: photographs that can't be read, a dataset without database rows, a folder that another run uses, a
            trunk that is unknown or can't do what the recipe wants.
    """
    database = catalogue.database
    _check_datasets(catalogue)
    if "encoder" not in recipe.cues:
        say("no network to train: the recipe matches keypoints alone")
        return database.fingerprint
    trunk = describe_trunk(recipe.trunk, init)
    recipe = settle(recipe, trunk)
    record = _record(database, recipe, init)
    plan_network(trunk, recipe.image_size, last_stride=recipe.last_stride, pooling=recipe.pooling)  # refuses early
    files = [SPECIES] if len(database.by_dataset()) > 1 else []
    files += [encoder_file(dataset) for dataset in database.by_dataset()]
    if not fresh:
        _refuse_another_run(folder, files, record)
        folds = [fold_folder(folder, fold) for fold in range(recipe.folds)]
        if all((one / file).exists() for one in folds for file in files if one == folder or file != SPECIES):
            say(f"every network is trained already in {folder}; --fresh starts over")
            return str(record["data"])
    with scratch_folder() as scratch:
        store = store_photographs(database, recipe, Path(scratch))
        readable = _readable(database, store, recipe)
        first_weights = init or (recipe.trunk if recipe.init == "hub" else "none")
        run = Run(database, store, readable, recipe, trunk, first_weights, folder)
        for dataset in database.by_dataset():
            check_individuals(dataset, run)
        if fresh:  # not earlier: a run that can't start must not cost the weights of the last one
            _forget(folder, list(database.by_dataset()))
        write_json(folder / RUN_FOLDER / RUN, record)
        (folder / MANIFEST).unlink(missing_ok=True)  # from here on the folder is not whole
        for fold in range(recipe.folds):
            one = replace(run, fold=fold, folder=fold_folder(folder, fold))
            for file in files:
                if (one.folder / file).exists():
                    say(f"{_named(file, fold)}: trained already")
                elif file != SPECIES:
                    train_encoder(file, one)
                elif fold == 0:
                    _fit(species_work(one), one)
    return str(record["data"])


def _named(file: str, fold: int) -> str:
    """A network for people."""
    name = Path(file).name.removesuffix(".safetensors")
    return f"{name}, fold {fold + 1}" if fold else name


def _check_datasets(catalogue: Catalogue) -> None:
    without = sorted(set(catalogue.by_dataset()) - set(catalogue.database.by_dataset()))
    if without:
        rows = len(catalogue.of(without[0]))
        raise InputError(
            f"{catalogue.root / 'metadata.csv'}: dataset {without[0]} has {rows} query rows and no database row to "
            "learn from. Add its known photographs, or remove its rows"
        )


def _forget(folder: Path, datasets: list[str]) -> None:
    """Removes what a run writes, the manifest first, and nothing else."""
    names = [MANIFEST, CALIBRATION, SPECIES]
    for dataset in datasets:
        names += [encoder_file(dataset), gallery_file(dataset)]
    for name in names:
        (folder / name).unlink(missing_ok=True)
    for ours in (RUN_FOLDER, CACHE_FOLDER):
        shutil.rmtree(folder / ours, ignore_errors=True)


def _record(database: Catalogue, recipe: Recipe, init: Path | None) -> dict[str, Any]:
    """What tells this run from others: recipe, data and first weights, as JSON gives them back."""
    if init is not None and not init.is_file():
        raise InputError(f"--init {init}: expected a state dict of the trunk (.safetensors or .pth), found no file")
    return {
        "recipe": json.loads(json.dumps(asdict(recipe))),
        "data": database.fingerprint,
        "init": sha256_of(init) if init else None,
    }


def _refuse_another_run(folder: Path, files: list[str], record: dict[str, Any]) -> None:
    """A folder with networks or checkpoints can only be gone on with by the run that made them."""
    path = folder / RUN_FOLDER / RUN
    unfinished = [*path.parent.rglob("*.checkpoint.pt"), *path.parent.rglob("*.safetensors")]
    if not unfinished and not any((folder / file).exists() for file in files):
        return
    if not path.exists():
        raise InputError(
            f"{folder}: expected an empty folder or an unfinished run, found weights from elsewhere; "
            "choose another folder, or replace them with --fresh"
        )
    before = read_json(path)
    if not (isinstance(before, dict) and isinstance(before.get("recipe"), dict) and {"data", "init"} <= set(before)):
        raise InputError(f"{path}: it is damaged, so that the run can't be gone on with; start over with --fresh")
    differences = [
        f"recipe field {name} was {before['recipe'].get(name)!r}, is {value!r}"
        for name, value in record["recipe"].items()
        if before["recipe"].get(name) != value
        and name not in (*PREDICTION_FIELDS, *ENROLMENT_FIELDS, *CALIBRATION_FIELDS)
    ]
    differences += ["the data has changed"] * (before["data"] != record["data"])
    differences += ["--init is another file"] * (before["init"] != record["init"])
    if differences:
        raise InputError(
            f"{folder}: it holds a run with other settings ({'; '.join(differences[:3])}). Go on with the same ones, "
            "choose another folder, or start over with --fresh"
        )


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
            raise InputError(
                f"{database.root / 'metadata.csv'}: dataset {dataset}: none of its photographs can be read"
            )
    return readable


def train_encoder(file: str, run: Run) -> None:
    """Trains one dataset's encoder, by the way of the shared one where the recipe wants that."""
    recipe, dataset = run.recipe, file.removesuffix(".safetensors")
    if not recipe.shared:
        _fit_soup(file, [dataset], run)
        return
    shared = run.folder / RUN_FOLDER / f"{SHARED}.safetensors"
    if not shared.exists():
        _fit_soup(f"{RUN_FOLDER}/{SHARED}.safetensors", list(run.database.by_dataset()), run)
    if recipe.tune_epochs:
        _fit_soup(file, [dataset], run, shared)
    else:
        save_network(run.folder / file, load_network(shared))
        say(f"{dataset}: takes the shared encoder")


def _fit_soup(file: str, datasets: list[str], run: Run, shared: Path | None = None) -> None:
    """Trains an encoder, or several whose weights are averaged.

    Their heads start from the same weights: only what began at one point can be averaged (Wortsman et al. 2022, arXiv
    2203.05482).
    """
    soup = run.recipe.soup
    if soup == 1:
        _fit(encoder_work(file, datasets, run, shared), run)
        return
    name = Path(file).name.removesuffix(".safetensors")
    members = [f"{RUN_FOLDER}/{name}.{member + 1}.safetensors" for member in range(soup)]
    for member, own in enumerate(members):
        if not (run.folder / own).exists():
            _fit(encoder_work(own, datasets, run, shared, member), run)
    network, *others = (load_network(run.folder / own) for own in members)
    states = [one.state_dict() for one in (network, *others)]
    for key, tensor in states[0].items():
        if tensor.is_floating_point():
            tensor.copy_(torch.stack([state[key] for state in states]).mean(0))
    save_network(run.folder / file, network)
    say(f"{name}: the mean of {soup} encoders")


def _fit(work: Work, run: Run) -> None:
    """Trains until the validation accuracy or the epoch limit is reached, then writes the network's file."""
    recipe, name = run.recipe, work.name
    checkpoint = run.folder / RUN_FOLDER / f"{name}.checkpoint.pt"
    learner = Learner.start(work.start().to(best_device()), work.objective, recipe, work.epochs * len(work.sampler))
    history: list[dict[str, float]] = []
    if checkpoint.exists():
        history = _restore(checkpoint, learner)
        say(f"{name}: going on after epoch {int(history[-1]['epoch'])}")
    done = int(history[-1]["epoch"]) if history else 0
    reached = bool(history) and history[-1]["accuracy"] >= recipe.stop_accuracy
    while done < work.epochs and not reached:
        figures = _train_epoch(work, learner, done)
        done += 1
        history.append({"epoch": done, **figures, "accuracy": math.nan, "score": math.nan})
        if done % work.validate_every and done < work.epochs:
            continue
        reached = _validate(work, learner, history, recipe)
        write_table(run.folder / RUN_FOLDER / f"{name}.history.csv", pd.DataFrame(history))
        _save_checkpoint(checkpoint, learner, history)
    network = learner.result
    if learner.best:
        network.load_state_dict(learner.best)
    save_network(run.folder / work.file, network)
    checkpoint.unlink(missing_ok=True)
    say(f"{name}: {_how_it_ended(history, reached, bool(learner.best), recipe)}")


def _validate(work: Work, learner: Learner, history: list[dict[str, float]], recipe: Recipe) -> bool:
    """Completes the last row, keeps the weights where they are the best; whether the accuracy is reached."""
    row = history[-1]
    row["accuracy"], row["score"] = work.validate(learner.result)
    best = max((one["score"] for one in history if not math.isnan(one["score"])), default=math.nan)
    if recipe.keep == "best" and row["score"] >= best:
        learner.keep()
    say(_history_line(work.name, row, work.epochs))
    if collapse := describe_collapse(history, recipe):
        say(f"warning: {work.name}: {collapse}")
    return row["accuracy"] >= recipe.stop_accuracy


def _train_epoch(work: Work, learner: Learner, epoch: int) -> dict[str, float]:
    """Runs an epoch; gives the means of what was logged, the learning rate and photographs per second."""
    learner.train()
    device = next(learner.network.parameters()).device
    labels = Labels(*(each.to(device) for each in work.labels))
    rate = float(learner.schedule.get_last_lr()[-1])
    logged: list[dict[str, float]] = []
    photographs, started = 0, time.monotonic()
    work.sampler.epoch = epoch
    batches = work.inputs.draw(work.sampler, device)
    for inputs, places in track(batches, f"training {work.name} epoch {epoch + 1}", total=len(work.sampler)):
        logged.append(learner.learn(inputs, labels.at(places)))
        photographs += len(inputs)
    means = {str(name): float(value) for name, value in pd.DataFrame(logged).mean().items()}
    return {**means, "learning_rate": rate, "images_per_second": photographs / (time.monotonic() - started)}


def _save_checkpoint(path: Path, learner: Learner, history: list[dict[str, float]]) -> None:
    """Everything that is needed to go on; what is drawn at random follows from the recipe's seed and the epoch."""
    written = io.BytesIO()  # a full disk is then an OSError, which is told as such
    torch.save({"learner": learner.state(), "history": history}, written)
    write_bytes(path, written.getvalue())


def _restore(path: Path, learner: Learner) -> list[dict[str, float]]:
    """Fills a learner from a checkpoint; gives the history."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as problem:  # zip, pickle and torch have each their own errors
        raise InputError(
            f"{path}: this checkpoint can't be read ({str(problem).splitlines()[0]}); start over with --fresh"
        ) from None
    learner.restore(state["learner"])
    history: list[dict[str, float]] = state["history"]
    return history


def _history_line(name: str, row: dict[str, float], epochs: int) -> str:
    figures = [
        f"{word} {row[word]:.3f}"
        for word in ("loss", "active", "norm", "accuracy", "score")
        if not math.isnan(row.get(word, math.nan))
    ]
    return f"  {name}: epoch {row['epoch']} of {epochs}, {', '.join(figures)}, {row['images_per_second']:.0f} images/s"


def _how_it_ended(history: list[dict[str, float]], reached: bool, is_best: bool, recipe: Recipe) -> str:
    if not history:
        return "not trained"
    why = f"validation accuracy {recipe.stop_accuracy:.0%} reached" if reached else "epoch limit reached"
    line = f"trained for {int(history[-1]['epoch'])} epochs, {why}"
    if not is_best:
        return line
    best = max(row["score"] for row in history if not math.isnan(row["score"]))
    kept = [row for row in history if row["score"] == best][-1]
    return f"{line}; kept is epoch {int(kept['epoch'])} with a validation score of {best:.3f}"
