"""Metrics: the competition's score, retrieval metrics, and the check of a submission before it is handed in.

Competition score: per dataset the geometric mean of BAKS and BAUS, and the mean of it over the datasets, as in the
organisers' notebook (WildlifeDatasets/wildlife-datasets, baselines/AnimalCLEF2025).
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from reid.data.catalogue import NEW_INDIVIDUAL
from reid.data.spelling import name_key, spelled
from reid.errors import InputError
from reid.runtime.files import ALIKE, first_of, group_rows, read_json, read_table

__all__ = [
    "SUBMISSION_COLUMNS",
    "RetrievalScore",
    "Score",
    "check_rows",
    "check_submission",
    "find_strange_names",
    "mean_retrieval",
    "overall",
    "read_answers",
    "read_scores",
    "read_solution",
    "read_submission",
    "resampled",
    "score_matches",
    "score_submission",
]

SUBMISSION_COLUMNS = ("image_id", "identity")

SOLUTION_COLUMNS = ("image_id", "identity", "new_identity", "dataset", "Usage")

RESAMPLES = 1000
"""The ends of an interval of nine tenths then differ by about 0.005 between seeds."""


@dataclass(frozen=True)
class Score:
    """How well one dataset's queries were answered; NaN where there was nothing to answer.

    Attributes:
        baks: balanced accuracy on known samples: the mean over known individuals of the share of their photographs
            that were named correctly.
        baus: balanced accuracy on unknown samples: the mean over new individuals of the share of their photographs
            that were called new.
        images: how many query photographs were scored.
    """

    baks: float
    baus: float
    images: int

    @property
    def score(self) -> float:
        """sqrt(BAKS x BAUS), 0 where either is NaN, as the organisers count it."""
        product = self.baks * self.baus
        return 0.0 if np.isnan(product) else float(np.sqrt(product))


def score_submission(
    submission: pd.DataFrame, solution: pd.DataFrame, names: tuple[str, str] = ("submission", "the solution")
) -> dict[str, Score]:
    """Return the score per dataset.

    Args:
        submission: columns image_id, identity; any order.
        solution: columns image_id, identity, new_identity (bool), dataset; every row of it is scored. As with the
            organisers, an individual that is new on one row is new on all.
        names: what the two are called where one is refused.

    Raises:
        InputError: a row of the solution has no answer, or more than one.
    """
    scores = {}
    for dataset, answered in _answered(submission, solution, names).items():
        known, new = answered.known, answered.new
        scores[dataset] = Score(
            baks=float(known.mean()) if len(known) else float("nan"),
            baus=float(new.mean()) if len(new) else float("nan"),
            images=answered.images,
        )
    return scores


def resampled(submission: pd.DataFrame, solution: pd.DataFrame, seed: int = 0) -> dict[str, np.ndarray]:
    """Return what the score might have been on other individuals of the same kind: the bootstrap (Efron 1979) over
    individuals, those known and those new apart.

    Two submissions resampled with one solution and one seed meet the same individuals in row i, so that their
    difference can be taken row by row.

    Returns:
        By dataset, (RESAMPLES, 3) float: BAKS, BAUS and score; the first two NaN where there was nothing to answer.

    Raises:
        InputError: as `score_submission`.
    """
    rows = {}
    for number, (dataset, answered) in enumerate(
        _answered(submission, solution, ("submission", "the solution")).items()
    ):
        rng = np.random.default_rng([seed, number])
        draws = np.full((RESAMPLES, 2), np.nan)
        for column, shares in enumerate((answered.known, answered.new)):
            if len(shares):
                draws[:, column] = shares[rng.integers(len(shares), size=(RESAMPLES, len(shares)))].mean(1)
        rows[dataset] = np.column_stack([draws, np.nan_to_num(np.sqrt(draws.prod(1)))])
    return rows


class _Answered(NamedTuple):
    """How one dataset's queries were answered."""

    known: np.ndarray
    """(K,) float, per known individual the share of its photographs that were named correctly."""
    new: np.ndarray
    """(U,) float, per new individual the share of its photographs that were called new."""
    images: int


def _answered(submission: pd.DataFrame, solution: pd.DataFrame, names: tuple[str, str]) -> dict[str, _Answered]:
    """Per dataset, in alphabetical order; see `score_submission`."""
    doubled = submission["image_id"].duplicated().to_numpy()
    if doubled.any():
        place = int(doubled.argmax())
        raise InputError(
            f"{names[0]}: row {place + 2}: expected one answer for every image_id, found another one for "
            f"{submission['image_id'].iloc[place]}; `reid check DATA --submission CSV` lists every fault"
        )
    answers = submission.set_index("image_id")["identity"]
    missing = sorted(set(solution["image_id"]) - set(answers.index))
    if missing:
        raise InputError(
            f"{names[0]}: expected an answer for every image_id of {names[1]}, {len(missing)} of {len(solution)} are "
            f"missing, such as {missing[0]}. Name the solution of these photographs; `reid check DATA --submission "
            "CSV` lists what a submission lacks"
        )
    answered = solution["image_id"].map(answers)
    new = _is_new(solution)
    right = np.where(new, answered == NEW_INDIVIDUAL, answered == solution["identity"])
    rows = solution.assign(new_identity=new, right=right.astype(float))
    by_dataset = {}
    for dataset, queries in rows.groupby("dataset", sort=True):
        per_individual = queries.groupby(["new_identity", "identity"])["right"].mean()
        is_new = per_individual.index.get_level_values("new_identity").to_numpy(bool)
        shares = per_individual.to_numpy(float)
        by_dataset[str(dataset)] = _Answered(shares[~is_new], shares[is_new], len(queries))
    return by_dataset


def find_strange_names(submission: pd.DataFrame, solution: pd.DataFrame) -> list[str]:
    """Return what speaks for names that were changed, by a spreadsheet for example, between the database and the
    solution: a score counts letter by letter.

    Args:
        submission: columns image_id, identity.
        solution: columns image_id, identity, new_identity (bool).
    """
    answered, true = set(submission["identity"]) - {NEW_INDIVIDUAL}, set(solution["identity"])
    by_key = {name_key(name): name for name in sorted(true)}
    alike = {name: by_key[name_key(name)] for name in sorted(answered - true) if name_key(name) in by_key}
    if alike:
        pairs = first_of(
            [f"{spelled(name)} in the answers, {spelled(other)} in the solution" for name, other in alike.items()], "; "
        )
        return [
            f"{len(alike)} of {len(answered)} answered names are written in another way there: {pairs}. They "
            "count as wrong"
        ]
    known = set(solution["identity"][~_is_new(solution)])
    if answered and known and not answered & true:
        return [
            f"no answered name occurs in the solution, such as {spelled(min(answered))}; the known individuals there "
            f"are called {spelled(min(known))} and so on. Is it the solution of these photographs?"
        ]
    return []


def _is_new(solution: pd.DataFrame) -> pd.Series:
    """Return whether the individual of each row is new; one that is new on one row is new on all."""
    return solution["identity"].isin(solution.loc[solution["new_identity"], "identity"])


def overall(scores: Mapping[str, Score]) -> float:
    """Return the mean score over the datasets, which is the leaderboard's figure."""
    return float(np.mean([score.score for score in scores.values()]))


@dataclass(frozen=True)
class RetrievalScore:
    """How well the candidates were ranked, whatever the threshold; NaN where there was nothing to rank.

    Attributes:
        rank1: the share of known queries whose best candidate is the right individual.
        recall5: the share of known queries with the right individual among the best five.
        mrr: the mean over known queries of 1 / rank of the right individual, 0 where it is not among the candidates.
        auroc: the chance that a new query's best candidate is less similar than a known query's; 0.5 is luck.
    """

    rank1: float
    recall5: float
    mrr: float
    auroc: float


def score_matches(matches: pd.DataFrame, solution: pd.DataFrame) -> dict[str, RetrievalScore]:
    """Return retrieval metrics per dataset.

    Args:
        matches: columns image_id, rank, candidate, dissimilarity, see `matches.Matches.to_frame`; a query without a
            candidate has a row without dissimilarity.
        solution: columns image_id, identity, new_identity (bool), dataset; see `read_solution`.

    Raises:
        InputError: a row of the solution has no match.
    """
    truth = solution.set_index("image_id")["identity"]
    missing = sorted(set(truth.index) - set(matches["image_id"]))
    if missing:
        raise InputError(f"matches: expected candidates for every image_id of the solution, none for {missing[0]}")
    hits = matches[matches["candidate"] == matches["image_id"].map(truth)].set_index("image_id")["rank"]
    best = matches[matches["rank"] == 1].set_index("image_id")["dissimilarity"]
    rows = solution.assign(
        new=_is_new(solution),
        rank=solution["image_id"].map(hits).astype(float),  # NaN where it is not among the candidates
        nearest=solution["image_id"].map(best).astype(float).fillna(np.inf),
    )
    scores = {}
    for dataset, queries in rows.groupby("dataset", sort=True):
        rank, nearest = queries.loc[~queries["new"], "rank"], queries["nearest"].to_numpy()
        scores[str(dataset)] = RetrievalScore(
            rank1=float((rank <= 1).mean()),
            recall5=float((rank <= 5).mean()),
            mrr=float((1 / rank).fillna(0).mean()),
            auroc=_auroc(nearest[~queries["new"]], nearest[queries["new"]]),
        )
    return scores


def _auroc(known: np.ndarray, new: np.ndarray) -> float:
    """Return the share of pairs of a known and a new query in which the new one's value is larger, ties counting half
    (Mann and Whitney 1947); NaN where there are no pairs."""
    if not len(known) or not len(new):
        return float("nan")
    ordered = np.sort(known)
    below = np.searchsorted(ordered, new, "left") + np.searchsorted(ordered, new, "right")
    return float(below.mean() / (2 * len(known)))


def mean_retrieval(scores: Mapping[str, RetrievalScore]) -> RetrievalScore:
    """Return the mean over the datasets that have a value; NaN where none has."""
    means = pd.DataFrame([asdict(score) for score in scores.values()], dtype=float).mean()
    return RetrievalScore(*(float(means[field.name]) for field in fields(RetrievalScore)))


def read_scores(path: Path) -> dict[str, Score]:
    """Return the scores that `reid score --json` printed into a file; their `images` are 0, for it does not say.

    Raises:
        InputError: no such file, or not what that command prints.
    """
    content = read_json(path)
    try:
        rows = {
            str(name): [figures[kind] for kind in ("baks", "baus")] for name, figures in content["datasets"].items()
        }
        cells = {name: [float("nan") if value is None else float(value) for value in row] for name, row in rows.items()}
    except (TypeError, KeyError, AttributeError, ValueError) as problem:
        raise InputError(
            f"{path}: expected what `reid score CSV SOLUTION --json` prints, found other JSON ({problem!r})"
        ) from None
    outside = [name for name, row in cells.items() if any(not 0 <= value <= 1 for value in row if value == value)]
    if outside or not cells:
        where = f"dataset {outside[0]} outside of 0 to 1" if outside else "no dataset"
        raise InputError(
            f"{path}: expected BAKS and BAUS per dataset, found {where}; write it again with `score --json`"
        )
    return {name: Score(row[0], row[1], images=0) for name, row in cells.items()}


def read_submission(path: Path | str) -> pd.DataFrame:
    """Return a submission file as text cells, one row per answer.

    Raises:
        InputError: no such file, or no CSV with the columns image_id, identity.
    """
    return read_table(Path(path), SUBMISSION_COLUMNS)


def read_solution(path: Path | str, usage: Collection[str] = ()) -> pd.DataFrame:
    """Return the true answers: image_id, identity, new_identity (bool), dataset, Usage.

    Args:
        path: the organisers' `solution.csv`.
        usage: keep only the rows of these parts, e.g. {"Private"}; empty for all.

    Raises:
        InputError: no such file, a cell that can't be understood, or no row left.
    """
    table = read_answers(path, SOLUTION_COLUMNS, usage)
    flags = table["new_identity"].str.lower().map({"true": True, "false": False, "1": True, "0": False})
    if flags.isna().any():
        row = flags.index[flags.isna()][0]
        found = table.at[row, "new_identity"]
        raise InputError(f"{path}: row {row + 2}, column new_identity: expected True or False, found {found!r}")
    return table.assign(new_identity=flags.astype(bool)).reset_index(drop=True)


def read_answers(path: Path | str, columns: tuple[str, ...], usage: Collection[str] = ()) -> pd.DataFrame:
    """Return the rows of a solution as text cells; the index is the row's place in the file.

    Args:
        path: the file.
        columns: those that it must have, image_id and Usage among them.
        usage: keep only the rows of these parts; empty for all.

    Raises:
        InputError: no such file, a submission in its place, an image_id twice, or no row left.
    """
    if set(read_table(Path(path), ("image_id",)).columns) in ({"image_id", "identity"}, {"image_id", "cluster"}):
        raise InputError(
            f"{path}: expected the true answers, found a submission; the order is: reid score SUBMISSION SOLUTION"
        )
    table = read_table(Path(path), columns)
    doubled = table["image_id"].duplicated()
    if doubled.any():
        raise InputError(f"{path}: row {int(doubled.to_numpy().argmax()) + 2}: image_id stands there a second time")
    unknown = sorted(set(usage) - set(table["Usage"]))
    if unknown:
        found = ", ".join(sorted(set(table["Usage"])))
        raise InputError(f"{path}: no row has Usage {', '.join(unknown)}; found {found}. Choose --usage among these")
    if usage:
        table = table[table["Usage"].isin(list(usage))]
    if table.empty:
        raise InputError(f"{path}: expected rows to score, found none")
    return table


def check_submission(submission: pd.DataFrame, image_ids: Sequence[str], identities: Collection[str]) -> list[str]:
    """Return every fault of a submission, in a sentence that names the row (the header is row 1); empty when there is
    none.

    Rows that share a fault to the letter share a sentence when they are many, and so do many that lack a row.

    Args:
        submission: text cells, columns image_id and identity.
        image_ids: the rows that are wanted, in the order of `sample_submission.csv`.
        identities: the individuals that an answer may name, besides `new_individual`.
    """
    allowed = {*identities, NEW_INDIVIDUAL}
    strangers = [name for name in dict.fromkeys(submission.get("identity", ())) if name not in {*allowed, ""}]
    many = f"no individual of the database is called so: {first_of([repr(name[:99]) for name in strangers])}"

    def fault_of(_: str, identity: str) -> str:
        if identity == "":
            return f"the identity is empty; expected an individual or {NEW_INDIVIDUAL}"
        words = f"no individual of the database is called {identity[:99]!r}"
        return "" if identity in allowed else many if len(strangers) > ALIKE else words

    return check_rows(submission, SUBMISSION_COLUMNS, image_ids, fault_of)


def check_rows(
    submission: pd.DataFrame, columns: tuple[str, str], image_ids: Sequence[str], fault_of: Callable[[str, str], str]
) -> list[str]:
    """Return every fault of a submission's columns, rows and answers, as `check_submission` does.

    Args:
        submission: text cells.
        columns: image_id and that of the answers.
        image_ids: the rows that are wanted, in order.
        fault_of: what is wrong with an answer, by image_id and answer; "" for nothing.
    """
    if list(submission.columns) != list(columns):
        found = ",".join(map(str, submission.columns))
        faults = [f"row 1: expected the columns {','.join(columns)}, found {found}"]
        if not set(columns) <= set(submission.columns):
            return faults
    else:
        faults = []
    answers = list(zip(submission["image_id"], submission[columns[1]], strict=True))
    wanted, answered = set(image_ids), set(submission["image_id"])
    names = {f"row {place + 2}": f" (image_id {name or 'empty'})" for place, (name, _) in enumerate(answers)}
    for rows, words in group_rows(_faults_of_rows(answers, wanted, fault_of)):
        faults.append(f"{rows}{names.get(rows, '')}: {words}")
    missing = [image_id for image_id in image_ids if image_id not in answered]
    if len(missing) > ALIKE:
        faults.append(f"missing: {len(missing)} image_ids have no row: {first_of(missing)}")
    else:
        faults += [f"missing: image_id {image_id} has no row" for image_id in missing]
    if not faults and list(submission["image_id"]) != list(image_ids):
        pairs = enumerate(zip(submission["image_id"], image_ids, strict=True))
        place, (found, expected) = next((place, pair) for place, pair in pairs if pair[0] != pair[1])
        faults.append(
            f"row {place + 2}: expected image_id {expected}, found {found}; the order is that of sample_submission.csv"
        )
    return faults


def _faults_of_rows(
    answers: Sequence[tuple[str, str]], wanted: set[str], fault_of: Callable[[str, str], str]
) -> Iterator[tuple[int, str]]:
    """Yield rows, as a spreadsheet counts them, and what is wrong with them; see `check_rows`."""
    answered = set()
    for row, (image_id, answer) in enumerate(answers, 2):
        if image_id not in wanted:
            yield row, "no query row has this image_id"
        elif image_id in answered:
            yield row, "this image_id was answered before"
        answered.add(image_id)
        if words := fault_of(image_id, answer):
            yield row, words
