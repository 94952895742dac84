"""What `import reid` offers: every name of it, loaded when it is first used."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import reid

EAGER = {"InputError", "Stopped", "__version__"}
"""What needs nothing but Python."""


def typed_imports() -> dict[str, str]:
    """By name, where a type checker finds what `import reid` offers: "module.name"."""
    (block,) = (node for node in ast.parse(Path(reid.__file__).read_text("utf-8")).body if isinstance(node, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    return {alias.asname or alias.name: f"{node.module}.{alias.name}" for node in imports for alias in node.names}


def test_the_list_is_complete_and_sorted() -> None:
    assert set(reid.__all__) == set(typed_imports()) | EAGER
    kinds = [(not name.isupper(), not name[0].isupper(), name) for name in reid.__all__]  # as ruff sorts it
    assert kinds == sorted(kinds)
    assert set(dir(reid)) == set(reid.__all__)


def test_a_name_is_loaded_from_where_a_type_checker_finds_it() -> None:
    assert typed_imports() == reid.SOURCES


@pytest.mark.parametrize("name", reid.__all__)
def test_every_name_is_there_and_documented(name: str) -> None:
    member = getattr(reid, name)
    assert isinstance(member, str) or member.__doc__


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'reid' has no attribute 'recognise'"):
        reid.recognise  # noqa: B018


def test_importing_the_package_loads_neither_torch_nor_pandas() -> None:
    code = "import sys, reid; reid.Recipe, reid.preset, reid.Runtime; print({'torch', 'pandas'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


def test_scoring_does_not_load_torch() -> None:
    code = "import sys, reid; reid.Matches, reid.read_solution, reid.score_submission; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
