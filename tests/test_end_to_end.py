"""The whole main job through the command line: on a tiny world for its messages, on the toy world for its score, and on
real photographs where they are there."""

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image, ImageOps

from reid import cli
from reid.config.settings import with_settings
from reid.data.catalogue import NEW_INDIVIDUAL, read_catalogue
from reid.decision.artifact import open_weights
from reid.decision.metrics import overall, read_solution, read_submission, score_submission
from reid.decision.predict import predict
from reid.errors import Stopped
from reid.retrieval.cache import CACHE_FOLDER
from reid.retrieval.gallery import load_gallery
from reid.training import train as training

EditRows = Callable[[Callable[[pd.DataFrame], pd.DataFrame]], None]


def run(*words: object) -> int:
    return cli.main([str(word) for word in words])


def score(submission: Path, data: Path) -> float:
    return overall(score_submission(read_submission(submission), read_solution(data / "solution.csv")))


def test_the_toy_world_is_solved(toy_world: Path, toy_weights: Path, tmp_path: Path) -> None:
    assert run("predict", toy_world, "--weights", toy_weights, "--out", tmp_path / "s.csv") == 0
    assert run("check", toy_world, "--submission", tmp_path / "s.csv") == 0
    scores = score_submission(read_submission(tmp_path / "s.csv"), read_solution(toy_world / "solution.csv"))
    assert overall(scores) > 0.9, scores
    assert min(one.score for one in scores.values()) > 0.8, scores


def test_an_encoder_alone_learns_the_markings_of_a_species(toy_world: Path, tmp_path: Path) -> None:
    turtles = Path(shutil.copytree(toy_world, tmp_path / "turtles"))
    (turtles / "sample_submission.csv").unlink()
    for name in ("metadata.csv", "solution.csv"):
        table = pd.read_csv(turtles / name, dtype=str, keep_default_na=False)
        table[table["dataset"] == "SeaTurtleID2022"].to_csv(turtles / name, index=False)
    chosen = ["matching.cues=encoder", "calibration.scorers=distance", "training.epochs=100"]
    settings = [word for setting in chosen for word in ("--set", setting)]
    assert run("train", turtles, "--out", tmp_path / "w", "--recipe", "toy", *settings) == 0
    assert run("predict", turtles, "--weights", tmp_path / "w", "--out", tmp_path / "s.csv") == 0
    assert score(tmp_path / "s.csv", turtles) > 0.65


def test_shuffled_labels_bring_the_toy_world_down_to_chance(toy_world: Path, tmp_path: Path) -> None:
    shuffled = Path(shutil.copytree(toy_world, tmp_path / "shuffled"))
    table = pd.read_csv(shuffled / "metadata.csv", dtype=str, keep_default_na=False)
    rng = np.random.default_rng(0)
    for dataset in set(table["dataset"]):
        own = table.index[(table["dataset"] == dataset) & (table["split"] == "database")]
        table.loc[own, "identity"] = rng.permutation(table.loc[own, "identity"])
    table.to_csv(shuffled / "metadata.csv", index=False)
    quick = [
        "--recipe",
        "toy",
        "--set",
        "training.epochs=8",
        "--set",
        "training.validate_every=8",
    ]  # there is nothing to learn
    assert run("train", shuffled, "--out", tmp_path / "w", *quick) == 0
    assert run("predict", shuffled, "--weights", tmp_path / "w", "--out", tmp_path / "s.csv") == 0
    assert score(tmp_path / "s.csv", toy_world) < 0.35


def test_the_expected_score_is_what_comes_out_on_the_toy_world(
    toy_world: Path, toy_weights: Path, tmp_path: Path
) -> None:
    expected = json.loads((toy_weights / "calibration.json").read_text())
    run("predict", toy_world, "--weights", toy_weights, "--out", tmp_path / "s.csv")
    mean = np.mean([one["threshold"]["score"] for one in expected.values()])
    assert score(tmp_path / "s.csv", toy_world) == pytest.approx(mean, abs=0.2)


@pytest.mark.parametrize("route", ["classifier", "column", "auto"])
def test_every_route_answers_every_query_once_in_the_samples_order(
    route: str, patterns: Path, patterns_weights: Path, tmp_path: Path
) -> None:
    sample = pd.read_csv(patterns / "sample_submission.csv", dtype=str).iloc[::-1]
    sample.to_csv(patterns / "sample_submission.csv", index=False)
    assert run("predict", patterns, "--weights", patterns_weights, "--out", tmp_path / "s.csv", "--route", route) == 0
    answers = pd.read_csv(tmp_path / "s.csv", dtype=str, keep_default_na=False)
    assert list(answers.columns) == ["image_id", "identity"]
    assert list(answers["image_id"]) == list(sample["image_id"])
    known = set(read_catalogue(patterns).database.identities)
    assert set(answers["identity"]) <= known | {NEW_INDIVIDUAL}


def test_a_database_photograph_asked_for_is_found_at_distance_zero(
    patterns: Path, patterns_weights: Path, edit_rows: EditRows
) -> None:
    """Enrolment and prediction see the same pixels: a query that is a copy of a database file is that individual."""
    catalogue = read_catalogue(patterns)
    for query, known in zip(catalogue.query.paths, catalogue.database.paths, strict=False):
        shutil.copy(known, query)
    weights = open_weights(patterns_weights)
    copied = dict(zip(catalogue.query.image_ids, catalogue.database.image_ids, strict=False))
    dataset_of = dict(zip(catalogue.image_ids, catalogue.table["dataset"], strict=True))
    best = predict(catalogue, weights).to_frame().query("rank == 1")
    compared = 0
    for row in best.to_dict("records"):
        if "rerouted" not in row["flags"] and dataset_of[copied[row["image_id"]]] == row["dataset"]:
            assert row["candidate_image_id"] == copied[row["image_id"]]
            assert row["dissimilarity"] < 1e-2
            compared += 1
    assert compared > 5


def test_a_query_that_cannot_be_read_is_called_new_and_named(
    patterns: Path, patterns_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = read_catalogue(patterns).query.table.iloc[2]
    (patterns / broken["path"]).unlink()
    assert run("predict", patterns, "--weights", patterns_weights, "--out", tmp_path / "s.csv") == 0
    answers = pd.read_csv(tmp_path / "s.csv", dtype=str).set_index("image_id")["identity"]
    assert answers[broken["image_id"]] == NEW_INDIVIDUAL
    words = f"warning: image_id {broken['image_id']} can't be read (no such file; no other file of that name is below"
    assert words in capsys.readouterr().err


def test_the_same_weights_give_the_same_bytes(patterns: Path, patterns_weights: Path, tmp_path: Path) -> None:
    for name in "ab":
        run("predict", patterns, "--weights", patterns_weights, "--out", tmp_path / name)
    for ending in ("", ".matches.csv"):
        assert (tmp_path / f"a{ending}").read_bytes() == (tmp_path / f"b{ending}").read_bytes()


def test_enroll_and_calibrate_again_leave_a_complete_folder_with_the_new_individuals(
    patterns: Path, patterns_weights: Path, tmp_path: Path, edit_rows: EditRows
) -> None:
    edit_rows(lambda table: table.assign(identity=table["identity"].replace("Dots_0", "Dots_renamed")))
    assert run("enroll", patterns, "--weights", patterns_weights) == 0
    assert run("calibrate", patterns, "--weights", patterns_weights, "--set", "calibration.splits=7") == 0
    assert "Dots_renamed" in load_gallery(patterns_weights / "Dots.gallery.safetensors").identity
    assert open_weights(patterns_weights).recipe.calibration.splits == 7


@pytest.mark.parametrize("command", ["enroll", "calibrate"])
def test_how_the_machine_works_may_be_chosen_and_is_not_kept(
    command: str, patterns: Path, patterns_weights: Path
) -> None:
    before = open_weights(patterns_weights)
    call = [command, patterns, "--weights", patterns_weights]
    runtime = {"device": "auto", "precision": "bfloat16", "batch_size": 5, "threads": 1}
    assert run(*call, *(word for field, value in runtime.items() for word in ("--set", f"{field}={value}"))) == 0
    after = open_weights(patterns_weights)
    assert (after.recipe, after.precision) == (before.recipe, before.precision)
    precision = "bfloat16" if command == "enroll" else "float32"  # a fact of the gallery, whatever was asked for
    assert load_gallery(patterns_weights / "Dots.gallery.safetensors").precision == precision
    assert run(*call, "--set", "prediction.route=column") == 2


def test_the_report_shows_what_predict_answered_when_told_its_route(
    patterns: Path, patterns_weights: Path, tmp_path: Path, edit_rows: EditRows
) -> None:
    edit_rows(lambda table: table.assign(dataset=table["dataset"].mask(table["split"] == "query", "Checks")))
    call = [patterns, "--weights", patterns_weights]
    answers = {}
    for route in ("classifier", "column"):
        csv, folder = tmp_path / f"{route}.csv", tmp_path / route
        assert run("predict", *call, "--route", route, "--out", csv) == 0
        shutil.rmtree(patterns_weights / CACHE_FOLDER)  # so that the report has to open photographs itself
        solution = ["--solution", patterns / "solution.csv"]
        assert run("report", *call, "--route", route, "--out", folder, *solution) == 0
        answers[route] = read_submission(csv)
        page = (folder / "report.html").read_text("utf-8")
        assert f"route <b>{route}</b>" in page
        assert f"<b>{score(csv, patterns):.3f}</b><span>score, mean" in page
        queries = re.findall(r"<figcaption>query<br>.*?photo (\d+)<", page)
        shown = set(zip(queries, re.findall(r"answer <b>(.*?)</b>", page), strict=True))
        assert shown == set(answers[route].itertuples(index=False, name=None))
    assert not answers["classifier"].equals(answers["column"])
    assert run("report", *call, "--set", "backbone.image_size=64", "--out", tmp_path / "refused") == 2


def test_a_mirrored_gallery_finds_a_query_that_is_a_mirror_image(
    patterns: Path, patterns_weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    catalogue = read_catalogue(patterns)
    known, asked = catalogue.database.of("Dots"), catalogue.query.of("Dots")
    for query, photograph in zip(asked.paths, known.paths, strict=False):
        with Image.open(photograph) as image:
            ImageOps.mirror(image).save(query, format="PNG")  # loses nothing; the ending does not matter

    def rights() -> int:
        weights = open_weights(patterns_weights)
        matches = predict(catalogue, weights, with_settings(weights.recipe, {"prediction.route": "column"}))
        best = dict(zip(matches.wide["image_id"], matches.wide["photograph"], strict=True))
        pairs = zip(asked.image_ids, known.image_ids, strict=False)
        return sum(best[query] == photograph for query, photograph in pairs)

    before = rights()
    assert run("enroll", patterns, "--weights", patterns_weights, "--set", "prediction.mirrored=Dots") == 0
    assert run("calibrate", patterns, "--weights", patterns_weights) == 0
    assert rights() == len(asked) > before
    assert run("enroll", patterns, "--weights", patterns_weights, "--set", "training.epochs=3") == 2
    assert "here you may set " in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_is_insisted_on_by_the_call(
    patterns: Path, patterns_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (["enroll"], ["calibrate"], ["predict", "--out", tmp_path / "s.csv"], ["report", "--out", tmp_path]):
        call = [command[0], patterns, "--weights", patterns_weights, *command[1:]]
        assert run(*call, "--set", "device=cuda") == 2
        assert "--device cuda: expected a GPU with CUDA, found none" in capsys.readouterr().err


def test_without_a_classifier_nothing_is_reported_of_one_and_a_dataset_without_known_photographs_is_called_new(
    patterns: Path, tiny_settings: list[str], tmp_path: Path, edit_rows: EditRows, capsys: pytest.CaptureFixture[str]
) -> None:
    edit_rows(lambda table: table[table["dataset"] == "Dots"])
    (patterns / "sample_submission.csv").unlink()
    assert run("train", patterns, "--out", tmp_path / "w", *tiny_settings) == 0
    capsys.readouterr()
    call = ["predict", patterns, "--weights", tmp_path / "w", "--out", tmp_path / "s.csv"]
    assert run(*call) == 0
    printed = capsys.readouterr()
    assert "Dots: 14 queries" in printed.out
    assert "species classifier" not in printed.out
    assert "know no photograph" not in printed.err
    edit_rows(lambda table: table.assign(dataset=table["dataset"].mask(table.index == table.index[-1], "Zebras")))
    for route in ("auto", "column"):
        assert run(*call, "--route", route) == 0
        warnings = [line for line in capsys.readouterr().err.splitlines() if "Zebras" in line]
        assert len(warnings) == 1
        assert warnings[0].startswith("warning: these weights know no photograph of Zebras (1): nobody can be named")
        row = pd.read_csv(tmp_path / "s.matches.csv", dtype=str, keep_default_na=False).iloc[-1]
        assert (row["dataset"], row["answer"], row["flags"]) == ("Zebras", NEW_INDIVIDUAL, "no_gallery")


def test_every_command_says_what_it_made_and_what_is_next(
    patterns: Path, patterns_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, made in [
        (["check", patterns], "no fault in"),
        (["enroll", patterns, "--weights", patterns_weights], "enrolled the known photographs"),
        (["calibrate", patterns, "--weights", patterns_weights], "wrote the thresholds"),
        (["predict", patterns, "--weights", patterns_weights, "--out", tmp_path / "s.csv"], "wrote 28 answers"),
    ]:
        assert run(*words) == 0
        printed = capsys.readouterr()
        assert made in printed.out
        assert "next: reid " in printed.err
    assert run("check", patterns, "--submission", tmp_path / "s.csv") == 0
    assert f"next: reid score {tmp_path}/s.csv {patterns}/solution.csv\n" in capsys.readouterr().err
    (patterns / "solution.csv").unlink()
    assert run("check", patterns, "--submission", tmp_path / "s.csv") == 0
    assert (
        f"next: hand it in to the competition with: make submit DATA={patterns} SUBMISSION={tmp_path}/s.csv\n"
        f"or, with animals of your own: reid report {patterns} --weights WEIGHTS --out report\n"
    ) in capsys.readouterr().err


@pytest.mark.parametrize("name", ["photographs", "my photographs", "the lynx's", '$HOME of "lynxes" `at` \\ night'])
def test_a_folder_reaches_a_make_target_whatever_it_is_called(
    name: str, patterns: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (patterns / "solution.csv").unlink()
    (tmp_path / "Makefile").write_text("submit:\n\t@printf %s $(DATA)\n")
    patterns.rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert run("check", name, "--submission", Path(name) / "sample_submission.csv") == 0
    (typed,) = re.findall(r"(make submit DATA=.*)$", capsys.readouterr().err, re.MULTILINE)
    done = subprocess.run(typed.replace("make", "make -s", 1), shell=True, capture_output=True, text=True, check=True)
    assert done.stdout == name


def test_real_photographs_go_through(reid_mini: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few_steps = [
        "--recipe",
        "toy",
        "--set",
        "training.epochs=2",
        "--set",
        "training.validate_every=1",
        "--set",
        "classifier.epochs=1",
    ]
    assert run("check", reid_mini) == 0
    assert run("train", reid_mini, "--out", tmp_path / "w", *few_steps) == 0
    assert run("predict", reid_mini, "--weights", tmp_path / "w", "--out", tmp_path / "s.csv") == 0
    assert run("check", reid_mini, "--submission", tmp_path / "s.csv") == 0
    capsys.readouterr()
    assert run("score", tmp_path / "s.csv", reid_mini / "solution.csv", "--json") == 0
    scores = json.loads(capsys.readouterr().out)
    assert set(scores["datasets"]) == {"Holstein2025", "LionData", "NyalaData"}
    assert 0 < scores["overall"] < 1
    assert 0 < scores["rank1"] <= scores["mrr"] <= scores["recall5"] < 1


def test_the_time_of_a_call_that_was_stopped_counts_too(
    patterns: Path, patterns_weights: Path, tiny_settings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    times = patterns_weights / "training" / "seconds.json"

    def stopped(*_: object) -> None:
        time.sleep(0.3)
        raise Stopped("stopped by SIGTERM", "SIGTERM")

    before = json.loads(times.read_text())
    monkeypatch.setattr(training, "train_backbones", stopped)
    assert run("train", patterns, "--out", patterns_weights, *tiny_settings) == os.EX_TEMPFAIL
    after = json.loads(times.read_text())
    assert after["train"] >= before["train"] + 0.3 - 0.1  # they are kept in tenths
    assert {**after, "train": 0} == {**before, "train": 0}


def test_the_report_does_not_pass_off_cached_answers_as_quick_ones(
    patterns: Path, patterns_weights: Path, tmp_path: Path
) -> None:
    assert run("predict", patterns, "--weights", patterns_weights, "--out", tmp_path / "s.csv") == 0
    assert run("report", patterns, "--weights", patterns_weights, "--out", tmp_path / "r") == 0
    page = " ".join((tmp_path / "r" / "report.html").read_text("utf-8").split())
    times = r"Time: train [\d.]+ s, enroll [\d.]+ s, calibrate [\d.]+ s, predict \(without what was cached\) [\d.]+ s,"
    assert re.search(times, page)


def test_what_a_recipe_of_keypoints_alone_does_not_use_changes_nothing(
    patterns: Path, tmp_path: Path, tiny_settings: list[str]
) -> None:
    local = [*tiny_settings, "--set", "matching.cues=local", "--set", "calibration.scorers=local"]
    other = {
        **{"backbone.name": "resnet18", "backbone.image_size": 64, "backbone.interpolation": "lanczos"},
        **{"backbone.fit": "pad", "backbone.pooling": "gem", "backbone.init": "none", "classifier.shrink": 2},
        **{"training.epochs": 9, "training.held_out_individuals": 0.5, "training.held_out_photographs": 0.1},
        **{"keypoints.foreground": 0.9, "matching.whole_gallery": 1, "prediction.flip_average": "true"},
        **{"prediction.scales": "1.0,1.5", "precision": "float32"},
    }
    assert run("train", patterns, "--out", tmp_path / "a", *local) == 0
    assert not set(other) & set(open_weights(tmp_path / "a").recipe.used)
    changed = [word for field, value in other.items() for word in ("--set", f"{field}={value}")]
    assert run("train", patterns, "--out", tmp_path / "b", *local, *changed) == 0
    for name in ("calibration.json", "Dots.gallery.safetensors", "Checks.gallery.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
