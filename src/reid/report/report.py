"""The report: one page that shows how good the answers are, why, and which photographs stand behind them.

`write_report` makes `report.html`, a file that holds everything it shows: no script, no network, light and dark, and
the same bytes for the same input. Here stands what the page says; `charts` draws, `cards` shows the matches, `page`
lays out. A section of the page is a key of `write_report`'s content and a `<section>` of `page.PAGE`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from reid import __version__
from reid.config.presets import PRESETS
from reid.config.recipe import Recipe, settings_of
from reid.config.runtime import Runtime
from reid.data.catalogue import Catalogue
from reid.decision.artifact import RUN_FOLDER, Weights
from reid.decision.calibrate import load_calibrations
from reid.decision.metrics import resampled, score_submission
from reid.decision.predict import Prediction
from reid.report.data_tables import data_charts, data_rows, left_out_photographs, orientations
from reid.report.explanations import Explanations, explain_matches
from reid.report.match_cards import filters_of, match_cards
from reid.report.network_figures import confusion, embedding_maps, training_curves
from reid.report.outcomes import MARKS, OUTCOMES, classify_outcomes, stratified_order
from reid.report.page import render
from reid.report.scores import OtherResult, comparison_chart, headline, score_bars, score_rows
from reid.report.threshold_charts import threshold_charts, threshold_rows
from reid.report.thumbnails import Thumbnails, contact_sheet, match_rows
from reid.runtime.files import atomic_path

__all__ = ["collect_explanations", "write_report"]

MOST = 400
"""Matches that are looked at closely; with three neighbours each, about 250 of many different photographs fit."""


LISTED = 50
"""Rows of a list that could be as long as the data."""


def collect_explanations(
    catalogue: Catalogue,
    weights: Weights,
    prediction: Prediction,
    solution: pd.DataFrame | None,
    use_cache: bool = True,
    runtime: Runtime = Runtime(),
) -> Explanations:
    """Look closely at the queries that the page will show, see `explanations.explain_matches`."""
    judged = classify_outcomes(prediction.matches, solution)
    shown = judged.iloc[stratified_order(judged)[:MOST]]
    return explain_matches(catalogue, weights, shown, prediction.route, use_cache, runtime)


def write_report(
    folder: Path,
    catalogue: Catalogue,
    weights: Weights,
    prediction: Prediction,
    solution: pd.DataFrame | None,
    explanations: Explanations | None = None,
    others: Sequence[OtherResult] = (),
    seconds: Mapping[str, float] | None = None,
) -> Path:
    """Write `folder/report.html`, and `folder/contact_sheet.jpg` with a few matches of every dataset.

    Args:
        folder: where; it is made if it is not there.
        catalogue: the data folder that the queries came from.
        weights: what answered them.
        prediction: the answers.
        solution: the true answers (see `scoring.read_solution`), or None where they are not known. It may know only
            some of the queries; the others are shown without a outcome.
        explanations: see `collect_explanations`; None to show the nearest individual alone, and no keypoints or maps.
        others: other recipes' results, to stand beside.
        seconds: how long what took.

    Returns:
        The page's path.

    Raises:
        InputError: the solution asks for a photograph that was not answered; the folder can't be written.
    """
    explanations = explanations or Explanations()
    calibrations = load_calibrations(weights)
    thresholds = {name: calibration.threshold for name, calibration in calibrations.items()}
    scores = {} if solution is None else score_submission(prediction.submission, solution)
    draws = {} if solution is None else resampled(prediction.submission, solution)
    judged = classify_outcomes(prediction.matches, solution)
    solved = bool((judged["truth"] != "").any())
    thumbnails = Thumbnails.of(catalogue, weights.recipe)
    cards = match_cards(judged, catalogue, explanations, thumbnails)
    numbers = {image_id: number for number, image_id in enumerate(thumbnails.drawn)}
    left_out = left_out_photographs(catalogue, judged, weights)
    content = {
        "title": f"{catalogue.root.resolve().name}, recipe {weights.recipe.name}",
        "words": OUTCOMES,
        "marks": MARKS,
        "solved": solved,
        "queries": len(judged),
        "headline": headline(judged, scores, draws, thresholds),
        "kinds_chart": score_bars(scores, draws, thresholds),
        "others": [other.name for other in others],
        "beside_chart": comparison_chart(scores, draws, thresholds, others),
        "score_rows": score_rows(scores, draws, thresholds, others),
        "threshold_rows": threshold_rows(judged, scores, calibrations, prediction),
        "threshold_charts": [
            (name, threshold_charts(judged[judged["dataset"] == name], calibration, scores))
            for name, calibration in calibrations.items()
        ],
        "scorer_scores": [
            (name, calibration.scorer.kind, calibration.scorer_scores)
            for name, calibration in calibrations.items()
            if len(calibration.scorer_scores) > 1
        ],
        "cards": cards,
        "compared": bool(explanations.neighbours),
        "decided": explanations.decided,
        "filters": filters_of(judged, cards),
        "thumbnails": [
            (numbers[image_id], thumbnail.uri) for image_id, thumbnail in thumbnails.drawn.items() if thumbnail.uri
        ],
        "data_rows": data_rows(catalogue, judged, left_out),
        "data_charts": data_charts(catalogue),
        "unreadable": left_out[:LISTED],
        "unreadable_count": len(left_out),
        "sides": orientations(catalogue),
        "encoders": weights.recipe.uses_encoder,
        "confusion": confusion(judged, solution),
        "maps": embedding_maps(explanations, judged, thumbnails, numbers),
        "histories": training_curves(weights.folder / RUN_FOLDER),
        "made": _made(catalogue, weights, prediction.route, seconds or {}),
    }
    page = render(content)
    contact_sheet(folder / "contact_sheet.jpg", match_rows(catalogue, judged, weights.recipe))
    with atomic_path(folder / "report.html") as temporary:
        temporary.write_text(page, "utf-8")
    return folder / "report.html"


def _made(catalogue: Catalogue, weights: Weights, route: str, seconds: Mapping[str, float]) -> dict[str, Any]:
    manifest, name = weights.manifest, weights.recipe.name
    shipped = PRESETS.get(name, Recipe())
    return {
        "name": name,
        "route": route,
        "versions": {"reid (this page)": __version__}
        | {f"{package} (weights)": manifest.get(package, "not said") for package in ("reid", "torch", "timm")},
        "recipe": [
            (name, _word(value), value != usual)
            for (name, value, _, _), (_, usual, _, _) in zip(
                settings_of(weights.recipe), settings_of(shipped), strict=True
            )
            if name in weights.recipe.used
        ],
        "data": manifest["data"],
        "same_data": manifest["data"] == catalogue.database.fingerprint,
        "files": dict(manifest["files"]),
        "seconds": dict(seconds),
    }


def _word(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)
