"""What must hold for every batch and every epoch of the samplers."""

from collections import Counter

import numpy as np
import pytest

from reid.data.sampling import Batch, PKSampler, ShuffledSampler, TurnsSampler

# individuals with 1, 2, ... 9 photographs, shuffled as in a real table
TAIL = np.random.default_rng(0).permutation(np.repeat([f"animal {n}" for n in range(1, 10)], range(1, 10)))


PLACES = np.arange(100, 100 + len(TAIL))  # where these photographs stand among others


def individuals_in(batch: Batch) -> Counter[str]:
    return Counter(str(TAIL[place - 100]) for place in batch.places)


@pytest.mark.parametrize(("p", "k"), [(2, 2), (3, 4), (4, 4), (16, 4), (9, 3)])
@pytest.mark.parametrize("epoch", [0, 1, 7])
def test_every_individual_once_an_epoch_with_k_photographs(p: int, k: int, epoch: int) -> None:
    sampler = PKSampler(PLACES, TAIL, individuals=p, photographs=k, seed=1, epoch=epoch)
    batches = list(sampler)
    assert len(batches) == len(sampler)
    drawn: Counter[str] = Counter()
    for batch in batches:
        inside = individuals_in(batch)
        assert len(inside) <= p
        assert set(inside.values()) == {k}
        drawn.update(inside.keys())
    assert drawn == Counter(set(TAIL))


def test_batches_are_of_even_size() -> None:
    sizes = [len(individuals_in(batch)) for batch in PKSampler(PLACES, TAIL, individuals=4, photographs=2, seed=0)]
    assert sorted(sizes) == [3, 3, 3]  # nine individuals, not 4 + 4 + 1


@pytest.mark.parametrize("k", [2, 4, 5])
def test_a_photograph_comes_again_only_when_the_individual_has_no_other(k: int) -> None:
    sizes = Counter(TAIL)
    for batch in PKSampler(PLACES, TAIL, individuals=5, photographs=k, seed=2):
        for place, times in Counter(batch.places.tolist()).items():
            owned = sizes[TAIL[place - 100]]
            assert times <= -(-k // owned)  # all of an individual's photographs come before any comes again


def test_same_seed_and_epoch_give_the_same_batches_and_others_do_not() -> None:
    def batches(seed: int, epoch: int) -> list[tuple[list[int], int]]:
        sampler = PKSampler(PLACES, TAIL, individuals=4, photographs=3, seed=seed, epoch=epoch)
        return [(batch.places.tolist(), batch.seed) for batch in sampler]

    assert batches(5, 2) == batches(5, 2)
    assert batches(5, 2) != batches(5, 3)
    assert batches(5, 2) != batches(6, 2)


def test_over_many_epochs_every_photograph_is_drawn() -> None:
    sampler = PKSampler(PLACES, TAIL, individuals=4, photographs=2, seed=0)
    drawn = set()
    for epoch in range(60):
        sampler.epoch = epoch
        drawn |= {place for batch in sampler for place in batch.places}
    assert drawn == set(PLACES)


def test_the_species_sampler_shows_every_photograph_and_lifts_small_classes() -> None:
    labels = np.array(["big"] * 40 + ["small"] * 5)
    sampler = ShuffledSampler(np.arange(45), labels, batch_size=16, seed=0)
    drawn = [place for batch in sampler for place in batch.places]
    assert len(list(sampler)) == len(sampler)
    assert set(drawn) == set(range(45))
    assert Counter(labels[drawn]) == {"big": 40, "small": 20}  # four times as many as there are


def test_datasets_take_turns_and_each_gives_its_own_epoch() -> None:
    apart = [np.arange(0, 45), np.arange(45, 90)]
    parts = tuple(PKSampler(own, TAIL, individuals=3, photographs=2, seed=4) for own in apart)
    sampler = TurnsSampler(parts, seed=4, epoch=2)
    batches = list(sampler)
    assert len(batches) == len(sampler) == 6
    turns = [int(batch.places[0] >= 45) for batch in batches]
    assert all(set(batch.places >= 45) == {bool(turn)} for batch, turn in zip(batches, turns, strict=True))
    assert turns not in ([0, 0, 0, 1, 1, 1], [1, 1, 1, 0, 0, 0])  # mixed, with this seed
    for turn, part in enumerate(parts):
        part.epoch = 2
        own = [batch for batch, its in zip(batches, turns, strict=True) if its == turn]
        assert [batch.places.tolist() for batch in own] == [batch.places.tolist() for batch in part]
    sampler.epoch = 3
    assert [batch.places.tolist() for batch in sampler] != [batch.places.tolist() for batch in batches]


def test_nobody_to_draw_gives_no_batch() -> None:
    sampler = PKSampler(PLACES[:0], TAIL[:0], individuals=4, photographs=2, seed=0)
    assert (len(sampler), list(sampler)) == (0, [])
