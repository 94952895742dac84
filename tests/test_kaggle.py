"""To Kaggle and back with the real client and a server in Kaggle's stead; and every way in which Kaggle can refuse.

Each verb runs in a process of its own, as `make` starts it, with a home folder of its own and no way to the network.
"""

import io
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kaggle_stand_in import OWNER, StandIn, kaggle_stand_in

from reid import cli
from reid.files import sha256_of

ROOT = Path(__file__).parents[1]
COURIER = ROOT / "kernel" / "courier.py"
WITHOUT_REHEARSAL = (
    "import sys; sys.path.insert(0, {folder!r}); import courier; courier.rehearse = lambda *_: None; "
    "courier.toy_stage = lambda folder: (folder, folder); sys.exit(courier.main(sys.argv[1:]))"
)
"""What a push does around the rehearsal; the rehearsal itself has its own tests."""

KERNEL, DATASET = f"{OWNER}/animal-reid", f"{OWNER}/animal-reid-weights"


@pytest.fixture
def kaggle() -> Iterator[StandIn]:
    with kaggle_stand_in() as server:
        yield server


@dataclass
class Desk:
    """Where a person sits who types the make targets.

    Attributes:
        kaggle: the server.
        folder: home, builds.
        data, weights: their folders.
        said: what the last verb printed.
        error: its `error: ...` line, "" when there was none.
    """

    kaggle: StandIn
    folder: Path
    data: Path
    weights: Path
    said: str = ""
    error: str = ""

    @property
    def build(self) -> Path:
        return self.folder / "build"

    def type(self, verb: str, *words: object, rehearse: bool = False, **variables: str) -> int:
        """Runs a verb; gives its status."""
        start = [str(COURIER)] if rehearse else ["-c", WITHOUT_REHEARSAL.format(folder=str(COURIER.parent))]
        places = {"data": self.data, "weights": self.weights, "build": self.build, "kernel": self.build / "kernel"}
        options = [f"--{name}={place}" for name, place in places.items()]
        quick = ["--every=0.02", "--grace=0.2"] + ["--limit=5"] * (not any("--limit" in str(word) for word in words))
        environment = self.kaggle.environment(self.folder) | {"PYTHONPATH": str(ROOT / "src")} | variables
        environment = {name: value for name, value in environment.items() if value}
        done = subprocess.run(
            [sys.executable, *start, verb, *options, *quick, *map(str, words)],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert "Traceback" not in done.stderr, done.stderr
        assert len(errors) == (done.returncode == 2), done.stderr
        self.said, self.error = done.stdout, "".join(errors)
        return done.returncode

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
def desk(kaggle: StandIn, patterns: Path, patterns_weights: Path, tmp_path: Path) -> Desk:
    return Desk(kaggle, tmp_path / "desk", patterns, patterns_weights)


# the whole way


def lay_out(mounts: dict[Path, Path]) -> None:
    for place, folder in mounts.items():
        shutil.copytree(folder, place)


def run_as_kaggle(text: str, folder: Path) -> Path:
    """Runs a script's text as Kaggle does: under another name, in a folder that can't be written, by an interpreter
    that knows nothing of this checkout; gives the folder of its output."""
    source = folder / "src"
    source.mkdir()
    script = source / "script.py"
    script.write_text(text)
    script.chmod(stat.S_IRUSR)
    source.chmod(stat.S_IRUSR | stat.S_IXUSR)
    packages = [path for path in sys.path if path.endswith("-packages")]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "KAGGLE_"))}
    dead = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    environment |= {"PYTHONPATH": os.pathsep.join(packages), "HOME": str(folder), **dead}
    blind = subprocess.run([sys.executable, "-S", "-c", "import torch, reid"], env=environment, cwd=source)
    assert blind.returncode != 0, "the interpreter must not see the package"
    command = [sys.executable, "-S", "script.py", "--input", str(folder / "input"), "--output", str(folder / "working")]
    done = subprocess.run(command, env=environment, cwd=source, capture_output=True, text=True)
    source.chmod(stat.S_IRWXU)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "working"


def test_from_weights_to_the_score_with_the_packages_own_submission(
    desk: Desk, patterns: Path, patterns_weights: Path, tmp_path: Path
) -> None:
    kaggle, rehearsal = desk.kaggle, tmp_path / "rehearsal"
    rehearsal.mkdir()
    (rehearsal / "data").symlink_to(patterns)
    (rehearsal / "weights").symlink_to(patterns_weights)

    assert desk.type("push-weights") == 0, desk.error
    assert f"made, private: {DATASET}, ready" in desk.said
    assert desk.type("push-kernel", f"--rehearsal={rehearsal}", rehearse=True) == 0, desk.error
    assert f"pushed version 1 of {KERNEL}: https://www.kaggle.com/code/{KERNEL}" in desk.said

    (sent,) = kaggle.asked("SaveKernel")
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
    lay_out({stage / "input/competitions/animal-clef-2025": patterns, weights: received})
    working = run_as_kaggle(sent["text"], stage)

    predicted = cli.main(
        ["predict", str(patterns), "--weights", str(patterns_weights), "--out", str(tmp_path / "own.csv")]
    )
    assert predicted == 0
    own = (tmp_path / "own.csv").read_bytes()
    assert (working / "submission.csv").read_bytes() == own
    assert (working / "animal_reid.py").read_text() == sent["text"]

    kaggle.outputs = {path.name: path.read_bytes() for path in working.iterdir()}
    assert desk.type("kernel-status") == 0, desk.error
    assert re.search("RUNNING\n.*COMPLETE\nversion 1 of", desk.said)
    assert desk.type("kernel-output") == 0, desk.error
    assert (desk.build / "output" / "submission.csv").read_bytes() == own
    kaggle.submissions = [[], [_listed("PENDING")], [_listed("COMPLETE", publicScore="0.5", privateScore="0.4")]]
    assert desk.type("submit") == 0, desk.error
    assert "public score 0.5, private score 0.4" in desk.said
    assert kaggle.uploaded()["submission.csv"] == own
    assert kaggle.asked("CreateSubmission")[0]["competitionName"] == "animal-clef-2025"


def test_the_kaggle_command_itself_sends_the_same(desk: Desk) -> None:
    assert desk.type("push-kernel") == 0, desk.error
    submission = desk.build / "submission.csv"
    shutil.copy(desk.data / "sample_submission.csv", submission)
    assert desk.type("submit", f"--submission={submission}", "--message=first try", "--limit=0.1") == 0, desk.error
    for words in (
        ["kernels", "push", "-p", str(desk.build / "upload-kernel")],
        ["competitions", "submit", "animal-clef-2025", "-f", str(submission), "-m", "first try"],
    ):
        subprocess.run(
            [Path(sys.executable).with_name("kaggle"), *words],
            env=desk.kaggle.environment(desk.folder),
            capture_output=True,
            check=True,
        )
    for method in ("SaveKernel", "CreateSubmission"):
        ours, theirs = (
            {name: value for name, value in body.items() if name != "blobFileTokens"}
            for body in desk.kaggle.asked(method)
        )
        assert ours == theirs


def _listed(status: str, **fields: str) -> dict[str, Any]:
    return {"ref": 77, "date": "2026-11-01T00:00:00.000Z", "status": status, **fields}


def test_the_old_mounts_serve_as_well(desk: Desk, patterns: Path, patterns_weights: Path, tmp_path: Path) -> None:
    assert desk.type("push-kernel") == 0, desk.error
    stage = tmp_path / "kaggle"
    lay_out(
        {
            stage / "input" / "animal-clef-2025": patterns,
            stage / "input" / "animal-reid-weights": patterns_weights,
        }
    )
    working = run_as_kaggle(desk.kaggle.asked("SaveKernel")[0]["text"], stage)
    assert (
        cli.main(["predict", str(patterns), "--weights", str(patterns_weights), "--out", str(tmp_path / "own.csv")])
        == 0
    )
    assert (working / "submission.csv").read_bytes() == (tmp_path / "own.csv").read_bytes()


def test_a_bundle_that_fails_its_rehearsal_is_not_pushed(desk: Desk, patterns: Path, tmp_path: Path) -> None:
    rehearsal = tmp_path / "rehearsal"
    rehearsal.mkdir()
    broken = Path(shutil.copytree(patterns, rehearsal / "data"))
    (broken / "metadata.csv").write_text((broken / "metadata.csv").read_text().replace(",query,", ",asked,"))
    shutil.copytree(desk.weights, rehearsal / "weights")
    assert desk.type("push-kernel", f"--rehearsal={rehearsal}", rehearse=True) == 2
    assert "expected it to run on" in desk.error
    assert "it ended with status 2" in desk.error
    assert not desk.kaggle.requests


# what goes up


def test_only_the_weights_go_up_and_nothing_that_lies_beside_them(desk: Desk) -> None:
    for name in ("kaggle.json", ".env", "notes.txt", "access_token"):
        (desk.weights / name).write_text("SECRET")
    (desk.weights / "private").mkdir()
    (desk.weights / "private" / "kaggle.json").write_text("SECRET")
    assert desk.type("push-weights") == 0, desk.error
    assert set(desk.kaggle.uploaded()) == {
        "manifest.json",
        "calibration.json",
        "species.safetensors",
        *(f"{dataset}{kind}.safetensors" for dataset in ("Checks", "Dots") for kind in ("", ".gallery")),
    }
    for name, content in desk.kaggle.uploaded().items():
        assert content == (desk.weights / name).read_bytes()
    assert "SECRET" not in json.dumps(desk.kaggle.requests)
    (made,) = desk.kaggle.asked("CreateDataset")
    assert made["isPrivate"] is True
    assert made["licenseName"] == "other"

    assert desk.type("push-weights") == 0, desk.error
    assert f"a new version of {DATASET}, ready" in desk.said
    assert len(desk.kaggle.asked("CreateDataset")) == 1
    assert len(desk.kaggle.asked("CreateDatasetVersion")) == 1


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


def test_the_name_stands_in_the_staged_copies_only(desk: Desk) -> None:
    assert desk.type("push-kernel") == 0, desk.error
    staged = json.loads((desk.build / "upload-kernel" / "kernel-metadata.json").read_text())
    assert staged["id"] == KERNEL
    assert staged["dataset_sources"] == [DATASET]
    assert OWNER not in (ROOT / "kernel-metadata.json").read_text()


def test_the_pushed_script_insists_on_the_weights_of_its_time(desk: Desk) -> None:
    assert desk.type("push-kernel") == 0, desk.error
    manifest = sha256_of(desk.weights / "manifest.json")
    assert f'\nWEIGHTS = "{manifest}"' in desk.kaggle.asked("SaveKernel")[0]["text"]
    assert desk.pushed()["weights"] == manifest


# refusals, each with its next step


@pytest.mark.parametrize("verb", ["data", "push-weights", "push-kernel", "kernel-status", "kernel-output", "submit"])
def test_missing_credentials_are_one_line_with_the_next_step(verb: str, desk: Desk) -> None:
    assert desk.type("push-kernel") == 0
    desk.data.rename(desk.data.with_name("renamed")) if verb == "data" else None
    shutil.copy(desk.data / "sample_submission.csv", desk.folder / "s.csv") if verb == "submit" else None
    desk.kaggle.requests.clear()
    assert desk.type(verb, f"--submission={desk.folder / 's.csv'}", KAGGLE_USERNAME="", KAGGLE_KEY="") == 2
    assert "error: kaggle: expected credentials, found none that Kaggle accepts. Make a token at https://" in desk.error
    assert "Option A" not in desk.said
    assert not desk.kaggle.requests


REFUSALS = [
    (401, "new token at https://www.kaggle.com/settings/api"),
    (403, ""),
    (429, "Too many requests: wait some minutes, then run this again"),
    (500, "a fault on Kaggle's side: run this again in some minutes"),
]


@pytest.mark.parametrize(
    ("verb", "method"),
    [
        ("data", "DownloadDataFiles"),
        ("push-weights", "CreateDataset"),
        ("push-kernel", "SaveKernel"),
        ("kernel-status", "GetKernelSessionStatus"),
        ("kernel-output", "ListKernelSessionOutput"),
        ("submit", "CreateSubmission"),
    ],
)
def test_whatever_kaggle_refuses_the_target_fails_and_names_the_next_step(verb: str, method: str, desk: Desk) -> None:
    assert desk.type("push-kernel") == 0
    record = desk.pushed()
    shutil.copy(desk.data / "sample_submission.csv", desk.folder / "s.csv")
    if verb == "data":
        desk.data = desk.folder / "new"
    # the verbs that load torch take their time: half of the refusals for them
    for status, advice in REFUSALS[1::2] if verb in ("push-weights", "submit") else REFUSALS:
        desk.kaggle.refuse = {method: (status, "because of a reason")}
        assert desk.type(verb, f"--submission={desk.folder / 's.csv'}") == 2, (verb, status)
        assert f"Kaggle answered {status} (because of a reason)" in desk.error
        assert advice in desk.error
        assert len(desk.error.split("). ")[-1]) > 20, "the next step"
        assert desk.pushed() == record, "a refused push leaves the record of the last one"


def test_no_server_is_no_traceback(desk: Desk) -> None:
    dead = "http://127.0.0.1:9"
    assert desk.type("push-kernel", http_proxy=dead, HTTP_PROXY=dead) == 2
    assert "expected an answer from Kaggle, got none" in desk.error
    assert "Check the network" in desk.error


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
def test_a_push_that_the_client_calls_a_success_is_not_believed(answer: dict[str, Any], words: str, desk: Desk) -> None:
    desk.kaggle.answers["SaveKernel"] = answer
    assert desk.type("push-kernel") == 2
    assert re.search(words, desk.error), desk.error
    assert "pushed version" not in desk.said
    assert not (desk.build / "push.json").exists()


def test_a_push_without_weights_says_what_makes_them(desk: Desk) -> None:
    (desk.weights / "manifest.json").unlink()
    assert desk.type("push-kernel") == 2
    assert "manifest.json: expected the manifest of a weights folder, found none; run `make train`" in desk.error
    assert not desk.kaggle.requests


def test_a_file_that_is_lost_on_the_way_up_is_named(desk: Desk) -> None:
    desk.kaggle.lose = {"Dots.safetensors"}
    assert desk.type("push-weights") == 2
    assert re.search(r"Dots\.safetensors(\)\.| got lost;) run this again", desk.error, re.IGNORECASE), desk.error
    desk.kaggle.lose, desk.kaggle.drop = set(), {"manifest.json", "species.safetensors"}
    assert desk.type("push-weights") == 2
    assert "manifest.json, species.safetensors got lost" in desk.error


def test_damaged_weights_do_not_go_up(desk: Desk) -> None:
    (desk.weights / "Dots.safetensors").write_bytes(b"cut short")
    assert desk.type("push-weights") == 2
    assert "Dots.safetensors: expected sha256" in desk.error
    assert not desk.kaggle.requests


def test_a_dataset_that_is_refused_fails_or_stays_unready_is_no_success(desk: Desk) -> None:
    desk.kaggle.answers["CreateDataset"] = {"status": "error", "error": "The title is taken"}
    assert desk.type("push-weights") == 2
    assert "Kaggle refused it (The title is taken)" in desk.error
    desk.kaggle.dataset_states = ["BLOBS_RECEIVED", "FAILED"]
    assert desk.type("push-weights") == 2
    assert "Kaggle could not process it (status failed)" in desk.error
    desk.kaggle.dataset_states = ["BLOBS_RECEIVED"]
    assert desk.type("push-weights", "--limit=0.1") == 2
    assert "uploaded, but not ready after 0 s" in desk.error
    desk.kaggle.dataset_states = ["READY", "BLOBS_RECEIVED", "BLOBS_COPIED_TO_SDS", "READY"]
    assert desk.type("push-weights") == 0, desk.error


# the run


@pytest.fixture
def pushed(desk: Desk) -> Desk:
    assert desk.type("push-kernel") == 0, desk.error
    return desk


def test_a_run_that_ends_in_error_fails_the_target(pushed: Desk) -> None:
    pushed.kaggle.kernel_states = ["QUEUED", "RUNNING", "ERROR"]
    pushed.kaggle.answers["GetKernelSessionStatus"] = {"failureMessage": "Out of\nmemory"}
    assert pushed.type("kernel-status") == 2
    assert (
        "version 1 ended with ERROR (Out of memory). Read its log at https://www.kaggle.com/code/some-" in pushed.error
    )
    assert "then `make push-kernel`" in pushed.error


@pytest.mark.parametrize("end", ["ERROR", "CANCEL_ACKNOWLEDGED"])
def test_a_run_that_ended_before_it_was_looked_at_fails_too(end: str, pushed: Desk) -> None:
    pushed.kaggle.kernel_states = [end]
    assert pushed.type("kernel-status") == 2
    assert f"version 1 ended with {end}" in pushed.error


def test_the_status_of_the_run_before_is_not_believed(pushed: Desk) -> None:
    other = json.dumps({"bundle": "0" * 64}).encode()
    pushed.leave_output(run_json=other)
    pushed.kaggle.kernel_states = ["COMPLETE"]
    assert pushed.type("kernel-status") == 2
    assert "expected the run of version 1, found the end of another one" in pushed.error
    pushed.kaggle.kernel_states = ["ERROR", "ERROR", "RUNNING", "COMPLETE"]
    pushed.leave_output()
    assert pushed.type("kernel-status") == 0, pushed.error
    assert "version 1 of some-kaggler/animal-reid is complete" in pushed.said


def test_a_run_that_takes_longer_than_one_waits_is_no_success(pushed: Desk) -> None:
    pushed.kaggle.kernel_states = ["RUNNING"]
    assert pushed.type("kernel-status", "--limit=0.1") == 2
    assert "running after 0 s; run `make kernel-status` again later" in pushed.error


def test_status_and_output_need_a_push(desk: Desk) -> None:
    for verb in ("kernel-status", "kernel-output"):
        assert desk.type(verb) == 2
        assert "push.json: expected the record of a push, found none; run `make push-kernel`" in desk.error


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
    name: str, content: bytes | int | None, words: str, pushed: Desk
) -> None:
    pushed.leave_output(**{name: content})
    assert pushed.type("kernel-output") == 2
    assert re.search(words, pushed.error), pushed.error
    assert not (pushed.build / "output").exists()


def test_output_of_other_weights_is_refused(pushed: Desk) -> None:
    pushed.leave_output()
    run = json.loads(pushed.kaggle.outputs["run.json"])  # type: ignore[arg-type]
    pushed.kaggle.outputs["run.json"] = json.dumps(run | {"weights": "1" * 64}).encode()
    assert pushed.type("kernel-output") == 2
    assert "found 111111111111...: the kernel ran with other weights" in pushed.error


def test_nothing_but_what_the_kernel_promises_is_downloaded(pushed: Desk) -> None:
    pushed.leave_output()
    pushed.kaggle.outputs |= {"core.12": b"x", "../../escaped.csv": b"x"}
    assert pushed.type("kernel-output") == 0, pushed.error
    assert {path.name for path in (pushed.build / "output").iterdir()} == {
        "submission.csv",
        "run.json",
        "animal-reid.log",
    }
    assert not list(pushed.folder.rglob("escaped.csv"))
    assert "28 answers, checked:" in pushed.said


# the submission


def test_a_faulty_submission_is_not_handed_in(desk: Desk) -> None:
    desk.folder.mkdir()
    rows = (desk.data / "sample_submission.csv").read_text().splitlines()
    (desk.folder / "s.csv").write_text("\n".join(rows[:-1]) + "\n")
    assert desk.type("submit", f"--submission={desk.folder / 's.csv'}") == 2
    assert "s.csv: missing: image_id" in desk.error
    assert "Don't hand it in" in desk.error
    assert desk.type("submit", f"--submission={desk.folder / 'none.csv'}") == 2
    assert "expected a submission, found none. Run `make kernel-output`" in desk.error
    assert not desk.kaggle.requests


def test_what_kaggle_says_to_a_submission_is_passed_on(desk: Desk) -> None:
    desk.folder.mkdir()
    shutil.copy(desk.data / "sample_submission.csv", desk.folder / "submission.csv")
    hand_in = ("submit", f"--submission={desk.folder / 'submission.csv'}", "--limit=0.1")
    desk.kaggle.lose = {"submission.csv"}
    assert desk.type(*hand_in) == 2
    assert "Could not submit to competition. Nothing was handed in; run this again" in desk.error
    desk.kaggle.lose = set()
    desk.kaggle.refuse = {"CreateSubmission": (400, "Bad Request")}
    assert desk.type(*hand_in) == 2
    assert "Kaggle answered 400 (Bad Request)" in desk.error
    assert "today's submissions are used up, that the rules are not accepted" in desk.error
    desk.kaggle.refuse = {}
    desk.kaggle.submissions = [[_listed("ERROR", errorDescription="Wrong number of rows")]]
    assert desk.type(*hand_in) == 2
    assert "Kaggle could not score it (Wrong number of rows)" in desk.error
    desk.kaggle.submissions = [[_listed("PENDING")]]
    assert desk.type(*hand_in) == 0
    assert "no score after 0 s; it will be at https://www.kaggle.com/competitions/animal-clef-2025/sub" in desk.said


# the data


def zipped(files: dict[str, bytes]) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as opened:
        for name, content in files.items():
            opened.writestr(name, content)
    return archive.getvalue()


@pytest.fixture
def new_data(desk: Desk) -> Callable[[bytes], int]:
    def fetch(archive: bytes) -> int:
        desk.data, desk.kaggle.archive = desk.folder / "data", archive
        return desk.type("data")

    return fetch


def test_the_data_is_downloaded_once_and_unpacked(new_data: Callable[[bytes], int], desk: Desk) -> None:
    assert new_data(zipped({"metadata.csv": b"rows", "images/a.jpg": b"pixels"})) == 0, desk.error
    assert (desk.data / "images" / "a.jpg").read_bytes() == b"pixels"
    assert not list(desk.build.glob("*.zip"))
    desk.kaggle.requests.clear()
    assert desk.type("data") == 0
    assert "is there already" in desk.said
    assert not desk.kaggle.requests


def test_rules_that_are_not_accepted_are_named(new_data: Callable[[bytes], int], desk: Desk) -> None:
    desk.kaggle.refuse = {"DownloadDataFiles": (403, "Forbidden")}
    assert new_data(b"") == 2
    assert "Accept the rules at https://www.kaggle.com/competitions/animal-clef-2025/rules" in desk.error


@pytest.mark.parametrize(
    ("archive", "words"),
    [
        (b"<html>busy</html>", "expected the competition's zip, but it is damaged"),
        (zipped({"metadata.csv": b"rows" * 99})[:-30], "expected the competition's zip, but it is damaged"),
        (zipped({"../metadata.csv": b"rows"}), "expected files inside the folder, found '../metadata.csv'"),
        (zipped({"/tmp/metadata.csv": b"rows"}), "expected files inside the folder, found '/tmp/metadata.csv'"),
        (zipped({"readme.txt": b"words"}), "expected metadata.csv in what Kaggle sent, found readme.txt"),
    ],
)
def test_an_archive_that_is_no_data_is_refused(
    archive: bytes, words: str, new_data: Callable[[bytes], int], desk: Desk
) -> None:
    assert new_data(archive) == 2
    assert words in desk.error
    assert not desk.data.exists()
    assert new_data(zipped({"metadata.csv": b"rows"})) == 0, "the refused download must not stand in the way"


def test_files_of_the_user_are_not_overwritten(new_data: Callable[[bytes], int], desk: Desk) -> None:
    (desk.folder / "data").mkdir(parents=True)
    (desk.folder / "data" / "own.txt").write_text("words")
    assert new_data(zipped({"metadata.csv": b"rows"})) == 2
    assert "expected no folder or an empty one, found files" in desk.error
    assert (desk.folder / "data" / "own.txt").read_text() == "words"
