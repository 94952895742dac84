"""A whole prediction with a GPU that answers at once: what is then left is how fast the kit feeds it.

Without a GPU, `predict` waits for its networks, and nothing shows whether it could keep up with faster ones. Here they
are loaded, and then take no time and return random vectors; everything else is what `predict` does with a GPU: threads
open photographs some batches ahead, a forward pass takes a whole batch, photographs wait until a pass is full,
galleries are searched, a submission is made. It is compared with the limit, decoding on all cores and nothing else.

What this can't show: the copies to a GPU, and the work of starting its kernels.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from unittest.mock import patch

import torch
from harness import Contest, NotHereError, Options
from predict import decode_only, worlds
from torch import Tensor

from reid.data import loading
from reid.data.catalogue import Catalogue
from reid.decision.artifact import Weights, open_weights
from reid.decision.matches import Matches
from reid.decision.predict import predict
from reid.retrieval import embedding
from reid.retrieval.embedding import BackboneOutput, Embedder

SIZES = (400, 2_135)
"""Queries; the last are the competition's."""


def contests(options: Options) -> Iterator[Contest]:
    """So many queries, and an empty cache."""
    if torch.cuda.is_available():
        raise NotHereError("there is a GPU; the case predict measures it")
    for queries, catalogue, folder in worlds(options, (64,) if options.quick else SIZES):
        yield Contest(
            size=queries,
            label=f"{queries:,} queries of about 2,000 px, networks that answer at once",
            peers={
                "reid, 2 networks": partial(predict_beside, catalogue, open_weights(folder)),
                "limit: decoding on all cores": partial(decode_only, catalogue.query.paths),
            },
            reference="limit: decoding on all cores",
            items=queries,
        )


def predict_beside(catalogue: Catalogue, weights: Weights) -> Matches:
    """The matches; the answers are random."""
    with gpu_that_answers_at_once():
        return predict(catalogue, weights, weights.recipe, use_cache=False)


@contextmanager
def gpu_that_answers_at_once() -> Iterator[None]:
    """Inside, networks take no time, and photographs are opened and collected as they are with a GPU."""
    open_in_threads = loading.open_in_threads  # only the loading may believe in a GPU
    with ExitStack() as stand_ins:
        for owner, name, stand_in in (
            (loading, "open_in_threads", lambda jobs, runtime, has_gpu: open_in_threads(jobs, runtime, True)),
            (embedding, "PASS_PIXELS", 1 << 40),  # of a pass: only the batch size bounds it
            (Embedder, "features", answer_at_once),
            (Tensor, "pin_memory", lambda tensor: tensor),
        ):
            stand_ins.enter_context(patch.object(owner, name, stand_in))
        yield


def answer_at_once(embedder: Embedder, photographs: Tensor) -> BackboneOutput:
    """For `Embedder.features`: load the network, and make up features without saliency."""
    _ = embedder.fast
    count, views = len(photographs), len(embedder.scales) * (1 + embedder.flip_average)
    return BackboneOutput(torch.randn(count, views, embedder.plan.features), torch.zeros(count, 0, 0))
