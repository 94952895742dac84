"""Photographs for people: thumbnails on the page, and contact sheets with captions."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from reid.config.recipe import Recipe
from reid.data.catalogue import Catalogue
from reid.data.photographs import UnreadableError, View, decode, views_of
from reid.report.outcomes import OUTCOMES
from reid.runtime.files import atomic_path

__all__ = [
    "SheetPicture",
    "SheetRow",
    "Thumbnail",
    "Thumbnails",
    "contact_sheet",
    "match_rows",
    "upright",
]

THUMBNAIL = 160
"""Pixels on a thumbnail's longer side: markings can be compared, and it takes about 5 kB."""


class Thumbnail(NamedTuple):
    """A photograph on a page."""

    number: int
    """Its CSS class is "t" and this number."""
    uri: str
    """Its pixels, "data:image/jpeg;base64,..."; "" where there are none."""
    problem: str
    """Why there are none; "" where there are some."""


@dataclass(frozen=True)
class Thumbnails:
    """Thumbnails of a data folder's photographs, each made once: many queries share a candidate.

    Attributes:
        paths: by image_id.
        views: by image_id, how each is opened.
        drawn: those made so far, by image_id, in the order of their numbers.
    """

    paths: dict[str, Path]
    views: dict[str, View]
    drawn: dict[str, Thumbnail] = field(default_factory=dict)

    @classmethod
    def of(cls, catalogue: Catalogue, recipe: Recipe) -> "Thumbnails":
        """Return an empty collection.

        Args:
            catalogue: the photographs.
            recipe: `data.upright`: photographs are shown as the networks see them.
        """
        ids, views = catalogue.image_ids, views_of(catalogue, recipe)
        return cls(dict(zip(ids, catalogue.paths, strict=True)), dict(zip(ids, views, strict=True)))

    def of_photograph(self, image_id: str) -> Thumbnail:
        """Return the thumbnail of a photograph, made the first time it is needed."""
        if image_id not in self.drawn:
            uri, problem = self._draw(image_id)
            self.drawn[image_id] = Thumbnail(len(self.drawn), uri, problem)
        return self.drawn[image_id]

    def forget(self, image_id: str) -> None:
        """Remove one of the last thumbnails again, where the page would become too large."""
        self.drawn.pop(image_id, None)

    def _draw(self, image_id: str) -> tuple[str, str]:
        """Return the uri and the problem."""
        if image_id not in self.paths:
            return "", "not in this data folder"
        try:
            picture = upright(self.paths[image_id], THUMBNAIL, self.views[image_id])
        except UnreadableError as problem:
            return "", str(problem)
        written = io.BytesIO()
        picture.save(written, "JPEG", quality=70)
        return "data:image/jpeg;base64," + base64.b64encode(written.getvalue()).decode(), ""


def upright(path: Path, longer: int, view: View | None = None) -> Image.Image:
    """Return a photograph as a person expects it: upright and in its own proportions.

    Args:
        path: the file.
        longer: pixels of the longer side.
        view: how it is turned, and which part of it is shown; None for all of it, as EXIF turns it.

    Raises:
        UnreadableError: it can't be read.
    """
    decoded = decode(path, replace(view or View(0), size=longer, mirror=False))
    scale = longer / max(decoded.extent)
    width, height = (max(1, round(side * scale)) for side in decoded.extent)
    small = decoded.image.resize((width, height), Image.Resampling.LANCZOS, box=(0, 0, *decoded.extent))
    return decoded.upright(small)


CELL, GAP, LINE, TITLE = 150, 10, 16, 24
"""Pixels: a photograph's longer side on a contact sheet, the space around it, a caption's line, a row's title."""

SHEET_INK = {"": "#202428", "wrong": "#b3261e", "named": "#a04f00", "missed": "#5b3f9e", "right": "#17703f"}
"""Caption colours by outcome, on white: the sheet may be shown on light and dark pages."""


class SheetPicture(NamedTuple):
    """A photograph on a contact sheet."""

    file: Path
    caption: str
    """A few words."""
    outcome: str = ""
    """Colours the caption; "" for none."""
    view: View = View(0)
    """How it is turned, and which part of it is shown."""


class SheetRow(NamedTuple):
    """A row of a contact sheet."""

    title: str
    pictures: tuple[tuple[SheetPicture, ...], ...]
    """Groups, with a gap between them."""


def match_rows(catalogue: Catalogue, outcomes: pd.DataFrame, recipe: Recipe, matches: int = 5) -> list[SheetRow]:
    """Return a row per dataset: query and best candidate of typical matches of every outcome in turn.

    Args:
        catalogue: the photographs.
        outcomes: see `outcomes.classify_outcomes`.
        recipe: `data.upright`: photographs are shown as the networks see them.
        matches: per dataset.
    """
    views = zip(catalogue.image_ids, catalogue.paths, views_of(catalogue, recipe), strict=True)
    photographs = {image_id: SheetPicture(path, "", view=view) for image_id, path, view in views}
    missing = SheetPicture(Path("not in this data folder"), "")
    rows = []
    compared = outcomes[(outcomes["problem"] == "") & (outcomes["photograph"] != "")]
    for name, part in compared.groupby("dataset", sort=True):
        groups = []
        for row in _typical(part, matches).itertuples():
            outcome, limit = str(row.outcome), f"{row.ratio:.0%} of the threshold"
            query = photographs[str(row.image_id)]._replace(caption=OUTCOMES[outcome], outcome=outcome)
            groups.append((query, photographs.get(str(row.photograph), missing)._replace(caption=limit)))
        rows.append(SheetRow(str(name), tuple(groups)))
    return rows


def _typical(outcomes: pd.DataFrame, matches: int) -> pd.DataFrame:
    """Return one match of every outcome in turn, from the middle of each outcome: neither the best nor the worst."""
    by_outcome = outcomes.groupby("outcome")["outcome"]
    sizes = by_outcome.transform("size")
    turn = (by_outcome.cumcount() - sizes // 2) % sizes
    return outcomes.loc[turn.sort_values(kind="stable").index[:matches]].sort_index()


def contact_sheet(path: Path, rows: Sequence[SheetRow]) -> None:
    """Write photographs with captions, in rows, as a JPEG file."""
    font, bold = ImageFont.load_default(11), ImageFont.load_default(15)
    widths = [sum(len(group) * (CELL + 2) + GAP for group in row.pictures) for row in rows]
    step = TITLE + CELL + LINE + GAP
    sheet = Image.new("RGB", (max([*widths, CELL]) + GAP, step * len(rows) + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for number, row in enumerate(rows):
        left, top = GAP, GAP + number * step
        draw.text((left, top), row.title, fill=SHEET_INK[""], font=bold)
        for group in row.pictures:
            for file, caption, outcome, view in group:
                sheet.paste(_cell(file, view), (left, top + TITLE))
                while caption and draw.textlength(caption, font) > CELL:
                    caption = caption[1:]  # the end tells individuals apart
                place = (left, top + TITLE + CELL + 2)
                draw.text(place, caption, fill=SHEET_INK.get(outcome, SHEET_INK[""]), font=font)
                left += CELL + 2
            left += GAP
    with atomic_path(path) as temporary:
        sheet.save(temporary, "JPEG", quality=85)


def _cell(file: Path, view: View) -> Image.Image:
    """Return a photograph in the middle of a grey cell; the reason where it can't be read."""
    cell = Image.new("RGB", (CELL, CELL), "#e4e6e8")
    try:
        picture = upright(file, CELL, view)
        cell.paste(picture, ((CELL - picture.width) // 2, (CELL - picture.height) // 2))
    except UnreadableError as problem:
        ImageDraw.Draw(cell).text((6, 6), str(problem)[:30], fill="#50565c", font=ImageFont.load_default(10))
    return cell
