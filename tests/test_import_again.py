"""Importing into a folder that has a table: ids and rows stay, photographs are linked or copied, nothing is lost."""

import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sources import detection, draw, draw_all, imported, megadetector, rows_of, write_csv, write_json

from reid import cli
from reid.data.catalogue import find_cell_faults, read_rows
from reid.errors import InputError
from reid.formats.importing import Imported

BOX, OTHER = [0.1, 0.2, 0.3, 0.4], [0.5, 0.2, 0.3, 0.4]


@pytest.fixture
def cams(tmp_path: Path) -> Path:
    draw_all(tmp_path / "cams", ["1.jpg", "2.jpg", "3.jpg"])
    return tmp_path / "cams"


def detect(cams: Path, boxes: dict[str, list[Any]], name: str = "md.json", **choices: Any) -> Imported:
    images = [{"file": file, "detections": [detection(box) for box in own]} for file, own in boxes.items()]
    return imported("megadetector", write_json(cams / name, megadetector(images)), dataset="Lynx", **choices)


def table_of(cams: Path) -> pd.DataFrame:
    return pd.read_csv(cams.parent / "data" / "metadata.csv", dtype=str, keep_default_na=False)


def test_the_same_source_again_changes_nothing(cams: Path) -> None:
    assert detect(cams, {"1.jpg": [BOX, OTHER], "2.jpg": [BOX]}).is_written
    path = cams.parent / "data" / "metadata.csv"
    before = path.read_bytes()
    again = detect(cams, {"2.jpg": [BOX], "1.jpg": [OTHER, BOX]})  # in another order, too
    assert (again.merged.added, again.merged.found, again.is_written, again.saved) == (0, 3, False, None)
    assert path.read_bytes() == before
    assert sorted(each.name for each in path.parent.iterdir()) == ["metadata.csv", "photographs"]


def test_rows_are_added_ids_stay_and_what_the_source_lost_stays(cams: Path) -> None:
    detect(cams, {"1.jpg": [BOX], "2.jpg": [BOX]})
    first = table_of(cams)
    (cams.parent / "data" / "pairs.csv").write_text("image_id_a,image_id_b,answer\n")
    done = detect(cams, {"1.jpg": [OTHER, BOX], "3.jpg": [BOX]})
    table = table_of(cams)
    assert table.iloc[:2].equals(first)
    assert list(table["image_id"]) == [f"photographs/{name}" for name in ("1.jpg#1", "2.jpg#1", "1.jpg#2", "3.jpg#1")]
    assert (done.merged.added, done.merged.found, done.merged.gone) == (2, 1, 1)
    assert done.saved == cams.parent / "data" / "metadata.csv.1"
    assert pd.read_csv(done.saved, dtype=str, keep_default_na=False).equals(first)
    assert (cams.parent / "data" / "pairs.csv").exists()
    assert detect(cams, {"2.jpg": [OTHER]}).saved == cams.parent / "data" / "metadata.csv.2"


def test_what_a_person_wrote_stays_unless_an_update_is_asked_for(cams: Path) -> None:
    rows = [{"image_id": "7", "identity": "Mira", "path": "1.jpg", "date": "", "orientation": "left"}]
    imported("wildlife-datasets", write_csv(cams / "t.csv", rows), dataset="Lynx")
    table_of(cams).assign(identity="Tarn", note="by hand").to_csv(cams.parent / "data" / "metadata.csv", index=False)
    write_csv(cams / "t.csv", [rows[0] | {"date": "2024-05-03", "orientation": "right"}])
    done = imported("wildlife-datasets", cams / "t.csv", dataset="Lynx")
    (row,) = table_of(cams).to_dict("records")
    assert (row["identity"], row["date"], row["orientation"], row["note"]) == ("Tarn", "2024-05-03", "left", "by hand")
    assert done.merged.changed == {"identity": 1, "orientation": 1}
    imported("wildlife-datasets", cams / "t.csv", dataset="Lynx", update=True)
    (row,) = table_of(cams).to_dict("records")
    assert (row["identity"], row["orientation"], row["note"]) == ("Mira", "right", "by hand")


def test_ids_of_two_sources_that_are_the_same_are_told_apart(cams: Path) -> None:
    for name in ("1.jpg", "2.jpg"):
        imported("wildlife-datasets", write_csv(cams / "t.csv", [{"image_id": "7", "identity": "Mira", "path": name}]))
    table = table_of(cams)
    assert list(table["image_id"]) == ["7", "7-2"]
    assert list(table["path"]) == ["photographs/1.jpg", "photographs/2.jpg"]


def test_a_detectors_box_joins_the_row_that_names_the_animal(cams: Path) -> None:
    draw_all(cams.parent / "animals", ["Mira/1.jpg", "Mira/2.jpg"])
    imported("folder", cams.parent / "animals", dataset="Lynx")
    boxes = {"Mira/1.jpg": [BOX], "Mira/2.jpg": [BOX, OTHER]}
    done = detect(cams, boxes, root=cams.parent / "animals")
    first, second = table_of(cams).to_dict("records")
    assert (first["identity"], first["bbox"], first["bbox_unit"]) == ("Mira", "0.1,0.2,0.3,0.4", "shares")
    assert (second["identity"], second["bbox"]) == ("Mira", "")
    assert sum(done.left_out.values()) == 2  # which of two boxes is Mira's, nobody can tell
    assert "which is that animal's is not said" in next(iter(done.left_out))
    other = cams.parent / "other"
    imported("megadetector", cams / "md.json", other, root=cams.parent / "animals")
    named = imported("folder", cams.parent / "animals", other)
    table = pd.read_csv(other / "metadata.csv", dtype=str, keep_default_na=False)
    assert list(table["identity"]) == ["Mira", "", ""]
    assert list(table["split"]) == ["database", "query", "query"]
    assert named.left_out == {
        "a photograph of which metadata.csv has several boxes: which of them this is is not said": 1
    }


def test_boxes_take_the_unit_that_the_table_has(cams: Path) -> None:
    rows = [{"identity": "Mira", "path": "1.jpg", "bbox": "4,5,10,20"}]
    imported("wildlife-datasets", write_csv(cams / "t.csv", rows))
    (cams / "3.jpg").write_bytes(b"no photograph")
    done = detect(cams, {"2.jpg": [[0.1, 0.2, 0.25, 0.5]], "3.jpg": [BOX]})
    assert [(row["bbox"], row["bbox_unit"]) for row in rows_of(done)] == [("4,6,10,15", "pixels")]
    assert list(done.left_out) == ["a box in another unit than metadata.csv has, of a photograph that can't be opened"]
    table_of(cams).assign(bbox_unit="inches").to_csv(cams.parent / "data" / "metadata.csv", index=False)
    with pytest.raises(InputError, match=r"column bbox_unit: expected pixels or shares.*found 'inches'"):
        detect(cams, {"2.jpg": [BOX]})


def test_photographs_are_linked_copied_or_named_where_they_lie(cams: Path) -> None:
    detect(cams, {"1.jpg": [BOX]})
    linked = cams.parent / "data" / "photographs" / "1.jpg"
    assert linked.samefile(cams / "1.jpg")
    assert not linked.is_symlink()
    detect(cams, {"2.jpg": [BOX]}, copy=True)
    copied = cams.parent / "data" / "photographs" / "2.jpg"
    assert copied.read_bytes() == (cams / "2.jpg").read_bytes()
    assert not copied.samefile(cams / "2.jpg")
    assert detect(cams, {"2.jpg": [BOX]}, copy=True).merged.added == 0
    beside = imported("megadetector", cams / "md.json", cams)
    assert [row["path"] for row in rows_of(beside)] == ["2.jpg"]
    assert find_cell_faults(read_rows(cams)) == find_cell_faults(read_rows(cams.parent / "data")) == []


def test_another_photograph_of_the_same_name_gets_another_place(cams: Path) -> None:
    detect(cams, {"1.jpg": [BOX]})
    draw(cams.parent / "season" / "1.jpg", shade=77)
    done = detect(cams.parent / "season", {"1.jpg": [BOX]})
    (row,) = rows_of(done)
    assert (row["path"], row["image_id"]) == ("photographs-2/1.jpg", "photographs-2/1.jpg#1")
    assert detect(cams.parent / "season", {"1.jpg": [BOX]}).merged.added == 0


def test_a_disk_that_has_no_links_is_told_with_the_way_out(cams: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(source: Path, target: Path) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", link)
    with pytest.raises(InputError, match=r"could not be linked into .*Invalid cross-device link.*say --copy"):
        detect(cams, {"1.jpg": [BOX]})
    assert not (cams.parent / "data" / "metadata.csv").exists()
    assert detect(cams, {"1.jpg": [BOX]}, copy=True).is_written


def test_a_photographs_own_date_is_taken_where_that_is_asked_for(cams: Path) -> None:
    draw(cams / "1.jpg", taken="2024:05:03 07:03:09")
    assert detect(cams, {"1.jpg": [BOX], "2.jpg": [BOX]}, dry_run=True).dates == (0, 0, 2)
    done = detect(cams, {"1.jpg": [BOX], "2.jpg": [BOX]}, exif_dates=True)
    assert [row.get("date", "") for row in rows_of(done)] == ["2024-05-03 07:03:09", ""]


# the command


def test_the_command_tells_what_it_understood_and_the_next_step(cams: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"image_id": 1, "identity": "Mira", "path": "1.jpg", "date": "2024-05-03", "bbox": "4,5,10,20"},
        {"image_id": 2, "identity": "mira ", "path": "2.jpg", "date": "spring", "bbox": "30,5,20,20"},
        {"image_id": 3, "identity": "", "path": "3.jpg", "date": "", "bbox": "4,5,wide,20"},
        {"image_id": 4, "identity": "", "path": "9.jpg", "date": "", "bbox": "4,5,10,20"},
    ]
    out = cams.parent / "my data"
    words = ["import", "wildlife-datasets", str(write_csv(cams / "t.csv", rows)), "--out", str(out)]
    assert cli.main([*words, "--dry-run", "--dataset", "Lynx"]) == 0
    printed = capsys.readouterr()
    assert "4,5,10,20" in printed.out
    assert printed.out.splitlines()[-1] == f"{out}/metadata.csv: nothing was written; type the same without --dry-run"
    assert not out.exists()
    assert cli.main([*words, "--dataset", "Lynx"]) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [
        "read: 2 rows on 2 photographs",
        "boxes: on 2 of 2 rows, x,y,w,h in pixels; 1 clipped at the edge",
        "dates: 1 with, 0 without, 1 that cannot be read",
        f"left out: 1 × a photograph that is not below {cams}: name the folder that holds the photographs with --root",
        "left out: 1 × a box with text in place of a number",
        "metadata.csv: 2 rows added, 0 were there",
        "it now names 2 individuals on 2 rows; 0 rows to be named",
        "datasets: Lynx 2",
        f"wrote {out}/metadata.csv",
    ]
    assert "left out, a box with text in place of a number: row 4" in printed.err
    assert "'Mira' (1 row), 'mira ' (1 row)" in printed.err
    assert "train with --set data.join_names=true to join them" in printed.err
    assert printed.err.splitlines()[-1] == f"next: reid check '{out}'"
    assert cli.main([*words, "--dataset", "Lynx"]) == 0
    assert f"{out}/metadata.csv: nothing to change" in capsys.readouterr().out
    assert cli.main([*words, "--map", "identity"]) == 2
    assert "--map identity: expected COLUMN=SOURCE" in capsys.readouterr().err


def test_boxes_that_leave_a_rotated_photograph_are_told_with_the_option(
    cams: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw(cams / "1.jpg", size=(40, 30), orientation=6)
    rows = [{"identity": "Mira", "path": "1.jpg", "bbox": "25,5,10,20"}]
    words = ["import", "wildlife-datasets", str(write_csv(cams / "t.csv", rows)), "--out", str(cams.parent / "data")]
    assert cli.main(words) == 0
    told = capsys.readouterr()
    assert "boxes that leave a photograph that EXIF rotates, and lie within it as it is stored: 1." in told.err
    assert "import again with --boxes-before-rotation" in told.err


def test_boxes_that_were_imported_pass_the_check(cams: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = [{"file": "1.jpg", "detections": [detection(BOX), detection(OTHER)]}]
    source, out = write_json(cams / "md.json", megadetector(images)), cams.parent / "data"
    assert cli.main(["import", "megadetector", str(source), "--out", str(out)]) == 0
    assert cli.main(["check", str(out)]) == 0
    assert "bbox" not in capsys.readouterr().err
