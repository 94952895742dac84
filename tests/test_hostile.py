"""What comes from outside may be hostile: it runs nothing, reaches nothing beyond its folder, is refused in words."""

import os
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from fuzz_targets import network_bytes, plan, plan_bytes
from PIL import Image

from reid import cli
from reid.data.catalogue import read_catalogue
from reid.data.photographs import UnreadableError, View, open_photograph
from reid.data.store import temporary_folder
from reid.decision import predict
from reid.decision.matches import Matches
from reid.errors import InputError
from reid.models.networks import load_network
from reid.runtime.files import read_json, read_table, refuse_unwritable
from reid.runtime.progress import printable

# photographs


def picture() -> Image.Image:
    """A few large patches: what is left of it on 8 x 8 pixels still tells which way is up."""
    patches = np.random.default_rng(0).integers(0, 255, (4, 6, 3), np.uint8)
    return Image.fromarray(patches).resize((60, 40), Image.Resampling.NEAREST)


def test_no_program_is_started_for_a_photograph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin" / "gs"  # Ghostscript runs what an EPS says; Pillow would call it
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    picture().save(tmp_path / "x.eps")
    (tmp_path / "x.eps").rename(tmp_path / "x.jpg")
    with pytest.raises(UnreadableError, match=r"no image of a kind that is read here \(JPEG, PNG, "):
        open_photograph(tmp_path / "x.jpg", 32)
    assert not (tmp_path / "ran").exists()


def test_a_heic_under_any_name_is_told_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    with pytest.raises(UnreadableError, match="it is a HEIC, as phones make them: export it as JPEG"):
        open_photograph(tmp_path / "x.jpg", 32)


@pytest.mark.parametrize("kind", ["progressive.jpg", "jpeg.png", "bmp.jpg", "anim.gif", "anim.webp", "Größe 写真.jpg"])
def test_unusual_files_are_opened_as_what_they_are(tmp_path: Path, kind: str) -> None:
    first, second = picture(), picture().transpose(Image.Transpose.ROTATE_180)
    options: dict[str, dict[str, Any]] = {
        "progressive.jpg": {"progressive": True},
        "jpeg.png": {"format": "JPEG"},
        "bmp.jpg": {"format": "BMP"},
    }
    animated = {"save_all": True, "append_images": [second]} if kind.startswith("anim") else {}
    first.save(tmp_path / kind, **options.get(kind, animated))
    first.save(tmp_path / "plain.png")
    error = np.abs(open_photograph(tmp_path / kind, 8).astype(int) - open_photograph(tmp_path / "plain.png", 8)).mean()
    other = np.abs(np.rot90(open_photograph(tmp_path / "plain.png", 8), 2).astype(int)
                   - open_photograph(tmp_path / "plain.png", 8)).mean()  # fmt: skip
    assert error < 15 < other


@pytest.mark.parametrize(
    ("name", "words"),
    [("x" * 300 + ".jpg", "can't be opened (File name too long)"), ("loop.jpg", "no such file"), ("zero.jpg", "not a")],
)
def test_a_name_that_leads_nowhere_is_told(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    with pytest.raises(UnreadableError) as caught:
        open_photograph(tmp_path / name, 8)
    assert words in str(caught.value)


def test_numbers_without_a_white_are_no_photograph(tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).random((8, 8)).astype(np.float32)).save(tmp_path / "x.tif")
    with pytest.raises(UnreadableError, match="floating-point numbers; save it with 8 or 16 bits"):
        open_photograph(tmp_path / "x.tif", 8)


@pytest.mark.parametrize("fit", ["squash", "pad"])
def test_a_photograph_that_takes_too_much_memory_is_unreadable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fit: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise MemoryError  # as for a strip of 1 x 100,000,000 pixels, which takes 20 s to open

    picture().save(tmp_path / "x.png")
    monkeypatch.setattr(Image.Image, "resize", refuse)
    with pytest.raises(UnreadableError, match=r"can't be decoded \(MemoryError\)"):
        open_photograph(tmp_path / "x.png", View(8, fit))


def test_no_place_for_decoded_photographs_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="name a disk with free space with the variable TMPDIR"):
        temporary_folder()


# tables


@pytest.mark.parametrize("cell", ["x" * 201, "\x1b]0;owned\x07"])
@pytest.mark.parametrize("column", ["image_id", "identity"])
def test_names_that_could_not_be_written_again_are_faults(
    patterns: Path, edit_rows: Callable, column: str, cell: str
) -> None:
    edit_rows(lambda table: table.assign(**{column: table[column].where(table.index > 0, cell)}))
    with pytest.raises(InputError, match=f"row 2, column {column}: expected 200 characters at most"):
        read_catalogue(patterns)


def test_names_like_formulas_stay_as_they_are_and_are_told(
    patterns: Path, edit_rows: Callable, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    formula = "=cmd|' /C calc'!A1"
    edit_rows(lambda table: table.assign(identity=table["identity"].replace({"Dots_1": formula, "Dots_2": "-12.5"})))
    assert cli.main(["check", str(patterns)]) == 0
    assert "a spreadsheet runs names such as \"=cmd|' /C calc'!A1\" (1) as formulas" in capsys.readouterr().err


def test_dates_that_cannot_be_read_are_told_where_they_would_have_protected(
    patterns: Path, patterns_weights: Path, edit_rows: Callable, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    edit_rows(lambda table: table.assign(date="3 May"))
    words = [str(patterns), "--weights", str(patterns_weights)]
    for call in (
        ["check", str(patterns)],
        ["calibrate", *words],
        ["predict", *words, "--out", str(tmp_path / "s.csv")],
    ):
        assert cli.main(call) == 0
        assert ("can't be read: expected YYYY-MM-DD" in capsys.readouterr().err) == (call[0] != "predict")


def test_a_formula_is_written_as_it_is(tmp_path: Path) -> None:
    formula = "=cmd|' /C calc'!A1"
    columns = {"image_id": ["1"], "dataset": ["Lions"], "threshold": [0.5], "answer": [formula], "flags": [""]}
    candidates = pd.DataFrame(
        {"image_id": ["1"], "rank": [1], "candidate": [formula], "candidate_image_id": ["2"], "dissimilarity": [0.1]}
    )
    Matches(pd.DataFrame(columns), candidates.assign(probability=0.9), "auto", {}).save(tmp_path / "s.csv")
    assert read_table(tmp_path / "s.csv", ("identity",))["identity"].tolist() == [formula]


def test_what_steers_a_terminal_is_printed_as_words() -> None:
    assert printable("a\x1b[2Jb\nGröße\r\u202e") == "a\\x1b[2Jb\nGröße\\r\\u202e"


@pytest.mark.parametrize("read", [lambda path: read_table(path, ("a",)), read_json])
def test_nobody_waits_for_a_pipe(tmp_path: Path, read: Callable[[Path], object]) -> None:
    os.mkfifo(tmp_path / "x")
    with pytest.raises(InputError, match=r"x: expected a .* file here, found a pipe or a device"):
        read(tmp_path / "x")


def test_a_thousand_brackets_are_no_json(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("[" * 100_000)
    with pytest.raises(InputError, match=r"x\.json: expected JSON, but it can't be read"):
        read_json(tmp_path / "x.json")


# weights


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("data opened a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ('"backbone": "test_resnet"', '"backbone": "hf-hub:nobody/nothing"', "its backbone is 'hf-hub:nobody/nothing'"),
        ('"backbone": "test_resnet"', '"backbone": "resnet18"', "expected"),
        ('"embedding_size": 2', '"embedding_size": 60000', r"expected \[60000"),  # 23 MB; nothing is taken for it
        ('"embedding_size": 2', '"embedding_size": 1000000000000', "its sizes are"),
        ('"image_size": 32', '"image_size": -1', "its sizes are"),
        ('"std": [0.5, 0.5, 0.5]', '"std": [0, 0, 0]', "its colours are"),
    ],
)
def test_a_plan_that_lies_is_refused_before_anything_is_built_of_it(
    tmp_path: Path, no_network: None, field: str, value: str, words: str
) -> None:
    good = plan_bytes().decode()
    assert field in good
    with pytest.raises(InputError, match=rf"Lions\.safetensors: expected a network written by this kit.*{words}"):
        plan(tmp_path, good.replace(field, value).encode())


def test_a_pickle_under_another_name_runs_nothing(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple:
            return os.system, (f"touch {tmp_path}/ran",)

    torch.save(Trap(), tmp_path / "x.safetensors")
    torch.save(Trap(), tmp_path / "x.pth")
    with pytest.raises(InputError, match="expected a network written by this kit"):
        load_network(tmp_path / "x.safetensors")
    words = ["train", str(tmp_path), "--out", str(tmp_path / "w"), "--recipe", "toy", "--init"]
    assert cli.main([*words, str(tmp_path / "x.safetensors")]) == 2
    from reid.models.backbones import build_backbone
    from reid.models.pretrained import load_pretrained

    for name in ("x.safetensors", "x.pth"):
        with pytest.raises(InputError, match="expected a state dict"):
            load_pretrained(build_backbone("test_resnet", 32, "backbone", 2), "test_resnet", tmp_path / name)
    assert not (tmp_path / "ran").exists()


def test_a_network_is_loaded_as_it_was_saved(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(network_bytes())
    assert load_network(tmp_path / "x.safetensors").plan.embedding_size == 2


# places


@pytest.mark.parametrize("damage", ["killed", "gone"])
@pytest.mark.parametrize(
    ("name", "commands"), [("calibration.json", ["calibrate"]), ("Dots.gallery.safetensors", ["enroll", "calibrate"])]
)
def test_galleries_and_thresholds_that_were_cut_or_lost_are_made_anew_as_it_is_told(
    damage: str,
    name: str,
    commands: list[str],
    patterns: Path,
    patterns_weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = (patterns_weights / name).read_bytes()
    if damage == "gone":
        (patterns_weights / name).unlink()
    else:
        (patterns_weights / name).write_text("{}")  # of a command that came no further
    words = [str(patterns), "--weights", str(patterns_weights)]
    assert cli.main(["predict", *words, "--out", str(tmp_path / "s.csv")]) == 2
    calls = [f"reid {command} DATA --weights {patterns_weights}`" for command in commands]
    told = capsys.readouterr().err
    assert "opy the weights folder again" in told
    assert re.findall(rf"reid \w+ DATA --weights {patterns_weights}`", told) == calls
    for command in commands:
        assert cli.main([command, *words]) == 0
    assert cli.main(["predict", *words, "--out", str(tmp_path / "s.csv")]) == 0
    assert (patterns_weights / name).read_bytes() == before


def test_galleries_and_thresholds_that_are_both_lost_are_made_anew(
    patterns: Path, patterns_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lost = [patterns_weights / name for name in ("Dots.gallery.safetensors", "calibration.json")]
    before = [path.read_bytes() for path in lost]
    for path in lost:
        path.unlink()
    words = [str(patterns), "--weights", str(patterns_weights)]
    assert cli.main(["enroll", *words]) == 0
    assert cli.main(["predict", *words, "--out", str(tmp_path / "s.csv")]) == 2
    assert re.findall(r"reid (\w+) DATA", capsys.readouterr().err) == ["calibrate"]
    assert cli.main(["calibrate", *words]) == 0
    assert cli.main(["predict", *words, "--out", str(tmp_path / "s.csv")]) == 0
    assert [path.read_bytes() for path in lost] == before


def test_a_place_that_cannot_be_written_is_refused_before_the_work(
    patterns: Path, patterns_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder").mkdir()
    before = sorted(tmp_path.rglob("*"))
    words = ["predict", str(patterns), "--weights", str(patterns_weights), "--out", str(tmp_path / "folder")]
    assert cli.main(words) == 2
    assert "folder: expected the name of a file to write, found a folder; name a file in it" in capsys.readouterr().err
    assert cli.main([*words[:-1], str(patterns / "metadata.csv")]) == 2
    assert "metadata.csv: expected the name of a submission, found another file there" in capsys.readouterr().err
    refuse_unwritable(tmp_path / "folder" / "s.csv")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_submission_takes_the_place_of_an_older_one_and_of_nothing_else(
    patterns: Path, patterns_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["predict", str(patterns), "--weights", str(patterns_weights), "--out"]
    photograph, older = next((patterns / "images").rglob("*.jpg")), tmp_path / "older.csv"
    for path in (photograph, patterns_weights / "manifest.json", patterns / "solution.csv"):
        before = path.read_bytes()
        assert cli.main([*words, str(path)]) == 2
        assert "expected the name of a submission, found another file there; choose" in capsys.readouterr().err
        assert path.read_bytes() == before
    for content in ("", '"image_id","identity"\r\n"1","Dots_1"\r\n'):
        older.write_text(content)
        assert cli.main([*words, str(older)]) == 0
        assert older.read_text().startswith("image_id,identity\n")


def test_a_report_says_at_once_what_cannot_become_one(
    patterns: Path,
    patterns_weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(predict, "predict", None)  # which may take an hour
    words = ["report", str(patterns), "--weights", str(patterns_weights), "--out"]
    other = tmp_path / "other.csv"
    other.write_text((patterns / "solution.csv").read_text().replace("\n", "\nx", 1))
    other_words = [*words, str(tmp_path / "r"), "--solution", str(other)]
    for call, told in (
        ([*words, str(other)], f"--out {other}: expected the name of a folder to make, found a file"),
        (other_words, f"--solution {other}: expected the answers to the 28 queries of {patterns}, found 1 of 28 rows"),
    ):
        assert cli.main(call) == 2
        assert told in capsys.readouterr().err


def test_blanks_around_identities_are_told_with_their_rows(
    patterns: Path, edit_rows: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    def soil(table: pd.DataFrame) -> pd.DataFrame:
        table.loc[table.index[table["split"] == "database"][:2], "identity"] += " "
        return table

    assert cli.main(["check", str(patterns)]) == 0
    assert "ends with a blank" not in capsys.readouterr().err
    edit_rows(soil)
    assert cli.main(["check", str(patterns)]) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if "begins or ends with a blank" in line]
    assert len(told) == 2
    assert re.search(r"metadata\.csv: row \d+, column identity: '\w+ ' begins", told[0])
