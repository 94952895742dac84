"""What changes no answer of the same weights: the order of the table's rows, and what individuals are called."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
from test_discover import QUICK, draw, table_of

from reid import cli
from reid.decision import cuts
from reid.decision.artifact import open_weights
from reid.decision.calibration import load_calibrations

TOLERANCE = 1e-6
"""Sums in another order differ in their last digits, and a plateau's ends with them."""


@pytest.fixture(autouse=True)
def few_collections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuts, "COLLECTIONS", 6)
    monkeypatch.setattr(cuts, "ROUNDS", 1)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten known lions, three of them queries too, and three new ones, some photographed twice a day, on two sides."""
    known = [("Lions", animal, 3, 2 * (animal < 3)) for animal in range(10)]
    new = [("Lions", animal, 0, 2) for animal in range(100, 103)]
    data = draw(tmp_path_factory.mktemp("invariance") / "data", [*known, *new])
    table = table_of(data)
    number = table["image_id"].str.partition("-")[2].astype(int)
    animal = table["image_id"].str.extract(r"(\d+)", expand=False).astype(int)
    day = 1 + number // (1 + animal % 2)
    sides = (number + animal).mod(3).map({0: "left", 1: "right", 2: ""})
    table.assign(date=day.map("2024-05-{:02d}".format), orientation=sides).to_csv(data / "metadata.csv", index=False)
    return data


@pytest.fixture(scope="module")
def weights(original: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("invariance") / "weights"
    assert (
        cli.main(["train", str(original), "--out", str(folder), *QUICK, "--set", "calibration.pseudo_queries=14"]) == 0
    )
    return folder


def answered(data: Path, weights: Path, out: Path, enroll: bool) -> tuple[pd.DataFrame, pd.DataFrame, float]:
    """Enrol, calibrate, predict and discover: all candidates, all clusters, and the threshold."""
    out.mkdir()
    again = Path(shutil.copytree(weights, out / "weights"))
    options = [str(data), "--weights", str(again)]
    calls = [["enroll"], ["calibrate"], ["predict", "--out", "s.csv"], ["discover", "--out", "c.csv"]]
    for command in calls[not enroll :]:
        words = [str(out / word) if word.endswith(".csv") else word for word in command[1:]]
        assert cli.main([command[0], *options, *words]) == 0
    matches = pd.read_csv(out / "s.matches.csv", dtype={"image_id": str}, keep_default_na=False)
    clusters = pd.read_csv(out / "c.clusters.csv", dtype=str, keep_default_na=False)
    threshold = load_calibrations(open_weights(again))["Lions"].threshold.value
    return matches.sort_values(["image_id", "rank"], ignore_index=True), clusters, threshold


def partition(clusters: pd.DataFrame) -> set[frozenset[str]]:
    return {frozenset(rows) for _, rows in clusters.groupby("cluster")["image_id"]}


@pytest.mark.parametrize("change", ["rows in another order", "other names"])
def test_neither_the_order_of_rows_nor_the_names_of_individuals_changes_an_answer(
    original: Path, weights: Path, tmp_path: Path, change: str
) -> None:
    data = Path(shutil.copytree(original, tmp_path / "data"))
    table = table_of(data)
    names = {f"animal {number}": f"animal {number}" for number in range(10)}
    if change == "other names":  # whose alphabetical order is another, too
        names = {name: f"{'zyxwvutsrq'[int(name[-1])]} {number}" for number, name in enumerate(names)}
        table["identity"] = table["identity"].replace(names)
    else:
        table = table.sample(frac=1, random_state=5)
        assert list(table["image_id"]) != list(table_of(data)["image_id"])
    table.to_csv(data / "metadata.csv", index=False)

    enroll = change == "other names"  # the galleries have them
    before, clusters, threshold = answered(original, weights, tmp_path / "before", enroll)
    after, clusters_after, threshold_after = answered(data, weights, tmp_path / "after", enroll)

    assert threshold_after == pytest.approx(threshold, abs=TOLERANCE)
    expected = before.assign(candidate=before["candidate"].replace(names), answer=before["answer"].replace(names))
    pd.testing.assert_frame_equal(after, expected, atol=TOLERANCE, rtol=0)
    assert partition(clusters_after) == partition(clusters)
    named = dict(zip(clusters["image_id"], clusters["identity"].replace(names), strict=True))
    assert dict(zip(clusters_after["image_id"], clusters_after["identity"], strict=True)) == named
