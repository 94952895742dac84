"""Pillow's warnings are logged with the photograph's name, once for each, whichever thread opens it."""

import logging
import re
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image
from scene import scene, write_rows

from reid import cli
from reid.data.library_warnings import library_warnings_logged
from reid.data.photographs import View, decode, inspect_photograph

WORDS = "larger than file|Truncated File Read"
"""What Pillow says of it: 13.0, or 11.3."""


def write_odd(path: Path) -> None:
    """A JPEG whose EXIF tag Make lies beyond its end, of which Pillow warns."""
    exif = Image.Exif()
    exif[271] = "maker of cameras"
    scene().save(path, "JPEG", exif=exif)
    content = bytearray(path.read_bytes())
    place = content.find(b"\x0f\x01")  # tag 271 in little or big order
    place = place if place >= 0 else content.find(b"\x01\x0f")
    content[place + 4 : place + 8] = b"\x20\0\0\x20"  # its length
    path.write_bytes(content)


def test_each_file_is_named_once_however_often_it_is_opened(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    paths = [tmp_path / f"{number}.jpg" for number in range(8)]
    for path in paths:
        write_odd(path)
    scene().save(tmp_path / "good.jpg")
    with caplog.at_level(logging.WARNING), library_warnings_logged(), ThreadPoolExecutor(4) as pool:
        list(pool.map(inspect_photograph, [*paths, tmp_path / "good.jpg"] * 3))
        decode(paths[0], View(16))
    told = sorted(record.getMessage() for record in caplog.records)
    assert [words.partition(": Pillow warns: ")[0] for words in told] == list(map(str, paths))
    assert all(re.search(WORDS, words) for words in told)


def test_other_warnings_and_those_outside_are_left_alone(tmp_path: Path) -> None:
    write_odd(tmp_path / "x.jpg")
    with library_warnings_logged(), pytest.raises(UserWarning, match="of something else"):
        warnings.warn("of something else", stacklevel=1)
    with pytest.raises(UserWarning, match=WORDS):
        inspect_photograph(tmp_path / "x.jpg")


def test_the_command_line_names_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(tmp_path, 2)
    for number in range(2):
        write_odd(tmp_path / f"{number}.jpg")
    assert cli.main(["check", str(tmp_path)]) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if re.search(WORDS, line)]
    assert [line.partition(": Pillow warns: ")[0] for line in sorted(told)] == [
        f"warning: {tmp_path / f'{number}.jpg'}" for number in range(2)
    ]
