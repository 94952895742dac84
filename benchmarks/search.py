"""Exact nearest neighbours in a gallery: the kit against FAISS, and what an approximate index would buy.

The gallery's individuals are points of a normal distribution in 512 dimensions with 10 photographs on average around
each; the queries are further photographs of them. Memory is counted beyond the gallery itself, which FAISS copies
into its index and which the kit searches in place: the indexes are built before the clock and the memory count start.
"""

import time
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from harness import Contest, NotHereError, Options
from torch import Tensor

from reid.retrieval.search import nearest

try:
    import faiss
except ImportError:
    faiss = None

QUERIES = 2_135  # the competition's
DIMENSIONS = 512
PHOTOGRAPHS_PER_INDIVIDUAL = 10
SPREAD = 0.5  # of an individual's photographs, where the individuals' own is 1

KIT, FLAT, CELLS = "reid", "FAISS flat", "FAISS IVF"


def contests(options: Options) -> Iterator[Contest]:
    """Galleries of 10 thousand to a million photographs."""
    if faiss is None:
        raise NotHereError("FAISS is not here: pip install faiss-cpu")
    faiss.omp_set_num_threads(torch.get_num_threads())
    for photographs in (1_000, 10_000) if options.quick else (10_000, 100_000, 1_000_000):
        gallery, queries = some_gallery(photographs)
        flat = faiss.IndexFlatL2(DIMENSIONS)
        flat.add(gallery.numpy())
        cells, remark = cells_index(gallery)
        yield Contest(
            size=photographs,
            label=f"{QUERIES:,} queries in {photographs:,} photographs",
            peers={
                KIT: partial(kit, queries, gallery),
                FLAT: partial(flat.search, queries.numpy(), 1),
                CELLS: partial(cells.search, queries.numpy(), 1),
            },
            reference=FLAT,
            items=QUERIES,
            notes=partial(compare, remark=remark),
        )


def kit(queries: Tensor, gallery: Tensor) -> tuple[Tensor, Tensor]:
    """Distances and places of each query's nearest photograph, (Q,) each."""
    blocks = list(nearest(queries, gallery, 1))
    distances, places = (torch.cat([getattr(block, part)[:, 0] for block in blocks]) for part in ("distance", "place"))
    return distances.sqrt(), places


def some_gallery(photographs: int) -> tuple[Tensor, Tensor]:
    """A gallery (N, 512), and queries (Q, 512) for it, float32."""
    seeded = torch.Generator().manual_seed(0)
    individuals = max(1, photographs // PHOTOGRAPHS_PER_INDIVIDUAL)
    centres = torch.randn(individuals, DIMENSIONS, generator=seeded)
    labels = torch.randint(individuals, (photographs,), generator=seeded)
    vectors = torch.randn(photographs, DIMENSIONS, generator=seeded)
    for some, their in zip(vectors.split(10_000), labels.split(10_000), strict=True):  # a view each: no second gallery
        some.mul_(SPREAD).add_(centres[their])
    queries = SPREAD * torch.randn(QUERIES, DIMENSIONS, generator=seeded)
    queries += centres[torch.randint(individuals, (QUERIES,), generator=seeded)]
    return vectors, queries


def cells_index(gallery: Tensor) -> tuple[Any, str]:
    """An inverted file that looks into 16 of about sqrt(N) cells, and what building it cost."""
    photographs = len(gallery)
    started = time.perf_counter()
    count = round(photographs**0.5)
    index = faiss.IndexIVFFlat(faiss.IndexFlatL2(DIMENSIONS), DIMENSIONS, count)
    index.cp.max_points_per_centroid = 64  # FAISS trains on a sample anyway, at most 256; seconds instead of minutes
    index.nprobe = min(16, count)
    index.train(gallery.numpy())
    index.add(gallery.numpy())
    return index, f"{index.nprobe} of {count} cells, built in {time.perf_counter() - started:.1f} s"


def compare(results: Mapping[str, Any], remark: str) -> dict[str, str]:
    """How often the same photograph is the nearest as in the exact index, and how far the distances are apart."""
    exact_squares, exact_places = results[FLAT]
    distances, places = results[KIT]
    same = places.numpy() == exact_places[:, 0]
    apart = np.abs(distances.numpy() - np.sqrt(exact_squares[:, 0])).max()
    recall = (results[CELLS][1][:, 0] == exact_places[:, 0]).mean()
    return {
        KIT: f"same photograph for {same.sum():,} of {len(same):,}, distances within {apart:.1e}",
        CELLS: f"recall@1 {recall:.4f}; {remark}",
    }
