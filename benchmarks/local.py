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

from reid.images import View, extraction_of, photograph_batches
from reid.keypoints import Keypoints, Matching, lnbnn, stack, strongest, verify
from reid.progress import say
from reid.recipe import RECIPES, override

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
    recipe = override(RECIPES["best"], ["workers=0", "batch_size=1"])
    extraction = extraction_of(recipe)
    keypoints: list[Keypoints] = []

    def see(path: Path) -> None:
        (opened,) = photograph_batches([path], [View(224)], recipe, "opening", [extraction])
        keypoints.extend(one for one in opened.keypoints if one is not None)

    opening = typical(paths, see)
    asked = [strongest(one, recipe.keypoint_count) for one in keypoints]
    gallery = [asked[place % len(asked)] for place in range(1000)]
    listed, whole = stack(gallery[: recipe.shortlist]), stack(gallery)
    matching = Matching(recipe.match_ratio, recipe.match_model, recipe.match_tolerance)
    shortlist = [np.arange(recipe.verified)]
    voting = typical(asked, lambda one: lnbnn(stack([one]), listed, k=recipe.neighbours))
    searching = typical(asked[:10], lambda one: lnbnn(stack([one]), whole, k=recipe.neighbours))
    checking = typical(asked, lambda one: verify([one], gallery, shortlist, matching)) / recipe.verified
    query = SIGHTS * (voting + recipe.verified * checking)
    photographs, _, queries = (sum(counts) for counts in zip(*COMPETITION.values(), strict=True))
    print(f"measured on one core, medians over {len(paths)} photographs:")
    print(f"  open a photograph and find its keypoints   {opening * 1e3:7.1f} ms")
    print(f"  votes of a query in a shortlist of {recipe.shortlist:<6}  {voting * 1e3:7.1f} ms")
    print(f"  votes of a query in a gallery of 1,000     {searching * 1e3:7.1f} ms")
    print(f"  check a pair for a common arrangement      {checking * 1e3:7.1f} ms")
    print(f"computed for the competition on {CORES} cores:")
    minutes = ((photographs + queries) * opening + queries * query) / CORES / 60
    print(
        f"  recipe best: ({photographs + queries:,} photographs x {opening:.3f} s + {queries:,} queries x "
        f"{query:.3f} s) / {CORES} = {minutes:.0f} min"
    )
    alone = sum(asking * known / 1000 * searching for known, _, asking in COMPETITION.values())
    alone += queries * recipe.verified * checking
    print(
        "  recipe local, which has no encoder to make a shortlist: "
        f"{((photographs + queries) * opening + alone) / CORES / 60:.0f} min"
    )
    held = sum(one.descriptors.nbytes + one.points.nbytes + one.weights.nbytes for one in keypoints) / len(keypoints)
    held *= min(1.0, SIGHTS * recipe.keypoint_count / recipe.keypoint_candidates)
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
