"""Photographs of fewer bits than their files are as bright as their 8-bit twins; full 16 bits stay as they were."""

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scene import scene

from reid.data.photographs import inspect_photograph, open_photograph

COLOURS = np.asarray(scene(60, 40)).astype(np.uint32)
GREY = np.asarray(scene(60, 40).convert("L")).astype(np.uint32) * 255 // np.asarray(scene(60, 40).convert("L")).max()


def tiff(pixels: np.ndarray, order: str = "<", sign: int = 1) -> bytes:
    """An uncompressed TIFF of (H, W) or (H, W, 3) integers."""
    height, width, count = *pixels.shape[:2], pixels.size // pixels[..., 0].size if pixels.ndim == 3 else 1
    data = pixels.astype(f"{order}{pixels.dtype.kind}{pixels.itemsize}").tobytes()
    numbers = [(256, width), (257, height), (258, 8 * pixels.itemsize), (259, 1), (262, 2 if count == 3 else 1)]
    numbers += [(273, 200), (277, count), (278, height), (279, len(data)), (339, sign)]
    entries = b"".join(
        struct.pack(order + "HHI", tag, 4, 1) + struct.pack(order + "I", number)
        if tag in (273, 279)
        else struct.pack(order + "HHIHH", tag, 3, 1, number, 0)
        for tag, number in numbers
    )
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HIH", 42, 8, len(numbers)) + entries
    return head.ljust(200, b"\0") + data


def scaled(eight: np.ndarray, bits: int, noise: int = 1) -> np.ndarray:
    """The same picture in as many bits; the lowest ones differ, as those of a camera do."""
    rough = np.random.default_rng(0).integers(0, 2 ** (bits - 8), eight.shape) if bits > 8 and noise else 0
    return ((eight << (bits - 8)) + rough).astype(np.uint32)


def png_16(pixels: np.ndarray) -> bytes:
    """A PNG of 16 bits, 1 to 4 numbers a pixel."""
    import zlib

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    height, width, count = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[count], 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def opened(folder: Path, content: bytes) -> tuple[np.ndarray, tuple[str, ...]]:
    (folder / "x").write_bytes(content)
    return open_photograph(folder / "x", 32).astype(int), inspect_photograph(folder / "x").notes


def twin(folder: Path, eight: np.ndarray) -> np.ndarray:
    Image.fromarray(eight.astype(np.uint8)).save(folder / "twin.png")
    return open_photograph(folder / "twin.png", 32).astype(int)


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
@pytest.mark.parametrize("kind", ["PNG", "TIFF <", "TIFF >", "PGM"])
def test_grey_of_fewer_bits_than_its_file_is_as_bright_as_eight(tmp_path: Path, bits: int, kind: str) -> None:
    numbers = scaled(GREY, bits).astype(np.uint16)
    content = {
        "PNG": png_16(numbers),
        "TIFF <": tiff(numbers),
        "TIFF >": tiff(numbers, ">"),
        "PGM": b"P5 60 40 65535\n" + numbers.astype(">u2").tobytes(),
    }[kind]
    pixels, notes = opened(tmp_path, content)
    assert (pixels == twin(tmp_path, GREY)).all()
    assert notes == (f"only {bits} bits of its numbers are used; it is read as a photograph of {bits} bits",)


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
@pytest.mark.parametrize("kind", ["PNG", "PNG and transparency", "TIFF"])
def test_colours_of_fewer_bits_than_their_file_are_as_bright_as_eight(tmp_path: Path, bits: int, kind: str) -> None:
    numbers = scaled(COLOURS, bits).astype(np.uint16)
    opaque = np.full((*GREY.shape, 1), 65535, np.uint16)
    content = {"PNG": png_16(numbers), "TIFF": tiff(numbers)}.get(kind) or png_16(np.dstack([numbers, opaque]))
    pixels, notes = opened(tmp_path, content)
    assert (pixels == twin(tmp_path, COLOURS)).all()
    assert f"only {bits} bits of its numbers are used" in notes[0]


def test_grey_with_transparency_is_as_bright_as_eight(tmp_path: Path) -> None:
    opaque = np.full_like(GREY, 65535)
    pixels, notes = opened(tmp_path, png_16(np.dstack([scaled(GREY, 12), opaque])))
    assert (pixels == twin(tmp_path, GREY)).all()
    assert "only 12 bits" in notes[0]


@pytest.mark.parametrize("bits", [24, 32])
def test_integers_of_32_bits_are_read_by_their_largest(tmp_path: Path, bits: int) -> None:
    pixels, notes = opened(tmp_path, tiff(scaled(GREY, bits)))
    assert (pixels == twin(tmp_path, GREY)).all()
    assert f"only {bits} bits" in notes[0]


def test_integers_with_a_sign_are_read_from_zero_on(tmp_path: Path) -> None:
    numbers = scaled(GREY, 31).astype(np.int32)
    numbers[:5] = -7
    eight = GREY.copy()
    eight[:5] = 0
    assert (opened(tmp_path, tiff(numbers, sign=2))[0] == twin(tmp_path, eight)).all()


@pytest.mark.parametrize("eight", [GREY, COLOURS])
def test_all_sixteen_bits_are_read_as_before(tmp_path: Path, eight: np.ndarray) -> None:
    for content in (png_16(scaled(eight, 16)), tiff(scaled(eight, 16).astype(np.uint16))):
        pixels, notes = opened(tmp_path, content)
        assert (pixels == twin(tmp_path, eight)).all()
        assert notes == ()


@pytest.mark.parametrize("factor", [256, 257])
def test_a_dark_picture_that_was_scaled_up_from_eight_bits_stays_dark(tmp_path: Path, factor: int) -> None:
    dark = GREY // 8
    pixels, notes = opened(tmp_path, png_16(dark * factor))
    assert (pixels == twin(tmp_path, dark)).all()
    assert notes == ()
    assert (opened(tmp_path, png_16(COLOURS // 8 * factor))[0] == twin(tmp_path, COLOURS // 8)).all()
