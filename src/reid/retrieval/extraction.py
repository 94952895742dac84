"""One pass over photographs: each is opened once, classified, embedded by its route's encoder, and searched for
keypoints. Enrolment and prediction look through the same extractors.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from reid.config.recipe import KeypointConfig, Recipe
from reid.config.runtime import Runtime
from reid.data.catalogue import Catalogue
from reid.data.loading import photograph_batches
from reid.data.photographs import DECODER_VERSION, View, views_of
from reid.decision.artifact import CLASSIFIER, encoder_file
from reid.retrieval.cache import CACHE_FOLDER, KeypointCache, digests_of
from reid.retrieval.embedding import Embedder, EmbeddingOutput, load_embedder
from reid.retrieval.extractors.rootsift import extract
from reid.retrieval.keypoints import NO_KEYPOINTS, Keypoints, select_keypoints, weight_by_saliency
from reid.runtime.distributed import all_gather_object, barrier, rank, shard, world_size

__all__ = ["FeatureExtractors", "Features", "extract_features", "open_extractors", "route_queries"]


@dataclass(frozen=True)
class FeatureExtractors:
    """What features at photographs.

    Attributes:
        datasets: those with a gallery.
        encoders: by dataset; empty where the recipe has no such cue.
        classifier: tells the datasets apart; None where there is only one, or nobody to do it.
        extraction: how keypoints are found; None where the recipe has no such cue.
        cache: keypoints that were found before; None to use_cache nothing.
    """

    datasets: tuple[str, ...]
    encoders: dict[str, Embedder]
    classifier: Embedder | None
    extraction: KeypointConfig | None
    cache: KeypointCache | None
    runtime: Runtime

    @property
    def keypoint_extractor(self) -> Callable[[np.ndarray], Keypoints] | None:
        """From an upright photograph to its keypoints; None where the recipe has no such cue."""
        return partial(extract, config=self.extraction) if self.extraction else None

    @property
    def use_cache(self) -> bool:
        """Whether any of them keeps what it saw."""
        return self.cache is not None or any(embedder.cache for embedder in self.embedders)

    @property
    def embedders(self) -> list[Embedder]:
        return [*self.encoders.values(), *([self.classifier] if self.classifier else [])]

    @property
    def device(self) -> torch.device:
        """Where the networks are; the processor where there is none."""
        return next((embedder.device for embedder in self.embedders), torch.device("cpu"))


class Features(NamedTuple):
    """What was seen on one photograph."""

    species: str
    """What the classifier says; "" without one."""
    route: str
    """The dataset that it was taken to be of."""
    vector: Tensor
    """(D,) float32, by that dataset's encoder; D is 0 without one."""
    keypoints: Keypoints
    """None of them where they were not asked for."""
    problem: str
    """What was wrong with the file, "" when nothing."""


def open_extractors(
    folder: Path,
    datasets: Collection[str],
    with_species: bool,
    recipe: Recipe,
    use_cache: bool = True,
    keypoints_in: Path | None = None,
    runtime: Runtime = Runtime(),
) -> FeatureExtractors:
    """Return the extractors of a weights folder.

    Args:
        folder: a weights folder with its networks.
        datasets: whose encoders to load.
        with_species: load the classifier too.
        recipe: `cues` and how networks and keypoints work.
        use_cache: keep what is seen beside the weights, so that the same photograph costs nothing the next time.
        keypoints_in: the weights folder that remembers the keypoints, if it is another: they are the same in all folds.
    """
    encoders = {}
    if recipe.uses_encoder:
        encoders = {name: load_embedder(folder, encoder_file(name), recipe, use_cache, runtime) for name in datasets}
    classifier = load_embedder(folder, CLASSIFIER, recipe, use_cache, runtime) if with_species else None
    extraction = keypoint_config(recipe)
    cache = None
    if extraction and use_cache:
        cache = KeypointCache((keypoints_in or folder) / CACHE_FOLDER / "keypoints", extraction, DECODER_VERSION)
    return FeatureExtractors(tuple(datasets), encoders, classifier, extraction, cache, runtime)


def keypoint_config(recipe: Recipe) -> KeypointConfig | None:
    """Return how the recipe finds keypoints, with the number to seek as `count`; None where it asks for none.

    What has no say in finding them is at its default, so that the same keypoints have the same key in the cache.
    """
    if not recipe.uses_keypoints:
        return None
    wanted, default = recipe.keypoints, KeypointConfig()
    count = max(wanted.count, wanted.candidates if recipe.uses_encoder else 0)
    return replace(wanted, count=count, candidates=default.candidates, foreground=default.foreground)


def extract_features(
    catalogue: Catalogue, extractors: FeatureExtractors, route: str, recipe: Recipe, what: str, mirror: bool = False
) -> list[Features]:
    """Look at every photograph, each rank at its share; what is remembered of one is not computed again.

    Args:
        catalogue: the photographs.
        extractors: what features.
        route: see `route_queries`.
        recipe: how photographs are opened, `keypoint_count`, `focus`.
        what: the work in a few words.
        mirror: look at the photographs' mirror images.

    Returns:
        A look per photograph, in order; one that can't be read has a problem and vectors of a grey field.
    """
    rows = shard(len(catalogue))
    by_rank = all_gather_object(
        _extract_own(replace(catalogue, table=catalogue.table[rows]), extractors, route, recipe, what, mirror)
    )
    for number in range(world_size()):  # one after the other: each adds its own to the file
        if number == rank():
            for embedder in extractors.embedders:
                if embedder.cache:
                    embedder.cache.save()
        barrier()
    return [look for features in by_rank for look in features]


def _extract_own(
    catalogue: Catalogue, extractors: FeatureExtractors, route: str, recipe: Recipe, what: str, mirror: bool
) -> list[Features]:
    """Return the features of one rank."""
    column = catalogue.table["dataset"].to_numpy(str)
    paths, views = catalogue.paths, views_of(catalogue, recipe, mirror)
    digests = digests_of(paths, views) if extractors.use_cache else [""] * len(paths)
    rows = zip(digests, column, views, strict=True)
    features = [_from_cache(digest, cell, view, extractors, route, recipe) for digest, cell, view in rows]
    # those of one dataset together, so that its encoder gets full batches
    missing = sorted((place for place, look in enumerate(features) if look is None), key=lambda place: column[place])
    upcoming = iter(missing)
    batches = photograph_batches(
        [paths[place] for place in missing],
        [views[place] for place in missing],
        extractors.runtime,
        what,
        [
            extractors.keypoint_extractor if _keypoints_of(digests[place], extractors) is None else None
            for place in missing
        ],
    )

    def routed() -> Iterator[list[_Routed]]:
        for pixels, keypoints, problems in batches:
            places = [next(upcoming) for _ in problems]
            pixels = pixels.to(extractors.device, non_blocking=True)  # once, for the classifier and the encoders
            logits = extractors.classifier.embed(pixels) if extractors.classifier else torch.zeros(len(pixels), 1)
            species = _classes_of(logits, extractors)
            routes = route_queries(route, column[places], species, extractors.datasets)
            yield list(map(_Routed, places, species, routes, logits, pixels, keypoints, problems))

    for photographs in _full_passes(routed(), extractors):
        for photograph, vector, saliency in zip(photographs, *_embed(photographs, extractors), strict=True):
            place, species, dataset, logits, _, points, problem = photograph
            if points is None:
                points = _keypoints_of(digests[place], extractors)
            if points is None:
                points = NO_KEYPOINTS
            if not problem:
                _store(digests[place], dataset, logits, vector, saliency, points, extractors)
            features[place] = _features(species, dataset, vector, saliency, points, problem, views[place], recipe)
    return [look for look in features if look is not None]


class _Routed(NamedTuple):
    """A photograph on the way to its encoder."""

    place: int
    species: str
    dataset: str
    """Whose encoder."""
    logits: Tensor
    pixels: Tensor
    """(3, S, S) uint8"""
    keypoints: Keypoints | None
    problem: str


def _full_passes(batches: Iterable[list[_Routed]], extractors: FeatureExtractors) -> Iterator[list[_Routed]]:
    """Return the photographs of one encoder after the other, as many as it sees in full passes; the rest wait for those
    of the next batches, or for the end. A pass always has the same size, and what it lacks would be computed for
    nothing."""
    waiting: dict[str, list[_Routed]] = {}
    for batch in batches:
        for photograph in batch:
            waiting.setdefault(photograph.dataset, []).append(photograph)
        for dataset, photographs in waiting.items():
            pass_size = extractors.encoders[dataset].pass_size if dataset in extractors.encoders else 1
            full = len(photographs) - len(photographs) % pass_size
            if full:
                yield photographs[:full]
            # copied, for they would keep the pixels of their whole batch
            waiting[dataset] = [rest._replace(pixels=rest.pixels.clone()) for rest in photographs[full:]]
    yield from filter(None, waiting.values())


def route_queries(
    route: str, column: Collection[str], species: Collection[str], datasets: Collection[str]
) -> list[str]:
    """Whose encoder each query gets.

    Args:
        route: "classifier", "column", or "auto": the column where it names a dataset with a gallery.
        column: (B,) the queries' dataset cells.
        species: (B,) what the classifier says; "" without one, and then the column decides if it can.
        datasets: those with a gallery.

    Returns:
        (B,) datasets.
    """
    if route == "classifier":
        return list(species)
    return [cell if cell in datasets else guess for cell, guess in zip(column, species, strict=True)]


def _classes_of(logits: Tensor, extractors: FeatureExtractors) -> list[str]:
    """Return which datasets the classifier means by its outputs, (B, classes); without a classifier the only one there
    is."""
    if extractors.classifier:
        return [extractors.classifier.plan.classes[place] for place in logits.argmax(1).tolist()]
    return [extractors.datasets[0] if len(extractors.datasets) == 1 else ""] * len(logits)


def _embed(photographs: Sequence[_Routed], extractors: FeatureExtractors) -> EmbeddingOutput:
    """Vectors and saliency of one dataset's photographs; empty ones without an encoder."""
    encoder = extractors.encoders.get(photographs[0].dataset)
    if encoder is None:
        return EmbeddingOutput(torch.zeros(len(photographs), 0), torch.zeros(len(photographs), 0, 0))
    return encoder.embed_with_saliency(torch.stack([photograph.pixels for photograph in photographs]))


def _features(
    species: str,
    route: str,
    vector: Tensor,
    saliency: Tensor,
    keypoints: Keypoints,
    problem: str,
    view: View,
    recipe: Recipe,
) -> Features:
    """Return what was seen, its keypoints weighed by where the encoder features, and only those kept that cues ask
    for."""
    weighed = weight_by_saliency(keypoints, saliency.numpy(), view.fit) if len(saliency) else keypoints
    return Features(
        species, route, vector, select_keypoints(weighed, recipe.keypoints.count, recipe.keypoints.foreground), problem
    )


def _from_cache(
    digest: str, column: str, view: View, extractors: FeatureExtractors, route: str, recipe: Recipe
) -> Features | None:
    """Return what is remembered of a photograph, None unless it is everything."""
    logits = extractors.classifier.cached(digest) if extractors.classifier else (torch.zeros(1), None)
    if not digest or logits is None:
        return None
    (species,) = _classes_of(logits[0][None], extractors)
    (chosen,) = route_queries(route, [column], [species], extractors.datasets)
    seen = extractors.encoders[chosen].cached(digest) if extractors.encoders else (torch.empty(0), torch.empty(0, 0))
    if seen is None:
        return None
    keypoints = _keypoints_of(digest, extractors) if extractors.extraction else NO_KEYPOINTS
    return None if keypoints is None else _features(species, chosen, *seen, keypoints, "", view, recipe)


def _keypoints_of(digest: str, extractors: FeatureExtractors) -> Keypoints | None:
    """Return what is remembered of a photograph's keypoints, whatever the encoder is."""
    return extractors.cache.cached(digest) if extractors.cache else None


def _store(
    digest: str,
    route: str,
    logits: Tensor,
    vector: Tensor,
    saliency: Tensor,
    keypoints: Keypoints,
    extractors: FeatureExtractors,
) -> None:
    if extractors.encoders:
        extractors.encoders[route].store(digest, vector, saliency)
    if extractors.classifier:
        extractors.classifier.store(digest, logits, torch.empty(0))
    if extractors.cache:
        extractors.cache.store(digest, keypoints)
