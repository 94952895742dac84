"""Clusters as answers: the score beside scikit-learn's and counted by hand, the check, and both as commands."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import adjusted_rand_score

from reid import cli
from reid.decision.clusters import (
    adjusted_rand_index,
    check_clusters,
    mean_rand_index,
    read_cluster_solution,
    score_clusters,
)
from reid.errors import InputError

DATASETS = {"1": "Lynx", "2": "Lynx", "3": "Newt"}


def labels(*names: object) -> pd.DataFrame:
    return pd.DataFrame({"image_id": list(DATASETS)[: len(names)], "cluster": list(map(str, names))})


@pytest.mark.parametrize("seed", range(20))
def test_the_index_is_scikit_learns(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(2, 3000))
    truth, other = (rng.integers(0, rng.integers(1, count), count).astype(str).tolist() for _ in range(2))
    answer = np.where(rng.random(count) < rng.random(), truth, other).tolist()
    assert adjusted_rand_index(truth, answer) == pytest.approx(adjusted_rand_score(truth, answer), abs=1e-12)


def test_the_index_counts_pairs() -> None:
    truth, answer = "aabbc", "xxxyz"
    pairs = list(itertools.combinations(range(5), 2))
    both, mine, yours = (
        sum(test(*pair) for pair in pairs)
        for test in (
            lambda i, j: truth[i] == truth[j] and answer[i] == answer[j],
            lambda i, j: truth[i] == truth[j],
            lambda i, j: answer[i] == answer[j],
        )
    )
    chance = mine * yours / len(pairs)
    index = (both - chance) / ((mine + yours) / 2 - chance)
    assert adjusted_rand_index(truth, answer) == pytest.approx(index, abs=1e-12)


@pytest.mark.parametrize(
    ("truth", "answer", "index"),
    [("abc", "xyz", 1), ("aaa", "xxx", 1), ("a", "x", 1), ("aabb", "wxyz", 0), ("aabb", "xxxx", 0), ("aab", "yyx", 1)],
)
def test_edges_of_the_index(truth: str, answer: str, index: float) -> None:
    assert adjusted_rand_index(truth, answer) == index == adjusted_rand_score(list(truth), list(answer))


def test_datasets_are_scored_apart_and_count_alike() -> None:
    solution = pd.DataFrame({"image_id": list("123"), "identity": list("aab"), "dataset": ["Lynx", "Lynx", "Newt"]})
    scores = score_clusters(labels("p", "q", "p"), solution)
    assert [(name, score.ari, score.images, score.individuals, score.clusters) for name, score in scores.items()] == [
        ("Lynx", 0.0, 2, 1, 2), ("Newt", 1.0, 1, 1, 1)
    ]  # fmt: skip
    assert mean_rand_index(scores) == 0.5
    for wrong in (labels("p", "q"), pd.concat([labels("p", "q", "p"), labels("p")])):
        with pytest.raises(InputError, match="expected one cluster for every image_id"):
            score_clusters(wrong, solution)


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        (["cluster_Lynx_1", "cluster_Lynx_1", "cluster_Newt_x y"], []),
        (["cluster_Lynx_1", "cluster_Newt_1", "cluster_Newt_1"], ["row 3 (image_id 2): expected a cluster of its"]),
        (["cluster_Lynx_", "cluster_Lynx_1", "cluster_Newt_1"], ["row 2 (image_id 1): expected a cluster of its"]),
        (["cluster_Lynx_1", "", "cluster_Newt_1"], ["cluster_Lynx_NAME; found ''"]),
        (["cluster_Lynx_1", "cluster_Lynx_1"], ["missing: image_id 3 has no row"]),
    ],
)
def test_what_kaggle_would_refuse_is_named(answers: list[str], words: list[str]) -> None:
    faults = check_clusters(labels(*answers), list(DATASETS), DATASETS)
    assert len(faults) == len(words)
    assert all(some in fault for some, fault in zip(words, faults, strict=True))


def test_another_order_and_other_columns_are_named() -> None:
    right = labels("cluster_Lynx_1", "cluster_Lynx_1", "cluster_Newt_1")
    (fault,) = check_clusters(right.iloc[[1, 0, 2]].reset_index(drop=True), list(DATASETS), DATASETS)
    assert fault == "row 2: expected image_id 1, found 2; the order is that of sample_submission.csv"
    (fault,) = check_clusters(right.assign(note="x"), list(DATASETS), DATASETS)
    assert fault == "row 1: expected the columns image_id,cluster, found image_id,cluster,note"


def test_usage_is_scored_apart_and_new_identity_is_not_needed(tmp_path: Path) -> None:
    path = tmp_path / "solution.csv"
    path.write_text("image_id,identity,dataset,Usage\n1,a,Lynx,Public\n2,a,Lynx,Private\n3,b,Newt,Private\n")
    assert len(read_cluster_solution(path)) == 3
    assert list(read_cluster_solution(path, ["Private"])["image_id"]) == ["2", "3"]
    with pytest.raises(InputError, match="no row has Usage Secret; found Private, Public"):
        read_cluster_solution(path, ["Secret"])


def test_check_and_score_tell_the_years_apart_by_the_columns(
    patterns: Path, edit_rows: Callable, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    queries = pd.read_csv(patterns / "sample_submission.csv", dtype=str)["image_id"]
    solution = pd.read_csv(patterns / "solution.csv", dtype=str).set_index("image_id").loc[queries]
    clusters = ("cluster_" + solution["dataset"] + "_" + solution["identity"]).to_list()
    answers = pd.DataFrame({"image_id": queries, "cluster": clusters})
    answers.to_csv(tmp_path / "c.csv", index=False)
    assert cli.main(["score", str(tmp_path / "c.csv"), str(patterns / "solution.csv"), "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["overall"] == 1
    assert scores["datasets"]["Dots"] == {"ari": 1.0, "images": 14, "individuals": 7, "clusters": 7}
    assert cli.main(["score", str(tmp_path / "c.csv"), str(patterns / "solution.csv")]) == 0
    assert "overall 1.0000" in capsys.readouterr().out
    assert cli.main(["check", str(patterns), "--submission", str(tmp_path / "c.csv")]) == 2  # the sample says identity
    assert "found image_id, cluster; missing: identity" in "".join(capsys.readouterr())
    answers.assign(cluster="cluster_X_0").to_csv(patterns / "sample_submission.csv", index=False)
    assert cli.main(["check", str(patterns), "--submission", str(tmp_path / "c.csv")]) == 0
    assert "no fault, ready to hand in" in capsys.readouterr().out
