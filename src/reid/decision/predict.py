"""The main path: every query photograph is routed, its features are found and matched, and it is named or called new.

Deciding stands in `decide`, the result in `matches`, what is reported of it in `describe`.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch

from reid.config.recipe import LIGHTGLUE, Recipe
from reid.config.runtime import Runtime
from reid.data.catalogue import Catalogue, rows_to_predict
from reid.data.missing_files import with_causes
from reid.data.names import resolve_names, with_names
from reid.decision.artifact import CALIBRATION, Weights, gallery_file, matcher_file
from reid.decision.calibration import Calibration, load_calibrations
from reid.decision.confirmed import Said, said_of_queries, with_confirmed, without_refused
from reid.decision.decide import decide
from reid.decision.encounters import CANDIDATES, answered_together, find_encounters
from reid.decision.links import read_links
from reid.decision.matches import TOP_K, Matches
from reid.decision.sightings import also_refused, keep_apart, most_neighbours
from reid.errors import InputError
from reid.models.networks import best_device
from reid.retrieval.cache import Arrays, Cache, array_digest, cache_key
from reid.retrieval.candidates import CandidatePairs, are_comparable, candidate_pairs, cue_of
from reid.retrieval.extraction import FeatureExtractors, Features, extract_features, open_extractors
from reid.retrieval.extractors.kornia_package import kornia_version
from reid.retrieval.gallery import (
    Gallery,
    GalleryFeatures,
    gallery_features,
    gallery_names,
    gallery_precision,
    load_gallery,
    with_matcher,
)
from reid.retrieval.keypoints import tensors_of
from reid.runtime.distributed import all_gather_object, shard

__all__ = ["match_cached", "match_queries", "matches_key", "predict", "score_pairs"]

log = logging.getLogger(__name__)

MATCHER_VERSION = 3
"""Raise it whenever the same photographs, gallery and calibration give other matches than before: those in caches are
stale then."""

COLUMNS = {"image_id": object, "rank": int, "candidate": object, "candidate_image_id": object, "dissimilarity": float}
"""Of a table of candidates, see `Matches.candidates`."""


def predict(
    catalogue: Catalogue,
    weights: Weights,
    recipe: Recipe | None = None,
    use_cache: bool = True,
    runtime: Runtime | None = None,
    k: int = TOP_K,
    links_file: Path | None = None,
) -> Matches:
    """Name the individual on every query photograph, or call it new.

    Args:
        catalogue: its query rows are answered; database rows are not opened, the galleries stand for them.
        weights: networks, galleries, scorers and thresholds.
        recipe: another `prediction.route` than the weights'; None for the weights' own recipe. What the networks look
            like is in their own files.
        use_cache: keep features and matches next to the weights, so that the same costs nothing the next time.
        runtime: device, precision, batch size; None for the precision that training asked for.
        k: how many candidates of each query are kept.
        links_file: what people said of pairs; None for `pairs.csv` in the data folder, if it is there. Whom a query
            does not show is no candidate; whom it shows is its answer, see `confirmed`.

    Raises:
        InputError: no query rows, none whose photograph can be read, or a row that the route can't send anywhere;
            answers as `read_links` refuses them.
    """
    recipe, runtime = recipe or weights.recipe, runtime or Runtime(precision=weights.precision)
    if weights.caution:
        log.warning(weights.caution)
    queries = rows_to_predict(resolve_names(catalogue.query, recipe, weights.datasets))
    _check_route(queries, weights, recipe.prediction.route)
    said = _said(catalogue, queries, weights, recipe, links_file)
    calibrations = load_calibrations(weights)
    searched = replace(queries, table=queries.table[queries.table["dataset"].isin(["", *weights.datasets])])
    cache = Cache(weights.folder) if use_cache else None
    features: list[Features] = []
    if len(searched):
        extractors = open_extractors(
            weights.encoders, weights.classifier, recipe, runtime, cache, weights.local_features
        )
        features = extract_features(searched, extractors, recipe.prediction.route, recipe, "opening queries")
        features = _with_causes(searched, features)
        _warn_of_precision(weights, features, extractors)
    refused = also_refused(said.refused, searched.table, {name: one.individual for name, one in said.confirmed.items()})
    beside, most = most_neighbours(searched.table), max(map(len, refused.values()), default=0)
    encounters = find_encounters(searched.table, recipe.prediction.encounter_minutes)
    more = -(-(beside + most) // TOP_K) * TOP_K  # in steps, because every other number is matched again: `matches_key`
    more += CANDIDATES if encounters else 0
    candidates = _match(searched, features, weights, calibrations, recipe, cache, k + more)
    if more:
        routes = {name: one.route for name, one in zip(searched.image_ids, features, strict=True)}
        limits = {name: one.threshold.value for name, one in calibrations.items()}
        candidates = without_refused(candidates, refused, k + more)
        if encounters:  # which may bring back whom a query does not show
            candidates = without_refused(answered_together(candidates, encounters, routes), refused, k + more)
        candidates = keep_apart(candidates, searched.table, routes, limits, k, said.confirmed)
    table = _routed(queries, dict(zip(searched.image_ids, features, strict=True)), weights)
    return with_confirmed(decide(table, candidates, calibrations, recipe.prediction.route), said.confirmed)


def _said(catalogue: Catalogue, queries: Catalogue, weights: Weights, recipe: Recipe, links_file: Path | None) -> Said:
    """Return what answers say of the queries."""
    links = read_links(catalogue, links_file)
    if not links.groups:
        return Said()
    known = with_names(catalogue, recipe.data, weights.datasets).database
    galleries = [gallery_names(weights.folder / gallery_file(dataset)) for dataset in weights.datasets]
    enrolled = {image_id: name for names in galleries for image_id, name in names.items()}
    return said_of_queries(
        queries.image_ids, links, dict(zip(known.image_ids, known.identities, strict=True)), enrolled
    )


def _with_causes(queries: Catalogue, features: list[Features]) -> list[Features]:
    """Return the features with the causes of problems; refuse queries of which none can be read."""
    problems = {name: one.problem for name, one in zip(queries.image_ids, features, strict=True) if one.problem}
    if not problems:
        return features
    causes = with_causes(queries, problems)
    if len(problems) == len(features):
        first = queries.image_ids[0]
        raise InputError(
            f"{queries.root / 'metadata.csv'}: expected photographs to name, but none of {len(features)} can be read; "
            f"{queries.row_name(first)}: {causes[first]}"
        )
    return [one._replace(problem=causes.get(name, "")) for name, one in zip(queries.image_ids, features, strict=True)]


def _routed(queries: Catalogue, features: Mapping[str, Features], weights: Weights) -> pd.DataFrame:
    """Return what is known of each query before it is matched, see `Matches.queries`; one without features is of a
    dataset without a gallery."""
    rows = []
    for image_id, column in zip(queries.image_ids, queries.table["dataset"], strict=True):
        one = features.get(image_id)
        species = one.species if one and weights.has_species else ""
        rows.append((image_id, column, species, one.route if one else column, one.problem if one else ""))
    return pd.DataFrame(rows, columns=["image_id", "column", "species", "dataset", "problem"], dtype=object)


def _check_route(queries: Catalogue, weights: Weights, route: str) -> None:
    """Refuse before the first photograph what could not be answered after the last."""
    able = weights.has_species or len(weights.datasets) == 1
    if route == "classifier" and not able:
        raise InputError(
            f"{weights.folder}: expected a species classifier for --route classifier, but the recipe "
            f"{weights.recipe.name} trains none; use --route column"
        )
    unknown = queries.table[queries.table["dataset"] == ""]
    if len(unknown) and (route == "column" or not able):
        decides = "the classifier decides" if weights.has_species else f"all such rows go to {weights.datasets[0]}"
        advice = f"With --route auto {decides}" if able else "Fill it in: these weights have no classifier to decide"
        raise InputError(
            f"{queries.root / 'metadata.csv'}: {queries.row_name(unknown.iloc[0]['image_id'])}, column dataset: "
            f"expected one of {', '.join(weights.datasets)}, for which there is a gallery; found an empty cell. "
            f"{advice}"
        )


def _warn_of_precision(weights: Weights, features: Sequence[Features], extractors: FeatureExtractors) -> None:
    """Warn where the galleries that are searched were computed in another number format than the queries."""
    paths = {one.route: weights.folder / gallery_file(one.route) for one in features}
    formats = {dataset: gallery_precision(path) for dataset, path in sorted(paths.items())}
    other = [dataset for dataset, found in formats.items() if found not in ("", extractors.precision)]
    if other:
        found = formats[other[0]]
        log.warning(
            f"the galleries of {', '.join(other)} were computed in {found}, these queries in {extractors.precision}: "
            f"answers near a threshold may differ. Predict with precision {found}, or enroll and calibrate again here"
        )


def _match(
    queries: Catalogue,
    features: list[Features],
    weights: Weights,
    calibrations: dict[str, Calibration],
    recipe: Recipe,
    cache: Cache | None,
    k: int,
) -> pd.DataFrame:
    """Return the candidates of every query that can be read, see `Matches`; each rank matches its share."""
    datasets = np.array(["" if one.problem else one.route for one in features])
    tables = []
    for dataset in sorted({*datasets} - {""}):
        rows = np.flatnonzero(datasets == dataset)
        rows = rows[shard(len(rows))]
        if len(rows):
            asked = gallery_features([features[row] for row in rows], queries.table.iloc[rows])
            tables.append(match_cached(asked, dataset, weights, calibrations[dataset], recipe, cache, k))
    matched = [table for of_rank in all_gather_object(tables) for table in of_rank if len(table)]
    return pd.concat(matched, ignore_index=True) if matched else _table({name: [] for name in COLUMNS})


def match_cached(
    queries: GalleryFeatures,
    dataset: str,
    weights: Weights,
    calibration: Calibration,
    recipe: Recipe,
    cache: Cache | None,
    k: int,
) -> pd.DataFrame:
    """See `match_queries`; what the cache has is not computed again: with keypoints that takes minutes, and `report`
    needs the matches that `predict` has made."""
    key = matches_key(queries, dataset, weights, recipe, k) if cache else ""
    if cache and (stored := cache.get(key)):
        return _table(json.loads(stored["table"].tobytes()))
    gallery = load_gallery(weights.folder / gallery_file(dataset), recipe)
    gallery = with_matcher(gallery, recipe.matching, weights.folder)
    matches = match_queries(queries, gallery, dataset, calibration, recipe, k)
    if cache:
        cache.put_many({key: _as_arrays(matches)})
    return matches


def _as_arrays(table: pd.DataFrame) -> Arrays:
    """Return a table as JSON bytes: Python writes a float with as many digits as tell it from all others."""
    return {"table": np.frombuffer(json.dumps(table.to_dict("list")).encode(), np.uint8)}


def _table(columns: Mapping[str, Any]) -> pd.DataFrame:
    """Return a table of candidates from its cells."""
    return pd.DataFrame({name: pd.Series(columns[name], dtype=kind) for name, kind in COLUMNS.items()})


def matches_key(queries: GalleryFeatures, dataset: str, weights: Weights, recipe: Recipe, k: int) -> str:
    """Return the key of everything that shapes the matches."""
    made_with = {
        "matcher": MATCHER_VERSION,
        "gallery": weights.manifest["files"][gallery_file(dataset)],
        "calibration": weights.manifest["files"][CALIBRATION],
        "recipe": asdict(recipe),
        "k": k,
        "device": best_device().type,
        **_matcher(dataset, weights, recipe),
        "versions": [torch.__version__, np.__version__, cv2.__version__],
        "queries": [queries.image_id, queries.orientation],
    }
    arrays = {"vectors": queries.vectors.numpy()}
    for number, keypoints in enumerate(queries.every_keypoints):
        arrays |= {cue_of(name, number): array for name, array in tensors_of(keypoints).items()}
    return cache_key("matches", made_with, array_digest(arrays))


def _matcher(dataset: str, weights: Weights, recipe: Recipe) -> dict[str, object]:
    """Return what tells a network that matches keypoints from others; nothing where nearest neighbours are."""
    if recipe.matching.verifier != LIGHTGLUE or not recipe.uses_keypoints:
        return {}
    (feature,) = weights.local_features[dataset]  # LightGlue works with one alone
    file = matcher_file(recipe.matching, feature.name)
    return {"matcher weights": [weights.manifest["files"][file], kornia_version()]}


def match_queries(
    queries: GalleryFeatures, gallery: Gallery, dataset: str, calibration: Calibration, recipe: Recipe, k: int = TOP_K
) -> pd.DataFrame:
    """Return the k most similar individuals of each query.

    Args:
        queries: photographs of one dataset.
        gallery: its known photographs.
        dataset: its name, for the progress.
        calibration: its scorer.
        recipe: the cues and how they are found.
        k: at most so many; of equals the first in alphabetical order come first.

    Returns:
        One row per query and candidate: image_id, rank, candidate, candidate_image_id and dissimilarity, see
        `Matches.candidates`; the queries in order, the candidates by rank.
    """
    pairs, dissimilarity = score_pairs(queries, gallery, calibration, recipe, f"matching {dataset}")
    order = np.lexsort((dissimilarity, pairs.query))
    rank = np.arange(len(order)) - np.searchsorted(pairs.query[order], pairs.query[order]) + 1
    order, rank = order[rank <= k], rank[rank <= k]
    return _table(
        {
            "image_id": [queries.image_id[query] for query in pairs.query[order]],
            "rank": rank.tolist(),
            "candidate": gallery.individuals[pairs.individual[order]].tolist(),
            "candidate_image_id": [gallery.embeddings.image_id[place] for place in pairs.photograph[order]],
            "dissimilarity": dissimilarity[order].tolist(),
        }
    )


def score_pairs(
    queries: GalleryFeatures, gallery: Gallery, calibration: Calibration, recipe: Recipe, what: str
) -> tuple[CandidatePairs, np.ndarray]:
    """Return the pairs of queries and individuals, and the dissimilarity of each, (P,) float64; a query that can't be
    compared with any photograph has none. `what` is the work in a few words, for the progress."""
    if not gallery.identity:
        return CandidatePairs.none(), np.zeros(0)
    pairs = candidate_pairs(queries, gallery, recipe, what=what)
    pairs = pairs.of(are_comparable(queries, gallery, recipe)[pairs.query]).scaled(calibration.unit)
    return pairs, calibration.scorer.dissimilarity(pairs)
