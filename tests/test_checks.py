"""What `check` reports apart from faults: unreadable files, counts, dates, datasets that nobody is known of."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image, features
from scene import scene, write_metadata, write_rows

from reid.data.catalogue import read_catalogue, read_rows
from reid.data.checks import describe, find_empty_galleries, find_unread_dates, scan_files
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
    assert thumbnails(catalogue.paths).shape == (len(catalogue), 256)
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert core_count() == 5
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")  # torchrun's, for two ranks on the machine
    assert core_count() == 2
    with all_cores():
        assert core_count() == 5
    assert core_count() == 2


def test_dates_that_cannot_be_read_are_reported_once_per_dataset_and_are_no_fault(tmp_path: Path) -> None:
    rows = ["1,leo,a.jpg,2020-05-01,,,database,Lions", "2,leo,b.jpg,03.05.2020,,,database,Lions"]
    rows += ["3,mia,c.jpg,5/3/2020,,,database,Lions", "4,ann,d.jpg,2020,,,database,Bears"]
    rows += ["5,bob,e.jpg,,,,database,Bears", "6,eve,f.jpg,May,,,database,Cats"]
    rows += [f"{row},eve,{row}.jpg, ,,,database,Cats" for row in range(7, 13)]
    cats, lions = find_unread_dates(read_catalogue(write_metadata(tmp_path, *rows)))  # which refuses faults
    words = "expected YYYY-MM-DD, found"
    assert cats.startswith(f"Cats: 7 of 7 dates can't be read (row 7, 8, 9, 10, 11, ...): {words} 'May'. Correct them")
    assert lions.startswith(f"Lions: 2 of 3 dates can't be read (row 3, 4): {words} '03.05.2020'. Correct them")


def test_the_dates_of_real_photographs_are_all_read(reid_mini: Path) -> None:
    catalogue = read_catalogue(reid_mini)
    assert (catalogue.table["day"] == catalogue.table["date"]).all()
    assert find_unread_dates(catalogue) == []


def test_a_dataset_of_queries_alone_is_reported_and_is_no_fault(tmp_path: Path) -> None:
    rows = ["1,leo,a.jpg,,,,database,Lions", "2,,b.jpg,,,,query,Lions", "3,,c.jpg,,,,query,Lynxes"]
    rows += ["4,,d.jpg,,,,query,Bears", "5,,e.jpg,,,,query,Bears", "6,,f.jpg,,,,query,"]
    catalogue = read_catalogue(write_metadata(tmp_path, *rows))
    why = "no row has split 'database', so nobody can be named there; its"
    assert find_empty_galleries(catalogue) == [
        f"Bears: {why} 2 queries can only be called new. Add photographs of known individuals",
        f"Lynxes: {why} 1 query can only be called new. Add photographs of known individuals",
    ]


def test_nothing_is_reported_where_every_dataset_has_known_photographs(patterns: Path) -> None:
    assert find_empty_galleries(read_catalogue(patterns)) == []
