"""Two ways of naming the same queries, compared on the same seeds and the same individuals.

    python benchmarks/paired.py ../shared/reid-mini/solution.csv --before old0.csv old1.csv old2.csv \
        --now new0.csv new1.csv new2.csv --of Holstein2025 NyalaData

The submissions of a seed stand at the same place of both lists, each with its matches beside it. Per dataset, and for
the mean of those of `--of`, it prints the share of known queries whose best candidate is right and the score, before,
now, and their difference and ratio with two intervals of 95 %: over seeds (Student's t) and over individuals (the
bootstrap, known and new ones drawn apart, the same in every seed).
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import t

from reid.decision.matches import read_matches_next_to
from reid.decision.metrics import read_solution, read_submission, resampled, score_submission

DRAWS = 1000


class Measured(NamedTuple):
    """A metric of several datasets."""

    values: np.ndarray
    """(seeds, datasets) on all individuals."""
    drawn: np.ndarray
    """(seeds, DRAWS, datasets), draw i of the same individuals in every seed and every way."""

    def mean_of(self, columns: list[int]) -> "Measured":
        """The mean over some of the datasets, as if it were one."""
        return Measured(self.values[:, columns].mean(1, keepdims=True), self.drawn[..., columns].mean(2, keepdims=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("solution", type=Path)
    parser.add_argument("--before", type=Path, nargs="+", required=True)
    parser.add_argument("--now", type=Path, nargs="+", required=True)
    parser.add_argument("--of", nargs="*", default=[], help="datasets whose mean is compared too")
    options = parser.parse_args()
    if len(options.before) != len(options.now):
        parser.error("expected as many submissions before as now")
    solution = read_solution(options.solution)
    datasets = sorted(solution["dataset"].unique())
    print("| | | before | now | difference: over seeds, over individuals | ratio: over seeds, over individuals |")
    print("|---" * 6 + "|")
    for title, measure in (("rank-1", rank1), ("score", score)):
        before, now = (measured(files, solution, measure) for files in (options.before, options.now))
        groups = {dataset: [column] for column, dataset in enumerate(datasets)}
        if options.of:
            groups[f"mean of {' and '.join(options.of)}"] = [datasets.index(dataset) for dataset in options.of]
        groups["all"] = list(range(len(datasets)))
        for name, columns in groups.items():
            print(row(title, name, before.mean_of(columns), now.mean_of(columns)))


def measured(
    files: list[Path],
    solution: pd.DataFrame,
    measure: Callable[[Path, pd.DataFrame], tuple[np.ndarray, np.ndarray]],
) -> Measured:
    """What a way of naming reaches with every seed."""
    values, drawn = zip(*(measure(file, solution) for file in files), strict=True)
    return Measured(np.stack(values), np.stack(drawn))


def score(file: Path, solution: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """The score of a submission by dataset, (D,), and on other individuals, (DRAWS, D)."""
    submission = read_submission(file)
    scores, drawn = score_submission(submission, solution), resampled(submission, solution)
    return np.array([scores[name].score for name in sorted(scores)]), np.stack(
        [drawn[name][:DRAWS, 2] for name in sorted(drawn)], 1
    )


def rank1(file: Path, solution: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """The share of known queries whose best candidate is right, likewise."""
    matches = read_matches_next_to(file, read_submission(file))
    assert matches is not None, f"{file}: expected its matches beside it"
    best = matches[matches["rank"] == 1].set_index("image_id")["candidate"]
    known = solution[~solution["identity"].isin(solution.loc[solution["new_identity"], "identity"])]
    known = known.assign(right=known["image_id"].map(best) == known["identity"])
    values, drawn = [], []
    for number, (_, queries) in enumerate(known.groupby("dataset", sort=True)):
        right, asked = queries.groupby("identity")["right"].agg(["sum", "count"]).to_numpy(float).T
        rows = np.random.default_rng([0, number]).integers(len(asked), size=(DRAWS, len(asked)))
        values.append(right.sum() / asked.sum())
        drawn.append(right[rows].sum(1) / asked[rows].sum(1))
    return np.array(values), np.stack(drawn, 1)


def row(title: str, name: str, before: Measured, now: Measured) -> str:
    """A row of the table."""
    one, other = before.values[:, 0], now.values[:, 0]
    draws_before, draws_now = before.drawn[..., 0].mean(0), now.drawn[..., 0].mean(0)
    gap = f"{(other - one).mean():+.3f} ({over_seeds(other - one)}; {over_draws(draws_now - draws_before)})"
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = f"{other.mean() / one.mean():.2f} ({over_seeds(other / one)}; {over_draws(draws_now / draws_before)})"
    each = [f"{values.mean():.3f} ({', '.join(f'{value:.3f}' for value in values)})" for values in (one, other)]
    return f"| {title} | {name} | {' | '.join(each)} | {gap} | {ratio} |"


def over_seeds(values: np.ndarray) -> str:
    """The 95 % interval of a mean over seeds, in words."""
    if len(values) < 2:
        return "one seed"
    half = t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean() - half:.3f} to {values.mean() + half:.3f}"


def over_draws(values: np.ndarray) -> str:
    """The middle 95 % of what other individuals would have given, in words."""
    low, high = np.nanquantile(values, [0.025, 0.975])
    return f"{low:.3f} to {high:.3f}"


if __name__ == "__main__":
    main()
