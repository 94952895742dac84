"""What is no photograph is told as what it is, with what to do, whatever its name."""

import struct
from pathlib import Path

import pytest
from PIL.PngImagePlugin import PngInfo
from scene import scene

from reid.data.file_kinds import read_tiff_pages
from reid.data.photographs import UnreadableError, inspect_photograph, open_photograph


def boxed(major: bytes, *brands: bytes) -> bytes:
    """The beginning of an ISO media file."""
    return struct.pack(">I", 16 + 4 * len(brands)) + b"ftyp" + major + bytes(4) + b"".join(brands) + bytes(200)


def told(folder: Path, content: bytes) -> str:
    (folder / "x.jpg").write_bytes(content)
    with pytest.raises(UnreadableError) as caught:
        open_photograph(folder / "x.jpg", 16)
    assert inspect_photograph(folder / "x.jpg").problem == str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (boxed(b"heic", b"mif1", b"heic"), "a HEIC, as phones make them: export it as JPEG"),
        (boxed(b"heix"), "a HEIC"),
        (boxed(b"mif1", b"mif1", b"heic"), "a HEIC"),
        (boxed(b"msf1", b"hevc"), "a HEIC"),
        (boxed(b"abcd", b"heis"), "a HEIC"),
        (boxed(b"isom", b"mp42"), "a video: save single pictures"),
        (boxed(b"qt  "), "a video"),
        (b"RIFF\x00\x01\x00\x00AVI LIST" + bytes(99), "a video"),
        (b"\x1aE\xdf\xa3" + bytes(99), "a video"),
        (boxed(b"crx ", b"isom"), "a raw photograph"),
        (b"II*\0\x10\0\0\0CR\x02\0" + bytes(99), "a raw photograph"),
        (b"FUJIFILMCCD-RAW 0201" + bytes(99), "a raw photograph"),
        (b"IIRO\x08\0\0\0" + bytes(99), "a raw photograph"),
        (b"MMOR" + bytes(99), "a raw photograph"),
        (b"IIU\0\x18\0\0\0" + bytes(99), "a raw photograph"),
        (b"FOVb" + bytes(99), "a raw photograph"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "run `git lfs pull`"),
        (b"<!DOCTYPE html><html>sign in</html>", "a page of the web"),
        (b"\xef\xbb\xbf\n <HTML lang=de>", "a page of the web"),
        (b"\0\x05\x16\x07\0\x02\0\0Mac OS X        " + bytes(99), "(AppleDouble), no photograph: remove it"),
        (b"\xff\x0a" + bytes(99), "a JPEG XL: export it as JPEG"),
        (b"\0\0\0\x0cJXL \x0d\x0a\x87\x0a" + bytes(99), "a JPEG XL"),
    ],
)
def test_other_files_are_told_as_what_they_are(tmp_path: Path, content: bytes, words: str) -> None:
    assert words in told(tmp_path, content)


def test_a_video_of_any_length_is_not_read(tmp_path: Path) -> None:
    with open(tmp_path / "x.jpg", "wb") as file:
        file.write(boxed(b"isom"))
        file.truncate(2**40)  # a hole of a terabyte
    with pytest.raises(UnreadableError, match="it is a video"):
        open_photograph(tmp_path / "x.jpg", 16)


def test_a_file_longer_than_any_photograph_is_not_read(tmp_path: Path) -> None:
    scene().save(tmp_path / "x.png")
    with open(tmp_path / "x.png", "r+b") as file:
        file.truncate(2**40)
    with pytest.raises(UnreadableError, match=r"more than 2\.1 GB"):
        open_photograph(tmp_path / "x.png", 16)


def test_twelve_bits_of_a_jpeg_are_told(tmp_path: Path) -> None:
    scene().save(tmp_path / "x.jpg")
    content = bytearray((tmp_path / "x.jpg").read_bytes())
    content[content.find(b"\xff\xc0") + 4] = 12
    assert told(tmp_path, bytes(content)) == "it is a JPEG of 12 bits a colour: save it as a JPEG of 8 bits"


def test_a_program_s_history_in_a_png_is_told(tmp_path: Path) -> None:
    text = PngInfo()
    text.add_itxt("history", "brush " * 300_000, zip=True)
    scene().save(tmp_path / "x.png", pnginfo=text)
    words = "it holds more text than is read, such as a program's history: save it again without metadata"
    assert told(tmp_path, (tmp_path / "x.png").read_bytes()) == words


def directory(order: str, big: bool, tags: dict[int, int]) -> bytes:
    """A directory of a TIFF whose tags have one integer each."""
    layout = order + ("HHQQ" if big else "HHII")
    entries = b"".join(struct.pack(layout, tag, 16 if big else 4, 1, number) for tag, number in sorted(tags.items()))
    return struct.pack(order + ("Q" if big else "H"), len(tags)) + entries + bytes(8 if big else 4)


def tiff(order: str, big: bool, first: dict[int, int], below: dict[int, int] | None) -> bytes:
    """A TIFF whose first picture has another one below it."""
    mark = b"II" if order == "<" else b"MM"
    head = mark + (struct.pack(order + "HHHQ", 43, 8, 0, 16) if big else struct.pack(order + "HI", 42, 8))
    place = len(head) + len(directory(order, big, first | {330: 0}))
    link = {330: place} if below else {330: 0}
    content = head + directory(order, big, first | link)
    return content + (directory(order, big, below) if below else b"") + bytes(500)


PREVIEW = {254: 1, 256: 16, 257: 12, 258: 8, 259: 1, 262: 1, 273: 300, 277: 1, 278: 12, 279: 192}
PLAIN = PREVIEW | {254: 0}


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize(
    ("first", "below"),
    [
        (PREVIEW, {254: 0, 256: 1600, 257: 1200, 262: 32803}),
        (PREVIEW, {254: 0, 256: 1600, 257: 1200, 262: 2}),
        (PLAIN | {50706: 4}, None),
        (PLAIN | {262: 32803}, None),
        (PLAIN, {256: 8, 257: 6, 262: 34892}),
    ],
)
def test_a_raw_photograph_is_told_with_the_size_of_its_preview(
    tmp_path: Path, order: str, big: bool, first: dict[int, int], below: dict[int, int] | None
) -> None:
    words = told(tmp_path, tiff(order, big, first, below))
    assert words.startswith(
        "it is a raw photograph, as the camera's sensor took it (its first picture has 16 x 12 pixels"
    )
    assert "export it as JPEG" in words


@pytest.mark.parametrize("big", [False, True])
def test_smaller_pictures_below_a_tiff_are_no_raw_photograph(tmp_path: Path, big: bool) -> None:
    (tmp_path / "x.tif").write_bytes(tiff("<", big, PLAIN, {254: 1, 256: 8, 257: 6, 262: 1}))
    assert open_photograph(tmp_path / "x.tif", 8).shape == (8, 8, 3)


def test_a_tiff_that_leads_in_circles_or_nowhere_ends() -> None:
    content = bytearray(tiff("<", False, PLAIN, PLAIN))
    place = 8 + len(directory("<", False, PLAIN | {330: 0})) - 4
    content[place : place + 4] = struct.pack("<I", 8)
    assert len(read_tiff_pages(bytes(content))[0]) == 1
    for length in range(len(content) - 500):
        read_tiff_pages(bytes(content[:length]))
    assert read_tiff_pages(b"II*\0\xff\xff\xff\xff") == ([], [])
