#!/usr/bin/env bash
# safetensors 0.6.2: the same tensors with the same metadata of several entries become other bytes from one call to the
# next, within one process too, because the entries have no order. With one entry the bytes are the same. So a checksum of
# a weights file says nothing unless all its metadata stands in one entry.
# Seen: "one entry: 1 different file of 20" and "five entries: several different files of 20".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check safetensors==0.6.2 numpy==2.3.5
"$folder/env/bin/python" - <<'PYTHON'
import sys

import numpy as np
from safetensors.numpy import save


def different(count: int) -> int:
    metadata = {f"entry {place}": str(place) for place in range(count)}
    return len({save({"weights": np.zeros(3)}, metadata=metadata) for _ in range(20)})


one, five = different(1), different(5)
print(f"one entry: {one} different file of 20")
print(f"five entries: {'several' if five > 1 else five} different files of 20")
sys.exit("expected 1, and several" if one != 1 or five == 1 else 0)
PYTHON
