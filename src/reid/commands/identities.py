"""`reid identities`: list, rename, merge and split individuals."""

import argparse
import logging
from dataclasses import asdict
from datetime import UTC, datetime
from getpass import getuser
from typing import TYPE_CHECKING, Any

from reid.commands.options import add_command, add_data, add_json
from reid.commands.output import counted, log_next, print_json
from reid.data.spelling import spelled
from reid.runtime.progress import print_result

if TYPE_CHECKING:
    from reid.data.identities import Change

__all__ = ["add_parser", "run"]

log = logging.getLogger(__name__)


def add_parser(commands: Any) -> None:
    does = "list, rename, merge and split the individuals of metadata.csv, with a log that can be undone"
    command = add_command(commands, "identities", run, does, "identities photographs rename Mira Mirra")
    add_data(command)
    command.set_defaults(json=False)
    actions = command.add_subparsers(dest="action", metavar="ACTION", required=False)

    def add(name: str, does: str, example: str) -> argparse.ArgumentParser:
        action: argparse.ArgumentParser = add_command(actions, name, run, does, f"identities {example}")
        return action

    listing = add("list", "list the individuals, which is done without an action too", "photographs list --json")
    add_json(listing, "individuals, of each the dataset, identity, photographs, first and last (days), and sides")
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
    add_json(logged, "changes, as the lines of identities.jsonl")


def run(options: argparse.Namespace) -> None:
    from reid.data.identities import list_individuals, read_log

    if options.action in (None, "list"):
        individuals = list_individuals(options.data)
        if options.json:
            print_json({"individuals": individuals.to_dict("records")})
        else:
            print_result(individuals.to_string(index=False))
        return
    if options.action != "log":
        _change_identities(options)
        return
    changes = read_log(options.data)
    if options.json:
        print_json({"changes": [asdict(change) for change in changes]})
        return
    for number, change in enumerate(changes, 1):
        print_result(f"{number}. {change.when}{f' {change.who}' if change.who else ''}: {_words_of_change(change)}")


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
    log_next("enroll", options.data, "--weights", "WEIGHTS")
    log.info("then: reid calibrate, as the galleries and thresholds of WEIGHTS know the names as they were")


def _words_of_change(change: "Change") -> str:
    what = f"{change.action} {change.undoes}" if change.undoes else change.action
    photographs = counted(len(change.photographs), "photograph")
    return f"{what}: {photographs} of {change.dataset}, {spelled(change.old)} -> {spelled(change.new)}"


def _user() -> str:
    """Return the name by which this machine knows the person; "" where it does not."""
    try:
        return getuser()
    except (OSError, KeyError, ImportError):
        return ""
