"""A whole prediction beside a GPU that answers at once: what is then left is how fast the kit feeds it.

Where there is no GPU, `predict` waits for its networks, and nobody sees whether it could keep up with faster ones. Here
they are loaded, and then take no time and say nothing of worth; everything else is what `predict` does beside a GPU:
threads open photographs some batches ahead, one pass is as long as the recipe's batch, photographs wait until a pass is
full, galleries are searched, a submission is decided on. Beside it stands the limit, decoding on all cores and nothing
else.

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
from reid.decision.predict import Prediction, predict
from reid.retrieval.embedding import Embedder, EmbeddingOutput

SIZES = (400, 2_135)
"""Queries; the last are the competition's."""


def contests(options: Options) -> Iterator[Contest]:
    """So many queries, and nothing is remembered."""
    if torch.cuda.is_available():
        raise NotHereError("there is a GPU; the case predict measures beside it")
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


def predict_beside(catalogue: Catalogue, weights: Weights) -> Prediction:
    """The prediction; what it says is worth nothing."""
    with gpu_that_answers_at_once():
        return predict(catalogue, weights, weights.recipe, use_cache=False)


@contextmanager
def gpu_that_answers_at_once() -> Iterator[None]:
    """Inside, networks take no time, and photographs are opened and put together as they are beside a GPU."""
    by_threads = loading._by_threads  # noqa: SLF001 it is told of a GPU that no other part of the program should see
    with ExitStack() as stand_ins:
        for owner, name, stand_in in (
            (images, "_by_threads", lambda files, batch_size, gpu: by_threads(files, batch_size, True)),
            (embedding, "AT_A_TIME", 1 << 40),  # pixels of a pass: only the recipe's batch size bounds it
            (Embedder, "see", answered_at_once),
            (Tensor, "pin_memory", lambda tensor: tensor),
        ):
            stand_ins.enter_context(patch.object(owner, name, stand_in))
        yield


def answered_at_once(embedder: Embedder, photographs: Tensor) -> EmbeddingOutput:
    """For `Embedder.see`: the network is loaded, and vectors without saliency are made up."""
    _ = embedder.fast
    return EmbeddingOutput(torch.randn(len(photographs), embedder.plan.outputs), torch.zeros(len(photographs), 0, 0))
