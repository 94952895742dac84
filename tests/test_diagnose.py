"""Diagnoses of small worlds: clean ones, each with a planted fault, and tables that leave parts out."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from planted_world import SIZE, draw_planted

from reid import cli
from reid.config.presets import PRESETS
from reid.config.settings import with_settings
from reid.data.catalogue import Catalogue, read_catalogue
from reid.decision.artifact import open_weights
from reid.decision.enroll import enroll_again
from reid.decision.metrics import read_solution
from reid.decision.predict import predict
from reid.decision.pseudo_queries import KnownRows
from reid.diagnose.conditions import Answered, days_apart, of_side
from reid.diagnose.diagnose import Diagnosis, diagnose
from reid.diagnose.page import write_diagnosis
from reid.diagnose.parts import Part
from reid.diagnose.sides import matched_by, wrong_sides
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
    return diagnose(catalogue, weights, matches, read_solution(data / "solution.csv"), most=48)


def part_of(found: Diagnosis, name: str) -> Part:
    return next(part for part in found.parts["Beasts"] if part.name == name)


@pytest.mark.parametrize(
    ("fault", "expected", "seed"),
    [
        ("", [], 0),
        ("background", ["background only"], 0),
        ("bursts", ["bursts across the split"], 14),  # hardly any best candidate is of the same day
        ("sides", ["same side and other side"], 15),  # three of 48 sides are wrong, two of them of near-duplicates
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
    nameless = catalogue.table["dataset"].mask(catalogue.table["image_id"] == one["image_id"], "")
    catalogue = replace(catalogue, table=catalogue.table.assign(dataset=nameless))
    again = diagnose(catalogue, enroll_again(catalogue, weights, confirmed=True), None, None, most=30)
    part = part_of(again, "background only")
    assert part.words.startswith("With the animal painted over, rank-1 of 30 known photographs")
    assert part.is_alarm == part_of(found, "background only").is_alarm


def masked(by_animal: bool) -> Change:
    """Give every photograph a mask: an ellipse in its box, as high as the animal's number asks or as all others'."""

    def change(table: pd.DataFrame) -> pd.DataFrame:
        y, x = np.mgrid[: SIZE[1], : SIZE[0]]
        codes = []
        for image_id, box in zip(table["image_id"], table["bbox"], strict=True):
            left, top, width, height = map(int, box.split(","))
            squeeze = 3 ** (int(image_id.split("-")[0]) / 4) if by_animal else 1
            far = np.abs((x - left - width / 2) / width * 2) ** squeeze + np.abs((y - top - height / 2) / height * 2)
            edges = np.flatnonzero(np.diff(np.concatenate([[False], (far < 1).T.ravel(), [False]])))
            counts = np.diff(np.concatenate([[0], edges, [far.size]])).tolist()
            codes.append(json.dumps({"size": list(far.shape), "counts": counts}))
        return table.assign(mask=codes)

    return change


@pytest.mark.parametrize("by_animal", [True, False])
def test_outlines_tell_something_where_animals_differ_in_form(by_animal: bool, tmp_path: Path) -> None:
    part = part_of(diagnosed(tmp_path, "", masked(by_animal)), "silhouette only")
    assert part.words.startswith("With one colour for the animal and another for all else, rank-1 of ")
    assert ("so much the outline tells" in part.words) == by_animal, part.words
    assert not part.is_alarm


def compared(right: np.ndarray, named: np.ndarray, photograph: np.ndarray) -> Answered:
    """Answers to photographs 0, 1, ... of ten animals; where they are wrong, with animal 10."""
    who = np.arange(len(right)) % 10
    ids = np.char.add("photograph ", np.arange(len(right)).astype(str))
    best = np.where(right, who, 10).astype(str)
    return Answered(ids, who.astype(str), best, ids[photograph], np.zeros(len(right), bool), named)


def test_a_few_photographs_that_only_the_other_side_recognises_have_a_wrong_side() -> None:
    """Photographs i, i + 10, ... show one animal; of 60, the sides of 0, 1 and 2 are wrong, and others match them."""
    rows = np.arange(60)
    wrong, mates = rows < 3, np.isin(rows, [10, 11, 12, 20, 21, 22])
    mate = np.where(mates, rows % 10, (rows + 10) % 60)
    same, other = compared(~wrong, ~wrong, mate), compared(wrong | mates, wrong | mates, mate)
    assert wrong_sides(same, other, 10) == ([f"photograph {row}" for row in range(3)], True)
    assert not wrong_sides(compared(rows > 1, rows > 1, mate), other, 10)[1]  # two may be luck
    assert wrong_sides(same, compared(wrong | mates, np.zeros(60, bool), mate), 10) == ([], False)  # nobody is named
    judged = Answered(*(column[~mates] for column in vars(same).values()))
    assert wrong_sides(judged, other, 10) == ([], False)  # either could be wrong


def test_sides_that_are_alike_by_nature_are_not_wrong() -> None:
    rng, alarms = np.random.default_rng(0), 0
    for _ in range(1000):
        same, other = rng.random(80) < 0.7, rng.random(80) < 0.4
        mate = rng.permutation(80)
        strange, alarm = wrong_sides(compared(same, same, mate), compared(other, other, mate), 10)
        assert len(strange) == (other & ~same).sum() > 0
        alarms += alarm
    assert alarms <= 5


def without(table: pd.DataFrame) -> pd.DataFrame:
    """Two individuals with two photographs each, one side, a month, no box."""
    few = table[table["identity"].isin(["", "animal 00", "animal 01"])]
    few = few[(few["identity"] == "") | (few.groupby("identity").cumcount() < 2)]
    return few.assign(date="2021-05", orientation="left").drop(columns=["bbox", "bbox_unit"])


def test_a_part_that_cannot_be_measured_says_why(tmp_path: Path) -> None:
    found = diagnosed(tmp_path, "", without)
    for name, words in (
        ("gap in days", "no known photograph has a day"),
        ("same side and other side", "one side only"),
        ("background only", "have no boxes"),
        ("silhouette only", "have no masks"),
        ("bursts across the split", "hardly any query and candidate have a day"),
        ("against chance", "4 known photographs have another of their individual to be compared with, fewer than 5"),
    ):
        part = part_of(found, name)
        assert part.words.startswith("Not measured: ")
        assert words in part.words
        assert not part.is_alarm


def test_a_wrong_call_is_told_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, file = draw_planted(tmp_path / "data", 0), tmp_path / "file"
    file.write_text("")
    assert cli.main(["diagnose", str(data), "--weights", str(tmp_path), "--out", str(file)]) == 2
    assert "expected the name of a folder to make, found a file" in capsys.readouterr().err
    call = ["diagnose", str(data), "--weights", str(tmp_path), "--out", str(tmp_path / "page")]
    assert cli.main([*call, "--queries", "0"]) == 2
    assert "--queries: expected 1 or more known photographs, found 0" in capsys.readouterr().err


def test_the_command_tells_its_alarms_and_does_without_queries(
    patterns: Path, patterns_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = pd.read_csv(patterns / "metadata.csv", dtype=str, keep_default_na=False)
    truth = pd.read_csv(patterns / "solution.csv", dtype=str).set_index("image_id")["identity"]
    who = rows["identity"].mask(rows["split"] == "query", rows["image_id"].map(truth))
    rows = rows.assign(date="2021-05-1" + who.str[-1])  # each individual has a day of its own
    rows.to_csv(patterns / "metadata.csv", index=False)
    call = ["diagnose", str(patterns), "--weights", str(patterns_weights), "--out", str(tmp_path / "page")]
    assert cli.main([*call, "--solution", str(patterns / "solution.csv")]) == 0
    *alarms, last = capsys.readouterr().out.splitlines()
    page = tmp_path / "page" / "diagnose.html"
    assert alarms
    assert all(alarm.partition(", ")[2].startswith("bursts across the split: ") for alarm in alarms)
    assert last.startswith(f"{len(alarms)} to look into; wrote {page}; ")
    assert page.read_text("utf-8").count('class="alarm"') == len(alarms)
    rows[rows["split"] != "query"].to_csv(patterns / "metadata.csv", index=False)
    assert cli.main(call) == 0
    assert capsys.readouterr().out.startswith("0 to look into; ")
    assert page.read_text("utf-8").count("Not measured: there are no queries.") == 2


def test_conditions_choose_by_day_and_side() -> None:
    rows = KnownRows(
        np.array(list("abcd")), np.array(list("xxxx")), np.array(["2024-01-01", "2024-01-05", "2024-01", ""]),
        np.array(["left", "left", "right", ""]),
    )  # fmt: skip
    place = np.array([0])
    assert days_apart(0, 0)(place, rows).tolist() == [[True, False, False, False]]
    assert days_apart(1, 7)(place, rows).tolist() == [[False, True, False, False]]
    assert of_side(True)(place, rows).tolist() == [[False, True, False, False]]  # the first is of the same day
    assert of_side(False)(place, rows).tolist() == [[False, False, True, False]]


def test_matches_of_another_side_and_of_mirror_images_are_told_apart() -> None:
    table = pd.DataFrame({"image_id": list("abcde"), "orientation": ["left", "left", "right", "", "right"]})
    names, mirrored = np.array(list("xxxxx")), np.array([False, False, False, False, True])
    right = np.array([True, False, True, True, True])
    best = np.where(right, names, "y")
    answered = Answered(np.array(list("abcde")), names, best, np.array(list("bcddb")), mirrored, right)
    assert matched_by(Catalogue(Path(), table), answered).rows == (
        ("the same side", 1, "1.00"), ("another side", 1, "0.00"), ("a mirror image", 1, "1.00"),
        ("a side that is not known", 2, "1.00"),
    )  # fmt: skip
    nothing = matched_by(Catalogue(Path(), table.assign(orientation="")), Answered.nothing())
    assert nothing.words.startswith("Not measured: no known photograph has an orientation")


def test_every_individual_weighs_the_same_in_rank_1() -> None:
    names, best = np.array(list("aaab")), np.array(list("aaxx"))
    none = np.zeros(4, bool)
    answered = Answered(np.array(list("1234")), names, best, best, none, np.array([True, False, True, True]))
    assert (answered.rank1, answered.baks) == pytest.approx((1 / 3, 1 / 6))
    wrong = Answered(np.array(["5"]), np.array(["b"]), np.array(["b"]), np.array(["b"]), none[:1], none[:1])
    assert Answered.joined([answered, wrong]).rank1 == pytest.approx((2 / 3 + 1 / 2) / 2)
