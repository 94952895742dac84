"""Validation against slow twins and known answers; collapse is noticed, and nothing else is taken for it."""

import numpy as np
import torch

from reid.validation import rank1_accuracy


def test_rank1_accuracy_counts_only_those_with_a_partner() -> None:
    vectors = torch.tensor([[0.0], [0.1], [5.0], [5.2], [9.0]])
    assert rank1_accuracy(vectors, np.array([0, 0, 1, 1, 2])) == 1.0
    assert rank1_accuracy(vectors, np.array([0, 1, 0, 1, 2])) == 0.0
    assert rank1_accuracy(vectors, np.arange(5)) is None
    assert rank1_accuracy(vectors[:0], np.array([], dtype=int)) is None
