"""Recipes: the shipped ones hold, overrides are typed, and mistakes get the nearest name."""

import json
from dataclasses import asdict

import pytest

from reid.config.presets import PRESETS, preset
from reid.config.recipe import CHOICES, LIMITS, Recipe, override, recipe_from_json
from reid.config.settings import with_settings
from reid.errors import InputError


def test_seed_is_the_report() -> None:
    seed = PRESETS["paper"]
    assert (seed.backbone, seed.init, seed.individuals_per_batch, seed.photographs_per_individual) == (
        "resnet50",
        "hub",
        16,
        4,
    )
    assert set(seed.augmentations) == {"flip", "rotation", "jitter", "crop", "affine"}
    assert (seed.augment, seed.stop_accuracy, seed.route) == ("one", 0.99, "classifier")


def test_overrides_have_their_fields_types() -> None:
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
    assert (changed.epochs, changed.learning_rate, changed.soft_margin) == (7, 0.01, False)
    assert (changed.augmentations, changed.init) == (("flip", "crop"), "none")
    assert override(PRESETS["toy"], ["augmentation.kinds="]).augmentation.kinds == ()
    assert override(PRESETS["toy"], []) == PRESETS["toy"]


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("epoch=3", "a recipe has no field 'epoch'; did you mean epochs"),
        ("zzz=3", "a recipe has no field 'zzz'; the fields are"),
        ("name=x", "a recipe has no field 'name'"),
        ("epochs", "expected FIELD=VALUE, found no '='"),
        ("training.epochs=3.5", "--set epochs: expected a whole number, found '3.5'"),
        ("training.learning_rate=fast", "--set learning_rate: expected a number, found 'fast'"),
        ("training.learning_rate=nan", "recipe field learning_rate: expected 0 to 10, found nan"),
        ("loss.soft_margin=1", "--set soft_margin: expected true or false, found '1'"),
        (
            "backbone.image_size=8",
            "recipe field image_size: expected 16 or more, or 0 for the backbone's own size, found 8",
        ),
        ("prediction.scales=1,9", "recipe field scales: expected sizes from 0.25 to 4, found (1.0, 9.0)"),
        ("prediction.scales=one", "--set scales: expected a number, found 'one'"),
        ("loss.triplet_weight=0", "with neither loss there is nothing to learn; set triplet_weight=1 or"),
        ("batches.individuals=1", "recipe field individuals_per_batch: expected 2 to 4096, found 1"),
        (
            "matching.cues=local",
            "expected one that the cues local can feed (foreground ones also need pooling=gem), found distance",
        ),
        ("calibration.scorers=foreground,foreground_inliers", "expected one that the cues encoder can feed"),
        ("prediction.route=guess", "recipe field route: expected classifier or column or auto, found 'guess'"),
        ("augmentation.kinds=flip,blur", "expected some of flip, rotation, jitter, crop, affine, found 'blur'"),
    ],
)
def test_a_wrong_setting_is_told_in_words(setting: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        override(PRESETS["paper"], [setting])
    assert words in str(caught.value)


def test_keypoints_on_the_animal_need_an_encoder_that_tells_where_it_looks() -> None:
    with pytest.raises(InputError, match="need pooling=gem"):
        override(PRESETS["frozen"], ["calibration.scorers=foreground", "backbone.pooling=backbone"])
    assert override(PRESETS["frozen"], ["calibration.scorers=foreground"]).calibration.scorers == ("foreground",)


def test_a_recipe_comes_back_from_json() -> None:
    for recipe in [
        *PRESETS.values(),
        with_settings(PRESETS["paper"], {"augmentation.kinds": ("flip",), "loss.margin": 0.1}),
    ]:
        assert recipe_from_json(json.loads(json.dumps(asdict(recipe)))) == recipe


def test_another_versions_recipe_is_refused() -> None:
    with pytest.raises(InputError, match=r"fields that differ: colour, backbone"):
        recipe_from_json({**{k: v for k, v in asdict(Recipe()).items() if k != "backbone"}, "colour": 1})


def test_without_an_encoder_a_recipe_says_nothing_of_training() -> None:
    assert PRESETS["paper"].used == PRESETS["frozen"].used == tuple(asdict(Recipe()))
    assert PRESETS["keypoints"].used == (
        *("name", "seed", "upright", "cues", "scorers", "shortlist", "verified", "local_best"),
        *("keypoint_size", "keypoint_count", "keypoint_candidates", "keypoint_clahe", "keypoint_contrast"),
        *("keypoint_upright", "neighbours", "centre_spread", "match_ratio", "match_model", "match_tolerance"),
        *("pseudo_queries", "pseudo_dates", "pseudo_photographs", "new_share", "calibration_splits"),
        *("mirrored", "route", "device", "batch_size", "workers"),
    )


def test_an_unknown_recipe_is_refused() -> None:
    with pytest.raises(InputError, match="expected one of seed, baseline, local, light, best, toy, found 'winner'"):
        preset("winner")


@pytest.mark.parametrize("field", LIMITS)
def test_a_number_may_reach_its_limits_and_not_pass_them(field: str) -> None:
    kind, (lowest, highest) = type(getattr(Recipe(), field)), LIMITS[field]
    two_losses = with_settings(Recipe(), {"loss.classification": "softmax"})  # so that either may weigh nothing
    for value in (lowest, highest):
        assert getattr(override(two_losses, [f"{field}={kind(value)}"]), field) == value
    step = 1 if kind is int else 1e-6
    for value in (lowest - step, highest + step):
        with pytest.raises(InputError, match=f"recipe field {field}: expected {lowest} to "):
            override(Recipe(), [f"{field}={kind(value)}"])


def test_every_number_has_limits_and_every_choice_is_a_field() -> None:
    values = asdict(with_settings(Recipe(), {"loss.classification": "softmax"}))
    numbers = {field for field, value in values.items() if type(value) in (int, float)}
    assert numbers == set(LIMITS)
    assert set(CHOICES) <= set(values)


@pytest.mark.parametrize("text", ["inf", "-inf", "nan", "1e999"])
def test_no_number_is_infinite_or_none(text: str) -> None:
    for field in [field for field, value in asdict(Recipe()).items() if isinstance(value, float)]:
        with pytest.raises(InputError, match=f"recipe field {field}: expected"):
            override(Recipe(), [f"{field}={text}"])


def test_an_override_changes_nothing_else_and_the_last_one_holds() -> None:
    assert override(PRESETS["paper"], ["training.epochs=7", "training.epochs=8"]) == with_settings(
        PRESETS["paper"], {"training.epochs": 8}
    )
