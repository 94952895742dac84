"""The verbs: `python -m reid VERB`. Each reads its input, calls the rooms below, says what it made and what is next.

A verb imports the rooms with torch in them itself, after what it can refuse without them, so that `score` and a wrong
call answer at once.
"""

import argparse
import io
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from shlex import join, quote
from typing import Any, NoReturn

import pandas as pd

from reid import NEW_INDIVIDUAL, InputError, Stopped, __version__
from reid.calibration import Calibration, Threshold
from reid.catalogue import (
    Catalogue,
    describe,
    find_blanks,
    find_faults,
    find_formulas,
    find_unread_dates,
    read_catalogue,
    read_rows,
    tell_problems,
    wanted_rows,
)
from reid.files import is_file, read_json, refuse_unwritable, write_json
from reid.progress import printable, say, stage
from reid.ranks import alone, is_first, joined, rank, world
from reid.recipe import (
    CALIBRATION_FIELDS,
    CHOICES,
    ENROLMENT_FIELDS,
    PREDICTION_FIELDS,
    RECIPES,
    WORK_FIELDS,
    Recipe,
    override,
    recipe_named,
)
from reid.scoring import (
    SUBMISSION_COLUMNS,
    Score,
    check_submission,
    overall,
    read_solution,
    read_submission,
    score_submission,
)
from reid.signals import Stop, listening
from reid.weights import CALIBRATION, GALLERY, MANIFEST, RUN_FOLDER, Weights, open_weights, seal_weights

__all__ = ["main"]

INTERRUPTED = 130
"""As a shell counts a program that Ctrl-C ended."""

TIMES = "seconds.json"
"""Beside the training's histories: wall times, for the report."""

FOR_THIS_RUN = f"; {', '.join(WORK_FIELDS)} for this run alone"
"""What the help of `--set` says of WORK_FIELDS where a call leaves those of the manifest as they are."""


def main(arguments: list[str] | None = None) -> int:
    """Runs one verb; gives the exit status: 0 done, 2 the input or the call is wrong, 75 stopped by a signal, 130
    interrupted."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal without letters such as ü must not end a run
            stream.reconfigure(errors="backslashreplace")
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except InputError as problem:
        return _refuse(str(problem))
    except Stopped as stopped:
        say(f"{stopped}; the same command goes on")
        return INTERRUPTED if stopped.by == "SIGINT" else os.EX_TEMPFAIL
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing to complain of at the exit either
        return 0
    except OSError as problem:  # the machine's fault: a disk that fails, a folder that was taken away meanwhile
        where = f"{problem.filename}: " if problem.filename else ""
        return _refuse(f"{where}{problem.strerror or problem}; mend that, then run the command again")
    except KeyboardInterrupt:
        print("stopped; type the same command again", file=sys.stderr)
        return INTERRUPTED
    return 0


def _refuse(problem: str) -> int:
    who = f"rank {rank()}: " if world() > 1 else ""
    print("error:", who + printable(" ".join(problem.split())), file=sys.stderr)  # one line, whatever a cell held
    return 2


class _Parser(argparse.ArgumentParser):
    """Speaks of a wrong call as of any other wrong input."""

    def error(self, message: str) -> NoReturn:
        call = f"{self.prog} VERB" if message.startswith("unrecognized") else self.prog  # then it is the verb's call
        print(f"error: {message}; `{call} --help` explains the call", file=sys.stderr)
        sys.exit(2)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="reid",
        description="Tell individual wild animals apart in photographs.",
        epilog="In this order: check, train, predict, check --submission, score where the answers are known, report. "
        "`reid VERB --help` explains a verb. Every verb ends with status 0 when done, with 2 and one line `error: ...` "
        "when the input or the call is wrong, with 130 when it was interrupted; typed again, train goes on where it "
        "was.",
    )
    parser.add_argument("--version", action="version", version=f"reid {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)

    _add_toy(verbs)
    _add_check(verbs)
    _add_train(verbs)
    _add_fetch(verbs)
    _add_enroll(verbs)
    _add_calibrate(verbs)
    _add_predict(verbs)
    _add_score(verbs)
    _add_report(verbs)
    return parser


def _add_toy(verbs: Any) -> None:
    verb = _add_verb(verbs, "toy", _toy, "draw a small world of three species in the competition's format", "toy world")
    verb.add_argument("folder", metavar="DIR", type=Path, help="the data folder to make")
    verb.add_argument("--seed", type=int, default=0, help="another seed draws another world (default 0)")


def _add_check(verbs: Any) -> None:
    does = "validate a data folder, and a submission for it"
    verb = _add_verb(verbs, "check", _check, does, "check photographs --submission submission.csv")
    _add_data(verb)
    verb.add_argument("--submission", metavar="CSV", type=Path, help="check this submission's rows too")


def _add_train(verbs: Any) -> None:
    does = "train all networks, enrol the galleries, fit the thresholds"
    verb = _add_verb(verbs, "train", _train, does, "train photographs --out weights --recipe best --set epochs=30")
    _add_data(verb)
    verb.add_argument("--out", metavar="WEIGHTS", type=Path, required=True, help="the weights folder to make")
    verb.add_argument("--recipe", metavar="NAME", default="best", help=f"one of {', '.join(RECIPES)} (default best)")
    _add_settings(verb)
    verb.add_argument("--init", metavar="FILE", type=Path, help="the trunk's first weights (.safetensors or .pth)")
    verb.add_argument("--fresh", action="store_true", help="start over instead of going on with an unfinished run")
    verb.add_argument(
        "--only",
        metavar="NETWORK,...",
        help="train these networks alone, species or a dataset's; the folder is whole when all are there",
    )
    verb.add_argument(
        "--save-every",
        metavar="SECONDS",
        type=float,
        help="between two checkpoints (default: five minutes)",
    )
    verb.add_argument(
        "--limit", metavar="N", type=int, help="only about N database photographs per dataset, for a quick look"
    )


def _add_fetch(verbs: Any) -> None:
    does = "write a trunk's first weights into a file, for machines without a network"
    verb = _add_verb(verbs, "fetch", _fetch, does, "fetch resnet50 --out resnet50.safetensors")
    verb.add_argument("trunk", metavar="TRUNK", help="timm's name, or hf-hub:OWNER/NAME")
    verb.add_argument("--out", metavar="FILE", type=Path, required=True, help="the .safetensors file to write")


def _add_enroll(verbs: Any) -> None:
    does = "embed the database photographs into the galleries again, e.g. with new individuals, without training"
    verb = _add_verb(verbs, "enroll", _enroll, does, "enroll photographs --weights weights")
    _add_data(verb)
    _add_weights(verb)
    _add_settings(verb, FOR_THIS_RUN)


def _add_calibrate(verbs: Any) -> None:
    does = "fit the thresholds again, without training"
    verb = _add_verb(verbs, "calibrate", _calibrate, does, "calibrate photographs --weights weights")
    _add_data(verb)
    _add_weights(verb)
    _add_settings(verb, FOR_THIS_RUN)


def _add_predict(verbs: Any) -> None:
    does = "write the submission for the query photographs"
    verb = _add_verb(verbs, "predict", _predict, does, "predict photographs --weights weights --out submission.csv")
    _add_data(verb)
    _add_weights(verb)
    verb.add_argument("--out", metavar="CSV", type=Path, required=True, help="the submission to write")
    _add_route(verb)
    _add_settings(verb)


def _add_score(verbs: Any) -> None:
    does = "score a submission as the organisers do"
    verb = _add_verb(verbs, "score", _score, does, "score submission.csv photographs/solution.csv")
    verb.add_argument("submission", metavar="CSV", type=Path, help="the submission, columns image_id and identity")
    verb.add_argument("solution", metavar="SOLUTION", type=Path, help="the true answers, the organisers' solution.csv")
    verb.add_argument("--usage", metavar="Public,Private", help="only the rows of these parts (default: all)")
    verb.add_argument("--json", action="store_true", help="print JSON instead of a table")


def _add_report(verbs: Any) -> None:
    does = "make a page a person can read: scores, thresholds, matches as pictures"
    verb = _add_verb(verbs, "report", _report, does, "report photographs --weights weights --out report")
    _add_data(verb)
    _add_weights(verb)
    verb.add_argument("--out", metavar="DIR", type=Path, required=True, help="the folder to make")
    verb.add_argument("--solution", metavar="CSV", type=Path, help="the true answers, where they are known")
    verb.add_argument(
        "--against",
        metavar="NAME=FILE",
        action="append",
        default=[],
        help="another recipe's submission (with --solution), or what `score --json` printed of it (.json), to stand "
        "beside; may be repeated",
    )
    same = "; as in the call of predict, else the page may show other answers than its submission"
    _add_route(verb, same)
    _add_settings(verb, same)


def _add_verb(verbs: Any, name: str, run: Callable[[argparse.Namespace], None], does: str, example: str) -> Any:
    """A verb, with what it does in a few words and how it is typed."""
    description, epilog = f"{does[0].upper()}{does[1:]}.", f"Example: python -m reid {example}"
    verb = verbs.add_parser(name, help=does, description=description, epilog=epilog)
    verb.set_defaults(run=run)
    return verb


def _add_data(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("data", metavar="DATA", type=Path, help="a folder with metadata.csv in the competition's columns")


def _add_weights(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--weights", metavar="WEIGHTS", type=Path, required=True, help="the folder that train made")


def _add_route(verb: argparse.ArgumentParser, more: str = "") -> None:
    verb.add_argument(
        "--route", choices=CHOICES["route"], help=f"who chooses the encoder (default: the recipe's){more}"
    )


def _add_settings(verb: argparse.ArgumentParser, more: str = "") -> None:
    verb.add_argument(
        "--set",
        metavar="FIELD=VALUE",
        dest="settings",
        action="append",
        default=[],
        help=f"set a field of the recipe{more}",
    )


def _toy(options: argparse.Namespace) -> None:
    from reid.toy import draw_world

    draw_world(options.folder, options.seed)
    say(f"drew a toy world into {options.folder} (solution.csv holds the answers)")
    _say_next("check", options.folder)


def _check(options: argparse.Namespace) -> None:
    catalogue = read_rows(options.data)
    faults = find_faults(catalogue)
    for fault in faults:
        say(f"{options.data / 'metadata.csv'}: {fault}")
    if faults:
        raise InputError(f"{options.data / 'metadata.csv'}: {_count(len(faults), 'fault')}, listed above")

    from reid.images import survey

    files = survey(catalogue)
    broken = files[files["problem"] != ""]
    for problem in tell_problems(catalogue, dict(zip(broken["image_id"], broken["problem"], strict=True))):
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
        say("without a network to fetch a trunk's weights from: --recipe local")


def _say_next(*words: object) -> None:
    """The verb that comes next, as it can be typed."""
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
    """A variable's value as it is typed for the Makefile, where a shell reads it again: "'my photographs'"."""
    word = quote(str(path))
    return word if word == str(path) else '"' + re.sub(r'(["\\`$])', r"\\\1", word.replace("$", "$$")) + '"'


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _check_submission(path: Path, data: Path) -> None:
    catalogue = read_catalogue(data)
    faults = check_submission(
        read_submission(path), wanted_rows(catalogue).image_ids, set(catalogue.database.identities)
    )
    for fault in faults:
        say(f"{path}: {fault}")
    if faults:
        raise InputError(f"{path}: {_count(len(faults), 'fault')}, listed above; Kaggle would refuse or misread it")
    say(f"{path}: no fault, ready to hand in")


def _train(options: argparse.Namespace) -> None:
    recipe = override(recipe_named(options.recipe), options.settings)
    if options.save_every is not None and not options.save_every >= 0:
        raise InputError(f"--save-every: expected 0 or more seconds, found {options.save_every}")
    if options.limit is not None and options.limit < 1:
        raise InputError(f"--limit: expected 1 or more photographs, found {options.limit}")
    catalogue = read_catalogue(options.data)
    if options.limit is not None:
        limited = catalogue.limited(options.limit)
        options.limit = options.limit if len(limited) < len(catalogue) else None
        catalogue = limited
    if "encoder" in recipe.cues:
        recipe = _settled(recipe, options.init)
    with listening() as stop, joined():
        _train_all(catalogue, recipe, options, stop)


def _settled(recipe: Recipe, init: Path | None) -> Recipe:
    """What the recipe leaves to its trunk, for which the hub may be asked: that takes a minute without a network."""
    from reid.training import settle
    from reid.trunks import describe_trunk

    settled = settle(recipe, describe_trunk(recipe.trunk, init))
    _warn_of_random_trunk(settled, init)
    return settled


def _train_all(catalogue: Catalogue, recipe: Recipe, options: argparse.Namespace, stop: Stop) -> None:
    """Networks, and with all of them there, galleries, thresholds and the manifest."""
    from reid.checkpoints import SAVE_EVERY
    from reid.gallery import enroll
    from reid.matching import calibrate
    from reid.training import missing_networks, network_files, train_networks

    save_every = SAVE_EVERY if options.save_every is None else options.save_every
    earlier = not options.fresh and bool(_times_of(options.out))
    only = [name for name in (options.only or "").split(",") if name]
    changes = [] if options.fresh else _changes(_sealed_choices(options.out), recipe)  # before the manifest goes
    _warn_of_dates(catalogue)
    with _kept_stage("train", options.out, options.fresh):
        fingerprint = train_networks(
            catalogue, recipe, options.out, options.init, options.fresh, only, stop, save_every
        )
    if only:
        missing = missing_networks(options.out, network_files(catalogue.database), recipe)
        say(f"trained: {', '.join(only)}; " + (f"still to train: {', '.join(missing)}" if missing else "all are there"))
        say(
            f"next: python -m reid train {quote(str(options.data))} --out {quote(str(options.out))}, as before but "
            + (f"--only {missing[0]}" if missing else "without --only, to enrol and calibrate")
        )
        return
    if changes:
        words = "galleries and thresholds are made with other choices than before"
        say(f"warning: {options.out}: {words}: {', '.join(changes)}")
    datasets = list(catalogue.database.by_dataset())
    with _kept_stage("enroll", options.out):
        enroll(catalogue, options.out, datasets, recipe)
    if not is_first():  # thresholds are one process's work
        return
    with _kept_stage("calibrate", options.out), alone():
        calibrations = calibrate(catalogue, options.out, datasets, recipe)
    weights = seal_weights(options.out, recipe, datasets, fingerprint, options.limit)
    _say_calibrations(calibrations)
    _say_times(_times_of(options.out), "time, with that of earlier calls" if earlier else "time")
    say(f"the weights folder {options.out} is complete")
    if weights.caution:
        say(f"warning: {weights.caution}")
    _say_next("predict", options.data, "--weights", options.out, "--out", "submission.csv")


def _sealed_choices(folder: Path) -> dict[str, Any]:
    """The recipe that a whole weights folder was made with, as JSON; nothing where there is none or it is damaged."""
    with suppress(InputError, TypeError, KeyError, ValueError):
        return dict(read_json(folder / MANIFEST)["recipe"])
    return {}


def _changes(before: dict[str, Any], recipe: Recipe) -> list[str]:
    """In which choices a recipe differs, old -> new, without how a machine does the work."""
    now = json.loads(json.dumps(asdict(recipe)))
    fields = [field for field in now if field in before and field not in WORK_FIELDS]
    return [f"{field} {before[field]} -> {now[field]}" for field in fields if before[field] != now[field]]


def _fetch(options: argparse.Namespace) -> None:
    from reid.trunks import fetch_trunk

    if options.out.suffix != ".safetensors":
        raise InputError(f"--out {options.out}: expected a name that ends in .safetensors; choose one")
    trunk = fetch_trunk(options.trunk, options.out)
    say(
        f"wrote {options.out}: {trunk.name}, {options.out.stat().st_size / 1e6:.0f} MB, for photographs of "
        f"{trunk.image_size} pixels, {trunk.interpolation}"
    )
    _say_next("train", "DATA", "--out", "weights", "--set", f"trunk={options.trunk}", "--init", options.out)


def _enroll(options: argparse.Namespace) -> None:
    catalogue = read_catalogue(options.data)
    weights = open_weights(options.weights, remade=(GALLERY, CALIBRATION))

    from reid.gallery import enroll

    recipe = _recipe_for(weights, options.settings, (*ENROLMENT_FIELDS, *WORK_FIELDS))
    datasets = list(weights.datasets)
    with joined():
        enroll(catalogue, weights.folder, datasets, recipe)
    if not is_first():
        return
    # the galleries hold all photographs now, but the networks, where there are any, have learned from few
    limit = weights.limit if "encoder" in recipe.cues else None
    seal_weights(weights.folder, _kept(recipe, weights), datasets, catalogue.database.fingerprint, limit)
    say(f"enrolled {len(catalogue.database)} photographs of {options.data} into the galleries of {options.weights}")
    _say_next("calibrate", options.data, "--weights", options.weights)


def _warn_of_dates(catalogue: Catalogue) -> None:
    """A date that can't be read protects no pseudo-query."""
    for words in find_unread_dates(catalogue.database):
        say(f"warning: {catalogue.root / 'metadata.csv'}: {words}")


def _warn_of_random_trunk(recipe: Recipe, init: Path | None) -> None:
    """A trunk of random weights has everything to learn; some recipes are for one that has learned before."""
    if recipe.init != "none" or init is not None:
        return
    if not (recipe.epochs and recipe.trunk_rate):
        words = "nothing teaches the trunk"
    elif recipe.freeze_norms or recipe.trunk_rate <= RECIPES["best"].trunk_rate:
        words = f"trunk_rate={recipe.trunk_rate:g} and freeze_norms={recipe.freeze_norms} are for one that has learned"
    else:
        return
    say(
        f"warning: init=none starts from random weights, and {words}: name first weights with --init FILE, or set "
        "trunk_rate=1 and freeze_norms=false, or take recipe local"
    )


def _recipe_for(weights: Weights, settings: list[str], fields: tuple[str, ...]) -> Recipe:
    """The weights' recipe with what a verb may choose. A GPU that training insisted on is not asked for again, for the
    weights may have come to another machine; one that the call insists on is."""
    from reid.networks import check_device

    recipe = override(replace(weights.recipe, device="auto"), settings, only=fields)
    check_device(recipe)
    return recipe


def _kept(recipe: Recipe, weights: Weights) -> Recipe:
    """What the manifest keeps of a run's recipe: how this machine does the work says nothing of the next one."""
    return replace(recipe, **{field: getattr(weights.recipe, field) for field in WORK_FIELDS})


def _calibrate(options: argparse.Namespace) -> None:
    catalogue = read_catalogue(options.data)
    weights = open_weights(options.weights, remade=(CALIBRATION,))

    from reid.matching import calibrate

    recipe = _recipe_for(weights, options.settings, (*CALIBRATION_FIELDS, *WORK_FIELDS))
    _warn_of_dates(catalogue)
    calibrations = calibrate(catalogue, weights.folder, list(weights.datasets), recipe)
    data = weights.manifest["data"]
    seal_weights(weights.folder, _kept(recipe, weights), list(weights.datasets), data, weights.limit)
    _say_calibrations(calibrations)
    say(f"wrote the thresholds into {options.weights}")
    _say_next("predict", options.data, "--weights", options.weights, "--out", "submission.csv")


def _predict(options: argparse.Namespace) -> None:
    catalogue = read_catalogue(options.data)
    _refuse_input(options.out, options.data)
    refuse_unwritable(options.out)
    weights = open_weights(options.weights)  # after what is seen at once, for it reads every byte of them

    from reid.submission import explain, predict, write_submission

    recipe = _recipe_of_answers(options, weights)
    seconds: dict[str, float] = {}
    with stage("predict", seconds), joined():
        prediction = predict(catalogue, weights, recipe)
    if not is_first():
        return
    write_submission(prediction, options.out)
    explain(prediction)
    _say_times(seconds)
    say(f"wrote {len(prediction.matches)} answers to {options.out}")
    _say_next("check", options.data, "--submission", options.out)


def _recipe_of_answers(options: argparse.Namespace, weights: Weights) -> Recipe:
    """The weights' recipe with what `predict` and `report` may choose."""
    recipe = _recipe_for(weights, options.settings, PREDICTION_FIELDS)
    return replace(recipe, route=options.route or recipe.route)


def _refuse_input(out: Path, data: Path) -> None:
    """A submission takes the place of an older one, and of nothing else: not of what it was made from."""
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


def _score(options: argparse.Namespace) -> None:
    usage = [word for word in (options.usage or "").split(",") if word]
    names = (str(options.submission), str(options.solution))
    scores = score_submission(read_submission(options.submission), read_solution(options.solution, usage), names)
    if options.json:
        rows = {
            dataset: {"baks": _or_none(score.baks), "baus": _or_none(score.baus), "score": score.score}
            for dataset, score in scores.items()
        }
        print(json.dumps({"overall": overall(scores), "datasets": rows}, indent=2))
        return
    say(_score_table(scores).to_string(index=False, float_format="%.4f"))
    say(f"overall {overall(scores):.4f}")
    for name, score in scores.items():
        for share, kind in ((score.baks, "known"), (score.baus, "new")):
            if share != share:
                say(f"warning: {name}: the solution has no {kind} individuals to find, for which the score counts 0")


def _or_none(value: float) -> float | None:
    return None if value != value else value  # NaN is not equal to itself


def _score_table(scores: dict[str, Score]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"dataset": name, "images": score.images, "BAKS": score.baks, "BAUS": score.baus, "score": score.score}
            for name, score in scores.items()
        ]
    )


def _report(options: argparse.Namespace) -> None:
    named = [_named_file(words) for words in options.against]
    catalogue = read_catalogue(options.data)
    solution = read_solution(options.solution) if options.solution else None
    if is_file(options.out):
        raise InputError(
            f"--out {options.out}: expected the name of a folder to make, found a file; choose another name"
        )
    refuse_unwritable(options.out / "report.html")
    wanted = wanted_rows(catalogue).image_ids
    if solution is not None and (strange := set(solution["image_id"]) - set(wanted)):
        raise InputError(
            f"--solution {options.solution}: expected the answers to the {len(wanted)} queries of {options.data}, "
            f"found {len(strange)} of {len(solution)} rows for others, such as {min(strange)}; name these queries' own"
        )

    from reid.report import collect_evidence, read_rival, write_report
    from reid.submission import predict

    rivals = [read_rival(name, path, solution) for name, path in named]
    weights = open_weights(options.weights)
    recipe = _recipe_of_answers(options, weights)
    seconds = _times_of(options.weights)
    with stage("predict (without what was remembered)", seconds):  # predict itself may have taken minutes
        prediction = predict(catalogue, weights, recipe)
    with stage("evidence", seconds):
        evidence = collect_evidence(catalogue, replace(weights, recipe=recipe), prediction, solution)
    page = write_report(options.out, catalogue, weights, prediction, solution, evidence, rivals, seconds)
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
        if len(calibration.contenders) > 1:
            scores = ", ".join(f"{kind} {score:.3f}" for kind, score in calibration.contenders.items())
            say(f"{dataset}: the scorers' expected scores: {scores}")
    for dataset, calibration in calibrations.items():
        for note in calibration.threshold.note.splitlines():
            say(f"warning: {dataset}: {note}")


def _range(threshold: Threshold) -> str:
    low, high = threshold.interval or (float("nan"), float("nan"))
    return f"{threshold.score:.3f} ({low:.2f} to {high:.2f})"


def _times_of(weights: Path) -> dict[str, float]:
    """How long the stages of `train` took, all calls for these weights together; empty where nobody knows."""
    try:
        return {str(name): float(value) for name, value in read_json(weights / RUN_FOLDER / TIMES).items()}
    except (InputError, AttributeError, TypeError, ValueError):
        return {}


@contextmanager
def _kept_stage(what: str, weights: Path, afresh: bool = False) -> Iterator[None]:
    """Adds the wall time of the block, even of one that is stopped, to that of earlier calls, if it is not `afresh`.

    Not of one that ends with `InputError`, most likely before anything was done.
    """
    seconds: dict[str, float] = {}

    def keep() -> None:
        if is_first():
            before = {} if afresh else _times_of(weights)
            after = before | {what: round(before.get(what, 0.0) + seconds[what], 1)}
            write_json(weights / RUN_FOLDER / TIMES, after)

    try:
        with stage(what, seconds):
            yield
    except Stopped:
        with suppress(InputError):  # a full disk: that it was stopped is what a person must know
            keep()
        raise
    keep()


def _say_times(seconds: dict[str, float], what: str = "time") -> None:
    say(f"{what}: " + ", ".join(f"{name} {value:.1f} s" for name, value in seconds.items()))
