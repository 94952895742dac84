"""Backbones by name, first weights from files and from the hub's cache, and what is said when something doesn't fit."""

import argparse
import json
import logging
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from reid.config.presets import PRESETS
from reid.config.settings import override
from reid.errors import InputError
from reid.models.backbones import build_backbone, check_scales
from reid.models.new_networks import build_network, plan_network
from reid.models.pretrained import count_features, describe_backbone, fetch_backbone, load_pretrained, save_backbone
from reid.training.networks import resolve_defaults

BACKBONE = "test_resnet"  # timm's smallest
PLAN = plan_network(BACKBONE, 64, embedding_size=8)


def backbone_tensors(seed: int) -> dict[str, torch.Tensor]:
    """A state dict as somebody else's file would hold it."""
    backbone = build_network(PLAN, seed, init="none").backbone
    return {name: tensor.contiguous() for name, tensor in backbone.state_dict().items()}


# what is known of a backbone


def test_a_backbone_brings_its_own_preprocessing() -> None:
    dinov2 = describe_backbone("vit_small_patch14_dinov2")
    assert (dinov2.image_size, dinov2.interpolation, dinov2.mean) == (518, "bicubic", (0.485, 0.456, 0.406))
    assert describe_backbone("tf_efficientnet_lite0").mean == (0.5, 0.5, 0.5)
    assert describe_backbone("resnet50.tv_in1k").interpolation == "bilinear"
    assert describe_backbone("resnet50.tv_in1k").name == "resnet50"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("resnet5O", r"found 'resnet5O'; did you mean .*resnet50.*\?"),
        ("zzz", r"found 'zzz'; `timm.list_models\(\)` lists them"),
        ("BVRA/MegaDescriptor-L-384", r"--set backbone=hf-hub:BVRA/MegaDescriptor-L-384"),
        ("resnet50.tv_in2k", r"no weights 'tv_in2k' of resnet50; it has .*tv_in1k"),
    ],
)
def test_an_unknown_backbone_gets_the_nearest_names(name: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        plan_network(name, 64)


@pytest.mark.parametrize(
    ("name", "size", "settings", "words"),
    [
        (
            "maxvit_tiny_tf_224",
            200,
            {},
            r"image_size: the backbone maxvit_tiny_tf_224 can't take.*200 pixels.*own size",
        ),
        (
            "test_vit",
            160,
            {"pooling": "gem"},
            r"pooling: gem pools the feature map of .* backbone, and test_vit gives none",
        ),
        (
            "test_vit",
            160,
            {"last_stride": 1},
            r"last_stride: the backbone test_vit halves nothing by a stride; set it to",
        ),
        (
            "test_convnext",
            160,
            {"last_stride": 1},
            r"last_stride: the last halving of the backbone test_convnext can't",
        ),
        (
            "dla46x_c",
            64,
            {"last_stride": 1},
            r"last_stride: the last halving of the backbone dla46x_c can't.*set it to 2",
        ),
        (
            "hrnet_w18_small",
            64,
            {"last_stride": 1},
            r"last_stride: the last halving of the backbone hrnet_w18_small can't",
        ),
        ("efficientvim_m1", 64, {"pooling": "gem"}, r"efficientvim_m1 gives none \(its output is a list\); set it to"),
        (
            "twins_svt_small",
            64,
            {"pooling": "gem"},
            r"twins_svt_small gives none \(its output has the shape .*; set it",
        ),
    ],
)
def test_what_a_backbone_cannot_do_is_refused_before_it_is_trained(
    name: str, size: int, settings: dict, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        plan_network(name, size, **settings)


@pytest.mark.parametrize(
    ("name", "size", "scales", "words"),
    [
        (
            "dla46x_c",
            224,
            (1.0, 0.5),
            r"dla46x_c can't take photographs of 112 pixels, 0.5 of 224; set it to 0.4286 \(96",
        ),
        (
            "hrnet_w18_small",
            64,
            (0.75,),
            r"hrnet_w18_small can't take photographs of 48 pixels, 0.75 of 64; set it to 0.5",
        ),
        ("halonet_h1", 256, (1.0, 1.5), r"halonet_h1 can't take photographs of 384 pixels, 1.5 of 256; set it to 1$"),
        (
            "deepseek_vit_412m",
            280,
            (1.0, 0.52),
            r"of 146 pixels, 0.52 of 280; set it to 0.5 \(140 .* or 0.55 \(154 pixels",
        ),
        ("test_vit", 160, (0.5,), r"the backbone test_vit takes photographs of one size only; set it to 1"),
    ],
)
def test_scales_that_a_backbone_cannot_take_are_refused_with_the_nearest(
    name: str, size: int, scales: tuple[float, ...], words: str
) -> None:
    with pytest.raises(InputError, match=rf"recipe field prediction\.scales: .*{words}"):
        check_scales(name, size, "backbone", 2, scales)


def test_the_scales_that_are_offered_are_taken() -> None:
    with pytest.raises(InputError) as caught:
        check_scales("dla46x_c", 224, "gem", 2, (0.5,))
    offered = tuple(float(scale) for scale in re.findall(r"([0-9.]+) \([0-9]+ pixels\)", str(caught.value)))
    assert len(offered) == 2
    network = build_network(plan_network("dla46x_c", 224, pooling="gem"), seed=0, init="none").eval()
    for scale in offered:
        check_scales("dla46x_c", 224, "gem", 2, (1.0, scale))
        assert network(torch.zeros(1, 3, 224, 224, dtype=torch.uint8), scale).shape == (1, network.plan.features)


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_convnext", "test_vit", "test_mambaout"])
def test_the_features_are_counted_without_computing_them(name: str) -> None:
    plan = plan_network(name, 96)
    assert build_backbone(name, 96, "backbone", 2).eval()(torch.zeros(1, 3, 96, 96)).shape == (1, plan.features)


def test_tensors_that_share_memory_can_be_saved(tmp_path: Path) -> None:
    table = torch.arange(12.0).view(3, 4)
    tensors = {"whole": table, "again": table, "row": table[1], "turned": table.T, "one": torch.ones(1).expand(5)}
    save_backbone(tmp_path / "x.safetensors", describe_backbone(BACKBONE), tensors, BACKBONE)
    saved = load_file(tmp_path / "x.safetensors")
    assert saved.keys() == tensors.keys()
    assert all(torch.equal(saved[name], tensor) for name, tensor in tensors.items())


# first weights


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("swin_large_patch4_window12_384", "backbone.image_size=0 backbone.pooling=backbone"),  # MegaDescriptor-L-384
        ("efficientnetv2_rw_m", "backbone=efficientnetv2_rw_m backbone.image_size=440"),
        (
            "vit_base_patch14_dinov2.lvd142m",
            "backbone=vit_base_patch14_dinov2.lvd142m backbone.image_size=224 backbone.pooling=backbone",
        ),
    ],
)
def test_the_documented_backbones_can_do_what_the_page_sets(name: str, settings: str) -> None:
    page = (Path(__file__).parents[1] / "docs" / "backbones.md").read_text("utf-8").replace("\\\n", "")
    assert " ".join(f"--set {setting}" for setting in settings.split()) in " ".join(page.split())
    backbone = describe_backbone(name)
    settled = resolve_defaults(override(PRESETS["frozen"], settings.split()), backbone).backbone
    assert count_features(backbone, settled.image_size, settled.pooling, settled.last_stride) > 700


def test_first_weights_come_from_a_file_and_a_classifier_head_in_it_is_ignored(tmp_path: Path) -> None:
    source = backbone_tensors(seed=5)
    save_file({**source, "fc.weight": torch.zeros(1000, 3)}, tmp_path / "init.safetensors")
    torch.save(source, tmp_path / "init.pth")
    for name in ("init.safetensors", "init.pth"):
        network = build_network(PLAN, seed=0, init=tmp_path / name)
        for tensor, value in network.backbone.state_dict().items():
            assert torch.equal(value, source[tensor]), tensor


def test_first_weights_that_do_not_fit_are_named_with_their_shapes(tmp_path: Path) -> None:
    state = backbone_tensors(seed=0)
    name = next(key for key, value in state.items() if value.ndim == 4)
    shape = tuple(state[name].shape)
    state[name] = torch.zeros(1, 2, 3, 4)
    state.pop(next(key for key in state if key.endswith("bn1.weight")))
    save_file(state, tmp_path / "init.safetensors")
    with pytest.raises(InputError) as caught:
        build_network(PLAN, seed=0, init=tmp_path / "init.safetensors")
    message = str(caught.value)
    assert f"{name} (expected {shape}, found (1, 2, 3, 4))" in message
    assert "bn1.weight (missing)" in message
    assert "--set backbone=NAME" in message


@pytest.mark.parametrize("name", ["init.safetensors", "init.pth"])
def test_first_weights_that_are_no_weights_are_refused_without_running_their_code(tmp_path: Path, name: str) -> None:
    import pickle

    class Harmful:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "ran",))

    # in torch's own protocol: it warns of others, and its message is another then
    (tmp_path / name).write_bytes(pickle.dumps(Harmful(), protocol=2))
    with pytest.raises(InputError, match="expected a state dict") as caught:
        build_network(PLAN, seed=0, init=tmp_path / name)
    assert "load failed" not in str(caught.value), "torch's own message advises to run it"
    assert not (tmp_path / "ran").exists()


def nested(keys: str, content: dict) -> dict:
    """The content under keys: "a.b" gives {"a": {"b": content}}."""
    for key in reversed(keys.split(".")):
        content = {key: content, "epoch": 3} if key else content
    return content


@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "encoder.", "model.", "_orig_mod.", "module.model."])
@pytest.mark.parametrize(
    "keys",
    ["", "state_dict", "model_state_dict", "model", "net", "network", "teacher", "student", "ema.state_dict", "a.b.c"],
)
def test_first_weights_are_found_inside_a_larger_model(tmp_path: Path, prefix: str, keys: str) -> None:
    source = backbone_tensors(seed=5)
    larger = {**{prefix + name: tensor for name, tensor in source.items()}, "pooling.p": torch.tensor(3.0)}
    momenta = {number: {"exp_avg": tensor} for number, tensor in enumerate(source.values())}
    torch.save(nested(keys, larger) | {"optimizer": {"state": momenta}}, tmp_path / "init.pth")
    backbone = build_backbone(BACKBONE, 64, "backbone", 2)
    load_pretrained(backbone, BACKBONE, tmp_path / "init.pth")
    assert all(torch.equal(tensor, source[name]) for name, tensor in backbone.state_dict().items())


@pytest.mark.parametrize(
    ("plain", "averaged"),
    [("model", "model_ema"), ("state_dict", "state_dict_ema"), ("student", "teacher"), ("a", "ema"), ("z", "EMA")],
)
@pytest.mark.parametrize("flat", [False, True])
def test_of_two_weights_the_averaged_are_taken_which_is_logged(
    tmp_path: Path, plain: str, averaged: str, flat: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "reid")
    parts = {plain: backbone_tensors(seed=1), averaged: backbone_tensors(seed=2)}
    joined = {f"{key}.{name}": tensor for key, part in parts.items() for name, tensor in part.items()}
    torch.save(joined if flat else parts, tmp_path / "init.pth")
    backbone = build_backbone(BACKBONE, 64, "backbone", 2)
    load_pretrained(backbone, BACKBONE, tmp_path / "init.pth")
    assert all(torch.equal(tensor, parts[averaged][name]) for name, tensor in backbone.state_dict().items())
    assert f"those of {averaged}. are taken" in caplog.text


@pytest.mark.parametrize(
    ("beside", "found"),
    [
        ({"random": np.random.RandomState(0).get_state()}, r"found numpy\S+_reconstruct beside the tensors"),
        ({"best": np.float64(0.5)}, r"found numpy\S+scalar beside the tensors"),
        ({"options": argparse.Namespace(lr=0.1)}, r"found argparse.Namespace beside the tensors"),
    ],
)
@pytest.mark.parametrize("key", ["", "model", "model_state_dict"])
def test_the_line_that_extracts_weights_from_among_other_things_works(
    tmp_path: Path, beside: dict, found: str, key: str
) -> None:
    source = backbone_tensors(seed=5)
    file = tmp_path / "it's a checkpoint.pth"
    torch.save(({key: source} if key else source) | beside, file)
    with pytest.raises(InputError, match=rf"expected a state dict.*{found}.*If you trust") as caught:
        load_pretrained(build_backbone(BACKBONE, 64, "backbone", 2), BACKBONE, file)
    python, option, code = shlex.split(str(caught.value).partition("which this line writes: ")[2])
    assert (python, option) == ("python", "-c")
    exec(code, {})  # what the user types
    backbone = build_backbone(BACKBONE, 64, "backbone", 2)
    load_pretrained(backbone, BACKBONE, file.with_suffix(".safetensors"))
    assert all(torch.equal(tensor, source[name]) for name, tensor in backbone.state_dict().items())


def test_code_in_a_checkpoint_is_never_run(tmp_path: Path) -> None:
    class Harmful:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"model": backbone_tensors(seed=0), "extra": Harmful()}, tmp_path / "init.pth")
    with pytest.raises(InputError, match=r"expected a state dict.*it is none, or holds more than tensors"):
        build_network(PLAN, seed=0, init=tmp_path / "init.pth")
    assert not (tmp_path / "ran").exists()


def test_a_checkpoint_that_holds_itself_is_read(tmp_path: Path) -> None:
    source = backbone_tensors(seed=5)
    content: dict[str, Any] = {"model": source}
    content["again"] = content
    torch.save(content, tmp_path / "init.pth")
    backbone = build_backbone(BACKBONE, 64, "backbone", 2)
    load_pretrained(backbone, BACKBONE, tmp_path / "init.pth")
    assert all(torch.equal(tensor, source[name]) for name, tensor in backbone.state_dict().items())


def half(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return dict(list(tensors.items())[: len(tensors) // 2])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda own: {}, r"such as bn1\.bias, found no tensors\. Name the file"),
        (lambda own: {"epoch": 3, "optimizer": {"lr": 0.1}}, r"found no tensors\. Name the file"),
        (lambda own: list(own.values()), r"found no tensors\. Name the file"),
        (
            lambda own: {"model": {f"x_{name}": tensor for name, tensor in own.items()}},
            r"found none of them, but such as x_bn1.bias.*--set backbone=NAME",
        ),
        (half, r"\(missing\) and \d+ more\. All that it holds fits, .*save the whole state dict"),
        (lambda own: {"net": half(own)}, r"\(missing\) and \d+ more\. All that it holds fits, .*save the whole"),
        (
            lambda own: {name: tensor[:1] for name, tensor in own.items() if tensor.ndim},
            r"expected \(\d+, .*, found \(1, .*more\. Name the backbone that the file belongs to",
        ),
    ],
)
def test_a_file_that_does_not_fit_is_told_what_differs_and_what_to_do(
    tmp_path: Path, change: Callable[[dict], Any], words: str
) -> None:
    torch.save(change(backbone_tensors(seed=0)), tmp_path / "init.pth")
    with pytest.raises(InputError, match=words):
        load_pretrained(build_backbone(BACKBONE, 64, "backbone", 2), BACKBONE, tmp_path / "init.pth")


def test_positions_are_resized_to_the_image_size(tmp_path: Path) -> None:
    own = timm.create_model("test_vit", num_classes=0)  # 160 pixels, patches of 16
    save_file(own.state_dict(), tmp_path / "init.safetensors")
    network = build_network(plan_network("test_vit", 96), seed=0, init=tmp_path / "init.safetensors")
    positions = network.backbone.get_parameter("pos_embed")
    assert positions.shape[1] == 37  # 6 x 6 patches and the class token
    assert torch.allclose(positions[:, 0], own.get_parameter("pos_embed")[:, 0])


def no_hub(monkeypatch: pytest.MonkeyPatch, before: Callable[[], None] = lambda: None) -> None:
    """The client of timm's hub does something and finds no way to it; backbones without weights can be made."""
    make = timm.create_model

    def create(name: str, pretrained: bool, **settings: Any) -> Any:
        if not pretrained:
            return make(name, pretrained=False, **settings)
        before()
        raise OSError("no route to host")

    monkeypatch.setattr(timm, "create_model", create)


def test_without_internet_and_file_the_error_names_every_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    no_hub(monkeypatch)
    ways = r"`reid fetch test_resnet --out FILE`.*--init FILE.*--recipe keypoints.*--set backbone.init=none"
    with pytest.raises(InputError, match=rf"weights of test_resnet.*no route to host.*{ways}"):
        build_network(PLAN, seed=0, init="test_resnet")


def test_asking_the_hub_is_logged_once_and_its_clients_warnings_are_not(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "reid")
    client = logging.getLogger("huggingface_hub.utils")
    no_hub(monkeypatch, lambda: client.warning("Retrying in 1s [Retry 1/5]."))
    for _ in range(2):  # no other test asks for a backbone of this name
        with pytest.raises(InputError, match="no route to host"):
            load_pretrained(build_backbone(BACKBONE, 160, "backbone", 2), BACKBONE, "a-backbone")
    (message,) = caplog.messages
    assert message.startswith("asking timm's hub for a-backbone")
    client.warning("logged again")
    assert caplog.messages[1:] == ["logged again"]


# the hub, or what lies in its cache on this machine


def fetch(names: list[str], file: Path, cache: Path) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own: the hub's client reads where its cache is when it is imported."""
    code = f"from reid import cli; print([cli.main(['fetch', name, '--out', {str(file)!r}]) for name in {names}])"
    hub = {"HF_HOME": str(cache), "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [sys.executable, "-c", code], env=os.environ | hub, capture_output=True, text=True, check=True
    )


def put_into_cache(cache: Path, repository: str, config: dict, tensors: dict[str, torch.Tensor]) -> None:
    """As the hub's client leaves a repository: a commit, and what the branch main points to."""
    folder = cache / "hub" / f"models--{repository.replace('/', '--')}"
    snapshot = folder / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0" * 40)
    (snapshot / "config.json").write_text(json.dumps(config))
    save_file(tensors, snapshot / "model.safetensors")


def test_a_backbone_is_fetched_from_the_cache_with_its_preprocessing(tmp_path: Path) -> None:
    """A made-up repository of a small network that was trained with another preprocessing than timm's own."""
    source = {
        name: tensor.contiguous()
        for name, tensor in build_backbone("test_vit", 160, "backbone", 2).state_dict().items()
    }
    config = {
        "architecture": "test_vit",
        "num_classes": 0,
        "num_features": 64,
        "pretrained_cfg": {
            "input_size": [3, 160, 160],
            "mean": [0.4, 0.5, 0.6],
            "std": [0.2, 0.2, 0.2],
            "interpolation": "bilinear",
            "fixed_input_size": True,
            "num_classes": 0,
            "first_conv": "patch_embed.proj",
            "classifier": "head",
        },
    }
    put_into_cache(tmp_path / "cache", "zoo/Small-160", config, source)
    file = tmp_path / "small.safetensors"
    ran = fetch(["hf-hub:zoo/Small-160"], file, tmp_path / "cache")
    assert ran.stdout.endswith("[0]\n"), ran.stderr
    assert "test_vit" in ran.stdout
    assert "=hf-hub:zoo/Small-160 --init" in ran.stderr
    fetched = load_file(file)
    assert all(torch.equal(fetched[name], tensor) for name, tensor in source.items())
    backbone = describe_backbone("hf-hub:zoo/Small-160", file)  # from the file alone
    assert (backbone.name, backbone.image_size, backbone.interpolation) == ("test_vit", 160, "bilinear")
    assert (backbone.mean, backbone.std) == ((0.4, 0.5, 0.6), (0.2, 0.2, 0.2))
    network = build_network(plan_network(backbone, 96), seed=0, init=file)
    assert network.plan.mean == (0.4, 0.5, 0.6)
    assert torch.equal(network.backbone.get_parameter("norm.weight"), source["norm.weight"])


def test_without_internet_and_cache_fetch_is_an_error_in_words(tmp_path: Path) -> None:
    names = ["resnet50", "hf-hub:BVRA/MegaDescriptor-L-384"]
    ran = fetch(names, tmp_path / "x.safetensors", tmp_path / "cache")
    assert ran.stdout.endswith("[2, 2]\n")
    errors = [line for line in ran.stderr.splitlines() if line.startswith("error: ")]
    for name, error in zip(names, errors, strict=True):
        assert f"expected weights of {name} from timm's hub, got none" in error
        assert f"Without internet: type `reid fetch {name} --out FILE` on a machine that has it" in error
    assert not (tmp_path / "x.safetensors").exists()


@pytest.mark.parametrize(("name", "found"), [("none.pth", "no file"), ("", "a folder")])
def test_first_weights_that_are_no_file_are_called_what_they_are(tmp_path: Path, name: str, found: str) -> None:
    backbone = build_backbone(BACKBONE, 160, "backbone", 2)
    with pytest.raises(InputError, match=f"expected a state dict of the backbone .*, found {found}; name the file"):
        load_pretrained(backbone, BACKBONE, tmp_path / name)


def test_a_fetched_file_holds_its_description(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained, **settings: make(name, **settings))
    fetch_backbone(BACKBONE, tmp_path / "x.safetensors")
    with safe_open(tmp_path / "x.safetensors", framework="pt") as opened:
        assert opened.metadata()["fetched"] == BACKBONE
        assert json.loads(opened.metadata()["backbone"])["name"] == BACKBONE
