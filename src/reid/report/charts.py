"""Charts: SVG elements without scripts and fonts, in the page's colours; the same numbers give the same bytes."""

import io
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from reid.decision.thresholds import Sweep, Threshold

__all__ = [
    "Bars",
    "ThresholdPlot",
    "companions_chart",
    "date_chart",
    "history_chart",
    "metrics_chart",
    "rand_index_chart",
    "recipes_chart",
    "reliability_chart",
    "size_chart",
    "threshold_chart",
]

INK, MUTED, SCORE, KNOWN, MISMATCH, NEW, *OTHERS = (f"#01010{number}" for number in range(1, 10))

PAINT = {
    **{INK: "ink", MUTED: "muted", SCORE: "score", KNOWN: "known", MISMATCH: "mismatch", NEW: "new"},
    **{colour: f"other{number}" for number, colour in enumerate(OTHERS)},
}
"""What replaces these colours: the page's own, which differ between light and dark."""


NICE_STEPS = [digit * 10.0**power for power in range(-1, 6) for digit in (1, 1.5, 2, 3, 4, 6, 8)]
"""Between the labels of an axis."""


def _svg(figure: Figure, name: str, words: str) -> str:
    """Return a figure as an SVG element with the page's colours and fonts, no date, and ids of its own.

    Args:
        figure: the figure.
        name: the start of every id, unique on the page.
        words: what it shows, for screen readers.
    """
    written = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "reid", "svg.fonttype": "none"}):
        figure.savefig(written, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    drawn = written.getvalue()
    drawn = drawn[drawn.index("<svg") :]
    drawn = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", drawn, flags=re.DOTALL)
    drawn = re.sub(r'(\bid="|href="#|url\(#)', rf"\1{name}-", drawn)
    drawn = re.sub(r'(<svg\b[^>]*?) width="[^"]*"', r"\1", drawn, count=1)
    drawn = re.sub(r'(<svg\b[^>]*?) height="[^"]*"', rf'\1 role="img" aria-label="{words}"', drawn, count=1)
    for stand_in, colour in PAINT.items():
        drawn = drawn.replace(stand_in, f"var(--{colour})")
    return drawn


def _simplify(axes: Axes) -> None:
    """Draw thin lines, and only where they help."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(MUTED)
    axes.tick_params(colors=MUTED, labelcolor=INK)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)


def _label_counts(axes: Axes, ticks: int = 4) -> None:
    """Label the vertical axis with counts, without a sign on those below zero."""
    axes.yaxis.set_major_locator(MaxNLocator(ticks, integer=True))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{abs(value):.0f}"))


class Bars(NamedTuple):
    """Values to draw in one colour: a metric of one recipe, by group (a dataset, or "overall")."""

    name: str
    values: Mapping[str, float | None]
    """None or NaN where there is none."""
    ranges: Mapping[str, tuple[float, float]]
    """The ends of an interval, where there is one."""


def _groups(series: Sequence[Bars]) -> list[str]:
    """Return the groups in alphabetical order, "overall" before them."""
    names = {group for bars in series for group in bars.values}
    return sorted(names, key=lambda name: (name != "overall", name))


def _bar_chart(
    series: Sequence[Bars],
    colours: Sequence[str],
    heights: Sequence[float],
    name: str,
    words: str,
    end: float = 1.0,
) -> str:
    """Draw the bars of every group next to each other, with whiskers where there are intervals; the axis is from 0 to
    `end`."""
    groups = _groups(series)
    figure = Figure(figsize=(5.2, 0.5 + len(groups) * (0.22 + 0.95 * sum(heights))), layout="constrained")
    axes = figure.add_subplot()
    group_height = sum(heights) + 0.28
    for row, group in enumerate(groups):
        shown = [number for number, bars in enumerate(series) if group in bars.values]
        top = row * group_height - sum(heights[number] for number in shown) / 2
        for number in shown:
            _bar(axes, series[number], group, top, heights[number], colours[number], end)
            top += heights[number]
    for tick in axes.set_yticks([row * group_height for row in range(len(groups))], groups):
        tick.label1.set_parse_math(False)  # a solution's datasets may have any name
    axes.set_xlim(0, 1.12 * end)
    axes.set_xticks(np.linspace(0, end, 6))
    axes.spines["bottom"].set_bounds(0, end)
    axes.invert_yaxis()
    _simplify(axes)
    axes.tick_params(axis="y", length=0)
    return _svg(figure, name, words)


def _bar(axes: Axes, bars: Bars, group: str, top: float, height: float, colour: str, axis_end: float) -> None:
    """Draw one bar with its whisker and its number: three decimals of a share, one of a number."""
    value, middle = bars.values[group], top + height / 2
    known = value is not None and value == value
    length = value if value is not None and known else 0.0
    axes.barh(middle, length, 0.88 * height, color=colour)
    low, high = bars.ranges.get(group, (length, length))
    end = length
    if known and high > low:
        axes.plot([low, high], [middle, middle], color=INK, linewidth=1.1, solid_capstyle="butt")
        end = max(length, high)
    label = f"{length:.{3 if axis_end == 1 else 1}f}" if known else "\u2014"
    axes.text(end + 0.012 * axis_end, middle, label, va="center", color=INK, fontsize=9.5 if height > 0.25 else 7.5)


def metrics_chart(score: Bars, baks: Bars, baus: Bars) -> str:
    """Draw score, BAKS and BAUS per dataset."""
    heights, words = (0.32, 0.17, 0.17), "Score, BAKS and BAUS per dataset"
    return _bar_chart([score, baks, baus], [SCORE, KNOWN, NEW], heights, "metrics", words)


def recipes_chart(series: Sequence[Bars]) -> str:
    """Draw the scores of several recipes per dataset, this page's first."""
    colours = [SCORE, *(OTHERS[number % len(OTHERS)] for number in range(len(series) - 1))]
    return _bar_chart(series, colours, [0.3] * len(series), "recipes", "Score per dataset and recipe")


def rand_index_chart(series: Sequence[Bars]) -> str:
    """Draw the adjusted Rand index per dataset: measured, expected. Below 0, which is worse than chance, is no bar."""
    shown = [bars._replace(ranges={name: _from_zero(ends) for name, ends in bars.ranges.items()}) for bars in series]
    return _bar_chart(shown, [SCORE, OTHERS[0]], [0.3] * len(series), "ari", "Adjusted Rand index per dataset")


def _from_zero(ends: tuple[float, float]) -> tuple[float, float]:
    return max(0.0, ends[0]), max(0.0, ends[1])


def companions_chart(series: Sequence[Bars]) -> str:
    """Draw how many other photographs of its animal a photograph has: estimated, fitted on, true."""
    most = max(value for bars in series for value in bars.values.values() if value is not None and value == value)
    step = next(step for step in NICE_STEPS if 5 * step >= most)
    words = "Other photographs of the same animal, per photograph"
    return _bar_chart(series, [SCORE, OTHERS[0], KNOWN], [0.3] * len(series), "companions", words, 5 * step)


class ThresholdPlot(NamedTuple):
    """Queries by their dissimilarity to the best candidate, and what every threshold would make of them."""

    name: str
    """The start of its ids on the page."""
    groups: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
    """Dissimilarities of known queries whose best candidate is right, of those whose best candidate is wrong, of new
    ones, and of those whose truth is not known; any of them empty."""
    curves: Sweep | None
    """BAKS, BAUS and share called new at some thresholds, (T,) each; None where they can't be known."""
    score: np.ndarray
    """(T,) at the same thresholds."""
    best: tuple[float, float] | None
    """The threshold with the best score, and that score."""


def threshold_chart(plot: ThresholdPlot, threshold: Threshold, ends: tuple[float, float], words: str) -> str:
    """Draw a histogram of dissimilarities, known queries upwards and new ones downwards; below it score, BAKS, BAUS and
    the share called new over the threshold.

    Args:
        plot: what is drawn.
        threshold: the fitted one.
        ends: the range of the axis.
        words: see `_svg`.
    """
    heights = [3.0, 2.4, 1.3] if plot.curves is not None else [3.0]
    figure = Figure(figsize=(4.6, 0.5 + 0.62 * sum(heights)), layout="constrained")
    panels = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    _histogram(panels[0], plot, np.linspace(*ends, 31))
    if plot.curves is not None:
        _curves(panels[1], panels[2], plot, plot.curves)
    panels[-1].set_xlabel("dissimilarity of the best candidate")
    for panel in panels:
        panel.axvspan(*threshold.plateau, color=MUTED, alpha=0.22, linewidth=0, zorder=0)
        panel.axvline(threshold.value, color=INK, linewidth=1.4, linestyle=(0, (4, 2)))
        panel.set_xlim(*ends)
        _simplify(panel)
    figure.align_ylabels()
    return _svg(figure, plot.name, words)


def _histogram(axes: Axes, plot: ThresholdPlot, bins: np.ndarray) -> None:
    stacked = np.zeros(len(bins) - 1)
    for values, colour, sign in zip(plot.groups, (KNOWN, MISMATCH, NEW, SCORE), (1, 1, -1, 1), strict=True):
        counts = np.histogram(values, bins)[0]
        bottom = stacked if sign > 0 else 0
        axes.bar(bins[:-1], sign * counts, np.diff(bins) * 0.9, bottom=bottom, align="edge", color=colour)
        stacked = stacked + counts * (sign > 0)
    axes.set_ylabel("queries")
    axes.axhline(0, color=MUTED, linewidth=0.8)
    _label_counts(axes, 5)


def _curves(above: Axes, below: Axes, plot: ThresholdPlot, curves: Sweep) -> None:
    above.plot(curves.edges, curves.baks, color=KNOWN, linewidth=1.2)
    above.plot(curves.edges, curves.baus, color=NEW, linewidth=1.2)
    above.plot(curves.edges, plot.score, color=SCORE, linewidth=2.2)
    if plot.best is not None:
        above.plot(*plot.best, "D", color=SCORE, markersize=6, markeredgecolor=INK, markeredgewidth=0.8)
    above.set_ylabel("score")
    below.plot(curves.edges, curves.share_new, color=INK, linewidth=1.4)
    below.set_ylabel("called new")
    for panel in (above, below):
        panel.set_ylim(-0.04, 1.06)
        panel.set_yticks([0, 0.5, 1])


def reliability_chart(said: np.ndarray, right: np.ndarray) -> str:
    """Draw the share that is right over the probability, (B,) each, next to the diagonal on which they agree."""
    figure = Figure(figsize=(3.2, 2.9), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8)
    axes.plot(said, right, "o-", color=SCORE, linewidth=1.8, markersize=5)
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
    axes.set_xlabel("probability of the first candidate")
    axes.set_ylabel("share that is right")
    _simplify(axes)
    return _svg(figure, "reliability", "Share of first candidates that are right, by their probability")


def size_chart(
    name: str, sizes: np.ndarray, whats: tuple[str, str] = ("database photographs per individual", "individuals")
) -> str:
    """Draw how many individuals have one photograph, two, three to four, five to eight, ...

    Args:
        name: the end of the ids on the page.
        sizes: (individuals,) photographs of each, 1 or more; at least one individual.
        whats: what the axes show; instead of individuals, clusters.
    """
    counts = np.bincount(np.ceil(np.log2(sizes)).astype(int))  # 1 -> 0, 2 -> 1, 3 and 4 -> 2, 5 to 8 -> 3
    words = [str(2**step) if step < 2 else f"{2 ** (step - 1) + 1}-{2**step}" for step in range(len(counts))]
    figure = Figure(figsize=(4.6, 1.9), layout="constrained")
    axes = figure.add_subplot()
    for place, count in enumerate(counts):
        axes.bar(place, count, 0.8, color=SCORE if place else MISMATCH)
        axes.text(place, count, str(count), ha="center", va="bottom", color=INK, fontsize=8)
    axes.set_xticks(range(len(words)), words)
    axes.set_ylim(0, max(counts) * 1.15)
    axes.set_xlabel(whats[0])
    axes.set_ylabel(whats[1])
    _label_counts(axes)
    _simplify(axes)
    return _svg(figure, f"sizes-{name}", f"{whats[1].capitalize()} by their number of photographs")


def date_chart(name: str, database: Sequence[str], queries: Sequence[str]) -> str:
    """Draw when photographs were taken: those of the database upwards, queries downwards.

    Args:
        name: the dataset.
        database, queries: days, YYYY-MM-DD, or months or years; at least one in all.
    """
    days = [np.array(list(values), "datetime64[D]") for values in (database, queries)]
    numbers = [values.astype(int) for values in days]
    low, high = (end(np.concatenate(numbers)) for end in (np.min, np.max))
    bins = np.linspace(low, high + 1, 25)
    figure = Figure(figsize=(4.6, 1.9), layout="constrained")
    axes = figure.add_subplot()
    for values, colour, sign in zip(numbers, (SCORE, NEW), (1, -1), strict=True):
        axes.bar(bins[:-1], sign * np.histogram(values, bins)[0], np.diff(bins) * 0.9, align="edge", color=colour)
    axes.axhline(0, color=MUTED, linewidth=0.8)
    ticks = np.unique(np.linspace(low, high, 4).astype(int))  # of a day or two, fewer
    words = [str(np.datetime64(int(tick), "D")) for tick in ticks]
    months = [day[:7] for day in words]
    axes.set_xticks(ticks, months if len(set(months)) == len(months) else words)
    axes.set_ylabel("photographs")
    _label_counts(axes)
    _simplify(axes)
    return _svg(figure, f"dates-{name}", "Photographs by date")


def history_chart(name: str, history: pd.DataFrame) -> str:
    """Draw a network's loss, and its validation on individuals that it did not learn from.

    Args:
        name: the end of the ids on the page.
        history: a row per epoch, columns epoch, loss, accuracy, open_set_score; NaN where nothing was validated.
    """
    figure = Figure(figsize=(4.6, 2.9), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[1, 1.2])
    dots = "o" if len(history) < 3 else ""
    above.plot(history["epoch"], history["loss"], color=INK, linewidth=1.4, marker=dots, markersize=4)
    above.set_ylabel("loss")
    for column, colour in (("accuracy", KNOWN), ("open_set_score", SCORE)):
        known = history[history[column].notna()]
        below.plot(known["epoch"], known[column], color=colour, linewidth=1.8, marker="o", markersize=3)
    below.set_ylim(-0.03, 1.03)
    below.set_ylabel("validation")
    below.set_xlabel("epoch")
    below.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    for panel in (above, below):
        _simplify(panel)
    figure.align_ylabels()
    return _svg(figure, f"history-{name}", "Loss and validation over the epochs")
