"""Masks, from an image file or COCO's run-length code to the keypoints that lie on the animal."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps
from safetensors.torch import load_file
from scene import scene
from textures import texture

from reid import cli
from reid.config.presets import PRESETS
from reid.config.recipe import Recipe
from reid.config.runtime import Runtime
from reid.config.settings import with_settings
from reid.data.boxes import BoxError, Crop
from reid.data.catalogue import COLUMNS, read_catalogue
from reid.data.masks import read_run_length
from reid.data.photographs import UnreadableError, View, covered_square, decode, fit_square
from reid.errors import InputError
from reid.models.new_networks import build_network, plan_network, save_network
from reid.retrieval.cache import Cache, photograph_digests
from reid.retrieval.extraction import Features, extract_features, open_extractors
from reid.retrieval.keypoints import Keypoints, on_mask
from reid.training.train import train

SIZE = (90, 60)


def runs_of(mask: np.ndarray) -> list[int]:
    """The slow way: one pixel after the other, down the columns."""
    runs, last = [0], False
    for pixel in mask.T.ravel():
        if pixel == last:
            runs[-1] += 1
        else:
            runs.append(1)
            last = pixel
    return runs


def packed(runs: list[int]) -> str:
    """As maskApi.c of cocoapi packs runs, rleToString."""
    text = ""
    for place, run in enumerate(runs):
        value = run - runs[place - 2] if place > 2 else run
        more = True
        while more:
            bits, value = value & 31, value >> 5
            more = value != -1 if bits & 16 else value != 0
            text += chr((bits | 32 if more else bits) + 48)
    return text


def code_of(mask: np.ndarray, pack: bool = True) -> str:
    return json.dumps({"size": list(mask.shape), "counts": packed(runs_of(mask)) if pack else runs_of(mask)})


@given(st.integers(0, 10**6), st.booleans())
def test_run_lengths_are_read_again(seed: int, pack: bool) -> None:
    rng = np.random.default_rng(seed)
    mask = np.kron(rng.random((rng.integers(1, 9), rng.integers(1, 9))) > 0.5, np.ones((7, 23))) > 0
    assert (read_run_length(code_of(mask, pack)) == mask).all()


def test_codes_of_cocoapi_are_read() -> None:
    """As pycocotools 2.0.11 encodes them."""
    assert (read_run_length('{"size": [4, 4], "counts": "01400000"}') == np.eye(4)).all()
    mask = np.zeros((40, 70), bool)
    mask[3:30, 10:60], mask[12:20, 20:33], mask[5, 65] = True, False, True
    holes = "OK15" * 12
    counts = f"c<k0=000000000000000000^{holes}OK15a00000000000000000000000000000000000000000000000000000Z6VO[O"
    assert (read_run_length(json.dumps({"size": [40, 70], "counts": counts})) == mask).all()


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "{}",
        '{"size": [2, 3], "counts": [1, 3]}',
        '{"size": [2, 3], "counts": [7, -1]}',
        '{"size": [99999999, 99999999], "counts": [1]}',
        '{"size": [2], "counts": "04"}',
        '{"size": [2, 2], "counts": null}',
    ],
)
def test_a_faulty_code_is_told(text: str) -> None:
    with pytest.raises(BoxError, match="no run-length code of COCO"):
        read_run_length(text)


@pytest.fixture
def animal(tmp_path: Path) -> np.ndarray:
    """A photograph on its side, and the mask of the picture as a viewer shows it."""
    tag = Image.Exif()
    tag[274] = 6
    scene(*SIZE).save(tmp_path / "x.png", exif=tag)
    mask = np.zeros((SIZE[0], SIZE[1]), bool)
    mask[20:70, 10:40] = True
    mask[20:30, 10:20] = False
    Image.fromarray(mask).save(tmp_path / "mask.png")
    return mask


def shown(path: Path, mask: str, **more: Any) -> np.ndarray:
    found = decode(path, View(0, detail=999, mask=mask, **more)).mask
    assert found is not None
    return found


def test_the_mask_is_cut_and_turned_as_the_picture_is(animal: np.ndarray, tmp_path: Path) -> None:
    crop = Crop((10, 20, 30, 50), "pixels", (30, 50))
    for mask in (str(tmp_path / "mask.png"), code_of(animal)):
        assert (shown(tmp_path / "x.png", mask) == animal).all()
        cut = shown(tmp_path / "x.png", mask, crop=crop)
        assert (cut == animal[20:70, 10:40]).all()
        assert (shown(tmp_path / "x.png", mask, crop=crop, turn=90) == np.rot90(cut)).all()
        assert (shown(tmp_path / "x.png", mask, crop=crop, mirror=True) == cut[:, ::-1]).all()
    with Image.open(tmp_path / "x.png") as image:
        assert ImageOps.exif_transpose(image).size == animal.shape[::-1]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda path, mask: code_of(mask.T),
            "has 90 x 60 pixels, the photograph 60 x 90 as a viewer",
        ),
        (lambda path, mask: str(path / "none.png"), r"its mask can't be used: none\.png: no such file"),
        (lambda path, mask: '{"size": 3}', r"its mask can't be used: a mask that is no run-length code"),
        (lambda path, mask: code_of(mask & False), "its mask can't be used: a mask that shows nothing within its box"),
    ],
)
def test_a_mask_that_cannot_be_used_makes_its_row_unreadable(
    make: Any, words: str, animal: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mask = make(tmp_path, animal)
    with pytest.raises(UnreadableError, match=words):
        decode(tmp_path / "x.png", View(16, mask=mask))
    row = dict.fromkeys(COLUMNS, "") | {"image_id": "1", "path": "x.png", "split": "query", "dataset": "Lynx"}
    cell = mask if mask.startswith("{") else "none.png"
    pd.DataFrame([row | {"mask": cell}]).to_csv(tmp_path / "metadata.csv", index=False)
    assert cli.main(["check", str(tmp_path)]) == 2
    assert "its mask" in capsys.readouterr().out


def test_a_mask_outside_the_folder_is_a_fault(tmp_path: Path) -> None:
    row = dict.fromkeys(COLUMNS, "") | {"image_id": "1", "path": "x.png", "split": "query", "dataset": "Lynx"}
    pd.DataFrame([row | {"mask": "../mask.png"}]).to_csv(tmp_path / "metadata.csv", index=False)
    with pytest.raises(InputError, match="row 2, column mask: expected a relative path that stays in the data folder"):
        read_catalogue(tmp_path)


def test_keypoints_off_the_animal_are_dropped() -> None:
    points = np.array([[0.01, 0.01, 0, 0], [0.99, 0.01, 0, 0], [0.49, 0.49, 0, 0], [1, 0.5, 0, 0]], np.float32)
    found = Keypoints(points, np.zeros((4, 128), np.float16), (1.0, 0.5), np.ones(4, np.float32))
    mask = np.array([[True, False], [False, True]])
    assert on_mask(found, mask).points[:, 0].tolist() == pytest.approx([0.01, 1])
    assert on_mask(found, None) is found


def features_of(folder: Path, mask: str, cache: Cache) -> Features:
    row = dict.fromkeys(COLUMNS, "") | {"image_id": "1", "path": "x.png", "split": "query", "dataset": "Lynx"}
    pd.DataFrame([row | {"mask": mask}]).to_csv(folder / "metadata.csv", index=False)
    recipe = with_settings(PRESETS["keypoints"], {"keypoints.count": 200})
    extractors = open_extractors({"Lynx": folder}, None, recipe, cache=cache)
    (found,) = extract_features(read_catalogue(folder), extractors, "column", recipe, "testing")
    return found


def test_features_and_their_cache_go_by_the_mask(tmp_path: Path) -> None:
    Image.fromarray(texture(0)).save(tmp_path / "x.png")
    high, wide = texture(0).shape[:2]
    left = np.zeros((high, wide), bool)
    left[:, : wide // 2] = True
    Image.fromarray(left).save(tmp_path / "left.png")
    cache = Cache(tmp_path)
    for _ in range(2):  # the second time out of the cache
        whole, part, rest = (features_of(tmp_path, mask, cache).keypoints for mask in ("", "left.png", code_of(~left)))
        assert len(part) + len(rest) == len(whole)
        assert (part.points[:, 0] < 0.5).all()
        assert (rest.points[:, 0] >= 0.5).all()
        assert min(len(part), len(rest)) > 5
    views = [View(16), View(16, mask=str(tmp_path / "left.png")), View(16, mask=code_of(left))]
    assert len(set(photograph_digests([tmp_path / "x.png"] * 3, views))) == 3


@pytest.mark.parametrize("fit", ["squash", "pad"])
@pytest.mark.parametrize(("turn", "mirror"), [(0, False), (90, False), (0, True)])
@pytest.mark.parametrize("crop", [None, Crop((10, 20, 30, 50), "pixels", (30, 50), margin=0.1)])
def test_a_network_gets_the_mask_where_it_gets_the_animal(
    fit: str, turn: int, mirror: bool, crop: Crop | None, animal: np.ndarray, tmp_path: Path
) -> None:
    """A photograph that is white on the animal and black elsewhere, on its side: both squares are one picture."""
    tag = Image.Exif()
    tag[274] = 6
    Image.fromarray(np.rot90(animal).astype(np.uint8) * 255).convert("RGB").save(tmp_path / "white.png", exif=tag)
    view = View(24, fit, turn, "bilinear", 999, mirror, crop, str(tmp_path / "mask.png"), covers=True)
    decoded = decode(tmp_path / "white.png", view)
    seen, covered = fit_square(decoded, view).astype(int), covered_square(decoded, view).astype(int)
    assert covered.shape == (24, 24, 1)
    picture = (seen != 128).all(2)  # grey is where a padded photograph has no pixels
    assert np.abs(seen[..., :1] - covered)[picture].mean() < 20
    assert not covered[~picture].any() or fit == "squash"
    unmasked = decode(tmp_path / "white.png", View(24, fit, turn, crop=crop))
    assert (covered_square(unmasked, view) == 255).all()


def vectors_of(folder: Path, mask: str, pool: bool) -> np.ndarray:
    """The vector of a photograph, by a network that averages a map of 2 x 2 cells."""
    row = dict.fromkeys(COLUMNS, "") | {"image_id": "1", "path": "x.png", "split": "query", "dataset": "Lynx"}
    pd.DataFrame([row | {"mask": mask}]).to_csv(folder / "metadata.csv", index=False)
    recipe = with_settings(PRESETS["toy"], {"data.pool_under_masks": pool})
    save_network(folder / "n.safetensors", build_network(plan_network("test_resnet", 64), 0, "none"))
    cache = Cache(folder)
    extractors = open_extractors({"Lynx": folder / "n.safetensors"}, None, recipe, Runtime(precision="float32"), cache)
    for _ in range(2):  # the second time out of the cache
        (found,) = extract_features(read_catalogue(folder), extractors, "column", recipe, "testing")
    return found.vector.numpy()


def test_vectors_and_their_cache_go_by_the_mask_and_the_setting(tmp_path: Path) -> None:
    Image.fromarray(texture(0)).save(tmp_path / "x.png")
    high, wide = texture(0).shape[:2]
    left = np.zeros((high, wide), bool)
    left[:, : wide // 2] = True
    whole = vectors_of(tmp_path, "", pool=True)
    halves = [vectors_of(tmp_path, code_of(mask), pool=True) for mask in (left, ~left)]
    assert np.allclose((halves[0] + halves[1]) / 2, whole, atol=1e-4)
    assert not np.allclose(halves[0], whole, atol=1e-2)
    assert np.array_equal(vectors_of(tmp_path, code_of(left), pool=False), vectors_of(tmp_path, "", pool=False))


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_encoders_learn_from_what_is_under_the_masks(
    rate: float, patterns: Path, tiny_recipe: Recipe, tmp_path: Path
) -> None:
    """Of a frozen backbone and of one that is trained: with masks of nothing but animal they learn as without masks."""
    table = pd.read_csv(patterns / "metadata.csv", dtype=str, keep_default_na=False)
    settings = {"data.pool_under_masks": True, "training.backbone_rate": rate, "backbone.image_size": 64}  # 2 x 2 cells
    pooled = with_settings(tiny_recipe, settings)
    heads: list[np.ndarray] = []
    for share in (None, 1.0, 0.5):
        shown = np.zeros((40, 48), bool)
        shown[:, : round(48 * (share or 0))] = True
        mask = "" if share is None else code_of(shown)
        table.assign(mask=mask).to_csv(patterns / "metadata.csv", index=False)
        train(read_catalogue(patterns), pooled, tmp_path / f"{share}", only=["Dots"])
        heads.append(load_file(tmp_path / f"{share}" / "Dots.safetensors")["head.0.weight"].numpy())
    without, whole, half = heads
    assert np.allclose(whole, without, atol=1e-5)
    assert not np.allclose(half, whole, atol=1e-2)


@pytest.mark.parametrize("pooling", ["backbone", "gem"])
def test_where_a_map_has_one_cell_masks_change_nothing_and_this_is_told(
    pooling: str, patterns: Path, tiny_recipe: Recipe, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = pd.read_csv(patterns / "metadata.csv", dtype=str, keep_default_na=False)
    half = np.zeros((40, 48), bool)
    half[:, :24] = True
    heads: list[np.ndarray] = []
    told: list[list[str]] = []
    for mask, size in (("", 32), (code_of(half), 32), (code_of(half), 64)):
        table.assign(mask=mask).to_csv(patterns / "metadata.csv", index=False)
        settings = {"data.pool_under_masks": True, "backbone.image_size": size, "backbone.pooling": pooling}
        out = tmp_path / f"{len(heads)}"
        caplog.clear()
        train(read_catalogue(patterns), with_settings(tiny_recipe, settings), out, only=["Dots"])
        heads.append(load_file(out / "Dots.safetensors")["head.0.weight"].numpy())
        told.append([one for one in caplog.messages if one.startswith("data.pool_under_masks changes nothing")])
    assert np.array_equal(heads[0], heads[1])
    assert [len(some) for some in told] == [0, 1, 0]
    assert "for the backbone test_resnet: of photographs of 32 pixels" in told[1][0]
