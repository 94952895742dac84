"""Warnings of a table: each kind once, and none where there is nothing to tell."""

from datetime import date
from pathlib import Path

import pytest
from scene import write_metadata

from reid.data.catalogue import COLUMNS, read_catalogue
from reid.data.table_warnings import find_table_warnings

TODAY = date(2026, 6, 1)


def warnings_of(folder: Path, *rows: str) -> list[str]:
    return find_table_warnings(read_catalogue(write_metadata(folder, *rows), TODAY))


def test_a_dataset_of_queries_alone_is_told_and_is_no_fault(tmp_path: Path) -> None:
    rows = ["1,leo,a.jpg,,,,train,Lions", "2,,b.jpg,,,,test,Lions", "3,,c.jpg,,,,test,Lynxes"]
    rows += ["4,,d.jpg,,,,query,Bears", "5,,e.jpg,,,,query,Bears", "6,,f.jpg,,,,query,"]
    why = "no row has split 'database', so nobody can be named there; its"
    assert warnings_of(tmp_path, *rows) == [
        f"Bears: {why} 2 queries can only be called new. Add photographs of known individuals",
        f"Lynxes: {why} 1 query can only be called new. Add photographs of known individuals",
    ]


def test_a_table_in_which_nobody_is_known_is_told_and_is_no_fault(tmp_path: Path) -> None:
    (told,) = warnings_of(tmp_path, "1,,a.jpg,,,,test,Lions", "2,,b.jpg,,,,test,Lions")
    assert told.startswith("no row has split 'database': nobody is known here")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("2,mia,b.jpg,,Lft,,database,Lions", "column orientation: 'Lft' (1): no side that is known here"),
        ("2, mia,b.jpg,,,,database,Lions", "row 3, column identity: ' mia' begins or ends with a blank"),
        ("2,=mia,b.jpg,,,,database,Lions", "a spreadsheet runs names such as '=mia' (1) as formulas"),
        ("2,,b.jpg,,,,query,nan", "column dataset: 'nan' (1 rows) is taken for a dataset's name"),
        ("2,leo,b.jpg,,,,query,Lions", "1 query row with an identity, which is not used"),
        ("2,unknown,b.jpg,,,,database,Lions", "words for nobody, whose rows are left out: 'unknown' (1 row)"),
        ("2,Leo,b.jpg,,,,database,Lions", "names that differ only in how they are written stay different"),
        ("2,mia,b.jpg,,,,database,lions", "column dataset: names that differ only in how they are written"),
        ("2,mia,b.jpg,2031-01-01,,,database,Lions", "Lions: 1 of 1 dates ('2031-01-01'; row 3) are in the future"),
    ],
)
def test_each_kind_is_told(tmp_path: Path, row: str, words: str) -> None:
    told = warnings_of(tmp_path, "1,leo,a.jpg,,,,database,Lions", row)
    assert any(words in sentence for sentence in told)


@pytest.mark.parametrize("column", ["BBox_w", "bbox1", "xmin", "segmentation", "Encounter", "mask_area"])
def test_columns_that_mean_something_and_are_not_used_are_named(tmp_path: Path, column: str) -> None:
    lines = [",".join([*COLUMNS, column]), '1,leo,a.jpg,,,,database,Lions,"[1, 2, 3, 4]"']
    (tmp_path / "metadata.csv").write_text("\n".join(lines) + "\n")
    (told,) = find_table_warnings(read_catalogue(tmp_path, TODAY))
    assert told.startswith(f"columns {column}: not used by this version")
    (tmp_path / "metadata.csv").write_text(f"{lines[0]}\n1,leo,a.jpg,,,,database,Lions,\n")
    assert find_table_warnings(read_catalogue(tmp_path, TODAY)) == []


def test_the_words_of_both_competitions_say_nothing_that_is_not_true(tmp_path: Path) -> None:
    rows = []
    for number, side in enumerate(("left", "right", "front", "back", "unknown")):
        rows.append(f"l{number},LynxID2025_lynx_{number:02d},l{number}.jpg,,{side},lynx,database,LynxID2025")
    for number, side in enumerate(("top", "right", "left", "bottom")):
        rows.append(f"s{number},Salamander_{number},s{number}.jpg,2013-05-1{number},{side},,database,SalamanderID2025")
    for number, side in enumerate(("topleft", "topright", "top", "left", "right", "front")):
        rows.append(f"t{number},t{number:03d},t{number}.jpg,2010-07-1{number},{side},,database,SeaTurtleID2022")
    rows += [f"q{number},,q{number}.jpg,2022-08-01,,,query,SeaTurtleID2022" for number in range(3)]
    assert warnings_of(tmp_path, *rows) == []
    rows = [row.replace(",database,", ",train,").replace(",query,", ",test,") for row in rows]
    (told,) = warnings_of(tmp_path, *rows, "h1,,h1.jpg,,,,test,TexasHornedLizards")
    assert told.startswith("TexasHornedLizards: no row has split 'database', so nobody can be named there; its 1 query")


def test_real_photographs_and_drawn_ones_say_nothing(reid_mini: Path, patterns: Path, toy_world: Path) -> None:
    for folder in (reid_mini, patterns, toy_world):
        assert find_table_warnings(read_catalogue(folder)) == []
