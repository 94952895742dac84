"""The numbers of `reid.decision.unfitted`: pair score and cuts for photographs of which nobody has named any.

    python benchmarks/unfitted.py ../shared/reid-mini --init build/lite0.safetensors --set backbone.image_size=128

Every known photograph is treated as if nobody had named it: the backbone as it is and keypoints give the pairs of
pseudo-collections of several densities, whose features count by rank. Individuals are split for the regression as in
`pair_scores`; the table says what it reaches on each dataset when it was fitted on the others. The last lines are the
module's numbers.
"""

import argparse
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
from harness import machine
from sklearn.linear_model import LogisticRegression

from reid.config.presets import preset
from reid.config.recipe import Recipe
from reid.config.runtime import Runtime
from reid.config.settings import override
from reid.data.catalogue import Catalogue, read_catalogue
from reid.decision.cuts import GRID, curve_of, middle_of_plateau
from reid.decision.pair_scores import LabelledPairs, PairScorer
from reid.decision.reference import Reference, companions_of, draw_collection
from reid.retrieval.cache import Cache
from reid.retrieval.extraction import FeatureExtractors, extract_features, open_extractors
from reid.retrieval.gallery import gallery_features
from reid.retrieval.photograph_pairs import PhotographPairs, Pool, compare, rank_normalised
from reid.training.train import train

DENSITIES = (0.5, 1.0, 2.0, 3.0, 5.0, 8.0)
"""Companions of a photograph."""

ASSUMED = 3.0
"""Of which the drawn collections have `unfitted.COMPANIONS`, because many animals have few photographs."""

OF_EACH = 6
"""Pseudo-collections of a density and dataset."""

CUES = {"encoder": ("distance",), "local": ("local",), "encoder local": ("distance", "local")}
"""With which words the names of their features begin."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="DATA", type=Path)
    parser.add_argument("--init", type=Path, required=True)
    parser.add_argument("--set", dest="settings", action="append", default=[])
    parser.add_argument("--photographs", type=int, default=250, help="of a dataset; 250")
    parser.add_argument("--out", type=Path, default=Path("build/bench/unfitted"))
    options = parser.parse_args()
    print(machine(), flush=True)
    file = options.out / "collections.pkl"
    raw = pickle.loads(file.read_bytes()) if file.exists() else drawn(options)
    file.write_bytes(pickle.dumps(raw))
    collections = {
        key: [replace(one, pairs=rank_normalised(one.pairs)) for one in of_key] for key, of_key in raw.items()
    }
    for cues in CUES:
        report(cues, collections)


def drawn(options: argparse.Namespace) -> dict[tuple[str, float], list[LabelledPairs]]:
    """Pseudo-collections by dataset and density."""
    catalogue = read_catalogue(options.data).database
    recipe = override(preset("frozen"), ["backbone.name=tf_efficientnet_lite0", *options.settings])
    nameless = replace(catalogue, table=catalogue.table.assign(split="query", identity=""))
    weights = train(nameless, recipe, options.out, init=options.init)
    assert weights and weights.backbone
    cache = Cache(weights.folder)
    extractors = open_extractors({"": weights.backbone}, None, weights.recipe, Runtime(), cache)
    collections: dict[tuple[str, float], list[LabelledPairs]] = {}
    rng = np.random.default_rng(0)
    for dataset, photographs in catalogue.by_dataset().items():
        chosen = np.sort(rng.permutation(len(photographs))[: options.photographs])
        known = replace(photographs, table=photographs.table.iloc[chosen])
        pool, reference = prepared(known, weights.recipe, extractors, dataset)
        for density in DENSITIES:
            for _ in range(OF_EACH):
                one = draw_collection(reference, density, len(reference), rng)
                labelled = LabelledPairs(compare(pool, one.rows), one.labels)
                collections.setdefault((dataset, density), []).append(labelled)
    return collections


def prepared(known: Catalogue, recipe: Recipe, extractors: FeatureExtractors, dataset: str) -> tuple[Pool, Reference]:
    routed = replace(known, table=known.table.assign(dataset=""))
    features = extract_features(routed, extractors, "column", recipe, f"opening {dataset}")
    pool = Pool.of(gallery_features(features, known.table), recipe, f"preparing {dataset}")
    days = tuple(known.table["day"].astype(str))
    return pool, Reference(tuple(known.image_ids), tuple(known.identities), days, np.zeros((0, 0), np.float32))


def of_cues(pairs: PhotographPairs, cues: str) -> PhotographPairs:
    chosen = {name: of for name, of in pairs.features.items() if name.split()[0] in CUES[cues]}
    return replace(pairs, features=chosen)


def report(cues: str, collections: dict[tuple[str, float], list[LabelledPairs]]) -> None:
    chosen = {
        key: [replace(one, pairs=of_cues(one.pairs, cues)) for one in of_key] for key, of_key in collections.items()
    }
    print(f"\n## {cues}\n| on | companions | ARI at the cut of the others | best |\n|---|---|---|---|")
    for left_out in sorted({dataset for dataset, _ in chosen}):
        scorer, cut = fitted({key: of for key, of in chosen.items() if key[0] != left_out})
        for density in DENSITIES:
            mine = chosen[left_out, density]
            curve = np.mean([curve_of(one, scorer.dissimilarity(one.pairs)) for one in mine], axis=0)
            companions = np.mean([companions_of(one.labels) for one in mine])
            index = float(np.interp(cut, GRID, curve))
            print(f"| {left_out} | {companions:.1f} | {index:.3f} | {curve.max():.3f} |", flush=True)
    scorer, cut = fitted({key: of for key, of in chosen.items() if key[0] != "LionData"})
    names = sorted(next(iter(chosen.values()))[0].pairs.features)
    zero = scorer.models[0](np.zeros((1, len(names))))
    weights = scorer.models[0](np.eye(len(names))) - zero
    print(f"bias {zero[0]:.3f}, cut {cut:.3f}, {dict(zip(names, weights.round(3).tolist(), strict=True))}", flush=True)


def fitted(chosen: dict[tuple[str, float], list[LabelledPairs]]) -> tuple[PairScorer, float]:
    """The regression, and the cut at the density that the kit assumes."""
    every = [one for of_key in chosen.values() for one in of_key]
    columns = np.concatenate([one.pairs.columns for one in every])
    model = LogisticRegression(C=0.1, max_iter=1000).fit(columns, np.concatenate([one.is_match for one in every]))
    scorer = PairScorer("unfitted", (model.decision_function,), {})
    dense = [one for (_, density), of_key in chosen.items() if density == ASSUMED for one in of_key]
    curves = [curve_of(one, scorer.dissimilarity(one.pairs)) for one in dense]
    return scorer, middle_of_plateau(np.mean(curves, axis=0))[0]


if __name__ == "__main__":
    main()
