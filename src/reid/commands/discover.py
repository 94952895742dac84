"""`reid discover`: group the queries by animal."""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from reid.commands.call import recipe_of, refuse_input
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
from reid.commands.output import log_next, log_times, print_json
from reid.config import settings
from reid.data.catalogue import read_catalogue
from reid.decision.artifact import open_weights
from reid.decision.clusters import CLUSTER_COLUMNS, read_cluster_solution
from reid.decision.discovered import Clusters, clusters_path
from reid.errors import InputError
from reid.runtime.files import refuse_unwritable
from reid.runtime.progress import print_result, stage

__all__ = ["add_parser", "run"]


def add_parser(commands: Any) -> None:
    does = "put the query photographs together by individual, where nobody has named them yet"
    example = "discover photographs --weights weights --out clusters.csv --report clusters"
    command = add_command(commands, "discover", run, does, example)
    add_data(command)
    add_weights(command)
    command.add_argument(
        "--out",
        metavar="CSV",
        type=Path,
        required=True,
        help="the submission to write, NAME.csv; NAME.clusters.csv next to it says who each cluster may be",
    )
    add_pairs(command)
    command.add_argument(
        "--previous", metavar="CSV", type=Path, help="keep the labels of these clusters where photographs were added"
    )
    command.add_argument("--report", metavar="DIR", type=Path, help="make a page of the clusters for a person, too")
    command.add_argument(
        "--solution", metavar="CSV", type=Path, help="with --report: the true answers, where they are known"
    )
    add_settings(command, FOR_THIS_CALL)
    add_runtime(command)
    add_json(
        command,
        "submission and clusters, the files; photographs; datasets, of each the photographs, clusters, known "
        "(photographs of clusters with a name), value (the cut), plateau, score (expected ARI), interval, companions, "
        "fitted_companions, share_known, individuals, scorer, borrowed and notes; seconds",
    )


def run(options: argparse.Namespace) -> None:
    catalogue = read_catalogue(options.data)
    refuse_input(options.out, options.data, CLUSTER_COLUMNS)
    if options.solution and not options.report:
        raise InputError(
            "--solution: expected --report DIR with it, whose page shows the score; add it, or `reid score`"
        )
    for path in (options.out, *([options.report / "report.html"] if options.report else [])):
        refuse_unwritable(path)
    solution = read_cluster_solution(options.solution) if options.solution else None
    weights = open_weights(options.weights)

    from reid.decision.describe import describe_clusters
    from reid.decision.discover import discover as discover_individuals

    recipe, runtime = recipe_of(weights, options, settings.PREDICTION)
    seconds: dict[str, float] = {}
    with stage("discover", seconds):
        clusters = discover_individuals(
            catalogue, weights, recipe, runtime=runtime, links_file=options.pairs, previous=options.previous
        )
    clusters.save(options.out)
    if options.report:
        from reid.report.cluster_report import write_cluster_report

        write_cluster_report(catalogue, clusters, options.report, solution, recipe)
    lines = describe_clusters(clusters)  # which also warns
    if options.json:
        print_json(_json_of_clusters(clusters, options.out, seconds))
    else:
        done = (
            f"wrote {len(clusters)} photographs to {options.out}, and who they may be to {clusters_path(options.out)}"
        )
        for line in [*lines, done]:
            print_result(line)
    log_times(seconds)
    log_next("check", options.data, "--submission", options.out)


def _json_of_clusters(clusters: Clusters, out: Path, seconds: dict[str, float]) -> dict[str, Any]:
    datasets = {
        str(dataset): {
            **{name: value for name, value in asdict(clusters.cuts[str(dataset)]).items() if name != "dataset"},
            "photographs": len(rows),  # not those that the cut was fitted on
            "clusters": rows["cluster"].nunique(),
            "known": int((rows["identity"] != "").sum()),
        }
        for dataset, rows in clusters.photographs.groupby("dataset")
    }
    return {
        "submission": str(out),
        "clusters": str(clusters_path(out)),
        "photographs": len(clusters),
        "datasets": datasets,
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
    }
