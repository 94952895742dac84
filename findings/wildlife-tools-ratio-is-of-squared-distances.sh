#!/usr/bin/env bash
# wildlife-tools 0.0.9, the newest on PyPI in November 2026: MatchDescriptors counts the descriptors that pass Lowe's ratio
# test at some thresholds. faiss, which finds the neighbours, returns squared distances, and these are what is divided: a
# threshold of 0.64 there is 0.8 elsewhere, its default of 0.5 is 0.71, and counts do not compare with those of OpenCV's
# usual recipe. Its repository (1.0.3, commit 54449df) does not have this class any more.
# Seen, neighbours at 1.0 and 1.25, a ratio of 0.8: "counted at 0.6: 0, at 0.7: 1, at 0.79: 1".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check \
  torch==2.14.1 kornia==0.8.3 faiss-cpu==1.15.1 pandas==2.3.3 numpy==2.3.5 tqdm==4.67.1 pyyaml==6.0.3
"$folder/env/bin/pip" install --quiet --disable-pip-version-check --no-deps wildlife-tools==0.0.9
"$folder/env/bin/python" -W ignore - 2> "$folder/progress" <<'PYTHON' || { cat "$folder/progress" >&2; exit 1; }
import sys

import numpy as np
from wildlife_tools.similarity import MatchDescriptors

query = np.zeros((2, 128), np.float32)
query[0, 0], query[1, 1] = 1.0, 1.25
database = np.zeros((1, 128), np.float32)
thresholds = (0.6, 0.7, 0.79)
counts = MatchDescriptors(128, thresholds=thresholds)([query], [database])
found = [int(counts[threshold][0, 0]) for threshold in thresholds]
print("counted " + ", ".join(f"at {threshold}: {count}" for threshold, count in zip(thresholds, found, strict=True)))
sys.exit("expected 0, 1, 1" if found != [0, 1, 1] else 0)
PYTHON
