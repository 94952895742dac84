"""How many boxes were clipped, and how many look like corners: told by the commands that open the photographs."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
from boxed import boxed
from PIL import Image
from scene import scene

from reid import cli
from reid.data.box_warnings import clipped_boxes_logged
from reid.data.boxes import Crop
from reid.data.photographs import View, decode_all

SHARED = ["--set", "data.box_margin=0.2"]  # of the margin nobody is told, which may well reach over an edge


def read_rows(data: Path) -> pd.DataFrame:
    return pd.read_csv(data / "metadata.csv", dtype=str, keep_default_na=False)


def sizes(boxes: pd.Series) -> pd.DataFrame:
    return boxes.str.split(",", expand=True).astype(int)


def run(capsys: pytest.CaptureFixture[str], *words: object) -> list[str]:
    """Run a command, and return what it says of clipped boxes."""
    status = cli.main([str(word) for word in words])
    told = capsys.readouterr()
    assert status == 0, told.err
    return [line for line in told.err.splitlines() if "clipped: " in line]


@pytest.fixture
def world(patterns_original: Path, tmp_path: Path) -> Path:
    """Photographs of three animals each, some of them turned by EXIF; the boxes of one animal in six reach 60 pixels
    over the right edge."""
    data = boxed(patterns_original, tmp_path / "data", together=3)
    table = read_rows(data)
    box = sizes(table["bbox"])
    third = box.index[box[0] == 150]
    box.loc[third[::2], 2] += 92
    table["bbox"] = box.astype(str).agg(",".join, axis=1)
    table.to_csv(data / "metadata.csv", index=False)
    return data


def sentence(data: Path, split: str) -> str:
    """What is to be said of the rows of a split, counted from the table: photographs are 230 pixels wide."""
    box = sizes(read_rows(data).query("split == @split")["bbox"])
    clipped = int((box[0] + box[2] > 230).sum())
    assert 0 < clipped < len(box) / 3
    return (
        f"warning: {data / 'metadata.csv'}: boxes that reach over the edge of their photograph and are clipped: "
        f"{clipped} of {len(box)} opened. `reid check {data}` names their rows"
    )


@pytest.mark.parametrize("local", [False, True], ids=["encoder", "keypoints"])
def test_each_command_counts_the_clipped_boxes_that_it_opens_in_one_line(
    local: bool, world: Path, tiny_settings: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = ["--recipe", "keypoints", "--set", "calibration.splits=5", "--set", "keypoints.count=60"]
    weights, known, asked = tmp_path / "weights", sentence(world, "database"), sentence(world, "query")
    settings = [*(recipe if local else tiny_settings), *SHARED]
    assert run(capsys, "train", world, "--out", weights, *settings) == [known]
    shutil.rmtree(weights / "cache")
    assert run(capsys, "enroll", world, "--weights", weights) == [known]
    assert run(capsys, "predict", world, "--weights", weights, "--out", tmp_path / "s.csv", "--json") == [asked]
    shutil.rmtree(weights / "cache")
    assert run(capsys, "discover", world, "--weights", weights, "--out", tmp_path / "c.csv") == [asked]
    assert run(capsys, "check", world) == []  # it names the rows instead


def test_nothing_is_said_of_boxes_within_and_nothing_is_opened_for_it(
    patterns_original: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, weights = boxed(patterns_original, tmp_path / "data", together=3), tmp_path / "weights"
    call = ["--recipe", "keypoints", "--set", "calibration.splits=5", "--set", "keypoints.count=60", *SHARED]
    assert run(capsys, "train", data, "--out", weights, *call) == []
    predict = ["predict", data, "--weights", weights, "--out", tmp_path / "s.csv"]
    assert run(capsys, *predict) == []
    monkeypatch.setattr(Image, "open", None)
    assert run(capsys, *predict) == []  # from the cache


def test_boxes_that_are_corners_are_counted(
    world: Path, tiny_settings: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = read_rows(world)
    box = sizes(table["bbox"])
    box[2], box[3] = (box[0] + box[2]).clip(upper=230), box[1] + box[3]
    table["bbox"] = box.astype(str).agg(",".join, axis=1)
    table.to_csv(world / "metadata.csv", index=False)
    known = box[table["split"] == "database"]
    beyond = int((known[0] + known[2] > 230).sum())
    (line,) = run(capsys, "train", world, "--out", tmp_path / "weights", *tiny_settings)
    assert (
        f"clipped: {beyond} of {len(known)} opened; that look like corners x1,y1,x2,y2, not x,y,w,h: {beyond}. " in line
    )
    assert cli.main(["check", str(world)]) == 2
    assert "only as x1,y1,x2,y2" in capsys.readouterr().out


def test_a_box_in_shares_is_told_and_one_outside_is_left_to_its_own_message(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scene(100, 80).save(tmp_path / "x.png")
    boxes = [((0.5, 0.5, 0.52, 0.2), "shares"), ((0.5, 0.5, 0.501, 0.2), "shares"), ((200.0, 0.0, 9.0, 9.0), "pixels")]
    views = [View(16, crop=Crop(box, unit, box[2:])) for box, unit in boxes]
    with clipped_boxes_logged(tmp_path):
        for _ in range(2):  # a photograph that is opened again counts once
            decode_all(tmp_path / "x.png", views)
    (record,) = caplog.records
    assert "clipped: 1 of 3 opened. `reid check" in record.getMessage()
    decode_all(tmp_path / "x.png", views)
    with clipped_boxes_logged(tmp_path):
        decode_all(tmp_path / "x.png", views[1:])
    assert len(caplog.records) == 1
