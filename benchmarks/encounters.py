"""What it is worth to answer the photographs of an encounter together.

    python benchmarks/encounters.py DATA WEIGHTS [WEIGHTS ...]

DATA is a folder with `solution.csv`. Its queries of one individual and one cell `date` are taken for an encounter, up
to `MOST` photographs each, as if somebody had said so in the column `encounter`: real bursts are taken within minutes,
and how often one holds two animals is not measured here.
"""

import argparse
import shutil
import tempfile
from pathlib import Path

import pandas as pd

from reid.config.settings import with_settings
from reid.data.catalogue import read_catalogue
from reid.decision.artifact import open_weights
from reid.decision.metrics import overall, read_solution, score_submission
from reid.decision.predict import predict

MOST = 3
"""Photographs of an encounter, as cameras that are triggered take them."""


def main() -> None:
    """Prints a row per weights folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="DATA", type=Path)
    parser.add_argument("weights", metavar="WEIGHTS", type=Path, nargs="+")
    options = parser.parse_args()
    solution = read_solution(options.data / "solution.csv")
    with tempfile.TemporaryDirectory() as folder:
        data = with_encounters(options.data, solution, Path(folder) / "data")
        print("| weights | each by itself | encounters together | queries in one |\n|---|---|---|---|", flush=True)
        for place in options.weights:
            copy = shutil.copytree(place, Path(folder) / place.name)
            weights, catalogue = open_weights(copy), read_catalogue(data)
            scores = []
            for minutes in (0.0, 5.0):
                recipe = with_settings(weights.recipe, {"prediction.encounter_minutes": minutes})
                scores.append(overall(score_submission(predict(catalogue, weights, recipe).submission, solution)))
            cells = catalogue.query.table["encounter"]
            share = (cells[cells != ""].duplicated(keep=False)).sum() / len(cells)
            print(f"| {place.name} | {scores[0]:.3f} | {scores[1]:.3f} | {share:.0%} |", flush=True)


def with_encounters(data: Path, solution: pd.DataFrame, out: Path) -> Path:
    """Make the same data folder with a column `encounter`."""
    table = pd.read_csv(data / "metadata.csv", dtype=str, keep_default_na=False)
    names = table["image_id"].map(dict(zip(solution["image_id"], solution["identity"], strict=True))).fillna("")
    key = names + " " + table["date"]
    number = key.groupby(key).cumcount() // MOST
    shutil.copytree(data, out)
    table.assign(encounter=(key + " " + number.astype(str)).where(names != "", "")).to_csv(
        out / "metadata.csv", index=False
    )
    return out


if __name__ == "__main__":
    main()
