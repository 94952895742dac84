"""Runs the bundled script as Kaggle would, and checks the submission that comes out.

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

from reid.data.catalogue import read_catalogue, rows_to_predict
from reid.decision.metrics import check_submission, read_submission
from reid.errors import InputError

__all__ = ["TINY", "check_answers", "kit", "rehearse", "toy_stage"]

ROOT = Path(__file__).resolve().parents[1]
COMPETITION = "animal-clef-2025"
TINY = ["image_size=32", "embedding_size=8", "epochs=2", "validate_every=2", "species_epochs=1", "calibration_splits=2"]
"""Settings of a training that takes seconds: whether the script runs does not hang on how much was learned."""

NO_NETWORK = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")


def toy_stage(folder: Path) -> tuple[Path, Path]:
    """Return a toy world and tiny weights for it, by the sources at hand; made again only when they have changed."""
    data, weights, made_by = folder / "data", folder / "weights", folder / "made-by"
    if not made_by.is_file() or made_by.read_text() != kit():
        for outdated in (data, weights):
            shutil.rmtree(outdated, ignore_errors=True)
        settings = [word for setting in TINY for word in ("--set", setting)]
        _reid("toy", str(data))
        _reid("train", str(data), "--out", str(weights), "--recipe", "toy", *settings)
        made_by.write_text(kit())
    return data, weights


def kit() -> str:
    """Return a hash of the package's sources, by which worlds and weights of an older state are told apart."""
    sources = sorted((ROOT / "src" / "reid").glob("*.py"))
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()


def _reid(*words: str) -> None:
    done = subprocess.run([sys.executable, "-m", "reid", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        print(done.stdout.decode(errors="replace"), file=sys.stderr)
        raise InputError(f"`python -m reid {words[0]}` failed on the toy world; what it said stands above")


def _show(said: bytes) -> None:
    """Print what a program said, set in, so that its words are not taken for this one's."""
    for line in said.decode(errors="replace").splitlines():
        print(f"  | {line}", file=sys.stderr)


def rehearse(script: Path, data: Path, weights: Path, expected: Path | None = None) -> None:
    """Run the script on a data folder and a weights folder and checks what it leaves.

    Args:
        script: the bundle.
        data, weights: what Kaggle would mount.
        expected: a submission that it must give to the byte, e.g. the package's own.

    Raises:
        InputError: the script failed, or its submission has a fault or is another one.
    """
    with tempfile.TemporaryDirectory(prefix="reid-rehearsal-") as scratch:
        stage = Path(scratch)
        mounts = {
            stage / "input" / "competitions" / COMPETITION: data,
            stage / "input" / "datasets" / "somebody" / "animal-reid-weights": weights,
        }
        for mount, folder in mounts.items():
            mount.parent.mkdir(parents=True)
            mount.symlink_to(folder.absolute(), target_is_directory=True)
        (stage / "src").mkdir()
        shutil.copy(script, stage / "src" / "script.py")
        (stage / "src").chmod(0o555)
        # -S: no .pth file leads back to this checkout; the packages are named instead
        packages = [entry for entry in sys.path if entry.endswith("-packages")]
        command = [sys.executable, "-S", "script.py", "--any-weights"]
        command += ["--input", str(stage / "input"), "--output", str(stage / "working")]
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("KAGGLE_", "PYTHON"))}
        environment |= {"PYTHONPATH": os.pathsep.join(packages), "HOME": scratch, **NO_NETWORK}
        done = subprocess.run(
            command, cwd=stage / "src", env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        (stage / "src").chmod(0o755)  # so that the folder can be removed
        if done.returncode:
            _show(done.stdout)
            raise InputError(
                f"{script}: expected it to run on {data}, it ended with status {done.returncode}; what it said stands "
                "above. Mend that, then run this again"
            )
        check_answers(stage / "working" / "submission.csv", data)
        if expected and (stage / "working" / "submission.csv").read_bytes() != expected.read_bytes():
            raise InputError(
                f"{script}: expected the submission {expected} to the byte, found another one. Were the script and the "
                "submission made from the same sources and weights?"
            )


def check_answers(submission: Path, data: Path) -> int:
    """Check a submission as `reid check` does; gives the number of its rows.

    Raises:
        InputError: the first of its faults.
    """
    if not (data / "metadata.csv").is_file():
        raise InputError(
            f"{data / 'metadata.csv'}: expected the competition's data, to check {submission} against; found none. "
            "Run `make data`, or name another folder with DATA="
        )
    catalogue, answers = read_catalogue(data), read_submission(submission)
    faults = check_submission(answers, rows_to_predict(catalogue).image_ids, set(catalogue.database.identities))
    if faults:
        others = f" ({len(faults) - 1} more)" if len(faults) > 1 else ""
        raise InputError(f"{submission}: {faults[0]}{others}. Don't hand it in; was it made from {data}?")
    return len(answers)
