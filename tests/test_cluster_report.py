"""The page of discovered individuals, on a tiny world made by hand; its decisions, against a slow twin."""

import itertools
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hand_clusters import CUTS, HOSTILE, ClusterWorld, make_cluster_world
from hand_world import Page

from reid.decision.clusters import score_clusters
from reid.decision.discovered import Clusters, Cut
from reid.errors import InputError
from reid.report import cluster_decisions, cluster_report
from reid.report.cluster_decisions import APART, JOINED, Decision, find_decisions
from reid.report.cluster_report import OUTCOMES, write_cluster_report
from reid.report.dendrogram import WIDTH, Joins


@pytest.fixture
def world(tmp_path: Path) -> ClusterWorld:
    return make_cluster_world(tmp_path / "data")


@pytest.fixture(scope="module")
def solved(tmp_path_factory: pytest.TempPathFactory) -> Page:
    """The world's page, for tests that only read it."""
    folder = tmp_path_factory.mktemp("solved")
    return page_of(make_cluster_world(folder / "data"), folder / "out")


def page_of(world: ClusterWorld, folder: Path, solved: bool = True) -> Page:
    solution = world.solution if solved else None
    return Page(write_cluster_report(world.catalogue, world.clusters, folder, solution))


def words_of(card: str) -> str:
    return " ".join(card.split())


def shown_on(card: str) -> list[str]:
    """The image_ids of a card's two groups; the dendrogram's are behind them."""
    return re.findall(r"photo ([pn]\d+)", card.split("How they were joined")[0])


# decisions


def random_clusters(seed: int) -> Clusters:
    """Two datasets of which three quarters of the pairs were compared, some of them said twice."""
    rng = np.random.default_rng(seed)
    photographs, pairs = [], []
    for dataset in ("A", "B"):
        ids = [f"{dataset}{number}" for number in range(20)]
        for one in ids:
            cluster = f"cluster_{dataset}_{rng.integers(6)}"
            photographs.append((one, dataset, cluster, "", 0.5, ""))
        every = list(itertools.combinations(ids, 2))
        for place in rng.permutation(len(every))[: len(every) * 3 // 4]:
            a, b = rng.permutation(every[place])
            pairs.append((dataset, a, b, rng.random()))
    pairs += [(dataset, b, a, dissimilarity) for dataset, a, b, dissimilarity in pairs[:20]]
    columns = ["image_id", "dataset", "cluster", "identity", "probability", "flags"]
    table = pd.DataFrame(pairs, columns=["dataset", "image_id_a", "image_id_b", "dissimilarity"])
    cuts = {name: Cut(name, 0.5, (0.4, 0.6), None, None, 1.0, 1.0, None, 0, 0, "mean") for name in "AB"}
    return Clusters(pd.DataFrame(photographs, columns=columns), table, cuts)


def mean_between(a: tuple[str, ...], b: tuple[str, ...], clusters: Clusters) -> float:
    """The slow twin: 1 where a pair was not compared."""
    known = {frozenset((row.image_id_a, row.image_id_b)): row.dissimilarity for row in clusters.pairs.itertuples()}
    return float(np.mean([known.get(frozenset(pair), 1.0) for pair in itertools.product(a, b)]))


def halves_of(members: list[str], clusters: Clusters) -> tuple[set[frozenset[str]], float]:
    """The slow twin: join the two groups with the least mean dissimilarity until two are left."""
    groups: list[tuple[str, ...]] = [(member,) for member in members]
    while len(groups) > 2:
        pairs = itertools.combinations(range(len(groups)), 2)
        a, b = min(pairs, key=lambda pair: mean_between(groups[pair[0]], groups[pair[1]], clusters))
        groups = [*(group for place, group in enumerate(groups) if place not in (a, b)), groups[a] + groups[b]]
    return set(map(frozenset, groups)), mean_between(groups[0], groups[1], clusters)


@pytest.mark.parametrize("seed", range(4))
def test_every_cluster_and_every_compared_pair_of_clusters_is_a_decision(seed: int) -> None:
    clusters = random_clusters(seed)
    members = {str(name): list(group["image_id"]) for name, group in clusters.photographs.groupby("cluster")}
    decisions = find_decisions(clusters)
    joined = {one.clusters[0]: one for one in decisions.of_clusters if one.kind == JOINED}
    assert joined.keys() == {name for name, group in members.items() if len(group) > 1}
    for name, one in joined.items():
        halves, height = halves_of(members[name], clusters)
        assert one.dissimilarity == pytest.approx(height, abs=1e-6)
        assert set(map(frozenset, one.groups)) == halves
    apart = {frozenset(one.clusters): one for one in decisions.of_clusters if one.kind == APART}
    assert len(apart) + len(joined) == len(decisions.of_clusters)
    assert len(apart) == decisions.compared
    for a, b in itertools.combinations(members, 2):
        mean = mean_between(tuple(members[a]), tuple(members[b]), clusters)
        assert (frozenset((a, b)) in apart) == (mean < 1)
        if mean < 1:
            one = apart[frozenset((a, b))]
            assert one.dissimilarity == pytest.approx(mean, abs=1e-6)
            assert set(map(frozenset, one.groups)) == {frozenset(members[a]), frozenset(members[b])}


def test_the_nearest_to_the_cut_come_first_and_in_a_group_those_most_like_the_other() -> None:
    clusters = random_clusters(7)
    decisions = find_decisions(clusters).of_clusters
    margins = [one.dissimilarity - 0.5 if one.kind == APART else 0.5 - one.dissimilarity for one in decisions]
    assert margins == sorted(margins)
    assert margins == [one.margin for one in decisions]
    for one in decisions:
        for group, other in itertools.permutations(one.groups):
            means = [mean_between((image_id,), other, clusters) for image_id in group]
            assert np.round(means, 6).tolist() == sorted(np.round(means, 6).tolist())


def test_of_many_pairs_of_clusters_the_nearest_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    clusters = random_clusters(3)
    every = find_decisions(clusters)

    def apart(decisions: list[Decision], dataset: str) -> list[tuple[str, str]]:
        return [one.clusters for one in decisions if one.kind == APART and one.cut.dataset == dataset]

    monkeypatch.setattr(cluster_decisions, "MAX_APART", 4)
    few = find_decisions(clusters)
    assert few.compared == every.compared > 8
    for dataset in "AB":
        assert apart(few.of_clusters, dataset) == apart(every.of_clusters, dataset)[:4]


def test_of_a_large_cluster_some_photographs_stand_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_decisions, "MAX_MEMBERS", 3)
    clusters = random_clusters(0)
    for one in find_decisions(clusters).of_clusters:
        if one.joins is not None:
            assert len(one.members) == len(one.groups[0]) + len(one.groups[1]) <= 3
            assert one.dissimilarity == pytest.approx(mean_between(*one.groups, clusters), abs=1e-6)


# dendrograms


def test_a_dendrogram_joins_at_its_dissimilarities() -> None:
    places = np.array([0.0, 0.1, 0.5, 0.6])
    joins = Joins.of(np.abs(places[:, None] - places))
    assert joins.height == pytest.approx(0.5)
    assert set(map(frozenset, joins.halves)) == {frozenset({0, 1}), frozenset({2, 3})}
    drawing = joins.draw(end=1.0, max_leaves=9)
    assert {frozenset(leaf) for leaf in drawing.leaves} == {frozenset({place}) for place in range(4)}
    lines = re.findall(r"M(\d+) (\d+)H(\d+)(?:V(\d+)H(\d+))?", drawing.path)
    assert sorted(lines) == sorted(
        [
            ("0", "5", "100", "15", "0"),
            ("0", "25", "100", "35", "0"),
            ("100", "10", "500", "30", "100"),
            ("500", "20", str(WIDTH), "", ""),
        ]
    )


@pytest.mark.parametrize("max_leaves", [2, 5, 30])
def test_a_dendrogram_of_many_photographs_shows_its_last_joins(max_leaves: int) -> None:
    rng = np.random.default_rng(0)
    half = np.triu(rng.uniform(0.1, 1, (20, 20)), 1)
    joins = Joins.of(half + half.T)
    drawing = joins.draw(1.0, max_leaves)
    leaves = min(20, max_leaves)
    assert len(drawing.leaves) == leaves
    assert sorted(itertools.chain(*drawing.leaves)) == list(range(20))
    heights = sorted(int(one) for one in re.findall(r"H(\d+)V", drawing.path))
    assert heights == sorted(np.rint(joins.rows[:, 2] * WIDTH).astype(int).tolist())[-(leaves - 1) :]


# the page


def test_the_page_is_complete_and_every_tag_is_closed(solved: Page) -> None:
    assert solved.text.startswith("<!doctype html>")
    assert solved.text.endswith("</html>\n")
    assert solved.open == []
    assert [path.name for path in solved.folder.iterdir()] == ["report.html"]


def test_nothing_on_the_page_is_fetched_or_run_and_names_are_escaped(solved: Page) -> None:
    assert not {tag for tag, _ in solved.tags} & {"script", "link", "iframe", "object", "embed", "base", "img"}
    for tag, attributes in solved.tags:
        assert not [name for name in attributes if name.startswith("on")], tag
        assert (attributes.get("href") or "#").startswith("#")
    assert not re.search(r"url\((?!#|data:image/jpeg;base64,)|@import", solved.text)
    assert "default-src 'none'" in solved.text
    assert HOSTILE not in solved.text
    assert HOSTILE in "".join(solved.cards)  # as text


def test_ids_on_the_page_are_unique(solved: Page) -> None:
    ids = [attributes["id"] for _, attributes in solved.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_the_same_input_gives_the_same_bytes(solved: Page, world: ClusterWorld, tmp_path: Path) -> None:
    # the page's title is the data folder's name
    assert page_of(world, tmp_path / "out").text == solved.text


def test_decisions_stand_in_the_order_of_their_doubt_with_their_outcome(solved: Page) -> None:
    found = [
        (next(words for words in OUTCOMES.values() if f" {words} " in words_of(card)), shown_on(card))
        for card in solved.cards
    ]
    assert found == [
        ("joined, wrong", ["p2", "p1", "p0"]),  # at 0.48, and the cut is 0.5
        ("kept apart, right", ["p3", "p4", "p5"]),  # (0.22 + 1) / 2
        ("joined, right", ["p3", "p4"]),  # 0.3
        ("joined, right", ["n0", "n1"]),  # 0.05, and the cut is 0.4
        ("kept apart, partly wrong", ["p2", "p0", "p1", "p3", "p4"]),  # (0.2 + 5) / 6
    ]
    assert "0 of 2 pairs show one animal" in words_of(solved.cards[0])
    assert "2 of 6 pairs show one animal" in words_of(solved.cards[4])
    assert ["on the plateau" in card for card in solved.cards] == [True, False, False, False, False]


def test_a_card_says_what_flags_mean_and_shows_a_dendrogram_of_three_or_more(solved: Page) -> None:
    assert "one_side: its cluster shows one side" in solved.cards[0]
    assert not any("borrowed: " in card for card in solved.cards)  # said of the dataset
    assert ["How they were joined" in card for card in solved.cards] == [True, False, False, False, False]
    assert f"cluster 0: {HOSTILE}" in solved.cards[0]
    assert "photo p2, 60%" in words_of(solved.cards[0])


def row_of(page: Page, heading: str, dataset: str) -> list[str]:
    """The cells of a dataset's row in the first table whose heading has these words."""
    table = next(table for table in re.findall(r"<table>.*?</table>", page.text, re.DOTALL) if heading in table)
    row = re.search(rf"<tr><td>{dataset}</td>(.*?)</tr>", table, re.DOTALL)
    assert row
    return [re.sub(r"<[^>]*>", "", cell) for cell in re.findall(r"<td>(.*?)</td>", row[1], re.DOTALL)]


def test_figures_are_those_of_the_clusters_and_of_the_solution(solved: Page, world: ClusterWorld) -> None:
    scores = score_clusters(world.clusters.submission, world.solution)
    assert row_of(solved, "estimated share known", "Lynx") == (
        ["6", "3", "1", "3", "50%", "25%", "0.625 (0.575 to 0.675)"]
    )
    assert row_of(solved, "estimated share known", "Newt")[4:] == ["0%", "\u2014", "\u2014"]
    # joined: p0-p1 and p3-p4 rightly, p0-p2 and p1-p2 wrongly; b's p2-p3 and p2-p4 were missed
    assert row_of(solved, "pairs missed", "Lynx") == ["6", "3", "3", f"{scores['Lynx'].ari:.3f}", "2", "2", "2"]
    assert row_of(solved, "pairs missed", "Newt") == ["2", "1", "1", "1.000", "1", "0", "0"]
    mean = (scores["Lynx"].ari + 1) / 2
    assert f"<b>{mean:.3f}</b><span>adjusted Rand index, mean of the datasets</span>" in solved.text
    assert row_of(solved, "plateau", "Newt") == ["0.400", "0.400 to 0.400", "logistic", "Lynx", "0", "0", "0.5", "2.0"]


def test_notes_of_a_cut_and_other_densities_are_told(solved: Page, world: ClusterWorld, tmp_path: Path) -> None:
    text = words_of(solved.text)
    assert "Newt: borrowed &lt;script&gt;" in text
    assert "Newt: these photographs seem to be sparser than" in text
    assert "Lynx: these photographs seem" not in text
    cuts = CUTS | {"Newt": replace(CUTS["Newt"], companions=4.0)}
    page = page_of(world._replace(clusters=replace(world.clusters, cuts=cuts)), tmp_path / "out")
    assert "Newt: these photographs seem to be denser than" in words_of(page.text)


def test_charts_show_the_estimated_the_fitted_and_the_true_density(solved: Page) -> None:
    chart = next(svg for svg in re.findall(r"<svg.*?</svg>", solved.text, re.DOTALL) if "same animal, per" in svg)
    labels = re.findall(r">([\d.]+|Lynx|Newt)<", chart)
    # of Lynx, two photographs of a, three of b, one of c: (2 x 1 + 3 x 2) / 6
    assert labels[labels.index("Newt") + 1 :] == ["1.5", "1.4", "1.3", "0.5", "2.0", "1.0"]
    sizes = [svg for svg in re.findall(r"<svg.*?</svg>", solved.text, re.DOTALL) if ">photographs per cluster<" in svg]
    assert len(sizes) == 2
    assert all('aria-label="Clusters by their number of photographs"' in svg for svg in sizes)


def test_pairs_are_counted_as_one_by_one(tmp_path: Path, world: ClusterWorld) -> None:
    clusters = random_clusters(5)
    rng = np.random.default_rng(5)
    photographs = clusters.photographs.assign(dataset="Lynx")
    truth = dict(zip(photographs["image_id"], map(str, rng.integers(0, 5, len(photographs))), strict=True))
    answers = dict(zip(photographs["image_id"], photographs["cluster"], strict=True))
    solution = pd.DataFrame({"image_id": truth.keys(), "identity": truth.values(), "dataset": "Lynx"}).iloc[:-3]
    page = page_of(ClusterWorld(world.catalogue, Clusters(photographs, clusters.pairs), solution), tmp_path / "out")
    kinds = [
        (answers[a] == answers[b], truth[a] == truth[b]) for a, b in itertools.combinations(solution["image_id"], 2)
    ]
    counts = [kinds.count(kind) for kind in ((True, True), (True, False), (False, True))]
    assert row_of(page, "pairs missed", "Lynx")[-3:] == [str(count) for count in counts]
    assert all(counts)


def test_without_a_solution_nothing_is_called_right_or_wrong(world: ClusterWorld, tmp_path: Path) -> None:
    page = page_of(world, tmp_path / "out", solved=False)
    assert "No solution was given" in page.text
    assert "mean of the datasets" not in page.text
    assert "0.625</b>\n<span>expected adjusted Rand index" in page.text
    kinds = [re.findall(r"^. (joined|kept apart) (?:Lynx|Newt) mean", words_of(card)) for card in page.cards]
    assert kinds == [["joined"], ["kept apart"], ["joined"], ["joined"], ["kept apart"]]


def test_a_solution_of_other_photographs_is_refused(world: ClusterWorld, tmp_path: Path) -> None:
    clusters = replace(world.clusters, photographs=world.clusters.photographs.iloc[1:])
    with pytest.raises(InputError, match="found none for p0"):
        write_cluster_report(world.catalogue, clusters, tmp_path / "out", world.solution)
    assert not (tmp_path / "out").exists()


def test_what_was_not_compared_has_no_decisions(world: ClusterWorld, tmp_path: Path) -> None:
    """No pair, no cut, every photograph alone: still a page."""
    photographs = world.clusters.photographs
    alone = photographs.assign(cluster="cluster_" + photographs["dataset"] + "_" + photographs["image_id"])
    nothing = Clusters(alone, world.clusters.pairs.iloc[:0])
    page = page_of(world._replace(clusters=nothing), tmp_path / "out", solved=False)
    assert page.cards == []
    assert row_of(page, "estimated share known", "Newt") == ["2", "2", "2", "1", "0%", "\u2014", "\u2014"]
    page = page_of(world._replace(clusters=replace(nothing, cuts=CUTS)), tmp_path / "out")
    assert page.cards == []


def test_a_photograph_that_cannot_be_opened_is_grey_with_its_reason(world: ClusterWorld, tmp_path: Path) -> None:
    (world.catalogue.root / "n0.jpg").unlink()
    page = page_of(world, tmp_path / "out")
    assert ["no such file" in card for card in page.cards] == [False, False, False, True, False]


def test_a_page_beyond_its_limit_takes_every_kind_in_turn_and_says_so(
    tmp_path: Path, world: ClusterWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = []
    for number in range(40):
        photographs, pairs = world.clusters.photographs, world.clusters.pairs
        ends = {column: pairs[column] + f"x{number}" for column in ("image_id_a", "image_id_b")}
        cluster = photographs["cluster"] + f"x{number}"
        parts.append(
            (
                photographs.assign(image_id=photographs["image_id"] + f"x{number}", cluster=cluster),
                pairs.assign(**ends),
                world.catalogue.table.assign(image_id=world.catalogue.table["image_id"] + f"x{number}"),
            )
        )
    photographs, pairs, table = (pd.concat(tables, ignore_index=True) for tables in zip(*parts, strict=True))
    monkeypatch.setattr(cluster_report, "CARDS_LIMIT", 300_000)
    many = ClusterWorld(replace(world.catalogue, table=table), Clusters(photographs, pairs, CUTS), world.solution)
    page = page_of(many, tmp_path / "out", solved=False)
    assert f"<b>{len(page.cards)} of 200 decisions are shown</b>" in words_of(page.text)
    assert 10 < len(page.cards) < 200
    kinds = {(words_of(card).split(" ")[1], "Newt" in card) for card in page.cards}
    assert kinds == {("joined", False), ("joined", True), ("kept", False)}
    articles = page.text[page.text.index("<article") : page.text.rindex("</article>")]
    pixels = sum(map(len, re.findall(r"background-image: url\((data:[^)]*)\)", page.text)))
    assert 200_000 < len(articles) + pixels <= 300_000
    carried = set(re.findall(r"^\.t(\d+) \{ background-image", page.text, re.MULTILINE))
    assert carried == set(re.findall(r'class="photo t(\d+)', page.text))


def test_a_large_group_shows_a_few_and_counts_the_others(world: ClusterWorld, tmp_path: Path) -> None:
    """Eleven photographs that are all alike but one."""
    ids = [f"p{number}" for number in range(11)]
    table = pd.DataFrame({"image_id": ids, "dataset": "Lynx", "cluster": "cluster_Lynx_0", "identity": ""})
    pairs = [(a, b, 0.4 if "p10" in (a, b) else 0.1) for a, b in itertools.combinations(ids, 2)]
    pairs_table = pd.DataFrame(pairs, columns=["image_id_a", "image_id_b", "dissimilarity"]).assign(dataset="Lynx")
    clusters = Clusters(table.assign(probability=0.5, flags=""), pairs_table, CUTS)
    page = page_of(world._replace(clusters=clusters), tmp_path / "out", solved=False)
    (card,) = page.cards
    assert len(shown_on(card)) == 9
    assert "and 2 more" in card
