"""How soon the bundled script opens its first photograph, against `python -m reid predict` with the same weights.

    python benchmarks/kernel_start.py DATA WEIGHTS [--rounds 7]

Both start from nothing, in turns, and are ended by the first process of theirs that opens a photograph. Where there is
no GPU the script spends some of that time on finding out how long the run will take, as it does on Kaggle.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import harness
from harness import Contest, machine, measure

from reid.decision.artifact import MANIFEST, open_weights

ROOT = Path(__file__).resolve().parents[1]
END_AT_THE_FIRST_PHOTOGRAPH = """\
import os, signal, sys

def look(event, arguments):  # an audit hook (PEP 578); worker processes have it too, because they load this file
    if event == "open" and str(arguments[0]).lower().endswith((".jpg", ".jpeg", ".png")):
        os.killpg(0, signal.SIGKILL)

sys.addaudithook(look)
"""


def main() -> None:
    """Measures and prints one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a data folder with sample_submission.csv")
    parser.add_argument("weights", type=Path, help="a weights folder")
    parser.add_argument("--rounds", type=int, default=7, help="how often each is started (default 7)")
    asked = parser.parse_args()
    harness.ROUNDS = asked.rounds, asked.rounds
    weights = open_weights(asked.weights)
    with tempfile.TemporaryDirectory(prefix="reid-bench-") as scratch:
        stage = Path(scratch)
        mounted = stage / "input" / "datasets" / "somebody" / "animal-reid-weights"
        mounted.mkdir(parents=True)
        for name in (MANIFEST, *weights.manifest["files"]):  # and no cache of an earlier run
            shutil.copy(asked.weights / name, mounted)
        (stage / "input" / "competitions").mkdir()
        (stage / "input" / "competitions" / "animal-clef-2025").symlink_to(asked.data.absolute())
        (stage / "sitecustomize.py").write_text(END_AT_THE_FIRST_PHOTOGRAPH)
        bundler = [sys.executable, str(ROOT / "kernel" / "bundle.py"), "--out", str(stage)]
        subprocess.run(bundler, check=True, stdout=subprocess.DEVNULL)
        script = [str(stage / "animal_reid.py"), "--input", str(stage / "input"), "--output", str(stage / "working")]
        predict = ["-m", "reid", "predict", str(asked.data), "--weights", str(mounted), "--out", str(stage / "out.csv")]
        contest = Contest(
            size=1,
            label="to the first photograph",
            peers={"reid predict": partial(start, predict, stage), "bundled script": partial(start, script, stage)},
            reference="reid predict",
        )
        print(machine(), flush=True)
        rows = measure(contest, seconds=0)
        print(f"| {weights.recipe.backbone.name}, {len(weights.datasets)} datasets | median | min | max | ratio |")
        print("|---|---|---|---|---|")
        for row in rows:
            times = " | ".join(f"{row[name]:.2f} s" for name in ("median_s", "min_s", "max_s"))
            print(f"| {row['peer']} | {times} | {row['ratio']:.2f} |")


def start(words: list[str], stage: Path) -> None:
    """Runs a Python program until it opens a photograph."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(stage), str(ROOT / "src")])}
    done = subprocess.run(
        [sys.executable, *words], env=environment, start_new_session=True, stdout=subprocess.DEVNULL, check=False
    )
    if done.returncode != -signal.SIGKILL:
        sys.exit(f"expected it to open a photograph, it ended with {done.returncode}: {' '.join(words)}")


if __name__ == "__main__":
    main()
