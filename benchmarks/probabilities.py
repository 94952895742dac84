"""How far the probability of the first candidate is from the share that is right, before and after it is fitted.

    python benchmarks/probabilities.py DATA WEIGHTS [--out build/bench/probabilities.svg]

DATA is a folder with `solution.csv`. Before: one minus the dissimilarity, where the scorer gives probabilities, else
none, which counts as 0. All datasets' queries together, five bins of equal count. "Base rate" is the Brier score of one
probability for all.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from harness import machine

from reid.data.catalogue import read_catalogue
from reid.decision.artifact import open_weights
from reid.decision.calibration import load_calibrations
from reid.decision.decide import decide
from reid.decision.metrics import read_solution
from reid.decision.predict import predict
from reid.report.reliability import Reliability, reliability_of


def main() -> None:
    """Print a line for each way, and draw both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="DATA", type=Path)
    parser.add_argument("weights", metavar="WEIGHTS", type=Path)
    parser.add_argument("--out", type=Path, default=Path("build/bench/probabilities.svg"))
    options = parser.parse_args()
    print(machine(), flush=True)
    weights, solution = open_weights(options.weights), read_solution(options.data / "solution.csv")
    calibrations = load_calibrations(weights)
    matches = predict(read_catalogue(options.data), weights)
    found = {}
    for way in ("before", "after"):
        used = {name: one if way == "after" else replace(one, probability=None) for name, one in calibrations.items()}
        decided = decide(matches.queries, matches.candidates, used, matches.route)
        if one := reliability_of(decided.candidates, solution):
            figures = f"ECE {one.error:.3f}, Brier {one.brier:.3f}, base rate {one.base:.3f}"
            print(f"{way}: {figures}, {one.queries} queries", flush=True)
            found[way] = one
    draw(found, options.out)


def draw(found: dict[str, Reliability], path: Path) -> None:
    plt.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "reid"}  # small files; the same rows give the same bytes
    figure, axes = plt.subplots(figsize=(4.5, 4), layout="constrained")
    axes.plot([0, 1], [0, 1], color="0.7")
    for way, one in found.items():
        axes.plot(one.said, one.right, "o-", label=f"{way}: ECE {one.error:.3f}, Brier {one.brier:.3f}")
    axes.set(xlabel="probability of the first candidate", ylabel="share that is right", xlim=(0, 1), ylim=(0, 1))
    axes.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
