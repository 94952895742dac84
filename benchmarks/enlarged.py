"""A data folder with a larger gallery: the photographs of one dataset, and views of the others' as further individuals.

    python benchmarks/enlarged.py ../shared/reid-mini NyalaData --more build/toy --photographs 8729 --out build/enlarged

The folder has the dataset's query and database rows as they are (its photographs are copied), and as many further
database rows as `--photographs` asks for: the photographs of all other datasets of DATA and of the folders in `--more`,
then views of them, each cropped, turned, lit and mirrored at random. Every photograph and its views are one further
individual. Nobody on the queries is among them.
"""

import argparse
import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from tqdm import trange

from reid.data.catalogue import read_catalogue
from reid.data.photographs import View, decode

COLUMNS = ("image_id", "identity", "path", "date", "orientation", "species", "split", "dataset")

SIDE = 400
"""Pixels of the longer side that a photograph is decoded at, at least: keypoints are found at this size at most."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="DATA", type=Path)
    parser.add_argument("dataset")
    parser.add_argument("--more", metavar="DATA", type=Path, nargs="*", default=[])
    parser.add_argument("--photographs", type=int, default=8729, help="in the gallery; the competition's largest")
    parser.add_argument("--out", metavar="FOLDER", type=Path, required=True)
    options = parser.parse_args()
    catalogue = read_catalogue(options.data)
    own = catalogue.of(options.dataset)
    others = [
        path for path, name in zip(catalogue.paths, catalogue.table["dataset"], strict=True) if name != options.dataset
    ]
    others += [path for folder in options.more for path in read_catalogue(folder).paths]
    images = options.out / "images"
    images.mkdir(parents=True)
    for path in own.paths:
        shutil.copy(path, images / path.name)
    table = own.table.assign(path=[f"images/{path.name}" for path in own.paths])
    rng = np.random.default_rng(0)
    rows = []
    for number in trange(options.photographs - len(own.database), desc="drawing views"):
        animal, again = number % len(others), number >= len(others)
        decoded = decode(others[animal], View(SIDE, "squash"))
        upright = np.asarray(decoded.upright(decoded.image))
        name = f"images/view-{number}.jpg"
        cv2.imwrite(str(options.out / name), view_of(upright, rng) if again else upright[..., ::-1])
        rows.append((f"view-{number}", f"other-{animal}", name, options.dataset, "database"))
    views = pd.DataFrame(rows, columns=["image_id", "identity", "path", "dataset", "split"])
    columns = [name for name in catalogue.table if name in COLUMNS]
    pd.concat([table[columns], views]).fillna("").to_csv(options.out / "metadata.csv", index=False)


def view_of(upright: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A photograph (H, W, 3) RGB as it may look another time, (h, w, 3) BGR."""
    height, width = upright.shape[:2]
    share = rng.uniform(0.6, 1)
    high, wide = int(height * share), int(width * share)
    top, left = rng.integers(0, height - high + 1), rng.integers(0, width - wide + 1)
    matrix = cv2.getRotationMatrix2D((wide / 2, high / 2), rng.uniform(-25, 25), rng.uniform(0.9, 1.2))
    matrix = matrix + np.pad(rng.normal(0, 0.08, (2, 2)), ((0, 0), (0, 1)))
    cropped = np.ascontiguousarray(upright[top : top + high, left : left + wide])
    turned = cv2.warpAffine(cropped, matrix, (wide, high), borderMode=cv2.BORDER_REFLECT)
    if rng.random() < 0.5:
        turned = turned[:, ::-1]
    lit = turned * rng.uniform(0.7, 1.3) + rng.normal(0, 6, turned.shape)
    return np.clip(lit, 0, 255).astype(np.uint8)[..., ::-1]


if __name__ == "__main__":
    main()
