"""The keypoints of one photograph: RootSIFT against OpenCV, and what is done to keypoints against known answers."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from textures import SMALL, blank, equal, texture

from reid.config.recipe import KeypointConfig
from reid.errors import InputError
from reid.retrieval.extractors.rootsift import detect, extract
from reid.retrieval.keypoints import (
    Keypoints,
    foreground,
    keypoints_from,
    saliency_weights,
    selection,
    tensors_of,
    top_k,
)
from reid.retrieval.local_matching import lnbnn, stack_descriptors


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


@pytest.mark.parametrize(
    ("own", "least", "side"), [(80, 100, 100), (120, 100, 120), (160, 100, 140), (80, 4096, 140), (160, 4096, 140)]
)
def test_a_small_photograph_is_enlarged_to_the_least_size_and_a_large_one_reduced(
    own: int, least: int, side: int
) -> None:
    image = cv2.resize(texture(2), (own, own // 2), interpolation=cv2.INTER_AREA)
    found = extract(image, replace(SMALL, size=140, least_size=least))
    assert len(found)
    assert found.extent == pytest.approx((1.0, 0.5), abs=1 / side)
    assert equal(found, extract(image, replace(SMALL, size=side, least_size=side)))
    others = (extract(image, replace(SMALL, size=other, least_size=other)) for other in {100, 120, 140} - {side})
    assert not any(equal(found, other) for other in others)


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
    with pytest.raises(InputError, match=rf"recipe field keypoints\.{field}: expected .* to .*, found {value}"):
        KeypointConfig(**{field: value})  # type: ignore[arg-type]


def a_row_of_points(across: list[float], extent: tuple[float, float]) -> Keypoints:
    points = np.array([[x, extent[1] / 2, 0.1, 0] for x in across], np.float32)
    return Keypoints(points, np.zeros((len(points), 128), np.float16), extent, np.ones(len(points), np.float32))


def test_saliency_weighs_each_keypoint_at_its_place() -> None:
    ramp = np.tile(np.array([0.0, 0.25, 0.5, 1.0], np.float32), (4, 1))  # from left to right, four cells

    def weights(keypoints: Keypoints, saliency: np.ndarray, fit: str) -> np.ndarray:
        return saliency_weights(keypoints.points, keypoints.extent, saliency, fit)

    wide = a_row_of_points([0.0, 0.125, 0.25, 0.5, 0.875, 1.0], (1.0, 0.5))
    assert weights(wide, ramp, "squash") == pytest.approx([0, 0, 0.125, 0.375, 1, 1], abs=1e-2)
    tall = a_row_of_points([0.0, 0.25, 0.5], (0.5, 1.0))
    assert weights(tall, ramp, "squash") == pytest.approx([0, 0.375, 1], abs=1e-2)
    assert weights(tall, ramp, "pad") == pytest.approx([0.125, 0.375, 0.75], abs=1e-2)  # in the middle half
    assert weights(tall, ramp.T.copy(), "pad") == pytest.approx([0.375] * 3, abs=1e-2)
    assert weights(blank(), ramp, "pad").shape == (0,)


def test_only_the_strongest_and_the_strongest_on_the_animal_are_kept() -> None:
    found = a_row_of_points(np.linspace(0, 1, 8).tolist(), (1.0, 1.0))
    found = replace(found, weights=np.array([0.1, 0.2, 0.9, 0.1, 0.5, 0.3, 0.8, 0.7], np.float32))
    kept = found.of(selection(found.weights, 3, 0.5))
    assert kept.weights.tolist() == pytest.approx([0.1, 0.2, 0.9, 0.5, 0.8])
    assert top_k(kept, 3).weights.tolist() == pytest.approx([0.1, 0.2, 0.9])
    assert foreground(kept, 0.5).weights.tolist() == pytest.approx([0.9, 0.5, 0.8])
    assert selection(blank().weights, 3, 0.5).shape == (0,)


@pytest.mark.parametrize("upright", [False, True])
def test_a_descriptor_is_the_same_whichever_others_are_wanted(upright: bool) -> None:
    """Also where those that are wanted were all found on the photograph itself, not on the doubled one."""
    config = replace(SMALL, upright=upright, count=150)
    rng = np.random.default_rng(0)
    for seed in range(3):
        whole, detection = extract(texture(seed), config), detect(texture(seed), config)
        assert np.array_equal(detection.points, whole.points)
        assert detection.extent == whole.extent
        large = np.flatnonzero(whole.points[:, 2] > np.quantile(whole.points[:, 2], 0.9))
        for places in (np.sort(rng.choice(len(whole), 40, replace=False)), large, np.arange(1), large[:0]):
            some = detection.described(places)
            assert equal(some, whole.of(places))
        masked = detection.of(whole.points[:, 0] > 0.5)
        assert equal(masked.at_once().described(np.arange(len(masked))), whole.of(whole.points[:, 0] > 0.5))


@pytest.mark.parametrize("count", [1, 20, 150, 4000])
def test_the_strongest_are_those_of_all_that_sift_finds(count: int) -> None:
    """Against sorting all of them; so many are cut off that several angles of a place lie on both sides of it."""
    config = replace(SMALL, upright=True, count=count)
    sharpest = replace(config, count=10_000)
    for seed in range(3):
        every, some = extract(texture(seed), sharpest), extract(texture(seed), config)
        assert np.array_equal(some.points, every.points[:count])


def test_many_photographs_come_back_from_their_tensors() -> None:
    some = [extract(texture(0), SMALL), blank(), extract(texture(1)[:90], SMALL)]
    assert all(map(equal, keypoints_from(tensors_of(some)), some))
