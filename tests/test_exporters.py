"""What the exporters write: names, who says so, how sure that is; and what they refuse."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sources import draw, write_csv

from reid import cli
from reid.errors import InputError
from reid.formats.export_choices import ExportChoices
from reid.formats.exporting import EXPORT_FORMATS, WRITERS, export_names
from reid.formats.named import read_named

ROW = {
    **{"image_id": "1", "identity": "Mira", "path": "a/1.jpg", "date": "2024-05-03 07:03:09", "orientation": "left"},
    **{"species": "Lynx lynx", "split": "database", "dataset": "Lynx", "place": "ridge", "encounter": ""},
    **{"bbox": "4,5,10,20", "bbox_unit": "pixels", "latitude": "47.1", "longitude": "8.2"},
}
BOX = "20,5,10,20"
ROWS = [
    ROW,
    ROW | {"image_id": "2", "identity": "Tarn", "path": "a/2.jpg", "date": "2024-05-20 18:30:00", "bbox": ""},
    ROW | {"image_id": "3", "identity": "", "split": "query", "path": "a/5.jpg", "orientation": "right", "bbox": BOX},
    ROW | {"image_id": "4", "identity": "", "split": "query", "path": "a/3.jpg", "date": "2024-05-09 05:00"},
    ROW | {"image_id": "5", "identity": "", "split": "query", "path": "a/4.jpg", "date": "2024-06-01", "place": "ford"},
]  # fmt: skip


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for shade, name in enumerate(("1", "2", "3", "4", "5")):
        draw(tmp_path / "data" / "a" / f"{name}.jpg", shade=shade, orientation=6 if name == "3" else 0, size=(40, 30))
    write_csv(tmp_path / "data" / "metadata.csv", [row | {"bbox_unit": "pixels" * bool(row["bbox"])} for row in ROWS])
    return tmp_path / "data"


MATCH = {"dataset": "Lynx", "rank": 1, "candidate": "Mira", "candidate_image_id": "1", "dissimilarity": 0.2}
MATCH |= {"probability": 0.9, "threshold": 0.5, "answer": "Mira", "flags": ""}


@pytest.fixture
def answers(data: Path) -> Path:
    """Photographs 3 and 4 are said to show Mira, 5 somebody new."""
    given = {"3": "Mira", "4": "Mira", "5": "new_individual"}
    path = write_csv(data.parent / "answers.csv", [{"image_id": name, "identity": given[name]} for name in given])
    matches = [MATCH | {"image_id": name, "answer": given[name], "probability": 0.5 + int(name) / 10} for name in given]
    first = ("image_id", *MATCH)
    write_csv(data.parent / "answers.matches.csv", [{name: row[name] for name in first} for row in matches])
    return path


@pytest.fixture
def pairs(data: Path) -> Path:
    """Ana says that photograph 4 is Tarn's, and that 3 is Mira's."""
    rows = [("2", "4", "same", "Ana"), ("3", "1", "same", "Ben"), ("3", "2", "different", "Ana")]
    names = ("image_id_a", "image_id_b", "answer", "who")
    return write_csv(data / "pairs.csv", [dict(zip(names, row, strict=True)) for row in rows])


def test_every_format_is_named_and_explained() -> None:
    assert list(WRITERS) == list(EXPORT_FORMATS)


def named(*arguments: Any, **more: Any) -> list[tuple[Any, ...]]:
    table = read_named(*arguments, **more).table.fillna({"probability": -1})
    return list(
        table[["name", "method", "probability", "confirmed", "confirmed_by"]].itertuples(index=False, name=None)
    )


def test_names_come_from_the_table_from_people_and_from_answers(data: Path, answers: Path) -> None:
    known = [("Mira", "metadata", -1, True, ""), ("Tarn", "metadata", -1, True, "")]
    nobody = ("", "", -1, False, "")
    assert named(data) == [*known, nobody, nobody, nobody]
    predicted = [
        ("Mira", "predicted", pytest.approx(0.8), False, ""),
        ("Mira", "predicted", pytest.approx(0.9), False, ""),
    ]
    assert named(data, answers) == [*known, *predicted, nobody]


def test_what_a_person_said_counts_more_and_confirms(
    data: Path, answers: Path, pairs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _, _, third, fourth, fifth = named(data, answers)
    assert third == ("Mira", "predicted", pytest.approx(0.8), True, "Ben")
    assert fourth == ("Tarn", "person", -1, True, "Ana")
    assert fifth[0] == ""
    assert "1 names are others in pairs.csv than in the answers" in caplog.text
    assert [row[0] for row in named(data, answers, confirmed_only=True)] == ["Mira", "Tarn", "Mira", "Tarn", ""]
    pairs.unlink()
    assert [row[0] for row in named(data, answers, confirmed_only=True)] == ["Mira", "Tarn", "", "", ""]


def test_clusters_are_names_and_an_answer_among_their_photographs_confirms_them(data: Path) -> None:
    clusters = {"3": "cluster_Lynx_1", "4": "cluster_Lynx_2", "5": "cluster_Lynx_2"}
    path = write_csv(data.parent / "c.csv", [{"image_id": name, "cluster": clusters[name]} for name in clusters])
    more = [
        {"image_id": name, "dataset": "Lynx", "cluster": clusters[name], "identity": "Mira" * (name == "3"),
         "probability": 0.7 if name == "3" else "", "flags": ""}
        for name in clusters
    ]  # fmt: skip
    write_csv(data.parent / "c.clusters.csv", more)
    assert named(data, path)[2:] == [
        ("Mira", "discovered", 0.7, False, ""),
        ("cluster_Lynx_2", "discovered", -1, False, ""),
        ("cluster_Lynx_2", "discovered", -1, False, ""),
    ]
    write_csv(data / "pairs.csv", [{"image_id_a": "4", "image_id_b": "5", "answer": "same", "who": "Ana"}])
    assert [row[3:] for row in named(data, path)[2:]] == [(False, ""), (True, "Ana"), (True, "Ana")]
    write_csv(data.parent / "c.clusters.csv", [row | {"cluster": "cluster_Lynx_9"} for row in more])
    with pytest.raises(InputError, match=r"expected the clusters of c\.csv, found others"):
        read_named(data, path)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"image_id": "9", "identity": "Mira"}], "found '9', which is not"),
        ([{"image_id": "3", "identity": "Mira"}] * 2, "found '3' twice"),
        ([{"image_id": "3", "name": "Mira"}], "expected the columns image_id,identity of predict"),
    ],
)
def test_answers_that_belong_elsewhere_are_refused(data: Path, rows: list[dict[str, str]], words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_named(data, write_csv(data.parent / "a.csv", rows))


def export(kind: str, data: Path, out: str, answers: Path | None = None, **choices: Any) -> Path:
    export_names(kind, data, data.parent / out, answers, choices=ExportChoices(**choices))
    return data.parent / out


def test_coco(data: Path, answers: Path, pairs: Path) -> None:
    content = json.loads(export("coco", data, "coco.json", answers).read_text())
    assert [(each["file_name"], each["width"], each["height"]) for each in content["images"]] == [
        *[("a/1.jpg", 40, 30), ("a/2.jpg", 40, 30), ("a/5.jpg", 40, 30), ("a/3.jpg", 30, 40), ("a/4.jpg", 40, 30)],
    ]
    first, second, third, fourth, fifth = content["annotations"]
    assert (first["image_id"], first["bbox"], first["individual_id"], first["method"]) == (
        1,
        [4, 5, 10, 20],
        "Mira",
        "metadata",
    )
    assert (second["bbox"], second["whole_photograph"], second["area"]) == ([0, 0, 40, 30], True, 1200)
    assert (third["image_id"], third["probability"], third["confirmed"], third["confirmed_by"]) == (3, 0.8, True, "Ben")
    assert (fourth["individual_id"], fourth["method"], "probability" in fourth) == ("Tarn", "person", False)
    assert (fifth["individual_id"], fifth["confirmed"]) == ("", False)
    (data / "a" / "4.jpg").write_bytes(b"")
    _, done = export_names("coco", data, data.parent / "few.json")
    assert (done.rows, done.told) == (
        4,
        ["1 rows were left out: their photographs can't be opened, and COCO needs their size"],
    )


def test_camtrap_dp(data: Path, answers: Path, pairs: Path) -> None:
    out = export("camtrap-dp", data, "package", answers, zone="+02:00", contributor="Ana")
    package = json.loads((out / "datapackage.json").read_text())
    assert package["profile"].endswith("/camtrap-dp/1.0.2/camtrap-dp-profile.json")
    assert (package["temporal"], package["project"]["individualAnimals"]) == (
        {"start": "2024-05-03", "end": "2024-05-20"},
        True,
    )
    names = ("deployments", "media", "observations")
    tables = {name: pd.read_csv(out / f"{name}.csv", dtype=str, keep_default_na=False) for name in names}
    (place,) = tables["deployments"].to_dict("records")
    assert (place["deploymentID"], place["latitude"], place["deploymentStart"]) == (
        "ridge",
        "47.1",
        "2024-05-03T07:03:09+0200",
    )
    assert list(tables["media"]["mediaID"]) == ["a/1.jpg", "a/2.jpg", "a/5.jpg", "a/3.jpg"]
    first, second, third, fourth = tables["observations"].to_dict("records")  # the fifth has no time
    assert (first["individualID"], first["classificationMethod"], first["bboxX"]) == ("Mira", "human", "0.100000")
    assert (second["individualID"], second["bboxX"]) == ("Tarn", "")
    assert (third["classificationMethod"], third["classifiedBy"], third["classificationProbability"]) == (
        "human",
        "Ben",
        "0.8000",
    )
    assert (fourth["individualID"], fourth["classifiedBy"]) == ("Tarn", "Ana")
    assert (fourth["bboxX"], fourth["bboxY"]) == ("0.133333", "0.125000")  # of the picture as a viewer shows it
    assert set(tables["observations"]["mediaID"]) == set(tables["media"]["mediaID"])
    pairs.unlink()
    out = export("camtrap-dp", data, "package", answers, zone="+02:00")
    third = pd.read_csv(out / "observations.csv", dtype=str, keep_default_na=False).to_dict("records")[2]
    assert third["classificationMethod"] == "machine"
    assert third["classifiedBy"].startswith("wildlife-reid-kit ")


def test_what_camtrap_dp_requires_is_asked_for(data: Path) -> None:
    with pytest.raises(InputError, match=r"expected a time zone.*found '2024-05-03 07:03:09'; say --zone \+02:00"):
        export("camtrap-dp", data, "package")
    with pytest.raises(InputError, match="--zone noon: expected hours and minutes"):
        export("camtrap-dp", data, "package", zone="noon")
    write_csv(
        data / "metadata.csv",
        [{name: cell for name, cell in ROW.items() if name != "latitude"} | {"bbox": "", "bbox_unit": ""}],
    )
    with pytest.raises(InputError, match="place 'ridge': expected its latitude and longitude in degrees"):
        export("camtrap-dp", data, "package", zone="Z")
    places = write_csv(
        data.parent / "places.csv", [{"deploymentID": "ridge", "latitude": 46, "longitude": 7, "cameraID": "c1"}]
    )
    out = export("camtrap-dp", data, "package", zone="Z", deployments=places)
    (place,) = pd.read_csv(out / "deployments.csv", dtype=str).to_dict("records")
    assert (place["latitude"], place["cameraID"]) == ("46", "c1")
    write_csv(data / "metadata.csv", [ROW | {"date": "2024-05-03", "bbox": "", "bbox_unit": ""}])
    with pytest.raises(InputError, match="expected rows with a date that has a time, and a place"):
        export("camtrap-dp", data, "package", zone="Z")


def test_wildbooks_sheet(data: Path, answers: Path) -> None:
    rows = [
        row | {"encounter": "e1" * (row["image_id"] in "12"), "identity": row["identity"] and "Mira"} for row in ROWS
    ]
    write_csv(data / "metadata.csv", [row | {"date": ROW["date"]} if row["encounter"] else row for row in rows])
    sheet = pd.read_csv(export("wildbook", data, "sheet.csv", answers), dtype=str, keep_default_na=False)
    first, second, *_ = sheet.to_dict("records")
    assert len(sheet) == 4
    assert (first["Encounter.mediaAsset0"], first["Encounter.mediaAsset1"]) == ("1.jpg", "2.jpg")
    assert (first["Encounter.genus"], first["Encounter.specificEpithet"]) == ("Lynx", "lynx")
    assert (first["Encounter.year"], first["Encounter.month"], first["Encounter.day"]) == ("2024", "5", "3")
    assert (first["MarkedIndividual.individualID"], first["Annotation0.bbox"]) == ("Mira", "[4, 5, 10, 20]")
    assert second["Encounter.researcherComments"] == "name: predicted, probability 0.800, not confirmed by a person"
    pytest.importorskip("openpyxl", reason="openpyxl is not installed (pip install -e '.[xlsx]')")
    workbook = pd.read_excel(export("wildbook", data, "sheet.xlsx", answers), dtype=str, keep_default_na=False)
    assert workbook.equals(sheet)


def test_capture_histories(data: Path, answers: Path) -> None:
    out = export("capture-history", data, "histories", answers, occasion="week")
    assert (out / "captures.txt").read_text() == (
        "# session individual occasion detector\nLynx Mira 1 ridge\nLynx Tarn 3 ridge\n"
    )
    captures = pd.read_csv(out / "captures.csv")
    assert list(captures.columns) == [
        *("session", "individual", "occasion", "detector", "photographs", "probability", "confirmed"),
    ]
    assert captures["photographs"].tolist() == [3, 1]  # all three of Mira lie in the first week
    assert (out / "history.inp").read_text() == "/* Mira */ 100 1;\n/* Tarn */ 001 1;\n"
    assert (out / "history.csv").read_text() == "individual,1,2,3\nMira,1,0,0\nTarn,0,0,1\n"
    assert (out / "occasions.csv").read_text().splitlines()[1:] == [
        *("1,2024-05-03,2024-05-09", "2,2024-05-10,2024-05-16", "3,2024-05-17,2024-05-23"),
    ]


def slow_history(rows: list[tuple[str, str]], occasion: str) -> dict[str, str]:
    """By individual, a digit per occasion: every day from the first to the last is looked at."""
    days = pd.date_range(min(day for _, day in rows), max(day for _, day in rows))
    keys = {
        "day": lambda day: day,
        "week": lambda day: (day - days[0]).days // 7,
        "month": lambda day: (day.year, day.month),
    }
    order = list(dict.fromkeys(keys[occasion](day) for day in days))
    seen = {(name, keys[occasion](pd.Timestamp(day))) for name, day in rows}
    return {
        name: "".join(str(int((name, key) in seen)) for key in order) for name in sorted({name for name, _ in rows})
    }


@pytest.mark.parametrize("occasion", ["day", "week", "month"])
def test_histories_are_those_of_a_slow_count(data: Path, occasion: str) -> None:
    days = ["2023-12-31", "2024-01-01", "2024-01-06", "2024-01-07", "2024-02-29", "2024-03-01", "2024-03-01"]
    names = ["Mira", "Tarn", "Mira", "Old Tom", "Mira", "Tarn", "Mira"]
    seen = enumerate(zip(names, days, strict=True))
    rows = [
        ROW | {"image_id": str(place), "identity": name, "date": day, "path": f"a/{place}.jpg"}
        for place, (name, day) in seen
    ]
    write_csv(data / "metadata.csv", rows)
    out = export("capture-history", data, "histories", occasion=occasion)
    expected = slow_history([(name.replace(" ", "_"), day) for name, day in zip(names, days, strict=True)], occasion)
    lines = (out / "history.inp").read_text().splitlines()
    assert lines == [f"/* {name} */ {history} 1;" for name, history in expected.items()]


def test_sides_have_histories_of_their_own(data: Path, answers: Path) -> None:
    _, done = export_names(
        "capture-history", data, data.parent / "sides", answers, choices=ExportChoices(per_side=True)
    )
    assert [path.relative_to(data.parent).parts[1] for path in done.files] == ["left"] * 5 + ["right"] * 5
    assert (data.parent / "sides" / "right" / "captures.txt").read_text().endswith("\nLynx Mira 1 ridge\n")
    assert "1 rows were left out: nobody is named there" in done.told
    assert "2 of 4 rows have a name that no person confirmed; --confirmed leaves them out" in done.told


def test_the_command_says_which_names_a_person_confirmed(
    data: Path, answers: Path, pairs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = data.parent / "out.json"
    assert cli.main(["export", "coco", str(data), "--out", str(out), "--answers", str(answers)]) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [
        "2 rows: metadata.csv names it, as a person wrote it there",
        "1 rows: an answer in pairs.csv joins it with a photograph of that name",
        "1 rows: `reid predict` named it; 1 of them confirmed by a person",
        "1 rows: it has no name",
        f"wrote 5 rows into {out}",
    ]
    assert cli.main(["export", "capture-history", str(data), "--out", str(data.parent / "h")]) == 0
    assert "camera effort is not known here" in capsys.readouterr().err
