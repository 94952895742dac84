"""Camtrap DP 1.0.2: a folder with datapackage.json, deployments.csv, media.csv and observations.csv.

A name goes into `individualID`. `classificationMethod` is human where a person gave or confirmed it, else machine, with
the probability. What Camtrap DP requires and a data folder may lack (coordinates, times, time zone) is asked for.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

import reid
from reid.data.boxes import read_box
from reid.data.dates import read_moments
from reid.errors import InputError
from reid.formats.boxed import sizes_of
from reid.formats.boxes import as_unit
from reid.formats.export_choices import ExportChoices, Exported
from reid.formats.named import Named
from reid.formats.tables import read_rows
from reid.runtime.files import write_json, write_table

__all__ = ["SAMPLING_DESIGNS", "write"]

PROFILE = "https://raw.githubusercontent.com/tdwg/camtrap-dp/1.0.2"

SAMPLING_DESIGNS = ("simpleRandom", "systematicRandom", "clusteredRandom", "experimental", "targeted", "opportunistic")

DEPLOYMENTS = (
    *(
        "deploymentID",
        "locationID",
        "locationName",
        "latitude",
        "longitude",
        "coordinateUncertainty",
        "deploymentStart",
    ),
    *(
        "deploymentEnd",
        "setupBy",
        "cameraID",
        "cameraModel",
        "cameraDelay",
        "cameraHeight",
        "cameraDepth",
        "cameraTilt",
    ),
    *("cameraHeading", "detectionDistance", "timestampIssues", "baitUse", "featureType", "habitat", "deploymentGroups"),
    *("deploymentTags", "deploymentComments"),
)
MEDIA = (
    *("mediaID", "deploymentID", "captureMethod", "timestamp", "filePath", "filePublic", "fileName", "fileMediatype"),
    *("exifData", "favorite", "mediaComments"),
)
OBSERVATIONS = (
    *("observationID", "deploymentID", "mediaID", "eventID", "eventStart", "eventEnd", "observationLevel"),
    *("observationType", "cameraSetupType", "scientificName", "count", "lifeStage", "sex", "behavior", "individualID"),
    *("individualPositionRadius", "individualPositionAngle", "individualSpeed", "bboxX", "bboxY", "bboxWidth"),
    *("bboxHeight", "classificationMethod", "classifiedBy", "classificationTimestamp", "classificationProbability"),
    *("observationTags", "observationComments"),
)

MEDIA_TYPES = {
    ".png": "image/png",
    ".webp": "image/webp",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".gif": "image/gif",
}


def write(named: Named, out: Path, choices: ExportChoices) -> Exported:
    """Write a package.

    Raises:
        InputError: a place has no coordinates, times have no zone, or no row has all that is required.
    """
    table = named.table.assign(timestamp=_timestamps(named.table, choices.zone))
    usable = table[(table["timestamp"] != "") & (table["place"] != "")]
    if usable.empty:
        raise InputError(
            f"{named.catalogue.root}: expected rows with a date that has a time, and a place, which Camtrap DP "
            "requires; found none. Fill in the columns date and place of metadata.csv"
        )
    deployments = _deployments(usable, choices.deployments)
    observations = pd.DataFrame(_observations(usable, named.catalogue.root), columns=OBSERVATIONS)
    media = pd.DataFrame([_medium(row) for row in usable.drop_duplicates("path").to_dict("records")], columns=MEDIA)
    for name, rows in (("deployments", deployments), ("media", media), ("observations", observations)):
        write_table(out / f"{name}.csv", rows)
    write_json(out / "datapackage.json", _package(named, usable, deployments, choices))
    told = [
        f"samplingDesign is {choices.sampling_design}: correct it with --sampling-design if it is not",
        "deploymentStart and deploymentEnd are those of the first and last photograph of a place, unless --deployments "
        "says more",
    ]
    if len(usable) < len(table):
        told.insert(0, f"{len(table) - len(usable)} rows were left out: without a time of day or a place")
    files = [out / name for name in ("datapackage.json", "deployments.csv", "media.csv", "observations.csv")]
    return Exported(files, len(usable), told)


def _timestamps(table: pd.DataFrame, zone: str) -> list[str]:
    """Return moments as Camtrap DP wants them, 2024-05-03T07:03:09+0200; "" where there is no time of day."""
    if zone and not re.fullmatch(r"Z|[+-]\d\d:?\d\d", zone):
        raise InputError(f"--zone {zone}: expected hours and minutes, such as +02:00, or Z")
    moments = read_moments(table["date"], table["day"])
    stamps = [_timestamp(moment, zone) for moment in moments]
    if any(stamp and stamp.endswith("?") for stamp in stamps):
        some = next(moment for moment, stamp in zip(moments, stamps, strict=True) if stamp.endswith("?"))
        raise InputError(
            f"metadata.csv, column date: expected a time zone, which Camtrap DP requires, found {some!r}; say "
            "--zone +02:00"
        )
    return stamps


def _timestamp(moment: str, zone: str) -> str:
    found = re.fullmatch(r"(\S+) (\d\d:\d\d)(:\d\d)?(Z|[+-]\d\d:?\d\d)?", moment)
    if not found:
        return ""
    offset = (found[4] or zone or "?").replace("Z", "+0000")
    return f"{found[1]}T{found[2]}{found[3] or ':00'}{offset if offset == '?' else offset.replace(':', '')}"


def _deployments(usable: pd.DataFrame, path: Path | None) -> pd.DataFrame:
    given = (
        {row["deploymentID"]: row for _, row in read_rows(path, ("deploymentID", "latitude", "longitude"))}
        if path
        else {}
    )
    rows = []
    for place, photographs in usable.groupby("place", sort=True):
        own = given.get(str(place), {})
        row: dict[str, str] = {"deploymentID": str(place), "locationName": str(place)}
        row |= {name: _only(photographs, name) for name in ("latitude", "longitude")}
        row |= {"deploymentStart": photographs["timestamp"].min(), "deploymentEnd": photographs["timestamp"].max()}
        row |= {name: own[name] for name in DEPLOYMENTS if own.get(name)}
        if not _is_degrees(row["latitude"], 90) or not _is_degrees(row["longitude"], 180):
            raise InputError(
                f"place {place!r}: expected its latitude and longitude in degrees, which Camtrap DP requires, found "
                f"{row['latitude']!r} and {row['longitude']!r}; fill in these columns of metadata.csv, or name a table "
                "with deploymentID,latitude,longitude with --deployments"
            )
        rows.append(row)
    return pd.DataFrame([{name: row.get(name, "") for name in DEPLOYMENTS} for row in rows])


def _only(rows: pd.DataFrame, column: str) -> str:
    values = [cell for cell in rows[column].unique() if cell]
    return str(values[0]) if len(values) == 1 else ""


def _is_degrees(cell: str, limit: float) -> bool:
    try:
        return abs(float(cell)) <= limit
    except ValueError:
        return False


def _medium(row: Mapping[Any, Any]) -> dict[str, Any]:
    return {
        "mediaID": row["path"],
        "deploymentID": row["place"],
        "timestamp": row["timestamp"],
        "filePath": row["path"],
        "filePublic": "false",
        "fileName": Path(row["path"]).name,
        "fileMediatype": MEDIA_TYPES.get(Path(row["path"]).suffix.casefold(), "image/jpeg"),
    }


def _observations(usable: pd.DataFrame, root: Path) -> list[dict[str, Any]]:
    pixels = usable[(usable["bbox_unit"] == "pixels") & (usable["bbox"] != "")]
    frames = sizes_of(pixels["path"], {path: root / path for path in pixels["path"]})
    rows = []
    for row in usable.to_dict("records"):
        box = read_box(row["bbox"])
        shares = as_unit(box, row["bbox_unit"], "shares", frames.get(row["path"])) if box else ("",) * 4
        is_human = row["method"] and row["confirmed"]
        cells = {
            "observationID": row["image_id"],
            "deploymentID": row["place"],
            "mediaID": row["path"],
            "eventID": row["encounter"],
            "eventStart": row["timestamp"],
            "eventEnd": row["timestamp"],
            "observationLevel": "media",
            "observationType": "animal",
            "scientificName": row["species"],
            "count": "1",
            "individualID": row["name"],
            "observationComments": _comment(row),
        }
        cells |= dict(zip(("bboxX", "bboxY", "bboxWidth", "bboxHeight"), map(_share, shares), strict=True))
        if row["method"]:
            cells["classificationMethod"] = "human" if is_human else "machine"
            cells["classifiedBy"] = row["confirmed_by"] if is_human else f"wildlife-reid-kit {reid.__version__}"
            cells["classificationProbability"] = (
                "" if row["probability"] != row["probability"] else f"{row['probability']:.4f}"
            )
        rows.append(cells)
    return rows


def _share(number: Any) -> str:
    return "" if number == "" else f"{min(max(number, 0.0), 1.0):.6f}"


def _comment(row: Mapping[Any, Any]) -> str:
    """Return what no other column holds: the side, and where the name comes from."""
    side = f"side {row['orientation']}; " if row["orientation"] else ""
    return (
        f"{side}name: {row['method']}{', confirmed by a person' if row['confirmed'] else ''}"
        if row["name"]
        else side.rstrip("; ")
    )


def _package(named: Named, usable: pd.DataFrame, deployments: pd.DataFrame, choices: ExportChoices) -> dict[str, Any]:
    latitudes, longitudes = deployments["latitude"].astype(float), deployments["longitude"].astype(float)
    west, east, south, north = longitudes.min(), longitudes.max(), latitudes.min(), latitudes.max()
    title = choices.title or named.catalogue.root.resolve().name
    return {
        "resources": [
            {
                "name": name,
                "path": f"{name}.csv",
                "profile": "tabular-data-resource",
                "format": "csv",
                "mediatype": "text/csv",
                "encoding": "utf-8",
                "schema": f"{PROFILE}/{name}-table-schema.json",
            }
            for name in ("deployments", "media", "observations")
        ],
        "profile": f"{PROFILE}/camtrap-dp-profile.json",
        "name": re.sub(r"[^a-z0-9._-]+", "-", title.casefold()).strip("-") or "photographs",
        "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "title": title,
        "contributors": [{"title": choices.contributor or "not stated", "role": "contact"}],
        "project": {
            "title": title,
            "samplingDesign": choices.sampling_design,
            "captureMethod": ["activityDetection"],
            "individualAnimals": True,
            "observationLevel": ["media"],
        },
        "spatial": {
            "type": "Polygon",
            "coordinates": [[[west, south], [east, south], [east, north], [west, north], [west, south]]],
        },
        "temporal": {"start": usable["timestamp"].min()[:10], "end": usable["timestamp"].max()[:10]},
        "taxonomic": [{"scientificName": name} for name in sorted(set(usable["species"]) - {""})],
    }
