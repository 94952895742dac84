"""The report: one page that shows how good the answers are, why, and which photographs stand behind them.

`write_report` makes `report.html`, a file that holds everything it shows: no script, no network, light and dark,
and the same bytes for the same input. `contact_sheet` makes a picture of photographs for a README.
Top to bottom: what the page says (`judge`, rows of its tables), what it draws (thumbnails, charts), how it is laid out
(`PAGE`). A section of the page is a key of `write_report`'s content and a `<section>` of `PAGE`.
"""

import base64
import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from PIL import Image, ImageDraw, ImageFont

from reid import NEW_INDIVIDUAL, __version__
from reid.calibration import Sweep, Threshold, sweep
from reid.catalogue import Catalogue
from reid.files import atomically
from reid.gallery import load_gallery
from reid.images import UnreadableError, open_photograph
from reid.matching import load_calibrations
from reid.progress import track
from reid.questions import PseudoQueries
from reid.recipe import RECIPES, Recipe
from reid.scoring import Score, overall, score_submission
from reid.submission import Prediction
from reid.weights import Weights, gallery_file

__all__ = ["VERDICTS", "SheetRow", "contact_sheet", "judge", "match_rows", "world_rows", "write_report"]

VERDICTS = {
    "wrong": "wrong individual",
    "named": "new called known",
    "missed": "known called new",
    "right": "right",
    "open-named": "named",
    "open-new": "called new",
}
"""From the worst to the best; the last two are all that can be said of a query whose truth is not known."""

MARKS = dict(zip(VERDICTS, "\u2717\u2691\u25cb\u2713\u25cf\u25cb", strict=True))
"""A sign per verdict, so that colour is not the only difference."""

PICTURES_LIMIT = 8_500_000
"""Bytes of the matches on a page, which leaves room for charts and tables below 10 MB in all."""

CARD_BYTES = 2_000
"""What a match takes beside its pictures; measured 1,300 to 1,600."""

THUMBNAIL = 160
"""Pixels on a thumbnail's longer side: markings can be compared, and it takes about 5 kB."""


def write_report(
    folder: Path, catalogue: Catalogue, weights: Weights, prediction: Prediction, solution: pd.DataFrame | None
) -> Path:
    """Writes `folder/report.html`, and `folder/contact_sheet.jpg` with a few matches of every dataset.

    Args:
        folder: where; it is made if it is not there.
        catalogue: the data folder that the queries came from.
        weights: what answered them.
        prediction: the answers.
        solution: the true answers (see `scoring.read_solution`), or None where they are not known. It may know only
            some of the queries; the others are shown without a verdict.

    Returns:
        The page's path.

    Raises:
        InputError: the solution asks for a photograph that was not answered; the folder can't be written.
    """
    thresholds = {name: one.threshold for name, one in load_calibrations(weights).items()}
    scores = {} if solution is None else score_submission(prediction.submission, solution)
    judged = judge(prediction.matches, solution)
    cards = _cards(judged, catalogue)
    content = {
        "title": f"{catalogue.root.resolve().name}, recipe {weights.recipe.name}",
        "words": VERDICTS,
        "marks": MARKS,
        "solved": bool((judged["truth"] != "").any()),
        "queries": len(judged),
        "headline": _headline(judged, scores, thresholds),
        "score_chart": _score_chart(scores, thresholds),
        "score_rows": _score_rows(scores, thresholds),
        "threshold_rows": _threshold_rows(judged, scores, thresholds, prediction.share_new()),
        "distance_charts": [
            (name, _distance_chart(judged[judged["dataset"] == name], one)) for name, one in thresholds.items()
        ],
        "cards": cards,
        "filters": _filters(judged, cards),
        "data_rows": _data_rows(catalogue, judged, weights),
        "size_charts": [
            (name, _size_chart(name, part.table["identity"].value_counts().to_numpy(int)))
            for name, part in catalogue.database.by_dataset().items()
        ],
        "made": _made(catalogue, weights, prediction.route),
    }
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"fixed": _fixed, "percent": _percent, "between": _between}
    page = environment.from_string(PAGE).render(content)
    contact_sheet(folder / "contact_sheet.jpg", match_rows(catalogue, judged))
    with atomically(folder / "report.html") as temporary:
        temporary.write_text(page, "utf-8")
    return folder / "report.html"


# what the page says


def judge(matches: pd.DataFrame, solution: pd.DataFrame | None) -> pd.DataFrame:
    """Matches with their verdicts, the worst first.

    Worst are confident faults: a wrong name far below the threshold, a known animal far above it. Among right answers
    and those whose truth is not known, the first are those nearest the threshold.

    Args:
        matches: see `submission.Prediction`.
        solution: columns image_id, identity, new_identity; None where it is not known.

    Returns:
        The matches with the columns truth ("" where not known), truth_new (bool), verdict (a key of `VERDICTS`) and
        ratio (distance / threshold).
    """
    rows = matches.reset_index(drop=True)
    truth = pd.Series("", index=rows.index)
    truth_new = pd.Series(False, index=rows.index)
    if solution is not None:
        by_id = solution.set_index("image_id")
        truth = rows["image_id"].map(by_id["identity"]).fillna("").astype(object)
        truth_new = rows["image_id"].map(by_id["new_identity"]).eq(True)
    called_new = rows["answer"] == NEW_INDIVIDUAL
    verdict = np.select(
        [
            (truth == "") & called_new,
            truth == "",
            (truth_new & called_new) | (~truth_new & (rows["answer"] == truth)),
            truth_new,
            called_new,
        ],
        ["open-new", "open-named", "right", "named", "missed"],
        "wrong",
    )
    limits, distances = rows["threshold"].to_numpy(float), rows["distance"].to_numpy(float)
    ratio = np.divide(distances, limits, out=np.full(len(rows), np.inf), where=limits > 0)
    order = np.select([np.isin(verdict, ["wrong", "named"]), verdict == "missed"], [ratio, -ratio], np.abs(ratio - 1))
    order = np.where(rows["problem"] != "", -np.inf, order)  # what can't be read is looked at first
    ranks = np.array([list(VERDICTS).index(one) for one in verdict])
    judged = rows.assign(truth=truth, truth_new=truth_new, verdict=verdict, ratio=ratio)
    return judged.iloc[np.lexsort((order, ranks))].reset_index(drop=True)


class Headline(NamedTuple):
    """The page's first lines."""

    score: float | None
    expected: float | None
    spread: float | None
    """Standard deviation of the mean over the datasets, if they are independent."""
    measured: int
    """Datasets with an expected score."""
    datasets: int
    verdicts: list[tuple[str, str, int, float]]
    """Key, words, count, share."""
    astray: int
    """Queries that were sent to another dataset's encoder than the one in their row."""


def _headline(judged: pd.DataFrame, scores: dict[str, Score], thresholds: dict[str, Threshold]) -> Headline:
    expected = [one.score for one in thresholds.values() if one.score is not None]
    spreads = [spread for one in thresholds.values() if (spread := _spread(one)) is not None]
    counts = Counter(judged["verdict"])
    return Headline(
        score=overall(scores) if scores else None,
        expected=float(np.mean(expected)) if expected else None,
        spread=float(np.sqrt(np.square(spreads).sum()) / len(spreads)) if spreads else None,
        measured=len(expected),
        datasets=len(thresholds),
        verdicts=[(key, VERDICTS[key], counts[key], counts[key] / len(judged)) for key in VERDICTS if counts[key]],
        astray=int(((judged["column"] != "") & (judged["column"] != judged["dataset"])).sum()),
    )


def _spread(threshold: Threshold) -> float | None:
    """The standard deviation that an interval of nine tenths has if it is normal: 1.645 of them on either side."""
    return None if threshold.interval is None else (threshold.interval[1] - threshold.interval[0]) / 2 / 1.645


def _score_rows(scores: dict[str, Score], thresholds: dict[str, Threshold]) -> list[dict[str, Any]]:
    names = sorted({*scores, *thresholds})
    return [{"dataset": name, "live": scores.get(name), "expected": thresholds.get(name)} for name in names]


def _threshold_rows(
    judged: pd.DataFrame, scores: dict[str, Score], thresholds: dict[str, Threshold], share_new: Mapping[str, float]
) -> list[dict[str, Any]]:
    rows = []
    for name, threshold in thresholds.items():
        curves = _live_sweep(judged[judged["dataset"] == name])
        best = None
        if curves is not None and np.isfinite(curves.edges).any():
            read = curves.at(curves.edges[np.isfinite(curves.edges)])
            product = np.sqrt(read.baks * read.baus)
            best = (float(product.max()), float(read.edges[product.argmax()]))
        live = scores[name].score if name in scores else None
        rows.append(
            {"dataset": name, "one": threshold, "live": live, "live_new": share_new.get(name), "best": best},
        )
    return rows


def _live_sweep(judged: pd.DataFrame) -> Sweep | None:
    """BAKS and BAUS of one dataset's queries over the threshold; None where it can't be known."""
    rows = judged[judged["truth"] != ""]
    if rows["truth_new"].nunique() < 2:
        return None
    return sweep(
        PseudoQueries(
            distance=np.where(rows["problem"] == "", rows["distance"].to_numpy(float), np.inf),
            right=(rows["identity"] == rows["truth"]).to_numpy(bool),
            individual=rows["truth"].to_numpy(str),
            new=rows["truth_new"].to_numpy(bool),
        )
    )


def _data_rows(catalogue: Catalogue, judged: pd.DataFrame, weights: Weights) -> list[dict[str, Any]]:
    broken = judged.loc[judged["problem"] != "", "image_id"]
    rows = []
    for name in sorted(set(catalogue.table["dataset"])):
        photographs, queries = catalogue.database.of(name), catalogue.query.of(name)
        sizes = photographs.table["identity"].value_counts().to_numpy(int)
        not_enrolled = 0
        if name in weights.datasets:
            gallery = load_gallery(weights.folder / gallery_file(name))
            not_enrolled = len(set(photographs.image_ids) - set(gallery.embeddings.image_id))
        rows.append(
            {
                "dataset": name or "(none)",
                "images": len(photographs),
                "individuals": len(sizes),
                "singletons": int((sizes == 1).sum()),
                "median": float(np.median(sizes)) if len(sizes) else 0.0,
                "largest": int(sizes.max()) if len(sizes) else 0,
                "not_enrolled": not_enrolled,
                "queries": len(queries),
                "unreadable": int(queries.table["image_id"].isin(broken).sum()),
            }
        )
    return rows


def _made(catalogue: Catalogue, weights: Weights, route: str) -> dict[str, Any]:
    manifest, name = weights.manifest, weights.recipe.name
    shipped = RECIPES.get(name, Recipe())
    return {
        "name": name,
        "route": route,
        "versions": {"reid (this page)": __version__}
        | {f"{part} (weights)": manifest.get(part, "not said") for part in ("reid", "torch", "timm")},
        "recipe": [
            (field, _word(value), value != getattr(shipped, field)) for field, value in asdict(weights.recipe).items()
        ],
        "data": manifest["data"],
        "same_data": manifest["data"] == catalogue.database.fingerprint,
        "files": dict(manifest["files"]),
    }


def _word(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)


def _fixed(value: float | None) -> str:
    """Three digits; a dash for what is not known (NaN is not equal to itself)."""
    return "\u2014" if value is None or value != value else f"{value:.3f}"


def _between(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f" ({interval[0]:.3f} to {interval[1]:.3f})"


def _percent(value: float | None) -> str:
    return "\u2014" if value is None or value != value else f"{value:.0%}"


# the matches as pictures


class Picture(NamedTuple):
    """A photograph on the page."""

    role: str
    name: str
    image_id: str
    uri: str
    problem: str
    """Why there is a grey field instead of a picture; "" where there is one."""


@dataclass(frozen=True)
class Card:
    """A match on the page.

    Attributes:
        place: in the order of `judge`.
        row: the match.
        pictures: the query, its nearest neighbour, and the right one where another is nearer.
    """

    place: int
    row: Any
    pictures: tuple[Picture, ...]


def _cards(judged: pd.DataFrame, catalogue: Catalogue) -> list[Card]:
    """As many matches as fit, the worst of every verdict and dataset in turn; in the order of `judge`."""
    turn = judged.groupby(["verdict", "dataset"]).cumcount().to_numpy()
    rows = list(judged.itertuples())
    shelf = _Shelf.of(catalogue)
    cards: list[Card] = []
    free = PICTURES_LIMIT
    for place in track([int(place) for place in np.argsort(turn, kind="stable")], "drawing matches"):
        pictures = shelf.pictures_of(rows[place])
        free -= CARD_BYTES + sum(len(picture.uri) for picture in pictures)
        if free < 0:
            break
        cards.append(Card(place, rows[place], pictures))
    return sorted(cards, key=lambda card: card.place)


@dataclass(frozen=True)
class _Shelf:
    """Where photographs are found.

    Attributes:
        paths: by image_id.
        orientations: by image_id.
        photographs: by individual, its database photographs.
        drawn: thumbnails that were made before, because many queries share a nearest neighbour.
    """

    paths: dict[str, Path]
    orientations: dict[str, str]
    photographs: dict[str, list[str]]
    drawn: dict[str, tuple[str, str]]

    @classmethod
    def of(cls, catalogue: Catalogue) -> "_Shelf":
        photographs: dict[str, list[str]] = {}
        for image_id, identity in zip(catalogue.database.image_ids, catalogue.database.identities, strict=True):
            photographs.setdefault(identity, []).append(image_id)
        orientations = dict(zip(catalogue.image_ids, catalogue.table["orientation"], strict=True))
        return cls(dict(zip(catalogue.image_ids, catalogue.paths, strict=True)), orientations, photographs, {})

    def pictures_of(self, row: Any) -> tuple[Picture, ...]:
        """The pictures of one match, a row of `judge`."""
        truth = f"{row.truth} (new)" if row.truth_new else row.truth
        pictures = [
            self._picture("query", truth or "not known", row.image_id),
            self._picture("nearest", row.identity, row.photograph),
        ]
        if row.truth in self.photographs and row.identity != row.truth:
            pictures.append(self._picture("right one", row.truth, self._look_alike(row.truth, row.image_id)))
        return tuple(pictures)

    def _look_alike(self, identity: str, image_id: str) -> str:
        """A database photograph of an individual, from the query's side where there is one."""
        own, side = self.photographs[identity], self.orientations.get(image_id, "")
        return next((one for one in own if self.orientations[one] == side), own[0])

    def _picture(self, role: str, name: str, image_id: str) -> Picture:
        if image_id not in self.drawn:
            self.drawn[image_id] = self._draw(image_id)
        return Picture(role, name, image_id, *self.drawn[image_id])

    def _draw(self, image_id: str) -> tuple[str, str]:
        """A data URI, and "" or why there is none."""
        if image_id not in self.paths:
            return "", "it is not in this data folder"
        try:
            picture = _upright(self.paths[image_id], THUMBNAIL)
        except UnreadableError as problem:
            return "", str(problem)
        written = io.BytesIO()
        picture.save(written, "JPEG", quality=70)
        return "data:image/jpeg;base64," + base64.b64encode(written.getvalue()).decode(), ""


def _upright(path: Path, longer: int) -> Image.Image:
    """A photograph as a person expects it: upright and in its own proportions.

    Raises:
        UnreadableError: it can't be opened.
    """
    squashed = Image.fromarray(open_photograph(path, 2 * longer))
    with Image.open(path) as image:
        width, height = image.size
        if image.getexif().get(274, 1) >= 5:  # EXIF 2.32, Orientation: 5 to 8 lie on their side
            width, height = height, width
    scale = longer / max(width, height)
    return squashed.resize((max(1, round(width * scale)), max(1, round(height * scale))), Image.Resampling.LANCZOS)


class Filter(NamedTuple):
    """A button above the matches."""

    key: str
    words: str
    shown: int
    found: int


def _filters(judged: pd.DataFrame, cards: Sequence[Card]) -> dict[str, Any]:
    """The buttons per verdict and per dataset, their ids, and the pairs of them that show nothing."""
    verdicts = [key for key in VERDICTS if (judged["verdict"] == key).any()]
    datasets = sorted(set(judged["dataset"]))
    pairs = {(card.row.verdict, card.row.dataset) for card in cards}

    def button(column: str, value: str, words: str) -> Filter:
        shown = sum(getattr(card.row, column) == value for card in cards)
        return Filter(value, words, shown, int((judged[column] == value).sum()))

    return {
        "verdict": [button("verdict", key, VERDICTS[key]) for key in verdicts],
        "dataset": [button("dataset", name, name) for name in datasets],
        "numbers": {name: place for place, name in enumerate(datasets)},
        "ids": ["v-all", "d-all", *(f"v-{key}" for key in verdicts), *(f"d-{place}" for place in range(len(datasets)))],
        "empty": [(key, place) for key in verdicts for place, name in enumerate(datasets) if (key, name) not in pairs],
    }


# charts

INK, MUTED, SCORE, KNOWN, MISLED, NEW = (f"#01010{number}" for number in range(1, 7))
PAINT = {INK: "ink", MUTED: "muted", SCORE: "score", KNOWN: "known", MISLED: "misled", NEW: "new"}
"""Colours that stand for the page's own, which differ between light and dark."""


def _svg(figure: Figure, name: str) -> str:
    """A figure as an SVG element for the page: its colours, its fonts, no date, ids of its own."""
    written = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "reid", "svg.fonttype": "none"}):
        figure.savefig(written, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    drawn = written.getvalue()
    drawn = drawn[drawn.index("<svg") :]
    drawn = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", drawn, flags=re.DOTALL)
    drawn = re.sub(r'(\bid="|href="#|url\(#)', rf"\1{name}-", drawn)
    drawn = re.sub(r'(<svg\b[^>]*?) width="[^"]*"', r"\1", drawn, count=1)
    drawn = re.sub(r'(<svg\b[^>]*?) height="[^"]*"', r"\1", drawn, count=1)
    for stand_in, colour in PAINT.items():
        drawn = drawn.replace(stand_in, f"var(--{colour})")
    return drawn


def _plain(axes: Axes) -> None:
    """Thin lines only where they help."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(MUTED)
    axes.tick_params(colors=MUTED, labelcolor=INK)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)


def _score_chart(scores: dict[str, Score], thresholds: dict[str, Threshold]) -> str:
    """Bars per dataset: the score, BAKS and BAUS; a diamond with whiskers where the score was expected."""
    names = sorted({*scores, *thresholds})
    figure = Figure(figsize=(5.2, 0.7 + 0.78 * len(names) + 0.4 * bool(scores)), layout="constrained")
    axes = figure.add_subplot()
    ticks, labels = [], []
    if scores:
        mean = overall(scores)
        axes.barh(-0.7, mean, 0.36, color=SCORE)
        axes.text(mean + 0.012, -0.7, _fixed(mean), va="center", color=INK, weight="bold")
        ticks.append(-0.7)
        labels.append("overall")
    for place, name in enumerate(names):
        threshold, score = thresholds.get(name), scores.get(name)
        expected = (None,) * 3 if threshold is None else (threshold.score, threshold.baks, threshold.baus)
        values = expected if score is None else (score.score, score.baks, score.baus)
        rows = zip(values, (-0.26, 0.16, 0.34), (0.3, 0.16, 0.16), (9.5, 7.5, 7.5), (SCORE, KNOWN, NEW), strict=True)
        for value, offset, thick, size, colour in rows:
            length = 0.0 if value is None or value != value else value
            axes.barh(place + offset, length, thick, color=colour)
            words = "none to answer" if score is not None and value != value else _fixed(value)
            axes.text(length + 0.012, place + offset, words, va="center", color=INK, fontsize=size)
        if threshold is not None and threshold.score is not None and threshold.interval is not None:
            height, (start, end) = place - 0.02, threshold.interval
            axes.errorbar(
                threshold.score,
                height,
                xerr=np.maximum(0, [[threshold.score - start], [end - threshold.score]]),
                fmt="D",
                markersize=4,
                color=MUTED,
                capsize=2.5,
            )
            axes.text(end + 0.02, height, _fixed(threshold.score), va="center", color=MUTED, fontsize=7.5)
        ticks.append(place)
        labels.append(name)
    for tick in axes.set_yticks(ticks, labels):
        tick.label1.set_parse_math(False)  # a solution's datasets may have any name
    axes.set_xlim(0, 1.1)
    axes.set_xticks(np.arange(0, 1.01, 0.2))
    axes.spines["bottom"].set_bounds(0, 1)
    axes.invert_yaxis()
    _plain(axes)
    axes.tick_params(axis="y", length=0)
    return _svg(figure, "scores")


def _distance_chart(judged: pd.DataFrame, threshold: Threshold) -> str:
    """Histogram of nearest distances, known queries upwards and new ones downwards; below it the score's curves."""
    curves = _live_sweep(judged)
    rows = judged[(judged["problem"] == "") & np.isfinite(judged["distance"])]
    figure = Figure(figsize=(4.6, 2.3 if curves is None else 3.7), layout="constrained")
    heights = [1] if curves is None else [3, 2]
    panels = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    distances = rows["distance"].to_numpy(float)
    lowest, highest = min([threshold.value, *distances]) * 0.97, max([threshold.value, *distances]) * 1.03
    bins = np.linspace(lowest, max(highest, lowest + 1e-6), 31)
    solved, is_new = (rows["truth"] != "").to_numpy(bool), rows["truth_new"].to_numpy(bool)
    is_right = (rows["identity"] == rows["truth"]).to_numpy(bool)
    groups = [(solved & is_right & ~is_new, KNOWN, 1), (solved & ~is_right & ~is_new, MISLED, 1)]
    groups += [(solved & is_new, NEW, -1), (~solved, SCORE, 1)]
    up = np.zeros(len(bins) - 1)
    for mask, colour, sign in groups:
        counts = np.histogram(distances[mask], bins)[0]
        bottom = up if sign > 0 else 0
        panels[0].bar(bins[:-1], sign * counts, np.diff(bins) * 0.9, bottom=bottom, align="edge", color=colour)
        up = up + counts * (sign > 0)
    panels[0].set_ylabel("queries")
    panels[0].yaxis.set_major_locator(MaxNLocator(5, integer=True))
    panels[0].yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{abs(value):.0f}"))
    panels[0].axhline(0, color=MUTED, linewidth=0.8)
    if curves is not None:
        at = np.linspace(bins[0], bins[-1], 400)
        read = curves.at(at)
        panels[1].plot(at, read.baks, color=KNOWN, linewidth=1.2)
        panels[1].plot(at, read.baus, color=NEW, linewidth=1.2)
        panels[1].plot(at, np.sqrt(read.baks * read.baus), color=SCORE, linewidth=2.2)
        panels[1].set_ylim(-0.02, 1.02)
        panels[1].set_ylabel("score")
    panels[-1].set_xlabel("distance to the nearest photograph")
    for panel in panels:
        panel.axvspan(*threshold.plateau, color=MUTED, alpha=0.22, linewidth=0, zorder=0)
        panel.axvline(threshold.value, color=INK, linewidth=1.4, linestyle=(0, (4, 2)))
        panel.set_xlim(bins[0], bins[-1])
        _plain(panel)
    return _svg(figure, f"distance-{threshold.dataset}")


def _size_chart(name: str, sizes: np.ndarray) -> str:
    """How many individuals have one photograph, two, three to four, five to eight, ..."""
    counts = np.bincount(np.ceil(np.log2(sizes)).astype(int))  # 1 -> 0, 2 -> 1, 3 and 4 -> 2, 5 to 8 -> 3
    words = [str(2**step) if step < 2 else f"{2 ** (step - 1) + 1}-{2**step}" for step in range(len(counts))]
    figure = Figure(figsize=(4.6, 1.9), layout="constrained")
    axes = figure.add_subplot()
    for place, count in enumerate(counts):
        axes.bar(place, count, 0.8, color=SCORE if place else MISLED)
        axes.text(place, count, str(count), ha="center", va="bottom", color=INK, fontsize=8)
    axes.set_xticks(range(len(words)), words)
    axes.set_ylim(0, max(counts) * 1.15)
    axes.set_xlabel("database photographs per individual")
    axes.set_ylabel("individuals")
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    _plain(axes)
    return _svg(figure, f"sizes-{name}")


# the contact sheet

CELL, GAP, LINE, TITLE = 150, 10, 16, 24
"""Pixels: a photograph's longer side on a contact sheet, the room around it, a caption's line, a row's title."""

SHEET_INK = {"": "#202428", "wrong": "#b3261e", "named": "#a04f00", "missed": "#5b3f9e", "right": "#17703f"}
"""Caption colours by verdict, on white: a README's picture is seen on light and dark pages."""


@dataclass(frozen=True)
class SheetRow:
    """A row of a contact sheet.

    Attributes:
        title: what stands above it.
        pictures: groups that stand close together; a picture is a file, a caption of few words, and a verdict that
            colours the caption ("" for none).
    """

    title: str
    pictures: tuple[tuple[tuple[Path, str, str], ...], ...]


def world_rows(catalogue: Catalogue, individuals: int = 3, photographs: int = 3) -> list[SheetRow]:
    """A row per dataset: a few photographs each of the individuals that have most in the database.

    To show a data folder (the toy world, say): `contact_sheet(path, world_rows(read_catalogue(folder)))`.
    """
    rows = []
    for name, part in catalogue.database.by_dataset().items():
        groups = []
        for identity in part.table["identity"].value_counts().index[:individuals]:
            own = replace(part, table=part.table[part.table["identity"] == identity].iloc[:photographs])
            groups.append(tuple((path, str(identity), "") for path in own.paths))
        rows.append(SheetRow(name, tuple(groups)))
    return rows


def match_rows(catalogue: Catalogue, judged: pd.DataFrame, matches: int = 5) -> list[SheetRow]:
    """A row per dataset: query and nearest neighbour of a match of every verdict in turn, from the middle of each."""
    paths = dict(zip(catalogue.image_ids, catalogue.paths, strict=True))
    rows = []
    for name, part in judged[judged["problem"] == ""].groupby("dataset", sort=True):
        # the middle and not the worst: the sheet is to be typical
        by_verdict = part.groupby("verdict")["verdict"]
        turn = (by_verdict.cumcount() - by_verdict.transform("size") // 2) % by_verdict.transform("size")
        chosen = part.loc[turn.sort_values(kind="stable").index[:matches]].sort_index()
        groups = []
        for row in chosen.itertuples():
            nearest = paths.get(str(row.photograph), Path("not in this data folder"))
            query = (paths[str(row.image_id)], VERDICTS[str(row.verdict)], str(row.verdict))
            groups.append((query, (nearest, f"nearest, {row.ratio:.0%} of limit", "")))
        rows.append(SheetRow(str(name), tuple(groups)))
    return rows


def contact_sheet(path: Path, rows: Sequence[SheetRow]) -> None:
    """Writes photographs with captions, in rows, as a JPEG file."""
    font, bold = ImageFont.load_default(11), ImageFont.load_default(15)
    widths = [sum(len(group) * (CELL + 2) + GAP for group in row.pictures) for row in rows]
    step = TITLE + CELL + LINE + GAP
    sheet = Image.new("RGB", (max([*widths, CELL]) + GAP, step * len(rows) + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for number, row in enumerate(rows):
        left, top = GAP, GAP + number * step
        draw.text((left, top), row.title, fill=SHEET_INK[""], font=bold)
        for group in row.pictures:
            for file, caption, verdict in group:
                _paste(sheet, file, left, top + TITLE)
                while caption and draw.textlength(caption, font) > CELL:
                    caption = caption[1:]  # the end tells individuals apart
                place = (left, top + TITLE + CELL + 2)
                draw.text(place, caption, fill=SHEET_INK.get(verdict, SHEET_INK[""]), font=font)
                left += CELL + 2
            left += GAP
    with atomically(path) as temporary:
        sheet.save(temporary, "JPEG", quality=85)


def _paste(sheet: Image.Image, file: Path, left: int, top: int) -> None:
    """A photograph in the middle of its cell; grey with the reason where it can't be opened."""
    cell = Image.new("RGB", (CELL, CELL), "#e4e6e8")
    try:
        picture = _upright(file, CELL)
        cell.paste(picture, ((CELL - picture.width) // 2, (CELL - picture.height) // 2))
    except UnreadableError as problem:
        ImageDraw.Draw(cell).text((6, 6), str(problem)[:30], fill="#50565c", font=ImageFont.load_default(10))
    sheet.paste(cell, (left, top))


# how it is laid out

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
{# whatever an identity may say, the page runs nothing and loads nothing #}
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'">
<title>reid: {{ title }}</title>
<style>
:root { --page: #fbfbfa; --card: #fff; --ink: #1d2125; --muted: #626c75; --line: #dfe2e5; --score: #2f6f8f;
  --known: #2a9d6f; --misled: #c2a24a; --new: #c8643c; --wrong: #b3261e; --named: #a04f00; --missed: #5b3f9e;
  --right: #17703f; --open: #2f6f8f; --field: #eceef0; }
@media (prefers-color-scheme: dark) { :root { --page: #14171a; --card: #1c2024; --ink: #e7e9eb; --muted: #9aa4ad;
  --line: #343a40; --score: #6db6d8; --known: #4fc796; --misled: #b99b4b; --new: #e88a62; --wrong: #ff8f87;
  --named: #ffb066; --missed: #bda7ff; --right: #6fd39b; --open: #6db6d8; --field: #2a2f34; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 76rem; margin: 0 auto; padding: 1rem clamp(.8rem, 3vw, 2rem) 4rem; }
h1 { font-size: 1.5rem; line-height: 1.2; margin: 1rem 0 .2rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .4rem; padding-top: .8rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1rem 0 .2rem; overflow-wrap: anywhere; }
p { margin: .4rem 0; max-width: 46rem; } .muted, figcaption { color: var(--muted); font-size: .88rem; }
a { color: var(--score); } .go a { margin-right: 1rem; }
.big { display: grid; grid-template-columns: repeat(auto-fit, minmax(10rem, 1fr)); gap: .7rem; margin: 1rem 0; }
.big div { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: .6rem .8rem; }
.big b { display: block; white-space: nowrap; font-size: 1.2rem; line-height: 1.2;
  font-variant-numeric: tabular-nums; }
.big .first { background: var(--score); color: var(--page); border-color: var(--score); }
.big span { font-size: .85rem; color: var(--muted); } .big .first span { color: inherit; }
.two { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); gap: .5rem 2rem;
  align-items: start; }
figure { margin: 0; } svg { display: block; width: 100%; height: auto; max-width: 34rem; }
svg * { stroke-linejoin: round; stroke-linecap: butt; } svg text { font-family: system-ui, sans-serif !important; }
.key { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; font-size: .85rem; padding: 0; margin: .4rem 0; }
.key.tall { flex-direction: column; padding-top: 1rem; } .key li { list-style: none; }
.key i { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin-right: .4em; }
.key i.line { height: 0; width: 1.3em; border-top: 2px dashed var(--ink); vertical-align: middle; border-radius: 0; }
.scroll { overflow-x: auto; margin: .6rem 0; } table { border-collapse: collapse; font-size: .88rem; }
th, td { text-align: right; padding: .3rem .7rem .3rem 0; border-bottom: 1px solid var(--line);
  font-variant-numeric: tabular-nums; vertical-align: top; white-space: nowrap; }
th:first-child, td:first-child, .text td { text-align: left; } th { font-weight: 600; color: var(--muted); }
.hash td { font-family: ui-monospace, monospace; font-size: .8rem; white-space: normal; overflow-wrap: anywhere; }
details { margin: .6rem 0; } summary { cursor: pointer; font-weight: 600; }
.note { border-left: 3px solid var(--named); padding-left: .7rem; }
.pick { position: absolute; opacity: 0; pointer-events: none; }
.chips { display: flex; flex-wrap: wrap; gap: .4rem; margin: .6rem 0; }
.chips label { border: 1px solid var(--line); background: var(--card); border-radius: 99px; padding: .2rem .8rem;
  cursor: pointer; font-size: .88rem; } .chips small { color: var(--muted); }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 22rem), 1fr)); gap: .9rem;
  margin-top: 1rem; }
.card { background: var(--card); border: 1px solid var(--line); border-top: 3px solid var(--tone); border-radius: 8px;
  padding: .6rem .7rem; font-size: .85rem; min-width: 0; overflow-wrap: anywhere; content-visibility: auto;
  contain-intrinsic-size: auto 18rem; }
.card header { display: flex; justify-content: space-between; gap: .6rem; } .card header b { color: var(--tone); }
.card header span { color: var(--muted); text-align: right; }
.photos { display: grid; grid-auto-flow: column; grid-auto-columns: minmax(0, 1fr); gap: .4rem; margin: .45rem 0; }
.photos img, .gone { display: block; width: 100%; aspect-ratio: 1; object-fit: contain; background: var(--field);
  border-radius: 4px; } .gone { padding: .5rem; color: var(--muted); overflow: hidden; }
.photos figcaption { font-size: .76rem; line-height: 1.3; margin-top: .25rem; }
.photos figcaption b { color: var(--ink); }
.gauge { position: relative; height: 6px; border-radius: 3px; margin: .7rem 0 .6rem;
  background: linear-gradient(90deg, var(--known) 50%, var(--new) 50%); opacity: .9; }
.gauge::before, .gauge::after { content: ""; position: absolute; top: -4px; height: 14px; }
.gauge::before { left: calc(50% - 1px); width: 2px; background: var(--ink); }
.gauge::after { left: calc(var(--at) - 7px); width: 14px; border-radius: 50%; background: var(--card);
  border: 3px solid var(--ink); }
.v-wrong { --tone: var(--wrong); } .v-named { --tone: var(--named); } .v-missed { --tone: var(--missed); }
.v-right { --tone: var(--right); } .v-open-named, .v-open-new { --tone: var(--open); }
.big b[class] { color: var(--tone); }
.nothing { display: none; }
{% for one in filters.verdict %}
#v-{{ one.key }}:checked ~ .cards .card:not(.v-{{ one.key }}) { display: none; }
{% endfor %}
{% for one in filters.dataset %}
#d-{{ loop.index0 }}:checked ~ .cards .card:not(.d-{{ loop.index0 }}) { display: none; }
{% endfor %}
{% for key, place in filters.empty %}
#v-{{ key }}:checked ~ #d-{{ place }}:checked ~ .nothing { display: block; }
{% endfor %}
{% for id in filters.ids %}
#{{ id }}:checked ~ .chips label[for={{ id }}] { border-color: var(--ink); box-shadow: inset 0 0 0 1px var(--ink); }
#{{ id }}:focus-visible ~ .chips label[for={{ id }}] { outline: 2px solid var(--score); outline-offset: 2px; }
{% endfor %}
@media print { .chips { display: none; } .card { break-inside: avoid; content-visibility: visible; } }
</style>
</head>
<body>
<main>
<h1>Report: {{ title }}</h1>
<p class="go"><a href="#scores">Scores</a><a href="#thresholds">Thresholds</a><a href="#matches">Matches</a>
<a href="#data">Data</a><a href="#made">How it was made</a></p>

<section id="scores">
<div class="big">
{% if headline.score is not none %}
<div class="first"><b>{{ headline.score | fixed }}</b><span>score, the mean over the datasets</span></div>
{% endif %}
<div{% if headline.score is none %} class="first"{% endif %}><b>{{ headline.expected | fixed }}
{%- if headline.spread is not none %} &plusmn; {{ headline.spread | fixed }}{% endif %}</b>
<span>expected score, from the database alone</span></div>
{% for key, words, count, share in headline.verdicts %}
<div><b class="v-{{ key }}">{{ share | percent }}</b><span>{{ words }} ({{ count }} of {{ queries }})</span></div>
{% endfor %}
</div>
{% if headline.score is none %}
<p class="note">No solution was given, so nothing on this page is a measured score. What is shown instead was
<b>expected</b> when the thresholds were fitted: database photographs that the encoders had not learned from were asked
for as if they were queries.</p>
{% endif %}
{% if headline.measured < headline.datasets %}
<p class="note">The expected score is the mean over {{ headline.measured }} of {{ headline.datasets }} datasets; the
others had too few individuals to measure one.</p>
{% endif %}
{% if headline.astray %}
<p class="note">{{ headline.astray }} of {{ queries }} queries were sent to another encoder than that of the dataset in
their row.</p>
{% endif %}
<div class="two">
<figure>{{ score_chart | safe }}</figure>
<ul class="key tall">
<li><i style="background:var(--score)"></i>{{ "expected " if headline.score is none }}score = &radic;(BAKS &times;
BAUS)</li>
<li><i style="background:var(--known)"></i>BAKS: known individuals named rightly</li>
<li><i style="background:var(--new)"></i>BAUS: new individuals called new</li>
<li><span style="color:var(--muted)">&#9670;</span> expected score; whiskers: nine of ten splits of the
database</li></ul>
</div>
<div class="scroll"><table>
<tr><th>dataset</th>
{% if headline.score is not none %}<th>queries</th><th>score</th><th>BAKS</th><th>BAUS</th>{% endif %}
<th>expected score</th><th>expected BAKS</th><th>expected BAUS</th></tr>
{% for row in score_rows %}
<tr><td>{{ row.dataset }}</td>
{% if headline.score is not none %}
{% if row.live %}<td>{{ row.live.images }}</td><td><b>{{ row.live.score | fixed }}</b></td>
<td>{{ row.live.baks | fixed }}</td><td>{{ row.live.baus | fixed }}</td>
{% else %}<td>0</td><td>&mdash;</td><td>&mdash;</td><td>&mdash;</td>{% endif %}
{% endif %}
{% if row.expected %}
<td>{{ row.expected.score | fixed }}{{ row.expected.interval | between }}</td>
<td>{{ row.expected.baks | fixed }}</td><td>{{ row.expected.baus | fixed }}</td>
{% else %}<td>&mdash;</td><td>&mdash;</td><td>&mdash;</td>{% endif %}
</tr>
{% endfor %}
</table></div>
</section>

<section id="thresholds">
<h2>Thresholds</h2>
<p>A query is named when its nearest photograph is nearer than the threshold, and called new otherwise. Any threshold on
the plateau is as good, to within half a point, on the database's own photographs.</p>
<div class="scroll"><table>
<tr><th>dataset</th><th>threshold</th><th>plateau</th><th>expected score</th>{% if solved %}<th>score</th>
<th>best in hindsight</th>{% endif %}<th>called new, expected</th><th>called new, here</th></tr>
{% for row in threshold_rows %}
<tr><td>{{ row.dataset }}</td><td><b>{{ row.one.value | fixed }}</b></td>
<td>{{ row.one.plateau[0] | fixed }} to {{ row.one.plateau[1] | fixed }}</td>
<td>{{ row.one.score | fixed }}{{ row.one.interval | between }}</td>
{% if solved %}<td>{{ row.live | fixed }}</td>
<td>{% if row.best %}{{ row.best[0] | fixed }} at {{ row.best[1] | fixed }}{% else %}&mdash;{% endif %}</td>{% endif %}
<td>{{ row.one.share_new | percent }}</td><td>{{ row.live_new | percent }}</td></tr>
{% endfor %}
</table></div>
{% for row in threshold_rows if row.one.note %}
<p class="note">{{ row.dataset }}: {{ row.one.note }}</p>
{% endfor %}
{% if solved %}
<p class="muted">Best in hindsight: what the best threshold would have scored on the queries that reached this encoder.
It says how much the threshold costs; a threshold chosen by it would be tuned on the answers.</p>
{% endif %}
<ul class="key">
{% if solved %}
<li><i style="background:var(--known)"></i>known, nearest is the right individual</li>
<li><i style="background:var(--misled)"></i>known, nearest is another</li>
<li><i style="background:var(--new)"></i>new (downwards)</li>
{% else %}
<li><i style="background:var(--score)"></i>queries</li>
{% endif %}
<li><i class="line"></i>threshold: left of it named, right of it called new</li>
<li><i style="background:var(--muted);opacity:.35"></i>plateau</li></ul>
{% if solved %}
<p class="muted">Curves: score (thick), BAKS (green) and BAUS (orange) of these queries over the threshold.</p>
{% endif %}
<div class="two">
{% for name, chart in distance_charts %}
<figure><h3>{{ name }}</h3>{{ chart | safe }}</figure>
{% endfor %}
</div>
</section>

<section id="matches">
<h2>Matches</h2>
<p>{% if cards | length < queries %}<b>{{ cards | length }} of {{ queries }} queries are shown</b>, because the page is
kept below 10 MB: the worst of every verdict and dataset in turn. {% endif %}
The worst come first{% if solved %}: wrong names far below the threshold, known animals far above it; then right
answers, the least sure first{% else %}: those nearest the threshold, which are the least sure{% endif %}.
The bar shows the distance, the threshold in its middle.</p>
<input class="pick" type="radio" name="verdict" id="v-all" autocomplete="off" checked>
{% for one in filters.verdict %}
<input class="pick" type="radio" name="verdict" id="v-{{ one.key }}" autocomplete="off">
{% endfor %}
<input class="pick" type="radio" name="dataset" id="d-all" autocomplete="off" checked>
{% for one in filters.dataset %}
<input class="pick" type="radio" name="dataset" id="d-{{ loop.index0 }}" autocomplete="off">
{% endfor %}
{% macro chip(id, one) %}
<label for="{{ id }}">{{ one.words }} <small>{{ one.shown }}{% if one.shown < one.found %} of {{ one.found }}{% endif %}
</small></label>
{% endmacro %}
<div class="chips"><label for="v-all">every verdict</label>
{% for one in filters.verdict %}{{ chip("v-" ~ one.key, one) }}{% endfor %}</div>
<div class="chips"><label for="d-all">every dataset</label>
{% for one in filters.dataset %}{{ chip("d-" ~ loop.index0, one) }}{% endfor %}</div>
<p class="nothing muted">No match of this verdict in this dataset.</p>
<div class="cards">
{% for card in cards %}
{% set row = card.row %}
<article class="card v-{{ row.verdict }} d-{{ filters.numbers[row.dataset] }}">
<header><b>{{ marks[row.verdict] }} {{ words[row.verdict] }}</b><span>{{ row.dataset }}</span></header>
<div class="photos">
{% for picture in card.pictures %}
<figure>{% if picture.problem %}<div class="gone">{{ picture.problem }}</div>
{% else %}<img src="{{ picture.uri }}" alt="{{ picture.role }}: {{ picture.name }}" loading="lazy">{% endif %}
<figcaption>{{ picture.role }}<br><b>{{ picture.name }}</b><br>photo {{ picture.image_id }}</figcaption></figure>
{% endfor %}
</div>
{% if row.problem %}
<div>The query can't be read ({{ row.problem }}): it is called new.</div>
{% else %}
<div class="gauge" style="--at:{{ '%.1f' | format([row.ratio, 2] | min * 50) }}%"></div>
<div>answer <b>{{ row.answer }}</b></div>
<div class="muted">distance {{ row.distance | fixed }}, threshold {{ row.threshold | fixed }}
{%- if row.runner_up %}; next individual {{ row.runner_up }} at {{ row.runner_up_distance | fixed }}{% endif %}</div>
{% endif %}
{% if row.column and row.column != row.dataset %}
<div class="note">its row says {{ row.column }}, it was sent to {{ row.dataset }}</div>
{% endif %}
</article>
{% endfor %}
</div>
</section>

<section id="data">
<h2>Data</h2>
<div class="scroll"><table>
<tr><th>dataset</th><th>database photographs</th><th>individuals</th><th>with one only</th><th>median</th><th>most</th>
<th>not in the gallery</th><th>queries</th><th>unreadable queries</th></tr>
{% for row in data_rows %}
<tr><td>{{ row.dataset }}</td><td>{{ row.images }}</td><td>{{ row.individuals }}</td><td>{{ row.singletons }}</td>
<td>{{ "%g" | format(row.median) }}</td><td>{{ row.largest }}</td><td>{{ row.not_enrolled }}</td>
<td>{{ row.queries }}</td><td>{{ row.unreadable }}</td></tr>
{% endfor %}
</table></div>
<p class="muted">Not in the gallery: photographs that could not be read, or that came after enrolment.</p>
<div class="two">
{% for name, chart in size_charts %}
<figure><h3>{{ name }}</h3>{{ chart | safe }}</figure>
{% endfor %}
</div>
</section>

<section id="made">
<h2>How it was made</h2>
<p>Recipe <b>{{ made.name }}</b>, route <b>{{ made.route }}</b>.
{% for name, version in made.versions.items() %}{{ name }} {{ version }}{{ ", " if not loop.last else "." }}
{% endfor %}</p>
<p>The networks were trained, or the galleries enrolled,
{% if made.same_data %}from this folder's database as it is now.{% else %}<b>from other data than this folder's
database</b>, or from a part of it.{% endif %}</p>
<details><summary>Recipe</summary><div class="scroll"><table class="text">
{% for name, value, changed in made.recipe %}
<tr><td>{{ name }}</td><td>{{ value }}{% if changed %} <b>(not the shipped recipe's)</b>{% endif %}</td></tr>
{% endfor %}
</table></div></details>
<details><summary>Hashes (SHA-256)</summary><table class="text hash">
<tr><td>training data</td><td>{{ made.data }}</td></tr>
{% for name, hash in made.files.items() %}
<tr><td>{{ name }}</td><td>{{ hash }}</td></tr>
{% endfor %}
</table></details>
</section>
</main>
</body>
</html>
"""
