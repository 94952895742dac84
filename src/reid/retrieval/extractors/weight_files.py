"""Files with the weights of published networks, such as learned local features: as their authors published them, or as
`reid fetch` wrote them, which is safetensors with the network's name.
"""

from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from reid.errors import InputError
from reid.models.backbones import contiguous
from reid.models.checkpoint_files import find_state_dict, read_checkpoint, tensor_faults
from reid.retrieval.extractors.learned import PublishedNetwork
from reid.retrieval.extractors.weights import NAME, name_in
from reid.runtime.files import sha256_of, write_bytes

__all__ = ["read_weights", "save_weights", "whose_weights"]


def read_weights(
    feature: PublishedNetwork, path: Path, where: str, others: Iterable[PublishedNetwork] = ()
) -> dict[str, Tensor]:
    """Return the weights of a network out of a file, after they have been checked.

    Args:
        feature: whose.
        path: a .safetensors file, or a state dict that `torch.save` wrote, alone or in a checkpoint.
        where: what a message names as the place.
        others: all that it may be, to say whose weights a file holds instead.

    Raises:
        InputError: the file can't be read, holds the weights of another network or size, or numbers that are none.
    """
    wanted = f"{where}: expected the weights of the {feature.kind} {feature.name} (.safetensors or .pth)"
    content = read_checkpoint(path, wanted)
    expected = feature.expected()
    tensors = find_state_dict(content, set(expected), where)
    missing, misfits = tensor_faults(expected, tensors)
    name = name_in(path) or _published(path, others)
    if missing or misfits or name not in ("", feature.name):
        name = name or " or ".join(_fitting(content, others))
        faults = missing + misfits
        found = f"those of {name}" if name else ", ".join(faults[:3])
        alike = {other.name for other in others if type(other) is type(feature)}
        choose = feature.instead.format(name) if set(name.split(" or ")) <= alike else "Name"
        raise InputError(f"{wanted}, found {found}. {choose} the file of {feature.name}")
    kept = {key: tensors[key] for key in expected if key in tensors}
    if broken := [key for key, tensor in kept.items() if not torch.isfinite(tensor).all()]:
        raise InputError(
            f"{wanted}, found NaN or infinity in {broken[0]}{f' and {len(broken) - 1} more' if broken[1:] else ''}: "
            f"the file is damaged. Fetch it again: `reid fetch {feature.name} --out FILE`"
        )
    return kept


def whose_weights(path: Path, where: str, features: Iterable[PublishedNetwork]) -> list[str]:
    """Return the names of the networks whose weights a file may hold.

    Args:
        path: see `read_weights`.
        where: what a message names as the place.
        features: all that it may be.

    Raises:
        InputError: the file can't be read.
    """
    known = list(features)
    named = name_in(path) or _published(path, known)
    return [named] if named else _fitting(read_checkpoint(path, f"{where}: expected weights"), known)


def _published(path: Path, others: Iterable[PublishedNetwork]) -> str:
    """Return whose published file this is: some of them differ in nothing but their numbers."""
    found = sha256_of(path)
    return next((other.name for other in others if other.sha256 == found), "")


def _fitting(content: object, others: Iterable[PublishedNetwork]) -> list[str]:
    """Return the names of the networks whose tensors a checkpoint holds."""
    fitting = []
    for other in others:
        expected = other.expected()
        if not any(tensor_faults(expected, find_state_dict(content, set(expected), ""))):
            fitting.append(other.name)
    return fitting


def save_weights(path: Path, feature: PublishedNetwork, tensors: dict[str, Tensor]) -> None:
    """Write the weights of a network into a safetensors file."""
    write_bytes(path, save(contiguous(tensors), metadata={NAME: feature.name}))
