"""What is left of rank-1 where the animal is painted over, or all but its outline."""

import shutil
from collections.abc import Callable, Mapping
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

__all__ = ["Repaint", "answer_repainted", "has_boxes", "has_masks", "silhouettes", "without_animals"]

Repaint = Callable[[Catalogue, Mapping[str, str], Path], dict[str, str]]
"""The rows of a data folder, the individual on each photograph of the gallery by image_id, a folder to write into ->
names of the files written there, by image_id; none where there is nothing to paint over or nothing can be read."""

GREY = (128, 128, 128)

FULL = Image.MAX_IMAGE_PIXELS or 2**31
"""Of a photograph: it is not scaled while it is decoded."""

NOT_PAINTED = ("bbox", "bbox_unit", "mask", "crop", "beside")
"""Columns about the animals, which are painted over."""

MARGIN = 0.05
"""Of a box's sides, painted over around it: boxes cut off ears."""


def has_boxes(photographs: Catalogue) -> bool:
    """Return whether half of the photographs or more have a box."""
    crops = photographs.crops
    return bool(crops) and sum(crop is not None for crop in crops) >= len(crops) / 2


def has_masks(photographs: Catalogue) -> bool:
    """Return whether half of the photographs or more have a mask."""
    masks = photographs.masks
    return bool(masks) and sum(map(bool, masks)) >= len(masks) / 2


def answer_repainted(
    catalogue: Catalogue,
    weights: Weights,
    dataset: str,
    calibration: Calibration,
    duplicates: np.ndarray,
    most: int,
    repaint: Repaint,
) -> Answered:
    """Answer known photographs of a dataset by what is left of them, as `answer_known`."""
    gallery = load_gallery(weights.folder / gallery_file(dataset))
    image_ids = gallery.embeddings.image_id
    names = dict(zip(image_ids, gallery.identity, strict=True))
    del gallery
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "data").mkdir()
        files = repaint(catalogue, names, folder / "data")
        painted = _of_files(catalogue, dataset, names, folder / "data", files)
        if not len(painted):
            return Answered.nothing()
        shutil.copytree(weights.folder, folder / "weights", ignore=shutil.ignore_patterns("cache", "tensorboard"))
        copy = open_weights(folder / "weights")
        alone = replace(copy, manifest={**copy.manifest, "datasets": [dataset]}, datasets=(dataset,))
        enroll_again(painted, alone, _with_local_feature(weights, dataset))
        own = duplicates[np.isin(np.array(image_ids), painted.image_ids)]
        return answer_known(
            painted, folder / "weights", dataset, weights.recipe, calibration, most, own, any_photograph
        )


def _with_local_feature(weights: Weights, dataset: str) -> Recipe:
    """Return the recipe with the local feature that the dataset has got: backgrounds do not choose another."""
    name = gallery_extractor(weights.folder / gallery_file(dataset)) or weights.recipe.keypoints.competing[0]
    return with_settings(weights.recipe, {"keypoints.extractor": name, "keypoints.extractors": ()})


def _of_files(
    catalogue: Catalogue, dataset: str, names: Mapping[str, str], folder: Path, files: Mapping[str, str]
) -> Catalogue:
    """Return the rows of a dataset's gallery that have a file, by image_id, as a data folder without boxes, in the
    gallery's order; enrolled queries may lack the dataset."""
    chosen = [image_id for image_id in names if image_id in files]
    table = catalogue.table.set_index("image_id", drop=False).loc[chosen].reset_index(drop=True)
    table = table.assign(split="database", dataset=dataset, path=list(map(files.__getitem__, chosen)))
    table = table.assign(identity=list(map(names.__getitem__, chosen)))
    return Catalogue(folder, table[[column for column in table.columns if column not in NOT_PAINTED]])


def without_animals(catalogue: Catalogue, names: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Write the photographs of a gallery with all boxes on them filled, other animals' too. A `Repaint`."""
    image_ids, paths, crops = catalogue.image_ids, catalogue.paths, catalogue.crops
    files: dict[str, str] = {}
    for number, places in enumerate(by_photograph(paths)):
        boxes = [crop for place in places if (crop := crops[place])]
        known = [image_ids[place] for place in places if crops[place] and image_ids[place] in names]
        if known and (picture := _without_animals(paths[places[0]], boxes)):
            picture.save(folder / f"{number:06d}.png")
            files |= dict.fromkeys(known, f"{number:06d}.png")
    return files


def silhouettes(catalogue: Catalogue, names: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Write the part of each photograph that its row sees, the animal black on grey. A `Repaint`."""
    files: dict[str, str] = {}
    rows = zip(catalogue.image_ids, catalogue.paths, catalogue.crops, catalogue.masks, strict=True)
    for number, (image_id, path, crop, mask) in enumerate(rows):
        if not mask or image_id not in names:
            continue
        try:
            shape = decode(path, View(0, detail=FULL, crop=crop, mask=mask)).mask
        except UnreadableError:
            continue
        if shape is not None:
            Image.fromarray(np.where(shape, 0, GREY[0]).astype(np.uint8)).convert("RGB").save(
                folder / f"{number:06d}.png"
            )
            files[image_id] = f"{number:06d}.png"
    return files


def _without_animals(path: Path, boxes: list[Crop]) -> Image.Image | None:
    """Return a photograph, upright, with its boxes filled; None where it can't be read any more."""
    try:
        decoded = decode(path, View(0, detail=FULL))
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
