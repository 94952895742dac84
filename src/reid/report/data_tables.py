"""The page's data: counts, dates, orientations, and photographs that were left out."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from reid.data.catalogue import Catalogue
from reid.data.photographs import UnreadableError
from reid.decision.artifact import Weights, gallery_file
from reid.report.charts import (
    date_chart,
    size_chart,
)
from reid.report.thumbnails import upright
from reid.retrieval.gallery import load_gallery

__all__ = ["data_charts", "data_rows", "left_out_photographs", "orientations"]


class LeftOut(NamedTuple):
    """A photograph that had no say."""

    image_id: str
    dataset: str
    split: str
    path: str
    problem: str


def left_out_photographs(catalogue: Catalogue, judged: pd.DataFrame, weights: Weights) -> list[LeftOut]:
    """Queries that could not be read, and database photographs that are in no gallery."""
    problems = dict(judged.loc[judged["problem"] != "", ["image_id", "problem"]].itertuples(index=False))
    for dataset in weights.datasets:
        enrolled = set(load_gallery(weights.folder / gallery_file(dataset)).embeddings.image_id)
        photographs = catalogue.database.of(dataset)
        for image_id, path in zip(photographs.image_ids, photographs.paths, strict=True):
            if image_id not in enrolled:
                problems[image_id] = _problem(path)
    rows = catalogue.table[catalogue.table["image_id"].isin(list(problems))]
    cells = rows[["image_id", "dataset", "split", "path"]].to_numpy(str).tolist()
    return [LeftOut(image_id, dataset, split, path, problems[image_id]) for image_id, dataset, split, path in cells]


def _problem(path: Path) -> str:
    try:
        upright(path, 16)
    except UnreadableError as problem:
        return str(problem)
    return "it came after enrolment"


def data_rows(catalogue: Catalogue, judged: pd.DataFrame, left_out: Sequence[LeftOut]) -> list[dict[str, Any]]:
    absent = Counter((photograph.dataset, photograph.split) for photograph in left_out)
    rows = []
    for name in sorted(set(catalogue.table["dataset"])):
        photographs, queries = catalogue.database.of(name), catalogue.query.of(name)
        sizes = photographs.table["identity"].value_counts().to_numpy(int)
        rows.append(
            {
                "dataset": name or "(none)",
                "images": len(photographs),
                "individuals": len(sizes),
                "singletons": int((sizes == 1).sum()),
                "median": float(np.median(sizes)) if len(sizes) else 0.0,
                "largest": int(sizes.max()) if len(sizes) else 0,
                "dated": _dated(photographs),
                "not_enrolled": absent[name, "database"],
                "queries": len(queries),
                "queries_dated": _dated(queries),
                "unreadable": absent[name, "query"],
            }
        )
    return rows


def _dated(photographs: Catalogue) -> float | None:
    """Return the share of the photographs that have a date; None where there are none."""
    return float((photographs.table["day"] != "").mean()) if len(photographs) else None


def data_charts(catalogue: Catalogue) -> list[tuple[str, str]]:
    """Words and chart."""
    charts = []
    for name, photographs in catalogue.database.by_dataset().items():
        sizes = photographs.table["identity"].value_counts().to_numpy(int)
        charts.append((f"{name}: individuals by their photographs", size_chart(name, sizes)))
        days = [[day for day in split.table["day"] if day] for split in (photographs, catalogue.query.of(name))]
        if days[0] or days[1]:
            charts.append((f"{name}: dates, those of queries downwards", date_chart(name, *days)))
    return charts


def orientations(catalogue: Catalogue) -> dict[str, Any]:
    """Photographs of every dataset by their orientation, the commonest eight; no rows where nobody says any."""
    table = catalogue.table
    common = table["orientation"].value_counts()
    names = list(common.index[:8])
    if names in ([], [""]):
        return {"rows": [], "names": [], "left_out": 0}
    counts = Counter(zip(table["dataset"], table["orientation"], table["split"], strict=True))
    rows = [
        (name or "(none)", [(counts[name, side, "database"], counts[name, side, "query"]) for side in names])
        for name in sorted(set(table["dataset"]))
    ]
    return {"rows": rows, "names": names, "left_out": max(0, len(common) - len(names))}
