"""Queries of one burst, answered together: who belongs to one, and a slow twin of the answer."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_answers import write_pairs

from reid import cli
from reid.config.settings import with_settings
from reid.data.catalogue import read_catalogue
from reid.decision.artifact import open_weights
from reid.decision.encounters import answered_together, find_encounters
from reid.decision.predict import predict


def rows_of(*rows: tuple[str, str, str]) -> pd.DataFrame:
    """Of time, place and encounter; all of one day."""
    table = pd.DataFrame(rows, columns=["time", "place", "encounter"])
    names = [f"q{number}" for number in range(len(rows))]
    date = [f"2024-05-03 {time}" if time else "2024-05-03" for time in table["time"]]
    return table.assign(image_id=names, path=names, dataset="Lynx", date=date, day="2024-05-03")


def groups_of(rows: pd.DataFrame, minutes: float = 5) -> list[set[str]]:
    found = find_encounters(rows, minutes)
    return sorted(({name for name, own in found.items() if own == one} for one in set(found.values())), key=min)


def test_a_burst_is_of_one_place_and_goes_on_for_minutes() -> None:
    rows = rows_of(("07:10", "A", ""), ("07:00", "a ", ""), ("07:05:30", "A", ""), ("07:16", "A", ""),
                   ("07:01", "B", ""), ("", "A", ""), ("07:00", "", ""), ("09:00", "B", ""))  # fmt: skip
    assert groups_of(rows) == [{"q0", "q2"}]
    assert groups_of(rows, 6) == [{"q0", "q1", "q2", "q3"}]
    assert groups_of(rows.assign(dataset=["Lynx", "Lynx", "Newts", *["Lynx"] * 5]), 6) == [{"q0", "q3"}]
    assert groups_of(rows, 0) == []
    assert groups_of(rows.drop(columns=["place", "encounter"])) == []


def test_the_column_encounter_counts_more_and_animals_on_one_photograph_are_left_apart() -> None:
    rows = rows_of(("07:00", "A", "x"), ("07:01", "A", ""), ("", "", "x"), ("07:02", "A", " "), ("", "", "y"))
    assert groups_of(rows) == [{"q0", "q2"}, {"q1", "q3"}]
    assert groups_of(rows.assign(path=["p", "q", "r", "./q", "s"])) == [{"q0", "q2"}]
    assert groups_of(rows, 0) == []


@given(st.integers(0, 10**6))
def test_an_encounter_is_answered_by_the_mean_of_its_photographs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    encounters = {f"q{number}": int(rng.integers(2)) for number in range(4)}
    found = {
        name: {f"animal {who}": float(rng.random()) for who in rng.permutation(4)[: rng.integers(1, 4)]}
        for name in [*encounters, "alone"]
    }
    rows = [
        (name, rank, who, f"{who} by {name}", far)
        for name, own in found.items()
        for rank, (who, far) in enumerate(sorted(own.items(), key=lambda pair: pair[1]), 1)
    ]
    columns = ["image_id", "rank", "candidate", "candidate_image_id", "dissimilarity"]
    table = answered_together(pd.DataFrame(rows, columns=columns), encounters, dict.fromkeys(found, "Lynx"))
    for name in found:
        own = table[table["image_id"] == name]
        members = [other for other in encounters if encounters[other] == encounters.get(name)] or [name]
        names = {who for other in members for who in found[other]}
        means = {
            who: np.mean([found[other].get(who, max(found[other].values())) for other in members]) for who in names
        }
        assert dict(zip(own["candidate"], own["dissimilarity"], strict=True)) == pytest.approx(means)
        assert own["rank"].tolist() == list(range(1, len(names) + 1))
        assert own["dissimilarity"].is_monotonic_increasing
        for who, photograph in zip(own["candidate"], own["candidate_image_id"], strict=True):
            nearest = min((found[other][who], other) for other in members if who in found[other])
            assert photograph == f"{who} by {nearest[1]}"


def test_predict_answers_encounters_where_the_recipe_says_so(
    patterns: Path, patterns_weights: Path, edit_rows: Callable, tmp_path: Path
) -> None:
    edit_rows(lambda table: table.assign(encounter=np.where(table["split"] == "query", table.index // 6, "")))
    words = ["predict", str(patterns), "--weights", str(patterns_weights), "--out", str(tmp_path / "s.csv")]
    assert cli.main([*words, "--set", "prediction.encounter_minutes=5"]) == 0
    table = pd.read_csv(tmp_path / "s.matches.csv", dtype=str, keep_default_na=False)
    encounter = table["image_id"].map(dict(read_catalogue(patterns).table[["image_id", "encounter"]].to_numpy()))
    best = table[table["rank"] == "1"]
    assert (best.groupby([encounter, "dataset"])[["dissimilarity", "answer"]].nunique() == 1).all(axis=None)
    assert int(table["rank"].max()) == 5
    alone = predict(read_catalogue(patterns), open_weights(patterns_weights)).candidates
    assert alone[alone["rank"] == 1].groupby(encounter)["dissimilarity"].nunique().max() > 1


def test_an_encounter_gives_no_query_an_individual_that_a_person_has_ruled_out(
    patterns: Path, patterns_weights: Path, edit_rows: Callable
) -> None:
    edit_rows(lambda table: table.assign(encounter=np.where(table["split"] == "query", "one", "")))
    catalogue, weights = read_catalogue(patterns), open_weights(patterns_weights)
    recipe = with_settings(weights.recipe, {"prediction.encounter_minutes": 5.0})
    first = predict(catalogue, weights, recipe).candidates.iloc[0]
    assert first["rank"] == 1
    write_pairs(patterns, f"{first['image_id']},{first['candidate_image_id']},different,,,")
    after = predict(catalogue, weights, recipe).candidates
    names = [after["candidate"][after["image_id"] == name].tolist() for name in after["image_id"].unique()]
    assert first["candidate"] not in after["candidate"][after["image_id"] == first["image_id"]].tolist()
    assert any(first["candidate"] in some for some in names)
