"""The toy world with boxes: several animals on a photograph, a box and a mask around each.

The animals are those of the plain world (`synthetic`), smaller and on larger photographs, in front of grounds that they
share. Boxes are off by a few hundredths of their size, as a detector's are; masks are exact, PNG files of the picture
as a viewer shows it. Some photographs are stored turned, with the EXIF tag that says so.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from reid.data.catalogue import COLUMNS
from reid.data.synthetic import (
    PLAIN,
    Bodies,
    Design,
    Shot,
    background,
    day_of,
    in_front,
    lit,
    posed,
    refuse_other_folders,
    save_photograph,
    shots_of,
    write_tables,
)
from reid.runtime.distributed import core_count
from reid.runtime.files import atomic_path
from reid.runtime.progress import track

__all__ = ["BOXED", "draw_boxed_world"]

BOXED = Design(PLAIN.species, (8, 7, 6, 6, 5, 5, *[4] * 8, *[3] * 8, *[2] * 4, 1, 1), 10, (1, 4), first_new=28)
"""As the plain world, with fewer photographs of each animal."""

SIZE = (384, 288)
"""Width and height of a photograph, about."""

GRID = (3, 2)
"""Columns and rows of the grid in which animals stand, one in a cell, so that none hides another."""

LARGEST = 1.5
"""An animal is up to so many times its cell's width and height, and reaches into cells beside it that are empty."""

ANIMALS = (0.55, 0.3, 0.15)
"""The share of photographs with one animal, two and three."""

JITTER = 0.04
"""By how much of its width and height a box is off, on each side (standard deviation)."""

FILES = ("metadata.csv", "sample_submission.csv", "solution.csv", "images", "masks")


class _Drawn(NamedTuple):
    """An animal on a photograph."""

    row: dict[str, str]
    """Of metadata.csv, without the image_id."""
    usage: str


def draw_boxed_world(folder: Path, seed: int = 0, design: Design = BOXED) -> None:
    """Draw the world into a folder, as `synthetic.draw_world` does, with the columns bbox, bbox_unit and mask.

    The same seed gives the same bytes.

    Raises:
        InputError: the folder holds something that is not such a world; the seed is negative.
    """
    refuse_other_folders(folder, seed, FILES)
    (folder / "metadata.csv").unlink(missing_ok=True)  # which stands for a complete world
    rng = np.random.default_rng([seed, 1])
    scenes = [scene for species in design.species for scene in _scenes(shots_of(species, design, rng), rng)]
    bodies = Bodies(design, seed, {})

    def draw(number: int) -> list[_Drawn]:
        return _draw(folder, number, scenes[number], np.random.default_rng([seed, number, 2]), bodies)

    with ThreadPoolExecutor(core_count()) as pool:
        drawn = list(track(pool.map(draw, range(len(scenes))), "drawing photographs", total=len(scenes)))
    animals = [pair for scene, some in zip(scenes, drawn, strict=True) for pair in zip(scene, some, strict=True)]
    rows, answers = [], []
    for image_id, place in enumerate(rng.permutation(len(animals))):
        shot, (row, usage) = animals[place]
        rows.append({"image_id": image_id, **row})
        if shot.split == "query":
            answers.append((image_id, shot.identity, shot.new, shot.species.dataset, usage))
    columns = [*COLUMNS, "bbox", "bbox_unit", "mask"]
    write_tables(folder, pd.DataFrame(rows)[columns], answers, design)


def _scenes(shots: list[Shot], rng: np.random.Generator) -> Iterator[list[Shot]]:
    """Yield the animals of each photograph: different ones of a species, all known or all to be named."""
    for split in ("database", "query"):
        own = [shot for shot in shots if shot.split == split]
        for photograph in sorted({shot.photograph for shot in own}):
            some = [shot for shot in own if shot.photograph == photograph]
            order = rng.permutation(len(some)).tolist()
            while order:
                count = 1 + int(rng.choice(len(ANIMALS), p=ANIMALS))
                yield [some[order.pop()] for _ in range(min(count, len(order)))]


def _draw(folder: Path, number: int, scene: list[Shot], rng: np.random.Generator, bodies: Bodies) -> list[_Drawn]:
    """Draw a photograph and its masks into their files."""
    width, height = (int(side * rng.uniform(0.9, 1.1)) for side in SIZE)
    picture, boxes = background(rng, width, height), []
    species = scene[0].species
    name = f"{species.dataset}/{scene[0].split}/{number:04d}"
    for place, (shot, cell) in enumerate(zip(scene, _cells(rng, len(scene), width, height), strict=True)):
        flank = species.flanks[shot.number % len(species.flanks)]
        body = bodies.of(shot, flank)
        body = body.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flank == "left" else body
        animal = posed(rng, body, width, height, cell)
        picture.paste(animal, mask=animal.getchannel("A"))
        mask = animal.getchannel("A").point(lambda alpha: 255 * (alpha > 127))
        with atomic_path(folder / f"masks/{name}-{place}.png") as temporary:
            mask.save(temporary, format="PNG")
        boxes.append(_box(rng, mask))
    in_front(rng, picture)
    save_photograph(folder / f"images/{name}.jpg", lit(rng, picture), rng)
    day = day_of(scene[0]) if species.is_dated else ""
    shared = {"path": f"images/{name}.jpg", "date": day, "species": species.species, "split": scene[0].split}
    return [
        _Drawn(
            {
                **shared,
                "identity": shot.identity if shot.split == "database" else "",
                "orientation": species.flanks[shot.number % len(species.flanks)],
                "dataset": species.dataset,
                "bbox": ",".join(f"{number:.1f}" for number in box),
                "bbox_unit": "pixels",
                "mask": f"masks/{name}-{place}.png",
            },
            "Public" if rng.random() < 0.3 else "Private",
        )
        for place, (shot, box) in enumerate(zip(scene, boxes, strict=True))
    ]


def _cells(rng: np.random.Generator, count: int, width: int, height: int) -> list[tuple[float, float, float, float]]:
    """Return x,y,w,h of the parts of a photograph that its animals fill: cells of a grid, with a free one between."""
    columns, rows = GRID
    wide, high = width / columns, height / rows
    chosen = rng.permutation(columns)[:count]
    cells = []
    for column in chosen:
        grown = rng.uniform(1, LARGEST) if count == 1 else 1.0
        middle = (column + 0.5) * wide, (rng.integers(rows) + 0.5) * high
        w, h = wide * grown, high * grown
        left, top = np.clip(middle[0] - w / 2, 0, width - w), np.clip(middle[1] - h / 2, 0, height - h)
        cells.append((float(left), float(top), w, h))
    return cells


def _box(rng: np.random.Generator, mask: Image.Image) -> tuple[float, float, float, float]:
    """Return a box around a mask, as a detector draws it."""
    left, top, right, bottom = mask.getbbox() or (0, 0, 1, 1)
    off = rng.normal(scale=JITTER, size=4).clip(-2 * JITTER, 2 * JITTER) * ([right - left, bottom - top] * 2)
    left, top = max(0.0, left + off[0]), max(0.0, top + off[1])
    right, bottom = min(mask.width, right + off[2]), min(mask.height, bottom + off[3])
    return left, top, right - left, bottom - top
