"""`reid train`: train, enrol and calibrate into a weights folder."""

import argparse
import logging
from pathlib import Path
from shlex import join
from typing import Any

from reid.commands.call import runtime_of, warn_of_dates, warn_of_unused
from reid.commands.options import add_command, add_data, add_keypoint_weights, add_runtime, add_settings
from reid.commands.output import log_next, log_times, print_calibrations
from reid.config.presets import DEFAULT, PRESETS, read_recipe
from reid.config.recipe import Recipe
from reid.config.runtime import Runtime
from reid.config.settings import override
from reid.data.catalogue import read_catalogue
from reid.data.names import with_names
from reid.errors import InputError
from reid.runtime.distributed import process_group
from reid.runtime.progress import print_result
from reid.runtime.signals import stop_on_signals

__all__ = ["add_parser", "run"]

log = logging.getLogger(__name__)


def add_parser(commands: Any) -> None:
    does = "train all networks, enrol the galleries, fit the thresholds; run again it resumes"
    example = "train photographs --out weights --recipe finetuned --set training.epochs=30"
    command = add_command(commands, "train", run, does, example)
    add_data(command)
    command.add_argument("--out", metavar="WEIGHTS", type=Path, required=True, help="the weights folder to make")
    command.add_argument(
        "--recipe",
        metavar="NAME",
        default=DEFAULT,
        help=f"one of {', '.join(PRESETS)} (default {DEFAULT}), a .toml file, or a weights folder, for its recipe",
    )
    add_settings(command)
    command.add_argument(
        "--init",
        metavar="FILE",
        action="append",
        default=[],
        help="the backbone's first weights (.safetensors or .pth); of several backbones NAME=FILE, once for each",
    )
    command.add_argument("--fresh", action="store_true", help="start over instead of resuming an unfinished run")
    command.add_argument(
        "--only",
        metavar="NETWORK,...",
        help="train only these networks, species or a dataset's; the folder is complete when all are there",
    )
    add_keypoint_weights(command)
    command.add_argument(
        "--save-every",
        metavar="SECONDS",
        type=float,
        help="time between two checkpoints (default: five minutes)",
    )
    command.add_argument(
        "--limit", metavar="N", type=int, help="only about N database photographs per dataset, for a quick look"
    )
    add_runtime(command)


def run(options: argparse.Namespace) -> None:
    recipe, runtime = _recipe_to_train(options)
    if options.save_every is not None and not options.save_every >= 0:
        raise InputError(f"--save-every: expected 0 or more seconds, found {options.save_every}")
    if options.limit is not None and options.limit < 1:
        raise InputError(f"--limit: expected 1 or more photographs, found {options.limit}")
    catalogue = read_catalogue(options.data)
    only = [name for name in (options.only or "").split(",") if name]
    warn_of_dates(catalogue)

    from reid.decision.calibration import load_calibrations
    from reid.decision.unmatchable import leave_out_unmatchable
    from reid.training.checkpoints import SAVE_EVERY
    from reid.training.run_folder import missing_networks, network_files, read_seconds
    from reid.training.several_backbones import named_files
    from reid.training.train import train as train_weights

    earlier = not options.fresh and bool(read_seconds(options.out))
    with stop_on_signals() as stop, process_group():
        weights = train_weights(
            catalogue,
            recipe,
            options.out,
            init=named_files(options.init, recipe.backbone.names),
            keypoint_weights=options.keypoint_weights,
            fresh=options.fresh,
            only=only,
            limit=options.limit,
            stop=stop,
            save_every=SAVE_EVERY if options.save_every is None else options.save_every,
            runtime=runtime,
        )
    if weights and not weights.datasets:
        print_result(f"the weights folder {options.out} is complete; it knows nobody")
        log_next("discover", options.data, "--weights", options.out, "--out", "clusters.csv")
    elif only:
        learned, _ = leave_out_unmatchable(with_names(catalogue, recipe.data))  # as the training did
        files = network_files(learned.database)
        missing = missing_networks(options.out, files, recipe)
        _report_part(options, only, missing)
    elif weights:  # only the first rank has them
        print_calibrations(load_calibrations(weights))
        log_times(read_seconds(options.out), "time, with that of earlier calls" if earlier else "time")
        print_result(f"the weights folder {options.out} is complete")
        if weights.caution:
            log.warning(weights.caution)
        log_next("predict", options.data, "--weights", options.out, "--out", "submission.csv")


def _recipe_to_train(options: argparse.Namespace) -> tuple[Recipe, Runtime]:
    recipe = read_recipe(options.recipe)
    runtime, changes = runtime_of(options, "auto")
    recipe = override(recipe, changes)
    warn_of_unused(recipe, changes)
    return recipe, runtime


def _report_part(options: argparse.Namespace, trained: list[str], missing: list[str]) -> None:
    """Print which networks a call with `--only` has trained, and name the next one."""
    left = f"still to train: {', '.join(missing)}" if missing else "all are there"
    print_result(f"trained: {', '.join(trained)}; {left}")
    more = f"--only {missing[0]}" if missing else "without --only, to enrol and calibrate"
    call = join(["reid", "train", str(options.data), "--out", str(options.out)])
    log.info("next: %s, as before but %s", call, more)
