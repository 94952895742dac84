"""`reid report`: answer the queries and explain the answers on a page."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from reid.commands.call import recipe_of_answers, refuse_file
from reid.commands.options import (
    FOR_THIS_CALL,
    add_command,
    add_data,
    add_pairs,
    add_route,
    add_runtime,
    add_settings,
    add_weights,
)
from reid.data.catalogue import read_catalogue, rows_to_predict
from reid.data.names import resolve_names
from reid.decision.artifact import open_weights
from reid.decision.metrics import read_solution
from reid.errors import InputError
from reid.runtime.files import refuse_unwritable
from reid.runtime.progress import print_result, stage

__all__ = ["add_parser", "run"]


def add_parser(commands: Any) -> None:
    does = "make a page a person can read: scores, thresholds, matches as pictures"
    command = add_command(commands, "report", run, does, "report photographs --weights weights --out report")
    add_data(command)
    add_weights(command)
    command.add_argument("--out", metavar="DIR", type=Path, required=True, help="the folder to make")
    command.add_argument("--solution", metavar="CSV", type=Path, help="the true answers, where they are known")
    command.add_argument(
        "--against",
        metavar="NAME=FILE",
        action="append",
        default=[],
        help="a result to compare with: another recipe's submission (with --solution), or what `score --json` printed "
        "of it (.json); may be repeated",
    )
    same = "; as in the call of predict, otherwise the page may show other answers than its submission"
    add_pairs(command, same)
    add_route(command, same)
    add_settings(command, FOR_THIS_CALL + same)
    add_runtime(command)


def run(options: argparse.Namespace) -> None:
    named = [_named_file(words) for words in options.against]
    catalogue = read_catalogue(options.data)
    solution = read_solution(options.solution) if options.solution else None
    refuse_file(options.out)
    refuse_unwritable(options.out / "report.html")
    wanted = rows_to_predict(catalogue).image_ids
    if solution is not None and (strange := set(solution["image_id"]) - set(wanted)):
        raise InputError(
            f"--solution {options.solution}: expected the answers to the {len(wanted)} queries of {options.data}, "
            f"found {len(strange)} of {len(solution)} rows for others, such as {min(strange)}; name these queries' own"
        )

    from reid.decision.predict import predict
    from reid.report.report import collect_explanations, write_report
    from reid.report.scores_section import read_other_result
    from reid.training.run_folder import read_seconds

    others = [read_other_result(name, path, solution) for name, path in named]
    weights = open_weights(options.weights)
    recipe, runtime = recipe_of_answers(options, weights)
    catalogue = resolve_names(catalogue, recipe, weights.datasets)
    seconds = read_seconds(options.weights)
    with stage("predict (without what was cached)", seconds):  # predict itself may have taken minutes
        prediction = predict(catalogue, weights, recipe, runtime=runtime, links_file=options.pairs)
    with stage("explanations", seconds):
        explanations = collect_explanations(
            catalogue, replace(weights, recipe=recipe), prediction, solution, runtime=runtime
        )
    page = write_report(options.out, catalogue, weights, prediction, solution, explanations, others, seconds)
    print_result(f"wrote {page}; open it in a browser")


def _named_file(words: str) -> tuple[str, Path]:
    name, equals, path = words.partition("=")
    if not (name and equals and path):
        raise InputError(f"--against {words}: expected NAME=FILE, such as paper=paper.csv")
    return name, Path(path)
