"""A competition's folder, and that nobody's word about its queries is taken."""

from pathlib import Path

import pytest
from test_answers import write_pairs
from test_links import world

from reid.data.competition import find_competition
from reid.decision.links import read_links
from reid.errors import InputError


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ([], ""),
        (["solution.csv"], ""),
        (["sample_submission.csv"], "sample_submission.csv and no solution.csv"),
        (["sample_submission.csv", "solution.csv"], ""),
        (["competition.json"], "competition.json, which `make data` leaves"),
        (["competition.json", "sample_submission.csv", "solution.csv"], "competition.json, which `make data` leaves"),
    ],
)
def test_a_competition_is_known_by_its_files(files: list[str], found: str, tmp_path: Path) -> None:
    for name in files:
        (tmp_path / name).touch()
    assert find_competition(tmp_path) == found


@pytest.mark.parametrize("answer", ["same", "different", "unsure"])
def test_answers_about_a_competitions_queries_are_refused(answer: str, tmp_path: Path) -> None:
    catalogue = world(tmp_path, "a;q", "b;q", "m;Mira", "n;Mira")
    path = write_pairs(tmp_path, f"a,m,{answer},,,")
    read_links(catalogue)
    (tmp_path / "sample_submission.csv").touch()
    with pytest.raises(InputError) as told:
        read_links(catalogue)
    assert str(told.value) == (
        f"{path}: expected nothing about the queries of a competition, whose rules forbid labels made by hand; "
        f"{tmp_path} is a competition's folder (it has sample_submission.csv and no solution.csv), and a is a query "
        "of it. Remove these rows"
    )
    (tmp_path / "solution.csv").touch()
    read_links(catalogue)


def test_a_competitions_known_photographs_may_be_answered(tmp_path: Path) -> None:
    catalogue = world(tmp_path, "a;q", "b;q", "m;Mira", "n;Mira")
    (tmp_path / "competition.json").touch()
    write_pairs(tmp_path, "m,n,same,,,")
    assert read_links(catalogue).identity_of("a") == ""
