"""The cache against everything that may happen to its file: what it gives is right, or nothing, and never an error."""

import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from reid.data.photographs import View
from reid.retrieval import cache as cache_module
from reid.retrieval.cache import Arrays, Cache, array_digest, cache_key, photograph_digests

KEYS = [cache_key("embedding", {"network": "n"}, str(number)) for number in range(40)]


def arrays(number: int) -> Arrays:
    """Values of some kinds, another for each number."""
    rng = np.random.default_rng(number)
    return {
        "vector": rng.normal(size=number).astype(np.float32),
        "descriptors": rng.normal(size=(3, 50)).astype(np.float16),
        "nothing": np.zeros((0, 4), np.int64),
    }


def same(one: Arrays | None, other: Arrays) -> bool:
    return one is not None and one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and np.array_equal(one[name], other[name]) for name in one
    )  # fmt: skip


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """A weights folder whose cache has a value for each of the keys."""
    Cache(tmp_path).put_many({key: arrays(number) for number, key in enumerate(KEYS)})
    return tmp_path


def found(folder: Path) -> int:
    """How many of the values are there; all of these must be right."""
    cache, count = Cache(folder), 0
    for number, key in enumerate(KEYS):
        value = cache.get(key)
        assert value is None or same(value, arrays(number))
        count += value is not None
    return count


def test_what_was_put_comes_back_to_the_bit(filled: Path) -> None:
    assert found(filled) == len(KEYS)
    cache = Cache(filled)
    cache.put_many({KEYS[3]: arrays(99)})
    assert same(cache.get(KEYS[3]), arrays(99))
    assert same(Cache(filled).get(KEYS[3]), arrays(99))


def test_where_there_is_no_file_there_is_nothing_and_no_file_is_made(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    assert cache.get(KEYS[0]) is None
    cache.put_many({})
    assert list(tmp_path.iterdir()) == []
    cache.put_many({KEYS[0]: arrays(0)})
    assert same(cache.get(KEYS[0]), arrays(0))
    assert cache.get(KEYS[1]) is None


def test_a_key_tells_everything_apart_but_the_order_of_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    made_with = {"a": 1, "b": [1.5, "x"]}
    keys = [
        cache_key("embedding", made_with, "c"),
        cache_key("keypoints", made_with, "c"),
        cache_key("embedding", made_with, "d"),
        cache_key("embedding", {"a": 1, "b": [1.5, "y"]}, "c"),
        cache_key("embedding", {"a": 1}, "c"),
    ]
    assert cache_key("embedding", {"b": [1.5, "x"], "a": 1}, "c") == keys[0]
    monkeypatch.setattr(cache_module, "CACHE_VERSION", cache_module.CACHE_VERSION + 1)
    keys.append(cache_key("embedding", made_with, "c"))
    assert len(set(keys)) == len(keys)


def another_table(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE entries (name TEXT)")
        connection.commit()


DAMAGES: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("this is no database, but a text that is as long as a header of SQLite" * 9),
    "cut": lambda path: os.truncate(path, path.stat().st_size // 2),
    "header only": lambda path: os.truncate(path, 100),
    "zeros": lambda path: path.write_bytes(path.read_bytes()[:4096] + bytes(path.stat().st_size - 4096)),
    "another table": another_table,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_as_good_as_none_and_replaced(damage: str, filled: Path) -> None:
    (path,) = (filled / "cache").iterdir()
    DAMAGES[damage](path)
    assert found(filled) < len(KEYS)
    cache = Cache(filled)
    for number, key in enumerate(KEYS):
        if cache.get(key) is None:
            cache.put_many({key: arrays(number)})
    again = Cache(filled)
    again.put_many({key: arrays(number) for number, key in enumerate(KEYS) if again.get(key) is None})
    assert found(filled) == len(KEYS)


def test_a_flipped_bit_anywhere_gives_the_right_value_or_none(filled: Path) -> None:
    (path,) = (filled / "cache").iterdir()
    content, rng, lost = path.read_bytes(), random.Random(0), 0
    for _ in range(150):
        flipped = bytearray(content)
        flipped[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(flipped)
        lost += found(filled) < len(KEYS)
    assert lost > 50


def test_a_value_under_anothers_key_is_none(filled: Path) -> None:
    with closing(sqlite3.connect(Cache(filled).path)) as connection:
        rows = connection.execute("SELECT key, checksum, value FROM entries").fetchall()
        (first, *_), (other, checksum, value) = rows[:2]
        connection.execute("UPDATE entries SET checksum = ?, value = ? WHERE key = ?", (checksum, value, first))
        connection.execute("UPDATE entries SET checksum = 7, value = 'text' WHERE key = ?", (other,))
        connection.commit()
    assert found(filled) == len(KEYS) - 2


def test_a_place_that_cannot_be_written_costs_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    (tmp_path / "file" / "cache").write_text("a file where the folder should be")
    (tmp_path / "folder" / "cache" / "cache.sqlite").mkdir(parents=True)
    (tmp_path / "pipe" / "cache").mkdir(parents=True)
    os.mkfifo(tmp_path / "pipe" / "cache" / "cache.sqlite")
    for name in ("file", "folder", "pipe"):
        cache = Cache(tmp_path / name)
        cache.put_many({KEYS[0]: arrays(0)})
        assert cache.get(KEYS[0]) is None
    assert (tmp_path / "file" / "cache").is_file()
    assert (tmp_path / "folder" / "cache" / "cache.sqlite").is_dir()


READ_ONLY = """
import os, sys
from pathlib import Path
import numpy as np
from reid.retrieval.cache import Cache

if os.geteuid() == 0:  # root may write everywhere
    os.seteuid(65534)
cache = Cache(Path(sys.argv[1]))
known = cache.get(sys.argv[2])
cache.put_many({sys.argv[3]: {"x": np.zeros(1)}})
assert cache.get(sys.argv[3]) is None
assert cache.get(sys.argv[2])["vector"].tolist() == known["vector"].tolist()
print(len(known["vector"]))
"""


def test_what_may_only_be_read_is_read(filled: Path) -> None:
    with tempfile.TemporaryDirectory() as place:  # not in pytest's, which only its owner may enter
        folder = Path(place) / "weights"
        shutil.copytree(filled / "cache", folder / "cache")
        for path in (Path(place), folder, folder / "cache"):
            path.chmod(0o555)
        (folder / "cache" / "cache.sqlite").chmod(0o444)
        words = [sys.executable, "-c", READ_ONLY, str(folder), KEYS[5], "00" * 32]
        ran = subprocess.run(words, capture_output=True, text=True)
        for path in (Path(place), folder, folder / "cache"):
            path.chmod(0o755)
    assert (ran.returncode, ran.stdout) == (0, "5\n"), ran.stderr


def test_a_locked_file_is_given_up_at_once(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wait for each of 10,000 photographs would take a day."""
    monkeypatch.setattr(cache_module, "TIMEOUT", 0.01)
    reader, writer = Cache(filled), Cache(filled)
    with closing(sqlite3.connect(reader.path)) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert reader.get(KEYS[0]) is None
        writer.put_many({KEYS[0]: arrays(7)})
    assert reader.get(KEYS[0]) is None
    writer.put_many({KEYS[0]: arrays(8)})
    assert found(filled) == len(KEYS)


STOPPED = """
import os, sqlite3, sys

connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_size = 1")
connection.execute("BEGIN IMMEDIATE")
connection.execute("UPDATE entries SET value = zeroblob(20000)")
os._exit(0)
"""


def test_what_a_killed_process_has_half_written_is_undone(filled: Path) -> None:
    subprocess.run([sys.executable, "-c", STOPPED, str(Cache(filled).path)], check=True)
    assert len(list((filled / "cache").iterdir())) == 2  # the journal
    assert found(filled) == len(KEYS)


WRITER = """
import sys
from pathlib import Path
import numpy as np
from reid.retrieval.cache import Cache, cache_key

cache = Cache(Path(sys.argv[1]))
sys.stdin.readline()
for start in range(0, 300, 3):
    numbers = range(start, start + 3)
    cache.put_many({cache_key(sys.argv[2], {}, str(one)): {"x": np.full(700, one)} for one in numbers})
"""


def test_processes_may_write_at_once(tmp_path: Path) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), name], stdin=subprocess.PIPE) for name in "ab"
    ]
    for writer in writers:
        assert writer.stdin
        writer.stdin.write(b"\n")
        writer.stdin.close()
    assert [writer.wait() for writer in writers] == [0, 0]
    cache = Cache(tmp_path)
    for name in "ab":
        for one in range(300):
            assert same(cache.get(cache_key(name, {}, str(one))), {"x": np.full(700, one)})


def test_threads_may_share_a_cache(tmp_path: Path) -> None:
    cache = Cache(tmp_path)

    def turn(number: int) -> bool:
        key = cache_key("x", {}, str(number))
        cache.put_many({key: arrays(number)})
        return same(cache.get(key), arrays(number))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(turn, range(200)))


@pytest.fixture
def photographs(tmp_path: Path) -> Iterator[list[Path]]:
    for name, content in (("a", b"1"), ("b", b"2"), ("c", b"1")):
        (tmp_path / name).write_bytes(content)
    os.mkfifo(tmp_path / "pipe")
    yield [tmp_path / name for name in ("a", "b", "c", "pipe", "none", ".")]


def test_photographs_are_told_apart_by_their_content_and_view(photographs: list[Path]) -> None:
    one, other, copy, *unreadable = photograph_digests(photographs, [View(64)] * 6)
    assert one == copy != other
    assert unreadable == [""] * 3
    (turned,) = photograph_digests(photographs[:1], [View(64, turn=90)])
    assert turned != one


def test_arrays_are_told_apart_by_their_names_shapes_and_bits() -> None:
    values = np.arange(6, dtype=np.float32)
    some: list[Arrays] = [
        {"a": values},
        {"b": values},
        {"a": values.reshape(2, 3)},
        {"a": values.view(np.int32)},
        {"a": np.nextafter(values, 9)},
        {"a": values, "b": values},
    ]
    assert len({array_digest(one) for one in some}) == len(some)
    assert array_digest({"a": values.copy()}) == array_digest(some[0])
