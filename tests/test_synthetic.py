"""The toy world is drawn as its description says."""

import hashlib
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageOps

from reid import cli
from reid.config.presets import PRESETS
from reid.config.settings import with_settings
from reid.data.catalogue import read_catalogue
from reid.data.photographs import View, open_photograph, views_of
from reid.data.synthetic import PLAIN, SMALL, Design, draw_world
from reid.decision.metrics import read_solution

FEW = replace(PLAIN, photographs=(3, 2, 1), new_individuals=1, first_new=3)

TABLES = ("metadata.csv", "sample_submission.csv", "solution.csv")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small") / "world"
    assert cli.main(["toy", str(folder), "--unlabelled"]) == 0
    return folder


def test_lying_salamanders_are_turned_upright_by_their_orientation(tmp_path: Path) -> None:
    """A back lies across the photograph: upright, the body's pixels spread more sideways than up and down."""
    draw_world(tmp_path, design=Design(PLAIN.species[1:2], (40, 40), 1, (1, 5), first_new=2))
    catalogue = read_catalogue(tmp_path)
    views = views_of(catalogue, with_settings(PRESETS["toy"], {"data.upright": ("SalamanderID2025",)}))
    lying = np.flatnonzero(catalogue.table["orientation"].isin(["left", "right"]))
    assert {views[place].turn for place in lying} == {-90, 90}
    for place in lying:
        with Image.open(catalogue.paths[place]) as image:
            width, height = ImageOps.exif_transpose(image).size
        assert height > width
        padded = open_photograph(catalogue.paths[place], View(64, "pad", views[place].turn))
        assert (padded != 128).any((1, 2)).sum() < 64  # wider than high again


def test_the_same_seed_draws_the_same_bytes_and_every_date_is_read(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        draw_world(tmp_path / name, seed, FEW)
    a, b, c = (
        {str(file.relative_to(tmp_path / name)): file.read_bytes() for file in (tmp_path / name).rglob("*.*")}
        for name in "abc"
    )
    assert a == b
    assert a.keys() & c.keys() == set(TABLES)
    catalogue = read_catalogue(tmp_path / "a")
    assert len(catalogue.database) == 3 * (3 + 2 + 1)
    assert all(path.is_file() for path in catalogue.paths)
    assert (catalogue.table["day"] == catalogue.table["date"]).all()
    assert catalogue.table["day"].any()


def test_the_plain_world_is_that_of_earlier_versions(tmp_path: Path) -> None:
    """Tables byte for byte; colours to within what another JPEG library changes. Read off the version of 01187ba."""
    draw_world(tmp_path, 0, FEW)
    digest = hashlib.sha256(b"".join((tmp_path / name).read_bytes() for name in TABLES)).hexdigest()
    assert digest == "5d6986e7b14ea0b642267a480674f21e1d96d2a563119d4b6c49a09a35552693"
    catalogue = read_catalogue(tmp_path)
    for dataset, colour in (
        ("LynxID2025", (117.24, 100.52, 91.29)),
        ("SalamanderID2025", (92.44, 82.07, 70.21)),
        ("SeaTurtleID2022", (107.70, 107.54, 56.63)),
    ):
        with Image.open(catalogue.of(dataset).paths[0]) as image:
            assert np.asarray(image.convert("RGB")).mean((0, 1)) == pytest.approx(colour, abs=0.5)


def test_the_small_world_has_individuals_to_discover_in_every_dataset(small: Path) -> None:
    catalogue, solution = read_catalogue(small), read_solution(small / "solution.csv")
    assert catalogue.query.image_ids == list(solution["image_id"])
    for dataset, photographs in catalogue.by_dataset().items():
        answers = solution[solution["dataset"] == dataset]
        new = answers.loc[answers["new_identity"], "identity"].value_counts()
        assert len(photographs.query) == len(answers) <= 60
        assert len(photographs.database) < 40
        assert (new > 1).sum() >= 5, "individuals with several photographs"
        known = set(photographs.database.identities)
        assert set(answers["identity"]) & known == set(answers.loc[~answers["new_identity"], "identity"])
        assert (not known) == (dataset == "HornedLizardID2026")


def test_weights_of_the_plain_world_know_the_small_ones_individuals_but_not_its_queries(tmp_path: Path) -> None:
    """Of a tiny species each: the same known individuals, whose database photographs are the same files."""
    lynx = PLAIN.species[:1]
    draw_world(tmp_path / "plain", 0, Design(lynx, (4, 4, 4), 2, (1, 5), first_new=3))
    draw_world(tmp_path / "small", 0, replace(SMALL, species=lynx, photographs=(2, 2, 2), new_individuals=2))
    plain, small = (read_catalogue(tmp_path / name) for name in ("plain", "small"))

    def contents(paths: list[Path]) -> set[bytes]:
        return {path.read_bytes() for path in paths}

    assert set(small.database.identities) == set(plain.database.identities)
    assert contents(small.database.paths) < contents(plain.database.paths)
    assert not contents(small.query.paths) & contents(plain.paths)
    solutions = [pd.read_csv(tmp_path / name / "solution.csv") for name in ("plain", "small")]
    new = [set(solution.loc[solution["new_identity"], "identity"]) for solution in solutions]
    assert new[0]
    assert new[1]
    assert not new[0] & new[1]


def test_names_and_clusters_are_both_scored_by_the_small_worlds_solution(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    solution = read_solution(small / "solution.csv")
    clusters = solution[["image_id"]].assign(cluster="cluster_" + solution["dataset"] + "_" + solution["identity"])
    names = solution[["image_id"]].assign(
        identity=solution["identity"].where(~solution["new_identity"], "new_individual")
    )
    for name, table in (("clusters", clusters), ("names", names)):
        table.to_csv(tmp_path / f"{name}.csv", index=False)
        assert cli.main(["score", str(tmp_path / f"{name}.csv"), str(small / "solution.csv")]) == 0
    ari, score = re.findall(r"^overall (.*)$", capsys.readouterr().out, re.MULTILINE)
    assert (ari, score) == ("1.0000", "0.7500")  # nobody of the lizards is known, for which a score of names counts 0
    for submission in (tmp_path / "clusters.csv", small / "sample_submission.csv"):
        assert cli.main(["check", str(small), "--submission", str(submission)]) == 0
