"""Cards: a match each, as pictures. The query, the individuals beside it, and the keypoints that they share."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from reid.catalogue import Catalogue
from reid.evidence import Evidence, Neighbour
from reid.keypoints import Verified
from reid.pictures import Thumbnails
from reid.progress import track
from reid.verdicts import VERDICTS, in_turn

__all__ = ["Beside", "Card", "Filter", "Pair", "Picture", "cards_of", "filters_of"]

PICTURES_LIMIT = 8_500_000
"""Bytes of the matches on a page, which leaves room for charts and tables below 10 MB in all."""

CARD_BYTES = 2_000
"""What a match takes beside its photographs and its neighbours; measured 1,300 to 1,600."""

NEIGHBOUR_BYTES = 900
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


class Beside(NamedTuple):
    """An individual beside a query."""

    role: str
    picture: Picture
    distance: float | None
    is_right: bool
    pair: Pair | None


@dataclass(frozen=True)
class Card:
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
    neighbours: tuple[Beside, ...]


def cards_of(judged: pd.DataFrame, catalogue: Catalogue, evidence: Evidence, thumbnails: Thumbnails) -> list[Card]:
    """As many matches as fit, the worst of every verdict and dataset in turn; in the order of `judge`."""
    rows: list[Any] = list(judged.itertuples())
    index = _PictureIndex.of(catalogue, thumbnails)
    cards: list[Card] = []
    free = PICTURES_LIMIT
    places = in_turn(judged)
    if evidence.neighbours:
        places = [place for place in places if rows[place].image_id in evidence.neighbours or rows[place].problem]
    for place in track(places, "drawing matches"):
        before = len(thumbnails.drawn)
        card = index.card(place, rows[place], evidence.neighbours.get(rows[place].image_id, ()))
        fresh = list(thumbnails.drawn)[before:]
        free -= CARD_BYTES + sum(len(thumbnails.drawn[image_id].uri) for image_id in fresh) + _size(card)
        if free < 0:
            for image_id in fresh:
                thumbnails.forget(image_id)
            break
        cards.append(card)
    return sorted(cards, key=lambda card: card.place)


def _size(card: Card) -> int:
    """Bytes of a card's neighbours, about."""
    lines = sum(len(beside.pair.agreeing) + len(beside.pair.others) for beside in card.neighbours if beside.pair)
    return NEIGHBOUR_BYTES * len(card.neighbours) + lines


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

    def card(self, place: int, row: Any, neighbours: Sequence[Neighbour]) -> Card:
        """A match, a row of `judge`, with the individuals that were found beside it."""
        truth = f"{_short(row.truth, row.dataset)} (new)" if row.truth_new else _short(row.truth, row.dataset)
        shown = tuple(neighbours) or self._of_match(row)
        beside = tuple(
            Beside(
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
        return Card(place, row, self._picture(truth or "not known", row.image_id), beside)

    def _of_match(self, row: Any) -> tuple[Neighbour, ...]:
        """What the match itself says: the nearest individual, and the right one by a look-alike."""
        nothing = Verified(np.zeros((0, 2, 2), np.float32), np.zeros(0, bool))
        square = ((1.0, 1.0), (1.0, 1.0))
        neighbours = [Neighbour(row.identity, row.photograph, False, 1, row.distance, square, nothing)]
        if row.truth in self.photographs and row.identity != row.truth:
            look_alike = self._look_alike(row.truth, row.image_id)
            neighbours.append(Neighbour(row.truth, look_alike, False, 0, np.inf, square, nothing))
        return tuple(neighbours)

    def _look_alike(self, identity: str, image_id: str) -> str:
        """A database photograph of an individual, from the query's side where there is one."""
        photographs, side = self.photographs[identity], self.orientations.get(image_id, "")
        return next((photograph for photograph in photographs if self.orientations[photograph] == side), photographs[0])

    def _picture(self, name: str, image_id: str, mirrored: bool = False) -> Picture:
        thumbnail = self.thumbnails.of_photograph(image_id)
        number = list(self.thumbnails.drawn).index(image_id)
        return Picture(name, image_id, number, mirrored, thumbnail.problem)


def _short(identity: str, dataset: str) -> str:
    """Without the dataset, where an identity begins with it: the card says it above."""
    return identity.removeprefix(f"{dataset}_")


def _role(neighbour: Neighbour, is_right: bool) -> str:
    rank = {0: "not compared", 1: "nearest", 2: "2nd", 3: "3rd"}.get(neighbour.rank, f"no. {neighbour.rank}")
    if is_right and neighbour.rank != 1:
        return f"right one, {rank}"
    return rank


def _pair(neighbour: Neighbour) -> Pair:
    """The keypoints that two photographs share, each photograph in the middle of a square of 1,000, 41 apart."""
    sides = np.array(neighbour.extents)  # (2, 2)
    ends = np.rint((neighbour.shared.pairs + (1 - sides) / 2) * 1000).astype(int)  # (n, 2, 2)
    ends[:, 1, 0] += 1041
    inlier = neighbour.shared.inlier
    agreeing, others = (_path(ends[mask][:LINES]) for mask in (inlier, ~inlier))
    left_out = sum(max(0, int(mask.sum()) - LINES) for mask in (inlier, ~inlier))
    return Pair(agreeing, others, len(inlier), neighbour.shared.inliers, left_out)


def _path(ends: np.ndarray) -> str:
    """An SVG path of lines, (n, 2, 2) whole numbers."""
    return "".join(f"M{x} {y}L{u} {v}" for (x, y), (u, v) in ends.tolist())


class Filter(NamedTuple):
    """A button above the matches."""

    key: str
    words: str
    shown: int
    found: int


def filters_of(judged: pd.DataFrame, cards: Sequence[Card]) -> dict[str, Any]:
    """The buttons per verdict and per dataset, their ids, and the pairs of them that show nothing."""
    verdicts = [key for key in VERDICTS if (judged["verdict"] == key).any()]
    datasets = sorted(set(judged["dataset"]))
    pairs = {(card.row.verdict, card.row.dataset) for card in cards}

    def button(column: str, value: str, words: str) -> Filter:
        shown = sum(getattr(card.row, column) == value for card in cards)
        return Filter(value, words, shown, int((judged[column] == value).sum()))

    return {
        "verdict": [button("verdict", key, VERDICTS[key]) for key in verdicts],
        "dataset": [button("dataset", name, name) for name in datasets],
        "numbers": {name: place for place, name in enumerate(datasets)},
        "ids": ["v-all", "d-all", *(f"v-{key}" for key in verdicts), *(f"d-{place}" for place in range(len(datasets)))],
        "empty": [(key, place) for key in verdicts for place, name in enumerate(datasets) if (key, name) not in pairs],
    }
