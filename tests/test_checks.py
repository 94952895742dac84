"""What `check` reports apart from faults: unreadable files, counts, dates, datasets that nobody is known of."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image, features
from scene import scene, write_rows

from reid.data.catalogue import numbered_cells, read_rows
from reid.data.checks import describe, find_near_copies, find_same_files, scan_files
from reid.data.photographs import UnreadableError, open_photograph, thumbnails
from reid.runtime.distributed import all_cores, core_count


def test_files_and_individuals_are_counted(patterns: Path) -> None:
    catalogue = read_rows(patterns)
    database, query = catalogue.database.paths, catalogue.query.paths
    query[0].write_bytes(database[0].read_bytes())
    database[1].unlink()
    table = describe(catalogue, scan_files(catalogue)).set_index("dataset")
    assert table.loc["Checks"].to_dict() == {
        "images": 24, "individuals": 6, "singletons": 0, "largest": 4, "query": 14, "unreadable": 1, "duplicates": 1,
    }  # fmt: skip
    assert table.loc["Dots"].to_dict() | {"unreadable": 0, "duplicates": 0} == table.loc["Dots"].to_dict()


def test_columns_of_ones_own_are_left_alone_whatever_their_names(patterns: Path) -> None:
    table = pd.read_csv(patterns / "metadata.csv", dtype=str, keep_default_na=False)
    files = scan_files(read_rows(patterns))
    plain = describe(read_rows(patterns), files)
    table.assign(problem="lame", sha256="x", width="1", answered="no").to_csv(patterns / "metadata.csv", index=False)
    assert describe(read_rows(patterns), files).equals(plain)


@pytest.mark.filterwarnings("ignore")  # what Pillow says of each damage
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP"])
def test_random_damage_never_raises_anything_else_and_scan_files_agrees(tmp_path: Path, kind: str) -> None:
    if kind.lower() in ("webp", "avif") and not features.check(kind.lower()):
        pytest.skip(f"this Pillow was built without {kind}")
    exif = Image.Exif()
    exif[274] = 6
    scene(40, 30).save(tmp_path / "whole", kind, **({"exif": exif} if kind not in ("GIF", "BMP") else {}))
    whole = (tmp_path / "whole").read_bytes()
    rng = np.random.default_rng(0)
    for number in range(60):
        damaged = np.frombuffer(whole, np.uint8).copy()
        damaged[rng.integers(len(damaged), size=3)] = rng.integers(256, size=3)
        damaged[rng.integers(min(200, len(damaged)), size=2)] = rng.integers(256, size=2)
        cut = damaged[: rng.integers(1, len(damaged))] if rng.random() < 0.2 else damaged
        (tmp_path / f"{number}.jpg").write_bytes(cut.tobytes())
    write_rows(tmp_path, 60)
    catalogue, refused = read_rows(tmp_path), 0
    row: Any
    for path, row in zip(catalogue.paths, scan_files(catalogue).itertuples(), strict=True):
        try:
            pixels = open_photograph(path, 16)
            assert pixels.shape == (16, 16, 3)
            assert pixels.dtype == np.uint8
            assert row.problem == ""
        except UnreadableError:
            refused += 1
            assert row.problem
        assert bool(row.sha256) == (not row.problem)
    assert refused > 5  # the damage was not harmless


def test_photographs_are_opened_on_systems_that_do_not_tell_which_cores_are_free(
    patterns: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)  # neither macOS nor Windows has it
    catalogue = read_rows(patterns)
    assert (scan_files(catalogue)["problem"] == "").all()
    assert thumbnails(catalogue).shape == (len(catalogue), 256)
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert core_count() == 5
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")  # torchrun's, for two ranks on the machine
    assert core_count() == 2
    with all_cores():
        assert core_count() == 5
    assert core_count() == 2


def test_a_file_under_two_identities_or_in_two_splits_is_a_fault_and_one_animal_twice_is_none(patterns: Path) -> None:
    catalogue = read_rows(patterns)
    database = catalogue.database.of("Dots")
    first, same, other = (database.paths[place] for place in (0, 1, 4))
    same.write_bytes(first.read_bytes())
    assert find_same_files(catalogue, scan_files(catalogue)) == []
    other.write_bytes(first.read_bytes())
    catalogue.query.paths[-1].write_bytes(first.read_bytes())
    named, in_query = find_same_files(catalogue, scan_files(catalogue))
    assert named.startswith(f"row {database.table.index[4] + 2}: ")
    assert "there as 'Dots_0' and here as 'Dots_1'. Decide who it is" in named
    assert in_query.startswith(f"row {catalogue.query.table.index[-1] + 2}: ")
    assert "there as database and here as query. Remove one of the rows" in in_query


@pytest.mark.parametrize(("quality", "size"), [(20, (48, 40)), (95, (24, 20)), (95, (96, 80))])
def test_a_copy_in_another_size_or_quality_is_told_under_two_identities_only(
    patterns: Path, quality: int, size: tuple[int, int]
) -> None:
    catalogue = read_rows(patterns)
    database = catalogue.database.of("Dots")
    with Image.open(database.paths[0]) as opened:
        copy = opened.resize(size)
    copy.save(database.paths[1], quality=quality - 1)
    assert find_near_copies(catalogue, scan_files(catalogue)) == []
    copy.save(database.paths[4], quality=quality)
    (row, copied) = numbered_cells(database.table["path"].iloc[[4]])[0]
    told = f"row {row}: {copied!r} looks like a copy of "
    assert any(words.startswith(told) for words in find_near_copies(catalogue, scan_files(catalogue)))


def test_real_photographs_hold_no_copies(reid_mini: Path) -> None:
    catalogue = read_rows(reid_mini).of("LionData")
    files = scan_files(catalogue)
    assert find_same_files(catalogue, files) == []
    assert find_near_copies(catalogue, files) == []
