"""One pass over photographs: each is opened once, classified, embedded by its dataset's encoder, and searched for
keypoints. Enrolment and prediction use the same pass, so that galleries and queries are alike.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice, repeat
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL
import torch
from torch import Tensor

from reid.config.recipe import KeypointConfig, Recipe, extractor_names
from reid.config.runtime import Runtime
from reid.data.boxes import by_photograph
from reid.data.catalogue import Catalogue
from reid.data.loading import photograph_batches
from reid.data.photographs import DECODER_VERSION, View, views_of
from reid.retrieval.cache import Arrays, Cache, cache_key, photograph_digests
from reid.retrieval.embedding import BackboneOutput, Embedder, EmbeddingOutput
from reid.retrieval.extractors.local_feature import LocalFeature
from reid.retrieval.extractors.table import Extractor, detect, open_extractor
from reid.retrieval.keypoints import (
    NO_KEYPOINTS,
    Detection,
    Keypoints,
    check_keypoints,
    on_mask,
    saliency_weights,
    selection,
)
from reid.runtime.distributed import all_gather_object, core_count, shard

__all__ = [
    "FeatureExtractors",
    "Features",
    "backbone_file",
    "extract_features",
    "keypoint_config",
    "open_extractors",
    "route_queries",
]


SUFFIX = ".safetensors"


@dataclass(frozen=True)
class FeatureExtractors:
    """What computes the features of photographs.

    Attributes:
        datasets: those with a gallery.
        encoders: by dataset, one for each backbone; empty where the recipe has no such cue.
        classifier: tells the datasets apart; None where there is none.
        keypoints: how keypoints are found; None where the recipe has no such cue.
        extractors: what finds them, by dataset, one for each local feature; empty likewise.
        runtime: batch size and threads.
        cache: where features are kept; None to keep nothing.
    """

    datasets: tuple[str, ...]
    encoders: dict[str, tuple[Embedder, ...]]
    classifier: Embedder | None = None
    keypoints: KeypointConfig | None = None
    extractors: Mapping[str, tuple[Extractor, ...]] = field(default_factory=dict)
    runtime: Runtime = Runtime()
    cache: Cache | None = None

    @property
    def every_encoder(self) -> list[Embedder]:
        """The encoders of all datasets and backbones."""
        return [encoder for encoders in self.encoders.values() for encoder in encoders]

    def parts_of(self, dataset: str) -> tuple[int, ...]:
        """Return how many dimensions of a dataset's vectors each of several backbones has; () for one or none."""
        encoders = self.encoders.get(dataset, ())
        return tuple(encoder.plan.outputs for encoder in encoders) if len(encoders) > 1 else ()

    @property
    def device(self) -> torch.device:
        """Where the networks are; the CPU where there is none."""
        embedders = [*self.every_encoder, *([self.classifier] if self.classifier else [])]
        return next((embedder.device for embedder in embedders), torch.device("cpu"))

    @property
    def precision(self) -> str:
        """The number format that vectors are computed in, such as "float32"; "" where there is no encoder."""
        return next((encoder.precision for encoder in self.every_encoder), "")

    def extractors_for(self, dataset: str | None) -> list[Extractor]:
        """Return what finds the keypoints of a dataset's photographs; everything that may where it is not known yet."""
        if dataset is not None and dataset in self.extractors:
            return list(self.extractors[dataset])
        return list({one.name: one for extractors in self.extractors.values() for one in extractors}.values())

    def extractors_of(self, dataset: str) -> tuple[Extractor, ...]:
        """Return what finds the keypoints of a dataset's photographs; of one without a gallery as of the first; none
        where the recipe has no such cue."""
        return self.extractors.get(dataset, next(iter(self.extractors.values()), ()))

    def find_keypoints(
        self, digest: str, extractors: Sequence[Extractor], image: np.ndarray, mask: np.ndarray | None = None
    ) -> dict[str, Detection]:
        """Return the keypoints of an upright photograph by extractor, as far as possible out of the cache.

        Args:
            digest: the photograph's, see `cache.photograph_digests`.
            extractors: some of `extractors`.
            image: (H, W, 3) uint8, RGB.
            mask: (h, w) bool, where the animal is; keypoints off it are left out. None where nobody says.
        """

        def found(extractor: Extractor) -> Detection:
            detection = on_mask(detect(extractor, image), mask)
            describe = partial(self._described, digest, extractor, detection)
            return Detection(detection.points, detection.extent, describe)

        def detection(extractor: Extractor) -> Detection:
            if kept := self.kept_keypoints(digest, extractor):
                return kept.detection(lambda places: found(extractor).describe(places))
            if self.encoders:
                return found(extractor)
            return found(extractor).at_once()  # all of them are wanted, and this thread is not the only one

        return {extractor.name: detection(extractor) for extractor in extractors}

    def _described(self, digest: str, extractor: Extractor, detection: Detection, places: np.ndarray) -> np.ndarray:
        """Return the descriptors of the keypoints at some places, see `Detection`; the cache keeps them."""
        keypoints = check_keypoints(detection.described(places), extractor.name, extractor.dimension)
        if self.cache and digest:
            extent = np.array(detection.extent)
            kept = KeptKeypoints(detection.points, extent, places, keypoints.descriptors)
            self.cache.put_many({self._keypoint_key(digest, extractor): kept._asdict()})
        return keypoints.descriptors

    def kept_keypoints(self, digest: str, extractor: Extractor) -> "KeptKeypoints | None":
        """Return the keypoints that the cache has of a photograph, whatever its encoder is."""
        arrays = self.cache.get(self._keypoint_key(digest, extractor)) if self.cache else None
        return None if arrays is None else KeptKeypoints(**arrays)

    def _keypoint_key(self, digest: str, extractor: Extractor) -> str:
        assert self.keypoints is not None
        settings = {**vars(self.keypoints), "extractor": extractor.name}  # asdict would copy, thousands of times
        del settings["saliency"]  # weighs what was found; caches of earlier versions have no such entry
        made_with = {
            **extractor.made_with,
            "settings": settings,
            "pixels": [DECODER_VERSION, PIL.__version__],
        }
        return cache_key("described keypoints", made_with, digest)


class KeptKeypoints(NamedTuple):
    """The keypoints of a photograph in a cache."""

    points: np.ndarray
    """(N, 4) float32, see `Keypoints`."""
    extent: np.ndarray
    """(2,) float64, likewise."""
    places: np.ndarray
    """(n,) int64, ascending: which of them are described."""
    descriptors: np.ndarray
    """(n, D) float16"""

    def detection(self, describe: Callable[[np.ndarray], np.ndarray]) -> Detection:
        """Return the keypoints.

        Args:
            describe: see `Detection`; called where one is wanted that the cache does not have.
        """

        def described(places: np.ndarray) -> np.ndarray:
            if np.isin(places, self.places).all():
                return self.descriptors[np.searchsorted(self.places, places)]
            every = np.union1d(places, self.places)
            return describe(every)[np.searchsorted(every, places)]

        width, height = self.extent.tolist()
        return Detection(self.points, (width, height), described)


class Features(NamedTuple):
    """What was computed of one photograph."""

    species: str
    """The dataset that the classifier takes it for; "" without one."""
    route: str
    """The dataset whose encoder embedded it, and whose gallery it belongs to."""
    vector: Tensor
    """(D,) float32, by that encoder; of several backbones one behind the other; D is 0 without one."""
    keypoints: Keypoints
    """None of them where the recipe has no such cue."""
    problem: str
    """What was wrong with the file, "" when nothing."""
    further: tuple[Keypoints, ...] = ()
    """Of each further local feature of `keypoints.extractor`."""


def open_extractors(
    encoders: Mapping[str, Path],
    classifier: Path | None,
    recipe: Recipe,
    runtime: Runtime = Runtime(),
    cache: Cache | None = None,
    local_features: Mapping[str, tuple[LocalFeature, ...]] | None = None,
    others: Sequence[FeatureExtractors] = (),
) -> FeatureExtractors:
    """Return the extractors that a recipe needs. Networks with the same backbone share it.

    Args:
        encoders: the file of each dataset's encoder, beside which those of further backbones lie, see `backbone_file`;
            it is not opened where the recipe has no such cue.
        classifier: the file of the species classifier; None for none.
        recipe: `matching.cues`, `keypoints` and `prediction`.
        runtime: precision, batch size, threads.
        cache: where features are kept for the next time; None to keep nothing.
        local_features: by dataset; None where all have those of `keypoints.extractor`, which need no weights.
        others: with the same recipe and runtime, which share their backbones too.

    Raises:
        InputError: a file that is missing or no network; kornia is missing or too old.
    """
    sharers = [encoder for one in others for encoder in one.every_encoder]
    species = Embedder(classifier, recipe, runtime, sharers) if classifier else None
    sharers += [species] if species else []
    embedders: dict[str, tuple[Embedder, ...]] = {}
    for dataset, file in encoders.items() if recipe.uses_encoder else ():
        for number in range(len(recipe.backbone.names)):
            sharers.append(Embedder(backbone_file(file, number), recipe, runtime, sharers))
            embedders[dataset] = (*embedders.get(dataset, ()), sharers[-1])
    config = keypoint_config(recipe)
    extractors = _open_local_features(encoders, config, local_features) if config else {}
    return FeatureExtractors(tuple(encoders), embedders, species, config, extractors, runtime, cache)


def backbone_file(file: Path, number: int) -> Path:
    """Return where the network on another of several backbones lies, from the file of the one on the first, number 0.

    >>> backbone_file(Path("Lynx.safetensors"), 1).name
    'Lynx.backbone-2.safetensors'
    """
    return file.with_name(f"{file.name.removesuffix(SUFFIX)}.backbone-{number + 1}{SUFFIX}") if number else file


def _open_local_features(
    datasets: Iterable[str], config: KeypointConfig, local_features: Mapping[str, tuple[LocalFeature, ...]] | None
) -> dict[str, tuple[Extractor, ...]]:
    """Return the extractors of each dataset; those with the same local feature share it."""
    own = tuple(LocalFeature(name, None) for name in extractor_names(config.extractor))
    wanted = local_features or dict.fromkeys(datasets, own)
    every = {one for features in wanted.values() for one in features}
    opened = {one: open_extractor(replace(config, extractor=one.name), one.weights) for one in every}
    return {dataset: tuple(opened[one] for one in features) for dataset, features in wanted.items()}


def keypoint_config(recipe: Recipe) -> KeypointConfig | None:
    """Return how the recipe finds keypoints, with the number to find as `count`; None where it uses none.

    Settings that do not change what is found are at their defaults, so that the same keypoints have the same key in the
    cache.
    """
    if not recipe.uses_keypoints:
        return None
    config, default = recipe.keypoints, KeypointConfig()
    count = max(config.count, config.candidates if recipe.uses_encoder else 0)
    return replace(
        config,
        extractors=default.extractors,
        count=count,
        candidates=default.candidates,
        foreground=default.foreground,
        saliency=default.saliency,
    )


class _Photograph(NamedTuple):
    """One photograph of a pass."""

    place: int
    """Among this rank's photographs."""
    path: Path
    view: View
    column: str
    """Its dataset cell."""
    digest: str
    """See `cache.photograph_digests`; "" where nothing is kept."""


Seen = list[tuple[Embedder, BackboneOutput]]
"""What backbones gave for a batch of photographs, each with an embedder that has it."""


class _Routed(NamedTuple):
    """A photograph on the way to its encoder."""

    photograph: _Photograph
    species: str
    dataset: str
    """Whose encoder."""
    logits: Tensor
    """(classes,) float32, the classifier's."""
    pixels: Tensor
    """(3, S, S) uint8"""
    seen: BackboneOutput | None
    """By the classifier's backbone, a batch of one."""
    keypoints: tuple[Detection, ...]
    """By each of its dataset's local features; none where the recipe has no such cue, or the file can't be read."""
    problem: str


def extract_features(
    catalogue: Catalogue,
    extractors: FeatureExtractors,
    route: str,
    recipe: Recipe,
    what: str,
    mirror: bool = False,
    others: Sequence[FeatureExtractors] = (),
) -> list[Features]:
    """Compute the features of every photograph, each rank of its share; what the cache has is not computed again.

    Args:
        catalogue: the photographs.
        extractors: what computes them.
        route: see `route_queries`.
        recipe: how photographs are opened, `keypoints.count` and `keypoints.foreground`.
        what: the work in a few words, for the progress.
        mirror: take the photographs' mirror images.
        others: extractors that differ in their encoders alone. What these give is put into the cache, so that a call
            with each of them after this one opens no photograph again.

    Returns:
        Features per photograph, in order; those of a photograph that can't be read have a problem, and are a grey
        field's.
    """
    own = replace(catalogue, table=catalogue.table[shard(len(catalogue))])
    photographs = _photographs(own, extractors, recipe, mirror)
    turn = np.argsort(np.concatenate([np.zeros(0, int), *by_photograph(own.paths)]), kind="stable")
    features = {one.place: known for one in photographs if (known := _from_cache(one, extractors, route, recipe))}
    missing = [
        one
        for one in photographs
        if one.place not in features or not all(_is_embedded(one, features[one.place].route, other) for other in others)
    ]
    # those of one dataset together, so that its encoder gets full batches, and in it the rows of one photograph
    missing.sort(key=lambda one: (one.column, turn[one.place]))
    for batch in _full_passes(_routed(missing, extractors, route, what), extractors):
        features |= _compute(batch, extractors, recipe, others)
    by_rank = all_gather_object([features[place] for place in range(len(photographs))])
    return [one for part in by_rank for one in part]


def _photographs(
    catalogue: Catalogue, extractors: FeatureExtractors, recipe: Recipe, mirror: bool
) -> list[_Photograph]:
    paths, views = catalogue.paths, views_of(catalogue, recipe, mirror)
    digests = photograph_digests(paths, views) if extractors.cache else [""] * len(paths)
    columns = zip(paths, views, catalogue.table["dataset"].astype(str), digests, strict=True)
    return [_Photograph(place, *cells) for place, cells in enumerate(columns)]


def _from_cache(photograph: _Photograph, extractors: FeatureExtractors, route: str, recipe: Recipe) -> Features | None:
    """Return what the cache has of a photograph, None unless it is everything."""
    cache, digest = extractors.cache, photograph.digest
    if not cache:
        return None
    logits = extractors.classifier.from_cache(cache, digest) if extractors.classifier else _no_embeddings(1)
    if logits is None:
        return None
    (species,) = _classes_of(logits.vectors, extractors)
    (dataset,) = route_queries(route, [photograph.column], [species], extractors.datasets)
    encoders = extractors.encoders[dataset] if extractors.encoders else ()
    outputs = [output for encoder in encoders if (output := encoder.from_cache(cache, digest)) is not None]
    output = _joined(outputs, 1)
    if len(outputs) < len(encoders):
        return None
    found = []
    for extractor in extractors.extractors_of(dataset):
        kept = extractors.kept_keypoints(digest, extractor)
        if kept is None:
            return None
        detection = kept.detection(_not_kept)
        try:
            found.append(_selected(detection, [output.saliency[0]], photograph.view, recipe.keypoints))
        except _NotKeptError:
            return None
    keypoints, *further = found or [NO_KEYPOINTS]
    return Features(species, dataset, output.vectors[0], keypoints, "", tuple(further))


class _NotKeptError(Exception):
    """A descriptor is wanted that the cache does not have."""


def _not_kept(places: np.ndarray) -> np.ndarray:
    raise _NotKeptError(places)


def _is_embedded(photograph: _Photograph, dataset: str, extractors: FeatureExtractors) -> bool:
    """Return whether the cache has a photograph's vector by a dataset's encoder."""
    encoders, cache = extractors.encoders.get(dataset, ()), extractors.cache
    return not encoders or (
        cache is not None and all(encoder.from_cache(cache, photograph.digest) is not None for encoder in encoders)
    )


def _routed(
    photographs: Sequence[_Photograph], extractors: FeatureExtractors, route: str, what: str
) -> Iterator[list[_Routed]]:
    """Open photographs, find their keypoints, and choose their encoders, batch by batch."""
    wanted = [extractors.extractors_for(None if route == "classifier" else one.column) for one in photographs]
    find = [
        partial(extractors.find_keypoints, one.digest, which) if which else None
        for one, which in zip(photographs, wanted, strict=True)
    ]
    paths, views = [one.path for one in photographs], [one.view for one in photographs]
    upcoming = iter(photographs)
    for pixels, found, problems in photograph_batches(paths, views, extractors.runtime, what, find):
        batch = list(islice(upcoming, len(problems)))
        pixels = pixels.to(extractors.device, non_blocking=True)  # once, for the classifier and the encoders
        classifier = extractors.classifier
        seen = classifier.features(pixels) if classifier else None
        logits = classifier.finish(seen).vectors if classifier and seen else torch.zeros(len(pixels), 1)
        species = _classes_of(logits, extractors)
        datasets = route_queries(route, [one.column for one in batch], species, extractors.datasets)
        each = map(BackboneOutput, *(torch.split(values, 1) for values in seen)) if seen else repeat(None)
        chosen = map(extractors.extractors_of, datasets)
        keypoints = [
            tuple(one[which.name] for which in own) if one else () for one, own in zip(found, chosen, strict=True)
        ]
        yield list(map(_Routed, batch, species, datasets, logits, pixels, each, keypoints, problems))


def _full_passes(batches: Iterable[list[_Routed]], extractors: FeatureExtractors) -> Iterator[list[_Routed]]:
    """Yield the photographs of one encoder after the other, as many as fill its passes; the rest wait for those of the
    next batches, or for the end. A pass always has the same size, and what it lacks would be computed for nothing."""
    waiting: dict[str, list[_Routed]] = {}
    for batch in batches:
        for photograph in batch:
            waiting.setdefault(photograph.dataset, []).append(photograph)
        for dataset, photographs in waiting.items():
            pass_size = max((encoder.pass_size for encoder in extractors.encoders.get(dataset, ())), default=1)
            full = len(photographs) - len(photographs) % pass_size
            if full:
                yield photographs[:full]
            # copied, for they would keep the pixels of their whole batch
            waiting[dataset] = [rest._replace(pixels=rest.pixels.clone()) for rest in photographs[full:]]
    yield from filter(None, waiting.values())


def route_queries(
    route: str, column: Collection[str], species: Collection[str], datasets: Collection[str]
) -> list[str]:
    """Return whose encoder each query gets.

    Args:
        route: "classifier", "column", or "auto": the column where it names a dataset with a gallery.
        column: (B,) the queries' dataset cells.
        species: (B,) the datasets that the classifier takes them for; "" without one, and then the column decides if
            it can.
        datasets: those with a gallery.

    Returns:
        (B,) datasets.
    """
    if route == "classifier":
        return list(species)
    return [cell if cell in datasets else guess for cell, guess in zip(column, species, strict=True)]


def _classes_of(logits: Tensor, extractors: FeatureExtractors) -> list[str]:
    """Return which datasets the classifier's outputs (B, classes) name; without a classifier the only one there is."""
    if extractors.classifier:
        return [extractors.classifier.plan.classes[place] for place in logits.argmax(1).tolist()]
    return [extractors.datasets[0] if len(extractors.datasets) == 1 else ""] * len(logits)


def _compute(
    batch: Sequence[_Routed], extractors: FeatureExtractors, recipe: Recipe, others: Sequence[FeatureExtractors]
) -> dict[int, Features]:
    """Embed photographs of one dataset; return their features by place, and keep them and those of the others."""
    seen: Seen = []
    outputs = [_embed(batch, each, seen) for each in (extractors, *others)]
    for each, output in zip((extractors, *others), outputs, strict=True):
        _keep(batch, output, each)
    joined = [_joined(output, len(batch)) for output in outputs]

    def features(one: _Routed, vector: Tensor, *saliencies: Tensor) -> Features:
        view = one.photograph.view
        found = [_selected(detection, saliencies, view, recipe.keypoints) for detection in one.keypoints]
        keypoints, *further = found or [NO_KEYPOINTS] * max(1, len(extractors.extractors_of(one.dataset)))
        return Features(one.species, one.dataset, vector, keypoints, one.problem, tuple(further))

    with ThreadPoolExecutor(extractors.runtime.threads or core_count()) as pool:  # OpenCV lets Python's lock go
        found = list(pool.map(features, batch, joined[0].vectors, *(output.saliency for output in joined)))
    return {one.photograph.place: each for one, each in zip(batch, found, strict=True)}


def _embed(batch: Sequence[_Routed], extractors: FeatureExtractors, seen: Seen) -> list[EmbeddingOutput]:
    """Return vectors and saliency of one dataset's photographs by the encoder on each backbone; none without one.

    Args:
        batch: the photographs.
        extractors: with the encoders.
        seen: what backbones have given for this batch; what these encoders' give is added.
    """
    classifier, outputs = extractors.classifier, []
    for encoder in extractors.encoders.get(batch[0].dataset, ()):
        known = next((output for other, output in seen if encoder.shares_backbone(other)), None)
        if known is None and classifier and encoder.shares_backbone(classifier):
            parts = [one.seen for one in batch if one.seen]
            known = BackboneOutput(*map(torch.cat, zip(*parts, strict=True)))
        if known is None:
            known = encoder.features(torch.stack([one.pixels for one in batch]))
        seen.append((encoder, known))
        outputs.append(encoder.finish(known))
    return outputs


def _joined(outputs: Sequence[EmbeddingOutput], count: int) -> EmbeddingOutput:
    """Return what the encoders on all backbones give for so many photographs: the vectors one behind the other, and the
    saliency of the first that has any."""
    if len(outputs) <= 1:
        return outputs[0] if outputs else _no_embeddings(count)
    able = next((output for output in outputs if output.saliency.numel()), outputs[0])
    return EmbeddingOutput(torch.cat([output.vectors for output in outputs], 1), able.saliency)


def _no_embeddings(count: int) -> EmbeddingOutput:
    return EmbeddingOutput(torch.zeros(count, 0), torch.zeros(count, 0, 0))


def _keep(batch: Sequence[_Routed], outputs: Sequence[EmbeddingOutput], extractors: FeatureExtractors) -> None:
    """Put what the networks gave for photographs of one dataset into the cache."""
    if not extractors.cache:
        return
    digests = ["" if one.problem else one.photograph.digest for one in batch]
    entries: dict[str, Arrays] = {}
    for encoder, output in zip(extractors.encoders.get(batch[0].dataset, ()), outputs, strict=True):
        entries |= encoder.entries(digests, output)
    if extractors.classifier:
        logits = torch.stack([one.logits for one in batch])
        entries |= extractors.classifier.entries(digests, _no_embeddings(len(batch))._replace(vectors=logits))
    extractors.cache.put_many(entries)


def _selected(detection: Detection, saliencies: Sequence[Tensor], view: View, config: KeypointConfig) -> Keypoints:
    """Return the keypoints that cues use, weighted by the saliency (h, h) of an encoder.

    Args:
        detection: a photograph's.
        saliencies: the encoder's first; what other encoders select is described too, for the cache.
        view: of the photograph.
        config: `count` and `foreground`.
    """
    weights = [_weights(detection, saliency, view) for saliency in saliencies]
    chosen = [selection(some, config.count, config.foreground) for some in weights]
    places = np.flatnonzero(np.any(chosen, axis=0))
    return replace(detection.described(places), weights=weights[0][places]).of(chosen[0][places])


def _weights(detection: Detection, saliency: Tensor, view: View) -> np.ndarray:
    if not len(saliency):
        return np.ones(len(detection), np.float32)
    return saliency_weights(detection.points, detection.extent, saliency.numpy(), view.fit)
