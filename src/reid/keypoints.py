"""Local features: what is distinctive at many small places of a photograph, and who in the gallery shares it.

`extract` makes keypoints and their descriptors, a `KeypointCache` remembers them, `lnbnn` asks a whole gallery at once
which photographs share descriptors with a query, and `verify` looks at a shortlist more closely: which of the matches
lie in the same arrangement on both photographs.

Another extractor takes RootSIFT's place by another `extract`: descriptors of unit length, more alike the larger their
inner product.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import PIL
import torch
from safetensors import SafetensorError
from safetensors.numpy import load, save
from torch import Tensor

from reid import InputError
from reid.files import write_bytes
from reid.ranks import cores
from reid.search import nearest

__all__ = [
    "NO_KEYPOINTS",
    "Descriptors",
    "Extraction",
    "KeypointCache",
    "Keypoints",
    "Matching",
    "Verified",
    "extract",
    "focused",
    "keypoints_from",
    "lnbnn",
    "sift_out",
    "stack",
    "strongest",
    "tensors_of",
    "verify",
    "weigh",
]

EXTRACTOR = "RootSIFT 1"
"""The extractor's name and version: raise it whenever `extract` gives other keypoints than before."""

GEOMETRY_SIDE = 1000
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
        weights: (N,) float32 from 0 to 1, how surely each lies on the animal; 1 where nobody can tell.
    """

    points: np.ndarray
    descriptors: np.ndarray
    extent: tuple[float, float]
    weights: np.ndarray

    def __len__(self) -> int:
        return len(self.points)

    def of(self, chosen: np.ndarray) -> "Keypoints":
        """The keypoints that a mask or places choose."""
        return Keypoints(self.points[chosen], self.descriptors[chosen], self.extent, self.weights[chosen])


NO_KEYPOINTS = Keypoints(
    np.zeros((0, 4), np.float32), np.zeros((0, 128), np.float16), (1.0, 1.0), np.zeros(0, np.float32)
)


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
    scaled_size = max(1, round(width * factor)), max(1, round(height * factor))
    interpolation = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    grey = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), scaled_size, interpolation=interpolation)
    if extraction.clahe:
        grey = cv2.createCLAHE(extraction.clahe, (8, 8)).apply(grey)
    sift = cv2.SIFT.create(contrastThreshold=extraction.contrast)
    detected = _strongest(sift.detect(grey), extraction)
    extent = (scaled_size[0] / extraction.size, scaled_size[1] / extraction.size)
    if not detected:
        return replace(NO_KEYPOINTS, extent=extent)
    described, raw = sift.compute(grey, detected)
    rows = np.array([(point.pt[0] + 0.5, point.pt[1] + 0.5, point.size, point.angle) for point in described])
    points = rows / extraction.size
    points[:, 3] = np.radians(rows[:, 3])
    descriptors = np.sqrt(raw / np.maximum(raw.sum(1, keepdims=True), 1))  # SIFT's components are whole numbers
    certain = np.ones(len(points), np.float32)
    return Keypoints(points.astype(np.float32), descriptors.astype(np.float16), extent, certain)


def _strongest(detected: Sequence[cv2.KeyPoint], extraction: Extraction) -> list[cv2.KeyPoint]:
    """The keypoints of the strongest response, in an order that does not depend on OpenCV's threads."""
    if extraction.upright:  # SIFT repeats a keypoint for every strong angle; without angles these are one
        for point in detected:
            point.angle = 0
        detected = list({(point.pt, point.size): point for point in detected}.values())
    return sorted(detected, key=_strength)[: extraction.count]


def _strength(point: cv2.KeyPoint) -> tuple[float, ...]:
    return (-point.response, *point.pt, point.size, point.angle)


def weigh(keypoints: Keypoints, attention: np.ndarray, fit: str) -> Keypoints:
    """Keypoints weighed by where a network looks.

    Args:
        keypoints: of a photograph.
        attention: (h, w) float from 0 to 1, over the square that the network saw.
        fit: how the photograph was made a square, "squash" or "pad".
    """
    if not len(keypoints):
        return keypoints
    extent = np.array(keypoints.extent)
    across = keypoints.points[:, :2] / extent if fit == "squash" else keypoints.points[:, :2] + (1 - extent) / 2
    x, y = (across * attention.shape[::-1] - 0.5).T.astype(np.float32)  # the centre of a cell is where its value holds
    weights = cv2.remap(attention, x[None], y[None], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return replace(keypoints, weights=np.asarray(weights, np.float32).ravel())


def sift_out(keypoints: Keypoints, count: int, focus: float) -> Keypoints:
    """Only the strongest `count` keypoints, and the strongest `count` of those on the animal (see `focused`)."""
    on_animal = keypoints.weights >= focus
    chosen = np.arange(len(keypoints)) < count
    chosen |= on_animal & (on_animal.cumsum() <= count)
    return keypoints.of(chosen)


def strongest(keypoints: Keypoints, count: int) -> Keypoints:
    """The `count` keypoints of the strongest response, wherever they are."""
    return keypoints.of(np.arange(min(count, len(keypoints))))


def focused(keypoints: Keypoints, focus: float) -> Keypoints:
    """The keypoints on the animal: those whose weight is `focus` or more."""
    return keypoints.of(keypoints.weights >= focus)


# many photographs


class KeypointCache:
    """Keypoints by the SHA-256 of the photograph's file, kept on disk between runs.

    It holds a file per photograph and settings. Its name and its seal are hashes over the photograph's bytes, the
    settings, the extractor, OpenCV's and Pillow's versions and what the pixels went through before; a file that is
    damaged or another's is as good as none.

    Attributes:
        folder: where; it need not be there yet. If it can't be written, nothing is remembered.
        key: what the keypoints are made with.
    """

    def __init__(self, folder: Path, extraction: Extraction, opened_as: str) -> None:
        """
        Args:
            folder: see above.
            extraction: the settings.
            opened_as: words that change when the pixels that `extract` is given do.
        """
        made_with = {
            "extractor": EXTRACTOR,
            **asdict(extraction),
            "opened_as": opened_as,
            "opencv": cv2.__version__,
            "pillow": PIL.__version__,
        }
        self.folder, self.key = folder, json.dumps(made_with)

    def recall(self, digest: str) -> Keypoints | None:
        """The keypoints of a photograph that was looked at before; None when it was not, or `digest` is ""."""
        with suppress(OSError, SafetensorError):
            content = self._file(digest).read_bytes()
            if content[:32] == self._seal(digest, content[32:]):
                (keypoints,) = keypoints_from(load(content[32:]))
                return keypoints
        return None

    def remember(self, digest: str, keypoints: Keypoints) -> None:
        """Keeps keypoints for the next time; digest "" stands for a file that can't be read."""
        if digest:
            content = save(tensors_of([keypoints]))
            with suppress(InputError):
                write_bytes(self._file(digest), self._seal(digest, content) + content)

    def _file(self, digest: str) -> Path:
        name = hashlib.sha256((self.key + digest).encode()).hexdigest()
        return self.folder / name[:2] / f"{name}.keypoints"

    def _seal(self, digest: str, content: bytes) -> bytes:
        """What a file begins with: only the keypoints of this photograph and key have it."""
        return hashlib.sha256((self.key + digest).encode() + content).digest()


def tensors_of(photographs: Sequence[Keypoints]) -> dict[str, np.ndarray]:
    """What a safetensors file can hold: points (M, 4), descriptors (M, D) and weights (M,), extents (N, 2) and counts
    (N,)."""
    return {
        "points": np.concatenate([keypoints.points for keypoints in photographs]),
        "descriptors": np.concatenate([keypoints.descriptors for keypoints in photographs]),
        "weights": np.concatenate([keypoints.weights for keypoints in photographs]),
        "extents": np.array([keypoints.extent for keypoints in photographs]),
        "counts": np.array([len(keypoints) for keypoints in photographs]),
    }


def keypoints_from(tensors: dict[str, np.ndarray]) -> tuple[Keypoints, ...]:
    """The inverse of `tensors_of`."""
    ends = np.cumsum(tensors["counts"])[:-1]
    points, descriptors, weights = (np.split(tensors[name], ends) for name in ("points", "descriptors", "weights"))
    extents = [(width, height) for width, height in tensors["extents"].tolist()]
    return tuple(map(Keypoints, points, descriptors, extents, weights))


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


def stack(photographs: Sequence[Keypoints], spread: float = math.inf, power: float = 0.0) -> Descriptors:
    """Many photographs' descriptors in one tensor.

    Args:
        photographs: of one extractor.
        power: a keypoint's weight counts to this power; 0 for not at all.
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
    votes = [_centrality(keypoints, spread) * keypoints.weights**power for keypoints in photographs]
    weights = np.concatenate([np.zeros(0), *votes])
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
    hidden: Tensor | None = None,
    about: Tensor | None = None,
    device: torch.device | None = None,
    precision: torch.dtype = torch.float32,
) -> Tensor:
    """Local naive Bayes nearest neighbours: every descriptor of a query votes for the owners of its neighbours.

    A descriptor's k nearest neighbours in the whole gallery vote for their labels with the squared distance by which
    they are nearer than neighbour k + 1; of each label only the nearest votes (McCann and Lowe, CVPR 2012, algorithm 2,
    after Boiman, Shechtman and Irani, CVPR 2008). With photographs as labels that is HotSpotter's one-vs-many score
    before its aggregation by individual (Crall et al., WACV 2013); individuals as labels favour those with many
    photographs (leave-one-out top-1 of cattle faces 0.12 instead of 0.25, k = 4). A vote counts the product of both
    descriptors' weights. Where fewer than k + 1 neighbours are allowed, the farthest of them takes the place of
    neighbour k + 1.

    Args:
        queries: Q photographs.
        gallery: G photographs.
        labels: (G,) int64 from 0 to L - 1, e.g. the individual on each; None: each photograph is its own label.
        k: neighbours that vote, at least 1.
        hidden: (R, G) bool; a gallery photograph that is hidden in a row is not there for it, neither as a neighbour
            nor as number k + 1.
        about: (R,) int64, the query photograph that each row of `hidden` is about; None: row i is about query i. Rows
            about one photograph cost hardly more than one of them.
        device, precision: of the search, see `search.nearest`.

    Returns:
        (R, L) float32 on the processor, 0 where nothing was shared, never NaN; R is Q without `about`.
    """
    about = torch.arange(len(queries)) if about is None else about
    hidden = torch.zeros(len(about), len(gallery), dtype=torch.bool) if hidden is None else hidden.cpu()
    photograph_labels = torch.arange(len(gallery)) if labels is None else labels.cpu()
    label_count = int(photograph_labels.max()) + 1 if len(photograph_labels) else 0
    scores = torch.zeros(len(about) * label_count, dtype=torch.float64)
    query_owner, gallery_owner = queries.owner, gallery.owner
    turns = _turns(about, len(queries))
    always_hidden = torch.ones(len(queries), len(gallery), dtype=torch.bool)  # hidden in every row about the photograph
    for turn in turns:
        always_hidden &= hidden[turn] | (turn < 0)[:, None]
    count = k + 1 + (SHARED if len(turns) > 1 else 0)
    search = partial(nearest, gallery=gallery.vectors, gallery_owner=gallery_owner, device=device, precision=precision)
    for rows, distance, place in search(queries.vectors, count=count, hidden=always_hidden, query_owner=query_owner):
        for turn in turns:
            score_rows = turn[query_owner[rows]]
            active = (score_rows >= 0).nonzero().flatten()
            score_rows = score_rows[active]
            unseen = hidden[score_rows[:, None], gallery_owner[place[active]]]
            kept_distances, kept_places = _struck_out(distance[active], place[active], unseen, k + 1)
            if len(incomplete := torch.isnan(kept_distances).any(1).nonzero().flatten()):
                vectors = queries.vectors[rows][active[incomplete]]
                searched = list(search(vectors, count=k + 1, hidden=hidden[score_rows[incomplete]]))
                kept_distances[incomplete] = torch.cat([block.distance for block in searched])
                kept_places[incomplete] = torch.cat([block.place for block in searched])
            voting = kept_places[:, :k]
            voted = photograph_labels[gallery_owner[voting]]
            repeated = (voted[:, :, None] == voted[:, None, :]).tril(-1).any(2)
            votes = _votes(kept_distances, k) * queries.weights[rows][active][:, None] * gallery.weights[voting]
            counted = votes.masked_fill(repeated, 0).double()
            scores.index_add_(0, (score_rows[:, None] * label_count + voted).flatten(), counted.flatten())
    return scores.view(len(about), label_count).float()


def _votes(distances: Tensor, k: int) -> Tensor:
    """(n, C) squared distances -> (n, k), by how much the first k are nearer than the farthest that is there."""
    finite = torch.isfinite(distances)
    farthest = distances.masked_fill(~finite, -torch.inf).amax(1, keepdim=True)
    return (farthest - distances).masked_fill(~finite, 0)[:, :k]


def _struck_out(distances: Tensor, places: Tensor, unseen: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The first `count` neighbours, (n, count), of those (n, C) that are not unseen; NaN where there may be others
    beyond the last."""
    incomplete = (unseen.sum(1) > distances.shape[1] - count) & torch.isfinite(distances[:, -1])
    distances, order = distances.masked_fill(unseen, torch.inf).topk(min(count, distances.shape[1]), largest=False)
    return distances.masked_fill(incomplete[:, None], torch.nan), places.gather(1, order)


SHARED = 8
"""Neighbours beyond k + 1 that are sought when several rows are about one photograph: what is hidden in some of them
is struck out afterwards, and a descriptor that has too few left is searched for again."""


def _turns(about: Tensor, query_count: int) -> list[Tensor]:
    """Rows dealt out so that each turn has at most one about each photograph: (Q,) int64, the row, -1 for none."""
    turns: list[Tensor] = []
    for row, photograph in enumerate(about.tolist()):
        turn = next((earlier for earlier in turns if earlier[photograph] < 0), None)
        if turn is None:
            turns.append(torch.full((query_count,), -1, dtype=torch.long))
            turn = turns[-1]
        turn[photograph] = row
    return turns


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
    shortlist: Sequence[np.ndarray],
    matching: Matching,
    device: torch.device | None = None,
) -> list[list[Verified]]:
    """Compares every query with its shortlist: mutual nearest neighbours that pass the ratio test, then a robust fit.

    The fit is OpenCV's MAGSAC++ (Barath et al., CVPR 2020), whose random numbers start anew for every pair: the result
    depends neither on the other pairs nor on their order.

    Args:
        queries: Q photographs.
        gallery: G photographs.
        shortlist: per query, (S,) int, places in the gallery.
        matching: the settings.
        device: where descriptors are compared; None for the processor.

    Returns:
        Per query and place of its shortlist, a `Verified`.
    """
    compared = []
    for query, row in zip(queries, shortlist, strict=True):
        candidates = [gallery[place] for place in row]
        for candidate, matches in zip(candidates, _match(query, candidates, matching.ratio, device), strict=True):
            ends = query.points[matches[:, 0], :2], candidate.points[matches[:, 1], :2]
            compared.append(np.stack(ends, 1))  # (n, 2, 2)
    with ThreadPoolExecutor(cores()) as pool:  # OpenCV lets Python's lock go while it fits
        fitted = pool.map(partial(_fit, matching), compared)
        verified = iter([Verified(pairs, inlier) for pairs, inlier in zip(compared, fitted, strict=True)])
    return [[next(verified) for _ in row] for row in shortlist]


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
        torch.stack([mask.nonzero()[:, 0], place[mask, 0]], 1).cpu().numpy()
        for mask, place in zip(good, places, strict=True)
    ]


def _fit(matching: Matching, pairs: np.ndarray) -> np.ndarray:
    """Which of the matched points (n, 2, 2) one transformation explains, (n,) bool."""
    estimate, sample = (cv2.findHomography, 4) if matching.model == "homography" else (cv2.estimateAffine2D, 3)
    if len(pairs) <= sample:  # any so few points fit
        return np.zeros(len(pairs), bool)
    left, right = pairs[:, 0] * GEOMETRY_SIDE, pairs[:, 1] * GEOMETRY_SIDE
    _, mask = estimate(left, right, method=cv2.USAC_MAGSAC, ransacReprojThreshold=matching.tolerance * GEOMETRY_SIDE)
    return np.zeros(len(pairs), bool) if mask is None else mask[:, 0].astype(bool)
