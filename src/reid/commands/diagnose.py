"""`reid diagnose`: say what the score rests on."""

import argparse
from pathlib import Path
from typing import Any

from reid.commands.call import recipe_of_answers, refuse_file
from reid.commands.options import (
    FOR_THIS_CALL,
    add_command,
    add_data,
    add_route,
    add_runtime,
    add_settings,
    add_weights,
)
from reid.data.catalogue import read_catalogue
from reid.data.names import resolve_names
from reid.decision.artifact import open_weights
from reid.decision.metrics import read_solution
from reid.errors import InputError
from reid.runtime.files import refuse_unwritable
from reid.runtime.progress import print_result

__all__ = ["add_parser", "run"]


def add_parser(commands: Any) -> None:
    does = "make a page that says what the score rests on: the animal, its background, the day, the side"
    example = "diagnose photographs --weights weights --out diagnosis"
    command = add_command(commands, "diagnose", run, does, example)
    add_data(command)
    add_weights(command)
    command.add_argument("--out", metavar="DIR", type=Path, required=True, help="the folder to make")
    command.add_argument("--solution", metavar="CSV", type=Path, help="the true answers, where they are known")
    command.add_argument(
        "--queries",
        metavar="N",
        type=int,
        default=100,
        help="known photographs of a dataset that are asked, under each condition anew (default 100)",
    )
    add_route(command)
    add_settings(command, FOR_THIS_CALL)
    add_runtime(command)


def run(options: argparse.Namespace) -> None:
    if options.queries < 1:
        raise InputError(f"--queries: expected 1 or more known photographs, found {options.queries}")
    catalogue = read_catalogue(options.data)
    solution = read_solution(options.solution) if options.solution else None
    refuse_file(options.out)
    refuse_unwritable(options.out / "diagnose.html")

    from reid.decision.predict import predict
    from reid.diagnose import diagnose as diagnosing
    from reid.diagnose.page import write_diagnosis

    weights = open_weights(options.weights)
    recipe, runtime = recipe_of_answers(options, weights)
    catalogue = resolve_names(catalogue, recipe, weights.datasets)
    matches = predict(catalogue, weights, recipe, runtime=runtime) if len(catalogue.query) else None
    found = diagnosing.diagnose(catalogue, weights, matches, solution, options.queries)
    page = write_diagnosis(options.out, f"{catalogue.root.resolve().name}, recipe {weights.recipe.name}", found)
    for dataset, part in found.alarms:
        print_result(f"{dataset}, {part.name}: {part.words}")
    print_result(f"{len(found.alarms)} to look into; wrote {page}; open it in a browser")
