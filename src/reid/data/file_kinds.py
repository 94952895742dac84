"""What a file is that is no photograph of a kind that is opened here, and what to do about it: by its first bytes."""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["HEAD", "TiffPage", "other_kind", "raw_kind", "read_tiff_pages"]

HEAD = 512
"""Bytes by which `other_kind` knows a file."""

EXPORT = "export it as JPEG, and name that file instead"
RAW = "it is a raw photograph, as the camera's sensor took it{}: develop it in a program, or " + EXPORT
VIDEO = "it is a video: save single pictures of it as JPEG"
OTHERS = {
    rb"version https://git-lfs": "it is a pointer of Git LFS, not the photograph itself: run `git lfs pull`",
    rb"(?i:\s*(<!doctype html|<html|<\?xml[^>]*>\s*<!doctype html))": "it is a page of the web, not the photograph on "
    "it: download the photograph itself; perhaps the site wants you to sign in first",
    rb"\x00\x05\x16[\x00\x07]": "it is what macOS keeps beside a file (AppleDouble), no photograph: remove it; the "
    "photograph has the same name without ._",
    rb"\xff\x0a|\x00\x00\x00\x0cJXL ": f"it is a JPEG XL: {EXPORT}",
    rb"RIFF....AVI |\x1aE\xdf\xa3|\x00\x00\x01[\xb3\xba]|....(moov|mdat|wide)": VIDEO,
    rb"II\*\x00....CR|FUJIFILM|IIR[OS]|MMOR|IIU\x00|FOVb|\x00MRM|....ftypcrx ": RAW.format(""),
}
"""What to say, by what a file begins with. Raw files: CR2, RAF, ORF, RW2, X3F, MRW, CR3."""

HEIC_BRANDS = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1"}
"""ISO/IEC 23008-12, annex B; AVIF has some of them beside its own."""
AVIF_BRANDS = {b"avif", b"avis"}

DNG, WIDTH, HEIGHT, KIND, OLD_KIND, COLOURS, BELOW = 50706, 256, 257, 254, 255, 262, 330
"""Tags of TIFF 6.0, its supplement 1 (SubIFDs) and DNG 1.7 (DNGVersion)."""
SENSOR = (32803, 34892)
"""Colours of a sensor, as a mosaic or not yet developed, DNG 1.7."""
INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
"""Types of TIFF and BigTIFF, as `struct` names them."""
MOST_PAGES = 1000
"""More pages are not looked at: a hostile file may name any number."""


def other_kind(head: bytes) -> str:
    """Return what a file is and what to do about it; "" for what may be a photograph.

    Args:
        head: its first `HEAD` bytes.
    """
    for pattern, words in OTHERS.items():
        if re.match(pattern, head.removeprefix(b"\xef\xbb\xbf"), re.DOTALL):
            return words
    if head[4:8] == b"ftyp":
        length = struct.unpack(">I", head[:4])[0]
        brands = {head[8:12], *(head[place : place + 4] for place in range(16, min(length, len(head)), 4))}
        if not brands & AVIF_BRANDS:
            return f"it is a HEIC, as phones make them: {EXPORT}" if brands & HEIC_BRANDS else VIDEO
    return ""


@dataclass(frozen=True)
class TiffPage:
    """One picture of a TIFF: its size in pixels, and what its tags say of it."""

    width: int
    height: int
    is_extra: bool
    """Whether it is a smaller copy of another page, or its mask."""
    is_raw: bool
    below: tuple[int, ...]
    """Where the pictures stand that belong to it."""


def read_tiff_pages(content: bytes) -> tuple[list[TiffPage], list[TiffPage]]:
    """Return the pages of a TIFF or BigTIFF in order, and the pictures below the first; none of any other file."""
    order = {b"II": "<", b"MM": ">"}.get(content[:2], "")
    if not order or content[2:4] not in (b"*\0", b"\0*", b"+\0", b"\0+"):
        return [], []
    is_big = b"+" in content[2:4]
    try:
        first = struct.unpack_from(order + "Q" if is_big else order + "I", content, 8 if is_big else 4)[0]
        pages = list(_chain(content, first, order, is_big))
        below = [page for place in pages[0].below[:MOST_PAGES] for page in _chain(content, place, order, is_big)]
    except (struct.error, IndexError, OverflowError):
        return [], []
    return pages, below


def _chain(content: bytes, place: int, order: str, is_big: bool) -> Iterator[TiffPage]:
    """Yield the pages from a place on, each of which says where the next one stands."""
    count_format, entry_size, offset_format = ("Q", 20, "Q") if is_big else ("H", 12, "I")
    visited: set[int] = set()
    while place and place not in visited and len(visited) < MOST_PAGES:
        visited.add(place)
        count = struct.unpack_from(order + count_format, content, place)[0]
        start = place + struct.calcsize(count_format)
        tags = dict(_read_entry(content, start + n * entry_size, order, is_big) for n in range(min(count, 4096)))
        yield _page(tags)
        place = struct.unpack_from(order + offset_format, content, start + count * entry_size)[0]


def _read_entry(content: bytes, place: int, order: str, is_big: bool) -> tuple[int, tuple[int, ...]]:
    """Return a tag and its integers; of text and fractions nothing."""
    tag, kind, count = struct.unpack_from(order + ("HHQ" if is_big else "HHI"), content, place)
    if kind not in INTEGERS:
        return tag, ()
    values, inside = order + str(min(count, MOST_PAGES)) + INTEGERS[kind], place + (12 if is_big else 8)
    if struct.calcsize(values) > (8 if is_big else 4):
        inside = struct.unpack_from(order + ("Q" if is_big else "I"), content, inside)[0]
    try:
        return tag, struct.unpack_from(values, content, inside)
    except struct.error:  # beyond the end: Pillow says so where it needs the tag
        return tag, ()


def _page(tags: dict[int, tuple[int, ...]]) -> TiffPage:
    def first(tag: int) -> int:
        return (*tags.get(tag, ()), 0)[0]

    return TiffPage(
        first(WIDTH),
        first(HEIGHT),
        bool(first(KIND) & 0b101) or first(OLD_KIND) == 2,
        DNG in tags or first(COLOURS) in SENSOR,
        tags.get(BELOW, ()),
    )


def raw_kind(pages: list[TiffPage], below: list[TiffPage]) -> str:
    """Return what to say of a TIFF that holds a raw photograph, such as a DNG or a NEF; "" for any other.

    Args:
        pages: in order.
        below: the pictures below the first page.
    """
    if not pages:
        return ""
    first = pages[0]
    has_larger = any(page.width * page.height > first.width * first.height for page in below)
    if not has_larger and not any(page.is_raw for page in (*pages, *below)):
        return ""
    return RAW.format(f" (its first picture has {first.width} x {first.height} pixels and may be a preview)")
