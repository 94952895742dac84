"""The fast way to a vector against the exact one; and embeddings out of a cache, which must never be stale."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL
import pytest
import timm
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn

from reid.config.recipe import Recipe
from reid.config.runtime import Runtime
from reid.config.settings import with_settings
from reid.data.catalogue import Catalogue, read_catalogue
from reid.data.photographs import open_photograph
from reid.decision.artifact import encoder_file
from reid.errors import InputError
from reid.models.networks import Network, load_network
from reid.models.new_networks import build_network, plan_network, save_network
from reid.retrieval import embedding
from reid.retrieval.cache import Cache
from reid.retrieval.embedding import BackboneOutput, Embedder, embed, precision_on
from reid.retrieval.extraction import FeatureExtractors, extract_features

PHOTOGRAPHS = torch.randint(0, 256, (5, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
RECIPE = with_settings(Recipe(), {"backbone.image_size": 64, "backbone.interpolation": "bicubic"})
FLOAT32 = Runtime(precision="float32")


def encoder(backbone: str = "test_resnet", seed: int = 0) -> Network:
    """A network whose batch norms have statistics of their own, as after training."""
    network = build_network(plan_network(backbone, 64, embedding_size=8), seed, init="none")
    rng = torch.Generator().manual_seed(seed)
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for tensor, lowest in (
                (norm.running_mean, -1),
                (norm.running_var, 0.5),
                (norm.weight, 0.5),
                (norm.bias, -1),
            ):
                assert tensor is not None
                nn.init.uniform_(tensor, lowest, lowest + 1.5, generator=rng)
    return network.eval()


@torch.no_grad()
def exactly(network: Network, photographs: Tensor) -> Tensor:
    outputs: Tensor = network.eval()(photographs)
    return outputs


def cosines(a: Tensor, b: Tensor) -> Tensor:
    """Of what tells the vectors apart: the mean that all of them share is taken off."""
    return nn.functional.cosine_similarity(a - b.mean(0), b - b.mean(0))


def embed_photographs(
    embedder: Embedder, catalogue: Catalogue, recipe: Recipe = RECIPE, cache: Cache | None = None
) -> tuple[Tensor, list[str]]:
    """Every photograph's vector by one encoder, and what was wrong with it."""
    datasets = tuple(catalogue.by_dataset())
    extractors = FeatureExtractors(datasets, dict.fromkeys(datasets, (embedder,)), cache=cache)
    features = extract_features(catalogue, extractors, "column", recipe, "test")
    return torch.stack([one.vector for one in features]), [one.problem for one in features]


# the fast way


def test_a_small_sibling_of_megadescriptor_embeds_at_another_size_than_its_own() -> None:
    """Swin transformers, once traced, hold tables of five dimensions."""
    plan = plan_network("swin_tiny_patch4_window7_224", 64, normalise=True)
    network = build_network(plan, 0, "none")
    embedder = Embedder(network, RECIPE, replace(FLOAT32, batch_size=5))
    assert torch.allclose(embedder.embed(PHOTOGRAPHS), exactly(network, PHOTOGRAPHS), atol=1e-5)


@pytest.mark.parametrize(("precision", "least"), [("float32", 0.99999), ("bfloat16", 0.995)])
def test_the_fast_way_gives_the_exact_vectors(precision: str, least: float, toy_world: Path, toy_weights: Path) -> None:
    catalogue = read_catalogue(toy_world)
    for dataset, part in catalogue.query.by_dataset().items():
        network = load_network(toy_weights / encoder_file(dataset))
        size = network.plan.image_size
        full = [
            np.asarray(ImageOps.exif_transpose(Image.open(path).resize((size, size), Image.Resampling.BICUBIC)))
            for path in part.paths
        ]
        exact = exactly(network, torch.from_numpy(np.stack(full)).permute(0, 3, 1, 2))
        recipe = with_settings(RECIPE, {"backbone.image_size": size})
        fast, _ = embed_photographs(Embedder(network, recipe, Runtime(precision=precision)), part, recipe)
        assert cosines(fast, exact).min() > least, dataset


@pytest.mark.parametrize(
    ("precision", "threads", "each"), [("bfloat16", 1, 1), ("bfloat16", 2, 1), ("bfloat16", 9, 3), ("float32", 9, 9)]
)
def test_parts_of_a_batch_share_no_core(precision: str, threads: int, each: int) -> None:
    """Five photographs, two at a time: up to three parts run at once, and leave torch's threads as before."""
    before = torch.get_num_threads()
    network, counts = encoder(), set()
    embedder = Embedder(network, RECIPE, Runtime(precision=precision, batch_size=2))
    one_by_one = torch.cat([embedder.embed(photograph[None]) for photograph in PHOTOGRAPHS])
    embedder.fast.backbone.register_forward_pre_hook(lambda *_: counts.add(torch.get_num_threads()))
    torch.set_num_threads(threads)
    try:
        vectors = embedder.embed(PHOTOGRAPHS)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert counts == {each}
    assert torch.allclose(vectors, one_by_one, atol=1e-5)
    assert not vectors.requires_grad


def test_a_vector_does_not_depend_on_the_other_photographs() -> None:
    embedder = Embedder(encoder(), RECIPE, Runtime(batch_size=3))
    together = embedder.embed(PHOTOGRAPHS)
    alone = torch.cat([embedder.embed(photograph[None]) for photograph in PHOTOGRAPHS])
    assert torch.equal(together, alone)


def test_batches_keep_their_order_and_none_gives_none() -> None:
    network = encoder()
    vectors = embed(network, torch.split(PHOTOGRAPHS, 2), RECIPE, FLOAT32)
    assert torch.allclose(vectors, exactly(network, PHOTOGRAPHS), atol=1e-4)
    assert embed(network, [], RECIPE, FLOAT32).shape == (0, 8)


def test_what_float16_cannot_hold_is_computed_in_float32() -> None:
    network = encoder()
    with torch.no_grad():
        for norm in network.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.weight.mul_(30)
    vectors = Embedder(network, RECIPE, Runtime(precision="float16")).embed(PHOTOGRAPHS)
    assert torch.isfinite(vectors).all()
    assert torch.allclose(vectors, exactly(network, PHOTOGRAPHS), rtol=1e-3)


def test_too_little_memory_means_fewer_photographs_at_a_time() -> None:
    embedder = Embedder(encoder(), RECIPE, FLOAT32)
    expected = embedder.embed(PHOTOGRAPHS)

    def small(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if len(inputs[0]) > 2:
            raise torch.OutOfMemoryError

    embedder.fast.backbone.register_forward_pre_hook(small)
    assert torch.allclose(embedder.embed(PHOTOGRAPHS), expected, atol=1e-5)
    assert embedder.pass_size <= 2


def test_the_precision_is_the_devices_unless_it_is_named() -> None:
    cpu = torch.device("cpu")
    assert precision_on(cpu, "float16") == torch.float16
    assert precision_on(cpu, "auto") in (torch.bfloat16, torch.float32)
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16), ("float16", torch.float16)):
        embedder = Embedder(encoder(), RECIPE, Runtime(precision=name))
        assert embedder.precision == name
        assert next(embedder.fast.backbone.parameters()).dtype == dtype


def test_the_gpu_decides_between_its_two_short_formats(monkeypatch: pytest.MonkeyPatch) -> None:
    for capability, expected in [((7, 5), torch.float16), ((8, 0), torch.bfloat16), ((9, 0), torch.bfloat16)]:
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, found=capability: found)
        assert precision_on(torch.device("cuda"), "auto") == expected


# means over mirror images and sizes


def test_flip_and_scales_are_averaged_as_slowly() -> None:
    network = encoder()
    recipe = with_settings(RECIPE, {"prediction.flip_average": True, "prediction.scales": (1.0, 0.5)})
    with torch.no_grad():
        features = [network(image, scale) for image in (PHOTOGRAPHS, PHOTOGRAPHS.flip(3)) for scale in (1.0, 0.5)]
    vectors = Embedder(network, recipe, FLOAT32).embed(PHOTOGRAPHS)
    assert torch.allclose(vectors, torch.stack(features).mean(0), atol=1e-4)


def test_an_average_of_unit_vectors_is_a_unit_vector_and_knows_no_left_and_right() -> None:
    plan = plan_network("test_resnet", 64, embedding_size=8, normalise=True)
    recipe = with_settings(RECIPE, {"prediction.flip_average": True})
    embedder = Embedder(build_network(plan, 0, "none"), recipe, FLOAT32)
    vectors = embedder.embed(PHOTOGRAPHS)
    assert torch.allclose(vectors.norm(dim=1), torch.ones(5))
    assert torch.allclose(vectors, embedder.embed(PHOTOGRAPHS.flip(3)), atol=1e-6)


def test_other_scales_are_refused_for_a_backbone_of_one_size() -> None:
    network = build_network(plan_network("test_vit", 64), 0, "none")
    words = r"recipe field prediction\.scales: the backbone test_vit takes photographs of one size only; set it to 1"
    with pytest.raises(InputError, match=words):
        Embedder(network, with_settings(RECIPE, {"prediction.scales": (1.0, 0.5)}))


# out of the cache


class CountingEmbedder(Embedder):
    """Counts the photographs that its network has to embed."""

    computed = 0

    def features(self, photographs: Tensor) -> BackboneOutput:
        self.computed += len(photographs)
        return super().features(photographs)


@pytest.fixture
def weights(patterns: Path, tmp_path: Path) -> tuple[Path, Catalogue]:
    """A weights folder with one network, and photographs."""
    save_network(tmp_path / "net" / "Dots.safetensors", encoder())
    return tmp_path / "net", read_catalogue(patterns).query


def embed_cached(
    folder: Path, catalogue: Catalogue, recipe: Recipe = RECIPE, precision: str = "float32"
) -> tuple[Tensor, int]:
    """The vectors, and how many of them had to be computed."""
    embedder = CountingEmbedder(folder / "Dots.safetensors", recipe, Runtime(precision=precision))
    vectors, problems = embed_photographs(embedder, catalogue, recipe, Cache(folder))
    assert not any(problems)
    return vectors, embedder.computed


def test_no_photograph_is_embedded_twice(weights: tuple[Path, Catalogue]) -> None:
    first, computed = embed_cached(*weights)
    assert computed == len(weights[1])
    again, computed = embed_cached(*weights)
    assert computed == 0
    assert torch.equal(again, first)


def test_a_photograph_that_is_opened_in_another_way_is_embedded_again(weights: tuple[Path, Catalogue]) -> None:
    folder, catalogue = weights
    embed_cached(folder, catalogue)
    turned = replace(catalogue, table=catalogue.table.assign(orientation="right"))
    upright = with_settings(RECIPE, {"data.upright": tuple(catalogue.by_dataset())})
    assert embed_cached(folder, catalogue, upright)[1] == 0  # nothing has an orientation, nothing is turned
    assert embed_cached(folder, turned)[1] == 0
    assert embed_cached(folder, turned, upright)[1] == len(catalogue)
    for setting in ({"backbone.fit": "pad"}, {"prediction.flip_average": True}, {"prediction.scales": (0.5,)}):
        assert embed_cached(folder, catalogue, with_settings(RECIPE, setting))[1] == len(catalogue)


def test_where_the_cache_has_everything_no_network_is_loaded(
    weights: tuple[Path, Catalogue], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = embed_cached(*weights)
    monkeypatch.setattr(embedding, "load_network", None)
    assert torch.equal(embed_cached(*weights)[0], first)


def test_a_changed_photograph_is_embedded_again_under_whatever_name(weights: tuple[Path, Catalogue]) -> None:
    folder, catalogue = weights
    first, _ = embed_cached(folder, catalogue)
    one, other = catalogue.paths[:2]
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())  # the name stays, the content is another's
    swapped, computed = embed_cached(folder, catalogue)
    assert computed == 0
    assert torch.equal(swapped[0], first[1])
    Image.fromarray(255 - open_photograph(other, 48)).save(one)
    changed, computed = embed_cached(folder, catalogue)
    assert computed == 1
    assert not torch.allclose(changed[0], first[0])
    one.write_bytes(content)
    again, computed = embed_cached(folder, catalogue)
    assert computed == 0
    assert torch.equal(again, first)


def test_another_network_precision_or_version_has_entries_of_its_own(
    weights: tuple[Path, Catalogue], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, catalogue = weights
    first, _ = embed_cached(folder, catalogue)
    assert embed_cached(folder, catalogue, precision="bfloat16")[1] == len(catalogue)
    for name in ("FORWARD_VERSION", "DECODER_VERSION"):
        with monkeypatch.context() as changed:
            changed.setattr(embedding, name, "another")
            assert embed_cached(folder, catalogue)[1] == len(catalogue)
    for library in (torch, timm, PIL):
        with monkeypatch.context() as changed:
            changed.setattr(library, "__version__", f"{library.__version__}0")
            assert embed_cached(folder, catalogue)[1] == len(catalogue)
    save_network(folder / "Dots.safetensors", encoder(seed=1))
    other, computed = embed_cached(folder, catalogue)
    assert computed == len(catalogue)
    assert not torch.allclose(other, first)


def test_the_saliency_comes_back_with_the_vector(tmp_path: Path) -> None:
    plan = plan_network("test_resnet", 64, embedding_size=8, pooling="gem")
    save_network(tmp_path / "x.safetensors", build_network(plan, 0, "none"))
    cues = {"matching.cues": ("encoder", "local"), "backbone.pooling": "gem", "calibration.scorers": ("distance",)}
    with_keypoints, digests = with_settings(RECIPE, cues), ["a", "", "c", "d", "e"]
    cache = Cache(tmp_path)
    for recipe in (RECIPE, with_keypoints):
        embedder = Embedder(tmp_path / "x.safetensors", recipe, FLOAT32)
        assert embedder.from_cache(cache, "c") is None
        output = embedder.embed_with_saliency(PHOTOGRAPHS)
        cache.put_many(embedder.entries(digests, output))
        back = embedder.from_cache(cache, "c")
        assert back
        assert torch.equal(back.vectors, output.vectors[2:3])
        assert torch.equal(back.saliency, output.saliency[2:3])
        assert bool(back.saliency.numel()) == recipe.uses_keypoints
        assert embedder.from_cache(cache, "") is None


def test_saliency_without_gem_is_there_unless_the_recipe_keeps_it_to_gem() -> None:
    cues = {"matching.cues": ("encoder", "local"), "calibration.scorers": ("distance",)}
    network = build_network(plan_network("test_resnet", 64, embedding_size=8), 0, "none")
    for saliency in ("any", "gem"):
        embedder = Embedder(network, with_settings(RECIPE, {**cues, "keypoints.saliency": saliency}), FLOAT32)
        assert bool(embedder.embed_with_saliency(PHOTOGRAPHS).saliency.numel()) == (saliency == "any")


def test_a_photograph_that_cannot_be_read_is_not_kept(weights: tuple[Path, Catalogue]) -> None:
    folder, catalogue = weights
    content = catalogue.paths[0].read_bytes()
    catalogue.paths[0].write_bytes(b"no image")
    for _ in range(2):
        embedder = CountingEmbedder(folder / "Dots.safetensors", RECIPE, FLOAT32)
        _, problems = embed_photographs(embedder, catalogue, cache=Cache(folder))
        assert [bool(problem) for problem in problems] == [True] + [False] * (len(catalogue) - 1)
    assert embedder.computed == 1
    catalogue.paths[0].write_bytes(content)
    assert embed_cached(folder, catalogue)[1] == 1
