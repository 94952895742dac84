"""A data folder's photographs, put on larger ones with a box around each."""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

__all__ = ["boxed", "cut_out"]


def read_rows(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "metadata.csv", dtype=str, keep_default_na=False)


def cut_out(folder: Path, out: Path) -> Path:
    """The same photographs in a format that loses nothing."""
    table = read_rows(folder)
    paths = [f"{place}.png" for place in range(len(table))]
    out.mkdir()
    for old, new in zip(table["path"], paths, strict=True):
        with Image.open(folder / old) as image:
            image.save(out / new)
    return written(table.assign(path=paths), folder, out)


def boxed(folder: Path, out: Path, together: int = 1, turned: bool = True) -> Path:
    """Photographs of `together` rows of one dataset and split each, of different individuals where they are known,
    beside each other on noise; every other one is stored turned, with the EXIF tag that says so, if `turned`."""
    table = read_rows(folder).assign(bbox="", bbox_unit="pixels")
    rng, number = np.random.default_rng(0), 0
    out.mkdir()
    for _, rows in table.groupby(["dataset", "split"], sort=False):
        turn = rows.groupby("identity").cumcount().sort_values(kind="stable").index
        for start in range(0, len(rows), together):
            number += 1
            some = turn[start : start + together]
            canvas = Image.fromarray(rng.integers(0, 256, (90, 20 + 70 * together, 3), np.uint8))
            for place, row in enumerate(some):
                with Image.open(folder / str(table.at[row, "path"])) as image:
                    canvas.paste(image, (10 + 70 * place, 20 + place))
                    table.loc[row, "bbox"] = f"{10 + 70 * place},{20 + place},{image.width},{image.height}"
            exif = Image.Exif()
            if turned and number % 2:
                exif[274], canvas = 6, canvas.transpose(Image.Transpose.ROTATE_90)
            canvas.save(out / f"{number}.png", exif=exif)
            table.loc[some, "path"] = f"{number}.png"
    return written(table, folder, out)


def written(table: pd.DataFrame, folder: Path, out: Path) -> Path:
    table.to_csv(out / "metadata.csv", index=False)
    for name in ("solution.csv", "sample_submission.csv"):
        if (folder / name).exists():
            (out / name).write_bytes((folder / name).read_bytes())
    return out
