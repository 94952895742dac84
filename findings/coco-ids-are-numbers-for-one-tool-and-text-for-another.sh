#!/usr/bin/env bash
# pycocotools 2.0.11 takes an id that is a text for a list of ids, one per character; the check of COCO Camera Traps in
# megadetector-utils 10.0.28 refuses ids that are numbers. So no file goes with both: `reid export coco` writes numbers.
# Seen: "text: pycocotools KeyError, megadetector ok" and "numbers: pycocotools ok, megadetector AssertionError".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check pycocotools==2.0.11 megadetector-utils==10.0.28
"$folder/env/bin/python" - "$folder" 2> "$folder/log" <<'PYTHON' || { cat "$folder/log" >&2; exit 1; }
import contextlib
import io
import json
import sys
from pathlib import Path

from megadetector.data_management.integrity_check_json_db import integrity_check_json_db
from pycocotools.coco import COCO


def tried(call):
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            call()
    except Exception as problem:
        return type(problem).__name__
    return "ok"


seen = []
for kind, image, box in (("text", "image1", "box1"), ("numbers", 1, 1)):
    path = Path(sys.argv[1], f"{kind}.json")
    annotation = {"id": box, "image_id": image, "category_id": 1, "bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0}
    images = [{"id": image, "file_name": "1.jpg", "width": 9, "height": 9, "location": "ridge"}]
    categories = [{"id": 1, "name": "lynx"}]
    content = {"info": {"version": "1"}, "images": images, "annotations": [annotation], "categories": categories}
    path.write_text(json.dumps(content))
    coco = tried(lambda: COCO(str(path)).loadAnns(box))
    seen.append(f"{kind}: pycocotools {coco}, megadetector {tried(lambda: integrity_check_json_db(str(path)))}")
print(*seen, sep="\n")
expected = ["text: pycocotools KeyError, megadetector ok", "numbers: pycocotools ok, megadetector AssertionError"]
sys.exit(f"expected {expected}" if seen != expected else 0)
PYTHON
