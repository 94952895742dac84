"""What several commands print and log: the next command, JSON, counts, times, calibrations."""

import json
import logging
import re
from pathlib import Path
from shlex import join, quote
from typing import TYPE_CHECKING, Any

import pandas as pd

from reid.runtime.files import without_nan
from reid.runtime.progress import print_result

if TYPE_CHECKING:
    from reid.decision.calibration import Calibration
    from reid.decision.thresholds import Threshold

__all__ = ["counted", "log_next", "log_next_of_submission", "log_times", "print_calibrations", "print_json"]

log = logging.getLogger(__name__)


def log_next(*words: object) -> None:
    """Name the command that comes next, as it can be typed."""
    log.info("next: reid %s", join(map(str, words)))


def log_next_of_submission(submission: Path, data: Path) -> None:
    """Name the next step: score it where the answers are known; otherwise hand it in, or make a report."""
    solution = data / "solution.csv"
    if solution.exists():
        log_next("score", submission, solution)
        return
    log.info(
        "next: hand it in to the competition with: make submit DATA=%s SUBMISSION=%s",
        _in_make(data),
        _in_make(submission),
    )
    log.info("or, with animals of your own: reid report %s --weights WEIGHTS --out report", quote(str(data)))


def _in_make(path: Path) -> str:
    """Return a variable's value as it is typed for the Makefile, where a shell reads it again: "'my photographs'"."""
    word = quote(str(path))
    return word if word == str(path) else '"' + re.sub(r'(["\\`$])', r"\\\1", word.replace("$", "$$")) + '"'


def print_json(content: dict[str, Any]) -> None:
    """Print an object for other programs: numbers that JSON does not know become null."""
    print_result(json.dumps(without_nan(content), indent=2, allow_nan=False))


def counted(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def log_times(seconds: dict[str, float], what: str = "time") -> None:
    log.info("%s: %s", what, ", ".join(f"{name} {value:.1f} s" for name, value in seconds.items()))


def print_calibrations(calibrations: "dict[str, Calibration]") -> None:
    rows = []
    for dataset, calibration in calibrations.items():
        threshold = calibration.threshold
        is_measured = threshold.score is not None and threshold.interval is not None
        rows.append(
            {
                "dataset": dataset,
                "scorer": calibration.scorer.kind,
                "threshold": f"{threshold.value:.3f}",
                "plateau": f"{threshold.plateau[0]:.3f} to {threshold.plateau[1]:.3f}",
                "expected score": _range(threshold) if is_measured else "unknown",
                "by threshold": "{:.2f} to {:.2f}".format(*threshold.support) if threshold.support else "unknown",
                "called new": f"{threshold.share_new:.0%}" if is_measured else "unknown",
                "known": threshold.known,
                "new": threshold.new,
            }
        )
    print_result(pd.DataFrame(rows).to_string(index=False))
    print_result(
        "expected score: on individuals that the threshold was not fitted on, with the range of nine of ten splits; by "
        "threshold: what nine of ten thresholds score, each fitted on another draw of the individuals; known, new: "
        "individuals among the pseudo-queries"
    )
    for dataset, calibration in calibrations.items():
        if len(calibration.scorer_scores) > 1:
            scores = ", ".join(f"{kind} {score:.3f}" for kind, score in calibration.scorer_scores.items())
            print_result(f"{dataset}: the scorers' expected scores: {scores}")
    for dataset, calibration in calibrations.items():
        for note in calibration.threshold.note.splitlines():
            log.warning("%s: %s", dataset, note)


def _range(threshold: "Threshold") -> str:
    low, high = threshold.interval or (float("nan"), float("nan"))
    return f"{threshold.score:.3f} ({low:.2f} to {high:.2f})"
