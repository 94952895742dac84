"""Clusters attached to known individuals: known answers, and a slow twin of the votes."""

import numpy as np
import pandas as pd
import pytest

from reid.decision.attach import MARGIN, attach, votes_of_clusters

Rows = list[tuple[str, str, float]]


def candidates(rows: Rows) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["image_id", "candidate", "dissimilarity"])


CLUSTERS = pd.Series({"p": "1", "q": "1", "r": "2", "s": "3"})
TWO: Rows = [("p", "Mira", 0.2), ("p", "Tom", 0.5), ("q", "Tom", 0.3), ("q", "Mira", 0.6), ("r", "Tom", 0.9)]


def test_a_vote_is_the_mean_over_the_clusters_photographs() -> None:
    votes = votes_of_clusters(candidates(TWO), CLUSTERS)
    assert list(votes.columns) == ["cluster", "candidate", "dissimilarity"]
    assert list(zip(votes["cluster"], votes["candidate"], strict=True)) == [("1", "Mira"), ("1", "Tom"), ("2", "Tom")]
    assert votes["dissimilarity"].tolist() == pytest.approx([0.4, 0.4, 0.9])  # equals by their names


def test_who_is_no_candidate_of_a_photograph_counts_as_its_worst() -> None:
    votes = votes_of_clusters(candidates([("p", "Mira", 0.2), ("p", "Tom", 0.5), ("q", "Tom", 0.3)]), CLUSTERS)
    found = dict(zip(votes["candidate"], votes["dissimilarity"], strict=True))
    assert found == {"Mira": pytest.approx((0.2 + 0.3) / 2), "Tom": pytest.approx(0.4)}


def test_votes_are_those_of_a_slow_twin() -> None:
    rng = np.random.default_rng(0)
    clusters = pd.Series({f"p{row}": str(rng.integers(4)) for row in range(20)})
    rows: Rows = [
        (name, f"animal {who}", float(rng.random()))
        for name in [*clusters.index[:18], "a stranger"]
        for who in rng.permutation(6)[: rng.integers(1, 5)]
    ]
    votes = votes_of_clusters(candidates(rows), clusters).set_index(["cluster", "candidate"])["dissimilarity"]
    expected = {}
    for cluster in set(clusters):
        own = {name for name, some in clusters.items() if some == cluster}
        of_each = {name: {who: far for one, who, far in rows if one == name} for name in own}
        of_each = {name: found for name, found in of_each.items() if found}
        for who in {who for found in of_each.values() for who in found}:
            far = [found.get(who, max(found.values())) for found in of_each.values()]
            expected[cluster, who] = pytest.approx(np.mean(far))
    assert votes.to_dict() == expected
    assert list(votes.index.get_level_values(0)) == sorted(votes.index.get_level_values(0))


@pytest.mark.parametrize(
    ("best", "other", "threshold", "name"),
    [
        (0.3, 0.8, 0.5, "Mira"),
        (0.5, 0.8, 0.5, ""),  # at the threshold, not below it
        (0.49, 0.8, 0.5, "Mira"),
        (0.4, 0.4 / MARGIN - 0.001, 0.5, ""),  # too near to the runner-up
        (0.4, 0.4 / MARGIN + 0.001, 0.5, "Mira"),
        (0.4, 0.4, 0.5, ""),
        (0.0, 0.0, 0.5, ""),  # both certain, and nothing to choose by
    ],
)
def test_a_cluster_is_named_below_the_threshold_and_well_before_the_runner_up(
    best: float, other: float, threshold: float, name: str
) -> None:
    rows: Rows = [("r", "Tom", other), ("r", "Mira", best), ("r", "Zoe", 0.9)]
    found = attach(candidates(rows), CLUSTERS, threshold, is_probability=True)
    assert set(found) == {"2"}
    assert found["2"].identity == name
    assert found["2"].probability == pytest.approx(1 - best if name else best)


def test_the_photographs_of_a_cluster_decide_together() -> None:
    """One photograph alone would be Tom, the other nobody; together they are Mira."""
    rows: Rows = [("p", "Tom", 0.1), ("p", "Mira", 0.2), ("q", "Mira", 0.6), ("q", "Tom", 0.95)]
    assert attach(candidates(rows), CLUSTERS, 0.5, True)["1"].identity == "Mira"
    assert attach(candidates(rows), CLUSTERS, 0.3, True)["1"].identity == ""


def test_a_single_candidate_has_no_runner_up() -> None:
    attached = attach(candidates([("r", "Tom", 0.4)]), CLUSTERS, 0.5, True)["2"]
    assert attached.identity == "Tom"
    assert attached.probability == pytest.approx(0.6)


def test_another_margin_is_asked_for() -> None:
    rows: Rows = [("r", "Mira", 0.4), ("r", "Tom", 0.41)]
    assert attach(candidates(rows), CLUSTERS, 0.5, True, margin=1)["2"].identity == "Mira"
    assert attach(candidates(rows), CLUSTERS, 0.5, True, margin=0.5)["2"].identity == ""


def test_dissimilarities_that_are_no_probabilities_give_none() -> None:
    found = attach(candidates([("r", "Mira", 7.0), ("s", "Tom", 30.0)]), CLUSTERS, 20.0, is_probability=False)
    assert [(found[name].identity, np.isnan(found[name].probability)) for name in ("2", "3")] == [
        ("Mira", True),
        ("", True),
    ]


def test_nobody_is_attached_without_candidates() -> None:
    nothing = candidates([]).astype({"image_id": object, "candidate": object, "dissimilarity": float})
    assert attach(nothing, CLUSTERS, 0.5, True) == {}
    assert attach(candidates([("a stranger", "Mira", 0.1)]), CLUSTERS, 0.5, True) == {}
