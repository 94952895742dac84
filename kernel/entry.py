"""What the Kaggle kernel does: find the photographs and the weights, check them, answer every query, say how it went.

`kernel/bundle.py` carries this file and the package in one script. It leaves, in /kaggle/working or --output,

    submission.csv       the file to hand in
    run.json             versions, what it ran with, timings, the share called new per dataset, hashes
    report.html          the matches for a person to look at, with contact_sheet.jpg
    animal_reid.py       a copy of the script that ran

and nothing else. Each file appears when it is complete, run.json last.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import PIL
import safetensors
import timm
import torch

from reid import __version__
from reid.config.recipe import Recipe
from reid.data.catalogue import Catalogue, rows_to_predict
from reid.data.checks import read_catalogue
from reid.decision.artifact import CLASSIFIER, MANIFEST, Weights, encoder_file, gallery_file, open_weights
from reid.decision.calibrate import load_calibrations
from reid.decision.decide import join_matches
from reid.decision.describe import describe_matches
from reid.decision.matches import Matches
from reid.decision.predict import predict, write_submission
from reid.errors import InputError
from reid.retrieval.embedding import Embedder
from reid.retrieval.gallery import load_gallery
from reid.runtime.distributed import divide_cores
from reid.runtime.files import sha256_of, write_bytes, write_json
from reid.runtime.progress import say, stage

__all__ = ["divide", "find_data", "find_weights", "main", "predict_on"]

INPUT = Path("/kaggle/input")
OUTPUT = Path("/kaggle/working")
DATA_MARKERS = ("metadata.csv", "sample_submission.csv")
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
    """

    path: Path
    name: str
    bundle: str
    weights: str


def main(arguments: list[str], script: str, name: str, bundle: str, weights: str) -> int:
    """Run the kernel; gives the exit status: 0 done, 2 the input or the call is wrong.

    Args:
        arguments: the command line.
        script, name, bundle, weights: see `Script`.
    """
    parser = argparse.ArgumentParser(prog=name, description="Answer every query photograph of AnimalCLEF25.")
    parser.add_argument("--input", type=Path, default=INPUT, help=f"where data and weights lie (default {INPUT})")
    parser.add_argument("--output", type=Path, default=OUTPUT, help=f"where to write (default {OUTPUT})")
    parser.add_argument(
        "--any-weights", action="store_true", help="run with other weights than those that it was built for"
    )
    parser.add_argument(
        "--shards", type=int, metavar="N", help="processes to divide the queries among (default: one per GPU)"
    )
    options = parser.parse_args(arguments)
    if options.shards is not None and options.shards < 1:
        parser.error(f"--shards: expected 1 or more, found {options.shards}")
    running = Script(Path(script), name, bundle, "" if options.any_weights else weights)
    try:
        _run(options.input, options.output, options.shards, running)
    except InputError as problem:
        print("error:", " ".join(str(problem).split()), file=sys.stderr)  # one line, whatever a cell held
        return 2
    return 0


def _run(folder: Path, output: Path, shards: int | None, script: Script) -> None:
    seconds: dict[str, float] = {}
    output = output.absolute()
    _clear(output, script)
    with stage("check", seconds):
        data, weights_folder = find_data(folder), find_weights(folder)
        say(f"photographs: {data}")
        say(f"weights: {weights_folder}")
        manifest_hash = _check_weights(weights_folder, script)
        weights = open_weights(weights_folder)
        load_calibrations(weights)
        for dataset in weights.datasets:
            load_gallery(weights.folder / gallery_file(dataset))
        catalogue = read_catalogue(data)
    _say_versions(weights)
    devices = _devices(shards)
    if "cpu" in devices:
        _warn_of_cpu(catalogue, weights)
    with stage("predict", seconds):  # loads every network before the first photograph, and says which it can't load
        prediction = predict_on(devices, catalogue, weights, weights.recipe)
    write_submission(prediction, output / "submission.csv")
    for line in describe_matches(prediction):
        say(f"  {line}")
    with stage("report", seconds):
        problem = _report(output, catalogue, weights, prediction, seconds)
    write_bytes(output / script.name, script.path.read_bytes())
    run = {
        "bundle": script.bundle,
        "weights": manifest_hash,
        "submission": sha256_of(output / "submission.csv"),
        "answers": len(prediction),
        "share_new": prediction.share_new(),
        "recipe": weights.recipe.name,
        "route": prediction.route,
        "devices": devices,
        "versions": _versions(),
        "seconds": {what: round(value, 1) for what, value in seconds.items()},
        "report": problem or "written",
    }
    write_json(output / "run.json", run)
    say("time: " + ", ".join(f"{what} {value:.1f} s" for what, value in seconds.items()))
    say(f"wrote {len(prediction)} answers to {output / 'submission.csv'}")


def _clear(output: Path, script: Script) -> None:
    """Remove what an earlier run left, which must not be taken for this one's, and tries whether the folder can be
    written: noticed after the last photograph, hours of work would be lost."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        for name in ("submission.csv", "run.json", "report.html", "contact_sheet.jpg", script.name):
            leftover = output / name
            if not (leftover.exists() and leftover.samefile(script.path)):  # it may run where it writes
                leftover.unlink(missing_ok=True)
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

    def is_data(names: set[str], place: Path) -> bool:
        return names.issuperset(DATA_MARKERS)

    return _only(
        folder,
        is_data,
        DATA_MARKERS,
        f"a folder with {' and '.join(DATA_MARKERS)}",
        "Add the competition under Input on the kernel's page, or to competition_sources in kernel-metadata.json",
    )


def find_weights(folder: Path) -> Path:
    """Return the weights folder, wherever below `folder` it is mounted.

    Raises:
        InputError: there is none, or there are several with different content.
    """

    def is_weights(names: set[str], place: Path) -> bool:
        return MANIFEST in names and _is_manifest(place / MANIFEST)

    return _only(
        folder,
        is_weights,
        (MANIFEST,),
        f"a weights folder with {MANIFEST}",
        "Run `make push-weights`, then add that dataset under Input on the kernel's page, or push the kernel again",
    )


def _is_manifest(path: Path) -> bool:
    """Return whether a manifest.json is this kit's; other people's datasets have files of that name too."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and {"format", "recipe", "files"} <= set(content)


def _only(
    folder: Path, belongs: Callable[[set[str], Path], bool], markers: tuple[str, ...], wanted: str, advice: str
) -> Path:
    if not folder.is_dir():
        raise InputError(f"{folder}: expected the folder that Kaggle mounts, found none. Name another with --input")
    candidates = [place for place, names in _walk(folder, belongs) if belongs(names, place)]
    place_by_hashes = {tuple(sha256_of(place / marker) for marker in markers): place for place in reversed(candidates)}
    if not place_by_hashes:
        raise InputError(f"{folder}: expected {wanted}, found none. {advice}. What is there: {_tree(folder)}")
    if len(place_by_hashes) > 1:  # the same content in two places is one dataset under its old and its new mount
        places = ", ".join(str(place) for place in candidates)
        raise InputError(f"{folder}: expected one {wanted.removeprefix('a ')}, found {places}. Keep one under Input")
    return candidates[0]


def _walk(folder: Path, belongs: Callable[[set[str], Path], bool]) -> Iterator[tuple[Path, set[str]]]:
    """Folders with the names in them, the nearest first. What lies in a folder that was looked for is not visited:
    the competition's photographs are thousands of names on a slow disk."""
    floor, seen = [folder], set()
    for _ in range(DEPTH + 1):
        below: list[Path] = []
        for place in floor:
            try:
                status = place.stat()
                entries = sorted(os.scandir(place), key=lambda entry: entry.name)
            except OSError:  # may not be entered
                continue
            if (status.st_dev, status.st_ino) in seen:  # a second mount or a link of the same folder
                continue
            seen.add((status.st_dev, status.st_ino))
            names = {entry.name for entry in entries}
            yield place, names
            if not (names.issuperset(DATA_MARKERS) or belongs(names, place)):
                below += [place / entry.name for entry in entries if entry.is_dir()]
        floor = below


def _tree(folder: Path) -> str:
    """Return the first names below a folder, in one line, for a person who can't look there."""
    lines = []
    for place, names in islice(_walk(folder, lambda names, place: False), 26):
        shown = sorted(names)[:8] + ["..."] * (len(names) > 8)
        lines.append(f"{place}: {' '.join(shown) or '(empty)'}")
    return "; ".join(lines[:25] + ["..."] * (len(lines) > 25))


def _check_weights(folder: Path, script: Script) -> str:
    """Return the manifest's SHA-256. Right after an upload Kaggle may still mount the dataset's version before it."""
    found = sha256_of(folder / MANIFEST)
    if script.weights not in ("", found):
        raise InputError(
            f"{folder / MANIFEST}: expected sha256 {script.weights[:12]}..., the weights that this kernel was built "
            f"for, found {found[:12]}... Choose the dataset's latest version under Input, or run `make push-weights` "
            "and `make push-kernel` again"
        )
    return found


# what it runs on


def _devices(shards: int | None) -> list[str]:
    """Return one name per process that shall work: every GPU, or the processor."""
    if not torch.cuda.is_available():
        return ["cpu"] * (shards or 1)
    return [f"cuda:{number % torch.cuda.device_count()}" for number in range(shards or torch.cuda.device_count())]


def _warn_of_cpu(catalogue: Catalogue, weights: Weights) -> None:
    """Report how long it may take without a GPU, from the time of a few blank photographs."""
    files = [encoder_file(weights.datasets[0])] * (weights.recipe.uses_encoder) + [CLASSIFIER] * weights.has_species
    if not files:  # keypoints are the processor's work anyway
        return
    embedders = (Embedder(weights.folder / file, weights.recipe) for file in files)
    minutes = round(sum(map(_seconds_of, embedders)) * len(rows_to_predict(catalogue)) / 60)
    say(
        f"warning: no GPU: the networks alone need {f'about {minutes} min' if minutes else 'less than a minute'} on "
        "this processor. On Kaggle choose Settings > Accelerator > GPU T4 x2"
    )


def _seconds_of(embedder: Embedder) -> float:
    """Return what a photograph costs a network."""
    size, count = embedder.fast.plan.image_size, embedder.pass_size  # it is loaded before the clock starts
    blank = torch.zeros(count, 3, size, size, dtype=torch.uint8)
    started = time.monotonic()
    embedder.embed(blank)
    return (time.monotonic() - started) / count


def predict_on(devices: list[str], catalogue: Catalogue, weights: Weights, recipe: Recipe) -> Matches:
    """Return the prediction, with the queries divided among processes.

    A photograph's vector and distances do not depend on the photographs beside it, so neither does its answer.

    Args:
        devices: "cuda:0" and so on, or "cpu", one per process.
        catalogue, weights, recipe: see `submission.predict`.
    """
    parts = divide(rows_to_predict(catalogue), len(devices), recipe.batch_size)
    if len(parts) == 1:
        return predict(catalogue, weights, recipe, use_cache=False)
    with _processes(len(parts)) as pool:
        futures = [pool.submit(_predict_part, *work, weights, recipe) for work in zip(devices, parts, strict=False)]
        try:
            predictions = [one.result() for one in futures]
        except BrokenProcessPool:  # one that the system killed, most likely for want of memory
            say("warning: a process was killed; every query is answered by this one alone, which takes longer")
            return predict(catalogue, weights, recipe, use_cache=False)
    return join_matches(predictions, load_calibrations(weights))


def divide(queries: Catalogue, count: int, batch_size: int) -> list[Catalogue]:
    """Return the queries in `count` parts of about the same size, in order; fewer where there are not enough for a
    batch each.

    Args:
        queries: the rows to answer.
        count: how many parts.
        batch_size: photographs in a batch; a part is made of whole ones, the rest of a batch would be blank.
    """
    batches = -(-len(queries) // batch_size)
    shares = [share for share in np.array_split(np.arange(batches), count) if len(share)]
    # absolute paths and a root without a sample file: the rows are asked for as they stand
    table = queries.table.assign(path=[str(path.absolute()) for path in queries.paths])
    rows = [slice(share[0] * batch_size, (share[-1] + 1) * batch_size) for share in shares]
    return [Catalogue(queries.root / "part", table.iloc[part]) for part in rows]


def _processes(count: int) -> ProcessPoolExecutor:
    # spawn: CUDA can't be used in a process forked from one that used it
    return ProcessPoolExecutor(count, get_context("spawn"), divide_cores, (count,))


def _predict_part(device: str, part: Catalogue, weights: Weights, recipe: Recipe) -> Matches:
    if device != "cpu":
        torch.cuda.set_device(device)
    return predict(part, weights, recipe, use_cache=False)


# what it says


def _report(
    output: Path, catalogue: Catalogue, weights: Weights, prediction: Matches, seconds: dict[str, float]
) -> str:
    """Write the report; gives what went wrong. The submission is written by then and is worth more than pictures."""
    try:
        # here, because it loads matplotlib: the first photograph comes sooner
        from reid.report.report import collect_explanations, write_report

        explanations = collect_explanations(catalogue, weights, prediction, None, use_cache=False)
        write_report(output, catalogue, weights, prediction, None, explanations, (), seconds)
    except Exception as problem:
        traceback.print_exc()
        say(f"warning: no report could be made ({problem}); the submission is complete")
        return f"not written: {problem!r}"
    return ""


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
    }
    for number in range(torch.cuda.device_count()):
        found[f"cuda:{number}"] = torch.cuda.get_device_name(number)
    return {name: str(version) for name, version in found.items()}


def _say_versions(weights: Weights) -> None:
    manifest, versions = weights.manifest, _versions()
    say("versions: " + ", ".join(f"{name} {version}" for name, version in versions.items()))
    say(
        f"weights: recipe {weights.recipe.name}, datasets {', '.join(weights.datasets)}, made with "
        f"reid {manifest.get('reid')}, torch {manifest.get('torch')}, timm {manifest.get('timm')}; all hashes agree"
    )
