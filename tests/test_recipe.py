"""Recipes: the shipped ones hold, settings are typed, mistakes get the nearest name, and 0.1.0 is understood."""

import json
import logging
import math
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest

from reid.config import legacy
from reid.config.presets import DEFAULT, PRECISIONS, PRESETS, SUMMARIES, preset, read_recipe
from reid.config.recipe import Recipe, settings_of
from reid.config.runtime import Runtime
from reid.config.settings import (
    CALIBRATION,
    ENROLMENT,
    PREDICTION,
    flat_settings,
    override,
    override_runtime,
    recipe_from_json,
    recipe_from_toml,
    unused_settings,
    with_settings,
)
from reid.errors import InputError

FLAT: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).parent / "fixtures" / "recipes-0.1.0.json").read_text("utf-8")
)
"""By name the recipe of every preset of 0.1.0, as its manifests hold it."""

SETTINGS = {name: value for name, value, _, _ in settings_of(Recipe())}

LIMITS = {
    f"{group.name}.{each.name}": each.metadata["limits"]
    for group in fields(Recipe)
    if group.name not in ("name", "seed")
    for each in fields(getattr(Recipe(), group.name))
    if each.metadata["limits"]
}


def typed(value: Any) -> str:
    """As a person types it after `--set FIELD=`."""
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


# presets


def test_paper_is_the_report() -> None:
    paper = PRESETS["paper"]
    assert (paper.backbone.name, paper.backbone.init) == ("resnet50", "hub")
    assert (paper.batches.individuals, paper.batches.photographs) == (16, 4)
    assert set(paper.augmentation.kinds) == {"flip", "rotation", "jitter", "crop", "affine"}
    assert (paper.augmentation.choose, paper.training.stop_accuracy) == ("one", 0.99)
    assert paper.prediction.route == "classifier"
    assert paper == Recipe()


def test_every_preset_is_named_and_described() -> None:
    assert set(SUMMARIES) == set(PRESETS)
    assert all(recipe.name == name for name, recipe in PRESETS.items())
    assert {DEFAULT, *PRECISIONS} <= set(PRESETS)
    assert set(legacy.PRESETS.values()) <= set(PRESETS)
    for old, new in legacy.PRESETS.items():
        assert preset(old) is PRESETS[new]


@pytest.mark.parametrize(
    ("name", "advice"), [("winner", ""), ("locl", "; did you mean local?"), ("papers", "; did you mean paper?")]
)
def test_an_unknown_preset_is_refused(name: str, advice: str) -> None:
    with pytest.raises(InputError) as caught:
        preset(name)
    names = "paper, baseline, keypoints, frozen, pair, finetuned, toy"
    expected = f"recipe: expected one of {names}, a .toml file or a weights folder, found {name!r}{advice}"
    assert str(caught.value) == expected


def test_without_an_encoder_a_recipe_uses_nothing_of_training() -> None:
    assert PRESETS["frozen"].used == tuple(name for name in SETTINGS if name != "matching.lightglue_keypoints")
    assert PRESETS["keypoints"].used == (
        *(
            "seed",
            "data.upright",
            "data.use_boxes",
            "data.box_margin",
            "data.unknown_words",
            "data.join_names",
            *("keypoints.extractor", "keypoints.extractors"),
            *("keypoints.size", "keypoints.least_size"),
            "keypoints.count",
            "keypoints.clahe",
            "keypoints.contrast",
        ),
        *("keypoints.upright", "matching.cues", "matching.shortlist", "matching.probes", "matching.verified"),
        *(
            "matching.verifier",
            "matching.local_best",
            "matching.neighbours",
            "matching.ratio",
            "matching.model",
            "matching.iterations",
        ),
        *("matching.tolerance", "calibration.scorers", "calibration.pseudo_queries", "calibration.dates"),
        *("calibration.photographs", "calibration.new_share", "calibration.splits", "calibration.prior"),
        *("calibration.probability", "prediction.route", "prediction.encounter_minutes", "prediction.mirrored"),
    )
    without_keypoints = set(SETTINGS) - set(PRESETS["paper"].used)
    assert without_keypoints == {
        *(name for name in SETTINGS if name.startswith("keypoints.")),
        *(f"matching.{name}" for name in ("probes", "whole_gallery", "verified", "local_best", "neighbours")),
        *(f"matching.{name}" for name in ("verifier", "lightglue_keypoints", "ratio")),
        *(f"matching.{name}" for name in ("model", "iterations", "tolerance")),
    }


def test_settings_that_a_recipe_does_not_use_are_found_by_either_name() -> None:
    settings = ["margin=0.1", "loss.scale=2", "matching.ratio=0.8", "training.epochs=3", "soup=1"]
    assert unused_settings(PRESETS["keypoints"], settings) == ["loss.margin", "loss.scale", "training.epochs"]
    assert unused_settings(PRESETS["paper"], settings) == ["matching.ratio"]
    assert unused_settings(PRESETS["frozen"], settings) == []


# --set


def test_settings_have_their_fields_types() -> None:
    changed = override(
        PRESETS["toy"],
        [
            "training.epochs=7",
            "training.learning_rate=1e-2",
            "loss.soft_margin=False",
            "augmentation.kinds=flip,crop",
            "backbone.init=none",
        ],
    )
    assert (changed.training.epochs, changed.training.learning_rate, changed.loss.soft_margin) == (7, 0.01, False)
    assert (changed.augmentation.kinds, changed.backbone.init) == (("flip", "crop"), "none")
    assert override(PRESETS["toy"], ["augmentation.kinds="]).augmentation.kinds == ()
    assert override(PRESETS["toy"], []) == PRESETS["toy"]


def test_an_override_changes_nothing_else_and_the_last_one_holds() -> None:
    changed = override(PRESETS["paper"], ["training.epochs=7", "training.epochs=8"])
    assert changed == with_settings(PRESETS["paper"], {"training.epochs": 8})
    before, after = flat_settings(asdict(PRESETS["paper"])), flat_settings(asdict(changed))
    assert {name for name in before if before[name] != after[name]} == {"training.epochs"}


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("epoch=3", "a recipe has no field 'epoch'; did you mean training.epochs"),
        ("loss.margn=3", "a recipe has no field 'loss.margn'; did you mean loss.margin"),
        ("loss.learning_rate=3", "a recipe has no field 'loss.learning_rate'; did you mean training.learning_rate"),
        ("zzz=3", "a recipe has no field 'zzz'; `reid recipes paper` lists all"),
        ("name=x", "a recipe has no field 'name'"),
        ("training.epochs", "expected GROUP.FIELD=VALUE, found no '='"),
        ("training.epochs=3.5", "--set training.epochs: expected a whole number, found '3.5'"),
        ("learning_rate=fast", "--set learning_rate: expected a number, found 'fast'"),
        ("learning_rate=nan", "recipe field training.learning_rate: expected 0 to 10, found nan"),
        ("loss.soft_margin=1", "--set loss.soft_margin: expected true or false, found '1'"),
        (
            "image_size=8",
            "recipe field backbone.image_size: expected 16 or more, or 0 for the backbone's own size, found",
        ),
        ("prediction.scales=1,9", "recipe field prediction.scales: expected sizes from 0.25 to 4, found (1.0, 9.0)"),
        ("prediction.scales=one", "--set prediction.scales: expected a number, found 'one'"),
        ("loss.triplet_weight=0", "with neither loss there is nothing to learn; set loss.triplet_weight=1 or"),
        ("batches.individuals=1", "recipe field batches.individuals: expected 2 to 4096, found 1"),
        ("matching.cues=", "recipe field matching.cues: expected encoder, local or both, found none"),
        (
            "matching.cues=local",
            "expected one that the cues local can feed (foreground ones also need backbone.pooling=gem "
            "or keypoints.saliency=any), found",
        ),
        ("calibration.scorers=foreground,foreground_inliers", "expected one that the cues encoder can feed"),
        (
            "prediction.route=guess",
            "recipe field prediction.route: expected classifier or column or auto, found 'guess'",
        ),
        ("augmentation.kinds=flip,blur", "expected some of flip, rotation, jitter, crop, affine, found 'blur'"),
        ("seed=-1", "recipe field seed: expected 0 to 2147483647, found -1"),
    ],
)
def test_a_wrong_setting_is_refused_in_words(setting: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        override(PRESETS["paper"], [setting])
    assert words in str(caught.value)


def test_foreground_keypoints_need_an_encoder_with_saliency() -> None:
    with pytest.raises(InputError, match=r"need backbone\.pooling=gem"):
        override(
            PRESETS["frozen"],
            ["calibration.scorers=foreground", "backbone.pooling=backbone", "keypoints.saliency=gem"],
        )
    assert override(PRESETS["frozen"], ["calibration.scorers=foreground", "backbone.pooling=backbone"])
    assert override(PRESETS["frozen"], ["calibration.scorers=foreground"]).calibration.scorers == ("foreground",)


@pytest.mark.parametrize("field", LIMITS)
def test_a_number_may_reach_its_limits_and_not_pass_them(field: str) -> None:
    kind, (lowest, highest) = type(SETTINGS[field]), LIMITS[field]
    two_losses = with_settings(Recipe(), {"loss.classification": "softmax"})  # so that either may weigh nothing
    for value in (lowest, highest):
        changed = override(two_losses, [f"{field}={kind(value)}"])
        assert flat_settings(asdict(changed))[field] == value
    step = 1 if kind is int else 1e-6
    for value in (lowest - step, highest + step):
        with pytest.raises(InputError, match=f"recipe field {field}: expected {lowest} to "):
            override(Recipe(), [f"{field}={kind(value)}"])


def test_every_number_has_limits_and_every_setting_a_help() -> None:
    numbers = {name for name, value in SETTINGS.items() if type(value) in (int, float)}
    assert numbers == {*LIMITS, "seed"}
    assert all(words for _, _, _, words in settings_of(Recipe()))


@pytest.mark.parametrize("text", ["inf", "-inf", "nan", "1e999"])
def test_no_number_is_infinite_or_none(text: str) -> None:
    for field in [field for field, value in SETTINGS.items() if isinstance(value, float)]:
        with pytest.raises(InputError, match=f"recipe field {field}: expected"):
            override(Recipe(), [f"{field}={text}"])


def test_what_a_command_may_change_are_settings() -> None:
    assert {*PREDICTION, *ENROLMENT, *CALIBRATION} <= set(SETTINGS)
    with pytest.raises(InputError, match=r"training has fixed this setting; here you may set prediction\."):
        override(Recipe(), ["epochs=3"], only=PREDICTION)
    assert override(Recipe(), ["route=auto"], only=PREDICTION).prediction.route == "auto"


# how a machine works


def test_the_runtimes_settings_are_understood_by_either_name_and_leave_the_recipes() -> None:
    words = ["batch_size=2", "runtime.precision=float32", "training.epochs=3", "device=cuda", "threads=4"]
    runtime, left = override_runtime(Runtime(), words)
    assert runtime == Runtime(device="cuda", precision="float32", batch_size=2, threads=4)
    assert left == ["training.epochs=3"]
    assert override_runtime(Runtime(), ["classifier.batch_size=2"]) == (Runtime(), ["classifier.batch_size=2"])


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("batch_size=0", r"runtime\.batch_size: expected 1 to 65536, found 0"),
        ("batch_size=two", "--set batch_size: expected a whole number, found 'two'"),
        ("precision=int8", r"runtime\.precision: expected auto or float32 or bfloat16 or float16, found 'int8'"),
    ],
)
def test_a_wrong_runtime_is_refused_in_words(setting: str, words: str) -> None:
    with pytest.raises(InputError, match=f"^{words}"):
        override_runtime(Runtime(), [setting])


def test_no_recipe_holds_how_a_machine_works() -> None:
    assert not {each.name for each in fields(Runtime)} & {
        name.rpartition(".")[2] for name in SETTINGS if "." not in name
    }
    with pytest.raises(InputError, match=r"runtime\.device is no part of a recipe; use the option --device"):
        override(Recipe(), ["runtime.device=cuda"])


# files


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    return tmp_path / "my.toml"


def test_a_toml_file_changes_a_preset(toml: Path) -> None:
    toml.write_text(
        'base = "light"\nseed = 3\n[loss]\nmargin = 1\n[prediction]\nscales = [1, 0.5]\n'
        '[augmentation]\nkinds = ["flip"]\n'
    )
    recipe = read_recipe(str(toml))
    expected = {"seed": 3, "loss.margin": 1.0, "prediction.scales": (1.0, 0.5), "augmentation.kinds": ("flip",)}
    assert recipe == with_settings(PRESETS["frozen"], expected)
    assert type(recipe.loss.margin) is float
    toml.write_text("[training]\nepochs = 7\n")
    assert recipe_from_toml(toml, PRESETS) == with_settings(Recipe(), {"training.epochs": 7})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[loss]\nmargn = 1", "a recipe has no field 'loss.margn'; did you mean loss.margin"),
        ("epochs = 3", "a recipe has no field 'epochs'; did you mean training.epochs"),
        ("loss = 3", "a recipe has no field 'loss'"),
        ("[runtime]\nbatch_size = 3", "runtime.batch_size is no part of a recipe; use the option --batch-size"),
        ('base = "winner"', "base: expected one of paper, baseline,"),
        ("base = [1]", "base: expected one of paper, baseline,"),
        ("[loss", "expected a recipe in TOML, but it can't be read"),
        ("a = " + "[" * 100_000, "expected a recipe in TOML, but it can't be read"),
        ("[training]\nepochs = 3.5", "training.epochs: expected a whole number, found 3.5"),
        ("[training]\nepochs = true", "training.epochs: expected a whole number, found True"),
        ("[training]\nepochs = [1]", "training.epochs: expected a whole number, found [1]"),
        ("[loss]\nmargin = nan", "recipe field loss.margin: expected 0 to 1000, found nan"),
        ('[prediction]\nscales = ["a"]', "prediction.scales: expected a number, found 'a'"),
        ("[augmentation]\nkinds = 'flip'", "augmentation.kinds: expected a list, found 'flip'"),
    ],
)
def test_a_toml_file_with_a_mistake_is_refused_in_words(toml: Path, content: str, words: str) -> None:
    toml.write_text(content)
    with pytest.raises(InputError) as caught:
        read_recipe(str(toml))
    assert words in str(caught.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    for name, words in (("my.toml", "expected a recipe in TOML, found no such file"), ("m.json", "a JSON file here")):
        with pytest.raises(InputError, match=words):
            read_recipe(str(tmp_path / name))
    (tmp_path / "m.json").write_text("[]")
    with pytest.raises(InputError, match="expected the manifest of a weights folder, found other JSON"):
        read_recipe(str(tmp_path / "m.json"))


@pytest.mark.parametrize("name", ["w", "w/manifest.json"])
def test_a_weights_folder_is_a_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = with_settings(PRESETS["frozen"], {"loss.margin": 0.1})
    for folder in ("w", "paper"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "manifest.json").write_text(json.dumps({"recipe": asdict(recipe)}))
    assert read_recipe(name) == recipe
    assert read_recipe("paper") == PRESETS["paper"]  # a preset's name comes first
    assert read_recipe("./paper") == recipe


def test_a_recipe_comes_back_from_json() -> None:
    changed = with_settings(PRESETS["paper"], {"augmentation.kinds": ("flip",), "loss.margin": 0.1})
    for recipe in [*PRESETS.values(), changed]:
        assert recipe_from_json(json.loads(json.dumps(asdict(recipe)))) == recipe


def test_a_recipe_that_lacks_a_field_has_the_value_of_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    values = json.loads(json.dumps(asdict(PRESETS["frozen"])))
    for name, default in (("loss.margin", 0.3), ("keypoints.count", 300)):
        group, _, field = name.partition(".")
        del values[group][field]
        assert flat_settings(asdict(recipe_from_json(values)))[name] == default
    monkeypatch.setitem(legacy.BEFORE, "keypoints.count", 77)
    assert recipe_from_json(values).keypoints.count == 77
    values["keypoints"]["count"] = 5
    assert recipe_from_json(values).keypoints.count == 5


def test_a_field_that_never_existed_is_refused() -> None:
    for values in (
        {**asdict(Recipe()), "colour": 1},
        {**FLAT["seed"], "colour": 1},
        {**asdict(Recipe()), "loss": {"x": 1}},
    ):
        with pytest.raises(
            InputError, match=r"recipe: found (colour|loss\.x), which neither this version .* has; install"
        ):
            recipe_from_json(values)


# version 0.1.0


def but_for_scorers(recipe: Recipe) -> Recipe:
    """The recipe with the same scorers as any other with keypoints: folders keep those of their time."""
    return with_settings(recipe, {"calibration.scorers": ("mean",)}) if recipe.uses_keypoints else recipe


TOY_BEFORE = {
    "training.epochs": 150,
    "training.validate_every": 50,
    "keypoints.size": 400,
    "keypoints.count": 300,
    "keypoints.candidates": 1000,
    "matching.cues": ("encoder",),
    "calibration.scorers": ("distance",),
}
"""Of the only preset that has other values since than new settings."""


def preset_before(name: str) -> Recipe:
    """The preset of that name with the values of 0.1.0, and today's for what it did not have."""
    return with_settings(preset(name), TOY_BEFORE if name == "toy" else {})


@pytest.mark.parametrize("name", FLAT)
def test_a_manifest_of_0_1_0_holds_the_preset_of_today(name: str, caplog: pytest.LogCaptureFixture) -> None:
    stored = recipe_from_json(FLAT[name])
    assert but_for_scorers(stored) == but_for_scorers(with_settings(preset_before(name), legacy.BEFORE))
    words = legacy.VALUES["calibration.scorers"]
    assert stored.calibration.scorers == tuple(words.get(one, one) for one in FLAT[name]["scorers"])
    assert caplog.records == []


def test_a_recipe_of_before_enlarges_every_small_photograph_to_its_size() -> None:
    stored = json.loads(json.dumps(asdict(PRESETS["keypoints"])))
    del stored["keypoints"]["least_size"]
    for before in (recipe_from_json(stored), recipe_from_json(FLAT["local"])):
        assert [before.keypoints.side(longer) for longer in (1, 130, 310, 2000)] == [400] * 4
    assert [PRESETS["keypoints"].keypoints.side(longer) for longer in (1, 130, 310, 2000)] == [280, 280, 310, 400]


def test_every_field_of_0_1_0_has_a_place() -> None:
    known = {*legacy.FIELDS, *legacy.REMOVED, *legacy.RUNTIME, "name", "seed"}
    assert all(set(values) <= known for values in FLAT.values())
    assert set(legacy.FIELDS.values()) <= set(SETTINGS)


@pytest.mark.parametrize("field", sorted(set(FLAT["seed"]) - {"name"}))
def test_every_field_of_0_1_0_may_be_set(field: str, caplog: pytest.LogCaptureFixture) -> None:
    for name, values in FLAT.items():
        fields = ["classification", "arcface_margin"] if field in ("classification", "arcface_margin") else [field]
        runtime, left = override_runtime(Runtime(), [f"{each}={typed(values[each])}" for each in fields])
        if field in legacy.RUNTIME:
            assert (getattr(runtime, field), left) == (values[field], [])
        else:
            found = override(preset_before(name), left)
            assert but_for_scorers(found) == but_for_scorers(preset_before(name))
            if field == "scorers":
                assert found.calibration.scorers == recipe_from_json(values).calibration.scorers
    assert caplog.records == []


def test_all_fields_of_0_1_0_together_make_todays_preset() -> None:
    for name, values in FLAT.items():
        words = [f"{field}={typed(value)}" for field, value in values.items() if field != "name"]
        _, left = override_runtime(Runtime(), words)
        today = with_settings(preset_before(name), {"calibration.probability": "scorer"})  # it had no other
        found = override(with_settings(PRESETS["paper"], {"name": preset(name).name}), left)
        assert but_for_scorers(found) == but_for_scorers(today)


@pytest.mark.parametrize("field", [field for field, (_, shaped) in legacy.REMOVED.items() if shaped != "answers"])
def test_a_removed_field_that_shaped_training_is_reported(field: str, caplog: pytest.LogCaptureFixture) -> None:
    default = legacy.REMOVED[field][0]
    other = not default if isinstance(default, bool) else "other" if isinstance(default, str) else type(default)(5)
    words = f"recipe field {field}={other}: ignored, this version does not have it any more"
    for read in (
        lambda: recipe_from_json({**FLAT["seed"], field: other}),
        lambda: override(Recipe(), [f"{field}={other}"]),
    ):
        with caplog.at_level(logging.WARNING):
            assert with_settings(read(), legacy.BEFORE) == with_settings(PRESETS["paper"], legacy.BEFORE)
        assert [record.getMessage()[: len(words)] for record in caplog.records] == [words]
        caplog.clear()


def test_a_removed_field_that_shapes_answers_is_refused() -> None:
    kept = recipe_from_json({**FLAT["best"], "centre_spread": 0.0})
    assert but_for_scorers(kept) == but_for_scorers(with_settings(PRESETS["finetuned"], legacy.BEFORE))
    for read in (
        lambda: recipe_from_json({**FLAT["best"], "centre_spread": 0.2}),
        lambda: override(Recipe(), ["centre_spread=0.2"]),
    ):
        with pytest.raises(
            InputError, match=r"centre_spread: expected 0\.0, found 0\.2: .* use reid 0\.1\.0, or train"
        ):
            read()


def test_values_of_0_1_0_are_understood() -> None:
    recipe = override(PRESETS["frozen"], ["scorers=focused,focused_inliers", "interpolation=trunk", "trunk=resnet18"])
    assert recipe.calibration.scorers == ("foreground", "foreground_inliers")
    assert (recipe.backbone.interpolation, recipe.backbone.name) == ("backbone", "resnet18")
    assert override(PRESETS["frozen"], ["pooling=trunk", "scorers=local"]).backbone.pooling == "backbone"
    assert not math.isnan(recipe.loss.margin)
