"""Weights folders of earlier releases still load and still give the answers that their release gave.

`fixtures/weights-VERSION/` holds small ones; every query there is far from its threshold, so that another machine's
last digits change no answer (README.md there). Answers are compared, not digits.
"""

import json
import shutil
from pathlib import Path

import pytest

from reid import cli
from reid.config.recipe import SCORERS
from reid.config.settings import recipe_from_json
from reid.decision.artifact import open_weights
from reid.decision.metrics import read_submission

FIXTURES = Path(__file__).parent / "fixtures"
FOLDERS = sorted(path.parent.relative_to(FIXTURES).as_posix() for path in FIXTURES.glob("weights-*/*/answers.csv"))


def test_the_folders_of_each_release_are_there_and_small() -> None:
    assert {"weights-0.1.0/encoder", "weights-0.1.0/local"} <= set(FOLDERS)
    sizes = [path.stat().st_size for path in FIXTURES.glob("weights-0.1.0/**/*") if path.is_file()]
    assert sum(sizes) <= 2_000_000


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_of_an_earlier_release_gives_its_answers(name: str, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(FIXTURES / name, tmp_path / "release"))
    call = ["predict", str(folder / "data"), "--weights", str(folder / "weights"), "--out", str(tmp_path / "s.csv")]
    assert cli.main(call) == 0
    answers, expected = read_submission(tmp_path / "s.csv"), read_submission(folder / "answers.csv")
    assert answers.to_csv(index=False) == expected.to_csv(index=False)


def test_a_folder_of_0_1_0_says_what_it_says_in_the_words_of_this_version() -> None:
    encoder = open_weights(FIXTURES / "weights-0.1.0" / "encoder" / "weights")
    assert (encoder.recipe.name, encoder.recipe.backbone.name) == ("toy", "test_efficientnet")
    assert encoder.recipe.training.held_out_individuals == 0.35
    assert (encoder.precision, encoder.limit, encoder.caution) == ("float32", None, "")
    local = open_weights(FIXTURES / "weights-0.1.0" / "local" / "weights")
    assert (local.recipe.name, local.recipe.keypoints.count, local.precision) == ("keypoints", 40, "auto")


def test_every_recipe_that_0_1_0_shipped_is_read() -> None:
    stored = json.loads((FIXTURES / "weights-0.1.0" / "manifests" / "recipes-0.1.0.json").read_text())
    recipes = {name: recipe_from_json(recipe) for name, recipe in stored.items()}
    assert {name: recipe.name for name, recipe in recipes.items()} == {
        "seed": "paper", "baseline": "baseline", "local": "keypoints",
        "light": "frozen", "best": "finetuned", "toy": "toy",
    }  # fmt: skip
    for name in ("light", "best"):
        assert recipes[name].calibration.scorers == tuple(one for one in SCORERS if one != "ensemble")


def test_encoders_without_gem_tell_no_keypoints_on_the_animal_in_folders_of_earlier_versions() -> None:
    """They were calibrated without, and would answer otherwise."""
    stored = json.loads((FIXTURES / "weights-0.1.0" / "manifests" / "recipes-0.1.0.json").read_text())
    assert {recipe_from_json(recipe).keypoints.saliency for recipe in stored.values()} == {"gem"}
