"""Time and memory of putting N photographs of one dataset together, on drawn vectors and descriptors.

    python benchmarks/discover_scale.py                       # up to 10,000 photographs
    python benchmarks/discover_scale.py --sizes 500 1000      # others

Each size runs in a process of its own. An individual has four photographs on average: its vector, and half of its
descriptors, return on each with noise. The pair score is a logistic regression fitted on the first of 500 photographs.
Above `matching.whole_gallery` photographs the descriptors of each are compared with those of its shortlist of 50 alone.
"""

import argparse
import resource
import subprocess
import sys
import time
from pathlib import Path

import matplotlib
import numpy as np
import torch
from harness import machine

from reid.config.presets import preset
from reid.decision.clusters import adjusted_rand_index
from reid.decision.linkage import merge_tree
from reid.decision.pair_scores import LabelledPairs, fit_pair_scorer
from reid.retrieval.gallery import GalleryFeatures
from reid.retrieval.keypoints import Keypoints
from reid.retrieval.photograph_pairs import Pool, compare

PHOTOGRAPHS_OF_ONE = 4
CUT = 0.8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[500, 1000, 2000, 5000, 10_000])
    parser.add_argument("--keypoints", type=int, default=100, help="of a photograph; 100")
    parser.add_argument("--plot", type=Path, default=Path("build/bench/discover_scale.png"))
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(measured(options.one, options.keypoints))
        return
    print(machine())
    print("| photographs | pairs | compare: s | link: s | peak GB | parts divided | pairs lost | ARI |\n|" + "---|" * 8)
    rows = []
    for size in options.sizes:
        call = [sys.executable, __file__, "--one", str(size), "--keypoints", str(options.keypoints)]
        row = subprocess.run(call, capture_output=True, text=True, check=True).stdout.split()
        print(f"| {' | '.join(row)} |", flush=True)
        rows.append([float(cell) for cell in row])
    plot(np.array(rows), options.plot)


def measured(size: int, keypoints: int) -> str:
    """Draws, compares and links so many photographs."""
    recipe = preset("frozen")
    learned, labels = drawn(500, keypoints, seed=1)
    pool = Pool.of(learned, recipe, "learning")
    scorer = fit_pair_scorer("logistic", [LabelledPairs(compare(pool, np.arange(500)), labels)], 0)
    assert scorer
    photographs, labels = drawn(size, keypoints, seed=2)
    started = time.perf_counter()
    pairs = compare(Pool.of(photographs, recipe, "comparing", kept=5), np.arange(size))
    compared = time.perf_counter()
    dissimilarity = scorer.dissimilarity(pairs)
    tree = merge_tree(size, np.stack([pairs.first, pairs.second], 1), dissimilarity, cut=CUT)
    clusters = tree.labels()
    linked = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    index = adjusted_rand_index(labels.tolist(), clusters.tolist())
    times = f"{compared - started:.0f} {linked - compared:.1f} {peak:.2f}"
    return f"{size} {len(pairs)} {times} {tree.split.parts} {tree.split.pairs} {index:.3f}"


def drawn(size: int, keypoints: int, seed: int) -> tuple[GalleryFeatures, np.ndarray]:
    """Photographs whose individual gives half of their descriptors."""
    rng = np.random.default_rng(seed)
    individuals = rng.integers(0, size // PHOTOGRAPHS_OF_ONE, size)
    centres = rng.normal(size=(size, 512)).astype(np.float32)
    vectors = centres[individuals] + 1.5 * rng.normal(size=(size, 512)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    marks = rng.normal(size=(size, keypoints // 2, 128)).astype(np.float32)
    places = rng.random((size, keypoints, 4)).astype(np.float32)
    found = []
    for individual in individuals.tolist():
        descriptors = rng.normal(size=(keypoints, 128)).astype(np.float32)
        descriptors[: keypoints // 2] = marks[individual] + 0.8 * descriptors[: keypoints // 2]
        descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
        points = rng.random((keypoints, 4)).astype(np.float32)
        points[: keypoints // 2] = places[individual, : keypoints // 2]
        found.append(keypoints_of(points, descriptors))
    names = tuple(map(str, range(size)))
    return GalleryFeatures(names, torch.from_numpy(vectors), ("",) * size, tuple(found)), individuals.astype(str)


def keypoints_of(points: np.ndarray, descriptors: np.ndarray) -> Keypoints:
    return Keypoints(points, descriptors.astype(np.float16), (1.0, 1.0), np.ones(len(points), np.float32))


def plot(rows: np.ndarray, path: Path) -> None:
    """Seconds and memory against the number of photographs."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    left.loglog(rows[:, 0], rows[:, 2] + rows[:, 3], "o-")
    right.loglog(rows[:, 0], rows[:, 4], "o-")
    for axes, title in ((left, "seconds"), (right, "peak memory, GB")):
        axes.set(xlabel="photographs", title=title)
        axes.grid(True, which="both", alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
