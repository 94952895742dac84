"""What the Kaggle kernel does: find the photographs and the weights, check them, answer every query, write a report.

What is asked stands in the competition's sample_submission.csv: with a column `identity` (AnimalCLEF25) every query is
named, with a column `cluster` (AnimalCLEF26) the queries are put together by individual.

`kernel/bundle.py` puts this file and what it needs of the package into one script. It leaves, in /kaggle/working or
--output,

    submission.csv           the file to submit
    submission.matches.csv   where queries are named: the candidates of every query
    submission.clusters.csv  where they are put together: what else is known of every photograph
    run.json                 versions, what it ran with, timings, hashes, and per dataset the share called new, or the
                             number of photographs and clusters and the cut
    report.html              for a person to look at: the matches, with contact_sheet.jpg, or cuts and cluster sizes
    animal_reid.py           a copy of the script that ran

and nothing else. Each file appears when it is complete, run.json last.
"""

import argparse
import json
import logging
import os
import platform
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import PIL
import safetensors
import torch

from reid import __version__
from reid.config.runtime import Runtime
from reid.data.boxes import by_photograph
from reid.data.catalogue import Catalogue, read_catalogue, rows_to_predict
from reid.data.library_warnings import library_warnings_logged
from reid.decision.artifact import CLASSIFIER, MANIFEST, Weights, encoder_file, gallery_file, open_weights
from reid.decision.calibration import load_calibrations
from reid.decision.clusters import asks_for_clusters, check_clusters
from reid.decision.decide import join_matches
from reid.decision.describe import describe_clusters, describe_matches
from reid.decision.discover import discover
from reid.decision.discovered import Clusters, clusters_path
from reid.decision.matches import Matches
from reid.decision.predict import predict
from reid.errors import InputError
from reid.models.timm_import import timm
from reid.retrieval.embedding import Embedder
from reid.retrieval.extraction import backbone_file
from reid.retrieval.extractors.kornia_package import kornia_version
from reid.retrieval.extractors.local_feature import LocalFeature
from reid.retrieval.extractors.table import open_extractor
from reid.retrieval.gallery import load_gallery
from reid.retrieval.keypoints import check_keypoints
from reid.retrieval.lightglue import open_matcher
from reid.runtime.distributed import divide_cores
from reid.runtime.files import sha256_of, without_nan, write_bytes, write_json
from reid.runtime.memory import keep_freed_memory
from reid.runtime.progress import messages_on_stderr, print_result, stage
from reid.runtime.wheels import Sums, use_wheels

__all__ = ["divide", "find_data", "find_weights", "main", "predict_on"]

log = logging.getLogger("reid.kernel")

INPUT = Path("/kaggle/input")
OUTPUT = Path("/kaggle/working")
SAMPLE = "sample_submission.csv"
DATA_MARKERS = ("metadata.csv", SAMPLE)
OUTPUT_FILES = (
    "submission.csv",
    "submission.matches.csv",
    "submission.clusters.csv",
    "run.json",
    "report.html",
    "contact_sheet.jpg",
)
DEPTH = 6
"""Folders below the input that are looked into. The deepest mount known is datasets/OWNER/SLUG/versions/N (5)."""


@dataclass(frozen=True)
class Script:
    """What runs.

    Attributes:
        path: the file that was started.
        name: what its copy is called.
        bundle: the bundle's own hash.
        weights: SHA-256 of the only manifest to run with; "" for any.
        wheels: sums of the wheels that lie beside the weights, see `wheels.use_wheels`.
    """

    path: Path
    name: str
    bundle: str
    weights: str
    wheels: Sums = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """What is to be done.

    Attributes:
        output: the folder to write into.
        catalogue: the photographs.
        weights: what answers.
        runtime: precision and batch size.
        devices: one per process that may work, see `predict_on`.
        seconds: wall time by stage; each stage adds its own.
    """

    output: Path
    catalogue: Catalogue
    weights: Weights
    runtime: Runtime
    devices: list[str]
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def submission(self) -> Path:
        return self.output / "submission.csv"


def main(arguments: list[str], script: str, name: str, bundle: str, weights: str, wheels: Sums | None = None) -> int:
    """Run the kernel; return the exit status: 0 done, 2 the input or the call is wrong.

    Args:
        arguments: the command line.
        script, name, bundle, weights, wheels: see `Script`.
    """
    keep_freed_memory()
    options = _options(arguments, name)
    running = Script(Path(script), name, bundle, "" if options.any_weights else weights, wheels or {})
    try:
        with messages_on_stderr(), library_warnings_logged():
            _run(options.input, options.output, options.shards, running)
    except InputError as problem:
        print("error:", " ".join(str(problem).split()), file=sys.stderr)  # one line, whatever a cell held
        return 2
    return 0


def _options(arguments: list[str], name: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=name, description="Answer every query photograph of AnimalCLEF25 or AnimalCLEF26."
    )
    parser.add_argument("--input", type=Path, default=INPUT, help=f"where data and weights lie (default {INPUT})")
    parser.add_argument("--output", type=Path, default=OUTPUT, help=f"where to write (default {OUTPUT})")
    parser.add_argument(
        "--any-weights", action="store_true", help="run with other weights than those that it was built for"
    )
    parser.add_argument(
        "--shards",
        type=int,
        metavar="N",
        help="processes to divide the queries among (default: one per GPU); clusters are made by one",
    )
    options = parser.parse_args(arguments)
    if options.shards is not None and options.shards < 1:
        parser.error(f"--shards: expected 1 or more, found {options.shards}")
    return options


def _run(folder: Path, output: Path, shards: int | None, script: Script) -> None:
    seconds: dict[str, float] = {}
    output = output.absolute()
    _clear(output, script)
    with stage("check", seconds):
        catalogue, weights = _open_input(folder, script)
    _log_versions(weights)
    job = Job(output, catalogue, weights, Runtime(precision=weights.precision), _devices(shards), seconds)
    if "cpu" in job.devices:
        _warn_of_cpu(catalogue, weights, job.runtime)
    found = _discover(job) if asks_for_clusters(catalogue.root / SAMPLE) else _predict(job)
    write_bytes(output / script.name, script.path.read_bytes())
    write_json(output / "run.json", _origin(job, script) | found)
    log.info("time: " + ", ".join(f"{what} {value:.1f} s" for what, value in seconds.items()))
    print_result(f"wrote {found['answers']} answers to {job.submission}")


def _open_input(folder: Path, script: Script) -> tuple[Catalogue, Weights]:
    """Find and check everything that is read, before the first photograph."""
    data, weights_folder = find_data(folder), find_weights(folder)
    log.info(f"photographs: {data}")
    log.info(f"weights: {weights_folder}")
    _check_weights(weights_folder, script)
    weights = open_weights(weights_folder)
    load_calibrations(weights)
    for dataset in weights.datasets:
        load_gallery(weights.folder / gallery_file(dataset), weights.recipe)
    features = {one for own in weights.local_features.values() for one in own}
    learned = {one for one in features if one.weights and weights.recipe.uses_keypoints}
    if learned and script.wheels:
        use_wheels(script.wheels, [place for place, _ in _walk(folder, lambda names, place: False)])
    for one in sorted(learned):
        _try_local_feature(one, weights)
    return read_catalogue(data), weights


def _try_local_feature(feature: LocalFeature, weights: Weights) -> None:
    """Find keypoints on noise and match them, so that a kornia that is missing or can't be imported is told before the
    first photograph."""
    recipe = weights.recipe
    extractor = open_extractor(replace(recipe.keypoints, extractor=feature.name), feature.weights)
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    keypoints = check_keypoints(extractor.extract(noise), extractor.name, extractor.dimension)
    if matcher := open_matcher(recipe.matching, weights.folder, feature.name):
        matcher.match([(keypoints, keypoints)])
    log.info(f"local feature {extractor.name}: kornia {kornia_version()} on {extractor.device}")


def _origin(job: Job, script: Script) -> dict[str, Any]:
    """Return what `run.json` says of where the submission comes from."""
    return {
        "bundle": script.bundle,
        "weights": sha256_of(job.weights.folder / MANIFEST),
        "submission": sha256_of(job.submission),
        "recipe": job.weights.recipe.name,
        "versions": _versions(),
        "seconds": {what: round(value, 1) for what, value in job.seconds.items()},
    }


def _clear(output: Path, script: Script) -> None:
    """Remove what an earlier run left, which must not be taken for this one's, and try whether the folder can be
    written: noticed after the last photograph, hours of work would be lost."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        for name in (*OUTPUT_FILES, script.name):
            old = output / name
            if not (old.exists() and old.samefile(script.path)):  # it may run where it writes
                old.unlink(missing_ok=True)
        with tempfile.TemporaryFile(dir=output):
            pass
    except OSError as problem:
        raise InputError(
            f"{output}: expected a folder that can be written, but it can't ({problem.strerror}). Name another with "
            "--output"
        ) from None


# what Kaggle mounted, and where


def find_data(folder: Path) -> Path:
    """Return the competition's folder, wherever below `folder` it is mounted.

    Raises:
        InputError: there is none, or there are several with different content.
    """
    return _find_only(
        folder,
        _is_data,
        DATA_MARKERS,
        f"a folder with {' and '.join(DATA_MARKERS)}",
        "Add the competition under Input on the kernel's page, or to competition_sources in kernel-metadata.json",
    )


def find_weights(folder: Path) -> Path:
    """Return the weights folder, wherever below `folder` it is mounted.

    Raises:
        InputError: there is none, or there are several with different content.
    """
    return _find_only(
        folder,
        _is_weights,
        (MANIFEST,),
        f"a weights folder with {MANIFEST}",
        "Run `make push-weights`, then add that dataset under Input on the kernel's page, or push the kernel again",
    )


def _is_data(names: set[str], place: Path) -> bool:
    return names.issuperset(DATA_MARKERS)


def _is_weights(names: set[str], place: Path) -> bool:
    """Return whether a folder holds this kit's manifest.json; other people's datasets have files of that name too."""
    if MANIFEST not in names:
        return False
    try:
        content = json.loads((place / MANIFEST).read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and {"format", "recipe", "files"} <= set(content)


def _find_only(
    folder: Path, is_wanted: Callable[[set[str], Path], bool], markers: Sequence[str], wanted: str, advice: str
) -> Path:
    if not folder.is_dir():
        raise InputError(f"{folder}: expected the folder that Kaggle mounts, found none. Name another with --input")
    candidates = [place for place, names in _walk(folder, is_wanted) if is_wanted(names, place)]
    place_by_hashes = {tuple(sha256_of(place / marker) for marker in markers): place for place in reversed(candidates)}
    if not place_by_hashes:
        raise InputError(f"{folder}: expected {wanted}, found none. {advice}. What is there: {_tree(folder)}")
    if len(place_by_hashes) > 1:  # the same content in two places is one dataset under its old and its new mount
        places = ", ".join(str(place) for place in candidates)
        raise InputError(f"{folder}: expected one {wanted.removeprefix('a ')}, found {places}. Keep one under Input")
    return candidates[0]


def _walk(folder: Path, is_wanted: Callable[[set[str], Path], bool]) -> Iterator[tuple[Path, set[str]]]:
    """Yield folders with the names in them, the nearest first. A folder that is wanted is not entered: the
    competition's photographs are thousands of names on a slow disk."""
    level, visited = [folder], set()
    for _ in range(DEPTH + 1):
        below: list[Path] = []
        for place in level:
            try:
                status = place.stat()
                entries = sorted(os.scandir(place), key=lambda entry: entry.name)
            except OSError:  # may not be entered
                continue
            if (status.st_dev, status.st_ino) in visited:  # a second mount or a link of the same folder
                continue
            visited.add((status.st_dev, status.st_ino))
            names = {entry.name for entry in entries}
            yield place, names
            if not (_is_data(names, place) or is_wanted(names, place)):
                below += [place / entry.name for entry in entries if entry.is_dir()]
        level = below


def _tree(folder: Path) -> str:
    """Return the first names below a folder, in one line, for a person who can't look there."""
    lines = []
    for place, names in islice(_walk(folder, lambda names, place: False), 26):
        shown = sorted(names)[:8] + ["..."] * (len(names) > 8)
        lines.append(f"{place}: {' '.join(shown) or '(empty)'}")
    return "; ".join(lines[:25] + ["..."] * (len(lines) > 25))


def _check_weights(folder: Path, script: Script) -> None:
    """Refuse other weights than the script's own: right after an upload Kaggle may still mount the dataset's version
    before it."""
    found = sha256_of(folder / MANIFEST)
    if script.weights not in ("", found):
        raise InputError(
            f"{folder / MANIFEST}: expected sha256 {script.weights[:12]}..., the weights that this kernel was built "
            f"for, found {found[:12]}... Choose the dataset's latest version under Input, or run `make push-weights` "
            "and `make push-kernel` again"
        )


# what it runs on


def _devices(shards: int | None) -> list[str]:
    """Return one name per process that shall work: every GPU, or the processor."""
    if not torch.cuda.is_available():
        return ["cpu"] * (shards or 1)
    return [f"cuda:{number % torch.cuda.device_count()}" for number in range(shards or torch.cuda.device_count())]


def _warn_of_cpu(catalogue: Catalogue, weights: Weights, runtime: Runtime) -> None:
    """Report how long it may take without a GPU, from the time of a few blank photographs."""
    recipe, files = weights.recipe, [weights.folder / CLASSIFIER] * weights.has_species
    if recipe.uses_encoder:
        first = weights.backbone or weights.folder / encoder_file(weights.datasets[0])
        files += [backbone_file(first, number) for number in range(len(recipe.backbone.names))]
    if not files:  # keypoints are the processor's work anyway
        return
    embedders = (Embedder(file, recipe, runtime) for file in files)
    minutes = round(sum(map(_seconds_of, embedders)) * len(rows_to_predict(catalogue)) / 60)
    log.warning(
        f"no GPU: the networks alone need {f'about {minutes} min' if minutes else 'less than a minute'} on this "
        "processor. On Kaggle choose Settings > Accelerator > GPU T4 x2"
    )


def _seconds_of(embedder: Embedder) -> float:
    """Return what a photograph costs a network."""
    size, count = embedder.fast.plan.image_size, embedder.pass_size  # it is loaded before the clock starts
    blank = torch.zeros(count, 3, size, size, dtype=torch.uint8)
    started = time.monotonic()
    embedder.embed(blank)
    return (time.monotonic() - started) / count


def _predict(job: Job) -> dict[str, Any]:
    """Name every query and write what is found; return what `run.json` says of it."""
    with stage("predict", job.seconds):  # loads every network before the first photograph, and names one it can't load
        prediction = predict_on(job.devices, job.catalogue, job.weights, job.runtime)
    prediction.save(job.submission)
    for line in describe_matches(prediction):
        print_result(line)
    return {
        "answers": len(prediction),
        "share_new": prediction.share_new(),
        "route": prediction.route,
        "devices": job.devices,
        "report": _report(job, lambda: _report_matches(job, prediction)),
    }


def predict_on(devices: Sequence[str], catalogue: Catalogue, weights: Weights, runtime: Runtime) -> Matches:
    """Return the prediction, with the queries divided among processes.

    A photograph's vector and distances do not depend on the photographs of the same batch, so neither does its answer.

    Args:
        devices: "cuda:0" and so on, or "cpu", one per process.
        catalogue, weights, runtime: see `decision.predict.predict`.
    """
    # the photographs of an encounter are answered together, by one process
    parts = divide(rows_to_predict(catalogue), 1 if weights.recipe.prediction.encounter_minutes else len(devices))
    if len(parts) == 1:
        return predict(catalogue, weights, weights.recipe, use_cache=False, runtime=runtime)
    with _processes(len(parts)) as pool:
        futures = [pool.submit(_predict_part, *work, weights, runtime) for work in zip(devices, parts, strict=False)]
        try:
            predictions = [one.result() for one in futures]
        except BrokenProcessPool:  # one that the system killed, most likely for want of memory
            log.warning("a process was killed; every query is answered by this one alone, which takes longer")
            return predict(catalogue, weights, weights.recipe, use_cache=False, runtime=runtime)
    joined = join_matches(predictions, load_calibrations(weights))
    place = {image_id: row for row, image_id in enumerate(rows_to_predict(catalogue).image_ids)}
    ordered = joined.queries.sort_values("image_id", key=lambda column: column.map(place), ignore_index=True)
    return replace(joined, queries=ordered)


def divide(queries: Catalogue, count: int) -> list[Catalogue]:
    """Return the queries in `count` parts of about the same size, in order, but the rows of one photograph together;
    fewer where there are fewer photographs."""
    # absolute paths and a root without a sample file: the rows are predicted as they stand
    masks = {"mask": queries.masks} if "mask" in queries.table else {}
    table = queries.table.assign(path=[str(path.absolute()) for path in queries.paths], **masks)
    photographs = by_photograph(queries.paths)
    parts = [[photographs[one] for one in part] for part in np.array_split(np.arange(len(photographs)), count)]
    return [Catalogue(queries.root / "part", table.iloc[np.concatenate(part)]) for part in parts if part]


def _processes(count: int) -> ProcessPoolExecutor:
    # spawn: CUDA can't be used in a process forked from one that used it
    return ProcessPoolExecutor(count, get_context("spawn"), divide_cores, (count,))


def _predict_part(device: str, part: Catalogue, weights: Weights, runtime: Runtime) -> Matches:
    keep_freed_memory()
    if device != "cpu":
        torch.cuda.set_device(device)
    with messages_on_stderr(), library_warnings_logged():
        return predict(part, weights, weights.recipe, use_cache=False, runtime=runtime)


def _discover(job: Job) -> dict[str, Any]:
    """Put the queries together by individual and write what is found; return what `run.json` says of it.

    One process does it: which photographs belong together shows only where all of a dataset are there, and what one
    dataset lacks it borrows from the others.
    """
    wanted = rows_to_predict(job.catalogue)  # refuses a sample of other photographs before the first is opened
    if len(job.devices) > 1:
        log.info(f"clusters are made by one process, on {job.devices[0]}")
    with stage("discover", job.seconds):
        clusters = discover(job.catalogue, job.weights, job.weights.recipe, use_cache=False, runtime=job.runtime)
    _check_clusters(clusters, wanted)
    clusters.save(job.submission)
    for line in describe_clusters(clusters):
        print_result(line)
    datasets = _counts_of_clusters(clusters)
    return {
        "answers": len(clusters),
        "datasets": datasets,
        "clusters": sha256_of(clusters_path(job.submission)),
        "devices": job.devices[:1],
        "report": _report(job, lambda: _report_clusters(job, clusters)),
    }


def _check_clusters(clusters: Clusters, wanted: Catalogue) -> None:
    """Fail, before anything is written, where the submission would be refused; that can only be a bug."""
    datasets = dict(zip(wanted.image_ids, wanted.table["dataset"], strict=True))
    faults = check_clusters(clusters.submission, wanted.image_ids, datasets)
    if faults:
        raise RuntimeError(f"the clusters can't be submitted, which is a bug, please report it: {faults[0]}")


def _counts_of_clusters(clusters: Clusters) -> dict[str, dict[str, Any]]:
    """Return photographs, clusters and the cut by dataset."""
    cuts = {name: without_nan(asdict(cut)) for name, cut in clusters.cuts.items()}
    return {
        str(dataset): {
            "photographs": len(rows),
            "clusters": rows["cluster"].nunique(),
            "cut": cuts[str(dataset)],
        }
        for dataset, rows in clusters.photographs.groupby("dataset", sort=True)
    }


# what it reports


def _report(job: Job, write: Callable[[], None]) -> str:
    """Write the report; return "written" or what went wrong. The submission is written by then and is worth more."""
    try:
        with stage("report", job.seconds):
            write()
    except Exception as problem:
        traceback.print_exc()
        log.warning(f"no report could be made ({problem}); the submission is complete")
        return f"not written: {problem!r}"
    return "written"


def _report_matches(job: Job, prediction: Matches) -> None:
    # here, because it loads matplotlib: the first photograph comes sooner
    from reid.report.report import collect_explanations, write_report

    explanations = collect_explanations(
        job.catalogue, job.weights, prediction, None, use_cache=False, runtime=job.runtime
    )
    write_report(job.output, job.catalogue, job.weights, prediction, None, explanations, (), job.seconds)


def _report_clusters(job: Job, clusters: Clusters) -> None:
    from reid.report.cluster_summary import write_cluster_summary

    write_cluster_summary(job.output / "report.html", clusters)


def _versions() -> dict[str, str]:
    found: dict[str, Any] = {
        "reid": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "timm": timm.__version__,
        "safetensors": safetensors.__version__,
        "numpy": np.__version__,
        "pandas": pd.__version__,
        "pillow": PIL.__version__,
        "kornia": kornia_version() or "none",
    }
    for number in range(torch.cuda.device_count()):
        found[f"cuda:{number}"] = torch.cuda.get_device_name(number)
    return {name: str(version) for name, version in found.items()}


def _log_versions(weights: Weights) -> None:
    manifest, versions = weights.manifest, _versions()
    log.info("versions: " + ", ".join(f"{name} {version}" for name, version in versions.items()))
    log.info(
        f"weights: recipe {weights.recipe.name}, datasets {', '.join(weights.datasets)}, made with "
        f"reid {manifest.get('reid')}, torch {manifest.get('torch')}, timm {manifest.get('timm')}; all hashes agree"
    )
