"""Several backbones in one decision: each is trained as if it were alone, then their encoders stand side by side.

What the first one's run makes lies where that of a single backbone does. The run of each further one has a folder of
its own in the run folder, and its encoders are linked beside the first one's (`backbone_file`). All of them are given
the same photographs, decoded for the one that takes the largest: once where they are embedded, for each in training.
"""

import difflib
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from reid.config.recipe import Recipe
from reid.data.catalogue import Catalogue
from reid.decision.artifact import CLASSIFIER, RUN_FOLDER, encoder_file, fold_folder
from reid.errors import InputError
from reid.models.pretrained import Backbone, describe_backbone, described_in
from reid.retrieval.extraction import backbone_file
from reid.runtime.distributed import barrier, is_main
from reid.runtime.files import atomic_path
from reid.training.networks import check_backbone, resolve_defaults, train_networks
from reid.training.run_folder import further_folder, network_name
from reid.training.tasks import TrainingOptions

__all__ = ["BackboneRun", "named_files", "plan_backbones", "train_backbones"]

log = logging.getLogger(__name__)

FirstWeights = Path | Mapping[str, Path] | None
"""A file for a single backbone, or one by the name of each."""


@dataclass(frozen=True)
class BackboneRun:
    """One of a recipe's backbones.

    Attributes:
        recipe: with this backbone alone, nothing left open, and the size at which photographs are decoded for all.
        backbone: what is known of it.
        init: a file with its first weights; None for what the recipe says.
        image_size: pixels on a side that it takes.
    """

    recipe: Recipe
    backbone: Backbone
    init: Path | None
    image_size: int


def named_files(given: Sequence[str], names: Sequence[str]) -> FirstWeights:
    """Return what the values of `--init` name: FILE for a single backbone, NAME=FILE for each of several.

    Args:
        given: the values.
        names: the recipe's backbones; of hf-hub:OWNER/NAME the last word will do.

    Raises:
        InputError: a value without a name, with another, or two of one backbone.
    """
    if len(names) == 1 and len(given) <= 1:
        return Path(given[0].removeprefix(f"{names[0]}=")) if given else None
    by_word = {word: name for name in names for word in (name, name.rpartition("/")[2])}
    files: dict[str, Path] = {}
    for value in given:
        word, equals, file = value.partition("=")
        if not equals or word not in by_word or by_word[word] in files:
            near = difflib.get_close_matches(word, by_word, n=1) if equals and word not in by_word else []
            advice = f"; did you mean {near[0]}?" if near else ""
            raise InputError(
                f"--init {value}: expected NAME=FILE, once for each of {', '.join(names)}, the recipe's backbones"
                f"{advice}"
            )
        files[by_word[word]] = Path(file)
    return files


def plan_backbones(recipe: Recipe, init: FirstWeights) -> tuple[Recipe, list[BackboneRun]]:
    """Return the recipe with nothing left to its backbones, and the run of each of them.

    Raises:
        InputError: an unknown backbone, a file with the weights of another, or a file without a name for several.
    """
    names = recipe.backbone.names
    if isinstance(init, Path) and len(names) > 1:
        raise InputError(
            f"--init {init}: expected NAME=FILE, once for each of {', '.join(names)}, the recipe's backbones"
        )
    files = {names[0]: init} if isinstance(init, Path) else dict(init or {})
    known = [describe_backbone(name, files.get(name)) for name in names]
    for name, backbone in zip(names, known, strict=True):
        _refuse_another(name, backbone, files.get(name), alone=len(names) == 1)
    sizes = [size or one.image_size for size, one in zip(recipe.backbone.sizes, known, strict=True)]
    largest = max(sizes)
    one_size = replace(recipe.backbone, name="+".join(names), image_size=largest)
    resolved = resolve_defaults(replace(recipe, backbone=one_size), known[sizes.index(largest)])
    runs = [
        BackboneRun(replace(resolved, backbone=replace(resolved.backbone, name=name)), one, files.get(name), size)
        for name, one, size in zip(names, known, sizes, strict=True)
    ]
    words = [f"{name}@{size}" if size != largest else name for name, size in zip(names, sizes, strict=True)]
    return replace(resolved, backbone=replace(resolved.backbone, name="+".join(words))), runs


def _refuse_another(name: str, backbone: Backbone, init: Path | None, alone: bool) -> None:
    """Refuse a file of `reid fetch` that says that it is another backbone's, where it is named among several."""
    if alone or init is None or name in (described_in(init), backbone.name):
        return
    if described_in(init) and name.partition(".")[0] != backbone.name:
        raise InputError(
            f"--init {name}={init}: expected the weights of {name}, found those of {described_in(init)}; were the "
            "files exchanged?"
        )


def train_backbones(catalogue: Catalogue, runs: Sequence[BackboneRun], folder: Path, options: TrainingOptions) -> None:
    """Train the networks of every backbone, see `train_networks`."""
    for run in runs:  # the last one must not be refused when the first is trained
        check_backbone(run.recipe, run.backbone, run.image_size, run.init)
    for number, run in enumerate(runs):
        only = options.only if not number else tuple(name for name in options.only if name != network_name(CLASSIFIER))
        if options.only and not only:
            continue
        if len(runs) > 1:
            log.info(f"backbone {number + 1} of {len(runs)}: {run.recipe.backbone.name}")
        main = folder if number else None
        own = replace(options, init=run.init, only=only, image_size=run.image_size, main=main)
        train_networks(catalogue, run.recipe, _run_folder(folder, number), own)
        if number and is_main():
            _link_encoders(catalogue, folder, number, run.recipe)
    barrier()  # until the files are there


def _run_folder(folder: Path, number: int) -> Path:
    return folder / RUN_FOLDER / further_folder(number) if number else folder


def _link_encoders(catalogue: Catalogue, folder: Path, number: int, recipe: Recipe) -> None:
    """Put the encoders of a further backbone beside the first one's, fold by fold."""
    for fold in range(recipe.training.folds):
        for dataset in catalogue.database.by_dataset():
            source = fold_folder(_run_folder(folder, number), fold) / encoder_file(dataset)
            target = backbone_file(fold_folder(folder, fold) / encoder_file(dataset), number)
            if not source.exists() or (target.exists() and target.samefile(source)):  # with `only`; of an earlier call
                continue
            target.unlink(missing_ok=True)
            try:
                os.link(source, target)
            except FileExistsError:  # a run that trains other networks was as quick
                continue
            except OSError:  # a file system without links
                with atomic_path(target) as temporary:
                    shutil.copyfile(source, temporary)
