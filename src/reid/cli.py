"""TODO cli."""

import argparse
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from reid import __version__
from reid.commands import calibrate_again, check, enroll_again, fetch, predict_queries, report, score, toy, train
from reid.config.legacy import RUNTIME
from reid.config.presets import DEFAULT, PRESETS
from reid.errors import InputError, Stopped
from reid.runtime.distributed import rank, world_size
from reid.runtime.progress import printable, say

__all__ = ["Parser", "build_parser", "main"]

INTERRUPTED = 130
"""As a shell counts a program that Ctrl-C ended."""


FOR_THIS_RUN = f"; {', '.join(RUNTIME)} for this run alone"
"""What the help of `--set` says of RUNTIME where a call leaves those of the manifest as they are."""


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; gives the exit status: 0 done, 2 the input or the call is wrong, 75 stopped by a signal, 130
    interrupted."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal without letters such as ü must not end a run
            stream.reconfigure(errors="backslashreplace")
    options = build_parser().parse_args(arguments)
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
    who = f"rank {rank()}: " if world_size() > 1 else ""
    print("error:", who + printable(" ".join(problem.split())), file=sys.stderr)  # one line, whatever a cell held
    return 2


class Parser(argparse.ArgumentParser):
    """Speaks of a wrong call as of any other wrong input."""

    def error(self, message: str) -> NoReturn:
        call = f"{self.prog} VERB" if message.startswith("unrecognized") else self.prog  # then it is the verb's call
        print(f"error: {message}; `{call} --help` explains the call", file=sys.stderr)
        sys.exit(2)


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(
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
    verb = _add_command(
        verbs, "toy", toy, "draw a small world of three species in the competition's format", "toy world"
    )
    verb.add_argument("folder", metavar="DIR", type=Path, help="the data folder to make")
    verb.add_argument("--seed", type=int, default=0, help="another seed draws another world (default 0)")


def _add_check(verbs: Any) -> None:
    does = "validate a data folder, and a submission for it"
    verb = _add_command(verbs, "check", check, does, "check photographs --submission submission.csv")
    _add_data(verb)
    verb.add_argument("--submission", metavar="CSV", type=Path, help="check this submission's rows too")


def _add_train(verbs: Any) -> None:
    does = "train all networks, enrol the galleries, fit the thresholds"
    verb = _add_command(verbs, "train", train, does, "train photographs --out weights --recipe best --set epochs=30")
    _add_data(verb)
    verb.add_argument("--out", metavar="WEIGHTS", type=Path, required=True, help="the weights folder to make")
    verb.add_argument(
        "--recipe",
        metavar="NAME",
        default=DEFAULT,
        help=f"one of {', '.join(PRESETS)} (default {DEFAULT}), or a .toml file",
    )
    _add_settings(verb)
    verb.add_argument("--init", metavar="FILE", type=Path, help="the backbone's first weights (.safetensors or .pth)")
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
    does = "write a backbone's first weights into a file, for machines without a network"
    verb = _add_command(verbs, "fetch", fetch, does, "fetch resnet50 --out resnet50.safetensors")
    verb.add_argument("backbone", metavar="BACKBONE", help="timm's name, or hf-hub:OWNER/NAME")
    verb.add_argument("--out", metavar="FILE", type=Path, required=True, help="the .safetensors file to write")


def _add_enroll(verbs: Any) -> None:
    does = "embed the database photographs into the galleries again, e.g. with new individuals, without training"
    verb = _add_command(verbs, "enroll", enroll_again, does, "enroll photographs --weights weights")
    _add_data(verb)
    _add_weights(verb)
    _add_settings(verb, FOR_THIS_RUN)


def _add_calibrate(verbs: Any) -> None:
    does = "fit the thresholds again, without training"
    verb = _add_command(verbs, "calibrate", calibrate_again, does, "calibrate photographs --weights weights")
    _add_data(verb)
    _add_weights(verb)
    _add_settings(verb, FOR_THIS_RUN)


def _add_predict(verbs: Any) -> None:
    does = "write the submission for the query photographs"
    verb = _add_command(
        verbs, "predict", predict_queries, does, "predict photographs --weights weights --out submission.csv"
    )
    _add_data(verb)
    _add_weights(verb)
    verb.add_argument("--out", metavar="CSV", type=Path, required=True, help="the submission to write")
    _add_route(verb)
    _add_settings(verb)


def _add_score(verbs: Any) -> None:
    does = "score a submission as the organisers do"
    verb = _add_command(verbs, "score", score, does, "score submission.csv photographs/solution.csv")
    verb.add_argument("submission", metavar="CSV", type=Path, help="the submission, columns image_id and identity")
    verb.add_argument("solution", metavar="SOLUTION", type=Path, help="the true answers, the organisers' solution.csv")
    verb.add_argument("--usage", metavar="Public,Private", help="only the rows of these parts (default: all)")
    verb.add_argument("--json", action="store_true", help="print JSON instead of a table")


def _add_report(verbs: Any) -> None:
    does = "make a page a person can read: scores, thresholds, matches as pictures"
    verb = _add_command(verbs, "report", report, does, "report photographs --weights weights --out report")
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


def _add_command(verbs: Any, name: str, run: Callable[[argparse.Namespace], None], does: str, example: str) -> Any:
    """Return a verb, with what it does in a few words and how it is typed."""
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
        "--route",
        choices=("classifier", "column", "auto"),
        help=f"who chooses the encoder (default: the recipe's){more}",
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
