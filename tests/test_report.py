"""What the report's page says, on a tiny world made by hand: two datasets, seven queries whose outcomes are known."""

import json
import re
from collections.abc import Callable
from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hand_world import HOSTILE, QUERIES, Page, World, explain, make_world

from reid import cli
from reid.config.presets import PRESETS
from reid.data.catalogue import NEW_INDIVIDUAL, Catalogue
from reid.decision.artifact import RUN_FOLDER
from reid.decision.metrics import mean_retrieval, score_matches
from reid.errors import InputError
from reid.report import matches_section
from reid.report.explanations import Explanations
from reid.report.outcomes import OUTCOMES
from reid.report.report import write_report
from reid.report.scores_section import OtherResult, read_other_result


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path)


@pytest.fixture(scope="module")
def solved(tmp_path_factory: pytest.TempPathFactory) -> Page:
    """The world's page, for tests that only read it."""
    folder = tmp_path_factory.mktemp("solved")
    return page_of(make_world(folder), folder / "out")


def page_of(world: World, folder: Path, solved: bool = True) -> Page:
    catalogue, weights, prediction, solution = world
    known = solution if solved else None
    return Page(write_report(folder, catalogue, weights, prediction, known, explain(prediction, known)))


def test_the_page_is_complete_and_every_tag_is_closed(solved: Page) -> None:
    page = solved
    assert page.text.startswith("<!doctype html>")
    assert page.text.endswith("</html>\n")
    assert page.open == []
    assert sorted(path.name for path in page.folder.iterdir()) == ["contact_sheet.jpg", "report.html"]


def test_every_query_stands_on_the_page_with_its_outcome_the_worst_first(solved: Page) -> None:
    page = solved
    # wrong names: the most certain first; right ones: the least certain first (0.9 and 1.1 are as far from 1)
    assert page.shown() == ["q2", "q1", "q3", "q4", "q0", "q5", "q6"]
    outcomes = {query[0]: OUTCOMES[query[6]] for query in QUERIES}
    for image_id, card in zip(page.shown(), page.cards, strict=True):
        assert outcomes[image_id] in card.splitlines()[1] + card.splitlines()[0]


def test_a_wrong_name_is_shown_next_to_the_right_one(solved: Page) -> None:
    page = solved
    cards = dict(zip(page.shown(), page.cards, strict=True))
    assert re.findall(r"photo (q?\d+)", cards["q2"]) == ["q2", "2", "1"]
    assert re.findall(r"photo (q?\d+)", cards["q0"]) == ["q0", "1"]
    assert "right one, not compared" in cards["q2"]
    assert "not compared" not in cards["q0"]


def test_only_settings_that_the_recipe_uses_are_listed(world: World, solved: Page, tmp_path: Path) -> None:
    catalogue, weights, prediction, solution = world
    page = page_of((catalogue, replace(weights, recipe=PRESETS["keypoints"]), prediction, solution), tmp_path / "out")
    listed = [
        re.findall(r"<tr><td>([\w.]+)</td><td>[^<]*(?: <b>[^<]*</b>)?</td></tr>", one.text) for one in (solved, page)
    ]
    assert {"backbone.name", "training.epochs", "calibration.scorers", "prediction.scales"} <= set(listed[0])
    assert {"calibration.scorers", "keypoints.count", "calibration.splits"} <= set(listed[1])
    assert not {"backbone.name", "training.epochs"} & set(listed[1])


def test_the_score_is_the_organisers(solved: Page) -> None:
    page = solved
    # Lynx: BAKS 1/4 (one of a's four), BAUS 1/2; Newt has no new one, which counts 0
    lynx = np.sqrt(1 / 4 * 1 / 2)
    assert f"<b>{lynx / 2:.3f}</b><span>score, mean of" in page.text
    assert f"<td><b>{lynx:.3f}</b>" in page.text
    assert "0.625<small> (0.575 to 0.675)" in page.text
    assert "too few newts" in page.text


def test_nothing_on_the_page_is_fetched_or_run(solved: Page) -> None:
    page = solved
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "embed", "base"}
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")], tag
        for name in ("src", "href", "xlink:href", "srcset", "poster", "data", "action"):
            value = attributes.get(name)
            assert value is None or value.startswith("#"), (tag, name, value)
    assert not re.search(r"url\((?!#|data:image/jpeg;base64,)|@import", page.text)
    assert "default-src 'none'" in page.text


def test_what_a_users_file_says_is_escaped(solved: Page) -> None:
    page = solved
    assert HOSTILE not in page.text
    assert HOSTILE in "".join(page.cards)  # as text


def test_a_solutions_dataset_may_have_any_name(world: World, tmp_path: Path) -> None:
    catalogue, weights, prediction, solution = world
    solution = solution.assign(dataset=solution["dataset"].replace("Newt", "$\\frac<b>$"))
    page = page_of((catalogue, weights, prediction, solution), tmp_path / "out")
    assert "<b>" not in "".join(re.findall(r"<svg.*?</svg>", page.text, re.DOTALL))
    assert "$\\frac&lt;b&gt;$" in page.text


def test_the_same_input_gives_the_same_bytes(solved: Page, world: World, tmp_path: Path) -> None:
    page_of(world, tmp_path / "out")
    for name in ("report.html", "contact_sheet.jpg"):
        assert (tmp_path / "out" / name).read_bytes() == (solved.folder / name).read_bytes()


def test_ids_on_the_page_are_unique(solved: Page) -> None:
    ids = [attributes["id"] for _, attributes in solved.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_without_a_solution_the_expected_scores_are_shown_as_expected(
    solved: Page, world: World, tmp_path: Path
) -> None:
    page = page_of(world, tmp_path / "out", solved=False)
    assert "No solution was given" in page.text
    assert "The expected score is the mean of 1 of\n2 datasets" in page.text
    assert page.shown()[0] == "q0"  # named, and closest to the threshold
    for words in ("wrong individual", "Oracle threshold", "best candidate right", "<th>BAKS</th>"):
        assert words in solved.text
        assert words not in page.text


def test_a_solution_with_photographs_that_were_not_answered_is_refused(world: World, tmp_path: Path) -> None:
    catalogue, weights, prediction, solution = world
    short = replace(prediction, queries=prediction.queries[1:])
    with pytest.raises(InputError, match="1 of 7 are missing, such as q0"):
        write_report(tmp_path / "out", catalogue, weights, short, solution, Explanations())
    assert not (tmp_path / "out").exists()


def damaged(catalogue: Catalogue) -> None:
    (catalogue.root / "1.jpg").unlink()


def truncated(catalogue: Catalogue) -> None:
    (catalogue.root / "1.jpg").write_bytes((catalogue.root / "1.jpg").read_bytes()[:-200])


@pytest.mark.parametrize(("damage", "reason"), [(damaged, "no such file"), (truncated, "it is damaged: ")])
def test_a_photograph_that_cannot_be_opened_is_grey_with_its_reason(
    world: World, tmp_path: Path, damage: Callable[[Catalogue], None], reason: str
) -> None:
    damage(world[0])
    page = page_of(world, tmp_path / "out")
    cards = dict(zip(page.shown(), page.cards, strict=True))
    assert reason in cards["q0"]
    assert reason not in cards["q6"]


def test_a_candidate_from_another_folder_is_grey_with_its_reason(world: World, tmp_path: Path) -> None:
    catalogue, weights, prediction, solution = world
    elsewhere = replace(prediction, candidates=prediction.candidates.assign(candidate_image_id="99"))
    page = page_of((catalogue, weights, elsewhere, solution), tmp_path / "out")
    assert all("not in this data folder" in card for card in page.cards)


def test_an_unreadable_query_comes_first_among_its_outcome_and_is_counted(world: World, tmp_path: Path) -> None:
    catalogue, weights, prediction, solution = world
    queries = prediction.queries.assign(problem=np.where(prediction.queries["image_id"] == "q6", "cut short", ""))
    queries.loc[queries["image_id"] == "q6", "answer"] = NEW_INDIVIDUAL
    page = page_of((catalogue, weights, replace(prediction, queries=queries), solution), tmp_path / "out")
    assert page.shown() == ["q2", "q1", "q3", "q6", "q4", "q0", "q5"]
    assert "can't be read (cut short)" in page.cards[3]


def test_a_page_beyond_its_limit_takes_every_outcome_in_turn_and_says_so(
    solved: Page, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue, weights, prediction, solution = world

    def copies(table: pd.DataFrame) -> pd.DataFrame:
        parts = [table.assign(image_id=table["image_id"] + f"x{number}") for number in range(50)]
        return pd.concat(parts, ignore_index=True)

    rows = pd.concat([catalogue.database.table, copies(catalogue.query.table)], ignore_index=True)
    many = replace(
        prediction, queries=copies(prediction.queries), candidates=copies(prediction.candidates).assign(probability=0.5)
    )
    assert "queries are shown" not in solved.text
    assert "Do the probabilities hold?" not in solved.text
    monkeypatch.setattr(matches_section, "CARDS_LIMIT", 300_000)
    page = page_of((replace(catalogue, table=rows), weights, many, copies(solution)), tmp_path / "out")
    assert f"<b>{len(page.cards)} of 350 queries are shown</b>" in page.text
    assert "The 350 queries in 5 groups of equal number" in page.text
    assert 7 <= len(page.cards) < 350
    assert {"wrong individual", "new called known", "known called new", "right"} <= {
        words for words in OUTCOMES.values() if any(words in card for card in page.cards)
    }
    articles = page.text[page.text.index("<article") : page.text.rindex("</article>")]
    pixels = sum(map(len, re.findall(r"background-image: url\((data:[^)]*)\)", page.text)))
    assert 200_000 < len(articles) + pixels <= 300_000


def test_only_the_thumbnails_that_are_shown_are_carried(solved: Page) -> None:
    page = solved
    carried = set(re.findall(r"^\.t(\d+) \{ background-image", page.text, re.MULTILINE))
    shown = set(re.findall(r'class="photo t(\d+)', page.text))
    assert carried == shown
    assert len(shown) == 3 + len(QUERIES)


def test_ranking_metrics_and_their_mean_are_those_of_the_solution(solved: Page, world: World) -> None:
    _, _, matches, solution = world
    table = solved.text[solved.text.index("<th>rank-1</th>") :].split("</table>")[0]
    rows = re.findall(r"<tr><td>(\w+)</td>(.*?)</tr>", table, re.DOTALL)
    scores = score_matches(matches.to_frame(), solution)
    expected = {name: astuple(score) for name, score in (*scores.items(), ("mean", mean_retrieval(scores)))}
    assert {name: re.findall(r"<td>([^<]+)</td>", cells) for name, cells in rows} == {
        name: ["\u2014" if value != value else f"{value:.3f}" for value in values] for name, values in expected.items()
    }


def test_a_query_with_nothing_to_compare_is_shown_without_candidates(world: World, tmp_path: Path) -> None:
    catalogue, weights, prediction, solution = world
    queries, candidates = prediction.queries, prediction.candidates
    alone = replace(
        prediction,
        queries=queries.assign(answer=queries["answer"].mask(queries["image_id"] == "q6", NEW_INDIVIDUAL)),
        candidates=candidates[candidates["image_id"] != "q6"],
    )
    page = page_of((catalogue, weights, alone, solution), tmp_path / "out", solved=False)
    card = dict(zip(page.shown(), page.cards, strict=True))["q6"]
    assert "nothing to compare the query with" in card
    assert re.findall(r"photo (\w+)", card) == ["q6"]


def compared(world: World, folder: Path, *others: OtherResult) -> str:
    catalogue, weights, prediction, solution = world
    return write_report(folder, catalogue, weights, prediction, solution, Explanations(), others).read_text("utf-8")


def test_another_recipe_is_compared_with_its_difference(world: World, tmp_path: Path) -> None:
    solution = world[3]
    cautious = solution[["image_id"]].assign(identity=NEW_INDIVIDUAL)
    cautious.to_csv(tmp_path / "cautious.csv", index=False)
    text = compared(world, tmp_path / "out", read_other_result("cautious <b>", tmp_path / "cautious.csv", solution))
    assert "cautious &lt;b&gt;</td>" in text
    assert "cautious <b>" not in text
    # it names nobody: BAKS 0, BAUS 1, so that this page is ahead by its whole score, in every sample too
    lynx = np.sqrt(1 / 4 * 1 / 2)
    row = text[text.index("cautious &lt;b&gt;</td>") :]
    assert re.findall(r"<td>([\d.]+)", row)[:4] == ["0.000", "0.000", "1.000", f"{lynx:.3f}"]


def test_another_recipes_submission_that_lacks_rows_is_named(world: World, tmp_path: Path) -> None:
    (tmp_path / "short.csv").write_text("image_id,identity\nq0,a\n")
    with pytest.raises(InputError, match=r"short\.csv: expected an answer for every image_id of the solution, 6 of 7"):
        read_other_result("short", tmp_path / "short.csv", world[3])


def test_another_recipes_scores_may_come_as_json(world: World, tmp_path: Path) -> None:
    rows = {"Lynx": {"baks": 0.25, "baus": 1.0, "score": 0.5}, "Newt": {"baks": 1.0, "baus": None, "score": 0.0}}
    (tmp_path / "seed.json").write_text(json.dumps({"overall": 0.25, "datasets": rows}))
    other = read_other_result("seed", tmp_path / "seed.json", None)
    assert [one.score for one in other.scores.values()] == [0.5, 0.0]
    assert "seed</td>" in compared(world, tmp_path / "out", other)
    catalogue, weights, prediction, _ = world
    unsolved = write_report(tmp_path / "unsolved", catalogue, weights, prediction, None, Explanations(), [other])
    assert "seed</td>" in unsolved.read_text("utf-8")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("seed.csv", "image_id,identity\n", "expected --solution CSV"),
        ("seed.json", "[]", "expected what"),
        ("seed.json", '{"datasets": {"Lynx": {"baks": 33, "baus": 1}}}', "dataset Lynx outside of 0 to 1"),
        ("seed.json", '{"datasets": {}}', "found no dataset"),
        ("none.json", None, "expected a JSON file here, found none"),
    ],
)
def test_results_that_cannot_be_compared_are_refused(
    tmp_path: Path, name: str, content: str | None, words: str
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=re.escape(words)):
        read_other_result("seed", tmp_path / name, None)


@pytest.mark.parametrize("words", ["seed.csv", "seed=", "=seed.csv"])
def test_a_recipe_to_compare_with_needs_a_name_and_a_file(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", "nowhere", "--weights", "nowhere", "--out", "nowhere", "--against", words]) == 2
    assert f"error: --against {words}: expected NAME=FILE" in capsys.readouterr().err


def test_a_training_shows_its_curves_and_a_damaged_history_costs_only_its_own(
    solved: Page, world: World, tmp_path: Path
) -> None:
    weights = world[1]
    assert "There are no training curves" in solved.text
    folder = weights.folder / RUN_FOLDER
    folder.mkdir()
    rows = pd.DataFrame(
        {"epoch": [1, 2], "loss": [0.9, 0.4], "accuracy": [np.nan, 0.75], "open_set_score": [np.nan, 0.5]}
    )
    rows.to_csv(folder / "Lynx.history.csv", index=False)
    rows.rename(columns={"open_set_score": "score"}).to_csv(folder / "of-0.1.0.history.csv", index=False)
    (folder / "Newt.history.csv").write_text("epoch,loss\n1")
    page = page_of(world, tmp_path / "after")
    for name in ("Lynx", "of-0.1.0"):
        assert f"<h4>{name}: 2 epochs, best 0.500</h4>" in page.text
    assert "<h4>Newt: " not in page.text


def test_the_species_classifiers_answers_are_counted(solved: Page, world: World, tmp_path: Path) -> None:
    catalogue, weights, prediction, solution = world
    assert "<h3>Species classifier" in solved.text
    assert "7 agree." in solved.text
    alone = replace(prediction, queries=prediction.queries.assign(species=""))
    assert "<h3>Species classifier" not in page_of((catalogue, weights, alone, solution), tmp_path / "without").text


def test_photographs_that_were_left_out_are_listed_with_the_reason(world: World, tmp_path: Path) -> None:
    catalogue, weights, prediction, solution = world
    row = catalogue.table.iloc[[0]].assign(image_id="late", path="1.jpg")
    lost = catalogue.table.iloc[[0]].assign(image_id="lost", path="nowhere.jpg")
    table = pd.concat([catalogue.table, row, lost], ignore_index=True)
    page = page_of((replace(catalogue, table=table), weights, prediction, solution), tmp_path / "out")
    listed = page.text[page.text.index("Photographs that were left out (2)") :]
    assert re.search(r"<td>late</td>.*?<td>added after enrolment</td>", listed, re.DOTALL)
    assert re.search(r"<td>lost</td>.*?<td>no such file</td>", listed, re.DOTALL)


def test_orientations_and_dates_are_shown_where_there_are_any(solved: Page, world: World, tmp_path: Path) -> None:
    catalogue, weights, prediction, solution = world
    assert "<h3>Orientations" not in solved.text
    sides = ["left", "left", "right", *["left"] * len(QUERIES)]
    days = ["2020-01-01", "", "2021-05-05", *["2022-02-02"] * len(QUERIES)]
    table = catalogue.table.assign(orientation=sides, day=days)
    text = page_of((replace(catalogue, table=table), weights, prediction, solution), tmp_path / "with").text
    assert "<td>2 <small>+ 6</small></td>" in text  # lynxes from the left
    assert "Lynx: dates" in text
    assert "<td>50%</td>" in text  # of the lynxes' database photographs have a date
