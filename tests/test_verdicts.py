"""Verdicts and their order, on the tiny world made by hand."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hand_world import QUERIES, make_world

from reid.report.outcomes import OUTCOMES, classify_outcomes, oracle_threshold, stratified_order


@pytest.fixture
def answered(tmp_path: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Matches and their solution."""
    _, _, prediction, solution = make_world(tmp_path)
    return prediction.matches, solution


def test_outcomes_are_those_of_their_definition(answered: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    judged = classify_outcomes(*answered).set_index("image_id")
    assert dict(judged["outcome"]) == {query[0]: query[6] for query in QUERIES}


def test_the_best_threshold_in_hindsight_is_the_best_of_all(answered: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    judged = classify_outcomes(*answered)
    lynx = judged[judged["dataset"] == "Lynx"]
    scores = {}
    for limit in [*lynx["distance"], 9.0]:
        named = lynx["distance"] < limit
        baks = (named & (lynx["identity"] == lynx["truth"]))[~lynx["truth_new"]].mean()
        baus = (~named)[lynx["truth_new"]].mean()
        scores[limit] = np.sqrt(baks * baus)
    best = oracle_threshold(lynx)
    assert best is not None
    assert best[1] == pytest.approx(max(scores.values()))
    assert scores[best[0]] == pytest.approx(best[1])


def test_without_known_and_new_queries_no_threshold_is_best(answered: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    judged = classify_outcomes(*answered)
    assert oracle_threshold(judged[judged["dataset"] == "Newt"]) is None


def test_a_query_that_the_solution_does_not_know_has_no_outcome(answered: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    matches, solution = answered
    judged = classify_outcomes(matches, solution[solution["image_id"] != "q2"]).set_index("image_id")
    assert judged.loc["q2", "outcome"] == "open-named"
    assert judged.loc["q1", "outcome"] == "wrong"


def test_the_first_in_turn_are_the_worst_of_every_outcome_and_dataset(
    answered: tuple[pd.DataFrame, pd.DataFrame],
) -> None:
    judged = classify_outcomes(*answered)
    order = stratified_order(judged)
    assert sorted(order) == list(range(len(judged)))
    kinds = judged.iloc[order][["outcome", "dataset"]].apply(tuple, axis=1).tolist()
    different = len(set(kinds))
    assert len(set(kinds[:different])) == different < len(kinds)
    assert [list(OUTCOMES).index(outcome) for outcome, _ in kinds[:different]] == sorted(
        list(OUTCOMES).index(outcome) for outcome, _ in kinds[:different]
    )
