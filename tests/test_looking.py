"""One pass over photographs: each gets what it would get alone, and no pass of a network is left half empty."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from reid.data.catalogue import Catalogue, read_catalogue
from reid.decision.artifact import open_weights
from reid.retrieval.extraction import extract_features, open_extractors


@pytest.mark.parametrize("pass_size", [3, 5, 64])
def test_photographs_wait_until_a_pass_of_their_encoder_is_full(
    pass_size: int, patterns: Path, patterns_weights: Path
) -> None:
    weights = open_weights(patterns_weights)
    recipe = replace(weights.recipe, batch_size=pass_size)
    queries = read_catalogue(patterns).query
    shuffled = queries.table.iloc[np.random.default_rng(0).permutation(len(queries))]
    # as if the column did not tell, so that batches are of both datasets
    queries = Catalogue(queries.root, shuffled.assign(dataset=""))
    extractors = open_extractors(weights.folder, weights.datasets, weights.has_species, recipe, use_cache=False)
    alone = [
        extract_features(Catalogue(queries.root, queries.table.iloc[[row]]), extractors, "classifier", recipe, "alone")[
            0
        ]
        for row in range(len(queries))
    ]
    passes: Counter[str] = Counter()
    for dataset, encoder in extractors.encoders.items():
        encoder.fast.register_forward_pre_hook(lambda *_, dataset=dataset: passes.update([dataset]))
    together = extract_features(queries, extractors, "classifier", recipe, "together")
    for one, other in zip(alone, together, strict=True):
        assert (one.species, one.route, one.problem) == (other.species, other.route, other.problem)
        assert torch.equal(one.vector, other.vector)
    routes = Counter(look.route for look in together)
    assert len(routes) == 2
    for dataset, encoder in extractors.encoders.items():
        assert passes[dataset] == -(-routes[dataset] // encoder.pass_size)
