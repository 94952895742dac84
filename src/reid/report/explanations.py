"""Explanations: what speaks for an answer. For the queries that a person is shown, their candidates and the keypoints
that these share with them; for every dataset, a map of its embeddings.

    queries -> features -> best candidates, and the right one -> keypoints that both photographs share
    gallery -> first two principal components of its embeddings
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA

from reid.config.recipe import RATIO, KeypointConfig, Recipe
from reid.config.runtime import Runtime
from reid.config.settings import with_settings
from reid.data.catalogue import Catalogue
from reid.data.loading import photograph_batches
from reid.data.photographs import views_of
from reid.decision.artifact import Weights, gallery_file
from reid.decision.calibration import Calibration, load_calibrations
from reid.decision.predict import score_pairs
from reid.retrieval.cache import Cache
from reid.retrieval.extraction import extract_features, open_extractors
from reid.retrieval.extractors.rootsift import extract
from reid.retrieval.gallery import Gallery, GalleryFeatures, gallery_features, load_gallery, with_matcher
from reid.retrieval.keypoints import NO_KEYPOINTS, Keypoints, foreground, on_mask, top_k
from reid.retrieval.local_matching import VerifiedMatch, verify

__all__ = ["Candidate", "EmbeddingMap", "Explanations", "embedding_map", "explain_matches", "keypoints_to_show"]

CANDIDATES = 3
"""Individuals shown next to a query, besides the right one."""

SHOWN = {"keypoints.size": 240, "keypoints.count": 150, "matching.verifier": RATIO}
"""How keypoints are found that decided nothing and are only shown: a third of the work."""

MAX_DOTS = 600
"""Photographs on a map: more of them hide each other on a screen, and take 100 bytes each."""


class Candidate(NamedTuple):
    """An individual next to a query."""

    identity: str
    photograph: str
    """The image_id of its photograph that is most similar to the query."""
    mirrored: bool
    """It is this photograph's mirror image that is."""
    rank: int
    """1 for the best candidate; 0 for an individual that the shortlist does not hold."""
    dissimilarity: float
    """The scorer's; inf at rank 0."""
    extents: tuple[tuple[float, float], tuple[float, float]]
    """Width and height of the query and of the photograph, the longer of them 1."""
    shared: VerifiedMatch
    """Keypoints that match."""


class EmbeddingMap(NamedTuple):
    """Photographs of one dataset in the plane: the first two principal components of their embeddings."""

    image_id: tuple[str, ...]
    points: np.ndarray
    """(N, 2) float, from 0 to 1."""
    identity: tuple[str, ...]
    """(N,) the individual; "" for queries."""
    kept: float
    """The share of the gallery's variance in these two components."""
    photographs: int
    """In the gallery; there may be more of them than on the map."""


@dataclass(frozen=True)
class Explanations:
    """What a page can show beyond the answers.

    Attributes:
        candidates: by the query's image_id, its best candidates, and the right individual (by the solution, or by a
            person's answers) where the gallery has it.
        maps: by dataset; empty without an encoder.
        keypoints_decided: whether keypoints were used for the answers, or are only shown.
    """

    candidates: dict[str, tuple[Candidate, ...]] = field(default_factory=dict)
    maps: dict[str, EmbeddingMap] = field(default_factory=dict)
    keypoints_decided: bool = False


def explain_matches(
    catalogue: Catalogue,
    weights: Weights,
    outcomes: pd.DataFrame,
    route: str,
    use_cache: bool = True,
    runtime: Runtime | None = None,
) -> Explanations:
    """Compute candidates, shared keypoints and maps of some queries.

    Args:
        catalogue: the data folder.
        weights: what answered them.
        outcomes: rows of `outcomes.classify_outcomes`, as many as are to be shown.
        route: how their datasets were chosen.
        use_cache: see `predict.predict`; features that it cached are not computed again.
        runtime: device, precision, batch size; None for the precision that training asked for.
    """
    recipe, calibrations = weights.recipe, load_calibrations(weights)
    readable = outcomes[(outcomes["problem"] == "") & outcomes["dataset"].isin(list(weights.datasets))]
    confirmed = readable["flags"].str.contains("confirmed") & (readable["truth"] == "")
    right = readable["answer"].where(confirmed, readable["truth"]).to_numpy(str)
    table = catalogue.table.set_index("image_id", drop=False).loc[list(readable["image_id"])].reset_index(drop=True)
    queries = Catalogue(catalogue.root, table)
    cache = Cache(weights.folder) if use_cache else None
    extractors = open_extractors(
        weights.encoders,
        weights.classifier,
        recipe,
        runtime or Runtime(precision=weights.precision),
        cache,
        weights.local_features,
    )
    features = extract_features(queries, extractors, route, recipe, "reading the queries to show")
    routes = np.array([feature.route for feature in features], object)
    candidates: dict[str, tuple[Candidate, ...]] = {}
    maps = {}
    for dataset in weights.datasets:
        places = np.flatnonzero(routes == dataset)
        gallery = load_gallery(weights.folder / gallery_file(dataset))
        gallery = with_matcher(gallery, recipe.matching, weights.folder)
        shown = gallery_features([features[place] for place in places], table.iloc[places]) if len(places) else None
        if recipe.uses_encoder and gallery.identity:
            maps[dataset] = embedding_map(gallery, shown, recipe.seed)
        if shown is not None:
            comparison = _Comparison(catalogue, recipe, gallery, calibrations[dataset])
            candidates |= comparison.candidates(shown, right[places])
    return Explanations(candidates, maps, recipe.uses_keypoints)


class _Chosen(NamedTuple):
    """A candidate, before keypoints are matched."""

    place: int
    """Of the photograph in the gallery."""
    rank: int
    dissimilarity: float


@dataclass(frozen=True)
class _Comparison:
    """Compares queries with one dataset's gallery.

    Attributes:
        catalogue: the data folder, for keypoints that the gallery does not have.
        recipe: the cues and how they are found.
        gallery: the known photographs.
        calibration: the scorer.
    """

    catalogue: Catalogue
    recipe: Recipe
    gallery: Gallery
    calibration: Calibration

    def candidates(self, queries: GalleryFeatures, truth: np.ndarray) -> dict[str, tuple[Candidate, ...]]:
        """Return the candidates of each query by its image_id; `truth` (Q,) are the right individuals, "" where they
        are not known."""
        chosen = self._choose(queries, truth)
        places = sorted({one.place for row in chosen for one in row})
        numbers = {place: number for number, place in enumerate(places)}
        known, mirrored = self.gallery.embeddings.of(np.array(places, int)), self._are_mirrored(places)
        query_points, known_points = self._keypoints(queries, known, mirrored)
        shortlists = [np.array([numbers[one.place] for one in row], int) for row in chosen]
        verified = verify(query_points, known_points, shortlists, self.recipe.matching, matcher=self.gallery.matcher)

        def candidate(one: _Chosen, points: Keypoints, shared: VerifiedMatch) -> Candidate:
            number = numbers[one.place]
            identity, photograph = self.gallery.identity[one.place], known.image_id[number]
            extents = points.extent, known_points[number].extent
            return Candidate(identity, photograph, mirrored[number], one.rank, one.dissimilarity, extents, shared)

        return {
            image_id: tuple(candidate(one, points, shared) for one, shared in zip(row, matches, strict=True))
            for image_id, points, row, matches in zip(queries.image_id, query_points, chosen, verified, strict=True)
        }

    def _choose(self, queries: GalleryFeatures, truth: np.ndarray) -> list[list[_Chosen]]:
        """Return the best candidates of each query, and the right individual among or behind them."""
        what = "matching the queries to show"
        pairs, dissimilarity = score_pairs(queries, self.gallery, self.calibration, self.recipe, what)
        individuals = self.gallery.individuals
        rows = []
        for number, right in enumerate(truth):
            own = np.flatnonzero(pairs.query == number)
            ranked = own[np.argsort(dissimilarity[own], kind="stable")]
            is_right = individuals[pairs.individual[ranked]] == right
            row = [
                _Chosen(int(pairs.photograph[pair]), rank, float(dissimilarity[pair]))
                for rank, (pair, matches) in enumerate(zip(ranked, is_right, strict=True), 1)
                if rank <= CANDIDATES or matches
            ]
            if not is_right.any() and right in individuals:
                row.append(_Chosen(self._nearest_of(right, queries, number), 0, float("inf")))
            rows.append(row)
        return rows

    def _nearest_of(self, identity: str, queries: GalleryFeatures, number: int) -> int:
        """Return the place of an individual's photograph whose embedding is nearest to a query's."""
        own = np.flatnonzero(np.array(self.gallery.identity, object) == identity)
        distances = (self.gallery.embeddings.vectors[own] - queries.vectors[number]).norm(dim=1)
        return int(own[int(distances.argmin())])

    def _are_mirrored(self, places: Sequence[int]) -> list[bool]:
        """Return whether each place holds a mirror image: the gallery has it behind the photograph itself."""
        image_ids = self.gallery.embeddings.image_id
        first = {image_id: place for place, image_id in reversed(list(enumerate(image_ids)))}
        return [first[image_ids[place]] != place for place in places]

    def _keypoints(
        self, queries: GalleryFeatures, known: GalleryFeatures, mirrored: Sequence[bool]
    ) -> tuple[list[Keypoints], list[Keypoints]]:
        """Return the keypoints that decided; where none did, some that show what two photographs have in common."""
        if self.recipe.uses_keypoints:
            return [self._used(one) for one in queries.keypoints], [self._used(one) for one in known.keypoints]
        known_photographs = list(zip(known.image_id, mirrored, strict=True))
        originals = [image_id for image_id, is_mirrored in known_photographs if not is_mirrored]
        mirror_images = [image_id for image_id, is_mirrored in known_photographs if is_mirrored]
        shown = [*queries.image_id, *originals]
        extracted = {
            False: keypoints_to_show(self.catalogue, self.recipe, shown),
            True: keypoints_to_show(self.catalogue, self.recipe, mirror_images, mirror=True),
        }
        query_points = [extracted[False][image_id] for image_id in queries.image_id]
        return query_points, [extracted[is_mirrored][image_id] for image_id, is_mirrored in known_photographs]

    def _used(self, points: Keypoints) -> Keypoints:
        """Return those of a photograph's keypoints that the scorer used."""
        if self.calibration.scorer.kind.startswith("foreground"):
            return foreground(points, self.recipe.keypoints.foreground)
        return top_k(points, self.recipe.keypoints.count)


def keypoints_to_show(
    catalogue: Catalogue, recipe: Recipe, image_ids: Sequence[str], mirror: bool = False
) -> dict[str, Keypoints]:
    """Return keypoints by image_id; none where a photograph can't be read or is not in the data folder.

    Args:
        catalogue: the data folder.
        recipe: how photographs are turned.
        image_ids: of the photographs.
        mirror: of their mirror images.
    """
    recipe = with_settings(recipe, {"matching.cues": ("local",), "calibration.scorers": ("local",), **SHOWN})
    table = catalogue.table
    present = Catalogue(catalogue.root, table[table["image_id"].isin(image_ids)])
    if not len(present):
        return dict.fromkeys(image_ids, NO_KEYPOINTS)
    extractors = [partial(_extract_on, recipe.keypoints)] * len(present)
    views = views_of(present, recipe, mirror)
    batches = photograph_batches(present.paths, views, Runtime(), "finding keypoints to show", extractors)
    opened = [points for batch in batches for points in batch.extracted]
    found = [NO_KEYPOINTS if points is None else points for points in opened]
    return dict.fromkeys(image_ids, NO_KEYPOINTS) | dict(zip(present.image_ids, found, strict=True))


def _extract_on(config: KeypointConfig, image: np.ndarray, mask: np.ndarray | None = None) -> Keypoints:
    return on_mask(extract(image, config), mask)


def embedding_map(gallery: Gallery, queries: GalleryFeatures | None, seed: int) -> EmbeddingMap:
    """Return a dataset's photographs in the plane.

    Args:
        gallery: its known photographs; at most `MAX_DOTS` are taken, about the same share of every individual's.
        queries: further photographs to show among them.
        seed: of PCA's random numbers.
    """
    known = gallery.embeddings
    by_individual = np.argsort(gallery.labels, kind="stable")
    places = by_individual[np.unique(np.linspace(0, len(known) - 1, min(len(known), MAX_DOTS)).astype(int))]
    vectors = known.vectors.double().numpy()
    shown = [vectors[places]] if queries is None else [vectors[places], queries.vectors.double().numpy()]
    points, kept = _projected(vectors, np.concatenate(shown), seed)
    low, span = points.min(0), np.maximum(np.ptp(points, axis=0), 1e-12)
    query_ids = queries.image_id if queries is not None else ()
    return EmbeddingMap(
        image_id=(*(known.image_id[place] for place in places), *query_ids),
        points=(points - low) / span,
        identity=(*(gallery.identity[place] for place in places), *[""] * len(query_ids)),
        kept=kept,
        photographs=len(known),
    )


def _projected(vectors: np.ndarray, shown: np.ndarray, seed: int) -> tuple[np.ndarray, float]:
    """Return the first two principal components of (N, D) vectors, of the shown ones (M, D): (M, 2), and the share of
    the variance in them; zeros where the vectors do not differ."""
    if len(vectors) < 3 or vectors.shape[1] < 2 or not vectors.std(0).any():
        return np.zeros((len(shown), 2)), 0.0
    plane = PCA(2, random_state=seed).fit(vectors)
    return plane.transform(shown), float(plane.explained_variance_ratio_.sum())
