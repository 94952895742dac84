"""TODO decision.enroll."""

import logging
from pathlib import Path

import pandas as pd

from reid.config.recipe import Recipe
from reid.config.runtime import Runtime
from reid.data.catalogue import Catalogue
from reid.decision.artifact import encoder_file, fold_folder, gallery_file
from reid.errors import InputError
from reid.retrieval.cache import Cache
from reid.retrieval.extraction import extract_features, open_extractors
from reid.retrieval.gallery import Gallery, gallery_features, save_gallery
from reid.runtime.distributed import is_main

__all__ = ["enroll"]

log = logging.getLogger(__name__)


def enroll(
    catalogue: Catalogue, folder: Path, datasets: list[str], recipe: Recipe, runtime: Runtime = Runtime()
) -> None:
    """Look at every dataset's database photographs and writes the galleries into the weights folder, and those of the
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
        for fold in range(recipe.training.folds):
            encoder_folder = fold_folder(folder, fold)
            if not fold or (encoder_folder / encoder_file(dataset)).exists():
                gallery = _gallery(photographs, encoder_folder, folder, dataset, recipe, runtime, loudly=not fold)
                if is_main():
                    save_gallery(encoder_folder / gallery_file(dataset), gallery)


def _gallery(
    photographs: Catalogue,
    encoder_folder: Path,
    folder: Path,
    dataset: str,
    recipe: Recipe,
    runtime: Runtime,
    loudly: bool,
) -> Gallery:
    """Return what the encoder of one fold, in `encoder_folder`, sees on the photographs of one dataset that can be
    read."""
    encoders = {dataset: encoder_folder / encoder_file(dataset)}
    extractors = open_extractors(encoders, None, recipe, runtime, Cache(folder))
    features = extract_features(photographs, extractors, "column", recipe, f"enrolling {dataset}")
    broken = {
        image_id: look.problem for image_id, look in zip(photographs.image_ids, features, strict=True) if look.problem
    }
    for image_id, problem in broken.items():
        if loudly:
            log.warning(f"{photographs.row_name(image_id)}: {problem}; it is not in the gallery")
    readable, seen = photographs.without(list(broken)), [look for look in features if not look.problem]
    if not seen:
        raise InputError(
            f"{photographs.root}: dataset {dataset}: expected photographs for its gallery, none can be read"
        )
    table = readable.table
    if dataset in recipe.prediction.mirrored:
        what = f"enrolling the mirror images of {dataset}"
        seen += extract_features(readable, extractors, "column", recipe, what, mirror=True)
        table = pd.concat([table, table])
    return Gallery(gallery_features(seen, table), tuple(table["identity"]), extractors.precision)
