"""What a reader finds in a source: rows for metadata.csv, and what it leaves out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from reid.errors import InputError

__all__ = ["CORNERS", "EVERY_TURN", "NO_TURN", "PIXELS", "SHARES", "Choices", "Found", "Layout", "LeftOut", "mapped"]


class Layout(NamedTuple):
    """What the four numbers of a box mean."""

    unit: str
    """`pixels`, or `shares` of the photograph's width and height."""
    corners: bool
    """Whether they are x1,y1,x2,y2; otherwise x,y,w,h."""


PIXELS, SHARES, CORNERS = Layout("pixels", False), Layout("shares", False), Layout("pixels", True)


EVERY_TURN, NO_TURN = frozenset(range(1, 9)), frozenset({1})
"""EXIF orientations that a tool applies before it looks for animals: all, or none."""


class Found(NamedTuple):
    """A row as a source has it: an animal on a photograph, or a photograph."""

    where: str
    """How a message names it: "row 7", "images[3]"."""
    photograph: str
    """Its path, as the source writes it."""
    key: str = ""
    """The source's own id of the row; "" where it has none."""
    identity: str = ""
    date: str = ""
    orientation: str = ""
    species: str = ""
    split: str = ""
    """"" where the source does not say: a row with an identity is of the database then, another a query."""
    dataset: str = ""
    place: str = ""
    encounter: str = ""
    box: Any = None
    """As the source has it, four numbers or a text of them; None for the whole photograph."""
    layout: Layout = PIXELS
    """What the format says of its boxes."""
    turned: frozenset[int] = EVERY_TURN
    """EXIF orientations that the tool applied before it made the box; with others the box is of the picture as it is
    stored."""
    angle: float = 0.0
    """Radians by which the box is turned about its centre."""
    size: tuple[int, int] | None = None
    """Width and height of the photograph in pixels, where the source says so."""
    confidence: float | None = None
    """Of the detector."""
    more: Mapping[str, str] = {}
    """Further columns, such as latitude and longitude."""


class LeftOut(NamedTuple):
    """Something in the source that becomes no row."""

    where: str
    reason: str
    """In words that many share, because they are counted."""


@dataclass(frozen=True)
class Choices:
    """What a person decides about an import, see `reid import --help`."""

    root: Path | None = None
    dataset: str = ""
    min_confidence: float | None = None
    keep_empty: bool = False
    exif_dates: bool = False
    boxes_before_rotation: bool = False
    box_unit: str = ""
    box_layout: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    """By a column of metadata.csv, the source's column (`--map`)."""
    queries: tuple[str, ...] = ()
    copy: bool = False
    update: bool = False


def mapped(choices: Choices, header: list[str], usual: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """Return, by column of metadata.csv, the column of a source that holds it.

    Args:
        choices: whose `columns` count most.
        header: the source's columns.
        usual: what the format calls them; the first that is there counts.

    Raises:
        InputError: a column that was named is not there.
    """
    for ours, theirs in choices.columns.items():
        if theirs not in header:
            raise InputError(
                f"--map {ours}={theirs}: expected a column of the source, which has {', '.join(header)[:500]}; "
                "name one of these"
            )
    known = {ours: next((name for name in names if name in header), "") for ours, names in usual.items()}
    return {ours: theirs for ours, theirs in {**known, **choices.columns}.items() if theirs}
