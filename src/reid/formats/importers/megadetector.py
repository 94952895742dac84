"""MegaDetector's results, JSON of the format versions 1.0 to 1.6, and what PytorchWildlife writes.

- MegaDetector and PytorchWildlife's writer for Timelapse: `images`, each with `file` and `detections`, whose `bbox` is
  x,y,w,h in shares of the photograph. animl's export of this kind says version 3.0.
- PytorchWildlife's other writers: `annotations`, each with `img_id` and lists of boxes, x1,y1,x2,y2 in pixels.

They turn photographs differently before they look for animals (findings/): MegaDetector applies the EXIF orientations
that turn and none that mirror, SpeciesNet all, PytorchWildlife and animl none.

Lists are read one item at a time: MegaDetector writes its categories behind the photographs, so the file is read twice.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from reid.errors import InputError
from reid.formats.found import CORNERS, EVERY_TURN, NO_TURN, SHARES, Choices, Found, LeftOut
from reid.formats.json_stream import read_items, read_members

__all__ = ["read"]

VERSIONS = ("1.0", "1.1", "1.2", "1.3", "1.4", "1.5", "1.6", "3.0")

NOT_ANIMALS = ("person", "human", "vehicle", "empty", "blank")
"""Categories that are no animal's; any other is taken for one, because detectors of single species have their own."""

ANIMAL = "animal"

MEGADETECTOR_TURNS = frozenset({1, 3, 6, 8})

FROM_SPECIESNET = "converted_from_predictions_json"
"""What MegaDetector's tools write as the detector where they convert SpeciesNet's results."""


def read(source: Path, choices: Choices) -> Iterator[Found | LeftOut]:
    """Yield the detections of a file of either family."""
    head = read_members(source, skip=("images", "annotations"))
    if "images" in head:
        _refuse_other_version(source, head)
        for where, image in read_items(source, "images"):
            yield from _of_image(where, image, head, choices)
    elif "annotations" in head:
        for where, annotation in read_items(source, "annotations"):
            yield from _of_annotation(where, annotation, head, choices)
    else:
        raise InputError(
            f"{source}: expected MegaDetector's member images, or PytorchWildlife's annotations; found "
            f"{', '.join(map(str, head))[:200] or 'none'}; name a results file of one of them"
        )


def _refuse_other_version(source: Path, head: dict[str, Any]) -> None:
    info = head.get("info")
    version = info.get("format_version") if isinstance(info, dict) else None
    if version is not None and str(version) not in VERSIONS:  # PytorchWildlife writes none
        raise InputError(
            f"{source}: expected the format versions {', '.join(VERSIONS)}, found {str(version)[:99]!r}; update the "
            "kit, or write the results in one of these"
        )
    if not isinstance(head.get("detection_categories"), dict):
        raise InputError(
            f"{source}: expected detection_categories, the names of the categories, found none; a COCO file is read "
            "with `reid import coco`"
        )


def _of_image(where: str, image: Any, head: dict[str, Any], choices: Choices) -> Iterator[Found | LeftOut]:
    if not isinstance(image, dict) or not isinstance(image.get("file"), str):
        yield LeftOut(where, "an entry without a file's name")
        return
    date = str(image.get("datetime") or "")
    photograph = Found(where, image["file"], date=date, layout=SHARES, turned=_turned(head))
    detections = image.get("detections")
    if image.get("failure"):
        yield LeftOut(where, f"a photograph that the detector failed on ({str(image['failure'])[:60]})")
        return
    if not isinstance(detections, list):
        yield LeftOut(where, "a photograph without a list of detections")
        return
    rows = [
        _of_detection(f"{where}.detections[{place}]", each, photograph, head) for place, each in enumerate(detections)
    ]
    yield from confident(rows, photograph, choices)


def _turned(head: dict[str, Any]) -> frozenset[int]:
    """Return the EXIF orientations that the writer of a file applies; PytorchWildlife writes no version."""
    said = head.get("info")
    info = said if isinstance(said, dict) else {}
    if str(info.get("format_version", "3.0")) == "3.0":
        return NO_TURN
    return EVERY_TURN if info.get("detector") == FROM_SPECIESNET else MEGADETECTOR_TURNS


def _of_detection(where: str, detection: Any, photograph: Found, head: dict[str, Any]) -> Found | LeftOut:
    if not isinstance(detection, dict):
        return LeftOut(where, "a detection that is no object")
    if "frame_number" in detection:
        return LeftOut(where, "a detection in a video")
    category = _name(head["detection_categories"], detection.get("category"))
    if category.casefold() in NOT_ANIMALS:
        return LeftOut(where, f"a detection of the category {category}")
    species = "" if category.casefold() == ANIMAL else category
    classifications = detection.get("classifications")
    if isinstance(classifications, list) and classifications:
        best = max(classifications, key=lambda pair: _number(pair[1]) or 0.0)
        species = _name(head.get("classification_categories"), best[0])
    return photograph._replace(
        where=where, box=detection.get("bbox", "missing"), confidence=_number(detection.get("conf")), species=species
    )


def confident(rows: Iterable[Found | LeftOut], photograph: Found, choices: Choices) -> Iterator[Found | LeftOut]:
    """Yield a photograph's detections that are confident enough; the photograph itself, or that it is empty, where none
    is."""
    animals, person_or_vehicle = 0, 0
    for row in rows:
        if isinstance(row, LeftOut):
            person_or_vehicle += 1
        elif choices.min_confidence is not None and (row.confidence or 0.0) < choices.min_confidence:
            row = LeftOut(row.where, "a detection below --min-confidence")
        else:
            animals += 1
        yield row
    if not animals:
        yield (
            photograph
            if choices.keep_empty
            else LeftOut(photograph.where, "a photograph without an animal (--keep-empty keeps such)")
        )


def _of_annotation(where: str, annotation: Any, head: dict[str, Any], choices: Choices) -> Iterator[Found | LeftOut]:
    if not isinstance(annotation, dict) or not isinstance(annotation.get("img_id"), str):
        yield LeftOut(where, "an entry without a file's name")
        return
    photograph = Found(where, annotation["img_id"], layout=CORNERS, turned=NO_TURN)
    boxes = annotation.get("bbox")
    categories = annotation.get("category", annotation.get("det_category"))
    confidences = annotation.get("confidence", annotation.get("det_confidence"))
    lists = [each for each in (boxes, categories, confidences) if isinstance(each, list)]
    if len(lists) < 3 or len(set(map(len, lists))) > 1:
        yield LeftOut(where, "an entry whose lists of boxes, categories and confidences differ in length")
        return
    names, species = head.get("categories", head.get("det_categories")), _species_of(annotation, head, len(lists[0]))
    rows: list[Found | LeftOut] = []
    for place, (box, category, confidence) in enumerate(zip(*lists, strict=True)):
        at, name = f"{where}.bbox[{place}]", _name(names, category)
        if name.casefold() in NOT_ANIMALS:
            rows.append(LeftOut(at, f"a detection of the category {name}"))
        else:
            rows.append(photograph._replace(where=at, box=box, confidence=_number(confidence), species=species[place]))
    yield from confident(rows, photograph, choices)


def _species_of(annotation: dict[str, Any], head: dict[str, Any], boxes: int) -> list[str]:
    """Return the classifier's word for each box; the writer leaves boxes out that it did not classify, and then says
    not which."""
    classes = annotation.get("clf_category")
    if not isinstance(classes, list) or len(classes) != boxes:
        return [""] * boxes
    return [_name(head.get("clf_categories"), each) for each in classes]


def _name(categories: Any, category: Any) -> str:
    """Return what a category is called; categories are an object, a list, or not there."""
    if isinstance(categories, dict):
        return str(categories.get(str(category), category))
    if isinstance(categories, list) and isinstance(category, int) and 0 <= category < len(categories):
        return str(categories[category])
    return "" if category is None else str(category)


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
