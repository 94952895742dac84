"""Checkpoints are complete or not used and belong to one run, and one process at a time trains in a folder."""

import errno
import json
import os
import re
import resource
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from processes import SERVER

from reid.config import legacy
from reid.config.presets import PRESETS
from reid.config.recipe import Recipe
from reid.config.settings import flat_settings, with_settings
from reid.errors import InputError
from reid.training.checkpoints import Checkpoint, differences, lock_networks


def recorded(recipe: Recipe) -> dict[str, object]:
    values: dict[str, object] = json.loads(json.dumps(asdict(recipe)))
    return values


RECORD = {"recipe": recorded(PRESETS["toy"]), "data": "a", "init": None}


def checkpoint(folder: Path, **other: object) -> Checkpoint:
    return Checkpoint(folder / "Dots.checkpoint.pt", {**RECORD, **other})


def step(number: int) -> dict[str, object]:
    return {
        "train_state": {"weights": torch.full((1000,), float(number))},
        "history": {"steps": [{"loss": 0.5}] * number},
    }


def steps(state: dict[str, Any] | None) -> int:
    assert state is not None
    assert float(state["train_state"]["weights"].mean()) == len(state["history"]["steps"])
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
def test_after_a_damaged_checkpoint_the_one_before_is_used_with_a_warning(
    damage: Callable[[bytes], bytes], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = checkpoint(tmp_path)
    one.save(step(1))
    one.save(step(2))
    one.path.write_bytes(damage(one.path.read_bytes()))
    assert steps(checkpoint(tmp_path).load()) == 1
    assert re.search(r"Dots.checkpoint.pt: .* cut short or damaged", caplog.text)
    one.previous.write_bytes(damage(one.previous.read_bytes()))
    with pytest.raises(InputError, match=r"no checkpoint here can be read; start over with --fresh"):
        checkpoint(tmp_path).load()


@pytest.mark.parametrize("damaged", [False, True])
@pytest.mark.parametrize("moment", [0, 1, 2])
def test_whenever_a_save_is_cut_off_a_complete_state_is_left(
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


def test_a_full_disk_is_reported_and_costs_no_checkpoint(tmp_path: Path) -> None:
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
    longer = with_settings(PRESETS["toy"], {"training.epochs": 5})
    with pytest.raises(InputError, match=r"another run \(recipe field training.epochs was 30, is 5\).*--fresh"):
        checkpoint(tmp_path, recipe=recorded(longer)).load()
    with pytest.raises(InputError, match=r"another run \(the data has changed\)"):
        checkpoint(tmp_path, data="b").load()


def test_a_checkpoint_of_another_version_is_refused(tmp_path: Path) -> None:
    one = checkpoint(tmp_path)
    one.save({**step(1), "format": 1})
    with pytest.raises(InputError, match=r"another version of this kit wrote this checkpoint.*--fresh"):
        one.load()


def test_what_may_change_at_any_time_is_no_difference() -> None:
    changes = {"prediction.route": "auto", "keypoints.count": 7, "calibration.splits": 7, "matching.shortlist": 7}
    other = {"recipe": recorded(with_settings(PRESETS["toy"], changes)), "data": "a", "init": "c"}
    assert differences(RECORD, other) == ["--init is another file"]


def test_a_run_of_an_earlier_version_is_the_same_run() -> None:
    """Of version 0.1.0, with the settings all in one group, others that are gone, and none that came later."""
    now = flat_settings(recorded(PRESETS["paper"]))
    before = {old: now[name] for old, name in legacy.FIELDS.items() if old != "backbone"}
    before |= {"name": "seed", "seed": 0, "batch_size": 8, "soup": 1, "interpolation": "trunk"}
    record, other = ({"recipe": recipe, "data": "a", "init": None} for recipe in (before, recorded(PRESETS["paper"])))
    assert differences(record, other) == []
    pooled = "data.pool_under_masks"  # a run that used boxes may have seen masks
    one, two = (
        {**RECORD, "recipe": recorded(with_settings(PRESETS["toy"], {pooled: value}))} for value in (False, True)
    )
    assert differences(one, two) == [f"recipe field {pooled} was False, is True"]
    before["epochs"] = 7
    assert differences(record, other) == ["recipe field training.epochs was 7, is 100"]


def try_lock(folder: Path, names: list[str], answer: Path) -> None:
    try:
        with lock_networks(folder / "training", names):
            answer.write_text("mine")
    except InputError as problem:
        answer.write_text(str(problem))


def test_a_second_run_is_refused_with_the_first_ones_host_and_process(tmp_path: Path) -> None:
    answer = tmp_path / "answer"

    def try_elsewhere(*names: str) -> str:
        process = SERVER.Process(target=try_lock, args=(tmp_path, list(names), answer))
        process.start()
        process.join(60)
        return answer.read_text()

    with lock_networks(tmp_path / "training", ["species", "Dots"]):
        refused = try_elsewhere("Checks", "Dots")
        assert f"another run is training Dots here (host {os.uname().nodename}, process {os.getpid()})" in refused
        assert (tmp_path / "training" / "Dots.holder.json").exists()
        assert try_elsewhere("Checks") == "mine"
    assert try_elsewhere("Dots") == "mine"
    assert not list((tmp_path / "training").glob("*.json"))  # nobody holds a lock


def hold_lock(folder: Path) -> None:
    with lock_networks(folder / "training", ["Dots"]):
        (folder / "held").touch()
        time.sleep(600)


def test_a_lock_ends_with_its_process_however_it_ends(tmp_path: Path) -> None:
    process = SERVER.Process(target=hold_lock, args=(tmp_path,))
    process.start()
    while process.is_alive() and not (tmp_path / "held").exists():
        time.sleep(0.01)
    with (
        pytest.raises(InputError, match=f"process {process.pid}"),
        lock_networks(tmp_path / "training", ["Dots"]),
    ):
        pass
    process.kill()
    process.join()
    with lock_networks(tmp_path / "training", ["Dots"]):
        pass


def test_a_disk_without_locks_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_locks(*_: object, **__: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(FileLock, "acquire", no_locks)
    with lock_networks(tmp_path, ["Dots"]):
        pass
    assert re.search(r"Dots.lock: this disk has no locks .*do not start a second training", caplog.text)


def test_a_folder_that_cannot_be_written_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "w").write_text("a file where a folder should be")
    with pytest.raises(InputError, match=r"Dots.lock: could not be written"), lock_networks(tmp_path / "w", ["Dots"]):
        pass
