"""Breaks the machine under every verb that writes, and counts what was lost.

    python benchmarks/faults.py --kills 10         # some minutes; as root, it also fills a small disk

A verb runs in a process that was forked from this one, so that nothing is imported again. It is killed (signal 9) at so
many of its steps, evenly spread: before a file's bytes are on the disk, before its rename, after it. Then: every file
under its final name must be as before, or as a run that nobody disturbed leaves it; nothing else may have changed; and
the same command, typed again, must end well and with the same files.
"""

import argparse
import hashlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from reid.data import synthetic

sys.path.append(str(Path(__file__).parents[1] / "tests"))

import safetensors.torch
import torch
from conftest import TINY, draw_patterns
from harness import children
from PIL import Image

from reid import cli

WARM = (safetensors.torch, torch, gallery, matching, report, submission, toy, training)

Change = Callable[[], None]

ENDS_WELL = "ends well"
"""Stands for the hash of a file that tells the time."""


@dataclass
class Row:
    """What came of one kind of fault in one verb."""

    fault: str
    verb: str
    times: int = 0
    again: int = 0
    lost: list[str] = field(default_factory=list)
    litter: int = 0

    def __str__(self) -> str:
        lost = "nothing" if not self.lost else "; ".join(sorted(set(self.lost)))
        return f"| {self.fault} | `{self.verb}` | {self.times} | {self.again} | {lost} | {self.litter} |"


@dataclass(frozen=True)
class Verb:
    """A call.

    Attributes:
        name: its name.
        words: its arguments; paths are relative to the room that it runs in.
        drops: what must be gone before it, so that it has something to do.
    """

    name: str
    words: tuple[str, ...]
    drops: tuple[str, ...] = ()


SETTINGS = tuple(word for setting in TINY for word in ("--set", setting))
VERBS = (
    Verb("toy", ("toy", "world")),
    Verb("train", ("train", "data", "--out", "new", "--recipe", "toy", *SETTINGS)),
    Verb("enroll", ("enroll", "data", "--weights", "weights"), ("weights/cache",)),
    Verb("calibrate", ("calibrate", "data", "--weights", "weights", "--set", "calibration.splits=4")),
    Verb("predict", ("predict", "data", "--weights", "weights", "--out", "s.csv"), ("weights/cache",)),
    Verb("report", ("report", "data", "--weights", "weights", "--out", "report"), ("weights/cache",)),
)


def run(verb: Verb, room: Path, change: Change = lambda: None) -> int:
    """The process of a verb in a room; `change` is called in it first."""
    for name in verb.drops:
        shutil.rmtree(room / name, ignore_errors=True)
    process = os.fork()
    if process:
        return process
    status = 3
    try:
        os.chdir(room)
        for stream, name in ((1, "said"), (2, "told")):
            os.dup2(os.open(f"{room}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
        change()
        status = cli.main(list(verb.words))
    except BaseException:  # as Python itself would say it
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


def ended(process: int) -> int:
    """The exit status, or minus the signal."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def told(room: Path) -> str:
    return Path(f"{room}.told").read_text("utf-8")


def fingerprints(room: Path) -> dict[str, str]:
    """Every file's hash by its path. Files that tell the time can't be compared: they need only end well."""
    found = {}
    for path in sorted(room.rglob("*")):
        # a lock names who holds it, TensorBoard's files grow row by row: neither is a result, nor read as one
        if path.is_file() and path.suffix not in (".part", ".lock") and path.parent.parent.name != "tensorboard":
            name = str(path.relative_to(room))
            content = path.read_bytes()
            if name.endswith((".history.csv", "seconds.json", ".html", ".checkpoint.pt")) or "/cache/" in name:
                found[name] = ENDS_WELL if _ends_well(name, content) else "half"
            else:
                found[name] = hashlib.sha256(content).hexdigest()
    return found


def _ends_well(name: str, content: bytes) -> bool:
    if name.endswith(".pt"):
        return content.rfind(b"PK\x05\x06") > 0  # the last entry of a zip
    if name.endswith(".json"):
        return content.rstrip().endswith(b"}")
    if name.endswith(".html"):
        return content.rstrip().endswith(b"</html>")
    if name.endswith(".safetensors"):
        with suppress(Exception):
            return bool(safetensors.torch.load(content))
        return False
    return content.endswith(b"\n") or name.endswith(".keypoints")


def steps(limit: int, counted: Path | None = None) -> Change:
    """Kills the process at a step of its writing, or counts the steps."""

    def change() -> None:
        done = 0

        def step() -> None:
            nonlocal done
            done += 1
            if counted:
                counted.write_text(str(done))
            elif done == limit:
                os.kill(os.getpid(), signal.SIGKILL)

        fsync, replace = os.fsync, Path.replace

        def slow_fsync(number: Any) -> None:
            step()
            fsync(number)

        def slow_replace(self: Path, target: Path) -> Path:
            step()
            result = replace(self, target)
            step()
            return result

        os.fsync = slow_fsync  # type: ignore[assignment]
        Path.replace = slow_replace  # type: ignore[method-assign, assignment]

    return change


class House:
    """A room for each run, made from the same data and weights."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.made = folder, 0
        self.model = folder / "model"
        draw_patterns(self.model / "data")
        make = Verb("train", ("train", "data", "--out", "weights", "--recipe", "toy", *SETTINGS))
        assert ended(run(make, self.model)) == 0, told(self.model)

    def room(self) -> Path:
        self.made += 1
        return Path(shutil.copytree(self.model, self.folder / f"room-{self.made}"))


def killed(verb: Verb, house: House, kills: int) -> Row:
    """Kills a verb at `kills` of its steps."""
    row = Row("kill -9", verb.name)
    undisturbed, counted = house.room(), house.folder / "steps"
    counted.write_text("0")
    before = fingerprints(undisturbed)
    if ended(run(verb, undisturbed, steps(0, counted))) != 0:
        row.lost.append(f"it does not even run undisturbed: {told(undisturbed)[-200:]}")
        return row
    after, count = fingerprints(undisturbed), int(counted.read_text())
    for limit in sorted({1 + (count - 1) * number // max(1, kills - 1) for number in range(kills)}):
        room = house.room()
        if ended(run(verb, room, steps(limit))) != -signal.SIGKILL:
            continue
        row.times += 1
        found = fingerprints(room)
        row.litter += sum(path.name.endswith(".part") for path in room.rglob("*"))
        row.lost += [name for name in before if name not in found and name not in _given_up(verb)]
        whole = {name: (before.get(name), after.get(name), ENDS_WELL) for name in found}
        row.lost += [f"{name} half written" for name, one in found.items() if one not in whole[name]]
        row.again += ended(run(verb, room)) == 0
        again = fingerprints(room)
        row.lost += [f"{name} differs after the second run" for name in after if again.get(name) != after[name]]
        shutil.rmtree(room)
    return row


def _given_up(verb: Verb) -> tuple[str, ...]:
    """What a verb takes away first, and says so: vectors that are remembered."""
    return tuple(f"{name}/{file}" for name in verb.drops for file in ("Checks.safetensors", "Dots.safetensors",
                 "species.safetensors"))  # fmt: skip


def full_disk(verb: Verb, house: House) -> Row:
    """A disk that has room for the input and a little more."""
    row = Row("full disk", verb.name)
    room = house.room()
    disk = house.folder / "disk"
    disk.mkdir(exist_ok=True)
    size = sum(path.stat().st_blocks * 512 for path in room.rglob("*")) + 60_000
    if os.system(f"mount -t tmpfs -o size={size} tmpfs {disk} 2>/dev/null") != 0:
        row.lost.append("not tried: this machine mounts no small disk")
        return row
    try:
        shutil.copytree(room, disk / "room")
        before = fingerprints(disk / "room")
        status = ended(run(verb, disk / "room"))
        row.times = 1
        row.again = int(status in (0, 2) and "Traceback" not in told(disk / "room"))
        found = fingerprints(disk / "room")
        row.lost += [name for name in before if name not in found and name not in _given_up(verb)]
        row.litter = sum(path.name.endswith(".part") for path in disk.rglob("*"))
        if status == 2 and not told(disk / "room").startswith("error: "):
            row.lost.append(told(disk / "room")[-200:])
    finally:
        os.system(f"umount {disk}")
    return row


def read_only(verb: Verb, house: House) -> Row:
    """Data and weights on a disk that can't be written, the output elsewhere."""
    row = Row("read-only input", verb.name)
    room = house.room()
    for name in ("data", "weights"):
        os.system(f"mount --bind {room / name} {room / name} && mount -o remount,bind,ro {room / name}")
    try:
        row.times = 1
        row.again = int(ended(run(verb, room)) == 0)
        if not row.again:
            row.lost.append(told(room)[-200:])
    finally:
        for name in ("data", "weights"):
            os.system(f"umount {room / name}")
    return row


def worker_killed(house: House) -> Row:
    """One of the processes that open photographs is killed."""
    row = Row("worker killed", "predict")
    room = house.room()
    verb = Verb("predict", (*VERBS[4].words, "--set", "workers=2", "--set", "batch_size=4"), ("weights/cache",))
    queries = sorted((room / "data" / "images").glob("*/query/*"))
    Image.new("RGB", (9000, 9000)).save(queries[0], "PNG")  # takes a second to open
    for query in queries[1:]:
        shutil.copy(queries[0], query)
    before = fingerprints(room)
    process = run(verb, room)
    while not (workers := [worker for server in children(process) for worker in children(server)]):
        if os.waitpid(process, os.WNOHANG)[0]:
            row.lost.append(f"it ended before it had workers: {told(room)[-200:]}")
            return row
        time.sleep(0.05)
    time.sleep(1)
    os.kill(workers[-1], signal.SIGKILL)
    row.times, status = 1, ended(process)
    if status != 2 or "a process that opens photographs was killed" not in told(room):
        row.lost.append(f"status {status}: {told(room)[-200:]}")
    row.lost += [name for name in before if name not in fingerprints(room) and name not in _given_up(verb)]
    row.again = int(ended(run(verb, room)) == 0)
    return row


def photograph_gone(house: House) -> Row:
    """A query's file disappears between `check` and `predict`."""
    row = Row("photograph gone after `check`", "predict")
    room = house.room()
    assert ended(run(Verb("check", ("check", "data")), room)) == 0
    next((room / "data" / "images" / "Dots" / "query").iterdir()).unlink()
    row.times, row.again = 1, int(ended(run(VERBS[4], room)) == 0)
    if "can't be read (no such file): called new_individual" not in Path(f"{room}.said").read_text("utf-8"):
        row.lost.append("it was not said")
    return row


def twice(verb: Verb, house: House) -> Row:
    """The same call, two times at once."""
    row = Row("two at once", verb.name)
    alone, room = house.room(), house.room()
    assert ended(run(verb, alone)) == 0, told(alone)
    processes = [run(verb, room), run(verb, room)]
    statuses = [ended(process) for process in processes]
    row.times, row.again = 1, sum(status == 0 for status in statuses)
    after, found = fingerprints(alone), fingerprints(room)
    row.lost += [f"{name} differs" for name in after if found.get(name) != after[name]]
    row.litter = sum(path.name.endswith(".part") for path in room.rglob("*"))
    return row


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10, help="per verb (default 10)")
    parser.add_argument("--verb", choices=[verb.name for verb in VERBS], action="append", help="only these")
    options = parser.parse_args()
    synthetic.PHOTOGRAPHS, synthetic.NEW_INDIVIDUALS = (3, 2, 1), 1  # a small toy world is drawn as a large one is
    torch.set_num_threads(1)  # a process that had threads can't be forked
    verbs = [verb for verb in VERBS if not options.verb or verb.name in options.verb]
    rows = []
    with tempfile.TemporaryDirectory(prefix="reid-faults-") as folder:
        house = House(Path(folder))
        print("| fault | verb | times | ended well | lost | hidden files left |\n|---|---|---|---|---|---|", flush=True)
        tasks: list[Callable[[], Row]] = []
        for verb in verbs:
            tasks.append(partial(killed, verb, house, options.kills))
            if verb.name != "toy":
                tasks += [partial(full_disk, verb, house), partial(twice, verb, house)]
            if verb.name in ("train", "predict", "report"):
                tasks.append(partial(read_only, verb, house))
        if not options.verb or "predict" in options.verb:
            tasks += [lambda: worker_killed(house), lambda: photograph_gone(house)]
        for task in tasks:
            rows.append(task())
            print(rows[-1], flush=True)
    return 1 if any(row.lost for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
