"""The labels of clusters, such as cluster_LynxID2025_7: read from a file, kept when photographs are added, and enrolled
as individuals."""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from reid.config.recipe import UNKNOWN_WORDS
from reid.data.catalogue import Catalogue
from reid.data.spelling import is_unknown
from reid.decision.clusters import CLUSTER_COLUMNS
from reid.decision.discovered import clusters_path
from reid.errors import InputError
from reid.runtime.files import first_of, group_rows, read_table

__all__ = ["keep_labels", "read_labels", "with_clusters"]

log = logging.getLogger(__name__)


def read_labels(path: Path, datasets: Mapping[str, str]) -> pd.DataFrame:
    """Return an earlier result of `discover`, NAME.csv or NAME.clusters.csv, as text cells, one row per photograph.

    Photographs that are not in the table any more are kept, so that their labels stay taken; how many is logged.

    Args:
        path: the file, columns image_id and cluster.
        datasets: of every photograph of the table, by image_id; "" where it is not known.

    Raises:
        InputError: no such file, or no such CSV; a photograph twice; a label of another dataset than its photograph's;
            not one photograph of the table in it.
    """
    table = read_table(path, CLUSTER_COLUMNS)
    faults = group_rows((int(place) + 2, fault) for place, fault in _faults(table, datasets))
    if faults:
        others = f" ({len(faults) - 1} more)" if len(faults) > 1 else ""
        raise InputError(f"{path}: {': '.join(faults[0])}{others}")
    unknown = table.index[~table["image_id"].isin(list(datasets))]
    if len(unknown) == len(table):
        found = f"{table['image_id'].iloc[0][:99]!r} and {len(table) - 1} others" if len(table) else "no row"
        raise InputError(
            f"{path}: expected photographs of metadata.csv, found none of them in it, but {found}; name a result for "
            "the same data folder"
        )
    if len(unknown):
        log.warning(
            f"{path}: {len(unknown)} of {len(table)} photographs are not in metadata.csv (row {unknown[0] + 2}: "
            f"image_id {table['image_id'][unknown[0]][:99]}); the others are used"
        )
    return table


def _faults(table: pd.DataFrame, datasets: Mapping[str, str]) -> Iterator[tuple[int, str]]:
    again = table["image_id"].duplicated()
    for place, image_id, label, doubled in zip(table.index, table["image_id"], table["cluster"], again, strict=True):
        dataset = datasets.get(image_id, "")
        if doubled:
            yield place, "column image_id: expected every photograph once, it came before; remove one of the rows"
        elif image_id in datasets and not re.match(rf"cluster_{re.escape(dataset) or '.+'}_.", label):
            yield (
                place,
                f"column cluster: expected a label of the photograph's dataset, cluster_{dataset or 'DATASET'}_NAME; "
                f"found {label[:99]!r}. Name a result for the same table, or run discover again",
            )


def keep_labels(
    previous: pd.DataFrame | None, image_ids: Sequence[str], labels: Sequence[int], datasets: Sequence[str]
) -> list[str]:
    """Return the clusters' names, those of an earlier result wherever they can be kept.

    Per dataset, clusters and earlier clusters are paired off so that as many photographs as possible keep their label
    (a linear assignment; among equals the photographs' ids decide, not their order). The other clusters get numbers
    above all earlier ones of the dataset, in the order of their first photographs, so that a name that was given once
    never means another animal.

    Args:
        previous: the earlier result, see `read_labels`; None for none, which numbers from 1.
        image_ids: (N,) the photographs.
        labels: (N,) each one's cluster, numbers within its dataset.
        datasets: (N,) each one's.

    Returns:
        (N,) such as "cluster_LynxID2025_7".
    """
    if previous is None:
        previous = pd.DataFrame(columns=list(CLUSTER_COLUMNS), dtype=str)
    earlier = dict(zip(previous["image_id"], previous["cluster"], strict=True))
    table = pd.DataFrame({"image_id": list(image_ids), "label": np.asarray(labels), "dataset": list(datasets)})
    table["earlier"] = [earlier.get(image_id, "") for image_id in table["image_id"]]
    names = pd.Series("", index=table.index, dtype=object)
    for dataset, rows in table.groupby("dataset"):
        kept = _kept(rows[rows["earlier"] != ""])
        fresh = count(_highest(previous["cluster"], str(dataset)) + 1)
        new = {label: f"cluster_{dataset}_{next(fresh)}" for label in rows["label"].unique() if label not in kept}
        names[rows.index] = rows["label"].map({**kept, **new})
    return names.to_list()


def _highest(labels: pd.Series, dataset: str) -> int:
    numbers = labels.str.extract(rf"^cluster_{re.escape(dataset)}_(\d+)$", expand=False).dropna()
    return max(map(int, numbers), default=0)


def _kept(rows: pd.DataFrame) -> dict[int, str]:
    """Return the earlier name of those clusters of a dataset that keep one.

    Clusters that share photographs with the same earlier clusters, directly or over others, are assigned together:
    a matrix of all would hold thousands x thousands of zeros.
    """
    if rows.empty:
        return {}
    rows = rows.sort_values("image_id")
    (new, news), (old, olds) = (pd.factorize(rows[column]) for column in ("label", "earlier"))
    size = len(news) + len(olds)
    graph = coo_array((np.ones(len(rows)), (new, old + len(news))), (size, size))
    together = connected_components(graph, directed=False)[1]
    kept = {}
    for _, places in rows.reset_index().groupby(together[new]).groups.items():
        own_news, i = np.unique(new[places], return_inverse=True)
        own_olds, j = np.unique(old[places], return_inverse=True)
        shared = np.zeros((len(own_news), len(own_olds)), np.int64)
        np.add.at(shared, (i, j), 1)
        for one, other in zip(*linear_sum_assignment(shared, maximize=True), strict=True):
            if shared[one, other]:
                kept[news[own_news[one]]] = olds[own_olds[other]]
    return kept


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
    clusters = _with_individuals(path, read_labels(path, dict(table["dataset"])), dict(table["dataset"]))
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


def _with_individuals(path: Path, clusters: pd.DataFrame, datasets: Mapping[str, str]) -> pd.DataFrame:
    """Return a submission's clusters as NAME.clusters.csv next to it has them; other tables as they are."""
    if "identity" in clusters:
        return clusters
    beside = clusters_path(path)
    with suppress(InputError):  # of a file that nobody named
        told = read_labels(beside, datasets)
        labels = [dict(zip(table["image_id"], table["cluster"], strict=True)) for table in (clusters, told)]
        if "identity" in told and labels[0] == labels[1]:
            log.info("%s: the individuals of its clusters are taken from %s", path, beside.name)
            return told
    log.warning(
        f"{path}: it has no column identity, and {beside.name} next to it does not name the individuals of the same "
        "clusters: those of known individuals are enrolled as new ones. Name what discover wrote as NAME.clusters.csv"
    )
    return clusters


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
