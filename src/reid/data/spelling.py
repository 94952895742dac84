"""How names are written: what people see and mean of them, and names that are one but for that."""

import re
import unicodedata
from collections.abc import Iterable

import pandas as pd

__all__ = ["find_near_misses", "is_unknown", "name_key", "spelled"]

BLANKS = "\u115f\u1160\u2800\u3164\uffa0"
"""Characters that Unicode counts among letters and signs, and that show nothing."""


def name_key(name: str) -> str:
    """Return what is left of a name without what people do not see or do not mean: capital letters, blanks around and
    between its words, invisible characters, how accented letters are composed, zeros before a number, and the `.0` that
    a spreadsheet puts behind one.

    >>> name_key(" Old  TOM "), name_key("007"), name_key("7.0"), name_key("spot_03")
    ('old tom', '7', '7', 'spot_3')
    """
    composed = unicodedata.normalize("NFC", name)
    visible = "".join(" " if letter.isspace() else letter for letter in composed if _is_visible(letter))
    words = " ".join(visible.casefold().split())
    return re.sub(r"(?<![\d.])0+(?=\d)", "", re.sub(r"^(\d+)\.0+$", r"\1", words))


def _is_visible(letter: str) -> bool:
    return letter.isspace() or (unicodedata.category(letter) not in ("Cf", "Cc") and letter not in BLANKS)


def is_unknown(name: str, words: Iterable[str]) -> bool:
    """Return whether a name is one of the words for nobody, whatever its capital letters, blanks and punctuation: with
    "na" also "N/A", "#N/A" and "<NA>", with "?" also "???" and "-"."""
    return _letters(name) in set(map(_letters, words))


def _letters(name: str) -> str:
    """Return the letters and digits of a name's key."""
    return re.sub(r"[\W_]+", "", name_key(name))


def find_near_misses(names: pd.Series) -> list[dict[str, int]]:
    """Return the names that differ only in what `name_key` leaves out: by spelling, how often it occurs, the commonest
    first and of equals the one that comes first."""
    counts = names[names != ""].value_counts(sort=False)
    by_key: dict[str, dict[str, int]] = {}
    for name, count in counts.items():
        by_key.setdefault(name_key(str(name)), {})[str(name)] = int(count)
    alike = [spellings for spellings in by_key.values() if len(spellings) > 1]
    return [dict(sorted(spellings.items(), key=lambda pair: -pair[1])) for spellings in alike]


def spelled(name: str) -> str:
    """Return a name between quotes, with codes in place of the characters that can't be seen or told apart."""
    odd = any(unicodedata.category(letter) in ("Mn", "Cf", "Cc", "Zs") and letter != " " for letter in name)
    return ascii(name[:99]) if odd else repr(name[:99])
