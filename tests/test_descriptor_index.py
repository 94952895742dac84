"""Votes of a whole gallery through cells, against the exact search and invariants."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional

from reid.config.recipe import KeypointConfig
from reid.errors import InputError
from reid.retrieval.descriptor_index import EXACT, Cells, DescriptorIndex, DescriptorSets, find_cells, one_cell
from reid.retrieval.gallery import Gallery, GalleryFeatures, load_gallery, save_gallery, with_cells
from reid.retrieval.keypoints import NO_KEYPOINTS, Keypoints, stack_arrays
from reid.retrieval.local_matching import gallery_votes, lnbnn, stack_descriptors

CONFIG = KeypointConfig(count=12, foreground=0.4)

POWERS = {"local": 0.0, "foreground": 2.0}

CPU = torch.device("cpu")


def some_photographs(seed: int, counts: list[int], size: int = 8) -> list[Keypoints]:
    """Photographs with random descriptors in few dimensions, so that neighbours are near."""
    rng = np.random.default_rng(seed)
    photographs = []
    for count in counts:
        vectors = functional.normalize(torch.from_numpy(rng.random((count, size)) ** 2), dim=1).half().numpy()
        points = rng.random((count, 4)).astype(np.float32)
        photographs.append(Keypoints(points, vectors, (1.0, 1.0), rng.random(count).astype(np.float32)))
    return photographs


def matched(photographs: list[Keypoints], cue: str) -> list[Keypoints]:
    masks = {
        "local": [np.arange(len(one)) < CONFIG.count for one in photographs],
        "foreground": [one.weights >= CONFIG.foreground for one in photographs],
    }
    return [one.of(mask) for one, mask in zip(photographs, masks[cue], strict=True)]


def random_cells(descriptors: DescriptorSets, count: int, probes: int) -> DescriptorIndex:
    """An index whose centroids are descriptors of the gallery."""
    rng = np.random.default_rng(5)
    centroids = descriptors.vectors[rng.permutation(len(descriptors.vectors))[:count]].float()
    cell = torch.cdist(descriptors.vectors.float(), centroids).argmin(1).int()
    return DescriptorIndex.of(descriptors, Cells(centroids, cell), probes, CPU)


@pytest.mark.parametrize("count", [1, 9])
@pytest.mark.parametrize("k", [1, 4, 500])
def test_votes_are_exact_where_every_cell_is_visited(count: int, k: int) -> None:
    """Several roles of one query, hidden photographs, ones without keypoints, and more neighbours than there are."""
    queries = some_photographs(0, [25, 0, 18])
    gallery = some_photographs(1, [20, 30, 0, 15, 22, 1])
    query_of_row = torch.tensor([0, 0, 1, 2, 2, 2])
    hidden = torch.from_numpy(np.random.default_rng(2).random((6, 6)) < 0.4)
    index = random_cells(DescriptorSets.of(gallery, CONFIG, POWERS), count, count)
    votes = gallery_votes(DescriptorSets.of(queries, CONFIG, POWERS), index, k, hidden, query_of_row)
    for cue, power in POWERS.items():
        asked, known = (stack_descriptors(matched(some, cue), power) for some in (queries, gallery))
        expected = lnbnn(asked, known, k=k, hidden=hidden, query_of_row=query_of_row)
        torch.testing.assert_close(votes[cue], expected, atol=2e-6, rtol=1e-5)
        assert expected.count_nonzero() > 10
    assert not torch.allclose(votes["local"], votes["foreground"])


def test_a_query_has_the_same_votes_alone_and_with_others() -> None:
    queries, gallery = some_photographs(0, [25, 7, 18, 40]), some_photographs(1, [20, 30, 15, 22])
    index = random_cells(DescriptorSets.of(gallery, CONFIG, POWERS), 12, 3)
    together = gallery_votes(DescriptorSets.of(queries, CONFIG, POWERS), index)
    for row, query in enumerate(queries):
        alone = gallery_votes(DescriptorSets.of([query], CONFIG, POWERS), index)
        assert all(torch.equal(alone[cue][0], together[cue][row]) for cue in POWERS)


@pytest.mark.parametrize("cue", [None, "local", "foreground"])
@pytest.mark.parametrize("some", [slice(0, 1), slice(40, 49), slice(0, None)])
def test_descriptors_find_the_nearest_in_their_cells_be_they_few_or_many(some: slice, cue: str | None) -> None:
    """Fewer than there are cells, and more; a cell of whose descriptors no cue has any; lengths that differ."""
    photographs = some_photographs(1, [60, 30, 1, 22, 40])
    gallery = DescriptorSets.of(photographs, KeypointConfig(count=40, foreground=0.4), POWERS)
    lengths = torch.from_numpy(np.random.default_rng(3).uniform(0.5, 1.5, (len(gallery.vectors), 1))).half()
    gallery = replace(gallery, vectors=gallery.vectors * lengths)
    index = random_cells(gallery, 12, 5)
    bare = index.order[index.starts[3] : index.starts[4]]
    for members in gallery.members.values():
        members[bare] = False
    queries = DescriptorSets.of(some_photographs(0, [25, 7, 18, 40]), CONFIG, POWERS)
    hidden = torch.from_numpy(np.random.default_rng(2).random((4, 5)) < 0.3)
    found = index.search(queries.vectors[some], queries.owner[some], 6, hidden, cue)
    members = torch.ones(len(gallery.vectors), dtype=torch.bool) if cue is None else gallery.members[cue]
    cell = torch.empty(len(gallery.vectors), dtype=torch.long)
    cell[index.order] = torch.repeat_interleave(torch.arange(12), torch.tensor(index.starts).diff())
    for row, (vector, owner) in enumerate(zip(queries.vectors[some].float(), queries.owner[some], strict=True)):
        probed = (index.centroids - vector).norm(dim=1).argsort()[:5]
        seen = members & torch.isin(cell, probed) & ~hidden[owner][gallery.owner]
        distance = (gallery.vectors.float() - vector).square().sum(1).masked_fill(~seen, torch.inf)
        expected = distance.sort()
        torch.testing.assert_close(found.distance[row], expected.values[:6], atol=1e-6, rtol=1e-5)
        there = found.distance[row] < torch.inf
        assert found.place[row][there].tolist() == expected.indices[:6][there].tolist()


@pytest.mark.parametrize("counts", [[30], [30, 2, 5000]])
def test_a_query_with_ten_thousand_keypoints_votes_as_the_exact_search_has_it(counts: list[int]) -> None:
    config, powers = KeypointConfig(count=10_000), {"local": 0.0}
    queries, gallery = some_photographs(0, [10_000]), some_photographs(1, counts)
    index = random_cells(DescriptorSets.of(gallery, config, powers), 5, 5)
    votes = gallery_votes(DescriptorSets.of(queries, config, powers), index)["local"]
    expected = lnbnn(stack_descriptors(queries), stack_descriptors(gallery))
    torch.testing.assert_close(votes, expected, atol=2e-4, rtol=1e-4)
    assert expected.any()


def test_a_gallery_without_descriptors_has_no_votes() -> None:
    queries = DescriptorSets.of(some_photographs(0, [25, 3]), CONFIG, POWERS)
    for gallery in ([], [NO_KEYPOINTS, NO_KEYPOINTS]):
        descriptors = DescriptorSets.of(gallery, CONFIG, POWERS)
        votes = gallery_votes(queries, DescriptorIndex.of(descriptors, one_cell(descriptors.vectors), 16, CPU))
        assert {cue: some.shape for cue, some in votes.items()} == {cue: (2, len(gallery)) for cue in POWERS}
        assert not any(some.any() for some in votes.values())


def large_world(seed: int) -> tuple[list[Keypoints], list[Keypoints]]:
    """A gallery of 400 photographs with more than `EXACT` descriptors, whose first 20 have their query each: the same
    animal with half of its keypoints, noise on all of them, and as many others. Descriptors crowd as real ones do."""
    rng = np.random.default_rng(seed)
    crowds = rng.random((300, 32)) ** 4

    def descriptors(count: int) -> np.ndarray:
        return crowds[rng.integers(0, 300, count)] + 0.5 * rng.random((count, 32))

    def photograph(raw: np.ndarray) -> Keypoints:
        vectors = raw / np.linalg.norm(raw, axis=1, keepdims=True)
        ones = np.ones(len(raw), np.float32)
        return Keypoints(np.zeros((len(raw), 4), np.float32), vectors.astype(np.float16), (1.0, 1.0), ones)

    raw = [descriptors(140) for _ in range(400)]
    seen = [np.concatenate([one[:70] + 0.05 * rng.random((70, 32)), descriptors(70)]) for one in raw[:20]]
    return list(map(photograph, seen)), list(map(photograph, raw))


def test_a_sixth_of_the_cells_finds_what_all_of_them_find() -> None:
    """Recall against the exact search: 20 photographs with the most votes, and the first."""
    queries, gallery = large_world(0)
    config, powers = KeypointConfig(count=1000), {"local": 0.0}
    descriptors = DescriptorSets.of(gallery, config, powers)
    cells = find_cells(descriptors.vectors)
    assert len(descriptors.vectors) > EXACT
    assert len(cells.centroids) > 100
    asked = DescriptorSets.of(queries, config, powers)
    few = gallery_votes(asked, DescriptorIndex.of(descriptors, cells, 16, CPU))["local"]
    exact = gallery_votes(asked, DescriptorIndex.of(descriptors, cells, len(cells.centroids), CPU))["local"]
    assert few.argmax(1).tolist() == exact.argmax(1).tolist() == list(range(20))
    best = [votes.topk(20).indices.tolist() for votes in (few, exact)]
    recall = np.mean([len(set(found) & set(truly)) / 20 for found, truly in zip(*best, strict=True)])
    assert 0.85 < recall < 1


def test_a_gallery_keeps_its_cells_in_its_file(tmp_path: Path) -> None:
    _, photographs = large_world(1)
    known = GalleryFeatures(tuple(map(str, range(400))), torch.zeros(400, 0), ("",) * 400, tuple(photographs))
    gallery = with_cells(Gallery(known, ("a",) * 400))
    assert gallery.cells is not None
    path = tmp_path / "x.gallery.safetensors"
    save_gallery(path, gallery)
    back = load_gallery(path)
    assert back.cells is not None
    assert torch.equal(back.cells.centroids, gallery.cells.centroids)
    assert torch.equal(back.cells.cell, gallery.cells.cell)
    other = with_cells(replace(gallery, embeddings=replace(known, keypoints=tuple(large_world(5)[1]))))
    assert other.cells is not None
    tensors = load_file(path)
    for damage in (
        {"cell": tensors["cell"][:-1].clone()},
        {"cell": tensors["cell"].long()},
        {"cell": tensors["cell"] - 1},
        {"cell": tensors["cell"] + 1},
        {"centroids": tensors["centroids"][:, :-1].clone()},
        {"centroids": tensors["centroids"] * torch.nan},
        {"centroids": tensors["centroids"].half()},
        {"cell": in_other_byte_order(tensors["cell"])},
        {"centroids": in_other_byte_order(tensors["centroids"])},
        {"centroids": other.cells.centroids, "cell": other.cells.cell},  # of a gallery with as many descriptors
    ):
        save_file(tensors | damage, path)
        assert load_gallery(path).cells is None  # and they are found again
    del tensors["cell"]
    save_file(tensors, path)
    assert load_gallery(path).cells is None


def in_other_byte_order(tensor: torch.Tensor) -> torch.Tensor:
    swapped = torch.from_numpy(tensor.numpy().byteswap())
    return torch.nan_to_num(swapped) if swapped.is_floating_point() else swapped


def test_a_gallery_that_is_not_written_to_its_end_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, photographs = large_world(1)
    known = GalleryFeatures(tuple(map(str, range(400))), torch.zeros(400, 0), ("",) * 400, tuple(photographs))
    gallery = with_cells(Gallery(known, ("a",) * 400))
    path = tmp_path / "x.gallery.safetensors"
    save_gallery(path, gallery)
    before = path.read_bytes()

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as changed, pytest.raises(KeyboardInterrupt):
        changed.setattr("os.fsync", stop)
        save_gallery(path, replace(gallery, identity=("b",) * 400))
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    path.write_bytes(before[:-5000])
    with pytest.raises(InputError, match=r"expected a gallery, but it can't be read .* run `reid enroll`"):
        load_gallery(path)


def test_the_descriptors_of_a_file_are_searched_where_they_are(tmp_path: Path) -> None:
    """They are mapped into memory, and a copy of them would take as much again."""
    photographs = some_photographs(1, [20, 0, 30, 15])
    known = GalleryFeatures(tuple("abcd"), torch.zeros(4, 0), ("",) * 4, tuple(photographs))
    save_gallery(tmp_path / "x", Gallery(known, ("a",) * 4))
    loaded = load_gallery(tmp_path / "x").embeddings.keypoints
    for chosen in (loaded, loaded[2:], loaded[:1]):
        stacked = stack_arrays(chosen)
        assert np.shares_memory(stacked, loaded[0].descriptors.base)
        assert np.array_equal(stacked, np.concatenate([one.descriptors for one in chosen]))
    for apart in ((loaded[0], loaded[3]), loaded[::-1], (loaded[0], loaded[2].of(np.arange(3)))):
        stacked = stack_arrays(apart)
        assert not np.shares_memory(stacked, loaded[0].descriptors.base)
        assert np.array_equal(stacked, np.concatenate([one.descriptors for one in apart]))


@pytest.mark.parametrize("count", [1, 3])
def test_rows_of_a_matrix_upside_down_are_these_rows(count: int) -> None:
    (photograph,) = some_photographs(1, [20])
    upside_down = photograph.descriptors[::-1][3 : 3 + count]
    rows = replace(photograph.of(np.arange(count)), descriptors=upside_down)
    assert np.array_equal(stack_arrays([rows]), photograph.descriptors[[16, 15, 14][:count]])


@pytest.mark.parametrize("count", [1, 100_000])
def test_galleries_of_one_photograph_and_of_a_hundred_thousand_are_searched(count: int) -> None:
    """With a descriptor on each photograph, the one that has the query's own gets the most votes."""
    config, powers = KeypointConfig(), {"local": 0.0}
    gallery = some_photographs(0, [1] * count)
    queries = [gallery[-1], gallery[count // 2], NO_KEYPOINTS]
    known = DescriptorSets.of(gallery, config, powers)
    cells = find_cells(known.vectors)
    assert len(cells.centroids) == (1 if count == 1 else 158)
    votes = gallery_votes(DescriptorSets.of(queries, config, powers), DescriptorIndex.of(known, cells, 16, CPU))[
        "local"
    ]
    assert votes.shape == (3, count)
    assert torch.isfinite(votes).all()
    assert not votes[2].any()
    if count > 1:  # alone, a neighbour is no nearer than the farthest
        assert votes[:2].argmax(1).tolist() == [count - 1, count // 2]


def test_galleries_of_the_same_descriptors_share_their_cells() -> None:
    _, photographs = large_world(2)
    known = GalleryFeatures(tuple(map(str, range(400))), torch.zeros(400, 0), ("",) * 400, tuple(photographs))
    first = with_cells(Gallery(known, ("a",) * 400))
    copies = tuple(replace(one, descriptors=one.descriptors.copy()) for one in photographs)
    second = with_cells(Gallery(replace(known, vectors=torch.ones(400, 3), keypoints=copies), ("b",) * 400), first)
    assert second.cells is first.cells
    turned = replace(known, keypoints=tuple(reversed(photographs)))
    other = with_cells(Gallery(turned, ("b",) * 400), first)
    assert other.cells is not None
    assert other.cells is not first.cells
    few = replace(known, keypoints=(*photographs[:10], *[NO_KEYPOINTS] * 390))
    assert with_cells(Gallery(few, ("b",) * 400), first).cells is None
