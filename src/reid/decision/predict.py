"""The main path: every query photograph is routed, matched, decided on, and written into the submission."""

import json
import logging
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch

from reid.config.recipe import Recipe
from reid.config.runtime import Runtime
from reid.data.catalogue import NEW_INDIVIDUAL, Catalogue, rows_to_predict
from reid.decision.artifact import CALIBRATION, Weights, gallery_file
from reid.decision.calibrate import Calibration, distribution_shift, load_calibrations
from reid.errors import InputError
from reid.models.networks import best_device
from reid.retrieval.cache import Arrays, Cache, array_digest, cache_key
from reid.retrieval.candidates import best_and_runner_up, candidate_pairs
from reid.retrieval.extraction import Features, extract_features, open_extractors
from reid.retrieval.gallery import Gallery, GalleryFeatures, gallery_features, load_gallery
from reid.retrieval.keypoints import tensors_of
from reid.runtime.distributed import all_gather_object, shard
from reid.runtime.files import ALIKE, first_of, write_table

__all__ = [
    "Prediction",
    "decide",
    "describe_prediction",
    "has_shifted",
    "match_queries",
    "predict",
    "shifts_of",
    "write_submission",
]

log = logging.getLogger(__name__)

MATCHER_VERSION = 1
"""Raise it whenever the same photographs, gallery and calibration give other matches than before: those in caches are
stale then."""


SHIFT = 0.1
"""How far live distances may be from the calibrated ones before it is said, beyond what chance explains in so many
queries (the Kolmogorov-Smirnov distance of N values exceeds 1.6 / sqrt(N) in one of a hundred cases)."""


@dataclass(frozen=True)
class Prediction:
    """What was found for every query.

    Attributes:
        matches: one row per query, in the submission's order: image_id, column (its dataset cell), species (what the
            classifier says, "" without one), dataset (whose gallery was searched), identity (the nearest individual),
            distance (the scorer's dissimilarity), photograph (what speaks most for it), runner_up,
            runner_up_dissimilarity, threshold, answer (the submission's cell), problem ("" unless the photograph could
            not be read; then it is called new).
        route: how the encoder was chosen.
        drifts: by dataset, how far its queries' distances are from those that the threshold was fitted on, see
            `calibration.distribution_shift`.
    """

    matches: pd.DataFrame
    route: str
    drifts: dict[str, float]

    @property
    def submission(self) -> pd.DataFrame:
        """Columns image_id, identity: the rows to hand in."""
        return self.matches[["image_id", "answer"]].rename(columns={"answer": "identity"}).reset_index(drop=True)

    def share_new(self) -> dict[str, float]:
        """Per dataset the share of its queries that were called new."""
        called_new = self.matches["answer"] == NEW_INDIVIDUAL
        return {str(name): float(share) for name, share in called_new.groupby(self.matches["dataset"]).mean().items()}


def predict(
    catalogue: Catalogue, weights: Weights, recipe: Recipe, use_cache: bool = True, runtime: Runtime = Runtime()
) -> Prediction:
    """Name the individual on every query photograph, or calls it new.

    Args:
        catalogue: the query rows are asked for; database rows are not looked at, the galleries stand for them.
        weights: networks, galleries, scorers and thresholds.
        recipe: `prediction.route`; what the networks look like is in their own files.
        runtime: device, precision, batch size.
        use_cache: keep what is seen and matched beside the weights, so that the same costs nothing the next time.

    Raises:
        InputError: no query rows, or a row that the route can't send anywhere.
    """
    if weights.caution:
        log.warning(f"{weights.caution}")
    queries = rows_to_predict(catalogue)
    _check_route(queries, weights, recipe.prediction.route)
    calibrations = load_calibrations(weights)
    cache = Cache(weights.folder) if use_cache else None
    extractors = open_extractors(weights.encoders, weights.classifier, recipe, runtime, cache)
    features = extract_features(queries, extractors, recipe.prediction.route, recipe, "looking at queries")
    table = queries.table[["image_id", "dataset", "orientation"]].rename(columns={"dataset": "column"})
    table = table.assign(
        species=[look.species if weights.has_species else "" for look in features],
        dataset=[look.route for look in features],
        problem=[look.problem for look in features],
    )
    matches = _match(table, features, weights, calibrations, recipe, cache)
    return Prediction(decide(matches, calibrations), recipe.prediction.route, shifts_of(matches, calibrations))


def _check_route(queries: Catalogue, weights: Weights, route: str) -> None:
    """Refuse before the first photograph what could not be answered after the last."""
    unknown = queries.table[~queries.table["dataset"].isin(list(weights.datasets))]
    able = weights.has_species or len(weights.datasets) == 1
    decides = "the classifier decides" if weights.has_species else f"all such rows go to {weights.datasets[0]}"
    if route == "classifier" and not able:
        raise InputError(
            f"{weights.folder}: expected a species classifier for --route classifier, but the recipe "
            f"{weights.recipe.name} trains none; use --route column"
        )
    if len(unknown) and (route == "column" or not able):
        row = unknown.iloc[0]
        advice = f"With --route auto {decides}" if able else "Write it there: these weights can't tell"
        raise InputError(
            f"{queries.root / 'metadata.csv'}: {queries.row_name(row['image_id'])}, column dataset: expected one of "
            f"{', '.join(weights.datasets)}, for which there is a gallery; found {row['dataset']!r}. {advice}"
        )


def _match(
    table: pd.DataFrame,
    features: list[Features],
    weights: Weights,
    calibrations: dict[str, Calibration],
    recipe: Recipe,
    cache: Cache | None,
) -> pd.DataFrame:
    """Add each query's nearest individual and the runner-up; each rank matches its share."""
    datasets = table["dataset"].to_numpy(str)
    tables = []
    for dataset in sorted(set(datasets)):
        rows = np.flatnonzero(datasets == dataset)
        rows = rows[shard(len(rows))]
        if len(rows):
            queries = gallery_features([features[row] for row in rows], table.iloc[rows])
            tables.append(_match_cached(queries, dataset, weights, calibrations[dataset], recipe, cache))
    matches = pd.concat([matched for of_rank in all_gather_object(tables) for matched in of_rank]).drop(
        columns="dataset"
    )
    return table.drop(columns="orientation").merge(matches, on="image_id", how="left", validate="one_to_one")


def _match_cached(
    queries: GalleryFeatures,
    dataset: str,
    weights: Weights,
    calibration: Calibration,
    recipe: Recipe,
    cache: Cache | None,
) -> pd.DataFrame:
    """See `match_queries`; what the cache has is not computed again: with keypoints that takes minutes, and `report`
    needs the matches that `predict` has made."""
    key = _key(queries, dataset, weights, recipe) if cache else ""
    if cache and (stored := cache.get(key)):
        return pd.DataFrame(json.loads(stored["table"].tobytes()))
    matches = match_queries(queries, load_gallery(weights.folder / gallery_file(dataset)), dataset, calibration, recipe)
    if cache:
        cache.put_many({key: _as_arrays(matches)})
    return matches


def _as_arrays(table: pd.DataFrame) -> Arrays:
    """Return a table as JSON bytes: Python writes a float with as many digits as tell it from all others."""
    return {"table": np.frombuffer(json.dumps(table.to_dict("list")).encode(), np.uint8)}


def _key(queries: GalleryFeatures, dataset: str, weights: Weights, recipe: Recipe) -> str:
    """Return the key of everything that shapes the matches."""
    made_with = {
        "matcher": MATCHER_VERSION,
        "gallery": weights.manifest["files"][gallery_file(dataset)],
        "calibration": weights.manifest["files"][CALIBRATION],
        "recipe": asdict(recipe),
        "device": best_device().type,
        "versions": [torch.__version__, np.__version__, cv2.__version__],
        "queries": [queries.image_id, queries.orientation],
    }
    return cache_key(
        "matches", made_with, array_digest({"vectors": queries.vectors.numpy(), **tensors_of(queries.keypoints)})
    )


def decide(matches: pd.DataFrame, calibrations: dict[str, Calibration]) -> pd.DataFrame:
    """Add each query's threshold and answer: the nearest individual when it is nearer than the threshold, else new."""
    thresholds = {dataset: calibration.threshold.value for dataset, calibration in calibrations.items()}
    limits = matches["dataset"].map(thresholds)
    named = (matches["distance"] < limits) & (matches["problem"] == "")
    return matches.assign(threshold=limits, answer=matches["identity"].where(named, NEW_INDIVIDUAL))


def shifts_of(matches: pd.DataFrame, calibrations: dict[str, Calibration]) -> dict[str, float]:
    """See `Prediction.drifts`."""
    readable = matches[matches["problem"] == ""]
    return {
        str(dataset): distribution_shift(rows["distance"].to_numpy(float), calibrations[str(dataset)])
        for dataset, rows in readable.groupby("dataset")
    }


def has_shifted(apart: float, queries: int) -> bool:
    """Return whether so many queries' distances are so far apart from the calibrated ones that it must be said."""
    return queries > 0 and apart > SHIFT + 1.6 / queries**0.5


def write_submission(prediction: Prediction, path: Path) -> None:
    """Write the file to hand in: `image_id,identity`."""
    write_table(path, prediction.submission)


def describe_prediction(prediction: Prediction) -> list[str]:
    """Return what a person should know of a prediction, a line each: shares called new, the classifier's disagreement;
    warn of drift and of broken files."""
    lines, matches = [], prediction.matches
    for dataset, new in prediction.share_new().items():
        hint = "; if some are known, look at the expected score, and at the nearest ones in the report"
        queries = (matches["dataset"] == dataset).sum()
        lines.append(f"{dataset}: {queries} queries, {new:.0%} called new{hint if new == 1 and queries > 1 else ''}")
    for dataset, apart in prediction.drifts.items():
        if has_shifted(apart, int((matches["dataset"] == dataset).sum())):
            log.warning(
                f"{dataset}: the queries match otherwise than the database's photographs among themselves, "
                f"on which the threshold was fitted (by {apart:.2f}; 0 is alike, 1 nothing in common): its expected "
                "score may not hold. Were they taken by another camera, at another place or season, or from another "
                "side? Some of them whose animal you know, added to the database, help: enroll, then calibrate"
            )
    has_classifier = (matches["species"] != "").any()
    taken_for = matches["species"] if has_classifier else matches["dataset"]
    disagreement = (matches["column"] != "") & (taken_for != matches["column"])
    pairs = Counter(zip(matches["column"][disagreement], taken_for[disagreement], strict=True))
    detail = "; ".join(f"{count} of {column} taken for {species}" for (column, species), count in pairs.most_common())
    if has_classifier:
        advice = "" if prediction.route == "column" else "; --route column trusts the column"
        detail = f": {detail}{advice}" * bool(detail)
        lines.append(
            f"species classifier and dataset column differ on {disagreement.sum()} of {len(matches)} queries{detail}"
        )
    elif detail:
        log.warning(f"the dataset column names what these weights have no gallery of: {detail}")
    for problem, rows in matches[matches["problem"] != ""].groupby("problem", sort=False):
        names = list(rows["image_id"])
        listed = [first_of(names)] if len(names) > ALIKE else names
        for name in listed:
            log.warning(f"image_id {name} can't be read ({problem}): called {NEW_INDIVIDUAL}")
    return lines


def match_queries(
    queries: GalleryFeatures, gallery: Gallery, dataset: str, calibration: Calibration, recipe: Recipe
) -> pd.DataFrame:
    """Return the least doubtful individual of each query and the runner-up.

    Args:
        queries: photographs of one dataset.
        gallery: its known photographs.
        dataset: its name, for the table.
        calibration: its scorer.
        recipe: the cues and how they are found.

    Returns:
        One row per query: image_id, dataset, identity, distance (the scorer's dissimilarity), photograph (the image_id
            of the
        individual's photograph that speaks most for it), runner_up (the next individual, "" when there is none) and
        runner_up_dissimilarity (inf then).
    """
    pairs = candidate_pairs(queries, gallery, recipe, what=f"matching {dataset}").scaled(calibration.unit)
    dissimilarity = calibration.scorer.dissimilarity(pairs)
    first, second = best_and_runner_up(pairs.query, dissimilarity, len(queries))
    # place -1, where there is no pair, is the last of each
    names = np.array([*gallery.individuals[pairs.individual], ""], object)
    photographs = np.array([*np.array(gallery.embeddings.image_id, object)[pairs.photograph], ""], object)
    far = np.append(dissimilarity, np.inf)
    return pd.DataFrame(
        {
            "image_id": list(queries.image_id),
            "dataset": dataset,
            "identity": names[first],
            "distance": far[first],
            "photograph": photographs[first],
            "runner_up": names[second],
            "runner_up_dissimilarity": far[second],
        }
    )
