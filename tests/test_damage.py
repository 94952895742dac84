"""Damaged photographs that decode all the same are told; sound ones stay silent, however flat or odd they are."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, features
from scene import scene

from reid.data.jpeg import find_run
from reid.data.photographs import UnreadableError, View, decode, inspect_photograph

RNG = np.random.default_rng(0)
TEXTURE = (np.asarray(scene(320, 240)).astype(int) + RNG.integers(-30, 30, (240, 320, 3))).clip(0, 255).astype(np.uint8)
WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "optimised": {"optimize": True},
    "progressive": {"progressive": True},
    "restarts by rows": {"restart_marker_rows": 1},
    "restarts by blocks": {"restart_marker_blocks": 7},
    "progressive with restarts": {"progressive": True, "restart_marker_rows": 1},
}
END = b"\xff\xd9"


def saved(pixels: np.ndarray, kind: str = "JPEG", **options: Any) -> bytes:
    written = io.BytesIO()
    Image.fromarray(pixels).save(written, kind, **options)
    return written.getvalue()


def problem(folder: Path, content: bytes) -> str:
    """What every way to open a photograph says of it."""
    (folder / "x").write_bytes(content)
    found = inspect_photograph(folder / "x").problem
    try:
        decode(folder / "x", View(224))
    except UnreadableError as unreadable:
        assert str(unreadable) == found
    else:
        assert found == ""
    return found


def sound_pictures() -> Iterator[np.ndarray]:
    for width, height in ((1, 1), (90, 47)):
        picture = np.asarray(scene(width, height))
        yield picture
        yield np.zeros_like(picture)
        yield np.full_like(picture, 128)  # the grey that libjpeg puts where data are missing
        bars = picture.copy()
        bars[: height // 3] = bars[-height // 3 :] = 0
        yield bars
        animal = np.zeros_like(picture)
        animal[height // 3 : height // 2, width // 3 : width // 2] = 200
        yield animal
        yield (RNG.integers(0, 60, picture.shape) ** 2 // 600).astype(np.uint8)  # a night
        yield RNG.integers(0, 255, picture.shape, np.uint8)


@pytest.mark.parametrize("way", WAYS)
def test_sound_jpegs_are_silent(tmp_path: Path, way: str) -> None:
    exif = Image.Exif()
    exif[271] = "\xff\xd9\xff\xd8 maker"
    for picture in sound_pictures():
        for quality, subsampling, pixels in ((30, 2, picture), (95, 0, picture), (75, 0, picture[..., 0])):
            whole = saved(pixels, quality=quality, subsampling=subsampling, exif=exif, **WAYS[way])
            trailers = (b"", bytes(300), b"...ftypmp42" + bytes(99) + whole)
            for content in (*(whole + trailer for trailer in trailers), whole[:-2] + b"\xff" * 9 + END):
                assert problem(tmp_path, content) == ""


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("missing", [1, 2])
def test_a_jpeg_that_lacks_only_its_end_marker_is_read_as_viewers_read_it(
    tmp_path: Path, way: str, missing: int
) -> None:
    for pixels in (TEXTURE, TEXTURE[..., 0]):
        whole = saved(pixels, quality=90, **WAYS[way])
        assert problem(tmp_path, whole[:-missing]) == ""
        read = decode(tmp_path / "x", View(0, detail=240)).image
        (tmp_path / "whole").write_bytes(whole)
        assert read.tobytes() == decode(tmp_path / "whole", View(0, detail=240)).image.tobytes()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("value", [None, 0x00, 0xFF, 0xA5, 0xF6])
def test_a_jpeg_whose_end_is_missing_or_filled_up_is_told(tmp_path: Path, way: str, value: int | None) -> None:
    whole = saved(TEXTURE, quality=90, **WAYS[way])
    for kept in (len(whole) * 15 // 100, len(whole) // 2, len(whole) * 9 // 10):
        filling = b"" if value is None else bytes([value]) * (len(whole) - kept)
        assert problem(tmp_path, whole[:kept] + filling).startswith("it is damaged: ")


@pytest.mark.parametrize(("share", "words"), [(0.85, "85 %"), (0.5, "50 %"), (0.2, "20 %")])
def test_the_share_that_is_missing_is_told(tmp_path: Path, share: float, words: str) -> None:
    noise = RNG.integers(0, 255, (480, 160, 3), np.uint8)  # as many bytes in each row
    whole = saved(noise, quality=90, subsampling=0)
    kept = int(len(whole) * (1 - share))
    for content in (whole[:kept], whole[:kept] + bytes(len(whole) - kept), whole[:kept] + END):
        told = f"it is damaged: about the lower {words} of the picture are missing; copy the file again"
        assert problem(tmp_path, content) == told


@pytest.mark.parametrize(
    ("way", "damage"),
    [
        *((way, damage) for way in ("plain", "optimised", "restarts by rows") for damage in ("zeros", "0xff")),
        # where there are restart markers, these are found only if one is lost with them
        *((way, damage) for way in ("plain", "optimised") for damage in ("noise", "another photograph", "lost")),
    ],
)
def test_a_sector_that_was_lost_in_the_middle_is_told(tmp_path: Path, way: str, damage: str) -> None:
    whole = saved(TEXTURE, quality=90, **WAYS[way])
    other = saved(TEXTURE[::-1], quality=80)[2000:]
    for start in (len(whole) // 4, len(whole) // 2):
        sector = {
            "zeros": bytes(512),
            "0xff": b"\xff" * 512,
            "noise": RNG.integers(0, 256, 512, np.uint8).tobytes(),
            "another photograph": other[:512],
            "lost": b"",
        }[damage]
        assert problem(tmp_path, whole[:start] + sector + whole[start + 512 :]).startswith("it is damaged: ")


def test_restart_markers_that_are_out_of_order_or_too_few_are_told(tmp_path: Path) -> None:
    whole = saved(TEXTURE, quality=90, restart_marker_rows=1)
    first, second, third = (whole.find(bytes([0xFF, 0xD0 + number])) for number in range(3))
    for content in (
        whole[:first] + whole[second:third] + whole[first:second] + whole[third:],
        whole[:first] + whole[whole.find(b"\xff\xd0", first + 2) :],  # eight rows
        saved(TEXTURE, quality=90)[:-400] + b"\xff\xd0" + saved(TEXTURE, quality=90)[-400:],  # none are announced
    ):
        assert problem(tmp_path, content).startswith("it is damaged: ")


def test_a_restart_interval_that_does_not_end_with_its_blocks_is_told(tmp_path: Path) -> None:
    ways: list[dict[str, Any]] = [{"restart_marker_rows": 2}, {"restart_marker_blocks": 40, "optimize": True}]
    for options in ways:
        whole = saved(TEXTURE, quality=95, **options)
        middle = whole.find(b"\xff\xd2") + 100
        assert problem(tmp_path, whole[:middle] + b"\xa5" * 200 + whole[middle + 200 :]).startswith("it is damaged: ")


def test_a_progressive_jpeg_without_its_last_scan_is_told(tmp_path: Path) -> None:
    whole = saved(TEXTURE, quality=90, progressive=True)
    assert problem(tmp_path, whole[: whole.rfind(b"\xff\xda")]).startswith("it is damaged: ")


def test_zeros_that_an_optimised_table_reads_as_black_are_sound_and_others_are_not(tmp_path: Path) -> None:
    bar = TEXTURE.copy()
    bar[60:] = 0
    bar = np.tile(bar, (4, 4, 1))
    assert problem(tmp_path, saved(bar, quality=90, optimize=True)) == ""
    plain = saved(bar, quality=90)
    middle = len(plain) * 3 // 4
    assert problem(tmp_path, plain[:middle] + bytes(400) + plain[middle + 400 :]).startswith("it is damaged: ")


def test_a_progressive_jpeg_with_zeros_before_its_end_is_told(tmp_path: Path) -> None:
    whole = saved(TEXTURE, quality=90, progressive=True)
    for kept in (len(whole) // 4, len(whole) // 2, len(whole) * 3 // 4, len(whole) * 9 // 10):
        content = whole[:kept] + bytes(len(whole) - kept - 2) + END
        assert problem(tmp_path, content).startswith("it is damaged: ")


def test_a_progressive_jpeg_of_nothing_but_the_grey_of_missing_data_is_sound(tmp_path: Path) -> None:
    whole = saved(np.full((150, 200, 3), 128, np.uint8), quality=30, progressive=True)
    assert find_run(whole, 0, len(whole))
    assert problem(tmp_path, whole) == ""


@pytest.mark.parametrize("kind", ["WEBP", "AVIF"])
@pytest.mark.parametrize("share", [0.4, 0.85])
def test_other_kinds_that_decode_without_their_end_are_told(tmp_path: Path, kind: str, share: float) -> None:
    if not features.check(kind.lower()):
        pytest.skip(f"this Pillow was built without {kind}")
    whole = saved(TEXTURE, kind, quality=90)
    assert problem(tmp_path, whole) == ""
    kept = int(len(whole) * (1 - share))
    told = f"about the last {100 * share:.0f} % of its data are missing; copy the file again"
    assert told in problem(tmp_path, whole[:kept] + bytes(len(whole) - kept))


def test_a_webp_that_ends_in_thousands_of_zeros_for_a_flat_end_is_sound(tmp_path: Path) -> None:
    flat = np.asarray(Image.fromarray(TEXTURE).resize((2000, 1000))).copy()
    flat[500:] = 255
    whole = saved(flat, "WEBP", quality=30, method=0)
    assert find_run(whole, 0, len(whole), 256)  # as libwebp writes it
    assert problem(tmp_path, whole) == ""


@pytest.mark.parametrize("kind", ["PNG", "GIF", "TIFF", "JPEG2000"])
def test_kinds_that_check_themselves_are_told(tmp_path: Path, kind: str) -> None:
    whole = saved(TEXTURE, kind)
    for content in (whole[: len(whole) // 2], whole[: len(whole) // 2] + bytes(len(whole) // 2)):
        if kind != "TIFF" or len(content) < len(whole) - 1:  # without compression, zeros are black
            assert problem(tmp_path, content)


def test_runs_of_equal_bytes_are_found_wherever_they_begin() -> None:
    noise = RNG.integers(0, 256, 5000, np.uint8).tobytes()
    for start in (0, 1, 31, 32, 33, 1000, 4936):
        content = noise[:start] + bytes([7]) * 64 + noise[start + 64 :]
        run = find_run(content, 0, 5000)
        assert run
        assert content[run.start : run.end] == bytes([7]) * (run.end - run.start)
        assert (run.start <= start, run.end >= start + 64) == (True, True)
        assert find_run(noise[:start] + bytes([7]) * 30 + noise[start + 30 :], 0, 5000) is None
