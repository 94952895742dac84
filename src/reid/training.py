"""Training: the loop, its checkpoints, and the networks of a recipe one after the other.

A network's file in the weights folder appears when it is trained to its end; until then its state lies in
`training/` beside it, and the same command goes on from there.
"""

import io
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional
from torch.optim.lr_scheduler import LambdaLR

from reid import InputError
from reid.calibration import hold_out
from reid.catalogue import Catalogue
from reid.embedding import CACHE_FOLDER, embed, precision_on
from reid.files import read_json, sha256_of, write_bytes, write_json, write_table
from reid.images import PhotographStore, scratch_folder, store_photographs, training_batches
from reid.losses import batch_hard_triplet, pairwise_distances
from reid.networks import Network, NetworkPlan, best_device, build_network, plan_network, save_network
from reid.progress import say, track
from reid.recipe import CALIBRATION_FIELDS, PREDICTION_FIELDS, Recipe
from reid.sampler import PKSampler, ShuffledSampler
from reid.weights import CALIBRATION, MANIFEST, SPECIES, encoder_file, gallery_file

__all__ = ["rank1_accuracy", "train_networks"]

RUN_FOLDER = "training"
RUN = "run.json"


@dataclass(frozen=True)
class Photographs:
    """What there is to learn from: the database rows, their pixels, and which of them could be read, (N,) bool."""

    database: Catalogue
    store: PhotographStore
    readable: np.ndarray

    def batches(self, places: np.ndarray, recipe: Recipe) -> Iterator[Tensor]:
        """Photographs as they are enrolled, (B, 3, S, S) uint8."""
        return self.store.batches(places, recipe.batch_size)


@dataclass(frozen=True)
class Work:
    """One network's training.

    Attributes:
        file: its name in the weights folder.
        plan: what to build.
        sampler: draws the batches of an epoch.
        targets: (N,) integers, the class or individual of every photograph.
        loss_of: outputs (B, D), targets (B,) -> the loss, and figures to log.
        accuracy_of: on photographs that the network does not learn from; None when there are none.
        epochs: the limit.
        validate_every: epochs between two validations.
    """

    file: str
    plan: NetworkPlan
    sampler: PKSampler | ShuffledSampler
    targets: np.ndarray
    loss_of: Callable[[Tensor, Tensor], tuple[Tensor, dict[str, float]]]
    accuracy_of: Callable[[Network], float | None]
    epochs: int
    validate_every: int


@dataclass(frozen=True)
class Learner:
    """A network while it is trained.

    Attributes:
        network: its weights are float32.
        precision: what the forward pass is computed in; the loss and the weights' steps are float32.
        optimizer, schedule: the schedule counts steps.
        scaler: keeps float16's gradients from vanishing; does nothing in another precision.
    """

    network: Network
    precision: torch.dtype
    optimizer: torch.optim.Optimizer
    schedule: LambdaLR
    scaler: torch.amp.GradScaler

    @classmethod
    def start(cls, network: Network, recipe: Recipe, steps: int) -> "Learner":
        """A learner before its first step.

        Args:
            network: on the device where it shall be trained.
            recipe: optimizer, schedule, precision.
            steps: how many there will be at most.
        """
        kind = torch.optim.AdamW if recipe.optimizer == "adamw" else torch.optim.Adam
        optimizer = kind(network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
        cosine = recipe.schedule == "cosine"
        schedule = LambdaLR(
            optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * min(1, step / max(1, steps)))) if cosine else 1.0
        )
        device = next(network.parameters()).device
        precision = precision_on(device, recipe.precision)
        scaler = torch.amp.GradScaler(device.type, enabled=precision == torch.float16)
        return cls(network, precision, optimizer, schedule, scaler)

    def learn(self, loss: Tensor) -> None:
        """One step down the gradient of the loss."""
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.schedule.step()

    def parts(self) -> dict[str, Any]:
        """What has a state, by name."""
        return {
            "network": self.network,
            "optimizer": self.optimizer,
            "schedule": self.schedule,
            "scaler": self.scaler,
        }


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
        InputError: photographs that can't be read, a dataset without database rows, a folder that another run uses.
    """
    database = catalogue.database
    _check_datasets(catalogue)
    plan_network(recipe.trunk, recipe.image_size)  # refuses an unknown trunk before the photographs are decoded
    run = _run(database, recipe, init)
    files = [SPECIES] if len(database.by_dataset()) > 1 else []
    files += [encoder_file(dataset) for dataset in database.by_dataset()]
    if not fresh:
        _refuse_another_run(folder, files, run)
        if all((folder / file).exists() for file in files):
            say(f"every network is trained already in {folder}; --fresh starts over")
            return str(run["data"])
    with scratch_folder() as scratch:
        store = store_photographs(database, recipe, Path(scratch))
        photographs = Photographs(database, store, _readable(database, store, recipe))
        if fresh:  # not earlier: a run that can't start must not cost the weights of the last one
            _forget(folder, list(database.by_dataset()))
        write_json(folder / RUN_FOLDER / RUN, run)
        (folder / MANIFEST).unlink(missing_ok=True)  # from here on the folder is not whole
        for file in files:
            if (folder / file).exists():
                say(f"{file}: trained already")
                continue
            work = species_work(photographs, recipe) if file == SPECIES else encoder_work(file, photographs, recipe)
            _fit(work, store, recipe, folder, init)
    return str(run["data"])


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
    for path in (
        [folder / name for name in names]
        + sorted((folder / RUN_FOLDER).glob("*"))
        + sorted((folder / CACHE_FOLDER).glob("*"))
    ):
        path.unlink(missing_ok=True)


def _run(database: Catalogue, recipe: Recipe, init: Path | None) -> dict[str, Any]:
    """What tells this run from others: recipe, data and first weights, as JSON gives them back."""
    if init is not None and not init.is_file():
        raise InputError(f"--init {init}: expected a state dict of the trunk (.safetensors or .pth), found no file")
    return {
        "recipe": json.loads(json.dumps(asdict(recipe))),
        "data": database.fingerprint,
        "init": sha256_of(init) if init else None,
    }


def _refuse_another_run(folder: Path, files: list[str], run: dict[str, Any]) -> None:
    """A folder with networks or checkpoints can only be gone on with by the run that made them."""
    path = folder / RUN_FOLDER / RUN
    if not any((folder / file).exists() for file in files) and not list((folder / RUN_FOLDER).glob("*.checkpoint.pt")):
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
        for name, value in run["recipe"].items()
        if before["recipe"].get(name) != value and name not in (*PREDICTION_FIELDS, *CALIBRATION_FIELDS)
    ]
    differences += ["the data has changed"] * (before["data"] != run["data"])
    differences += ["--init is another file"] * (before["init"] != run["init"])
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


def species_work(photographs: Photographs, recipe: Recipe) -> Work:
    """Which dataset does a photograph belong to? Validated on individuals that the classifier has not learned from."""
    database = photographs.database
    datasets = database.table["dataset"].to_numpy(str)
    learn = photographs.readable.copy()
    for dataset, part in database.by_dataset().items():
        learn[datasets == dataset] &= ~hold_out(part, recipe).individuals
    train_on, validate_on = np.flatnonzero(learn), np.flatnonzero(photographs.readable & ~learn)
    classes, targets = np.unique(datasets, return_inverse=True)
    image_ids = database.table["image_id"].to_numpy(str)
    plan = plan_network(
        recipe.trunk,
        max(1, recipe.image_size // recipe.species_shrink),
        classes=tuple(classes.tolist()),
        trained_on=tuple(image_ids[train_on].tolist()),
    )
    sampler = ShuffledSampler(train_on, targets[train_on], recipe.species_batch, seed=recipe.seed)

    def loss_of(logits: Tensor, target: Tensor) -> tuple[Tensor, dict[str, float]]:
        return functional.cross_entropy(logits, target), {}

    def accuracy_of(network: Network) -> float | None:
        if not len(validate_on):
            return None
        logits = embed(network, photographs.batches(validate_on, recipe), recipe)
        return float((logits.argmax(1).numpy() == targets[validate_on]).mean())

    return Work(SPECIES, plan, sampler, targets, loss_of, accuracy_of, recipe.species_epochs, validate_every=1)


def encoder_work(file: str, photographs: Photographs, recipe: Recipe) -> Work:
    """Who is it? Validated by rank-1 among individuals that the encoder has not learned from."""
    database = photographs.database
    dataset = file.removesuffix(".safetensors")
    own = np.flatnonzero(database.table["dataset"] == dataset)
    readable = photographs.readable[own]
    held_out = hold_out(database.of(dataset), recipe)
    train_on = own[readable & ~held_out.individuals & ~held_out.photographs]
    validate_on = own[readable & held_out.individuals]
    targets = np.unique(np.array(database.identities), return_inverse=True)[1]
    if len(np.unique(targets[train_on])) < 2:
        raise InputError(
            f"{database.root / 'metadata.csv'}: dataset {dataset}: a triplet loss needs two individuals to learn "
            f"from, found {len(np.unique(targets[own]))}, of which {recipe.held_out_individuals:.0%} are held out. "
            "Add photographs of others, or remove the dataset's rows"
        )
    image_ids = database.table["image_id"].to_numpy(str)
    plan = plan_network(
        recipe.trunk,
        recipe.image_size,
        hidden_size=recipe.hidden_size,
        embedding_size=recipe.embedding_size,
        trained_on=tuple(image_ids[train_on].tolist()),
    )
    sampler = PKSampler(
        train_on, targets[train_on], recipe.individuals_per_batch, recipe.photographs_per_individual, seed=recipe.seed
    )
    margin = None if recipe.soft_margin else recipe.margin

    def loss_of(embeddings: Tensor, target: Tensor) -> tuple[Tensor, dict[str, float]]:
        loss, mined = batch_hard_triplet(embeddings, target, margin)
        return loss, {"active": mined.active, "norm": float(embeddings.detach().norm(dim=1).mean())}

    def accuracy_of(network: Network) -> float | None:
        return rank1_accuracy(embed(network, photographs.batches(validate_on, recipe), recipe), targets[validate_on])

    return Work(file, plan, sampler, targets, loss_of, accuracy_of, recipe.epochs, recipe.validate_every)


def rank1_accuracy(vectors: Tensor, labels: np.ndarray) -> float | None:
    """The share of photographs whose nearest other photograph shows the same individual.

    Args:
        vectors: (N, D) float.
        labels: (N,) integers; only individuals with two photographs or more are asked for.

    Returns:
        0 to 1; None when no individual has two photographs.
    """
    has_partner = np.bincount(labels)[labels] > 1 if len(labels) else np.zeros(0, dtype=bool)
    if not has_partner.any():
        return None
    nearest = pairwise_distances(vectors, vectors).fill_diagonal_(torch.inf).argmin(1).numpy()
    return float((labels[nearest] == labels)[has_partner].mean())


def _fit(work: Work, store: PhotographStore, recipe: Recipe, folder: Path, init: Path | None) -> None:
    """Trains until the validation accuracy or the epoch limit is reached, then writes the network's file."""
    name, device = work.file.removesuffix(".safetensors"), best_device()
    checkpoint = folder / RUN_FOLDER / f"{name}.checkpoint.pt"
    network = build_network(work.plan, recipe.seed, init or recipe.init).to(device)
    learner = Learner.start(network, recipe, steps=work.epochs * len(work.sampler))
    history: list[dict[str, float]] = []
    if checkpoint.exists():
        history = _restore(checkpoint, learner)
        say(f"{name}: going on after epoch {int(history[-1]['epoch'])}")
    done = int(history[-1]["epoch"]) if history else 0
    reached = bool(history) and history[-1]["accuracy"] >= recipe.stop_accuracy
    while done < work.epochs and not reached:
        stop = min(work.epochs, done + work.validate_every)
        figures = _train_epochs(work, store, recipe, range(done, stop), learner)
        done, accuracy = stop, work.accuracy_of(network)
        history.append({"epoch": done, **figures, "accuracy": float("nan") if accuracy is None else accuracy})
        reached = accuracy is not None and accuracy >= recipe.stop_accuracy
        say(_history_line(name, history[-1], work.epochs))
        write_table(folder / RUN_FOLDER / f"{name}.history.csv", pd.DataFrame(history))
        _save_checkpoint(checkpoint, learner, history)
    why = f"validation accuracy {recipe.stop_accuracy:.0%} reached" if reached else "epoch limit reached"
    save_network(folder / work.file, network)
    checkpoint.unlink(missing_ok=True)
    say(f"{name}: trained for {done} epochs, {why}")


def _train_epochs(
    work: Work, store: PhotographStore, recipe: Recipe, epochs: range, learner: Learner
) -> dict[str, float]:
    """Runs some epochs; gives the means of what was logged, and photographs per second."""
    learner.network.train()
    device = next(learner.network.parameters()).device
    logged: list[dict[str, float]] = []
    photographs, started = 0, time.monotonic()
    for epoch in epochs:
        work.sampler.epoch = epoch
        batches = training_batches(store, work.targets, recipe, work.sampler, device)
        for pixels, targets in track(batches, f"training {work.file} epoch {epoch + 1}", total=len(work.sampler)):
            with torch.autocast(device.type, learner.precision, enabled=learner.precision != torch.float32):
                outputs = learner.network(pixels)
            loss, figures = work.loss_of(outputs.float(), targets)
            learner.learn(loss)
            photographs += len(pixels)
            logged.append({"loss": float(loss.detach()), **figures})
    means = {name: float(np.mean([figures[name] for figures in logged])) for name in logged[0]}
    return {**means, "images_per_second": photographs / (time.monotonic() - started)}


def _save_checkpoint(path: Path, learner: Learner, history: list[dict[str, float]]) -> None:
    """Everything that is needed to go on; what is drawn at random follows from the recipe's seed and the epoch."""
    state = {name: part.state_dict() for name, part in learner.parts().items()}
    written = io.BytesIO()  # a full disk is then an OSError, which is told as such
    torch.save({**state, "history": history}, written)
    write_bytes(path, written.getvalue())


def _restore(path: Path, learner: Learner) -> list[dict[str, float]]:
    """Fills a learner from a checkpoint; gives the history."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as problem:  # zip, pickle and torch have each their own errors
        raise InputError(
            f"{path}: this checkpoint can't be read ({str(problem).splitlines()[0]}); start over with --fresh"
        ) from None
    for name, part in learner.parts().items():
        part.load_state_dict(state[name])
    history: list[dict[str, float]] = state["history"]
    return history


def _history_line(name: str, row: dict[str, float], epochs: int) -> str:
    figures = [
        f"{word} {row[word]:.3f}"
        for word in ("loss", "active", "norm", "accuracy")
        if not math.isnan(row.get(word, math.nan))
    ]
    return f"  {name}: epoch {row['epoch']} of {epochs}, {', '.join(figures)}, {row['images_per_second']:.0f} images/s"
