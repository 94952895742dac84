"""The command line: what it prints where, its exit statuses, its JSON, and where it runs.

`docs/commands.md` shows what the program prints of itself, word for word. After a change of the command line:
`python tests/test_commands.py > docs/commands.md`.
"""

import errno
import io
import json
import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from reid import __version__, cli
from reid.commands import score
from reid.config.presets import PRESETS
from reid.config.settings import override, with_settings
from reid.data.catalogue import read_rows
from reid.data.checks import scan_files
from reid.data.table_warnings import find_table_warnings
from reid.errors import InputError, MachineError, Stopped
from reid.runtime.progress import messages_on_stderr, track

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "commands.md"


def help_of(*words: str) -> str:
    """What the program prints of itself or of a command."""
    printed = io.StringIO()
    with redirect_stdout(printed), pytest.raises(SystemExit, match=r"^0$"):
        cli.main([*words, "--help"])
    return printed.getvalue()


def command_names() -> list[str]:
    return re.findall(r"^ {4}(\w+)", help_of(), re.MULTILINE)


def page() -> str:
    parts = ["# The commands\nWhat `reid --help` and `reid COMMAND --help` print; `tests/test_commands.py` wrote it."]
    actions = [("identities", "DATA", action) for action in ("list", "rename", "merge", "split", "undo", "log")]
    for words in [(), *((command,) for command in command_names()), *actions]:
        typed = " ".join(["reid", *words, "--help"])
        parts.append(f"## {' '.join(words) or 'reid'}\n```\n$ {typed}\n{help_of(*words)}```")
    return "\n\n".join(parts) + "\n"


def test_the_page_shows_what_the_program_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert PAGE.read_text("utf-8").split() == page().split()  # where a line is broken differs among Pythons


@pytest.mark.parametrize("command", ["", *command_names()])
def test_every_argument_is_explained(command: str) -> None:
    entries = re.findall(r"^ {2,4}([-\w].*(?:\n {5,}.*)*)", help_of(*filter(None, [command])), re.MULTILINE)
    assert any(entry.startswith("-h, --help") for entry in entries)
    for entry in set(entries) - {"COMMAND", "ACTION"}:
        assert re.search(r"\S(?: {2,}|\n +)\w", entry), entry


@pytest.mark.parametrize("command", command_names())
def test_every_command_has_an_example_that_the_program_understands(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    example = re.search(rf"Example: reid ({command} .*)", help_of(command))
    assert example
    assert cli.build_parser().parse_args(example[1].split()).command == command


# stdout and stderr


@pytest.fixture
def scored(tmp_path: Path) -> list[str]:
    """A call of `score` that prints a table and a warning."""
    (tmp_path / "s.csv").write_text("image_id,identity\n1,leo\n2,new_individual\n")
    rows = "1,leo,False,Lions,Public\n2,leo,False,Lions,Private\n"
    (tmp_path / "solution.csv").write_text("image_id,identity,new_identity,dataset,Usage\n" + rows)
    return ["score", str(tmp_path / "s.csv"), str(tmp_path / "solution.csv")]


WARNING = "warning: Lions: the solution has no new individuals to find, for which the score counts 0\n"


def test_results_go_to_stdout_and_warnings_to_stderr(scored: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(scored) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines()[-1] == "overall 0.0000"
    assert "warning" not in printed.out
    assert printed.err == WARNING


@pytest.mark.parametrize("place", [0, 1])  # before or after the command
@pytest.mark.parametrize(
    ("option", "shown"),
    [(None, {"info", "warning"}), ("-q", {"warning"}), ("-v", {"debug", "info", "warning"}), ("--quiet", {"warning"})],
)
def test_messages_are_chosen_before_or_after_the_command(
    place: int,
    option: str | None,
    shown: set[str],
    patterns: Path,
    edit_rows: Callable,
    capsys: pytest.CaptureFixture[str],
) -> None:
    edit_rows(
        lambda table: table.assign(identity=table["identity"].where(table["identity"] == "", table["identity"] + " "))
    )
    words = ["check", str(patterns)]
    words[place:place] = [option] if option else []
    assert cli.main(words) == 0
    lines = capsys.readouterr().err.splitlines()
    found = {"warning" for line in lines if line.startswith("warning: ")}
    found |= {"info" for line in lines if line.startswith("next: reid train ")}
    found |= {"debug" for line in lines if line.startswith("row ") and "'Dots_5 ' begins" in line}
    assert found == shown


def test_nothing_is_printed_where_nobody_asks(
    patterns: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    catalogue = read_rows(patterns)
    scan_files(catalogue)
    find_table_warnings(catalogue)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert list(track(range(3), "counting")) == [0, 1, 2]
    assert capsys.readouterr() == ("", "")
    with messages_on_stderr():
        assert list(track(range(3), "counting")) == [0, 1, 2]
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "counting" in printed.err


def test_the_handler_is_taken_away_again(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("reid")
    logger.setLevel(logging.ERROR)
    try:
        with messages_on_stderr(logging.DEBUG), messages_on_stderr(logging.WARNING):
            logger.getChild("x").info("nothing")
        assert (logger.level, logger.handlers) == (logging.ERROR, [])
    finally:
        logger.setLevel(logging.NOTSET)
    with messages_on_stderr():
        logger.getChild("x").warning("a\x1b[2J%s", "\u202e")
    assert capsys.readouterr().err == "warning: a\\x1b[2J\\u202e\n"


def test_only_the_first_rank_prints(
    scored: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert cli.main(scored) == 0
    assert capsys.readouterr() == ("", "")
    assert cli.main(["score", "nowhere.csv", "nowhere.csv"]) == 2
    assert capsys.readouterr() == ("", "error: rank 1: nowhere.csv: expected a CSV file here, found none\n")


# exit statuses


class OutOfMemoryError(RuntimeError):
    """As torch calls it."""


class AcceleratorError(RuntimeError):
    """As torch calls it."""


@pytest.mark.parametrize(
    ("problem", "status", "lines"),
    [
        (InputError("x.csv: row 3"), 2, ["error: x.csv: row 3"]),
        (InputError("x.csv:\nrow 3", hint="do\nthat"), 2, ["error: x.csv: row 3", "hint: do that"]),
        (MachineError("x: could not be written"), 1, ["error: x: could not be written"]),
        (
            OSError(errno.EIO, "Input/output error", "a.jpg"),
            1,
            ["error: a.jpg: Input/output error", "hint: fix that, then run the command again"],
        ),
        (
            MemoryError(),
            1,
            ["error: the memory is full (MemoryError)", "hint: set a smaller --batch-size or --threads 1"],
        ),
        (
            OutOfMemoryError("CUDA\nlost"),
            1,
            ["error: the memory is full (CUDA lost)", "hint: set a smaller --batch-size"],
        ),
        (
            AcceleratorError("CUDA error"),
            1,
            ["error: the GPU failed (CUDA error)", "hint: `nvidia-smi` shows its state"],
        ),
        (
            Stopped("stopped by SIGINT, saved", "SIGINT"),
            130,
            ["warning: stopped by SIGINT, saved; the same command resumes"],
        ),
        (Stopped("stopped by SIGTERM", "SIGTERM"), 75, ["warning: stopped by SIGTERM; the same command resumes"]),
        (KeyboardInterrupt(), 130, ["stopped; type the same command again"]),
    ],
)
def test_what_ends_a_command_is_told_in_a_line_and_by_the_status(
    problem: BaseException,
    status: int,
    lines: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object) -> None:
        raise problem

    monkeypatch.setattr(score, "read_submission", fail)
    assert cli.main(["score", "s.csv", "solution.csv"]) == status
    printed = capsys.readouterr()
    assert printed.out == ""
    found = printed.err.splitlines()
    assert len(found) == len(lines)
    assert all(line.startswith(words) for line, words in zip(found, lines, strict=True)), found
    assert cli.main(["score", "s.csv", "solution.csv", "--debug"]) == status
    debugged = capsys.readouterr().err
    assert debugged.endswith(printed.err)
    assert debugged.startswith("Traceback") == (status in (1, 2))


def test_a_bug_ends_with_its_traceback_and_where_to_report_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nothing: dict[str, str] = {}
    monkeypatch.setattr(score, "read_submission", lambda _: nothing["x\x1b[2J"])
    assert cli.main(["score", "s.csv", "solution.csv"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert "KeyError: 'x\\x1b[2J'" in lines[-3]
    assert lines[-2] == "error: this is a bug: KeyError: 'x\\x1b[2J'"
    assert lines[-1].startswith(f"hint: open an issue with this traceback (reid {__version__}, Python 3.")


def test_a_reader_that_has_gone_ends_it_quietly() -> None:
    """As `| head` does."""
    reader, writer = os.pipe()
    os.close(reader)
    call = [sys.executable, "-m", "reid", "recipes", "frozen"]
    done = subprocess.run(call, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


# JSON


def json_of(capsys: pytest.CaptureFixture[str], *words: object, status: int = 0) -> dict[str, Any]:
    """What a command prints with `--json`, and nothing else on stdout."""
    capsys.readouterr()
    assert cli.main([*map(str, words), "--json"]) == status
    content = json.loads(capsys.readouterr().out)
    assert isinstance(content, dict)
    named = re.findall(r"\w+", re.split(r"--json\s+", help_of(str(words[0])))[-1])
    unnamed = {*content, *keys_of_datasets(content)} - set(named)
    assert not unnamed, f"--help does not name {unnamed}"
    return content


def keys_of_datasets(content: dict[str, Any]) -> set[str]:
    """The keys of each dataset, but for the counts of `check`, which its table explains."""
    datasets = content.get("datasets", {})
    return set() if "rows" in content else {key for values in datasets.values() for key in values}


def test_score_prints_json(scored: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    content = json_of(capsys, *scored)
    assert content == {"overall": 0.0, "datasets": {"Lions": {"baks": 0.5, "baus": None, "score": 0.0}}}
    assert cli.main([*scored, "--json"]) == 0
    assert capsys.readouterr().err == WARNING


def test_json_holds_what_a_terminal_must_not_get(patterns: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = patterns.rename(patterns.with_name("é\x7f\x9b\u202e"))
    capsys.readouterr()
    assert cli.main(["check", str(folder), "--json"]) == 0
    printed = capsys.readouterr().out
    assert all(letter.isprintable() or letter == "\n" for letter in printed)
    assert json.loads(printed)["data"] == str(folder)


def test_check_prints_json(
    patterns: Path, edit_rows: Callable, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json_of(capsys, "check", patterns, "--submission", patterns / "sample_submission.csv")
    assert content == {
        "data": str(patterns),
        "rows": 76,
        "faults": [],
        "warnings": [],
        "datasets": {
            name: {
                **{"images": 24, "individuals": 6, "singletons": 0, "largest": 4},
                **{"query": 14, "unreadable": 0, "duplicates": 0},
            }
            for name in ("Checks", "Dots")
        },
        "submission": {"file": str(patterns / "sample_submission.csv"), "faults": [], "beside": None},
    }
    (tmp_path / "s.csv").write_text("image_id,identity\n1,leo\n")
    faults = json_of(capsys, "check", patterns, "--submission", tmp_path / "s.csv", status=2)["submission"]["faults"]
    assert faults[0] == "row 2 (image_id 1): no query row has this image_id"
    next((patterns / "images").rglob("*.jpg")).unlink()
    content = json_of(capsys, "check", patterns, status=2)
    assert len(content["faults"]) == 1
    assert sum(counts["unreadable"] for counts in content["datasets"].values()) == 1
    edit_rows(lambda table: table.assign(split="gallery"))
    content = json_of(capsys, "check", patterns, status=2)
    assert (content["datasets"], content["submission"]) == ({}, None)
    assert "column split: expected database (or train) or query (or test); found 'gallery'" in content["faults"][0]


def test_calibrate_and_predict_print_json(
    patterns: Path, patterns_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json_of(capsys, "calibrate", patterns, "--weights", patterns_weights)
    stored = json.loads((patterns_weights / "calibration.json").read_text())
    assert set(content["datasets"]) == set(stored) == {"Checks", "Dots"}
    for dataset, values in content["datasets"].items():
        threshold = stored[dataset]["threshold"]
        assert values["threshold"] == threshold["value"]
        assert values["expected_score"] == threshold["score"]
        assert values["called_new"] == threshold["share_new"]
        assert values["scorer"] == stored[dataset]["scorer"]["kind"]
    next((patterns / "images" / "Dots" / "query").iterdir()).unlink()
    out = tmp_path / "s.csv"
    content = json_of(capsys, "predict", patterns, "--weights", patterns_weights, "--out", out, "--route", "column")
    answers = pd.read_csv(out, dtype=str)
    assert (content["submission"], content["route"], content["queries"]) == (str(out), "column", 28)
    assert {name: values["queries"] for name, values in content["datasets"].items()} == {"Checks": 14, "Dots": 14}
    called_new = sum(values["called_new"] for values in content["datasets"].values())
    assert called_new == (answers["identity"] == "new_individual").sum()
    assert content["flags"]["unreadable"] == 1
    assert Path(content["matches"]) == tmp_path / "s.matches.csv"
    assert Path(content["matches"]).is_file()
    assert content["seconds"]["predict"] > 0


def test_recipes_prints_json_and_text_that_can_be_typed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert set(json_of(capsys, "recipes")["presets"]) == set(PRESETS)
    content = json_of(capsys, "recipes", "light")
    assert content["name"] == "frozen"
    assert content["settings"]["head.neck"] == {
        **{"value": "bnneck", "default": "none"},
        "help": "bnneck puts a batch norm after the head (Luo 2019), none doesn't",
    }
    assert cli.main(["recipes", "toy"]) == 0
    settings = re.findall(r"^(\S+=\S*)(?: \(default .*\))?$", capsys.readouterr().out, re.MULTILINE)
    assert len(settings) == len(content["settings"])
    assert override(with_settings(PRESETS["paper"], {"name": "toy"}), settings) == PRESETS["toy"]
    (tmp_path / "empty.toml").write_text("")
    assert cli.main(["recipes", str(tmp_path / "empty.toml")]) == 0
    assert "(default" not in capsys.readouterr().out


# how the machine works


def test_options_of_the_machine_count_more_than_their_former_spelling(
    patterns: Path, patterns_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["predict", str(patterns), "--weights", str(patterns_weights), "--out", str(tmp_path / "s.csv")]
    refused = 0 if torch.cuda.is_available() else 2
    for more, status in (
        (["--device", "cuda"], refused),
        (["--set", "device=cuda"], refused),
        (["--set", "runtime.device=cuda"], refused),
        (["--set", "device=cuda", "--device", "auto", "--batch-size", "3", "--threads", "1"], 0),
    ):
        assert cli.main([*words, *more]) == status
        assert ("--device cuda: expected a GPU with CUDA, found none" in capsys.readouterr().err) == (status == 2)


def test_a_wrong_option_of_the_machine_is_refused(
    patterns: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", str(patterns), "--out", str(tmp_path / "w"), "--recipe", "toy"]
    assert cli.main([*words, "--batch-size", "0"]) == 2
    assert capsys.readouterr().err == "error: runtime.batch_size: expected 1 to 65536, found 0\n"
    for more, told in ((["--device", "tpu"], "--device: invalid choice: 'tpu'"), (["--threads", "x"], "invalid int")):
        with pytest.raises(SystemExit, match=r"^2$"):
            cli.main([*words, *more])
        assert told in capsys.readouterr().err
    assert not (tmp_path / "w").exists()


def test_a_setting_that_the_recipe_does_not_use_is_said_once(
    patterns: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", str(patterns), "--out", str(tmp_path / "w"), "--limit", "0"]  # it ends after the warning
    for recipe, settings, unused in (
        ("keypoints", ["loss.margin=1", "epochs=3", "keypoints.count=9"], "loss.margin, training.epochs"),
        ("paper", ["keypoints.count=9"], "keypoints.count"),
        ("frozen", ["keypoints.count=9", "loss.margin=1"], ""),
    ):
        assert cli.main([*words, "--recipe", recipe, *(word for each in settings for word in ("--set", each))]) == 2
        lines = capsys.readouterr().err.splitlines()
        warning = f"warning: --set {unused}: the recipe {recipe} does not use this; it changes nothing"
        assert lines[:-1] == ([warning] if unused else [])


# long tables


MANY = 15_483


def printed_by_check(data: Path, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    capsys.readouterr()
    assert cli.main(["check", str(data), *options]) == 2
    printed = capsys.readouterr()
    return printed.out + printed.err


def write_many(folder: Path, split: list[str]) -> None:
    """A metadata.csv of `MANY` rows that differ in their split."""
    paths = [f"{place}.jpg" for place in range(MANY)]
    table = pd.DataFrame({"image_id": range(MANY), "identity": "leo", "path": paths, "date": "", "orientation": ""})
    table.assign(species="", split=split, dataset="Lions").to_csv(folder / "metadata.csv", index=False)


@pytest.mark.parametrize("every", [1, 2])
def test_a_wrong_word_in_a_long_table_is_told_in_a_few_lines(
    every: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_many(tmp_path, ["gallery" if place % every == 0 else "database" for place in range(MANY)])
    told = printed_by_check(tmp_path, capsys)
    assert len(told) < 1100
    rows = "rows 2-15484" if every == 1 else "rows 2, 4, 6, 8, 10 and 7,737 more"
    assert f"{rows}, column split: expected database (or train) or query (or test); found 'gallery'" in told
    whole = printed_by_check(tmp_path, capsys, "-v")
    assert "2-15484" in whole if every == 1 else ", ".join(map(str, range(2, MANY + 2, 2))) in whole


def test_many_different_wrong_words_are_told_in_a_few_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_many(tmp_path, [f"part {place}" for place in range(MANY)])
    told = printed_by_check(tmp_path, capsys)
    assert len(told) < 2000
    assert "row 6, column split: expected database (or train) or query (or test); found 'part 4'" in told
    assert "rows 7-15484, column split: expected database (or train) or query (or test); found ..." in told
    assert "row 15484: split: expected database (or train) or query (or test); found 'part 15482'" in printed_by_check(
        tmp_path, capsys, "-v"
    )


def test_a_long_submission_with_faults_is_told_in_a_few_lines(
    patterns: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = pd.DataFrame({"image_id": [f"x{place}" for place in range(MANY)], "identity": "nobody"})
    answers.assign(identity="nobody " + answers["image_id"]).to_csv(tmp_path / "s.csv", index=False)
    assert cli.main(["check", str(patterns), "--submission", str(tmp_path / "s.csv")]) == 2
    printed = capsys.readouterr()
    assert len(printed.out + printed.err) < 4000
    assert "rows 2-15484: no query row has this image_id" in printed.out
    assert "missing: 28 image_ids have no row: 4, 5, 10, 11, 16 and 23 more" in printed.out


# where it runs


def test_it_runs_where_python_has_no_fcntl_and_no_sigusr1(patterns: Path, tmp_path: Path) -> None:
    """As on Windows."""
    shutil.copy(patterns / "sample_submission.csv", tmp_path / "s.csv")
    calls = [
        ["check", str(patterns), "--submission", str(tmp_path / "s.csv")],
        ["score", str(tmp_path / "s.csv"), str(patterns / "solution.csv")],
        ["recipes"],
    ]
    code = f"""
import os, signal, sys
sys.modules["fcntl"] = None  # an import of it fails
for module, name in ((signal, "SIGUSR1"), (os, "EX_TEMPFAIL"), (os, "sched_getaffinity")):
    delattr(module, name)
import reid, reid.cli
from reid.runtime.signals import stop_on_signals
with stop_on_signals():
    pass
for call in {calls!r}:
    assert reid.cli.main(call) == 0, call
reid.cli.main(["--help"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "usage: reid" in done.stdout


if __name__ == "__main__":
    os.environ["COLUMNS"] = "100"
    print(page(), end="")
