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
from reid.embedding import Embedder, digests_of, load_embedder
from reid.files import write_table
from reid.gallery import Gallery, load_gallery, load_thresholds
from reid.images import photograph_batches, views_of
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


def predict(catalogue: Catalogue, weights: Weights, recipe: Recipe, remember: bool = True) -> Prediction:
    """Names the individual on every query photograph, or calls it new.

    One pass over the photographs: each is decoded once, classified, and embedded by the encoder of its route.

    Args:
        catalogue: the query rows are asked for; database rows are not looked at, the galleries stand for them.
        weights: networks, galleries, thresholds.
        recipe: `route`, `precision`, `batch_size`, `workers`; what the networks look like is in their own files.
        remember: keep the vectors beside the weights, so that the same photograph costs nothing the next time.

    Raises:
        InputError: no query rows, or a row that the route can't send anywhere.
    """
    queries = wanted_rows(catalogue)
    _check_route(queries, weights, recipe.route)
    encoders = {
        dataset: load_embedder(weights.folder, encoder_file(dataset), recipe, remember) for dataset in weights.datasets
    }
    classifier = load_embedder(weights.folder, SPECIES, recipe, remember) if weights.has_species else None
    found = _look_at(queries, classifier, encoders, recipe, remember)
    galleries = {dataset: load_gallery(weights.folder / gallery_file(dataset)) for dataset in weights.datasets}
    table = queries.table[["image_id", "dataset"]].rename(columns={"dataset": "column"})
    table = table.assign(
        species=[one.species for one in found],
        dataset=[one.route for one in found],
        problem=[one.problem for one in found],
    )
    matches = _match(table, [one.vector for one in found], galleries)
    return Prediction(decide(matches, load_thresholds(weights)), recipe.route)


@dataclass(frozen=True)
class Look:
    """What the networks say of one photograph: its species, the route it took, its vector (D,) by that encoder, and
    what was wrong with the file, "" when nothing."""

    species: str
    route: str
    vector: Tensor
    problem: str = ""


def _look_at(
    queries: Catalogue, classifier: Embedder | None, encoders: dict[str, Embedder], recipe: Recipe, remember: bool
) -> list[Look]:
    """Classifies and embeds every query; what the networks remember is not computed again."""
    datasets = tuple(encoders)
    column = queries.table["dataset"].to_numpy(str)
    paths, views = queries.paths, views_of(queries, recipe)
    digests = digests_of(paths, views) if remember else [""] * len(queries)
    found = [_recalled(*row, classifier, encoders, recipe.route) for row in zip(digests, column, strict=True)]
    # those of one dataset together, so that its encoder gets full batches
    asked = sorted((place for place, look in enumerate(found) if look is None), key=lambda place: column[place])
    start = 0
    for pixels, problems in photograph_batches(
        [paths[place] for place in asked], [views[place] for place in asked], recipe, "matching"
    ):
        places = asked[start : start + len(pixels)]
        start += len(pixels)
        logits = classifier.embed(pixels) if classifier else torch.zeros(len(pixels), 1)
        species = [_class_of(row, classifier, datasets) for row in logits]
        routes = route_queries(recipe.route, column[places], species, datasets)
        vectors = _embed_by_route(encoders, pixels, routes)
        for row, place in enumerate(places):
            found[place] = Look(species[row], routes[row], vectors[row], problems[row])
            if not problems[row]:
                encoders[routes[row]].remember(digests[place], vectors[row])
                if classifier:
                    classifier.remember(digests[place], logits[row])
    for embedder in (*encoders.values(), *([classifier] if classifier else [])):
        if embedder.memory:
            embedder.memory.save()
    return [look for look in found if look is not None]


def _recalled(
    digest: str, column: str, classifier: Embedder | None, encoders: dict[str, Embedder], route: str
) -> Look | None:
    """What is remembered of a photograph, None unless it is everything."""
    logits = classifier.recall(digest) if classifier else torch.zeros(1)
    if logits is None:
        return None
    species = _class_of(logits, classifier, tuple(encoders))
    (chosen,) = route_queries(route, [column], [species], tuple(encoders))
    vector = encoders[chosen].recall(digest)
    return None if vector is None else Look(species, chosen, vector)


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


def _class_of(logits: Tensor, classifier: Embedder | None, datasets: tuple[str, ...]) -> str:
    """Which dataset the classifier means by its outputs, (classes,); without a classifier there is only one."""
    return classifier.network.plan.classes[int(logits.argmax())] if classifier else datasets[0]


def _embed_by_route(encoders: dict[str, Embedder], pixels: Tensor, routes: list[str]) -> list[Tensor]:
    """(D,) per photograph, by the encoder that its route names."""
    vectors = [torch.empty(0)] * len(routes)
    for dataset in sorted(set(routes)):
        places = [place for place, route in enumerate(routes) if route == dataset]
        for place, vector in zip(places, encoders[dataset].embed(pixels[places]), strict=True):
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
