"""Boxes of other tools: read, understood as a whole, turned as EXIF turns a picture, clipped."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from reid.data.boxes import Box, BoxError, clipped, read_box
from reid.errors import InputError
from reid.formats.boxes import Frame, as_unit, as_upright, decide_layout, written_box
from reid.formats.found import CORNERS, PIXELS, SHARES

SIZE = (40, 24)


@pytest.mark.parametrize(
    "cell", ["[1, 2, 3.5, 4]", "1,2,3.5,4", "1 2 3.5 4", "(1;2;3.5;4)", [1, 2, 3.5, 4], ("1", " 2", "3.5", "4")]
)
def test_four_numbers_are_read_however_they_are_written(cell: object) -> None:
    assert read_box(cell) == (1, 2, 3.5, 4)


@pytest.mark.parametrize("cell", [None, "", "null", " None ", "NaN", "[]", ["", "", "", ""], [None] * 4])
def test_a_cell_may_say_that_there_is_no_box(cell: object) -> None:
    assert read_box(cell) is None


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("[1, 2, 3]", "not four numbers"),
        ([1, 2, 3, 4, 5], "not four numbers"),
        (7, "not four numbers"),
        ("left", "text in place of a number"),
        ([1, 2, "wide", 4], "text in place of a number"),
        ([1, 2, None, 4], "text in place of a number"),
        ([1, 2, math.nan, 4], "NaN or infinity"),
        ("1,2,inf,4", "NaN or infinity"),
    ],
)
def test_a_box_that_is_none_is_told(cell: object, words: str) -> None:
    with pytest.raises(BoxError, match=words):
        read_box(cell)


def decide(boxes: list[Box], says: object = PIXELS, frame: Frame | None = None, **more: object) -> object:
    options = {"unit": "", "layout": "", "before_rotation": False} | more
    return decide_layout([(f"row {row}", box, frame) for row, box in enumerate(boxes, 2)], says, **options)  # type: ignore[arg-type]


WHOLE = Frame((100, 50))


@pytest.mark.parametrize(
    ("boxes", "says", "more", "words"),
    [
        (
            [(0.1, 0.1, 0.2, 0.2), (1, 2, 30, 40)],
            PIXELS,
            {},
            r"expected one unit .* at row 2\) and 1 like pixels .* row 3",
        ),
        ([(0.1, 0.1, 0.2, 0.2), (1, 2, 30, 40)], SHARES, {}, "expected one unit in the whole source"),
        ([(10, 10, 20, 20)], SHARES, {}, r"expected shares .* larger numbers at row 2 .*--box-unit pixels"),
        ([(0.1, 0.1, 0.2, 0.2)], PIXELS, {}, r"expected pixels, found only numbers up to 1.*--box-unit shares"),
        ([(10, 10, 20, 20)], SHARES, {"unit": "shares"}, "expected shares"),
        (
            [(10, 5, 95, 45)],
            PIXELS,
            {},
            r"found boxes that leave the photograph .* x1,y1,x2,y2, at row 2.*--box-layout xyxy",
        ),
        ([(0.6, 0.1, 0.7, 0.9)], SHARES, {}, "within it as x1,y1,x2,y2"),
        ([(10, 5, 5, 45)], CORNERS, {}, r"expected x1,y1,x2,y2, found a second corner .* row 2.*--box-layout xywh"),
    ],
)
def test_numbers_that_do_not_go_with_what_the_format_says_are_asked_for(
    boxes: list[Box], says: object, more: dict[str, object], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        decide(boxes, says, WHOLE, **more)


def test_what_the_person_says_counts() -> None:
    assert decide([(0.1, 0.1, 0.2, 0.2)], PIXELS, unit="shares") == SHARES
    assert decide([(0.5, 0.5, 1, 1), (1, 2, 30, 40)], PIXELS, WHOLE, unit="pixels") == PIXELS
    assert decide([(10, 5, 95, 45)], PIXELS, WHOLE, layout="xyxy") == CORNERS
    assert decide([(10, 5, 95, 45)], PIXELS, WHOLE, layout="xywh") == PIXELS
    assert decide([(10, 5, 95, 45)], PIXELS) == PIXELS  # nobody knows how large the photograph is
    assert decide([(95, 5, 90, 45), (10, 5, 20, 20)], PIXELS, WHOLE) == PIXELS  # as corners the first were none


def drawn(box: Box, orientation: int) -> Box:
    """Where a box of a stored picture is seen: painted, turned by Pillow, and looked for."""
    pixels = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    x, y, w, h = map(int, box)
    pixels[y : y + h, x : x + w] = 255
    image = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[274] = orientation
    image.info["exif"] = exif.tobytes()
    upright = np.asarray(ImageOps.exif_transpose(image))[:, :, 0] > 0
    rows, columns = np.flatnonzero(upright.any(1)), np.flatnonzero(upright.any(0))
    return columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_box_before_rotation_is_turned_as_the_picture_is(orientation: int) -> None:
    box, frame = (3, 5, 10, 7), Frame(SIZE, orientation)
    assert as_upright(box, PIXELS, 0, frame, True) == drawn(box, orientation)
    shares = (box[0] / SIZE[0], box[1] / SIZE[1], box[2] / SIZE[0], box[3] / SIZE[1])
    turned = as_unit(as_upright(shares, SHARES, 0, frame, True), "shares", "pixels", frame)
    assert turned == pytest.approx(drawn(box, orientation))
    assert as_upright(box, PIXELS, 0, frame, False) == box


def test_corners_and_turned_boxes_become_boxes_around() -> None:
    assert as_upright((2, 3, 12, 9), CORNERS, 0, None, False) == (2, 3, 10, 6)
    assert as_upright((0, 0, 10, 4), PIXELS, math.pi / 2, None, False) == pytest.approx((3, -3, 4, 10))
    corners = np.array([(2, 3), (12, 3), (2, 9), (12, 9)]) - (7, 6)  # the slow way: turn the corners
    turn = np.array([(math.cos(0.3), -math.sin(0.3)), (math.sin(0.3), math.cos(0.3))])
    turned = corners @ turn.T + (7, 6)
    low, high = turned.min(0), turned.max(0)
    around = as_upright((2, 3, 10, 6), PIXELS, 0.3, None, False)
    assert around == pytest.approx((*low, *(high - low)))
    shares = as_upright((2 / 40, 3 / 24, 10 / 40, 6 / 24), SHARES, 0.3, Frame(SIZE), False)
    assert as_unit(shares, "shares", "pixels", Frame(SIZE)) == pytest.approx(around)


@pytest.mark.parametrize("box", [(1, 2, 0, 4), (1, 2, 3, 0), (1, 2, -3, 4)])
def test_a_box_without_area_is_told(box: Box) -> None:
    with pytest.raises(BoxError, match="zero or negative size"):
        as_upright(box, PIXELS, 0, None, False)


def test_boxes_are_clipped_to_the_photograph() -> None:
    assert clipped((1, 2, 3, 4), 40, 24) == ((1, 2, 3, 4), False)
    assert clipped((-5, 2, 10, 40), 40, 24) == ((0, 2, 5, 22), True)
    assert clipped((0.5, 0.5, 0.500001, 0.5), 1, 1) == ((0.5, 0.5, 0.5, 0.5), False)  # a rounding is not told
    for outside in ((50, 2, 3, 4), (-5, 2, 5, 4), (1, 24, 3, 4)):
        with pytest.raises(BoxError, match="outside the photograph"):
            clipped(outside, 40, 24)


@given(st.lists(st.floats(0, 1), min_size=4, max_size=4))
def test_a_written_box_is_read_again(numbers: list[float]) -> None:
    box = tuple(numbers)
    assert read_box(written_box(box, "shares")) == pytest.approx(box, abs=1e-6)  # type: ignore[arg-type]
    assert read_box(written_box(tuple(4000 * each for each in box), "pixels")) == pytest.approx(  # type: ignore[arg-type]
        tuple(4000 * each for each in box), abs=0.01
    )


def test_a_box_is_written_without_what_says_nothing(tmp_path: Path) -> None:
    assert written_box((10.0, 0.0, 100.5, 200.126), "pixels") == "10,0,100.5,200.13"
    assert written_box((0.1, 0.0, 1.0, 1 / 3), "shares") == "0.1,0,1,0.333333"
