"""What boxes are worth, and what they cost.

    python benchmarks/boxes.py world                       # the drawn world with boxes, three seeds
    python benchmarks/boxes.py decode --photographs DIR    # a photograph with ten boxes, beside the same file whole
    python benchmarks/boxes.py saliency --data DATA --weights WEIGHTS --recipe frozen --set ...    # boxes by a backbone

The world is `reid toy --boxes`, whose boxes are off by some hundredths as a detector's are. It is answered four times
by one recipe: whole photographs (each row with a file of its own, boxes left out), boxes, boxes with masks, and the
same animals cut out exactly around their masks, each a file of its own. Photographs, animals and seeds are the same.

Boxes by a backbone lie around the largest patch where the saliency of the weights' encoders, the norm of the feature
map, is `SALIENT` of its peak or more.
"""

import argparse
import os
import shutil
import statistics
import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from PIL import Image, ImageOps

from reid import cli
from reid.config.runtime import Runtime
from reid.data.boxed_world import draw_boxed_world
from reid.data.boxes import Crop
from reid.data.catalogue import read_catalogue
from reid.data.loading import photograph_batches
from reid.data.photographs import View, decode_all, fit_square, views_of
from reid.decision.artifact import open_weights
from reid.decision.metrics import overall, read_solution, read_submission, score_submission
from reid.retrieval.embedding import Embedder

SALIENT = 0.7
"""Of the peak; at 0.6 and below a box is most of a photograph of ../shared/reid-mini. Chosen by that, not by scores."""

VARIANTS = ("whole", "boxes", "masks", "cut out")


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("world", "decode", "saliency"))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--init", type=Path)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--recipe", default="keypoints")
    parser.add_argument("--variants", default=",".join(VARIANTS))
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="FIELD=VALUE")
    parser.add_argument("--out", type=Path, default=Path("build/bench/boxes"))
    parser.add_argument("--photographs", type=Path, default=Path("../shared/photos-large"))
    options = parser.parse_args()
    if options.what == "decode":
        decode_table(options.photographs)
        return
    init = ["--init", str(options.init)] if options.init else []
    if options.what == "saliency":
        boxed = salient(options.data, options.weights, options.out / "salient")
        for seed in map(int, options.seeds.split(",")):
            print(f"| {seed} | {answered(boxed, options.recipe, seed, options.settings, init):.3f} |", flush=True)
        return
    variants = options.variants.split(",")
    print(f"| seed | {' | '.join(variants)} |\n|{'---|' * (1 + len(variants))}", flush=True)
    rows = []
    for seed in map(int, options.seeds.split(",")):
        world = options.out / f"world-{seed}"
        draw_boxed_world(world, seed)
        rows.append([answered(made(world, name), options.recipe, seed, options.settings, init) for name in variants])
        print(f"| {seed} | {' | '.join(f'{score:.3f}' for score in rows[-1])} |", flush=True)
    print(f"| mean | {' | '.join(f'{statistics.mean(column):.3f}' for column in zip(*rows, strict=True))} |")


def made(world: Path, variant: str) -> Path:
    """Make a variant of a world beside it."""
    folder = world.with_name(f"{world.name}-{variant.replace(' ', '-')}")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(world, folder, copy_function=os.link)
    (folder / "metadata.csv").unlink()
    table = pd.read_csv(world / "metadata.csv", dtype=str, keep_default_na=False)
    if variant == "boxes":
        table = table.drop(columns="mask")
    elif variant != "masks":
        paths = [f"{place}.{'jpg' if variant == 'whole' else 'png'}" for place in range(len(table))]
        for old, mask, new in zip(table["path"], table["mask"], paths, strict=True):
            if variant == "whole":
                os.link(world / old, folder / new)
            else:
                with Image.open(world / old) as image, Image.open(world / mask) as shape:
                    ImageOps.exif_transpose(image).crop(shape.getbbox()).save(folder / new)
        table = table.assign(path=paths).drop(columns=["bbox", "bbox_unit", "mask"])
    table.to_csv(folder / "metadata.csv", index=False)
    return folder


def salient(data: Path, weights: Path, out: Path) -> Path:
    """Make the data folder with boxes of a backbone's saliency, and print how much of the photographs they hold."""
    opened, catalogue = open_weights(weights), read_catalogue(data)
    recipe = opened.recipe
    encoders = {name: Embedder(file, recipe) for name, file in opened.encoders.items()}
    boxes: dict[str, str] = {}
    for dataset, rows in catalogue.by_dataset().items():
        saliency = [
            encoders[dataset].embed_with_saliency(batch.pixels).saliency.numpy()
            for batch in photograph_batches(rows.paths, views_of(rows, recipe), Runtime(), "finding boxes")
        ]
        boxes |= zip(rows.image_ids, map(box_of, np.concatenate(saliency)), strict=True)
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    for path in data.iterdir():
        if path.name != "metadata.csv":
            shutil.copytree(path, out / path.name) if path.is_dir() else shutil.copy(path, out / path.name)
    table = pd.read_csv(data / "metadata.csv", dtype=str, keep_default_na=False)
    table = table.assign(bbox=table["image_id"].map(boxes).fillna(""), bbox_unit="shares")
    table.to_csv(out / "metadata.csv", index=False)
    areas = [np.prod([float(number) for number in box.split(",")[2:]]) for box in boxes.values()]
    print(f"boxes hold {np.median(areas):.0%} of the photographs (median)", flush=True)
    return out


def box_of(saliency: np.ndarray) -> str:
    """Return x,y,w,h in shares around the largest salient patch of a map (h, h) over a squashed photograph."""
    large = cv2.resize(saliency, (64, 64), interpolation=cv2.INTER_LINEAR)
    _, _, patches, _ = cv2.connectedComponentsWithStats((large >= SALIENT * large.max()).astype(np.uint8))
    x, y, w, h, _ = max(patches[1:], key=lambda patch: patch[4])
    return ",".join(f"{number / 64:.4f}" for number in (x, y, w, h))


def answered(data: Path, recipe: str, seed: int, settings: list[str], init: list[str]) -> float:
    """Train, predict and score."""
    weights, submission = data.with_name(f"{data.name}.weights"), data.with_name(f"{data.name}.csv")
    words = [word for setting in (*settings, f"seed={seed}") for word in ("--set", setting)]
    for command in (
        ["-q", "train", data, "--out", weights, "--recipe", recipe, "--fresh", *init, *words],
        ["-q", "predict", data, "--weights", weights, "--out", submission],
    ):
        if cli.main([str(word) for word in command]):
            raise SystemExit(f"{command[1]} {data} failed")
    return overall(score_submission(read_submission(submission), read_solution(data / "solution.csv")))


def decode_table(folder: Path) -> None:
    """Print the median over photographs of how long it takes to open one whole, and to open ten boxes of it."""
    boxes = [(0.08 * place, 0.06 * place, 0.25, 0.25) for place in range(10)]
    views = [View(224, crop=Crop(box, "shares", (0.25, 0.25))) for box in boxes]
    whole = View(4 * 224)  # decoded at the same scale
    ratios, seconds = [], []
    for path in sorted(folder.glob("*.jpg")):
        times: dict[str, list[float]] = {"whole": [], "boxes": []}
        for _ in range(5):
            for name, some in (("whole", [whole]), ("boxes", views)):
                started = time.perf_counter()
                decoded = decode_all(path, some)
                if name == "whole":
                    fit_square(decoded[0], View(224))  # type: ignore[arg-type]
                else:
                    for one, view in zip(decoded, some, strict=True):
                        fit_square(one, view)  # type: ignore[arg-type]
                times[name].append(time.perf_counter() - started)
        seconds.append([min(some) for some in times.values()])
        ratios.append(seconds[-1][1] / seconds[-1][0])
    low, high = np.quantile(ratios, [0.05, 0.95])
    print("| | median, ms |\n|---|---|")
    for name, column in zip(("whole, at the same scale", "ten boxes"), zip(*seconds, strict=True), strict=True):
        print(f"| {name} | {1000 * statistics.median(column):.1f} |")
    print(f"ten boxes cost {statistics.median(ratios):.2f} times the whole ({low:.2f} to {high:.2f})")


if __name__ == "__main__":
    main()
