"""TODO retrieval.candidates."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch

from reid.config.recipe import Recipe
from reid.models.losses import pairwise_distances
from reid.models.networks import best_device
from reid.retrieval.gallery import Gallery, GalleryFeatures
from reid.retrieval.keypoints import Keypoints, foreground, top_k
from reid.retrieval.local_matching import Descriptors, lnbnn, stack_descriptors, verify
from reid.retrieval.search import nearest
from reid.runtime.progress import track

__all__ = ["CandidatePairs", "GalleryIndex", "best_and_runner_up", "candidate_pairs"]


@dataclass(frozen=True)
class CandidatePairs:
    """Queries beside the individuals of their shortlists.

    Attributes:
        query: (P,) int64, ascending: whose row it is.
        individual: (P,) int64, label of the individual.
        photograph: (P,) int64, the individual's photograph that speaks most for it, by its place in the gallery.
        features: (P,) float64 each, all finite, by name: the cues "distance" (Euclidean, to the individual's nearest
            photograph), "local" (LNBNN) and "inliers" (of the best verified photograph), and "foreground" and
            "foreground_inliers", the same two of the keypoints on the animal, as far as the recipe asks for them;
            "cohort" (the distance in standard deviations of what is usual for this individual, so that one with
            hundreds of photographs is not near to everybody); "photographs" (how many of the individual the
            gallery has); "same side" and "other side" (1 where the orientations of the query and of `photograph` are
            known and agree, or differ).
    """

    query: np.ndarray
    individual: np.ndarray
    photograph: np.ndarray
    features: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.query)

    def of(self, mask: np.ndarray) -> "CandidatePairs":
        """Return the pairs that a mask (P,) or places choose."""
        chosen = {name: values[mask] for name, values in self.features.items()}
        return CandidatePairs(self.query[mask], self.individual[mask], self.photograph[mask], chosen)

    def numbered_from(self, start: int) -> "CandidatePairs":
        """With other numbers for the queries."""
        return replace(self, query=self.query + start)

    def scaled(self, unit: float) -> "CandidatePairs":
        """With distances in other units."""
        if "distance" not in self.features:
            return self
        return replace(self, features={**self.features, "distance": self.features["distance"] / unit})

    @staticmethod
    def joined(parts: Sequence["CandidatePairs"]) -> "CandidatePairs":
        """Return one table below the other; their queries are numbered already."""
        return CandidatePairs(
            np.concatenate([part.query for part in parts]),
            np.concatenate([part.individual for part in parts]),
            np.concatenate([part.photograph for part in parts]),
            {name: np.concatenate([part.features[name] for part in parts]) for name in parts[0].features},
        )


def best_and_runner_up(query: np.ndarray, dissimilarity: np.ndarray, queries: int) -> tuple[np.ndarray, np.ndarray]:
    """Each query's least doubtful pair and the runner-up.

    Args:
        query: (P,) int64, ascending.
        dissimilarity: (P,) float64.
        queries: Q.

    Returns:
        (Q,) int64 each, places in the pairs; -1 where a query has none, or no second. Of equals the first comes first.
    """
    order = np.lexsort((dissimilarity, query))
    starts = np.searchsorted(query[order], np.arange(queries + 1))
    first, second = np.full(queries, -1), np.full(queries, -1)
    counts = np.diff(starts)
    first[counts > 0] = order[starts[:-1][counts > 0]]
    second[counts > 1] = order[starts[:-1][counts > 1] + 1]
    return first, second


QUERY_BLOCK = 16
"""Queries compared at a time: a progress bar moves, and the scores of a whole gallery of 100,000 photographs for so
many queries take 6 MB."""


SALIENCY_POWER = 2.0
"""A vote between keypoints on the animal counts both weights to this power. On nyala in the bush the same votes reached
a score of 0.10, 0.21 and 0.27 with powers 0, 1 and 2 (best threshold in hindsight; benchmarks/README.md)."""


COHORT_SIZE = 300
"""Individuals, one photograph each, that say how near to everybody another is."""


def candidate_pairs(
    queries: GalleryFeatures, gallery: Gallery, recipe: Recipe, hidden: np.ndarray | None = None, what: str = "matching"
) -> CandidatePairs:
    """Return every query beside the individuals of its shortlist.

    Args:
        queries: Q photographs.
        gallery: N photographs.
        recipe: `cues`, `scorers`, `shortlist`, `whole_gallery`, `verified`, `local_best` and the settings of matching.
        hidden: (Q, N) bool, gallery photographs that are not there for a query.
        what: the work in a few words, for the progress.

    Returns:
        The pairs; a query from which everything is hidden has none.
    """
    index = GalleryIndex.of(gallery, recipe)
    pairs = []
    for start in track(range(0, max(1, len(queries)), QUERY_BLOCK), what):
        rows = np.arange(start, min(start + QUERY_BLOCK, len(queries)))
        block, unseen = queries.of(rows), None if hidden is None else hidden[rows]
        shortlist = _shortlist(block, index, unseen, recipe)
        pairs.append(_pairs(shortlist, block, index, recipe).numbered_from(start))
    return CandidatePairs.joined(pairs)


@dataclass(frozen=True)
class GalleryIndex:
    """A gallery made ready to be compared with.

    Attributes:
        gallery: its photographs.
        labels: (N,) int64, their individuals.
        order, starts: the photographs by individual, (N,) int64, and where each individual's begin, (L,).
        keypoint_sets: the sets of keypoints that are matched, by the cue that their votes are: "local" for the
            strongest, "foreground" for those on the animal, where the encoder can tell; (N,) each.
        whole: likewise all descriptors, where queries are matched against the whole gallery; empty where they are not.
        usual: (L, 2) float64, mean and deviation of how far other individuals' photographs are from each.
        device: where vectors and descriptors are compared.
    """

    gallery: GalleryFeatures
    labels: np.ndarray
    order: np.ndarray
    starts: np.ndarray
    keypoint_sets: dict[str, tuple[Keypoints, ...]]
    whole: dict[str, Descriptors]
    usual: np.ndarray | None
    device: torch.device

    @classmethod
    def of(cls, gallery: Gallery, recipe: Recipe) -> "GalleryIndex":
        labels, photographs = gallery.labels, gallery.embeddings
        order = np.argsort(labels, kind="stable")
        starts = np.searchsorted(labels[order], np.arange(len(gallery.individuals)))
        keypoint_sets = _keypoint_sets(photographs, recipe) if recipe.uses_keypoints else {}
        weights = [keypoints.weights for keypoints in photographs.keypoints if len(keypoints)]
        if weights and not any((values < 1).any() for values in weights):
            keypoint_sets.pop("foreground", None)
        searched = not recipe.uses_encoder or len(photographs) <= recipe.matching.whole_gallery
        whole = {cue: _stack(cue, keypoints, recipe) for cue, keypoints in keypoint_sets.items()} if searched else {}
        index = cls(photographs, labels, order, starts, keypoint_sets, whole, None, best_device())
        fused = recipe.uses_encoder and {"logistic", "boosted"} & set(recipe.calibration.scorers)
        return replace(index, usual=_cohort_statistics(index)) if fused else index

    def per_individual(self, values: np.ndarray, of: np.ufunc) -> np.ndarray:
        """(q, N) to (q, L): what `of` makes of each individual's photographs."""
        reduced: np.ndarray = of.reduceat(values[:, self.order], self.starts, axis=1)
        return reduced


def _keypoint_sets(photographs: GalleryFeatures, recipe: Recipe) -> dict[str, tuple[Keypoints, ...]]:
    """See `GalleryIndex.keypoint_sets`."""
    return {
        "local": tuple(top_k(keypoints, recipe.keypoints.count) for keypoints in photographs.keypoints),
        "foreground": tuple(foreground(keypoints, recipe.keypoints.foreground) for keypoints in photographs.keypoints),
    }


def _stack(cue: str, photographs: Sequence[Keypoints], recipe: Recipe) -> Descriptors:
    return stack_descriptors(photographs, SALIENCY_POWER if cue == "foreground" else 0)


def _cohort_statistics(index: GalleryIndex) -> np.ndarray:
    """See `GalleryIndex.usual`: cohort normalisation, as for speakers (Auckenthaler et al. 2000), against individuals
    whose many photographs make them near to everybody."""
    one_each = index.order[index.starts]
    cohort = one_each[np.unique(np.linspace(0, len(one_each) - 1, COHORT_SIZE).astype(int))]
    total, squares, count = (np.zeros(len(index.starts)) for _ in range(3))
    for block in np.array_split(cohort, -(-len(cohort) // QUERY_BLOCK)):
        far = pairwise_distances(index.gallery.vectors[block], index.gallery.vectors).double().numpy()
        near = index.per_individual(far, np.minimum)  # (c, L)
        others = index.labels[block][:, None] != np.arange(near.shape[1])
        total += (near * others).sum(0)
        squares += (near**2 * others).sum(0)
        count += others.sum(0)
    mean = total / np.maximum(count, 1)
    deviation = np.sqrt(np.maximum(squares / np.maximum(count, 1) - mean**2, 0))
    return np.stack([mean, np.where(deviation > 1e-6, deviation, 1)], 1)


class Shortlist(NamedTuple):
    """Queries beside the gallery photographs that they are compared with closely."""

    query: np.ndarray
    """(S,) int64, ascending."""
    place: np.ndarray
    """(S,) int64, of the photograph in the gallery; ascending within a query."""
    distance: np.ndarray | None
    """(S,) float32, Euclidean; None without an encoder."""
    local: dict[str, np.ndarray]
    """(S,) float32, LNBNN of each of the `GalleryIndex.keypoint_sets`."""
    inliers: dict[str, np.ndarray]
    """(S,) float64, likewise; 0 for a photograph that was not verified."""


def _shortlist(block: GalleryFeatures, index: GalleryIndex, hidden: np.ndarray | None, recipe: Recipe) -> Shortlist:
    """Return the nearest photographs by each cue that can search, and what the other cues say of them."""
    unseen = None if hidden is None else torch.from_numpy(hidden)
    listed, votes = [np.zeros(0, np.int64)], {}
    if recipe.uses_encoder:
        vectors, gallery = block.vectors, index.gallery.vectors
        for near in nearest(vectors, gallery, recipe.matching.shortlist, unseen, device=index.device):
            listed.append(
                _matrix_cells(near.place.numpy(), torch.isfinite(near.distance).numpy(), near.rows.start, index)
            )
    keypoint_sets = {
        cue: keypoints for cue, keypoints in _keypoint_sets(block, recipe).items() if cue in index.keypoint_sets
    }
    _, first, about = np.unique(np.array(block.image_id), return_index=True, return_inverse=True)
    for cue, whole in index.whole.items():
        stacked = _stack(cue, [keypoint_sets[cue][place] for place in first], recipe)
        votes[cue] = lnbnn(
            stacked, whole, None, recipe.matching.neighbours, unseen, torch.from_numpy(about), index.device
        ).numpy()
        best = np.argsort(-votes[cue], axis=1, kind="stable")[:, : recipe.matching.shortlist]
        visible = np.ones(best.shape, bool) if hidden is None else ~np.take_along_axis(hidden, best, 1)
        listed.append(_matrix_cells(best, visible, 0, index))
    query, place = np.divmod(np.unique(np.concatenate(listed)), len(index.labels))
    distance, local, inliers = None, {}, {}
    if recipe.uses_encoder:
        distance = (block.vectors[query] - index.gallery.vectors[place]).norm(dim=1).numpy()
    for cue, asked in keypoint_sets.items():
        local[cue] = votes[cue][query, place] if cue in votes else _voted(cue, asked, index, query, place, recipe)
        photographs = [asked[number] for number in first]
        inliers[cue] = _verified(cue, photographs, about[query], index, query, place, local[cue], recipe)
    return Shortlist(query, place, distance, local, inliers)


def _matrix_cells(places: np.ndarray, valid: np.ndarray, first: int, index: GalleryIndex) -> np.ndarray:
    """(C,) int64, query x N + place, of the places (q, B) that are valid; the first row is query number `first`."""
    rows = np.arange(first, first + len(places))[:, None]
    cells: np.ndarray = (rows * len(index.labels) + places)[valid]
    return cells


def _voted(
    cue: str, asked: Sequence[Keypoints], index: GalleryIndex, query: np.ndarray, place: np.ndarray, recipe: Recipe
) -> np.ndarray:
    """(S,) float32, LNBNN among each query's own shortlist."""
    votes = np.zeros(len(query), np.float32)
    for number, keypoints in enumerate(asked):
        rows = np.flatnonzero(query == number)
        candidates = _stack(cue, [index.keypoint_sets[cue][photograph] for photograph in place[rows]], recipe)
        descriptors = _stack(cue, [keypoints], recipe)
        votes[rows] = lnbnn(descriptors, candidates, k=recipe.matching.neighbours, device=index.device)[0].numpy()
    return votes


def _verified(
    cue: str,
    photographs: Sequence[Keypoints],
    about: np.ndarray,
    index: GalleryIndex,
    query: np.ndarray,
    place: np.ndarray,
    votes: np.ndarray,
    recipe: Recipe,
) -> np.ndarray:
    """(S,) float64, the inliers of each query's `verified` photographs with the most votes.

    Two photographs are compared once, however many queries are `about` (S,) the first.
    """
    inliers = np.zeros(len(query))
    order = np.lexsort((-votes, query))
    rank = np.arange(len(order)) - np.searchsorted(query, query)
    chosen = order[rank < recipe.matching.verified]
    pairs, which = np.unique(about[chosen] * len(index.labels) + place[chosen], return_inverse=True)
    asked, known = np.divmod(pairs, len(index.labels))
    matching = recipe.matching
    shortlists = [known[asked == photograph] for photograph in range(len(photographs))]
    compared = verify(photographs, index.keypoint_sets[cue], shortlists, matching, index.device)
    inliers[chosen] = np.array([verified.inliers for row in compared for verified in row], float)[which]
    return inliers


def _pairs(shortlist: Shortlist, block: GalleryFeatures, index: GalleryIndex, recipe: Recipe) -> CandidatePairs:
    """Return the shortlist's photographs by individual: the best of each speaks for it."""
    label = index.labels[shortlist.place]
    distance = np.zeros(len(label)) if shortlist.distance is None else shortlist.distance
    votes = sum(shortlist.local.values(), np.zeros(len(label)))
    order = np.lexsort((distance, -votes, label, shortlist.query))
    query, label, place = shortlist.query[order], label[order], shortlist.place[order]
    starts = np.flatnonzero(np.diff(query * len(index.starts) + label, prepend=-1))
    pair_query, individual = query[starts], label[starts]
    asked, known = (np.array(seen.orientation or [""] * len(seen)) for seen in (block, index.gallery))
    sides = known[place[starts]], asked[pair_query]
    both_known = (sides[0] != "") & (sides[1] != "")
    features = {
        # all of them, also those that are hidden from a pseudo-query: else few of them would tell the right individual
        "photographs": np.bincount(index.labels)[individual].astype(float),
        "same side": (both_known & (sides[0] == sides[1])).astype(float),
        "other side": (both_known & (sides[0] != sides[1])).astype(float),
    }
    if shortlist.distance is not None:
        features["distance"] = np.minimum.reduceat(distance[order].astype(float), starts)
        if index.usual is not None:
            mean, deviation = index.usual[individual].T
            features["cohort"] = (features["distance"] - mean) / deviation
    sizes = np.diff(starts, append=len(order))
    for cue, local in shortlist.local.items():
        best = order[np.lexsort((-local[order], np.repeat(np.arange(len(starts)), sizes)))]
        counted = np.arange(len(order)) - np.repeat(starts, sizes) < recipe.matching.local_best
        total = np.add.reduceat(np.where(counted, local[best], 0).astype(float), starts)
        features[cue] = total / np.minimum(sizes, recipe.matching.local_best)
        inliers = "inliers" if cue == "local" else f"{cue}_inliers"
        features[inliers] = np.maximum.reduceat(shortlist.inliers[cue][order], starts)
    return CandidatePairs(pair_query, individual, place[starts], features)
