"""The weights folder: what training leaves, what is uploaded to Kaggle, what prediction starts from.

`manifest.json` is written last and holds the SHA-256 of every other file, so a folder with a manifest is complete, and
a file that was cut short, swapped or edited is noticed before the first photograph is opened.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from shlex import quote
from typing import Any

from reid import __version__
from reid.config import legacy
from reid.config.recipe import LEARNED_EXTRACTORS, Recipe, extractor_names
from reid.config.settings import recipe_from_json
from reid.errors import InputError
from reid.retrieval.extractors.local_feature import MATCHER, LocalFeature, matcher_file
from reid.runtime.files import is_file, read_json, sha256_of, write_json

__all__ = [
    "BACKBONE",
    "CALIBRATION",
    "CLASSIFIER",
    "EXTRACTOR",
    "GALLERY",
    "MANIFEST",
    "MATCHER",
    "REFERENCE",
    "RUN_FOLDER",
    "Weights",
    "encoder_file",
    "extractor_file",
    "fold_folder",
    "gallery_file",
    "local_features",
    "matcher_file",
    "open_weights",
    "reference_file",
    "upgrade_calibration",
    "write_manifest",
]

FORMAT = 2
"""Format 1 is that of 0.1.0; `_upgrade_manifest` and `upgrade_calibration` read it."""

MANIFEST = "manifest.json"

CLASSIFIER = "species.safetensors"

BACKBONE = "backbone.safetensors"
"""Where nobody is known: the backbone as it is, without a head, for all datasets."""

CALIBRATION = "calibration.json"

GALLERY = ".gallery.safetensors"
"""How the names of galleries end."""

EXTRACTOR = ".extractor.safetensors"
"""How the names of the files of learned local features end; with RootSIFT there is none."""

REFERENCE = ".reference.safetensors"
"""How the names of the files of reference photographs end; folders of earlier versions have none."""

COPY_OR_RETRAIN = (
    "copy the weights folder again, or run the training's command again, which keeps the networks that are there and "
    "writes a new manifest"
)
"""What helps where the manifest alone is damaged."""


def encoder_file(dataset: str) -> str:
    """Return the name of a dataset's encoder."""
    return f"{dataset}.safetensors"


def gallery_file(dataset: str) -> str:
    """Return the name of a dataset's gallery."""
    return f"{dataset}{GALLERY}"


def extractor_file(name: str) -> str:
    """Return the name of the file with the weights of a local feature; "" where it needs none."""
    return f"{name}{EXTRACTOR}" if name in LEARNED_EXTRACTORS else ""


def local_features(folder: Path, joined: str) -> tuple[LocalFeature, ...]:
    """Return the local features of that name, or of several with + between them, whose weights, if they need any, lie
    in a weights folder."""
    files = {name: extractor_file(name) for name in extractor_names(joined)}
    return tuple(LocalFeature(name, folder / file if file else None) for name, file in files.items())


def reference_file(dataset: str) -> str:
    """Return the name of the file of a dataset's reference photographs, out of which pseudo-collections are drawn."""
    return f"{dataset}{REFERENCE}"


RUN_FOLDER = "training"
"""Inside the weights folder, what only training needs: checkpoints, histories, the other folds' encoders."""


def fold_folder(folder: Path, fold: int) -> Path:
    """Return where the encoders and galleries of a fold lie; the first fold's are those that predict."""
    return folder / RUN_FOLDER / f"fold-{fold}" if fold else folder


@dataclass(frozen=True)
class Weights:
    """A weights folder whose files were checked.

    Attributes:
        folder: where it lies.
        recipe: how it was trained.
        datasets: those with a gallery, in alphabetical order.
        manifest: the manifest's content, in the words of this version.
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
    def backbone(self) -> Path | None:
        """The file of the backbone as it is, in a folder that knows nobody; None elsewhere."""
        named = self.datasets or BACKBONE not in self.manifest["files"]  # a dataset may be called backbone
        return None if named else self.folder / BACKBONE

    @property
    def local_features(self) -> dict[str, tuple[LocalFeature, ...]]:
        """The local features of each dataset; of "" where nobody is known. The galleries say which were chosen."""
        from reid.retrieval.gallery import gallery_extractor

        preferred = self.recipe.keypoints.competing[0]
        names = {dataset: gallery_extractor(self.folder / gallery_file(dataset)) for dataset in self.datasets}
        return {
            dataset: local_features(self.folder, joined or preferred) for dataset, joined in (names or {"": ""}).items()
        }

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
        """The number format that training was asked to use, see `Runtime.precision`."""
        return str(self.manifest["precision"])

    @property
    def limit(self) -> int | None:
        """About how many photographs of each dataset it was trained on; None for all."""
        limit: int | None = self.manifest["limit"]
        return limit

    @property
    def caution(self) -> str:
        """What must be reported of weights that were trained for a quick look; else the empty string."""
        if self.limit is None:
            return ""
        return (
            f"{self.folder}: trained on part of the database only (--limit {self.limit}): good for a quick look, not "
            "for a submission"
        )


def write_manifest(
    folder: Path,
    recipe: Recipe,
    datasets: list[str],
    fingerprint: str,
    limit: int | None = None,
    precision: str = "auto",
) -> Weights:
    """Write the manifest of the files that a complete folder has.

    What each network expects of photographs stands in its own file; in the manifest it is for people to read.

    Args:
        folder: where networks, galleries and calibration lie.
        recipe: how they were made.
        datasets: those with a gallery.
        fingerprint: of the photographs.
        limit: about how many photographs of each dataset were used, where not all were.
        precision: the number format that was asked for.
    """
    from reid.models.networks import read_plan

    names = _parts(recipe, datasets)
    if not (folder / CALIBRATION).exists():  # it was lost, and enroll runs before calibrate
        names.remove(CALIBRATION)
    if recipe.uses_encoder and (folder / CLASSIFIER).exists():
        names.append(CLASSIFIER)
    names += _of_backbones(BACKBONE, recipe) if recipe.uses_encoder and not datasets else []
    if recipe.keypoints.extractors:
        names += sorted(path.name for ending in (EXTRACTOR, MATCHER) for path in folder.glob(f"*{ending}"))
    names += [reference_file(dataset) for dataset in datasets if (folder / reference_file(dataset)).exists()]
    networks = [name for name in names if not name.endswith((CALIBRATION, GALLERY, REFERENCE, EXTRACTOR, MATCHER))]
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
    return _read_manifest(folder)


def _parts(recipe: Recipe, datasets: Sequence[str]) -> list[str]:
    """Return the files without which a weights folder is not complete."""
    encoders = [name for dataset in datasets for name in _of_backbones(encoder_file(dataset), recipe)]
    encoders = encoders if recipe.uses_encoder else []
    # of several that compete the folder holds those that were chosen
    alone = "" if recipe.keypoints.extractors or not recipe.uses_keypoints else recipe.keypoints.extractor
    local = filter(None, (*map(extractor_file, extractor_names(alone)), matcher_file(recipe.matching, alone)))
    return [CALIBRATION, *encoders, *local, *(gallery_file(dataset) for dataset in datasets)]


def _of_backbones(name: str, recipe: Recipe) -> list[str]:
    """Return the names of the files of the networks on each backbone, from that of the first."""
    from reid.retrieval.extraction import backbone_file

    # as_posix, not name: a dataset called ../X must be refused for the folder that it leaves
    return [backbone_file(Path(name), number).as_posix() for number in range(len(recipe.backbone.names))]


def _or_remake(folder: Path, name: str) -> str:
    """Return how the file can be made again where the photographs are: galleries and thresholds need no training."""
    if not name.endswith((CALIBRATION, GALLERY, REFERENCE, EXTRACTOR, MATCHER)):
        return ""
    commands = ["calibrate"] if name.endswith((CALIBRATION, REFERENCE, MATCHER)) else ["enroll", "calibrate"]
    calls = " and then ".join(f"`reid {command} DATA --weights {quote(str(folder))}`" for command in commands)
    return f", or make the file again: {calls}"


def open_weights(folder: Path | str, remade: tuple[str, ...] = ()) -> Weights:
    """Read the manifest and check every file's hash.

    Args:
        folder: a weights folder, of this version or an earlier one.
        remade: how the names of files end that are about to be made again, `GALLERY` or `CALIBRATION`. They are not
            checked, so that a command that was interrupted between a file and the manifest can be run again.

    Raises:
        InputError: no such folder, another format version, a file that is missing or not the one that was written.
    """
    weights = _read_manifest(Path(folder))
    _check_files(weights, remade)
    return weights


def _read_manifest(folder: Path) -> Weights:
    """Return what the manifest says, before any other file is read."""
    if not (folder / MANIFEST).is_file():
        found = "a folder without one (was training finished?)" if folder.is_dir() else "no such folder"
        raise InputError(
            f"{folder / MANIFEST}: expected the manifest of a weights folder, found {found}; `reid train` makes one"
        )
    try:
        manifest = read_json(folder / MANIFEST)
    except InputError as problem:
        raise InputError(f"{problem}; {COPY_OR_RETRAIN}") from None
    version = manifest.get("format") if isinstance(manifest, dict) else None
    if type(version) is not int or not 1 <= version <= FORMAT:
        raise InputError(
            f"{folder / MANIFEST}: expected format 1 to {FORMAT}, found {version!r}. Another version of this kit wrote "
            "it: use that one, or train again"
        )
    try:
        manifest = _upgrade_manifest(manifest)
        files, datasets, limit = dict(manifest["files"]), list(manifest["datasets"]), manifest["limit"]
        recipe = recipe_from_json(manifest["recipe"])
        if not all(isinstance(name, str) for name in (*files, *datasets, manifest["precision"])):
            raise ValueError("a name is not text")
        if limit is not None and (type(limit) is not int or limit < 1):
            raise ValueError(f"limit {limit!r}")
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise InputError(f"{folder / MANIFEST}: it is damaged ({problem!r}); {COPY_OR_RETRAIN}") from None
    return Weights(folder, recipe, tuple(datasets), manifest)


def _upgrade_manifest(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return the manifest in the words of this version; its recipe is read by `recipe_from_json`, as it was written.

    In format 1 the precision stood in the recipe, and a folder that was trained on everything had no limit.
    """
    return {"limit": None, "precision": manifest["recipe"].get("precision", "auto"), **manifest}


def upgrade_calibration(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of `calibration.json` in the words of this version.

    In format 1 the scorers' scores were called contenders, and the cues on the animal focused.
    """
    return {dataset: _upgrade_decision(dict(one)) for dataset, one in stored.items()}


def _upgrade_decision(stored: dict[str, Any]) -> dict[str, Any]:
    words = legacy.VALUES["calibration.scorers"]
    if "contenders" in stored:
        stored["scorer_scores"] = stored.pop("contenders")
    kind, fitted = stored["scorer"]["kind"], stored["scorer"]["fitted"]
    renamed = {words.get(name, name): value for name, value in fitted.items()}
    scores = {words.get(name, name): score for name, score in stored["scorer_scores"].items()}
    return {**stored, "scorer": {"kind": words.get(kind, kind), "fitted": renamed}, "scorer_scores": scores}


def _check_files(weights: Weights, remade: tuple[str, ...]) -> None:
    """Refuse a file that is missing or not the one that was written, and one that the manifest does not list."""
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
            f"{folder / MANIFEST}: it is damaged (no hash of {unlisted[0]}); {COPY_OR_RETRAIN}"
            f"{_or_remake(folder, unlisted[0])}"
        )
