"""COCO with identities: `individual_id` in the annotations.

Boxes are x,y,w,h in pixels of the picture as a viewer shows it, and so are width and height.
"""

from pathlib import Path
from typing import Any

import reid
from reid.data.boxes import read_box
from reid.formats.boxed import sizes_of
from reid.formats.boxes import as_unit
from reid.formats.export_choices import ExportChoices, Exported
from reid.formats.named import Named
from reid.runtime.files import refuse_unwritable, write_json

__all__ = ["write"]


def write(named: Named, out: Path, choices: ExportChoices) -> Exported:
    """Write one JSON file; photographs that can't be opened, whose size it needs, are left out."""
    refuse_unwritable(out)
    table, left_out = named.table, 0
    paths = dict.fromkeys(table["path"])
    frames = sizes_of(paths, {path: named.catalogue.root / path for path in paths})
    categories = {name: place for place, name in enumerate(dict.fromkeys(table["species"]), 1)}
    images: dict[str, dict[str, Any]] = {}
    annotations: list[dict[str, Any]] = []
    for row in table.to_dict("records"):
        frame = frames[row["path"]]
        if frame is None:
            left_out += 1
            continue
        width, height = frame.upright
        image = images.setdefault(
            row["path"], {"id": len(images) + 1, "file_name": row["path"], "width": width, "height": height}
        )
        image |= {theirs: row[ours] for ours, theirs in _IMAGE.items() if row.get(ours)}
        box = read_box(row["bbox"])
        upright = as_unit(box, row["bbox_unit"], "pixels", frame) if box else (0.0, 0.0, float(width), float(height))
        annotation = {
            "id": len(annotations) + 1,
            "image_id": image["id"],
            "category_id": categories[row["species"]],
            "iscrowd": 0,
            "bbox": [round(number, 2) for number in upright],
            "area": round(upright[2] * upright[3], 2),
            "whole_photograph": box is None,
            "individual_id": row["name"],
            "method": row["method"],
            "confirmed": bool(row["confirmed"]),
            **{theirs: row[ours] for ours, theirs in _ANNOTATION.items() if row.get(ours)},
        }
        if row["probability"] == row["probability"]:  # not NaN
            annotation["probability"] = float(row["probability"])
        annotations.append(annotation)
    content = {
        "info": {
            "description": "individual animals; boxes are of the picture as a viewer shows it, after EXIF rotation",
            "contributor": choices.contributor,
            "version": f"wildlife-reid-kit {reid.__version__}",
        },
        "images": list(images.values()),
        "annotations": annotations,
        "categories": [{"id": place, "name": name or "animal"} for name, place in categories.items()],
    }
    write_json(out, content)
    told = (
        [f"{left_out} rows were left out: their photographs can't be opened, and COCO needs their size"]
        if left_out
        else []
    )
    return Exported([out], len(annotations), told)


_IMAGE = {
    "date": "date_captured",
    "place": "location",
    "encounter": "seq_id",
    "latitude": "latitude",
    "longitude": "longitude",
}

_ANNOTATION = {
    "image_id": "uuid",
    "orientation": "viewpoint",
    "dataset": "dataset",
    "split": "split",
    "confirmed_by": "confirmed_by",
}
