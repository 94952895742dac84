"""Match local features: which gallery photographs share keypoints with a query.

`gallery_votes` compares queries with a whole gallery at once, by votes of descriptors; `lnbnn` does so exactly, and
with a few photographs; `verify` compares a query with a shortlist more closely: which of the matches lie in the same
arrangement on both photographs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import cv2
import numpy as np
import torch
from torch import Tensor

from reid.config.recipe import MatchingConfig
from reid.retrieval.descriptor_index import DescriptorIndex, DescriptorSets, Neighbours
from reid.retrieval.keypoints import Keypoints, stack_arrays
from reid.retrieval.search import inner_products, nearest
from reid.runtime.threads import map_in_threads

__all__ = ["Descriptors", "Matcher", "VerifiedMatch", "gallery_votes", "lnbnn", "stack_descriptors", "verify"]

GEOMETRY_SIDE = 1000
"""Pixels that the longer side counts in geometry: MAGSAC finds nothing in coordinates from 0 to 1 (OpenCV 5.0)."""


@dataclass(frozen=True)
class Descriptors:
    """The descriptors of N photographs, one photograph below the other.

    Attributes:
        vectors: (M, D) float16 of unit length.
        starts: (N + 1,) int64: photograph i has the rows from starts[i] to starts[i + 1].
        weights: (M,) float32, what a vote of the row counts.
    """

    vectors: Tensor
    starts: Tensor
    weights: Tensor

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def owner(self) -> Tensor:
        """The photograph of each row, (M,) int64."""
        return torch.repeat_interleave(torch.arange(len(self)), self.starts.diff())

    def of(self, photograph: int) -> Tensor:
        """Return one photograph's vectors, (n, D) float16."""
        return self.vectors[int(self.starts[photograph]) : int(self.starts[photograph + 1])]


def stack_descriptors(photographs: Sequence[Keypoints], power: float = 0.0) -> Descriptors:
    """Return many photographs' descriptors in one tensor.

    Args:
        photographs: of one extractor.
        power: a keypoint's weight counts to this power; 0 for not at all.
    """
    counts = torch.tensor([0, *(len(keypoints) for keypoints in photographs)])
    vectors = stack_arrays(photographs)
    weights = np.concatenate([np.zeros(0), *(keypoints.weights**power for keypoints in photographs)])
    return Descriptors(torch.from_numpy(vectors), counts.cumsum(0), torch.from_numpy(weights.astype(np.float32)))


def lnbnn(
    queries: Descriptors,
    gallery: Descriptors,
    labels: Tensor | None = None,
    k: int = 4,
    hidden: Tensor | None = None,
    query_of_row: Tensor | None = None,
    device: torch.device | None = None,
    precision: torch.dtype = torch.float32,
) -> Tensor:
    """Return the votes of local naive Bayes nearest neighbours: every descriptor of a query votes for the owners of its
    neighbours.

    A descriptor's k nearest neighbours in the whole gallery vote for their labels with the squared distance by which
    they are nearer than neighbour k + 1; of each label only the nearest votes (McCann and Lowe, CVPR 2012, algorithm 2,
    after Boiman, Shechtman and Irani, CVPR 2008). With photographs as labels that is HotSpotter's one-vs-many score
    before its aggregation by individual (Crall et al., WACV 2013); individuals as labels favour those with many
    photographs (leave-one-out top-1 of cattle faces 0.12 instead of 0.25, k = 4). A vote counts the product of both
    descriptors' weights. Where fewer than k + 1 neighbours are allowed, the farthest of them takes the place of
    neighbour k + 1.

    Args:
        queries: Q photographs.
        gallery: G photographs.
        labels: (G,) int64 from 0 to L - 1, e.g. the individual on each; None: each photograph is its own label.
        k: neighbours that vote, at least 1.
        hidden: (R, G) bool; a gallery photograph that is hidden in a row is not there for it, neither as a neighbour
            nor as number k + 1.
        query_of_row: (R,) int64, the query photograph that each row of `hidden` is about; None: row i is about query i.
            Rows about one photograph cost hardly more than one of them.
        device, precision: of the search, see `search.nearest`.

    Returns:
        (R, L) float32 on the CPU, 0 where nothing was shared, never NaN; R is Q without `query_of_row`.
    """
    roles = _Roles.of(hidden, query_of_row, len(queries), len(gallery))
    query_owner, gallery_owner = queries.owner, gallery.owner
    search = partial(nearest, gallery=gallery.vectors, gallery_owner=gallery_owner, device=device, precision=precision)

    def search_again(rows: Tensor, role: Tensor) -> Neighbours:
        blocks = list(search(queries.vectors[rows], count=k + 1, hidden=roles.hidden, query_owner=role))
        return Neighbours(torch.cat([block.distance for block in blocks]), torch.cat([block.place for block in blocks]))

    ballot = _Ballot(roles, (query_owner, queries.weights), (gallery_owner, gallery.weights), labels, k, search_again)
    count = k + 1 + (SPARE_NEIGHBOURS if len(roles.passes) > 1 else 0)
    for found in search(queries.vectors, count=count, hidden=roles.always_hidden, query_owner=query_owner):
        ballot.count(torch.arange(found.rows.start, found.rows.stop), Neighbours(found.distance, found.place))
    return ballot.scores


def gallery_votes(
    queries: DescriptorSets,
    index: DescriptorIndex,
    k: int = 4,
    hidden: Tensor | None = None,
    query_of_row: Tensor | None = None,
) -> dict[str, Tensor]:
    """Return the votes of each cue's descriptors for the photographs of a gallery as `lnbnn` counts them, in one pass.

    Args:
        queries: Q photographs, with the cues of the gallery.
        index: the gallery's; where it has several cells, neighbours in cells that are not visited have no vote.
        k, hidden, query_of_row: see `lnbnn`.

    Returns:
        By cue, (R, G) float32.
    """
    gallery = index.gallery
    roles = _Roles.of(hidden, query_of_row, queries.photographs, gallery.photographs)
    hides = len(roles.passes) > 1 or len(gallery.members) > 1
    count = k + 1 + (SPARE_NEIGHBOURS if hides else 0)
    found = index.search(queries.vectors, queries.owner, count, roles.always_hidden)
    votes = {}
    for cue, members in queries.members.items():

        def search_again(rows: Tensor, role: Tensor, cue: str = cue) -> Neighbours:
            return index.search(queries.vectors[rows], role, k + 1, roles.hidden, cue)

        sides = (queries.owner, queries.weights[cue]), (gallery.owner, gallery.weights[cue])
        ballot = _Ballot(roles, *sides, None, k, search_again, gallery.members[cue])
        rows = members.nonzero().flatten()
        ballot.count(rows, Neighbours(found.distance[rows], found.place[rows]))
        votes[cue] = ballot.scores
    return votes


@dataclass(frozen=True)
class _Roles:
    """Queries in one role or several, with other photographs of the gallery hidden in each.

    Attributes:
        hidden: (R, G) bool, what is hidden in each role.
        passes: (Q,) int64 each: the role of each query, -1 for none; no role is in two passes.
        always_hidden: (Q, G) bool, what is hidden in every role of a query.
    """

    hidden: Tensor
    passes: list[Tensor]
    always_hidden: Tensor

    @classmethod
    def of(cls, hidden: Tensor | None, query_of_row: Tensor | None, queries: int, gallery: int) -> "_Roles":
        query_of_row = torch.arange(queries) if query_of_row is None else query_of_row
        hidden = torch.zeros(len(query_of_row), gallery, dtype=torch.bool) if hidden is None else hidden.cpu()
        passes = _passes(query_of_row, queries)
        return cls(hidden, passes, _always_hidden(hidden, passes, queries))


class _Ballot:
    """Counts the votes of descriptors in every role of their photographs.

    Attributes:
        scores: (R, L) float32, what was counted so far.
    """

    def __init__(
        self,
        roles: _Roles,
        queries: tuple[Tensor, Tensor],
        gallery: tuple[Tensor, Tensor],
        labels: Tensor | None,
        k: int,
        search_again: Callable[[Tensor, Tensor], Neighbours],
        members: Tensor | None = None,
    ) -> None:
        """
        Args:
            roles: of the photographs.
            queries: owner and weight of each of their descriptors.
            gallery: likewise.
            labels: (G,) int64; None: each photograph is its own label.
            k: neighbours that vote.
            search_again: given rows of the queries' descriptors (n,) and the role of each, returns the k + 1 nearest
                that are not hidden in it.
            members: (M,) bool, which of the gallery's descriptors vote; None for all.
        """
        self._roles, self._k, self._search_again, self._members = roles, k, search_again, members
        (self._query_owner, self._query_weights), (self._gallery_owner, self._gallery_weights) = queries, gallery
        self._labels = torch.arange(roles.hidden.shape[1]) if labels is None else labels.cpu()
        self._label_count = int(self._labels.max()) + 1 if len(self._labels) else 0
        self._total = torch.zeros(len(roles.hidden) * self._label_count, dtype=torch.float64)

    @property
    def scores(self) -> Tensor:
        return self._total.view(len(self._roles.hidden), self._label_count).float()

    def count(self, rows: Tensor, found: Neighbours) -> None:
        """Count the votes of descriptors of queries, rows (n,), for those of their neighbours that are not hidden."""
        for role_of_query in self._roles.passes if found.place.shape[1] else ():
            roles = role_of_query[self._query_owner[rows]]
            active = (roles >= 0).nonzero().flatten()
            roles, near = roles[active], found.place[active]
            unseen = self._roles.hidden[roles[:, None], self._gallery_owner[near]]
            if self._members is not None:
                unseen |= ~self._members[near]
            distances, places = _without_hidden(found.distance[active], near, unseen, self._k + 1)
            if len(incomplete := torch.isnan(distances).any(1).nonzero().flatten()):
                again = self._search_again(rows[active][incomplete], roles[incomplete])
                distances[incomplete], places[incomplete] = again
            voters = places[:, : self._k]
            voted = self._labels[self._gallery_owner[voters]]
            weights = self._query_weights[rows][active][:, None] * self._gallery_weights[voters]
            votes = _votes(distances, voted) * weights
            self._total.index_add_(0, (roles[:, None] * self._label_count + voted).flatten(), votes.double().flatten())


def _votes(distances: Tensor, voted: Tensor) -> Tensor:
    """Return what the neighbours' votes count before their weights, (n, k) float32.

    Args:
        distances: (n, C) squared, of the k neighbours and of those behind them; inf where there is none.
        voted: (n, k) int64, the labels of the neighbours; of each label only the first votes.
    """
    finite = torch.isfinite(distances)
    farthest = distances.masked_fill(~finite, -torch.inf).amax(1, keepdim=True)
    nearer = (farthest - distances).masked_fill(~finite, 0)[:, : voted.shape[1]]
    repeated = (voted[:, :, None] == voted[:, None, :]).tril(-1).any(2)
    return nearer.masked_fill(repeated, 0)


def _always_hidden(hidden: Tensor, passes: list[Tensor], query_count: int) -> Tensor:
    """Return (Q, G) bool: what is hidden in every row about a photograph."""
    always = torch.ones(query_count, hidden.shape[1], dtype=torch.bool)
    for row_of_query in passes:
        always &= hidden[row_of_query] | (row_of_query < 0)[:, None]
    return always


def _without_hidden(distances: Tensor, places: Tensor, unseen: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the first `count` neighbours, (n, count), of those (n, C) that are not unseen; NaN where there may be
    others beyond the last."""
    incomplete = (unseen.sum(1) > distances.shape[1] - count) & torch.isfinite(distances[:, -1])
    distances, order = distances.masked_fill(unseen, torch.inf).topk(min(count, distances.shape[1]), largest=False)
    return distances.masked_fill(incomplete[:, None], torch.nan), places.gather(1, order)


SPARE_NEIGHBOURS = 8
"""Neighbours beyond k + 1 that are searched for when several rows are about one photograph, or several cues about one
descriptor: what is hidden in some of them is left out afterwards, and a descriptor that has too few left is searched
for again."""


def _passes(query_of_row: Tensor, query_count: int) -> list[Tensor]:
    """Deal out rows so that each pass has at most one about each photograph: (Q,) int64, the row, -1 for none."""
    passes: list[Tensor] = []
    for row, photograph in enumerate(query_of_row.tolist()):
        free = next((earlier for earlier in passes if earlier[photograph] < 0), None)
        if free is None:
            free = torch.full((query_count,), -1, dtype=torch.long)
            passes.append(free)
        free[photograph] = row
    return passes


class Matcher(Protocol):
    """Matches the keypoints of two photographs; see `lightglue.LightGlue`."""

    def match(self, pairs: Sequence[tuple[Keypoints, Keypoints]]) -> list[np.ndarray]:
        """Return the matches of each pair, (n, 2) int64: a keypoint of the first, a keypoint of the second."""


@dataclass(frozen=True)
class VerifiedMatch:
    """The matches of a query and one gallery photograph.

    Attributes:
        pairs: (n, 2, 2) float32: x, y on the query, and x, y on the gallery photograph, per match; shares of the longer
            sides.
        inlier: (n,) bool, whether the geometric model explains the match.
    """

    pairs: np.ndarray
    inlier: np.ndarray

    @property
    def inliers(self) -> int:
        return int(self.inlier.sum())


def verify(
    queries: Sequence[Keypoints],
    gallery: Sequence[Keypoints],
    shortlist: Sequence[np.ndarray],
    matching: MatchingConfig,
    device: torch.device | None = None,
    matcher: Matcher | None = None,
) -> list[list[VerifiedMatch]]:
    """Compare every query with its shortlist: mutual nearest neighbours that pass the ratio test, or what a network
    matches; then a robust fit.

    The fit is OpenCV's MAGSAC++ (Barath et al., CVPR 2020), whose random numbers start anew for every pair: the result
    depends neither on the other pairs nor on their order.

    Args:
        queries: Q photographs.
        gallery: G photographs.
        shortlist: per query, (S,) int, rows of the gallery.
        matching: `ratio`, `model` and `tolerance`.
        device: where descriptors are compared; None for the CPU.
        matcher: a network that matches keypoints; None for nearest neighbours.

    Returns:
        Per query and place of its shortlist, a `VerifiedMatch`.
    """
    lists = [[gallery[place] for place in row] for row in shortlist]
    if matcher:
        found = iter(matcher.match([(query, one) for query, row in zip(queries, lists, strict=True) for one in row]))
        matched = [[next(found) for _ in row] for row in lists]
    else:
        asked, match = list(zip(queries, lists, strict=True)), partial(_match, ratio=matching.ratio, device=device)
        on_cpu = device is None or device.type == "cpu"
        matched = map_in_threads(lambda one: match(*one), asked) if on_cpu else [match(*one) for one in asked]
    # OpenCV lets Python's lock go while it fits
    return map_in_threads(lambda one: _fitted(matching, *one), list(zip(queries, lists, matched, strict=True)))


def _fitted(
    matching: MatchingConfig, query: Keypoints, candidates: Sequence[Keypoints], matched: Sequence[np.ndarray]
) -> list[VerifiedMatch]:
    """Return the matches (n, 2) of each candidate with those that one transformation explains."""
    verified = []
    for candidate, matches in zip(candidates, matched, strict=True):
        pairs = np.stack([query.points[matches[:, 0], :2], candidate.points[matches[:, 1], :2]], 1)  # (n, 2, 2)
        verified.append(VerifiedMatch(pairs, _fit(matching, pairs)))
    return verified


def _match(
    query: Keypoints, candidates: Sequence[Keypoints], ratio: float, device: torch.device | None
) -> list[np.ndarray]:
    """Per candidate the matches (n, 2): a keypoint of the query, a keypoint of the candidate."""
    longest = max((len(candidate) for candidate in candidates), default=0)
    if not longest or not len(query):
        return [np.zeros((0, 2), np.int64) for _ in candidates]
    lengths = np.array([len(candidate) for candidate in candidates])
    padded = torch.zeros(len(candidates), max(2, longest), query.descriptors.shape[1])
    for row, candidate in zip(padded, candidates, strict=True):
        if len(candidate):  # without keypoints, the width of its descriptors says nothing
            row[: len(candidate)] = torch.from_numpy(candidate.descriptors)
    asked = torch.from_numpy(query.descriptors).to(device).float()
    # NumPy, because its argmax and maximum take a tenth of the time of PyTorch's
    similarity = inner_products(asked, padded.flatten(0, 1).to(device)).cpu().numpy()
    similarity = similarity.reshape(len(asked), *padded.shape[:2])
    absent = np.arange(padded.shape[1]) >= lengths[:, None]  # (S, g)
    if absent.any():
        similarity[:, absent] = -np.inf
    best_of_column = similarity.max(0)  # (S, g)
    place = similarity.argmax(2)  # (n, S)
    value = np.take_along_axis(similarity, place[:, :, None], 2)[:, :, 0]
    mutual = best_of_column[np.arange(len(candidates)), place] == value
    np.put_along_axis(similarity, place[:, :, None], -np.inf, 2)
    nearest, second = (np.sqrt(np.maximum(2 - 2 * best, 0)) for best in (value, similarity.max(2)))
    good = mutual & (nearest <= ratio * second) & (lengths > 0)
    matches = [np.stack([np.flatnonzero(mask), of[mask]], 1) for mask, of in zip(good.T, place.T, strict=True)]
    return [some[np.sort(np.unique(some[:, 1], return_index=True)[1])] for some in matches]  # of equals the first


def _fit(matching: MatchingConfig, pairs: np.ndarray) -> np.ndarray:
    """Return which of the matched points (n, 2, 2) one transformation explains, (n,) bool."""
    estimate, sample = (cv2.findHomography, 4) if matching.model == "homography" else (cv2.estimateAffine2D, 3)
    if len(pairs) <= sample:  # any so few points fit
        return np.zeros(len(pairs), bool)
    left, right = pairs[:, 0] * GEOMETRY_SIDE, pairs[:, 1] * GEOMETRY_SIDE
    _, mask = estimate(
        left,
        right,
        method=cv2.USAC_MAGSAC,
        ransacReprojThreshold=matching.tolerance * GEOMETRY_SIDE,
        maxIters=matching.iterations,
    )
    return np.zeros(len(pairs), bool) if mask is None else mask[:, 0].astype(bool)
