"""Matches: the individuals that each query photograph may show, the most similar first, and the answer.

`predict` returns them. NAME.matches.csv next to a submission NAME.csv holds the same for other tools and for `score`:
the columns `MATCH_COLUMNS`, one row per candidate.
"""

import logging
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from reid.data.catalogue import NEW_INDIVIDUAL, Catalogue
from reid.data.photographs import UnreadableError, View, open_photograph
from reid.errors import InputError
from reid.runtime.files import is_file, read_table, write_table

__all__ = ["FLAGS", "MATCH_COLUMNS", "TOP_K", "Matches", "matches_path", "read_matches", "read_matches_next_to"]

log = logging.getLogger(__name__)

TOP_K = 5
"""Candidates per query, where nobody asks for another number."""

MATCH_COLUMNS = (
    *("image_id", "dataset", "rank", "candidate", "candidate_image_id", "dissimilarity", "probability"),
    *("threshold", "answer", "flags"),
)

FLAGS = {
    "unreadable": "the photograph can't be read",
    "no_gallery": "there is no known photograph of its dataset",
    "no_candidates": "nothing on it can be compared with a known photograph",
    "rerouted": "the gallery of another dataset than that of its column was searched",
    "shifted": "its dataset's queries match otherwise than the photographs that the threshold was fitted on",
    "confirmed": "a person's answers say who it is",
}
"""The words of the column flags, and what they mean."""

CAPTION = 34
"""Pixels below a photograph in a picture: two lines of 11."""


@dataclass(frozen=True)
class Matches:
    """The candidates and the answer of every query.

    Attributes:
        queries: one row per query, in the submission's order: image_id, column (its dataset cell), species (what the
            classifier says, "" without one), dataset (whose gallery was searched), problem (why the photograph can't be
            read, else ""), threshold (NaN without a gallery), answer (the submission's cell) and flags (words of
            `FLAGS`, separated by blanks).
        candidates: one row per candidate, up to k individuals of each query in the order of their dissimilarity:
            image_id (the query's), rank (1 for the most similar), candidate (the individual), candidate_image_id (its
            photograph that speaks most for it), dissimilarity (the scorer's) and probability (NaN where the scorer
            gives none). A query with nothing to compare has no row.
        route: how the encoder was chosen.
        shifts: by dataset, how far its queries' dissimilarities are from those that the threshold was fitted on, see
            `calibrate.distribution_shift`.
        unmatchable: by dataset, why its known photographs tell nobody apart, see `Calibration.unmatchable`.
    """

    queries: pd.DataFrame
    candidates: pd.DataFrame
    route: str
    shifts: dict[str, float]
    unmatchable: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of queries."""
        return len(self.queries)

    @property
    def submission(self) -> pd.DataFrame:
        """Columns image_id, identity: the rows to hand in."""
        return self.queries[["image_id", "answer"]].rename(columns={"answer": "identity"}).reset_index(drop=True)

    @property
    def wide(self) -> pd.DataFrame:
        """One row per query: the columns of `queries`, and of its two best candidates identity, distance (the
        dissimilarity; inf without a candidate), photograph, runner_up and runner_up_dissimilarity."""
        first, second = (self._ranked(rank) for rank in (1, 2))
        return self.queries.reset_index(drop=True).assign(
            identity=first["candidate"].fillna(""),
            distance=first["dissimilarity"].fillna(float("inf")),
            photograph=first["candidate_image_id"].fillna(""),
            runner_up=second["candidate"].fillna(""),
            runner_up_dissimilarity=second["dissimilarity"].fillna(float("inf")),
        )

    def _ranked(self, rank: int) -> pd.DataFrame:
        """Return the candidate of that rank of every query, NaN where there is none."""
        return self.queries[["image_id"]].merge(self.candidates[self.candidates["rank"] == rank], how="left")

    def share_new(self) -> dict[str, float]:
        """Return, per dataset, the share of its queries that were called new."""
        called_new = self.queries["answer"] == NEW_INDIVIDUAL
        return {str(name): float(share) for name, share in called_new.groupby(self.queries["dataset"]).mean().items()}

    def to_frame(self) -> pd.DataFrame:
        """Return the columns `MATCH_COLUMNS`, one row per candidate; a query without one has a row of rank 1."""
        columns = ["image_id", "dataset", "threshold", "answer", "flags"]
        table = self.queries[columns].merge(self.candidates, on="image_id", how="left")
        table = table.fillna({"rank": 1, "candidate": "", "candidate_image_id": ""})
        return table.astype({"rank": int})[list(MATCH_COLUMNS)]

    def save(self, path: Path | str) -> None:
        """Write the submission NAME.csv, and the candidates next to it as NAME.matches.csv.

        Raises:
            InputError: the folder can't be written.
        """
        write_table(matches_path(path), self.to_frame())
        write_table(Path(path), self.submission)

    def picture(self, catalogue: Catalogue, image_id: str, size: int = 224) -> Image.Image:
        """Draw a query next to its candidates.

        Args:
            catalogue: the data folder with the photographs.
            image_id: the query.
            size: pixels on a side of each photograph.

        Returns:
            The query and its answer on the left, then each candidate with its dissimilarity.

        Raises:
            InputError: no query has that image_id.
        """
        rows = self.to_frame()
        rows = rows[rows["image_id"] == image_id]
        if rows.empty:
            some = ", ".join(self.queries["image_id"][:5])
            raise InputError(f"image_id {image_id}: expected one of the {len(self)} queries, such as {some}")
        views = [View(size, "pad", crop=crop) for crop in catalogue.crops]
        files = dict(zip(catalogue.image_ids, zip(catalogue.paths, views, strict=True), strict=True))
        cells = [_captioned(files.get(image_id), size, f"{image_id}\n{rows['answer'].iloc[0]}")]
        for row in rows[rows["candidate"] != ""].itertuples():
            caption = f"{row.rank}. {row.candidate}\n{row.dissimilarity:.3f}, threshold {row.threshold:.3f}"
            cells.append(_captioned(files.get(str(row.candidate_image_id)), size, caption))
        picture = Image.new("RGB", (size * len(cells), size + CAPTION), "white")
        for place, cell in enumerate(cells):
            picture.paste(cell, (place * size, 0))
        return picture


def _captioned(file: tuple[Path, View] | None, size: int, caption: str) -> Image.Image:
    """Return a photograph above two lines of words; grey where it can't be opened or is not in the data folder."""
    cell = Image.new("RGB", (size, size + CAPTION), "white")
    try:
        if file is None:
            raise UnreadableError("not in this data folder")
        cell.paste(Image.fromarray(open_photograph(*file)))
    except UnreadableError as problem:
        cell.paste("#e4e6e8", (0, 0, size, size))
        ImageDraw.Draw(cell).text((6, 6), str(problem)[:40], fill="#50565c")
    ImageDraw.Draw(cell).multiline_text((4, size + 2), caption, fill="black", font=ImageFont.load_default(11))
    return cell


def matches_path(submission: Path | str) -> Path:
    """Return where the matches of a submission lie: NAME.csv -> NAME.matches.csv."""
    path = Path(submission)
    return path.with_name(f"{path.name.removesuffix('.csv')}.matches.csv")


def read_matches(path: Path) -> pd.DataFrame:
    """Read NAME.matches.csv as `Matches.to_frame` gave it.

    Raises:
        InputError: no such file, no CSV with its columns, or a cell that should be a number and is none.
    """
    table = read_table(path, MATCH_COLUMNS)
    for column in ("rank", "dissimilarity", "probability", "threshold"):
        numbers = pd.to_numeric(table[column], errors="coerce")
        wrong = numbers.isna() & ((table[column] != "") | (column == "rank"))
        if wrong.any():
            row = int(wrong.to_numpy().argmax())
            raise InputError(
                f"{path}: row {row + 2}, column {column}: expected a number, found {table[column].iloc[row]!r}; "
                "write the file again with `reid predict`"
            )
        table[column] = numbers
    for column in ("rank", "candidate"):
        doubled = table.duplicated(["image_id", column])
        if doubled.any():
            row = int(doubled.to_numpy().argmax())
            raise InputError(
                f"{path}: row {row + 2}: expected every {column} of image_id {table['image_id'].iloc[row]} once, found "
                f"{table[column].iloc[row]} again; write the file again with `reid predict`"
            )
    return table


def read_matches_next_to(path: Path, submission: pd.DataFrame) -> pd.DataFrame | None:
    """Read the matches next to a submission; None, with a warning, where they do not belong to it.

    Args:
        path: the submission's file.
        submission: its rows, columns image_id and identity.

    Returns:
        See `read_matches`; None also where there is no such file.
    """
    place = matches_path(path)
    if not is_file(place):
        return None
    try:
        matches = read_matches(place)
    except InputError as problem:
        log.warning("%s; it is not used", problem)
        return None
    answers = matches[["image_id", "answer"]].drop_duplicates()
    given = submission[["image_id", "identity"]].set_axis(["image_id", "answer"], axis=1)
    if set(answers.itertuples(index=False, name=None)) != set(given.itertuples(index=False, name=None)):
        log.warning(
            "%s: its answers are not those of %s, so it belongs to another submission and is not used; run `reid "
            "predict` again to write both",
            place,
            path.name,
        )
        return None
    return matches
