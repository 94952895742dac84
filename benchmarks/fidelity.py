"""What the fast way costs in fidelity: features of full-size photographs, fast and exactly.

    python benchmarks/fidelity.py ../shared/photos-large --init build/lite0.safetensors

The fast way is the kit's: JPEGs scaled while they are decoded, batch norms folded, the device's precision. The exact
one decodes every pixel with Pillow, resizes once, and runs the network as it was built, in float32.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from harness import machine
from PIL import Image, ImageOps
from torch import Tensor, nn

from reid.config.presets import PRESETS
from reid.config.runtime import Runtime
from reid.data.photographs import open_photograph
from reid.models.networks import best_device
from reid.models.new_networks import build_network, plan_network
from reid.models.pretrained import describe_backbone
from reid.retrieval.embedding import Embedder
from reid.runtime.progress import track


@torch.inference_mode()
def main() -> None:
    """Prints a line per precision."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", metavar="FOLDER", type=Path)
    parser.add_argument("--init", type=Path, required=True, help="the backbone's first weights")
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    parser.add_argument("--size", type=int, default=224, help="pixels on a side; 224")
    options = parser.parse_args()
    print(machine(), flush=True)
    paths = sorted(options.photographs.rglob("*.jpg"))
    plan = plan_network(describe_backbone(options.backbone, options.init), options.size)
    network = build_network(plan, 0, options.init).eval()
    exact = torch.cat([network(squares([path], options.size, in_full)) for path in track(paths, "exactly")])
    small = squares(paths, options.size, open_photograph)
    network = network.to(best_device())
    for precision in ("float32", "bfloat16", "float16"):
        fast = Embedder(network, PRESETS["paper"], Runtime(precision=precision, batch_size=8)).embed(small)
        print(f"{precision}: {compare(fast, exact)}")


def squares(paths: list[Path], size: int, opener: Callable[[Path, int], np.ndarray]) -> Tensor:
    """(N, 3, S, S) uint8"""
    return torch.from_numpy(np.stack([opener(path, size) for path in paths])).permute(0, 3, 1, 2)


def in_full(path: Path, size: int) -> np.ndarray:
    """(S, S, 3) uint8, decoded at its full size."""
    with Image.open(path) as image:
        upright = ImageOps.exif_transpose(image).convert("RGB")
        return np.asarray(upright.resize((size, size), Image.Resampling.BICUBIC))


def compare(fast: Tensor, exact: Tensor) -> str:
    """How alike they are, and whether they agree on who is whose nearest."""
    alike = nn.functional.cosine_similarity(fast, exact)
    nearest = [torch.cdist(own, own).fill_diagonal_(torch.inf).argmin(1) for own in (fast, exact)]
    same = int((nearest[0] == nearest[1]).sum())
    return (
        f"cosine {alike.min():.5f} at least, {alike.median():.5f} in the median; "
        f"{same} of {len(exact)} keep their nearest photograph"
    )


if __name__ == "__main__":
    main()
