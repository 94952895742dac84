"""Exact nearest individuals against a slow twin, in any block size, and galleries in and out of files."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from reid import InputError, gallery
from reid.gallery import Embeddings, Gallery, load_gallery, nearest_individuals, save_gallery


def some_gallery(seed: int, photographs: int, individuals: int) -> Gallery:
    rng = np.random.default_rng(seed)
    vectors = torch.from_numpy(rng.normal(size=(photographs, 6)).astype(np.float32))
    identity = tuple(f"animal {n}" for n in rng.integers(0, individuals, size=photographs))
    return Gallery(Embeddings(tuple(map(str, range(photographs))), vectors), identity)


@pytest.mark.parametrize("block", [1, 50, 10_000])
@pytest.mark.parametrize("seed", range(5))
def test_nearest_individuals_equal_the_slow_twin(seed: int, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery, "BLOCK", block)
    known = some_gallery(seed, photographs=30, individuals=7)
    queries = torch.from_numpy(np.random.default_rng(seed + 100).normal(size=(9, 6)).astype(np.float32))
    distances, places = nearest_individuals(queries, known, 3)
    for row, query in enumerate(queries):
        to_each = (known.embeddings.vectors - query).norm(dim=1)
        of_individual = {
            name: min(float(to_each[i]) for i in range(30) if known.identity[i] == name) for name in set(known.identity)
        }
        expected = sorted(of_individual.items(), key=lambda pair: pair[1])[:3]
        assert [known.identity[place] for place in places[row]] == [name for name, _ in expected]
        assert distances[row].tolist() == pytest.approx([distance for _, distance in expected], abs=1e-5)


def test_a_mirror_image_that_is_nearer_counts_for_its_photograph(tmp_path: Path) -> None:
    plain, other = some_gallery(0, 12, 4), some_gallery(1, 12, 4)
    both = Gallery(replace(plain.embeddings, mirrored=other.embeddings.vectors), plain.identity)
    queries = torch.randn(7, 6, generator=torch.Generator().manual_seed(0))
    slow = [
        [
            min(float((query - vector).norm()), float((query - mirrored).norm()))
            for vector, mirrored in zip(plain.embeddings.vectors, other.embeddings.vectors, strict=True)
        ]
        for query in queries
    ]
    assert torch.allclose(both.embeddings.distances_from(queries), torch.tensor(slow), atol=1e-5)
    distances, _ = nearest_individuals(queries, both, 1)
    assert distances[:, 0].tolist() == pytest.approx([min(row) for row in slow], abs=1e-5)
    save_gallery(tmp_path / "x.safetensors", both)
    back = load_gallery(tmp_path / "x.safetensors").embeddings.mirrored
    assert back is not None
    assert torch.equal(back, other.embeddings.vectors)


def test_a_gallery_of_one_individual_has_no_runner_up() -> None:
    known = Gallery(Embeddings(("a", "b"), torch.tensor([[0.0], [4.0]])), ("leo", "leo"))
    matches = known.nearest(torch.tensor([[3.0]]), ["q"], "lions")
    assert matches.iloc[0][["identity", "photograph", "runner_up"]].tolist() == ["leo", "b", ""]
    assert matches["distance"].iloc[0] == 1
    assert matches["runner_up_distance"].iloc[0] == np.inf


def test_no_query_gives_an_empty_table() -> None:
    assert len(some_gallery(0, 4, 2).nearest(torch.empty(0, 6), [], "x")) == 0


def test_a_gallery_comes_back_from_its_file_as_it_was(tmp_path: Path) -> None:
    known = some_gallery(1, 12, 4)
    known = Gallery(known.embeddings, ('ümlaut, "quoted"\n', *known.identity[1:]))
    save_gallery(tmp_path / "x.gallery.safetensors", known)
    back = load_gallery(tmp_path / "x.gallery.safetensors")
    assert torch.equal(back.embeddings.vectors, known.embeddings.vectors)
    assert (back.embeddings.image_id, back.identity) == (known.embeddings.image_id, known.identity)


@pytest.mark.parametrize("content", [b"", b"no safetensors at all", b"\x80\x04pickle"])
def test_a_file_that_is_no_gallery_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.gallery.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"x\.gallery\.safetensors: expected a gallery.*python -m reid enroll"):
        load_gallery(path)
    with pytest.raises(InputError, match="found no file"):
        load_gallery(tmp_path / "nowhere")
