"""Small worlds with a planted fault: coats of blotches in front of textured grounds, with boxes, days and two flanks.

A clean world draws a new ground for every photograph; queries are a year later; the column orientation is right. The
faults: `background` gives every animal one ground, `bursts` puts queries on the days of the database, at the same
place, `sides` writes the wrong flank on some photographs.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from reid.data.catalogue import COLUMNS

__all__ = ["FAULTS", "SIZE", "draw_planted"]

FAULTS = ("background", "bursts", "sides")

SIZE = (192, 144)
KNOWN, NEW, PHOTOGRAPHS = 8, 3, 6


def texture(
    rng: np.random.Generator, size: tuple[int, int], colour: tuple[int, int, int], blotches: int
) -> Image.Image:
    """Blotches of a random form on one colour: keypoints are found on their corners."""
    picture = Image.new("RGB", size, colour)
    pen = ImageDraw.Draw(picture)
    for _ in range(blotches):
        x, y = rng.uniform((0, 0), size)
        angles = np.sort(rng.uniform(0, 2 * np.pi, 6))
        radii = rng.uniform(4, 14, 6)
        shade = tuple(int(value) for value in np.clip(np.array(colour) + rng.integers(-110, 110), 0, 255))
        pen.polygon([(x + r * np.cos(a), y + r * np.sin(a)) for a, r in zip(angles, radii, strict=True)], fill=shade)
    return picture


def photograph(seed: int, animal: int, flank: int, ground: int, shot: int) -> tuple[Image.Image, tuple[int, ...]]:
    """A coat at a random place in front of a ground, seen a little brighter or darker, and its box in pixels."""
    coat = texture(np.random.default_rng([seed, 1, animal, flank]), (120, 80), (180, 140, 90), 40)
    picture = texture(np.random.default_rng([seed, 2, ground]), SIZE, (90, 120, 70), 60)
    rng = np.random.default_rng([seed, 3, animal, shot])
    scale = rng.uniform(0.9, 1.1)
    coat = coat.rotate(rng.uniform(-6, 6), Image.Resampling.BICUBIC).resize((int(120 * scale), int(80 * scale)))
    x, y = int(rng.integers(4, SIZE[0] - coat.width - 4)), int(rng.integers(4, SIZE[1] - coat.height - 4))
    picture.paste(coat, (x, y))
    pixels = np.asarray(picture).astype(float) * rng.uniform(0.8, 1.15) + rng.normal(scale=4, size=(*SIZE[::-1], 3))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)), (x, y, coat.width, coat.height)


def draw_planted(folder: Path, seed: int, fault: str = "") -> Path:
    """Draw a world of one dataset with one of `FAULTS`, or a clean one; return the folder."""
    rng = np.random.default_rng([seed, 4])
    rows, answers = [], []
    for animal in range(KNOWN + NEW):
        shots = range(PHOTOGRAPHS + 3 if animal < KNOWN else 3)
        for shot in shots:
            is_query = animal >= KNOWN or shot >= PHOTOGRAPHS
            flank, image_id = shot % 2, f"{animal}-{shot}"
            burst = fault == "bursts" and is_query and animal < KNOWN
            ground = 1000 * animal + (shot - PHOTOGRAPHS if burst else shot)
            picture, box = photograph(seed, animal, flank, animal if fault == "background" else ground, shot)
            path = f"photographs/{image_id}.png"
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            picture.save(folder / path)
            days = 40 * (shot - PHOTOGRAPHS if burst else shot) + animal + (365 if is_query and not burst else 0)
            date = str(np.datetime64("2021-01-01") + days)
            side = ("left", "right")[flank]
            if fault == "sides" and not is_query and rng.random() < 0.2:
                side = ("left", "right")[1 - flank]
            name = "" if is_query else f"animal {animal:02d}"
            cells = (image_id, name, path, date, side, "beast", "query" if is_query else "database", "Beasts")
            rows.append((*cells, ",".join(map(str, box)), "pixels"))
            if is_query:
                answers.append((image_id, f"animal {animal:02d}", animal >= KNOWN, "Beasts", "all"))
    pd.DataFrame(rows, columns=[*COLUMNS, "bbox", "bbox_unit"]).to_csv(folder / "metadata.csv", index=False)
    solution = pd.DataFrame(answers, columns=["image_id", "identity", "new_identity", "dataset", "Usage"])
    solution.to_csv(folder / "solution.csv", index=False)
    return folder
