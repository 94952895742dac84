"""Every kind of file gives the same upright RGB pixels everywhere, or a reason why not."""

import builtins
import hashlib
import io
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image, TiffImagePlugin, features
from scene import scene

from reid.config.presets import PRESETS
from reid.config.settings import with_settings
from reid.data.catalogue import Catalogue
from reid.data.library_warnings import library_warnings_logged
from reid.data.photographs import (
    UnreadableError,
    View,
    inspect_photograph,
    open_photograph,
    thumbnails,
    views_of,
)


@pytest.mark.parametrize("turned", [None, *Image.Transpose])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("JPEG", {"quality": 100, "subsampling": 0}),
        ("MPO", {"quality": 100, "subsampling": 0, "save_all": True, "append_images": [Image.new("RGB", (9, 9))]}),
        ("WEBP", {"lossless": True}),
        ("AVIF", {"quality": 100, "subsampling": "4:4:4"}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "jpeg", "quality": 100}),
    ],
)
def test_a_photograph_is_upright_however_the_camera_was_held(
    tmp_path: Path, turned: Image.Transpose | None, kind: str, options: dict[str, Any]
) -> None:
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow was built without AVIF")
    exif_of = {
        None: 1, Image.Transpose.FLIP_LEFT_RIGHT: 2, Image.Transpose.ROTATE_180: 3, Image.Transpose.FLIP_TOP_BOTTOM: 4,
        Image.Transpose.TRANSPOSE: 5, Image.Transpose.ROTATE_90: 6, Image.Transpose.TRANSVERSE: 7,
        Image.Transpose.ROTATE_270: 8,
    }  # fmt: skip
    exif = Image.Exif()
    exif[274] = exif_of[turned]
    stored = scene() if turned is None else scene().transpose(turned)
    stored.save(tmp_path / "x", kind, exif=exif, **options)
    scene().save(tmp_path / "upright.png")
    found = open_photograph(tmp_path / "x", 32).astype(int)
    upright = open_photograph(tmp_path / "upright.png", 32)
    assert np.abs(found - upright).max() <= (1 if kind in ("PNG", "WEBP") or not options else 8)
    assert inspect_photograph(tmp_path / "x")[1:3] == (90, 60)
    shown = inspect_photograph(tmp_path / "x").thumbnail.astype(int)
    assert np.abs(shown - inspect_photograph(tmp_path / "upright.png").thumbnail).max() <= 8


def tiff_of(*pages: tuple[Image.Image, dict[int, int]]) -> bytes:
    """A TIFF of several pages with these tags."""
    written = io.BytesIO()
    with TiffImagePlugin.AppendingTiffWriter(written, new=True) as writer:
        for image, tags in pages:
            image.save(writer, "TIFF", tiffinfo=dict(tags))
            writer.newFrame()
    return written.getvalue()


def test_a_smaller_copy_in_a_tiff_is_no_photograph(tmp_path: Path) -> None:
    scene(120, 80).save(tmp_path / "plain.png")
    small, mask = scene(30, 20).rotate(180), Image.new("1", (120, 80))
    for pages in (
        [(small, {254: 1}), (scene(120, 80), {254: 0})],
        [(small, {255: 2}), (mask, {254: 4}), (scene(120, 80), {})],
        [(scene(120, 80), {}), (small, {254: 1})],
    ):
        (tmp_path / "x.tif").write_bytes(tiff_of(*pages))
        assert (open_photograph(tmp_path / "x.tif", 32) == open_photograph(tmp_path / "plain.png", 32)).all()
        assert inspect_photograph(tmp_path / "x.tif")[1:3] == (120, 80)
        assert inspect_photograph(tmp_path / "x.tif").notes == ()


@pytest.mark.parametrize("kind", ["TIFF", "GIF", "PNG", "WEBP", "AVIF"])
def test_of_several_pictures_the_first_is_opened_and_they_are_told(tmp_path: Path, kind: str) -> None:
    if not features.check("avif") and kind == "AVIF":
        pytest.skip("this Pillow was built without AVIF")
    others = [scene().rotate(180), scene().rotate(90)]
    scene().save(tmp_path / "x", kind, save_all=True, append_images=others)
    scene().save(tmp_path / "one.png")
    apart = open_photograph(tmp_path / "x", 16).astype(int) - open_photograph(tmp_path / "one.png", 16)
    assert np.abs(apart).mean() < 10
    assert inspect_photograph(tmp_path / "x").notes == ("it holds 3 pictures; the first one is used",)


def test_what_is_inspected_is_what_is_opened(tmp_path: Path) -> None:
    scene(300, 200).save(tmp_path / "x.jpg", quality=95)
    found = inspect_photograph(tmp_path / "x.jpg")
    grey = np.asarray(Image.fromarray(open_photograph(tmp_path / "x.jpg", 64)).convert("L"))
    assert found[:3] == (hashlib.sha256((tmp_path / "x.jpg").read_bytes()).hexdigest(), 300, 200)
    assert (found.thumbnail == grey).all()
    assert found.thumbnail.dtype == np.uint8
    assert found[4:] == ("", ())
    (tmp_path / "x.jpg").write_bytes(b"no photograph")
    broken = inspect_photograph(tmp_path / "x.jpg")
    assert broken[:3] == ("", 0, 0)
    assert not broken.thumbnail.any()
    assert "it is no image" in broken.problem


def test_a_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scene().save(tmp_path / "x.jpg")
    opened, real = [], builtins.open

    def watched(*some: Any, **named: Any) -> Any:
        opened.append(some[0])
        return real(*some, **named)

    monkeypatch.setattr(builtins, "open", watched)
    inspect_photograph(tmp_path / "x.jpg")
    assert opened.count(tmp_path / "x.jpg") == 1


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
        ("cut", "about the lower 55 % of the picture are missing; copy the file again"),
    ],
)
def test_a_broken_file_is_unreadable_with_its_reason(tmp_path: Path, kind: str, words: str) -> None:
    with pytest.raises(UnreadableError, match=words):
        open_photograph(broken_file(tmp_path, kind), 32)


def test_a_name_that_is_too_long_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError):
        open_photograph(tmp_path / ("x" * 300), 32)


def test_a_decompression_bomb_is_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    scene(90, 60).save(tmp_path / "x.png")
    with pytest.raises(UnreadableError, match=r"it has 0\.0054 megapixels, of which at most 0\.002 are opened"):
        open_photograph(tmp_path / "x.png", 32)


def test_a_photograph_that_takes_much_memory_is_noted_in_no_words_of_pillow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5000)
    scene(90, 60).save(tmp_path / "x.png")
    with library_warnings_logged():
        notes = inspect_photograph(tmp_path / "x.png").notes
    assert notes == ("it has 0.0054 megapixels; a smaller copy takes less memory",)
    assert not caplog.records


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


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "lanczos", "nearest"])
def test_photographs_are_resized_as_the_backbone_wants(tmp_path: Path, interpolation: str) -> None:
    scene(90, 60).save(tmp_path / "x.png")
    found = open_photograph(tmp_path / "x.png", View(24, interpolation=interpolation))
    wanted = scene(90, 60).resize((24, 24), getattr(Image.Resampling, interpolation.upper()))
    assert (found == np.asarray(wanted)).all()


def test_only_the_datasets_that_are_named_are_turned_and_only_by_known_orientations() -> None:
    rows = [("Newts", word) for word in ("left", "right", "bottom", "top", "", "up")] + [("Lynxes", "left")]
    catalogue = Catalogue(Path(), pd.DataFrame(rows, columns=["dataset", "orientation"]))
    recipe = with_settings(PRESETS["toy"], {"data.upright": ("Newts",), "prediction.scales": (1.0, 1.5)})
    views = views_of(catalogue, recipe)
    assert [view.turn for view in views] == [90, -90, 180, 0, 0, 0, 0]
    assert {view.size for view in views} == {96}  # of the largest scale


def test_thumbnails_tell_copies_from_others(tmp_path: Path) -> None:
    picture = scene(90, 60)
    picture.save(tmp_path / "a.png")
    picture.resize((45, 30)).save(tmp_path / "b.jpg", quality=80)
    picture.rotate(180).save(tmp_path / "c.png")
    Image.new("RGB", (20, 20), (90, 90, 90)).save(tmp_path / "flat.png")
    table = pd.DataFrame({"path": ["a.png", "b.jpg", "c.png", "flat.png", "none.png"]})
    small = thumbnails(Catalogue(tmp_path, table))
    alike = small @ small.T
    assert alike[0, 1] > 0.95 > 0.9 > alike[0, 2]
    assert np.allclose(np.diag(alike)[:3], 1, atol=1e-5)
    assert not small[3:].any()
