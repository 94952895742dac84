"""Whether intervals hold what they promise, by simulation: a score whose truth is known, drawn again and again."""

import numpy as np
import pandas as pd

from reid.data.catalogue import NEW_INDIVIDUAL
from reid.decision.metrics import resampled


def drawn_answers(rng: np.random.Generator, known: int, new: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Two photographs of each individual; a known animal is named with a chance of its own, 0.5 in the mean, a new one
    called new with one of 0.8."""
    rows = []
    for animal in range(known + new):
        is_new = animal >= known
        chance = rng.beta(4, 1) if is_new else rng.beta(1, 1)
        for photograph in range(2):
            right = rng.random() < chance
            truth = f"animal {animal}"
            answer = (NEW_INDIVIDUAL if right else "animal 0") if is_new else (truth if right else NEW_INDIVIDUAL)
            rows.append((f"{animal}-{photograph}", truth, is_new, "Beasts", "all", answer))
    table = pd.DataFrame(rows, columns=["image_id", "identity", "new_identity", "dataset", "Usage", "answer"])
    submission = table[["image_id", "answer"]].rename(columns={"answer": "identity"})
    return submission, table.drop(columns="answer")


def test_nine_of_ten_intervals_of_a_score_hold_its_truth() -> None:
    truth, rng, held = np.sqrt(0.5 * 0.8), np.random.default_rng(0), 0
    for _ in range(100):
        draws = resampled(*drawn_answers(rng, 30, 20))["Beasts"][:, 2]
        low, high = np.quantile(draws, [0.05, 0.95])
        held += bool(low <= truth <= high)
    assert 80 <= held <= 98
