"""The labels of clusters, such as cluster_LynxID2025_7: read from a file, and kept when photographs are added."""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from reid.decision.clusters import CLUSTER_COLUMNS
from reid.errors import InputError
from reid.runtime.files import group_rows, read_table

__all__ = ["keep_labels", "read_labels"]

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
