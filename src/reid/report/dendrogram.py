"""How the photographs of a cluster were joined, one after another: a dendrogram, and its lines on the page."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import squareform

__all__ = ["LEAF", "WIDTH", "Drawing", "Joins"]

WIDTH, LEAF = 1000, 10
"""Units of a drawing: how wide it is, how high per leaf."""


class Drawing(NamedTuple):
    """A dendrogram, with its leaves from the top down and dissimilarity from the left to the right."""

    leaves: tuple[tuple[int, ...], ...]
    """The photographs of each leaf, as their places in the cluster: one, or several where not all joins are drawn."""
    path: str
    """An SVG path in a field of `WIDTH` by `LEAF` times the number of leaves."""


@dataclass(frozen=True)
class Joins:
    """The joins of a cluster's photographs by average linkage (Sokal and Michener 1958).

    Attributes:
        rows: (n - 1, 4) float, as SciPy's `linkage` returns them: the two that are joined (below n a photograph,
            n + i what row i made), the mean dissimilarity between them, and how many photographs they have together.
    """

    rows: np.ndarray

    @classmethod
    def of(cls, dissimilarity: np.ndarray) -> "Joins":
        """Return the joins of n photographs, 2 or more, from the symmetric (n, n) dissimilarities between them."""
        return cls(linkage(squareform(dissimilarity, checks=False), "average"))

    @property
    def height(self) -> float:
        """The mean dissimilarity between the two halves that were joined last."""
        return float(self.rows[-1, 2])

    @property
    def halves(self) -> tuple[list[int], list[int]]:
        """The photographs of the two halves that were joined last."""
        left, right = self.rows[-1, :2].astype(int)
        return self._photographs(left), self._photographs(right)

    def draw(self, end: float, max_leaves: int) -> Drawing:
        """Return the dendrogram.

        Args:
            end: the dissimilarity at the right edge.
            max_leaves: of more photographs only the last joins are drawn, and a leaf stands for several.
        """
        count, first_drawn = len(self.rows) + 1, max(0, len(self.rows) + 1 - max_leaves)
        leaves: list[tuple[int, ...]] = []
        lines: list[str] = []

        def visit(node: int) -> tuple[int, int]:
            """Draw what is below a node; return where its line begins."""
            row = node - count
            if row < first_drawn:
                leaves.append(tuple(self._photographs(node)))
                return 0, round((len(leaves) - 0.5) * LEAF)
            (x, y), (u, v) = (visit(int(child)) for child in self.rows[row, :2])
            join = min(WIDTH, round(self.rows[row, 2] / end * WIDTH))
            lines.append(f"M{x} {y}H{join}V{v}H{u}")
            return join, (y + v) // 2

        right, middle = visit(count + len(self.rows) - 1)
        return Drawing(tuple(leaves), "".join(lines) + f"M{right} {middle}H{WIDTH}")

    def _photographs(self, node: int) -> list[int]:
        """Return the photographs below a node, those that were joined first next to each other."""
        photographs, waiting = [], [node]
        while waiting:
            one = waiting.pop()
            if one <= len(self.rows):
                photographs.append(one)
            else:
                waiting += self.rows[one - len(self.rows) - 1, :2].astype(int).tolist()[::-1]
        return photographs
