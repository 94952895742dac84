"""What the fast way costs in score, on labelled photographs of full size, made of unlabelled ones.

    python benchmarks/fidelity_score.py ../shared/photos-large --init build/lite0.safetensors
    python benchmarks/fidelity_score.py ../shared/photos-large --init build/lite0.safetensors \\
      --recipe baseline --precisions float32 bfloat16 float16

Every photograph of FOLDER plays an individual, every fourth of them a new one. Its views are parts of it, turned,
stretched and lit at random, at the photograph's own resolution, so that decoder and resize have all its fine detail to
work on. All stages (train, enrol, calibrate, predict) are run exactly and fast. The exact way decodes every pixel and
runs the network as it was built, in float32; the fast one is the kit's.
"""

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
from harness import machine
from PIL import Image, ImageEnhance, ImageOps
from PIL.JpegImagePlugin import JpegImageFile

from reid.cli import main as reid
from reid.data.catalogue import COLUMNS, read_catalogue
from reid.decision.artifact import CALIBRATION, open_weights
from reid.decision.metrics import read_solution, score_matches, score_submission
from reid.decision.predict import predict
from reid.retrieval.embedding import Embedder
from reid.runtime.progress import track

KNOWN, ASKED = 6, 20
"""Views of an individual in the database, and among the queries."""

DATASET = "Views"

EXACTLY = "exactly"


def main() -> None:
    """Draws the views unless they are there, and prints a row per way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", metavar="FOLDER", type=Path)
    parser.add_argument("--init", type=Path, required=True, help="the backbone's first weights")
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    parser.add_argument("--recipe", default="frozen", help="frozen")
    parser.add_argument("--precisions", nargs="+", default=["auto"], help="of the fast way; auto")
    parser.add_argument("--out", type=Path, default=Path("build/bench/fidelity"), help="build/bench/fidelity")
    options = parser.parse_args()
    data = options.out / "data"
    if not (data / "solution.csv").exists():
        draw(sorted(options.photographs.rglob("*.jpg")), data)
    print(machine(), flush=True)
    solution = read_solution(data / "solution.csv")
    common = [
        "--fresh",
        "--recipe",
        options.recipe,
        "--init",
        str(options.init),
        "--set",
        f"backbone.name={options.backbone}",
    ]
    print(f"| {options.recipe}, {len(solution)} queries | score | BAKS | BAUS | expected | rank-1 | same answer |")
    print(f"|{'---|' * 7}", flush=True)
    exact: pd.DataFrame | None = None
    for way in (EXACTLY, *options.precisions):
        folder = options.out / f"{options.recipe}-{way}"
        setting = f"runtime.precision={'float32' if way == EXACTLY else way}"
        with exactly() if way == EXACTLY else nullcontext():
            if reid(["train", str(data), "--out", str(folder), *common, "--set", setting]):
                parser.error("training failed; its error stands above")
            weights = open_weights(folder)
            matches = predict(read_catalogue(data), weights, use_cache=False)
        exact = matches.submission if exact is None else exact
        (score,) = score_submission(matches.submission, solution).values()
        expected = json.loads((folder / CALIBRATION).read_text())[DATASET]["threshold"]["score"]
        (retrieval,) = score_matches(matches.to_frame(), solution).values()
        same = int((exact["identity"] == matches.submission["identity"]).sum())
        cells = [f"{part:.3f}" for part in (score.score, score.baks, score.baus, expected)]
        print(f"| {way} | {' | '.join(cells)} | {retrieval.rank1:.1%} | {same} |", flush=True)


@contextmanager
def exactly() -> Iterator[None]:
    """Inside, JPEGs are decoded in full, and networks run as they were built."""
    as_built = property(lambda embedder: embedder.network)
    with mock.patch.object(JpegImageFile, "draft", return_value=None), mock.patch.object(Embedder, "fast", as_built):
        yield


def draw(paths: list[Path], data: Path) -> None:
    """A data folder with its solution."""
    rng = np.random.default_rng(0)
    (data / "images").mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, str]] = []
    truths: list[dict[str, str | bool]] = []
    for number, path in enumerate(track(paths, "drawing views")):
        with Image.open(path) as opened:
            photograph = ImageOps.exif_transpose(opened).convert("RGB")
        new = number % 4 == 3
        for split in ["query"] * ASKED + ["database"] * KNOWN * (not new):
            image_id, identity = str(len(rows)), f"{DATASET}_{path.stem}"
            name = f"images/{image_id}.jpg"
            view(photograph, rng).save(data / name, quality=int(rng.integers(80, 96)))
            cells = {"image_id": image_id, "path": name, "split": split, "dataset": DATASET}
            rows.append(cells | {"identity": identity if split == "database" else ""})
            if split == "query":
                truths.append({"image_id": image_id, "identity": identity, "new_identity": new, "dataset": DATASET})
    pd.DataFrame(rows, columns=COLUMNS).to_csv(data / "metadata.csv", index=False)
    pd.DataFrame(truths).assign(Usage="Public").to_csv(data / "solution.csv", index=False)


def view(photograph: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A part of it, at its own resolution, turned by up to 15 degrees, stretched by up to 15 %, in another light."""
    size = np.array(photograph.size)
    window = np.round(size * rng.uniform(0.5, 0.9))
    angle, stretch = np.radians(rng.uniform(-15, 15)), rng.uniform(0.87, 1.15)
    cos, sin = np.cos(angle), np.sin(angle)
    turned = np.array([[cos * stretch, -sin], [sin * stretch, cos]])
    shift = rng.uniform(window / 2, size - window / 2) - turned @ (window / 2)
    corners = (*turned[0], shift[0], *turned[1], shift[1])
    part = photograph.transform(tuple(window.astype(int)), Image.Transform.AFFINE, corners, Image.Resampling.BICUBIC)
    for change in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        part = change(part).enhance(rng.uniform(0.6, 1.4))
    return part


if __name__ == "__main__":
    main()
