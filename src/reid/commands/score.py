"""`reid score`: score answers with the solution."""

import argparse
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from reid.commands.options import add_command, add_json
from reid.commands.output import print_json
from reid.decision.clusters import (
    asks_for_clusters,
    mean_rand_index,
    read_cluster_solution,
    read_clusters,
    score_clusters,
)
from reid.decision.matches import read_matches_next_to
from reid.decision.metrics import (
    RetrievalScore,
    Score,
    find_strange_names,
    mean_retrieval,
    overall,
    read_solution,
    read_submission,
    score_matches,
    score_submission,
)
from reid.runtime.progress import print_result

__all__ = ["add_parser", "run"]

log = logging.getLogger(__name__)


def add_parser(commands: Any) -> None:
    does = "score a submission as the organisers do; its columns say of which year"
    command = add_command(commands, "score", run, does, "score submission.csv photographs/solution.csv")
    command.add_argument(
        "submission",
        metavar="CSV",
        type=Path,
        help="the submission, columns image_id and identity, or image_id and cluster",
    )
    command.add_argument(
        "solution", metavar="SOLUTION", type=Path, help="the true answers, the organisers' solution.csv"
    )
    command.add_argument("--usage", metavar="Public,Private", help="only the rows of these parts (default: all)")
    add_json(
        command,
        "overall; datasets, of each the baks, baus (null where nobody is to be found) and score; where the matches are "
        "there, also rank1, recall5, mrr and auroc, of all and of each. Of clusters: overall; datasets, of each the "
        "ari, images, individuals and clusters",
    )


def run(options: argparse.Namespace) -> None:
    usage = [word for word in (options.usage or "").split(",") if word]
    if asks_for_clusters(options.submission):
        _score_clusters(options, usage)
        return
    names = (str(options.submission), str(options.solution))
    submission, solution = read_submission(options.submission), read_solution(options.solution, usage)
    scores = score_submission(submission, solution, names)
    matches = read_matches_next_to(options.submission, submission)
    retrieval = {} if matches is None else score_matches(matches, solution)
    means = asdict(mean_retrieval(retrieval)) if retrieval else {}
    if options.json:
        rows = {
            dataset: {"baks": score.baks, "baus": score.baus, "score": score.score}
            | (asdict(retrieval[dataset]) if retrieval else {})
            for dataset, score in scores.items()
        }
        print_json({"overall": overall(scores), **means, "datasets": rows})
    else:
        print_result(_score_table(scores, retrieval).to_string(index=False, float_format="%.4f"))
        print_result(f"overall {overall(scores):.4f}")
        if means:
            print_result(", ".join(f"{name} {value:.4f}" for name, value in means.items()))
    for words in find_strange_names(submission, solution):
        log.warning("%s: %s", options.solution, words)
    for name, score in scores.items():
        for share, kind in ((score.baks, "known"), (score.baus, "new")):
            if share != share:  # NaN
                log.warning("%s: the solution has no %s individuals to find, for which the score counts 0", name, kind)


def _score_clusters(options: argparse.Namespace, usage: list[str]) -> None:
    scores = score_clusters(read_clusters(options.submission), read_cluster_solution(options.solution, usage))
    if options.json:
        datasets = {dataset: asdict(score) for dataset, score in scores.items()}
        print_json({"overall": mean_rand_index(scores), "datasets": datasets})
        return
    rows = [
        {
            "dataset": name,
            "images": score.images,
            "individuals": score.individuals,
            "clusters": score.clusters,
            "ARI": score.ari,
        }
        for name, score in scores.items()
    ]
    print_result(pd.DataFrame(rows).to_string(index=False, float_format="%.4f"))
    print_result(f"overall {mean_rand_index(scores):.4f}")


def _score_table(scores: dict[str, Score], retrieval: dict[str, RetrievalScore]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"dataset": name, "images": score.images, "BAKS": score.baks, "BAUS": score.baus, "score": score.score}
            | (asdict(retrieval[name]) if retrieval else {})
            for name, score in scores.items()
        ]
    )
