"""Votes and verification against slow twins, and warped photographs whose answer is known."""

import os
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from textures import SMALL, TURNED, blank, texture, warped
from torch.nn import functional

from reid.config.recipe import MatchingConfig
from reid.errors import InputError
from reid.retrieval.extractors.rootsift import extract
from reid.retrieval.keypoints import Keypoints
from reid.retrieval.local_matching import Descriptors, lnbnn, stack_descriptors, verify
from reid.runtime.distributed import core_count


def some_descriptors(seed: int, counts: list[int]) -> Descriptors:
    """Random descriptors in 6 dimensions, so that neighbours are near."""
    rng = np.random.default_rng(seed)
    vectors = functional.normalize(torch.from_numpy(rng.random((sum(counts), 6)) ** 2), dim=1).half()
    weights = torch.from_numpy(rng.random(sum(counts)).astype(np.float32))
    return Descriptors(vectors, torch.tensor([0, *counts]).cumsum(0), weights)


def test_weights_count_to_a_power() -> None:
    found = replace(extract(texture(0), SMALL).of(np.arange(2)), weights=np.array([0.5, 1], np.float32))
    assert stack_descriptors([found]).weights.tolist() == [1, 1]
    assert stack_descriptors([found], power=2).weights.tolist() == [0.25, 1]


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
    query_of_row = torch.tensor([0, 2, 2, 1, 0, 2])
    hidden = torch.zeros(6, 5, dtype=torch.bool)
    hidden[0, 1] = hidden[1, 0] = hidden[4, 4] = True
    hidden[5, [0, 1, 4]] = True
    together = lnbnn(queries, gallery, k=k, hidden=hidden, query_of_row=query_of_row)
    for row, photograph in enumerate(query_of_row.tolist()):
        alone = slow_lnbnn(queries, gallery, list(range(5)), k, np.tile(hidden[row].numpy(), (3, 1)))
        assert together[row].numpy() == pytest.approx(alone[photograph], abs=1e-5)
    assert (together > 0).any(1).tolist() == [True, True, True, False, True, True]


def test_the_order_of_the_gallery_and_of_the_queries_does_not_matter() -> None:
    found = [extract(texture(seed), SMALL) for seed in range(4)]
    queries = [extract(warped(texture(seed)), SMALL) for seed in (2, 0)]
    scores = lnbnn(stack_descriptors(queries), stack_descriptors(found))
    turned = lnbnn(stack_descriptors(queries[::-1]), stack_descriptors([found[place] for place in (3, 1, 0, 2)]))
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


def test_a_blank_photograph_next_to_others_changes_nothing() -> None:
    found = [extract(texture(seed), SMALL) for seed in range(3)]
    queries = stack_descriptors([blank(), extract(warped(texture(1)), SMALL)])
    scores = lnbnn(queries, stack_descriptors([found[0], blank(), *found[1:]]))
    assert torch.equal(scores[1, [0, 2, 3]], lnbnn(queries, stack_descriptors(found))[1])
    assert (scores[0] == 0).all()
    assert scores[1, 1] == 0


# a shortlist closely


@pytest.mark.parametrize("model", ["affine", "homography"])
def test_verification_finds_the_transformation(model: str) -> None:
    gallery = [extract(texture(seed), SMALL) for seed in range(3)]
    query = extract(warped(texture(1)), SMALL)
    (verified,) = verify([query], gallery, [np.arange(3)], MatchingConfig(model=model))
    assert verified[1].inliers > 30
    assert max(verified[0].inliers, verified[2].inliers) < 10
    on_query, on_gallery = verified[1].pairs[verified[1].inlier].transpose(1, 0, 2) * 160 - 0.5
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


def test_verification_is_the_same_again_and_next_to_any_others() -> None:
    gallery = [extract(texture(seed), SMALL) for seed in range(3)]
    queries = [extract(warped(texture(seed)), SMALL) for seed in range(2)]
    shortlist = [np.array([0, 1, 2]), np.array([2, 1, 0])]
    first, again = (verify(queries, gallery, shortlist, MatchingConfig(ratio=0.95)) for _ in range(2))
    for one_row, other_row in zip(first, again, strict=True):
        for one, other in zip(one_row, other_row, strict=True):
            assert np.array_equal(one.pairs, other.pairs)
            assert np.array_equal(one.inlier, other.inlier)
    (single,) = verify(queries[1:], gallery, [np.array([0])], MatchingConfig(ratio=0.95))
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
    (verified,) = verify([some], [blank(), one, some], [np.arange(3)], MatchingConfig())
    assert [one.inliers > 3 for one in verified] == [False, False, True]
    assert verified[0].pairs.shape == (0, 2, 2)
    for query, gallery in [(blank(), some), (blank(), blank())]:
        ((match,),) = verify([query], [gallery], [np.array([0])], MatchingConfig())
        assert match.inliers == 0
    assert verify([], [some], [], MatchingConfig()) == []
    assert verify([some], [some], [np.zeros(0, int)], MatchingConfig()) == [[]]


def test_matches_that_all_lie_on_one_point_are_no_arrangement() -> None:
    points = np.tile(np.array([0.5, 0.4, 0.1, 0], np.float32), (9, 1))
    same = Keypoints(points, np.eye(9, 128, dtype=np.float16), (1.0, 0.8), np.ones(9, np.float32))
    for model in ("affine", "homography"):
        ((verified,),) = verify([same], [same], [np.array([0])], MatchingConfig(model=model))
        assert len(verified.pairs) == 9
        assert verified.inliers == 0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model": "spline"}, "matching.model: expected affine or homography, found 'spline'"),
        ({"ratio": 1.5}, "matching.ratio: expected 0.1 to 1, found 1.5"),
        ({"tolerance": 0}, "matching.tolerance: expected 0.001 to 1, found 0"),
    ],
)
def test_wrong_settings_of_matching_are_named(settings: dict[str, str], words: str) -> None:
    with pytest.raises(InputError, match=re.escape(words)):
        MatchingConfig(**settings)  # type: ignore[arg-type]
