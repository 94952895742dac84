"""The exact sweep against a slow twin, and that pseudo-queries never leak."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from reid import NEW_INDIVIDUAL
from reid.calibration import HeldOut, PseudoQueries, fit_threshold, hold_out, pseudo_queries, sweep
from reid.catalogue import COLUMNS, Catalogue
from reid.recipe import RECIPES, override
from reid.scoring import score_submission

RECIPE = override(RECIPES["toy"], ["calibration_splits=20"])


def random_queries(seed: int) -> PseudoQueries:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 40))
    individual = rng.choice([f"animal {n}" for n in range(8)], size=count)
    return PseudoQueries(
        distance=rng.integers(0, 12, size=count) / 4,  # many ties
        right=rng.random(count) < 0.6,
        individual=individual,
        new=np.isin(individual, ["animal 0", "animal 3", "animal 5"]),
    )


def slow_score(queries: PseudoQueries, threshold: float) -> tuple[float, float, float]:
    """BAKS, BAUS and the share called new, by the competition's scorer itself."""
    rows = range(len(queries.distance))
    named = ["itself" if queries.right[i] else "another" for i in rows]
    answers = [named[i] if queries.distance[i] < threshold else NEW_INDIVIDUAL for i in rows]
    truth = pd.DataFrame({"image_id": rows, "identity": queries.individual, "new_identity": queries.new})
    truth["dataset"] = "x"
    told = [truth["identity"][i] if answers[i] == "itself" else answers[i] for i in rows]
    score = score_submission(pd.DataFrame({"image_id": rows, "identity": told}), truth)["x"]
    return np.nan_to_num(score.baks), np.nan_to_num(score.baus), float(np.mean([a == NEW_INDIVIDUAL for a in answers]))


@pytest.mark.parametrize("seed", range(25))
def test_the_sweep_equals_scoring_at_every_threshold(seed: int) -> None:
    queries = random_queries(seed)
    swept = sweep(queries)
    between = np.concatenate([swept.edges - 0.01, swept.edges, swept.edges + 0.01, [-1.0, 99.0]])
    told = swept.at(between)
    for place, threshold in enumerate(between):
        expected = slow_score(queries, threshold)
        assert (told.baks[place], told.baus[place], told.share_new[place]) == pytest.approx(expected, abs=1e-12)


def database(rows: list[tuple[str, str]]) -> Catalogue:
    """A catalogue of (identity, day) rows."""
    table = pd.DataFrame("", index=range(len(rows)), columns=[*COLUMNS, "day"])
    table["image_id"] = [str(place) for place in range(len(rows))]
    table["identity"], table["day"] = zip(*rows, strict=True)
    table["split"] = "database"
    return Catalogue(Path(), table)


def test_hold_out_leaves_two_photographs_and_takes_whole_individuals() -> None:
    rows = [(f"animal {n}", "") for n in range(20) for _ in range(1 + n % 5)]
    held_out = hold_out(database(rows), RECIPE)
    labels = np.array([identity for identity, _ in rows])
    taken = set(labels[held_out.individuals])
    assert len(taken) == 4  # a fifth of 20
    assert not any(held_out.individuals[labels == other].any() for other in set(labels) - taken)
    learned = ~held_out.individuals & ~held_out.photographs
    for other in set(labels) - taken:
        lost = (held_out.photographs & (labels == other)).sum()
        assert lost <= 1
        if lost:
            assert (learned & (labels == other)).sum() >= 2
    assert held_out.photographs.any()
    assert not (held_out.photographs & held_out.individuals).any()


def test_hold_out_takes_the_last_day_where_there_are_days() -> None:
    rows = [(f"animal {n}", day) for n in range(10) for day in ("2020-01-01", "2020-01-01", "2021-05-05", "2021-05-05")]
    held_out = hold_out(database(rows), RECIPE)
    days = np.array([day for _, day in rows])
    assert set(days[held_out.photographs]) == {"2021-05-05"}
    assert held_out.photographs.sum() == 2 * 4  # both photographs of the day, of half of the eight others


UNSEEN = ["animal 00", "animal 01", "animal 02", "animal 03"]


def contest(seed: int = 0, individuals: int = 12, photographs: int = 4, spread: float = 0.3, days: bool = False):
    """Points around one centre per individual: who is near is the same animal."""
    rng = np.random.default_rng(seed)
    labels = np.repeat([f"animal {n:02d}" for n in range(individuals)], photographs)
    centres = np.repeat(rng.normal(size=(individuals, 8)), photographs, axis=0)
    vectors = centres + rng.normal(size=centres.shape) * spread
    held = HeldOut(individuals=np.isin(labels, UNSEEN), photographs=np.zeros(len(labels), bool))
    held.photographs[np.arange(photographs * 4, len(labels), photographs)] = True
    asked = np.flatnonzero(held.individuals | held.photographs)
    distances = np.linalg.norm(vectors[asked][:, None] - vectors[None], axis=2)
    when = np.array(["2020-01-01" if place % photographs < 2 else "2021-01-01" for place in range(len(labels))])
    return distances, asked, labels, when if days else np.full(len(labels), ""), held


def test_new_pseudo_queries_have_no_photograph_in_the_gallery_and_known_ones_have() -> None:
    distances, asked, labels, days, held = contest()
    for queries in pseudo_queries(distances, asked, labels, days, held, RECIPE):
        assert not queries.right[queries.new].any()  # nobody can be right about an animal that is not there
        assert set(queries.individual[queries.new]) & set(queries.individual[~queries.new]) == set()
        assert set(queries.individual[queries.new]) <= set(UNSEEN)
        assert queries.distance.min() > 0  # never compared with itself
        assert np.isfinite(queries.distance).all()


def test_a_known_pseudo_query_never_meets_its_own_day() -> None:
    distances, asked, labels, days, held = contest(days=True)
    same_day = (labels[asked][:, None] == labels[None]) & (days[asked][:, None] == days[None])
    marked = np.where(same_day, -1.0, distances)  # whoever looks at a forbidden pair finds it nearest
    for queries in pseudo_queries(marked, asked, labels, days, held, RECIPE):
        assert (queries.distance > 0).all()


def test_the_fitted_threshold_separates_clusters_and_expects_it() -> None:
    distances, asked, labels, days, held = contest(spread=0.05)
    threshold = fit_threshold("x", distances, asked, labels, days, held, RECIPE)
    within = distances[(labels[asked][:, None] == labels[None])].max()
    across = distances[(labels[asked][:, None] != labels[None])].min()
    assert within < threshold.value < across
    assert threshold.score == pytest.approx(1.0)
    assert threshold.plateau[0] < threshold.value < threshold.plateau[1]
    assert threshold.note == ""


def test_shuffled_labels_are_expected_to_score_badly() -> None:
    distances, asked, labels, days, held = contest(spread=0.05)
    shuffled = np.random.default_rng(1).permutation(labels)
    held = HeldOut(np.isin(shuffled, UNSEEN), np.zeros(len(labels), bool))
    asked = np.flatnonzero(held.individuals)
    vectors = np.random.default_rng(2).normal(size=(len(labels), 8))
    distances = np.linalg.norm(vectors[asked][:, None] - vectors[None], axis=2)
    threshold = fit_threshold("x", distances, asked, shuffled, days, held, RECIPE)
    assert threshold.score is not None
    assert threshold.score < 0.5


def test_the_threshold_is_the_best_of_all_on_its_own_pseudo_queries() -> None:
    distances, asked, labels, days, held = contest(spread=0.8, seed=4)
    threshold = fit_threshold("x", distances, asked, labels, days, held, RECIPE)
    splits = list(pseudo_queries(distances, asked, labels, days, held, RECIPE))

    def mean_score(value: float) -> float:
        return float(np.mean([np.sqrt(slow_score(split, value)[0] * slow_score(split, value)[1]) for split in splits]))

    grid = np.linspace(0, distances.max(), 150)
    assert threshold.score == pytest.approx(mean_score(threshold.value), abs=1e-9)
    assert mean_score(threshold.value) >= max(map(mean_score, grid)) - 0.005 - 1e-9  # within the plateau's tolerance


@pytest.mark.parametrize(
    ("labels", "held", "words"),
    [
        (["a", "b", "c", "d"], [True, True, False, False], "no individual has two photographs"),
        (["a", "a", "b", "b"], [False, False, False, False], "too few individuals to hold any out"),
    ],
)
def test_a_database_that_cannot_play_gets_a_cautious_threshold_and_a_note(labels: list, held: list, words: str) -> None:
    asked = np.flatnonzero(held)
    distances = np.abs(asked[:, None] - np.arange(4)[None]).astype(float)
    held_out = HeldOut(np.array(held), np.zeros(4, bool))
    threshold = fit_threshold("x", distances, asked, np.array(labels), np.full(4, ""), held_out, RECIPE)
    assert words in threshold.note
    assert np.isfinite(threshold.value)
    assert threshold.score is None
