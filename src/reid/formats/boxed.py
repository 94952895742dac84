"""The boxes of a source's rows: read, understood as a whole, turned upright and clipped to their photographs."""

from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from reid.data.boxes import Box, BoxError, clipped, is_beyond, read_box
from reid.formats.boxes import Frame, as_upright, decide_layout
from reid.formats.found import EVERY_TURN, Choices, Found, Layout
from reid.formats.places import look_into
from reid.runtime.distributed import core_count
from reid.runtime.progress import track

__all__ = ["Boxed", "Excluded", "sizes_of", "with_boxes"]


class Excluded:
    """What is left out, counted by reason, with where the first of each stand."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}

    def add(self, where: str, reason: str) -> None:
        """Count one more."""
        self.counts[reason] += 1
        if self.counts[reason] <= 3:
            self.examples.setdefault(reason, []).append(where)


class Boxed(NamedTuple):
    """Rows with their boxes."""

    rows: list[tuple[Found, Box | None]]
    """x,y,w,h of the picture as a viewer shows it, in the layout's unit; None for a whole photograph."""
    layout: Layout | None
    """What the source's numbers mean; None without boxes."""
    frames: Mapping[str, Frame | None]
    """By photograph as the source names it, where it was looked into."""
    clipped: int
    """Boxes that reached over the edge."""
    lying: int
    """Boxes that leave a photograph that EXIF turns, and lie within it as it is stored."""
    turned: int
    """Boxes that were made before EXIF rotation, and are turned."""


def with_boxes(found: Iterable[Found], files: Mapping[str, Path], choices: Choices, excluded: Excluded) -> Boxed:
    """Return rows with their boxes; those with a faulty one are left out.

    Args:
        found: rows of photographs that are in `files`.
        files: by photograph as the source names it.
        choices: `box_unit`, `box_layout` and `boxes_before_rotation` count.
        excluded: what is left out is added to it.

    Raises:
        InputError: see `boxes.decide_layout`.
    """
    read: list[tuple[Found, Box | None]] = []
    for row in found:
        try:
            read.append((row, read_box(row.box)))
        except BoxError as problem:
            excluded.add(row.where, str(problem))
    boxes = [(row, box) for row, box in read if box is not None]
    if not boxes:
        return Boxed(read, None, {}, 0, 0, 0)
    frames = _frames([row for row, _ in boxes], files, choices)
    layout = decide_layout(
        [(row.where, box, frames.get(row.photograph)) for row, box in boxes],
        boxes[0][0].layout,
        choices.box_unit,
        choices.box_layout,
        choices.boxes_before_rotation,
    )
    return _upright(read, layout, frames, choices.boxes_before_rotation, excluded)


def _frames(rows: list[Found], files: Mapping[str, Path], choices: Choices) -> dict[str, Frame | None]:
    """Return the sizes of photographs whose boxes need one: pixels, turned boxes, and such before EXIF rotation."""
    all_needed = choices.boxes_before_rotation or choices.box_unit == "pixels"
    needed = [row for row in rows if all_needed or row.layout.unit == "pixels" or row.angle or row.turned != EVERY_TURN]
    said = {row.photograph: Frame(row.size) for row in needed if row.size}
    looked = sizes_of((row.photograph for row in needed), files)
    return {name: frame or said.get(name) for name, frame in looked.items()}


def sizes_of(photographs: Iterable[str], files: Mapping[str, Path]) -> dict[str, Frame | None]:
    """Return the sizes of photographs, None of those that can't be opened."""
    names = list(dict.fromkeys(photographs))
    with ThreadPoolExecutor(max_workers=core_count()) as pool:
        looked = pool.map(lambda name: look_into(files[name])[0], names)
        return dict(zip(names, track(looked, "looking into photographs", total=len(names)), strict=True))


def _upright(
    read: list[tuple[Found, Box | None]],
    layout: Layout,
    frames: Mapping[str, Frame | None],
    before_rotation: bool,
    excluded: Excluded,
) -> Boxed:
    rows: list[tuple[Found, Box | None]] = []
    cut, lying, turned = 0, 0, 0
    for row, box in read:
        if box is None:
            rows.append((row, None))
            continue
        frame = frames.get(row.photograph)
        as_stored = before_rotation or (frame is not None and frame.orientation not in row.turned)
        try:
            upright = as_upright(box, layout, row.angle, frame, as_stored)
            is_lying = layout.unit == "pixels" and frame is not None and not as_stored and _lies(upright, frame)
            lying += is_lying
            turned += as_stored and frame is not None and frame.orientation != 1
            upright, was_cut = _clipped(upright, layout.unit, frame)
        except BoxError as problem:
            excluded.add(row.where, str(problem))
            continue
        cut += was_cut
        rows.append((row, upright))
    return Boxed(rows, layout, frames, cut, lying, turned)


def _lies(box: Box, frame: Frame) -> bool:
    """Return whether a box leaves the picture as a viewer shows it, and not the picture as it is stored."""
    right, bottom = box[0] + box[2], box[1] + box[3]
    return is_beyond(right, bottom, frame.upright) and not is_beyond(right, bottom, frame.stored)


def _clipped(box: Box, unit: str, frame: Frame | None) -> tuple[Box, bool]:
    if unit == "shares":
        return clipped(box, 1.0, 1.0)
    return clipped(box, *map(float, frame.upright)) if frame else (box, False)
