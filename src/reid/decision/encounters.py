"""Encounters: queries of one burst show one animal, and are answered together.

An individual's dissimilarity to an encounter is the mean over its photographs, as with the clusters of `attach`. Rows
that share a photograph show several animals: nobody knows who is who on the next one, so each is answered by itself.
"""

from collections.abc import Mapping
from datetime import datetime

import pandas as pd

from reid.data.boxes import photograph_keys
from reid.data.dates import read_moments
from reid.data.spelling import name_key
from reid.decision.attach import votes_of_clusters

__all__ = ["CANDIDATES", "answered_together", "find_encounters"]

CANDIDATES = 20
"""Individuals that each photograph of an encounter votes for."""


def find_encounters(rows: pd.DataFrame, minutes: float) -> dict[str, int]:
    """Return a number of the encounter by image_id, for the queries that share one.

    Args:
        rows: the queries' rows of a catalogue's table. Those of one dataset share an encounter by the same cell
            `encounter`; or else by the same `place`, where each was taken at most so many minutes after the one before.
        minutes: 0 for no encounters at all.
    """
    if not minutes:
        return {}
    keys = pd.Series("", rows.index, object)
    if "place" in rows:
        keys = _bursts(rows, minutes)
    if "encounter" in rows:
        named = rows["encounter"].str.strip()
        keys = keys.where(named == "", "encounter " + named)
    groups = rows["dataset"].str.cat(keys, sep="\n").where(keys != "", "")
    photographs = photograph_keys(rows)
    shared = photographs.duplicated(keep=False).groupby(groups).transform("any")
    usable = (groups != "") & ~shared & groups.duplicated(keep=False)
    numbers = pd.factorize(groups[usable])[0]
    return dict(zip(rows["image_id"][usable], numbers.tolist(), strict=True))


def _bursts(rows: pd.DataFrame, minutes: float) -> pd.Series:
    """Return a key per burst; "" where place or moment is not known."""
    moments, places = read_moments(rows["date"], rows["day"]), rows["place"].map(name_key)
    keys: dict[object, str] = {}
    known = rows[(moments != "") & (places != "")]
    for (_, place), some in known.groupby([known["dataset"], places[known.index]]):
        times = moments[some.index].map(lambda moment: datetime.fromisoformat(moment).replace(tzinfo=None))
        times = times.sort_values(kind="stable")
        first = times.diff() > pd.Timedelta(minutes=minutes)
        keys |= {row: f"burst {number} {place}" for row, number in first.cumsum().items()}
    return pd.Series([keys.get(row, "") for row in rows.index], rows.index, object)


def answered_together(
    candidates: pd.DataFrame, encounters: Mapping[str, int], datasets: Mapping[str, str]
) -> pd.DataFrame:
    """Return the candidates of queries; those of one encounter have the same, by the mean of their dissimilarities.

    Args:
        candidates: see `Matches.candidates`; a query without any has none of its encounter's either.
        encounters: see `find_encounters`.
        datasets: by image_id, whose gallery was searched: encounters over several are divided.
    """
    group = {image_id: f"{number} {datasets[image_id]}" for image_id, number in encounters.items()}
    votes = votes_of_clusters(candidates, pd.Series(group, dtype=object))
    nearest = candidates.assign(cluster=candidates["image_id"].map(group)).sort_values("dissimilarity", kind="stable")
    nearest = nearest.drop_duplicates(["cluster", "candidate"])[["cluster", "candidate", "candidate_image_id"]]
    votes = votes.merge(nearest, on=["cluster", "candidate"])
    votes = votes.assign(rank=votes.groupby("cluster").cumcount() + 1)
    asked = candidates[["image_id"]].drop_duplicates()
    together = asked.assign(cluster=asked["image_id"].map(group)).merge(votes, on="cluster")
    alone = candidates[~candidates["image_id"].isin(list(group))]
    return pd.concat([alone, together[list(candidates.columns)]], ignore_index=True)
