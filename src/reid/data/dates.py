"""The days of photographs: read from the cells of a table, and doubted where no photograph can be of that day."""

import re
from datetime import date, timedelta

import numpy as np
import pandas as pd

__all__ = ["PROBLEMS", "find_date_problems", "read_days", "read_moments"]

DATE = re.compile(r"^(\d{4})([-:])(\d\d?)(?:\2(\d\d?))?(?!\d)")
"""Year, month and day with hyphens or with the colons of EXIF 2.32, whose month and day may have one digit."""

SHARED_BY = 3
"""So many individuals of a dataset on the first day of a clock: their camera had lost its time. One may be right."""

RESET = ("1970", "1980", "2000")
"""Years in which cameras' clocks start; whatever the hour, nobody believes their first day."""

HOURS = 6
"""Photographs of later hours are a day's work, not the first ones after a battery was changed."""

FIRST_DAYS = re.compile(r"\d{4}-01-01|1899-12-3[01]")
"""Where the clocks of cameras start after their battery was empty, 1 January of a year that differs from maker to maker
(1970, 1980 and 2000 above all); and what spreadsheets make of the number 0."""

MOMENT = re.compile(
    r"\S+?[T ](?P<hour>[01]?\d|2[0-3]):(?P<rest>[0-5]\d(?::[0-5]\d)?)(?:[.,]\d+)?\s*(?P<zone>Z|[+-]\d\d:?\d\d)?"
)
"""A day and a time of day; parts of a second are left out."""

PROBLEMS = {
    "unread": "can't be read: expected YYYY-MM-DD",
    "future": "are in the future",
    "clock": f"are the first day of a camera's clock, or a year alone, shared by {SHARED_BY} individuals or more",
}
"""Why a photograph counts as undated although its cell is not empty."""


def read_days(dates: pd.Series) -> pd.Series:
    """Return the days as they are written, whatever the clock and the time zone: YYYY-MM-DD, or YYYY-MM or YYYY where
    the cell says no more; "" where none can be read."""
    padded = dates.str.replace(DATE, _padded, regex=True)
    # without this pandas takes "now" for a date
    written = padded.str.extract(r"^(\d{4}(?:-?\d\d){0,2})(?:[T ].*)?$", expand=False)
    days = pd.to_datetime(written, errors="coerce", format="ISO8601")
    digits, whole = written.str.replace("-", "").str.len(), days.dt.strftime("%Y-%m-%d")
    as_written = whole.where(digits == 8, whole.str[:7].where(digits == 6, whole.str[:4]))
    return as_written.fillna("").astype(object)


def _padded(date: re.Match[str]) -> str:
    """2020:5:3 -> 2020-05-03"""
    return "-".join(number.zfill(2) for number in date.group(1, 3, 4) if number)


def find_date_problems(table: pd.DataFrame, days: pd.Series, today: date) -> pd.Series:
    """Return what is wrong with each row's date: a word of `PROBLEMS`, "" where nothing is, or the cell is empty.

    Args:
        table: columns date, dataset, identity and split.
        days: of the rows, see `read_days`.
        today: days after the next one are in the future; the next one has begun somewhere.
    """
    problems = pd.Series("", index=table.index, dtype=object)
    problems[(table["date"].str.strip() != "") & (days == "")] = "unread"
    tomorrow = (today + timedelta(days=1)).isoformat()
    problems[[day > tomorrow[: len(day)] for day in days]] = "future"
    hours = pd.to_numeric(table["date"].str.extract(r"[T ](\d\d?):", expand=False)).fillna(0)
    first_day = days.map(lambda day: bool(FIRST_DAYS.fullmatch(day))) & ((hours < HOURS) | days.str[:4].isin(RESET))
    named = table[first_day & (table["identity"] != "")].assign(day=days)
    individuals = named.groupby(["dataset", "day"])["identity"].nunique()
    shared = set(individuals.index[individuals >= SHARED_BY])
    keys = zip(table["dataset"], days, strict=True)
    doubted = np.array([key in shared for key in keys]) & first_day.to_numpy() & (problems == "").to_numpy()
    problems[doubted] = "clock"
    return problems


def read_moments(dates: pd.Series, days: pd.Series) -> pd.Series:
    """Return the moments, as exactly as they are written: "2024-05-05 07:03:09", or "2024-05-05 07:03" where the cell
    has no seconds, with the time zone where the cell has one; "" where there is no time of day, or none to believe.

    Midnight sharp is what programs write where they know the day only. On the first of January a clock that has lost
    its time starts, see `FIRST_DAYS`; there every camera has the same moments.

    Args:
        dates: cells of the column date.
        days: what `read_days` read of them, "" where they are doubted (a catalogue's column day).
    """
    cells = zip(dates, days, strict=True)
    return pd.Series([_moment(cell.strip(), day) for cell, day in cells], index=dates.index, dtype=object)


def _moment(cell: str, day: str) -> str:
    found = MOMENT.fullmatch(cell)
    if not found or len(day) < len("2024-05-05") or FIRST_DAYS.fullmatch(day):
        return ""
    time = f"{found['hour'].zfill(2)}:{found['rest']}"
    return "" if time in ("00:00", "00:00:00") else f"{day} {time}{found['zone'] or ''}"
