"""One function per command of `reid`: each reads its input, calls the library, prints results, and names the next step.

A command imports the modules that need torch itself, after what it can refuse without them, so that `score` and a wrong
call answer at once. Results go to stdout; everything else is logged.
"""

import argparse
import json
import logging
import re
import textwrap
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime
from getpass import getuser
from pathlib import Path
from shlex import join, quote
from typing import TYPE_CHECKING, Any

import pandas as pd

from reid.config import settings
from reid.config.presets import SUMMARIES, read_recipe
from reid.config.recipe import EXTRACTORS, DataConfig, Recipe, settings_of
from reid.config.runtime import Runtime
from reid.config.settings import override, override_runtime, unused_settings, with_settings
from reid.data.catalogue import (
    NEW_INDIVIDUAL,
    Catalogue,
    find_cell_faults,
    find_shared_photographs,
    read_catalogue,
    read_rows,
    rows_to_predict,
)
from reid.data.checks import (
    describe,
    describe_notes,
    describe_unreadable,
    find_corners,
    find_near_copies,
    find_same_files,
    scan_files,
)
from reid.data.names import describe_names, resolve_names, with_names, without_unknown
from reid.data.spelling import spelled
from reid.data.table_warnings import find_date_warnings, find_table_warnings
from reid.decision.answer_files import check_file_beside
from reid.decision.answers import ANSWERS
from reid.decision.artifact import CALIBRATION, EXTRACTOR, GALLERY, REFERENCE, Weights, open_weights
from reid.decision.clusters import (
    CLUSTER_COLUMNS,
    asks_for_clusters,
    check_clusters,
    mean_rand_index,
    read_cluster_solution,
    read_clusters,
    score_clusters,
)
from reid.decision.discovered import Clusters, clusters_path
from reid.decision.matches import matches_path, read_matches_next_to
from reid.decision.metrics import (
    SUBMISSION_COLUMNS,
    RetrievalScore,
    Score,
    check_submission,
    find_strange_names,
    mean_retrieval,
    overall,
    read_solution,
    read_submission,
    score_matches,
    score_submission,
)
from reid.errors import InputError
from reid.runtime.distributed import is_main, process_group
from reid.runtime.files import is_file, refuse_unwritable, without_nan
from reid.runtime.progress import print_result, stage
from reid.runtime.signals import stop_on_signals

if TYPE_CHECKING:  # most of them need torch
    from reid.data.identities import Change
    from reid.decision.calibration import Calibration
    from reid.decision.matches import Matches
    from reid.decision.thresholds import Threshold

__all__ = [
    "calibrate_again",
    "check",
    "count",
    "diagnose",
    "discover",
    "enroll_again",
    "export",
    "fetch",
    "identities",
    "import_photographs",
    "predict_queries",
    "recipes",
    "report",
    "review",
    "score",
    "toy",
    "train",
]

log = logging.getLogger(__name__)


def toy(options: argparse.Namespace) -> None:
    from reid.data.boxed_world import draw_boxed_world
    from reid.data.synthetic import PLAIN, SMALL, draw_world

    if options.boxes:
        draw_boxed_world(options.folder, options.seed)
    else:
        draw_world(options.folder, options.seed, SMALL if options.unlabelled else PLAIN)
    print_result(f"drew a toy world into {options.folder} (solution.csv holds the answers)")
    _log_next("check", options.folder)


def import_photographs(options: argparse.Namespace) -> None:
    from reid.formats.found import Choices
    from reid.formats.importing import import_source
    from reid.formats.summary import describe_import, first_rows, import_warnings

    choices = Choices(
        root=options.root,
        dataset=options.dataset,
        min_confidence=options.min_confidence,
        keep_empty=options.keep_empty,
        exif_dates=options.exif_dates,
        boxes_before_rotation=options.boxes_before_rotation,
        box_unit=options.box_unit,
        box_layout=options.box_layout,
        columns=dict(_named_column(words) for words in options.map),
        queries=tuple(options.queries),
        copy=options.copy,
        update=options.update,
    )
    imported = import_source(options.format, options.source, options.out, choices, options.dry_run)
    for words in import_warnings(imported):
        log.warning(words)
    if options.dry_run:
        print_result(first_rows(imported).to_string(index=False))
    for line in describe_import(imported):
        print_result(line)
    path = options.out / "metadata.csv"
    if options.dry_run:
        print_result(f"{path}: nothing was written; type the same without --dry-run")
        return
    if not imported.is_written:
        print_result(f"{path}: nothing to change")
    else:
        print_result(f"wrote {path}" + (f"; as it was before: {imported.saved}" if imported.saved else ""))
        for words in describe_names(read_rows(options.out), DataConfig()):
            log.warning("%s: %s", path, words)
    _log_next("check", options.out)


def export(options: argparse.Namespace) -> None:
    from reid.formats.export_choices import ExportChoices
    from reid.formats.exporting import export_names
    from reid.formats.named import describe_named

    choices = ExportChoices(
        zone=options.zone,
        deployments=options.deployments,
        title=options.title,
        contributor=options.contributor,
        sampling_design=options.sampling_design,
        occasion=options.occasion,
        per_side=options.per_side,
    )
    named, exported = export_names(
        options.format, options.data, options.out, options.answers, options.pairs, options.confirmed, choices
    )
    for words in exported.told:
        log.warning(words)
    for line in describe_named(named):
        print_result(line)
    print_result(f"wrote {_count(exported.rows, 'row')} into {', '.join(map(str, exported.files))}")


def _named_column(words: str) -> tuple[str, str]:
    ours, equals, theirs = words.partition("=")
    if not (ours and equals and theirs):
        raise InputError(f"--map {words}: expected COLUMN=SOURCE, such as identity=AnimalName")
    return ours, theirs


def check(options: argparse.Namespace) -> None:
    found = _findings(read_rows(options.data), options.submission)
    for words in found["warnings"]:
        log.warning(words)
    _print_check(found, options.json)
    _raise_for_faults(found)
    if options.submission:
        _log_next_of_submission(options.submission, options.data)
    else:
        _log_next("train", options.data, "--out", "weights")
        log.info("without a network to fetch a backbone's weights from: --recipe keypoints")


def _findings(catalogue: Catalogue, submission: Path | None) -> dict[str, Any]:
    """Return what `check --json` prints; photographs are opened only where the table has no fault but shared ones."""
    cells = find_cell_faults(catalogue)
    faults = [f"{catalogue.root / 'metadata.csv'}: {fault}" for fault in [*cells, *find_shared_photographs(catalogue)]]
    found: dict[str, Any] = {"data": str(catalogue.root), "rows": len(catalogue), "faults": faults, "warnings": []}
    found |= {"datasets": {}, "submission": None}
    if not cells:
        files = scan_files(catalogue)
        broken = files[files["problem"] != ""]
        problems = dict(zip(broken["image_id"], broken["problem"], strict=True))
        used = without_unknown(catalogue, DataConfig())
        of_used = files[files["image_id"].isin(used.image_ids)]
        corners = [f"{catalogue.root / 'metadata.csv'}: {fault}" for fault in find_corners(catalogue, files)]
        found["faults"] += [*describe_unreadable(catalogue, problems), *corners, *find_same_files(used, of_used)]
        warnings = [
            *find_table_warnings(catalogue),
            *find_near_copies(used, of_used),
            *describe_notes(catalogue, files),
        ]
        found["warnings"] = [f"{catalogue.root / 'metadata.csv'}: {words}" for words in warnings]
        found["datasets"] = describe(used, of_used).set_index("dataset").to_dict("index")
        found["submission"] = _check_submission(submission, catalogue) if submission else None
    return found


def _raise_for_faults(found: dict[str, Any]) -> None:
    """Raise InputError where `check` found a fault."""
    data, unreadable = found["data"], sum(counts["unreadable"] for counts in found["datasets"].values())
    if found["faults"] and not unreadable:
        counted = ", ".join(_count(len(found[kind]), kind[:-1]) for kind in ("faults", "warnings") if found[kind])
        raise InputError(f"{Path(data) / 'metadata.csv'}: {counted}, listed above")
    if found["submission"] and found["submission"]["faults"]:
        file, number = found["submission"]["file"], _count(len(found["submission"]["faults"]), "fault")
        raise InputError(f"{file}: {number}, listed above; Kaggle would refuse or misread it")
    if found["submission"] and (beside := found["submission"]["beside"]) and beside["faults"]:
        number = _count(len(beside["faults"]), "fault")
        raise InputError(f"{beside['file']}: {number}, listed above; write it again, or remove it")
    if unreadable:
        raise InputError(
            f"{data}: unreadable, listed above: {_count(unreadable, 'photograph')}; replace the files or remove their "
            "rows. Otherwise train refuses those of the database (--set data.skip_unreadable=true, and recipe "
            f"keypoints without it, leave them out with a warning), and predict calls such queries {NEW_INDIVIDUAL}"
        )


def _print_check(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        _print_json(found)
        return
    for fault in found["faults"]:
        print_result(fault)
    if found["datasets"]:
        table = pd.DataFrame.from_dict(found["datasets"], orient="index").rename_axis("dataset").reset_index()
        print_result(table.to_string(index=False))
        print_result(
            "largest: photographs of the commonest individual; duplicates: query files whose bytes are in the database "
            "too"
        )
    if submission := found["submission"]:
        for fault in submission["faults"] or ["no fault, ready to hand in"]:
            print_result(f"{submission['file']}: {fault}")
        if beside := submission["beside"]:
            for fault in beside["faults"] or [f"no fault, version {beside['version']} of its format"]:
                print_result(f"{beside['file']}: {fault}")
    if not found["faults"]:
        warnings = f", {_count(len(found['warnings']), 'warning')}" if found["warnings"] else ""
        print_result(f"{found['data']}: no fault in {_count(found['rows'], 'row')}{warnings}")


def _warn_of_dates(catalogue: Catalogue) -> None:
    """Warn of dates that can't be read or believed: they protect no pseudo-query."""
    for words in find_date_warnings(catalogue):
        log.warning("%s: %s", catalogue.root / "metadata.csv", words)


def _check_submission(path: Path, catalogue: Catalogue) -> dict[str, Any]:
    wanted = rows_to_predict(catalogue)
    if asks_for_clusters(catalogue.root / "sample_submission.csv", path):
        datasets = dict(zip(wanted.image_ids, wanted.table["dataset"], strict=True))
        faults = check_clusters(read_clusters(path), wanted.image_ids, datasets)
    else:
        known = without_unknown(catalogue, DataConfig()).database.identities
        faults = check_submission(read_submission(path), wanted.image_ids, set(known))
    beside = check_file_beside(path, catalogue)
    return {"file": str(path), "faults": faults, "beside": asdict(beside) if beside else None}


def _log_next(*words: object) -> None:
    """Name the command that comes next, as it can be typed."""
    log.info("next: reid %s", join(map(str, words)))


def _log_next_of_submission(submission: Path, data: Path) -> None:
    """Name the next step: score it where the answers are known; otherwise hand it in, or make a report."""
    solution = data / "solution.csv"
    if solution.exists():
        _log_next("score", submission, solution)
        return
    log.info(
        "next: hand it in to the competition with: make submit DATA=%s SUBMISSION=%s",
        _in_make(data),
        _in_make(submission),
    )
    log.info("or, with animals of your own: reid report %s --weights WEIGHTS --out report", quote(str(data)))


def _in_make(path: Path) -> str:
    """Return a variable's value as it is typed for the Makefile, where a shell reads it again: "'my photographs'"."""
    word = quote(str(path))
    return word if word == str(path) else '"' + re.sub(r'(["\\`$])', r"\\\1", word.replace("$", "$$")) + '"'


def _print_json(content: dict[str, Any]) -> None:
    """Print an object for other programs: numbers that JSON does not know become null."""
    print_result(json.dumps(without_nan(content), indent=2, allow_nan=False))


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def train(options: argparse.Namespace) -> None:
    recipe, runtime = _recipe_to_train(options)
    if options.save_every is not None and not options.save_every >= 0:
        raise InputError(f"--save-every: expected 0 or more seconds, found {options.save_every}")
    if options.limit is not None and options.limit < 1:
        raise InputError(f"--limit: expected 1 or more photographs, found {options.limit}")
    catalogue = read_catalogue(options.data)
    only = [name for name in (options.only or "").split(",") if name]
    _warn_of_dates(catalogue)

    from reid.decision.calibration import load_calibrations
    from reid.decision.unmatchable import leave_out_unmatchable
    from reid.training.checkpoints import SAVE_EVERY
    from reid.training.run_folder import missing_networks, network_files, read_seconds
    from reid.training.train import train as train_weights

    earlier = not options.fresh and bool(read_seconds(options.out))
    with stop_on_signals() as stop, process_group():
        weights = train_weights(
            catalogue,
            recipe,
            options.out,
            init=options.init,
            keypoint_weights=options.keypoint_weights,
            fresh=options.fresh,
            only=only,
            limit=options.limit,
            stop=stop,
            save_every=SAVE_EVERY if options.save_every is None else options.save_every,
            runtime=runtime,
        )
    if weights and not weights.datasets:
        print_result(f"the weights folder {options.out} is complete; it knows nobody")
        _log_next("discover", options.data, "--weights", options.out, "--out", "clusters.csv")
    elif only:
        learned, _ = leave_out_unmatchable(with_names(catalogue, recipe.data))  # as the training did
        files = network_files(learned.database)
        missing = missing_networks(options.out, files, recipe)
        _report_part(options, only, missing)
    elif weights:  # only the first rank has them
        _print_calibrations(load_calibrations(weights))
        _log_times(read_seconds(options.out), "time, with that of earlier calls" if earlier else "time")
        print_result(f"the weights folder {options.out} is complete")
        if weights.caution:
            log.warning(weights.caution)
        _log_next("predict", options.data, "--weights", options.out, "--out", "submission.csv")


def _report_part(options: argparse.Namespace, trained: list[str], missing: list[str]) -> None:
    """Print which networks a call with `--only` has trained, and name the next one."""
    left = f"still to train: {', '.join(missing)}" if missing else "all are there"
    print_result(f"trained: {', '.join(trained)}; {left}")
    more = f"--only {missing[0]}" if missing else "without --only, to enrol and calibrate"
    call = join(["reid", "train", str(options.data), "--out", str(options.out)])
    log.info("next: %s, as before but %s", call, more)


def _recipe_to_train(options: argparse.Namespace) -> tuple[Recipe, Runtime]:
    recipe = read_recipe(options.recipe)
    runtime, changes = _runtime_of(options, "auto")
    recipe = override(recipe, changes)
    _warn_of_unused(recipe, changes)
    return recipe, runtime


def _runtime_of(options: argparse.Namespace, precision: str) -> tuple[Runtime, list[str]]:
    """Return how this machine is to work, and those `--set` that are about the recipe.

    Args:
        options: the call's; options such as `--device` count more than `--set device=...`, the spelling of 0.1.0.
        precision: where the call names none.
    """
    runtime, changes = override_runtime(Runtime(precision=precision), options.settings)
    values = {each.name: getattr(options, each.name, None) for each in fields(Runtime)}
    return replace(runtime, **{name: value for name, value in values.items() if value is not None}), changes


def _warn_of_unused(recipe: Recipe, changes: list[str]) -> None:
    if unused := unused_settings(recipe, changes):
        log.warning("--set %s: the recipe %s does not use this; it changes nothing", ", ".join(unused), recipe.name)


def fetch(options: argparse.Namespace) -> None:
    from reid.models.backbones import fetch_backbone

    if options.out.suffix != ".safetensors":
        raise InputError(f"--out {options.out}: expected a name that ends in .safetensors; choose one")
    if options.name in EXTRACTORS:
        _fetch_keypoint_weights(options.name, options.out)
        return
    backbone = fetch_backbone(options.name, options.out)
    print_result(
        f"wrote {options.out}: {backbone.name}, {options.out.stat().st_size / 1e6:.0f} MB, for photographs of "
        f"{backbone.image_size} pixels, {backbone.interpolation}"
    )
    name = f"backbone.name={options.name}"
    _log_next("train", "DATA", "--out", "weights", "--set", name, "--init", options.out)


def _fetch_keypoint_weights(name: str, out: Path) -> None:
    """Write the weights of a learned local feature into a file."""
    from reid.retrieval.extractors.kornia_package import refuse_old_kornia
    from reid.retrieval.extractors.sources import fetch_weights
    from reid.retrieval.extractors.table import LEARNED

    if name not in LEARNED:
        raise InputError(
            f"fetch {name}: expected a learned local feature, one of {', '.join(LEARNED)}; {name} has no weights"
        )
    refuse_old_kornia(name)
    fetch_weights(LEARNED[name], out, LEARNED.values())
    print_result(f"wrote {out}: {name}, {out.stat().st_size / 1e6:.1f} MB")
    extractor = f"keypoints.extractor={name}"
    _log_next("train", "DATA", "--out", "weights", "--set", extractor, "--keypoint-weights", out)


def enroll_again(options: argparse.Namespace) -> None:
    only = [label for label in (options.only or "").split(",") if label]
    if only and not options.clusters:
        raise InputError("--only: expected --clusters CSV with it, which has the clusters; add it")
    if options.pairs and not options.confirmed:
        raise InputError(
            "--pairs: expected --confirmed with it, which enrols the queries that the answers name; add it"
        )
    catalogue = read_catalogue(options.data)
    weights = open_weights(options.weights, remade=(GALLERY, CALIBRATION, REFERENCE, EXTRACTOR))

    from reid.decision import enroll

    recipe, runtime = _recipe_of(weights, options, settings.ENROLMENT)
    with process_group():
        enroll.enroll_again(
            *(catalogue, weights, recipe, runtime, options.clusters, only, options.keypoint_weights),
            confirmed=options.confirmed,
            links_file=options.pairs,
        )
    more = f" and the clusters of {options.clusters}" if options.clusters else ""
    more += " and the queries that answers name" if options.confirmed else ""
    print_result(f"enrolled the known photographs of {options.data}{more} into the galleries of {options.weights}")
    if is_main():
        if options.clusters or options.confirmed:
            log.info(
                "they stay queries in %s; enrolled again without this option, the galleries lose them", options.data
            )
        _log_next("calibrate", options.data, "--weights", options.weights)


def _recipe_of(weights: Weights, options: argparse.Namespace, only: tuple[str, ...]) -> tuple[Recipe, Runtime]:
    """Return the weights' recipe with what a command may change in it, and how this machine is to work."""
    from reid.models.networks import check_device

    runtime, changes = _runtime_of(options, weights.precision)
    check_device(runtime)
    recipe = override(weights.recipe, changes, only=only)
    _warn_of_unused(recipe, changes)
    return recipe, runtime


def calibrate_again(options: argparse.Namespace) -> None:
    catalogue = read_catalogue(options.data)
    weights = open_weights(options.weights, remade=(CALIBRATION, REFERENCE))

    from reid.decision import calibrate
    from reid.decision.calibration import load_calibrations

    recipe, _ = _recipe_of(weights, options, settings.CALIBRATION)
    _warn_of_dates(catalogue)
    calibrations = load_calibrations(calibrate.calibrate_again(catalogue, weights, recipe))
    if options.json:
        datasets = {dataset: _json_of_calibration(calibration) for dataset, calibration in calibrations.items()}
        _print_json({"weights": str(options.weights), "datasets": datasets})
    else:
        _print_calibrations(calibrations)
        print_result(f"wrote the thresholds into {options.weights}")
    _log_next("predict", options.data, "--weights", options.weights, "--out", "submission.csv")


def predict_queries(options: argparse.Namespace) -> None:
    catalogue = read_catalogue(options.data)
    _refuse_input(options.out, options.data)
    refuse_unwritable(options.out)
    weights = open_weights(options.weights)  # after what can be refused at once, for it reads every byte of them

    from reid.decision.describe import describe_matches
    from reid.decision.predict import predict

    recipe, runtime = _recipe_of_answers(options, weights)
    seconds: dict[str, float] = {}
    with stage("predict", seconds), process_group():
        matches = predict(catalogue, weights, recipe, runtime=runtime, links_file=options.pairs)
    if not is_main():
        return
    matches.save(options.out)
    lines = describe_matches(matches)
    if options.json:
        _print_json(_json_of_matches(matches, options.out, seconds))
    else:
        done = f"wrote {len(matches)} answers to {options.out}, and the candidates to {matches_path(options.out)}"
        for line in [*lines, done]:
            print_result(line)
    _log_times(seconds)
    _log_next("check", options.data, "--submission", options.out)


def _json_of_matches(matches: "Matches", out: Path, seconds: dict[str, float]) -> dict[str, Any]:
    queries, flags = matches.queries, matches.queries["flags"].str.split().explode().dropna()
    datasets = {
        str(dataset): {
            "queries": len(rows),
            "called_new": int((rows["answer"] == NEW_INDIVIDUAL).sum()),
            "shift": matches.shifts.get(str(dataset)),
        }
        for dataset, rows in queries.groupby("dataset")
    }
    return {
        "submission": str(out),
        "matches": str(matches_path(out)),
        "route": matches.route,
        "queries": len(queries),
        "datasets": datasets,
        "flags": {str(flag): int(count) for flag, count in flags.value_counts().items()},
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
    }


def discover(options: argparse.Namespace) -> None:
    catalogue = read_catalogue(options.data)
    _refuse_input(options.out, options.data, CLUSTER_COLUMNS)
    if options.solution and not options.report:
        raise InputError(
            "--solution: expected --report DIR with it, whose page shows the score; add it, or `reid score`"
        )
    for path in (options.out, *([options.report / "report.html"] if options.report else [])):
        refuse_unwritable(path)
    solution = read_cluster_solution(options.solution) if options.solution else None
    weights = open_weights(options.weights)

    from reid.decision.describe import describe_clusters
    from reid.decision.discover import discover as discover_individuals

    recipe, runtime = _recipe_of(weights, options, settings.PREDICTION)
    seconds: dict[str, float] = {}
    with stage("discover", seconds):
        clusters = discover_individuals(
            catalogue, weights, recipe, runtime=runtime, links_file=options.pairs, previous=options.previous
        )
    clusters.save(options.out)
    if options.report:
        from reid.report.cluster_report import write_cluster_report

        write_cluster_report(catalogue, clusters, options.report, solution, recipe)
    lines = describe_clusters(clusters)  # which also warns
    if options.json:
        _print_json(_json_of_clusters(clusters, options.out, seconds))
    else:
        done = (
            f"wrote {len(clusters)} photographs to {options.out}, and who they may be to {clusters_path(options.out)}"
        )
        for line in [*lines, done]:
            print_result(line)
    _log_times(seconds)
    _log_next("check", options.data, "--submission", options.out)


def count(options: argparse.Namespace) -> None:
    catalogue = read_catalogue(options.data)
    weights = open_weights(options.weights)

    from reid.decision.count import count as count_individuals
    from reid.decision.count import describe_counts

    recipe, runtime = _recipe_of(weights, options, settings.PREDICTION)
    found = count_individuals(catalogue, weights, recipe, runtime=runtime, links_file=options.pairs, by=options.by)
    if options.json:
        _print_json({"counts": found.to_dict("records")})
    else:
        for line in describe_counts(found):
            print_result(line)
    if not found["answers"].any():
        log.info("answers to pairs that `reid review` draws evenly make the interval narrower")


def identities(options: argparse.Namespace) -> None:
    from reid.data.identities import list_individuals, read_log

    if options.action in (None, "list"):
        individuals = list_individuals(options.data)
        if options.json:
            _print_json({"individuals": individuals.to_dict("records")})
        else:
            print_result(individuals.to_string(index=False))
        return
    if options.action != "log":
        _change_identities(options)
        return
    changes = read_log(options.data)
    if options.json:
        _print_json({"changes": [asdict(change) for change in changes]})
        return
    for number, change in enumerate(changes, 1):
        print_result(f"{number}. {change.when}{f' {change.who}' if change.who else ''}: {_words_of_change(change)}")


def _words_of_change(change: "Change") -> str:
    what = f"{change.action} {change.undoes}" if change.undoes else change.action
    photographs = _count(len(change.photographs), "photograph")
    return f"{what}: {photographs} of {change.dataset}, {spelled(change.old)} -> {spelled(change.new)}"


def _change_identities(options: argparse.Namespace) -> None:
    """Rename, merge, split or undo, and say what must follow."""
    from reid.data.identities import LOG, merge, rename, split, undo

    stamp = {"who": options.who or _user(), "when": datetime.now(UTC).isoformat(timespec="seconds")}
    if options.action == "undo":
        change = undo(options.data, **stamp)
    elif options.action == "split":
        photographs = options.photographs
        change = split(options.data, options.old, options.new, photographs, **stamp, dataset=options.dataset)
    else:
        do = rename if options.action == "rename" else merge
        change = do(options.data, options.old, options.new, **stamp, dataset=options.dataset)
    table = options.data / "metadata.csv"
    saved = f"; as it was before: {options.data / change.saved}" if change.saved else ""
    print_result(_words_of_change(change))
    print_result(f"wrote {table}{saved}; {LOG} next to it keeps the change, which `reid identities DATA undo` undoes")
    if (options.data / "solution.csv").exists():
        log.warning(
            "%s is not changed: correct the names there, too, before `reid score`", options.data / "solution.csv"
        )
    _log_next("enroll", options.data, "--weights", "WEIGHTS")
    log.info("then: reid calibrate, as the galleries and thresholds of WEIGHTS know the names as they were")


def _user() -> str:
    """Return the name by which this machine knows the person; "" where it does not."""
    try:
        return getuser()
    except (OSError, KeyError, ImportError):
        return ""


def _json_of_clusters(clusters: Clusters, out: Path, seconds: dict[str, float]) -> dict[str, Any]:
    datasets = {
        str(dataset): {
            **{name: value for name, value in asdict(clusters.cuts[str(dataset)]).items() if name != "dataset"},
            "photographs": len(rows),  # not those that the cut was fitted on
            "clusters": rows["cluster"].nunique(),
            "known": int((rows["identity"] != "").sum()),
        }
        for dataset, rows in clusters.photographs.groupby("dataset")
    }
    return {
        "submission": str(out),
        "clusters": str(clusters_path(out)),
        "photographs": len(clusters),
        "datasets": datasets,
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
    }


def _recipe_of_answers(options: argparse.Namespace, weights: Weights) -> tuple[Recipe, Runtime]:
    """Return the weights' recipe with what `predict` and `report` may change in it, and how this machine is to work."""
    recipe, runtime = _recipe_of(weights, options, settings.PREDICTION)
    return with_settings(recipe, {"prediction.route": options.route or recipe.prediction.route}), runtime


def _refuse_input(out: Path, data: Path, columns: tuple[str, ...] = SUBMISSION_COLUMNS) -> None:
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


def score(options: argparse.Namespace) -> None:
    usage = [word for word in (options.usage or "").split(",") if word]
    if asks_for_clusters(options.submission):
        _score_clusters(options, usage)
        return
    names = (str(options.submission), str(options.solution))
    submission, solution = read_submission(options.submission), read_solution(options.solution, usage)
    scores = score_submission(submission, solution, names)
    matches = read_matches_next_to(options.submission, submission)
    retrieval = {} if matches is None else score_matches(matches, solution)
    means = asdict(mean_retrieval(retrieval)) if retrieval else {}
    if options.json:
        rows = {
            dataset: {"baks": score.baks, "baus": score.baus, "score": score.score}
            | (asdict(retrieval[dataset]) if retrieval else {})
            for dataset, score in scores.items()
        }
        _print_json({"overall": overall(scores), **means, "datasets": rows})
    else:
        print_result(_score_table(scores, retrieval).to_string(index=False, float_format="%.4f"))
        print_result(f"overall {overall(scores):.4f}")
        if means:
            print_result(", ".join(f"{name} {value:.4f}" for name, value in means.items()))
    for words in find_strange_names(submission, solution):
        log.warning("%s: %s", options.solution, words)
    for name, score in scores.items():
        for share, kind in ((score.baks, "known"), (score.baus, "new")):
            if share != share:  # NaN
                log.warning("%s: the solution has no %s individuals to find, for which the score counts 0", name, kind)


def _score_clusters(options: argparse.Namespace, usage: list[str]) -> None:
    scores = score_clusters(read_clusters(options.submission), read_cluster_solution(options.solution, usage))
    if options.json:
        datasets = {dataset: asdict(score) for dataset, score in scores.items()}
        _print_json({"overall": mean_rand_index(scores), "datasets": datasets})
        return
    rows = [
        {
            "dataset": name,
            "images": score.images,
            "individuals": score.individuals,
            "clusters": score.clusters,
            "ARI": score.ari,
        }
        for name, score in scores.items()
    ]
    print_result(pd.DataFrame(rows).to_string(index=False, float_format="%.4f"))
    print_result(f"overall {mean_rand_index(scores):.4f}")


def _score_table(scores: dict[str, Score], retrieval: dict[str, RetrievalScore]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"dataset": name, "images": score.images, "BAKS": score.baks, "BAUS": score.baus, "score": score.score}
            | (asdict(retrieval[name]) if retrieval else {})
            for name, score in scores.items()
        ]
    )


def report(options: argparse.Namespace) -> None:
    named = [_named_file(words) for words in options.against]
    catalogue = read_catalogue(options.data)
    solution = read_solution(options.solution) if options.solution else None
    if is_file(options.out):
        raise InputError(
            f"--out {options.out}: expected the name of a folder to make, found a file; choose another name"
        )
    refuse_unwritable(options.out / "report.html")
    wanted = rows_to_predict(catalogue).image_ids
    if solution is not None and (strange := set(solution["image_id"]) - set(wanted)):
        raise InputError(
            f"--solution {options.solution}: expected the answers to the {len(wanted)} queries of {options.data}, "
            f"found {len(strange)} of {len(solution)} rows for others, such as {min(strange)}; name these queries' own"
        )

    from reid.decision.predict import predict
    from reid.report.report import collect_explanations, write_report
    from reid.report.scores_section import read_other_result
    from reid.training.run_folder import read_seconds

    others = [read_other_result(name, path, solution) for name, path in named]
    weights = open_weights(options.weights)
    recipe, runtime = _recipe_of_answers(options, weights)
    catalogue = resolve_names(catalogue, recipe, weights.datasets)
    seconds = read_seconds(options.weights)
    with stage("predict (without what was cached)", seconds):  # predict itself may have taken minutes
        prediction = predict(catalogue, weights, recipe, runtime=runtime, links_file=options.pairs)
    with stage("explanations", seconds):
        explanations = collect_explanations(
            catalogue, replace(weights, recipe=recipe), prediction, solution, runtime=runtime
        )
    page = write_report(options.out, catalogue, weights, prediction, solution, explanations, others, seconds)
    print_result(f"wrote {page}; open it in a browser")


def review(options: argparse.Namespace) -> None:
    if (options.apply is None) == (options.weights is None):
        found = "both" if options.apply else "neither"
        raise InputError(
            "reid review: expected --weights WEIGHTS and --out DIR to make a page, or --apply FILE for the answers "
            f"that a page has saved, found {found}; type one or the other"
        )
    catalogue = read_catalogue(options.data)
    if options.apply:
        _apply_answers(catalogue, options)
        return
    if options.out is None or is_file(options.out):
        found = f"a file, {options.out}" if options.out else "none"
        raise InputError(f"--out: expected the name of a folder to make for the page, found {found}")
    for name, number, least in (("--most", options.most, 1), ("--drawn", options.drawn, 0)):
        if not least <= number <= 5000:
            raise InputError(f"{name}: expected {least} to 5000 pairs, found {number}")
    refuse_unwritable(options.out / "review.html")
    weights = open_weights(options.weights)

    from reid.review.review import make_review

    recipe, runtime = _recipe_of(weights, options, settings.PREDICTION)
    seconds: dict[str, float] = {}
    with stage("review", seconds):
        made = make_review(
            catalogue,
            weights,
            options.out,
            options.mode or ("clusters",),
            options.most,
            options.drawn,
            options.individual,
            recipe,
            runtime,
            options.pairs,
        )
    drawn = sum(bool(question.drawn) for question in made.questions)
    evenly = f", {drawn} of them evenly drawn" if drawn else ""
    pairs = _count(len(made.questions), "pair")
    print_result(f"wrote {made.page}, which asks about {pairs}{evenly}; open it in a browser")
    _log_times(seconds)
    log.info("when you have saved the answers: reid review %s --apply FILE", quote(str(options.data)))


def _apply_answers(catalogue: Catalogue, options: argparse.Namespace) -> None:
    from reid.review.applying import apply_answers

    done = apply_answers(catalogue, options.apply, options.pairs, options.conflicts)
    added = ", ".join(f"{done.added[word]} {word}" for word in ANSWERS if word in done.added) or "nothing new"
    more = (
        (done.there, "there already"),
        (done.older, "older than what the same person has said since, left out"),
        (done.changed, "changed by the same person"),
        (done.settled, f"contradicted by another person, settled with --conflicts {options.conflicts}"),
    )
    print_result("; ".join([f"{done.path}: {added}", *(f"{number} {words}" for number, words in more if number)]))
    _log_next("discover", options.data, "--weights", "weights", "--out", "clusters.csv")
    log.info("or reid predict, for the names of known animals")


def diagnose(options: argparse.Namespace) -> None:
    catalogue = read_catalogue(options.data)
    solution = read_solution(options.solution) if options.solution else None
    if is_file(options.out):
        raise InputError(
            f"--out {options.out}: expected the name of a folder to make, found a file; choose another name"
        )
    refuse_unwritable(options.out / "diagnose.html")

    from reid.decision.predict import predict
    from reid.diagnose import diagnose as diagnosing
    from reid.diagnose.page import write_diagnosis

    weights = open_weights(options.weights)
    recipe, runtime = _recipe_of_answers(options, weights)
    catalogue = resolve_names(catalogue, recipe, weights.datasets)
    matches = predict(catalogue, weights, recipe, runtime=runtime) if len(catalogue.query) else None
    found = diagnosing.diagnose(catalogue, weights, matches, solution, options.queries)
    page = write_diagnosis(options.out, f"{catalogue.root.resolve().name}, recipe {weights.recipe.name}", found)
    for dataset, part in found.alarms:
        print_result(f"{dataset}, {part.name}: {part.words}")
    print_result(f"{len(found.alarms)} to look into; wrote {page}; open it in a browser")


def _named_file(words: str) -> tuple[str, Path]:
    name, equals, path = words.partition("=")
    if not (name and equals and path):
        raise InputError(f"--against {words}: expected NAME=FILE, such as paper=paper.csv")
    return name, Path(path)


def recipes(options: argparse.Namespace) -> None:
    if options.name is None:
        _print_presets(options.json)
        return
    recipe = read_recipe(options.name)
    rows = settings_of(recipe)
    if options.json:
        values = {name: {"value": value, "default": default, "help": words} for name, value, default, words in rows}
        _print_json({"name": recipe.name, "settings": values})
        return
    print_result(f"{recipe.name}: {SUMMARIES.get(recipe.name, 'another recipe')}\n")
    for name, value, default, words in rows:
        changed = "" if value == default else f" (default {_as_typed(default)})"
        print_result(f"{name}={_as_typed(value)}{changed}")
        print_result(textwrap.fill(words, 100, initial_indent="    ", subsequent_indent="    "))


def _print_presets(as_json: bool) -> None:
    if as_json:
        _print_json({"presets": SUMMARIES})
        return
    width = max(map(len, SUMMARIES))
    for name, words in SUMMARIES.items():
        print_result(f"{name:{width}}  {words}")
    log.info("`reid recipes NAME` shows every setting of one; `reid train ... --recipe NAME` trains with it")


def _as_typed(value: Any) -> str:
    """Return a value as `--set` takes it."""
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _print_calibrations(calibrations: "dict[str, Calibration]") -> None:
    rows = []
    for dataset, calibration in calibrations.items():
        threshold = calibration.threshold
        is_measured = threshold.score is not None and threshold.interval is not None
        rows.append(
            {
                "dataset": dataset,
                "scorer": calibration.scorer.kind,
                "threshold": f"{threshold.value:.3f}",
                "plateau": f"{threshold.plateau[0]:.3f} to {threshold.plateau[1]:.3f}",
                "expected score": _range(threshold) if is_measured else "unknown",
                "by threshold": "{:.2f} to {:.2f}".format(*threshold.support) if threshold.support else "unknown",
                "called new": f"{threshold.share_new:.0%}" if is_measured else "unknown",
                "known": threshold.known,
                "new": threshold.new,
            }
        )
    print_result(pd.DataFrame(rows).to_string(index=False))
    print_result(
        "expected score: on individuals that the threshold was not fitted on, with the range of nine of ten splits; by "
        "threshold: what nine of ten thresholds score, each fitted on another draw of the individuals; known, new: "
        "individuals among the pseudo-queries"
    )
    for dataset, calibration in calibrations.items():
        if len(calibration.scorer_scores) > 1:
            scores = ", ".join(f"{kind} {score:.3f}" for kind, score in calibration.scorer_scores.items())
            print_result(f"{dataset}: the scorers' expected scores: {scores}")
    for dataset, calibration in calibrations.items():
        for note in calibration.threshold.note.splitlines():
            log.warning("%s: %s", dataset, note)


def _json_of_calibration(calibration: "Calibration") -> dict[str, Any]:
    threshold = calibration.threshold
    return {
        "scorer": calibration.scorer.kind,
        "threshold": threshold.value,
        "plateau": list(threshold.plateau),
        "expected_score": threshold.score,
        "interval": None if threshold.interval is None else list(threshold.interval),
        "support": None if threshold.support is None else list(threshold.support),
        "called_new": threshold.share_new,
        "known": threshold.known,
        "new": threshold.new,
        "scorer_scores": calibration.scorer_scores,
        "notes": threshold.note.splitlines(),
    }


def _range(threshold: "Threshold") -> str:
    low, high = threshold.interval or (float("nan"), float("nan"))
    return f"{threshold.score:.3f} ({low:.2f} to {high:.2f})"


def _log_times(seconds: dict[str, float], what: str = "time") -> None:
    log.info("%s: %s", what, ", ".join(f"{name} {value:.1f} s" for name, value in seconds.items()))
