"""Section "Matches": a card per query with its photograph, its candidates, and the keypoints that they share."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from reid.data.catalogue import Catalogue
from reid.report.explanations import Candidate, Explanations
from reid.report.outcomes import MARKS, OUTCOMES, stratified_order
from reid.report.thumbnails import Thumbnails
from reid.retrieval.local_matching import VerifiedMatch
from reid.runtime.progress import track

__all__ = ["matches_section"]

CARDS_LIMIT = 8_500_000
"""Bytes of all cards, which leaves room for charts and tables below 10 MB in all."""

CARD_BYTES = 2_000
"""Of a card without its photographs and its candidates; measured 1,300 to 1,600."""

CANDIDATE_BYTES = 900
"""Of a candidate without its photograph and its keypoints; measured 600 to 800."""

MAX_LINES = 30
"""Matching keypoints drawn of each kind: more of them are a tangle."""


class Picture(NamedTuple):
    """A photograph on the page."""

    name: str
    """Of the individual."""
    image_id: str
    number: int
    """Of its thumbnail."""
    mirrored: bool
    problem: str
    """Why there is a grey field instead of a picture; "" where there is one."""


class SharedKeypoints(NamedTuple):
    """Keypoints of two photographs that match, as lines over both: SVG paths in a field of 2,041 by 1,000."""

    inlier_lines: str
    other_lines: str
    matches: int
    inliers: int
    not_drawn: int


class CandidateView(NamedTuple):
    """An individual next to a query."""

    role: str
    picture: Picture
    dissimilarity: float | None
    is_right: bool
    shared: SharedKeypoints | None


@dataclass(frozen=True)
class MatchCard:
    """A query with its candidates.

    Attributes:
        place: its row in the outcomes.
        row: that row.
        query: its photograph.
        candidates: the best ones, the best first, and the right one.
    """

    place: int
    row: Any
    query: Picture
    candidates: tuple[CandidateView, ...]


def matches_section(
    outcomes: pd.DataFrame, catalogue: Catalogue, explanations: Explanations, thumbnails: Thumbnails
) -> dict[str, Any]:
    """Return what the section shows.

    Args:
        outcomes: a row per query, the worst first, see `outcomes.classify_outcomes`.
        catalogue: the data folder.
        explanations: the candidates of some queries.
        thumbnails: those of the photographs on the cards are added.
    """
    cards = _cards(outcomes, catalogue, explanations, thumbnails)
    return {
        "words": OUTCOMES,
        "marks": MARKS,
        "cards": cards,
        "explained": bool(explanations.candidates),
        "keypoints_decided": explanations.keypoints_decided,
        "filters": _filters(outcomes, cards),
    }


def _cards(
    outcomes: pd.DataFrame, catalogue: Catalogue, explanations: Explanations, thumbnails: Thumbnails
) -> list[MatchCard]:
    """Return as many cards as fit, chosen in `stratified_order`, in the order of the outcomes."""
    rows: list[Any] = list(outcomes.itertuples())
    maker = _CardMaker.of(catalogue, thumbnails)
    cards: list[MatchCard] = []
    free = CARDS_LIMIT
    places = stratified_order(outcomes)
    if explanations.candidates:
        places = [place for place in places if _is_complete(rows[place], explanations)]
    for place in track(places, "drawing matches"):
        before = len(thumbnails.drawn)
        card = maker.card(place, rows[place], explanations.candidates.get(rows[place].image_id, ()))
        added = list(thumbnails.drawn)[before:]
        free -= _bytes_of(card) + sum(len(thumbnails.drawn[image_id].uri) for image_id in added)
        if free < 0:
            for image_id in added:
                thumbnails.forget(image_id)
            break
        cards.append(card)
    return sorted(cards, key=lambda card: card.place)


def _is_complete(row: Any, explanations: Explanations) -> bool:
    """Return whether all that a card can say of a query is known: its candidates, or that it has none."""
    return row.image_id in explanations.candidates or bool(row.problem) or not row.photograph


def _bytes_of(card: MatchCard) -> int:
    """Return about how many bytes a card takes, without its photographs."""
    shared = [candidate.shared for candidate in card.candidates if candidate.shared]
    lines = sum(len(one.inlier_lines) + len(one.other_lines) for one in shared)
    return CARD_BYTES + CANDIDATE_BYTES * len(card.candidates) + lines


@dataclass(frozen=True)
class _CardMaker:
    """Makes cards.

    Attributes:
        orientations: by image_id.
        photographs: by individual, the image_ids of its database photographs.
        thumbnails: of all photographs on the cards so far.
    """

    orientations: dict[str, str]
    photographs: dict[str, list[str]]
    thumbnails: Thumbnails

    @classmethod
    def of(cls, catalogue: Catalogue, thumbnails: Thumbnails) -> "_CardMaker":
        photographs: dict[str, list[str]] = {}
        for image_id, identity in zip(catalogue.database.image_ids, catalogue.database.identities, strict=True):
            photographs.setdefault(identity, []).append(image_id)
        orientations = dict(zip(catalogue.image_ids, catalogue.table["orientation"], strict=True))
        return cls(orientations, photographs, thumbnails)

    def card(self, place: int, row: Any, candidates: Sequence[Candidate]) -> MatchCard:
        """Return the card of a row of the outcomes."""
        truth = f"{_short(row.truth, row.dataset)} (new)" if row.truth_new else _short(row.truth, row.dataset)
        views = [self._view(candidate, row, bool(candidates)) for candidate in candidates or self._of_match(row)]
        return MatchCard(place, row, self._picture(truth or "not known", row.image_id), tuple(views))

    def _view(self, candidate: Candidate, row: Any, explained: bool) -> CandidateView:
        name, is_right = _short(candidate.identity, row.dataset), candidate.identity == row.truth
        return CandidateView(
            role=_role(candidate.rank, is_right),
            picture=self._picture(name, candidate.photograph, candidate.mirrored),
            dissimilarity=candidate.dissimilarity if explained and np.isfinite(candidate.dissimilarity) else None,
            is_right=is_right,
            shared=_shared_keypoints(candidate) if explained else None,
        )

    def _of_match(self, row: Any) -> tuple[Candidate, ...]:
        """Return what is known without explanations: the best candidate, and the right one by a look-alike."""
        nothing = VerifiedMatch(np.zeros((0, 2, 2), np.float32), np.zeros(0, bool))
        square = ((1.0, 1.0), (1.0, 1.0))
        candidates = []
        if row.photograph:
            candidates.append(Candidate(row.identity, row.photograph, False, 1, row.dissimilarity, square, nothing))
        if row.truth in self.photographs and row.identity != row.truth:
            look_alike = self._look_alike(row.truth, row.image_id)
            candidates.append(Candidate(row.truth, look_alike, False, 0, np.inf, square, nothing))
        return tuple(candidates)

    def _look_alike(self, identity: str, image_id: str) -> str:
        """Return a database photograph of an individual, from the query's side where there is one."""
        photographs, side = self.photographs[identity], self.orientations.get(image_id, "")
        return next((photograph for photograph in photographs if self.orientations[photograph] == side), photographs[0])

    def _picture(self, name: str, image_id: str, mirrored: bool = False) -> Picture:
        thumbnail = self.thumbnails.of_photograph(image_id)
        return Picture(name, image_id, thumbnail.number, mirrored, thumbnail.problem)


def _short(identity: str, dataset: str) -> str:
    """Remove the dataset where an identity begins with it: the card shows it already."""
    return identity.removeprefix(f"{dataset}_")


def _role(rank: int, is_right: bool) -> str:
    words = {0: "not compared", 1: "best candidate", 2: "2nd", 3: "3rd"}.get(rank, f"no. {rank}")
    return f"right one, {words}" if is_right and rank != 1 else words


def _shared_keypoints(candidate: Candidate) -> SharedKeypoints:
    """Return the lines to draw, each photograph in the middle of a square of 1,000, the squares 41 apart."""
    sides = np.array(candidate.extents)  # (2, 2)
    ends = np.rint((candidate.shared.pairs + (1 - sides) / 2) * 1000).astype(int)  # (n, 2, 2)
    ends[:, 1, 0] += 1041
    inlier = candidate.shared.inlier
    inliers, others = (_path(ends[mask][:MAX_LINES]) for mask in (inlier, ~inlier))
    not_drawn = sum(max(0, int(mask.sum()) - MAX_LINES) for mask in (inlier, ~inlier))
    return SharedKeypoints(inliers, others, len(inlier), candidate.shared.inliers, not_drawn)


def _path(ends: np.ndarray) -> str:
    """Return an SVG path of lines, (n, 2, 2) whole numbers."""
    return "".join(f"M{x} {y}L{u} {v}" for (x, y), (u, v) in ends.tolist())


class Filter(NamedTuple):
    """A button above the matches."""

    key: str
    words: str
    shown: int
    found: int


def _filters(outcomes: pd.DataFrame, cards: Sequence[MatchCard]) -> dict[str, Any]:
    """Return the buttons per outcome and per dataset, their ids, and the pairs of them that show nothing."""
    keys = [key for key in OUTCOMES if (outcomes["outcome"] == key).any()]
    datasets = sorted(set(outcomes["dataset"]))
    pairs = {(card.row.outcome, card.row.dataset) for card in cards}

    def button(column: str, value: str, words: str) -> Filter:
        shown = sum(getattr(card.row, column) == value for card in cards)
        return Filter(value, words, shown, int((outcomes[column] == value).sum()))

    return {
        "outcome": [button("outcome", key, OUTCOMES[key]) for key in keys],
        "dataset": [button("dataset", name, name) for name in datasets],
        "numbers": {name: place for place, name in enumerate(datasets)},
        "ids": ["v-all", "d-all", *(f"v-{key}" for key in keys), *(f"d-{place}" for place in range(len(datasets)))],
        "empty": [(key, place) for key in keys for place, name in enumerate(datasets) if (key, name) not in pairs],
    }
