"""Memory that the process keeps, see `reid.runtime.memory`, and how a command ends."""

import gc
import os
import platform
import subprocess
import sys

import pytest

from reid import __main__ as program
from reid import cli
from reid.runtime.memory import OWN_SETTINGS, keep_freed_memory

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
    own = {name: value for name, value in os.environ.items() if name not in (*OWN_SETTINGS, "LD_PRELOAD")}
    command = [sys.executable, "-c", ROUNDS.format(keeps=keeps)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True, env=own).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_freed_memory_is_used_again_without_asking_the_system() -> None:
    assert page_faults(keeps=True) < page_faults(keeps=False) / 10


@pytest.mark.parametrize("variable", OWN_SETTINGS)
def test_the_environment_has_the_last_word(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "1000000")
    assert not keep_freed_memory()


def test_commands_keep_freed_memory(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(cli, "keep_freed_memory", lambda: asked.append(True))
    assert cli.main(["recipes"]) == 0
    assert capsys.readouterr().out
    assert asked == [True]


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> object:
        raise OSError(f"{name}: cannot open shared object file")

    for library in (missing, lambda _: object()):  # none of this name, or one without the function, as musl
        monkeypatch.setattr("ctypes.CDLL", library)
        assert not keep_freed_memory()


def test_a_command_ends_without_a_search_for_unused_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def command() -> int:
        done.append("command")
        return 75

    monkeypatch.setattr(cli, "main", command)
    monkeypatch.setattr(gc, "freeze", lambda: done.append("freeze"))
    assert program.main() == 75
    assert done == ["command", "freeze"]
