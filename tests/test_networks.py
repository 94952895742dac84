"""Networks in and out of files, and what their parts do."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from reid.data.catalogue import read_catalogue
from reid.data.photographs import open_photograph
from reid.errors import InputError
from reid.models.backbones import build_backbone, feature_map
from reid.models.networks import GeM, Network, cell_weights, load_network, read_plan
from reid.models.new_networks import build_network, plan_network, save_network

BACKBONE = "test_resnet"  # timm's smallest
OLD = Path(__file__).parent / "fixtures" / "weights-0.1.0" / "encoder"
PHOTOGRAPHS = torch.randint(0, 256, (5, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def encoder(backbone: str = BACKBONE, **changes: object) -> Network:
    plan = plan_network(backbone, 64, **{"embedding_size": 8, "trained_on": ("1", "ü")} | changes)
    return build_network(plan, seed=0, init="none")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"hidden_size": 16},
        {"embedding_size": 0, "classes": ("lynx", "turtle")},
        {"embedding_size": 0, "normalise": True},
        {"neck": True, "normalise": True, "pooling": "gem", "last_stride": 1},
        {"backbone": "eva02_tiny_patch14_224"},  # computes tables that its file does not hold
        {"backbone": "coat_tiny"},  # uses some of its tensors in several places
    ],
)
def test_a_network_comes_back_from_its_file_with_the_same_outputs_and_plan(tmp_path: Path, changes: dict) -> None:
    network = encoder(**changes)
    save_network(tmp_path / "x.safetensors", network)
    back = load_network(tmp_path / "x.safetensors")
    assert back.plan == network.plan
    assert torch.equal(back(PHOTOGRAPHS), network.eval()(PHOTOGRAPHS))
    assert not back.training


def test_the_same_network_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        save_network(tmp_path / name, encoder())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_seed_decides_the_weights_and_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    plan = plan_network(BACKBONE, 64, embedding_size=8)
    a, b, c = (build_network(plan, seed, "none").get_parameter("head.0.weight") for seed in (1, 1, 2))
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_a_network_normalises_bytes_as_its_backbone_expects() -> None:
    network = encoder().eval()
    inputs = inputs_of(network.backbone)
    network(PHOTOGRAPHS)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (network.plan.mean, network.plan.std))
    assert torch.allclose(inputs[0], (PHOTOGRAPHS / 255 - mean) / std, atol=1e-5)


def inputs_of(module: torch.nn.Module) -> list[torch.Tensor]:
    """The list of what a module is called with from now on."""
    inputs: list[torch.Tensor] = []
    module.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    return inputs


# pooling, stride, neck, length


def test_gem_is_the_mean_of_powers_and_lies_between_average_and_maximum() -> None:
    feature_map = torch.rand(3, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    pool = GeM()
    slow = [
        [(sum(value**3 for row in channel for value in row) / 30) ** (1 / 3) for channel in photograph]
        for photograph in feature_map.tolist()
    ]
    assert torch.allclose(pool(feature_map), torch.tensor(slow), atol=1e-6)
    with torch.no_grad():
        pool.p.fill_(1)
        assert torch.allclose(pool(feature_map), feature_map.mean((2, 3)))
        pool.p.fill_(500)
        assert torch.allclose(pool(feature_map), feature_map.amax((2, 3)), atol=1e-2)


def test_gem_has_a_gradient_where_all_features_are_negative() -> None:
    feature_map = (-torch.rand(2, 3, 4, 4)).requires_grad_()
    pooled = GeM()(feature_map)
    pooled.sum().backward()
    assert torch.isfinite(pooled).all()
    assert feature_map.grad is not None
    assert torch.isfinite(feature_map.grad).all()


@pytest.mark.parametrize("backbone", ["test_resnet", "test_efficientnet", "resnet18"])
def test_a_last_stride_of_one_doubles_the_feature_map_and_keeps_its_weights(backbone: str) -> None:
    published, dense = (build_backbone(backbone, 64, "backbone", stride).eval() for stride in (2, 1))
    pixels = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        coarse, fine = published.forward_features(pixels), dense.forward_features(pixels)
    assert [2 * side for side in coarse.shape[2:]] == list(fine.shape[2:])
    dense.load_state_dict(published.state_dict())  # the same weights fit both


def test_a_neck_has_a_scale_and_no_bias_to_learn_and_comes_after_the_head() -> None:
    network = encoder(neck=True)
    assert [name for name, weight in network.neck.named_parameters() if weight.requires_grad] == ["weight"]
    vectors = torch.randn(6, 8) * 3 + 5
    finished = network.train().finish(vectors)
    assert torch.allclose(finished.mean(0), torch.zeros(8), atol=1e-5)
    assert torch.allclose(finished.var(0, unbiased=False), torch.ones(8), atol=1e-3)


def test_normalised_embeddings_have_length_one() -> None:
    lengths = encoder(neck=True, normalise=True).eval()(PHOTOGRAPHS).norm(dim=1)
    assert torch.allclose(lengths, torch.ones(5))


def test_without_a_head_an_embedding_is_the_backbones_features() -> None:
    network = encoder(embedding_size=0).eval()
    assert network.plan.outputs == network.plan.features == 96
    assert torch.equal(network(PHOTOGRAPHS), network.pooled_features(PHOTOGRAPHS))


def test_a_scale_shrinks_the_photograph_before_the_backbone() -> None:
    network = encoder().eval()
    inputs = inputs_of(network.backbone)
    network(PHOTOGRAPHS, scale=0.5)
    assert inputs[0].shape == (5, 3, 32, 32)


@pytest.mark.parametrize(
    ("backbone", "side", "token"),
    [
        ("test_resnet", 2, False),  # (B, F, h, w)
        ("sequencer2d_s", 4, False),  # (B, h, w, F)
        ("test_vit", 4, True),  # the class token first
        ("mixer_s32_224", 2, False),  # tokens without one
    ],
)
def test_without_gem_saliency_is_how_much_of_a_cell_lies_along_the_vector(
    backbone: str, side: int, token: bool
) -> None:
    plan = plan_network(backbone, 64)
    network = build_network(plan, seed=0, init="none").eval()
    assert plan.has_saliency
    with torch.no_grad():
        features, saliency = network.features_with_saliency(PHOTOGRAPHS)
        raw = network.backbone.forward_features(network.backbone_input(PHOTOGRAPHS))
        assert torch.allclose(features, network.pooled_features(PHOTOGRAPHS), atol=1e-6)
    for photograph, values in zip(raw, saliency.tolist(), strict=True):
        if raw.ndim == 3:
            cells = [photograph[int(token) + place].tolist() for place in range(side * side)]
        else:
            last = photograph.permute(1, 2, 0) if photograph.shape[0] == plan.features else photograph
            cells = [last[row, column].tolist() for row in range(side) for column in range(side)]
        along = photograph[0].tolist() if token else [sum(column) / len(cells) for column in zip(*cells, strict=True)]
        products = [max(0.0, sum(a * b for a, b in zip(cell, along, strict=True))) for cell in cells]
        slow = np.array(products).reshape(side, side) / max(products)
        assert np.allclose(values, slow, atol=1e-4)


def under_masks() -> tuple[torch.Tensor, torch.Tensor]:
    """The photographs with masks of all pixels, some, half of one cell of 2 x 2, and none; what each cell counts."""
    covered = torch.zeros(5, 1, 64, 64, dtype=torch.uint8)
    covered[0], covered[1, :, :, 32:], covered[2, :, :16, :32] = 255, 255, 255
    covered[3] = 255
    covered[3, :, :32, :32] = 51
    shares = torch.tensor([[1, 1, 1, 1], [0, 1, 0, 1], [1, 0, 0, 0], [0.2, 1, 1, 1], [1, 1, 1, 1]])
    return torch.cat([PHOTOGRAPHS, covered], 1), shares.view(5, 1, 2, 2)


def test_cells_count_by_the_share_that_a_mask_covers_and_alike_where_it_covers_nothing() -> None:
    masked, shares = under_masks()
    weights = cell_weights(masked[:, 3:], 2, 2)
    assert torch.allclose(weights, shares / shares.mean((2, 3), keepdim=True))


@pytest.mark.parametrize(
    ("backbone", "pooling"),
    [
        ("test_resnet", "gem"),
        ("test_resnet", "backbone"),
        ("mixer_s32_224", "backbone"),
        ("swinv2_cr_tiny_224", "backbone"),
    ],
)
def test_the_feature_map_is_pooled_under_the_mask(backbone: str, pooling: str) -> None:
    masked, shares = under_masks()
    network = build_network(plan_network(backbone, 64, pooling=pooling), seed=0, init="none").eval()
    with torch.no_grad():
        see = network.backbone if pooling == "gem" else network.backbone.forward_features
        cells = feature_map(network.backbone, see(network.backbone_input(PHOTOGRAPHS)))
        assert cells is not None
        power = 3 if pooling == "gem" else 1
        values = cells.clamp(min=1e-6) if pooling == "gem" else cells
        slow = ((values**power * shares).sum((2, 3)) / shares.sum((2, 3))) ** (1 / power)
        pooled, saliency = network.features_with_saliency(masked)
        assert torch.allclose(pooled, slow, atol=1e-5)
        assert torch.allclose(pooled, network.pooled_features(masked), atol=1e-6)
        whole, as_ever = network.features_with_saliency(PHOTOGRAPHS)
        assert torch.equal(saliency, as_ever)
        assert torch.allclose(pooled[[0, 4]], whole[[0, 4]], atol=1e-6)
        assert not torch.allclose(pooled[1:4], whole[1:4], atol=1e-3)


@pytest.mark.parametrize("backbone", ["test_vit", "coat_tiny", "vit_base_patch16_siglip_224"])
def test_a_backbone_that_takes_no_mean_of_cells_sees_the_whole_photograph(backbone: str) -> None:
    """A class token, no grid at all, and attention over the cells."""
    network = build_network(plan_network(backbone, 64), seed=0, init="none").eval()
    with torch.no_grad():
        pooled = network.pooled_features(under_masks()[0])
        assert torch.allclose(pooled, network.pooled_features(PHOTOGRAPHS), atol=1e-6)


@pytest.mark.parametrize("backbone", ["coat_tiny", "pit_ti_224"])
def test_a_backbone_that_gives_no_grid_has_no_saliency(backbone: str) -> None:
    """The first gives a list, the second its class token alone."""
    assert not plan_network(backbone, 224).has_saliency


def test_the_plan_is_read_without_the_weights(tmp_path: Path) -> None:
    save_network(tmp_path / "x.safetensors", encoder(pooling="gem", last_stride=1))
    assert read_plan(tmp_path / "x.safetensors") == encoder(pooling="gem", last_stride=1).plan


def test_a_network_of_version_0_1_0_embeds_as_it_did() -> None:
    """Its file calls the backbone a trunk; the gallery next to it holds what that version made of the photographs."""
    network = load_network(OLD / "weights" / "Zebras.safetensors")
    assert (network.plan.backbone, network.plan.pooling) == ("test_efficientnet", "backbone")
    photographs = [open_photograph(path, 64) for path in read_catalogue(OLD / "data").database.paths]
    embeddings = network(torch.from_numpy(np.stack(photographs)).permute(0, 3, 1, 2))
    gallery = load_file(OLD / "weights" / "Zebras.gallery.safetensors")["vectors"]
    assert torch.allclose(embeddings, gallery, atol=1e-4)


@pytest.mark.parametrize("damage", ["cut", "empty", "pickle", "no plan"])
def test_a_file_that_is_no_network_is_named(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "lynx.safetensors"
    save_network(path, encoder())
    if damage == "no plan":
        save_file({"x": torch.zeros(1)}, path)
    else:
        path.write_bytes({"cut": path.read_bytes()[:-100], "empty": b"", "pickle": b"\x80\x04N."}[damage])
    with pytest.raises(InputError, match=r"lynx\.safetensors: expected a network.*Copy the weights folder again"):
        load_network(path)
