"""Which individuals a query is compared with, and what each cue says of them.

queries -> shortlist of photographs: the nearest by embedding, and those with the most votes of keypoints
        -> distances, votes and inliers of every photograph on it
        -> pairs of a query and an individual, with the features that a scorer makes one number of
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from reid.config.recipe import KeypointConfig, MatchingConfig, Recipe
from reid.errors import InputError
from reid.models.distances import pairwise_distances
from reid.models.networks import best_device
from reid.retrieval.descriptor_index import DescriptorIndex, DescriptorSets, find_cells, one_cell
from reid.retrieval.gallery import Gallery, GalleryFeatures
from reid.retrieval.keypoints import Keypoints, cue_masks
from reid.retrieval.local_matching import Descriptors, Matcher, gallery_votes, lnbnn, stack_descriptors, verify
from reid.retrieval.search import nearest
from reid.runtime.progress import track

__all__ = [
    "LOCAL_CUES",
    "POWERS",
    "CandidatePairs",
    "GalleryIndex",
    "are_comparable",
    "best_and_runner_up",
    "candidate_pairs",
    "cue_of",
    "distance_of",
    "keypoint_sets",
]


@dataclass(frozen=True)
class CandidatePairs:
    """Queries paired with the individuals of their shortlists.

    Attributes:
        query: (P,) int64, ascending: the query's row.
        individual: (P,) int64, label of the individual.
        photograph: (P,) int64, the individual's photograph that is most like the query, as its row in the gallery.
        features: (P,) float64 each, all finite, by name: the cues "distance" (Euclidean, to the individual's nearest
            photograph; with several backbones also each one's, `distance_of`), "local" (LNBNN) and "inliers" (of the
            best verified photograph), and "foreground" and "foreground_inliers", the same two of the keypoints on the
            animal, as far as the recipe uses them; the same of each further local feature, see `cue_of`; "cohort" (the
            distance in standard deviations of the `GalleryIndex.cohort_statistics`, so that an individual with hundreds
            of photographs is not near to everybody); "photographs" (how many of the individual the gallery has); "same
            side" and "other side" (1 where the orientations of the query and of `photograph` are known and agree, or
            differ).
    """

    query: np.ndarray
    individual: np.ndarray
    photograph: np.ndarray
    features: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.query)

    def of(self, mask: np.ndarray) -> "CandidatePairs":
        """Return the pairs that a mask (P,) or rows choose."""
        chosen = {name: values[mask] for name, values in self.features.items()}
        return CandidatePairs(self.query[mask], self.individual[mask], self.photograph[mask], chosen)

    def numbered_from(self, start: int) -> "CandidatePairs":
        """Return the pairs with `start` added to the queries' rows."""
        return replace(self, query=self.query + start)

    def scaled(self, unit: float) -> "CandidatePairs":
        """Return the pairs with distances in another unit."""
        distances = {name: values / unit for name, values in self.features.items() if name.startswith("distance")}
        return replace(self, features={**self.features, **distances})

    @staticmethod
    def none() -> "CandidatePairs":
        """Return no pair at all, without any feature."""
        rows = np.zeros(0, np.int64)
        return CandidatePairs(rows, rows, rows, {})

    @staticmethod
    def joined(parts: Sequence["CandidatePairs"]) -> "CandidatePairs":
        """Return one table below the other; their queries are numbered already, see `numbered_from`."""
        return CandidatePairs(
            np.concatenate([part.query for part in parts]),
            np.concatenate([part.individual for part in parts]),
            np.concatenate([part.photograph for part in parts]),
            {name: np.concatenate([part.features[name] for part in parts]) for name in parts[0].features},
        )


def best_and_runner_up(query: np.ndarray, dissimilarity: np.ndarray, queries: int) -> tuple[np.ndarray, np.ndarray]:
    """Return each query's pair of the smallest dissimilarity and the runner-up.

    Args:
        query: (P,) int64, ascending.
        dissimilarity: (P,) float64.
        queries: Q.

    Returns:
        (Q,) int64 each, rows of the pairs; -1 where a query has none, or no second. Of equals the first comes first.
    """
    order = np.lexsort((dissimilarity, query))
    starts = np.searchsorted(query[order], np.arange(queries + 1))
    first, second = np.full(queries, -1), np.full(queries, -1)
    counts = np.diff(starts)
    first[counts > 0] = order[starts[:-1][counts > 0]]
    second[counts > 1] = order[starts[:-1][counts > 1] + 1]
    return first, second


def distance_of(number: int) -> str:
    """Return the name of the cue that is the distance by one of several backbones alone; the first is number 0.

    >>> distance_of(1)
    'distance 2'
    """
    return f"distance {number + 1}"


def cue_of(cue: str, number: int) -> str:
    """Return the name of a cue of one of several local features; the first is number 0.

    >>> cue_of("local", 1)
    'local 2'
    """
    return f"{cue} {number + 1}" if number else cue


QUERY_BLOCK = 128
"""Queries compared at a time: a progress bar moves, and the scores of a whole gallery of 100,000 photographs for so
many queries take 51 MB. With 64 of them each takes an eighth longer, for every cell is then read twice as often."""

POWERS = {"local": 0.0, "foreground": 2.0}
"""A vote between keypoints on the animal counts both weights to this power. On nyala in the bush the same votes reached
a score of 0.10, 0.21 and 0.27 with powers 0, 1 and 2 (oracle threshold; benchmarks/README.md)."""

LOCAL_CUES = ("local", "inliers", "foreground", "foreground_inliers")
"""Those of a local feature."""

COHORT_SIZE = 300
"""Individuals, one photograph each, whose distances to an individual are its cohort statistics."""

COHORT_BLOCK = 64
"""Of them at a time; another number would change the last digits of the sums."""


def candidate_pairs(
    queries: GalleryFeatures, gallery: Gallery, recipe: Recipe, hidden: np.ndarray | None = None, what: str = "matching"
) -> CandidatePairs:
    """Return every query paired with the individuals of its shortlist.

    Args:
        queries: Q photographs; several rows may be about one photograph.
        gallery: N photographs.
        recipe: `matching`, `keypoints`, and which scorers compete.
        hidden: (Q, N) bool, gallery photographs that a query must not meet.
        what: the work in a few words, for the progress.

    Returns:
        The pairs; a query from which everything is hidden has none.

    Raises:
        InputError: the recipe has a cue that the gallery was made without.
    """
    features = gallery.by_feature() if recipe.uses_keypoints else []
    if len(features) < 2:
        return _pairs_of_feature(queries, gallery, recipe, hidden, what)
    parts = [
        _pairs_of_feature(queries.with_feature(number), one, recipe, hidden, what)
        for number, one in enumerate(features)
    ]
    return _beside(parts, len(gallery.individuals))


def _pairs_of_feature(
    queries: GalleryFeatures, gallery: Gallery, recipe: Recipe, hidden: np.ndarray | None, what: str
) -> CandidatePairs:
    """See `candidate_pairs`; by one local feature, and the encoder."""
    index = GalleryIndex.of(gallery, recipe)
    pairs = []
    for start in track(range(0, max(1, len(queries)), QUERY_BLOCK), what):
        rows = np.arange(start, min(start + QUERY_BLOCK, len(queries)))
        block = queries.of(rows)
        shortlist = _shortlist(block, index, None if hidden is None else hidden[rows])
        pairs.append(_pairs(shortlist, block, index).numbered_from(start))
    return CandidatePairs.joined(pairs)


def _beside(parts: Sequence[CandidatePairs], individuals: int) -> CandidatePairs:
    """Return the pairs on the shortlist by any of several local features. A cue is 0 where a pair is not on its
    feature's; distances are the nearest on any; the photograph is that of the first feature that votes for the pair,
    or lists it where none does."""
    keys = [part.query * individuals + part.individual for part in parts]
    key = np.concatenate(keys)
    voted = np.concatenate(
        [np.any([part.features[cue] > 0 for cue in POWERS if cue in part.features], 0) for part in parts]
    )
    order = np.lexsort((~voted, key))
    every, first = np.unique(key[order], return_index=True)
    query, individual = np.divmod(every, individuals)
    photograph = np.concatenate([part.photograph for part in parts])[order[first]]
    features: dict[str, np.ndarray] = {}
    for number, (of_part, part) in enumerate(zip(keys, parts, strict=True)):
        rows = np.searchsorted(every, of_part)
        for name, values in part.features.items():
            if name in LOCAL_CUES:
                features[cue_of(name, number)] = np.zeros(len(every))
                features[cue_of(name, number)][rows] = values
            elif name in ("same side", "other side"):  # of the photograph
                features[name] = np.concatenate([other.features[name] for other in parts])[order[first]]
            else:
                known = features.setdefault(name, np.full(len(every), np.inf))
                known[rows] = np.minimum(known[rows], values)
    return CandidatePairs(query, individual, photograph, features)


def are_comparable(queries: GalleryFeatures, gallery: Gallery, recipe: Recipe) -> np.ndarray:
    """Return whether each query has a cue in common with any photograph of the gallery, (Q,) bool."""
    if recipe.uses_encoder:
        return np.ones(len(queries), bool)
    comparable = np.zeros(len(queries), bool)
    for known, asked in zip(gallery.embeddings.every_keypoints, queries.every_keypoints, strict=True):
        if any(map(len, known)):
            comparable |= np.array([len(keypoints) > 0 for keypoints in asked], bool)
    return comparable


@dataclass(frozen=True)
class GalleryIndex:
    """A gallery prepared for comparison with queries.

    Attributes:
        gallery: its N photographs.
        labels: (N,) int64, their individuals.
        order, starts: the photographs by individual, (N,) int64, and where each individual's begin, (L,).
        cues: those that match keypoints, see `keypoints.cue_masks`: none, "local", or also "foreground" where the
            encoder can tell animal from background.
        descriptors: of all photographs, where queries are matched against the whole gallery; else None.
        cohort_statistics: (L, 2) float64, mean and standard deviation of how far other individuals' photographs are
            from each individual; None where no scorer uses them.
        parts: where the vectors of several backbones lie in the gallery's; empty for one.
        matching, keypoints: the recipe's.
        device: where vectors and descriptors are compared.
        matcher: the gallery's.
    """

    gallery: GalleryFeatures
    labels: np.ndarray
    order: np.ndarray
    starts: np.ndarray
    cues: tuple[str, ...]
    descriptors: DescriptorIndex | None
    cohort_statistics: np.ndarray | None
    parts: tuple[slice, ...]
    matching: MatchingConfig
    keypoints: KeypointConfig
    device: torch.device
    matcher: Matcher | None

    @classmethod
    def of(cls, gallery: Gallery, recipe: Recipe) -> "GalleryIndex":
        if gallery.cues and not set(recipe.matching.cues) <= set(gallery.cues):
            made_with, found = ",".join(gallery.cues), ",".join(recipe.matching.cues)
            raise InputError(
                f"recipe field matching.cues: expected {made_with}, with which the gallery was made, found {found}; "
                "keep the weights' own cues, or train with the others"
            )
        labels, photographs, matching = gallery.labels, gallery.embeddings, recipe.matching
        order = np.argsort(labels, kind="stable")
        starts = np.searchsorted(labels[order], np.arange(len(gallery.individuals)))
        cues = tuple(POWERS) if recipe.uses_keypoints else ()
        weights = [keypoints.weights for keypoints in photographs.keypoints if len(keypoints)]
        if weights and not any((values < 1).any() for values in weights):  # the encoder can't tell
            cues = tuple(cue for cue in cues if cue != "foreground")
        whole = matching.probes > 0 or not recipe.uses_encoder or len(photographs) <= matching.whole_gallery
        descriptors = _descriptor_index(gallery, cues, recipe) if cues and whole else None
        index = cls(
            *(photographs, labels, order, starts, cues, descriptors, None, gallery.slices),
            *(matching, recipe.keypoints, best_device(), gallery.matcher),
        )
        fitted = recipe.uses_encoder and {"logistic", "boosted", "ensemble"} & set(recipe.calibration.scorers)
        return replace(index, cohort_statistics=_cohort_statistics(index)) if fitted else index

    def keypoints_of(self, cue: str, place: int) -> Keypoints:
        """Return the keypoints of a photograph that a cue matches."""
        return _matched(self.gallery.keypoints[place], cue, self.keypoints)

    def per_individual(self, values: np.ndarray, of: np.ufunc) -> np.ndarray:
        """Reduce the values of photographs, (q, N), to those of individuals, (q, L), by a function such as minimum."""
        reduced: np.ndarray = of.reduceat(values[:, self.order], self.starts, axis=1)
        return reduced


def keypoint_sets(photographs: Sequence[Keypoints], config: KeypointConfig) -> dict[str, tuple[Keypoints, ...]]:
    """Return the keypoints of N photographs that each cue matches, (N,) each, see `keypoints.cue_masks`."""
    return {cue: tuple(_matched(keypoints, cue, config) for keypoints in photographs) for cue in POWERS}


def _matched(keypoints: Keypoints, cue: str, config: KeypointConfig) -> Keypoints:
    return keypoints.of(cue_masks(keypoints, config)[cue])


def _descriptor_index(gallery: Gallery, cues: Sequence[str], recipe: Recipe) -> DescriptorIndex:
    """Return the descriptors of a gallery, in cells where there are many."""
    powers = {cue: POWERS[cue] for cue in cues}
    descriptors = DescriptorSets.of(gallery.embeddings.keypoints, recipe.keypoints, powers)
    device, probes = best_device(), recipe.matching.probes
    if device.type != "cpu" or not probes:  # an accelerator compares all of them sooner than it would choose
        return DescriptorIndex.of(descriptors, one_cell(descriptors.vectors), 1, device)
    return DescriptorIndex.of(descriptors, gallery.cells or find_cells(descriptors.vectors), probes, device)


def _stack(cue: str, photographs: Sequence[Keypoints]) -> Descriptors:
    return stack_descriptors(photographs, POWERS[cue])


def _cohort_statistics(index: GalleryIndex) -> np.ndarray:
    """See `GalleryIndex.cohort_statistics`: cohort normalisation, as for speakers (Auckenthaler et al. 2000), because
    an individual with many photographs is near to everybody."""
    one_each = index.order[index.starts]
    cohort = one_each[np.unique(np.linspace(0, len(one_each) - 1, COHORT_SIZE).astype(int))]
    total, squares, count = (np.zeros(len(index.starts)) for _ in range(3))
    for block in np.array_split(cohort, -(-len(cohort) // COHORT_BLOCK)):
        distances = pairwise_distances(index.gallery.vectors[block], index.gallery.vectors).double().numpy()
        nearest_of_each = index.per_individual(distances, np.minimum)  # (c, L)
        others = index.labels[block][:, None] != np.arange(nearest_of_each.shape[1])
        total += (nearest_of_each * others).sum(0)
        squares += (nearest_of_each**2 * others).sum(0)
        count += others.sum(0)
    mean = total / np.maximum(count, 1)
    deviation = np.sqrt(np.maximum(squares / np.maximum(count, 1) - mean**2, 0))
    return np.stack([mean, np.where(deviation > 1e-6, deviation, 1)], 1)


class Shortlist(NamedTuple):
    """Queries paired with the gallery photographs that they are compared with closely."""

    query: np.ndarray
    """(S,) int64, ascending."""
    place: np.ndarray
    """(S,) int64, the photograph's row in the gallery; ascending within a query."""
    distances: dict[str, np.ndarray]
    """(S,) float32, Euclidean: "distance", and with several backbones each one's; empty without an encoder."""
    local: dict[str, np.ndarray]
    """(S,) float32, LNBNN of each of the `GalleryIndex.cues`."""
    inliers: dict[str, np.ndarray]
    """(S,) float64, likewise; 0 for a photograph that was not verified."""


def _shortlist(block: GalleryFeatures, index: GalleryIndex, hidden: np.ndarray | None) -> Shortlist:
    """Return the nearest photographs by each cue that can search, and what the other cues say of them."""
    _, first, photograph = np.unique(np.array(block.image_id), return_index=True, return_inverse=True)
    keypoints = [block.keypoints[row] for row in first] if index.cues else []
    votes = _gallery_votes(keypoints, photograph, index, hidden)
    has_encoder = "encoder" in index.matching.cues
    cells = [np.zeros(0, np.int64)]
    for part in [slice(None), *index.parts] if has_encoder else []:
        cells += _nearest_cells(block.vectors[:, part], index.gallery.vectors[:, part], index, hidden)
    cells += [_voted_cells(scores, index, hidden) for scores in votes.values()]
    query, place = np.divmod(np.unique(np.concatenate(cells)), len(index.labels))
    distances, local, inliers = {}, {}, {}
    if has_encoder:
        between = block.vectors[query] - index.gallery.vectors[place]
        distances = {"distance": between.norm(dim=1).numpy()}
        distances |= {
            distance_of(number): between[:, part].norm(dim=1).numpy() for number, part in enumerate(index.parts)
        }
    for cue in index.cues:
        matched = [_matched(one, cue, index.keypoints) for one in keypoints]
        asked = [matched[row] for row in photograph]
        scores = votes[cue][query, place] if cue in votes else _shortlist_votes(cue, asked, index, query, place)
        local[cue] = scores
        inliers[cue] = _count_inliers(cue, matched, photograph[query], index, query, place, scores)
    return Shortlist(query, place, distances, local, inliers)


def _nearest_cells(
    vectors: Tensor, gallery: Tensor, index: GalleryIndex, hidden: np.ndarray | None
) -> list[np.ndarray]:
    """Return the photographs with the nearest vectors, see `_cells`."""
    unseen = None if hidden is None else torch.from_numpy(hidden)
    return [
        _cells(found.place.numpy(), torch.isfinite(found.distance).numpy(), found.rows.start, index)
        for found in nearest(vectors, gallery, index.matching.shortlist, unseen, device=index.device)
    ]


def _voted_cells(votes: np.ndarray, index: GalleryIndex, hidden: np.ndarray | None) -> np.ndarray:
    """Return the photographs with the most votes (q, N), see `_cells`."""
    best = np.argsort(-votes, axis=1, kind="stable")[:, : index.matching.shortlist]
    visible = np.ones(best.shape, bool) if hidden is None else ~np.take_along_axis(hidden, best, 1)
    return _cells(best, visible, 0, index)


def _cells(places: np.ndarray, valid: np.ndarray, first: int, index: GalleryIndex) -> np.ndarray:
    """Return query x N + place, (C,) int64, of the places (q, B) that are valid; the first row is query `first`."""
    rows = np.arange(first, first + len(places))[:, None]
    cells: np.ndarray = (rows * len(index.labels) + places)[valid]
    return cells


def _gallery_votes(
    photographs: Sequence[Keypoints], photograph: np.ndarray, index: GalleryIndex, hidden: np.ndarray | None
) -> dict[str, np.ndarray]:
    """Return LNBNN in the whole gallery by cue, (q, N) float32; `photograph` (q,) says which of them each query is
    about. Empty where queries are not matched against the whole gallery."""
    if index.descriptors is None:
        return {}
    unseen = None if hidden is None else torch.from_numpy(hidden)
    queries = DescriptorSets.of(photographs, index.keypoints, {cue: POWERS[cue] for cue in index.cues})
    rows = torch.from_numpy(photograph)
    votes = gallery_votes(queries, index.descriptors, index.matching.neighbours, unseen, rows)
    return {cue: scores.numpy() for cue, scores in votes.items()}


def _shortlist_votes(
    cue: str, queries: Sequence[Keypoints], index: GalleryIndex, query: np.ndarray, place: np.ndarray
) -> np.ndarray:
    """Return LNBNN among each query's own shortlist, (S,) float32."""
    votes = np.zeros(len(query), np.float32)
    for number, keypoints in enumerate(queries):
        rows = np.flatnonzero(query == number)
        listed = _stack(cue, [index.keypoints_of(cue, photograph) for photograph in place[rows]])
        scores = lnbnn(_stack(cue, [keypoints]), listed, k=index.matching.neighbours, device=index.device)
        votes[rows] = scores[0].numpy()
    return votes


def _count_inliers(
    cue: str,
    photographs: Sequence[Keypoints],
    photograph: np.ndarray,
    index: GalleryIndex,
    query: np.ndarray,
    place: np.ndarray,
    votes: np.ndarray,
) -> np.ndarray:
    """Return the inliers of each query's `matching.verified` photographs with the most votes, (S,) float64.

    Two photographs are compared once, however many queries are about the first; `photograph` (S,) says which of them
    each row is about.
    """
    inliers = np.zeros(len(query))
    order = np.lexsort((-votes, query))
    rank = np.arange(len(order)) - np.searchsorted(query, query)
    chosen = order[rank < index.matching.verified]
    pairs, pair_of_row = np.unique(photograph[chosen] * len(index.labels) + place[chosen], return_inverse=True)
    left, right = np.divmod(pairs, len(index.labels))
    places, row = np.unique(right, return_inverse=True)
    compared = [index.keypoints_of(cue, place) for place in places]
    shortlists = [row[left == number] for number in range(len(photographs))]
    verified = verify(photographs, compared, shortlists, index.matching, index.device, index.matcher)
    inliers[chosen] = np.array([match.inliers for row in verified for match in row], float)[pair_of_row]
    return inliers


def _pairs(shortlist: Shortlist, block: GalleryFeatures, index: GalleryIndex) -> CandidatePairs:
    """Return the shortlist by individual, each with its best photograph."""
    label = index.labels[shortlist.place]
    distance = shortlist.distances.get("distance", np.zeros(len(label)))
    votes = sum(shortlist.local.values(), np.zeros(len(label)))
    order = np.lexsort((distance, -votes, label, shortlist.query))
    query, label, place = shortlist.query[order], label[order], shortlist.place[order]
    starts = np.flatnonzero(np.diff(query * len(index.starts) + label, prepend=-1))
    individual, photograph = label[starts], place[starts]
    # all of them, also those that are hidden from a pseudo-query: else few of them would tell the right individual
    features = {"photographs": np.bincount(index.labels)[individual].astype(float)}
    features |= _side_features(block, query[starts], index.gallery, photograph)
    for cue, each in shortlist.distances.items():
        features[cue] = np.minimum.reduceat(each[order].astype(float), starts)
        if cue == "distance" and index.cohort_statistics is not None:
            mean, deviation = index.cohort_statistics[individual].T
            features["cohort"] = (features["distance"] - mean) / deviation
    for cue, local in shortlist.local.items():
        features[cue] = _mean_of_best(local[order], starts, index.matching.local_best)
        inliers = "inliers" if cue == "local" else f"{cue}_inliers"
        features[inliers] = np.maximum.reduceat(shortlist.inliers[cue][order], starts)
    return CandidatePairs(query[starts], individual, photograph, features)


def _side_features(
    queries: GalleryFeatures, query: np.ndarray, gallery: GalleryFeatures, photograph: np.ndarray
) -> dict[str, np.ndarray]:
    """Return whether queries and gallery photographs, (P,) each, show the same side, and whether another one."""
    sides, gallery_sides = (np.array(some.orientation or [""] * len(some)) for some in (queries, gallery))
    one, other = sides[query], gallery_sides[photograph]
    both_known = (one != "") & (other != "")
    return {
        "same side": (both_known & (one == other)).astype(float),
        "other side": (both_known & (one != other)).astype(float),
    }


def _mean_of_best(votes: np.ndarray, starts: np.ndarray, count: int) -> np.ndarray:
    """Return the mean over the `count` largest votes of each individual, (P,) float64; each one's begin at `starts`."""
    sizes = np.diff(starts, append=len(votes))
    ranked = votes[np.lexsort((-votes, np.repeat(np.arange(len(starts)), sizes)))]
    counted = np.arange(len(votes)) - np.repeat(starts, sizes) < count
    total: np.ndarray = np.add.reduceat(np.where(counted, ranked, 0).astype(float), starts)
    return total / np.minimum(sizes, count)
