"""`reid toy`: draw a small world of animals to try everything on."""

import argparse
from pathlib import Path
from typing import Any

from reid.commands.options import add_command
from reid.commands.output import log_next
from reid.runtime.progress import print_result

__all__ = ["add_parser", "run"]


def add_parser(commands: Any) -> None:
    does = "draw a small world of three species in the competition's format"
    command = add_command(commands, "toy", run, does, "toy world")
    command.add_argument("folder", metavar="DIR", type=Path, help="the data folder to make")
    command.add_argument("--seed", type=int, default=0, help="another seed draws another world (default 0)")
    kind = command.add_mutually_exclusive_group()
    kind.add_argument(
        "--boxes",
        action="store_true",
        help="a world of larger photographs with several animals on many of them, and a box and a mask around each",
    )
    kind.add_argument(
        "--unlabelled",
        action="store_true",
        help="a smaller world for discovering individuals: several query photographs of each, and a fourth species "
        "without known individuals",
    )


def run(options: argparse.Namespace) -> None:
    from reid.data.boxed_world import draw_boxed_world
    from reid.data.synthetic import PLAIN, SMALL, draw_world

    if options.boxes:
        draw_boxed_world(options.folder, options.seed)
    else:
        draw_world(options.folder, options.seed, SMALL if options.unlabelled else PLAIN)
    print_result(f"drew a toy world into {options.folder} (solution.csv holds the answers)")
    log_next("check", options.folder)
