"""The answers of a gallery and the calibration of a weights folder, on small galleries whose answers are known."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from test_candidates import BOTH, ENCODER, LOCAL, gallery, keypoints, queries
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
from reid.retrieval.gallery import Gallery, GalleryFeatures, save_gallery
from reid.retrieval.keypoints import NO_KEYPOINTS

__all__ = ["gallery", "keypoints", "queries"]
"""Fixtures."""


def test_a_gallery_of_one_individual_has_no_runner_up() -> None:
    known = Gallery(GalleryFeatures(("a", "b"), torch.tensor([[0.0], [4.0]])), ("leo", "leo"))
    matches = match_queries(
        GalleryFeatures(("q",), torch.tensor([[3.0]])), known, "lions", calibrated("lions", 1), ENCODER
    )
    assert matches.iloc[0][["identity", "photograph", "runner_up"]].tolist() == ["leo", "b", ""]
    assert matches["distance"].iloc[0] == 1
    assert matches["runner_up_dissimilarity"].iloc[0] == np.inf


def test_a_query_without_any_distance_gets_no_name(gallery: Gallery) -> None:
    for vectors, names in (([[torch.nan] * 4, [0.0] * 4], ["", "b"]), ([[torch.nan] * 4], [""])):
        queries = GalleryFeatures(tuple("pq"[: len(vectors)]), torch.tensor(vectors))
        nearest = gallery.embeddings.vectors.norm(dim=1).argmin()
        names = [name and gallery.identity[nearest] for name in names]
        matches = match_queries(queries, gallery, "x", calibrated("x", 1), ENCODER)
        assert matches["identity"].tolist() == names
        assert matches["distance"].iloc[0] == np.inf
        assert matches.iloc[0][["photograph", "runner_up"]].tolist() == ["", ""]


def test_matches_name_the_nearest_individual_and_the_next(queries: GalleryFeatures, gallery: Gallery) -> None:
    matches = match_queries(
        queries, gallery, "x", calibrated("x", 1), with_settings(ENCODER, {"matching.shortlist": 5})
    )
    far = torch.cdist(queries.vectors, gallery.embeddings.vectors).numpy()
    for query, row in enumerate(matches.itertuples()):
        nearest = {name: far[query, np.array(gallery.identity) == name].min() for name in "abc"}
        first, second = sorted(nearest, key=lambda name: nearest[name])[:2]
        assert (row.image_id, row.identity, row.runner_up) == (queries.image_id[query], first, second)
        assert [row.distance, row.runner_up_dissimilarity] == pytest.approx([nearest[first], nearest[second]], rel=1e-5)
        assert gallery.identity[int(str(row.photograph))] == first


def test_the_scorer_of_the_calibration_decides_who_is_nearest(queries: GalleryFeatures, gallery: Gallery) -> None:
    by_votes = replace(calibrated("x", 1), scorer=Scorer("local", {}))
    assert match_queries(queries, gallery, "x", by_votes, BOTH)["identity"].tolist() == list(gallery.identity)


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
