"""The answers of a gallery and the calibration of a weights folder, on small galleries whose answers are known."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from test_candidates import BOTH, ENCODER, LOCAL, gallery, keypoints, queries
from test_predict import calibrated

from reid.config.recipe import Recipe
from reid.config.settings import with_settings
from reid.data.catalogue import Catalogue
from reid.decision.artifact import encoder_file, fold_folder, gallery_file
from reid.decision.calibrate import fit_calibrations, pseudo_query_pairs
from reid.decision.predict import match_queries
from reid.decision.pseudo_queries import (
    HeldOut,
    PseudoQueryPairs,
    match_pseudo_queries,
    numbered,
    select_pseudo_queries,
)
from reid.decision.scorers import Scorer
from reid.models.new_networks import build_network, plan_network, save_network
from reid.retrieval.gallery import Gallery, GalleryFeatures, save_gallery
from reid.retrieval.keypoints import NO_KEYPOINTS

__all__ = ["gallery", "keypoints", "queries"]
"""Fixtures."""


def test_the_scorer_of_the_calibration_decides_who_is_nearest(queries: GalleryFeatures, gallery: Gallery) -> None:
    by_votes = replace(calibrated("x", 1), scorer=Scorer("local", {}))
    best = match_queries(queries, gallery, "x", by_votes, BOTH, k=1)
    assert best["candidate"].tolist() == list(gallery.identity)


def test_no_query_gives_an_empty_table(gallery: Gallery) -> None:
    nobody = GalleryFeatures((), torch.empty(0, 4), (), ())
    for recipe in (ENCODER, LOCAL, BOTH):
        one = replace(calibrated("x", 1), scorer=Scorer(recipe.calibration.scorers[0], {}))
        assert len(match_queries(nobody, gallery, "x", one, recipe)) == 0


@pytest.mark.parametrize("recipe", [ENCODER, LOCAL, BOTH])
def test_a_database_photograph_is_a_pseudo_query_once_as_known_and_once_as_new(
    recipe: Recipe, gallery: Gallery
) -> None:
    labels, everyone = np.array(gallery.identity), np.ones(5, bool)
    recipe = with_settings(recipe, {"calibration.photographs": 10})
    selected = select_pseudo_queries(labels, np.full(5, ""), np.arange(5), HeldOut(everyone, ~everyone), recipe)
    pseudo_queries = match_pseudo_queries(gallery, selected, "x", recipe)
    assert sorted(pseudo_queries.individual[~pseudo_queries.new]) == [
        "a",
        "a",
        "b",
        "b",
    ]  # c has nobody to be compared with
    assert sorted(pseudo_queries.individual[pseudo_queries.new]) == ["a", "a", "b", "b", "c"]
    names = gallery.individuals[pseudo_queries.pairs.individual]
    own = pseudo_queries.individual[pseudo_queries.pairs.query] == names
    assert not own[pseudo_queries.new[pseudo_queries.pairs.query]].any()
    assert np.array_equal(own, pseudo_queries.is_match)
    if recipe.uses_encoder:
        assert (pseudo_queries.pairs.features["distance"] > 0).all()  # nobody meets itself


def test_no_scorer_expects_anything_of_cues_without_sense() -> None:
    """Random vectors of individuals with one to six photographs: the other features of a pair must not give it away."""
    rng = np.random.default_rng(0)
    names = np.repeat([f"animal {number:02d}" for number in range(60)], np.resize([1, 2, 3, 6], 60))
    sides = tuple(rng.choice(["left", "right"], len(names)))
    vectors = torch.from_numpy(rng.normal(size=(len(names), 16)).astype(np.float32))
    known = GalleryFeatures(tuple(map(str, range(len(names)))), vectors, sides, (NO_KEYPOINTS,) * len(names))
    recipe = with_settings(
        BOTH,
        {
            "calibration.scorers": ("distance", "logistic", "boosted"),
            "matching.shortlist": 50,
            "calibration.splits": 10,
        },
    )
    everyone = np.ones(len(names), bool)
    selected = select_pseudo_queries(
        names, np.full(len(names), ""), np.arange(len(names)), HeldOut(everyone, ~everyone), recipe
    )
    pseudo_queries = match_pseudo_queries(Gallery(known, tuple(names)), selected, "x", recipe)
    calibrated = fit_calibrations({"x": pseudo_queries.in_units()}, recipe)["x"]
    assert set(calibrated.scorer_scores) == {"distance", "logistic", "boosted"}
    assert max(calibrated.scorer_scores.values()) < 0.2


def save_fold(folder: Path, fold: int, gallery: Gallery, learned: tuple[str, ...]) -> None:
    """A gallery of Lions and the encoder of a fold, which has learned from some of its photographs."""
    place = fold_folder(folder, fold)
    place.mkdir(parents=True, exist_ok=True)
    save_gallery(place / gallery_file("Lions"), gallery)
    plan = replace(plan_network("test_resnet", 32, embedding_size=4), trained_on=learned)
    save_network(place / encoder_file("Lions"), build_network(plan, 0, "none"))


def test_every_individual_is_a_pseudo_query_of_one_encoder_that_has_not_learned_it(tmp_path: Path) -> None:
    """What an encoder has learned from lies far from everything in its gallery: here it would be noticed."""
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
    recipe = with_settings(
        ENCODER,
        {
            "training.folds": 3,
            "matching.shortlist": 11,
            "calibration.pseudo_queries": 100,
            "calibration.photographs": 10,
        },
    )
    pseudo_queries = pseudo_query_pairs(catalogue, tmp_path, "Lions", recipe)
    assert sorted(pseudo_queries.individual[pseudo_queries.new]) == sorted(
        labels
    )  # each of its photographs once, by one encoder
    nearest = pseudo_queries.answered(pseudo_queries.pairs.features["distance"]).distance
    assert nearest.max() < 50
    # one of b's once more, by the encoder that has learned the other one
    assert sorted(pseudo_queries.individual[~pseudo_queries.new]) == sorted("aabbbccddee")


def test_whether_other_sides_may_answer_depends_on_the_pseudo_queries_of_all_folds(tmp_path: Path) -> None:
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
    pseudo_queries = pseudo_query_pairs(catalogue, tmp_path, "Lions", with_settings(ENCODER, {"training.folds": 2}))
    assert pseudo_queries.new.sum() == 40
    assert (~pseudo_queries.new).sum() == 20, "of the first fold one lion, not all of its eleven by any side"


def random_folder(folder: Path, names: dict[str, str], shuffled: bool = False) -> tuple[PseudoQueryPairs, Recipe]:
    """The pseudo-queries of forty animals with two folds' encoders, vectors and sides at random, under some names, and
    the recipe; the rows of the table shuffled or not."""
    rng = np.random.default_rng(0)
    animals = np.repeat([f"lion {number:02d}" for number in range(40)], np.resize([1, 2, 3, 4], 40))
    labels = np.array([names.get(animal, animal) for animal in animals])
    rows = tuple(f"p{row:03d}" for row in range(len(labels)))
    sides = tuple(rng.choice(["left", "right"], len(labels)).tolist())
    centres = rng.normal(size=(40, 16))[np.unique(animals, return_inverse=True)[1]]
    vectors = torch.from_numpy((centres + rng.normal(size=centres.shape)).astype(np.float32))
    known = Gallery(GalleryFeatures(rows, vectors, sides, (NO_KEYPOINTS,) * len(rows)), tuple(labels.tolist()))
    for fold, learned in enumerate([rows[:50], rows[50:]]):
        save_fold(folder, fold, known, learned)
    columns = {"identity": labels, "day": "", "orientation": sides, "split": "database", "path": rows}
    table = pd.DataFrame({"image_id": rows, **columns})
    table = table.sample(frac=1, random_state=1) if shuffled else table
    recipe = with_settings(
        BOTH,
        {
            "training.folds": 2,
            "calibration.pseudo_queries": 60,
            "calibration.scorers": ("distance", "logistic", "boosted"),
            "calibration.splits": 10,
        },
    )
    return pseudo_query_pairs(Catalogue(folder, table), folder, "Lions", recipe), recipe


@pytest.mark.parametrize("change", ["other names", "other order"])
def test_names_and_the_order_of_the_rows_change_nothing(change: str, tmp_path: Path) -> None:
    """The new names are in another alphabetical order."""
    names = {f"lion {number:02d}": f"{'zab'[number % 3]}{number}" for number in range(40)}
    renamed = change == "other names"
    before, recipe = random_folder(tmp_path / "before", {})
    after, _ = random_folder(tmp_path / "after", names if renamed else {}, shuffled=not renamed)
    expected = [names[name] if renamed else name for name in before.individual]
    assert after.individual.tolist() == expected
    assert after.pairs.photograph.tolist() == before.pairs.photograph.tolist()
    for name, values in before.pairs.features.items():
        assert after.pairs.features[name] == pytest.approx(values, rel=1e-9), name  # sums in another order
    one, other = (fit_calibrations({"Lions": pairs}, recipe)["Lions"] for pairs in (before, after))
    assert one.scorer.kind == other.scorer.kind
    assert one.scorer_scores == pytest.approx(other.scorer_scores)
    assert (one.threshold.value, one.threshold.score) == pytest.approx((other.threshold.value, other.threshold.score))
    assert 0.1 < one.threshold.score < 0.9  # type: ignore[operator]


def test_individuals_are_numbered_in_the_order_of_their_first_photographs() -> None:
    assert numbered(np.array(["b", "a", "b", "c", "a"])).tolist() == [f"{number:09d}" for number in (0, 1, 0, 2, 1)]
    assert len(numbered(np.zeros(0, str))) == 0
