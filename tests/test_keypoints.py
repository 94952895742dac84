"""Local features against slow twins, warped photographs whose answer is known, and a cache that must never be stale."""

import os
from dataclasses import replace
from pathlib import Path
from unittest import mock

import cv2
import numpy as np
import PIL
import pytest
import torch
from PIL import Image
from torch.nn import functional

from reid.config.presets import PRESETS
from reid.config.recipe import override
from reid.data.catalogue import Catalogue, read_catalogue
from reid.errors import InputError
from reid.retrieval import local_matching
from reid.retrieval.cache import KeypointCache
from reid.retrieval.extraction import extract_features, open_extractors
from reid.retrieval.extractors import rootsift
from reid.retrieval.extractors.rootsift import KeypointConfig, extract, keypoint_config
from reid.retrieval.keypoints import (
    Keypoints,
    foreground,
    keypoints_from,
    select_keypoints,
    tensors_of,
    top_k,
    weight_by_saliency,
)
from reid.retrieval.local_matching import Descriptors, MatchingConfig, lnbnn, stack_descriptors, verify
from reid.runtime.distributed import core_count

SMALL = KeypointConfig(size=160, count=150, upright=False)
TURNED = np.array([[0.9, 0.25, -8.0], [-0.2, 0.95, 22.0]])
"""An affine map that keeps most of a texture of 160 x 160 pixels inside."""


def texture(seed: int, side: int = 160) -> np.ndarray:
    """Blobs of many sizes, (side, side, 3) uint8: what SIFT is fond of."""
    rng = np.random.default_rng(seed)
    blobs = sum(
        cv2.resize(rng.normal(size=(side // cell, side // cell)), (side, side), interpolation=cv2.INTER_CUBIC)
        for cell in (4, 8, 16)
    )
    grey = np.clip(128 + 45 * np.asarray(blobs), 0, 255).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, 2)


def warped(image: np.ndarray, matrix: np.ndarray = TURNED) -> np.ndarray:
    return np.asarray(cv2.warpAffine(image, matrix, image.shape[1::-1], borderMode=cv2.BORDER_REFLECT))


def blank() -> Keypoints:
    return extract(np.full((40, 60, 3), 90, np.uint8), SMALL)


def some_descriptors(seed: int, counts: list[int]) -> Descriptors:
    """Random descriptors in 6 dimensions, so that neighbours are near."""
    rng = np.random.default_rng(seed)
    vectors = functional.normalize(torch.from_numpy(rng.random((sum(counts), 6)) ** 2), dim=1).half()
    weights = torch.from_numpy(rng.random(sum(counts)).astype(np.float32))
    return Descriptors(vectors, torch.tensor([0, *counts]).cumsum(0), weights)


def equal(one: Keypoints, other: Keypoints) -> bool:
    return (
        np.array_equal(one.points, other.points)
        and np.array_equal(one.descriptors, other.descriptors)
        and np.array_equal(one.weights, other.weights)
        and one.extent == other.extent
    )


# one photograph


def test_a_keypoint_has_a_place_in_the_photograph_and_a_descriptor_of_unit_length() -> None:
    found = extract(np.ascontiguousarray(texture(0)[:100]), SMALL)
    assert 20 < len(found) <= 150
    assert found.extent == (1.0, 100 / 160)
    assert found.points.dtype == np.float32
    assert found.descriptors.dtype == np.float16
    assert (found.points[:, :2] >= 0).all()
    assert (found.points[:, :2] <= found.extent).all()
    assert found.points[:, 1].max() > 0.5  # in shares of the longer side, not of the height
    assert (found.points[:, 3] >= 0).all()
    assert (found.points[:, 3] <= 2 * np.pi).all()
    assert np.linalg.norm(found.descriptors.astype(float), axis=1) == pytest.approx(1, abs=1e-3)


def test_the_descriptor_is_the_root_of_sift() -> None:
    image = texture(1)
    found = extract(image, KeypointConfig(size=160, count=150, clahe=0, upright=False))
    sift = cv2.SIFT.create(contrastThreshold=0.01)
    points = [
        cv2.KeyPoint(float(x * 160 - 0.5), float(y * 160 - 0.5), float(size * 160), float(np.degrees(angle)))
        for x, y, size, angle in found.points
    ]
    same_place = {
        (round(one.pt[0], 2), round(one.pt[1], 2), round(one.angle)): one for one in sift.detect(image[:, :, 0])
    }
    known = [same_place[round(one.pt[0], 2), round(one.pt[1], 2), round(one.angle)] for one in points]
    raw = sift.compute(image[:, :, 0], known)[1]
    assert len(raw) == len(found)
    rooted = np.sqrt(raw / raw.sum(1, keepdims=True))
    assert np.abs(found.descriptors - rooted).max() < 2**-11


def test_upright_descriptors_are_not_turned_and_stand_once_at_a_place() -> None:
    turned, upright = (extract(texture(1), replace(SMALL, count=2000, upright=value)) for value in (False, True))
    assert len(turned) > len(upright) == len(np.unique(turned.points[:, :3], axis=0))
    assert (upright.points[:, 3] == 0).all()
    rotated = np.ascontiguousarray(np.rot90(texture(1)))
    ahead = []
    for upright_or_not in (False, True):
        settings = replace(SMALL, upright=upright_or_not)
        gallery = stack_descriptors([extract(texture(seed), settings) for seed in (1, 2)])
        own, other = lnbnn(stack_descriptors([extract(rotated, settings)]), gallery)[0].tolist()
        ahead.append(own / other)
    assert ahead[0] > 3
    assert ahead[1] < 1.5


def test_the_strongest_are_kept() -> None:
    many, few = extract(texture(2), SMALL), extract(texture(2), KeypointConfig(size=160, count=20, upright=False))
    assert len(few) == 20
    assert np.array_equal(few.points, many.points[:20])


def test_small_and_large_photographs_of_the_same_have_keypoints_at_the_same_places() -> None:
    image = texture(3)
    large = cv2.resize(image, (480, 480), interpolation=cv2.INTER_CUBIC)
    one, other = extract(image, SMALL), extract(np.asarray(large), SMALL)
    gaps = np.linalg.norm(one.points[:50, None, :2] - other.points[None, :, :2], axis=2).min(1)
    assert np.median(gaps) < 0.005


def test_contrast_is_made_the_same() -> None:
    image = texture(4)
    faint = (110 + (image.astype(float) - 128) / 8).astype(np.uint8)
    with_clahe, without = (
        [len(extract(one, KeypointConfig(size=160, count=2000, clahe=clahe))) for one in (image, faint)]
        for clahe in (2.0, 0.0)
    )
    assert with_clahe[1] > 0.9 * with_clahe[0]
    assert without[1] < 0.9 * without[0]


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (5, 2), (40, 60)])
def test_where_nothing_is_to_be_seen_there_are_no_keypoints(shape: tuple[int, int]) -> None:
    found = extract(np.full((*shape, 3), 200, np.uint8), SMALL)
    assert found.points.shape == (0, 4)
    assert found.descriptors.shape == (0, 128)
    assert max(found.extent) == 1


@pytest.mark.parametrize(("field", "value"), [("size", 0), ("count", 0), ("clahe", -1), ("contrast", float("nan"))])
def test_settings_out_of_range_are_named(field: str, value: float) -> None:
    with pytest.raises(InputError, match=f"extraction {field}: expected .* or more, found {value}"):
        KeypointConfig(**{field: value})  # type: ignore[arg-type]


def a_row_of_points(across: list[float], extent: tuple[float, float]) -> Keypoints:
    points = np.array([[x, extent[1] / 2, 0.1, 0] for x in across], np.float32)
    return Keypoints(points, np.zeros((len(points), 128), np.float16), extent, np.ones(len(points), np.float32))


def test_saliency_weighs_each_keypoint_at_its_place() -> None:
    ramp = np.tile(np.array([0.0, 0.25, 0.5, 1.0], np.float32), (4, 1))  # from left to right, four cells
    wide = a_row_of_points([0.0, 0.125, 0.25, 0.5, 0.875, 1.0], (1.0, 0.5))
    assert weight_by_saliency(wide, ramp, "squash").weights == pytest.approx([0, 0, 0.125, 0.375, 1, 1], abs=1e-2)
    tall = a_row_of_points([0.0, 0.25, 0.5], (0.5, 1.0))
    assert weight_by_saliency(tall, ramp, "squash").weights == pytest.approx([0, 0.375, 1], abs=1e-2)
    assert weight_by_saliency(tall, ramp, "pad").weights == pytest.approx(
        [0.125, 0.375, 0.75], abs=1e-2
    )  # in the middle half
    assert weight_by_saliency(tall, ramp.T.copy(), "pad").weights == pytest.approx([0.375] * 3, abs=1e-2)
    assert len(weight_by_saliency(blank(), ramp, "pad")) == 0


def test_only_the_strongest_and_the_strongest_on_the_animal_are_kept() -> None:
    found = a_row_of_points(np.linspace(0, 1, 8).tolist(), (1.0, 1.0))
    found = replace(found, weights=np.array([0.1, 0.2, 0.9, 0.1, 0.5, 0.3, 0.8, 0.7], np.float32))
    kept = select_keypoints(found, 3, 0.5)
    assert kept.weights.tolist() == pytest.approx([0.1, 0.2, 0.9, 0.5, 0.8])
    assert top_k(kept, 3).weights.tolist() == pytest.approx([0.1, 0.2, 0.9])
    assert foreground(kept, 0.5).weights.tolist() == pytest.approx([0.9, 0.5, 0.8])
    assert len(select_keypoints(blank(), 3, 0.5)) == 0


def test_weights_count_to_a_power() -> None:
    found = replace(a_row_of_points([0.2, 0.8], (1.0, 1.0)), weights=np.array([0.5, 1], np.float32))
    assert stack_descriptors([found]).weights.tolist() == [1, 1]
    assert stack_descriptors([found], power=2).weights.tolist() == [0.25, 1]


# many photographs


def a_cache(folder: Path, extraction: KeypointConfig = SMALL, opened_as: str = "v1") -> KeypointCache:
    return KeypointCache(folder / "cache", extraction, opened_as)


ONE, OTHER = "00" * 32, "11" * 32
"""What stands for two photographs' hashes."""


def test_what_was_found_is_remembered(tmp_path: Path) -> None:
    found = extract(texture(1), SMALL)
    a_cache(tmp_path).remember(ONE, found)
    again = a_cache(tmp_path).recall(ONE)
    assert again is not None
    assert equal(again, found)
    assert a_cache(tmp_path).recall(OTHER) is None


def test_another_setting_or_way_to_open_or_library_or_extractor_remembers_nothing_of_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_cache(tmp_path).remember(ONE, extract(texture(1), SMALL))
    for extraction, opened_as in [
        (replace(SMALL, size=161), "v1"),
        (replace(SMALL, count=151), "v1"),
        (replace(SMALL, clahe=3), "v1"),
        (replace(SMALL, contrast=0.02), "v1"),
        (replace(SMALL, upright=True), "v1"),
        (SMALL, "v2"),
    ]:
        assert a_cache(tmp_path, extraction, opened_as).recall(ONE) is None, (extraction, opened_as)
    for library in (cv2, PIL):
        with monkeypatch.context() as changed:
            changed.setattr(library, "__version__", "0")
            assert a_cache(tmp_path).recall(ONE) is None, library
    assert a_cache(tmp_path).recall(ONE) is not None
    monkeypatch.setattr(rootsift, "EXTRACTOR", "RootSIFT of the future")
    assert a_cache(tmp_path).recall(ONE) is None


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "another's"])
def test_a_damaged_or_stale_file_is_as_good_as_none(damage: str, tmp_path: Path) -> None:
    cache, found = a_cache(tmp_path), extract(texture(1), SMALL)
    cache.remember(ONE, found)
    (one,) = tmp_path.rglob("*.keypoints")
    cache.remember(OTHER, extract(texture(2), SMALL))
    (other,) = set(tmp_path.rglob("*.keypoints")) - {one}
    content = one.read_bytes()
    flipped = bytearray(content)
    flipped[-1] ^= 1
    one.write_bytes({"empty": b"", "cut": content[:-9], "flipped": flipped, "another's": other.read_bytes()}[damage])
    assert cache.recall(ONE) is None
    cache.remember(ONE, found)
    assert one.read_bytes() == content


def test_a_photograph_without_keypoints_is_remembered_and_one_that_cannot_be_read_is_not(tmp_path: Path) -> None:
    cache = a_cache(tmp_path)
    cache.remember(ONE, blank())
    again = cache.recall(ONE)
    assert again is not None
    assert len(again) == 0
    cache.remember("", blank())
    assert cache.recall("") is None
    assert len(list((tmp_path / "cache").rglob("*.keypoints"))) == 1


def test_a_cache_that_cannot_be_written_costs_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    a_cache(tmp_path).remember(ONE, blank())
    assert a_cache(tmp_path).recall(ONE) is None


def test_many_photographs_come_back_from_their_tensors() -> None:
    some = [extract(texture(0), SMALL), blank(), extract(texture(1)[:90], SMALL)]
    assert all(map(equal, keypoints_from(tensors_of(some)), some))


# a gallery at once


def slow_lnbnn(queries: Descriptors, gallery: Descriptors, labels: list[int], k: int, hidden: np.ndarray) -> np.ndarray:
    """The definition, one descriptor after the other."""
    scores = np.zeros((len(queries), max(labels) + 1))
    known, owners = gallery.vectors.double().numpy(), gallery.owner.tolist()
    for row, query in enumerate(queries.owner.tolist()):
        squares = ((known - queries.vectors[row].double().numpy()) ** 2).sum(1)
        allowed = [i for i, owner in enumerate(owners) if not hidden[query, owner]]
        ordered = sorted(allowed, key=lambda i: float(squares[i]))[: k + 1]
        voted = set()
        for i in ordered[:k]:
            label = labels[owners[i]]
            if label not in voted:
                gain = squares[ordered[-1]] - squares[i]
                scores[query, label] += gain * float(queries.weights[row]) * float(gallery.weights[i])
            voted.add(label)
    return scores


@pytest.mark.parametrize("k", [1, 3, 50])
def test_lnbnn_equals_the_slow_twin(k: int) -> None:
    queries, gallery = some_descriptors(0, [4, 0, 7]), some_descriptors(1, [5, 9, 0, 3, 8])
    hidden = np.zeros((3, 5), bool)
    hidden[0, 1] = hidden[2, 0] = hidden[2, 4] = True
    for labels in ([0, 1, 2, 3, 4], [1, 0, 1, 2, 0]):
        expected = slow_lnbnn(queries, gallery, labels, k, hidden)
        scores = lnbnn(queries, gallery, torch.tensor(labels), k, torch.from_numpy(hidden))
        assert scores.numpy() == pytest.approx(expected, abs=1e-5)
        assert expected.max() > 0.01


@pytest.mark.parametrize("k", [1, 3, 50])
def test_rows_about_one_photograph_get_what_they_would_get_alone(k: int) -> None:
    """Of 60 descriptors up to 55 are hidden in one row and not in the other, so that what is shared can't suffice."""
    queries, gallery = some_descriptors(0, [4, 0, 7]), some_descriptors(1, [15, 20, 0, 5, 20])
    about = torch.tensor([0, 2, 2, 1, 0, 2])
    hidden = torch.zeros(6, 5, dtype=torch.bool)
    hidden[0, 1] = hidden[1, 0] = hidden[4, 4] = True
    hidden[5, [0, 1, 4]] = True
    together = lnbnn(queries, gallery, k=k, hidden=hidden, about=about)
    for row, photograph in enumerate(about.tolist()):
        alone = slow_lnbnn(queries, gallery, list(range(5)), k, np.tile(hidden[row].numpy(), (3, 1)))
        assert together[row].numpy() == pytest.approx(alone[photograph], abs=1e-5)
    assert (together > 0).any(1).tolist() == [True, True, True, False, True, True]


def test_the_order_of_the_gallery_and_of_the_queries_does_not_matter() -> None:
    found = [extract(texture(seed), SMALL) for seed in range(4)]
    asked = [extract(warped(texture(seed)), SMALL) for seed in (2, 0)]
    scores = lnbnn(stack_descriptors(asked), stack_descriptors(found))
    turned = lnbnn(stack_descriptors(asked[::-1]), stack_descriptors([found[place] for place in (3, 1, 0, 2)]))
    assert turned.numpy() == pytest.approx(scores.flip(0)[:, [3, 1, 0, 2]].numpy(), abs=1e-5)


def test_a_warped_photograph_is_most_like_itself() -> None:
    gallery = stack_descriptors([extract(texture(seed), SMALL) for seed in range(5)])
    queries = stack_descriptors([extract(warped(texture(seed)), SMALL) for seed in range(5)])
    scores = lnbnn(queries, gallery)
    assert scores.argmax(1).tolist() == [0, 1, 2, 3, 4]
    others = scores - torch.diag(scores.diag())
    assert (scores.diag() > 3 * others.amax(1)).all()


def test_what_is_hidden_is_as_good_as_absent() -> None:
    found = [extract(texture(seed), SMALL) for seed in range(4)]
    queries = stack_descriptors([extract(warped(texture(seed)), SMALL) for seed in range(4)])
    hidden = torch.eye(4, dtype=torch.bool)
    scores = lnbnn(queries, stack_descriptors(found), hidden=hidden)
    assert (scores.diag() == 0).all()
    for query in range(4):
        others = [place for place in range(4) if place != query]
        alone = lnbnn(queries, stack_descriptors([found[place] for place in others]))
        assert torch.equal(scores[query, others], alone[query])


def test_of_one_label_only_the_nearest_descriptor_votes() -> None:
    angles = torch.tensor([0.0, 0.1, 0.2, 0.3, 0.4])
    circle = torch.stack([angles.cos(), angles.sin()], 1).half()
    query = Descriptors(circle[:1], torch.tensor([0, 1]), torch.ones(1))
    gallery = Descriptors(circle[1:], torch.tensor([0, 1, 2, 3, 4]), torch.ones(4))
    scores = lnbnn(query, gallery, torch.tensor([0, 0, 1, 2]), k=3)
    gains = [2 * (np.cos(angle) - np.cos(0.4)) for angle in (0.1, 0.3)]
    assert scores[0].tolist() == pytest.approx([*gains, 0], abs=2e-3)


def test_nothing_to_match_scores_nothing() -> None:
    some, none = stack_descriptors([extract(texture(0), SMALL)]), stack_descriptors([blank(), blank()])
    for queries, gallery in [(none, some), (some, none), (none, none)]:
        assert torch.equal(lnbnn(queries, gallery), torch.zeros(len(queries), len(gallery)))
    assert lnbnn(stack_descriptors([]), some).shape == (0, 1)
    assert lnbnn(some, stack_descriptors([])).shape == (1, 0)
    assert torch.equal(lnbnn(some, some, hidden=torch.ones(1, 1, dtype=torch.bool)), torch.zeros(1, 1))


def test_a_blank_photograph_beside_others_changes_nothing() -> None:
    found = [extract(texture(seed), SMALL) for seed in range(3)]
    queries = stack_descriptors([blank(), extract(warped(texture(1)), SMALL)])
    scores = lnbnn(queries, stack_descriptors([found[0], blank(), *found[1:]]))
    assert torch.equal(scores[1, [0, 2, 3]], lnbnn(queries, stack_descriptors(found))[1])
    assert (scores[0] == 0).all()
    assert scores[1, 1] == 0


def test_the_centre_weighs_most() -> None:
    points = np.array([[0.5, 0.25, 0.1, 0], [0.5, 0.5, 0.1, 0], [1.0, 0.25, 0.1, 0]], np.float32)
    wide = Keypoints(points, np.ones((3, 128), np.float16), (1.0, 0.5), np.ones(3, np.float32))
    expected = [1, np.exp(-0.25 / (2 * 0.3**2)), np.exp(-0.25 / (2 * 0.3**2))]
    assert stack_descriptors([wide], 0.3).weights.tolist() == pytest.approx(expected)
    assert stack_descriptors([wide]).weights.tolist() == [1, 1, 1]
    with pytest.raises(InputError, match="spread of the centre prior: expected above 0, found 0"):
        stack_descriptors([wide], 0)


# a shortlist closely


@pytest.mark.parametrize("model", ["affine", "homography"])
def test_verification_finds_the_transformation(model: str) -> None:
    gallery = [extract(texture(seed), SMALL) for seed in range(3)]
    query = extract(warped(texture(1)), SMALL)
    (looked,) = verify([query], gallery, np.array([[0, 1, 2]]), MatchingConfig(model=model))
    assert looked[1].inliers > 30
    assert max(looked[0].inliers, looked[2].inliers) < 10
    on_query, on_gallery = looked[1].pairs[looked[1].inlier].transpose(1, 0, 2) * 160 - 0.5
    moved = on_gallery @ TURNED[:, :2].T + TURNED[:, 2]
    assert np.linalg.norm(moved - on_query, axis=1).max() < 0.02 * 160 * 1.5
    fitted = np.linalg.lstsq(np.c_[on_gallery, np.ones(len(on_gallery))], on_query, rcond=None)[0].T
    assert fitted == pytest.approx(TURNED, abs=0.5)
    assert fitted[:, :2] == pytest.approx(TURNED[:, :2], abs=0.01)


def test_matches_equal_the_slow_twin() -> None:
    gallery = [extract(texture(seed), replace(SMALL, count=40 + 20 * seed)) for seed in range(3)]
    query = extract(warped(texture(1)), SMALL)
    (found,) = verify([query], gallery, [np.arange(3)], MatchingConfig(ratio=0.9))
    for candidate, verified in zip(gallery, found, strict=True):
        one, other = query.descriptors.astype(float), candidate.descriptors.astype(float)
        distances = np.sqrt(np.maximum(2 - 2 * one @ other.T, 0))
        expected = []
        for row in range(len(one)):
            order = np.argsort(distances[row])
            passes = distances[row, order[0]] <= 0.9 * distances[row, order[1]]
            if passes and distances[:, order[0]].argmin() == row:
                expected.append([query.points[row, :2], candidate.points[order[0], :2]])
        assert np.array_equal(verified.pairs, np.array(expected, np.float32).reshape(-1, 2, 2))
    assert len(found[1].pairs) > 20


def test_verification_is_the_same_again_and_in_any_company() -> None:
    gallery = [extract(texture(seed), SMALL) for seed in range(3)]
    queries = [extract(warped(texture(seed)), SMALL) for seed in range(2)]
    shortlist = np.array([[0, 1, 2], [2, 1, 0]])
    first, again = (verify(queries, gallery, shortlist, MatchingConfig(ratio=0.95)) for _ in range(2))
    for one_row, other_row in zip(first, again, strict=True):
        for one, other in zip(one_row, other_row, strict=True):
            assert np.array_equal(one.pairs, other.pairs)
            assert np.array_equal(one.inlier, other.inlier)
    (single,) = verify(queries[1:], gallery, np.array([[0]]), MatchingConfig(ratio=0.95))
    assert np.array_equal(single[0].inlier, first[1][2].inlier)


def test_cores_are_counted_on_every_system(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = extract(texture(1), SMALL), extract(warped(texture(1)), SMALL)
    before = verify([one], [other], [np.array([0])], MatchingConfig())[0][0]
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert 1 <= core_count() <= (os.cpu_count() or 1)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)  # neither macOS nor Windows has it
    assert core_count() == os.cpu_count()
    after = verify([one], [other], [np.array([0])], MatchingConfig())[0][0]
    assert before.inliers == after.inliers > 0
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert core_count() == 1


def test_nothing_to_verify_has_no_inliers() -> None:
    some = extract(texture(0), SMALL)
    one = some.of(np.array([0]))
    (looked,) = verify([some], [blank(), one, some], np.array([[0, 1, 2]]), MatchingConfig())
    assert [one.inliers > 3 for one in looked] == [False, False, True]
    assert looked[0].pairs.shape == (0, 2, 2)
    for query, gallery in [(blank(), some), (blank(), blank())]:
        ((looked_at,),) = verify([query], [gallery], np.array([[0]]), MatchingConfig())
        assert looked_at.inliers == 0
    assert verify([], [some], np.zeros((0, 1), int), MatchingConfig()) == []
    assert verify([some], [some], np.zeros((1, 0), int), MatchingConfig()) == [[]]


def test_matches_that_all_lie_on_one_point_are_no_arrangement() -> None:
    points = np.tile(np.array([0.5, 0.4, 0.1, 0], np.float32), (9, 1))
    same = Keypoints(points, np.eye(9, 128, dtype=np.float16), (1.0, 0.8), np.ones(9, np.float32))
    for model in local_matching.MODELS:
        ((verified,),) = verify([same], [same], [np.array([0])], MatchingConfig(model=model))
        assert len(verified.pairs) == 9
        assert verified.inliers == 0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model": "spline"}, "matching model: expected homography or affine, found 'spline'"),
        ({"ratio": 1.5}, "matching ratio: expected above 0 and at most 1, found 1.5"),
        ({"tolerance": 0}, "matching tolerance: expected above 0, found 0"),
    ],
)
def test_wrong_settings_of_matching_are_named(settings: dict[str, str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        MatchingConfig(**settings)  # type: ignore[arg-type]


def test_a_photograph_without_any_keypoint_is_remembered_too(patterns: Path, tmp_path: Path) -> None:
    Image.new("RGB", (90, 60)).save(patterns / "flat.png")
    table = read_catalogue(patterns).database.table.iloc[:1].assign(path="flat.png")
    recipe = PRESETS["keypoints"]
    extractors = open_extractors(tmp_path, ["Checks"], False, recipe)
    (first,) = extract_features(Catalogue(patterns, table), extractors, "column", recipe, "looking")
    (patterns / "flat.png").rename(patterns / "again.png")
    with mock.patch.object(Image, "open", side_effect=AssertionError("it was opened again")):
        (again,) = extract_features(
            Catalogue(patterns, table.assign(path="again.png")), extractors, "column", recipe, "looking"
        )
    assert len(first.keypoints) == len(again.keypoints) == 0
    assert again.keypoints.extent == first.keypoints.extent == (1, pytest.approx(2 / 3, abs=0.01))


def test_no_fewer_candidates_are_sought_than_keypoints_are_kept() -> None:
    extraction = keypoint_config(override(PRESETS["frozen"], ["keypoints.count=1500", "keypoints.candidates=1000"]))
    assert extraction
    assert extraction.count == 1500
