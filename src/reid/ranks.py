"""The processes that work together, one for each GPU. `torchrun` starts them and tells each its rank; PyTorch carries
what they exchange. A process alone is a world of one, in which all of this costs nothing.

A batch is shared out by rows, embeddings are gathered with their gradients, and from there on every rank computes the
same loss of the whole batch. The gradient that reaches a rank's rows is then the sum over as many equal losses as there
are ranks, and the mean over ranks that DistributedDataParallel takes of the weights' gradients makes it the gradient of
one loss: that of a single process with the whole batch.
"""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from reid import InputError

if TYPE_CHECKING:  # torch takes seconds, and a refused call answers without it
    from torch import Tensor

__all__ = [
    "alone",
    "any_rank",
    "collected",
    "cores",
    "first_says",
    "gathered",
    "is_first",
    "joined",
    "leader_says",
    "rank",
    "share",
    "share_cores",
    "summed",
    "total",
    "wait",
    "world",
]

Value = TypeVar("Value")

PATIENCE = timedelta(hours=2)
"""How long a rank waits for the others: one of them decodes all photographs. One that dies is noticed by torchrun."""


def cores() -> int:
    """How many cores are this process's: those that it may use, or where the system doesn't tell, all there are; ranks
    on one machine share them, and so do the processes of `share_cores`."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, usable // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))


def share_cores(processes: int) -> None:
    """From here on this process counts as one of several on its machine, which are no ranks but share its cores: those
    of `cores`, not the threads that torch has for itself.

    Args:
        processes: how many they are.
    """
    os.environ["LOCAL_WORLD_SIZE"] = str(processes)


@contextmanager
def alone() -> Iterator[None]:
    """Inside, all cores of the machine are this rank's: the others wait for it, or are done."""
    before = os.environ.pop("LOCAL_WORLD_SIZE", None)
    try:
        yield
    finally:
        if before is not None:
            os.environ["LOCAL_WORLD_SIZE"] = before


def world() -> int:
    """How many ranks there are."""
    return int(os.environ.get("WORLD_SIZE", 1))


def rank() -> int:
    """Which of them this process is, from 0."""
    return int(os.environ.get("RANK", 0)) if world() > 1 else 0


def is_first() -> bool:
    """Whether this process writes files and speaks for all."""
    return rank() == 0


@contextmanager
def joined() -> Iterator[None]:
    """Inside, the ranks can exchange things.

    Raises:
        InputError: a machine has fewer GPUs than ranks.
    """
    if world() == 1:
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
    distributed.init_process_group(backend, timeout=PATIENCE)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def share(count: int, of: int | None = None) -> slice:
    """The rows that a rank works on; over all ranks every row once, in order, and evenly.

    Args:
        count: rows.
        of: whose share; None for this process's.
    """
    rows_each, rest = divmod(count, world())
    own = rank() if of is None else of
    start = own * rows_each + min(own, rest)
    return slice(start, start + rows_each + (own < rest))


def gathered(rows: "Tensor", count: int) -> "Tensor":
    """The rows of all ranks, with gradients.

    Args:
        rows: (n, D), this rank's share.
        count: B, of all ranks.

    Returns:
        (B, D), in order.
    """
    if world() == 1:
        return rows
    from torch.nn.functional import pad

    own = share(count)
    return summed(pad(rows, (0, 0, own.start, count - own.stop)))


def summed(tensor: "Tensor") -> "Tensor":
    """The sum over ranks, with gradients."""
    return tensor if world() == 1 else _sum_with_gradients()(tensor)


@cache
def _sum_with_gradients() -> "Callable[[Tensor], Tensor]":
    """torch.distributed.nn has one, but on its way out, and its heir is on no way in that PyTorch 2.10 knew."""
    import torch

    class Sum(torch.autograd.Function):
        """Each rank's loss depends on each rank's tensor: its gradient is the sum of what comes back to all of them."""

        @staticmethod
        def forward(tensor: "Tensor") -> "Tensor":
            return total(tensor.clone())

        @staticmethod
        def setup_context(context: Any, inputs: Any, output: Any) -> None:
            pass

        @staticmethod
        def backward(context: Any, gradient: "Tensor") -> "Tensor":
            return total(gradient.clone())

    return Sum.apply  # type: ignore[no-any-return]


def total(tensor: "Tensor") -> "Tensor":
    """The sum over ranks, in place; where each rank fills in its own rows of zeros, the whole."""
    if world() > 1:
        from torch import distributed

        distributed.all_reduce(tensor)
    return tensor


def collected(value: Value) -> list[Value]:
    """Every rank's value, in order; anything that can be pickled."""
    if world() == 1:
        return [value]
    from torch import distributed

    values: list[Value | None] = [None] * world()
    distributed.all_gather_object(values, value)
    return values  # type: ignore[return-value]


def any_rank(wish: bool) -> bool:
    """Whether any rank has the wish."""
    if world() == 1:
        return wish
    import torch

    return bool(total(torch.tensor(int(wish))) > 0)


def first_says(value: Value) -> Value:
    """The first rank's value: files come to light on another machine a moment later than where they were written."""
    return collected(value)[0]


def leader_says(value: Value) -> Value:
    """The value of the first rank of this process's machine."""
    return collected(value)[rank() - int(os.environ.get("LOCAL_RANK", 0))]


def wait() -> None:
    """Until every rank has come here."""
    any_rank(False)
