"""`reid recipes`: list presets and settings."""

import argparse
import logging
import textwrap
from typing import Any

from reid.commands.options import add_command, add_json
from reid.commands.output import print_json
from reid.config.presets import SUMMARIES, read_recipe
from reid.config.recipe import settings_of
from reid.runtime.progress import print_result

__all__ = ["add_parser", "run"]

log = logging.getLogger(__name__)


def add_parser(commands: Any) -> None:
    does = "list the presets, or every setting of one"
    command = add_command(commands, "recipes", run, does, "recipes frozen")
    command.add_argument(
        "name",
        metavar="NAME",
        nargs="?",
        help="a preset, a .toml file or a weights folder: its settings with their help",
    )
    add_json(
        command,
        "without NAME presets, a sentence for each name; with NAME name and settings, of each the value, default and "
        "help",
    )


def run(options: argparse.Namespace) -> None:
    if options.name is None:
        _print_presets(options.json)
        return
    recipe = read_recipe(options.name)
    rows = settings_of(recipe)
    if options.json:
        values = {name: {"value": value, "default": default, "help": words} for name, value, default, words in rows}
        print_json({"name": recipe.name, "settings": values})
        return
    print_result(f"{recipe.name}: {SUMMARIES.get(recipe.name, 'another recipe')}\n")
    for name, value, default, words in rows:
        changed = "" if value == default else f" (default {_as_typed(default)})"
        print_result(f"{name}={_as_typed(value)}{changed}")
        print_result(textwrap.fill(words, 100, initial_indent="    ", subsequent_indent="    "))


def _print_presets(as_json: bool) -> None:
    if as_json:
        print_json({"presets": SUMMARIES})
        return
    width = max(map(len, SUMMARIES))
    for name, words in SUMMARIES.items():
        print_result(f"{name:{width}}  {words}")
    log.info("`reid recipes NAME` shows every setting of one; `reid train ... --recipe NAME` trains with it")


def _as_typed(value: Any) -> str:
    """Return a value as `--set` takes it."""
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
