"""Pseudo-queries: what a database asks of itself, so that a threshold need not be guessed.

Some photographs are kept from the encoder (`hold_out`). Afterwards some of them are asked for as if they were queries
(`select_pseudo_queries`), once as known and once as new, their own individual then being out of the gallery. Nothing
may give the answer away: no photograph of the same day, no near-duplicate, nothing that the encoder has learned.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from reid.config.recipe import Recipe
from reid.data.catalogue import Catalogue
from reid.retrieval.candidates import CandidatePairs, best_and_runner_up, candidate_pairs
from reid.retrieval.gallery import Gallery

__all__ = [
    "MIN_INDIVIDUALS",
    "HeldOut",
    "OpenSetQueries",
    "PseudoQueryPairs",
    "PseudoQuerySelection",
    "hold_out",
    "join_pseudo_query_pairs",
    "match_pseudo_queries",
    "near_duplicates",
    "select_pseudo_queries",
]

DATES = ("earlier", "other", "any")
"""Whose photographs a pseudo-query may meet by their date, the strictest first; a database in which nobody has a
photograph of an earlier day falls back to the next."""


MIN_INDIVIDUALS = 8
"""With fewer known or fewer new individuals a dataset's own contests say less of it than those of all datasets."""


DUPLICATE_BLOCK = 256
"""Candidates looked at together."""


DUPLICATE = 0.95
"""Correlation of 16 x 16 thumbnails from which on two photographs are one. Among 260,000 pairs of photographs of three
species, none of them duplicates, the highest is 0.90."""


SAME_DAY = (
    "meet a photograph of the same individual and day, which is easier than the queries of another day are: expect a "
    "lower score than is told here, and add photographs of other days"
)


UNDATED = (
    "have no date: where photographs of one sighting vouch for each other, the expected score is too high. Fill in the "
    "column date where you know it, then calibrate again"
)


ACROSS = (
    "meet another side of their animal, which has other markings, for fewer than "
    f"{MIN_INDIVIDUALS} individuals can be known by their own side: trust the expected score less, and add photographs of the same "
    "side, of more individuals"
)
"""What a person must know of known pseudo-queries, and can do about it."""


class HeldOut(NamedTuple):
    """Photographs that an encoder does not learn from."""

    individuals: np.ndarray
    """(N,) bool: all photographs of some individuals. They are validated on, and are the new animals of calibration."""
    photographs: np.ndarray
    """(N,) bool: one photograph, or one day's, of some of the others. They are the known animals of calibration."""

    @property
    def either(self) -> np.ndarray:
        """(N,) bool: all of them."""
        both: np.ndarray = self.individuals | self.photographs
        return both


def hold_out(catalogue: Catalogue, recipe: Recipe, fold: int = 0) -> HeldOut:
    """Choose what an encoder does not learn from.

    Where photographs have dates, an individual's last day is held out instead of a photograph: live queries are later
    than the database, and photographs of one day resemble each other more than the animal.

    Args:
        catalogue: one dataset's database photographs.
        recipe: `folds`, `held_out_individuals`, `held_out_photographs`, `seed`.
        fold: with several folds each individual is held out in one of them, and in no other.
    """
    rng = np.random.default_rng([recipe.seed, 1])
    labels, days = np.array(catalogue.identities), catalogue.table["day"].to_numpy(str)
    individuals, counts = np.unique(labels, return_counts=True)
    # as many pairs as singletons, in proportion: stratified by whether there is anything to compare
    strata = [rng.permutation(group) for group in (individuals[counts > 1], individuals[counts == 1])]
    if recipe.training.folds > 1:
        chosen = np.concatenate([group[fold :: recipe.training.folds] for group in strata])
    else:
        chosen = np.concatenate([group[: round(recipe.training.held_out_individuals * len(group))] for group in strata])
    whole = np.isin(labels, chosen)
    single = np.zeros(len(labels), dtype=bool)
    # two photographs must be left to learn from
    candidates = rng.permutation(
        individuals[(counts >= 3) & ((recipe.training.folds > 1) | ~np.isin(individuals, chosen))]
    )
    for individual in candidates[: round(recipe.training.held_out_photographs * len(candidates))]:
        photographs = np.flatnonzero(labels == individual)
        first, last = _spans(days[photographs])
        last_day = photographs[last >= max(first)]
        leaves_two = len(photographs) - len(last_day) >= 2
        single[last_day if leaves_two else rng.choice(photographs, size=1)] = True
    return HeldOut(individuals=whole, photographs=single & ~whole)


class Note(NamedTuple):
    """What a person must know of some known pseudo-queries."""

    some: int
    of: int
    """How many known pseudo-queries there are."""
    words: str

    def __str__(self) -> str:
        return f"{self.some} of {self.of} database photographs that were asked for as known {self.words}"


class PseudoQuerySelection(NamedTuple):
    """Database photographs that are asked for as if they were queries."""

    places: np.ndarray
    """(A,) int64, the photographs, by their place in the database."""
    known: np.ndarray
    """(A,) bool: its individual has a photograph that it may be compared with."""
    new: np.ndarray
    """(A,) bool: it can be asked for as new, because the encoder has never seen its individual."""
    hidden: np.ndarray
    """(A, N) bool: the database photographs that it may not be compared with, in either role."""
    notes: tuple[Note, ...]
    """What a person must know about the choice."""


def select_pseudo_queries(
    labels: np.ndarray,
    days: np.ndarray,
    duplicates: np.ndarray,
    held_out: HeldOut,
    recipe: Recipe,
    sides: np.ndarray | None = None,
    ever: np.ndarray | None = None,
) -> PseudoQuerySelection:
    """Choose pseudo-queries and what each of them may be compared with, so that nothing gives the answer away.

    - Nobody meets itself, nor a near-duplicate of itself, of which only one is asked.
    - Live queries are later than the database: with `pseudo_dates` "earlier" a query meets only photographs of earlier
      days (and is not asked if more than half of the database is hidden by that), with "other" nothing of its own
      individual's same day; "any" is the leaking way, to measure what it would claim.
    - Without dates, but for "any", a query meets its individual's photographs of its own side only, where sides are
      known: two flanks have no markings in common, and what makes them alike is that they were seen at one sighting.
      Not so where this would leave nobody to be known, or fewer than FEW individuals while without it there are more.
    - As known, a query meets as many photographs of its individual as a random individual of the database has, or at
      most `pseudo_photographs`: live queries ask for individuals with a single photograph too.

    Args:
        labels: (N,) str, the individuals of one dataset's database photographs.
        days: (N,) str, YYYY-MM-DD, YYYY-MM or YYYY, "" where there is none. A month may be any of its days.
        duplicates: (N,) int64, the group of near-duplicates that a photograph belongs to.
        held_out: what the encoder did not learn from; everything where there is no encoder.
        recipe: `pseudo_queries`, `pseudo_dates`, `pseudo_photographs`, `seed`.
        sides: (N,) str, orientations, "" where not known; None where nobody knows any.
        ever: (N,) bool, what the encoders of all folds have not learned from, by which the rule for sides is decided;
            None for `held_out` alone.
    """
    rng = np.random.default_rng([recipe.seed, 2])
    candidates = _spread(np.flatnonzero(held_out.either), labels, duplicates, rng)
    ever_asked = np.flatnonzero(held_out.either if ever is None else ever)
    apart = sides if _sides_tell(ever_asked, labels, days, duplicates, sides, recipe.calibration.dates) else None
    for dates in DATES[DATES.index(recipe.calibration.dates) :]:
        places, hidden = _answerable(
            candidates, labels, days, duplicates, apart, dates, recipe.calibration.pseudo_queries
        )
        same_individual = labels[places][:, None] == labels  # (A, N)
        known = (same_individual & ~hidden).any(1)
        if known.any():
            break
    sizes = np.unique(labels, return_counts=True)[1]
    for row in np.flatnonzero(known):
        visible = np.flatnonzero(same_individual[row] & ~hidden[row])
        most = recipe.calibration.photographs or int(rng.choice(sizes))
        hidden[row, rng.permutation(visible)[most:]] = True
    same_day = (same_individual & ~hidden & (days[places][:, None] == days) & (days != "")).any(1)
    undated = known & (days[places] == "")
    across = np.zeros(len(places), bool)
    if sides is not None and recipe.calibration.dates != "any":
        across = (~hidden & _other_side(places, labels, days, sides)).any(1)
    kinds = ((same_day, SAME_DAY), (undated, UNDATED), (across, ACROSS))
    notes = [Note(int(affected.sum()), int(known.sum()), words) for affected, words in kinds if affected.any()]
    return PseudoQuerySelection(places, known, held_out.individuals[places], hidden, tuple(notes))


def _spread(candidates: np.ndarray, labels: np.ndarray, duplicates: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the candidates in random order, one of each individual before a second of any; one of each
    near-duplicate."""
    shuffled = rng.permutation(candidates)
    shuffled = shuffled[np.sort(np.unique(duplicates[shuffled], return_index=True)[1])]
    turn = np.zeros(len(shuffled), int)
    seen: dict[str, int] = {}
    for place, label in enumerate(labels[shuffled].tolist()):
        turn[place] = seen[label] = seen.get(label, -1) + 1
    return shuffled[np.argsort(turn, kind="stable")]


def _sides_tell(
    asked: np.ndarray,
    labels: np.ndarray,
    days: np.ndarray,
    duplicates: np.ndarray,
    sides: np.ndarray | None,
    dates: str,
) -> bool:
    """Return whether photographs of their own side alone should answer: FEW individuals can be known by it, or some,
    and not even FEW by any side."""
    if sides is None or dates == "any":
        return False
    by_side = by_any = 0
    for label in np.unique(labels[asked]):
        photographs = np.flatnonzero(labels == label)
        rows, cells = np.flatnonzero(np.isin(photographs, asked)), (labels[photographs], days[photographs])
        hidden = _hidden(rows, *cells, duplicates[photographs], dates)
        by_any += not hidden.all()
        by_side += not (hidden | _other_side(rows, *cells, sides[photographs])).all()
        if by_side >= MIN_INDIVIDUALS:
            return True
    return by_side > 0 and by_any < MIN_INDIVIDUALS


def _answerable(
    candidates: np.ndarray,
    labels: np.ndarray,
    days: np.ndarray,
    duplicates: np.ndarray,
    sides: np.ndarray | None,
    dates: str,
    most: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the first of the candidates that meet half of the others' photographs or more, (A,), and what is hidden
    from each, (A, N) bool. Looked for in blocks: candidates may be as many as the database has photographs."""
    places, hidden_blocks = [np.zeros(0, np.int64)], [np.zeros((0, len(labels)), bool)]
    for start in range(0, len(candidates), DUPLICATE_BLOCK):
        block = candidates[start : start + DUPLICATE_BLOCK]
        hidden = _hidden(block, labels, days, duplicates, dates)
        if sides is not None:
            hidden |= _other_side(block, labels, days, sides)
        enough = (hidden & (labels[block][:, None] != labels)).sum(1) <= len(labels) / 2
        places.append(block[enough])
        hidden_blocks.append(hidden[enough])
        if sum(map(len, places)) >= most:
            break
    return np.concatenate(places)[:most], np.concatenate(hidden_blocks)[:most]


def _hidden(asked: np.ndarray, labels: np.ndarray, days: np.ndarray, duplicates: np.ndarray, dates: str) -> np.ndarray:
    """(A, N) bool, what each of the asked may not meet."""
    hidden: np.ndarray = duplicates[asked][:, None] == duplicates  # a photograph is in a group with itself
    dated = (days[asked] != "")[:, None] & (days != "")
    first, last = _spans(days)
    not_before = last >= first[asked][:, None]
    if dates == "earlier":
        hidden |= dated & not_before
    if dates in ("earlier", "other"):
        hidden |= dated & not_before & (first <= last[asked][:, None]) & (labels == labels[asked][:, None])
    return hidden


def _spans(days: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and the last day that each date may mean, (N,) str each: 2020-05 is any day of that month."""
    lengths = np.char.str_len(days.astype(str))
    first, last = (
        np.char.add(days.astype(str), np.select([lengths == 4, lengths == 7], [f"-{month}-{day}", f"-{day}"], ""))
        for month, day in (("01", "01"), ("12", "31"))
    )
    return first, last


def _other_side(asked: np.ndarray, labels: np.ndarray, days: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """(A, N) bool, photographs without a date of each asked one's individual from another side."""
    undated = (days[asked] == "")[:, None] | (days == "")
    both_known = (sides[asked] != "")[:, None] & (sides != "")
    other: np.ndarray = undated & both_known & (labels[asked][:, None] == labels) & (sides[asked][:, None] != sides)
    return other


def near_duplicates(thumbnails: np.ndarray) -> np.ndarray:
    """Group of photographs that are the same but for their size or compression.

    Args:
        thumbnails: (N, D) float, grey values, mean 0 and length 1 each; all zeros where there is none.

    Returns:
        (N,) int64, a group's number; most photographs are alone in theirs.
    """
    group = np.arange(len(thumbnails))
    for start in range(0, len(thumbnails), 1000):
        alike = thumbnails[start : start + 1000] @ thumbnails.T > DUPLICATE  # (1000, N)
        for photograph, others in enumerate(alike, start):
            joined = np.unique(np.append(group[others], group[photograph]))
            if len(joined) > 1:
                group[np.isin(group, joined)] = joined[0]
    return group


class OpenSetQueries(NamedTuple):
    """Queries whose answer is known."""

    distance: np.ndarray
    """(Q,) float: the dissimilarity about the nearest individual of the gallery; inf where there is none."""
    is_match: np.ndarray
    """(Q,) bool: it is the individual on the query."""
    individual: np.ndarray
    """(Q,) str: who is asked for."""
    new: np.ndarray
    """(Q,) bool: that individual is not in the gallery."""

    def of(self, mask: np.ndarray) -> "OpenSetQueries":
        """Return the queries that a mask (Q,) chooses."""
        return OpenSetQueries(*(values[mask] for values in self))


@dataclass(frozen=True)
class PseudoQueryPairs:
    """One dataset's pseudo-queries beside their shortlists.

    Attributes:
        individual: (Q,) str, who is asked for.
        new: (Q,) bool, in the role of a new animal.
        pairs: their shortlists.
        is_match: (P,) bool, whether the pair's individual is the one on the query.
        notes: what a person must know.
        unit: what the encoder's distances were divided by, to compare them with those of other encoders.
    """

    individual: np.ndarray
    new: np.ndarray
    pairs: CandidatePairs
    is_match: np.ndarray
    notes: tuple[Note, ...] = ()
    unit: float = 1.0

    def in_units(self) -> "PseudoQueryPairs":
        """With distances divided by the median distance of new queries to their nearest individual."""
        distances = self.pairs.features.get("distance")
        if distances is None:
            return self
        nearest = self.answered(distances).distance[self.new]
        nearest = nearest[np.isfinite(nearest)]
        median = float(np.median(nearest)) if len(nearest) else 0.0
        unit = median if median > 0 else 1.0
        return replace(self, pairs=self.pairs.scaled(unit), unit=self.unit * unit)

    def answered(self, dissimilarity: np.ndarray) -> OpenSetQueries:
        """Return the queries with the least doubtful individual of each, from the pairs' dissimilarity (P,)."""
        first, _ = best_and_runner_up(self.pairs.query, dissimilarity, len(self.new))
        has_pair = first >= 0
        distance, is_match = np.full(len(first), np.inf), np.zeros(len(first), bool)
        distance[has_pair], is_match[has_pair] = dissimilarity[first[has_pair]], self.is_match[first[has_pair]]
        return OpenSetQueries(distance, is_match, self.individual, self.new)


def join_pseudo_query_pairs(parts: Sequence[PseudoQueryPairs]) -> PseudoQueryPairs:
    """Return one below the other; the unit is the first's."""
    asked = np.cumsum([0, *(len(part.new) for part in parts)])
    return PseudoQueryPairs(
        individual=np.concatenate([part.individual for part in parts]),
        new=np.concatenate([part.new for part in parts]),
        pairs=CandidatePairs.joined(
            [part.pairs.numbered_from(int(first)) for part, first in zip(parts, asked, strict=False)]
        ),
        is_match=np.concatenate([part.is_match for part in parts]),
        notes=_summed([note for part in parts for note in part.notes]),
        unit=parts[0].unit,
    )


def _summed(notes: Sequence[Note]) -> tuple[Note, ...]:
    """Return one of each kind."""
    kinds = {words: [note for note in notes if note.words == words] for words in dict.fromkeys(n.words for n in notes)}
    return tuple(Note(sum(n.some for n in alike), sum(n.of for n in alike), words) for words, alike in kinds.items())


def match_pseudo_queries(
    gallery: Gallery, asked: PseudoQuerySelection, dataset: str, recipe: Recipe
) -> PseudoQueryPairs:
    """Database photographs beside the gallery, once as known and once as new.

    Args:
        gallery: one dataset's.
        asked: which of its photographs, and what is hidden from them.
        dataset: its name, for the progress.
        recipe: the cues and how they are found.
    """
    labels, names = gallery.labels, np.array(gallery.identity)
    same_individual = labels[asked.places][:, None] == labels  # (A, N)
    # a photograph's two roles one after the other: they are compared in one go
    row = np.concatenate([np.flatnonzero(asked.known), np.flatnonzero(asked.new)])
    new = np.repeat([False, True], [asked.known.sum(), asked.new.sum()])
    order = np.argsort(row, kind="stable")
    row, new = row[order], new[order]
    place, hidden = asked.places[row], asked.hidden[row] | (same_individual[row] & new[:, None])
    pairs = candidate_pairs(
        gallery.embeddings.of(place), gallery, recipe, hidden, f"asking {dataset} for its own photographs"
    )
    return PseudoQueryPairs(
        individual=names[place],
        new=new,
        pairs=pairs,
        is_match=pairs.individual == labels[place][pairs.query],
        notes=asked.notes,
    )
