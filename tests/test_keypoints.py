"""The keypoints of one photograph: RootSIFT against OpenCV, and what is done to keypoints against known answers."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from textures import SMALL, blank, equal, texture

from reid.config.recipe import KeypointConfig
from reid.errors import InputError
from reid.retrieval.extractors.rootsift import extract
from reid.retrieval.keypoints import (
    Keypoints,
    foreground,
    keypoints_from,
    select_keypoints,
    tensors_of,
    top_k,
    weight_by_saliency,
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


def test_many_photographs_come_back_from_their_tensors() -> None:
    some = [extract(texture(0), SMALL), blank(), extract(texture(1)[:90], SMALL)]
    assert all(map(equal, keypoints_from(tensors_of(some)), some))
