"""Section "Data": counts, dates, orientations, and the photographs that were left out."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from reid.data.catalogue import Catalogue
from reid.data.photographs import UnreadableError, View
from reid.decision.artifact import Weights, gallery_file
from reid.report.charts import date_chart, size_chart
from reid.report.thumbnails import upright
from reid.retrieval.gallery import load_gallery

__all__ = ["data_section"]

MAX_LISTED = 50
"""Rows of the list of photographs that were left out, which could be as long as the data."""

MAX_ORIENTATIONS = 8
"""Columns that fit on a page."""


def data_section(outcomes: pd.DataFrame, catalogue: Catalogue, weights: Weights) -> dict[str, Any]:
    """Return what the section shows.

    Args:
        outcomes: a row per query, see `outcomes.classify_outcomes`.
        catalogue: the data folder.
        weights: its galleries tell which database photographs were left out.
    """
    left_out = _left_out_photographs(outcomes, catalogue, weights)
    return {
        "rows": _rows(catalogue, left_out),
        "charts": _charts(catalogue),
        "left_out": left_out[:MAX_LISTED].to_dict("records"),
        "left_out_count": len(left_out),
        "orientations": _orientations(catalogue),
    }


def _left_out_photographs(outcomes: pd.DataFrame, catalogue: Catalogue, weights: Weights) -> pd.DataFrame:
    """Return the queries that could not be read, and the database photographs that are in no gallery: columns image_id,
    dataset, split, path, problem."""
    problems = dict(outcomes.loc[outcomes["problem"] != "", ["image_id", "problem"]].itertuples(index=False))
    for dataset in weights.datasets:
        enrolled = set(load_gallery(weights.folder / gallery_file(dataset)).embeddings.image_id)
        photographs = catalogue.database.of(dataset)
        for image_id, path, crop in zip(photographs.image_ids, photographs.paths, photographs.crops, strict=True):
            if image_id not in enrolled:
                problems[image_id] = _problem(path, View(0, crop=crop))
    rows = catalogue.table.loc[
        catalogue.table["image_id"].isin(list(problems)), ["image_id", "dataset", "split", "path"]
    ]
    return rows.assign(problem=rows["image_id"].map(problems))


def _problem(path: Path, view: View) -> str:
    try:
        upright(path, 16, view)
    except UnreadableError as problem:
        return str(problem)
    return "added after enrolment"


def _rows(catalogue: Catalogue, left_out: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the counts of every dataset."""
    absent = Counter(zip(left_out["dataset"], left_out["split"], strict=True))
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


def _charts(catalogue: Catalogue) -> list[tuple[str, str]]:
    """Return title and chart: sizes of every dataset's individuals, and dates where there are any."""
    charts = []
    for name, photographs in catalogue.database.by_dataset().items():
        sizes = photographs.table["identity"].value_counts().to_numpy(int)
        charts.append((f"{name}: photographs per individual", size_chart(name, sizes)))
        days = [[day for day in split.table["day"] if day] for split in (photographs, catalogue.query.of(name))]
        if days[0] or days[1]:
            charts.append((f"{name}: dates (database upwards, queries downwards)", date_chart(name, *days)))
    return charts


def _orientations(catalogue: Catalogue) -> dict[str, Any]:
    """Count the photographs of every dataset by their commonest orientations; no rows where none is known."""
    table = catalogue.table
    common = table["orientation"].value_counts()
    names = list(common.index[:MAX_ORIENTATIONS])
    if names in ([], [""]):
        return {"rows": [], "names": [], "left_out": 0}
    counts = Counter(zip(table["dataset"], table["orientation"], table["split"], strict=True))
    rows = [
        (name or "(none)", [(counts[name, side, "database"], counts[name, side, "query"]) for side in names])
        for name in sorted(set(table["dataset"]))
    ]
    return {"rows": rows, "names": names, "left_out": max(0, len(common) - len(names))}
