"""The README and the pages in docs say what the program does.

docs/recipe.md is made of the settings themselves. After a change of one: `python tests/test_docs.py > docs/recipe.md`.
"""

import re
from pathlib import Path

import pytest
from sources import draw
from test_commands import command_names

from reid import cli
from reid.config.presets import PRESETS
from reid.config.recipe import Recipe, settings_of
from reid.data.catalogue import read_catalogue
from reid.data.table_warnings import find_table_warnings

ROOT = Path(__file__).parents[1]


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def shell_lines() -> list[str]:
    """What the README and the pages in docs tell people to type."""
    text = "\n".join(page.read_text("utf-8") for page in PAGES)
    blocks = re.findall(r"^(?:```(?:sh|bash)\n)(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [line.split("#")[0].strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]


def test_every_command_of_the_readme_is_understood_by_the_program() -> None:
    commands = [line for line in shell_lines() if line.startswith("reid ")]
    assert len(commands) >= 5
    for command in commands:
        cli.build_parser().parse_args(command.split()[1:])  # exits, and fails the test, where the README is wrong


def block_after(words: str) -> str:
    """The first block of the README below these words."""
    text = (ROOT / "README.md").read_text("utf-8").split(words)[1]
    return text.split("```")[1].partition("\n")[2]


def test_the_readmes_example_of_a_table_has_no_fault(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_text(block_after("A data folder holds `metadata.csv`"))
    catalogue = read_catalogue(tmp_path)
    assert catalogue.database.identities == ["Mira", "Mira", "Tarn"]
    assert catalogue.query.image_ids == ["4"]
    assert find_table_warnings(catalogue) == []


def test_the_readmes_way_from_a_folder_per_animal_makes_a_table_without_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for shade, path in enumerate(("Mira/b.jpg", "Mira/c.JPG", "Tarn/a b.png", "new/d.jpeg")):
        draw(tmp_path / "animals" / path, shade=shade)
    (line,) = (line for line in shell_lines() if line.startswith("reid import folder "))
    assert cli.main(line.split()[1:]) == 0
    catalogue = read_catalogue("photographs")
    assert catalogue.database.identities == ["Mira", "Mira", "Tarn"]
    assert list(catalogue.table["split"]) == ["database"] * 3 + ["query"]
    assert set(catalogue.table["dataset"]) == {"Lynx"}


def test_every_command_stands_in_the_readme() -> None:
    table = re.search(
        r"^\| command \| does \|\n\|[-|]+\n(.*?)\n\n", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    assert table
    told = set(re.findall(r"^\| `(\w+) ", table[1], re.MULTILINE))
    assert told == set(command_names())


def test_the_readmes_tree_has_a_phrase_for_every_folder() -> None:
    block = re.search(r"^```\n(src/reid/ .*?)^```", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert block
    lines = block[1].splitlines()
    assert all(len(line.split(maxsplit=1)) == 2 for line in lines)
    named = {line.split()[0].rstrip("/") for line in lines if line.startswith("  ")}
    assert named == {path.parent.name for path in (ROOT / "src" / "reid").glob("*/__init__.py")}
    assert all((ROOT / line.split()[0]).is_dir() for line in lines if not line.startswith("  "))


def test_the_readme_is_short_and_every_page_is_linked_and_there() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    assert len(text.splitlines()) <= 220
    assert {f"docs/{page.name}" for page in PAGES[1:]} <= set(re.findall(r"\((docs/\w+\.md)", text))
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def recipe_page() -> str:
    """Every setting with its default, the values of the presets where they differ, and what it means."""
    lines = [
        "# Every setting",
        "`reid recipes NAME` prints the same for one preset; `--set GROUP.FIELD=VALUE` changes a setting, a `.toml`",
        'file with `base = "frozen"` and a table for each group changes several. A list is written with commas,',
        "`--set augmentation.kinds=flip,rotation`; `--set augmentation.kinds=` empties it. `--set backbone=NAME` is",
        "short for `backbone.name=NAME`. `tests/test_docs.py` wrote this page.",
        "",
        "| setting | default | otherwise | meaning |",
        "|---|---|---|---|",
    ]
    others = {name: settings_of(recipe) for name, recipe in PRESETS.items()}
    for row, (name, _, default, meaning) in enumerate(settings_of(Recipe())):
        differ = [f"`{preset}`: {as_words(rows[row][1])}" for preset, rows in others.items() if rows[row][1] != default]
        lines.append(f"| `{name}` | {as_words(default)} | {', '.join(differ)} | {meaning} |")
    return "\n".join(lines) + "\n"


def as_words(value: object) -> str:
    return ",".join(map(str, value)) or "(empty)" if isinstance(value, tuple) else str(value)


def test_the_page_of_settings_shows_what_the_code_says() -> None:
    assert (ROOT / "docs" / "recipe.md").read_text("utf-8") == recipe_page()


def test_every_error_that_is_explained_is_one_that_the_program_says() -> None:
    table = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")
    explained = re.findall(r"^\| `([^|]+)` \| ", table, re.MULTILINE)
    assert len(explained) > 10
    code = "\n".join(
        path.read_text("utf-8") for folder in ("src/reid", "kernel") for path in (ROOT / folder).rglob("*.py")
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


if __name__ == "__main__":
    print(recipe_page(), end="")
