"""Local features: what is distinctive at many small places of a photograph, and who in the gallery shares it.

`extract` makes keypoints and their descriptors, a `KeypointCache` remembers them, `lnbnn` asks a whole gallery at once
which photographs share descriptors with a query, and `verify` compares a shortlist more closely: which of the matches
lie in the same arrangement on both photographs.

Another extractor takes RootSIFT's place by another `extract`: descriptors of unit length, more alike the larger their
inner product.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
import torch
from torch import Tensor

from reid.config.recipe import MatchingConfig
from reid.retrieval.keypoints import Keypoints
from reid.retrieval.search import nearest
from reid.runtime.distributed import core_count

__all__ = ["Descriptors", "MatchingConfig", "VerifiedMatch", "lnbnn", "stack_descriptors", "verify"]

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
    """Many photographs' descriptors in one tensor.

    Args:
        photographs: of one extractor.
        power: a keypoint's weight counts to this power; 0 for not at all.
    """
    counts = torch.tensor([0, *(len(keypoints) for keypoints in photographs)])
    empty = np.zeros((0, 128), np.float16)
    vectors = np.concatenate([keypoints.descriptors for keypoints in photographs] or [empty])
    weights = np.concatenate([np.zeros(0), *(keypoints.weights**power for keypoints in photographs)])
    return Descriptors(torch.from_numpy(vectors), counts.cumsum(0), torch.from_numpy(weights.astype(np.float32)))


def lnbnn(
    queries: Descriptors,
    gallery: Descriptors,
    labels: Tensor | None = None,
    k: int = 4,
    hidden: Tensor | None = None,
    about: Tensor | None = None,
    device: torch.device | None = None,
    precision: torch.dtype = torch.float32,
) -> Tensor:
    """Local naive Bayes nearest neighbours: every descriptor of a query votes for the owners of its neighbours.

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
        about: (R,) int64, the query photograph that each row of `hidden` is about; None: row i is about query i. Rows
            about one photograph cost hardly more than one of them.
        device, precision: of the search, see `search.nearest`.

    Returns:
        (R, L) float32 on the processor, 0 where nothing was shared, never NaN; R is Q without `about`.
    """
    about = torch.arange(len(queries)) if about is None else about
    hidden = torch.zeros(len(about), len(gallery), dtype=torch.bool) if hidden is None else hidden.cpu()
    photograph_labels = torch.arange(len(gallery)) if labels is None else labels.cpu()
    label_count = int(photograph_labels.max()) + 1 if len(photograph_labels) else 0
    scores = torch.zeros(len(about) * label_count, dtype=torch.float64)
    query_owner, gallery_owner = queries.owner, gallery.owner
    turns = _passes(about, len(queries))
    always_hidden = torch.ones(len(queries), len(gallery), dtype=torch.bool)  # hidden in every row about the photograph
    for turn in turns:
        always_hidden &= hidden[turn] | (turn < 0)[:, None]
    count = k + 1 + (SPARE_NEIGHBOURS if len(turns) > 1 else 0)
    search = partial(nearest, gallery=gallery.vectors, gallery_owner=gallery_owner, device=device, precision=precision)
    for rows, distance, place in search(queries.vectors, count=count, hidden=always_hidden, query_owner=query_owner):
        for turn in turns:
            score_rows = turn[query_owner[rows]]
            active = (score_rows >= 0).nonzero().flatten()
            score_rows = score_rows[active]
            unseen = hidden[score_rows[:, None], gallery_owner[place[active]]]
            kept_distances, kept_places = _without_hidden(distance[active], place[active], unseen, k + 1)
            if len(incomplete := torch.isnan(kept_distances).any(1).nonzero().flatten()):
                vectors = queries.vectors[rows][active[incomplete]]
                searched = list(search(vectors, count=k + 1, hidden=hidden[score_rows[incomplete]]))
                kept_distances[incomplete] = torch.cat([block.distance for block in searched])
                kept_places[incomplete] = torch.cat([block.place for block in searched])
            voting = kept_places[:, :k]
            voted = photograph_labels[gallery_owner[voting]]
            repeated = (voted[:, :, None] == voted[:, None, :]).tril(-1).any(2)
            votes = _votes(kept_distances, k) * queries.weights[rows][active][:, None] * gallery.weights[voting]
            counted = votes.masked_fill(repeated, 0).double()
            scores.index_add_(0, (score_rows[:, None] * label_count + voted).flatten(), counted.flatten())
    return scores.view(len(about), label_count).float()


def _votes(distances: Tensor, k: int) -> Tensor:
    """(n, C) squared distances -> (n, k), by how much the first k are nearer than the farthest that is there."""
    finite = torch.isfinite(distances)
    farthest = distances.masked_fill(~finite, -torch.inf).amax(1, keepdim=True)
    return (farthest - distances).masked_fill(~finite, 0)[:, :k]


def _without_hidden(distances: Tensor, places: Tensor, unseen: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the first `count` neighbours, (n, count), of those (n, C) that are not unseen; NaN where there may be
    others beyond the last."""
    incomplete = (unseen.sum(1) > distances.shape[1] - count) & torch.isfinite(distances[:, -1])
    distances, order = distances.masked_fill(unseen, torch.inf).topk(min(count, distances.shape[1]), largest=False)
    return distances.masked_fill(incomplete[:, None], torch.nan), places.gather(1, order)


SPARE_NEIGHBOURS = 8
"""Neighbours beyond k + 1 that are sought when several rows are about one photograph: what is hidden in some of them
is struck out afterwards, and a descriptor that has too few left is searched for again."""


def _passes(about: Tensor, query_count: int) -> list[Tensor]:
    """Rows dealt out so that each turn has at most one about each photograph: (Q,) int64, the row, -1 for none."""
    turns: list[Tensor] = []
    for row, photograph in enumerate(about.tolist()):
        turn = next((earlier for earlier in turns if earlier[photograph] < 0), None)
        if turn is None:
            turns.append(torch.full((query_count,), -1, dtype=torch.long))
            turn = turns[-1]
        turn[photograph] = row
    return turns


@dataclass(frozen=True)
class VerifiedMatch:
    """A query beside one gallery photograph.

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
) -> list[list[VerifiedMatch]]:
    """Compare every query with its shortlist: mutual nearest neighbours that pass the ratio test, then a robust fit.

    The fit is OpenCV's MAGSAC++ (Barath et al., CVPR 2020), whose random numbers start anew for every pair: the result
    depends neither on the other pairs nor on their order.

    Args:
        queries: Q photographs.
        gallery: G photographs.
        shortlist: per query, (S,) int, places in the gallery.
        matching: the settings.
        device: where descriptors are compared; None for the processor.

    Returns:
        Per query and place of its shortlist, a `VerifiedMatch`.
    """
    compared = []
    for query, row in zip(queries, shortlist, strict=True):
        candidates = [gallery[place] for place in row]
        for candidate, matches in zip(candidates, _match(query, candidates, matching.ratio, device), strict=True):
            ends = query.points[matches[:, 0], :2], candidate.points[matches[:, 1], :2]
            compared.append(np.stack(ends, 1))  # (n, 2, 2)
    with ThreadPoolExecutor(core_count()) as pool:  # OpenCV lets Python's lock go while it fits
        fitted = pool.map(partial(_fit, matching), compared)
        verified = iter([VerifiedMatch(pairs, inlier) for pairs, inlier in zip(compared, fitted, strict=True)])
    return [[next(verified) for _ in row] for row in shortlist]


def _match(
    query: Keypoints, candidates: Sequence[Keypoints], ratio: float, device: torch.device | None
) -> list[np.ndarray]:
    """Per candidate the matches (n, 2): a keypoint of the query, a keypoint of the candidate."""
    longest = max((len(candidate) for candidate in candidates), default=0)
    if not longest or not len(query):
        return [np.zeros((0, 2), np.int64) for _ in candidates]
    lengths = torch.tensor([len(candidate) for candidate in candidates])
    padded = torch.zeros(len(candidates), max(2, longest), query.descriptors.shape[1])
    for row, candidate in zip(padded, candidates, strict=True):
        row[: len(candidate)] = torch.from_numpy(candidate.descriptors)
    absent = torch.arange(padded.shape[1]) >= lengths[:, None]  # (S, g)
    similarity = torch.from_numpy(query.descriptors).to(device).float() @ padded.to(device).mT  # (S, n, g)
    similarity.masked_fill_(absent[:, None].to(device), -torch.inf)
    values, places = similarity.topk(2, 2)
    distances = (2 - 2 * values).clamp_min(0).sqrt()
    mutual = similarity.argmax(1).gather(1, places[:, :, 0]) == torch.arange(len(query), device=device)
    good = mutual & (distances[:, :, 0] <= ratio * distances[:, :, 1]) & (lengths > 0)[:, None].to(device)
    return [
        torch.stack([mask.nonzero()[:, 0], place[mask, 0]], 1).cpu().numpy()
        for mask, place in zip(good, places, strict=True)
    ]


def _fit(matching: MatchingConfig, pairs: np.ndarray) -> np.ndarray:
    """Return which of the matched points (n, 2, 2) one transformation explains, (n,) bool."""
    estimate, sample = (cv2.findHomography, 4) if matching.model == "homography" else (cv2.estimateAffine2D, 3)
    if len(pairs) <= sample:  # any so few points fit
        return np.zeros(len(pairs), bool)
    left, right = pairs[:, 0] * GEOMETRY_SIDE, pairs[:, 1] * GEOMETRY_SIDE
    _, mask = estimate(left, right, method=cv2.USAC_MAGSAC, ransacReprojThreshold=matching.tolerance * GEOMETRY_SIDE)
    return np.zeros(len(pairs), bool) if mask is None else mask[:, 0].astype(bool)
