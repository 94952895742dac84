"""Section "How it was made": recipe, versions, data, wall times and checksums."""

from collections.abc import Mapping
from typing import Any

from reid import __version__
from reid.config.presets import PRESETS
from reid.config.recipe import Recipe, settings_of
from reid.data.catalogue import Catalogue
from reid.decision.artifact import Weights

__all__ = ["origin_section"]


def origin_section(catalogue: Catalogue, weights: Weights, route: str, seconds: Mapping[str, float]) -> dict[str, Any]:
    """Return what the section shows.

    Args:
        catalogue: the data folder, to tell whether the weights were made from it.
        weights: the weights folder.
        route: how each query's dataset was chosen.
        seconds: wall time by stage.
    """
    manifest = weights.manifest
    return {
        "name": weights.recipe.name,
        "route": route,
        "versions": {"reid (this page)": __version__}
        | {f"{package} (weights)": manifest.get(package, "unknown") for package in ("reid", "torch", "timm")},
        "recipe": _recipe_rows(weights.recipe),
        "data": manifest["data"],
        "same_data": manifest["data"] == catalogue.database.fingerprint,
        "files": dict(manifest["files"]),
        "seconds": dict(seconds),
    }


def _recipe_rows(recipe: Recipe) -> list[tuple[str, str, bool]]:
    """Return name, value, and whether it differs from the preset, of every setting that the recipe uses."""
    preset = PRESETS.get(recipe.name, Recipe())
    pairs = zip(settings_of(recipe), settings_of(preset), strict=True)
    return [
        (name, _text(value), value != preset_value)
        for (name, value, *_), (_, preset_value, *_) in pairs
        if name in recipe.used
    ]


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)
