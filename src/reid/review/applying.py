"""Answers of a page into `pairs.csv`: nothing that was said before is lost, and nothing is overruled without a word."""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import pandas as pd

from reid.data.catalogue import Catalogue
from reid.data.competition import refuse_hand_labels
from reid.data.spelling import name_key
from reid.decision.answers import PAIRS, PAIRS_COLUMNS, Answer, read_pairs
from reid.decision.links import read_links
from reid.errors import InputError
from reid.review.answer_sheet import SheetAnswer, read_sheet
from reid.runtime.files import read_table, refuse_unwritable, write_table

__all__ = ["Applied", "Choice", "apply_answers"]

Choice = Literal["", "old", "new", "neither"]


@dataclass(frozen=True)
class Applied:
    """What became of a page's answers.

    Attributes:
        path: the file that holds them now.
        added: how many rows it got, by answer.
        there: how many stood there already.
        older: how many are older than what the same person has said since; they are left out.
        changed: how many pairs their author had answered otherwise before.
        settled: how many contradictions between people were settled.
    """

    path: Path
    added: dict[str, int]
    there: int
    older: int
    changed: int
    settled: int


class _Conflict(NamedTuple):
    """An answer, and what stands against it."""

    answer: SheetAnswer
    against: tuple[Answer, ...]


def apply_answers(catalogue: Catalogue, file: Path, pairs_file: Path | None = None, conflicts: Choice = "") -> Applied:
    """Merge the answers that a page has saved into `pairs.csv`.

    A row is only ever added, or its answer becomes `unsure` where a contradiction was settled against it; its note then
    says what it was.

    Args:
        catalogue: all rows of the data folder.
        file: what the page has saved.
        pairs_file: where to; None for `pairs.csv` in the data folder.
        conflicts: one of `choices.CONFLICTS`, or "" to write nothing where there are any.

    Raises:
        InputError: see `read_sheet` and `links.read_links`; people who contradict each other, directly or over what is
            the same as what, with the shortest chain; answers about the queries of a competition.
    """
    sheet = read_sheet(file, catalogue)
    about = {image_id for answer in sheet.answers for image_id in answer.pair}
    refuse_hand_labels(catalogue, about, str(file), "Nothing was written")
    path = pairs_file or catalogue.root / PAIRS
    refuse_unwritable(path)
    table, standing = _standing(path, catalogue)
    new, there, older, changed, against = _sorted_out(sheet.answers, standing)
    if against and not conflicts:
        raise InputError(_words_of(path, file, against))
    why = "neither answer counts" if conflicts == "neither" else "another's answer counts"
    overruled = {one.answer for one in against} if conflicts in ("old", "neither") else set()
    withdrawn = [answer for one in against for answer in one.against] if conflicts in ("new", "neither") else []
    rows = [_unsure(answer, why) if answer in overruled else answer for answer in new]
    merged = _merged(_withdrawn(table, withdrawn, why), rows)
    _refuse_contradictions(catalogue, merged, path, file, len(table))
    if rows or withdrawn:
        write_table(path, merged)
    added = pd.Series([answer.answer for answer in rows], dtype=object).value_counts().to_dict()
    return Applied(path, {str(word): int(count) for word, count in added.items()}, there, older, changed, len(against))


def _standing(path: Path, catalogue: Catalogue) -> tuple[pd.DataFrame, list[Answer]]:
    """Return the rows of pairs.csv, none where it is not there, and the answers that stand."""
    if not os.path.lexists(path):
        return pd.DataFrame(columns=list(PAIRS_COLUMNS), dtype=str), []
    table = read_table(path, PAIRS_COLUMNS[:3])
    datasets = dict(zip(catalogue.image_ids, catalogue.table["dataset"], strict=True))
    return table.assign(**{name: "" for name in PAIRS_COLUMNS if name not in table}), read_pairs(path, datasets)


def _sorted_out(
    answers: Sequence[SheetAnswer], standing: Sequence[Answer]
) -> tuple[list[SheetAnswer], int, int, int, list[_Conflict]]:
    """Return the answers that are new; how many stand already, are older than what stands, and change what their author
    said; and those that contradict what stands."""
    new: list[SheetAnswer] = []
    against: list[_Conflict] = []
    there = older = changed = 0
    for answer in answers:
        of_pair = [other for other in standing if other.pair == answer.pair]
        own = [other for other in of_pair if name_key(other.who) == name_key(answer.who)]
        if any(other.answer == answer.answer for other in own):
            there += 1
        elif any(other.when >= answer.time for other in own):  # False where either has no time
            older += 1
        else:
            others = [other for other in of_pair if other not in own or pd.isna(other.when) or pd.isna(answer.time)]
            changed += bool(set(own) - set(others))
            new.append(answer)
            if opposite := tuple(other for other in others if _contradict(other.answer, answer.answer)):
                against.append(_Conflict(answer, opposite))
    return new, there, older, changed, against


def _contradict(one: str, other: str) -> bool:
    return {one, other} == {"same", "different"}


def _words_of(path: Path, file: Path, against: Sequence[_Conflict]) -> str:
    def said(answer: Answer | SheetAnswer) -> str:
        return f"{answer.answer}{f' by {answer.who[:99]!r}' if answer.who else ''}"

    one = against[0]
    rows = ", ".join(f"row {answer.row} of {path}: {said(answer)}" for answer in one.against)
    more = f" ({len(against) - 1} more such pairs)" if len(against) > 1 else ""
    return (
        f"{file}: {one.answer.image_id_a} and {one.answer.image_id_b} are {said(one.answer)}, but {rows}{more}. "
        "Nothing was written: decide together, and correct one of the answers; or say with --conflicts old, new or "
        "neither which ones count: the others become unsure, and their notes say what they were"
    )


def _unsure(answer: SheetAnswer, why: str) -> SheetAnswer:
    return answer._replace(answer="unsure", note=_note(answer.note, answer.answer, why))


def _note(note: str, answer: str, why: str) -> str:
    return "; ".join(filter(None, [note, f"was {answer}, {why}"]))


def _withdrawn(table: pd.DataFrame, answers: Sequence[Answer], why: str) -> pd.DataFrame:
    """Return pairs.csv with these of its rows unsure."""
    table = table.copy()
    for answer in answers:
        place = answer.row - 2
        table.loc[place, "note"] = _note(str(table.loc[place, "note"]), answer.answer, why)
        table.loc[place, "answer"] = "unsure"
    return table


def _merged(table: pd.DataFrame, rows: Sequence[SheetAnswer]) -> pd.DataFrame:
    added = pd.DataFrame(list(rows), columns=list(PAIRS_COLUMNS), dtype=str)
    return pd.concat([table, added], ignore_index=True).fillna("")


def _refuse_contradictions(catalogue: Catalogue, merged: pd.DataFrame, path: Path, file: Path, before: int) -> None:
    """Refuse answers that contradict others over what is the same as what, in the words of `read_links`."""
    with tempfile.TemporaryDirectory() as folder:
        trial = Path(folder) / PAIRS
        write_table(trial, merged)
        try:
            read_links(catalogue, trial)
        except InputError as problem:
            words = str(problem).replace(str(trial), f"{path} with {file.name}")
            raise InputError(
                f"{words}. Nothing was written. Rows from {before + 2} on are the new answers of {file.name}, in its "
                "order"
            ) from None
