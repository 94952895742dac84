"""`reid predict`: name the animal on each query, or call it new."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reid.commands.call import recipe_of_answers, refuse_input
from reid.commands.options import (
    FOR_THIS_CALL,
    add_command,
    add_data,
    add_json,
    add_pairs,
    add_route,
    add_runtime,
    add_settings,
    add_weights,
)
from reid.commands.output import log_next, log_times, print_json
from reid.data.catalogue import NEW_INDIVIDUAL, read_catalogue
from reid.decision.artifact import open_weights
from reid.decision.matches import matches_path
from reid.runtime.distributed import is_main, process_group
from reid.runtime.files import refuse_unwritable
from reid.runtime.progress import print_result, stage

if TYPE_CHECKING:
    from reid.decision.matches import Matches

__all__ = ["add_parser", "run"]


def add_parser(commands: Any) -> None:
    does = "write the submission for the query photographs"
    example = "predict photographs --weights weights --out submission.csv"
    command = add_command(commands, "predict", run, does, example)
    add_data(command)
    add_weights(command)
    command.add_argument("--out", metavar="CSV", type=Path, required=True, help="the submission to write")
    add_pairs(command)
    add_route(command)
    add_settings(command, FOR_THIS_CALL)
    add_runtime(command)
    add_json(
        command,
        "submission and matches, the files; route; queries; datasets, of each the queries, called_new and shift; "
        "flags, how many queries have each; seconds",
    )


def run(options: argparse.Namespace) -> None:
    catalogue = read_catalogue(options.data)
    refuse_input(options.out, options.data)
    refuse_unwritable(options.out)
    weights = open_weights(options.weights)  # after what can be refused at once, for it reads every byte of them

    from reid.decision.describe import describe_matches
    from reid.decision.predict import predict

    recipe, runtime = recipe_of_answers(options, weights)
    seconds: dict[str, float] = {}
    with stage("predict", seconds), process_group():
        matches = predict(catalogue, weights, recipe, runtime=runtime, links_file=options.pairs)
    if not is_main():
        return
    matches.save(options.out)
    lines = describe_matches(matches)
    if options.json:
        print_json(_json_of_matches(matches, options.out, seconds))
    else:
        done = f"wrote {len(matches)} answers to {options.out}, and the candidates to {matches_path(options.out)}"
        for line in [*lines, done]:
            print_result(line)
    log_times(seconds)
    log_next("check", options.data, "--submission", options.out)


def _json_of_matches(matches: "Matches", out: Path, seconds: dict[str, float]) -> dict[str, Any]:
    queries, flags = matches.queries, matches.queries["flags"].str.split().explode().dropna()
    datasets = {
        str(dataset): {
            "queries": len(rows),
            "called_new": int((rows["answer"] == NEW_INDIVIDUAL).sum()),
            "shift": matches.shifts.get(str(dataset)),
        }
        for dataset, rows in queries.groupby("dataset")
    }
    return {
        "submission": str(out),
        "matches": str(matches_path(out)),
        "route": matches.route,
        "queries": len(queries),
        "datasets": datasets,
        "flags": {str(flag): int(count) for flag, count in flags.value_counts().items()},
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
    }
