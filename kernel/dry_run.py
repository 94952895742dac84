"""Run the bundled script as Kaggle would, and check the submission that it writes.

As Kaggle would: renamed, from a folder of its own, with the mounts that Kaggle makes, without a network, in an
interpreter that does not know this repository.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from competitions import COLUMNS, competition_of

from reid.data.catalogue import Catalogue, read_catalogue, rows_to_predict
from reid.decision.clusters import asks_for_clusters, check_clusters, read_clusters
from reid.decision.metrics import check_submission, read_submission
from reid.errors import InputError
from reid.runtime.files import read_table, write_table

__all__ = ["check_answers", "dry_run", "hash_of_sources", "prepare_toy"]

ROOT = Path(__file__).resolve().parents[1]
UNLABELLED = "TexasHornedLizards"
"""AnimalCLEF26's dataset without a known photograph."""

TINY = [
    "backbone.image_size=32",
    "head.embedding_size=8",
    "training.epochs=2",
    "training.validate_every=2",
    "classifier.epochs=1",
    "calibration.splits=2",
]
"""Settings of a training that takes seconds: whether the script runs does not depend on how much was learned."""

NO_NETWORK = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")


def prepare_toy(folder: Path, competition: str = "animal-clef-2025") -> tuple[Path, Path]:
    """Return the folders of a toy world, in the format of a competition, and of tiny weights for it, made again only
    when the package has changed."""
    data, weights, made_by = folder / "data", folder / "weights", folder / "made-by"
    if not made_by.is_file() or made_by.read_text() != hash_of_sources():
        for outdated in (data, weights):
            shutil.rmtree(outdated, ignore_errors=True)
        settings = [word for setting in TINY for word in ("--set", setting)]
        _reid("toy", str(data))
        _reid("train", str(data), "--out", str(weights), "--recipe", "toy", *settings)
        made_by.write_text(hash_of_sources())
    if COLUMNS.get(competition) == "cluster":
        return _with_clusters(data, folder / "data-of-clusters"), weights
    return data, weights


def _with_clusters(data: Path, folder: Path) -> Path:
    """Return a copy of a toy world as AnimalCLEF26's files are: the queries of one dataset are in a dataset without a
    known photograph, and clusters are asked for."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(data, folder, ignore=shutil.ignore_patterns("solution.csv"))
    table = read_table(folder / "metadata.csv", ("image_id", "split", "dataset"))
    queries = table["split"] == "query"
    table.loc[queries & (table["dataset"] == table["dataset"].max()), "dataset"] = UNLABELLED
    table["split"] = table["split"].replace({"database": "train", "query": "test"})
    sample = table[queries][["image_id"]].assign(cluster="cluster_" + table["dataset"] + "_0")
    write_table(folder / "sample_submission.csv", sample)
    write_table(folder / "metadata.csv", table)
    return folder


def hash_of_sources() -> str:
    """Return a hash of the package's sources, to notice worlds and weights that an older state made."""
    sources = sorted((ROOT / "src" / "reid").rglob("*.py"))
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()


def _reid(*words: str) -> None:
    done = subprocess.run([sys.executable, "-m", "reid", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        _show(done.stdout)
        raise InputError(f"`reid {words[0]}` failed on the toy world; its messages stand above")


def _show(output: bytes) -> None:
    """Print what a program printed, indented, to tell its messages from this one's."""
    for line in output.decode(errors="replace").splitlines():
        print(f"  | {line}", file=sys.stderr)


def dry_run(script: Path, data: Path, weights: Path, expected: Path | None = None) -> None:
    """Run the script on a data folder and a weights folder and check the submission that it writes.

    Args:
        script: the bundle.
        data, weights: what Kaggle would mount.
        expected: a submission that it must give to the byte, e.g. the package's own.

    Raises:
        InputError: the script failed, or its submission has a fault or is another one.
    """
    with tempfile.TemporaryDirectory(prefix="reid-dry-run-") as scratch:
        _mount(Path(scratch) / "input", data, weights)
        done = _run_renamed(script, Path(scratch))
        if done.returncode:
            _show(done.stdout)
            raise InputError(
                f"{script}: expected it to run on {data}, but it ended with status {done.returncode}; its messages "
                "stand above. Fix their cause, then run this again"
            )
        submission = Path(scratch) / "working" / "submission.csv"
        check_answers(submission, data)
        if expected and submission.read_bytes() != expected.read_bytes():
            raise InputError(
                f"{script}: expected the submission {expected} to the byte, found another one. Make both anew from the "
                "same sources and weights: `make kernel`, then `make predict` or `reid discover`"
            )


def _mount(folder: Path, data: Path, weights: Path) -> None:
    for mount, source in {
        folder / "competitions" / competition_of(data): data,
        folder / "datasets" / "somebody" / "animal-reid-weights": weights,
    }.items():
        mount.parent.mkdir(parents=True)
        mount.symlink_to(source.absolute(), target_is_directory=True)


def _run_renamed(script: Path, folder: Path) -> subprocess.CompletedProcess[bytes]:
    """Run a copy of the script from a folder that can't be written."""
    source = folder / "src"
    source.mkdir()
    shutil.copy(script, source / "script.py")
    source.chmod(0o555)
    # -S: no .pth file leads back to this checkout; the packages are named instead
    packages = [entry for entry in sys.path if entry.endswith("-packages")]
    command = [sys.executable, "-S", "script.py", "--any-weights"]
    command += ["--input", str(folder / "input"), "--output", str(folder / "working")]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("KAGGLE_", "PYTHON"))}
    environment |= {"PYTHONPATH": os.pathsep.join(packages), "HOME": str(folder), **NO_NETWORK}
    try:
        return subprocess.run(command, cwd=source, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    finally:
        source.chmod(0o755)  # so that the folder can be removed


def check_answers(submission: Path, data: Path) -> int:
    """Check a submission as `reid check` does; return the number of its rows.

    Raises:
        InputError: the first of its faults.
    """
    if not (data / "metadata.csv").is_file():
        raise InputError(
            f"{data / 'metadata.csv'}: expected the competition's data, to check {submission} against; found none. "
            "Run `make data`, or name another folder with DATA="
        )
    count, faults = _find_faults(submission, read_catalogue(data))
    if faults:
        others = f" ({len(faults) - 1} more)" if len(faults) > 1 else ""
        raise InputError(f"{submission}: {faults[0]}{others}. Do not submit it; was it made from {data}?")
    return count


def _find_faults(submission: Path, catalogue: Catalogue) -> tuple[int, list[str]]:
    """Return the number of rows of a submission, and its faults."""
    wanted = rows_to_predict(catalogue)
    if asks_for_clusters(catalogue.root / "sample_submission.csv"):
        clusters = read_clusters(submission)
        datasets = dict(zip(wanted.image_ids, wanted.table["dataset"], strict=True))
        return len(clusters), check_clusters(clusters, wanted.image_ids, datasets)
    answers = read_submission(submission)
    return len(answers), check_submission(answers, wanted.image_ids, set(catalogue.database.identities))
