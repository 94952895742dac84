"""What `check` finds when it opens the photographs: counts, files that can't be read, and files that occur twice."""

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd

from reid.data.box_faults import CORNERS
from reid.data.boxes import by_photograph, looks_like_corners
from reid.data.catalogue import Catalogue, numbered_cells
from reid.data.missing_files import with_causes
from reid.data.photographs import Inspection, View, inspect_photographs
from reid.runtime.distributed import core_count
from reid.runtime.files import group_rows
from reid.runtime.progress import track

__all__ = [
    "describe",
    "describe_notes",
    "describe_unreadable",
    "find_corners",
    "find_near_copies",
    "find_same_files",
    "scan_files",
]

ALIKE_SMALL, ALIKE_LARGE = 0.95, 0.98
"""From which correlation of their grey values, of 16 x 16 and of 64 x 64, two photographs are taken for copies of one.
The largest of two photographs of ../shared/reid-mini are 0.89 and 0.80."""


def describe(catalogue: Catalogue, files: pd.DataFrame) -> pd.DataFrame:
    """Count what is there, one row per dataset.

    Args:
        catalogue: the photographs.
        files: of them, in any order, see `scan_files`.

    Returns:
        Columns dataset, images, individuals, singletons, largest, query, unreadable (files missing or broken) and
        duplicates (query photographs whose bytes are in the database too).
    """
    table = catalogue.table[["image_id", "identity", "split", "dataset"]]
    table = table.merge(files[["image_id", "sha256", "problem"]], on="image_id", how="left")
    known_bytes = set(table.loc[(table["split"] == "database") & (table["sha256"] != ""), "sha256"])
    rows = []
    for dataset, photographs in table.groupby("dataset", sort=True):
        database, query = photographs[photographs["split"] == "database"], photographs[photographs["split"] == "query"]
        sizes = database["identity"].value_counts()
        rows.append(
            {
                "dataset": dataset or "(none)",
                "images": len(database),
                "individuals": len(sizes),
                "singletons": int((sizes == 1).sum()),
                "largest": int(sizes.max()) if len(sizes) else 0,
                "query": len(query),
                "unreadable": int((photographs["problem"] != "").sum()),
                "duplicates": int(query["sha256"].isin(known_bytes).sum()),
            }
        )
    return pd.DataFrame(rows)


def scan_files(catalogue: Catalogue) -> pd.DataFrame:
    """Open every photograph of a catalogue in full.

    Returns:
        One row per photograph, in order: image_id and the fields of `photographs.Inspection`.
    """
    paths = catalogue.paths
    views = [View(0, crop=crop, mask=mask) for crop, mask in zip(catalogue.crops, catalogue.masks, strict=True)]
    groups = by_photograph(paths)
    found: dict[int, Inspection] = {}
    with ThreadPoolExecutor(max_workers=core_count()) as pool:  # decoding releases Python's lock
        inspected = pool.map(lambda rows: inspect_photographs(paths[rows[0]], [views[row] for row in rows]), groups)
        for rows, those in zip(groups, track(inspected, "opening photographs", total=len(groups)), strict=True):
            found |= zip(rows.tolist(), those, strict=True)
    files = pd.DataFrame([found[row] for row in range(len(paths))], columns=list(Inspection._fields))
    broken = files["problem"] != ""
    ids = np.array(catalogue.image_ids)
    causes = with_causes(catalogue, dict(zip(ids[broken], files["problem"][broken], strict=True)))
    return files.assign(image_id=ids, problem=[causes.get(name, "") for name in ids])


def describe_unreadable(catalogue: Catalogue, problems: Mapping[str, str]) -> list[str]:
    """Return what is wrong with photographs, in sentences that name their rows; many with the same problem share one.

    Args:
        catalogue: the photographs.
        problems: by image_id.
    """
    ids = dict(numbered_cells(catalogue.table["image_id"][catalogue.table["image_id"].isin(list(problems))]))
    sentences = group_rows((row, problems[image_id]) for row, image_id in ids.items())
    names = {f"row {row}": image_id for row, image_id in ids.items()}
    return [f"{catalogue.row_name(names[rows]) if rows in names else rows}: {problem}" for rows, problem in sentences]


def describe_notes(catalogue: Catalogue, files: pd.DataFrame) -> list[str]:
    """Return what is worth knowing of photographs that can be read, in sentences that name their rows.

    Args:
        catalogue: the photographs.
        files: of them, in order, see `scan_files`.
    """
    rows = numbered_cells(catalogue.table["path"])
    noted = [(row, note) for (row, _), notes in zip(rows, files["notes"], strict=True) for note in notes]
    return [f"{rows}: {note}" for rows, note in group_rows(noted)]


def find_corners(catalogue: Catalogue, files: pd.DataFrame) -> list[str]:
    """Return the rows whose boxes in pixels leave their photographs, where all boxes lie within as x1,y1,x2,y2; those
    in shares are faults of `catalogue.find_cell_faults`.

    Args:
        catalogue: the photographs.
        files: of them, in order, see `scan_files`.
    """
    rows = zip(numbered_cells(catalogue.table["path"]), catalogue.crops, files["width"], files["height"], strict=True)
    boxed = [(row, crop.box, (w, h) if w else None) for (row, _), crop, w, h in rows if crop and crop.unit == "pixels"]
    corners = looks_like_corners([(box, size) for _, box, size in boxed])
    return [f"{rows}, column {words}" for rows, words in group_rows((boxed[i][0], f"bbox: {CORNERS}") for i in corners)]


def find_same_files(catalogue: Catalogue, files: pd.DataFrame) -> list[str]:
    """Return which files of the same bytes have two identities, or are both in the database and a query; rows that
    share a path are left to `catalogue.find_shared_photographs`.

    Args:
        catalogue: the photographs.
        files: of them, in order, see `scan_files`.
    """
    table = catalogue.table.assign(sha256=files["sha256"].to_numpy())
    first = table.index.to_series().groupby(table["sha256"]).transform("first")
    again = table[(first != table.index) & (table["sha256"] != "")]
    faults = []
    for (row, path), place in zip(numbered_cells(again["path"]), first[again.index], strict=True):
        own, other = table.loc[row - 2], table.loc[place]
        same = f"{path[:99]!r} is the same file as {other['path'][:99]!r} of row {place + 2}"
        if os.path.normpath(own["path"]) == os.path.normpath(other["path"]):
            continue
        if own["split"] != other["split"]:
            faults.append(
                (row, f"{same}, there as {other['split']} and here as {own['split']}. Remove one of the rows")
            )
        elif own["identity"] != other["identity"]:
            names = f"there as {other['identity'][:99]!r} and here as {own['identity'][:99]!r}"
            faults.append((row, f"{same}, {names}. Decide who it is, and remove the other row"))
    return [f"{rows}: {words}" for rows, words in group_rows(faults)]


def find_near_copies(catalogue: Catalogue, files: pd.DataFrame) -> list[str]:
    """Return which database photographs of two identities of a dataset are copies of one but for size or compression.

    Args:
        catalogue: the photographs.
        files: of them, in order, see `scan_files`.
    """
    table = catalogue.table.assign(place=np.arange(len(files)), sha256=files["sha256"].to_numpy())
    known = table[(table["split"] == "database") & (table["sha256"] != "")]
    found = []
    for _, rows in known.groupby("dataset"):
        thumbnails = np.stack(files["thumbnail"].iloc[rows["place"]].tolist())
        for one, other in _copies(thumbnails, rows["identity"].to_numpy(str)):
            if rows["sha256"].iloc[one] != rows["sha256"].iloc[other]:
                first, own = (numbered_cells(rows["path"].iloc[[place]])[0] for place in (one, other))
                words = f"{own[1][:99]!r} looks like a copy of {first[1][:99]!r} (row {first[0]})"
                found.append((own[0], f"{words}, under another identity; decide who it is"))
    return [f"{rows}: {words}" for rows, words in group_rows(sorted(found))]


def _copies(thumbnails: np.ndarray, identity: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield pairs of places of photographs that are copies under two identities: for each photograph the earlier one of
    another identity that is most like it, if it is like enough.

    Args:
        thumbnails: (N, 64, 64) uint8.
        identity: (N,) str.
    """
    large = thumbnails.reshape(len(thumbnails), 16, 4, 16, 4)
    small = _standardised(large.mean((2, 4), dtype=np.float32))
    for start in range(0, len(small), 1000):
        places = np.arange(start, min(start + 1000, len(small)))
        alike = small[places] @ small[: places[-1] + 1].T  # (1000, places before)
        alike[
            (identity[places, None] == identity[: places[-1] + 1]) | (np.arange(places[-1] + 1) >= places[:, None])
        ] = -1
        for place, nearest in zip(places, alike.argmax(1), strict=True):
            if alike[place - start, nearest] > ALIKE_SMALL:
                pair = _standardised(large[[nearest, place]].astype(np.float32))
                if pair[0] @ pair[1] > ALIKE_LARGE:
                    yield int(nearest), int(place)


def _standardised(pixels: np.ndarray) -> np.ndarray:
    """Return images (N, ...) as rows of mean 0 and length 1; zeros where there is one colour."""
    rows = pixels.reshape(len(pixels), -1)
    rows = rows - rows.mean(1, keepdims=True)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 1))
