"""The page of discovered individuals: how many clusters there are, what is expected of them, and the decisions behind
them as strips of photographs, the most doubtful first."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from reid import __version__
from reid.config.recipe import Recipe
from reid.data.catalogue import Catalogue
from reid.decision.clusters import ClusterScore, mean_rand_index, score_clusters
from reid.decision.discovered import CLUSTER_FLAGS, Clusters, Cut
from reid.report.charts import Bars, companions_chart, rand_index_chart, size_chart
from reid.report.cluster_decisions import APART, JOINED, Decision, Decisions, find_decisions
from reid.report.dendrogram import LEAF, WIDTH, Drawing
from reid.report.filters import find_filters
from reid.report.outcomes import stratified_order
from reid.report.page import render
from reid.report.thumbnails import Thumbnails
from reid.runtime.files import atomic_path
from reid.runtime.progress import track

__all__ = ["OUTCOMES", "write_cluster_report"]

OUTCOMES = {
    f"{JOINED}-wrong": "joined, wrong",
    f"{JOINED}-mixed": "joined, partly wrong",
    f"{APART}-wrong": "kept apart, wrong",
    f"{APART}-mixed": "kept apart, partly wrong",
    f"{JOINED}-right": "joined, right",
    f"{APART}-right": "kept apart, right",
    JOINED: "joined",
    APART: "kept apart",
}
"""What became of two groups of photographs; the last two where nobody knows what is true."""

MARKS = {"wrong": "\u2717", "mixed": "\u2691", "right": "\u2713"}

CARDS_LIMIT = 8_500_000
"""Bytes of all cards, so that the page stays below 10 MB with charts and tables."""

CARD_BYTES, PHOTO_BYTES = 1_000, 200
"""Of a card without its photographs, and of a photograph without its pixels; measured 380 to 860 and 100 to 150."""

MAX_SHOWN = 8
"""Photographs of a group on a card: those that are most like the other group, on which the decision rests."""

MAX_LEAVES = 24
"""Rows of a dendrogram; more than a screen of them is not read."""

DENSITIES_APART = 2.0
"""From this ratio of the densities on, a dataset gets a note. At AnimalCLEF26 a team's best cuts followed 0.728 -
0.057 ln(photographs per individual): twice as dense moves the cut by 0.04, which is more than most plateaus."""


class Photo(NamedTuple):
    """A photograph on a card."""

    image_id: str
    number: int
    """Of its thumbnail."""
    problem: str
    """Why there is a grey field instead of a picture; "" where there is one."""
    probability: float
    """That the name of its cluster is right, or that it is nobody known; NaN where the scorer gives none."""
    truth: str
    """The animal's name in the solution; "" where it is not known."""


class Group(NamedTuple):
    """Some photographs of one cluster on a card."""

    cluster: str
    identity: str
    """The known individual that the cluster was attached to; "" for nobody known."""
    photos: tuple[Photo, ...]
    left_out: int
    """How many of its photographs are not shown."""


class Tree(NamedTuple):
    """The dendrogram on a card."""

    leaves: tuple[tuple[Photo, int], ...]
    """A photograph per leaf, and how many others the leaf stands for."""
    drawing: Drawing
    cut: float
    """Where the cut is, as a share of the width."""


class Card(NamedTuple):
    """A decision with its photographs."""

    place: int
    """Of the decision among all of them."""
    decision: Decision
    outcome: str
    """A key of `OUTCOMES`."""
    same: tuple[int, int] | None
    """How many pairs between the groups show one animal, of how many; None where it is not known."""
    groups: tuple[Group, Group]
    tree: Tree | None
    notes: tuple[str, ...]


def write_cluster_report(
    catalogue: Catalogue,
    clusters: Clusters,
    out: Path,
    solution: pd.DataFrame | None = None,
    recipe: Recipe | None = None,
) -> Path:
    """Write `out/report.html`: one file that needs no script and no network, below 10 MB.

    Args:
        catalogue: the data folder with the photographs.
        clusters: what was discovered.
        out: the folder; it is made if it is not there.
        solution: the true answers (see `clusters.read_cluster_solution`), or None where they are not known. It may hold
            only some of the photographs.
        recipe: `data.upright`: photographs are shown as the networks see them; None: as they are stored.

    Returns:
        The page's path.

    Raises:
        InputError: the solution has a photograph that is in no cluster; the folder can't be written.
    """
    scores = {} if solution is None else score_clusters(clusters.submission, solution)
    truth = {} if solution is None else dict(zip(solution["image_id"], solution["identity"], strict=True))
    thumbnails = Thumbnails.of(catalogue, recipe or Recipe())
    content = {
        "title": catalogue.root.resolve().name,
        "version": __version__,
        "headline": _headline(clusters, scores),
        "rows": _rows(clusters, scores, truth),
        "flags": _flags(clusters),
        "charts": _charts(clusters, scores, truth),
        "has_truth": bool(truth),
        "decisions": _decisions_section(clusters, truth, thumbnails),  # fills `thumbnails`
        "thumbnails": [thumbnail for thumbnail in thumbnails.drawn.values() if thumbnail.uri],
    }
    page = render(content, "cluster_report.html.j2")
    with atomic_path(out / "report.html") as temporary:
        temporary.write_text(page, "utf-8")
    return out / "report.html"


# figures


def _headline(clusters: Clusters, scores: Mapping[str, ClusterScore]) -> dict[str, Any]:
    """Return the page's first figures."""
    sizes = clusters.photographs["cluster"].value_counts()
    expected = [cut.score for cut in clusters.cuts.values() if cut.score is not None]
    return {
        "photographs": len(clusters),
        "clusters": len(sizes),
        "alone": int((sizes == 1).sum()),
        "named": int((clusters.photographs["identity"] != "").sum()),
        "ari": mean_rand_index(scores) if scores else None,
        "expected": float(np.mean(expected)) if expected else None,
        "with_expected": len(expected),
        "datasets": clusters.photographs["dataset"].nunique(),
    }


def _rows(clusters: Clusters, scores: Mapping[str, ClusterScore], truth: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the figures of every dataset."""
    rows = []
    for name, photographs in clusters.photographs.groupby("dataset", sort=True):
        sizes = photographs["cluster"].value_counts()
        cut = clusters.cuts.get(str(name))
        rows.append(
            {
                "dataset": str(name) or "(none)",
                "photographs": len(photographs),
                "clusters": len(sizes),
                "alone": int((sizes == 1).sum()),
                "largest": int(sizes.max()),
                "named": float((photographs["identity"] != "").mean()),
                "cut": cut,
                "density": _density_note(cut) if cut else "",
                "score": scores.get(str(name)),
                "pairs": _count_pairs(photographs, truth),
            }
        )
    return rows


def _density_note(cut: Cut) -> str:
    """Return a word where the photographs are not as dense as those that the cut was fitted on; "" where they are."""
    low, high = sorted((cut.companions, cut.fitted_companions))
    if high < DENSITIES_APART * low or high == low:
        return ""
    return "sparser" if cut.companions < cut.fitted_companions else "denser"


def _count_pairs(photographs: pd.DataFrame, truth: Mapping[str, str]) -> tuple[int, int, int] | None:
    """Return how many pairs of photographs were put together rightly, how many wrongly, and how many were missed; None
    where it is not known."""
    known = photographs[photographs["image_id"].isin(list(truth))]
    if known.empty:
        return None
    individuals = known["image_id"].map(truth)
    right, joined, same = (
        _pairs(known.groupby(by).size()) for by in (["cluster", individuals], "cluster", individuals)
    )
    return right, joined - right, same - right


def _pairs(sizes: pd.Series) -> int:
    """Return how many pairs of photographs are in one group, from the size of each group."""
    return int((sizes * (sizes - 1) // 2).sum())


def _flags(clusters: Clusters) -> list[tuple[str, int, str]]:
    """Return the flags that occur, with how many photographs have each, and their meaning."""
    counts = Counter(word for cell in clusters.photographs["flags"] for word in cell.split())
    return [(word, counts[word], meaning) for word, meaning in CLUSTER_FLAGS.items() if counts[word]]


def _charts(clusters: Clusters, scores: Mapping[str, ClusterScore], truth: Mapping[str, str]) -> dict[str, Any]:
    """Return the charts; "" for one that would be empty."""
    cuts = clusters.cuts
    known = {name: cut for name, cut in cuts.items() if cut.score is not None}
    ranges = {name: cut.interval for name, cut in known.items() if cut.interval is not None}
    expected = Bars("expected", {name: cut.score for name, cut in known.items()}, ranges)
    measured = Bars("measured", {name: score.ari for name, score in scores.items()}, {})
    densities = [
        Bars("estimated", {name: cut.companions for name, cut in cuts.items()}, {}),
        Bars("fitted on", {name: cut.fitted_companions for name, cut in cuts.items()}, {}),
    ]
    if truth:
        densities.append(Bars("true", _true_companions(clusters, truth), {}))
    sizes = clusters.photographs.groupby("dataset", sort=True)["cluster"]
    return {
        "rand_index": rand_index_chart([measured, expected]) if known or scores else "",
        "companions": companions_chart(densities) if cuts else "",
        "sizes": [
            (name or "(none)", size_chart(f"{place}", counts.value_counts().to_numpy(int), AXES))
            for place, (name, counts) in enumerate(sizes)
        ],
    }


AXES = ("photographs per cluster", "clusters")


def _true_companions(clusters: Clusters, truth: Mapping[str, str]) -> dict[str, float | None]:
    """Return by dataset how many other photographs of its animal a photograph has on average."""
    known = clusters.photographs[clusters.photographs["image_id"].isin(list(truth))]
    individuals = known["image_id"].map(truth)
    others = individuals.groupby([known["dataset"], individuals]).transform("size") - 1
    return {str(name): float(of_dataset.mean()) for name, of_dataset in others.groupby(known["dataset"])}


# cards


def _decisions_section(clusters: Clusters, truth: Mapping[str, str], thumbnails: Thumbnails) -> dict[str, Any]:
    """Return the cards, the words on them and the buttons that choose among them."""
    decisions = find_decisions(clusters)
    outcomes = [_outcome(decision, truth) for decision in decisions.of_clusters]
    table = pd.DataFrame(
        {"outcome": [outcome for outcome, _ in outcomes], "dataset": [one.cut.dataset for one in decisions.of_clusters]}
    )
    cards = _cards(decisions, table, [same for _, same in outcomes], _Album.of(clusters, truth, thumbnails))
    return {
        "cards": cards,
        "found": len(table),
        "compared": decisions.compared,
        "apart": int(table["outcome"].str.startswith(APART).sum()) if len(table) else 0,
        "words": OUTCOMES,
        "marks": {key: MARKS.get(key.partition("-")[2], "\u25cf") for key in OUTCOMES},
        "tones": {key: key.partition("-")[2] or "open" for key in OUTCOMES},
        "filters": find_filters(table, [(card.outcome, card.decision.cut.dataset) for card in cards], OUTCOMES),
        "width": WIDTH,
        "leaf": LEAF,
    }


def _outcome(decision: Decision, truth: Mapping[str, str]) -> tuple[str, tuple[int, int] | None]:
    """Return a key of `OUTCOMES`, and how many pairs between the groups show one animal, of how many."""
    a, b = (Counter(truth[one] for one in group if one in truth) for group in decision.groups)
    every, same = a.total() * b.total(), sum(count * b[name] for name, count in a.items())
    if not every:
        return decision.kind, None
    right = same if decision.kind == JOINED else every - same
    word = "right" if right == every else "mixed" if right else "wrong"
    return f"{decision.kind}-{word}", (same, every)


class _Album(NamedTuple):
    """What a card says of a photograph."""

    rows: dict[str, Any]
    """By image_id, its row of `Clusters.photographs`."""
    truth: Mapping[str, str]
    thumbnails: Thumbnails

    @classmethod
    def of(cls, clusters: Clusters, truth: Mapping[str, str], thumbnails: Thumbnails) -> "_Album":
        return cls({str(row.image_id): row for row in clusters.photographs.itertuples()}, truth, thumbnails)

    def photo(self, image_id: str) -> Photo:
        thumbnail, row = self.thumbnails.of_photograph(image_id), self.rows[image_id]
        truth = self.truth.get(image_id, "").removeprefix(f"{row.dataset}_")  # the card shows the dataset already
        return Photo(image_id, thumbnail.number, thumbnail.problem, float(row.probability), truth)

    def group(self, cluster: str, image_ids: Sequence[str]) -> Group:
        first = self.rows[image_ids[0]]
        shown = tuple(self.photo(image_id) for image_id in image_ids[:MAX_SHOWN])
        name = cluster.removeprefix(f"cluster_{first.dataset}_")
        return Group(name, first.identity.removeprefix(f"{first.dataset}_"), shown, len(image_ids) - len(shown))

    def tree(self, decision: Decision) -> Tree | None:
        """Return the dendrogram of three photographs or more; of two it says nothing."""
        if decision.joins is None or len(decision.members) < 3:
            return None
        end = min(1.0, 1.15 * max(decision.joins.height, decision.cut.value)) or 1.0
        drawing = decision.joins.draw(end, MAX_LEAVES)
        leaves = tuple((self.photo(decision.members[leaf[0]]), len(leaf) - 1) for leaf in drawing.leaves)
        return Tree(leaves, drawing, min(1.0, decision.cut.value / end))

    def notes(self, decision: Decision) -> tuple[str, ...]:
        """Return what the flags of the photographs say of the decision."""
        words = {word for group in decision.groups for one in group for word in self.rows[one].flags.split()}
        return tuple(f"{word}: {CLUSTER_FLAGS[word]}" for word in ("linked", "one_side") if word in words)


def _cards(
    decisions: Decisions, table: pd.DataFrame, same: Sequence[tuple[int, int] | None], album: _Album
) -> list[Card]:
    """Return as many cards as fit, taken from every outcome and dataset in turn, in the order of the decisions."""
    cards: list[Card] = []
    drawn = album.thumbnails.drawn
    free = CARDS_LIMIT
    for place in track(stratified_order(table) if len(table) else [], "drawing clusters"):
        before, decision = len(drawn), decisions.of_clusters[place]
        groups = zip(decision.clusters, decision.groups, strict=True)
        left, right = (album.group(cluster, image_ids) for cluster, image_ids in groups)
        tree, notes = album.tree(decision), album.notes(decision)
        card = Card(place, decision, str(table["outcome"][place]), same[place], (left, right), tree, notes)
        added = list(drawn)[before:]
        free -= _bytes_of(card) + sum(len(drawn[image_id].uri) for image_id in added)
        if free < 0:
            for image_id in added:
                album.thumbnails.forget(image_id)
            break
        cards.append(card)
    return sorted(cards, key=lambda card: card.place)


def _bytes_of(card: Card) -> int:
    """Return about how many bytes a card takes, without its photographs' pixels."""
    leaves = len(card.tree.leaves) if card.tree else 0
    path = len(card.tree.drawing.path) if card.tree else 0
    return CARD_BYTES + PHOTO_BYTES * (sum(len(group.photos) for group in card.groups) + leaves) + path
