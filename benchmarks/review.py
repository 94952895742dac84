"""What a person's answers are worth: the adjusted Rand index of `discover`, and the score of the names that `predict`
gives, against the number of answered pairs.

    python benchmarks/review.py ../shared/reid-mini --weights W0 W1 W2

WEIGHTS are folders that `reid train` has made with one seed each. `solution.csv` of DATA is the person, who may err in
some of the answers; an answer that contradicts those before it is left out, as `reid review --apply` refuses it. The
pairs come in three orders:

- page: those of one page of `reid review`, in its order, without the evenly drawn ones;
- rounds: the same, with a new page after every 25 answers (`reid review --apply`, then `reid review` again);
- drawn: evenly from the pairs of each photograph and its five nearest, the mean of `DRAWS` draws.

For names (`reid review --mode names`) the pairs are a query and a known photograph: a name that is confirmed is the
answer, and an individual that is refused is no candidate of the query any more.

Pair scores and candidates are computed once for each folder and kept in `--out`; what is simulated is only what is made
of the answers.
"""

import argparse
import pickle
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from harness import machine
from matplotlib.figure import Figure
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from reid.data.catalogue import NEW_INDIVIDUAL, read_catalogue
from reid.data.names import resolve_names
from reid.decision.artifact import open_weights
from reid.decision.clusters import adjusted_rand_index
from reid.decision.discover import discover
from reid.decision.discovered import Clusters
from reid.decision.matches import Matches
from reid.decision.metrics import overall, read_solution, score_submission
from reid.decision.predict import predict
from reid.review.collection import Collection, collection_of
from reid.review.questions import ask_about_clusters, ask_about_names

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


class AnsweredNames:
    """The candidates of a folder's queries, and what was answered so far."""

    def __init__(self, matches: Matches, known: dict[str, list[str]]) -> None:
        self.matches, self.known = matches, known
        self.confirmed: dict[str, str] = {}
        self.pairs: set[Pair] = set()

    def add(self, pair: Pair, same: bool) -> None:
        candidates = self.matches.candidates
        own = candidates["image_id"] == pair[0]
        names = candidates.loc[own & (candidates["candidate_image_id"] == pair[1]), "candidate"]
        if same and len(names):
            self.confirmed[pair[0]] = str(names.iloc[0])
        elif len(names):
            left = candidates[~(own & candidates["candidate"].isin(names))].copy()
            left["rank"] = left.groupby("image_id").cumcount() + 1
            self.matches = replace(self.matches, queries=answered_by(self.matches.queries, left), candidates=left)
        self.pairs.add((min(pair), max(pair)))

    def proposals(self, most: int) -> list[Pair]:
        candidates = self.matches.candidates
        open_ones = candidates[~candidates["image_id"].isin(list(self.confirmed))]
        matches = replace(self.matches, candidates=open_ones)
        return [question.pair for question in ask_about_names(matches, self.known, self.pairs, most)]

    def score(self, solution: pd.DataFrame) -> float:
        answers = self.matches.submission
        names = [self.confirmed.get(*pair) for pair in zip(answers["image_id"], answers["identity"], strict=True)]
        return overall(score_submission(answers.assign(identity=names), solution))


def answered_by(queries: pd.DataFrame, candidates: pd.DataFrame) -> pd.DataFrame:
    """Answers each query by its first candidate, if that is below the threshold."""
    first = candidates[candidates["rank"] == 1].set_index("image_id").reindex(queries["image_id"])
    named = first["dissimilarity"].to_numpy(float) < queries["threshold"].to_numpy(float)
    return queries.assign(answer=np.where(named, first["candidate"].to_numpy(object), NEW_INDIVIDUAL))


def simulate_names(
    matches: Matches, data: Path, solution: pd.DataFrame, person: Person, order: str, seed: int
) -> list[float]:
    """Returns the score after each of `ANSWERS`."""
    table = read_catalogue(data).database.table
    known = {str(name): list(ids) for name, ids in table.groupby("identity")["image_id"]}
    answered, scores = AnsweredNames(matches, known), []
    pairs = matches.candidates[["image_id", "candidate_image_id"]].to_numpy(str).tolist()
    drawn = [(pairs[place][0], pairs[place][1]) for place in np.random.default_rng([seed, 10]).permutation(len(pairs))]
    waiting = drawn if order == "drawn" else answered.proposals(ANSWERS[-1])
    for count in range(ANSWERS[-1] + 1):
        if count in ANSWERS:
            scores.append(answered.score(solution))
        if order == "rounds" and count % ROUND == 0:
            waiting = answered.proposals(ROUND)
        if waiting and count < ANSWERS[-1]:
            pair = waiting.pop(0)
            answered.add(pair, person.says_same(pair))
    return scores


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


def matches_of(data: Path, weights: Path, file: Path) -> Matches:
    if not file.exists():
        opened = open_weights(weights)
        found = predict(resolve_names(read_catalogue(data), opened.recipe, opened.datasets), opened)
        file.write_bytes(pickle.dumps(found))
    matches = pickle.loads(file.read_bytes())
    assert isinstance(matches, Matches)
    return matches


def tell_names(options: argparse.Namespace, truth: dict[str, str]) -> None:
    """Prints what so many answers about names do to the score, mean of the seeds, their lowest and highest."""
    solution = read_solution(options.data / "solution.csv")
    truth = truth | dict(read_catalogue(options.data).database.table[["image_id", "identity"]].to_numpy(str).tolist())
    print(f"\nscore of names\n\n| order | errs in | {' | '.join(map(str, ANSWERS))} |\n|{'---|' * (len(ANSWERS) + 2)}")
    for order in ("page", "rounds", "drawn"):
        for error in ERRORS:
            seeds = []
            for seed, folder in enumerate(options.weights):
                matches = matches_of(options.data, folder, options.out / f"{seed}.names.pkl")
                draws = range(DRAWS if error or order == "drawn" else 1)
                runs = [
                    simulate_names(matches, options.data, solution, Person(truth, error, draw), order, draw)
                    for draw in draws
                ]
                seeds.append(np.mean(runs, 0))
            of = np.array(seeds)
            cells = [f"{a:.3f} ({b:.3f} to {c:.3f})" for a, b, c in zip(of.mean(0), of.min(0), of.max(0), strict=True)]
            print(f"| {order} | {error:.0%} | {' | '.join(cells)} |", flush=True)


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
    tell_names(options, truth)
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
