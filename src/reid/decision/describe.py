"""What a person should know of matches and clusters: results as lines, and warnings in the log."""

import logging
from collections import Counter
from collections.abc import Iterator

import pandas as pd

from reid.data.catalogue import NEW_INDIVIDUAL
from reid.decision.decide import has_shifted
from reid.decision.discovered import Clusters, Cut
from reid.decision.matches import Matches
from reid.runtime.files import ALIKE, first_of, unquoted

__all__ = ["describe_clusters", "describe_matches"]

log = logging.getLogger(__name__)


def describe_matches(matches: Matches) -> list[str]:
    """Return a line for each dataset with the share called new, and one for the classifier's disagreement; warn of
    datasets without a gallery or in which nobody can be told apart, of shifted ones and of photographs that can't be
    read."""
    _warn_of_missing_galleries(matches)
    _warn_of_unmatchable(matches)
    _warn_of_shifts(matches)
    _warn_of_unreadable(matches.queries)
    return [*_shares(matches), *_disagreement(matches)]


def _shares(matches: Matches) -> Iterator[str]:
    """Yield how many queries of each dataset were called new."""
    for dataset, new in matches.share_new().items():
        hint = "; if some are known, look at the expected score, and at the nearest ones in the report"
        flags = matches.queries["flags"][matches.queries["dataset"] == dataset]
        count, alone = len(flags), int(flags.str.contains("no_candidates").sum())
        words = f", {alone} with nothing to compare (no_candidates)" if alone else ""
        confirmed = int(flags.str.contains("confirmed").sum())
        words += f", {confirmed} named by answers (confirmed)" if confirmed else ""
        yield f"{dataset}: {count} queries, {new:.0%} called new{words}{hint if new == 1 and count > 1 else ''}"


def _disagreement(matches: Matches) -> Iterator[str]:
    """Yield where the species classifier, if there is one, differs from the column dataset."""
    searched = matches.queries[~matches.queries["flags"].str.contains("no_gallery")]
    if not (searched["species"] != "").any():
        return
    differ = searched[(searched["column"] != "") & (searched["species"] != searched["column"])]
    pairs = Counter(zip(differ["column"], differ["species"], strict=True))
    detail = "; ".join(f"{count} of {column} taken for {species}" for (column, species), count in pairs.most_common())
    advice = "" if matches.route == "column" else "; --route column trusts the column"
    detail = f": {detail}{advice}" * bool(detail)
    yield f"species classifier and dataset column differ on {len(differ)} of {len(searched)} queries{detail}"


def _warn_of_missing_galleries(matches: Matches) -> None:
    missing = matches.queries[matches.queries["flags"].str.contains("no_gallery")]
    if len(missing):
        counts = ", ".join(f"{name} ({count})" for name, count in missing["dataset"].value_counts().items())
        log.warning(
            f"these weights know no photograph of {counts}: nobody can be named there, so these queries are called "
            f"{NEW_INDIVIDUAL}. Add known photographs and train again, or correct the column dataset"
        )


def _warn_of_unmatchable(matches: Matches) -> None:
    for dataset, cause in matches.unmatchable.items():
        if count := int((matches.queries["dataset"] == dataset).sum()):
            log.warning(
                f"{dataset}: nobody can be named there, so these queries ({count}) are called {NEW_INDIVIDUAL}: "
                f"{cause}, then enroll and calibrate"
            )


def _warn_of_shifts(matches: Matches) -> None:
    for dataset, shift in matches.shifts.items():
        if has_shifted(shift, int((matches.queries["dataset"] == dataset).sum())):
            log.warning(
                f"{dataset}: the queries match otherwise than the known photographs among themselves, on which the "
                f"threshold was fitted (by {shift:.2f}; 0 is alike, 1 nothing in common): the expected score may not "
                "hold. Were they taken by another camera, at another place or season, or from another side? Add some "
                "of them whose animal you know to the database, then enroll and calibrate"
            )


def _warn_of_unreadable(queries: pd.DataFrame) -> None:
    unreadable = queries[queries["problem"] != ""]
    for _, rows in unreadable.groupby(unreadable["problem"].map(unquoted), sort=False):
        told = list(zip(rows["image_id"], rows["problem"], strict=True))
        if len(told) > ALIKE:
            told = [(first_of(list(rows["image_id"])), f"the first: {told[0][1]}")]
        for name, problem in told:
            log.warning(f"image_id {name} can't be read ({problem}): called {NEW_INDIVIDUAL}")


def describe_clusters(clusters: Clusters) -> list[str]:
    """Return lines for each dataset: how many clusters, what is expected of the cut, and who is known; warn of what the
    cut could not be fitted on, and of photographs that can't be read."""
    lines = []
    for dataset, rows in clusters.photographs.groupby("dataset"):
        cut = clusters.cuts[str(dataset)]
        sizes = rows["cluster"].value_counts()
        lines.append(
            f"{dataset}: {len(rows)} photographs, {len(sizes)} clusters, {int((sizes == 1).sum())} of one photograph; "
            f"{_named(rows)}"
        )
        lines.append(f"  {_expected(cut)}")
        lines += [f"  {note}" for note in cut.notes]
        unreadable = rows[rows["flags"].str.contains("unreadable")]
        if len(unreadable):
            names = first_of(list(unreadable["image_id"]))
            log.warning(f"{dataset}: {len(unreadable)} photographs can't be read, each is alone: image_id {names}")
    return lines


def _named(rows: pd.DataFrame) -> str:
    known = rows[rows["identity"] != ""]
    if known.empty:
        return "nobody known among them"
    return f"{len(known)} photographs are of {known['identity'].nunique()} known individuals"


def _expected(cut: Cut) -> str:
    """Say how the cut was found and what is expected of it."""
    if cut.score is None or cut.interval is None:
        return (
            f"cut {cut.value:.3f}, the kit's own: there are too few photographs or known individuals to fit it on, "
            "so nothing is known of how good it is; look at the clusters, and answer some pairs in pairs.csv"
        )
    fitted = f"by ranks of {', '.join(cut.borrowed)} together, " if cut.borrowed else ""
    density = (
        f"about {cut.companions:.1f} other photographs of its animal per photograph, {cut.fitted_companions:.1f} where "
        "the cut was fitted"
    )
    low, high = cut.interval
    return (
        f"expected ARI {cut.score:.2f} ({low:.2f} to {high:.2f}) at cut {cut.value:.3f}, fitted {fitted}on "
        f"{cut.individuals} known individuals; {density}"
    )
