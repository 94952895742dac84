"""The rows of a data folder with the names that exporters write: who it is, who says so, and how sure that is."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from reid.config.recipe import DataConfig
from reid.data.catalogue import NEW_INDIVIDUAL, Catalogue, find_cell_faults, read_rows
from reid.data.names import without_unknown
from reid.data.spelling import name_key
from reid.decision.answers import PAIRS, read_pairs
from reid.decision.discovered import CLUSTERS_COLUMNS, clusters_path
from reid.decision.links import Links, read_links
from reid.decision.matches import read_matches_next_to
from reid.errors import InputError
from reid.formats.merging import OPTIONAL
from reid.runtime.files import is_file, read_table

__all__ = ["METHODS", "Named", "describe_named", "read_named"]

log = logging.getLogger(__name__)

METHODS = {
    "metadata": "metadata.csv names it, as a person wrote it there",
    "person": "an answer in pairs.csv joins it with a photograph of that name",
    "predicted": "`reid predict` named it",
    "discovered": "`reid discover` put it into this cluster",
    "": "it has no name",
}
"""Where a name comes from."""


@dataclass(frozen=True)
class Named:
    """The rows of a data folder, with their names.

    Attributes:
        catalogue: the data folder.
        table: its rows, with all columns of `merging.OPTIONAL`, and name ("" for nobody), method (of `METHODS`),
            probability (NaN where it
            is not known), confirmed (whether a person said so) and confirmed_by (who, as far as pairs.csv tells).
    """

    catalogue: Catalogue
    table: pd.DataFrame

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.table)


def read_named(
    data: Path, answers: Path | None = None, pairs: Path | None = None, confirmed_only: bool = False
) -> Named:
    """Return the rows of a data folder with their names.

    Args:
        data: the folder.
        answers: what `predict` or `discover` wrote, NAME.csv; NAME.matches.csv or NAME.clusters.csv next to it has the
            probabilities. None for the names of metadata.csv and pairs.csv alone.
        pairs: what people said of pairs; None for pairs.csv in the folder, which need not be there.
        confirmed_only: leave out names that no person confirmed.

    Raises:
        InputError: a file can't be read, or has a fault.
    """
    catalogue = read_rows(data)
    if faults := find_cell_faults(catalogue):
        raise InputError(f"{data / 'metadata.csv'}: {faults[0]} (`reid check {data}` lists all faults)")
    catalogue = without_unknown(catalogue, DataConfig())
    absent = dict.fromkeys(set(OPTIONAL) - set(catalogue.table.columns), "")
    table = catalogue.table.assign(name=catalogue.table["identity"], probability=np.nan, **absent)
    table["method"] = table["name"].map(lambda name: "metadata" if name else "")
    table = _with_answers(table, answers) if answers else table
    table = _with_links(table, read_links(catalogue, pairs), _who(catalogue, pairs))
    if confirmed_only:
        table.loc[~table["confirmed"], ["name", "method", "confirmed_by"]] = ""
        table.loc[~table["confirmed"], "probability"] = np.nan
    return Named(catalogue, table)


def _with_answers(table: pd.DataFrame, answers: Path) -> pd.DataFrame:
    """Put the names of a submission into the rows that have none."""
    given = read_table(answers, ("image_id",))
    if not {"identity", "cluster"} & set(given.columns):
        raise InputError(
            f"{answers}: expected the columns image_id,identity of predict, or image_id,cluster of discover, found "
            f"{', '.join(given.columns)}; name the file that one of them wrote with --out"
        )
    strange = sorted(set(given["image_id"]) - set(table["image_id"]))
    if strange or given["image_id"].duplicated().any():
        doubled = given["image_id"][given["image_id"].duplicated()]
        found = f"{strange[0]!r}, which is not" if strange else f"{doubled.iloc[0]!r} twice"
        raise InputError(f"{answers}: expected an answer for photographs of metadata.csv, each once, found {found}")
    names = _predicted(answers, given) if "identity" in given else _discovered(answers, given)
    names = names.reindex(table["image_id"])
    open_rows = (table["name"] == "").to_numpy() & (names["name"].fillna("") != "").to_numpy()
    for column in ("name", "method", "probability"):
        table.loc[open_rows, column] = names[column].to_numpy()[open_rows]
    return table


def _predicted(path: Path, given: pd.DataFrame) -> pd.DataFrame:
    """Return by image_id the name, method and probability of a submission of names."""
    names = given.set_index("image_id")["identity"].replace(NEW_INDIVIDUAL, "")
    matches = read_matches_next_to(path, given)
    table = pd.DataFrame({"name": names, "method": "predicted", "probability": np.nan})
    if matches is not None:
        chosen = matches[matches["candidate"] == matches["answer"]].drop_duplicates("image_id").set_index("image_id")
        table["probability"] = chosen["probability"].reindex(table.index)
    return table


def _discovered(path: Path, given: pd.DataFrame) -> pd.DataFrame:
    """Return the same of a submission of clusters: the known individual, else the cluster."""
    table = pd.DataFrame(
        {"name": given.set_index("image_id")["cluster"], "method": "discovered", "probability": np.nan}
    )
    if not is_file(clusters_path(path)):
        return table
    more = read_table(clusters_path(path), CLUSTERS_COLUMNS).set_index("image_id").reindex(table.index)
    if (more["cluster"] != table["name"]).any():
        raise InputError(
            f"{clusters_path(path)}: expected the clusters of {path.name}, found others; run `reid discover` again to "
            "write both"
        )
    known = more["identity"] != ""
    table.loc[known, "name"] = more.loc[known, "identity"]
    table.loc[known, "probability"] = pd.to_numeric(more.loc[known, "probability"], errors="coerce")
    return table


def _who(catalogue: Catalogue, pairs: Path | None) -> dict[str, str]:
    """Return by image_id who said of the photograph that it shows the same animal as another."""
    path = pairs or catalogue.root / PAIRS
    if not is_file(path):
        return {}
    datasets = dict(zip(catalogue.image_ids, catalogue.table["dataset"], strict=True))
    who: dict[str, list[str]] = {}
    for answer in read_pairs(path, datasets):
        if answer.answer == "same":
            for image_id in answer.pair:
                who.setdefault(image_id, []).append(answer.who)
    return {image_id: " ".join(dict.fromkeys(filter(None, names))) for image_id, names in who.items()}


def _with_links(table: pd.DataFrame, links: Links, who: dict[str, str]) -> pd.DataFrame:
    """Let people's answers count: they name photographs, and confirm names."""
    said = table["image_id"].map(links.identity_of)
    is_query = table["method"] != "metadata"
    other = is_query & (said != "") & (said.map(name_key) != table["name"].map(name_key))
    overruled = int((other & (table["name"] != "")).sum())
    if overruled:
        log.warning(
            "%d names are others in pairs.csv than in the answers; those of pairs.csv, which a person gave, count",
            overruled,
        )
    table.loc[other, "name"] = said[other]
    table.loc[other, "method"], table.loc[other, "probability"] = "person", np.nan
    group = table["image_id"].map(lambda image_id: links.groups.get(image_id, -1))
    must = {image_id for link in links.must for image_id in (link.a, link.b)}
    joined = table["image_id"].isin(must)
    partners = table[joined].assign(group=group).groupby(["group", "name"])["image_id"].transform("size")
    # that two photographs show one animal confirms a cluster, not that it is the known animal which it was attached to
    is_cluster = (table["method"] == "discovered") & ~table["name"].isin(set(table["identity"]))
    confirmed = (table["method"] == "metadata") | (is_query & (said != ""))
    confirmed |= is_cluster & joined & (partners.reindex(table.index).fillna(0) > 1)
    by = table["image_id"].map(lambda image_id: who.get(image_id, ""))
    return table.assign(confirmed=confirmed, confirmed_by=by.where(confirmed & (table["method"] != "metadata"), ""))


def describe_named(named: Named) -> list[str]:
    """Return how many names there are, where they come from, and how many of them a person confirmed."""
    table = named.table
    lines = []
    for method, words in METHODS.items():
        rows = table[table["method"] == method]
        if len(rows):
            share = (
                ""
                if method in ("metadata", "person", "")
                else f"; {int(rows['confirmed'].sum())} of them confirmed by a person"
            )
            lines.append(f"{len(rows)} rows: {words}{share}")
    return lines
