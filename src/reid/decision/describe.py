"""What a person should know of matches, as log lines."""

import logging
from collections import Counter

import pandas as pd

from reid.data.catalogue import NEW_INDIVIDUAL
from reid.decision.decide import has_shifted
from reid.decision.matches import Matches
from reid.runtime.files import ALIKE, first_of

__all__ = ["describe_matches"]

log = logging.getLogger(__name__)


def describe_matches(matches: Matches) -> None:
    """Report the shares called new, datasets without a gallery, shifted datasets, the classifier's disagreement and
    photographs that can't be read."""
    _describe_shares(matches)
    _describe_missing_galleries(matches)
    _describe_shifts(matches)
    _describe_routes(matches)
    _describe_unreadable(matches.queries)


def _describe_shares(matches: Matches) -> None:
    for dataset, new in matches.share_new().items():
        hint = "; if some are known, look at the expected score, and at the nearest ones in the report"
        count = int((matches.queries["dataset"] == dataset).sum())
        log.info(f"  {dataset}: {count} queries, {new:.0%} called new{hint if new == 1 and count > 1 else ''}")


def _describe_missing_galleries(matches: Matches) -> None:
    missing = matches.queries[matches.queries["flags"].str.contains("no_gallery")]
    if len(missing):
        counts = ", ".join(f"{name} ({count})" for name, count in missing["dataset"].value_counts().items())
        log.warning(
            f"these weights know no photograph of {counts}: nobody can be named there, so these queries are called "
            f"{NEW_INDIVIDUAL}. Add known photographs and train again, or correct the column dataset"
        )


def _describe_shifts(matches: Matches) -> None:
    for dataset, shift in matches.shifts.items():
        if has_shifted(shift, int((matches.queries["dataset"] == dataset).sum())):
            log.warning(
                f"{dataset}: the queries match otherwise than the known photographs among themselves, on which the "
                f"threshold was fitted (by {shift:.2f}; 0 is alike, 1 nothing in common): the expected score may not "
                "hold. Were they taken by another camera, at another place or season, or from another side? Add some "
                "of them whose animal you know to the database, then enroll and calibrate"
            )


def _describe_routes(matches: Matches) -> None:
    """Report where the species classifier, if there is one, differs from the column dataset."""
    searched = matches.queries[~matches.queries["flags"].str.contains("no_gallery")]
    if not (searched["species"] != "").any():
        return
    differ = searched[(searched["column"] != "") & (searched["species"] != searched["column"])]
    pairs = Counter(zip(differ["column"], differ["species"], strict=True))
    detail = "; ".join(f"{count} of {column} taken for {species}" for (column, species), count in pairs.most_common())
    advice = "" if matches.route == "column" else "; --route column trusts the column"
    detail = f": {detail}{advice}" * bool(detail)
    log.info(f"  species classifier and dataset column differ on {len(differ)} of {len(searched)} queries{detail}")


def _describe_unreadable(queries: pd.DataFrame) -> None:
    for problem, rows in queries[queries["problem"] != ""].groupby("problem", sort=False):
        names = list(rows["image_id"])
        for name in [first_of(names)] if len(names) > ALIKE else names:
            log.warning(f"image_id {name} can't be read ({problem}): called {NEW_INDIVIDUAL}")
