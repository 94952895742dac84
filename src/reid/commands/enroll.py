"""`reid enroll`: make the galleries of a weights folder again."""

import argparse
import logging
from pathlib import Path
from typing import Any

from reid.commands.call import recipe_of
from reid.commands.options import (
    add_command,
    add_data,
    add_keypoint_weights,
    add_pairs,
    add_runtime,
    add_settings,
    add_weights,
)
from reid.commands.output import log_next
from reid.config import settings
from reid.data.catalogue import read_catalogue
from reid.decision.artifact import CALIBRATION, EXTRACTOR, GALLERY, MATCHER, REFERENCE, open_weights
from reid.errors import InputError
from reid.runtime.distributed import is_main, process_group
from reid.runtime.progress import print_result

__all__ = ["add_parser", "run"]

log = logging.getLogger(__name__)


def add_parser(commands: Any) -> None:
    does = "embed the database photographs into the galleries again, e.g. with new individuals, without training"
    command = add_command(commands, "enroll", run, does, "enroll photographs --weights weights")
    add_data(command)
    add_weights(command)
    command.add_argument(
        "--clusters",
        metavar="CSV",
        type=Path,
        help="also enrol these clusters of DATA's queries as individuals, NAME.clusters.csv of discover: those with "
        "two or more photographs, each called as its cluster, or as its cells in the column identity say",
    )
    command.add_argument(
        "--only", metavar="CLUSTER,...", help="with --clusters: only these, such as cluster_Lynx_3,cluster_Lynx_9"
    )
    command.add_argument(
        "--confirmed", action="store_true", help="also enrol the queries that a person's answers name, see --pairs"
    )
    add_pairs(command)
    add_settings(command)
    add_keypoint_weights(command)
    add_runtime(command)


def run(options: argparse.Namespace) -> None:
    only = [label for label in (options.only or "").split(",") if label]
    if only and not options.clusters:
        raise InputError("--only: expected --clusters CSV with it, which has the clusters; add it")
    if options.pairs and not options.confirmed:
        raise InputError(
            "--pairs: expected --confirmed with it, which enrols the queries that the answers name; add it"
        )
    catalogue = read_catalogue(options.data)
    weights = open_weights(options.weights, remade=(GALLERY, CALIBRATION, REFERENCE, EXTRACTOR, MATCHER))

    from reid.decision import enroll

    recipe, runtime = recipe_of(weights, options, settings.ENROLMENT)
    with process_group():
        enroll.enroll_again(
            *(catalogue, weights, recipe, runtime, options.clusters, only, options.keypoint_weights),
            confirmed=options.confirmed,
            links_file=options.pairs,
        )
    more = f" and the clusters of {options.clusters}" if options.clusters else ""
    more += " and the queries that answers name" if options.confirmed else ""
    print_result(f"enrolled the known photographs of {options.data}{more} into the galleries of {options.weights}")
    if is_main():
        if options.clusters or options.confirmed:
            log.info(
                "they stay queries in %s; enrolled again without this option, the galleries lose them", options.data
            )
        log_next("calibrate", options.data, "--weights", options.weights)
