"""Cards: a match each, as pictures. The query, the individuals beside it, and the keypoints that they share."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from reid.data.catalogue import Catalogue
from reid.report.explanations import Candidate, Explanations
from reid.report.outcomes import OUTCOMES, stratified_order
from reid.report.thumbnails import Thumbnails
from reid.retrieval.local_matching import VerifiedMatch
from reid.runtime.progress import track

__all__ = ["CandidateView", "Filter", "MatchCard", "Pair", "Picture", "filters_of", "match_cards"]

PICTURES_LIMIT = 8_500_000
"""Bytes of the matches on a page, which leaves room for charts and tables below 10 MB in all."""


CARD_BYTES = 2_000
"""What a match takes beside its photographs and its neighbours; measured 1,300 to 1,600."""


CANDIDATE_BYTES = 900
"""What a neighbour takes beside its photograph and its keypoints; measured 600 to 800."""


LINES = 30
"""Matching keypoints drawn of a kind: more of them are a tangle."""


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


class Pair(NamedTuple):
    """Two photographs' keypoints that match, as lines over both: SVG paths in a field of 2,041 by 1,000."""

    agreeing: str
    others: str
    matches: int
    inliers: int
    left_out: int


class CandidateView(NamedTuple):
    """An individual beside a query."""

    role: str
    picture: Picture
    distance: float | None
    is_right: bool
    pair: Pair | None


@dataclass(frozen=True)
class MatchCard:
    """A match on the page.

    Attributes:
        place: in the order of `judge`.
        row: the match.
        query: its photograph.
        neighbours: the nearest individuals, the nearest first, and the right one.
    """

    place: int
    row: Any
    query: Picture
    neighbours: tuple[CandidateView, ...]


def match_cards(
    judged: pd.DataFrame, catalogue: Catalogue, explanations: Explanations, thumbnails: Thumbnails
) -> list[MatchCard]:
    """As many matches as fit, the worst of every outcome and dataset in turn; in the order of `judge`."""
    rows: list[Any] = list(judged.itertuples())
    index = _PictureIndex.of(catalogue, thumbnails)
    cards: list[MatchCard] = []
    free = PICTURES_LIMIT
    places = stratified_order(judged)
    if explanations.neighbours:
        places = [place for place in places if rows[place].image_id in explanations.neighbours or rows[place].problem]
    for place in track(places, "drawing matches"):
        before = len(thumbnails.drawn)
        card = index.card(place, rows[place], explanations.neighbours.get(rows[place].image_id, ()))
        fresh = list(thumbnails.drawn)[before:]
        free -= CARD_BYTES + sum(len(thumbnails.drawn[image_id].uri) for image_id in fresh) + _size(card)
        if free < 0:
            for image_id in fresh:
                thumbnails.forget(image_id)
            break
        cards.append(card)
    return sorted(cards, key=lambda card: card.place)


def _size(card: MatchCard) -> int:
    """Bytes of a card's neighbours, about."""
    lines = sum(len(beside.pair.agreeing) + len(beside.pair.others) for beside in card.neighbours if beside.pair)
    return CANDIDATE_BYTES * len(card.neighbours) + lines


@dataclass(frozen=True)
class _PictureIndex:
    """Where photographs are found.

    Attributes:
        orientations: by image_id.
        photographs: by individual, its database photographs.
        thumbnails: of all that was shown so far.
    """

    orientations: dict[str, str]
    photographs: dict[str, list[str]]
    thumbnails: Thumbnails

    @classmethod
    def of(cls, catalogue: Catalogue, thumbnails: Thumbnails) -> "_PictureIndex":
        photographs: dict[str, list[str]] = {}
        for image_id, identity in zip(catalogue.database.image_ids, catalogue.database.identities, strict=True):
            photographs.setdefault(identity, []).append(image_id)
        orientations = dict(zip(catalogue.image_ids, catalogue.table["orientation"], strict=True))
        return cls(orientations, photographs, thumbnails)

    def card(self, place: int, row: Any, neighbours: Sequence[Candidate]) -> MatchCard:
        """Return a match, a row of `judge`, with the individuals that were found beside it."""
        truth = f"{_short(row.truth, row.dataset)} (new)" if row.truth_new else _short(row.truth, row.dataset)
        shown = tuple(neighbours) or self._of_match(row)
        beside = tuple(
            CandidateView(
                role=_role(neighbour, neighbour.identity == row.truth),
                picture=self._picture(
                    _short(neighbour.identity, row.dataset), neighbour.photograph, neighbour.mirrored
                ),
                distance=neighbour.distance if neighbours and np.isfinite(neighbour.distance) else None,
                is_right=neighbour.identity == row.truth,
                pair=_pair(neighbour) if neighbours else None,
            )
            for neighbour in shown
        )
        return MatchCard(place, row, self._picture(truth or "not known", row.image_id), beside)

    def _of_match(self, row: Any) -> tuple[Candidate, ...]:
        """Return what the match itself says: the nearest individual, and the right one by a look-alike."""
        nothing = VerifiedMatch(np.zeros((0, 2, 2), np.float32), np.zeros(0, bool))
        square = ((1.0, 1.0), (1.0, 1.0))
        neighbours = [Candidate(row.identity, row.photograph, False, 1, row.distance, square, nothing)]
        if row.truth in self.photographs and row.identity != row.truth:
            look_alike = self._look_alike(row.truth, row.image_id)
            neighbours.append(Candidate(row.truth, look_alike, False, 0, np.inf, square, nothing))
        return tuple(neighbours)

    def _look_alike(self, identity: str, image_id: str) -> str:
        """Return a database photograph of an individual, from the query's side where there is one."""
        photographs, side = self.photographs[identity], self.orientations.get(image_id, "")
        return next((photograph for photograph in photographs if self.orientations[photograph] == side), photographs[0])

    def _picture(self, name: str, image_id: str, mirrored: bool = False) -> Picture:
        thumbnail = self.thumbnails.of_photograph(image_id)
        number = list(self.thumbnails.drawn).index(image_id)
        return Picture(name, image_id, number, mirrored, thumbnail.problem)


def _short(identity: str, dataset: str) -> str:
    """Without the dataset, where an identity begins with it: the card says it above."""
    return identity.removeprefix(f"{dataset}_")


def _role(neighbour: Candidate, is_right: bool) -> str:
    rank = {0: "not compared", 1: "nearest", 2: "2nd", 3: "3rd"}.get(neighbour.rank, f"no. {neighbour.rank}")
    if is_right and neighbour.rank != 1:
        return f"right one, {rank}"
    return rank


def _pair(neighbour: Candidate) -> Pair:
    """Return the keypoints that two photographs share, each photograph in the middle of a square of 1,000, 41 apart."""
    sides = np.array(neighbour.extents)  # (2, 2)
    ends = np.rint((neighbour.shared.pairs + (1 - sides) / 2) * 1000).astype(int)  # (n, 2, 2)
    ends[:, 1, 0] += 1041
    inlier = neighbour.shared.inlier
    agreeing, others = (_path(ends[mask][:LINES]) for mask in (inlier, ~inlier))
    left_out = sum(max(0, int(mask.sum()) - LINES) for mask in (inlier, ~inlier))
    return Pair(agreeing, others, len(inlier), neighbour.shared.inliers, left_out)


def _path(ends: np.ndarray) -> str:
    """Return an SVG path of lines, (n, 2, 2) whole numbers."""
    return "".join(f"M{x} {y}L{u} {v}" for (x, y), (u, v) in ends.tolist())


class Filter(NamedTuple):
    """A button above the matches."""

    key: str
    words: str
    shown: int
    found: int


def filters_of(judged: pd.DataFrame, cards: Sequence[MatchCard]) -> dict[str, Any]:
    """Return the buttons per outcome and per dataset, their ids, and the pairs of them that show nothing."""
    outcomes = [key for key in OUTCOMES if (judged["outcome"] == key).any()]
    datasets = sorted(set(judged["dataset"]))
    pairs = {(card.row.outcome, card.row.dataset) for card in cards}

    def button(column: str, value: str, words: str) -> Filter:
        shown = sum(getattr(card.row, column) == value for card in cards)
        return Filter(value, words, shown, int((judged[column] == value).sum()))

    return {
        "outcome": [button("outcome", key, OUTCOMES[key]) for key in outcomes],
        "dataset": [button("dataset", name, name) for name in datasets],
        "numbers": {name: place for place, name in enumerate(datasets)},
        "ids": ["v-all", "d-all", *(f"v-{key}" for key in outcomes), *(f"d-{place}" for place in range(len(datasets)))],
        "empty": [(key, place) for key in outcomes for place, name in enumerate(datasets) if (key, name) not in pairs],
    }
