#!/usr/bin/env bash
# torch 2.14.1: the device "meta" is for networks of which only the shapes matter, such as to read weights into them or to
# ask what they would return. normal_(), * or the pass of a batch norm there imports PyTorch's compiler, which
# nothing else of making, loading or running a network needs: about a second at every start. Making a convolution or a
# linear layer, whose weights are drawn by uniform_(), doesn't, but most of timm's backbones draw theirs by normal_().
# Seen, modules of torch._dynamo that are loaded: "processor 0, convolution on meta 0, normal_ on meta 95".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 numpy==2.3.5
"$folder/env/bin/python" -W ignore - <<'PYTHON'
import sys

import torch
from torch import nn


def compiler() -> int:
    return sum(name.startswith("torch._dynamo") for name in sys.modules)


network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
nn.init.normal_(network[0].weight)
network.eval()(torch.zeros(1, 3, 9, 9))
found = [compiler()]
with torch.device("meta"):
    convolution = nn.Conv2d(3, 8, 3)
    found.append(compiler())
    nn.init.normal_(convolution.weight)
    found.append(compiler())
print("processor {}, convolution on meta {}, normal_ on meta {}".format(*found))
sys.exit(0 if found[:2] == [0, 0] and found[2] > 50 else "expected the compiler after normal_ on meta alone")
PYTHON
