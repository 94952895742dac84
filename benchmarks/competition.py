"""Every stage at the competition's size: minutes, work of the processor, and memory at its highest.

    python benchmarks/competition.py ../shared/photos-large --out /scratch/competition
    python benchmarks/competition.py ../shared/photos-large --out /scratch/part --share 0.1    # a tenth of everything

A data folder is made with as many photographs, individuals and queries as the competition has, of the full-size
photographs of a folder: parts of them, blown up again, turned by a mark of which side is up, and with other bytes at
the end of every file, so that nothing is remembered of another. Who is on them is meaningless, and so is the score; how
long it takes and what it holds is not. Encoders are small and their weights random (EfficientNet-Lite0 at 128 pixels,
one fold, one epoch): opening, keypoints, matching, verification, calibration and the page are those of the real thing,
forward passes and training are not.

A stage is a verb of `python -m reid`; memory is that of all its processes together, each shared page counted once.
"""

import argparse
import io
from pathlib import Path

import numpy as np
import pandas as pd
from harness import machine
from PIL import Image
from stages import adopt, measured

from reid.runtime.progress import say, track

COMPETITION = {"LynxID2025": (2957, 77, 946), "SalamanderID2025": (1388, 587, 689), "SeaTurtleID2022": (8729, 438, 500)}
"""Database photographs, individuals and queries by dataset."""

PARTS = 10
"""Of each photograph."""

SMALL = [
    *(
        "backbone.name=tf_efficientnet_lite0",
        "backbone.init=none",
        "backbone.image_size=128",
        "training.epochs=1",
        "augmentation.feature_views=0",
        "classifier.epochs=0",
    ),
    *("training.folds=1", "precision=float32"),
]
"""Encoders that cost next to nothing."""


def main() -> None:
    """Makes the data folder and prints a table of the stages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", metavar="FOLDER", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="an empty folder with room for 8 GB")
    parser.add_argument("--share", type=float, default=1.0, help="of the competition's size; 1")
    parser.add_argument("--recipe", default="light", help="light")
    asked = parser.parse_args()
    say(machine())
    adopt()
    data, weights = asked.out / "data", asked.out / "weights"
    write_world(data, sorted(asked.photographs.rglob("*.jpg")), asked.share)
    settings = [word for setting in SMALL for word in ("--set", setting)]
    submission, page = asked.out / "submission.csv", asked.out / "report"
    stages = {
        "check": ["check", data],
        "train, enrol, calibrate": ["train", data, "--out", weights, "--recipe", asked.recipe, *settings],
        "enrol again": ["enroll", data, "--weights", weights],
        "calibrate again": ["calibrate", data, "--weights", weights],
        "predict": ["predict", data, "--weights", weights, "--out", submission],
        "report": ["report", data, "--weights", weights, "--out", page],
    }
    print("| stage | minutes | of work | peak GB |\n|---|---|---|---|", flush=True)
    for name, words in stages.items():
        cost = measured(words, asked.out / f"{name}.log")
        print(f"| {name} | {cost.wall / 60:.1f} | {cost.work / 60:.1f} | {cost.peak / 1e9:.2f} |", flush=True)


def write_world(data: Path, files: list[Path], share: float) -> None:
    """The data folder. Every dataset gets its own photographs; an individual's differ like those of two."""
    (data / "images").mkdir(parents=True)
    rng, rows = np.random.default_rng(0), list[dict[str, str]]()
    pictures = [part_of(file, rng) for file in track(files * PARTS, "cutting photographs")]
    for dataset, counts in COMPETITION.items():
        known, individuals, queries = (max(10, round(share * count)) for count in counts)
        who = np.concatenate([np.arange(individuals), rng.integers(individuals, size=max(0, known - individuals))])
        for place in range(known + queries):
            asked, name = place >= known, f"images/{dataset}-{place}.jpg"
            rows.append(
                {
                    "image_id": str(len(rows)),
                    "identity": "" if asked else f"{dataset}_{who[place]}",
                    "path": name,
                    "date": "",
                    "orientation": "",
                    "species": "",
                    "split": "query" if asked else "database",
                    "dataset": dataset,
                }
            )
    for row in track(rows, "writing photographs"):
        place = int(row["image_id"])
        picture = pictures[place % len(pictures)]
        up = 1 + place // len(pictures) % 8
        (data / row["path"]).write_bytes(turned(picture, up) + place.to_bytes(4, "big"))
    pd.DataFrame(rows).to_csv(data / "metadata.csv", index=False)


def part_of(file: Path, rng: np.random.Generator) -> bytes:
    """A JPEG of a part of a photograph, as large as the whole."""
    with Image.open(file) as image:
        width, height = image.size
        share = rng.uniform(0.6, 0.9)
        left, top = rng.uniform(0, 1 - share, size=2)
        box = (left * width, top * height, (left + share) * width, (top + share) * height)
        held = io.BytesIO()
        image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC, box).save(held, "JPEG", quality=85)
    return held.getvalue()


def turned(picture: bytes, orientation: int) -> bytes:
    """A JPEG with another mark of which side is up (EXIF 1 to 8), its pixels untouched."""
    with Image.open(io.BytesIO(picture)) as image:
        exif = image.getexif()
    exif[0x0112] = orientation
    told = exif.tobytes()
    # behind the start of the image, before everything else: the first such mark is the one that counts
    return picture[:2] + b"\xff\xe1" + (len(told) + 2).to_bytes(2, "big") + told + picture[2:]


if __name__ == "__main__":
    main()
