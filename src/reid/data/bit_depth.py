"""Photographs of more than eight bits a colour, as scanners and scientific cameras write them.

Files hold 16 or 32 bits where the camera gave 10, 12 or 14; nothing but the numbers tells. Pillow takes the upper eight
bits of the 16, which makes such a photograph black.
"""

import sys
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFile

__all__ = ["eight_bits"]

DEPTHS = (8, 10, 12, 14, 16, 20, 24, 31, 32)
"""Bits that cameras and programs give; 31 are those of numbers with a sign."""
SAMPLE_FORMAT, SIGNED = 339, 2
"""TIFF 6.0, section 19."""
OTHER_BYTE = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
"""The byte order by which Pillow finds the lower byte where it looks for the upper one."""


def eight_bits(image: ImageFile.ImageFile, again: Callable[[], ImageFile.ImageFile]) -> tuple[Image.Image, str]:
    """Return an opened image with eight bits a colour, and what to say of its depth; "" for nothing.

    How many bits are used is told by the largest number. A photograph that uses all 16 has the pixels that Pillow gives
    it; so has one that was scaled up from eight bits, whose numbers are all multiples of 4 or of 257.

    Args:
        image: not yet loaded.
        again: opens it once more.
    """
    rawmode = _rawmode(image.tile[0].args) if image.tile else ""
    if image.mode.startswith("I"):
        return _shifted(_integers(image), image.format == "TIFF" or rawmode.startswith("I;16"), image.mode)
    if ";16" not in rawmode or not image.mode.startswith("RGB") or _brightest(image) >= 64:
        return image, ""  # the upper byte of 14 bits is below 64
    return _sixteen_bits_of_colour(image, again(), rawmode)


def _brightest(image: Image.Image) -> int:
    """Return the largest number of its colours, transparency aside."""
    return int(np.asarray(image)[..., :3].max(initial=0))


def _rawmode(args: object) -> str:
    """Return how Pillow's decoder is told that the numbers are stored."""
    first = args[0] if isinstance(args, tuple) and args else args
    return first if isinstance(first, str) else ""


def _integers(image: ImageFile.ImageFile) -> np.ndarray:
    """Return the numbers of a grey photograph, without a sign unless its tags say that they have one."""
    numbers = np.asarray(image)
    tags = getattr(image, "tag_v2", {})
    if numbers.dtype == np.int32 and tags and tags.get(SAMPLE_FORMAT, (1,))[0] != SIGNED:
        return numbers.view(np.uint32)
    return numbers.clip(0)


def _bits_of(numbers: np.ndarray) -> int:
    """Return how many bits of their numbers photographs use."""
    largest = int(numbers.max(initial=0))
    is_scaled = largest < 2**16 and not ((numbers & 255).any() and (numbers % 257).any())
    return 16 if is_scaled else min(bits for bits in DEPTHS if largest < 2**bits)


def _shifted(numbers: np.ndarray, is_told_by_numbers: bool, mode: str) -> tuple[Image.Image, str]:
    """Return the upper eight of the bits that are used, and what to say of them."""
    bits = _bits_of(numbers) if is_told_by_numbers else 16
    eight = (numbers >> (bits - 8)).clip(0, 255).astype(np.uint8)
    if (bits == 16 and mode != "I") or not is_told_by_numbers:
        return Image.fromarray(eight), ""
    return Image.fromarray(
        eight
    ), f"only {bits} bits of its numbers are used; it is read as a photograph of {bits} bits"


def _sixteen_bits_of_colour(
    image: ImageFile.ImageFile, again: ImageFile.ImageFile, rawmode: str
) -> tuple[Image.Image, str]:
    """Return a photograph whose upper bytes are small; Pillow gives no others, so the lower ones are decoded too."""
    has_grey = rawmode == "LA;16B"  # four bytes a pixel, grey and transparency
    lower_mode = "RGBA" if has_grey else rawmode[:-1] + OTHER_BYTE[rawmode[-1]]
    with again:
        again.tile = [
            tile._replace(args=lower_mode if isinstance(tile.args, str) else (lower_mode, *(tile.args or ())[1:]))
            for tile in again.tile
        ]
        lower = np.asarray(again)
    if has_grey:
        return _shifted(lower[..., 0].astype(np.uint16) << 8 | lower[..., 1], True, image.mode)
    upper = np.asarray(image)[..., :3].astype(np.uint16)
    return _shifted(upper << 8 | lower[..., :3], True, image.mode)
