"""The backbones that users ask for, at full size with random weights: do they go the whole way, and what do they need?

    OMP_NUM_THREADS=1 python benchmarks/backbones.py

Each is written as `reid fetch` writes it, read back as `--init` reads it, trained for one step on a batch of 2, saved
and loaded; the loaded network must embed as the saved one did. Every backbone gets a process of its own, so that its
highest memory is its own. What the real weights are worth is not measured: there is no hub here.
"""

import ctypes
import gc
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor

from reid.config.presets import PRESETS
from reid.config.runtime import Runtime
from reid.models.backbones import build_backbone
from reid.models.networks import load_network
from reid.models.new_networks import build_network, plan_network, save_network
from reid.models.pretrained import describe_backbone, save_backbone
from reid.retrieval.embedding import Embedder
from reid.training.objective import EncoderObjective, Labels
from reid.training.state import TrainState

SIZES = {
    "resnet50": 224,
    "tf_efficientnet_lite0": 224,
    "efficientnetv2_rw_m": 440,  # MiewID's
    "vit_small_patch14_dinov2": 224,
    "vit_base_patch14_dinov2": 224,
    "swin_large_patch4_window12_384": 384,  # MegaDescriptor-L-384's
}
"""At these pixels on a side; DINOv2's own 518 are halved, to a multiple of its patches of 14."""

BATCH = 2
"""Photographs of the training step; what a larger batch adds grows with it."""

TURNS = 7


def main() -> None:
    """A row per backbone."""
    if len(sys.argv) > 1:
        print(row(sys.argv[1]))
        return
    print(
        "| backbone | pixels | parameters | its file | memory to embed | memory to train, batch of 2 "
        "| s of work per photograph | of that with batch norms |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name in SIZES:
        subprocess.run([sys.executable, __file__, name], check=True)


def row(name: str) -> str:
    """Takes one backbone through all of it."""
    torch.manual_seed(0)
    size, recipe, runtime = SIZES[name], PRESETS["finetuned"], Runtime(precision="float32", batch_size=BATCH)
    photographs = torch.randint(0, 256, (BATCH, 3, size, size), dtype=torch.uint8)
    with tempfile.TemporaryDirectory(prefix="reid-bench-") as scratch:
        fetched, saved = Path(scratch) / "fetched.safetensors", Path(scratch) / "saved.safetensors"
        known = describe_backbone(name)
        weights = build_backbone(name, known.image_size, "backbone", 2).state_dict()
        save_backbone(fetched, known, weights, name)
        parameters = sum(tensor.numel() for tensor in weights.values())
        del weights
        plan = plan_network(describe_backbone("anything", fetched), size, embedding_size=512, neck=True, normalise=True)
        forget_peak()
        embedder = Embedder(build_network(plan, 0, fetched), recipe, runtime)
        embedder.embed(photographs[:1])
        expected = embedder.embed(photographs)
        embedding = peak()
        seconds, share = in_turns(embedder, Embedder(embedder.network, recipe, runtime), photographs)
        save_network(saved, embedder.network)
        again = Embedder(load_network(saved), recipe, runtime).embed(photographs)
        if not torch.allclose(again, expected, atol=1e-5):
            raise SystemExit(f"{name}: the saved network gives other embeddings than before")
        network = embedder.network
        del embedder
        forget_peak()
        individuals = torch.arange(BATCH)
        objective = EncoderObjective(recipe, 512, torch.zeros(BATCH, dtype=torch.long))
        state = TrainState.start(network, objective, recipe, steps=1, runtime=runtime)
        state.train()
        state.learn(photographs, Labels(individuals, individuals))
        training = peak()
    return (
        f"| {name} | {size} | {parameters / 1e6:.0f} M | {parameters * 4 / 1e6:,.0f} MB | {embedding / 1e3:.1f} GB "
        f"| {training / 1e3:.1f} GB | {seconds:.2f} | {share:.2f} |"
    )


def in_turns(folded: Embedder, plain: Embedder, photographs: Tensor) -> tuple[float, float]:
    """Seconds of work for a photograph, and as a share of those of the same network with its batch norms as they are;
    medians over turns."""
    plain.fast = plain.network
    work: dict[Embedder, list[float]] = {folded: [], plain: []}
    for _ in range(TURNS):
        for embedder, seconds in work.items():
            started = time.process_time()
            embedder.embed(photographs)
            seconds.append((time.process_time() - started) / BATCH)
    shares = [ours / theirs for ours, theirs in zip(work[folded], work[plain], strict=True)]
    return statistics.median(work[folded]), statistics.median(shares)


def forget_peak() -> None:
    """Lets freed memory go and starts to look for the highest anew, proc(5)."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")


def peak() -> float:
    """The process's highest memory, in MB; 0.5 GB of it are Python and torch themselves."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return float(line.split()[1]) / 1e3


if __name__ == "__main__":
    main()
