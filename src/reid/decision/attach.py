"""Attach clusters to known individuals: a cluster is somebody known where its photographs together say so.

The photographs of a cluster vote: an individual's dissimilarity to the cluster is the mean over its photographs. The
best individual's must be below the dataset's threshold, and so much smaller than the runner-up's (`MARGIN`) that the
two are not confused. Attaching names clusters and never changes them.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

__all__ = ["MARGIN", "Attachment", "attach", "votes_of_clusters"]

MARGIN = 0.9
"""The best individual's dissimilarity is at most this share of the runner-up's (benchmarks/README.md)."""


class Attachment(NamedTuple):
    """Who a cluster is."""

    identity: str
    """The known individual; "" where it is nobody known."""
    probability: float
    """The chance of that answer; NaN where the scorer gives none."""


def votes_of_clusters(candidates: pd.DataFrame, clusters: pd.Series) -> pd.DataFrame:
    """Return how dissimilar each cluster is to the individuals that its photographs have as candidates.

    Args:
        candidates: image_id, candidate, dissimilarity; an individual that is no candidate of a photograph counts as
            its worst one.
        clusters: the cluster of each photograph, by image_id.

    Returns:
        Columns cluster, candidate, dissimilarity, ascending by these but candidate.
    """
    rows = candidates.assign(cluster=candidates["image_id"].map(clusters)).dropna(subset=["cluster"])
    rows = rows.assign(worst=rows.groupby("image_id")["dissimilarity"].transform("max"))
    every = rows.drop_duplicates("image_id").groupby("cluster")["worst"].agg(["sum", "size"])
    votes = rows.groupby(["cluster", "candidate"], as_index=False)[["dissimilarity", "worst"]].sum()
    absent = votes["cluster"].map(every["sum"]) - votes["worst"]
    votes["dissimilarity"] = (votes["dissimilarity"] + absent) / votes["cluster"].map(every["size"])
    return votes.drop(columns="worst").sort_values(["cluster", "dissimilarity", "candidate"], ignore_index=True)


def attach(
    candidates: pd.DataFrame,
    clusters: pd.Series,
    threshold: float,
    is_probability: bool,
    margin: float = MARGIN,
    photographs: Mapping[str, str] | None = None,
) -> dict[str, Attachment]:
    """Return who each cluster is.

    Args:
        candidates, clusters: see `votes_of_clusters`.
        threshold: the dataset's, see `Threshold.value`.
        is_probability: whether 1 - dissimilarity is a calibrated probability.
        margin: see `MARGIN`.
        photographs: by image_id, which photograph a row is about, where some share one: of two clusters that are seen
            on one photograph, the more similar one is the individual, and the other is not; None where none do.
    """
    votes = votes_of_clusters(candidates, clusters)
    shown = [(photographs or {}).get(image_id, image_id) for image_id in clusters.index]
    on = pd.Series(shown, clusters.index, object).groupby(clusters).agg(set)
    attached: dict[str, Attachment] = {}
    taken: dict[str, set[str]] = {}
    for cluster, rows in sorted(votes.groupby("cluster"), key=lambda each: each[1]["dissimilarity"].iloc[0]):
        best, *others = rows["dissimilarity"].head(2).tolist()
        name, seen = str(rows["candidate"].iloc[0]), on[cluster]
        named = best < threshold and (not others or (best < others[0] and best <= margin * others[0]))
        named = named and not seen & taken.get(name, set())
        if named:
            taken.setdefault(name, set()).update(seen)
        chance = float(np.clip(1 - best if named else best, 0, 1)) if is_probability else float("nan")
        attached[str(cluster)] = Attachment(name if named else "", chance)
    return attached
