"""Runs that are killed or stopped at any moment, and started again, come to the weights of an undisturbed run."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from processes import end, start
from safetensors.torch import load_file

from reid.config.recipe import Recipe
from reid.config.settings import override

KILLS = 10
NETWORKS = ("species", "Checks", "Dots")


@pytest.fixture(scope="module")
def recipe(tiny_recipe: Recipe) -> Recipe:
    """Everything that has a state: two or three steps in an epoch, batch norms, a class per individual, a schedule."""
    settings = [
        "batches.individuals=2",
        "loss.classification=arcface",
        "head.neck=bnneck",
        "training.epochs=6",
        "training.held_out_individuals=0.4",
        "training.optimizer=adamw",
        "training.warmup=0.2",
    ]
    return override(tiny_recipe, settings)


@pytest.fixture(scope="module")
def undisturbed(
    patterns_original: Path, recipe: Recipe, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, float]:
    """A run's folder, and how many seconds it took."""
    folder = tmp_path_factory.mktemp("undisturbed")
    assert end(start(patterns_original, recipe, folder / "first")) == [0]  # the server has imported everything now
    started = time.monotonic()
    assert end(start(patterns_original, recipe, folder / "weights")) == [0]
    return folder / "weights", time.monotonic() - started


def same_networks(a: Path, b: Path) -> bool:
    for name in NETWORKS:
        one, other = (load_file(folder / f"{name}.safetensors") for folder in (a, b))
        if one.keys() != other.keys() or not all(torch.equal(one[name], other[name]) for name in one):
            return False
    return True


def test_a_run_that_is_killed_ten_times_comes_to_the_same_weights(
    patterns_original: Path, recipe: Recipe, undisturbed: tuple[Path, float], tmp_path: Path
) -> None:
    folder, took = undisturbed
    rng = np.random.default_rng()
    moments: list[float] = []  # others every time; a failure names them
    killed = 0
    while killed < KILLS:
        moments.append(rng.uniform(0, took / 2))
        (status,) = end(start(patterns_original, recipe, tmp_path / "w"), moments[-1])
        if status == 0:  # done already: the rest of the kills befalls another run, and comes earlier
            assert same_networks(folder, tmp_path / "w"), moments
            (tmp_path / "w").rename(tmp_path / f"done before kill {len(moments)}")
            took /= 2
        else:
            assert status == -signal.SIGKILL
            killed += 1
    assert end(start(patterns_original, recipe, tmp_path / "w")) == [0]
    assert same_networks(folder, tmp_path / "w"), moments
    for name in NETWORKS:
        assert history_of(folder, name).equals(history_of(tmp_path / "w", name))


def history_of(folder: Path, name: str) -> pd.DataFrame:
    """Without the speed, the one figure that differs from run to run."""
    return pd.read_csv(folder / "training" / f"{name}.history.csv").drop(columns="images_per_second")


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_run_that_gets_a_signal_saves_and_ends_with_its_status(
    by: int, patterns_original: Path, recipe: Recipe, undisturbed: tuple[Path, float], tmp_path: Path
) -> None:
    folder, took = undisturbed
    run = start(patterns_original, recipe, tmp_path / "w", save_every=1e9)
    while run[0].is_alive() and not (tmp_path / "w" / "training" / "run.json").exists():
        time.sleep(0.01)
    assert end(run, 0, by) == [os.EX_TEMPFAIL]  # long before the end
    statuses = [
        end(start(patterns_original, recipe, tmp_path / "w", save_every=1e9), took * share, by) for share in (0.4, 0.4)
    ]
    assert set(map(tuple, statuses)) <= {(os.EX_TEMPFAIL,), (0,)}
    assert end(start(patterns_original, recipe, tmp_path / "w")) == [0]
    assert same_networks(folder, tmp_path / "w")
