"""What a second process on the same machine is worth: images/s of training with one and with two ranks.

    python benchmarks/ranks.py build/smoke/data --rounds 3

The same P x K batches, each process with one thread, in turns: `reid train` alone, and under torchrun. The rate is the
one that the run itself writes into `history.csv`; the first epoch, in which everything is slower, is left out.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
from harness import machine

from reid.runtime.progress import say

WORLDS = (1, 2)


def main() -> None:
    """Prints a line per number of ranks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="DATA", type=Path)
    parser.add_argument("--only", default="SalamanderID2025", help="the dataset to train for; SalamanderID2025")
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--size", type=int, default=224, help="pixels on a side; 224")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    say(machine())
    rates: dict[int, list[float]] = {count: [] for count in WORLDS}
    for _ in range(asked.rounds):
        for count in WORLDS:
            rates[count].append(rate(asked, count))
            say(f"{count} ranks: {rates[count][-1]:.2f} images/s")
    for count, own in rates.items():
        ratios = [two / one for one, two in zip(rates[1], own, strict=True)]
        print(
            f"{count} ranks: {statistics.median(own):.2f} images/s ({min(own):.2f} to {max(own):.2f}), "
            f"{statistics.median(ratios):.2f} of one"
        )


def rate(asked: argparse.Namespace, count: int) -> float:
    """Images/s of a training by so many ranks."""
    with tempfile.TemporaryDirectory(prefix="reid-ranks-") as scratch:
        starter = [] if count == 1 else ["-m", "torch.distributed.run", f"--nproc-per-node={count}"]
        settings = [
            *("backbone.init=none", f"backbone.name={asked.backbone}", f"backbone.image_size={asked.size}"),
            *(f"training.epochs={asked.epochs}", f"training.validate_every={asked.epochs}"),
        ]
        subprocess.run(
            [
                *(sys.executable, *starter, "-m", "reid", "train", str(asked.data), "--out", scratch),
                *("--recipe", "seed", "--only", asked.only),
                *(word for setting in settings for word in ("--set", setting)),
            ],
            check=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
        )
        history = pd.read_csv(Path(scratch) / "training" / f"{asked.only}.history.csv")
    return float(history["images_per_second"].iloc[1:].median())


if __name__ == "__main__":
    main()
