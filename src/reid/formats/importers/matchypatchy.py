"""MatchyPatchy's CSV of regions of interest: one row per animal on a photograph, boxes x,y,w,h in shares."""

from collections.abc import Iterator
from pathlib import Path

from reid.errors import InputError
from reid.formats.found import SHARES, Choices, Found, LeftOut, mapped
from reid.formats.tables import read_header, read_rows

__all__ = ["read"]

USUAL = {
    "image_id": ("roi_id", "id"),
    "path": ("filepath",),
    "date": ("timestamp",),
    "identity": ("individual", "individual_name", "name", "individual_id"),
    "orientation": ("viewpoint",),
    "species": ("species", "common", "binomen"),
    "place": ("station", "station_name", "station_id"),
    "encounter": ("sequence_id",),
    "frame": ("frame",),
    "dataset": (),
}

BOX = ("bbox_x", "bbox_y", "bbox_w", "bbox_h")

SIDES = {"0": "left", "1": "right", "0.0": "left", "1.0": "right"}


def read(source: Path, choices: Choices) -> Iterator[Found | LeftOut]:
    """Yield the regions of a table."""
    header = read_header(source)
    columns = mapped(choices, header, USUAL)
    if "path" not in columns:
        raise InputError(
            f"{source}: expected MatchyPatchy's column filepath, found {', '.join(header)[:300]}; or say --map "
            "path=COLUMN"
        )
    for where, row in read_rows(source):
        cells = {ours: row[theirs].strip() for ours, theirs in columns.items()}
        if cells.get("frame", "").removesuffix(".0") not in ("", "0"):
            yield LeftOut(where, "a region in a video")
            continue
        yield Found(
            where,
            cells["path"],
            key=cells.get("image_id", ""),
            identity=cells.get("identity", ""),
            date=cells.get("date", ""),
            orientation=SIDES.get(cells.get("orientation", ""), cells.get("orientation", "")),
            species=cells.get("species", ""),
            dataset=cells.get("dataset", ""),
            place=cells.get("place", ""),
            encounter=cells.get("encounter", ""),
            box=[row[name] for name in BOX] if set(BOX) <= set(header) else None,
            layout=SHARES,
        )
