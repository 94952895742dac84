"""Checkpoints are whole or not used, belong to one run, and a folder is trained in by one process at a time."""

import json
import os
import re
import resource
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from processes import SERVER

from reid.config.presets import PRESETS
from reid.errors import InputError
from reid.training.checkpoints import Checkpoint, differences, lock_networks

RECORD = {"recipe": {"epochs": 4, "batch_size": 64}, "data": "a", "init": None}


def checkpoint(folder: Path, **other: object) -> Checkpoint:
    return Checkpoint(folder / "Dots.checkpoint.pt", {**RECORD, **other})


def step(number: int) -> dict[str, object]:
    return {"learner": {"weights": torch.full((1000,), float(number))}, "history": {"steps": [{"loss": 0.5}] * number}}


def steps(state: dict | None) -> int:
    assert state is not None
    assert float(state["learner"]["weights"].mean()) == len(state["history"]["steps"])
    return len(state["history"]["steps"])


def test_the_newest_state_comes_back(tmp_path: Path) -> None:
    assert checkpoint(tmp_path).load() is None
    for number in (1, 2, 3):
        checkpoint(tmp_path).save(step(number))
        assert steps(checkpoint(tmp_path).load()) == number
    checkpoint(tmp_path).remove()
    assert list(tmp_path.iterdir()) == []


def cut_short(content: bytes) -> bytes:
    return content[: len(content) // 2]


def one_bit_changed(content: bytes) -> bytes:
    return content[:2000] + bytes([content[2000] ^ 1]) + content[2001:]


@pytest.mark.parametrize("damage", [cut_short, one_bit_changed, lambda _: b""])
def test_after_a_damaged_checkpoint_the_one_before_is_used_and_it_is_said(
    damage: Callable[[bytes], bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = checkpoint(tmp_path)
    one.save(step(1))
    one.save(step(2))
    one.path.write_bytes(damage(one.path.read_bytes()))
    assert steps(checkpoint(tmp_path).load()) == 1
    assert re.search(r"warning: .*Dots.checkpoint.pt: .* cut short or damaged", capsys.readouterr().out)
    one.previous.write_bytes(damage(one.previous.read_bytes()))
    with pytest.raises(InputError, match=r"no checkpoint here can be read; start over with --fresh"):
        checkpoint(tmp_path).load()


@pytest.mark.parametrize("damaged", [False, True])
@pytest.mark.parametrize("moment", [0, 1, 2])
def test_whenever_a_save_is_cut_off_a_whole_state_is_left(
    moment: int, damaged: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A save renames three times; the process ends before one of them. The last checkpoint may be a damaged one."""
    one = checkpoint(tmp_path)
    one.save(step(1))
    one.save(step(2))
    if damaged:
        one.path.write_bytes(cut_short(one.path.read_bytes()))
    replace, calls = Path.replace, list[Path]()

    def ends(self: Path, target: Path) -> Path:
        if len(calls) == moment:
            raise KeyboardInterrupt
        calls.append(target)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", ends)
    with pytest.raises(KeyboardInterrupt):
        one.save(step(3))
    monkeypatch.setattr(Path, "replace", replace)
    assert steps(checkpoint(tmp_path).load()) == (3 if moment else 1 if damaged else 2)
    checkpoint(tmp_path).save(step(4))
    assert steps(checkpoint(tmp_path).load()) == 4


def test_a_full_disk_is_told_and_costs_no_checkpoint(tmp_path: Path) -> None:
    one = checkpoint(tmp_path)
    one.save(step(1))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))  # bytes; a longer file can't be written
    try:
        with pytest.raises(InputError, match=r"Dots.checkpoint.new.pt: could not be written .*Free some space"):
            one.save(step(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert steps(checkpoint(tmp_path).load()) == 1


def test_the_clock_may_jump(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = checkpoint(tmp_path)
    for now in (0.0, 4e9):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        assert not one.is_due
    seconds = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: seconds + one.every)
    assert one.is_due


def test_a_checkpoint_of_another_run_is_refused_with_the_difference(tmp_path: Path) -> None:
    checkpoint(tmp_path).save(step(1))
    with pytest.raises(InputError, match=r"another run \(recipe field epochs was 4, is 5\).*--fresh"):
        checkpoint(tmp_path, recipe={"epochs": 5, "batch_size": 64}).load()
    with pytest.raises(InputError, match=r"another run \(the data has changed\)"):
        checkpoint(tmp_path, data="b").load()


def test_what_may_change_at_any_time_is_no_difference() -> None:
    other = {"recipe": {"epochs": 4, "batch_size": 8}, "data": "a", "init": "c"}
    assert differences(RECORD, other) == ["--init is another file"]
    assert hasattr(PRESETS["paper"], "batch_size")


def try_lock(folder: Path, names: list[str], answer: Path) -> None:
    try:
        with lock_networks(folder / "training", names):
            answer.write_text("mine")
    except InputError as problem:
        answer.write_text(str(problem))


def test_a_second_run_is_refused_with_the_first_ones_host_and_process(tmp_path: Path) -> None:
    answer = tmp_path / "answer"

    def asked(*names: str) -> str:
        process = SERVER.Process(target=try_lock, args=(tmp_path, list(names), answer))
        process.start()
        process.join(60)
        return answer.read_text()

    with lock_networks(tmp_path / "training", ["species", "Dots"]):
        refused = asked("Checks", "Dots")
        assert f"another run is training Dots here (host {os.uname().nodename}, process {os.getpid()})" in refused
        assert asked("Checks") == "mine"
    assert asked("Dots") == "mine"
    assert json.loads((tmp_path / "training" / "Dots.lock").read_text())["process"] != os.getpid()


def test_a_folder_that_cannot_be_written_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "w").write_text("a file where a folder should be")
    with pytest.raises(InputError, match=r"Dots.lock: could not be written"), lock_networks(tmp_path / "w", ["Dots"]):
        pass
