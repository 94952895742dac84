"""TODO training.run_folder."""

import json
import re
import shutil
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from reid.config.recipe import Recipe
from reid.data.catalogue import Catalogue
from reid.decision.artifact import (
    CALIBRATION,
    CLASSIFIER,
    MANIFEST,
    RUN_FOLDER,
    encoder_file,
    fold_folder,
    gallery_file,
)
from reid.errors import InputError
from reid.retrieval.cache import CACHE_FOLDER
from reid.runtime.files import read_json, sha256_of
from reid.training.checkpoints import differences

__all__ = [
    "chosen_files",
    "forget",
    "lock_names",
    "made_files",
    "missing_networks",
    "network_files",
    "network_name",
    "photographs_of",
    "refuse_another_run",
    "run_record",
]

RUN = "run.json"


SHARED = "all datasets"
"""The encoder that learns from all of them. Its file stays in the run folder; each dataset's is made from it. Because
of its space, no dataset can have this name."""


LEFTOVER = re.compile(r"(.+?)\.(?:checkpoint(?:\.new|\.previous)?\.pt|history\.csv|safetensors)")
"""What a training leaves in `training/`, and under which name it ran."""


def network_files(database: Catalogue) -> list[str]:
    """Return the files of all networks; a single dataset needs no species classifier."""
    datasets = list(database.by_dataset())
    return [CLASSIFIER] * (len(datasets) > 1) + [encoder_file(dataset) for dataset in datasets]


def missing_networks(folder: Path, files: Sequence[str], recipe: Recipe) -> list[str]:
    """Return the names of those networks that are not trained to their end, in any fold."""
    missing = []
    for file in files:
        folds = [fold_folder(folder, fold) for fold in range(1 if file == CLASSIFIER else recipe.training.folds)]
        if not all((path / file).exists() for path in folds):
            missing.append(network_name(file))
    return missing


def chosen_files(files: list[str], only: Sequence[str]) -> list[str]:
    """Return the files of the networks that `--only` names; all where it names none."""
    known = {network_name(file): file for file in files}
    unknown = [name for name in only if name not in known]
    if unknown:
        raise InputError(f"--only {unknown[0]}: expected some of {', '.join(known)}, found {unknown[0]!r}")
    return [file for name, file in known.items() if not only or name in only]


def photographs_of(database: Catalogue, files: list[str]) -> Catalogue:
    """Return the photographs that these encoders learn from."""
    return replace(database, table=database.table[database.table["dataset"].map(encoder_file).isin(files)])


def lock_names(files: list[str], recipe: Recipe) -> list[str]:
    """Return what nobody else may train meanwhile; the encoders of a shared one are trained one after the other."""
    shared = recipe.training.shared and any(file != CLASSIFIER for file in files)
    return [*map(network_name, files), *([SHARED] if shared else [])]


def network_name(file: str) -> str:
    return Path(file).name.removesuffix(".safetensors")


def forget(folder: Path, files: Sequence[str], others: Sequence[str]) -> None:
    """Remove what runs wrote of these networks, the manifest first, and nothing else; locks stay, they are held.

    Args:
        folder: the weights folder.
        files: the networks.
        others: those that stay.
    """
    names = [*map(network_name, files), *([] if others else [SHARED])]
    gone = [folder / MANIFEST, folder / CALIBRATION, *made_files(folder, names), *_leftovers(folder, names)]
    for path in gone:
        path.unlink(missing_ok=True)
    shutil.rmtree(folder / CACHE_FOLDER, ignore_errors=True)


def _folds(folder: Path) -> list[Path]:
    """Return where the networks of all folds that there are lie."""
    return [folder, *folder.glob(f"{RUN_FOLDER}/fold-*")]


def made_files(folder: Path, names: Collection[str]) -> list[Path]:
    """These networks and their galleries in all folds, whether they are there or not."""
    return [
        fold / file for fold in _folds(folder) for name in names for file in (encoder_file(name), gallery_file(name))
    ]


def _leftovers(folder: Path, names: Collection[str]) -> Iterator[Path]:
    """Yield what runs left of these networks in `training/`."""
    for fold in _folds(folder):
        for path in fold.glob(f"{RUN_FOLDER}/*"):
            if (match := LEFTOVER.fullmatch(path.name)) and match[1] in names:
                yield path


def run_record(database: Catalogue, recipe: Recipe, init: Path | None) -> dict[str, Any]:
    """Return what tells this run from others: recipe, data and first weights, as JSON gives them back."""
    if init is not None and not init.is_file():
        raise InputError(f"--init {init}: expected a state dict of the backbone (.safetensors or .pth), found no file")
    return {
        "recipe": json.loads(json.dumps(asdict(recipe))),
        "data": database.fingerprint,
        "init": sha256_of(init) if init else None,
    }


def refuse_another_run(folder: Path, files: list[str], record: dict[str, Any], only: Sequence[str] = ()) -> None:
    """Return a folder with these networks, checkpoints or galleries of them can only be gone on with by the run that
    made them."""
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
    """Return whether a folder is whole, or has these networks, checkpoints or galleries of them; histories are no
    loss."""
    names = [SHARED, *map(network_name, files)]
    traces = [folder / MANIFEST, *made_files(folder, names)]
    traces += [path for path in _leftovers(folder, names) if path.suffix != ".csv"]
    return any(path.exists() for path in traces)
