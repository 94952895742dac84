"""Work in threads of one core each: the same results in the same order, and afterwards everything as it was."""

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from reid.config.recipe import KeypointConfig, MatchingConfig
from reid.retrieval import descriptor_index
from reid.retrieval.descriptor_index import Cells, DescriptorIndex, DescriptorSets
from reid.retrieval.keypoints import Keypoints
from reid.retrieval.local_matching import gallery_votes, verify
from reid.runtime.threads import map_in_threads


@pytest.fixture
def three_cores(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process with three cores, and as many threads of torch and NumPy."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    monkeypatch.setattr(descriptor_index, "FEWEST_OF_A_THREAD", 1000)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    with threadpool_limits(3, user_api="blas"):
        yield
    torch.set_num_threads(before)


def blas_threads() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def test_results_come_in_the_order_of_the_items(three_cores: None) -> None:
    done = threading.Event()

    def squared(item: int) -> int:
        if item == 0:
            assert done.wait(60)  # the first is the last to end
        if item == 2:
            done.set()
        return item**2

    assert map_in_threads(squared, range(3)) == [0, 1, 4]


def test_inside_there_is_one_thread_for_each_and_afterwards_as_many_as_before(three_cores: None) -> None:
    together = threading.Barrier(3, timeout=60)

    def counted(_: int) -> tuple[int, set[int], int]:
        together.wait()  # all three are under way at once
        return torch.get_num_threads(), blas_threads(), threading.get_ident()

    found = map_in_threads(counted, range(3))
    assert [(mine, theirs) for mine, theirs, _ in found] == [(1, {1})] * 3
    assert len({thread for *_, thread in found}) == 3
    with ThreadPoolExecutor(1) as pool:  # a new thread takes over what a pool has left
        assert pool.submit(torch.get_num_threads).result() == torch.get_num_threads() == 3
    assert blas_threads() == {3}


def test_an_error_in_a_thread_is_raised_and_the_threads_are_as_before(three_cores: None) -> None:
    with pytest.raises(ZeroDivisionError):
        map_in_threads(lambda item: 1 // item, [1, 0, 2])
    assert (torch.get_num_threads(), blas_threads()) == (3, {3})


def test_a_single_item_has_a_thread_of_one_core_too(three_cores: None) -> None:
    ((thread, *threads),) = map_in_threads(
        lambda _: (threading.get_ident(), torch.get_num_threads(), *blas_threads()), [0]
    )
    assert threads == [1, 1]
    assert thread != threading.get_ident()
    assert map_in_threads(lambda item: item, []) == []


def test_what_the_work_shares_out_in_turn_stays_in_its_thread(three_cores: None) -> None:
    def twice(_: int) -> set[int]:
        return {threading.get_ident(), *map_in_threads(lambda _: threading.get_ident(), range(5))}

    assert [len(threads) for threads in map_in_threads(twice, range(4))] == [1] * 4


def test_ranks_divide_the_cores(three_cores: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    found = map_in_threads(lambda _: (threading.get_ident(), torch.get_num_threads(), *blas_threads()), range(4))
    assert len(set(found)) == 1
    assert found[0][1:] == (1, 1)  # a core of its own, and one thread on it


def photographs(count: int, keypoints: int, seed: int) -> list[Keypoints]:
    rng, made = np.random.default_rng(seed), []
    for _ in range(count):
        vectors = rng.random((keypoints, 16)).astype(np.float32) ** 3
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        points = rng.random((keypoints, 4)).astype(np.float32)
        made.append(Keypoints(points, vectors.astype(np.float16), (1.0, 1.0), rng.random(keypoints).astype(np.float32)))
    return made


def test_votes_and_matches_are_the_same_to_the_bit_in_three_threads(three_cores: None) -> None:
    config, powers = KeypointConfig(count=200), {"local": 0.0, "foreground": 2.0}
    queries, gallery = photographs(20, 170, 0), photographs(30, 170, 1)
    asked, known = (DescriptorSets.of(some, config, powers) for some in (queries, gallery))
    assert len(asked.vectors) >= 3 * descriptor_index.FEWEST_OF_A_THREAD
    centroids = known.vectors[::128].float()
    cells = Cells(centroids, torch.cdist(known.vectors.float(), centroids).argmin(1).int())
    index = DescriptorIndex.of(known, cells, 7, torch.device("cpu"))
    hidden = torch.from_numpy(np.random.default_rng(2).random((20, 30)) < 0.3)
    shortlist = [np.arange(place, place + 5) for place in range(20)]

    votes, matches = gallery_votes(asked, index, 4, hidden), verify(queries, gallery, shortlist, MatchingConfig())
    for row, query in enumerate(queries):  # so few descriptors are not divided
        alone = gallery_votes(DescriptorSets.of([query], config, powers), index, 4, hidden[row : row + 1])
        assert all(torch.equal(votes[cue][row], alone[cue][0]) for cue in powers)
        (expected,) = verify([query], gallery, shortlist[row : row + 1], MatchingConfig())
        for one, other in zip(matches[row], expected, strict=True):
            assert np.array_equal(one.pairs, other.pairs)
    assert all(some.count_nonzero() > 100 for some in votes.values())
    assert sum(len(one.pairs) for row in matches for one in row) > 100
