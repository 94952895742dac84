"""`reid count`: say how many individuals the queries show."""

import argparse
import logging
from typing import Any

from reid.commands.call import recipe_of
from reid.commands.options import (
    FOR_THIS_CALL,
    add_command,
    add_data,
    add_json,
    add_pairs,
    add_runtime,
    add_settings,
    add_weights,
)
from reid.commands.output import print_json
from reid.config import settings
from reid.data.catalogue import read_catalogue
from reid.decision.artifact import open_weights
from reid.runtime.progress import print_result

__all__ = ["add_parser", "run"]

log = logging.getLogger(__name__)


def add_parser(commands: Any) -> None:
    does = "count the individuals on the query photographs, with an interval"
    command = add_command(commands, "count", run, does, "count photographs --weights weights --by year")
    add_data(command)
    add_weights(command)
    add_pairs(command, "; those to evenly drawn pairs make the interval narrower")
    command.add_argument(
        "--by",
        metavar="COLUMN",
        action="append",
        default=[],
        help="count the values of this column of metadata.csv, or of year, apart (default: orientation and season); "
        "may be repeated",
    )
    add_settings(command, FOR_THIS_CALL)
    add_runtime(command)
    add_json(
        command,
        "counts, of each the dataset, group (empty for all), photographs, clusters, individuals, low, high (null where "
        "nothing is known) and answers (to evenly drawn pairs)",
    )


def run(options: argparse.Namespace) -> None:
    catalogue = read_catalogue(options.data)
    weights = open_weights(options.weights)

    from reid.decision.count import count as count_individuals
    from reid.decision.count import describe_counts

    recipe, runtime = recipe_of(weights, options, settings.PREDICTION)
    found = count_individuals(catalogue, weights, recipe, runtime=runtime, links_file=options.pairs, by=options.by)
    if options.json:
        print_json({"counts": found.to_dict("records")})
    else:
        for line in describe_counts(found):
            print_result(line)
    if not found["answers"].any():
        log.info("answers to pairs that `reid review` draws evenly make the interval narrower")
