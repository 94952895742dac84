"""The files that lie beside a submission, NAME.matches.csv and NAME.clusters.csv, as versioned formats; docs/formats.md
describes them.

The first line of a file says its version: each version has its own columns, in their order.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from reid.data.catalogue import NEW_INDIVIDUAL, Catalogue
from reid.data.spelling import name_key
from reid.decision.discovered import CLUSTER_FLAGS, CLUSTERS_COLUMNS, clusters_path
from reid.decision.matches import FLAGS, MATCH_COLUMNS, matches_path
from reid.errors import InputError
from reid.runtime.files import group_rows, is_file, read_table

__all__ = ["CLUSTERS_VERSIONS", "MATCHES_VERSIONS", "AnswerFile", "check_file_beside"]

MATCHES_VERSIONS = {1: MATCH_COLUMNS}
"""By version, the columns of NAME.matches.csv."""

CLUSTERS_VERSIONS = {1: CLUSTERS_COLUMNS}
"""By version, the columns of NAME.clusters.csv."""


@dataclass(frozen=True)
class AnswerFile:
    """What was found in a file beside a submission.

    Attributes:
        file: its path.
        version: of its format; None where it has none of them.
        faults: sentences that name the row.
    """

    file: str
    version: int | None
    faults: list[str] = field(default_factory=list)


def check_file_beside(submission: Path, catalogue: Catalogue) -> AnswerFile | None:
    """Return what is wrong with NAME.matches.csv or NAME.clusters.csv next to NAME.csv; None where there is neither.

    Args:
        submission: NAME.csv, which has the columns image_id and identity, or image_id and cluster.
        catalogue: all rows of the data folder.

    Raises:
        InputError: the submission can't be read.
    """
    given = read_table(submission, ("image_id",))
    has_clusters = "cluster" in given.columns
    path = clusters_path(submission) if has_clusters else matches_path(submission)
    if not is_file(path) or not {"cluster", "identity"} & set(given.columns):
        return None
    versions = CLUSTERS_VERSIONS if has_clusters else MATCHES_VERSIONS
    try:
        table = read_table(path, ("image_id",))
    except InputError as problem:
        return AnswerFile(str(path), None, [str(problem).removeprefix(f"{path}: ")])
    version = next((number for number, columns in versions.items() if tuple(table.columns) == columns), None)
    if version is None:
        known = "; ".join(f"{','.join(columns)} (version {number})" for number, columns in versions.items())
        return AnswerFile(str(path), None, [f"row 1: expected {known}, found {','.join(table.columns)}"])
    answers = dict(zip(given["image_id"], given["cluster" if has_clusters else "identity"], strict=True))
    faults = _of_clusters(table, answers, catalogue) if has_clusters else _of_matches(table, answers, catalogue)
    numbered = sorted(faults, key=lambda fault: fault[0])
    missing = sorted(set(answers) - set(table["image_id"]))
    lines = [f"{rows}: {words}" for rows, words in group_rows(numbered)]
    if missing:
        lines.append(f"missing: {len(missing)} image_ids of {submission.name} have no row, such as {missing[0]}")
    return AnswerFile(str(path), version, lines)


def _of_matches(table: pd.DataFrame, answers: Mapping[str, str], catalogue: Catalogue) -> Iterator[tuple[int, str]]:
    """Yield the faults of NAME.matches.csv with their rows, as a spreadsheet counts."""
    yield from _of_all(table, answers, "answer", FLAGS)
    known = set(catalogue.image_ids)  # queries too, which `enroll --clusters` may have made individuals of
    last: dict[str, tuple[int, float]] = {}
    for row, cells in enumerate(table.to_dict("records"), 2):
        image_id, candidate, speaks = cells["image_id"], cells["candidate"], cells["candidate_image_id"]
        rank, dissimilarity = _number(cells["rank"]), _number(cells["dissimilarity"])
        before, nearer = last.get(image_id, (0, float("-inf")))
        if rank != before + 1:
            yield row, f"column rank: expected {before + 1}, found {cells['rank'][:20]!r}; ranks count from 1"
        for column in ("dissimilarity", "threshold"):
            if _number(cells[column]) is None and cells[column]:
                yield row, f"column {column}: expected a number, found {cells[column][:20]!r}"
        if dissimilarity is not None and dissimilarity < nearer:
            yield row, "column dissimilarity: expected the most similar candidate first, found a smaller one behind"
        if bool(candidate) != bool(speaks) or (candidate and dissimilarity is None):
            yield row, "expected candidate, candidate_image_id and dissimilarity together, or none of them"
        elif candidate and (speaks not in known or speaks == image_id):
            yield row, f"column candidate_image_id: expected another row of metadata.csv, found {speaks[:99]!r}"
        if candidate == NEW_INDIVIDUAL:
            yield row, "column candidate: expected an individual; that word is the answer's"
        last[image_id] = (before + 1, nearer if dissimilarity is None else dissimilarity)


def _of_clusters(table: pd.DataFrame, answers: Mapping[str, str], catalogue: Catalogue) -> Iterator[tuple[int, str]]:
    """Yield the faults of NAME.clusters.csv with their rows."""
    yield from _of_all(table, answers, "cluster", CLUSTER_FLAGS)
    datasets = dict(zip(catalogue.image_ids, catalogue.table["dataset"], strict=True))
    of_cluster: dict[str, str] = {}
    seen: set[str] = set()
    for row, cells in enumerate(table.to_dict("records"), 2):
        image_id, identity, dataset = cells["image_id"], cells["identity"], cells["dataset"]
        if image_id in seen:
            yield row, f"column image_id: expected every photograph once, found {image_id[:99]!r} again"
        if name_key(dataset) != name_key(datasets.get(image_id, dataset)):  # the weights may spell it otherwise
            yield row, f"column dataset: expected that of metadata.csv, {datasets[image_id]!r}, found {dataset[:99]!r}"
        if of_cluster.setdefault(cells["cluster"], identity) != identity:
            yield row, f"column identity: expected one for the whole cluster, found {identity[:99]!r} as well"
        seen.add(image_id)


def _of_all(
    table: pd.DataFrame, answers: Mapping[str, str], column: str, flags: Mapping[str, str]
) -> Iterator[tuple[int, str]]:
    """Yield the faults that both files can have."""
    for row, cells in enumerate(table.to_dict("records"), 2):
        image_id, answer, probability = cells["image_id"], cells[column], _number(cells["probability"])
        if image_id not in answers:
            yield row, f"column image_id: expected one of the submission, found {image_id[:99]!r}"
        elif answer != answers[image_id]:
            yield row, f"column {column}: expected the submission's, {answers[image_id][:99]!r}, found {answer[:99]!r}"
        if cells["probability"] and (probability is None or not 0 <= probability <= 1):
            yield row, f"column probability: expected 0 to 1 or nothing, found {cells['probability'][:20]!r}"
        if strange := [word for word in cells["flags"].split() if word not in flags]:
            yield row, f"column flags: expected words of {', '.join(flags)}, found {strange[0][:99]!r}"


def _number(cell: str) -> float | None:
    """Return a cell's number; None where it is empty or none."""
    try:
        number = float(cell)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
