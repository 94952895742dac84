"""Galleries: the known photographs as vectors and keypoints."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from reid import InputError
from reid.catalogue import Catalogue
from reid.files import write_bytes
from reid.keypoints import Keypoints, keypoints_from, tensors_of
from reid.looking import Look, look_at, open_eyes
from reid.progress import say
from reid.ranks import is_first
from reid.recipe import Recipe
from reid.weights import encoder_file, fold_folder, gallery_file

__all__ = ["Embeddings", "Gallery", "embeddings_of", "enroll", "load_gallery", "save_gallery"]


@dataclass(frozen=True)
class Embeddings:
    """Photographs as what the cues compare.

    Attributes:
        image_id: (N,) whose.
        vectors: (N, D) float32; D is 0 where there is no encoder.
        orientation: (N,) the side that is seen, "" where it is not known; or empty.
        keypoints: (N,) without any where the recipe has no local cue; or empty.
    """

    image_id: tuple[str, ...]
    vectors: Tensor
    orientation: tuple[str, ...] = ()
    keypoints: tuple[Keypoints, ...] = ()

    def __len__(self) -> int:
        return len(self.image_id)

    def of(self, places: np.ndarray) -> "Embeddings":
        """The photographs at some places."""
        return Embeddings(
            tuple(self.image_id[place] for place in places),
            self.vectors[torch.from_numpy(places)],
            tuple(self.orientation[place] for place in places) if self.orientation else (),
            tuple(self.keypoints[place] for place in places) if self.keypoints else (),
        )


@dataclass(frozen=True)
class Gallery:
    """The known photographs of one dataset.

    Attributes:
        embeddings: the photographs.
        identity: (N,) the individual on each.
    """

    embeddings: Embeddings
    identity: tuple[str, ...]

    @property
    def individuals(self) -> np.ndarray:
        """(L,) str, the individuals in alphabetical order: what a label counts."""
        return np.unique(np.array(self.identity))

    @property
    def labels(self) -> np.ndarray:
        """(N,) int64, each photograph's individual as its place among `individuals`."""
        return np.unique(np.array(self.identity), return_inverse=True)[1]


def embeddings_of(looks: Sequence[Look], rows: pd.DataFrame) -> Embeddings:
    """What was seen on one dataset's photographs, as the cues compare it.

    Args:
        looks: N of them.
        rows: (N,) the photographs' image_id and orientation.
    """
    return Embeddings(
        tuple(rows["image_id"]),
        torch.stack([look.vector for look in looks]),
        tuple(rows["orientation"]),
        tuple(look.keypoints for look in looks),
    )


def enroll(catalogue: Catalogue, folder: Path, datasets: list[str], recipe: Recipe) -> None:
    """Looks at every dataset's database photographs and writes the galleries into the weights folder, and those of the
    other folds' encoders, which only calibration needs, beside these.

    Photographs that can't be read are left out and named. The mirror images of a dataset in `recipe.mirrored` stand in
    its gallery as further photographs of the same image_id, behind the others.

    Raises:
        InputError: a dataset has no photograph that can be read.
    """
    for dataset in datasets:
        photographs = catalogue.database.of(dataset)
        if not len(photographs):
            raise InputError(
                f"{catalogue.root / 'metadata.csv'}: expected database rows of dataset {dataset}, as in the weights; "
                f"found {', '.join(catalogue.database.by_dataset())}. Name the folder that holds all of them"
            )
        for fold in range(recipe.folds):
            encoder_folder = fold_folder(folder, fold)
            if not fold or (encoder_folder / encoder_file(dataset)).exists():
                gallery = _gallery(photographs, encoder_folder, folder, dataset, recipe, loudly=not fold)
                if is_first():
                    save_gallery(encoder_folder / gallery_file(dataset), gallery)


def _gallery(
    photographs: Catalogue, encoder_folder: Path, folder: Path, dataset: str, recipe: Recipe, loudly: bool
) -> Gallery:
    """What the encoder of one fold, in `encoder_folder`, sees on the photographs of one dataset that can be read."""
    eyes = open_eyes(encoder_folder, [dataset], False, recipe, keypoints_in=folder)
    looks = look_at(photographs, eyes, "column", recipe, f"enrolling {dataset}")
    broken = {
        image_id: look.problem for image_id, look in zip(photographs.image_ids, looks, strict=True) if look.problem
    }
    for image_id, problem in broken.items():
        if loudly:
            say(f"warning: {photographs.row_name(image_id)}: {problem}; it is not in the gallery")
    readable, seen = photographs.without(list(broken)), [look for look in looks if not look.problem]
    if not seen:
        raise InputError(
            f"{photographs.root}: dataset {dataset}: expected photographs for its gallery, none can be read"
        )
    table = readable.table
    if dataset in recipe.mirrored:
        what = f"enrolling the mirror images of {dataset}"
        seen += look_at(readable, eyes, "column", recipe, what, mirror=True)
        table = pd.concat([table, table])
    return Gallery(embeddings_of(seen, table), tuple(table["identity"]))


def save_gallery(path: Path, gallery: Gallery) -> None:
    """Writes vectors and keypoints, and the rows as JSON text in a tensor of bytes: a safetensors header is for small
    things."""
    photographs = gallery.embeddings
    rows = {"image_id": photographs.image_id, "identity": gallery.identity, "orientation": photographs.orientation}
    tensors = {
        "vectors": photographs.vectors.contiguous(),
        "rows": torch.from_numpy(np.frombuffer(json.dumps(rows).encode(), dtype=np.uint8).copy()),
    }
    if any(map(len, photographs.keypoints)):
        tensors |= {name: torch.from_numpy(tensor) for name, tensor in tensors_of(photographs.keypoints).items()}
    write_bytes(path, save(tensors))


def _check(gallery: Gallery) -> None:
    photographs, vectors = gallery.embeddings, gallery.embeddings.vectors
    if not all(isinstance(word, str) for word in (*photographs.image_id, *photographs.orientation, *gallery.identity)):
        raise ValueError("its rows are no words")
    if vectors.dtype != torch.float32 or vectors.ndim != 2 or not torch.isfinite(vectors).all():
        raise ValueError(f"its vectors are {tuple(vectors.shape)} {vectors.dtype}, or not all of them are numbers")


def load_gallery(path: Path) -> Gallery:
    """The gallery of a file.

    Raises:
        InputError: no such file, or not one that `enroll` wrote.
    """
    try:
        with safe_open(path, framework="pt") as opened:
            rows = json.loads(opened.get_tensor("rows").numpy().tobytes())
            vectors = opened.get_tensor("vectors")
            tensors = {name: opened.get_tensor(name).numpy() for name in set(opened.keys()) - {"rows", "vectors"}}
        keypoints = keypoints_from(tensors) if tensors else ()
        embeddings = Embeddings(tuple(rows["image_id"]), vectors, tuple(rows["orientation"]), keypoints)
        gallery = Gallery(embeddings, tuple(rows["identity"]))
        _check(gallery)
    except FileNotFoundError:
        raise InputError(f"{path}: expected a gallery here, found no file; `python -m reid enroll` makes it") from None
    except (SafetensorError, KeyError, TypeError, ValueError, IndexError, RuntimeError, OSError) as problem:
        raise InputError(
            f"{path}: expected a gallery, but it can't be read ({problem}); run `python -m reid enroll`"
        ) from None
    optional = [len(column) for column in (embeddings.orientation, keypoints) if column]
    if len({len(gallery.identity), len(embeddings.image_id), len(vectors), *optional}) > 1:
        raise InputError(f"{path}: expected a vector per photograph, found other counts; run `python -m reid enroll`")
    return gallery
