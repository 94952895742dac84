"""The side of an animal that a photograph shows, whatever word of English a table has for it."""

import re

__all__ = ["read_side"]

ENDS = ("front", "back", "top", "bottom", "up", "down", "dorsal", "ventral")
FLANKS = ("left", "right")

SHORT = {"l": "left", "lt": "left", "lhs": "left", "r": "right", "rt": "right", "rhs": "right", "rear": "back"}

FILLERS = ("side", "flank", "lateral", "view", "viewpoint", "profile", "facing", "hand", "the", "of", "body")
"""What stands beside a side's word and says nothing more: "left lateral", "right-hand side"."""

NOT_KNOWN = ("", "unknown", "unk", "na", "n/a", "nan", "none", "null", "?", "-", "unspecified", "undefined")

WORD = re.compile(rf"({'|'.join((*ENDS, *FLANKS))})")


def read_side(cell: str) -> tuple[str, bool]:
    """Return the side that a cell of the column orientation names, and whether it was understood.

    >>> read_side("Left lateral"), read_side("R"), read_side("back-left"), read_side("unknown")
    (('left', True), ('right', True), ('backleft', True), ('', True))

    A side is one of `FLANKS` or `ENDS`, or an end and a flank together, in that order ("topleft"); "" is not known. A
    cell that is not understood is returned as it is.
    """
    plain = cell.strip().casefold()
    if plain in NOT_KNOWN:
        return "", True
    parts: list[str] = []
    for token in re.split(r"[\s_./,-]+", plain):
        word = SHORT.get(token, token)
        if word not in ("", *FILLERS):
            parts += [part for part in WORD.split(word) if part not in ("", *FILLERS)]
    ends, flanks = [part for part in parts if part in ENDS], [part for part in parts if part in FLANKS]
    if not parts or len(ends) > 1 or len(flanks) > 1 or len(ends) + len(flanks) < len(parts):
        return cell, False
    return "".join([*ends, *flanks]), True
