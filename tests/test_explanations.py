"""Explanations: the candidates shown are those that answered the query, and keypoints lie on the photographs."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from reid import cli
from reid.config.settings import with_settings
from reid.data.catalogue import Catalogue, read_catalogue
from reid.decision.artifact import Weights, open_weights
from reid.decision.matches import Matches
from reid.decision.metrics import read_solution
from reid.decision.predict import predict
from reid.report.explanations import CANDIDATES, Explanations, embedding_map, explain_matches, keypoints_to_show
from reid.report.outcomes import classify_outcomes
from reid.report.report import collect_explanations
from reid.retrieval.gallery import Gallery, GalleryFeatures

Answered = tuple[Catalogue, Weights, Matches, Explanations]


@pytest.fixture(scope="module")
def answered(
    patterns_original: Path, patterns_weights_original: Path, tmp_path_factory: pytest.TempPathFactory
) -> Answered:
    """The tiny world, its answers by an encoder, and their explanations."""
    folder = Path(shutil.copytree(patterns_weights_original, tmp_path_factory.mktemp("explanations") / "weights"))
    catalogue, weights = read_catalogue(patterns_original), open_weights(folder)
    prediction = predict(catalogue, weights, weights.recipe)
    solution = read_solution(patterns_original / "solution.csv")
    return catalogue, weights, prediction, collect_explanations(catalogue, weights, prediction, solution)


def test_the_first_candidate_is_the_match_with_its_dissimilarity(answered: Answered) -> None:
    _, _, prediction, explanations = answered
    rows: list[Any] = list(classify_outcomes(prediction.wide, None).itertuples())
    for row in rows:
        first, second, *_ = explanations.candidates[row.image_id]
        assert (first.identity, first.photograph, first.rank) == (row.identity, row.photograph, 1)
        assert first.dissimilarity == pytest.approx(row.dissimilarity, rel=1e-4)
        assert second.identity == row.runner_up
    assert not explanations.keypoints_decided


def test_candidates_are_different_individuals_in_the_order_of_their_dissimilarity(answered: Answered) -> None:
    for own in answered[3].candidates.values():
        assert [one.rank for one in own[:CANDIDATES]] == list(range(1, CANDIDATES + 1))
        assert len({one.identity for one in own}) == len(own)
        dissimilarities = [one.dissimilarity for one in own]
        assert dissimilarities == sorted(dissimilarities)


def test_a_right_individual_of_a_lower_rank_is_the_last_candidate(answered: Answered) -> None:
    catalogue, weights, prediction, explanations = answered
    rows = classify_outcomes(prediction.wide, None)[:4]
    nearest = {
        image_id: [one.identity for one in explanations.candidates[image_id][:CANDIDATES]]
        for image_id in rows["image_id"]
    }
    everyone = {row.image_id: [f"{row.dataset}_{number}" for number in range(6)] for row in rows.itertuples()}
    beyond = {image_id: sorted(set(everyone[image_id]) - set(own))[0] for image_id, own in nearest.items()}
    found = explain_matches(
        catalogue, weights, rows.assign(truth=rows["image_id"].map(beyond)), prediction.route
    ).candidates
    for image_id, own in nearest.items():
        assert [one.identity for one in found[image_id]] == [*own, beyond[image_id]]
        assert found[image_id][-1].rank > CANDIDATES


def test_shared_keypoints_lie_on_both_photographs(answered: Answered) -> None:
    drawn = 0
    for own in answered[3].candidates.values():
        for one in own:
            assert len(one.shared.inlier) == len(one.shared.pairs)
            drawn += len(one.shared.pairs)
            assert (one.shared.pairs >= 0).all()
            assert (one.shared.pairs <= np.array(one.extents)).all()
    assert drawn


def test_a_mirror_images_keypoints_lie_where_the_page_shows_them(patterns: Path, patterns_weights: Path) -> None:
    catalogue = read_catalogue(patterns)
    known, queries = catalogue.database.of("Dots"), catalogue.query.of("Dots")
    for query, photograph in zip(queries.paths, known.paths, strict=False):
        with Image.open(photograph) as image:
            ImageOps.mirror(image).save(query, format="PNG")  # loses nothing; the ending does not matter
    for command, *settings in (["enroll", "--set", "prediction.mirrored=Dots"], ["calibrate"]):
        assert cli.main([command, str(patterns), "--weights", str(patterns_weights), *settings]) == 0
    weights = open_weights(patterns_weights)
    matches = predict(catalogue, weights, with_settings(weights.recipe, {"prediction.route": "column"})).wide
    outcomes = classify_outcomes(matches[matches["dataset"] == "Dots"], None)
    candidates = explain_matches(catalogue, weights, outcomes, "column").candidates
    for query_id, photograph_id in zip(queries.image_ids, known.image_ids, strict=False):
        first = candidates[query_id][0]
        assert (first.photograph, first.mirrored) == (photograph_id, True)
        assert len(first.shared.pairs) > 20
        assert first.shared.pairs[:, 0] == pytest.approx(first.shared.pairs[:, 1], abs=1e-3)
    assert any(not one.mirrored and len(one.shared.pairs) for own in candidates.values() for one in own)


def test_keypoints_that_decided_nothing_are_shown_whatever_would_match_them(
    patterns: Path, patterns_weights: Path
) -> None:
    catalogue, weights = read_catalogue(patterns), open_weights(patterns_weights)
    recipe = with_settings(weights.recipe, {"matching.verifier": "lightglue"})
    name = catalogue.image_ids[0]
    assert len(keypoints_to_show(catalogue, recipe, [name])[name]) > 0


def test_a_map_shows_the_two_directions_in_which_a_gallery_differs_most() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(40, 6)) * (9, 4, 1, 0.5, 0.2, 0.1)
    known = GalleryFeatures(tuple(map(str, range(40))), torch.from_numpy(vectors).float())
    queries = GalleryFeatures(("q",), torch.from_numpy(vectors[7:8]).float())
    shown = embedding_map(Gallery(known, tuple("ab" * 20)), queries, seed=0)
    centred = vectors - vectors.mean(0)
    _, lengths, directions = np.linalg.svd(centred, full_matrices=False)
    flat = centred @ directions[:2].T
    places = [int(image_id) for image_id in shown.image_id[:-1]]
    for axis in range(2):
        assert abs(np.corrcoef(shown.points[:-1, axis], flat[places, axis])[0, 1]) == pytest.approx(1, abs=1e-4)
    assert shown.kept == pytest.approx((lengths[:2] ** 2).sum() / (lengths**2).sum(), abs=1e-4)
    assert shown.points[-1] == pytest.approx(shown.points[places.index(7)], abs=1e-5)  # a query of the same vector
    assert shown.identity[-1] == ""
    assert (shown.points.min(), shown.points.max()) == (0, 1)


@pytest.mark.parametrize(("count", "width"), [(1, 4), (2, 4), (5, 1), (5, 4)])
def test_too_little_for_a_map_is_no_error(count: int, width: int) -> None:
    known = GalleryFeatures(tuple(map(str, range(count))), torch.zeros(count, width))
    shown = embedding_map(Gallery(known, ("a",) * count), None, seed=0)
    assert shown.points.shape == (count, 2)
    assert shown.kept == 0


def test_without_an_encoder_keypoints_decide_and_there_is_no_map(patterns: Path, tmp_path: Path) -> None:
    local = ["--recipe", "keypoints", "--set", "calibration.scorers=local", "--set", "calibration.splits=3"]
    assert cli.main(["train", str(patterns), "--out", str(tmp_path / "w"), *local]) == 0
    catalogue, weights = read_catalogue(patterns), open_weights(tmp_path / "w")
    prediction = predict(catalogue, weights, weights.recipe)
    outcomes = classify_outcomes(prediction.wide, read_solution(patterns / "solution.csv"))[:6]
    explanations = explain_matches(catalogue, weights, outcomes, prediction.route)
    assert explanations.keypoints_decided
    assert not explanations.maps
    assert set(explanations.candidates) == set(outcomes["image_id"])
    rows: list[Any] = list(outcomes.itertuples())
    for row in rows:
        assert explanations.candidates[row.image_id][0].identity == row.identity
        assert explanations.candidates[row.image_id][0].dissimilarity == pytest.approx(row.dissimilarity, rel=1e-4)
