"""The house holds what it promises: imports go downwards, names exist, and the README says what the program does."""

import ast
import importlib
import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from test_verbs import verbs

from reid import cli
from reid.data.catalogue import read_catalogue
from reid.data.checks import find_unread_dates

ROOT = Path(__file__).parents[1]
ROOMS = {path.stem: path for path in sorted((ROOT / "src" / "reid").glob("*.py"))}


def floors() -> dict[str, int]:
    """The table in CONTRIBUTING.md: `| floor | file | owns |`."""
    rows = re.findall(r"^\| (\d+) \| (.+?) \|", (ROOT / "CONTRIBUTING.md").read_text("utf-8"), re.MULTILINE)
    return {room: int(floor) for floor, files in rows for room in re.findall(r"`(\w+)\.py`", files)}


def imports_of(path: Path) -> set[str]:
    """Which rooms a room imports, wherever in it the import stands."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("reid."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.ImportFrom) and node.module == "reid":
            found |= {alias.name for alias in node.names if alias.name in ROOMS}
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("reid.")}
    return found


def test_every_room_stands_in_the_table_of_floors() -> None:
    assert set(floors()) == set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_imports_only_go_to_a_lower_floor(room: str) -> None:
    upward = {other for other in imports_of(ROOMS[room]) if floors()[other] >= floors()[room]}
    assert not upward, f"{room}.py (floor {floors()[room]}) imports {upward}"


@pytest.mark.parametrize("room", [room for room in ROOMS if room != "__main__"])
def test_every_exported_name_exists(room: str) -> None:
    module = importlib.import_module("reid" if room == "__init__" else f"reid.{room}")
    for name in module.__all__:
        assert hasattr(module, name), name


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
        cli.build_parser().parse_args(words)  # noqa: SLF001 exits, and fails the test, where the README is wrong


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
    assert told == set(verbs())


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


def test_make_alone_prints_the_targets() -> None:
    printed = subprocess.run(["make", "-s"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "make smoke" in printed
    assert "make test" in printed


@pytest.mark.parametrize("target", ["train", "predict", "report"])
def test_a_target_without_photographs_names_both_ways_to_them(target: str, tmp_path: Path) -> None:
    # an environment that is not there, and that no test should make
    words = ["make", "-s", f"INSTALLED={tmp_path}/venv", "PYTHON=false", target, f"DATA={tmp_path}/none"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    told = "expected a folder with metadata.csv, found none there; name yours with DATA=FOLDER (with spaces in it:"
    advice = "DATA=\"'my photographs'\"), or download the competition's with make data\n"
    assert done.stderr.startswith(f"error: {tmp_path}/none: {told} {advice}")


def test_every_requirement_has_its_reason_on_the_line_above() -> None:
    lines = (ROOT / "requirements.txt").read_text("utf-8").splitlines()
    for above, line in itertools.pairwise(lines):
        if line and not line.startswith("#"):
            assert above.startswith("# "), f"{line} has no reason"


def test_every_requirement_is_imported_and_every_import_is_required() -> None:
    names = {"pillow": "PIL", "scikit-learn": "sklearn", "opencv-python-headless": "cv2"}
    lines = (ROOT / "requirements.txt").read_text("utf-8").splitlines()
    required = {re.split(r"[<>=]", line)[0] for line in lines if line and not line.startswith("#")}
    code = "\n".join(path.read_text("utf-8") for path in ROOMS.values())
    imported = set(re.findall(r"^\s*(?:import|from) (\w+)", code, re.MULTILINE))
    used = {name for name in required if names.get(name, name) in imported}
    # kaggle and six are the pushing machine's, never part of the package; torchvision is what timm builds upon
    assert required - used == {"kaggle", "six", "torchvision"}


def test_stages_are_timed_by_a_clock_that_tells_whole_seconds_only(tmp_path: Path) -> None:
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    (bin_folder / "installed").touch()
    (bin_folder / "python").write_text("#!/bin/sh\n")
    # macOS's date: of +%s%N it prints the seconds and an N; every call is 7 seconds later
    clock = 'n=$(($(cat "$0.n" 2>/dev/null || echo 1700000000) + 7)); echo $n >"$0.n"; echo "$n${1#+%s}" | tr -d %'
    (bin_folder / "date").write_text(f"#!/bin/sh\n{clock}\n")
    for program in ("python", "date"):
        (bin_folder / program).chmod(0o755)
    words = [f"BIN={bin_folder}", f"INSTALLED={bin_folder}/installed", f"SMOKE={tmp_path}/smoke"]
    done = subprocess.run(
        ["make", "-s", "-o", f"{bin_folder}/installed", "smoke", *words],
        cwd=ROOT,
        env={**os.environ, "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    times = re.findall(r"^(\w+) +([\d.]+) s$", done.stdout, re.MULTILINE)
    stages = ("draw", "check", "train", "predict", "report", "score", "kernel")
    assert times == [*((stage, "7") for stage in stages), ("total", "49")]


@pytest.mark.parametrize("call", ["score a b", "check a", "train a --out b", "predict a --weights b --out c"])
def test_a_call_that_is_refused_for_its_folder_does_not_load_what_networks_need(call: str, tmp_path: Path) -> None:
    code = f"""
import sys, reid.cli
assert reid.cli.main({call.split()}) == 2
print({{'torch', 'timm', 'torchvision', 'cv2', 'sklearn'}} & set(sys.modules))"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert told.stdout == "set()\n", told.stderr
