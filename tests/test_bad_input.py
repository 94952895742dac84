"""Wrong input ends with status 2, one line that says what to do, and nothing half written."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from reid import InputError, cli, files
from reid.files import atomically, write_json


def fails(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """Runs a verb that must refuse; gives its one line of error."""
    capsys.readouterr()
    assert cli.main([str(word) for word in words]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert told.count("\n") == 1, told
    return told


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_verb_without_its_arguments_prints_its_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["train"])
    assert stopped.value.code == 2
    assert "--out" in capsys.readouterr().err


def test_check_lists_every_fault(patterns: Path, edit_rows: Callable, capsys: pytest.CaptureFixture[str]) -> None:
    edit_rows(lambda table: table.assign(split=table["split"].mask(table.index < 3, "train")))
    assert cli.main(["check", str(patterns)]) == 2
    told = capsys.readouterr()
    assert told.out.count("column split: expected database or query; found 'train'") == 3
    assert "3 faults, listed above" in told.err


def test_check_names_photographs_that_cannot_be_read(patterns: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = next(iter((patterns / "images").rglob("*.jpg")))
    path.write_bytes(path.read_bytes()[:100])
    assert cli.main(["check", str(patterns)]) == 2
    told = capsys.readouterr()
    assert str(path.relative_to(patterns)) in told.out
    assert "1 photographs can't be read, listed above" in told.err


@pytest.mark.parametrize("folder", ["nowhere", "empty"])
def test_training_on_nothing_leaves_nothing(folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    told = fails(capsys, "train", tmp_path / folder, "--out", tmp_path / "w", "--recipe", "toy")
    assert str(tmp_path / folder) in told
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--recipe", "winner"], "recipe: expected one of seed, best, toy"),
        (["--recipe", "toy", "--set", "epoch=3"], "did you mean epochs"),
        (["--recipe", "toy", "--limit", "0"], "--limit: expected 1 or more"),
        (["--recipe", "toy", "--init", "nowhere.pth"], "--init nowhere.pth: expected a state dict of the trunk"),
        (["--recipe", "toy", "--set", "trunk=resnet5O"], "found 'resnet5O'; near it are"),
    ],
)
def test_a_wrong_call_of_train_is_told(
    patterns: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    assert told in fails(capsys, "train", patterns, "--out", tmp_path / "w", *words)
    assert not (tmp_path / "w" / "manifest.json").exists()


def test_prediction_without_queries_is_refused(
    patterns: Path, patterns_weights: Path, tmp_path: Path, edit_rows: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    edit_rows(lambda table: table[table["split"] == "database"])
    told = fails(capsys, "predict", patterns, "--weights", patterns_weights, "--out", tmp_path / "s.csv")
    assert "expected rows with split 'query' to answer, found none" in told
    assert not (tmp_path / "s.csv").exists()


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        (["4", "nobody"], "row 3: image_id nobody is no query row"),
        (["4", "4"], "row 3: this image_id stands there a second"),
    ],
)
def test_a_sample_submission_of_another_download_is_refused(
    ids: list[str],
    words: str,
    patterns: Path,
    patterns_weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pd.DataFrame({"image_id": ids, "identity": ""}).to_csv(patterns / "sample_submission.csv", index=False)
    assert words in fails(capsys, "predict", patterns, "--weights", patterns_weights, "--out", tmp_path / "s.csv")


def test_prediction_with_damaged_weights_keeps_the_old_submission(
    patterns: Path, patterns_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "s.csv").write_text("mine")
    (patterns_weights / "Dots.safetensors").write_bytes(b"")
    told = fails(capsys, "predict", patterns, "--weights", patterns_weights, "--out", tmp_path / "s.csv")
    assert "Dots.safetensors: expected sha256" in told
    assert (tmp_path / "s.csv").read_text() == "mine"


def test_a_submission_with_faults_is_refused_with_all_of_them(
    patterns: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sample = pd.read_csv(patterns / "sample_submission.csv", dtype=str)
    sample["identity"] = ["nobody", "", *sample["identity"].iloc[2:]]
    sample.to_csv(tmp_path / "s.csv", index=False)
    assert cli.main(["check", str(patterns), "--submission", str(tmp_path / "s.csv")]) == 2
    told = capsys.readouterr()
    assert "row 2 (image_id 4): no individual of the database is called 'nobody'" in told.out
    assert "row 3 (image_id 5): the identity is empty" in told.out
    assert "2 faults, listed above" in told.err


def test_a_block_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("old")
    with pytest.raises(RuntimeError), atomically(tmp_path / "x") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert contents(tmp_path) == {tmp_path / "x": b"old"}


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(
        InputError, match=r"x\.json: could not be written \(No space left on device\); nothing was left"
    ):
        write_json(tmp_path / "x.json", {})
    assert contents(tmp_path) == {}


@pytest.mark.skipif(not Path("/dev/full").exists() or os.geteuid() != 0, reason="needs root to mount a small disk")
def test_training_onto_a_really_full_disk_is_told(
    patterns: Path, tiny_settings: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.system(f"mount -t tmpfs -o size=200k tmpfs {disk} 2>/dev/null") != 0:
        pytest.skip("this machine does not let a test mount a small disk")
    try:
        told = fails(capsys, "train", patterns, "--out", disk / "w", *tiny_settings)
        assert "could not be written (No space left on device)" in told
        assert not (disk / "w" / "manifest.json").exists()
        assert not list(disk.rglob("*.part"))
    finally:
        os.system(f"umount {disk}")
