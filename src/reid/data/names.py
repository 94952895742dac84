"""Names that mean one thing and are written in several ways, and words that name nobody.

What is joined and what is left out are settings of the recipe (`data.join_names`, `data.unknown_words`), so that
training, enrolment and prediction do the same.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import pandas as pd

from reid.config.recipe import DataConfig, Recipe
from reid.data.catalogue import Catalogue
from reid.data.spelling import find_near_misses, is_unknown, name_key, spelled
from reid.runtime.files import first_of

__all__ = ["describe_names", "resolve_names", "with_names", "without_unknown"]

log = logging.getLogger(__name__)


def resolve_names(catalogue: Catalogue, recipe: Recipe, datasets: Sequence[str] = ()) -> Catalogue:
    """Return the catalogue as its recipe reads names, see `with_names`; what that does, and what it leaves as it is, is
    logged."""
    for sentence in [*describe_names(catalogue, recipe.data), *_absent_datasets(catalogue, recipe, datasets)]:
        log.warning("%s: %s", catalogue.root / "metadata.csv", sentence)
    return with_names(catalogue, recipe.data, datasets)


def with_names(catalogue: Catalogue, config: DataConfig, datasets: Iterable[str] = ()) -> Catalogue:
    """Return the catalogue with the names that a recipe makes of a table's.

    Database rows of an identity in `unknown_words` are left out. With `join_names`, names that differ only in
    what `name_key` leaves out get the commonest spelling: datasets over the whole table, identities within their
    dataset.

    Args:
        catalogue: as it was read.
        config: `join_names` and `unknown_words`.
        datasets: those of a weights folder, whose spelling counts more than the table's.
    """
    table = without_unknown(catalogue, config).table
    if config.join_names:
        known = {name_key(dataset): dataset for dataset in datasets}
        joined = table["dataset"].replace(_commonest(table["dataset"]))
        table = table.assign(dataset=joined.map(lambda name: known.get(name_key(name), name)))
        identities = [rows["identity"].replace(_commonest(rows["identity"])) for _, rows in table.groupby("dataset")]
        table = table.assign(identity=pd.concat(identities)) if identities else table
    return replace(catalogue, table=table)


def _absent_datasets(catalogue: Catalogue, recipe: Recipe, datasets: Iterable[str]) -> Iterator[str]:
    """Yield the datasets that a setting names and that are neither in the table nor in the weights."""
    there = {*catalogue.by_dataset(), *datasets}
    for setting, named in (("data.upright", recipe.data.upright), ("prediction.mirrored", recipe.prediction.mirrored)):
        if absent := [name for name in named if name not in there]:
            yield (
                f"--set {setting}={','.join(named)}: there is no dataset {', '.join(map(spelled, absent))} here, only "
                f"{first_of(sorted(there))}; for the others it holds"
            )


def without_unknown(catalogue: Catalogue, config: DataConfig) -> Catalogue:
    """Return the photographs without those whose identity is a word for nobody."""
    return replace(catalogue, table=catalogue.table[~_unknown_rows(catalogue, config)])


def _unknown_rows(catalogue: Catalogue, config: DataConfig) -> pd.Series:
    """Return whether each row's identity is a word for nobody, (N,) bool."""
    identities = catalogue.table["identity"]
    unknown = [name for name in set(identities) - {""} if is_unknown(name, config.unknown_words)]
    return identities.isin(unknown)


def _commonest(names: pd.Series) -> dict[str, str]:
    """{"MIRA": "Mira"} for a name that is written in two ways"""
    groups = [list(spellings) for spellings in find_near_misses(names)]
    return {other: spellings[0] for spellings in groups for other in spellings[1:]}


def describe_names(catalogue: Catalogue, config: DataConfig) -> list[str]:
    """Return what `resolve_names` does with a table's names, and what it leaves as it is, in a sentence for each kind;
    none where there is nothing to tell."""
    rows = _unknown_rows(catalogue, config)
    identities = catalogue.table["identity"][rows]
    sentences = []
    if len(identities):
        counts = {word: int((identities == word).sum()) for word in identities.unique()}
        sentences.append(
            f"column identity: words for nobody, whose rows are left out: {_counted(counts)}. Nobody is named so; "
            "train with --set data.unknown_words= to take them for names of animals"
        )
    return [*sentences, *_describe_near_misses(without_unknown(catalogue, config), config)]


def _describe_near_misses(catalogue: Catalogue, config: DataConfig) -> Iterator[str]:
    does = (
        "are joined as the first of them"
        if config.join_names
        else "stay different (train with --set data.join_names=true to join them)"
    )
    columns = [("column dataset", catalogue.table["dataset"])]
    columns += [(f"{name}, column identity", rows.table["identity"]) for name, rows in catalogue.by_dataset().items()]
    for place, names in columns:
        if groups := find_near_misses(names):
            alike = first_of([_counted(spellings) for spellings in groups], "; ")
            yield f"{place}: names that differ only in how they are written {does}: {alike}"


def _counted(spellings: dict[str, int]) -> str:
    """'Mira' (12 rows), 'MIRA' (1 row)"""
    return ", ".join(f"{spelled(name)} ({count} row{'' if count == 1 else 's'})" for name, count in spellings.items())
