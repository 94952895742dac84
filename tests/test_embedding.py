"""The fast way to a vector against the exact one; and what is remembered, which must never be stale."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn

from reid.config.recipe import Recipe
from reid.config.settings import with_settings
from reid.data.catalogue import Catalogue, read_catalogue
from reid.data.photographs import View, open_photograph
from reid.decision.artifact import encoder_file
from reid.errors import InputError
from reid.models.networks import Network, build_network, load_network, plan_network, save_network
from reid.retrieval import embedding
from reid.retrieval.cache import EmbeddingCache, digests_of
from reid.retrieval.embedding import Embedder, embed, load_embedder, precision_on
from reid.retrieval.extraction import FeatureExtractors, extract_features

PHOTOGRAPHS = torch.randint(0, 256, (5, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
FLOAT32 = Recipe(image_size=64, interpolation="bicubic", precision="float32")


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
    return network.eval()(photographs)


def cosines(a: Tensor, b: Tensor) -> Tensor:
    """Of what tells the vectors apart: the mean that all of them share is taken off."""
    return nn.functional.cosine_similarity(a - b.mean(0), b - b.mean(0))


def embed_photographs(embedder: Embedder, catalogue: Catalogue, recipe: Recipe) -> tuple[Tensor, list[str]]:
    """Every photograph's vector by one encoder, and what was wrong with it."""
    datasets = tuple(catalogue.by_dataset())
    features = extract_features(
        catalogue,
        FeatureExtractors(datasets, dict.fromkeys(datasets, embedder), None, None, None),
        "column",
        recipe,
        "test",
    )
    return torch.stack([look.vector for look in features]), [look.problem for look in features]


# the fast way


def test_a_small_sibling_of_megadescriptor_embeds_at_another_size_than_its_own() -> None:
    """Swin transformers, once traced, hold tables of five dimensions."""
    plan = plan_network("swin_tiny_patch4_window7_224", 64, normalise=True)
    network = build_network(plan, 0, "none")
    embedder = Embedder(network, replace(FLOAT32, batch_size=5))
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
        recipe = Recipe(image_size=size, interpolation="bicubic", precision=precision)
        fast, _ = embed_photographs(Embedder(network, recipe), part, recipe)
        assert cosines(fast, exact).min() > least, dataset


@pytest.mark.parametrize(
    ("precision", "threads", "each"), [("bfloat16", 1, 1), ("bfloat16", 2, 1), ("bfloat16", 9, 3), ("float32", 9, 9)]
)
def test_parts_of_a_batch_share_no_core(precision: str, threads: int, each: int) -> None:
    """Five photographs, two at a time: up to three parts run beside each other, and leave torch's threads as before."""
    before = torch.get_num_threads()
    network, seen = encoder(), set()
    embedder = Embedder(network, replace(FLOAT32, batch_size=2, precision=precision))
    one_by_one = torch.cat([embedder.embed(photograph[None]) for photograph in PHOTOGRAPHS])
    embedder.fast.register_forward_pre_hook(lambda *_: seen.add(torch.get_num_threads()))
    torch.set_num_threads(threads)
    try:
        vectors = embedder.embed(PHOTOGRAPHS)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert seen == {each}
    assert torch.allclose(vectors, one_by_one, atol=1e-5)
    assert not vectors.requires_grad


def test_a_vector_does_not_depend_on_the_photographs_beside_it() -> None:
    embedder = Embedder(encoder(), Recipe(image_size=64, batch_size=3))
    together = embedder.embed(PHOTOGRAPHS)
    alone = torch.cat([embedder.embed(photograph[None]) for photograph in PHOTOGRAPHS])
    assert torch.equal(together, alone)


def test_batches_keep_their_order_and_none_gives_none() -> None:
    network = encoder()
    assert torch.allclose(embed(network, PHOTOGRAPHS.split(2), FLOAT32), exactly(network, PHOTOGRAPHS), atol=1e-4)
    assert embed(network, [], FLOAT32).shape == (0, 8)


def test_what_float16_cannot_hold_is_computed_in_float32() -> None:
    network = encoder()
    with torch.no_grad():
        for norm in network.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.weight *= 30
    vectors = Embedder(network, Recipe(image_size=64, precision="float16")).embed(PHOTOGRAPHS)
    assert torch.isfinite(vectors).all()
    assert torch.allclose(vectors, exactly(network, PHOTOGRAPHS), rtol=1e-3)


def test_too_little_memory_means_fewer_photographs_at_a_time() -> None:
    embedder = Embedder(encoder(), FLOAT32)
    expected = embedder.embed(PHOTOGRAPHS)

    def small(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if len(inputs[0]) > 2:
            raise torch.OutOfMemoryError

    embedder.fast.register_forward_pre_hook(small)
    assert torch.allclose(embedder.embed(PHOTOGRAPHS), expected, atol=1e-5)
    assert embedder.pass_size <= 2


def test_the_precision_is_the_devices_unless_it_is_named() -> None:
    cpu = torch.device("cpu")
    assert precision_on(cpu, "float16") == torch.float16
    assert precision_on(cpu, "auto") in (torch.bfloat16, torch.float32)


def test_the_gpu_decides_between_its_two_short_formats(monkeypatch: pytest.MonkeyPatch) -> None:
    for capability, expected in [((7, 5), torch.float16), ((8, 0), torch.bfloat16), ((9, 0), torch.bfloat16)]:
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, found=capability: found)
        assert precision_on(torch.device("cuda"), "auto") == expected


# several looks at one photograph


def test_flip_and_scales_are_averaged_as_slowly() -> None:
    network = encoder()
    recipe = with_settings(FLOAT32, {"prediction.flip_average": True, "prediction.scales": (1.0, 0.5)})
    with torch.no_grad():
        features = [network(image, scale) for image in (PHOTOGRAPHS, PHOTOGRAPHS.flip(3)) for scale in (1.0, 0.5)]
    assert torch.allclose(Embedder(network, recipe).embed(PHOTOGRAPHS), torch.stack(features).mean(0), atol=1e-4)


def test_an_average_of_unit_vectors_is_a_unit_vector_and_knows_no_left_and_right() -> None:
    plan = plan_network("test_resnet", 64, embedding_size=8, normalise=True)
    embedder = Embedder(build_network(plan, 0, "none"), with_settings(FLOAT32, {"prediction.flip_average": True}))
    vectors = embedder.embed(PHOTOGRAPHS)
    assert torch.allclose(vectors.norm(dim=1), torch.ones(5))
    assert torch.allclose(vectors, embedder.embed(PHOTOGRAPHS.flip(3)), atol=1e-6)


def test_other_scales_are_refused_for_a_backbone_of_one_size() -> None:
    network = build_network(plan_network("test_vit", 64), 0, "none")
    with pytest.raises(
        InputError, match=r"recipe field scales: the backbone test_vit takes photographs of one size only"
    ):
        Embedder(network, with_settings(FLOAT32, {"prediction.scales": (1.0, 0.5)}))


# what is remembered


def test_a_photograph_that_is_looked_at_in_another_way_is_another_memory(
    remembering: tuple[Path, Catalogue],
) -> None:
    folder, catalogue = remembering
    look(folder, catalogue)
    turned = replace(catalogue, table=catalogue.table.assign(orientation="right"))
    upright = with_settings(FLOAT32, {"data.upright": tuple(catalogue.by_dataset())})
    assert look(folder, catalogue, upright)[1] == 0  # nothing has an orientation, nothing is turned
    assert look(folder, turned)[1] == 0
    assert look(folder, turned, upright)[1] == len(catalogue)
    assert look(folder, catalogue, with_settings(FLOAT32, {"backbone.fit": "pad"}))[1] == len(catalogue)
    assert look(folder, catalogue, with_settings(FLOAT32, {"prediction.flip_average": True}))[1] == len(catalogue)


@pytest.fixture
def remembering(patterns: Path, tmp_path: Path) -> tuple[Path, Catalogue]:
    """A weights folder with one network, and photographs."""
    save_network(tmp_path / "net" / "Dots.safetensors", encoder())
    return tmp_path / "net", read_catalogue(patterns).query


def look(folder: Path, catalogue: Catalogue, recipe: Recipe = FLOAT32) -> tuple[Tensor, int]:
    """The vectors, and how many of them had to be computed."""
    embedder = load_embedder(folder, "Dots.safetensors", recipe)
    known = len(embedder.cache.vectors) if embedder.cache else 0
    vectors, problems = embed_photographs(embedder, catalogue, recipe)
    assert not any(problems)
    assert embedder.cache
    return vectors, len(embedder.cache.vectors) - known


def test_what_was_embedded_is_remembered(remembering: tuple[Path, Catalogue]) -> None:
    first, computed = look(*remembering)
    assert computed == len(remembering[1])
    again, computed = look(*remembering)
    assert computed == 0
    assert torch.equal(again, first)


def test_where_everything_is_remembered_no_network_is_loaded(
    remembering: tuple[Path, Catalogue], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = look(*remembering)
    monkeypatch.setattr(embedding, "load_network", None)
    assert torch.equal(look(*remembering)[0], first)


def test_a_changed_photograph_is_embedded_again_under_whatever_name(remembering: tuple[Path, Catalogue]) -> None:
    folder, catalogue = remembering
    first, _ = look(folder, catalogue)
    one, other = catalogue.paths[:2]
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())  # the name stays, the content is another's
    swapped, computed = look(folder, catalogue)
    assert computed == 0
    assert torch.equal(swapped[0], first[1])
    Image.fromarray(255 - open_photograph(other, 48)).save(one)
    changed, computed = look(folder, catalogue)
    assert computed == 1
    assert not torch.allclose(changed[0], first[0])
    one.write_bytes(content)
    assert torch.equal(look(folder, catalogue)[0], first)


def test_another_network_or_precision_remembers_nothing_of_this_one(remembering: tuple[Path, Catalogue]) -> None:
    folder, catalogue = remembering
    first, _ = look(folder, catalogue)
    assert look(folder, catalogue, replace(FLOAT32, precision="bfloat16"))[1] == len(catalogue)
    save_network(folder / "Dots.safetensors", encoder(seed=1))
    other, computed = look(folder, catalogue)
    assert computed == len(catalogue)
    assert not torch.allclose(other, first)


@pytest.mark.parametrize("damage", [b"", b"not a safetensors file at all", None])
def test_a_damaged_memory_is_no_memory(damage: bytes | None, remembering: tuple[Path, Catalogue]) -> None:
    folder, catalogue = remembering
    first, _ = look(folder, catalogue)
    (path,) = (folder / "cache").iterdir()
    path.write_bytes(path.read_bytes()[:-20] if damage is None else damage)
    again, computed = look(folder, catalogue)
    assert computed == len(catalogue)
    assert torch.equal(again, first)


def test_a_memory_that_cannot_be_saved_costs_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    memory = EmbeddingCache(tmp_path / "cache" / "x.safetensors", "key")
    memory.vectors["00" * 32] = torch.zeros(3)
    memory.save()
    assert (tmp_path / "cache").is_file()


def test_a_photograph_that_cannot_be_read_is_not_remembered(remembering: tuple[Path, Catalogue]) -> None:
    folder, catalogue = remembering
    catalogue.paths[0].write_bytes(b"no image")
    embedder = load_embedder(folder, "Dots.safetensors", FLOAT32)
    _, problems = embed_photographs(embedder, catalogue, FLOAT32)
    assert problems[0]
    assert embedder.cache
    assert len(embedder.cache.vectors) == len(catalogue) - 1
    assert digests_of([catalogue.paths[0].parent, catalogue.paths[0].with_name("none")], [View(64)] * 2) == ["", ""]
