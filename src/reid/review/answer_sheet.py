"""The file of answers that the page of `reid review` saves: what a person said of which photographs.

It is JSON: `format` and `version`; `fingerprint`, of the photographs that the page asked about; `photographs`, their
image_ids; `answers`, each with the columns of `pairs.csv`.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from reid.data.catalogue import Catalogue
from reid.data.spelling import name_key
from reid.decision.answers import ANSWERS, PAIRS_COLUMNS
from reid.errors import InputError
from reid.runtime.files import first_of, is_file, read_json

if TYPE_CHECKING:
    from pandas._libs import NaTType

__all__ = ["FORMAT", "VERSION", "AnswerSheet", "SheetAnswer", "fingerprint_of", "read_sheet"]

FORMAT, VERSION = "reid answers", 1


class SheetAnswer(NamedTuple):
    """What a person said of two photographs; see `PAIRS_COLUMNS`."""

    image_id_a: str
    image_id_b: str
    answer: str
    who: str
    when: str
    note: str

    @property
    def pair(self) -> tuple[str, str]:
        """Both photographs, whatever their order."""
        first, second = sorted((self.image_id_a, self.image_id_b))
        return first, second

    @property
    def time(self) -> "pd.Timestamp | NaTType":
        """When it was said; NaT where that is no time."""
        return pd.to_datetime(self.when, errors="coerce", format="ISO8601", utc=True)


@dataclass(frozen=True)
class AnswerSheet:
    """The answers of one page.

    Attributes:
        path: the file.
        fingerprint: of the photographs that the page asked about.
        photographs: their image_ids.
        answers: at most one of each person to each pair.
    """

    path: Path
    fingerprint: str
    photographs: tuple[str, ...]
    answers: tuple[SheetAnswer, ...]


def fingerprint_of(catalogue: Catalogue, image_ids: Collection[str]) -> str:
    """Return what tells some photographs from any others: SHA-256 of image_id, dataset, path and the file's size, in
    hex. Names, dates and sides are left out: they may be corrected while a person answers."""
    table = catalogue.table[catalogue.table["image_id"].isin(list(image_ids))].sort_values("image_id")
    sizes = [_size(catalogue.root / path) for path in table["path"]]
    rows = [list(row) for row in zip(table["image_id"], table["dataset"], table["path"], sizes, strict=True)]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # it may have been moved since
        return -1


def read_sheet(path: Path, catalogue: Catalogue) -> AnswerSheet:
    """Return the answers of a file that the page has saved.

    Args:
        path: the file.
        catalogue: all rows of the data folder that the answers are about.

    Raises:
        InputError: no such file, one that is cut short or no such file of answers; answers about photographs that are
            not in the table, or about other photographs under the same image_ids.
    """
    try:
        content = read_json(path)
    except InputError as problem:
        advice = "if it is cut short, open the page that it comes from and save the answers again"
        raise InputError(f"{problem}; {advice if is_file(path) else 'name the file that the page has saved'}") from None
    content = content if isinstance(content, dict) else {}
    if content.get("format") != FORMAT:
        raise InputError(
            f"{path}: expected answers that a page of `reid review` has saved, found other JSON; name "
            "the file that the page has saved"
        )
    if content.get("version") != VERSION:
        raise InputError(
            f"{path}: expected version {VERSION} of this format, found {str(content.get('version'))[:20]}; apply it "
            "with the version of reid that made its page"
        )
    photographs, answers = content.get("photographs"), content.get("answers")
    if not (isinstance(photographs, list) and isinstance(answers, list)):
        raise InputError(f"{path}: expected lists of photographs and of answers; save the answers again in their page")
    photographs = [str(image_id) for image_id in photographs]
    said = tuple(_answer(path, number, row, photographs) for number, row in enumerate(answers, 1))
    _refuse_others(path, catalogue, photographs, str(content.get("fingerprint")))
    _refuse_doubled(path, said)
    return AnswerSheet(path, str(content["fingerprint"]), tuple(photographs), said)


def _answer(path: Path, number: int, row: Any, photographs: Collection[str]) -> SheetAnswer:
    """Return an answer of the file, after what is wrong with it was refused."""
    where = f"{path}: answer {number}"
    cells = row if isinstance(row, Mapping) else {}
    texts = [cells.get(name, "") for name in PAIRS_COLUMNS]
    if not cells or not all(isinstance(text, str) for text in texts):
        raise InputError(f"{where}: expected texts named {', '.join(PAIRS_COLUMNS)}; save the answers again")
    answer = SheetAnswer(*(" ".join(text.split()) if place > 2 else text for place, text in enumerate(texts)))
    if answer.answer not in ANSWERS:
        raise InputError(f"{where}: expected {', '.join(ANSWERS)}; found {answer.answer[:99]!r}")
    if answer.image_id_a == answer.image_id_b:
        raise InputError(f"{where}: expected two photographs, found {answer.image_id_a[:99]!r} twice")
    if strange := [image_id for image_id in answer.pair if image_id not in photographs]:
        raise InputError(f"{where}: expected photographs that the page asked about, found {strange[0][:99]!r}")
    if answer.when and pd.isna(answer.time):
        raise InputError(f"{where}: expected a time such as 2025-06-01T10:30:00Z, found {answer.when[:99]!r}")
    return answer


def _refuse_others(path: Path, catalogue: Catalogue, photographs: list[str], fingerprint: str) -> None:
    known = set(catalogue.image_ids)
    if unknown := [image_id[:99] for image_id in photographs if image_id not in known]:
        raise InputError(
            f"{path}: expected answers about photographs of {catalogue.root}, found {first_of(unknown)}, which "
            "metadata.csv does not have; name the data folder that the page was made of, or make a new page"
        )
    if fingerprint != fingerprint_of(catalogue, photographs):
        raise InputError(
            f"{path}: expected answers about the photographs of {catalogue.root}, but those that the page showed under "
            "these image_ids had another dataset, path or size: the answers are of another data folder, or the "
            "photographs were changed since. Name the folder that the page was made of, or make a new page"
        )


def _refuse_doubled(path: Path, answers: tuple[SheetAnswer, ...]) -> None:
    seen: dict[tuple[str, ...], int] = {}
    for number, answer in enumerate(answers, 1):
        key = (*answer.pair, name_key(answer.who))
        if key in seen:
            raise InputError(
                f"{path}: expected one answer of a person to a pair, found answers {seen[key]} and {number} to "
                f"{' and '.join(answer.pair)}; save the answers again in their page"
            )
        seen[key] = number
