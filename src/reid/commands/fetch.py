"""`reid fetch`: write the weights of a backbone, a local feature or LightGlue into a file."""

import argparse
from pathlib import Path
from typing import Any

from reid.commands.options import add_command
from reid.commands.output import log_next
from reid.config.recipe import EXTRACTORS, LIGHTGLUE
from reid.errors import InputError
from reid.runtime.progress import print_result

__all__ = ["add_parser", "run"]


def add_parser(commands: Any) -> None:
    does = "write a backbone's or a local feature's weights into a file, for machines without a network"
    command = add_command(commands, "fetch", run, does, "fetch resnet50 --out resnet50.safetensors")
    command.add_argument(
        "name",
        metavar="NAME",
        help="a backbone: timm's name, or hf-hub:OWNER/NAME; or a local feature, such as xfeat; or what matches it, "
        "such as lightglue-disk",
    )
    command.add_argument("--out", metavar="FILE", type=Path, required=True, help="the .safetensors file to write")


def run(options: argparse.Namespace) -> None:
    from reid.models.pretrained import fetch_backbone

    if options.out.suffix != ".safetensors":
        raise InputError(f"--out {options.out}: expected a name that ends in .safetensors; choose one")
    if options.name in EXTRACTORS or options.name.startswith(LIGHTGLUE):
        _fetch_keypoint_weights(options.name, options.out)
        return
    backbone = fetch_backbone(options.name, options.out)
    print_result(
        f"wrote {options.out}: {backbone.name}, {options.out.stat().st_size / 1e6:.0f} MB, for photographs of "
        f"{backbone.image_size} pixels, {backbone.interpolation}"
    )
    name = f"backbone.name={options.name}"
    log_next("train", "DATA", "--out", "weights", "--set", name, "--init", options.out)


def _fetch_keypoint_weights(name: str, out: Path) -> None:
    """Write the weights of a learned local feature, or of what matches it, into a file."""
    from reid.decision.learned_weights import published_networks
    from reid.retrieval.extractors.kornia_package import refuse_old_kornia
    from reid.retrieval.extractors.sources import fetch_weights

    networks = published_networks()
    if name not in networks:
        raise InputError(
            f"fetch {name}: expected a learned local feature, one of {', '.join(networks)}; {name} has no weights"
        )
    refuse_old_kornia(name)
    fetch_weights(networks[name], out, networks.values())
    print_result(f"wrote {out}: {name}, {out.stat().st_size / 1e6:.1f} MB")
    extractor = name.removeprefix(f"{LIGHTGLUE}-")
    verifier = ("--set", f"matching.verifier={LIGHTGLUE}") if extractor != name else ()
    feature = f"keypoints.extractor={extractor}"
    log_next("train", "DATA", "--out", "weights", "--set", feature, *verifier, "--keypoint-weights", out)
