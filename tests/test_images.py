"""One door for pixels: every kind of file gives upright RGB bytes or a reason, and augmentation does what it says."""

import itertools
import os
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image, ImageOps, features
from torch import Tensor

from reid.config.presets import PRESETS
from reid.config.recipe import AUGMENTATIONS, Recipe, override
from reid.data.augmentation import augment
from reid.data.catalogue import read_rows
from reid.data.checks import describe, scan_files
from reid.data.loading import (
    PhotographStore,
    decode_photographs,
    photograph_batches,
    temporary_folder,
    training_batches,
)
from reid.data.photographs import UnreadableError, View, open_photograph, thumbnails, views_of
from reid.data.sampling import Batch
from reid.errors import InputError
from reid.retrieval.extractors.rootsift import KeypointConfig, extract
from reid.runtime.distributed import all_cores, core_count


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
    try:
        Image.open(path).load()
    except OSError:
        pytest.skip("this Pillow can't read what it has written (11.3 and YCbCr in a TIFF)")
    pixels = open_photograph(path, 24)
    assert pixels.shape == (24, 24, 3)
    assert pixels.dtype == np.uint8
    assert pixels.std() > 20  # the scene is still to be seen


@pytest.mark.parametrize("scale", [1, 2, 4, 9])
def test_decoding_at_a_smaller_scale_is_close_to_decoding_in_full(tmp_path: Path, scale: int) -> None:
    size = 64
    scene(size * scale + 7, size * scale).save(tmp_path / "x.jpg", quality=95)
    with Image.open(tmp_path / "x.jpg") as full:
        slow = np.asarray(full.convert("RGB").resize((size, size), Image.Resampling.BICUBIC)).astype(int)
    assert np.abs(open_photograph(tmp_path / "x.jpg", size) - slow).mean() < 1.5  # of 255


def test_a_smaller_scale_leaves_everything_in_its_place(tmp_path: Path) -> None:
    """Stripes that end at the edge: a JPEG of 8 n + 1 pixels is decoded at 1/8 with most of a column beyond it."""
    stripes = Image.fromarray(np.tile(np.uint8(np.arange(1001) // 24 % 2 * 200), (1001, 1)))
    stripes.convert("RGB").save(tmp_path / "x.jpg", quality=95)
    stripes.convert("RGB").save(tmp_path / "x.png")
    apart = open_photograph(tmp_path / "x.jpg", 62).astype(int) - open_photograph(tmp_path / "x.png", 62)
    assert np.abs(apart).max() < 8  # 30 when the column beyond is taken for photograph


def test_large_photographs_look_as_if_they_were_decoded_in_full(large_photographs: list[Path]) -> None:
    """Their features have a cosine of 0.9993 or more then, see benchmarks/README.md."""
    for photograph in large_photographs[::8]:
        with Image.open(photograph) as full:
            slow = np.asarray(full.convert("RGB").resize((224, 224), Image.Resampling.BICUBIC)).astype(int)
        assert np.abs(open_photograph(photograph, 224) - slow).mean() < 0.7, photograph.name  # of 255


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
        ("empty", "the file is empty"),
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


def test_a_decompression_bomb_that_hides_its_size_is_unreadable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene(90, 60).save(tmp_path / "x.png")
    png = (tmp_path / "x.png").read_bytes()
    entry = b"icp4" + struct.pack(">I", 8 + len(png)) + png  # a Mac icon that says 16 x 16
    (tmp_path / "x.icns").write_bytes(b"icns" + struct.pack(">I", 8 + len(entry)) + entry)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(UnreadableError, match="it is no image of a kind that is read here"):
        open_photograph(tmp_path / "x.icns", 32)


def test_batches_keep_the_order_and_stand_in_for_broken_files(tmp_path: Path) -> None:
    paths = []
    for number in range(5):
        paths.append(tmp_path / f"{number}.png")
        Image.new("RGB", (40, 30), (number * 40, 0, 0)).save(paths[-1])
    paths[2].write_bytes(b"")
    recipe = override(PRESETS["toy"], ["batch_size=2", "backbone.image_size=16"])
    batches = list(photograph_batches(paths, [View(16)] * len(paths), recipe, "testing"))
    pixels = torch.cat([batch.pixels for batch in batches])
    problems = [problem for batch in batches for problem in batch.problems]
    assert pixels[:, 0, 0, 0].tolist() == [0, 40, 128, 120, 160]
    assert [bool(problem) for problem in problems] == [False, False, True, False, False]


def test_keypoints_come_from_the_same_upright_photograph(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for number, path in enumerate(paths):
        scene(150 + number, 100).save(path)
    paths[1].write_bytes(b"")
    recipe = override(PRESETS["toy"], ["batch_size=2"])
    extraction = KeypointConfig(size=120, count=50)
    views = [View(16, turn=90, detail=120)] * 3
    opened = list(photograph_batches(paths, views, recipe, "testing", [extraction] * len(paths)))
    found = [keypoints for batch in opened for keypoints in batch.keypoints]
    assert found[1] is None
    for number in (0, 2):
        keypoints = found[number]
        assert keypoints is not None
        expected = extract(np.asarray(scene(150 + number, 100).rotate(90, expand=True)), extraction)
        assert len(expected)
        assert np.array_equal(keypoints.points, expected.points)
        assert np.array_equal(keypoints.descriptors, expected.descriptors)


def test_beside_a_gpu_the_next_batch_is_opened_while_one_is_in_use(
    patterns: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = sorted((patterns / "images").rglob("*.jpg"))[:5]
    recipe = override(PRESETS["toy"], ["batch_size=2"])
    expected = torch.cat([batch.pixels for batch in photograph_batches(paths, [View(16)] * 5, recipe, "testing")])
    open_any, third, count = Image.open, threading.Event(), itertools.count(1)

    def opening(*some: Any, **named: Any) -> Image.Image:
        if next(count) >= 3:
            third.set()
        return open_any(*some, **named)

    monkeypatch.setattr(Image, "open", opening)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(Tensor, "pin_memory", lambda pixels: pixels)  # there is no GPU to pin it for
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    told: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", told.append)
    batches = photograph_batches(paths, [View(16)] * 5, recipe, "testing")
    first = next(batches)
    assert third.wait(60)
    assert told == [1]  # of several threads of torch, each would wait for a core
    assert torch.equal(torch.cat([first.pixels, *(batch.pixels for batch in batches)]), expected)
    assert told == [1, 3]


def test_without_a_gpu_no_batch_is_opened_before_it_is_asked_for(
    patterns: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a processor's cores it would only be in the network's way."""
    paths = sorted((patterns / "images").rglob("*.jpg"))[:5]
    open_any, opened = Image.open, itertools.count()
    monkeypatch.setattr(Image, "open", lambda *some, **named: (next(opened), open_any(*some, **named))[1])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    recipe = override(PRESETS["toy"], ["batch_size=2"])
    for count, batch in enumerate(photograph_batches(paths, [View(16)] * 5, recipe, "testing"), start=1):
        assert len(batch.problems) == min(2, 5 - 2 * (count - 1))
        assert next(opened) == min(2 * count, 5) + count - 1  # itself counts too


def test_without_a_network_no_pixels_are_made(tmp_path: Path) -> None:
    scene(90, 60).save(tmp_path / "x.png")
    assert open_photograph(tmp_path / "x.png", View(0, detail=50)).shape == (0, 0, 3)


def test_decoding_leaves_what_the_keypoints_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scene(1600, 1200).save(tmp_path / "x.jpg", quality=95)
    resize, decoded = Image.Image.resize, []

    def watched(image: Image.Image, *some: Any, **named: Any) -> Image.Image:
        decoded.append(image.size)
        return resize(image, *some, **named)

    monkeypatch.setattr(Image.Image, "resize", watched)
    for view in (View(100), View(100, detail=500), View(100, detail=700)):
        open_photograph(tmp_path / "x.jpg", view)
    assert decoded == [(400, 300), (800, 600), (1600, 1200)]


def test_thumbnails_tell_copies_from_others(tmp_path: Path) -> None:
    picture = scene(90, 60)
    picture.save(tmp_path / "a.png")
    picture.resize((45, 30)).save(tmp_path / "b.jpg", quality=80)
    picture.rotate(180).save(tmp_path / "c.png")
    Image.new("RGB", (20, 20), (90, 90, 90)).save(tmp_path / "flat.png")
    small = thumbnails([tmp_path / name for name in ("a.png", "b.jpg", "c.png", "flat.png", "none.png")])
    alike = small @ small.T
    assert alike[0, 1] > 0.95 > 0.9 > alike[0, 2]
    assert np.allclose(np.diag(alike)[:3], 1, atol=1e-5)
    assert not small[3:].any()


# a view: fit and turn


def test_padding_keeps_the_shape_and_fills_up_with_grey(tmp_path: Path) -> None:
    scene(90, 60).save(tmp_path / "x.png")
    padded = open_photograph(tmp_path / "x.png", View(48, fit="pad"))
    expected = np.asarray(scene(90, 60).resize((48, 32), Image.Resampling.BICUBIC))
    assert (padded[8:40] == expected).all()
    assert (padded[:8] == 128).all()
    assert (padded[40:] == 128).all()


@pytest.mark.parametrize(
    ("degrees", "stored"),
    [(90, Image.Transpose.ROTATE_270), (-90, Image.Transpose.ROTATE_90), (180, Image.Transpose.ROTATE_180)],
)
@pytest.mark.parametrize("fit", ["squash", "pad"])
def test_a_turn_brings_a_photograph_upright(tmp_path: Path, degrees: int, stored: Image.Transpose, fit: str) -> None:
    scene(90, 60).save(tmp_path / "upright.png")
    scene(90, 60).transpose(stored).save(tmp_path / "lying.png")
    lying = open_photograph(tmp_path / "lying.png", View(48, fit, degrees)).astype(int)
    apart = lying - open_photograph(tmp_path / "upright.png", View(48, fit))
    assert np.abs(apart).max() <= 1  # it is resized as it lies, and Pillow rounds between columns and rows


def test_only_the_datasets_that_are_named_are_turned_and_only_by_known_orientations(toy_world: Path) -> None:
    catalogue = read_rows(toy_world)
    recipe = override(PRESETS["toy"], ["data.upright=SalamanderID2025", "prediction.scales=1,1.5"])
    views = views_of(catalogue, recipe)
    assert {view.size for view in views} == {96}
    for view, dataset, orientation in zip(
        views, catalogue.table["dataset"], catalogue.table["orientation"], strict=True
    ):
        turned = {"right": -90, "left": 90}.get(orientation, 0) if dataset == "SalamanderID2025" else 0
        assert view.turn == turned
    assert {view.turn for view in views} == {0, 90, -90}


def test_the_toy_worlds_lying_salamanders_are_turned_upright(toy_world: Path) -> None:
    """A back lies across the photograph: upright, the body's pixels spread more sideways than up and down."""
    catalogue = read_rows(toy_world)
    lying = catalogue.table["orientation"].isin(["left", "right"]) & (catalogue.table["dataset"] == "SalamanderID2025")
    upright_views = views_of(catalogue, override(PRESETS["toy"], ["data.upright=SalamanderID2025"]))
    shapes = []
    for place in np.flatnonzero(lying):
        path = catalogue.paths[place]
        with Image.open(path) as image:
            width, height = ImageOps.exif_transpose(image).size
        shapes.append(height > width)
        padded = open_photograph(path, View(64, "pad", upright_views[place].turn))
        rows_filled = (padded != 128).any((1, 2)).sum()
        assert rows_filled < 64  # wider than high again
    assert all(shapes)
    assert len(shapes) > 3


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "lanczos", "nearest"])
def test_photographs_are_resized_as_the_backbone_wants(tmp_path: Path, interpolation: str) -> None:
    scene(90, 60).save(tmp_path / "x.png")
    found = open_photograph(tmp_path / "x.png", View(24, interpolation=interpolation))
    wanted = scene(90, 60).resize((24, 24), getattr(Image.Resampling, interpolation.upper()))
    assert (found == np.asarray(wanted)).all()


def test_erasing_paints_one_grey_rectangle_over_some_photographs() -> None:
    recipe = override(PRESETS["paper"], ["augmentation.kinds=", "augmentation.erasing=0.5"])
    white = torch.full((400, 3, 32, 32), 255, dtype=torch.uint8)
    erased = augment(white, recipe, np.random.default_rng(0))
    assert set(erased.unique().tolist()) == {128, 255}
    painted = (erased == 128).all(1)  # (B, H, W)
    share = painted.float().mean((1, 2))
    assert 0.4 < (share > 0).float().mean() < 0.6
    assert share.max() < 0.45
    for rectangle in painted[share > 0]:
        height, width = rectangle.any(1).sum(), rectangle.any(0).sum()
        assert rectangle.sum() == height * width  # filled, in one piece
    assert torch.equal(augment(white, recipe, np.random.default_rng(0)), erased)


def test_columns_of_ones_own_are_left_alone_whatever_their_names(patterns: Path) -> None:
    table = pd.read_csv(patterns / "metadata.csv", dtype=str, keep_default_na=False)
    files = scan_files(read_rows(patterns))
    plain = describe(read_rows(patterns), files)
    table.assign(problem="lame", sha256="x", width="1", answered="no").to_csv(patterns / "metadata.csv", index=False)
    assert describe(read_rows(patterns), files).equals(plain)


def test_survey_and_describe_count_what_is_there(patterns: Path) -> None:
    catalogue = read_rows(patterns)
    database, query = catalogue.database.paths, catalogue.query.paths
    query[0].write_bytes(database[0].read_bytes())
    database[1].unlink()
    table = describe(catalogue, scan_files(catalogue)).set_index("dataset")
    assert table.loc["Checks"].to_dict() == {
        "images": 24, "individuals": 6, "singletons": 0, "largest": 4, "query": 14, "unreadable": 1, "duplicates": 1,
    }  # fmt: skip
    assert table.loc["Dots"].to_dict() | {"unreadable": 0, "duplicates": 0} == table.loc["Dots"].to_dict()


def photographs(count: int = 64) -> torch.Tensor:
    pixels = np.asarray(scene().resize((32, 32))).transpose(2, 0, 1)
    return torch.from_numpy(pixels.copy()).expand(count, -1, -1, -1)


def augmented(recipe: Recipe, seed: int = 0, count: int = 64) -> torch.Tensor:
    return augment(photographs(count), recipe, np.random.default_rng(seed))


def only(name: str, how: str = "one") -> Recipe:
    return override(PRESETS["paper"], [f"augmentation.kinds={name}", f"augmentation.choose={how}"])


def test_the_same_seed_gives_the_same_pixels_and_each_photograph_its_own() -> None:
    recipe = PRESETS["paper"]
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


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_sixteen_bits_of_grey_look_like_eight(tmp_path: Path, ending: str) -> None:
    ramp = np.linspace(0, 65535, 60 * 90).reshape(60, 90)
    Image.fromarray(ramp.astype(np.uint16)).save(tmp_path / f"16.{ending}")
    Image.fromarray((ramp // 256).astype(np.uint8)).save(tmp_path / "8.png")
    assert (open_photograph(tmp_path / f"16.{ending}", 32) == open_photograph(tmp_path / "8.png", 32)).all()


def test_a_palette_with_transparency_is_opened_without_a_warning(tmp_path: Path) -> None:
    flat = scene().quantize(16)
    flat.save(tmp_path / "opaque.png")
    flat.save(tmp_path / "x.png", transparency=bytes([0, 128] + [255] * 14))
    assert (open_photograph(tmp_path / "x.png", 32) == open_photograph(tmp_path / "opaque.png", 32)).all()


def test_cmyk_is_the_same_picture(tmp_path: Path) -> None:
    scene(300, 200).convert("CMYK").save(tmp_path / "cmyk.jpg", quality=95)
    scene(300, 200).save(tmp_path / "rgb.jpg", quality=95)
    off = open_photograph(tmp_path / "cmyk.jpg", 64).astype(int) - open_photograph(tmp_path / "rgb.jpg", 64)
    assert np.abs(off).mean() < 3  # measured 0.6 of 255; inverted inks would be off by 120


def test_a_name_that_is_too_long_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError):
        open_photograph(tmp_path / ("x" * 300), 32)


def write_rows(folder: Path, count: int) -> None:
    """A metadata.csv of the photographs 0.jpg, 1.jpg and so on."""
    rows = [f"{number},leo,{number}.jpg,,,,database,Lions" for number in range(count)]
    header = "image_id,identity,path,date,orientation,species,split,dataset"
    (folder / "metadata.csv").write_text("\n".join([header, *rows]) + "\n")


@pytest.mark.filterwarnings("ignore")  # what Pillow says of each damage
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP"])
def test_random_damage_never_raises_anything_else_and_the_survey_agrees(tmp_path: Path, kind: str) -> None:
    if kind.lower() in ("webp", "avif") and not features.check(kind.lower()):
        pytest.skip(f"this Pillow was built without {kind}")
    exif = Image.Exif()
    exif[274] = 6
    scene(40, 30).save(tmp_path / "whole", kind, **({"exif": exif} if kind not in ("GIF", "BMP") else {}))
    whole = (tmp_path / "whole").read_bytes()
    rng = np.random.default_rng(0)
    for number in range(60):
        damaged = np.frombuffer(whole, np.uint8).copy()
        damaged[rng.integers(len(damaged), size=3)] = rng.integers(256, size=3)
        damaged[rng.integers(min(200, len(damaged)), size=2)] = rng.integers(256, size=2)
        cut = damaged[: rng.integers(1, len(damaged))] if rng.random() < 0.2 else damaged
        (tmp_path / f"{number}.jpg").write_bytes(cut.tobytes())
    write_rows(tmp_path, 60)
    catalogue, refused = read_rows(tmp_path), 0
    row: Any
    for path, row in zip(catalogue.paths, scan_files(catalogue).itertuples(), strict=True):
        try:
            pixels = open_photograph(path, 16)
            assert pixels.shape == (16, 16, 3)
            assert pixels.dtype == np.uint8
            assert row.problem == ""
        except UnreadableError:
            refused += 1
            assert row.problem
        assert bool(row.sha256) == (not row.problem)
    assert refused > 5  # the damage was not harmless


def test_a_crop_is_a_stretch_of_at_most_three_tenths_of_the_area_and_invents_nothing() -> None:
    ramp = torch.arange(0, 256, 4).expand(200, 3, 64, 64).byte()
    cropped = augment(ramp, only("crop"), np.random.default_rng(0)).float()
    slope = (cropped[:, 0, 0, 60] - cropped[:, 0, 0, 3]) / 57 / 4
    assert slope.min() > 0.7**0.5 - 0.01
    assert slope.max() < 1.01
    assert slope.min() < 0.86  # the whole range is drawn from
    assert slope.max() > 0.98
    assert (cropped.diff(dim=3) >= 0).all()  # a reflected edge would turn round


def test_rotation_turns_by_at_most_twenty_degrees_about_the_centre() -> None:
    ray = torch.zeros(200, 3, 65, 65, dtype=torch.uint8)
    ray[:, :, 32, 32:] = 255  # from the centre to the right
    turned = augment(ray, only("rotation"), np.random.default_rng(0)).float()[:, 0]
    y, x = torch.meshgrid(torch.arange(65) - 32, torch.arange(65) - 32, indexing="ij")
    far = (x**2 + y**2 > 15**2) & (x**2 + y**2 < 30**2)
    weight = turned * far
    degrees = torch.rad2deg(torch.atan2((weight * y).sum((1, 2)), (weight * x).sum((1, 2))))
    assert degrees.abs().max() < 20.5
    assert degrees.min() < -17
    assert degrees.max() > 17
    assert (turned[:, 32, 32] > 100).all()


@pytest.mark.parametrize("missing", [None, "posix_fallocate"])  # neither macOS nor Windows has it
def test_decoded_photographs_are_kept_as_they_were_opened_and_broken_ones_are_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str | None
) -> None:
    if missing:
        monkeypatch.delattr(os, missing, raising=False)
    for number in range(5):
        scene(50 + number, 40).save(tmp_path / f"{number}.jpg")
    (tmp_path / "3.jpg").write_bytes(b"")
    write_rows(tmp_path, 5)
    recipe = override(PRESETS["toy"], ["batch_size=2", "backbone.image_size=16"])
    catalogue = read_rows(tmp_path)
    with temporary_folder() as folder:
        store = decode_photographs(catalogue, recipe, Path(folder))
        assert [bool(problem) for problem in store.problems] == [False, False, False, True, False]
        (batch, rest) = store.batches(np.array([4, 0, 2]), batch_size=2)
        for pixels, place in zip([*batch, *rest], [4, 0, 2], strict=True):
            assert (pixels.numpy().transpose(1, 2, 0) == open_photograph(catalogue.paths[place], 16)).all()
    assert not Path(folder).exists()


@pytest.mark.parametrize("missing", [None, "posix_fallocate"])
def test_the_store_takes_its_place_on_the_disk_before_it_is_filled(
    patterns: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str | None
) -> None:
    if missing:
        monkeypatch.delattr(os, missing, raising=False)
    open_any, folder, taken = Image.open, tmp_path / "store", []

    def watched(*some: Any, **named: Any) -> Image.Image:
        (file,) = folder.iterdir()
        taken.append((file.stat().st_blocks * 512, file.stat().st_size))
        return open_any(*some, **named)

    folder.mkdir()
    monkeypatch.setattr(Image, "open", watched)
    catalogue = read_rows(patterns)
    decode_photographs(catalogue, override(PRESETS["toy"], ["backbone.image_size=128"]), folder)
    assert len(taken) == len(catalogue)
    assert taken[0][1] > len(catalogue) * 3 * 128**2
    assert taken[0][0] >= taken[0][1]


@pytest.mark.parametrize("missing", [None, "posix_fallocate"])
def test_decoding_onto_a_disk_that_is_really_full_is_told(
    patterns: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str | None
) -> None:
    if missing:
        monkeypatch.delattr(os, missing, raising=False)
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0 or os.system(f"mount -t tmpfs -o size=64k tmpfs {disk} 2>/dev/null") != 0:
        pytest.skip("only root can mount a disk of 64 kB, and not on every machine")
    recipe = override(PRESETS["toy"], ["backbone.image_size=32"])
    try:
        with pytest.raises(InputError, match=r"don't fit there \(No space left on device\); name a larger disk"):
            decode_photographs(read_rows(patterns), recipe, disk)
    finally:
        os.system(f"umount {disk}")


def test_photographs_are_opened_on_systems_that_do_not_tell_which_cores_are_free(
    patterns: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)  # neither macOS nor Windows has it
    catalogue = read_rows(patterns)
    assert (scan_files(catalogue)["problem"] == "").all()
    assert thumbnails(catalogue.paths).shape == (len(catalogue), 256)
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert core_count() == 5
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")  # torchrun's, for two ranks on the machine
    assert core_count() == 2
    with all_cores():
        assert core_count() == 5
    assert core_count() == 2


def test_the_batch_says_how_it_is_augmented(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", photographs(6).numpy())
    store = PhotographStore(tmp_path / "x.npy", ("",) * 6)
    draws = [Batch(np.array([0, 3]), seed=1), Batch(np.array([0, 3]), seed=1), Batch(np.array([0, 3]), seed=2)]
    batches = training_batches(store, PRESETS["paper"], draws, torch.device("cpu"))
    (first, places), (again, _), (other, _) = batches
    assert places.tolist() == [0, 3]
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert (first.shape, first.dtype) == ((2, 3, 32, 32), torch.uint8)


def test_batches_are_read_one_ahead_in_order_and_a_failure_is_told(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", photographs(4).numpy())
    store, drawn = PhotographStore(tmp_path / "x.npy", ("",) * 4), []

    def draws() -> Iterator[Batch]:
        for number in range(4):
            drawn.append(number)
            yield Batch(np.array([number]), seed=number)
        raise UnreadableError("the disk is gone")

    seen: list[int] = []
    with pytest.raises(UnreadableError, match="the disk is gone"):
        for _, places in training_batches(store, only(""), draws(), torch.device("cpu")):
            seen += places.tolist()
            assert len(drawn) <= seen[-1] + 2  # at most the next one is in memory beside it
    assert seen == drawn == [0, 1, 2, 3]
