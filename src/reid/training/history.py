"""What a training reports: lines while it runs, a row per epoch in history.csv, curves for TensorBoard."""

import logging
import math
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from reid.config.recipe import Recipe
from reid.runtime.files import write_table
from reid.runtime.progress import LINE_EVERY

__all__ = ["History", "StepTimer", "TensorBoardLog"]

log = logging.getLogger(__name__)

LOGGED_FIGURES = ("loss", "active", "norm", "accuracy", "open_set_score")
"""Figures in a line of the log; all of them are in history.csv."""


@dataclass
class History:
    """How far one network's training is, and its figures so far.

    Attributes:
        epochs: a row per finished epoch.
        steps: a row per step of the current epoch.
        photographs: how many were learned from in it.
        seconds: how long it has taken.
        rate: the learning rate of its first step.
    """

    epochs: list[dict[str, float]] = field(default_factory=list)
    steps: list[dict[str, float]] = field(default_factory=list)
    photographs: int = 0
    seconds: float = 0.0
    rate: float = 0.0

    @property
    def position(self) -> str:
        """How far the training is, in words."""
        return f"epoch {len(self.epochs)}" + (f", step {len(self.steps)} of the next" if self.steps else "")

    def state(self) -> dict[str, Any]:
        """Return what `History(**state)` restores."""
        return asdict(self)

    def add(self, figures: dict[str, float], photographs: int, seconds: float) -> None:
        """Add a step."""
        self.steps.append(figures)
        self.photographs += photographs
        self.seconds += seconds

    def end_epoch(self) -> None:
        """Make one row of the epoch's steps: the means, the learning rate and photographs per second."""
        means = {str(name): float(value) for name, value in pd.DataFrame(self.steps).mean().items()}
        speed = self.photographs / self.seconds if self.seconds else math.nan
        figures = {**means, "learning_rate": self.rate, "images_per_second": speed}
        self.epochs.append({"epoch": len(self.epochs) + 1, **figures, "accuracy": math.nan, "open_set_score": math.nan})
        self.steps, self.photographs, self.seconds = [], 0, 0.0

    def is_reached(self, accuracy: float) -> bool:
        """Return whether the last epoch's validation was as good as that."""
        return bool(self.epochs) and self.epochs[-1]["accuracy"] >= accuracy

    def line(self, name: str, limit: int) -> str:
        """Return the last epoch in words."""
        row = self.epochs[-1]
        return f"  {name}: epoch {row['epoch']} of {limit}, {_figures(row)}, {row['images_per_second']:.0f} images/s"

    def ending(self, recipe: Recipe) -> str:
        """Return how the training ended, in words."""
        if not self.epochs:
            return "not trained"
        reached = self.is_reached(recipe.training.stop_accuracy)
        why = f"validation accuracy {recipe.training.stop_accuracy:.0%} reached" if reached else "epoch limit reached"
        return f"trained for {len(self.epochs)} epochs, {why}"

    def write(self, path: Path) -> None:
        """Write the epochs into a CSV file."""
        write_table(path, pd.DataFrame(self.epochs))


class StepTimer:
    """How long steps take, and a line about it now and then."""

    def __init__(self, name: str, limit: int, steps: int) -> None:
        """
        Args:
            name: the network.
            limit: epochs at most.
            steps: of an epoch.
        """
        self.name, self.limit, self.steps = name, limit, steps
        self.last_line_at = self.last_step_at = time.monotonic()
        self.measured_from, self.steps_measured, self.is_cold = self.last_step_at, 0, True

    def start(self) -> None:
        """Begin the next step here: the time before, such as a validation's, belongs to no step."""
        self.last_step_at = time.monotonic()

    def tick(self) -> float:
        """End a step; return its seconds."""
        now = time.monotonic()
        self.last_step_at, seconds = now, now - self.last_step_at
        if self.steps_measured == 1 and self.is_cold:  # the first step warms a GPU up: measure from the second on
            self.measured_from, self.steps_measured, self.is_cold = now - seconds, 0, False
        self.steps_measured += 1
        return seconds

    def log_line(self, history: History) -> None:
        """Log how far the training is, if the last line is old enough."""
        if self.last_step_at - self.last_line_at < LINE_EVERY or not history.steps:
            return
        self.last_line_at = self.last_step_at
        done_in_epoch = len(history.steps)
        steps_left = (self.limit - len(history.epochs)) * self.steps - done_in_epoch
        seconds_left = steps_left * (self.last_step_at - self.measured_from) / self.steps_measured
        log.info(
            f"  {self.name}: epoch {len(history.epochs) + 1} of {self.limit}, step {done_in_epoch} of {self.steps}, "
            f"{_figures(history.steps[-1])}, {history.photographs / max(history.seconds, 1e-9):.0f} images/s, "
            f"at most {_duration(seconds_left)} left{_last_validation(history)}"
        )


class TensorBoardLog:
    """A training's figures for TensorBoard, where that is installed; where it is not, nothing."""

    def __init__(self, folder: Path, logged_epochs: int, writes: bool = True) -> None:
        """
        Args:
            folder: of this network's curves.
            logged_epochs: epochs before this run; what a run that was killed logged of later ones is dropped.
            writes: false for a rank that leaves it to another.
        """
        self.writer: Any = None
        if not writes:
            return
        with suppress(ImportError):
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(folder), purge_step=logged_epochs + 1)

    def add(self, row: dict[str, float]) -> None:
        """Log a finished epoch."""
        for figure, value in row.items():
            if self.writer and figure != "epoch" and not math.isnan(value):
                self.writer.add_scalar(figure, value, int(row["epoch"]))

    def close(self) -> None:
        if self.writer:
            self.writer.close()


def _figures(row: dict[str, float]) -> str:
    known = [name for name in LOGGED_FIGURES if not math.isnan(row.get(name, math.nan))]
    return ", ".join(f"{name.replace('_', ' ')} {row[name]:.3f}" for name in known)


def _last_validation(history: History) -> str:
    """Return what the last validation found, as the end of a line."""
    rows = [row for row in history.epochs if not math.isnan(row["accuracy"])]
    return f"; validation after epoch {rows[-1]['epoch']}: {_figures(rows[-1])}" if rows else ""


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
