"""Does the input keep up? A training step fed as `reid train` feeds it, against the same step on resident tensors.

Photographs are decoded in the training's store; batches of P 16 x K 4 are read, augmented and handed over while the
network learns from the batch before. The limit is the same network learning from batches that are on the device
already. The third peer draws batches and does nothing else: a faster device than that would have to wait.
"""

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from harness import Contest, NotHereError, Options
from predict import write_world

from reid.config.presets import PRESETS
from reid.config.settings import with_settings
from reid.data.catalogue import read_catalogue
from reid.data.store import decode_photographs
from reid.models.networks import best_device
from reid.models.pretrained import describe_backbone
from reid.training.networks import resolve_defaults
from reid.training.objective import Labels
from reid.training.state import TrainState
from reid.training.tasks import RunContext, TrainingTask, encoder_task

DATASET = "Species0"

PHOTOGRAPHS = {"cpu": 40, "cuda": 4_000}
"""In the store: steps of a GPU are so short that an epoch needs many, or its start would be all that is measured."""


def contests(options: Options) -> Iterator[Contest]:
    """One backbone after the other, at 224 pixels."""
    files = sorted(options.photographs.glob("*.jp*g"))
    if not files:
        raise NotHereError(f"expected JPEGs in {options.photographs}, found none; name a folder with --photos")
    with tempfile.TemporaryDirectory(prefix="reid-bench-") as scratch:
        write_world(Path(scratch) / "data", files, queries=0, gallery=PHOTOGRAPHS[best_device().type])
        database = read_catalogue(Path(scratch) / "data").database
        for backbone in ("resnet18",) if options.quick else ("resnet18", "resnet50"):
            known = describe_backbone(backbone)
            recipe = resolve_defaults(with_settings(PRESETS["paper"], {"backbone.name": backbone}), known)
            store = decode_photographs(database, recipe, Path(scratch))
            readable = np.ones(len(database), bool)
            run = RunContext(database, store, readable, recipe, known, "none", Path(scratch), record={})
            yield contest(encoder_task(f"{DATASET}.safetensors", [DATASET], run), run)


def contest(task: TrainingTask, run: RunContext) -> Contest:
    """An epoch of the sampler, fed and resident."""
    device = best_device()
    state = TrainState.start(task.start().to(device), task.objective, run.recipe, steps=1_000_000)
    state.train()
    labels = Labels(*(each.to(device) for each in task.labels))
    draw = partial(task.inputs.draw, task.sampler, device)
    resident = list(draw())

    def learn_from(batches: Iterator[tuple[torch.Tensor, torch.Tensor]]) -> None:
        for inputs, places in batches:
            state.learn(inputs, labels.at(places))

    photographs, backbone = sum(len(places) for _, places in resident), run.recipe.backbone
    return Contest(
        size=sum(parameter.numel() for parameter in state.network.parameters()),
        label=f"{photographs} photographs through {backbone.name} at {backbone.image_size}, on the {device}",
        peers={
            "reid: read, augmented, learned": lambda: learn_from(draw()),
            "limit: learned from resident tensors": lambda: learn_from(iter(resident)),
            "inputs alone: read, augmented": lambda: sum(1 for _ in draw()),
        },
        reference="limit: learned from resident tensors",
        items=photographs,
        on_gpu=device.type == "cuda",
    )
