"""Which local feature a dataset gets, against scores that are known."""

import numpy as np
import pytest

from reid.decision.extractor_choice import SplitScores, choose_extractors

FEW, MANY = 3, 20


def results(individuals: int = MANY, **scores: list[float]) -> dict[str, SplitScores]:
    return {name: SplitScores(np.array(values), individuals) for name, values in scores.items()}


def names(found: dict[str, dict[str, SplitScores]]) -> dict[str, str]:
    return {dataset: choice.name for dataset, choice in choose_extractors(found).items()}


def test_each_dataset_gets_the_one_that_is_surely_better_there() -> None:
    cows = results(one=[0.5, 0.5, 0.5, 0.5], two=[0.6, 0.7, 0.6, 0.6])
    nyala = results(one=[0.3, 0.3, 0.3, 0.3], two=[0.1, 0.1, 0.1, 0.1])
    found = choose_extractors({"Cows": cows, "Nyala": nyala})
    assert {dataset: choice.name for dataset, choice in found.items()} == {"Cows": "two", "Nyala": "one"}
    assert found["Cows"].expected == {"one": pytest.approx(0.5), "two": pytest.approx(0.625)}
    assert found["Cows"].sure == 1.0


def test_what_is_better_by_chance_changes_nothing() -> None:
    noise = results(one=[0.5, 0.4, 0.5, 0.4], two=[0.4, 0.5, 0.6, 0.39])  # two is better in half of the splits
    assert names({"Cows": noise}) == {"Cows": "one"}
    assert names({"Cows": results(two=[0.4, 0.5, 0.6, 0.39], one=[0.5, 0.4, 0.5, 0.4])}) == {"Cows": "two"}


def test_few_individuals_take_what_all_datasets_choose() -> None:
    other = results(one=[0.2, 0.2, 0.2, 0.2], two=[0.6, 0.6, 0.6, 0.6])
    few = results(FEW, one=[0.5, 0.5, 0.5, 0.5], two=[0.4, 0.4, 0.4, 0.4])
    found = choose_extractors({"Cows": other, "Lions": few})
    assert (found["Lions"].name, found["Lions"].own) == ("two", False)
    assert names({"Cows": other, "Lions": few | results(one=[0.5] * 4, two=[0.4] * 4)})["Lions"] == "one"


def test_a_dataset_that_can_not_be_measured_has_no_say() -> None:
    nothing = results(0, one=[], two=[])
    unsplit = results(one=[float("nan")] * 2, two=[float("nan")] * 2)
    other = results(one=[0.2, float("nan")], two=[0.6, float("nan")])
    found = choose_extractors({"Ants": nothing, "Bees": unsplit, "Cows": other})
    assert {choice.name for choice in found.values()} == {"two"}
    assert "can't be measured" in str(found["Ants"])
    assert names({"Ants": nothing}) == {"Ants": "one"}


def test_no_choice_depends_on_the_order_of_the_datasets() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        found = {
            name: results(
                int(rng.choice([FEW, MANY])), **{each: rng.normal(rng.random(), 0.3, 9).tolist() for each in "abc"}
            )
            for name in ("Ants", "Bees", "Cows")
        }
        backwards = dict(reversed(found.items()))
        assert names(found) == {name: names(backwards)[name] for name in found}
