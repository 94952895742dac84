"""Routes and decisions, row by row, against their definitions; and matches from the cache, never stale ones."""

import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import reid.decision.predict as predicting
from reid import cli
from reid.config.presets import PRESETS
from reid.config.recipe import Recipe
from reid.config.runtime import Runtime
from reid.config.settings import with_settings
from reid.data.catalogue import NEW_INDIVIDUAL, Catalogue, read_catalogue
from reid.decision.artifact import Weights, open_weights
from reid.decision.calibration import Calibration, Curve
from reid.decision.decide import decide, join_matches
from reid.decision.describe import describe_matches
from reid.decision.matches import FLAGS, Matches
from reid.decision.predict import match_queries, matches_key, predict
from reid.decision.scorers import Scorer
from reid.decision.thresholds import Threshold
from reid.errors import InputError
from reid.retrieval.cache import CACHE_FOLDER
from reid.retrieval.extraction import route_queries
from reid.retrieval.gallery import Gallery, GalleryFeatures
from reid.retrieval.keypoints import NO_KEYPOINTS, Keypoints

DATASETS = ("lynx", "turtle")

ENCODER_ALONE = with_settings(PRESETS["toy"], {"matching.cues": ("encoder",)})


def calibrated(dataset: str, value: float, kind: str = "distance") -> Calibration:
    threshold = Threshold(dataset, value, None, None, None, None, None, (value, value), 0, 0)
    return Calibration(threshold, Scorer(kind, {}), 1.0, {}, Curve([], [], [], [], []), [], [])


@pytest.mark.parametrize(
    ("route", "expected"),
    [
        ("classifier", ["turtle", "turtle", "lynx"]),
        ("column", ["lynx", "turtle", "lynx"]),
        ("auto", ["lynx", "turtle", "lynx"]),
    ],
)
def test_a_route_sends_each_query_to_its_encoder(route: str, expected: list[str]) -> None:
    column = ["lynx", "turtle", ""]  # the last is a query without a dataset
    assert route_queries(route, column, ["turtle", "turtle", "lynx"], DATASETS) == expected


# candidates


def test_the_candidates_are_the_k_nearest_individuals_as_a_slow_twin_finds_them() -> None:
    rng = np.random.default_rng(0)
    known = torch.from_numpy(rng.normal(size=(30, 4)).astype(np.float32))
    identity = tuple(f"animal {n}" for n in rng.integers(0, 9, 30))
    gallery = Gallery(GalleryFeatures(tuple(map(str, range(30))), known), identity)
    asked = torch.from_numpy(rng.normal(size=(7, 4)).astype(np.float32))
    queries = GalleryFeatures(tuple("abcdefg"), asked)
    far = torch.cdist(asked, known).numpy()
    for k in (1, 3, 20):
        found = match_queries(queries, gallery, "x", calibrated("x", 1), ENCODER_ALONE, k)
        expected = []
        for query, name in enumerate(queries.image_id):
            best = {one: min((far[query, n], str(n)) for n in range(30) if identity[n] == one) for one in set(identity)}
            ranked = sorted(best, key=lambda one: best[one])[:k]
            expected += [(name, rank, one, best[one][1], best[one][0]) for rank, one in enumerate(ranked, 1)]
        assert found.iloc[:, :4].to_numpy().tolist() == [list(row[:4]) for row in expected]
        assert found["dissimilarity"].to_numpy() == pytest.approx([row[4] for row in expected], rel=1e-4)


def test_of_equally_similar_individuals_the_first_in_the_alphabet_comes_first() -> None:
    gallery = Gallery(GalleryFeatures(tuple("1234"), torch.zeros(4, 2)), ("mia", "leo", "zoe", "leo"))
    query = GalleryFeatures(("q",), torch.zeros(1, 2))
    found = match_queries(query, gallery, "x", calibrated("x", 1), ENCODER_ALONE)
    assert found["candidate"].tolist() == ["leo", "mia", "zoe"]


def test_a_query_that_cannot_be_compared_has_no_candidates() -> None:
    gallery = Gallery(GalleryFeatures(tuple("12"), torch.tensor([[0.0], [4.0]])), ("leo", "mia"))
    queries = GalleryFeatures(tuple("pq"), torch.tensor([[torch.nan], [3.0]]))
    found = match_queries(queries, gallery, "x", calibrated("x", 1), ENCODER_ALONE)
    assert found[["image_id", "candidate"]].to_numpy().tolist() == [["q", "mia"], ["q", "leo"]]
    nobody = match_queries(queries.of(np.zeros(0, int)), gallery, "x", calibrated("x", 1), ENCODER_ALONE)
    assert (len(nobody), list(nobody.columns)) == (0, list(found.columns))


@pytest.mark.parametrize("name", ["toy", "keypoints", "frozen"])
def test_in_a_gallery_of_nobody_there_are_no_candidates(name: str) -> None:
    """One whose only photograph could not be read; whatever the scorer needs of a pair."""
    nobody = Gallery(GalleryFeatures((), torch.zeros(0, 0)), ())
    for kind in ("distance", "local", "foreground"):
        found = match_queries(
            GalleryFeatures(("q",), torch.ones(1, 2)), nobody, "x", calibrated("x", 1, kind), PRESETS[name]
        )
        assert list(found.columns) == ["image_id", "rank", "candidate", "candidate_image_id", "dissimilarity"]
        assert len(found) == 0


def test_a_recipe_with_a_cue_that_the_gallery_lacks_does_not_call_everybody_new() -> None:
    gallery = Gallery(GalleryFeatures(tuple("12"), torch.eye(2)), ("leo", "mia"), "float32", ("encoder",))
    queries = GalleryFeatures(("q",), torch.ones(1, 2), ("",), (NO_KEYPOINTS,))
    with pytest.raises(
        InputError, match=r"matching\.cues: expected encoder, with which the gallery was made, found loc"
    ):
        match_queries(queries, gallery, "x", calibrated("x", 1, "local"), PRESETS["keypoints"])


def test_the_scorer_of_the_calibration_decides_who_comes_first() -> None:
    """In its units: one that is fitted on distances of another length would turn the order round."""
    gallery = Gallery(GalleryFeatures(tuple("12"), torch.tensor([[1.0], [-2.0]])), ("leo", "mia"))
    query = GalleryFeatures(("q",), torch.zeros(1, 1))
    curve = [[0.0, 0.1, 0.2, 0.3], [0.0, 0.1, 0.9, 0.0]]  # a probability that peaks at a distance of 0.2
    unit = replace(calibrated("x", 1), scorer=Scorer("mean", {"distance": [1.0, curve]}), unit=10.0)
    found = match_queries(query, gallery, "x", unit, ENCODER_ALONE)
    assert found["candidate"].tolist() == ["mia", "leo"]
    assert found["dissimilarity"].tolist() == pytest.approx([0.1, 0.9])


# decisions


def table(rows: list[tuple[str, str, str, str]]) -> pd.DataFrame:
    """Queries of (column, species, dataset, problem); image_ids are q0, q1, ..."""
    queries = pd.DataFrame(rows, columns=["column", "species", "dataset", "problem"], dtype=object)
    return queries.assign(image_id=[f"q{place}" for place in range(len(rows))])


def best(rows: list[tuple[str, str, float]]) -> pd.DataFrame:
    """Candidates of rank 1: (image_id, candidate, dissimilarity)."""
    columns = ["image_id", "candidate", "dissimilarity"]
    return pd.DataFrame(rows, columns=columns).assign(rank=1, candidate_image_id="7")


def test_a_query_is_named_only_below_its_own_datasets_threshold_and_when_it_could_be_read() -> None:
    queries = table(
        [("lynx", "", "lynx", "")] * 2 + [("turtle", "", "turtle", "")] * 2 + [("turtle", "", "turtle", "cut short")]
    )
    candidates = best([("q0", "a", 0.49), ("q1", "b", 0.5), ("q2", "c", 0.6), ("q4", "e", 0.1)])
    matches = decide(
        queries, candidates, {"lynx": calibrated("lynx", 0.5), "turtle": calibrated("turtle", 0.7)}, "auto"
    )
    assert list(matches.queries["answer"]) == ["a", NEW_INDIVIDUAL, "c", NEW_INDIVIDUAL, NEW_INDIVIDUAL]
    assert list(matches.queries["threshold"]) == [0.5, 0.5, 0.7, 0.7, 0.7]
    assert list(matches.queries["flags"]) == ["", "", "", "no_candidates", "unreadable"]
    assert list(matches.submission.columns) == ["image_id", "identity"]
    assert matches.share_new() == {"lynx": 0.5, "turtle": 2 / 3}


def test_a_dataset_without_a_gallery_and_another_gallery_than_the_columns_are_flagged() -> None:
    queries = table([("bear", "", "bear", ""), ("lynx", "turtle", "turtle", "gone"), ("", "turtle", "turtle", "")])
    matches = decide(queries, best([("q2", "c", 0.6)]), {"turtle": calibrated("turtle", 0.7)}, "classifier")
    assert list(matches.queries["flags"]) == ["no_gallery", "unreadable rerouted", ""]
    assert list(matches.queries["answer"]) == [NEW_INDIVIDUAL, NEW_INDIVIDUAL, "c"]
    assert np.isnan(matches.queries["threshold"].iloc[0])
    assert {word for flags in matches.queries["flags"] for word in flags.split()} <= set(FLAGS)


@pytest.mark.parametrize("kind", ["distance", "local", "inliers", "mean", "logistic", "boosted"])
def test_only_calibrated_scorers_give_a_probability(kind: str) -> None:
    candidates = best([("q0", "a", 0.25), ("q1", "b", 1.001)])
    queries = table([("lynx", "", "lynx", "")] * 2)
    matches = decide(queries, candidates, {"lynx": calibrated("lynx", 0.5, kind)}, "column")
    expected = [0.75, 0.0] if kind in ("mean", "logistic", "boosted") else [np.nan, np.nan]
    assert matches.candidates["probability"].tolist() == pytest.approx(expected, nan_ok=True)


def test_joined_parts_are_decided_as_one() -> None:
    """Whether a dataset has shifted is a matter of all its queries."""
    rng = np.random.default_rng(0)
    seen = replace(calibrated("lynx", 0.5), known=[0.1, 0.2], new=[0.3])
    queries = table([("lynx", "", "lynx", "")] * 60)
    candidates = best([(f"q{place}", "a", float(far)) for place, far in enumerate(rng.random(60) + 1)])
    whole = decide(queries, candidates, {"lynx": seen}, "column")
    parts = [decide(queries[rows], candidates[rows], {"lynx": seen}, "column") for rows in (slice(0, 2), slice(2, 60))]
    joined = join_matches(parts, {"lynx": seen})
    pd.testing.assert_frame_equal(joined.queries, whole.queries)
    pd.testing.assert_frame_equal(joined.candidates, whole.candidates)
    assert joined.shifts == whole.shifts == {"lynx": 1.0}
    assert set(whole.queries["flags"]) == {"shifted"}
    assert set(parts[0].queries["flags"]) == {""}  # two are too few to tell


# what is reported


def described(matches: Matches, caplog: pytest.LogCaptureFixture) -> list[str]:
    """The lines, and the warnings behind them."""
    caplog.clear()
    lines = describe_matches(matches)
    assert all(record.levelno == logging.WARNING for record in caplog.records)
    return [*lines, *(f"warning: {line}" for line in caplog.messages)]


def hundred(shift: float) -> Matches:
    queries = table([("lynx", "", "lynx", "")] * 100).assign(answer=NEW_INDIVIDUAL, flags="", threshold=1.0)
    return Matches(queries, best([]), "column", {"lynx": shift})


def test_queries_unlike_the_calibrated_ones_are_reported_with_what_helps(caplog: pytest.LogCaptureFixture) -> None:
    _, line = described(hundred(0.68), caplog)
    assert line == (
        "warning: lynx: the queries match otherwise than the known photographs among themselves, on which the "
        "threshold was fitted (by 0.68; 0 is alike, 1 nothing in common): the expected score may not hold. Were they "
        "taken by another camera, at another place or season, or from another side? Add some of them whose animal you "
        "know to the database, then enroll and calibrate"
    )
    assert len(described(hundred(0.26), caplog)) == 1  # no more than 0.1 + 1.6 / sqrt(100)


def test_where_every_query_is_called_new_it_is_reported_where_to_look(caplog: pytest.LogCaptureFixture) -> None:
    queries = table([("lynx", "", "lynx", "")] * 4).assign(flags="", threshold=1.0)
    for answers, hinted in (([NEW_INDIVIDUAL] * 4, True), ([NEW_INDIVIDUAL] * 3 + ["a"], False)):
        (line,) = described(Matches(queries.assign(answer=answers), best([]), "column", {}), caplog)
        assert line.startswith("lynx: 4 queries, ")
        assert ("called new; if some are known, look at the expected score" in line) == hinted


def test_unreadable_photographs_are_named_and_many_with_one_problem_share_a_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rows = [("lynx", "", "lynx", "cut short")] * 2 + [("lynx", "", "lynx", "no such file")] * 12
    lines = described(decide(table(rows), best([]), {"lynx": calibrated("lynx", 0.5)}, "column"), caplog)
    assert lines[1:] == [
        "warning: image_id q0 can't be read (cut short): called new_individual",
        "warning: image_id q1 can't be read (cut short): called new_individual",
        "warning: image_id q2, q3, q4, q5, q6 and 7 more can't be read (the first: no such file): called "
        "new_individual",
    ]


def test_the_classifiers_disagreement_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    rows = [("lynx", "turtle", "lynx", ""), ("lynx", "lynx", "lynx", ""), ("", "turtle", "turtle", "")]
    calibrations = {name: calibrated(name, 0.5) for name in DATASETS}
    lines = described(decide(table(rows), best([("q0", "a", 0.1)]), calibrations, "auto"), caplog)
    assert lines[-1] == (
        "species classifier and dataset column differ on 1 of 3 queries: 1 of lynx taken for turtle; --route "
        "column trusts the column"
    )


# datasets without a known photograph


@pytest.fixture
def lizards(patterns: Path) -> Callable[[int], Catalogue]:
    """The tiny world, in which the last so many queries are lizards, which nobody knows."""

    def rename(count: int) -> Catalogue:
        path = patterns / "metadata.csv"
        rows = pd.read_csv(path, dtype=str, keep_default_na=False)
        rows.loc[rows.index[rows["split"] == "query"][-count:], "dataset"] = "Lizards"
        rows.to_csv(path, index=False)
        return read_catalogue(patterns)

    return rename


@pytest.mark.parametrize("route", ["classifier", "column", "auto"])
def test_queries_of_a_dataset_without_a_gallery_are_called_new_whatever_the_route(
    route: str, lizards: Callable[[int], Catalogue], patterns_weights: Path, caplog: pytest.LogCaptureFixture
) -> None:
    weights = open_weights(patterns_weights)
    recipe = with_settings(weights.recipe, {"prediction.route": route})
    matches = predict(lizards(3), weights, recipe)
    rows = matches.to_frame()
    flagged = rows["flags"].str.contains("no_gallery")
    assert rows["dataset"][flagged].tolist() == ["Lizards"] * 3
    assert set(rows["answer"][flagged]) == {NEW_INDIVIDUAL}
    assert rows[["dissimilarity", "threshold"]][flagged].isna().all(axis=None)
    assert set(rows["dataset"][~flagged]) <= {"Checks", "Dots"}
    (warning,) = [line for line in described(matches, caplog) if line.startswith("warning") and "Lizards" in line]
    assert warning == (
        "warning: these weights know no photograph of Lizards (3): nobody can be named there, so these queries are "
        "called new_individual. Add known photographs and train again, or correct the column dataset"
    )


def test_the_other_queries_are_answered_as_if_the_unknown_dataset_were_not_there(
    lizards: Callable[[int], Catalogue], patterns: Path, patterns_weights: Path
) -> None:
    weights = open_weights(patterns_weights)
    before = predict(read_catalogue(patterns), weights).to_frame()
    after = predict(lizards(3), weights).to_frame()
    kept = after[after["dataset"] != "Lizards"].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, before[before["image_id"].isin(kept["image_id"])].reset_index(drop=True))


def test_where_no_query_has_a_gallery_no_photograph_is_opened(
    lizards: Callable[[int], Catalogue], patterns_weights: Path
) -> None:
    catalogue = lizards(1000)
    for path in catalogue.query.paths:
        path.unlink()
    matches = predict(catalogue, open_weights(patterns_weights))
    assert set(matches.queries["flags"]) == {"no_gallery"}
    assert set(matches.submission["identity"]) == {NEW_INDIVIDUAL}
    assert len(matches.to_frame()) == len(matches) == 28


def test_a_query_without_a_dataset_needs_the_classifier(patterns: Path, patterns_weights: Path) -> None:
    path = patterns / "metadata.csv"
    rows = pd.read_csv(path, dtype=str, keep_default_na=False)
    rows.loc[rows.index[rows["split"] == "query"][-1], "dataset"] = ""
    rows.to_csv(path, index=False)
    weights = open_weights(patterns_weights)
    column, auto = (with_settings(weights.recipe, {"prediction.route": route}) for route in ("column", "auto"))
    words = r"column dataset: expected one of Checks, Dots, .*; found an empty cell. With --route auto the classifier"
    with pytest.raises(InputError, match=words):
        predict(read_catalogue(patterns), weights, column)
    assert predict(read_catalogue(patterns), weights, auto).queries["dataset"].iloc[-1] in ("Checks", "Dots")


def test_a_query_that_cannot_be_read_has_no_candidates(patterns: Path, patterns_weights: Path) -> None:
    catalogue = read_catalogue(patterns)
    catalogue.query.paths[2].write_bytes(b"no photograph")
    matches = predict(catalogue, open_weights(patterns_weights))
    row = matches.to_frame().set_index("image_id").loc[catalogue.query.image_ids[2]]
    assert (row["answer"], row["candidate"], row["flags"].split()[0]) == (NEW_INDIVIDUAL, "", "unreadable")
    assert np.isnan(row["dissimilarity"])


def test_another_number_format_than_the_galleries_is_reported_once(
    patterns: Path, patterns_weights: Path, caplog: pytest.LogCaptureFixture
) -> None:
    weights, catalogue = open_weights(patterns_weights), read_catalogue(patterns)
    predict(catalogue, weights)
    predict(catalogue, weights, runtime=Runtime(precision="float32"))
    assert not caplog.messages
    for _ in range(2):  # the second time from the cache
        caplog.clear()
        predict(catalogue, weights, runtime=Runtime(precision="bfloat16"))
        assert caplog.messages == [
            "the galleries of Checks, Dots were computed in float32, these queries in bfloat16: answers near a "
            "threshold may differ. Predict with precision float32, or enroll and calibrate again here"
        ]


# the cache


@pytest.fixture
def predicted(
    patterns: Path, patterns_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, pd.DataFrame]]:
    """Predicts, and counts how many datasets had to be matched for it."""
    matched: list[str] = []

    def counting(queries: GalleryFeatures, gallery: Gallery, dataset: str, *rest: Any) -> pd.DataFrame:
        matched.append(dataset)
        return original(queries, gallery, dataset, *rest)

    original = predicting.match_queries
    monkeypatch.setattr(predicting, "match_queries", counting)

    shutil.rmtree(patterns_weights / CACHE_FOLDER, ignore_errors=True)  # what other tests have predicted

    def count(k: int = 5) -> tuple[int, pd.DataFrame]:
        matched.clear()
        matches = predict(read_catalogue(patterns), open_weights(patterns_weights), k=k)
        return len(matched), matches.to_frame()

    return count


Predicted = Callable[..., tuple[int, pd.DataFrame]]


def test_matches_from_the_cache_are_the_same_to_the_bit(predicted: Predicted) -> None:
    count, first = predicted()
    assert count == first["dataset"].nunique() > 0
    count, again = predicted()
    assert count == 0
    pd.testing.assert_frame_equal(first, again, check_exact=True)


def test_another_threshold_gallery_photograph_or_number_of_candidates_is_matched_again(
    predicted: Predicted, patterns: Path, patterns_weights: Path
) -> None:
    everything, _ = predicted()
    assert predicted(k=2)[0] == everything
    words = [str(patterns), "--weights", str(patterns_weights)]
    assert cli.main(["calibrate", *words, "--set", "calibration.splits=3"]) == 0
    assert predicted()[0] == everything
    known = pd.read_csv(patterns / "metadata.csv", dtype=str, keep_default_na=False)
    gone = known.index[known["split"] == "database"][0]
    known.drop(index=gone).to_csv(patterns / "metadata.csv", index=False)
    assert cli.main(["enroll", *words]) == 0
    assert predicted()[0] >= 1
    query, other = known.index[known["split"] == "query"][:2]
    (patterns / known["path"][query]).write_bytes((patterns / known["path"][other]).read_bytes())
    assert predicted()[0] == 1
    assert predicted()[0] == 0


def test_everything_that_shapes_a_match_is_in_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    keypoints = Keypoints(
        np.ones((1, 4), np.float32), np.ones((1, 128), np.float16), (1.0, 0.5), np.ones(1, np.float32)
    )
    queries = GalleryFeatures(("q",), torch.ones(1, 2), ("left",), (keypoints,))
    recipe = PRESETS["frozen"]

    def key(
        queries: GalleryFeatures = queries,
        recipe: Recipe = recipe,
        k: int = 5,
        gallery: str = "a",
        calibration: str = "b",
    ) -> str:
        files = {"lynx.gallery.safetensors": gallery, "calibration.json": calibration}
        return matches_key(queries, "lynx", Weights(Path(), recipe, ("lynx",), {"files": files}), recipe, k)

    keys = [
        key(),
        key(k=6),
        key(gallery="b"),
        key(calibration="a"),
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
    monkeypatch.setattr(predicting, "MATCHER_VERSION", predicting.MATCHER_VERSION + 1)
    keys.append(key())
    assert len(set(keys)) == len(keys)
    assert key() == keys[-1]
