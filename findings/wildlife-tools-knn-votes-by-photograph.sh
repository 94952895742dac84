#!/usr/bin/env bash
# wildlife-tools 0.0.9, the newest on PyPI in November 2026: KnnClassifier(k) is to name the individual of most of the k
# nearest photographs. It counts photographs, not individuals: each occurs once, which is a tie, and a tie is settled by
# k - 1. So every k answers as k=1 does, and figures for other k are those of k=1. It needs pandas below 3, too: the way in
# which it fills ties in is gone there. In its repository (1.0.3, commit 54449df) it votes by individual.
# Seen, the nearest photograph of Ada, the next three of Bo: "k=1 Ada, k=2 Ada, k=3 Ada, k=4 Ada, k=5 Ada".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check \
  torch==2.14.1 kornia==0.8.3 faiss-cpu==1.15.1 pandas==2.3.3 numpy==2.3.5 tqdm==4.67.1 pyyaml==6.0.3
"$folder/env/bin/pip" install --quiet --disable-pip-version-check --no-deps wildlife-tools==0.0.9
"$folder/env/bin/python" -W ignore - <<'PYTHON'
import sys

import numpy as np
from wildlife_tools.inference import KnnClassifier

similarity = np.array([[0.9, 0.8, 0.79, 0.78, 0.1]])
individuals = np.array(["Ada", "Bo", "Bo", "Bo", "Cy"])
answers = {k: str(KnnClassifier(k=k, database_labels=individuals)(similarity)[0]) for k in range(1, 6)}
print(", ".join(f"k={k} {answer}" for k, answer in answers.items()))
sys.exit("expected the answer of k=1 for every k" if set(answers.values()) != {"Ada"} else 0)
PYTHON
