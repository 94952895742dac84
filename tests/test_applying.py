"""Answers of a page into pairs.csv: what is added, what stands already, contradictions, and files that are none."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from reid.data.catalogue import COLUMNS, Catalogue, read_catalogue
from reid.errors import InputError
from reid.review.answer_sheet import fingerprint_of
from reid.review.applying import apply_answers

IDS = ("a", "b", "c", "d", "m")


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    """Four unknown lynxes, and Mira."""
    folder = tmp_path / "data"
    folder.mkdir()
    rows = [(name, "Mira" * (name == "m"), f"{name}.jpg", "", "", "", "query", "Lynx") for name in IDS]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    table.loc[table["image_id"] == "m", "split"] = "database"
    table.to_csv(folder / "metadata.csv", index=False)
    for name in IDS:
        (folder / f"{name}.jpg").write_text(name)
    return read_catalogue(folder)


def sheet(catalogue: Catalogue, *answers: str, **changes: Any) -> Path:
    """A file of answers, each "a b same Ann 2025-06-01"."""
    names = ("image_id_a", "image_id_b", "answer", "who", "when", "note")
    rows = [dict(zip(names, [*answer.split(), "", "", ""], strict=False)) for answer in answers]
    content = {"format": "reid answers", "version": 1, "fingerprint": fingerprint_of(catalogue, IDS)}
    path = catalogue.root.parent / "answers.json"
    path.write_text(json.dumps({**content, "photographs": list(IDS), "answers": rows, **changes}))
    return path


def write_pairs(catalogue: Catalogue, *rows: str, header: str = "image_id_a,image_id_b,answer,who,when,note") -> Path:
    path = catalogue.root / "pairs.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()[1:]


def test_new_answers_are_added_behind_the_old_ones_whose_cells_stay(catalogue: Catalogue) -> None:
    path = write_pairs(catalogue, "a,b,same,sure", header="image_id_a,image_id_b,answer,mood")
    done = apply_answers(catalogue, sheet(catalogue, "c d different Ann 2025-06-01T10:30:00Z", "a c unsure"))
    assert lines(path) == ["a,b,same,sure,,,", "c,d,different,,Ann,2025-06-01T10:30:00Z,", "a,c,unsure,,,,"]
    assert (done.path, done.added, done.there, done.settled) == (path, {"different": 1, "unsure": 1}, 0, 0)


def test_the_same_file_twice_adds_nothing(catalogue: Catalogue) -> None:
    file = sheet(catalogue, "a b same Ann 2025-06-01", "c d different Ann 2025-06-01")
    path = apply_answers(catalogue, file).path
    once = path.read_bytes()
    done = apply_answers(catalogue, file)
    assert path.read_bytes() == once
    assert (done.added, done.there) == ({}, 2)


def test_answers_may_be_kept_outside_of_the_data(catalogue: Catalogue, tmp_path: Path) -> None:
    elsewhere = tmp_path / "answers" / "mine.csv"
    apply_answers(catalogue, sheet(catalogue, "a b same"), elsewhere)
    assert lines(elsewhere) == ["a,b,same,,,"]
    assert not (catalogue.root / "pairs.csv").exists()


@pytest.mark.parametrize(
    ("old", "answer", "left", "counts"),  # counts: added, there, older, changed
    [
        ("a,b,same,Ann,2025-06-01,", "b a different ANN 2025-06-02", 2, (1, 0, 0, 1)),  # she changed her mind
        ("a,b,same,Ann,2025-06-03,", "a b different Ann 2025-06-02", 1, (0, 0, 1, 0)),
        ("a,b,same,Ann,2025-06-03,", "a b same Ann 2025-06-02", 1, (0, 1, 0, 0)),
        ("a,b,same,Ann,2025-06-03,", "a b same Bo 2025-06-02", 2, (1, 0, 0, 0)),
        ("a,b,same,Ann,2025-06-03,", "a b unsure Bo 2025-06-02", 2, (1, 0, 0, 0)),  # contradicts nothing
    ],
)
def test_a_person_may_change_her_mind_and_others_may_agree(
    catalogue: Catalogue, old: str, answer: str, left: int, counts: tuple[int, int, int, int]
) -> None:
    path = write_pairs(catalogue, old)
    done = apply_answers(catalogue, sheet(catalogue, answer))
    assert lines(path)[0] == old
    assert len(lines(path)) == left
    assert (sum(done.added.values()), done.there, done.older, done.changed) == counts


@pytest.mark.parametrize(
    ("choice", "rows"),
    [
        ("old", ["a,b,same,Ann,2025-06-01,sure", 'b,a,unsure,Bo,2025-06-02,"was different, another\'s answer counts"']),
        (
            "new",
            [
                'a,b,unsure,Ann,2025-06-01,"sure; was same, another\'s answer counts"',
                "b,a,different,Bo,2025-06-02,",
            ],
        ),
        (
            "neither",
            [
                'a,b,unsure,Ann,2025-06-01,"sure; was same, neither answer counts"',
                'b,a,unsure,Bo,2025-06-02,"was different, neither answer counts"',
            ],
        ),
    ],
)
def test_people_who_contradict_each_other_are_told_and_nothing_is_lost(
    catalogue: Catalogue, choice: Any, rows: list[str]
) -> None:
    path = write_pairs(catalogue, "a,b,same,Ann,2025-06-01,sure")
    before, file = path.read_bytes(), sheet(catalogue, "b a different Bo 2025-06-02", "c d same Bo 2025-06-02")
    with pytest.raises(InputError, match=r"b and a are different by 'Bo', but row 2 of .*: same by 'Ann'.*--conflicts"):
        apply_answers(catalogue, file)
    assert path.read_bytes() == before
    done = apply_answers(catalogue, file, conflicts=choice)
    assert lines(path) == [*rows, "c,d,same,Bo,2025-06-02,"]
    assert done.settled == 1


def test_an_answer_without_a_time_is_not_changed_by_a_later_one(catalogue: Catalogue) -> None:
    write_pairs(catalogue, "a,b,same,Ann,,")
    with pytest.raises(InputError, match=r"row 2 of .*: same by 'Ann'"):
        apply_answers(catalogue, sheet(catalogue, "a b different Ann 2025-06-02"))


def test_a_chain_of_the_same_that_ends_in_two_animals_is_told(catalogue: Catalogue) -> None:
    path = write_pairs(catalogue, "a,b,same,Ann,2025-06-01,", "b,c,same,Ann,2025-06-01,")
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"a = b \(row 2\), b = c \(row 3\).*Rows from 4 on are the new answers"):
        apply_answers(catalogue, sheet(catalogue, "d m same Bo 2025-06-02", "a c different Bo 2025-06-02"))
    assert path.read_bytes() == before


def test_nothing_is_said_of_a_competitions_queries(catalogue: Catalogue) -> None:
    (catalogue.root / "competition.json").write_text("{}")
    with pytest.raises(InputError, match="forbid labels made by hand"):
        apply_answers(catalogue, sheet(catalogue, "a b same"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fingerprint": "0" * 64}, "another dataset, path or size"),
        ({"photographs": [*IDS, "z"]}, "found z, which metadata.csv does not have"),
        ({"photographs": ["a"]}, "answer 1: expected photographs that the page asked about, found 'b'"),
        ({"format": "others"}, "expected answers that a page of `reid review` has saved"),
        ({"version": 2}, "expected version 1 of this format, found 2"),
        ({"answers": "many"}, "expected lists"),
        ({"answers": [3]}, "answer 1: expected texts named image_id_a"),
        ({"answers": [{"image_id_a": "a", "image_id_b": "b", "answer": 3}]}, "answer 1: expected texts"),
        ({"answers": [{"image_id_a": "a", "image_id_b": "b", "answer": "yes"}]}, "expected same, different, unsure"),
        ({"answers": [{"image_id_a": "a", "image_id_b": "a", "answer": "same"}]}, "expected two photographs"),
        (
            {"answers": [{"image_id_a": "a", "image_id_b": "b", "answer": "same", "when": "soon"}]},
            "expected a time such as",
        ),
        (
            {"answers": 2 * [{"image_id_a": "a", "image_id_b": "b", "answer": "same"}]},
            "expected one answer of a person to a pair, found answers 1 and 2",
        ),
    ],
)
def test_a_file_that_is_none_is_refused(catalogue: Catalogue, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        apply_answers(catalogue, sheet(catalogue, "a b same", **changes))
    assert not (catalogue.root / "pairs.csv").exists()


@pytest.mark.parametrize("end", [0, 1, 40, -3])
def test_a_file_that_is_cut_short_is_refused(catalogue: Catalogue, end: int) -> None:
    file = sheet(catalogue, "a b same")
    file.write_text(file.read_text()[:end])
    with pytest.raises(InputError, match=r"expected JSON.*cut short"):
        apply_answers(catalogue, file)


def test_answers_of_photographs_that_were_changed_are_refused(catalogue: Catalogue) -> None:
    file = sheet(catalogue, "a b same")
    (catalogue.root / "c.jpg").write_text("another photograph")
    with pytest.raises(InputError, match="the photographs were changed since"):
        apply_answers(catalogue, file)
