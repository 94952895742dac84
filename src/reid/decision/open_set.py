"""Queries whose answer is known: what thresholds are chosen by, and answers judged by."""

from typing import NamedTuple

import numpy as np

__all__ = ["MIN_INDIVIDUALS", "OpenSetQueries"]

MIN_INDIVIDUALS = 8
"""With fewer known or fewer new individuals a dataset's own pseudo-queries say less of it than all datasets' do."""


class OpenSetQueries(NamedTuple):
    """Queries whose answer is known."""

    distance: np.ndarray
    """(Q,) float: the dissimilarity to the most similar individual of the gallery; inf where there is none."""
    is_match: np.ndarray
    """(Q,) bool: it is the individual on the query."""
    individual: np.ndarray
    """(Q,) str: the individual on the query."""
    new: np.ndarray
    """(Q,) bool: that individual is not in the gallery."""

    def of(self, mask: np.ndarray) -> "OpenSetQueries":
        """Return the queries that a mask (Q,) chooses."""
        return OpenSetQueries(*(values[mask] for values in self))
