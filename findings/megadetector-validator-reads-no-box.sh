#!/usr/bin/env bash
# megadetector-utils 10.0.28, validate_batch_results: the validator of MegaDetector's format looks at no number of a box.
# Boxes in pixels, and boxes of three numbers, pass without error or warning; a confidence of 1 written as a whole
# number, which other detectors' writers do, is an error. A file that passes may still hold boxes that mean nothing.
# Seen: "shares [] []", "pixels [] []", "three numbers [] []" and "a confidence of 1: an error".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check megadetector-utils==10.0.28
"$folder/env/bin/python" - 2> "$folder/log" <<'PYTHON' || { cat "$folder/log" >&2; exit 1; }
import sys

from megadetector.postprocessing.validate_batch_results import validate_batch_results


def outcome(box: list, confidence: float) -> tuple[list, list]:
    results = {
        "info": {"format_version": "1.5", "detector": "any"},
        "detection_categories": {"1": "animal"},
        "images": [{"file": "a.jpg", "detections": [{"category": "1", "conf": confidence, "bbox": box}]}],
    }
    found = validate_batch_results(results)["validation_results"]
    return found["errors"], found["warnings"]


boxes = {"shares": [0.1, 0.2, 0.3, 0.4], "pixels": [120, 80, 640, 480], "three numbers": [0.1, 0.2, 0.3]}
seen = {name: outcome(box, 0.9) for name, box in boxes.items()}
errors, _ = outcome(boxes["shares"], 1)
for name, (faults, warnings) in seen.items():
    print(name, faults, warnings)
print(f"a confidence of 1: {'an error' if errors else 'no error'}")
sys.exit("expected no word about boxes, and an error" if any(map(any, seen.values())) or not errors else 0)
PYTHON
