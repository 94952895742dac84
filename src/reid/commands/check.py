"""`reid check`: tell the faults of a table, its photographs and a submission."""

import argparse
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from reid.commands.options import add_command, add_data, add_json
from reid.commands.output import counted, log_next, log_next_of_submission, print_json
from reid.config.recipe import DataConfig
from reid.data.catalogue import (
    NEW_INDIVIDUAL,
    Catalogue,
    find_cell_faults,
    find_shared_photographs,
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
from reid.data.names import without_unknown
from reid.data.table_warnings import find_table_warnings
from reid.decision.answer_files import check_file_beside
from reid.decision.clusters import asks_for_clusters, check_clusters, read_clusters
from reid.decision.metrics import check_submission, read_submission
from reid.errors import InputError
from reid.runtime.progress import print_result

__all__ = ["add_parser", "run"]

log = logging.getLogger(__name__)


def add_parser(commands: Any) -> None:
    does = "validate a data folder, and a submission for it"
    command = add_command(commands, "check", run, does, "check photographs --submission submission.csv")
    add_data(command)
    command.add_argument(
        "--submission",
        metavar="CSV",
        type=Path,
        help="check this submission's rows too, and those of NAME.matches.csv or NAME.clusters.csv next to it",
    )
    add_json(
        command,
        "data; rows; faults and warnings, lists of sentences; datasets, with the counts of each; submission, null or "
        "its file, faults and beside, null or file, version and faults of what lies next to it",
    )


def run(options: argparse.Namespace) -> None:
    found = _findings(read_rows(options.data), options.submission)
    for words in found["warnings"]:
        log.warning(words)
    _print_check(found, options.json)
    _raise_for_faults(found)
    if options.submission:
        log_next_of_submission(options.submission, options.data)
    else:
        log_next("train", options.data, "--out", "weights")
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


def _raise_for_faults(found: dict[str, Any]) -> None:
    """Raise InputError where `check` found a fault."""
    data, unreadable = found["data"], sum(counts["unreadable"] for counts in found["datasets"].values())
    if found["faults"] and not unreadable:
        listed = ", ".join(counted(len(found[kind]), kind[:-1]) for kind in ("faults", "warnings") if found[kind])
        raise InputError(f"{Path(data) / 'metadata.csv'}: {listed}, listed above")
    if found["submission"] and found["submission"]["faults"]:
        file, number = found["submission"]["file"], counted(len(found["submission"]["faults"]), "fault")
        raise InputError(f"{file}: {number}, listed above; Kaggle would refuse or misread it")
    if found["submission"] and (beside := found["submission"]["beside"]) and beside["faults"]:
        number = counted(len(beside["faults"]), "fault")
        raise InputError(f"{beside['file']}: {number}, listed above; write it again, or remove it")
    if unreadable:
        raise InputError(
            f"{data}: unreadable, listed above: {counted(unreadable, 'photograph')}; replace the files or remove their "
            "rows. Otherwise train refuses those of the database (--set data.skip_unreadable=true, and recipe "
            f"keypoints without it, leave them out with a warning), and predict calls such queries {NEW_INDIVIDUAL}"
        )


def _print_check(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(found)
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
        warnings = f", {counted(len(found['warnings']), 'warning')}" if found["warnings"] else ""
        print_result(f"{found['data']}: no fault in {counted(found['rows'], 'row')}{warnings}")
