"""What a network learns from: photographs, or a frozen backbone's features of them, which are computed once.

Both have the same two verbs: `draw` an epoch's batches, and give a network's `outputs` for photographs as they are
enrolled.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from reid.config.recipe import Recipe
from reid.config.runtime import Runtime
from reid.config.settings import with_settings
from reid.data.augmentation import augment
from reid.data.loading import PhotographStore, training_batches
from reid.data.sampling import Batch
from reid.models.networks import Network, NetworkPlan, best_device, build_network
from reid.retrieval.cache import Cache
from reid.retrieval.embedding import Embedder, EmbeddingOutput, embed
from reid.runtime.distributed import all_gather_object, all_reduce, rank, shard, world_size
from reid.runtime.progress import track

__all__ = ["Features", "Photographs"]


@dataclass(frozen=True)
class Photographs:
    """Photographs, for networks whose backbone is trained."""

    store: PhotographStore
    recipe: Recipe
    runtime: Runtime = Runtime()

    def draw(self, sampler: Iterable[Batch], device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
        """This rank's share of the augmented photographs, (b, 3, S, S) uint8, and the places of all, (B,), on the
        device."""
        return training_batches(self.store, self.recipe, sampler, device)

    def outputs(self, network: Network, places: np.ndarray) -> Tensor:
        """(n, D) float32, on the processor."""
        vectors = torch.zeros(len(places), network.plan.outputs)
        own = shard(len(places))
        vectors[own] = embed(
            network, self.store.batches(places[own], self.runtime.batch_size), self.recipe, self.runtime
        )
        return all_reduce(vectors)


@dataclass(frozen=True)
class Features:
    """A frozen backbone's features, for networks of which only the head is trained.

    Attributes:
        store: the photographs.
        recipe: `feature_views`, augmentations, precision.
        plan: whose backbone; what comes after it does not matter.
        init: the backbone's first weights, as for `build_network`.
    """

    store: PhotographStore
    recipe: Recipe
    plan: NetworkPlan
    init: Path | str
    runtime: Runtime = Runtime()

    @property
    def vectors(self) -> Tensor:
        """(1 + V, N, F) float32: of the photographs as they are, and of V augmented views of each."""
        return self.seen[0]

    @cached_property
    def seen(self) -> tuple[Tensor, Tensor]:
        """See `vectors`, and the saliency of the photographs as they are, (N, h, h), see `embedding.Seen`."""
        backbone_plan = replace(self.plan, hidden_size=0, embedding_size=0, neck=False, normalise=False, classes=())
        backbone = build_network(backbone_plan, self.recipe.seed, self.init).to(best_device())
        plain = with_settings(self.recipe, {"prediction.flip_average": False, "prediction.scales": (1.0,)})
        embedder = Embedder(backbone, plain, self.runtime)
        places = np.arange(len(self.store.problems))
        features = torch.zeros(1 + self.recipe.augmentation.feature_views, len(places), backbone_plan.features)
        saliency_from: dict[int, Tensor] = {}
        starts = range(0, len(places), self.runtime.batch_size)[rank() :: world_size()]
        for view in range(len(features)):
            for start in track(starts, f"embedding photographs, view {view + 1} of {len(features)}"):
                batch = places[start : start + self.runtime.batch_size]
                (pixels,) = self.store.batches(batch, len(batch))
                rng = np.random.default_rng([self.recipe.seed, 3, view, start])
                shown = augment(pixels, self.recipe, rng) if view else pixels
                features[view, batch], saliency = embedder.embed_with_saliency(shown)
                if not view:
                    saliency_from[start] = saliency
        saliency_in_order = dict(sorted(item for part in all_gather_object(saliency_from) for item in part.items()))
        return all_reduce(features), torch.cat([torch.empty(0), *saliency_in_order.values()])

    def draw(self, sampler: Iterable[Batch], device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
        """Return a view of each photograph of this rank's share, (b, F) float32, and the places of all, (B,), on the
        device."""
        views = self.vectors[1:] if len(self.vectors) > 1 else self.vectors
        for batch in sampler:
            chosen = np.random.default_rng(batch.seed).integers(len(views), size=len(batch.places))
            own = shard(len(batch.places))
            yield views[chosen[own], batch.places[own]].to(device), torch.from_numpy(batch.places).to(device)

    def compute(self) -> None:
        """Compute what is not there yet; every rank must take part, for each has its share of it."""
        _ = self.seen

    def fill_cache(self, cache: Cache, embedder: Embedder, places: np.ndarray, digests: Sequence[str]) -> None:
        """Put the embeddings of an encoder on this backbone into the cache: enrolment would compute them once more for
        each fold.

        Args:
            cache: the weights folder's.
            embedder: the encoder's.
            places: (n,) int64, the photographs.
            digests: (N,) of all photographs, see `cache.photograph_digests`.
        """
        output = EmbeddingOutput(embedder.embed_features(self.vectors[0, places]), self.seen[1][places])
        readable = ["" if self.store.problems[place] else digests[place] for place in places]
        cache.put_many(embedder.entries(readable, output))

    @torch.inference_mode()
    def outputs(self, network: Network, places: np.ndarray) -> Tensor:
        """(n, D) float32, on the processor."""
        device = next(network.parameters()).device
        return network.eval().finish(network.head(self.vectors[0, places].to(device))).cpu()
