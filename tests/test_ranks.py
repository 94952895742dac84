"""Several processes do what one does: shares, gathered gradients, batch norms, a step of training, whole runs."""

from pathlib import Path

import numpy as np
import pytest
import torch
from processes import end, spread

from reid import ranks
from reid.images import Part, augment
from reid.learner import Learner
from reid.networks import build_network, plan_network
from reid.norms import over_ranks
from reid.objective import EncoderObjective, Labels
from reid.ranks import gathered, share
from reid.recipe import RECIPES, override

INDIVIDUALS = torch.arange(8).repeat_interleave(4)
"""P = 8 and K = 4: 32 rows, which three ranks share unevenly."""
LABELS = Labels(INDIVIDUALS, INDIVIDUALS, torch.arange(32), torch.full((32,), -1))
STEPPED = override(
    RECIPES["toy"],
    ["neck=bnneck", "classification=arcface", "hidden_size=16", "embedding_size=8", "augment=each", "erasing=0.5"],
)


@pytest.mark.parametrize("world", [1, 2, 3, 7])
@pytest.mark.parametrize("count", [0, 2, 7, 64])
def test_shares_are_even_and_together_everything_in_order(
    world: int, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", str(world))
    rows = [np.arange(count)[share(count, of)] for of in range(world)]
    assert np.array_equal(np.concatenate(rows), np.arange(count))
    assert max(map(len, rows)) - min(map(len, rows)) <= 1


def test_a_process_alone_exchanges_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    rows = torch.ones(3, 2)
    with ranks.joined():
        assert gathered(rows, 3) is rows
        assert (ranks.collected("x"), ranks.first_says(1), ranks.any_rank(True)) == (["x"], 1, True)
    network = build_network(plan_network("test_resnet", 32), 0, "none")
    assert over_ranks(network) is network


@pytest.mark.parametrize("augmenting", [{"augment": "one"}, {"augment": "each", "erasing": 0.9}])
def test_a_part_of_a_batch_is_augmented_as_in_the_whole(augmenting: dict[str, object]) -> None:
    recipe = override(RECIPES["toy"], [f"{name}={value}" for name, value in augmenting.items()])
    pixels = torch.randint(0, 256, (7, 3, 24, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    whole = augment(pixels, recipe, np.random.default_rng(0))
    parts = [augment(pixels[own], recipe, np.random.default_rng(0), Part(7, own)) for own in (slice(0, 4), slice(4, 7))]
    assert torch.equal(torch.cat(parts), whole)


def step(out: Path) -> None:
    """Two steps of training on this rank's share of one batch; writes losses, figures, gradients and weights."""
    pixels = torch.randint(0, 256, (32, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    plan = plan_network("test_resnet", 32, hidden_size=16, embedding_size=8, neck=True)
    network = build_network(plan, 0, "none")
    learner = Learner.start(network, EncoderObjective(STEPPED, 8, torch.zeros(8, dtype=torch.long)), STEPPED, 10)
    learner.train()
    own = share(32)
    rng = np.random.default_rng(0)
    photographs = augment(pixels[own], STEPPED, rng, Part(32, own))
    figures = learner.learn(photographs, LABELS)
    gradients = {name: parameter.grad for name, parameter in network.named_parameters() if parameter.grad is not None}
    gradients["classes"] = learner.objective.classification.weight.grad
    gradients = {name: gradient.clone() for name, gradient in gradients.items()}
    norms = {name: tensor.clone() for name, tensor in network.named_buffers() if "running" in name}
    second = learner.learn(photographs, LABELS)
    torch.save((figures, second, gradients, norms, network.state_dict()), out / f"{ranks.rank()}.pt")


def test_ranks_come_to_the_loss_the_gradients_and_the_norms_of_one_process(tmp_path: Path) -> None:
    found = {}
    for world in (1, 2, 3, 4):
        (tmp_path / str(world)).mkdir()
        assert end(spread(step, (tmp_path / str(world),), world)) == [0] * world
        found[world] = [torch.load(tmp_path / str(world) / f"{rank}.pt") for rank in range(world)]
    ((figures, second, gradients, norms, _),) = found[1]
    largest = max(float(gradient.abs().max()) for gradient in gradients.values())
    assert len(gradients) > 20
    assert {name.split(".")[0] for name in norms} == {"trunk", "head", "neck"}
    for world in (2, 3, 4):
        for theirs in found[world]:
            for expected, got in ((figures, theirs[0]), (second, theirs[1])):
                assert got == pytest.approx(expected, rel=2e-4, abs=1e-6)
            for expected, got, size in ((gradients, theirs[2], largest), (norms, theirs[3], 1.0)):
                assert expected.keys() == got.keys()
                for name in expected:
                    assert torch.allclose(got[name], expected[name], rtol=1e-3, atol=1e-5 * size), (world, name)
        same = found[world][0][4]
        assert all(torch.equal(same[name], other[4][name]) for other in found[world] for name in same)
