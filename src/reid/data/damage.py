"""Photographs that decode although a part of their file was lost: a copy that broke off, a card that failed.

Judged from the coded data together with the picture; a picture of one colour is no sign of damage.
"""

import io
import struct
from collections.abc import Iterator

import numpy as np
from PIL import Image

from reid.data.jpeg import JpegSource, jpeg_damage, lost, read_jpeg

__all__ = ["damage", "source_of"]

FILLING = 256
"""Equal bytes at the end of the coded data that are looked at."""
FILLED_SHARE = 0.01
FLAT = 8
"""Of 255: a row whose colours differ by no more is of one colour. libwebp ends a picture with flat lower rows in
thousands of zeros; without such rows the same zeros are damage."""


def source_of(content: bytes) -> io.BytesIO:
    """Return a photograph's bytes as Pillow shall read them, see `damage`."""
    jpeg = read_jpeg(content, may_trust=True) if content.startswith(b"\xff\xd8\xff") else None
    return JpegSource(jpeg) if jpeg else io.BytesIO(content)


def damage(source: io.BytesIO, picture: Image.Image) -> str:
    """Return what is lost of a photograph and what to do; "" for nothing that can be told.

    A PNG, a GIF or a compressed TIFF with lost data doesn't decode; nor does a JPEG 2000 that lacks its end. Zeros in a
    BMP or an uncompressed TIFF are black pixels like others; zeros in the middle of a WebP or AVIF are not looked for.

    Args:
        source: of `source_of`, from which the photograph was decoded.
        picture: what was decoded, as it lies in the file.
    """
    if isinstance(source, JpegSource):
        return jpeg_damage(source)
    content = source.getvalue()
    for start, end in _coded(content):
        data = content[start:end]
        filling = len(data) - len(data.rstrip(data[-1:]))
        if filling >= max(FILLING, FILLED_SHARE * len(data)) and _ends_in_colours(picture):
            return lost("the last", "its data", filling / len(data))
    return ""


def _ends_in_colours(picture: Image.Image) -> bool:
    """Return whether the last row has several colours."""
    return bool(np.ptp(np.asarray(picture)[-1], axis=0).max() > FLAT)


def _coded(content: bytes) -> Iterator[tuple[int, int]]:
    """Yield where the coded data of a WebP or an AVIF stand."""
    is_webp = content[:4] == b"RIFF" and content[8:12] == b"WEBP"
    place, names = 12 if is_webp else 0, (b"VP8 ", b"VP8L") if is_webp else (b"mdat",)
    while (is_webp or content[4:8] == b"ftyp") and place + 8 <= len(content):
        if is_webp:
            name, length = struct.unpack_from("<4sI", content, place)
            length += 8 + length % 2  # it is that of what follows the header, which a box counts
        else:
            length, name = struct.unpack_from(">I4s", content, place)
        if length < 8:  # up to the end of the file, or longer than 4 GB
            return
        if name in names:
            yield place + 8, min(place + length, len(content))
        place += length
