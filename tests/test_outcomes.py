"""Outcomes and their order, on the tiny world made by hand."""

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
    outcomes = classify_outcomes(*answered).set_index("image_id")
    assert dict(outcomes["outcome"]) == {query[0]: query[6] for query in QUERIES}


def test_the_oracle_threshold_is_the_best_of_all(answered: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    outcomes = classify_outcomes(*answered)
    lynx = outcomes[outcomes["dataset"] == "Lynx"]
    scores = {}
    for limit in [*lynx["dissimilarity"], 9.0]:
        named = lynx["dissimilarity"] < limit
        baks = (named & (lynx["identity"] == lynx["truth"]))[~lynx["truth_new"]].mean()
        baus = (~named)[lynx["truth_new"]].mean()
        scores[limit] = np.sqrt(baks * baus)
    best = oracle_threshold(lynx)
    assert best is not None
    assert best[1] == pytest.approx(max(scores.values()))
    assert scores[best[0]] == pytest.approx(best[1])


def test_without_both_known_and_new_queries_there_is_no_oracle_threshold(
    answered: tuple[pd.DataFrame, pd.DataFrame],
) -> None:
    outcomes = classify_outcomes(*answered)
    assert oracle_threshold(outcomes[outcomes["dataset"] == "Newt"]) is None


def test_a_query_that_the_solution_does_not_know_has_no_outcome(answered: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    matches, solution = answered
    outcomes = classify_outcomes(matches, solution[solution["image_id"] != "q2"]).set_index("image_id")
    assert outcomes.loc["q2", "outcome"] == "open-named"
    assert outcomes.loc["q1", "outcome"] == "wrong"


def test_the_stratified_order_begins_with_the_worst_of_every_outcome_and_dataset(
    answered: tuple[pd.DataFrame, pd.DataFrame],
) -> None:
    outcomes = classify_outcomes(*answered)
    order = stratified_order(outcomes)
    assert sorted(order) == list(range(len(outcomes)))
    kinds = outcomes.iloc[order][["outcome", "dataset"]].apply(tuple, axis=1).tolist()
    different = len(set(kinds))
    assert len(set(kinds[:different])) == different < len(kinds)
    assert [list(OUTCOMES).index(outcome) for outcome, _ in kinds[:different]] == sorted(
        list(OUTCOMES).index(outcome) for outcome, _ in kinds[:different]
    )
