"""Counting individuals: identities that hold exactly, estimates that come near, and intervals that hold the truth."""

import itertools
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hand_clusters import CUTS
from test_answers import write_pairs

from reid import cli
from reid.data.catalogue import read_catalogue
from reid.decision.count import (
    Answered,
    Experience,
    count_individuals,
    count_table,
    describe_counts,
    experience_of,
    near_pairs,
    read_answers,
)
from reid.decision.cuts import Trial
from reid.decision.discovered import Clusters
from reid.decision.linkage import merge_tree
from reid.decision.reference import companions_of

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


def density_of(trials: list[Trial]) -> float:
    return float(np.mean([companions_of(trial.labels) for trial in trials]))


@pytest.mark.parametrize("seed", range(5))
def test_a_collection_that_is_its_own_pseudo_collection_is_counted_well(seed: int) -> None:
    """The clusters' number is its individuals' mean share of them times how many they are, at the true density."""
    trial = world(40, seed)
    labels, experience = clusters_of(trial), experience_of([trial])
    found = count_individuals(labels, trial.pairs, trial.dissimilarity, experience, companions_of(trial.labels))
    assert found.individuals == pytest.approx(40, rel=0.1)
    assert (found.photographs, found.clusters, found.answers) == (len(labels), labels.max() + 1, 0)
    assert found.interval[0] < 40 < found.interval[1]
    assert found.interval == (int(found.interval[0]), int(found.interval[1]))


@pytest.mark.parametrize("individuals", [14, 21, 24])
def test_clusters_that_are_right_in_all_pseudo_collections_are_counted_as_they_are(individuals: int) -> None:
    """Everybody's share is 1 but for rounding, whose root would be no number."""
    trials = [world(individuals, seed) for seed in range(10, 14)]
    live, *known = (
        trial._replace(dissimilarity=np.where(answers(trial, trial.pairs).same, 0.1, 0.9)) for trial in trials
    )
    experience = experience_of(known)
    assert experience
    assert experience.shares == pytest.approx(1)
    found = count_individuals(clusters_of(live), live.pairs, live.dissimilarity, experience, 1.0)
    assert found.individuals == pytest.approx(individuals, abs=1)
    assert found.interval[0] <= individuals <= found.interval[1]


def test_the_denser_the_photographs_are_said_to_be_the_fewer_are_the_individuals() -> None:
    trials = [world(30, seed) for seed in range(8)]
    live = world(30, 50)
    numbers = [
        count_individuals(
            clusters_of(live), live.pairs, live.dissimilarity, experience_of(trials), companions
        ).individuals
        for companions in (0.5, 1, 2, 4, 8)
    ]
    assert numbers == sorted(numbers, reverse=True)
    assert numbers[0] > 1.3 * numbers[-1]


def test_the_interval_holds_the_truth_and_answers_make_up_for_a_wrong_density() -> None:
    trials = [world(30, seed) for seed in range(12)]
    experience, rng = experience_of(trials), np.random.default_rng(0)
    inside, errors, widths = [], [], []
    for seed in range(100, 180):
        trial = world(int(rng.integers(15, 40)), seed)
        truth, labels = len(np.unique(trial.labels)), clusters_of(trial)
        near = near_pairs(len(labels), trial.pairs, trial.dissimilarity)
        drawn = answers(trial, near[rng.permutation(len(near))[:100]])
        said = companions_of(trial.labels) * np.exp(rng.normal(scale=0.4))
        both = [
            count_individuals(labels, trial.pairs, trial.dissimilarity, experience, said, *some)
            for some in ((), (drawn,))
        ]
        assert [one.answers for one in both] == [0, len(drawn.pairs)]
        inside.append([one.interval[0] <= truth <= one.interval[1] for one in both])
        errors.append([abs(one.individuals - truth) / truth for one in both])
        widths.append([np.log(one.interval[1] / one.interval[0]) for one in both])
    assert (np.mean(inside, 0) >= 0.85).all()
    (alone, helped), (wide, narrow) = np.mean(errors, 0), np.mean(widths, 0)
    assert helped < 0.9 * alone
    assert narrow < 0.9 * wide


def test_when_all_near_pairs_are_answered_it_does_not_matter_which_were_chosen() -> None:
    trials, live = [world(30, seed) for seed in range(8)], world(30, 60)
    labels, experience = clusters_of(live), experience_of(trials)
    every = answers(live, near_pairs(len(labels), live.pairs, live.dissimilarity))
    numbers = [
        count_individuals(
            labels, live.pairs, live.dissimilarity, experience, density_of(trials), every._replace(drawn=drawn)
        )
        for drawn in (every.drawn, ~every.same, np.arange(len(every.same)) % 3 == 0)
    ]
    assert [one.individuals for one in numbers] == pytest.approx([numbers[0].individuals] * 3, rel=1e-3)
    assert {one.interval for one in numbers} == {numbers[0].interval}


def test_without_experience_nothing_is_known() -> None:
    trial = world(10, 0)
    found = count_individuals(clusters_of(trial), trial.pairs, trial.dissimilarity, experience_of([]), 1.0)
    assert found.individuals == found.clusters
    assert np.isnan(found.interval).all()
    one = count_individuals(np.zeros(1, int), trial.pairs[:0], trial.dissimilarity[:0], None, 1.0)
    assert (one.photographs, one.clusters, one.individuals) == (1, 1, 1.0)


def test_groups_are_counted_apart() -> None:
    photographs = pd.DataFrame({"image_id": list("abcde"), "dataset": "Lynx", "cluster": list("xxyyz"), "flags": ""})
    photographs.loc[4, "flags"] = "unreadable alone"
    pairs = pd.DataFrame([("Lynx", "a", "b", 0.1), ("Lynx", "c", "d", 0.2)])
    pairs.columns = pd.Index(["dataset", "image_id_a", "image_id_b", "dissimilarity"])
    sides = ["left", "right", "left", "", "left"]
    groups = pd.DataFrame({"orientation": sides, "season": ["wet"] * 5}, index=list("abcde"))
    cuts = {"Lynx": CUTS["Lynx"]}
    found = count_table(Clusters(photographs, pairs, cuts), [("b", "a", True, True)], groups)
    assert found[["dataset", "group", "photographs", "clusters", "answers"]].to_numpy().tolist() == [
        ["Lynx", "", 4, 2, 0],
        ["Lynx", "orientation left", 2, 2, 0],
        ["Lynx", "orientation right", 1, 1, 0],
    ]


def test_answers_of_a_dataset_with_known_animals_are_used() -> None:
    trial = world(20, 3)
    ids = [f"p{row}" for row in range(len(trial.labels))]
    labels = [f"c{label}" for label in clusters_of(trial)]
    photographs = pd.DataFrame({"image_id": ids, "dataset": "Lynx", "cluster": labels, "flags": ""})
    ends = {name: [ids[row] for row in trial.pairs[:, end]] for end, name in enumerate(("image_id_a", "image_id_b"))}
    pairs = pd.DataFrame({"dataset": "Lynx", **ends, "dissimilarity": trial.dissimilarity})
    clusters = Clusters(photographs, pairs, {"Lynx": CUTS["Lynx"]}, trials={"Lynx": (trial,)})
    near = near_pairs(len(ids), trial.pairs, trial.dissimilarity)[:30].tolist()
    said = [(ids[b], ids[a], bool(trial.labels[a] == trial.labels[b]), True) for a, b in near]
    sides = pd.DataFrame({"orientation": ["left", "right"] * len(ids)}).iloc[: len(ids)].set_index(pd.Index(ids))
    found = count_table(clusters, said, sides)
    expected = count_individuals(
        clusters_of(trial),
        trial.pairs,
        trial.dissimilarity,
        experience_of([trial]),
        CUTS["Lynx"].companions,
        answers(trial, np.array(near)),
    )
    assert found["individuals"][0] == pytest.approx(expected.individuals)
    assert found["answers"].tolist()[0] == 30
    left = sum(a % 2 == 0 and b % 2 == 0 for a, b in near)
    assert found["answers"].tolist()[1] == left
    assert describe_counts(found)[0].startswith(f"Lynx: about {expected.individuals:.0f} individuals (")


def test_an_experience_of_whole_clusters_leaves_the_number_as_it_is() -> None:
    sure = Experience(np.ones(30), np.ones(30), np.zeros(30), 30, 0.0)
    found = count_individuals(np.arange(5), np.zeros((0, 2), int), np.zeros(0), sure, 0.0)
    assert found.individuals == pytest.approx(5, abs=0.1)
    assert found.interval[0] in (4, 5)
    assert found.interval[1] == 5  # not more than photographs


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
    assert re.match(r"Dots: about \d+ individuals \(no interval: too few known individuals\); ", second)
    assert len(read_answers(read_catalogue(patterns))) == len(said)
    assert all(drawn for *_, drawn in read_answers(read_catalogue(patterns)))
    path = write_pairs(patterns, f"{own['image_id'].iloc[1]},{own['image_id'].iloc[0]},same,,,looked at it twice")
    first, other = sorted(own["image_id"].iloc[:2])
    assert read_answers(read_catalogue(patterns), path) == [(first, other, True, False)]
    write_pairs(patterns, *said)
    assert run(*call, "--by", "colour") == 2
    told = capsys.readouterr().err
    assert "--by colour: expected a column of metadata.csv or year" in told
    assert "date_problem" not in told
    (patterns / "competition.json").touch()
    assert run(*call) == 2
    assert "whose rules forbid labels made by hand" in capsys.readouterr().err
