"""Whatever bytes come in from outside, they are accepted, or refused with an error in words.

A few tries of every target, the same every time; `python benchmarks/fuzz.py --minutes 10` makes many. What that found
is kept in `tests/corpus` and tried here.
"""

from pathlib import Path

import pytest
from fuzz_targets import CORPUS, TARGETS, mutated, run_target
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

FOUND = sorted(path for path in CORPUS.rglob("*") if path.is_file())


@pytest.mark.parametrize("name", TARGETS)
def test_good_bytes_are_accepted(name: str, tmp_path: Path) -> None:
    assert run_target(TARGETS[name], tmp_path / "folder", TARGETS[name].good())


@pytest.mark.parametrize("path", FOUND, ids=[f"{path.parent.name}-{path.stem}" for path in FOUND])
def test_what_was_once_found_is_refused_or_accepted(path: Path, tmp_path: Path) -> None:
    accepted = run_target(TARGETS[path.parent.name], tmp_path / "folder", path.read_bytes())
    assert not (accepted and path.stem.startswith("refused-"))


@pytest.mark.parametrize("name", TARGETS)
@settings(
    max_examples=40,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_mutated_bytes_are_accepted_or_refused_in_words(name: str, tmp_path: Path, data: st.DataObject) -> None:
    run_target(TARGETS[name], tmp_path / "folder", data.draw(mutated(TARGETS[name])))
