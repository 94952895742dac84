"""The page of `reid review` in a real browser, driven as a person would: keys and touch, a reload in the middle, a
second tab, storage that is damaged or not there, and a file that goes out and comes back in.

It needs Chromium, as tests/test_browser.py does.
"""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest

from reid.config.presets import PRESETS
from reid.data.catalogue import Catalogue, read_catalogue
from reid.data.synthetic import SMALL, draw_world
from reid.review.applying import apply_answers
from reid.review.page import write_review
from reid.review.questions import Question

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright, which drives the browser, is not installed")


HOSTILE = "</script><script>alert(1)</script>"


@pytest.fixture(scope="module")
def phone() -> dict[str, Any]:
    """How a phone's browser behaves."""
    return {
        "viewport": {"width": 393, "height": 727},
        "device_scale_factor": 2.75,
        "is_mobile": True,
        "has_touch": True,
    }


class World(NamedTuple):
    """A drawn world, and a page of questions about it."""

    catalogue: Catalogue
    questions: list[Question]
    page: Path


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Six questions about drawn turtles, the third of them evenly drawn; the names of the last would run a script."""
    folder = tmp_path_factory.mktemp("review")
    draw_world(folder / "data", 0, SMALL)
    catalogue = read_catalogue(folder / "data")
    turtles = catalogue.query.of("SeaTurtleID2022").image_ids
    truth = pd.read_csv(folder / "data" / "solution.csv", dtype=str).set_index("image_id")["identity"]
    first = next(one for one in turtles if (truth[turtles] == truth[one]).sum() > 2)
    own = [one for one in turtles if truth[one] == truth[first]]
    others = [one for one in turtles if truth[one] != truth[first]]
    pairs = [(own[0], own[1]), *((own[0], other) for other in others[:5])]
    questions = [
        Question("clusters", "SeaTurtleID2022", pair, ("cluster 1", "cluster 2"), (tuple(own[2:4]), ()), 1.0, 3)
        for pair in pairs
    ]
    questions[2] = Question(**{**vars(questions[2]), "drawn": "evenly drawn: 1 of 30"})
    questions[5] = Question(**{**vars(questions[5]), "mode": "merge", "names": (HOSTILE, "Mira")})
    return World(catalogue, questions, write_review(catalogue, questions, folder / "page", PRESETS["keypoints"]))


class Tab:
    """The page in a tab, with its requests and errors."""

    def __init__(self, context: Any, page: Path) -> None:
        self.tab = context.new_page()
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.tab.on("request", lambda request: self.requests.append(request.url))
        self.tab.on("console", lambda message: self.errors.append(message.text))
        self.tab.on("pageerror", lambda error: self.errors.append(str(error)))
        self.tab.goto(page.as_uri())

    def text(self, name: str) -> str:
        return str(self.tab.locator(f"#{name}").inner_text())

    def press(self, keys: str) -> None:
        for key in keys.split():
            self.tab.keyboard.press(key)

    @property
    def pressed(self) -> list[str]:
        """The answer of the pair that is shown."""
        marked = self.tab.locator(".give button[aria-pressed=true]")
        return [one.get_attribute("id") for one in marked.all()]

    def saved(self, folder: Path) -> Path:
        """The file that the button saves."""
        with self.tab.expect_download() as waiting:
            self.tab.locator("#save").click()
        path = folder / waiting.value.suggested_filename
        waiting.value.save_as(path)
        return path

    def box(self, side: int = 0) -> list[float]:
        """What a frame shows: x, y, width and height in its photograph's pixels."""
        frame = self.tab.locator(".frame svg").nth(side)
        return [float(number) for number in str(frame.get_attribute("viewBox")).split()]


@pytest.fixture
def context(browser: Any) -> Iterator[Any]:
    """A person's browser, which keeps what pages store until it is closed."""
    opened = browser.new_context(viewport={"width": 1200, "height": 800})
    yield opened
    opened.close()


@pytest.fixture
def tab(context: Any, world: World) -> Iterator[Tab]:
    """The page, without errors when the test is over, and without requests but for photographs of the data folder."""
    page = Tab(context, world.page)
    yield page
    assert page.errors == []
    data = world.catalogue.root.as_uri()
    assert {url for url in page.requests if not url.startswith(("data:image/jpeg", data, "blob:file"))} == {
        world.page.as_uri()
    }


def answers_of(path: Path) -> list[list[str]]:
    rows = json.loads(path.read_text())["answers"]
    return [[row[name] for name in ("image_id_a", "image_id_b", "answer")] for row in rows]


def test_keys_answer_take_back_and_move(tab: Tab, world: World, tmp_path: Path) -> None:
    assert (tab.text("place"), tab.text("done")) == ("Pair 1 of 6", "0 answered")
    tab.press("s D u")
    assert (tab.text("place"), tab.text("done")) == ("Pair 4 of 6", "3 answered")
    tab.press("z")
    assert (tab.text("place"), tab.text("done"), tab.pressed) == ("Pair 3 of 6", "2 answered", [])
    tab.press("ArrowLeft")
    assert tab.pressed == ["different"]
    tab.press("s")  # another answer to the same pair, then on to the next without one
    assert (tab.text("place"), tab.text("done")) == ("Pair 3 of 6", "2 answered")
    expected = [[*world.questions[place].pair, "same"] for place in (0, 1)]
    assert answers_of(tab.saved(tmp_path)) == expected


def test_taking_back_more_than_was_said_does_nothing(tab: Tab) -> None:
    tab.press("s d z z z z")
    assert (tab.text("place"), tab.text("done")) == ("Pair 1 of 6", "0 answered")
    assert tab.tab.locator("#undo").is_disabled()
    tab.press("u")
    assert tab.text("done") == "1 answered"


def test_all_answers_go_into_pairs_csv(tab: Tab, world: World, tmp_path: Path) -> None:
    tab.tab.locator("#who").fill("  Ann  Lee ")
    tab.tab.locator("#who").press("Enter")
    tab.tab.locator("h2").click()
    assert not tab.tab.locator("#finished").is_visible()
    tab.press("s d d d d u")
    assert tab.tab.locator("#finished").is_visible()
    file = tab.saved(tmp_path)
    done = apply_answers(world.catalogue, file, tmp_path / "pairs.csv")
    assert done.added == {"same": 1, "different": 4, "unsure": 1}
    table = pd.read_csv(tmp_path / "pairs.csv", dtype=str, keep_default_na=False)
    assert [tuple(row) for row in table[["image_id_a", "image_id_b"]].to_numpy()] == [
        one.pair for one in world.questions
    ]
    assert set(table["who"]) == {"Ann Lee"}
    assert table["note"].tolist() == ["", "", "evenly drawn: 1 of 30", "", "", ""]


def test_typing_a_name_answers_nothing(tab: Tab) -> None:
    tab.tab.locator("#who").press_sequentially("sudz")
    assert tab.text("done") == "0 answered"


def test_a_reload_in_the_middle_loses_nothing(tab: Tab) -> None:
    tab.tab.locator("#who").fill("Ann")
    tab.tab.locator("h2").click()
    tab.press("s u z d")
    tab.tab.reload()
    assert (tab.text("place"), tab.text("done")) == ("Pair 3 of 6", "2 answered")
    assert tab.tab.locator("#who").input_value() == "Ann"
    tab.press("ArrowLeft")
    assert tab.pressed == ["different"]


def test_two_tabs_lose_no_answer(tab: Tab, context: Any, world: World, tmp_path: Path) -> None:
    other = Tab(context, world.page)
    tab.press("s")
    sync_api.expect(other.tab.locator("#done")).to_have_text("1 answered")
    other.press("ArrowRight d")
    sync_api.expect(tab.tab.locator("#done")).to_have_text("2 answered")
    tab.press("ArrowRight u")
    sync_api.expect(other.tab.locator("#done")).to_have_text("3 answered")
    assert answers_of(tab.saved(tmp_path)) == answers_of(other.saved(tmp_path / "other"))
    assert other.errors == []


def test_two_people_at_one_computer_both_keep_their_answers(tab: Tab, tmp_path: Path) -> None:
    for name, key in (("Ann", "s"), ("Bo", "d")):
        tab.tab.locator("#who").fill(name)
        tab.tab.locator("h2").click()
        tab.press(key)
        tab.press("ArrowLeft")
    rows = json.loads(tab.saved(tmp_path).read_text())["answers"]
    assert [(row["who"], row["answer"]) for row in rows] == [("Ann", "same"), ("Bo", "different")]


def test_storage_that_is_damaged_is_told_and_the_rest_is_used(tab: Tab) -> None:
    tab.press("s d")
    assert tab.text("done") == "2 answered"
    tab.tab.evaluate(
        """() => {
        const keys = Object.keys(localStorage).filter(key => key.startsWith('reid-review/')).sort();
        localStorage.setItem(keys[0], '{"image_id_a": 3');
        localStorage.setItem(keys[0] + 'x', 'null');
        localStorage.setItem(keys[0] + 'y', '[]');
        localStorage.setItem(keys[0] + 'z', '{"image_id_a":"a","image_id_b":"b","answer":"yes","who":"","when":""}');
    }"""
    )
    tab.tab.reload()
    # a busy browser may write what was stored a moment later, which the page then hears of
    tab.tab.wait_for_function("document.querySelector('#done').innerText === '1 answered'")
    assert "4 stored answers can't be read" in tab.text("told")
    tab.press("s")
    assert tab.text("done") == "2 answered"


def test_a_browser_that_keeps_nothing_says_so_at_once(browser: Any, world: World, tmp_path: Path) -> None:
    context = browser.new_context()
    context.add_init_script(
        "Object.defineProperty(window, 'localStorage', {get() { throw new DOMException('no', 'SecurityError'); }})"
    )
    page = Tab(context, world.page)
    assert "keeps no answers" in page.text("told")
    page.press("s d")
    assert len(answers_of(page.saved(tmp_path))) == 2
    assert page.errors == []
    context.close()


def test_a_storage_that_is_full_is_told(tab: Tab) -> None:
    tab.tab.evaluate("() => { Storage.prototype.setItem = () => { throw new DOMException('full'); }; }")
    tab.press("s")
    assert "no room" in tab.text("told")
    assert tab.text("done") == "1 answered"


def test_a_saved_file_can_be_loaded_and_others_are_refused(
    tab: Tab, browser: Any, world: World, tmp_path: Path
) -> None:
    tab.press("s d u")
    file = tab.saved(tmp_path)
    elsewhere = browser.new_context()
    fresh = Tab(elsewhere, world.page)
    content = json.loads(file.read_text())
    for name, text, words in (
        ("cut.json", file.read_text()[:-30], "it is cut short"),
        ("other.json", json.dumps({**content, "fingerprint": "0"}), "other photographs"),
        ("list.json", "[]", "no answers of this kind"),
        ("null.json", "null", "can't be used"),
        ("damaged.json", json.dumps({**content, "answers": [{"answer": "same"}]}), "it is damaged"),
    ):
        (tmp_path / name).write_text(text)
        fresh.tab.locator("#file").set_input_files(tmp_path / name)
        sync_api.expect(fresh.tab.locator("#told")).to_contain_text(name)
        assert words in fresh.text("told")
        assert fresh.text("done") == "0 answered"
    fresh.tab.locator("#file").set_input_files(file)
    sync_api.expect(fresh.tab.locator("#done")).to_have_text("3 answered")
    assert answers_of(fresh.saved(tmp_path / "again")) == answers_of(file)
    assert fresh.errors == []
    elsewhere.close()


def test_both_photographs_are_enlarged_and_moved_together(tab: Tab) -> None:
    whole = [tab.box(0), tab.box(1)]
    frame = tab.tab.locator(".frame").first.bounding_box()
    tab.tab.mouse.move(frame["x"] + frame["width"] * 0.75, frame["y"] + frame["height"] / 2)
    tab.tab.mouse.wheel(0, -400)
    enlarged = [tab.box(0), tab.box(1)]
    for before, after in zip(whole, enlarged, strict=True):
        assert after[2] == pytest.approx(before[2] / 2.718, rel=0.01)
    # what was under the pointer stays there
    assert enlarged[0][0] + 0.75 * enlarged[0][2] == pytest.approx(whole[0][0] + 0.75 * whole[0][2], rel=0.01)
    tab.tab.mouse.down()
    tab.tab.mouse.move(frame["x"] + frame["width"] * 0.65, frame["y"] + frame["height"] / 2)
    tab.tab.mouse.up()
    for before, after in zip(enlarged, [tab.box(0), tab.box(1)], strict=True):
        assert after[0] > before[0]
    tab.press("0")
    assert [tab.box(0), tab.box(1)] == whole


def test_matches_are_drawn_on_demand_and_end_on_the_photographs(tab: Tab) -> None:
    assert tab.tab.locator("#lines path").count() == 0
    tab.press("m")
    lines = tab.tab.locator("#lines g")
    assert lines.count() > 3
    frames = [one.bounding_box() for one in tab.tab.locator(".frame").all()]
    for line in lines.all():
        for dot, frame in zip(line.locator("circle").all(), frames, strict=True):
            box = dot.bounding_box()
            middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
            assert frame["x"] <= middle[0] <= frame["x"] + frame["width"]
            assert frame["y"] <= middle[1] <= frame["y"] + frame["height"]
    tab.press("m")
    assert tab.tab.locator("#lines g:visible").count() == 0


def test_another_photograph_of_a_group_can_be_looked_at(tab: Tab, world: World) -> None:
    others = tab.tab.locator(".side").first.locator(".other")
    assert others.count() == 1 + len(world.questions[0].others[0])
    assert not tab.tab.locator(".instead").first.is_visible()
    others.nth(1).click()
    assert tab.tab.locator(".instead").first.is_visible()
    assert others.nth(1).get_attribute("aria-pressed") == "true"
    tab.press("s")
    assert not tab.tab.locator(".instead").first.is_visible()


def test_the_originals_are_shown_where_they_are(tab: Tab, world: World) -> None:
    sync_api.expect(tab.tab.locator(".frame image").first).to_have_attribute("href", re.compile(r"\.jpg$"))
    assert not tab.tab.locator("#previews").is_visible()
    assert any(url.startswith(world.catalogue.root.as_uri()) for url in tab.requests)


def test_a_page_far_from_its_photographs_shows_previews(context: Any, world: World, tmp_path: Path) -> None:
    page = Tab(context, Path(shutil.copy(world.page, tmp_path / "sent by mail.html")))
    page.tab.locator("#previews").wait_for(state="visible")
    assert page.tab.locator(".frame image").first.get_attribute("href").startswith("data:image/jpeg")
    page.press("s d")
    assert page.text("done") == "2 answered"
    assert all("ERR_FILE_NOT_FOUND" in error for error in page.errors), page.errors
    assert len(page.errors) == 1, "asked for once"


def test_every_preview_is_in_the_page_once_and_names_run_no_script(tab: Tab, world: World) -> None:
    text = world.page.read_text()
    asked = {image_id for question in world.questions for image_id in (*question.pair, *question.others[0])}
    assert text.count("data:image/jpeg;base64,") == len(asked)
    script = """async () => Promise.all(Object.values(JSON.parse(document.getElementById('data').textContent).photos)
        .map(async photo => {
            const image = new Image();
            image.src = photo.preview;
            await image.decode();
            return Math.max(image.naturalWidth, image.naturalHeight);
        }))"""
    assert set(tab.tab.evaluate(script)) == {320}
    tab.press("ArrowRight " * 5)
    assert HOSTILE in tab.tab.locator("#kind").text_content()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_everything_is_reached_by_touch(
    browser: Any, world: World, phone: dict[str, Any], scheme: Any
) -> None:
    context = browser.new_context(**phone, color_scheme=scheme)
    page = Tab(context, world.page)
    width = phone["viewport"]["width"]
    assert page.tab.evaluate("document.documentElement.scrollWidth") <= width
    for name in ("same", "different", "unsure"):
        box = page.tab.locator(f"#{name}").bounding_box()
        assert box["height"] >= 40
        assert box["y"] + box["height"] <= phone["viewport"]["height"], "answers are on the screen"
    page.tab.locator("#same").tap()
    page.tab.locator("#different").tap()
    page.tab.locator("#undo").tap()
    assert (page.text("place"), page.text("done")) == ("Pair 2 of 6", "1 answered")
    before = page.box()
    pinch(context, page)
    assert page.box()[2] < before[2] / 1.5
    assert page.box(1)[2] < before[2] / 1.5
    channels = [
        float(one) for one in page.tab.evaluate("getComputedStyle(document.body).backgroundColor")[4:-1].split(",")
    ]
    assert (sum(channels) / 3 > 128) == (scheme == "light")
    assert page.errors == []
    context.close()


def pinch(context: Any, page: Tab) -> None:
    """Two fingers on the first photograph, moving apart."""
    frame = page.tab.locator(".frame").first.bounding_box()
    x, y = frame["x"] + frame["width"] / 2, frame["y"] + frame["height"] / 2
    session = context.new_cdp_session(page.tab)
    for kind, apart in (
        ("touchStart", 20),
        ("touchMove", 30),
        ("touchMove", 45),
        ("touchMove", 60),
        ("touchEnd", None),
    ):
        points = [] if apart is None else [{"x": x - apart, "y": y, "id": 0}, {"x": x + apart, "y": y, "id": 1}]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
