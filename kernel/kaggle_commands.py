"""The commands that need Kaggle: data, weights, the kernel, its output, the submission.

    python kernel/kaggle_commands.py data|push-weights|push-kernel|kernel-status|kernel-output|submit|dry-run
        [--competition animal-clef-2026]

Each command is a target of the Makefile. It ends with status 0 when Kaggle has done it, and otherwise with 2 and a line
`error: ...`, also where the kaggle command line would end with 0. What is uploaded is copied file by file into
build/kaggle first: the client uploads every file of a folder, .env included, so it never gets the repository itself.
"""

import argparse
import io
import json
import lzma
import os
import re
import shutil
import stat
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from bundle import BundleError, manifest_hash, write_bundle
from client import KaggleError, log_in, poll, request
from competitions import Competition, choose_competition
from dry_run import check_answers, dry_run, prepare_toy

from reid.data.competition import COMPETITION
from reid.decision.artifact import MANIFEST, open_weights
from reid.errors import InputError
from reid.runtime.files import sha256_of, write_json
from reid.runtime.progress import track
from reid.runtime.wheels import sums_of_wheels

__all__ = ["main"]

OUTPUT_FILES = (
    "submission.csv",
    "submission.matches.csv",
    "submission.clusters.csv",
    "run.json",
    "report.html",
    "contact_sheet.jpg",
    "animal_reid.py",
)
"""What `kernel/entry.py` leaves; nothing else is downloaded."""

GRACE = 300.0
"""Seconds in which a status may still be that of the run before the push (an assumption; Kaggle gives no figure)."""

DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, FileNotFoundError),
    *(ValueError, RuntimeError),
)
"""What `zipfile` was seen to raise on damaged archives; RuntimeError is that of an encrypted one, ValueError that of
names in no encoding."""

FAILED = ("ERROR", "CANCEL_REQUESTED", "CANCEL_ACKNOWLEDGED")


@dataclass(frozen=True)
class Folders:
    """Where things lie.

    Attributes:
        data: the competition's data folder.
        weights: the weights folder.
        build: copies to upload, the record of the last push, the kernel's output.
        kernel: the folder of the bundle.
        competition: what all this is for.
    """

    data: Path
    weights: Path
    build: Path
    kernel: Path
    competition: Competition

    @property
    def output(self) -> Path:
        return self.build / "output"

    @property
    def record(self) -> Path:
        return self.build / "push.json"


@dataclass(frozen=True)
class Polling:
    """How to wait for Kaggle, in seconds.

    Attributes:
        every: between two checks.
        limit: how long at most.
        grace: how long after a push the status may still be that of the run before it.
    """

    every: float
    limit: float
    grace: float


# the competition's data


def fetch_data(folders: Folders) -> None:
    """Download the competition's files and unpack them into the data folder."""
    if (folders.data / "metadata.csv").is_file():
        folders.competition.refuse_others(folders.data)
        print(f"{folders.data} is there already; to download it again, remove it first")
        return
    competition = folders.competition.name
    folders.build.mkdir(parents=True, exist_ok=True)
    archive = folders.build / f"{competition}.zip"
    api = log_in()
    rules = f"Accept the rules at https://www.kaggle.com/competitions/{competition}/rules, then run this again"
    print(f"downloading {competition} into {archive}", flush=True)
    request(
        f"downloading {competition}",
        lambda: api.competition_download_files(competition, path=str(folders.build), quiet=not sys.stderr.isatty()),
        {403: rules},
    )
    unpack(archive, folders.data)
    write_json(folders.data / COMPETITION, {"competition": competition})  # nobody may label its queries by hand
    archive.unlink()
    print(f"unpacked into {folders.data}")


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip next to its final place, then rename it, so that a data folder that exists is whole.

    Raises:
        InputError: it is damaged, names a file outside of the folder, or is larger than the free space.
    """
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        _unpack_into(archive, part)
        _rename_whole(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _unpack_into(archive: Path, part: Path) -> None:
    try:
        with zipfile.ZipFile(archive) as opened:
            _refuse_unsafe(archive, opened, shutil.disk_usage(part.parent).free)
            if all(entry.is_dir() for entry in opened.infolist()):
                raise zipfile.BadZipFile("it holds no file")
            for entry in track(opened.infolist(), f"unpacking {archive.name}"):
                opened.extract(entry, part)  # checks its CRC
    except DAMAGED as problem:
        archive.unlink(missing_ok=True)  # the client would not download it again
        raise InputError(
            f"{archive}: expected the competition's zip, but it is damaged ({problem}); it was removed, run this again"
        ) from None
    except OSError as problem:  # a full disk, or a folder that may not be written: the zip is as good as before
        raise InputError(
            f"{part}: can't be unpacked ({problem.strerror or problem}). Free some space, or name a folder with DATA=, "
            "then run this again"
        ) from None


def _rename_whole(part: Path, folder: Path) -> None:
    if not (part / "metadata.csv").is_file():
        found = ", ".join(sorted(path.name for path in part.iterdir())[:9])
        raise InputError(f"{part}: expected metadata.csv in what Kaggle sent, found {found or 'nothing'}")
    if folder.exists():
        if any(folder.iterdir()):
            raise InputError(
                f"{folder}: expected no folder or an empty one, found files; move them, then run this again"
            )
        folder.rmdir()
    part.rename(folder)


def _refuse_unsafe(archive: Path, opened: zipfile.ZipFile, free: int) -> None:
    for entry in opened.infolist():
        path = PurePosixPath(entry.filename.replace("\\", "/"))
        link = stat.S_ISLNK(entry.external_attr >> 16)
        if path.is_absolute() or ".." in path.parts or re.match(r"[A-Za-z]:", entry.filename) or link:
            archive.unlink()  # the client would not download it again
            raise InputError(
                f"{archive}: expected files inside the folder, found {entry.filename!r}; nothing was unpacked, "
                "and the zip was removed. Is this Kaggle's own? Run this again"
            )
    size = sum(entry.file_size for entry in opened.infolist())
    if size > free:
        raise InputError(
            f"{archive}: unpacked it takes {size / 1e9:.1f} GB, {free / 1e9:.1f} GB are free. Free some space, or name "
            "a folder on another disk with DATA="
        )


# the weights


def push_weights(folders: Folders, polling: Polling) -> None:
    """Upload the weights folder as a private dataset, or a new version of it, and wait until kernels can mount it."""
    manifest_hash(folders.weights)  # where there is none, its error names `make train`
    weights = open_weights(folders.weights)  # every hash is checked before anything goes up
    if weights.caution:
        print(f"warning: {weights.caution}", file=sys.stderr)
    manifest = weights.manifest
    api = log_in()
    stage = folders.build / "upload-weights"
    metadata = folders.competition.dataset_metadata(_owner(api))
    _stage(stage, "dataset-metadata.json", metadata)
    names = [MANIFEST, *manifest["files"]]
    for name in names:
        _link(folders.weights / name, stage / name)
    dataset = metadata["id"]
    exists = _dataset_status(api, dataset) is not None
    what = f"uploading {dataset}"
    print(f"{what}: {len(names)} files of {folders.weights}", flush=True)
    notes = f"recipe {manifest['recipe']['name']}, manifest {sha256_of(folders.weights / MANIFEST)[:12]}"
    page = _upload(api, what, stage, names, notes if exists else None)
    _wait_until_ready(api, dataset, page, polling)
    _refuse_lost(what, sorted(set(names) - _dataset_files(api, dataset)))
    print(f"{'a new version of' if exists else 'created, private:'} {dataset}, ready: {page}")
    if not exists:
        print(f"its licence is {metadata['licenses'][0]['name']!r}; choose another on its page or in the metadata file")
    _say_next(folders, "push-kernel")


def _upload(api: Any, what: str, stage: Path, names: list[str], notes: str | None) -> str:
    """Upload the files in `stage` as a new version with these notes, or without notes as a new dataset.

    Returns:
        The address of the dataset's page.
    """
    printed = io.StringIO()
    with redirect_stdout(printed):
        if notes is not None:
            answer = request(what, lambda: api.dataset_create_version(str(stage), notes, quiet=False))
        else:
            answer = request(what, lambda: api.dataset_create_new(str(stage), public=False, quiet=False))
    if answer is None or (answer.status or "").lower() != "ok" or answer.error:
        reason = getattr(answer, "error", None) or "no reason was given"
        raise InputError(f"{what}: Kaggle refused it ({reason}). Nothing was made; fix that, then run this again")
    # up to 2.2.4 the client only prints it, later it fails; in any case Kaggle's own list is checked afterwards
    _refuse_lost(what, [name for name in names if f"Upload unsuccessful: {name}\n" in printed.getvalue()])
    return str(answer.url)


def _wait_until_ready(api: Any, dataset: str, page: str, polling: Polling) -> None:
    """Return when kernels can mount the dataset."""

    def check() -> str | None:
        status = _dataset_status(api, dataset)
        if status in ("failed", "deleted"):
            raise InputError(f"{dataset}: Kaggle could not process it (status {status}); see {page}, then push again")
        return "ready" if status == "ready" else None

    if poll(f"waiting for {dataset}", check, polling.every, polling.limit) is None:
        raise InputError(
            f"{dataset}: uploaded, but not ready after {polling.limit:.0f} s; see {page}, and push the "
            "kernel when it is"
        )


def _refuse_lost(what: str, lost: list[str]) -> None:
    if lost:
        raise InputError(f"{what}: expected every file on Kaggle, but {', '.join(lost)} got lost; run this again")


def _dataset_status(api: Any, dataset: str) -> str | None:
    """Return the dataset's status in lower case, None where there is no such dataset."""
    try:
        return str(request(f"checking {dataset}", lambda: api.dataset_status(dataset))).lower()
    except KaggleError as problem:
        # Kaggle answers 403 as well for a dataset that does not exist; if it is really forbidden, making it fails too
        if problem.status in (403, 404):
            return None
        raise


def _dataset_files(api: Any, dataset: str) -> set[str]:
    """Return the names that Kaggle lists, over all pages."""
    names: set[str] = set()
    token: str | None = ""
    while token is not None:
        page = _files_page(api, dataset, token)
        names |= {file.name for file in page.dataset_files or []}
        token = page.next_page_token or None
    return names


def _files_page(api: Any, dataset: str, token: str) -> Any:
    return request(
        f"listing {dataset}", lambda: api.dataset_list_files(dataset, page_token=token or None, page_size=200)
    )


# the kernel


def push_kernel(folders: Folders, toy: Path, kornia: Path | None, polling: Polling) -> None:
    """Bundle, run the bundle on the toy world, push it, and keep a record of what was pushed.

    Args:
        folders: weights, where to build.
        toy: where the toy world and its weights lie, or are made.
        kornia: a folder with wheels that go up as a dataset of their own; None for none.
        polling: how to wait for that dataset.
    """
    wheels = sums_of_wheels(kornia, ("kornia", "kornia_rs")) if kornia else {}
    script = write_bundle(folders.kernel, folders.weights, wheels)
    api = log_in()  # before the dry run: nobody should wait a minute for "no credentials" or "no network"
    metadata = folders.competition.kernel_metadata(_owner(api)) | {"code_file": script.name}
    if kornia:
        metadata["dataset_sources"] = [
            *(metadata.get("dataset_sources") or []),
            _push_wheels(api, folders, kornia, list(wheels), polling),
        ]
    _warn_of_missing_weights(api, metadata.get("dataset_sources") or [], folders.competition)
    print("dry run on the drawn world", flush=True)
    dry_run(script, *prepare_toy(toy, folders.competition.name))
    stage = folders.build / "upload-kernel"
    _stage(stage, "kernel-metadata.json", metadata)
    shutil.copy(script, stage / script.name)
    what = f"pushing {metadata['id']}"
    answer = request(what, lambda: api.kernels_push(str(stage)))
    _check_pushed(answer, what, metadata["id"], folders.record)
    record = {
        "kernel": metadata["id"],
        "version": answer.version_number,
        "url": answer.url,
        "bundle": _bundle_of(script),
        "weights": sha256_of(folders.weights / MANIFEST),
        "seen": False,  # whether Kaggle was seen to work on this version
    }
    write_json(folders.record, record)
    print(f"pushed version {answer.version_number} of {metadata['id']}: {answer.url}")
    _say_next(folders, "kernel-status")


def _push_wheels(api: Any, folders: Folders, source: Path, names: list[str], polling: Polling) -> str:
    """Upload wheels as a private dataset, or a new version of it, and return its name when kernels can mount it."""
    dataset = f"{_owner(api)}/animal-reid-kornia"
    stage = folders.build / "upload-kornia"
    metadata = {"id": dataset, "title": "Animal ReID kornia", "licenses": [{"name": "apache-2.0"}]}
    _stage(stage, "dataset-metadata.json", metadata)
    for name in names:
        _link(source / name, stage / name)
    exists = _dataset_status(api, dataset) is not None
    what = f"uploading {dataset}"
    print(f"{what}: {', '.join(names)}", flush=True)
    page = _upload(api, what, stage, names, ", ".join(names) if exists else None)
    _wait_until_ready(api, dataset, page, polling)
    listed = _dataset_files(api, dataset)
    unpacked = {name for name in names if any("-".join(name.split("-")[:2]) in file for file in listed)}
    _refuse_lost(what, sorted(set(names) - listed - unpacked))
    return dataset


def _check_pushed(answer: Any, what: str, kernel: str, record: Path) -> None:
    """Refuse an answer that names no new version, or one that lacks what it needs."""
    if answer.error:
        raise InputError(f"{what}: Kaggle refused it ({answer.error}). No new version runs; fix that, then push again")
    for source, refused, doing in [
        ("dataset", answer.invalid_dataset_sources, "Run `make push-weights` first"),
        ("competition", answer.invalid_competition_sources, "Accept the competition's rules on its page"),
        ("kernel", answer.invalid_kernel_sources, "Fix kernel_sources in kernel-metadata.json"),
        ("model", answer.invalid_model_sources, "Fix model_sources in kernel-metadata.json"),
    ]:
        if refused:
            record.unlink(missing_ok=True)  # neither this push nor the one before is what runs now
            raise InputError(
                f"{what}: version {answer.version_number} was pushed without its {source} {', '.join(refused)}, which "
                f"Kaggle did not accept; that run will fail. {doing}, then push again ({answer.url})"
            )
    if not answer.version_number:
        raise InputError(
            f"{what}: Kaggle's answer names no version, so nothing may have been pushed. Look at "
            f"https://www.kaggle.com/code/{kernel}, then push again"
        )


def _warn_of_missing_weights(api: Any, datasets: list[str], competition: Competition) -> None:
    """Warn where Kaggle shows no dataset that the kernel needs; whether the kernel may use it, the push will show.

    Raises:
        KaggleError: Kaggle can't be reached, or does not accept the credentials; no push would be.
    """
    for dataset in datasets:
        try:
            shown = _dataset_status(api, dataset) is not None
        except KaggleError as problem:
            if problem.status in (None, 401):
                raise
            continue  # Kaggle would not tell, which is no reason not to push
        if not shown:
            words = competition.spelled("`make push-weights` makes it")
            print(f"warning: Kaggle shows you no dataset {dataset}; {words}", file=sys.stderr)


def kernel_status(folders: Folders, polling: Polling) -> None:
    """Wait until the pushed version has ended; refuse when it failed."""
    run = PushedRun(log_in(), folders.record, _read_record(folders), polling)
    what = f"waiting for {run.kernel}"
    if poll(what, run.check, polling.every, polling.limit) is None:
        raise InputError(
            f"{run.kernel}: {run.last_state.lower()} after {polling.limit:.0f} s; run `make kernel-status` again later"
        )
    print(f"version {run.record['version']} of {run.kernel} is complete")
    _say_next(folders, "kernel-output")


@dataclass
class PushedRun:
    """The run of a pushed version, which Kaggle does not tell from the run before it.

    Attributes:
        api: the client.
        path: where the record of the push lies.
        record: its content; `seen` is set when Kaggle was seen to work on this version.
        polling: how long the status may be that of the run before.
        last_state: what Kaggle answered last.
        ended: when an end was seen first, in seconds of the monotonic clock; None while it works.
    """

    api: Any
    path: Path
    record: dict[str, Any]
    polling: Polling
    last_state: str = ""
    ended: float | None = None

    @property
    def kernel(self) -> str:
        return str(self.record["kernel"])

    def check(self) -> str | None:
        """Return the state in which this version ended well, None as long as that is not known.

        Raises:
            InputError: it failed, or another version ended.
        """
        answer = request(f"asking Kaggle for {self.kernel}", lambda: self.api.kernels_status(self.kernel))
        state = str(answer.status.name)
        if state != self.last_state:
            print(f"{self.kernel}: {state}", flush=True)
            self.last_state = state
        if state not in ("COMPLETE", *FAILED):
            self._note_work()
            return None
        now = time.monotonic()
        self.ended = self.ended or now
        failed = state in FAILED
        is_ours = self.record["seen"] if failed else self._is_of_this_push()
        if not is_ours and now - self.ended + self.polling.every <= self.polling.grace:
            return None  # it may be the run before this push
        if failed:
            raise InputError(_end_of(self.record, state, answer.failure_message))
        if is_ours:
            return state
        raise InputError(
            f"{self.kernel}: expected the run of version {self.record['version']}, found the end of another one (its "
            f"run.json is not of the pushed bundle). Look at {self.record['url']}; run `make kernel-status` again, or "
            "push again"
        )

    def _note_work(self) -> None:
        self.ended = None
        if not self.record["seen"]:
            self.record["seen"] = True
            write_json(self.path, self.record)

    def _is_of_this_push(self) -> bool:
        """Return whether the run.json of the kernel's last run names the pushed bundle."""
        with tempfile.TemporaryDirectory() as folder:
            _download(self.api, self.kernel, folder, r"\Arun\.json\Z")
            return bool(_read_run(Path(folder) / "run.json").get("bundle") == self.record["bundle"])


def _end_of(record: dict[str, Any], state: str, message: str | None) -> str:
    reason = f" ({' '.join(message.split())})" if message else ""
    return (
        f"{record['kernel']}: version {record['version']} ended with {state}{reason}. Read its log at {record['url']}, "
        "fix the cause, then `make push-kernel`"
    )


def _download(api: Any, kernel: str, folder: str, pattern: str) -> None:
    request(f"downloading from {kernel}", lambda: api.kernels_output(kernel, folder, file_pattern=pattern, force=True))


def _read_run(path: Path) -> dict[str, Any]:
    try:
        run = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):  # an error's text is saved under the file's name too
        return {}
    return run if isinstance(run, dict) else {}


def kernel_output(folders: Folders) -> None:
    """Download the kernel's files, and check that they are whole, of the pushed bundle, and fit to be submitted."""
    record = _read_record(folders)
    folders.competition.refuse_others(folders.data)
    api = log_in()
    fresh = folders.build / "output.part"
    shutil.rmtree(fresh, ignore_errors=True)
    pattern = r"\A(" + "|".join(map(re.escape, OUTPUT_FILES)) + r")\Z"
    _download(api, record["kernel"], str(fresh), pattern)
    run = _read_run(fresh / "run.json")
    _check_run(run, record, fresh)
    count = check_answers(fresh / "submission.csv", folders.data)
    shutil.rmtree(folders.output, ignore_errors=True)
    fresh.rename(folders.output)
    for line in _describe_run(run):
        print(line)
    submission, report = folders.output / "submission.csv", folders.output / "report.html"
    shown = "cuts and cluster sizes" if "datasets" in run else "the matches"
    print(f"{count} answers, checked: {submission}; {shown}: {report}")
    _say_next(folders, "submit")


def _describe_run(run: dict[str, Any]) -> Iterator[str]:
    """Yield a line for each dataset."""
    for dataset, share in run.get("share_new", {}).items():
        yield f"  {dataset}: {share:.0%} called new"
    for dataset, found in run.get("datasets", {}).items():
        cut = f", cut {found['cut']['value']:.3f}" if found["cut"] else ""
        yield f"  {dataset}: {found['photographs']} photographs, {found['clusters']} clusters{cut}"


def _check_run(run: dict[str, Any], record: dict[str, Any], folder: Path) -> None:
    """Refuse what another run left, or a submission that is not as the kernel wrote it."""
    again = "Run `make kernel-status`, then this again"
    if run.get("bundle") != record["bundle"]:
        found = f"{str(run['bundle'])[:12]}..." if "bundle" in run else "no run.json that can be read"
        raise InputError(
            f"{folder}: expected the output of bundle {record['bundle'][:12]}..., found {found}: it is of another run, "
            f"or the run did not end well. {again}; Kaggle's log is at {record['url']}"
        )
    if run.get("weights") != record["weights"]:
        raise InputError(
            f"{folder / 'run.json'}: expected weights {record['weights'][:12]}..., found "
            f"{str(run.get('weights'))[:12]}...: the kernel ran with other weights. Run `make push-weights push-kernel`"
        )
    submission = folder / "submission.csv"
    if not submission.is_file() or sha256_of(submission) != run.get("submission"):
        raise InputError(
            f"{submission}: expected the file that the kernel wrote, got "
            f"{'another text (an error, or cut short)' if submission.is_file() else 'none'}. {again}"
        )


# the submission


def submit(folders: Folders, submission: Path | None, message: str, polling: Polling) -> None:
    """Check a submission, submit it, and show the score when Kaggle gives it."""
    path = submission or folders.output / "submission.csv"
    if not path.is_file():
        raise InputError(
            f"{path}: expected a submission, found none. Run `make kernel-output`, or name a file: SUBMISSION="
        )
    folders.competition.refuse_others(folders.data)
    count = check_answers(path, folders.data)
    competition = folders.competition.name
    api = log_in()
    what = f"submitting {path}"
    answer = _hand_in(api, what, path, message, competition)
    print(f"{count} answers submitted: {answer.message}", flush=True)
    page = f"https://www.kaggle.com/competitions/{competition}/submissions"
    later = f"do not submit again; the score will be at {page}"
    try:
        scored = _wait_for_score(api, competition, answer.ref, polling)
    except KaggleError as problem:  # it is submitted, and doing it again would cost one of the day's few
        print(f"{problem.found}; {later}")
        return
    if scored is None:
        print(f"no score after {polling.limit:.0f} s; {later}")
        return
    if scored.status.name == "ERROR":
        reason = scored.error_description or "no reason was given"
        raise InputError(f"{what}: Kaggle could not score it ({reason}). See {page}")
    scores = f"public score {scored.public_score or 'not given'}"
    print(scores + (f", private score {scored.private_score}" if scored.private_score else ""))


def _hand_in(api: Any, what: str, path: Path, message: str, competition: str) -> Any:
    """Return Kaggle's answer to a submission that it took."""
    page = f"https://www.kaggle.com/competitions/{competition}"
    refused = (
        f"It gives no other reason; perhaps today's submissions are used up, the rules are not accepted "
        f"({page}/rules), or the competition takes no more: look at {page}/submissions"
    )
    answer = request(
        what,
        lambda: api.competition_submit(str(path), message, competition, quiet=not sys.stderr.isatty()),
        {400: refused, 403: refused},
    )
    if not answer.ref and "success" not in (answer.message or "").lower():
        raise InputError(f"{what}: {answer.message or 'Kaggle gave no answer'}. Nothing was submitted; run this again")
    return answer


def _wait_for_score(api: Any, competition: str, ref: int | None, polling: Polling) -> Any | None:
    """Return Kaggle's entry of the submission as soon as it is no longer pending, None when the time is up."""

    def check() -> Any | None:
        listed = request("asking Kaggle for the score", lambda: api.competition_submissions(competition)) or []
        matching = [one for one in listed if one is not None and (one.ref == ref or not ref)]
        return matching[0] if matching and matching[0].status.name != "PENDING" else None

    return poll("waiting for the score", check, polling.every, polling.limit)


# copies to upload, and records


def _owner(api: Any) -> str:
    owner = api.config_values.get("username")
    if not owner:
        raise InputError("kaggle: expected your Kaggle name with the credentials, found none; set KAGGLE_USERNAME")
    return str(owner)


def _stage(folder: Path, name: str, metadata: dict[str, Any]) -> None:
    """Make a folder with nothing but a metadata file."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_json(folder / name, metadata)


def _link(source: Path, target: Path) -> None:
    """Give the file another name; copy it where the disk can't."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy(source, target)


def _bundle_of(script: Path) -> str:
    found = re.search(r'^BUNDLE = "([0-9a-f]{64})"$', script.read_text("utf-8"), re.MULTILINE)
    if not found:
        raise InputError(f"{script}: expected a bundle, found no BUNDLE line; run `make kernel`")
    return found[1]


def _read_record(folders: Folders) -> dict[str, Any]:
    try:
        return dict(json.loads(folders.record.read_text("utf-8")))
    except (OSError, ValueError):
        raise InputError(
            f"{folders.record}: expected the record of a push, found none; run `make push-kernel`{_elsewhere(folders)}"
        ) from None


def _elsewhere(folders: Folders) -> str:
    """Return where there is a push of a competition that nobody has named."""
    others = sorted(record.parent.name for record in folders.build.glob(f"*/{folders.record.name}"))
    return f". There is one for COMPETITION={others[0]}" if others else ""


def _say_next(folders: Folders, target: str) -> None:
    print(folders.competition.spelled(f"next: make {target}"))


# the command line


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return the exit status: 0 done, 2 not done, and the error says what to do."""
    options = _parser().parse_args(arguments)
    try:
        competition = choose_competition(options.competition)
    except InputError as problem:
        return _refuse(str(problem))
    try:
        _run(options, competition)
    except (InputError, BundleError) as problem:
        return _refuse(competition.spelled(str(problem)))
    except OSError as problem:  # the machine's: a full disk, a folder that may not be written, a file in its place
        where = " -> ".join(str(name) for name in (problem.filename, problem.filename2) if name) or options.command
        return _refuse(
            f"{where}: expected files and folders that can be read and written, but the machine refused "
            f"({problem.strerror or problem}). Free some space, fix that folder or name another (`--help` shows how), "
            "then run this again"
        )
    return 0


def _run(options: argparse.Namespace, competition: Competition) -> None:
    build = options.build if competition.is_default else options.build / competition.name
    folders = Folders(options.data, options.weights, build, options.kernel, competition)
    polling = Polling(options.every, options.limit or LIMITS.get(options.command, 0.0), options.grace)
    match options.command:
        case "data":
            fetch_data(folders)
        case "push-weights":
            push_weights(folders, polling)
        case "push-kernel":
            push_kernel(folders, options.toy or options.build / "toy", options.kornia, polling)
        case "kernel-status":
            kernel_status(folders, polling)
        case "kernel-output":
            kernel_output(folders)
        case "submit":
            submit(folders, options.submission, options.message, polling)
        case "dry-run":
            dry_run(options.script, folders.data, folders.weights, options.submission)
            print(f"dry run: {options.script} ran as on Kaggle; its submission is {options.submission or 'valid'}")


def _refuse(problem: str) -> int:
    print("error:", " ".join(problem.split()), file=sys.stderr)  # one line, whatever a cell held
    return 2


LIMITS = {"push-weights": 1800.0, "push-kernel": 1800.0, "kernel-status": 13 * 3600.0, "submit": 600.0}
"""Seconds to wait; a kernel is stopped by Kaggle after 12 hours, and may queue before."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Run one command that needs Kaggle.")
    commands = ["data", "push-weights", "push-kernel", "kernel-status", "kernel-output", "submit", "dry-run"]
    parser.add_argument("command", choices=commands)
    parser.add_argument("--competition", help="its name on Kaggle (default: the one in kernel-metadata.json)")
    parser.add_argument("--data", type=Path, default=Path("data"), help="the competition's data folder")
    parser.add_argument("--weights", type=Path, default=Path("weights"), help="the weights folder")
    parser.add_argument("--build", type=Path, default=Path("build/kaggle"), help="for copies to upload and downloads")
    parser.add_argument("--kernel", type=Path, default=Path("build/kernel"), help="the bundle's folder")
    parser.add_argument("--script", type=Path, default=Path("build/kernel/animal_reid.py"), help="dry-run: what to run")
    parser.add_argument("--toy", type=Path, help="push-kernel: where the toy world and its weights lie, or are made")
    parser.add_argument("--kornia", type=Path, help="push-kernel: a folder with wheels of kornia and kornia-rs")
    parser.add_argument("--submission", type=Path, help="submit: this file; dry-run: the expected answers")
    parser.add_argument("--message", default="animal-reid kit", help="submit: what Kaggle shows next to the score")
    parser.add_argument("--every", type=float, default=20.0, help="seconds between two checks while waiting")
    parser.add_argument("--limit", type=float, help="seconds to wait at most")
    parser.add_argument("--grace", type=float, default=GRACE, help="seconds in which the run before may still show")
    return parser


if __name__ == "__main__":
    sys.exit(main())
