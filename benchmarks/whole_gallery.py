"""Votes of a whole gallery: time, memory and recall against its size, and what they earn against votes in a shortlist.

    python benchmarks/enlarged.py ../shared/reid-mini NyalaData --more build/toy --out build/enlarged
    python benchmarks/whole_gallery.py build/enlarged --weights WEIGHTS --solution ../shared/reid-mini/solution.csv

WEIGHTS is a folder of recipe `frozen` that knows the dataset; it stays as it is. The gallery is enrolled once, in
`--out`. Its first N photographs are a gallery of N; above its size, the photographs are repeated with noise on their
descriptors. One thread, both sets of keypoints, 64 queries at a time, each size in a process of its own.
"""

import argparse
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import torch
from harness import machine

from reid.config.recipe import Recipe
from reid.config.runtime import Runtime
from reid.config.settings import with_settings
from reid.data.catalogue import Catalogue, read_catalogue
from reid.decision.artifact import encoder_file, gallery_file, open_weights
from reid.decision.calibrate import fit_calibrations, pseudo_query_pairs
from reid.decision.enroll import enroll
from reid.decision.predict import score_pairs
from reid.retrieval.cache import Cache
from reid.retrieval.candidates import POWERS, best_and_runner_up
from reid.retrieval.descriptor_index import DescriptorIndex, DescriptorSets, find_cells, one_cell
from reid.retrieval.extraction import extract_features, open_extractors
from reid.retrieval.gallery import GalleryFeatures, gallery_features, load_gallery
from reid.retrieval.keypoints import Keypoints
from reid.retrieval.local_matching import gallery_votes

QUERIES = 64

EXACTLY = 16
"""Queries that are compared with all descriptors, to know what was missed; four in the largest galleries."""

WAYS = {
    "the whole gallery, 16 cells": {},
    "the encoder's shortlist of 50": {"matching.probes": 0, "matching.whole_gallery": 0},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="DATA", type=Path)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--solution", type=Path, required=True)
    parser.add_argument("--out", metavar="FOLDER", type=Path, default=Path("build/bench/whole_gallery"))
    parser.add_argument("--sizes", type=int, nargs="+", default=[500, 1000, 2000, 4000, 8729, 20_000, 50_000])
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    catalogue = read_catalogue(options.data)
    dataset = str(catalogue.table["dataset"].iloc[0])
    weights = open_weights(options.weights)
    recipe = with_settings(weights.recipe, {"training.folds": 1})
    gallery = options.out / gallery_file(dataset)
    if not gallery.exists():
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / encoder_file(dataset)).write_bytes((options.weights / encoder_file(dataset)).read_bytes())
        enroll(catalogue, options.out, [dataset], recipe, Runtime(precision=weights.precision))
    queries = features_of_queries(catalogue, options.out, dataset, recipe)
    if options.one:
        print(measured(options.one, load_gallery(gallery).embeddings.keypoints, queries.keypoints, recipe))
        return
    print(machine())
    print("| photographs | descriptors | cells | find them: s | a query: ms | exactly: ms | top 20 found | peak GB |")
    print("|---" * 8 + "|")
    rows = []
    for size in options.sizes:
        row = subprocess.run(
            [sys.executable, *sys.argv, "--one", str(size)], capture_output=True, text=True, check=True
        )
        cells = row.stdout.split()
        print(f"| {' | '.join(cells)} |", flush=True)
        rows.append([float(cell) for cell in cells])
    plot(np.array(rows), options.out / "whole_gallery.svg")
    solution = pd.read_csv(options.solution, dtype=str).set_index("image_id")["identity"]
    compare_ways(catalogue, options.out, dataset, recipe, queries, solution)


def features_of_queries(catalogue: Catalogue, folder: Path, dataset: str, recipe: Recipe) -> GalleryFeatures:
    extractors = open_extractors({dataset: folder / encoder_file(dataset)}, None, recipe, Runtime(), Cache(folder))
    found = extract_features(catalogue.query, extractors, "column", recipe, "opening queries")
    return gallery_features(found, catalogue.query.table)


def measured(size: int, known: tuple[Keypoints, ...], queries: tuple[Keypoints, ...], recipe: Recipe) -> str:
    """A row of the first table."""
    rng = np.random.default_rng(0)
    photographs = [*known[:size], *(noisy(known[place % len(known)], rng) for place in range(len(known), size))]
    descriptors = DescriptorSets.of(photographs, recipe.keypoints, POWERS)
    del photographs, known
    started = time.perf_counter()
    cells = find_cells(descriptors.vectors)
    found = time.perf_counter() - started
    cpu, probes = torch.device("cpu"), recipe.matching.probes
    index = DescriptorIndex.of(descriptors, cells, probes, cpu)
    asked = DescriptorSets.of(queries[:QUERIES], recipe.keypoints, POWERS)
    times = []
    for _ in range(3):
        started = time.perf_counter()
        votes = gallery_votes(asked, index)
        times.append((time.perf_counter() - started) / QUERIES)
    peak = peak_gigabytes()
    few = EXACTLY if size <= 10_000 else 4
    asked = DescriptorSets.of(queries[:few], recipe.keypoints, POWERS)
    started = time.perf_counter()
    exact = gallery_votes(asked, DescriptorIndex.of(descriptors, one_cell(descriptors.vectors), 1, cpu))
    exactly = (time.perf_counter() - started) / few
    best = [some["local"][:few].topk(20).indices.tolist() for some in (votes, exact)]
    recall = np.mean([len(set(one) & set(other)) / 20 for one, other in zip(*best, strict=True)])
    count = len(descriptors.vectors)
    return (
        f"{size} {count} {len(cells.centroids)} {found:.1f} {np.median(times) * 1e3:.0f} {exactly * 1e3:.0f} "
        f"{recall:.3f} {peak:.2f}"
    )


def peak_gigabytes() -> float:
    """The highest memory of this process; `getrusage` would tell that of the process that started it."""
    line = next(one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e9


def noisy(keypoints: Keypoints, rng: np.random.Generator) -> Keypoints:
    """A photograph with other descriptors nearby: 0.03 in each of 128 dimensions, 0.34 in all."""
    vectors = np.maximum(keypoints.descriptors + rng.normal(0, 0.03, keypoints.descriptors.shape), 0)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return replace(keypoints, descriptors=vectors.astype(np.float16))


def compare_ways(
    catalogue: Catalogue, folder: Path, dataset: str, recipe: Recipe, queries: GalleryFeatures, solution: pd.Series
) -> None:
    """Known queries right by each way to vote, by votes alone and by a scorer that is fitted on votes of that way."""
    gallery = load_gallery(folder / gallery_file(dataset))
    names = gallery.individuals
    truth = solution.loc[list(queries.image_id)].to_numpy()
    known = np.isin(truth, names)
    print(f"\nknown queries right, of {known.sum()}, by votes, votes on the animal, the fitted scorer:")
    for way, settings in WAYS.items():
        chosen = with_settings(recipe, settings)
        fitted = fit_calibrations({dataset: pseudo_query_pairs(catalogue, folder, dataset, chosen)}, chosen)[dataset]
        started = time.perf_counter()
        pairs, dissimilarity = score_pairs(queries, gallery, fitted, chosen, "matching")
        seconds = (time.perf_counter() - started) / len(queries)
        right = []
        for values in (-pairs.features["local"], -pairs.features["foreground"], dissimilarity):
            first, _ = best_and_runner_up(pairs.query, values, len(queries))
            found = np.where(first >= 0, names[pairs.individual[first]], "")
            right.append(int((found == truth)[known].sum()))
        print(f"  {way}: {right[0]}, {right[1]}, {right[2]}; {seconds * 1e3:.0f} ms a query", flush=True)


def plot(rows: np.ndarray, path: Path) -> None:
    """Milliseconds of a query against the size of the gallery."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    pyplot.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "reid"}
    figure, axes = pyplot.subplots(figsize=(6, 3.5), layout="constrained")
    axes.loglog(rows[:, 0], rows[:, 5], "o-", label="all descriptors")
    axes.loglog(rows[:, 0], rows[:, 4], "o-", label="16 cells")
    axes.set(xlabel="photographs in the gallery", ylabel="milliseconds of a query, one core")
    axes.grid(True, which="both", alpha=0.2)
    axes.legend()
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
