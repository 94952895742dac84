"""The report: one HTML page that shows how good the answers are, why, and the photographs behind them.

`write_report` makes `report.html`, a file that holds everything it shows: no script, no network, light and dark, and
the same bytes for the same input. Each `*_section` module computes what one section of the page says; `charts` draws,
`thumbnails` shrinks photographs, `explanations` finds the candidates and keypoints to show, and `page` renders the
template `report.html.j2`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from reid.config.runtime import Runtime
from reid.data.catalogue import Catalogue
from reid.decision.artifact import Weights
from reid.decision.calibration import load_calibrations
from reid.decision.matches import Matches
from reid.decision.metrics import score_matches
from reid.report.data_section import data_section
from reid.report.explanations import Explanations, explain_matches
from reid.report.matches_section import matches_section
from reid.report.networks_section import networks_section
from reid.report.origin_section import origin_section
from reid.report.outcomes import classify_outcomes, evaluate, stratified_order
from reid.report.page import render
from reid.report.reliability import reliability_of
from reid.report.scores_section import OtherResult, scores_section
from reid.report.thresholds_section import thresholds_section
from reid.report.thumbnails import Thumbnails, contact_sheet, match_rows
from reid.runtime.files import atomic_path

__all__ = ["collect_explanations", "write_report"]

MAX_EXPLAINED = 400
"""Queries whose candidates are computed; with three candidates each, about 250 of many different photographs fit on
the page."""


def collect_explanations(
    catalogue: Catalogue,
    weights: Weights,
    matches: Matches,
    solution: pd.DataFrame | None,
    use_cache: bool = True,
    runtime: Runtime | None = None,
) -> Explanations:
    """Return candidates and keypoints of the queries that the page may show (see `explanations.explain_matches`), but
    not of individuals that a person has said they do not show."""
    outcomes = classify_outcomes(matches.wide, solution)
    shown = outcomes.iloc[stratified_order(outcomes)[:MAX_EXPLAINED]]
    found = explain_matches(catalogue, weights, shown, matches.route, use_cache, runtime)
    pairs = [*zip(*(matches.candidates[name] for name in ("image_id", "candidate")), strict=True)]
    allowed = {*pairs, *zip(shown["image_id"], shown["truth"], strict=True)}
    kept = {
        query: tuple(one for one in candidates if (query, one.identity) in allowed)
        for query, candidates in found.candidates.items()
    }
    return replace(found, candidates=kept)


def write_report(
    folder: Path,
    catalogue: Catalogue,
    weights: Weights,
    matches: Matches,
    solution: pd.DataFrame | None,
    explanations: Explanations,
    others: Sequence[OtherResult] = (),
    seconds: Mapping[str, float] | None = None,
) -> Path:
    """Write `folder/report.html`, and `folder/contact_sheet.jpg` with a few matches of every dataset.

    Args:
        folder: where; it is made if it is not there.
        catalogue: the data folder with the queries.
        weights: what answered them.
        matches: the answers.
        solution: the true answers (see `metrics.read_solution`), or None where they are not known. It may hold only
            some of the queries; the outcome of the others is not known then.
        explanations: see `collect_explanations`; queries without an explanation are not shown.
        others: results of other recipes, to compare with.
        seconds: wall time by stage.

    Returns:
        The page's path.

    Raises:
        InputError: the solution has a photograph that was not answered; the folder can't be written.
    """
    evaluation = evaluate(matches, solution, load_calibrations(weights))
    ranking = {} if solution is None else score_matches(matches.to_frame(), solution)
    reliability = None if solution is None else reliability_of(matches.candidates, solution)
    outcomes, thumbnails = evaluation.outcomes, Thumbnails.of(catalogue, weights.recipe)
    content = {
        "title": f"{catalogue.root.resolve().name}, recipe {weights.recipe.name}",
        "has_truth": evaluation.has_truth,
        "queries": len(outcomes),
        "scores": scores_section(evaluation, others, ranking, reliability),
        "thresholds": thresholds_section(evaluation),
        "matches": matches_section(outcomes, explanations, thumbnails),  # fills `thumbnails`
        "data": data_section(outcomes, catalogue, weights),
        "networks": networks_section(outcomes, solution, explanations, thumbnails, weights),
        "origin": origin_section(catalogue, weights, matches.route, seconds or {}),
        "thumbnails": [thumbnail for thumbnail in thumbnails.drawn.values() if thumbnail.uri],
    }
    page = render(content)
    contact_sheet(folder / "contact_sheet.jpg", match_rows(catalogue, outcomes, weights.recipe))
    with atomic_path(folder / "report.html") as temporary:
        temporary.write_text(page, "utf-8")
    return folder / "report.html"
