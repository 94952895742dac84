"""A submission for full-size photographs, end to end: `reid predict` against the official starter's way.

The starter's way is its documented steps, as in `DeepFeatures` and `CosineSimilarity` of wildlife-tools 0.0.9 (the
package itself would replace OpenCV in this environment and bring sixty others): one process decodes in full with
Pillow, torchvision resizes, makes tensors and normalises, the backbone runs in float32 on batches of 128 as it came
from timm, and the cosine similarity of every query with every gallery photograph is held as one matrix. Here it gets
the kit's backbone, ResNet-50 at 224. It has one network; the kit has two, a species classifier and an encoder, so the
starter is measured with one and with two.

They are compared with the two limits of the hardware: decoding on all cores and nothing else, and the forward passes
alone on photographs that are in memory already. The weights are random, which does not change how long it takes.
"""

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import timm
import torch
from harness import Contest, NotHereError, Options
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import Compose, Normalize, Resize, ToTensor

from reid.cli import main as reid
from reid.config.presets import PRESETS
from reid.config.runtime import Runtime
from reid.data.catalogue import Catalogue, read_catalogue
from reid.data.photographs import open_photograph
from reid.decision.artifact import CLASSIFIER, encoder_file, open_weights
from reid.decision.predict import predict
from reid.models.networks import best_device
from reid.retrieval.embedding import Embedder, precision_on

SIZE = 224
SIZES = (100, 400, 2_135)
"""Queries; the last are the competition's."""

STARTERS_LARGEST = 400
"""Queries up to which the starter runs as well: its minutes grow in proportion."""

GALLERY = 40
"""Database photographs per dataset, which the starter embeds anew in every run; left out of its time here."""


def contests(options: Options) -> Iterator[Contest]:
    """So many queries, and an empty cache."""
    for queries, catalogue, weights in worlds(options, (16,) if options.quick else SIZES):
        yield contest(catalogue, weights, queries)


def worlds(options: Options, sizes: Iterable[int]) -> Iterator[tuple[int, Catalogue, Path]]:
    """So many queries, where the 40 photographs come again and again, their data folder, and weights for it.

    Raises:
        NotHereError: no photographs.
    """
    files = sorted(options.photographs.glob("*.jp*g"))
    if not files:
        raise NotHereError(f"expected JPEGs in {options.photographs}, found none; name a folder with --photos")
    with tempfile.TemporaryDirectory(prefix="reid-bench-") as scratch:
        for queries in sizes:
            data, weights = Path(scratch) / f"data-{queries}", Path(scratch) / f"weights-{queries}"
            write_world(data, files, queries)
            random_weights(data, weights)
            yield queries, read_catalogue(data), weights


def write_world(data: Path, files: list[Path], queries: int, gallery: int = GALLERY) -> None:
    """A data folder of two datasets, so that there is a species to classify; `gallery` photographs known of each."""
    (data / "images").mkdir(parents=True)
    for file in files:
        shutil.copy(file, data / "images")
    rows = []
    for number in range(queries + 2 * gallery):
        database, dataset = number >= queries, f"Species{number % 2}"
        rows.append(
            {
                "image_id": str(number),
                "identity": f"{dataset}_{number // 4}" if database else "",
                "path": f"images/{files[number % len(files)].name}",
                "date": "",
                "orientation": "",
                "species": "",
                "split": "database" if database else "query",
                "dataset": dataset,
            }
        )
    pd.DataFrame(rows).to_csv(data / "metadata.csv", index=False)


def random_weights(data: Path, weights: Path) -> None:
    """A weights folder of recipe `paper` whose networks have learned nothing."""
    settings = ["backbone.init=none", "training.epochs=0", "classifier.epochs=0", "calibration.splits=1"]
    words = ["train", str(data), "--out", str(weights), "--recipe", "paper"]
    if reid(words + [word for setting in settings for word in ("--set", setting)]):
        raise NotHereError("training the random weights failed; its error stands above")


def contest(catalogue: Catalogue, folder: Path, queries: int) -> Contest:
    """The kit, the starter, and the limits."""
    weights = open_weights(folder)
    recipe, runtime = weights.recipe, Runtime(precision=weights.precision)
    kit_predicts = partial(predict, catalogue, weights, use_cache=False)
    slower = {}
    if queries <= STARTERS_LARGEST and precision_on(best_device(), runtime.precision) != torch.float32:
        slower = {"reid, 2 networks, float32": partial(kit_predicts, runtime=Runtime(precision="float32"))}
    files = (CLASSIFIER, encoder_file("Species0"))
    embedders = [Embedder(folder / name, recipe, runtime) for name in files]
    paths = catalogue.query.paths
    opened = np.stack([open_photograph(path, SIZE) for path in paths[:64]])
    resident = torch.from_numpy(opened).permute(0, 3, 1, 2).to(best_device())
    starters = {}
    if queries <= STARTERS_LARGEST:
        gallery = torch.randn(2 * GALLERY, 2048)
        starters = {
            "starter's way, 1 network": partial(starter, paths, gallery, 1),
            "starter's way, 2 networks": partial(starter, paths, gallery, 2),
        }
    kit = "reid, 2 networks"
    return Contest(
        size=queries,
        label=f"{queries:,} queries of about 2,000 px, ResNet-50 at {SIZE}",
        peers={
            **starters,
            kit: kit_predicts,
            **slower,
            "limit: decoding on all cores": partial(decode_only, paths),
            "limit: forward passes of 2 networks": partial(forward_only, embedders, resident, queries),
        },
        reference="starter's way, 2 networks" if starters else kit,
        items=queries,
    )


class StarterPhotographs(Dataset[Tensor]):
    """Photographs as torchvision's usual steps make them."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths
        self.transform = Compose(
            [Resize((SIZE, SIZE)), ToTensor(), Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        pixels: Tensor = self.transform(Image.open(self.paths[index]).convert("RGB"))
        return pixels


@torch.inference_mode()
def starter(paths: list[Path], gallery: Tensor, networks: int) -> Tensor:
    """The nearest gallery photograph of each query, (Q,)."""
    device = best_device()
    backbones = [
        timm.create_model(PRESETS["paper"].backbone.name, num_classes=0).eval().to(device) for _ in range(networks)
    ]
    batches = []
    for pixels in DataLoader(StarterPhotographs(paths), batch_size=128, num_workers=1):
        for backbone in backbones:
            features = backbone(pixels.to(device)).cpu()
        batches.append(features)
    similarity = nn.functional.normalize(torch.cat(batches)) @ nn.functional.normalize(gallery).T
    return similarity.argmax(1)


def decode_only(paths: list[Path]) -> int:
    """Opens every photograph on all cores and keeps none."""
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return sum(1 for _ in pool.map(partial(open_photograph, view=SIZE), paths))


def forward_only(embedders: list[Embedder], resident: Tensor, queries: int) -> None:
    """So many photographs through every network."""
    for start in range(0, queries, len(resident)):
        for embedder in embedders:
            embedder.embed(resident[: queries - start])
