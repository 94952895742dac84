"""How well known photographs are told apart under a condition, such as those of other days alone.

A condition hides from every pseudo-query those photographs of its own animal that do not meet it. What is left of
rank-1 and of the score says what the others gave.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from reid.config.recipe import Recipe
from reid.config.settings import with_settings
from reid.data.catalogue import Catalogue
from reid.decision.calibrate import pseudo_query_pairs
from reid.decision.calibration import Calibration
from reid.decision.pseudo_queries import KnownRows, PseudoQuerySelection
from reid.retrieval.candidates import best_and_runner_up

__all__ = ["GAPS", "Answered", "Condition", "answer_known", "any_photograph", "days_apart", "of_side"]

GAPS = ((0, 0), (1, 7), (8, 30), (31, 365), (366, 10**6))
"""From how many to how many days apart."""

Condition = Callable[[np.ndarray, KnownRows], np.ndarray]
"""(A,) places of pseudo-queries, the known rows -> (A, N) bool, which photographs of its animal each may meet."""


@dataclass(frozen=True)
class Answered:
    """Known pseudo-queries and what they were answered, under one condition.

    Attributes:
        image_id, individual: (Q,) str, the query and who is on it, by number.
        best: (Q,) str, the individual of the best candidate; "" where there is none.
        photograph: (Q,) str, its photograph that is most like the query; "" where there is none.
        mirrored: (Q,) bool, whether it is this photograph's mirror image that is.
        named: (Q,) bool, whether it is below the threshold.
    """

    image_id: np.ndarray
    individual: np.ndarray
    best: np.ndarray
    photograph: np.ndarray
    mirrored: np.ndarray
    named: np.ndarray

    @classmethod
    def nothing(cls) -> "Answered":
        """Return no query at all."""
        words, yes = np.zeros(0, str), np.zeros(0, bool)
        return cls(words, words, words, words, yes, yes)

    @classmethod
    def joined(cls, parts: Sequence["Answered"]) -> "Answered":
        """Return one below the other."""
        return cls(*(np.concatenate(columns) for columns in zip(*(vars(part).values() for part in parts), strict=True)))

    def __len__(self) -> int:
        return len(self.image_id)

    @property
    def right(self) -> np.ndarray:
        """(Q,) bool, whether the best candidate is the animal."""
        return np.asarray(self.individual == self.best)

    @property
    def rank1(self) -> float:
        """The share that is right, each individual weighing the same; NaN without queries."""
        return self._share(self.right)

    @property
    def baks(self) -> float:
        """The share that is right and named, likewise."""
        return self._share(self.right & self.named)

    def _share(self, right: np.ndarray) -> float:
        shares = [right[self.individual == each].mean() for each in np.unique(self.individual)]
        return float(np.mean(shares)) if shares else float("nan")


def any_photograph(places: np.ndarray, rows: KnownRows) -> np.ndarray:
    """All of them. A `Condition`."""
    return np.ones((len(places), len(rows.labels)), bool)


def days_apart(first: int, last: int) -> Condition:
    """Photographs whose day is known and so many days away."""

    def may_meet(places: np.ndarray, rows: KnownRows) -> np.ndarray:
        exact = np.char.str_len(rows.days) == 10
        days = np.where(exact, rows.days, "NaT").astype("datetime64[D]")
        apart = np.abs(days[places][:, None] - days).astype(float)  # NaT is NaN
        apart[~(exact[places][:, None] & exact)] = np.nan
        return np.asarray((apart >= first) & (apart <= last))

    return may_meet


def of_side(same: bool) -> Condition:
    """Photographs of the same side, or of another; both sides are known. None of the same day: two sides that were seen
    at one moment have the day in common."""

    def may_meet(places: np.ndarray, rows: KnownRows) -> np.ndarray:
        sides, days = rows.sides, rows.days
        known = (sides[places] != "")[:, None] & (sides != "")
        same_day = (days[places][:, None] == days) & (np.char.str_len(days) == 10)
        return np.asarray(known & ~same_day & ((sides[places][:, None] == sides) == same))

    return may_meet


def _asked(recipe: Recipe, most: int) -> Recipe:
    changes = {"dates": "any", "photographs": 10_000, "pseudo_queries": most}
    return with_settings(recipe, {f"calibration.{name}": value for name, value in changes.items()})


def answer_known(
    catalogue: Catalogue,
    folder: Path,
    dataset: str,
    recipe: Recipe,
    calibration: Calibration,
    most: int,
    duplicates: np.ndarray,
    condition: Condition,
) -> Answered:
    """Answer pseudo-queries of known animals whose photographs meet a condition.

    Args:
        catalogue, folder, dataset, recipe: see `pseudo_query_pairs`.
        calibration: its scorer and threshold.
        most: how many pseudo-queries at most.
        duplicates: see `pseudo_query_pairs`.
        condition: which photographs of its own animal a pseudo-query may meet.
    """
    seen: list[KnownRows] = []
    asked: list[tuple[str, str]] = []

    def narrow(selection: PseudoQuerySelection, rows: KnownRows) -> PseudoQuerySelection:
        own = rows.labels[selection.places][:, None] == rows.labels
        hidden = selection.hidden | (own & ~condition(selection.places, rows))
        known = (own & ~hidden).any(1)
        places = selection.places[known]
        asked.extend(zip(rows.image_ids[places].tolist(), rows.labels[places].tolist(), strict=True))
        seen.append(rows)
        new = selection.new & recipe.uses_encoder  # whose distances give the encoders' units
        return selection._replace(hidden=hidden, known=known, new=new)

    found = pseudo_query_pairs(catalogue, folder, dataset, _asked(recipe, most), duplicates, narrow)
    dissimilarity = calibration.scorer.dissimilarity(found.pairs.scaled(calibration.unit / found.unit))
    first, _ = best_and_runner_up(found.pairs.query, dissimilarity, len(found.new))
    first = first[~found.new]
    place = np.append(found.pairs.photograph, -1)[first]  # -1, the last, where a query has no candidate
    rows = seen[0]
    is_mirrored = pd.Series(rows.image_ids).duplicated().to_numpy()  # a mirror image stands behind its photograph
    labels, image_ids, mirrors = (
        np.append(rows.labels, ""),
        np.append(rows.image_ids, ""),
        np.append(is_mirrored, False),
    )
    named = np.append(dissimilarity, np.inf)[first] < calibration.threshold.value
    asked_ids, individual = (np.array([row[column] for row in asked], str) for column in (0, 1))
    return Answered(asked_ids, individual, labels[place], image_ids[place], mirrors[place], named)
