"""Processes that work together, one for each GPU.

`torchrun` starts them and gives each its rank; PyTorch carries what they exchange. A single process is a world of size
1, for which all of this costs nothing.

Each rank takes its rows of a batch, embeddings are gathered with their gradients, and then every rank computes the same
loss of the whole batch. The gradient that reaches a rank's rows is the sum over as many equal losses as there are
ranks; DistributedDataParallel takes the mean over ranks, which makes it the gradient of one loss: that of a single
process with the whole batch.
"""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:  # torch takes seconds, and a refused call answers without it
    from torch import Tensor

from reid.errors import InputError

__all__ = [
    "all_cores",
    "all_gather_object",
    "all_gather_rows",
    "all_reduce",
    "all_reduce_with_gradients",
    "any_rank",
    "barrier",
    "broadcast_from_local_main",
    "broadcast_from_main",
    "core_count",
    "divide_cores",
    "is_main",
    "process_group",
    "rank",
    "shard",
    "world_size",
]

Value = TypeVar("Value")

TIMEOUT = timedelta(hours=2)
"""How long a rank waits for the others: one of them decodes all photographs. torchrun notices a rank that dies."""


def core_count() -> int:
    """Return how many cores this process may use, or where the system doesn't tell, how many there are; ranks on one
    machine divide them, and so do the processes of `divide_cores`."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, usable // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))


def divide_cores(processes: int) -> None:
    """Divide the cores of `core_count` among several processes of this machine that are no ranks.

    The threads that torch has for itself stay as they are.

    Args:
        processes: how many there are, this one included.
    """
    os.environ["LOCAL_WORLD_SIZE"] = str(processes)


@contextmanager
def all_cores() -> Iterator[None]:
    """Inside, this rank may use all cores of the machine: the others wait for it, or are done."""
    before = os.environ.pop("LOCAL_WORLD_SIZE", None)
    try:
        yield
    finally:
        if before is not None:
            os.environ["LOCAL_WORLD_SIZE"] = before


def world_size() -> int:
    """Return how many ranks there are."""
    return int(os.environ.get("WORLD_SIZE", 1))


def rank() -> int:
    """Return the rank of this process, from 0."""
    return int(os.environ.get("RANK", 0)) if world_size() > 1 else 0


def is_main() -> bool:
    """Return whether this is the rank that writes files and prints."""
    return rank() == 0


@contextmanager
def process_group() -> Iterator[None]:
    """Inside, the ranks can exchange things.

    Raises:
        InputError: a machine has fewer GPUs than ranks.
    """
    if world_size() == 1:
        yield
        return
    import torch
    from torch import distributed

    backend = "gloo"
    if torch.cuda.is_available():
        local_rank, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local_rank >= gpus:
            raise InputError(
                f"rank {rank()} on {socket.gethostname()}: expected a GPU for each process of a machine, found {gpus} "
                f"for {os.environ['LOCAL_WORLD_SIZE']}; start torchrun with --nproc-per-node={gpus}"
            )
        torch.cuda.set_device(local_rank)
        backend = "cpu:gloo,cuda:nccl"
    distributed.init_process_group(backend, timeout=TIMEOUT)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def shard(count: int, of: int | None = None) -> slice:
    """Return the rows that a rank works on: every row belongs to one rank, in order, as evenly as possible.

    Args:
        count: rows of all ranks.
        of: the rank; None for this process.
    """
    rows_each, rest = divmod(count, world_size())
    own = rank() if of is None else of
    start = own * rows_each + min(own, rest)
    return slice(start, start + rows_each + (own < rest))


def all_gather_rows(rows: "Tensor", count: int) -> "Tensor":
    """Return the rows of all ranks, with gradients.

    Args:
        rows: (n, D), those of this rank.
        count: B, of all ranks.

    Returns:
        (B, D), in order.
    """
    if world_size() == 1:
        return rows
    from torch.nn.functional import pad

    own = shard(count)
    return all_reduce_with_gradients(pad(rows, (0, 0, own.start, count - own.stop)))


def all_reduce_with_gradients(tensor: "Tensor") -> "Tensor":
    """Return the sum over ranks, with gradients."""
    return tensor if world_size() == 1 else _sum_with_gradients()(tensor)


@cache
def _sum_with_gradients() -> "Callable[[Tensor], Tensor]":
    """Return the function; PyTorch 2.10 deprecates torch.distributed.nn, which has one, and offers no other."""
    import torch

    class Sum(torch.autograd.Function):
        """Every rank's loss depends on every rank's tensor, so its gradient is the sum of those of all ranks."""

        @staticmethod
        def forward(tensor: "Tensor") -> "Tensor":
            return all_reduce(tensor.clone())

        @staticmethod
        def setup_context(context: Any, inputs: Any, output: Any) -> None:
            pass

        @staticmethod
        def backward(context: Any, gradient: "Tensor") -> "Tensor":
            return all_reduce(gradient.clone())

    return Sum.apply  # type: ignore[no-any-return]


def all_reduce(tensor: "Tensor") -> "Tensor":
    """Return the sum over ranks, in place; where each rank fills its own rows of zeros, this is the whole tensor."""
    if world_size() > 1:
        from torch import distributed

        distributed.all_reduce(tensor)
    return tensor


def all_gather_object(value: Value) -> list[Value]:
    """Return every rank's value, in order; anything that can be pickled."""
    if world_size() == 1:
        return [value]
    from torch import distributed

    values: list[Value | None] = [None] * world_size()
    distributed.all_gather_object(values, value)
    return values  # type: ignore[return-value]


def any_rank(flag: bool) -> bool:
    """Return whether the flag is set on any rank."""
    if world_size() == 1:
        return flag
    import torch

    return bool(all_reduce(torch.tensor(int(flag))) > 0)


def broadcast_from_main(value: Value) -> Value:
    """Return the first rank's value, for example whether a file exists: other machines see it a moment later."""
    return all_gather_object(value)[0]


def broadcast_from_local_main(value: Value) -> Value:
    """Return the value of the first rank of this process's machine."""
    return all_gather_object(value)[rank() - int(os.environ.get("LOCAL_RANK", 0))]


def barrier() -> None:
    """Wait until every rank has come here."""
    any_rank(False)
