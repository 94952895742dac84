"""Local features against slow twins, warped photographs whose answer is known, and a cache that must never be stale."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from reid import InputError, keypoints
from reid.keypoints import (
    Descriptors,
    Extraction,
    Keypoints,
    Matching,
    extract,
    extract_all,
    lnbnn,
    of_individuals,
    stack,
    verify,
)

SMALL = Extraction(size=160, count=150, upright=False)
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


def opened(path: Path, size: int) -> np.ndarray | str:
    """An opener for the tests; its photographs are NumPy's files."""
    try:
        image: np.ndarray = np.load(path)
    except (OSError, ValueError):
        return "it is no array"
    return image


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
    found = extract(image, Extraction(size=160, count=150, clahe=0, upright=False))
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
        gallery = stack([extract(texture(seed), settings) for seed in (1, 2)])
        own, other = lnbnn(stack([extract(rotated, settings)]), gallery)[0].tolist()
        ahead.append(own / other)
    assert ahead[0] > 3
    assert ahead[1] < 1.5


def test_the_strongest_are_kept() -> None:
    many, few = extract(texture(2), SMALL), extract(texture(2), Extraction(size=160, count=20, upright=False))
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
        [len(extract(one, Extraction(size=160, count=2000, clahe=clahe))) for one in (image, faint)]
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
        Extraction(**{field: value})  # type: ignore[arg-type]


# many photographs


@pytest.fixture
def photographs(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{seed}.npy" for seed in range(3)]
    for seed, path in enumerate(paths):
        np.save(path, texture(seed))
    return paths


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that grows by one with every photograph that is worked on."""
    calls: list[int] = []

    def counting(image: np.ndarray, extraction: Extraction) -> Keypoints:
        calls.append(1)
        return extract(image, extraction)

    monkeypatch.setattr(keypoints, "extract", counting)
    return calls


def test_what_was_found_is_remembered(photographs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = counted(monkeypatch)
    first, problems = extract_all(photographs, SMALL, opened, "v1", tmp_path / "cache")
    again, _ = extract_all(photographs[::-1], SMALL, opened, "v1", tmp_path / "cache")
    assert problems == ["", "", ""]
    assert len(calls) == 3
    assert all(map(equal, first, again[::-1]))
    assert equal(first[1], extract(texture(1), SMALL))


def test_a_changed_photograph_or_setting_is_worked_on_again(
    photographs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, cache = counted(monkeypatch), tmp_path / "cache"
    extract_all(photographs, SMALL, opened, "v1", cache)
    for extraction, opened_as in [
        (replace(SMALL, size=161), "v1"),
        (replace(SMALL, count=151), "v1"),
        (replace(SMALL, clahe=3), "v1"),
        (replace(SMALL, contrast=0.02), "v1"),
        (replace(SMALL, upright=True), "v1"),
        (SMALL, "v2"),
    ]:
        before = len(calls)
        extract_all(photographs, extraction, opened, opened_as, cache)
        assert len(calls) == before + 3, (extraction, opened_as)
    np.save(photographs[0], texture(7))  # the name stays
    found, _ = extract_all(photographs, SMALL, opened, "v1", cache)
    assert len(calls) == 3 * 7 + 1
    assert equal(found[0], extract(texture(7), SMALL))
    monkeypatch.setattr(keypoints, "EXTRACTOR", "RootSIFT of the future")
    extract_all(photographs, SMALL, opened, "v1", cache)
    assert len(calls) == 3 * 7 + 1 + 3


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "another's"])
def test_a_damaged_or_stale_file_is_made_anew(
    damage: str, photographs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = extract_all(photographs, SMALL, opened, "v1", tmp_path / "cache")
    files = sorted((tmp_path / "cache").rglob("*.keypoints"))
    contents = [file.read_bytes() for file in files]
    for place, (file, content) in enumerate(zip(files, contents, strict=True)):
        flipped = bytearray(content)
        flipped[-1] ^= 1
        file.write_bytes(
            {"empty": b"", "cut": content[:-9], "flipped": bytes(flipped), "another's": contents[place - 1]}[damage]
        )
    calls = counted(monkeypatch)
    again, _ = extract_all(photographs, SMALL, opened, "v1", tmp_path / "cache")
    assert len(calls) == 3
    assert all(map(equal, first, again))
    assert [file.read_bytes() for file in files] == contents


def test_a_photograph_that_cannot_be_read_is_said_and_not_remembered(photographs: list[Path], tmp_path: Path) -> None:
    photographs[1].write_bytes(b"no array")
    paths = [*photographs, tmp_path / "none.npy"]
    found, problems = extract_all(paths, SMALL, opened, "v1", tmp_path / "cache")
    assert problems == ["", "it is no array", "", "it is no array"]
    assert [len(one) > 0 for one in found] == [True, False, True, False]
    assert len(list((tmp_path / "cache").rglob("*.keypoints"))) == 2


def test_a_cache_that_cannot_be_written_costs_nothing_else(photographs: list[Path], tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    found, problems = extract_all(photographs, SMALL, opened, "v1", tmp_path / "cache")
    assert all(map(len, found))
    assert not any(problems)


def test_worker_processes_find_the_same(photographs: list[Path], tmp_path: Path) -> None:
    alone, _ = extract_all(photographs, SMALL, opened, "v1")
    together, problems = extract_all(photographs, SMALL, opened, "v1", tmp_path / "cache", workers=2)
    assert all(map(equal, alone, together))
    assert problems == ["", "", ""]
    assert len(list((tmp_path / "cache").rglob("*.keypoints"))) == 3


# a gallery at once


def slow_lnbnn(
    queries: Descriptors, gallery: Descriptors, labels: list[int], k: int, forbidden: np.ndarray
) -> np.ndarray:
    """The definition, one descriptor after the other."""
    scores = np.zeros((len(queries), max(labels) + 1))
    known, owners = gallery.vectors.double().numpy(), gallery.owner.tolist()
    for row, query in enumerate(queries.owner.tolist()):
        vector = queries.vectors[row].double().numpy()
        allowed = [i for i, owner in enumerate(owners) if not forbidden[query, owner]]
        ordered = sorted(allowed, key=lambda i: -float(known[i] @ vector))[: k + 1]
        voted = set()
        for i in ordered[:k]:
            label = labels[owners[i]]
            if label not in voted:
                gain = 2 * (known[i] - known[ordered[-1]]) @ vector
                scores[query, label] += gain * float(queries.weights[row]) * float(gallery.weights[i])
            voted.add(label)
    return scores


@pytest.mark.parametrize("budget", [1, 3_000, 100_000, 64_000_000])
@pytest.mark.parametrize("k", [1, 3, 50])
def test_lnbnn_equals_the_slow_twin(k: int, budget: int) -> None:
    queries, gallery = some_descriptors(0, [4, 0, 7]), some_descriptors(1, [5, 9, 0, 3, 8])
    forbidden = np.zeros((3, 5), bool)
    forbidden[0, 1] = forbidden[2, 0] = forbidden[2, 4] = True
    for labels in ([0, 1, 2, 3, 4], [1, 0, 1, 2, 0]):
        expected = slow_lnbnn(queries, gallery, labels, k, forbidden)
        scores = lnbnn(queries, gallery, torch.tensor(labels), k, torch.from_numpy(forbidden), budget=budget)
        assert scores.numpy() == pytest.approx(expected, abs=1e-5)
        assert expected.max() > 0.01


@pytest.mark.parametrize("budget", [50_000, 2_000_000])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_the_search_finds_the_nearest_of_thousands(precision: torch.dtype, budget: int) -> None:
    rng = np.random.default_rng(5)
    vectors = functional.normalize(torch.from_numpy(rng.normal(size=(3100, 16))), dim=1).half()
    gallery = Descriptors(vectors, torch.tensor([0, 1500, 3100]), torch.ones(3100))
    queries = some_descriptors(6, [0])
    asked = functional.normalize(torch.from_numpy(rng.normal(size=(70, 16))), dim=1).half()
    queries = Descriptors(asked, torch.tensor([0, 70]), torch.ones(70))
    exact, places = (asked.double() @ vectors.double().T).topk(5)
    parts = list(keypoints.nearest(queries, gallery, 5, precision=precision, budget=budget))
    assert torch.cat([similarity for _, similarity, _ in parts]).numpy() == pytest.approx(exact.numpy(), abs=1e-5)
    assert torch.equal(torch.cat([neighbour for _, _, neighbour in parts]), places)


def test_similarities_are_never_held_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []
    largest = keypoints._largest

    def watched(found: Tensor, count: int) -> tuple[Tensor, Tensor]:
        held.append(found.numel() * found.element_size())
        return largest(found, count)

    monkeypatch.setattr(keypoints, "_largest", watched)
    queries, gallery = some_descriptors(0, [300, 300]), some_descriptors(1, [900, 900])
    lnbnn(queries, gallery, budget=100_000)
    assert sum(held) == 600 * 1800 * 4  # each similarity once
    assert max(held) <= 100_000


def test_the_order_of_the_gallery_and_of_the_queries_does_not_matter() -> None:
    found = [extract(texture(seed), SMALL) for seed in range(4)]
    asked = [extract(warped(texture(seed)), SMALL) for seed in (2, 0)]
    scores = lnbnn(stack(asked), stack(found))
    turned = lnbnn(stack(asked[::-1]), stack([found[place] for place in (3, 1, 0, 2)]))
    assert turned.numpy() == pytest.approx(scores.flip(0)[:, [3, 1, 0, 2]].numpy(), abs=1e-5)


def test_a_warped_photograph_is_most_like_itself() -> None:
    gallery = stack([extract(texture(seed), SMALL) for seed in range(5)])
    queries = stack([extract(warped(texture(seed)), SMALL) for seed in range(5)])
    scores = lnbnn(queries, gallery)
    assert scores.argmax(1).tolist() == [0, 1, 2, 3, 4]
    others = scores - torch.diag(scores.diag())
    assert (scores.diag() > 3 * others.amax(1)).all()


def test_what_is_forbidden_is_as_good_as_absent() -> None:
    found = [extract(texture(seed), SMALL) for seed in range(4)]
    queries = stack([extract(warped(texture(seed)), SMALL) for seed in range(4)])
    forbidden = torch.eye(4, dtype=torch.bool)
    scores = lnbnn(queries, stack(found), forbidden=forbidden)
    assert (scores.diag() == 0).all()
    for query in range(4):
        others = [place for place in range(4) if place != query]
        alone = lnbnn(queries, stack([found[place] for place in others]))
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
    some, none = stack([extract(texture(0), SMALL)]), stack([blank(), blank()])
    for queries, gallery in [(none, some), (some, none), (none, none)]:
        assert torch.equal(lnbnn(queries, gallery), torch.zeros(len(queries), len(gallery)))
    assert lnbnn(stack([]), some).shape == (0, 1)
    assert lnbnn(some, stack([])).shape == (1, 0)
    assert torch.equal(lnbnn(some, some, forbidden=torch.ones(1, 1, dtype=torch.bool)), torch.zeros(1, 1))


def test_a_blank_photograph_beside_others_changes_nothing() -> None:
    found = [extract(texture(seed), SMALL) for seed in range(3)]
    queries = stack([blank(), extract(warped(texture(1)), SMALL)])
    scores = lnbnn(queries, stack([found[0], blank(), *found[1:]]))
    assert torch.equal(scores[1, [0, 2, 3]], lnbnn(queries, stack(found))[1])
    assert (scores[0] == 0).all()
    assert scores[1, 1] == 0


def test_the_centre_weighs_most() -> None:
    points = np.array([[0.5, 0.25, 0.1, 0], [0.5, 0.5, 0.1, 0], [1.0, 0.25, 0.1, 0]], np.float32)
    wide = Keypoints(points, np.ones((3, 128), np.float16), (1.0, 0.5))
    expected = [1, np.exp(-0.25 / (2 * 0.3**2)), np.exp(-0.25 / (2 * 0.3**2))]
    assert stack([wide], 0.3).weights.tolist() == pytest.approx(expected)
    assert stack([wide]).weights.tolist() == [1, 1, 1]
    with pytest.raises(InputError, match="spread of the centre prior: expected above 0, found 0"):
        stack([wide], 0)


def test_an_individual_has_the_mean_of_its_best_photographs() -> None:
    scores = torch.tensor([[1.0, 5.0, 3.0, 2.0]])
    labels = torch.tensor([0, 0, 0, 2])
    assert of_individuals(scores, labels).tolist() == [[5, 0, 2]]
    assert of_individuals(scores, labels, best=2).tolist() == [[4, 0, 2]]
    assert of_individuals(scores[:, :0], labels[:0]).shape == (1, 0)


# a shortlist closely


@pytest.mark.parametrize("model", ["affine", "homography"])
def test_verification_finds_the_transformation(model: str) -> None:
    gallery = [extract(texture(seed), SMALL) for seed in range(3)]
    query = extract(warped(texture(1)), SMALL)
    (looked,) = verify([query], gallery, np.array([[0, 1, 2]]), Matching(model=model))
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
    found = keypoints._match(query, gallery, 0.9, None)
    for candidate, matches in zip(gallery, found, strict=True):
        one, other = query.descriptors.astype(float), candidate.descriptors.astype(float)
        distances = np.sqrt(np.maximum(2 - 2 * one @ other.T, 0))
        expected = []
        for row in range(len(one)):
            order = np.argsort(distances[row])
            passes = distances[row, order[0]] <= 0.9 * distances[row, order[1]]
            if passes and distances[:, order[0]].argmin() == row:
                expected.append([row, order[0]])
        assert matches.tolist() == expected
    assert len(found[1]) > 20


def test_verification_is_the_same_in_another_process_and_in_any_company() -> None:
    gallery = [extract(texture(seed), SMALL) for seed in range(3)]
    queries = [extract(warped(texture(seed)), SMALL) for seed in range(2)]
    shortlist = np.array([[0, 1, 2], [2, 1, 0]])
    alone = verify(queries, gallery, shortlist, Matching(ratio=0.95))
    together = verify(queries, gallery, shortlist, Matching(ratio=0.95), workers=1)
    for one_row, other_row in zip(alone, together, strict=True):
        for one, other in zip(one_row, other_row, strict=True):
            assert np.array_equal(one.pairs, other.pairs)
            assert np.array_equal(one.inlier, other.inlier)
    (single,) = verify(queries[1:], gallery, np.array([[0]]), Matching(ratio=0.95))
    assert np.array_equal(single[0].inlier, alone[1][2].inlier)


def test_nothing_to_verify_has_no_inliers() -> None:
    some = extract(texture(0), SMALL)
    one = Keypoints(some.points[:1], some.descriptors[:1], some.extent)
    (looked,) = verify([some], [blank(), one, some], np.array([[0, 1, 2]]), Matching())
    assert [one.inliers > 3 for one in looked] == [False, False, True]
    assert looked[0].pairs.shape == (0, 2, 2)
    for query, gallery in [(blank(), some), (blank(), blank())]:
        ((looked_at,),) = verify([query], [gallery], np.array([[0]]), Matching())
        assert looked_at.inliers == 0
    assert verify([], [some], np.zeros((0, 1), int), Matching()) == []
    assert verify([some], [some], np.zeros((1, 0), int), Matching()) == [[]]


def test_matches_that_all_lie_on_one_point_are_no_arrangement() -> None:
    same = np.zeros((9, 2, 2), np.float32)
    for model in keypoints.MODELS:
        assert not np.isnan(keypoints._fit(Matching(model=model), same)).any()


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
        Matching(**settings)  # type: ignore[arg-type]
