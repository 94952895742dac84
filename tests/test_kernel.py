"""The bundle and the kernel's entry: what is carried, what is refused, and where Kaggle may have mounted things."""

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

from reid.report import report

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "kernel"))

import bundle  # noqa: E402
import entry  # noqa: E402
import rehearsal  # noqa: E402
from rehearsal import rehearse  # noqa: E402

from reid import cli  # noqa: E402
from reid.data.catalogue import read_catalogue, rows_to_predict  # noqa: E402
from reid.decision.artifact import Weights, open_weights  # noqa: E402
from reid.decision.predict import predict  # noqa: E402
from reid.errors import InputError
from reid.runtime.distributed import core_count  # noqa: E402
from reid.runtime.files import sha256_of, write_json  # noqa: E402

DEMO = {
    "demo/__init__.py": '"""A package of three rooms."""\n',
    "demo/ground.py": (
        '"""The ground floor."""\n\n'
        'SLASHES = "a\\\\b\\n\\t"  # backslashes: \\ \\n \\x41 \\N{DEGREE SIGN}\n\n\n'
        "class Squares:\n"
        "    def __len__(self):\n        return 4\n\n"
        "    def __getitem__(self, place):\n        return place * place\n\n\n"
        'def fail():\n    raise RuntimeError("on purpose")  # the line that the traceback must name\n'
    ),
    "demo/upper.py": (
        "import multiprocessing\n\nfrom demo.ground import Squares, fail\n\n\n"
        "def squares(method):\n    import torch.utils.data  # takes seconds\n\n"
        "    loader = torch.utils.data.DataLoader(\n"
        "        Squares(), num_workers=1, multiprocessing_context=multiprocessing.get_context(method)\n    )\n"
        "    return [int(batch) for batch in loader]\n"
    ),
    "entry.py": (
        "import subprocess\nimport sys\n\nfrom demo.ground import SLASHES\nfrom demo.upper import fail, squares\n\n\n"
        "def main(arguments, script, name, bundle, weights):\n"
        "    print(__file__)\n    print(repr(SLASHES))\n"
        "    if arguments == ['fail']:\n        fail()\n"
        "    for method in arguments:\n        print(method, squares(method))\n"
        "    told = subprocess.run([sys.executable, '-c', 'import demo.ground'], capture_output=True)\n"
        "    print('a new process finds the rooms:', told.returncode == 0)\n    return 0\n"
    ),
}


def write_demo(folder: Path, changes: dict[str, str | bytes | None] | None = None) -> Path:
    for name, text in (DEMO | (changes or {})).items():
        if text is not None:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def bundle_demo(folder: Path, allowed: set[str] = frozenset({"torch"})) -> str:  # type: ignore[assignment]
    return bundle.bundle(bundle.read_rooms(folder / "demo", folder / "entry.py", allowed), "commit 0")


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


def test_every_room_stands_in_it_as_it_was_written_below_its_heading() -> None:
    package = ROOT / "src" / "reid"
    rooms = bundle.read_rooms(package, ROOT / "kernel" / "entry.py", bundle.allowed_modules(ROOT / "requirements.txt"))
    text = bundle.bundle(rooms, "commit 1234")
    assert {room.name for room in rooms} == {f"reid/{path.name}" for path in package.glob("*.py")} | {bundle.ENTRY}
    for room in rooms:
        assert f"\n# {room.name}, from {room.source}\n" in text
        assert (ROOT / room.source).read_text("utf-8") in text
    head = text[: text.index("ROOMS[")]
    for words in ("GENERATED, DO NOT EDIT", "From commit 1234.", "python kernel/bundle.py --out build/kernel"):
        assert words in head
    order = [room.name for room in rooms]
    assert order[0] == "reid/__init__.py"
    assert order[-1] == bundle.ENTRY
    assert order.index("reid/catalogue.py") < order.index("reid/submission.py") < order.index("reid/cli.py")


def test_the_bundles_hash_tells_sources_and_weights_apart_but_not_commits(tmp_path: Path) -> None:
    rooms = bundle.read_rooms(write_demo(tmp_path) / "demo", tmp_path / "entry.py", {"torch"})
    changed = [*rooms[:-1], replace(rooms[-1], text=rooms[-1].text + "# a comment\n")]

    def identity(text: str) -> str:
        return re.search(r'^BUNDLE = "(\w+)"$', text, re.MULTILINE)[1]  # type: ignore[index]

    usual = identity(bundle.bundle(rooms, "commit 0"))
    assert identity(bundle.bundle(rooms, "commit 1")) == usual
    assert identity(bundle.bundle(rooms, "commit 0", weights="f" * 64)) != usual
    assert identity(bundle.bundle(changed, "commit 0")) != usual


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("demo/ground.py", "x = '''\ny\n'''\n", "ground.py:1: can't be carried: ''' would end the string"),
        ("demo/ground.py", "x = 1\n\ny = '\\''''\n", "ground.py:3: can't be carried: '''"),
        ("demo/ground.py", b"x = 1\ny = '\xff'\n", "ground.py:2: expected UTF-8, found byte 0xff"),
        ("demo/ground.py", b"x = 1\r\n", "ground.py:1: can't be carried: a carriage return"),
        ("demo/ground.py", "x = 1\ny = '\0'\n", "ground.py:2: can't be carried: Python reads no NUL byte"),
        ("demo/ground.py", "\ufeffx = 1\n", "ground.py:1: can't be carried: a byte order mark"),
        ("demo/ground.py", "x = 1", "ground.py:1: expected a line end at the end of the file"),
        ("demo/ground.py", "x = 1\nx +\n", "ground.py:2: this is no Python"),
        ("demo/ground.py", "def f():\n    import kaggle\n", "ground.py:2: kaggle can't be used inside a kernel"),
        ("demo/ground.py", "import six\n", "ground.py:1: six can't be used inside a kernel"),
        ("demo/ground.py", "import os, cv2.dnn\n", "ground.py:1: cv2 is neither in the standard library nor in"),
        ("demo/ground.py", "from .. import x\n", "ground.py:1: expected absolute imports, found a relative one"),
        ("demo/ground.py", "from .upper import x\n", "ground.py:1: expected absolute imports"),
        ("demo/ground.py", "from demo.attic import x\n", "ground.py:1: demo has no room attic.py"),
        ("entry.py", "\nimport demo.attic\n", "entry.py:2: demo has no room attic.py"),
        ("demo/ground.py", "from demo.upper import squares\n", "rooms import each other in a circle"),
        ("demo/names.txt", "some\n", "names.txt: expected .py files only"),
        ("demo/lower/cellar.py", "x = 1\n", "lower: expected a flat package, found a subfolder"),
    ],
)
def test_what_cannot_be_carried_is_refused_with_its_place(
    name: str, text: str | bytes, words: str, tmp_path: Path
) -> None:
    with pytest.raises(bundle.BundleError, match=re.escape(words)):
        bundle_demo(write_demo(tmp_path, {name: text}))


def test_a_folder_without_init_is_no_package(tmp_path: Path) -> None:
    (write_demo(tmp_path) / "demo" / "__init__.py").unlink()
    with pytest.raises(bundle.BundleError, match=r"demo: expected a package, found no __init__\.py"):
        bundle_demo(tmp_path)


def test_a_script_that_kaggle_would_refuse_is_not_built(tmp_path: Path) -> None:
    long = "# a line of sixty characters, to be repeated again and again\n" * 15_000
    with pytest.raises(bundle.BundleError, match=r"expected 900,000 bytes at most.*The largest: .*ground\.py 9"):
        bundle_demo(write_demo(tmp_path, {"demo/ground.py": DEMO["demo/ground.py"] + long}))


def test_refusals_end_the_command_with_status_2_and_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bundle.main(["--out", str(tmp_path / "out"), "--weights", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert "manifest.json: expected the manifest of a weights folder, found none; run `make train`" in told
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").write_text("a file\n")
    assert bundle.main(["--out", str(tmp_path / "out")]) == 2
    assert "out/animal_reid.py: could not be written (File exists); name a folder with --out" in capsys.readouterr().err


def test_workers_tracebacks_and_new_processes_find_the_rooms(tmp_path: Path) -> None:
    """One bundle, run by another name: every way to start a worker, a program of its own, and an error in a room."""
    text = bundle_demo(write_demo(tmp_path / "demo"))
    (tmp_path / "src").mkdir()
    (tmp_path / "tmp").mkdir()
    script = tmp_path / "src" / "script.py"
    script.write_text(text)
    done = bare(script, "fork", "spawn", "forkserver", home=tmp_path / "tmp")
    assert done.returncode == 0, done.stderr
    place, slashes, *rest = done.stdout.splitlines()
    assert re.fullmatch(rf"{tmp_path}/tmp/reid-[0-9a-f]{{16}}-\w+/kernel_entry\.py", place)
    assert ast.literal_eval(slashes) == "a\\b\n\t"
    assert rest == [f"{method} [0, 1, 4, 9]" for method in ("fork", "spawn", "forkserver")] + [
        "a new process finds the rooms: True"
    ]
    assert not list((tmp_path / "tmp").glob("reid-*")), "the rooms must be removed at the end"

    done = bare(script, "fail", home=tmp_path / "tmp")
    assert done.returncode == 1
    line = DEMO["demo/ground.py"].split("raise RuntimeError")[0].count("\n") + 1
    assert re.search(rf'demo/ground\.py", line {line}, in fail\n +raise RuntimeError\("on purpose"\)', done.stderr)

    script.write_text(text.replace("return place * place", "return place * 2"))
    done = bare(script, home=tmp_path / "tmp")
    assert done.returncode == 2
    assert done.stderr == "error: demo/ground.py: it is not what was bundled. Edit the source and build again\n"


def test_the_banner_names_the_last_commit_that_changed_what_is_carried(tmp_path: Path) -> None:
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
    (copy / "src" / "reid" / "progress.py").write_text("# changed\n" + (copy / "src/reid/progress.py").read_text())
    assert banner() == f"commit {first} + uncommitted changes"


# where Kaggle mounts things


def mount(source: Path, folder: Path) -> Path:
    shutil.copytree(source, folder)
    return folder


@pytest.mark.parametrize(
    ("data", "weights"),
    [
        ("animal-clef-2025", "animal-reid-weights"),
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


def test_what_is_missing_is_named_with_all_that_is_there(patterns: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected the folder that Kaggle mounts, found none"):
        entry.find_data(tmp_path / "input")
    mount(patterns, tmp_path / "input" / "competitions" / "another-contest")
    (tmp_path / "input" / "competitions" / "another-contest" / "sample_submission.csv").unlink()
    with pytest.raises(InputError) as refused:
        entry.find_data(tmp_path / "input")
    told = str(refused.value)
    assert "expected a folder with metadata.csv and sample_submission.csv, found none" in told
    assert "competition_sources in kernel-metadata.json" in told
    assert "another-contest: images metadata.csv solution.csv" in told
    with pytest.raises(InputError, match=r"expected a weights folder with manifest\.json, found none\. Run `make pu"):
        entry.find_weights(tmp_path / "input")


def test_the_photographs_are_not_walked_through(
    patterns: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mount(patterns, tmp_path / "input" / "competitions" / "animal-clef-2025")
    scan, walked = os.scandir, []

    def watched(place: Path) -> Any:
        walked.append(place)
        return scan(place)

    monkeypatch.setattr(os, "scandir", watched)
    assert entry.find_data(tmp_path / "input")
    with pytest.raises(InputError, match="found none"):
        entry.find_weights(tmp_path / "input")
    assert len(walked) > 4
    assert not [place for place in walked if "images" in place.parts]


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
    assert left == {"submission.csv", "run.json", "report.html", "contact_sheet.jpg", "animal_reid.py"}
    assert (working / "animal_reid.py").read_text() == "# the script\n"
    told = json.loads((working / "run.json").read_text())
    assert told["bundle"] == "b" * 64
    assert told["submission"] == sha256_of(working / "submission.csv")
    assert told["weights"] == sha256_of(kernel_input / "datasets/some-kaggler/animal-reid-weights/manifest.json")
    assert told["report"] == "written"
    assert set(told["share_new"]) == {"Checks", "Dots"}
    assert {"torch", "timm", "pandas", "python"} <= set(told["versions"])
    assert {"check", "predict", "report"} <= set(told["seconds"])
    said = capsys.readouterr().out
    assert "warning: no GPU: the networks alone need less than a minute on this processor" in said
    assert "28 answers to" in said


def test_it_answers_as_the_package_does(
    patterns: Path, patterns_weights: Path, run: Callable[..., int], tmp_path: Path
) -> None:
    assert run() == 0
    weights = open_weights(patterns_weights)
    expected = predict(read_catalogue(patterns), weights, weights.recipe).submission
    assert (tmp_path / "working" / "submission.csv").read_text() == expected.to_csv(index=False, lineterminator="\n")


@pytest.mark.parametrize(("count", "sizes"), [(1, [28]), (2, [16, 12]), (3, [16, 8, 4]), (9, [8, 8, 8, 4])])
def test_the_parts_of_several_gpus_add_up_to_the_whole(
    count: int, sizes: list[int], patterns: Path, patterns_weights: Path
) -> None:
    weights = open_weights(patterns_weights)
    recipe = replace(weights.recipe, batch_size=8)
    catalogue = read_catalogue(patterns)
    parts = entry.divide(rows_to_predict(catalogue), count, recipe.batch_size)
    assert [len(part) for part in parts] == sizes
    matches = pd.concat([predict(part, weights, recipe, use_cache=False).matches for part in parts], ignore_index=True)
    # words exactly, distances up to rounding: they are differences of squared norms
    whole = predict(catalogue, weights, recipe, use_cache=False)
    pd.testing.assert_frame_equal(matches, whole.matches, rtol=1e-5, atol=1e-5)


def sent_with(weights: Weights, parcel: object) -> Weights:
    """The weights with something that acts in each process that they are sent to."""
    return replace(weights, manifest={**weights.manifest, "parcel": parcel})


def test_a_process_that_is_killed_costs_time_and_no_answer(
    patterns: Path, patterns_weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    catalogue, weights = read_catalogue(patterns), open_weights(patterns_weights)
    recipe = replace(weights.recipe, batch_size=4)
    alone = predict(catalogue, weights, recipe, use_cache=False)
    found = entry.predict_on(["cpu", "cpu"], catalogue, sent_with(weights, Deadly()), recipe)
    assert found.submission.equals(alone.submission)
    assert "warning: a process was killed" in "".join(capsys.readouterr())


def test_the_processes_share_the_cores_and_answer_as_one(
    patterns: Path, patterns_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    catalogue, weights, mine = read_catalogue(patterns), open_weights(patterns_weights), core_count()
    recipe = replace(weights.recipe, batch_size=4)
    alone = predict(catalogue, weights, recipe, use_cache=False)
    (tmp_path / "core_count").mkdir()
    found = entry.predict_on(["cpu", "cpu"], catalogue, sent_with(weights, Witness(tmp_path / "core_count")), recipe)
    assert found.submission.equals(alone.submission)
    assert {path.read_text() for path in (tmp_path / "core_count").iterdir()} == {str(max(1, mine // 2))}
    assert core_count() == mine


def test_every_gpu_gets_a_process_of_its_own(run: Callable[..., int], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def enough(devices: list[str], *_: object) -> None:
        asked.append(devices)
        raise InputError("enough")

    monkeypatch.setattr(entry, "predict_on", enough)
    assert [run(), run("--shards", 3)] == [2, 2]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: "a GPU")
    assert [run(), run("--shards", 3)] == [2, 2]
    assert asked == [["cpu"], ["cpu"] * 3, ["cuda:0", "cuda:1"], ["cuda:0", "cuda:1", "cuda:0"]]


def test_each_process_works_on_its_own_gpu(
    patterns: Path, patterns_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In threads, and without any GPU that they could work on."""
    chosen: list[str] = []
    monkeypatch.setattr(entry, "ProcessPoolExecutor", lambda count, *_: ThreadPoolExecutor(count))
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    weights = open_weights(patterns_weights)
    recipe = replace(weights.recipe, batch_size=4)
    found = entry.predict_on(["cuda:0", "cuda:1"], read_catalogue(patterns), weights, recipe)
    assert sorted(chosen) == ["cuda:0", "cuda:1"]
    assert len(found.submission) == 28


def test_bundle_and_package_agree_on_real_photographs(
    reid_mini: Path, tiny_settings: list[str], tmp_path: Path
) -> None:
    weights, submission = tmp_path / "weights", tmp_path / "submission.csv"
    assert cli.main(["train", str(reid_mini), "--out", str(weights), *tiny_settings, "--limit", "60"]) == 0
    assert cli.main(["predict", str(reid_mini), "--weights", str(weights), "--out", str(submission)]) == 0
    rehearse(bundle.write_bundle(tmp_path / "kernel"), reid_mini, weights, submission)


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
    recipe = ["--recipe", "local"] if alone else tiny_settings
    words = [*recipe, *(word for setting in chosen for word in ("--set", setting))]
    weights, submission = tmp_path / "weights", tmp_path / "submission.csv"
    assert cli.main(["train", str(patterns), "--out", str(weights), *words]) == 0
    assert cli.main(["predict", str(patterns), "--weights", str(weights), "--out", str(submission)]) == 0
    rehearse(bundle.write_bundle(tmp_path / "kernel"), patterns, weights, submission)


@pytest.mark.parametrize(
    ("answer", "status", "words"),
    [
        ("Checks_0", 0, r"expected the submission .*own\.csv to the byte, found another one"),
        ("nobody", 0, r"submission\.csv: .*Don't hand it in"),
        ("new_individual", 3, r"it ended with status 3; what it said stands above\. Mend that, then run this again"),
    ],
)
def test_a_rehearsal_that_goes_wrong_is_refused(
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
        rehearse(script, patterns, tmp_path, own)
    assert capsys.readouterr().err == "  | some words\n" * (status > 0)


def test_the_toy_stage_is_made_again_only_when_the_sources_have_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def noted(command: list[str], **_: object) -> subprocess.CompletedProcess[bytes]:
        made.append(command[command.index("reid") + 1])
        return subprocess.CompletedProcess(command, 0, b"")

    monkeypatch.setattr(subprocess, "run", noted)
    monkeypatch.setattr(rehearsal, "ROOT", tmp_path / "checkout")
    source = tmp_path / "checkout" / "src" / "reid" / "room.py"
    source.parent.mkdir(parents=True)
    source.write_text("x = 1\n")
    assert rehearsal.toy_stage(tmp_path) == (tmp_path / "data", tmp_path / "weights")
    assert made == ["toy", "train"]
    rehearsal.toy_stage(tmp_path)
    assert len(made) == 2
    source.write_text("x = 2\n")
    rehearsal.toy_stage(tmp_path)
    assert len(made) == 4


def test_other_weights_than_those_it_was_built_for_are_refused(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "working").mkdir()
    (tmp_path / "working" / "submission.csv").write_text("of an earlier run\n")
    assert run(weights="f" * 64) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert "expected sha256 ffffffffffff..., the weights that this kernel was built for" in told
    assert "latest version under Input" in told
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
    told = capsys.readouterr()
    assert "working: expected a folder that can be written, but it can't (File exists). Name another with" in told.err
    assert "photographs:" not in told.out
    (tmp_path / "working").unlink()
    (kernel_input / "competitions" / "animal-clef-2025" / "sample_submission.csv").write_text('"image\nid"\n1\n')
    assert run() == 2
    assert re.fullmatch(
        r"error: .*sample_submission\.csv: .* found image id; missing: image_id.*\n", capsys.readouterr().err
    )
    with pytest.raises(SystemExit, match="2"):
        run("--shards", 0)
    assert "--shards: expected 1 or more, found 0" in capsys.readouterr().err


def test_a_report_that_fails_does_not_cost_the_submission(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no fonts")

    monkeypatch.setattr(report, "write_report", fail)
    assert run() == 0
    assert "warning: no report could be made (no fonts); the submission is complete" in capsys.readouterr().out
    told = json.loads((tmp_path / "working" / "run.json").read_text())
    assert told["report"] == "not written: RuntimeError('no fonts')"
