"""Every stage at the competition's size: minutes, work of the processor, and memory at its highest.

    python benchmarks/competition.py ../shared/photos-large --out /scratch/competition
    python benchmarks/competition.py ../shared/photos-large --out /scratch/part --share 0.1    # a tenth of everything

A data folder is made with as many photographs, individuals and queries as the competition has, from a folder of
full-size photographs: parts of them, enlarged again, turned by an EXIF tag, and with other bytes at the end of every
file, so that no two are the same in a cache. Who is on them is meaningless, and so is the score; time and memory are
not. Encoders are small and their weights random (EfficientNet-Lite0 at 128 pixels, one fold, one epoch): opening,
keypoints, matching, verification, calibration and the report are those of a real run, forward passes and training are
not.

A stage is a command of `python -m reid`; memory is that of all its processes together, each shared page counted once.
"""

import argparse
import io
from pathlib import Path

import numpy as np
import pandas as pd
from harness import machine
from PIL import Image
from stages import adopt, measured

from reid.runtime.progress import track

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
    *("training.folds=1", "runtime.precision=float32"),
]
"""Encoders that cost next to nothing."""


def main() -> None:
    """Makes the data folder and prints a table of the stages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", metavar="FOLDER", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="an empty folder with room for 8 GB")
    parser.add_argument("--share", type=float, default=1.0, help="of the competition's size; 1")
    parser.add_argument("--recipe", default="frozen", help="frozen")
    options = parser.parse_args()
    print(machine(), flush=True)
    adopt()
    data, weights = options.out / "data", options.out / "weights"
    write_world(data, sorted(options.photographs.rglob("*.jpg")), options.share)
    settings = [word for setting in SMALL for word in ("--set", setting)]
    submission, page = options.out / "submission.csv", options.out / "report"
    stages = {
        "check": ["check", data],
        "train, enrol, calibrate": ["train", data, "--out", weights, "--recipe", options.recipe, *settings],
        "enrol again": ["enroll", data, "--weights", weights],
        "calibrate again": ["calibrate", data, "--weights", weights],
        "predict": ["predict", data, "--weights", weights, "--out", submission],
        "report": ["report", data, "--weights", weights, "--out", page],
    }
    print("| stage | minutes | of work | peak GB |\n|---|---|---|---|", flush=True)
    for name, words in stages.items():
        cost = measured(words, options.out / f"{name}.log")
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
            is_query, name = place >= known, f"images/{dataset}-{place}.jpg"
            rows.append(
                {
                    "image_id": str(len(rows)),
                    "identity": "" if is_query else f"{dataset}_{who[place]}",
                    "path": name,
                    "date": "",
                    "orientation": "",
                    "species": "",
                    "split": "query" if is_query else "database",
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
        jpeg = io.BytesIO()
        image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC, box).save(jpeg, "JPEG", quality=85)
    return jpeg.getvalue()


def turned(picture: bytes, orientation: int) -> bytes:
    """A JPEG with another orientation in its EXIF tag (1 to 8), its pixels untouched."""
    with Image.open(io.BytesIO(picture)) as image:
        exif = image.getexif()
    exif[0x0112] = orientation
    tags = exif.tobytes()
    # right behind the start of the image: the first EXIF segment is the one that counts
    return picture[:2] + b"\xff\xe1" + (len(tags) + 2).to_bytes(2, "big") + tags + picture[2:]


if __name__ == "__main__":
    main()
