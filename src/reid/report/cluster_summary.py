"""The page about discovered individuals: per dataset the cut, what is expected of it, and how large the clusters are.

It needs no script and no network, and shows no photographs.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from reid.decision.discovered import CLUSTER_FLAGS, Clusters
from reid.report.page import render
from reid.runtime.files import atomic_path

__all__ = ["write_cluster_summary"]


def write_cluster_summary(path: Path, clusters: Clusters) -> None:
    """Write the page; the same clusters give the same bytes.

    Args:
        path: its file, such as report.html.
        clusters: what `discover` returned.
    """
    datasets = [
        _section(str(name), rows, clusters) for name, rows in clusters.photographs.groupby("dataset", sort=True)
    ]
    content = {"photographs": len(clusters), "datasets": datasets, "meanings": CLUSTER_FLAGS}
    with atomic_path(path) as temporary:
        temporary.write_text(render(content, "cluster_summary.html.j2"), "utf-8")


def _section(name: str, rows: pd.DataFrame, clusters: Clusters) -> dict[str, Any]:
    """Return what the page says of one dataset."""
    sizes = rows["cluster"].value_counts()
    return {
        "name": name,
        "photographs": len(rows),
        "clusters": len(sizes),
        "named": rows["cluster"][rows["identity"] != ""].nunique(),
        "largest": list(sizes.sort_index().sort_values(ascending=False, kind="stable").head(5).items()),
        "sizes": sorted(Counter(sizes.tolist()).items()),
        "flags": dict(_flags(rows)),
        "cut": clusters.cuts[name],
    }


def _flags(rows: pd.DataFrame) -> Iterator[tuple[str, int]]:
    """Yield the flags that are there, with the number of photographs that have them."""
    counts = Counter(word for flags in rows["flags"] for word in flags.split())
    yield from ((word, counts[word]) for word in CLUSTER_FLAGS if counts[word])
