"""Discovered individuals: which photographs show one animal, where nobody has named it, and who it may be.

`discover` returns them. NAME.csv is the submission, `image_id,cluster`; NAME.clusters.csv next to it says more of each
photograph, in the columns `CLUSTERS_COLUMNS`.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from reid.runtime.files import write_table

if TYPE_CHECKING:  # it needs torch
    from reid.decision.cuts import Trial

__all__ = ["CLUSTERS_COLUMNS", "CLUSTER_FLAGS", "LINK_COLUMNS", "Clusters", "Cut", "clusters_path"]

CLUSTERS_COLUMNS = ("image_id", "dataset", "cluster", "identity", "probability", "flags")

LINK_COLUMNS = ("dataset", "image_id_a", "image_id_b", "answer")

CLUSTER_FLAGS = {
    "unreadable": "the photograph can't be read; it is a cluster of its own",
    "alone": "no other photograph is in its cluster",
    "borrowed": "pair score and cut were fitted on the ranks of several datasets together",
    "unfitted": "too few photographs or known individuals to fit on; the kit's own pair score and cut were used",
    "linked": "a person's answer, or a place and a moment, decided about it",
    "one_side": "its cluster shows one side of the animal; photographs of the other may be a cluster of their own",
}
"""The words of the column flags, and what they mean."""


@dataclass(frozen=True)
class Cut:
    """Below which dissimilarity clusters of one dataset are joined, and what is expected of it.

    Attributes:
        dataset: whose.
        value: clusters whose mean dissimilarity is below it are joined.
        plateau: cuts between these two do as well, to within a hundredth of ARI.
        score: the expected adjusted Rand index; None where nothing could be fitted.
        interval: nine of ten pseudo-collections lie between these; None likewise. They are drawn from the same
            individuals, so other animals may lie farther out.
        companions: the other photographs of the same animal that a photograph has on average, as estimated from the
            similarities alone.
        fitted_companions: the same in the pseudo-collections that the cut was fitted on.
        share_known: the estimated share of the photographs whose animal has a name; None without known photographs.
        individuals, photographs: how many of the database the pseudo-collections were drawn from.
        scorer: the kind of pair score.
        borrowed: the datasets whose ranks pair score and cut were fitted on; () where it is the values of its own.
        notes: what a person must know.
    """

    dataset: str
    value: float
    plateau: tuple[float, float]
    score: float | None
    interval: tuple[float, float] | None
    companions: float
    fitted_companions: float
    share_known: float | None
    individuals: int
    photographs: int
    scorer: str
    borrowed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Clusters:
    """The partition of every dataset's query photographs.

    Attributes:
        photographs: one row per query in the submission's order, the columns `CLUSTERS_COLUMNS`: cluster (such as
            cluster_LynxID2025_7), identity (the known individual that the cluster was attached to, "" for nobody
            known), probability (that this is so; NaN where the dataset's scorer gives none, or has nobody to name),
            flags (words of `CLUSTER_FLAGS`, separated by blanks).
        pairs: the pairs of photographs that were compared: dataset, image_id_a, image_id_b, dissimilarity (0 to 1).
            A pair that is not there counts as 1.
        cuts: by dataset.
        links: the pairs that were certain, whatever their dissimilarity: dataset, image_id_a, image_id_b, answer (same
            or different). Of a group that is one animal, only so many that they connect it.
        trials: by dataset, the pseudo-collections that its cut was fitted on.
    """

    photographs: pd.DataFrame
    pairs: pd.DataFrame
    cuts: dict[str, Cut] = field(default_factory=dict)
    links: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(LINK_COLUMNS), dtype=object))
    trials: "dict[str, tuple[Trial, ...]]" = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of photographs."""
        return len(self.photographs)

    @property
    def submission(self) -> pd.DataFrame:
        """Columns image_id, cluster: the rows to hand in."""
        return self.photographs[["image_id", "cluster"]].reset_index(drop=True)

    def save(self, path: Path | str) -> None:
        """Write the submission NAME.csv, and NAME.clusters.csv next to it.

        Raises:
            InputError: the folder can't be written.
        """
        write_table(clusters_path(path), self.photographs[list(CLUSTERS_COLUMNS)])
        write_table(Path(path), self.submission)


def clusters_path(submission: Path | str) -> Path:
    """Return where more is said of a submission's clusters: NAME.csv -> NAME.clusters.csv."""
    path = Path(submission)
    return path.with_name(f"{path.name.removesuffix('.csv')}.clusters.csv")
