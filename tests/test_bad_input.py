"""Wrong input ends with status 2, one line that says what to do, and nothing half written."""

import errno
import json
import os
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from reid import cli
from reid.commands import calibrate, enroll, predict, report
from reid.data.catalogue import read_catalogue
from reid.decision.artifact import open_weights
from reid.errors import InputError, MachineError
from reid.models import pretrained
from reid.runtime.files import atomic_path, write_bytes, write_json


def fails(capsys: pytest.CaptureFixture[str], *words: object, status: int = 2) -> str:
    """Run a command that must refuse; return its one line of error."""
    capsys.readouterr()
    assert cli.main([*map(str, words), "-q"]) == status
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("warning: ")]
    assert lines[0].startswith("error: ")
    assert len(lines) == 1, lines
    return lines[0]


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["train"],
            "error: the following arguments are required: DATA, --out; `reid train --help` explains the call\n",
        ),
        (["guess"], "error: argument COMMAND: invalid choice: 'guess'"),
        (["check", "x", "y"], "error: unrecognized arguments: y; `reid COMMAND --help` explains the call\n"),
        (
            ["predict", "x", "--weights", "w", "--out", "s", "--route", "x"],
            "error: argument --route: invalid choice: 'x'",
        ),
    ],
)
def test_a_wrong_call_is_one_line_too(capsys: pytest.CaptureFixture[str], words: list[str], told: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(words)
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(told)
    assert error.count("\n") == 1


def test_a_line_break_in_a_cell_does_not_break_the_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "metadata.csv").write_text('image_id,"two\nlines"\n1,2\n')
    assert "two lines" in fails(capsys, "check", tmp_path)


def test_another_recipe_in_the_folder_of_a_run_changes_nothing_and_the_same_may_be_typed_again(
    patterns: Path, patterns_weights: Path, tiny_settings: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    local = ["--recipe", "local", *("--set", "calibration.scorers=local", "--set", "calibration.splits=3")]
    before = contents(patterns_weights)
    told = fails(capsys, "train", patterns, "--out", patterns_weights, *local)
    assert "it holds a run with other settings" in told
    assert {path: path.read_bytes() for path in before if path.suffix != ".lock"}.items() <= before.items()
    words = ["train", str(patterns), "--out", str(tmp_path / "w"), *local]
    assert cli.main(words) == 0
    before = contents(tmp_path / "w")
    assert "it holds a run with other settings" in fails(capsys, *words[:4], *tiny_settings)
    assert cli.main(words) == 0
    after = contents(tmp_path / "w")
    assert {path for path in before if before[path] != after[path]} <= {tmp_path / "w" / "training" / "seconds.json"}


@pytest.mark.parametrize("command", ["predict", "calibrate"])
def test_what_training_fixed_cannot_be_set_later(
    command: str, patterns: Path, patterns_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", tmp_path / "s.csv"] if command == "predict" else []
    told = fails(capsys, command, patterns, "--weights", patterns_weights, *out, "--set", "backbone.image_size=64")
    assert "--set backbone.image_size=64: training has fixed this setting; here you may set" in told


def test_enrolling_a_folder_that_lacks_a_dataset_is_refused(
    patterns: Path, patterns_weights: Path, edit_rows: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    edit_rows(lambda table: table[table["dataset"] == "Dots"])
    told = fails(capsys, "enroll", patterns, "--weights", patterns_weights)
    assert "expected database rows of dataset Checks, as in the weights; found Dots" in told


def test_calibrating_by_a_folder_that_does_not_know_the_gallery_is_refused(
    patterns: Path, patterns_weights: Path, edit_rows: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(patterns_weights)
    edit_rows(lambda table: table.drop(index=table.index[table["split"] == "database"][-3:]))
    told = fails(capsys, "calibrate", patterns, "--weights", patterns_weights)
    assert (
        "metadata.csv: expected database rows for the 24 photographs of the gallery of Dots, found none for 3" in told
    )
    assert "name the folder that was enrolled, or run `reid enroll` on this one first" in told
    assert contents(patterns_weights) == before
    assert cli.main(["enroll", str(patterns), "--weights", str(patterns_weights)]) == 0
    assert cli.main(["calibrate", str(patterns), "--weights", str(patterns_weights)]) == 0


def test_what_is_seen_at_once_is_refused_before_what_takes_long(
    tmp_path: Path, patterns: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrained, "load_model_config_from_hf", lambda *_: pytest.fail("the hub was asked"))
    for module in (enroll, calibrate, predict, report):
        monkeypatch.setattr(module, "open_weights", lambda *_, **__: pytest.fail("the weights were read"))
    nowhere, out = tmp_path / "nowhere", ["--out", tmp_path / "w"]
    assert "no such folder" in fails(capsys, "train", nowhere, *out, "--recipe", "baseline")
    assert "--save-every: expected 0" in fails(capsys, "train", patterns, *out, "--save-every", "-1")
    for command in ("enroll", "calibrate", "predict", "report"):
        made = out if command in ("predict", "report") else []
        assert "no such folder" in fails(capsys, command, nowhere, "--weights", tmp_path, *made)


def test_a_sample_submission_without_rows_is_refused(
    patterns: Path, patterns_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (patterns / "sample_submission.csv").write_text("image_id,identity\n")
    told = fails(capsys, "predict", patterns, "--weights", patterns_weights, "--out", tmp_path / "s.csv")
    assert "sample_submission.csv: expected the rows to answer, found none" in told


@pytest.mark.parametrize("content", ["[]", "{}", "{"])
def test_a_damaged_note_of_a_run_is_told(
    content: str, patterns: Path, patterns_weights: Path, tiny_settings: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (patterns_weights / "training" / "run.json").write_text(content)
    assert "run.json: " in fails(capsys, "train", patterns, "--out", patterns_weights, *tiny_settings)


def test_what_check_says_of_unreadable_photographs_is_what_the_commands_do(
    patterns: Path, tiny_settings: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pd.read_csv(patterns / "metadata.csv", dtype=str, keep_default_na=False)
    known, asked = (table[table["split"] == split].iloc[0] for split in ("database", "query"))
    for row in (known, asked):
        (patterns / row["path"]).unlink()
    told = fails(capsys, "check", patterns)
    assert "unreadable, listed above: 2 photographs; replace the files or remove their rows. Otherwise train" in told
    assert "(--set data.skip_unreadable=true, and recipe keypoints without it, leave them out with a warning)" in told
    assert told.endswith("and predict calls such queries new_individual")
    assert "1 photographs can't be read" in fails(capsys, "train", patterns, "--out", tmp_path / "w", *tiny_settings)
    local = ["--set", "matching.cues=local", "--set", "calibration.scorers=local", "--set", "prediction.route=column"]
    for folder, more in ((tmp_path / "a", ["--set", "data.skip_unreadable=true"]), (tmp_path / "b", local)):
        assert cli.main(["train", str(patterns), "--out", str(folder), *tiny_settings, *more]) == 0
        assert re.search(rf"warning: row \d+ \(image_id {known['image_id']}, .*no such file", capsys.readouterr().err)
    assert cli.main(["predict", str(patterns), "--weights", str(folder), "--out", str(tmp_path / "s.csv")]) == 0
    answers = pd.read_csv(tmp_path / "s.csv", dtype=str).set_index("image_id")["identity"]
    assert answers[asked["image_id"]] == "new_individual"
    assert (
        f"{asked['image_id']} can't be read (no such file; no other file of that name is below the folder: "
        in capsys.readouterr().err
    )


def test_check_lists_every_fault(patterns: Path, edit_rows: Callable, capsys: pytest.CaptureFixture[str]) -> None:
    edit_rows(lambda table: table.assign(split=table["split"].mask(table.index < 3, "val")))
    assert cli.main(["check", str(patterns)]) == 2
    told = capsys.readouterr()
    assert told.out.count("column split: expected database (or train) or query (or test); found 'val'") == 3
    assert "3 faults, listed above" in told.err


def test_many_faults_of_a_kind_are_told_together_and_hide_no_other(
    patterns: Path, edit_rows: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = (patterns / "images").rename(patterns.with_name("elsewhere"))
    (patterns / "images").symlink_to(elsewhere)
    edit_rows(lambda table: table.assign(split=table["split"].mask(table.index == 30, "val")))
    assert cli.main(["check", str(patterns)]) == 2
    told = capsys.readouterr()
    last = len(pd.read_csv(patterns / "metadata.csv")) + 1
    (line,) = [line for line in told.out.splitlines() if "column path" in line]
    assert f"rows 2-{last}, column path: expected a path that stays in the data folder" in line
    assert f"a link leads out of it; found 'images', which is '{elsewhere}'. Copy what it leads to" in line
    assert "row 32, column split: expected database (or train) or query (or test); found 'val'" in told.out
    assert "2 faults, listed above" in told.err


def test_every_row_of_many_alike_is_named(
    patterns: Path, edit_rows: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pd.read_csv(patterns / "metadata.csv")
    for place in (*range(3, 15), 20, 22, 23):
        (patterns / table["path"][place]).unlink()
    (patterns / table["path"][30]).write_bytes(b"")
    assert cli.main(["check", str(patterns)]) == 2
    told = capsys.readouterr()
    assert (
        "rows 5-16, 22, 24-25: no such file; no other file of that name is below the folder: correct the path"
        in told.out
    )
    assert f"row 32 (image_id {table['image_id'][30]}, {table['path'][30]}): " in told.out
    assert "unreadable, listed above: 16 photographs" in told.err
    kinds = [
        "" if 3 <= place < 13 else "Lynx 2025" if place == 14 else name for place, name in enumerate(table["dataset"])
    ]
    edit_rows(lambda table: table.assign(dataset=kinds, split="database", identity="a", path="."))
    assert cli.main(["check", str(patterns)]) == 2
    told = capsys.readouterr()
    assert re.search(r"rows 5-14, column dataset: .*; found ''\.", told.out)
    assert re.search(r"row 16, column dataset: .*; found 'Lynx 2025'\.", told.out)
    assert "column path: expected a path that stays in the data folder, links followed" in told.out


def test_an_answer_on_a_query_row_is_not_looked_at_and_check_says_so(
    patterns: Path, edit_rows: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    edit_rows(lambda table: table.assign(identity=table["identity"].mask(table["split"] == "query", "who it is")))
    queries = sum(pd.read_csv(patterns / "metadata.csv")["split"] == "query")
    assert cli.main(["check", str(patterns)]) == 0
    assert f"metadata.csv: {queries} query rows with an identity, which is not" in capsys.readouterr().err
    assert set(read_catalogue(patterns).query.identities) == {""}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["training.backbone_rate=0"], "nothing trains the backbone: name first weights with --init FILE"),
        (["training.epochs=0"], "nothing trains the backbone: name first weights with --init FILE"),
        (
            ["training.backbone_rate=0.1"],
            "training.backbone_rate=0.1 and backbone.freeze_norms=False are for a trained backbone: name first",
        ),
        (
            ["backbone.freeze_norms=true"],
            "training.backbone_rate=1 and backbone.freeze_norms=True are for a trained backbone: name first weights",
        ),
        (["training.backbone_rate=0.5"], ""),
        ([], ""),
    ],
)
def test_a_backbone_of_random_weights_that_hardly_learns_is_said(
    settings: list[str], words: str, tiny_settings: list[str], patterns: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(patterns / "images")  # the warning comes before the photographs are opened
    more = [word for setting in settings for word in ("--set", setting)]
    assert cli.main(["train", str(patterns), "--out", str(patterns / "w"), *tiny_settings, *more]) == 2
    told = capsys.readouterr().err
    assert words in told
    assert ("warning: backbone.init=none starts from random weights" in told) == bool(words)


def test_weights_of_a_part_of_the_database_say_so_whatever_is_done_with_them(
    patterns: Path, tiny_settings: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, submission = str(tmp_path / "w"), str(tmp_path / "s.csv")
    words = f"warning: {weights}: trained on part of the database only (--limit 16): good for a quick look, not"
    data, own = str(patterns), ["--weights", weights]
    calls = [
        (["train", data, "--out", weights, "--limit", "16", *tiny_settings], True),
        (["predict", data, *own, "--out", submission], True),
        (["calibrate", data, *own], False),
        (["predict", data, *own, "--out", submission], True),
        (["enroll", data, *own], False),  # all are in the galleries now, but the networks learned from some
        (["predict", data, *own, "--out", submission], True),
        (["train", data, "--out", weights, "--limit", "1000", "--fresh", *tiny_settings], False),  # that is all of them
        (["predict", data, *own, "--out", submission], False),
    ]
    for call, warned in calls:
        assert cli.main(call) == 0
        assert (words in capsys.readouterr().err) == warned, call


def test_galleries_of_all_photographs_are_whole_where_no_network_learned_from_a_part(
    patterns: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = str(tmp_path / "w")
    local = ["--recipe", "local", *("--set", "calibration.scorers=local", "--set", "calibration.splits=3")]
    assert cli.main(["train", str(patterns), "--out", weights, "--limit", "16", *local]) == 0
    assert "(--limit 16): good for a quick look, not for a submission" in capsys.readouterr().err
    assert cli.main(["enroll", str(patterns), "--weights", weights]) == 0
    assert open_weights(tmp_path / "w").caution == ""


@pytest.mark.parametrize("limit", [True, -5, 0, 2.5, "16)\nerror: all is lost", {"a": 1}])
def test_a_limit_that_training_never_wrote_is_damage(limit: object, patterns_weights: Path) -> None:
    manifest = patterns_weights / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"limit": limit}))
    with pytest.raises(InputError, match="it is damaged"):
        open_weights(patterns_weights)


def test_check_names_photographs_that_cannot_be_read(patterns: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = next(iter((patterns / "images").rglob("*.jpg")))
    path.write_bytes(path.read_bytes()[:100])
    assert cli.main(["check", str(patterns)]) == 2
    told = capsys.readouterr()
    assert str(path.relative_to(patterns)) in told.out
    assert "unreadable, listed above: 1 photograph; replace" in told.err


@pytest.mark.parametrize("folder", ["nowhere", "empty"])
def test_training_on_nothing_leaves_nothing(folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    told = fails(capsys, "train", tmp_path / folder, "--out", tmp_path / "w", "--recipe", "toy")
    assert str(tmp_path / folder) in told
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["--recipe", "winner"],
            "recipe: expected one of paper, baseline, keypoints, frozen, pair, finetuned, toy, a .toml",
        ),
        (["--recipe", "locl"], "a weights folder, found 'locl'; did you mean local?"),
        (["--recipe", "my.toml"], "my.toml: expected a recipe in TOML, found no such file"),
        (["--recipe", "toy", "--set", "epoch=3"], "did you mean training.epochs"),
        (["--recipe", "toy", "--limit", "0"], "--limit: expected 1 or more"),
        (["--recipe", "toy", "--init", "nowhere.pth"], "--init nowhere.pth: expected a state dict of the backbone"),
        (
            ["--recipe", "local", "--init", "r50.safetensors"],
            "--init r50.safetensors: expected a recipe with a backbone to start from these weights, found",
        ),
        (["--recipe", "toy", "--set", "backbone.name=resnet5O"], "found 'resnet5O'; did you mean"),
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
    (tmp_path / "s.csv").write_text("image_id,identity\nmine,leo\n")
    (patterns_weights / "Dots.safetensors").write_bytes(b"")
    told = fails(capsys, "predict", patterns, "--weights", patterns_weights, "--out", tmp_path / "s.csv")
    assert "Dots.safetensors: expected sha256" in told
    assert (tmp_path / "s.csv").read_text() == "image_id,identity\nmine,leo\n"


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


@pytest.mark.parametrize("command", ["predict", "fetch"])
def test_a_pipe_keeps_its_place(
    command: str, patterns: Path, patterns_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe = tmp_path / "pipe.safetensors"
    os.mkfifo(pipe)
    if command == "predict":
        told = fails(capsys, "predict", patterns, "--weights", patterns_weights, "--out", pipe)
    else:
        with pytest.raises(InputError) as caught:
            write_bytes(pipe, b"weights")
        told = str(caught.value)
    assert "expected the name of a file to write, found a pipe or a device" in told
    assert pipe.is_fifo()


def test_the_next_step_can_be_typed_with_any_name(patterns: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = patterns.rename(patterns.with_name("my photos; of 'Mia'"))
    assert cli.main(["check", str(folder)]) == 0
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("next: ")]
    assert shlex.split(line)[1:4] == ["reid", "train", str(folder)]


def test_many_photographs_that_predict_cannot_read_share_a_line(
    patterns: Path, patterns_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pd.read_csv(patterns / "metadata.csv", dtype=str)
    queries = table[table["split"] == "query"]
    missing = queries["path"].iloc[1:]
    for path in missing:
        (patterns / path).unlink()
    words = ["predict", str(patterns), "--weights", str(patterns_weights), "--out", str(tmp_path / "s.csv")]
    assert cli.main([*words, "--route", "column"]) == 0
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "can't be read" in line]
    assert f" and {len(missing) - 5} more can't be read (the first: no such file; no other file of that name" in line
    (patterns / queries["path"].iloc[0]).unlink()
    told = fails(capsys, *words, "--route", "column")
    assert f"expected photographs to name, but none of {len(queries)} can be read; row " in told


def test_a_solution_without_new_individuals_explains_its_nought(
    patterns: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    solution = pd.read_csv(patterns / "solution.csv", dtype=str)
    known = solution[solution["new_identity"] == "False"]
    known.to_csv(tmp_path / "solution.csv", index=False)
    known[["image_id", "identity"]].to_csv(tmp_path / "s.csv", index=False)
    assert cli.main(["score", str(tmp_path / "s.csv"), str(tmp_path / "solution.csv")]) == 0
    told = capsys.readouterr().err
    assert "warning: Dots: the solution has no new individuals to find, for which the score counts 0" in told


def test_a_block_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("old")
    with pytest.raises(RuntimeError), atomic_path(tmp_path / "x") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert contents(tmp_path) == {tmp_path / "x": b"old"}


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        MachineError, match=r"x\.json: could not be written \(No space left on device\); nothing was left"
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
        told = fails(capsys, "train", patterns, "--out", disk / "w", *tiny_settings, status=1)
        assert "could not be written (No space left on device)" in told
        assert not (disk / "w" / "manifest.json").exists()
        assert not list(disk.rglob("*.part"))
    finally:
        os.system(f"umount {disk}")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["score", "nowhere.csv", "data/solution.csv"], "nowhere.csv: expected a CSV file here, found none"),
        (["score", "data", "data/solution.csv"], "data: expected a CSV file here, found a folder"),
        (["score", "data/solution.csv", "data/metadata.csv"], "data/metadata.csv: expected the columns image_id,"),
        (["score", "data/solution.csv", "data/solution.csv", "--usage", "Secret"], "no row has Usage Secret"),
        (["score", "twice.csv", "data/solution.csv"], "twice.csv: row 3: expected one answer for every image_id,"),
        (
            ["score", "short.csv", "data/solution.csv"],
            "error: short.csv: expected an answer for every image_id of data/solution.csv, 27 of 28 are missing, such",
        ),
        (["check", "nowhere"], "nowhere: expected a folder with metadata.csv, found no such folder"),
        (["check", "file"], "file: expected a folder with metadata.csv, found a file; name the folder that it lies in"),
        (["check", "data", "--submission", "nowhere.csv"], "nowhere.csv: expected a CSV file here, found none"),
        (["toy", "file"], "file: expected an empty folder, or a toy world to draw anew; found a file"),
        (["toy", "file/inside"], "could not be written"),
        (["toy", "."], "expected an empty folder, or a toy world to draw anew; found"),
        (["toy", "new", "--seed", "-1"], "--seed: expected 0 or more, found -1"),
        (["train", "data", "--out", "file", "--recipe", "toy"], "could not be written"),
        (["train", "data", "--out", "new", "--set", "epochs"], "--set epochs: expected GROUP.FIELD=VALUE, found no"),
        (["train", "data", "--out", "new", "--recipe", "local", "--only", "D"], "--only D: expected a recipe with net"),
        (["enroll", "data", "--weights", "nowhere"], "manifest.json: expected the manifest of a weights folder"),
        (["calibrate", "data", "--weights", "data"], "found a folder without one (was training finished?)"),
        (["predict", "data", "--weights", "file", "--out", "new.csv"], "found no such folder"),
        (["predict", "data", "--weights", "old", "--out", "new.csv"], "expected format 1 to 2, found 0"),
        (["report", "data", "--weights", "old", "--out", "new"], "expected format 1 to 2, found 0"),
    ],
)
def test_a_wrong_call_is_one_line_and_leaves_every_file_as_it_was(
    patterns: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    told: str,
) -> None:
    patterns.rename(tmp_path / "data")
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "manifest.json").write_text('{"format": 0}')
    (tmp_path / "file").write_text("mine")
    (tmp_path / "twice.csv").write_text("image_id,identity\n4,new_individual\n4,new_individual\n")
    (tmp_path / "short.csv").write_text("image_id,identity\n4,new_individual\n")
    before = contents(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert told in fails(capsys, *words)
    assert contents(tmp_path) == before


def test_a_pipe_among_the_photographs_is_named_and_nobody_waits_for_it(
    patterns: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = next(iter((patterns / "images").rglob("*.jpg")))
    path.unlink()
    os.mkfifo(path)
    assert cli.main(["check", str(patterns)]) == 2
    assert f"{path.relative_to(patterns)}): not a file" in capsys.readouterr().out


def test_drawing_onto_a_disk_that_is_really_full_leaves_no_world(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if os.geteuid() != 0 or os.system(f"mount -t tmpfs -o size=64k tmpfs {tmp_path} 2>/dev/null") != 0:
        pytest.skip("only root can mount a disk of 64 kB, and not on every machine")
    try:
        assert "could not be written (No space left on device)" in fails(capsys, "toy", tmp_path / "toy", status=1)
        assert {path.suffix.lower() for path in tmp_path.rglob("*") if path.is_file()} == {".jpg"}
    finally:
        os.system(f"umount {tmp_path}")
