"""One door for pixels: every kind of file gives upright RGB bytes or a reason, and augmentation does what it says."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from reid.catalogue import describe, read_rows
from reid.images import UnreadableError, augment, open_photograph, photograph_batches, survey
from reid.recipe import AUGMENTATIONS, RECIPES, Recipe, override


def scene(width: int = 90, height: int = 60) -> Image.Image:
    """A smooth picture without any symmetry."""
    y, x = np.mgrid[0:height, 0:width]
    red, green = 255 * x / width, 255 * y / height
    return Image.fromarray(
        np.dstack([red, green, 255 * np.exp(-((x - 20) ** 2 + (y - 15) ** 2) / 200)]).astype(np.uint8)
    )


@pytest.mark.parametrize("turned", [None, *Image.Transpose])
def test_a_photograph_is_upright_however_the_camera_was_held(tmp_path: Path, turned: Image.Transpose | None) -> None:
    exif_of = {
        None: 1, Image.Transpose.FLIP_LEFT_RIGHT: 2, Image.Transpose.ROTATE_180: 3, Image.Transpose.FLIP_TOP_BOTTOM: 4,
        Image.Transpose.TRANSPOSE: 5, Image.Transpose.ROTATE_90: 6, Image.Transpose.TRANSVERSE: 7,
        Image.Transpose.ROTATE_270: 8,
    }  # fmt: skip
    exif = Image.Exif()
    exif[274] = exif_of[turned]
    stored = scene() if turned is None else scene().transpose(turned)
    stored.save(tmp_path / "x.png", exif=exif)
    scene().save(tmp_path / "upright.png")
    found = open_photograph(tmp_path / "x.png", 32).astype(int)
    assert np.abs(found - open_photograph(tmp_path / "upright.png", 32)).max() <= 1


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "CMYK", "RGBA", "LA", "1", "YCbCr"])
def test_every_colour_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("x.tif" if mode in ("CMYK", "YCbCr") else "x.png")
    scene().convert("L" if mode == "LA" else "RGB").convert(mode).save(path)
    pixels = open_photograph(path, 24)
    assert (pixels.shape, pixels.dtype) == ((24, 24, 3), np.uint8)
    assert pixels.std() > 20  # the scene is still to be seen


@pytest.mark.parametrize("scale", [1, 2, 4, 9])
def test_decoding_at_a_smaller_scale_is_close_to_decoding_in_full(tmp_path: Path, scale: int) -> None:
    size = 64
    scene(size * scale + 7, size * scale).save(tmp_path / "x.jpg", quality=95)
    with Image.open(tmp_path / "x.jpg") as full:
        slow = np.asarray(full.convert("RGB").resize((size, size), Image.Resampling.BICUBIC)).astype(int)
    assert np.abs(open_photograph(tmp_path / "x.jpg", size) - slow).mean() < 1.5  # of 255


def broken_file(folder: Path, kind: str) -> Path:
    path = folder / "x.jpg"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind != "missing":
        scene(400, 300).save(path)
        whole = path.read_bytes()
        path.write_bytes({"empty": b"", "text": b"no photograph", "cut": whole[: len(whole) // 2]}[kind])
    return path


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("missing", "no such file"),
        ("folder", "not a file"),
        ("fifo", "not a file"),  # opening it would wait for ever
        ("empty", "it is no image"),
        ("text", "it is no image"),
        ("cut", "it can't be decoded"),
    ],
)
def test_a_broken_file_is_unreadable_with_its_reason(tmp_path: Path, kind: str, words: str) -> None:
    with pytest.raises(UnreadableError, match=words):
        open_photograph(broken_file(tmp_path, kind), 32)


def test_a_decompression_bomb_is_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    scene(90, 60).save(tmp_path / "x.png")
    with pytest.raises(UnreadableError, match="5400 pixels"):
        open_photograph(tmp_path / "x.png", 32)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_keep_the_order_and_stand_in_for_broken_files(tmp_path: Path, workers: int) -> None:
    paths = []
    for number in range(5):
        paths.append(tmp_path / f"{number}.png")
        Image.new("RGB", (40, 30), (number * 40, 0, 0)).save(paths[-1])
    paths[2].write_bytes(b"")
    recipe = override(RECIPES["toy"], ["batch_size=2", f"workers={workers}", "image_size=16"])
    batches = list(photograph_batches(paths, recipe, "testing"))
    pixels = torch.cat([batch for batch, _ in batches])
    problems = [problem for _, batch_problems in batches for problem in batch_problems]
    assert pixels[:, 0, 0, 0].tolist() == [0, 40, 128, 120, 160]
    assert [bool(problem) for problem in problems] == [False, False, True, False, False]


def test_survey_and_describe_count_what_is_there(patterns: Path) -> None:
    catalogue = read_rows(patterns)
    database, query = catalogue.database.paths, catalogue.query.paths
    query[0].write_bytes(database[0].read_bytes())
    database[1].unlink()
    table = describe(catalogue, survey(catalogue)).set_index("dataset")
    assert table.loc["Checks"].to_dict() == {
        "images": 24, "individuals": 6, "singletons": 0, "largest": 4, "query": 14, "unreadable": 1, "duplicates": 1,
    }  # fmt: skip
    assert table.loc["Dots", ["unreadable", "duplicates"]].tolist() == [0, 0]


def photographs(count: int = 64) -> torch.Tensor:
    pixels = np.asarray(scene().resize((32, 32))).transpose(2, 0, 1)
    return torch.from_numpy(pixels.copy()).expand(count, -1, -1, -1)


def augmented(recipe: Recipe, seed: int = 0, count: int = 64) -> torch.Tensor:
    return augment(photographs(count), recipe, np.random.default_rng(seed))


def only(name: str, how: str = "one") -> Recipe:
    return override(RECIPES["seed"], [f"augmentations={name}", f"augment={how}"])


def test_the_same_seed_gives_the_same_pixels_and_each_photograph_its_own() -> None:
    recipe = RECIPES["seed"]
    assert torch.equal(augmented(recipe), augmented(recipe))
    assert not torch.equal(augmented(recipe, 0), augmented(recipe, 1))
    assert len({photograph.numpy().tobytes() for photograph in augmented(recipe)}) > 40


def test_a_flip_is_a_flip() -> None:
    assert (augmented(only("flip")).int() - photographs().flip(3).int()).abs().max() <= 1


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_every_augmentation_changes_the_picture_and_keeps_it_recognisable(name: str) -> None:
    changed = (augmented(only(name)).float() - photographs().float()).abs().mean((1, 2, 3))
    assert changed.median() > 1
    if name != "flip":
        assert changed.max() < 60  # of 255; another scene would differ by more


def test_none_is_none() -> None:
    assert torch.equal(augmented(only("")), photographs())


def test_each_with_one_half_leaves_half_of_them_alone() -> None:
    untouched = (augmented(only("flip", "each"), count=400).int() - photographs(400).int()).abs().amax((1, 2, 3)) <= 1
    assert 0.4 < untouched.float().mean() < 0.6


def test_jitter_keeps_grey_grey() -> None:
    """Saturation and hue turn around the grey axis, and contrast about the mean: a flat grey picture only gets darker
    or brighter."""
    grey = torch.full((50, 3, 8, 8), 100, dtype=torch.uint8)
    jittered = augment(grey, only("jitter"), np.random.default_rng(0)).int()
    assert (jittered.amax((1, 2, 3)) - jittered.amin((1, 2, 3))).max() <= 1
    assert jittered.min() >= 69
    assert jittered.max() <= 131
