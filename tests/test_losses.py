"""The triplet loss against a slow twin that loops over every anchor, and the places where gradients are lost."""

import math

import pytest
import torch

from reid.losses import batch_hard_triplet, pairwise_distances


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


def test_a_positive_is_never_invented() -> None:
    embeddings = torch.randn(4, 3, requires_grad=True)
    loss, mined = batch_hard_triplet(embeddings, torch.arange(4))  # four individuals, one photograph each
    loss.backward()
    assert loss.item() == 0
    assert len(mined.positive) == 0
    assert mined.active == 0
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
    assert torch.isfinite(embeddings.grad).all()


def test_descending_the_gradient_pulls_positives_and_pushes_negatives() -> None:
    embeddings = torch.tensor([[0.0, 0.0], [2.0, 0.0], [1.0, 0.5], [1.0, 2.0]], requires_grad=True)
    labels = torch.tensor([0, 0, 1, 1])
    before, _ = batch_hard_triplet(embeddings, labels)
    before.backward()
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
