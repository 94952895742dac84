"""Pairs of photographs: their features beside a slow twin, and what must not matter, such as the order of the rows."""

from dataclasses import replace
from math import log, log1p, sqrt
from typing import Any

import numpy as np
import pytest
import torch
from textures import texture, warped

from reid.config.recipe import KeypointConfig, Recipe
from reid.config.settings import with_settings
from reid.retrieval.extractors.rootsift import extract
from reid.retrieval.gallery import GalleryFeatures
from reid.retrieval.keypoints import NO_KEYPOINTS, Keypoints
from reid.retrieval.local_matching import lnbnn, stack_descriptors, verify
from reid.retrieval.photograph_pairs import PhotographPairs, Pool, compare, compares_all, rank_normalised

SMALL = KeypointConfig(size=160, count=60)
COUNT = 12
BOTH = with_settings(Recipe(), {"matching.cues": ("encoder", "local"), "matching.shortlist": 4, "matching.verified": 6})
ENCODER = with_settings(BOTH, {"matching.cues": ("encoder",)})
LOCAL = with_settings(BOTH, {"matching.cues": ("local",), "calibration.scorers": ("local",)})
LARGE = with_settings(BOTH, {"matching.whole_gallery": 0})
"""As if the collection were too large to match keypoints with all of it."""
EVERY = [ENCODER, LOCAL, BOTH, LARGE]

Rows = dict[tuple[int, int], dict[str, float]]


@pytest.fixture(scope="module")
def photographs() -> GalleryFeatures:
    """Two photographs each of six textures; the second is warped. Of the last one no side is known."""
    pictures = [picture for seed in range(COUNT // 2) for picture in (texture(seed), warped(texture(seed)))]
    rng = np.random.default_rng(0)
    vectors = np.repeat(rng.normal(size=(COUNT // 2, 4)), 2, 0) + 0.3 * rng.normal(size=(COUNT, 4))
    sides = (*["left", "right", "left"] * 3, "left", "left", "")
    keypoints = tuple(extract(picture, SMALL) for picture in pictures)
    names = tuple(map(str, range(COUNT)))
    return GalleryFeatures(names, torch.from_numpy(vectors.astype(np.float32)), sides, keypoints)


def weighted(photographs: GalleryFeatures) -> GalleryFeatures:
    """The same, and an encoder has told where the animal is."""
    rng = np.random.default_rng(1)
    keypoints = [replace(one, weights=rng.random(len(one)).astype(np.float32)) for one in photographs.keypoints]
    return replace(photographs, keypoints=tuple(keypoints))


def pairs_of(photographs: GalleryFeatures, recipe: Recipe, **options: Any) -> PhotographPairs:
    return compare(Pool.of(photographs, recipe, "comparing", **options), np.arange(len(photographs)))


def as_rows(pairs: PhotographPairs, names: Any = None) -> Rows:
    """The two photographs, by their names -> the features."""
    names = range(pairs.size) if names is None else names
    found = {}
    for row, (one, other) in enumerate(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)):
        low, high = sorted((int(names[one]), int(names[other])))
        found[low, high] = {name: float(values[row]) for name, values in pairs.features.items()}
    return found


def assert_same(one: Rows, other: Rows, tolerance: float = 1e-5) -> None:
    assert one.keys() == other.keys()
    for pair, features in one.items():
        assert features == pytest.approx(other[pair], rel=tolerance, abs=tolerance), pair


def slow_votes(keypoints: tuple[Keypoints, ...], count: int) -> np.ndarray:
    """Every descriptor votes for the `count` photographs that have the nearest descriptors, which count as of length 1
    (float16 is a little off)."""
    votes = np.zeros((len(keypoints), len(keypoints)))
    for row, own in enumerate(keypoints):
        for descriptor in own.descriptors.astype(float):
            near = [
                (2 - 2 * float((other.descriptors.astype(float) @ descriptor).max()), place)
                for place, other in enumerate(keypoints)
                if place != row and len(other)
            ]
            near.sort()
            limit = near[min(count, len(near) - 1)][0] if near else 0.0
            for distance, place in near[:count]:
                votes[row, place] += limit - distance
    return votes


def largest(values: dict[int, float], count: int) -> list[int]:
    return sorted(values, key=lambda place: -values[place])[:count]


class SlowTwin:
    """The features in plain loops, for photographs whose keypoints all count the same."""

    def __init__(self, photographs: GalleryFeatures, recipe: Recipe) -> None:
        self.photographs, self.recipe, self.matching = photographs, recipe, recipe.matching
        self.size = len(photographs)
        vectors = photographs.vectors.double().numpy()
        self.far = np.array([[float(np.linalg.norm(one - other)) for other in vectors] for one in vectors])
        self.votes = slow_votes(photographs.keypoints, self.matching.neighbours)
        self.pairs = sorted({tuple(sorted((row, other))) for row in range(self.size) for other in self.listed(row)})
        self.partners: dict[int, list[int]] = {row: [] for row in range(self.size)}
        for one, other in self.pairs:
            self.partners[one].append(other)
            self.partners[other].append(one)
        self.inliers = self._inliers()

    def others(self, row: int) -> list[int]:
        return [other for other in range(self.size) if other != row]

    def listed(self, row: int) -> list[int]:
        both = {other: self.votes[row, other] + self.votes[other, row] for other in self.others(row)}
        by_votes = [other for other in largest(both, self.matching.shortlist) if both[other] > 0]
        by_encoder = largest({other: -self.far[row, other] for other in self.others(row)}, self.matching.shortlist)
        return by_votes * self.recipe.uses_keypoints + by_encoder * self.recipe.uses_encoder

    def rank(self, values: np.ndarray, row: int, other: int) -> float:
        """How many of the photographs that a row is compared with have more."""
        return log1p(min(sum(values[row, one] > values[row, other] for one in self.partners[row]), 4))

    def _inliers(self) -> np.ndarray:
        inliers = np.zeros((self.size, self.size))
        both = self.votes + self.votes.T
        chosen = {
            row: largest({other: both[row, other] for other in self.partners[row]}, self.matching.verified // 2)
            for row in range(self.size)
        }
        keypoints = self.photographs.keypoints
        for one, other in self.pairs:
            if (other in chosen[one] or one in chosen[other]) and both[one, other] > 0:
                query, known = sorted((keypoints[one], keypoints[other]), key=lambda some: some.points.tobytes())
                match = verify([query], [known], [np.array([0])], self.matching)[0][0]
                inliers[one, other] = inliers[other, one] = match.inliers
        return inliers

    def best_other(self, row: int, other: int) -> float:
        return max([self.inliers[row, one] for one in self.partners[row] if one != other], default=0)

    def features(self, one: int, other: int) -> dict[str, float]:
        sides = self.photographs.orientation[one], self.photographs.orientation[other]
        features = {
            "same side": float("" not in sides and sides[0] == sides[1]),
            "other side": float("" not in sides and sides[0] != sides[1]),
        }
        if self.recipe.uses_encoder:
            features |= self.distance_features(one, other)
        if self.recipe.uses_keypoints:
            features |= self.local_features(one, other)
        return features

    def distance_features(self, one: int, other: int) -> dict[str, float]:
        everybody = [self.far[row, place] for row in range(self.size) for place in self.others(row)]
        scores = []
        for row in (one, other):
            cohort = [self.far[row, place] for place in self.others(row)]
            scores.append((self.far[one, other] - np.mean(cohort)) / np.std(cohort))
        ranks = self.rank(-self.far, one, other), self.rank(-self.far, other, one)
        return {
            "distance": -self.far[one, other] / float(np.median(everybody)),
            "distance cohort": -float(np.mean(scores)),
            "distance rank": -min(ranks),
            "distance worse rank": -max(ranks),
        }

    def local_features(self, one: int, other: int) -> dict[str, float]:
        given, taken = self.votes[one, other], self.votes[other, one]
        shares = [
            self.votes[row, place] / (sum(self.votes[row, some] for some in self.partners[row]) + 1e-6)
            for row, place in ((one, other), (other, one))
        ]
        ranks = self.rank(self.votes, one, other), self.rank(self.votes, other, one)
        found = self.inliers[one, other]
        ahead = [log1p(found) - log1p(self.best_other(*ends)) for ends in ((one, other), (other, one))]
        return {
            "local": log1p(given + taken),
            "local less": log1p(min(given, taken)),
            "local share": log(sqrt(shares[0] * shares[1]) + 1e-3),
            "local rank": -min(ranks),
            "local worse rank": -max(ranks),
            "local inliers": log1p(found),
            "local inliers ahead": sum(ahead) / 2,
        }

    def rows(self) -> Rows:
        return {(one, other): self.features(one, other) for one, other in self.pairs}


@pytest.mark.parametrize("recipe", [ENCODER, LOCAL, BOTH])
def test_features_are_those_of_a_slow_twin(recipe: Recipe, photographs: GalleryFeatures) -> None:
    pairs = pairs_of(photographs, recipe)
    cells = pairs.first * COUNT + pairs.second
    assert (pairs.first < pairs.second).all()
    assert (np.diff(cells) > 0).all()
    assert 0 < len(pairs) < COUNT * (COUNT - 1) // 2  # the shortlists leave some out
    assert_same(as_rows(pairs), SlowTwin(photographs, recipe).rows(), 1e-4)


def test_in_a_large_collection_a_photograph_votes_among_those_it_is_compared_with(photographs: GalleryFeatures) -> None:
    rows = as_rows(pairs_of(photographs, LARGE))
    encoder = as_rows(pairs_of(photographs, ENCODER))
    assert rows.keys() == encoder.keys()
    listed = [sorted({one for pair in rows for one in pair if row in pair} - {row}) for row in range(COUNT)]
    votes = np.zeros((COUNT, COUNT))
    for row, others in enumerate(listed):
        stacked = stack_descriptors([photographs.keypoints[other] for other in others])
        own = stack_descriptors([photographs.keypoints[row]])
        votes[row, others] = lnbnn(own, stacked, k=LARGE.matching.neighbours)[0].numpy()
    for (one, other), features in rows.items():
        assert features["local"] == pytest.approx(log1p(votes[one, other] + votes[other, one]), rel=1e-4)
        assert features["local less"] == pytest.approx(log1p(min(votes[one, other], votes[other, one])), rel=1e-4)


def test_photographs_of_one_texture_are_more_alike_than_others(photographs: GalleryFeatures) -> None:
    pairs = pairs_of(photographs, BOTH)
    same = pairs.first // 2 == pairs.second // 2
    assert same.sum() == COUNT // 2
    for name in set(pairs.features) - {"same side", "other side"}:
        assert pairs.features[name][same].mean() > pairs.features[name][~same].mean(), name


@pytest.mark.parametrize("recipe", EVERY)
@pytest.mark.parametrize("seed", [-1, 0, 1])
def test_the_order_of_the_photographs_changes_nothing(recipe: Recipe, seed: int, photographs: GalleryFeatures) -> None:
    """Not which one of a pair comes first either: -1 turns them around."""
    order = np.random.default_rng(seed).permutation(COUNT) if seed >= 0 else np.arange(COUNT)[::-1].copy()
    some = weighted(photographs)
    assert_same(as_rows(pairs_of(some.of(order), recipe), order), as_rows(pairs_of(some, recipe)))


@pytest.mark.parametrize("recipe", [LOCAL, BOTH, LARGE])
def test_nor_where_the_first_of_two_features_finds_nothing(recipe: Recipe, photographs: GalleryFeatures) -> None:
    order = np.arange(COUNT)[::-1].copy()
    some = replace(photographs, keypoints=(NO_KEYPOINTS,) * COUNT, further=(photographs.keypoints,))
    rows = as_rows(pairs_of(some, recipe))
    assert_same(as_rows(pairs_of(some.of(order), recipe), order), rows)
    alone = as_rows(pairs_of(photographs, recipe))
    assert any(features["local inliers"] for features in alone.values())
    for pair, features in alone.items():
        assert rows[pair]["local 2"] == pytest.approx(features["local"])


@pytest.mark.parametrize("recipe", EVERY)
@pytest.mark.parametrize("count", [2, 3, 5, 6, 9])
def test_a_collection_is_compared_as_if_nothing_else_were_in_its_pool(
    recipe: Recipe, count: int, photographs: GalleryFeatures
) -> None:
    some = weighted(photographs)
    rows = np.sort(np.random.default_rng(count).permutation(COUNT)[:count])
    drawn = compare(Pool.of(some, recipe, "comparing"), rows)
    assert_same(as_rows(drawn), as_rows(pairs_of(some.of(rows), recipe)))


def test_no_more_photographs_need_be_remembered_than_vote_and_one(photographs: GalleryFeatures) -> None:
    few = pairs_of(photographs, LOCAL, kept=LOCAL.matching.neighbours + 1)
    assert_same(as_rows(few), as_rows(pairs_of(photographs, LOCAL)))


@pytest.mark.parametrize("recipe", [ENCODER, BOTH, LARGE])
def test_distances_do_as_well_as_vectors(recipe: Recipe, photographs: GalleryFeatures) -> None:
    far = torch.cdist(photographs.vectors.double(), photographs.vectors.double()).numpy().astype(np.float32)
    without = replace(photographs, vectors=torch.zeros(COUNT, 0))
    told = as_rows(pairs_of(without, recipe, distances=far))
    assert_same(told, as_rows(pairs_of(photographs, recipe)), 1e-4)


@pytest.mark.parametrize("recipe", EVERY)
def test_few_photographs_are_no_special_case(recipe: Recipe, photographs: GalleryFeatures) -> None:
    pool = Pool.of(photographs, recipe, "comparing")
    for count in (0, 1):
        for pairs in (
            compare(pool, np.arange(count)),
            pairs_of(photographs.of(np.arange(count)), recipe),
        ):
            assert (pairs.size, len(pairs)) == (count, 0)
    two = pairs_of(photographs.of(np.arange(2)), recipe)
    assert len(two) == (recipe is not LOCAL)  # of a descriptor with one neighbour nobody is nearer than the next
    assert np.isfinite([*two.features.values()]).all()


@pytest.mark.parametrize("recipe", EVERY)
@pytest.mark.parametrize("count", [2, 5, 8])
def test_copies_of_one_photograph_are_all_equally_alike(
    recipe: Recipe, count: int, photographs: GalleryFeatures
) -> None:
    copies = photographs.of(np.zeros(count, int))
    recipe = with_settings(recipe, {"matching.shortlist": 20, "matching.verified": 20})
    pairs = pairs_of(copies, recipe)
    assert len(pairs) == (0 if recipe.matching.cues == ("local",) else count * (count - 1) // 2)
    for name, values in pairs.features.items():
        assert np.isfinite(values).all()
        assert values == pytest.approx(np.full(len(pairs), values[:1].mean() if len(pairs) else 0), abs=1e-6), name


@pytest.mark.parametrize("recipe", EVERY)
def test_photographs_without_a_keypoint_are_compared_by_the_encoder_alone(
    recipe: Recipe, photographs: GalleryFeatures
) -> None:
    flat = replace(photographs, keypoints=(NO_KEYPOINTS,) * COUNT)
    rows = as_rows(pairs_of(flat, recipe))
    if not recipe.uses_encoder:
        assert not rows
        return
    alone = as_rows(pairs_of(photographs, ENCODER))
    names = set(next(iter(alone.values())))
    assert_same({pair: {name: features[name] for name in names} for pair, features in rows.items()}, alone)
    local = {tuple(features[name] for name in sorted(features) if name not in names) for features in rows.values()}
    assert len(local) == 1  # they say nothing


def test_one_photograph_without_a_keypoint_does_not_disturb_the_others(photographs: GalleryFeatures) -> None:
    flat = replace(photographs, keypoints=(NO_KEYPOINTS, *photographs.keypoints[1:]))
    rows = np.arange(1, COUNT)
    rest = as_rows(pairs_of(photographs.of(rows), LOCAL), rows)
    assert_same(as_rows(pairs_of(flat, LOCAL)), rest)


def test_the_cue_of_the_foreground_is_there_where_an_encoder_tells_it(photographs: GalleryFeatures) -> None:
    assert "foreground" in pairs_of(weighted(photographs), BOTH).features
    assert "foreground" not in pairs_of(photographs, BOTH).features
    assert "foreground" not in pairs_of(weighted(photographs), ENCODER).features


@pytest.mark.parametrize(("recipe", "like"), [(BOTH, LARGE), (LARGE, BOTH)])
def test_a_small_pool_is_compared_as_the_large_one_that_it_stands_for(
    recipe: Recipe, like: Recipe, photographs: GalleryFeatures
) -> None:
    pool = Pool.of(weighted(photographs), recipe, "comparing", whole=compares_all(COUNT, like))
    pairs, wanted = compare(pool, np.arange(COUNT)), pairs_of(weighted(photographs), like)
    assert pairs.features.keys() == wanted.features.keys()
    assert all(np.array_equal(pairs.features[name], values) for name, values in wanted.features.items())
    assert not np.array_equal(pairs.features["local"], pairs_of(weighted(photographs), recipe).features["local"])


@pytest.mark.parametrize("recipe", EVERY)
def test_a_pool_names_the_features_of_its_pairs(recipe: Recipe, photographs: GalleryFeatures) -> None:
    pool = Pool.of(weighted(photographs), recipe, "comparing")
    for rows in (np.arange(COUNT), np.arange(1)):
        pairs = compare(pool, rows)
        assert set(pairs.features) == set(pool.feature_names)
        assert pairs.columns.shape == (len(pairs), len(pool.feature_names))
    some = pairs.with_features(["same side", "unheard of"])
    assert list(some.features) == ["same side"]


def test_columns_are_the_features_by_their_names(photographs: GalleryFeatures) -> None:
    pairs = pairs_of(photographs, BOTH)
    for column, name in zip(pairs.columns.T, sorted(pairs.features), strict=True):
        assert (column == pairs.features[name]).all()


def test_a_rank_is_how_many_photographs_there_are_for_each_pair_as_much_alike(photographs: GalleryFeatures) -> None:
    pairs = pairs_of(photographs, BOTH)
    ranked = rank_normalised(pairs)
    for name, values in pairs.features.items():
        ahead = [sum(float(one > value) + (one == value) / 2 for one in values) for value in values]
        expected = [log(COUNT / count) for count in ahead]
        assert ranked.features[name] == pytest.approx(np.array(expected)), name
    assert (ranked.first == pairs.first).all()
    some = rank_normalised(pairs, ["local", "distance", "unheard of"])
    assert set(some.features) == {"local", "distance"}
    assert (some.features["local"] == ranked.features["local"]).all()
    grown = replace(pairs, features={name: np.exp(values) for name, values in pairs.features.items()})
    assert_same(as_rows(rank_normalised(grown)), as_rows(ranked))
    nothing = rank_normalised(PhotographPairs(0, np.zeros(0, int), np.zeros(0, int), {"local": np.zeros(0)}))
    assert len(nothing.features["local"]) == 0


def test_each_pair_is_verified_once_in_a_pool(photographs: GalleryFeatures) -> None:
    pool = Pool.of(photographs, LOCAL, "comparing")
    compare(pool, np.arange(8))
    before = dict(pool.inliers["local"])
    again = as_rows(compare(pool, np.arange(COUNT)))
    assert before.items() <= pool.inliers["local"].items()
    assert_same(again, as_rows(pairs_of(photographs, LOCAL)))
    assert len({frozenset(pair) for pair in pool.inliers["local"]}) == len(pool.inliers["local"])
