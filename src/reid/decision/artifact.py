"""The weights folder: what training leaves, what is uploaded to Kaggle, what prediction starts from.

`manifest.json` is written last and holds the SHA-256 of every other file, so a folder with a manifest is whole, and a
file that was cut short, swapped or edited is noticed before the first photograph.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from shlex import quote
from typing import Any

from reid import __version__
from reid.config.recipe import Recipe
from reid.config.settings import recipe_from_json
from reid.errors import InputError
from reid.runtime.files import is_file, read_json, sha256_of, write_json

__all__ = [
    "CALIBRATION",
    "CLASSIFIER",
    "GALLERY",
    "MANIFEST",
    "RUN_FOLDER",
    "Weights",
    "encoder_file",
    "fold_folder",
    "gallery_file",
    "open_weights",
    "write_manifest",
]

FORMAT = 2
READABLE = (1, 2)
"""The formats that this version reads; 1 is that of 0.1.0."""


MANIFEST = "manifest.json"


CLASSIFIER = "species.safetensors"


CALIBRATION = "calibration.json"


GALLERY = ".gallery.safetensors"
"""How galleries' names end."""


COPY_OR_RETRAIN = (
    "copy the weights folder again, or type the training's command again, which keeps the networks that are there and "
    "writes the manifest anew"
)
"""What helps where the manifest alone is damaged."""


def encoder_file(dataset: str) -> str:
    """Return the name of a dataset's encoder."""
    return f"{dataset}.safetensors"


def gallery_file(dataset: str) -> str:
    """Return the name of a dataset's gallery."""
    return f"{dataset}{GALLERY}"


RUN_FOLDER = "training"
"""Inside the weights folder, what only training needs: checkpoints, histories, the other folds' encoders."""


def fold_folder(folder: Path, fold: int) -> Path:
    """Return where a fold's encoders and galleries lie; the first fold's are those that predict."""
    return folder / RUN_FOLDER / f"fold-{fold}" if fold else folder


@dataclass(frozen=True)
class Weights:
    """A weights folder whose files were checked.

    Attributes:
        folder: where it lies.
        recipe: how it was trained.
        datasets: which animals it knows, in alphabetical order.
        manifest: the manifest's content as it stands.
    """

    folder: Path
    recipe: Recipe
    datasets: tuple[str, ...]
    manifest: dict[str, Any]

    @property
    def encoders(self) -> dict[str, Path]:
        """The file of each dataset's encoder; there is none where the recipe has no such cue."""
        return {dataset: self.folder / encoder_file(dataset) for dataset in self.datasets}

    @property
    def classifier(self) -> Path | None:
        """The file of the species classifier, if there is one."""
        return self.folder / CLASSIFIER if self.has_species else None

    @property
    def has_species(self) -> bool:
        """Whether there is a species classifier; a single dataset needs none."""
        return CLASSIFIER in self.manifest["files"]

    @property
    def precision(self) -> str:
        """The number format that whoever trained asked for, "auto" where nobody did."""
        recipe = self.manifest["recipe"]  # there 0.1.0 wrote it
        return str(self.manifest.get("precision") or recipe.get("precision", "auto"))

    @property
    def limit(self) -> int | None:
        """About how many photographs of a dataset it was trained on, where not on all."""
        limit: int | None = self.manifest.get("limit")  # weights of an earlier day say nothing
        return limit

    @property
    def caution(self) -> str:
        """What must be said of weights that were trained for a quick look; else the empty string."""
        if self.limit is None:
            return ""
        return f"{self.folder}: trained on a part of the database (--limit {self.limit}), not to be handed in"


def write_manifest(
    folder: Path,
    recipe: Recipe,
    datasets: list[str],
    fingerprint: str,
    limit: int | None = None,
    precision: str = "auto",
) -> Weights:
    """Write the manifest over the files that a complete folder has, and nothing else in it.

    What each network expects of photographs stands in its own file; here it is for people to read.

    Args:
        folder: where networks, galleries and calibration lie.
        recipe: how they were made.
        datasets: which animals they know.
        fingerprint: of the photographs.
        limit: how many of a dataset were looked at, where not all were.
        precision: the number format that was asked for.
    """
    from reid.models.networks import read_plan

    names = _parts(recipe, datasets)
    if not (folder / CALIBRATION).exists():  # it was lost, and enroll comes before calibrate
        names.remove(CALIBRATION)
    if recipe.uses_encoder and (folder / CLASSIFIER).exists():
        names.append(CLASSIFIER)
    networks = [name for name in names if not name.endswith((CALIBRATION, GALLERY))]
    plans = {name: asdict(read_plan(folder / name)) for name in networks}
    manifest = {
        "format": FORMAT,
        "reid": __version__,
        "torch": version("torch"),
        "timm": version("timm"),
        "recipe": asdict(recipe),
        "datasets": sorted(datasets),
        "data": fingerprint,
        "limit": limit,
        "precision": precision,
        "networks": {name: {**plan, "trained_on": len(plan["trained_on"])} for name, plan in sorted(plans.items())},
        "files": {name: sha256_of(folder / name) for name in sorted(names)},
    }
    write_json(folder / MANIFEST, manifest)
    return Weights(folder, recipe, tuple(sorted(datasets)), manifest)


def _parts(recipe: Recipe, datasets: Sequence[str]) -> list[str]:
    """Return the files without which a weights folder is not whole."""
    encoders = [encoder_file(dataset) for dataset in datasets] if recipe.uses_encoder else []
    return [CALIBRATION, *encoders, *(gallery_file(dataset) for dataset in datasets)]


def _or_remake(folder: Path, name: str) -> str:
    """Return how the file can be made anew where the photographs are: galleries and thresholds need no training."""
    if not name.endswith((CALIBRATION, GALLERY)):
        return ""
    verbs = ["calibrate"] if name == CALIBRATION else ["enroll", "calibrate"]
    calls = " and then ".join(f"`python -m reid {verb} DATA --weights {quote(str(folder))}`" for verb in verbs)
    return f", or make the file anew: {calls}"


def open_weights(folder: Path, remade: tuple[str, ...] = ()) -> Weights:
    """Read the manifest and checks every file's hash.

    Args:
        folder: a weights folder.
        remade: how the names of files end that are about to be made anew, `GALLERY` or `CALIBRATION`. They are not
            looked at: a verb that was interrupted between a file and the manifest can be typed again.

    Raises:
        InputError: no such folder, another format version, a file that is missing or not the one that was written.
    """
    weights = _read_manifest(folder)
    _check_files(weights, remade)
    return weights


def _read_manifest(folder: Path) -> Weights:
    """Return what the manifest says, before a file is looked at."""
    if not (folder / MANIFEST).is_file():
        found = "a folder without one (was training finished?)" if folder.is_dir() else "no such folder"
        raise InputError(
            f"{folder / MANIFEST}: expected the manifest of a weights folder, found {found}; "
            "`python -m reid train` makes one"
        )
    try:
        manifest = read_json(folder / MANIFEST)
    except InputError as problem:
        raise InputError(f"{problem}; {COPY_OR_RETRAIN}") from None
    version = manifest.get("format") if isinstance(manifest, dict) else None
    if version not in READABLE:
        raise InputError(
            f"{folder / MANIFEST}: expected format {FORMAT}, found {version!r}. Another version of this kit "
            "wrote it: use that one, or train again"
        )
    try:
        files, recipe, datasets = (
            dict(manifest["files"]),
            recipe_from_json(manifest["recipe"]),
            list(manifest["datasets"]),
        )
        if not all(isinstance(name, str) for name in (*files, *datasets)):
            raise ValueError("a name is no word")
        limit = manifest.get("limit")
        if limit is not None and (type(limit) is not int or limit < 1):
            raise ValueError(f"limit {limit!r}")
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise InputError(f"{folder / MANIFEST}: it is damaged ({problem!r}); {COPY_OR_RETRAIN}") from None
    return Weights(folder, recipe, tuple(datasets), manifest)


def _check_files(weights: Weights, remade: tuple[str, ...]) -> None:
    """Refuse a file that is missing or not the one that was written, and one that the manifest forgot."""
    folder, files = weights.folder, dict(weights.manifest["files"])
    for name, expected in files.items():
        if name.endswith(remade):
            continue
        path = folder / name
        if Path(name).name != name or not is_file(path):
            raise InputError(
                f"{path}: the manifest lists this file, but it is not there; copy the weights folder again"
                + _or_remake(folder, name)
            )
        found = sha256_of(path)
        if found != expected:
            raise InputError(
                f"{path}: expected sha256 {str(expected)[:12]}..., found {found[:12]}...: it is not the file "
                f"that training wrote. Copy the weights folder again{_or_remake(folder, name)}"
            )
    parts = _parts(weights.recipe, weights.datasets)
    unlisted = [file for file in parts if file not in files and not file.endswith(remade)]
    if unlisted:
        raise InputError(
            f"{folder / MANIFEST}: it is damaged (no hash of {unlisted[0]}); {COPY_OR_RETRAIN}{_or_remake(folder, unlisted[0])}"
        )
