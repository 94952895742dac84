"""The page: renders the template `report.html.j2` into one HTML file that needs no script and no network.

What a click chooses (outcome, dataset, the pair whose keypoints are drawn) is a radio button, and the style sheet shows
what belongs to it. Each photograph's pixels are in the style sheet once, however often it is shown.
"""

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import jinja2

__all__ = ["render"]

LIGHT = "--page: #fbfbfa; --card: #fff; --ink: #1d2125; --muted: #5d6770; --line: #dfe2e5; --field: #eceef0; \
--score: #2f6f8f; --known: #2a9d6f; --mismatch: #c2a24a; --new: #c8643c; --other0: #8a8f98; --other1: #b7a6d6; \
--other2: #c9b79c; --wrong: #b3261e; --named: #a04f00; --missed: #5b3f9e; --right: #17703f; --open: #2f6f8f; \
--k0: #3b7dd8; --k1: #d1495b; --k2: #3a9e5c; --k3: #b98900; --k4: #8e5bc0; --k5: #12919a;"

DARK = "--page: #14171a; --card: #1c2024; --ink: #e7e9eb; --muted: #9aa4ad; --line: #343a40; --field: #2a2f34; \
--score: #6db6d8; --known: #4fc796; --mismatch: #b99b4b; --new: #e88a62; --other0: #838b94; --other1: #9686c4; \
--other2: #a3927a; --wrong: #ff8f87; --named: #ffb066; --missed: #bda7ff; --right: #6fd39b; --open: #6db6d8; \
--k0: #78aef5; --k1: #f28291; --k2: #6fcb8d; --k3: #e0b43c; --k4: #bd93e8; --k5: #4fc4cc;"
"""The page's colours: of the background, of metrics (the same in charts and tables), of other recipes, of outcomes, and
of individuals on a map."""


def render(content: Mapping[str, Any]) -> str:
    """Return the page.

    Args:
        content: by the names that the template uses; all text is escaped, charts are not.
    """
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"fixed": _fixed, "percent": _percent, "between": _between}
    template = files(__package__).joinpath("report.html.j2").read_text("utf-8")
    return environment.from_string(template).render(content, light=LIGHT, dark=DARK)


def _fixed(value: float | None) -> str:
    """Return three decimals; a dash for what is not known (NaN is not equal to itself)."""
    return "\u2014" if value is None or value != value else f"{value:.3f}"


def _between(interval: tuple[float, float] | None) -> str:
    known = interval is not None and interval[0] == interval[0]
    return f" ({interval[0]:.3f} to {interval[1]:.3f})" if known and interval is not None else ""


def _percent(value: float | None) -> str:
    if value is None or value != value:
        return "\u2014"
    return "<1%" if 0 < value < 0.005 else f"{value:.0%}"
