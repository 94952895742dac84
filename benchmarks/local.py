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
from functools import partial
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import torch
from competition import COMPETITION
from harness import machine

from reid.config.presets import PRESETS
from reid.config.runtime import Runtime
from reid.data.loading import photograph_batches
from reid.data.photographs import View
from reid.retrieval.extraction import keypoint_config
from reid.retrieval.extractors.rootsift import extract
from reid.retrieval.keypoints import Keypoints, top_k
from reid.retrieval.local_matching import lnbnn, stack_descriptors, verify

Item = TypeVar("Item")

CORES = 4

KEYPOINT_SETS = 2
"""Recipe `finetuned` matches two sets of keypoints: the strongest, and those on the animal."""


def main() -> None:
    """Prints what was measured and what follows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", metavar="FOLDER", type=Path)
    paths = sorted(parser.parse_args().photographs.rglob("*.jpg"))
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    print(machine(), flush=True)
    recipe, runtime = PRESETS["finetuned"], Runtime(batch_size=1, threads=1)
    config = keypoint_config(recipe)
    assert config is not None
    keypoints: list[Keypoints] = []

    def open_photograph(path: Path) -> None:
        (opened,) = photograph_batches([path], [View(224)], runtime, "opening", [partial(extract, config=config)])
        keypoints.extend(one for one in opened.extracted if one is not None)

    opening = median_seconds(paths, open_photograph)
    queried = [top_k(one, recipe.keypoints.count) for one in keypoints]
    gallery = [queried[place % len(queried)] for place in range(1000)]
    listed, whole = stack_descriptors(gallery[: recipe.matching.shortlist]), stack_descriptors(gallery)
    shortlist, neighbours = [np.arange(recipe.matching.verified)], recipe.matching.neighbours
    voting = median_seconds(queried, lambda one: lnbnn(stack_descriptors([one]), listed, k=neighbours))
    searching = median_seconds(queried[:10], lambda one: lnbnn(stack_descriptors([one]), whole, k=neighbours))
    checking = median_seconds(queried, lambda one: verify([one], gallery, shortlist, recipe.matching))
    checking /= recipe.matching.verified
    query = KEYPOINT_SETS * (voting + recipe.matching.verified * checking)
    photographs, _, queries = (sum(counts) for counts in zip(*COMPETITION.values(), strict=True))
    print(f"measured on one core, medians over {len(paths)} photographs:")
    print(f"  open a photograph and find its keypoints   {opening * 1e3:7.1f} ms")
    print(f"  votes of a query in a shortlist of {recipe.matching.shortlist:<6}  {voting * 1e3:7.1f} ms")
    print(f"  votes of a query in a gallery of 1,000     {searching * 1e3:7.1f} ms")
    print(f"  check a pair for a common arrangement      {checking * 1e3:7.1f} ms")
    print(f"computed for the competition on {CORES} cores:")
    minutes = ((photographs + queries) * opening + queries * query) / CORES / 60
    print(
        f"  recipe finetuned: ({photographs + queries:,} photographs x {opening:.3f} s + {queries:,} queries x "
        f"{query:.3f} s) / {CORES} = {minutes:.0f} min"
    )
    alone = sum(count * known / 1000 * searching for known, _, count in COMPETITION.values())
    alone += queries * recipe.matching.verified * checking
    print(
        "  recipe keypoints, which has no encoder to make a shortlist: "
        f"{((photographs + queries) * opening + alone) / CORES / 60:.0f} min"
    )
    size = sum(one.descriptors.nbytes + one.points.nbytes + one.weights.nbytes for one in keypoints) / len(keypoints)
    size *= min(1.0, KEYPOINT_SETS * recipe.keypoints.count / recipe.keypoints.candidates)
    largest = max(known for known, _, _ in COMPETITION.values())
    print(f"  the largest gallery's keypoints take at most {largest * size / 1e9:.1f} GB")


def median_seconds(items: Sequence[Item], work: Callable[[Item], object]) -> float:
    """Median seconds of the work on an item."""
    times = []
    for item in items:
        started = time.perf_counter()
        work(item)
        times.append(time.perf_counter() - started)
    return statistics.median(times)


if __name__ == "__main__":
    main()
