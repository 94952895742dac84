"""Pseudo-queries are never compared with what would give their answer away."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from reid.config.presets import PRESETS
from reid.config.settings import override
from reid.data.catalogue import COLUMNS, Catalogue
from reid.decision import pseudo_queries
from reid.decision.pseudo_queries import (
    HeldOut,
    Note,
    PseudoQueryPairs,
    PseudoQuerySelection,
    hold_out,
    join_pseudo_query_pairs,
    near_duplicates,
    select_pseudo_queries,
)
from reid.retrieval.candidates import CandidatePairs

RECIPE = override(PRESETS["toy"], ["calibration.photographs=100"])


def database(rows: list[tuple[str, str]]) -> Catalogue:
    """A catalogue of (identity, day) rows."""
    table = pd.DataFrame("", index=range(len(rows)), columns=[*COLUMNS, "day"])
    table["image_id"] = [str(place) for place in range(len(rows))]
    table["identity"], table["day"] = zip(*rows, strict=True)
    table["split"] = "database"
    return Catalogue(Path(), table)


def test_hold_out_leaves_two_photographs_and_takes_whole_individuals() -> None:
    rows = [(f"animal {n}", "") for n in range(20) for _ in range(1 + n % 5)]
    held_out = hold_out(database(rows), RECIPE)
    labels = np.array([identity for identity, _ in rows])
    taken = set(labels[held_out.individuals])
    assert len(taken) == 4  # a fifth of 20
    assert not any(held_out.individuals[labels == other].any() for other in set(labels) - taken)
    learned = ~held_out.individuals & ~held_out.photographs
    for other in set(labels) - taken:
        lost = (held_out.photographs & (labels == other)).sum()
        assert lost <= 1
        if lost:
            assert (learned & (labels == other)).sum() >= 2
    assert held_out.photographs.any()
    assert not (held_out.photographs & held_out.individuals).any()


@pytest.mark.parametrize("folds", [2, 3, 5])
def test_every_individual_is_held_out_in_one_fold_and_in_no_other(folds: int) -> None:
    rows = [(f"animal {n}", "") for n in range(23) for _ in range(1 + n % 5)]
    labels = np.array([identity for identity, _ in rows])
    parts = [hold_out(database(rows), override(RECIPE, [f"training.folds={folds}"]), fold) for fold in range(folds)]
    assert (np.sum([part.individuals for part in parts], axis=0) == 1).all()
    taken = [set(labels[part.individuals]) for part in parts]
    assert sum(map(len, taken)) == 23
    assert max(map(len, taken)) - min(map(len, taken)) <= 2  # one of those with several photographs, one of the others
    for part in parts:
        assert not (part.photographs & part.individuals).any()
        assert part.photographs.any()


def test_hold_out_takes_the_last_day_where_there_are_days() -> None:
    rows = [(f"animal {n}", day) for n in range(10) for day in ("2020-01-01", "2020-01-01", "2021-05-05", "2021-05-05")]
    held_out = hold_out(database(rows), RECIPE)
    days = np.array([day for _, day in rows])
    assert set(days[held_out.photographs]) == {"2021-05-05"}
    assert held_out.photographs.sum() == 2 * 4  # both photographs of the day, of half of the eight others


def held_out(labels: np.ndarray, unseen: list[str], photographs: list[int]) -> HeldOut:
    held = HeldOut(np.isin(labels, unseen), np.zeros(len(labels), bool))
    held.photographs[photographs] = True
    return held


LABELS = np.array(list("aaaabbbbccccdd"))
NO_DAYS, ALONE = np.full(len(LABELS), ""), np.arange(len(LABELS))
HELD = held_out(LABELS, ["a", "d"], [7, 11])


def test_only_photographs_that_the_encoder_has_not_learned_from_are_chosen_and_only_unseen_individuals_play_new() -> (
    None
):
    selection = select_pseudo_queries(LABELS, NO_DAYS, ALONE, HELD, RECIPE)
    assert sorted(selection.places) == [0, 1, 2, 3, 7, 11, 12, 13]
    assert set(LABELS[selection.places[selection.new]]) == {"a", "d"}
    assert selection.known.all()
    assert len(selection.notes) == 1
    assert str(selection.notes[0]) == (
        "8 of 8 known pseudo-queries (photographs of the database) have no date: photographs of one sighting may be "
        "compared with each other, so that the expected score may be too high. Fill in the column date where you know "
        "it, then calibrate again"
    )


def test_none_is_compared_with_itself() -> None:
    selection = select_pseudo_queries(LABELS, NO_DAYS, ALONE, HELD, RECIPE)
    for place, hidden in zip(selection.places, selection.hidden, strict=True):
        assert hidden.nonzero()[0].tolist() == [place]


def test_one_of_each_individual_is_chosen_before_a_second_of_any() -> None:
    selection = select_pseudo_queries(LABELS, NO_DAYS, ALONE, HELD, override(RECIPE, ["calibration.pseudo_queries=4"]))
    assert sorted(LABELS[selection.places]) == ["a", "b", "c", "d"]


def test_of_near_duplicates_one_is_chosen_and_all_are_hidden_from_each_other() -> None:
    groups = ALONE.copy()
    groups[[1, 2, 8]] = 0  # three of a's photographs, and one of c's, are the same
    selection = select_pseudo_queries(LABELS, NO_DAYS, groups, HELD, RECIPE)
    assert len({0, 1, 2} & set(selection.places)) == 1
    for place, hidden in zip(selection.places, selection.hidden, strict=True):
        assert hidden.nonzero()[0].tolist() == ([0, 1, 2, 8] if place in (0, 1, 2) else [place])


DAYS = np.array([f"2020-01-{day:02d}" for day in (1, 1, 2, 3, 1, 1, 2, 3, 1, 2, 2, 3, 1, 3)])


def test_a_pseudo_query_is_compared_with_earlier_days_only() -> None:
    selection = select_pseudo_queries(LABELS, DAYS, ALONE, HELD, RECIPE)
    for place, hidden in zip(selection.places, selection.hidden, strict=True):
        assert (DAYS[~hidden] < DAYS[place]).all()
        assert (hidden & (LABELS[place] != LABELS)).sum() <= len(LABELS) / 2
    assert (DAYS[selection.places] >= "2020-01-02").all()  # a query of the first day would meet nobody
    assert selection.known.any()
    assert selection.notes == ()


def test_a_month_may_be_any_of_its_days_and_a_year_too() -> None:
    days = np.array(
        ["2019", "2020-01", "2020-02", "2020-03-05", "2020", "2020-02-07", "2020-03-01"] + ["2018-01-01"] * 7
    )
    selection = select_pseudo_queries(LABELS, days, ALONE, held_out(LABELS, list("abcd"), []), RECIPE)
    earlier = {
        place: set(np.flatnonzero(~selection.hidden[row] & (ALONE < 7))) for row, place in enumerate(selection.places)
    }
    assert {place: earlier[place] for place in range(7)} == {
        0: set(), 1: {0}, 2: {0, 1}, 3: {0, 1, 2, 5, 6}, 4: {0}, 5: {0, 1}, 6: {0, 1, 2, 5},
    }  # fmt: skip


def test_hold_out_takes_what_may_be_of_the_last_day() -> None:
    rows = [(f"animal {n}", day) for n in range(10) for day in ("2020-01-01", "2020-02-02", "2021-05", "2021-05-05")]
    days = np.array([day for _, day in rows])
    assert set(days[hold_out(database(rows), RECIPE).photographs]) == {"2021-05", "2021-05-05"}


def test_with_other_days_only_its_own_individuals_day_is_hidden_and_with_any_day_nothing() -> None:
    other = select_pseudo_queries(LABELS, DAYS, ALONE, HELD, override(RECIPE, ["calibration.dates=other"]))
    for place, hidden in zip(other.places, other.hidden, strict=True):
        expected = (LABELS[place] == LABELS) & (DAYS[place] == DAYS)
        assert np.array_equal(hidden, expected)
    any_day = select_pseudo_queries(LABELS, DAYS, ALONE, HELD, override(RECIPE, ["calibration.dates=any"]))
    assert (any_day.hidden.sum(1) == 1).all()
    assert "are compared with a photograph of the same individual and day" in str(any_day.notes[0])


def test_where_every_individual_has_one_day_only_the_leak_is_reported() -> None:
    days = np.array([f"2020-01-{1 + 'abcd'.index(label):02d}" for label in LABELS])
    selection = select_pseudo_queries(LABELS, days, ALONE, HELD, RECIPE)
    assert selection.known.any()
    assert str(selection.notes[0]) == (
        "8 of 8 known pseudo-queries (photographs of the database) are compared with a photograph of the same "
        "individual and day, which is easier than a real query: expect a lower score than the one reported here, and "
        "add photographs of other days"
    )


def test_without_dates_a_pseudo_query_is_compared_with_its_own_side_only() -> None:
    sides = np.array(["left", "right", "left", ""] * 3 + ["left", "right"])
    selection = select_pseudo_queries(LABELS, NO_DAYS, ALONE, HELD, RECIPE, sides)
    for place, hidden in zip(selection.places, selection.hidden, strict=True):
        other = (LABELS[place] == LABELS) & (sides != sides[place]) & (sides != "") & (sides[place] != "")
        assert np.array_equal(hidden, other | (place == ALONE))
    assert not selection.known[np.isin(LABELS[selection.places], ["d"])].any()
    dated = select_pseudo_queries(LABELS, DAYS, ALONE, HELD, RECIPE, sides)
    assert np.array_equal(dated.hidden, select_pseudo_queries(LABELS, DAYS, ALONE, HELD, RECIPE).hidden)
    leaking = select_pseudo_queries(LABELS, NO_DAYS, ALONE, HELD, override(RECIPE, ["calibration.dates=any"]), sides)
    assert (leaking.hidden.sum(1) == 1).all()


def test_other_sides_count_where_hardly_any_individual_has_two_photographs_of_a_side() -> None:
    labels = np.repeat([f"lion {number}" for number in range(9)], 2)
    all_held_out = held_out(labels, list(labels), [])

    def choose(pairs_of_a_side: int, lions: int = 9) -> PseudoQuerySelection:
        sides = np.array(["left", "left"] * pairs_of_a_side + ["left", "right"] * (9 - pairs_of_a_side))[: 2 * lions]
        some = HeldOut(*(mask[: 2 * lions] for mask in all_held_out))
        return select_pseudo_queries(
            labels[: 2 * lions], np.full(2 * lions, ""), np.arange(2 * lions), some, RECIPE, sides
        )

    assert choose(8).known.sum() == 16
    few = choose(7)
    assert few.known.all()
    assert str(few.notes[1]) == (
        "4 of 18 known pseudo-queries (photographs of the database) are compared with another side of their animal, "
        "which has other markings, because fewer than 8 individuals have two photographs of one side: trust the "
        "expected score less, and add photographs of the same side, of more individuals"
    )
    assert choose(3, lions=7).known.sum() == 6  # too few, whatever may answer


def test_only_individuals_that_any_fold_holds_out_count_as_known_by_their_side() -> None:
    labels = np.repeat([f"lion {number:02d}" for number in range(20)], 2)
    sides = np.array(["left", "left"] * 10 + ["left", "right"] * 10)
    everybody = np.ones(40, bool)

    def choose(ever: np.ndarray | None, *settings: str, learned: int = 9) -> PseudoQuerySelection:
        held = held_out(labels, list(labels[2 * learned :]), [])
        recipe = override(RECIPE, list(settings))
        return select_pseudo_queries(labels, np.full(40, ""), np.arange(40), held, recipe, sides, ever)

    assert choose(None).known.sum() == 22  # of ten with two of a side the encoder has learned nine
    assert choose(everybody).known.sum() == 2  # the nine are chosen in other folds
    alone = choose(everybody, learned=10)
    assert alone.known.sum() == 0  # nor does another side answer in a fold that has none of the ten
    assert len(alone.places) == 20
    leaking = choose(None, "calibration.dates=any")
    assert leaking.known.sum() == 22
    assert not any("side" in str(note) for note in leaking.notes)  # it was selection to leak


def test_a_known_pseudo_query_is_compared_with_as_many_photographs_as_a_random_individual_has() -> None:
    labels = np.array(["many"] * 40 + [f"single {number}" for number in range(39)])
    held = held_out(labels, ["many"], [])
    for most, allowed in ((0, {1, 39}), (3, {3})):
        recipe = override(RECIPE, [f"calibration.photographs={most}"])
        selection = select_pseudo_queries(labels, np.full(79, ""), np.arange(79), held, recipe)
        visible = (~selection.hidden[:, :40]).sum(1)
        assert set(visible) <= allowed
        assert (visible == min(allowed)).mean() > 0.9


def test_singletons_can_only_play_new() -> None:
    labels = np.array(list("abcdef"))
    selection = select_pseudo_queries(
        labels, np.full(6, ""), np.arange(6), held_out(labels, list("abcdef"), []), RECIPE
    )
    assert not selection.known.any()
    assert selection.new.all()


def test_nothing_is_chosen_where_nothing_is_held_out() -> None:
    selection = select_pseudo_queries(LABELS, NO_DAYS, ALONE, held_out(LABELS, [], []), RECIPE)
    assert len(selection.places) == 0
    assert selection.hidden.shape == (0, len(LABELS))


def test_the_same_seed_chooses_the_same() -> None:
    one, again = (select_pseudo_queries(LABELS, DAYS, ALONE, HELD, RECIPE) for _ in range(2))
    assert np.array_equal(one.places, again.places)
    assert np.array_equal(one.hidden, again.hidden)


@pytest.mark.parametrize(("most", "dates"), [(2, "earlier"), (7, "other"), (100, "earlier"), (100, "any")])
def test_candidates_in_small_blocks_give_the_same_choice(
    most: int, dates: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = override(RECIPE, [f"calibration.pseudo_queries={most}", f"calibration.dates={dates}"])
    days = np.array([f"2020-01-0{1 + place % 3}" for place in range(len(LABELS))])
    everything = held_out(LABELS, list("abcd"), [])
    at_once = select_pseudo_queries(LABELS, days, ALONE, everything, recipe)
    monkeypatch.setattr(pseudo_queries, "BLOCK", 3)
    in_blocks = select_pseudo_queries(LABELS, days, ALONE, everything, recipe)
    assert 0 < len(at_once.places) <= most
    for one, other in zip(at_once, in_blocks, strict=True):
        np.testing.assert_array_equal(one, other)


def test_near_duplicates_are_grouped_through_each_other() -> None:
    rng = np.random.default_rng(0)
    pictures = rng.normal(size=(2500, 256))
    pictures[2000] = pictures[10] + 0.1 * rng.normal(size=256)
    pictures[2001] = pictures[2000] + 0.1 * rng.normal(size=256)
    pictures[7] = 0  # unreadable, like none
    pictures[8] = 0
    pictures -= pictures.mean(1, keepdims=True)
    pictures /= np.maximum(1e-9, np.linalg.norm(pictures, axis=1, keepdims=True))
    group = near_duplicates(pictures)
    assert group[10] == group[2000] == group[2001]
    assert len(np.unique(group)) == 2498


def test_the_answer_is_the_most_similar_individual() -> None:
    pairs = CandidatePairs(np.array([0, 0, 2]), np.array([4, 5, 4]), np.array([0, 1, 0]), {})
    pseudo = PseudoQueryPairs(
        np.array(["x", "y", "z"]), np.array([False, False, True]), pairs, np.array([False, True, False])
    )
    answered = pseudo.answered(np.array([0.5, 0.2, 0.7]))
    assert answered.distance.tolist() == [0.2, np.inf, 0.7]
    assert answered.is_match.tolist() == [True, False, False]
    assert answered.of(answered.new).individual.tolist() == ["z"]


def test_notes_of_several_folds_are_summed() -> None:
    def of(*notes: Note) -> PseudoQueryPairs:
        empty = CandidatePairs(np.zeros(0, int), np.zeros(0, int), np.zeros(0, int), {})
        return PseudoQueryPairs(np.zeros(0, str), np.zeros(0, bool), empty, np.zeros(0, bool), notes)

    joined = join_pseudo_query_pairs(
        [of(Note(1, 8, "have no date"), Note(2, 8, "meet")), of(), of(Note(3, 4, "have no date"))]
    )
    assert [str(note) for note in joined.notes] == [
        "4 of 12 known pseudo-queries (photographs of the database) have no date",
        "2 of 8 known pseudo-queries (photographs of the database) meet",
    ]
