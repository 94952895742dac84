"""Discover: the query photographs of each dataset become individuals, one partition each, where nobody has named them.

photographs -> pairs with their features (`photograph_pairs`) -> chance that each pair shows one animal (`pair_scores`)
            -> average linkage (`linkage`) up to a cut that pseudo-collections of the database have fitted (`cuts`)
            -> clusters, attached to known individuals where there are any (`attach`)
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from reid.config.recipe import Recipe
from reid.config.runtime import Runtime
from reid.data.boxes import photograph_keys
from reid.data.catalogue import Catalogue, rows_to_predict
from reid.data.missing_files import with_causes
from reid.data.names import resolve_names
from reid.decision.artifact import Weights, gallery_file, reference_file
from reid.decision.attach import Attachment, attach
from reid.decision.calibration import fit_mixture, load_calibrations
from reid.decision.cuts import FittedCut, Source, Trial, fit_cut
from reid.decision.discovered import CLUSTERS_COLUMNS, Clusters, Cut
from reid.decision.labels import keep_labels, read_labels
from reid.decision.linkage import SplitParts, merge_tree
from reid.decision.links import AppliedLinks, Links, apply_links, read_links
from reid.decision.open_set import MIN_INDIVIDUALS
from reid.decision.predict import match_cached
from reid.decision.reference import load_reference
from reid.decision.sightings import keep_apart, most_neighbours
from reid.decision.unfitted import unfitted_cut
from reid.errors import InputError
from reid.retrieval.cache import Cache
from reid.retrieval.extraction import FeatureExtractors, Features, extract_features, open_extractors
from reid.retrieval.gallery import GalleryFeatures, gallery_features, load_gallery
from reid.retrieval.lightglue import LightGlue, open_matcher
from reid.retrieval.photograph_pairs import PhotographPairs, Pool, compare, compares_all, rank_normalised
from reid.runtime.files import first_of, sha256_of

__all__ = ["Fit", "Known", "discover", "fit_pair_score"]

log = logging.getLogger(__name__)

SAMPLE = 300
"""Photographs whose distances say in which unit an encoder's vectors are."""

CANDIDATES = 20
"""Known individuals that each photograph votes for when its cluster is attached."""


def discover(
    catalogue: Catalogue,
    weights: Weights,
    recipe: Recipe | None = None,
    use_cache: bool = True,
    runtime: Runtime | None = None,
    links_file: Path | None = None,
    previous: Path | None = None,
    use_answers: bool = True,
) -> Clusters:
    """Put the query photographs of each dataset together by individual.

    Args:
        catalogue: its query rows are put together; database rows are not opened, the galleries stand for them.
        weights: networks, galleries, reference photographs and thresholds.
        recipe: with other settings of `matching` than the folder's; None for its own.
        use_cache: keep features and matches next to the weights.
        runtime: device, precision, batch size; None for the precision that training asked for.
        links_file: what a person said of pairs; None for `pairs.csv` in the data folder, if it is there.
        previous: the clusters of an earlier call, whose labels are kept; None for new labels.
        use_answers: whether what a person said counts.

    Raises:
        InputError: no query rows, none whose photograph can be read, one without a dataset, or links that contradict
            each other.
    """
    recipe, runtime = recipe or weights.recipe, runtime or Runtime(precision=weights.precision)
    if weights.caution:
        log.warning(weights.caution)
    queries = rows_to_predict(resolve_names(catalogue.query, recipe, weights.datasets))
    _check_datasets(queries)
    links = read_links(catalogue, links_file, use_answers)
    datasets = dict(zip(catalogue.image_ids, catalogue.table["dataset"], strict=True))
    earlier = read_labels(previous, datasets) if previous else None
    cache = Cache(weights.folder) if use_cache else None
    encoders = {"": weights.backbone} if weights.backbone else weights.encoders
    extractors = open_extractors(encoders, None, recipe, runtime, cache, weights.local_features)
    known = Known(weights, recipe, cache)
    parts = []
    for photographs in queries.by_dataset().values():
        features, problems = _features(photographs, extractors, recipe)
        parts.append(_discover(photographs, features, problems, known, links))
    _refuse_unreadable(queries, parts)
    return _joined(queries, parts, earlier, datasets)


def _check_datasets(queries: Catalogue) -> None:
    unknown = queries.table[queries.table["dataset"] == ""]
    if len(unknown):
        raise InputError(
            f"{queries.root / 'metadata.csv'}: {queries.row_name(unknown.iloc[0]['image_id'])}, column dataset: "
            "expected the dataset whose photographs it is to be put together with, found an empty cell; fill it in"
        )


def _features(
    photographs: Catalogue, extractors: FeatureExtractors, recipe: Recipe
) -> tuple[GalleryFeatures, dict[str, str]]:
    """Return the features of one dataset's photographs that can be read, and why the others can't be, by image_id.

    A dataset without an encoder of its own is embedded by all the others', one behind the other, each in its own median
    distance: what they have learned to tell apart may tell these animals apart too.
    """
    dataset = str(photographs.table["dataset"].iloc[0])
    encoders = [dataset] if dataset in extractors.encoders else list(extractors.encoders) or [dataset]
    by_encoder = []
    for encoder in encoders:
        routed = replace(photographs, table=photographs.table.assign(dataset=encoder))
        by_encoder.append(extract_features(routed, extractors, "column", recipe, f"opening {dataset}"))
    problems = {
        name: one.problem for name, one in zip(photographs.image_ids, by_encoder[0], strict=True) if one.problem
    }
    readable = np.array([one.problem == "" for one in by_encoder[0]])
    table = photographs.table[readable]
    parts = [gallery_features(_chosen(features, readable), table) for features in by_encoder]
    vectors = parts[0].vectors if len(parts) == 1 else torch.cat([_in_medians(part.vectors) for part in parts], 1)
    return replace(parts[0], vectors=vectors), with_causes(photographs, problems)


def _chosen(features: Sequence[Features], mask: np.ndarray) -> list[Features]:
    return [one for one, chosen in zip(features, mask.tolist(), strict=True) if chosen]


def _in_medians(vectors: Tensor) -> Tensor:
    """Return vectors (N, D) in units of the median distance between any two of them, or of `SAMPLE` of them, which do
    not depend on the order of the rows."""
    ordered = vectors[np.lexsort(vectors.numpy().T[::-1])]
    sample = ordered[np.unique(np.linspace(0, max(0, len(ordered) - 1), SAMPLE).astype(int))[: len(ordered)]]
    apart = torch.pdist(sample)
    median = float(apart.median()) if len(apart) else 0.0
    return vectors / (median or 1.0)


class Known:
    """What the weights folder knows of each dataset's individuals, prepared when it is first asked for."""

    def __init__(self, weights: Weights, recipe: Recipe, cache: Cache | None) -> None:
        self.weights, self.recipe, self.cache = weights, recipe, cache
        self.calibrations = load_calibrations(weights) if weights.datasets else {}
        self._sources: dict[tuple[str, bool], Source | None] = {}

    def source(self, dataset: str, whole: bool) -> Source | None:
        """Return a dataset's reference photographs, compared as `whole` says (see `Pool.of`); None where it has none
        with two of one individual."""
        if (dataset, whole) not in self._sources:
            self._sources[dataset, whole] = self._open(dataset, whole) if dataset in self.weights.datasets else None
        return self._sources[dataset, whole]

    def every_source(self, whole: bool) -> list[Source]:
        """Return the reference photographs of all datasets that have any, likewise."""
        return [source for name in self.weights.datasets if (source := self.source(name, whole))]

    def matcher(self, dataset: str) -> LightGlue | None:
        """Return what matches the keypoints of a dataset's photographs; None for nearest neighbours."""
        if not self.recipe.uses_keypoints:
            return None
        features = self.weights.local_features  # of a dataset without a gallery those of the first, as in `_features`
        feature, *_ = features.get(dataset) or next(iter(features.values()))  # one alone, where there is a matcher
        return open_matcher(self.recipe.matching, self.weights.folder, feature.name)

    def _open(self, dataset: str, whole: bool) -> Source | None:
        if self.calibrations[dataset].unmatchable:
            return None
        reference = load_reference(self.weights.folder, dataset)
        if reference is None:
            raise InputError(
                f"{self.weights.folder}: expected {reference_file(dataset)}, the photographs on which the cut is "
                "fitted, found none: an earlier version made this folder. Run `reid calibrate DATA --weights "
                f"{self.weights.folder}` once"
            )
        if not reference.individuals:
            return None
        gallery = load_gallery(self.weights.folder / gallery_file(dataset), self.recipe).embeddings
        place = {image_id: row for row, image_id in reversed(list(enumerate(gallery.image_id)))}
        if gone := [image_id for image_id in reference.image_id if image_id not in place]:
            raise InputError(
                f"{self.weights.folder}: expected the photographs of {reference_file(dataset)} in its gallery, found "
                f"none of {first_of(gone)}: it was enrolled again since. Run `reid calibrate DATA --weights "
                f"{self.weights.folder}`"
            )
        chosen = gallery.of(np.array([place[image_id] for image_id in reference.image_id]))
        distances = reference.distances if self.recipe.uses_encoder else None
        matcher = self.matcher(dataset)
        pool = Pool.of(chosen, self.recipe, f"preparing {dataset}", distances, whole=whole, matcher=matcher)
        return Source(dataset, reference, pool)


class Fit(NamedTuple):
    """Pair score and cut for one dataset."""

    cut: FittedCut
    transform: Callable[[PhotographPairs], PhotographPairs]
    sources: tuple[Source, ...]
    """What they were fitted on; () where nothing could be."""
    by_value: bool = False
    """Whether they were fitted on the values of its own photographs, not on ranks."""


def fit_pair_score(dataset: str, live: PhotographPairs, known: Known) -> Fit:
    """Fit pair score and cut on the dataset's own photographs, or on ranks of all datasets', or take the kit's own.

    Args:
        dataset: whose photographs these are.
        live: their pairs.
        known: what the weights folder knows.
    """
    whole = compares_all(live.size, known.recipe)
    own = known.source(dataset, whole)
    if own and own.reference.individuals >= MIN_INDIVIDUALS:
        as_it_is = partial(PhotographPairs.with_features, names=_shared_features(live, [own]))
        if fitted := fit_cut([own], as_it_is(live), known.recipe.seed, as_it_is):
            return Fit(fitted, as_it_is, (own,), by_value=True)
    sources = known.every_source(whole)
    ranked = partial(rank_normalised, names=_shared_features(live, sources))
    if sources and (fitted := fit_cut(sources, ranked(live), known.recipe.seed, ranked)):
        return Fit(fitted, ranked, tuple(sources))
    return Fit(unfitted_cut(rank_normalised(live)), rank_normalised, ())


def _shared_features(live: PhotographPairs, sources: Sequence[Source]) -> tuple[str, ...]:
    """Return the features that a collection has in common with those of all sources: one may lack an encoder that
    tells animal from background, or any keypoint that it could weigh."""
    names = set(live.features)
    for source in sources:
        names &= set(source.pool.feature_names)
    return tuple(sorted(names))


class _Part(NamedTuple):
    """One dataset's answer."""

    rows: pd.DataFrame
    """image_id, dataset, cluster (a number), identity, probability and flags."""
    pairs: pd.DataFrame
    """See `Clusters.pairs`."""
    links: pd.DataFrame
    """See `Clusters.links`."""
    cut: Cut
    trials: tuple[Trial, ...]


def _discover(
    photographs: Catalogue, features: GalleryFeatures, problems: Mapping[str, str], known: Known, links: Links
) -> _Part:
    """Put one dataset's photographs together."""
    dataset = str(photographs.table["dataset"].iloc[0])
    kept = known.recipe.matching.neighbours + 1
    pool = Pool.of(features, known.recipe, f"comparing {dataset}", kept=kept, matcher=known.matcher(dataset))
    live = compare(pool, np.arange(len(features)))
    fit = fit_pair_score(dataset, live, known)
    dissimilarity = fit.cut.scorer.dissimilarity(fit.transform(live))
    linked = _links_of(photographs, features.image_id, links)
    pairs = np.stack([live.first, live.second], 1)
    tree = merge_tree(len(features), pairs, dissimilarity, linked.must, linked.cannot, cut=fit.cut.value)
    rows = pd.DataFrame({"image_id": features.image_id, "cluster": tree.labels()})
    unreadable = [name for name in photographs.image_ids if name in problems]
    alone = pd.DataFrame({"image_id": unreadable, "cluster": len(features) + np.arange(len(unreadable))})
    rows = pd.concat([rows, alone], ignore_index=True).astype({"cluster": int}).assign(dataset=dataset)
    rows["flags"] = _flags(rows, photographs, problems, linked.linked, fit)
    share_known = _name(rows, features, photographs, known, links)
    compared = _frame_of_pairs(dataset, features, pairs).assign(dissimilarity=dissimilarity)
    certain = [
        _frame_of_pairs(dataset, features, some).assign(answer=answer)
        for answer, some in (("same", linked.must), ("different", linked.cannot))
    ]
    cut = _cut(dataset, fit, share_known, (*_split_note(tree.split), *_side_notes(rows, photographs)))
    return _Part(rows, compared, pd.concat(certain, ignore_index=True), cut, fit.cut.trials)


def _frame_of_pairs(dataset: str, features: GalleryFeatures, pairs: np.ndarray) -> pd.DataFrame:
    """Return pairs of a dataset's photographs by image_id, from their rows (P, 2)."""
    ids = np.array(features.image_id, dtype=object)
    return pd.DataFrame({"dataset": dataset, "image_id_a": ids[pairs[:, 0]], "image_id_b": ids[pairs[:, 1]]})


def _links_of(photographs: Catalogue, image_ids: Sequence[str], links: Links) -> AppliedLinks:
    """Return the links among one dataset's photographs: those that are given, and that files of the same bytes, with
    the same box if any, show the same animal, where these do not say otherwise."""
    applied = apply_links({image_id: row for row, image_id in enumerate(image_ids)}, links)
    parts = dict(zip(photographs.image_ids, zip(photographs.paths, photographs.crops, strict=True), strict=True))
    digests = [f"{sha256_of(path)} {crop.box if crop else ''}" for path, crop in map(parts.__getitem__, image_ids)]
    _, first, inverse = np.unique(np.array(digests, dtype=str), return_index=True, return_inverse=True)
    copies = np.stack([first[inverse], np.arange(len(digests))], 1)
    return applied._replace(must=_joined_copies(applied, copies[copies[:, 0] != copies[:, 1]], len(digests)))


def _joined_copies(applied: AppliedLinks, copies: np.ndarray, size: int) -> np.ndarray:
    """Return the must-links of `size` photographs and those of the copies (C, 2) that no cannot-link keeps apart,
    directly or over others: (M, 2) int64."""
    graph = coo_array((np.ones(len(applied.must)), tuple(applied.must.T)), (size, size))
    groups = connected_components(graph, directed=False)[1] if size else np.zeros(0, int)
    joined = []
    for pair in copies:
        one, other = groups[pair]
        apart = np.sort(groups[applied.cannot], 1)
        if not (apart == sorted((one, other))).all(1).any():
            groups[groups == other] = one
            joined.append(pair)
    return np.concatenate([applied.must, np.array(joined, np.int64).reshape(-1, 2)])


def _flags(
    rows: pd.DataFrame,
    photographs: Catalogue,
    problems: Mapping[str, str],
    linked: np.ndarray,
    fit: Fit,
) -> list[str]:
    """Return the words of `CLUSTER_FLAGS` that hold for each photograph."""
    sizes = rows["cluster"].map(rows["cluster"].value_counts())
    sides = rows["image_id"].map(photographs.table.set_index("image_id")["orientation"])
    seen = sides[sides != ""].groupby(rows["cluster"]).nunique()
    one_side = (rows["cluster"].map(seen) == 1) & (sides.nunique() - ("" in set(sides)) > 1)
    holds = {
        "unreadable": rows["image_id"].isin(list(problems)),
        "alone": sizes == 1,
        "borrowed": pd.Series(bool(fit.sources) and not fit.by_value, rows.index),
        "unfitted": pd.Series(not fit.sources, rows.index),
        "linked": pd.Series(np.isin(np.arange(len(rows)), linked), rows.index),
        "one_side": one_side,
    }
    words = zip(*([word if held else "" for held in column] for word, column in holds.items()), strict=True)
    return [" ".join(filter(None, row)) for row in words]


def _name(
    rows: pd.DataFrame, features: GalleryFeatures, photographs: Catalogue, known: Known, links: Links
) -> float | None:
    """Write the columns identity and probability; return the estimated share of photographs whose animal is known."""
    attached, share_known = _attached(rows, features, photographs, known)
    attached |= {str(cluster): Attachment(name, 1.0) for cluster, name in _names_by_answers(rows, links).items()}
    answers = [attached.get(str(cluster), Attachment("", float("nan"))) for cluster in rows["cluster"]]
    rows["identity"], rows["probability"] = [list(column) for column in zip(*answers, strict=True)]
    return share_known


def _attached(
    rows: pd.DataFrame, features: GalleryFeatures, photographs: Catalogue, known: Known
) -> tuple[dict[str, Attachment], float | None]:
    """Return who each cluster is by the dataset's gallery, and the estimated share of photographs whose animal is in
    it; nobody and None where there is none that tells anybody apart."""
    dataset, table = str(photographs.table["dataset"].iloc[0]), photographs.table
    calibration = known.calibrations.get(dataset)
    if calibration is None or calibration.unmatchable or not len(features):
        return {}, None
    weights, recipe = known.weights, known.recipe
    candidates = match_cached(features, dataset, weights, calibration, recipe, known.cache, CANDIDATES)
    clusters = rows.set_index("image_id")["cluster"].astype(str)
    is_probability = calibration.scorer.gives_probability
    shared: dict[str, str] = {}
    if most_neighbours(table):
        shared = dict(zip(table["image_id"], photograph_keys(table), strict=True))
        candidates = keep_apart(candidates, table, dict.fromkeys(shared, dataset), {}, CANDIDATES)
    attached = attach(candidates, clusters, calibration.threshold.value, is_probability, photographs=shared)
    best = candidates[candidates["rank"] == 1]["dissimilarity"].to_numpy(float)
    share_new = fit_mixture(best, calibration)[1]
    return attached, None if share_new is None else 1 - share_new


def _names_by_answers(rows: pd.DataFrame, links: Links) -> dict[int, str]:
    """Return the individuals that a person has said clusters to be."""
    pairs = zip(rows["cluster"], map(links.identity_of, rows["image_id"]), strict=True)
    return {int(cluster): name for cluster, name in pairs if name}


def _cut(dataset: str, fit: Fit, share_known: float | None, notes: Sequence[str]) -> Cut:
    cut, names = fit.cut, tuple(source.dataset for source in fit.sources)
    measured = len(cut.scores) > 0
    return Cut(
        dataset=dataset,
        value=cut.value,
        plateau=cut.plateau,
        score=float(cut.scores.mean()) if measured else None,
        interval=tuple(np.quantile(cut.scores, [0.05, 0.95]).tolist()) if measured else None,
        companions=cut.companions,
        fitted_companions=cut.fitted_companions,
        share_known=share_known,
        individuals=sum(source.reference.individuals for source in fit.sources),
        photographs=sum(len(source.reference) for source in fit.sources),
        scorer=cut.scorer.kind,
        borrowed=() if fit.by_value else names,
        notes=tuple(notes),
    )


def _split_note(split: SplitParts) -> list[str]:
    """Say what was given up because so many photographs hang together."""
    if not split.parts:
        return []
    return [
        f"{split.photographs} photographs that hang together were cut at their weakest pairs into {split.pieces} "
        f"pieces, because so many can't be put together at once: {split.pairs} pairs below the cut join nothing"
    ]


def _side_notes(rows: pd.DataFrame, photographs: Catalogue) -> list[str]:
    """Say, per side, how many clusters there are, where an animal may be in several."""
    sides = rows["image_id"].map(photographs.table.set_index("image_id")["orientation"])
    by_cluster = sides[sides != ""].groupby(rows["cluster"]).unique()
    names = sorted(set(sides) - {""})
    if len(names) < 2:
        return []
    alone = {name: sum(list(seen) == [name] for seen in by_cluster) for name in names}
    several = sum(len(seen) > 1 for seen in by_cluster)
    counted = ", ".join(f"{count} show only {name}" for name, count in alone.items())
    return [
        "an animal may be in several clusters, one per side, where no photograph links its sides: "
        f"{counted}, {several} show several sides"
    ]


def _refuse_unreadable(queries: Catalogue, parts: Sequence[_Part]) -> None:
    """Refuse photographs of which none can be read."""
    rows = pd.concat([part.rows for part in parts])
    if (rows["flags"].str.split().map(lambda words: "unreadable" in words)).all():
        raise InputError(
            f"{queries.root / 'metadata.csv'}: expected photographs to put together, but none of {len(rows)} can be "
            f"read; `reid check {queries.root}` says why"
        )


def _joined(
    queries: Catalogue, parts: Sequence[_Part], earlier: pd.DataFrame | None, datasets: Mapping[str, str]
) -> Clusters:
    """Return all datasets' answers as one, in the order of the submission. Labels name the datasets as the table does,
    by image_id in `datasets`, also where `data.join_names` reads two spellings as one: checks and scores go by it."""
    rows = pd.concat([part.rows for part in parts]).set_index("image_id").loc[queries.image_ids].reset_index()
    rows["cluster"] = keep_labels(
        earlier, rows["image_id"].tolist(), rows["cluster"].tolist(), rows["image_id"].map(datasets).tolist()
    )
    pairs, links = (
        pd.concat(some, ignore_index=True) for some in zip(*((p.pairs, p.links) for p in parts), strict=True)
    )
    cuts = {part.cut.dataset: part.cut for part in parts}
    trials = {part.cut.dataset: part.trials for part in parts}
    return Clusters(rows[list(CLUSTERS_COLUMNS)], pairs, cuts, links, trials)
