"""One pass over photographs: each gets what it would get alone, nothing is computed twice, and nothing is stale."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import PIL
import pytest
import torch
from PIL import Image
from textures import SMALL, blank, equal, texture

from reid.config.presets import PRESETS
from reid.config.recipe import KeypointConfig, Recipe
from reid.config.runtime import Runtime
from reid.config.settings import with_settings
from reid.data.catalogue import Catalogue, read_catalogue
from reid.models.networks import load_network
from reid.models.new_networks import build_network, plan_network, save_network
from reid.retrieval import extraction
from reid.retrieval.cache import Cache
from reid.retrieval.embedding import Embedder
from reid.retrieval.extraction import (
    FeatureExtractors,
    Features,
    extract_features,
    keypoint_config,
    open_extractors,
)
from reid.retrieval.extractors import rootsift
from reid.retrieval.extractors.table import open_extractor
from reid.retrieval.gallery import gallery_features
from reid.retrieval.keypoints import Keypoints

BOTH = with_settings(
    Recipe(),
    {
        "backbone.image_size": 32,
        "backbone.interpolation": "bicubic",
        "backbone.pooling": "gem",
        "matching.cues": ("encoder", "local"),
        "keypoints.size": 64,
        "keypoints.count": 20,
        "keypoints.candidates": 40,
    },
)
FLOAT32 = Runtime(precision="float32", batch_size=8)


@pytest.fixture
def networks(tmp_path: Path) -> Path:
    """A folder with an encoder for each of the datasets of `patterns`, and a classifier that tells them apart."""
    for seed, name in enumerate(("Checks", "Dots")):
        plan = plan_network("test_resnet", 32, embedding_size=4, pooling="gem")
        save_network(tmp_path / f"{name}.safetensors", build_network(plan, seed, "none"))
    classifier = build_network(plan_network("test_resnet", 32, classes=("Checks", "Dots")), 2, "none")
    save_network(tmp_path / "species.safetensors", classifier)
    return tmp_path


def opened(
    folder: Path, recipe: Recipe = BOTH, runtime: Runtime = FLOAT32, cache: Cache | None = None
) -> FeatureExtractors:
    encoders = {name: folder / f"{name}.safetensors" for name in ("Checks", "Dots")}
    classifier = folder / "species.safetensors" if recipe.uses_encoder else None
    return open_extractors(encoders, classifier, recipe, runtime, cache)


def features_of(catalogue: Catalogue, extractors: FeatureExtractors, recipe: Recipe = BOTH) -> list[Features]:
    return extract_features(catalogue, extractors, "auto", recipe, "test")


def alike(one: Features, other: Features) -> bool:
    words = (one.species, one.route, one.problem) == (other.species, other.route, other.problem)
    return words and torch.equal(one.vector, other.vector) and equal(one.keypoints, other.keypoints)


@pytest.fixture
def queries(patterns: Path) -> Catalogue:
    """Photographs with keypoints, in no order; the column does not tell the dataset of every other one."""
    catalogue = read_catalogue(patterns).query
    for seed, path in enumerate(catalogue.paths):
        Image.fromarray(texture(seed, 64)).save(path, quality=95)
    shuffled = catalogue.table.iloc[np.random.default_rng(0).permutation(len(catalogue))]
    known = np.arange(len(shuffled)) % 2 == 0
    return replace(catalogue, table=shuffled.assign(dataset=shuffled["dataset"].where(known, "")))


@pytest.mark.parametrize("pass_size", [3, 5, 64])
def test_photographs_wait_until_a_pass_of_their_encoder_is_full(
    pass_size: int, queries: Catalogue, networks: Path
) -> None:
    extractors = opened(networks, runtime=replace(FLOAT32, batch_size=pass_size))
    alone = [
        features_of(replace(queries, table=queries.table.iloc[[row]]), extractors)[0] for row in range(len(queries))
    ]
    passes: Counter[str] = Counter()
    for dataset, (encoder,) in extractors.encoders.items():
        encoder.fast.backbone.register_forward_pre_hook(lambda *_, dataset=dataset: passes.update([dataset]))
    together = features_of(queries, extractors)
    assert all(map(alike, alone, together))
    assert all(len(one.keypoints) >= 20 for one in together)
    routes = Counter(one.route for one in together)
    assert len(routes) == 2
    for dataset, (encoder,) in extractors.encoders.items():
        assert passes[dataset] == -(-routes[dataset] // encoder.pass_size)


@pytest.mark.parametrize("cues", [("encoder",), ("local",), ("encoder", "local")])
def test_what_the_cache_has_is_not_computed_again(
    cues: tuple[str, ...], queries: Catalogue, networks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = "distance" if "encoder" in cues else "local"
    recipe = with_settings(BOTH, {"matching.cues": cues, "calibration.scorers": (scorer,)})
    without = features_of(queries, opened(networks, recipe), recipe)
    first = features_of(queries, opened(networks, recipe, cache=Cache(networks)), recipe)
    monkeypatch.setattr(extraction, "photograph_batches", lambda paths, *_: iter(paths))  # fails on any path
    again = features_of(queries, opened(networks, recipe, cache=Cache(networks)), recipe)
    assert all(map(alike, without, first))
    assert all(map(alike, first, again))


def test_a_photograph_that_cannot_be_read_has_no_keypoint_of_any_feature(queries: Catalogue, networks: Path) -> None:
    """The others of its batch have."""
    queries.paths[1].write_bytes(b"no photograph")
    extractors = opened(networks)
    (rootsift,) = extractors.extractors_of("Dots")
    features = features_of(queries, replace(extractors, extractors={"Dots": (rootsift,) * 3}))
    assert [name for name, one in zip(queries.image_ids, features, strict=True) if one.problem] == [
        queries.image_ids[1]
    ]
    found = gallery_features(features, queries.table).every_keypoints
    assert [len(own[1]) for own in found] == [0, 0, 0]
    assert all(map(equal, found[0], found[2]))


@pytest.mark.parametrize("backbone", [0, 7])
def test_of_another_encoder_only_vectors_are_computed(
    backbone: int, queries: Catalogue, networks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So it is where a head was trained anew; another backbone finds the animal elsewhere, and other keypoints are
    wanted."""
    cache = Cache(networks)
    first = features_of(queries, opened(networks, cache=cache))
    for seed, name in enumerate(("Checks", "Dots")):
        plan = plan_network("test_resnet", 32, embedding_size=4, pooling="gem")
        network = build_network(plan, backbone or seed, "none")
        torch.nn.init.normal_(next(network.head.parameters()), generator=torch.Generator().manual_seed(3))
        save_network(networks / f"{name}.safetensors", network)
    expected = features_of(queries, opened(networks))
    if not backbone:
        monkeypatch.setattr(rootsift, "detect", None)
    again = features_of(queries, opened(networks, cache=cache))
    assert all(map(alike, expected, again))
    assert not any(torch.equal(one.vector, other.vector) for one, other in zip(first, again, strict=True))
    assert all(map(alike, again, features_of(queries, opened(networks, cache=cache))))


def test_photographs_are_opened_once_for_several_encoders(
    queries: Catalogue, networks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So it is when the folds of an encoder are enrolled."""
    later = tmp_path / "later"
    later.mkdir()
    (later / "species.safetensors").write_bytes((networks / "species.safetensors").read_bytes())
    for name in ("Checks", "Dots"):
        plan = plan_network("test_resnet", 32, embedding_size=4, pooling="gem")
        save_network(later / f"{name}.safetensors", build_network(plan, 7, "none"))
    alone = [features_of(queries, opened(folder)) for folder in (networks, later)]
    first, second = (opened(folder, cache=Cache(networks)) for folder in (networks, later))
    together = extract_features(queries, first, "auto", BOTH, "test", others=[second])
    monkeypatch.setattr(extraction, "photograph_batches", lambda paths, *_: iter(paths))  # fails on any path
    again = features_of(queries, second)
    assert all(map(alike, alone[0], together))
    assert all(map(alike, alone[1], again))


# keypoints


ONE, OTHER = "00" * 32, "11" * 32
"""Digests of two photographs."""


def finder(folder: Path, config: KeypointConfig = SMALL) -> FeatureExtractors:
    return FeatureExtractors((), {}, keypoints=config, extractors={"": (open_extractor(config),)}, cache=Cache(folder))


def find(extractors: FeatureExtractors, digest: str, image: np.ndarray) -> Keypoints:
    (found,) = extractors.find_keypoints(digest, extractors.extractors_for(None), image).values()
    return found.described(np.arange(len(found)))


def cached(extractors: FeatureExtractors, digest: str) -> Keypoints | None:
    """What the cache has of the photograph, all described; None where there is nothing."""
    (extractor,) = extractors.extractors_for("")
    kept = extractors.kept_keypoints(digest, extractor)
    if kept is None:
        return None
    return kept.detection(describe=lambda _: pytest.fail("not described")).at_once().described(np.arange(len(kept[0])))


def save_frozen(folder: Path) -> None:
    """Networks that differ in their heads alone, as after training on a frozen backbone."""
    kinds: dict[str, dict] = {"Checks": {"embedding_size": 4}, "Dots": {"embedding_size": 6, "neck": True}}
    kinds["species"] = {"classes": ("Checks", "Dots")}
    for seed, (name, kind) in enumerate(kinds.items()):
        network = build_network(plan_network("test_resnet", 32, pooling="gem", **kind), 7, "none")
        torch.nn.init.normal_(next(network.head.parameters()), generator=torch.Generator().manual_seed(seed))
        save_network(folder / f"{name}.safetensors", network)


@pytest.mark.parametrize("changes", [{}, {"prediction.flip_average": True, "prediction.scales": (1.0, 1.5)}])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_networks_on_one_frozen_backbone_ask_it_once_and_answer_as_alone(
    precision: str, changes: dict, queries: Catalogue, tmp_path: Path
) -> None:
    save_frozen(tmp_path)
    recipe, runtime = with_settings(BOTH, changes), replace(FLOAT32, precision=precision, batch_size=4)
    together = opened(tmp_path, recipe, runtime)
    assert together.classifier
    embedders: dict[str, tuple[Embedder, ...]] = {
        name: (Embedder(tmp_path / f"{name}.safetensors", recipe, runtime),) for name in ("Checks", "Dots")
    }
    alone = replace(
        together, encoders=embedders, classifier=Embedder(tmp_path / "species.safetensors", recipe, runtime)
    )
    passes: list[int] = []
    together.classifier.fast.backbone.register_forward_pre_hook(lambda _, args: passes.append(len(args[0])))
    shared = features_of(queries, together, recipe)
    assert all(map(alike, features_of(queries, alone, recipe), shared))
    assert len({one.route for one in shared}) == 2
    views = len(recipe.prediction.scales) * (1 + recipe.prediction.flip_average)
    assert passes == [4] * (-(-len(queries) // 4) * views)


@pytest.mark.parametrize("tensor", ["backbone.conv1.0.weight", "pool.p"])
def test_a_network_that_was_trained_a_little_has_a_backbone_of_its_own(tensor: str, tmp_path: Path) -> None:
    save_frozen(tmp_path)
    file = tmp_path / "Dots.safetensors"
    network = load_network(file)
    network.state_dict()[tensor].mul_(1.0001)
    save_network(file, network)
    extractors = opened(tmp_path)
    assert extractors.classifier
    assert extractors.encoders["Checks"][0].shares_backbone(extractors.classifier)
    assert not extractors.encoders["Dots"][0].shares_backbone(extractors.classifier)


def test_found_keypoints_are_kept(tmp_path: Path) -> None:
    found = find(finder(tmp_path), ONE, texture(1))
    assert equal(found, rootsift.extract(texture(1), SMALL))
    again = cached(finder(tmp_path), ONE)
    assert again is not None
    assert equal(again, found)
    assert cached(finder(tmp_path), OTHER) is None
    other = find(finder(tmp_path), OTHER, texture(2))
    assert equal(other, rootsift.extract(texture(2), SMALL))


def test_keypoints_of_a_file_that_could_not_be_hashed_are_not_kept(tmp_path: Path) -> None:
    for seed in (1, 2):
        found = find(finder(tmp_path), "", texture(seed))
        assert equal(found, rootsift.extract(texture(seed), SMALL))
    assert cached(finder(tmp_path), "") is None


def test_another_setting_extractor_or_version_has_entries_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find(finder(tmp_path), ONE, texture(1))
    for field, value in [("size", 161), ("count", 151), ("clahe", 3.0), ("contrast", 0.02), ("upright", True)]:
        other = finder(tmp_path, replace(SMALL, **{field: value}))  # type: ignore[arg-type]
        assert cached(other, ONE) is None, field
    for module, name in [
        (rootsift, "NAME"),
        (rootsift, "VERSION"),
        (extraction, "DECODER_VERSION"),
        (cv2, "__version__"),
        (PIL, "__version__"),
    ]:
        with monkeypatch.context() as changed:
            changed.setattr(module, name, "another")
            assert cached(finder(tmp_path), ONE) is None, name
    assert cached(finder(tmp_path), ONE) is not None


def test_a_photograph_without_any_keypoint_is_kept_too(patterns: Path, tmp_path: Path) -> None:
    assert len(find(finder(tmp_path), ONE, np.full((40, 60, 3), 90, np.uint8))) == 0
    again = cached(finder(tmp_path), ONE)
    assert again is not None
    assert equal(again, blank())
    Image.new("RGB", (90, 60)).save(patterns / "flat.png")
    table = read_catalogue(patterns).database.table.iloc[:1].assign(path="flat.png")
    recipe = PRESETS["keypoints"]
    (flat,) = extract_features(
        Catalogue(patterns, table), open_extractors({"Checks": tmp_path}, None, recipe), "column", recipe, "test"
    )
    assert len(flat.keypoints) == 0
    assert flat.keypoints.extent == pytest.approx((1, 2 / 3), abs=0.01)


def test_no_fewer_candidates_are_searched_for_than_keypoints_are_kept() -> None:
    for count, candidates, expected in [(1500, 1000, 1500), (300, 1000, 1000)]:
        settings = {"keypoints.count": count, "keypoints.candidates": candidates}
        config = keypoint_config(with_settings(PRESETS["frozen"], settings))
        assert config
        assert config.count == expected
        alone = keypoint_config(with_settings(PRESETS["keypoints"], settings))
        assert alone
        assert alone.count == count
    assert keypoint_config(PRESETS["paper"]) is None


def test_settings_that_find_the_same_keypoints_share_their_entries(tmp_path: Path) -> None:
    def configs() -> Iterator[KeypointConfig]:
        for foreground in (0.3, 0.5):
            config = keypoint_config(with_settings(BOTH, {"keypoints.foreground": foreground}))
            assert config
            yield config

    one, other = configs()
    find(finder(tmp_path, one), ONE, texture(1))
    assert cached(finder(tmp_path, other), ONE) is not None
