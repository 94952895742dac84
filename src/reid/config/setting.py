"""One setting: its default, what it means, and which values it may have."""

import difflib
from collections.abc import Sequence
from dataclasses import field, fields
from typing import Any

from reid.errors import InputError

__all__ = ["check_values", "setting"]


def setting(
    default: Any,
    help: str,  # noqa: A002 - the word that argparse uses for the same thing
    limits: tuple[float, float] | None = None,
    choices: Sequence[str] = (),
    words: Sequence[str] = (),
    joined: bool = False,
) -> Any:
    """Return a dataclass field that carries its own explanation and limits.

    Args:
        default: the value where nobody sets another.
        help: one sentence for a person.
        limits: the smallest and the largest value of a number, both allowed.
        choices: the values of a text.
        words: what a list of texts may hold.
        joined: whether several of `choices` or `words` with + between them are one too.
    """
    described = {"help": help, "limits": limits, "choices": choices, "words": words, "joined": joined}
    return field(default=default, metadata=described)


def check_values(place: str, settings: Any) -> None:
    """Check every value of a dataclass of settings.

    Args:
        place: what stands before a setting's name in a message, e.g. "recipe field loss".
        settings: the dataclass.

    Raises:
        InputError: a value out of its limits, or a word that is none of the choices.
    """
    for each in fields(settings):
        value, name, allowed = getattr(settings, each.name), f"{place}.{each.name}", each.metadata
        if allowed["choices"] and (unknown := _unknown([value], allowed["choices"], allowed["joined"])) is not None:
            advice = _did_you_mean(unknown, allowed["choices"])
            raise InputError(f"{name}: expected {' or '.join(allowed['choices'])}, found {value!r}{advice}")
        if allowed["words"] and (unknown := _unknown(value, allowed["words"], allowed["joined"])) is not None:
            advice = _did_you_mean(unknown, allowed["words"])
            raise InputError(f"{name}: expected some of {', '.join(allowed['words'])}, found {unknown!r}{advice}")
        if allowed["limits"]:
            lowest, highest = allowed["limits"]
            if not lowest <= value <= highest:  # also catches NaN
                raise InputError(f"{name}: expected {lowest} to {highest}, found {value}")


def _unknown(values: Sequence[str], known: Sequence[str], joined: bool) -> str | None:
    """Return the first of the values, or of what is joined in one, that is not known; None where all are."""
    parts = [part for value in values for part in (value.split("+") if joined else [value])]
    return next((part for part in parts if part not in known), None)


def _did_you_mean(word: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, known, n=2)
    return f"; did you mean {' or '.join(near)}?" if near else ""
