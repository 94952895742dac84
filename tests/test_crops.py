"""Boxes in metadata.csv, from the cell to the pixels: what is refused, and which part of a photograph is opened."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageOps
from scene import scene

from reid import cli
from reid.config.presets import PRESETS
from reid.config.runtime import Runtime
from reid.config.settings import recipe_from_json, with_settings
from reid.data.boxes import Crop
from reid.data.catalogue import COLUMNS, find_faults, read_catalogue, read_rows
from reid.data.loading import photograph_batches
from reid.data.photographs import (
    UnreadableError,
    View,
    decode,
    decode_all,
    inspect_photographs,
    open_photograph,
    thumbnails,
    views_of,
)
from reid.data.store import decode_photographs
from reid.errors import InputError
from reid.retrieval.cache import photograph_digests
from reid.retrieval.extraction import extract_features, open_extractors

SIZE = (320, 200)


def write_rows(folder: Path, *rows: dict[str, str]) -> Path:
    """A data folder with these rows, of a database and of one photograph unless they say otherwise."""
    usual = {"identity": "", "path": "a.jpg", "split": "query", "dataset": "Lynx", "bbox_unit": "pixels"}
    table = pd.DataFrame([{"image_id": str(place), **usual, **row} for place, row in enumerate(rows)])
    table.reindex(columns=[*COLUMNS, "bbox", "bbox_unit"], fill_value="").to_csv(folder / "metadata.csv", index=False)
    return folder


def crop_of(box: tuple[float, float, float, float], unit: str = "pixels", margin: float = 0.0) -> Crop:
    return Crop(box, unit, (box[2], box[3]), margin)


def view_of(box: tuple[float, float, float, float]) -> View:
    return View(0, crop=crop_of(box))


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ([{"bbox": "1,2,3"}], "row 2, column bbox: expected four numbers x,y,w,h, or an empty cell; found '1,2,3'"),
        ([{"bbox": "left"}], "expected four numbers"),
        ([{"bbox": "1,2,nan,4"}], "expected four numbers"),
        ([{"bbox": "1,2,0,4"}], "expected a width and a height above 0; found '1,2,0,4'"),
        ([{"bbox": "1,2,3,-4"}], "expected a width and a height above 0"),
        ([{"bbox": "1,2,3,4", "bbox_unit": ""}], "column bbox_unit: expected pixels or shares in a row with a box"),
        (
            [{"bbox": "1,2,3,4"}, {"bbox": ".1,.2,.3,.4", "bbox_unit": "shares", "path": "b.jpg"}],
            "row 3, column bbox_unit: expected one unit in all rows with a box, and row 2 has pixels; found 'shares'",
        ),
        (
            [{"bbox": "1,2,3,4", "bbox_unit": "shares"}],
            "expected shares of the photograph, 0 to 1; if these",
        ),
        ([{"bbox": ".1,.2,.3,.4"}], "expected pixels, and no box has a number above 1; if these are shares"),
        ([{"bbox": ".6,.1,.9,.8", "bbox_unit": "shares"}], r"only as x1,y1,x2,y2; if that is .*--box-layout xyxy"),
        ([{}, {"bbox": "1,2,3,4"}], "row 2, column path: expected a box, as other rows of 'a.jpg' have; found none"),
        (
            [{"bbox": "1,2,3,4"}, {"bbox": "1, 2, 3, 4.0", "path": "./a.jpg"}],
            "row 3, column path: expected every photograph once, found that of row 2 again with the same box",
        ),
        (
            [{"bbox": f"{x},2,3,4", "identity": name, "split": "database"} for x, name in ((1, "Mira"), (2, "MIRA"))],
            "row 3, column path: expected boxes on one photograph to be around different animals, found 'MIRA' here and"
            " on row 2",
        ),
    ],
)
def test_a_faulty_box_is_told_with_its_row(cells: list[dict[str, str]], words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        read_catalogue(write_rows(tmp_path, *cells))


def test_weights_that_never_saw_a_box_see_whole_photographs(tmp_path: Path) -> None:
    catalogue = read_catalogue(write_rows(tmp_path, {"bbox": "1,2,30,40"}))
    recipe = PRESETS["keypoints"]
    (view,) = views_of(catalogue, recipe)
    assert view.crop == Crop((1, 2, 30, 40), "pixels", (30, 40), 0.1)
    stored = asdict(recipe)
    del stored["data"]["use_boxes"]  # as an earlier version wrote it
    assert [one.crop for one in views_of(catalogue, recipe_from_json(stored))] == [None]


def test_boxes_on_one_photograph_may_show_several_animals(tmp_path: Path) -> None:
    names = ["Mira", "Ada", "unknown", "unknown"]
    rows = [{"bbox": f"{x},2,30,40", "identity": name, "split": "database"} for x, name in enumerate(names)]
    other_species = {"bbox": "9,9,9,9", "identity": "Mira", "split": "database", "dataset": "Newts"}
    catalogue = read_catalogue(write_rows(tmp_path, *rows, other_species, {"bbox": "50,60,70,8"}))
    assert catalogue.crops[0] == Crop((0, 2, 30, 40), "pixels", (9, 8))
    known = (("Lynx", "Ada"), ("Lynx", "Mira"), ("Lynx", "unknown"), ("Newts", "Mira"))
    assert set(catalogue.table["beside"]) == {known}


def test_without_boxes_nothing_is_added(tmp_path: Path) -> None:
    plain = read_rows(write_rows(tmp_path, {"bbox": "", "path": "a.jpg"}))
    assert "crop" not in plain.table
    assert plain.crops == [None]
    before = plain.fingerprint
    boxed = read_rows(write_rows(tmp_path, {"bbox": "1,2,3,4"}))
    assert boxed.fingerprint != before
    assert boxed.fingerprint != read_rows(write_rows(tmp_path, {"bbox": "1,2,3,5"})).fingerprint


def slow_twin(path: Path, box: tuple[float, ...], size: int) -> np.ndarray:
    """The whole photograph in full, turned by its tag, cut out and resized."""
    with Image.open(path) as image:
        whole = ImageOps.exif_transpose(image).convert("RGB")
    x, y, w, h = box
    part = whole.crop((int(np.floor(x)), int(np.floor(y)), int(np.ceil(x + w)), int(np.ceil(y + h))))
    return np.asarray(part.resize((size, size), Image.Resampling.BICUBIC)).astype(int)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["png", "jpg", "tif"])
def test_the_box_is_cut_out_of_the_picture_as_a_viewer_shows_it(orientation: int, ending: str, tmp_path: Path) -> None:
    tag = Image.Exif()
    tag[274] = orientation
    path = tmp_path / f"x.{ending}"
    scene(*SIZE).save(path, exif=tag, quality=95)
    box = (20.0, 32.0, 120.0, 90.0) if ending == "jpg" else (21.5, 33.0, 120.25, 90.0)  # a JPEG is decoded at a half
    found = open_photograph(path, View(16, crop=crop_of(box))).astype(int)
    assert np.abs(found - slow_twin(path, box, 16)).max() <= 2
    wide, high = SIZE if orientation < 5 else SIZE[::-1]
    shares = crop_of((box[0] / wide, box[1] / high, box[2] / wide, box[3] / high), "shares")
    assert (open_photograph(path, View(16, crop=shares)) == found).all()
    assert (np.rot90(found) == open_photograph(path, View(16, turn=90, crop=shares))).all()
    assert (found[:, ::-1] == open_photograph(path, View(16, mirror=True, crop=shares))).all()


def test_the_margin_widens_a_box_up_to_the_edge(tmp_path: Path) -> None:
    scene(*SIZE).save(tmp_path / "x.png")
    view = View(16, crop=crop_of((10, 100, 100, 50), margin=0.2))
    assert (open_photograph(tmp_path / "x.png", view) == slow_twin(tmp_path / "x.png", (0, 90, 130, 70), 16)).all()


def test_a_small_box_is_decoded_at_the_scale_that_it_needs(tmp_path: Path) -> None:
    scene(1600, 1200).save(tmp_path / "x.jpg", quality=95)
    whole, half, small = (
        decode(tmp_path / "x.jpg", View(50, crop=crop and crop_of(crop))).extent
        for crop in (None, (0, 0, 800, 600), (200, 200, 110, 120))
    )
    assert whole == (200, 150)
    assert half == (200, 150)  # a quarter
    assert small == (110, 120)  # in full
    assert decode(tmp_path / "x.jpg", View(50, detail=240, crop=crop_of((200, 200, 480, 480)))).extent == (240, 240)


@pytest.mark.parametrize(
    ("box", "words"),
    [((330, 5, 10, 10), "its box lies outside the photograph$"), ((-9, -9, 9, 50), "outside the photograph$")],
)
def test_a_box_outside_the_photograph_is_unreadable(box: Any, words: str, tmp_path: Path) -> None:
    scene(*SIZE).save(tmp_path / "x.png")
    with pytest.raises(UnreadableError, match=words):
        decode(tmp_path / "x.png", View(16, crop=crop_of(box)))
    good, bad = inspect_photographs(tmp_path / "x.png", [view_of((0, 0, 320.5, 90)), view_of(box)])
    assert (good.problem, good.notes, good[1:3]) == ("", (), SIZE)  # half a pixel is a rounding
    assert "outside the photograph" in bad.problem
    (clipped,) = inspect_photographs(tmp_path / "x.png", [view_of((300, 5, 50, 50))])
    assert clipped.notes == ("its box reaches over the edge of the photograph and is clipped",)


def test_boxes_made_before_exif_rotation_are_told_with_the_option(tmp_path: Path) -> None:
    tag = Image.Exif()
    tag[274] = 6
    scene(*SIZE).save(tmp_path / "x.jpg", exif=tag)
    clipped, outside = inspect_photographs(tmp_path / "x.jpg", [view_of((150, 9, 80, 80)), view_of((250, 9, 60, 60))])
    for words in (*clipped.notes, outside.problem):
        assert "lies within it as it is stored, before EXIF rotation: import the source again with" in words
        assert "reid import --boxes-before-rotation" in words


def test_check_tells_corners_in_pixels_and_boxes_that_are_clipped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene(*SIZE).save(tmp_path / "a.jpg")
    known = {"split": "database"}
    write_rows(
        tmp_path,
        {"bbox": "150,20,300,180", "identity": "Mira", **known},
        {"bbox": "10,20,150,150", "identity": "Ada", **known},
    )
    assert cli.main(["check", str(tmp_path)]) == 2
    told = capsys.readouterr()
    assert "row 2, column bbox: expected x,y,w,h, but all boxes lie within their photographs only as" in told.out
    write_rows(tmp_path, {"bbox": "150,20,300,10", "identity": "Mira", **known}, {"bbox": "0,90,90,9"})
    assert cli.main(["check", str(tmp_path)]) == 0
    assert "row 2: its box reaches over the edge of the photograph and is clipped" in capsys.readouterr().err
    assert not find_faults(read_rows(tmp_path))


@pytest.fixture
def herd(tmp_path: Path) -> Path:
    """A photograph with ten boxes, whose rows alternate with those of another photograph."""
    scene(1600, 1200).save(tmp_path / "a.jpg", quality=90)
    scene(640, 480).rotate(180).save(tmp_path / "b.jpg", quality=90)
    rows = []
    for number in range(10):
        rows.append({"bbox": f"{100 * number},{50 * number},{200 + 9 * number},300"})
        rows.append({"path": "b.jpg", "bbox": f"{10 * number},{20 * number},200,250"})
    return write_rows(tmp_path, *rows)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The files that are decoded."""
    found: list[Any] = []
    open_image = Image.open

    def counted(source: Any, formats: Any = None) -> Any:
        found.append(source)
        return open_image(source, formats=formats)

    monkeypatch.setattr(Image, "open", counted)
    return found


def test_a_photograph_with_ten_boxes_is_decoded_once(herd: Path, opened: list[Any], tmp_path: Path) -> None:
    catalogue = read_catalogue(herd)
    recipe = with_settings(PRESETS["keypoints"], {"keypoints.size": 120})
    (tmp_path / "store").mkdir()
    toy = PRESETS["toy"]
    for use in (
        lambda: extract_features(catalogue, open_extractors({"Lynx": herd}, None, recipe), "column", recipe, "testing"),
        lambda: decode_photographs(catalogue, toy, tmp_path / "store", Runtime(batch_size=3)),
        lambda: thumbnails(catalogue),
    ):
        opened.clear()
        use()
        assert len(opened) == 2


def test_boxes_that_are_opened_together_are_as_alone(herd: Path, tmp_path: Path) -> None:
    catalogue = read_catalogue(herd)
    views = views_of(catalogue, PRESETS["toy"])
    alone = [open_photograph(path, view) for path, view in zip(catalogue.paths, views, strict=True)]
    together = decode_photographs(catalogue, PRESETS["toy"], tmp_path, Runtime(batch_size=7)).pixels()
    assert (together == np.stack(alone).transpose(0, 3, 1, 2)).all()
    batches = photograph_batches(catalogue.paths, views, Runtime(batch_size=7), "testing")
    assert (np.concatenate([batch.pixels.numpy() for batch in batches]) == together).all()
    assert len(np.unique(together.reshape(20, -1), axis=0)) == 20


def test_one_bad_box_costs_its_row_alone(tmp_path: Path) -> None:
    scene(*SIZE).save(tmp_path / "a.jpg")
    crops = [crop_of((0, 0, 50, 50)), crop_of((900, 0, 50, 50)), crop_of((40, 40, 50, 50))]
    found = decode_all(tmp_path / "a.jpg", [View(16, crop=crop) for crop in crops])
    assert [isinstance(one, UnreadableError) for one in found] == [False, True, False]


def test_the_key_of_a_photograph_names_its_box_and_margin(tmp_path: Path) -> None:
    scene(*SIZE).save(tmp_path / "a.jpg")
    views = [
        View(16),
        *(View(16, crop=crop_of(box, margin=margin)) for box in ((0, 0, 9, 9), (0, 0, 9, 8)) for margin in (0, 0.1)),
    ]
    digests = photograph_digests([tmp_path / "a.jpg"] * len(views), views)
    assert len(set(digests)) == len(views)
    assert "crop" not in digests[0]  # as before there were boxes
