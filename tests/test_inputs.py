"""A frozen backbone's features stand for the photographs that they were computed from."""

from pathlib import Path

import numpy as np
import pytest
import torch

from reid.config.presets import PRESETS
from reid.config.runtime import Runtime
from reid.config.settings import with_settings
from reid.data.sampling import Batch
from reid.data.store import PhotographStore
from reid.models.new_networks import build_network, plan_network
from reid.training.inputs import AugmentedPhotographs, FrozenFeatures

PLAN = plan_network("test_resnet", 32, embedding_size=4, neck=True, normalise=True)
RECIPE = with_settings(PRESETS["toy"], {"backbone.image_size": 32})
RUNTIME = Runtime(precision="float32", batch_size=4)
CPU = torch.device("cpu")


@pytest.fixture
def store(tmp_path: Path) -> PhotographStore:
    pixels = np.random.default_rng(0).integers(0, 256, size=(7, 3, 32, 32)).astype(np.uint8)
    np.save(tmp_path / "x.npy", pixels)
    return PhotographStore(tmp_path / "x.npy", ("",) * 7)


def test_outputs_are_the_same_by_either_way(store: PhotographStore) -> None:
    network = build_network(PLAN, RECIPE.seed, "none")
    places = np.array([5, 0, 3])
    slow = AugmentedPhotographs(store, RECIPE, RUNTIME).outputs(network, places)
    fast = FrozenFeatures(store, RECIPE, PLAN, "none", RUNTIME).outputs(network, places)
    assert torch.allclose(slow, fast, atol=1e-5)


def test_without_views_the_photograph_as_it_is_is_drawn(store: PhotographStore) -> None:
    features = FrozenFeatures(store, RECIPE, PLAN, "none", RUNTIME)
    (drawn, places), *_ = features.draw([Batch(np.array([6, 2, 6]), seed=1)], CPU)
    assert places.tolist() == [6, 2, 6]
    assert torch.equal(drawn, features.vectors[0, places])


def test_augmented_views_are_computed_once_and_drawn_by_the_batches_seed(store: PhotographStore) -> None:
    features = FrozenFeatures(store, with_settings(RECIPE, {"augmentation.feature_views": 3}), PLAN, "none", RUNTIME)
    assert features.vectors.shape == (4, 7, PLAN.features)
    assert features.vectors is features.vectors
    batches = [Batch(np.array([1] * 20), seed) for seed in (1, 1, 2)]
    one, same, other = (drawn for drawn, _ in features.draw(batches, CPU))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    views = {row.numpy().tobytes() for row in one}
    assert views == {row.numpy().tobytes() for row in features.vectors[1:, 1]}  # and never the plain photograph
