"""A local feature as a weights folder names it."""

from pathlib import Path
from typing import NamedTuple

from reid.config.recipe import LIGHTGLUE, LIGHTGLUE_EXTRACTORS, MatchingConfig

__all__ = ["MATCHER", "LocalFeature", "matcher_file"]

MATCHER = ".matcher.safetensors"
"""How the names of the files of networks that match keypoints end; without LightGlue there is none."""


class LocalFeature(NamedTuple):
    """A local feature of a weights folder."""

    name: str
    """As `keypoints.extractor` names it."""
    weights: Path | None
    """Their file; None where it needs none."""


def matcher_file(matching: MatchingConfig, extractor: str) -> str:
    """Return the name of the file with the weights of what matches a local feature; "" where it needs none."""
    learned = matching.verifier == LIGHTGLUE and extractor in LIGHTGLUE_EXTRACTORS
    return f"{LIGHTGLUE}-{extractor}{MATCHER}" if learned else ""
