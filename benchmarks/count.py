"""How many animals there are: how often the interval of `reid count` holds the true number, and how wrong it is.

    python benchmarks/count.py ../shared/reid-mini --weights WEIGHTS

Collections are drawn from the query individuals of each dataset in turn, 8 to all of them, with all their photographs.
Pair scores and cuts are those of `discover` on the whole dataset, fitted on the database alone. DATA has
`solution.csv`, which answers for the person. What `discover` returned is kept in `--out`.
"""

import argparse
import pickle
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from harness import machine

from reid.data.catalogue import read_catalogue
from reid.decision.artifact import open_weights
from reid.decision.count import Answered, Experience, count_individuals, experience_of, near_pairs
from reid.decision.discover import discover
from reid.decision.discovered import Clusters
from reid.decision.linkage import merge_tree

ANSWERS = (0, 25, 50, 100, 200)
FEWEST = 8
"""Individuals of a collection."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="DATA", type=Path)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--collections", type=int, default=200)
    parser.add_argument("--out", type=Path, default=Path("build/bench/count"), help="build/bench/count")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    print(machine(), flush=True)
    kept = options.out / "clusters.pkl"
    if not kept.exists():
        found = discover(read_catalogue(options.data), open_weights(options.weights), use_answers=False)
        kept.write_bytes(pickle.dumps(found))
    solution = pd.read_csv(options.data / "solution.csv", dtype=str).set_index("image_id")["identity"]
    rows = counted(pickle.loads(kept.read_bytes()), solution, options.collections)
    rows.to_csv(options.out / "count.csv", index=False)
    for name in ("dataset", None):
        print_table(rows, name)
    draw(rows, options.out / "count.svg")


def counted(clusters: Clusters, solution: pd.Series, collections: int) -> pd.DataFrame:
    """Counts collections with a growing number of answers, a row for each."""
    datasets = sorted(clusters.cuts)
    experiences = {dataset: experience_of(clusters.trials[dataset]) for dataset in datasets}
    rows = []
    for number in range(collections):
        dataset, rng = datasets[number % len(datasets)], np.random.default_rng([number, 9])
        photographs = clusters.photographs["image_id"][clusters.photographs["dataset"] == dataset]
        names = rng.permutation(solution[photographs].unique())
        chosen = names[: rng.integers(FEWEST, len(names), endpoint=True)]
        own = photographs[solution[photographs].isin(chosen).to_numpy()].to_list()
        found = count_collection(clusters, dataset, own, solution, experiences[dataset], rng)
        rows += [{"collection": number, "dataset": dataset, "true": len(chosen), **row} for row in found]
    return pd.DataFrame(rows)


def count_collection(
    clusters: Clusters,
    dataset: str,
    image_ids: list[str],
    solution: pd.Series,
    experience: Experience | None,
    rng: np.random.Generator,
) -> list[dict]:
    """Counts one collection with the first few of its near pairs answered, in random order."""
    row_of = {image_id: row for row, image_id in enumerate(image_ids)}
    ends = pd.DataFrame({name: clusters.pairs[name].map(row_of) for name in ("image_id_a", "image_id_b")}).dropna()
    pairs = np.sort(ends.to_numpy(np.int64), axis=1)
    dissimilarity = clusters.pairs.loc[ends.index, "dissimilarity"].to_numpy(float)
    labels = merge_tree(len(image_ids), pairs, dissimilarity, cut=clusters.cuts[dataset].value).labels()
    near = rng.permutation(near_pairs(len(image_ids), pairs, dissimilarity))
    truth = solution[image_ids].to_numpy(str)
    rows = []
    for answers in ANSWERS:
        some = near[:answers]
        answered = Answered(some, truth[some[:, 0]] == truth[some[:, 1]], np.ones(len(some), bool))
        count = count_individuals(labels, pairs, dissimilarity, experience, clusters.cuts[dataset].companions, answered)
        low, high = count.interval
        one = {"answers": answers, "pairs": len(near), "clusters": count.clusters, "individuals": count.individuals}
        rows.append({**one, "low": low, "high": high})
    return rows


def print_table(rows: pd.DataFrame, by: str | None) -> None:
    """Prints coverage, error and width per number of answers, of each dataset or of all."""
    true = rows["true"]
    measured = rows.assign(
        inside=(rows["low"] <= true) & (true <= rows["high"]),
        error=(rows["individuals"] - true).abs() / true,
        of_clusters=(rows["clusters"] - true).abs() / true,
        width=(rows["high"] - rows["low"]) / true,
    )
    columns = ["inside", "error", "of_clusters", "width", "pairs", "true"]
    table = measured.groupby([*([by] if by else []), "answers"])[columns].mean()
    print("\n" + table.to_string(float_format="%.3f"), flush=True)


def draw(rows: pd.DataFrame, path: Path) -> None:
    plt.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "reid"}  # small files; the same rows give the same bytes
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for dataset, some in rows.groupby("dataset"):
        inside = ((some["low"] <= some["true"]) & (some["true"] <= some["high"])).groupby(some["answers"]).mean()
        error = ((some["individuals"] - some["true"]).abs() / some["true"]).groupby(some["answers"]).mean()
        axes[0].plot(error.index, error, marker="o", label=str(dataset))
        axes[1].plot(inside.index, inside, marker="o", label=str(dataset))
    axes[0].set(xlabel="evenly drawn answers", ylabel="mean error, share of the true number", ylim=0)
    axes[1].set(xlabel="evenly drawn answers", ylabel="true number inside the 90 % interval", ylim=(0.5, 1))
    axes[1].axhspan(0.85, 0.95, color="grey", alpha=0.2)
    axes[0].legend()
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
