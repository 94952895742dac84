"""Worlds to test on: a tiny one of plain patterns, the toy world with its trained weights, and real photographs."""

import shutil
from collections.abc import Callable, Iterator
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import settings
from PIL import Image

from reid import cli
from reid.config.presets import PRESETS
from reid.config.recipe import Recipe
from reid.config.settings import override
from reid.data.catalogue import COLUMNS
from reid.data.synthetic import draw_world

settings.register_profile("kit", deadline=None)  # a busy machine is no failure
settings.load_profile("kit")

SHARED = Path(__file__).parents[2] / "shared"

TINY = [
    *(
        "backbone.name=test_resnet",
        "backbone.image_size=32",
        "head.embedding_size=8",
        "head.neck=none",
        "head.normalise=false",
        "loss.soft_scale=1",
    ),
    *(  # the network alone; tests of keypoints ask for them
        "matching.cues=encoder",
        "keypoints.size=400",
        "keypoints.count=300",
        "keypoints.candidates=1000",
        "calibration.scorers=distance",
        "calibration.probability=scorer",
    ),
    *(
        "training.epochs=4",
        "training.validate_every=2",
        "training.stop_accuracy=2",
        "classifier.epochs=2",
        "calibration.splits=5",
    ),
]
"""Settings of a training that takes a second or two: the report's network and loss, very small."""


@pytest.fixture(scope="session", autouse=True)
def server() -> None:
    """Start the process that trainings (`processes.py`) are forked from, with everything imported."""
    forkserver.set_forkserver_preload(["reid.training.train"])
    forkserver.ensure_running()


@pytest.fixture(scope="session")
def tiny_recipe() -> Recipe:
    return override(PRESETS["toy"], TINY)


@pytest.fixture(scope="session")
def tiny_settings() -> list[str]:
    """The tiny recipe as arguments of the command line."""
    return ["--recipe", "toy", *(word for setting in TINY for word in ("--set", setting))]


def draw_patterns(folder: Path, seed: int = 0, individuals: int = 6, photographs: int = 4) -> Path:
    """Two datasets whose individuals are coarse random patterns, and two query photographs of each and of a new one."""
    rng = np.random.default_rng(seed)
    rows: list[tuple[str, ...]] = []
    answers: list[tuple[object, ...]] = []
    for dataset in ("Checks", "Dots"):
        for number in range(individuals + 1):
            is_new = number == individuals
            pattern = rng.integers(0, 256, size=(4, 4, 3))
            for photograph in range(0 if is_new else -photographs, 2):
                split = "database" if photograph < 0 else "query"
                path = f"images/{dataset}/{split}/{rng.integers(2**40):010x}.jpg"
                pixels = np.clip(pattern + rng.normal(scale=12, size=pattern.shape), 0, 255).astype(np.uint8)
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).resize((48, 40), Image.Resampling.NEAREST).save(folder / path)
                image_id, identity = str(len(rows)), f"{dataset}_{number}"
                known = identity if split == "database" else ""
                rows.append((image_id, known, path, "", "", dataset.lower(), split, dataset))
                if split == "query":
                    answers.append((image_id, identity, is_new, dataset, "Private"))
    pd.DataFrame(rows, columns=list(COLUMNS)).to_csv(folder / "metadata.csv", index=False)
    solution = pd.DataFrame(answers, columns=["image_id", "identity", "new_identity", "dataset", "Usage"])
    solution.to_csv(folder / "solution.csv", index=False)
    sample = solution[["image_id"]].assign(identity="new_individual")
    sample.to_csv(folder / "sample_submission.csv", index=False)
    return folder


@pytest.fixture(scope="session")
def patterns_original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_patterns(tmp_path_factory.mktemp("patterns"))


@pytest.fixture(scope="session")
def patterns_2026(patterns_original: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same photographs laid out as in AnimalCLEF26, which asks for clusters; not to be changed. Half of the Dots to
    be named are a dataset without known photographs, so that the weights of `patterns` know nothing of it."""
    folder = tmp_path_factory.mktemp("patterns-2026") / "data"
    table = pd.read_csv(patterns_original / "metadata.csv", dtype=str, keep_default_na=False)
    queries = table["split"] == "query"
    table.loc[queries & (table["dataset"] == "Dots") & (table.index % 2 == 0), "dataset"] = "TexasHornedLizards"
    table["split"] = table["split"].replace({"database": "train", "query": "test"})
    parts = "images/" + table["dataset"] + "/" + table["split"] + "/" + table["identity"]
    paths = parts.str.rstrip("/") + "/" + table["path"].map(lambda path: Path(path).name)
    for old, new in zip(table["path"], paths, strict=True):
        (folder / new).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(patterns_original / old, folder / new)
    table.assign(path=paths).to_csv(folder / "metadata.csv", index=False)
    sample = table[queries][["image_id"]].assign(cluster="cluster_" + table["dataset"] + "_0")
    sample.to_csv(folder / "sample_submission.csv", index=False)
    return folder


@pytest.fixture
def patterns(patterns_original: Path, tmp_path: Path) -> Path:
    """A data folder of its own, to be damaged."""
    return Path(shutil.copytree(patterns_original, tmp_path / "patterns"))


@pytest.fixture(scope="session")
def patterns_weights_original(
    patterns_original: Path, tiny_settings: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("weights") / "patterns"
    assert cli.main(["train", str(patterns_original), "--out", str(folder), *tiny_settings]) == 0
    return folder


@pytest.fixture
def patterns_weights(patterns_weights_original: Path, tmp_path: Path) -> Path:
    """A weights folder of its own, to be damaged."""
    return Path(shutil.copytree(patterns_weights_original, tmp_path / "weights"))


@pytest.fixture
def edit_rows(patterns: Path) -> Callable[[Callable[[pd.DataFrame], pd.DataFrame]], None]:
    """Changes the tiny world's metadata.csv."""

    def edit(change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
        path = patterns / "metadata.csv"
        change(pd.read_csv(path, dtype=str, keep_default_na=False)).to_csv(path, index=False)

    return edit


@pytest.fixture(scope="session")
def toy_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy") / "world"
    draw_world(folder, seed=0)
    return folder


@pytest.fixture(scope="session")
def toy_weights(toy_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy") / "weights"
    assert cli.main(["train", str(toy_world), "--out", str(folder), "--recipe", "toy"]) == 0
    return folder


@pytest.fixture(scope="session")
def reid_mini() -> Path:
    """1,619 real photographs of three species."""
    if not (SHARED / "reid-mini").is_dir():
        pytest.skip("the folder ../shared/reid-mini with real photographs is not beside this checkout")
    return SHARED / "reid-mini"


@pytest.fixture(scope="session")
def large_photographs() -> list[Path]:
    """40 JPEGs of 700 to 1,900 pixels on the shorter side."""
    photographs = sorted((SHARED / "photos-large").glob("*.jpg"))
    if not photographs:
        pytest.skip("the folder ../shared/photos-large with full-size photographs is not beside this checkout")
    return photographs


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, driven by playwright."""
    reason = "playwright, which drives the browser, is not installed"
    sync_api = pytest.importorskip("playwright.sync_api", reason=reason)
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("no Chromium on this machine; `apt-get install chromium` brings one")
    with sync_api.sync_playwright() as playwright:
        # a container's root has no sandbox to go into
        opened = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield opened
        opened.close()
