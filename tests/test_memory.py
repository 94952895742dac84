"""Memory that the process keeps, see `reid.runtime.memory`."""

import subprocess
import sys

import pytest

from reid.runtime.memory import keep_freed_memory

resource = pytest.importorskip("resource", reason="only Unix counts page faults")

ROUNDS = """
import resource
from reid.runtime.memory import keep_freed_memory
if {keeps}:
    assert keep_freed_memory()
def fill_and_free():
    return len([bytearray(8_000_000) for _ in range(10)])
fill_and_free()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    fill_and_free()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(keeps: bool) -> int:
    """How many pages the system clears for a process that fills and frees the same 80 MB five times."""
    command = [sys.executable, "-c", ROUNDS.format(keeps=keeps)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_freed_memory_is_used_again_without_asking_the_system() -> None:
    if not keep_freed_memory():
        pytest.skip("the C library is not glibc, which alone can be told")
    assert page_faults(keeps=True) < page_faults(keeps=False) / 10


def test_commands_keep_freed_memory(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[bool] = []
    monkeypatch.setattr("reid.cli.keep_freed_memory", lambda: asked.append(True))
    from reid.cli import main

    assert main(["recipes"]) == 0
    assert capsys.readouterr().out
    assert asked == [True]


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> object:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr("ctypes.CDLL", missing)
    assert not keep_freed_memory()
