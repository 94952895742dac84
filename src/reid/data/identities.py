"""Who is who in metadata.csv: individuals are listed, renamed, merged and split, and each change can be undone.

Only cells of the column identity change, and only those of known photographs; who is on a query is what answers about
pairs say. metadata.csv is copied before it is written over for the first time, and again where somebody else has
changed it since. `identities.jsonl` next to it keeps a line for each change, also for those that were undone.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path

import pandas as pd

from reid.config.recipe import UNKNOWN_WORDS
from reid.data.catalogue import COLUMNS, NAME, NEW_INDIVIDUAL, Catalogue, find_cell_faults, read_rows
from reid.data.competition import refuse_hand_labels
from reid.data.spelling import is_unknown, name_key, spelled
from reid.errors import InputError
from reid.runtime.copies import keep_copy
from reid.runtime.files import as_fields, first_of, is_file, read_table, sha256_of, write_bytes, write_table

__all__ = ["LOG", "Change", "list_individuals", "merge", "read_log", "rename", "split", "undo"]

LOG = "identities.jsonl"


@dataclass(frozen=True)
class Change:
    """One change of who is who.

    Attributes:
        action: rename, merge, split or undo.
        dataset: whose individuals.
        old, new: what the photographs were called, and are called since.
        photographs: their image_ids.
        who: whoever changed it, as far as is known.
        when: the moment, as ISO 8601 writes it.
        sha256: of metadata.csv as this change wrote it.
        undoes: the number of the change that was undone; 0 for none.
        saved: the copy of metadata.csv that was made before; "" for none.
    """

    action: str
    dataset: str
    old: str
    new: str
    photographs: tuple[str, ...]
    who: str
    when: str
    sha256: str = ""
    undoes: int = 0
    saved: str = ""


def list_individuals(folder: Path) -> pd.DataFrame:
    """Return the individuals of a data folder: columns dataset, identity, photographs (how many), first and last (their
    days, "" where none has one) and sides.

    Raises:
        InputError: see `read_rows`; a cell has a fault.
    """
    known = _rows(folder).database.table
    rows = [
        {
            "dataset": dataset,
            "identity": identity,
            "photographs": len(photographs),
            "first": min(filter(None, photographs["day"]), default=""),
            "last": max(filter(None, photographs["day"]), default=""),
            "sides": " ".join(sorted(set(photographs["orientation"]) - {""})),
        }
        for (dataset, identity), photographs in known.groupby(["dataset", "identity"])
    ]
    return pd.DataFrame(rows, columns=["dataset", "identity", "photographs", "first", "last", "sides"])


def rename(folder: Path, old: str, new: str, who: str, when: str, dataset: str = "") -> Change:
    """Give an individual another name.

    Args:
        folder: the data folder.
        old: the individual.
        new: a name that no other individual of its dataset has.
        who, when: see `Change`.
        dataset: of the individual; "" where its name stands in one dataset only.

    Raises:
        InputError: there is no such individual, or several; the new name can't be one, or somebody has it.
    """
    table = _rows(folder).database.table
    rows = _individual(table, old, dataset)
    dataset = str(rows["dataset"].iloc[0])
    names = set(table["identity"][table["dataset"] == dataset]) - {old}
    if new in names:
        raise InputError(
            f"{spelled(new)} is another individual of {dataset}; if the two are one, type merge in place of rename"
        )
    return _apply(folder, Change("rename", dataset, old, _new_name(new, old, names), (), who, when), rows)


def merge(folder: Path, old: str, into: str, who: str, when: str, dataset: str = "") -> Change:
    """Make the photographs of one individual another's, see `rename`.

    Raises:
        InputError: there is no such individual, or several; both are one.
    """
    table = _rows(folder).database.table
    rows = _individual(table, old, dataset)
    dataset = str(rows["dataset"].iloc[0])
    if old == into:
        raise InputError(f"{spelled(old)}: expected two individuals to merge, found one twice")
    _individual(table, into, dataset)
    return _apply(folder, Change("merge", dataset, old, into, (), who, when), rows)


def split(folder: Path, old: str, new: str, image_ids: Sequence[str], who: str, when: str, dataset: str = "") -> Change:
    """Take photographs away from an individual, and give them to a new one, or to another.

    Args:
        image_ids: some of its photographs.
        folder, old, new, who, when, dataset: see `rename`.

    Raises:
        InputError: there is no such individual, or several; the new name can't be one; photographs that are not its, or
            all of them.
    """
    catalogue = _rows(folder)
    rows = _individual(catalogue.database.table, old, dataset)
    refuse_hand_labels(catalogue, image_ids, "split", "Leave them out")
    _refuse_others(catalogue, old, rows, image_ids)
    chosen = rows[rows["image_id"].isin(list(image_ids))]
    if len(chosen) == len(rows):
        raise InputError(
            f"{spelled(old)}: expected some of its photographs, found all {len(rows)}; type rename or merge"
        )
    dataset = str(rows["dataset"].iloc[0])
    known = catalogue.database.table
    names = set(known["identity"][known["dataset"] == dataset])
    name = new if new in names - {old} else _new_name(new, old, names)
    return _apply(folder, Change("split", dataset, old, name, (), who, when), chosen)


def undo(folder: Path, who: str, when: str) -> Change:
    """Undo the last change that is not undone yet.

    Raises:
        InputError: there is none; somebody has changed these photographs since.
    """
    log = read_log(folder)
    undone = {change.undoes for change in log}
    left = [number for number, change in enumerate(log, 1) if change.action != "undo" and number not in undone]
    if not left:
        found = "all changes are undone" if log else f"there is no {LOG} in {folder}"
        raise InputError(f"undo: expected a change to undo, found none: {found}")
    change = log[left[-1] - 1]
    table = _rows(folder).database.table
    rows = table[table["image_id"].isin(change.photographs)]
    still = rows[rows["identity"] == change.new]
    if len(still) < len(change.photographs):
        gone = [image_id for image_id in change.photographs if image_id not in set(still["image_id"])]
        raise InputError(
            f"undo: expected {change.new!r} on the photographs that the last change called so, found that "
            f"{first_of(gone)} {'is' if len(gone) == 1 else 'are'} not called so any more, or gone: metadata.csv was "
            "changed otherwise since. Correct it by hand"
        )
    return _apply(folder, Change("undo", change.dataset, change.new, change.old, (), who, when, undoes=left[-1]), still)


def read_log(folder: Path) -> list[Change]:
    """Return all changes, the oldest first; they are numbered from 1.

    Raises:
        InputError: the file can't be read.
    """
    path = folder / LOG
    if not is_file(path):
        return []
    changes = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            changes.append(Change(**as_fields(json.loads(line))))
        except (ValueError, TypeError, AttributeError) as problem:
            raise InputError(
                f"{path}: line {number}: expected a change of an individual, but it can't be read ({problem}); remove "
                "this line"
            ) from None
    return changes


def _rows(folder: Path) -> Catalogue:
    catalogue = read_rows(folder)
    if faults := find_cell_faults(catalogue):
        raise InputError(f"{folder / 'metadata.csv'}: {faults[0]} (`reid check {folder}` lists all faults)")
    return catalogue


def _individual(table: pd.DataFrame, name: str, dataset: str) -> pd.DataFrame:
    """Return an individual's photographs among known ones; refuse one that is not there, or in several datasets."""
    if dataset and dataset not in set(table["dataset"]):
        raise InputError(f"--dataset {dataset}: expected one of {first_of(sorted(set(table['dataset'])))}")
    there = table[table["dataset"] == dataset] if dataset else table
    rows = there[there["identity"] == name]
    if rows.empty:
        names = sorted(set(there["identity"]))
        alike = [other for other in names if name_key(other) == name_key(name)] or get_close_matches(name, names)
        advice = f"type for example {first_of([spelled(one) for one in alike])}" if alike else "list shows them"
        where = f" of {dataset}" if dataset else ""
        raise InputError(f"{spelled(name)}: expected an individual{where} with known photographs, found none; {advice}")
    counts = rows["dataset"].value_counts()
    if len(counts) > 1:
        found = ", ".join(f"{one} ({count})" for one, count in counts.items())
        raise InputError(
            f"{spelled(name)}: expected an individual of one dataset, found photographs in {found}; add --dataset "
            f"{counts.index[0]}"
        )
    return rows


def _new_name(name: str, old: str, names: set[str]) -> str:
    """Return a new individual's name; refuse one that can't be, or that differs from another's in its writing only.

    Args:
        name: the name.
        old: what the photographs are called now.
        names: those that individuals of the dataset have afterwards.
    """
    if name == old:
        raise InputError(f"{spelled(name)}: expected another name than the individual has")
    if not name_key(name) or not NAME.fullmatch(name):
        raise InputError(f"{spelled(name)}: expected a name of 1 to 200 characters, no control characters among them")
    if name != name.strip():
        raise InputError(f"{spelled(name)}: expected a name without blanks around it; type {spelled(name.strip())}")
    if name == NEW_INDIVIDUAL or is_unknown(name, UNKNOWN_WORDS):
        raise InputError(f"{spelled(name)}: expected an individual's name, found a word for nobody; choose another")
    if alike := sorted(other for other in names if name_key(other) == name_key(name)):
        raise InputError(
            f"{spelled(name)}: expected a name that nobody has, found {spelled(alike[0])}, which differs only in how "
            f"it is written; type {spelled(alike[0])} if that is meant, or choose another"
        )
    return name


def _refuse_others(catalogue: Catalogue, old: str, rows: pd.DataFrame, image_ids: Sequence[str]) -> None:
    """Refuse photographs that are not an individual's."""
    others = [image_id for image_id in image_ids if image_id not in set(rows["image_id"])]
    if not others:
        return
    who = dict(zip(catalogue.image_ids, catalogue.identities, strict=True))
    found = {
        image_id: "not in metadata.csv"
        if image_id not in who
        else spelled(who[image_id])
        if who[image_id]
        else "a query, which answers name: see `reid enroll --confirmed`"
        for image_id in others
    }
    words = first_of([f"{image_id[:99]} ({what})" for image_id, what in found.items()])
    raise InputError(f"--photographs: expected image_ids of {spelled(old)}, found {words}")


def _apply(folder: Path, change: Change, rows: pd.DataFrame) -> Change:
    """Write a change into metadata.csv and its line into the log.

    Args:
        folder: the data folder.
        change: what is to be done, but for what is known only when it is done.
        rows: the photographs that get the name `change.new`.
    """
    path, log = folder / "metadata.csv", read_log(folder)
    is_ours = bool(log) and log[-1].sha256 == sha256_of(path)
    saved = "" if is_ours else keep_copy(path).name
    table = read_table(path, COLUMNS)
    table.loc[rows.index, "identity"] = change.new
    write_table(path, table)
    done = {"photographs": tuple(rows["image_id"]), "sha256": sha256_of(path), "saved": saved}
    written = Change(**{**asdict(change), **done})
    _append(folder / LOG, asdict(written))
    return written


def _append(path: Path, line: Mapping[str, object]) -> None:
    before = path.read_bytes() if path.exists() else b""
    write_bytes(path, before + json.dumps(line, ensure_ascii=False).encode() + b"\n")
