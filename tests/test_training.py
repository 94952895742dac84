"""Training from the first photograph to the weights folder: same seed same weights, resume, refusals."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from processes import end, start
from safetensors.torch import load_file

from reid.config.recipe import Recipe, override
from reid.config.settings import with_settings
from reid.data.catalogue import Catalogue, read_catalogue
from reid.decision.artifact import open_weights
from reid.decision.enroll import enroll
from reid.errors import InputError
from reid.models.backbones import describe_backbone
from reid.models.networks import load_network
from reid.training import tasks
from reid.training.checkpoints import Checkpoint, lock_networks
from reid.training.loop import resolve_defaults, train_networks
from reid.training.run_folder import missing_networks

NETWORKS = ["species.safetensors", "Checks.safetensors", "Dots.safetensors"]


def same_weights(a: Path, b: Path) -> bool:
    one, other = load_file(a), load_file(b)
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def killed(catalogue: Catalogue, recipe: Recipe, folder: Path, only: Sequence[str], after: int, name: str = "") -> None:
    """Trains and ends without a word behind so many checkpoints (of the network of that name), one after every step; in
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
        train_networks(catalogue, recipe, folder, only=only, save_every=0)


def test_the_same_seed_gives_the_same_weights(patterns: Path, tiny_recipe: Recipe, tmp_path: Path) -> None:
    for name, settings in (("a", ["seed=0"]), ("b", ["seed=0"]), ("c", ["seed=1"])):
        train_networks(read_catalogue(patterns), override(tiny_recipe, settings), tmp_path / name)
    for file in NETWORKS:
        assert same_weights(tmp_path / "a" / file, tmp_path / "b" / file)
        assert not same_weights(tmp_path / "a" / file, tmp_path / "c" / file)


def test_an_interrupted_training_goes_on_to_the_same_weights(
    patterns: Path, tiny_recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    catalogue = read_catalogue(patterns)
    train_networks(catalogue, tiny_recipe, tmp_path / "straight")
    killed(catalogue, tiny_recipe, tmp_path / "broken", (), after=2, name="Dots")
    assert (tmp_path / "broken" / "Checks.safetensors").exists()
    assert not (tmp_path / "broken" / "Dots.safetensors").exists()
    train_networks(catalogue, tiny_recipe, tmp_path / "broken")
    assert "Dots: going on after epoch 1, step 1 of the next" in capsys.readouterr().out
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
    patterns: Path, tiny_recipe: Recipe, tmp_path: Path, edit_rows: Callable
) -> None:
    train_networks(read_catalogue(patterns), tiny_recipe, tmp_path / "w")
    with pytest.raises(InputError, match=r"recipe field epochs was 4, is 5.*--fresh"):
        train_networks(read_catalogue(patterns), override(tiny_recipe, ["training.epochs=5"]), tmp_path / "w")
    edit_rows(lambda table: table[table["image_id"] != "0"])
    with pytest.raises(InputError, match="the data has changed"):
        train_networks(read_catalogue(patterns), tiny_recipe, tmp_path / "w")
    train_networks(read_catalogue(patterns), tiny_recipe, tmp_path / "w", fresh=True)


def test_a_fresh_start_that_fails_leaves_the_old_weights_whole(
    patterns: Path, patterns_weights: Path, tiny_recipe: Recipe
) -> None:
    (patterns / read_catalogue(patterns).database.table["path"].iloc[0]).unlink()
    with pytest.raises(InputError, match="can't be read"):
        train_networks(read_catalogue(patterns), tiny_recipe, patterns_weights, fresh=True)
    assert open_weights(patterns_weights).datasets == ("Checks", "Dots")


def test_a_call_that_failed_before_any_training_can_be_mended(
    patterns: Path, tiny_recipe: Recipe, tmp_path: Path
) -> None:
    (tmp_path / "init.pth").write_bytes(b"no weights")
    with pytest.raises(InputError, match="expected a state dict"):
        train_networks(read_catalogue(patterns), tiny_recipe, tmp_path / "w", init=tmp_path / "init.pth")
    train_networks(read_catalogue(patterns), tiny_recipe, tmp_path / "w")


def test_fresh_removes_only_what_training_writes(patterns: Path, tiny_recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "notes.txt").write_text("mine")
    train_networks(read_catalogue(patterns), tiny_recipe, tmp_path / "w", fresh=True)
    assert (tmp_path / "w" / "notes.txt").read_text() == "mine"


def test_a_photograph_that_cannot_be_read_stops_training_unless_told_otherwise(
    patterns: Path, tiny_recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    catalogue = read_catalogue(patterns)
    broken = catalogue.database.table.iloc[3]
    (patterns / broken["path"]).write_bytes(b"\xff\xd8 no photograph")
    with pytest.raises(
        InputError, match=rf"1 photographs can't be read.*row 5 \(image_id {broken['image_id']},.*skip_unreadable=true"
    ):
        train_networks(catalogue, tiny_recipe, tmp_path / "w")
    train_networks(catalogue, override(tiny_recipe, ["data.skip_unreadable=true"]), tmp_path / "w")
    assert f"image_id {broken['image_id']}" in capsys.readouterr().out
    assert broken["image_id"] not in load_network(tmp_path / "w" / "Checks.safetensors").plan.trained_on


def test_a_dataset_without_database_rows_is_refused(
    patterns: Path, tiny_recipe: Recipe, tmp_path: Path, edit_rows: Callable
) -> None:
    edit_rows(lambda table: table[(table["dataset"] != "Dots") | (table["split"] == "query")])
    with pytest.raises(InputError, match=r"dataset Dots has 14 query rows and no database row"):
        train_networks(read_catalogue(patterns), tiny_recipe, tmp_path / "w")


def test_one_individual_alone_cannot_be_trained_on(
    patterns: Path, tiny_recipe: Recipe, tmp_path: Path, edit_rows: Callable
) -> None:
    edit_rows(
        lambda table: table.assign(identity=table["identity"].mask(table["identity"].str.startswith("Dots"), "Dots_0"))
    )
    with pytest.raises(InputError, match=r"dataset Dots: an encoder needs two individuals.*found 1"):
        train_networks(read_catalogue(patterns), tiny_recipe, tmp_path / "w")


def test_too_few_photographs_for_the_losses_are_told_before_anything_is_trained(
    patterns: Path, tiny_recipe: Recipe, tmp_path: Path, edit_rows: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    is_first = lambda table: ~table["identity"].duplicated() | (table["split"] == "query")  # noqa: E731
    edit_rows(lambda table: table[is_first(table) | (table["dataset"] == "Checks")])
    catalogue = read_catalogue(patterns)
    with pytest.raises(InputError, match=r"Dots: every individual .* has one photograph.*classification=softmax"):
        train_networks(catalogue, override(tiny_recipe, ["copies_are_positives=false"]), tmp_path / "w")
    assert not (tmp_path / "w" / "species.safetensors").exists()
    train_networks(catalogue, override(tiny_recipe, ["training.epochs=1"]), tmp_path / "w")
    printed = capsys.readouterr().out
    assert (
        "warning: Dots: every individual that is learned from has one photograph; only copies are compared" in printed
    )
    assert "Checks: 5 individuals to learn from, fewer than the P = 16 of a batch" in printed


def test_a_classification_loss_learns_from_individuals_with_one_photograph(
    patterns: Path, tiny_recipe: Recipe, tmp_path: Path, edit_rows: Callable
) -> None:
    edit_rows(lambda table: table[~table["identity"].duplicated() | (table["split"] == "query")])
    recipe = override(
        tiny_recipe, ["loss.classification=arcface", "loss.triplet_weight=0", "copies_are_positives=false"]
    )
    train_networks(read_catalogue(patterns), override(recipe, ["training.epochs=12"]), tmp_path / "w")
    history = pd.read_csv(tmp_path / "w" / "training" / "Dots.history.csv")
    assert history["classification"].iloc[-1] < history["classification"].iloc[0]


# a frozen backbone, one encoder for all datasets, several averaged


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
    "settings",
    [
        ["head.embedding_size=8"],
        ["head.embedding_size=0", "head.normalise=true"],
        ["head.embedding_size=8", "precision=bfloat16"],
    ],
)
def test_what_a_frozen_backbone_has_seen_is_not_looked_at_again_to_enrol(
    settings: list[str], patterns: Path, tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = [
        *settings,
        "training.backbone_rate=0",
        "augmentation.feature_views=1",
        "training.folds=2",
        "head.neck=bnneck",
        "backbone.pooling=gem",
        "batch_size=7",
    ]
    recipe = override(tiny_recipe, settings)
    catalogue = read_catalogue(patterns)
    cut = catalogue.paths[0]
    cut.write_bytes(cut.read_bytes()[:200])
    recipe = with_settings(recipe, {"data.skip_unreadable": True})
    folder = tmp_path / "w"
    train_networks(catalogue, recipe, folder)
    opened: list[Path] = []
    open_any = Image.open

    def watched(path: Path, **named: Any) -> Image.Image:
        opened.append(path)
        return open_any(path, **named)

    monkeypatch.setattr(Image, "open", watched)
    enroll(catalogue, folder, ["Checks", "Dots"], recipe)
    assert set(opened) == {cut}  # nothing is remembered of what can't be read
    galleries = {path: path.read_bytes() for path in folder.rglob("*.gallery.safetensors")}
    assert len(galleries) == 4
    for cache in list(folder.rglob("cache")):
        shutil.rmtree(cache)
    enroll(catalogue, folder, ["Checks", "Dots"], recipe)
    assert set(opened) == set(catalogue.database.paths)
    assert {path: path.read_bytes() for path in galleries} == galleries


def test_a_frozen_backbone_without_a_head_has_learned_from_nobody(
    patterns: Path, tiny_recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = override(tiny_recipe, ["training.backbone_rate=0", "head.embedding_size=0", "head.normalise=true"])
    train_networks(read_catalogue(patterns), recipe, tmp_path / "w")
    assert "Dots: not trained" in capsys.readouterr().out
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


def test_each_dataset_may_go_on_alone_from_the_shared_encoder(
    patterns: Path, tiny_recipe: Recipe, tmp_path: Path
) -> None:
    catalogue = read_catalogue(patterns)
    for name, settings in (("shared", []), ("tuned", ["tune_epochs=2"])):
        train_networks(catalogue, override(tiny_recipe, ["training.shared=true", *settings]), tmp_path / name)
    shared, tuned = (load_file(tmp_path / name / "Dots.safetensors") for name in ("shared", "tuned"))
    far = max(float((shared[name] - tuned[name]).abs().max()) for name in shared if "weight" in name)
    other = load_file(tmp_path / "tuned" / "Checks.safetensors")
    assert 0 < far < 0.2  # two small steps away
    assert not torch.equal(other["head.0.weight"], tuned["head.0.weight"])


def test_a_shared_encoder_of_another_recipe_is_not_gone_on_with(
    patterns: Path, tiny_recipe: Recipe, tmp_path: Path
) -> None:
    """The shared encoder was finished, the first dataset's not yet written when the run was stopped."""
    recipe, catalogue = override(tiny_recipe, ["training.shared=true"]), read_catalogue(patterns)
    train_networks(catalogue, recipe, tmp_path / "w")
    for file in NETWORKS:
        (tmp_path / "w" / file).unlink()
    with pytest.raises(InputError, match=r"recipe field epochs was 4, is 5"):
        train_networks(catalogue, override(recipe, ["training.epochs=5"]), tmp_path / "w")


def test_a_soup_is_the_mean_of_encoders_that_saw_other_batches(
    patterns: Path, tiny_recipe: Recipe, tmp_path: Path
) -> None:
    train_networks(read_catalogue(patterns), override(tiny_recipe, ["soup=2"]), tmp_path / "w")
    members = [load_file(tmp_path / "w" / "training" / f"Dots.{member}.safetensors") for member in (1, 2)]
    soup = load_file(tmp_path / "w" / "Dots.safetensors")
    weight = "head.0.weight"
    assert not torch.equal(members[0][weight], members[1][weight])
    assert torch.allclose(soup[weight], (members[0][weight] + members[1][weight]) / 2)
    assert load_network(tmp_path / "w" / "Dots.safetensors").plan.trained_on


def test_fresh_trains_the_shared_encoder_anew(patterns: Path, tiny_recipe: Recipe, tmp_path: Path) -> None:
    recipe, catalogue = override(tiny_recipe, ["training.shared=true", "training.epochs=1"]), read_catalogue(patterns)
    train_networks(catalogue, override(recipe, ["seed=1"]), tmp_path / "w")
    train_networks(catalogue, recipe, tmp_path / "w", fresh=True)
    train_networks(catalogue, recipe, tmp_path / "straight")
    assert same_weights(tmp_path / "straight" / "Dots.safetensors", tmp_path / "w" / "Dots.safetensors")


@pytest.mark.parametrize(("epochs", "soup"), [(3, 3), (1, 1)])
def test_a_soup_that_was_killed_starts_over_with_fresh(
    epochs: int, soup: int, patterns: Path, tiny_recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A soup of three, killed in the first or in the second member, and the soup that takes its place."""
    catalogue, recipe = read_catalogue(patterns), override(tiny_recipe, ["training.epochs=2", f"soup={soup}"])
    killed(catalogue, override(recipe, ["soup=3"]), tmp_path / "w", ["Dots"], after=epochs)
    left = sorted((tmp_path / "w" / "training").iterdir())
    assert f"Dots.{1 + epochs // 2}.checkpoint.pt" in [path.name for path in left]
    if soup != 3:
        with pytest.raises(InputError, match=r"recipe field soup was 3, is .* or start over with --fresh and without"):
            train_networks(catalogue, recipe, tmp_path / "w", only=["Dots"])
        assert sorted((tmp_path / "w" / "training").iterdir()) == left
    for folder in ("w", "straight"):
        train_networks(catalogue, recipe, tmp_path / folder, only=["Dots"], fresh=True)
        written = {path.name for path in (tmp_path / folder / "training").iterdir()}
        assert {name for name in written if "checkpoint" in name} == set()
        assert len({name for name in written if name.endswith(".history.csv")}) == soup
    assert "going on" not in capsys.readouterr().out
    assert same_weights(tmp_path / "straight" / "Dots.safetensors", tmp_path / "w" / "Dots.safetensors")


@pytest.mark.parametrize(
    ("soup", "stays", "goes"), [(2, "Dots", "Dots.1"), (2, "Dots.1", "Dots"), (1, "species", "Dots")]
)
def test_fresh_spares_a_dataset_whose_name_begins_alike(
    soup: int,
    stays: str,
    goes: str,
    patterns: Path,
    tiny_recipe: Recipe,
    tmp_path: Path,
    edit_rows: Callable,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Dots.1 is a dataset, and a member of the soup of Dots."""
    edit_rows(lambda table: table.assign(dataset=table["dataset"].replace("Checks", "Dots.1")))
    catalogue = read_catalogue(patterns)
    recipe = override(tiny_recipe, [f"soup={soup}", f"training.epochs={4 // soup}", "classifier.epochs=4"])
    killed(catalogue, recipe, tmp_path / "w", [stays], after=3)  # of four; in the second member of a soup
    left = {path: path.read_bytes() for path in (tmp_path / "w").rglob("*") if path.is_file()}
    assert any("checkpoint" in path.name for path in left)
    killed(catalogue, recipe, tmp_path / "w", [goes], after=3)
    train_networks(catalogue, recipe, tmp_path / "w", only=[goes], fresh=True)
    assert "going on" not in capsys.readouterr().out
    assert {path: path.read_bytes() for path in left} == left
    train_networks(catalogue, recipe, tmp_path / "w", only=[stays])
    assert "going on" in capsys.readouterr().out


def test_the_best_epoch_is_kept_by_the_open_set_score(
    patterns: Path, tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scores that rise and fall: the weights of the second validation are what is kept."""
    recipe, catalogue = (
        override(tiny_recipe, ["training.epochs=6", "training.schedule=constant"]),
        read_catalogue(patterns),
    )
    scores = iter([0.2, 0.7, 0.3] * 2)
    monkeypatch.setattr(tasks, "open_set_score", lambda *_: next(scores))
    train_networks(catalogue, override(recipe, ["keep=best"]), tmp_path / "best")
    monkeypatch.setattr(tasks, "open_set_score", lambda *_: None)
    for epochs in (4, 6):
        train_networks(catalogue, override(recipe, [f"training.epochs={epochs}"]), tmp_path / f"{epochs}")
    for file in ("Checks.safetensors", "Dots.safetensors"):
        assert same_weights(tmp_path / "best" / file, tmp_path / "4" / file)
        assert not same_weights(tmp_path / "best" / file, tmp_path / "6" / file)


def test_the_recipe_is_settled_by_the_backbone() -> None:
    recipe = resolve_defaults(
        with_settings(Recipe(), {"backbone.image_size": 0}), describe_backbone("resnet50.tv_in1k")
    )
    assert (recipe.backbone.image_size, recipe.backbone.interpolation) == (224, "bilinear")
    assert resolve_defaults(recipe, describe_backbone("vit_small_patch14_dinov2")) == recipe  # what is settled stays


def test_history_has_a_row_per_epoch_with_what_a_person_wants_to_see(
    patterns: Path, tiny_recipe: Recipe, tmp_path: Path
) -> None:
    recipe = override(tiny_recipe, ["loss.classification=softmax", "training.held_out_individuals=0.4"])
    train_networks(read_catalogue(patterns), recipe, tmp_path / "w")
    history = pd.read_csv(tmp_path / "w" / "training" / "Dots.history.csv")
    assert list(history["epoch"]) == [1, 2, 3, 4]
    assert set(history) == {
        "epoch", "loss", "norm", "triplet", "active", "positive", "negative", "classification", "learning_rate",
        "images_per_second", "accuracy", "score",
    }  # fmt: skip
    assert history["score"].notna().tolist() == [False, True, False, True]
    assert np.allclose(history["loss"], history["triplet"] + history["classification"])


def test_a_single_dataset_needs_no_species_classifier(
    patterns: Path, tiny_recipe: Recipe, tmp_path: Path, edit_rows: Callable
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
        train_networks(catalogue, tiny_recipe, tmp_path / "parts", only=[name])
        assert missing_networks(tmp_path / "parts", NETWORKS, tiny_recipe) == left
    for file in NETWORKS:
        assert same_weights(tmp_path / "whole" / file, tmp_path / "parts" / file)
    before = (tmp_path / "parts" / "Checks.safetensors").stat().st_mtime_ns
    train_networks(catalogue, tiny_recipe, tmp_path / "parts", only=["Dots"], fresh=True)
    assert (tmp_path / "parts" / "Checks.safetensors").stat().st_mtime_ns == before
    with pytest.raises(InputError, match=r"--only Dot: expected some of species, Checks, Dots, found 'Dot'"):
        train_networks(catalogue, tiny_recipe, tmp_path / "parts", only=["Dot"])
    with pytest.raises(InputError, match=r"recipe field epochs was 4, is 5"):
        train_networks(
            catalogue, override(tiny_recipe, ["training.epochs=5"]), tmp_path / "parts", only=["Dots"], fresh=True
        )


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
@pytest.mark.parametrize("settings", [[], ["matching.cues=local", "calibration.scorers=local"]])
def test_a_recipe_that_asks_for_a_gpu_is_refused_without_one(
    patterns: Path, tiny_recipe: Recipe, tmp_path: Path, settings: list[str]
) -> None:
    recipe = override(tiny_recipe, ["device=cuda", *settings])
    with pytest.raises(InputError, match=r"device: expected a GPU with CUDA, found none .*--set device=auto"):
        train_networks(read_catalogue(patterns), recipe, tmp_path / "w")
    assert not (tmp_path / "w").exists()


# a recipe that trains no network


LOCAL = ["matching.cues=local", "calibration.scorers=local"]


def test_a_folder_belongs_to_one_run_though_it_trains_no_network(
    patterns: Path, patterns_weights: Path, tiny_recipe: Recipe, edit_rows: Callable
) -> None:
    """What `enroll` and `calibrate` would write over."""
    catalogue, local = read_catalogue(patterns), override(tiny_recipe, LOCAL)
    before = {path: path.read_bytes() for path in patterns_weights.rglob("*.*") if path.suffix != ".lock"}
    with pytest.raises(InputError, match=r"it holds a run with other settings \(recipe field cues was .*--fresh"):
        train_networks(catalogue, local, patterns_weights)
    assert {path: path.read_bytes() for path in before} == before
    train_networks(catalogue, local, patterns_weights, fresh=True)
    assert {path.name for path in patterns_weights.rglob("*.*") if "Dots" in path.name} == {"Dots.lock"}
    assert not any((patterns_weights / name).exists() for name in ("manifest.json", "calibration.json"))
    (patterns_weights / "Dots.gallery.safetensors").write_bytes(b"as enroll leaves it")
    assert train_networks(catalogue, local, patterns_weights) == catalogue.database.fingerprint
    with pytest.raises(InputError, match=r"it holds a run with other settings \(recipe field cues was .*--fresh"):
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
    for name in ("Dots", "nonsense"):
        with pytest.raises(InputError, match=rf"--only {name}: expected a recipe with networks .*Leave --only out"):
            train_networks(read_catalogue(patterns), override(tiny_recipe, LOCAL), tmp_path / "w", only=[name])
    assert not (tmp_path / "w").exists()


def test_a_fresh_start_without_networks_that_fails_leaves_the_old_weights_whole(
    patterns: Path, patterns_weights: Path, tiny_recipe: Recipe
) -> None:
    shutil.rmtree(patterns / "images" / "Dots" / "database")
    with pytest.raises(InputError, match="dataset Dots: none of its photographs can be read"):
        train_networks(read_catalogue(patterns), override(tiny_recipe, LOCAL), patterns_weights, fresh=True)
    assert open_weights(patterns_weights).datasets == ("Checks", "Dots")
