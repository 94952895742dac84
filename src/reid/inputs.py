"""What a network learns from: photographs, or a frozen trunk's features of them, which are computed once.

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

from reid.embedding import Embedder, embed
from reid.images import PhotographStore, augment, training_batches
from reid.networks import Network, NetworkPlan, best_device, build_network
from reid.progress import track
from reid.ranks import collected, rank, share, total, world
from reid.recipe import Recipe
from reid.sampler import Batch

__all__ = ["Features", "Photographs"]


@dataclass(frozen=True)
class Photographs:
    """Photographs, for networks whose trunk is trained."""

    store: PhotographStore
    recipe: Recipe

    def draw(self, sampler: Iterable[Batch], device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
        """This rank's share of the augmented photographs, (b, 3, S, S) uint8, and the places of all, (B,), on the
        device."""
        return training_batches(self.store, self.recipe, sampler, device)

    def outputs(self, network: Network, places: np.ndarray) -> Tensor:
        """(n, D) float32, on the processor."""
        vectors = torch.zeros(len(places), network.plan.outputs)
        own = share(len(places))
        vectors[own] = embed(network, self.store.batches(places[own], self.recipe.batch_size), self.recipe)
        return total(vectors)


@dataclass(frozen=True)
class Features:
    """A frozen trunk's features, for networks of which only the head is trained.

    Attributes:
        store: the photographs.
        recipe: `feature_views`, augmentations, precision.
        plan: whose trunk; what comes after it does not matter.
        init: the trunk's first weights, as for `build_network`.
    """

    store: PhotographStore
    recipe: Recipe
    plan: NetworkPlan
    init: Path | str

    @property
    def vectors(self) -> Tensor:
        """(1 + V, N, F) float32: of the photographs as they are, and of V augmented views of each."""
        return self.seen[0]

    @cached_property
    def seen(self) -> tuple[Tensor, Tensor]:
        """See `vectors`, and where the trunk looks on the photographs as they are, (N, h, h), see `embedding.Seen`."""
        trunk_plan = replace(self.plan, hidden_size=0, embedding_size=0, neck=False, normalise=False, classes=())
        trunk = build_network(trunk_plan, self.recipe.seed, self.init).to(best_device())
        embedder = Embedder(trunk, replace(self.recipe, flip_average=False, scales=(1.0,)))
        places = np.arange(len(self.store.problems))
        features = torch.zeros(1 + self.recipe.feature_views, len(places), trunk_plan.features)
        attention_from: dict[int, Tensor] = {}
        starts = range(0, len(places), self.recipe.batch_size)[rank() :: world()]
        for view in range(len(features)):
            for start in track(starts, f"embedding photographs, view {view + 1} of {len(features)}"):
                batch = places[start : start + self.recipe.batch_size]
                (pixels,) = self.store.batches(batch, len(batch))
                rng = np.random.default_rng([self.recipe.seed, 3, view, start])
                shown = augment(pixels, self.recipe, rng) if view else pixels
                features[view, batch], attention = embedder.see(shown)
                if not view:
                    attention_from[start] = attention
        attention_in_order = dict(sorted(item for part in collected(attention_from) for item in part.items()))
        return total(features), torch.cat([torch.empty(0), *attention_in_order.values()])

    def draw(self, sampler: Iterable[Batch], device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
        """A view of each photograph of this rank's share, (b, F) float32, and the places of all, (B,), on the
        device."""
        views = self.vectors[1:] if len(self.vectors) > 1 else self.vectors
        for batch in sampler:
            chosen = np.random.default_rng(batch.seed).integers(len(views), size=len(batch.places))
            own = share(len(batch.places))
            yield views[chosen[own], batch.places[own]].to(device), torch.from_numpy(batch.places).to(device)

    def compute(self) -> None:
        """Computes what is not there yet; every rank must take part, for each has its share of it."""
        _ = self.seen

    def remember_for(self, embedder: Embedder, places: np.ndarray, digests: Sequence[str]) -> None:
        """Lets an encoder on this trunk remember photographs: enrolment would look at them once more for each fold.

        Args:
            embedder: the encoder's.
            places: (n,) int64, the photographs.
            digests: (N,) of all photographs, see `embedding.digests_of`.
        """
        vectors, attention = embedder.of_features(self.vectors[0, places]), self.seen[1][places]
        for place, vector, where in zip(places, vectors, attention, strict=True):
            if not self.store.problems[place]:
                embedder.remember(digests[place], vector, where)
        if embedder.memory:
            embedder.memory.save()

    @torch.inference_mode()
    def outputs(self, network: Network, places: np.ndarray) -> Tensor:
        """(n, D) float32, on the processor."""
        device = next(network.parameters()).device
        return network.eval().finish(network.head(self.vectors[0, places].to(device))).cpu()
