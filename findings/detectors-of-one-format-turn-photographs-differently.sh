#!/usr/bin/env bash
# megadetector-utils 10.0.28, speciesnet 5.0.6, animl 3.0.1, PytorchWildlife 1.3.0, Pillow 12: all four write, or are
# converted into, MegaDetector's results, with boxes in shares of the photograph. Which photograph that is differs. Of the
# eight EXIF orientations SpeciesNet applies all before it looks for animals, MegaDetector those that turn and none that
# mirror, animl and PytorchWildlife none. A box of the last two on an upright photograph of a telephone belongs to the
# picture as it is stored, lying on its side; nothing in the file says so.
# Seen: "MegaDetector 1 3 6 8", "SpeciesNet 1 2 3 4 5 6 7 8", "animl 1", "PytorchWildlife 1".
# Takes some minutes and 6 GB: two of them load torch.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check megadetector-utils==10.0.28 speciesnet==5.0.6 \
  animl==3.0.1 PytorchWildlife==1.3.0 soundfile==0.14.0 librosa==0.11.0 pillow==12.3.0
export HOME="$folder" YOLO_CONFIG_DIR="$folder"
"$folder/env/bin/python" - "$folder" 2> "$folder/log" <<'PYTHON' || { cat "$folder/log" >&2; exit 1; }
import sys
from pathlib import Path

import numpy as np
from animl.generator import image_to_tensor
from megadetector.visualization.visualization_utils import load_image
from PIL import Image, ImageOps
from PytorchWildlife.data.datasets import DetectionImageFolder
from speciesnet.utils import load_rgb_image

photographs = Path(sys.argv[1]) / "photographs"
photographs.mkdir()
stored = np.zeros((64, 64), np.uint8)
stored[:32, :16] = 255  # no turn and no mirror leaves this as it is
for orientation in range(1, 9):
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(stored).convert("RGB").save(photographs / f"{orientation}.jpg", exif=exif, quality=95)


def bright(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture.convert("L")) > 128


def by_animl(path: str) -> Image.Image:
    tensor = image_to_tensor(path, letterbox=False, resize_width=64, resize_height=64)[0]
    return Image.fromarray((tensor.squeeze(0).permute(1, 2, 0).numpy() * 255).astype(np.uint8))


def by_pytorch_wildlife(path: str) -> Image.Image:
    dataset = DetectionImageFolder(str(photographs), transform=lambda picture: picture)
    place = next(place for place, name in enumerate(dataset.images) if Path(name).name == Path(path).name)
    picture = dataset[place][0]
    return picture if isinstance(picture, Image.Image) else Image.fromarray(np.asarray(picture))


loaders = {
    "MegaDetector": load_image,
    "SpeciesNet": load_rgb_image,
    "animl": by_animl,
    "PytorchWildlife": by_pytorch_wildlife,
}
seen = {}
for name, load in loaders.items():
    paths = {orientation: photographs / f"{orientation}.jpg" for orientation in range(1, 9)}
    upright = {o: bright(ImageOps.exif_transpose(Image.open(path))) for o, path in paths.items()}
    seen[name] = [o for o, path in paths.items() if (bright(load(str(path))) == upright[o]).mean() > 0.98]
    print(name, *seen[name])
expected = {"MegaDetector": [1, 3, 6, 8], "SpeciesNet": list(range(1, 9)), "animl": [1], "PytorchWildlife": [1]}
sys.exit("expected other orientations" if seen != expected else 0)
PYTHON
