"""The bundle and the kernel's entry: what is bundled, what is refused, and where Kaggle may have mounted things."""

import ast
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from PIL import Image
from processes import Deadly, Witness
from safetensors.torch import load_file, save_file

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "kernel"))

import bundle  # noqa: E402
import dry_run  # noqa: E402
import entry  # noqa: E402
import kaggle_commands  # noqa: E402

from reid import cli  # noqa: E402
from reid.config.runtime import Runtime  # noqa: E402
from reid.data.catalogue import read_catalogue, rows_to_predict  # noqa: E402
from reid.decision.artifact import Weights, open_weights  # noqa: E402
from reid.decision.calibration import load_calibrations  # noqa: E402
from reid.decision.decide import join_matches  # noqa: E402
from reid.decision.discover import discover  # noqa: E402
from reid.decision.discovered import Clusters, Cut  # noqa: E402
from reid.decision.predict import predict  # noqa: E402
from reid.errors import InputError  # noqa: E402
from reid.report import cluster_summary, report  # noqa: E402
from reid.runtime.distributed import core_count  # noqa: E402
from reid.runtime.files import sha256_of, write_json  # noqa: E402

DEMO = {
    "demo/__init__.py": (
        '"""A package whose names come from modules that are loaded when they are used."""\n\n'
        "from typing import TYPE_CHECKING\n\n"
        "if TYPE_CHECKING:\n    from demo.training.loop import train\n\n"
        '__version__ = "1"\n\n\n'
        "def __getattr__(name):\n    import importlib\n\n"
        "    return getattr(importlib.import_module('demo.training.loop'), name)\n"
    ),
    "demo/base/__init__.py": "",
    "demo/base/py.typed": "",
    "demo/base/page.html.j2": "<p>{{ words }} \\ {# not escaped #}</p>\n",
    "demo/base/unused.py": "import filelock\n",
    "demo/base/unused.html.j2": "<p>of a module that is not bundled</p>\n",
    "demo/base/values.py": (
        '"""A module that others need."""\n\nfrom importlib.resources import files\n\n'
        'SLASHES = "a\\\\b\\n\\t"  # backslashes: \\ \\n \\x41 \\N{DEGREE SIGN}\n'
        'PAGE = (files("demo.base") / "page.html.j2").read_text()\n\n\n'
        "def square(number):\n    return number * number\n\n\n"
        'def fail():\n    raise RuntimeError("on purpose")  # the line that the traceback must name\n'
    ),
    "demo/training/__init__.py": "",
    "demo/training/loop.py": "import kaggle\n\nx = '''\n'''\n\n\ndef train():\n    pass\n",
    "demo/training/table.csv": "a,b\r\n",
    "demo/work.py": (
        "import multiprocessing\nimport typing\nfrom concurrent.futures import ProcessPoolExecutor\n"
        "from demo.base.values import square\n\n"
        "if typing.TYPE_CHECKING:\n    import demo.training.loop\nelse:\n    import demo.base.values\n\n\n"
        "def squares(method):\n"
        "    with ProcessPoolExecutor(1, multiprocessing.get_context(method)) as pool:\n"
        "        return list(pool.map(square, range(4)))\n"
    ),
    "entry.py": (
        "import subprocess\nimport sys\n\nfrom demo import __version__\nfrom demo.base import values\n\n\n"
        "def main(arguments, script, name, bundle, weights, wheels):\n"
        "    from demo.work import squares\n\n"
        "    print(__file__)\n    print(repr(values.SLASHES))\n    print(repr(values.PAGE))\n"
        "    if arguments == ['fail']:\n        values.fail()\n"
        "    for method in arguments:\n        print(method, squares(method))\n"
        "    done = subprocess.run([sys.executable, '-c', 'import demo.base.values'], capture_output=True)\n"
        "    print('a new process finds the modules:', done.returncode == 0)\n    return 0\n"
    ),
}
"""A package and an entry. What the entry does not reach would be refused."""

IN_DEMO = ["demo/base/page.html.j2", "demo/__init__.py", "demo/base/__init__.py", "demo/base/values.py", "demo/work.py"]


def write_demo(folder: Path, changes: dict[str, str | bytes | None] | None = None) -> Path:
    for name, text in (DEMO | (changes or {})).items():
        if text is not None:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def sources_of(folder: Path) -> list[bundle.Source]:
    return bundle.read_sources(folder / "demo", folder / "entry.py", {"torch"})


def bundle_demo(folder: Path) -> str:
    return bundle.bundle(sources_of(folder), "commit 0")


def sources_of_the_kernel() -> list[bundle.Source]:
    allowed = bundle.allowed_modules(ROOT / "requirements.txt")
    return bundle.read_sources(ROOT / "src" / "reid", ROOT / "kernel" / "entry.py", allowed)


def bare(script: Path, *words: object, home: Path) -> subprocess.CompletedProcess[str]:
    """Runs a script in an interpreter that sees the installed packages, but neither this checkout nor its .pth file."""
    packages = [path for path in sys.path if path.endswith("-packages")]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "KAGGLE_"))}
    dead = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    environment |= {"PYTHONPATH": os.pathsep.join(packages), "TMPDIR": str(home), "HOME": str(home), **dead}
    command = [sys.executable, "-S", str(script), *map(str, words)]
    return subprocess.run(command, env=environment, cwd=script.parent, capture_output=True, text=True, check=False)


# the bundle


def test_the_bundle_is_the_same_to_the_byte_wherever_and_whenever_it_is_made(tmp_path: Path) -> None:
    made = []
    for place, surroundings in [("a", {"PYTHONHASHSEED": "1"}), ("b", {"PYTHONHASHSEED": "2", "TZ": "Asia/Tokyo"})]:
        command = [sys.executable, str(ROOT / "kernel" / "bundle.py"), "--out", str(tmp_path / place)]
        done = subprocess.run(command, cwd=tmp_path, env=os.environ | surroundings, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        made.append((tmp_path / place / bundle.NAME).read_bytes())
        assert f"sha256 {hashlib.sha256(made[-1]).hexdigest()}" in done.stdout
        assert f"{len(made[-1]):,} of 900,000 bytes" in done.stdout
    assert made[0] == made[1]
    assert str(ROOT).encode() not in made[0]


def test_every_source_stands_in_it_as_it_was_written_below_its_heading() -> None:
    sources = sources_of_the_kernel()
    text = bundle.bundle(sources, "commit 1234")
    for source in sources:
        assert f'\n# ==== {source.origin} ====\nFILES["{source.name}"] = ' in text
        assert (ROOT / source.origin).read_text("utf-8") in text
    head = text[: text.index("FILES[")]
    for words in ("GENERATED, DO NOT EDIT", "From commit 1234.", "python kernel/bundle.py --out build/kernel"):
        assert words in head
    order = [source.name for source in sources]
    assert order[-1] == bundle.ENTRY
    layers = [
        "runtime/files.py",
        "data/catalogue.py",
        "retrieval/gallery.py",
        "decision/predict.py",
        "report/report.py",
    ]
    modules = [f"reid/{name}" for name in layers]
    assert [name for name in order if name in modules] == modules


def test_only_what_the_entry_reaches_is_bundled(tmp_path: Path) -> None:
    assert [source.name for source in sources_of(write_demo(tmp_path))] == [*IN_DEMO, bundle.ENTRY]


def test_the_kernel_does_without_training_commands_and_drawn_worlds() -> None:
    names = {source.name for source in sources_of_the_kernel()}
    left_out = {"reid/cli.py", "reid/__main__.py", "reid/data/synthetic.py"}
    assert (ROOT / "src/reid/data/synthetic.py").is_file()
    assert not names & left_out
    assert not [name for name in names if name.startswith(("reid/training/", "reid/commands/"))]


def test_every_module_that_python_loads_for_the_kernel_is_bundled() -> None:
    code = "import entry, reid.report.report, sys; print(*[name for name in sys.modules if name.startswith('reid')])"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT / "kernel")])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    bundled = {source.name.removesuffix(".py").removesuffix("/__init__") for source in sources_of_the_kernel()}
    loaded = {name.replace(".", "/") for name in done.stdout.split()}
    assert len(loaded) > 30
    assert loaded <= bundled


def test_the_bundles_hash_tells_sources_and_weights_apart_but_not_commits(tmp_path: Path) -> None:
    sources = sources_of(write_demo(tmp_path))
    changed = [*sources[:-1], replace(sources[-1], text=sources[-1].text + "# a comment\n")]

    def identity(text: str) -> str:
        return re.search(r'^BUNDLE = "(\w+)"$', text, re.MULTILINE)[1]  # type: ignore[index]

    usual = identity(bundle.bundle(sources, "commit 0"))
    assert identity(bundle.bundle(sources, "commit 1")) == usual
    assert identity(bundle.bundle(sources, "commit 0", weights="f" * 64)) != usual
    assert identity(bundle.bundle(changed, "commit 0")) != usual


VALUES, ENTRY = "demo/base/values.py", "entry.py"


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        (VALUES, "x = '''\ny\n'''\n", "values.py:1: can't be bundled: ''' would end the string"),
        (VALUES, "x = 1\n\ny = '\\''''\n", "values.py:3: can't be bundled: '''"),
        (VALUES, b"x = 1\ny = '\xff'\n", "values.py:2: expected UTF-8, found byte 0xff"),
        (VALUES, b"x = 1\r\n", "values.py:1: can't be bundled: a carriage return"),
        (VALUES, "x = 1\ny = '\0'\n", "values.py:2: can't be bundled: Python reads no NUL byte"),
        (VALUES, "\ufeffx = 1\n", "values.py:1: can't be bundled: a byte order mark"),
        (VALUES, "x = 1", "values.py:1: expected a line end at the end of the file"),
        (VALUES, "x = 1\nx +\n", "values.py:2: this is no Python"),
        (VALUES, "def f():\n    import kaggle\n", "values.py:2: kaggle is not on Kaggle's image; import it in modules"),
        (VALUES, "import six\n", "values.py:1: six is not on Kaggle's image"),
        (VALUES, "from filelock import FileLock\n", "values.py:1: filelock is not on Kaggle's image"),
        (VALUES, "import os, cv2.dnn\n", "values.py:1: cv2 is neither in the standard library nor in"),
        (VALUES, "from .. import x\n", "values.py:1: expected absolute imports, found a relative one"),
        (VALUES, "from .other import x\n", "values.py:1: expected absolute imports"),
        (VALUES, "from demo.lost import x\n", "values.py:1: there is no module demo.lost; fix the import or add the"),
        (VALUES, "try:\n    import demo.base.lost\nexcept ImportError:\n    pass\n", "values.py:2: there is no module"),
        (VALUES, "import demo.training.loop\n", "training/loop.py:3: can't be bundled: ''' would end the string"),
        (VALUES, "import demo.training\n", "training/table.csv:1: can't be bundled: a carriage return"),
        (VALUES, "from demo.work import squares\n", "a circle: demo/base/values.py -> demo/work.py -> demo/base/val"),
        (ENTRY, "\nimport demo.lost\n", "entry.py:2: there is no module demo.lost"),
        (
            ENTRY,
            "from demo import train\n",
            "entry.py:1: demo/__init__.py does not define train, nor is there a module",
        ),
        ("demo/base/page.html.j2", b"<p>\r\n", "page.html.j2:1: can't be bundled: a carriage return"),
    ],
)
def test_what_cannot_be_bundled_is_refused_with_its_place(
    name: str, text: str | bytes, words: str, tmp_path: Path
) -> None:
    with pytest.raises(bundle.BundleError, match=re.escape(words)):
        bundle_demo(write_demo(tmp_path, {name: text}))


@pytest.mark.parametrize(
    ("package", "line", "words"),
    [
        ("demo", "from demo import __version__", r"entry\.py:1: there is no module demo;"),
        ("demo/base", "from demo.base import values", r"entry\.py:1: there is no module demo\.base;"),
        (
            "demo/base",
            "import demo.base.values",
            r"demo/base/__init__\.py: expected a source file, but it can't be read",
        ),
    ],
)
def test_a_folder_without_init_is_no_package(package: str, line: str, words: str, tmp_path: Path) -> None:
    (write_demo(tmp_path, {"entry.py": f"{line}\n"}) / package / "__init__.py").unlink()
    with pytest.raises(bundle.BundleError, match=words):
        bundle_demo(tmp_path)


def test_a_script_that_kaggle_would_refuse_is_not_built(tmp_path: Path) -> None:
    long = "# a line of sixty characters, to be repeated again and again\n" * 15_000
    with pytest.raises(bundle.BundleError, match=r"expected 900,000 bytes at most.*The largest: .*values\.py 9"):
        bundle_demo(write_demo(tmp_path, {VALUES: DEMO[VALUES] + long}))


def test_refusals_end_the_command_with_status_2_and_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bundle.main(["--out", str(tmp_path / "out"), "--weights", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "manifest.json: expected the manifest of a weights folder, found none; run `make train`" in error
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").write_text("a file\n")
    assert bundle.main(["--out", str(tmp_path / "out")]) == 2
    assert "out/animal_reid.py: could not be written (File exists); name a folder with --out" in capsys.readouterr().err


def test_processes_tracebacks_and_texts_find_the_modules(tmp_path: Path) -> None:
    """One bundle, run by another name: every way to start a process, a program of its own, an error in a module."""
    text = bundle_demo(write_demo(tmp_path / "demo"))
    (tmp_path / "src").mkdir()
    (tmp_path / "tmp").mkdir()
    script = tmp_path / "src" / "script.py"
    script.write_text(text)
    done = bare(script, "fork", "spawn", "forkserver", home=tmp_path / "tmp")
    assert done.returncode == 0, done.stderr
    place, slashes, page, *rest = done.stdout.splitlines()
    assert re.fullmatch(rf"{tmp_path}/tmp/reid-[0-9a-f]{{16}}-\w+/kernel_entry\.py", place)
    assert ast.literal_eval(slashes) == "a\\b\n\t"
    assert ast.literal_eval(page) == DEMO["demo/base/page.html.j2"]
    assert rest == [f"{method} [0, 1, 4, 9]" for method in ("fork", "spawn", "forkserver")] + [
        "a new process finds the modules: True"
    ]
    assert not list((tmp_path / "tmp").glob("reid-*")), "the files must be removed at the end"

    done = bare(script, "fail", home=tmp_path / "tmp")
    assert done.returncode == 1
    line = str(DEMO[VALUES]).split("raise RuntimeError")[0].count("\n") + 1
    assert re.search(rf'demo/base/values\.py", line {line}, in fail\n +raise RuntimeError\("on purpose"\)', done.stderr)

    script.write_text(text.replace("return number * number", "return number * 2"))
    done = bare(script, home=tmp_path / "tmp")
    assert done.returncode == 2
    assert done.stderr == "error: demo/base/values.py: it is not what was bundled. Edit the source and build again\n"


def test_the_banner_names_the_last_commit_that_changed_the_sources(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    for part in ("src/reid", "kernel"):
        shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "requirements.txt", copy)
    names = {f"GIT_{who}_{what}": "ada@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    surroundings = os.environ | names | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CEILING_DIRECTORIES": str(tmp_path)}

    def git(*words: str) -> str:
        command = ["git", "-C", str(copy), *words]
        return subprocess.run(command, env=surroundings, check=True, capture_output=True, text=True).stdout.strip()

    def banner() -> str:
        command = [sys.executable, str(copy / "kernel" / "bundle.py"), "--out", str(tmp_path / "out")]
        subprocess.run(command, env=surroundings, check=True, capture_output=True)
        return re.search(r"^# From (.*?)\. In it", (tmp_path / "out" / bundle.NAME).read_text(), re.MULTILINE)[1]  # type: ignore[index]

    assert banner() == "sources outside a git repository"
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    first = git("rev-parse", "HEAD")
    assert banner() == f"commit {first}"
    (copy / "README.md").write_text("words\n")
    git("add", ".")
    git("commit", "-qm", "second")
    assert banner() == f"commit {first}"
    module = copy / "src" / "reid" / "runtime" / "progress.py"
    module.write_text("# changed\n" + module.read_text())
    assert banner() == f"commit {first} + uncommitted changes"


# where Kaggle mounts things


def mount(source: Path, folder: Path) -> Path:
    shutil.copytree(source, folder)
    return folder


@pytest.mark.parametrize(
    ("data", "weights"),
    [
        ("animal-clef-2025", "animal-reid-weights"),
        ("animal-clef-2026", "animal-reid-weights-2026"),
        ("competitions/animal-clef-2026", "datasets/some-kaggler/animal-reid-weights-2026"),
        ("competitions/animal-clef-2025", "datasets/some-kaggler/animal-reid-weights"),
        ("competitions/animal-clef-2025/data", "datasets/some-kaggler/animal-reid-weights/versions/3"),
        ("competitions/animal-clef-2025", "animal-reid-weights/weights"),
    ],
)
def test_data_and_weights_are_found_wherever_kaggle_mounts_them(
    data: str, weights: str, patterns: Path, patterns_weights: Path, tmp_path: Path
) -> None:
    data_folder = mount(patterns, tmp_path / "input" / data)
    weights_folder = mount(patterns_weights, tmp_path / "input" / weights)
    (tmp_path / "input" / "datasets" / "eve" / "web").mkdir(parents=True)
    (tmp_path / "input" / "datasets" / "eve" / "web" / "manifest.json").write_text('{"name": "a web page"}')
    assert entry.find_data(tmp_path / "input") == data_folder
    assert entry.find_weights(tmp_path / "input") == weights_folder


def test_one_dataset_under_its_old_and_its_new_mount_is_one(patterns: Path, tmp_path: Path) -> None:
    mount(patterns, tmp_path / "input" / "competitions" / "animal-clef-2025")
    mount(patterns, tmp_path / "input" / "animal-clef-2025")
    (tmp_path / "input" / "again").symlink_to(tmp_path / "input")
    assert entry.find_data(tmp_path / "input") == tmp_path / "input" / "animal-clef-2025"


def test_several_candidates_are_listed(patterns_weights: Path, tmp_path: Path) -> None:
    one = mount(patterns_weights, tmp_path / "input" / "one")
    other = mount(patterns_weights, tmp_path / "input" / "other")
    manifest = json.loads((other / "manifest.json").read_text())
    (other / "manifest.json").write_text(json.dumps(manifest | {"torch": "0.1"}))
    with pytest.raises(InputError) as refused:
        entry.find_weights(tmp_path / "input")
    assert "expected one weights folder with manifest.json, found " in str(refused.value)
    assert f"{one}, {other}. Keep one under Input" in str(refused.value)


def test_the_files_of_two_competitions_are_not_mixed_up(patterns: Path, patterns_2026: Path, tmp_path: Path) -> None:
    mount(patterns, tmp_path / "input" / "competitions" / "animal-clef-2025")
    mount(patterns_2026, tmp_path / "input" / "competitions" / "animal-clef-2026")
    with pytest.raises(InputError, match=r"found .*animal-clef-2025, .*animal-clef-2026\. Keep one under Input"):
        entry.find_data(tmp_path / "input")


def test_what_is_missing_is_named_with_all_that_is_there(patterns: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected the folder that Kaggle mounts, found none"):
        entry.find_data(tmp_path / "input")
    mount(patterns, tmp_path / "input" / "competitions" / "another-contest")
    (tmp_path / "input" / "competitions" / "another-contest" / "sample_submission.csv").unlink()
    with pytest.raises(InputError) as refused:
        entry.find_data(tmp_path / "input")
    error = str(refused.value)
    assert "expected a folder with metadata.csv and sample_submission.csv, found none" in error
    assert "competition_sources in kernel-metadata.json" in error
    assert "another-contest: images metadata.csv solution.csv" in error
    with pytest.raises(InputError, match=r"expected a weights folder with manifest\.json, found none\. Run `make pu"):
        entry.find_weights(tmp_path / "input")


def test_the_folders_of_photographs_are_not_listed(
    patterns: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mount(patterns, tmp_path / "input" / "competitions" / "animal-clef-2025")
    scan, listed = os.scandir, []

    def noted(folder: Path) -> Any:
        listed.append(folder)
        return scan(folder)

    monkeypatch.setattr(os, "scandir", noted)
    assert entry.find_data(tmp_path / "input")
    with pytest.raises(InputError, match="found none"):
        entry.find_weights(tmp_path / "input")
    assert len(listed) > 4
    assert not [folder for folder in listed if "images" in folder.parts]


# the run


@pytest.fixture
def kernel_input(patterns: Path, patterns_weights: Path, tmp_path: Path) -> Path:
    mount(patterns, tmp_path / "input" / "competitions" / "animal-clef-2025")
    mount(patterns_weights, tmp_path / "input" / "datasets" / "some-kaggler" / "animal-reid-weights")
    return tmp_path / "input"


@pytest.fixture
def run(kernel_input: Path, tmp_path: Path) -> Callable[..., int]:
    """Runs the entry on a tiny world; `weights` is the manifest that it insists on."""
    script = tmp_path / "script.py"
    script.write_text("# the script\n")

    def main(*words: object, weights: str = "") -> int:
        arguments = ["--input", str(kernel_input), "--output", str(tmp_path / "working"), *map(str, words)]
        return entry.main(arguments, script=str(script), name="animal_reid.py", bundle="b" * 64, weights=weights)

    return main


def test_it_may_write_where_it_lies(kernel_input: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = tmp_path / "animal_reid.py"
    script.write_text("# the script\n")
    words = ["--input", str(kernel_input), "--output", str(tmp_path)]
    assert entry.main(words, script=str(script), name=script.name, bundle="b" * 64, weights="") == 0
    assert script.read_text() == "# the script\n"
    assert (tmp_path / "run.json").exists()


def test_it_leaves_what_it_promises_and_nothing_else(
    run: Callable[..., int], kernel_input: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run() == 0
    working = tmp_path / "working"
    left = {path.name for path in working.iterdir()}
    assert left == {
        "submission.csv",
        "submission.matches.csv",
        "run.json",
        "report.html",
        "contact_sheet.jpg",
        "animal_reid.py",
    }
    assert (working / "animal_reid.py").read_text() == "# the script\n"
    record = json.loads((working / "run.json").read_text())
    assert record["bundle"] == "b" * 64
    assert record["submission"] == sha256_of(working / "submission.csv")
    assert record["weights"] == sha256_of(kernel_input / "datasets/some-kaggler/animal-reid-weights/manifest.json")
    assert record["report"] == "written"
    assert set(record["share_new"]) == {"Checks", "Dots"}
    assert {"torch", "timm", "pandas", "python"} <= set(record["versions"])
    assert {"check", "predict", "report"} <= set(record["seconds"])
    printed = capsys.readouterr()
    assert printed.out.endswith(f"\nwrote 28 answers to {working / 'submission.csv'}\n")
    warning = "\nwarning: no GPU: the networks alone need less than a minute on this processor"
    assert printed.err.count(warning) == 1
    assert f"photographs: {kernel_input}" in printed.err


@pytest.mark.parametrize("asked_for", ["float32", "auto"])
def test_it_computes_in_the_precision_that_training_asked_for(
    asked_for: str, run: Callable[..., int], kernel_input: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = kernel_input / "datasets" / "some-kaggler" / "animal-reid-weights" / "manifest.json"
    write_json(manifest, json.loads(manifest.read_text()) | {"precision": asked_for})
    runtimes: list[Runtime] = []

    def noted(devices: list[str], catalogue: object, weights: object, runtime: Runtime) -> None:
        runtimes.append(runtime)
        raise InputError("enough")

    monkeypatch.setattr(entry, "predict_on", noted)
    assert run() == 2
    assert [runtime.precision for runtime in runtimes] == [asked_for]


def test_it_answers_as_the_package_does(
    patterns: Path, patterns_weights: Path, run: Callable[..., int], tmp_path: Path
) -> None:
    assert run() == 0
    weights = open_weights(patterns_weights)
    expected = predict(read_catalogue(patterns), weights, weights.recipe, runtime=runtime_of(weights)).submission
    assert (tmp_path / "working" / "submission.csv").read_text() == expected.to_csv(index=False, lineterminator="\n")


def runtime_of(weights: Weights) -> Runtime:
    return Runtime(precision=weights.precision)


@pytest.mark.parametrize(("count", "sizes"), [(1, [28]), (2, [14, 14]), (3, [10, 9, 9])])
def test_the_parts_of_several_gpus_add_up_to_the_whole(
    count: int, sizes: list[int], patterns: Path, patterns_weights: Path
) -> None:
    catalogue, weights = read_catalogue(patterns), open_weights(patterns_weights)
    runtime = replace(runtime_of(weights), batch_size=8)
    parts = entry.divide(rows_to_predict(catalogue), count)
    assert [len(part) for part in parts] == sizes
    answered = [predict(part, weights, use_cache=False, runtime=runtime) for part in parts]
    matches = join_matches(answered, load_calibrations(weights))
    # words exactly, distances up to rounding: they are differences of squared norms
    whole = predict(catalogue, weights, use_cache=False, runtime=runtime)
    pd.testing.assert_frame_equal(matches.to_frame(), whole.to_frame(), rtol=1e-5, atol=1e-5)


def test_there_are_no_more_parts_than_queries(patterns: Path) -> None:
    queries = rows_to_predict(read_catalogue(patterns))
    assert [part.image_ids for part in entry.divide(queries, 99)] == [[one] for one in queries.image_ids]


def sent_with(weights: Weights, parcel: object) -> Weights:
    """The weights with something that acts in each process that they are sent to."""
    return replace(weights, manifest={**weights.manifest, "parcel": parcel})


def test_a_process_that_is_killed_costs_time_and_no_answer(
    patterns: Path, patterns_weights: Path, caplog: pytest.LogCaptureFixture
) -> None:
    catalogue, weights = read_catalogue(patterns), open_weights(patterns_weights)
    alone = predict(catalogue, weights, weights.recipe, use_cache=False, runtime=runtime_of(weights))
    found = entry.predict_on(["cpu", "cpu"], catalogue, sent_with(weights, Deadly()), runtime_of(weights))
    assert found.submission.equals(alone.submission)
    assert "a process was killed; every query is answered by this one alone" in caplog.text


def test_the_processes_share_the_cores_and_answer_as_one(
    patterns: Path, patterns_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    catalogue, weights, mine = read_catalogue(patterns), open_weights(patterns_weights), core_count()
    alone = predict(catalogue, weights, weights.recipe, use_cache=False, runtime=runtime_of(weights))
    (tmp_path / "core_count").mkdir()
    sent = sent_with(weights, Witness(tmp_path / "core_count"))
    found = entry.predict_on(["cpu", "cpu"], catalogue, sent, runtime_of(weights))
    assert found.submission.equals(alone.submission)
    assert {path.read_text() for path in (tmp_path / "core_count").iterdir()} == {str(max(1, mine // 2))}
    assert core_count() == mine


def test_every_gpu_gets_a_process_of_its_own(run: Callable[..., int], monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[list[str]] = []

    def noted(devices: list[str], *_: object) -> None:
        used.append(devices)
        raise InputError("enough")

    monkeypatch.setattr(entry, "predict_on", noted)
    assert [run(), run("--shards", 3)] == [2, 2]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: "a GPU")
    assert [run(), run("--shards", 3)] == [2, 2]
    assert used == [["cpu"], ["cpu"] * 3, ["cuda:0", "cuda:1"], ["cuda:0", "cuda:1", "cuda:0"]]


def test_each_process_works_on_its_own_gpu(
    patterns: Path, patterns_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In threads, one after the other, and without any GPU that they could work on."""
    chosen: list[str] = []
    monkeypatch.setattr(entry, "ProcessPoolExecutor", lambda *_: ThreadPoolExecutor(1))
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    weights = open_weights(patterns_weights)
    found = entry.predict_on(["cuda:0", "cuda:1"], read_catalogue(patterns), weights, runtime_of(weights))
    assert sorted(chosen) == ["cuda:0", "cuda:1"]
    assert len(found.submission) == 28


def test_bundle_and_package_agree_on_real_photographs(
    reid_mini: Path, tiny_settings: list[str], tmp_path: Path
) -> None:
    weights, submission = tmp_path / "weights", tmp_path / "submission.csv"
    assert cli.main(["train", str(reid_mini), "--out", str(weights), *tiny_settings, "--limit", "60"]) == 0
    assert cli.main(["predict", str(reid_mini), "--weights", str(weights), "--out", str(submission)]) == 0
    dry_run.dry_run(bundle.write_bundle(tmp_path / "kernel"), reid_mini, weights, submission)


EVERY_CUE = [
    "matching.cues=encoder,local",
    "calibration.scorers=distance,local,foreground,mean,logistic,boosted",
    "training.folds=2",
    "backbone.pooling=gem",
]


@pytest.mark.parametrize("alone", [False, True], ids=["encoder and keypoints", "keypoints alone"])
def test_bundle_and_package_agree_on_every_cue(
    alone: bool, patterns: Path, tiny_settings: list[str], tmp_path: Path
) -> None:
    chosen = ["calibration.splits=5"] if alone else EVERY_CUE
    recipe = ["--recipe", "keypoints"] if alone else tiny_settings
    words = [*recipe, *(word for setting in chosen for word in ("--set", setting))]
    weights, submission = tmp_path / "weights", tmp_path / "submission.csv"
    assert cli.main(["train", str(patterns), "--out", str(weights), *words]) == 0
    assert cli.main(["predict", str(patterns), "--weights", str(weights), "--out", str(submission)]) == 0
    dry_run.dry_run(bundle.write_bundle(tmp_path / "kernel"), patterns, weights, submission)


@pytest.mark.parametrize(
    ("answer", "status", "words"),
    [
        ("Checks_0", 0, r"expected the submission .*own\.csv to the byte, found another one"),
        ("nobody", 0, r"submission\.csv: .*Do not submit it"),
        (
            "new_individual",
            3,
            r"it ended with status 3; its messages stand above\. Fix their cause, then run this again",
        ),
    ],
)
def test_a_dry_run_that_goes_wrong_is_refused(
    answer: str, status: int, words: str, patterns: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "own.csv"
    shutil.copy(patterns / "sample_submission.csv", own)
    script = tmp_path / "script.py"
    script.write_text(
        "import pathlib, sys\nprint('some words')\nfolder = pathlib.Path(sys.argv[sys.argv.index('--output') + 1])\n"
        f"folder.mkdir()\ntext = {own.read_text().replace('new_individual', answer)!r}\n"
        f"(folder / 'submission.csv').write_text(text)\nsys.exit({status})\n"
    )
    with pytest.raises(InputError, match=words):
        dry_run.dry_run(script, patterns, tmp_path, own)
    assert capsys.readouterr().err == "  | some words\n" * (status > 0)


def test_the_toy_world_is_made_again_only_when_the_sources_have_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def noted(command: list[str], **_: object) -> subprocess.CompletedProcess[bytes]:
        made.append(command[command.index("reid") + 1])
        return subprocess.CompletedProcess(command, 0, b"")

    monkeypatch.setattr(subprocess, "run", noted)
    monkeypatch.setattr(dry_run, "ROOT", tmp_path / "checkout")
    source = tmp_path / "checkout" / "src" / "reid" / "data" / "module.py"
    source.parent.mkdir(parents=True)
    source.write_text("x = 1\n")
    assert dry_run.prepare_toy(tmp_path) == (tmp_path / "data", tmp_path / "weights")
    assert made == ["toy", "train"]
    dry_run.prepare_toy(tmp_path)
    assert len(made) == 2
    source.write_text("x = 2\n")
    dry_run.prepare_toy(tmp_path)
    assert len(made) == 4


def test_other_weights_than_those_it_was_built_for_are_refused(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "working").mkdir()
    (tmp_path / "working" / "submission.csv").write_text("of an earlier run\n")
    assert run(weights="f" * 64) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert "expected sha256 ffffffffffff..., the weights that this kernel was built for" in error
    assert "latest version under Input" in error
    assert not list((tmp_path / "working").iterdir()), "an old submission must not look like this run's"
    assert run("--any-weights", weights="f" * 64) == 0


def test_damaged_weights_are_refused_before_the_first_photograph(
    run: Callable[..., int], kernel_input: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("a photograph was opened"))
    weights = kernel_input / "datasets" / "some-kaggler" / "animal-reid-weights"
    network = weights / "Dots.safetensors"
    network.write_bytes(network.read_bytes()[:-1] + b"\x01")
    assert run() == 2
    assert "Dots.safetensors: expected sha256" in capsys.readouterr().err

    tensors = load_file(kernel_input / "datasets/some-kaggler/animal-reid-weights/Checks.safetensors")
    plan = {
        "backbone": "resnet_of_tomorrow",
        "image_size": 32,
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
        "embedding_size": 8,
    }
    save_file(tensors, network, metadata={"plan": json.dumps(plan)})
    manifest = json.loads((weights / "manifest.json").read_text())
    manifest["files"]["Dots.safetensors"] = sha256_of(network)
    write_json(weights / "manifest.json", manifest)
    assert run() == 2
    assert "Dots.safetensors: expected a network written by this kit, but it can't be loaded with timm" in (
        capsys.readouterr().err
    )


def test_a_call_that_cannot_end_well_is_refused_before_any_work(
    run: Callable[..., int], kernel_input: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "working").write_text("a file\n")
    assert run() == 2
    error = capsys.readouterr().err
    assert "working: expected a folder that can be written, but it can't (File exists). Name another with" in error
    assert "photographs:" not in error
    (tmp_path / "working").unlink()
    (kernel_input / "competitions" / "animal-clef-2025" / "sample_submission.csv").write_text('"image\nid"\n1\n')
    assert run() == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert re.fullmatch(r"error: .*sample_submission\.csv: .* found image id; missing: image_id.*", error)
    with pytest.raises(SystemExit, match="2"):
        run("--shards", 0)
    assert "--shards: expected 1 or more, found 0" in capsys.readouterr().err


def test_the_kernel_keeps_freed_memory(
    run: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(entry, "keep_freed_memory", lambda: asked.append(True))
    (tmp_path / "working").write_text("a file\n")
    assert run() == 2
    assert asked == [True]


def test_a_report_that_fails_does_not_cost_the_submission(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no fonts")

    monkeypatch.setattr(report, "write_report", fail)
    assert run() == 0
    assert "warning: no report could be made (no fonts); the submission is complete" in capsys.readouterr().err
    record = json.loads((tmp_path / "working" / "run.json").read_text())
    assert record["report"] == "not written: RuntimeError('no fonts')"


# clusters


@pytest.fixture
def run_2026(patterns_2026: Path, patterns_weights: Path, tmp_path: Path) -> Callable[..., int]:
    """Runs the entry on data that asks for clusters."""
    mount(patterns_2026, tmp_path / "input" / "competitions" / "animal-clef-2026")
    mount(patterns_weights, tmp_path / "input" / "datasets" / "some-kaggler" / "animal-reid-weights-2026")
    script = tmp_path / "script.py"
    script.write_text("# the script\n")

    def main(*words: object) -> int:
        arguments = ["--input", str(tmp_path / "input"), "--output", str(tmp_path / "working"), *map(str, words)]
        return entry.main(arguments, script=str(script), name="animal_reid.py", bundle="b" * 64, weights="")

    return main


@pytest.fixture
def own_clusters(patterns_2026: Path, patterns_weights: Path) -> Clusters:
    """What the package finds."""
    weights = open_weights(patterns_weights)
    return discover(read_catalogue(patterns_2026), weights, use_cache=False, runtime=runtime_of(weights))


def test_where_clusters_are_asked_for_it_leaves_what_the_package_finds_and_nothing_else(
    run_2026: Callable[..., int], own_clusters: Clusters, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    working = tmp_path / "working"
    working.mkdir()
    for name in ("submission.matches.csv", "contact_sheet.jpg"):
        (working / name).write_text("of an earlier run that named the queries\n")
    assert run_2026("--shards", 2) == 0
    expected = {"submission.csv", "submission.clusters.csv", "run.json", "report.html", "animal_reid.py"}
    assert {path.name for path in working.iterdir()} == expected
    own_clusters.save(tmp_path / "own" / "submission.csv")
    for name in ("submission.csv", "submission.clusters.csv"):
        assert (working / name).read_bytes() == (tmp_path / "own" / name).read_bytes()

    record = json.loads((working / "run.json").read_text())
    assert record["answers"] == 28
    assert record["submission"] == sha256_of(working / "submission.csv")
    assert record["clusters"] == sha256_of(working / "submission.clusters.csv")
    assert record["devices"] == ["cpu"], "all photographs of a dataset must be seen together"
    assert {"check", "discover", "report"} <= set(record["seconds"])
    assert record["report"] == "written"
    counts = {name: one["photographs"] for name, one in record["datasets"].items()}
    assert counts == {"Checks": 14, "Dots": 7, "TexasHornedLizards": 7}
    found = own_clusters.photographs.groupby("dataset")["cluster"].nunique().to_dict()
    assert {name: one["clusters"] for name, one in record["datasets"].items()} == found
    for name, cut in own_clusters.cuts.items():
        assert record["datasets"][name]["cut"]["value"] == cut.value
    printed = capsys.readouterr()
    assert f"TexasHornedLizards: 7 photographs, {found['TexasHornedLizards']} clusters, " in printed.out
    assert printed.out.endswith(f"\nwrote 28 answers to {working / 'submission.csv'}\n")


def test_what_the_kernel_leaves_is_what_is_downloaded() -> None:
    assert {*entry.OUTPUT_FILES, bundle.NAME} == set(kaggle_commands.OUTPUT_FILES)


def test_clusters_that_would_be_refused_are_not_written(
    run_2026: Callable[..., int], own_clusters: Clusters, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = own_clusters.photographs.assign(cluster="cluster_Checks_1")
    for photographs, fault in [
        (wrong, r"expected a cluster of its dataset, cluster_\w+_NAME; found 'cluster_Checks_1'"),
        (own_clusters.photographs.iloc[1:], "missing: image_id"),
        (own_clusters.photographs.iloc[::-1], "expected image_id"),
    ]:
        found = replace(own_clusters, photographs=photographs)
        monkeypatch.setattr(entry, "discover", lambda *_, found=found, **__: found)
        with pytest.raises(RuntimeError, match=f"can't be submitted, which is a bug, please report it: .*{fault}"):
            run_2026()
        assert not list((tmp_path / "working").iterdir())


def test_a_figure_that_is_not_known_is_null_in_run_json(
    run_2026: Callable[..., int], own_clusters: Clusters, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nan = float("nan")
    cut = Cut("Dots", 0.5, (nan, 0.6), None, (0.1, 0.9), nan, 1.0, None, 0, 0, "distance", ("Checks",), ("a note",))
    found = replace(own_clusters, cuts=own_clusters.cuts | {"Dots": cut})
    monkeypatch.setattr(entry, "discover", lambda *_, **__: found)
    assert run_2026() == 0
    datasets = json.loads((tmp_path / "working" / "run.json").read_text())["datasets"]
    assert datasets["Checks"]["cut"]["value"] == own_clusters.cuts["Checks"].value
    told = datasets["Dots"]["cut"]
    assert (told["value"], told["plateau"], told["companions"]) == (0.5, [None, 0.6], None)
    assert (told["borrowed"], told["notes"]) == (["Checks"], ["a note"])


def test_a_page_that_fails_does_not_cost_the_clusters(
    run_2026: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no disk")

    monkeypatch.setattr(cluster_summary, "write_cluster_summary", fail)
    assert run_2026() == 0
    assert json.loads((tmp_path / "working/run.json").read_text())["report"] == "not written: RuntimeError('no disk')"
    assert not (tmp_path / "working" / "report.html").exists()


@pytest.mark.parametrize(
    ("header", "cluster", "words"),
    [
        ("image_id,cluster", "cluster_{}_1", ""),
        ("image_id,cluster", "cluster_Checks_1", r"expected a cluster of its dataset, cluster_\w+_NAME.*Do not subm"),
        ("image_id,identity", "cluster_{}_1", r"found image_id, identity; missing: cluster"),
    ],
)
def test_a_dry_run_checks_clusters(header: str, cluster: str, words: str, patterns_2026: Path, tmp_path: Path) -> None:
    """It runs where the data lies as on Kaggle, at the mount of its competition."""
    queries = rows_to_predict(read_catalogue(patterns_2026)).table
    rows = [f"{name},{cluster.format(dataset)}" for name, dataset in queries[["image_id", "dataset"]].to_numpy()]
    script = tmp_path / "script.py"
    script.write_text(
        "import pathlib, sys\nplaces = [pathlib.Path(sys.argv[sys.argv.index(name) + 1]) for name in ('--input', "
        "'--output')]\nassert (places[0] / 'competitions/animal-clef-2026/metadata.csv').is_file()\n"
        f"places[1].mkdir()\n(places[1] / 'submission.csv').write_text({chr(10).join([header, *rows, ''])!r})\n"
    )
    if not words:
        dry_run.dry_run(script, patterns_2026, tmp_path)
        return
    with pytest.raises(InputError, match=words):
        dry_run.dry_run(script, patterns_2026, tmp_path)


def test_the_toy_world_of_clusters_is_as_the_competitions(patterns: Path, tmp_path: Path) -> None:
    toy = tmp_path / "toy"
    shutil.copytree(patterns, toy / "data")
    (toy / "made-by").write_text(dry_run.hash_of_sources())
    for _ in range(2):
        data, weights = dry_run.prepare_toy(toy, "animal-clef-2026")
    assert weights == toy / "weights"
    assert cli.main(["check", str(data)]) == 0
    catalogue = read_catalogue(data)
    assert set(pd.read_csv(data / "metadata.csv")["split"]) == {"train", "test"}
    assert set(catalogue.query.table["dataset"]) == {"Checks", "TexasHornedLizards"}
    assert "TexasHornedLizards" not in set(catalogue.database.table["dataset"])
    sample = pd.read_csv(data / "sample_submission.csv", dtype=str)
    assert list(sample.columns) == ["image_id", "cluster"]
    assert list(sample["image_id"]) == catalogue.query.image_ids
    assert dry_run.prepare_toy(toy, "animal-clef-2025") == (toy / "data", toy / "weights")


def test_where_nobody_is_known_it_puts_photographs_together_without_a_gpu(
    patterns_2026: Path, tiny_settings: list[str], tmp_path: Path
) -> None:
    mount(patterns_2026, tmp_path / "input" / "data")
    path = tmp_path / "input" / "data" / "metadata.csv"
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    path.unlink()
    table[table["split"] == "test"].to_csv(path, index=False)
    two = ["backbone=test_resnet+test_efficientnet", "training.backbone_rate=0", "head.normalise=true"]
    settings = [*tiny_settings, *(word for setting in two for word in ("--set", setting))]
    assert cli.main(["train", str(path.parent), "--out", str(tmp_path / "input" / "weights"), *settings]) == 0
    script = tmp_path / "script.py"
    script.write_text("# the script\n")
    arguments = ["--input", str(tmp_path / "input"), "--output", str(tmp_path / "working")]
    assert entry.main(arguments, script=str(script), name="animal_reid.py", bundle="b" * 64, weights="") == 0
    found = json.loads((tmp_path / "working" / "run.json").read_text("utf-8"))
    assert found["answers"] == (table["split"] == "test").sum()
