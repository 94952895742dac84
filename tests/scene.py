"""A photograph without any symmetry, and metadata.csv in a line."""

from pathlib import Path

import numpy as np
from PIL import Image

from reid.data.catalogue import COLUMNS


def scene(width: int = 90, height: int = 60) -> Image.Image:
    """A smooth picture without any symmetry."""
    y, x = np.mgrid[0:height, 0:width]
    red, green = 255 * x / width, 255 * y / height
    return Image.fromarray(
        np.dstack([red, green, 255 * np.exp(-((x - 20) ** 2 + (y - 15) ** 2) / 200)]).astype(np.uint8)
    )


def write_metadata(folder: Path, *rows: str) -> Path:
    """A metadata.csv of these rows."""
    (folder / "metadata.csv").write_text("\n".join([",".join(COLUMNS), *rows]) + "\n")
    return folder


def write_rows(folder: Path, count: int) -> None:
    """A metadata.csv of the photographs 0.jpg, 1.jpg and so on."""
    write_metadata(folder, *(f"{number},leo,{number}.jpg,,,,database,Lions" for number in range(count)))
