"""What local matching costs on one core, and what that makes of the competition.

    python benchmarks/local.py ../shared/photos-large

Every figure is the median over the photographs of a folder of full-size ones. The last lines are computed from them,
for the competition's galleries and queries on four cores; nothing of the competition itself was measured.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import torch
from competition import COMPETITION
from harness import machine

from reid.config.presets import PRESETS
from reid.config.recipe import override
from reid.data.loading import photograph_batches
from reid.data.photographs import View
from reid.retrieval.extraction import keypoint_config
from reid.retrieval.keypoints import Keypoints, top_k
from reid.retrieval.local_matching import MatchingConfig, lnbnn, stack_descriptors, verify
from reid.runtime.progress import say

Item = TypeVar("Item")

CORES = 4

SIGHTS = 2
"""Recipe `best` matches two sets of keypoints: the strongest, and those on the animal."""


def main() -> None:
    """Prints what was measured and what follows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", metavar="FOLDER", type=Path)
    paths = sorted(parser.parse_args().photographs.rglob("*.jpg"))
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    say(machine())
    recipe = override(PRESETS["finetuned"], ["batch_size=1"])
    extraction = keypoint_config(recipe)
    keypoints: list[Keypoints] = []

    def see(path: Path) -> None:
        (opened,) = photograph_batches([path], [View(224)], recipe, "opening", [extraction])
        keypoints.extend(one for one in opened.keypoints if one is not None)

    opening = typical(paths, see)
    asked = [top_k(one, recipe.keypoints.count) for one in keypoints]
    gallery = [asked[place % len(asked)] for place in range(1000)]
    listed, whole = stack_descriptors(gallery[: recipe.matching.shortlist]), stack_descriptors(gallery)
    matching = MatchingConfig(recipe.matching.ratio, recipe.matching.model, recipe.matching.tolerance)
    shortlist = [np.arange(recipe.matching.verified)]
    voting = typical(asked, lambda one: lnbnn(stack_descriptors([one]), listed, k=recipe.matching.neighbours))
    searching = typical(asked[:10], lambda one: lnbnn(stack_descriptors([one]), whole, k=recipe.matching.neighbours))
    checking = typical(asked, lambda one: verify([one], gallery, shortlist, matching)) / recipe.matching.verified
    query = SIGHTS * (voting + recipe.matching.verified * checking)
    photographs, _, queries = (sum(counts) for counts in zip(*COMPETITION.values(), strict=True))
    print(f"measured on one core, medians over {len(paths)} photographs:")
    print(f"  open a photograph and find its keypoints   {opening * 1e3:7.1f} ms")
    print(f"  votes of a query in a shortlist of {recipe.matching.shortlist:<6}  {voting * 1e3:7.1f} ms")
    print(f"  votes of a query in a gallery of 1,000     {searching * 1e3:7.1f} ms")
    print(f"  check a pair for a common arrangement      {checking * 1e3:7.1f} ms")
    print(f"computed for the competition on {CORES} cores:")
    minutes = ((photographs + queries) * opening + queries * query) / CORES / 60
    print(
        f"  recipe best: ({photographs + queries:,} photographs x {opening:.3f} s + {queries:,} queries x "
        f"{query:.3f} s) / {CORES} = {minutes:.0f} min"
    )
    alone = sum(asking * known / 1000 * searching for known, _, asking in COMPETITION.values())
    alone += queries * recipe.matching.verified * checking
    print(
        "  recipe local, which has no encoder to make a shortlist: "
        f"{((photographs + queries) * opening + alone) / CORES / 60:.0f} min"
    )
    held = sum(one.descriptors.nbytes + one.points.nbytes + one.weights.nbytes for one in keypoints) / len(keypoints)
    held *= min(1.0, SIGHTS * recipe.keypoints.count / recipe.keypoints.candidates)
    largest = max(known for known, _, _ in COMPETITION.values())
    print(f"  the largest gallery's keypoints hold at most {largest * held / 1e9:.1f} GB")


def typical(items: Sequence[Item], work: Callable[[Item], object]) -> float:
    """Median seconds of the work on an item."""
    times = []
    for item in items:
        started = time.perf_counter()
        work(item)
        times.append(time.perf_counter() - started)
    return statistics.median(times)


if __name__ == "__main__":
    main()
