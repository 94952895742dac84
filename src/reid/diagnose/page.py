"""The page of a diagnosis: per dataset its parts, the alarms first. It needs no script and no network."""

from importlib.resources import files
from pathlib import Path

import jinja2

from reid.diagnose.diagnose import Diagnosis
from reid.runtime.files import atomic_path

__all__ = ["write_diagnosis"]


def write_diagnosis(folder: Path, title: str, diagnosis: Diagnosis) -> Path:
    """Write `folder/diagnose.html`; the same diagnosis gives the same bytes.

    Args:
        folder: where; it is made if it is not there.
        title: the data folder and the recipe.
        diagnosis: what was found.

    Returns:
        The page's path.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(files(__package__).joinpath("diagnose.html.j2").read_text("utf-8"))
    path = folder / "diagnose.html"
    with atomic_path(path) as temporary:
        temporary.write_text(template.render(title=title, alarms=diagnosis.alarms, parts=diagnosis.parts), "utf-8")
    return path
