"""Settings from words and files: `--set GROUP.FIELD=VALUE`, a .toml file, the recipe in a manifest."""

import difflib
import logging
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from reid.config import legacy
from reid.config.recipe import Recipe, settings_of
from reid.config.runtime import Runtime
from reid.errors import InputError

__all__ = [
    "CALIBRATION",
    "ENROLMENT",
    "PREDICTION",
    "flat_settings",
    "override",
    "override_runtime",
    "recipe_from_json",
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

PREDICTION = ("prediction.route",)
"""What may still be chosen when a weights folder is complete."""

ENROLMENT = (
    *("prediction.flip_average", "prediction.scales", "prediction.mirrored"),
    *(name for name in KINDS if name.startswith("keypoints.")),
)
"""What may still be chosen when the galleries are made again; galleries and queries must agree in it."""

CALIBRATION = tuple(
    name for name in KINDS if name.startswith(("calibration.", "matching.")) and name != "matching.cues"
)
"""What may still be chosen when scorers and thresholds are fitted again."""


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
    """Return the recipe with some settings changed by words.

    Args:
        recipe: what to start from.
        settings: "GROUP.FIELD=VALUE" each, or a field of 0.1.0; a list is comma-separated, a truth value is true or
            false.
        only: the settings that may be changed here; empty for all.

    Raises:
        InputError: an unknown field, one that may not be set, or a value of the wrong type or out of range.
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
                f"--set {setting}: training has decided that; here you may set {', '.join(sorted(allowed))}"
            )
        changes[name] = _renamed(name, _parse(field, KINDS[name], text))
    return with_settings(recipe, changes)


def override_runtime(runtime: Runtime, settings: Sequence[str]) -> tuple[Runtime, list[str]]:
    """Return the runtime with what some settings say of it, and the settings that are left for the recipe.

    Args:
        runtime: what to start from.
        settings: as for `override`; "runtime.FIELD" and the four fields of 0.1.0 are the runtime's.
    """
    kinds, changes, left = get_type_hints(Runtime), {}, []
    for setting in settings:
        field, text = _split(setting)
        short = field.removeprefix("runtime.")
        if short in legacy.RUNTIME and (field != short or field not in KINDS):
            changes[short] = _parse(field, kinds[short], text)
        else:
            left.append(setting)
    return replace(runtime, **changes), left


def recipe_from_toml(path: Path, presets: Mapping[str, Recipe]) -> Recipe:
    """Read a recipe: `base = "frozen"`, then a table for each group.

    Args:
        path: the .toml file.
        presets: the recipes that `base` may name; without it, the first.

    Raises:
        InputError: no such file, no TOML, an unknown field, or a value of the wrong type or out of range.
    """
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: expected a recipe here, found no file; check the name") from None
    except (OSError, ValueError) as problem:
        raise InputError(f"{path}: expected a recipe in TOML, but it can't be read ({problem})") from None
    base = content.pop("base", next(iter(presets)))
    if base not in presets:
        raise InputError(f"{path}: base: expected one of {', '.join(presets)}, found {base!r}")
    changes = {}
    for name, value in flat_settings(content).items():
        if name not in KINDS:
            raise InputError(f"{path}: {_no_such_field(name)}")
        changes[name] = _typed(name, value, f"{path}: {name}")
    return with_settings(presets[base], changes)


def recipe_from_json(values: Mapping[str, Any]) -> Recipe:
    """Return the recipe that a manifest stores, whichever version wrote it: the inverse of `dataclasses.asdict`.

    A setting that it lacks takes the value by which the version that wrote it behaved (`legacy.BEFORE`), else its
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
    if changes.get("loss.classification") == "arcface" and changes.get("loss.arcface_margin") == 0:
        del changes["loss.arcface_margin"]
        changes["loss.classification"] = "cosine_softmax"  # what 0.1.0 called arcface without a margin
    unknown = [name for name in changes if name not in KINDS]
    if unknown:
        raise InputError(
            f"recipe: found {', '.join(sorted(unknown)[:3])}, which no version of this kit up to this one has; a newer "
            "one wrote it: install that one, or train again"
        )
    newer = {name: value for name, value in legacy.BEFORE.items() if name not in changes}
    typed = {name: _typed(name, value, f"recipe field {name}") for name, value in changes.items()}
    name = str(flat["name"])
    return with_settings(Recipe(name=legacy.PRESETS.get(name, name)), newer | typed)


def flat_settings(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings by their names: {"loss": {"margin": 0.3}} -> {"loss.margin": 0.3}."""
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
    names = [*KINDS, *legacy.FIELDS, *(f"runtime.{each.name}" for each in fields(Runtime))]
    last = {name.rpartition(".")[2]: name for name in reversed(names)}
    near = difflib.get_close_matches(field, names, n=2) or [
        last[word] for word in difflib.get_close_matches(field.rpartition(".")[2], last, n=2)
    ]
    advice = f"did you mean {' or '.join(near)}?" if near else "`reid recipes paper` lists all"
    return f"a recipe has no field {field!r}; {advice}"


def _refuse_or_report(field: str, value: Any) -> None:
    """Report a removed field that only shaped training, refuse one that shapes answers."""
    default, shaped = legacy.REMOVED[field]
    if value == default:
        return
    if shaped == "answers":
        raise InputError(
            f"recipe field {field}: expected {default}, found {value}: this version has no such setting any more, and "
            "without it the answers would be others; use reid 0.1.0, or leave it out and train again"
        )
    log.warning("recipe field %s=%s: ignored, this version has no such setting any more (%s)", field, value, shaped)


def _like(default: Any, text: str) -> Any:
    """Return the text as a value of the default's type, or as it is where it is none."""
    try:
        return _parse("", type(default), text)
    except InputError:
        return text


def _renamed(name: str, value: Any) -> Any:
    """Return the value in today's words."""
    words = legacy.VALUES.get(name, {})
    return tuple(words.get(word, word) for word in value) if isinstance(value, tuple) else words.get(value, value)


def _typed(name: str, value: Any, place: str) -> Any:
    """Return a value of JSON or TOML as the setting holds it."""
    kind = KINDS[name]
    expected = (int, float) if kind is float else get_origin(kind) or kind
    if not isinstance(value, (list, tuple) if expected is tuple else expected) or (
        isinstance(value, bool) and kind is not bool
    ):
        raise InputError(f"{place}: expected {_kind_in_words(kind)}, found {value!r}")
    return _renamed(name, tuple(value) if isinstance(value, list) else value)


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
    words = [word for word in text.split(",") if word]
    return tuple(_parse(field, get_args(kind)[0], word) for word in words)


def unused_settings(recipe: Recipe, settings: Sequence[str]) -> list[str]:
    """Return the names of the settings that say nothing of this recipe, such as a loss where nothing is trained."""
    names = [legacy.FIELDS.get(field, field) for field, _ in map(_split, settings)]
    known = {name for name, _, _, _ in settings_of(recipe)}
    return [name for name in names if name in known and name not in recipe.used]
