"""What each importer makes of a file of its format, and what it says of bad ones."""

import json
import math
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sources import detection, draw, draw_all, imported, megadetector, refusal, rows_of, write_csv, write_json

from reid.data.catalogue import find_cell_faults, read_rows
from reid.formats import json_stream
from reid.formats.boxes import Frame, as_upright
from reid.formats.found import SHARES
from reid.formats.importing import FORMATS, READERS, as_dataset
from reid.formats.json_stream import read_items, read_members


@pytest.fixture
def cams(tmp_path: Path) -> Path:
    draw_all(tmp_path / "cams", ["A/1.jpg", "A/2.jpg", "B/1.jpg"])
    return tmp_path / "cams"


def test_every_format_is_named_and_explained() -> None:
    assert list(READERS) == list(FORMATS)


# folder per animal


def test_a_folder_per_animal(tmp_path: Path) -> None:
    source = tmp_path / "animals"
    draw(source / "Mira" / "a.jpg", taken="2024:05:03 07:03:09", shade=1)
    draw(source / "Mira" / "2024-06" / "b.jpg", shade=2)
    draw(source / "unknown" / "c.jpg", taken="0000:00:00 00:00:00", shade=3)
    draw(source / "later" / "d.jpg", taken="2024:07:01", shade=4)
    draw(source / "loose.jpg", shade=5)
    for rubbish in ("Mira/Thumbs.db", ".DS_Store", "Mira/._a.jpg", "Mira/notes.txt"):
        (source / rubbish).write_text("x")
    done = imported("folder", source, queries=("later",), dataset="Lynx")
    assert rows_of(done) == [
        {
            **{"image_id": "photographs/Mira/2024-06/b.jpg", "path": "photographs/Mira/2024-06/b.jpg"},
            **{"identity": "Mira", "split": "database", "dataset": "Lynx"},
            **{"encounter": "Mira/2024-06", "source": "folder"},
        },
        {
            **{"image_id": "photographs/Mira/a.jpg", "path": "photographs/Mira/a.jpg", "identity": "Mira"},
            **{"date": "2024-05-03 07:03:09", "split": "database", "dataset": "Lynx", "source": "folder"},
        },
        {
            **{"image_id": "photographs/later/d.jpg", "path": "photographs/later/d.jpg", "date": "2024-07-01"},
            **{"split": "query", "dataset": "Lynx", "source": "folder"},
        },
        {
            **{"image_id": "photographs/unknown/c.jpg", "path": "photographs/unknown/c.jpg"},
            **{"split": "query", "dataset": "Lynx", "source": "folder"},
        },
    ]
    assert done.dates == (2, 0, 2)
    assert sum(done.left_out.values()) == 5
    assert done.left_out["a photograph in no animal's folder (--queries . takes such as to be named)"] == 1
    loose = imported("folder", source, tmp_path / "more", queries=(".",))
    assert "photographs/loose.jpg" in set(loose.table["path"])
    assert "--queries nowhere: expected a folder in" in refusal("folder", source, queries=("nowhere",))


# MegaDetector's family


def test_megadetector(cams: Path) -> None:
    images: list[dict[str, Any]] = [
        {"file": "A\\1.jpg", "datetime": "2024:05:03 07:03:09", "detections": [
            detection([0.1, 0.2, 0.3, 0.4], classifications=[["7", 0.2], ["8", 0.7]]),
            detection([0.5, 0.5, 0.2, 0.2], 0.3),
            detection([0, 0, 0.1, 0.1], category="2"),
        ]},
        {"file": "A/2.jpg", "detections": []},
        {"file": "B/1.jpg", "failure": "Failure image access", "detections": None},
        {"file": "B/film.mp4", "detections": [detection([0, 0, 0.1, 0.1], frame_number=3)]},
    ]  # fmt: skip
    more = {"classification_categories": {"7": "fox", "8": "Lynx lynx"}}
    done = imported("megadetector", write_json(cams / "md.json", megadetector(images, **more)), min_confidence=0.2)
    first, second = rows_of(done)
    assert first == {
        **{"image_id": "photographs/A/1.jpg#1", "path": "photographs/A/1.jpg", "date": "2024:05:03 07:03:09"},
        **{"species": "Lynx lynx", "split": "query", "dataset": "Lynx_lynx", "bbox": "0.1,0.2,0.3,0.4"},
        **{"bbox_unit": "shares", "detection_confidence": "0.9", "source": "megadetector"},
    }
    assert (second["image_id"], second["bbox"], second["dataset"]) == (
        "photographs/A/1.jpg#2",
        "0.5,0.5,0.2,0.2",
        "md",
    )
    assert done.left_out == {
        "a detection of the category person": 1,
        "a detection in a video": 1,
        "a photograph without an animal (--keep-empty keeps such)": 2,
        "a photograph that the detector failed on (Failure image access)": 1,
    }
    kept = imported("megadetector", cams / "md.json", cams.parent / "kept", keep_empty=True)
    assert [row["path"] for row in rows_of(kept) if "bbox" not in row] == ["photographs/A/2.jpg"]
    few = imported("megadetector", cams / "md.json", cams.parent / "few", min_confidence=0.5)
    assert (len(few.new_rows), few.left_out["a detection below --min-confidence"]) == (1, 1)


@pytest.mark.parametrize("version", ["1.0", "1.5", 1.3, "3.0", None])
def test_versions_of_megadetectors_format_that_are_read(cams: Path, version: Any) -> None:
    content = megadetector([{"file": "A/1.jpg", "detections": [detection([0.1, 0.2, 0.3, 0.4])]}], version)
    if version is None:  # PytorchWildlife's writer for Timelapse
        content |= {"info": {"detector": "megadetector_v5"}, "detection_categories": {"0": "animal"}}
        content["images"][0]["detections"][0]["category"] = "0"
    assert len(imported("megadetector", write_json(cams / "md.json", content)).new_rows) == 1


def test_a_version_that_nobody_knows_is_refused(cams: Path) -> None:
    content = megadetector([{"file": "A/1.jpg", "detections": []}], "9.0")
    words = refusal("megadetector", write_json(cams / "md.json", content))
    assert "expected the format versions 1.0, 1.1" in words
    assert "found '9.0'; update the kit" in words
    del content["detection_categories"]
    content["info"] = {}
    assert "a COCO file is read with `reid import coco`" in refusal(
        "megadetector", write_json(cams / "md.json", content)
    )
    assert "expected MegaDetector's member images" in refusal("megadetector", write_json(cams / "md.json", {"a": 1}))


def test_pytorchwildlifes_other_writers(cams: Path) -> None:
    plain = {
        "annotations": [
            {"img_id": "A/1.jpg", "bbox": [[4, 5, 14, 25], [0, 0, 9, 9]], "category": [0, 1], "confidence": [0.9, 0.8]},
            {"img_id": "A/2.jpg", "bbox": [], "category": [], "confidence": []},
        ],
        "categories": {"0": "animal", "1": "person"},
    }
    done = imported("megadetector", write_json(cams / "pw.json", plain))
    (row,) = rows_of(done)
    assert (row["bbox"], row["bbox_unit"], row["path"]) == ("4,5,10,20", "pixels", "photographs/A/1.jpg")
    assert done.layout == ("pixels", True)
    classified = {
        "annotations": [
            {"img_id": "A/1.jpg", "bbox": [[4, 5, 14, 25]], "det_category": [0], "det_confidence": [0.9],
             "clf_category": [1], "clf_confidence": [0.6]},
            {"img_id": "A/2.jpg", "bbox": [[4, 5, 14, 25], [0, 0, 9, 9]], "det_category": [0, 0],
             "det_confidence": [0.9, 0.2], "clf_category": [1], "clf_confidence": [0.6]},
        ],
        "det_categories": {"0": "animal"},
        "clf_categories": {"1": "lynx"},
    }  # fmt: skip
    done = imported("megadetector", write_json(cams / "pw2.json", classified), cams.parent / "more")
    assert [row.get("species", "") for row in rows_of(done)] == ["lynx", "", ""]  # of which of two, nobody says


# COCO


def coco(**more: Any) -> dict[str, Any]:
    return {
        "images": [
            {"id": "i1", "file_name": "A/1.jpg", "width": 40, "height": 30, "datetime": "2024-05-03 07:03:09",
             "location": "ridge", "seq_id": "s1"},
            {"id": 2, "file_name": "A/2.jpg"},
            {"id": 3, "file_name": "B/1.jpg", "date_captured": "NA"},
        ],
        "annotations": [
            {"id": "a1", "image_id": "i1", "category_id": 1, "bbox": [4, 5, 10, 20], "individual_id": "Mira",
             "viewpoint": "left"},
            {"id": "a2", "image_id": "i1", "category_id": 1, "bbox": [20, 5, 10, 4], "theta": math.pi / 2,
             "name": "____"},
            {"id": "a3", "image_id": 2, "category_id": 1, "identity": 7},
            {"id": "a4", "image_id": 3, "category_id": 0},
            {"id": "a5", "image_id": 99, "category_id": 1},
        ],
        "categories": [{"id": 0, "name": "empty"}, {"id": 1, "name": "lynx"}],
    } | more  # fmt: skip


def test_coco_and_its_relatives(cams: Path) -> None:
    done = imported("coco", write_json(cams / "coco.json", coco()))
    first, second, third = rows_of(done)
    assert first == {
        **{"image_id": "a1", "identity": "Mira", "path": "photographs/A/1.jpg", "date": "2024-05-03 07:03:09"},
        **{"orientation": "left", "species": "lynx", "split": "database", "dataset": "lynx", "place": "ridge"},
        **{"encounter": "s1", "bbox": "4,5,10,20", "bbox_unit": "pixels", "source": "coco", "source_id": "a1"},
    }
    assert (second["bbox"], second["split"], "identity" in second) == ("23,2,4,10", "query", False)
    assert (third["identity"], third["image_id"], "bbox" in third) == ("7", "a3", False)
    assert done.left_out == {
        "an annotation of the category empty": 1,
        "an annotation of an image that is not in the file": 1,
        "a photograph without an animal (--keep-empty keeps such)": 1,
    }
    box = {"image_id": 2, "bbox": [4, 5, 10, 20]}
    detected = [box | {"id": number, "category_id": number, "score": 0.3 * number} for number in (1, 2, 3)]
    categories = [{"id": number, "name": name} for number, name in enumerate(("person", "animal", "animal"), 1)]
    content = coco(annotations=detected, categories=categories)  # as MegaDetector's tools convert its results
    done = imported("coco", write_json(cams / "md.json", content), cams.parent / "md", min_confidence=0.7)
    assert [(row["detection_confidence"], "species" in row) for row in rows_of(done)] == [("0.9", False)]
    assert (
        done.left_out["an annotation of the category person"]
        == done.left_out["a detection below --min-confidence"]
        == 1
    )
    words = refusal("coco", write_json(cams / "no.json", {"images": []}))
    assert "expected COCO's images and annotations, found images; missing: annotations" in words


# tables


def test_wildlife_datasets_and_wildlifereid10k(cams: Path) -> None:
    rows = [
        {"image_id": 1, "identity": "AB_Mira", "path": "A\\1.jpg", "date": "2024-05-03", "orientation": "left",
         "species": "['lynx']", "bbox": "[4, 5, 10, 20]", "split": "train", "dataset": "AB", "cluster_id": 5},
        {"image_id": 2, "identity": "unknown", "path": "A/2.jpg", "date": "", "orientation": "unknown",
         "species": "lynx", "bbox": "", "split": "train", "dataset": "AB", "cluster_id": ""},
        {"image_id": 3, "identity": "AB_Tarn", "path": "B/1.jpg", "date": "", "orientation": "", "species": "lynx",
         "bbox": "", "split": "test", "dataset": "AB", "cluster_id": ""},
    ]  # fmt: skip
    write_csv(cams / "metadata.csv", rows)
    done = imported("wildlife-datasets", cams)
    first, second, third = rows_of(done)
    assert first == {
        **{"image_id": "1", "identity": "AB_Mira", "path": "photographs/A/1.jpg", "date": "2024-05-03"},
        **{"orientation": "left", "species": "lynx", "split": "train", "dataset": "AB", "bbox": "4,5,10,20"},
        **{"bbox_unit": "pixels", "cluster_id": "5", "source": "wildlife-datasets", "source_id": "1"},
    }
    assert (second["split"], "identity" in second) == ("query", False)
    assert (third["split"], third["identity"]) == ("test", "AB_Tarn")
    constant = [{name: row[name] for name in ("identity", "path")} for row in rows]  # no ids, no constant columns
    done = imported("wildlife-datasets", write_csv(cams / "few.csv", constant), cams.parent / "few")
    assert rows_of(done)[0]["image_id"] == "photographs/A/1.jpg"
    assert rows_of(done)[0]["dataset"] == "few"


def test_camtrap_dp(cams: Path) -> None:
    write_package(cams)
    done = imported("camtrap-dp", cams)
    first, second, third = rows_of(done)
    assert first == {
        **{"image_id": "o1", "identity": "Mira", "path": "photographs/A/1.jpg", "date": "2024-05-03T07:03:09+0200"},
        **{"species": "Lynx lynx", "split": "database", "dataset": "Lynx_lynx", "place": "ridge", "encounter": "e1"},
        **{"bbox": "0.1,0.2,0.3,0.4", "bbox_unit": "shares", "latitude": "47.1", "longitude": "8.2"},
        **{"probability": "0.8", "classified_by": "Ana", "source": "camtrap-dp", "source_id": "o1"},
    }
    assert (second["image_id"], second["path"], second["split"]) == ("o2-m2", "photographs/A/2.jpg", "query")
    assert third["image_id"] == "o2-m3"
    assert done.left_out == {
        "an observation of the type blank": 1,
        "an observation of an event whose media the package does not name": 1,
    }
    both = {**OBSERVATION, "observationID": "o5", "observationLevel": "event", "eventID": "e2", "mediaID": ""}
    both |= {"eventStart": "2024-05-04T06:00:00+0200", "eventEnd": "2024-05-04T08:00:00+0200"}
    write_package(cams, [both])
    assert imported("camtrap-dp", cams, cams.parent / "more").left_out[
        "an observation of an event with several: which photograph shows which is not said"
    ] == 2  # fmt: skip
    package = json.loads((cams / "datapackage.json").read_text())
    write_json(cams / "datapackage.json", package | {"profile": package["profile"].replace("1.0.2", "0.1.6")})
    assert "expected the profile of Camtrap DP 1.0, 1.0.1, 1.0.2, found" in refusal("camtrap-dp", cams)
    package["resources"][0]["path"] = "../deployments.csv"
    assert "expected tables beside it" in refusal("camtrap-dp", write_json(cams / "datapackage.json", package))


OBSERVATION = {
    **{"observationID": "o1", "deploymentID": "d1", "mediaID": "m1", "eventID": "e1"},
    **{"eventStart": "2024-05-03T07:03:09+0200", "eventEnd": "2024-05-03T07:03:09+0200"},
    **{"observationLevel": "media", "observationType": "animal", "scientificName": "Lynx lynx", "individualID": "Mira"},
    **{"bboxX": 0.1, "bboxY": 0.2, "bboxWidth": 0.3, "bboxHeight": 0.4, "classifiedBy": "Ana"},
    **{"classificationProbability": 0.8},
}


def write_package(folder: Path, more: list[dict[str, Any]] | None = None) -> None:
    """A package as the documentation of Camtrap DP 1.0.2 describes it, without the columns that need not be there."""
    profile = "https://raw.githubusercontent.com/tdwg/camtrap-dp/1.0.2/camtrap-dp-profile.json"
    resources = [{"name": name, "path": f"{name}.csv"} for name in ("deployments", "media", "observations")]
    write_json(folder / "datapackage.json", {"profile": profile, "resources": resources})
    write_csv(
        folder / "deployments.csv",
        [{"deploymentID": "d1", "locationName": "ridge", "latitude": 47.1, "longitude": 8.2}],
    )
    times = {"m1": "2024-05-03T07:03:09+0200", "m2": "2024-05-04T07:00:00+0200", "m3": "2024-05-04T05:30:00Z"}
    files = {"m1": "A/1.jpg", "m2": "A/2.jpg", "m3": "B/1.jpg"}
    write_csv(
        folder / "media.csv",
        [{"mediaID": name, "deploymentID": "d1", "timestamp": times[name], "filePath": files[name]} for name in files],
    )
    event = {"observationID": "o2", "mediaID": "", "eventID": "e2", "observationLevel": "event", "individualID": ""}
    event |= {"eventStart": "2024-05-04T06:00:00+0200", "eventEnd": "2024-05-04T08:00:00+0200"}
    event |= {"bboxX": "", "bboxY": "", "bboxWidth": "", "bboxHeight": ""}
    blank = OBSERVATION | {"observationID": "o3", "observationType": "blank"}
    elsewhen = event | {"observationID": "o4", "eventID": "e9", "eventStart": "2023-01-01T00:00:00Z"}
    elsewhen |= {"eventEnd": "2023-01-02T00:00:00Z"}
    write_csv(
        folder / "observations.csv",
        [OBSERVATION, OBSERVATION | event, blank, OBSERVATION | elsewhen, *(more or [])],
    )


WILDBOOK: list[dict[str, Any]] = [
    {
        **{"Encounter.encounterID": "enc1", "MarkedIndividual.individualID": "Mira", "Encounter.genus": "Lynx"},
        **{"Encounter.specificEpithet": "lynx", "Encounter.year": 2024, "Encounter.month": 5, "Encounter.day": 3},
        **{"Encounter.locationID": "ridge", "Encounter.mediaAsset0": "1.jpg", "Annotation0.bbox": "[4, 5, 10, 20]"},
        **{"Annotation0.ViewPoint": "left", "Encounter.mediaAsset1": "2.jpg", "Annotation1.bbox": "null"},
        **{"Annotation1.ViewPoint": "right"},
    },
    {
        **{"Encounter.encounterID": "enc2", "MarkedIndividual.individualID": "NA", "Encounter.genus": "Lynx"},
        **{"Encounter.specificEpithet": "lynx", "Encounter.year": 2024, "Encounter.month": "", "Encounter.day": ""},
        **{"Encounter.locationID": "", "Encounter.mediaAsset0": "3.jpg", "Annotation0.bbox": ""},
        **{"Encounter.mediaAsset1": ""},
        **{"Annotation0.ViewPoint": "", "Annotation1.bbox": "", "Annotation1.ViewPoint": ""},
    },
]  # fmt: skip


def write_wildbook_sheet(path: Path) -> Path:
    openpyxl = pytest.importorskip("openpyxl", reason="openpyxl is not installed (pip install -e '.[xlsx]')")
    book = openpyxl.Workbook()
    for cells in (list(WILDBOOK[0]), *([row[name] for name in WILDBOOK[0]] for row in WILDBOOK)):
        book.active.append([None if cell == "" else cell for cell in cells])
    book.save(path)
    return path


@pytest.mark.parametrize(
    "write",
    [lambda path: write_csv(path.with_suffix(".csv"), WILDBOOK), write_wildbook_sheet],
    ids=["csv", "xlsx"],
)
def test_wildbook(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    draw_all(tmp_path / "sheet", ["1.jpg", "2.jpg", "3.jpg"])
    done = imported("wildbook", write(tmp_path / "sheet" / "export.xlsx"))
    first, second, third = rows_of(done)
    assert first == {
        **{"image_id": "enc1-0", "identity": "Mira", "path": "photographs/1.jpg", "date": "2024-05-03"},
        **{"orientation": "left", "species": "Lynx lynx", "split": "database", "dataset": "Lynx_lynx"},
        **{"place": "ridge", "encounter": "enc1", "bbox": "4,5,10,20", "bbox_unit": "pixels"},
        **{"source": "wildbook", "source_id": "enc1-0"},
    }
    assert (second["image_id"], second["orientation"], "bbox" in second) == ("enc1-1", "right", False)
    assert (third["date"], third["split"], "identity" in third) == ("2024", "query", False)
    words = refusal("wildbook", write_csv(tmp_path / "sheet" / "no.csv", [{"a": 1}]))
    assert "expected the columns Encounter.mediaAsset0" in words


def test_a_spreadsheet_without_openpyxl_is_refused_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "openpyxl", None)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "export.xlsx").write_bytes(b"PK")
    assert "reading .xlsx needs openpyxl; `pip install openpyxl`" in refusal("wildbook", tmp_path / "a" / "export.xlsx")


def animl_row(path: str, category: int, box: list[Any], **more: Any) -> dict[str, Any]:
    cells = dict(zip(("bbox_x", "bbox_y", "bbox_w", "bbox_h"), box or [""] * 4, strict=True))
    times = {"createdate": "", "filemodifydate": "2025-01-01 00:00:00", "datetime": "2025-01-01 00:00:00"}
    return {"filepath": path, **times, "category": category, "conf": 0.9, **cells, "prediction": "lynx", **more}


def test_animl(cams: Path) -> None:
    rows = [
        animl_row(str(cams / "A" / "1.jpg"), 1, [0.1, 0.2, 0.3, 0.4], createdate="2024-05-03 07:03:09"),
        animl_row(str(cams / "A" / "2.jpg"), 0, [], prediction="empty"),
        animl_row(str(cams / "B" / "1.jpg"), 2, [0.1, 0.2, 0.3, 0.4], prediction="human"),
        animl_row(str(cams / "B" / "1.jpg"), 1, [0.5, 0.2, 0.3, 0.4]),
    ]
    done = imported("animl", write_csv(cams / "manifest.csv", rows))
    first, second = rows_of(done)
    assert (first["path"], first["date"], first["bbox"]) == (
        "photographs/A/1.jpg",
        "2024-05-03 07:03:09",
        "0.1,0.2,0.3,0.4",
    )
    assert (second["path"], "date" in second) == ("photographs/B/1.jpg", False)  # the file's time is no date
    assert done.left_out == {
        "a photograph without an animal (--keep-empty keeps such)": 1,
        "a detection of the category person": 1,
    }
    older = [{"filepath": "A/1.jpg", "bbox1": 0.1, "bbox2": 0.2, "bbox3": 0.3, "bbox4": 0.4, "datetime": "2024-05-03"}]
    done = imported("animl", write_csv(cams / "older.csv", older), cams.parent / "older")
    assert rows_of(done)[0]["date"] == "2024-05-03"
    assert "expected animl's columns filepath and bbox_x" in refusal("animl", write_csv(cams / "no.csv", [{"a": 1}]))


def test_matchypatchy(cams: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"id": 4, "filepath": "A/1.jpg", "timestamp": "2024-05-03 07:03:09", "viewpoint": "1.0", "individual": "Mira",
         "species": "lynx", "station": "ridge", "frame": 0, "bbox_x": 0.1, "bbox_y": 0.2, "bbox_w": 0.3, "bbox_h": 0.4},
        {"id": 5, "filepath": "A/1.jpg", "timestamp": "2024-05-03 07:03:09", "viewpoint": "", "individual": "",
         "species": "lynx", "station": "ridge", "frame": "", "bbox_x": 0.5, "bbox_y": 0.2, "bbox_w": 0.3,
         "bbox_h": 0.4},
        {"id": 6, "filepath": "B/1.jpg", "timestamp": "", "viewpoint": "0", "individual": "",
         "species": "lynx", "station": "ridge", "frame": 30, "bbox_x": 0.5, "bbox_y": 0.2, "bbox_w": 0.3,
         "bbox_h": 0.4},
    ]  # fmt: skip
    done = imported("matchypatchy", write_csv(cams / "rois.csv", rows))
    first, second = rows_of(done)
    assert first == {
        **{"image_id": "4", "identity": "Mira", "path": "photographs/A/1.jpg", "date": "2024-05-03 07:03:09"},
        **{"orientation": "right", "species": "lynx", "split": "database", "dataset": "lynx", "place": "ridge"},
        **{"bbox": "0.1,0.2,0.3,0.4", "bbox_unit": "shares", "source": "matchypatchy", "source_id": "4"},
    }
    assert (second["image_id"], second["split"]) == ("5", "query")
    assert done.left_out == {"a region in a video": 1}


def test_timelapse_asks_for_the_columns_of_the_template(cams: Path) -> None:
    rows = [
        {
            "File": "1.jpg",
            "RelativePath": "A",
            "DateTime": "2024-05-03 07:03:09",
            "DeleteFlag": "false",
            "Animal": "Mira",
        },
        {"File": "2.jpg", "RelativePath": "A", "DateTime": "", "DeleteFlag": "true", "Animal": "Tarn"},
        {"File": "1.jpg", "RelativePath": "B\\", "DateTime": "", "DeleteFlag": "false", "Animal": ""},
    ]
    path = write_csv(cams / "ImageData.csv", rows)
    assert "expected --map identity=COLUMN" in (words := refusal("timelapse", path))
    assert "yours are Animal" in words
    assert "--map identity=Name: expected a column of the source" in refusal(
        "timelapse", path, columns={"identity": "Name"}
    )
    done = imported("timelapse", path, columns={"identity": "Animal"}, dataset="Lynx")
    first, second = rows_of(done)
    assert (first["identity"], first["path"], first["date"]) == ("Mira", "photographs/A/1.jpg", "2024-05-03 07:03:09")
    assert (second["path"], second["split"]) == ("photographs/B/1.jpg", "query")
    assert done.left_out == {"a photograph that is marked for deletion": 1}


# bad input


BAD_BOXES: dict[str, list[Any]] = {
    "a box with text in place of a number": [0.1, "wide", 0.3, 0.4],
    "a box that is not four numbers": [0.1, 0.2, 0.3],
    "a box with NaN or infinity": [0.1, math.nan, 0.3, 0.4],
    "a box of zero or negative size": [0.1, 0.2, 0, 0.4],
    "a box outside the photograph": [1.01, 0.2, 0.02, 0.4],
}


def test_faulty_boxes_cost_their_rows_and_are_counted(cams: Path) -> None:
    boxes = [*BAD_BOXES.values(), [0.1, 0.2, -0.3, 0.4], [0.9, 0.8, 0.3, 0.4], [0.1, 0.2, 0.3, 0.4]]
    content = megadetector([{"file": "A/1.jpg", "detections": [detection(box) for box in boxes]}])
    done = imported("megadetector", write_json(cams / "md.json", content), box_layout="xywh")
    assert done.left_out == dict.fromkeys(BAD_BOXES, 1) | {"a box of zero or negative size": 2}
    assert [row["bbox"] for row in rows_of(done)] == ["0.9,0.8,0.1,0.2", "0.1,0.2,0.3,0.4"]
    assert done.boxed.clipped == 1
    assert done.examples["a box with NaN or infinity"] == ["images[0].detections[2]"]
    assert find_cell_faults(read_rows(cams.parent / "data")) == []


def test_corners_and_pixels_where_the_format_says_otherwise_are_refused(cams: Path) -> None:
    corners = [{"file": "A/1.jpg", "detections": [detection([0.4, 0.5, 0.9, 0.9])]}]
    assert "say --box-layout xyxy" in refusal("megadetector", write_json(cams / "a.json", megadetector(corners)))
    done = imported("megadetector", cams / "a.json", box_layout="xyxy")
    assert rows_of(done)[0]["bbox"] == "0.4,0.5,0.5,0.4"
    pixels = [{"file": "A/1.jpg", "detections": [detection([4, 5, 10, 20])]}]
    assert "say --box-unit pixels" in refusal("megadetector", write_json(cams / "b.json", megadetector(pixels)))
    done = imported("megadetector", cams / "b.json", cams.parent / "b", box_unit="pixels")
    assert (rows_of(done)[0]["bbox"], rows_of(done)[0]["bbox_unit"]) == ("4,5,10,20", "pixels")
    mixed = [{"file": "A/1.jpg", "detections": [detection([4, 5, 10, 20]), detection([0.1, 0.2, 0.3, 0.4])]}]
    words = refusal("megadetector", write_json(cams / "c.json", megadetector(mixed)))
    assert "expected one unit in the whole source" in words
    assert "images[0].detections[1]" in words


def test_boxes_before_exif_rotation_are_told_and_turned(tmp_path: Path) -> None:
    draw(tmp_path / "cams" / "1.jpg", size=(40, 30), orientation=6)
    annotation = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [30, 2, 8, 10], "individual_id": "Mira"}
    content = coco(images=[{"id": 1, "file_name": "1.jpg", "width": 40, "height": 30}], annotations=[annotation])
    path = write_json(
        tmp_path / "cams" / "coco.json",
        content | {"annotations": [annotation, annotation | {"id": 2, "bbox": [1, 2, 3, 4]}]},
    )
    told = imported("coco", path)
    assert (told.boxed.lying, told.left_out) == (1, {"a box outside the photograph": 1})
    turned = imported("coco", path, tmp_path / "turned", boxes_before_rotation=True)
    assert (turned.boxed.lying, turned.boxed.clipped) == (0, 0)
    assert [row["bbox"] for row in rows_of(turned)] == ["18,30,10,8", "24,1,4,3"]  # of a picture 30 wide and 40 high


WRITERS = {
    "MegaDetector": ({"format_version": "1.5", "detector": "md_v5a.0.0.pt"}, {1, 3, 6, 8}),
    "SpeciesNet": ({"format_version": "1.4", "detector": "converted_from_predictions_json"}, set(range(1, 9))),
    "PytorchWildlife": ({"detector": "megadetector_v5"}, {1}),
    "animl": ({"format_version": "3.0", "detector": "MegaDetector v5"}, {1}),
}
"""By tool, what it writes about itself, and which EXIF orientations it applies before it looks for animals."""


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_are_turned_where_their_detector_did_not_turn_the_photograph(
    writer: str, orientation: int, tmp_path: Path
) -> None:
    draw(tmp_path / "cams" / "1.jpg", size=(40, 30), orientation=orientation)
    info, turned = WRITERS[writer]
    box = (0.1, 0.2, 0.3, 0.4)
    content = megadetector([{"file": "1.jpg", "detections": [detection(list(box))]}], info=info)
    done = imported("megadetector", write_json(tmp_path / "cams" / "md.json", content))
    (row,) = rows_of(done)
    expected = box if orientation in turned else as_upright(box, SHARES, 0, Frame((40, 30), orientation), True)
    assert [float(number) for number in row["bbox"].split(",")] == pytest.approx(expected)
    assert done.boxed.turned == (orientation not in turned)


def test_tables_of_animl_and_pytorchwildlife_have_boxes_of_the_stored_picture(tmp_path: Path) -> None:
    draw(tmp_path / "cams" / "1.jpg", size=(40, 30), orientation=6)
    done = imported("animl", write_csv(tmp_path / "cams" / "a.csv", [animl_row("1.jpg", 1, [0.75, 0.1, 0.2, 0.5])]))
    assert rows_of(done)[0]["bbox"] == "0.4,0.75,0.5,0.2"
    one = {"img_id": "1.jpg", "bbox": [[30, 3, 38, 18]], "category": [0], "confidence": [0.9]}
    content = {"annotations": [one], "categories": {"0": "animal"}}
    done = imported("megadetector", write_json(tmp_path / "cams" / "pw.json", content), tmp_path / "other")
    assert rows_of(done)[0]["bbox"] == "12,30,15,8"


def test_absolute_paths_of_windows_are_found_below_a_root(cams: Path) -> None:
    names = ["C:\\Users\\Ana\\cams\\A\\1.jpg", "C:\\Users\\Ana\\cams\\B\\1.jpg", "C:\\Users\\Ana\\cams\\C\\9.jpg"]
    content = megadetector([{"file": name, "detections": [detection([0.1, 0.2, 0.3, 0.4])]} for name in names])
    path = write_json(cams.parent / "elsewhere" / "md.json", content)
    words = refusal("megadetector", path)
    assert "3 × an absolute path of Windows: name the folder that holds the photographs with --root" in words
    done = imported("megadetector", path, root=cams)
    assert [row["path"] for row in rows_of(done)] == ["photographs/A/1.jpg", "photographs/B/1.jpg"]
    assert done.left_out == {
        f"a photograph that is not below {cams}: name the folder that holds the photographs with --root": 1
    }
    assert "--root nowhere: expected the folder" in refusal("megadetector", path, root=Path("nowhere"))


def test_urls_other_files_and_ways_out_are_left_out_in_words(cams: Path) -> None:
    (cams.parent / "secret.jpg").write_bytes((cams / "A" / "1.jpg").read_bytes())
    names = ["https://example.org/1.jpg", "../secret.jpg", "A/notes.txt", "A/9.jpg"]
    images = [{"file": name, "detections": [detection([0.1, 0.2, 0.3, 0.4])]} for name in names]
    words = refusal("megadetector", write_json(cams / "md.json", megadetector(images)))
    assert "a photograph named by a URL: download it, and name the folder with --root" in words
    images.append({"file": "A/1.jpg", "detections": [detection([0.1, 0.2, 0.3, 0.4])]})
    done = imported("megadetector", write_json(cams / "md.json", megadetector(images)))
    assert len(done.new_rows) == 1
    assert done.left_out == {
        "a photograph named by a URL: download it, and name the folder with --root": 1,
        "a path that leads out of its folder: name one further up with --root": 1,
        "no photograph by its ending": 1,
        f"a photograph that is not below {cams}: name the folder that holds the photographs with --root": 1,
    }


@pytest.mark.parametrize("end", [0, 1, 40, 200, -1])
def test_a_json_file_that_was_cut_short_is_refused(cams: Path, end: int) -> None:
    images = [{"file": "A/1.jpg", "detections": [detection([0.1, 0.2, 0.3, 0.4])]}] * 3
    path = write_json(cams / "md.json", megadetector(images))
    path.write_bytes(path.read_bytes()[:end])
    assert "cut short" in refusal("megadetector", path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[1, 2]", r"expected a JSON object, which begins with {, found '['"),
        (b'{"images": [{"file": "a" "b"}]}', "at character 26 it can't be read (Expecting ',' delimiter)"),
        (b'{"images": {"a": 1}, "detection_categories": {}}', "expected a list as 'images'"),
        ('{"images": "é"}'.encode("latin-1"), "expected JSON in UTF-8, found other bytes"),
        (b'{"images": ' + b"[" * 100_000, "nested too deeply"),
    ],
)
def test_other_faults_of_json_are_told_with_their_place(cams: Path, content: bytes, words: str) -> None:
    (cams / "md.json").write_bytes(content)
    assert words in refusal("megadetector", cams / "md.json")


def test_tables_that_are_cut_short_or_written_otherwise_are_refused(cams: Path) -> None:
    path = write_csv(cams / "t.csv", [{"identity": "Mira", "path": "A/1.jpg"}])
    whole = path.read_bytes()
    for content, words in [
        (whole[:-10], "row 2: expected 2 cells as in the first line, found 1; the file may have been cut short"),
        (whole + b'"Tarn', "it may have been cut short: copy it again"),
        (whole.replace(b"Mira", b"Z\xfcri"), 'save it as "CSV UTF-8"'),
        (whole.decode().encode("utf-16"), 'save it as "CSV UTF-8"'),
        (whole.replace(b",", b";"), "Separate the columns with commas"),
        (b"", "found none; missing: identity, path"),
    ]:
        path.write_bytes(content)
        assert words in refusal("wildlife-datasets", path)


@pytest.mark.parametrize("source_format", sorted(FORMATS))
def test_a_source_that_is_not_there_or_empty_is_refused(tmp_path: Path, source_format: str) -> None:
    assert "expected a file or folder to import, found none" in refusal(source_format, tmp_path / "none" / "a.json")
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "empty.json").write_bytes(b"")
    assert "expected" in refusal(source_format, tmp_path / "s" / "empty.json")
    assert "expected" in refusal(source_format, tmp_path / "s")


def test_names_of_datasets_may_hold_what_a_file_may_be_called() -> None:
    assert [as_dataset(words) for words in ("Lynx lynx", " 狼 ", "a/b", "..")] == ["Lynx_lynx", "", "a_b", ""]


# large files


@pytest.mark.parametrize("chunk", [1, 2, 7, 61, 1 << 20])
def test_items_are_read_as_json_reads_them_whole(tmp_path: Path, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever a chunk ends, within numbers, words and texts."""
    monkeypatch.setattr(json_stream, "CHUNK", chunk)
    items = [
        None,
        True,
        -1.5e3,
        12345678901234567890,
        'ä\\" ]}',
        [],
        {},
        [1, [2, {"a": [3]}]],
        {"b": {"c": "}"}},
        math.inf,
    ]
    content = {"a": 1, "images": items * 30, "info": {"x": [1, 2]}, "empty": [], "z": 12}
    path = write_json(tmp_path / "x.json", content)
    assert [item for _, item in read_items(path, "images")] == content["images"]
    assert read_members(path, ("images",)) == content | {"images": len(items) * 30}
    path.write_text(json.dumps(content, indent=3).replace("\n", "\r\n"))
    assert [item for _, item in read_items(path, "images")] == content["images"]


def test_a_hundred_thousand_detections_take_memory_for_what_is_kept_alone(cams: Path) -> None:
    """Of 100,000 detections 10 are kept; docs/formats.md says what more of them take."""
    poor = [detection([0.1, 0.2, 0.3, 0.4], 0.01)] * 10
    images = [{"file": f"A/{place}.jpg", "detections": poor} for place in range(10_000)]
    images += [{"file": "A/1.jpg", "detections": [detection([place / 100, 0.2, 0.3, 0.4]) for place in range(10)]}]
    path = write_json(cams / "md.json", megadetector(images))
    assert path.stat().st_size > 6e6
    del images
    tracemalloc.start()
    done = imported("megadetector", path, min_confidence=0.5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(done.new_rows) == 10
    assert done.left_out["a detection below --min-confidence"] == 100_000
    assert peak < 12e6
