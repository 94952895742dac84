"""Evidence: what speaks for an answer. A closer look at the queries that a person is shown, and where all photographs
of a gallery lie to each other.

    queries -> looked at again -> their nearest individuals -> keypoints that both photographs share
    gallery -> the two directions in which its vectors differ most
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA

from reid.config.recipe import Recipe
from reid.config.runtime import Runtime
from reid.config.settings import with_settings
from reid.data.catalogue import Catalogue
from reid.data.loading import photograph_batches
from reid.data.photographs import views_of
from reid.decision.artifact import Weights, gallery_file
from reid.decision.calibrate import Calibration, load_calibrations
from reid.retrieval.cache import Cache
from reid.retrieval.candidates import candidate_pairs
from reid.retrieval.extraction import extract_features, open_extractors
from reid.retrieval.extractors.rootsift import extract
from reid.retrieval.gallery import Gallery, GalleryFeatures, gallery_features, load_gallery
from reid.retrieval.keypoints import NO_KEYPOINTS, Keypoints, foreground, top_k
from reid.retrieval.local_matching import VerifiedMatch, verify

__all__ = ["Candidate", "EmbeddingMap", "Explanations", "embedding_map", "explain_matches"]

CANDIDATES = 3
"""Individuals shown beside a query, besides the right one."""


DOTS = 600
"""Photographs on a map: more of them hide each other on a screen, and take 100 bytes each."""


class Candidate(NamedTuple):
    """An individual beside a query."""

    identity: str
    photograph: str
    """The image_id of its photograph that speaks most for it."""
    mirrored: bool
    """It is the photograph's mirror image that does."""
    rank: int
    """1 for the nearest; 0 for one that the shortlist does not hold."""
    distance: float
    """The scorer's dissimilarity; inf at rank 0."""
    extents: tuple[tuple[float, float], tuple[float, float]]
    """Width and height of the query and of the photograph, the longer of them 1."""
    shared: VerifiedMatch
    """Keypoints that match."""


class EmbeddingMap(NamedTuple):
    """Photographs of one dataset in the plane: their vectors' first two principal components."""

    image_id: tuple[str, ...]
    points: np.ndarray
    """(N, 2) float, from 0 to 1."""
    identity: tuple[str, ...]
    """(N,) the individual; "" on queries."""
    kept: float
    """The share of the gallery's variance that two directions hold."""
    photographs: int
    """In the gallery; there may be more of them than on the map."""


@dataclass(frozen=True)
class Explanations:
    """What a page can show beyond the answers.

    Attributes:
        neighbours: by the query's image_id, the nearest individuals and the right one where it is in the gallery.
        maps: by dataset; empty without an encoder.
        decided: whether keypoints had a say in the answers, or were looked for only to be shown.
    """

    neighbours: dict[str, tuple[Candidate, ...]] = field(default_factory=dict)
    maps: dict[str, EmbeddingMap] = field(default_factory=dict)
    decided: bool = False


def explain_matches(
    catalogue: Catalogue,
    weights: Weights,
    matches: pd.DataFrame,
    route: str,
    use_cache: bool = True,
    runtime: Runtime = Runtime(),
) -> Explanations:
    """Look closely at some queries.

    Args:
        catalogue: the data folder.
        weights: what answered.
        matches: rows of `outcomes.judge`, as many as are to be shown.
        route: how their encoders were chosen.
        use_cache: see `submission.predict`; what was remembered there is not computed again.
    """
    recipe, decided = weights.recipe, weights.recipe.uses_keypoints
    readable = matches[(matches["problem"] == "") & matches["dataset"].isin(list(weights.datasets))]
    shown = catalogue.table.set_index("image_id", drop=False).loc[list(readable["image_id"])]
    queries = Catalogue(catalogue.root, shown.reset_index(drop=True))
    cache = Cache(weights.folder) if use_cache else None
    extractors = open_extractors(weights.encoders, weights.classifier, recipe, runtime, cache)
    features = extract_features(queries, extractors, route, recipe, "looking at the shown queries again")
    calibrations = load_calibrations(weights)
    neighbours: dict[str, tuple[Candidate, ...]] = {}
    maps = {}
    routes = np.array([look.route for look in features], object)
    for dataset in weights.datasets:
        rows = np.flatnonzero(routes == dataset)
        gallery = load_gallery(weights.folder / gallery_file(dataset))
        seen = gallery_features([features[row] for row in rows], queries.table.iloc[rows]) if len(rows) else None
        if recipe.uses_encoder:
            maps[dataset] = embedding_map(gallery, seen, recipe.seed)
        if seen is None:
            continue
        truth = readable["truth"].to_numpy(str)[rows]
        chosen = _chosen(seen, gallery, truth, calibrations[dataset], recipe)
        neighbours |= _candidate(seen, gallery, chosen, catalogue, calibrations[dataset], recipe)
    return Explanations(neighbours, maps, decided)


class _Chosen(NamedTuple):
    """An individual beside a query, before their keypoints are looked at."""

    place: int
    """Of the photograph in the gallery."""
    rank: int
    distance: float


def _chosen(
    queries: GalleryFeatures, gallery: Gallery, truth: np.ndarray, calibration: Calibration, recipe: Recipe
) -> list[list[_Chosen]]:
    """Per query the nearest individuals, the right one among or behind them."""
    pairs = candidate_pairs(queries, gallery, recipe, what="finding their neighbours").scaled(calibration.unit)
    dissimilarity = calibration.scorer.dissimilarity(pairs)
    individuals, labels = gallery.individuals, gallery.labels
    rows = []
    for number, true_identity in enumerate(truth):
        candidates = np.flatnonzero(pairs.query == number)
        ranked = candidates[np.argsort(dissimilarity[candidates], kind="stable")]
        is_right = individuals[pairs.individual[ranked]] == true_identity
        beside = [
            _Chosen(int(pairs.photograph[pair]), rank, float(dissimilarity[pair]))
            for rank, (pair, is_truth) in enumerate(zip(ranked, is_right, strict=True), 1)
            if rank <= CANDIDATES or is_truth
        ]
        if not is_right.any() and true_identity in individuals:
            photographs = np.flatnonzero(individuals[labels] == true_identity)
            distances = (gallery.embeddings.vectors[photographs] - queries.vectors[number]).norm(dim=1)
            beside.append(_Chosen(int(photographs[int(distances.argmin())]), 0, float("inf")))
        rows.append(beside)
    return rows


def _candidate(
    queries: GalleryFeatures,
    gallery: Gallery,
    chosen: list[list[_Chosen]],
    catalogue: Catalogue,
    calibration: Calibration,
    recipe: Recipe,
) -> dict[str, tuple[Candidate, ...]]:
    """Return the chosen individuals with the keypoints that they share with their queries."""
    places = sorted({individual.place for row in chosen for individual in row})
    known = gallery.embeddings.of(np.array(places, int))
    numbers = {place: number for number, place in enumerate(places)}
    first = {image_id: place for place, image_id in reversed(list(enumerate(gallery.embeddings.image_id)))}
    mirrored = [first[image_id] != place for image_id, place in zip(known.image_id, places, strict=True)]
    asked_points, known_points = _keypoints(queries, known, mirrored, catalogue, calibration.scorer.kind, recipe)
    matching = recipe.matching
    shortlists = [np.array([numbers[individual.place] for individual in row], int) for row in chosen]
    verified = verify(asked_points, known_points, shortlists, matching)
    return {
        image_id: tuple(
            Candidate(
                identity=gallery.identity[individual.place],
                photograph=gallery.embeddings.image_id[individual.place],
                mirrored=mirrored[numbers[individual.place]],
                rank=individual.rank,
                distance=individual.distance,
                extents=(points.extent, known_points[numbers[individual.place]].extent),
                shared=shared,
            )
            for individual, shared in zip(row, compared, strict=True)
        )
        for image_id, points, row, compared in zip(queries.image_id, asked_points, chosen, verified, strict=True)
    }


def _keypoints(
    queries: GalleryFeatures,
    known: GalleryFeatures,
    mirrored: Sequence[bool],
    catalogue: Catalogue,
    scorer: str,
    recipe: Recipe,
) -> tuple[list[Keypoints], list[Keypoints]]:
    """Return the keypoints that decided; where none did, those that the same settings find. Of the known photographs
    some are `mirrored`."""
    if "local" not in recipe.matching.cues:
        looked_at = list(zip(known.image_id, mirrored, strict=True))
        as_is = [image_id for image_id, is_mirrored in looked_at if not is_mirrored]
        extracted = {
            False: _extracted([*queries.image_id, *as_is], catalogue, recipe),
            True: _extracted([image_id for image_id, is_mirrored in looked_at if is_mirrored], catalogue, recipe, True),
        }
        asked_points = [extracted[False][image_id] for image_id in queries.image_id]
        return asked_points, [extracted[is_mirrored][image_id] for image_id, is_mirrored in looked_at]

    def sift(points: Keypoints) -> Keypoints:
        on_animal = scorer.startswith("foreground")
        return foreground(points, recipe.keypoints.foreground) if on_animal else top_k(points, recipe.keypoints.count)

    return [sift(points) for points in queries.keypoints], [sift(points) for points in known.keypoints]


def _extracted(
    image_ids: Sequence[str], catalogue: Catalogue, recipe: Recipe, mirror: bool = False
) -> dict[str, Keypoints]:
    """By image_id; none of them where a photograph can't be read or is not in this folder."""
    local_recipe = with_settings(recipe, {"matching.cues": ("local",), "calibration.scorers": ("local",)})
    present = Catalogue(catalogue.root, catalogue.table[catalogue.table["image_id"].isin(image_ids)])
    finder = partial(extract, config=local_recipe.keypoints)
    views = views_of(present, local_recipe, mirror)
    batches = photograph_batches(present.paths, views, Runtime(), "finding keypoints to show", [finder] * len(present))
    opened = [points for batch in batches for points in batch.extracted] if len(present) else []
    keypoints = [NO_KEYPOINTS if points is None else points for points in opened]
    return dict.fromkeys(image_ids, NO_KEYPOINTS) | dict(zip(present.image_ids, keypoints, strict=True))


def embedding_map(gallery: Gallery, queries: GalleryFeatures | None, seed: int) -> EmbeddingMap:
    """Return a dataset's photographs in the plane.

    Args:
        gallery: N photographs; at most `DOTS` of them are taken, of every individual about the same share.
        queries: further photographs to be shown among them.
        seed: of PCA's random numbers.
    """
    known = gallery.embeddings
    vectors = known.vectors.double().numpy()
    by_individual = np.argsort(gallery.labels, kind="stable")
    places = by_individual[np.unique(np.linspace(0, len(known) - 1, min(len(known), DOTS)).astype(int))]
    shown = vectors[places]
    if queries is not None:
        shown = np.concatenate([shown, queries.vectors.double().numpy()])
    differ = len(vectors) > 2 and vectors.shape[1] > 1 and bool(vectors.std(0).any())
    points, kept = np.zeros((len(shown), 2)), 0.0
    if differ:
        plane = PCA(2, random_state=seed).fit(vectors)
        points, kept = plane.transform(shown), float(plane.explained_variance_ratio_.sum())
    low, span = points.min(0), np.maximum(np.ptp(points, axis=0), 1e-12)
    asked = queries.image_id if queries is not None else ()
    return EmbeddingMap(
        image_id=(*(known.image_id[place] for place in places), *asked),
        points=(points - low) / span,
        identity=(*(gallery.identity[place] for place in places), *[""] * len(asked)),
        kept=kept,
        photographs=len(known),
    )
