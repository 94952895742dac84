"""The report's page on a tiny world made by hand: two datasets, seven queries whose verdicts are known."""

import re
from collections.abc import Callable
from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from reid import NEW_INDIVIDUAL, InputError, report
from reid.calibration import Calibration, Curve, Threshold
from reid.catalogue import Catalogue, read_catalogue
from reid.files import write_json
from reid.fusion import Scorer
from reid.gallery import Embeddings, Gallery, save_gallery
from reid.recipe import RECIPES
from reid.report import contact_sheet, judge, match_rows, world_rows, write_report
from reid.submission import Prediction, decide
from reid.weights import CALIBRATION, Weights, gallery_file

HOSTILE = "<script>alert(1)</script>"

QUERIES = [  # image_id, dataset, nearest individual, distance, truth, truth is new, verdict at a threshold of 1
    ("q0", "Lynx", "a", 0.9, "a", False, "right"),
    ("q1", "Lynx", "b", 0.8, "a", False, "wrong"),
    ("q2", "Lynx", "b", 0.2, "a", False, "wrong"),
    ("q3", "Lynx", "a", 0.5, "z", True, "named"),
    ("q4", "Lynx", "a", 1.5, "a", False, "missed"),
    ("q5", "Lynx", "a", 1.1, "y", True, "right"),
    ("q6", "Newt", HOSTILE, 0.3, HOSTILE, False, "right"),
]

World = tuple[Catalogue, Weights, Prediction, pd.DataFrame]


@pytest.fixture
def world(tmp_path: Path) -> World:
    rows = [("1", "a", "Lynx"), ("2", "b", "Lynx"), ("3", HOSTILE, "Newt")]
    table = [(image_id, identity, "database", dataset) for image_id, identity, dataset in rows]
    table += [(query[0], "", "query", query[1]) for query in QUERIES]
    metadata = pd.DataFrame(table, columns=["image_id", "identity", "split", "dataset"])
    metadata = metadata.assign(path=metadata["image_id"] + ".jpg", date="", orientation="", species="")
    data, folder = tmp_path / "data", tmp_path / "weights"
    data.mkdir()
    folder.mkdir()
    metadata.to_csv(data / "metadata.csv", index=False)
    rng = np.random.default_rng(0)
    for path in metadata["path"]:
        pixels = rng.integers(0, 256, size=(30, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(data / path)
    catalogue = read_catalogue(data)
    thresholds = {
        "Lynx": Threshold("Lynx", 1.0, 0.625, (0.575, 0.675), 0.5, 0.78, 0.4, (0.9, 1.1), 5, 5),
        "Newt": Threshold("Newt", 1.0, None, None, None, None, None, (1.0, 1.0), 0, 0, "too few newts"),
    }
    curve = Curve([], [], [], [], [])
    calibrations = {
        name: Calibration(one, Scorer("distance", {}), 1.0, {}, curve, [], []) for name, one in thresholds.items()
    }
    write_json(folder / CALIBRATION, {name: asdict(one) for name, one in calibrations.items()})
    for name, part in catalogue.database.by_dataset().items():
        embeddings = Embeddings(tuple(part.image_ids), torch.zeros(len(part), 2))
        save_gallery(folder / gallery_file(name), Gallery(embeddings, tuple(part.identities)))
    manifest = {
        "reid": "0",
        "torch": "1",
        "timm": "2",
        "data": catalogue.database.fingerprint,
        "files": {"f": "abc123"},
    }
    weights = Weights(folder, RECIPES["toy"], ("Lynx", "Newt"), manifest)
    photograph = {identity: image_id for image_id, identity, _ in rows}
    matches = pd.DataFrame(
        [
            {"image_id": image_id, "column": dataset, "species": dataset, "dataset": dataset, "problem": "",
             "identity": identity, "distance": distance, "photograph": photograph[identity], "runner_up": "",
             "runner_up_distance": np.inf}
            for image_id, dataset, identity, distance, *_ in QUERIES
        ]
    )  # fmt: skip
    solution = pd.DataFrame(
        [(query[0], query[4], query[5], query[1], "Private") for query in QUERIES],
        columns=["image_id", "identity", "new_identity", "dataset", "Usage"],
    )
    return catalogue, weights, Prediction(decide(matches, calibrations), "column", {}), solution


class Page(HTMLParser):
    """What stands in a page: its tags with their attributes, the open tags at its end, the text of each match."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.cards: list[str] = []
        self.text = path.read_text("utf-8")
        self.feed(self.text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "input", "img", "br"):
            self.open.append(tag)
        if tag == "article":
            self.cards.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "article" in self.open:
            self.cards[-1] += data

    def shown(self) -> list[str]:
        """The queries' image_ids, in the page's order."""
        return [re.findall(r"photo (\w+)", card)[0] for card in self.cards]


def page_of(world: World, folder: Path, solved: bool = True) -> Page:
    catalogue, weights, prediction, solution = world
    return Page(write_report(folder, catalogue, weights, prediction, solution if solved else None))


def test_the_page_is_complete_and_every_tag_is_closed(world: World, tmp_path: Path) -> None:
    page = page_of(world, tmp_path / "out")
    assert page.text.startswith("<!doctype html>")
    assert page.text.endswith("</html>\n")
    assert page.open == []
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["contact_sheet.jpg", "report.html"]


def test_verdicts_are_those_of_their_definition(world: World) -> None:
    _, _, prediction, solution = world
    judged = judge(prediction.matches, solution).set_index("image_id")
    assert dict(judged["verdict"]) == {query[0]: query[6] for query in QUERIES}


def test_every_query_stands_on_the_page_with_its_verdict_the_worst_first(world: World, tmp_path: Path) -> None:
    page = page_of(world, tmp_path / "out")
    # wrong names: the surest first; right ones: the least sure first (0.9 and 1.1 lie as far from 1, in order of rows)
    assert page.shown() == ["q2", "q1", "q3", "q4", "q0", "q5", "q6"]
    verdicts = {query[0]: report.VERDICTS[query[6]] for query in QUERIES}
    for image_id, card in zip(page.shown(), page.cards, strict=True):
        assert verdicts[image_id] in card.splitlines()[1] + card.splitlines()[0]


def test_a_wrong_name_is_shown_beside_the_right_one(world: World, tmp_path: Path) -> None:
    page = page_of(world, tmp_path / "out")
    cards = dict(zip(page.shown(), page.cards, strict=True))
    assert re.findall(r"photo (\w+)", cards["q2"]) == ["q2", "2", "1"]
    assert re.findall(r"photo (\w+)", cards["q0"]) == ["q0", "1"]


def test_the_score_is_the_organisers(world: World, tmp_path: Path) -> None:
    page = page_of(world, tmp_path / "out")
    # Lynx: BAKS 1/4 (one of a's four), BAUS 1/2; Newt has no new one, which counts 0
    lynx = np.sqrt(1 / 4 * 1 / 2)
    assert f"<b>{lynx / 2:.3f}</b><span>score, the mean" in page.text
    assert f"<td><b>{lynx:.3f}</b></td>" in page.text
    assert "0.625 (0.575 to 0.675)" in page.text
    assert "too few newts" in page.text


def test_the_best_threshold_in_hindsight_is_the_best_of_all(world: World) -> None:
    _, _, prediction, solution = world
    judged = judge(prediction.matches, solution)
    lynx = judged[judged["dataset"] == "Lynx"]
    scores = []
    for limit in [*lynx["distance"], 9.0]:
        named = lynx["distance"] < limit
        baks = (named & (lynx["identity"] == lynx["truth"]))[~lynx["truth_new"]].mean()
        baus = (~named)[lynx["truth_new"]].mean()
        scores.append(np.sqrt(baks * baus))
    thresholds = {"Lynx": Threshold("Lynx", 1.0, None, None, None, None, None, (1.0, 1.0), 0, 0)}
    (row,) = report._threshold_rows(judged, {}, thresholds, {})
    assert row["best"][0] == pytest.approx(max(scores))


def test_nothing_on_the_page_is_fetched_or_run(world: World, tmp_path: Path) -> None:
    page = page_of(world, tmp_path / "out")
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "embed", "base"}
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")], tag
        for name in ("src", "href", "xlink:href", "srcset", "poster", "data", "action"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:image/jpeg;base64,")), (tag, name, value)
    assert not re.search(r"url\((?!#)|@import", page.text)
    assert "default-src 'none'" in page.text


def test_what_a_users_file_says_is_escaped(world: World, tmp_path: Path) -> None:
    page = page_of(world, tmp_path / "out")
    assert HOSTILE not in page.text
    assert HOSTILE in "".join(page.cards)  # as text


def test_a_solutions_dataset_may_have_any_name(world: World, tmp_path: Path) -> None:
    catalogue, weights, prediction, solution = world
    solution = solution.assign(dataset=solution["dataset"].replace("Newt", "$\\frac<b>$"))
    page = page_of((catalogue, weights, prediction, solution), tmp_path / "out")
    assert "<b>" not in "".join(re.findall(r"<svg.*?</svg>", page.text, re.DOTALL))
    assert "$\\frac&lt;b&gt;$" in page.text


def test_the_same_input_gives_the_same_bytes(world: World, tmp_path: Path) -> None:
    page_of(world, tmp_path / "one")
    page_of(world, tmp_path / "two")
    for name in ("report.html", "contact_sheet.jpg"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_ids_on_the_page_are_unique(world: World, tmp_path: Path) -> None:
    ids = [attributes["id"] for _, attributes in page_of(world, tmp_path / "out").tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_without_a_solution_the_expected_scores_are_shown_and_said_to_be_expected(world: World, tmp_path: Path) -> None:
    page = page_of(world, tmp_path / "out", solved=False)
    assert "No solution was given" in page.text
    assert "mean over 1 of 2 datasets" in page.text
    assert page.shown()[0] == "q0"  # named, and nearest the threshold
    assert not any(words in page.text for words in ("wrong individual", "in hindsight", "BAKS (green)"))


def test_a_query_that_the_solution_does_not_know_has_no_verdict(world: World) -> None:
    _, _, prediction, solution = world
    judged = judge(prediction.matches, solution[solution["image_id"] != "q2"]).set_index("image_id")
    assert judged.loc["q2", "verdict"] == "open-named"
    assert judged.loc["q1", "verdict"] == "wrong"


def test_a_solution_that_asks_for_more_than_was_answered_is_refused(world: World, tmp_path: Path) -> None:
    catalogue, weights, prediction, solution = world
    short = replace(prediction, matches=prediction.matches[1:])
    with pytest.raises(InputError, match="1 are missing, such as q0"):
        write_report(tmp_path / "out", catalogue, weights, short, solution)
    assert not (tmp_path / "out").exists()


def damaged(catalogue: Catalogue) -> None:
    (catalogue.root / "1.jpg").unlink()


def truncated(catalogue: Catalogue) -> None:
    (catalogue.root / "1.jpg").write_bytes((catalogue.root / "1.jpg").read_bytes()[:-200])


@pytest.mark.parametrize(("damage", "reason"), [(damaged, "no such file"), (truncated, "it can't be decoded")])
def test_a_photograph_that_cannot_be_opened_is_grey_with_its_reason(
    world: World, tmp_path: Path, damage: Callable[[Catalogue], None], reason: str
) -> None:
    damage(world[0])
    page = page_of(world, tmp_path / "out")
    cards = dict(zip(page.shown(), page.cards, strict=True))
    assert reason in cards["q0"]
    assert reason not in cards["q6"]


def test_a_neighbour_from_another_folder_is_grey_with_its_reason(world: World, tmp_path: Path) -> None:
    catalogue, weights, prediction, solution = world
    elsewhere = replace(prediction, matches=prediction.matches.assign(photograph="99"))
    page = page_of((catalogue, weights, elsewhere, solution), tmp_path / "out")
    assert all("it is not in this data folder" in card for card in page.cards)


def test_an_unreadable_query_comes_first_among_its_verdict_and_is_counted(world: World, tmp_path: Path) -> None:
    catalogue, weights, prediction, solution = world
    matches = prediction.matches.assign(problem=np.where(prediction.matches["image_id"] == "q6", "cut short", ""))
    matches.loc[matches["image_id"] == "q6", "answer"] = NEW_INDIVIDUAL
    page = page_of((catalogue, weights, replace(prediction, matches=matches), solution), tmp_path / "out")
    assert page.shown() == ["q2", "q1", "q3", "q6", "q4", "q0", "q5"]
    assert "can't be read (cut short)" in page.cards[3]


def test_a_photograph_keeps_its_proportions_and_is_turned_upright(tmp_path: Path) -> None:
    tag = Image.Exif()
    tag[274] = 6  # lies on its side
    Image.new("RGB", (400, 200), "red").save(tmp_path / "lying.jpg", exif=tag)
    Image.new("RGB", (400, 200), "red").save(tmp_path / "flat.jpg")
    assert report._upright(tmp_path / "lying.jpg", 100).size == (50, 100)
    assert report._upright(tmp_path / "flat.jpg", 100).size == (100, 50)


def test_a_page_beyond_its_limit_takes_every_verdict_in_turn_and_says_so(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue, weights, prediction, solution = world

    def copies(table: pd.DataFrame) -> pd.DataFrame:
        parts = [table.assign(image_id=table["image_id"] + f"x{number}") for number in range(50)]
        return pd.concat(parts, ignore_index=True)

    rows = pd.concat([catalogue.database.table, copies(catalogue.query.table)], ignore_index=True)
    many = replace(prediction, matches=copies(prediction.matches))
    assert "queries are shown" not in page_of(world, tmp_path / "all").text
    monkeypatch.setattr(report, "PICTURES_LIMIT", 300_000)
    page = page_of((replace(catalogue, table=rows), weights, many, copies(solution)), tmp_path / "out")
    assert f"<b>{len(page.cards)} of 350 queries are shown</b>" in page.text
    assert 7 <= len(page.cards) < 350
    assert {"wrong individual", "new called known", "known called new", "right"} <= {
        words for words in report.VERDICTS.values() if any(words in card for card in page.cards)
    }
    articles = page.text[page.text.index("<article") : page.text.rindex("</article>")]
    assert len(articles) <= 300_000


def test_contact_sheets_have_a_row_per_dataset(world: World, tmp_path: Path) -> None:
    catalogue, _, prediction, solution = world
    rows = match_rows(catalogue, judge(prediction.matches, solution))
    assert [row.title for row in rows] == ["Lynx", "Newt"]
    assert {picture[2] for group in rows[0].pictures for picture in group} == {"wrong", "named", "missed", "right", ""}
    assert [row.title for row in world_rows(catalogue)] == ["Lynx", "Newt"]
    assert [len(row.pictures) for row in world_rows(catalogue)] == [2, 1]
    contact_sheet(tmp_path / "sheet.jpg", world_rows(catalogue))
    with Image.open(tmp_path / "sheet.jpg") as sheet:
        assert sheet.format == "JPEG"
        left, top = report.GAP, report.GAP + report.TITLE
        cell = sheet.convert("L").crop((left, top, left + report.CELL, top + report.CELL))
        assert np.asarray(cell).std() > 10  # a photograph, not a blank field
