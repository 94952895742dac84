"""Exact nearest neighbours by Euclidean distance, in blocks of bounded memory, on any device.

One search serves embeddings and local descriptors. It runs in whatever number format is fast, finds a few neighbours
more than are wanted, and computes the distances of those again from the vectors themselves: the result depends neither
on the size of the blocks nor on the other queries.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["SPARE", "Nearest", "exact", "inner_products", "merge", "nearest"]

BUDGET = {"cpu": 16_000_000, "cuda": 256_000_000}
"""Bytes of distances held at a time, and of the gallery's vectors that they are to. On one core, 1,414 queries among
40,000 vectors of 512 took 1.12, 0.93, 0.82 and 0.89 s with 2, 4, 16 and 64 MB. On an H100, where starting work costs
more, 2,135 among a million took 184, 94 and 76 ms with 64, 256 and 1,000 MB."""

SPARE = 4
"""Neighbours that the search finds beyond those that are wanted, so that what a short number format or another order of
summation swaps near the end of the list is corrected when their distances are computed again."""

AT_ONCE = 4096
"""Queries whose distances are computed again at a time."""

CHUNK = 64
"""Distances of which only the smallest is compared first; the 6 smallest of 65,536, in 1,600 rows, took 0.05 instead of
0.24 s on 2 cores."""


class Nearest(NamedTuple):
    """The neighbours of some queries, the nearest first."""

    rows: slice
    """Which queries."""
    distance: Tensor
    """(q, C) float32, squared; inf where there is no neighbour left."""
    place: Tensor
    """(q, C) int64, rows of the gallery; 0 where there is none."""


def nearest(
    queries: Tensor,
    gallery: Tensor,
    count: int,
    hidden: Tensor | None = None,
    query_owner: Tensor | None = None,
    gallery_owner: Tensor | None = None,
    device: torch.device | None = None,
    precision: torch.dtype = torch.float32,
    budget: int | None = None,
) -> Iterator[Nearest]:
    """Yield the exact nearest gallery rows of every query, block by block.

    Args:
        queries: (Q, D) float16 or float32.
        gallery: (N, D) likewise; it may be mapped from a file, and only a block of it is copied at a time.
        count: how many neighbours; C is that, or N if that is fewer.
        hidden: (q, n) bool, which owners in the gallery are not there for which owners of queries; None for none.
        query_owner: (Q,) int64, ascending, the owner of each query, e.g. the photograph of a descriptor; None: each
            query is its own.
        gallery_owner: (N,) int64, likewise.
        device: where to search; None for the CPU.
        precision: of the search; the distances of what it finds are computed again in float32.
        budget: bytes of distances held at a time, and of the gallery's rows that they are to, in the search's
            precision; None for what the device likes. The result does not depend on it.
    """
    device = device or torch.device("cpu")
    candidates = min(count + SPARE, len(gallery))
    if not candidates:
        return
    query_owner = torch.arange(len(queries)) if query_owner is None else query_owner
    gallery_owner = torch.arange(len(gallery)) if gallery_owner is None else gallery_owner
    distances = max(1, (budget or BUDGET[device.type]) // precision.itemsize)
    height, width = _block_shape(len(queries), gallery.shape, distances)
    # taken once: memory from the kernel costs its clearing
    buffer = torch.empty(height * width, dtype=precision, device=device)
    lengths = [torch.linalg.vector_norm(known.float(), dim=1) for known in torch.split(gallery, width)]
    half_squares = torch.cat(lengths).square().to(device) / 2  # (N,); squares of whole blocks would leave the cache
    for start in range(0, len(queries), height):
        rows = slice(start, min(start + height, len(queries)))
        block = queries[rows].to(device)
        closeness = torch.full((len(block), candidates), -torch.inf, dtype=precision, device=device)
        place = torch.zeros((len(block), candidates), dtype=torch.long, device=device)
        for first in range(0, len(gallery), width):
            known = gallery[first : first + width].to(device, precision)
            products = buffer[: len(block) * len(known)].view(len(block), len(known))
            # |q - g|^2 = |q|^2 - 2 (qg - |g|^2 / 2), and |q|^2 is the same for all of a query's neighbours
            torch.addmm(
                -half_squares[first : first + len(known)].to(precision), block.to(precision), known.T, out=products
            )
            if hidden is not None:
                _hide(products, hidden, query_owner[rows], gallery_owner[first : first + len(known)])
            merge(products, closeness, place, torch.arange(first, first + len(known), device=device))
        yield Nearest(rows, *exact(block, gallery, closeness, place, min(count, candidates)))


def _block_shape(queries: int, gallery: torch.Size, distances: int) -> tuple[int, int]:
    """Return how many queries are compared with how many gallery rows at a time.

    Args:
        queries: Q, how many there are.
        gallery: (N, D), its shape.
        distances: how many are held at a time; the gallery rows hold no more numbers than that either.
    """
    tallest = max(1, math.isqrt(distances // 2))  # twice as wide as high: wider blocks multiply slower
    blocks = -(-queries // tallest)  # of equal height: a small rest would cost a pass of its own
    height = max(1, -(-queries // max(1, blocks)))
    width = max(1, distances // max(height, gallery[1]))  # a few queries would take the whole gallery at once
    return height, min(gallery[0], width - width % CHUNK if width > CHUNK else width)


def inner_products(one: Tensor, other: Tensor) -> Tensor:
    """Return the inner products of the rows of two matrices, (n, D) and (m, D) float32 -> (n, m).

    On the CPU by NumPy: with 1,024 x 128 and 982 x 128 its OpenBLAS reached 68, PyTorch's MKL 32 GFLOP/s on one core of
    an AMD EPYC.
    """
    if one.device.type != "cpu":
        return one @ other.T
    return torch.from_numpy(one.numpy() @ other.numpy().T)


def exact(block: Tensor, gallery: Tensor, closeness: Tensor, place: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the first `count` neighbours in the order of their distances as the vectors themselves have them.

    Args:
        block: (q, D) queries.
        gallery: (N, D).
        closeness: (q, C), of the neighbours that were found; -inf where there is none.
        place: (q, C) int64, their rows of the gallery.
        count: at most C.

    Returns:
        Squared distances, (q, count) float32, inf where there is no neighbour; and places, 0 likewise; on the CPU.
    """
    distance = torch.empty(place.shape, device=block.device)
    near = place.to(gallery.device)
    # a few queries and one neighbour of each at a time: all of them would be as large as many blocks
    parts = (torch.split(values, AT_ONCE) for values in (distance, near, block))
    for found, places, some in zip(*parts, strict=True):
        for column in range(place.shape[1]):
            known = gallery.index_select(0, places[:, column]).to(block.device)
            found[:, column] = (known.float() - some.float()).pow(2).sum(1)
    distance.masked_fill_(closeness == -torch.inf, torch.inf)
    distance, order = distance.topk(count, largest=False)
    place = place.gather(1, order).masked_fill(distance == torch.inf, 0)
    return distance.cpu(), place.cpu()


def _hide(products: Tensor, hidden: Tensor, query_owner: Tensor, gallery_owner: Tensor) -> None:
    """Take what is hidden out of the block (q, b), owner by owner."""
    owners, counts = torch.unique_consecutive(query_owner, return_counts=True)
    for owner, part in zip(owners.tolist(), torch.split(products, counts.tolist()), strict=True):
        columns = hidden[owner][gallery_owner].nonzero().flatten()
        part.index_fill_(1, columns.to(products.device), -torch.inf)


def merge(products: Tensor, closeness: Tensor, place: Tensor, columns: Tensor, asked: Tensor | None = None) -> None:
    """Merge the neighbours of a block of the gallery into those of the blocks before it.

    Only chunks whose maximum is above the smallest of what was found so far have something to add; in a late block
    most rows have none, and the others a few.

    Args:
        products: (q, b), the block's.
        closeness: (Q, C), the largest so far, the largest first; changed in place.
        place: (Q, C) int64, where they are; likewise.
        columns: (b,) int64, the gallery rows of the block.
        asked: (q,) int64, the queries of the block's rows; None for all of them.
    """
    candidates, chunks = closeness.shape[1], products.shape[1] // CHUNK
    chunks = chunks if chunks > candidates else 0  # of few columns all are compared
    body, tail = products[:, : chunks * CHUNK].view(len(products), chunks, CHUNK), products[:, chunks * CHUNK :]
    peaks = body.amax(2)  # (q, chunks)
    row_peak = torch.cat([peaks, tail], 1).amax(1)
    least = closeness[:, -1] if asked is None else closeness[asked, -1]
    rows = (row_peak > least).nonzero().flatten()
    if not len(rows):
        return
    least, changed = least[rows], rows if asked is None else asked[rows]
    most_chunks = int((peaks[rows] > least[:, None]).sum(1).max()) if chunks else 0
    leading = peaks[rows].topk(min(candidates, most_chunks)).indices  # (r, c)
    inside = body[rows[:, None], leading].flatten(1)  # (r, c x CHUNK)
    inside_place = columns[: chunks * CHUNK].view(chunks, CHUNK)[leading].flatten(1)
    tail_place = columns[chunks * CHUNK :].expand(len(rows), -1)
    values, order = torch.cat([closeness[changed], inside, tail[rows]], 1).topk(candidates)
    place[changed] = torch.cat([place[changed], inside_place, tail_place], 1).gather(1, order)
    closeness[changed] = values
