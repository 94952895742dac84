"""The page: renders a template such as `report.html.j2` into one HTML file that needs no script and no network.

What a click chooses (outcome, dataset, the pair whose keypoints are drawn) is a radio button, and the style sheet shows
what belongs to it. Each photograph's pixels are in the style sheet once, however often it is shown.
"""

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import jinja2

__all__ = ["render"]


def render(content: Mapping[str, Any], template: str = "report.html.j2", package: str = __package__) -> str:
    """Return the page.

    Args:
        content: by the names that the template uses; all text is escaped, charts are not.
        template: its file's name.
        package: where that file is; the parts that it includes are here.
    """
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: files(__package__).joinpath(name).read_text("utf-8")),  # of parts
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"fixed": _fixed, "percent": _percent, "between": _between}
    text = files(package).joinpath(template).read_text("utf-8")
    return environment.from_string(text).render(content)


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
