#!/usr/bin/env bash
# pycocotools 2.0.11 with the ids of COCO Camera Traps, which are texts: a text given to getAnnIds or loadImgs is read
# letter by letter, because it has a length as a list has. getAnnIds("12") gives the annotations of the images "1" and
# "2", and none of "12", without a word. loadImgs("12") gives their two records. A list around the id gives the right one.
# Seen: "getAnnIds('12') ['of 1', 'of 2']", "getAnnIds(['12']) ['of 12']" and "loadImgs('12') ['1', '2']".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check pycocotools==2.0.11 numpy==2.3.5
"$folder/env/bin/python" - "$folder/table.json" <<'PYTHON'
import contextlib
import io
import json
import sys
from pathlib import Path

from pycocotools.coco import COCO

ids = ("1", "2", "12")
Path(sys.argv[1]).write_text(
    json.dumps(
        {
            "images": [{"id": one, "file_name": f"{one}.jpg"} for one in ids],
            "annotations": [
                {"id": f"of {one}", "image_id": one, "category_id": 1, "bbox": [0, 0, 8, 8], "area": 64, "iscrowd": 0}
                for one in ids
            ],
            "categories": [{"id": 1, "name": "lynx"}],
        }
    )
)
with contextlib.redirect_stdout(io.StringIO()):
    table = COCO(sys.argv[1])
seen = [
    f"getAnnIds('12') {table.getAnnIds('12')}",
    f"getAnnIds(['12']) {table.getAnnIds(['12'])}",
    f"loadImgs('12') {[image['id'] for image in table.loadImgs('12')]}",
]
print(*seen, sep="\n")
expected = ["getAnnIds('12') ['of 1', 'of 2']", "getAnnIds(['12']) ['of 12']", "loadImgs('12') ['1', '2']"]
sys.exit(f"expected {expected}" if seen != expected else 0)
PYTHON
