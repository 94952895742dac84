"""The cut: its index beside a slow twin, and fits on drawn animals whose best cut is known."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from test_candidates import ENCODER
from test_linkage import random_pairs

from reid.decision.clusters import adjusted_rand_index
from reid.decision.cuts import GRID, FittedCut, Source, confident_companions, curve_of, fit_cut, middle_of_plateau
from reid.decision.cuts import rand_index_at as index_at
from reid.decision.linkage import merge_tree
from reid.decision.pair_scores import LabelledPairs
from reid.decision.reference import Reference
from reid.retrieval.gallery import GalleryFeatures
from reid.retrieval.photograph_pairs import PhotographPairs, Pool, compare, rank_normalised


@pytest.mark.parametrize("seed", range(12))
def test_the_index_at_every_cut_is_that_of_the_clusters_there(seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = int(rng.integers(2, 25))
    labels = np.array([f"animal {number}" for number in rng.integers(0, rng.integers(1, size + 1), size)])
    pairs, dissimilarity = random_pairs(rng, size, rng.random())
    dissimilarity = dissimilarity.round(2)  # ties, and heights that are cuts
    tree = merge_tree(size, pairs, dissimilarity)
    cuts = np.array([0, 0.005, 0.1, 0.25, 0.5, 0.5001, 0.75, 1])
    expected = [adjusted_rand_index(labels.tolist(), tree.labels(cut).astype(str).tolist()) for cut in cuts]
    assert index_at(tree, labels, cuts) == pytest.approx(np.array(expected))
    pairs_ = PhotographPairs(size, pairs[:, 0], pairs[:, 1], {})
    curve = curve_of(LabelledPairs(pairs_, labels), dissimilarity)
    assert curve == pytest.approx(index_at(tree, labels, GRID))
    assert curve.shape == (201,)


@pytest.mark.parametrize(
    ("labels", "together", "index"),
    [
        (["a", "a", "a"], True, 1),
        (["a", "a", "a"], False, 0),
        (["a", "b", "c"], False, 1),
        (["a", "b", "c"], True, 0),
        (["a"], False, 1),
    ],
)
def test_one_individual_and_nobody_twice_have_an_index_too(labels: list[str], together: bool, index: float) -> None:
    size = len(labels)
    pairs = np.array([[0, 1], [0, 2], [1, 2]]) if together else np.zeros((0, 2), int)
    tree = merge_tree(size, pairs, np.full(len(pairs), 0.2))
    assert index_at(tree, np.array(labels), np.array([0.5])).tolist() == [index]


@pytest.mark.parametrize(
    ("curve", "middle", "ends"),
    [
        ({0: 0.5}, 0.0, (0, 0)),
        ({200: 0.5}, 1.0, (1, 1)),
        ({40: 0.5}, 0.2, (0.2, 0.2)),
        (dict.fromkeys(range(40, 61), 0.5), 0.25, (0.2, 0.3)),
        ({**dict.fromkeys(range(40, 61), 0.492), 60: 0.5}, 0.25, (0.2, 0.3)),  # as good, to a hundredth
        ({**dict.fromkeys(range(40, 61), 0.489), 60: 0.5}, 0.3, (0.3, 0.3)),
        ({**dict.fromkeys(range(40, 61), 0.495), 100: 0.5}, 0.5, (0.5, 0.5)),  # another plateau
        (dict.fromkeys(range(201), 0.5), 0.5, (0, 1)),
    ],
)
def test_the_middle_of_the_plateau_around_the_best_cut_is_taken(
    curve: dict[int, float], middle: float, ends: tuple[float, float]
) -> None:
    values = np.zeros(201)
    values[list(curve)] = list(curve.values())
    value, plateau = middle_of_plateau(values)
    assert [value, *plateau] == pytest.approx([middle, *ends])


def test_companions_are_counted_by_the_chances_of_confident_pairs() -> None:
    assert confident_companions(4, np.array([0.1, 0.2, 0.95, 0.9])) == pytest.approx(2 * (0.9 + 0.8) / 4)
    assert confident_companions(4, np.zeros(6)) == 3
    assert confident_companions(4, np.ones(6)) == 0
    assert confident_companions(0, np.zeros(0)) == 0


def draw(seed: int, sizes: list[int], spread: float = 0.12) -> tuple[GalleryFeatures, list[str]]:
    """Animals as points, their photographs around them."""
    rng = np.random.default_rng(seed)
    labels = [f"{seed} {number:03d}" for number, size in enumerate(sizes) for _ in range(size)]
    centres = np.repeat(rng.normal(size=(len(sizes), 8)), sizes, 0)
    vectors = torch.from_numpy((centres + spread * rng.normal(size=centres.shape)).astype(np.float32))
    return GalleryFeatures(tuple(map(str, range(len(labels)))), vectors, ("",) * len(labels)), labels


def source_of(seed: int, sizes: list[int], dataset: str = "Lions", spread: float = 0.12) -> Source:
    features, labels = draw(seed, sizes, spread)
    reference = Reference(features.image_id, tuple(labels), ("",) * len(labels), np.zeros((0, 0), np.float32))
    return Source(dataset, reference, Pool.of(features, ENCODER, "preparing"))


def live_of(seed: int, sizes: list[int], spread: float = 0.12) -> LabelledPairs:
    features, labels = draw(seed, sizes, spread)
    pairs = compare(Pool.of(features, ENCODER, "comparing"), np.arange(len(labels)))
    return LabelledPairs(pairs, np.array(labels))


def index_of(live: LabelledPairs, fitted: FittedCut, pairs: PhotographPairs | None = None) -> float:
    dissimilarity = fitted.scorer.dissimilarity(live.pairs if pairs is None else pairs)
    return float(np.interp(fitted.value, GRID, curve_of(live, dissimilarity)))


def fit(sources: list[Source], live: LabelledPairs, seed: int = 0) -> FittedCut:
    fitted = fit_cut(sources, live.pairs, seed, kind="logistic")
    assert fitted is not None
    return fitted


KNOWN = [5] * 30
UNKNOWN = [4, 3, 3, 2, 2, 1, 1, 1] * 4


def test_animals_that_lie_apart_are_told_apart() -> None:
    live = live_of(1, UNKNOWN)
    fitted = fit([source_of(0, KNOWN)], live)
    assert index_of(live, fitted) > 0.95
    assert 0 < fitted.plateau[0] <= fitted.value <= fitted.plateau[1] < 1
    assert fitted.scores.shape == (12,)
    assert fitted.scores.mean() > 0.95


def test_an_index_is_expected_that_is_found_where_animals_overlap() -> None:
    source, expected, found = source_of(0, [5] * 60, spread=0.5), [], []
    for seed in (2, 3, 4):
        live = live_of(seed, UNKNOWN, 0.5)
        fitted = fit([source], live)
        expected.append(fitted.scores.mean())
        found.append(index_of(live, fitted))
    assert 0.2 < np.mean(expected) < 0.9
    assert np.mean(found) == pytest.approx(np.mean(expected), abs=0.1)


def test_the_estimated_density_grows_with_the_true_one() -> None:
    source = source_of(0, [12] * 25)
    estimates, truths = [], []
    for photographs in (1, 2, 4, 8):
        live = live_of(photographs, [photographs] * (80 // photographs))
        estimates.append(fit([source], live).companions)
        truths.append(photographs - 1)
    assert np.argsort(estimates).tolist() == [0, 1, 2, 3]
    assert 0.3 <= estimates[0] < 0.5  # not less, or there would be nothing to fit
    assert estimates[1:] == pytest.approx(truths[1:], rel=0.35)


def test_animals_that_are_alike_are_no_companions() -> None:
    """Photographs of animals of which each has one, so much alike that many pairs seem to show one animal."""
    source = source_of(0, [12] * 40, spread=0.5)
    assert fit([source], live_of(5, [1] * 80, 0.5)).companions < 1


def test_pairs_are_fitted_on_what_is_made_of_them() -> None:
    live = live_of(1, UNKNOWN)
    distance = partial(PhotographPairs.with_features, names=("distance",))
    fitted = fit_cut([source_of(0, KNOWN)], distance(live.pairs), 0, distance, kind="logistic")
    assert fitted is not None
    assert index_of(live, fitted, distance(live.pairs)) > 0.8


def test_a_density_that_is_given_is_not_estimated() -> None:
    live = live_of(1, UNKNOWN)
    for companions in (0.5, 3.0):
        fitted = fit_cut([source_of(0, [12] * 25)], live.pairs, 0, companions=companions, kind="logistic")
        assert fitted is not None
        assert fitted.fitted_companions == pytest.approx(companions, rel=0.4)


def test_datasets_are_borrowed_by_their_ranks() -> None:
    """Photographs of another scale: distances of one dataset say nothing in another."""
    features, labels = draw(1, UNKNOWN)
    features = replace(features, vectors=features.vectors * 50)
    live = LabelledPairs(compare(Pool.of(features, ENCODER, "x"), np.arange(len(labels))), np.array(labels))
    sources = [source_of(0, KNOWN), source_of(2, KNOWN, "Tigers")]
    ranked = rank_normalised(live.pairs)
    fitted = fit_cut(sources, ranked, 0, rank_normalised, kind="logistic")
    assert fitted is not None
    assert {name.split()[0] for name in fitted.scorer.fold} == {"Lions", "Tigers"}
    assert index_of(live, fitted, ranked) > 0.8


def test_both_pair_scores_do_as_well_together() -> None:
    live = live_of(1, UNKNOWN)
    fitted = fit_cut([source_of(0, KNOWN)], live.pairs, 0)
    assert fitted is not None
    assert fitted.scorer.kind == "both"
    assert index_of(live, fitted) > 0.95


def test_the_same_seed_fits_the_same() -> None:
    live, source = live_of(1, UNKNOWN), source_of(0, KNOWN)
    one, same = fit([source], live), fit([source], live)
    assert (one.value, one.plateau, one.companions) == (same.value, same.plateau, same.companions)
    assert np.array_equal(one.scores, same.scores)


@pytest.mark.parametrize("sizes", [[1] * 30, [5], [5, 1], []])
def test_nothing_is_fitted_on_individuals_with_one_photograph_or_on_too_few(sizes: list[int]) -> None:
    assert fit_cut([source_of(0, sizes)], live_of(1, UNKNOWN).pairs, 0) is None


@pytest.mark.parametrize("sizes", [[], [1]])
def test_nothing_is_fitted_for_nothing(sizes: list[int]) -> None:
    assert fit_cut([source_of(0, KNOWN)], live_of(1, sizes).pairs, 0) is None
