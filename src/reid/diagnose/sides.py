"""The sides of animals: who is known from which, what one tells of another, and photographs that have a wrong one."""

from collections.abc import Callable

import numpy as np
from scipy.stats import binom, hypergeom

from reid.data.catalogue import Catalogue
from reid.diagnose.conditions import Answered, Condition, of_side
from reid.diagnose.parts import LEAST, SURPRISING, Part

__all__ = ["known_sides", "matched_by", "same_and_other_side"]

SUSPECTS = 3
"""Photographs, at least, before sides are called wrong: two that are alike by luck find each other."""


def known_sides(known: Catalogue) -> Part:
    """Who is known from which side only."""
    name, table = "sides that are known", known.table
    sided = table[table["orientation"] != ""]
    if sided.empty:
        return Part(name, "Not measured: no known photograph has an orientation.")
    sides = sorted(set(sided["orientation"]))
    if len(sides) == 1:
        return Part(name, f"Every known photograph that has an orientation shows the same: {sides[0]}.")
    by = sided.groupby("identity")["orientation"].agg(lambda cells: " and ".join(sorted(set(cells))))
    counts = by.value_counts().sort_index()
    alone = int((sided.groupby("identity")["orientation"].nunique() == 1).sum())
    words = f"{alone} of {len(by)} individuals are known from one side only; a query of another side can't find them."
    return Part(
        name, words, False, ("sides", "individuals"), tuple((side, int(count)) for side, count in counts.items())
    )


def same_and_other_side(known: Catalogue, ask: Callable[[Condition], Answered]) -> Part:
    """Rank-1 by the same side and by another, and photographs that look as if their side were the wrong one."""
    name = "same side and other side"
    sides = known.table["orientation"]
    if sides[sides != ""].nunique() < 2:
        return Part(name, "Not measured: the known photographs show one side only, or no side is given.")
    same, other = ask(of_side(True)), ask(of_side(False))
    rows = tuple(
        (words, len(one), "" if len(one) < LEAST else f"{one.rank1:.2f}", "" if len(one) < LEAST else f"{one.baks:.2f}")
        for words, one in (("the same side", same), ("another side", other))
    )
    words = (
        "Photographs compared with those of their animal that show the same side, or another, but not with those of "
        "the same day. Two sides have few markings in common: what tells another side may be the moment or the place."
    )
    strange, alarm = wrong_sides(same, other, known.table["identity"].nunique())
    if alarm:
        words += (
            f" {len(strange)} are recognised by another side and not by their own: their orientation is probably "
            f"wrong, or their animal's other photographs': {', '.join(strange[:10])}."
        )
    return Part(name, words, alarm, ("compared with", "photographs", "rank-1", "named rightly"), rows)


def wrong_sides(same: Answered, other: Answered, individuals: int) -> tuple[list[str], bool]:
    """Return photographs that are recognised by another side of their animal and not by their own, and whether they
    are more than luck explains.

    Where sides are alike by nature, another side succeeds as often where a photograph's own side fails as where it
    succeeds (Fisher's exact test), matches through suspects left out, for a wrong side is also found by the right ones.
    And more suspects are needed than come of naming somebody by mistake, shared among the other individuals. Matches
    through a photograph that has no other of its own side are left out: nothing says which of the two is wrong.

    Args:
        same, other: photographs compared with the same side, and with another.
        individuals: known ones.
    """
    right = dict(zip(same.image_id, same.right & same.named, strict=True))
    judged = np.isin(other.image_id, same.image_id)
    judged &= ~(other.right & other.named) | np.isin(other.photograph, other.image_id[judged])
    named, found, image_id = other.named[judged], other.right[judged], other.image_id[judged]
    fails = ~np.array([right[each] for each in image_id], bool)
    suspect = fails & found & named
    through = np.isin(other.photograph[judged], image_id[suspect]) & found & named
    rest, count = (found & named)[~fails & ~through], len(image_id)
    if suspect.sum() < SUSPECTS:
        return sorted(image_id[suspect]), False
    alike = hypergeom.sf(suspect.sum() - 1, len(rest) + fails.sum(), rest.sum() + suspect.sum(), fails.sum())
    mistaken = max((named & ~found).mean(), 1 / count) / max(1, individuals - 1)
    mistakes = binom.sf(suspect.sum() - 1, count, fails.mean() * mistaken)
    return sorted(image_id[suspect]), bool(max(alike, mistakes) < SURPRISING)


def matched_by(known: Catalogue, everything: Answered) -> Part:
    """Through which photographs known ones are recognised: of their side, of another, or through a mirror image."""
    name = "matches of another side and mirrored"
    sides = dict(zip(known.image_ids, known.table["orientation"], strict=True))
    if not any(sides.values()) and not everything.mirrored.any():
        return Part(name, "Not measured: no known photograph has an orientation, and none matches a mirror image.")
    own, best = (
        np.array([sides.get(each, "") for each in ids], str) for ids in (everything.image_id, everything.photograph)
    )
    unknown = (own == "") | (best == "")
    kinds = {
        "the same side": ~everything.mirrored & ~unknown & (own == best),
        "another side": ~everything.mirrored & ~unknown & (own != best),
        "a mirror image": everything.mirrored,
        "a side that is not known": ~everything.mirrored & unknown & (everything.photograph != ""),
    }
    rows = [
        (kind, int(rows.sum()), f"{everything.right[rows].mean():.2f}") for kind, rows in kinds.items() if rows.any()
    ]
    words = "The most similar of all known photographs: what it shows, and how often its animal is the right one."
    return Part(name, words, False, ("it shows", "photographs", "right"), tuple(rows))
