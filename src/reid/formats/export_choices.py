"""What a person decides about an export, and what comes of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

__all__ = ["ExportChoices", "Exported"]


@dataclass(frozen=True)
class ExportChoices:
    """See `reid export --help`."""

    zone: str = ""
    """Of dates that have none, such as +02:00."""
    deployments: Path | None = None
    title: str = ""
    contributor: str = ""
    sampling_design: str = "opportunistic"
    occasion: str = "day"
    per_side: bool = False


class Exported(NamedTuple):
    """What was written."""

    files: list[Path]
    rows: int
    """Animals on photographs that are in them."""
    told: list[str]
    """What a person must know of them."""
