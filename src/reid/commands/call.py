"""What several commands make of their call before they start: recipe, runtime, files that must not be overwritten."""

import argparse
import logging
from dataclasses import fields, replace
from pathlib import Path

from reid.config import settings
from reid.config.recipe import Recipe
from reid.config.runtime import Runtime
from reid.config.settings import override, override_runtime, unused_settings, with_settings
from reid.data.catalogue import Catalogue
from reid.data.table_warnings import find_date_warnings
from reid.decision.artifact import Weights
from reid.decision.metrics import SUBMISSION_COLUMNS
from reid.errors import InputError
from reid.runtime.files import is_file

__all__ = [
    "recipe_of",
    "recipe_of_answers",
    "refuse_file",
    "refuse_input",
    "runtime_of",
    "warn_of_dates",
    "warn_of_unused",
]

log = logging.getLogger(__name__)


def recipe_of(weights: Weights, options: argparse.Namespace, only: tuple[str, ...]) -> tuple[Recipe, Runtime]:
    """Return the weights' recipe with what a command may change in it, and how this machine is to work."""
    from reid.models.networks import check_device

    runtime, changes = runtime_of(options, weights.precision)
    check_device(runtime)
    recipe = override(weights.recipe, changes, only=only)
    warn_of_unused(recipe, changes)
    return recipe, runtime


def recipe_of_answers(options: argparse.Namespace, weights: Weights) -> tuple[Recipe, Runtime]:
    """Return the weights' recipe with what `predict` and `report` may change in it, and how this machine is to work."""
    recipe, runtime = recipe_of(weights, options, settings.PREDICTION)
    return with_settings(recipe, {"prediction.route": options.route or recipe.prediction.route}), runtime


def runtime_of(options: argparse.Namespace, precision: str) -> tuple[Runtime, list[str]]:
    """Return how this machine is to work, and those `--set` that are about the recipe.

    Args:
        options: the call's; options such as `--device` count more than `--set device=...`, the spelling of 0.1.0.
        precision: where the call names none.
    """
    runtime, changes = override_runtime(Runtime(precision=precision), options.settings)
    values = {each.name: getattr(options, each.name, None) for each in fields(Runtime)}
    return replace(runtime, **{name: value for name, value in values.items() if value is not None}), changes


def warn_of_unused(recipe: Recipe, changes: list[str]) -> None:
    if unused := unused_settings(recipe, changes):
        log.warning("--set %s: the recipe %s does not use this; it changes nothing", ", ".join(unused), recipe.name)


def warn_of_dates(catalogue: Catalogue) -> None:
    """Warn of dates that can't be read or believed: they protect no pseudo-query."""
    for words in find_date_warnings(catalogue):
        log.warning("%s: %s", catalogue.root / "metadata.csv", words)


def refuse_input(out: Path, data: Path, columns: tuple[str, ...] = SUBMISSION_COLUMNS) -> None:
    """Refuse to write a submission over anything but an older submission, such as the data that it is made from."""
    if out.resolve() == (data / "sample_submission.csv").resolve():
        raise InputError(f"--out {out}: expected the name of a submission, found the data's own; choose another")
    if not is_file(out):
        return
    with out.open("rb") as file:
        head = file.readline(99).decode("utf-8-sig", "replace").strip()
    if head.replace('"', "") not in ("", ",".join(columns)):
        raise InputError(
            f"--out {out}: expected the name of a submission, found another file there; choose another name"
        )


def refuse_file(folder: Path) -> None:
    """Refuse a file where a folder is to be made."""
    if is_file(folder):
        raise InputError(f"--out {folder}: expected the name of a folder to make, found a file; choose another name")
