#!/usr/bin/env bash
# libwebp (in Pillow 13.0.0): a sound lossy WebP whose lower half has one colour may end in thousands of zero bytes, if
# it was written with method 0. So "a compressed file that ends in a long run of zeros was cut off" is wrong
# for WebP, and a flat end of the picture speaks for the file, not against it. The same picture with a textured lower
# half ends in no such run.
# Seen: "flat half: 112,994 bytes, the last 20,614 zeros; textured: 205,348 bytes, the last 3 zeros".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check pillow==13.0.0 numpy==2.4.0
"$folder/env/bin/python" - <<'PYTHON'
import io
import sys

import numpy as np
from PIL import Image


def zeros_at_end(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "WEBP", quality=80, method=0)
    content = file.getvalue()
    assert np.asarray(Image.open(io.BytesIO(content))).shape == pixels.shape
    data = content.rstrip(b"\0")
    return len(content), len(content) - len(data)


textured = np.random.default_rng(0).integers(0, 256, (1200, 1600, 3), dtype=np.uint8)
textured = np.asarray(Image.fromarray(textured).resize((400, 300)).resize((1600, 1200)))
flat = textured.copy()
flat[600:] = 128
(size, zeros), (other_size, other) = zeros_at_end(flat), zeros_at_end(textured)
print(f"flat half: {size:,} bytes, the last {zeros:,} zeros; textured: {other_size:,} bytes, the last {other:,} zeros")
sys.exit("expected more than 256 zeros at the end of the first, fewer than 16 of the second" if zeros <= 256 or other >= 16 else 0)
PYTHON
