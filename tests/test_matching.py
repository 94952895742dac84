"""Queries beside a gallery: the pairs against slow twins, the same alone and in company, and nothing hidden is seen."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from test_keypoints import texture, warped
from test_submission import calibrated

from reid.config.recipe import Recipe
from reid.config.settings import with_settings
from reid.data.catalogue import Catalogue
from reid.decision.artifact import encoder_file, fold_folder, gallery_file
from reid.decision.calibrate import fit_calibrations, pseudo_query_pairs
from reid.decision.predict import match_queries
from reid.decision.pseudo_queries import HeldOut, match_pseudo_queries, select_pseudo_queries
from reid.decision.scorers import Scorer
from reid.models.networks import build_network, plan_network, save_network
from reid.retrieval import candidates
from reid.retrieval.candidates import CandidatePairs, candidate_pairs
from reid.retrieval.extractors.rootsift import KeypointConfig, extract
from reid.retrieval.gallery import Gallery, GalleryFeatures, save_gallery
from reid.retrieval.keypoints import NO_KEYPOINTS, Keypoints
from reid.retrieval.local_matching import MatchingConfig, lnbnn, stack_descriptors, verify

SMALL = KeypointConfig(size=160, count=80)
BOTH = with_settings(
    Recipe(),
    {
        "matching.cues": ("encoder", "local"),
        "calibration.scorers": ("distance", "local", "logistic"),
        "matching.shortlist": 4,
        "matching.verified": 3,
        "calibration.splits": 5,
    },
)
ENCODER = replace(BOTH, cues=("encoder",), scorers=("distance",))
LOCAL = replace(BOTH, cues=("local",), scorers=("local",))


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
    recipe = replace(LOCAL, shortlist=5, verified=5, local_best=2)
    rows = as_rows(candidate_pairs(queries, gallery, recipe))
    votes = lnbnn(
        stack_descriptors(queries.keypoints),
        stack_descriptors(gallery.embeddings.keypoints),
        k=recipe.matching.neighbours,
    ).numpy()
    looked = verify(
        queries.keypoints, gallery.embeddings.keypoints, [np.arange(5)] * 5, MatchingConfig(recipe.matching.ratio)
    )
    for query in range(5):
        for individual in range(3):
            own = np.flatnonzero(gallery.labels == individual)
            photograph, features = rows[query, individual]
            assert photograph == own[votes[query, own].argmax()]
            assert features["local"] == pytest.approx(votes[query, own].mean(), rel=1e-5)  # the best two, or the one
            assert features["inliers"] == max(looked[query][place].inliers for place in own)
        assert max(range(3), key=lambda one: rows[query, one][1]["local"]) == gallery.labels[query]


def test_only_the_photographs_with_the_most_votes_are_verified(queries: GalleryFeatures, gallery: Gallery) -> None:
    some = as_rows(candidate_pairs(queries, gallery, replace(LOCAL, verified=1)))
    for query in range(5):
        assert sum(features["inliers"] > 0 for (row, _), (_, features) in some.items() if row == query) <= 1
    assert all(
        not features["inliers"]
        for _, features in as_rows(candidate_pairs(queries, gallery, replace(LOCAL, verified=0))).values()
    )


def test_a_large_gallery_is_searched_by_the_encoder_and_matched_on_the_shortlist(
    queries: GalleryFeatures, gallery: Gallery
) -> None:
    recipe = replace(BOTH, whole_gallery=0, shortlist=3)
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


def test_sides_and_numbers_of_photographs_are_told(queries: GalleryFeatures, gallery: Gallery) -> None:
    rows = as_rows(candidate_pairs(queries, gallery, replace(ENCODER, shortlist=5)))
    told = {key: (f["photographs"], f["same side"], f["other side"]) for key, (_, f) in rows.items()}
    assert told[0, 0] == (2, 1, 0)  # left beside left and right
    assert told[2, 0] == (2, 0, 0)  # the query's side is not known
    assert told[3, 1] == (2, 0, 0)  # the side of the nearest photograph is not known
    assert told[4, 2] == (1, 0, 1)


@pytest.mark.parametrize("recipe", [ENCODER, LOCAL, BOTH, replace(BOTH, whole_gallery=0)])
def test_a_query_has_the_same_pairs_alone_and_in_company(
    recipe: Recipe, queries: GalleryFeatures, gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = as_rows(candidate_pairs(queries, gallery, recipe))
    monkeypatch.setattr(candidates, "QUERY_BLOCK", 2)
    assert as_rows(candidate_pairs(queries, gallery, recipe)) == together
    for query in range(5):
        alone = as_rows(candidate_pairs(queries.of(np.array([query])), gallery, recipe))
        assert alone == {(0, one): row for (number, one), row in together.items() if number == query}


@pytest.mark.parametrize("recipe", [ENCODER, LOCAL, BOTH, replace(BOTH, whole_gallery=0)])
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
        for told_by_the_whole_gallery in ("cohort", "photographs"):
            features.pop(told_by_the_whole_gallery, None)
    assert shown == {key: (int(left[photograph]), features) for key, (photograph, features) in absent.items()}


def test_where_everything_is_hidden_there_is_no_pair(queries: GalleryFeatures, gallery: Gallery) -> None:
    for recipe in (ENCODER, LOCAL, BOTH):
        assert len(candidate_pairs(queries, gallery, recipe, np.ones((5, 5), bool))) == 0


def test_a_distance_is_told_beside_what_is_usual_for_the_individual() -> None:
    rng = np.random.default_rng(0)
    vectors = torch.from_numpy(rng.normal(size=(60, 8)).astype(np.float32))
    names = np.array(["hub"] * 30 + [f"z{number:02d}" for number in range(30)])
    known = Gallery(GalleryFeatures(tuple(map(str, range(60))), vectors), tuple(names))
    recipe = replace(BOTH, cues=("encoder",), scorers=("distance", "logistic"), shortlist=60)
    pairs = candidate_pairs(GalleryFeatures(("q",), vectors[40:41] * 0.5), known, recipe)
    far = torch.cdist(vectors.double(), vectors.double()).numpy()
    for individual, name in enumerate(known.individuals):
        others = [place for place in range(29, 60) if names[place] != name and place != 29]  # one each
        others += [0] if name != "hub" else []
        usual = far[others][:, names == name].min(1)
        expected = (pairs.features["distance"][individual] - usual.mean()) / usual.std()
        assert pairs.features["cohort"][individual] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("recipe", [ENCODER, LOCAL, BOTH])
def test_no_number_is_lost_on_photographs_without_keypoints_and_copies(recipe: Recipe, gallery: Gallery) -> None:
    known = replace(gallery.embeddings, keypoints=(NO_KEYPOINTS, *gallery.embeddings.keypoints[1:]))
    asked = GalleryFeatures(("p", "q"), known.vectors[:2], ("", ""), (NO_KEYPOINTS, known.keypoints[1]))
    pairs = candidate_pairs(asked, Gallery(known, gallery.identity), recipe)
    assert set(pairs.query) == {0, 1}
    assert all(np.isfinite(values).all() for values in pairs.features.values())


def test_a_gallery_of_one_individual_has_no_runner_up() -> None:
    known = Gallery(GalleryFeatures(("a", "b"), torch.tensor([[0.0], [4.0]])), ("leo", "leo"))
    matches = match_queries(
        GalleryFeatures(("q",), torch.tensor([[3.0]])), known, "lions", calibrated("lions", 1), ENCODER
    )
    assert matches.iloc[0][["identity", "photograph", "runner_up"]].tolist() == ["leo", "b", ""]
    assert matches["distance"].iloc[0] == 1
    assert matches["runner_up_dissimilarity"].iloc[0] == np.inf


def test_a_query_that_nothing_can_be_said_of_gets_no_name(gallery: Gallery) -> None:
    for vectors, names in (([[torch.nan] * 4, [0.0] * 4], ["", "b"]), ([[torch.nan] * 4], [""])):
        asked = GalleryFeatures(tuple("pq"[: len(vectors)]), torch.tensor(vectors))
        nearest = gallery.embeddings.vectors.norm(dim=1).argmin()
        names = [name and gallery.identity[nearest] for name in names]
        matches = match_queries(asked, gallery, "x", calibrated("x", 1), ENCODER)
        assert matches["identity"].tolist() == names
        assert matches["distance"].iloc[0] == np.inf
        assert matches.iloc[0][["photograph", "runner_up"]].tolist() == ["", ""]


def test_matches_name_the_nearest_individual_and_the_next(queries: GalleryFeatures, gallery: Gallery) -> None:
    matches = match_queries(queries, gallery, "x", calibrated("x", 1), replace(ENCODER, shortlist=5))
    far = torch.cdist(queries.vectors, gallery.embeddings.vectors).numpy()
    row: Any
    for query, row in enumerate(matches.itertuples()):
        nearest = {name: far[query, np.array(gallery.identity) == name].min() for name in "abc"}
        first, second = sorted(nearest, key=lambda name: nearest[name])[:2]
        assert (row.image_id, row.identity, row.runner_up) == (queries.image_id[query], first, second)
        assert [row.distance, row.runner_up_dissimilarity] == pytest.approx([nearest[first], nearest[second]], rel=1e-5)
        assert gallery.identity[int(row.photograph)] == first


def test_the_scorer_of_the_calibration_decides_who_is_nearest(queries: GalleryFeatures, gallery: Gallery) -> None:
    by_votes = replace(calibrated("x", 1), scorer=Scorer("local", {}))
    assert match_queries(queries, gallery, "x", by_votes, BOTH)["identity"].tolist() == list(gallery.identity)


def test_no_query_gives_an_empty_table(gallery: Gallery) -> None:
    nobody = GalleryFeatures((), torch.empty(0, 4), (), ())
    for recipe in (ENCODER, LOCAL, BOTH):
        one = replace(calibrated("x", 1), scorer=Scorer(recipe.calibration.scorers[0], {}))
        assert len(match_queries(nobody, gallery, "x", one, recipe)) == 0


@pytest.mark.parametrize("recipe", [ENCODER, LOCAL, BOTH])
def test_the_database_asks_itself_once_as_known_and_once_as_new(recipe: Recipe, gallery: Gallery) -> None:
    labels, everyone = np.array(gallery.identity), np.ones(5, bool)
    recipe = with_settings(recipe, {"calibration.photographs": 10})
    asked = select_pseudo_queries(labels, np.full(5, ""), np.arange(5), HeldOut(everyone, ~everyone), recipe)
    questions = match_pseudo_queries(gallery, asked, "x", recipe)
    assert sorted(questions.individual[~questions.new]) == ["a", "a", "b", "b"]  # c has nobody to be compared with
    assert sorted(questions.individual[questions.new]) == ["a", "a", "b", "b", "c"]
    names = gallery.individuals[questions.pairs.individual]
    own = questions.individual[questions.pairs.query] == names
    assert not own[questions.new[questions.pairs.query]].any()
    assert np.array_equal(own, questions.right)
    if recipe.uses_encoder:
        assert (questions.pairs.features["distance"] > 0).all()  # nobody meets itself


def test_no_scorer_expects_anything_of_cues_without_sense() -> None:
    """Random vectors of individuals with one to six photographs: what else is told of a pair must not give it away."""
    rng = np.random.default_rng(0)
    names = np.repeat([f"animal {number:02d}" for number in range(60)], np.resize([1, 2, 3, 6], 60))
    sides = tuple(rng.choice(["left", "right"], len(names)))
    vectors = torch.from_numpy(rng.normal(size=(len(names), 16)).astype(np.float32))
    known = GalleryFeatures(tuple(map(str, range(len(names)))), vectors, sides, (NO_KEYPOINTS,) * len(names))
    recipe = replace(BOTH, scorers=("distance", "logistic", "boosted"), shortlist=50, calibration_splits=10)
    everyone = np.ones(len(names), bool)
    asked = select_pseudo_queries(
        names, np.full(len(names), ""), np.arange(len(names)), HeldOut(everyone, ~everyone), recipe
    )
    questions = match_pseudo_queries(Gallery(known, tuple(names)), asked, "x", recipe)
    calibrated = fit_calibrations({"x": questions.in_units()}, recipe)["x"]
    assert set(calibrated.scorer_scores) == {"distance", "logistic", "boosted"}
    assert max(calibrated.scorer_scores.values()) < 0.2


def save_fold(folder: Path, fold: int, gallery: Gallery, learned: tuple[str, ...]) -> None:
    """A gallery of Lions and the encoder of a fold, which has learned from some of its photographs."""
    place = fold_folder(folder, fold)
    place.mkdir(parents=True, exist_ok=True)
    save_gallery(place / gallery_file("Lions"), gallery)
    plan = replace(plan_network("test_resnet", 32, embedding_size=4), trained_on=learned)
    save_network(place / encoder_file("Lions"), build_network(plan, 0, "none"))


def test_every_individual_is_asked_for_by_one_encoder_that_has_not_learned_it(tmp_path: Path) -> None:
    """What an encoder has learned from lies far from everything in its gallery: whoever asked for it would see that."""
    labels = np.array(list("aabbccddeef"))  # d to f were enrolled after the training
    names = tuple(map(str, range(len(labels))))
    rng, near = np.random.default_rng(0), torch.rand(len(labels), 4, generator=torch.Generator().manual_seed(0))
    for fold, learned in enumerate([(2, 3, 4, 5), (0, 1, 4), (0, 1, 2)]):
        vectors = near.clone()
        vectors[list(learned)] += 1000 * torch.from_numpy(rng.normal(size=(len(learned), 4)).astype(np.float32))
        known = Gallery(
            GalleryFeatures(names, vectors, ("",) * len(names), (NO_KEYPOINTS,) * len(names)), tuple(labels)
        )
        save_fold(tmp_path, fold, known, tuple(names[place] for place in learned))
    columns = {"identity": labels, "day": "", "orientation": "", "split": "database", "path": names}
    catalogue = Catalogue(tmp_path, pd.DataFrame({"image_id": names, **columns}))
    recipe = replace(ENCODER, folds=3, shortlist=11, pseudo_queries=100, pseudo_photographs=10)
    questions = pseudo_query_pairs(catalogue, tmp_path, "Lions", recipe)
    assert sorted(questions.individual[questions.new]) == sorted(labels)  # each of its photographs once, by one encoder
    nearest = questions.answered(questions.pairs.features["distance"]).distance
    assert nearest.max() < 50
    # one of b's once more, by the encoder that has learned the other one
    assert sorted(questions.individual[~questions.new]) == sorted("aabbbccddee")


def test_datasets_without_a_keypoint_have_the_same_features_as_others(gallery: Gallery) -> None:
    told = tuple(
        replace(one, weights=np.linspace(0, 1, len(one), dtype=np.float32)) for one in gallery.embeddings.keypoints
    )
    known = Gallery(replace(gallery.embeddings, keypoints=told), gallery.identity)
    flat = Gallery(replace(gallery.embeddings, keypoints=(NO_KEYPOINTS,) * 5), gallery.identity)
    features = [candidate_pairs(one.embeddings, one, BOTH).features for one in (known, flat)]
    assert list(features[0]) == list(features[1])
    assert not features[1]["foreground"].any()
    assert not features[1]["foreground_inliers"].any()


def test_whether_other_sides_may_answer_is_decided_by_what_all_folds_ask_for(tmp_path: Path) -> None:
    """Of twenty lions ten have two photographs of a side; the first encoder has learned nine of these, the second the
    others."""
    labels = np.repeat([f"lion {number:02d}" for number in range(20)], 2)
    sides = ["left", "left"] * 10 + ["left", "right"] * 10
    names = tuple(map(str, range(40)))
    vectors = torch.from_numpy(np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32))
    known = Gallery(GalleryFeatures(names, vectors, tuple(sides), (NO_KEYPOINTS,) * 40), tuple(labels))
    for fold, learned in enumerate([names[:18], names[18:]]):
        save_fold(tmp_path, fold, known, learned)
    columns = {"identity": labels, "day": "", "orientation": sides, "split": "database", "path": names}
    catalogue = Catalogue(tmp_path, pd.DataFrame({"image_id": names, **columns}))
    questions = pseudo_query_pairs(catalogue, tmp_path, "Lions", replace(ENCODER, folds=2))
    assert questions.new.sum() == 40
    assert (~questions.new).sum() == 20, "of the first fold one lion, not all of its eleven by any side"
