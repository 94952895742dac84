"""The words that people write into the column orientation."""

import pytest

from reid.data.sides import read_side

UNDERSTOOD = {
    "left": [
        "left",
        "Left",
        "LEFT ",
        "L",
        "l.",
        "lhs",
        "left side",
        "Left lateral",
        "lateral left",
        "Left-hand side",
        "leftside",
    ],
    "right": ["right", "Right", "R", "right_side", "Right Flank", "facing right", "rt"],
    "front": ["front", "Front view"],
    "back": ["back", "rear"],
    "topleft": ["topleft", "top-left", "Left top", "left_top"],  # wildlife-datasets' SeaTurtleID2022 has topleft
    "frontright": ["frontright", "right front", "front/right"],  # Wildbook
    "dorsal": ["dorsal", "Dorsal"],
    "": ["", " ", "unknown", "Unknown", "NA", "?", "none"],
}


@pytest.mark.parametrize("side", UNDERSTOOD)
def test_the_spellings_of_a_side_are_one_side(side: str) -> None:
    assert {word: read_side(word) for word in UNDERSTOOD[side]} == dict.fromkeys(UNDERSTOOD[side], (side, True))


@pytest.mark.parametrize("word", ["links", "Lft", "left and right", "front back", "3", "sunset", "side", "leftish"])
def test_a_word_that_is_no_side_stays_as_it_is(word: str) -> None:
    assert read_side(word) == (word, False)


@pytest.mark.parametrize("side", UNDERSTOOD)
def test_reading_twice_is_reading_once(side: str) -> None:
    assert read_side(side) == (side, True)
