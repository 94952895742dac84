"""The README says what the program does."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from test_commands import command_names

from reid import cli
from reid.data.catalogue import read_catalogue
from reid.data.checks import find_unread_dates

ROOT = Path(__file__).parents[1]


def shell_lines() -> list[str]:
    """What the README tells people to type."""
    blocks = re.findall(
        r"^(?:```(?:sh|bash)\n)(.*?)^```", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    return [line.split("#")[0].strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]


def test_every_command_of_the_readme_is_understood_by_the_program() -> None:
    commands = [line for line in shell_lines() if "-m reid " in line]
    assert len(commands) >= 6
    for command in commands:
        words = command.split("-m reid ")[1].split()
        cli.build_parser().parse_args(words)  # exits, and fails the test, where the README is wrong


def block_after(words: str) -> str:
    """The first block of the README below these words."""
    text = (ROOT / "README.md").read_text("utf-8").split(words)[1]
    return text.split("```")[1].partition("\n")[2]


def test_the_readmes_example_of_a_table_has_no_fault(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_text(block_after("A data folder holds `metadata.csv`"))
    catalogue = read_catalogue(tmp_path)
    assert catalogue.database.identities == ["Mira", "Mira", "Tarn"]
    assert catalogue.query.image_ids == ["4"]
    assert find_unread_dates(catalogue) == []


def test_the_readmes_way_from_a_folder_per_animal_makes_a_table_without_fault(tmp_path: Path) -> None:
    photographs = ["photos/Mira/b.jpg", "photos/Mira/c.JPG", "photos/Tarn/a b.png", "queries/d.jpeg"]
    for path in (*photographs, "photos/Mira/notes.txt"):
        (tmp_path / "photographs" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photographs" / path).touch()
    subprocess.run([sys.executable, "-c", block_after("From a folder per animal")], cwd=tmp_path, check=True)
    catalogue = read_catalogue(tmp_path / "photographs")
    assert list(catalogue.table["path"]) == photographs
    assert catalogue.database.identities == ["Mira", "Mira", "Tarn"]
    assert list(catalogue.table["split"]) == ["database"] * 3 + ["query"]
    assert set(catalogue.table["dataset"]) == {"Lynx"}


def test_every_verb_stands_in_the_readme() -> None:
    table = re.search(
        r"^\| verb \| does \|\n(.*?)\n\n", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    assert table
    told = set(re.findall(r"^\| `(\w+) ", table[1], re.MULTILINE))
    assert told == set(command_names())


def tree() -> dict[str, set[str]]:
    """The README's file tree: the names below each folder."""
    text = (ROOT / "README.md").read_text("utf-8")
    block = re.search(r"^## The house\n\n```\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert block
    folders: dict[str, set[str]] = {}
    for line in block[1].splitlines():
        name, phrase = line.split(maxsplit=1)
        assert phrase, line
        if line.startswith("  "):
            folders[next(reversed(folders))].add(name)
        else:
            folders[name.rstrip("/")] = set()
    return folders


@pytest.mark.parametrize("folder", ["src/reid", "kernel", "benchmarks", "docs"])
def test_the_readmes_tree_has_a_phrase_for_every_file(folder: str) -> None:
    there = {path.name for path in (ROOT / folder).iterdir() if path.is_file()}
    assert tree()[folder] == there


def test_every_error_that_the_readme_explains_is_one_that_the_program_says() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    table = text.split("## When it says `error:`")[1].split("\n## ")[0]
    explained = re.findall(r"^\| `([^|]+)` \| ", table, re.MULTILINE)
    assert len(explained) > 10
    code = "\n".join(
        path.read_text("utf-8") for folder in ("src/reid", "kernel") for path in (ROOT / folder).glob("*.py")
    )
    joined = re.sub(r'"\s*\n\s*f?"', "", code)  # messages that are broken over lines
    for message in explained:
        for part in message.split("..."):
            assert part.strip() in joined, message


def test_every_make_target_of_the_readme_exists_and_every_target_is_explained() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    makefile = (ROOT / "Makefile").read_text("utf-8").replace("\\\n", "")
    explained = set(re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE))
    phony = set(re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[1].split())  # type: ignore[index]
    told = set(re.findall(r"`?make ([a-z-]+)", "\n".join(shell_lines()))) | set(re.findall(r"`make ([a-z-]+)", text))
    assert told <= explained
    assert explained == phony
