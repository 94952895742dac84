"""`reid import`: make metadata.csv from what other tools and folders hold."""

import argparse
import logging
from pathlib import Path
from typing import Any

from reid.commands.options import add_command
from reid.commands.output import log_next
from reid.config.recipe import DataConfig
from reid.data.catalogue import read_rows
from reid.data.names import describe_names
from reid.errors import InputError
from reid.formats.importing import FORMATS as IMPORT_FORMATS
from reid.runtime.progress import print_result

__all__ = ["add_parser", "run"]

log = logging.getLogger(__name__)


def add_parser(commands: Any) -> None:
    does = "make metadata.csv of what another tool wrote, or add to it"
    example = "import megadetector results.json --out photographs --min-confidence 0.2"
    command = add_command(commands, "import", run, does, example)
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


def run(options: argparse.Namespace) -> None:
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
    log_next("check", options.out)


def _named_column(words: str) -> tuple[str, str]:
    ours, equals, theirs = words.partition("=")
    if not (ours and equals and theirs):
        raise InputError(f"--map {words}: expected COLUMN=SOURCE, such as identity=AnimalName")
    return ours, theirs
