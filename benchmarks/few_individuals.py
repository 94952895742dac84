"""The threshold on few individuals: small collections drawn out of a larger one, by today's rule and by the older one.

    python benchmarks/few_individuals.py DATA build/frozen-0 [--collections 200] [--half 1]

DATA is a folder with `solution.csv`. Queries and pseudo-queries are matched once, with a shortlist of everybody, and
kept as `WEIGHTS.few.pickle`. A collection is 10 to 40 individuals of one dataset, known and new ones in the dataset's
proportion; pairs with others are left out. Scorer and threshold are fitted on its pseudo-queries, and tried on its
queries. The individuals of each dataset are divided into halves: rules were compared on the first (0), and the one that
was chosen is confirmed on the second (1). "Of oracle" is the score at the fitted threshold over that at the best in
hindsight; the worst tenth is that of each rule. The last lines say how often intervals hold what they promise.
"""

import argparse
import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from decisions import galleries_of, live_queries, of_individuals
from harness import machine

from reid.config.recipe import SCORERS, Recipe
from reid.config.settings import with_settings
from reid.data.catalogue import read_catalogue
from reid.decision.artifact import open_weights
from reid.decision.calibrate import fit_calibrations, pseudo_query_pairs
from reid.decision.calibration import Calibration
from reid.decision.open_set import OpenSetQueries
from reid.decision.pseudo_queries import PseudoQueryPairs
from reid.decision.thresholds import sweep

CHOSEN = tuple(scorer for scorer in SCORERS if scorer != "ensemble")

RULES: dict[str, dict[str, object]] = {
    "no prior": {"calibration.prior": 0.0, "calibration.scorers": CHOSEN},
    "one prior individual": {"calibration.prior": 1.0, "calibration.scorers": CHOSEN},
    "likewise, an ensemble competing": {"calibration.prior": 1.0, "calibration.scorers": SCORERS},
    "likewise, the ensemble against distance": {
        "calibration.prior": 1.0,
        "calibration.scorers": ("distance", "ensemble"),
    },
}

EVERYBODY: Mapping[str, object] = {"matching.shortlist": 1000, "matching.verified": 100}
"""So that a collection's individuals are compared whoever else is in the gallery."""


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="DATA", type=Path)
    parser.add_argument("weights", metavar="WEIGHTS", type=Path)
    parser.add_argument("--collections", type=int, default=200)
    parser.add_argument("--half", type=int, default=1, choices=(0, 1))
    options = parser.parse_args()
    print(machine(), flush=True)
    matched = matched_once(options.data, options.weights)
    rows = pd.DataFrame(measured(matched, options.collections, options.half))
    rows = rows[rows["oracle"] > 0]
    print(table(rows))
    print(coverage(rows))


@dataclass(frozen=True)
class Matched:
    """What is matched once.

    Attributes:
        pseudo, live: by dataset, the pseudo-queries and the queries with their pairs.
        names: by dataset, the individuals in the order of the pairs' labels.
        recipe: the weights'.
    """

    pseudo: dict[str, PseudoQueryPairs]
    live: dict[str, PseudoQueryPairs]
    names: dict[str, np.ndarray]
    recipe: Recipe


def matched_once(data: Path, folder: Path) -> Matched:
    """Return the pairs of a weights folder, from its file where it has one."""
    file = folder.with_name(f"{folder.name}.few.pickle")
    if not file.exists():
        catalogue, weights = read_catalogue(data), open_weights(folder)
        recipe = with_settings(weights.recipe, EVERYBODY)
        galleries = galleries_of(weights)
        pseudo = {name: pseudo_query_pairs(catalogue, folder, name, recipe) for name in galleries}
        live = live_queries(catalogue, replace(weights, recipe=recipe), galleries)
        names = {name: gallery.individuals for name, gallery in galleries.items()}
        file.write_bytes(pickle.dumps(Matched(pseudo, live, names, weights.recipe)))
    matched: Matched = pickle.loads(file.read_bytes())
    return matched


def measured(matched: Matched, collections: int, half: int) -> Iterator[dict[str, Any]]:
    """Yield a row for each rule and collection."""
    for number in range(collections):
        dataset = sorted(matched.names)[number % len(matched.names)]
        rng = np.random.default_rng([4 + half, number])
        known, new = drawn(*halves(matched, dataset)[half], rng)
        pseudo = restricted(matched.pseudo[dataset], known, matched.names[dataset])
        live = restricted(matched.live[dataset], np.concatenate([known, new]), matched.names[dataset])
        for rule, settings in RULES.items():
            recipe = with_settings(matched.recipe, settings)
            fitted = fit_calibrations({dataset: pseudo}, recipe)[dataset]
            dissimilarity = fitted.scorer.dissimilarity(live.pairs.scaled(fitted.unit))
            row = reached(live.answered(dissimilarity), fitted)
            yield {"number": number, "dataset": dataset, "rule": rule, "known": len(known), "new": len(new), **row}


def halves(matched: Matched, dataset: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """The known and the new individuals of a dataset, in two halves."""
    live, known = matched.live[dataset], np.unique(matched.names[dataset])
    new = np.setdiff1d(live.individual[live.new], known)
    rng = np.random.default_rng([7, len(known)])
    known, new = rng.permutation(known), rng.permutation(new)
    return [(known[half::2], new[half::2]) for half in (0, 1)]


def drawn(known: np.ndarray, new: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """10 to 40 of the individuals, known and new ones in their proportion."""
    size = int(rng.integers(10, min(40, len(known) + len(new)) + 1))
    of_known = round(size * len(known) / (len(known) + len(new)))
    return rng.permutation(known)[:of_known], rng.permutation(new)[: size - of_known]


def restricted(queries: PseudoQueryPairs, individuals: np.ndarray, names: np.ndarray) -> PseudoQueryPairs:
    """The queries of some individuals, and their pairs with these."""
    queries = of_individuals(queries, np.isin(queries.individual, individuals))
    rows = np.isin(names[queries.pairs.individual], individuals)
    return replace(queries, pairs=queries.pairs.of(rows), is_match=queries.is_match[rows])


def reached(live: OpenSetQueries, fitted: Calibration) -> dict[str, Any]:
    """What the fitted threshold scores, what the best one would have scored, and what was expected."""
    swept, threshold = sweep(live), fitted.threshold
    at = swept.at(np.array([threshold.value]))
    return {
        "score": float(np.sqrt(at.baks[0] * at.baus[0])),
        "oracle": float(np.sqrt(swept.baks * swept.baus).max()),
        "expected": threshold.score,
        "low": threshold.interval[0] if threshold.interval else np.nan,
        "high": threshold.interval[1] if threshold.interval else np.nan,
    }


def table(rows: pd.DataFrame) -> str:
    """A line for each rule: over all collections, the worst tenth, and by dataset."""
    datasets = sorted(set(rows["dataset"]))
    heading = f"{rows['number'].nunique()} collections | mean score | of oracle | worst tenth | 0"
    lines = [
        f"| {heading} | {' | '.join(datasets)} |",
        "|---" * (5 + len(datasets)) + "|",
    ]
    for rule, own in rows.groupby("rule", sort=False):
        share = (own["score"] / own["oracle"]).sort_values()
        worst = share.head(max(1, len(share) // 10))
        by = [f"{share[own['dataset'] == name].mean():.3f}" for name in datasets]
        cells = [f"{own['score'].mean():.3f}", f"{share.mean():.3f}", f"{worst.mean():.3f}", str((share < 0.01).sum())]
        lines.append(f"| {rule} | {' | '.join([*cells, *by])} |")
    return "\n".join(lines)


def coverage(rows: pd.DataFrame) -> str:
    """How often the score on the queries lies in the interval that calibration prints, which says nine of ten."""
    lines = []
    for rule, own in rows[rows["low"].notna()].groupby("rule", sort=False):
        inside = own["score"].between(own["low"] - 1e-9, own["high"] + 1e-9)
        lines.append(
            f"{rule}: the score lies in the expected range in {inside.mean():.0%} of {len(own)} collections, below it "
            f"in {(own['score'] < own['low'] - 1e-9).mean():.0%}; expected {own['expected'].mean():.3f}, "
            f"scored {own['score'].mean():.3f}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
