"""Thumbnails and contact sheets."""

from pathlib import Path

import numpy as np
import pytest
from hand_world import make_world
from PIL import Image, TiffImagePlugin, TiffTags

from reid.config.presets import PRESETS
from reid.config.settings import with_settings
from reid.data.catalogue import Catalogue
from reid.data.photographs import UnreadableError, View, open_photograph
from reid.report import thumbnails
from reid.report.outcomes import classify_outcomes
from reid.report.thumbnails import Thumbnails, contact_sheet, match_rows, upright


def test_a_photograph_keeps_its_proportions_and_is_turned_upright(tmp_path: Path) -> None:
    tag = Image.Exif()
    tag[274] = 6  # lies on its side
    Image.new("RGB", (400, 200), "red").save(tmp_path / "lying.jpg", exif=tag)
    Image.new("RGB", (400, 200), "red").save(tmp_path / "flat.jpg")
    assert upright(tmp_path / "lying.jpg", 100).size == (50, 100)
    assert upright(tmp_path / "flat.jpg", 100).size == (100, 50)
    assert upright(tmp_path / "flat.jpg", 100, View(0, turn=90)).size == (50, 100)


@pytest.mark.parametrize(("kind", "value"), [(TiffTags.ASCII, "6"), (TiffTags.UNDEFINED, b"\x06")])
@pytest.mark.parametrize("ending", ["jpg", "png", "tif"])
def test_a_tag_that_is_no_number_turns_nothing(tmp_path: Path, ending: str, kind: int, value: str | bytes) -> None:
    tags, path = TiffImagePlugin.ImageFileDirectory_v2(), tmp_path / f"odd.{ending}"
    tags.tagtype[274], tags[274] = kind, value
    exif = b"Exif\0\0II*\0\x08\0\0\0" + tags.tobytes(8)  # a TIFF's header: little-endian, the tags from byte 8 on
    Image.new("RGB", (400, 200), "red").save(path, **({"tiffinfo": tags} if ending == "tif" else {"exif": exif}))
    with Image.open(path) as stored:
        assert stored.getexif()[274] == value
    assert open_photograph(path, 8).shape == (8, 8, 3)
    assert upright(path, 100).size == (100, 50)


def test_only_the_formats_of_photographs_are_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (40, 20), "red").save(tmp_path / "x.jpg")
    open_any, allowed = Image.open, []

    def recorded(path: Path, formats: tuple[str, ...] | None = None) -> Image.Image:
        allowed.append(formats)
        return open_any(path, formats=formats)

    monkeypatch.setattr(Image, "open", recorded)
    assert upright(tmp_path / "x.jpg", 10).size == (10, 5)
    assert allowed
    assert all(formats and "EPS" not in formats for formats in allowed)
    with pytest.raises(UnreadableError, match="no such file"):
        upright(tmp_path / "y.jpg", 10)


def test_thumbnails_are_turned_as_the_networks_see_them(tmp_path: Path) -> None:
    catalogue, *_ = make_world(tmp_path)
    lying = Catalogue(catalogue.root, catalogue.table.assign(orientation="right"))
    turned = Thumbnails.of(lying, with_settings(PRESETS["toy"], {"data.upright": ("Lynx",)}))
    assert {turned.views["1"].turn, turned.views["3"].turn} == {-90, 0}
    assert turned.of_photograph("1").uri != Thumbnails.of(lying, PRESETS["toy"]).of_photograph("1").uri


def test_a_thumbnail_is_made_once_and_can_be_forgotten(tmp_path: Path) -> None:
    catalogue, *_ = make_world(tmp_path)
    thumbnails = Thumbnails.of(catalogue, PRESETS["toy"])
    first = thumbnails.of_photograph("1")
    catalogue.paths[0].unlink()
    assert thumbnails.of_photograph("1") is first
    thumbnails.forget("1")
    assert thumbnails.of_photograph("1").problem == "no such file"


def test_contact_sheets_have_a_row_per_dataset(tmp_path: Path) -> None:
    catalogue, _, prediction, solution = make_world(tmp_path)
    outcomes, recipe = classify_outcomes(prediction.wide, solution), PRESETS["toy"]
    rows = match_rows(catalogue, outcomes, recipe)
    assert [row.title for row in rows] == ["Lynx", "Newt"]
    lying = Catalogue(catalogue.root, catalogue.table.assign(orientation="right"))
    turned = match_rows(lying, outcomes, with_settings(recipe, {"data.upright": ("Lynx",)}))
    assert [{picture.view.turn for group in row.pictures for picture in group} for row in turned] == [{-90}, {0}]
    assert {picture[2] for group in rows[0].pictures for picture in group} == {"wrong", "named", "missed", "right", ""}
    assert [len(row.pictures) for row in rows] == [5, 1]
    contact_sheet(tmp_path / "sheet.jpg", rows)
    with Image.open(tmp_path / "sheet.jpg") as sheet:
        assert sheet.format == "JPEG"
        left, top = thumbnails.GAP, thumbnails.GAP + thumbnails.TITLE
        cell = sheet.convert("L").crop((left, top, left + thumbnails.CELL, top + thumbnails.CELL))
        assert np.asarray(cell).std() > 10  # a photograph, not a blank field
