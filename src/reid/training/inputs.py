"""What a network learns from: augmented photographs, or a frozen backbone's features, which are computed once.

Both have the same two methods: `draw` gives an epoch's batches, `outputs` what a network says of photographs as they
are enrolled.
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
from reid.data.sampling import Batch
from reid.data.store import PhotographStore, training_batches
from reid.models.networks import Network, NetworkPlan, best_device
from reid.models.new_networks import build_network
from reid.retrieval.cache import Cache
from reid.retrieval.embedding import BackboneOutput, Embedder, embed
from reid.runtime.distributed import all_gather_object, all_reduce, rank, shard, world_size
from reid.runtime.progress import track

__all__ = ["AugmentedPhotographs", "FrozenFeatures"]


@dataclass(frozen=True)
class AugmentedPhotographs:
    """Photographs, for networks whose backbone is trained."""

    store: PhotographStore
    recipe: Recipe
    runtime: Runtime = Runtime()

    def draw(self, sampler: Iterable[Batch], device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield this rank's share of the augmented photographs, (b, 3, S, S) uint8, and the places of all, (B,) int64,
        on the device."""
        return training_batches(self.store, self.recipe.augmentation, sampler, device)

    def outputs(self, network: Network, places: np.ndarray) -> Tensor:
        """Return the network's outputs for the photographs as they are: (n, D) float32, on the processor."""
        vectors = torch.zeros(len(places), network.plan.outputs)
        own = shard(len(places))
        batches = self.store.batches(places[own], self.runtime.batch_size)
        vectors[own] = embed(network, batches, self.recipe, self.runtime)
        return all_reduce(vectors)


@dataclass(frozen=True)
class FrozenFeatures:
    """A frozen backbone's features, for networks of which only the head is trained.

    Attributes:
        store: the photographs.
        recipe: its `augmentation`, and `feature_views` in it.
        plan: whose backbone; the layers after the backbone do not matter.
        init: the backbone's first weights, as for `build_network`.
        runtime: precision and batch size.
    """

    store: PhotographStore
    recipe: Recipe
    plan: NetworkPlan
    init: Path | str
    runtime: Runtime = Runtime()

    @property
    def vectors(self) -> Tensor:
        """(1 + V, N, F) float32: of the photographs as they are, and of V augmented views of each."""
        return self._computed[0]

    @property
    def saliency(self) -> Tensor:
        """(N, h, h) float32, of the photographs as they are; see `EmbeddingOutput`."""
        return self._computed[1]

    @cached_property
    def _computed(self) -> tuple[Tensor, Tensor]:
        """Compute `vectors` and `saliency`, each rank its share of the batches."""
        embedder = self._backbone_alone()
        places = np.arange(len(self.store.problems))
        vectors = torch.zeros(1 + self.recipe.augmentation.feature_views, len(places), embedder.plan.features)
        own_saliency: dict[int, Tensor] = {}
        starts = range(0, len(places), self.runtime.batch_size)[rank() :: world_size()]
        for view in range(len(vectors)):
            for start in track(starts, f"embedding photographs, view {view + 1} of {len(vectors)}"):
                batch = places[start : start + self.runtime.batch_size]
                vectors[view, batch], saliency = embedder.embed_with_saliency(self._photographs(batch, view))
                if view == 0:
                    own_saliency[start] = saliency
        by_start = dict(sorted(item for part in all_gather_object(own_saliency) for item in part.items()))
        return all_reduce(vectors), torch.cat([torch.empty(0), *by_start.values()])

    def _backbone_alone(self) -> Embedder:
        """Return the backbone without head and neck."""
        plan = replace(self.plan, hidden_size=0, embedding_size=0, neck=False, normalise=False, classes=())
        network = build_network(plan, self.recipe.seed, self.init).to(best_device())
        once = with_settings(self.recipe, {"prediction.flip_average": False, "prediction.scales": (1.0,)})
        return Embedder(network, once, self.runtime)

    def _photographs(self, batch: np.ndarray, view: int) -> Tensor:
        """Return a view of the photographs of a batch, (b, 3, S, S) uint8; view 0 shows them as they are."""
        (pixels,) = self.store.batches(batch, len(batch))
        if view == 0:
            return pixels
        return augment(pixels, self.recipe.augmentation, np.random.default_rng([self.recipe.seed, 3, view, batch[0]]))

    def draw(self, sampler: Iterable[Batch], device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield a random view of each photograph of this rank's share, (b, F) float32, and the places of all, (B,)
        int64, on the device."""
        views = self.vectors[1:] if len(self.vectors) > 1 else self.vectors
        for batch in sampler:
            chosen = np.random.default_rng(batch.seed).integers(len(views), size=len(batch.places))
            own = shard(len(batch.places))
            yield views[chosen[own], batch.places[own]].to(device), torch.from_numpy(batch.places).to(device)

    @torch.inference_mode()
    def outputs(self, network: Network, places: np.ndarray) -> Tensor:
        """Return the network's outputs for the photographs as they are: (n, D) float32, on the processor."""
        device = next(network.parameters()).device
        return network.eval().finish(network.head(self.vectors[0, places].to(device))).cpu()

    def compute(self) -> None:
        """Compute the features now if nobody has yet; every rank must call this, for each computes its share."""
        _ = self._computed

    def fill_cache(self, cache: Cache, embedder: Embedder, places: np.ndarray, digests: Sequence[str]) -> None:
        """Put the embeddings of an encoder on this backbone into the cache, so that enrolment need not compute them.

        Args:
            cache: the weights folder's.
            embedder: the encoder's.
            places: (n,) int64, the photographs.
            digests: (N,) of all photographs, see `cache.photograph_digests`.
        """
        output = embedder.finish(BackboneOutput(self.vectors[0, places][:, None], self.saliency[places]))
        readable = ["" if self.store.problems[place] else digests[place] for place in places]
        cache.put_many(embedder.entries(readable, output))
