"""One pass over photographs: each gets what it would get alone, and no pass of a network is left half empty."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from reid.catalogue import Catalogue, read_catalogue
from reid.looking import look_at, open_eyes
from reid.weights import open_weights


@pytest.mark.parametrize("at_a_time", [3, 5, 64])
def test_photographs_wait_until_a_pass_of_their_encoder_is_full(
    at_a_time: int, patterns: Path, patterns_weights: Path
) -> None:
    weights = open_weights(patterns_weights)
    recipe = replace(weights.recipe, batch_size=at_a_time)
    queries = read_catalogue(patterns).query
    shuffled = queries.table.iloc[np.random.default_rng(0).permutation(len(queries))]
    # as if the column did not tell, so that batches are of both datasets
    queries = Catalogue(queries.root, shuffled.assign(dataset=""))
    eyes = open_eyes(weights.folder, weights.datasets, weights.has_species, recipe, remember=False)
    alone = [
        look_at(Catalogue(queries.root, queries.table.iloc[[row]]), eyes, "classifier", recipe, "alone")[0]
        for row in range(len(queries))
    ]
    passes: Counter[str] = Counter()
    for dataset, encoder in eyes.encoders.items():
        encoder.fast.register_forward_pre_hook(lambda *_, dataset=dataset: passes.update([dataset]))
    together = look_at(queries, eyes, "classifier", recipe, "together")
    for one, other in zip(alone, together, strict=True):
        assert (one.species, one.route, one.problem) == (other.species, other.route, other.problem)
        assert torch.equal(one.vector, other.vector)
    routes = Counter(look.route for look in together)
    assert len(routes) == 2
    for dataset, encoder in eyes.encoders.items():
        assert passes[dataset] == -(-routes[dataset] // encoder.at_a_time)
