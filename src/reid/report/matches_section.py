"""Section "Matches": a card per query with its photograph, its candidates, and the keypoints that they share."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from reid.report.explanations import Candidate, Explanations
from reid.report.filters import find_filters
from reid.report.outcomes import MARKS, OUTCOMES, stratified_order
from reid.report.thumbnails import Thumbnails
from reid.runtime.progress import track

__all__ = ["matches_section"]

CARDS_LIMIT = 8_500_000
"""Bytes of all cards, so that the page stays below 10 MB with charts and tables."""

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
    shared: SharedKeypoints


class MatchCard(NamedTuple):
    """A query with its candidates."""

    place: int
    """Of its row in the outcomes."""
    row: Any
    query: Picture
    candidates: tuple[CandidateView, ...]
    """The best first, and the right one."""


def matches_section(outcomes: pd.DataFrame, explanations: Explanations, thumbnails: Thumbnails) -> dict[str, Any]:
    """Return what the section shows.

    Args:
        outcomes: a row per query, the worst first, see `outcomes.classify_outcomes`.
        explanations: the candidates of the queries that may be shown.
        thumbnails: those of the photographs on the cards are added.
    """
    cards = _cards(outcomes, explanations, thumbnails)
    return {
        "words": OUTCOMES,
        "marks": MARKS,
        "cards": cards,
        "keypoints_decided": explanations.keypoints_decided,
        "filters": find_filters(outcomes, [(card.row.outcome, card.row.dataset) for card in cards], OUTCOMES),
    }


def _cards(outcomes: pd.DataFrame, explanations: Explanations, thumbnails: Thumbnails) -> list[MatchCard]:
    """Return as many cards as fit, chosen in `stratified_order`, in the order of the outcomes."""
    rows: list[Any] = list(outcomes.itertuples())
    candidates = explanations.candidates
    # without candidates, and not explained, is a query that can't be read or has nothing to compare
    places = [
        place
        for place in stratified_order(outcomes)
        if rows[place].image_id in candidates or rows[place].problem or not rows[place].photograph
    ]
    cards: list[MatchCard] = []
    free = CARDS_LIMIT
    for place in track(places, "drawing matches"):
        before = len(thumbnails.drawn)
        card = _card(place, rows[place], candidates.get(rows[place].image_id, ()), thumbnails)
        added = list(thumbnails.drawn)[before:]
        free -= _bytes_of(card) + sum(len(thumbnails.drawn[image_id].uri) for image_id in added)
        if free < 0:
            for image_id in added:
                thumbnails.forget(image_id)
            break
        cards.append(card)
    return sorted(cards, key=lambda card: card.place)


def _bytes_of(card: MatchCard) -> int:
    """Return about how many bytes a card takes, without its photographs."""
    lines = sum(len(one.shared.inlier_lines) + len(one.shared.other_lines) for one in card.candidates)
    return CARD_BYTES + CANDIDATE_BYTES * len(card.candidates) + lines


def _card(place: int, row: Any, candidates: Sequence[Candidate], thumbnails: Thumbnails) -> MatchCard:
    """Return the card of a row of the outcomes."""

    def picture(identity: str, image_id: str, mirrored: bool = False) -> Picture:
        thumbnail = thumbnails.of_photograph(image_id)
        name = identity.removeprefix(f"{row.dataset}_")  # the card shows the dataset already
        return Picture(name, image_id, thumbnail.number, mirrored, thumbnail.problem)

    query = picture(f"{row.truth} (new)" if row.truth_new else row.truth or "not known", row.image_id)
    views = [
        CandidateView(
            role=_role(candidate.rank, candidate.identity == row.truth),
            picture=picture(candidate.identity, candidate.photograph, candidate.mirrored),
            dissimilarity=candidate.dissimilarity if candidate.rank else None,
            is_right=candidate.identity == row.truth,
            shared=_shared_keypoints(candidate),
        )
        for candidate in candidates
    ]
    return MatchCard(place, row, query, tuple(views))


def _role(rank: int, is_right: bool) -> str:
    words = {0: "not compared", 1: "best", 2: "2nd", 3: "3rd"}.get(rank, f"no. {rank}")
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
