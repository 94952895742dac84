"""Back into other people's tools: the table of formats that can be written."""

from collections.abc import Callable
from pathlib import Path

from reid.errors import InputError
from reid.formats.export_choices import ExportChoices, Exported
from reid.formats.exporters import camtrap_dp, capture_history, coco, wildbook
from reid.formats.named import Named, read_named

__all__ = ["EXPORT_FORMATS", "export_names"]

WRITERS: dict[str, Callable[[Named, Path, ExportChoices], Exported]] = {
    "camtrap-dp": camtrap_dp.write,
    "wildbook": wildbook.write,
    "coco": coco.write,
    "capture-history": capture_history.write,
}

EXPORT_FORMATS = {
    "camtrap-dp": "a folder, Camtrap DP 1.0.2 with individualID",
    "wildbook": "a sheet for Wildbook's bulk import, .csv or .xlsx",
    "coco": "COCO with identities, .json",
    "capture-history": "a folder with who was seen on which occasion, for secr, oSCR and MARK",
}
"""What can be written, in a few words each."""


def export_names(
    export_format: str,
    data: Path | str,
    out: Path | str,
    answers: Path | str | None = None,
    pairs: Path | str | None = None,
    confirmed_only: bool = False,
    choices: ExportChoices | None = None,
) -> tuple[Named, Exported]:
    """Write the names of a data folder's animals for another tool.

    Args:
        export_format: one of `EXPORT_FORMATS`.
        data: the data folder.
        out: the file or folder to write.
        answers: what `predict` or `discover` wrote; None for the names that people gave.
        pairs: what people said of pairs; None for pairs.csv in the data folder.
        confirmed_only: leave out names that no person confirmed.
        choices: what the data folder alone does not say.

    Returns:
        The rows with their names, and what was written.

    Raises:
        InputError: an input can't be read, lacks what the format requires, or the output can't be written.
    """
    if export_format not in WRITERS:
        raise InputError(f"{export_format}: expected a format, one of {', '.join(WRITERS)}")
    said, linked = (None if path is None else Path(path) for path in (answers, pairs))
    named = read_named(Path(data), said, linked, confirmed_only)
    return named, WRITERS[export_format](named, Path(out), choices or ExportChoices())
