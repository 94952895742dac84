"""Names that a person reads as one, and words for nobody: told, and joined or left out as the recipe says."""

import logging
import unicodedata
from pathlib import Path

import pandas as pd
import pytest
from scene import write_metadata

from reid.config.recipe import Recipe
from reid.config.settings import with_settings
from reid.data.catalogue import Catalogue, read_catalogue
from reid.data.names import describe_names, resolve_names
from reid.data.spelling import find_near_misses, is_unknown, name_key, spelled

JOIN = with_settings(Recipe(), {"data.join_names": True})

DECOMPOSED = unicodedata.normalize("NFD", "Zo\u00eb")


def catalogue_of(folder: Path, names: list[str], dataset: str = "Cats") -> Catalogue:
    rows = [f'{n},"{name}",{n}.jpg,,,,database,{dataset}' for n, name in enumerate(names)]
    return read_catalogue(write_metadata(folder, *rows))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Mira", "MIRA"),
        ("12", "12.0"),
        ("7", "007"),
        ("7", "007.0"),
        ("Zo\u00eb", DECOMPOSED),
        ("Tarn", "Tarn\u200b"),
        ("Tarn", "\ufeffTarn"),
        ("Old Tom", "Old\u00a0Tom"),
        ("Old Tom", " old  tom "),
        ("spot_3", "Spot_03"),
        ("STRASSE", "stra\u00dfe"),
    ],
)
def test_what_people_do_not_see_or_mean_makes_no_other_name(one: str, other: str) -> None:
    assert name_key(one) == name_key(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("7", "70"), ("1.5", "1.05"), ("12.1", "12"), ("Mira", "Mira 2"), ("a0", "a"), ("10", "1"), ("M2", "M\u00b2")],
)
def test_other_names_stay_other_names(one: str, other: str) -> None:
    assert name_key(one) != name_key(other)


def test_near_misses_are_counted_the_commonest_first() -> None:
    names = pd.Series(["Mira", "MIRA", "MIRA", "Tarn", "", "7", "007"])
    assert find_near_misses(names) == [{"MIRA": 2, "Mira": 1}, {"7": 1, "007": 1}]
    assert list(find_near_misses(names)[0]) == ["MIRA", "Mira"]


@pytest.mark.parametrize(
    ("name", "words"),
    [("Zo\u00eb", "'Zo\u00eb'"), (DECOMPOSED, "'Zoe\\u0308'"), ("Tarn\u200b", "'Tarn\\u200b'"), ("a b", "'a b'")],
)
def test_what_cannot_be_seen_is_written_as_a_code(name: str, words: str) -> None:
    assert spelled(name) == words


def test_near_misses_stay_apart_until_a_setting_joins_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    catalogue = catalogue_of(tmp_path, ["Mira", "MIRA", "MIRA", "12.0", "12", "Tarn"])
    assert resolve_names(catalogue, Recipe()).identities == catalogue.identities
    assert (
        "different (train with --set data.join_names=true to join them): 'MIRA' (2 rows), 'Mira' (1 row); '12.0'"
        in caplog.text
    )
    caplog.clear()
    joined = resolve_names(catalogue, JOIN)
    assert joined.identities == ["MIRA", "MIRA", "MIRA", "12.0", "12.0", "Tarn"]
    assert "are joined as the first of them: 'MIRA' (2 rows), 'Mira' (1 row)" in caplog.text
    caplog.clear()
    assert resolve_names(joined, JOIN).identities == joined.identities
    assert caplog.records == []


def test_names_are_joined_within_a_dataset_and_datasets_by_the_weights_spelling(tmp_path: Path) -> None:
    rows = ["1,Mira,1.jpg,,,,database,Cats", "2,MIRA,2.jpg,,,,database,Dogs", "3,Mira,3.jpg,,,,database,cats"]
    rows += ["4,,4.jpg,,,,query,CATS", "5,mira,5.jpg,,,,database,cats"]
    catalogue = read_catalogue(write_metadata(tmp_path, *rows))
    joined = resolve_names(catalogue, JOIN)
    assert list(joined.table["dataset"]) == ["cats", "Dogs", "cats", "cats", "cats"]
    assert joined.identities == ["Mira", "MIRA", "Mira", "", "Mira"]
    assert set(resolve_names(catalogue.query, JOIN, ["Cats", "Dogs"]).table["dataset"]) == {"Cats"}


@pytest.mark.parametrize(
    "word", ["unknown", "Unknown?", "NA", "n/a", "#N/A", "?", "-", " None ", "New_Individual", "____", "NaN"]
)
def test_words_for_nobody_are_left_out_and_told_unless_a_setting_keeps_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, word: str
) -> None:
    catalogue = catalogue_of(tmp_path, ["Mira", word, "Tarn", word])
    assert resolve_names(catalogue, Recipe()).image_ids == ["0", "2"]
    assert f"words for nobody, whose rows are left out: {spelled(word)} (2 rows)" in caplog.text
    caplog.clear()
    kept = with_settings(Recipe(), {"data.unknown_words": ()})
    assert resolve_names(catalogue, kept).identities == catalogue.identities
    assert caplog.records == []
    own = with_settings(Recipe(), {"data.unknown_words": ("Tarn",)})
    assert resolve_names(catalogue, own).identities == ["Mira", word, word]


@pytest.mark.parametrize("name", ["Nala", "Nan2", "Unknown 7", "-1", "Unky", "007", "Nonette"])
def test_names_that_look_like_such_a_word_are_names(name: str) -> None:
    assert not is_unknown(name, Recipe().data.unknown_words)


def test_a_setting_that_names_a_dataset_which_is_not_there_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = with_settings(Recipe(), {"data.upright": ("Cats", "Newts"), "prediction.mirrored": ("cats",)})
    with caplog.at_level(logging.WARNING):
        resolve_names(catalogue_of(tmp_path, ["Mira"]), recipe)
    assert "--set data.upright=Cats,Newts: there is no dataset 'Newts' here, only Cats" in caplog.text
    assert "--set prediction.mirrored=cats: there is no dataset 'cats' here" in caplog.text
    caplog.clear()
    resolve_names(catalogue_of(tmp_path, ["Mira"]), with_settings(recipe, {"prediction.mirrored": ()}), ["Newts"])
    assert caplog.records == []


def test_plain_names_say_nothing(reid_mini: Path, patterns: Path) -> None:
    for folder in (reid_mini, patterns):
        assert describe_names(read_catalogue(folder), Recipe().data) == []
