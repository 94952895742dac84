"""The page's networks: the classifier's confusion, maps of the embeddings, training curves."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from reid.report.charts import (
    history_chart,
)
from reid.report.explanations import EmbeddingMap, Explanations
from reid.report.outcomes import OUTCOMES
from reid.report.thumbnails import Thumbnails

__all__ = ["confusion", "embedding_maps", "training_curves"]


def confusion(judged: pd.DataFrame, solution: pd.DataFrame | None) -> dict[str, Any] | None:
    """Return what the species classifier makes of every dataset's queries; None without one."""
    truth = judged["column"]
    if solution is not None:
        known = judged["image_id"].map(solution.set_index("image_id")["dataset"])
        truth = known.fillna(truth)
    asked = (judged["species"] != "") & (truth != "")
    if not asked.any():
        return None
    truth, species = truth[asked], judged["species"][asked]
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
        "solved": solution is not None,
    }


class Dot(NamedTuple):
    """A photograph on a map."""

    x: str
    y: str
    """Per cent from the left and from the top."""
    kind: str
    """Classes: its individual's colour, whether it is a query, whether there is a thumbnail of it."""
    words: str


def embedding_maps(
    explanations: Explanations, judged: pd.DataFrame, thumbnails: Thumbnails, numbers: Mapping[str, int]
) -> list[dict[str, Any]]:
    drawn = {image_id: number for image_id, number in numbers.items() if thumbnails.drawn[image_id].uri}
    captions = {
        str(row.image_id): f"query {row.image_id}\n{OUTCOMES[str(row.outcome)]}: {row.answer}"
        for row in judged.itertuples()
    }
    return [
        {
            "dataset": name,
            "kept": dataset_map.kept,
            "known": sum(identity != "" for identity in dataset_map.identity),
            "photographs": dataset_map.photographs,
            "asked": "" in dataset_map.identity,
            "names": _commonest(dataset_map),
            "dots": _dots(dataset_map, captions, drawn),
        }
        for name, dataset_map in explanations.maps.items()
    ]


def _commonest(dataset_map: EmbeddingMap) -> list[str]:
    """Return the six individuals with most photographs on a map, which get a colour of their own."""
    counts = Counter(identity for identity in dataset_map.identity if identity)
    return sorted(counts, key=lambda name: (-counts[name], name))[:6]


def _dots(dataset_map: EmbeddingMap, captions: Mapping[str, str], drawn: Mapping[str, int]) -> list[Dot]:
    colours = {name: f"k{number}" for number, name in enumerate(_commonest(dataset_map))}
    dots = []
    for image_id, (x, y), identity in zip(
        dataset_map.image_id, dataset_map.points.tolist(), dataset_map.identity, strict=True
    ):
        kinds = ["q" if not identity else colours.get(identity, ""), "r" if x > 0.5 else ""]
        kinds += ["p", f"t{drawn[image_id]}"] if image_id in drawn else []
        words = f"{identity}\nphoto {image_id}" if identity else captions.get(image_id, f"query {image_id}")
        dots.append(Dot(f"{100 * x:.1f}", f"{100 * (1 - y):.1f}", " ".join(kind for kind in kinds if kind), words))
    return dots


def training_curves(folder: Path) -> list[tuple[str, str, str]]:
    """Name, words and chart of every network's training, as far as its history can be read."""
    charts = []
    for number, path in enumerate(sorted(folder.rglob("*.history.csv"))):
        try:
            history = pd.read_csv(path)[["epoch", "loss", "accuracy", "score"]].astype(float)
        except (OSError, ValueError, KeyError):  # a history is for people; a damaged one costs its chart alone
            continue
        if not len(history) or not history["epoch"].notna().all():
            continue
        place = path.parent.relative_to(folder).parts
        name = " ".join([path.name.removesuffix(".history.csv"), *place])
        best = history["score"].max() if history["score"].notna().any() else history["accuracy"].max()
        words = f"{len(history)} epochs" + (f", best {best:.3f}" if best == best else "")
        charts.append((name, words, history_chart(f"{number}", history)))
    return charts
