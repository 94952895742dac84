"""How far the probability of the first candidate is from the share that is right, before and after it is fitted.

    python benchmarks/probabilities.py DATA build/frozen-0 [--plot benchmarks/plots/probabilities.svg]

DATA is a folder with `solution.csv`. The weights are copied and calibrated twice, by what the scorer says and fitted;
all datasets' queries together, five bins of equal count. "Base rate" is the Brier score of one probability for all.
"""

import argparse
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from harness import machine

from reid.config.settings import with_settings
from reid.data.catalogue import read_catalogue
from reid.decision.artifact import open_weights
from reid.decision.calibrate import calibrate_again
from reid.decision.metrics import read_solution
from reid.decision.predict import predict
from reid.diagnose.diagnose import expected_calibration_error


def main() -> None:
    """Print a line for each way, and draw both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="DATA", type=Path)
    parser.add_argument("weights", metavar="WEIGHTS", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    print(machine(), flush=True)
    figure, axes = plt.subplots(figsize=(4.5, 4), layout="constrained")
    axes.plot([0, 1], [0, 1], color="0.7")
    with TemporaryDirectory() as temporary:
        folder = Path(temporary) / "weights"
        shutil.copytree(options.weights, folder)
        for way in ("fitted", "scorer"):
            probability, right = answered(options.data, folder, way)
            error, brier = expected_calibration_error(probability, right), float(((probability - right) ** 2).mean())
            base = float(right.mean() * (1 - right.mean()))
            print(f"{way}: ECE {error:.3f}, Brier {brier:.3f}, base rate {base:.3f}, {len(right)} queries", flush=True)
            bins = np.array_split(np.argsort(probability, kind="stable"), 5)
            axes.plot(
                [probability[rows].mean() for rows in bins], [right[rows].mean() for rows in bins], "o-", label=way
            )
    axes.set(xlabel="probability of the first candidate", ylabel="share that is right", xlim=(0, 1), ylim=(0, 1))
    axes.legend(frameon=False)
    if options.plot:
        figure.savefig(options.plot, metadata={"Date": None})


def answered(data: Path, folder: Path, way: str) -> tuple[np.ndarray, np.ndarray]:
    """The probability of each query's first candidate, 0 where there is none, and whether it is right."""
    catalogue, weights = read_catalogue(data), open_weights(folder)
    recipe = with_settings(weights.recipe, {"calibration.probability": way, "calibration.prior": 1.0})
    matches = predict(catalogue, calibrate_again(catalogue, weights, recipe))
    first = matches.candidates[matches.candidates["rank"] == 1].set_index("image_id")
    truth = read_solution(data / "solution.csv").set_index("image_id")
    first = first.reindex(truth.index)
    right = (first["candidate"] == truth["identity"]).to_numpy(bool)
    return first["probability"].fillna(0).to_numpy(float), right


if __name__ == "__main__":
    main()
