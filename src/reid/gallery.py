"""Galleries: embedded database photographs, and the exact nearest neighbours of a query among them."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from reid import InputError
from reid.calibration import HeldOut, Threshold, fit_threshold
from reid.catalogue import Catalogue
from reid.embedding import embed_photographs, load_embedder
from reid.files import read_json, write_bytes, write_json
from reid.losses import pairwise_distances
from reid.networks import load_network
from reid.progress import say
from reid.recipe import Recipe
from reid.weights import CALIBRATION, Weights, encoder_file, gallery_file

__all__ = [
    "Embeddings",
    "Gallery",
    "calibrate",
    "enroll",
    "load_gallery",
    "load_thresholds",
    "nearest_individuals",
]

BLOCK = 16_000_000
"""Distances held at a time, 64 MB: enough to keep a processor busy, small beside the gallery."""


@dataclass(frozen=True)
class Embeddings:
    """Photographs as vectors.

    Attributes:
        image_id: (N,) whose.
        vectors: (N, D) float32.
        mirrored: (N, D) float32, of the photographs' mirror images, where the animals' sides match; else None.
    """

    image_id: tuple[str, ...]
    vectors: Tensor
    mirrored: Tensor | None = None

    def distances_from(self, vectors: Tensor) -> Tensor:
        """(Q, D) float32 -> Euclidean distances (Q, N) to each photograph, or to its mirror image if that is nearer."""
        distances = pairwise_distances(vectors, self.vectors)
        if self.mirrored is None:
            return distances
        return torch.minimum(distances, pairwise_distances(vectors, self.mirrored))


@dataclass(frozen=True)
class Gallery:
    """The known photographs of one dataset.

    Attributes:
        embeddings: the photographs.
        identity: (N,) the individual on each.
    """

    embeddings: Embeddings
    identity: tuple[str, ...]

    def nearest(self, vectors: Tensor, image_ids: list[str], dataset: str) -> pd.DataFrame:
        """The nearest individual of each query and the runner-up.

        Args:
            vectors: (Q, D) float32.
            image_ids: (Q,) the queries.
            dataset: this gallery's name, for the table.

        Returns:
            One row per query: image_id, dataset, identity, distance, photograph (the nearest photograph's image_id),
            runner_up (the next individual, "" when there is none) and runner_up_distance (inf then).
        """
        distances, places = nearest_individuals(vectors, self, 2)
        exists = torch.isfinite(distances[:, 1]).tolist()
        return pd.DataFrame(
            {
                "image_id": image_ids,
                "dataset": dataset,
                "identity": [self.identity[place] for place in places[:, 0]],
                "distance": distances[:, 0].numpy(),
                "photograph": [self.embeddings.image_id[place] for place in places[:, 0]],
                "runner_up": [
                    self.identity[place] if known else "" for place, known in zip(places[:, 1], exists, strict=True)
                ],
                "runner_up_distance": distances[:, 1].numpy(),
            }
        )


def nearest_individuals(vectors: Tensor, gallery: Gallery, count: int) -> tuple[Tensor, Tensor]:
    """The nearest individuals by Euclidean distance to their nearest photograph, exactly, in bounded memory.

    Args:
        vectors: (Q, D) float32.
        gallery: N photographs.
        count: K, how many individuals.

    Returns:
        Distances (Q, K), ascending, inf where the gallery has fewer individuals; and the nearest photograph's place in
        the gallery (Q, K).
    """
    labels = torch.from_numpy(np.unique(np.array(gallery.identity), return_inverse=True)[1])  # (N,)
    found_distances, found_places = [torch.empty(0, count)], [torch.empty(0, count, dtype=torch.long)]
    for block in torch.split(vectors, max(1, BLOCK // max(1, len(labels)))):
        distances = gallery.embeddings.distances_from(block)  # (q, N)
        nearest, places = [], []
        for _ in range(count):
            distance, place = distances.min(1)
            nearest.append(distance)
            places.append(place)
            distances.masked_fill_(labels[place][:, None] == labels[None, :], torch.inf)
        found_distances.append(torch.stack(nearest, 1))
        found_places.append(torch.stack(places, 1))
    return torch.cat(found_distances), torch.cat(found_places)


def enroll(catalogue: Catalogue, folder: Path, datasets: list[str], recipe: Recipe) -> None:
    """Embeds every dataset's database photographs with its encoder and writes the galleries into the weights folder.

    Photographs that can't be read are left out and named.

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
        embedder = load_embedder(folder, encoder_file(dataset), recipe)
        vectors, problems = embed_photographs(embedder, photographs, recipe, f"enrolling {dataset}")
        for image_id, problem in zip(photographs.image_ids, problems, strict=True):
            if problem:
                say(f"warning: {photographs.row_name(image_id)}: {problem}; it is not in the gallery")
        readable = [place for place, problem in enumerate(problems) if not problem]
        if not readable:
            raise InputError(
                f"{catalogue.root}: dataset {dataset}: expected photographs for its gallery, none can be read"
            )
        mirrored = None
        if dataset in recipe.mirrored:
            what = f"enrolling the mirror images of {dataset}"
            mirrored = embed_photographs(embedder, photographs, recipe, what, mirror=True)[0][readable]
        table = photographs.table.iloc[readable]
        embeddings = Embeddings(tuple(table["image_id"]), vectors[readable], mirrored)
        gallery = Gallery(embeddings, tuple(table["identity"]))
        save_gallery(folder / gallery_file(dataset), gallery)


def save_gallery(path: Path, gallery: Gallery) -> None:
    """Writes the vectors, and the ids as JSON text in a tensor of bytes: a safetensors header is for small things."""
    rows = json.dumps({"image_id": gallery.embeddings.image_id, "identity": gallery.identity}).encode()
    tensors = {
        "vectors": gallery.embeddings.vectors.contiguous(),
        "rows": torch.from_numpy(np.frombuffer(rows, dtype=np.uint8).copy()),
    }
    if gallery.embeddings.mirrored is not None:
        tensors["mirrored"] = gallery.embeddings.mirrored.contiguous()
    write_bytes(path, save(tensors))


def load_gallery(path: Path) -> Gallery:
    """The gallery of a file.

    Raises:
        InputError: no such file, or not one that `enroll` wrote.
    """
    try:
        with safe_open(path, framework="pt") as opened:
            rows = json.loads(opened.get_tensor("rows").numpy().tobytes())
            vectors = opened.get_tensor("vectors")
            mirrored = opened.get_tensor("mirrored") if "mirrored" in opened.keys() else None  # noqa: SIM118
        gallery = Gallery(Embeddings(tuple(rows["image_id"]), vectors, mirrored), tuple(rows["identity"]))
    except FileNotFoundError:
        raise InputError(f"{path}: expected a gallery here, found no file; `python -m reid enroll` makes it") from None
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as problem:
        raise InputError(
            f"{path}: expected a gallery, but it can't be read ({problem}); run `python -m reid enroll`"
        ) from None
    if not len(gallery.identity) == len(gallery.embeddings.image_id) == len(vectors):
        raise InputError(f"{path}: expected a vector per photograph, found other counts; run `python -m reid enroll`")
    return gallery


def calibrate(catalogue: Catalogue, folder: Path, datasets: list[str], recipe: Recipe) -> list[Threshold]:
    """Fits every dataset's threshold on its gallery and writes `calibration.json`.

    Only photographs that the encoder has not learned from are asked for.
    """
    thresholds = []
    days = dict(zip(catalogue.table["image_id"], catalogue.table["day"], strict=True))
    for dataset in datasets:
        gallery = load_gallery(folder / gallery_file(dataset))
        network = load_network(folder / encoder_file(dataset))
        labels = np.array(gallery.identity)
        learned = np.isin(np.array(gallery.embeddings.image_id), network.plan.trained_on)
        known_to_encoder = np.isin(labels, labels[learned])
        held_out = HeldOut(individuals=~known_to_encoder, photographs=known_to_encoder & ~learned)
        asked = np.flatnonzero(~learned)
        vectors = gallery.embeddings.vectors
        thresholds.append(
            fit_threshold(
                dataset,
                gallery.embeddings.distances_from(vectors[asked]).numpy(),
                asked,
                gallery.identity,
                [days.get(image_id, "") for image_id in gallery.embeddings.image_id],
                held_out,
                recipe,
            )
        )
    write_json(folder / CALIBRATION, {threshold.dataset: asdict(threshold) for threshold in thresholds})
    return thresholds


def load_thresholds(weights: Weights) -> dict[str, Threshold]:
    """The thresholds by dataset.

    Raises:
        InputError: the file is damaged.
    """
    path = weights.folder / CALIBRATION
    try:
        return {
            dataset: Threshold(**{**one, "plateau": tuple(one["plateau"])}) for dataset, one in read_json(path).items()
        }
    except (TypeError, KeyError, AttributeError) as problem:
        raise InputError(f"{path}: it is damaged ({problem}); run `python -m reid calibrate`") from None
