#!/usr/bin/env bash
# Pillow 13.0.0: a TIFF with the tag Orientation is turned by Pillow itself, in load(). Before it, `size` is already that
# of the upright picture, and getexif() still says 6; after it, the pixels are turned and the tag is gone. A JPEG with
# the same tag is not turned. So the usual order (read the tag, load, turn by the tag) turns every such TIFF twice.
# Seen: "TIFF (32, 48) 6 -> (32, 48) None upright" and "JPEG (48, 32) 6 -> (48, 32) 6 lying".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check pillow==13.0.0
"$folder/env/bin/python" - "$folder" <<'PYTHON'
import sys
from pathlib import Path

from PIL import Image

# Upright it is 32 wide and 48 high, red above, blue below; stored lying, as a camera held on its side stores it.
upright = Image.new("RGB", (32, 48), (0, 0, 255))
upright.paste((255, 0, 0), (0, 0, 32, 24))
stored = upright.transpose(Image.Transpose.ROTATE_90)
exif = Image.Exif()
exif[274] = 6
seen = []
for kind in ("TIFF", "JPEG"):
    path = Path(sys.argv[1], kind)
    stored.save(path, kind, exif=exif)
    with Image.open(path) as image:
        before, tag = image.size, image.getexif().get(274)
        image.load()
        after, left = image.size, image.getexif().get(274)
        red, _, blue = image.convert("RGB").getpixel((after[0] // 2, 4))
    seen.append(f"{kind} {before} {tag} -> {after} {left} {'upright' if red > 200 and blue < 60 and after == (32, 48) else 'lying'}")
print(*seen, sep="\n")
expected = ["TIFF (32, 48) 6 -> (32, 48) None upright", "JPEG (48, 32) 6 -> (48, 32) 6 lying"]
sys.exit(f"expected {expected}" if seen != expected else 0)
PYTHON
