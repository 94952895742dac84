"""Whatever bytes come in from outside, they are taken or refused in words: nothing else happens.

A short knock at every door, the same every time; `python benchmarks/fuzz.py --minutes 10` is the long one. What that
found lies in `tests/corpus` and is tried here.
"""

from pathlib import Path

import pytest
from doors import CORPUS, DOORS, bent, knock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

FOUND = sorted(path for path in CORPUS.rglob("*") if path.is_file())


@pytest.mark.parametrize("name", DOORS)
def test_good_bytes_are_let_in(name: str, tmp_path: Path) -> None:
    assert knock(DOORS[name], tmp_path / "room", DOORS[name].good())


@pytest.mark.parametrize("path", FOUND, ids=[f"{path.parent.name}-{path.stem}" for path in FOUND])
def test_what_was_once_found_is_refused_or_let_in(path: Path, tmp_path: Path) -> None:
    let_in = knock(DOORS[path.parent.name], tmp_path / "room", path.read_bytes())
    assert not (let_in and path.stem.startswith("refused-"))


@pytest.mark.parametrize("name", DOORS)
@settings(
    max_examples=40,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_bent_bytes_are_let_in_or_refused_in_words(name: str, tmp_path: Path, data: st.DataObject) -> None:
    knock(DOORS[name], tmp_path / "room", data.draw(bent(DOORS[name])))
