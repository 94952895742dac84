"""The competitions that the kit enters, what tells their files apart, and what is uploaded for each.

kernel-metadata.json names one of them, which is meant where nobody names another. For another one the copies of both
metadata files get its year, `animal-reid-2026`: a kernel and a dataset of its own, so that no push replaces another
competition's.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reid.decision.clusters import asks_for_clusters
from reid.errors import InputError
from reid.runtime.files import is_file

__all__ = ["COLUMNS", "Competition", "choose_competition", "competition_of"]

ROOT = Path(__file__).resolve().parents[1]
PLACEHOLDER = "your-kaggle-name"
KERNEL, DATASET = "kernel-metadata.json", "dataset-metadata.json"

COLUMNS = {"animal-clef-2025": "identity", "animal-clef-2026": "cluster"}
"""By competition, the column of its sample_submission.csv next to image_id."""

TARGETS = re.compile(r"\bmake((?: (?:data|push-weights|push-kernel|kernel-status|kernel-output|submit)\b)+)")


@dataclass(frozen=True)
class Competition:
    """A competition to enter.

    Attributes:
        name: as in its address, e.g. "animal-clef-2026".
        is_default: whether kernel-metadata.json names it.
    """

    name: str
    is_default: bool

    def spelled(self, text: str) -> str:
        """Return a message with what has to be typed after the targets of make in it."""
        return text if self.is_default else TARGETS.sub(rf"make\1 COMPETITION={self.name}", text)

    def kernel_metadata(self, owner: str) -> dict[str, Any]:
        """Return what goes up with the kernel.

        Args:
            owner: the user's name on Kaggle.

        Raises:
            InputError: a metadata file can't be read.
        """
        metadata, weights = _read_metadata(KERNEL), _read_metadata(DATASET)["id"]
        sources = [self._own(source) if source == weights else source for source in metadata.get("dataset_sources", [])]
        return self._filled(metadata | {"dataset_sources": sources, "competition_sources": [self.name]}, owner)

    def dataset_metadata(self, owner: str) -> dict[str, Any]:
        """Return what goes up with the weights; see `kernel_metadata`."""
        return self._filled(_read_metadata(DATASET), owner)

    def _filled(self, metadata: dict[str, Any], owner: str) -> dict[str, Any]:
        title = metadata["title"] + ("" if self.is_default else f" {self._year}")
        text = json.dumps(metadata | {"id": self._own(metadata["id"]), "title": title})
        return dict(json.loads(text.replace(PLACEHOLDER, owner)))

    def _own(self, name: str) -> str:
        return name if self.is_default else f"{name}-{self._year}"

    @property
    def _year(self) -> str:
        return self.name.rpartition("-")[2]

    def refuse_others(self, data: Path) -> None:
        """Refuse a data folder of another competition; one without a sample_submission.csv can't be told.

        Raises:
            InputError: its sample_submission.csv has another competition's column.
        """
        other = competition_of(data)
        if not is_file(data / "sample_submission.csv") or self.name not in COLUMNS or other == self.name:
            return
        raise InputError(
            f"{data / 'sample_submission.csv'}: expected the column {COLUMNS[self.name]} of {self.name}, found "
            f"{COLUMNS[other]}: these are the files of {other}. Type COMPETITION={other}, or name the folder for the "
            f"files of {self.name} with DATA="
        )


def competition_of(data: Path) -> str:
    """Return the name of the competition whose files lie in a folder, the earlier one where none can be told.

    Raises:
        InputError: its sample_submission.csv is no CSV with a column image_id.
    """
    column = "cluster" if asks_for_clusters(data / "sample_submission.csv") else "identity"
    return next(name for name, found in COLUMNS.items() if found == column)


def choose_competition(name: str | None) -> Competition:
    """Return the competition of this name, or the one that kernel-metadata.json names.

    Raises:
        InputError: the kit does not know it, or the metadata can't be read.
    """
    (default, *_) = _read_metadata(KERNEL)["competition_sources"]
    if name not in (None, default, *COLUMNS):
        raise InputError(f"COMPETITION={name}: expected {' or '.join(COLUMNS)}; type one of these")
    return Competition(name or default, name in (None, default))


def _read_metadata(name: str) -> dict[str, Any]:
    try:
        return dict(json.loads((ROOT / name).read_text("utf-8")))
    except (OSError, ValueError) as problem:
        raise InputError(f"{ROOT / name}: expected Kaggle's metadata, but it can't be read ({problem})") from None
