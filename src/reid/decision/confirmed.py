"""What answers about pairs of photographs say of queries: whom they show, and whom they do not.

An answer counts for all photographs that must-links join with either of the two, see `links`, and for the individuals
on them, as metadata.csv or a gallery names these: photographs of enrolled clusters are queries there.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import pandas as pd

from reid.decision.links import Links
from reid.decision.matches import Matches
from reid.runtime.files import first_of

__all__ = ["Confirmed", "Said", "said_of_queries", "with_confirmed", "without_refused"]

log = logging.getLogger(__name__)


class Confirmed(NamedTuple):
    """Whom a query shows."""

    individual: str
    image_id: str
    """One of its photographs, if there is one that an answer compares with the query itself."""


@dataclass(frozen=True)
class Said:
    """What answers say of queries.

    Attributes:
        refused: by a query's image_id, the individuals that it does not show.
        confirmed: by a query's image_id, the individual that it shows.
    """

    refused: dict[str, set[str]] = field(default_factory=dict)
    confirmed: dict[str, Confirmed] = field(default_factory=dict)


def said_of_queries(
    queries: Iterable[str], links: Links, known: Mapping[str, str], enrolled: Mapping[str, str]
) -> Said:
    """Return what links say of some queries.

    Args:
        queries: their image_ids.
        links: see `links.read_links`, which refuses answers that make one query two individuals of the table.
        known: the individuals of the database photographs, by image_id.
        enrolled: those of the photographs in galleries. The table's count more where they differ; where photographs of
            several enrolled clusters are said to show one animal, the first in the alphabet counts, with a warning.
    """
    members, apart = defaultdict(list), defaultdict(set)
    for image_id, group in links.groups.items():
        members[group].append(image_id)
    for link in links.cannot:
        one, other = links.groups[link.a], links.groups[link.b]
        apart[one].add(other)
        apart[other].add(one)
    compared = {frozenset((link.a, link.b)) for link in links.must}
    said = Said()
    for query in queries:
        group = links.groups.get(query, -1)
        others = [image_id for one in apart.get(group, ()) for image_id in members[one] if image_id != query]
        if refused := {names[image_id] for names in (known, enrolled) for image_id in others if image_id in names}:
            said.refused[query] = refused
        joined = [image_id for image_id in members.get(group, ()) if image_id != query]
        joined.sort(key=lambda image_id: frozenset((query, image_id)) not in compared)
        for names in (known, enrolled):
            if individuals := sorted({names[image_id] for image_id in joined if image_id in names}):
                photograph = next(image_id for image_id in joined if names.get(image_id) == individuals[0])
                said.confirmed[query] = Confirmed(individuals[0], photograph)
                if len(individuals) > 1:
                    log.warning(
                        f"image_id {query}: answers make {first_of(individuals)} one animal; it is called "
                        f"{individuals[0]}. Run `reid discover` and enroll the clusters again"
                    )
                break
    return said


def without_refused(candidates: pd.DataFrame, refused: Mapping[str, set[str]], k: int) -> pd.DataFrame:
    """Return the first k candidates of each query, see `Matches.candidates`, without the individuals that it does not
    show; the ranks count from 1 again."""
    pairs = zip(candidates["image_id"], candidates["candidate"], strict=True)
    kept = candidates[[individual not in refused.get(query, ()) for query, individual in pairs]]
    kept = kept.assign(rank=kept.groupby("image_id", sort=False).cumcount() + 1)
    return kept[kept["rank"] <= k].reset_index(drop=True)


def with_confirmed(matches: Matches, confirmed: Mapping[str, Confirmed]) -> Matches:
    """Return the matches with the individuals that queries are known to show as their answers: rank 1, dissimilarity 0,
    probability 1, flag `confirmed`, whatever the networks say. The others follow, as many as before."""
    if not confirmed:
        return matches
    queries, candidates = matches.queries, matches.candidates
    sure = queries["image_id"].isin(list(confirmed))
    answers = [confirmed[image_id].individual for image_id in queries["image_id"][sure]]
    flags = [f"{words} confirmed".strip() for words in queries["flags"][sure]]
    queries = queries.assign(answer=queries["answer"].mask(sure), flags=queries["flags"].mask(sure))
    queries.loc[sure, "answer"], queries.loc[sure, "flags"] = answers, flags
    most = int(candidates["rank"].max()) if len(candidates) else 1
    first = pd.DataFrame(
        [(image_id, 1, *one, 0.0, 1.0) for image_id, one in confirmed.items()],
        columns=["image_id", "rank", "candidate", "candidate_image_id", "dissimilarity", "probability"],
    )
    pairs = zip(candidates["image_id"], candidates["candidate"], strict=True)
    others = candidates[[confirmed.get(query, ("",))[0] != individual for query, individual in pairs]]
    every = pd.concat([first, others], ignore_index=True) if len(others) else first
    place = {image_id: row for row, image_id in enumerate(queries["image_id"])}
    every = every.sort_values("image_id", key=lambda column: column.map(place), kind="stable", ignore_index=True)
    every = every.assign(rank=every.groupby("image_id", sort=False).cumcount() + 1)
    return replace(matches, queries=queries, candidates=every[every["rank"] <= most].reset_index(drop=True))
