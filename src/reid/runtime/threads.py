"""Work that is divided among threads of which each keeps to one core.

NumPy's matrix products and torch's operations have threads of their own, which wait actively for more work when theirs
is done. Where products and operations take turns, the threads of one are in the way of the other's: on two cores
prediction took twice as long with two threads each as with one (benchmarks/README.md, "Two cores").
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from threadpoolctl import threadpool_limits

from reid.runtime.distributed import core_count

__all__ = ["map_in_threads"]

Item = TypeVar("Item")

Result = TypeVar("Result")

_inside = threading.local()


def map_in_threads(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Return what the work makes of each item, in their order.

    The items are shared out among as many threads as the process has cores (`core_count`); in these, torch and NumPy
    use one each, also where there is but one item. What the work makes of an item must not depend on the others, nor on
    the thread: the device that CUDA takes for granted, and `torch.inference_mode`, are a thread's own. Called again by
    the work, it shares nothing out. One call at a time in a process: how many threads NumPy and torch have is the whole
    process's.
    """
    if not len(items) or hasattr(_inside, "one_core"):
        return [work(item) for item in items]
    threads = torch.get_num_threads()
    try:
        with (
            threadpool_limits(1, user_api="blas"),
            ThreadPoolExecutor(min(core_count(), len(items)), initializer=_keep_to_one_core) as pool,
        ):
            return list(pool.map(work, items))
    finally:
        torch.set_num_threads(threads)  # what the pool's set is also the default of all threads to come


def _keep_to_one_core() -> None:
    _inside.one_core = True
    torch.set_num_threads(1)
