"""Trainings in processes of their own, to be killed. They are forked from the server that `conftest.py` starts."""

import logging
import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import torch

from reid.config.recipe import Recipe
from reid.data.catalogue import read_catalogue
from reid.errors import InputError, Stopped

SERVER = multiprocessing.get_context("forkserver")


def start(data: Path, recipe: Recipe, folder: Path, world: int = 1, **rest: Any) -> list[ForkServerProcess]:
    """Starts a training; a checkpoint after every step, unless `rest` says otherwise."""
    return spread(train, (data, recipe, folder, {"save_every": 0.0, **rest}), world)


def spread(task: Callable[..., None], arguments: tuple[Any, ...], world: int = 1) -> list[ForkServerProcess]:
    """Starts a task in as many processes; each gets its rank in its environment, as from torchrun."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    own = [
        {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world, "MASTER_PORT": port}
        for rank in range(world)
    ]
    processes = [SERVER.Process(target=_run, args=(task, arguments, one)) for one in own]
    for process in processes:
        process.start()
    return processes


def _run(task: Callable[..., None], arguments: tuple[Any, ...], own: dict[str, int]) -> None:
    from reid.runtime.distributed import process_group

    os.environ |= {"MASTER_ADDR": "127.0.0.1", **{name: str(value) for name, value in own.items()}}
    torch.set_num_threads(1)
    with process_group():
        task(*arguments)


def train(data: Path, recipe: Recipe, folder: Path, rest: dict[str, Any]) -> None:
    """A training with the exit statuses of the command line; its messages are written next to its folder."""
    from reid.runtime.distributed import rank
    from reid.runtime.signals import stop_on_signals
    from reid.training.networks import train_networks
    from reid.training.tasks import TrainingOptions

    folder.parent.mkdir(exist_ok=True)
    sys.stdout = sys.stderr = (folder.parent / f"{folder.name}.{rank()}.log").open("a", buffering=1)
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s", force=True)
    try:
        with stop_on_signals() as stop:
            train_networks(read_catalogue(data), recipe, folder, TrainingOptions(stop=stop, **rest))
    except InputError as problem:
        print("error:", problem)
        sys.exit(2)
    except Stopped as stopped:
        print(stopped)
        sys.exit(os.EX_TEMPFAIL)


def end(ranks: Sequence[ForkServerProcess], after: float | None = None, by: int = signal.SIGKILL) -> list[int | None]:
    """Waits so many seconds, then sends a signal to all ranks that still run; their exit statuses."""
    if after is not None:
        ranks[0].join(after)
        for process in ranks:
            if process.is_alive() and process.pid:
                os.kill(process.pid, by)
    for process in ranks:
        process.join(300)  # far more than it takes; a machine may be busy
    return [process.exitcode for process in ranks]


class Witness:
    """Writes into a folder how many cores a process counts as its own, as soon as it is sent to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return note_cores, (self.folder,)


def note_cores(folder: Path) -> None:
    from reid.runtime.distributed import core_count

    (folder / f"{os.getpid()}.txt").write_text(str(core_count()))


class Deadly:
    """Ends the process that it is sent to."""

    def __reduce__(self) -> tuple[Callable[[int], Any], tuple[int]]:
        return os._exit, (1,)
