"""Diagnoses of small worlds: clean ones, each with a planted fault, and tables that leave parts out."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from planted_world import draw_planted

from reid import cli
from reid.config.presets import PRESETS
from reid.config.settings import with_settings
from reid.data.catalogue import read_catalogue
from reid.decision.artifact import open_weights
from reid.decision.enroll import enroll_again
from reid.decision.metrics import read_solution
from reid.decision.predict import predict
from reid.decision.pseudo_queries import KnownRows
from reid.diagnose.conditions import Answered, days_apart, of_side
from reid.diagnose.diagnose import Diagnosis, Part, diagnose, expected_calibration_error
from reid.diagnose.page import write_diagnosis
from reid.training.train import train

QUICK = {
    "calibration.scorers": ("inliers",),
    "calibration.splits": 5,
    "keypoints.size": 192,
    "keypoints.count": 120,
    "matching.iterations": 100,
    "matching.verified": 10,
}

Change = Callable[[pd.DataFrame], pd.DataFrame]


def diagnosed(folder: Path, fault: str = "", change: Change = lambda table: table, seed: int = 0) -> Diagnosis:
    data = draw_planted(folder / "data", seed, fault)
    change(pd.read_csv(data / "metadata.csv", dtype=str, keep_default_na=False)).to_csv(
        data / "metadata.csv", index=False
    )
    catalogue = read_catalogue(data)
    train(catalogue, with_settings(PRESETS["keypoints"], QUICK), folder / "weights")
    weights = open_weights(folder / "weights")
    matches = predict(catalogue, weights)
    return diagnose(catalogue, weights, matches, read_solution(data / "solution.csv"), most=30)


def part_of(found: Diagnosis, name: str) -> Part:
    return next(part for part in found.parts["Beasts"] if part.name == name)


@pytest.mark.parametrize(
    ("fault", "expected", "seed"),
    [
        ("", [], 0),
        ("background", ["background only"], 0),
        ("bursts", ["bursts across the split"], 0),
        ("sides", ["same side and other side"], 1),  # not in every seed, see benchmarks/diagnose.py
    ],
)
def test_a_planted_fault_is_found_and_a_clean_world_raises_no_alarm(
    fault: str, expected: list[str], seed: int, tmp_path: Path
) -> None:
    found = diagnosed(tmp_path, fault, seed=seed)
    assert [part.name for _, part in found.alarms] == expected
    page = write_diagnosis(tmp_path, "a <world>", found).read_text("utf-8")
    assert page.count('class="alarm"') == len(expected)
    assert "a &lt;world&gt;" in page


def test_photographs_meet_only_those_of_the_gap_and_the_side_that_are_asked_about(tmp_path: Path) -> None:
    """All days of the planted world are months apart, and its flanks have nothing in common."""
    found = diagnosed(tmp_path)
    gaps = {str(row[0]): int(row[1]) for row in part_of(found, "gap in days").rows}
    assert [gap for gap, count in gaps.items() if count] == ["31 to 365"]
    (_, _, same, _), (_, _, other, _) = part_of(found, "same side and other side").rows
    assert float(same) > 0.9
    assert float(other) < 0.3


def crowded(table: pd.DataFrame) -> pd.DataFrame:
    """On every known photograph another animal, too, in a corner."""
    known = table[table["identity"] != ""]
    others = known.assign(
        image_id="other " + known["image_id"], identity="other " + known["identity"], bbox="0,0,24,24"
    )
    return pd.concat([table, others], ignore_index=True)


def test_another_animal_on_the_photographs_is_no_background(tmp_path: Path) -> None:
    part = part_of(diagnosed(tmp_path, "", crowded), "background only")
    assert part.words.startswith("With the animal painted over")
    assert not part.is_alarm, part.words


def test_queries_in_the_galleries_are_no_background(tmp_path: Path) -> None:
    found = diagnosed(tmp_path)
    data, weights = tmp_path / "data", open_weights(tmp_path / "weights")
    catalogue, solution = read_catalogue(data), read_solution(data / "solution.csv")
    one = solution[~solution["new_identity"]].iloc[0]
    table = catalogue.database.table
    known = table["image_id"][table["identity"] == one["identity"]].iloc[0]
    (data / "pairs.csv").write_text(f"image_id_a,image_id_b,answer\n{one['image_id']},{known},same\n")
    again = diagnose(catalogue, enroll_again(catalogue, weights, confirmed=True), None, None, most=30)
    part = part_of(again, "background only")
    assert part.words.startswith("With the animal painted over, rank-1 of 30 known photographs")
    assert part.is_alarm == part_of(found, "background only").is_alarm


def without(table: pd.DataFrame) -> pd.DataFrame:
    """Two individuals, one side, no day, no box."""
    few = table[table["identity"].isin(["", "animal 00", "animal 01"])]
    return few.assign(date="", orientation="left").drop(columns=["bbox", "bbox_unit"])


def test_a_part_that_cannot_be_measured_says_why(tmp_path: Path) -> None:
    found = diagnosed(tmp_path, "", without)
    for name, words in (
        ("gap in days", "no known photograph has a date"),
        ("same side and other side", "one side only"),
        ("background only", "have no boxes"),
        ("bursts across the split", "hardly any query and candidate have a day"),
    ):
        part = part_of(found, name)
        assert part.words.startswith("Not measured: ")
        assert words in part.words
        assert not part.is_alarm


def test_the_command_refuses_a_file_for_its_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, file = draw_planted(tmp_path / "data", 0), tmp_path / "file"
    file.write_text("")
    assert cli.main(["diagnose", str(data), "--weights", str(tmp_path), "--out", str(file)]) == 2
    assert "expected the name of a folder to make, found a file" in capsys.readouterr().err


def test_conditions_choose_by_day_and_side() -> None:
    rows = KnownRows(
        np.array(list("abcd")), np.array(list("xxxx")), np.array(["2024-01-01", "2024-01-05", "2024-01", ""]),
        np.array(["left", "left", "right", ""]),
    )  # fmt: skip
    place = np.array([0])
    assert days_apart(0, 0)(place, rows).tolist() == [[True, False, False, False]]
    assert days_apart(1, 7)(place, rows).tolist() == [[False, True, False, False]]
    assert of_side(True)(place, rows).tolist() == [[True, True, False, False]]
    assert of_side(False)(place, rows).tolist() == [[False, False, True, False]]


def test_every_individual_weighs_the_same_in_rank_1() -> None:
    names, best = np.array(list("aaab")), np.array(list("aaxx"))
    answered = Answered(np.array(list("1234")), names, best, np.array([True, False, True, True]))
    assert (answered.rank1, answered.baks) == pytest.approx((1 / 3, 1 / 6))


def test_the_calibration_error_of_calibrated_probabilities_is_that_of_chance() -> None:
    rng = np.random.default_rng(0)
    probability = rng.random(20_000)
    right = rng.random(20_000) < probability
    assert expected_calibration_error(probability, right) < 0.01
    assert expected_calibration_error(np.full(20_000, 0.9), right) == pytest.approx(0.4, abs=0.02)
