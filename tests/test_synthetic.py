"""The toy world is drawn as its description says."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from reid.config.presets import PRESETS
from reid.config.settings import with_settings
from reid.data import synthetic
from reid.data.catalogue import read_catalogue
from reid.data.photographs import View, open_photograph, views_of
from reid.data.synthetic import SPECIES, draw_world


def test_lying_salamanders_are_turned_upright_by_their_orientation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A back lies across the photograph: upright, the body's pixels spread more sideways than up and down."""
    monkeypatch.setattr(synthetic, "SPECIES", SPECIES[1:2])
    monkeypatch.setattr(synthetic, "PHOTOGRAPHS", (40, 40))
    monkeypatch.setattr(synthetic, "NEW_INDIVIDUALS", 1)
    draw_world(tmp_path)
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


def test_the_same_seed_draws_the_same_bytes_and_every_date_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(synthetic, "PHOTOGRAPHS", (3, 2, 1))
    monkeypatch.setattr(synthetic, "NEW_INDIVIDUALS", 1)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        draw_world(tmp_path / name, seed)
    a, b, c = (
        {str(file.relative_to(tmp_path / name)): file.read_bytes() for file in (tmp_path / name).rglob("*.*")}
        for name in "abc"
    )
    assert a == b
    assert a.keys() & c.keys() == {"metadata.csv", "sample_submission.csv", "solution.csv"}
    catalogue = read_catalogue(tmp_path / "a")
    assert len(catalogue.database) == 3 * (3 + 2 + 1)
    assert all(path.is_file() for path in catalogue.paths)
    assert (catalogue.table["day"] == catalogue.table["date"]).all()
    assert catalogue.table["day"].any()
