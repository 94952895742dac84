"""What a network learns from: photographs, or a frozen trunk's features of them, which are computed once.

Both have the same two verbs: `draw` an epoch's batches, and give a network's `outputs` for photographs as they are
enrolled.
"""

from collections.abc import Iterable, Iterator
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
from reid.recipe import Recipe
from reid.sampler import Batch

__all__ = ["Features", "Photographs"]


@dataclass(frozen=True)
class Photographs:
    """Photographs, for networks whose trunk is trained."""

    store: PhotographStore
    recipe: Recipe

    def draw(self, sampler: Iterable[Batch], device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
        """Augmented photographs (B, 3, S, S) uint8 and their places (B,), on the device."""
        return training_batches(self.store, self.recipe, sampler, device)

    def outputs(self, network: Network, places: np.ndarray) -> Tensor:
        """(n, D) float32, on the processor."""
        return embed(network, self.store.batches(places, self.recipe.batch_size), self.recipe)


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

    @cached_property
    def vectors(self) -> Tensor:
        """(1 + V, N, F) float32: of the photographs as they are, and of V augmented views of each."""
        bare = replace(self.plan, hidden_size=0, embedding_size=0, neck=False, normalise=False, classes=())
        trunk = build_network(bare, self.recipe.seed, self.init).to(best_device())
        embedder = Embedder(trunk, replace(self.recipe, flip_average=False, scales=(1.0,)))
        places = np.arange(len(self.store.problems))
        found = torch.empty(1 + self.recipe.feature_views, len(places), bare.features)
        for view in range(len(found)):
            start = 0
            batches = self.store.batches(places, self.recipe.batch_size)
            many = -(-len(places) // self.recipe.batch_size)
            for pixels in track(batches, f"embedding photographs, view {view + 1} of {len(found)}", many):
                rng = np.random.default_rng([self.recipe.seed, 3, view, start])
                seen = augment(pixels, self.recipe, rng) if view else pixels
                found[view, start : start + len(pixels)] = embedder.embed(seen)
                start += len(pixels)
        return found

    def draw(self, sampler: Iterable[Batch], device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
        """A view of each photograph, (B, F) float32, and the photographs' places (B,), on the device."""
        views = self.vectors[1:] if len(self.vectors) > 1 else self.vectors
        for batch in sampler:
            chosen = np.random.default_rng(batch.seed).integers(len(views), size=len(batch.places))
            yield views[chosen, batch.places].to(device), torch.from_numpy(batch.places).to(device)

    @torch.inference_mode()
    def outputs(self, network: Network, places: np.ndarray) -> Tensor:
        """(n, D) float32, on the processor."""
        device = next(network.parameters()).device
        return network.eval().finish(network.head(self.vectors[0, places].to(device))).cpu()
