"""What is left of rank-1 where the animal is painted over: photographs whose boxes are filled with grey."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image, ImageDraw

from reid.config.recipe import Recipe
from reid.config.settings import with_settings
from reid.data.boxes import BoxError, Crop, by_photograph
from reid.data.catalogue import Catalogue
from reid.data.photographs import UnreadableError, View, decode
from reid.decision.artifact import Weights, gallery_file, open_weights
from reid.decision.calibration import Calibration
from reid.decision.enroll import enroll_again
from reid.diagnose.conditions import Answered, answer_known, any_photograph
from reid.retrieval.gallery import gallery_extractor, load_gallery

__all__ = ["answer_backgrounds", "has_boxes"]

GREY = (128, 128, 128)

NOT_PAINTED = ("bbox", "bbox_unit", "mask", "crop", "beside")
"""Columns about the animals, which are painted over."""

MARGIN = 0.05
"""Of a box's sides, painted over around it: boxes cut off ears."""


def has_boxes(photographs: Catalogue) -> bool:
    """Return whether half of the photographs or more have a box."""
    crops = photographs.crops
    return bool(crops) and sum(crop is not None for crop in crops) >= len(crops) / 2


def answer_backgrounds(
    catalogue: Catalogue,
    weights: Weights,
    dataset: str,
    calibration: Calibration,
    duplicates: np.ndarray,
    most: int,
) -> Answered:
    """Answer known photographs of a dataset by their backgrounds, as `answer_known`; only those that have a box."""
    gallery = load_gallery(weights.folder / gallery_file(dataset))
    image_ids = gallery.embeddings.image_id
    names = dict(zip(image_ids, gallery.identity, strict=True))
    del gallery
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        painted = _painted(catalogue, names, folder / "data")
        if not len(painted):
            return Answered(nothing := np.zeros(0, str), nothing, nothing, np.zeros(0, bool))
        shutil.copytree(weights.folder, folder / "weights", ignore=shutil.ignore_patterns("cache", "tensorboard"))
        copy = open_weights(folder / "weights")
        alone = replace(copy, manifest={**copy.manifest, "datasets": [dataset]}, datasets=(dataset,))
        enroll_again(painted, alone, _with_local_feature(weights, dataset))
        own = duplicates[np.isin(np.array(image_ids), painted.image_ids)]
        return answer_known(
            painted, folder / "weights", dataset, weights.recipe, calibration, own, any_photograph, most
        )


def _with_local_feature(weights: Weights, dataset: str) -> Recipe:
    """Return the recipe with the local feature that the dataset has got: backgrounds do not choose another."""
    name = gallery_extractor(weights.folder / gallery_file(dataset)) or weights.recipe.keypoints.competing[0]
    return with_settings(weights.recipe, {"keypoints.extractor": name, "keypoints.extractors": ()})


def _painted(catalogue: Catalogue, names: Mapping[str, str], folder: Path) -> Catalogue:
    """Write the photographs of a gallery with all boxes on them filled, other animals' too; return its rows that have
    a box as a data folder without boxes, in the gallery's order.

    Args:
        catalogue: all rows of the data folder.
        names: the individual on each photograph of the gallery, by image_id.
        folder: where to write.
    """
    folder.mkdir()
    image_ids, paths, crops = catalogue.image_ids, catalogue.paths, catalogue.crops
    files: dict[str, str] = {}
    for number, places in enumerate(by_photograph(paths)):
        boxes = [crop for place in places if (crop := crops[place])]
        known = [image_ids[place] for place in places if crops[place] and image_ids[place] in names]
        if known and (picture := _without_animals(paths[places[0]], boxes)):
            picture.save(folder / f"{number:06d}.png")
            files |= dict.fromkeys(known, f"{number:06d}.png")
    chosen = [image_id for image_id in names if image_id in files]
    table = catalogue.table.set_index("image_id", drop=False).loc[chosen].reset_index(drop=True)
    table = table.assign(split="database", path=list(map(files.__getitem__, chosen)))
    table = table.assign(identity=list(map(names.__getitem__, chosen)))
    return Catalogue(folder, table[[column for column in table.columns if column not in NOT_PAINTED]])


def _without_animals(path: Path, boxes: list[Crop]) -> Image.Image | None:
    """Return a photograph, upright, with its boxes filled; None where it can't be read any more."""
    try:
        decoded = decode(path, View(0, detail=Image.MAX_IMAGE_PIXELS or 2**31))
    except UnreadableError:
        return None
    picture = decoded.upright(decoded.image)
    for crop in boxes:
        try:
            x, y, w, h = replace(crop, margin=MARGIN).part(*picture.size)[0]
        except BoxError:
            continue
        left, top, right, bottom = (
            round(edge)
            for edge in (x * picture.width, y * picture.height, (x + w) * picture.width, (y + h) * picture.height)
        )
        ImageDraw.Draw(picture).rectangle((left, top, right, bottom), fill=GREY)
    return picture
