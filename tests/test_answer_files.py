"""NAME.matches.csv and NAME.clusters.csv as versioned formats: what `check` says of the file beside a submission."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sources import write_csv

from reid import cli
from reid.data.catalogue import read_rows
from reid.decision.answer_files import CLUSTERS_VERSIONS, MATCHES_VERSIONS, check_file_beside

ROW = {"image_id": "1", "identity": "Mira", "path": "1.jpg", "date": "", "orientation": "", "species": ""}
ROW |= {"split": "database", "dataset": "Lynx"}

MATCH = dict(zip(MATCHES_VERSIONS[1], ("2", "Lynx", "1", "Mira", "1", "0.2", "0.9", "0.5", "Mira", ""), strict=True))
SECOND = MATCH | {"rank": "2", "candidate": "Tarn", "candidate_image_id": "4", "dissimilarity": "0.3"}
NEW = MATCH | {"image_id": "3", "dissimilarity": "0.7", "answer": "new_individual", "flags": "shifted rerouted"}

CLUSTER = dict(zip(CLUSTERS_VERSIONS[1], ("2", "Lynx", "cluster_Lynx_1", "Mira", "0.9", ""), strict=True))
ALONE = CLUSTER | {"image_id": "3", "cluster": "cluster_Lynx_2", "identity": "", "probability": "", "flags": "alone"}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    query = {"identity": "", "split": "query"}
    rows = [ROW, ROW | query | {"image_id": "2", "path": "2.jpg"}, ROW | query | {"image_id": "3", "path": "3.jpg"}]
    write_csv(tmp_path / "metadata.csv", [*rows, ROW | {"image_id": "4", "identity": "Tarn", "path": "4.jpg"}])
    return tmp_path


def faults_of(data: Path, kind: str, rows: list[dict[str, Any]]) -> list[str]:
    answers = (
        {"2": "Mira", "3": "new_individual"} if kind == "matches" else {"2": "cluster_Lynx_1", "3": "cluster_Lynx_2"}
    )
    column = "identity" if kind == "matches" else "cluster"
    path = write_csv(data / "s.csv", [{"image_id": name, column: answer} for name, answer in answers.items()])
    write_csv(data / f"s.{kind}.csv", rows)
    found = check_file_beside(path, read_rows(data))
    assert found
    return found.faults


def test_whole_files_have_no_fault(data: Path) -> None:
    assert faults_of(data, "matches", [MATCH, SECOND, NEW]) == []
    empty = {"candidate": "", "candidate_image_id": "", "dissimilarity": "", "probability": "", "threshold": ""}
    assert faults_of(data, "matches", [MATCH, NEW | empty | {"flags": "unreadable"}]) == []
    assert faults_of(data, "clusters", [CLUSTER, ALONE]) == []
    assert faults_of(data, "clusters", [CLUSTER | {"dataset": "LYNX"}, ALONE]) == []


def test_a_submission_alone_has_nothing_beside(data: Path) -> None:
    path = write_csv(data / "s.csv", [{"image_id": "2", "identity": "Mira"}])
    assert check_file_beside(path, read_rows(data)) is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image_id": "9"}, "column image_id: expected one of the submission, found '9'"),
        ({"answer": "Tarn"}, "column answer: expected the submission's, 'Mira', found 'Tarn'"),
        ({"rank": "2"}, "column rank: expected 1, found '2'"),
        ({"rank": "first"}, "column rank: expected 1, found 'first'"),
        ({"dissimilarity": "0.4"}, "row 3: column dissimilarity: expected the most similar candidate first"),
        ({"dissimilarity": "near"}, "column dissimilarity: expected a number, found 'near'"),
        ({"dissimilarity": ""}, "expected candidate, candidate_image_id and dissimilarity together"),
        ({"probability": "1.2"}, "column probability: expected 0 to 1 or nothing, found '1.2'"),
        ({"threshold": "x"}, "column threshold: expected a number"),
        ({"candidate": ""}, "expected candidate, candidate_image_id and dissimilarity together"),
        ({"candidate": "new_individual"}, "expected an individual; that word is the answer's"),
        ({"candidate_image_id": "9"}, "column candidate_image_id: expected another row of metadata.csv, found '9'"),
        ({"candidate_image_id": "2"}, "column candidate_image_id: expected another row of metadata.csv, found '2'"),
        ({"flags": "odd"}, "column flags: expected words of unreadable, no_gallery"),
    ],
)
def test_faults_of_matches(data: Path, change: dict[str, str], words: str) -> None:
    assert any(words in fault for fault in faults_of(data, "matches", [MATCH | change, SECOND, NEW]))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image_id": "3"}, "column image_id: expected every photograph once, found '3' again"),
        ({"cluster": "cluster_Lynx_3"}, "column cluster: expected the submission's, 'cluster_Lynx_1'"),
        ({"dataset": "Fox"}, "column dataset: expected that of metadata.csv, 'Lynx', found 'Fox'"),
        ({"cluster": "cluster_Lynx_2"}, "column identity: expected one for the whole cluster, found '' as well"),
        ({"probability": "-1"}, "column probability: expected 0 to 1 or nothing"),
        ({"flags": "alone odd"}, "column flags: expected words of"),
    ],
)
def test_faults_of_clusters(data: Path, change: dict[str, str], words: str) -> None:
    assert any(words in fault for fault in faults_of(data, "clusters", [CLUSTER | change, ALONE]))


def test_other_versions_and_missing_rows_are_told(data: Path) -> None:
    (fault,) = faults_of(data, "matches", [MATCH | {"side": "left"}])
    assert fault.startswith("row 1: expected image_id,dataset,rank,")
    assert "(version 1), found" in fault
    assert faults_of(data, "clusters", [ALONE]) == ["missing: 1 image_ids of s.csv have no row, such as 2"]
    (data / "s.clusters.csv").write_bytes(b"\xff\xfe")
    found = check_file_beside(data / "s.csv", read_rows(data))
    assert found
    assert found.version is None
    assert "expected a CSV file in UTF-8" in found.faults[0]


def test_check_prints_what_is_wrong_beside_the_submission(
    patterns: Path, edit_rows: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pd.read_csv(patterns / "metadata.csv", dtype=str, keep_default_na=False)
    known = table[table["split"] == "database"].iloc[0]
    queries = pd.read_csv(patterns / "sample_submission.csv", dtype=str)["image_id"]
    write_csv(patterns / "s.csv", [{"image_id": name, "identity": "new_individual"} for name in queries])
    row = MATCH | {"candidate": known["identity"], "candidate_image_id": known["image_id"], "answer": "new_individual"}
    write_csv(patterns / "s.matches.csv", [row | {"image_id": name} for name in queries])
    words = ["check", str(patterns), "--submission", str(patterns / "s.csv")]
    assert cli.main(words) == 0
    assert f"{patterns}/s.matches.csv: no fault, version 1 of its format" in capsys.readouterr().out
    write_csv(patterns / "s.matches.csv", [row | {"image_id": name, "probability": "2"} for name in queries])
    assert cli.main(words) == 2
    printed = capsys.readouterr()
    assert "column probability: expected 0 to 1 or nothing, found '2'" in printed.out
    assert f"{patterns}/s.matches.csv: 1 fault, listed above; write it again, or remove it" in printed.err
