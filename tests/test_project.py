"""The package holds what it promises: names exist, only commands print, requirements are used, make does as it says."""

import ast
import importlib
import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = {
    ".".join(path.relative_to(ROOT / "src").with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "src" / "reid").rglob("*.py"))
    if path.name == "__init__.py" or path.stem != "__main__"
}


def test_every_exported_name_exists() -> None:
    for name, path in MODULES.items():
        module = importlib.import_module(name)
        if path.read_text("utf-8"):  # a folder's own module may be empty
            assert all(hasattr(module, exported) for exported in module.__all__), name


def test_every_module_says_what_it_is_for() -> None:
    for name, path in MODULES.items():
        if content := path.read_text("utf-8"):
            assert ast.get_docstring(ast.parse(content)), name


def test_only_commands_print() -> None:
    printing = {
        name
        for name, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    }
    assert printing == {"reid.cli", "reid.runtime.progress"}
    results = {name for name, path in MODULES.items() if "print_result(" in path.read_text("utf-8")}
    assert {name for name in results if not name.startswith("reid.commands.")} == {"reid.runtime.progress"}


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
    code = "\n".join(path.read_text("utf-8") for path in MODULES.values())
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
    stages = ("draw", "check", "train", "predict", "report", "score", "discover", "kernel")
    assert times == [*((stage, "7") for stage in stages), ("total", "56")]


@pytest.mark.parametrize("call", ["score a b", "check a", "train a --out b", "predict a --weights b --out c"])
def test_a_call_that_is_refused_for_its_folder_does_not_load_what_networks_need(call: str, tmp_path: Path) -> None:
    code = f"""
import sys, reid.cli
assert reid.cli.main({call.split()}) == 2
print({{'torch', 'timm', 'torchvision', 'cv2', 'sklearn'}} & set(sys.modules))"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert told.stdout == "set()\n", told.stderr
