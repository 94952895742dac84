"""What is left of rank-1 where the animal is painted over: photographs whose boxes are filled with grey."""

import shutil
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageOps

from reid.data.catalogue import Catalogue
from reid.decision.artifact import Weights, open_weights
from reid.decision.calibration import Calibration
from reid.decision.enroll import enroll_again
from reid.diagnose.conditions import Answered, answer_known, any_photograph

__all__ = ["answer_backgrounds", "has_boxes"]

GREY = (128, 128, 128)

BOX = ("bbox", "bbox_unit")

MARGIN = 0.05
"""Of a box's sides, painted over around it: boxes cut off ears."""


def has_boxes(photographs: Catalogue) -> bool:
    """Return whether half of the photographs or more have a box."""
    table = photographs.table
    return "bbox" in table and len(table) > 0 and bool((table["bbox"] != "").mean() >= 0.5)


def answer_backgrounds(
    catalogue: Catalogue,
    weights: Weights,
    dataset: str,
    calibration: Calibration,
    duplicates: np.ndarray,
    most: int,
) -> Answered:
    """Answer known photographs of a dataset by their backgrounds, as `answer_known`; only those that have a box."""
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        painted = _painted(catalogue.database.of(dataset), folder / "data")
        shutil.copytree(weights.folder, folder / "weights", ignore=shutil.ignore_patterns("cache", "tensorboard"))
        copy = open_weights(folder / "weights")
        enroll_again(painted, replace(copy, manifest={**copy.manifest, "datasets": [dataset]}, datasets=(dataset,)))
        return answer_known(
            painted, folder / "weights", dataset, weights.recipe, calibration, duplicates, any_photograph, most
        )


def _painted(photographs: Catalogue, folder: Path) -> Catalogue:
    """Write the photographs with their boxes filled; return them as a data folder without boxes."""
    table = photographs.table
    rows: list[dict[str, str]] = []
    for row, path in zip(table.to_dict("records"), photographs.paths, strict=True):
        cells = {str(column): str(cell) for column, cell in row.items()}
        name = f"{len(rows):06d}.png"
        picture = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
        if cells["bbox"]:
            ImageDraw.Draw(picture).rectangle(_pixels(cells, picture.size), fill=GREY)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        picture.save(folder / name)
        rows.append({**cells, "path": name})
    kept = [column for column in table.columns if column not in (*BOX, "mask")]
    return replace(photographs, root=folder, table=pd.DataFrame(rows, columns=list(table.columns))[kept])


def _pixels(row: dict[str, str], size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Return left, top, right and bottom of a row's box with its margin."""
    x, y, width, height = (
        float(number) for number in row["bbox"].strip("[]() ").replace(" ", ",").split(",") if number
    )
    across, down = size if row.get("bbox_unit") == "shares" else (1, 1)
    left, top, right, bottom = x * across, y * down, (x + width) * across, (y + height) * down
    margin = MARGIN * max(right - left, bottom - top)
    return left - margin, top - margin, right + margin, bottom + margin
