"""A weights folder is complete or refused: every way in which it can be damaged, in words."""

import json
from pathlib import Path

import pytest

from reid import cli
from reid.config.presets import PRESETS
from reid.decision.artifact import (
    CALIBRATION,
    GALLERY,
    encoder_file,
    gallery_file,
    open_weights,
    upgrade_calibration,
    write_manifest,
)
from reid.errors import InputError
from reid.models.new_networks import build_network, plan_network, save_network


def edit_manifest(folder: Path, **changes: object) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, **changes}))


def test_what_training_wrote_is_complete(patterns_weights: Path) -> None:
    weights = open_weights(patterns_weights)
    assert weights.datasets == ("Checks", "Dots")
    assert weights.has_species
    assert weights.recipe.backbone.name == "test_resnet"
    assert set(weights.manifest["files"]) == {
        "species.safetensors", "calibration.json",
        "Checks.safetensors", "Checks.gallery.safetensors", "Dots.safetensors", "Dots.gallery.safetensors",
        "Checks.reference.safetensors", "Dots.reference.safetensors",
    }  # fmt: skip


def test_no_pickle_lies_in_it(patterns_weights: Path) -> None:
    files = [path for path in patterns_weights.rglob("*") if path.is_file() and "tensorboard" not in path.parts]
    assert {path.suffix for path in files} == {".safetensors", ".json", ".csv", ".lock", ".sqlite"}
    assert not [path for path in files if path.suffix == ".lock" and b"\x80" in path.read_bytes()]  # words, no pickle


@pytest.mark.parametrize("name", ["species.safetensors", "Dots.gallery.safetensors", "calibration.json"])
@pytest.mark.parametrize("damage", ["cut", "flip", "gone"])
def test_a_damaged_file_is_named(patterns_weights: Path, name: str, damage: str) -> None:
    path = patterns_weights / name
    content = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(content[:-1])
    else:
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    words = "it is not there" if damage == "gone" else "expected sha256"
    with pytest.raises(InputError, match=rf"{name}: .*{words}.*[Cc]opy the weights folder again"):
        open_weights(patterns_weights)


def test_galleries_that_are_about_to_be_made_again_are_not_checked(patterns_weights: Path) -> None:
    (patterns_weights / "Dots.gallery.safetensors").unlink()
    remade = (GALLERY, CALIBRATION)
    assert open_weights(patterns_weights, remade).datasets == ("Checks", "Dots")
    (patterns_weights / "Dots.safetensors").unlink()
    with pytest.raises(InputError, match=r"Dots\.safetensors"):
        open_weights(patterns_weights, remade)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": 3}, r"expected format 1 to 2, found 3\. Another version of this kit wrote it: use that one"),
        ({"files": {"../outside": "0"}}, r"the manifest lists this file, but it is not there"),
        ({"files": 3}, r"it is damaged .*; copy the weights folder again, or run the training's command again"),
        (
            {"recipe": {"name": "paper", "loss": {"hinge": 1}}},
            "found loss.hinge, which neither this version of the kit nor",
        ),
        ({"recipe": {}}, "it is damaged"),
        ({"precision": 16}, "it is damaged"),
    ],
)
def test_a_manifest_that_cannot_be_meant_is_refused(patterns_weights: Path, changes: dict, words: str) -> None:
    edit_manifest(patterns_weights, **changes)
    with pytest.raises(InputError, match=words):
        open_weights(patterns_weights)


@pytest.mark.parametrize("content", ["", "[1, 2]", "{", '"text"'])
def test_a_manifest_that_is_none_is_refused(patterns_weights: Path, content: str) -> None:
    (patterns_weights / "manifest.json").write_text(content)
    with pytest.raises(InputError, match=r"manifest\.json: expected (JSON.* run the training's command again|format)"):
        open_weights(patterns_weights)


@pytest.mark.parametrize("damage", ["{", '{"format": 1}'])
def test_a_damaged_manifest_is_written_again_by_the_command_that_trained(
    patterns: Path, patterns_weights: Path, tiny_settings: list[str], damage: str
) -> None:
    manifest = patterns_weights / "manifest.json"
    before = manifest.read_bytes()
    manifest.write_text(damage)
    with pytest.raises(InputError, match=r"copy the weights folder again, or run the training's command again"):
        open_weights(patterns_weights)
    assert cli.main(["train", str(patterns), "--out", str(patterns_weights), *tiny_settings]) == 0
    assert manifest.read_bytes() == before


def test_an_unfinished_or_missing_folder_is_told_apart(patterns_weights: Path, tmp_path: Path) -> None:
    (patterns_weights / "manifest.json").unlink()
    with pytest.raises(InputError, match=r"was training finished\?.*`reid train` makes one"):
        open_weights(patterns_weights)
    with pytest.raises(InputError, match="found no such folder"):
        open_weights(tmp_path / "nowhere")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A weights folder of a single dataset with a small encoder; nothing here reads the other files."""
    plan = plan_network("test_resnet", 32, embedding_size=2, trained_on=("1", "2"))
    save_network(tmp_path / encoder_file("Dots"), build_network(plan, 0, "none"))
    for name in (gallery_file("Dots"), CALIBRATION):
        (tmp_path / name).write_text(name)
    write_manifest(tmp_path, PRESETS["toy"], ["Dots"], fingerprint="f")
    return tmp_path


def test_the_manifest_says_what_each_network_expects_of_photographs(folder: Path) -> None:
    network = json.loads((folder / "manifest.json").read_text())["networks"]["Dots.safetensors"]
    assert (network["backbone"], network["image_size"], network["interpolation"]) == ("test_resnet", 32, "bilinear")
    assert network["mean"] == [0.5, 0.5, 0.5]
    assert network["trained_on"] == 2


def test_a_folder_is_opened_as_it_was_written(folder: Path) -> None:
    weights = open_weights(folder)
    assert (weights.recipe, weights.datasets, weights.has_species) == (PRESETS["toy"], ("Dots",), False)
    assert (weights.manifest["data"], weights.limit, weights.precision, weights.caution) == ("f", None, "auto", "")
    assert open_weights(str(folder)) == weights


def test_a_dataset_called_backbone_is_known(tmp_path: Path) -> None:
    save_network(tmp_path / encoder_file("backbone"), build_network(plan_network("test_resnet", 32), 0, "none"))
    for name in (gallery_file("backbone"), CALIBRATION):
        (tmp_path / name).write_text(name)
    assert write_manifest(tmp_path, PRESETS["toy"], ["backbone"], fingerprint="f").backbone is None


def test_precision_and_limit_are_facts_of_the_folder(folder: Path) -> None:
    write_manifest(folder, PRESETS["toy"], ["Dots"], "f", limit=7, precision="bfloat16")
    weights = open_weights(folder)
    assert (weights.limit, weights.precision) == (7, "bfloat16")
    assert weights.caution == (
        f"{folder}: trained on part of the database only (--limit 7): good for a quick look, not for a submission"
    )


def test_a_recipe_that_lacks_a_field_takes_the_default(folder: Path) -> None:
    """One that is newer than the folder: it must not make every folder unreadable."""
    recipe = json.loads((folder / "manifest.json").read_text())["recipe"]
    del recipe["loss"]["margin"]
    del recipe["prediction"]
    edit_manifest(folder, recipe=recipe)
    weights = open_weights(folder)
    assert (weights.recipe.loss.margin, weights.recipe.prediction) == (0.3, PRESETS["paper"].prediction)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": 0}, "expected format 1 to 2, found 0. Another version of this kit wrote it"),
        ({"format": "1"}, "expected format 1 to 2, found '1'"),
        ({"format": True}, "expected format 1 to 2, found True"),
        ({"datasets": ["Dots", "Checks"]}, "no hash of Checks.safetensors"),
        ({"datasets": ["../Dots"]}, "no hash of ../Dots.safetensors"),
        ({"files": {}}, "no hash of calibration.json"),
        ({"files": {CALIBRATION: None}}, "calibration.json: expected sha256 None"),
        ({"files": {"/etc/passwd": "0"}}, "the manifest lists this file, but it is not there"),
        ({"files": {"..": "0"}}, "the manifest lists this file, but it is not there"),
        ({"recipe": {"name": "toy", "training": {"epochs": "many"}}}, "recipe field training.epochs: expected a whole"),
        ({"recipe": {"name": "toy", "epochs": -1}}, "recipe field training.epochs: expected 0 to"),
        ({"datasets": None}, "it is damaged"),
    ],
)
def test_no_file_is_opened_that_has_no_hash_or_lies_elsewhere(folder: Path, changes: dict, words: str) -> None:
    edit_manifest(folder, **changes)
    with pytest.raises(InputError) as caught:
        open_weights(folder)
    assert words in str(caught.value)


@pytest.mark.parametrize("name", [encoder_file("Dots"), gallery_file("Dots"), CALIBRATION])
def test_every_byte_of_every_file_counts(folder: Path, name: str) -> None:
    whole = (folder / name).read_bytes()
    for place in range(0, len(whole), -(-len(whole) // 50)):  # every byte of a small file
        (folder / name).write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(InputError, match=f"{name}: expected sha256"):
            open_weights(folder)
    (folder / name).write_bytes(whole)
    assert open_weights(folder)


def test_a_calibration_of_0_1_0_is_read_in_the_words_of_this_version() -> None:
    decision = {"scorer": {"kind": "mean", "fitted": {"focused": [1.0, []]}}, "contenders": {"focused_inliers": 0.5}}
    assert upgrade_calibration({"Dots": {**decision, "unit": 1.0}}) == {
        "Dots": {
            "scorer": {"kind": "mean", "fitted": {"foreground": [1.0, []]}},
            "scorer_scores": {"foreground_inliers": 0.5},
            "unit": 1.0,
        }
    }
