"""How many animals there are: how often the interval of `reid count` holds the true number, and how wrong it is.

    python benchmarks/count.py ../shared/reid-mini --weights W0 W1 W2

WEIGHTS are folders that `reid train` has made with one seed each. Twice:

- Known animals: of a dataset's known individuals a random part, three to seven tenths, is counted on their photographs
  in one of the pseudo-collections on which `discover` has fitted the cut; the others are what is known. Pair scores are
  real, of models that lack the pair's individuals. Every draw counts other animals, and estimates their density anew.
  The constants of `reid count` were chosen on such draws; what they rest on is printed, too.
- Queries: collections are drawn from the query individuals of each dataset in turn, 8 to all of them, with all their
  photographs. Pair scores and cuts are those of `discover` on the whole dataset, fitted on the database alone. All
  collections of a dataset share one estimate of the density, and the same animals.

DATA has `solution.csv`, which answers for the person. What `discover` returned is kept in `--out`.
"""

import argparse
import pickle
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from harness import machine

from reid.data.catalogue import read_catalogue
from reid.decision.artifact import open_weights
from reid.decision.count import FLOOR, Answered, Experience, count_individuals, experience_of, near_pairs
from reid.decision.cuts import LEAST, Trial, confident_companions
from reid.decision.discover import discover
from reid.decision.discovered import Clusters
from reid.decision.linkage import merge_tree
from reid.decision.reference import companions_of

ANSWERS = (0, 25, 50, 100, 200)
FEWEST = 8
"""Individuals of a collection."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="DATA", type=Path)
    parser.add_argument("--weights", type=Path, nargs="+", required=True)
    parser.add_argument("--collections", type=int, default=200, help="of queries, for each WEIGHTS")
    parser.add_argument("--draws", type=int, default=100, help="of known animals, for each dataset and WEIGHTS")
    parser.add_argument("--out", type=Path, default=Path("build/bench/count"), help="build/bench/count")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    print(machine(), flush=True)
    solution = pd.read_csv(options.data / "solution.csv", dtype=str).set_index("image_id")["identity"]
    rows = []
    for weights in options.weights:
        kept = options.out / f"{weights.name}.pkl"
        if not kept.exists():
            found = discover(read_catalogue(options.data), open_weights(weights), use_answers=False)
            kept.write_bytes(pickle.dumps(found))
        clusters = pickle.loads(kept.read_bytes())
        known, queries = known_animals(clusters, options.draws), counted(clusters, solution, options.collections)
        rows += [known.assign(weights=weights.name, of="known"), queries.assign(weights=weights.name, of="queries")]
        print_densities(clusters, solution, weights.name)
    table = pd.concat(rows)
    table.to_csv(options.out / "count.csv", index=False)
    print_constants(table[table["of"] == "known"].drop_duplicates(["weights", "dataset", "collection"]))
    for of, some in table.groupby("of"):
        print(f"\n{of}")
        for by in ([], ["dataset"], ["weights", "dataset"]):
            print_table(some, by)
    draw(table, options.out / "count.svg")


def known_animals(clusters: Clusters, draws: int) -> pd.DataFrame:
    """Counts a part of the known animals with what the others say, a row for each number of answers."""
    rows = []
    for dataset, trials in clusters.trials.items():
        names = np.unique(np.concatenate([trial.labels for trial in trials]))
        for number in range(draws):
            rng = np.random.default_rng([number, 10])
            chosen = rng.permutation(names)[: round(rng.uniform(0.3, 0.7) * len(names))]
            trial = trials[rng.integers(len(trials))]
            live = part_of(trial, np.isin(trial.labels, chosen))
            known = [part_of(one, ~np.isin(one.labels, chosen)) for one in trials]
            companions = estimated_companions(known, live)
            about = {
                "dataset": dataset,
                "collection": number,
                "true": len(np.unique(live.labels)),
                "known": len(names) - len(chosen),
            }
            about |= {"companions": companions_of(live.labels), "estimated": companions}
            rows += [{**about, **row} for row in count_collection(live, experience_of(known), companions, rng)]
    return pd.DataFrame(rows)


def part_of(trial: Trial, mask: np.ndarray) -> Trial:
    """Returns some photographs of a pseudo-collection, (N,) bool."""
    among, place = mask[trial.pairs].all(1), np.cumsum(mask) - 1
    return Trial(trial.labels[mask], place[trial.pairs[among]], trial.dissimilarity[among], trial.cut)


def estimated_companions(known: Sequence[Trial], live: Trial) -> float:
    """Returns the density as `discover` estimates it, of photographs next to those that are known."""
    size, right, wrong, companions = len(live.labels), 0.0, 0.0, 0.0
    for one in known:
        same = one.labels[one.pairs[:, 0]] == one.labels[one.pairs[:, 1]]
        right += confident_companions(len(one.labels), one.dissimilarity[same]) / len(known)
        wrong += confident_companions(len(one.labels), one.dissimilarity[~same]) / len(known)
        companions += companions_of(one.labels) / len(known)
    found = confident_companions(size, live.dissimilarity) - wrong
    return float(np.clip(found * companions / max(1e-9, right), LEAST, max(LEAST, size - 1)))


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
        live = collection_of(clusters, dataset, own, solution)
        found = count_collection(live, experiences[dataset], clusters.cuts[dataset].companions, rng)
        rows += [{"collection": number, "dataset": dataset, "true": len(chosen), **row} for row in found]
    return pd.DataFrame(rows)


def collection_of(clusters: Clusters, dataset: str, image_ids: list[str], solution: pd.Series) -> Trial:
    """Returns some photographs of a dataset with their pairs."""
    row_of = {image_id: row for row, image_id in enumerate(image_ids)}
    ends = pd.DataFrame({name: clusters.pairs[name].map(row_of) for name in ("image_id_a", "image_id_b")}).dropna()
    dissimilarity = clusters.pairs.loc[ends.index, "dissimilarity"].to_numpy(float)
    pairs = np.sort(ends.to_numpy(np.int64), axis=1)
    return Trial(solution[image_ids].to_numpy(str), pairs, dissimilarity, clusters.cuts[dataset].value)


def count_collection(
    live: Trial, experience: Experience | None, companions: float, rng: np.random.Generator
) -> list[dict]:
    """Counts one collection with the first few of its near pairs answered, in random order."""
    size, truth = len(live.labels), live.labels
    labels = merge_tree(size, live.pairs, live.dissimilarity, cut=live.cut).labels()
    near = rng.permutation(near_pairs(size, live.pairs, live.dissimilarity))
    rows = []
    for answers in ANSWERS:
        some = near[:answers]
        answered = Answered(some, truth[some[:, 0]] == truth[some[:, 1]], np.ones(len(some), bool))
        count = count_individuals(labels, live.pairs, live.dissimilarity, experience, companions, answered)
        low, high = count.interval
        one = {"answers": answers, "pairs": len(near), "clusters": count.clusters, "individuals": count.individuals}
        rows.append({**one, "low": low, "high": high})
    return rows


def print_densities(clusters: Clusters, solution: pd.Series, weights: str) -> None:
    """Prints the density of the queries, estimated and true, and how clusters change among more photographs."""
    for dataset, cut in clusters.cuts.items():
        own = clusters.photographs["image_id"][clusters.photographs["dataset"] == dataset]
        true = companions_of(solution[own].to_numpy(str))
        print(f"{weights}, {dataset}: companions {cut.companions:.2f}, true {true:.2f}, photographs {len(own)}")
        ladder = zip(*ladder_of(clusters.trials[dataset]), strict=True)
        shares, pairs = (", ".join(f"{value:.3f}" for value in values) for values in ladder)
        size = np.mean([len(trial.labels) for trial in clusters.trials[dataset]])
        print(
            f"pseudo-collections of {size:.0f}, of a quarter, half and all of their animals: shares {shares}; ", end=""
        )
        print(f"near pairs of a photograph {pairs}", flush=True)


def ladder_of(trials: Sequence[Trial]) -> list[tuple[float, float]]:
    """Returns an animal's mean share of the clusters and a photograph's near pairs of one animal, in pseudo-collections
    of a quarter, half and all of the animals."""
    rng, means = np.random.default_rng(11), []
    for parts in (4, 2, 1):
        some = []
        for trial in trials:
            names = rng.permutation(np.unique(trial.labels))
            some += [part_of(trial, np.isin(trial.labels, own)) for own in np.array_split(names, parts)]
        seen = experience_of(some)
        assert seen is not None
        means.append((float(seen.shares.mean()), float(seen.near.sum() / seen.photographs.sum())))
    return means


def print_constants(draws: pd.DataFrame) -> None:
    """Prints by how much estimated densities are off, next to what one over the animals, counted and known, says."""
    off = np.log((draws["estimated"] + FLOOR) / (draws["companions"] + FLOOR))
    units = off / np.sqrt(1 / draws["true"] + 1 / draws["known"])
    table = pd.DataFrame({"off": off**2, "in units": units**2}).groupby(draws["dataset"]).mean() ** 0.5
    print("\nroot mean square of the density's logarithm\n" + table.to_string(float_format="%.2f"), flush=True)


def print_table(rows: pd.DataFrame, by: Sequence[str]) -> None:
    """Prints coverage, error and width per number of answers and what else is named."""
    true = rows["true"]
    measured = rows.assign(
        inside=(rows["low"] <= true) & (true <= rows["high"]),
        error=(rows["individuals"] - true).abs() / true,
        of_clusters=(rows["clusters"] - true).abs() / true,
        width=(rows["high"] - rows["low"]) / true,
    )
    columns = ["inside", "error", "of_clusters", "width", "pairs", "true"]
    table = measured.groupby([*by, "answers"])[columns].mean()
    print("\n" + table.to_string(float_format="%.3f"), flush=True)


def draw(rows: pd.DataFrame, path: Path) -> None:
    plt.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "reid"}  # small files; the same rows give the same bytes
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    colours = {dataset: f"C{place}" for place, dataset in enumerate(sorted(rows["dataset"].unique()))}
    for (of, dataset), some in rows.groupby(["of", "dataset"]):
        inside = ((some["low"] <= some["true"]) & (some["true"] <= some["high"])).groupby(some["answers"]).mean()
        error = ((some["individuals"] - some["true"]).abs() / some["true"]).groupby(some["answers"]).mean()
        style = {"color": colours[dataset], "marker": "o", "linestyle": "--" if of == "known" else "-"}
        axes[0].plot(error.index, error, **style, label=f"{dataset}, {'known animals' if of == 'known' else of}")
        axes[1].plot(inside.index, inside, **style)
    axes[0].set(xlabel="evenly drawn answers", ylabel="mean error, share of the true number", ylim=0)
    axes[1].set(xlabel="evenly drawn answers", ylabel="true number inside the 90 % interval", ylim=(0.5, 1))
    axes[1].axhspan(0.85, 0.95, color="grey", alpha=0.2)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", fontsize="small")
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
