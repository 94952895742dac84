"""Animals that share a photograph: boxes from end to end, and no two of them with one name."""

import math
from pathlib import Path
from typing import Any

import bundle
import dry_run
import entry
import numpy as np
import pandas as pd
import pytest
from boxed import boxed, cut_out
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from reid import cli
from reid.data.catalogue import read_catalogue, rows_to_predict
from reid.decision import calibrate
from reid.decision.artifact import open_weights
from reid.decision.attach import attach
from reid.decision.calibrate import pseudo_query_pairs
from reid.decision.predict import predict
from reid.decision.pseudo_queries import PseudoQueryPairs, PseudoQuerySelection, match_pseudo_queries
from reid.decision.sightings import also_refused, keep_apart, most_neighbours
from reid.retrieval.gallery import Gallery

NO_MARGIN = ["--set", "data.box_margin=0"]
LOCAL = ["--recipe", "keypoints", "--set", "calibration.splits=5", "--set", "keypoints.count=60"]


def run(*words: object) -> None:
    assert cli.main([str(word) for word in words]) == 0


def answers(data: Path, folder: Path, *settings: str) -> pd.DataFrame:
    folder.mkdir()
    run("train", data, "--out", folder / "weights", *settings)
    run("predict", data, "--weights", folder / "weights", "--out", folder / "s.csv")
    return pd.read_csv(folder / "s.csv", dtype=str)


@pytest.mark.parametrize("local", [False, True], ids=["encoder", "keypoints"])
def test_boxes_are_answered_as_the_same_animals_cut_out(
    local: bool, patterns_original: Path, tiny_settings: list[str], tmp_path: Path
) -> None:
    settings = [*(LOCAL if local else tiny_settings), *NO_MARGIN]
    cut = answers(cut_out(patterns_original, tmp_path / "cut"), tmp_path / "of cut", *settings)
    # a picture that lies on its side is shrunk before it is turned, and rounded otherwise by that
    box = boxed(patterns_original, tmp_path / "box", turned=local)
    pd.testing.assert_frame_equal(cut, answers(box, tmp_path / "of box", *settings))
    whole = pd.read_csv(box / "metadata.csv", dtype=str, keep_default_na=False).drop(columns="bbox")
    whole.to_csv(box / "metadata.csv", index=False)
    assert not answers(box, tmp_path / "of whole", *settings).equals(cut)


@pytest.fixture(scope="module")
def herds(patterns_original: Path, tiny_settings: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs of three animals each, with weights trained on them."""
    folder = tmp_path_factory.mktemp("herds")
    boxed(patterns_original, folder / "data", together=3)
    run("train", folder / "data", "--out", folder / "weights", *tiny_settings)
    return folder


def test_no_two_animals_on_a_photograph_get_one_name(herds: Path) -> None:
    catalogue, weights = read_catalogue(herds / "data"), open_weights(herds / "weights")
    never = dict.fromkeys(weights.datasets, math.inf)
    matches = predict(catalogue, weights)
    rows = catalogue.query.table.set_index("image_id").loc[matches.queries["image_id"]]
    named = matches.queries["answer"].to_numpy() != "new_individual"
    pairs = list(zip(rows["path"][named], matches.queries["answer"][named], strict=True))
    assert len(pairs) > len(set(rows["path"])) / 2
    assert len(set(pairs)) == len(pairs)
    # without the rule some would share one, at least where everybody is named
    alone = catalogue.query.table.drop(columns="beside")
    raw = predict(type(catalogue)(catalogue.root, alone), weights, k=9)
    first = raw.wide.set_index("image_id").loc[rows.index]
    assert pd.Series(list(zip(rows["path"], first["identity"], strict=True))).duplicated().any()
    routes = dict(zip(raw.queries["image_id"], raw.queries["dataset"], strict=True))
    apart = keep_apart(raw.candidates, catalogue.query.table, routes, never, 9)
    best = apart[apart["rank"] == 1].set_index("image_id")["candidate"].loc[rows.index]
    assert not pd.Series(list(zip(rows["path"], best, strict=True))).duplicated().any()


def test_a_pseudo_query_never_meets_its_photograph(herds: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue, weights = read_catalogue(herds / "data"), open_weights(herds / "weights")
    paths = dict(zip(catalogue.image_ids, catalogue.table["path"], strict=True))
    met: list[tuple[str, str]] = []

    def noted(gallery: Gallery, selection: PseudoQuerySelection, *more: Any) -> PseudoQueryPairs:
        on = np.array([paths[image_id] for image_id in gallery.embeddings.image_id])
        for place, hidden in zip(selection.places, selection.hidden, strict=True):
            met.extend((on[place], other) for other in on[~hidden])
        return match_pseudo_queries(gallery, selection, *more)

    monkeypatch.setattr(calibrate, "match_pseudo_queries", noted)
    for dataset in weights.datasets:
        pseudo_query_pairs(catalogue, weights.folder, dataset, weights.recipe)
    assert met
    assert all(own != other for own, other in met)


def test_the_bundle_answers_boxes_and_masks_as_the_package_does(patterns_original: Path, tmp_path: Path) -> None:
    data = boxed(patterns_original, tmp_path / "data", together=2)
    table = pd.read_csv(data / "metadata.csv", dtype=str, keep_default_na=False)
    with Image.open(data / "1.png") as image:
        half = np.zeros(ImageOps.exif_transpose(image).size[::-1], np.uint8)
    half[:, ::2] = half[:, 1::4] = 255
    Image.fromarray(half).save(data / "mask.png")
    shared = table.groupby("path")["path"].transform("size") == 2  # the others are smaller
    table.assign(mask=np.where(shared, "mask.png", "")).to_csv(data / "metadata.csv", index=False)
    submission = tmp_path / "s.csv"
    run("train", data, "--out", tmp_path / "weights", *LOCAL)
    run("predict", data, "--weights", tmp_path / "weights", "--out", submission)
    dry_run.dry_run(bundle.write_bundle(tmp_path / "kernel"), data, tmp_path / "weights", submission)


def test_the_kernel_keeps_the_rows_of_a_photograph_in_one_part(herds: Path) -> None:
    queries = rows_to_predict(read_catalogue(herds / "data"))
    parts = entry.divide(queries, 3)
    assert sorted(name for part in parts for name in part.image_ids) == sorted(queries.image_ids)
    assert sum(len(set(part.paths)) for part in parts) == len(set(queries.paths))
    assert min(map(len, parts)) > 5


def candidates_of(rows: list[tuple[str, str, float]]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["image_id", "candidate", "dissimilarity"])
    table = table.sort_values(["image_id", "dissimilarity"], kind="stable", ignore_index=True)
    return table.assign(rank=table.groupby("image_id").cumcount() + 1, candidate_image_id="")


def queries_of(photographs: dict[str, str], known: dict[str, tuple[str, ...]] | None = None) -> pd.DataFrame:
    names = known or {}
    beside = [tuple(("Lynx", name) for name in names.get(path, ())) for path in photographs.values()]
    return pd.DataFrame({"image_id": list(photographs), "path": list(photographs.values()), "beside": beside})


def kept(rows: list[tuple[str, str, float]], queries: pd.DataFrame, limit: float = 0.5) -> dict[str, list[str]]:
    routes = dict.fromkeys(queries["image_id"], "Lynx")
    found = keep_apart(candidates_of(rows), queries, routes, {"Lynx": limit}, 5)
    assert (
        found.groupby("image_id")["rank"].apply(list).map(lambda ranks: ranks == list(range(1, len(ranks) + 1)))
    ).all()
    return {str(name): list(part["candidate"]) for name, part in found.groupby("image_id")}


def test_the_more_similar_query_keeps_the_name_and_the_other_goes_on() -> None:
    rows = [("p", "Mira", 0.3), ("p", "Tom", 0.4), ("q", "Mira", 0.2), ("r", "Mira", 0.35), ("p", "Zoe", 0.9)]
    queries = queries_of({"p": "1.jpg", "q": "./1.jpg", "r": "2.jpg"})
    assert kept(rows, queries) == {"p": ["Tom", "Zoe"], "q": ["Mira"], "r": ["Mira"]}
    assert kept(rows, queries, limit=0.1)["p"] == ["Mira", "Tom", "Zoe"]  # nobody is named


def test_who_is_known_on_the_photograph_is_nobody_else_on_it() -> None:
    rows = [("p", "MIRA", 0.1), ("p", "Tom", 0.4), ("p", "Ada", 0.45), ("q", "Mira", 0.2)]
    queries = queries_of({"p": "1.jpg", "q": "2.jpg"}, {"1.jpg": ("Mira", "Ada")})
    assert most_neighbours(queries) == 2
    assert kept(rows, queries) == {"p": ["Tom"], "q": ["Mira"]}
    assert most_neighbours(queries.drop(columns="beside")) == 0


def test_a_query_that_a_person_has_named_takes_no_other_name() -> None:
    rows = [("p", "Mira", 0.1), ("p", "Tom", 0.4), ("q", "Mira", 0.2)]  # p is Tom, somebody says
    queries = queries_of({"p": "1.jpg", "q": "1.jpg"})
    routes = dict.fromkeys(queries["image_id"], "Lynx")
    found = keep_apart(candidates_of(rows), queries, routes, {"Lynx": 0.5}, 5, {"p"})
    assert found["candidate"].tolist() == ["Mira", "Tom", "Mira"]
    assert kept(rows, queries) == {"p": ["Mira", "Tom"]}


def test_whom_a_person_saw_elsewhere_on_the_photograph_a_query_does_not_show() -> None:
    queries = queries_of({"p": "1.jpg", "q": "./1.jpg", "r": "2.jpg"})
    found = also_refused({"q": {"Ada"}, "r": {"Zoe"}}, queries, {"p": "Tom", "gone": "Mira"})
    assert found == {"q": {"Ada", "Tom"}, "r": {"Zoe"}}
    assert also_refused({}, queries, {"p": "Tom", "q": "Mira"}) == {"p": {"Mira"}, "q": {"Tom"}}


@given(st.integers(0, 10**6))
def test_names_are_given_as_a_slow_twin_gives_them(seed: int) -> None:
    """Again and again the most similar pair of all is taken, its query and its name are out."""
    rng = np.random.default_rng(seed)
    photographs = {f"q{number}": f"{rng.integers(2)}.jpg" for number in range(6)}
    rows = [(name, f"animal {who}", float(rng.random())) for name in photographs for who in rng.permutation(5)[:3]]
    expected, left = {}, [row for row in rows if row[2] < 0.6]
    while left:
        name, who, _ = min(left, key=lambda row: row[2])
        expected[name] = who
        left = [row for row in left if row[0] != name and (row[1] != who or photographs[row[0]] != photographs[name])]
    found = keep_apart(
        candidates_of(rows), queries_of(photographs), dict.fromkeys(photographs, "Lynx"), {"Lynx": 0.6}, 5
    )
    best = found[(found["rank"] == 1) & (found["dissimilarity"] < 0.6)]
    assert dict(zip(best["image_id"], best["candidate"], strict=True)) == expected


def test_of_two_clusters_on_one_photograph_one_is_the_individual() -> None:
    rows = pd.DataFrame(
        [("p", "Mira", 0.3), ("q", "Mira", 0.1), ("r", "Mira", 0.4)], columns=["image_id", "candidate", "dissimilarity"]
    )
    clusters = pd.Series({"p": "1", "q": "2", "r": "3"})
    found = attach(rows, clusters, 0.5, True, photographs={"p": "a.jpg", "q": "a.jpg", "r": "b.jpg"})
    assert {name: one.identity for name, one in found.items()} == {"1": "", "2": "Mira", "3": "Mira"}


def test_discover_keeps_the_animals_of_a_photograph_apart(herds: Path, tmp_path: Path) -> None:
    out = tmp_path / "c.csv"
    run("discover", herds / "data", "--weights", herds / "weights", "--out", out)
    clusters = pd.read_csv(tmp_path / "c.clusters.csv", dtype=str, keep_default_na=False)
    paths = dict(zip(*(read_catalogue(herds / "data").table[name] for name in ("image_id", "path")), strict=True))
    table = clusters.assign(path=clusters["image_id"].map(paths))
    assert not table.duplicated(["path", "cluster"]).any()
    named = table[table["identity"] != ""]
    assert not named.duplicated(["path", "identity"]).any()
