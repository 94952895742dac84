"""From candidates to answers: whose dissimilarity is below the dataset's threshold is named, everybody else is new."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from reid.data.catalogue import NEW_INDIVIDUAL
from reid.decision.calibration import Calibration, distribution_shift
from reid.decision.matches import Matches

__all__ = ["decide", "has_shifted", "join_matches"]

SHIFT = 0.1
"""How far the queries' dissimilarities may be from the calibrated ones before it is reported, beyond what chance
explains in so many queries (the Kolmogorov-Smirnov distance of N values exceeds 1.6 / sqrt(N) in one of a hundred
cases)."""


def decide(
    queries: pd.DataFrame, candidates: pd.DataFrame, calibrations: Mapping[str, Calibration], route: str
) -> Matches:
    """Answer every query: the best candidate where its dissimilarity is below the threshold, else new.

    Args:
        queries: columns image_id, column, species, dataset, problem, see `Matches`; the others are made here.
        candidates: columns image_id, rank, candidate, candidate_image_id, dissimilarity; `probability` is made here.
        calibrations: by dataset; a dataset without one has no gallery, and its queries are called new.
        route: how the encoder was chosen.
    """
    best = candidates[candidates["rank"] == 1].set_index("image_id")
    nearest = queries["image_id"].map(best["dissimilarity"]).astype(float)
    limits = queries["dataset"].map({name: one.threshold.value for name, one in calibrations.items()}).astype(float)
    named = (nearest < limits) & (queries["problem"] == "")
    answers = queries["image_id"].map(best["candidate"]).where(named, NEW_INDIVIDUAL)
    shifts = _shifts(queries, nearest, calibrations)
    flags = _flags(queries, nearest, calibrations, shifts)
    decided = queries.assign(threshold=limits, answer=answers, flags=flags)
    probabilities = _probabilities(decided, candidates, calibrations)
    unmatchable = {name: one.unmatchable for name, one in calibrations.items() if one.unmatchable}
    return Matches(decided, candidates.assign(probability=probabilities), route, shifts, unmatchable)


def _shifts(queries: pd.DataFrame, nearest: pd.Series, calibrations: Mapping[str, Calibration]) -> dict[str, float]:
    """See `Matches.shifts`."""
    readable = nearest[queries["problem"] == ""].groupby(queries["dataset"])
    return {
        str(dataset): distribution_shift(values.to_numpy(float), calibrations[str(dataset)])
        for dataset, values in readable
        if dataset in calibrations
    }


def has_shifted(shift: float, queries: int) -> bool:
    """Return whether so many queries' dissimilarities are so far from the calibrated ones that it must be reported."""
    return queries > 0 and shift > SHIFT + 1.6 / queries**0.5


def _flags(
    queries: pd.DataFrame, nearest: pd.Series, calibrations: Mapping[str, Calibration], shifts: Mapping[str, float]
) -> pd.Series:
    """Return the words of `matches.FLAGS` that hold for each query."""
    dataset, column = queries["dataset"], queries["column"]
    sizes = dataset.value_counts()
    shifted = [name for name, shift in shifts.items() if has_shifted(shift, int(sizes[name]))]
    unreadable, no_gallery = queries["problem"] != "", ~dataset.isin(list(calibrations))
    holds = {
        "unreadable": unreadable,
        "no_gallery": no_gallery,
        "no_candidates": nearest.isna() & ~unreadable & ~no_gallery,
        "rerouted": (column != "") & (column != dataset),
        "shifted": dataset.isin(shifted),
    }
    words = pd.DataFrame({word: rows.map({True: word, False: ""}) for word, rows in holds.items()}, index=queries.index)
    return pd.Series([" ".join(filter(None, row)) for row in words.to_numpy()], index=queries.index, dtype=object)


def _probabilities(
    queries: pd.DataFrame, candidates: pd.DataFrame, calibrations: Mapping[str, Calibration]
) -> pd.Series:
    """Return the fitted probability of each candidate, those of a query together at most 1; where none was fitted,
    1 - dissimilarity if the dataset's scorer gives probabilities, else NaN."""
    by_scorer = [name for name, one in calibrations.items() if one.scorer.gives_probability]
    dataset = candidates["image_id"].map(queries.set_index("image_id")["dataset"])
    probability = (1 - candidates["dissimilarity"]).clip(0, 1).where(dataset.isin(by_scorer))
    for name, one in calibrations.items():
        if one.probability:
            own = candidates[dataset == name]
            alone = pd.Series(one.probability.of(own["dissimilarity"].to_numpy(float)), index=own.index)
            better = alone.groupby(own["image_id"]).cumsum() - alone
            probability.loc[own.index] = np.minimum(alone, (1 - better).clip(0, 1))
    return probability


def join_matches(parts: Sequence[Matches], calibrations: Mapping[str, Calibration]) -> Matches:
    """Return the matches of several parts of the queries as one."""
    queries = pd.concat([part.queries for part in parts], ignore_index=True)
    candidates = pd.concat([part.candidates for part in parts if len(part.candidates)] or [parts[0].candidates])
    return decide(queries, candidates.reset_index(drop=True), calibrations, parts[0].route)
