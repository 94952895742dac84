"""What one part of a diagnosis found, and how surprising it must be to be an alarm."""

from dataclasses import dataclass
from typing import Any

__all__ = ["LEAST", "SURPRISING", "Part"]

SURPRISING = 0.001
"""An alarm needs something that chance alone brings in one of a thousand clean datasets."""

LEAST = 5
"""With fewer queries than so many nothing is said of a condition."""


@dataclass(frozen=True)
class Part:
    """What one part found of one dataset.

    Attributes:
        name: the part's.
        words: the finding, or why there is none.
        is_alarm: whether a person should look into it.
        columns, rows: a table; () for none.
    """

    name: str
    words: str
    is_alarm: bool = False
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[Any, ...], ...] = ()
