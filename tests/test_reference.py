"""Reference photographs beside a slow twin that looks for leaks, their file, and pseudo-collections."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_calibrate_folder import save_fold
from test_candidates import BOTH, LOCAL

from reid.config.recipe import Recipe
from reid.config.settings import with_settings
from reid.decision import find_reference as reference_photographs
from reid.decision.artifact import gallery_file, reference_file
from reid.decision.find_reference import find_reference
from reid.decision.pseudo_queries import near_duplicates, numbered
from reid.decision.reference import (
    Reference,
    companions_of,
    draw_collection,
    load_reference,
    save_reference,
)
from reid.errors import InputError
from reid.retrieval.gallery import Gallery, GalleryFeatures, load_gallery
from reid.retrieval.keypoints import NO_KEYPOINTS

DATASET = "Lions"
FOLDS = 3
THREE = with_settings(BOTH, {"training.folds": FOLDS})


def gallery_of(labels: list[str], vectors: np.ndarray) -> Gallery:
    names = tuple(f"p{place}" for place in range(len(labels)))
    features = GalleryFeatures(
        names, torch.from_numpy(vectors.astype(np.float32)), ("",) * len(labels), (NO_KEYPOINTS,) * len(labels)
    )
    return Gallery(features, tuple(labels), "float32", ("encoder", "local"))


def make_folds(folder: Path, labels: list[str], learned: list[str], seed: int = 0) -> list[np.ndarray]:
    """Save a gallery and an encoder of each fold, which has learned from some individuals' first photographs; return
    the vectors."""
    rng = np.random.default_rng(seed)
    first = {name: f"p{labels.index(name)}" for name in labels}
    every = []
    for fold, names in enumerate(learned):
        vectors = (fold + 1) * 10 * rng.normal(size=(len(labels), 4))
        save_fold(folder, fold, gallery_of(labels, vectors), tuple(first[name] for name in names))
        every.append(vectors.astype(np.float32).astype(float))
    return every


def found_in(folder: Path, recipe: Recipe, thumbnails: np.ndarray | None = None) -> Reference:
    gallery = load_gallery(folder / gallery_file(DATASET))
    size = len(gallery.identity)
    thumbnails = np.eye(size) if thumbnails is None else thumbnails
    return find_reference(folder, DATASET, recipe, np.full(size, "2024-01-01"), near_duplicates(thumbnails), gallery)


def rows_of(found: Reference) -> list[int]:
    return [int(name.removeprefix("p")) for name in found.image_id]


def names_of(found: Reference) -> list[str]:
    return [LABELS[row] for row in rows_of(found)]


LABELS = list("aaabbccddeeffgggh")
LEARNED = ["abcdg", "abefg", "cdefg"]
"""Who each fold's encoder has learned from: g by all of them, h by none, the others by two of three."""


def test_a_pair_is_told_by_encoders_that_have_met_neither_of_both_where_there_is_one(tmp_path: Path) -> None:
    vectors = make_folds(tmp_path, LABELS, LEARNED)
    found = found_in(tmp_path, THREE)
    rows = rows_of(found)
    assert list(found.identity) == numbered(np.array(LABELS))[rows].tolist()
    assert set(names_of(found)) == set("abcdefh")  # whom every encoder has met is nobody's pseudo-query
    far = []
    for some in vectors:
        own = np.linalg.norm(some[rows][:, None] - some[rows][None], axis=2)
        far.append(own / np.median(own[~np.eye(len(rows), dtype=bool)]))
    for i, one in enumerate(names_of(found)):
        for j, other in enumerate(names_of(found)):
            neither = [fold for fold in range(FOLDS) if one not in LEARNED[fold] and other not in LEARNED[fold]]
            either = [fold for fold in range(FOLDS) if (one in LEARNED[fold]) != (other in LEARNED[fold])]
            expected = np.mean([far[fold][i, j] for fold in neither or either])
            assert found.distances[i, j] == pytest.approx(expected, rel=1e-4, abs=1e-3), (one, other)
    assert found.distances.dtype == np.float32


def test_an_encoder_that_has_met_both_changes_nothing(tmp_path: Path) -> None:
    """The last fold's has met c to f: what it makes of pairs of these is not to be seen, though no encoder has met
    neither c nor e."""
    vectors = make_folds(tmp_path, LABELS, LEARNED)[2]
    before = found_in(tmp_path, THREE)
    strange = [row for row, name in enumerate(LABELS) if name in "cdef"]
    vectors[strange] += 1000 * np.random.default_rng(1).normal(size=(len(strange), 4))
    save_fold(tmp_path, 2, gallery_of(LABELS, vectors), tuple(f"p{LABELS.index(name)}" for name in LEARNED[2]))
    after = found_in(tmp_path, THREE)
    own = np.isin(names_of(before), list("cdef"))
    assert after.image_id == before.image_id
    assert after.distances[np.ix_(own, own)] == pytest.approx(before.distances[np.ix_(own, own)], rel=1e-4, abs=1e-3)


def test_copies_and_mirror_images_are_taken_once(tmp_path: Path) -> None:
    make_folds(tmp_path, LABELS, ["", "", ""])
    thumbnails = np.eye(len(LABELS))
    thumbnails[2] = thumbnails[0]  # two of a
    thumbnails[5] = thumbnails[4]  # one of b and one of c
    found = found_in(tmp_path, THREE, thumbnails)
    assert sorted({0, 1, 3, 4, *range(6, len(LABELS))}) == rows_of(found)
    gallery = load_gallery(tmp_path / gallery_file(DATASET))
    twice = Gallery(gallery.embeddings.of(np.array([0, 1, 3, 0, 1, 3])), tuple("aabaab"))
    mirrored = find_reference(tmp_path, DATASET, LOCAL, np.full(6, ""), near_duplicates(np.eye(6)), twice)
    assert mirrored.image_id == ("p0", "p1", "p3")


def test_without_an_encoder_everybody_is_unmet(tmp_path: Path) -> None:
    make_folds(tmp_path, LABELS, LEARNED)
    found = found_in(tmp_path, LOCAL)
    assert list(found.identity) == numbered(np.array(LABELS)).tolist()
    assert found.distances.shape == (0, 0)
    assert found.individuals == 7


def test_other_names_and_their_order_choose_the_same_photographs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference_photographs, "PHOTOGRAPHS", 10)
    renamed = [{"a": "zoe", "b": "yan", "c": "x"}.get(name, name) for name in LABELS]
    found = []
    for number, labels in enumerate((LABELS, renamed)):
        folder = tmp_path / str(number)
        vectors = np.random.default_rng(0).normal(size=(len(labels), 4))
        save_fold(folder, 0, gallery_of(labels, vectors), ())
        found.append(found_in(folder, LOCAL))
    one, other = found
    assert (one.image_id, one.identity) == (other.image_id, other.identity)


def test_no_more_are_taken_than_can_be_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference_photographs, "PHOTOGRAPHS", 10)
    monkeypatch.setattr(reference_photographs, "OF_ONE", 4)
    labels = [name for name in "abcdef" for _ in range(7)]
    make_folds(tmp_path, labels, [""])
    found = found_in(tmp_path, LOCAL)
    assert len(found) == 10
    assert max(map(found.identity.count, found.identity)) == 4
    assert found_in(tmp_path, LOCAL).image_id == found.image_id
    assert found_in(tmp_path, with_settings(LOCAL, {"seed": 1})).image_id != found.image_id


def some_reference() -> Reference:
    distances = np.random.default_rng(0).random((3, 3)).astype(np.float32)
    return Reference(("1", "2", "3"), ("Ünal", "b, c", "Ünal"), ("2024-01-01", "", ""), distances)


def test_a_file_gives_back_what_was_saved(tmp_path: Path) -> None:
    nobody = Reference((), (), (), np.zeros((0, 0), np.float32))
    for reference_, individuals in ((some_reference(), 1), (nobody, 0)):
        save_reference(tmp_path, DATASET, reference_)
        found = load_reference(tmp_path, DATASET)
        assert found is not None
        assert (found.image_id, found.identity, found.day) == (reference_.image_id, reference_.identity, reference_.day)
        assert np.array_equal(found.distances, reference_.distances)
        assert (found.individuals, len(found)) == (individuals, len(reference_))
    assert load_reference(tmp_path, "Tigers") is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:20],
        lambda data: data[:-8],
        lambda data: data.replace(b'"day"', b'"dax"'),
        lambda data: data.replace(b'"1", "2", "3"', b'"1", "2"     '),  # a row less
        lambda data: data.replace(b'["1", "2", "3"]', b"12345678901    "),
    ],
)
def test_a_damaged_file_is_refused_in_words(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    path = tmp_path / reference_file(DATASET)
    save_reference(tmp_path, DATASET, some_reference())
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert path.read_bytes() != whole
    with pytest.raises(InputError, match=r"Lions.*it can't be read .*`reid calibrate` again"):
        load_reference(tmp_path, DATASET)


def test_distances_of_other_photographs_are_refused(tmp_path: Path) -> None:
    save_reference(tmp_path, DATASET, replace(some_reference(), distances=np.zeros((2, 2), np.float32)))
    with pytest.raises(InputError, match="its columns have other lengths"):
        load_reference(tmp_path, DATASET)


def drawn_from(sizes: list[int], days: list[str] | None = None) -> Reference:
    labels = tuple(f"animal {number}" for number, size in enumerate(sizes) for _ in range(size))
    names = tuple(map(str, range(len(labels))))
    return Reference(names, labels, tuple(days) if days else ("",) * len(labels), np.zeros((0, 0), np.float32))


def test_companions_are_the_others_of_ones_own_animal() -> None:
    for labels in ("", "a", "ab", "aab", "aaabbc", "aaaa"):
        slow = [sum(other == one for other in labels) - 1 for one in labels]
        assert companions_of(np.array(list(labels), str)) == pytest.approx(np.mean(slow) if slow else 0)


@pytest.mark.parametrize("companions", [0.5, 2, 4])
def test_a_pseudo_collection_is_as_dense_as_asked(companions: float) -> None:
    reference_ = drawn_from([40] * 100)
    rng = np.random.default_rng(0)
    drawn = [draw_collection(reference_, companions, 300, rng) for _ in range(40)]
    assert np.mean([companions_of(one.labels) for one in drawn]) == pytest.approx(companions, rel=0.1)
    for one in drawn:
        assert len(one.rows) <= 300
        assert (np.diff(one.rows) > 0).all()
        assert one.labels.tolist() == [reference_.identity[row] for row in one.rows]


def test_a_pseudo_collection_is_no_larger_than_asked_and_than_there_is() -> None:
    reference_ = drawn_from([3] * 20)
    for size in (0, 1, 7):
        assert len(draw_collection(reference_, 2, size, np.random.default_rng(0)).rows) == size
    every = draw_collection(reference_, 1e9, 10_000, np.random.default_rng(0))
    assert every.rows.tolist() == list(range(60))
    nobody = draw_collection(drawn_from([]), 2, 10, np.random.default_rng(0))
    assert (len(nobody.rows), companions_of(nobody.labels)) == (0, 0)


def test_of_an_individual_one_photograph_of_a_day_is_drawn() -> None:
    days = ["monday", "monday", "tuesday", "", "", "monday", "monday", "monday"]
    reference_ = drawn_from([5, 3], days)
    for seed in range(20):
        rows = draw_collection(reference_, 1e9, 100, np.random.default_rng(seed)).rows.tolist()
        assert {2, 3, 4} < set(rows)  # where the day is not known, any
        assert len({0, 1} & set(rows)) == 1
        assert len({5, 6, 7} & set(rows)) == 1
    both = {tuple(draw_collection(reference_, 1e9, 100, np.random.default_rng(seed)).rows) for seed in range(20)}
    assert len(both) > 2


def test_the_same_seed_draws_the_same() -> None:
    reference_ = drawn_from([4] * 30)
    one, same, other = (draw_collection(reference_, 2, 50, np.random.default_rng(seed)).rows for seed in (1, 1, 2))
    assert one.tolist() == same.tolist()
    assert one.tolist() != other.tolist()
