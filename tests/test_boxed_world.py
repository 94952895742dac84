"""The drawn world with boxes, and that the plain one has stayed as it was."""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageOps

from reid import cli
from reid.data.boxed_world import JITTER, draw_boxed_world
from reid.data.boxes import read_box
from reid.data.catalogue import read_catalogue
from reid.data.synthetic import LYNX, TURTLE, Design
from reid.decision.metrics import read_solution
from reid.errors import InputError

FEW = Design((LYNX, TURTLE), (3, 2, 2, 1, 1), 2, (1, 3), first_new=5)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*")}


def tag_of(path: Path) -> int:
    with Image.open(path) as image:
        return int(image.getexif().get(274, 1))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("boxed") / "world"
    draw_boxed_world(folder, 3, FEW)
    return folder


def test_the_plain_world_is_drawn_as_ever(toy_world: Path) -> None:
    """Its table tells the random numbers of every photograph: a photograph's last ones are in its path."""
    digest = hashlib.sha256((toy_world / "metadata.csv").read_bytes()).hexdigest()
    assert digest == "393ff7086ee62ce288a4c2d20feda78fc78453f107467e5af9f9dfb7283d957c"
    first = np.asarray(Image.open(read_catalogue(toy_world).paths[0]))
    assert first.mean((0, 1)) == pytest.approx([81.9, 89.0, 45.3], abs=0.5)


def test_the_same_seed_draws_the_same_bytes(world: Path, tmp_path: Path) -> None:
    for seed in (3, 4):
        draw_boxed_world(tmp_path / str(seed), seed, FEW)
    assert files_of(tmp_path / "3") == files_of(world)
    assert files_of(tmp_path / "4")["metadata.csv"] != files_of(world)["metadata.csv"]


def test_boxes_lie_around_their_masks_and_no_animal_is_twice_on_a_photograph(world: Path) -> None:
    catalogue = read_catalogue(world)
    table = catalogue.table
    shared = table.groupby("path").size()
    assert {1, 2} <= set(shared) <= {1, 2, 3}
    for path, rows in table.groupby("path"):
        with Image.open(world / str(path)) as image:
            size = ImageOps.exif_transpose(image).size
        assert rows["date"].nunique() == rows["split"].nunique() == rows["dataset"].nunique() == 1
        seen = np.zeros(size[::-1], int)
        for cell, mask in zip(rows["bbox"], rows["mask"], strict=True):
            opened = Image.open(world / mask)
            shape = np.asarray(opened) > 0
            left, top, right, bottom = opened.getbbox() or (0, 0, 0, 0)
            x, y, w, h = read_box(cell) or (0, 0, 0, 0)
            assert shape.shape == seen.shape
            assert set(np.unique(np.asarray(opened))) == {0, 255}
            off = np.abs([x - left, y - top, x + w - right, y + h - bottom])
            assert (off <= 2 * JITTER * np.array([right - left, bottom - top] * 2) + 0.1).all()
            seen += shape
        assert seen.max() == 1  # none hides another
    solution = read_solution(world / "solution.csv").set_index("image_id")
    queries = catalogue.query.table.set_index("image_id")
    assert set(solution.index) == set(queries.index)
    names = solution["identity"].loc[queries.index]
    assert not pd.DataFrame({"path": queries["path"], "identity": names}).duplicated().any()


def test_the_command_draws_it_and_check_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["toy", str(tmp_path / "world"), "--boxes", "--seed", "1"]) == 0
    assert cli.main(["check", str(tmp_path / "world")]) == 0
    assert "no fault in" in capsys.readouterr().out
    paths = set(read_catalogue(tmp_path / "world").paths)
    assert 3 < sum(tag_of(path) > 1 for path in paths) < len(paths) / 5
    with pytest.raises(SystemExit):
        cli.main(["toy", str(tmp_path / "x"), "--boxes", "--unlabelled"])
    (tmp_path / "world" / "mine.txt").write_text("keep")
    with pytest.raises(InputError, match=r"expected an empty folder, or a toy world to draw anew; found 'mine\.txt'"):
        draw_boxed_world(tmp_path / "world")
