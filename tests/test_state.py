"""A step of training: rates, what is frozen stays, and a restored state continues as the first state does."""

import copy

import pytest
import torch
from torch import nn

from reid.config.presets import PRESETS
from reid.config.recipe import Recipe
from reid.config.runtime import Runtime
from reid.config.settings import with_settings
from reid.models.new_networks import build_network, plan_network
from reid.training.objective import EncoderObjective, Labels
from reid.training.state import TrainState, rate_at

RECIPE = with_settings(
    PRESETS["toy"],
    {
        "head.neck": "bnneck",
        "loss.classification": "arcface",
        "head.embedding_size": 8,
        "training.learning_rate": 1e-2,
        "training.schedule": "constant",
    },
)
PLAN = plan_network("test_resnet", 32, embedding_size=8, neck=True)
GENERATOR = torch.Generator().manual_seed(0)
PIXELS = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8, generator=GENERATOR)
INDIVIDUALS = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
LABELS = Labels(INDIVIDUALS, INDIVIDUALS)


def start(recipe: Recipe = RECIPE, steps: int = 10) -> TrainState:
    objective = EncoderObjective(recipe, 8, torch.zeros(4, dtype=torch.long))
    return TrainState.start(
        build_network(PLAN, 0, "none"), objective, recipe, steps, runtime=Runtime(precision="float32")
    )


def weights(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_the_rate_rises_straight_and_falls_as_half_a_cosine() -> None:
    recipe = with_settings(RECIPE, {"training.schedule": "cosine", "training.warmup": 0.2})
    rates = [rate_at(step, 100, recipe) for step in range(101)]
    assert rates[:3] == pytest.approx([1 / 21, 2 / 21, 3 / 21])
    assert rates[20] == pytest.approx(1.0)
    assert rates[60] == pytest.approx(0.5)
    assert rates[100] == pytest.approx(0.0)
    assert max(rates) == rates[20]
    assert [rate_at(step, 100, with_settings(RECIPE, {"training.warmup": 0.0})) for step in (0, 50, 99)] == [1, 1, 1]


def test_steps_lower_the_loss_and_move_every_part() -> None:
    state = start()
    before, classes_before = weights(state.network), weights(state.objective)
    state.train()
    losses = [state.learn(PIXELS, LABELS)["loss"] for _ in range(10)]
    assert losses[-1] < losses[0]
    moved = changed(before, weights(state.network))
    assert {name.split(".")[0] for name in moved} == {"backbone", "head", "neck"}
    assert "neck.bias" not in moved
    assert changed(classes_before, weights(state.objective)) == {"classification.weight"}


def test_a_frozen_backbone_does_not_move_and_learns_from_features_as_from_photographs() -> None:
    recipe = with_settings(RECIPE, {"training.backbone_rate": 0.0})
    state, twin = start(recipe), start(recipe)
    before = weights(state.network)
    state.train()
    twin.train()
    with torch.no_grad():
        features = state.network.pooled_features(PIXELS)
    for _ in range(3):
        assert state.learn(PIXELS, LABELS) == twin.learn(features, LABELS)
    assert not {name for name in changed(before, weights(state.network)) if name.startswith("backbone")}
    assert not changed(weights(state.network), weights(twin.network))


def test_frozen_norms_keep_their_statistics_while_the_backbone_learns() -> None:
    state = start(with_settings(RECIPE, {"backbone.freeze_norms": True}))
    before = weights(state.network)
    state.train()
    state.learn(PIXELS, LABELS)
    moved = changed(before, weights(state.network))
    assert not {name for name in moved if name.startswith("backbone") and "running" in name}
    assert {name for name in moved if name.startswith("backbone") and name.endswith("conv1.weight")}
    assert "neck.running_mean" in moved


def test_the_backbones_rate_is_a_share_of_the_heads() -> None:
    state = start(with_settings(RECIPE, {"training.backbone_rate": 0.1}))
    assert [group["lr"] for group in state.optimizer.param_groups] == pytest.approx([1e-3, 1e-2])


def test_a_restored_state_continues_as_the_first_one_does() -> None:
    recipe = with_settings(RECIPE, {"training.schedule": "cosine"})
    state, restored = start(recipe), start(recipe)
    state.train()
    for _ in range(2):
        state.learn(PIXELS, LABELS)
    restored.restore(copy.deepcopy(state.state()))
    restored.train()
    for _ in range(2):
        assert state.learn(PIXELS, LABELS) == restored.learn(PIXELS, LABELS)
    assert not changed(weights(state.network), weights(restored.network))
