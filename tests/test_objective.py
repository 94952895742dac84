"""The losses of a recipe put together: weights, what each of them sees, and who may be whose positive."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from reid.config.presets import PRESETS
from reid.config.recipe import Recipe, override
from reid.models.losses import batch_hard_triplet, positive_pairs
from reid.models.networks import Network, build_network, plan_network
from reid.training.objective import EncoderObjective, Labels, label_photographs

VECTORS = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))
INDIVIDUALS = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2])
LABELS = Labels(
    INDIVIDUALS, INDIVIDUALS, torch.tensor([0, 0, 1, 2, 3, 3, 4, 5]), torch.tensor([0, 0, 0, 1, 0, 0, -1, 1])
)
GROUPS = torch.zeros(3, dtype=torch.long)
REPORT = PRESETS["paper"]


def network(neck: bool, normalise: bool = False) -> Network:
    plan = plan_network("test_resnet", 32, embedding_size=6, neck=neck, normalise=normalise)
    return build_network(plan, 0, "none").train()


def loss_of(recipe: Recipe, net: Network) -> tuple[float, dict[str, float]]:
    loss, figures = EncoderObjective(recipe, 6, GROUPS)(net, VECTORS, LABELS)
    return float(loss.detach()), figures


def test_the_report_has_a_triplet_loss_and_nothing_else() -> None:
    loss, figures = loss_of(REPORT, network(neck=False))
    assert loss == pytest.approx(float(batch_hard_triplet(VECTORS, INDIVIDUALS)[0]))
    assert figures["triplet"] == pytest.approx(loss)
    assert "classification" not in figures
    assert figures["norm"] == pytest.approx(float(VECTORS.norm(dim=1).mean()))


def test_losses_are_added_by_their_weights() -> None:
    both = replace(REPORT, classification="arcface", triplet_weight=0.5, classification_weight=2.0)
    loss, figures = loss_of(both, network(neck=True))
    assert loss == pytest.approx(0.5 * figures["triplet"] + 2 * figures["classification"], rel=1e-5)
    alone, figures = loss_of(replace(both, triplet_weight=0.0), network(neck=True))
    assert set(figures) == {"norm", "classification"}
    assert alone == pytest.approx(2 * figures["classification"], rel=1e-5)


def test_the_neck_is_between_the_two_losses() -> None:
    both = replace(REPORT, classification="arcface")
    triplets = [loss_of(both, network(neck))[1]["triplet"] for neck in (True, False)]
    assert triplets[0] == triplets[1]  # sees what is before the neck
    classifications = [loss_of(both, network(neck))[1]["classification"] for neck in (True, False)]
    assert classifications[0] != classifications[1]


def test_the_triplet_may_see_what_prediction_sees() -> None:
    recipe, net = replace(REPORT, triplet_before_neck=False, soft_scale=4.0), network(neck=True, normalise=True)
    embeddings = net.finish(VECTORS).detach()
    expected = batch_hard_triplet(4 * embeddings, INDIVIDUALS)[0]
    assert loss_of(recipe, net)[0] == pytest.approx(float(expected), rel=1e-5)


def test_without_a_neck_the_triplet_sees_embeddings_of_length_one() -> None:
    _, figures = loss_of(REPORT, network(neck=False, normalise=True))
    assert 0 < figures["negative"] < 2


def test_copies_and_other_flanks_are_left_out_where_the_recipe_says_so() -> None:
    for field, masks in [
        ("copies_are_positives", {"photographs": LABELS.photograph}),
        ("positives_by_view", {"views": LABELS.view}),
    ]:
        recipe = override(REPORT, [f"{field}={not getattr(REPORT, field)}".lower()])
        pairs = positive_pairs(INDIVIDUALS, **masks)
        expected = float(batch_hard_triplet(VECTORS, INDIVIDUALS, pairs=pairs)[0])
        assert loss_of(recipe, network(neck=False))[0] == pytest.approx(expected)
        assert expected != pytest.approx(loss_of(REPORT, network(neck=False))[0])


def test_nothing_is_known_of_an_empty_orientation() -> None:
    labels = label_photographs(np.array([0, -1, 1]), np.array(["b", "a", "b"]), np.array(["left", "", "right"]))
    assert labels.individual.tolist() == [1, 0, 1]
    assert labels.view[1] == -1
    assert labels.view[0] != labels.view[2]
    assert labels.at(torch.tensor([2, 1])).target.tolist() == [1, -1]


def test_gradients_reach_the_head_and_the_necks_scale() -> None:
    net = network(neck=True)
    objective = EncoderObjective(replace(REPORT, classification="softmax"), 6, GROUPS)
    vectors = VECTORS.clone().requires_grad_()
    objective(net, vectors, LABELS)[0].backward()
    assert vectors.grad is not None
    assert vectors.grad.abs().sum() > 0
    assert net.neck.weight.grad is not None
    assert net.neck.bias.grad is None
