"""A local feature as a weights folder names it."""

from pathlib import Path
from typing import NamedTuple

__all__ = ["LocalFeature"]


class LocalFeature(NamedTuple):
    """A local feature of a weights folder."""

    name: str
    """As `keypoints.extractor` names it."""
    weights: Path | None
    """Their file; None where it needs none."""
