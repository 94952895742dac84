"""Local features: what is distinctive at many small places of a photograph, and who in the gallery shares it.

`extract` makes keypoints and their descriptors, `extract_all` does it for many photographs and remembers them,
`lnbnn` asks a whole gallery at once which photographs or individuals share descriptors with a query, and `verify`
looks at a shortlist more closely: which of the matches lie in the same arrangement on both photographs.

Another extractor takes RootSIFT's place by another `extract`: descriptors of unit length, more alike the larger their
inner product.
"""

import hashlib
import json
import math
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load, save
from torch import Tensor

from reid import InputError
from reid.files import sha256_of, write_bytes
from reid.progress import track

__all__ = [
    "Descriptors",
    "Extraction",
    "Keypoints",
    "Matching",
    "Opener",
    "Verified",
    "extract",
    "extract_all",
    "lnbnn",
    "of_individuals",
    "stack",
    "verify",
]

Item = TypeVar("Item")
Result = TypeVar("Result")

EXTRACTOR = "RootSIFT 1"
"""The extractor's name and version: raise it whenever `extract` gives other keypoints than before."""

BUDGET = 64_000_000
"""Bytes of similarities held at a time. 4,000 descriptors among 25,600 took 0.34, 0.31 and 0.35 s with 4, 16 and 64 MB
on 2 cores; a GPU likes more."""

SPARE = 4
"""Neighbours that the search finds beyond those asked for, so that what a short number format or another order of
summation swaps near the end of the list is put right when their similarities are computed again."""

CHUNK = 64
"""Similarities of which only the largest is looked at first; the 6 largest of 65,536, in
1,600 rows, took 0.05 instead of 0.24 s on 2 cores."""

PIXELS = 1000
"""Pixels that the longer side counts in geometry: MAGSAC finds nothing in coordinates from 0 to 1 (OpenCV 5.0)."""


# one photograph


@dataclass(frozen=True)
class Extraction:
    """How keypoints are found.

    Attributes:
        size: pixels of the longer side, to which a photograph is shrunk or enlarged.
        count: the most keypoints that are kept, those of the strongest response.
        clahe: clip limit of the contrast-limited adaptive histogram equalisation on 8 x 8 tiles; 0 for none.
        contrast: SIFT's contrast threshold; a low one finds enough keypoints in smooth coats.
        upright: descriptors are not turned by the keypoint's own gradient. Better by far where animals stand upright
            on their photographs (leave-one-out top-1 of cattle faces 0.40 instead of 0.25); no good where they lie in
            any direction.
    """

    size: int = 400
    count: int = 400
    clahe: float = 2.0
    contrast: float = 0.01
    upright: bool = True

    def __post_init__(self) -> None:
        for field, lowest in (("size", 16), ("count", 1), ("clahe", 0), ("contrast", 0)):
            if not lowest <= getattr(self, field) < math.inf:  # also catches NaN
                raise InputError(f"extraction {field}: expected {lowest} or more, found {getattr(self, field)}")


@dataclass(frozen=True)
class Keypoints:
    """One photograph's local features, the strongest first.

    Attributes:
        points: (N, 4) float32: x and y of the centre, the diameter, and the angle in radians. Lengths are shares of the
            photograph's longer side.
        descriptors: (N, D) float16 of unit length; a component is off by 2^-11 of itself, a similarity by less than
            0.001.
        extent: the photograph's width and height, the longer of them 1.
    """

    points: np.ndarray
    descriptors: np.ndarray
    extent: tuple[float, float]

    def __len__(self) -> int:
        return len(self.points)


def extract(image: np.ndarray, extraction: Extraction) -> Keypoints:
    """RootSIFT of a photograph: SIFT descriptors, L1-normalised, square root (Arandjelovic and Zisserman, CVPR 2012).

    Args:
        image: (H, W, 3) uint8, RGB, of any size and shape.
        extraction: the settings.

    Returns:
        At most `count` keypoints with D = 128; none on a flat image.
    """
    height, width = image.shape[:2]
    factor = extraction.size / max(height, width)
    shape = max(1, round(width * factor)), max(1, round(height * factor))
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    grey = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), shape, interpolation=how)
    if extraction.clahe:
        grey = cv2.createCLAHE(extraction.clahe, (8, 8)).apply(grey)
    sift = cv2.SIFT.create(contrastThreshold=extraction.contrast)
    found = _strongest(sift.detect(grey), extraction)
    extent = (shape[0] / extraction.size, shape[1] / extraction.size)
    if not found:
        return Keypoints(np.zeros((0, 4), np.float32), np.zeros((0, 128), np.float16), extent)
    described, raw = sift.compute(grey, found)
    rows = np.array([(one.pt[0] + 0.5, one.pt[1] + 0.5, one.size, one.angle) for one in described])
    points = rows / extraction.size
    points[:, 3] = np.radians(rows[:, 3])
    descriptors = np.sqrt(raw / np.maximum(raw.sum(1, keepdims=True), 1))  # SIFT's components are whole numbers
    return Keypoints(points.astype(np.float32), descriptors.astype(np.float16), extent)


def _strongest(found: Sequence[cv2.KeyPoint], extraction: Extraction) -> list[cv2.KeyPoint]:
    """The keypoints of the strongest response, in an order that does not depend on OpenCV's threads."""
    if extraction.upright:  # SIFT repeats a keypoint for every strong angle; without angles these are one
        for one in found:
            one.angle = 0
        found = list({(one.pt, one.size): one for one in found}.values())
    return sorted(found, key=_strength)[: extraction.count]


def _strength(one: cv2.KeyPoint) -> tuple[float, ...]:
    return (-one.response, *one.pt, one.size, one.angle)


# many photographs


Opener = Callable[[Path, int], np.ndarray | str]
"""Opens a photograph for a longer side of so many pixels: (H, W, 3) uint8, RGB, or the reason why it can't be read.
A function at the top of a module, because worker processes call it."""


@dataclass(frozen=True)
class _Work:
    """What a worker process must know to make a photograph's keypoints and to remember them."""

    opener: Opener
    extraction: Extraction
    cache: Path | None
    key: str

    def file(self, digest: str) -> Path | None:
        if not self.cache or not digest:
            return None
        name = hashlib.sha256((self.key + digest).encode()).hexdigest()
        return self.cache / name[:2] / f"{name}.keypoints"

    def seal(self, digest: str, content: bytes) -> bytes:
        """What a file of the cache begins with: only the keypoints of this photograph and key have it."""
        return hashlib.sha256((self.key + digest).encode() + content).digest()


def extract_all(
    paths: Sequence[Path],
    extraction: Extraction,
    opener: Opener,
    opened_as: str,
    cache: Path | None = None,
    workers: int = 0,
    what: str = "finding keypoints",
) -> tuple[list[Keypoints], list[str]]:
    """The keypoints of many photographs, in order, each made once and remembered.

    The cache holds a file per photograph and settings. Its name and its seal are hashes over the photograph's bytes,
    the settings, the extractor, OpenCV's version and `opened_as`; a file that is damaged or another's is made anew.
    The keypoints do not depend on the number of workers.

    Args:
        paths: the photographs.
        extraction: the settings.
        opener: see `Opener`.
        opened_as: words that change when the opener's pixels do.
        cache: a folder that may not be there yet; None to remember nothing. If it can't be written, nothing is.
        workers: processes; 0 to work in this one.
        what: the work in a few words, for the progress.

    Returns:
        Per photograph its keypoints, and what was wrong with it: "" when nothing, else the reason, and no keypoints.
    """
    made_with = {"extractor": EXTRACTOR, **asdict(extraction), "opened_as": opened_as, "opencv": cv2.__version__}
    work = _Work(opener, extraction, cache, json.dumps(made_with))
    with ThreadPoolExecutor(max_workers=len(os.sched_getaffinity(0))) as readers:  # hashing releases Python's lock
        found = list(readers.map(partial(_recall, work), paths))
    missing = [place for place, keypoints in enumerate(found) if keypoints is None]
    problems = [""] * len(paths)
    made = _in_processes(partial(_make, work), [paths[place] for place in missing], workers)
    for place, (keypoints, problem) in zip(missing, track(made, what, len(missing)), strict=True):
        found[place], problems[place] = keypoints, problem
    return [keypoints for keypoints in found if keypoints is not None], problems


def _recall(work: _Work, path: Path) -> Keypoints | None:
    """The keypoints of the cache; None where it has none, or not these."""
    if not work.cache:
        return None
    digest = _digest(path)
    file = work.file(digest)
    if file:
        with suppress(OSError, SafetensorError):
            content = file.read_bytes()
            if content[:32] == work.seal(digest, content[32:]):
                tensors = load(content[32:])
                width, height = tensors["extent"].tolist()
                return Keypoints(tensors["points"], tensors["descriptors"], (width, height))
    return None


def _make(work: _Work, path: Path) -> tuple[Keypoints, str]:
    digest = _digest(path) if work.cache else ""
    image = work.opener(path, work.extraction.size)
    if isinstance(image, str):
        return Keypoints(np.zeros((0, 4), np.float32), np.zeros((0, 128), np.float16), (1.0, 1.0)), image
    keypoints = extract(image, work.extraction)
    file = work.file(digest)
    if file and digest == _digest(path):  # nobody changed it meanwhile
        tensors = {
            "points": keypoints.points,
            "descriptors": keypoints.descriptors,
            "extent": np.array(keypoints.extent),
        }
        content = save(tensors)
        with suppress(InputError):
            write_bytes(file, work.seal(digest, content) + content)
    return keypoints, ""


def _digest(path: Path) -> str:
    with suppress(OSError):
        if path.is_file():  # opening a pipe would wait for ever
            return sha256_of(path)
    return ""


def _in_processes(function: Callable[[Item], Result], items: Sequence[Item], workers: int) -> Iterator[Result]:
    """The results in order. Processes are spawned: a fork of a process with threads can hang."""
    if not workers or len(items) < 2:
        yield from map(function, items)
        return
    processes = min(workers, len(items))
    chunk = max(1, min(16, len(items) // processes))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context, initializer=_be_one_of_many) as pool:
        yield from pool.map(function, items, chunksize=chunk)


def _be_one_of_many() -> None:
    cv2.setNumThreads(1)
    torch.set_num_threads(1)


# a gallery at once


@dataclass(frozen=True)
class Descriptors:
    """The descriptors of N photographs, one photograph below the other.

    Attributes:
        vectors: (M, D) float16 of unit length.
        starts: (N + 1,) int64: photograph i has the rows from starts[i] to starts[i + 1].
        weights: (M,) float32, what a vote of the row counts.
    """

    vectors: Tensor
    starts: Tensor
    weights: Tensor

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def owner(self) -> Tensor:
        """The photograph of each row, (M,) int64."""
        return torch.repeat_interleave(torch.arange(len(self)), self.starts.diff())

    def of(self, photograph: int) -> Tensor:
        """One photograph's vectors, (n, D) float16."""
        return self.vectors[int(self.starts[photograph]) : int(self.starts[photograph + 1])]


def stack(photographs: Sequence[Keypoints], spread: float = math.inf) -> Descriptors:
    """Many photographs' descriptors in one tensor.

    Args:
        photographs: of one extractor.
        spread: standard deviation of the centre prior, in shares of the photograph's width and height: where the
            animal probably is. A keypoint weighs exp(-((x - 1/2)^2 + (y - 1/2)^2) / (2 spread^2)); inf: all weigh 1.

    Raises:
        InputError: the spread is not above 0.
    """
    if not spread > 0:
        raise InputError(f"spread of the centre prior: expected above 0, found {spread}")
    counts = torch.tensor([0, *(len(keypoints) for keypoints in photographs)])
    empty = np.zeros((0, 128), np.float16)
    vectors = np.concatenate([keypoints.descriptors for keypoints in photographs] or [empty])
    weights = np.concatenate([_centrality(keypoints, spread) for keypoints in photographs] or [empty[:, 0]])
    return Descriptors(torch.from_numpy(vectors), counts.cumsum(0), torch.from_numpy(weights.astype(np.float32)))


def _centrality(keypoints: Keypoints, spread: float) -> np.ndarray:
    offsets = keypoints.points[:, :2].astype(np.float64) / keypoints.extent - 0.5
    weights: np.ndarray = np.exp(-(offsets**2).sum(1) / (2 * spread**2))
    return weights


def lnbnn(
    queries: Descriptors,
    gallery: Descriptors,
    labels: Tensor | None = None,
    k: int = 4,
    forbidden: Tensor | None = None,
    device: torch.device | None = None,
    precision: torch.dtype = torch.float32,
    budget: int = BUDGET,
) -> Tensor:
    """Local naive Bayes nearest neighbours: every descriptor of a query votes for the owners of its neighbours.

    A descriptor's k nearest neighbours in the whole gallery vote for their labels with the squared distance by which
    they are nearer than neighbour k + 1; of each label only the nearest votes (McCann and Lowe, CVPR 2012, algorithm 2,
    after Boiman, Shechtman and Irani, CVPR 2008). With photographs as labels that is HotSpotter's one-vs-many score
    before its aggregation (Crall et al., WACV 2013), for `of_individuals`; individuals as labels favour those with many
    photographs (leave-one-out top-1 of cattle faces 0.12 instead of 0.25, k = 4). A vote counts the product of both
    descriptors' weights. Where fewer than k + 1 neighbours are allowed, the farthest of them takes the place of
    neighbour k + 1.

    Args:
        queries: Q photographs.
        gallery: G photographs.
        labels: (G,) int64 from 0 to L - 1, e.g. the individual on each; None: each photograph is its own label.
        k: neighbours that vote, at least 1.
        forbidden: (Q, G) bool; a gallery photograph that is forbidden to a query is not there for it, neither as a
            neighbour nor as number k + 1.
        device: where to search; None for the processor.
        precision: of the search; the similarities of what it finds are computed again in float32.
        budget: bytes of similarities held at a time. The scores do not depend on it.

    Returns:
        (Q, L) float32 on the processor, 0 where nothing was shared, never NaN.
    """
    places = torch.arange(len(gallery)) if labels is None else labels.cpu()
    width = int(places.max()) + 1 if len(places) else 0
    scores = torch.zeros(len(queries) * width, dtype=torch.float64)
    asked, owner = queries.owner, gallery.owner
    for rows, similarity, neighbour in nearest(queries, gallery, k + 1, forbidden, device, precision, budget):
        allowed = similarity > -torch.inf
        if not allowed.any():
            continue
        normaliser = similarity.masked_fill(~allowed, torch.inf).amin(1, keepdim=True)
        votes = (2 * (similarity - normaliser)).masked_fill(~allowed, 0)[:, :k]  # |a - b|^2 = 2 - 2 ab
        voted = places[owner[neighbour[:, :k]]]
        again = (voted[:, :, None] == voted[:, None, :]).tril(-1).any(2)
        weights = queries.weights[rows, None] * gallery.weights[neighbour[:, :k]]
        counted = (votes * weights).masked_fill(again, 0).double()
        scores.index_add_(0, (asked[rows, None] * width + voted).flatten(), counted.flatten())
    return scores.view(len(queries), width).float()


def nearest(
    queries: Descriptors,
    gallery: Descriptors,
    count: int,
    forbidden: Tensor | None = None,
    device: torch.device | None = None,
    precision: torch.dtype = torch.float32,
    budget: int = BUDGET,
) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """The exact nearest gallery descriptors of every query descriptor, block by block.

    Yields:
        Which rows of the queries; their similarities (q, C) float32, descending, -inf where there is no neighbour
        left; and the neighbours' rows in the gallery (q, C) int64, 0 where there is none. C is `count` or, if that is
        fewer, the rows of the gallery.
    """
    device = device or torch.device("cpu")
    known, owner = gallery.vectors.to(device), gallery.owner
    wide = min(count + SPARE, len(known))
    if not wide:
        return
    tall = max(1, math.isqrt(budget // (8 * precision.itemsize)))  # blocks of the gallery are 8 times as long
    asked = queries.owner
    for start in range(0, len(queries.vectors), tall):
        rows = slice(start, min(start + tall, len(queries.vectors)))
        block = queries.vectors[rows].to(device)
        similarity = torch.full((len(block), wide), -torch.inf, dtype=precision, device=device)
        neighbour = torch.zeros((len(block), wide), dtype=torch.long, device=device)
        for left in range(0, len(known), 8 * tall):
            part = known[left : left + 8 * tall]
            found = block.to(precision) @ part.to(precision).T  # (q, b)
            if forbidden is not None:
                _forbid(found, forbidden, asked[rows], owner[left : left + len(part)])
            values, places = _largest(found, min(wide, len(part)))
            similarity, order = torch.cat([similarity, values], 1).topk(wide)
            neighbour = torch.cat([neighbour, places + left], 1).gather(1, order)
        exact = torch.stack([(known[column].float() * block.float()).sum(1) for column in neighbour.T], 1)
        exact = exact.masked_fill(similarity == -torch.inf, -torch.inf)
        similarity, order = exact.topk(min(count, wide))
        neighbour = neighbour.gather(1, order).masked_fill(similarity == -torch.inf, 0)
        yield rows, similarity.cpu(), neighbour.cpu()


def _forbid(found: Tensor, forbidden: Tensor, asked: Tensor, owner: Tensor) -> None:
    """Takes the descriptors of forbidden photographs out of the similarities (q, b), photograph by photograph."""
    queries, counts = torch.unique_consecutive(asked, return_counts=True)
    for photograph, part in zip(queries.tolist(), torch.split(found, counts.tolist()), strict=True):
        columns = forbidden[photograph][owner].nonzero().flatten()
        part.index_fill_(1, columns.to(found.device), -torch.inf)


def _largest(found: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` largest of every row and where they are: the row's chunks with the largest maxima hold them."""
    rows, columns = found.shape
    chunks = columns // CHUNK
    if chunks <= count:
        values, places = found.topk(count)
        return values, places
    body = found[:, : chunks * CHUNK].view(rows, chunks, CHUNK)
    leading = body.amax(2).topk(count).indices  # (q, count)
    inside = body.gather(1, leading[:, :, None].expand(-1, -1, CHUNK)).flatten(1)
    where = (leading[:, :, None] * CHUNK + torch.arange(CHUNK, device=found.device)).flatten(1)
    tail = torch.arange(chunks * CHUNK, columns, device=found.device).expand(rows, -1)
    values, places = torch.cat([inside, found[:, chunks * CHUNK :]], 1).topk(count)
    return values, torch.cat([where, tail], 1).gather(1, places)


def of_individuals(scores: Tensor, labels: Tensor, best: int = 1) -> Tensor:
    """An individual's score from those of its photographs: the mean of the `best` highest, or of as many as it has.

    Args:
        scores: (Q, G) per photograph.
        labels: (G,) int64 from 0 to L - 1, the individual on each.
        best: how many; 1 takes the highest.

    Returns:
        (Q, L) float32.
    """
    means = []
    for individual in range(int(labels.max()) + 1 if len(labels) else 0):
        own = scores[:, labels == individual]
        means.append(
            own.topk(min(best, own.shape[1])).values.mean(1) if own.shape[1] else scores.new_zeros(len(scores))
        )
    return torch.stack(means, 1) if means else scores.new_zeros(len(scores), 0)


# a shortlist closely


MODELS = ("homography", "affine")


@dataclass(frozen=True)
class Matching:
    """How two photographs are compared.

    Attributes:
        ratio: a match's distance is at most this share of the second nearest's (Lowe, IJCV 2004, section 7.1).
        model: "affine" (6 degrees of freedom) or "homography" (8), whose freedom chance matches use too.
        tolerance: how far an inlier may lie from where the model puts it, as a share of the longer side.
    """

    ratio: float = 0.9
    model: str = "affine"
    tolerance: float = 0.03

    def __post_init__(self) -> None:
        if self.model not in MODELS:
            raise InputError(f"matching model: expected {' or '.join(MODELS)}, found {self.model!r}")
        if not 0 < self.ratio <= 1:
            raise InputError(f"matching ratio: expected above 0 and at most 1, found {self.ratio}")
        if not 0 < self.tolerance < math.inf:
            raise InputError(f"matching tolerance: expected above 0, found {self.tolerance}")


@dataclass(frozen=True)
class Verified:
    """A query beside one gallery photograph.

    Attributes:
        pairs: (n, 2, 2) float32: x, y on the query, and x, y on the gallery photograph, per match; shares of the longer
            sides.
        inlier: (n,) bool, whether the geometric model explains the match.
    """

    pairs: np.ndarray
    inlier: np.ndarray

    @property
    def inliers(self) -> int:
        return int(self.inlier.sum())


def verify(
    queries: Sequence[Keypoints],
    gallery: Sequence[Keypoints],
    shortlist: np.ndarray,
    matching: Matching,
    device: torch.device | None = None,
    workers: int = 0,
    what: str = "verifying matches",
) -> list[list[Verified]]:
    """Compares every query with its shortlist: mutual nearest neighbours that pass the ratio test, then a robust fit.

    The fit is OpenCV's MAGSAC++ (Barath et al., CVPR 2020), whose random numbers start anew for every pair: the result
    depends neither on the other pairs nor on the number of workers.

    Args:
        queries: Q photographs.
        gallery: G photographs.
        shortlist: (Q, S) int, places in the gallery.
        matching: the settings.
        device: where descriptors are compared; None for the processor.
        workers: processes for the fits; 0 to work in this one.
        what: the work in a few words, for the progress.

    Returns:
        Per query and place of its shortlist, a `Verified`.
    """
    compared = []
    for query, row in zip(queries, shortlist, strict=True):
        candidates = [gallery[place] for place in row]
        for candidate, matches in zip(candidates, _match(query, candidates, matching.ratio, device), strict=True):
            ends = query.points[matches[:, 0], :2], candidate.points[matches[:, 1], :2]
            compared.append(np.stack(ends, 1))  # (n, 2, 2)
    fitted = _in_processes(partial(_fit, matching), compared, workers)
    masks = track(fitted, what, len(compared))
    found = iter([Verified(pairs, inlier) for pairs, inlier in zip(compared, masks, strict=True)])
    return [[next(found) for _ in row] for row in shortlist]


def _match(
    query: Keypoints, candidates: Sequence[Keypoints], ratio: float, device: torch.device | None
) -> list[np.ndarray]:
    """Per candidate the matches (n, 2): a keypoint of the query, a keypoint of the candidate."""
    longest = max((len(candidate) for candidate in candidates), default=0)
    if not longest or not len(query):
        return [np.zeros((0, 2), np.int64) for _ in candidates]
    lengths = torch.tensor([len(candidate) for candidate in candidates])
    padded = torch.zeros(len(candidates), max(2, longest), query.descriptors.shape[1])
    for row, candidate in zip(padded, candidates, strict=True):
        row[: len(candidate)] = torch.from_numpy(candidate.descriptors)
    absent = torch.arange(padded.shape[1]) >= lengths[:, None]  # (S, g)
    similarity = torch.from_numpy(query.descriptors).to(device).float() @ padded.to(device).mT  # (S, n, g)
    similarity.masked_fill_(absent[:, None].to(device), -torch.inf)
    values, places = similarity.topk(2, 2)
    distances = (2 - 2 * values).clamp_min(0).sqrt()
    mutual = similarity.argmax(1).gather(1, places[:, :, 0]) == torch.arange(len(query), device=device)
    good = mutual & (distances[:, :, 0] <= ratio * distances[:, :, 1]) & (lengths > 0)[:, None].to(device)
    return [
        torch.stack([own.nonzero()[:, 0], place[own, 0]], 1).cpu().numpy()
        for own, place in zip(good, places, strict=True)
    ]


def _fit(matching: Matching, pairs: np.ndarray) -> np.ndarray:
    """Which of the matched points (n, 2, 2) one transformation explains, (n,) bool."""
    estimate, sample = (cv2.findHomography, 4) if matching.model == "homography" else (cv2.estimateAffine2D, 3)
    if len(pairs) <= sample:  # any so few points fit
        return np.zeros(len(pairs), bool)
    left, right = pairs[:, 0] * PIXELS, pairs[:, 1] * PIXELS
    _, mask = estimate(left, right, method=cv2.USAC_MAGSAC, ransacReprojThreshold=matching.tolerance * PIXELS)
    return np.zeros(len(pairs), bool) if mask is None else mask[:, 0].astype(bool)
