"""Galleries: the known photographs of a dataset as vectors and keypoints, in memory and in files."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from reid.config.recipe import CUES, EXTRACTORS, MOST_EXTRACTORS, ROOTSIFT, MatchingConfig, Recipe, extractor_names
from reid.data.sides import read_side
from reid.errors import InputError
from reid.retrieval.descriptor_index import EXACT, Cells, cells_around, find_cells, stack_vectors
from reid.retrieval.embedding import PRECISIONS
from reid.retrieval.extraction import Features
from reid.retrieval.keypoints import NO_KEYPOINTS, Keypoints, keypoints_from, tensors_of
from reid.retrieval.lightglue import open_matcher
from reid.retrieval.local_matching import Matcher
from reid.runtime.files import atomic_path

__all__ = [
    "Gallery",
    "GalleryFeatures",
    "gallery_extractor",
    "gallery_features",
    "gallery_names",
    "gallery_precision",
    "load_gallery",
    "save_gallery",
    "with_cells",
    "with_matcher",
]

CHECKED = 64
"""Descriptors of a gallery that are put into its cells again, to see that they are its own."""


@dataclass(frozen=True)
class GalleryFeatures:
    """The features of photographs that the cues compare.

    Attributes:
        image_id: (N,) whose.
        vectors: (N, D) float32; D is 0 where there is no encoder.
        orientation: (N,) the side that is seen, "" where it is not known; or empty.
        keypoints: (N,), none on each where the recipe has no local cue; or empty.
        further: likewise, of each further local feature of `keypoints.extractor`.
    """

    image_id: tuple[str, ...]
    vectors: Tensor
    orientation: tuple[str, ...] = ()
    keypoints: tuple[Keypoints, ...] = ()
    further: tuple[tuple[Keypoints, ...], ...] = ()

    def __len__(self) -> int:
        return len(self.image_id)

    @property
    def every_keypoints(self) -> tuple[tuple[Keypoints, ...], ...]:
        """By local feature, (N,) each."""
        return (self.keypoints, *self.further)

    def with_feature(self, number: int) -> "GalleryFeatures":
        """Return the photographs with the keypoints of one local feature alone; the first is number 0."""
        return replace(self, keypoints=self.every_keypoints[number], further=())

    def of(self, places: np.ndarray) -> "GalleryFeatures":
        """Return the photographs at some places."""
        return GalleryFeatures(
            tuple(self.image_id[place] for place in places),
            self.vectors[torch.from_numpy(places)],
            tuple(self.orientation[place] for place in places) if self.orientation else (),
            tuple(self.keypoints[place] for place in places) if self.keypoints else (),
            tuple(tuple(each[place] for place in places) for each in self.further),
        )


@dataclass(frozen=True)
class Gallery:
    """The known photographs of one dataset.

    Attributes:
        embeddings: the photographs.
        identity: (N,) the individual on each.
        precision: the number format in which the vectors were computed, such as "float32"; "" where there is no
            encoder, or where 0.1.0 wrote the file.
        cues: those of `matching.cues` that it was made for; () where an earlier version wrote the file.
        clustered: the image_ids of photographs that are queries in the data folder and were enrolled by their clusters
            or by a person's answers.
        cells: where the photographs' descriptors lie, one photograph below the other; None where they are few, or where
            an earlier version wrote the file.
        extractor: which local feature its keypoints are, several with + between them; "" where there are none.
        matcher: the network that matches them with a query's, see `with_matcher`; None for nearest neighbours.
        parts: how many dimensions of the vectors each of several backbones has; empty for one.
        further_cells: as `cells`, of each further local feature; or empty.
    """

    embeddings: GalleryFeatures
    identity: tuple[str, ...]
    precision: str = ""
    cues: tuple[str, ...] = ()
    clustered: tuple[str, ...] = ()
    cells: Cells | None = None
    extractor: str = ""
    matcher: Matcher | None = None
    parts: tuple[int, ...] = ()
    further_cells: tuple[Cells | None, ...] = ()

    def by_feature(self) -> list["Gallery"]:
        """Return a gallery with the keypoints of each local feature alone."""
        if not self.embeddings.further:
            return [self]
        cells = (self.cells, *(self.further_cells or (None,) * len(self.embeddings.further)))
        own = enumerate(zip(extractor_names(self.extractor), cells, strict=True))
        return [
            replace(self, embeddings=self.embeddings.with_feature(number), extractor=name, cells=each, further_cells=())
            for number, (name, each) in own
        ]

    @property
    def slices(self) -> tuple[slice, ...]:
        """Where the vector of each of several backbones lies; empty for one."""
        ends = np.cumsum(self.parts).tolist()
        return tuple(slice(end - length, end) for end, length in zip(ends, self.parts, strict=True))

    @property
    def individuals(self) -> np.ndarray:
        """(L,) str, the individuals in alphabetical order: what a label counts."""
        return np.unique(np.array(self.identity))

    @property
    def labels(self) -> np.ndarray:
        """(N,) int64, each photograph's individual as its place among `individuals`."""
        return np.unique(np.array(self.identity), return_inverse=True)[1]


def gallery_features(features: Sequence[Features], rows: pd.DataFrame) -> GalleryFeatures:
    """Return the features of one dataset's photographs together.

    Args:
        features: (N,) of the photographs.
        rows: (N,) the photographs' image_id and orientation.
    """
    return GalleryFeatures(
        tuple(rows["image_id"]),
        torch.stack([one.vector for one in features]) if features else torch.zeros(0, 0),
        tuple(rows["orientation"]),
        tuple(one.keypoints for one in features),
        tuple(zip(*(one.further for one in features), strict=True)),
    )


def save_gallery(path: Path, gallery: Gallery) -> None:
    """Write the file of a gallery: vectors, keypoints, and the rows as JSON in a tensor of bytes, because a safetensors
    header is for small things."""
    photographs = gallery.embeddings
    rows = {"image_id": photographs.image_id, "identity": gallery.identity, "orientation": photographs.orientation}
    if gallery.clustered:
        rows["clustered"] = gallery.clustered
    tensors = {
        "vectors": photographs.vectors.contiguous(),
        "rows": torch.from_numpy(np.frombuffer(json.dumps(rows).encode(), dtype=np.uint8).copy()),
    }
    for number, one in enumerate(gallery.by_feature()):
        own: dict[str, Tensor] = {}
        if any(map(len, one.embeddings.keypoints)):
            own = {name: torch.from_numpy(tensor) for name, tensor in tensors_of(one.embeddings.keypoints).items()}
        if one.cells:
            own |= {"centroids": one.cells.centroids, "cell": one.cells.cell}
        tensors |= {f"{_prefix(number)}{name}": tensor for name, tensor in own.items()}
    # in one entry, because safetensors writes several in any order
    made_with: dict[str, Any] = {"precision": gallery.precision, "cues": gallery.cues, "extractor": gallery.extractor}
    made_with |= {"parts": gallery.parts} if gallery.parts else {}
    with atomic_path(path) as temporary:  # written from where they are: their bytes in one piece would be as much again
        save_file(tensors, temporary, metadata={"made_with": json.dumps(made_with)})


def _prefix(number: int) -> str:
    """Return what stands before the names of a local feature's tensors in the file of a gallery."""
    return f"feature-{number + 1}." if number else ""


def with_cells(gallery: Gallery, other: Gallery | None = None) -> Gallery:
    """Return the gallery with its descriptors in cells.

    Args:
        gallery: of N photographs.
        other: one with cells, which are taken where it has the same descriptors, as those of an encoder's other folds
            mostly have; None for none.
    """
    others = other.by_feature() if other else repeat(None)
    cells, *further = [_cells_of(one, same) for one, same in zip(gallery.by_feature(), others, strict=False)]
    return replace(gallery, cells=cells, further_cells=tuple(further))


def _cells_of(gallery: Gallery, other: Gallery | None) -> Cells | None:
    """Return the cells of a gallery of one local feature, see `with_cells`."""
    keypoints = gallery.embeddings.keypoints
    if sum(map(len, keypoints)) <= EXACT:
        return None
    if other and other.cells and _same_descriptors(keypoints, other.embeddings.keypoints):
        return other.cells
    return find_cells(stack_vectors(keypoints))


def _same_descriptors(some: Sequence[Keypoints], others: Sequence[Keypoints]) -> bool:
    """Return whether photographs have the same descriptors, bit by bit, which is many times as fast as by value."""
    return len(some) == len(others) and all(
        np.array_equal(one.descriptors.view(np.uint16), other.descriptors.view(np.uint16))
        for one, other in zip(some, others, strict=True)
    )


def with_matcher(gallery: Gallery, matching: MatchingConfig, folder: Path) -> Gallery:
    """Return the gallery with what matches its keypoints with a query's, from a weights folder.

    Raises:
        InputError: see `open_matcher`.
    """
    return replace(gallery, matcher=open_matcher(matching, folder, gallery.extractor))


def _cells_from(tensors: Mapping[str, np.ndarray]) -> Cells | None:
    """Return the cells that a file holds; None where they can't be those of its descriptors, of which some are looked
    at: they are found again."""
    if not {"centroids", "cell"} <= set(tensors):
        return None
    centroids, cell, descriptors = (tensors[name] for name in ("centroids", "cell", "descriptors"))
    fit = centroids.shape[1:] == descriptors.shape[1:] and cell.shape == descriptors.shape[:1] and len(cell)
    if not fit or cell.dtype != np.int32 or cell.min() < 0 or cell.max() >= len(centroids):
        return None
    if centroids.dtype != np.float32 or not np.isfinite(centroids).all():
        return None
    some = np.unique(np.linspace(0, len(cell) - 1, CHECKED).astype(int))
    found = cells_around(torch.from_numpy(centroids), torch.from_numpy(descriptors[some])).cell.numpy()
    if (found == cell[some]).mean() < 0.9:  # not all, because another processor's sums differ in their last digits
        return None
    return Cells(torch.from_numpy(centroids), torch.from_numpy(cell))


def _check_gallery(gallery: Gallery) -> None:
    photographs, vectors = gallery.embeddings, gallery.embeddings.vectors
    words = (*photographs.image_id, *photographs.orientation, *gallery.identity, *gallery.clustered)
    if not all(isinstance(word, str) for word in words):
        raise ValueError("a cell of its rows is no text")
    if vectors.dtype != torch.float32 or vectors.ndim != 2 or not torch.isfinite(vectors).all():
        raise ValueError(f"its vectors are {tuple(vectors.shape)} {vectors.dtype}, or not all of them are numbers")
    if gallery.precision not in ("", *PRECISIONS):
        raise ValueError(f"its precision is {gallery.precision!r}")
    if not set(extractor_names(gallery.extractor)) <= set(EXTRACTORS):
        raise ValueError(f"its local feature is {gallery.extractor!r}")
    if gallery.parts and (not all(type(one) is int for one in gallery.parts) or sum(gallery.parts) != vectors.shape[1]):
        raise ValueError(f"its backbones' vectors are {gallery.parts} of {vectors.shape[1]} dimensions")
    if not set(gallery.cues) <= set(CUES):
        raise ValueError(f"its cues are {gallery.cues!r}")


def gallery_precision(path: Path) -> str:
    """Return `Gallery.precision` of a file, without its vectors."""
    with safe_open(path, framework="np") as opened:
        return str(_made_with(opened).get("precision", ""))


def gallery_extractor(path: Path) -> str:
    """Return `Gallery.extractor` of a file that `enroll` of this version wrote, without its keypoints; "" of others."""
    with safe_open(path, framework="np") as opened:
        return str(_made_with(opened).get("extractor", ""))


def gallery_names(path: Path) -> dict[str, str]:
    """Return the individual on each photograph of a file, by image_id, without its vectors."""
    with safe_open(path, framework="pt") as opened:
        rows = json.loads(opened.get_tensor("rows").numpy().tobytes())
    return dict(zip(rows["image_id"], rows["identity"], strict=True))


def _of_feature(tensors: Mapping[str, np.ndarray], number: int) -> dict[str, np.ndarray]:
    """Return the tensors of one local feature by their names in `save_gallery`."""
    prefix, others = _prefix(number), tuple(_prefix(other) for other in range(1, MOST_EXTRACTORS))
    own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    return own if number else {name: tensor for name, tensor in own.items() if not name.startswith(others)}


def _made_with(opened: Any) -> dict[str, Any]:
    """Return precision and cues as the metadata of an opened file has them, the former alone in earlier versions'."""
    metadata = opened.metadata() or {}
    return dict(json.loads(metadata["made_with"])) if "made_with" in metadata else metadata


def load_gallery(path: Path, recipe: Recipe | None = None) -> Gallery:
    """Return the gallery of a file.

    Args:
        path: the file.
        recipe: refuse it where its keypoints are another local feature's than `keypoints.competing`; None for any.

    Raises:
        InputError: no such file, or not one that `enroll` wrote; or one of another local feature.
    """
    try:
        with safe_open(path, framework="pt") as opened:
            rows = json.loads(opened.get_tensor("rows").numpy().tobytes())
            vectors = opened.get_tensor("vectors")
            made_with = _made_with(opened)
            tensors = {name: opened.get_tensor(name).numpy() for name in set(opened.keys()) - {"rows", "vectors"}}
        sides = tuple(read_side(cell)[0] for cell in rows["orientation"])  # 0.1.0 kept the table's words
        precision, cues = made_with.get("precision", ""), tuple(made_with.get("cues", ()))
        names, clustered = tuple(rows["identity"]), tuple(rows.get("clustered", ()))
        extractor = made_with.get("extractor", ROOTSIFT if tensors else "")  # there was no other before
        by_feature = [_of_feature(tensors, number) for number in range(max(1, len(extractor_names(extractor))))]
        keypoints, *further = [
            keypoints_from(own) if own else (NO_KEYPOINTS,) * len(rows["image_id"]) for own in by_feature
        ]
        embeddings = GalleryFeatures(tuple(rows["image_id"]), vectors, sides, keypoints, tuple(further))
        cells, *further_cells = map(_cells_from, by_feature)
        parts = tuple(made_with.get("parts", ()))
        stored = (precision, cues, clustered, cells, extractor, None, parts, tuple(further_cells))
        gallery = Gallery(embeddings, names, *stored)
        _check_gallery(gallery)
    except FileNotFoundError:
        raise InputError(f"{path}: expected a gallery here, found no file; `reid enroll` makes it") from None
    except (SafetensorError, LookupError, TypeError, ValueError, AttributeError, RuntimeError, OSError) as problem:
        raise InputError(f"{path}: expected a gallery, but it can't be read ({problem}); run `reid enroll`") from None
    optional = [len(column) for column in (embeddings.orientation, *embeddings.every_keypoints) if column]
    if len({len(gallery.identity), len(embeddings.image_id), len(vectors), *optional}) > 1:
        raise InputError(f"{path}: expected a vector per photograph, found other counts; run `reid enroll`")
    if recipe and recipe.uses_keypoints and gallery.extractor not in ("", *recipe.keypoints.competing):
        name = "extractors" if recipe.keypoints.extractors else "extractor"
        raise InputError(
            f"{path}: expected keypoints of {' or '.join(recipe.keypoints.competing)}, as the recipe says, found those "
            f"of {gallery.extractor}. Run `reid enroll DATA --weights {quote(str(path.parent))} --set "
            f"keypoints.{name}={','.join(recipe.keypoints.competing)}` and then `reid calibrate`"
        )
    return gallery
