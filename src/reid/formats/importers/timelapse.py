"""Timelapse's ImageData.csv: the photograph is RootFolder / RelativePath / File, the rest is what the user's template
says, so `--map identity=COLUMN` and the like must name it."""

from collections.abc import Iterator
from pathlib import Path

from reid.errors import InputError
from reid.formats.found import Choices, Found, LeftOut, mapped
from reid.formats.tables import read_header, read_rows

__all__ = ["read"]

USUAL: dict[str, tuple[str, ...]] = dict.fromkeys(
    ("image_id", "identity", "orientation", "species", "dataset", "place", "encounter", "split", "bbox"), ()
)

TAKEN = ("File", "RelativePath", "RootFolder", "Folder", "DateTime", "Date", "Time", "DeleteFlag", "ImageQuality")


def read(source: Path, choices: Choices) -> Iterator[Found | LeftOut]:
    """Yield the photographs of a table."""
    header = read_header(source)
    columns = mapped(choices, header, USUAL)
    if "identity" not in columns and "species" not in columns:
        own = [name for name in header if name not in TAKEN]
        raise InputError(
            f"{source}: expected --map identity=COLUMN (or species=COLUMN), because Timelapse's columns are those of "
            f"your template; yours are {', '.join(own)[:300] or 'none'}"
        )
    for where, row in read_rows(source, ("File",)):
        if row.get("DeleteFlag", "").casefold() == "true":
            yield LeftOut(where, "a photograph that is marked for deletion")
            continue
        cells = {ours: row[theirs].strip() for ours, theirs in columns.items()}
        date = row.get("DateTime") or " ".join(filter(None, [row.get("Date"), row.get("Time")]))
        yield Found(
            where,
            "/".join(filter(None, [row.get("RelativePath", "").replace("\\", "/").strip("/"), row["File"]])),
            key=cells.get("image_id", ""),
            identity=cells.get("identity", ""),
            date=cells.get("date") or date,
            orientation=cells.get("orientation", ""),
            species=cells.get("species", ""),
            split=cells.get("split", ""),
            dataset=cells.get("dataset", ""),
            place=cells.get("place", ""),
            encounter=cells.get("encounter", ""),
            box=cells.get("bbox") or None,
        )
