"""Review: from a data folder and its weights to a page of questions, and how many of them there are."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from reid.config.recipe import Recipe
from reid.config.runtime import Runtime
from reid.data.catalogue import Catalogue
from reid.data.competition import find_competition, refuse_hand_labels
from reid.data.names import resolve_names
from reid.decision.answers import PAIRS, Answer, read_pairs
from reid.decision.artifact import Weights, gallery_file
from reid.decision.discover import discover
from reid.decision.predict import predict
from reid.errors import InputError
from reid.retrieval.cache import Cache
from reid.retrieval.gallery import gallery_names
from reid.review.choices import MODES
from reid.review.collection import collection_of
from reid.review.known import known_photographs
from reid.review.page import write_review
from reid.review.questions import (
    Question,
    arranged,
    ask_about_clusters,
    ask_about_individuals,
    ask_about_names,
    draw_evenly,
    names_of_clusters,
)
from reid.runtime.files import is_file

__all__ = ["Review", "find_questions", "make_review"]

OF_QUERIES = ("clusters", "names")
"""The modes that ask about queries."""


@dataclass(frozen=True)
class Review:
    """What a page asks.

    Attributes:
        page: the file.
        questions: in the order in which they are asked.
    """

    page: Path
    questions: tuple[Question, ...]


def make_review(
    catalogue: Catalogue,
    weights: Weights,
    out: Path,
    modes: Sequence[str] = ("clusters",),
    most: int = 100,
    drawn: int = 20,
    individuals: Sequence[str] = (),
    recipe: Recipe | None = None,
    runtime: Runtime | None = None,
    pairs_file: Path | None = None,
) -> Review:
    """Write a page that asks a person about the pairs of photographs whose answers would change most.

    Args:
        catalogue: the data folder.
        weights: networks, galleries, reference photographs and thresholds.
        out: the folder of the page.
        modes: keys of `MODES`.
        most: pairs that are proposed.
        drawn: pairs that are drawn evenly besides; only of clusters.
        individuals: of the modes about the database, only these; () for all.
        recipe, runtime: see `discover`.
        pairs_file: what people said already; None for `pairs.csv` in the data folder, if it is there.

    Raises:
        InputError: a competition's queries; nothing to ask; see `discover` and `predict`.
    """
    recipe = recipe or weights.recipe
    questions = find_questions(
        catalogue, weights, modes, most, drawn, individuals, recipe, runtime or Runtime(), pairs_file
    )
    if not questions:
        raise InputError(
            f"{catalogue.root}: expected pairs to ask about, found none that is not answered; add photographs, or ask "
            f"about something else with --mode {', '.join(mode for mode in MODES if mode not in modes)}"
        )
    return Review(write_review(catalogue, questions, out, recipe), tuple(questions))


def find_questions(
    catalogue: Catalogue,
    weights: Weights,
    modes: Sequence[str],
    most: int,
    drawn: int,
    individuals: Sequence[str],
    recipe: Recipe,
    runtime: Runtime,
    pairs_file: Path | None,
) -> list[Question]:
    """Return the questions of a page, in the order in which they are asked; see `make_review`."""
    if set(modes) & set(OF_QUERIES):
        advice = "Ask about the database alone, with --mode stranger, split or merge"
        refuse_hand_labels(catalogue, catalogue.query.image_ids, "reid review", advice)
    individuals = _enrolled(catalogue, weights, individuals)
    answers = _answers(catalogue, pairs_file)
    answered = {answer.pair for answer in answers}
    proposed: list[Question] = []
    evenly: list[Question] = []
    if "clusters" in modes:
        clusters = discover(catalogue, weights, recipe, runtime=runtime, links_file=pairs_file)
        collections = [collection_of(clusters, dataset) for dataset in clusters.cuts]
        called = names_of_clusters(clusters)
        proposed += ask_about_clusters(collections, called, answered, most)
        evenly = draw_evenly(collections, called, answered, drawn, recipe.seed)
    if "names" in modes:
        matches = predict(resolve_names(catalogue, recipe, weights.datasets), weights, recipe, runtime=runtime)
        proposed += ask_about_names(matches, _photographs_by_name(catalogue), answered, most)
    if about := [mode for mode in modes if mode not in OF_QUERIES]:
        shown = catalogue.database if find_competition(catalogue.root) else catalogue
        apart = {*_on_one_photograph(shown), *(one.pair for one in answers if one.answer == "different")}
        for collection, names in known_photographs(weights, recipe, set(shown.image_ids), apart, Cache(weights.folder)):
            proposed += ask_about_individuals(collection, names, about, answered, most, individuals)
    there = set(catalogue.image_ids)
    proposed = [question for question in proposed if set(question.pair) <= there]
    return arranged(sorted(proposed, key=lambda question: -question.change)[:most], evenly)


def _enrolled(catalogue: Catalogue, weights: Weights, individuals: Sequence[str]) -> list[str]:
    """Return individuals as the galleries call them, which may know clusters too, and others by an earlier name."""
    known = catalogue.database.table
    galleries = [gallery_names(weights.folder / gallery_file(dataset)) for dataset in weights.datasets]
    names = {image_id: name for gallery in galleries for image_id, name in gallery.items()}
    if unknown := [name for name in individuals if name not in {*known["identity"], *names.values()}]:
        raise InputError(
            f"--individual: expected individuals of the database, found {', '.join(map(repr, unknown))}; write the "
            "name as metadata.csv does"
        )
    rows = known["image_id"][known["identity"].isin(individuals)]
    return sorted({*individuals, *(names[image_id] for image_id in rows if image_id in names)})


def _answers(catalogue: Catalogue, pairs_file: Path | None) -> list[Answer]:
    path = pairs_file or catalogue.root / PAIRS
    if not (pairs_file or is_file(path)):
        return []
    datasets = dict(zip(catalogue.image_ids, catalogue.table["dataset"], strict=True))
    return read_pairs(path, datasets)


def _on_one_photograph(catalogue: Catalogue) -> Iterator[tuple[str, str]]:
    """Yield every two rows that share a photograph: animals that stand beside each other."""
    for _, image_ids in catalogue.table.groupby("path")["image_id"]:
        yield from combinations(sorted(image_ids), 2)


def _photographs_by_name(catalogue: Catalogue) -> dict[str, list[str]]:
    known = catalogue.database.table
    return {str(name): list(rows) for name, rows in known.groupby("identity")["image_id"]}
