"""metadata.csv as people write it, its faults in words, and the selections made of it."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from reid.data.catalogue import COLUMNS, Catalogue, find_faults, read_catalogue, read_rows
from reid.errors import InputError

HEADER = ",".join(COLUMNS)
GOOD = "1,leo,a.jpg,2020-05-01,left,lion,database,Lions"


def write(folder: Path, *rows: str, header: str = HEADER, end: str = "\n", mark: str = "") -> Path:
    (folder / "metadata.csv").write_bytes((mark + end.join([header, *rows]) + end).encode())
    return folder


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_file_from_any_editor_is_read_alike(tmp_path: Path, end: str, mark: str) -> None:
    rows = [GOOD, '2,"Leo, ""the\nold"" one",B.JPG,,,,database,Lions', "3,,c.jpg,,,,query,Lions"]
    catalogue = read_catalogue(write(tmp_path, *rows, end=end, mark=mark))
    assert catalogue.image_ids == ["1", "2", "3"]
    assert [identity.replace("\r\n", "\n") for identity in catalogue.identities] == ["leo", 'Leo, "the\nold" one', ""]
    assert list(catalogue.table["day"]) == ["2020-05-01", "", ""]


def test_nothing_is_guessed_from_a_cell(tmp_path: Path) -> None:
    row = "007,NA,a.jpg,,,null,database,1e3,x"
    catalogue = read_catalogue(write(tmp_path, row, header=HEADER + ",notes"))
    assert (catalogue.image_ids, catalogue.identities) == (["007"], ["NA"])
    assert list(catalogue.by_dataset()) == ["1e3"]
    assert list(catalogue.table["notes"]) == ["x"]


def test_a_querys_identity_is_never_seen(tmp_path: Path) -> None:
    assert read_catalogue(write(tmp_path, GOOD, "2,mia,b.jpg,,,,query,Lions")).query.identities == [""]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("1,mia,b.jpg,,,,database,Lions", "row 3, column image_id: expected every id once, it came before; found '1'"),
        (",mia,b.jpg,,,,database,Lions", "row 3, column image_id: expected an id, found an empty cell"),
        (
            "2,mia,b.jpg,,,,val,Lions",
            "row 3, column split: expected database (or train) or query (or test); found 'val'",
        ),
        (
            "2,  ,b.jpg,,,,database,Lions",
            "column identity: expected the individual on a database row; found '  '",
        ),
        ("2,\u200b\u3164,b.jpg,,,,database,Lions", "column identity: expected the individual on a database row"),
        ("2,mia,./a.jpg,,,,database,Lions", "found that of row 2 again, './a.jpg', there as 'leo' and here as 'mia'"),
        ("2,,a.jpg,,,,query,Lions", "found that of row 2 again, 'a.jpg', there as database and here as query"),
        ("2,leo,a.jpg,,,,database,Lions", "found that of row 2 again, 'a.jpg'. Remove one of the rows"),
        ("2,,b.jpg,,,,database,Lions", "row 3, column identity: expected the individual on a database row; found ''"),
        ("2,new_individual,b.jpg,,,,database,Lions", "row 3, column identity: expected an individual;"),
        (
            "2,mia,../b.jpg,,,,database,Lions",
            "row 3, column path: expected a relative path that stays in the data folder",
        ),
        ("2,mia,/etc/passwd,,,,database,Lions", "found '/etc/passwd'"),
        ("2,mia,,,,,database,Lions", "row 3, column path:"),
        ("2,mia,away/b.jpg,,,,database,Lions", "followed, but a link leads out of it; found 'away', which is"),
        ("2,mia,b.jpg,,,,database,a/b", "row 3, column dataset: expected a name of letters, digits"),
        ("2,mia,b.jpg,,,,database,", "row 3, column dataset:"),
        ("2,mia,b.jpg,,,,database,Species", "other than 'species'"),
        ("2,,b.jpg,,,,query,..", "row 3, column dataset:"),
    ],
)
def test_a_fault_is_named_with_its_row(tmp_path: Path, row: str, words: str) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (data / "away").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError) as caught:
        read_catalogue(write(data, GOOD, row))
    assert words in str(caught.value)
    assert str(data / "metadata.csv") in str(caught.value)


def test_a_mask_behind_a_link_that_leads_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (data / "away").symlink_to(tmp_path / "elsewhere")
    header = "image_id,identity,path,date,orientation,species,split,dataset,mask\n"
    (data / "metadata.csv").write_text(
        f"{header}1,leo,a.jpg,,,,database,Lions,\n2,mia,b.jpg,,,,database,Lions,away/b.png\n"
    )
    with pytest.raises(InputError, match=r"row 3, column mask: .* a link leads out of it; found 'away'"):
        read_catalogue(data)


def test_all_faults_are_found_and_the_error_names_the_first_and_how_to_see_the_others(tmp_path: Path) -> None:
    data = write(tmp_path, "1,leo,../a.jpg,,,,nowhere,Lions", "1,leo,a.jpg,,,,query,Lions", ",,b.jpg,,,,query,Lions")
    assert len(find_faults(read_rows(data))) == 4
    with pytest.raises(InputError, match=r"\(3 more: `reid check .*` lists them\)"):
        read_catalogue(data)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "expected a folder with metadata.csv, found none in it"),
        (b"", "missing: image_id, identity"),
        (HEADER.encode() + b"\n", "expected one row per photograph, found none"),
        (b"image_id;identity;path\n1;leo;a.jpg\n", "Separate the columns with commas"),
        (HEADER.replace("split,", "").encode() + b"\n1,leo,a.jpg,,,,Lions\n", "missing: split"),
        (HEADER.encode() + b",path\n" + GOOD.encode() + b",b.jpg\n", "names path more than once"),
        (b"\xff\xfe\x00", 'save it as "CSV UTF-8"'),
        (
            HEADER.encode() + b"\n" + GOOD.encode() + b",too,many\n",
            "row 2: expected 8 cells as in the first line, found 10",
        ),
    ],
)
def test_a_file_that_is_no_such_table_is_refused(tmp_path: Path, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / "metadata.csv").write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_catalogue(tmp_path)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ("metadata.csv.csv", "found 'metadata.csv.csv'; rename it to metadata.csv"),
        ("Metadata.CSV", "found 'Metadata.CSV'; rename it to metadata.csv"),
        ("metadata.csv.txt", "found 'metadata.csv.txt'; rename it to metadata.csv"),
        ("metadata.xlsx", "found 'metadata.xlsx'; save it as \"CSV UTF-8\", metadata.csv"),
        ("below/metadata.csv", "found one in each of these folders below it: below; type for example "),
        ("../metadata.csv", "found one in the folder above it; type "),
    ],
)
def test_what_looks_like_the_table_is_named(tmp_path: Path, found: str, words: str) -> None:
    folder = tmp_path / "data"
    (folder / "below").mkdir(parents=True)
    (folder / found).write_text(f"{HEADER}\n{GOOD}\n")
    with pytest.raises(InputError) as caught:
        read_catalogue(folder)
    assert words in str(caught.value)


def test_empty_columns_and_rows_at_the_edges_are_left_out_and_filled_ones_are_not(tmp_path: Path) -> None:
    empty = "," * (len(COLUMNS) + 1)
    catalogue = read_catalogue(write(tmp_path, f"{GOOD},,", empty, empty, header=f"{HEADER},,"))
    assert catalogue.image_ids == ["1"]
    assert "" not in catalogue.table.columns
    with pytest.raises(InputError, match=r"row 2: expected nothing in column 10, which has no name, found 'by hand'"):
        read_catalogue(write(tmp_path, f"{GOOD},,by hand", header=f"{HEADER},,"))
    with pytest.raises(InputError, match=r"row 2, column image_id: expected an id, found an empty cell"):
        read_catalogue(write(tmp_path, "," * 7, GOOD))


@pytest.mark.parametrize("line", ["sep=,", "sep=;", "SEP=,"])
def test_the_line_that_excel_writes_above_is_named(tmp_path: Path, line: str) -> None:
    with pytest.raises(InputError, match=r"Excel's line sep= stands above it: delete that line"):
        read_catalogue(write(tmp_path, HEADER, GOOD, header=line))


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected a folder with metadata\.csv, found no such folder"):
        read_catalogue(tmp_path / "nowhere")


def test_selections_are_what_they_say(patterns: Path) -> None:
    catalogue = read_catalogue(patterns)
    assert len(catalogue.database) + len(catalogue.query) == len(catalogue) == 76
    assert set(catalogue.of("Dots").table["dataset"]) == {"Dots"}
    assert list(catalogue.by_dataset()) == ["Checks", "Dots"]
    assert catalogue.without(catalogue.query.image_ids).image_ids == catalogue.database.image_ids
    assert all(path.is_file() for path in catalogue.paths)


@pytest.mark.parametrize(("photographs", "individuals"), [(1, 1), (4, 1), (7, 1), (8, 2), (11, 2), (1000, 6)])
def test_a_limit_keeps_whole_individuals_and_every_query(patterns: Path, photographs: int, individuals: int) -> None:
    catalogue = read_catalogue(patterns)
    limited = catalogue.limited(photographs)
    assert limited.query.image_ids == catalogue.query.image_ids
    for part in limited.database.by_dataset().values():
        assert part.table["identity"].value_counts().tolist() == [4] * individuals


@pytest.mark.parametrize("change", ["identity", "path", "size", "nothing", "order"])
def test_the_fingerprint_notices_another_label_and_another_file(
    patterns: Path, edit_rows: Callable, change: str
) -> None:
    before = read_catalogue(patterns).fingerprint
    if change == "identity":
        edit_rows(lambda table: table.assign(identity=table["identity"].replace("Dots_1", "Dots_2")))
    elif change == "path":
        edit_rows(lambda table: table.assign(path=table["path"].iloc[::-1].to_numpy()))
    elif change == "order":
        edit_rows(lambda table: table.iloc[::-1])
    elif change == "size":
        with read_catalogue(patterns).paths[0].open("ab") as opened:
            opened.write(b"x")
    after = read_catalogue(patterns).fingerprint
    assert (before == after) == (change in ("nothing", "order"))


def test_an_empty_selection_is_a_catalogue_too(tmp_path: Path) -> None:
    empty = Catalogue(tmp_path, pd.DataFrame(columns=[*COLUMNS, "day"], dtype=str))
    assert (len(empty), empty.by_dataset(), empty.paths) == (0, {}, [])


@pytest.mark.parametrize(
    ("date", "day"),
    [
        ("2012-05-06", "2012-05-06"),
        ("2012-05-06 23:59:59", "2012-05-06"),
        ("2012-05-06T23:30:00-08:00", "2012-05-06"),  # the day where the photograph was taken
        ("20120506", "2012-05-06"),
        ("2012:05:06 23:59:59", "2012-05-06"),  # EXIF 2.32, DateTimeOriginal
        ("2012:05:06", "2012-05-06"),
        ("2012-5-6", "2012-05-06"),
        ("2012-5-16 9:30", "2012-05-16"),
        ("2012-11-6", "2012-11-06"),
        ("2012-5", "2012-05"),
        ("2012-05", "2012-05"),
        ("2012", "2012"),
        ("0000:00:00 00:00:00", ""),  # a camera whose clock was never set
        ("2012-05:06", ""),
        ("2012-5-067", ""),
        ("2012-13-6", ""),
        ("2012-02-30", ""),
        ("06/05/2012", ""),
        ("06.05.2012", ""),
        ("2012-05-067", ""),
        ("now", ""),
        ("unknown", ""),
    ],
)
def test_a_date_gives_the_day_that_it_writes(tmp_path: Path, date: str, day: str) -> None:
    other = GOOD.replace("1,leo,a.jpg", "2,mia,b.jpg").replace("2020-05-01", "2020-05-01T00:00:00+02:00")
    catalogue = read_catalogue(write(tmp_path, GOOD.replace("2020-05-01", date), other))
    assert list(catalogue.table["day"]) == [day, "2020-05-01"]


@pytest.mark.parametrize("ending", ["gallery", "reference", "extractor", "matcher", "backbone-2"])
def test_a_dataset_cannot_take_the_name_of_anothers_file(tmp_path: Path, ending: str) -> None:
    with pytest.raises(InputError, match=rf"row 3, column dataset: .*found 'Lions\.{ending}'"):
        read_catalogue(write(tmp_path, GOOD, f"2,mia,b.jpg,,,,database,Lions.{ending}"))


@pytest.mark.parametrize("name", ["Lynx ID", "a/b", ".hidden", "-rf", "..", "Löwe", "a\nb", "x" * 101, "SPECIES"])
def test_a_dataset_name_that_is_no_safe_file_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="column dataset: expected a name of letters"):
        read_catalogue(write(tmp_path, f'1,leo,a.jpg,,,,database,"{name}"'))


def test_a_path_that_is_too_long_for_the_disk_is_a_missing_file(tmp_path: Path) -> None:
    before = read_catalogue(write(tmp_path, f"1,leo,{'x' * 300}.jpg,,,,database,Lions"))
    assert len(before.fingerprint) == 64


def test_a_row_is_named_as_a_spreadsheet_counts_in_every_selection(tmp_path: Path) -> None:
    rows = ['1,"two\nlines",a.jpg,,,,database,Lions', "2,,b.JPG,,,,query,Lions", "3,leo,c.jpg,,,,database,Lions"]
    catalogue = read_catalogue(write(tmp_path, *rows))
    assert catalogue.database.row_name("3") == "row 4 (image_id 3, c.jpg)"
    assert catalogue.query.row_name("2") == "row 3 (image_id 2, b.JPG)"
