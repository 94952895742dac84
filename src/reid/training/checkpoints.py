"""What a run leaves so that it can be gone on with: the record of what it is, checkpoints, and a lock while it runs."""

import fcntl
import hashlib
import io
import json
import logging
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch

from reid.config.settings import CALIBRATION, ENROLMENT, PREDICTION, flat_settings
from reid.errors import InputError
from reid.runtime.files import write_bytes

__all__ = ["SAVE_EVERY", "Checkpoint", "differences", "lock_networks"]

log = logging.getLogger(__name__)

SAVE_EVERY = 300.0
"""Seconds between two checkpoints: what a run that is killed loses at most. One of a ResNet-50 with Adam is 280 MB."""


CHECKSUM = hashlib.sha256().digest_size


class Checkpoint:
    """A network's state on disk, the newest and the one before it.

    A file is the SHA-256 of what follows, then what `torch.save` makes of the state: that alone would let a changed
    byte pass.

    Attributes:
        path: the last one.
        previous: the one before; it stays until a newer one is whole.
        newest: one that was written, but not yet put in its place, when the run was killed.
        record: what the run is, see `differences`; it stands in the file.
        every: seconds between two that are due.
    """

    def __init__(self, path: Path, record: dict[str, Any], every: float = SAVE_EVERY) -> None:
        self.path, self.previous, self.newest = path, path.with_suffix(".previous.pt"), path.with_suffix(".new.pt")
        self.record, self.every = record, every
        self._saved = time.monotonic()  # a clock that nobody sets

    @property
    def is_due(self) -> bool:
        """Whether the last one is old enough."""
        return time.monotonic() - self._saved >= self.every

    def save(self, state: dict[str, Any]) -> None:
        """Write a state; whatever happens meanwhile, a whole one is there.

        Raises:
            InputError: the disk is full, or the folder can't be written.
        """
        written = io.BytesIO()
        torch.save({"record": self.record, **state}, written)
        content = written.getbuffer()
        write_bytes(self.newest, hashlib.sha256(content).digest() + content)
        if self.path.exists():
            self.path.replace(self.previous)
        self.newest.replace(self.path)
        self._saved = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """Return the newest state that is whole, None where there is none; its tensors are on the processor.

        Raises:
            InputError: none is whole, or it is another run's.
        """
        existing = [path for path in (self.newest, self.path, self.previous) if path.exists()]
        for path in existing:
            state = _opened(path)
            if state is None:
                log.warning(f"{path}: this checkpoint was cut short or damaged; looking for the one before it")
            elif mismatches := differences(state["record"], self.record):
                raise InputError(f"{path}: it is of another run ({'; '.join(mismatches[:3])}); start over with --fresh")
            else:
                return state
        if existing:
            raise InputError(f"{existing[0]}: no checkpoint here can be read; start over with --fresh")
        return None

    def remove(self) -> None:
        """Return the network is trained: its checkpoints are needed no more."""
        for path in (self.newest, self.path, self.previous):
            path.unlink(missing_ok=True)


def _opened(path: Path) -> dict[str, Any] | None:
    """Return what `Checkpoint.save` wrote, None where it is not whole."""
    content = memoryview(path.read_bytes())
    if content[:CHECKSUM] != hashlib.sha256(content[CHECKSUM:]).digest():
        return None
    state: dict[str, Any] = torch.load(io.BytesIO(content[CHECKSUM:]), map_location="cpu", weights_only=True)
    return state


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """In what two runs differ, as words for people; what may change at any time is no difference.

    Args:
        before, now: `recipe` as JSON gives it back, `data` (its fingerprint), `init` (the first weights' SHA-256).
    """
    free = (*PREDICTION, *ENROLMENT, *CALIBRATION)
    earlier = flat_settings(before["recipe"])
    found = [
        f"recipe field {name} was {earlier.get(name)!r}, is {value!r}"
        for name, value in flat_settings(now["recipe"]).items()
        if earlier.get(name) != value and name not in free
    ]
    found += ["the data has changed"] * (before["data"] != now["data"])
    return found + ["--init is another file"] * (before["init"] != now["init"])


@contextmanager
def lock_networks(folder: Path, names: Sequence[str]) -> Iterator[None]:
    """Keep other runs from training these networks until the block ends, or the process does, however it ends.

    Args:
        folder: where the locks lie.
        names: the networks.

    Raises:
        InputError: another run has one of them; the folder can't be written.
    """
    with ExitStack() as held:
        for name in names:
            held.enter_context(_lock(folder / f"{name}.lock"))
        yield


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+")
    except OSError as problem:
        raise InputError(
            f"{path}: could not be written ({problem.strerror}); choose a folder that can be written"
        ) from None
    with file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # ends with the process
        except (BlockingIOError, PermissionError):
            raise InputError(
                f"{path.parent.parent}: another run is training {path.stem} here ({_holder(path)}). Wait for its end, "
                "stop it, or choose another folder"
            ) from None
        except OSError as problem:
            log.warning(f"{path}: no locks here ({problem.strerror}); two runs at once would spoil each other")
        file.truncate(0)
        job = os.environ.get("SLURM_JOB_ID", "")
        json.dump({"host": socket.gethostname(), "process": os.getpid(), "job": job}, file)
        file.flush()
        yield


def _holder(path: Path) -> str:
    try:
        holder = json.loads(path.read_text("utf-8"))
        job = f", Slurm job {holder['job']}" if holder["job"] else ""
        return f"host {holder['host']}, process {holder['process']}{job}"
    except (OSError, ValueError, KeyError, TypeError):
        return "it has not said who it is"
