"""Rows that share a photograph are different animals: no two of them get the same name."""

from collections.abc import Collection, Mapping

import pandas as pd

from reid.data.boxes import photograph_keys
from reid.data.spelling import name_key

__all__ = ["also_refused", "keep_apart", "most_neighbours"]


def most_neighbours(rows: pd.DataFrame) -> int:
    """Return how many other animals a row has on its photograph at most, known ones and queries; 0 without boxes.

    Args:
        rows: query rows of a catalogue's table.
    """
    if "beside" not in rows or rows.empty:
        return 0
    return int((rows["beside"].map(len) + photograph_keys(rows).map(photograph_keys(rows).value_counts())).max()) - 1


def keep_apart(
    candidates: pd.DataFrame,
    rows: pd.DataFrame,
    datasets: Mapping[str, str],
    limits: Mapping[str, float],
    k: int,
    confirmed: Collection[str] = (),
) -> pd.DataFrame:
    """Return the candidates of queries without those that other animals on the same photograph are: known ones, and
    those that are named by a more similar query. A query that loses its best candidate goes on to the next.

    Args:
        candidates: see `Matches.candidates`.
        rows: the queries' rows of a catalogue's table.
        datasets: by image_id, whose gallery was searched.
        limits: by dataset, the threshold below which a query is named.
        k: how many candidates of each query are kept.
        confirmed: the image_ids of queries that a person has named: their best candidate may be somebody else, and
            takes no name away.
    """
    photograph = dict(zip(rows["image_id"], photograph_keys(rows), strict=True))
    beside = dict(zip(rows["image_id"], rows["beside"], strict=True)) if "beside" in rows else {}
    taken = {
        (photograph[image_id], dataset, name_key(name)) for image_id, names in beside.items() for dataset, name in names
    }
    known, named, kept = set(taken), set(confirmed), list[int]()
    for row in candidates.sort_values(["dissimilarity", "image_id", "rank"]).itertuples():
        image_id, dataset = str(row.image_id), datasets[str(row.image_id)]
        animal = photograph[image_id], dataset, name_key(str(row.candidate))
        if animal in known or (animal in taken and image_id not in named):
            continue
        kept.append(int(str(row.Index)))
        if image_id not in named and float(str(row.dissimilarity)) < limits.get(dataset, float("-inf")):
            named.add(image_id)
            taken.add(animal)
    left = candidates.loc[sorted(kept)]
    left = left.assign(rank=left.groupby("image_id").cumcount() + 1)
    return left[left["rank"] <= k].reset_index(drop=True)


def also_refused(
    refused: Mapping[str, set[str]], rows: pd.DataFrame, confirmed: Mapping[str, str]
) -> dict[str, set[str]]:
    """Return the individuals that queries do not show, with those that a person saw elsewhere on their photographs.

    Args:
        refused: by image_id, what is known already.
        rows: the queries' rows of a catalogue's table.
        confirmed: by image_id, the individual that a person said it shows.
    """
    photograph = dict(zip(rows["image_id"], photograph_keys(rows), strict=True)) if confirmed else {}
    every = {image_id: set(names) for image_id, names in refused.items()}
    seen: dict[str, list[tuple[str, str]]] = {}
    for other, name in confirmed.items():
        if other in photograph:
            seen.setdefault(photograph[other], []).append((other, name))
    for image_id, key in photograph.items():
        if elsewhere := {name for other, name in seen.get(key, ()) if other != image_id}:
            every[image_id] = every.get(image_id, set()) | elsewhere
    return every
