"""Discovered individuals made by hand: two datasets, eight photographs whose decisions are known."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from reid.data.catalogue import Catalogue, read_catalogue
from reid.decision.discovered import CLUSTERS_COLUMNS, Clusters, Cut

HOSTILE = "<script>alert(1)</script>"

PHOTOGRAPHS = [  # image_id, dataset, cluster, known individual, probability, flags, truth
    ("p0", "Lynx", "0", HOSTILE, 0.9, "", "a"),
    ("p1", "Lynx", "0", HOSTILE, 0.8, "", "a"),
    ("p2", "Lynx", "0", HOSTILE, 0.6, "one_side", "b"),
    ("p3", "Lynx", "1", "", 0.7, "", "b"),
    ("p4", "Lynx", "1", "", 0.7, "", "b"),
    ("p5", "Lynx", "2", "", np.nan, "alone", "c"),
    ("n0", "Newt", "0", "", 0.95, "borrowed", HOSTILE),
    ("n1", "Newt", "0", "", 0.95, "borrowed", HOSTILE),
]

PAIRS = [  # two photographs and their dissimilarity; the others were not compared
    ("p0", "p1", 0.1),
    ("p2", "p0", 0.5),
    ("p1", "p2", 0.46),
    ("p3", "p4", 0.3),
    ("p2", "p3", 0.2),
    ("p5", "p3", 0.22),
    ("n0", "n1", 0.05),
]

CUTS = {
    "Lynx": Cut("Lynx", 0.5, (0.47, 0.55), 0.625, (0.575, 0.675), 1.5, 1.4, 0.25, 5, 40, "logistic"),
    "Newt": Cut(
        "Newt", 0.4, (0.4, 0.4), None, None, 0.5, 2.0, None, 0, 0, "logistic", ("Lynx",), (f"borrowed {HOSTILE}",)
    ),
}


class ClusterWorld(NamedTuple):
    """A data folder, what was discovered in it, and the true answers."""

    catalogue: Catalogue
    clusters: Clusters
    solution: pd.DataFrame


def make_cluster_world(folder: Path) -> ClusterWorld:
    folder.mkdir(parents=True, exist_ok=True)
    ids, datasets, *_ = zip(*PHOTOGRAPHS, strict=True)
    metadata = pd.DataFrame({"image_id": ids, "identity": "", "split": "query", "dataset": datasets})
    metadata = metadata.assign(path=metadata["image_id"] + ".jpg", date="", orientation="", species="")
    metadata.to_csv(folder / "metadata.csv", index=False)
    rng = np.random.default_rng(0)
    for path in metadata["path"]:
        Image.fromarray(rng.integers(0, 256, size=(30, 60, 3), dtype=np.uint8)).save(folder / path)
    rows = [
        (one, dataset, f"cluster_{dataset}_{name}", *more)
        for one, dataset, name, *more in (row[:6] for row in PHOTOGRAPHS)
    ]
    pairs = pd.DataFrame(PAIRS, columns=["image_id_a", "image_id_b", "dissimilarity"])
    pairs.insert(0, "dataset", pairs["image_id_a"].map(dict(zip(ids, datasets, strict=True))))
    solution = pd.DataFrame({"image_id": ids, "identity": [row[6] for row in PHOTOGRAPHS], "dataset": datasets})
    clusters = Clusters(pd.DataFrame(rows, columns=list(CLUSTERS_COLUMNS)), pairs, CUTS)
    return ClusterWorld(read_catalogue(folder), clusters, solution.assign(Usage="Private"))
