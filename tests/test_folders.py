"""A folder as it comes from a Mac, a network drive or a card: what nobody sees is skipped and counted."""

from pathlib import Path

import pytest

from reid.data.folders import find_photographs, is_hidden
from reid.errors import InputError

SYSTEMS = [
    "photos/.Trashes/IMG_1.JPG",
    "photos/@eaDir/IMG_1.JPG/SYNOPHOTO_THUMB_M.jpg",
    "photos/#recycle/a.jpg",
    "photos/Mira/.thumbnails/1.jpg",
    "photos/Mira/.DS_Store",
    "photos/Mira/Thumbs.db",
    "$RECYCLE.BIN/b.jpg",
    "__MACOSX/photos/c.jpg",
]


def test_photographs_are_found_and_the_rest_is_counted(tmp_path: Path) -> None:
    photographs = ["photos/Mira/a.jpg", "photos/Mira/b.JPEG", "photos/loose.png", "queries/c.tif", "queries/d.HEIC"]
    apple = ["photos/Mira/._a.jpg", "queries/._c.tif"]
    for path in [*photographs, *apple, *SYSTEMS, "photos/Mira/notes.txt", "metadata.csv"]:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    paths, skipped = find_photographs(tmp_path)
    assert [path.as_posix() for path in paths] == photographs
    assert dict(skipped) == {
        "AppleDouble (what macOS notes of a file)": len(apple),
        "hidden, or a system's own": len(SYSTEMS),
        "no photograph by its ending": 2,
    }


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a folder with photographs, found none; check the name"):
        find_photographs(tmp_path / "photographs")


@pytest.mark.parametrize("name", ["Mira", "a.jpg", "thumbs", "007", "Ärmel", "macosx"])
def test_names_that_people_give_are_not_hidden(name: str) -> None:
    assert not is_hidden(name)
