"""COCO, COCO Camera Traps, and the COCO of Wild Me on LILA: boxes x,y,w,h in pixels, `theta` in radians.

The individual stands in an annotation's `individual_id`, `identity`, `individual` or `name`.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reid.errors import InputError
from reid.formats.found import PIXELS, Choices, Found, LeftOut
from reid.formats.json_stream import read_items, read_members

__all__ = ["read"]

IDENTITY = ("individual_id", "identity", "individual", "name", "individual_ids")
SIDE = ("viewpoint", "orientation", "side")
DATE = ("datetime", "date_captured", "date")
NOT_ANIMALS = ("empty", "blank", "person", "human", "vehicle")
"""Categories that are no animal's; those of MegaDetector are among them, whose results its tools convert to COCO."""

NO_WORD = ("", "na", "none", "null", "____")
"""Cells that stand for nothing; Wild Me writes ____ for an animal that nobody has named."""


def read(source: Path, choices: Choices) -> Iterator[Found | LeftOut]:
    """Yield the annotations of a file, and the photographs without one."""
    head = read_members(source, skip=("images", "annotations"))
    if missing := [name for name in ("images", "annotations") if name not in head]:
        raise InputError(
            f"{source}: expected COCO's images and annotations, found {', '.join(map(str, head))[:200]}; missing: "
            f"{', '.join(missing)}. MegaDetector's results are read with `reid import megadetector`"
        )
    categories = {each["id"]: str(each.get("name", "")) for each in _objects(head.get("categories")) if "id" in each}
    images = {}
    for where, image in read_items(source, "images"):
        if not isinstance(image, dict) or "id" not in image or not isinstance(image.get("file_name"), str):
            yield LeftOut(where, "an image without id and file_name")
        else:
            images[str(image["id"])] = _of_image(where, image)
    seen: Counter[str] = Counter()
    for where, annotation in read_items(source, "annotations"):
        image_id = str(annotation.get("image_id")) if isinstance(annotation, dict) else ""
        if image_id not in images:
            yield LeftOut(where, "an annotation of an image that is not in the file")
            continue
        row = _of_annotation(where, annotation, images[image_id], categories, choices)
        seen[image_id] += isinstance(row, Found)
        yield row
    for image_id, photograph in images.items():
        if not seen[image_id]:
            yield (
                photograph
                if choices.keep_empty
                else LeftOut(photograph.where, "a photograph without an animal (--keep-empty keeps such)")
            )


def _objects(value: Any) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _of_image(where: str, image: dict[str, Any]) -> Found:
    width, height = image.get("width"), image.get("height")
    sized = isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0
    return Found(
        where,
        image["file_name"],
        date=_first(image, DATE),
        place=_first(image, ("location",)),
        encounter=_first(image, ("seq_id", "occurrence_uuid", "encounter")),
        layout=PIXELS,
        more={
            name: str(image[name]) for name in ("latitude", "longitude") if isinstance(image.get(name), (str, float))
        },
        size=(width, height) if sized and isinstance(width, int) and isinstance(height, int) else None,
    )


def _of_annotation(
    where: str, annotation: dict[str, Any], photograph: Found, categories: dict[Any, str], choices: Choices
) -> Found | LeftOut:
    category = categories.get(annotation.get("category_id"), "")
    if category.casefold() in NOT_ANIMALS:
        return LeftOut(where, f"an annotation of the category {category}")
    score = annotation.get("score")
    confidence = float(score) if isinstance(score, (int, float)) else None
    if confidence is not None and choices.min_confidence is not None and confidence < choices.min_confidence:
        return LeftOut(where, "a detection below --min-confidence")
    angle = annotation.get("theta")
    return photograph._replace(
        where=where,
        key=_first(annotation, ("uuid", "id")),
        identity=_first(annotation, IDENTITY),
        orientation=_first(annotation, SIDE),
        species="" if category.casefold() == "animal" else category,
        confidence=confidence,
        date=_first(annotation, DATE) or photograph.date,
        split=_first(annotation, ("split",)) if annotation.get("split") in ("database", "query") else "",
        dataset=_first(annotation, ("dataset",)),
        box=None if annotation.get("whole_photograph") is True else annotation.get("bbox") or None,
        angle=float(angle) if isinstance(angle, (int, float)) else 0.0,
    )


def _first(item: dict[str, Any], names: tuple[str, ...]) -> str:
    """Return the first of these members that says something."""
    for name in names:
        value = item.get(name)
        value = value[0] if isinstance(value, list) and len(value) == 1 else value
        if isinstance(value, (str, int)) and str(value).strip().casefold() not in NO_WORD:
            return str(value)
    return ""
