"""The buttons of a page, which choose the cards of an outcome and of a dataset."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

__all__ = ["find_filters"]


def find_filters(table: pd.DataFrame, cards: Sequence[tuple[str, str]], outcomes: Mapping[str, str]) -> dict[str, Any]:
    """Return the buttons per outcome and per dataset, their ids, and the pairs of them that show nothing.

    Args:
        table: a row for each thing that was found, columns outcome and dataset.
        cards: outcome and dataset of each that is shown.
        outcomes: what each outcome is called, in the order of the buttons.
    """
    keys = [key for key in outcomes if (table["outcome"] == key).any()]
    datasets = sorted(set(table["dataset"]))
    shown = {"outcome": Counter(outcome for outcome, _ in cards), "dataset": Counter(name for _, name in cards)}
    pairs = set(cards)

    def button(column: str, value: str, words: str) -> dict[str, Any]:
        found = int((table[column] == value).sum())
        return {"key": value, "words": words, "shown": shown[column][value], "found": found}

    return {
        "outcome": [button("outcome", key, outcomes[key]) for key in keys],
        "dataset": [button("dataset", name, name) for name in datasets],
        "numbers": {name: place for place, name in enumerate(datasets)},
        "ids": ["v-all", "d-all", *(f"v-{key}" for key in keys), *(f"d-{place}" for place in range(len(datasets)))],
        "empty": [(key, place) for key in keys for place, name in enumerate(datasets) if (key, name) not in pairs],
    }
