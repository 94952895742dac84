"""Who was seen on which occasion: capture histories, as spatial and other capture-recapture packages read them.

- `captures.txt`: R package secr, `read.capthist(..., fmt = "trapID")`: session, individual, occasion, detector; blanks
  between them, comments begin with #.
- `captures.csv`: the same in columns with names, as oSCR's edf takes them, with how sure each name is.
- `history.csv`: a row per individual, a column of 0 and 1 per occasion.
- `history.inp`: MARK's and RMark's encounter histories, /* name */ 0101 1;
- `occasions.csv`: the first and last day of each occasion.

An occasion is a day, a week from the first day on, or a calendar month; those without a photograph count too, because
nothing here says when the cameras ran. A dataset is a session.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from reid.errors import InputError
from reid.formats.export_choices import ExportChoices, Exported
from reid.formats.named import Named
from reid.runtime.files import write_bytes, write_table

__all__ = ["OCCASIONS", "write"]

OCCASIONS = ("day", "week", "month")

FLANKS = ("left", "right")
"""The sides whose histories are not joined: animals that were only seen from one may be counted twice."""


def write(named: Named, out: Path, choices: ExportChoices) -> Exported:
    """Write the histories into a folder, with `per_side` into `left` and `right` in it.

    Raises:
        InputError: no named row has a whole date.
    """
    table = named.table
    usable = table[(table["name"] != "") & (table["day"].str.len() == len("2024-05-03"))]
    if usable.empty:
        raise InputError(
            f"{named.catalogue.root}: expected rows with a name and a day, which a capture history is made of, "
            "found none; fill in the column date, or name what predict or discover wrote with --answers"
        )
    occasions = _occasions(usable["day"], choices.occasion)
    usable = usable.assign(occasion=_numbers(usable["day"], occasions))
    told = [
        *_left_out(table, usable),
        "camera effort is not known here: an occasion without a photograph counts as one without a capture",
    ]
    if not choices.per_side:
        return Exported(_write_histories(usable, occasions, out), len(usable), told)
    sides = {side: usable[usable["orientation"].str.contains(side)] for side in FLANKS}
    files = [
        file for side, rows in sides.items() if len(rows) for file in _write_histories(rows, occasions, out / side)
    ]
    other = usable[~usable["orientation"].str.contains("|".join(FLANKS))]
    if not files:
        raise InputError("--per-side: expected left or right in the column orientation, found neither; fill it in")
    if len(other):
        told.insert(0, f"{len(other)} rows are in neither side's history: their column orientation names none")
    return Exported(files, sum(map(len, sides.values())), told)


def _left_out(table: pd.DataFrame, usable: pd.DataFrame) -> Iterator[str]:
    unnamed = int((table["name"] == "").sum())
    if unnamed:
        yield f"{unnamed} rows were left out: nobody is named there"
    if undated := len(table) - len(usable) - unnamed:
        yield f"{undated} rows were left out: no whole date"
    unconfirmed = int((~usable["confirmed"]).sum())
    if unconfirmed:
        yield f"{unconfirmed} of {len(usable)} rows have a name that no person confirmed; --confirmed leaves them out"
    if (usable["place"] == "").any():
        yield f"{int((usable['place'] == '').sum())} rows have no place; their detector is called unknown"


def _occasions(days: pd.Series, kind: str) -> pd.DataFrame:
    """Return number, first and last day of every occasion from the first photograph to the last."""
    first, last = pd.Timestamp(days.min()), pd.Timestamp(days.max())
    if kind == "month":
        first = first.replace(day=1)
    starts = pd.date_range(first, last, freq={"day": "D", "week": "7D", "month": "MS"}[kind])
    step = {"day": pd.DateOffset(days=1), "week": pd.DateOffset(days=7), "month": pd.DateOffset(months=1)}[kind]
    ends = [start + step - pd.DateOffset(days=1) for start in starts]
    text = "%Y-%m-%d"
    return pd.DataFrame(
        {
            "occasion": np.arange(1, len(starts) + 1),
            "first_day": starts.strftime(text),
            "last_day": [end.strftime(text) for end in ends],
        }
    )


def _numbers(days: pd.Series, occasions: pd.DataFrame) -> np.ndarray:
    """Return each day's occasion."""
    return np.searchsorted(occasions["first_day"].to_numpy(str), days.to_numpy(str), side="right")


def _write_histories(rows: pd.DataFrame, occasions: pd.DataFrame, out: Path) -> list[Path]:
    captures = _captures(rows)
    matrix = _matrix(captures, len(occasions))
    lines = [f"{each.session} {each.individual} {each.occasion} {each.detector}" for each in captures.itertuples()]
    secr = "# session individual occasion detector\n" + "\n".join(lines) + "\n"
    inp = [
        f"/* {name} */ {''.join(map(str, history))} 1;"
        for name, history in zip(matrix.index, matrix.to_numpy(), strict=True)
    ]
    write_bytes(out / "captures.txt", secr.encode())
    write_table(out / "captures.csv", captures)
    write_table(out / "history.csv", matrix.rename_axis("individual").reset_index())
    write_bytes(out / "history.inp", ("\n".join(inp) + "\n").encode())
    write_table(out / "occasions.csv", occasions)
    return [out / name for name in ("captures.txt", "captures.csv", "history.csv", "history.inp", "occasions.csv")]


def _captures(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one row per session, individual, occasion and detector, however many photographs there are of it."""
    words = pd.DataFrame(
        {
            "session": rows["dataset"].map(_word),
            "individual": rows["name"].map(_word),
            "occasion": rows["occasion"],
            "detector": rows["place"].map(lambda place: _word(place) or "unknown"),
            "probability": rows["probability"],
            "confirmed": rows["confirmed"],
        }
    )
    groups = words.groupby(["session", "individual", "occasion", "detector"], sort=True)
    return groups.agg(
        photographs=("confirmed", "size"), probability=("probability", "max"), confirmed=("confirmed", "any")
    ).reset_index()


def _word(words: str) -> str:
    """Return a name without blanks, which end a word in secr's files: "Old Tom" -> "Old_Tom"."""
    return re.sub(r"[\s#\"',/*]+", "_", words.strip())


def _matrix(captures: pd.DataFrame, occasions: int) -> pd.DataFrame:
    """Return a row per individual, 1 where it was seen on an occasion; individuals of several sessions have their
    session's name before theirs."""
    several = captures["session"].nunique() > 1
    names = captures["session"] + ":" + captures["individual"] if several else captures["individual"]
    matrix = pd.DataFrame(0, index=sorted(set(names)), columns=range(1, occasions + 1))
    for name, occasion in zip(names, captures["occasion"], strict=True):
        matrix.loc[name, occasion] = 1
    return matrix
