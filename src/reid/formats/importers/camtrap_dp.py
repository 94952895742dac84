"""Camtrap DP 1.0: `datapackage.json` with deployments, media and observations, boxes x,y,w,h in shares.

Observations of a medium become rows. That of an event becomes a row of each of the event's media (those of its
deployment between its start and end) that has no observation of its own, if the event has no other: with several,
nobody can tell which photograph shows whom.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from reid.errors import InputError
from reid.formats.found import SHARES, Choices, Found, LeftOut
from reid.formats.tables import read_rows
from reid.runtime.files import read_json

__all__ = ["VERSIONS", "read"]

VERSIONS = ("1.0", "1.0.1", "1.0.2")

SIDE = re.compile(r"side (\w+)")
"""How `reid export` begins a comment: Camtrap DP has no column for the side."""

BOX = ("bboxX", "bboxY", "bboxWidth", "bboxHeight")


def read(source: Path, choices: Choices) -> Iterator[Found | LeftOut]:
    """Yield the observed animals of a package; SOURCE is its folder or its datapackage.json."""
    files = _resources(source / "datapackage.json" if source.is_dir() else source)
    deployments = {row["deploymentID"]: row for _, row in read_rows(files["deployments"], ("deploymentID",))}
    media = {row["mediaID"]: row for _, row in read_rows(files["media"], ("mediaID", "filePath", "timestamp"))}
    events = _index(files["observations"], media)
    seen: Counter[str] = Counter()
    for where, row in read_rows(files["observations"], ("observationID", "observationLevel", "observationType")):
        for each in _of_observation(where, row, media, events):
            if isinstance(each, Found):
                seen[each.photograph] += 1
                place = deployments.get(media[each.more["mediaID"]].get("deploymentID", ""), {})
                yield _located(each, place)
            else:
                yield each
    for row in media.values():
        if not seen[row["filePath"]]:
            found = Found(row["mediaID"], row["filePath"], date=row["timestamp"], place=row.get("deploymentID", ""))
            yield (
                found
                if choices.keep_empty
                else LeftOut(row["mediaID"], "a photograph without an animal (--keep-empty keeps such)")
            )


def _resources(package: Path) -> dict[str, Path]:
    """Return the files of a package's tables by name."""
    content = read_json(package)
    profile = str(content.get("profile", "")) if isinstance(content, dict) else ""
    version = next((part for part in profile.split("/") if part[:1].isdigit()), "")
    if "camtrap-dp" not in profile or version not in VERSIONS:
        raise InputError(
            f"{package}: expected the profile of Camtrap DP {', '.join(VERSIONS)}, found {profile[:99]!r}; older "
            "packages are converted by the R package camtrapdp"
        )
    paths = {str(each.get("name")): str(each.get("path")) for each in content.get("resources", [])}
    if missing := [name for name in ("deployments", "media", "observations") if name not in paths]:
        raise InputError(
            f"{package}: expected the resources deployments, media and observations; missing: {missing[0]}"
        )
    for path in paths.values():
        if ".." in Path(path).parts or Path(path).is_absolute():
            raise InputError(f"{package}: expected tables beside it, found {path[:99]!r}; put them into its folder")
    return {name: package.parent / path for name, path in paths.items()}


class _Events(NamedTuple):
    """What the observations of events need to know."""

    by_deployment: dict[str, list[tuple[float, str]]]
    """Seconds and mediaID of its media, ascending."""
    by_event: dict[str, list[str]]
    """The media of observations that name an eventID too."""
    observed: set[str]
    """The media that have observations of their own."""
    animals: Counter[str]
    """How many observations of animals an event has."""

    def media_of(self, row: dict[str, str]) -> list[str]:
        """Return the media of an event: of the same deployment, between its start and end."""
        start, end = _seconds(row.get("eventStart", "")), _seconds(row.get("eventEnd", ""))
        timed = self.by_deployment.get(row.get("deploymentID", ""), [])
        within = [media_id for seconds, media_id in timed if start <= seconds <= end]  # none where there is no time
        return list(dict.fromkeys([*within, *self.by_event.get(row.get("eventID", ""), [])]))


def _seconds(timestamp: str) -> float:
    """Return a moment in seconds; NaN, which is before and after nothing, where it can't be read."""
    try:
        moment = datetime.fromisoformat(timestamp)
    except ValueError:
        return math.nan
    return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()


def _event(row: dict[str, str]) -> str:
    return row.get("eventID") or "|".join(row.get(name, "") for name in ("deploymentID", "eventStart", "eventEnd"))


def _index(observations: Path, media: dict[str, dict[str, str]]) -> _Events:
    by_deployment: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for media_id, row in media.items():
        by_deployment[row.get("deploymentID", "")].append((_seconds(row["timestamp"]), media_id))
    by_event: dict[str, list[str]] = defaultdict(list)
    observed, animals = set(), Counter[str]()
    for _, row in read_rows(observations, ("observationID", "observationLevel", "observationType")):
        if row["observationType"] == "animal" and row["observationLevel"] == "media":
            observed.add(row.get("mediaID", ""))
            if row.get("eventID"):
                by_event[row["eventID"]].append(row.get("mediaID", ""))
        elif row["observationType"] == "animal":
            animals[_event(row)] += 1
    return _Events(by_deployment, by_event, observed, animals)


def _of_observation(
    where: str, row: dict[str, str], media: dict[str, dict[str, str]], events: _Events
) -> Iterator[Found | LeftOut]:
    if row["observationType"] != "animal":
        yield LeftOut(where, f"an observation of the type {row['observationType'] or '(none)'}")
        return
    if row["observationLevel"] == "media":
        if row.get("mediaID") in media:
            yield _found(where, row, media[row["mediaID"]])
        else:
            yield LeftOut(where, "an observation of a medium that is not in the package")
        return
    photographs = [media_id for media_id in events.media_of(row) if media_id in media]
    if not photographs:
        yield LeftOut(where, "an observation of an event whose media the package does not name")
    elif events.animals[_event(row)] > 1:
        yield LeftOut(where, "an observation of an event with several: which photograph shows which is not said")
    elif unseen := [media_id for media_id in photographs if media_id not in events.observed]:
        yield from (_found(where, row, media[media_id], f"-{media_id}") for media_id in unseen)
    else:
        yield LeftOut(where, "an observation of an event whose media have observations of their own")


def _found(where: str, row: dict[str, str], medium: dict[str, str], more: str = "") -> Found:
    confidence = row.get("classificationProbability", "")
    box = [row.get(name, "") for name in BOX]
    return Found(
        where,
        medium["filePath"],
        key=row["observationID"] + more,
        identity=row.get("individualID", ""),
        date=medium["timestamp"],
        orientation=side[1] if (side := SIDE.match(row.get("observationComments", ""))) else "",
        species=row.get("scientificName", ""),
        place=medium.get("deploymentID", ""),
        encounter=row.get("eventID", ""),
        box=box if any(box) else None,
        layout=SHARES,
        confidence=None,
        more={"mediaID": medium["mediaID"], "classified_by": row.get("classifiedBy", ""), "probability": confidence},
    )


def _located(found: Found, deployment: dict[str, str]) -> Found:
    """Return a row with what its deployment says of the place."""
    more = {name: value for name, value in found.more.items() if name != "mediaID" and value}
    more |= {name: deployment[name] for name in ("latitude", "longitude") if deployment.get(name)}
    return found._replace(
        place=deployment.get("locationName") or deployment.get("locationID") or found.place, more=more
    )
