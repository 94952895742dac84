"""What people said of pairs of photographs: `pairs.csv`, in the data folder or elsewhere.

Its columns are image_id_a, image_id_b, answer (`ANSWERS`) and, where they are known, who, when and note. A person
writes it by hand.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from reid.data.spelling import name_key
from reid.errors import InputError
from reid.runtime.files import first_of, group_rows, read_table

__all__ = ["ANSWERS", "PAIRS", "PAIRS_COLUMNS", "Answer", "read_pairs"]

PAIRS = "pairs.csv"

PAIRS_COLUMNS = ("image_id_a", "image_id_b", "answer", "who", "when", "note")
"""The first three must be there."""

ANSWERS = ("same", "different", "unsure")
"""Whether two photographs show one animal."""


class Answer(NamedTuple):
    """What a person said last of two photographs."""

    image_id_a: str
    image_id_b: str
    answer: str
    who: str
    when: pd.Timestamp
    """NaT where the cell is empty or no date; one without a time zone counts as UTC."""
    row: int
    """As a spreadsheet counts."""

    @property
    def pair(self) -> tuple[str, str]:
        """Both photographs, whatever their order in the row."""
        first, second = sorted((self.image_id_a, self.image_id_b))
        return first, second


def read_pairs(path: Path, datasets: Mapping[str, str]) -> list[Answer]:
    """Return the answers that stand, in the order of their rows.

    Where one person answered a pair several times and differently, the latest `when` counts: she changed her mind.
    Where two persons contradict each other, neither does: they must decide, whoever came last.

    Args:
        path: the file.
        datasets: of every photograph of the table, by image_id; "" where it is not known.

    Raises:
        InputError: no such file, or no such CSV; a row with another answer, with a photograph that is not in the table,
            with one photograph twice or with two of different datasets; answers that contradict each other.
    """
    table = read_table(path, PAIRS_COLUMNS[:3])
    table = table[(table != "").any(axis=1)]
    _refuse(path, group_rows((int(row) + 2, fault) for row, fault in _faults(table, datasets)))
    answers = _answers(table)
    standing = [answer for group in _grouped(answers, by_person=True) for answer in _latest(group)]
    contradictions = [
        f"{_rows(group)}: {group[0].image_id_a} and {group[0].image_id_b} are said to be "
        f"{' and '.join(f'{answer.answer}{_by(answer)}' for answer in group)}. {_advice(group)}"
        for group in _grouped([answer for answer in standing if answer.answer != "unsure"], by_person=False)
        if len({answer.answer for answer in group}) > 1
    ]
    _refuse(path, [(words, "") for words in contradictions])
    return sorted(standing, key=lambda answer: answer.row)


def _refuse(path: Path, faults: list[tuple[str, str]]) -> None:
    """Raise the first fault, with the number of the others."""
    if faults:
        others = f" ({len(faults) - 1} more like this or otherwise wrong)" if len(faults) > 1 else ""
        raise InputError(f"{path}: {': '.join(filter(None, faults[0]))}{others}")


def _faults(table: pd.DataFrame, datasets: Mapping[str, str]) -> Iterable[tuple[int, str]]:
    """Yield what is wrong with a row, and its place in the table."""
    for place, first, second, word in zip(
        table.index, table["image_id_a"], table["image_id_b"], table["answer"], strict=True
    ):
        for column, image_id in (("image_id_a", first), ("image_id_b", second)):
            if image_id not in datasets:
                yield (
                    place,
                    f"column {column}: expected an image_id of metadata.csv, found {image_id[:99]!r}; correct it, or "
                    "remove the row",
                )
        if word.strip().casefold() not in ANSWERS:
            yield place, f"column answer: expected {', '.join(ANSWERS)}; found {word[:99]!r}. Correct it"
        if first == second:
            yield place, f"expected two photographs, found {first[:99]!r} twice; remove the row"
        elif len(of := {name_key(name): name for name in (datasets.get(first), datasets.get(second)) if name}) > 1:
            yield (
                place,
                f"expected two photographs of one dataset, found {' and '.join(map(repr, of.values()))}: animals of "
                "two datasets are never compared; remove the row, or correct the column dataset of metadata.csv",
            )


def _answers(table: pd.DataFrame) -> list[Answer]:
    empty = pd.Series("", index=table.index, dtype=object)
    who, when = table.get("who", empty), table.get("when", empty)
    times = pd.to_datetime(when.str.strip(), errors="coerce", format="ISO8601", utc=True)
    columns = (table["image_id_a"], table["image_id_b"], table["answer"].str.strip().str.casefold(), who, times)
    rows = (table.index.to_numpy(int) + 2).tolist()
    return [Answer(*cells) for cells in zip(*columns, rows, strict=True)]


def _grouped(answers: Iterable[Answer], by_person: bool) -> list[list[Answer]]:
    groups: dict[tuple[str, ...], list[Answer]] = defaultdict(list)
    for answer in answers:
        groups[(*answer.pair, *([name_key(answer.who)] if by_person else []))].append(answer)
    return list(groups.values())


def _latest(group: list[Answer]) -> list[Answer]:
    """Return a person's last answer to a pair; all of them where they differ and do not tell which is the last."""
    times = [answer.when for answer in group]
    if len({answer.answer for answer in group}) == 1:
        return group[-1:]
    if any(pd.isna(time) for time in times):
        return group
    last = [answer for answer in group if answer.when == max(times)]
    return last if len({answer.answer for answer in last}) > 1 else last[-1:]


def _rows(group: list[Answer]) -> str:
    return f"rows {first_of([str(row) for row in sorted(answer.row for answer in group)])}"


def _by(answer: Answer) -> str:
    return f" by {answer.who[:99]!r}" if answer.who else ""


def _advice(group: list[Answer]) -> str:
    if len({name_key(answer.who) for answer in group}) > 1:
        return "Decide together, and remove the other row"
    return "Remove the wrong row, or say in the column when (YYYY-MM-DD HH:MM) which answer is the later one"
