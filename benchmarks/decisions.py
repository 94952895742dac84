"""What each part of the decision earns on real photographs: the cues, their fusion, the threshold, the pseudo-queries.

    python -m reid train DATA --out build/frozen-0 --recipe frozen --init build/lite0.safetensors \
        --set backbone=tf_efficientnet_lite0 --set backbone.image_size=128
    python benchmarks/decisions.py DATA build/frozen-0 build/frozen-1 build/frozen-2

DATA is a folder with `solution.csv`; the weights differ in their seed. The queries and the pseudo-queries are matched
once by every cue of the recipe; then every scorer is tried alone, the recipe's own choice among all of them, and other
rules for that choice and for the threshold. Three scores are given: at the thresholds that were fitted on the database,
at oracle thresholds (the best for these queries), and what calibration expected. One table chooses pseudo-queries in
other ways, two of them wrong, to see what each would have promised. The last compares rules for the scorer without the
answers: everything is fitted on two thirds of the database's individuals and tried on the others. Over several seeds:
means, with 95 % intervals. What was measured of a weights folder is kept as `FOLDER.decisions.csv`, and measured again
when its manifest or the code that decides has changed; features are kept in `FOLDER/cache`, as by every command.
"""

import argparse
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
from harness import interval, machine

from reid.config.recipe import Recipe
from reid.config.settings import with_settings
from reid.data.catalogue import Catalogue, read_catalogue
from reid.data.photographs import thumbnails
from reid.decision.artifact import MANIFEST, Weights, gallery_file, open_weights
from reid.decision.calibrate import fit_calibrations, pseudo_query_pairs
from reid.decision.calibration import Calibration
from reid.decision.metrics import read_solution
from reid.decision.pseudo_queries import (
    HeldOut,
    PseudoQueryPairs,
    match_pseudo_queries,
    near_duplicates,
    select_pseudo_queries,
)
from reid.decision.scorers import scorers_for
from reid.decision.thresholds import sweep
from reid.retrieval.cache import Cache
from reid.retrieval.candidates import candidate_pairs
from reid.retrieval.extraction import extract_features, open_extractors
from reid.retrieval.gallery import Gallery, gallery_features, load_gallery
from reid.runtime.files import sha256_of, write_table
from reid.runtime.progress import track

SOURCE = Path(__file__).parents[1] / "src" / "reid"
CHOSEN = "**chosen by calibration**"

THIRDS = 6
"""How often the database's individuals are divided."""

MANY = "one or another"
"""A scorer for each division."""


def main() -> None:
    """Prints all tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="DATA", type=Path)
    parser.add_argument("weights", metavar="WEIGHTS", type=Path, nargs="+")
    options = parser.parse_args()
    print(machine(), flush=True)
    catalogue = read_catalogue(options.data)
    rows = pd.concat([measured(catalogue, folder).assign(seed=str(folder)) for folder in options.weights])
    for title, own in rows.groupby("table", sort=False):
        print(f"\n{table(str(title), own)}")


def measured(catalogue: Catalogue, folder: Path) -> pd.DataFrame:
    """The rows of all tables that the weights of one seed give, from their file where it has them."""
    weights = open_weights(folder)
    file, made_with = folder.with_name(f"{folder.name}.decisions.csv"), state(folder)
    if file.exists():
        rows = pd.read_csv(file)
        if (rows["made_with"] == made_with).all():
            return rows
    tables = tables_of(catalogue, weights)
    rows = pd.concat([rows.assign(table=title, made_with=made_with) for title, rows in tables.items()])
    write_table(file, rows)
    return rows


def state(folder: Path) -> str:
    """A hash of everything that rows depend on: the weights, and the code that matches and decides."""
    code = sorted(file for package in ("retrieval", "decision") for file in (SOURCE / package).rglob("*.py"))
    return ",".join(sha256_of(file)[:12] for file in (folder / MANIFEST, Path(__file__), *code))


def tables_of(catalogue: Catalogue, weights: Weights) -> dict[str, pd.DataFrame]:
    """By title, the rows of the tables for the weights of one seed, one for each way of deciding and dataset."""
    recipe, galleries = weights.recipe, galleries_of(weights)
    live = live_queries(catalogue, weights, galleries)
    pseudo = {name: pseudo_query_pairs(catalogue, weights.folder, name, recipe) for name in galleries}
    kinds = scorers_for(recipe.calibration.scorers, tuple(next(iter(pseudo.values())).pairs.features))
    alone = {kind: fit_calibrations(pseudo, with_settings(recipe, {"calibration.scorers": (kind,)})) for kind in kinds}
    chosen = fit_calibrations(pseudo, recipe)
    highest = {
        name: alone[max(one.scorer_scores, key=one.scorer_scores.__getitem__, default=one.scorer.kind)][name]
        for name, one in chosen.items()
    }
    rules = {
        CHOSEN: chosen,
        "the scorer with the highest expected score": highest,
        "one scorer and threshold for all datasets": fit_calibrations(pseudo, recipe, few=10**9),
        "the threshold where the mean curve is highest": with_thresholds(
            chosen, lambda curve: int(curve.score.argmax())
        ),
        "the threshold that calls as many new as there are": with_thresholds(
            chosen, lambda curve: int(np.abs(curve.share_new - recipe.calibration.new_share).argmin())
        ),
        "the threshold where BAKS and BAUS are equal": with_thresholds(
            chosen, lambda curve: int(np.abs(curve.baks - curve.baus).argmin())
        ),
    }
    selections = {way: fit_calibrations(own, recipe) for way, own in other_selections(catalogue, weights, pseudo)}
    return {
        "scorer": rows_of({**alone, CHOSEN: chosen}, live),
        "rule": rows_of(rules, live),
        "pseudo-queries": rows_of(selections, live),
        "within the database": divided(pseudo, recipe),
    }


def other_selections(
    catalogue: Catalogue, weights: Weights, pseudo: dict[str, PseudoQueryPairs]
) -> Iterator[tuple[str, dict[str, PseudoQueryPairs]]]:
    """Ways to choose pseudo-queries, and what each gives."""
    recipe = weights.recipe

    def selected(setting: str, value: object) -> dict[str, PseudoQueryPairs]:
        own = with_settings(recipe, {setting: value})
        return {name: pseudo_query_pairs(catalogue, weights.folder, name, own) for name in pseudo}

    yield "as in the recipe", pseudo
    if recipe.training.folds > 1:
        yield "of one encoder, among what it did not learn from", selected("training.folds", 1)
    yield "individuals with all their photographs", selected("calibration.photographs", 10_000)
    yield "individuals with one photograph", selected("calibration.photographs", 1)
    if recipe.uses_encoder:
        yield (
            "of one encoder, among all that it learned from (wrong)",
            {name: learned_queries(catalogue, one, name, recipe) for name, one in galleries_of(weights).items()},
        )
    yield "photographs of any day may match (wrong)", selected("calibration.dates", "any")


def divided(pseudo: Mapping[str, PseudoQueryPairs], recipe: Recipe) -> pd.DataFrame:
    """Rules for the scorer, fitted on two thirds of a dataset's individuals, and their scores on the others."""
    kinds = scorers_for(recipe.calibration.scorers, tuple(next(iter(pseudo.values())).pairs.features))
    rng, rows = np.random.default_rng(recipe.seed), []
    for name, queries in track(list(pseudo.items()) * THIRDS, "comparing rules within the database"):
        known = np.unique(queries.individual[~queries.new])
        others = np.setdiff1d(queries.individual, known)
        own = np.concatenate([rng.permutation(some)[: round(len(some) * 2 / 3)] for some in (known, others)])
        two_thirds = of_individuals(queries, np.isin(queries.individual, own))
        rest = of_individuals(queries, ~np.isin(queries.individual, own))
        fitted = {
            kind: fit_calibrations({name: two_thirds}, with_settings(recipe, {"calibration.scorers": (kind,)}))[name]
            for kind in kinds
        }
        expected = {kind: one.threshold.score or 0.0 for kind, one in fitted.items()}
        chosen = {CHOSEN: fit_calibrations({name: two_thirds}, recipe)[name].scorer.kind}
        for behind in (0.0, 0.01, 0.03, 0.1):
            rule = f"the simplest whose expected score is at most {behind:.2f} below the best"
            chosen[rule] = next(kind for kind in kinds if expected[kind] >= max(expected.values()) - behind)
        tried = {rule: {name: fitted[kind]} for rule, kind in chosen.items()}
        in_distances = replace(rest, pairs=rest.pairs.scaled(1 / rest.unit), unit=1.0)  # as those of queries are
        rows.append(rows_of(tried, {name: in_distances}).assign(scorer=MANY, oracle=math.nan))
    together = pd.concat(rows).groupby(["name", "dataset", "scorer"], sort=False, dropna=False)
    return together.mean().reset_index()


def of_individuals(queries: PseudoQueryPairs, chosen: np.ndarray) -> PseudoQueryPairs:
    """The queries that a mask chooses."""
    rows = chosen[queries.pairs.query]
    pairs = queries.pairs.of(rows)
    pairs = replace(pairs, query=(chosen.cumsum() - 1)[pairs.query])
    return replace(
        queries, individual=queries.individual[chosen], new=queries.new[chosen], pairs=pairs,
        is_match=queries.is_match[rows],
    )  # fmt: skip


def galleries_of(weights: Weights) -> dict[str, Gallery]:
    """Those that predict."""
    return {name: load_gallery(weights.folder / gallery_file(name)) for name in weights.datasets}


def live_queries(
    catalogue: Catalogue, weights: Weights, galleries: Mapping[str, Gallery]
) -> dict[str, PseudoQueryPairs]:
    """The real queries with the truth."""
    solution = read_solution(catalogue.root / "solution.csv").set_index("image_id")
    live = {}
    for name, gallery in galleries.items():
        queries = catalogue.query.of(name)
        extractors = open_extractors(
            {name: weights.encoders[name]},
            None,
            weights.recipe,
            cache=Cache(weights.folder),
            local_features=weights.local_features,
        )
        features = extract_features(queries, extractors, "column", weights.recipe, f"embedding {name}")
        pairs = candidate_pairs(
            gallery_features(features, queries.table), gallery, weights.recipe, what=f"matching {name}"
        )
        truth = solution.loc[queries.image_ids]
        identity = truth["identity"].to_numpy(str)
        live[name] = PseudoQueryPairs(
            individual=identity,
            new=truth["new_identity"].to_numpy(bool),
            pairs=pairs,
            is_match=gallery.individuals[pairs.individual] == identity[pairs.query],
        )
    return live


def learned_queries(catalogue: Catalogue, gallery: Gallery, name: str, recipe: Recipe) -> PseudoQueryPairs:
    """Every photograph may be a pseudo-query, whether or not the encoder has learned from its individual."""
    known = gallery.embeddings
    rows = catalogue.database.table.set_index("image_id").loc[list(known.image_id)]
    everything = HeldOut(np.ones(len(known), bool), np.zeros(len(known), bool))
    photographs = Catalogue(catalogue.root, rows.reset_index())
    duplicates = near_duplicates(thumbnails(photographs))
    days, sides = (rows[column].to_numpy(str) for column in ("day", "orientation"))
    selected = select_pseudo_queries(np.array(gallery.identity), days, duplicates, everything, recipe, sides)
    return match_pseudo_queries(gallery, selected, name, recipe).in_units()


def with_thresholds(
    calibrations: Mapping[str, Calibration], place: Callable[[pd.DataFrame], int]
) -> dict[str, Calibration]:
    """The same scorers with thresholds from another place of the expected curves, (T,) columns each."""
    changed = dict(calibrations)
    for name, one in calibrations.items():
        value = (
            one.curve.threshold[place(pd.DataFrame(asdict(one.curve)))] if one.curve.threshold else one.threshold.value
        )
        changed[name] = replace(one, threshold=replace(one.threshold, value=value, score=math.nan))
    return changed


def rows_of(ways: Mapping[str, Mapping[str, Calibration]], live: Mapping[str, PseudoQueryPairs]) -> pd.DataFrame:
    """Per way and dataset its scores on the queries."""
    rows = []
    for name, calibrations in ways.items():
        for dataset, calibration in calibrations.items():
            queries = live[dataset]
            dissimilarity = calibration.scorer.dissimilarity(queries.pairs.scaled(calibration.unit))
            steps = sweep(queries.answered(dissimilarity))
            at = steps.at(np.array([calibration.threshold.value]))
            rows.append(
                {
                    "name": name,
                    "dataset": dataset,
                    "fitted": math.sqrt(at.baks[0] * at.baus[0]),
                    "oracle": float(np.sqrt(steps.baks * steps.baus).max()),
                    "expected": calibration.threshold.score,
                    "scorer": calibration.scorer.kind,
                }
            )
    return pd.DataFrame(rows)


def table(title: str, rows: pd.DataFrame) -> str:
    """A Markdown table, a line per way: per dataset means over seeds, then the means over datasets with intervals."""
    datasets = sorted(set(rows["dataset"]))
    lines = [
        f"| {title} | {' | '.join(datasets)} | fitted | oracle | expected |",
        "|---" * (len(datasets) + 4) + "|",
    ]
    for name, own in rows.groupby("name", sort=False):
        cells = []
        for _, by in own.groupby("dataset"):
            kinds = [kind for kind in by["scorer"].unique() if kind not in (name, MANY)]
            scorer = f" ({', '.join(kinds)})" if kinds else ""
            best = f" / {by['oracle'].mean():.3f}" if by["oracle"].notna().all() else ""
            cells.append(f"{by['fitted'].mean():.3f}{best}{scorer}")
        by_seed = own.assign(expected=own["expected"].astype(float)).groupby("seed")
        means = [by_seed[which].mean() for which in ("fitted", "oracle", "expected")]
        # no score is expected of a threshold that calibration did not choose
        cells += [interval(values) if values.notna().all() else "" for values in means]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
