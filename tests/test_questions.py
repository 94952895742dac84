"""What a person is asked first: decisions near the cut before sure ones, large groups before small ones, and nothing
that is answered or certain; against slow twins and on collections made by hand."""

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hand_clusters import make_cluster_world

from reid.decision.matches import Matches
from reid.review.collection import Collection, chance_same, collection_of
from reid.review.questions import (
    Question,
    arranged,
    ask_about_clusters,
    ask_about_individuals,
    ask_about_names,
    draw_evenly,
    names_of_clusters,
)

NONE = np.zeros((0, 2), np.int64)


def collection(
    dissimilarity: dict[tuple[int, int], float], size: int, cut: float = 0.5, **links: np.ndarray
) -> Collection:
    """Photographs p0, p1, ... of one dataset."""
    pairs = np.array(list(dissimilarity), np.int64).reshape(-1, 2)
    must, cannot = links.get("must", NONE), links.get("cannot", NONE)
    image_ids = np.array([f"p{row}" for row in range(size)], dtype=object)
    return Collection("Lynx", image_ids, pairs, np.array(list(dissimilarity.values())), must, cannot, cut)


def groups(sizes: tuple[int, ...], within: float, between: dict[tuple[int, int], float]) -> Collection:
    """Groups of photographs that are alike, with so much between some of them."""
    of = np.repeat(np.arange(len(sizes)), sizes)
    pairs = {
        (i, j): within if of[i] == of[j] else between.get((of[i], of[j]), 1.0)
        for i, j in combinations(range(len(of)), 2)
    }
    return collection(pairs, len(of))


def random_collection(seed: int, size: int = 14) -> Collection:
    rng = np.random.default_rng(seed)
    pairs = [pair for pair in combinations(range(size), 2) if rng.random() < 0.6]
    return collection({pair: float(rng.random()) for pair in pairs}, size)


def asked(one: Collection, answered: Any = (), most: int = 50) -> list[tuple[str, str]]:
    called = {str(name): "" for name in one.image_ids}
    return [question.key for question in ask_about_clusters([one], called, answered, most)]


@pytest.mark.parametrize("seed", range(5))
def test_decisions_say_what_a_walk_over_all_pairs_says(seed: int) -> None:
    one = random_collection(seed)
    square = np.ones((len(one), len(one)))
    square[tuple(one.pairs.T)] = square[tuple(one.pairs[:, ::-1].T)] = one.dissimilarity
    decisions = [*one.joins(), *one.apart(one.labels)]
    for decision in decisions:
        between = square[np.ix_(*decision.groups)]
        assert decision.dissimilarity == pytest.approx(between.mean())
        assert decision.nearest == pytest.approx(between.min())
        assert decision.size == between.size
        assert (decision.dissimilarity < one.cut) == decision.joined
    # every cluster was joined step by step, and every two with something in common are there
    clusters = len(set(one.labels.tolist()))
    assert sum(decision.joined for decision in decisions) == len(one) - clusters
    in_common = {tuple(sorted(one.labels[pair].tolist())) for pair in one.pairs}
    apart = {tuple(sorted(one.labels[group[0]] for group in some.groups)) for some in decisions if not some.joined}
    assert apart == {pair for pair in in_common if pair[0] != pair[1]}


@pytest.mark.parametrize("seed", range(3))
def test_candidates_are_each_photographs_nearest(seed: int) -> None:
    one = random_collection(seed)
    near = set()
    for row in range(len(one)):
        own = [
            (value, sorted(pair))
            for pair, value in zip(one.pairs.tolist(), one.dissimilarity, strict=True)
            if row in pair
        ]
        near |= {tuple(pair) for _, pair in sorted(own)[:5]}
    assert {tuple(pair) for pair in one.candidate_pairs().tolist()} == near


def test_the_chance_is_one_half_at_the_cut_and_falls_all_the_way() -> None:
    values = [chance_same(one, 0.8) for one in np.linspace(0, 1, 11)]
    assert values == sorted(values, reverse=True)
    assert (values[0], values[-1]) == (1, 0)
    assert chance_same(0.8, 0.8) == 0.5 == pytest.approx(chance_same(0.8 - 1e-12, 0.8))
    assert chance_same(1.0, 1.0) == 0.5


def test_doubtful_decisions_about_large_groups_come_first() -> None:
    pairs = {(0, 1): 0.49, (2, 3): 0.01}  # two decisions of equal size: one near the cut, one far from it
    assert asked(collection(pairs, 4))[0] == ("p0", "p1")
    of_two_sizes = groups((1, 1, 4, 4), 0.1, {(0, 1): 0.55, (2, 3): 0.6})
    first = asked(of_two_sizes)[0]
    assert first[0] in ("p2", "p3", "p4", "p5")
    assert first[1] in ("p6", "p7", "p8", "p9")


def test_a_question_shows_the_pair_that_is_most_alike_and_the_next_one_where_that_is_answered() -> None:
    one = collection({(0, 1): 0.1, (2, 3): 0.1, (0, 2): 0.95, (1, 2): 0.4, (1, 3): 0.7, (0, 3): 0.9}, 4)
    about_both = [pair for pair in asked(one) if pair not in (("p0", "p1"), ("p2", "p3"))]
    assert about_both == [("p1", "p2")]
    assert ("p1", "p3") in asked(one, {("p1", "p2")})
    every = {(f"p{i}", f"p{j}") for i, j in combinations(range(4), 2)}
    assert asked(one, every) == []


def test_nothing_that_is_certain_is_asked() -> None:
    pairs = {(0, 1): 0.45, (2, 3): 0.55, (4, 5): 0.45}
    assert set(asked(collection(pairs, 6))) == {("p0", "p1"), ("p2", "p3"), ("p4", "p5")}
    linked = collection(pairs, 6, must=np.array([[0, 1]]), cannot=np.array([[2, 3]]))
    assert asked(linked) == [("p4", "p5")]


def test_no_pair_is_asked_twice_and_no_more_than_wanted() -> None:
    one = random_collection(7, 30)
    every = asked(one, most=1000)
    assert len(set(every)) == len(every)
    assert asked(one, most=10) == every[:10]


def test_a_question_shows_the_others_of_both_groups_those_most_like_the_other_group_first() -> None:
    within = {pair: 0.05 for some in ((0, 1, 2), (3, 4)) for pair in combinations(some, 2)}
    between = {(0, 3): 0.5, (1, 3): 0.8, (2, 3): 0.7, (0, 4): 0.9}
    one = collection(within | between, 5)
    called = {str(name): f"cluster {label}" for name, label in zip(one.image_ids, one.labels, strict=True)}
    about = {question.key: question for question in ask_about_clusters([one], called, (), 100)}["p0", "p3"]
    assert about.others == (("p2", "p1"), ("p4",))
    assert about.names == ("cluster 0", "cluster 1")
    assert about.size == 6


def test_discovered_clusters_are_called_by_number_and_by_who_they_may_be(tmp_path: Path) -> None:
    clusters = make_cluster_world(tmp_path / "data").clusters
    called = names_of_clusters(clusters)
    assert (called["p0"], called["p3"]) == ("cluster 0, perhaps <script>alert(1)</script>", "cluster 1")
    lynxes = collection_of(clusters, "Lynx")
    assert (len(lynxes), len(lynxes.pairs), lynxes.cut) == (6, 6, 0.5)


def test_evenly_drawn_pairs_are_candidates_without_an_answer_and_say_of_how_many() -> None:
    one = random_collection(3)
    called = {str(name): "" for name in one.image_ids}
    candidates = {tuple(sorted(one.image_ids[pair])) for pair in one.candidate_pairs()}
    some = sorted(candidates)[:4]
    drawn = draw_evenly([one], called, set(some), 10, 0)
    assert {question.key for question in drawn} <= candidates - set(some)
    assert len({question.key for question in drawn}) == 10
    assert {question.drawn for question in drawn} == {f"evenly drawn: 10 of {len(candidates) - 4}"}
    everything = draw_evenly([one], called, (), 1000, 0)
    assert {question.key for question in everything} == candidates
    counts = pd.Series([question.key for seed in range(200) for question in draw_evenly([one], called, (), 5, seed)])
    expected = 1000 / len(candidates)
    assert counts.value_counts().between(expected - 5 * expected**0.5, expected + 5 * expected**0.5).all()


def question(a: str, b: str, drawn: str = "") -> Question:
    return Question("clusters", "Lynx", (a, b), ("", ""), ((), ()), 1.0, 1, drawn)


def test_drawn_pairs_stand_evenly_between_the_proposed_ones() -> None:
    proposed, drawn = [question(f"a{n}", "b") for n in range(20)], [question(f"c{n}", "d", "drawn") for n in range(4)]
    places = [place for place, one in enumerate(arranged(proposed, drawn)) if one.drawn]
    assert places == [2, 8, 15, 21]
    assert arranged(proposed, []) == proposed
    assert arranged([], drawn) == drawn


def test_a_pair_that_is_proposed_and_drawn_is_asked_once_as_drawn() -> None:
    both = arranged([question("a", "b"), question("c", "d")], [question("d", "c", "drawn")])
    assert sorted((one.key, one.drawn) for one in both) == [(("a", "b"), ""), (("c", "d"), "drawn")]


def matches(rows: list[tuple[str, str, str, float, float, str]], threshold: float = 0.5) -> Matches:
    """Queries with their best candidate: query, candidate, its photograph, dissimilarity, probability, answer."""
    ids, names, photographs, values, chances, answers = zip(*rows, strict=True)
    queries = pd.DataFrame({"image_id": ids, "dataset": "Lynx", "threshold": threshold, "answer": answers})
    best = pd.DataFrame({"image_id": ids, "rank": 1, "candidate": names, "candidate_image_id": photographs})
    return Matches(queries, best.assign(dissimilarity=values, probability=chances), "column", {})


def test_names_near_the_threshold_are_asked_first() -> None:
    nan = float("nan")
    found = matches(
        [
            ("q0", "Mira", "m0", 0.1, nan, "Mira"),
            ("q1", "Mira", "m1", 0.48, nan, "Mira"),
            ("q2", "Tom", "t0", 0.55, nan, "new_individual"),
            ("q3", "Tom", "gone", 0.5, nan, "Tom"),  # not in this folder
            ("q4", "Tom", "t0", 0.9, nan, "new_individual"),
        ]
    )
    known = {"Mira": ["m0", "m1", "m2"], "Tom": ["t0"]}
    asked_for = ask_about_names(found, known, {("m0", "q0")}, 10)
    assert [one.pair for one in asked_for] == [("q1", "m1"), ("q2", "t0"), ("q4", "t0")]
    assert asked_for[0].names == ("", "Mira")
    assert asked_for[0].others == ((), ("m0", "m2"))


def test_a_probability_says_how_doubtful_a_name_is() -> None:
    found = matches(
        [
            ("q0", "Tom", "t0", 0.1, 0.9, "Tom"),
            ("q1", "Tom", "t0", 0.1, 0.4, "Tom"),
            ("q2", "Tom", "t0", 0.7, 0.3, "new_individual"),
        ]
    )
    assert [one.pair[0] for one in ask_about_names(found, {"Tom": ["t0"]}, (), 2)] == ["q1", "q2"]


@pytest.fixture
def database() -> tuple[Collection, np.ndarray]:
    """Ada has a stranger (4), Bo is two animals (5, 6 and 7, 8), Cy and Di are one (9, 10 and 11, 12)."""
    one = groups((4, 1, 2, 2, 2, 2), 0.05, {(0, 1): 0.97, (2, 3): 0.97, (4, 5): 0.1})
    return one, np.array(["Ada"] * 5 + ["Bo"] * 4 + ["Cy"] * 2 + ["Di"] * 2)


@pytest.mark.parametrize(
    ("mode", "of_first", "of_second", "names"),
    [
        ("stranger", {"p4"}, {"p0", "p1", "p2", "p3"}, {"Ada"}),
        ("split", {"p5", "p6"}, {"p7", "p8"}, {"Bo"}),
        ("merge", {"p9", "p10"}, {"p11", "p12"}, {"Cy", "Di"}),
    ],
)
def test_what_is_wrong_with_a_database_is_asked_first(
    database: tuple[Collection, np.ndarray], mode: str, of_first: set[str], of_second: set[str], names: set[str]
) -> None:
    first = ask_about_individuals(*database, [mode], (), 10)[0]
    assert first.mode == mode
    assert set(first.names) == names
    one, other = sorted(first.pair, key=lambda image_id: image_id in of_second)
    assert one in of_first
    assert other in of_second


def test_one_individual_can_be_asked_about_alone(database: tuple[Collection, np.ndarray]) -> None:
    for question in ask_about_individuals(*database, ["stranger", "split", "merge"], (), 50, ["Bo"]):
        assert "Bo" in question.names
