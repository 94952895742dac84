"""Routes and decisions, row by row, against their definitions; and matches that are remembered, never stale."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from reid import cli
from reid.config.presets import PRESETS
from reid.config.recipe import Recipe
from reid.config.settings import with_settings
from reid.data.catalogue import NEW_INDIVIDUAL, read_catalogue
from reid.decision import predict
from reid.decision.artifact import Weights, open_weights
from reid.decision.calibrate import Calibration, Curve
from reid.decision.predict import Prediction, decide, describe_prediction, predict
from reid.decision.scorers import Scorer
from reid.decision.thresholds import Threshold
from reid.retrieval.extraction import route_queries
from reid.retrieval.gallery import GalleryFeatures
from reid.retrieval.keypoints import Keypoints

DATASETS = ("lynx", "turtle")


def calibrated(dataset: str, value: float) -> Calibration:
    threshold = Threshold(dataset, value, None, None, None, None, None, (value, value), 0, 0)
    return Calibration(threshold, Scorer("distance", {}), 1.0, {}, Curve([], [], [], [], []), [], [])


@pytest.mark.parametrize(
    ("route", "expected"),
    [
        ("classifier", ["turtle", "turtle", "lynx", "lynx"]),
        ("column", ["lynx", "turtle", "lynx", "lynx"]),
        ("auto", ["lynx", "turtle", "lynx", "lynx"]),
    ],
)
def test_a_route_sends_each_query_to_its_encoder(route: str, expected: list[str]) -> None:
    column = ["lynx", "turtle", "", "zebra"]  # a query without a dataset, and one of a dataset without a gallery
    species = ["turtle", "turtle", "lynx", "lynx"]
    assert route_queries(route, column, species, DATASETS) == expected


def test_a_query_is_named_only_below_its_own_datasets_threshold_and_when_it_could_be_read() -> None:
    matches = pd.DataFrame(
        {
            "dataset": ["lynx", "lynx", "turtle", "turtle", "turtle"],
            "identity": ["a", "b", "c", "d", "e"],
            "distance": [0.49, 0.5, 0.6, np.inf, 0.1],
            "problem": ["", "", "", "", "cut short"],
        }
    )
    decided = decide(matches, {"lynx": calibrated("lynx", 0.5), "turtle": calibrated("turtle", 0.7)})
    assert list(decided["answer"]) == ["a", NEW_INDIVIDUAL, "c", NEW_INDIVIDUAL, NEW_INDIVIDUAL]
    assert list(decided["threshold"]) == [0.5, 0.5, 0.7, 0.7, 0.7]


def test_queries_unlike_the_calibrated_ones_are_told_with_what_helps(capsys: pytest.CaptureFixture[str]) -> None:
    matches = pd.DataFrame({"image_id": range(100), "dataset": "lynx", "column": "lynx", "species": "", "problem": ""})
    matches = matches.assign(answer=NEW_INDIVIDUAL)
    describe_prediction(Prediction(matches, "column", {"lynx": 0.68}))
    told = capsys.readouterr().out
    assert "  warning: lynx: the queries match otherwise than the database's photographs among themselves" in told
    assert "(by 0.68; 0 is alike, 1 nothing in common): its expected score may not hold. Were they taken by" in told
    assert "Some of them whose animal you know, added to the database, help: enroll, then calibrate\n" in told
    describe_prediction(Prediction(matches, "column", {"lynx": 0.26}))  # no more than 0.1 + 1.6 / sqrt(100)
    assert "warning" not in capsys.readouterr().out


def test_where_every_query_is_called_new_it_is_said_where_to_look(capsys: pytest.CaptureFixture[str]) -> None:
    answers = [NEW_INDIVIDUAL] * 3 + ["a"]
    for own, hinted in ((answers[:3], True), (answers, False)):
        matches = pd.DataFrame({"image_id": range(len(own)), "answer": own})
        describe_prediction(
            Prediction(matches.assign(dataset="lynx", column="lynx", species="", problem=""), "column", {})
        )
        told = capsys.readouterr().out
        assert f"  lynx: {len(own)} queries, " in told
        assert ("called new; if some are known, look at the expected score" in told) == hinted


# what is remembered


@pytest.fixture
def asked(
    patterns: Path, patterns_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], tuple[int, pd.DataFrame]]:
    """Predicts, and says how many datasets had to be matched for it."""
    matched: list[str] = []

    def counting(queries: object, gallery: object, dataset: str, *rest: object) -> pd.DataFrame:
        matched.append(dataset)
        return original(queries, gallery, dataset, *rest)

    original = predict.match_queries
    monkeypatch.setattr(predict, "match_queries", counting)

    def ask() -> tuple[int, pd.DataFrame]:
        matched.clear()
        weights = open_weights(patterns_weights)
        matches = predict(read_catalogue(patterns), weights, weights.recipe).matches
        return len(matched), matches

    return ask


def test_what_was_matched_is_remembered_to_the_bit(asked: Callable[[], tuple[int, pd.DataFrame]]) -> None:
    count, first = asked()
    assert count == first["dataset"].nunique() > 0
    count, again = asked()
    assert count == 0
    pd.testing.assert_frame_equal(first, again, check_exact=True)


def test_another_threshold_gallery_photograph_or_recipe_is_matched_anew(
    asked: Callable[[], tuple[int, pd.DataFrame]], patterns: Path, patterns_weights: Path
) -> None:
    everything, _ = asked()
    words = [str(patterns), "--weights", str(patterns_weights)]
    assert cli.main(["calibrate", *words, "--set", "calibration.splits=3"]) == 0
    assert asked()[0] == everything
    known = pd.read_csv(patterns / "metadata.csv", dtype=str, keep_default_na=False)
    gone = known.index[known["split"] == "database"][0]
    known.drop(index=gone).to_csv(patterns / "metadata.csv", index=False)
    assert cli.main(["enroll", *words]) == 0
    assert asked()[0] >= 1
    query, other = known.index[known["split"] == "query"][:2]
    (patterns / known["path"][query]).write_bytes((patterns / known["path"][other]).read_bytes())
    assert asked()[0] == 1
    assert asked()[0] == 0


def test_everything_that_shapes_a_match_is_in_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    keypoints = Keypoints(
        np.ones((1, 4), np.float32), np.ones((1, 128), np.float16), (1.0, 0.5), np.ones(1, np.float32)
    )
    queries = GalleryFeatures(("q",), torch.ones(1, 2), ("left",), (keypoints,))
    files = {"lynx.gallery.safetensors": "a", "calibration.json": "b"}
    recipe = PRESETS["frozen"]

    def key(queries: GalleryFeatures = queries, recipe: Recipe = recipe, **changed: str) -> str:
        weights = Weights(Path(), recipe, ("lynx",), {"files": files | changed})
        return predict._key(queries, "lynx", weights, recipe)  # noqa: SLF001 each of its parts, without a prediction

    keys = [
        key(),
        key(**{"lynx.gallery.safetensors": "b"}),
        key(**{"calibration.json": "a"}),
        key(recipe=with_settings(recipe, {"matching.verified": 1})),
        key(replace(queries, image_id=("p",))),
        key(replace(queries, orientation=("",))),
        key(replace(queries, vectors=torch.zeros(1, 2))),
        *(
            key(replace(queries, keypoints=(replace(keypoints, **{name: np.zeros_like(getattr(keypoints, name))}),)))
            for name in ("points", "descriptors", "weights")
        ),
        key(replace(queries, keypoints=(replace(keypoints, extent=(0.5, 1.0)),))),
    ]
    monkeypatch.setattr(predict, "MATCHER_VERSION", predict.MATCHER_VERSION + 1)
    keys.append(key())
    assert len(set(keys)) == len(keys)
    assert key(recipe=replace(recipe, batch_size=1)) == key()
