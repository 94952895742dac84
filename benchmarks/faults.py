"""Breaks the machine under every command that writes, and counts what was lost.

    python benchmarks/faults.py --kills 10         # some minutes; as root, it also fills a small disk

A command runs in a process that was forked from this one, so that nothing is imported again. It is killed (signal 9)
at so many of its steps, evenly spread: before a file's bytes are on the disk, before its rename, after it. Then: every
file under its final name must be as before, or as an undisturbed run leaves it; nothing else may have changed; and the
same command, typed again, must end well and with the same files.
"""

import argparse
import hashlib
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from reid.data import synthetic

sys.path.append(str(Path(__file__).parents[1] / "tests"))

import safetensors.torch
import torch
from conftest import TINY, draw_patterns

from reid import cli
from reid.decision import calibrate, enroll, predict
from reid.report import report
from reid.training import loop

WARM = (safetensors.torch, torch, calibrate, enroll, loop, predict, report)
"""What commands import; a forked process need not do it again."""

Change = Callable[[], None]

ENDS_WELL = "ends well"
"""Stands for the hash of a file that tells the time."""


@dataclass
class Row:
    """What came of one kind of fault in one command."""

    fault: str
    command: str
    times: int = 0
    again: int = 0
    lost: list[str] = field(default_factory=list)
    litter: int = 0

    def __str__(self) -> str:
        lost = "nothing" if not self.lost else "; ".join(sorted(set(self.lost)))
        return f"| {self.fault} | `{self.command}` | {self.times} | {self.again} | {lost} | {self.litter} |"


@dataclass(frozen=True)
class Command:
    """A call.

    Attributes:
        name: its name.
        words: its arguments; paths are relative to the folder that it runs in.
        drops: what must be gone before it, so that it has something to do.
    """

    name: str
    words: tuple[str, ...]
    drops: tuple[str, ...] = ()


SETTINGS = tuple(word for setting in TINY for word in ("--set", setting))
COMMANDS = (
    Command("toy", ("toy", "world")),
    Command("train", ("train", "data", "--out", "new", "--recipe", "toy", *SETTINGS)),
    Command("enroll", ("enroll", "data", "--weights", "weights"), ("weights/cache",)),
    Command("calibrate", ("calibrate", "data", "--weights", "weights", "--set", "calibration.splits=4")),
    Command("predict", ("predict", "data", "--weights", "weights", "--out", "s.csv"), ("weights/cache",)),
    Command("report", ("report", "data", "--weights", "weights", "--out", "report"), ("weights/cache",)),
)


def run(command: Command, folder: Path, change: Change = lambda: None) -> int:
    """The process of a command in a folder; `change` is called in it first."""
    for name in command.drops:
        shutil.rmtree(folder / name, ignore_errors=True)
    process = os.fork()
    if process:
        return process
    status = 3
    try:
        os.chdir(folder)
        for stream, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{folder}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
        change()
        status = cli.main(list(command.words))
    except BaseException:  # as Python itself would say it
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


def ended(process: int) -> int:
    """The exit status, or minus the signal."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def errors_of(folder: Path) -> str:
    return Path(f"{folder}.err").read_text("utf-8")


def fingerprints(folder: Path) -> dict[str, str]:
    """Every file's hash by its path. Files that contain times can't be compared: they need only end well."""
    found = {}
    for path in sorted(folder.rglob("*")):
        # a lock names its owner, TensorBoard's files grow row by row, a broken cache is an empty one: no results
        is_result = path.suffix not in (".part", ".lock") and not {"tensorboard", "cache"} & set(path.parts)
        if path.is_file() and is_result:
            name = str(path.relative_to(folder))
            content = path.read_bytes()
            if name.endswith((".history.csv", "seconds.json", ".html", ".checkpoint.pt")):
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
    return content.endswith(b"\n")


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


class Sandbox:
    """A folder for each run, copied from the same data and weights."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.made = folder, 0
        self.model = folder / "model"
        draw_patterns(self.model / "data")
        make = Command("train", ("train", "data", "--out", "weights", "--recipe", "toy", *SETTINGS))
        assert ended(run(make, self.model)) == 0, errors_of(self.model)

    def copy(self) -> Path:
        self.made += 1
        return Path(shutil.copytree(self.model, self.folder / f"run-{self.made}"))


def killed(command: Command, sandbox: Sandbox, kills: int) -> Row:
    """Kills a command at `kills` of its steps."""
    row = Row("kill -9", command.name)
    undisturbed, counted = sandbox.copy(), sandbox.folder / "steps"
    counted.write_text("0")
    before = fingerprints(undisturbed)
    if ended(run(command, undisturbed, steps(0, counted))) != 0:
        row.lost.append(f"it does not even run undisturbed: {errors_of(undisturbed)[-200:]}")
        return row
    after, count = fingerprints(undisturbed), int(counted.read_text())
    for limit in sorted({1 + (count - 1) * number // max(1, kills - 1) for number in range(kills)}):
        folder = sandbox.copy()
        if ended(run(command, folder, steps(limit))) != -signal.SIGKILL:
            continue
        row.times += 1
        found = fingerprints(folder)
        row.litter += sum(path.name.endswith(".part") for path in folder.rglob("*"))
        row.lost += [name for name in before if name not in found]
        whole = {name: (before.get(name), after.get(name), ENDS_WELL) for name in found}
        row.lost += [f"{name} half written" for name, one in found.items() if one not in whole[name]]
        row.again += ended(run(command, folder)) == 0
        again = fingerprints(folder)
        row.lost += [f"{name} differs after the second run" for name in after if again.get(name) != after[name]]
        shutil.rmtree(folder)
    return row


def full_disk(command: Command, sandbox: Sandbox) -> Row:
    """A disk that has room for the input and a little more."""
    row = Row("full disk", command.name)
    folder = sandbox.copy()
    disk = sandbox.folder / "disk"
    disk.mkdir(exist_ok=True)
    size = sum(path.stat().st_blocks * 512 for path in folder.rglob("*")) + 60_000
    if os.system(f"mount -t tmpfs -o size={size} tmpfs {disk} 2>/dev/null") != 0:
        row.lost.append("not tried: this machine mounts no small disk")
        return row
    try:
        shutil.copytree(folder, disk / "folder")
        before = fingerprints(disk / "folder")
        status = ended(run(command, disk / "folder"))
        row.times = 1
        row.again = int(status in (0, 1, 2) and "Traceback" not in errors_of(disk / "folder"))
        found = fingerprints(disk / "folder")
        row.lost += [name for name in before if name not in found]
        row.litter = sum(path.name.endswith(".part") for path in disk.rglob("*"))
        if status and "\nerror: " not in "\n" + errors_of(disk / "folder"):
            row.lost.append(errors_of(disk / "folder")[-200:])
    finally:
        os.system(f"umount {disk}")
    return row


def read_only(command: Command, sandbox: Sandbox) -> Row:
    """Data and weights on a disk that can't be written, the output elsewhere."""
    row = Row("read-only input", command.name)
    folder = sandbox.copy()
    for name in ("data", "weights"):
        os.system(f"mount --bind {folder / name} {folder / name} && mount -o remount,bind,ro {folder / name}")
    try:
        row.times = 1
        row.again = int(ended(run(command, folder)) == 0)
        if not row.again:
            row.lost.append(errors_of(folder)[-200:])
    finally:
        for name in ("data", "weights"):
            os.system(f"umount {folder / name}")
    return row


def photograph_gone(sandbox: Sandbox) -> Row:
    """A query's file disappears between `check` and `predict`."""
    row = Row("photograph gone after `check`", "predict")
    folder = sandbox.copy()
    assert ended(run(Command("check", ("check", "data")), folder)) == 0
    next((folder / "data" / "images" / "Dots" / "query").iterdir()).unlink()
    row.times, row.again = 1, int(ended(run(COMMANDS[4], folder)) == 0)
    if "no such file" not in errors_of(folder) + Path(f"{folder}.out").read_text("utf-8"):
        row.lost.append("no warning")
    return row


def twice(command: Command, sandbox: Sandbox) -> Row:
    """The same call, two times at once."""
    row = Row("two at once", command.name)
    alone, folder = sandbox.copy(), sandbox.copy()
    assert ended(run(command, alone)) == 0, errors_of(alone)
    processes = [run(command, folder), run(command, folder)]
    statuses = [ended(process) for process in processes]
    row.times, row.again = 1, sum(status == 0 for status in statuses)
    after, found = fingerprints(alone), fingerprints(folder)
    row.lost += [f"{name} differs" for name in after if found.get(name) != after[name]]
    row.litter = sum(path.name.endswith(".part") for path in folder.rglob("*"))
    return row


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10, help="per command (default 10)")
    parser.add_argument("--command", choices=[command.name for command in COMMANDS], action="append", help="only these")
    options = parser.parse_args()
    # a small toy world is drawn as a large one is
    synthetic.PLAIN = replace(synthetic.PLAIN, photographs=(3, 2, 1), new_individuals=1, first_new=3)
    torch.set_num_threads(1)  # a process that had threads can't be forked
    commands = [command for command in COMMANDS if not options.command or command.name in options.command]
    rows = []
    with tempfile.TemporaryDirectory(prefix="reid-faults-") as folder:
        sandbox = Sandbox(Path(folder))
        print("| fault | command | times | ended well | lost | hidden files left |", flush=True)
        print(f"|{'---|' * 6}", flush=True)
        tasks: list[Callable[[], Row]] = []
        for command in commands:
            tasks.append(partial(killed, command, sandbox, options.kills))
            if command.name != "toy":
                tasks += [partial(full_disk, command, sandbox), partial(twice, command, sandbox)]
            if command.name in ("train", "predict", "report"):
                tasks.append(partial(read_only, command, sandbox))
        if not options.command or "predict" in options.command:
            tasks.append(partial(photograph_gone, sandbox))
        for task in tasks:
            rows.append(task())
            print(rows[-1], flush=True)
    return 1 if any(row.lost for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
