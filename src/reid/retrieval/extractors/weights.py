"""The weights of published networks in a weights folder: safetensors with the network's name."""

from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from reid.errors import InputError
from reid.retrieval.extractors.learned import PublishedNetwork

__all__ = ["NAME", "load_weights", "name_in"]

NAME = "local feature"
"""Under which the metadata of a safetensors file has the network's name."""


def name_in(path: Path) -> str:
    """Return whose weights a safetensors file says to hold; "" where it says nothing, and for other files."""
    try:
        with safe_open(path, framework="pt") as opened:
            return str((opened.metadata() or {}).get(NAME, ""))
    except (SafetensorError, OSError):
        return ""


def load_weights(network: PublishedNetwork, path: Path) -> dict[str, Tensor]:
    """Return the weights in the file of a weights folder.

    Raises:
        InputError: it can't be read, or holds others.
    """
    found = name_in(path)
    if found == network.name:
        tensors, expected = load_file(path), network.expected()
        counters = {key for key in expected if key.endswith("num_batches_tracked")}  # which not every file has
        expected = {key: tensor for key, tensor in expected.items() if key not in counters - tensors.keys()}
        if {key: tensor.shape for key, tensor in tensors.items()} == {key: one.shape for key, one in expected.items()}:
            return tensors
        found = "tensors of other names or shapes"
    raise InputError(
        f"{path}: expected the weights of the {network.kind} {network.name}, found {found or 'none'}; copy the "
        "weights folder again"
    )
