"""Clusters as individuals: what `reid enroll --clusters` makes of a result of `discover`."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pandas as pd

from reid.config.recipe import UNKNOWN_WORDS
from reid.data.catalogue import Catalogue
from reid.data.spelling import is_unknown
from reid.decision.discovered import clusters_path
from reid.decision.labels import read_labels
from reid.errors import InputError
from reid.runtime.files import first_of

__all__ = ["with_clusters"]

log = logging.getLogger(__name__)


def with_clusters(catalogue: Catalogue, path: Path, only: Sequence[str] = ()) -> Catalogue:
    """Return a catalogue in which the photographs of clusters are database photographs.

    A cluster's photographs show the individual that the column identity names (discover writes it where the cluster was
    attached to a known individual; a person may write a name there), or that the table calls one of them; else a new
    individual whose name is the cluster's label.

    Args:
        catalogue: the data folder's rows, names resolved.
        path: NAME.clusters.csv of discover; or NAME.csv, for whose clusters NAME.clusters.csv next to it has the
            individuals. Without these a warning says that known individuals get a second name.
        only: the labels of the clusters to take; empty for all with two or more photographs.

    Returns:
        The same rows. Those of the clusters have split "database" and an identity; a column `clustered` (bool) tells
        them.

    Raises:
        InputError: as `read_labels`; a label that is not in the file; no cluster to take; a cluster of two individuals;
            a label that is the name of a known individual already; a photograph whose dataset nobody knows.
    """
    table = catalogue.table.set_index("image_id", drop=False)
    path, clusters = _with_individuals(path, read_labels(path, dict(table["dataset"])), dict(table["dataset"]))
    clusters = clusters[clusters["image_id"].isin(table.index)]
    clusters = clusters[clusters["cluster"].isin(_chosen(path, clusters["cluster"], only))]
    names = _names(path, clusters, table)
    asked = (table["split"].loc[clusters["image_id"]] == "query").to_numpy()
    own = clusters[asked].set_index("image_id")
    taken = table["image_id"].isin(own.index)
    identity = table["identity"].where(~taken, own["cluster"].map(names).reindex(table.index))
    split = table["split"].where(~taken, "database")
    table = table.assign(split=split, identity=identity, dataset=_datasets(path, own, table), clustered=taken)
    return replace(catalogue, table=table.set_index(catalogue.table.index))


def _with_individuals(path: Path, clusters: pd.DataFrame, datasets: Mapping[str, str]) -> tuple[Path, pd.DataFrame]:
    """Return a submission's clusters as NAME.clusters.csv next to it has them, with that file's path; other tables as
    they are."""
    if "identity" in clusters:
        return path, clusters
    beside = clusters_path(path)
    with suppress(InputError):  # of a file that nobody named
        told = read_labels(beside, datasets)
        labels = [dict(zip(table["image_id"], table["cluster"], strict=True)) for table in (clusters, told)]
        if "identity" in told and labels[0] == labels[1]:
            log.info("%s: the individuals of its clusters are taken from %s", path, beside.name)
            return beside, told
    log.warning(
        f"{path}: it has no column identity, and {beside.name} next to it does not name the individuals of the same "
        "clusters: those of known individuals are enrolled as new ones. Name what discover wrote as NAME.clusters.csv"
    )
    return path, clusters


def _chosen(path: Path, labels: pd.Series, only: Sequence[str]) -> list[str]:
    counts = labels.value_counts()
    if missing := [label for label in only if label not in counts]:
        raise InputError(
            f"--only {','.join(only)}: expected labels of {path}, found {first_of(missing)}, which is not in it; it "
            f"has {first_of(sorted(counts.index.astype(str)))}"
        )
    chosen = list(only) or [str(label) for label in counts.index[counts > 1]]
    if not chosen:
        raise InputError(
            f"{path}: expected a cluster with two or more photographs to enrol, found none; name those of one "
            "photograph with --only"
        )
    return chosen


def _names(path: Path, clusters: pd.DataFrame, table: pd.DataFrame) -> dict[str, str]:
    """Return the individual of each cluster, by its label."""
    known = set(zip(table["dataset"], table["identity"], strict=True))
    of_table = table["identity"].loc[clusters["image_id"]].to_list()
    cells = clusters["identity"].to_list() if "identity" in clusters else [""] * len(clusters)
    rows = clusters.assign(
        name=[cell.strip() or name for cell, name in zip(cells, of_table, strict=True)], table=of_table
    )
    names = {}
    for label, some in rows.groupby("cluster"):
        found = sorted({*some["name"], *some["table"]} - {""})
        where = f"{path}: rows {first_of([str(place + 2) for place in some.index.to_numpy(int)])}"
        if len(found) > 1:
            raise InputError(
                f"{where}: expected one individual for {label}, found {' and '.join(map(repr, found))}, by the column "
                "identity here or in metadata.csv; correct it, or leave this cluster out with --only"
            )
        if found and is_unknown(found[0], UNKNOWN_WORDS):
            raise InputError(
                f"{where}, column identity: expected an individual's name for {label}, found {found[0][:99]!r}; empty "
                "the cells, then the individual is called as its cluster"
            )
        dataset = table["dataset"][some["image_id"].iloc[0]]
        if not found and (dataset, label) in known:
            raise InputError(
                f"{where}: {label} is an individual of metadata.csv already, which may be another animal; run discover "
                "with --previous, which keeps names apart, or write that name into the column identity if it is the "
                "same"
            )
        names[str(label)] = found[0] if found else str(label)
    return names


def _datasets(path: Path, clusters: pd.DataFrame, table: pd.DataFrame) -> pd.Series:
    """Return each row's dataset: the table's, or, where that is empty, the clusters'; both by image_id."""
    unknown = (table["dataset"] == "") & table["image_id"].isin(clusters.index)
    if not unknown.any():
        return table["dataset"]
    if "dataset" not in clusters:
        raise InputError(
            f"{path}: expected the column dataset, for metadata.csv has none for {unknown.idxmax()}; name the file "
            "NAME.clusters.csv of discover, or fill in metadata.csv"
        )
    return table["dataset"].where(~unknown, clusters["dataset"].reindex(table.index))
