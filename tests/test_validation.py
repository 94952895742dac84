"""Validation against slow twins and known answers; collapse is noticed, and nothing else is taken for it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from reid.config.recipe import Recipe
from reid.config.settings import override, with_settings
from reid.data.catalogue import read_catalogue
from reid.training.networks import train_networks
from reid.training.validation import describe_collapse, open_set_score, rank1_accuracy


def test_rank1_accuracy_counts_only_those_with_a_partner() -> None:
    vectors = torch.tensor([[0.0], [0.1], [5.0], [5.2], [9.0]])
    assert rank1_accuracy(vectors, np.array([0, 0, 1, 1, 2])) == 1.0
    assert rank1_accuracy(vectors, np.array([0, 1, 0, 1, 2])) == 0.0
    assert rank1_accuracy(vectors, np.arange(5)) is None
    assert rank1_accuracy(vectors[:0], np.array([], dtype=int)) is None


def test_open_set_score_is_the_competitions_among_these_photographs() -> None:
    """Two individuals with two photographs each; in every split one of them plays new."""
    vectors, labels = torch.tensor([[0.0], [0.1], [0.6], [0.7]]), ["a", "a", "b", "b"]
    recipe = with_settings(Recipe(), {"calibration.splits": 20})
    assert open_set_score(vectors, labels, [""] * 4, recipe) == 1.0  # 0.1 to the own, 0.5 or more to the other
    mixed = vectors[[0, 2, 1, 3]]  # a is at 0 and 0.6, b at 0.1 and 0.7: everyone is nearest to the other one
    assert open_set_score(mixed, labels, [""] * 4, recipe) == 0.0
    # a at 0 and 0.7, b at 0.4 and 0.6. As known, a is never right, and of b the photograph that is 0.2 from its own;
    # what names it also names the new a that is 0.1 from b: sqrt(1/2 x 1/2) where b plays known, every other time
    half = open_set_score(
        torch.tensor([[0.0], [0.7], [0.4], [0.6]]),
        labels,
        [""] * 4,
        with_settings(Recipe(), {"calibration.splits": 400}),
    )
    assert half == pytest.approx(0.25, abs=0.05)


def test_open_set_score_needs_known_and_new_individuals() -> None:
    assert open_set_score(torch.randn(3, 2), ["a", "a", "a"], [""] * 3, Recipe()) is None
    assert open_set_score(torch.randn(3, 2), ["a", "b", "c"], [""] * 3, Recipe()) is None
    assert open_set_score(torch.empty(0, 2), [], [], Recipe()) is None


def test_a_better_embedding_has_a_better_score() -> None:
    rng = np.random.default_rng(0)
    labels = [f"{number}" for number in range(12) for _ in range(4)]
    centres = np.repeat(rng.normal(size=(12, 8)), 4, axis=0)
    scores = []
    for noise in (0.1, 1.0, 10.0):
        vectors = torch.from_numpy(centres + noise * rng.normal(size=(48, 8)))
        score = open_set_score(vectors, labels, [""] * 48, Recipe())
        assert score is not None
        scores.append(score)
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > 0.95


def rows(triplets: list[float], negatives: list[float]) -> list[dict[str, float]]:
    return [{"triplet": loss, "negative": far} for loss, far in zip(triplets, negatives, strict=True)]


def test_collapse_is_noticed_with_its_remedy() -> None:
    history = rows([1.2, 0.70, 0.695, 0.694, 0.693], [5.0, 1.0, 0.3, 0.1, 0.05])
    warning = describe_collapse(history, Recipe())
    assert "loss stays at 0.693" in warning
    assert "shrank from 5 to 0.05" in warning
    assert "--set training.learning_rate=3e-05" in warning
    hinge = with_settings(Recipe(), {"loss.soft_margin": False, "loss.margin": 0.3})
    assert "loss stays at 0.300" in describe_collapse(
        rows([0.5, 0.3, 0.301, 0.3, 0.3], [1, 0.2, 0.05, 0.01, 0.01]), hinge
    )


@pytest.mark.parametrize(
    ("triplets", "negatives"),
    [
        ([1.2, 0.70, 0.695], [5.0, 0.1, 0.05]),  # too early to say
        ([1.2, 0.9, 0.695, 0.694, 0.693], [5.0, 5.1, 5.0, 5.2, 5.1]),  # hard, but the distances stand
        ([1.2, 0.9, 0.4, 0.2, 0.1], [5.0, 1.0, 0.3, 0.1, 0.05]),  # a smaller space that is in order
    ],
)
def test_what_is_no_collapse_is_not_called_one(triplets: list[float], negatives: list[float]) -> None:
    assert describe_collapse(rows(triplets, negatives), Recipe()) == ""


def test_a_history_without_triplets_is_no_collapse() -> None:
    assert describe_collapse([{"loss": 0.69}] * 9, Recipe()) == ""


def test_training_that_collapses_says_so(
    patterns: Path, tiny_recipe: Recipe, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A decay so strong that nothing else moves the weights drives every photograph onto one point."""
    shrinking = [
        "training.weight_decay=10",
        "training.learning_rate=0.05",
        "training.schedule=cosine",
        "training.epochs=24",
        "training.optimizer=adam",
    ]
    train_networks(read_catalogue(patterns), override(tiny_recipe, shrinking), tmp_path / "w")
    assert "Dots: the triplets have collapsed" in caplog.text
