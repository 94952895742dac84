"""What each part of the decision earns on real photographs: the cues, their fusion, the threshold, honest questions.

    python -m reid train DATA --out build/light --recipe light --init build/lite0.safetensors \
        --set trunk=tf_efficientnet_lite0 --set image_size=128
    python benchmarks/decisions.py DATA build/light

DATA is a folder with `solution.csv`. The live queries are matched once by every cue of the recipe, the database is
asked once; then every scorer is tried alone, and the recipe's own choice among all of them. Three scores are given: at
the thresholds that were fitted on the database, at those that would have been best in hindsight, and what calibration
expected. The second table asks the database in other ways, one of them wrong, to see what each would have claimed.
"""

import argparse
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from harness import machine

from reid.calibration import Calibration, fit_calibrations, sweep
from reid.catalogue import Catalogue, read_catalogue
from reid.gallery import Gallery, embeddings_of, load_gallery
from reid.images import thumbnails
from reid.looking import look_at, open_eyes
from reid.matching import ask, compare, questions_of
from reid.progress import say
from reid.questions import HeldOut, Questions, choose_asked, near_duplicates
from reid.recipe import Recipe
from reid.scoring import read_solution
from reid.weights import Weights, gallery_file, open_weights

CHOSEN = "chosen by calibration"


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="DATA", type=Path)
    parser.add_argument("weights", metavar="WEIGHTS", type=Path)
    asked = parser.parse_args()
    say(machine())
    catalogue, weights = read_catalogue(asked.data), open_weights(asked.weights)
    recipe, galleries = weights.recipe, galleries_of(weights)
    live = live_questions(catalogue, weights, galleries)
    honest = {name: questions_of(catalogue, weights.folder, name, recipe) for name in galleries}
    alone = {kind: replace(recipe, scorers=(kind,)) for kind in recipe.scorers}
    rows = [row(kind, fit_calibrations(honest, one), live) for kind, one in alone.items()]
    print(table([*rows, row(CHOSEN, fit_calibrations(honest, recipe), live)]))
    print()
    ways = {"as the recipe asks": honest}
    if recipe.folds > 1:
        single = replace(recipe, folds=1)
        ways["one encoder, asked for what it did not see"] = {
            name: questions_of(catalogue, weights.folder, name, single) for name in galleries
        }
    ways["one encoder, asked for what it learned (wrong)"] = {
        name: learned_questions(catalogue, gallery, name, recipe) for name, gallery in galleries.items()
    }
    ways["any day's photographs may answer (wrong)"] = {
        name: questions_of(catalogue, weights.folder, name, replace(recipe, pseudo_dates="any")) for name in galleries
    }
    print(table([row(way, fit_calibrations(questions, recipe), live) for way, questions in ways.items()]))


def galleries_of(weights: Weights) -> dict[str, Gallery]:
    """Those that predict."""
    return {name: load_gallery(weights.folder / gallery_file(name)) for name in weights.datasets}


def live_questions(catalogue: Catalogue, weights: Weights, galleries: Mapping[str, Gallery]) -> dict[str, Questions]:
    """The real queries beside the truth."""
    solution = read_solution(catalogue.root / "solution.csv").set_index("image_id")
    live = {}
    for name, gallery in galleries.items():
        queries = catalogue.query.of(name)
        eyes = open_eyes(weights.folder, [name], False, weights.recipe)
        looks = look_at(queries, eyes, "column", weights.recipe, f"seeing {name}")
        pairs = compare(embeddings_of(looks, queries.table), gallery, weights.recipe, what=f"matching {name}")
        truth = solution.loc[queries.image_ids]
        identity = truth["identity"].to_numpy(str)
        live[name] = Questions(
            individual=identity,
            new=truth["new_identity"].to_numpy(bool),
            pairs=pairs,
            right=gallery.individuals[pairs.individual] == identity[pairs.query],
        )
    return live


def learned_questions(catalogue: Catalogue, gallery: Gallery, name: str, recipe: Recipe) -> Questions:
    """Every photograph is asked for, whether or not the encoder has learned its individual."""
    known = gallery.embeddings
    rows = catalogue.database.table.set_index("image_id").loc[list(known.image_id)]
    everything = HeldOut(np.ones(len(known), bool), np.zeros(len(known), bool))
    photographs = Catalogue(catalogue.root, rows.reset_index())
    duplicates = near_duplicates(thumbnails(photographs.paths))
    asked = choose_asked(np.array(gallery.identity), rows["day"].to_numpy(str), duplicates, everything, recipe)
    return ask(gallery, asked, name, recipe).in_units()


def row(name: str, calibrations: Mapping[str, Calibration], live: Mapping[str, Questions]) -> pd.DataFrame:
    """Per dataset what a way of deciding wins."""
    rows = []
    for dataset, calibration in calibrations.items():
        questions = live[dataset]
        doubts = calibration.scorer.doubts(questions.pairs.scaled(calibration.unit))
        steps = sweep(questions.answered(doubts))
        at = steps.at(np.array([calibration.threshold.value]))
        rows.append(
            {
                "name": name,
                "dataset": dataset,
                "fitted": math.sqrt(at.baks[0] * at.baus[0]),
                "hindsight": float(np.sqrt(steps.baks * steps.baus).max()),
                "expected": calibration.threshold.score,
                "scorer": calibration.scorer.kind,
            }
        )
    return pd.DataFrame(rows)


def table(rows: list[pd.DataFrame]) -> str:
    """A Markdown table, a line per name."""
    all_rows = pd.concat(rows)
    datasets = sorted(set(all_rows["dataset"]))
    lines = [
        f"| | {' | '.join(datasets)} | fitted | in hindsight | expected |",
        "|---" * (len(datasets) + 4) + "|",
    ]
    for name, own in all_rows.groupby("name", sort=False):
        by = own.set_index("dataset")
        chose = {one: f" ({by.loc[one, 'scorer']})" if by.loc[one, "scorer"] != name else "" for one in datasets}
        cells = [f"{by.loc[one, 'fitted']:.3f} / {by.loc[one, 'hindsight']:.3f}{chose[one]}" for one in datasets]
        means = [f"{own[which].astype(float).mean():.3f}" for which in ("fitted", "hindsight", "expected")]
        lines.append(f"| {name} | {' | '.join([*cells, *means])} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
