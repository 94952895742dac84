"""What a training needs of its photographs, checked before the first step."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from reid.config.recipe import Recipe
from reid.config.runtime import Runtime
from reid.data.boxes import Crop
from reid.data.catalogue import Catalogue
from reid.data.missing_files import with_causes
from reid.data.photographs import UnreadableError, View, open_photograph
from reid.data.store import PhotographStore, decode_photographs, temporary_folder
from reid.errors import InputError
from reid.runtime.distributed import all_cores, barrier, broadcast_from_local_main, world_size
from reid.training.tasks import RunContext, encoder_split

__all__ = [
    "decoded_photographs",
    "readable_photographs",
    "refuse_few_individuals",
    "refuse_unreadable",
    "warn_of_missing_rows",
]

log = logging.getLogger(__name__)


def warn_of_missing_rows(catalogue: Catalogue) -> None:
    """Warn of datasets that have queries and nothing to learn from."""
    for dataset in sorted(set(catalogue.by_dataset()) - set(catalogue.database.by_dataset())):
        log.warning(
            f"{catalogue.root / 'metadata.csv'}: dataset {dataset} has {len(catalogue.of(dataset))} query rows and no "
            "known photograph (database row): nobody can be named there, and predict calls these queries new"
        )


@contextmanager
def decoded_photographs(photographs: Catalogue, recipe: Recipe, runtime: Runtime) -> Iterator[PhotographStore]:
    """Decode the photographs once on each machine, into a folder that all its ranks read until the block ends."""
    with temporary_folder() as scratch:
        is_local_main = int(os.environ.get("LOCAL_RANK", 0)) == 0 or world_size() == 1
        with all_cores():  # the other ranks wait
            store = broadcast_from_local_main(
                decode_photographs(photographs, recipe, Path(scratch), runtime) if is_local_main else None
            )
        assert store is not None
        yield store
        barrier()  # the folder goes when nobody reads from it any more


def readable_photographs(database: Catalogue, store: PhotographStore, recipe: Recipe) -> np.ndarray:
    """Return which photographs can be trained on, (N,) bool.

    Raises:
        InputError: one can't be read and the recipe does not skip such ones; or none of a dataset can be read.
    """
    problems = {name: problem for name, problem in zip(database.image_ids, store.problems, strict=True) if problem}
    broken = [f"{database.row_name(name)}: {problem}" for name, problem in with_causes(database, problems).items()]
    if broken and not recipe.data.skip_unreadable:
        raise InputError(
            f"{database.root / 'metadata.csv'}: {len(broken)} photographs can't be read, the first is {broken[0]}. "
            "Fix or remove the rows, or train without them: --set data.skip_unreadable=true"
        )
    for line in broken:
        log.warning(f"{line}; it is left out")
    readable = np.array([not problem for problem in store.problems])
    for dataset in database.by_dataset():
        if not readable[database.table["dataset"] == dataset].any():
            raise _none_readable(database.of(dataset), dataset)
    return readable


def refuse_unreadable(database: Catalogue) -> None:
    """Refuse a dataset without a photograph that can be read, where nothing is trained; the first one is enough."""
    for dataset, photographs in database.by_dataset().items():
        if all(map(_problem, photographs.paths, photographs.crops)):
            raise _none_readable(photographs, dataset)


def _problem(path: Path, crop: Crop | None) -> str:
    """Return why a photograph can't be read, "" where it can."""
    try:
        open_photograph(path, View(16, crop=crop))  # as `check` does: what passes here passes everywhere
        return ""
    except UnreadableError as unreadable:
        return str(unreadable)


def _none_readable(photographs: Catalogue, dataset: str) -> InputError:
    first = photographs.image_ids[0]
    cause = with_causes(photographs, {first: _problem(photographs.paths[0], photographs.crops[0])})[first]
    return InputError(
        f"{photographs.root / 'metadata.csv'}: dataset {dataset}: none of its photographs can be read; "
        f"{photographs.row_name(first)}: {cause}"
    )


def refuse_few_individuals(dataset: str, run: RunContext) -> None:
    """Refuse a dataset that an encoder can't learn from, and warn of one that has little to learn from."""
    recipe, database = run.recipe, run.database
    if not recipe.trains_encoders:
        return
    individuals, counts = np.unique(run.column("identity")[encoder_split(dataset, run).train], return_counts=True)
    if len(individuals) < 2:
        raise InputError(
            f"{database.root / 'metadata.csv'}: dataset {dataset}: an encoder needs two individuals to learn from, "
            f"found {len(individuals)} of {len(set(database.of(dataset).identities))} that can be read and are not "
            "held out. Add photographs of others, or remove the dataset's rows"
        )
    if counts.max() == 1:
        log.warning(
            f"{dataset}: every individual to learn from has one photograph; only augmented copies of it can be "
            "compared. Add photographs, or train with --set loss.classification=softmax"
        )
    if len(individuals) < recipe.batches.individuals:
        log.info(
            f"{dataset}: {len(individuals)} individuals to learn from, fewer than the P = "
            f"{recipe.batches.individuals} of a batch: every batch holds all of them"
        )
