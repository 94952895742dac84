"""The main path: every query photograph is routed, matched, decided on, and written into the submission."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from reid import NEW_INDIVIDUAL, InputError
from reid.calibration import Threshold
from reid.catalogue import Catalogue, wanted_rows
from reid.files import write_table
from reid.gallery import Gallery, load_gallery, load_thresholds
from reid.images import photograph_batches
from reid.networks import Network, best_device, embed, load_network
from reid.progress import say
from reid.recipe import Recipe
from reid.weights import SPECIES, Weights, encoder_file, gallery_file

__all__ = ["Prediction", "decide", "explain", "predict", "route_queries", "write_submission"]


@dataclass(frozen=True)
class Prediction:
    """What was found for every query.

    Attributes:
        matches: one row per query, in the submission's order: image_id, column (its dataset cell), species (what the
            classifier says), dataset (whose encoder was used), identity (the nearest individual),
            distance, photograph (the nearest photograph), runner_up, runner_up_distance, threshold, answer (the
            submission's cell), problem ("" unless the photograph could not be read; then it is called new).
        route: how the encoder was chosen.
    """

    matches: pd.DataFrame
    route: str

    @property
    def submission(self) -> pd.DataFrame:
        """Columns image_id, identity: the rows to hand in."""
        return self.matches[["image_id", "answer"]].rename(columns={"answer": "identity"}).reset_index(drop=True)

    def share_new(self) -> dict[str, float]:
        """Per dataset the share of its queries that were called new."""
        called_new = self.matches["answer"] == NEW_INDIVIDUAL
        return {str(name): float(share) for name, share in called_new.groupby(self.matches["dataset"]).mean().items()}


def predict(catalogue: Catalogue, weights: Weights, recipe: Recipe) -> Prediction:
    """Names the individual on every query photograph, or calls it new.

    One pass over the photographs: each is decoded once, classified, and embedded by the encoder of its route.

    Args:
        catalogue: the query rows are asked for; database rows are not looked at, the galleries stand for them.
        weights: networks, galleries, thresholds.
        recipe: `route`, `batch_size`, `workers`; what the networks look like is in their own files.

    Raises:
        InputError: no query rows, or a row that the route can't send anywhere.
    """
    queries = wanted_rows(catalogue)
    device = best_device()
    encoders = {
        dataset: load_network(weights.folder / encoder_file(dataset)).to(device) for dataset in weights.datasets
    }
    classifier = load_network(weights.folder / SPECIES).to(device) if weights.has_species else None
    _check_route(queries, weights, recipe.route)
    species: list[str] = []
    routes: list[str] = []
    problems: list[str] = []
    vectors: list[Tensor] = []
    column = queries.table["dataset"].to_numpy(str)
    for pixels, batch_problems in photograph_batches(queries.paths, recipe, "matching"):
        said = _classify(classifier, pixels, weights.datasets)
        batch_routes = route_queries(
            recipe.route, column[len(routes) : len(routes) + len(pixels)], said, weights.datasets
        )
        vectors += _embed_by_route(encoders, pixels, batch_routes)
        species += said
        routes += batch_routes
        problems += batch_problems
    galleries = {dataset: load_gallery(weights.folder / gallery_file(dataset)) for dataset in weights.datasets}
    table = queries.table[["image_id", "dataset"]].rename(columns={"dataset": "column"})
    table = table.assign(species=species, dataset=routes, problem=problems)
    matches = _match(table, vectors, galleries)
    return Prediction(decide(matches, load_thresholds(weights)), recipe.route)


def _check_route(queries: Catalogue, weights: Weights, route: str) -> None:
    """Refuses before the first photograph what could not be answered after the last."""
    unknown = queries.table[~queries.table["dataset"].isin(list(weights.datasets))]
    if route == "column" and len(unknown):
        row = unknown.iloc[0]
        raise InputError(
            f"{queries.root / 'metadata.csv'}: {queries.row_name(row['image_id'])}, column dataset: expected one of "
            f"{', '.join(weights.datasets)}, for which there is a gallery; found {row['dataset']!r}. "
            "With --route auto the classifier decides"
        )


def route_queries(
    route: str, column: Collection[str], species: Collection[str], datasets: Collection[str]
) -> list[str]:
    """Whose encoder each query gets.

    Args:
        route: "classifier", "column", or "auto": the column where it names a dataset with a gallery.
        column: (B,) the queries' dataset cells.
        species: (B,) what the classifier says.
        datasets: those with a gallery.

    Returns:
        (B,) datasets.
    """
    if route == "classifier":
        return list(species)
    return [cell if cell in datasets else said for cell, said in zip(column, species, strict=True)]


def _classify(classifier: Network | None, pixels: Tensor, datasets: tuple[str, ...]) -> list[str]:
    """Which dataset each photograph looks like, (B,); without a classifier there is only one."""
    if classifier is None:
        return [datasets[0]] * len(pixels)
    return [classifier.plan.classes[best] for best in embed(classifier, [pixels]).argmax(1)]


def _embed_by_route(encoders: dict[str, Network], pixels: Tensor, routes: list[str]) -> list[Tensor]:
    """(D,) per photograph, by the encoder that its route names."""
    vectors = [torch.empty(0)] * len(routes)
    for dataset in sorted(set(routes)):
        places = [place for place, route in enumerate(routes) if route == dataset]
        for place, vector in zip(places, embed(encoders[dataset], [pixels[places]]), strict=True):
            vectors[place] = vector
    return vectors


def _match(table: pd.DataFrame, vectors: list[Tensor], galleries: dict[str, Gallery]) -> pd.DataFrame:
    """Adds each query's nearest individual and the runner-up."""
    places = table["dataset"].to_numpy(str)
    parts = []
    for dataset in sorted(set(places)):
        own = np.flatnonzero(places == dataset)
        stacked = torch.stack([vectors[place] for place in own])
        parts.append(galleries[dataset].nearest(stacked, table["image_id"].iloc[own].tolist(), dataset))
    return table.merge(pd.concat(parts).drop(columns="dataset"), on="image_id", how="left", validate="one_to_one")


def decide(matches: pd.DataFrame, thresholds: dict[str, Threshold]) -> pd.DataFrame:
    """Adds each query's threshold and answer: the nearest individual when it is nearer than the threshold, else new."""
    limits = matches["dataset"].map({dataset: threshold.value for dataset, threshold in thresholds.items()})
    named = (matches["distance"] < limits) & (matches["problem"] == "")
    return matches.assign(threshold=limits, answer=matches["identity"].where(named, NEW_INDIVIDUAL))


def write_submission(prediction: Prediction, path: Path) -> None:
    """Writes the file to hand in: `image_id,identity`."""
    write_table(path, prediction.submission)


def explain(prediction: Prediction) -> None:
    """Says what a person should know of a prediction: shares called new, the classifier's dissent, broken files."""
    matches = prediction.matches
    for dataset, share in prediction.share_new().items():
        say(f"  {dataset}: {(matches['dataset'] == dataset).sum()} queries, {share:.0%} called new")
    dissent = (matches["column"] != "") & (matches["species"] != matches["column"])
    pairs = Counter(zip(matches["column"][dissent], matches["species"][dissent], strict=True))
    detail = "; ".join(f"{count} of {column} taken for {species}" for (column, species), count in pairs.most_common())
    detail = f": {detail}" * bool(detail)
    say(f"  species classifier and dataset column differ on {dissent.sum()} of {len(matches)} queries{detail}")
    for row in matches[matches["problem"] != ""].itertuples():
        say(f"  warning: image_id {row.image_id} can't be read ({row.problem}): called {NEW_INDIVIDUAL}")
