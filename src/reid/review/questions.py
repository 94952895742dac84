"""Questions to a person: pairs of photographs, those first whose answers would change most.

A question is about a decision on two groups of photographs, such as two clusters that were kept apart, and shows the
two photographs, one of each group, that are most alike. How much its answer is expected to change is the chance that
the decision is wrong, times the geometric mean of the groups' sizes, per photograph of the dataset. Sizes count no
more than that because large groups are rarely of one animal alone, so that one answer seldom settles all of their pairs
(benchmarks/README.md). For groups that were kept apart to be one, they must be alike as a whole, and the two
photographs that are shown must be, too.

Besides these, some pairs are drawn evenly from each photograph's nearest: their answers say how often the kit is right,
which those of the doubtful ones do not.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Collection as Container
from dataclasses import dataclass

import numpy as np
import pandas as pd

from reid.data.catalogue import NEW_INDIVIDUAL
from reid.decision.discovered import Clusters
from reid.decision.linkage import merge_tree
from reid.decision.matches import Matches
from reid.review.collection import Collection, Decision, chance_same

__all__ = [
    "Pairs",
    "Question",
    "arranged",
    "ask_about_clusters",
    "ask_about_individuals",
    "ask_about_names",
    "draw_evenly",
    "names_of_clusters",
]

Pairs = Container[tuple[str, str]]
"""Pairs of image_ids, each in alphabetical order."""


@dataclass(frozen=True)
class Question:
    """Do two photographs show the same animal?

    Attributes:
        mode: a key of `MODES`.
        dataset: the photographs'.
        pair: their image_ids.
        names: what either is called: a cluster, an individual, or "".
        others: other photographs of either's group, those first that are most like the other group.
        change: how many photographs the answer is expected to move, per photograph of the dataset.
        size: how many pairs depend on it.
        drawn: "evenly drawn: 20 of 314" where it was, else "".
    """

    mode: str
    dataset: str
    pair: tuple[str, str]
    names: tuple[str, str]
    others: tuple[tuple[str, ...], tuple[str, ...]]
    change: float
    size: int
    drawn: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """The pair, in alphabetical order."""
        first, second = sorted(self.pair)
        return first, second


def ask_about_clusters(
    collections: Iterable[Collection], called: Mapping[str, str], answered: Pairs, most: int
) -> list[Question]:
    """Return the questions whose answers would change the clusters most, the most first.

    Args:
        collections: the unknown photographs of each dataset.
        called: by image_id, what its cluster is called.
        answered: pairs that nobody need be asked about.
        most: how many.
    """
    questions: list[Question] = []
    for collection in collections:
        decisions = [*collection.joins(), *collection.apart(collection.labels)]
        questions += _ask(collection, decisions, "clusters", called, answered, most)
    return _first(questions, most)


def names_of_clusters(clusters: Clusters) -> dict[str, str]:
    """Return by image_id what its cluster is called, and who it may be."""
    table = clusters.photographs
    return {
        str(image_id): f"cluster {str(cluster).rpartition('_')[2]}{f', perhaps {identity}' if identity else ''}"
        for image_id, cluster, identity in zip(table["image_id"], table["cluster"], table["identity"], strict=True)
    }


def _ask(
    collection: Collection,
    decisions: Iterable[Decision],
    mode: str,
    called: Mapping[str, str],
    answered: Pairs,
    most: int,
) -> list[Question]:
    """Return a question about each of the decisions that may change most."""
    ranked = sorted(decisions, key=lambda decision: -_expected(collection, decision))
    taken: set[tuple[str, str]] = set()
    questions: list[Question] = []
    for decision in ranked:
        if len(questions) == most:
            break
        if (pair := _most_alike(collection, decision, lambda key: key in answered or key in taken)) is not None:
            others = tuple(
                tuple(image_id for image_id in group if image_id != own)
                for group, own in zip(_by_likeness(collection, decision), pair, strict=True)
            )
            change = _expected(collection, decision)
            names = called[pair[0]], called[pair[1]]
            question = Question(mode, collection.dataset, pair, names, (others[0], others[1]), change, decision.size)
            taken.add(question.key)
            questions.append(question)
    return questions


JOINED_COUNTS = 0.5
"""What a doubtful join counts for each pair of groups that were kept apart: who splits a cluster at one place does not
know yet where its photographs belong. Of 0, 0.25, 0.5, 1 and 2 it is the best (benchmarks/README.md)."""


def _expected(collection: Collection, decision: Decision) -> float:
    """Return how many photographs the answer is expected to move, per photograph of the dataset."""
    same = chance_same(decision.dissimilarity, collection.cut)
    # doubled: at the cut, where `same` is one half, the chance of the two photographs alone counts
    wrong = JOINED_COUNTS * (1 - same) if decision.joined else 2 * same * (1 - decision.nearest)
    return wrong * math.sqrt(decision.size) / len(collection)


MOST_COMPARED = 500
"""Photographs of a group among which those to be shown are looked for."""


def _most_alike(
    collection: Collection, decision: Decision, is_taken: Callable[[tuple[str, str]], bool]
) -> tuple[str, str] | None:
    """Return the two photographs, one of each group, that are most alike and were not asked about; None where no others
    were compared."""
    one, other = (group[:MOST_COMPARED] for group in decision.groups)
    between = collection.similarity[one][:, other].toarray()
    for place in np.argsort(-between, axis=None, kind="stable"):
        row, column = divmod(int(place), len(other))
        if between[row, column] <= 0:
            break
        pair = str(collection.image_ids[one[row]]), str(collection.image_ids[other[column]])
        if not is_taken((min(pair), max(pair))):
            return pair
    return None


def _by_likeness(collection: Collection, decision: Decision) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the image_ids of both groups, those that are most like the other group first."""
    one, other = (group[:MOST_COMPARED] for group in decision.groups)
    between = collection.similarity[one][:, other]
    orders = np.argsort(-between.sum(1), kind="stable"), np.argsort(-between.sum(0), kind="stable")
    return tuple(collection.image_ids[one[orders[0]]]), tuple(collection.image_ids[other[orders[1]]])


def _first(questions: Iterable[Question], most: int) -> list[Question]:
    return sorted(questions, key=lambda question: -question.change)[:most]


def draw_evenly(
    collections: Iterable[Collection], called: Mapping[str, str], answered: Pairs, count: int, seed: int
) -> list[Question]:
    """Return questions drawn evenly from each photograph's nearest that nobody has answered, in random order: whoever
    answers the first few of them has answered an even draw, too.

    Args:
        collections: the unknown photographs of each dataset.
        called: by image_id, what its cluster is called.
        answered: pairs that have an answer.
        count: how many.
        seed: of the draw.
    """
    candidates: list[tuple[str, tuple[str, str]]] = []
    for collection in collections:
        pairs = map(tuple, collection.image_ids[collection.candidate_pairs()].tolist())
        candidates += [(collection.dataset, pair) for pair in pairs if (min(pair), max(pair)) not in answered]
    count = min(count, len(candidates))
    chosen = np.random.default_rng([seed, 8]).permutation(len(candidates))[:count]
    note = f"evenly drawn: {count} of {len(candidates)}"
    return [
        Question("clusters", dataset, pair, (called[pair[0]], called[pair[1]]), ((), ()), 0.0, 1, note)
        for dataset, pair in (candidates[place] for place in chosen.tolist())
    ]


def ask_about_names(matches: Matches, known: Mapping[str, Sequence[str]], answered: Pairs, most: int) -> list[Question]:
    """Return the queries whose names are the most doubtful, next to the photograph that speaks for the name.

    Args:
        matches: what `predict` returned.
        known: the photographs of each individual, by name, that can be shown.
        answered: pairs that have an answer.
        most: how many.
    """
    first = matches.candidates[matches.candidates["rank"] == 1].merge(
        matches.queries[["image_id", "dataset", "threshold", "answer"]], on="image_id"
    )
    sizes = first["dataset"].value_counts()
    chances = _chances_wrong(first)
    questions = []
    columns = (first[name].astype(str) for name in ("image_id", "dataset", "candidate", "candidate_image_id"))
    for image_id, dataset, name, photograph, chance in zip(*columns, chances.tolist(), strict=True):
        key = min(image_id, photograph), max(image_id, photograph)
        if photograph in known.get(name, ()) and key not in answered:
            others = tuple(one for one in known[name] if one != photograph)
            change = chance / int(sizes[dataset])
            questions.append(Question("names", dataset, (image_id, photograph), ("", name), ((), others), change, 1))
    return _first(questions, most)


def _chances_wrong(first: pd.DataFrame) -> np.ndarray:
    """Return the chance that each name, or the answer that it is nobody known, is wrong, (Q,): the scorer's where it
    gives one, else one half at the threshold and less the farther from it.

    Args:
        first: the best candidates, columns dissimilarity, probability, threshold and answer.
    """
    dissimilarity, threshold, probability = (
        first[name].to_numpy(float) for name in ("dissimilarity", "threshold", "probability")
    )
    named = (first["answer"] != NEW_INDIVIDUAL).to_numpy(bool)
    near = 0.5 * np.minimum(dissimilarity, threshold) / np.maximum(np.maximum(dissimilarity, threshold), 1e-9)
    chances: np.ndarray = np.where(np.isnan(probability), near, np.where(named, 1 - probability, probability))
    return chances


def ask_about_individuals(
    collection: Collection,
    names: np.ndarray,
    modes: Container[str],
    answered: Pairs,
    most: int,
    individuals: Container[str] = (),
) -> list[Question]:
    """Return questions about the individuals of a database.

    Args:
        collection: known photographs.
        names: (N,) str, the individual on each.
        modes: of "stranger", "split" and "merge".
        answered: pairs that have an answer.
        most: how many.
        individuals: only about these; () for all.
    """
    wanted = np.isin(names, list(individuals)) if individuals else np.ones(len(names), bool)
    named = dict(zip(collection.image_ids.tolist(), names.tolist(), strict=True))
    one, other = collection.pairs.T
    own = (names[one] == names[other]) & wanted[one]
    within = list(collection.joins_of(merge_tree(len(names), collection.pairs[own], collection.dissimilarity[own])))
    decisions = {
        "stranger": [one for one in within if min(map(len, one.groups)) == 1],
        "split": [one for one in within if min(map(len, one.groups)) > 1],
        "merge": [one for one in collection.apart(pd.factorize(names)[0]) if any(wanted[g[0]] for g in one.groups)],
    }
    questions: list[Question] = []
    for mode in decisions:
        if mode in modes:
            questions += _ask(collection, decisions[mode], mode, named, answered, most)
    return _first(questions, most)


def arranged(proposed: Sequence[Question], drawn: Sequence[Question]) -> list[Question]:
    """Return both kinds in the order in which they are asked: the proposed ones in theirs, and the drawn ones evenly
    between them. A pair that is both is asked where it is first, as drawn."""
    asked = {question.key: question for question in drawn}
    mixed = [((place + 1) / (len(proposed) + 1), 0, question) for place, question in enumerate(proposed)]
    mixed += [((place + 0.5) / len(drawn), 1, question) for place, question in enumerate(drawn)]
    ordered: dict[tuple[str, str], Question] = {}
    for _, _, question in sorted(mixed, key=lambda one: one[:2]):
        both = asked.get(question.key, question)
        ordered.setdefault(question.key, Question(**{**vars(question), "drawn": both.drawn}))
    return list(ordered.values())
