"""Labels of clusters: which earlier ones are kept when photographs are added, and clusters enrolled as individuals."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_unmatchable import KEYPOINTS, Photographs, animal, draw

from reid import cli
from reid.data.catalogue import read_catalogue
from reid.decision.artifact import open_weights
from reid.decision.cluster_enrolment import with_clusters
from reid.decision.labels import keep_labels, read_labels
from reid.errors import InputError
from reid.retrieval.gallery import load_gallery

DATASETS = {"a": "Lynx", "b": "Lynx", "c": "Lynx", "n": "Newt", "free": ""}


def write_labels(folder: Path, *rows: str, header: str = "image_id,cluster") -> Path:
    path = folder / "earlier.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def previous(**clusters: str) -> pd.DataFrame:
    """previous(Lynx_1="ab") has a and b in cluster_Lynx_1."""
    rows = [(image_id, f"cluster_{name}") for name, some in clusters.items() for image_id in some]
    return pd.DataFrame(rows, columns=["image_id", "cluster"])


def kept(earlier: pd.DataFrame | None, **labels: int) -> dict[str, str]:
    """The names of photographs of Lynx in such clusters, without what all names share."""
    names = keep_labels(earlier, list(labels), list(labels.values()), ["Lynx"] * len(labels))
    assert all(name.startswith("cluster_Lynx_") for name in names)
    return {image_id: name.removeprefix("cluster_Lynx_") for image_id, name in zip(labels, names, strict=True)}


def test_without_an_earlier_result_clusters_are_numbered_from_one_in_each_dataset() -> None:
    names = keep_labels(None, list("abcd"), [5, 5, 0, 0], ["Lynx", "Lynx", "Lynx", "Newt"])
    assert names == ["cluster_Lynx_1", "cluster_Lynx_1", "cluster_Lynx_2", "cluster_Newt_1"]
    assert keep_labels(None, [], [], []) == []


@pytest.mark.parametrize(
    ("earlier", "labels", "names"),
    [
        # d is new to an old animal, e is a new one
        (previous(Lynx_4="ab", Lynx_9="c"), {"a": 0, "b": 0, "d": 0, "c": 1, "e": 2}, "4 4 4 9 10"),
        # a cluster that fell apart: the larger part keeps the name
        (previous(Lynx_4="abc"), {"c": 0, "a": 1, "b": 1}, "5 4 4"),
        # two that became one: the larger one names it, and nothing takes the other's name
        (previous(Lynx_1="a", Lynx_2="bc"), {"a": 0, "b": 0, "c": 0, "d": 1}, "2 2 2 3"),
        # as many photographs as possible keep theirs: 2 + 2, not 3 + 0
        (previous(Lynx_1="abcfg", Lynx_2="de"), {**dict.fromkeys("abcde", 0), "f": 1, "g": 1}, "2 2 2 2 2 1 1"),
        # a name of another form is kept, numbers of photographs that are gone stay taken
        (previous(Lynx_Mira="a", Lynx_007="z", Newt_99="n"), {"a": 0, "b": 1}, "Mira 8"),
        # three old animals are one now, and a fourth photograph shares nothing with what is left over
        (previous(Lynx_1="abcx", Lynx_2="de", Lynx_3="f"),
         {**dict.fromkeys("ax", 0), "b": 1, **dict.fromkeys("cdef", 2)}, "1 1 4 2 2 2 2"),
        # nothing in common
        (previous(Lynx_3="z"), {"a": 0, "b": 1}, "4 5"),
    ],
)  # fmt: skip
def test_a_cluster_keeps_the_name_of_the_earlier_one(earlier: pd.DataFrame, labels: dict[str, int], names: str) -> None:
    assert list(kept(earlier, **labels).values()) == names.split()


@given(st.integers(0, 2**32), st.integers(1, 12))
def test_as_many_photographs_as_possible_keep_their_label_and_their_order_does_not_matter(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    image_ids = [f"{number:02d}" for number in range(n)]
    before, labels = rng.integers(0, 5, n), rng.integers(0, 5, n)
    was_there = rng.random(n) < 0.8
    rows = [(i, f"cluster_Lynx_{b}") for i, b, there in zip(image_ids, before, was_there, strict=True) if there]
    earlier = pd.DataFrame(rows, columns=["image_id", "cluster"])
    names = keep_labels(earlier, image_ids, labels.tolist(), ["Lynx"] * n)
    pairs = set(zip(labels.tolist(), names, strict=True))
    assert len(pairs) == len(set(labels.tolist())) == len(set(names))  # one to one
    same = sum(name == dict(rows).get(image_id) for image_id, name in zip(image_ids, names, strict=True))
    clusters = sorted(set(labels.tolist()))
    best = max(
        sum(was_there[k] and before[k] == chosen[clusters.index(labels[k])] for k in range(n))
        for chosen in itertools.permutations([*range(5), *[-1] * len(clusters)][: max(5, len(clusters))], len(clusters))
    )
    assert same == best
    for label, name in pairs:  # nobody takes the name of an animal with which it has nothing in common
        assert name not in dict(rows).values() or any(
            labels[k] == label and dict(rows).get(image_ids[k]) == name for k in range(n)
        )
    fresh = set(names) - {name for _, name in rows}
    assert not {int(name.rpartition("_")[2]) for name in fresh} & set(before[was_there].tolist())
    order = rng.permutation(n)
    again = keep_labels(
        earlier.sample(frac=1, random_state=seed % 2**32),
        [image_ids[k] for k in order],
        labels[order].tolist(),
        ["Lynx"] * n,
    )
    old = {name for _, name in rows}
    for place, k in enumerate(order):
        assert again[place] == names[k] or (again[place] not in old and names[k] not in old)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (["x,cluster_Lynx_1", "y,cluster_Lynx_1"], ": expected photographs of metadata.csv, found none of them in it, "
         "but 'x' and 1 others; name a result for the same data folder"),
        ([], "but no row"),
        (["a,cluster_Lynx_1", "n,cluster_Lynx_2"], ": row 3: column cluster: expected a label of the photograph's "
         "dataset, cluster_Newt_NAME; found 'cluster_Lynx_2'"),
        (["a,cluster_Lynx_"], "found 'cluster_Lynx_'"),
        (["a,7"], "found '7'"),
        (["free,cluster_1"], "cluster_DATASET_NAME; found 'cluster_1'"),
        (["a,cluster_Lynx_1", "a,cluster_Lynx_1"], ": row 3: column image_id: expected every photograph once, it came"),
    ],
)  # fmt: skip
def test_an_earlier_result_that_does_not_fit_is_refused(rows: list[str], words: str, tmp_path: Path) -> None:
    path = write_labels(tmp_path, *rows)
    with pytest.raises(InputError) as told:
        read_labels(path, DATASETS)
    assert str(told.value).startswith(str(path))
    assert words in str(told.value)


def test_photographs_that_are_gone_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_labels(tmp_path, "a,cluster_Lynx_1", "z,cluster_Lynx_2", "free,cluster_Any_1")
    assert list(read_labels(path, DATASETS)["image_id"]) == ["a", "z", "free"]
    (told,) = [record.message for record in caplog.records]
    assert told.endswith("1 of 3 photographs are not in metadata.csv (row 3: image_id z); the others are used")


# enrolled as individuals


Clusters = Callable[..., Path]


@pytest.fixture
def clusters(patterns: Path, tmp_path: Path) -> Clusters:
    """Writes the true partition of the tiny world's queries; the animals that nobody knows are number 6 of each
    dataset, the others get their names."""

    def write(**changed: Any) -> Path:
        solution = pd.read_csv(patterns / "solution.csv", dtype=str)
        truth = solution["identity"].where(solution["identity"] != "new_individual", solution["dataset"] + "_6")
        table = pd.DataFrame({"image_id": solution["image_id"], "dataset": solution["dataset"]})
        table["cluster"] = "cluster_" + truth
        table["identity"] = truth.where(~truth.str.endswith("_6"), "")
        table = table.assign(**changed)
        table.to_csv(tmp_path / "d.clusters.csv", index=False)
        return tmp_path / "d.clusters.csv"

    return write


def run(*words: object) -> int:
    return cli.main(list(map(str, words)))


def test_clusters_become_individuals_that_are_found_again(
    patterns: Path, patterns_weights: Path, clusters: Clusters, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {name: load_gallery(patterns_weights / f"{name}.gallery.safetensors") for name in ("Checks", "Dots")}
    path = clusters()
    assert run("enroll", patterns, "--weights", patterns_weights, "--clusters", path) == 0
    assert "and the clusters of" in capsys.readouterr().out
    for name, old in before.items():
        gallery = load_gallery(patterns_weights / f"{name}.gallery.safetensors")
        assert set(gallery.individuals) == {*old.individuals, f"cluster_{name}_6"}
        assert len(gallery.identity) == len(old.identity) + 14
        assert set(gallery.clustered) == set(gallery.embeddings.image_id) - set(old.embeddings.image_id)
    weights = open_weights(patterns_weights)
    assert weights.manifest["data"] == read_catalogue(patterns).database.fingerprint
    assert run("calibrate", patterns, "--weights", patterns_weights) == 0
    call = ["predict", patterns, "--weights", patterns_weights, "--out", tmp_path / "s.csv", "--route", "column"]
    assert run(*call) == 0
    matches = pd.read_csv(tmp_path / "s.matches.csv", dtype=str)
    best = matches[matches["rank"] == "1"].set_index("image_id")["candidate"]
    truth = pd.read_csv(path, dtype=str, keep_default_na=False).set_index("image_id")
    assert (best[truth.index] == truth["identity"].where(truth["identity"] != "", truth["cluster"])).all()
    assert run("report", patterns, "--weights", patterns_weights, "--out", tmp_path / "report") == 0
    # without the clusters everything is as it was
    assert run("enroll", patterns, "--weights", patterns_weights) == 0
    for name, old in before.items():
        again = load_gallery(patterns_weights / f"{name}.gallery.safetensors")
        assert (again.identity, again.clustered) == (old.identity, ())


def test_single_clusters_may_be_chosen(patterns: Path, patterns_weights: Path, clusters: Clusters) -> None:
    call = ["enroll", patterns, "--weights", patterns_weights, "--clusters", clusters()]
    assert run(*call, "--only", "cluster_Dots_6") == 0
    assert load_gallery(patterns_weights / "Checks.gallery.safetensors").clustered == ()
    gallery = load_gallery(patterns_weights / "Dots.gallery.safetensors")
    assert gallery.identity.count("cluster_Dots_6") == len(gallery.clustered) == 2


def fails(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    capsys.readouterr()
    assert run(*words) == 2
    return capsys.readouterr().err


def test_a_wrong_choice_is_told(
    patterns: Path, patterns_weights: Path, clusters: Clusters, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["enroll", patterns, "--weights", patterns_weights]
    assert "--only: expected --clusters CSV with it" in fails(capsys, *call, "--only", "cluster_Dots_6")
    call += ["--clusters", clusters()]
    told = fails(capsys, *call, "--only", "cluster_Dots_6,cluster_Dots_77")
    assert "found cluster_Dots_77, which is not in it; it has cluster_Checks_0, " in told
    image_ids = pd.read_csv(patterns / "solution.csv", dtype=str)["image_id"]
    dataset = pd.read_csv(patterns / "solution.csv", dtype=str)["dataset"]
    clusters(cluster="cluster_" + dataset + "_" + image_ids)
    assert "expected a cluster with two or more photographs to enrol, found none" in fails(capsys, *call)


def test_names_of_clusters(patterns: Path, clusters: Clusters, edit_rows: Callable) -> None:
    path = clusters()
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    new = table["cluster"] == "cluster_Dots_6"
    catalogue = read_catalogue(patterns)

    def names(catalogue: Any = catalogue, only: str = "cluster_Dots_6", **changed: Any) -> set[str]:
        enrolled = with_clusters(catalogue, clusters(**changed), [only])
        chosen = enrolled.table[enrolled.table["clustered"]]
        assert (chosen["split"] == "database").all()
        assert enrolled.table.index.equals(catalogue.table.index)
        assert (
            enrolled.table[~enrolled.table["clustered"]]
            .drop(columns="clustered")
            .equals(catalogue.table[~enrolled.table["clustered"]])
        )
        return set(chosen["identity"])

    assert names() == {"cluster_Dots_6"}
    assert names(identity="") == {"cluster_Dots_6"}
    assert names(identity=np.where(new, "Freya", "")) == {"Freya"}
    first = new & ~new.duplicated()
    assert names(identity=np.where(new & first.where(first, False), "Freya", "")) == {"Freya"}  # one cell is enough
    with pytest.raises(InputError, match="expected one individual for cluster_Dots_6, found 'Freya' and 'Odin'"):
        names(identity=np.where(first, "Freya", np.where(new, "Odin", "")))
    with pytest.raises(InputError, match="expected an individual's name for cluster_Dots_6"):
        names(identity=np.where(new, "unknown", ""))
    # the table knows one of the photographs by now
    image_id = table["image_id"][first].iloc[0]

    def named(rows: pd.DataFrame) -> pd.DataFrame:
        mine = rows["image_id"] == image_id
        return rows.assign(split=rows["split"].mask(mine, "database"), identity=rows["identity"].mask(mine, "Freya"))

    edit_rows(named)
    assert names(read_catalogue(patterns)) == {"Freya"}
    with pytest.raises(InputError, match="expected one individual for cluster_Dots_6, found 'Freya' and 'Odin'"):
        names(read_catalogue(patterns), identity=np.where(new, "Odin", ""))
    # another animal has the cluster's name
    edit_rows(
        lambda rows: rows.assign(identity=rows["identity"].replace({"Freya": "Dots_0", "Dots_1": "cluster_Dots_5"}))
    )
    with pytest.raises(InputError, match="cluster_Dots_5 is an individual of"):
        names(read_catalogue(patterns), "cluster_Dots_5", identity="")


def test_a_submission_of_clusters_is_enrolled_with_the_individuals_that_were_written_beside_it(
    patterns: Path, clusters: Clusters, caplog: pytest.LogCaptureFixture
) -> None:
    catalogue, path = read_catalogue(patterns), clusters()
    named = with_clusters(catalogue, path)
    submission = path.with_name("d.csv")
    table = pd.read_csv(path, dtype=str)
    table[["image_id", "cluster"]].to_csv(submission, index=False)
    assert with_clusters(catalogue, submission).table.equals(named.table)
    assert not [record for record in caplog.records if record.levelname == "WARNING"]
    # a fault in these is told with the file and the row where it stands
    faulty = table.assign(identity=table["identity"].mask(table["cluster"] == "cluster_Dots_6", "unknown"))
    faulty[::-1].to_csv(path, index=False)
    rows = [place + 2 for place in range(len(table)) if faulty[::-1]["cluster"].iloc[place] == "cluster_Dots_6"]
    with pytest.raises(InputError, match=rf"d\.clusters\.csv: rows {rows[0]}, {rows[1]}, column identity: expected an"):
        with_clusters(catalogue, submission)
    # another submission's individuals are not taken, nor those of a damaged file
    for label in (f"cluster_{table['dataset'][0]}_77", "nonsense"):
        caplog.clear()
        pd.concat([table.iloc[1:], table.iloc[:1].assign(cluster=label)]).to_csv(path, index=False)
        unnamed = with_clusters(catalogue, submission).table
        assert set(unnamed["identity"][unnamed["clustered"]]) == set(table["cluster"])
        assert "those of known individuals are enrolled as new ones" in caplog.text


def test_a_dataset_that_only_the_file_knows(patterns: Path, clusters: Clusters, edit_rows: Callable) -> None:
    edit_rows(lambda rows: rows.assign(dataset=rows["dataset"].mask(rows["split"] == "query", "")))
    enrolled = with_clusters(read_catalogue(patterns), clusters())
    chosen = enrolled.table[enrolled.table["clustered"]]
    assert chosen["dataset"].value_counts().to_dict() == {"Checks": 14, "Dots": 14}
    path = clusters()
    pd.read_csv(path, dtype=str).drop(columns="dataset").to_csv(path, index=False)
    with pytest.raises(InputError, match="expected the column dataset, for"):
        with_clusters(read_catalogue(patterns), path)


def test_a_dataset_without_an_encoder_is_refused(
    patterns: Path,
    patterns_weights: Path,
    clusters: Clusters,
    edit_rows: Callable,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = clusters()
    new = pd.read_csv(path, dtype=str)["cluster"] == "cluster_Dots_6"
    image_ids = set(pd.read_csv(path, dtype=str)["image_id"][new])
    edit_rows(lambda rows: rows.assign(dataset=rows["dataset"].mask(rows["image_id"].isin(image_ids), "Newts")))
    table = pd.read_csv(path, dtype=str)
    clusters(dataset=table["dataset"].mask(new, "Newts"), cluster=table["cluster"].mask(new, "cluster_Newts_6"))
    call = ["enroll", patterns, "--weights", patterns_weights, "--clusters", path]
    told = fails(capsys, *call)
    assert "expected an encoder for Newts, of which queries are to be enrolled, found those of Checks, Dots" in told
    assert run(*call, "--only", "cluster_Checks_6") == 0


def test_without_networks_a_dataset_needs_no_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    foxes: Photographs = [("", animal(50 + number, place)) for number in range(3) for place in range(3)]
    data, weights = draw(tmp_path / "data", [], foxes), tmp_path / "weights"
    assert run("train", data, "--out", weights, *KEYPOINTS) == 0
    path = write_labels(tmp_path, *(f"j{number},cluster_Island_{number // 3}" for number in range(9)))
    assert (
        run("enroll", data, "--weights", weights, "--clusters", path, "--only", "cluster_Island_0,cluster_Island_1")
        == 0
    )
    assert open_weights(weights).datasets == ("Cats", "Island")
    call = ["predict", data, "--weights", weights, "--out", tmp_path / "s.csv"]
    assert "calibration.json: expected thresholds for Island, found none; run `reid calibrate`" in fails(capsys, *call)
    assert run("calibrate", data, "--weights", weights) == 0
    assert run(*call) == 0
    matches = pd.read_csv(tmp_path / "s.matches.csv", dtype=str, keep_default_na=False)
    best = matches[matches["rank"] == "1"].set_index("image_id")["candidate"]
    assert [best[f"j{number}"] for number in range(6)] == [f"cluster_Island_{number // 3}" for number in range(6)]
