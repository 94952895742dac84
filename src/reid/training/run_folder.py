"""What lies in a weights folder during training: networks, the record of the run that makes them, its traces."""

import json
import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from reid.config.recipe import Recipe
from reid.data.catalogue import Catalogue
from reid.decision.artifact import (
    CALIBRATION,
    CLASSIFIER,
    EXTRACTOR,
    MANIFEST,
    MATCHER,
    RUN_FOLDER,
    encoder_file,
    fold_folder,
    gallery_file,
    reference_file,
)
from reid.errors import InputError, Stopped
from reid.retrieval.cache import CACHE_FOLDER
from reid.retrieval.extraction import backbone_file
from reid.runtime.distributed import is_main
from reid.runtime.files import read_json, sha256_of, write_json
from reid.runtime.progress import stage
from reid.training.checkpoints import differences

__all__ = [
    "HISTORY",
    "RUN",
    "SHARED",
    "chosen_files",
    "forget",
    "further_folder",
    "lock_names",
    "missing_networks",
    "network_files",
    "network_name",
    "photographs_of",
    "read_seconds",
    "refuse_another_run",
    "refuse_missing_weights",
    "run_record",
    "timed_stage",
]

RUN = "run.json"
"""The record of the run, see `run_record`."""

SECONDS = "seconds.json"
"""How long each stage of `train` took, all calls together; for the report."""

SHARED = "all datasets"
"""The encoder that learns from all of them. Its file stays in the run folder; each dataset's is a copy of it. Because
of the space, no dataset can have this name."""

HISTORY = ".history.csv"
TRACES = (".checkpoint.pt", ".checkpoint.new.pt", ".checkpoint.previous.pt", ".safetensors")
"""How the names end of what a training leaves in the run folder, beside its history."""


def network_files(database: Catalogue) -> list[str]:
    """Return the files of all networks; a single dataset needs no species classifier."""
    datasets = list(database.by_dataset())
    return [CLASSIFIER] * (len(datasets) > 1) + [encoder_file(dataset) for dataset in datasets]


def network_name(file: str) -> str:
    """Return what people call the network in a file: "species", or the dataset."""
    return Path(file).name.removesuffix(".safetensors")


def missing_networks(folder: Path, files: Sequence[str], recipe: Recipe) -> list[str]:
    """Return the names of those networks that are not trained to their end on every backbone and in every fold."""
    missing = []
    for file in files:
        folds, backbones = (1, 1) if file == CLASSIFIER else (recipe.training.folds, len(recipe.backbone.names))
        paths = [fold_folder(folder, fold) / file for fold in range(folds)]
        if not all(backbone_file(path, number).exists() for path in paths for number in range(backbones)):
            missing.append(network_name(file))
    return missing


def chosen_files(files: list[str], only: Sequence[str]) -> list[str]:
    """Return the files of the networks that `--only` names; all of them where it names none."""
    known = {network_name(file): file for file in files}
    unknown = [name for name in only if name not in known]
    if unknown:
        raise InputError(f"--only {unknown[0]}: expected some of {', '.join(known)}, found {unknown[0]!r}")
    return [file for name, file in known.items() if not only or name in only]


def photographs_of(database: Catalogue, files: list[str]) -> Catalogue:
    """Return the photographs that these encoders learn from."""
    return replace(database, table=database.table[database.table["dataset"].map(encoder_file).isin(files)])


def lock_names(files: list[str], recipe: Recipe) -> list[str]:
    """Return what no other run may train meanwhile: these networks, and the shared encoder that they are copies of."""
    shared = recipe.training.shared and any(file != CLASSIFIER for file in files)
    return [*map(network_name, files), *([SHARED] if shared else [])]


def further_folder(number: int | str) -> str:
    """Return the name of the folder in the run folder where the networks on another of several backbones are trained;
    the first, whose networks lie in the weights folder itself, is number 0."""
    return f"backbone-{number + 1 if isinstance(number, int) else number}"


def refuse_missing_weights(init: Path | None) -> None:
    """Refuse first weights, if a file is named, where there is no such file."""
    if init is not None and not init.is_file():
        raise InputError(f"--init {init}: expected a state dict of the backbone (.safetensors or .pth), found no file")


def run_record(database: Catalogue, recipe: Recipe, init: Path | None) -> dict[str, Any]:
    """Return what identifies a run, as JSON: recipe, fingerprint of the data, SHA-256 of the first weights."""
    refuse_missing_weights(init)
    return {
        "recipe": json.loads(json.dumps(asdict(recipe))),
        "data": database.fingerprint,
        "init": sha256_of(init) if init else None,
    }


def refuse_another_run(folder: Path, files: list[str], record: dict[str, Any], only: Sequence[str] = ()) -> None:
    """Refuse to resume what another run made.

    Args:
        folder: the weights folder.
        files: networks; if the folder holds nothing of them, any run may train them.
        record: this run's.
        only: what `--only` names; with it, `--fresh` would replace these networks alone.

    Raises:
        InputError: networks, checkpoints or galleries are of a run with other settings, or of no run.
    """
    path = folder / RUN_FOLDER / RUN
    if not files or not _holds_any(folder, files):
        return
    over = "--fresh and without --only" if only else "--fresh"
    if not path.exists():
        raise InputError(
            f"{folder}: expected an empty folder or an unfinished run, found weights from elsewhere; "
            f"choose another folder, or replace them with {over}"
        )
    try:
        found = differences(read_json(path), record)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise InputError(
            f"{path}: it is damaged, so that the training can't be resumed; start over with {over}"
        ) from None
    if found:
        raise InputError(
            f"{folder}: it holds a run with other settings ({'; '.join(found[:3])}). Resume with the same ones, "
            f"choose another folder, or start over with {over}"
        )


def _holds_any(folder: Path, files: list[str]) -> bool:
    """Return whether a folder is complete or has one of these networks, its checkpoint or its gallery."""
    names = [SHARED, *map(network_name, files)]
    return any(path.exists() for path in (folder / MANIFEST, *_products(folder, names), *_traces(folder, names)))


def forget(folder: Path, files: Sequence[str], others: Sequence[str]) -> None:
    """Delete what earlier runs wrote of these networks, the manifest first, and nothing else.

    Args:
        folder: the weights folder.
        files: the networks.
        others: those that stay.
    """
    names = [*map(network_name, files), *([] if others else [SHARED])]
    traces = [*_traces(folder, names), *_traces(folder, names, [HISTORY])]
    local = [] if others else [*folder.glob(f"*{EXTRACTOR}"), *folder.glob(f"*{MATCHER}")]
    further = [path for fold in _folds(folder) for name in names for path in fold.glob(f"{name}.backbone-*")]
    for path in [folder / MANIFEST, folder / CALIBRATION, *local, *further, *_products(folder, names), *traces]:
        path.unlink(missing_ok=True)
    shutil.rmtree(folder / CACHE_FOLDER, ignore_errors=True)


def _folds(folder: Path) -> list[Path]:
    """Return where the networks of the folds lie, of as many as there are."""
    return [folder, *folder.glob(f"{RUN_FOLDER}/fold-*")]


def _products(folder: Path, names: Collection[str]) -> list[Path]:
    """Return where these networks, and what is made with them, lie in all folds."""
    files = [file(name) for name in names for file in (encoder_file, gallery_file, reference_file)]
    return [fold / file for fold in _folds(folder) for file in files]


def _traces(folder: Path, names: Collection[str], endings: Sequence[str] = TRACES) -> list[Path]:
    """Return where trainings of these networks leave their traces in all folds."""
    return [fold / RUN_FOLDER / f"{name}{end}" for fold in _folds(folder) for name in names for end in endings]


def read_seconds(folder: Path) -> dict[str, float]:
    """Return how long each stage of `train` took, all calls together; empty where that is unknown."""
    try:
        return {str(name): float(value) for name, value in read_json(folder / RUN_FOLDER / SECONDS).items()}
    except (InputError, AttributeError, TypeError, ValueError):
        return {}


@contextmanager
def timed_stage(name: str, folder: Path, fresh: bool = False) -> Iterator[None]:
    """Add the wall time of the block to that of earlier calls, also when a signal stops it.

    A block that ends with `InputError` adds nothing: most likely it had done nothing yet.

    Args:
        name: the stage.
        folder: the weights folder.
        fresh: count from zero.
    """
    seconds: dict[str, float] = {}
    try:
        with stage(name, seconds):
            yield
    except Stopped:
        with suppress(InputError):  # the disk may be full: still report the stop
            _add_seconds(name, seconds[name], folder, fresh)
        raise
    _add_seconds(name, seconds[name], folder, fresh)


def _add_seconds(name: str, seconds: float, folder: Path, fresh: bool) -> None:
    if is_main():
        before = {} if fresh else read_seconds(folder)
        write_json(folder / RUN_FOLDER / SECONDS, before | {name: round(before.get(name, 0.0) + seconds, 1)})
