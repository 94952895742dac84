"""Scores against loops written from their definitions, and every fault of a submission in its words."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from reid.data.catalogue import NEW_INDIVIDUAL
from reid.decision.metrics import (
    check_submission,
    find_strange_names,
    mean_retrieval,
    overall,
    read_solution,
    read_submission,
    resampled,
    score_matches,
    score_submission,
)
from reid.errors import InputError


def slow_score(submission: pd.DataFrame, solution: pd.DataFrame) -> dict[str, float]:
    """FACTS of the competition, row by row: sqrt(BAKS x BAUS) per dataset, NaN counts 0."""
    answers = {row.image_id: row.identity for row in submission.itertuples()}
    scores = {}
    for dataset in set(solution["dataset"]):
        known: dict[str, list[bool]] = {}
        new: dict[str, list[bool]] = {}
        row: Any
        for row in solution.itertuples():
            if row.dataset != dataset:
                continue
            if row.new_identity:
                new.setdefault(row.identity, []).append(bool(answers[row.image_id] == NEW_INDIVIDUAL))
            else:
                known.setdefault(row.identity, []).append(bool(answers[row.image_id] == row.identity))
        if known and new:
            baks = sum(sum(hits) / len(hits) for hits in known.values()) / len(known)
            baus = sum(sum(hits) / len(hits) for hits in new.values()) / len(new)
            scores[dataset] = (baks * baus) ** 0.5
        else:
            scores[dataset] = 0.0
    return scores


@pytest.mark.parametrize("seed", range(30))
def test_the_score_equals_the_slow_twin(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 60))
    animals = rng.integers(0, 8, size=count)
    solution = pd.DataFrame(
        {
            "image_id": rng.permutation(count).astype(str),
            "identity": [f"animal {n}" for n in animals],
            "new_identity": animals >= rng.integers(0, 9),  # sometimes all new, sometimes none
            "dataset": rng.choice(["a dataset", "Ünïcode", "7"], size=count),
        }
    )
    wild = rng.choice([NEW_INDIVIDUAL, *(f"animal {n}" for n in range(8))], size=count)
    told = np.where(rng.random(count) < 0.5, solution["identity"], wild)
    submission = pd.DataFrame({"image_id": solution["image_id"], "identity": told}).sample(frac=1, random_state=seed)
    scores = score_submission(submission, solution)
    expected = slow_score(submission, solution)
    assert {name: one.score for name, one in scores.items()} == pytest.approx(expected)
    assert overall(scores) == pytest.approx(sum(expected.values()) / len(expected))
    assert sum(one.images for one in scores.values()) == count


def test_known_answer() -> None:
    solution = pd.DataFrame(
        [("1", "leo", False), ("2", "leo", False), ("3", "mia", False), ("4", "zoe", True), ("5", "zoe", True)],
        columns=["image_id", "identity", "new_identity"],
    ).assign(dataset="lions")
    told = pd.DataFrame({"image_id": list("12345"), "identity": ["leo", "mia", "mia", NEW_INDIVIDUAL, "leo"]})
    score = score_submission(told, solution)["lions"]
    assert (score.baks, score.baus) == (0.75, 0.5)  # leo half, mia whole; zoe half
    assert score.score == pytest.approx((0.75 * 0.5) ** 0.5)


def test_naming_a_new_animal_by_its_true_name_is_wrong() -> None:
    solution = pd.DataFrame({"image_id": ["1"], "identity": ["zoe"], "new_identity": [True], "dataset": ["lions"]})
    told = pd.DataFrame({"image_id": ["1"], "identity": ["zoe"]})
    assert score_submission(told, solution)["lions"].baus == 0


def test_a_missing_answer_is_refused() -> None:
    solution = pd.DataFrame({"image_id": ["7"], "identity": ["zoe"], "new_identity": [True], "dataset": ["lions"]})
    with pytest.raises(InputError, match=r"1 of 1 are missing, such as 7"):
        score_submission(pd.DataFrame({"image_id": [], "identity": []}, dtype=str), solution)


def write_solution(path: Path, rows: str) -> Path:
    path.write_text("image_id,identity,new_identity,dataset,Usage\n" + rows)
    return path


def test_usage_keeps_only_its_rows(tmp_path: Path) -> None:
    path = write_solution(tmp_path / "s.csv", "1,leo,False,lions,Public\n2,zoe,TRUE,lions,Private\n")
    assert list(read_solution(path, ["Private"])["image_id"]) == ["2"]
    assert list(read_solution(path)["new_identity"]) == [False, True]


@pytest.mark.parametrize(
    ("rows", "usage", "words"),
    [
        (
            "1,leo,maybe,lions,Public\n",
            [],
            r"s\.csv: row 2, column new_identity: .*found 'maybe'",
        ),
        ("1,leo,True,lions,Public\n1,leo,True,lions,Public\n", [], r"row 3: image_id stands there a second time"),
        (
            "1,leo,True,lions,Public\n",
            ["Secret"],
            r"no row has Usage Secret; found Public\. Choose --usage",
        ),
        ("", [], r"expected rows to score, found none"),
    ],
)
def test_a_solution_that_cannot_be_used_is_refused(tmp_path: Path, rows: str, usage: list[str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_solution(write_solution(tmp_path / "s.csv", rows), usage)


# candidates, whatever the threshold


def drawn_matches(seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Candidates of random queries, some without any, and their solution."""
    rng, rows, truth = np.random.default_rng(seed), [], []
    names = [f"animal {n}" for n in range(9)]
    for query in range(int(rng.integers(1, 70))):
        animal = int(rng.integers(0, 12))
        truth.append((f"q{query}", f"animal {animal}", animal > 8, rng.choice(["lynx", "Ünïcode"])))
        count = int(rng.integers(0, 6))
        far = np.sort(rng.integers(0, 9, count) / 4) + (animal > 8)  # with ties
        for rank, candidate in enumerate(rng.permutation(names)[:count], 1):
            rows.append((f"q{query}", rank, candidate, far[rank - 1]))
        if not count:
            rows.append((f"q{query}", 1, "", np.nan))
    matches = pd.DataFrame(rows, columns=["image_id", "rank", "candidate", "dissimilarity"])
    return matches, pd.DataFrame(truth, columns=["image_id", "identity", "new_identity", "dataset"])


@pytest.mark.parametrize("seed", range(30))
def test_retrieval_metrics_equal_the_slow_twin(seed: int) -> None:
    matches, solution = drawn_matches(seed)
    scores = score_matches(matches.sample(frac=1, random_state=seed), solution)
    assert list(scores) == sorted(set(solution["dataset"]))
    for dataset, found in scores.items():
        first, among, reciprocal, far, is_new = [], [], [], [], []
        for row in solution[solution["dataset"] == dataset].itertuples():
            own = matches[matches["image_id"] == row.image_id].sort_values("rank")
            candidates = list(own["candidate"])
            far.append(999.0 if candidates == [""] else own["dissimilarity"].iloc[0])
            is_new.append(row.new_identity)
            if not row.new_identity:
                first.append(candidates[0] == row.identity)
                among.append(row.identity in candidates[:5])
                reciprocal.append(1 / (candidates.index(row.identity) + 1) if row.identity in candidates else 0)
        shares = [float(np.mean(values)) if values else np.nan for values in (first, among, reciprocal)]
        expected = [*shares, roc_auc_score(is_new, far) if len(set(is_new)) == 2 else np.nan]
        assert [found.rank1, found.recall5, found.mrr, found.auroc] == pytest.approx(expected, nan_ok=True)


def test_retrieval_metrics_known_answer() -> None:
    matches = pd.DataFrame(
        [("1", 1, "leo", 0.1), ("2", 1, "mia", 0.2), ("2", 2, "leo", 0.3), ("3", 1, "mia", 0.15), ("4", 1, "", np.nan)],
        columns=["image_id", "rank", "candidate", "dissimilarity"],
    )
    truth = [("1", "leo", False), ("2", "leo", False), ("3", "zoe", True), ("4", "leo", False)]
    solution = pd.DataFrame(truth, columns=["image_id", "identity", "new_identity"]).assign(dataset="lions")
    score = score_matches(matches, solution)["lions"]
    assert (score.rank1, score.recall5, score.mrr) == (1 / 3, 2 / 3, 0.5)
    assert score.auroc == pytest.approx(1 / 3)  # zoe at 0.15 is further than 0.1, nearer than 0.2 and than nothing


def test_the_mean_over_datasets_leaves_out_those_without_a_value() -> None:
    matches, solution = drawn_matches(3)
    scores = score_matches(matches, solution.assign(dataset=np.where(solution["new_identity"], "b", "a")))
    assert (scores["a"].rank1 >= 0, scores["b"].rank1 >= 0) == (True, False)  # NaN, for there is no known query
    mean = mean_retrieval(scores)
    assert (mean.rank1, mean.mrr) == (scores["a"].rank1, scores["a"].mrr)
    assert np.isnan(mean.auroc)
    both = score_matches(matches, solution)
    assert mean_retrieval(both).recall5 == pytest.approx(np.mean([one.recall5 for one in both.values()]))


def test_a_query_without_candidates_to_score_is_refused() -> None:
    matches, solution = drawn_matches(0)
    with pytest.raises(InputError, match="expected candidates for every image_id of the solution, none for q0"):
        score_matches(matches[matches["image_id"] != "q0"], solution)


# what the score might have been on other individuals


def answered(known: np.ndarray, new: np.ndarray, photographs: int = 4) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A submission and its solution, in which so many photographs of each individual are answered rightly."""
    rows, told = [], []
    for role, hits in ((False, known), (True, new)):
        for number, right in enumerate(hits):
            name = f"{'new' if role else 'known'} {number}"
            for photograph in range(photographs):
                image_id = f"{name} {photograph}"
                is_right = photograph < right
                rows.append((image_id, name, role, "lions"))
                told.append((image_id, NEW_INDIVIDUAL if role == is_right else name))
    solution = pd.DataFrame(rows, columns=["image_id", "identity", "new_identity", "dataset"])
    return pd.DataFrame(told, columns=["image_id", "identity"]), solution


def test_resampled_scores_spread_as_means_over_drawn_individuals_do() -> None:
    """The mean of n drawn with replacement has the mean of all, and their deviation divided by the root of n."""
    known, new = np.array([4, 4, 3, 2, 0, 1, 4, 4, 2]), np.array([4, 0, 4, 1])
    draws = resampled(*answered(known, new))["lions"]
    assert draws.shape == (1000, 3)
    for column, hits in enumerate((known / 4, new / 4)):
        deviation = hits.std() / np.sqrt(len(hits))
        assert draws[:, column].mean() == pytest.approx(hits.mean(), abs=4 * deviation / np.sqrt(1000))
        assert draws[:, column].std() == pytest.approx(deviation, rel=0.1)  # 4 of its standard errors
        lattice = draws[:, column] * 4 * len(hits)  # a mean of so many quarters
        assert lattice == pytest.approx(lattice.round(), abs=1e-6)
    assert abs(np.corrcoef(draws[:, 0], draws[:, 1])[0, 1]) < 4 / np.sqrt(1000)  # known and new are drawn apart
    assert draws[:, 2] == pytest.approx(np.sqrt(draws[:, 0] * draws[:, 1]))


def test_intervals_of_nine_tenths_hold_the_truth_about_nine_times_of_ten() -> None:
    """Individuals of a kind whose photographs are named with a known chance, 40 of them in each of 100 contests."""
    rng, held = np.random.default_rng(0), 0
    for contest in range(100):
        known = rng.binomial(4, rng.beta(2, 1, 40))  # the chance is 2/3 in the mean
        low, high = np.quantile(resampled(*answered(known, np.array([4])), seed=contest)["lions"][:, 0], [0.05, 0.95])
        held += low <= 2 / 3 <= high
    assert 80 <= held <= 98  # of 100 with a chance of 0.9 fewer, or more, than once in 500 times each


def test_resampled_scores_of_two_submissions_can_be_compared_row_by_row() -> None:
    good, solution = answered(np.array([4, 3, 2, 4, 1]), np.array([4, 2]))
    worse, _ = answered(np.array([3, 2, 1, 3, 0]), np.array([4, 2]))
    one, other = (resampled(told, solution, seed=3)["lions"] for told in (good, worse))
    assert one[:, 0] - other[:, 0] == pytest.approx(1 / 4)  # whoever is drawn: each lost one photograph of four
    assert np.array_equal(one[:, 1], other[:, 1])
    assert not np.array_equal(one, resampled(good, solution, seed=4)["lions"])


def test_resampled_scores_have_no_half_without_individuals() -> None:
    draws = resampled(*answered(np.array([4, 3]), np.array([], int)))["lions"]
    assert np.isnan(draws[:, 1]).all()
    assert (draws[:, 2] == 0).all()


WANTED = ["10", "11", "12"]


@pytest.mark.parametrize(
    ("rows", "faults"),
    [
        ([("10", "leo"), ("11", NEW_INDIVIDUAL), ("12", "mia")], []),
        ([("10", "leo"), ("11", "leo")], ["missing: image_id 12 has no row"]),
        (
            [("10", "leo"), ("10", "leo"), ("11", ""), ("12", "nobody"), ("99", "mia")],
            [
                "row 3 (image_id 10): this image_id was answered before",
                "row 4 (image_id 11): the identity is empty; expected an individual or new_individual",
                "row 5 (image_id 12): no individual of the database is called 'nobody'",
                "row 6 (image_id 99): no query row has this image_id",
            ],
        ),
        (
            [("11", "leo"), ("10", "leo"), ("12", "leo")],
            ["row 2: expected image_id 10, found 11; the order is that of sample_submission.csv"],
        ),
    ],
)
def test_every_fault_of_a_submission_is_reported_with_its_row(rows: list, faults: list[str]) -> None:
    submission = pd.DataFrame(rows, columns=["image_id", "identity"])
    assert check_submission(submission, WANTED, {"leo", "mia"}) == faults


def test_many_faults_of_a_submission_share_a_line_and_every_row_is_named() -> None:
    wanted = [str(number) for number in range(1000, 1100)]
    rows = [*((one, "nobody") for one in wanted[:20]), ("7", "leo"), *((one, "leo") for one in wanted[20:86])]
    rows += [("8", "nobody"), *((f"{number}", "") for number in range(9, 20))]
    submission = pd.DataFrame(rows, columns=["image_id", "identity"])
    assert check_submission(submission, wanted, {"leo"}) == [
        "rows 2-21, 89: no individual of the database is called 'nobody'",
        "rows 22, 89-100: no query row has this image_id",
        "rows 90-100: the identity is empty; expected an individual or new_individual",
        "missing: 14 image_ids have no row: 1086, 1087, 1088, 1089, 1090 and 9 more",
    ]


def test_many_unknown_names_share_a_line() -> None:
    wanted = [str(number) for number in range(631)]
    submission = pd.DataFrame({"image_id": wanted, "identity": [f"lion {number}" for number in range(630)] + ["leo"]})
    names = ", ".join(f"'lion {number}'" for number in range(5))
    assert check_submission(submission, wanted, {"leo"}) == [
        f"rows 2-631: no individual of the database is called so: {names} and 625 more"
    ]


def test_a_submission_in_the_place_of_the_solution_is_told(tmp_path: Path) -> None:
    path = tmp_path / "answers.csv"
    path.write_text("image_id,identity\n1,leo\n")
    with pytest.raises(InputError, match=r"found a submission; the order is: reid score SUBMISSION SOLUTION"):
        read_solution(path)


def test_other_columns_are_a_fault() -> None:
    submission = pd.DataFrame({"image_id": WANTED, "identity": "leo", "extra": ""})
    (fault,) = check_submission(submission, WANTED, {"leo"})
    assert fault == "row 1: expected the columns image_id,identity, found image_id,identity,extra"


def organisers_score(submission: pd.DataFrame, solution: pd.DataFrame) -> float:
    """Written after the organisers' notebook: who is new on any row is new everywhere, in whatever dataset."""
    answers = dict(zip(submission["image_id"], submission["identity"], strict=True))
    unknown = set(solution.loc[solution["new_identity"], "identity"])
    scores = []
    for dataset in solution["dataset"].unique():
        part = solution[solution["dataset"] == dataset]
        means: dict[bool, list[float]] = {True: [], False: []}
        for identity in part["identity"].unique():
            wanted = NEW_INDIVIDUAL if identity in unknown else identity
            own = part.loc[part["identity"] == identity, "image_id"]
            means[identity in unknown].append(float(np.mean([answers[image_id] == wanted for image_id in own])))
        baks, baus = (float(np.mean(means[new])) if means[new] else 0.0 for new in (False, True))
        scores.append((baks * baus) ** 0.5)
    return float(np.mean(scores))


@pytest.mark.parametrize("usage", [[], ["Public"], ["Private"], ["Public", "Private"]])
@pytest.mark.parametrize("seed", range(10))
def test_the_score_of_files_is_the_organisers(seed: int, usage: list[str], tmp_path: Path) -> None:
    """Also where one individual is called new on some rows only, or lives in two datasets."""
    rng = np.random.default_rng(seed)
    count = 40
    solution = pd.DataFrame(
        {
            "image_id": rng.permutation(count).astype(str),
            "identity": rng.choice(["NA", "a, b", "7", "ü", "zoe", "mia"], size=count),
            "new_identity": rng.random(count) < 0.1,
            "dataset": rng.choice(["SeaTurtleID2022", "a dataset, quoted", "NA"], size=count),
            "Usage": rng.choice(["Public", "Private"], size=count),
        }
    )
    solution.to_csv(tmp_path / "solution.csv", index=False)
    told = np.where(rng.random(count) < 0.6, solution["identity"], NEW_INDIVIDUAL)
    submission = pd.DataFrame({"image_id": solution["image_id"], "identity": told})
    submission.sample(frac=1, random_state=seed).to_csv(tmp_path / "submission.csv", index=False)
    found = score_submission(
        read_submission(tmp_path / "submission.csv"), read_solution(tmp_path / "solution.csv", usage)
    )
    scored = solution[solution["Usage"].isin(usage or ["Public", "Private"])]
    assert overall(found) == pytest.approx(organisers_score(submission, scored))


@pytest.mark.parametrize("new", [True, False])
def test_without_known_or_without_new_individuals_a_half_is_nan_and_the_score_zero(new: bool) -> None:
    solution = pd.DataFrame({"image_id": ["1"], "identity": ["leo"], "new_identity": [new], "dataset": ["lions"]})
    told = pd.DataFrame({"image_id": ["1"], "identity": [NEW_INDIVIDUAL if new else "leo"]})
    score = score_submission(told, solution)["lions"]
    assert (np.isnan(score.baks), np.isnan(score.baus)) == (new, not new)
    assert (score.score, overall({"lions": score})) == (0, 0)


def test_two_answers_for_one_photograph_are_refused() -> None:
    solution = pd.DataFrame({"image_id": ["7"], "identity": ["zoe"], "new_identity": [True], "dataset": ["lions"]})
    told = pd.DataFrame({"image_id": ["7", "7"], "identity": ["zoe", NEW_INDIVIDUAL]})
    with pytest.raises(InputError, match=r"row 3: expected one answer for every image_id, found another one for 7"):
        score_submission(told, solution)


def test_names_that_were_changed_on_the_way_to_the_solution_are_told_and_no_others() -> None:
    solution = pd.DataFrame({"image_id": ["1", "2", "3"], "identity": ["Mira", "mira", "new"]})
    solution = solution.assign(new_identity=[False, False, True], dataset="Cats")

    def told(*names: str) -> list[str]:
        return find_strange_names(pd.DataFrame({"image_id": ["1", "2", "3"], "identity": names}), solution)

    assert told("Mira", "mira", NEW_INDIVIDUAL) == []  # two animals, whatever their names look like
    assert told(NEW_INDIVIDUAL, NEW_INDIVIDUAL, NEW_INDIVIDUAL) == []
    assert told("Mira", "Tarn", "Tarn") == []  # wrong, and no sign of other names
    assert "'MIRA' in the answers, " in told("MIRA", "Mira", "Tarn")[0]
    assert "no answered name occurs in the solution, such as 'Tarn'" in told("Tarn", "Tarn", NEW_INDIVIDUAL)[0]
