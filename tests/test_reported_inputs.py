"""Inputs that people have reported, through the public commands: right, or told, never silently wrong."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import bundle
import dry_run
import pandas as pd
import pytest
from PIL import Image

from reid import cli
from reid.data.catalogue import read_catalogue

LOCAL = ["--recipe", "keypoints", "--set", "keypoints.count=40", "--set", "keypoints.size=64", "--set"]
LOCAL += ["calibration.scorers=local", "--set", "calibration.splits=3"]
"""A training of a second, without a network."""


def run(capsys: pytest.CaptureFixture[str], *words: object, status: int = 0) -> str:
    """What a command prints to stdout and stderr."""
    capsys.readouterr()
    assert cli.main(list(map(str, words))) == status
    printed = capsys.readouterr()
    return printed.out + printed.err


def answers(capsys: pytest.CaptureFixture[str], data: Path, weights: Path, *more: object) -> pd.Series:
    out = weights.with_name(f"{weights.name}-{data.name}.csv")
    run(capsys, "predict", data, "--weights", weights, "--out", out, *more)
    return pd.read_csv(out, dtype=str, index_col="image_id")["identity"]


def test_words_for_nobody_are_told_and_never_answered(
    patterns: Path, edit_rows: Callable, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nobody = {"Dots_1": "unknown", "Dots_2": "NA", "Checks_0": "New_Individual"}
    edit_rows(lambda table: table.assign(identity=table["identity"].replace(nobody)))
    told = "words for nobody, whose rows are left out: 'New_Individual' (4 rows), 'unknown' (4 rows), 'NA' (4 rows). "
    assert told in run(capsys, "check", patterns)
    for setting, is_kept in (("data.join_names=false", False), ("data.unknown_words=", True)):
        weights = tmp_path / str(is_kept)
        assert (told in run(capsys, "train", patterns, "--out", weights, *LOCAL, "--set", setting)) != is_kept
        answers(capsys, patterns, weights)
        matches = pd.read_csv(tmp_path / f"{is_kept}-patterns.matches.csv", dtype=str, keep_default_na=False)
        assert set(nobody.values()) & set(matches["candidate"]) == (set(nobody.values()) if is_kept else set())


def test_two_spellings_of_a_name_are_two_animals_until_they_are_joined(
    patterns: Path, edit_rows: Callable, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(capsys, "train", patterns, "--out", tmp_path / "plain", *LOCAL)
    plain = answers(capsys, patterns, tmp_path / "plain")
    edit_rows(
        lambda table: table.assign(
            identity=[name.upper() if place % 4 == 3 else name for place, name in enumerate(table["identity"])]
        )
    )
    assert "names that differ only in how they are written stay different" in run(capsys, "check", patterns)
    joined = [*LOCAL, "--set", "data.join_names=true"]
    assert "are joined as the first of them" in run(capsys, "train", patterns, "--out", tmp_path / "joined", *joined)
    assert answers(capsys, patterns, tmp_path / "joined").equals(plain)
    run(capsys, "train", patterns, "--out", tmp_path / "apart", *LOCAL)
    assert not answers(capsys, patterns, tmp_path / "apart").equals(plain)


def test_the_spelling_of_a_side_changes_no_answer(
    patterns: Path, edit_rows: Callable, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in read_catalogue(patterns).query.paths:  # they lie: right means that -90 degrees bring them upright
        with Image.open(path) as opened:
            opened.transpose(Image.Transpose.ROTATE_90).save(path, quality=95)
    found = {}
    splits = pd.read_csv(patterns / "metadata.csv", dtype=str)["split"]
    for side in ("right", "Right", "R", "right lateral", "top"):
        sides = splits.map({"database": "top", "query": side})
        edit_rows(lambda table, sides=sides: table.assign(orientation=sides))
        weights = tmp_path / side.replace(" ", "_")
        run(capsys, "train", patterns, "--out", weights, *LOCAL, "--set", "data.upright=Dots,Checks")
        found[side] = answers(capsys, patterns, weights)
    right = found.pop("right")
    assert not right.equals(found.pop("top"))
    assert all(other.equals(right) for other in found.values())


def test_a_setting_for_a_dataset_that_is_not_there_is_told(
    patterns: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = run(capsys, "train", patterns, "--out", tmp_path / "w", *LOCAL, "--set", "data.upright=Newts")
    assert "--set data.upright=Newts: there is no dataset 'Newts' here, only Checks, Dots" in told


def test_photographs_under_two_identities_are_faults_with_their_rows(
    patterns: Path, edit_rows: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pd.read_csv(patterns / "metadata.csv", dtype=str, keep_default_na=False)
    first, other = (table.index[table["identity"] == name][0] for name in ("Dots_0", "Dots_3"))
    shutil.copy(patterns / table["path"][first], patterns / table["path"][other])
    told = run(capsys, "check", patterns, status=2)
    assert (
        f"row {other + 2}: {table['path'][other]!r} is the same file as {table['path'][first]!r} of row {first + 2}"
        in told
    )
    edit_rows(lambda rows: rows.assign(path=rows["path"].where(rows.index != other, table["path"][first])))
    for command in (("check", patterns), ("train", patterns, "--out", patterns / "w")):
        told = run(capsys, *command, status=2)
        assert (
            f"row {other + 2}, column path: expected every photograph once, found that of row {first + 2} again" in told
        )


def test_rows_of_one_photograph_with_the_same_box_are_refused(
    patterns: Path, patterns_weights: Path, edit_rows: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pd.read_csv(patterns / "metadata.csv", dtype=str, keep_default_na=False)
    one, other = table.index[table["split"] == "query"][:2]
    paths = table["path"].where(table.index != other, table["path"][one])
    edit_rows(lambda rows: rows.assign(path=paths, bbox="[0, 0, 9, 9]", bbox_unit="pixels"))
    words = f"row {other + 2}, column path: expected every photograph once, found that of row {one + 2} again with the"
    for command in (
        ("check", patterns),
        ("predict", patterns, "--weights", patterns_weights, "--out", patterns / "s.csv"),
    ):
        assert words in run(capsys, *command, status=2)


def test_a_solution_in_other_names_is_told(
    patterns: Path, patterns_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers(capsys, patterns, patterns_weights)
    submission = patterns_weights.with_name(f"{patterns_weights.name}-{patterns.name}.csv")
    solution = pd.read_csv(patterns / "solution.csv", dtype=str)
    for change, words in (
        (str.upper, r"answered names are written in another way there: 'Checks_\d' in the answers, 'CHECKS_\d' in the"),
        (lambda name: f"animal {name}", "no answered name occurs in the solution, such as"),
    ):
        solution.assign(identity=solution["identity"].map(change)).to_csv(tmp_path / "s.csv", index=False)
        assert re.search(words, run(capsys, "score", submission, tmp_path / "s.csv"))
    assert "name" not in run(capsys, "score", submission, patterns / "solution.csv")


def test_a_folder_of_which_no_query_can_be_read_is_refused_with_the_cause(
    patterns: Path, patterns_weights: Path, edit_rows: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    edit_rows(lambda table: table.assign(path=table["path"].str.replace("/", "\\")))
    told = run(capsys, "predict", patterns, "--weights", patterns_weights, "--out", patterns / "s.csv", status=2)
    assert re.search(r"none of 28 can be read; row \d+ .*backslashes, as Windows writes paths: write 'images/", told)
    assert not (patterns / "s.csv").exists()
    told = run(capsys, "train", patterns, "--out", patterns / "w", *LOCAL, status=2)
    assert "backslashes" in told


def test_words_of_the_second_competition_are_the_first_ones(
    patterns: Path, patterns_weights: Path, edit_rows: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    before = answers(capsys, patterns, patterns_weights)
    edit_rows(lambda table: table.assign(split=table["split"].map({"database": "train", "query": "Test"})))
    assert answers(capsys, patterns, patterns_weights).equals(before)
    assert "no fault in 76 rows\n" in run(capsys, "check", patterns)


def test_queries_alone_are_answered_and_grouped_but_train_no_backbone(
    patterns: Path, patterns_weights: Path, edit_rows: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    before = answers(capsys, patterns, patterns_weights)
    edit_rows(lambda table: table[table["split"] == "query"])
    assert answers(capsys, patterns, patterns_weights).equals(before)
    assert "nobody is known here" in run(capsys, "check", patterns)
    assert "it knows nobody" in run(capsys, "train", patterns, "--out", patterns / "w", *LOCAL)
    paper = ("--recipe", "paper")
    assert "to learn from, found none" in run(capsys, "train", patterns, "--out", patterns / "p", *paper, status=2)
    edit_rows(lambda table: table.assign(split="database", identity="unknown"))
    told = run(capsys, "train", patterns, "--out", patterns / "w", *LOCAL, status=2)
    assert "found none, beside 28 whose identity is a word for nobody" in told


def test_a_part_of_a_training_names_only_networks_that_will_be_trained(
    patterns: Path, tiny_settings: list[str], edit_rows: Callable, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nobody = dict.fromkeys(("Dots_0", "Dots_1", "Dots_2", "Dots_3", "Dots_4", "Dots_5"), "unknown")
    edit_rows(
        lambda table: pd.concat([table, table[:4].assign(image_id=list("abcd"), dataset="New", path=list("abcd"))])
    )
    for name, path in zip("abcd", read_catalogue(patterns).paths, strict=False):
        shutil.copy(path, patterns / name)
    edit_rows(lambda table: table.assign(identity=table["identity"].replace(nobody)))
    told = run(capsys, "train", patterns, "--out", tmp_path / "w", *tiny_settings, "--only", "Checks")
    assert "trained: Checks; still to train: species, New" in told


def test_the_bundle_answers_a_folder_of_all_kinds_as_the_package_does(
    patterns: Path, edit_rows: Callable, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pd.read_csv(patterns / "metadata.csv", dtype=str, keep_default_na=False)
    known, asked = (table.index[table["split"] == split] for split in ("database", "query"))
    table.loc[known[:4], "identity"] = ["unknown", "NA", "?", "New_Individual"]
    table.loc[known[4:8], "identity"] = table.loc[known[4:8], "identity"].str.upper()
    table.loc[known[8:12], "date"] = ["2999-01-01", "1970-01-01", "1970-01-01", "1988-05-05"]
    table.loc[known[12:16], "orientation"] = ["Left", "L", "lateral left", "Lft"]
    table["split"] = table["split"].map({"database": "train", "query": "test"})
    turned, cut, pointer, phone, gone, lone, other = asked[:7]
    exif = Image.Exif()
    exif[274] = 6
    with Image.open(patterns / table["path"][turned]) as opened:
        opened.transpose(Image.Transpose.ROTATE_90).save(patterns / "turned.tif", exif=exif)
    content = (patterns / table["path"][cut]).read_bytes()
    (patterns / "cut.jpg").write_bytes(content[: len(content) // 2] + bytes(len(content) // 2))
    (patterns / "pointer.jpg").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1234\n")
    (patterns / "phone.jpg").write_bytes(b"\0\0\0\x18ftypmif1" + bytes(4) + b"mif1heic" + bytes(100))
    Image.new("RGB", (48, 40), (90, 90, 90)).save(patterns / "fog.jpg")
    files = {turned: "turned.tif", cut: "cut.jpg", pointer: "pointer.jpg", phone: "phone.jpg", gone: "images\\gone.jpg"}
    for row, path in files.items():
        table.loc[row, "path"] = path
    table.loc[[lone, other], "dataset"] = ["Fog", "Newts"]
    fog = dict(zip(table.columns, ["fog", "grey", "fog.jpg", "", "", "", "train", "Fog"], strict=True))
    edit_rows(lambda _: pd.concat([table, pd.DataFrame([fog])]))
    told = run(capsys, "check", patterns, status=2)
    for words in ("words for nobody", "no side that is known", "in the future", "nobody can be named there", "Git LFS"):
        assert words in told
    weights, submission = tmp_path / "weights", tmp_path / "s.csv"
    run(capsys, "train", patterns, "--out", weights, *LOCAL, "--set", "data.join_names=true")
    run(capsys, "predict", patterns, "--weights", weights, "--out", submission)
    flags = (
        pd.read_csv(tmp_path / "s.matches.csv", dtype=str, keep_default_na=False).groupby("image_id")["flags"].first()
    )
    unreadable = table["image_id"][[cut, pointer, phone, gone]]
    assert set(flags.index[flags.str.contains("unreadable")]) == set(unreadable)
    assert set(flags.index[flags.str.contains("no_gallery")]) == set(table["image_id"][[lone, other]])
    dry_run.dry_run(bundle.write_bundle(tmp_path / "kernel"), patterns, weights, submission)
