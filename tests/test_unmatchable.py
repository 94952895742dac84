"""Datasets that tell nobody apart: this is said, their queries are called new, the others answered as without them."""

from dataclasses import replace
from pathlib import Path

import entry
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from textures import texture

import reid
from reid import cli
from reid.config.runtime import Runtime
from reid.data.catalogue import COLUMNS, NEW_INDIVIDUAL, Catalogue, read_catalogue
from reid.decision.unmatchable import leave_out_unmatchable, why_gallery_unmatchable, why_unmatchable
from reid.retrieval.gallery import Gallery, GalleryFeatures
from reid.retrieval.keypoints import NO_KEYPOINTS, Keypoints

SIDE = 64
KEYPOINTS = ("--recipe", "keypoints", "--set", "keypoints.size=64", "--set", "calibration.scorers=local,logistic")
BESIDE = ("matching.cues=encoder,local", "calibration.scorers=distance,local,mean,logistic")

Photographs = list[tuple[str, np.ndarray | None]]
"""The individual and the pixels of each; None for a file that is no photograph."""


def animal(number: int, place: int = 0, light: float = 1) -> np.ndarray:
    """A spotted animal somewhere on a photograph, lighter or darker, (64, 64, 3) uint8."""
    left = 8 * place
    return np.clip(texture(number, 96)[left : left + SIDE, left : left + SIDE] * light, 0, 255).astype(np.uint8)


def fog(number: int) -> np.ndarray:
    """A photograph without a keypoint, and unlike the others: it gets darker in another direction."""
    shades = np.rot90(np.tile(np.arange(100, 100 + SIDE, dtype=np.uint8), (SIDE, 1)), number)
    return np.repeat(shades[:, :, None], 3, 2)


def blank() -> np.ndarray:
    return np.full((SIDE, SIDE, 3), 90, np.uint8)


ISLANDS: dict[str, Photographs] = {
    "fog": [(f"fox {number % 2}", fog(number)) for number in range(4)],
    "single": [("fox 0", animal(50))],
    "unreadable": [("fox 0", None)],
    "copies": [(f"fox {number % 3}", animal(50)) for number in range(6)],
    "near-copies": [("fox 0", animal(50, light=light)) for light in (0.9, 1, 1.1)],
    "blanks": [(f"fox {number % 3}", blank()) for number in range(6)],
    "none": [],
}
"""What is known of a second dataset."""


def draw(folder: Path, known: Photographs, asked: Photographs) -> Path:
    """Five animals, of which three are asked for, and two others; and a dataset Island."""
    rows: list[tuple[str, str, np.ndarray | None, str, str]] = []
    rows += [(f"c{n}", f"cat {n // 3}", animal(n // 3, n % 3), "database", "Cats") for n in range(15)]
    rows += [(f"q{n}", "", animal(n, 3), "query", "Cats") for n in (0, 1, 2, 20, 21)]
    rows += [(f"i{n}", *one, "database", "Island") for n, one in enumerate(known)]
    rows += [(f"j{n}", "", pixels, "query", "Island") for n, (_, pixels) in enumerate(asked)]
    folder.mkdir(parents=True)
    for image_id, _, pixels, *_ in rows:
        if pixels is None:
            (folder / f"{image_id}.png").write_bytes(b"no photograph")
        else:
            Image.fromarray(pixels).save(folder / f"{image_id}.png")
    cells = [(name, who, f"{name}.png", "", "", "", split, dataset) for name, who, _, split, dataset in rows]
    pd.DataFrame(cells, columns=list(COLUMNS)).to_csv(folder / "metadata.csv", index=False)
    return folder


def run(*words: object) -> None:
    assert cli.main([str(word) for word in words]) == 0


def answered(data: Path, weights: Path) -> dict[str, list[str]]:
    """The lines of matches.csv by dataset, without their place."""
    run("predict", data, "--weights", weights, "--out", data / "answers.csv")
    lines = (data / "answers.matches.csv").read_text().splitlines()[1:]
    return {dataset: [line for line in lines if f",{dataset}," in line] for dataset in ("Cats", "Island")}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, tiny_settings: list[str]) -> dict[str, list[str]]:
    """By recipe, how the cats are answered where there is nothing else."""
    lines = {}
    for name in ("keypoints", "beside", "encoder"):
        folder = tmp_path_factory.mktemp("alone")
        data = draw(folder / "data", [], [])
        run("train", data, "--out", folder / "weights", *settings_of(name, tiny_settings))
        lines[name] = answered(data, folder / "weights")["Cats"]
    return lines


def settings_of(recipe: str, tiny_settings: list[str]) -> tuple[str, ...]:
    """The arguments of a recipe."""
    if recipe == "keypoints":
        return KEYPOINTS
    changes = ("data.skip_unreadable=true", "prediction.route=auto", *(BESIDE if recipe == "beside" else ()))
    return (*tiny_settings, *(word for change in changes for word in ("--set", change)))


@pytest.mark.parametrize(
    ("recipe", "island", "cause"),
    [
        ("keypoints", "fog", "no keypoint was found on any of the 4 known photographs; add sharper or larger ones"),
        ("keypoints", "single", "there is only one known photograph; add others"),
        ("keypoints", "unreadable", "there is only one known photograph; add others"),
        ("keypoints", "copies", "all 6 known photographs are alike; add others"),
        ("keypoints", "near-copies", "all 3 known photographs are alike; add others"),
        ("keypoints", "blanks", "all 6 known photographs are alike; add others"),
        ("beside", "blanks", "all 6 known photographs are alike; add others"),
        ("beside", "unreadable", "there is only one known photograph; add others"),
        ("encoder", "blanks", "all 6 known photographs are alike; add others"),
        ("encoder", "near-copies", "all 3 known photographs are alike; add others"),
        ("encoder", "single", "there is only one known photograph; add others"),
    ],
)
def test_a_dataset_that_tells_nobody_apart_is_called_new_and_the_other_is_answered_as_without_it(
    recipe: str,
    island: str,
    cause: str,
    alone: dict[str, list[str]],
    tiny_settings: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked: Photographs = [("", animal(50)), ("", blank()), ("", animal(3))]
    data, weights = draw(tmp_path / "data", ISLANDS[island], asked), tmp_path / "weights"
    run("train", data, "--out", weights, *settings_of(recipe, tiny_settings))
    said = [line for line in capsys.readouterr().err.splitlines() if "Island" in line and cause in line]
    assert len(said) == 1
    assert said[0].startswith("warning")
    assert NEW_INDIVIDUAL in said[0]
    found = answered(data, weights)
    assert found["Cats"] == alone[recipe]
    answers = pd.read_csv(data / "answers.csv").set_index("image_id")["identity"]
    assert set(answers[["j0", "j1", "j2"]]) == {NEW_INDIVIDUAL}
    assert any("Island" in line for line in capsys.readouterr().err.splitlines() if line.startswith("warning"))


@pytest.mark.parametrize(
    ("island", "words"),
    [("fog", "no keypoint was found on any of the 4"), ("unreadable", "no known photograph can be")],
)
def test_a_dataset_that_is_lost_when_it_is_enrolled_again_is_called_new_from_then_on(
    island: str, words: str, alone: dict[str, list[str]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """By the old thresholds too; once they are fitted again, the other dataset's are those without it."""
    asked: Photographs = [("", animal(50)), ("", blank())]
    before = draw(tmp_path / "before", [(f"fox {n // 3}", animal(50 + n // 3, n % 3)) for n in range(12)], asked)
    data, weights = draw(tmp_path / "data", ISLANDS[island], asked), tmp_path / "weights"
    run("train", before, "--out", weights, *KEYPOINTS)
    assert "fox 0" in answered(before, weights)["Island"][0].split(",")[-2]
    run("enroll", data, "--weights", weights)
    lines = answered(data, weights)
    assert [line.split(",")[-2:] for line in lines["Island"]] == [[NEW_INDIVIDUAL, "no_candidates"]] * 2
    run("calibrate", data, "--weights", weights)
    assert sum(words in line and "Island: nobody can be named" in line for line in caplog.messages) == 1
    again = answered(data, weights)
    assert again["Cats"] == alone["keypoints"]
    assert [line.split(",")[-2:] for line in again["Island"]] == [[NEW_INDIVIDUAL, "no_candidates"]] * 2
    assert sum(words in line and "Island: nobody can be named" in line for line in caplog.messages) == 2
    run("report", data, "--weights", weights, "--out", tmp_path / "report")
    assert words in (tmp_path / "report" / "report.html").read_text("utf-8")


def test_the_interface_and_the_kernel_answer_as_the_commands(alone: dict[str, list[str]], tmp_path: Path) -> None:
    """One flat query, of the flat dataset; and a query without a keypoint of the other."""
    data = draw(tmp_path / "data", ISLANDS["fog"], [("", fog(1))])
    Image.fromarray(blank()).save(data / "q0.png")
    recipe = reid.with_settings(reid.preset("keypoints"), {"keypoints.size": 64, "calibration.splits": 5})
    weights = reid.train(reid.read_catalogue(data), recipe, tmp_path / "weights")
    assert weights is not None
    assert weights.datasets == ("Cats", "Island")
    weights = reid.calibrate(reid.read_catalogue(data), reid.enroll(reid.read_catalogue(data), weights))
    matches = reid.predict(reid.read_catalogue(data), weights)
    queries = matches.queries.set_index("image_id")
    assert queries["flags"].to_dict() == {"q0": "no_candidates", "j0": "no_candidates"} | dict.fromkeys(
        ("q1", "q2", "q20", "q21"), queries["flags"]["q1"]
    )
    assert queries["answer"].to_dict() | {"q1": "cat 1", "q2": "cat 2"} == queries["answer"].to_dict()
    assert set(queries["answer"][["q0", "j0"]]) == {NEW_INDIVIDUAL}
    kernel = entry.predict_on(["cpu"], read_catalogue(data), weights, Runtime())
    pd.testing.assert_frame_equal(kernel.to_frame(), matches.to_frame(), check_exact=True)
    assert (
        kernel.unmatchable
        == matches.unmatchable
        == {"Island": "no keypoint was found on any of the 4 known photographs; add sharper or larger ones"}
    )


# the causes


def some(count: int, distinct: bool = True, width: int = 2, keypoints: Keypoints = NO_KEYPOINTS) -> Gallery:
    vectors = torch.arange(float(count))[:, None].expand(-1, width) * distinct
    names = tuple(map(str, range(count)))
    return Gallery(GalleryFeatures(names, vectors.contiguous(), ("",) * count, (keypoints,) * count), ("leo",) * count)


def test_a_gallery_tells_nobody_apart_without_two_photographs_that_differ_in_a_cue() -> None:
    found = Keypoints(np.ones((1, 4), np.float32), np.ones((1, 128), np.float16), (1.0, 1.0), np.ones(1, np.float32))
    other = replace(found, descriptors=np.zeros((1, 128), np.float16))
    assert why_gallery_unmatchable(some(0)) == "no known photograph can be read; replace the files"
    assert why_gallery_unmatchable(some(1)) == "there is only one known photograph; add others"
    assert why_gallery_unmatchable(some(2)) == ""
    assert why_gallery_unmatchable(some(3, distinct=False)) == "all 3 known photographs are alike; add others"
    assert why_gallery_unmatchable(some(3, width=0)).startswith(
        "no keypoint was found on any of the 3 known photographs"
    )
    assert why_gallery_unmatchable(some(3, width=0, keypoints=found)).startswith("all 3 known photographs are alike")
    one_differs = some(3, width=0, keypoints=found)
    one_differs = replace(one_differs, embeddings=replace(one_differs.embeddings, keypoints=(found, found, other)))
    assert why_gallery_unmatchable(one_differs) == ""
    mirrored = some(2)
    mirrored = replace(mirrored, embeddings=replace(mirrored.embeddings, image_id=("0", "0")))
    assert why_gallery_unmatchable(mirrored) == "there is only one known photograph; add others"


def test_photographs_are_alike_where_none_differs_be_there_ever_so_many(tmp_path: Path) -> None:
    """More than are compared at first, of which the last differs."""
    copies: Photographs = [("leo", animal(50, light=1 + number / 1000)) for number in range(66)]
    catalogue = read_catalogue(draw(tmp_path / "alike", copies, []))
    assert why_unmatchable(catalogue.database.of("Island")) == "all 66 known photographs are alike; add others"
    assert why_unmatchable(catalogue.database.of("Cats")) == ""
    blanks: Photographs = [("leo", blank()), ("mia", blank())]
    colours = read_catalogue(draw(tmp_path / "colours", blanks, [])).database.of("Island")
    assert why_unmatchable(colours) == "all 2 known photographs are alike; add others"
    colours.paths[1].write_bytes(b"no photograph")
    assert why_unmatchable(colours) == ""  # training says what can't be read
    kept, causes = leave_out_unmatchable(catalogue)
    assert list(causes) == ["Island"]
    assert set(kept.table["dataset"]) == {"Cats"}
    alone = Catalogue(catalogue.root, catalogue.of("Island").table)
    assert leave_out_unmatchable(alone) == (alone, {})  # what is left must be something
    differing = read_catalogue(draw(tmp_path / "differing", [*copies, ("leo", animal(51))], []))
    assert leave_out_unmatchable(differing)[1] == {}
