"""The page in a real browser: what a click chooses is shown, nothing is loaded, everything fits on a phone.

It needs Chromium (`apt-get install chromium`); playwright, which drives it, is installed with the tests.
"""

import io
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hand_clusters import make_cluster_world
from hand_world import explain, make_world
from PIL import Image

from reid.data.catalogue import read_catalogue
from reid.decision.artifact import open_weights
from reid.decision.metrics import read_solution
from reid.decision.predict import predict
from reid.report.cluster_report import write_cluster_report
from reid.report.outcomes import OUTCOMES, classify_outcomes
from reid.report.report import collect_explanations, write_report


@pytest.fixture(scope="module")
def report(
    patterns_original: Path, patterns_weights_original: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, int]]:
    """A page with everything on it, and how many of its queries have each outcome."""
    folder = tmp_path_factory.mktemp("browser")
    weights = open_weights(Path(shutil.copytree(patterns_weights_original, folder / "weights")))
    catalogue, solution = read_catalogue(patterns_original), read_solution(patterns_original / "solution.csv")
    prediction = predict(catalogue, weights, weights.recipe)
    explanations = collect_explanations(catalogue, weights, prediction, solution)
    page = write_report(folder / "report", catalogue, weights, prediction, solution, explanations)
    counts = classify_outcomes(prediction.wide, solution)["outcome"].value_counts()
    return page, {str(key): int(count) for key, count in counts.items()}


class Watched:
    """A page in a window, with its requests and its errors."""

    def __init__(self, browser: Any, path: Path, width: int = 1200, scheme: str = "light") -> None:
        self.tab = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.tab.on("request", lambda request: self.requests.append(request.url))
        self.tab.on("console", lambda message: self.errors.append(message.text))
        self.tab.on("pageerror", lambda error: self.errors.append(str(error)))
        self.tab.on("dialog", self._dismiss)
        self.tab.goto(path.as_uri())

    def _dismiss(self, dialog: Any) -> None:
        self.errors.append(dialog.message)
        dialog.dismiss()

    def visible(self, selector: str) -> int:
        return sum(one.is_visible() for one in self.tab.locator(selector).all())

    def style(self, selector: str, name: str, pseudo: str = "") -> str:
        script = "([selector, name, pseudo]) => getComputedStyle(document.querySelector(selector), pseudo)[name]"
        return str(self.tab.evaluate(script, [selector, name, pseudo]))


@pytest.fixture
def watched(browser: Any, report: tuple[Path, dict[str, int]]) -> Iterator[Watched]:
    """A page without errors and foreign requests when the test is over."""
    page = Watched(browser, report[0])
    yield page
    assert page.errors == []
    assert {url for url in page.requests if not url.startswith("data:image/jpeg;base64,")} == {report[0].as_uri()}
    page.tab.close()


def test_filters_show_the_matches_of_their_outcome_and_dataset(
    watched: Watched, report: tuple[Path, dict[str, int]]
) -> None:
    counts = report[1]
    assert watched.visible(".card") == sum(counts.values())
    for key, count in counts.items():
        watched.tab.locator(f"label[for=v-{key}]").click()
        assert watched.visible(".card") == count == watched.visible(f".card.v-{key}")
        assert OUTCOMES[key] in watched.tab.locator(f".card.v-{key}").first.inner_text()
    watched.tab.locator("label[for=d-0]").click()
    of_both = watched.tab.locator(f".card.v-{key}.d-0").count()
    assert watched.visible(".card") == of_both
    assert watched.visible(".nothing") == (of_both == 0)
    watched.tab.locator("label[for=v-all]").click()
    watched.tab.locator("label[for=d-all]").click()
    assert watched.visible(".card") == sum(counts.values())


def test_a_chosen_candidate_shows_the_keypoints_that_it_shares(watched: Watched) -> None:
    card = watched.tab.locator(".card", has=watched.tab.locator(".choice")).first
    assert watched.visible(".pair") == 0
    for number in (0, 1):
        card.locator(f".choice.n{number}").click()
        assert watched.visible(".pair") == 1
        assert card.locator(f".pair.n{number}").is_visible()
    assert "keypoints match" in card.locator(".pair.n1").inner_text()
    card.locator(".pair.n1 .hide").click()
    assert watched.visible(".pair") == 0


def test_lines_end_on_the_photographs(watched: Watched) -> None:
    """Both ends of every line lie in the square of their photograph, as the browser draws it."""
    script = """() => [...document.querySelectorAll('.pair path')].map(path => path.getAttribute('d'))
        .flatMap(d => [...d.matchAll(/M(\\d+) (\\d+)L(\\d+) (\\d+)/g)].map(found => found.slice(1).map(Number)))"""
    lines = watched.tab.evaluate(script)
    assert lines
    for x, y, u, v in lines:
        assert 0 <= x <= 1000 <= u - 41 <= 2000, (x, y, u, v)
        assert 0 <= y <= 1000, (x, y, u, v)
        assert 0 <= v <= 1000, (x, y, u, v)


def test_a_dot_of_the_map_shows_its_individual_when_pointed_at(watched: Watched) -> None:
    dot = watched.tab.locator(".dots i.p").first
    selector = ".dots i.p"
    assert watched.style(selector, "content", "::after") == "none"
    dot.hover(force=True)
    words = dot.get_attribute("data-t")
    assert words
    assert words.split("\n")[0] in watched.style(selector, "content", "::after")
    assert watched.style(selector, "backgroundImage", "::before").startswith('url("data:image/jpeg')


def test_every_thumbnail_is_a_picture(watched: Watched) -> None:
    script = """async () => {
        const uris = new Set([...document.querySelectorAll('.photo')].map(one =>
            getComputedStyle(one).backgroundImage.slice(5, -2)));
        const widths = [];
        for (const uri of uris) {
            const image = new Image();
            image.src = uri;
            await image.decode();
            widths.push(Math.max(image.naturalWidth, image.naturalHeight));
        }
        return widths;
    }"""
    assert set(watched.tab.evaluate(script)) == {160}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 360])
def test_nothing_is_wider_than_the_window_and_dark_is_dark(
    browser: Any, report: tuple[Path, dict[str, int]], width: int, scheme: str
) -> None:
    page = Watched(browser, report[0], width, scheme)
    page.tab.locator(".choice").first.click()
    assert page.tab.evaluate("document.documentElement.scrollWidth") <= width
    channels = [float(one) for one in page.style("body", "backgroundColor")[4:-1].split(",")]
    assert (sum(channels) / 3 > 128) == (scheme == "light")
    assert page.errors == []
    page.tab.close()


def test_a_table_that_is_cut_off_has_a_shadow_on_that_side(browser: Any, report: tuple[Path, dict[str, int]]) -> None:
    page = Watched(browser, report[0], width=390)
    table = page.tab.locator("#thresholds .scroll").first
    assert table.evaluate("one => one.scrollWidth > one.clientWidth + 40")

    def edges() -> tuple[float, float]:
        """How much darker the strip's first and last columns are than a page without ink, above the first words."""
        grey = np.asarray(Image.open(io.BytesIO(table.screenshot())).convert("L"), float)[2:8]
        return grey.max() - grey[:, 1].mean(), grey.max() - grey[:, -2].mean()

    left, right = edges()
    assert left < 2 < 20 < right
    table.evaluate("one => one.scrollLeft = one.scrollWidth / 3")
    assert min(edges()) > 20
    table.evaluate("one => one.scrollLeft = one.scrollWidth")
    left, right = edges()
    assert right < 2 < 20 < left
    page.tab.close()


def test_a_script_in_an_identity_is_not_run(browser: Any, tmp_path: Path) -> None:
    catalogue, weights, prediction, solution = make_world(tmp_path)
    path = write_report(tmp_path / "out", catalogue, weights, prediction, solution, explain(prediction, solution))
    page = Watched(browser, path)
    assert "<script>alert(1)</script>" in page.tab.locator(".card").last.text_content()
    assert page.errors == []
    assert page.tab.locator("script").count() == 0
    page.tab.close()


# discovered individuals


@pytest.fixture(scope="module")
def cluster_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    catalogue, clusters, solution = make_cluster_world(tmp_path_factory.mktemp("clusters") / "data")
    return write_cluster_report(catalogue, clusters, catalogue.root / "report", solution)


def test_a_kind_and_a_dataset_of_decisions_can_be_chosen(browser: Any, cluster_report: Path) -> None:
    page = Watched(browser, cluster_report)
    assert page.visible(".card") == 5
    for kind, dataset, cards in (("joined-right", "all", 2), ("joined-right", "1", 1), ("apart-right", "1", 0)):
        page.tab.locator(f"label[for=v-{kind}]").click()
        page.tab.locator(f"label[for=d-{dataset}]").click()
        assert page.visible(".card") == cards == page.visible(f".card.o-{kind}")
        assert page.visible(".nothing") == (cards == 0)
    assert page.errors == []
    assert {url for url in page.requests if not url.startswith("data:image/jpeg;base64,")} == {cluster_report.as_uri()}
    page.tab.close()


def test_a_dendrogram_stands_next_to_its_photographs(browser: Any, cluster_report: Path) -> None:
    """Every line begins at the height of its photograph; the cut is drawn where its label is."""
    page = Watched(browser, cluster_report)
    details = page.tab.locator(".card details").first
    assert not details.locator(".lines").is_visible()
    details.locator("summary").click()
    field = details.locator(".lines svg").bounding_box()
    cut = details.locator(".lines span.cut").bounding_box()
    line = details.locator(".lines path.cut").bounding_box()
    assert line["x"] + line["width"] / 2 == pytest.approx(cut["x"] + cut["width"] / 2, abs=1.5)
    leaves = [leaf.bounding_box() for leaf in details.locator(".leaf").all()]
    path = details.locator(".lines path:not(.cut)").get_attribute("d")
    assert path
    ends = [int(y) for pair in re.findall(r"M0 (\d+)H|V(\d+)H0", path) for y in pair if y]
    assert len(ends) == len(leaves) == 3
    for y, leaf in zip(sorted(ends), leaves, strict=True):
        middle = field["y"] + y / (10 * len(leaves)) * field["height"]
        assert middle == pytest.approx(leaf["y"] + leaf["height"] / 2, abs=1.5)
    page.tab.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 360])
def test_the_page_of_clusters_is_no_wider_than_the_window(
    browser: Any, cluster_report: Path, width: int, scheme: str
) -> None:
    page = Watched(browser, cluster_report, width, scheme)
    page.tab.locator(".card details summary").first.click()
    assert page.tab.evaluate("document.documentElement.scrollWidth") <= width
    card = page.tab.locator(".card", has=page.tab.locator("details")).first
    assert card.evaluate("one => one.scrollWidth <= one.clientWidth"), "cut off at the card's edge"
    channels = [float(one) for one in page.style("body", "backgroundColor")[4:-1].split(",")]
    assert (sum(channels) / 3 > 128) == (scheme == "light")
    assert page.errors == []
    page.tab.close()
