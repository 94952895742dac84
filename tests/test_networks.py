"""Networks in and out of files, first weights from a file, and what is said when they don't fit."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from reid import InputError
from reid.networks import Network, build_network, load_network, plan_network, save_network

TRUNK = "test_resnet"  # timm's smallest
PHOTOGRAPHS = torch.randint(0, 256, (5, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def encoder(**changes: object) -> Network:
    plan = plan_network(TRUNK, 64, **{"embedding_size": 8, "trained_on": ("1", "ü")} | changes)
    return build_network(plan, seed=0, init="none")


def trunk_tensors(seed: int) -> dict[str, torch.Tensor]:
    """A state dict as somebody else's file would hold it."""
    trunk = build_network(plan_network(TRUNK, 64, embedding_size=8), seed, init="none").trunk
    return {name: tensor.contiguous() for name, tensor in trunk.state_dict().items()}


@pytest.mark.parametrize("changes", [{}, {"hidden_size": 16}, {"embedding_size": 0, "classes": ("lynx", "turtle")}])
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
    plan = plan_network(TRUNK, 64, embedding_size=8)
    a, b, c = (build_network(plan, seed, "none").head[0].weight for seed in (1, 1, 2))
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_a_network_normalises_bytes_as_its_trunk_expects() -> None:
    network = encoder().eval()
    seen: list[torch.Tensor] = []
    network.trunk.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network(PHOTOGRAPHS)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (network.plan.mean, network.plan.std))
    assert torch.allclose(seen[0], (PHOTOGRAPHS / 255 - mean) / std, atol=1e-5)


def test_first_weights_come_from_a_file_and_a_classifier_head_in_it_is_left_aside(tmp_path: Path) -> None:
    source = trunk_tensors(seed=5)
    save_file({**source, "fc.weight": torch.zeros(1000, 3)}, tmp_path / "init.safetensors")
    torch.save(source, tmp_path / "init.pth")
    for name in ("init.safetensors", "init.pth"):
        network = build_network(plan_network(TRUNK, 64, embedding_size=8), seed=0, init=tmp_path / name)
        for tensor, value in network.trunk.state_dict().items():
            assert torch.equal(value, source[tensor]), tensor


def test_first_weights_that_do_not_fit_are_named_with_their_shapes(tmp_path: Path) -> None:
    state = trunk_tensors(seed=0)
    name = next(key for key, value in state.items() if value.ndim == 4)
    shape = tuple(state[name].shape)
    state[name] = torch.zeros(1, 2, 3, 4)
    state.pop(next(key for key in state if key.endswith("bn1.weight")))
    save_file(state, tmp_path / "init.safetensors")
    with pytest.raises(InputError) as caught:
        build_network(plan_network(TRUNK, 64, embedding_size=8), seed=0, init=tmp_path / "init.safetensors")
    message = str(caught.value)
    assert f"{name} (expected {shape}, found (1, 2, 3, 4))" in message
    assert "bn1.weight (missing)" in message
    assert "--set trunk=NAME" in message


@pytest.mark.parametrize("name", ["init.safetensors", "init.pth"])
def test_first_weights_that_are_no_weights_are_refused_without_running_their_code(tmp_path: Path, name: str) -> None:
    import pickle

    class Harmful:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "ran",))

    (tmp_path / name).write_bytes(pickle.dumps(Harmful()))
    with pytest.raises(InputError, match="expected a state dict"):
        build_network(plan_network(TRUNK, 64, embedding_size=8), seed=0, init=tmp_path / name)
    assert not (tmp_path / "ran").exists()


def test_without_network_and_file_both_ways_out_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import timm

    def no_hub(*_: object, pretrained: bool, **__: object) -> None:
        raise OSError("no route to host")

    plan = plan_network(TRUNK, 64, embedding_size=8)
    network = Network(plan)
    monkeypatch.setattr("reid.networks.Network", lambda _: network)
    monkeypatch.setattr(timm, "create_model", no_hub)
    with pytest.raises(InputError, match=r"ImageNet weights of test_resnet.*no route to host.*--init FILE.*init=none"):
        build_network(plan, seed=0, init="imagenet")


def test_an_unknown_trunk_gets_the_nearest_names() -> None:
    with pytest.raises(InputError, match=r"found 'resnet5O'.*resnet50"):
        plan_network("resnet5O", 64)


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
