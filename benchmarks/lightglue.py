"""LightGlue as the verifier, on and off: known queries named rightly, seconds and matches per pair.

    OMP_NUM_THREADS=1 python benchmarks/lightglue.py build/sixty [--only LionData] [--large ../shared/photos-large]

DATA is a data folder with its solution, such as `benchmarks/peer.py draw` makes of reid-mini. ALIKED-n16 finds the
keypoints, one thread. The 20 photographs with the most votes (LNBNN) are a query's shortlist; an answer is the
individual of the photograph with the largest number of votes, of inliers of mutual nearest neighbours, of LightGlue's
matches, or of the inliers of these; of equals, the one with more votes. With `--large`, full-size photographs are
compared, each with the next: cost and matches alone, for no two of them show one animal.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from extractors import opened
from harness import machine

from reid.config.presets import PRESETS
from reid.config.settings import with_settings
from reid.data.catalogue import Catalogue, read_catalogue
from reid.data.photographs import View, decode
from reid.decision.learned_weights import prepare_weights
from reid.decision.metrics import read_solution
from reid.retrieval.extractors.table import Extractor
from reid.retrieval.keypoints import Keypoints, top_k
from reid.retrieval.lightglue import LightGlue, open_matcher
from reid.retrieval.local_matching import lnbnn, stack_descriptors, verify

SHORTLIST = 20
RECIPE = with_settings(PRESETS["keypoints"], {"keypoints.extractor": "aliked-n16", "matching.verifier": "lightglue"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="DATA", type=Path)
    parser.add_argument("--only", nargs="*", help="datasets; none with --only alone")
    parser.add_argument("--large", metavar="FOLDER", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    print(machine(), flush=True)
    catalogue = read_catalogue(options.data)
    truth = dict(read_solution(options.data / "solution.csv").set_index("image_id")["identity"])
    with tempfile.TemporaryDirectory() as scratch:
        extractor = opened("aliked-n16", Path(scratch))
        prepare_weights(Path(scratch), RECIPE)()
        for name in sorted(set(catalogue.table["dataset"])) if options.only is None else options.only:
            matcher = open_matcher(RECIPE.matching, Path(scratch), "aliked-n16")
            assert matcher
            queries = catalogue.query.of(name)
            print(quality(extractor, matcher, catalogue.database.of(name), queries, truth), flush=True)
        for size, count in ((400, 256), (1000, 512)) if options.large else ():
            changes = {"keypoints.size": size, "keypoints.count": count, "matching.lightglue_keypoints": count}
            print(cost(options.large, Path(scratch), changes), flush=True)


def keypoints(extractor: Extractor, paths: Sequence[Path], size: int = 400) -> list[Keypoints]:
    decoded = (decode(path, View(size)) for path in paths)
    return [extractor.extract(np.asarray(one.upright(one.image))) for one in decoded]


def quality(
    extractor: Extractor, matcher: LightGlue, known: Catalogue, queries: Catalogue, truth: dict[str, str]
) -> str:
    """A row of the table: a dataset's known queries that each number names rightly, and the seconds of a pair."""
    gallery, names = keypoints(extractor, known.paths), np.array(known.identities)
    paths = [path for name, path in zip(queries.image_ids, queries.paths, strict=True) if truth[name] in names]
    who = [truth[name] for name in queries.image_ids if truth[name] in names]
    asked = keypoints(extractor, paths)
    votes = lnbnn(stack_descriptors(asked), stack_descriptors(gallery)).numpy()
    shortlist = list(np.argsort(-votes, axis=1, kind="stable")[:, :SHORTLIST])
    started = time.process_time()
    plain = verify(asked, gallery, shortlist, RECIPE.matching)
    between = time.process_time()
    glued = verify(asked, gallery, shortlist, RECIPE.matching, matcher=matcher)
    seconds = [between - started, time.process_time() - between]
    numbers = [
        [[0] * len(row) for row in shortlist],
        [[one.inliers for one in row] for row in plain],
        [[len(one.pairs) for one in row] for row in glued],
        [[one.inliers for one in row] for row in glued],
    ]
    right = [
        sum(names[row[int(np.argmax(of))]] == one for row, of, one in zip(shortlist, each, who, strict=True))
        for each in numbers
    ]
    pairs = sum(map(len, shortlist))
    dataset = str(known.table["dataset"].iloc[0])
    cells = [f"{dataset}, {len(who)}", *map(str, right), *(f"{one / pairs:.4f}" for one in seconds)]
    return f"| {' | '.join(cells)} |"


def cost(folder: Path, scratch: Path, changes: dict[str, int]) -> str:
    """A row of the table: seconds of a pair of full-size photographs, matches and inliers."""
    recipe = with_settings(RECIPE, dict(changes))
    extractor, matcher = opened("aliked-n16", scratch, changes), open_matcher(recipe.matching, scratch, "aliked-n16")
    found = keypoints(extractor, sorted(folder.glob("*.jpg"))[:8], changes["keypoints.size"])
    found = [top_k(one, changes["matching.lightglue_keypoints"]) for one in found]
    shortlist = [np.array([(place + 1) % len(found)]) for place in range(len(found))]
    cells = [f"{changes['keypoints.size']} px, {statistics.median(map(len, found)):.0f}"]
    for by in (None, matcher):
        verify(found[:1], found, shortlist[:1], recipe.matching, matcher=by)  # loads the network
        started = time.process_time()
        matched = [row[0] for row in verify(found, found, shortlist, recipe.matching, matcher=by)]
        seconds = (time.process_time() - started) / len(found)
        medians = [
            statistics.median(values) for values in zip(*((len(m.pairs), m.inliers) for m in matched), strict=True)
        ]
        cells.append(f"{seconds:.4f} s, {medians[0]:.0f}, {medians[1]:.0f}")
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
