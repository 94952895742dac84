"""Galleries in and out of files, to the byte."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from textures import equal

from reid.config.recipe import KeypointConfig
from reid.errors import InputError
from reid.retrieval import descriptor_index, gallery
from reid.retrieval.extractors.rootsift import extract
from reid.retrieval.gallery import (
    Gallery,
    GalleryFeatures,
    gallery_precision,
    load_gallery,
    save_gallery,
    with_cells,
)
from reid.retrieval.keypoints import NO_KEYPOINTS


def some_gallery(seed: int, photographs: int, individuals: int, with_keypoints: bool = False) -> Gallery:
    rng = np.random.default_rng(seed)
    vectors = torch.from_numpy(rng.normal(size=(photographs, 6)).astype(np.float32))
    identity = tuple(f"animal {n}" for n in rng.integers(0, individuals, size=photographs))
    keypoints = [NO_KEYPOINTS] * photographs
    if with_keypoints:
        pictures = rng.integers(0, 256, (photographs, 40, 60, 3), dtype=np.uint8)
        found = [extract(picture, KeypointConfig(size=60, count=20)) for picture in pictures[1:]]
        keypoints[1:] = [replace(one, weights=rng.random(len(one)).astype(np.float32)) for one in found]
    orientation = tuple(rng.choice(["left", "right", ""], photographs).tolist())
    known = GalleryFeatures(tuple(map(str, range(photographs))), vectors, orientation, tuple(keypoints))
    return Gallery(known, identity)


@pytest.mark.parametrize("with_keypoints", [False, True])
def test_a_gallery_comes_back_from_its_file_as_it_was(tmp_path: Path, with_keypoints: bool) -> None:
    known = some_gallery(1, 12, 4, with_keypoints)
    known = Gallery(
        known.embeddings, ('\u00fcmlaut, "quoted"\n', *known.identity[1:]), "bfloat16", ("encoder", "local")
    )
    save_gallery(tmp_path / "x.gallery.safetensors", known)
    back = load_gallery(tmp_path / "x.gallery.safetensors")
    assert torch.equal(back.embeddings.vectors, known.embeddings.vectors)
    assert (back.embeddings.image_id, back.identity) == (known.embeddings.image_id, known.identity)
    assert back.embeddings.orientation == known.embeddings.orientation
    assert (back.precision, back.cues) == ("bfloat16", ("encoder", "local"))
    assert len(back.embeddings.keypoints) == 12
    assert all(map(equal, back.embeddings.keypoints, known.embeddings.keypoints))


def test_each_of_several_features_comes_back_with_its_own_cells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gallery, "EXACT", 50)
    one, other = (some_gallery(seed, 12, 4, with_keypoints=True) for seed in (1, 2))
    narrow = [replace(each, descriptors=each.descriptors[:, :64]) for each in other.embeddings.keypoints]
    features = replace(one.embeddings, further=(tuple(narrow), one.embeddings.keypoints))
    known = with_cells(replace(one, embeddings=features, extractor="rootsift+xfeat+disk"))
    save_gallery(tmp_path / "x.gallery.safetensors", known)
    back = load_gallery(tmp_path / "x.gallery.safetensors")
    assert [len(each) for each in back.embeddings.every_keypoints] == [12, 12, 12]
    for own, expected in zip(back.embeddings.every_keypoints, features.every_keypoints, strict=True):
        assert all(map(equal, own, expected))
    by_feature = back.by_feature()
    assert [each.extractor for each in by_feature] == ["rootsift", "xfeat", "disk"]
    for each, saved in zip(by_feature, known.by_feature(), strict=True):
        assert each.cells and saved.cells
        assert torch.equal(each.cells.cell, saved.cells.cell)
        assert torch.equal(each.cells.centroids, saved.cells.centroids)
    assert by_feature[0].cells and by_feature[1].cells
    assert by_feature[0].cells.centroids.shape[1:] != by_feature[1].cells.centroids.shape[1:]
    monkeypatch.setattr(gallery, "find_cells", None)  # those of another fold's gallery are taken
    assert with_cells(replace(known, cells=None, further_cells=()), known) == known
    some = back.embeddings.of(np.array([3, 1]))
    assert [equal(a, b) for a, b in zip(some.further[0], [narrow[3], narrow[1]], strict=True)] == [True, True]


def test_cells_of_other_descriptors_are_found_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (gallery, descriptor_index):
        monkeypatch.setattr(module, "EXACT", 50)
    known = with_cells(some_gallery(1, 12, 4, with_keypoints=True))
    *rest, last = known.embeddings.keypoints
    turned = replace(last, descriptors=np.ascontiguousarray(last.descriptors[::-1]))
    changed = replace(known, embeddings=replace(known.embeddings, keypoints=(*rest, turned)), cells=None)
    cells, anew = with_cells(changed, known).cells, with_cells(changed).cells
    assert cells and anew and known.cells
    assert torch.equal(cells.cell, anew.cell)
    assert not torch.equal(cells.cell, known.cells.cell)


def test_sides_are_read_in_the_words_of_0_1_0(tmp_path: Path) -> None:
    features = replace(some_gallery(1, 4, 2).embeddings, orientation=("Left", "R", "unknown", "left"))
    save_gallery(tmp_path / "x.gallery.safetensors", Gallery(features, ("a", "b", "a", "b")))
    assert load_gallery(tmp_path / "x.gallery.safetensors").embeddings.orientation == ("left", "right", "", "left")


def test_labels_count_the_individuals_in_alphabetical_order() -> None:
    known = Gallery(GalleryFeatures(("0", "1", "2"), torch.zeros(3, 2)), ("b", "a", "b"))
    assert known.individuals.tolist() == ["a", "b"]
    assert known.labels.tolist() == [1, 0, 1]


def test_some_of_the_photographs_keep_what_belongs_to_them() -> None:
    known = some_gallery(1, 6, 3, with_keypoints=True).embeddings
    some = known.of(np.array([4, 1]))
    assert some.image_id == ("4", "1")
    assert torch.equal(some.vectors, known.vectors[[4, 1]])
    assert some.orientation == (known.orientation[4], known.orientation[1])
    assert some.keypoints == (known.keypoints[4], known.keypoints[1])


@pytest.mark.parametrize("content", [b"", b"no safetensors at all", b"\x80\x04pickle"])
def test_a_file_that_is_no_gallery_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.gallery.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"x\.gallery\.safetensors: expected a gallery.*run `reid enroll`"):
        load_gallery(path)
    with pytest.raises(InputError, match="found no file; `reid enroll` makes it"):
        load_gallery(tmp_path / "nowhere")


def test_a_gallery_whose_parts_do_not_belong_together_is_refused(tmp_path: Path) -> None:
    known = some_gallery(1, 6, 3)
    for broken in (
        Gallery(known.embeddings, known.identity[1:]),
        Gallery(GalleryFeatures(known.embeddings.image_id, known.embeddings.vectors[1:]), known.identity),
    ):
        save_gallery(tmp_path / "x", broken)
        with pytest.raises(InputError, match="expected a vector per photograph, found other counts"):
            load_gallery(tmp_path / "x")


def test_the_precision_of_a_gallery_is_one_that_there_is_or_unknown(tmp_path: Path) -> None:
    path = tmp_path / "x"
    save_gallery(path, some_gallery(1, 3, 2))
    tensors = load_file(path)
    save_file(tensors, path)  # as 0.1.0 wrote it
    assert (load_gallery(path).precision, load_gallery(path).cues) == ("", ())
    save_file(tensors, path, {"precision": "bfloat16"})  # as it was written before galleries remembered their cues
    assert (load_gallery(path).precision, load_gallery(path).cues) == ("bfloat16", ())
    assert gallery_precision(path) == "bfloat16"
    save_file(tensors, path, {"precision": "float8"})
    with pytest.raises(InputError, match="its precision is 'float8'"):
        load_gallery(path)


def test_a_gallery_is_written_to_the_same_bytes_with_the_cues_that_there_are(tmp_path: Path) -> None:
    path, known = tmp_path / "x", replace(some_gallery(1, 3, 2), precision="float32", cues=("local",))
    contents = set()
    for _ in range(20):  # an order of its own for every writing
        save_gallery(path, known)
        contents.add(path.read_bytes())
    assert len(contents) == 1
    assert gallery_precision(path) == "float32"
    save_gallery(path, replace(known, cues=("smell",)))
    with pytest.raises(InputError, match=r"its cues are \('smell',\)"):
        load_gallery(path)


def test_a_gallery_of_nobody_comes_back_from_its_file(tmp_path: Path) -> None:
    nobody = Gallery(GalleryFeatures((), torch.zeros(0, 6)), (), "float32", ("encoder", "local"))
    save_gallery(tmp_path / "x", nobody)
    back = load_gallery(tmp_path / "x")
    assert (back.identity, back.embeddings.keypoints, tuple(back.embeddings.vectors.shape)) == ((), (), (0, 6))
