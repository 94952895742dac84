"""Training from the first photograph to the weights folder: same seed same weights, resume, refusals, the whole job."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from processes import end, start
from safetensors.torch import load_file

from reid.config.presets import PRESETS
from reid.config.recipe import Recipe
from reid.config.runtime import Runtime
from reid.config.settings import override, with_settings
from reid.data.catalogue import Catalogue, read_catalogue
from reid.decision.artifact import open_weights
from reid.decision.calibration import load_calibrations
from reid.decision.enroll import enroll
from reid.decision.predict import predict
from reid.errors import InputError
from reid.models.networks import load_network
from reid.models.pretrained import describe_backbone
from reid.training.checkpoints import Checkpoint, lock_networks
from reid.training.networks import resolve_defaults, train_networks
from reid.training.run_folder import missing_networks, read_seconds
from reid.training.tasks import TrainingOptions
from reid.training.train import train

EditRows = Callable[[Callable[[pd.DataFrame], pd.DataFrame]], None]

NETWORKS = ["species.safetensors", "Checks.safetensors", "Dots.safetensors"]


@pytest.fixture(autouse=True)
def messages(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "reid")


def same_weights(a: Path, b: Path) -> bool:
    one, other = load_file(a), load_file(b)
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def killed(catalogue: Catalogue, recipe: Recipe, folder: Path, only: Sequence[str], after: int, name: str = "") -> None:
    """Trains, and ends as if killed after so many checkpoints (of the network of that name), one after every step; in
    these worlds an epoch is one step."""
    save, left = Checkpoint.save, [None] * after

    def dies(checkpoint: Checkpoint, state: dict[str, Any]) -> None:
        save(checkpoint, state)
        if checkpoint.path.name.startswith(name):
            left.pop()
        if not left:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Checkpoint, "save", dies)
        train_networks(catalogue, recipe, folder, TrainingOptions(only=tuple(only), save_every=0))


def test_the_same_seed_gives_the_same_weights(patterns: Path, tiny_recipe: Recipe, tmp_path: Path) -> None:
    for name, settings in (("a", ["seed=0"]), ("b", ["seed=0"]), ("c", ["seed=1"])):
        train_networks(read_catalogue(patterns), override(tiny_recipe, settings), tmp_path / name)
    for file in NETWORKS:
        assert same_weights(tmp_path / "a" / file, tmp_path / "b" / file)
        assert not same_weights(tmp_path / "a" / file, tmp_path / "c" / file)


def test_an_interrupted_training_is_resumed_to_the_same_weights(
    patterns: Path, tiny_recipe: Recipe, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    catalogue = read_catalogue(patterns)
    train_networks(catalogue, tiny_recipe, tmp_path / "straight")
    killed(catalogue, tiny_recipe, tmp_path / "broken", (), after=2, name="Dots")
    assert (tmp_path / "broken" / "Checks.safetensors").exists()
    assert not (tmp_path / "broken" / "Dots.safetensors").exists()
    train_networks(catalogue, tiny_recipe, tmp_path / "broken")
    assert "Dots: resuming after epoch 1, step 1 of the next" in caplog.text
    for file in NETWORKS:
        assert same_weights(tmp_path / "straight" / file, tmp_path / "broken" / file)


def test_training_stops_at_the_accuracy_that_is_asked_for(patterns: Path, tiny_recipe: Recipe, tmp_path: Path) -> None:
    recipe = override(tiny_recipe, ["training.stop_accuracy=0.01", "training.epochs=50"])
    train_networks(read_catalogue(patterns), recipe, tmp_path / "w")
    history = pd.read_csv(tmp_path / "w" / "training" / "Checks.history.csv")
    assert list(history["epoch"]) == [1, 2]  # a row per epoch; after every second one it is validated
    assert history["accuracy"].isna().tolist() == [True, False]
    assert history["accuracy"].iloc[-1] >= 0.01


def test_an_encoder_learns_from_neither_queries_nor_what_is_held_out(patterns_weights: Path, patterns: Path) -> None:
    table = read_catalogue(patterns).database.table.set_index("image_id")
    for dataset in ("Checks", "Dots"):
        learned = load_network(patterns_weights / f"{dataset}.safetensors").plan.trained_on
        own = table[table["dataset"] == dataset]
        assert set(learned) < set(own.index)
        photographs = own.loc[list(learned), "identity"].value_counts()
        assert len(photographs) == 5  # one individual of six is held out
        assert set(photographs) == {3, 4}  # and a photograph each of some others


def test_labels_reach_the_loss_with_their_own_photographs(patterns: Path, tiny_recipe: Recipe, tmp_path: Path) -> None:
    """A wrong join would leave these simple patterns unlearned."""
    recipe = override(
        tiny_recipe,
        ["training.epochs=30", "training.validate_every=30", "augmentation.kinds=", "training.held_out_individuals=0"],
    )
    train_networks(read_catalogue(patterns), recipe, tmp_path / "w")
    history = pd.read_csv(tmp_path / "w" / "training" / "Dots.history.csv")
    assert history["active"].iloc[-1] < 0.35
    assert history["loss"].iloc[-1] < np.log(2)


def test_another_recipe_or_other_data_is_refused_with_the_difference(
    patterns: Path, tiny_recipe: Recipe, tmp_path: Path, edit_rows: EditRows
) -> None:
    train_networks(read_catalogue(patterns), tiny_recipe, tmp_path / "w")
    with pytest.raises(InputError, match=r"recipe field training.epochs was 4, is 5.*--fresh"):
        train_networks(read_catalogue(patterns), override(tiny_recipe, ["training.epochs=5"]), tmp_path / "w")
    edit_rows(lambda table: table[table["image_id"] != "0"])
    with pytest.raises(InputError, match="the data has changed"):
        train_networks(read_catalogue(patterns), tiny_recipe, tmp_path / "w")
    train_networks(read_catalogue(patterns), tiny_recipe, tmp_path / "w", TrainingOptions(fresh=True))


def test_a_fresh_start_that_fails_leaves_the_old_weights_whole(
    patterns: Path, patterns_weights: Path, tiny_recipe: Recipe
) -> None:
    (patterns / read_catalogue(patterns).database.table["path"].iloc[0]).unlink()
    with pytest.raises(InputError, match="can't be read"):
        train_networks(read_catalogue(patterns), tiny_recipe, patterns_weights, TrainingOptions(fresh=True))
    assert open_weights(patterns_weights).datasets == ("Checks", "Dots")


def test_a_call_that_failed_before_any_training_can_be_fixed(
    patterns: Path, tiny_recipe: Recipe, tmp_path: Path
) -> None:
    catalogue = read_catalogue(patterns)
    (tmp_path / "init.pth").write_bytes(b"no weights")
    with pytest.raises(InputError, match="expected a state dict"):
        train_networks(catalogue, tiny_recipe, tmp_path / "w", TrainingOptions(init=tmp_path / "init.pth"))
    train_networks(catalogue, tiny_recipe, tmp_path / "w")


def test_fresh_removes_only_what_training_writes(patterns: Path, tiny_recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "notes.txt").write_text("mine")
    train_networks(read_catalogue(patterns), tiny_recipe, tmp_path / "w", TrainingOptions(fresh=True))
    assert (tmp_path / "w" / "notes.txt").read_text() == "mine"


def test_a_photograph_that_cannot_be_read_stops_training_unless_the_recipe_skips_it(
    patterns: Path, tiny_recipe: Recipe, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    catalogue = read_catalogue(patterns)
    broken = catalogue.database.table.iloc[3]
    (patterns / broken["path"]).write_bytes(b"\xff\xd8 no photograph")
    with pytest.raises(
        InputError, match=rf"1 photographs can't be read.*row 5 \(image_id {broken['image_id']},.*skip_unreadable=true"
    ):
        train_networks(catalogue, tiny_recipe, tmp_path / "w")
    train_networks(catalogue, override(tiny_recipe, ["data.skip_unreadable=true"]), tmp_path / "w")
    assert f"image_id {broken['image_id']}" in caplog.text
    assert broken["image_id"] not in load_network(tmp_path / "w" / "Checks.safetensors").plan.trained_on


def test_a_dataset_without_database_rows_is_left_out_and_its_queries_are_called_new(
    patterns: Path, tmp_path: Path, edit_rows: EditRows, caplog: pytest.LogCaptureFixture
) -> None:
    edit_rows(lambda table: table[(table["dataset"] != "Dots") | (table["split"] == "query")])
    recipe = with_settings(PRESETS["keypoints"], {"keypoints.size": 64, "calibration.splits": 2})
    weights = train(read_catalogue(patterns), recipe, tmp_path / "w")
    words = "dataset Dots has 14 query rows and no known photograph (database row): nobody can be named there"
    assert [words in line for line in caplog.messages].count(True) == 1
    assert weights is not None
    assert weights.datasets == ("Checks",)
    queries = predict(read_catalogue(patterns), weights).queries
    assert set(queries["flags"][queries["dataset"] == "Dots"]) == {"no_gallery"}


def test_one_individual_alone_cannot_be_trained_on(
    patterns: Path, tiny_recipe: Recipe, tmp_path: Path, edit_rows: EditRows
) -> None:
    edit_rows(
        lambda table: table.assign(identity=table["identity"].mask(table["identity"].str.startswith("Dots"), "Dots_0"))
    )
    with pytest.raises(InputError, match=r"dataset Dots: an encoder needs two individuals.*found 1"):
        train_networks(read_catalogue(patterns), tiny_recipe, tmp_path / "w")


def test_individuals_with_one_photograph_are_warned_of(
    patterns: Path, tiny_recipe: Recipe, tmp_path: Path, edit_rows: EditRows, caplog: pytest.LogCaptureFixture
) -> None:
    edit_rows(
        lambda table: table[
            ~table["identity"].duplicated() | (table["split"] == "query") | (table["dataset"] == "Checks")
        ]
    )
    train_networks(read_catalogue(patterns), override(tiny_recipe, ["training.epochs=1"]), tmp_path / "w")
    assert "Dots: every individual to learn from has one photograph; only augmented copies" in caplog.text
    assert "Checks: 5 individuals to learn from, fewer than the P = 16 of a batch" in caplog.text


def test_a_classification_loss_learns_from_individuals_with_one_photograph(
    patterns: Path, tiny_recipe: Recipe, tmp_path: Path, edit_rows: EditRows
) -> None:
    edit_rows(lambda table: table[~table["identity"].duplicated() | (table["split"] == "query")])
    recipe = override(tiny_recipe, ["loss.classification=arcface", "loss.triplet_weight=0", "training.epochs=12"])
    train_networks(read_catalogue(patterns), recipe, tmp_path / "w")
    history = pd.read_csv(tmp_path / "w" / "training" / "Dots.history.csv")
    assert history["classification"].iloc[-1] < history["classification"].iloc[0]


# a frozen backbone, one encoder for all datasets


def backbone_of(file: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in load_file(file).items() if name.startswith("backbone.")}


def test_a_frozen_backbone_is_the_same_in_every_network_and_its_heads_learn(
    patterns: Path, tiny_recipe: Recipe, tmp_path: Path
) -> None:
    recipe = override(
        tiny_recipe,
        [
            "training.backbone_rate=0",
            "augmentation.feature_views=2",
            "head.neck=bnneck",
            "training.epochs=20",
            "training.learning_rate=0.01",
        ],
    )
    train_networks(read_catalogue(patterns), recipe, tmp_path / "w")
    backbones = [backbone_of(tmp_path / "w" / file) for file in NETWORKS]
    for name, tensor in backbones[0].items():
        assert torch.equal(tensor, backbones[1][name])
        assert torch.equal(tensor, backbones[2][name])
    history = pd.read_csv(tmp_path / "w" / "training" / "Dots.history.csv")
    assert history["loss"].iloc[-1] < history["loss"].iloc[0]


@pytest.mark.parametrize(
    ("settings", "precision"),
    [
        (["head.embedding_size=8"], "float32"),
        (["head.embedding_size=0", "head.normalise=true"], "float32"),
        (["head.embedding_size=8"], "bfloat16"),
    ],
)
def test_photographs_that_a_frozen_backbone_has_embedded_are_not_opened_again_to_enrol(
    settings: list[str],
    precision: str,
    patterns: Path,
    tiny_recipe: Recipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = [
        *settings,
        "training.backbone_rate=0",
        "augmentation.feature_views=1",
        "training.folds=2",
        "head.neck=bnneck",
        "backbone.pooling=gem",
        "data.skip_unreadable=true",
    ]
    recipe, runtime = override(tiny_recipe, settings), Runtime(precision=precision, batch_size=7)
    catalogue = read_catalogue(patterns)
    cut = catalogue.paths[0]
    cut.write_bytes(cut.read_bytes()[:200])
    folder = tmp_path / "w"
    train_networks(catalogue, recipe, folder, TrainingOptions(runtime=runtime))
    opened: list[Path] = []

    def watched(path: Path, *words: Any, **named: Any) -> Any:
        opened.append(path)
        return open(path, *words, **named)

    monkeypatch.setattr("reid.data.photographs.open", watched, raising=False)
    enroll(catalogue, folder, ["Checks", "Dots"], recipe, runtime)
    assert set(opened) == {cut}  # a photograph that can't be read is in no cache
    galleries = {path: path.read_bytes() for path in folder.rglob("*.gallery.safetensors")}
    assert len(galleries) == 4
    for cache in list(folder.rglob("cache")):
        shutil.rmtree(cache)
    enroll(catalogue, folder, ["Checks", "Dots"], recipe, runtime)
    assert set(opened) == set(catalogue.database.paths)
    assert {path: path.read_bytes() for path in galleries} == galleries


def test_a_frozen_backbone_without_a_head_has_learned_from_nobody(
    patterns: Path, tiny_recipe: Recipe, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = override(tiny_recipe, ["training.backbone_rate=0", "head.embedding_size=0", "head.normalise=true"])
    train_networks(read_catalogue(patterns), recipe, tmp_path / "w")
    assert "Dots: not trained" in caplog.text
    assert load_network(tmp_path / "w" / "Dots.safetensors").plan.trained_on == ()


def test_a_shared_encoder_learns_from_all_datasets_and_each_takes_it(
    patterns: Path, tiny_recipe: Recipe, tmp_path: Path
) -> None:
    recipe = override(tiny_recipe, ["training.shared=true", "loss.classification=softmax"])
    train_networks(read_catalogue(patterns), recipe, tmp_path / "w")
    assert same_weights(tmp_path / "w" / "Checks.safetensors", tmp_path / "w" / "Dots.safetensors")
    plan = load_network(tmp_path / "w" / "Dots.safetensors").plan
    datasets = read_catalogue(patterns).table.set_index("image_id").loc[list(plan.trained_on), "dataset"]
    assert set(datasets) == {"Checks", "Dots"}


def test_a_shared_encoder_of_another_recipe_is_not_resumed(patterns: Path, tiny_recipe: Recipe, tmp_path: Path) -> None:
    """The shared encoder was finished, the first dataset's not yet written when the run was stopped."""
    recipe, catalogue = override(tiny_recipe, ["training.shared=true"]), read_catalogue(patterns)
    train_networks(catalogue, recipe, tmp_path / "w")
    for file in NETWORKS:
        (tmp_path / "w" / file).unlink()
    with pytest.raises(InputError, match=r"recipe field training.epochs was 4, is 5"):
        train_networks(catalogue, override(recipe, ["training.epochs=5"]), tmp_path / "w")


def test_fresh_trains_the_shared_encoder_anew(patterns: Path, tiny_recipe: Recipe, tmp_path: Path) -> None:
    recipe, catalogue = override(tiny_recipe, ["training.shared=true", "training.epochs=1"]), read_catalogue(patterns)
    train_networks(catalogue, override(recipe, ["seed=1"]), tmp_path / "w")
    train_networks(catalogue, recipe, tmp_path / "w", TrainingOptions(fresh=True))
    train_networks(catalogue, recipe, tmp_path / "straight")
    assert same_weights(tmp_path / "straight" / "Dots.safetensors", tmp_path / "w" / "Dots.safetensors")


def test_a_training_that_was_killed_starts_over_with_fresh(
    patterns: Path, tiny_recipe: Recipe, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    catalogue, recipe = read_catalogue(patterns), override(tiny_recipe, ["training.epochs=2"])
    killed(catalogue, tiny_recipe, tmp_path / "w", ["Dots"], after=3)
    left = {path: path.read_bytes() for path in (tmp_path / "w" / "training").glob("Dots.*")}
    assert "Dots.checkpoint.pt" in {path.name for path in left}
    with pytest.raises(InputError, match=r"training.epochs was 4, is 2.* or start over with --fresh and without"):
        train_networks(catalogue, recipe, tmp_path / "w", TrainingOptions(only=("Dots",)))
    assert {path: path.read_bytes() for path in left} == left
    for folder in ("w", "straight"):
        train_networks(catalogue, recipe, tmp_path / folder, TrainingOptions(only=("Dots",), fresh=True))
        assert not list((tmp_path / folder / "training").glob("*checkpoint*"))
    assert "resuming" not in caplog.text
    assert same_weights(tmp_path / "straight" / "Dots.safetensors", tmp_path / "w" / "Dots.safetensors")


@pytest.mark.parametrize(("stays", "goes"), [("Dots", "Dots.1"), ("Dots.1", "Dots"), ("species", "Dots")])
def test_fresh_spares_a_dataset_whose_name_begins_alike(
    stays: str,
    goes: str,
    patterns: Path,
    tiny_recipe: Recipe,
    tmp_path: Path,
    edit_rows: EditRows,
    caplog: pytest.LogCaptureFixture,
) -> None:
    edit_rows(lambda table: table.assign(dataset=table["dataset"].replace("Checks", "Dots.1")))
    catalogue, recipe = read_catalogue(patterns), override(tiny_recipe, ["classifier.epochs=4"])
    killed(catalogue, recipe, tmp_path / "w", [stays], after=3)  # of four
    left = {path: path.read_bytes() for path in (tmp_path / "w").rglob("*") if path.is_file()}
    assert any("checkpoint" in path.name for path in left)
    killed(catalogue, recipe, tmp_path / "w", [goes], after=3)
    train_networks(catalogue, recipe, tmp_path / "w", TrainingOptions(only=(goes,), fresh=True))
    assert "resuming" not in caplog.text
    assert {path: path.read_bytes() for path in left} == left
    train_networks(catalogue, recipe, tmp_path / "w", TrainingOptions(only=(stays,)))
    assert "resuming" in caplog.text


def test_the_backbone_fills_in_what_the_recipe_leaves_open() -> None:
    recipe = resolve_defaults(
        with_settings(Recipe(), {"backbone.image_size": 0}), describe_backbone("resnet50.tv_in1k")
    )
    assert (recipe.backbone.image_size, recipe.backbone.interpolation) == (224, "bilinear")
    assert resolve_defaults(recipe, describe_backbone("vit_small_patch14_dinov2")) == recipe  # what is chosen stays


def test_history_has_a_row_per_epoch_with_what_a_person_wants_to_see(
    patterns: Path, tiny_recipe: Recipe, tmp_path: Path
) -> None:
    recipe = override(tiny_recipe, ["loss.classification=softmax", "training.held_out_individuals=0.4"])
    train_networks(read_catalogue(patterns), recipe, tmp_path / "w")
    history = pd.read_csv(tmp_path / "w" / "training" / "Dots.history.csv")
    assert list(history["epoch"]) == [1, 2, 3, 4]
    assert set(history) == {
        "epoch", "loss", "norm", "triplet", "active", "positive", "negative", "classification", "learning_rate",
        "images_per_second", "accuracy", "open_set_score",
    }  # fmt: skip
    assert history["open_set_score"].notna().tolist() == [False, True, False, True]
    assert np.allclose(history["loss"], history["triplet"] + history["classification"])


def test_a_single_dataset_needs_no_species_classifier(
    patterns: Path, tiny_recipe: Recipe, tmp_path: Path, edit_rows: EditRows
) -> None:
    edit_rows(lambda table: table[table["dataset"] == "Dots"])
    train_networks(read_catalogue(patterns), tiny_recipe, tmp_path / "w")
    assert sorted(path.name for path in (tmp_path / "w").glob("*.safetensors")) == ["Dots.safetensors"]


def test_weights_from_elsewhere_are_not_overwritten(
    patterns: Path, patterns_weights: Path, tiny_recipe: Recipe
) -> None:
    shutil.rmtree(patterns_weights / "training")
    with pytest.raises(InputError, match=r"found weights from elsewhere.*--fresh"):
        train_networks(read_catalogue(patterns), tiny_recipe, patterns_weights)


def test_networks_trained_one_by_one_are_those_of_one_run(patterns: Path, tiny_recipe: Recipe, tmp_path: Path) -> None:
    catalogue = read_catalogue(patterns)
    train_networks(catalogue, tiny_recipe, tmp_path / "whole")
    for name, left in (("Dots", ["species", "Checks"]), ("species", ["Checks"]), ("Checks", [])):
        train_networks(catalogue, tiny_recipe, tmp_path / "parts", TrainingOptions(only=(name,)))
        assert missing_networks(tmp_path / "parts", NETWORKS, tiny_recipe) == left
    for file in NETWORKS:
        assert same_weights(tmp_path / "whole" / file, tmp_path / "parts" / file)
    before = (tmp_path / "parts" / "Checks.safetensors").stat().st_mtime_ns
    train_networks(catalogue, tiny_recipe, tmp_path / "parts", TrainingOptions(only=("Dots",), fresh=True))
    assert (tmp_path / "parts" / "Checks.safetensors").stat().st_mtime_ns == before
    with pytest.raises(InputError, match=r"--only Dot: expected some of species, Checks, Dots, found 'Dot'"):
        train_networks(catalogue, tiny_recipe, tmp_path / "parts", TrainingOptions(only=("Dot",)))
    with pytest.raises(InputError, match=r"recipe field training.epochs was 4, is 5"):
        train_networks(
            catalogue,
            override(tiny_recipe, ["training.epochs=5"]),
            tmp_path / "parts",
            TrainingOptions(only=("Dots",), fresh=True),
        )


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
@pytest.mark.parametrize("settings", [[], ["matching.cues=local", "calibration.scorers=local"]])
def test_a_gpu_that_is_asked_for_and_not_there_is_refused(
    patterns: Path, tiny_recipe: Recipe, tmp_path: Path, settings: list[str]
) -> None:
    recipe, options = override(tiny_recipe, settings), TrainingOptions(runtime=Runtime(device="cuda"))
    with pytest.raises(InputError, match=r"expected a GPU with CUDA, found none"):
        train_networks(read_catalogue(patterns), recipe, tmp_path / "w", options)
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize(("backbone", "size", "scales"), [("dla46x_c", 64, "0.75"), ("test_vit", 64, "1,0.5")])
def test_scales_that_the_backbone_cannot_take_are_refused_before_anything_is_trained(
    patterns: Path, tiny_recipe: Recipe, tmp_path: Path, backbone: str, size: int, scales: str
) -> None:
    settings = [f"backbone.name={backbone}", f"backbone.image_size={size}", f"prediction.scales={scales}"]
    with pytest.raises(InputError, match=rf"recipe field prediction\.scales: the backbone {backbone} .*; set it to"):
        train_networks(read_catalogue(patterns), override(tiny_recipe, settings), tmp_path / "w")
    assert not (tmp_path / "w").exists()


# a recipe that trains no network


LOCAL = ["matching.cues=local", "calibration.scorers=local"]


def test_a_folder_belongs_to_one_run_though_it_trains_no_network(
    patterns: Path, patterns_weights: Path, tiny_recipe: Recipe, edit_rows: EditRows
) -> None:
    """What `enroll` and `calibrate` would write over."""
    catalogue, local = read_catalogue(patterns), override(tiny_recipe, LOCAL)
    before = {path: path.read_bytes() for path in patterns_weights.rglob("*.*") if path.suffix != ".lock"}
    with pytest.raises(InputError, match=r"run with other settings \(recipe field matching.cues was .*--fresh"):
        train_networks(catalogue, local, patterns_weights)
    assert {path: path.read_bytes() for path in before} == before
    train_networks(catalogue, local, patterns_weights, TrainingOptions(fresh=True))
    assert {path.name for path in patterns_weights.rglob("*.*") if "Dots" in path.name} == {"Dots.lock"}
    assert not any((patterns_weights / name).exists() for name in ("manifest.json", "calibration.json"))
    (patterns_weights / "Dots.gallery.safetensors").write_bytes(b"as enroll leaves it")
    train_networks(catalogue, local, patterns_weights)
    with pytest.raises(InputError, match=r"run with other settings \(recipe field matching.cues was .*--fresh"):
        train_networks(catalogue, tiny_recipe, patterns_weights)
    edit_rows(lambda table: table[table["image_id"] != "0"])
    with pytest.raises(InputError, match="the data has changed"):
        train_networks(read_catalogue(patterns), local, patterns_weights)


def test_a_run_without_networks_is_kept_out_by_a_lock_too(patterns: Path, tiny_recipe: Recipe, tmp_path: Path) -> None:
    with lock_networks(tmp_path / "w" / "training", ["Dots"]):
        assert end(start(patterns, override(tiny_recipe, LOCAL), tmp_path / "w")) == [2]
    assert "another run is training Dots here" in (tmp_path / "w.0.log").read_text()
    assert [path.name for path in (tmp_path / "w" / "training").glob("*.json")] == []


def test_networks_that_a_recipe_does_not_train_cannot_be_chosen(
    patterns: Path, tiny_recipe: Recipe, tmp_path: Path
) -> None:
    catalogue, recipe = read_catalogue(patterns), override(tiny_recipe, LOCAL)
    for name in ("Dots", "nonsense"):
        with pytest.raises(InputError, match=rf"--only {name}: expected a recipe with networks .*Leave --only out"):
            train_networks(catalogue, recipe, tmp_path / "w", TrainingOptions(only=(name,)))
    assert not (tmp_path / "w").exists()


def test_a_fresh_start_without_networks_that_fails_leaves_the_old_weights_whole(
    patterns: Path, patterns_weights: Path, tiny_recipe: Recipe
) -> None:
    catalogue = read_catalogue(patterns)
    shutil.rmtree(patterns / "images" / "Dots" / "database")
    with pytest.raises(InputError, match="dataset Dots: none of its photographs can be read"):
        train_networks(catalogue, override(tiny_recipe, LOCAL), patterns_weights, TrainingOptions(fresh=True))
    assert open_weights(patterns_weights).datasets == ("Checks", "Dots")


# the whole job


def test_the_whole_job_leaves_a_complete_folder_and_is_resumed(
    patterns: Path, tiny_recipe: Recipe, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    catalogue, folder = read_catalogue(patterns), tmp_path / "w"
    assert train(catalogue, tiny_recipe, folder, only=["species", "Dots"]) is None
    assert missing_networks(folder, NETWORKS, tiny_recipe) == ["Checks"]
    weights = train(catalogue, tiny_recipe, folder)
    assert weights is not None
    assert weights.manifest["files"] == open_weights(folder).manifest["files"]
    assert weights.precision == "float32"  # what the preset toy asks for
    assert set(load_calibrations(weights)) == {"Checks", "Dots"}
    seconds = read_seconds(folder)
    assert set(seconds) == {"train", "enroll", "calibrate"}
    networks = {file: (folder / file).stat().st_mtime_ns for file in NETWORKS}
    again = train(catalogue, override(tiny_recipe, ["calibration.splits=6"]), folder)
    assert again is not None
    assert again.recipe.calibration.splits == 6
    assert "made with other settings than before: calibration.splits 5 -> 6" in caplog.text
    assert {file: (folder / file).stat().st_mtime_ns for file in NETWORKS} == networks
    assert all(read_seconds(folder)[name] >= seconds[name] for name in seconds)


def test_a_limited_job_says_so_in_its_folder(patterns: Path, tiny_recipe: Recipe, tmp_path: Path) -> None:
    catalogue, local = read_catalogue(patterns), override(tiny_recipe, LOCAL)
    for limit, recorded in ((12, 12), (1000, None)):  # of 24 photographs of each dataset
        weights = train(catalogue, local, tmp_path / f"{limit}", limit=limit)
        assert weights is not None
        assert weights.limit == recorded
        assert weights.manifest["data"] == catalogue.limited(limit).database.fingerprint


def test_a_recipe_for_trained_weights_that_starts_from_random_ones_is_warned_of(
    patterns: Path, tiny_recipe: Recipe, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = override(tiny_recipe, ["training.backbone_rate=0", "training.epochs=1"])
    train(read_catalogue(patterns), recipe, tmp_path / "w", only=["Dots"])
    assert "backbone.init=none starts from random weights, and nothing trains the backbone" in caplog.text
