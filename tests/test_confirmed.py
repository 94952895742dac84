"""What people said of pairs counts in predictions and galleries: refused, confirmed, and chains of answers."""

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_answers import write_pairs
from test_links import world

from reid import cli
from reid.data.catalogue import read_catalogue
from reid.decision.artifact import open_weights
from reid.decision.calibrate import pseudo_query_pairs
from reid.decision.confirmed import Confirmed, said_of_queries, with_confirmed, without_refused
from reid.decision.links import read_links
from reid.decision.matches import Matches
from reid.decision.predict import predict
from reid.errors import InputError
from reid.report.report import collect_explanations
from reid.retrieval.gallery import load_gallery

Edit = Callable[[Callable[[pd.DataFrame], pd.DataFrame]], None]


def run(*words: object) -> int:
    return cli.main(list(map(str, words)))


# what answers say


@given(st.integers(0, 2**32))
def test_what_answers_say_is_what_follows_from_them(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    """Some photographs are known; answers follow a truth. Slow twin: photographs are one animal that a walk over "same"
    and over names joins; two are apart if any photographs that are one animal with them were answered "different"."""
    rng = np.random.default_rng(seed)
    folder = tmp_path_factory.mktemp("said")
    count = int(rng.integers(2, 10))
    names, truth = [chr(97 + number) for number in range(count)], rng.integers(0, 3, count)
    individual = {name: f"Lynx {animal}" for name, animal in zip(names, truth, strict=True)}
    known = {name: individual[name] for name in names if rng.random() < 0.4}
    pairs = [pair for pair in itertools.combinations(names, 2) if rng.random() < 0.3 and not set(pair) <= known.keys()]
    rows = [f"{name};{known.get(name, 'q')}" for name in names]
    catalogue = world(folder, *rows)
    words = {True: "same", False: "different"}
    write_pairs(folder, *(f"{a},{b},{words[individual[a] == individual[b]]},,," for a, b in pairs))
    joined = np.eye(count, dtype=bool)
    for i, j in itertools.combinations(range(count), 2):
        a, b = names[i], names[j]
        said = (a, b) in pairs and individual[a] == individual[b]
        joined[i, j] = joined[j, i] = said or (a in known and b in known and known[a] == known[b])
    for k, i, j in itertools.product(range(count), repeat=3):
        joined[i, j] |= joined[i, k] & joined[k, j]
    apart = np.zeros((count, count), bool)
    for a, b in pairs:
        if individual[a] != individual[b]:
            i, j = names.index(a), names.index(b)
            apart |= np.outer(joined[i], joined[j]) | np.outer(joined[j], joined[i])
    found = said_of_queries([name for name in names if name not in known], read_links(catalogue), known, {})
    for i, name in enumerate(names):
        if name not in known:
            refused = {known[other] for j, other in enumerate(names) if other in known and apart[i, j]}
            confirmed = {known[other] for j, other in enumerate(names) if other in known and joined[i, j]}
            assert found.refused.get(name, set()) == refused
            assert {one.individual for one in [found.confirmed.get(name)] if one} == confirmed
            if confirmed:
                assert known[found.confirmed[name].image_id] in confirmed


def test_the_photograph_is_one_that_the_query_was_compared_with(tmp_path: Path) -> None:
    catalogue = world(tmp_path, "m;Mira", "n;Mira", "a;q", "b;q")
    write_pairs(tmp_path, "m,b,same,,,", "a,b,same,,,", "a,n,same,,,")
    known = {"m": "Mira", "n": "Mira"}
    found = said_of_queries("ab", read_links(catalogue), known, {})
    assert found.confirmed == {"a": Confirmed("Mira", "n"), "b": Confirmed("Mira", "m")}


def test_enrolled_clusters_are_individuals_whose_photographs_are_queries(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    catalogue = world(tmp_path, "m;Mira", *(f"{name};q" for name in "abcde"))
    enrolled = {"m": "Mira", "a": "cluster_Lynx_1", "b": "cluster_Lynx_1", "c": "cluster_Lynx_2"}

    def said(*answers: str) -> tuple[dict, dict]:
        write_pairs(tmp_path, *(f"{answer},,," for answer in answers))
        found = said_of_queries("abcde", read_links(catalogue), {"m": "Mira"}, enrolled)
        return found.refused, found.confirmed

    assert said("d,a,same") == ({}, {"d": Confirmed("cluster_Lynx_1", "a")})  # a itself is confirmed by nobody
    assert said("d,a,different") == ({"d": {"cluster_Lynx_1"}}, {})
    assert not caplog.messages
    assert said("d,a,same", "d,c,same")[1]["d"] == Confirmed("cluster_Lynx_1", "a")
    assert "image_id d: answers make cluster_Lynx_1, cluster_Lynx_2 one animal; it is called" in caplog.text
    # the table counts more than a gallery that was made before
    assert said("d,a,same", "a,m,same")[1]["d"] == Confirmed("Mira", "m")


def test_two_individuals_for_one_query_are_told_with_the_shortest_chain(patterns: Path, patterns_weights: Path) -> None:
    table = pd.read_csv(patterns / "metadata.csv", dtype=str, keep_default_na=False)
    query, other = table["image_id"][(table["split"] == "query") & (table["dataset"] == "Dots")][:2]
    one, two = (table["image_id"][table["identity"] == name].iloc[0] for name in ("Dots_0", "Dots_1"))
    write_pairs(patterns, f"{query},{one},same,,,", f"{query},{other},same,,,", f"{other},{two},same,,,")
    with pytest.raises(InputError) as told:
        predict(read_catalogue(patterns), open_weights(patterns_weights))
    row_of = {image_id: row + 2 for row, image_id in enumerate(table["image_id"])}
    assert (
        f"answers make 'Dots_0' and 'Dots_1' one animal, which metadata.csv knows as two: 'Dots_0' = {one} "
        f"(metadata.csv row {row_of[one]}), {one} = {query} (row 2), {query} = {other} (row 3), {other} = {two} "
        f"(row 4), {two} = 'Dots_1' (metadata.csv row {row_of[two]})."
    ) in str(told.value)


# matches


CANDIDATES = pd.DataFrame(
    [("q", 1, "a", "1", 0.1), ("q", 2, "b", "2", 0.2), ("q", 3, "c", "3", 0.3), ("p", 1, "a", "1", 0.5)],
    columns=["image_id", "rank", "candidate", "candidate_image_id", "dissimilarity"],
)


def test_refused_individuals_leave_no_gap() -> None:
    kept = without_refused(CANDIDATES, {"q": {"a", "z"}}, 2)
    assert list(zip(kept["image_id"], kept["rank"], kept["candidate"], strict=True)) == [
        ("q", 1, "b"),
        ("q", 2, "c"),
        ("p", 1, "a"),
    ]
    assert without_refused(CANDIDATES, {"p": {"a"}}, 1)["image_id"].tolist() == ["q"]


def test_confirmed_individuals_come_first() -> None:
    queries = pd.DataFrame({"image_id": ["p", "q", "r"], "answer": "new_individual", "flags": ["", "", "unreadable"]})
    matches = Matches(queries, CANDIDATES.assign(probability=np.nan), "column", {})
    found = with_confirmed(matches, {"q": Confirmed("c", "9"), "r": Confirmed("a", "1")})
    assert found.queries["answer"].tolist() == ["new_individual", "c", "a"]
    assert found.queries["flags"].tolist() == ["", "confirmed", "unreadable confirmed"]
    rows = found.candidates[["image_id", "rank", "candidate", "candidate_image_id", "dissimilarity"]]
    assert list(rows.itertuples(index=False, name=None)) == [
        ("p", 1, "a", "1", 0.5),
        ("q", 1, "c", "9", 0.0),
        ("q", 2, "a", "1", 0.1),
        ("q", 3, "b", "2", 0.2),
        ("r", 1, "a", "1", 0.0),
    ]
    assert found.candidates["probability"].tolist()[1::3] == [1.0, 1.0]


def test_predictions_honour_answers(
    patterns: Path, patterns_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    catalogue, weights = read_catalogue(patterns), open_weights(patterns_weights)
    before = predict(catalogue, weights, k=3).to_frame()
    table = catalogue.table.set_index("image_id", drop=False)
    queries = table[(table["split"] == "query") & (table["dataset"] == "Checks")]["image_id"].tolist()
    one, other, third = queries[:3]
    ranked = before[before["image_id"] == one]["candidate"].tolist()
    photographs = {str(name): rows["image_id"].tolist() for name, rows in table.groupby("identity")}
    # one and other are the same animal, which is not the one that looks most like it; third is somebody far away
    far = next(name for name in sorted(photographs) if name.startswith("Checks") and name not in ranked)
    pairs = tmp_path / "said"
    pairs.mkdir()
    path = write_pairs(
        pairs,
        f"{one},{other},same,,,",
        f"{other},{photographs[ranked[0]][2]},different,,,",
        f"{photographs[far][1]},{third},same,,,",
    )
    after = predict(catalogue, weights, k=3, links_file=path).to_frame()
    wider = predict(catalogue, weights, k=4).to_frame()
    for query in (one, other):
        expected = [name for name in wider[wider["image_id"] == query]["candidate"] if name != ranked[0]][:3]
        assert after[after["image_id"] == query]["candidate"].tolist() == expected
        assert after[after["image_id"] == query]["rank"].tolist() == [1, 2, 3]
    rows = after[after["image_id"] == third]
    assert rows["candidate"].tolist() == [far, *before[before["image_id"] == third]["candidate"][:2]]
    assert rows[["candidate_image_id", "dissimilarity", "probability"]].iloc[0].tolist() == [photographs[far][1], 0, 1]
    assert set(rows["answer"]) == {far}
    assert all("confirmed" in flags.split() for flags in rows["flags"])
    untouched = ~before["image_id"].isin([one, other, third])
    pd.testing.assert_frame_equal(before[untouched], after[~after["image_id"].isin([one, other, third])])
    # the command, with its line and its files; the report shows nobody who was ruled out
    call = [patterns, "--weights", patterns_weights, "--pairs", path, "--route", "column"]
    assert run("predict", *call, "--out", tmp_path / "s.csv") == 0
    assert "14 queries, " in (said := capsys.readouterr().out) and ", 1 named by answers (confirmed)" in said
    answers = pd.read_csv(tmp_path / "s.csv", dtype=str).set_index("image_id")["identity"]
    assert answers[third] == far
    assert run("check", patterns, "--submission", tmp_path / "s.csv") == 0
    assert run("report", *call, "--out", tmp_path / "report") == 0
    matches = predict(catalogue, weights, links_file=path)
    explained = collect_explanations(catalogue, weights, matches, None).candidates
    assert ranked[0] not in [candidate.identity for candidate in explained[one]]
    assert far in [candidate.identity for candidate in explained[third]]


def test_a_competitions_queries_are_named_by_nobodys_word(
    patterns: Path, patterns_weights: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (patterns / "solution.csv").unlink()
    table = pd.read_csv(patterns / "metadata.csv", dtype=str, keep_default_na=False)
    query = table["image_id"][table["split"] == "query"].iloc[0]
    write_pairs(patterns, f"{query},{table['image_id'].iloc[0]},same,,,")
    assert run("predict", patterns, "--weights", patterns_weights, "--out", tmp_path / "s.csv") == 2
    assert "whose rules forbid labels made by hand" in capsys.readouterr().err


# enrolled


def rows_of(folder: Path, dataset: str, individual: str) -> list[str]:
    gallery = load_gallery(folder / f"{dataset}.gallery.safetensors")
    found = zip(gallery.embeddings.image_id, gallery.identity, strict=True)
    return [image_id for image_id, name in found if name == individual]


def pseudo_queries(data: Path, folder: Path) -> int:
    """How many photographs of Dots play queries when thresholds are fitted."""
    weights = open_weights(folder)
    return len(pseudo_query_pairs(read_catalogue(data), folder, "Dots", weights.recipe).new)


def test_confirmed_queries_are_enrolled(
    patterns: Path, patterns_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pd.read_csv(patterns / "metadata.csv", dtype=str, keep_default_na=False)
    dots = table[table["dataset"] == "Dots"]
    one, other, third = dots["image_id"][dots["split"] == "query"][:3]
    known = {name: dots["image_id"][dots["identity"] == name].iloc[0] for name in ("Dots_0", "Dots_1")}
    before, queries = rows_of(patterns_weights, "Dots", "Dots_1"), pseudo_queries(patterns, patterns_weights)
    call = ["enroll", patterns, "--weights", patterns_weights]
    assert run(*call, "--confirmed") == 2
    assert "pairs.csv: expected answers that queries show known individuals, found none" in capsys.readouterr().err
    assert run(*call, "--pairs", tmp_path / "pairs.csv") == 2
    assert "--pairs: expected --confirmed with it" in capsys.readouterr().err
    path = write_pairs(
        tmp_path,
        f"{known['Dots_1']},{one},same,,,",
        f"{one},{other},same,,,",
        f"{third},{known['Dots_0']},different,,,",
    )
    assert run(*call, "--confirmed", "--pairs", path) == 0
    assert "and the queries that answers name into" in capsys.readouterr().out
    assert set(rows_of(patterns_weights, "Dots", "Dots_1")) == {*before, one, other}
    gallery = load_gallery(patterns_weights / "Dots.gallery.safetensors")
    assert set(gallery.clustered) == {one, other}
    assert load_gallery(patterns_weights / "Checks.gallery.safetensors").clustered == ()
    assert open_weights(patterns_weights).manifest["data"] == read_catalogue(patterns).database.fingerprint
    # calibration learns from them, by encoders that have not
    assert pseudo_queries(patterns, patterns_weights) > queries
    assert run("calibrate", patterns, "--weights", patterns_weights) == 0
    assert run("predict", patterns, "--weights", patterns_weights, "--out", tmp_path / "s.csv") == 0
    # with clusters, of which answers take one away
    clusters = tmp_path / "d.clusters.csv"
    lines = [f"{image_id},cluster_Dots_9" for image_id in (other, third, dots["image_id"].iloc[-1])]
    clusters.write_text("\n".join(["image_id,cluster", *lines]))
    assert run(*call, "--confirmed", "--pairs", path, "--clusters", clusters) == 0
    assert set(rows_of(patterns_weights, "Dots", "Dots_1")) == {*before, one, other}
    assert len(rows_of(patterns_weights, "Dots", "cluster_Dots_9")) == 2
    assert run(*call) == 0
    assert rows_of(patterns_weights, "Dots", "Dots_1") == before


def test_a_query_without_a_dataset_gets_that_of_its_individual(
    patterns: Path, patterns_weights: Path, edit_rows: Edit
) -> None:
    edit_rows(lambda table: table.assign(dataset=table["dataset"].mask(table["split"] == "query", "")))
    table = pd.read_csv(patterns / "metadata.csv", dtype=str, keep_default_na=False)
    query, known = table["image_id"][table["split"] == "query"].iloc[-1], table["image_id"].iloc[0]
    write_pairs(patterns, f"{query},{known},same,,,")
    assert run("enroll", patterns, "--weights", patterns_weights, "--confirmed") == 0
    assert query in rows_of(patterns_weights, table["dataset"].iloc[0], table["identity"].iloc[0])


def test_a_competitions_queries_are_never_enrolled(
    patterns: Path, patterns_weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pd.read_csv(patterns / "metadata.csv", dtype=str, keep_default_na=False)
    query = table["image_id"][table["split"] == "query"].iloc[0]
    write_pairs(patterns, f"{query},{table['image_id'].iloc[0]},same,,,")
    (patterns / "competition.json").touch()
    assert run("enroll", patterns, "--weights", patterns_weights, "--confirmed") == 2
    assert "whose rules forbid labels made by hand" in capsys.readouterr().err
