"""The verbs: `python -m reid VERB`. Each reads its input, calls the rooms below, says what it made and what is next.

A verb imports the rooms with torch in them itself, after what it can refuse without them, so that `score` and a wrong
call answer at once.
"""

import argparse
import json
import re
from dataclasses import asdict, replace
from pathlib import Path
from shlex import join, quote

import pandas as pd

from reid.config import settings
from reid.config.presets import PRESETS, preset
from reid.config.recipe import Recipe
from reid.config.runtime import Runtime
from reid.config.settings import override, override_runtime, recipe_from_toml, with_settings
from reid.data.catalogue import NEW_INDIVIDUAL, Catalogue, read_rows, rows_to_predict
from reid.data.checks import (
    describe,
    describe_unreadable,
    find_blanks,
    find_faults,
    find_formulas,
    find_unread_dates,
    read_catalogue,
)
from reid.decision.artifact import CALIBRATION, GALLERY, Weights, open_weights, write_manifest
from reid.decision.calibrate import Calibration
from reid.decision.matches import matches_path, read_matches_next_to
from reid.decision.metrics import (
    SUBMISSION_COLUMNS,
    RetrievalScore,
    Score,
    check_submission,
    mean_retrieval,
    overall,
    read_solution,
    read_submission,
    score_matches,
    score_submission,
)
from reid.decision.thresholds import Threshold
from reid.errors import InputError
from reid.runtime.distributed import is_main, process_group
from reid.runtime.files import is_file, refuse_unwritable
from reid.runtime.progress import say, stage
from reid.runtime.signals import stop_on_signals

__all__ = ["calibrate_again", "check", "enroll_again", "fetch", "predict_queries", "report", "score", "toy", "train"]


def toy(options: argparse.Namespace) -> None:
    from reid.data.synthetic import draw_world

    draw_world(options.folder, options.seed)
    say(f"drew a toy world into {options.folder} (solution.csv holds the answers)")
    _say_next("check", options.folder)


def check(options: argparse.Namespace) -> None:
    catalogue = read_rows(options.data)
    faults = find_faults(catalogue)
    for fault in faults:
        say(f"{options.data / 'metadata.csv'}: {fault}")
    if faults:
        raise InputError(f"{options.data / 'metadata.csv'}: {_count(len(faults), 'fault')}, listed above")

    from reid.data.checks import scan_files

    files = scan_files(catalogue)
    broken = files[files["problem"] != ""]
    for problem in describe_unreadable(catalogue, dict(zip(broken["image_id"], broken["problem"], strict=True))):
        say(problem)
    table = describe(catalogue, files)
    say(table.to_string(index=False))
    say("largest: photographs of the commonest individual; duplicates: query files whose bytes are in the database too")
    _warn_of_dates(catalogue)
    if answered := int(catalogue.table["answered"].sum()):
        say(
            f"warning: {_count(answered, 'query row')} of metadata.csv with an identity, which is not looked at; "
            "answers belong in solution.csv, which `reid score` reads"
        )
    for words in find_blanks(catalogue):
        say(f"warning: {options.data / 'metadata.csv'}: {words}")
    if formulas := find_formulas(catalogue):
        say(
            f"warning: a spreadsheet runs names such as {formulas[0][:99]!r} ({_count(len(formulas), 'name')}) as "
            "formulas: open submissions with these columns as text"
        )
    if options.submission:
        _check_submission(options.submission, options.data)
    if len(broken):
        raise InputError(
            f"{options.data}: unreadable, listed above: {_count(len(broken), 'photograph')}; mend or remove their rows"
            ". Else train refuses those of the database (--set skip_unreadable=true, and recipe local without it, "
            f"leave them out with a warning), and predict calls such queries {NEW_INDIVIDUAL}"
        )
    say(f"{options.data}: no fault in {len(catalogue)} rows")
    if options.submission:
        _say_next_of_submission(options.submission, options.data)
    else:
        _say_next("train", options.data, "--out", "weights", "--recipe", "light")
        say("without a network to fetch a backbone's weights from: --recipe local")


def _say_next(*words: object) -> None:
    """Return the verb that comes next, as it can be typed."""
    say(f"next: python -m reid {join(map(str, words))}")


def _say_next_of_submission(submission: Path, data: Path) -> None:
    """To score it where the answers are known; else to hand it in, which is the competition's, or to look at it."""
    solution = data / "solution.csv"
    if solution.exists():
        _say_next("score", submission, solution)
        return
    say(
        f"next: hand it in to the competition with: make submit DATA={_in_make(data)} SUBMISSION={_in_make(submission)}"
    )
    say(f"or, with animals of your own: python -m reid report {quote(str(data))} --weights WEIGHTS --out report")


def _in_make(path: Path) -> str:
    """Return a variable's value as it is typed for the Makefile, where a shell reads it again: "'my photographs'"."""
    word = quote(str(path))
    return word if word == str(path) else '"' + re.sub(r'(["\\`$])', r"\\\1", word.replace("$", "$$")) + '"'


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _check_submission(path: Path, data: Path) -> None:
    catalogue = read_catalogue(data)
    faults = check_submission(
        read_submission(path), rows_to_predict(catalogue).image_ids, set(catalogue.database.identities)
    )
    for fault in faults:
        say(f"{path}: {fault}")
    if faults:
        raise InputError(f"{path}: {_count(len(faults), 'fault')}, listed above; Kaggle would refuse or misread it")
    say(f"{path}: no fault, ready to hand in")


def train(options: argparse.Namespace) -> None:
    runtime, changes = override_runtime(Runtime(), options.settings)
    recipe = override(_recipe_called(options.recipe), changes)
    if options.save_every is not None and not options.save_every >= 0:
        raise InputError(f"--save-every: expected 0 or more seconds, found {options.save_every}")
    if options.limit is not None and options.limit < 1:
        raise InputError(f"--limit: expected 1 or more photographs, found {options.limit}")
    catalogue = read_catalogue(options.data)
    only = [name for name in (options.only or "").split(",") if name]
    _warn_of_dates(catalogue)

    from reid.decision.calibrate import load_calibrations
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
            fresh=options.fresh,
            only=only,
            limit=options.limit,
            stop=stop,
            save_every=SAVE_EVERY if options.save_every is None else options.save_every,
            runtime=runtime,
        )
    if only:
        missing = missing_networks(options.out, network_files(catalogue.database), recipe)
        say(f"trained: {', '.join(only)}; " + (f"still to train: {', '.join(missing)}" if missing else "all are there"))
        say(
            f"next: python -m reid train {quote(str(options.data))} --out {quote(str(options.out))}, as before but "
            + (f"--only {missing[0]}" if missing else "without --only, to enrol and calibrate")
        )
    elif weights:  # the first rank's alone
        _say_calibrations(load_calibrations(weights))
        _say_times(read_seconds(options.out), "time, with that of earlier calls" if earlier else "time")
        say(f"the weights folder {options.out} is complete")
        if weights.caution:
            say(f"warning: {weights.caution}")
        _say_next("predict", options.data, "--weights", options.out, "--out", "submission.csv")


def _recipe_called(name: str) -> Recipe:
    """Return a preset, or the recipe in a .toml file."""
    return recipe_from_toml(Path(name), PRESETS) if name.endswith(".toml") else preset(name)


def fetch(options: argparse.Namespace) -> None:
    from reid.models.backbones import fetch_backbone

    if options.out.suffix != ".safetensors":
        raise InputError(f"--out {options.out}: expected a name that ends in .safetensors; choose one")
    backbone = fetch_backbone(options.backbone, options.out)
    say(
        f"wrote {options.out}: {backbone.name}, {options.out.stat().st_size / 1e6:.0f} MB, for photographs of "
        f"{backbone.image_size} pixels, {backbone.interpolation}"
    )
    _say_next("train", "DATA", "--out", "weights", "--set", f"backbone={options.backbone}", "--init", options.out)


def enroll_again(options: argparse.Namespace) -> None:
    catalogue = read_catalogue(options.data)
    weights = open_weights(options.weights, remade=(GALLERY, CALIBRATION))

    from reid.decision.enroll import enroll

    recipe, runtime = _recipe_for(weights, options.settings, settings.ENROLMENT)
    datasets = list(weights.datasets)
    with process_group():
        enroll(catalogue, weights.folder, datasets, recipe, runtime)
    if not is_main():
        return
    # the galleries hold all photographs now, but the networks, where there are any, have learned from few
    limit = weights.limit if recipe.uses_encoder else None
    write_manifest(weights.folder, recipe, datasets, catalogue.database.fingerprint, limit, weights.precision)
    say(f"enrolled {len(catalogue.database)} photographs of {options.data} into the galleries of {options.weights}")
    _say_next("calibrate", options.data, "--weights", options.weights)


def _warn_of_dates(catalogue: Catalogue) -> None:
    """Return a date that can't be read protects no pseudo-query."""
    for words in find_unread_dates(catalogue.database):
        say(f"warning: {catalogue.root / 'metadata.csv'}: {words}")


def _recipe_for(weights: Weights, words: list[str], fields: tuple[str, ...]) -> tuple[Recipe, Runtime]:
    """Return the weights' recipe with what a command may change in it, and how this machine is to work."""
    from reid.models.networks import check_device

    runtime, changes = override_runtime(Runtime(precision=weights.precision), words)
    check_device(runtime)
    return override(weights.recipe, changes, only=fields), runtime


def calibrate_again(options: argparse.Namespace) -> None:
    catalogue = read_catalogue(options.data)
    weights = open_weights(options.weights, remade=(CALIBRATION,))

    from reid.decision.calibrate import calibrate

    recipe, _ = _recipe_for(weights, options.settings, settings.CALIBRATION)
    _warn_of_dates(catalogue)
    calibrations = calibrate(catalogue, weights.folder, list(weights.datasets), recipe)
    data = weights.manifest["data"]
    write_manifest(weights.folder, recipe, list(weights.datasets), data, weights.limit, weights.precision)
    _say_calibrations(calibrations)
    say(f"wrote the thresholds into {options.weights}")
    _say_next("predict", options.data, "--weights", options.weights, "--out", "submission.csv")


def predict_queries(options: argparse.Namespace) -> None:
    catalogue = read_catalogue(options.data)
    _refuse_input(options.out, options.data)
    refuse_unwritable(options.out)
    weights = open_weights(options.weights)  # after what is seen at once, for it reads every byte of them

    from reid.decision.describe import describe_matches
    from reid.decision.predict import predict

    recipe, runtime = _recipe_of_answers(options, weights)
    seconds: dict[str, float] = {}
    with stage("predict", seconds), process_group():
        matches = predict(catalogue, weights, recipe, runtime=runtime)
    if not is_main():
        return
    matches.save(options.out)
    for line in describe_matches(matches):
        say(f"  {line}")
    _say_times(seconds)
    say(f"wrote {len(matches)} answers to {options.out}, and the candidates to {matches_path(options.out)}")
    _say_next("check", options.data, "--submission", options.out)


def _recipe_of_answers(options: argparse.Namespace, weights: Weights) -> tuple[Recipe, Runtime]:
    """Return the weights' recipe with what `predict` and `report` may change in it, and how this machine is to work."""
    recipe, runtime = _recipe_for(weights, options.settings, settings.PREDICTION)
    return with_settings(recipe, {"prediction.route": options.route or recipe.prediction.route}), runtime


def _refuse_input(out: Path, data: Path) -> None:
    """Return a submission takes the place of an older one, and of nothing else: not of what it was made from."""
    if out.resolve() == (data / "sample_submission.csv").resolve():
        raise InputError(f"--out {out}: expected the name of a submission, found the data's own; choose another")
    if not is_file(out):
        return
    with out.open("rb") as file:
        head = file.readline(99).decode("utf-8-sig", "replace").strip()
    if head.replace('"', "") not in ("", ",".join(SUBMISSION_COLUMNS)):
        raise InputError(
            f"--out {out}: expected the name of a submission, found another file there; choose another name"
        )


def score(options: argparse.Namespace) -> None:
    usage = [word for word in (options.usage or "").split(",") if word]
    names = (str(options.submission), str(options.solution))
    submission, solution = read_submission(options.submission), read_solution(options.solution, usage)
    scores = score_submission(submission, solution, names)
    matches = read_matches_next_to(options.submission, submission)
    retrieval = {} if matches is None else score_matches(matches, solution)
    if options.json:
        rows = {
            dataset: {"baks": _or_none(score.baks), "baus": _or_none(score.baus), "score": score.score}
            | (_as_json(retrieval[dataset]) if retrieval else {})
            for dataset, score in scores.items()
        }
        means = _as_json(mean_retrieval(retrieval)) if retrieval else {}
        print(json.dumps({"overall": overall(scores), **means, "datasets": rows}, indent=2))
        return
    say(_score_table(scores, retrieval).to_string(index=False, float_format="%.4f"))
    say(f"overall {overall(scores):.4f}")
    if retrieval:
        say(", ".join(f"{name} {value:.4f}" for name, value in asdict(mean_retrieval(retrieval)).items()))
    for name, score in scores.items():
        for share, kind in ((score.baks, "known"), (score.baus, "new")):
            if share != share:
                say(f"warning: {name}: the solution has no {kind} individuals to find, for which the score counts 0")


def _or_none(value: float) -> float | None:
    return None if value != value else value  # NaN is not equal to itself


def _as_json(retrieval: RetrievalScore) -> dict[str, float | None]:
    return {name: _or_none(value) for name, value in asdict(retrieval).items()}


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
    from reid.report.report import collect_explanations, read_other_result, write_report
    from reid.training.run_folder import read_seconds

    others = [read_other_result(name, path, solution) for name, path in named]
    weights = open_weights(options.weights)
    recipe, runtime = _recipe_of_answers(options, weights)
    seconds = read_seconds(options.weights)
    with stage("predict (without what was remembered)", seconds):  # predict itself may have taken minutes
        prediction = predict(catalogue, weights, recipe, runtime=runtime)
    with stage("explanations", seconds):
        explanations = collect_explanations(catalogue, replace(weights, recipe=recipe), prediction, solution)
    page = write_report(options.out, catalogue, weights, prediction, solution, explanations, others, seconds)
    say(f"wrote {page}; open it in a browser")


def _named_file(words: str) -> tuple[str, Path]:
    name, equals, path = words.partition("=")
    if not (name and equals and path):
        raise InputError(f"--against {words}: expected NAME=FILE, such as seed=seed.csv")
    return name, Path(path)


def _say_calibrations(calibrations: dict[str, Calibration]) -> None:
    rows = []
    for dataset, calibration in calibrations.items():
        threshold = calibration.threshold
        known = threshold.score is not None and threshold.interval is not None
        rows.append(
            {
                "dataset": dataset,
                "scorer": calibration.scorer.kind,
                "threshold": f"{threshold.value:.3f}",
                "plateau": f"{threshold.plateau[0]:.3f} to {threshold.plateau[1]:.3f}",
                "expected score": _range(threshold) if known else "unknown",
                "called new": f"{threshold.share_new:.0%}" if known else "unknown",
                "known": threshold.known,
                "new": threshold.new,
            }
        )
    say(pd.DataFrame(rows).to_string(index=False))
    say(
        "expected score: on individuals that the threshold was not fitted on, with the range of nine of ten splits; "
        "known, new: individuals that were asked for"
    )
    for dataset, calibration in calibrations.items():
        if len(calibration.scorer_scores) > 1:
            scores = ", ".join(f"{kind} {score:.3f}" for kind, score in calibration.scorer_scores.items())
            say(f"{dataset}: the scorers' expected scores: {scores}")
    for dataset, calibration in calibrations.items():
        for note in calibration.threshold.note.splitlines():
            say(f"warning: {dataset}: {note}")


def _range(threshold: Threshold) -> str:
    low, high = threshold.interval or (float("nan"), float("nan"))
    return f"{threshold.score:.3f} ({low:.2f} to {high:.2f})"


def _say_times(seconds: dict[str, float], what: str = "time") -> None:
    say(f"{what}: " + ", ".join(f"{name} {value:.1f} s" for name, value in seconds.items()))
