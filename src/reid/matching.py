"""Matching: queries beside the individuals of a gallery, by every cue that the recipe asks for; and what the database
says of the cues, when its own photographs are the queries.

    queries, gallery -> shortlist (nearest by embedding and by shared descriptors) -> verified -> pairs -> doubts
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from reid import InputError
from reid.calibration import Calibration, calibration_from, fit_calibrations
from reid.catalogue import Catalogue
from reid.files import read_json, write_json
from reid.fusion import Pairs, best_pairs
from reid.gallery import Embeddings, Gallery, load_gallery
from reid.images import thumbnails
from reid.keypoints import Descriptors, Keypoints, Matching, focused, lnbnn, stack, strongest, verify
from reid.losses import pairwise_distances
from reid.networks import best_device, read_plan
from reid.progress import track
from reid.questions import Asked, HeldOut, Questions, choose_asked, join_questions, near_duplicates
from reid.recipe import Recipe
from reid.search import nearest
from reid.weights import CALIBRATION, Weights, encoder_file, fold_folder, gallery_file

__all__ = ["Shelf", "ask", "calibrate", "compare", "load_calibrations", "match", "questions_of"]

BLOCK = 16
"""Queries compared at a time: a progress bar moves, and the scores of a whole gallery of 100,000 photographs for so
many queries take 6 MB."""

POWER = 2.0
"""A vote between keypoints on the animal counts both weights to this power. On nyala in the bush the same votes reached
a score of 0.10, 0.21 and 0.27 with powers 0, 1 and 2 (best threshold in hindsight; benchmarks/README.md)."""

COHORT = 300
"""Individuals, one photograph each, that say how near to everybody another is."""


def match(
    queries: Embeddings, gallery: Gallery, dataset: str, calibration: Calibration, recipe: Recipe
) -> pd.DataFrame:
    """The least doubtful individual of each query and the runner-up.

    Args:
        queries: photographs of one dataset.
        gallery: its known photographs.
        dataset: its name, for the table.
        calibration: its scorer.
        recipe: the cues and how they are found.

    Returns:
        One row per query: image_id, dataset, identity, distance (the scorer's doubt), photograph (the image_id of the
        individual's photograph that speaks most for it), runner_up (the next individual, "" when there is none) and
        runner_up_distance (inf then).
    """
    pairs = compare(queries, gallery, recipe, what=f"matching {dataset}").scaled(calibration.unit)
    doubts = calibration.scorer.doubts(pairs)
    first, second = best_pairs(pairs.query, doubts, len(queries))
    # place -1, where there is no pair, is the last of each
    names = np.array([*gallery.individuals[pairs.individual], ""], object)
    photographs = np.array([*np.array(gallery.embeddings.image_id, object)[pairs.photograph], ""], object)
    far = np.append(doubts, np.inf)
    return pd.DataFrame(
        {
            "image_id": list(queries.image_id),
            "dataset": dataset,
            "identity": names[first],
            "distance": far[first],
            "photograph": photographs[first],
            "runner_up": names[second],
            "runner_up_distance": far[second],
        }
    )


def calibrate(catalogue: Catalogue, folder: Path, datasets: Sequence[str], recipe: Recipe) -> dict[str, Calibration]:
    """Fits every dataset's scorer and threshold on its gallery and writes `calibration.json`."""
    questions = {dataset: questions_of(catalogue, folder, dataset, recipe) for dataset in datasets}
    calibrations = fit_calibrations(questions, recipe)
    write_json(folder / CALIBRATION, {dataset: asdict(calibration) for dataset, calibration in calibrations.items()})
    return calibrations


def questions_of(catalogue: Catalogue, folder: Path, dataset: str, recipe: Recipe) -> Questions:
    """One dataset's pseudo-queries, in their units, by the encoder of every fold that the weights folder holds.

    Only photographs that an encoder has not learned from are asked for; without an encoder, any.
    """
    folders = [fold_folder(folder, fold) for fold in range(recipe.folds)]
    folders = [path for path in folders if (path / gallery_file(dataset)).exists()]
    gallery = load_gallery(folders[0] / gallery_file(dataset))
    labels, image_ids = np.array(gallery.identity), np.array(gallery.embeddings.image_id)
    del gallery  # a gallery with keypoints may take a gigabyte: one at a time
    _check_enrolled(catalogue, image_ids, dataset)
    held_out = _held_out([path / encoder_file(dataset) for path in folders], labels, image_ids, recipe)
    rows = catalogue.database.table.set_index("image_id").reindex(image_ids).fillna("")
    photographs = Catalogue(catalogue.root, rows.reset_index(names="image_id"))
    days, duplicates = rows["day"].to_numpy(str), near_duplicates(thumbnails(photographs.paths))
    sides = rows["orientation"].to_numpy(str)
    fold_recipe = replace(recipe, pseudo_queries=-(-recipe.pseudo_queries // len(folders)))
    ever = np.any([unseen.either for unseen in held_out], axis=0)
    questions = []
    for folder_of_fold, unseen in zip(folders, held_out, strict=True):
        asked = choose_asked(labels, days, duplicates, unseen, fold_recipe, sides, ever)
        questions.append(ask(load_gallery(folder_of_fold / gallery_file(dataset)), asked, dataset, recipe).in_units())
    return join_questions(questions)


def _check_enrolled(catalogue: Catalogue, image_ids: np.ndarray, dataset: str) -> None:
    """Refuses a folder that does not know the gallery's photographs: without their dates and sides, and without the
    photographs themselves, nothing would keep pseudo-queries from what gives the answer away."""
    strange = image_ids[~np.isin(image_ids, catalogue.database.image_ids)]
    if len(strange):
        raise InputError(
            f"{catalogue.root / 'metadata.csv'}: expected database rows for the {len(image_ids)} photographs of the "
            f"gallery of {dataset}, found none for {len(strange)} of them, such as {strange[0]}; name the folder that "
            "was enrolled, or `python -m reid enroll` this one first"
        )


def _held_out(encoders: list[Path], labels: np.ndarray, image_ids: np.ndarray, recipe: Recipe) -> list[HeldOut]:
    """What each fold's encoder has not learned from and is to be asked for, over all folds each photograph once.

    Args:
        encoders: a file for each fold.
        labels, image_ids: (N,) str, of the gallery.
        recipe: `cues`.
    """
    original = ~pd.Series(image_ids).duplicated().to_numpy()  # a mirror image is not asked for
    if "encoder" not in recipe.cues:
        return [HeldOut(individuals=original, photographs=np.zeros(len(labels), bool))]
    learned = [np.isin(image_ids, read_plan(encoder).trained_on) for encoder in encoders]
    unseen = np.stack([~np.isin(labels, labels[mask]) for mask in learned])  # (folds, N)
    # where an individual is held out as a whole it is asked for as such; its single photographs in the fold after
    turn = np.argmax(unseen, axis=0)
    strangers = unseen.all(0)  # enrolled after the training; they take turns
    turn[strangers] = np.unique(labels, return_inverse=True)[1][strangers] % len(encoders)
    return [
        HeldOut(
            individuals=unseen[fold] & original & (turn == fold),
            photographs=~unseen[fold] & ~learned[fold] & original & ((turn + 1) % len(encoders) == fold),
        )
        for fold in range(len(encoders))
    ]


def load_calibrations(weights: Weights) -> dict[str, Calibration]:
    """Scorers and thresholds by dataset.

    Raises:
        InputError: the file is damaged.
    """
    path = weights.folder / CALIBRATION
    try:
        return {dataset: calibration_from(stored) for dataset, stored in read_json(path).items()}
    except (TypeError, KeyError, AttributeError, ValueError) as problem:
        raise InputError(f"{path}: it is damaged ({problem}); run `python -m reid calibrate`") from None


def ask(gallery: Gallery, asked: Asked, dataset: str, recipe: Recipe) -> Questions:
    """Database photographs beside the gallery, once as known and once as new.

    Args:
        gallery: one dataset's.
        asked: which of its photographs, and what is hidden from them.
        dataset: its name, for the progress.
        recipe: the cues and how they are found.
    """
    labels, names = gallery.labels, np.array(gallery.identity)
    same_individual = labels[asked.places][:, None] == labels  # (A, N)
    # a photograph's two roles one after the other: they are compared in one go
    row = np.concatenate([np.flatnonzero(asked.known), np.flatnonzero(asked.new)])
    new = np.repeat([False, True], [asked.known.sum(), asked.new.sum()])
    order = np.argsort(row, kind="stable")
    row, new = row[order], new[order]
    place, hidden = asked.places[row], asked.hidden[row] | (same_individual[row] & new[:, None])
    pairs = compare(gallery.embeddings.of(place), gallery, recipe, hidden, f"asking {dataset} for its own photographs")
    return Questions(
        individual=names[place],
        new=new,
        pairs=pairs,
        right=pairs.individual == labels[place][pairs.query],
        notes=asked.notes,
    )


def compare(
    queries: Embeddings, gallery: Gallery, recipe: Recipe, hidden: np.ndarray | None = None, what: str = "matching"
) -> Pairs:
    """Every query beside the individuals of its shortlist.

    Args:
        queries: Q photographs.
        gallery: N photographs.
        recipe: `cues`, `scorers`, `shortlist`, `whole_gallery`, `verified`, `local_best` and the settings of matching.
        hidden: (Q, N) bool, gallery photographs that are not there for a query.
        what: the work in a few words, for the progress.

    Returns:
        The pairs; a query from which everything is hidden has none.
    """
    shelf = Shelf.of(gallery, recipe)
    pairs = []
    for start in track(range(0, max(1, len(queries)), BLOCK), what):
        rows = np.arange(start, min(start + BLOCK, len(queries)))
        block, unseen = queries.of(rows), None if hidden is None else hidden[rows]
        shortlist = _shortlist(block, shelf, unseen, recipe)
        pairs.append(_pairs(shortlist, block, shelf, recipe).numbered_from(start))
    return Pairs.joined(pairs)


@dataclass(frozen=True)
class Shelf:
    """A gallery made ready to be compared with.

    Attributes:
        gallery: its photographs.
        labels: (N,) int64, their individuals.
        order, starts: the photographs by individual, (N,) int64, and where each individual's begin, (L,).
        sights: the sets of keypoints that are matched, by the cue that their votes are: "local" for the strongest,
            "focused" for those on the animal, where the encoder can tell; (N,) each.
        whole: likewise all descriptors, where queries are matched against the whole gallery; empty where they are not.
        usual: (L, 2) float64, mean and deviation of how far other individuals' photographs are from each.
        device: where vectors and descriptors are compared.
    """

    gallery: Embeddings
    labels: np.ndarray
    order: np.ndarray
    starts: np.ndarray
    sights: dict[str, tuple[Keypoints, ...]]
    whole: dict[str, Descriptors]
    usual: np.ndarray | None
    device: torch.device

    @classmethod
    def of(cls, gallery: Gallery, recipe: Recipe) -> "Shelf":
        labels, photographs = gallery.labels, gallery.embeddings
        order = np.argsort(labels, kind="stable")
        starts = np.searchsorted(labels[order], np.arange(len(gallery.individuals)))
        sights = _sights(photographs, recipe) if "local" in recipe.cues else {}
        weights = [keypoints.weights for keypoints in photographs.keypoints if len(keypoints)]
        if weights and not any((values < 1).any() for values in weights):
            sights.pop("focused", None)
        searched = "encoder" not in recipe.cues or len(photographs) <= recipe.whole_gallery
        whole = {cue: _stacked(cue, keypoints, recipe) for cue, keypoints in sights.items()} if searched else {}
        shelf = cls(photographs, labels, order, starts, sights, whole, None, best_device())
        fused = "encoder" in recipe.cues and {"logistic", "boosted"} & set(recipe.scorers)
        return replace(shelf, usual=_usual_distances(shelf)) if fused else shelf

    def per_individual(self, values: np.ndarray, of: np.ufunc) -> np.ndarray:
        """(q, N) to (q, L): what `of` makes of each individual's photographs."""
        reduced: np.ndarray = of.reduceat(values[:, self.order], self.starts, axis=1)
        return reduced


def _sights(photographs: Embeddings, recipe: Recipe) -> dict[str, tuple[Keypoints, ...]]:
    """See `Shelf.sights`."""
    return {
        "local": tuple(strongest(keypoints, recipe.keypoint_count) for keypoints in photographs.keypoints),
        "focused": tuple(focused(keypoints, recipe.focus) for keypoints in photographs.keypoints),
    }


def _stacked(cue: str, photographs: Sequence[Keypoints], recipe: Recipe) -> Descriptors:
    return stack(photographs, recipe.centre_spread or math.inf, POWER if cue == "focused" else 0)


def _usual_distances(shelf: Shelf) -> np.ndarray:
    """See `Shelf.usual`: cohort normalisation, as for speakers (Auckenthaler et al. 2000), against individuals whose
    many photographs make them near to everybody."""
    one_each = shelf.order[shelf.starts]
    cohort = one_each[np.unique(np.linspace(0, len(one_each) - 1, COHORT).astype(int))]
    total, squares, count = (np.zeros(len(shelf.starts)) for _ in range(3))
    for block in np.array_split(cohort, -(-len(cohort) // BLOCK)):
        far = pairwise_distances(shelf.gallery.vectors[block], shelf.gallery.vectors).double().numpy()
        near = shelf.per_individual(far, np.minimum)  # (c, L)
        others = shelf.labels[block][:, None] != np.arange(near.shape[1])
        total += (near * others).sum(0)
        squares += (near**2 * others).sum(0)
        count += others.sum(0)
    mean = total / np.maximum(count, 1)
    deviation = np.sqrt(np.maximum(squares / np.maximum(count, 1) - mean**2, 0))
    return np.stack([mean, np.where(deviation > 1e-6, deviation, 1)], 1)


class Shortlist(NamedTuple):
    """Queries beside the gallery photographs that they are compared with closely."""

    query: np.ndarray
    """(S,) int64, ascending."""
    place: np.ndarray
    """(S,) int64, of the photograph in the gallery; ascending within a query."""
    distance: np.ndarray | None
    """(S,) float32, Euclidean; None without an encoder."""
    local: dict[str, np.ndarray]
    """(S,) float32, LNBNN of each of the `Shelf.sights`."""
    inliers: dict[str, np.ndarray]
    """(S,) float64, likewise; 0 for a photograph that was not verified."""


def _shortlist(block: Embeddings, shelf: Shelf, hidden: np.ndarray | None, recipe: Recipe) -> Shortlist:
    """The nearest photographs by each cue that can search, and what the other cues say of them."""
    unseen = None if hidden is None else torch.from_numpy(hidden)
    listed, votes = [np.zeros(0, np.int64)], {}
    if "encoder" in recipe.cues:
        vectors, gallery = block.vectors, shelf.gallery.vectors
        for near in nearest(vectors, gallery, recipe.shortlist, unseen, device=shelf.device):
            listed.append(_cells(near.place.numpy(), torch.isfinite(near.distance).numpy(), near.rows.start, shelf))
    sights = {cue: keypoints for cue, keypoints in _sights(block, recipe).items() if cue in shelf.sights}
    _, first, about = np.unique(np.array(block.image_id), return_index=True, return_inverse=True)
    for cue, whole in shelf.whole.items():
        stacked = _stacked(cue, [sights[cue][place] for place in first], recipe)
        votes[cue] = lnbnn(
            stacked, whole, None, recipe.neighbours, unseen, torch.from_numpy(about), shelf.device
        ).numpy()
        best = np.argsort(-votes[cue], axis=1, kind="stable")[:, : recipe.shortlist]
        visible = np.ones(best.shape, bool) if hidden is None else ~np.take_along_axis(hidden, best, 1)
        listed.append(_cells(best, visible, 0, shelf))
    query, place = np.divmod(np.unique(np.concatenate(listed)), len(shelf.labels))
    distance, local, inliers = None, {}, {}
    if "encoder" in recipe.cues:
        distance = (block.vectors[query] - shelf.gallery.vectors[place]).norm(dim=1).numpy()
    for cue, asked in sights.items():
        local[cue] = votes[cue][query, place] if cue in votes else _voted(cue, asked, shelf, query, place, recipe)
        photographs = [asked[number] for number in first]
        inliers[cue] = _verified(cue, photographs, about[query], shelf, query, place, local[cue], recipe)
    return Shortlist(query, place, distance, local, inliers)


def _cells(places: np.ndarray, valid: np.ndarray, first: int, shelf: Shelf) -> np.ndarray:
    """(C,) int64, query x N + place, of the places (q, B) that are valid; the first row is query number `first`."""
    rows = np.arange(first, first + len(places))[:, None]
    cells: np.ndarray = (rows * len(shelf.labels) + places)[valid]
    return cells


def _voted(
    cue: str, asked: Sequence[Keypoints], shelf: Shelf, query: np.ndarray, place: np.ndarray, recipe: Recipe
) -> np.ndarray:
    """(S,) float32, LNBNN among each query's own shortlist."""
    votes = np.zeros(len(query), np.float32)
    for number, keypoints in enumerate(asked):
        rows = np.flatnonzero(query == number)
        candidates = _stacked(cue, [shelf.sights[cue][photograph] for photograph in place[rows]], recipe)
        descriptors = _stacked(cue, [keypoints], recipe)
        votes[rows] = lnbnn(descriptors, candidates, k=recipe.neighbours, device=shelf.device)[0].numpy()
    return votes


def _verified(
    cue: str,
    photographs: Sequence[Keypoints],
    about: np.ndarray,
    shelf: Shelf,
    query: np.ndarray,
    place: np.ndarray,
    votes: np.ndarray,
    recipe: Recipe,
) -> np.ndarray:
    """(S,) float64, the inliers of each query's `verified` photographs with the most votes.

    Two photographs are compared once, however many queries are `about` (S,) the first.
    """
    inliers = np.zeros(len(query))
    order = np.lexsort((-votes, query))
    rank = np.arange(len(order)) - np.searchsorted(query, query)
    chosen = order[rank < recipe.verified]
    pairs, which = np.unique(about[chosen] * len(shelf.labels) + place[chosen], return_inverse=True)
    asked, known = np.divmod(pairs, len(shelf.labels))
    matching = Matching(recipe.match_ratio, recipe.match_model, recipe.match_tolerance)
    shortlists = [known[asked == photograph] for photograph in range(len(photographs))]
    compared = verify(photographs, shelf.sights[cue], shortlists, matching, shelf.device)
    inliers[chosen] = np.array([verified.inliers for row in compared for verified in row], float)[which]
    return inliers


def _pairs(shortlist: Shortlist, block: Embeddings, shelf: Shelf, recipe: Recipe) -> Pairs:
    """The shortlist's photographs by individual: the best of each speaks for it."""
    label = shelf.labels[shortlist.place]
    distance = np.zeros(len(label)) if shortlist.distance is None else shortlist.distance
    votes = sum(shortlist.local.values(), np.zeros(len(label)))
    order = np.lexsort((distance, -votes, label, shortlist.query))
    query, label, place = shortlist.query[order], label[order], shortlist.place[order]
    starts = np.flatnonzero(np.diff(query * len(shelf.starts) + label, prepend=-1))
    pair_query, individual = query[starts], label[starts]
    asked, known = (np.array(seen.orientation or [""] * len(seen)) for seen in (block, shelf.gallery))
    sides = known[place[starts]], asked[pair_query]
    both_known = (sides[0] != "") & (sides[1] != "")
    features = {
        # all of them, also those that are hidden from a pseudo-query: else few of them would tell the right individual
        "photographs": np.bincount(shelf.labels)[individual].astype(float),
        "same side": (both_known & (sides[0] == sides[1])).astype(float),
        "other side": (both_known & (sides[0] != sides[1])).astype(float),
    }
    if shortlist.distance is not None:
        features["distance"] = np.minimum.reduceat(distance[order].astype(float), starts)
        if shelf.usual is not None:
            mean, deviation = shelf.usual[individual].T
            features["cohort"] = (features["distance"] - mean) / deviation
    sizes = np.diff(starts, append=len(order))
    for cue, local in shortlist.local.items():
        best = order[np.lexsort((-local[order], np.repeat(np.arange(len(starts)), sizes)))]
        counted = np.arange(len(order)) - np.repeat(starts, sizes) < recipe.local_best
        total = np.add.reduceat(np.where(counted, local[best], 0).astype(float), starts)
        features[cue] = total / np.minimum(sizes, recipe.local_best)
        inliers = "inliers" if cue == "local" else f"{cue}_inliers"
        features[inliers] = np.maximum.reduceat(shortlist.inliers[cue][order], starts)
    return Pairs(pair_query, individual, place[starts], features)
