"""Files are complete or absent, whatever goes wrong while they are written; tables come back as the text they were."""

import csv
import errno
import io
import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reid.errors import InputError, MachineError
from reid.runtime.files import (
    ALIKE,
    atomic_path,
    first_of,
    group_rows,
    read_json,
    read_table,
    refuse_unwritable,
    sha256_of,
    write_bytes,
    write_json,
    write_table,
)


def test_a_file_appears_under_its_name_only_when_the_block_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "x.txt"
    with atomic_path(path) as temporary:
        temporary.write_text("half")
        assert not path.exists()
        temporary.write_text("whole")
    assert [(one.name, one.read_text()) for one in path.parent.iterdir()] == [("x.txt", "whole")]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, ValueError, SystemExit])
def test_whatever_ends_the_block_the_old_file_stays_as_it_was(tmp_path: Path, stop: type[BaseException]) -> None:
    (tmp_path / "x").write_text("old")
    with pytest.raises(stop), atomic_path(tmp_path / "x") as temporary:
        temporary.write_text("half")
        raise stop
    assert [(one.name, one.read_text()) for one in tmp_path.iterdir()] == [("x", "old")]


@pytest.mark.parametrize("full_at", ["write", "fsync"])
@pytest.mark.parametrize(
    "write",
    [
        lambda path: write_bytes(path, b"12"),
        lambda path: write_json(path, {"a": 1}),
        lambda path: write_table(path, pd.DataFrame({"a": ["1"]})),
    ],
)
def test_a_full_disk_keeps_the_old_file_and_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full_at: str, write: Callable[[Path], None]
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "x"
    path.write_text("old")
    with monkeypatch.context() as patch:
        if full_at == "fsync":
            patch.setattr(os, "fsync", full)
        else:
            for place in (Path, pd.DataFrame):
                for name in ("write_bytes", "write_text", "to_csv"):
                    patch.setattr(place, name, full, raising=False)
        with pytest.raises(MachineError, match=r"x: could not be written \(No space left.*Free some space"):
            write(path)
    assert [(one.name, one.read_text()) for one in tmp_path.iterdir()] == [("x", "old")]


def test_a_disk_that_is_really_full_leaves_nothing(tmp_path: Path) -> None:
    if os.geteuid() != 0 or os.system(f"mount -t tmpfs -o size=64k tmpfs {tmp_path} 2>/dev/null") != 0:
        pytest.skip("only root can mount a disk of 64 kB, and not on every machine")
    try:
        write_bytes(tmp_path / "fits", bytes(10_000))
        with pytest.raises(InputError, match=r"No space left on device"):
            write_bytes(tmp_path / "x", bytes(100_000))
        assert [one.name for one in tmp_path.iterdir()] == ["fits"]
    finally:
        os.system(f"umount {tmp_path}")


@pytest.mark.parametrize("place", ["file/x", "file/deeper/x", "folder", "n" * 300])
def test_a_place_that_can_hold_no_file_is_told(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match=r"could not be written .*nothing was left under that name"):
        write_bytes(tmp_path / place, b"")
    assert sorted(one.name for one in tmp_path.rglob("*")) == ["file", "folder"]
    assert (tmp_path / "file").read_text() == "mine"


def test_json_that_nobody_else_could_read_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Out of range float"):
        write_json(tmp_path / "x.json", {"score": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_json_comes_back_as_it_was(tmp_path: Path) -> None:
    content = {"Größe": [1, 2.5, None, True], "nested": {"z": "ü", "a": ""}}
    write_json(tmp_path / "x.json", content)
    assert read_json(tmp_path / "x.json") == content
    assert list(read_json(tmp_path / "x.json")["nested"]) == ["z", "a"]


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "a JSON file here, found none"), (b"{", "can't be read"), (b"\xff\xfe", "can't be read")],
)
def test_a_file_that_is_no_json_is_named(tmp_path: Path, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(InputError, match=rf"x\.json: expected .*{words}"):
        read_json(tmp_path / "x.json")


def test_the_hash_is_sha256(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")  # FIPS 180-2, appendix B.1
    assert sha256_of(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


# Python's own writer leaves a lone carriage return without quotes
CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), max_size=8) | st.sampled_from(
    ["NA", "nan", "1e3", "007", "a\nb", "a\r\nb", 'a "b", c']
)


@given(
    rows=st.integers(1, 4).flatmap(lambda width: st.lists(st.lists(CELLS, min_size=width, max_size=width), min_size=1)),
    end=st.sampled_from(["\n", "\r\n"]),
    mark=st.sampled_from(["", "\ufeff"]),
    empty_lines=st.integers(0, 2),
)
def test_every_text_comes_back_cell_by_cell(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]], end: str, mark: str, empty_lines: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "cells.csv"
    header = [f"column {place}" for place in range(len(rows[0]))]
    written = io.StringIO()
    csv.writer(written, lineterminator=end).writerows([header, *rows])
    path.write_bytes((mark + written.getvalue() + end * empty_lines).encode())
    table = read_table(path, tuple(header))
    assert list(table.columns) == header
    assert table.to_numpy().tolist() == rows


def test_what_is_written_is_read_again_and_has_lf_line_ends(tmp_path: Path) -> None:
    table = pd.DataFrame({"image_id": ["1", "2"], "identity": ['a "b", c', "two\nlines"]})
    write_table(tmp_path / "x.csv", table)
    assert (tmp_path / "x.csv").read_bytes() == b'image_id,identity\n1,"a ""b"", c"\n2,"two\nlines"\n'
    pd.testing.assert_frame_equal(read_table(tmp_path / "x.csv", ("image_id",)), table, check_dtype=False)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a,b\n1,2\n3\n", "row 3: expected 2 cells as in the first line, found 1"),
        ("a,b\n1,2,3\n4,5,6\n", "row 2: expected 2 cells as in the first line, found 3"),  # not an index
        ('a,b\n"x\ny",2\n3,4,5\n', "row 3: expected 2 cells"),  # as a spreadsheet counts, not by lines
        ("a,b\n\n1,2\n", "row 2: expected 2 cells as in the first line, found 0"),
        ('a,b\n1,"2\n3,4\n', "expected a CSV file in UTF-8, but it can't be read (line 3:"),
        ("a;b\n1;2\n", "expected the columns a, b in the first line, found a;b; missing: a, b. Separate the columns"),
        ("b\n1\n", "missing: a. Rename or add them"),
        ("a,b,a\n1,2,3\n", "the first line names a more than once; keep one column of each name"),
        ("", "found none; missing: a, b"),
    ],
)
def test_a_table_that_is_none_is_refused_in_words(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "x.csv").write_text(content)
    with pytest.raises(InputError) as caught:
        read_table(tmp_path / "x.csv", ("a", "b"))
    assert str(caught.value).startswith(f"{tmp_path / 'x.csv'}: ")
    assert words in str(caught.value)


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    """Processes of two machines that share a folder may have the same number."""
    with atomic_path(tmp_path / "x") as one, atomic_path(tmp_path / "x") as other:
        one.write_text("one")
        other.write_text("other")
    assert (tmp_path / "x").read_text() == "one"  # the block that ended last
    assert list(tmp_path.iterdir()) == [tmp_path / "x"]


@pytest.mark.parametrize(("number", "kind"), [(errno.ENOSPC, MachineError), (errno.EACCES, InputError)])
def test_a_full_disk_is_the_machines_fault_and_a_closed_folder_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[InputError]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("tempfile.TemporaryFile", fail)
    with pytest.raises(InputError, match="x: could not be written") as caught:
        refuse_unwritable(tmp_path / "x")
    assert type(caught.value) is kind


# rows in words


@given(st.sets(st.integers(2, 60)), st.integers(1, 3))
def test_rows_with_the_same_fault_are_counted(rows: set[int], kinds: int) -> None:
    faults = [(row, f"fault {'abc'[row % kinds]}") for row in sorted(rows)]
    for kind in "abc"[:kinds]:
        own = [row for row, words in faults if words == f"fault {kind}"]
        told = [where for where, words in group_rows(faults) if words == f"fault {kind}"]
        if len(own) <= ALIKE:
            assert told == [f"row {row}" for row in own]
            continue
        spans, _, more = told[0].removeprefix("rows ").partition(" and ")
        named: list[int] = []
        for span in spans.split(", "):
            first, _, last = span.partition("-")
            named += range(int(first), int(last or first) + 1)
        assert len(told) == 1
        assert spans.count(", ") < ALIKE
        assert named == own[: len(named)]
        assert more == (f"{len(own) - len(named)} more" if len(named) < len(own) else "")


def test_faults_that_differ_in_what_they_quote_share_a_sentence(caplog: pytest.LogCaptureFixture) -> None:
    faults = [(row, f"split: expected 'a'; found {f'it{chr(39)}s {row}'!r}. Correct it") for row in range(2, 12)]
    with caplog.at_level("DEBUG"):
        told = group_rows([*faults, (3, "identity: empty")])
    assert told[:5] == [(f"row {row}", words) for row, words in faults[:5]]
    assert told[5] == ("rows 7-11", "split: expected 'a'; found .... Correct it")
    assert told[6:] == [("row 3", "identity: empty")]
    assert caplog.messages == ["\n".join(f"row {row}: {words}" for row, words in faults[5:])]


def test_a_long_list_names_the_first_and_counts_the_others(caplog: pytest.LogCaptureFixture) -> None:
    assert first_of([]) == ""
    assert first_of(["a", "b", "c", "d", "e"]) == "a, b, c, d, e"
    with caplog.at_level("DEBUG"):
        assert first_of([str(number) for number in range(1006)]) == "0, 1, 2, 3, 4 and 1,001 more"
    assert caplog.messages == [", ".join(map(str, range(1006)))]
