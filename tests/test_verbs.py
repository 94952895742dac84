"""`docs/verbs.md` shows what the program says of itself, word for word.

After a change of the command line: `python tests/test_verbs.py > docs/verbs.md`.
"""

import io
import re
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from reid import cli

PAGE = Path(__file__).parents[1] / "docs" / "verbs.md"


def told(*words: str) -> str:
    """What the program says of itself or of a verb."""
    said = io.StringIO()
    with redirect_stdout(said), pytest.raises(SystemExit, match=r"^0$"):
        cli.main([*words, "--help"])
    return said.getvalue()


def verbs() -> list[str]:
    return re.findall(r"^ {4}(\w+)", told(), re.MULTILINE)


def page() -> str:
    parts = ["# The verbs\nWhat `python -m reid --help` and `reid VERB --help` say; `tests/test_verbs.py` wrote it."]
    for words in [(), *((verb,) for verb in verbs())]:
        typed = " ".join(["python -m reid", *words, "--help"])
        parts.append(f"## {''.join(words) or 'reid'}\n```\n$ {typed}\n{told(*words)}```")
    return "\n\n".join(parts) + "\n"


def test_the_page_shows_what_the_program_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert PAGE.read_text("utf-8").split() == page().split()  # where a line is broken differs among Pythons


@pytest.mark.parametrize("verb", ["", *verbs()])
def test_every_argument_is_explained(verb: str) -> None:
    entries = re.findall(r"^ {2,4}([-\w].*(?:\n {5,}.*)*)", told(*filter(None, [verb])), re.MULTILINE)
    assert any(entry.startswith("-h, --help") for entry in entries)
    for entry in set(entries) - {"VERB"}:
        assert re.search(r"\S(?: {2,}|\n +)\w", entry), entry


@pytest.mark.parametrize("verb", verbs())
def test_every_verb_has_an_example_that_the_program_understands(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    example = re.search(rf"Example: python -m reid ({verb} .*)", told(verb))
    assert example
    assert cli.build_parser().parse_args(example[1].split()).verb == verb  # noqa: SLF001 parses what must not run


if __name__ == "__main__":
    print(page(), end="")
