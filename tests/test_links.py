"""Must-links and cannot-links: their three sources, what counts more, and contradictions with the rows of each."""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_answers import write_pairs

from reid.data.catalogue import Catalogue, read_rows
from reid.data.dates import read_days, read_moments
from reid.decision.linkage import cluster
from reid.decision.links import Links, apply_links, read_links
from reid.errors import InputError

HEADER = "image_id,identity,path,date,orientation,species,split,dataset,place"


def world(folder: Path, *rows: str) -> Catalogue:
    """A table of such rows: "a q" a query, "d Mira" a photograph of Mira; then path, date and place, where they
    matter; all of the dataset Lynx but where a sixth word says otherwise."""
    lines = [HEADER]
    for row in rows:
        image_id, who, path, date, place, dataset = [*row.split(";"), *[""] * 6][:6]
        known = ("", "query") if who == "q" else (who, "database")
        lines.append(
            f"{image_id},{known[0]},{path or image_id + '.jpg'},{date},,,{known[1]},{dataset or 'Lynx'},{place}"
        )
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")
    return read_rows(folder)


def applied(links: Links, *image_ids: str) -> tuple[list[str], list[str], str]:
    """Must-links and cannot-links of some photographs as words such as "ab", and the photographs that are linked."""
    found = apply_links({image_id: row for row, image_id in enumerate(image_ids)}, links)
    assert {some.dtype.name for some in found} == {"int64"}
    must, cannot = (["".join(image_ids[row] for row in pair) for pair in pairs] for pairs in (found.must, found.cannot))
    return must, cannot, "".join(image_ids[row] for row in found.linked)


def test_without_pairs_and_places_there_are_no_links(tmp_path: Path) -> None:
    links = read_links(world(tmp_path, "a;q", "b;q"))
    assert links == Links()
    assert applied(links, "a", "b") == ([], [], "")


def test_answers_are_links(tmp_path: Path) -> None:
    catalogue = world(tmp_path, "a;q", "b;q", "c;q", "d;q")
    path = write_pairs(tmp_path, "b,a,same,,,", "b,c,different,,,", "c,d,unsure,,,")
    links = read_links(catalogue)
    assert [(link.a, link.b, link.kind, link.source) for link in links.must] == [("b", "a", "answer", f"{path}: row 2")]
    assert applied(links, *"abcd") == (["ab"], ["ac"], "abc")
    assert applied(links, *"dcba") == (["ba"], ["cb"], "cba")
    other = tmp_path / "other"
    other.mkdir()
    links = read_links(catalogue, write_pairs(other, "c,d,same,,,"))  # instead of the folder's
    assert applied(links, *"abcd") == (["cd"], [], "cd")
    with pytest.raises(InputError, match="expected a CSV file here, found none"):
        read_links(catalogue, tmp_path / "nowhere.csv")
    path.unlink()
    path.mkdir()
    with pytest.raises(InputError, match="expected a CSV file here, found a folder"):
        read_links(catalogue)


def test_photographs_that_are_not_clustered_join_and_separate_others(tmp_path: Path) -> None:
    catalogue = world(tmp_path, "a;q", "b;q", "c;q", "m;Mira", "n;Mira", "t;Tom", "u;unknown", "v;unknown")
    write_pairs(tmp_path, "a,m,same,,,", "n,b,same,,,", "t,c,same,,,", "u,v,same,,,")
    links = read_links(catalogue)
    assert applied(links, *"abc") == (["ab"], ["ac"], "abc")
    assert [links.identity_of(image_id) for image_id in "abcmuvx"] == ["Mira", "Mira", "Tom", "Mira", "", "", ""]
    assert applied(links, "c") == ([], [], "")
    write_pairs(tmp_path, "a,m,same,,,", "n,b,different,,,", "c,b,same,,,")
    assert applied(read_links(catalogue), *"abc") == (["bc"], ["ab"], "abc")
    # words for nobody name nobody
    write_pairs(tmp_path, "a,u,same,,,", "b,v,same,,,")
    assert applied(read_links(catalogue), *"abc") == ([], [], "")


def test_the_table_says_whom_known_photographs_show(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    catalogue = world(tmp_path, "a;q", "b;q", "m;Mira", "n;Mira", "t;Tom")
    write_pairs(tmp_path, "m,n,different,,,", "m,t,same,,,", "n,t,different,,,", "a,m,same,,,", "b,t,same,,,")
    assert applied(read_links(catalogue), *"ab") == ([], ["ab"], "ab")
    told = [record.message for record in caplog.records]
    assert len(told) == 2
    assert "row 2 says that m and n are different; metadata.csv calls them Mira and Mira, which counts here" in told[0]
    assert "row 3 says that m and t are same; metadata.csv calls them Mira and Tom" in told[1]


def test_rows_of_one_photograph_are_two_animals(tmp_path: Path) -> None:
    catalogue = world(tmp_path, "a;q;x/p.jpg", "b;q;x/../x/p.jpg", "c;q;x/p.jpg", "d;q;y/p.jpg")
    assert applied(read_links(catalogue), *"abcd") == ([], ["ab", "ac", "bc"], "")
    write_pairs(tmp_path, "a,b,different,,,", "c,d,same,,,")
    assert applied(read_links(catalogue), *"abcd") == (["cd"], ["ab", "ac", "bc"], "abcd")


@pytest.mark.parametrize(
    ("first", "second", "apart"),
    [
        ("2024-05-05 07:03:09;A", "2024-05-05T07:03:09;B", True),
        ("2024:05:05 07:03:09;A", "2024-05-05 7:03:09.5;B", True),
        ("2024-05-05 07:03;A", "2024-05-05 07:03;B", True),
        ("2024-05-05 07:03;A", "2024-05-05 07:03;", False),
        ("2024-05-05 07:03;Cam 01", "2024-05-05 07:03;cam  1", False),
        ("2024-05-05 07:03:09;A", "2024-05-05 07:03:10;B", False),
        ("2024-05-05 07:03;A", "2024-05-05 07:03:10;B", False),
        ("2024-05-05 07:03+02:00;A", "2024-05-05 07:03Z;B", False),
        ("2024-05-05 07:03Z;A", "2024-05-05 07:03Z;B", True),
        ("2024-05-05;A", "2024-05-05;B", False),
        ("2024-05-05 00:00:00;A", "2024-05-05 00:00:00;B", False),
        ("2024-01-01 07:03:09;A", "2024-01-01 07:03:09;B", False),
        ("2099-05-05 07:03:09;A", "2099-05-05 07:03:09;B", False),
        ("2024-05-05 25:61;A", "2024-05-05 25:61;B", False),
        ("2024-05-05 07:03:09;A", "2024-05-05 07:03:09;B;Newt", False),
    ],
)
def test_two_places_at_one_moment_are_two_animals(first: str, second: str, apart: bool, tmp_path: Path) -> None:
    catalogue = world(tmp_path, f"a;q;;{first}", f"b;q;;{second}")
    assert applied(read_links(catalogue), *"ab") == ([], ["ab"] * apart, "ab" * apart)


def test_times_that_somebody_filled_in_are_none(tmp_path: Path) -> None:
    days = ["2024-05-05", "2024-05-06", "2024-05-07"]
    noon = [f"{place}{day[-1]};q;;{day} 12:00;{place}" for day in days for place in "AB"]
    for rows, count in ((noon[:4], 2), (noon, 0)):
        links = read_links(world(tmp_path, *rows, "a;q;;2024-05-05 07:03;A", "b;q;;2024-05-05 07:03;B"))
        assert len([link for link in links.cannot if "12:00" in link.source]) == count
        assert len(links.cannot) == count + 1
    still = [f"{n};q;;2024-05-05 07:03;{n % 2}" for n in range(101)]
    assert len(read_links(world(tmp_path, *still[:100])).cannot) == 50 * 50
    assert read_links(world(tmp_path, *still)).cannot == ()


def test_an_answer_counts_more_than_a_moment(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    moment = "2024-05-05 07:03:09"
    catalogue = world(tmp_path, f"a;q;;{moment};A", f"b;q;;{moment};B", "c;q", f"d;q;;{moment};C")
    write_pairs(tmp_path, "a,c,same,,,", "c,b,same,,,")
    assert applied(read_links(catalogue), *"abcd") == (["ab", "bc"], ["ad"], "abcd")
    (told,) = [record.message for record in caplog.records]
    assert told == (
        f"metadata.csv: rows 2 and 3: at 'A' and 'B' on {moment}, so a and b should be two animals; the answers "
        "count, which make them one: a = c (row 2), c = b (row 3). Check date and place of these rows"
    )


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        (
            ["a,b,same,,,", "b,c,same,,,", "c,a,different,,,"],
            "pairs.csv: row 4: c and a are two animals, but these rows make them one: c = b (row 3), b = a (row 2). "
            "Correct or remove the wrong one of these answers",
        ),
        (
            ["x,a,same,,,", "a,y,same,,,"],
            "metadata.csv: rows 5 and 6: 'p.jpg' is in both: x and y are two animals, but these rows make them one: "
            "x = a (row 2), a = y (row 3). Animals on one photograph are never the same: correct the answer; or, if "
            "two boxes are around one animal, remove one of the rows",
        ),
        (
            ["a,m,same,,,", "a,n,different,,,"],
            "row 3: a and n are two animals, but these rows make them one: a = m (row 2), m = 'Mira' (metadata.csv "
            "row 7), 'Mira' = n (metadata.csv row 8). Correct",
        ),
        (
            ["a,m,same,,,", "a,b,same,,,", "b,t,same,,,"],
            "pairs.csv: answers make 'Mira' and 'Tom' one animal, which metadata.csv knows as two: 'Mira' = m "
            "(metadata.csv row 7), m = a (row 2), a = b (row 3), b = t (row 4), t = 'Tom' (metadata.csv row 9). "
            "Correct the wrong answer; or, if they are one, give them one name",
        ),
        (["a,b,same,,,", "a,c,same,,,", "b,c,different,,,", "x,y,same,,,"], "(1 more such contradictions)"),
    ],
)
def test_contradictions_are_told_with_the_rows_of_each(answers: list[str], words: str, tmp_path: Path) -> None:
    catalogue = world(tmp_path, "a;q", "b;q", "c;q", "x;q;p.jpg", "y;q;p.jpg", "m;Mira", "n;Mira", "t;Tom")
    write_pairs(tmp_path, *answers)
    with pytest.raises(InputError) as told:
        read_links(catalogue)
    assert words in str(told.value)


def test_an_answer_that_names_no_photograph_or_two_datasets_is_refused(tmp_path: Path) -> None:
    catalogue = world(tmp_path, "a;q", "b;q;;;;Newt")
    for answer, words in (("a,z,same,,,", "found 'z'"), ("a,b,different,,,", "found 'Lynx' and 'Newt'")):
        path = write_pairs(tmp_path, answer)
        with pytest.raises(InputError, match=f"pairs.csv: row 2: .*{words}"):
            read_links(catalogue, path)


@given(st.integers(0, 2**32), st.integers(2, 12), st.floats(0, 1))
def test_links_of_a_truth_never_contradict_it(
    tmp_path_factory: pytest.TempPathFactory, seed: int, count: int, cut: float
) -> None:
    """Some photographs are known; answers follow a truth. The clusters of the others are those that they can be."""
    rng = np.random.default_rng(seed)
    folder = tmp_path_factory.mktemp("links")
    names = [chr(97 + number) for number in range(count)]
    truth = rng.integers(0, 4, count)
    known = rng.random(count) < 0.3
    rows = [
        f"{name};{f'Lynx {animal}' if is_known else 'q'}"
        for name, animal, is_known in zip(names, truth, known, strict=True)
    ]
    pairs = [pair for pair in itertools.combinations(range(count), 2) if rng.random() < 0.3]
    answers = [f"{names[i]},{names[j]},{'same' if truth[i] == truth[j] else 'different'},,," for i, j in pairs]
    catalogue = world(folder, *rows)
    write_pairs(folder, *answers)
    queries = np.flatnonzero(~known)
    links = read_links(catalogue)
    found = apply_links({names[place]: row for row, place in enumerate(queries)}, links)
    animals = truth[queries]
    assert (animals[found.must[:, 0]] == animals[found.must[:, 1]]).all()
    assert (animals[found.cannot[:, 0]] != animals[found.cannot[:, 1]]).all()
    every = np.array(list(itertools.combinations(range(len(queries)), 2)), np.int64).reshape(-1, 2)
    labels, _ = cluster(len(queries), every, rng.random(len(every)), cut, found.must, found.cannot)
    row_of = {place: row for row, place in enumerate(queries.tolist())}
    for i, j in pairs:
        if i in row_of and j in row_of:
            assert (labels[row_of[i]] == labels[row_of[j]]) == (truth[i] == truth[j])


def test_moments_are_as_exact_as_they_are_written() -> None:
    dates = pd.Series(["2024-05-05 7:03", " 2024:5:5 07:03:09,25 +0200", "2024-05-05 07", "07:03", ""])
    moments = read_moments(dates, read_days(dates.str.strip()))
    assert moments.to_list() == ["2024-05-05 07:03", "2024-05-05 07:03:09+0200", "", "", ""]
