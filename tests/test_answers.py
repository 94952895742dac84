"""What people said of pairs: changed minds, contradictions, and rows that can't be used, told with their rows."""

from pathlib import Path

import pytest

from reid.decision.answers import read_pairs
from reid.errors import InputError

DATASETS = {"a": "Lynx", "b": "Lynx", "c": "Lynx", "n": "Newt", "free": ""}


def write_pairs(folder: Path, *rows: str, header: str = "image_id_a,image_id_b,answer,who,when,note") -> Path:
    path = folder / "pairs.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def standing(path: Path) -> list[tuple[str, str, str, int]]:
    answers = read_pairs(path, DATASETS)
    return [(*answer.pair, answer.answer, answer.row) for answer in answers]


@pytest.mark.parametrize(
    ("rows", "answers"),
    [
        ([], []),
        (["b,a,same,Ann,2025-06-01,sure"], [("a", "b", "same", 2)]),
        (["a,b, Same ,,,", "a,c,DIFFERENT,,,", ",,,,,"], [("a", "b", "same", 2), ("a", "c", "different", 3)]),
        (["a,free,same,,,"], [("a", "free", "same", 2)]),
        # she changed her mind
        (["a,b,same,Ann,2025-06-01,", "b,a,different,ann ,2025-06-02,"], [("a", "b", "different", 3)]),
        (["a,b,same,Ann,2025-06-02,", "a,b,different,Ann,2025-06-01,"], [("a", "b", "same", 2)]),
        (["a,b,same,,2025-06-01 10:00,", "a,b,unsure,,2025-06-01T10:01,"], [("a", "b", "unsure", 3)]),
        # 10:30 in Paris is 8:30 in UTC
        (
            ["a,b,same,Ann,2025-06-01T10:30:00+02:00,", "a,b,different,Ann,2025-06-01T09:00Z,"],
            [("a", "b", "different", 3)],
        ),
        # the same again is no contradiction, and unsure contradicts nothing
        (["a,b,same,,,", "b,a,same,,,"], [("a", "b", "same", 3)]),
        (["a,b,same,Ann,,", "a,b,unsure,Bob,,"], [("a", "b", "same", 2), ("a", "b", "unsure", 3)]),
    ],
)
def test_the_last_answer_of_a_person_stands(
    rows: list[str], answers: list[tuple[str, str, str, int]], tmp_path: Path
) -> None:
    assert standing(write_pairs(tmp_path, *rows)) == answers


def test_three_columns_are_enough(tmp_path: Path) -> None:
    path = write_pairs(tmp_path, "a,b,same", header="image_id_a,image_id_b,answer")
    assert standing(path) == [("a", "b", "same", 2)]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (["a,x,same,,,"], "row 2: column image_id_b: expected an image_id of metadata.csv, found 'x'; correct it, or"),
        (["a,b,same,,,", "y,b,same,,,"], "row 3: column image_id_a: expected an image_id of metadata.csv, found 'y'"),
        (["a,b,maybe,,,"], "row 2: column answer: expected same, different, unsure; found 'maybe'. Correct it"),
        (["a,b,,,,"], "found ''"),
        (["a,a,same,,,"], "row 2: expected two photographs, found 'a' twice; remove the row"),
        (["a,n,different,,,"], "row 2: expected two photographs of one dataset, found 'Lynx' and 'Newt'"),
        (["a,x,same,,,", "a,a,same,,,"], "(1 more like this or otherwise wrong)"),
        (["x,b,same,,,", "x,c,same,,,"], "row 2: column image_id_a: expected an image_id"),
        # no time, an unreadable one, the same one twice: nobody knows which answer came last
        (
            ["a,b,same,,,", "c,a,same,,,", "b,a,different,,,"],
            "rows 2, 4: a and b are said to be same and different. Remove the wrong row, or say in the column when",
        ),
        (["a,b,same,,2025-06-01,", "a,b,different,,yesterday,"], "rows 2, 3: a and b are said to be"),
        (["a,b,same,,2025-06-01,", "a,b,different,,2025-06-01,"], "rows 2, 3: a and b are said to be"),
        # two persons, whoever came last
        (
            ["a,b,same,Ann,2025-06-01,", "a,b,different,Bob,2025-06-02,"],
            "are said to be same by 'Ann' and different by 'Bob'. Decide together, and remove the other row",
        ),
    ],
)
def test_what_cannot_be_used_is_told_with_its_rows(rows: list[str], words: str, tmp_path: Path) -> None:
    path = write_pairs(tmp_path, *rows)
    with pytest.raises(InputError) as told:
        read_pairs(path, DATASETS)
    assert str(told.value).startswith(f"{path}: row")
    assert words in str(told.value)


def test_a_file_that_is_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="missing: answer"):
        read_pairs(write_pairs(tmp_path, header="image_id_a,image_id_b"), DATASETS)
    with pytest.raises(InputError, match="expected a CSV file here, found none"):
        read_pairs(tmp_path / "nowhere.csv", DATASETS)
