"""`reid review` from end to end: what it asks in every mode, what it refuses, and answers that come back."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from test_discover import QUICK, draw

from reid import cli
from reid.data.catalogue import read_catalogue
from reid.decision import cuts
from reid.decision.artifact import gallery_file, open_weights
from reid.retrieval.gallery import load_gallery, save_gallery
from reid.review.choices import MODES
from reid.review.known import known_photographs


@pytest.fixture(autouse=True)
def few_collections(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cut that is fitted on less is fitted sooner."""
    monkeypatch.setattr(cuts, "COLLECTIONS", 4)
    monkeypatch.setattr(cuts, "ROUNDS", 1)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten known lions, one with six photographs and three of them queries too, and three new ones."""
    known = [("Lions", animal, 3 + 3 * (animal == 9), 2 * (animal < 3)) for animal in range(10)]
    return draw(
        tmp_path_factory.mktemp("review") / "data", [*known, *(("Lions", animal, 0, 3) for animal in range(100, 103))]
    )


@pytest.fixture
def data(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "data"))


@pytest.fixture(scope="module")
def weights(original: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("review") / "weights"
    assert cli.main(["train", str(original), "--out", str(folder), *QUICK]) == 0
    return folder


def review(data: Path, *options: object) -> int:
    return cli.main(["review", str(data), *map(str, options)])


def content(page: Path) -> dict[str, Any]:
    """What the page's script reads."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text("utf-8"), re.DOTALL)
    assert found
    return dict(json.loads(found[1]))


def answer_all(page: Path, file: Path, answer: str) -> None:
    """Write the file that the page's button would save, had a person given one answer to every pair."""
    data = content(page)
    rows = [
        {"image_id_a": a, "image_id_b": b, "answer": answer, "who": "Ann", "when": "2025-06-01T10:00:00Z", "note": ""}
        for a, b in (question["pair"] for question in data["questions"])
    ]
    head = {name: data[name] for name in ("format", "version", "fingerprint")}
    file.write_text(json.dumps({**head, "photographs": data["asked"], "answers": rows}))


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_asks_about_photographs_of_its_kind(data: Path, weights: Path, tmp_path: Path, mode: str) -> None:
    assert (
        review(data, "--weights", weights, "--out", tmp_path / "page", "--mode", mode, "--most", 7, "--drawn", 3) == 0
    )
    found = content(tmp_path / "page" / "review.html")
    questions = found["questions"]
    assert 0 < len(questions) <= 10
    assert sum(bool(one["drawn"]) for one in questions) == 3 * (mode == "clusters")
    table = pd.read_csv(data / "metadata.csv", dtype=str, keep_default_na=False).set_index("image_id")
    for question in questions:
        splits = table.loc[question["pair"], "split"].tolist()
        expected = {"clusters": ["query"] * 2, "names": ["query", "database"]}.get(mode, ["database"] * 2)
        assert splits == expected
        assert table.loc[question["pair"], "dataset"].nunique() == 1
        names = table.loc[question["pair"], "identity"].tolist()
        assert (names[0] == names[1]) == (mode not in ("names", "merge"))
    assert set(found["asked"]) == {image_id for one in questions for image_id in one["pair"]}
    assert all(photo["preview"].startswith("data:image/jpeg") for photo in found["photos"].values())


def test_answers_come_back_and_are_not_asked_again(
    data: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, file = tmp_path / "page" / "review.html", tmp_path / "answers.json"
    options = ("--weights", weights, "--out", tmp_path / "page", "--most", 5, "--drawn", 2)
    assert review(data, *options) == 0
    asked = [tuple(sorted(one["pair"])) for one in content(page)["questions"]]
    assert "review.html, which asks about" in capsys.readouterr().out
    answer_all(page, file, "different")
    assert review(data, "--apply", file) == 0
    assert f"{data / 'pairs.csv'}: {len(asked)} different" in capsys.readouterr().out
    assert review(data, *options) == 0
    again = [tuple(sorted(one["pair"])) for one in content(page)["questions"]]
    assert not set(again) & set(asked)
    # what two people say is told
    answer_all(page, file, "same")
    file.write_text(file.read_text().replace('"Ann"', '"Bo"'))
    answers = json.loads(file.read_text())
    answers["answers"] = [{**answers["answers"][0], "image_id_a": again[0][0], "image_id_b": again[0][1]}]
    file.write_text(json.dumps(answers))
    assert review(data, "--apply", file, "--pairs", tmp_path / "elsewhere.csv") == 0
    assert len(pd.read_csv(tmp_path / "elsewhere.csv")) == 1


@pytest.mark.parametrize("marked", ["sample", "competition.json"])
def test_a_competitions_queries_are_refused_and_its_database_is_not(
    data: Path, weights: Path, tmp_path: Path, marked: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if marked == "sample":
        queries = pd.read_csv(data / "metadata.csv", dtype=str).query("split == 'query'")
        queries[["image_id"]].assign(identity="new_individual").to_csv(data / "sample_submission.csv", index=False)
    else:
        (data / marked).write_text("{}")
    options = ("--weights", weights, "--out", tmp_path / "page")
    for mode in ("clusters", "names"):
        assert review(data, *options, "--mode", mode) == 2
        assert "whose rules forbid labels made by hand" in capsys.readouterr().err
    assert not (tmp_path / "page").exists() or not list((tmp_path / "page").iterdir())
    assert review(data, *options, "--mode", "merge") == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "expected --weights WEIGHTS and --out DIR to make a page, or --apply FILE"),
        (("--weights", "w", "--apply", "f"), "expected --weights WEIGHTS and --out DIR"),
        (("--weights", "w"), "--out: expected the name of a folder"),
        (("--weights", "w", "--out", "p", "--most", "0"), "--most: expected 1 to 5000 pairs, found 0"),
        (("--weights", "w", "--out", "p", "--drawn", "-1"), "--drawn: expected 0 to 5000 pairs, found -1"),
        (("--weights", "w", "--conflicts", "new"), "--conflicts: expected --apply FILE with it"),
        (("--apply", "f", "--out", "page", "--mode", "split"), "--apply: expected no --out and no --mode"),
        (("--apply", "nowhere.json"), "nowhere.json: expected a JSON file here, found none"),
    ],
)
def test_a_wrong_call_is_told_at_once(
    data: Path,
    options: tuple[str, ...],
    words: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(data)
    assert review(data, *options) == 2
    assert words in capsys.readouterr().err


def test_an_animal_that_is_known_by_two_names_is_asked_about_until_it_is_said_to_be_two(
    data: Path, tmp_path: Path
) -> None:
    rows = pd.read_csv(data / "metadata.csv", dtype=str, keep_default_na=False)
    mine = rows[(rows["identity"] == "animal 4") & (rows["split"] == "database")]
    twin = mine.assign(identity="twin", image_id="t" + mine["image_id"], path="images/t" + mine["image_id"] + ".jpg")
    for path, copy in zip(mine["path"], twin["path"], strict=True):
        with Image.open(data / path) as photograph:
            photograph.save(data / copy, quality=70)  # near-duplicates, which no cut is fitted on
    table = pd.concat([rows, twin])
    table.to_csv(data / "metadata.csv", index=False)
    assert cli.main(["train", str(data), "--out", str(tmp_path / "w"), *QUICK]) == 0

    def first_names() -> set[str]:
        assert review(data, "--weights", tmp_path / "w", "--out", tmp_path / "page", "--mode", "merge") == 0
        return set(content(tmp_path / "page" / "review.html")["questions"][0]["names"])

    assert first_names() == {"animal 4", "twin"}
    pair = {"image_id_a": [mine["image_id"].iloc[0]], "image_id_b": [twin["image_id"].iloc[1]], "answer": ["different"]}
    pd.DataFrame(pair).to_csv(data / "pairs.csv", index=False)
    assert first_names() != {"animal 4", "twin"}
    (data / "pairs.csv").unlink()
    # nor where both are on one photograph
    shared = table["image_id"].isin([mine["image_id"].iloc[0], twin["image_id"].iloc[0]])
    path = table["path"].mask(shared, mine["path"].iloc[0])
    box = table["image_id"].map({mine["image_id"].iloc[0]: "0,0,20,20", twin["image_id"].iloc[0]: "20,0,20,20"})
    table.assign(path=path, bbox=box, bbox_unit=box.map(dict.fromkeys(box.dropna(), "pixels"))).to_csv(
        data / "metadata.csv", index=False
    )
    assert first_names() != {"animal 4", "twin"}


def test_an_individual_that_is_not_compared_is_told(
    data: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--weights", weights, "--out", tmp_path / "page", "--mode", "stranger")
    assert review(data, *options, "--individual", "animal 4") == 0
    assert {name for one in content(tmp_path / "page" / "review.html")["questions"] for name in one["names"]} == {
        "animal 4"
    }
    assert review(data, *options, "--individual", "nobody") == 2
    assert "expected individuals of the database, found 'nobody'" in capsys.readouterr().err
    # renamed since the galleries were made, which know it by the old name
    path = data / "metadata.csv"
    path.write_text(path.read_text().replace("animal 4,", "Freya,"))
    for name in ("Freya", "animal 4"):
        assert review(data, *options, "--individual", name) == 0
        asked = content(tmp_path / "page" / "review.html")["questions"]
        assert {name for one in asked for name in one["names"]} == {"animal 4"}


def test_known_photographs_are_compared_by_encoders_that_have_not_learned_their_names(
    original: Path, tiny_settings: list[str], tmp_path: Path
) -> None:
    """The first fold's vectors, which know most names, say nothing of photographs that other folds have not met."""
    folds = ("--set", "training.folds=2", "--set", "matching.cues=encoder", "--set", "calibration.scorers=distance")
    folder = tmp_path / "weights"
    assert cli.main(["train", str(original), "--out", str(folder), *tiny_settings, *folds]) == 0
    weights, shown = open_weights(folder), set(read_catalogue(original).database.image_ids)
    before = known_photographs(weights, weights.recipe, shown)
    assert before
    for dataset in weights.datasets:
        gallery = load_gallery(folder / gallery_file(dataset))
        vectors = torch.from_numpy(np.random.default_rng(0).normal(size=gallery.embeddings.vectors.shape)).float()
        changed = replace(gallery, embeddings=replace(gallery.embeddings, vectors=vectors))
        save_gallery(folder / gallery_file(dataset), changed)
    for one, other in zip(before, known_photographs(weights, weights.recipe, shown), strict=True):
        assert one.names.tolist() == other.names.tolist()
        assert np.array_equal(one.collection.pairs, other.collection.pairs)
        assert np.array_equal(one.collection.dissimilarity, other.collection.dissimilarity)
