"""JPEG files whose coded data are damaged although they decode, as ITU-T T.81 lays them out.

libjpeg fills up what is missing and only warns of it; viewers show the rest grey. Whether a file is whole is told by
where its coded data end: those of a whole file end with the last blocks of the picture, to a few bits. Data that were
lost or exchanged for others end elsewhere, since the decoder loses step with them.
"""

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

__all__ = ["CodedJpeg", "JpegSource", "Run", "Scan", "find_run", "jpeg_damage", "lost", "read_jpeg"]

END = b"\xff\xd9"
SEQUENTIAL = (0xC0, 0xC1)
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
"""Markers SOFn, table B.1 of T.81."""
AFTER_A_SCAN = {0xC4, 0xD9, 0xDA, 0xDB, 0xDC, 0xDD, *range(0xE0, 0xF0), 0xFE}
"""DHT, EOI, SOS, DQT, DNL, DRI, APPn, COM: what may follow coded data, section B.2."""

RUN = 64
"""Equal bytes that coded data seldom hold: 512 bits, of which a picture takes one or more per block."""
LEFT_OVER = 32
"""Bytes after the last block that are no damage: libjpeg knows cameras that add a few before the end."""
BEYOND = b"\xff\x00" * 16
"""128 bits of 1, which no code begins with, so that a decoder which lacks data has soon read them."""
WRONG = "its data don't fit its picture, a part of which is missing or wrong"
PIECE = 2**18
"""Bytes that are searched at a time for the end of a scan; what follows a photograph may be a film."""


@dataclass(frozen=True)
class Run:
    """Equal bytes, [start, end) of a file."""

    start: int
    end: int
    value: int


@dataclass(frozen=True)
class Scan:
    """One scan of a JPEG.

    Attributes:
        start, end: of its coded data in the file.
        components: their numbers in the frame.
        coefficients: the first and the last one, 0 to 63.
        bits: Ah and Al of T.81: how many low bits are missing before and after it.
        interval: MCUs between two restart markers; 0 for none.
        restarts: the positions of its restart markers.
        zeros_are_flat: whether zero bits mean blocks of one colour in its Huffman tables; otherwise no picture has many
            of them in a row.
    """

    start: int
    end: int
    components: tuple[int, ...]
    coefficients: tuple[int, int]
    bits: tuple[int, int]
    interval: int
    restarts: np.ndarray
    zeros_are_flat: bool


@dataclass
class CodedJpeg:
    """What the markers of a JPEG say.

    Attributes:
        content: the file.
        frame: the position of the frame's header.
        kind: its marker's second byte.
        precision: bits a colour.
        size: width and height in pixels.
        sampling: of each component, horizontal and vertical.
        scans: in order.
        broken_at: where the markers end to make sense; -1 for nowhere.
        has_end: whether the marker of the end is there.
        is_trusted: whether the last two bytes were taken for the end without a search: a decoder stops at any marker
            before them, which tells as much.
    """

    content: bytes
    is_trusted: bool = False
    frame: int = 0
    kind: int = 0
    precision: int = 8
    size: tuple[int, int] = (0, 0)
    sampling: dict[int, tuple[int, int]] = field(default_factory=dict)
    scans: list[Scan] = field(default_factory=list)
    broken_at: int = -1
    has_end: bool = False

    @property
    def is_simple(self) -> bool:
        """Return whether it is sequential with a single scan, as cameras write it: it is decoded as it is read."""
        return self.kind in SEQUENTIAL and len(self.scans) == 1

    @property
    def unit(self) -> tuple[int, int]:
        """Width and height in pixels of an MCU that holds all components."""
        if len(self.sampling) == 1:
            return 8, 8
        across, down = zip(*self.sampling.values(), strict=True)
        return 8 * max(across), 8 * max(down)

    def units(self, scan: Scan) -> int:
        """Return how many MCUs a scan has, section A.2 of T.81."""
        (width, height), (across, down) = self.size, self.unit
        if len(scan.components) == 1:
            own, others = self.sampling[scan.components[0]], [*self.sampling.values()]
            width = -(-width * own[0] // max(one[0] for one in others))
            height = -(-height * own[1] // max(one[1] for one in others))
            across = down = 8
        return -(-width // across) * -(-height // down)


def read_jpeg(content: bytes, may_trust: bool = False) -> CodedJpeg | None:
    """Return what the markers of a JPEG say; None for what is none, or can't be read as one.

    Args:
        content: the file.
        may_trust: see `CodedJpeg.is_trusted`; most files that cameras write allow it.
    """
    found, interval = CodedJpeg(content), 0
    may_trust &= content.endswith(END)
    tables: dict[int, int] = {}
    try:
        for place, marker, segment in _segments(found):
            if marker in FRAMES:
                found.frame, found.kind = place, marker
                found.precision, height, width, count = struct.unpack(">BHHB", segment[:6])
                found.size = width, height
                found.sampling = {segment[6 + 3 * n]: divmod(segment[7 + 3 * n], 16) for n in range(count)}
            elif marker == 0xE2 and segment.startswith(b"MPF"):
                may_trust = False  # other pictures follow
            elif marker == 0xDD:
                interval = struct.unpack(">H", segment[:2])[0]
            elif marker == 0xC4:
                tables |= _first_symbols(segment)
            elif marker == 0xDA:
                is_only = found.kind in SEQUENTIAL and segment[0] == len(found.sampling)
                found.is_trusted = may_trust and is_only and not interval
                found.scans.append(_read_scan(found, place + 4 + len(segment), segment, interval, tables))
    except (IndexError, struct.error, KeyError, ZeroDivisionError):
        return None
    return found if found.scans and all(found.size) else None


def _segments(found: CodedJpeg) -> Iterator[tuple[int, int, bytes]]:
    """Yield position, marker and content of each segment; the coded data that follow one are those of its scan."""
    content, place = found.content, 2
    while place < len(content):
        place = content.find(b"\xff", place)  # as libjpeg, which skips what stands between segments
        marker = content[place + 1] if 0 <= place < len(content) - 1 else 0xFF
        if place < 0 or marker == 0xD9 or found.broken_at >= 0:
            found.has_end = place >= 0 and marker == 0xD9
            return
        if marker in (0x00, 0x01, 0xFF, *range(0xD0, 0xD9)):
            place += 1 if marker == 0xFF else 2
            continue
        length = struct.unpack(">H", content[place + 2 : place + 4])[0]
        yield place, marker, content[place + 4 : place + 2 + length]
        place = found.scans[-1].end if marker == 0xDA else place + 2 + length


def _first_symbols(segment: bytes) -> dict[int, int]:
    """Return what the code of zeros, the first one of a Huffman table, stands for, by class and number."""
    symbols, place = {}, 0
    while place < len(segment):
        symbols[segment[place]] = segment[place + 17]
        place += 17 + sum(segment[place + 1 : place + 17])
    return symbols


def _read_scan(found: CodedJpeg, start: int, header: bytes, interval: int, tables: dict[int, int]) -> Scan:
    """Return a scan with the coded data from `start` on; note in `found` where they can't be right."""
    count = header[0]
    chosen = [divmod(header[2 + 2 * n], 16) for n in range(count)]
    first, last = header[1 + 2 * count : 3 + 2 * count]
    end, marker, restarts = len(found.content) - 2, 0xD9, np.zeros(0, int)
    if not found.is_trusted:
        end, marker, restarts = _end_of_scan(found.content, start)
    scan = Scan(
        start,
        end,
        tuple(header[1 + 2 * n] for n in range(count)),
        (first, last),
        divmod(header[3 + 2 * count], 16),
        interval,
        restarts,
        first == 0 and all(tables.get(dc) == 0 and (last == 0 or tables.get(16 + ac) == 0) for dc, ac in chosen),
    )
    orders = np.frombuffer(found.content, np.uint8)[restarts + 1] - 0xD0
    wrong = np.flatnonzero(orders != np.arange(len(orders)) % 8)
    wanted = -(-found.units(scan) // interval) - 1 if interval else 0
    if len(wrong):
        found.broken_at = int(restarts[wrong[0]])
    elif (marker not in AFTER_A_SCAN and marker != -1) or len(restarts) not in (wanted, wanted + bool(interval)):
        found.broken_at = end
    return scan


def _end_of_scan(content: bytes, start: int) -> tuple[int, int, np.ndarray]:
    """Return where coded data end, the marker there (-1 for none), and the positions of the restart markers in them."""
    everything, restarts = np.frombuffer(content, np.uint8), []
    for place in range(start, len(content) - 1, PIECE):
        piece = everything[place : place + PIECE + 1]
        is_marker = piece[:-1] == 0xFF
        is_marker &= piece[1:] != 0
        if not is_marker.any():
            continue
        for found in np.flatnonzero(is_marker):
            marker = int(piece[found + 1])
            if 0xD0 <= marker <= 0xD7:
                restarts.append(place + int(found))
            elif marker != 0xFF:  # any number of 0xFF may stand before a marker
                return place + int(found), marker, np.array(restarts, int)
    end = len(content) - content.endswith(b"\xff")
    return end, -1, np.array(restarts, int)


def find_run(content: bytes, start: int, end: int, length: int = RUN) -> Run | None:
    """Return the first run of at least `length` equal bytes in [start, end), 64 or more; None where there is none."""
    words = np.frombuffer(content, np.uint64, (end - start) // 32 * 4, start).reshape(-1, 4)
    after = start
    for group in np.flatnonzero(words[:, 0] == words[:, 1]):
        place = start + 32 * int(group)
        if place < after:
            continue
        value = content[place]
        before = content[max(start, place - 32) : place]
        first = place - (len(before) - len(before.rstrip(bytes([value]))))
        differ = np.frombuffer(content, np.uint8, end - place, place) != value
        after = place + int(differ.argmax()) if differ.any() else end
        if after - first >= length:
            return Run(first, after, value)
    return None


class JpegSource(io.BytesIO):
    """A JPEG's bytes for a decoder, which tell whether it needs all coded data and no more.

    The last coded bytes are handed over when they are asked for, with bits beyond them that a decoder may look at but
    has no use for. So one decoding is enough, and the pixels are the same. A missing end marker is added.
    """

    def __init__(self, jpeg: CodedJpeg, end: int = -1, left_over: int = LEFT_OVER) -> None:
        super().__init__(jpeg.content)
        self.jpeg, scan = jpeg, jpeg.scans[-1]
        self.end = scan.end if end < 0 else end
        self.held = max(scan.start, self.end - left_over)
        self.is_used = self.is_short = False

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next bytes, at most `size`."""
        place, wanted = self.tell(), len(self.jpeg.content) if size is None or size < 0 else size
        if place < self.held:
            return super().read(min(wanted, self.held - place) if self.jpeg.is_simple else wanted)
        if place < self.end and self.jpeg.is_simple:
            self.is_used = True
            return super().read(self.end - place) + BEYOND
        self.is_short |= self.jpeg.is_simple
        return super().read(wanted) or END

    @property
    def fits(self) -> bool:
        """Whether a decoder that is done needed all coded data and no more."""
        return self.is_used and not self.is_short


def jpeg_damage(source: JpegSource) -> str:
    """Return what is wrong with the coded data of a JPEG that Pillow has decoded; "" for nothing.

    Args:
        source: what it was decoded from.
    """
    if source.jpeg.is_trusted and not source.fits and (searched := read_jpeg(source.jpeg.content)):
        source = JpegSource(searched)
        _small(source)
    jpeg = source.jpeg
    if jpeg.broken_at >= 0:
        return _lost(jpeg, jpeg.broken_at)
    return _simple_damage(source) if jpeg.is_simple else _layered_damage(jpeg)


def _simple_damage(source: JpegSource) -> str:
    jpeg, scan = source.jpeg, source.jpeg.scans[0]
    run, end = find_run(jpeg.content, scan.start, scan.end), _end_without_filling(jpeg)
    is_black = scan.zeros_are_flat and jpeg.content[end : end + 1] == b"\0"
    is_filled = end != scan.end and not (jpeg.has_end or is_black)
    if is_filled or not source.fits:
        if end != scan.end and _fits(jpeg, end):
            return ""
        is_end_lost = is_filled or source.is_short or not jpeg.has_end
        return _lost(jpeg, end if is_end_lost else run.start if run else -1)
    is_wrong = run and ((run.value == 0 and not scan.zeros_are_flat) or not _interval_fits(jpeg, scan, run))
    return _lost(jpeg, run.start) if run and is_wrong else ""


def _layered_damage(jpeg: CodedJpeg) -> str:
    """Return what is wrong with a JPEG of several scans, each of which adds to the whole picture."""
    for scan in jpeg.scans:
        run = find_run(jpeg.content, scan.start, scan.end)
        is_last = scan is jpeg.scans[-1] and not jpeg.has_end
        end = _end_without_filling(jpeg) if is_last else scan.end
        if run and run.value == 0 and scan.bits[0] == 0 and not scan.zeros_are_flat:
            return _lost(jpeg, run.start)
        is_visible = scan.bits[0] == 0 or (run is not None and scan.coefficients[0] > 0)
        if (run or is_last) and not _scan_fits(jpeg, scan, end, is_visible):
            return _lost(jpeg, run.start if run else end)
    return "" if _is_covered(jpeg) else _lost(jpeg, len(jpeg.content))


def _end_without_filling(jpeg: CodedJpeg) -> int:
    """Return where the last scan ends without the equal bytes that a copy which broke off, or a camera, fills up."""
    scan, last = jpeg.scans[-1], jpeg.content[jpeg.scans[-1].end - 1]
    if jpeg.content[scan.end - LEFT_OVER - 1 : scan.end].strip(bytes([last])):
        return scan.end
    return scan.start + len(jpeg.content[scan.start : scan.end].rstrip(bytes([last])))


def _fits(jpeg: CodedJpeg, end: int, left_over: int = LEFT_OVER) -> bool:
    """Return whether the picture ends where its coded data do."""
    source = JpegSource(jpeg, end, left_over)
    return _small(source) is not None and source.fits


def _interval_fits(jpeg: CodedJpeg, scan: Scan, run: Run) -> bool:
    """Return whether the restart interval with a run ends where its MCUs do: it is decoded as a picture of its own."""
    if not scan.interval:
        return True
    number = int(np.searchsorted(scan.restarts, run.start))
    places = [scan.start - 2, *scan.restarts, scan.end]
    start, end = int(places[number]) + 2, int(places[number + 1])
    count = min(scan.interval, jpeg.units(scan) - number * scan.interval)
    per_row = -(-jpeg.size[0] // jpeg.unit[0])
    across, down = (per_row, count // per_row) if count % per_row == 0 else (count, 1)
    width, height = across * jpeg.unit[0], down * jpeg.unit[1]
    if max(width, height) > 65_500:  # libjpeg's limit
        return True
    size = struct.pack(">HH", height, width)
    head = jpeg.content[: jpeg.frame + 5] + size + jpeg.content[jpeg.frame + 9 : scan.start]
    part = read_jpeg(head + jpeg.content[start:end] + END)
    return part is not None and _fits(part, part.scans[0].end, 2)


def _scan_fits(jpeg: CodedJpeg, scan: Scan, end: int, is_visible: bool) -> bool:
    """Return whether a scan of several ends where its coded data do.

    The picture up to this scan is the same whatever bits follow the scan, and another one without its last bytes,
    unless they are those of a grey end, which libjpeg puts there anyway.

    Args:
        jpeg, scan: the scan.
        end: of its coded data.
        is_visible: whether its last bytes change the picture; those that refine earlier scans may not.
    """
    head = jpeg.content[:end]
    ones, zeros, less = (
        _small(io.BytesIO(part + END)) for part in (head + BEYOND, head + bytes(16), head[: max(scan.start, end - 16)])
    )
    is_told_apart = is_visible and ones is not None and ones[-1] != 128
    return ones is not None and ones == zeros and not (is_told_apart and ones == less)


def _is_covered(jpeg: CodedJpeg) -> bool:
    """Return whether the scans hold every coefficient of every component, down to the last bit where there is no marker
    of the end; with it, a program may have left out the last bits.
    """
    missing = {component: np.full(64, 16) for component in jpeg.sampling}
    for scan in jpeg.scans:
        for component in scan.components:
            missing[component][scan.coefficients[0] : scan.coefficients[1] + 1] = scan.bits[1]
    return not any((bits > 15 * jpeg.has_end).any() for bits in missing.values())


def _small(source: io.BytesIO) -> bytes | None:
    """Return the pixels of a JPEG at an eighth of its size or, of several scans, at its own; None for none."""
    try:
        with Image.open(source, formats=("JPEG",)) as image:
            if isinstance(source, JpegSource):
                image.draft(None, (1, 1))
            return image.tobytes()
    except (OSError, ValueError, SyntaxError):
        return None


def _lost(jpeg: CodedJpeg, place: int) -> str:
    """Return in words what is lost of a picture whose coded data are right up to `place`; -1 for unknown."""
    if place < 0:
        return lost("", "", 0)
    if jpeg.is_simple:
        return lost("the lower", "the picture", 1 - _share_of_rows(jpeg, place))
    return lost("the last", "its data", 1 - place / len(jpeg.content))


def lost(which: str, of_what: str, share: float) -> str:
    """Return in words that a share of a photograph is lost, in steps of 5 %, so that many may share a sentence."""
    percent = 5 * round(20 * share)
    what = f"about {which} {percent} % of {of_what} are missing" if percent else WRONG
    return f"it is damaged: {what}; copy the file again"


def _share_of_rows(jpeg: CodedJpeg, place: int) -> float:
    """Return the share of the picture's rows that the coded data up to `place` hold: libjpeg makes the others flat."""
    try:
        with Image.open(io.BytesIO(jpeg.content[:place] + END), formats=("JPEG",)) as image:
            image.draft(None, (1, 1))
            pixels = np.asarray(image)
    except (OSError, ValueError, SyntaxError):
        return 0.0
    differ = (pixels != pixels[-1, -1]).reshape(len(pixels), -1).any(1)
    return (len(pixels) - int(differ[::-1].argmax())) / len(pixels) if differ.any() else 0.0
