"""The command line `reid COMMAND`: its options, its exit status, and what it prints when something goes wrong."""

import argparse
import io
import logging
import os
import platform
import sys
import traceback
from typing import NoReturn

from reid import __version__
from reid.commands import (
    calibrate,
    check,
    count,
    diagnose,
    discover,
    enroll,
    export,
    fetch,
    identities,
    importing,
    predict,
    recipes,
    report,
    review,
    score,
    toy,
    train,
)
from reid.commands.options import add_verbosity
from reid.data.box_warnings import clipped_boxes_logged
from reid.data.library_warnings import library_warnings_logged
from reid.errors import InputError, MachineError, Stopped
from reid.runtime.distributed import rank, world_size
from reid.runtime.memory import keep_freed_memory
from reid.runtime.progress import messages_on_stderr, printable

__all__ = ["Parser", "build_parser", "main"]

log = logging.getLogger(__name__)

MACHINE_OR_BUG = 1
WRONG_INPUT = 2
TO_BE_QUEUED_AGAIN = 75
"""EX_TEMPFAIL of BSD's sysexits.h, which Python does not name on Windows."""
INTERRUPTED = 130
"""As a shell counts a program that Ctrl-C ended."""

COMMANDS = (
    toy,
    importing,
    check,
    train,
    fetch,
    enroll,
    calibrate,
    predict,
    discover,
    count,
    score,
    report,
    review,
    identities,
    diagnose,
    export,
    recipes,
)
"""In the order in which `reid --help` lists them."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit status: 0 done, 2 the input or the call is wrong, 1 the machine failed or this is a bug, 75 stopped by
        a signal, 130 interrupted.
    """
    keep_freed_memory()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal without letters such as ü must not end a run
            stream.reconfigure(errors="backslashreplace")
    options = build_parser().parse_args(arguments)
    with messages_on_stderr(options.level), library_warnings_logged():
        return _run(options)


def _run(options: argparse.Namespace) -> int:
    try:
        with clipped_boxes_logged(getattr(options, "data", None)):
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
    add_verbosity(parser)
    parser.set_defaults(level=logging.INFO, debug=False)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_parser(commands)
    return parser
