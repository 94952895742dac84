"""Boxes of other tools, made into x,y,w,h of the photograph as a viewer shows it.

What the four numbers mean is decided once for a whole source. Where the format's own meaning does not go with the
numbers, nothing is guessed: the person is asked for `--box-unit` or `--box-layout`.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from reid.data.boxes import SHARES_UP_TO, Box, BoxError, looks_like_corners, turned
from reid.errors import InputError
from reid.formats.found import Layout

__all__ = ["Frame", "as_unit", "as_upright", "decide_layout", "written_box"]


class Frame(NamedTuple):
    """A photograph's size in pixels."""

    stored: tuple[int, int]
    """Width and height as its file has them."""
    orientation: int = 1
    """Its EXIF tag, 1 to 8."""

    @property
    def upright(self) -> tuple[int, int]:
        """Width and height as a viewer shows it."""
        return self.stored[::-1] if self.orientation >= 5 else self.stored


def decide_layout(
    boxes: Sequence[tuple[str, Box, Frame | None]], says: Layout, unit: str, layout: str, before_rotation: bool
) -> Layout:
    """Return what the numbers of all boxes of a source mean.

    Args:
        boxes: each with where it stands and its photograph's size, where that is known.
        says: what the format says.
        unit: `pixels` or `shares` where the person says so, else "".
        layout: `xywh` or `xyxy` likewise.
        before_rotation: the boxes are of the photographs as they are stored.

    Raises:
        InputError: the numbers contradict what the format, or the person, says.
    """
    decided = Layout(_decide_unit(boxes, says.unit, unit), says.corners)
    if layout:
        return decided._replace(corners=layout == "xyxy")
    sized = [(where, box, _edge(decided.unit, frame, before_rotation)) for where, box, frame in boxes]
    _refuse_other_layout(sized, decided)
    return decided


def _decide_unit(boxes: Sequence[tuple[str, Box, Frame | None]], says: str, asked: str) -> str:
    small = [where for where, box, _ in boxes if max(map(abs, box)) <= SHARES_UP_TO]
    large = [where for where, box, _ in boxes if max(map(abs, box)) > SHARES_UP_TO]
    unit = asked or says
    if small and large and not asked:
        raise InputError(
            f"boxes: expected one unit in the whole source, found {len(small)} that look like shares (numbers up to 1, "
            f"such as at {small[0]}) and {len(large)} like pixels (such as at {large[0]}); correct the source, or say "
            "--box-unit pixels if all are pixels"
        )
    if unit == "shares" and large:
        raise InputError(
            f"boxes: expected shares of the photograph, 0 to 1, found larger numbers at {large[0]} and "
            f"{len(large) - 1} more; say --box-unit pixels if these are pixels"
        )
    if unit == "pixels" and small and not asked:
        raise InputError(
            f"boxes: expected pixels, found only numbers up to 1, such as at {small[0]}; say --box-unit shares if "
            "these are shares of the photograph, or --box-unit pixels"
        )
    return unit


def _edge(unit: str, frame: Frame | None, before_rotation: bool) -> tuple[float, float] | None:
    """Return up to where boxes may reach; None where that is unknown, or may be either way round."""
    if unit == "shares":
        return 1.0, 1.0
    if frame is None:
        return None
    if frame.orientation >= 5 and not before_rotation:
        longest = max(frame.stored)
        return longest, longest
    return frame.stored if before_rotation else frame.upright


def _refuse_other_layout(boxes: Sequence[tuple[str, Box, tuple[float, float] | None]], says: Layout) -> None:
    """Refuse boxes that go with the other layout only."""
    no_corners = [where for where, (x1, y1, x2, y2), _ in boxes if x2 <= x1 or y2 <= y1]
    if says.corners and no_corners:
        raise InputError(
            f"boxes: expected x1,y1,x2,y2, found a second corner that is not right of and below the first at "
            f"{no_corners[0]} and {len(no_corners) - 1} more; say --box-layout xywh if these are x,y,w,h, or "
            "--box-layout xyxy to leave such boxes out"
        )
    beyond = [boxes[row][0] for row in looks_like_corners([(box, edge) for _, box, edge in boxes])]
    if not says.corners and beyond:
        raise InputError(
            f"boxes: expected x,y,w,h, found boxes that leave the photograph as such and lie within it as x1,y1,x2,y2, "
            f"at {beyond[0]} and {len(beyond) - 1} more; say --box-layout xyxy, or --box-layout xywh to clip them"
        )


def as_upright(box: Box, layout: Layout, angle: float, frame: Frame | None, before_rotation: bool) -> Box:
    """Return a box as x,y,w,h of the photograph as a viewer shows it, in the layout's unit, not clipped.

    Args:
        box: four numbers.
        layout: what they mean.
        angle: radians by which the box is turned about its centre; the box around it is returned.
        frame: the photograph's size; may be None where neither shares are turned nor `before_rotation` holds.
        before_rotation: the box is of the photograph as it is stored.

    Raises:
        BoxError: it has no area, or the photograph's size is needed and unknown.
    """
    x, y, w, h = box
    if layout.corners:
        w, h = w - x, h - y
    if w <= 0 or h <= 0:
        raise BoxError("a box of zero or negative size")
    if angle:
        x, y, w, h = _around((x, y, w, h), angle, layout, frame)
    if not before_rotation:
        return x, y, w, h
    if frame is None:
        raise BoxError("a box before EXIF rotation, of a photograph that can't be opened")
    width, height = (1.0, 1.0) if layout.unit == "shares" else frame.stored
    return turned((x, y, w, h), frame.orientation, width, height)


def _around(box: Box, angle: float, layout: Layout, frame: Frame | None) -> Box:
    """Return the upright box around one that is turned about its centre."""
    if layout.unit == "shares" and frame is None:
        raise BoxError("a turned box in shares, of a photograph that can't be opened")
    wide, high = frame.stored if layout.unit == "shares" and frame else (1, 1)  # angles are those of pixels
    x, y, w, h = box[0] * wide, box[1] * high, box[2] * wide, box[3] * high
    cos, sin = abs(math.cos(angle)), abs(math.sin(angle))
    width, height = w * cos + h * sin, w * sin + h * cos
    left, top = x + (w - width) / 2, y + (h - height) / 2
    return left / wide, top / high, width / wide, height / high


def as_unit(box: Box, unit: str, wanted: str, frame: Frame | None) -> Box:
    """Return a box x,y,w,h in another unit.

    Raises:
        BoxError: the photograph's size is needed and unknown.
    """
    if unit == wanted:
        return box
    if frame is None:
        raise BoxError("a box in another unit than metadata.csv has, of a photograph that can't be opened")
    width, height = frame.upright
    x, y, w, h = box
    if wanted == "pixels":
        return x * width, y * height, w * width, h * height
    return x / width, y / height, w / width, h / height


def written_box(box: Box, unit: str) -> str:
    """Return a box as metadata.csv has it, "12,30.5,40,20": to hundredths of a pixel or millionths of an edge."""
    digits = 2 if unit == "pixels" else 6
    return ",".join(f"{number:.{digits}f}".rstrip("0").rstrip(".") for number in box)
