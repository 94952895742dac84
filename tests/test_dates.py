"""Dates that no photograph can have, judged beside a day that the test says is today."""

from datetime import date
from pathlib import Path

import pytest
from scene import write_metadata

from reid.data.catalogue import read_catalogue
from reid.data.table_warnings import find_date_warnings

TODAY = date(2025, 6, 15)


def rows(*days: str, individuals: int = 99) -> list[str]:
    return [f"{n},cat_{n % individuals},{n}.jpg,{day},,,database,Cats" for n, day in enumerate(days)]


@pytest.mark.parametrize(
    ("day", "kept"),
    [
        ("2025-06-15", "2025-06-15"),
        ("2025-06-16", "2025-06-16"),  # it has begun, east of here
        ("2025-06-17", ""),
        ("2025-06", "2025-06"),
        ("2025-07", ""),
        ("2026", ""),
        ("2099-12-31 10:00:00", ""),
        ("1987-05-05", "1987-05-05"),
    ],
)
def test_a_day_after_today_counts_as_undated(tmp_path: Path, day: str, kept: str) -> None:
    catalogue = read_catalogue(write_metadata(tmp_path, *rows(day, "2024-05-05")), TODAY)
    assert list(catalogue.table["day"]) == [kept, "2024-05-05"]
    assert len(find_date_warnings(catalogue)) == (kept in ("", "1987-05-05"))


@pytest.mark.parametrize(
    "day", ["1970-01-01", "1980-01-01 14:00", "2000-01-01", "2012-01-01 00:03:07", "2013-01-01", "1899-12-30"]
)
def test_the_first_day_of_a_clock_is_believed_of_two_individuals_and_not_of_three(tmp_path: Path, day: str) -> None:
    for individuals, believed in ((2, True), (3, False)):
        table = [*rows(*[day] * 6, individuals=individuals), "9,,9.jpg,,,,query,Cats"]
        catalogue = read_catalogue(write_metadata(tmp_path, *table), TODAY)
        assert (catalogue.database.table["day"] == (day[:10] if believed else "")).all()
        doubted = [words for words in find_date_warnings(catalogue) if "first day of a camera's clock" in words]
        assert len(doubted) == (not believed)


def test_other_species_and_ordinary_days_do_not_count(tmp_path: Path) -> None:
    table = rows(*["2014-07-09"] * 50, *[f"2024-01-01 {hour:02d}:10:00" for hour in range(9, 15)])
    table += [f"d{n},dog_{n},d{n}.jpg,2000-01-01,,,database,Dogs{n}" for n in range(5)]
    catalogue = read_catalogue(write_metadata(tmp_path, *table), TODAY)
    assert find_date_warnings(catalogue) == []
    assert (catalogue.table["day"] != "").all()


def test_scanned_slides_are_told_and_kept(tmp_path: Path) -> None:
    catalogue = read_catalogue(write_metadata(tmp_path, *rows("1978-08-02", "1994", "1995-01-02", "")), TODAY)
    assert list(catalogue.table["day"]) == ["1978-08-02", "1994", "1995-01-02", ""]
    assert find_date_warnings(catalogue) == [
        "Cats: 2 of 3 dates ('1978-08-02'; row 2, 3) are before 1995: right if they were scanned"
    ]


def test_dates_that_cannot_be_read_are_told_once_per_dataset_and_are_no_fault(tmp_path: Path) -> None:
    table = ["1,leo,a.jpg,2020-05-01,,,database,Lions", "2,leo,b.jpg,03.05.2020,,,database,Lions"]
    table += ["3,mia,c.jpg,5/3/2020,,,database,Lions", "4,ann,d.jpg,2020,,,database,Bears"]
    table += ["5,bob,e.jpg,,,,database,Bears", "6,eve,f.jpg,May,,,database,Cats"]
    table += [f"{row},eve,{row}.jpg,?,,,database,Cats" for row in range(7, 13)]
    cats, lions = find_date_warnings(read_catalogue(write_metadata(tmp_path, *table)))  # which refuses faults
    words = "can't be read: expected YYYY-MM-DD. Correct them"
    assert cats.startswith(f"Cats: 7 of 7 dates ('May'; row 7, 8, 9, 10, 11 and 2 more) {words}")
    assert lions.startswith(f"Lions: 2 of 3 dates ('03.05.2020'; row 3, 4) {words}")


def test_the_dates_of_real_photographs_are_believed(reid_mini: Path) -> None:
    catalogue = read_catalogue(reid_mini)
    assert (catalogue.table["day"] == catalogue.table["date"]).all()
    assert find_date_warnings(catalogue) == []
