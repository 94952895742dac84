"""TODO retrieval.cache."""

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import cv2
import PIL
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load
from safetensors.numpy import save as save_arrays
from safetensors.torch import save
from torch import Tensor

from reid.config.recipe import KeypointConfig
from reid.data.photographs import View
from reid.errors import InputError
from reid.retrieval.extractors.rootsift import EXTRACTOR
from reid.retrieval.keypoints import Keypoints, keypoints_from, tensors_of
from reid.runtime.distributed import core_count
from reid.runtime.files import sha256_of, write_bytes
from reid.runtime.progress import track

__all__ = ["CACHE_FOLDER", "EmbeddingCache", "KeypointCache", "digests_of"]

CACHE_FOLDER = "cache"
"""Inside the weights folder; not part of what the manifest names, so it is never uploaded."""


class EmbeddingCache:
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
                if metadata.get("seal") == _checksum(digests, vectors):  # the manifest knows nothing of this file
                    rows = zip(digests.numpy(), vectors, strict=True)
                    return {row.tobytes().hex(): vector for row, vector in rows}
        return {}

    def save(self) -> None:
        """Write the file anew if there is something new, with what others have written of late; a folder that can't be
        written is left alone."""
        if len(self.vectors) == self.saved:
            return
        self.vectors = {**self._stored(), **self.vectors}
        digests = torch.tensor([list(bytes.fromhex(digest)) for digest in self.vectors], dtype=torch.uint8)
        vectors = torch.stack(list(self.vectors.values()))
        metadata = {"key": self.key, "seal": _checksum(digests, vectors)}
        with suppress(InputError):
            write_bytes(self.path, save({"digests": digests, "vectors": vectors}, metadata=metadata))
            self.saved = len(self.vectors)


def _checksum(digests: Tensor, vectors: Tensor) -> str:
    """SHA-256 of both, in hex: a flipped bit in a vector would change an answer without a word."""
    return hashlib.sha256(digests.numpy().tobytes() + vectors.numpy().tobytes()).hexdigest()


def digests_of(paths: Sequence[Path], views: Sequence[View]) -> list[str]:
    """Return what tells a look at a photograph from others: SHA-256 of the file's bytes and its view, in hex.

    "" for a file that can't be read.
    """
    with ThreadPoolExecutor(core_count()) as pool:  # hashing releases Python's lock
        return list(track(pool.map(_digest, paths, views), "telling files apart", total=len(paths)))


def _digest(path: Path, view: View) -> str:
    with suppress(OSError):
        if path.is_file():  # opening a pipe would wait for ever
            return hashlib.sha256(f"{sha256_of(path)} {view}".encode()).hexdigest()
    return ""


class KeypointCache:
    """Keypoints by the SHA-256 of the photograph's file, kept on disk between runs.

    It holds a file per photograph and settings. Its name and its seal are hashes over the photograph's bytes, the
    settings, the extractor, OpenCV's and Pillow's versions and what the pixels went through before; a file that is
    damaged or another's is as good as none.

    Attributes:
        folder: where; it need not be there yet. If it can't be written, nothing is remembered.
        key: what the keypoints are made with.
    """

    def __init__(self, folder: Path, extraction: KeypointConfig, opened_as: str) -> None:
        """
        Args:
            folder: see above.
            extraction: the settings.
            opened_as: words that change when the pixels that `extract` is given do.
        """
        made_with = {
            "extractor": EXTRACTOR,
            **asdict(extraction),
            "opened_as": opened_as,
            "opencv": cv2.__version__,
            "pillow": PIL.__version__,
        }
        self.folder, self.key = folder, json.dumps(made_with)

    def cached(self, digest: str) -> Keypoints | None:
        """Return the keypoints of a photograph that was looked at before; None when it was not, or `digest` is ""."""
        with suppress(OSError, SafetensorError):
            content = self._file(digest).read_bytes()
            if content[:32] == self._seal(digest, content[32:]):
                (keypoints,) = keypoints_from(load(content[32:]))
                return keypoints
        return None

    def store(self, digest: str, keypoints: Keypoints) -> None:
        """Keep keypoints for the next time; digest "" stands for a file that can't be read."""
        if digest:
            content = save_arrays(tensors_of([keypoints]))
            with suppress(InputError):
                write_bytes(self._file(digest), self._seal(digest, content) + content)

    def _file(self, digest: str) -> Path:
        name = hashlib.sha256((self.key + digest).encode()).hexdigest()
        return self.folder / name[:2] / f"{name}.keypoints"

    def _seal(self, digest: str, content: bytes) -> bytes:
        """Return what a file begins with: only the keypoints of this photograph and key have it."""
        return hashlib.sha256((self.key + digest).encode() + content).digest()
