"""Enrolment: the database photographs of a weights folder's datasets become its galleries."""

import logging
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from reid.config.recipe import Recipe
from reid.config.runtime import Runtime
from reid.config.settings import with_settings
from reid.data.catalogue import Catalogue
from reid.data.names import resolve_names
from reid.decision.answers import PAIRS
from reid.decision.artifact import (
    RUN_FOLDER,
    Weights,
    encoder_file,
    fold_folder,
    gallery_file,
    local_features,
    write_manifest,
)
from reid.decision.calibrate import gallery_scores
from reid.decision.cluster_enrolment import with_clusters
from reid.decision.confirmed import said_of_queries
from reid.decision.extractor_choice import SplitScores, choose_extractors
from reid.decision.learned_weights import drop_unused, prepare_weights
from reid.decision.links import read_links
from reid.errors import InputError
from reid.retrieval.cache import Cache
from reid.retrieval.extraction import FeatureExtractors, Features, extract_features, open_extractors
from reid.retrieval.gallery import Gallery, gallery_features, save_gallery, with_cells
from reid.runtime.distributed import barrier, is_main

__all__ = ["enroll", "enroll_again"]

log = logging.getLogger(__name__)


def enroll(
    catalogue: Catalogue, folder: Path, datasets: Sequence[str], recipe: Recipe, runtime: Runtime = Runtime()
) -> None:
    """Write every dataset's galleries, see `_enroll`. Where local features compete (`keypoints.extractors`), they are
    made with each of them, and those of the one that is chosen stay, see `choose_extractors`.

    Raises:
        InputError: a dataset has no row, or several photographs of which none can be read.
    """
    if len(recipe.keypoints.competing) == 1 or not recipe.uses_keypoints:
        _enroll(catalogue, folder, datasets, recipe, runtime)
    else:
        _enroll_best(catalogue, folder, datasets, recipe, runtime)
    if is_main():
        drop_unused(folder, recipe, datasets)
    barrier()


def _enroll_best(catalogue: Catalogue, folder: Path, datasets: Sequence[str], recipe: Recipe, runtime: Runtime) -> None:
    """Write the galleries of each dataset's best local feature."""
    names = recipe.keypoints.competing
    results: dict[str, dict[str, SplitScores]] = {dataset: {} for dataset in datasets}
    for name in names:
        one = with_settings(recipe, {"keypoints.extractor": name, "keypoints.extractors": ()})
        _enroll(catalogue, folder, datasets, one, runtime)
        for dataset in datasets if is_main() else ():
            results[dataset][name] = gallery_scores(catalogue, folder, dataset, one)
            _move_galleries(folder, dataset, one, folder / RUN_FOLDER / name)
        barrier()
    if is_main():
        for dataset, choice in choose_extractors(results).items():
            log.info(f"{dataset}: {choice}")
            _move_galleries(folder / RUN_FOLDER / choice.name, dataset, recipe, folder)
        for name in names:
            shutil.rmtree(folder / RUN_FOLDER / name)


def _move_galleries(source: Path, dataset: str, recipe: Recipe, target: Path) -> None:
    """Move a dataset's galleries, of all folds, from one folder to another."""
    for fold in range(recipe.training.folds):
        gallery = fold_folder(source, fold) / gallery_file(dataset)
        if gallery.exists():
            moved = fold_folder(target, fold) / gallery_file(dataset)
            moved.parent.mkdir(parents=True, exist_ok=True)
            gallery.replace(moved)


def _enroll(catalogue: Catalogue, folder: Path, datasets: Sequence[str], recipe: Recipe, runtime: Runtime) -> None:
    """Extract the features of every dataset's database photographs and write them into galleries: those that predict
    into the weights folder, those of the other folds' encoders, which only calibration needs, below it.

    Photographs that can't be read are left out and reported. The mirror images of a dataset in `prediction.mirrored`
    stand in its gallery as further photographs of the same image_id, behind the others.

    Raises:
        InputError: a dataset has no row, or several photographs of which none can be read.
    """
    for dataset in datasets:
        photographs = catalogue.database.of(dataset)
        if not len(photographs):
            raise InputError(
                f"{catalogue.root / 'metadata.csv'}: expected database rows of dataset {dataset}, as in the weights; "
                f"found {', '.join(catalogue.database.by_dataset())}. Name the folder that holds all of them"
            )
        folders = [fold_folder(folder, fold) for fold in range(recipe.training.folds)]
        folders = [one for one in folders if one == folder or (one / encoder_file(dataset)).exists()]
        cache, feature = Cache(folder), {dataset: local_features(folder, recipe.keypoints.extractor)}
        by_fold: list[FeatureExtractors] = []
        for one in folders:
            encoder = {dataset: one / encoder_file(dataset)}
            by_fold.append(open_extractors(encoder, None, recipe, runtime, cache, feature, by_fold))
        earlier: Gallery | None = None
        for number, (fold, extractors) in enumerate(zip(folders, by_fold, strict=True)):
            others = () if number else by_fold[1:]  # their vectors lie in the cache afterwards
            gallery = _gallery(photographs, extractors, dataset, recipe, report=not number, others=others)
            if is_main():
                earlier = with_cells(gallery, earlier)
                save_gallery(fold / gallery_file(dataset), earlier)


def enroll_again(
    catalogue: Catalogue,
    weights: Weights,
    recipe: Recipe | None = None,
    runtime: Runtime | None = None,
    clusters: Path | None = None,
    only: Sequence[str] = (),
    keypoint_weights: Sequence[Path] = (),
    confirmed: bool = False,
    links_file: Path | None = None,
) -> Weights:
    """Make the galleries of a weights folder again, e.g. with new individuals, without training. Its thresholds stay as
    they are until it is calibrated.

    Photographs of clusters and queries that answers name stay queries in the data folder. The galleries say who is on
    them, and that this was said elsewhere; calibration believes them. A call without `clusters` or `confirmed` leaves
    them out again.

    Args:
        catalogue: database photographs of all the datasets of the weights.
        weights: the folder.
        recipe: with other settings of `keypoints` and `prediction` than the folder's; None for its own.
        runtime: device, precision, batch size; None for the precision that training asked for.
        clusters: a result of discover for this data folder, whose clusters are enrolled as individuals too, see
            `with_clusters`; None for none.
        only: the labels of the clusters to take; empty for all with two or more photographs.
        keypoint_weights: see `prepare_weights`.
        confirmed: also enrol the queries that a person's answers name, directly or over others. They count more than
            clusters.
        links_file: the answers; None for `pairs.csv` in the data folder.

    Raises:
        InputError: as `enroll`, `prepare_weights`, `with_clusters` and `read_links`; answers that name no query;
            photographs of a dataset that has no encoder in the weights.
    """
    recipe, runtime = recipe or weights.recipe, runtime or Runtime(precision=weights.precision)
    write_weights = prepare_weights(weights.folder, recipe, keypoint_weights)
    as_read, catalogue = catalogue, resolve_names(catalogue, recipe, weights.datasets)
    known, datasets = catalogue.database, list(weights.datasets)
    fingerprint = known.fingerprint
    if clusters:
        catalogue = with_clusters(catalogue, clusters, only)
    if confirmed:
        catalogue = _with_confirmed(catalogue, known, as_read, links_file)
    if clusters or confirmed:
        datasets = _with_new(datasets, catalogue, weights, recipe)
    write_weights()
    enroll(catalogue, weights.folder, datasets, recipe, runtime)
    # the galleries hold all photographs now, but the networks, where there are any, have learned from few
    limit = weights.limit if recipe.uses_encoder else None
    return write_manifest(weights.folder, recipe, datasets, fingerprint, limit, weights.precision)


def _with_confirmed(catalogue: Catalogue, known: Catalogue, as_read: Catalogue, links_file: Path | None) -> Catalogue:
    """Return a catalogue in which the queries that answers name are database photographs, see `with_clusters`.

    Args:
        catalogue: the data folder's rows, some of which clusters may have made database rows.
        known: the database photographs alone, names resolved.
        as_read: the rows whose names are as the answers' file knows them.
        links_file: see `enroll_again`.
    """
    links = read_links(as_read, links_file)
    names = dict(zip(known.image_ids, known.identities, strict=True))
    confirmed = said_of_queries(as_read.query.image_ids, links, names, {}).confirmed
    if not confirmed:
        raise InputError(
            f"{links_file or as_read.root / PAIRS}: expected answers that queries show known individuals, found none; "
            "answer pairs of a query and a known photograph with same, or enroll without --confirmed"
        )
    table, datasets = catalogue.table, dict(zip(known.image_ids, known.table["dataset"], strict=True))
    sure = table["image_id"].isin(list(confirmed))
    said = [confirmed[image_id] for image_id in table["image_id"][sure]]
    table = table.assign(clustered=sure | table.get("clustered", False))
    table.loc[sure, "split"] = "database"
    table.loc[sure, "identity"] = [one.individual for one in said]
    table.loc[sure, "dataset"] = [datasets[one.image_id] for one in said]
    return replace(catalogue, table=table)


def _with_new(datasets: list[str], catalogue: Catalogue, weights: Weights, recipe: Recipe) -> list[str]:
    """Return the weights' datasets and those of enrolled queries that have no gallery yet; without networks they need
    nothing else."""
    clustered = catalogue.table[catalogue.table["clustered"]]
    new = sorted(set(clustered["dataset"]) - set(datasets))
    if new and recipe.uses_encoder:
        raise InputError(
            f"{weights.folder}: expected an encoder for {', '.join(new)}, of which queries are to be enrolled, found "
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
    return Gallery(
        found, names, extractors.precision, cues, clustered, extractor=extractor, parts=extractors.parts_of(dataset)
    )
