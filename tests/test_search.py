"""The exact search against sorting every distance."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from reid.retrieval import search
from reid.retrieval.search import nearest


def found(*arguments: object, **options: object) -> tuple[Tensor, Tensor]:
    """Squared distances and places of all blocks."""
    blocks = list(nearest(*arguments, **options))  # type: ignore[arg-type]
    return torch.cat([block.distance for block in blocks]), torch.cat([block.place for block in blocks])


def some_vectors(seed: int, rows: int, dimensions: int = 16) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(rows, dimensions)).astype(np.float32))


@pytest.mark.parametrize("budget", [1, 50_000, 2_000_000])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_the_nearest_of_thousands_are_found_whatever_the_blocks_and_the_format(
    precision: torch.dtype, budget: int
) -> None:
    gallery, queries = some_vectors(0, 3100 if budget > 1 else 90), some_vectors(1, 70 if budget > 1 else 5)
    exact, places = torch.cdist(queries.double(), gallery.double()).topk(5, largest=False)
    distance, place = found(queries, gallery, 5, precision=precision, budget=budget)
    assert torch.equal(place, places)
    assert distance.sqrt().numpy() == pytest.approx(exact.numpy(), rel=1e-5)


def test_distances_do_not_depend_on_the_other_queries() -> None:
    gallery, queries = some_vectors(0, 500), some_vectors(1, 40)
    together, _ = found(queries, gallery, 3)
    alone = torch.cat([found(query[None], gallery, 3)[0] for query in queries])
    assert torch.equal(together, alone)


def test_distances_that_are_computed_again_do_not_depend_on_how_many_are_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    queries, gallery = some_vectors(0, 17), some_vectors(1, 50)
    at_once = found(queries, gallery, 5)
    monkeypatch.setattr(search, "AT_ONCE", 5)
    assert all(map(torch.equal, at_once, found(queries, gallery, 5)))


def test_a_photograph_is_at_distance_zero_of_itself() -> None:
    gallery = 1000 + some_vectors(0, 300)  # far from the origin, where the usual expansion of the square fails
    distance, place = found(gallery, gallery, 1)
    assert torch.equal(place[:, 0], torch.arange(300))
    assert (distance == 0).all()


@pytest.mark.parametrize("budget", [3_000, 64_000_000])
def test_what_is_hidden_is_not_there(budget: int) -> None:
    rng = np.random.default_rng(2)
    gallery, queries = some_vectors(0, 60, 4), some_vectors(1, 30, 4)
    query_owner = torch.from_numpy(np.sort(rng.integers(0, 6, 30)))
    gallery_owner = torch.from_numpy(rng.integers(0, 9, 60))
    hidden = torch.from_numpy(rng.random((6, 9)) < 0.5)
    exact = torch.cdist(queries.double(), gallery.double()).masked_fill(
        hidden[query_owner][:, gallery_owner], torch.inf
    )
    expected, places = exact.topk(7, largest=False)
    distance, place = found(queries, gallery, 7, hidden, query_owner, gallery_owner, budget=budget)
    there = torch.isfinite(expected)
    assert torch.equal(torch.isfinite(distance), there)
    assert torch.equal(place[there], places[there])
    assert (place[~there] == 0).all()


def test_fewer_are_found_where_there_are_fewer() -> None:
    distance, place = found(some_vectors(0, 4), some_vectors(1, 3), 10)
    assert place.shape == distance.shape == (4, 3)
    assert list(nearest(some_vectors(0, 4), some_vectors(1, 0), 2)) == []
    assert list(nearest(some_vectors(0, 0), some_vectors(1, 3), 2)) == []


class Made(TorchFunctionMode):
    """The bytes of the largest tensor that is made inside, other than views of given ones."""

    def __init__(self, *given: Tensor) -> None:
        super().__init__()
        self.known, self.largest = {one.untyped_storage().data_ptr() for one in given}, 0

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for one in result if isinstance(result, tuple) else (result,):
            if isinstance(one, Tensor) and one.untyped_storage().data_ptr() not in self.known:
                self.largest = max(self.largest, one.numel() * one.element_size())
        return result


def test_distances_are_never_held_all_at_once() -> None:
    queries, gallery = some_vectors(0, 600, 4), some_vectors(1, 1800, 4)
    with Made(queries, gallery) as made:
        found(queries, gallery, 5, budget=100_000)
    assert made.largest >= 50_000  # it is watched
    assert made.largest <= 200_000  # places in a block take twice as much as its distances; all at once 4,320,000


def test_a_single_query_does_not_take_the_gallery_as_a_whole() -> None:
    query, gallery = some_vectors(0, 1, 160), some_vectors(1, 1800, 160)
    with Made(query, gallery) as made:
        found(query, gallery, 5, precision=torch.bfloat16, budget=64_000)
    assert made.largest <= 64_000  # the gallery in bfloat16 takes 576,000
