"""Pseudo-queries: database photographs that play queries whose answer is known, so that thresholds can be fitted.

Some photographs are held out from the encoder (`hold_out`). Afterwards some of them are matched as if they were queries
(`select_pseudo_queries`, `match_pseudo_queries`), once as known and once as new, their own individual then being out of
the gallery. Nothing may give the answer away: no photograph of the same day, no near-duplicate, nothing that the
encoder has learned from.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from reid.config.recipe import Recipe
from reid.data.catalogue import Catalogue
from reid.decision.open_set import MIN_INDIVIDUALS, OpenSetQueries
from reid.retrieval.candidates import CandidatePairs, best_and_runner_up, candidate_pairs
from reid.retrieval.gallery import Gallery

__all__ = [
    "HeldOut",
    "KnownRows",
    "PseudoQueryPairs",
    "PseudoQuerySelection",
    "hold_out",
    "join_pseudo_query_pairs",
    "match_pseudo_queries",
    "near_duplicates",
    "numbered",
    "select_pseudo_queries",
]

DATES = ("earlier", "other", "any")
"""Which photographs a pseudo-query may be compared with by their date, the strictest first. A database in which nobody
has a photograph of an earlier day falls back to the next."""

BLOCK = 256
"""Candidates whose hidden photographs are found at a time."""

DUPLICATE = 0.95
"""Correlation of 16 x 16 thumbnails from which on two photographs count as one. Among 260,000 pairs of photographs of
three species, none of them duplicates, the highest is 0.90."""

SAME_DAY = (
    "are compared with a photograph of the same individual and day, which is easier than a real query: expect a lower "
    "score than the one reported here, and add photographs of other days"
)

UNDATED = (
    "have no date: photographs of one sighting may be compared with each other, so that the expected score may be too "
    "high. Fill in the column date where you know it, then calibrate again"
)

ACROSS = (
    "are compared with another side of their animal, which has other markings, because fewer than "
    f"{MIN_INDIVIDUALS} individuals have two photographs of one side: trust the expected score less, and add "
    "photographs of the same side, of more individuals"
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

    Where photographs have dates, an individual's last day is held out instead of a photograph: real queries are later
    than the database, and photographs of one day resemble each other more than the animal.

    Args:
        catalogue: one dataset's database photographs.
        recipe: `training.folds`, `held_out_individuals`, `held_out_photographs`, and `seed`.
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


def numbered(labels: np.ndarray) -> np.ndarray:
    """Return the individuals by number instead of name, (N,) str, in the order of their first photographs.

    What is drawn at random is drawn from these: another name for an individual then changes nothing.
    """
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))
    return np.array([f"{number:09d}" for number in rank[inverse]], dtype=str)


class Note(NamedTuple):
    """What a person must know of some known pseudo-queries."""

    some: int
    of: int
    """How many known pseudo-queries there are."""
    words: str

    def __str__(self) -> str:
        return f"{self.some} of {self.of} known pseudo-queries (photographs of the database) {self.words}"


class PseudoQuerySelection(NamedTuple):
    """Database photographs that play queries."""

    places: np.ndarray
    """(A,) int64, the photographs, by their place in the database."""
    known: np.ndarray
    """(A,) bool: its individual has a photograph that it may be compared with."""
    new: np.ndarray
    """(A,) bool: it can play a new animal, because the encoder has never seen its individual."""
    hidden: np.ndarray
    """(A, N) bool: the database photographs that it may not be compared with, in either role."""
    notes: tuple[Note, ...]
    """What a person must know about the choice."""


class KnownRows(NamedTuple):
    """The known photographs of a dataset, (N,) str each, in the order of its gallery."""

    image_ids: np.ndarray
    labels: np.ndarray
    """Individuals, see `numbered`."""
    days: np.ndarray
    sides: np.ndarray


class _Rows(NamedTuple):
    """What decides which database photographs may be compared, (N,) each."""

    labels: np.ndarray
    days: np.ndarray
    duplicates: np.ndarray
    sides: np.ndarray
    photographs: np.ndarray

    def of(self, places: np.ndarray) -> "_Rows":
        return _Rows(*(values[places] for values in self))


def select_pseudo_queries(
    labels: np.ndarray,
    days: np.ndarray,
    duplicates: np.ndarray,
    held_out: HeldOut,
    recipe: Recipe,
    sides: np.ndarray | None = None,
    ever: np.ndarray | None = None,
    photographs: np.ndarray | None = None,
) -> PseudoQuerySelection:
    """Choose pseudo-queries and what each of them may be compared with, so that nothing gives the answer away.

    - None is compared with itself or a near-duplicate of itself, of which only one is chosen, nor with another animal
      on the same photograph.
    - Real queries are later than the database: with `calibration.dates` "earlier" a pseudo-query is compared only with
      photographs of earlier days (and not chosen if that hides more than half of the database), with "other" with
      nothing of its own individual's same day; "any" leaks, and is there to measure how much.
    - Without dates, but for "any", a pseudo-query is compared only with its individual's photographs of its own side,
      where sides are known: two flanks have no markings in common, and what makes them alike is that they were seen at
      one sighting. Not so where this would leave no known individual, or fewer than `MIN_INDIVIDUALS` while without it
      there are more.
    - As known, a pseudo-query is compared with as many photographs of its individual as a random individual of the
      database has, or at most `calibration.photographs`: real queries show individuals with a single photograph too.

    Args:
        labels: (N,) str, the individuals of one dataset's database photographs.
        days: (N,) str, YYYY-MM-DD, YYYY-MM or YYYY, "" where there is none. A month may be any of its days.
        duplicates: (N,) int64, the group of near-duplicates that a photograph belongs to.
        held_out: what the encoder did not learn from; everything where there is no encoder.
        recipe: `calibration.pseudo_queries`, `dates`, `photographs`, and `seed`.
        sides: (N,) str, orientations, "" where not known; None where none is known.
        ever: (N,) bool, what the encoders of all folds have not learned from, by which the rule for sides is decided;
            None for `held_out` alone.
        photographs: (N,) int64, the photograph that each row is about; None where every row has one of its own.
    """
    rng = np.random.default_rng([recipe.seed, 2])
    sides = np.full(len(labels), "") if sides is None else sides
    rows = _Rows(labels, days, duplicates, sides, np.arange(len(labels)) if photographs is None else photographs)
    candidates = _spread(np.flatnonzero(held_out.either), rows, rng)
    by_side = _compares_own_side(np.flatnonzero(held_out.either if ever is None else ever), rows, recipe)
    places, hidden = _choose(candidates, rows, by_side, recipe)
    known = (_same_individual(places, rows) & ~hidden).any(1)
    sizes = np.unique(labels, return_counts=True)[1]
    for row in np.flatnonzero(known):
        visible = np.flatnonzero((labels == labels[places[row]]) & ~hidden[row])
        most = recipe.calibration.photographs or int(rng.choice(sizes))
        hidden[row, rng.permutation(visible)[most:]] = True
    notes = _notes(places, hidden, known, rows, recipe)
    return PseudoQuerySelection(places, known, held_out.individuals[places], hidden, notes)


def _spread(candidates: np.ndarray, rows: _Rows, rng: np.random.Generator) -> np.ndarray:
    """Return the candidates in random order, one of each individual before a second of any; one of each group of
    near-duplicates."""
    shuffled = rng.permutation(candidates)
    shuffled = shuffled[np.sort(np.unique(rows.duplicates[shuffled], return_index=True)[1])]
    turn = np.zeros(len(shuffled), int)
    turns: dict[str, int] = {}
    for place, label in enumerate(rows.labels[shuffled].tolist()):
        turn[place] = turns[label] = turns.get(label, -1) + 1
    return shuffled[np.argsort(turn, kind="stable")]


def _compares_own_side(held_out: np.ndarray, rows: _Rows, recipe: Recipe) -> bool:
    """Return whether pseudo-queries are compared with their own side alone: `MIN_INDIVIDUALS` individuals are known by
    it, or some, and not even `MIN_INDIVIDUALS` by any side.

    Args:
        held_out: (H,) int64, the photographs that may become pseudo-queries in any fold.
        rows: all photographs.
        recipe: `calibration.dates`.
    """
    if recipe.calibration.dates == "any":
        return False
    by_side = by_any = 0
    for label in np.unique(rows.labels[held_out]):
        photographs = np.flatnonzero(rows.labels == label)
        own, queries = rows.of(photographs), np.flatnonzero(np.isin(photographs, held_out))
        hidden = _hidden(queries, own, recipe.calibration.dates)
        by_any += not hidden.all()
        by_side += not (hidden | _other_side(queries, own)).all()
        if by_side >= MIN_INDIVIDUALS:
            return True
    return by_side > 0 and by_any < MIN_INDIVIDUALS


def _choose(candidates: np.ndarray, rows: _Rows, by_side: bool, recipe: Recipe) -> tuple[np.ndarray, np.ndarray]:
    """Return the pseudo-queries, (A,), and what is hidden from each, (A, N) bool, by the strictest rule for dates that
    leaves a known one."""
    for dates in DATES[DATES.index(recipe.calibration.dates) :]:
        places, hidden = _answerable(candidates, rows, by_side, dates, recipe.calibration.pseudo_queries)
        if (_same_individual(places, rows) & ~hidden).any():
            break
    return places, hidden


def _answerable(
    candidates: np.ndarray, rows: _Rows, by_side: bool, dates: str, most: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the first of the candidates that are compared with half of the others' photographs or more, (A,), and what
    is hidden from each, (A, N) bool. In blocks: candidates may be as many as the database has photographs."""
    count = len(rows.labels)
    places, hidden_blocks = [np.zeros(0, np.int64)], [np.zeros((0, count), bool)]
    for start in range(0, len(candidates), BLOCK):
        block = candidates[start : start + BLOCK]
        hidden = _hidden(block, rows, dates)
        if by_side:
            hidden |= _other_side(block, rows)
        enough = (hidden & ~_same_individual(block, rows)).sum(1) <= count / 2
        places.append(block[enough])
        hidden_blocks.append(hidden[enough])
        if sum(map(len, places)) >= most:
            break
    return np.concatenate(places)[:most], np.concatenate(hidden_blocks)[:most]


def _same_individual(places: np.ndarray, rows: _Rows) -> np.ndarray:
    """(A, N) bool, which photographs show the individual of each place."""
    same: np.ndarray = rows.labels[places][:, None] == rows.labels
    return same


def _hidden(places: np.ndarray, rows: _Rows, dates: str) -> np.ndarray:
    """(A, N) bool, what the photograph at each place may not be compared with."""
    days = rows.days
    hidden: np.ndarray = rows.duplicates[places][:, None] == rows.duplicates  # a photograph is in a group with itself
    hidden |= rows.photographs[places][:, None] == rows.photographs
    dated = (days[places] != "")[:, None] & (days != "")
    first, last = _spans(days)
    not_before = last >= first[places][:, None]
    if dates == "earlier":
        hidden |= dated & not_before
    if dates in ("earlier", "other"):
        hidden |= dated & not_before & (first <= last[places][:, None]) & _same_individual(places, rows)
    return hidden


def _spans(days: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and the last day that each date may mean, (N,) str each: 2020-05 is any day of that month."""
    lengths = np.char.str_len(days.astype(str))
    first, last = (
        np.char.add(days.astype(str), np.select([lengths == 4, lengths == 7], [f"-{month}-{day}", f"-{day}"], ""))
        for month, day in (("01", "01"), ("12", "31"))
    )
    return first, last


def _other_side(places: np.ndarray, rows: _Rows) -> np.ndarray:
    """(A, N) bool, photographs without a date of the same individual from another side."""
    days, sides = rows.days, rows.sides
    undated = (days[places] == "")[:, None] | (days == "")
    both_known = (sides[places] != "")[:, None] & (sides != "")
    other: np.ndarray = undated & both_known & _same_individual(places, rows) & (sides[places][:, None] != sides)
    return other


def _notes(places: np.ndarray, hidden: np.ndarray, known: np.ndarray, rows: _Rows, recipe: Recipe) -> tuple[Note, ...]:
    """Return what a person must know of the known pseudo-queries."""
    days = rows.days
    compared = _same_individual(places, rows) & ~hidden
    same_day = (compared & (days[places][:, None] == days) & (days != "")).any(1)
    undated = known & (days[places] == "")
    across = (~hidden & _other_side(places, rows)).any(1) & (recipe.calibration.dates != "any")
    kinds = ((same_day, SAME_DAY), (undated, UNDATED), (across, ACROSS))
    return tuple(Note(int(some.sum()), int(known.sum()), words) for some, words in kinds if some.any())


def near_duplicates(thumbnails: np.ndarray) -> np.ndarray:
    """Group photographs that are the same but for their size or compression.

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


@dataclass(frozen=True)
class PseudoQueryPairs:
    """One dataset's pseudo-queries with their candidates.

    Attributes:
        individual: (Q,) str, the individual on the query.
        new: (Q,) bool, in the role of a new animal.
        pairs: the queries with the individuals of their shortlists.
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
        """Return the same with distances divided by the median distance of new queries to their nearest individual."""
        distances = self.pairs.features.get("distance")
        if distances is None:
            return self
        nearest = self.answered(distances).distance[self.new]
        nearest = nearest[np.isfinite(nearest)]
        median = float(np.median(nearest)) if len(nearest) else 0.0
        unit = median if median > 0 else 1.0
        return replace(self, pairs=self.pairs.scaled(unit), unit=self.unit * unit)

    def answered(self, dissimilarity: np.ndarray) -> OpenSetQueries:
        """Return the queries with the most similar individual of each, from the pairs' dissimilarity (P,)."""
        first, _ = best_and_runner_up(self.pairs.query, dissimilarity, len(self.new))
        has_pair = first >= 0
        distance, is_match = np.full(len(first), np.inf), np.zeros(len(first), bool)
        distance[has_pair], is_match[has_pair] = dissimilarity[first[has_pair]], self.is_match[first[has_pair]]
        return OpenSetQueries(distance, is_match, self.individual, self.new)


def join_pseudo_query_pairs(parts: Sequence[PseudoQueryPairs]) -> PseudoQueryPairs:
    """Return one below the other; the unit is the first's."""
    starts = np.cumsum([0, *(len(part.new) for part in parts)])
    return PseudoQueryPairs(
        individual=np.concatenate([part.individual for part in parts]),
        new=np.concatenate([part.new for part in parts]),
        pairs=CandidatePairs.joined(
            [part.pairs.numbered_from(int(start)) for part, start in zip(parts, starts, strict=False)]
        ),
        is_match=np.concatenate([part.is_match for part in parts]),
        notes=_summed([note for part in parts for note in part.notes]),
        unit=parts[0].unit,
    )


def _summed(notes: Sequence[Note]) -> tuple[Note, ...]:
    """Return one note of each kind."""
    kinds = {words: [note for note in notes if note.words == words] for words in dict.fromkeys(n.words for n in notes)}
    return tuple(Note(sum(n.some for n in alike), sum(n.of for n in alike), words) for words, alike in kinds.items())


def match_pseudo_queries(
    gallery: Gallery, selection: PseudoQuerySelection, dataset: str, recipe: Recipe
) -> PseudoQueryPairs:
    """Match the pseudo-queries against the gallery, once as known and once as new.

    Args:
        gallery: one dataset's.
        selection: which of its photographs, and what is hidden from them.
        dataset: its name, for the progress.
        recipe: the cues and how they are found.
    """
    labels, names = gallery.labels, np.array(gallery.identity)
    same_individual = labels[selection.places][:, None] == labels  # (A, N)
    # a photograph's two roles one after the other: they are compared in one go
    row = np.concatenate([np.flatnonzero(selection.known), np.flatnonzero(selection.new)])
    new = np.repeat([False, True], [selection.known.sum(), selection.new.sum()])
    order = np.argsort(row, kind="stable")
    row, new = row[order], new[order]
    place, hidden = selection.places[row], selection.hidden[row] | (same_individual[row] & new[:, None])
    pairs = candidate_pairs(
        gallery.embeddings.of(place), gallery, recipe, hidden, f"matching pseudo-queries of {dataset}"
    )
    pairs = pairs.of(np.lexsort((pairs.photograph, pairs.query)))  # whatever the individuals' names
    return PseudoQueryPairs(
        individual=names[place],
        new=new,
        pairs=pairs,
        is_match=pairs.individual == labels[place][pairs.query],
        notes=selection.notes,
    )
