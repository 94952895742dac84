"""What a training reports: rows, lines, curves."""

import math
import time
from pathlib import Path

import pytest

from reid.config.presets import PRESETS
from reid.training.history import History, StepTimer, TensorBoardLog


def history(epochs: int = 2) -> History:
    one = History(rate=0.1)
    for epoch in range(epochs):
        for loss in (1.0, 2.0):
            one.add({"loss": loss - epoch, "active": 0.5}, photographs=8, seconds=0.5)
        one.end_epoch()
    return one


def test_an_epochs_row_has_the_means_of_its_steps() -> None:
    row = history().epochs[0]
    assert (row["epoch"], row["loss"], row["learning_rate"], row["images_per_second"]) == (1, 1.5, 0.1, 16)
    assert math.isnan(row["accuracy"])


def test_a_restored_history_continues_where_it_was() -> None:
    one = history()
    one.add({"loss": 1.0}, 8, 0.5)
    other = History(**one.state())
    for each in (one, other):
        each.add({"loss": 3.0}, 8, 0.5)
        each.end_epoch()
    assert {name: value for name, value in one.epochs[2].items() if not math.isnan(value)} == {
        name: value for name, value in other.epochs[2].items() if not math.isnan(value)
    }
    assert one.epochs[2]["loss"] == 2.0


@pytest.mark.parametrize(("accuracy", "reason"), [(0.5, "epoch limit"), (0.99, "validation accuracy 99%")])
def test_the_ending_names_its_reason(accuracy: float, reason: str) -> None:
    one = history(3)
    assert not one.is_reached(0.0)  # nothing was validated yet
    one.epochs[-1]["accuracy"] = accuracy
    assert one.ending(PRESETS["paper"]) == f"trained for 3 epochs, {reason} reached"
    assert History().ending(PRESETS["paper"]) == "not trained"


def test_a_line_says_how_far_how_fast_and_how_long(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO", "reid")
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    one, timer = history(), StepTimer("Dots", limit=10, steps=4)
    one.epochs[1] |= {"accuracy": 0.75, "open_set_score": 0.5}
    for step in range(1, 3):
        now[0] = 10.0 * step
        one.add({"loss": 0.25, "active": 0.125}, 8, timer.tick())
        timer.log_line(one)
    # 8 epochs of 4 steps are left, less the 2 that took 10 seconds each
    assert caplog.messages == [
        "  Dots: epoch 3 of 10, step 2 of 4, loss 0.250, active 0.125, 1 images/s, at most 5 min left; validation "
        "after epoch 2: loss 0.500, active 0.500, accuracy 0.750, open set score 0.500"
    ]


def test_a_first_step_that_warms_a_gpu_up_does_not_count_for_how_long_it_takes(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO", "reid")
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    one, timer = history(), StepTimer("Dots", limit=10, steps=4)
    for now[0] in (100.0, 101.0, 120.0):  # the 30 steps after the second, and the 29 after the third
        one.add({"loss": 0.25, "active": 0.125}, 8, timer.tick())
        timer.log_line(one)
    left = [line.partition("at most ")[2].partition(" left")[0] for line in caplog.messages]
    assert left == ["52 min", "5 min"]


def test_tensorboard_gets_every_figure_of_every_epoch_once(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

    rows = history(3).epochs
    for start, end in ((0, 2), (1, 3)):  # killed after epoch 2, resumed after epoch 1
        board = TensorBoardLog(tmp_path, start)
        for row in rows[start:end]:
            board.add(row)
        board.close()
        time.sleep(1.1)  # the names of event files differ by the second
    read = EventAccumulator(str(tmp_path))
    read.Reload()
    assert set(read.Tags()["scalars"]) == {"loss", "active", "learning_rate", "images_per_second"}
    assert [(event.step, event.value) for event in read.Scalars("loss")] == [(1, 1.5), (2, 0.5), (3, -0.5)]
