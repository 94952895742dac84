"""Settings from texts and files: `--set GROUP.FIELD=VALUE`, a .toml file, the recipe in a manifest."""

import difflib
import logging
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import is_dataclass, replace
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from reid.config import legacy
from reid.config.recipe import Recipe, settings_of
from reid.config.runtime import Runtime
from reid.errors import InputError
from reid.runtime.files import is_file, read_json

__all__ = [
    "CALIBRATION",
    "ENROLMENT",
    "PREDICTION",
    "flat_settings",
    "override",
    "override_runtime",
    "recipe_from_json",
    "recipe_from_manifest",
    "recipe_from_toml",
    "unused_settings",
    "with_settings",
]

log = logging.getLogger(__name__)

KINDS: dict[str, Any] = {
    "seed": int,
    **{
        f"{group}.{name}": kind
        for group, config in get_type_hints(Recipe).items()
        if is_dataclass(config)
        for name, kind in get_type_hints(config).items()
    },
}
"""The type of every setting."""

PREDICTION = ("prediction.route", "prediction.encounter_minutes")
"""What may be changed for a complete weights folder."""

ENROLMENT = (
    *("data.unknown_words", "data.join_names", "data.use_boxes", "data.box_margin"),
    *("prediction.flip_average", "prediction.scales", "prediction.mirrored"),
    *(name for name in KINDS if name.startswith("keypoints.")),
)
"""What may be changed when the galleries are made again; queries must then be embedded the same way."""

CALIBRATION = tuple(
    name for name in KINDS if name.startswith(("calibration.", "matching.")) and name != "matching.cues"
)
"""What may be changed when scorers and thresholds are fitted again."""


def with_settings(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """Return the recipe with some settings changed.

    Args:
        recipe: what to start from.
        changes: value by "group.field" (or "seed", "name").

    Raises:
        InputError: a value out of its limits.
    """
    by_group: dict[str, Any] = {}
    for name, value in changes.items():
        group, _, field = name.partition(".")
        if field:
            by_group.setdefault(group, {})[field] = value
        else:
            by_group[group] = value
    return replace(
        recipe,
        **{
            group: replace(getattr(recipe, group), **value) if isinstance(value, dict) else value
            for group, value in by_group.items()
        },
    )


def override(recipe: Recipe, settings: Sequence[str], only: Iterable[str] = ()) -> Recipe:
    """Return the recipe with some settings changed as texts say.

    Args:
        recipe: what to start from.
        settings: "GROUP.FIELD=VALUE" each, or with a field of 0.1.0; a list is comma-separated, a truth value is true
            or false. The last one for a field counts.
        only: the settings that may be changed here; empty for all.

    Raises:
        InputError: an unknown field, one that may not be changed, or a value of the wrong type or out of range.
    """
    allowed, changes = set(only), {}
    for setting in settings:
        field, text = _split(setting)
        if field in legacy.REMOVED:
            _refuse_or_report(field, _like(legacy.REMOVED[field][0], text))
            continue
        name = legacy.FIELDS.get(field, field)
        if name not in KINDS:
            raise InputError(f"--set {setting}: {_no_such_field(field)}")
        if allowed and name not in allowed:
            raise InputError(
                f"--set {setting}: training has fixed this setting; here you may set {', '.join(sorted(allowed))}"
            )
        changes[name] = _renamed(name, _parse(field, KINDS[name], text))
    return with_settings(recipe, _with_cosine_softmax(changes))


def override_runtime(runtime: Runtime, settings: Sequence[str]) -> tuple[Runtime, list[str]]:
    """Return the runtime with what some of the settings change in it, and the other settings.

    Args:
        runtime: what to start from.
        settings: as for `override`; "runtime.FIELD" and `legacy.RUNTIME` are the runtime's.
    """
    kinds, changes, left = get_type_hints(Runtime), {}, []
    for setting in settings:
        field, text = _split(setting)
        short = field.removeprefix("runtime.")
        if short in legacy.RUNTIME:
            changes[short] = _parse(field, kinds[short], text)
        else:
            left.append(setting)
    return replace(runtime, **changes), left


def recipe_from_toml(path: Path, presets: Mapping[str, Recipe]) -> Recipe:
    """Read a recipe: `base = "frozen"`, then a table for each group.

    Args:
        path: the .toml file.
        presets: the recipes that `base` may name; without `base`, settings that the file lacks have their defaults.

    Raises:
        InputError: no such file, no TOML, an unknown field, or a value of the wrong type or out of range.
    """
    if not is_file(path):
        raise InputError(f"{path}: expected a recipe in TOML, found no such file; check the name")
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as problem:
        raise InputError(f"{path}: expected a recipe in TOML, but it can't be read ({problem})") from None
    base = str(content.pop("base", Recipe().name))
    base = legacy.PRESETS.get(base, base)
    if base not in presets:
        raise InputError(f"{path}: base: expected one of {', '.join(presets)}, found {base!r}")
    changes = {}
    for name, value in flat_settings(content).items():
        if name not in KINDS:
            raise InputError(f"{path}: {_no_such_field(name)}")
        changes[name] = _typed(name, value, f"{path}: {name}")
    return with_settings(presets[base], changes)


def recipe_from_manifest(path: Path) -> Recipe:
    """Read the recipe of a weights folder from its manifest, without opening the weights.

    Raises:
        InputError: no such file, or no manifest.
    """
    try:
        return recipe_from_json(read_json(path)["recipe"])
    except (TypeError, KeyError, ValueError, AttributeError) as problem:
        raise InputError(f"{path}: expected the manifest of a weights folder, found other JSON ({problem!r})") from None


def recipe_from_json(values: Mapping[str, Any]) -> Recipe:
    """Return the recipe that a manifest stores, whichever version wrote it; the inverse of `dataclasses.asdict`.

    A setting that it lacks gets the value by which the version that wrote it behaved (`legacy.BEFORE`), else its
    default.

    Raises:
        InputError: a field that never existed, or one that is gone and shaped answers.
        TypeError, ValueError: a value of the wrong kind.
    """
    changes: dict[str, Any] = {}
    flat = flat_settings(values)
    for name, value in flat.items():
        if name in legacy.REMOVED:
            _refuse_or_report(name, value)
        elif name not in (*legacy.RUNTIME, "name"):
            changes[legacy.FIELDS.get(name, name)] = value
    changes = _with_cosine_softmax(changes)
    unknown = [name for name in changes if name not in KINDS]
    if unknown:
        raise InputError(
            f"recipe: found {', '.join(sorted(unknown)[:3])}, which neither this version of the kit nor an earlier one "
            "has; install the version that wrote it, or train again"
        )
    newer = {name: value for name, value in legacy.BEFORE.items() if name not in changes}
    typed = {name: _typed(name, value, f"recipe field {name}") for name, value in changes.items()}
    name = str(flat["name"])
    return with_settings(Recipe(name=legacy.PRESETS.get(name, name)), newer | typed)


def _with_cosine_softmax(changes: dict[str, Any]) -> dict[str, Any]:
    """Return the changes with the loss's own name where 0.1.0 called it arcface without a margin."""
    if changes.get("loss.classification") != "arcface" or changes.get("loss.arcface_margin") != 0:
        return changes
    others = {name: value for name, value in changes.items() if name != "loss.arcface_margin"}
    return {**others, "loss.classification": "cosine_softmax"}


def flat_settings(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"loss": {"margin": 0.3}} -> {"loss.margin": 0.3}"""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= flat_settings(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat


def _split(setting: str) -> tuple[str, str]:
    field, equals, text = setting.partition("=")
    if not equals:
        raise InputError(f"--set {setting}: expected GROUP.FIELD=VALUE, found no '='")
    return field, text


def _no_such_field(field: str) -> str:
    """Return what to say of an unknown field: the option of the call that it stands for, or the nearest names."""
    option = field.removeprefix("runtime.")
    if option in legacy.RUNTIME:
        return f"{field} is no part of a recipe; use the option --{option.replace('_', '-')}"
    today = {**{name: name for name in KINDS}, **legacy.FIELDS}
    last = {name.rpartition(".")[2]: name for name in reversed(KINDS)}
    near = [today[name] for name in difflib.get_close_matches(field, today, n=2)]
    near = near or [last[word] for word in difflib.get_close_matches(field.rpartition(".")[2], last, n=2)]
    advice = f"did you mean {' or '.join(dict.fromkeys(near))}?" if near else "`reid recipes paper` lists all"
    return f"a recipe has no field {field!r}; {advice}"


def _refuse_or_report(field: str, value: Any) -> None:
    """Report a removed field that only shaped training, refuse one that shapes answers."""
    default, shaped = legacy.REMOVED[field]
    if value == default:
        return
    if shaped == "answers":
        raise InputError(
            f"recipe field {field}: expected {default}, found {value}: this version does not have it any more, and "
            "without it the answers would change; use reid 0.1.0, or train again without it"
        )
    log.warning(
        "recipe field %s=%s: ignored, this version does not have it any more (it shaped %s)", field, value, shaped
    )


def _like(default: Any, text: str) -> Any:
    """Return the text as a value of the default's type, or unchanged where it is none."""
    try:
        return _parse("", type(default), text)
    except InputError:
        return text


def _renamed(name: str, value: Any) -> Any:
    """Return the value by its present name."""
    words = legacy.VALUES.get(name, {})
    return tuple(words.get(word, word) for word in value) if isinstance(value, tuple) else words.get(value, value)


def _typed(name: str, value: Any, place: str) -> Any:
    """Return a value of JSON or TOML as the setting holds it."""
    kind = KINDS[name]
    if get_origin(kind) is tuple and isinstance(value, (list, tuple)):
        return _renamed(name, tuple(_scalar(get_args(kind)[0], each, place) for each in value))
    return _renamed(name, _scalar(kind, value, place))


def _scalar(kind: Any, value: Any, place: str) -> Any:
    expected = (int, float) if kind is float else get_origin(kind) or kind
    if not isinstance(value, expected) or (isinstance(value, bool) and kind is not bool):
        raise InputError(f"{place}: expected {_kind_in_words(kind)}, found {value!r}")
    return kind(value)


def _kind_in_words(kind: Any) -> str:
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
    return words.get(kind, "a list")


def _parse(field: str, kind: Any, text: str) -> Any:
    if kind is str:
        return text
    if kind is bool:
        if text.lower() in ("true", "false"):
            return text.lower() == "true"
        raise InputError(f"--set {field}: expected true or false, found {text!r}")
    if kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            raise InputError(f"--set {field}: expected {_kind_in_words(kind)}, found {text!r}") from None
    words = [word.strip() for word in text.split(",") if word.strip()]
    return tuple(_parse(field, get_args(kind)[0], word) for word in words)


def unused_settings(recipe: Recipe, settings: Sequence[str]) -> list[str]:
    """Return the names of those settings that the recipe does not use, such as a loss where nothing is trained."""
    names = [legacy.FIELDS.get(field, field) for field, _ in map(_split, settings)]
    known = {name for name, _, _, _ in settings_of(recipe)}
    return [name for name in names if name in known and name not in recipe.used]
