"""The README's Python example, run as it stands there, on a small drawn world."""

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

import reid
from reid.decision.matches import MATCH_COLUMNS

ROOT = Path(__file__).parents[1]
NEWTS = Path(__file__).parent / "fixtures" / "weights-0.1.0" / "local"
"""Drawn photographs of two datasets, with what 0.1.0 answered, all of it right."""


def example() -> str:
    """The block of the README that makes and looks at matches."""
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)
    (block,) = (block for block in blocks if "reid.predict" in block)
    return str(block)


@pytest.fixture
def photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder "photographs" of the example, with the answers to its queries as solution.csv."""
    folder = Path(shutil.copytree(NEWTS / "data", tmp_path / "photographs"))
    rows = pd.read_csv(folder / "metadata.csv", dtype=str, keep_default_na=False).set_index("image_id")["dataset"]
    answers = pd.read_csv(NEWTS / "answers.csv", dtype=str)
    new = answers["identity"] == reid.NEW_INDIVIDUAL
    solution = answers.assign(
        identity=answers["identity"].where(~new, "stranger " + answers["image_id"]),
        new_identity=new,
        dataset=answers["image_id"].map(rows),
        Usage="Private",
    )
    solution.to_csv(folder / "solution.csv", index=False)
    monkeypatch.chdir(tmp_path)
    return folder


def test_the_example_of_the_readme_runs_as_it_stands_there(
    photographs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = example()
    assert 8 <= len([line for line in code.splitlines() if line.strip()]) <= 14
    names: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), names)
    matches, weights = names["matches"], names["weights"]
    assert isinstance(matches, reid.Matches)
    assert isinstance(weights, reid.Weights)
    assert tuple(matches.to_frame().columns) == MATCH_COLUMNS
    assert (Path("submission.csv").is_file(), Path("submission.matches.csv").is_file()) == (True, True)
    (picture,) = Path().glob("*.png")
    assert Image.open(picture).width > Image.open(picture).height
    scores = reid.score_submission(matches.submission, reid.read_solution(photographs / "solution.csv"))
    assert reid.overall(scores) > 0.8
    printed = capsys.readouterr().out
    assert f"{reid.overall(scores)}" in printed
    assert len(printed.splitlines()) < 20  # what the example prints, and nothing else


def test_nothing_is_printed_unless_asked(photographs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    catalogue = reid.read_catalogue(photographs)
    weights = reid.open_weights(Path(shutil.copytree(NEWTS / "weights", photographs.parent / "old")))
    matches = reid.predict(catalogue, weights)
    matches.picture(catalogue, matches.submission["image_id"][0])
    weights = reid.calibrate(catalogue, reid.enroll(catalogue, weights))
    assert reid.predict(catalogue, weights).submission.equals(matches.submission)
    reid.score_matches(matches.to_frame(), reid.read_solution(photographs / "solution.csv"))
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "")


def test_a_folder_that_is_enrolled_or_calibrated_again_is_complete(photographs: Path) -> None:
    folder = Path(shutil.copytree(NEWTS / "weights", photographs.parent / "old"))
    rows = pd.read_csv(photographs / "metadata.csv", dtype=str, keep_default_na=False)
    rows.assign(identity=rows["identity"].replace("newt_0", "Olm")).to_csv(photographs / "metadata.csv", index=False)
    catalogue, weights = reid.read_catalogue(photographs), reid.open_weights(folder)
    enrolled = reid.enroll(catalogue, weights)
    assert enrolled == reid.open_weights(folder)
    assert enrolled.manifest["data"] == catalogue.database.fingerprint != weights.manifest["data"]
    assert "Olm" in set(reid.predict(catalogue, enrolled).submission["identity"])
    recipe = reid.with_settings(enrolled.recipe, {"calibration.splits": 7})
    calibrated = reid.calibrate(catalogue, enrolled, recipe)
    assert calibrated == reid.open_weights(folder)
    assert (calibrated.recipe.calibration.splits, calibrated.recipe.name) == (7, "keypoints")


def test_wrong_input_is_an_input_error_that_says_what_to_do() -> None:
    with pytest.raises(reid.InputError, match=r"expected one of paper, .*did you mean keypoints"):
        reid.preset("keypoint")
    with pytest.raises(reid.InputError, match=r"expected a folder with metadata\.csv"):
        reid.read_catalogue("nowhere")
    with pytest.raises(reid.InputError, match=r"expected the manifest of a weights folder, found no such folder"):
        reid.open_weights("nowhere")
