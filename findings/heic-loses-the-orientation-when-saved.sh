#!/usr/bin/env bash
# pillow-heif 1.8.1 beside Pillow 13.0.0: a photograph that EXIF turns (tag Orientation 6) loses that when it is saved as
# HEIC with its EXIF: the file says 1, and the picture in it is still the lying one. The same call keeps the tag in an
# AVIF and in a JPEG. A folder that was converted to HEIC this way has photographs that lie, and nothing tells which.
# Seen: "JPEG (64, 48) 6", "AVIF (64, 48) 6" and "HEIF (64, 48) 1".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check pillow==13.0.0 pillow-heif==1.8.1
"$folder/env/bin/python" - "$folder" <<'PYTHON'
import sys
from pathlib import Path

import pillow_heif
from PIL import Image

pillow_heif.register_heif_opener()
stored = Image.new("RGB", (64, 48), (0, 0, 255))
stored.paste((255, 0, 0), (0, 0, 64, 24))  # red at the top edge of what is stored
exif = Image.Exif()
exif[274] = 6
camera = Path(sys.argv[1], "camera.jpg")
stored.save(camera, exif=exif)
seen = []
for kind in ("JPEG", "AVIF", "HEIF"):
    path = Path(sys.argv[1], f"converted.{kind.lower()}")
    with Image.open(camera) as photograph:
        photograph.save(path, kind, exif=photograph.getexif())
    with Image.open(path) as converted:
        converted.load()
        red, _, blue = converted.convert("RGB").getpixel((60, 4))
        assert red > 200 and blue < 60, "the picture was turned"
        seen.append(f"{kind} {converted.size} {converted.getexif().get(274)}")
print(*seen, sep="\n")
expected = ["JPEG (64, 48) 6", "AVIF (64, 48) 6", "HEIF (64, 48) 1"]
sys.exit(f"expected {expected}" if seen != expected else 0)
PYTHON
