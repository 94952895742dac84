"""What makes a training resumable: checkpoints, the record of which run wrote them, and a lock while it runs."""

import hashlib
import io
import logging
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from reid.config.settings import CALIBRATION, ENROLMENT, PREDICTION, flat_settings, recipe_from_json
from reid.errors import InputError
from reid.runtime.files import read_json, refuse_unwritable, write_bytes, write_json

__all__ = ["SAVE_EVERY", "Checkpoint", "differences", "lock_networks"]

log = logging.getLogger(__name__)

SAVE_EVERY = 300.0
"""Seconds between two checkpoints: what a run that is killed loses at most. One of a ResNet-50 with Adam is 280 MB."""

FORMAT = 2
"""Of the state in a checkpoint; 0.1.0 wrote none, and named its parts otherwise."""


class Checkpoint:
    """A network's state on disk, the newest and the one before it.

    A file begins with the SHA-256 of its content: `torch.load` alone would accept a file with a changed byte.

    Attributes:
        path: the last checkpoint.
        previous: the one before; it stays until a newer one is complete.
        newest: one that was written, but not yet renamed when the run was killed.
        record: which run it belongs to, see `differences`; it is part of the file.
        every: seconds from one checkpoint to the next.
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
        """Write a state. Whenever the process ends meanwhile, a complete checkpoint is there.

        Raises:
            InputError: the disk is full, or the folder can't be written.
        """
        written = io.BytesIO()
        torch.save({"format": FORMAT, "record": self.record, **state}, written)
        content = written.getbuffer()
        write_bytes(self.newest, hashlib.sha256(content).digest() + content)
        if self.path.exists():
            self.path.replace(self.previous)
        self.newest.replace(self.path)
        self._saved = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """Return the newest complete state, None where there is no file; its tensors are on the processor.

        Raises:
            InputError: every file is damaged, or the newest complete one is of another run or version.
        """
        existing = [path for path in (self.newest, self.path, self.previous) if path.exists()]
        for path in existing:
            if (state := _read(path)) is not None:
                return self._checked(path, state)
            log.warning(f"{path}: this checkpoint was cut short or damaged; looking for the one before it")
        if existing:
            raise InputError(f"{existing[0]}: no checkpoint here can be read; start over with --fresh")
        return None

    def _checked(self, path: Path, state: dict[str, Any]) -> dict[str, Any]:
        """Return the state if this run wrote it."""
        if state.get("format") != FORMAT:
            raise InputError(
                f"{path}: another version of this kit wrote this checkpoint; finish the training with that version, "
                "or start over with --fresh"
            )
        if found := differences(state["record"], self.record):
            raise InputError(f"{path}: it is of another run ({'; '.join(found[:3])}); start over with --fresh")
        return state

    def remove(self) -> None:
        """Delete the files of a network that is trained to its end."""
        for path in (self.newest, self.path, self.previous):
            path.unlink(missing_ok=True)


def _read(path: Path) -> dict[str, Any] | None:
    """Return what `Checkpoint.save` wrote; None if the file was cut short or changed since."""
    file, size = memoryview(path.read_bytes()), hashlib.sha256().digest_size
    checksum, content = file[:size], file[size:]
    if checksum != hashlib.sha256(content).digest():
        return None
    state: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return state


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return in what two runs differ, in words; what may change at any time is no difference.

    Args:
        before, now: `recipe` as any version stores it in JSON, `data` (its fingerprint), `init` (the SHA-256 of the
            file with the first weights).

    Raises:
        InputError, KeyError, TypeError, ValueError: a record is damaged, or of a newer version.
    """
    old, new = (flat_settings(asdict(recipe_from_json(record["recipe"]))) for record in (before, now))
    unseen = () if old["data.use_boxes"] else ("data.pool_under_masks",)  # without boxes there were no masks
    free = (*PREDICTION, *ENROLMENT, *CALIBRATION, *unseen)
    found = [
        f"recipe field {name} was {old[name]!r}, is {value!r}"
        for name, value in new.items()
        if old[name] != value and name not in free
    ]
    found += ["the data has changed"] * (before["data"] != now["data"])
    return found + ["--init is another file"] * (before["init"] != now["init"])


@contextmanager
def lock_networks(folder: Path, names: Sequence[str]) -> Iterator[None]:
    """Keep other runs from training these networks until the block, or the process, ends.

    Args:
        folder: where the lock files lie.
        names: the networks.

    Raises:
        InputError: another run trains one of them; the folder can't be written.
    """
    with ExitStack() as locks:
        for name in names:
            locks.enter_context(_lock(folder / f"{name}.lock"))
        yield


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold one lock file, and say in a file next to it who does: on Windows nobody else can read a locked file."""
    refuse_unwritable(path)
    holder = path.with_suffix(".holder.json")
    with ExitStack() as cleanup:
        try:
            cleanup.enter_context(FileLock(path).acquire(blocking=False))
        except Timeout:
            raise InputError(
                f"{path.parent.parent}: another run is training {path.stem} here ({_describe_holder(holder)}). Wait "
                "until it ends, stop it, or choose another folder"
            ) from None
        except (OSError, NotImplementedError) as problem:
            log.warning(f"{path}: this disk has no locks ({problem}); do not start a second training in this folder")
        job = os.environ.get("SLURM_JOB_ID", "")
        write_json(holder, {"host": socket.gethostname(), "process": os.getpid(), "job": job})
        cleanup.callback(holder.unlink, missing_ok=True)
        yield


def _describe_holder(path: Path) -> str:
    try:
        holder = read_json(path)
        job = f", Slurm job {holder['job']}" if holder["job"] else ""
        return f"host {holder['host']}, process {holder['process']}{job}"
    except (InputError, KeyError, TypeError):
        return "host and process unknown"
