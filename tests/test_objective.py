"""The losses of a recipe together: their weights, and what each of them sees."""

import numpy as np
import pytest
import torch

from reid.config.presets import PRESETS
from reid.config.recipe import Recipe
from reid.config.settings import with_settings
from reid.models.losses import batch_hard_triplet
from reid.models.networks import Network
from reid.models.new_networks import build_network, plan_network
from reid.training.objective import EncoderObjective, Labels, label_photographs

VECTORS = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))
INDIVIDUALS = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2])
LABELS = Labels(INDIVIDUALS, INDIVIDUALS)
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
    both = with_settings(
        REPORT, {"loss.classification": "arcface", "loss.triplet_weight": 0.5, "loss.classification_weight": 2.0}
    )
    loss, figures = loss_of(both, network(neck=True))
    assert loss == pytest.approx(0.5 * figures["triplet"] + 2 * figures["classification"], rel=1e-5)
    alone, figures = loss_of(with_settings(both, {"loss.triplet_weight": 0.0}), network(neck=True))
    assert set(figures) == {"norm", "classification"}
    assert alone == pytest.approx(2 * figures["classification"], rel=1e-5)


def test_the_neck_is_between_the_two_losses() -> None:
    both = with_settings(REPORT, {"loss.classification": "arcface"})
    triplets = [loss_of(both, network(neck))[1]["triplet"] for neck in (True, False)]
    assert triplets[0] == triplets[1]  # sees what is before the neck
    classifications = [loss_of(both, network(neck))[1]["classification"] for neck in (True, False)]
    assert classifications[0] != classifications[1]


def test_the_triplet_may_see_what_prediction_sees() -> None:
    recipe = with_settings(REPORT, {"loss.triplet_before_neck": False, "loss.soft_scale": 4.0})
    net = network(neck=True, normalise=True)
    embeddings = net.finish(VECTORS).detach()
    expected = batch_hard_triplet(4 * embeddings, INDIVIDUALS)[0]
    assert loss_of(recipe, net)[0] == pytest.approx(float(expected), rel=1e-5)


def test_without_a_neck_the_triplet_sees_embeddings_of_length_one() -> None:
    _, figures = loss_of(REPORT, network(neck=False, normalise=True))
    assert 0 < figures["negative"] < 2


def test_a_cosine_softmax_is_arcface_without_a_margin() -> None:
    arcface = with_settings(REPORT, {"loss.classification": "arcface", "loss.arcface_margin": 0.0})
    expected, _ = loss_of(arcface, network(neck=False))
    found, _ = loss_of(with_settings(arcface, {"loss.classification": "cosine_softmax"}), network(neck=False))
    assert found == expected
    margin, _ = loss_of(with_settings(arcface, {"loss.arcface_margin": 0.3}), network(neck=False))
    assert margin > expected
    cosine = with_settings(REPORT, {"loss.classification": "cosine_softmax", "loss.arcface_margin": 0.3})
    assert loss_of(cosine, network(neck=False))[0] == expected  # its margin is always 0


def test_a_cosine_softmax_has_the_loss_that_was_computed_by_hand() -> None:
    """Of 3 classes the vectors lie on the first: cosines 1, 0, 0."""
    recipe = with_settings(
        REPORT, {"loss.classification": "cosine_softmax", "loss.triplet_weight": 0.0, "loss.scale": 4.0}
    )
    objective = EncoderObjective(recipe, 6, GROUPS)
    assert objective.classification is not None
    with torch.no_grad():
        objective.classification.weight.copy_(2 * torch.eye(6)[:3])
    loss, _ = objective(network(neck=False), 5 * torch.eye(6)[:1], label_photographs(np.array([0]), np.array(["a"])))
    assert float(loss.detach()) == pytest.approx(np.log(1 + 2 * np.exp(-4)), rel=1e-5)


def test_labels_follow_their_photographs() -> None:
    labels = label_photographs(np.array([0, -1, 1]), np.array(["b", "a", "b"]))
    assert labels.individual.tolist() == [1, 0, 1]
    assert labels.at(torch.tensor([2, 1])).target.tolist() == [1, -1]


def test_gradients_reach_the_head_and_the_necks_scale() -> None:
    net = network(neck=True)
    objective = EncoderObjective(with_settings(REPORT, {"loss.classification": "softmax"}), 6, GROUPS)
    vectors = VECTORS.clone().requires_grad_()
    objective(net, vectors, LABELS)[0].backward()
    assert vectors.grad is not None
    assert vectors.grad.abs().sum() > 0
    assert net.neck.weight.grad is not None
    assert net.neck.bias.grad is None
