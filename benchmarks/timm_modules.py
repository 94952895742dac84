"""Every module of timm's, by its smallest backbone with random weights: what can the kit do with it?

    OMP_NUM_THREADS=1 python benchmarks/timm_modules.py                # all of them, an hour on one core
    OMP_NUM_THREADS=1 python benchmarks/timm_modules.py resnet coat    # some

Each is planned at its own size, built, asked for embeddings, saved and loaded; its batch norms are folded in float64;
then it is asked for another size, for other scales, for GeM pooling and for a last stride of 1. What the kit refuses
in words is listed below the table; everything else that fails is a fault of the kit, and the status is 1 then. A
module gets a process of its own, with so much memory and time and no more.
"""

import argparse
import json
import logging
import resource
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import timm
import torch
from harness import machine
from torch import nn

from reid.config.presets import PRESETS
from reid.config.recipe import Recipe
from reid.config.runtime import Runtime
from reid.config.settings import with_settings
from reid.errors import InputError
from reid.models.backbones import build_backbone, check_scales, first_line
from reid.models.batch_norm import fold_batch_norms
from reid.models.networks import load_network
from reid.models.new_networks import build_network, plan_network, save_network
from reid.models.pretrained import describe_backbone
from reid.retrieval.embedding import Embedder
from reid.training.synchronised import NORMS

LARGEST = 100e6
"""Parameters; a larger backbone is only planned, on shapes without values."""

MEMORY, SECONDS = 12_000_000_000, 300
"""Bytes and time that a module gets."""

SCALES = (1.0, 0.5, 1.5)

RECIPE = PRESETS["frozen"]

RUNTIME = Runtime(precision="float32", batch_size=2)

COLUMNS = (
    "embeds",
    "same after loading",
    "batch norms folded",
    "difference",
    "other size",
    "scales",
    "gem",
    "stride 1",
)


def main() -> int:
    """A row per module, then what was refused."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*", metavar="MODULE", help="of timm's; all when none is named")
    parser.add_argument("--here", action="store_true", help="one module in this process, as JSON")
    options = parser.parse_args()
    if options.here:
        print(json.dumps(row(options.modules[0])))
        return 0
    print(f"{machine()}; timm {timm.__version__}\n")
    print(f"| module | backbone | M parameters | pixels | {' | '.join(COLUMNS)} |\n|{'---|' * (len(COLUMNS) + 4)}")
    notes = []
    for module in options.modules or timm.list_modules():
        cells, words = in_a_process(module)
        print(f"| {module} | {' | '.join(cells)} |", flush=True)
        notes += [f"- {module}, {word}" for word in words]
    print("\n" + "\n".join(notes))
    return int(any("FAULT" in note for note in notes))


def in_a_process(module: str) -> tuple[list[str], list[str]]:
    """A module's cells and notes, whatever becomes of the process that makes them."""
    command = [sys.executable, __file__, "--here", module]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return ["FAULT"], [f"FAULT: longer than {SECONDS} seconds"]
    if ran.returncode:
        return ["FAULT"], [f"FAULT: status {ran.returncode}, {(ran.stderr.splitlines() or ['no word'])[-1]}"]
    cells, words = json.loads(ran.stdout)
    return cells, words


def row(module: str) -> tuple[list[str], list[str]]:
    """One module's cells and notes."""
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    parameters, name = smallest(module)
    known = describe_backbone(name)
    size = known.image_size
    checks: Mapping[str, Callable[[], str]] = {
        "embeds": lambda: embeds(name, size),
        "same after loading": lambda: comes_back(name, size),
        "batch norms folded": lambda: folds(name, size),
        "other size": lambda: embeds(name, other_size(size)),
        "scales": lambda: embeds(name, size, with_settings(RECIPE, {"prediction.scales": SCALES})),
        "gem": lambda: embeds(name, size, pooling="gem"),
        "stride 1": lambda: embeds(name, size, last_stride=1),
    }
    if parameters > LARGEST:
        skipped = {"same after loading": lambda: "too large", "batch norms folded": lambda: "too large | "}
        checks = dict(checks) | skipped
    cells, notes = [f"{name} | {parameters / 1e6:.1f} | {size}"], []
    for check, ask in checks.items():
        try:
            cells.append(ask())
        except InputError as refusal:
            cells.append("refused")
            notes.append(f"{check}: {refusal}")
        except Exception as fault:
            cells.append("FAULT" if check != "batch norms folded" else "FAULT | ")
            notes.append(f"{check}: FAULT {type(fault).__name__}: {first_line(fault)}")
    return cells, notes


def smallest(module: str) -> tuple[int, str]:
    """The fewest parameters of a module's backbones, and its name; timm's own test networks are left out."""
    found = []
    for name in timm.list_models(module=module, exclude_filters=["test_*"]) or [module]:
        with torch.device("meta"):
            backbone = timm.create_model(name, pretrained=False, num_classes=0)
        found.append((parameters_of(backbone), name))
    return min(found)


def parameters_of(backbone: nn.Module) -> int:
    """How many numbers a backbone learns."""
    return sum(parameter.numel() for parameter in backbone.parameters())


def other_size(size: int) -> int:
    """Three quarters of a size, as a multiple of 32."""
    return max(64, round(size * 0.75 / 32) * 32)


def embeds(name: str, size: int, recipe: Recipe = RECIPE, pooling: str = "backbone", last_stride: int = 2) -> str:
    """Whether embeddings are finite numbers, as many as the plan says; a large backbone is only planned."""
    plan = plan_network(name, size, pooling=pooling, last_stride=last_stride, normalise=True)
    with torch.device("meta"):
        large = parameters_of(build_backbone(name, size, pooling, last_stride)) > LARGEST
    if large:
        check_scales(name, size, pooling, last_stride, recipe.prediction.scales)
        return "planned"
    vectors = Embedder(build_network(plan, 0, "none"), recipe, RUNTIME).embed(photographs(size))
    if vectors.shape != (2, plan.features) or not torch.isfinite(vectors).all():
        raise ValueError(f"expected {(2, plan.features)} finite numbers, found {tuple(vectors.shape)}")
    return "yes"


def photographs(size: int) -> torch.Tensor:
    """Two of noise, (2, 3, S, S) uint8."""
    return torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def comes_back(name: str, size: int) -> str:
    """Whether a network's file gives the same embeddings as the network."""
    network = build_network(plan_network(name, size, normalise=True), 0, "none").eval()
    with tempfile.TemporaryDirectory(prefix="reid-bench-") as scratch:
        save_network(Path(scratch) / "x.safetensors", network)
        back = load_network(Path(scratch) / "x.safetensors")
    with torch.no_grad():
        expected, found = network(photographs(size)), back(photographs(size))
    if not torch.allclose(found, expected, atol=1e-5):
        raise ValueError(f"the embeddings differ by {float((found - expected).abs().max())}")
    return "yes"


def folds(name: str, size: int) -> str:
    """How many of the batch norms over feature maps are folded, and the largest difference as a share of the largest
    feature, in float64, at the backbone's own size and, where it takes it, at another."""
    torch.manual_seed(0)
    backbone = settled(build_backbone(name, size, "backbone", 2), photographs(size).double() / 255)
    there = count_norms(backbone)
    if not there:
        return "none there | "
    folded = fold_batch_norms(backbone, size)
    differences = [difference(backbone, folded, size)]
    with suppress(Exception):  # each backbone raises its own
        differences.append(difference(backbone, folded, other_size(size)))
    return f"{there - count_norms(folded)} of {there} | {max(differences):.0e}"


def count_norms(backbone: nn.Module) -> int:
    """Batch norms over feature maps."""
    return sum(isinstance(module, nn.BatchNorm2d) for module in backbone.modules())


@torch.no_grad()
def settled(backbone: nn.Module, pixels: torch.Tensor) -> nn.Module:
    """The backbone in float64 with these pixels' statistics: new batch norms would scale and shift by nothing."""
    backbone = backbone.double().train()
    for module in backbone.modules():
        if isinstance(module, NORMS):
            module.momentum = 1.0
            for parameter, low, high in ((module.weight, 0.5, 1.5), (module.bias, -0.5, 0.5)):
                if parameter is not None:
                    nn.init.uniform_(parameter, low, high)
    backbone(pixels)
    return backbone.eval()


@torch.no_grad()
def difference(backbone: nn.Module, folded: nn.Module, size: int) -> float:
    """The largest difference of a feature, as a share of the largest feature."""
    pixels = photographs(size).double() / 255
    expected = backbone(pixels)
    return float((folded(pixels) - expected).abs().max() / expected.abs().max())


if __name__ == "__main__":
    sys.exit(main())
