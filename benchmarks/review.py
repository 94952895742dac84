"""What a person's answers are worth: the adjusted Rand index of `discover` against the number of answered pairs.

    python benchmarks/review.py ../shared/reid-mini --weights W0 W1 W2

WEIGHTS are folders that `reid train` has made with one seed each. `solution.csv` of DATA is the person, who may err in
some of the answers; an answer that contradicts those before it is left out, as `reid review --apply` refuses it. The
pairs come in three orders:

- page: those of one page of `reid review`, in its order, without the evenly drawn ones;
- rounds: the same, with a new page after every 25 answers (`reid review --apply`, then `reid review` again);
- drawn: evenly from the pairs of each photograph and its five nearest, the mean of `DRAWS` draws.

Pair scores are computed once for each folder and kept in `--out`; what is simulated is only which pairs are linked.
"""

import argparse
import pickle
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from harness import machine
from matplotlib.figure import Figure
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from reid.data.catalogue import read_catalogue
from reid.decision.artifact import open_weights
from reid.decision.clusters import adjusted_rand_index
from reid.decision.discover import discover
from reid.decision.discovered import Clusters
from reid.review.collection import Collection, collection_of
from reid.review.questions import ask_about_clusters

ANSWERS = (0, 25, 50, 100, 200, 400)

ROUND = 25
"""Answers between two pages."""

ERRORS = (0.0, 0.02, 0.05)

DRAWS = 5
"""Orders of the evenly drawn pairs, and persons who err, for each folder."""

COUNTED = ("Holstein2025", "NyalaData")
"""Datasets whose mean is told: the lions have 59 photographs, a few pairs of which decide everything."""

Pair = tuple[str, str]


class Person:
    """Answers from the solution, and errs in a share of the pairs."""

    def __init__(self, truth: dict[str, str], error: float, seed: int) -> None:
        self.truth, self.error, self.rng = truth, error, np.random.default_rng([seed, 9])

    def says_same(self, pair: Pair) -> bool:
        same = self.truth[pair[0]] == self.truth[pair[1]]
        return same != (self.rng.random() < self.error)


class Answered:
    """The datasets of a folder, and what was answered so far."""

    def __init__(self, collections: Sequence[Collection]) -> None:
        self.bare = collections
        self.rows = {
            str(name): (place, row) for place, one in enumerate(collections) for row, name in enumerate(one.image_ids)
        }
        self.links: list[tuple[list[list[int]], list[list[int]]]] = [([], []) for _ in collections]
        self.pairs: set[Pair] = set()
        self.contradictions = 0

    def add(self, pair: Pair, same: bool) -> None:
        (place, one), (_, other) = self.rows[pair[0]], self.rows[pair[1]]
        must, cannot = self.links[place]
        links = must if same else cannot
        links.append(sorted((one, other)))
        if not self._consistent(place):
            links.pop()
            self.contradictions += 1
        self.pairs.add((min(pair), max(pair)))

    def _consistent(self, place: int) -> bool:
        collection = self._with_links(place)
        size, must = len(collection), collection.must
        groups = connected_components(coo_array((np.ones(len(must)), tuple(must.T)), (size, size)), directed=False)[1]
        return not (groups[collection.cannot[:, 0]] == groups[collection.cannot[:, 1]]).any()

    def _with_links(self, place: int) -> Collection:
        must, cannot = (np.array(some, np.int64).reshape(-1, 2) for some in self.links[place])
        return self.bare[place].with_links(must, cannot)

    def collections(self) -> list[Collection]:
        return [self._with_links(place) for place in range(len(self.bare))]

    def proposals(self, most: int) -> list[Pair]:
        questions = ask_about_clusters(self.collections(), defaultdict(str), self.pairs, most)
        return [question.pair for question in questions]


class Run(NamedTuple):
    """The index of each dataset after each of `ANSWERS`."""

    reached: np.ndarray
    """(len(ANSWERS), datasets)"""
    contradictions: int


def simulate(collections: Sequence[Collection], person: Person, order: str, seed: int) -> Run:
    answered, index = Answered(collections), []
    waiting = drawn_pairs(collections, seed) if order == "drawn" else answered.proposals(ANSWERS[-1])
    for count in range(ANSWERS[-1] + 1):
        if count in ANSWERS:
            index.append([index_of(one, person.truth) for one in answered.collections()])
        if order == "rounds" and count % ROUND == 0:
            waiting = answered.proposals(ROUND)
        if waiting and count < ANSWERS[-1]:
            pair = waiting.pop(0)
            answered.add(pair, person.says_same(pair))
    return Run(np.array(index), answered.contradictions)


def drawn_pairs(collections: Sequence[Collection], seed: int) -> list[Pair]:
    pairs = [tuple(pair) for one in collections for pair in one.image_ids[one.candidate_pairs()].tolist()]
    order = np.random.default_rng([seed, 10]).permutation(len(pairs))
    return [(pairs[place][0], pairs[place][1]) for place in order]


def index_of(collection: Collection, truth: dict[str, str]) -> float:
    return adjusted_rand_index([truth[name] for name in collection.image_ids], collection.labels.tolist())


def clusters_of(data: Path, weights: Path, file: Path) -> Clusters:
    if not file.exists():
        found = discover(read_catalogue(data), open_weights(weights))
        file.write_bytes(pickle.dumps(found))
    clusters = pickle.loads(file.read_bytes())
    assert isinstance(clusters, Clusters)
    return clusters


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="DATA", type=Path)
    parser.add_argument("--weights", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, default=Path("build/bench/review"), help="build/bench/review")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    solution = pd.read_csv(options.data / "solution.csv", dtype=str)
    truth = dict(zip(solution["image_id"], solution["identity"], strict=True))
    print(machine(), flush=True)
    rows = []
    for seed, folder in enumerate(options.weights):
        clusters = clusters_of(options.data, folder, options.out / f"{seed}.pkl")
        collections = [collection_of(clusters, dataset) for dataset in clusters.cuts]
        for order, error in [
            *(("drawn", error) for error in ERRORS),
            *((o, e) for o in ("page", "rounds") for e in ERRORS),
        ]:
            draws = DRAWS if error or order == "drawn" else 1
            for draw in range(draws):
                run = simulate(collections, Person(truth, error, draw), order, draw)
                for count, index in zip(ANSWERS, run.reached.tolist(), strict=True):
                    of = dict(zip(clusters.cuts, index, strict=True))
                    rows.append({"seed": seed, "order": order, "error": error, "draw": draw, "answers": count, **of})
                    rows[-1]["mean"] = np.mean([of[name] for name in COUNTED])
                    rows[-1]["contradictions"] = run.contradictions
    table = pd.DataFrame(rows)
    table.to_csv(options.out / "review.csv", index=False)
    tell(table)
    draw_plot(table, Path("benchmarks/plots/review.svg"))


def tell(table: pd.DataFrame) -> None:
    """Prints the index of each seed, and what so many answers gain in the mean."""
    for error in ERRORS:
        print(f"\nerrs in {error:.0%}\n\n| order | seed | {' | '.join(map(str, ANSWERS))} |")
        print(f"|{'---|' * (len(ANSWERS) + 2)}")
        for order in ("page", "rounds", "drawn"):
            own = table[(table["order"] == order) & (table["error"] == error)]
            for name, part in [*own.groupby("seed"), ("mean", own)]:
                means = part.groupby("answers")["mean"].mean()
                print(f"| {order} | {name} | {' | '.join(f'{means[count]:.3f}' for count in ANSWERS)} |")
    told = table[table["answers"] == ANSWERS[-1]].groupby(["error", "order"])["contradictions"].mean()
    print(f"\nanswers left out because they contradict others, of {ANSWERS[-1]}:\n{told.to_string()}")
    at = table[(table["error"] == 0) & (table["answers"] == 100)]
    print(f"\nby dataset after 100 answers:\n{at.groupby('order')[list(COUNTED)].mean().to_string()}")


COLOURS = {"rounds": "#2f6f8f", "page": "#2a9d6f", "drawn": "#c2a24a"}


def draw_plot(table: pd.DataFrame, path: Path) -> None:
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.add_subplot()
    words = {"rounds": "proposed, a page every 25", "page": "proposed, one page", "drawn": "evenly drawn"}
    for order, colour in COLOURS.items():
        for error, style in zip(ERRORS, ("-", "--", ":"), strict=True):
            own = table[(table["order"] == order) & (table["error"] == error)]
            by_seed = own.groupby(["answers", "seed"])["mean"].mean().unstack()
            axes.plot(
                by_seed.index, by_seed.mean(axis=1), style, color=colour, label=words[order] if not error else None
            )
            if not error:
                axes.fill_between(
                    by_seed.index, by_seed.min(axis=1), by_seed.max(axis=1), color=colour, alpha=0.15, linewidth=0
                )
    axes.set_xlabel("answered pairs (dashed: 2 % of them wrong, dotted: 5 %; band: three seeds)")
    axes.set_ylabel("adjusted Rand index")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
