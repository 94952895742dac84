"""The report: one page that shows how good the answers are, why, and which photographs stand behind them.

`write_report` makes `report.html`, a file that holds everything it shows: no script, no network, light and dark, and
the same bytes for the same input. Here stands what the page says; `charts` draws, `cards` shows the matches, `page`
lays out. A section of the page is a key of `write_report`'s content and a `<section>` of `page.PAGE`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from reid import __version__
from reid.config.presets import PRESETS
from reid.config.recipe import Recipe, settings_of
from reid.config.runtime import Runtime
from reid.data.catalogue import Catalogue
from reid.data.photographs import UnreadableError
from reid.decision.artifact import RUN_FOLDER, Weights, gallery_file
from reid.decision.calibrate import Calibration, load_calibrations
from reid.decision.decide import has_shifted
from reid.decision.matches import Matches
from reid.decision.metrics import Score, overall, read_scores, read_submission, resampled, score_submission
from reid.decision.thresholds import Sweep, Threshold
from reid.errors import InputError
from reid.report.charts import (
    Bars,
    Contest,
    date_chart,
    history_chart,
    kinds_chart,
    score_chart,
    size_chart,
    threshold_chart,
)
from reid.report.explanations import EmbeddingMap, Explanations, explain_matches
from reid.report.match_cards import filters_of, match_cards
from reid.report.outcomes import MARKS, OUTCOMES, classify_outcomes, live_sweep, oracle_threshold, stratified_order
from reid.report.page import render
from reid.report.thumbnails import Thumbnails, contact_sheet, match_rows, upright
from reid.retrieval.gallery import load_gallery
from reid.runtime.files import atomic_path

__all__ = ["OtherResult", "collect_explanations", "read_other_result", "write_report"]

MOST = 400
"""Matches that are looked at closely; with three neighbours each, about 250 of many different photographs fit."""


LISTED = 50
"""Rows of a list that could be as long as the data."""


INTERVAL = (0.05, 0.95)
"""Nine of ten samples."""


class OtherResult(NamedTuple):
    """Another recipe's results on the same queries."""

    name: str
    scores: dict[str, Score]
    draws: dict[str, np.ndarray]
    """See `scoring.resampled`; empty where only the scores are known."""


def read_other_result(name: str, path: Path, solution: pd.DataFrame | None) -> OtherResult:
    """Another recipe's results, from its submission or from what `score --json` printed.

    Raises:
        InputError: no such file, no file of these kinds, or a submission without a solution to score it by.
    """
    if path.suffix == ".json":
        return OtherResult(name, read_scores(path), {})
    if solution is None:
        raise InputError(
            f"{path}: a submission can only be compared where the answers are known; add --solution CSV, or name the "
            "JSON file that `python -m reid score --json` printed"
        )
    submission = read_submission(path)
    scores = score_submission(submission, solution, (str(path), "the solution"))
    return OtherResult(name, scores, resampled(submission, solution))


def collect_explanations(
    catalogue: Catalogue,
    weights: Weights,
    prediction: Matches,
    solution: pd.DataFrame | None,
    use_cache: bool = True,
    runtime: Runtime = Runtime(),
) -> Explanations:
    """Look closely at the queries that the page will show, see `explanations.explain_matches`."""
    judged = classify_outcomes(prediction.wide, solution)
    shown = judged.iloc[stratified_order(judged)[:MOST]]
    return explain_matches(catalogue, weights, shown, prediction.route, use_cache, runtime)


def write_report(
    folder: Path,
    catalogue: Catalogue,
    weights: Weights,
    prediction: Matches,
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
    judged = classify_outcomes(prediction.wide, solution)
    solved = bool((judged["truth"] != "").any())
    thumbnails = Thumbnails.of(catalogue, weights.recipe)
    cards = match_cards(judged, catalogue, explanations, thumbnails)
    numbers = {image_id: number for number, image_id in enumerate(thumbnails.drawn)}
    left_out = _left_out(catalogue, judged, weights)
    content = {
        "title": f"{catalogue.root.resolve().name}, recipe {weights.recipe.name}",
        "words": OUTCOMES,
        "marks": MARKS,
        "solved": solved,
        "queries": len(judged),
        "headline": _headline(judged, scores, draws, thresholds),
        "kinds_chart": _kinds_chart(scores, draws, thresholds),
        "others": [other.name for other in others],
        "beside_chart": _comparison_chart(scores, draws, thresholds, others),
        "score_rows": _score_rows(scores, draws, thresholds, others),
        "threshold_rows": _threshold_rows(judged, scores, calibrations, prediction),
        "threshold_charts": [
            (name, _threshold_charts(judged[judged["dataset"] == name], calibration, scores))
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
        "data_rows": _data_rows(catalogue, judged, left_out),
        "data_charts": _data_charts(catalogue),
        "unreadable": left_out[:LISTED],
        "unreadable_count": len(left_out),
        "sides": _sides(catalogue),
        "encoders": weights.recipe.uses_encoder,
        "confusion": _confusion(judged, solution),
        "maps": _maps(explanations, judged, thumbnails, numbers),
        "histories": _histories(weights.folder / RUN_FOLDER),
        "made": _made(catalogue, weights, prediction.route, seconds or {}),
    }
    page = render(content)
    contact_sheet(folder / "contact_sheet.jpg", match_rows(catalogue, judged, weights.recipe))
    with atomic_path(folder / "report.html") as temporary:
        temporary.write_text(page, "utf-8")
    return folder / "report.html"


class Headline(NamedTuple):
    """The page's first lines."""

    score: float | None
    interval: tuple[float, float] | None
    expected: float | None
    spread: float | None
    """Standard deviation of the mean over the datasets, if they are independent."""
    measured: int
    """Datasets with an expected score."""
    datasets: int
    outcomes: list[tuple[str, str, int, float]]
    """Key, words, count, share."""
    astray: int
    """Queries that were sent to another dataset's encoder than the one in their row."""


def _headline(
    judged: pd.DataFrame,
    scores: Mapping[str, Score],
    draws: Mapping[str, np.ndarray],
    thresholds: Mapping[str, Threshold],
) -> Headline:
    expected = [threshold.score for threshold in thresholds.values() if threshold.score is not None]
    spreads = [spread for threshold in thresholds.values() if (spread := _spread(threshold)) is not None]
    counts = Counter(judged["outcome"])
    return Headline(
        score=overall(dict(scores)) if scores else None,
        interval=_middle(_overall_draws(draws)) if scores else None,
        expected=float(np.mean(expected)) if expected else None,
        spread=float(np.sqrt(np.square(spreads).sum()) / len(spreads)) if spreads else None,
        measured=len(expected),
        datasets=len(thresholds),
        outcomes=[(key, OUTCOMES[key], counts[key], counts[key] / len(judged)) for key in OUTCOMES if counts[key]],
        astray=int(((judged["column"] != "") & (judged["column"] != judged["dataset"])).sum()),
    )


def _spread(threshold: Threshold) -> float | None:
    """Return the standard deviation that an interval of nine tenths has if it is normal: 1.645 of them on either
    side."""
    return None if threshold.interval is None else (threshold.interval[1] - threshold.interval[0]) / 2 / 1.645


def _overall_draws(draws: Mapping[str, np.ndarray]) -> np.ndarray:
    """(R,) the mean score over the datasets, of each sample."""
    mean: np.ndarray = np.mean([samples[:, 2] for samples in draws.values()], axis=0)
    return mean


def _middle(values: np.ndarray) -> tuple[float, float]:
    """Return where nine of ten values lie; NaN twice where there are none."""
    known = values[~np.isnan(values)]
    low, high = np.quantile(known, INTERVAL) if len(known) else (np.nan, np.nan)
    return float(low), float(high)


class Intervals(NamedTuple):
    """Of one dataset's figures."""

    baks: tuple[float, float]
    baus: tuple[float, float]
    score: tuple[float, float]


def _intervals(draws: Mapping[str, np.ndarray]) -> dict[str, Intervals]:
    return {name: Intervals(*(_middle(column) for column in samples.T)) for name, samples in draws.items()}


def _kinds_chart(
    scores: Mapping[str, Score], draws: Mapping[str, np.ndarray], thresholds: Mapping[str, Threshold]
) -> str:
    """Score, BAKS and BAUS: measured ones where there are any, else expected ones."""
    if scores:
        intervals = _intervals(draws)
        kinds = {
            kind: Bars(
                kind,
                {name: getattr(score, kind) for name, score in scores.items()},
                {name: getattr(ends, kind) for name, ends in intervals.items() if name in scores},
            )
            for kind in ("score", "baks", "baus")
        }
        total = _overall_bars("score", kinds["score"], overall(dict(scores)), draws)
        return kinds_chart(total, kinds["baks"], kinds["baus"])
    kinds = {
        kind: Bars(kind, {name: getattr(threshold, kind) for name, threshold in thresholds.items()}, {})
        for kind in ("score", "baks", "baus")
    }
    ranges = {name: threshold.interval for name, threshold in thresholds.items() if threshold.interval}
    return kinds_chart(kinds["score"]._replace(ranges=ranges), kinds["baks"], kinds["baus"])


def _overall_bars(name: str, bars: Bars, mean: float, draws: Mapping[str, np.ndarray]) -> Bars:
    """Bars with one for all datasets before them."""
    ranges = {"overall": _middle(_overall_draws(draws))} if draws else {}
    return Bars(name, {"overall": mean, **bars.values}, {**ranges, **bars.ranges})


def _comparison_chart(
    scores: Mapping[str, Score],
    draws: Mapping[str, np.ndarray],
    thresholds: Mapping[str, Threshold],
    others: Sequence[OtherResult],
) -> dict[str, Any]:
    """Return the report's Figure 3: a recipe's bar beside what was expected of it and beside other recipes, per
    dataset."""
    expected = {name: threshold.score for name, threshold in thresholds.items() if threshold.score is not None}
    ranges = {name: threshold.interval for name, threshold in thresholds.items() if threshold.interval is not None}
    series = [_total_bars("this one", scores, draws)] if scores else []
    series += [Bars("this one, as expected", expected, ranges)] if expected else []
    series += [_total_bars(*other) for other in others]
    return {"names": [bars.name for bars in series], "svg": score_chart(series) if len(series) > 1 else ""}


def _total_bars(name: str, scores: Mapping[str, Score], draws: Mapping[str, np.ndarray]) -> Bars:
    """Return a recipe's score per dataset and over all."""
    values = {dataset: score.score for dataset, score in scores.items()}
    ranges = {dataset: intervals.score for dataset, intervals in _intervals(draws).items()}
    return _overall_bars(name, Bars(name, values, ranges), overall(dict(scores)), draws)


class OtherResultRow(NamedTuple):
    """Another recipe's figures on one dataset."""

    name: str
    score: Score
    ahead: float | None
    """By how much this page's score is higher."""
    interval: tuple[float, float] | None


def _score_rows(
    scores: Mapping[str, Score],
    draws: Mapping[str, np.ndarray],
    thresholds: Mapping[str, Threshold],
    others: Sequence[OtherResult],
) -> list[dict[str, Any]]:
    intervals = _intervals(draws)
    names = sorted({*scores, *thresholds, *(name for other in others for name in other.scores)})
    return [
        {
            "dataset": name,
            "live": scores.get(name),
            "intervals": intervals.get(name),
            "expected": thresholds.get(name),
            "others": [_other_result_row(name, other, scores, draws) for other in others if name in other.scores],
        }
        for name in names
    ]


def _other_result_row(
    name: str, other: OtherResult, scores: Mapping[str, Score], draws: Mapping[str, np.ndarray]
) -> OtherResultRow:
    ahead = scores[name].score - other.scores[name].score if name in scores else None
    paired = name in draws and name in other.draws
    interval = _middle(draws[name][:, 2] - other.draws[name][:, 2]) if paired else None
    return OtherResultRow(other.name, other.scores[name], ahead, interval)


def _threshold_rows(
    judged: pd.DataFrame,
    scores: Mapping[str, Score],
    calibrations: Mapping[str, Calibration],
    prediction: Matches,
) -> list[dict[str, Any]]:
    rows = []
    share_new = prediction.share_new()
    for name, calibration in calibrations.items():
        queries = judged[judged["dataset"] == name]
        solved = queries[queries["truth"] != ""]
        drift = prediction.shifts.get(name, 0.0)
        rows.append(
            {
                "dataset": name,
                "scorer": calibration.scorer.kind,
                "one": calibration.threshold,
                "live": scores[name].score if name in scores else None,
                "best": oracle_threshold(queries),
                "live_new": share_new.get(name),
                "truly_new": float(solved["truth_new"].mean()) if len(solved) else None,
                "drift": drift,
                "drifted": has_shifted(drift, len(queries)),
            }
        )
    return rows


def _threshold_charts(
    judged: pd.DataFrame, calibration: Calibration, scores: Mapping[str, Score]
) -> list[tuple[str, str]]:
    """Return what the threshold was fitted on, and what the queries make of it, on the same axis."""
    threshold = calibration.threshold
    rows = judged[(judged["problem"] == "") & np.isfinite(judged["distance"])]
    distances = np.concatenate([rows["distance"], calibration.known, calibration.new, [threshold.value]]).astype(float)
    low, high = distances.min(), distances.max()
    room = 0.03 * (high - low) or 1e-6
    ends = (low - room, high + room)
    charts = []
    if calibration.known or calibration.new:
        contest, words = _calibration_curves(calibration), "the database's own photographs, asked for as queries"
        charts.append((words, threshold_chart(contest, threshold, ends, words)))
    if len(rows):
        contest, words = _live_curves(judged, rows, threshold.dataset, ends), "the queries"
        charts.append((words, threshold_chart(contest, threshold, ends, words)))
    return charts


def _calibration_curves(calibration: Calibration) -> Contest:
    curve = calibration.curve
    score = np.array(curve.score)
    columns = (np.array(column) for column in (curve.threshold, curve.baks, curve.baus, curve.share_new))
    nobody = np.zeros(0)
    return Contest(
        name=f"asked-{calibration.threshold.dataset}",
        groups=(np.array(calibration.known), nobody, np.array(calibration.new), nobody),
        curves=Sweep(*columns) if len(score) else None,
        score=score,
        best=(curve.threshold[int(score.argmax())], float(score.max())) if len(score) else None,
    )


def _live_curves(judged: pd.DataFrame, rows: pd.DataFrame, dataset: str, ends: tuple[float, float]) -> Contest:
    curves = live_sweep(judged)
    read = curves.at(np.linspace(*ends, 400)) if curves is not None else None
    distances, is_new = rows["distance"].to_numpy(float), rows["truth_new"].to_numpy(bool)
    solved, is_right = (rows["truth"] != "").to_numpy(bool), (rows["identity"] == rows["truth"]).to_numpy(bool)
    masks = (solved & is_right & ~is_new, solved & ~is_right & ~is_new, solved & is_new, ~solved)
    right, misled, new, unknown = (distances[mask] for mask in masks)
    return Contest(
        name=f"live-{dataset}",
        groups=(right, misled, new, unknown),
        curves=read,
        score=np.sqrt(read.baks * read.baus) if read is not None else np.zeros(0),
        best=oracle_threshold(judged),
    )


class LeftOut(NamedTuple):
    """A photograph that had no say."""

    image_id: str
    dataset: str
    split: str
    path: str
    problem: str


def _left_out(catalogue: Catalogue, judged: pd.DataFrame, weights: Weights) -> list[LeftOut]:
    """Queries that could not be read, and database photographs that are in no gallery."""
    problems = dict(judged.loc[judged["problem"] != "", ["image_id", "problem"]].itertuples(index=False))
    for dataset in weights.datasets:
        enrolled = set(load_gallery(weights.folder / gallery_file(dataset)).embeddings.image_id)
        photographs = catalogue.database.of(dataset)
        for image_id, path in zip(photographs.image_ids, photographs.paths, strict=True):
            if image_id not in enrolled:
                problems[image_id] = _problem(path)
    rows = catalogue.table[catalogue.table["image_id"].isin(list(problems))]
    cells = rows[["image_id", "dataset", "split", "path"]].to_numpy(str).tolist()
    return [LeftOut(image_id, dataset, split, path, problems[image_id]) for image_id, dataset, split, path in cells]


def _problem(path: Path) -> str:
    try:
        upright(path, 16)
    except UnreadableError as problem:
        return str(problem)
    return "it came after enrolment"


def _data_rows(catalogue: Catalogue, judged: pd.DataFrame, left_out: Sequence[LeftOut]) -> list[dict[str, Any]]:
    absent = Counter((photograph.dataset, photograph.split) for photograph in left_out)
    rows = []
    for name in sorted(set(catalogue.table["dataset"])):
        photographs, queries = catalogue.database.of(name), catalogue.query.of(name)
        sizes = photographs.table["identity"].value_counts().to_numpy(int)
        rows.append(
            {
                "dataset": name or "(none)",
                "images": len(photographs),
                "individuals": len(sizes),
                "singletons": int((sizes == 1).sum()),
                "median": float(np.median(sizes)) if len(sizes) else 0.0,
                "largest": int(sizes.max()) if len(sizes) else 0,
                "dated": _dated(photographs),
                "not_enrolled": absent[name, "database"],
                "queries": len(queries),
                "queries_dated": _dated(queries),
                "unreadable": absent[name, "query"],
            }
        )
    return rows


def _dated(photographs: Catalogue) -> float | None:
    """Return the share of the photographs that have a date; None where there are none."""
    return float((photographs.table["day"] != "").mean()) if len(photographs) else None


def _data_charts(catalogue: Catalogue) -> list[tuple[str, str]]:
    """Words and chart."""
    charts = []
    for name, photographs in catalogue.database.by_dataset().items():
        sizes = photographs.table["identity"].value_counts().to_numpy(int)
        charts.append((f"{name}: individuals by their photographs", size_chart(name, sizes)))
        days = [[day for day in split.table["day"] if day] for split in (photographs, catalogue.query.of(name))]
        if days[0] or days[1]:
            charts.append((f"{name}: dates, those of queries downwards", date_chart(name, *days)))
    return charts


def _sides(catalogue: Catalogue) -> dict[str, Any]:
    """Photographs of every dataset by their orientation, the commonest eight; no rows where nobody says any."""
    table = catalogue.table
    common = table["orientation"].value_counts()
    names = list(common.index[:8])
    if names in ([], [""]):
        return {"rows": [], "names": [], "left_out": 0}
    counts = Counter(zip(table["dataset"], table["orientation"], table["split"], strict=True))
    rows = [
        (name or "(none)", [(counts[name, side, "database"], counts[name, side, "query"]) for side in names])
        for name in sorted(set(table["dataset"]))
    ]
    return {"rows": rows, "names": names, "left_out": max(0, len(common) - len(names))}


def _confusion(judged: pd.DataFrame, solution: pd.DataFrame | None) -> dict[str, Any] | None:
    """Return what the species classifier makes of every dataset's queries; None without one."""
    truth = judged["column"]
    if solution is not None:
        known = judged["image_id"].map(solution.set_index("image_id")["dataset"])
        truth = known.fillna(truth)
    asked = (judged["species"] != "") & (truth != "")
    if not asked.any():
        return None
    truth, species = truth[asked], judged["species"][asked]
    names = sorted({*truth, *species})
    counts = pd.crosstab(truth, species).reindex(index=names, columns=names, fill_value=0).to_numpy(int)
    shares = counts / np.maximum(1, counts.sum(1, keepdims=True))
    return {
        "names": names,
        "rows": [
            (name, list(zip(row.tolist(), share.tolist(), strict=True)))
            for name, row, share in zip(names, counts, shares, strict=True)
        ],
        "count": int(counts.sum()),
        "agreed": int(np.trace(counts)),
        "solved": solution is not None,
    }


class Dot(NamedTuple):
    """A photograph on a map."""

    x: str
    y: str
    """Per cent from the left and from the top."""
    kind: str
    """Classes: its individual's colour, whether it is a query, whether there is a thumbnail of it."""
    words: str


def _maps(
    explanations: Explanations, judged: pd.DataFrame, thumbnails: Thumbnails, numbers: Mapping[str, int]
) -> list[dict[str, Any]]:
    drawn = {image_id: number for image_id, number in numbers.items() if thumbnails.drawn[image_id].uri}
    captions = {
        str(row.image_id): f"query {row.image_id}\n{OUTCOMES[str(row.outcome)]}: {row.answer}"
        for row in judged.itertuples()
    }
    return [
        {
            "dataset": name,
            "kept": dataset_map.kept,
            "known": sum(identity != "" for identity in dataset_map.identity),
            "photographs": dataset_map.photographs,
            "asked": "" in dataset_map.identity,
            "names": _commonest(dataset_map),
            "dots": _dots(dataset_map, captions, drawn),
        }
        for name, dataset_map in explanations.maps.items()
    ]


def _commonest(dataset_map: EmbeddingMap) -> list[str]:
    """Return the six individuals with most photographs on a map, which get a colour of their own."""
    counts = Counter(identity for identity in dataset_map.identity if identity)
    return sorted(counts, key=lambda name: (-counts[name], name))[:6]


def _dots(dataset_map: EmbeddingMap, captions: Mapping[str, str], drawn: Mapping[str, int]) -> list[Dot]:
    colours = {name: f"k{number}" for number, name in enumerate(_commonest(dataset_map))}
    dots = []
    for image_id, (x, y), identity in zip(
        dataset_map.image_id, dataset_map.points.tolist(), dataset_map.identity, strict=True
    ):
        kinds = ["q" if not identity else colours.get(identity, ""), "r" if x > 0.5 else ""]
        kinds += ["p", f"t{drawn[image_id]}"] if image_id in drawn else []
        words = f"{identity}\nphoto {image_id}" if identity else captions.get(image_id, f"query {image_id}")
        dots.append(Dot(f"{100 * x:.1f}", f"{100 * (1 - y):.1f}", " ".join(kind for kind in kinds if kind), words))
    return dots


def _histories(folder: Path) -> list[tuple[str, str, str]]:
    """Name, words and chart of every network's training, as far as its history can be read."""
    charts = []
    for number, path in enumerate(sorted(folder.rglob("*.history.csv"))):
        try:
            history = pd.read_csv(path).rename(columns={"open_set_score": "score"})  # 0.1.0 wrote score
            history = history[["epoch", "loss", "accuracy", "score"]].astype(float)
        except (OSError, ValueError, KeyError):  # a history is for people; a damaged one costs its chart alone
            continue
        if not len(history) or not history["epoch"].notna().all():
            continue
        place = path.parent.relative_to(folder).parts
        name = " ".join([path.name.removesuffix(".history.csv"), *place])
        best = history["score"].max() if history["score"].notna().any() else history["accuracy"].max()
        words = f"{len(history)} epochs" + (f", best {best:.3f}" if best == best else "")
        charts.append((name, words, history_chart(f"{number}", history)))
    return charts


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
