"""Discover from end to end, on drawn animals with keypoints and on patterns with an encoder: what comes out, what must
not matter, and what a person may hand in by mistake."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from textures import texture, warped

from reid import cli
from reid.config.recipe import Recipe
from reid.config.settings import with_settings
from reid.data.catalogue import COLUMNS, NEW_INDIVIDUAL, read_catalogue
from reid.decision import cuts
from reid.decision.artifact import MANIFEST, REFERENCE, gallery_file, open_weights, write_manifest
from reid.decision.clusters import adjusted_rand_index
from reid.decision.discover import discover
from reid.decision.discovered import CLUSTER_FLAGS, CLUSTERS_COLUMNS, clusters_path
from reid.decision.reference import Reference, save_reference
from reid.retrieval.gallery import GalleryFeatures, load_gallery
from reid.retrieval.photograph_pairs import Pool, compares_all

QUICK = ["--recipe", "keypoints", "--set", "keypoints.count=120", "--set", "calibration.splits=3"]

Edit = Callable[[Callable[[pd.DataFrame], pd.DataFrame]], None]


@pytest.fixture(autouse=True)
def few_collections(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cut that is fitted once is fitted sooner; of fewer collections it would be a matter of luck."""
    monkeypatch.setattr(cuts, "COLLECTIONS", 16)
    monkeypatch.setattr(cuts, "ROUNDS", 1)


def photograph(path: Path, animal: int, number: int) -> None:
    """Another view of a texture, with noise."""
    rng = np.random.default_rng([animal, number])
    matrix = np.array([[1, 0, 0], [0, 1, 0]]) + rng.uniform(-1, 1, (2, 3)) * [[0.1, 0.1, 8], [0.1, 0.1, 8]]
    pixels = warped(texture(animal), matrix).astype(float) + rng.normal(scale=6, size=(160, 160, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path, quality=90)


def draw(folder: Path, animals: list[tuple[str, int, int, int]]) -> Path:
    """A data folder of (dataset, animal, known photographs, queries), its queries in no order; and truth.csv."""
    rows, truth = [], []
    for dataset, animal, known, queries in animals:
        for number in range(known + queries):
            split = "database" if number < known else "query"
            path = f"images/{dataset}/{animal}-{number}.jpg"
            photograph(folder / path, animal, number)
            image_id = f"{dataset[0].lower()}{animal}-{number}"
            identity = f"animal {animal}" if split == "database" else ""
            rows.append((image_id, identity, path, "", "", dataset.lower(), split, dataset))
            truth.append((image_id, dataset, f"animal {animal}"))
    table = pd.DataFrame(rows, columns=list(COLUMNS)).sample(frac=1, random_state=0)
    table.to_csv(folder / "metadata.csv", index=False)
    pd.DataFrame(truth, columns=["image_id", "dataset", "identity"]).to_csv(folder / "truth.csv", index=False)
    return folder


def cell(table: pd.DataFrame, image_id: str, column: str) -> str:
    return str(table.at[image_id, column])


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lions: ten known, two of them queries too, and four new. Newts: three of whom nobody is known."""
    lions = [("Lions", animal, 3, 2 * (animal < 2)) for animal in range(10)]
    new = [("Lions", animal, 0, 3) for animal in range(100, 104)]
    newts = [("Newts", animal, 0, 3) for animal in range(200, 203)]
    return draw(tmp_path_factory.mktemp("discover") / "data", [*lions, *new, *newts])


@pytest.fixture(scope="module")
def weights(original: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("discover") / "weights"
    assert cli.main(["train", str(original), "--out", str(folder), *QUICK]) == 0
    return folder


@pytest.fixture
def data(original: Path, tmp_path: Path) -> Path:
    """A data folder of its own, to be damaged."""
    return Path(shutil.copytree(original, tmp_path / "data"))


@pytest.fixture
def edit(data: Path) -> Edit:
    def change(by: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
        by(table_of(data)).to_csv(data / "metadata.csv", index=False)

    return change


def table_of(data: Path) -> pd.DataFrame:
    return pd.read_csv(data / "metadata.csv", dtype=str, keep_default_na=False)


def run(data: Path, weights: Path, out: Path, *more: object) -> int:
    return cli.main(["discover", str(data), "--weights", str(weights), "--out", str(out), *map(str, more)])


def discovered(data: Path, weights: Path, out: Path, *more: object) -> pd.DataFrame:
    """The rows of NAME.clusters.csv, after what holds for every result was checked."""
    assert run(data, weights, out, *more) == 0
    submission = pd.read_csv(out, dtype=str, keep_default_na=False)
    found = pd.read_csv(clusters_path(out), dtype=str, keep_default_na=False)
    queries = table_of(data)
    queries = queries[queries["split"].isin(["query", "test"])]
    assert list(submission.columns) == ["image_id", "cluster"]
    assert list(found.columns) == list(CLUSTERS_COLUMNS)
    assert submission["image_id"].tolist() == queries["image_id"].tolist()
    assert submission.equals(found[["image_id", "cluster"]])
    assert found["dataset"].tolist() == queries["dataset"].tolist()
    for dataset, cluster, flags in zip(found["dataset"], found["cluster"], found["flags"], strict=True):
        assert cluster.startswith(f"cluster_{dataset}_")
        assert set(flags.split()) <= set(CLUSTER_FLAGS)
    chances = found["probability"][found["probability"] != ""].astype(float)
    assert chances.between(0, 1).all()
    return found.set_index("image_id")


def partition(found: pd.DataFrame) -> set[frozenset[str]]:
    return {frozenset(rows.index) for _, rows in found.groupby("cluster")}


def index_of(found: pd.DataFrame, data: Path, dataset: str) -> float:
    truth = pd.read_csv(data / "truth.csv", dtype=str).set_index("image_id")["identity"]
    own = found[found["dataset"] == dataset]
    return adjusted_rand_index(truth[own.index].tolist(), own["cluster"].tolist())


@pytest.fixture(scope="module")
def first(original: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A result."""
    out = tmp_path_factory.mktemp("first") / "s.csv"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cuts, "COLLECTIONS", 16)
        patch.setattr(cuts, "ROUNDS", 1)
        discovered(original, weights, out)
    return out


def read(first: Path) -> pd.DataFrame:
    return pd.read_csv(clusters_path(first), dtype=str, keep_default_na=False).set_index("image_id")


def test_photographs_of_one_animal_come_together(original: Path, first: Path) -> None:
    found = read(first)
    assert index_of(found, original, "Lions") > 0.8
    assert index_of(found, original, "Newts") > 0.8
    for animal in (0, 1):
        assert (found.loc[[f"l{animal}-3", f"l{animal}-4"], "identity"] == f"animal {animal}").all()
    assert (found["identity"][found.index.str.match(r"l10\d|n")] == "").all()
    flags = found["flags"].str.split()
    assert [("borrowed" in words) for words in flags] == (found["dataset"] == "Newts").tolist()
    alone = found.groupby("cluster")["flags"].transform("size") == 1
    assert [("alone" in words) for words in flags] == alone.tolist()


def test_a_second_run_writes_the_same_bytes(
    original: Path, weights: Path, first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "s.csv"
    assert run(original, weights, out, "--json") == 0
    assert out.read_bytes() == first.read_bytes()
    assert clusters_path(out).read_bytes() == clusters_path(first).read_bytes()
    printed = json.loads(capsys.readouterr().out)
    found = read(first)
    assert (printed["submission"], printed["clusters"]) == (str(out), str(clusters_path(out)))
    assert printed["photographs"] == len(found)
    assert set(printed["datasets"]) == {"Lions", "Newts"}
    for dataset, one in printed["datasets"].items():
        own = found[found["dataset"] == dataset]
        assert (one["photographs"], one["clusters"]) == (len(own), own["cluster"].nunique())
        assert one["known"] == (own["identity"] != "").sum()
        assert one["plateau"][0] <= one["value"] <= one["plateau"][1]
        assert one["borrowed"] == ([] if dataset == "Lions" else ["Lions"])
    assert printed["datasets"]["Lions"]["individuals"] == 10


def test_the_order_of_the_rows_changes_no_cluster(
    data: Path, weights: Path, first: Path, edit: Edit, tmp_path: Path
) -> None:
    edit(lambda table: table.sample(frac=1, random_state=1))
    assert partition(discovered(data, weights, tmp_path / "s.csv")) == partition(read(first))


def test_without_a_cache_the_same_is_found(original: Path, weights: Path, first: Path, tmp_path: Path) -> None:
    from reid.data.catalogue import read_catalogue
    from reid.decision.artifact import open_weights
    from reid.decision.discover import discover

    discover(read_catalogue(original), open_weights(weights), use_cache=False).save(tmp_path / "s.csv")
    assert (tmp_path / "s.csv").read_bytes() == first.read_bytes()


def test_labels_of_a_previous_result_are_kept(original: Path, weights: Path, first: Path, tmp_path: Path) -> None:
    before = pd.read_csv(first, dtype=str)
    before["cluster"] = before["cluster"] + "7"
    gone = before["image_id"].str.startswith("l100")  # as if they had been added since
    before[~gone].to_csv(tmp_path / "before.csv", index=False)
    found = discovered(original, weights, tmp_path / "s.csv", "--previous", tmp_path / "before.csv")
    assert partition(found) == partition(read(first))
    labels = before.set_index("image_id")["cluster"]
    whole = [group for group in partition(found) if not any(name.startswith("l100") for name in group)]
    for group in whole:
        assert set(found.loc[[*group], "cluster"]) == set(labels[[*group]])
    new = set(found["cluster"]) - set(labels)
    assert new
    highest = max(int(label.rsplit("_", 1)[1]) for label in labels if "Lions" in label)
    assert all(int(label.rsplit("_", 1)[1]) > highest for label in new)


def test_what_a_person_said_is_honoured(data: Path, weights: Path, tmp_path: Path) -> None:
    rows = [("l100-0", "l101-0", "same"), ("l102-0", "l102-1", "different"), ("n200-0", "n200-1", "unsure")]
    answers = pd.DataFrame(rows, columns=["image_id_a", "image_id_b", "answer"])
    answers.to_csv(data / "pairs.csv", index=False)
    found = discovered(data, weights, tmp_path / "s.csv")
    assert cell(found, "l100-0", "cluster") == cell(found, "l101-0", "cluster")
    assert cell(found, "l102-0", "cluster") != cell(found, "l102-1", "cluster")
    linked = found.index[["linked" in flags.split() for flags in found["flags"]]]
    assert set(linked) == {"l100-0", "l101-0", "l102-0", "l102-1"}
    elsewhere = (data / "pairs.csv").rename(tmp_path / "said.csv")
    again = discovered(data, weights, tmp_path / "t.csv", "--pairs", elsewhere)
    assert partition(again) == partition(found)


def test_an_answer_names_a_cluster(data: Path, weights: Path, tmp_path: Path) -> None:
    pd.DataFrame([("l103-0", "l5-0", "same")], columns=["image_id_a", "image_id_b", "answer"]).to_csv(
        data / "pairs.csv", index=False
    )
    found = discovered(data, weights, tmp_path / "s.csv")
    assert (cell(found, "l103-0", "identity"), float(cell(found, "l103-0", "probability"))) == ("animal 5", 1)


def test_one_photograph_of_a_dataset_is_a_cluster(data: Path, weights: Path, edit: Edit, tmp_path: Path) -> None:
    edit(lambda table: table[~table["image_id"].str.match(r"n20\d-[12]|n20[12]")])
    found = discovered(data, weights, tmp_path / "s.csv")
    assert cell(found, "n200-0", "cluster") == "cluster_Newts_1"
    assert "alone" in cell(found, "n200-0", "flags").split()


def test_copies_of_one_photograph_are_one_cluster(data: Path, weights: Path, edit: Edit, tmp_path: Path) -> None:
    newts = sorted((data / "images" / "Newts").glob("*.jpg"))
    for path in newts[1:]:
        shutil.copy(newts[0], path)
    found = discovered(data, weights, tmp_path / "s.csv")
    assert found[found["dataset"] == "Newts"]["cluster"].nunique() == 1


def test_a_person_may_say_that_copies_show_two_animals(data: Path, weights: Path, tmp_path: Path) -> None:
    """Such as two that somebody cut out of one photograph, before she sent the whole one twice."""
    newts = sorted((data / "images" / "Newts").glob("*.jpg"))
    for path in newts[1:]:
        shutil.copy(newts[0], path)
    for one, other in (("n200-1", "n200-2"), ("n202-2", "n201-0")):
        answers = pd.DataFrame([(one, other, "different")], columns=["image_id_a", "image_id_b", "answer"])
        answers.to_csv(data / "pairs.csv", index=False)
        found = discovered(data, weights, tmp_path / "s.csv")
        assert cell(found, one, "cluster") != cell(found, other, "cluster")
        assert found[found["dataset"] == "Newts"]["cluster"].nunique() == 2


def test_photographs_on_which_nothing_is_seen_are_alone_or_together(data: Path, weights: Path, tmp_path: Path) -> None:
    for number, path in enumerate(sorted((data / "images" / "Newts").glob("*.jpg"))):
        Image.new("RGB", (160, 160), (25 * number, 90, 90)).save(path)
    for name in ("l100-0", "l100-1"):
        Image.new("RGB", (160, 160), (int(name[-1]) * 200, 2, 3)).save(data / f"images/Lions/{name[1:]}.jpg")
    found = discovered(data, weights, tmp_path / "s.csv")
    assert len(partition(found[found["dataset"] == "Newts"])) == 9
    assert cell(found, "l100-0", "cluster") != cell(found, "l100-1", "cluster")
    assert "alone" in cell(found, "l100-0", "flags").split()


def test_photographs_that_cannot_be_read_are_alone(data: Path, weights: Path, tmp_path: Path) -> None:
    """All of one dataset, and one of another."""
    for path in (data / "images" / "Newts").glob("*.jpg"):
        path.write_bytes(b"no photograph")
    (data / "images/Lions/100-0.jpg").unlink()
    found = discovered(data, weights, tmp_path / "s.csv")
    unreadable = [*found.index[found["dataset"] == "Newts"], "l100-0"]
    flags = found["flags"].str.split()
    assert set(found.index[["unreadable" in words for words in flags]]) == set(unreadable)
    assert found["cluster"].value_counts()[found.loc[unreadable, "cluster"]].eq(1).all()
    assert cell(found, "l100-1", "cluster") == cell(found, "l100-2", "cluster")


def test_two_photographs_without_others_are_too_few_to_be_put_together(
    data: Path, weights: Path, edit: Edit, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A keypoint votes for the photograph that is nearer than others, and there are none: said, and nothing is made
    up."""
    edit(lambda table: table[(table["split"] == "database") | table["image_id"].str.match(r"l100-[01]")])
    found = discovered(data, weights, tmp_path / "s.csv")
    assert [flags.split() for flags in found["flags"]] == [["alone", "unfitted"]] * 2
    assert "too few photographs or known individuals to fit it on" in capsys.readouterr().out


def refused(data: Path, weights: Path, out: Path, capsys: pytest.CaptureFixture[str], *more: object) -> str:
    """The message of a call that is refused, and leaves nothing behind."""
    capsys.readouterr()
    assert run(data, weights, out, *more) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert not out.exists()
    assert not clusters_path(out).exists()
    lines = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


def test_photographs_of_which_none_can_be_read_are_refused(
    data: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (data / "images").rglob("*.jpg"):
        path.write_bytes(b"")
    words = refused(data, weights, tmp_path / "s.csv", capsys)
    assert "none of 25 can be read" in words
    assert "reid check" in words


def test_a_row_without_a_dataset_is_refused(
    data: Path, weights: Path, edit: Edit, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(lambda table: table.assign(dataset=table["dataset"].where(table["image_id"] != "n201-1", "")))
    words = refused(data, weights, tmp_path / "s.csv", capsys)
    row = table_of(data)["image_id"].tolist().index("n201-1") + 2
    assert f"row {row}" in words
    assert "column dataset" in words


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([("l100-0", "l100-1", "same"), ("l100-1", "l100-2", "same"), ("l100-0", "l100-2", "different")], "row 4"),
        ([("l100-0", "l100-1", "same"), ("l100-1", "l100-0", "different")], "rows 2, 3"),
        ([("l100-0", "l0-0", "same"), ("l100-0", "l1-0", "same")], "'animal 1' and 'animal 0' one animal"),
        ([("l100-0", "l999-9", "same")], "'l999-9'"),
        ([("l100-0", "n200-0", "same")], "Lions"),
        ([("l100-0", "l100-1", "maybe")], "'maybe'"),
    ],
)
def test_answers_that_cannot_be_honoured_are_refused(
    rows: list[tuple[str, str, str]],
    words: str,
    data: Path,
    weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pd.DataFrame(rows, columns=["image_id_a", "image_id_b", "answer"]).to_csv(data / "pairs.csv", index=False)
    message = refused(data, weights, tmp_path / "s.csv", capsys)
    assert "pairs.csv" in message
    assert words in message


def test_a_previous_result_of_other_data_is_refused(
    original: Path, weights: Path, first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = pd.read_csv(first, dtype=str)
    before.assign(image_id="other " + before["image_id"]).to_csv(tmp_path / "other.csv", index=False)
    words = refused(original, weights, tmp_path / "s.csv", capsys, "--previous", tmp_path / "other.csv")
    assert "other.csv: expected photographs of metadata.csv, found none of them" in words
    words = refused(original, weights, tmp_path / "s.csv", capsys, "--previous", tmp_path / "no.csv")
    assert "no.csv: expected a CSV file here, found none" in words


def test_weights_of_an_earlier_version_are_calibrated_again(
    original: Path, weights: Path, first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    earlier = Path(shutil.copytree(weights, tmp_path / "weights"))
    manifest = json.loads((earlier / MANIFEST).read_text())
    for name in [name for name in manifest["files"] if name.endswith(REFERENCE)]:
        del manifest["files"][name]
        (earlier / name).unlink()
    (earlier / MANIFEST).write_text(json.dumps(manifest))
    words = refused(original, earlier, tmp_path / "s.csv", capsys)
    assert f"Run `reid calibrate DATA --weights {earlier}` once" in words
    assert cli.main(["calibrate", str(original), "--weights", str(earlier)]) == 0
    assert run(original, earlier, tmp_path / "s.csv") == 0
    assert (tmp_path / "s.csv").read_bytes() == first.read_bytes()


def test_galleries_that_were_enrolled_again_are_calibrated_first(
    data: Path, weights: Path, edit: Edit, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = Path(shutil.copytree(weights, tmp_path / "weights"))
    edit(lambda table: table[~table["image_id"].str.match(r"l[78]-[0-2]")])
    assert cli.main(["enroll", str(data), "--weights", str(own)]) == 0
    words = refused(data, own, tmp_path / "s.csv", capsys)
    assert f"it was enrolled again since. Run `reid calibrate DATA --weights {own}`" in words
    assert cli.main(["calibrate", str(data), "--weights", str(own)]) == 0
    discovered(data, own, tmp_path / "s.csv")


def test_an_encoder_puts_the_competitions_photographs_together(
    patterns_2026: Path, patterns_weights_original: Path, tmp_path: Path
) -> None:
    found = discovered(patterns_2026, patterns_weights_original, tmp_path / "s.csv")
    assert set(found["dataset"]) == {"Checks", "Dots", "TexasHornedLizards"}


def test_a_dataset_without_an_encoder_is_put_together_alike_in_any_order(
    patterns_2026: Path, patterns_weights_original: Path, tmp_path: Path
) -> None:
    mixed = Path(shutil.copytree(patterns_2026, tmp_path / "data"))
    table_of(mixed).sample(frac=1, random_state=3).to_csv(mixed / "metadata.csv", index=False)
    folders = {name: tmp_path / f"{name}.csv" for name in ("one", "other")}
    (mixed / "sample_submission.csv").unlink()
    one = discovered(patterns_2026, patterns_weights_original, folders["one"])
    other = discovered(mixed, patterns_weights_original, folders["other"])
    lizards = one["dataset"] == "TexasHornedLizards"
    assert 1 < one[lizards]["cluster"].nunique() < lizards.sum()
    assert partition(one) == partition(other)


def test_a_person_names_a_cluster_where_no_gallery_could(data: Path, weights: Path, edit: Edit, tmp_path: Path) -> None:
    """Newts have no known photograph in the weights; later one is named in the table."""
    edit(
        lambda table: table.assign(
            split=table["split"].mask(table["image_id"] == "n200-0", "database"),
            identity=table["identity"].mask(table["image_id"] == "n200-0", "Nessie"),
        )
    )
    answers = pd.DataFrame([("n200-0", "n200-1", "same")], columns=["image_id_a", "image_id_b", "answer"])
    answers.to_csv(data / "pairs.csv", index=False)
    found = discovered(data, weights, tmp_path / "s.csv")
    assert (cell(found, "n200-1", "identity"), float(cell(found, "n200-1", "probability"))) == ("Nessie", 1)


def test_labels_name_datasets_as_the_table_does(data: Path, weights: Path, edit: Edit, tmp_path: Path) -> None:
    """Where the weights know them by another spelling, checks and scores still go by the table."""
    own = Path(shutil.copytree(weights, tmp_path / "weights"))
    known = open_weights(own)
    joining = with_settings(known.recipe, {"data.join_names": True})
    write_manifest(own, joining, list(known.datasets), known.manifest["data"])
    edit(lambda table: table.assign(dataset=table["dataset"].replace("Lions", "LIONS")))
    out, again = tmp_path / "s.csv", tmp_path / "t.csv"
    assert run(data, own, out) == 0
    assert "cluster_LIONS_1" in out.read_text()
    assert cli.main(["check", str(data), "--submission", str(out)]) == 0
    assert run(data, own, again, "--previous", out) == 0
    assert again.read_bytes() == out.read_bytes()


def test_the_page_is_made_with_its_score_and_its_sides(
    data: Path, weights: Path, edit: Edit, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    left = ("l100-0", "l100-1", "l101-0")
    edit(lambda table: table.assign(orientation=np.where(table["image_id"].isin(left), "left", "right")))
    truth = pd.read_csv(data / "truth.csv", dtype=str).assign(Usage="all")
    queries = table_of(data).query("split == 'query'")["image_id"]
    truth[truth["image_id"].isin(queries)].to_csv(tmp_path / "solution.csv", index=False)
    more = ("--report", tmp_path / "page", "--solution", tmp_path / "solution.csv")
    found = discovered(data, weights, tmp_path / "s.csv", *more)
    printed = capsys.readouterr().out
    assert "expected ARI" in printed and "the kit's own" not in printed
    assert "an animal may be in several clusters, one per side" in printed
    assert "adjusted Rand index" in (tmp_path / "page" / "report.html").read_text("utf-8")
    sides = table_of(data).set_index("image_id")["orientation"]
    lions = found[found["dataset"] == "Lions"]
    seen = sides[lions.index].groupby(lions["cluster"]).transform("nunique")
    assert ["one_side" in flags.split() for flags in lions["flags"]] == (seen == 1).tolist()


def test_a_solution_without_a_page_is_refused_before_the_work(
    data: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(data, weights, tmp_path / "s.csv", "--solution", data / "truth.csv") == 2
    assert "expected --report DIR with it" in capsys.readouterr().err


def test_pseudo_collections_are_compared_as_the_photographs_that_they_stand_for(
    patterns_2026: Path, patterns_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fourteen photographs may all be compared with each other, the 24 of the reference would be too many."""
    weights = open_weights(patterns_weights)
    known = load_gallery(patterns_weights / gallery_file("Checks"))
    ids, vectors = known.embeddings.image_id, known.embeddings.vectors
    reference = Reference(ids, known.identity, ("",) * len(ids), torch.cdist(vectors, vectors).numpy())
    save_reference(patterns_weights, "Checks", reference)
    weights = write_manifest(patterns_weights, weights.recipe, list(weights.datasets), weights.manifest["data"])
    made: dict[str, bool] = {}
    original_of = Pool.of

    def remember(photographs: GalleryFeatures, recipe: Recipe, what: str, *rest: Any, **options: Any) -> Pool:
        whole = options.get("whole")
        made[what] = compares_all(len(photographs), recipe) if whole is None else whole
        return original_of(photographs, recipe, what, *rest, **options)

    monkeypatch.setattr(Pool, "of", remember)
    few = with_settings(weights.recipe, {"matching.whole_gallery": 14})
    discover(read_catalogue(patterns_2026), weights, few)
    assert made == dict.fromkeys(made, True)
    assert {"comparing Checks", "preparing Checks"} <= made.keys()


@pytest.fixture(scope="module")
def nameless(original: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The world's queries alone: nobody has a name."""
    folder = Path(shutil.copytree(original, tmp_path_factory.mktemp("nameless") / "data"))
    table = table_of(folder)
    table[table["split"] == "query"].to_csv(folder / "metadata.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def nobodys(nameless: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights that know nobody."""
    folder = tmp_path_factory.mktemp("nameless") / "weights"
    assert cli.main(["train", str(nameless), "--out", str(folder), *QUICK]) == 0
    return folder


def test_where_nobody_is_known_everybody_is_called_new(nameless: Path, nobodys: Path, tmp_path: Path) -> None:
    out = tmp_path / "s.csv"
    assert cli.main(["predict", str(nameless), "--weights", str(nobodys), "--out", str(out)]) == 0
    found = pd.read_csv(out, dtype=str)
    assert found["image_id"].tolist() == table_of(nameless)["image_id"].tolist()
    assert set(found["identity"]) == {NEW_INDIVIDUAL}


def test_photographs_are_put_together_where_nobody_has_a_name(nameless: Path, nobodys: Path, tmp_path: Path) -> None:
    found = discovered(nameless, nobodys, tmp_path / "s.csv")
    assert index_of(found, nameless, "Lions") > 0.5
    assert all("unfitted" in flags.split() for flags in found["flags"])
    assert set(found["identity"]) == {""}


def test_known_photographs_that_tell_nobody_apart_are_no_reference(data: Path, weights: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(weights, tmp_path / "weights"))
    table = pd.read_csv(data / "metadata.csv", dtype=str)
    for number, path in enumerate(table["path"][table["split"] == "database"]):
        Image.new("RGB", (160, 160), (number, 90, 90)).save(data / path)
    for command in ("enroll", "calibrate"):
        assert cli.main([command, str(data), "--weights", str(folder)]) == 0
    found = discovered(data, folder, tmp_path / "s.csv")
    assert all("unfitted" in flags.split() for flags in found["flags"])
    assert set(found["identity"]) == {""}
