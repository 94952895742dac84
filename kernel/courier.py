"""Carries things to and from Kaggle: data, weights, the kernel, its output, the submission.

    python kernel/courier.py data | push-weights | push-kernel | kernel-status | kernel-output | submit | rehearse

Each verb is a target of the Makefile. It ends with status 0 when Kaggle has done what was asked for, and with 2 and a
line `error: ...` otherwise, also where the kaggle command line would end with 0. What goes up is staged by name in
build/kaggle; the repository itself is never handed to the client, which uploads every file of a folder, .env included.
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
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from bundle import BundleError, manifest_hash, write_bundle
from client import KaggleError, ask, log_in, patiently
from rehearsal import check_answers, rehearse, toy_stage

from reid.decision.artifact import MANIFEST, open_weights
from reid.errors import InputError
from reid.runtime.files import sha256_of, write_json
from reid.runtime.progress import track

__all__ = ["main"]

ROOT = Path(__file__).resolve().parents[1]
PLACEHOLDER = "your-kaggle-name"
OUTPUT_FILES = ("submission.csv", "run.json", "report.html", "contact_sheet.jpg", "animal_reid.py")
"""What `kernel/entry.py` leaves; nothing else is downloaded."""

GRACE = 300.0
"""Seconds in which a status may still be that of the run before the push (an assumption; Kaggle gives no figure)."""

DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, FileNotFoundError),
    *(ValueError, RuntimeError),
)
"""What Python's unpacking raises on damaged archives, each seen; RuntimeError is that of an encrypted one, ValueError
that of names in no encoding."""

FAILED = ("ERROR", "CANCEL_REQUESTED", "CANCEL_ACKNOWLEDGED")


@dataclass(frozen=True)
class Place:
    """Where things lie.

    Attributes:
        data: the competition's data folder.
        weights: the weights folder.
        build: staged copies, the record of the last push, the kernel's output.
        kernel: the folder of the bundle.
    """

    data: Path
    weights: Path
    build: Path
    kernel: Path

    @property
    def output(self) -> Path:
        return self.build / "output"

    @property
    def record(self) -> Path:
        return self.build / "push.json"


@dataclass(frozen=True)
class Waiting:
    """How often to look, and for how long, in seconds."""

    every: float
    limit: float
    grace: float


# the competition's data


def fetch_data(place: Place) -> None:
    """Download the competition's files and unpacks them into the data folder."""
    if (place.data / "metadata.csv").is_file():
        print(f"{place.data} is there already; remove it to download it again")
        return
    competition = _metadata("kernel-metadata.json")["competition_sources"][0]
    place.build.mkdir(parents=True, exist_ok=True)
    archive = place.build / f"{competition}.zip"
    api = log_in()
    rules = f"Accept the rules at https://www.kaggle.com/competitions/{competition}/rules, then run this again"
    print(f"downloading {competition} into {archive}", flush=True)
    ask(
        f"downloading {competition}",
        lambda: api.competition_download_files(competition, path=str(place.build), quiet=not sys.stderr.isatty()),
        {403: rules},
    )
    unpack(archive, place.data)
    archive.unlink()
    print(f"unpacked into {place.data}")


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip beside its final place and renames it, so that a data folder that exists is whole.

    Raises:
        InputError: it is damaged, names a file outside of the folder, or is larger than the free space.
    """
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        _unpack_beside(archive, part)
        _rename_whole(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _unpack_beside(archive: Path, part: Path) -> None:
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


def push_weights(place: Place, waiting: Waiting) -> None:
    """Upload the weights folder as a private dataset, or a new version of it, and waits until kernels can mount it."""
    manifest_hash(place.weights)  # what is missing is told in the words of `make`
    weights = open_weights(place.weights)  # every hash is checked before anything goes up
    if weights.caution:
        print(f"warning: {weights.caution}", file=sys.stderr)
    manifest = weights.manifest
    api = log_in()
    stage = place.build / "upload-weights"
    metadata = _stage(stage, "dataset-metadata.json", _owner(api))
    names = [MANIFEST, *manifest["files"]]
    for name in names:
        _link(place.weights / name, stage / name)
    dataset = metadata["id"]
    exists = _dataset_status(api, dataset) is not None
    what = f"uploading {dataset}"
    print(f"{what}: {len(names)} files of {place.weights}", flush=True)
    notes = f"recipe {manifest['recipe']['name']}, manifest {sha256_of(place.weights / MANIFEST)[:12]}"
    page = _upload(api, what, stage, names, notes if exists else None)
    _wait_until_ready(api, dataset, page, waiting)
    _refuse_lost(what, sorted(set(names) - _dataset_files(api, dataset)))
    print(f"{'a new version of' if exists else 'made, private:'} {dataset}, ready: {page}")
    if not exists:
        print(f"its licence is {metadata['licenses'][0]['name']!r}; choose another on its page or in the metadata file")
    print("next: make push-kernel")


def _upload(api: Any, what: str, stage: Path, names: list[str], notes: str | None) -> str:
    """Send the staged files as a new version with these notes, or without notes as a new dataset.

    Returns:
        The address of the dataset's page.
    """
    said = io.StringIO()
    with redirect_stdout(said):
        if notes is not None:
            answer = ask(what, lambda: api.dataset_create_version(str(stage), notes, quiet=False))
        else:
            answer = ask(what, lambda: api.dataset_create_new(str(stage), public=False, quiet=False))
    if answer is None or (answer.status or "").lower() != "ok" or answer.error:
        reason = getattr(answer, "error", None) or "no reason was given"
        raise InputError(f"{what}: Kaggle refused it ({reason}). Nothing was made; mend that and run this again")
    # up to 2.2.4 the client only says so, later it fails; whatever it does, Kaggle's own list is asked for afterwards
    _refuse_lost(what, [name for name in names if f"Upload unsuccessful: {name}\n" in said.getvalue()])
    return str(answer.url)


def _wait_until_ready(api: Any, dataset: str, page: str, waiting: Waiting) -> None:
    """Return when kernels can mount the dataset."""

    def look() -> str | None:
        status = _dataset_status(api, dataset)
        if status in ("failed", "deleted"):
            raise InputError(f"{dataset}: Kaggle could not process it (status {status}); see {page}, push again")
        return "ready" if status == "ready" else None

    if patiently(f"waiting for {dataset}", look, waiting.every, waiting.limit) is None:
        raise InputError(
            f"{dataset}: uploaded, but not ready after {waiting.limit:.0f} s; see {page}, and push no kernel "
            "before it is"
        )


def _refuse_lost(what: str, lost: list[str]) -> None:
    if lost:
        raise InputError(f"{what}: expected every file on Kaggle, {', '.join(lost)} got lost; run this again")


def _dataset_status(api: Any, dataset: str) -> str | None:
    """Return the dataset's status in lower case, None where there is no such dataset."""
    try:
        return str(ask(f"looking at {dataset}", lambda: api.dataset_status(dataset))).lower()
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
    return ask(f"listing {dataset}", lambda: api.dataset_list_files(dataset, page_token=token or None, page_size=200))


# the kernel


def push_kernel(place: Place, rehearsal: Path) -> None:
    """Bundle, runs the bundle on the toy world, pushes it, and keeps a record of what was pushed."""
    script = write_bundle(place.kernel, place.weights)
    # before the rehearsal: a minute's wait for "no credentials" or "no network" would be rude
    api = log_in()
    _look_for_weights(api)
    print("rehearsing on the toy world", flush=True)
    rehearse(script, *toy_stage(rehearsal))
    stage = place.build / "upload-kernel"
    metadata = _stage(stage, "kernel-metadata.json", _owner(api), code_file=script.name)
    shutil.copy(script, stage / script.name)
    what = f"pushing {metadata['id']}"
    answer = ask(what, lambda: api.kernels_push(str(stage)))
    _check_pushed(answer, what, metadata["id"], place.record)
    record = {
        "kernel": metadata["id"],
        "version": answer.version_number,
        "url": answer.url,
        "bundle": _bundle_of(script),
        "weights": sha256_of(place.weights / MANIFEST),
        "seen": False,  # whether Kaggle was seen working on this version
    }
    write_json(place.record, record)
    print(f"pushed version {answer.version_number} of {metadata['id']}: {answer.url}")
    print("next: make kernel-status")


def _check_pushed(answer: Any, what: str, kernel: str, record: Path) -> None:
    """Refuse an answer that names no new version, or one that lacks what it needs."""
    if answer.error:
        raise InputError(f"{what}: Kaggle refused it ({answer.error}). No new version runs; mend that and push again")
    for source, refused, doing in [
        ("dataset", answer.invalid_dataset_sources, "Run `make push-weights` first"),
        ("competition", answer.invalid_competition_sources, "Accept the competition's rules on its page"),
        ("kernel", answer.invalid_kernel_sources, "Mend kernel_sources in kernel-metadata.json"),
        ("model", answer.invalid_model_sources, "Mend model_sources in kernel-metadata.json"),
    ]:
        if refused:
            record.unlink(missing_ok=True)  # what runs now is neither this push nor the one before
            raise InputError(
                f"{what}: version {answer.version_number} was pushed without its {source} {', '.join(refused)}, which "
                f"Kaggle did not accept; that run will fail. {doing}, then push again ({answer.url})"
            )
    if not answer.version_number:
        raise InputError(
            f"{what}: Kaggle's answer names no version, so nothing may have been pushed. Look at "
            f"https://www.kaggle.com/code/{kernel}, then push again"
        )


def _look_for_weights(api: Any) -> None:
    """Report where Kaggle shows no dataset that the kernel needs. Whether the kernel may use it, the push's answer
    tells.

    Raises:
        KaggleError: Kaggle can't be reached, or does not accept the credentials; no push would be.
    """
    for source in _metadata("kernel-metadata.json").get("dataset_sources") or []:
        dataset = source.replace(PLACEHOLDER, _owner(api))
        try:
            shown = _dataset_status(api, dataset) is not None
        except KaggleError as problem:
            if problem.status in (None, 401):
                raise
            continue  # that it would not say so much is no reason not to push
        if not shown:
            print(
                f"warning: Kaggle shows no dataset {dataset}, or not to you; `make push-weights` makes it",
                file=sys.stderr,
            )


def kernel_status(place: Place, waiting: Waiting) -> None:
    """Wait until the pushed version has ended; refuses when it failed."""
    record = _read_record(place)
    api = log_in()
    kernel = record["kernel"]
    last_state = ""
    first_end = 0.0

    def look() -> str | None:
        nonlocal last_state, first_end
        answer = ask(f"asking for {kernel}", lambda: api.kernels_status(kernel))
        state = str(answer.status.name)
        if state != last_state:
            print(f"{kernel}: {state}", flush=True)
            last_state = state
        if state not in ("COMPLETE", *FAILED):
            first_end = 0.0
            if not record["seen"]:
                record["seen"] = True
                write_json(place.record, record)
            return None
        first_end = first_end or time.monotonic()
        failed = state in FAILED
        is_ours = record["seen"] if failed else _run_on_kaggle(api, kernel).get("bundle") == record["bundle"]
        if not is_ours and time.monotonic() - first_end + waiting.every <= waiting.grace:
            return None  # it may be the run before this push
        if failed:
            raise InputError(_end_of(record, state, answer.failure_message))
        if is_ours:
            return state
        raise InputError(
            f"{kernel}: expected the run of version {record['version']}, found the end of another one (its run.json is "
            f"not of the pushed bundle). Look at {record['url']}; run `make kernel-status` again, or push again"
        )

    if patiently(f"waiting for {kernel}", look, waiting.every, waiting.limit) is None:
        raise InputError(
            f"{kernel}: {last_state.lower()} after {waiting.limit:.0f} s; run `make kernel-status` again later"
        )
    print(f"version {record['version']} of {kernel} is complete")
    print("next: make kernel-output")


def _end_of(record: dict[str, Any], state: str, message: str | None) -> str:
    reason = f" ({' '.join(message.split())})" if message else ""
    return (
        f"{record['kernel']}: version {record['version']} ended with {state}{reason}. Read its log at {record['url']}, "
        "mend what it says, then `make push-kernel`"
    )


def _run_on_kaggle(api: Any, kernel: str) -> dict[str, Any]:
    """Return the run.json that the kernel's last run left; {} where there is none."""
    with tempfile.TemporaryDirectory() as folder:
        _download(api, kernel, folder, r"\Arun\.json\Z")
        return _read_run(Path(folder) / "run.json")


def _download(api: Any, kernel: str, folder: str, pattern: str) -> None:
    ask(f"downloading from {kernel}", lambda: api.kernels_output(kernel, folder, file_pattern=pattern, force=True))


def _read_run(path: Path) -> dict[str, Any]:
    try:
        run = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):  # an error's text is saved under the file's name too
        return {}
    return run if isinstance(run, dict) else {}


def kernel_output(place: Place) -> None:
    """Download what the kernel left, and checks that it is whole, of the pushed bundle, and fit to be handed in."""
    record = _read_record(place)
    api = log_in()
    fresh = place.build / "output.part"
    shutil.rmtree(fresh, ignore_errors=True)
    pattern = r"\A(" + "|".join(map(re.escape, OUTPUT_FILES)) + r")\Z"
    _download(api, record["kernel"], str(fresh), pattern)
    run = _read_run(fresh / "run.json")
    again = "Run `make kernel-status`, then this again"
    if run.get("bundle") != record["bundle"]:
        found = f"{str(run['bundle'])[:12]}..." if "bundle" in run else "no run.json that can be read"
        raise InputError(
            f"{fresh}: expected the output of bundle {record['bundle'][:12]}..., found {found}: it is of another run, "
            f"or the run did not end well. {again}; Kaggle's log is at {record['url']}"
        )
    if run.get("weights") != record["weights"]:
        raise InputError(
            f"{fresh / 'run.json'}: expected weights {record['weights'][:12]}..., found "
            f"{str(run.get('weights'))[:12]}...: the kernel ran with other weights. `make push-weights push-kernel`"
        )
    submission = fresh / "submission.csv"
    if not submission.is_file() or sha256_of(submission) != run.get("submission"):
        raise InputError(
            f"{submission}: expected the file that the kernel wrote, got "
            f"{'another text (an error, or cut short)' if submission.is_file() else 'none'}. {again}"
        )
    count = check_answers(submission, place.data)
    shutil.rmtree(place.output, ignore_errors=True)
    fresh.rename(place.output)
    for dataset, share in run["share_new"].items():
        print(f"  {dataset}: {share:.0%} called new")
    print(f"{count} answers, checked: {place.output / 'submission.csv'}; the matches: {place.output / 'report.html'}")
    print("next: make submit")


# the submission


def submit(place: Place, submission: Path | None, message: str, waiting: Waiting) -> None:
    """Check a submission, hands it in, and shows the score when Kaggle gives it."""
    path = submission or place.output / "submission.csv"
    if not path.is_file():
        raise InputError(
            f"{path}: expected a submission, found none. Run `make kernel-output`, or name a file: SUBMISSION="
        )
    count = check_answers(path, place.data)
    competition = _metadata("kernel-metadata.json")["competition_sources"][0]
    api = log_in()
    what = f"handing in {path}"
    page = f"https://www.kaggle.com/competitions/{competition}"
    refused = (
        f"It gives no reason beyond that; it may be that today's submissions are used up, that the rules are not "
        f"accepted ({page}/rules), or that the competition takes no more: look at {page}/submissions"
    )
    answer = ask(
        what,
        lambda: api.competition_submit(str(path), message, competition, quiet=not sys.stderr.isatty()),
        {400: refused, 403: refused},
    )
    if not answer.ref and "success" not in (answer.message or "").lower():
        raise InputError(f"{what}: {answer.message or 'Kaggle gave no answer'}. Nothing was handed in; run this again")
    print(f"{count} answers handed in: {answer.message}", flush=True)

    def look() -> Any | None:
        listed = ask("asking for the score", lambda: api.competition_submissions(competition)) or []
        matching = [one for one in listed if one is not None and (one.ref == answer.ref or not answer.ref)]
        return matching[0] if matching and matching[0].status.name != "PENDING" else None

    later = f"don't hand it in again; the score will be at {page}/submissions"
    try:
        scored = patiently("waiting for the score", look, waiting.every, waiting.limit)
    except KaggleError as problem:  # what was asked for is done, and doing it again would cost one of the day's few
        print(f"{problem.found}; {later}")
        return
    if scored is None:
        print(f"no score after {waiting.limit:.0f} s; {later}")
        return
    if scored.status.name == "ERROR":
        reason = scored.error_description or "no reason was given"
        raise InputError(f"{what}: Kaggle could not score it ({reason}). See {page}/submissions")
    scores = f"public score {scored.public_score or 'not given'}"
    print(scores + (f", private score {scored.private_score}" if scored.private_score else ""))


# staging and records


def _owner(api: Any) -> str:
    owner = api.config_values.get("username")
    if not owner:
        raise InputError("kaggle: expected your Kaggle name with the credentials, found none; set KAGGLE_USERNAME")
    return str(owner)


def _metadata(name: str) -> dict[str, Any]:
    try:
        content = json.loads((ROOT / name).read_text("utf-8"))
    except (OSError, ValueError) as problem:
        raise InputError(f"{ROOT / name}: expected Kaggle's metadata, but it can't be read ({problem})") from None
    return dict(content)


def _stage(folder: Path, name: str, owner: str, **changes: str) -> dict[str, Any]:
    """Return an empty folder that holds nothing but a metadata file with the user's name in the placeholder's stead."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    text = json.dumps(_metadata(name) | changes, indent=2).replace(PLACEHOLDER, owner)
    (folder / name).write_text(text + "\n", "utf-8")
    return dict(json.loads(text))


def _link(source: Path, target: Path) -> None:
    """Return the same file under another name; a copy where the disk can't."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy(source, target)


def _bundle_of(script: Path) -> str:
    found = re.search(r'^BUNDLE = "([0-9a-f]{64})"$', script.read_text("utf-8"), re.MULTILINE)
    if not found:
        raise InputError(f"{script}: expected a bundle, found no BUNDLE line; run `make kernel`")
    return found[1]


def _read_record(place: Place) -> dict[str, Any]:
    try:
        return dict(json.loads(place.record.read_text("utf-8")))
    except (OSError, ValueError):
        raise InputError(f"{place.record}: expected the record of a push, found none; run `make push-kernel`") from None


# the command line


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; gives the exit status: 0 done, 2 not done, and the error says what to do."""
    options = _parser().parse_args(arguments)
    place = Place(options.data, options.weights, options.build, options.kernel)
    waiting = Waiting(options.every, options.limit or LIMITS.get(options.verb, 0.0), options.grace)
    try:
        match options.verb:
            case "data":
                fetch_data(place)
            case "push-weights":
                push_weights(place, waiting)
            case "push-kernel":
                push_kernel(place, options.rehearsal or place.build / "rehearsal")
            case "kernel-status":
                kernel_status(place, waiting)
            case "kernel-output":
                kernel_output(place)
            case "submit":
                submit(place, options.submission, options.message, waiting)
            case "rehearse":
                rehearse(options.script, place.data, place.weights, options.submission)
                print(f"{options.script} ran as on Kaggle; its submission is {options.submission or 'without fault'}")
    except (InputError, BundleError) as problem:
        return _refuse(str(problem))
    except OSError as problem:  # the machine's: a full disk, a folder that may not be written, a file in its place
        where = " -> ".join(str(name) for name in (problem.filename, problem.filename2) if name) or options.verb
        return _refuse(
            f"{where}: expected files and folders that can be read and written, but the machine refused "
            f"({problem.strerror or problem}). Free some space, mend that place or name another (`--help` shows how), "
            "then run this again"
        )
    return 0


def _refuse(problem: str) -> int:
    print("error:", " ".join(problem.split()), file=sys.stderr)  # one line, whatever a cell held
    return 2


LIMITS = {"push-weights": 1800.0, "kernel-status": 13 * 3600.0, "submit": 600.0}
"""Seconds to wait; a kernel is stopped by Kaggle after 12 hours, and may queue before."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="courier", description="Carry things to and from Kaggle.")
    verbs = ["data", "push-weights", "push-kernel", "kernel-status", "kernel-output", "submit", "rehearse"]
    parser.add_argument("verb", choices=verbs)
    parser.add_argument("--data", type=Path, default=Path("data"), help="the competition's data folder")
    parser.add_argument("--weights", type=Path, default=Path("weights"), help="the weights folder")
    parser.add_argument("--build", type=Path, default=Path("build/kaggle"), help="for staged copies and downloads")
    parser.add_argument("--kernel", type=Path, default=Path("build/kernel"), help="the bundle's folder")
    parser.add_argument(
        "--script", type=Path, default=Path("build/kernel/animal_reid.py"), help="rehearse: what to run"
    )
    parser.add_argument("--rehearsal", type=Path, help="push-kernel: where the toy world and its weights lie")
    parser.add_argument("--submission", type=Path, help="submit: this file; rehearse: what must come out")
    parser.add_argument("--message", default="animal-reid kit", help="submit: what Kaggle shows beside the score")
    parser.add_argument("--every", type=float, default=20.0, help="seconds between two questions while waiting")
    parser.add_argument("--limit", type=float, help="seconds to wait at most")
    parser.add_argument("--grace", type=float, default=GRACE, help="seconds in which the run before may still show")
    return parser


if __name__ == "__main__":
    sys.exit(main())
