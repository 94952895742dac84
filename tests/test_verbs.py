"""`docs/verbs.md` shows what the program says of itself, word for word.

After a change of the command line: `python tests/test_verbs.py > docs/verbs.md`.
"""

import argparse
import re
from pathlib import Path

import pytest

from reid import cli

PAGE = Path(__file__).parents[1] / "docs" / "verbs.md"


def parsers() -> dict[str, argparse.ArgumentParser]:
    parser = cli._parser()
    (action,) = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return {"": parser, **action.choices}


def page() -> str:
    parts = ["# The verbs\nWhat `python -m reid --help` and `reid VERB --help` say; `tests/test_verbs.py` wrote it."]
    for name, parser in parsers().items():
        typed = " ".join(["python -m reid", *([name] if name else []), "--help"])
        parts.append(f"## {name or 'reid'}\n```\n$ {typed}\n{parser.format_help()}```")
    return "\n\n".join(parts) + "\n"


def test_the_page_shows_what_the_program_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert PAGE.read_text("utf-8").split() == page().split()  # where a line is broken differs among Pythons


@pytest.mark.parametrize("name", parsers())
def test_every_argument_is_explained_and_every_verb_has_an_example(name: str) -> None:
    parser = parsers()[name]
    assert all(action.help for action in parser._actions if name or action.option_strings)
    if name:
        assert re.search(rf"Example: python -m reid {name} ", str(parser.epilog))
        words = str(parser.epilog).split("python -m reid ")[1].split()
        assert cli._parser().parse_args(words).verb == name


if __name__ == "__main__":
    print(page(), end="")
