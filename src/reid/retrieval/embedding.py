"""Embed photographs with a network, as fast as the device allows.

What makes it fast is measured in benchmarks/README.md: a precision that the device multiplies quickly, batch norms
folded into the convolutions before them, channels last, and as many photographs at a time as suit the processor's
caches.
"""

import copy
import logging
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

import PIL
import torch
from torch import Tensor
from torch.nn import functional

from reid.config.recipe import Recipe
from reid.config.runtime import Runtime
from reid.data.photographs import DECODER_VERSION
from reid.models.backbones import check_scales
from reid.models.batch_norm import fold_batch_norms
from reid.models.networks import (
    Network,
    best_device,
    channels_last,
    has_same_backbone,
    load_head,
    load_network,
    read_plan,
)
from reid.models.timm_import import timm
from reid.retrieval.cache import Arrays, Cache, cache_key
from reid.runtime.files import sha256_of

__all__ = ["PRECISIONS", "BackboneOutput", "Embedder", "EmbeddingOutput", "embed", "precision_on"]

log = logging.getLogger(__name__)

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""By the names that `Runtime.precision` uses."""

FORWARD_VERSION = 1
"""Raise it whenever a network's vectors change in any digit: those in caches are stale then."""

PASS_PIXELS = 8 * 224**2
"""Pixels of a forward pass on a processor. ResNet-50 at 224, bfloat16, 2 cores: 44, 47, 44, 38, 36 images/s with 4, 8,
16, 32, 64 photographs at a time; more of them push each other out of the caches."""


def precision_on(device: torch.device, wanted: str) -> torch.dtype:
    """Return the number format to compute in.

    Args:
        device: where.
        wanted: "float32", "bfloat16", "float16", or "auto": bfloat16 where the device multiplies it in hardware, else
            float16 on a GPU, else float32.
    """
    if wanted != "auto":
        return PRECISIONS[wanted]
    if device.type == "cuda":  # from compute capability 8.0 (Ampere) on; a T4 has 7.5 and would emulate it
        return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16
    supported = (getattr(torch.cpu, name, bool)() for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return torch.bfloat16 if any(supported) else torch.float32


class EmbeddingOutput(NamedTuple):
    """What a network gives for some photographs."""

    vectors: Tensor
    """(B, D) float32: embeddings, or a classifier's logits."""
    saliency: Tensor
    """(B, h, h) float32 from 0 to 1; h is 0 where no keypoints need it, or the network can't tell."""


class BackboneOutput(NamedTuple):
    """What a backbone gives for some photographs, on the network's device."""

    features: Tensor
    """(B, V, F) float32, of each view that the recipe asks for: the photograph in all sizes, then its mirror image."""
    saliency: Tensor
    """As in `EmbeddingOutput`."""


class Embedder:
    """A network prepared to embed photographs.

    A photograph's vector does not depend on the photographs next to it: on every call the network gets the same number
    of them, the rest filled up with blank ones. Networks that have the same backbone share it, and what it gave for a
    photograph.

    Attributes:
        plan: the network's.
        device: where the network runs.
        dtype: the number format that it computes in.
        pass_size: photographs in a forward pass.
    """

    def __init__(
        self,
        network: Network | Path,
        recipe: Recipe,
        runtime: Runtime = Runtime(),
        others: Iterable["Embedder"] = (),
    ) -> None:
        """
        Args:
            network: on the device where it shall run, put into evaluation mode by the first call; or the file of one
                for the best device, which the first call loads: meanwhile the first photographs are opened, and where
                all embeddings come from a cache it is never loaded.
            recipe: `prediction`, and whether keypoints need its saliency.
            runtime: precision and batch size.
            others: with the same recipe and runtime, of files; the first that has the same backbone shares it.

        Raises:
            InputError: no network's file; scales that its backbone can't take.
        """
        self.given = network
        self.plan = read_plan(network) if isinstance(network, Path) else network.plan
        plan, scales = self.plan, recipe.prediction.scales
        check_scales(plan.backbone, plan.image_size, plan.pooling, plan.last_stride, scales)
        self.flip_average, self.scales = recipe.prediction.flip_average, scales
        self.pools_under_masks = recipe.data.pool_under_masks
        asked = recipe.uses_keypoints and (recipe.keypoints.saliency == "any" or plan.pooling == "gem")
        self.has_saliency = asked and self.plan.has_saliency
        self.device = best_device() if isinstance(network, Path) else next(network.parameters()).device
        self.dtype = precision_on(self.device, runtime.precision)
        fitting = max(1, PASS_PIXELS // self.plan.image_size**2)
        self.pass_size = runtime.batch_size if self.device.type == "cuda" else min(fitting, runtime.batch_size)
        self.sharer = next((one for one in others if self._has_backbone_of(one)), None)

    def _has_backbone_of(self, other: "Embedder") -> bool:
        files = self.given, other.given
        return isinstance(files[0], Path) and isinstance(files[1], Path) and has_same_backbone(files[0], files[1])

    @property
    def precision(self) -> str:
        """The number format that it computes in, by its name in `PRECISIONS`."""
        return next(name for name, dtype in PRECISIONS.items() if dtype == self.dtype)

    @cached_property
    def made_with(self) -> dict[str, object]:
        """Everything that shapes a vector besides the photograph, for keys of a cache; only of a network's file."""
        assert isinstance(self.given, Path)
        return {
            "network": sha256_of(self.given),
            "pixels": DECODER_VERSION,
            "forward": FORWARD_VERSION,
            "flip_average": self.flip_average,
            "scales": self.scales,
            "saliency": self.has_saliency,
            "device": self.device.type,
            "precision": self.precision,
            "versions": [torch.__version__, timm.__version__, PIL.__version__],
            **({"under masks": True} if self.pools_under_masks else {}),  # what is not there changes no older key
        }

    @cached_property
    def network(self) -> Network:
        """As it was trained, float32."""
        if not isinstance(self.given, Path):
            return self.given.eval()
        loaded = load_head(self.given, self.sharer.network) if self.sharer else load_network(self.given)
        return loaded.to(self.device).eval()

    @cached_property
    def fast(self) -> Network:
        """The same network, faster: in the precision of the device, its batch norms folded."""
        if self.sharer and isinstance(self.given, Path):
            return load_head(self.given, self.sharer.fast).to(self.device)
        fast = copy.deepcopy(self.network)
        fast.backbone = fold_batch_norms(fast.backbone, self.plan.image_size).to(self.dtype)
        channels_last(fast.backbone)
        return fast

    def shares_backbone(self, other: "Embedder") -> bool:
        """Return whether the two have the same backbone, so that `features` of one are the other's."""
        return self._first_sharer is other._first_sharer

    @property
    def _first_sharer(self) -> "Embedder":
        return self.sharer._first_sharer if self.sharer else self

    def embed(self, photographs: Tensor) -> Tensor:
        """Return the network's outputs.

        Args:
            photographs: (B, 3, S, S) uint8, on any device; (B, 4, S, S) with masks, see `View.covers`.

        Returns:
            (B, D) float32, on the CPU.
        """
        return self.embed_with_saliency(photographs).vectors

    def embed_with_saliency(self, photographs: Tensor) -> EmbeddingOutput:
        """Return the network's outputs and, where keypoints are to be weighted by it, their saliency."""
        return self.finish(self.features(photographs))

    def features(self, photographs: Tensor) -> BackboneOutput:
        """Return what the backbone gives for photographs (B, 3 or 4, S, S) uint8."""
        while True:
            try:
                parts = self._forwards(torch.split(photographs, self.pass_size))
                return BackboneOutput(*(torch.cat(values) for values in zip(*parts, strict=True)))
            except torch.OutOfMemoryError:
                if self.pass_size == 1:
                    raise
                self.pass_size //= 2
                torch.cuda.empty_cache()
                log.warning(f"the GPU's memory is too small; continuing with {self.pass_size} photographs at a time")

    @torch.inference_mode()
    def finish(self, output: BackboneOutput) -> EmbeddingOutput:
        """Return the network's outputs for photographs that its backbone, or one that it shares, has seen."""
        network, vectors = self.fast, []
        for part in torch.split(output.features, self.pass_size):
            filled = torch.cat([part, part.new_zeros(self.pass_size - len(part), *part.shape[1:])]).to(self.device)
            views = [network.finish(network.head(view)) for view in filled.unbind(1)]
            mean = torch.stack(views).mean(0) if len(views) > 1 else views[0]
            vectors.append(self._of_unit_length(mean)[: len(part)].cpu())
        return EmbeddingOutput(torch.cat([torch.empty(0, self.plan.outputs), *vectors]), output.saliency.cpu())

    def _of_unit_length(self, vectors: Tensor) -> Tensor:
        return functional.normalize(vectors) if self.plan.normalise else vectors

    def _forwards(self, parts: Sequence[Tensor]) -> list[BackboneOutput]:
        """Return what the backbone gives for each part.

        On a CPU each part has a thread of its own. Threads that share a part wait for each other in every layer, and as
        soon as one of them has to wait for other work on its core, so do all. Not so in float32, where ResNet-50 gains
        during constant decoding (4.1 to 3.1 s for 64 photographs) less than it loses alone (1.5 to 2.1 s).
        """
        threads = torch.get_num_threads()
        pooled = min(threads, len(parts))
        forward = partial(self._forward, self.fast)
        if self.device.type != "cpu" or self.dtype == torch.float32 or pooled == 1:
            return [forward(part) for part in parts]
        try:
            with ThreadPoolExecutor(pooled, initializer=torch.set_num_threads, initargs=(threads // pooled,)) as pool:
                return list(pool.map(forward, parts))
        finally:
            torch.set_num_threads(threads)  # what the pool's set is also the default of all threads to come

    @torch.inference_mode()  # here, because a thread has its own
    def _forward(self, network: Network, part: Tensor) -> BackboneOutput:
        rows = len(part)
        if rows < self.pass_size:
            part = torch.cat([part, part.new_zeros(self.pass_size - rows, *part.shape[1:])])
        part = part.to(self.device, non_blocking=True)
        output = self._views(network, part)
        if self.dtype == torch.float16 and not torch.isfinite(output.features[:rows]).all():  # it ends at 65,504
            output = self._views(self.network, part)
        return BackboneOutput(*(values[:rows] for values in output))

    def _views(self, network: Network, part: Tensor) -> BackboneOutput:
        """Return the features of a photograph's sizes and of its mirror image, as the recipe wants them."""
        images = (part, part.flip(3)) if self.flip_average else (part,)
        features: list[Tensor] = []
        saliency = part.new_zeros(len(part), 0, 0, dtype=torch.float32)
        for image in images:
            for scale in self.scales:
                if self.has_saliency and not features:
                    pooled, saliency = network.features_with_saliency(image, scale)
                else:
                    pooled = network.pooled_features(image, scale)
                features.append(pooled)
        return BackboneOutput(torch.stack(features, 1), saliency)

    def from_cache(self, cache: Cache, digest: str) -> EmbeddingOutput | None:
        """Return what a cache keeps of one photograph, (1, D) and (1, h, h); None where that is nothing.

        Args:
            cache: where `entries` were put.
            digest: the photograph's, see `cache.photograph_digests`.
        """
        arrays = cache.get(self._key(digest))
        if arrays is None:
            return None
        return EmbeddingOutput(torch.from_numpy(arrays["vector"])[None], torch.from_numpy(arrays["saliency"])[None])

    def entries(self, digests: Sequence[str], output: EmbeddingOutput) -> dict[str, Arrays]:
        """Return what a cache shall keep of some photographs.

        Args:
            digests: (B,) of the photographs; "" for one of which nothing is kept.
            output: what the network gave for them.
        """
        return {
            self._key(digest): {"vector": vector.numpy(), "saliency": saliency.numpy()}
            for digest, vector, saliency in zip(digests, *output, strict=True)
            if digest
        }

    def _key(self, digest: str) -> str:
        return cache_key("embedding", self.made_with, digest)


def embed(network: Network, batches: Iterable[Tensor], recipe: Recipe, runtime: Runtime = Runtime()) -> Tensor:
    """Return the network's outputs for batches of photographs, in order, on the CPU.

    Args:
        network: in evaluation mode from here on, until somebody trains it.
        batches: (B, 3, S, S) uint8 each.
        recipe, runtime: as for `Embedder`.

    Returns:
        (N, D) float32.
    """
    embedder = Embedder(network, recipe, runtime)
    return torch.cat([torch.empty(0, network.plan.outputs), *map(embedder.embed, batches)])
