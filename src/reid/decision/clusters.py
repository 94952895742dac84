"""Partitions of photographs into individuals, as AnimalCLEF26 asks for them: submissions, their check and their score.

The score is the adjusted Rand index per dataset, and its plain mean over the datasets.
"""

from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from reid.decision.metrics import check_rows, read_answers
from reid.errors import InputError
from reid.runtime.files import is_file, read_table

__all__ = [
    "CLUSTER_COLUMNS",
    "ClusterScore",
    "adjusted_rand_index",
    "asks_for_clusters",
    "check_clusters",
    "mean_rand_index",
    "read_cluster_solution",
    "read_clusters",
    "score_clusters",
]

CLUSTER_COLUMNS = ("image_id", "cluster")

SOLUTION_COLUMNS = ("image_id", "identity", "dataset", "Usage")


@dataclass(frozen=True)
class ClusterScore:
    """How well one dataset's photographs were put together.

    Attributes:
        ari: the adjusted Rand index, 1 for the true partition, near 0 for a random one.
        images: how many photographs were scored.
        individuals: how many animals are on them.
        clusters: how many the answer has.
    """

    ari: float
    images: int
    individuals: int
    clusters: int


def adjusted_rand_index(truth: Sequence[str], answer: Sequence[str]) -> float:
    """Return the adjusted Rand index of two partitions (Hubert and Arabie 1985), 1 where they are the same.

    It counts pairs: of those that either partition puts together, the share that both do, less what chance would give.

    Args:
        truth: (N,) each photograph's individual.
        answer: (N,) each photograph's cluster.
    """
    both, in_truth, in_answer = map(_pairs, (zip(truth, answer, strict=True), truth, answer))
    every = len(truth) * (len(truth) - 1) // 2
    if both == in_truth == in_answer:
        return 1.0
    # in whole numbers: multiplied out, so that nothing is rounded before the one division
    by_chance = in_truth * in_answer
    return (every * both - by_chance) * 2 / (every * (in_truth + in_answer) - 2 * by_chance)


def _pairs(groups: Iterable[Hashable]) -> int:
    """Return how many pairs of photographs are in one group, from the group of each photograph."""
    return sum(count * (count - 1) // 2 for count in Counter(groups).values())


def score_clusters(submission: pd.DataFrame, solution: pd.DataFrame) -> dict[str, ClusterScore]:
    """Return the score per dataset, in alphabetical order.

    Args:
        submission: columns image_id, cluster; any order, rows that the solution lacks do not count.
        solution: columns image_id, identity, dataset; every row of it is scored.

    Raises:
        InputError: a row of the solution has no cluster, or more than one.
    """
    doubled = submission["image_id"].duplicated()
    missing = sorted(set(solution["image_id"]) - set(submission["image_id"]))
    if doubled.any() or missing:
        found = f"none for {missing[0]}" if missing else f"two for {submission['image_id'][doubled].iloc[0]}"
        raise InputError(
            f"submission: expected one cluster for every image_id of the solution, found {found}; "
            "`reid check DATA --submission CSV` lists every fault"
        )
    rows = solution.assign(cluster=solution["image_id"].map(submission.set_index("image_id")["cluster"]))
    return {
        str(dataset): ClusterScore(
            adjusted_rand_index(list(of_dataset["identity"]), list(of_dataset["cluster"])),
            len(of_dataset),
            of_dataset["identity"].nunique(),
            of_dataset["cluster"].nunique(),
        )
        for dataset, of_dataset in rows.groupby("dataset", sort=True)
    }


def mean_rand_index(scores: Mapping[str, ClusterScore]) -> float:
    """Return the mean over the datasets, which is the leaderboard's figure."""
    return float(np.mean([score.ari for score in scores.values()]))


def asks_for_clusters(*submissions: Path) -> bool:
    """Return whether the first of these files that is there has AnimalCLEF26's column `cluster`; False without one.

    Raises:
        InputError: the file is no CSV with a column image_id.
    """
    there = next(filter(is_file, submissions), None)
    return there is not None and "cluster" in read_table(there, ("image_id",)).columns


def check_clusters(submission: pd.DataFrame, image_ids: Sequence[str], datasets: Mapping[str, str]) -> list[str]:
    """Return every fault of a submission, in a sentence that names the row; empty when there is none.

    Args:
        submission: text cells, columns image_id and cluster.
        image_ids: the rows that are wanted, in the order of `sample_submission.csv`.
        datasets: by image_id; a cluster's label must begin with `cluster_DATASET_`.
    """

    def fault_of(image_id: str, cluster: str) -> str:
        prefix = f"cluster_{datasets.get(image_id, '')}_"
        if image_id not in datasets or (cluster.startswith(prefix) and cluster != prefix):
            return ""
        return f"expected a cluster of its dataset, {prefix}NAME; found {cluster[:99]!r}"

    return check_rows(submission, CLUSTER_COLUMNS, image_ids, fault_of)


def read_clusters(path: Path | str) -> pd.DataFrame:
    """Return a submission file as text cells, one row per photograph.

    Raises:
        InputError: no such file, or no CSV with the columns image_id, cluster.
    """
    return read_table(Path(path), CLUSTER_COLUMNS)


def read_cluster_solution(path: Path | str, usage: Collection[str] = ()) -> pd.DataFrame:
    """Return the true answers: image_id, identity, dataset, Usage; `new_identity` may be there and is not needed.

    Args:
        path: the organisers' `solution.csv`.
        usage: keep only the rows of these parts; empty for all.

    Raises:
        InputError: no such file, an image_id twice, or no row left.
    """
    return read_answers(path, SOLUTION_COLUMNS, usage)
