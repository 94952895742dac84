"""The processes that open photographs start clean, keep to one core, and end with the one that asked for them."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import pytest

from reid.config.presets import PRESETS
from reid.config.recipe import Recipe, override
from reid.data import photographs
from reid.data.loading import photograph_batches
from reid.data.photographs import View
from reid.errors import InputError
from reid.retrieval.extractors.rootsift import KeypointConfig

PROGRAM = """
import sys
import time
from pathlib import Path

from reid.images import View, photograph_batches
from reid.recipe import PRESETS, override

first, *paths = [Path(path) for path in sys.argv[1:]]
recipe = override(PRESETS["toy"], ["workers=1", "batch_size=1"])
for opened in photograph_batches([first, *paths], [View(8)] * (1 + len(paths)), recipe, "testing"):
    print(opened.problems, flush=True)
    time.sleep(60 if paths else 0)
"""
"""Opens photographs without asking whether it is the main program; waits after the first of several."""


@pytest.fixture
def photograph(patterns: Path) -> Path:
    return next((patterns / "images").rglob("*.jpg"))


class OneCoreViews(list[View]):
    """Views that are only shown to a process whose OpenCV keeps to one thread."""

    def __getitem__(self, place: Any) -> Any:
        assert cv2.getNumThreads() == 1
        return super().__getitem__(place)


@pytest.fixture
def four_threads() -> Iterator[None]:
    before = cv2.getNumThreads()
    cv2.setNumThreads(4)
    yield
    cv2.setNumThreads(before)


@pytest.mark.usefixtures("four_threads")
def test_workers_are_no_copies_of_this_process_and_keep_to_one_core(
    photograph: Path, tiny_recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy would wait for ever for a lock that another thread held when it was made."""
    monkeypatch.setattr(photographs, "decode", None)  # a copy would have this too
    recipe = replace(tiny_recipe, workers=1)
    (opened,) = photograph_batches([photograph], OneCoreViews([View(16)]), recipe, "testing", [KeypointConfig(size=32)])
    assert opened.problems == [""]


@pytest.mark.parametrize("source", ["pipe", "file"])
def test_workers_need_nothing_of_the_program_that_runs_nor_of_where(
    source: str, photograph: Path, tmp_path: Path
) -> None:
    script, folder = tmp_path / "program.py", tmp_path / "of a stranger"
    script.write_text(PROGRAM)
    folder.mkdir()
    if source == "file":  # a program from a pipe looks for modules in its working folder by itself
        (folder / "cv2.py").write_text("open('ran', 'w')")
    told, words = (PROGRAM, "-") if source == "pipe" else (None, str(script))
    command = [sys.executable, words, str(photograph)]
    done = subprocess.run(command, input=told, cwd=folder, capture_output=True, text=True, check=False)
    assert done.stdout == "['']\n", done.stderr
    assert not (folder / "ran").exists()


def test_workers_and_their_server_end_with_a_process_that_is_killed(photograph: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, *[str(photograph)] * 3]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as asking:
        assert asking.stdout
        assert asking.stdout.readline() == b"['']\n"
        left = descendants(asking.pid)
        assert len(left) >= 3, "multiprocessing's tracker of resources, the server and a worker"
        asking.send_signal(signal.SIGKILL)
    for _ in range(200):  # 20 s are far more than it takes
        if not (left := [process for process in left if is_alive(process)]):
            return
        time.sleep(0.1)
    for process in left:
        os.kill(process, signal.SIGKILL)
    pytest.fail(f"{len(left)} processes outlived the one that asked for them")


def descendants(process: int) -> list[int]:
    """The processes that one started, and those that they started."""
    found = []
    for task in Path(f"/proc/{process}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            found += [child, *descendants(child)]
    return found


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_temporary_folder_too_deep_for_sockets_is_refused_and_the_longest_works(
    photograph: Path, tmp_path: Path
) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    with tempfile.TemporaryDirectory(prefix="/tmp/") as short:
        for length, told in ((75, "['']"), (76, "TMPDIR: expected a path of at most 75 bytes")):
            deep = Path(short) / ("x" * (length - len(short) - 1))
            deep.mkdir()
            command = [sys.executable, str(tmp_path / "program.py"), str(photograph)]
            done = subprocess.run(
                command, env=os.environ | {"TMPDIR": str(deep)}, capture_output=True, text=True, check=False
            )
            assert told in (done.stdout or done.stderr), done.stderr


class DeadlyViews(list[View]):
    """Views that kill the process that looks at one, and leave a mark."""

    mark: Path

    def __getitem__(self, place: Any) -> Any:
        self.mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_that_is_killed_is_told_with_what_to_do(tmp_path: Path) -> None:
    recipe = override(PRESETS["toy"], ["batch_size=2", "workers=1"])
    views = DeadlyViews([View(8)] * 4)
    views.mark = tmp_path / "killed"
    with pytest.raises(InputError, match=r"testing: a process that opens photographs was killed.*--set workers=1"):
        list(photograph_batches([tmp_path / "x"] * 4, views, recipe, "testing"))
    assert views.mark.exists()
