"""Queries and a gallery: the pairs against slow twins, the same alone and with others, and nothing hidden is met."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from textures import texture, warped

from reid.config.recipe import SCORERS, KeypointConfig, Recipe
from reid.config.settings import with_settings
from reid.errors import InputError
from reid.retrieval import candidates
from reid.retrieval.candidates import CandidatePairs, are_comparable, candidate_pairs
from reid.retrieval.extractors.rootsift import extract
from reid.retrieval.gallery import Gallery, GalleryFeatures, load_gallery, save_gallery
from reid.retrieval.keypoints import NO_KEYPOINTS, Keypoints
from reid.retrieval.local_matching import lnbnn, stack_descriptors, verify

SMALL = KeypointConfig(size=160, count=80)
BOTH = with_settings(
    Recipe(),
    {
        "matching.cues": ("encoder", "local"),
        "calibration.scorers": ("distance", "local", "logistic"),
        "matching.shortlist": 4,
        "matching.verified": 3,
    },
)
ENCODER = with_settings(BOTH, {"matching.cues": ("encoder",), "calibration.scorers": ("distance",)})
LOCAL = with_settings(BOTH, {"matching.cues": ("local",), "calibration.scorers": ("local",)})
LARGE = with_settings(BOTH, {"matching.whole_gallery": 0, "matching.probes": 0})
"""As if the gallery were too large to match keypoints with all of it."""


@pytest.fixture(scope="module")
def keypoints() -> list[Keypoints]:
    """Two photographs each of six textures; the second is warped."""
    pictures = [picture for seed in range(6) for picture in (texture(seed), warped(texture(seed)))]
    return [extract(picture, SMALL) for picture in pictures]


@pytest.fixture(scope="module")
def gallery(keypoints: list[Keypoints]) -> Gallery:
    """Animals a, b and c: textures 0 and 1; 2 and 3; 4. The second photographs of all but the last are queries."""
    rng = np.random.default_rng(0)
    vectors = torch.from_numpy(rng.normal(size=(5, 4)).astype(np.float32))
    sides = ("left", "right", "left", "", "left")
    known = GalleryFeatures(tuple("01234"), vectors, sides, tuple(keypoints[0:10:2]))
    return Gallery(known, ("a", "a", "b", "b", "c"))


@pytest.fixture(scope="module")
def queries(gallery: Gallery, keypoints: list[Keypoints]) -> GalleryFeatures:
    noise = torch.from_numpy(np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32))
    vectors = gallery.embeddings.vectors + 0.3 * noise
    return GalleryFeatures(tuple("vwxyz"), vectors, ("left", "left", "", "right", "right"), tuple(keypoints[1:10:2]))


def as_rows(pairs: CandidatePairs) -> dict[tuple[int, int], tuple[int, dict[str, float]]]:
    """(query, individual) -> the photograph, the features."""
    return {
        (int(query), int(individual)): (int(photograph), {name: float(v[row]) for name, v in pairs.features.items()})
        for row, (query, individual, photograph) in enumerate(
            zip(pairs.query, pairs.individual, pairs.photograph, strict=True)
        )
    }


def test_distances_are_to_the_nearest_photograph_of_every_listed_individual(
    queries: GalleryFeatures, gallery: Gallery
) -> None:
    rows = as_rows(candidate_pairs(queries, gallery, ENCODER))
    far = torch.cdist(queries.vectors, gallery.embeddings.vectors).numpy()
    for query in range(5):
        listed = np.argsort(far[query])[:4]
        assert {individual for row, individual in rows if row == query} == set(gallery.labels[listed])
        for individual in set(gallery.labels[listed]):
            own = [place for place in listed if gallery.labels[place] == individual]
            photograph, features = rows[query, individual]
            assert photograph == own[0]
            assert features["distance"] == pytest.approx(far[query, own[0]], rel=1e-5)


def test_votes_and_inliers_are_those_of_the_individuals_best_photographs(
    queries: GalleryFeatures, gallery: Gallery
) -> None:
    recipe = with_settings(LOCAL, {"matching.shortlist": 5, "matching.verified": 5, "matching.local_best": 2})
    rows = as_rows(candidate_pairs(queries, gallery, recipe))
    votes = lnbnn(
        stack_descriptors(queries.keypoints),
        stack_descriptors(gallery.embeddings.keypoints),
        k=recipe.matching.neighbours,
    ).numpy()
    verified = verify(queries.keypoints, gallery.embeddings.keypoints, [np.arange(5)] * 5, recipe.matching)
    for query in range(5):
        for individual in range(3):
            own = np.flatnonzero(gallery.labels == individual)
            photograph, features = rows[query, individual]
            assert photograph == own[votes[query, own].argmax()]
            assert features["local"] == pytest.approx(votes[query, own].mean(), rel=1e-5)  # the best two, or the one
            assert features["inliers"] == max(verified[query][place].inliers for place in own)
        assert max(range(3), key=lambda one: rows[query, one][1]["local"]) == gallery.labels[query]


def test_only_the_photographs_with_the_most_votes_are_verified(queries: GalleryFeatures, gallery: Gallery) -> None:
    some = as_rows(candidate_pairs(queries, gallery, with_settings(LOCAL, {"matching.verified": 1})))
    for query in range(5):
        assert sum(features["inliers"] > 0 for (row, _), (_, features) in some.items() if row == query) <= 1
    none = candidate_pairs(queries, gallery, with_settings(LOCAL, {"matching.verified": 0}))
    assert not none.features["inliers"].any()


def test_a_large_gallery_is_searched_by_the_encoder_and_matched_on_the_shortlist(
    queries: GalleryFeatures, gallery: Gallery
) -> None:
    recipe = with_settings(LARGE, {"matching.shortlist": 3})
    rows = as_rows(candidate_pairs(queries, gallery, recipe))
    far = torch.cdist(queries.vectors, gallery.embeddings.vectors).numpy()
    for query in range(5):
        listed = np.sort(np.argsort(far[query])[:3])
        some = stack_descriptors([gallery.embeddings.keypoints[place] for place in listed])
        votes = lnbnn(stack_descriptors([queries.keypoints[query]]), some, k=recipe.matching.neighbours)[0].numpy()
        for (row, individual), (_, features) in rows.items():
            if row == query:
                own = votes[gallery.labels[listed] == individual]
                assert features["local"] == pytest.approx(own.max(), rel=1e-5)


def test_sides_and_numbers_of_photographs_are_features(queries: GalleryFeatures, gallery: Gallery) -> None:
    rows = as_rows(candidate_pairs(queries, gallery, with_settings(ENCODER, {"matching.shortlist": 5})))
    found = {key: (f["photographs"], f["same side"], f["other side"]) for key, (_, f) in rows.items()}
    assert found[0, 0] == (2, 1, 0)  # left, and a left and a right one
    assert found[2, 0] == (2, 0, 0)  # the query's side is not known
    assert found[3, 1] == (2, 0, 0)  # the side of the nearest photograph is not known
    assert found[4, 2] == (1, 0, 1)


@pytest.mark.parametrize("recipe", [ENCODER, LOCAL, BOTH, LARGE])
def test_a_query_has_the_same_pairs_alone_and_with_others(
    recipe: Recipe, queries: GalleryFeatures, gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = as_rows(candidate_pairs(queries, gallery, recipe))
    monkeypatch.setattr(candidates, "QUERY_BLOCK", 2)
    assert as_rows(candidate_pairs(queries, gallery, recipe)) == together
    for query in range(5):
        alone = as_rows(candidate_pairs(queries.of(np.array([query])), gallery, recipe))
        assert alone == {(0, one): row for (number, one), row in together.items() if number == query}


@pytest.mark.parametrize("recipe", [ENCODER, LOCAL, BOTH, LARGE])
def test_what_is_hidden_is_as_good_as_absent(recipe: Recipe, queries: GalleryFeatures, gallery: Gallery) -> None:
    hidden = np.zeros((5, 5), bool)
    hidden[:, [0, 3]] = True
    left = np.array([1, 2, 4])
    rest = Gallery(gallery.embeddings.of(left), tuple(gallery.identity[place] for place in left))
    shown, absent = (
        as_rows(candidate_pairs(queries, gallery, recipe, hidden)),
        as_rows(candidate_pairs(queries, rest, recipe)),
    )
    for features in [*(row[1] for row in shown.values()), *(row[1] for row in absent.values())]:
        for of_the_whole_gallery in ("cohort", "photographs"):
            features.pop(of_the_whole_gallery, None)
    assert shown == {key: (int(left[photograph]), features) for key, (photograph, features) in absent.items()}


def test_where_everything_is_hidden_there_is_no_pair(queries: GalleryFeatures, gallery: Gallery) -> None:
    nobody = GalleryFeatures((), torch.empty(0, 4), (), ())
    for recipe in (ENCODER, LOCAL, BOTH, LARGE):
        assert len(candidate_pairs(queries, gallery, recipe, np.ones((5, 5), bool))) == 0
        assert len(candidate_pairs(nobody, gallery, recipe)) == 0


def test_rows_about_one_photograph_get_what_they_would_get_alone(queries: GalleryFeatures, gallery: Gallery) -> None:
    """As a pseudo-query that plays a known and a new animal."""
    rows = np.array([0, 0, 3, 0])
    hidden = np.array([[0, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 0, 1, 0], [1, 0, 0, 0, 1]], bool)
    for recipe in (ENCODER, LOCAL, BOTH, LARGE):
        together = as_rows(candidate_pairs(queries.of(rows), gallery, recipe, hidden))
        for row in range(4):
            alone = as_rows(candidate_pairs(queries.of(rows[[row]]), gallery, recipe, hidden[[row]]))
            some = {(0, one): features for (number, one), features in together.items() if number == row}
            assert some.keys() == alone.keys()
            for key, (photograph, features) in some.items():
                assert photograph == alone[key][0]
                assert features == pytest.approx(alone[key][1], rel=1e-5, abs=1e-6)


def test_a_distance_is_also_given_in_deviations_from_the_cohorts() -> None:
    rng = np.random.default_rng(0)
    vectors = torch.from_numpy(rng.normal(size=(60, 8)).astype(np.float32))
    names = np.array(["hub"] * 30 + [f"z{number:02d}" for number in range(30)])
    known = Gallery(GalleryFeatures(tuple(map(str, range(60))), vectors), tuple(names))
    recipe = with_settings(
        BOTH,
        {
            "matching.cues": ("encoder",),
            "calibration.scorers": ("distance", "logistic"),
            "matching.shortlist": 60,
        },
    )
    pairs = candidate_pairs(GalleryFeatures(("q",), vectors[40:41] * 0.5), known, recipe)
    far = torch.cdist(vectors.double(), vectors.double()).numpy()
    for individual, name in enumerate(known.individuals):
        others = [place for place in range(29, 60) if names[place] != name and place != 29]  # one each
        others += [0] if name != "hub" else []
        cohort = far[others][:, names == name].min(1)
        expected = (pairs.features["distance"][individual] - cohort.mean()) / cohort.std()
        assert pairs.features["cohort"][individual] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("kind", SCORERS)
def test_the_cohorts_are_measured_where_a_scorer_reads_them(
    kind: str, queries: GalleryFeatures, gallery: Gallery
) -> None:
    pairs = candidate_pairs(queries, gallery, with_settings(BOTH, {"calibration.scorers": (kind,)}))
    assert ("cohort" in pairs.features) == (kind in ("logistic", "boosted", "ensemble"))


@pytest.mark.parametrize("recipe", [ENCODER, LOCAL, BOTH])
def test_no_number_is_lost_on_photographs_without_keypoints_and_copies(recipe: Recipe, gallery: Gallery) -> None:
    known = replace(gallery.embeddings, keypoints=(NO_KEYPOINTS, *gallery.embeddings.keypoints[1:]))
    queries = GalleryFeatures(("p", "q"), known.vectors[:2], ("", ""), (NO_KEYPOINTS, known.keypoints[1]))
    pairs = candidate_pairs(queries, Gallery(known, gallery.identity), recipe)
    assert set(pairs.query) == {0, 1}
    assert all(np.isfinite(values).all() for values in pairs.features.values())


def test_datasets_without_a_keypoint_have_the_same_features_as_others(gallery: Gallery) -> None:
    weighted = tuple(
        replace(one, weights=np.linspace(0, 1, len(one), dtype=np.float32)) for one in gallery.embeddings.keypoints
    )
    known = Gallery(replace(gallery.embeddings, keypoints=weighted), gallery.identity)
    flat = Gallery(replace(gallery.embeddings, keypoints=(NO_KEYPOINTS,) * 5), gallery.identity)
    features = [candidate_pairs(one.embeddings, one, BOTH).features for one in (known, flat)]
    assert list(features[0]) == list(features[1])
    assert not features[1]["foreground"].any()
    assert not features[1]["foreground_inliers"].any()


def test_a_gallery_without_a_keypoint_is_compared_though_it_comes_from_a_file(tmp_path: Path, gallery: Gallery) -> None:
    """Read from a file it had no keypoints at all, which was no cue at all."""
    flat = Gallery(replace(gallery.embeddings, keypoints=(NO_KEYPOINTS,) * 5), gallery.identity, cues=("local",))
    save_gallery(tmp_path / "x", flat)
    recipe = with_settings(LOCAL, {"matching.verified": 1})
    stored, kept = (candidate_pairs(gallery.embeddings, one, recipe) for one in (load_gallery(tmp_path / "x"), flat))
    assert as_rows(stored) == as_rows(kept)
    assert not stored.features["local"].any()


def test_a_cue_that_the_gallery_was_made_without_is_refused(queries: GalleryFeatures, gallery: Gallery) -> None:
    encoded = replace(gallery, cues=("encoder",))
    assert len(candidate_pairs(queries, encoded, ENCODER)) > 0
    words = "matching.cues: expected encoder, with which the gallery was made, found encoder,local; keep the weights'"
    with pytest.raises(InputError, match=words):
        candidate_pairs(queries, encoded, BOTH)


def test_a_query_is_comparable_where_it_has_a_cue_in_common_with_some_photograph(gallery: Gallery) -> None:
    known = gallery.embeddings
    queries = replace(known.of(np.arange(2)), keypoints=(NO_KEYPOINTS, known.keypoints[1]))
    flat = replace(gallery, embeddings=replace(known, keypoints=(NO_KEYPOINTS,) * 5))
    assert are_comparable(queries, gallery, LOCAL).tolist() == [False, True]
    for recipe, some, expected in ((LOCAL, flat, False), (BOTH, flat, True), (ENCODER, gallery, True)):
        assert are_comparable(queries, some, recipe).tolist() == [expected] * 2


# several local features beside each other


def with_second(photographs: GalleryFeatures, keypoints: Sequence[Keypoints]) -> GalleryFeatures:
    """The photographs with a second feature, whose descriptors have another length."""
    return replace(
        photographs, further=(tuple(replace(one, descriptors=one.descriptors[:, :64]) for one in keypoints),)
    )


@pytest.fixture(scope="module")
def disagreeing(gallery: Gallery) -> tuple[GalleryFeatures, Gallery]:
    """A query that is photograph 0 by the first feature, 1 by the second, both a's, and near 4, c's, by its vector."""
    known = gallery.embeddings
    query = replace(known.of(np.array([0])), vectors=known.vectors[4:] + 0.01, image_id=("q",))
    beside = replace(gallery, embeddings=with_second(known, known.keypoints), extractor="rootsift+xfeat")
    return with_second(query, known.keypoints[1:2]), beside


def test_a_distance_is_to_the_nearest_photograph_by_whichever_feature_lists_it(
    disagreeing: tuple[GalleryFeatures, Gallery],
) -> None:
    queries, known = disagreeing
    near = known.embeddings.vectors[1] + 0.8 * (queries.vectors[0] - known.embeddings.vectors[1])
    vectors = torch.cat([known.embeddings.vectors[:1], near[None], known.embeddings.vectors[2:]])
    known = replace(known, embeddings=replace(known.embeddings, vectors=vectors))
    recipe = with_settings(BOTH, {"matching.shortlist": 1})
    (both,) = [
        features for (_, one), (_, features) in as_rows(candidate_pairs(queries, known, recipe)).items() if not one
    ]
    alone = [
        as_rows(candidate_pairs(queries.with_feature(number), part, recipe))[0, 0][1]
        for number, part in enumerate(known.by_feature())
    ]
    assert alone[0]["distance"] > alone[1]["distance"] + 0.1
    for name in ("distance", "cohort"):
        assert both[name] == alone[1][name]
    assert both["distance"] == pytest.approx(float((queries.vectors[0] - near).norm()), rel=1e-5)


def test_the_photograph_is_that_of_the_first_feature_that_votes_for_one(
    disagreeing: tuple[GalleryFeatures, Gallery],
) -> None:
    queries, known = disagreeing
    blank = replace(queries, keypoints=(NO_KEYPOINTS,))
    assert as_rows(candidate_pairs(queries, known, LOCAL))[0, 0][0] == 0
    assert as_rows(candidate_pairs(blank, known, LOCAL))[0, 0][0] == 1
    nothing = with_second(blank, (NO_KEYPOINTS,))
    first = replace(queries, further=nothing.further)
    for some, comparable in ((queries, True), (first, True), (blank, True), (nothing, False)):
        assert are_comparable(some, known, LOCAL).tolist() == [comparable]


def test_cues_are_those_of_each_feature_alone_or_0(gallery: Gallery, keypoints: list[Keypoints]) -> None:
    turned = (*gallery.embeddings.keypoints[1:], gallery.embeddings.keypoints[0])
    known = replace(gallery, embeddings=with_second(gallery.embeddings, turned), extractor="rootsift+xfeat")
    queries = with_second(gallery.embeddings, keypoints[1:10:2])
    recipe = with_settings(LOCAL, {"matching.shortlist": 1})
    both = as_rows(candidate_pairs(queries, known, recipe))
    alone = [
        as_rows(candidate_pairs(queries.with_feature(number), part, recipe))
        for number, part in enumerate(known.by_feature())
    ]
    assert set(both) == set(alone[0]) | set(alone[1])
    assert set(alone[0]) != set(alone[1])
    for pair, (photograph, features) in both.items():
        photographs = [rows[pair] for rows in alone if pair in rows]
        assert photograph == photographs[0][0]
        for name in ("same side", "other side", "photographs"):
            assert features[name] == photographs[0][1][name]
        for rows, ending in zip(alone, ("", " 2"), strict=True):
            own = rows[pair][1] if pair in rows else {"local": 0, "inliers": 0}
            assert (features[f"local{ending}"], features[f"inliers{ending}"]) == (own["local"], own["inliers"])


@pytest.mark.parametrize("recipe", [LOCAL, BOTH, LARGE])
def test_what_is_hidden_is_as_good_as_absent_by_every_feature(
    recipe: Recipe, gallery: Gallery, keypoints: list[Keypoints]
) -> None:
    turned = (*gallery.embeddings.keypoints[1:], gallery.embeddings.keypoints[0])
    known = replace(gallery, embeddings=with_second(gallery.embeddings, turned), extractor="rootsift+xfeat")
    queries = with_second(gallery.embeddings, keypoints[1:10:2])
    hidden = np.zeros((5, 5), bool)
    hidden[:, [1, 3]] = True
    rest = np.array([0, 2, 4])
    left = replace(known, embeddings=known.embeddings.of(rest), identity=tuple(known.identity[row] for row in rest))
    met, absent = candidate_pairs(queries, known, recipe, hidden), candidate_pairs(queries, left, recipe)
    assert np.array_equal(rest[absent.photograph], met.photograph)
    for name in ("local", "inliers", "local 2", "inliers 2"):
        assert met.features[name] == pytest.approx(absent.features[name], rel=1e-5)
    hidden[2] = True
    assert set(candidate_pairs(queries, known, recipe, hidden).query) == {0, 1, 3, 4}
    everything = candidate_pairs(queries, known, recipe, np.ones((5, 5), bool))
    assert len(everything) == 0
    assert set(everything.features) == set(met.features)
    assert {everything.query.dtype, everything.photograph.dtype, met.individual.dtype} == {np.dtype(np.int64)}


def test_without_keypoints_there_is_one_comparison_whatever_the_gallery_holds(
    queries: GalleryFeatures, disagreeing: tuple[GalleryFeatures, Gallery], gallery: Gallery
) -> None:
    """A folder may be calibrated for the encoder alone; queries have no keypoints then."""
    bare = replace(queries, keypoints=(NO_KEYPOINTS,) * 5)
    met, expected = (as_rows(candidate_pairs(bare, known, ENCODER)) for known in (disagreeing[1], gallery))
    assert met == expected
