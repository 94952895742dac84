"""Networks at work: photographs in, vectors out, as fast as the device allows, and none computed a second time.

What makes it fast is measured in benchmarks/README.md: a precision that the device multiplies quickly, batch norms
folded into the convolutions before them, channels last, and as many photographs at a time as the caches like.
"""

import copy
import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

import PIL
import timm
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.nn import functional

from reid import InputError
from reid.files import sha256_of, write_bytes
from reid.folding import folded
from reid.images import OPENED_AS, View
from reid.networks import Network, best_device, channels_last, load_network, read_plan
from reid.progress import say, track
from reid.ranks import cores
from reid.recipe import Recipe
from reid.trunks import takes_any_size

__all__ = [
    "CACHE_FOLDER",
    "Embedder",
    "Memory",
    "Seen",
    "digests_of",
    "embed",
    "load_embedder",
    "precision_on",
]

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

CACHE_FOLDER = "cache"
"""Inside the weights folder; not part of what the manifest names, so it is never uploaded."""

RUN_AS = 1
"""Raise it whenever a network's vectors change in any digit: those that are remembered are stale then."""

AT_A_TIME = 8 * 224**2
"""Pixels of a forward pass on a processor. ResNet-50 at 224, bfloat16, 2 cores: 44, 47, 44, 38, 36 images/s with 4, 8,
16, 32, 64 photographs at a time; more of them push each other out of the caches."""


def precision_on(device: torch.device, wanted: str) -> torch.dtype:
    """The number format to compute in.

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


class Memory:
    """Vectors by what `digests_of` says of a photograph, kept on disk between runs.

    The file is taken only when its key is the one asked for, see `load_embedder` for what stands in it. It is
    a convenience: a file that is missing, damaged or of another key is as good as an empty one.

    Attributes:
        path: a safetensors file.
        key: what the vectors were made with.
        vectors: (D,) float32 each.
    """

    def __init__(self, path: Path, key: str) -> None:
        self.path, self.key = path, key
        self.vectors = self._stored()
        self.saved = len(self.vectors)

    def _stored(self) -> dict[str, Tensor]:
        with suppress(OSError, SafetensorError, ValueError, TypeError), safe_open(self.path, framework="pt") as opened:
            metadata = opened.metadata() or {}
            if metadata.get("key") == self.key and set(opened.keys()) == {"digests", "vectors"}:
                digests, vectors = opened.get_tensor("digests"), opened.get_tensor("vectors")
                if metadata.get("seal") == _seal(digests, vectors):  # the manifest knows nothing of this file
                    rows = zip(digests.numpy(), vectors, strict=True)
                    return {row.tobytes().hex(): vector for row, vector in rows}
        return {}

    def save(self) -> None:
        """Writes the file anew if there is something new, with what others have written of late; a folder that can't be
        written is left alone."""
        if len(self.vectors) == self.saved:
            return
        self.vectors = {**self._stored(), **self.vectors}
        digests = torch.tensor([list(bytes.fromhex(digest)) for digest in self.vectors], dtype=torch.uint8)
        vectors = torch.stack(list(self.vectors.values()))
        metadata = {"key": self.key, "seal": _seal(digests, vectors)}
        with suppress(InputError):
            write_bytes(self.path, save({"digests": digests, "vectors": vectors}, metadata=metadata))
            self.saved = len(self.vectors)


def _seal(digests: Tensor, vectors: Tensor) -> str:
    """SHA-256 of both, in hex: a flipped bit in a vector would change an answer without a word."""
    return hashlib.sha256(digests.numpy().tobytes() + vectors.numpy().tobytes()).hexdigest()


class Seen(NamedTuple):
    """What a network says of some photographs."""

    vectors: Tensor
    """(B, D) float32."""
    attention: Tensor
    """(B, h, h) float32 from 0 to 1, where it looks; h is 0 where nobody asks, or it can't be told."""


class Embedder:
    """A network prepared to run.

    A photograph's vector does not depend on the photographs beside it: on every call the network sees the same number
    of them, the rest filled up with blank ones.

    Attributes:
        plan: the network's.
        memory: what it embedded before; None to remember nothing.
    """

    def __init__(self, network: Network | Path, recipe: Recipe, memory: Memory | None = None) -> None:
        """
        Args:
            network: on the device where it shall run, put into evaluation mode when it is first asked to look; or the
                file of one for the best device, which is loaded then: meanwhile the first photographs are opened, and
                where all of them are remembered it never is.
            recipe: `precision`, `batch_size`, `flip_average`, `scales`, `cues`.
            memory: see above.

        Raises:
            InputError: no network's file; other scales for a trunk that takes one size only.
        """
        self.given, self.memory = network, memory
        self.plan = read_plan(network) if isinstance(network, Path) else network.plan
        if recipe.scales != (1.0,) and not takes_any_size(self.plan.trunk):
            raise InputError(
                f"recipe field scales: the trunk {self.plan.trunk} takes photographs of one size only; set it to 1"
            )
        self.flip_average, self.scales = recipe.flip_average, recipe.scales
        self.attends = self.plan.attends and "local" in recipe.cues
        self.device = best_device() if isinstance(network, Path) else next(network.parameters()).device
        self.precision = precision_on(self.device, recipe.precision)
        fitting = max(1, AT_A_TIME // self.plan.image_size**2)
        self.at_a_time = recipe.batch_size if self.device.type == "cuda" else min(fitting, recipe.batch_size)

    @cached_property
    def network(self) -> Network:
        """As it was trained, float32."""
        return (load_network(self.given).to(self.device) if isinstance(self.given, Path) else self.given).eval()

    @cached_property
    def fast(self) -> Network:
        """The same network in the precision of the device."""
        fast = copy.deepcopy(self.network)
        fast.trunk = folded(fast.trunk).to(self.precision)
        channels_last(fast.trunk)
        return fast

    def embed(self, photographs: Tensor) -> Tensor:
        """The network's outputs.

        Args:
            photographs: (B, 3, S, S) uint8, on any device.

        Returns:
            (B, D) float32, on the processor.
        """
        return self.see(photographs).vectors

    def see(self, photographs: Tensor) -> Seen:
        """The network's outputs and, where keypoints are to be weighed by it, where it looks."""
        while True:
            try:
                parts = self._forwards(torch.split(photographs, self.at_a_time))
                return Seen(*(torch.cat(some).cpu() for some in zip(*parts, strict=True)))
            except torch.OutOfMemoryError:
                if self.at_a_time == 1:
                    raise
                self.at_a_time //= 2
                torch.cuda.empty_cache()
                say(f"warning: the GPU's memory is too small; going on with {self.at_a_time} photographs at a time")

    @torch.inference_mode()
    def of_features(self, features: Tensor) -> Tensor:
        """What `embed` says of photographs whose features the trunk has told already, to the bit.

        Args:
            features: (B, F) float32, as a network without head and neck embeds them.

        Returns:
            (B, D) float32, on the processor. Not for means over mirror images and sizes.
        """
        network, vectors = self.fast, []
        for part in torch.split(features, self.at_a_time):
            filled = torch.cat([part, part.new_zeros(self.at_a_time - len(part), part.shape[1])]).to(self.device)
            vectors.append(self._of_unit_length(network.finish(network.head(filled)))[: len(part)].cpu())
        return torch.cat([torch.empty(0, self.plan.outputs), *vectors])

    def _of_unit_length(self, vectors: Tensor) -> Tensor:
        return functional.normalize(vectors) if self.plan.normalise else vectors

    def _forwards(self, parts: Sequence[Tensor]) -> list[Seen]:
        """Each part's outputs.

        On a processor each part has a thread of its own. Threads that share a part wait for each other in every layer,
        and as soon as one of them has to wait for other work on its core, so do all. Not so in float32, where ResNet-50
        gains beside constant decoding (4.1 to 3.1 s for 64 photographs) less than it loses alone (1.5 to 2.1 s).
        """
        threads = torch.get_num_threads()
        pooled = min(threads, len(parts))
        forward = partial(self._forward, self.fast)
        if self.device.type != "cpu" or self.precision == torch.float32 or pooled == 1:
            return [forward(part) for part in parts]
        try:
            with ThreadPoolExecutor(pooled, initializer=torch.set_num_threads, initargs=(threads // pooled,)) as pool:
                return list(pool.map(forward, parts))
        finally:
            torch.set_num_threads(threads)  # what the pool's set is also the default of all threads to come

    @torch.inference_mode()  # here, because a thread has its own
    def _forward(self, network: Network, part: Tensor) -> Seen:
        rows = len(part)
        if rows < self.at_a_time:
            part = torch.cat([part, part.new_zeros(self.at_a_time - rows, *part.shape[1:])])
        part = part.to(self.device, non_blocking=True)
        seen = self._looked_at(network, part)
        if self.precision == torch.float16 and not torch.isfinite(seen.vectors[:rows]).all():  # it ends at 65,504
            seen = self._looked_at(self.network, part)
        return Seen(*(some[:rows] for some in seen))

    def _looked_at(self, network: Network, part: Tensor) -> Seen:
        """The mean over a photograph's sizes and its mirror image, as the recipe wants it; (B, D)."""
        images = (part, part.flip(3)) if self.flip_average else (part,)
        looks: list[Tensor] = []
        attention = part.new_zeros(len(part), 0, 0, dtype=torch.float32)
        for image in images:
            for scale in self.scales:
                if self.attends and not looks:
                    vectors, attention = network.attend(image, scale)
                else:
                    vectors = network(image, scale)
                looks.append(vectors)
        mean = torch.stack(looks).mean(0) if len(looks) > 1 else looks[0]
        return Seen(self._of_unit_length(mean), attention)

    def recall(self, digest: str) -> tuple[Tensor, Tensor] | None:
        """The vector (D,) and the attention (h, h) of a photograph that was seen before; None when it was not."""
        row = self.memory.vectors.get(digest) if self.memory else None
        if row is None:
            return None
        dimensions = self.plan.outputs
        side = math.isqrt(len(row) - dimensions)
        return row[:dimensions], row[dimensions:].view(side, side)

    def remember(self, digest: str, vector: Tensor, attention: Tensor) -> None:
        """Keeps what was seen for the next time; digest "" stands for a file that can't be read."""
        if self.memory and digest:
            self.memory.vectors[digest] = torch.cat([vector, attention.flatten()])


def embed(network: Network, batches: Iterable[Tensor], recipe: Recipe) -> Tensor:
    """The network's outputs for batches of photographs, in order, on the processor.

    Args:
        network: in evaluation mode from here on, until somebody trains it.
        batches: (B, 3, S, S) uint8 each.
        recipe: as for `Embedder`.

    Returns:
        (N, D) float32.
    """
    embedder = Embedder(network, recipe)
    return torch.cat([torch.empty(0, network.plan.outputs), *map(embedder.embed, batches)])


def load_embedder(folder: Path, file: str, recipe: Recipe, remember: bool = True) -> Embedder:
    """The embedder of a network's file, for the best device.

    Args:
        folder: a weights folder.
        file: the network's name in it.
        recipe: `precision`, `batch_size`, `flip_average`, `scales`.
        remember: keep the vectors in the weights folder for the next time.
    """
    embedder = Embedder(folder / file, recipe)
    if remember:
        made_with = {
            "network": sha256_of(folder / file),
            "pixels": OPENED_AS,
            "forward": RUN_AS,
            "flip_average": recipe.flip_average,
            "scales": recipe.scales,
            "attention": embedder.attends,
            "device": embedder.device.type,
            "precision": str(embedder.precision),
            "torch": torch.__version__,
            "timm": timm.__version__,
            "pillow": PIL.__version__,
        }
        embedder.memory = Memory(folder / CACHE_FOLDER / file, json.dumps(made_with))
    return embedder


def digests_of(paths: Sequence[Path], views: Sequence[View]) -> list[str]:
    """What tells a look at a photograph from others: SHA-256 of the file's bytes and its view, in hex.

    "" for a file that can't be read.
    """
    with ThreadPoolExecutor(cores()) as pool:  # hashing releases Python's lock
        return list(track(pool.map(_digest, paths, views), "telling files apart", total=len(paths)))


def _digest(path: Path, view: View) -> str:
    with suppress(OSError):
        if path.is_file():  # opening a pipe would wait for ever
            return hashlib.sha256(f"{sha256_of(path)} {view}".encode()).hexdigest()
    return ""
