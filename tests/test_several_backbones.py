"""Several backbones in one decision: each embeds as it would alone, every distance is a cue, and nothing is decoded
twice."""

import errno
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from reid import cli
from reid.config.presets import PRESETS
from reid.config.recipe import Recipe
from reid.config.runtime import Runtime
from reid.config.settings import override, with_settings
from reid.data import loading
from reid.data.catalogue import Catalogue, read_catalogue
from reid.data.photographs import Decoded, UnreadableError, View, decode_all, open_photograph
from reid.decision.artifact import open_weights
from reid.decision.scorers import Scorer, scorers_for
from reid.errors import InputError, Stopped
from reid.models.networks import read_plan
from reid.models.new_networks import build_network, plan_network, save_network
from reid.models.pretrained import describe_backbone, save_backbone
from reid.retrieval.cache import Cache
from reid.retrieval.candidates import CandidatePairs, candidate_pairs
from reid.retrieval.embedding import Embedder
from reid.retrieval.extraction import backbone_file, extract_features, open_extractors
from reid.retrieval.gallery import Gallery, GalleryFeatures, load_gallery, save_gallery
from reid.training import networks
from reid.training.networks import train_networks
from reid.training.run_folder import missing_networks, network_files
from reid.training.several_backbones import named_files, plan_backbones
from reid.training.tasks import TrainingOptions
from reid.training.train import train

ONE, OTHER = "test_resnet", "test_efficientnet"
FLOAT32 = Runtime(precision="float32", batch_size=4)
FROZEN = [
    *(f"backbone.name={ONE}@32+{OTHER}", "backbone.image_size=48", "backbone.init=none", "training.backbone_rate=0"),
    *("head.normalise=true", "calibration.scorers=distance,mean", "training.epochs=2", "training.folds=2"),
]


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        (f"backbone={ONE}+", f"up to 3 different ones with + between them, found '{ONE}+'"),
        (f"backbone=+{ONE}", "a backbone, or up to 3 different ones"),
        (f"backbone={ONE}+{ONE}", f"different ones with + between them, found '{ONE}+{ONE}'"),
        (f"backbone={ONE}@64+{ONE}@96", "different ones"),
        ("backbone=a+b+c+d", "up to 3 different ones"),
        (f"backbone={ONE}@big", f"expected 16 to 2048 pixels after @, found '{ONE}@big'"),
        (f"backbone={ONE}@8", "expected 16 to 2048 pixels after @"),
        (f"backbone={ONE}+{OTHER}", "head.normalise: expected true with several backbones"),
    ],
)
def test_names_that_make_no_decision_are_refused(setting: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        override(PRESETS["paper"], [setting])
    assert words in str(caught.value)


def test_a_revision_on_the_hub_is_a_part_of_the_name_and_no_size() -> None:
    name = "hf-hub:A/mega-L@v1.0"
    alone = override(PRESETS["paper"], [f"backbone.name={name}"]).backbone
    assert (alone.names, alone.sizes) == ((name,), (224,))
    sized = override(PRESETS["toy"], [f"backbone.name={name}@384+{ONE}@64"]).backbone
    assert (sized.names, sized.sizes) == ((name, ONE), (384, 64))


def test_files_are_named_by_backbone_and_a_single_one_needs_no_name() -> None:
    names = (ONE, "hf-hub:A/mega-L")
    assert named_files([f"{ONE}=a.pth", "mega-L=b=c.pth"], names) == {ONE: Path("a.pth"), names[1]: Path("b=c.pth")}
    assert named_files([], names) == {}
    assert named_files(["x=y.pth"], (ONE,)) == Path("x=y.pth")
    assert named_files([f"{ONE}=y.pth"], (ONE,)) == Path("y.pth")
    assert named_files([], (ONE,)) is None


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["a.pth"], f"--init a.pth: expected NAME=FILE, once for each of {ONE}, {OTHER}"),
        (["test_resnt=a.pth"], f"did you mean {ONE}?"),
        ([f"{ONE}=a.pth", f"{ONE}=b.pth"], f"--init {ONE}=b.pth: expected NAME=FILE, once for each"),
    ],
)
def test_files_without_a_name_or_with_a_wrong_one_are_refused(given: list[str], words: str) -> None:
    with pytest.raises(InputError) as caught:
        named_files(given, (ONE, OTHER))
    assert words in str(caught.value)


def test_each_backbone_keeps_its_size_and_photographs_are_decoded_for_the_largest() -> None:
    resolved, runs = plan_backbones(override(PRESETS["toy"], [f"backbone={ONE}@32+{OTHER}", "image_size=0"]), None)
    own = describe_backbone(OTHER)
    assert [run.image_size for run in runs] == [32, own.image_size]
    assert {run.recipe.backbone.image_size for run in runs} == {resolved.backbone.image_size} == {own.image_size}
    assert [run.recipe.backbone.name for run in runs] == [ONE, OTHER]
    assert plan_backbones(resolved, None)[0] == resolved
    alone, (run,) = plan_backbones(override(PRESETS["toy"], [f"backbone={ONE}"]), None)
    assert (alone.backbone.name, alone) == (ONE, run.recipe)


def test_unknown_backbones_and_weights_of_another_are_named(tmp_path: Path) -> None:
    recipe = with_settings(PRESETS["toy"], {"backbone.name": f"{ONE}+{OTHER}"})
    with pytest.raises(InputError, match=f"found 'test_efficientnt'; did you mean .*{OTHER}"):
        plan_backbones(with_settings(recipe, {"backbone.name": f"{ONE}+test_efficientnt"}), None)
    with pytest.raises(InputError, match=r"--init x\.pth: expected NAME=FILE"):
        plan_backbones(recipe, Path("x.pth"))
    tensors = build_network(plan_network(ONE, 32), 0, "none").backbone.state_dict()
    save_backbone(tmp_path / "one.safetensors", describe_backbone(ONE), tensors, ONE)
    with pytest.raises(InputError, match=f"expected the weights of {OTHER}, found those of {ONE}; were the files"):
        plan_backbones(recipe, {OTHER: tmp_path / "one.safetensors"})
    assert plan_backbones(recipe, {ONE: tmp_path / "one.safetensors"})[1][0].init == tmp_path / "one.safetensors"


# embedding


def test_each_network_sees_what_it_would_see_alone_and_a_photograph_is_decoded_once(
    patterns: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = override(PRESETS["toy"], [*FROZEN, "backbone.interpolation=bicubic"])
    queries = read_catalogue(patterns).query
    files = {name: tmp_path / f"{name}.safetensors" for name in queries.by_dataset()}
    for seed, file in enumerate(files.values()):
        for number, (name, size) in enumerate(((ONE, 32), (OTHER, 48))):
            plan = plan_network(name, size, embedding_size=4 + number, normalise=True)
            save_network(backbone_file(file, number), build_network(plan, seed, "none"))
    opened: list[Path] = []

    def counted(path: Path, views: Sequence[View]) -> list[Decoded | UnreadableError]:
        opened.append(path)
        return decode_all(path, views)

    monkeypatch.setattr(loading, "decode_all", counted)
    extractors = open_extractors(files, None, recipe, FLOAT32, Cache(tmp_path))
    first = extract_features(queries, extractors, "column", recipe, "testing")
    assert sorted(opened) == sorted(queries.paths)
    again = extract_features(queries, extractors, "column", recipe, "testing")
    assert len(opened) == len(queries)
    for path, dataset, one, cached in zip(queries.paths, queries.table["dataset"], first, again, strict=True):
        pixels = torch.from_numpy(open_photograph(path, View(48)).transpose(2, 0, 1).copy())[None]
        alone = [Embedder(backbone_file(files[dataset], number), recipe, FLOAT32).embed(pixels)[0] for number in (0, 1)]
        assert torch.allclose(one.vector, torch.cat(alone), atol=1e-5)
        assert torch.equal(one.vector, cached.vector)
        assert len(one.vector) == 9
    assert extractors.parts_of("Dots") == (4, 5)


# cues


@pytest.fixture
def gallery() -> Gallery:
    """Animals a, b and c: a is the nearest by the first backbone, b by the second, c by both together."""
    vectors = torch.tensor([[1.0, 0, 0, -1], [-1, 0, 1.0, 0], [0.6, 0.8, 0.8, 0.6]])
    return Gallery(GalleryFeatures(("0", "1", "2"), vectors), ("a", "b", "c"), parts=(2, 2))


QUERY = GalleryFeatures(("q",), torch.tensor([[1.0, 0, 1.0, 0]]))
ENCODER = with_settings(Recipe(), {"matching.shortlist": 1, "head.normalise": True})


def test_every_distance_is_a_cue_and_puts_its_nearest_on_the_shortlist(gallery: Gallery, tmp_path: Path) -> None:
    pairs = candidate_pairs(QUERY, gallery, ENCODER)
    assert pairs.individual.tolist() == [0, 1, 2]
    between = (QUERY.vectors - gallery.embeddings.vectors).numpy()
    for name, part in (("distance", slice(0, 4)), ("distance 1", slice(0, 2)), ("distance 2", slice(2, 4))):
        slow = [sum(value**2 for value in row[part]) ** 0.5 for row in between.tolist()]
        assert pairs.features[name].tolist() == pytest.approx(slow)
        assert pairs.scaled(2.0).features[name].tolist() == pytest.approx([value / 2 for value in slow])
    assert np.argmin(pairs.features["distance"]) == 2
    alone = candidate_pairs(QUERY, replace(gallery, parts=()), ENCODER)
    assert alone.individual.tolist() == [2]
    assert not {"distance 1", "distance 2"} & set(alone.features)
    save_gallery(tmp_path / "x", gallery)
    assert load_gallery(tmp_path / "x").parts == (2, 2)


def test_a_gallery_whose_parts_do_not_fit_its_vectors_is_refused(gallery: Gallery, tmp_path: Path) -> None:
    save_gallery(tmp_path / "x", replace(gallery, parts=(2, 3)))
    with pytest.raises(InputError, match="expected a gallery, but it can't be read"):
        load_gallery(tmp_path / "x")


def test_the_distance_of_one_backbone_competes_where_distance_does_and_decides_as_it_is() -> None:
    cues = ("distance", "distance 1", "distance 2", "local")
    assert scorers_for(("distance", "local", "mean"), cues) == ["distance", "distance 1", "distance 2", "local", "mean"]
    assert scorers_for(("local", "mean"), cues) == ["local", "mean"]
    assert scorers_for(("distance", "mean"), cues[:1]) == ["distance"]
    rows = np.zeros(2, np.int64)
    pairs = CandidatePairs(rows, np.arange(2), rows, {"distance": np.ones(2), "distance 2": np.array([0.5, 3.0])})
    scorer = Scorer("distance 2", {})
    assert scorer.dissimilarity(pairs).tolist() == [0.5, 3.0]
    assert scorer.is_distance
    assert not scorer.gives_probability


# the whole job


def same_file(one: Path, other: Path) -> bool:
    left, right = load_file(one), load_file(other)
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_a_weights_folder_with_two_backbones_is_trained_used_and_made_again(
    patterns: Path, tiny_recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, catalogue = override(tiny_recipe, FROZEN), read_catalogue(patterns)
    folder = tmp_path / "two"
    assert train(catalogue, recipe, folder)
    weights = open_weights(folder)
    assert weights.recipe.backbone.name == f"{ONE}@32+{OTHER}"
    files = [backbone_file(folder / "Dots.safetensors", number) for number in (0, 1)]
    assert [(plan.backbone, plan.image_size) for plan in map(read_plan, files)] == [(ONE, 32), (OTHER, 48)]
    assert {file.name for file in files} <= set(weights.manifest["files"])
    assert load_gallery(folder / "Dots.gallery.safetensors").parts == tuple(read_plan(file).outputs for file in files)
    alone = override(recipe, [f"backbone={OTHER}"])  # as if the other one were not there
    train(catalogue, alone, tmp_path / "one", only=["Dots"])
    for fold in ("", "training/fold-1/"):
        second = backbone_file(folder / f"{fold}Dots.safetensors", 1)
        assert same_file(second, tmp_path / "one" / f"{fold}Dots.safetensors")
    answers = predicted(patterns, folder, tmp_path)
    written = {path.name: path.read_bytes() for path in folder.glob("*.*")}
    assert train(catalogue, recipe, folder)  # everything is there
    for command in ("enroll", "calibrate"):
        assert cli.main(["-q", command, str(patterns), "--weights", str(folder)]) == 0
    assert {path.name: path.read_bytes() for path in folder.glob("*.safetensors")} == {
        name: content for name, content in written.items() if name.endswith(".safetensors")
    }
    assert predicted(patterns, folder, tmp_path) == answers
    files[1].unlink()
    assert cli.main(["-q", "predict", str(patterns), "--weights", str(folder), "--out", str(tmp_path / "x.csv")]) == 2
    assert "Dots.backbone-2.safetensors: the manifest lists this file, but it is not there" in capsys.readouterr().err


def predicted(data: Path, folder: Path, out: Path) -> Any:
    call = ["-q", "predict", str(data), "--weights", str(folder), "--out", str(out / "s.csv")]
    assert cli.main(call) == 0
    return (out / "s.csv").read_bytes(), (out / "s.matches.csv").read_bytes()


def test_where_nobody_is_known_the_folder_holds_every_backbone(
    patterns: Path, tiny_recipe: Recipe, tmp_path: Path
) -> None:
    catalogue = read_catalogue(patterns)
    nameless = Catalogue(catalogue.root, catalogue.table.assign(split="query", identity=""))
    weights = train(nameless, override(tiny_recipe, FROZEN), tmp_path)
    assert weights
    files = ["backbone.safetensors", "backbone.backbone-2.safetensors"]
    assert set(files) <= set(weights.manifest["files"])
    plans = [read_plan(tmp_path / file) for file in files]
    assert [(plan.backbone, plan.image_size) for plan in plans] == [(ONE, 32), (OTHER, 48)]


def test_another_size_of_one_backbone_is_not_taken_for_the_same_run(
    patterns: Path, tiny_recipe: Recipe, tmp_path: Path
) -> None:
    catalogue, recipe = read_catalogue(patterns), override(tiny_recipe, FROZEN)
    train(catalogue, recipe, tmp_path / "two", only=["Dots"])
    other = with_settings(recipe, {"backbone.name": f"{ONE}@40+{OTHER}"})
    with pytest.raises(InputError, match=r"it holds a run with other settings .*40"):
        train(catalogue, other, tmp_path / "two", only=["Dots"])


def test_a_backbone_that_can_not_do_what_the_recipe_wants_is_refused_before_the_first_is_trained(
    patterns: Path, tiny_recipe: Recipe, tmp_path: Path
) -> None:
    recipe = override(tiny_recipe, [*FROZEN, f"backbone.name={ONE}+test_vit", "backbone.pooling=gem"])
    with pytest.raises(InputError, match=r"backbone\.pooling: gem"):
        train(read_catalogue(patterns), recipe, tmp_path / "two", only=["Dots"])
    with pytest.raises(InputError, match=r"--init .*no\.pth: expected a state dict"):
        init = {OTHER: tmp_path / "no.pth"}
        train(read_catalogue(patterns), override(tiny_recipe, FROZEN), tmp_path / "two", init=init, only=["Dots"])
    assert not list(tmp_path.glob("two/*.safetensors"))


def test_fresh_forgets_every_backbone_before_the_first_is_trained(
    patterns: Path, tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue, recipe, folder = read_catalogue(patterns), override(tiny_recipe, FROZEN), tmp_path / "two"
    train(catalogue, recipe, folder, only=["Dots"])
    other, calls = replace(recipe, seed=5), list[object]()

    def stopped(*arguments: object) -> None:
        calls.append(arguments)
        raise Stopped("stopped", "")

    with monkeypatch.context() as patch:
        patch.setattr(networks, "train_network", stopped)
        with pytest.raises(Stopped):
            train(catalogue, other, folder, fresh=True)
    assert len(calls) == 1
    train(catalogue, other, folder, only=["Dots"])  # as the same call without --fresh would resume it
    assert [read_plan(backbone_file(folder / "Dots.safetensors", number)).backbone for number in (0, 1)] == [ONE, OTHER]


def test_runs_that_train_other_networks_may_link_the_same_encoders_at_once(
    patterns: Path, tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def as_quick(source: Path, target: Path) -> None:
        link(source, target)
        link(source, target)

    monkeypatch.setattr(os, "link", as_quick)
    train(read_catalogue(patterns), override(tiny_recipe, FROZEN), tmp_path, only=["Dots"])
    assert read_plan(backbone_file(tmp_path / "Dots.safetensors", 1)).backbone == OTHER


def test_without_links_the_encoders_are_copied_and_none_is_there_in_part(
    patterns: Path, tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Path) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    def stopped(source: Path, target: Path) -> None:
        Path(target).write_bytes(source.read_bytes()[:1000])
        raise KeyboardInterrupt

    catalogue, recipe, own = read_catalogue(patterns), override(tiny_recipe, FROZEN), "Dots.safetensors"
    second = backbone_file(tmp_path / own, 1)
    monkeypatch.setattr(os, "link", refused)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shutil, "copyfile", stopped)
        train(catalogue, recipe, tmp_path, only=["Dots"])
    assert not second.exists()
    train(catalogue, recipe, tmp_path, only=["Dots"])
    assert same_file(second, tmp_path / "training" / "backbone-2" / own)
    assert not list(tmp_path.rglob("*.part"))


def test_only_says_that_a_further_backbone_has_left_networks_to_train(
    patterns: Path, tiny_recipe: Recipe, tmp_path: Path
) -> None:
    catalogue, recipe = read_catalogue(patterns), override(tiny_recipe, FROZEN)
    first, (alone, _) = plan_backbones(recipe, None)
    files = network_files(catalogue.database)
    train_networks(catalogue, alone.recipe, tmp_path, TrainingOptions(image_size=32))
    train(catalogue, recipe, tmp_path, only=["Dots"])
    missing = [name for name in catalogue.database.by_dataset() if name != "Dots"]
    assert missing_networks(tmp_path, files, first) == missing
