"""To Kaggle and back with the real client and a server in place of Kaggle; and every way in which Kaggle can refuse.

The whole way is tested with `make`, as a person types it. After that each command runs in a process of its own, with a
home folder of its own and no network; these processes are forked from one that has loaded what all of them need.
"""

import errno
import io
import json
import os
import re
import shutil
import ssl
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from kaggle_stand_in import OWNER, TOKEN, StandIn, kaggle_stand_in
from test_wheels import NAMES, write_wheels
from urllib3.connectionpool import ConnectionPool
from urllib3.exceptions import ConnectTimeoutError, MaxRetryError, ProxyError, SSLError

from reid import cli
from reid.config.runtime import Runtime
from reid.data.catalogue import read_catalogue
from reid.data.competition import find_competition
from reid.decision.artifact import open_weights
from reid.decision.discover import discover
from reid.runtime.files import sha256_of

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "kernel"))

import client  # noqa: E402
import kaggle_commands  # noqa: E402
from dry_run import hash_of_sources  # noqa: E402

COMMANDS = ROOT / "kernel" / "kaggle_commands.py"
RUNNER = """
import json, os, sys, tempfile
sys.path.insert(0, {folder!r})
import bleach, kaggle_commands, kagglesdk.kaggle_client, requests  # not kaggle itself, which reads its environment
kaggle_commands.dry_run = lambda *_: None
kaggle_commands.prepare_toy = lambda folder, _: (folder, folder)
assert "kaggle" not in sys.modules
for line in sys.stdin:
    call = json.loads(line)
    if not (child := os.fork()):
        os.environ.clear()
        os.environ.update(call["environment"])
        tempfile.tempdir = None
        for stream, file in ((sys.stdout, call["stdout"]), (sys.stderr, call["stderr"])):
            os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream.fileno())
        sys.exit(kaggle_commands.main(call["arguments"]))
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""Runs commands, a push without its dry run, which has tests of its own."""

KERNEL, DATASET = f"{OWNER}/animal-reid", f"{OWNER}/animal-reid-weights"
OF_2026 = "--competition=animal-clef-2026"


@pytest.fixture
def kaggle() -> Iterator[StandIn]:
    with kaggle_stand_in() as server:
        yield server


@pytest.fixture(scope="module")
def runner() -> Iterator[subprocess.Popen[str]]:
    """A process that runs commands in forks of itself: a line of JSON for each, answered by its exit status."""
    command = [sys.executable, "-c", RUNNER.format(folder=str(COMMANDS.parent))]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    with subprocess.Popen(command, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as found:
        yield found
        found.stdin.close()  # type: ignore[union-attr]


@dataclass
class User:
    """A person who types commands.

    Attributes:
        kaggle: the server.
        runner: the process that runs the commands.
        folder: home, builds.
        data, weights: their folders.
        stdout: what the last command printed there.
        error: its `error: ...` line, "" when there was none.
    """

    kaggle: StandIn
    runner: subprocess.Popen[str]
    folder: Path
    data: Path
    weights: Path
    stdout: str = ""
    error: str = ""

    @property
    def build(self) -> Path:
        return self.folder / "build"

    @property
    def stderr(self) -> str:
        return (self.folder / "stderr").read_text()

    def type(self, command: str, *words: object, **variables: str) -> int:
        """Runs a command; gives its exit status."""
        folders = {"data": self.data, "weights": self.weights, "build": self.build, "kernel": self.build / "kernel"}
        options = [f"--{name}={folder}" for name, folder in folders.items()]
        quick = ["--every=0.02", "--grace=0.2"] + ["--limit=5"] * (not any("--limit" in str(word) for word in words))
        environment = self.kaggle.environment(self.folder) | variables
        call = {
            "arguments": [command, *options, *quick, *map(str, words)],
            "environment": {name: value for name, value in environment.items() if value},
            "stdout": str(self.folder / "stdout"),
            "stderr": str(self.folder / "stderr"),
        }
        assert self.runner.stdin
        assert self.runner.stdout
        print(json.dumps(call), file=self.runner.stdin, flush=True)
        status = int(self.runner.stdout.readline())
        self.stdout = (self.folder / "stdout").read_text()
        errors = [line for line in self.stderr.splitlines() if line.startswith("error: ")]
        assert "Traceback" not in self.stderr, self.stderr
        assert len(errors) == (status == 2), self.stderr
        self.error = "".join(errors)
        return status

    def pushed(self) -> dict[str, Any]:
        return dict(json.loads((self.build / "push.json").read_text()))

    def leave_output(self, **changes: bytes | int | None) -> None:
        """Puts on Kaggle what a good run of the pushed kernel leaves; or something else under a file's name."""
        submission = b"image_id,identity\n" + b"".join(
            line.split(b",")[0] + b",new_individual\n"
            for line in (self.data / "sample_submission.csv").read_bytes().splitlines()[1:]
        )
        (self.folder / "answers").write_bytes(submission)
        run = {
            "bundle": self.pushed()["bundle"],
            "weights": self.pushed()["weights"],
            "submission": sha256_of(self.folder / "answers"),
            "share_new": {"Dots": 1.0},
        }
        left: dict[str, Any] = {"submission_csv": submission, "run_json": json.dumps(run).encode()} | changes
        self.kaggle.outputs = {name.replace("_", "."): content for name, content in left.items() if content is not None}


@pytest.fixture
def user(
    kaggle: StandIn, runner: subprocess.Popen[str], patterns: Path, patterns_weights: Path, tmp_path: Path
) -> User:
    return User(kaggle, runner, tmp_path / "user", patterns, patterns_weights)


# the whole way


@pytest.fixture(scope="module")
def own_submission(
    patterns_original: Path, patterns_weights_original: Path, tmp_path_factory: pytest.TempPathFactory
) -> bytes:
    """What `reid predict` writes."""
    submission = tmp_path_factory.mktemp("own") / "submission.csv"
    words = ["predict", str(patterns_original), "--weights", str(patterns_weights_original), "--out", str(submission)]
    assert cli.main(words) == 0
    return submission.read_bytes()


def lay_out(mounts: dict[Path, Path]) -> None:
    for place, folder in mounts.items():
        shutil.copytree(folder, place)


def run_as_kaggle(text: str, folder: Path, *words: str) -> Path:
    """Runs a script's text as Kaggle does: under another name, in a folder that can't be written, by an interpreter
    that knows nothing of this checkout; gives the folder of its output."""
    source, given = folder / "src", listing(folder / "input")
    source.mkdir()
    script = source / "script.py"
    script.write_text(text)
    script.chmod(stat.S_IRUSR)
    source.chmod(stat.S_IRUSR | stat.S_IXUSR)
    packages = [path for path in sys.path if path.endswith("-packages")]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "KAGGLE_"))}
    dead = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    environment |= {"PYTHONPATH": os.pathsep.join(packages), "HOME": str(folder), **dead}
    sees = "import importlib.util; print([bool(importlib.util.find_spec(name)) for name in ('torch', 'reid')])"
    blind = subprocess.run([sys.executable, "-S", "-c", sees], env=environment, cwd=source, stdout=subprocess.PIPE)
    assert blind.stdout == b"[True, False]\n", "the interpreter must see the packages, but not reid"
    places = ["--input", str(folder / "input"), "--output", str(folder / "working")]
    command = [sys.executable, "-S", "script.py", *places, *words]
    done = subprocess.run(command, env=environment, cwd=source, capture_output=True, text=True, check=False)
    source.chmod(stat.S_IRWXU)
    assert done.returncode == 0, done.stdout + done.stderr
    assert listing(folder / "input") == given, "what Kaggle mounts can't be written"
    assert listing(source).keys() == {"script.py"}
    return folder / "working"


def listing(folder: Path) -> dict[str, int]:
    """Every file below a folder with the time of its last change."""
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@dataclass
class Checkout:
    """A copy of this repository in which a person types make, and all that was printed there."""

    folder: Path
    environment: dict[str, str]
    printed: str = ""

    def make(self, target: str, *variables: str) -> str:
        """Runs a target that must end well; gives what it printed."""
        done = self.run(target, *variables)
        assert done.returncode == 0, done.stdout + done.stderr
        self.printed += done.stdout
        return done.stdout

    def run(self, target: str, *variables: str) -> subprocess.CompletedProcess[str]:
        tools = Path(sys.executable).parent  # instead of an environment of its own
        settings = [f"BIN={tools}", f"ON_KAGGLE={tools}/python kernel/kaggle_commands.py --every=0.02", *variables]
        return subprocess.run(
            ["make", "-s", "-o", ".venv/installed", target, *settings],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def checkout(kaggle: StandIn, patterns_original: Path, patterns_weights_original: Path, tmp_path: Path) -> Checkout:
    folder = tmp_path / "checkout"
    shutil.copytree(ROOT / "kernel", folder / "kernel", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Makefile", "requirements.txt", "pyproject.toml", "kernel-metadata.json", "dataset-metadata.json"):
        shutil.copy(ROOT / name, folder)
    (folder / "src").symlink_to(ROOT / "src")
    shutil.copytree(patterns_weights_original, folder / "weights")
    # dry runs on these patterns instead of a toy world, which takes half a minute to draw and to train on
    toy = folder / "build" / "kaggle" / "toy"
    toy.mkdir(parents=True)
    (toy / "data").symlink_to(patterns_original)
    (toy / "weights").symlink_to(patterns_weights_original)
    (toy / "made-by").write_text(hash_of_sources())
    return Checkout(folder, kaggle.environment(tmp_path / "home") | {"PYTHONPATH": str(ROOT / "src")})


def test_from_weights_to_the_score_with_the_packages_own_submission(
    kaggle: StandIn, checkout: Checkout, patterns_original: Path, own_submission: bytes, tmp_path: Path
) -> None:
    files = [path for path in patterns_original.rglob("*") if path.is_file()]
    kaggle.archive = zipped({str(path.relative_to(patterns_original)): path.read_bytes() for path in files})
    checkout.make("data")
    checkout.make("push-weights")
    assert f"created, private: {DATASET}, ready" in checkout.printed
    checkout.make("push-kernel")
    assert f"pushed version 1 of {KERNEL}: https://www.kaggle.com/code/{KERNEL}" in checkout.printed

    (sent,) = kaggle.bodies("SaveKernel")
    usual = {"slug": KERNEL, "newTitle": "Animal ReID", "language": "python", "kernelType": "script"}
    settings = {"isPrivate": True, "enableGpu": True, "enableInternet": False, "machineShape": "NvidiaTeslaT4"}
    sources = {"datasetDataSources": [DATASET], "competitionDataSources": ["animal-clef-2025"]}
    assert {name: sent.get(name) for name in usual | settings | sources} == usual | settings | sources

    # what Kaggle has now, and nothing else, goes into the run
    received = tmp_path / "received"
    received.mkdir()
    for name, content in kaggle.uploaded().items():
        (received / name).write_bytes(content)
    stage = tmp_path / "kaggle"
    weights = stage / "input" / "datasets" / OWNER / "animal-reid-weights"
    lay_out({stage / "input/competitions/animal-clef-2025": patterns_original, weights: received})
    working = run_as_kaggle(sent["text"], stage)
    assert (working / "submission.csv").read_bytes() == own_submission
    assert (working / "animal_reid.py").read_text() == sent["text"]

    kaggle.outputs = {path.name: path.read_bytes() for path in working.iterdir()}
    assert re.search("RUNNING\n.*COMPLETE\nversion 1 of", checkout.make("kernel-status"))
    checkout.make("kernel-output")
    assert (checkout.folder / "build/kaggle/output/submission.csv").read_bytes() == own_submission
    kaggle.submissions = [[], [_listed("PENDING")], [_listed("COMPLETE", publicScore="0.5", privateScore="0.4")]]
    assert "public score 0.5, private score 0.4" in checkout.make("submit")
    assert kaggle.uploaded()["submission.csv"] == own_submission
    assert kaggle.bodies("CreateSubmission")[0]["competitionName"] == "animal-clef-2025"

    for line in lines_that_the_guide_shows():
        assert re.search(f"^ *{as_printed(line)}$", checkout.printed, re.MULTILINE), line
    kaggle.kernel_states = ["ERROR"]
    failed = checkout.run("kernel-status")
    assert failed.returncode != 0, "make passes the command's status on"
    assert "version 1 ended with ERROR" in failed.stderr


def test_from_data_to_the_score_of_the_next_year(
    kaggle: StandIn, checkout: Checkout, patterns_2026: Path, patterns_weights_original: Path, tmp_path: Path
) -> None:
    """AnimalCLEF26 asks for clusters. Nothing but the variable says so, and no file of the checkout is changed."""
    year = "COMPETITION=animal-clef-2026"
    committed = {name: (checkout.folder / name).read_bytes() for name in METADATA}
    weights = open_weights(patterns_weights_original)
    runtime = Runtime(precision=weights.precision)
    discover(read_catalogue(patterns_2026), weights, use_cache=False, runtime=runtime).save(tmp_path / "own.csv")
    files = [path for path in patterns_2026.rglob("*") if path.is_file()]
    kaggle.archive = zipped({str(path.relative_to(patterns_2026)): path.read_bytes() for path in files})
    checkout.make("data", year)
    assert [body["competitionName"] for body in kaggle.bodies("DownloadDataFiles")] == ["animal-clef-2026"]
    assert "data: no fault in " in checkout.printed
    checkout.make("push-weights", year)
    checkout.make("push-kernel", year)

    (made,), (sent,) = kaggle.bodies("CreateDataset"), kaggle.bodies("SaveKernel")
    assert (made["slug"], made["title"]) == ("animal-reid-weights-2026", "Animal ReID weights 2026")
    wanted = {"slug": f"{KERNEL}-2026", "newTitle": "Animal ReID 2026", "isPrivate": True, "enableInternet": False}
    wanted |= {"datasetDataSources": [f"{DATASET}-2026"], "competitionDataSources": ["animal-clef-2026"]}
    assert {name: sent.get(name) for name in wanted} == wanted
    assert {name: (checkout.folder / name).read_bytes() for name in METADATA} == committed

    received = tmp_path / "received"
    received.mkdir()
    for name, content in kaggle.uploaded().items():
        (received / name).write_bytes(content)
    stage = tmp_path / "kaggle"
    mounted = stage / "input" / "datasets" / OWNER / "animal-reid-weights-2026"
    lay_out({stage / "input/competitions/animal-clef-2026": patterns_2026, mounted: received})
    working = run_as_kaggle(sent["text"], stage)
    for name, own in [("submission.csv", "own.csv"), ("submission.clusters.csv", "own.clusters.csv")]:
        assert (working / name).read_bytes() == (tmp_path / own).read_bytes()

    kaggle.outputs = {path.name: path.read_bytes() for path in working.iterdir()}
    checkout.make("kernel-status", year)
    checkout.make("kernel-output", year)
    output = checkout.folder / "build/kaggle/animal-clef-2026/output"
    assert {path.name for path in output.iterdir()} == {*kaggle.outputs, "animal-reid-2026.log"}
    shutil.copy(output / "submission.csv", tmp_path / "good.csv")
    (output / "submission.csv").write_text((tmp_path / "good.csv").read_text().replace("cluster_Dots_", "cluster_Dot_"))
    assert "expected a cluster of its dataset, cluster_Dots_NAME" in checkout.run("submit", year).stderr
    assert not kaggle.bodies("CreateSubmission")
    shutil.copy(tmp_path / "good.csv", output / "submission.csv")
    assert "expected the record of a push" in checkout.run("kernel-status").stderr, "of the other competition"
    kaggle.submissions = [[_listed("COMPLETE", publicScore="0.5", privateScore="0.4")]]
    checkout.make("submit", year)
    assert kaggle.uploaded()["submission.csv"] == (tmp_path / "own.csv").read_bytes()
    assert kaggle.bodies("CreateSubmission")[0]["competitionName"] == "animal-clef-2026"

    guide = (ROOT / "docs" / "kaggle.md").read_text("utf-8").split("## AnimalCLEF26")[1]
    shown = guide.split("```")[3].partition("\n")[2].splitlines()
    assert len(shown) >= 5
    for line in shown:
        assert re.search(f"^ *{as_printed(line.strip())}$", checkout.printed, re.MULTILINE), line


METADATA = ("kernel-metadata.json", "dataset-metadata.json")


def lines_that_the_guide_shows() -> list[str]:
    """What docs/kaggle.md says that the targets print."""
    guide = (ROOT / "docs" / "kaggle.md").read_text("utf-8")
    blocks = re.findall(r"^ +```\n(.*?)^ +```", guide, re.MULTILINE | re.DOTALL)
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    assert len(lines) >= 16
    return lines


def as_printed(line: str) -> str:
    """A line of the guide as a pattern: names, numbers, hashes and scores are of another day."""
    pattern = re.escape(line).replace("NAME", OWNER).replace(r"\.\.\.", ".*")
    pattern = re.sub(r"\w+(?=:.*(called|clusters))", r"\\w+", pattern)
    return re.sub(r"[0-9a-f]{12}(?=\.\*)|\d[\d,]*", r"[0-9a-f,]+", pattern)


def test_the_kaggle_command_itself_sends_the_same(user: User) -> None:
    assert user.type("push-kernel") == 0, user.error
    submission = user.build / "submission.csv"
    shutil.copy(user.data / "sample_submission.csv", submission)
    assert user.type("submit", f"--submission={submission}", "--message=first try", "--limit=0.1") == 0, user.error
    for words in (
        ["kernels", "push", "-p", str(user.build / "upload-kernel")],
        ["competitions", "submit", "animal-clef-2025", "-f", str(submission), "-m", "first try"],
    ):
        subprocess.run(
            [Path(sys.executable).with_name("kaggle"), *words],
            env=user.kaggle.environment(user.folder),
            capture_output=True,
            check=True,
        )
    for method in ("SaveKernel", "CreateSubmission"):
        ours, theirs = (
            {name: value for name, value in body.items() if name != "blobFileTokens"}
            for body in user.kaggle.bodies(method)
        )
        assert ours == theirs


def _listed(status: str, **fields: str) -> dict[str, Any]:
    return {"ref": 77, "date": "2026-11-01T00:00:00.000Z", "status": status, **fields}


def test_old_mounts_and_several_processes_give_the_same(
    kaggle: StandIn, user: User, patterns_original: Path, own_submission: bytes, tmp_path: Path
) -> None:
    """The queries are divided as among two GPUs; the processes are started anew and load the modules again."""
    assert user.type("push-kernel") == 0, user.error
    stage = tmp_path / "kaggle"
    lay_out(
        {
            stage / "input" / "animal-clef-2025": patterns_original,
            stage / "input" / "animal-reid-weights": user.weights,
        }
    )
    working = run_as_kaggle(kaggle.bodies("SaveKernel")[0]["text"], stage, "--shards=2")
    assert (working / "submission.csv").read_bytes() == own_submission
    assert json.loads((working / "run.json").read_text())["devices"] == ["cpu", "cpu"]


def test_a_bundle_that_fails_its_dry_run_is_not_pushed(kaggle: StandIn, checkout: Checkout, patterns: Path) -> None:
    metadata = (patterns / "metadata.csv").read_text()
    (patterns / "metadata.csv").write_text(metadata.replace(",query,", ",asked,"))
    toy = checkout.folder / "build" / "kaggle" / "toy" / "data"
    toy.unlink()
    toy.symlink_to(patterns)
    failed = checkout.run("push-kernel")
    assert failed.returncode != 0
    assert re.search(
        r"^error: build/kernel/animal_reid\.py: expected it to run on .* but it ended with status 2;",
        failed.stderr,
        re.M,
    )
    assert "  | error: " in failed.stderr, "what the script printed"
    assert {method for method, _ in kaggle.requests} == {"GetDatasetStatus"}, "nothing but a check of the weights"


# what goes up


KINDS = ("", ".gallery", ".reference")
"""Of a dataset's files in a weights folder."""


def test_only_the_weights_go_up_and_nothing_that_lies_beside_them(user: User) -> None:
    for name in ("kaggle.json", ".env", "notes.txt", "access_token"):
        (user.weights / name).write_text("SECRET")
    (user.weights / "private").mkdir()
    (user.weights / "private" / "kaggle.json").write_text("SECRET")
    assert user.type("push-weights") == 0, user.error
    assert set(user.kaggle.uploaded()) == {
        "manifest.json",
        "calibration.json",
        "species.safetensors",
        *(f"{dataset}{kind}.safetensors" for dataset in ("Checks", "Dots") for kind in KINDS),
    }
    for name, content in user.kaggle.uploaded().items():
        assert content == (user.weights / name).read_bytes()
    assert "SECRET" not in json.dumps(user.kaggle.requests)
    (made,) = user.kaggle.bodies("CreateDataset")
    assert made["isPrivate"] is True
    assert made["licenseName"] == "other"

    assert user.type("push-weights") == 0, user.error
    assert f"a new version of {DATASET}, ready" in user.stdout
    assert len(user.kaggle.bodies("CreateDataset")) == 1
    assert len(user.kaggle.bodies("CreateDatasetVersion")) == 1


def test_the_metadata_files_are_as_kaggle_wants_them() -> None:
    from slugify import slugify

    for name, limits in [("kernel-metadata.json", (5, 50)), ("dataset-metadata.json", (6, 50))]:
        metadata = json.loads((ROOT / name).read_text())
        owner, slug = metadata["id"].split("/")
        assert owner == "your-kaggle-name"
        assert slugify(metadata["title"]) == slug
        assert limits[0] <= len(slug) <= limits[1]
        assert limits[0] <= len(metadata["title"]) <= limits[1]
    kernel = json.loads((ROOT / "kernel-metadata.json").read_text())
    assert kernel["dataset_sources"] == [metadata["id"]]
    assert kernel["enable_internet"] is False
    assert kernel["is_private"] is True
    assert len(metadata["licenses"]) == 1


def test_the_name_comes_from_wherever_the_client_finds_credentials(user: User) -> None:
    no_variables = {"KAGGLE_USERNAME": "", "KAGGLE_KEY": ""}
    config = user.folder / ".kaggle"
    config.mkdir(parents=True)
    (config / "kaggle.json").write_text('{"username": "somebody-else", "key": "not-a-key"}')
    assert user.type("push-kernel", **no_variables) == 0, user.error
    (config / "kaggle.json").unlink()
    (config / "access_token").write_text(TOKEN)
    assert user.type("push-kernel", **no_variables) == 0, user.error
    assert [sent["slug"] for sent in user.kaggle.bodies("SaveKernel")] == ["somebody-else/animal-reid", KERNEL]
    (config / "access_token").write_text("of another day")
    assert user.type("push-kernel", **no_variables) == 2
    assert "expected credentials, found none that Kaggle accepts" in user.error


def test_the_name_stands_in_the_staged_copies_only(user: User) -> None:
    assert user.type("push-kernel") == 0, user.error
    staged = json.loads((user.build / "upload-kernel" / "kernel-metadata.json").read_text())
    assert staged["id"] == KERNEL
    assert staged["dataset_sources"] == [DATASET]
    assert OWNER not in (ROOT / "kernel-metadata.json").read_text()


def test_wheels_of_kornia_go_up_as_a_dataset_of_their_own(user: User) -> None:
    wheels = write_wheels(user.folder / "wheels")
    (wheels / "another-1.0-py3-none-any.whl").write_bytes(b"")
    for version in (0, 1):
        assert user.type("push-kernel", f"--kornia={wheels}") == 0, user.error
        (created,) = user.kaggle.bodies("CreateDataset")
        assert (created["slug"], created["isPrivate"]) == ("animal-reid-kornia", True)
        assert len(user.kaggle.bodies("CreateDatasetVersion")) == version
        pushed = user.kaggle.bodies("SaveKernel")[-1]
        assert pushed["datasetDataSources"] == [DATASET, f"{OWNER}/animal-reid-kornia"]
        for name in NAMES.values():
            assert f'"{name}": ["{sha256_of(wheels / name)}", "' in pushed["text"]
    uploaded = {name for name, _ in user.kaggle.blobs.values()}
    assert uploaded == set(NAMES.values())
    assert not list(user.weights.rglob("*.whl"))
    assert user.type("push-kernel", f"--kornia={user.folder / 'nowhere'}") == 2
    assert "expected one wheel kornia-VERSION" in user.error


def test_the_pushed_script_insists_on_the_weights_of_its_time(user: User) -> None:
    assert user.type("push-kernel") == 0, user.error
    manifest = sha256_of(user.weights / "manifest.json")
    assert f'\nWEIGHTS = "{manifest}"' in user.kaggle.bodies("SaveKernel")[0]["text"]
    assert user.pushed()["weights"] == manifest


# another competition


def test_copies_for_another_competition_are_as_kaggle_wants_them(user: User) -> None:
    from slugify import slugify

    assert user.type("push-weights", OF_2026) == 0, user.error
    assert f"created, private: {DATASET}-2026, ready" in user.stdout
    assert user.stdout.endswith("next: make push-kernel COMPETITION=animal-clef-2026\n")
    assert user.type("push-kernel", OF_2026) == 0, user.error
    assert "shows you no dataset" not in user.stderr
    stage = user.build / "animal-clef-2026"
    kernel = json.loads((stage / "upload-kernel" / "kernel-metadata.json").read_text())
    dataset = json.loads((stage / "upload-weights" / "dataset-metadata.json").read_text())
    assert kernel["competition_sources"] == ["animal-clef-2026"]
    assert kernel["dataset_sources"] == [dataset["id"]] == [f"{DATASET}-2026"]
    committed = {name: json.loads((ROOT / name).read_text()) for name in METADATA}
    own = {"id", "title", "code_file", "dataset_sources", "competition_sources"}
    for metadata, name in [(kernel, "kernel-metadata.json"), (dataset, "dataset-metadata.json")]:
        assert slugify(metadata["title"]) == metadata["id"].split("/")[1]
        assert {key for key in metadata if metadata[key] != committed[name][key]} <= own


def test_no_push_replaces_that_of_another_competition(pushed: User) -> None:
    earlier = pushed.pushed()
    assert pushed.type("push-kernel", OF_2026) == 0, pushed.error
    assert "`make push-weights COMPETITION=animal-clef-2026` makes it" in pushed.stderr
    assert pushed.pushed() == earlier
    assert [sent["slug"] for sent in pushed.kaggle.bodies("SaveKernel")] == [KERNEL, f"{KERNEL}-2026"]
    pushed.kaggle.kernel_states = ["RUNNING"]
    for words, name in [((), KERNEL), ((OF_2026,), f"{KERNEL}-2026")]:
        assert pushed.type("kernel-status", "--limit=0.05", *words) == 2
        assert f"error: {name}: running after" in pushed.error
    assert "run `make kernel-status COMPETITION=animal-clef-2026` again later" in pushed.error


def test_a_push_for_another_competition_is_pointed_to(user: User) -> None:
    assert user.type("push-kernel", OF_2026) == 0, user.error
    assert user.type("kernel-output") == 2
    assert "run `make push-kernel`. There is one for COMPETITION=animal-clef-2026" in user.error


@pytest.mark.parametrize("command", ["data", "push-kernel", "submit"])
def test_a_competition_that_the_kit_does_not_know_is_refused(command: str, user: User) -> None:
    assert user.type(command, "--competition=animal-clef-26") == 2
    assert user.error == (
        "error: COMPETITION=animal-clef-26: expected animal-clef-2025 or animal-clef-2026; type one of these\n"
    ).rstrip("\n")
    assert not user.kaggle.requests


def test_output_is_not_checked_against_the_files_of_another_competition(pushed: User, patterns_2026: Path) -> None:
    pushed.leave_output()
    pushed.data = patterns_2026
    assert pushed.type("kernel-output") == 2
    assert "expected the column identity of animal-clef-2025, found cluster" in pushed.error
    assert not pushed.kaggle.bodies("ListKernelSessionOutput")


def test_files_of_another_competition_are_not_taken_for_this_ones(user: User, patterns_2026: Path) -> None:
    words = (
        "sample_submission.csv: expected the column cluster of animal-clef-2026, found identity: these are the files"
    )
    submission = user.data / "sample_submission.csv"
    for command in ("data", "submit"):
        assert user.type(command, OF_2026, f"--submission={submission}") == 2
        assert f"{words} of animal-clef-2025. Type COMPETITION=animal-clef-2025, or name the folder for" in user.error
    user.data = patterns_2026
    submission = patterns_2026 / "sample_submission.csv"
    for command in ("data", "submit"):
        assert user.type(command, f"--submission={submission}") == 2
        assert "expected the column identity of animal-clef-2025, found cluster" in user.error
    assert not user.kaggle.requests
    assert user.type("data", OF_2026) == 0
    assert "is there already" in user.stdout


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda text: text.replace("cluster_Dots_", "cluster_Checks_"),
            "expected a cluster of its dataset, cluster_Do",
        ),
        (lambda text: text.replace("cluster_TexasHornedLizards_0", "", 1), "cluster_TexasHornedLizards_NAME; found ''"),
        (lambda text: text[: text.rindex("\n", 0, -1) + 1], "missing: image_id"),
        (
            lambda text: text.replace("image_id,cluster", "image_id,identity"),
            "found image_id, identity; missing: cluster",
        ),
    ],
)
def test_faulty_clusters_are_not_handed_in(
    change: Callable[[str], str], words: str, user: User, patterns_2026: Path
) -> None:
    user.folder.mkdir()
    user.data = patterns_2026
    good = (patterns_2026 / "sample_submission.csv").read_text()
    (user.folder / "s.csv").write_text(change(good))
    assert user.type("submit", OF_2026, f"--submission={user.folder / 's.csv'}") == 2
    assert words in user.error
    assert not user.kaggle.requests
    (user.folder / "s.csv").write_text(good)
    user.kaggle.submissions = [[_listed("COMPLETE", publicScore="0.5")]]
    assert user.type("submit", OF_2026, f"--submission={user.folder / 's.csv'}") == 0, user.error
    assert "28 answers submitted: Successfully submitted to AnimalCLEF26" in user.stdout


# refusals, each with its next step


@pytest.mark.parametrize("command", ["data", "push-weights", "push-kernel", "kernel-status", "kernel-output", "submit"])
def test_missing_credentials_are_one_line_with_the_next_step(command: str, user: User) -> None:
    assert user.type("push-kernel") == 0
    user.data.rename(user.data.with_name("renamed")) if command == "data" else None
    shutil.copy(user.data / "sample_submission.csv", user.folder / "s.csv") if command == "submit" else None
    user.kaggle.requests.clear()
    assert user.type(command, f"--submission={user.folder / 's.csv'}", KAGGLE_USERNAME="", KAGGLE_KEY="") == 2
    assert "error: kaggle: expected credentials, found none that Kaggle accepts. Make a token at https://" in user.error
    assert "or run `.venv/bin/kaggle auth login`; then run this again" in user.error
    assert "Option A" not in user.stdout
    assert not user.kaggle.requests


@pytest.mark.parametrize("missing", ["KAGGLE_USERNAME", "KAGGLE_KEY"])
def test_one_variable_of_two_is_named(missing: str, user: User) -> None:
    assert user.type("push-kernel", **{missing: ""}) == 2
    assert f"found one of two variables: {missing} is missing. Set it too, or do without both. Make" in user.error


REFUSALS = [
    (401, "new token at https://www.kaggle.com/settings/api"),
    (403, ""),
    (429, "Too many requests: wait some minutes, then run this again"),
    (500, "a fault on Kaggle's side: run this again in some minutes"),
]


@pytest.mark.parametrize(
    ("command", "method"),
    [
        ("data", "DownloadDataFiles"),
        ("push-weights", "CreateDataset"),
        ("push-weights", "ListDatasetFiles"),
        ("push-kernel", "SaveKernel"),
        ("kernel-status", "GetKernelSessionStatus"),
        ("kernel-output", "ListKernelSessionOutput"),
        ("submit", "StartSubmissionUpload"),
        ("submit", "CreateSubmission"),
    ],
)
def test_whatever_kaggle_refuses_the_target_fails_and_names_the_next_step(
    command: str, method: str, user: User
) -> None:
    assert user.type("push-kernel") == 0
    record = user.pushed()
    shutil.copy(user.data / "sample_submission.csv", user.folder / "s.csv")
    if command == "data":
        user.data = user.folder / "new"
    for status, advice in REFUSALS:
        user.kaggle.refuse = {method: (status, "because of a reason")}
        assert user.type(command, f"--submission={user.folder / 's.csv'}") == 2, (command, status)
        assert f"Kaggle answered {status} (because of a reason)" in user.error
        assert advice in user.error
        assert len(user.error.split("). ")[-1]) > 20, "the next step"
        assert user.pushed() == record, "a refused push leaves the record of the last one"


def test_no_server_is_no_traceback(user: User) -> None:
    dead = "http://127.0.0.1:9"
    assert user.type("push-kernel", http_proxy=dead, HTTP_PROXY=dead) == 2
    assert "expected an answer from Kaggle, got none" in user.error
    assert "Check the network" in user.error
    assert "Max retries" not in user.error, "requests' own words are long and name objects"
    assert "Connection refused" in user.error
    assert "dry run" not in user.stdout, "it is known before anybody waits"


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        (
            lambda: requests.ConnectionError(
                MaxRetryError(
                    ConnectionPool("kaggle.com"),
                    "/x",
                    ProxyError("Unable to connect to proxy", OSError(111, "Connection refused")),
                )
            ),
            "Unable to connect to proxy: Connection refused",
        ),
        (
            lambda: requests.exceptions.SSLError(
                MaxRetryError(
                    ConnectionPool("kaggle.com"),
                    "/x",
                    SSLError(ssl.SSLError(1, "[SSL: CERTIFICATE_VERIFY_FAILED] self-signed")),
                )
            ),
            "[SSL: CERTIFICATE_VERIFY_FAILED] self-signed",
        ),
        (
            lambda: requests.ConnectTimeout(
                MaxRetryError(
                    ConnectionPool("kaggle.com"),
                    "/x",
                    ConnectTimeoutError(object(), "Connection to www.kaggle.com timed out"),
                )
            ),
            "Connection to www.kaggle.com timed out",
        ),
        (lambda: requests.ConnectionError("no way"), "no way"),
        (lambda: KeyError(3), "KeyError: 3"),
        (lambda: ValueError(), "ValueError: ValueError"),
    ],
)
def test_the_reason_is_given_without_what_wraps_it(problem: Callable[[], Exception], words: str) -> None:
    def call() -> None:
        raise problem()

    with pytest.raises(client.KaggleError) as refused:
        client.request("pushing", call)
    assert refused.value.found.endswith(f"({words})")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            {"error": "Maximum number of GPU sessions"},
            r"Kaggle refused it \(Maximum number of GPU sessions\). No new ver",
        ),
        (
            {"invalidDatasetSources": [DATASET]},
            r"pushed without its dataset some-kaggler/animal-reid-weights.*Run `make push",
        ),
        (
            {"invalidCompetitionSources": ["animal-clef-2025"]},
            r"without its competition animal-clef-2025.*Accept the comp",
        ),
        (
            {"versionNumber": None, "url": None},
            r"Kaggle's answer names no version.*https://www.kaggle.com/code/some-kaggler",
        ),
    ],
)
def test_a_push_that_the_client_calls_a_success_is_not_believed(answer: dict[str, Any], words: str, user: User) -> None:
    user.kaggle.answers["SaveKernel"] = answer
    assert user.type("push-kernel") == 2
    assert re.search(words, user.error), user.error
    assert "pushed version" not in user.stdout
    assert not (user.build / "push.json").exists()


def test_what_runs_without_its_weights_is_not_taken_for_the_push_before(pushed: User) -> None:
    pushed.kaggle.answers["SaveKernel"] = {"invalidDatasetSources": [DATASET]}
    assert pushed.type("push-kernel") == 2
    assert pushed.type("kernel-status") == 2
    assert "expected the record of a push, found none; run `make push-kernel`" in pushed.error


@pytest.mark.parametrize("command", ["push-weights", "push-kernel"])
def test_a_push_without_weights_says_what_makes_them(command: str, user: User) -> None:
    (user.weights / "manifest.json").unlink()
    assert user.type(command) == 2
    assert "manifest.json: expected the manifest of a weights folder, found none; run `make train`" in user.error
    assert not user.kaggle.requests


def test_a_dataset_that_kaggle_does_not_show_is_warned_of_before_the_dry_run(user: User) -> None:
    assert user.type("push-kernel") == 0, user.error
    warning = f"warning: Kaggle shows you no dataset {DATASET}; `make push-weights` makes it"
    assert warning in user.stderr
    for status in (400, 403, 429, 500):  # it is a courtesy, and the push itself is asked for
        user.kaggle.refuse["GetDatasetStatus"] = (status, "no")
        assert user.type("push-kernel") == 0, user.error
        assert (warning in user.stderr) == (status == 403)
    user.kaggle.refuse["GetDatasetStatus"] = (401, "no")
    assert user.type("push-kernel") == 2
    user.kaggle.refuse.clear()
    assert user.type("push-weights") == 0, user.error
    assert user.type("push-kernel") == 0, user.error
    assert warning not in user.stderr


def test_weights_for_a_quick_look_go_up_with_a_warning(user: User) -> None:
    manifest = user.weights / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"limit": 16}))
    assert user.type("push-weights") == 0, user.error
    assert "trained on part of the database only (--limit 16" in user.stderr


def test_a_file_that_is_lost_on_the_way_up_is_named(user: User) -> None:
    user.kaggle.lose = {"Dots.safetensors"}
    assert user.type("push-weights") == 2
    assert re.search(r"Dots\.safetensors(\)\.| got lost;) run this again", user.error, re.IGNORECASE), user.error
    user.kaggle.lose, user.kaggle.drop = set(), {"manifest.json", "species.safetensors"}
    assert user.type("push-weights") == 2
    assert "manifest.json, species.safetensors got lost" in user.error


def test_damaged_weights_do_not_go_up(user: User) -> None:
    (user.weights / "Dots.safetensors").write_bytes(b"cut short")
    assert user.type("push-weights") == 2
    assert "Dots.safetensors: expected sha256" in user.error
    assert not user.kaggle.requests


def test_a_dataset_that_is_refused_fails_or_stays_unready_is_no_success(user: User) -> None:
    user.kaggle.answers["CreateDataset"] = {"status": "error", "error": "The title is taken"}
    assert user.type("push-weights") == 2
    assert "Kaggle refused it (The title is taken)" in user.error
    user.kaggle.dataset_states = ["BLOBS_RECEIVED", "FAILED"]
    assert user.type("push-weights") == 2
    assert "Kaggle could not process it (status failed)" in user.error
    user.kaggle.dataset_states = ["BLOBS_RECEIVED"]
    assert user.type("push-weights", "--limit=0.1") == 2
    assert "uploaded, but not ready after 0 s" in user.error
    user.kaggle.dataset_states = ["READY", "BLOBS_RECEIVED", "BLOBS_COPIED_TO_SDS", "READY"]
    assert user.type("push-weights") == 0, user.error


# the run


@pytest.fixture
def pushed(user: User) -> User:
    assert user.type("push-kernel") == 0, user.error
    return user


def test_a_run_that_ends_in_error_fails_the_target(pushed: User) -> None:
    pushed.kaggle.kernel_states = ["QUEUED", "RUNNING", "ERROR"]
    pushed.kaggle.answers["GetKernelSessionStatus"] = {"failureMessage": "Out of\nmemory"}
    assert pushed.type("kernel-status") == 2
    assert (
        "version 1 ended with ERROR (Out of memory). Read its log at https://www.kaggle.com/code/some-" in pushed.error
    )
    assert "then `make push-kernel`" in pushed.error


@pytest.mark.parametrize("end", ["ERROR", "CANCEL_ACKNOWLEDGED"])
def test_a_run_that_ended_before_the_first_check_fails_too(end: str, pushed: User) -> None:
    pushed.kaggle.kernel_states = [end]
    assert pushed.type("kernel-status") == 2
    assert f"version 1 ended with {end}" in pushed.error


def test_the_status_of_the_run_before_is_not_believed(pushed: User) -> None:
    other = json.dumps({"bundle": "0" * 64}).encode()
    pushed.leave_output(run_json=other)
    pushed.kaggle.kernel_states = ["COMPLETE"]
    assert pushed.type("kernel-status") == 2
    assert "expected the run of version 1, found the end of another one" in pushed.error
    pushed.kaggle.kernel_states = ["ERROR", "ERROR", "RUNNING", "COMPLETE"]
    pushed.leave_output()
    assert pushed.type("kernel-status") == 0, pushed.error
    assert "version 1 of some-kaggler/animal-reid is complete" in pushed.stdout


def test_a_run_that_takes_longer_than_one_waits_is_no_success(pushed: User) -> None:
    pushed.kaggle.kernel_states = ["RUNNING"]
    assert pushed.type("kernel-status", "--limit=0.1") == 2
    assert "running after 0 s; run `make kernel-status` again later" in pushed.error


def test_status_and_output_need_a_push(user: User) -> None:
    for command in ("kernel-status", "kernel-output"):
        assert user.type(command) == 2
        assert "push.json: expected the record of a push, found none; run `make push-kernel`" in user.error


SERVER_FAULT = r"Kaggle answered 500 .* run this again in some minutes|"
"""Up to 2.2.4 the client saves the server's error page under the file's name, later it fails."""


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (
            "submission_csv",
            500,
            SERVER_FAULT + r"submission.csv: expected the file that the kernel wrote, got another text",
        ),
        ("submission_csv", None, r"submission.csv: expected the file that the kernel wrote, got none"),
        ("submission_csv", b"image_id,identity\n", r"got another text \(an error, or cut short\)"),
        (
            "run_json",
            500,
            SERVER_FAULT + r"found no run.json that can be read: it is of another run, or the run did not end well",
        ),
        ("run_json", None, r"found no run.json that can be read"),
        ("run_json", b'{"bundle": "00"}', r"expected the output of bundle .*, found 00\.\.\.: it is of another run"),
    ],
)
def test_output_that_is_not_the_pushed_runs_is_refused(
    name: str, content: bytes | int | None, words: str, pushed: User
) -> None:
    pushed.leave_output(**{name: content})
    assert pushed.type("kernel-output") == 2
    assert re.search(words, pushed.error), pushed.error
    assert not (pushed.build / "output").exists()


def test_output_of_other_weights_is_refused(pushed: User) -> None:
    pushed.leave_output()
    run = json.loads(pushed.kaggle.outputs["run.json"])  # type: ignore[arg-type]
    pushed.kaggle.outputs["run.json"] = json.dumps(run | {"weights": "1" * 64}).encode()
    assert pushed.type("kernel-output") == 2
    assert "found 111111111111...: the kernel ran with other weights" in pushed.error


def test_nothing_but_what_the_kernel_promises_is_downloaded(pushed: User) -> None:
    pushed.leave_output()
    pushed.kaggle.outputs |= {"core.12": b"x", "../../escaped.csv": b"x"}
    assert pushed.type("kernel-output") == 0, pushed.error
    assert {path.name for path in (pushed.build / "output").iterdir()} == {
        "submission.csv",
        "run.json",
        "animal-reid.log",
    }
    assert not list(pushed.folder.rglob("escaped.csv"))
    assert "28 answers, checked:" in pushed.stdout


# the submission


def test_a_faulty_submission_is_not_handed_in(user: User) -> None:
    user.folder.mkdir()
    rows = (user.data / "sample_submission.csv").read_text().splitlines()
    (user.folder / "s.csv").write_text("\n".join(rows[:-1]) + "\n")
    assert user.type("submit", f"--submission={user.folder / 's.csv'}") == 2
    assert "s.csv: missing: image_id" in user.error
    assert "Do not submit it" in user.error
    assert user.type("submit", f"--submission={user.folder / 'none.csv'}") == 2
    assert "expected a submission, found none. Run `make kernel-output`" in user.error
    assert not user.kaggle.requests


def test_what_kaggle_says_to_a_submission_is_passed_on(user: User) -> None:
    user.folder.mkdir()
    shutil.copy(user.data / "sample_submission.csv", user.folder / "submission.csv")
    call = ("submit", f"--submission={user.folder / 'submission.csv'}", "--limit=0.1")
    user.kaggle.lose = {"submission.csv"}
    assert user.type(*call) == 2
    assert "Could not submit to competition. Nothing was submitted; run this again" in user.error
    user.kaggle.lose = set()
    user.kaggle.refuse = {"CreateSubmission": (400, "Bad Request")}
    assert user.type(*call) == 2
    assert "Kaggle answered 400 (Bad Request)" in user.error
    assert "today's submissions are used up, the rules are not accepted" in user.error
    user.kaggle.refuse = {}
    user.kaggle.submissions = [[_listed("ERROR", errorDescription="Wrong number of rows")]]
    assert user.type(*call) == 2
    assert "Kaggle could not score it (Wrong number of rows)" in user.error
    user.kaggle.submissions = [[_listed("PENDING")]]
    assert user.type(*call) == 0
    assert "no score after 0 s; do not submit again; the score will be at https://www.kaggle.com/comp" in user.stdout


@pytest.mark.parametrize("status", [401, 500])
def test_a_score_that_cannot_be_asked_for_does_not_ask_for_another_submission(status: int, user: User) -> None:
    user.folder.mkdir()
    shutil.copy(user.data / "sample_submission.csv", user.folder / "s.csv")
    user.kaggle.refuse = {"ListSubmissions": (status, "because of a reason")}
    assert user.type("submit", f"--submission={user.folder / 's.csv'}") == 0
    assert f"Kaggle answered {status} (because of a reason); do not submit again; the score will be at" in user.stdout
    assert "run this again" not in user.stdout


# the data


def zipped(files: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", compression) as opened:
        for name, content in files.items():
            opened.writestr(name, content)
    return archive.getvalue()


def _scrambled(archive: bytes) -> bytes:
    """The first file's compressed bytes begin with a kind of block that deflate does not have."""
    start = 30 + len("metadata.csv")
    return archive[:start] + b"\xff" + archive[start + 1 :]


@pytest.fixture
def new_data(user: User) -> Callable[[bytes], int]:
    def fetch(archive: bytes) -> int:
        user.data, user.kaggle.archive = user.folder / "data", archive
        return user.type("data")

    return fetch


def test_the_data_is_downloaded_once_and_unpacked(new_data: Callable[[bytes], int], user: User) -> None:
    assert new_data(zipped({"metadata.csv": b"rows", "images/a.jpg": b"pixels"})) == 0, user.error
    assert (user.data / "images" / "a.jpg").read_bytes() == b"pixels"
    assert find_competition(user.data).startswith("competition.json")
    assert not list(user.build.glob("*.zip"))
    user.kaggle.requests.clear()
    assert user.type("data") == 0
    assert "is there already" in user.stdout
    assert not user.kaggle.requests


def test_rules_that_are_not_accepted_are_named(new_data: Callable[[bytes], int], user: User) -> None:
    user.kaggle.refuse = {"DownloadDataFiles": (403, "Forbidden")}
    assert new_data(b"") == 2
    assert "Accept the rules at https://www.kaggle.com/competitions/animal-clef-2025/rules" in user.error


@pytest.mark.parametrize(
    ("archive", "words"),
    [
        (b"<html>busy</html>", "expected the competition's zip, but it is damaged"),
        (zipped({"metadata.csv": b"rows" * 99})[:-30], "expected the competition's zip, but it is damaged"),
        (zipped({"metadata.csv": b"rows" * 99}).replace(b"rowsrows", b"rowsrots"), "damaged (Bad CRC-32 for file"),
        (_scrambled(zipped({"metadata.csv": bytes(range(256)) * 99}, zipfile.ZIP_DEFLATED)), "it is damaged (Error -3"),
        (zipped({"../metadata.csv": b"rows"}), "expected files inside the folder, found '../metadata.csv'"),
        (zipped({"/tmp/metadata.csv": b"rows"}), "expected files inside the folder, found '/tmp/metadata.csv'"),
        (zipped({}), "it is damaged (it holds no file); it was removed, run this again"),
        (zipped({"images/": b""}), "it is damaged (it holds no file); it was removed, run this again"),
        (zipped({"readme.txt": b"words"}), "expected metadata.csv in what Kaggle sent, found readme.txt"),
    ],
)
def test_an_archive_that_is_no_data_is_refused(
    archive: bytes, words: str, new_data: Callable[[bytes], int], user: User
) -> None:
    assert new_data(archive) == 2
    assert words in user.error
    assert not user.data.exists()
    assert new_data(zipped({"metadata.csv": b"rows"})) == 0, "the refused download must not stand in the way"


def test_a_file_that_cannot_be_written_is_no_fault_of_the_network(new_data: Callable[[bytes], int], user: User) -> None:
    (user.build / "animal-clef-2025.zip").mkdir(parents=True)
    assert new_data(zipped({"metadata.csv": b"rows"})) == 2
    assert "animal-clef-2025.zip can't be written (Is a directory). Free some space" in user.error


@pytest.mark.parametrize(
    ("command", "folder"),
    [
        ("data", "build"),
        ("push-kernel", "build/upload-kernel"),
    ],
)
def test_a_file_where_a_folder_is_needed_is_one_line(command: str, folder: str, user: User) -> None:
    if command == "data":
        user.data, user.kaggle.archive = user.folder / "data", zipped({"metadata.csv": b"rows"})
    (user.folder / folder).parent.mkdir(parents=True)
    (user.folder / folder).write_text("words")
    assert user.type(command) == 2
    assert user.error.startswith(f"error: {user.folder / folder}")
    assert "expected files and folders that can be read and written, but the machine refused (" in user.error
    assert "Free some space, fix that folder or name another (`--help` shows how), then run this again" in user.error
    assert (user.folder / folder).read_text() == "words"


def test_a_disk_that_is_full_while_staging_is_one_line(
    patterns_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(number: int) -> Callable[[Path, Path], None]:
        def fail(source: Path, target: Path) -> None:
            raise OSError(number, os.strerror(number), str(source), None, str(target))

        return fail

    monkeypatch.setattr(kaggle_commands, "log_in", lambda: SimpleNamespace(config_values={"username": OWNER}))
    monkeypatch.setattr("os.link", fails(errno.EXDEV))  # another disk, so that it is copied
    monkeypatch.setattr("shutil.copy", fails(errno.ENOSPC))
    assert kaggle_commands.main(["push-weights", f"--weights={patterns_weights}", f"--build={tmp_path / 'build'}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    source, target = patterns_weights / "manifest.json", tmp_path / "build" / "upload-weights" / "manifest.json"
    assert line.startswith(f"error: {source} -> {target}: expected files and folders that can be read and written")
    assert "the machine refused (No space left on device). Free some space" in line


def test_files_of_the_user_are_not_overwritten(new_data: Callable[[bytes], int], user: User) -> None:
    (user.folder / "data").mkdir(parents=True)
    (user.folder / "data" / "own.txt").write_text("words")
    assert new_data(zipped({"metadata.csv": b"rows"})) == 2
    assert "expected no folder or an empty one, found files" in user.error
    assert (user.folder / "data" / "own.txt").read_text() == "words"
