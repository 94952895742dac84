"""Several processes do what one does: shares, gathered gradients, batch norms, a step of training, whole runs."""

import os
import re
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from processes import end, spread, start, train
from safetensors.torch import load_file

from reid.config.presets import PRESETS
from reid.config.recipe import Recipe
from reid.config.runtime import Runtime
from reid.config.settings import override
from reid.data.augmentation import Part, augment
from reid.models.new_networks import build_network, plan_network
from reid.runtime import distributed
from reid.runtime.distributed import all_gather_rows, shard
from reid.training.objective import EncoderObjective, Labels
from reid.training.state import TrainState
from reid.training.synchronised import synchronise_batch_norms

INDIVIDUALS = torch.arange(8).repeat_interleave(4)
"""P = 8 and K = 4: 32 rows, which three ranks share unevenly."""
LABELS = Labels(INDIVIDUALS, INDIVIDUALS)
STEPPED = override(
    PRESETS["toy"],
    [
        "head.neck=bnneck",
        "loss.classification=arcface",
        "head.hidden_size=16",
        "head.embedding_size=8",
        "augmentation.choose=each",
        "augmentation.erasing=0.5",
    ],
)


@pytest.mark.parametrize("world", [1, 2, 3, 7])
@pytest.mark.parametrize("count", [0, 2, 7, 64])
def test_shares_are_even_and_together_everything_in_order(
    world: int, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", str(world))
    rows = [np.arange(count)[shard(count, of)] for of in range(world)]
    assert np.array_equal(np.concatenate(rows), np.arange(count))
    assert max(map(len, rows)) - min(map(len, rows)) <= 1


def test_a_process_alone_exchanges_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    rows = torch.ones(3, 2)
    with distributed.process_group():
        assert all_gather_rows(rows, 3) is rows
        assert (distributed.all_gather_object("x"), distributed.broadcast_from_main(1), distributed.any_rank(True)) == (
            ["x"],
            1,
            True,
        )
    network = build_network(plan_network("test_resnet", 32), 0, "none")
    assert synchronise_batch_norms(network) is network


@pytest.mark.parametrize(
    "settings", [["augmentation.choose=one"], ["augmentation.choose=each", "augmentation.erasing=0.9"]]
)
def test_a_part_of_a_batch_is_augmented_as_in_the_whole(settings: list[str]) -> None:
    recipe = override(PRESETS["toy"], settings)
    pixels = torch.randint(0, 256, (7, 3, 24, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    whole = augment(pixels, recipe.augmentation, np.random.default_rng(0))
    parts = [
        augment(pixels[own], recipe.augmentation, np.random.default_rng(0), Part(7, own))
        for own in (slice(0, 4), slice(4, 7))
    ]
    assert torch.equal(torch.cat(parts), whole)


def step(out: Path) -> None:
    """A step of training on this rank's share of one batch; writes figures, gradients, running means and weights.

    In float64, so that rounding can't hide a mistake: the bends of a network with batch norms make one per cent of a
    gradient of float32's last digits.
    """
    pixels = torch.randint(0, 256, (32, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    plan = plan_network("test_resnet", 32, hidden_size=16, embedding_size=8, neck=True)
    network = build_network(plan, 0, "none").double()
    objective = EncoderObjective(STEPPED, 8, torch.zeros(8, dtype=torch.long)).double()
    state = TrainState.start(network, objective, STEPPED, 10, runtime=Runtime(precision="float32"))
    state.train()
    own = shard(32)
    rng = np.random.default_rng(0)
    photographs = augment(pixels[own], STEPPED.augmentation, rng, Part(32, own))
    torch.Tensor.float = torch.Tensor.double  # type: ignore[method-assign]
    figures = state.learn(photographs, LABELS)
    parameters = [*network.named_parameters(), *objective.named_parameters()]
    gradients = {name: parameter.grad.clone() for name, parameter in parameters if parameter.grad is not None}
    assert "classification.weight" in gradients
    norms = {name: tensor.clone() for name, tensor in network.named_buffers() if "running" in name}
    torch.save((figures, gradients, norms, network.state_dict()), out / f"{distributed.rank()}.pt")


def test_ranks_come_to_the_loss_the_gradients_and_the_norms_of_one_process(tmp_path: Path) -> None:
    found = {}
    for world in (1, 2, 3, 4):
        (tmp_path / str(world)).mkdir()
        assert end(spread(step, (tmp_path / str(world),), world)) == [0] * world
        found[world] = [torch.load(tmp_path / str(world) / f"{rank}.pt") for rank in range(world)]
    ((figures, gradients, norms, _),) = found[1]
    largest = max(float(gradient.abs().max()) for gradient in gradients.values())
    assert len(gradients) > 20
    assert {name.split(".")[0] for name in norms} == {"backbone", "head", "neck"}
    for world in (2, 3, 4):
        for theirs in found[world]:
            assert theirs[0] == pytest.approx(figures, rel=1e-9)
            for expected, got, size in ((gradients, theirs[1], largest), (norms, theirs[2], 1.0)):
                assert expected.keys() == got.keys()
                for name in expected:
                    assert torch.allclose(got[name], expected[name], rtol=1e-7, atol=1e-10 * size), (world, name)
        same = found[world][0][3]
        assert all(torch.equal(same[name], other[3][name]) for other in found[world] for name in same)


# whole runs


def enrol(data: Path, folder: Path, recipe: Recipe, out: Path) -> None:
    """Galleries and a prediction by all ranks."""
    from reid.data.catalogue import read_catalogue
    from reid.decision.artifact import open_weights
    from reid.decision.enroll import enroll
    from reid.decision.predict import predict

    catalogue, runtime = read_catalogue(data), Runtime(precision="float32")  # as the folder was made
    enroll(catalogue, folder, ["Checks", "Dots"], recipe, runtime)
    prediction = predict(catalogue, open_weights(folder), recipe, runtime=runtime)
    if distributed.is_main():
        prediction.save(out)


def test_ranks_enrol_and_predict_what_one_process_does(
    patterns: Path, patterns_weights: Path, tiny_recipe: Recipe, tmp_path: Path
) -> None:
    galleries = [patterns_weights / f"{dataset}.gallery.safetensors" for dataset in ("Checks", "Dots")]
    before = [gallery.read_bytes() for gallery in galleries]
    shutil.rmtree(patterns_weights / "cache")
    answers = {}
    for world in (1, 3):
        task = (patterns, patterns_weights, tiny_recipe, tmp_path / f"{world}.csv")
        shutil.rmtree(patterns_weights / "cache", ignore_errors=True)
        assert end(spread(enrol, task, world)) == [0] * world
        answers[world] = (tmp_path / f"{world}.csv").read_text()
        assert [gallery.read_bytes() for gallery in galleries] == before
    assert answers[3] == answers[1]


def test_two_ranks_that_are_killed_or_stopped_come_to_the_same_weights(
    patterns: Path, tiny_recipe: Recipe, tmp_path: Path
) -> None:
    recipe = override(tiny_recipe, ["batches.individuals=2", "head.neck=bnneck", "training.epochs=6"])
    started = time.monotonic()
    assert end(start(patterns, recipe, tmp_path / "undisturbed", 2)) == [0, 0]
    took = time.monotonic() - started
    kills = [(signal.SIGKILL, share) for share in (0.5, 0.3)] + [(signal.SIGTERM, 0.4)]
    for by, part in kills:
        statuses = end(start(patterns, recipe, tmp_path / "w", 2), took * part, by)
        assert set(statuses) <= {0, -by, os.EX_TEMPFAIL}, (tmp_path / "w.0.log").read_text()
    assert end(start(patterns, recipe, tmp_path / "w", 2)) == [0, 0]
    for name in ("species", "Checks", "Dots"):
        one, other = (load_file(tmp_path / run / f"{name}.safetensors") for run in ("undisturbed", "w"))
        assert all(torch.equal(one[key], other[key]) for key in one)


def train_apart(data: list[Path], recipes: list[Recipe], folder: Path) -> None:
    train(data[distributed.rank()], recipes[distributed.rank()], folder, {})


def test_ranks_with_other_recipes_are_refused(patterns: Path, tiny_recipe: Recipe, tmp_path: Path) -> None:
    recipes = [tiny_recipe, override(tiny_recipe, ["training.epochs=5"])]
    assert end(spread(train_apart, ([patterns] * 2, recipes, tmp_path / "w"), 2)) == [2, 2]
    log = (tmp_path / "w.0.log").read_text()
    assert re.search(r"error: rank 1 on host .* is called otherwise than rank 0 .*epochs was 4, is 5", log)
    assert not (tmp_path / "w" / "training").exists()


def test_ranks_that_see_other_data_are_refused(patterns: Path, tiny_recipe: Recipe, tmp_path: Path) -> None:
    other = Path(shutil.copytree(patterns, tmp_path / "other"))
    rows = (other / "metadata.csv").read_text().splitlines(keepends=True)
    (other / "metadata.csv").write_text("".join(row for row in rows if row != rows[1]))
    assert end(spread(train_apart, ([patterns, other], [tiny_recipe] * 2, tmp_path / "w"), 2)) == [2, 2]
    assert "error: rank 1 on host" in (tmp_path / "w.0.log").read_text()
    assert not (tmp_path / "w" / "training").exists()


def test_more_ranks_than_a_batch_has_photographs_are_refused(
    patterns: Path, tiny_recipe: Recipe, tmp_path: Path
) -> None:
    recipe = override(tiny_recipe, ["classifier.batch_size=2"])
    assert end(spread(train, (patterns, recipe, tmp_path / "w", {}), 3)) == [2, 2, 2]
    assert "3 ranks: expected no more than there are photographs in a batch" in (tmp_path / "w.0.log").read_text()
