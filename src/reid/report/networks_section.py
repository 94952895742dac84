"""Section "Networks": the species classifier's confusion, maps of the embeddings, training curves."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from reid.decision.artifact import RUN_FOLDER, Weights
from reid.report.charts import history_chart
from reid.report.explanations import EmbeddingMap, Explanations
from reid.report.outcomes import OUTCOMES
from reid.report.thumbnails import Thumbnails

__all__ = ["networks_section"]

MAP_COLOURS = 6
"""Individuals with a colour of their own on a map, as many as the page has colours for."""


def networks_section(
    outcomes: pd.DataFrame,
    solution: pd.DataFrame | None,
    explanations: Explanations,
    thumbnails: Thumbnails,
    weights: Weights,
) -> dict[str, Any]:
    """Return what the section shows.

    Args:
        outcomes: a row per query, see `outcomes.classify_outcomes`.
        solution: the true answers; None where they are not known.
        explanations: holds the maps.
        thumbnails: those that the page shows already; a dot of a map can show one of them.
        weights: the weights folder.
    """
    return {
        "uses_encoder": weights.recipe.uses_encoder,
        "confusion": _confusion(outcomes, solution),
        "maps": _maps(explanations, outcomes, thumbnails),
        "histories": _training_curves(weights.folder / RUN_FOLDER),
    }


def _confusion(outcomes: pd.DataFrame, solution: pd.DataFrame | None) -> dict[str, Any] | None:
    """Count the queries by their true dataset and the classifier's; None without a classifier."""
    truth = outcomes["column"]
    if solution is not None:
        known = outcomes["image_id"].map(solution.set_index("image_id")["dataset"])
        truth = known.fillna(truth)
    classified = (outcomes["species"] != "") & (truth != "")
    if not classified.any():
        return None
    truth, species = truth[classified], outcomes["species"][classified]
    names = sorted({*truth, *species})
    counts = pd.crosstab(truth, species).reindex(index=names, columns=names, fill_value=0).to_numpy(int)
    shares = counts / np.maximum(1, counts.sum(1, keepdims=True))
    return {
        "names": names,
        "rows": [
            (name, list(zip(row.tolist(), share.tolist(), strict=True)))
            for name, row, share in zip(names, counts, shares, strict=True)
        ],
        "count": int(counts.sum()),
        "agreed": int(np.trace(counts)),
        "from_solution": solution is not None,
    }


class Dot(NamedTuple):
    """A photograph on a map."""

    x: str
    y: str
    """Per cent from the left and from the top."""
    classes: str
    """CSS classes: its individual's colour, whether it is a query, its thumbnail."""
    words: str


def _maps(explanations: Explanations, outcomes: pd.DataFrame, thumbnails: Thumbnails) -> list[dict[str, Any]]:
    captions = {
        str(row.image_id): f"query {row.image_id}\n{OUTCOMES[str(row.outcome)]}: {row.answer}"
        for row in outcomes.itertuples()
    }
    return [
        {
            "dataset": name,
            "kept": dataset_map.kept,
            "known": sum(identity != "" for identity in dataset_map.identity),
            "photographs": dataset_map.photographs,
            "has_queries": "" in dataset_map.identity,
            "names": _most_photographed(dataset_map),
            "dots": _dots(dataset_map, captions, thumbnails),
        }
        for name, dataset_map in explanations.maps.items()
    ]


def _most_photographed(dataset_map: EmbeddingMap) -> list[str]:
    counts = Counter(identity for identity in dataset_map.identity if identity)
    return sorted(counts, key=lambda name: (-counts[name], name))[:MAP_COLOURS]


def _dots(dataset_map: EmbeddingMap, captions: Mapping[str, str], thumbnails: Thumbnails) -> list[Dot]:
    colours = {name: f"k{number}" for number, name in enumerate(_most_photographed(dataset_map))}
    photographs = zip(dataset_map.image_id, dataset_map.points.tolist(), dataset_map.identity, strict=True)
    dots = []
    for image_id, (x, y), identity in photographs:
        thumbnail = thumbnails.drawn.get(image_id)
        classes = ["q" if not identity else colours.get(identity, ""), "r" if x > 0.5 else ""]
        classes += ["p", f"t{thumbnail.number}"] if thumbnail and thumbnail.uri else []
        words = f"{identity}\nphoto {image_id}" if identity else captions.get(image_id, f"query {image_id}")
        dots.append(Dot(f"{100 * x:.1f}", f"{100 * (1 - y):.1f}", " ".join(filter(None, classes)), words))
    return dots


def _training_curves(folder: Path) -> list[tuple[str, str, str]]:
    """Return name, words and chart of every network's training whose history can be read."""
    charts = []
    for number, path in enumerate(sorted(folder.rglob("*.history.csv"))):
        try:
            history = pd.read_csv(path).rename(columns={"score": "open_set_score"})  # its name in 0.1.0
            history = history[["epoch", "loss", "accuracy", "open_set_score"]].astype(float)
        except (OSError, ValueError, KeyError):  # a damaged history costs its own chart alone
            continue
        if not len(history) or not history["epoch"].notna().all():
            continue
        name = " ".join([path.name.removesuffix(".history.csv"), *path.parent.relative_to(folder).parts])
        best = history["open_set_score" if history["open_set_score"].notna().any() else "accuracy"].max()
        words = f"{len(history)} epochs" + (f", best {best:.3f}" if best == best else "")
        charts.append((name, words, history_chart(f"{number}", history)))
    return charts
