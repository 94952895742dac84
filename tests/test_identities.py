"""Who is who in metadata.csv: changes and their undoing, the copy and the log, and everything that is refused."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from reid import cli
from reid.data.identities import LOG, list_individuals, merge, read_log, rename, split, undo
from reid.errors import InputError

ROWS = """image_id,identity,path,date,orientation,species,split,dataset,note
1,Mira,1.jpg,2024-01-05,left,,database,Lynx,"a, b"
2,Mira,2.jpg,2023-07-01,Right side,,train,Lynx,
3,Tom,3.jpg,,,,database,Lynx,=1+1
4,,4.jpg,,,,query,Lynx,
5,Mira,5.jpg,,,,database,Newt,
6,Mira,6.jpg,2024-02-02,,,database,Newt,
7,unknown,7.jpg,,,,database,Newt,
"""

BY = ("Ann", "2025-06-01T10:00:00+00:00")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "metadata.csv").write_text(ROWS)
    return tmp_path


def names(data: Path) -> str:
    """The identities of the rows in words."""
    table = pd.read_csv(data / "metadata.csv", dtype=str, keep_default_na=False)
    return " ".join(table["identity"].where(table["identity"] != "", "-"))


def test_individuals_are_listed(data: Path) -> None:
    assert list_individuals(data).to_numpy().tolist() == [
        ["Lynx", "Mira", 2, "2023-07-01", "2024-01-05", "left right"],
        ["Lynx", "Tom", 1, "", "", ""],
        ["Newt", "Mira", 2, "2024-02-02", "2024-02-02", ""],
        ["Newt", "unknown", 1, "", "", ""],
    ]


def test_changes_touch_nothing_but_the_names_of_their_photographs(data: Path) -> None:
    rename(data, "Mira", "Mirra", *BY, dataset="Lynx")
    assert names(data) == "Mirra Mirra Tom - Mira Mira unknown"
    merge(data, "Tom", "Mirra", *BY)
    assert names(data) == "Mirra Mirra Mirra - Mira Mira unknown"
    split(data, "Mirra", "Tim", ["3", "1", "3"], *BY)
    assert names(data) == "Tim Mirra Tim - Mira Mira unknown"
    split(data, "Tim", "Mirra", ["3"], *BY)  # to another individual
    assert names(data) == "Tim Mirra Mirra - Mira Mira unknown"
    rename(data, "unknown", "Zoe", *BY)
    assert (data / "metadata.csv").read_text() == (
        ROWS.replace("1,Mira", "1,Tim").replace("2,Mira", "2,Mirra").replace("Tom", "Mirra").replace("unknown", "Zoe")
    )
    assert [(change.action, change.old, change.new, change.photographs) for change in read_log(data)] == [
        ("rename", "Mira", "Mirra", ("1", "2")),
        ("merge", "Tom", "Mirra", ("3",)),
        ("split", "Mirra", "Tim", ("1", "3")),
        ("split", "Tim", "Mirra", ("3",)),
        ("rename", "unknown", "Zoe", ("7",)),
    ]


def test_the_table_is_copied_before_it_is_first_written_over_and_after_others_changed_it(data: Path) -> None:
    assert rename(data, "Tom", "Tim", *BY).saved == "metadata.csv.1"
    assert rename(data, "Tim", "Tam", *BY).saved == ""
    assert undo(data, *BY).saved == ""
    edited = (data / "metadata.csv").read_text().replace("2024-01-05", "2024-01-06")
    (data / "metadata.csv").write_text(edited)
    assert rename(data, "Tim", "Tum", *BY).saved == "metadata.csv.2"
    assert [(data / f"metadata.csv.{number}").read_text() for number in (1, 2)] == [ROWS, edited]
    assert sorted(path.name for path in data.iterdir()) == [LOG, "metadata.csv", "metadata.csv.1", "metadata.csv.2"]


def change_something(data: Path, name: str, rng: np.random.Generator) -> None:
    """Renames a lynx, merges it with another or splits it, whatever is possible."""
    table = pd.read_csv(data / "metadata.csv", dtype=str, keep_default_na=False)
    lynxes = table[(table["dataset"] == "Lynx") & (table["split"] != "query")]
    old, *others = rng.permutation(lynxes["identity"].unique()).tolist()
    own = lynxes["image_id"][lynxes["identity"] == old].tolist()
    kind = rng.integers(3)
    if kind == 0 and others:
        merge(data, old, others[0], *BY, dataset="Lynx")
    elif kind == 1 and len(own) > 1:
        split(data, old, (others or [name])[0], own[:1], *BY, dataset="Lynx")
    else:
        rename(data, old, name, *BY, dataset="Lynx")


@pytest.mark.parametrize("seed", range(5))
def test_undone_step_by_step_everything_is_as_it_was(data: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    before, lines = [ROWS], 0
    while lines < 12 or len(before) > 1:
        log = (data / LOG).read_text() if lines else ""
        if len(before) > 1 and (lines >= 12 or rng.random() < 0.3):
            undo(data, *BY)
            before.pop()
            assert (data / "metadata.csv").read_text() == before[-1]
        else:
            change_something(data, f"new {lines}", rng)
            before.append((data / "metadata.csv").read_text())
            assert before[-1] != before[-2]
        lines += 1
        assert (data / LOG).read_text().startswith(log)  # no line is taken away
        assert len(read_log(data)) == lines
    with pytest.raises(InputError, match="found none: all changes are undone"):
        undo(data, *BY)


def test_what_was_changed_by_hand_since_is_not_undone(data: Path) -> None:
    rename(data, "Mira", "Mirra", *BY, dataset="Lynx")
    (data / "metadata.csv").write_text((data / "metadata.csv").read_text().replace("2,Mirra", "2,Tom"))
    with pytest.raises(InputError, match=r"expected 'Mirra' on the photographs .* found that 2 is not called so any"):
        undo(data, *BY)


REFUSED: list[tuple[Callable[[Path], object], str]] = [
    (lambda data: rename(data, "mira", "X", *BY), "'mira': expected an individual .* type for example 'Mira'"),
    (lambda data: rename(data, " Tom", "X", *BY), "' Tom': expected an individual .* type for example 'Tom'"),
    (lambda data: rename(data, "Tomm", "X", *BY), "'Tomm': expected an individual .* type for example 'Tom'"),
    (lambda data: rename(data, "Xaver", "X", *BY), "'Xaver': expected an individual .* found none; list shows them"),
    (lambda data: rename(data, "Tom", "X", *BY, dataset="Newt"), "'Tom': expected an individual of Newt"),
    (lambda data: rename(data, "Tom", "X", *BY, dataset="newt"), "--dataset newt: expected one of Lynx, Newt"),
    (lambda data: rename(data, "Mira", "X", *BY), r"photographs in Lynx \(2\), Newt \(2\); add --dataset Lynx"),
    (
        lambda data: rename(data, "Tom", "Mira", *BY),
        "'Mira' is another individual of Lynx; if the two are one, type mer",
    ),
    (lambda data: rename(data, "Tom", "MIRA", *BY), "found 'Mira', which differs only in how it is written"),
    (lambda data: split(data, "Tom", "mira ", ["3"], *BY), "found all 1; type rename or merge"),
    (lambda data: split(data, "Mira", "MIRA", ["1"], *BY, dataset="Lynx"), "found 'Mira', which differs only in how"),
    (lambda data: rename(data, "Tom", "Tom", *BY), "expected another name than the individual has"),
    (lambda data: rename(data, "Tom", " Tim", *BY), "expected a name without blanks around it; type 'Tim'"),
    (lambda data: rename(data, "Tom", " ", *BY), "expected a name of 1 to 200 characters"),
    (lambda data: rename(data, "Tom", "T\x00m", *BY), "expected a name of 1 to 200 characters"),
    (lambda data: rename(data, "Tom", "new_individual", *BY), "found a word for nobody"),
    (lambda data: rename(data, "Tom", "N/A", *BY), "found a word for nobody"),
    (lambda data: merge(data, "Tom", "Tom", *BY), "'Tom': expected two individuals to merge, found one twice"),
    (lambda data: merge(data, "Tom", "Tim", *BY), "'Tim': expected an individual of Lynx .* type for example 'Tom'"),
    (lambda data: split(data, "Tom", "X", ["1"], *BY), r"expected image_ids of 'Tom', found 1 \('Mira'\)"),
    (lambda data: split(data, "Tom", "X", ["9"], *BY), r"found 9 \(not in metadata.csv\)"),
    (lambda data: split(data, "Tom", "X", ["4"], *BY), r"found 4 \(a query, which answers name"),
    (lambda data: undo(data, *BY), "found none: there is no identities.jsonl in"),
]


@pytest.mark.parametrize("number", range(len(REFUSED)))
def test_what_cannot_be_done_is_refused_and_changes_nothing(data: Path, number: int) -> None:
    do, words = REFUSED[number]
    with pytest.raises(InputError, match=words):
        do(data)
    assert (data / "metadata.csv").read_text() == ROWS
    assert [path.name for path in data.iterdir()] == ["metadata.csv"]


def test_a_competitions_queries_are_refused(data: Path) -> None:
    (data / "competition.json").touch()
    with pytest.raises(InputError, match="whose rules forbid labels made by hand"):
        split(data, "Tom", "X", ["4"], *BY)
    rename(data, "Tom", "Tim", *BY)  # known photographs may be corrected


def test_a_line_of_the_log_that_cannot_be_read_is_told(data: Path) -> None:
    rename(data, "Tom", "Tim", *BY)
    for line in ("{", "[]", '{"action": "rename"}'):
        (data / LOG).write_text(f"{line}\n")
        with pytest.raises(InputError, match=rf"{LOG}: line 1: expected a change of an individual"):
            undo(data, *BY)


def test_the_command(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*words: str) -> str:
        assert cli.main(["identities", str(data), *words]) == 0
        return capsys.readouterr().out

    assert run() == run("list")
    assert json.loads(run("list", "--json"))["individuals"][1]["identity"] == "Tom"
    done = run("rename", "Tom", "Tim", "--who", "Ann")
    assert done.splitlines()[0] == "rename: 1 photograph of Lynx, 'Tom' -> 'Tim'"
    assert f"wrote {data / 'metadata.csv'}; as it was before: {data / 'metadata.csv.1'}" in done
    run("merge", "Tim", "Mira", "--dataset", "Lynx")
    run("split", "Mira", "Tom", "--photographs", "3", "--dataset", "Lynx")
    (data / "solution.csv").touch()
    assert "undo 3: 1 photograph of Lynx, 'Tom' -> 'Mira'" in run("undo")
    lines = run("log").splitlines()
    assert [line.split(": ", 1)[1] for line in lines] == [
        "rename: 1 photograph of Lynx, 'Tom' -> 'Tim'",
        "merge: 1 photograph of Lynx, 'Tim' -> 'Mira'",
        "split: 1 photograph of Lynx, 'Mira' -> 'Tom'",
        "undo 3: 1 photograph of Lynx, 'Tom' -> 'Mira'",
    ]
    assert " Ann: " in lines[0]
    assert [change["undoes"] for change in json.loads(run("log", "--json"))["changes"]] == [0, 0, 0, 3]
    assert cli.main(["identities", str(data), "merge", "Mira", "Mira", "--dataset", "Lynx"]) == 2
    assert "error: 'Mira': expected two individuals to merge" in capsys.readouterr().err


def test_a_change_names_what_comes_next(data: Path, caplog: pytest.LogCaptureFixture) -> None:
    (data / "solution.csv").touch()
    assert cli.main(["identities", str(data), "rename", "Tom", "Tim"]) == 0
    assert f"next: reid enroll {data} --weights WEIGHTS" in caplog.text
    assert f"{data / 'solution.csv'} is not changed" in caplog.text
