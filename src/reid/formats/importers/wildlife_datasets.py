"""The table of wildlife-datasets, and `metadata.csv` of WildlifeReID-10k: one row per animal, boxes x,y,w,h in pixels.

wildlife-datasets takes constant columns away where it is told to, so species, split and dataset may be missing.
"""

from collections.abc import Iterator
from pathlib import Path

from reid.formats.found import PIXELS, Choices, Found, LeftOut, mapped
from reid.formats.tables import read_header, read_rows

__all__ = ["read"]

USUAL = {
    "image_id": ("image_id", "id"),
    "identity": ("identity",),
    "path": ("path",),
    "date": ("date", "datetime"),
    "orientation": ("orientation", "position", "viewpoint"),
    "species": ("species",),
    "split": ("split", "original_split"),
    "dataset": ("dataset",),
    "encounter": ("encounter", "encounter_id"),
    "bbox": ("bbox",),
}

SPLITS = ("train", "test", "database", "query")
"""Other words, such as val, are left to whether the row has an identity."""

KEPT = ("cluster_id", "segmentation", "keypoints", "age", "sex")
"""Further columns that are worth keeping: cluster_id is WildlifeReID-10k's group of near copies."""


def read(source: Path, choices: Choices) -> Iterator[Found | LeftOut]:
    """Yield the rows of a table; SOURCE may be the folder of its metadata.csv."""
    path = source / "metadata.csv" if source.is_dir() else source
    columns = mapped(choices, read_header(path), USUAL)
    for where, row in read_rows(path, tuple(columns.get(name, name) for name in ("identity", "path"))):
        cells = {ours: row[theirs] for ours, theirs in columns.items()}
        split = cells.get("split", "").strip().casefold()
        yield Found(
            where,
            cells["path"],
            key=cells.get("image_id", ""),
            identity=cells["identity"],
            date=cells.get("date", ""),
            orientation=cells.get("orientation", ""),
            species=_first_of_list(cells.get("species", "")),
            split=split if split in SPLITS else "",
            dataset=cells.get("dataset", ""),
            encounter=cells.get("encounter", ""),
            box=cells.get("bbox") or None,
            layout=PIXELS,
            more={name: row[name] for name in KEPT if row.get(name)},
        )


def _first_of_list(species: str) -> str:
    """ "['lynx']" -> "lynx": some data sets write a list of one"""
    return species.strip("[]").strip("'\" ") if species.startswith("[") and "," not in species else species
