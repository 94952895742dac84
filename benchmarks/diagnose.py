"""Does `diagnose` find a planted fault, and stay silent where there is none?

    python benchmarks/diagnose.py [--seeds 20] [--first 0] [--only clean background bursts sides]

For every seed worlds of `tests/planted_world.py`, a clean one and one of each fault; preset `keypoints`, one scorer.
"""

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from harness import machine

from reid.config.presets import PRESETS
from reid.config.settings import with_settings
from reid.data.catalogue import read_catalogue
from reid.decision.artifact import open_weights
from reid.decision.metrics import read_solution
from reid.decision.predict import predict
from reid.diagnose.diagnose import diagnose
from reid.runtime.progress import track
from reid.training.train import train

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from planted_world import FAULTS, draw_planted

QUICK = {
    "calibration.scorers": ("inliers",),
    "calibration.splits": 5,
    "keypoints.size": 192,
    "keypoints.count": 120,
    "matching.iterations": 100,
    "matching.verified": 10,
}
"""Settings of a small world; the preset's own take three times as long."""

FINDS = {"background": "background only", "bursts": "bursts across the split", "sides": "same side and other side"}


def main() -> None:
    """Print a line for each kind of world."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="seed to begin with")
    parser.add_argument("--only", nargs="+", default=["clean", *FAULTS], choices=["clean", *FAULTS])
    options = parser.parse_args()
    print(machine(), flush=True)
    for kind in options.only:
        alarms = []
        for seed in track(range(options.first, options.first + options.seeds), kind):
            alarms.append(alarms_of(seed, "" if kind == "clean" else kind))
            found = sum(FINDS[kind] in names if kind != "clean" else not names for names in alarms)
            others = [name for names in alarms for name in names if name != FINDS.get(kind)]
            what = "silent" if kind == "clean" else "found"
            print(f"{kind}: {what} in {found} of {len(alarms)}; other alarms: {others}", flush=True)


def alarms_of(seed: int, fault: str) -> list[str]:
    """The parts that raise an alarm in one world."""
    with TemporaryDirectory() as temporary:
        data = draw_planted(Path(temporary) / "data", seed, fault)
        catalogue = read_catalogue(data)
        train(catalogue, with_settings(PRESETS["keypoints"], QUICK), Path(temporary) / "weights")
        weights = open_weights(Path(temporary) / "weights")
        matches = predict(catalogue, weights)
        found = diagnose(catalogue, weights, matches, read_solution(data / "solution.csv"), most=48)
        return [part.name for _, part in found.alarms]


if __name__ == "__main__":
    main()
