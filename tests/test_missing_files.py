"""Paths that were right where they were written: the likely cause, and what to write."""

import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from scene import scene, write_metadata

from reid.data.catalogue import read_catalogue
from reid.data.missing_files import with_causes


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda path: path.replace("/", "\\"), "; it has backslashes, as Windows writes paths: write 'photos/Mira/"),
        (
            lambda path: "D:\\survey\\" + path.replace("/", "\\"),
            "; it has backslashes, as Windows writes paths and it begins with 'D:/survey', which is not in",
        ),
        (lambda path: path.replace(".jpg", ".JPG"), "; it has other capital letters: write 'photos/Mira/"),
        (lambda path: path.replace("Mira", "mira"), "; it has other capital letters: write"),
        (lambda path: "survey/2024/" + path, "; it begins with 'survey/2024', which is not in this folder: write"),
        (lambda path: path.removeprefix("photos/"), "; the file lies below 'photos': write"),
        (lambda path: path + " ", "; it begins or ends with a blank: write"),
        (
            lambda path: unicodedata.normalize("NFD", path),
            "; its accented letters are composed in another way: write",
        ),
        (lambda _: "photos/Mira/other.jpg", "; no other file of that name is below the folder: correct the path"),
        (lambda _: "https://example.org/a.jpg", "; it is an address on the web: download the photograph"),
    ],
)
def test_the_cause_of_a_missing_file_is_named(tmp_path: Path, write: Callable[[str], str], words: str) -> None:
    path = "photos/Mira/Zo\u00eb 1.jpg"
    (tmp_path / path).parent.mkdir(parents=True)
    scene().save(tmp_path / path)
    (tmp_path / "photos/.thumbnails").mkdir()
    scene(9, 9).save(tmp_path / "photos/.thumbnails/other.jpg")
    catalogue = read_catalogue(write_metadata(tmp_path, f'1,Mira,"{write(path)}",,,,database,Cats'))
    assert with_causes(catalogue, {"1": "no such file"})["1"].startswith(f"no such file{words}")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("a%20b/c.jpg", "it is written as an address is, with % and numbers: write 'a b/c.jpg'"),
        ("a b/c.jpeg", "its ending is '.jpeg', that of the file '.jpg': write 'a b/c.jpg'"),
        ("a b/c", "its ending is '', that of the file '.jpg': write 'a b/c.jpg'"),
        ("a b /c.jpg", "it is spelt in another way: write 'a b/c.jpg'"),
        (unicodedata.normalize("NFD", "a b/\u00c9.jpg"), "write '#07/\u00e9.jpg'"),
        ("tom/IMG_1.jpg", "2 files are called so, such as"),
        ("ann/IMG_1.jpg", "2 files are called so, such as"),
        ("tom/known.jpg", "no other file of that name is below the folder"),
    ],
)
def test_no_other_animals_photograph_is_proposed(tmp_path: Path, path: str, words: str) -> None:
    for file in ("a b/c.jpg", "#07/\u00e9.jpg", "mira/IMG_1.jpg", "zoe/IMG_1.jpg", "mira/known.jpg"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        scene(9, 9).save(tmp_path / file)
    rows = [f'1,Tom,"{path}",,,,database,Cats', "2,Mira,mira/known.jpg,,,,database,Cats"]
    catalogue = read_catalogue(write_metadata(tmp_path, *rows))
    assert words in with_causes(catalogue, {"1": "no such file"})["1"]


def test_a_table_one_folder_too_low_is_told(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    scene().save(tmp_path / "photos/a.jpg")
    catalogue = read_catalogue(write_metadata(tmp_path / "photos", "1,Mira,photos/a.jpg,,,,database,Cats"))
    (told,) = with_causes(catalogue, {"1": "no such file"}).values()
    assert told == "no such file; it begins with 'photos', which is not in this folder: write 'a.jpg'"
    write_metadata(tmp_path / "photos", "1,Mira,other/b.jpg,,,,database,Cats")
    (tmp_path / "other").mkdir()
    scene().save(tmp_path / "other/b.jpg")
    (told,) = with_causes(read_catalogue(tmp_path / "photos"), {"1": "no such file"}).values()
    assert told.startswith("no such file; it lies beside this folder: move metadata.csv one folder up, and type ")


def test_other_problems_are_left_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    catalogue = read_catalogue(write_metadata(tmp_path, "1,Mira,a.jpg,,,,database,Cats"))
    assert with_causes(catalogue, {"1": "it is no image"}) == {"1": "it is no image"}
    assert with_causes(catalogue, {}) == {}
