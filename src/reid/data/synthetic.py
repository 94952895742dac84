"""The toy world: drawn photographs of three made-up species, in the competition's folder layout.

An individual is the pattern of its markings, drawn once in its body's own coordinates. A photograph is that body,
posed, lit and partly hidden, in front of a background that has nothing to do with it. As in the competition, lynxes
have two flanks with different markings, some salamanders are photographed lying on their side, and turtles have dates,
their queries later than the database. It serves to try the whole kit without a download, and tests that need to know
the truth.

The world `SMALL` is for discovering individuals, as AnimalCLEF26 asks for it: most of its queries show new individuals,
several photographs of each, and horned lizards have no known individuals at all.
"""

import hashlib
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

from reid.data.catalogue import COLUMNS, NEW_INDIVIDUAL
from reid.errors import InputError
from reid.runtime.distributed import core_count
from reid.runtime.files import atomic_path, refuse_unwritable, write_table
from reid.runtime.progress import track

__all__ = [
    "BODY",
    "PLAIN",
    "SMALL",
    "Bodies",
    "Design",
    "Shot",
    "Species",
    "background",
    "day_of",
    "draw_photograph",
    "draw_world",
    "in_front",
    "lit",
    "posed",
    "refuse_other_folders",
    "save_photograph",
    "shots_of",
    "write_tables",
]

SIZE = 180
"""Pixels on a photograph's side, about: small files, yet larger than what a toy network sees."""

EXIF_ORIENTATION = 274

TURNED_TAG = {Image.Transpose.ROTATE_90: 6, Image.Transpose.ROTATE_180: 3, Image.Transpose.ROTATE_270: 8}
"""How a viewer must turn a picture that was stored turned this way (EXIF 2.32, tag Orientation)."""


@dataclass(frozen=True)
class Species:
    """One dataset of the toy world.

    Attributes:
        dataset: the name in the column `dataset`, and the beginning of its identities.
        word: its animal, in identities.
        species: the cell of the column `species`.
        draw_body: (generator) -> the body, RGBA, transparent around it, head to the right.
        flanks: orientations that show different markings.
        lies_down: photographed from above, now and then on its side; its known ones have no cell `species`.
        is_dated: photographs have a date; queries have no orientation.
        is_known: some of its individuals are in the database.
    """

    dataset: str
    word: str
    species: str
    draw_body: Callable[[np.random.Generator], Image.Image]
    flanks: tuple[str, ...]
    lies_down: bool = False
    is_dated: bool = False
    is_known: bool = True


BODY = (480, 320)
"""Width and height of a body's canvas; posing scales it down."""


def _scattered(rng: np.random.Generator, count: int, min_distance: float, box: tuple[int, int, int, int]) -> np.ndarray:
    """Return points in a box that keep a distance from each other: (count, 2), or fewer where no more fit."""
    points: list[np.ndarray] = []
    for _ in range(count * 40):
        point = rng.uniform(box[:2], box[2:])
        if len(points) < count and all(np.hypot(*(point - other)) > min_distance for other in points):
            points.append(point)
    return np.array(points)


def _blob(
    rng: np.random.Generator, centre: np.ndarray, radius: float, roughness: float = 0.3
) -> list[tuple[float, float]]:
    """Return an irregular closed outline."""
    angles = np.linspace(0, 2 * np.pi, 14, endpoint=False)
    radii = radius * (1 + roughness * rng.uniform(-1, 1, size=len(angles)))
    stretch = rng.uniform(0.75, 1.3)
    return [
        (centre[0] + r * stretch * np.cos(a), centre[1] + r / stretch * np.sin(a))
        for a, r in zip(angles, radii, strict=True)
    ]


def _masked(body: Image.Image, markings: Image.Image) -> Image.Image:
    """Return markings over a body, cut at its outline."""
    over = Image.alpha_composite(body, markings)
    over.putalpha(body.getchannel("A"))
    return over


def draw_lynx(rng: np.random.Generator) -> Image.Image:
    """Return a tan flank with dark spots."""
    body = Image.new("RGBA", BODY)
    pen = ImageDraw.Draw(body)
    fur = (196, 160, 112, 255)
    for x in (110, 170, 300, 350):
        pen.rounded_rectangle((x, 190, x + 34, 305), 16, fill=(178, 142, 98, 255))
    pen.ellipse((50, 60, 400, 235), fill=fur)
    pen.ellipse((355, 25, 460, 130), fill=fur)
    pen.polygon([(375, 45), (385, 0), (405, 35)], fill=(120, 92, 60, 255))
    pen.polygon([(425, 35), (440, 0), (450, 48)], fill=(120, 92, 60, 255))
    pen.ellipse((20, 90, 75, 125), fill=(120, 92, 60, 255))
    pen.ellipse((420, 65, 434, 79), fill=(40, 40, 20, 255))
    markings = Image.new("RGBA", BODY)
    pen = ImageDraw.Draw(markings)
    for point in _scattered(rng, int(rng.integers(4, 9)), 62, (80, 80, 370, 215)):
        radius = rng.uniform(15, 40)
        pen.polygon(_blob(rng, point, radius), fill=(62, 40, 24, 255))
        if rng.random() < 0.4:  # a rosette
            pen.polygon(_blob(rng, point, 0.5 * radius), fill=(222, 190, 140, 255))
    return _masked(body, markings)


def draw_salamander(rng: np.random.Generator) -> Image.Image:
    """Return a black back seen from above, with yellow blotches."""
    body = Image.new("RGBA", BODY)
    pen = ImageDraw.Draw(body)
    skin = (34, 32, 36, 255)
    for x, y, dx, dy in ((140, 110, -40, -70), (140, 210, -40, 70), (300, 110, 40, -70), (300, 210, 40, 70)):
        pen.line((x, y, x + dx, y + dy), fill=skin, width=24)
        pen.ellipse((x + dx - 17, y + dy - 17, x + dx + 17, y + dy + 17), fill=skin)
    pen.polygon([(0, 160), (110, 110), (110, 210)], fill=skin)
    pen.ellipse((70, 90, 380, 230), fill=skin)
    pen.ellipse((350, 105, 465, 215), fill=skin)
    for y in (118, 190):
        pen.ellipse((420, y, 436, y + 14), fill=(90, 88, 92, 255))
    markings = Image.new("RGBA", BODY)
    pen = ImageDraw.Draw(markings)
    for point in _scattered(rng, int(rng.integers(4, 9)), 60, (60, 110, 420, 212)):
        pen.polygon(_blob(rng, point, rng.uniform(17, 38), 0.35), fill=(236, 190, 36, 255))
    return _masked(body, markings)


def draw_turtle(rng: np.random.Generator) -> Image.Image:
    """Return a head from the side, its scutes as the cells around scattered points."""
    body = Image.new("RGBA", BODY)
    pen = ImageDraw.Draw(body)
    pen.rounded_rectangle((0, 130, 160, 300), 40, fill=(150, 132, 96, 255))
    pen.ellipse((70, 30, 430, 290), fill=(226, 206, 160, 255))
    pen.polygon([(390, 120), (475, 165), (395, 230)], fill=(226, 206, 160, 255))
    points = _scattered(rng, int(rng.integers(7, 13)), 72, (60, 30, 430, 290))
    shades = np.array([(58, 36, 24), (122, 74, 36), (186, 132, 70), (96, 96, 56)])[rng.integers(0, 4, size=len(points))]
    y, x = np.mgrid[0 : BODY[1], 0 : BODY[0]]
    distances = np.hypot(x[..., None] - points[:, 0], y[..., None] - points[:, 1])  # (H, W, cells)
    nearest = np.sort(distances, axis=2)
    inside = nearest[..., 1] - nearest[..., 0] > 9  # a pale seam between the scutes
    cells = np.dstack([shades[distances.argmin(2)], np.where(inside, 255, 0)]).astype(np.uint8)
    head = _masked(body, Image.fromarray(cells))
    pen = ImageDraw.Draw(head)
    pen.ellipse((335, 95, 385, 145), fill=(20, 18, 16, 255), outline=(226, 206, 160, 255), width=6)
    pen.ellipse((350, 105, 362, 117), fill=(240, 240, 240, 255))
    return head


def draw_lizard(rng: np.random.Generator) -> Image.Image:
    """Return a flat sandy back seen from above, spines around it, with dark blotches."""
    body = Image.new("RGBA", BODY)
    pen = ImageDraw.Draw(body)
    skin = (206, 182, 142, 255)
    for angle in np.linspace(0, 2 * np.pi, 36, endpoint=False):  # the spines
        x, y = 215 + 180 * np.cos(angle), 160 + 128 * np.sin(angle)
        across = np.array([-np.sin(angle), np.cos(angle)]) * 9
        base = np.array([215 + 158 * np.cos(angle), 160 + 108 * np.sin(angle)])
        pen.polygon([tuple(base + across), tuple(base - across), (x, y)], fill=(164, 136, 98, 255))
    pen.polygon([(0, 160), (90, 122), (90, 198)], fill=skin)
    pen.ellipse((50, 45, 380, 275), fill=skin)
    pen.ellipse((345, 105, 445, 215), fill=(182, 152, 110, 255))
    for y in (112, 150, 188):  # the horns point backwards
        pen.polygon([(410, y), (410, y + 20), (362, y + 10)], fill=(104, 78, 52, 255))
    markings = Image.new("RGBA", BODY)
    pen = ImageDraw.Draw(markings)
    for point in _scattered(rng, int(rng.integers(5, 10)), 64, (85, 70, 350, 250)):
        pen.polygon(_blob(rng, point, rng.uniform(18, 36), 0.4), fill=(112, 58, 36, 255))
    pen.line((70, 160, 345, 160), fill=(238, 226, 198, 255), width=10)
    return _masked(body, markings)


@dataclass(frozen=True)
class Design:
    """What a world holds, of every species alike.

    Attributes:
        species: its datasets.
        photographs: database photographs per known individual.
        new_individuals: how many there are.
        photographs_of_new: the fewest of a new individual, and one more than the most.
        first_new: the number of the first new individual.
        first_query: the number of an individual's first query photograph; None: the one after its last in the database.
    """

    species: tuple[Species, ...]
    photographs: tuple[int, ...]
    new_individuals: int
    photographs_of_new: tuple[int, int]
    first_new: int
    first_query: int | None = None


LYNX = Species("LynxID2025", "lynx", "lynx", draw_lynx, ("left", "right"))
SALAMANDER = Species("SalamanderID2025", "salamander", "salamander", draw_salamander, ("top",), lies_down=True)
TURTLE = Species("SeaTurtleID2022", "turtle", "loggerhead turtle", draw_turtle, ("left",), is_dated=True)
LIZARD = Species("HornedLizardID2026", "lizard", "horned lizard", draw_lizard, ("top",), is_known=False)

PHOTOGRAPHS = (16, 12, 10, 9, 8, 8, *[7] * 3, *[6] * 5, *[5] * 8, *[4] * 8, *[3] * 4, *[2] * 3, *[1] * 3)
"""An imbalanced tail with singletons, as in the competition."""

PLAIN = Design((LYNX, SALAMANDER, TURTLE), PHOTOGRAPHS, 10, (1, 5), first_new=len(PHOTOGRAPHS))

SMALL = Design(
    (*PLAIN.species, LIZARD), (6, 5, 4, 4, 3, 3, 3, 2, 2, 2, 1, 1), 10, (1, 6), first_new=100, first_query=100
)
"""The known individuals are some of the plain world's, so that weights trained on it know them. Its new individuals and
its query photographs are not in the plain world, whose numbers are below 100."""

GROUNDS = (
    ((88, 116, 52), (52, 74, 34)),
    ((150, 140, 126), (96, 90, 84)),
    ((204, 184, 142), (160, 138, 100)),
    ((70, 118, 138), (40, 76, 98)),
)
"""Two colours each: grass, stones, sand, water."""


def background(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """Return noise of several sizes between two colours, RGB."""
    light, dark = np.array(GROUNDS[rng.integers(len(GROUNDS))])
    noise = np.zeros((height, width))
    for cells in (3, 8, 24, 60):
        coarse = Image.fromarray(rng.uniform(0, 255, size=(cells, cells)).astype(np.uint8))
        noise += np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)) / cells**0.4
    noise = (noise - noise.min()) / (np.ptp(noise) + 1e-9)
    return Image.fromarray((dark + (light - dark) * noise[..., None]).astype(np.uint8))


def posed(
    rng: np.random.Generator,
    body: Image.Image,
    width: int,
    height: int,
    cell: tuple[float, float, float, float] | None = None,
) -> Image.Image:
    """Return the body turned, scaled, sheared and moved, on a transparent canvas of the photograph's size.

    Args:
        rng: random numbers.
        body: RGBA, of the size `BODY`.
        width, height: of the photograph.
        cell: x,y,w,h, the part of it that the body fills; None for all of it.
    """
    left, top, wide, high = cell or (0, 0, width, height)
    angle, shear = np.radians(rng.uniform(-8, 8)), rng.uniform(-0.06, 0.06)
    scale = rng.uniform(0.88, 1.02) * min(wide / BODY[0], high / BODY[1])
    centre = np.array([left + wide / 2, top + high / 2]) + rng.uniform(-0.05, 0.05, size=2) * (wide, high)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    forward = scale * turn @ np.array([[1, shear], [0, rng.uniform(0.88, 1.08)]])
    back = np.linalg.inv(forward)  # Pillow asks where each pixel comes from
    offset = np.array(BODY) / 2 - back @ centre
    coefficients = (back[0, 0], back[0, 1], offset[0], back[1, 0], back[1, 1], offset[1])
    small = body.filter(ImageFilter.GaussianBlur(0.35 / scale))  # before sampling fewer pixels
    return small.transform((width, height), Image.Transform.AFFINE, coefficients, Image.Resampling.BICUBIC)


def lit(rng: np.random.Generator, picture: Image.Image) -> Image.Image:
    """Return the picture as at another time of day, with another camera."""
    picture = ImageEnhance.Color(picture).enhance(rng.uniform(0.6, 1.2))
    picture = ImageEnhance.Contrast(picture).enhance(rng.uniform(0.75, 1.2))
    pixels = np.asarray(picture).astype(float) * rng.uniform(0.7, 1.2) * rng.uniform(0.92, 1.08, size=3)
    height, width = pixels.shape[:2]
    slope = rng.uniform(-0.25, 0.25, size=2)
    shade = 1 + slope[0] * np.linspace(-1, 1, width)[None, :] + slope[1] * np.linspace(-1, 1, height)[:, None]
    pixels = pixels * shade[..., None] + rng.normal(scale=rng.uniform(1, 6), size=pixels.shape)
    lit = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    return lit.filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.8)))


def draw_photograph(rng: np.random.Generator, body: Image.Image) -> Image.Image:
    """Return one photograph of a body, RGB; the generator decides pose, light, background and what hides it."""
    width, height = (int(SIZE * rng.uniform(0.95, 1.25)), int(SIZE * rng.uniform(0.75, 0.95)))
    picture = background(rng, width, height)
    animal = posed(rng, body, width, height)
    picture.paste(animal, mask=animal.getchannel("A"))
    in_front(rng, picture)
    return lit(rng, picture)


def in_front(rng: np.random.Generator, picture: Image.Image) -> None:
    """Draw leaves and stones in front of an animal, or none."""
    width, height = picture.size
    pen = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(0, 2))):
        centre = rng.uniform((0, 0.1 * height), (width, height))
        red, green, blue = np.array(GROUNDS[rng.integers(len(GROUNDS))][0]) * rng.uniform(0.6, 1.1)
        pen.polygon(_blob(rng, centre, rng.uniform(6, 17)), fill=(int(red), int(green), int(blue)))


@dataclass(frozen=True)
class Shot:
    """One row of metadata.csv before it is drawn."""

    species: Species
    number: int
    photograph: int
    split: str
    new: bool

    @property
    def identity(self) -> str:
        return f"{self.species.dataset}_{self.species.word}_{self.number:02d}"


def shots_of(species: Species, design: Design, rng: np.random.Generator) -> list[Shot]:
    """Return the photographs to draw: of known individuals, queries of most of them, queries of new ones."""
    shots = []
    for number, count in enumerate(rng.permutation(design.photographs) if species.is_known else ()):
        queries = int(rng.integers(1, 3)) if rng.random() < 0.85 else 0
        first_query = int(count) if design.first_query is None else design.first_query
        shots += [Shot(species, number, photograph, "database", False) for photograph in range(int(count))]
        shots += [Shot(species, number, first_query + photograph, "query", False) for photograph in range(queries)]
    for number in range(design.first_new, design.first_new + design.new_individuals):
        photographs = range(int(rng.integers(*design.photographs_of_new)))
        shots += [Shot(species, number, photograph, "query", True) for photograph in photographs]
    return shots


def draw_world(folder: Path, seed: int = 0, design: Design = PLAIN) -> None:
    """Draw the world into a folder: photographs, sample_submission.csv, solution.csv and, last, metadata.csv.

    The same seed gives the same bytes. `solution.csv` has AnimalCLEF25's columns, which hold those of AnimalCLEF26, so
    that names and clusters can be scored; `sample_submission.csv` asks for clusters where a species has no known
    individuals, else for names.

    Args:
        folder: where; it is made if it is not there.
        seed: 0 or more.
        design: `PLAIN` or `SMALL`, or another.

    Raises:
        InputError: the folder holds something that is not a toy world; the seed is negative.
    """
    refuse_other_folders(folder, seed, FILES)
    (folder / "metadata.csv").unlink(missing_ok=True)  # which stands for a complete world
    rng = np.random.default_rng(seed)
    shots = [shot for species in design.species for shot in shots_of(species, design, rng)]
    bodies = Bodies(design, seed, {})

    def draw(shot: Shot) -> tuple[dict[str, str], str]:
        """Draw a photograph into its file; return its row of metadata.csv and its Usage."""
        photograph_rng = np.random.default_rng([seed, design.species.index(shot.species), shot.number, shot.photograph])
        row, picture = _take(shot, photograph_rng, bodies)
        save_photograph(folder / row["path"], picture, photograph_rng)
        return row, "Public" if photograph_rng.random() < 0.3 else "Private"

    ordered = [shots[place] for place in rng.permutation(len(shots))]
    rows, answers = [], []
    with ThreadPoolExecutor(core_count()) as pool:  # a photograph has random numbers of its own, whoever draws it
        drawn = zip(ordered, pool.map(draw, ordered), strict=True)
        for image_id, (shot, (row, usage)) in enumerate(track(drawn, "drawing photographs", total=len(ordered))):
            rows.append({"image_id": image_id, **row})
            if shot.split == "query":
                answers.append((image_id, shot.identity, shot.new, shot.species.dataset, usage))
    write_tables(folder, pd.DataFrame(rows)[list(COLUMNS)], answers, design)


def write_tables(
    folder: Path, rows: pd.DataFrame, answers: Sequence[tuple[int, str, bool, str, str]], design: Design
) -> None:
    """Write solution.csv, sample_submission.csv and, last, metadata.csv.

    Args:
        folder: where.
        rows: of metadata.csv.
        answers: of each query image_id, identity, whether it is new, dataset and Usage.
        design: the world's.
    """
    solution = pd.DataFrame(answers, columns=["image_id", "identity", "new_identity", "dataset", "Usage"])
    write_table(folder / "solution.csv", solution)
    write_table(folder / "sample_submission.csv", _sample(solution, design))
    write_table(folder / "metadata.csv", rows)


def refuse_other_folders(folder: Path, seed: int, names: Collection[str]) -> None:
    """Raise InputError where the folder holds anything but files of these names, or the seed is none."""
    others = [path.name for path in folder.iterdir() if path.name not in names] if folder.is_dir() else []
    if others or (folder.exists() and not folder.is_dir()):
        found = f"{others[0]!r} in it" if others else "a file"
        raise InputError(
            f"{folder}: expected an empty folder, or a toy world to draw anew; found {found}. Name another folder"
        )
    if seed < 0:
        raise InputError(f"--seed: expected 0 or more, found {seed}")
    refuse_unwritable(folder / "metadata.csv")


def _sample(solution: pd.DataFrame, design: Design) -> pd.DataFrame:
    """Return a submission with the same answer everywhere."""
    if all(species.is_known for species in design.species):
        return solution[["image_id"]].assign(identity=NEW_INDIVIDUAL)
    return solution[["image_id"]].assign(cluster="cluster_" + solution["dataset"] + "_0")


FILES = ("metadata.csv", "sample_submission.csv", "solution.csv", "images")


@dataclass(frozen=True)
class Bodies:
    """The bodies of a world's individuals, each drawn once; the other flank has other markings."""

    design: Design
    seed: int
    drawn: dict[tuple[str, str], Image.Image]

    def of(self, shot: Shot, flank: str) -> Image.Image:
        key = (shot.identity, flank)
        if key not in self.drawn:
            species, side = self.design.species.index(shot.species), shot.species.flanks.index(flank)
            rng = np.random.default_rng([self.seed, species, shot.number, side, 99])
            self.drawn[key] = shot.species.draw_body(rng)
        return self.drawn[key]


def _take(shot: Shot, rng: np.random.Generator, bodies: Bodies) -> tuple[dict[str, str], Image.Image]:
    """Return one photograph and its row of metadata.csv, without the image_id."""
    species, database = shot.species, shot.split == "database"
    met_from_both_sides = shot.number % 10 == 0  # the others showed one flank only
    flank = species.flanks[(shot.photograph if met_from_both_sides else shot.number) % len(species.flanks)]
    body = bodies.of(shot, flank)
    picture = draw_photograph(rng, body.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flank == "left" else body)
    orientation = flank
    if species.lies_down:
        orientation, picture = _lying(rng, picture)
    digest = hashlib.sha256(f"{bodies.seed} {shot.identity} {shot.photograph}".encode()).hexdigest()[:16]
    row = {
        "identity": shot.identity if database else "",
        "path": f"images/{species.dataset}/{shot.split}/{digest}.{'JPG' if rng.random() < 0.05 else 'jpg'}",
        "date": day_of(shot) if species.is_dated else "",
        "orientation": "" if species.is_dated and not database else orientation,
        "species": "" if species.lies_down and database else species.species,
        "split": shot.split,
        "dataset": species.dataset,
    }
    return row, picture


def day_of(shot: Shot) -> str:
    """Return the date: queries are later than the whole database."""
    if shot.split == "database":
        return f"{2012 + shot.photograph // 2}-07-{1 + shot.number % 31:02d}"
    return f"2023-08-{1 + shot.number % 28:02d}"


def _lying(rng: np.random.Generator, picture: Image.Image) -> tuple[str, Image.Image]:
    """Return an orientation and the picture turned by it: `right` needs -90 degrees to be upright, `left` +90."""
    word = rng.choice(["top", "right", "left"], p=[0.92, 0.04, 0.04])
    if word == "right":
        return "right", picture.transpose(Image.Transpose.ROTATE_90)
    if word == "left":
        return "left", picture.transpose(Image.Transpose.ROTATE_270)
    return "top", picture


def save_photograph(path: Path, picture: Image.Image, rng: np.random.Generator) -> None:
    """Write a JPEG; a few are stored turned, with the EXIF tag that says so."""
    exif = Image.Exif()
    if rng.random() < 0.05:
        turned = list(TURNED_TAG)[rng.integers(len(TURNED_TAG))]
        picture, exif[EXIF_ORIENTATION] = picture.transpose(turned), TURNED_TAG[turned]
    with atomic_path(path) as temporary:
        picture.save(temporary, format="JPEG", quality=88, exif=exif)
