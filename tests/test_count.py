"""Counting individuals: identities that hold exactly, estimates that come near, and intervals that hold the truth."""

import itertools
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_answers import write_pairs

from reid import cli
from reid.decision.count import Answered, Experience, count_individuals, count_table, experience_of, near_pairs
from reid.decision.cuts import Trial
from reid.decision.discovered import Clusters
from reid.decision.linkage import merge_tree

CUT = 0.5


def world(individuals: int, seed: int, noise: float = 0.55) -> Trial:
    """Photographs as points around their individual's, and the chance that two show one animal by their distance."""
    rng = np.random.default_rng([seed, individuals])
    truth = np.repeat(np.arange(individuals), rng.geometric(0.35, individuals))
    points = rng.normal(size=(individuals, 4))[truth] + noise * rng.normal(size=(len(truth), 4))
    pairs = np.array(list(itertools.combinations(range(len(truth)), 2)))
    distance = np.linalg.norm(points[pairs[:, 0]] - points[pairs[:, 1]], axis=1)
    return Trial(np.char.add(f"{seed} ", truth.astype(str)), pairs, 1 / (1 + np.exp(4 * (1.3 - distance))), CUT)


def clusters_of(trial: Trial) -> np.ndarray:
    return merge_tree(len(trial.labels), trial.pairs, trial.dissimilarity, cut=CUT).labels()


def answers(trial: Trial, pairs: np.ndarray, drawn: bool = True) -> Answered:
    same = trial.labels[pairs[:, 0]] == trial.labels[pairs[:, 1]]
    return Answered(pairs, same, np.full(len(pairs), drawn))


@pytest.mark.parametrize("seed", range(5))
def test_near_pairs_are_those_of_a_slow_twin(seed: int) -> None:
    rng = np.random.default_rng(seed)
    every = np.array(list(itertools.combinations(range(12), 2)))
    pairs = every[rng.random(len(every)) < 0.7]
    dissimilarity = rng.random(len(pairs))
    expected = set()
    for photograph in range(12):
        own = [row for row, pair in enumerate(pairs) if photograph in pair]
        for row in sorted(own, key=lambda row: dissimilarity[row])[:5]:
            expected.add(tuple(pairs[row].tolist()))
    assert near_pairs(12, pairs, dissimilarity).tolist() == [list(pair) for pair in sorted(expected)]
    assert near_pairs(3, pairs[:0], dissimilarity[:0]).shape == (0, 2)


@pytest.mark.parametrize("seed", range(5))
def test_shares_of_the_clusters_sum_to_their_number(seed: int) -> None:
    """So a collection that is its own pseudo-collection is counted exactly."""
    trial = world(20, seed)
    experience = experience_of([trial])
    assert experience
    labels = clusters_of(trial)
    found = count_individuals(labels, trial.pairs, trial.dissimilarity, experience)
    assert found.individuals == pytest.approx(20)
    assert (found.photographs, found.clusters, found.answers) == (len(labels), labels.max() + 1, 0)
    assert found.interval[0] < 20 < found.interval[1]


@pytest.mark.parametrize(
    ("clusters", "truth"),
    [
        ("aabb", "1111"),  # one animal in two clusters
        ("aa", "12"),
        ("aabbcc", "112233"),
        ("abc", "123"),
        ("abcd", "1122"),
    ],
)
def test_when_every_near_pair_is_answered_simple_errors_are_counted_exactly(clusters: str, truth: str) -> None:
    size = len(clusters)
    pairs = np.array(list(itertools.combinations(range(size), 2)))
    labels = np.unique(list(clusters), return_inverse=True)[1]
    same = np.array([truth[a] == truth[b] for a, b in pairs])
    rng = np.random.default_rng(0)
    for dissimilarity in (np.full(len(pairs), 0.5), rng.random(len(pairs))):  # whatever the scores are
        for drawn in (np.ones(len(pairs), bool), np.arange(len(pairs)) == 0):  # the others were chosen
            found = count_individuals(labels, pairs, dissimilarity, None, Answered(pairs, same, drawn))
            assert found.individuals == pytest.approx(len(set(truth)))
            assert found.answers == drawn.sum()


def test_the_drawn_answers_are_right_on_average() -> None:
    trial = world(30, 1)
    labels, near = clusters_of(trial), near_pairs(len(trial.labels), trial.pairs, trial.dissimilarity)
    exact = count_individuals(labels, trial.pairs, trial.dissimilarity, None, answers(trial, near)).individuals
    rng = np.random.default_rng(0)
    found = [
        count_individuals(
            labels, trial.pairs, trial.dissimilarity, None, answers(trial, near[rng.permutation(len(near))[:40]])
        ).individuals
        for _ in range(300)
    ]
    assert np.mean(found) == pytest.approx(exact, abs=3 * np.std(found) / np.sqrt(300))


def test_the_interval_holds_the_truth_in_about_nine_of_ten_collections_and_answers_help() -> None:
    experience = experience_of([world(30, seed) for seed in range(12)])
    rng = np.random.default_rng(0)
    inside, errors, widths = [], [], []
    for seed in range(100, 220):
        trial = world(int(rng.integers(12, 40)), seed)
        truth, labels = len(np.unique(trial.labels)), clusters_of(trial)
        near = near_pairs(len(labels), trial.pairs, trial.dissimilarity)
        drawn = answers(trial, near[rng.permutation(len(near))[:100]])
        both = [
            count_individuals(labels, trial.pairs, trial.dissimilarity, experience, *some) for some in ((), (drawn,))
        ]
        inside.append([one.interval[0] <= truth <= one.interval[1] for one in both])
        errors.append([abs(one.individuals - truth) / truth for one in both])
        widths.append([np.log(one.interval[1] / one.interval[0]) for one in both])
    assert ((np.mean(inside, 0) >= 0.83) & (np.mean(inside, 0) <= 0.99)).all()
    alone, helped = np.mean(errors, 0)
    assert helped < 0.8 * alone
    assert np.mean(widths, 0)[1] < 0.9 * np.mean(widths, 0)[0]


def test_without_experience_and_answers_nothing_is_known() -> None:
    trial = world(10, 0)
    found = count_individuals(clusters_of(trial), trial.pairs, trial.dissimilarity, experience_of([]))
    assert found.individuals == found.clusters
    assert np.isnan(found.interval).all()
    one = count_individuals(np.zeros(1, int), trial.pairs[:0], trial.dissimilarity[:0], None)
    assert (one.photographs, one.clusters, one.individuals) == (1, 1, 1.0)


def test_groups_are_counted_apart() -> None:
    photographs = pd.DataFrame({"image_id": list("abcde"), "dataset": "Lynx", "cluster": list("xxyyz"), "flags": ""})
    photographs.loc[4, "flags"] = "unreadable alone"
    pairs = pd.DataFrame([("Lynx", "a", "b", 0.1), ("Lynx", "c", "d", 0.2)])
    pairs.columns = pd.Index(["dataset", "image_id_a", "image_id_b", "dissimilarity"])
    sides = ["left", "right", "left", "", "left"]
    groups = pd.DataFrame({"orientation": sides, "season": ["wet"] * 5}, index=list("abcde"))
    found = count_table(Clusters(photographs, pairs), [("b", "a", True, True)], groups)
    assert found[["dataset", "group", "photographs", "clusters", "answers"]].to_numpy().tolist() == [
        ["Lynx", "", 4, 2, 1],
        ["Lynx", "orientation left", 2, 2, 0],
        ["Lynx", "orientation right", 1, 1, 0],
    ]


def test_an_experience_of_whole_clusters_leaves_the_number_as_it_is() -> None:
    sure = Experience(np.array([1.0, 0.0]), np.zeros((2, 2)), np.zeros((2, 2)), 10, 0.0)
    found = count_individuals(np.arange(5), np.zeros((0, 2), int), np.zeros(0), sure)
    assert (found.individuals, *found.interval) == pytest.approx((5, 5, 5))


# the command


def run(*words: object) -> int:
    return cli.main(list(map(str, words)))


def test_the_command(patterns: Path, patterns_weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = ["count", patterns, "--weights", patterns_weights]
    assert run(*call, "--json") == 0
    rows = json.loads(capsys.readouterr().out)["counts"]
    assert [(row["dataset"], row["group"], row["photographs"], row["answers"]) for row in rows] == [
        ("Checks", "", 14, 0),
        ("Dots", "", 14, 0),
    ]
    solution = pd.read_csv(patterns / "solution.csv", dtype=str)
    own = solution[solution["dataset"] == "Dots"]
    truth = dict(zip(own["image_id"], own["identity"], strict=True))
    said = [
        f"{a},{b},{'same' if truth[a] == truth[b] else 'different'},,,evenly drawn: 91 of 91"
        for a, b in itertools.combinations(truth, 2)
    ]
    write_pairs(patterns, *said, f"{own['image_id'].iloc[0]},{own['image_id'].iloc[2]},unsure,Bo,,")
    assert run(*call, "--by", "species") == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("Checks: about ")
    assert re.search(r"; photographs: 14, clusters: \d+, drawn answers: 0$", first)
    assert second.startswith("Dots: about 7 individuals (")
    assert run(*call, "--by", "colour") == 2
    assert "--by colour: expected a column of metadata.csv or year" in capsys.readouterr().err
    (patterns / "competition.json").touch()
    assert run(*call) == 2
    assert "whose rules forbid labels made by hand" in capsys.readouterr().err
