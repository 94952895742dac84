"""The page of `reid review`: one file that opens by double click and asks about pairs of photographs.

Every photograph's preview is in it once. The originals are shown in their place where the data folder still lies where
it did when the page was made, seen from the page.
"""

import base64
import hashlib
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from reid import __version__
from reid.config.recipe import Recipe
from reid.data.catalogue import Catalogue
from reid.data.photographs import UnreadableError, View, views_of
from reid.report.explanations import keypoints_to_show
from reid.report.page import render
from reid.report.thumbnails import upright
from reid.retrieval.local_matching import verify
from reid.review.answer_sheet import FORMAT, VERSION, fingerprint_of
from reid.review.questions import Question
from reid.runtime.files import atomic_path
from reid.runtime.progress import track

__all__ = ["PREVIEW", "write_review"]

PREVIEW = 320
"""Pixels on a preview's longer side."""

OTHERS = 6
"""Further photographs of either side that are shown beside a pair."""

MATCHES = 40
"""Keypoint matches of a pair that are drawn; more of them hide the animal."""

QUALITIES = (75, 60, 45, 30, 20)
"""Of JPEG; the first at which a preview fits."""

QUESTIONS, BYTES = (100, 500), (10_000_000, 20_000_000)
"""A page with so many questions has at most so many bytes; in between it is in proportion."""

ASKED_SHARE, OTHERS_SHARE = 0.7, 0.9
"""Of these bytes: for the photographs asked about, and for these and the others beside them."""

TITLES = {
    "clusters": "Is it the same animal?",
    "names": "Is it {names[1]}?",
    "stranger": "Both are called {names[0]}. Is it the same animal?",
    "split": "Both are called {names[0]}. Is it the same animal?",
    "merge": "They are called {names[0]} and {names[1]}. Is it the same animal?",
}


def write_review(catalogue: Catalogue, questions: Sequence[Question], out: Path, recipe: Recipe) -> Path:
    """Write `out/review.html`.

    Args:
        catalogue: all rows of the data folder.
        questions: at least one.
        out: the folder.
        recipe: `data.upright`, and how keypoints are found.

    Returns:
        The page's path.

    Raises:
        InputError: the folder can't be written.
    """
    asked = list(dict.fromkeys(image_id for question in questions for image_id in question.pair))
    limit = int(np.interp(len(questions), QUESTIONS, BYTES))
    album = _Album.of(catalogue, recipe, out)
    allowance = int(limit * ASKED_SHARE / len(asked))
    photos = {
        image_id: album.photo(image_id, allowance) for image_id in track(asked, "drawing the photographs asked about")
    }
    free = int(limit * OTHERS_SHARE) - sum(map(_bytes_of, photos.values()))
    shown = [_shown(question) for question in questions]
    for image_id in dict.fromkeys(one for sides in shown for side in sides for one in side if one not in photos):
        photo = album.photo(image_id, allowance)
        if (free := free - _bytes_of(photo)) < 0:
            break
        photos[image_id] = photo
    matches = _matches(catalogue, recipe, asked, questions)
    data = {
        **{"format": FORMAT, "version": VERSION, "fingerprint": fingerprint_of(catalogue, asked), "asked": asked},
        "photos": photos,
        "questions": [
            _content(question, sides, photos, pairs)
            for question, sides, pairs in zip(questions, shown, matches, strict=True)
        ],
    }
    with atomic_path(out / "review.html") as temporary:
        temporary.write_text(_page(catalogue.root.resolve().name, data), "utf-8")
    return out / "review.html"


def _page(title: str, data: Mapping[str, Any]) -> str:
    style = render({}, "review.css.j2", __package__)
    script = files(__package__).joinpath("review.js").read_text("utf-8")
    hashes = {
        name: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for name, text in (("style", style), ("script", script))
    }
    content = {"title": title, "version": __version__, "hashes": hashes, "style": style, "script": script}
    return render({**content, "data": _as_text(data)}, "review.html.j2", __package__)


def _as_text(data: Mapping[str, Any]) -> str:
    """Return JSON that ends no script element, whatever the names in it are."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _shown(question: Question) -> list[tuple[str, ...]]:
    """Return the other photographs of either side that are shown if the page can hold them."""
    return [some[:OTHERS] for some in question.others]


def _content(
    question: Question, sides: Sequence[Sequence[str]], photos: Mapping[str, Any], matches: list[list[int]]
) -> dict[str, Any]:
    others = [[image_id for image_id in side if image_id in photos] for side in sides]
    depend = "one pair of photographs depends" if question.size == 1 else f"{question.size} pairs of photographs depend"
    return {
        "pair": question.pair,
        "title": TITLES[question.mode].format(names=question.names),
        "why": f"{question.dataset}: {depend} on it",
        "names": question.names,
        "others": others,
        "left": [len(every) - len(some) for every, some in zip(question.others, others, strict=True)],
        "drawn": question.drawn,
        "matches": matches,
    }


def _bytes_of(photo: Mapping[str, Any]) -> int:
    return len(json.dumps(photo))


@dataclass(frozen=True)
class _Album:
    """What the page says of each photograph.

    Attributes:
        root: the data folder.
        out: the page's folder.
        rows: by image_id, its row of the table.
        views: by image_id, how it is turned, and which part of it is shown.
    """

    root: Path
    out: Path
    rows: Mapping[str, Mapping[str, Any]]
    views: Mapping[str, View]

    @classmethod
    def of(cls, catalogue: Catalogue, recipe: Recipe, out: Path) -> "_Album":
        rows = {str(row["image_id"]): row for row in catalogue.table.to_dict("records")}
        views = dict(zip(catalogue.image_ids, views_of(catalogue, recipe), strict=True))
        return cls(
            catalogue.root, out, {name: {str(key): row[key] for key in row} for name, row in rows.items()}, views
        )

    def photo(self, image_id: str, most: int) -> dict[str, Any]:
        """Return a photograph with its preview, of so many bytes if one of `QUALITIES` allows it."""
        row, view = self.rows[image_id], self.views[image_id]
        path = self.root / row["path"]
        facts = [*(str(row.get(name, "")) for name in ("date", "place", "orientation")), path.name]
        photo = {
            "facts": " \u00b7 ".join(filter(None, facts)),
            "turn": view.turn,
            "problem": "",
            "original": "" if view.crop else self._link(path),  # the whole photograph would show other animals
        }
        try:
            picture = upright(path, PREVIEW, view)
        except UnreadableError as problem:
            return {**photo, "width": 4, "height": 3, "preview": "", "original": "", "problem": str(problem)}
        return {**photo, "width": picture.width, "height": picture.height, "preview": _as_uri(picture, most)}

    def _link(self, path: Path) -> str:
        """Return where the page finds the original; "" where no relative path leads there, as between two drives."""
        try:
            return quote(os.path.relpath(path.absolute(), self.out.absolute()).replace(os.sep, "/"))
        except ValueError:
            return ""


def _as_uri(picture: Any, most: int) -> str:
    for quality in QUALITIES:
        written = io.BytesIO()
        picture.save(written, "JPEG", quality=quality)
        uri = "data:image/jpeg;base64," + base64.b64encode(written.getvalue()).decode()
        if len(uri) <= most:
            break
    return uri


def _matches(
    catalogue: Catalogue, recipe: Recipe, asked: Sequence[str], questions: Sequence[Question]
) -> list[list[list[int]]]:
    """Return the keypoints that both photographs of each question share: x and y on the one and on the other, in
    thousandths of the longer sides."""
    found = keypoints_to_show(catalogue, recipe, asked)
    places = {image_id: place for place, image_id in enumerate(asked)}
    points = [found[image_id] for image_id in asked]
    shortlists = [np.array([places[question.pair[1]]]) for question in questions]
    verified = verify([found[question.pair[0]] for question in questions], points, shortlists, recipe.matching)
    inliers = [row[0].pairs[row[0].inlier][:MATCHES] for row in verified]
    return [np.rint(some.reshape(-1, 4) * 1000).astype(int).tolist() for some in inliers]
