"""One pass over photographs: each is opened once, classified, embedded by its route's encoder, and searched for
keypoints. Enrolment and prediction look through the same eyes.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from reid.catalogue import Catalogue
from reid.embedding import CACHE_FOLDER, Embedder, Seen, digests_of, load_embedder
from reid.images import OPENED_AS, View, extraction_of, photograph_batches, views_of
from reid.keypoints import NO_KEYPOINTS, Extraction, KeypointCache, Keypoints, sift_out, weigh
from reid.ranks import collected, rank, share, wait, world
from reid.recipe import Recipe
from reid.weights import SPECIES, encoder_file

__all__ = ["Eyes", "Look", "look_at", "open_eyes", "route_queries"]


@dataclass(frozen=True)
class Eyes:
    """What looks at photographs.

    Attributes:
        datasets: those with a gallery.
        encoders: by dataset; empty where the recipe has no such cue.
        classifier: tells the datasets apart; None where there is only one, or nobody to do it.
        extraction: how keypoints are found; None where the recipe has no such cue.
        cache: keypoints that were found before; None to remember nothing.
    """

    datasets: tuple[str, ...]
    encoders: dict[str, Embedder]
    classifier: Embedder | None
    extraction: Extraction | None
    cache: KeypointCache | None

    @property
    def remember(self) -> bool:
        """Whether any of them keeps what it saw."""
        return self.cache is not None or any(embedder.memory for embedder in self.embedders)

    @property
    def embedders(self) -> list[Embedder]:
        return [*self.encoders.values(), *([self.classifier] if self.classifier else [])]

    @property
    def device(self) -> torch.device:
        """Where the networks are; the processor where there is none."""
        return next((embedder.device for embedder in self.embedders), torch.device("cpu"))


class Look(NamedTuple):
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


def open_eyes(
    folder: Path,
    datasets: Collection[str],
    with_species: bool,
    recipe: Recipe,
    remember: bool = True,
    keypoints_in: Path | None = None,
) -> Eyes:
    """The eyes of a weights folder.

    Args:
        folder: a weights folder with its networks.
        datasets: whose encoders to load.
        with_species: load the classifier too.
        recipe: `cues` and how networks and keypoints work.
        remember: keep what is seen beside the weights, so that the same photograph costs nothing the next time.
        keypoints_in: the weights folder that remembers the keypoints, if it is another: they are the same in all folds.
    """
    encoders = {}
    if "encoder" in recipe.cues:
        encoders = {name: load_embedder(folder, encoder_file(name), recipe, remember) for name in datasets}
    classifier = load_embedder(folder, SPECIES, recipe, remember) if with_species else None
    extraction = extraction_of(recipe)
    cache = None
    if extraction and remember:
        cache = KeypointCache((keypoints_in or folder) / CACHE_FOLDER / "keypoints", extraction, OPENED_AS)
    return Eyes(tuple(datasets), encoders, classifier, extraction, cache)


def look_at(
    catalogue: Catalogue, eyes: Eyes, route: str, recipe: Recipe, what: str, mirror: bool = False
) -> list[Look]:
    """Looks at every photograph, each rank at its share; what is remembered of one is not computed again.

    Args:
        catalogue: the photographs.
        eyes: what looks.
        route: see `route_queries`.
        recipe: how photographs are opened, `keypoint_count`, `focus`.
        what: the work in a few words.
        mirror: look at the photographs' mirror images.

    Returns:
        A look per photograph, in order; one that can't be read has a problem and vectors of a grey field.
    """
    rows = share(len(catalogue))
    by_rank = collected(_look_at(replace(catalogue, table=catalogue.table[rows]), eyes, route, recipe, what, mirror))
    for number in range(world()):  # one after the other: each adds its own to the file
        if number == rank():
            for embedder in eyes.embedders:
                if embedder.memory:
                    embedder.memory.save()
        wait()
    return [look for looks in by_rank for look in looks]


def _look_at(catalogue: Catalogue, eyes: Eyes, route: str, recipe: Recipe, what: str, mirror: bool) -> list[Look]:
    """The looks of one rank."""
    column = catalogue.table["dataset"].to_numpy(str)
    paths, views = catalogue.paths, views_of(catalogue, recipe, mirror)
    digests = digests_of(paths, views) if eyes.remember else [""] * len(paths)
    rows = zip(digests, column, views, strict=True)
    looks = [_recalled(digest, cell, view, eyes, route, recipe) for digest, cell, view in rows]
    # those of one dataset together, so that its encoder gets full batches
    missing = sorted((place for place, look in enumerate(looks) if look is None), key=lambda place: column[place])
    upcoming = iter(missing)
    batches = photograph_batches(
        [paths[place] for place in missing],
        [views[place] for place in missing],
        recipe,
        what,
        [eyes.extraction if _keypoints_of(digests[place], eyes) is None else None for place in missing],
    )

    def routed() -> Iterator[list[_Routed]]:
        for pixels, keypoints, problems in batches:
            places = [next(upcoming) for _ in problems]
            pixels = pixels.to(eyes.device, non_blocking=True)  # once, for the classifier and the encoders
            logits = eyes.classifier.embed(pixels) if eyes.classifier else torch.zeros(len(pixels), 1)
            species = _classes_of(logits, eyes)
            routes = route_queries(route, column[places], species, eyes.datasets)
            yield list(map(_Routed, places, species, routes, logits, pixels, keypoints, problems))

    for photographs in _full_passes(routed(), eyes):
        for photograph, vector, attention in zip(photographs, *_seen_by_encoder(photographs, eyes), strict=True):
            place, species, dataset, logits, _, points, problem = photograph
            if points is None:
                points = _keypoints_of(digests[place], eyes)
            if points is None:
                points = NO_KEYPOINTS
            if not problem:
                _remember(digests[place], dataset, logits, vector, attention, points, eyes)
            looks[place] = _look(species, dataset, vector, attention, points, problem, views[place], recipe)
    return [look for look in looks if look is not None]


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


def _full_passes(batches: Iterable[list[_Routed]], eyes: Eyes) -> Iterator[list[_Routed]]:
    """The photographs of one encoder after the other, as many as it sees in full passes; the rest wait for those of the
    next batches, or for the end. A pass always has the same size, and what it lacks would be computed for nothing."""
    waiting: dict[str, list[_Routed]] = {}
    for batch in batches:
        for photograph in batch:
            waiting.setdefault(photograph.dataset, []).append(photograph)
        for dataset, photographs in waiting.items():
            at_a_time = eyes.encoders[dataset].at_a_time if dataset in eyes.encoders else 1
            full = len(photographs) - len(photographs) % at_a_time
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


def _classes_of(logits: Tensor, eyes: Eyes) -> list[str]:
    """Which datasets the classifier means by its outputs, (B, classes); without a classifier the only one there is."""
    if eyes.classifier:
        return [eyes.classifier.plan.classes[place] for place in logits.argmax(1).tolist()]
    return [eyes.datasets[0] if len(eyes.datasets) == 1 else ""] * len(logits)


def _seen_by_encoder(photographs: Sequence[_Routed], eyes: Eyes) -> Seen:
    """Vectors and attention of one dataset's photographs; empty ones without an encoder."""
    encoder = eyes.encoders.get(photographs[0].dataset)
    if encoder is None:
        return Seen(torch.zeros(len(photographs), 0), torch.zeros(len(photographs), 0, 0))
    return encoder.see(torch.stack([photograph.pixels for photograph in photographs]))


def _look(
    species: str,
    route: str,
    vector: Tensor,
    attention: Tensor,
    keypoints: Keypoints,
    problem: str,
    view: View,
    recipe: Recipe,
) -> Look:
    """What was seen, its keypoints weighed by where the encoder looks, and only those kept that cues ask for."""
    weighed = weigh(keypoints, attention.numpy(), view.fit) if len(attention) else keypoints
    return Look(species, route, vector, sift_out(weighed, recipe.keypoint_count, recipe.focus), problem)


def _recalled(digest: str, column: str, view: View, eyes: Eyes, route: str, recipe: Recipe) -> Look | None:
    """What is remembered of a photograph, None unless it is everything."""
    logits = eyes.classifier.recall(digest) if eyes.classifier else (torch.zeros(1), None)
    if not digest or logits is None:
        return None
    (species,) = _classes_of(logits[0][None], eyes)
    (chosen,) = route_queries(route, [column], [species], eyes.datasets)
    seen = eyes.encoders[chosen].recall(digest) if eyes.encoders else (torch.empty(0), torch.empty(0, 0))
    if seen is None:
        return None
    keypoints = _keypoints_of(digest, eyes) if eyes.extraction else NO_KEYPOINTS
    return None if keypoints is None else _look(species, chosen, *seen, keypoints, "", view, recipe)


def _keypoints_of(digest: str, eyes: Eyes) -> Keypoints | None:
    """What is remembered of a photograph's keypoints, whatever the encoder is."""
    return eyes.cache.recall(digest) if eyes.cache else None


def _remember(
    digest: str, route: str, logits: Tensor, vector: Tensor, attention: Tensor, keypoints: Keypoints, eyes: Eyes
) -> None:
    if eyes.encoders:
        eyes.encoders[route].remember(digest, vector, attention)
    if eyes.classifier:
        eyes.classifier.remember(digest, logits, torch.empty(0))
    if eyes.cache:
        eyes.cache.remember(digest, keypoints)
