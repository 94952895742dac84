"""Work that is divided among threads of which each keeps to one core.

NumPy's matrix products and torch's operations have threads of their own, which wait actively for more work when theirs
is done. Where products and operations take turns, the threads of one are in the way of the other's: on two cores the
search of a drawn world's 420 photographs took 7.8 s with two threads each and 3.4 s with one (benchmarks/README.md).
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from threadpoolctl import threadpool_limits

__all__ = ["map_in_threads"]

Item = TypeVar("Item")

Result = TypeVar("Result")


def map_in_threads(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Return what the work makes of each item, in their order.

    The items are shared out among as many threads as torch may have in this process; inside, torch and NumPy use one
    each. What the work makes of an item must not depend on the others.
    """
    threads = torch.get_num_threads()
    if threads == 1 or len(items) < 2:
        return [work(item) for item in items]
    workers = min(threads, len(items))
    try:
        with (
            threadpool_limits(1, user_api="blas"),
            ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool,
        ):
            return list(pool.map(work, items))
    finally:
        torch.set_num_threads(threads)  # what the pool's set is also the default of all threads to come
