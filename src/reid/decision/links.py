"""Must-links and cannot-links: photographs that certainly show one animal, and such that certainly show two.

Where they come from, and what counts more:

- **Answers**: what people said of pairs, see `answers`. "same" also joins what is joined with either photograph, over
  database photographs too: two queries that show Mira, each by an answer, are one animal, and neither is the one that
  somebody said is Tom. Who two photographs of the database show, the column identity says; an answer that contradicts
  it is told and not used.
- **Copies**: `discover` adds that files of the same bytes show the same animal, where nothing here says otherwise.
- **Photographs**: rows that share a photograph are different animals. An answer that says otherwise is refused: the
  boxes are wrong, or the answer.
- **Moments**: two photographs of one dataset at two places at the same moment are different animals. Moments are the
  same where they are written the same, to the second, or to the minute where the table has no seconds; nothing is
  made of moments that are only near each other, because cameras' clocks are. So a `place` must be so large that no
  animal is at two of them within a minute: name the station, not the camera, where two cameras face each other. These
  are conclusions from clocks and from a column that people fill in, so an answer counts more than they do, with a
  warning that names the rows. Times of day that stand for no time are not used, see `_believed`.
"""

import logging
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations, pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, connected_components

from reid.config.recipe import UNKNOWN_WORDS
from reid.data.catalogue import Catalogue
from reid.data.competition import refuse_hand_labels
from reid.data.dates import read_moments
from reid.data.spelling import is_unknown, name_key
from reid.decision.answers import PAIRS, Answer, read_pairs
from reid.errors import InputError
from reid.runtime.files import first_of

__all__ = ["AppliedLinks", "Link", "Links", "apply_links", "read_links"]

log = logging.getLogger(__name__)

CROWD = 100
"""With more photographs of one dataset at one moment, the moment is none: a clock stood still, or somebody filled in a
time. Bursts of several cameras have a dozen."""

MANY_DAYS = 3
"""A time of day that stands on so many days, and on more than half of a dataset's days, was filled in, such as the noon
of many catalogues. Cameras that take a picture every hour are lost by this, and nothing else of them."""


class Link(NamedTuple):
    """Two photographs that show one animal, or two."""

    a: str
    """An image_id."""
    b: str
    kind: str
    """What it comes from: "answer", "photograph" or "moment"."""
    source: str
    """How a message names it: file and rows."""


@dataclass(frozen=True)
class Links:
    """The links of a data folder, without contradictions.

    Attributes:
        must: photographs that show one animal, each pair as somebody said it.
        cannot: photographs that show two.
        groups: by image_id, for every photograph of a link: a number that all those share which the must-links join,
            directly, over others, or over the name of a known individual.
        names: by such a number, dataset and individual of the group's database photographs, where there are any.
    """

    must: tuple[Link, ...] = ()
    cannot: tuple[Link, ...] = ()
    groups: dict[str, int] = field(default_factory=dict)
    names: dict[int, tuple[str, str]] = field(default_factory=dict)

    def identity_of(self, image_id: str) -> str:
        """Return the known individual that answers say a photograph shows; "" where they say none."""
        return self.names.get(self.groups.get(image_id, -1), ("", ""))[1]


class AppliedLinks(NamedTuple):
    """Links among the rows of an array."""

    must: np.ndarray
    """(M, 2) int64, i < j, ascending: of each group, one link from each row to the next."""
    cannot: np.ndarray
    """(C, 2) int64, i < j, ascending: between the first rows of two groups, or rows of none."""
    linked: np.ndarray
    """(L,) int64, ascending: the rows about which an answer or a moment says something."""


def read_links(catalogue: Catalogue, pairs_file: Path | None = None, use_answers: bool = True) -> Links:
    """Return what is certain about the photographs of a data folder.

    Args:
        catalogue: all rows of the folder, as `read_catalogue` returns them: answers may name any of them.
        pairs_file: what people said; None for `pairs.csv` in the folder, which need not be there.
        use_answers: whether that counts; else only photographs and moments do.

    Raises:
        InputError: see `answers.read_pairs`; links that contradict each other, with the rows of each; or answers about
            the queries of a competition.
    """
    path = pairs_file or catalogue.root / PAIRS
    datasets = dict(zip(catalogue.image_ids, catalogue.table["dataset"], strict=True))
    answers = read_pairs(path, datasets) if use_answers and (pairs_file or os.path.lexists(path)) else []
    named = {image_id for answer in answers for image_id in answer.pair}
    refuse_hand_labels(catalogue, named, str(path), "Remove these rows")
    table = catalogue.table
    answers = _without_known(answers, table, path)
    must = [_of_answer(answer, path) for answer in answers if answer.answer == "same"]
    different = [_of_answer(answer, path) for answer in answers if answer.answer == "different"]
    named = {image_id for link in (*must, *different) for image_id in (link.a, link.b)}
    graph = _Graph(must, table[table["image_id"].isin(named)])
    table = table[table["image_id"].isin(named) | (table["split"] == "query")]
    certain = [*different, *_of_photographs(table)]
    _refuse_contradictions(graph, certain, path)
    moments = [link for link in _of_moments(table) if not _overruled(graph, link)]
    return _links(graph, must, [*certain, *moments])


def apply_links(rows_of: Mapping[str, int], links: Links) -> AppliedLinks:
    """Return the links among some photographs, as `linkage` takes them.

    Args:
        rows_of: by image_id, the row of each photograph that is to be clustered. Photographs of the links that are not
            there, such as those of the database, join and separate these all the same, and are then left out.
        links: see `read_links`.
    """
    rows_by_group: dict[int, list[int]] = defaultdict(list)
    for image_id, group in links.groups.items():
        if image_id in rows_of:
            rows_by_group[group].append(rows_of[image_id])
    rows_by_group = {group: sorted(rows) for group, rows in rows_by_group.items()}
    must = [pair for rows in rows_by_group.values() for pair in pairwise(rows)]
    between: dict[frozenset[int], str] = {}
    for link in sorted(links.cannot, key=lambda link: link.kind != "photograph"):  # an answer counts as one
        between[frozenset((links.groups[link.a], links.groups[link.b]))] = link.kind
    between |= dict.fromkeys(map(frozenset, _differently_named(rows_by_group, links.names)), "answer")
    used = {pair: kind for pair, kind in between.items() if pair <= rows_by_group.keys()}
    said = [rows_by_group[group] for pair, kind in used.items() if kind != "photograph" for group in pair]
    linked = sorted({row for rows in (*must, *said) for row in rows})
    cannot = [(rows_by_group[one][0], rows_by_group[other][0]) for one, other in used]
    return AppliedLinks(_as_array(must), _as_array(cannot), np.array(linked, np.int64))


def _differently_named(groups: Iterable[int], names: Mapping[int, tuple[str, str]]) -> Iterator[tuple[int, int]]:
    """Yield those of some groups that hold two individuals of one dataset."""
    of_dataset = defaultdict(list)
    for group in groups:
        if group in names:
            dataset, name = map(name_key, names[group])
            of_dataset[dataset].append((group, name))
    for some in of_dataset.values():
        for (one, name), (other, other_name) in combinations(some, 2):
            if name != other_name:
                yield one, other


def _as_array(pairs: Iterable[tuple[int, int]]) -> np.ndarray:
    """Return pairs in order, each once: (P, 2) int64, i < j."""
    return np.array(sorted({(min(pair), max(pair)) for pair in pairs}), np.int64).reshape(-1, 2)


def _without_known(answers: list[Answer], table: pd.DataFrame, path: Path) -> list[Answer]:
    """Return the answers without those about two photographs of known individuals, whom the table tells apart; warn
    where it says otherwise than the answer."""
    names = {image_id: name for image_id, (_, name), _ in _named(table)}
    used = []
    for answer in answers:
        known = [names[image_id] for image_id in answer.pair if image_id in names]
        if len(known) < 2:
            used.append(answer)
        elif answer.answer == ("different" if name_key(known[0]) == name_key(known[1]) else "same"):
            log.warning(
                f"{path}: row {answer.row} says that {' and '.join(answer.pair)} are {answer.answer}; metadata.csv "
                f"calls them {' and '.join(name[:99] for name in known)}, which counts here. If the answer is right, "
                "correct the column identity"
            )
    return used


def _of_answer(answer: Answer, path: Path) -> Link:
    return Link(answer.image_id_a, answer.image_id_b, "answer", f"{path}: row {answer.row}")


def _of_photographs(table: pd.DataFrame) -> Iterator[Link]:
    """Yield the rows that share a photograph, two at a time."""
    shared = defaultdict(list)
    for row, image_id, path in zip(table.index.to_numpy(int) + 2, table["image_id"], table["path"], strict=True):
        shared[os.path.normpath(path)].append((row, image_id))
    for path, rows in shared.items():
        for (row, a), (other, b) in combinations(rows, 2):
            yield Link(a, b, "photograph", f"metadata.csv: rows {row} and {other}: {path[:99]!r} is in both")


def _of_moments(table: pd.DataFrame) -> Iterator[Link]:
    """Yield the photographs of one dataset that were taken at the same moment at two places, two at a time."""
    if "place" not in table:
        return
    table = table.assign(moment=read_moments(table["date"], table["day"]), key=table["place"].map(name_key))
    table = table[(table["key"] != "") & (table["moment"] != "") & (table["dataset"] != "")]
    table = _believed(table)
    table = table[table.duplicated(["dataset", "moment"], keep=False)]
    for _, rows in table.groupby(["dataset", "moment"]):
        cells = zip(rows.index.to_numpy(int) + 2, rows["image_id"], rows["key"], rows["place"], strict=True)
        for (row, a, key, place), (other, b, other_key, other_place) in combinations(cells, 2):
            if key != other_key:
                where = f"at {place[:99]!r} and {other_place[:99]!r} on {rows['moment'].iloc[0]}"
                yield Link(a, b, "moment", f"metadata.csv: rows {row} and {other}: {where}")


def _believed(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows whose time of day is one, see `CROWD` and `MANY_DAYS`."""
    times = table["moment"].str[len("2024-05-05 ") :]
    of_dataset = table.groupby("dataset")["day"].transform("nunique")
    days = table.groupby(["dataset", times])["day"].transform("nunique")
    filled_in = (days >= MANY_DAYS) & (days > of_dataset / 2)
    crowded = table.groupby(["dataset", "moment"])["day"].transform("size") > CROWD
    return table[~(filled_in | crowded)]


Node = str | tuple[str, str]
"""A photograph's image_id, or the dataset and name of a known individual."""


class _Graph:
    """The must-links as a graph of photographs, and of the names of known individuals between them."""

    def __init__(self, must: list[Link], table: pd.DataFrame) -> None:
        """
        Args:
            must: the answers "same".
            table: the rows that any answer names.
        """
        edges: dict[tuple[Node, Node], str] = {(link.a, link.b): link.source.rpartition(": ")[2] for link in must}
        edges |= {(image_id, name): f"metadata.csv row {row}" for image_id, name, row in _named(table)}
        nodes = dict.fromkeys([*table["image_id"], *(node for edge in edges for node in edge)])
        self.nodes = {node: place for place, node in enumerate(nodes)}
        self.sources = {frozenset((self.nodes[a], self.nodes[b])): source for (a, b), source in edges.items()}
        ends = np.array([sorted(edge) for edge in self.sources], np.int64).reshape(-1, 2)
        self.matrix = csr_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), (len(nodes), len(nodes)))
        self.components = connected_components(self.matrix, directed=False)[1].tolist() if nodes else []

    def joined(self, one: Node, other: Node) -> bool:
        """Return whether must-links join two nodes."""
        if one not in self.nodes or other not in self.nodes:
            return False
        return bool(self.components[self.nodes[one]] == self.components[self.nodes[other]])

    def chain(self, one: Node, other: Node) -> str:
        """Return how: "a = b (row 3), b = 'Mira' (metadata.csv row 7)", as few steps as there can be."""
        _, before = breadth_first_order(self.matrix, self.nodes[other], directed=False)
        path = [self.nodes[one]]
        while path[-1] != self.nodes[other]:
            path.append(int(before[path[-1]]))
        words = [repr(node[1]) if isinstance(node, tuple) else node[:99] for node in self.nodes]
        return first_of([f"{words[a]} = {words[b]} ({self.sources[frozenset((a, b))]})" for a, b in pairwise(path)])

    @property
    def names(self) -> dict[int, list[tuple[str, str]]]:
        """The individuals of each component that has any."""
        found: dict[int, list[tuple[str, str]]] = defaultdict(list)
        for node, place in self.nodes.items():
            if isinstance(node, tuple):
                found[self.components[place]].append(node)
        return found


def _named(table: pd.DataFrame) -> Iterator[tuple[str, tuple[str, str], int]]:
    """Yield each photograph of a known individual, the individual, and the row as a spreadsheet counts."""
    known = table[table["split"] == "database"]
    nobody = {name for name in set(known["identity"]) if is_unknown(name, UNKNOWN_WORDS)}
    rows = known.index.to_numpy(int) + 2
    for image_id, dataset, name, row in zip(known["image_id"], known["dataset"], known["identity"], rows, strict=True):
        if name not in nobody:
            yield image_id, (dataset, name), row


def _refuse_contradictions(graph: _Graph, certain: Iterable[Link], path: Path) -> None:
    """Refuse photographs that are one animal by some links and two by others."""
    words = [
        f"{link.source}: {link.a[:99]} and {link.b[:99]} are two animals, but these rows make them one: "
        f"{graph.chain(link.a, link.b)}. {_ADVICE[link.kind]}"
        for link in certain
        if graph.joined(link.a, link.b)
    ]
    for names in graph.names.values():
        others = [name for name in names if name_key(name[1]) != name_key(names[0][1])]
        words += [
            f"{path}: answers make {names[0][1][:99]!r} and {name[1][:99]!r} one animal, which metadata.csv knows as "
            f"two: {graph.chain(names[0], name)}. Correct the wrong answer; or, if they are one, give them one name"
            for name in others
        ]
    if words:
        more = f" ({len(words) - 1} more such contradictions)" if len(words) > 1 else ""
        raise InputError(f"{words[0]}{more}")


_ADVICE = {
    "answer": "Correct or remove the wrong one of these answers",
    "photograph": "Animals on one photograph are never the same: correct the answer; or, if two boxes are around one "
    "animal, remove one of the rows",
}


def _overruled(graph: _Graph, link: Link) -> bool:
    """Return whether answers say otherwise than a moment, and warn of it."""
    if graph.joined(link.a, link.b):
        log.warning(
            f"{link.source}, so {link.a} and {link.b} should be two animals; the answers count, which make them one: "
            f"{graph.chain(link.a, link.b)}. Check date and place of these rows"
        )
        return True
    return False


def _links(graph: _Graph, must: list[Link], cannot: list[Link]) -> Links:
    """Number the groups; photographs of cannot-links only are groups of their own."""
    ids = [image_id for link in (*must, *cannot) for image_id in (link.a, link.b)]
    groups: dict[str, int] = {}
    alone = len(graph.nodes)
    for image_id in dict.fromkeys(ids):
        if image_id in graph.nodes:
            groups[image_id] = graph.components[graph.nodes[image_id]]
        else:
            groups[image_id], alone = alone, alone + 1
    return Links(tuple(must), tuple(cannot), groups, {group: names[0] for group, names in graph.names.items()})
