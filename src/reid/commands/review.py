"""`reid review`: ask a person about pairs, and keep the answers."""

import argparse
import logging
from pathlib import Path
from shlex import quote
from typing import Any

from reid.commands.call import recipe_of
from reid.commands.options import FOR_THIS_CALL, add_command, add_data, add_runtime, add_settings
from reid.commands.output import counted, log_next, log_times
from reid.config import settings
from reid.data.catalogue import Catalogue, read_catalogue
from reid.decision.answers import ANSWERS
from reid.decision.artifact import open_weights
from reid.errors import InputError
from reid.review.choices import CONFLICTS, MODES
from reid.runtime.files import is_file, refuse_unwritable
from reid.runtime.progress import print_result, stage

__all__ = ["add_parser", "run"]

log = logging.getLogger(__name__)


def add_parser(commands: Any) -> None:
    does = "make a page on which a person answers the pairs that matter most, or keep what she answered"
    command = add_command(commands, "review", run, does, "review photographs --weights weights --out review")
    add_data(command)
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
    add_settings(command, FOR_THIS_CALL)
    add_runtime(command)


def run(options: argparse.Namespace) -> None:
    if (options.apply is None) == (options.weights is None):
        found = "both" if options.apply else "neither"
        raise InputError(
            "reid review: expected --weights WEIGHTS and --out DIR to make a page, or --apply FILE for the answers "
            f"that a page has saved, found {found}; type one or the other"
        )
    if options.conflicts and not options.apply:
        raise InputError("--conflicts: expected --apply FILE with it, which holds the answers; add it")
    if ignored := [f"--{name}" for name in ("out", "mode", "individual") if options.apply and getattr(options, name)]:
        raise InputError(f"--apply: expected no {' and no '.join(ignored)}, which make a page; leave it out")
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

    recipe, runtime = recipe_of(weights, options, settings.PREDICTION)
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
    pairs = counted(len(made.questions), "pair")
    print_result(f"wrote {made.page}, which asks about {pairs}{evenly}; open it in a browser")
    log_times(seconds)
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
    log_next("discover", options.data, "--weights", "weights", "--out", "clusters.csv")
    log.info("or reid predict, for the names of known animals")
