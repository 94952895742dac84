"""The candidates of every query: as a table, as files, as a picture, and what may be read of another's file."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hand_world import QUERIES, make_world

from reid import cli
from reid.data.catalogue import NEW_INDIVIDUAL
from reid.decision.matches import MATCH_COLUMNS, Matches, matches_path, read_matches, read_matches_next_to
from reid.decision.metrics import read_submission
from reid.errors import InputError


@pytest.fixture
def matches(tmp_path: Path) -> Matches:
    """q0 of the world made by hand has two candidates, q3 has none, the others one."""
    _, _, matches, _ = make_world(tmp_path)
    candidates = matches.candidates[matches.candidates["image_id"] != "q3"]
    second = pd.DataFrame([("q0", 2, "b", "2", 1.25, np.nan)], columns=candidates.columns)
    return replace(matches, candidates=pd.concat([candidates.iloc[:1], second, candidates.iloc[1:]], ignore_index=True))


def test_the_table_has_a_row_per_candidate_and_one_for_a_query_without_any(matches: Matches) -> None:
    table = matches.to_frame()
    assert tuple(table.columns) == MATCH_COLUMNS
    assert table["image_id"].tolist() == ["q0", "q0", "q1", "q2", "q3", "q4", "q5", "q6"]
    assert table["rank"].tolist() == [1, 2, 1, 1, 1, 1, 1, 1]
    assert table.iloc[1].tolist()[:6] == ["q0", "Lynx", 2, "b", "2", 1.25]
    assert table.iloc[4][["candidate", "candidate_image_id"]].tolist() == ["", ""]
    assert table.iloc[4][["dissimilarity", "probability"]].isna().all()
    assert (table["answer"] == NEW_INDIVIDUAL).tolist() == [False, False, False, False, False, True, True, False]


def test_the_wide_table_has_the_two_best_candidates_of_each_query(matches: Matches) -> None:
    wide = matches.wide.set_index("image_id")
    assert list(wide.index) == [query[0] for query in QUERIES]
    assert wide.loc["q0", ["identity", "distance", "photograph"]].tolist() == ["a", 0.9, "1"]
    assert wide.loc["q0", ["runner_up", "runner_up_dissimilarity"]].tolist() == ["b", 1.25]
    assert wide.loc["q1", ["runner_up", "runner_up_dissimilarity"]].tolist() == ["", np.inf]
    assert wide.loc["q3", ["identity", "distance", "photograph"]].tolist() == ["", np.inf, ""]


def test_a_saved_submission_has_its_candidates_next_to_it(matches: Matches, tmp_path: Path) -> None:
    matches.save(tmp_path / "out" / "s.csv")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["s.csv", "s.matches.csv"]
    pd.testing.assert_frame_equal(read_submission(tmp_path / "out" / "s.csv"), matches.submission, check_dtype=False)
    read = read_matches(tmp_path / "out" / "s.matches.csv")
    pd.testing.assert_frame_equal(read, matches.to_frame(), check_dtype=False)
    assert read_matches_next_to(tmp_path / "out" / "s.csv", matches.submission) is not None


@pytest.mark.parametrize(
    ("name", "beside"), [("s.csv", "s.matches.csv"), ("s", "s.matches.csv"), ("a.b", "a.b.matches.csv")]
)
def test_the_candidates_are_called_after_the_submission(name: str, beside: str) -> None:
    assert matches_path(Path("out") / name) == Path("out") / beside


def test_candidates_of_another_submission_are_reported_and_not_used(
    matches: Matches, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    matches.save(tmp_path / "s.csv")
    submission = matches.submission
    for other in (
        submission.assign(identity="b"),
        submission.iloc[1:],
        pd.concat([submission, submission.iloc[:1] + "x"]),
    ):
        caplog.clear()
        assert read_matches_next_to(tmp_path / "s.csv", other) is None
        (line,) = caplog.messages
        assert line == (
            f"{tmp_path / 's.matches.csv'}: its answers are not those of s.csv, so it belongs to another submission "
            "and is not used; run `reid predict` again to write both"
        )
    assert read_matches_next_to(tmp_path / "t.csv", submission) is None
    assert len(caplog.messages) == 1  # where there is no file, there is nothing to report


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("q0,Lynx,1,", "q0,Lynx,first,", "row 2, column rank: expected a number, found 'first'"),
        ("q0,Lynx,1,", "q0,Lynx,,", "row 2, column rank: expected a number, found ''"),
        (",0.9,", ",near,", "row 2, column dissimilarity: expected a number, found 'near'"),
        ("q0,Lynx,2,", "q0,Lynx,1,", "row 3: expected every rank of image_id q0 once, found 1 again"),
        ("q0,Lynx,2,b", "q0,Lynx,2,a", "row 3: expected every candidate of image_id q0 once, found a again"),
        ("image_id,dataset", "image_id,species", "missing: dataset"),
    ],
)
def test_a_file_that_is_damaged_is_refused_and_next_to_a_submission_not_used(
    old: str, new: str, words: str, matches: Matches, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    matches.save(tmp_path / "s.csv")
    path = tmp_path / "s.matches.csv"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(InputError) as caught:
        read_matches(path)
    assert f"{path}: " in str(caught.value)
    assert words in str(caught.value)
    assert read_matches_next_to(tmp_path / "s.csv", matches.submission) is None
    assert caplog.records[0].levelno == logging.WARNING
    assert words in caplog.messages[0]
    assert caplog.messages[0].endswith("it is not used")


def test_score_shows_retrieval_metrics_of_its_own_candidates_alone(
    matches: Matches, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    matches.save(tmp_path / "s.csv")
    _, _, _, solution = make_world(tmp_path / "again")
    solution.to_csv(tmp_path / "solution.csv", index=False)
    call = ["score", str(tmp_path / "s.csv"), str(tmp_path / "solution.csv")]
    assert cli.main([*call, "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    # of the four known lynxes two have the right individual first; the newt has
    assert scores["datasets"]["Lynx"]["rank1"] == scores["datasets"]["Lynx"]["mrr"] == 0.5
    assert (scores["rank1"], scores["recall5"]) == (0.75, 0.75)
    assert scores["datasets"]["Newt"]["auroc"] is None
    # of the two new lynxes one has no candidate, and one is further than three of four known ones
    assert scores["auroc"] == scores["datasets"]["Lynx"]["auroc"] == (1 + 0.75) / 2
    assert cli.main(call) == 0
    assert "rank1 0.7500, recall5 0.7500, mrr 0.7500, auroc 0.8750" in capsys.readouterr().out
    changed = read_submission(tmp_path / "s.csv").assign(identity="b")
    changed.to_csv(tmp_path / "s.csv", index=False)
    assert cli.main([*call, "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"overall", "datasets"}
    (tmp_path / "s.matches.csv").unlink()
    assert cli.main(call) == 0
    assert "rank1" not in capsys.readouterr().out


def test_the_picture_shows_the_query_and_its_candidates(matches: Matches, tmp_path: Path) -> None:
    catalogue, _, _, _ = make_world(tmp_path / "again")
    picture = matches.picture(catalogue, "q0", size=64)
    assert (picture.width, picture.height > 64) == (3 * 64, True)
    pixels = np.asarray(picture)[:64].astype(int)
    query, known = (
        np.asarray(matches.picture(catalogue, name, size=64))[:64, :64].astype(int) for name in ("q0", "q1")
    )
    assert np.array_equal(pixels[:, :64], query)
    assert np.abs(query - known).mean() > 5  # another photograph
    assert pixels[:, 128:].std() > 10  # the second candidate's, and not grey
    assert matches.picture(catalogue, "q3", size=64).width == 64  # it has no candidate


def test_a_candidate_whose_photograph_is_not_there_is_grey(matches: Matches, tmp_path: Path) -> None:
    catalogue, _, _, _ = make_world(tmp_path / "again")
    gone = replace(matches, candidates=matches.candidates.assign(candidate_image_id="99"))
    pixels = np.asarray(gone.picture(catalogue, "q0", size=64))[32:64, 64:128]
    assert (pixels == pixels[0, 0]).all()
    (catalogue.root / "q0.jpg").write_bytes(b"no photograph")
    assert matches.picture(catalogue, "q0", size=64).width == 3 * 64


def test_a_picture_of_no_query_is_refused(matches: Matches, tmp_path: Path) -> None:
    catalogue, _, _, _ = make_world(tmp_path / "again")
    with pytest.raises(InputError, match="image_id 1: expected one of the 7 queries, such as q0, q1, q2, q3, q4"):
        matches.picture(catalogue, "1")
