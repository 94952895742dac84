"""A tiny world made by hand: two datasets, seven queries whose outcomes are known; and a reader of its report."""

import re
from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image

from reid.config.presets import PRESETS
from reid.data.catalogue import Catalogue, read_catalogue
from reid.decision.artifact import CALIBRATION, Weights, gallery_file
from reid.decision.calibration import Calibration, Curve
from reid.decision.decide import decide
from reid.decision.matches import Matches
from reid.decision.scorers import Scorer
from reid.decision.thresholds import Threshold
from reid.report.explanations import Candidate, Explanations
from reid.report.outcomes import classify_outcomes
from reid.retrieval.gallery import Gallery, GalleryFeatures, save_gallery
from reid.retrieval.local_matching import VerifiedMatch
from reid.runtime.files import write_json

HOSTILE = "<script>alert(1)</script>"

QUERIES = [  # image_id, dataset, best candidate, dissimilarity, truth, truth is new, outcome at a threshold of 1
    ("q0", "Lynx", "a", 0.9, "a", False, "right"),
    ("q1", "Lynx", "b", 0.8, "a", False, "wrong"),
    ("q2", "Lynx", "b", 0.2, "a", False, "wrong"),
    ("q3", "Lynx", "a", 0.5, "z", True, "named"),
    ("q4", "Lynx", "a", 1.5, "a", False, "missed"),
    ("q5", "Lynx", "a", 1.1, "y", True, "right"),
    ("q6", "Newt", HOSTILE, 0.3, HOSTILE, False, "right"),
]

PHOTOGRAPHS = {"a": "1", "b": "2", HOSTILE: "3"}

World = tuple[Catalogue, Weights, Matches, pd.DataFrame]


def make_world(tmp_path: Path) -> World:
    """A data folder with its weights, its answers and their solution."""
    rows = [(PHOTOGRAPHS["a"], "a", "Lynx"), (PHOTOGRAPHS["b"], "b", "Lynx"), (PHOTOGRAPHS[HOSTILE], HOSTILE, "Newt")]
    table = [(image_id, identity, "database", dataset) for image_id, identity, dataset in rows]
    table += [(query[0], "", "query", query[1]) for query in QUERIES]
    metadata = pd.DataFrame(table, columns=["image_id", "identity", "split", "dataset"])
    metadata = metadata.assign(path=metadata["image_id"] + ".jpg", date="", orientation="", species="")
    data, folder = tmp_path / "data", tmp_path / "weights"
    data.mkdir(parents=True)
    folder.mkdir()
    metadata.to_csv(data / "metadata.csv", index=False)
    rng = np.random.default_rng(0)
    for path in metadata["path"]:
        pixels = rng.integers(0, 256, size=(30, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(data / path)
    catalogue = read_catalogue(data)
    thresholds = {
        "Lynx": Threshold("Lynx", 1.0, 0.625, (0.575, 0.675), 0.5, 0.78, 0.4, (0.9, 1.1), 5, 5),
        "Newt": Threshold("Newt", 1.0, None, None, None, None, None, (1.0, 1.0), 0, 0, "too few newts"),
    }
    nothing = Curve([], [], [], [], [])
    curve = Curve([0.5, 1.0, 1.5], [0.2, 0.5, 0.6], [1.0, 0.78, 0.1], [0.45, 0.625, 0.24], [0.9, 0.4, 0.1])
    distance = Scorer("distance", {})
    calibrations = {
        "Lynx": Calibration(thresholds["Lynx"], distance, 1.0, {"distance": 0.625, "mean": 0.5}, curve, [0.4], [1.2]),
        "Newt": Calibration(thresholds["Newt"], distance, 1.0, {}, nothing, [], []),
    }
    write_json(folder / CALIBRATION, {name: asdict(one) for name, one in calibrations.items()})
    for name, part in catalogue.database.by_dataset().items():
        embeddings = GalleryFeatures(tuple(part.image_ids), torch.zeros(len(part), 2))
        save_gallery(folder / gallery_file(name), Gallery(embeddings, tuple(part.identities)))
    manifest = {
        "reid": "0",
        "torch": "1",
        "timm": "2",
        "data": catalogue.database.fingerprint,
        "limit": None,
        "precision": "auto",
        "files": {"f": "abc123"},
    }
    weights = Weights(folder, PRESETS["toy"], ("Lynx", "Newt"), manifest)
    queries = pd.DataFrame(
        [(image_id, dataset, dataset, dataset, "") for image_id, dataset, *_ in QUERIES],
        columns=["image_id", "column", "species", "dataset", "problem"],
    )
    candidates = pd.DataFrame(
        [(image_id, 1, identity, PHOTOGRAPHS[identity], distance) for image_id, _, identity, distance, *_ in QUERIES],
        columns=["image_id", "rank", "candidate", "candidate_image_id", "dissimilarity"],
    )
    solution = pd.DataFrame(
        [(query[0], query[4], query[5], query[1], "Private") for query in QUERIES],
        columns=["image_id", "identity", "new_identity", "dataset", "Usage"],
    )
    return catalogue, weights, replace(decide(queries, candidates, calibrations, "column"), shifts={}), solution


def explain(matches: Matches, solution: pd.DataFrame | None) -> Explanations:
    """Each query's best candidate, and the right one as if it were in no shortlist; two keypoints match."""
    shared = VerifiedMatch(np.full((2, 2, 2), 0.25, np.float32), np.array([True, False]))
    square = ((1.0, 1.0), (1.0, 1.0))
    candidates = {}
    rows: list[Any] = list(classify_outcomes(matches.wide, solution).itertuples())
    for row in rows:
        if row.problem or not row.photograph:
            continue
        own = [Candidate(row.identity, row.photograph, False, 1, row.dissimilarity, square, shared)]
        if row.truth in PHOTOGRAPHS and row.truth != row.identity:
            own.append(Candidate(row.truth, PHOTOGRAPHS[row.truth], False, 0, np.inf, square, shared))
        candidates[str(row.image_id)] = tuple(own)
    return Explanations(candidates)


class Page(HTMLParser):
    """A page: its tags with their attributes, the open tags at its end, the text of each match."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.cards: list[str] = []
        self.folder = path.parent
        self.text = path.read_text("utf-8")
        self.feed(self.text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "input", "img", "br"):
            self.open.append(tag)
        if tag == "article":
            self.cards.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "article" in self.open:
            self.cards[-1] += data

    def shown(self) -> list[str]:
        """The queries' image_ids, in the page's order."""
        return [re.findall(r"photo (\w+)", card)[0] for card in self.cards]
