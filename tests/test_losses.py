"""The losses against slow twins that loop over every photograph, and the points where gradients have no value."""

import math

import pytest
import torch

from reid.models.distances import pairwise_distances
from reid.models.losses import ClassificationLoss, add_angular_margin, batch_hard_triplet


def slow_batch_hard(embeddings: torch.Tensor, labels: torch.Tensor, margin: float | None) -> float:
    """Equation 5 of arXiv 1703.07737, one anchor at a time."""
    points, rows, losses = embeddings.tolist(), range(len(labels)), []
    for a in rows:
        positives = [math.dist(points[a], points[p]) for p in rows if p != a and labels[p] == labels[a]]
        negatives = [math.dist(points[a], points[n]) for n in rows if labels[n] != labels[a]]
        if positives and negatives:
            gap = max(positives) - min(negatives)
            losses.append(math.log1p(math.exp(gap)) if margin is None else max(0.0, gap + margin))
    return sum(losses) / len(losses) if losses else 0.0


@pytest.mark.parametrize("margin", [None, 0.3])
@pytest.mark.parametrize("seed", range(20))
def test_loss_equals_the_slow_twin(seed: int, margin: float | None) -> None:
    generator = torch.Generator().manual_seed(seed)
    rows = int(torch.randint(2, 24, (1,), generator=generator))
    labels = torch.randint(0, 6, (rows,), generator=generator)  # some individuals with one photograph, some with many
    embeddings = torch.randn(rows, 5, generator=generator, dtype=torch.float64)
    loss, _ = batch_hard_triplet(embeddings, labels, margin)
    assert loss.item() == pytest.approx(slow_batch_hard(embeddings, labels, margin), abs=1e-9)


def test_known_answer_on_a_line() -> None:
    embeddings = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
    labels = torch.tensor([0, 0, 1, 1])
    loss, mined = batch_hard_triplet(embeddings, labels, margin=0.5)
    assert mined.positive.tolist() == [1, 1, 4, 4]
    assert mined.negative.tolist() == [3, 2, 2, 6]
    assert loss.item() == pytest.approx((0 + 0 + 2.5 + 0) / 4)
    assert mined.active == 0.25


def test_without_a_positive_there_is_no_loss() -> None:
    embeddings = torch.randn(4, 3, requires_grad=True)
    loss, mined = batch_hard_triplet(embeddings, torch.arange(4))  # four individuals, one photograph each
    loss.backward()
    assert loss.item() == 0
    assert len(mined.positive) == 0
    assert mined.active == 0
    assert embeddings.grad is not None
    assert torch.equal(embeddings.grad, torch.zeros(4, 3))


def test_one_individual_alone_gives_no_loss() -> None:
    loss, mined = batch_hard_triplet(torch.randn(4, 3), torch.zeros(4, dtype=torch.long))
    assert (loss.item(), len(mined.negative)) == (0, 0)


@pytest.mark.parametrize("margin", [None, 0.3])
def test_gradients_are_finite_when_all_photographs_fall_on_one_point(margin: float | None) -> None:
    embeddings = torch.ones(6, 4, requires_grad=True)
    loss, _ = batch_hard_triplet(embeddings, torch.tensor([0, 0, 1, 1, 2, 2]), margin)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(2) if margin is None else margin)
    assert embeddings.grad is not None
    assert torch.isfinite(embeddings.grad).all()


def test_descending_the_gradient_pulls_positives_and_pushes_negatives() -> None:
    embeddings = torch.tensor([[0.0, 0.0], [2.0, 0.0], [1.0, 0.5], [1.0, 2.0]], requires_grad=True)
    labels = torch.tensor([0, 0, 1, 1])
    before, _ = batch_hard_triplet(embeddings, labels)
    before.backward()
    assert embeddings.grad is not None
    after, _ = batch_hard_triplet((embeddings - 0.1 * embeddings.grad).detach(), labels)
    assert after < before.detach()


def test_distances_equal_the_slow_twin_and_gradients_are_right() -> None:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(7, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    y = torch.randn(4, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    slow = [[math.dist(a.tolist(), b.tolist()) for b in y] for a in x]
    assert torch.allclose(pairwise_distances(x, y), torch.tensor(slow, dtype=torch.float64))
    assert torch.autograd.gradcheck(pairwise_distances, (x, y))


def test_distance_to_itself_is_nearly_zero_and_never_nan() -> None:
    x = torch.randn(50, 128, generator=torch.Generator().manual_seed(0)) * 100
    assert pairwise_distances(x, x).diagonal().max() < 1.0  # of norms around 1,000
    assert not pairwise_distances(x, x).isnan().any()


# classification


def slow_classification(
    loss: ClassificationLoss, vectors: torch.Tensor, targets: torch.Tensor, allowed: list[int]
) -> float:
    """One photograph and one class at a time, with acos: ArcFace's equation 3."""
    losses = []
    for vector, target in zip(vectors.tolist(), targets.tolist(), strict=True):
        logits = {}
        for label in allowed:
            weight = loss.weight[label].tolist()
            logits[label] = sum(a * b for a, b in zip(vector, weight, strict=True))
            if loss.scale is not None:
                logits[label] /= math.hypot(*vector) * math.hypot(*weight)
        if loss.scale is not None:
            angle = math.acos(logits[target])
            beyond = angle > math.pi - loss.margin
            logits[target] = (
                math.cos(angle) - loss.margin * math.sin(loss.margin) if beyond else math.cos(angle + loss.margin)
            )
            logits = {label: loss.scale * logit for label, logit in logits.items()}
        losses.append(math.log(sum(math.exp(logit) for logit in logits.values())) - logits[target])
    return sum(losses) / len(losses)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"scale": 8.0},
        {"scale": 8.0, "margin": 0.5},
        {"scale": 8.0, "margin": 1.2},
    ],
)
def test_classification_equals_the_slow_twin_within_the_targets_group(settings: dict) -> None:
    groups = torch.tensor([0, 0, 0, 1, 1, 1, 1, 2])
    torch.manual_seed(0)
    loss = ClassificationLoss(5, groups, **settings).double()
    torch.nn.init.normal_(loss.weight)
    for first, last in ((0, 3), (3, 7), (7, 8)):
        vectors = torch.randn(11, 5, dtype=torch.float64)
        targets = torch.randint(first, last, (11,))
        slow = slow_classification(loss, vectors, targets, list(range(first, last)))
        assert loss(vectors, targets).item() == pytest.approx(slow, abs=1e-9)


def test_only_the_targets_group_is_learned() -> None:
    loss = ClassificationLoss(4, torch.tensor([0, 0, 1, 1]), scale=10.0)
    loss(torch.randn(6, 4), torch.tensor([2, 3, 2, 3, 2, 3])).backward()
    assert loss.weight.grad is not None
    moved = loss.weight.grad.abs().sum(1) > 0
    assert moved.tolist() == [False, False, True, True]


def test_the_margin_is_an_angle_until_it_would_pass_the_opposite() -> None:
    angles = torch.tensor([0.2, 1.0, 2.0, 3.0], dtype=torch.float64)
    moved = add_angular_margin(angles.cos()[:, None], torch.zeros(4, dtype=torch.long), 0.5)[:, 0]
    assert torch.allclose(moved[:3], (angles + 0.5).cos()[:3])
    assert moved[3].item() == pytest.approx(math.cos(3.0) - 0.5 * math.sin(0.5))
    assert (moved < angles.cos()).all()


def test_gradients_are_finite_when_a_vector_is_its_class() -> None:
    loss = ClassificationLoss(3, torch.tensor([0, 0]), scale=30.0, margin=0.5)
    vectors = torch.stack([loss.weight[0].detach(), -loss.weight[0].detach()]).requires_grad_()
    loss(vectors, torch.tensor([0, 0])).backward()
    assert vectors.grad is not None
    assert torch.isfinite(vectors.grad).all()
    assert loss.weight.grad is not None
    assert torch.isfinite(loss.weight.grad).all()
