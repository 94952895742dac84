"""Pair scores on drawn pairs: they rank well, and nobody's own pairs have a say in theirs."""

import itertools

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from reid.decision.pair_scores import FOLDS, KINDS, LabelledPairs, PairScorer, fit_pair_scorer
from reid.retrieval.photograph_pairs import PhotographPairs


def draw(
    seed: int, individuals: int = 30, photographs: int = 3, gap: float = 3.0, prefix: str = "animal"
) -> LabelledPairs:
    """Every pair of some individuals' photographs; one feature tells, less or more, and one says nothing."""
    rng = np.random.default_rng(seed)
    labels = np.array([f"{prefix} {number}" for number in range(individuals) for _ in range(photographs)])
    first, second = np.array(list(itertools.combinations(range(len(labels)), 2))).T
    same = labels[first] == labels[second]
    features = {"telling": rng.normal(size=len(first)) + gap * same, "idle": rng.normal(size=len(first))}
    return LabelledPairs(PhotographPairs(len(labels), first, second, features), labels)


def fitted(kind: str, *collections: LabelledPairs, seed: int = 0) -> PairScorer:
    scorer = fit_pair_scorer(kind, collections, seed)
    assert scorer is not None
    return scorer


def test_a_pair_is_a_match_where_both_labels_are_the_same() -> None:
    collection = draw(0, individuals=3)
    slow = [
        collection.labels[one] == collection.labels[other]
        for one, other in zip(collection.pairs.first, collection.pairs.second, strict=True)
    ]
    assert collection.is_match.tolist() == slow
    assert sum(slow) == 9


@pytest.mark.parametrize("kind", KINDS)
def test_drawn_pairs_of_new_animals_are_ranked_by_what_tells(kind: str) -> None:
    scorer = fitted(kind, draw(0), draw(1, prefix="other"))
    live = draw(2)
    chance = 1 - scorer.dissimilarity(live.pairs)
    best = roc_auc_score(live.is_match, live.pairs.features["telling"])
    assert roc_auc_score(live.is_match, chance) > best - 0.02
    assert ((chance >= 0) & (chance <= 1)).all()
    likely = chance > 0.5
    assert live.is_match[likely].mean() > 0.6
    assert chance.mean() == pytest.approx(live.is_match.mean(), rel=0.5)  # they are chances


@pytest.mark.parametrize("kind", KINDS)
def test_known_pairs_are_scored_on_the_scale_of_new_ones(kind: str) -> None:
    collection = draw(0)
    scorer = fitted(kind, collection)
    live = draw(1)
    for is_match in (True, False):
        own = scorer.held_out(collection)[collection.is_match == is_match].mean()
        new = scorer.dissimilarity(live.pairs)[live.is_match == is_match].mean()
        assert own == pytest.approx(new, abs=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_what_nobody_else_has_is_not_learned_from_oneself(kind: str) -> None:
    """One individual's pairs carry a mark: who has learned from them calls marked pairs a match."""
    collection = draw(0, individuals=20, photographs=5)
    own = collection.labels == "animal 7"
    both = own[collection.pairs.first] & own[collection.pairs.second]
    assert both.sum() == 10
    collection.pairs.features["telling"][both] = -3.0  # as if they were of two animals
    collection.pairs.features["idle"][both] = 30.0
    scorer = fitted(kind, collection)
    rows = collection.pairs.columns
    fold = scorer.fold["animal 7"]
    without = scorer.models[fold](rows[both])
    others = np.mean([model(rows[both]) for place, model in enumerate(scorer.models) if place != fold])
    assert without.mean() < others - 2  # the others know the mark
    assert scorer.held_out(collection)[both].min() > 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_a_pair_is_scored_by_the_models_that_lack_its_individuals(kind: str) -> None:
    collection = draw(0, individuals=12)
    scorer = fitted(kind, collection)
    assert sorted(np.bincount(list(scorer.fold.values()))) == [2, 2, 2, 3, 3]
    found = scorer.held_out(collection)
    logits = [model(collection.pairs.columns) for model in scorer.models]
    for row in range(0, len(collection.pairs), 7):
        ends = (
            collection.labels[collection.pairs.first[row]],
            collection.labels[collection.pairs.second[row]],
        )
        logit = np.mean([logits[scorer.fold[name]][row] for name in ends])
        assert found[row] == pytest.approx(1 - 1 / (1 + np.exp(-logit)))


def test_an_individual_that_no_model_has_met_is_scored_by_all_of_them() -> None:
    scorer, strangers = fitted("logistic", draw(0, individuals=12)), draw(1, individuals=4, prefix="stranger")
    assert scorer.held_out(strangers) == pytest.approx(scorer.dissimilarity(strangers.pairs))


def test_no_number_overflows() -> None:
    scorer = PairScorer("by hand", (lambda columns: columns[:, 0] * 1000,), {"a": 0})
    features = {"x": np.array([-1e6, 0.0, 1e6])}
    pairs = PhotographPairs(3, np.array([0, 0, 1]), np.array([1, 2, 2]), features)
    assert scorer.dissimilarity(pairs).tolist() == [1, 0.5, 0]
    assert scorer.held_out(LabelledPairs(pairs, np.array(["a", "a", "a"]))).tolist() == [1, 0.5, 0]


def test_a_sample_of_the_pairs_gives_the_chances_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    collection, live = draw(0, individuals=60), draw(1)
    every = fitted("logistic", collection).dissimilarity(live.pairs)
    monkeypatch.setattr("reid.decision.pair_scores.MOST", 2000)  # of 16,000
    some = fitted("logistic", collection).dissimilarity(live.pairs)
    assert not np.array_equal(every, some)
    assert np.abs(some - every).mean() < 0.02
    assert some.mean() == pytest.approx(every.mean(), abs=0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_scorer(kind: str) -> None:
    collection, live = draw(0), draw(1)
    one, same, other = (fitted(kind, collection, seed=seed) for seed in (0, 0, 1))
    assert one.fold == same.fold != other.fold
    assert np.array_equal(one.dissimilarity(live.pairs), same.dissimilarity(live.pairs))


def test_there_is_no_scorer_where_there_is_nothing_to_learn() -> None:
    for individuals, photographs in ((10, 1), (1, 5), (2, 3)):
        assert fit_pair_scorer("logistic", [draw(0, individuals, photographs)], 0) is None
    assert fit_pair_scorer("logistic", [draw(0, 3, 3)], 0) is not None  # each third leaves two individuals


def test_no_pairs_have_no_scores() -> None:
    scorer = fitted("logistic", draw(0))
    nothing = PhotographPairs(1, np.zeros(0, int), np.zeros(0, int), {})
    assert scorer.dissimilarity(nothing).shape == (0,)
    assert scorer.held_out(LabelledPairs(nothing, np.array(["animal 1"]))).shape == (0,)
    assert len(scorer.models) == FOLDS


def test_both_are_the_mean_of_the_two_logits() -> None:
    collection, live = draw(0), draw(1)
    one, other, both = (fitted(kind, collection) for kind in KINDS)
    for parts in zip(one.models, other.models, both.models, strict=True):
        first, second, mean = (model(live.pairs.columns) for model in parts)
        assert mean == pytest.approx((first + second) / 2)
