"""Unknown animals into individuals on real photographs: the adjusted Rand index of `discover` and of what it could be.

    python benchmarks/discover.py ../shared/reid-mini --weights W0 W1 W2 --today S0.csv S1.csv S2.csv

WEIGHTS are folders that `reid train` (or `calibrate`) has made with one seed each, TODAY submissions of `predict` for
the same rows: each named individual is a cluster, each new one alone. DATA has `solution.csv`. Features of the
photographs are kept in `--out`, so that the tables can be made again in minutes.

Every cut but those marked "in hindsight" was fitted on the database alone, by the same code as in `discover`.
"""

import argparse
import pickle
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from harness import machine
from sklearn.cluster import DBSCAN, HDBSCAN
from sklearn.metrics import adjusted_rand_score

from reid.config.runtime import Runtime
from reid.data.catalogue import Catalogue, read_catalogue
from reid.decision.artifact import Weights, gallery_file, open_weights
from reid.decision.attach import Attachment, attach
from reid.decision.calibration import load_calibrations
from reid.decision.clusters import adjusted_rand_index
from reid.decision.cuts import GRID, FittedCut, Source, fit_cut, rand_index_at
from reid.decision.linkage import merge_tree
from reid.decision.predict import match_queries
from reid.decision.reference import load_reference
from reid.retrieval.cache import Cache
from reid.retrieval.extraction import extract_features, open_extractors
from reid.retrieval.gallery import GalleryFeatures, gallery_features, load_gallery
from reid.retrieval.photograph_pairs import PhotographPairs, Pool, compare

PLAIN = ("distance", "local", "local inliers", "foreground", "foreground inliers")
"""The cues whose standardised values are simply added for comparison."""


FEW = 100
"""Query photographs of a dataset that is tried together with its database."""


class Bench(NamedTuple):
    """One dataset with one seed's weights."""

    name: str
    live: PhotographPairs
    truth: np.ndarray
    today: np.ndarray
    source: Source
    candidates: pd.DataFrame
    """What `predict` says of each photograph, see `Matches.candidates`."""
    threshold: float
    new: np.ndarray
    """(N,) bool, whether the database lacks the individual."""
    everything: tuple[Pool, np.ndarray] | None
    """All photographs of a dataset with few queries, and who is on them."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="DATA", type=Path)
    parser.add_argument("--weights", type=Path, nargs="+", required=True)
    parser.add_argument("--today", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, default=Path("build/bench/discover"), help="build/bench/discover")
    parser.add_argument("--only", nargs="*", choices=sorted(TABLES), default=sorted(TABLES), help="tables; all")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    print(machine(), flush=True)
    runs = [
        list(benches(options.data, weights, today, options.out / f"seed{seed}"))
        for seed, (weights, today) in enumerate(zip(options.weights, options.today, strict=True))
    ]
    for name in options.only:
        print(f"\n## {name}", flush=True)
        TABLES[name](runs)


def benches(data: Path, folder: Path, today: Path, out: Path) -> Iterator[Bench]:
    """Yields each dataset, from the folder `out` where it has been there before."""
    catalogue, weights = read_catalogue(data), open_weights(folder)
    solved = pd.read_csv(data / "solution.csv", dtype=str).set_index("image_id")
    solution, is_new = solved["identity"], solved["new_identity"] == "True"
    answers = pd.read_csv(today, dtype=str).set_index("image_id")["identity"]
    out.mkdir(exist_ok=True)
    for dataset, photographs in catalogue.query.by_dataset().items():
        file = out / f"{dataset}.pkl"
        if not file.exists():
            file.write_bytes(pickle.dumps(prepared(weights, photographs, dataset)))
        live, source = pickle.loads(file.read_bytes())
        matched = out / f"{dataset}.candidates.pkl"
        if not matched.exists():
            matched.write_bytes(pickle.dumps(matches(weights, photographs, dataset)))
        candidates, threshold = pickle.loads(matched.read_bytes())
        named = answers[photographs.image_ids]
        alone = [f"new {image_id}" for image_id in photographs.image_ids]
        clusters = np.where(named == "new_individual", alone, named)
        truth, new = solution[photographs.image_ids].to_numpy(str), is_new[photographs.image_ids].to_numpy(bool)
        everything = with_database(weights, catalogue.of(dataset), solution) if len(photographs) < FEW else None
        yield Bench(dataset, live, truth, clusters.astype(str), source, candidates, threshold, new, everything)


def with_database(weights: Weights, photographs: Catalogue, solution: pd.Series) -> tuple[Pool, np.ndarray]:
    """Prepares known and unknown photographs as one collection."""
    features = features_of(weights, photographs, str(photographs.table["dataset"].iloc[0]))
    table = photographs.table.set_index("image_id")["identity"]
    labels = table.where(table != "", solution.reindex(table.index)).to_numpy(str)
    return Pool.of(features, weights.recipe, "comparing all"), labels


def matches(weights: Weights, photographs: Catalogue, dataset: str) -> tuple[pd.DataFrame, float]:
    """Matches one dataset's photographs with its gallery; the image_ids become rows."""
    features = features_of(weights, photographs, dataset)
    calibration = load_calibrations(weights)[dataset]
    found = match_queries(
        features, load_gallery(weights.folder / gallery_file(dataset)), dataset, calibration, weights.recipe, 20
    )
    rows = {image_id: str(row) for row, image_id in enumerate(features.image_id)}
    return found.assign(image_id=found["image_id"].map(rows)), calibration.threshold.value


def features_of(weights: Weights, photographs: Catalogue, dataset: str) -> GalleryFeatures:
    runtime, cache = Runtime(precision=weights.precision), Cache(weights.folder)
    extractors = open_extractors(weights.encoders, None, weights.recipe, runtime, cache)
    features = extract_features(photographs, extractors, "column", weights.recipe, f"opening {dataset}")
    return gallery_features(features, photographs.table)


def prepared(weights: Weights, photographs: Catalogue, dataset: str) -> tuple[PhotographPairs, Source]:
    """Compares one dataset's photographs with each other, and prepares its reference."""
    recipe = weights.recipe
    pool = Pool.of(features_of(weights, photographs, dataset), recipe, f"comparing {dataset}")
    reference = load_reference(weights.folder, dataset)
    assert reference is not None
    gallery = load_gallery(weights.folder / gallery_file(dataset)).embeddings
    place = {image_id: row for row, image_id in reversed(list(enumerate(gallery.image_id)))}
    chosen = gallery.of(np.array([place[image_id] for image_id in reference.image_id]))
    known = Pool.of(chosen, recipe, f"preparing {dataset}", reference.distances if recipe.uses_encoder else None)
    return compare(pool, np.arange(len(pool))), Source(dataset, reference, known)


def tree_of(live: PhotographPairs, dissimilarity: np.ndarray, **options: Any) -> Any:
    return merge_tree(live.size, np.stack([live.first, live.second], 1), dissimilarity, **options)


def reached(bench: Bench, fitted: FittedCut, **options: Any) -> tuple[float, float]:
    """The index at the fitted cut, and at the best one in hindsight."""
    tree = tree_of(bench.live, fitted.scorer.dissimilarity(bench.live), **options)
    curve = rand_index_at(tree, bench.truth, np.array([fitted.value, *GRID]))
    return float(curve[0]), float(curve[1:].max())


def plain_sum(live: PhotographPairs) -> np.ndarray:
    """The sum of the standardised cues as a dissimilarity from 0 to 1."""
    values = [live.features[name] for name in PLAIN if name in live.features]
    total = np.sum([(one - one.mean()) / (one.std() or 1) for one in values], axis=0)
    return np.asarray(1 - (total - total.min()) / (np.ptp(total) or 1))


def in_hindsight(bench: Bench, dissimilarity: np.ndarray, **options: Any) -> float:
    """The index at the best of 2,001 cuts, the scale of the dissimilarities being unknown."""
    tree = tree_of(bench.live, dissimilarity, **options)
    return float(rand_index_at(tree, bench.truth, np.linspace(0, 1, 2001)).max())


def square(live: PhotographPairs, dissimilarity: np.ndarray) -> np.ndarray:
    """(N, N), 1 for what was never compared."""
    full = np.ones((live.size, live.size))
    full[live.first, live.second] = full[live.second, live.first] = dissimilarity
    np.fill_diagonal(full, 0)
    return full


def fit(bench: Bench, **options: Any) -> FittedCut:
    fitted = fit_cut([bench.source], bench.live, 0, **options)
    assert fitted is not None
    return fitted


def without(bench: Bench, word: str) -> tuple[Bench, Callable[[PhotographPairs], PhotographPairs]]:
    """Leaves out the features with a word in their name."""

    def chosen(pairs: PhotographPairs) -> PhotographPairs:
        return replace(pairs, features={name: of for name, of in pairs.features.items() if word not in name})

    return bench._replace(live=chosen(bench.live)), chosen


def table(rows: list[list[object]], header: str) -> None:
    print(f"| {header} |\n|{'---|' * (header.count('|') + 1)}")
    for row in rows:
        cells = [f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in row]
        print(f"| {' | '.join(cells)} |", flush=True)


def answers(runs: list[list[Bench]]) -> None:
    """The main table."""
    rows = []
    for seed, run in enumerate(runs):
        for bench in run:
            fitted = fit(bench)
            got, best = reached(bench, fitted)
            today = adjusted_rand_index(bench.truth.tolist(), bench.today.tolist())
            tree = tree_of(bench.live, fitted.scorer.dissimilarity(bench.live), cut=fitted.value)
            both, joined, all_same = joined_pairs(tree.labels(), bench.truth)
            low, high = np.quantile(fitted.scores, [0.05, 0.95])
            density = f"{fitted.companions:.1f}, {fitted.fitted_companions:.1f}, {true_companions(bench.truth):.1f}"
            rows.append(
                [
                    *(seed, bench.name, today, got, best, in_hindsight(bench, plain_sum(bench.live))),
                    f"{fitted.scores.mean():.2f} ({low:.2f} to {high:.2f})",
                    *(fitted.scorer.kind, fitted.value, density),
                    f"{both} right, {joined - both} wrong, of {all_same}",
                ]
            )
    table(
        rows,
        "seed | dataset | today | fitted cut | best cut in hindsight | plain sum, in hindsight | expected | score "
        "| cut | companions: estimated, fitted on, true | joined pairs",
    )
    for seed in range(len(runs)):
        of_seed = np.array([row[2:6] for row in rows if row[0] == seed and row[1] != "LionData"], float)
        today, got, best, plain = of_seed.mean(0)
        print(
            f"seed {seed}, mean without lions: {got:.3f} = {got / today:.2f} x today; {got / best:.0%} of the best "
            f"cut, which is {best / plain:.2f} x the plain sum's"
        )


def true_companions(labels: np.ndarray) -> float:
    counts = np.unique(labels, return_counts=True)[1]
    return float((counts * (counts - 1)).sum() / len(labels))


def joined_pairs(clusters: np.ndarray, truth: np.ndarray) -> tuple[int, int, int]:
    """Pairs of one animal in one cluster, pairs in one cluster, pairs of one animal."""
    upper = np.triu_indices(len(truth), 1)
    same, joined = truth[upper[0]] == truth[upper[1]], clusters[upper[0]] == clusters[upper[1]]
    return int((same & joined).sum()), int(joined.sum()), int(same.sum())


def others(runs: list[list[Bench]]) -> None:
    """Other ways, on the same pair score where they take one; parameters in hindsight, which favours them."""
    rows = []
    for bench in runs[0]:
        fitted = fit(bench)
        score = square(bench.live, fitted.scorer.dissimilarity(bench.live))
        encoder = square(bench.live, scaled(-bench.live.features["distance"]))
        components = fit(bench, method="single")
        ways: dict[str, float] = {"discover": reached(bench, fitted)[0]}
        ways["connected components, fitted cut"] = reached(bench, components, method="single")[0]
        for name, matrix in (("pair score", score), ("encoder's distance", encoder)):
            sweep = [DBSCAN(eps=eps, min_samples=2, metric="precomputed").fit_predict(matrix) for eps in GRID[1:-1]]
            ways[f"DBSCAN on the {name}, best eps"] = max(index_of(labels, bench.truth) for labels in sweep)
            labels = HDBSCAN(min_cluster_size=2, metric="precomputed", copy=True).fit_predict(matrix)
            ways[f"HDBSCAN on the {name}"] = index_of(labels, bench.truth)
        ways["average linkage on the encoder's distance, best cut"] = in_hindsight(
            bench, scaled(-bench.live.features["distance"])
        )
        ways["average linkage on votes alone, best cut"] = in_hindsight(bench, scaled(-bench.live.features["local"]))
        rows += [[bench.name, way, index] for way, index in ways.items()]
    table(rows, "dataset | way | ARI")


def scaled(values: np.ndarray) -> np.ndarray:
    return np.asarray((values - values.min()) / (np.ptp(values) or 1))


def index_of(labels: np.ndarray, truth: np.ndarray) -> float:
    """The index where -1 stands for photographs that are alone."""
    alone = labels < 0
    labels = np.where(alone, labels.max() + 1 + np.arange(len(labels)), labels)
    return float(adjusted_rand_score(truth, labels))


def ablation(runs: list[list[Bench]]) -> None:
    """What each choice is worth, and what a wrong one would have claimed."""
    rows: list[list[object]] = []
    for bench in runs[0]:
        if bench.source.reference.individuals < 30:
            continue

        def add(choice: str, fitted: FittedCut, of: Bench = bench, **options: Any) -> None:
            got, best = reached(of, fitted, **options)
            rows.append([of.name, choice, got, best, float(fitted.scores.mean()), fitted.fitted_companions])

        full = fit(bench)
        add("as it is", full)
        for kind in ("logistic", "boosted"):
            add(f"pair score {kind}", fit(bench, kind=kind))
        for method in ("single", "complete"):
            add(f"{method} linkage", fit(bench, method=method), method=method)
        for companions in (0.5, 1.0, 2.0, 4.0, 8.0):
            add(f"density given as {companions}", fit(bench, companions=companions))
        days = bench.source._replace(reference=replace(bench.source.reference, day=("",) * len(bench.source.reference)))
        if any(bench.source.reference.day):
            add("photographs of one day too", fit(bench._replace(source=days)))
        for value in (0.5, 0.7, 0.9):
            add(f"cut guessed as {value}", replace(full, value=value))
        for cue in ("distance", "local", "foreground", "inliers", "rank", "side"):
            fewer, chosen = without(bench, cue)
            add(f"without features of {cue}", fit(fewer, transform=chosen), fewer)
    table(rows, "dataset | choice | ARI | best cut | claimed | companions fitted on")


def known(runs: list[list[Bench]]) -> None:
    """Whether clusters that vote name known animals better than each photograph alone, and what joining them does."""
    rows: list[list[object]] = []
    for seed, run in enumerate(runs):
        for bench in run:
            fitted = fit(bench)
            tree = tree_of(bench.live, fitted.scorer.dissimilarity(bench.live), cut=fitted.value)
            labels = tree.labels()
            for name, clusters in (("each alone", np.arange(len(labels))), ("clusters vote", labels)):
                for margin in (1.0, 0.95, 0.9, 0.8):
                    by_row = pd.Series(clusters.astype(str), index=np.arange(len(labels)).astype(str))
                    attached = attach(bench.candidates, by_row, bench.threshold, False, margin)
                    nobody = Attachment("", 0.0)
                    names = np.array([attached.get(cluster, nobody).identity for cluster in by_row], object)
                    rows.append(
                        [seed, bench.name, name, margin, *open_set(names, bench), *joined_index(names, labels, bench)]
                    )
    table(
        rows,
        "seed | dataset | who names | margin | BAKS | BAUS | score | named | of these right | ARI | ARI, joined by "
        "name",
    )


def open_set(names: np.ndarray, bench: Bench) -> list[object]:
    """BAKS, BAUS, score, how many are named and the share of these that is right."""
    right = np.where(bench.new, names == "", names == bench.truth)
    shares = (
        pd.DataFrame({"right": right, "truth": bench.truth, "new": bench.new}).groupby(["new", "truth"])["right"].mean()
    )
    baks, baus = float(shares[False].mean()), float(shares[True].mean())
    named = names != ""
    return [
        baks,
        baus,
        float(np.sqrt(baks * baus)),
        int(named.sum()),
        float((names == bench.truth)[named].mean()) if named.any() else 0.0,
    ]


def joined_index(names: np.ndarray, labels: np.ndarray, bench: Bench) -> list[float]:
    """ARI of the partition, and after joining everything that has one name."""
    joined = np.where(names == "", labels.astype(str), names)
    return [float(adjusted_rand_score(bench.truth, labels)), float(adjusted_rand_score(bench.truth, joined))]


def lions(runs: list[list[Bench]]) -> None:
    """Lions have three pairs among their queries: collections of half the animals, from database and queries together.
    The encoder has learned from some of the database."""
    rows: list[list[object]] = []
    for seed, run in enumerate(runs):
        for bench in run:
            if bench.everything is None:
                continue
            fitted, (pool, labels) = fit(bench), bench.everything
            rng = np.random.default_rng(seed)
            reached_by = []
            for _ in range(50):
                animals = rng.permutation(np.unique(labels))[: len(np.unique(labels)) // 2]
                drawn = np.flatnonzero(np.isin(labels, animals))
                pairs = compare(pool, drawn)
                tree = tree_of(pairs, fitted.scorer.dissimilarity(pairs), cut=fitted.value)
                reached_by.append(adjusted_rand_score(labels[drawn], tree.labels()))
            low, high = np.quantile(reached_by, [0.05, 0.95])
            rows.append([seed, bench.name, float(np.mean(reached_by)), float(low), float(high)])
    table(rows, "seed | dataset | ARI, mean of 50 collections | 5 % | 95 %")


TABLES = {"1 answers": answers, "2 other ways": others, "3 ablation": ablation, "4 known": known, "5 lions": lions}


if __name__ == "__main__":
    main()
