"""A step of training: rates, averages, what is frozen stays, and a state that is gone back to goes on the same way."""

import copy
from dataclasses import replace

import pytest
import torch

from reid.config.presets import PRESETS
from reid.config.recipe import Recipe
from reid.config.settings import with_settings
from reid.models.networks import Network, build_network, plan_network
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
LABELS = Labels(INDIVIDUALS, INDIVIDUALS, torch.arange(8), torch.full((8,), -1))


def learner(recipe: Recipe = RECIPE, steps: int = 10) -> TrainState:
    objective = EncoderObjective(recipe, 8, torch.zeros(4, dtype=torch.long))
    return TrainState.start(build_network(PLAN, 0, "none"), objective, recipe, steps)


def weights(network: Network) -> dict[str, torch.Tensor]:
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
    one = learner()
    before, centres = weights(one.network), one.objective.classification.weight.clone()
    one.train()
    losses = [one.learn(PIXELS, LABELS)["loss"] for _ in range(10)]
    assert losses[-1] < losses[0]
    moved = changed(before, weights(one.network))
    assert {name.split(".")[0] for name in moved} == {"backbone", "head", "neck"}
    assert "neck.bias" not in moved
    assert not torch.equal(one.objective.classification.weight, centres)


def test_a_frozen_backbone_does_not_move_and_learns_from_features_as_from_photographs() -> None:
    recipe = with_settings(RECIPE, {"training.backbone_rate": 0.0})
    one, other = learner(recipe), learner(recipe)
    before = weights(one.network)
    one.train()
    other.train()
    with torch.no_grad():
        features = one.network.pooled_features(PIXELS)
    for _ in range(3):
        assert one.learn(PIXELS, LABELS) == other.learn(features, LABELS)
    assert not {name for name in changed(before, weights(one.network)) if name.startswith("backbone")}
    assert not changed(weights(one.network), weights(other.network))


def test_frozen_norms_keep_their_statistics_while_the_backbone_learns() -> None:
    one = learner(with_settings(RECIPE, {"backbone.freeze_norms": True}))
    before = weights(one.network)
    one.train()
    one.learn(PIXELS, LABELS)
    moved = changed(before, weights(one.network))
    assert not {name for name in moved if name.startswith("backbone") and "running" in name}
    assert {name for name in moved if name.startswith("backbone") and name.endswith("conv1.weight")}
    assert "neck.running_mean" in moved


def test_the_backbones_rate_is_a_share_of_the_heads() -> None:
    one = learner(with_settings(RECIPE, {"training.backbone_rate": 0.1}))
    assert [group["lr"] for group in one.optimizer.param_groups] == pytest.approx([1e-3, 1e-2])


def test_the_average_is_the_slow_twins_and_is_what_results() -> None:
    one = learner(replace(RECIPE, ema=0.9))
    one.train()
    expected = None
    for _ in range(4):
        one.learn(PIXELS, LABELS)
        now = {name: tensor for name, tensor in weights(one.network).items() if tensor.is_floating_point()}
        expected = {name: 0.9 * expected[name] + 0.1 * now[name] for name in now} if expected else now
    found = one.result.state_dict()
    assert expected is not None
    assert all(torch.allclose(found[name], tensor, atol=1e-6) for name, tensor in expected.items())
    assert changed(weights(one.network), weights(one.result))


def test_what_is_kept_stays_as_it_was() -> None:
    one = learner()
    one.keep()
    before = weights(one.network)
    one.train()
    one.learn(PIXELS, LABELS)
    assert not changed(before, one.best)


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_state_that_is_gone_back_to_goes_on_the_same_way(ema: float) -> None:
    recipe = replace(RECIPE, ema=ema, schedule="cosine")
    one, other = learner(recipe), learner(recipe)
    one.train()
    for _ in range(2):
        one.learn(PIXELS, LABELS)
    one.keep()
    other.restore(copy.deepcopy(one.state()))
    other.train()
    for _ in range(2):
        assert one.learn(PIXELS, LABELS) == other.learn(PIXELS, LABELS)
    assert not changed(weights(one.result), weights(other.result))
    assert not changed(one.best, other.best)
