"""`reid export`: write names for other tools."""

import argparse
import logging
from pathlib import Path
from typing import Any

from reid.commands.options import add_command, add_data, add_pairs
from reid.commands.output import counted
from reid.formats.exporters.camtrap_dp import SAMPLING_DESIGNS
from reid.formats.exporters.capture_history import OCCASIONS
from reid.formats.exporting import EXPORT_FORMATS
from reid.runtime.progress import print_result

__all__ = ["add_parser", "run"]

log = logging.getLogger(__name__)


def add_parser(commands: Any) -> None:
    does = "write the animals' names for another tool"
    example = "export capture-history photographs --out histories --answers answers.csv --occasion week"
    command = add_command(commands, "export", run, does, example)
    kinds = "; ".join(f"{name}: {words}" for name, words in EXPORT_FORMATS.items())
    command.add_argument("format", metavar="FORMAT", choices=tuple(EXPORT_FORMATS), help=kinds)
    add_data(command)
    command.add_argument("--out", metavar="OUT", type=Path, required=True, help="the file or folder to write")
    command.add_argument(
        "--answers",
        metavar="CSV",
        type=Path,
        help="what predict or discover wrote, NAME.csv; with NAME.matches.csv or NAME.clusters.csv next to it for the "
        "probabilities (default: only the names that people gave)",
    )
    add_pairs(command)
    command.add_argument("--confirmed", action="store_true", help="leave out names that no person confirmed")
    command.add_argument(
        "--zone", default="", metavar="+HH:MM", help="camtrap-dp: the time zone of dates that have none"
    )
    command.add_argument(
        "--deployments",
        metavar="CSV",
        type=Path,
        help="camtrap-dp: deploymentID (the place), latitude, longitude and more",
    )
    command.add_argument("--title", default="", help="camtrap-dp: of the project (default: the folder's name)")
    command.add_argument("--contributor", default="", metavar="NAME", help="camtrap-dp and coco: who made it")
    command.add_argument(
        "--sampling-design",
        choices=SAMPLING_DESIGNS,
        default="opportunistic",
        help="camtrap-dp: (default opportunistic)",
    )
    command.add_argument(
        "--occasion", choices=OCCASIONS, default="day", help="capture-history: how long an occasion is (default day)"
    )
    command.add_argument(
        "--per-side", action="store_true", help="capture-history: a history of the left sides and one of the right"
    )


def run(options: argparse.Namespace) -> None:
    from reid.formats.export_choices import ExportChoices
    from reid.formats.exporting import export_names
    from reid.formats.named import describe_named

    choices = ExportChoices(
        zone=options.zone,
        deployments=options.deployments,
        title=options.title,
        contributor=options.contributor,
        sampling_design=options.sampling_design,
        occasion=options.occasion,
        per_side=options.per_side,
    )
    named, exported = export_names(
        options.format, options.data, options.out, options.answers, options.pairs, options.confirmed, choices
    )
    for words in exported.told:
        log.warning(words)
    for line in describe_named(named):
        print_result(line)
    print_result(f"wrote {counted(exported.rows, 'row')} into {', '.join(map(str, exported.files))}")
