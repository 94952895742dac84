"""A page that a person can read: scores, thresholds and matches as pictures, in one file that needs no network."""

import base64
import io
from dataclasses import asdict
from pathlib import Path

import jinja2
import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from reid import NEW_INDIVIDUAL
from reid.calibration import Threshold
from reid.catalogue import Catalogue
from reid.files import atomically
from reid.gallery import load_thresholds
from reid.images import UnreadableError, open_photograph
from reid.progress import track
from reid.scoring import overall, score_submission
from reid.submission import Prediction
from reid.weights import Weights

__all__ = ["VERDICTS", "contact_sheet", "judge", "write_report"]

THUMBNAIL = 128
"""Pixels on a side: 2 x 600 of them are about 6 MB of page."""

MOST_PICTURES = 600
"""Matches shown at most; the worst verdicts come first, so what is left out are right ones."""

VERDICTS = ("wrong individual", "new called known", "known called new", "right", "called known", "called new")
"""What can be said of an answer, the worst first; the last two where the truth is not known."""

COLOURS = {"known": "#3b82c4", "new": "#e08a2c", "all": "#8a8f98", "score": "#2f9e6e"}
"""Readable on white and on black."""


def judge(matches: pd.DataFrame, solution: pd.DataFrame | None) -> pd.DataFrame:
    """Adds each match's verdict and, where it is known, the truth; the worst come first, the surest of them on top.

    Args:
        matches: one row per query, as `Prediction.matches`.
        solution: the true answers, or None.

    Returns:
        The rows with two more columns, verdict (one of `VERDICTS`) and truth ("" where it is not known).
    """
    named = matches["answer"] != NEW_INDIVIDUAL
    judged = matches.assign(verdict=np.where(named, "called known", "called new"), truth="")
    if solution is not None:
        answers = solution.set_index("image_id")
        scored = matches["image_id"].isin(answers.index)
        truth = matches["image_id"].map(answers["identity"])
        new = matches["image_id"].map(answers["new_identity"]).fillna(False).astype(bool)
        verdict = np.select(
            [new & named, new & ~named, ~new & ~named, matches["answer"] == truth],
            ["new called known", "right", "known called new", "right"],
            "wrong individual",
        )
        judged["verdict"] = judged["verdict"].where(~scored, verdict)
        judged["truth"] = truth.where(~new, NEW_INDIVIDUAL).where(scored, "")
    badness = judged["verdict"].map(VERDICTS.index)
    # sure and wrong is worse than in doubt and wrong
    doubt = (judged["distance"] / judged["threshold"] - 1).abs()
    return judged.assign(_b=badness, _d=-doubt).sort_values(["_b", "_d"], kind="stable").drop(columns=["_b", "_d"])


def write_report(
    folder: Path, catalogue: Catalogue, weights: Weights, prediction: Prediction, solution: pd.DataFrame | None
) -> Path:
    """Writes `report.html` and a contact sheet, `matches.jpg`, into a folder.

    Args:
        folder: made where there is none.
        catalogue: the photographs; unreadable ones get a grey picture.
        weights: what predicted.
        prediction: its matches.
        solution: the true answers, as `scoring.read_solution` gives them, or None.

    Returns:
        The page's path.
    """
    judged = judge(prediction.matches, solution)
    thresholds = load_thresholds(weights)
    shown = judged.head(MOST_PICTURES)
    page = _template().render(
        scores=_scores(prediction, solution),
        score_chart=_score_chart(prediction, thresholds, solution),
        thresholds=_threshold_rows(prediction, thresholds),
        distance_chart=_distance_chart(judged, thresholds),
        cards=_cards(shown, catalogue),
        verdicts=[(verdict, int((judged["verdict"] == verdict).sum())) for verdict in VERDICTS],
        datasets=sorted(set(judged["dataset"])),
        total=len(judged),
        data=_data_rows(catalogue),
        recipe=asdict(weights.recipe),
        manifest=weights.manifest,
        route=prediction.route,
        has_solution=solution is not None,
    )
    with atomically(folder / "matches.jpg") as temporary:
        contact_sheet(judged, catalogue).save(temporary, format="JPEG", quality=85)
    with atomically(folder / "report.html") as temporary:
        temporary.write_text(page, "utf-8")
    return folder / "report.html"


def _scores(prediction: Prediction, solution: pd.DataFrame | None) -> dict[str, float]:
    """Score per dataset and overall, where the truth is known."""
    if solution is None:
        return {}
    scores = score_submission(prediction.submission, solution)
    return {**{dataset: one.score for dataset, one in scores.items()}, "overall": overall(scores)}


def _svg(figure: Figure) -> str:
    """A chart as inline SVG; the same figure gives the same text."""
    written = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "reid", "svg.fonttype": "none"}):
        figure.savefig(written, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = written.getvalue()
    return text[text.index("<svg") :]


def _axes(figure: Figure, columns: int) -> list[matplotlib.axes.Axes]:
    axes = figure.subplots(1, columns, squeeze=False)[0]
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
        one.spines[["left", "bottom"]].set_color(COLOURS["all"])
        one.tick_params(colors=COLOURS["all"])
    return list(axes)


def _score_chart(prediction: Prediction, thresholds: dict[str, Threshold], solution: pd.DataFrame | None) -> str:
    """BAKS, BAUS and score per dataset, as in the report's Figure 3; the expected ones where the truth is not known."""
    rows: list[tuple[str, float, float, float, float]] = []
    if solution is not None:
        for dataset, one in score_submission(prediction.submission, solution).items():
            rows.append((dataset, one.baks, one.baus, one.score, 0.0))
    else:
        for dataset, threshold in thresholds.items():
            if threshold.score is not None:
                rows.append((dataset, threshold.baks or 0, threshold.baus or 0, threshold.score, threshold.spread or 0))
    if not rows:
        return ""
    figure = Figure(figsize=(7, 2.8), layout="constrained")
    (axes,) = _axes(figure, 1)
    places = np.arange(len(rows))
    for shift, (label, colour) in enumerate([("BAKS", "known"), ("BAUS", "new"), ("score", "score")]):
        heights = [0.0 if np.isnan(row[shift + 1]) else row[shift + 1] for row in rows]
        error = [row[4] for row in rows] if label == "score" and solution is None else None
        bars = axes.bar(places + (shift - 1) * 0.26, heights, 0.24, label=label, color=COLOURS[colour], yerr=error)
        axes.bar_label(bars, [f"{height:.2f}" for height in heights], fontsize=8, color=COLOURS["all"])
    axes.set_xticks(places, [row[0] for row in rows])
    axes.set_ylim(0, 1.08)
    axes.legend(frameon=False, labelcolor=COLOURS["all"], ncols=3, loc="upper right", fontsize=8)
    return _svg(figure)


def _distance_chart(judged: pd.DataFrame, thresholds: dict[str, Threshold]) -> str:
    """Nearest distances of the queries with the threshold as a line, known and new apart where the truth is known."""
    datasets = sorted(set(judged["dataset"]))
    figure = Figure(figsize=(7, 2.4), layout="constrained")
    for axes, dataset in zip(_axes(figure, len(datasets)), datasets, strict=True):
        own = judged[judged["dataset"] == dataset]
        groups = {
            "new": own.loc[own["truth"] == NEW_INDIVIDUAL, "distance"],
            "known": own.loc[(own["truth"] != "") & (own["truth"] != NEW_INDIVIDUAL), "distance"],
            "all": own.loc[own["truth"] == "", "distance"],
        }
        bins = np.histogram_bin_edges(own["distance"], bins=24).tolist()
        for label, distances in groups.items():
            if len(distances):
                axes.hist(distances, bins=bins, alpha=0.65, color=COLOURS[label], label=label)
        axes.axvline(thresholds[dataset].value, color="#d64545", linewidth=1.5)
        axes.set_title(dataset, fontsize=9, color=COLOURS["all"])
        axes.legend(frameon=False, labelcolor=COLOURS["all"], fontsize=7)
    return _svg(figure)


def _threshold_rows(prediction: Prediction, thresholds: dict[str, Threshold]) -> list[dict[str, str]]:
    live = prediction.share_new()
    return [
        {
            "dataset": dataset,
            "value": f"{one.value:.3f}",
            "plateau": f"{one.plateau[0]:.3f} to {one.plateau[1]:.3f}",
            "expected": "unknown" if one.score is None else f"{one.score:.2f} ± {one.spread:.2f}",
            "share": "unknown" if one.share_new is None else f"{one.share_new:.0%}",
            "live": f"{live[dataset]:.0%}" if dataset in live else "no queries",
            "note": one.note,
        }
        for dataset, one in thresholds.items()
    ]


def _data_rows(catalogue: Catalogue) -> list[dict[str, int | str]]:
    rows: list[dict[str, int | str]] = []
    for dataset, own in catalogue.by_dataset().items():
        sizes = own.database.table["identity"].value_counts()
        rows.append(
            {
                "dataset": dataset,
                "photographs": len(own.database),
                "individuals": len(sizes),
                "singletons": int((sizes == 1).sum()),
                "largest": int(sizes.max()) if len(sizes) else 0,
                "queries": len(own.query),
            }
        )
    return rows


def _picture(path: Path) -> Image.Image:
    """A square thumbnail; grey, with a cross, where the file can't be read."""
    try:
        return Image.fromarray(open_photograph(path, THUMBNAIL))
    except UnreadableError:
        grey = Image.new("RGB", (THUMBNAIL, THUMBNAIL), "#888888")
        ImageDraw.Draw(grey).line((0, 0, THUMBNAIL, THUMBNAIL), fill="#555555", width=3)
        return grey


def _embedded(path: Path) -> str:
    written = io.BytesIO()
    _picture(path).save(written, format="JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(written.getvalue()).decode()


def _cards(shown: pd.DataFrame, catalogue: Catalogue) -> list[dict[str, str]]:
    """Query beside its nearest photograph, with what was answered."""
    paths = dict(zip(catalogue.image_ids, catalogue.paths, strict=True))
    nowhere = catalogue.root / "no such photograph"
    return [
        {
            **{str(name): str(cell) for name, cell in row.items()},
            "distance": f"{row['distance']:.3f}",
            "threshold": f"{row['threshold']:.3f}",
            "query_picture": _embedded(paths[row["image_id"]]),
            "nearest_picture": _embedded(paths.get(row["photograph"], nowhere)),
        }
        for row in track(shown.to_dict("records"), "drawing matches")
    ]


def contact_sheet(judged: pd.DataFrame, catalogue: Catalogue, each: int = 3) -> Image.Image:
    """Matches as one picture: query | nearest photograph, framed green when right and red when wrong.

    Args:
        judged: rows of `judge`.
        catalogue: where the photographs are.
        each: matches per dataset and verdict.
    """
    chosen = judged.groupby(["dataset", "verdict"]).head(each)
    chosen = chosen.sort_values(["dataset", "verdict"], kind="stable")
    paths = dict(zip(catalogue.image_ids, catalogue.paths, strict=True))
    columns, cell = 4, 2 * THUMBNAIL + 14
    height = THUMBNAIL + 34
    sheet = Image.new("RGB", (columns * cell, -(-len(chosen) // columns) * height), "white")
    pen = ImageDraw.Draw(sheet)
    for place, row in enumerate(chosen.to_dict("records")):
        x, y = place % columns * cell, place // columns * height
        colour = "#2f9e6e" if row["verdict"] in ("right", "called known", "called new") else "#d64545"
        pen.rectangle((x + 2, y + 2, x + cell - 4, y + THUMBNAIL + 8), fill=colour)
        sheet.paste(_picture(paths[row["image_id"]]), (x + 5, y + 5))
        sheet.paste(_picture(paths[row["photograph"]]), (x + 7 + THUMBNAIL, y + 5))
        pen.text((x + 5, y + THUMBNAIL + 10), f"{row['verdict']}: {row['answer']}", fill="black")
    return sheet


def _template() -> jinja2.Template:
    return jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(PAGE)


PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Who is this animal?</title>
<style>
:root { color-scheme: light dark; --line: #8886; --card: #8881; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 0 auto; padding: 1rem; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.5rem; }
svg { max-width: 100%; height: auto; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; } th, td { text-align: left; padding: .25rem .9rem .25rem 0; }
th { border-bottom: 1px solid var(--line); font-weight: 600; }
.big { font-size: 3rem; font-weight: 700; line-height: 1.2; }
.soft { opacity: .7; }
fieldset { border: 0; padding: 0; margin: 0 0 .5rem; display: flex; flex-wrap: wrap; gap: .3rem 1rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); gap: .8rem; }
.card { background: var(--card); border-radius: .5rem; padding: .6rem; overflow-wrap: anywhere;
  border-left: .3rem solid #8a8f98; }
.card[hidden] { display: none; }
.card.right { border-color: #2f9e6e; } .card.bad { border-color: #d64545; }
.pair { display: flex; gap: .4rem; } .pair img { width: 50%; aspect-ratio: 1; border-radius: .3rem; }
.card p { margin: .3rem 0 0; font-size: .85rem; }
details { margin-top: 1rem; }
</style>
<h1>Who is this animal?</h1>
<p class="soft">{{ total }} query photographs, recipe {{ recipe.name }}, routed by {{ route }}</p>
{% if has_solution %}
<p class="big">{{ "%.3f"|format(scores.overall) }}</p>
<p class="soft">the mean over the datasets of √(BAKS × BAUS), on all rows of the solution</p>
{% else %}
<p class="soft">No solution was given: these are the scores that calibration expects, with their spread over splits.</p>
{% endif %}
{{ score_chart|safe }}
<h2>Thresholds</h2>
<p>A query is named when its nearest photograph is nearer than the threshold; else it is called new.</p>
<div class="scroll"><table>
<tr><th>dataset<th>threshold<th>as good between<th>expected score<th>called new, expected<th>called new here</tr>
{% for row in thresholds %}
<tr><td>{{ row.dataset }}<td>{{ row.value }}<td>{{ row.plateau }}<td>{{ row.expected }}<td>{{ row.share }}
  <td>{{ row.live }}</tr>
{% if row.note %}<tr><td colspan="6">{{ row.dataset }}: {{ row.note }}</tr>{% endif %}
{% endfor %}
</table></div>
<p class="soft">Distances to the nearest photograph; the red line is the threshold.</p>
{{ distance_chart|safe }}
<h2>Matches</h2>
<p>On the left the query, on the right the nearest known photograph. The worst come first{% if cards|length < total %};
{{ cards|length }} of {{ total }} are shown{% endif %}.</p>
<fieldset id="verdicts">
{% for verdict, count in verdicts if count %}
<label><input type="checkbox" value="{{ verdict }}" checked> {{ verdict }} ({{ count }})</label>
{% endfor %}
</fieldset>
<fieldset id="datasets">
{% for dataset in datasets %}
<label><input type="checkbox" value="{{ dataset }}" checked> {{ dataset }}</label>
{% endfor %}
</fieldset>
<div class="cards">
{% for card in cards %}
<div class="card {{ 'right' if card.verdict == 'right' else 'bad' if not card.verdict.startswith('called') }}"
  data-verdict="{{ card.verdict }}" data-dataset="{{ card.dataset }}">
<div class="pair"><img alt="query {{ card.image_id }}" src="{{ card.query_picture }}">
<img alt="nearest" src="{{ card.nearest_picture }}"></div>
<p><b>{{ card.verdict }}</b>: {{ card.answer }}
  {%- if card.truth and card.verdict != 'right' %}, in truth {{ card.truth }}{% endif %}</p>
<p class="soft">nearest {{ card.identity }} at {{ card.distance }}, threshold {{ card.threshold }}
  {%- if card.problem %}; {{ card.problem }}{% endif %}</p>
</div>
{% endfor %}
</div>
<h2>Data</h2>
<div class="scroll"><table>
<tr><th>dataset<th>known photographs<th>individuals<th>with one photograph<th>commonest<th>queries</tr>
{% for row in data %}
<tr><td>{{ row.dataset }}<td>{{ row.photographs }}<td>{{ row.individuals }}<td>{{ row.singletons }}
  <td>{{ row.largest }}<td>{{ row.queries }}</tr>
{% endfor %}
</table></div>
<details><summary>How it was made</summary>
<p class="soft">reid {{ manifest.reid }}, torch {{ manifest.torch }}, timm {{ manifest.timm }};
  data {{ manifest.data[:16] }}</p>
<table>{% for field, value in recipe.items() %}<tr><td>{{ field }}<td>{{ value }}</tr>{% endfor %}</table>
<table>{% for file, sha in manifest.files.items() %}<tr><td>{{ file }}<td>{{ sha[:16] }}</tr>{% endfor %}</table>
</details>
<script>
const chosen = id => new Set([...document.querySelectorAll(`#${id} input:checked`)].map(box => box.value));
const show = () => {
  const verdicts = chosen("verdicts"), datasets = chosen("datasets");
  for (const card of document.querySelectorAll(".card"))
    card.hidden = !(verdicts.has(card.dataset.verdict) && datasets.has(card.dataset.dataset));
};
document.addEventListener("change", show);
show(); // a browser may remember boxes that were unchecked before a reload
</script>
</html>
"""
