"""Whether a data folder is a competition's: nobody may label its queries by hand.

A folder is a competition's if `make data` has made it, which leaves `competition.json`, or if it has
`sample_submission.csv` and nobody gives the answers away in `solution.csv`.
"""

from collections.abc import Collection
from pathlib import Path

from reid.data.catalogue import Catalogue
from reid.errors import InputError
from reid.runtime.files import first_of, is_file

__all__ = ["COMPETITION", "find_competition", "refuse_hand_labels"]

COMPETITION = "competition.json"


def find_competition(folder: Path) -> str:
    """Return by what a data folder is known to be a competition's; "" where it is none."""
    if is_file(folder / COMPETITION):
        return f"{COMPETITION}, which `make data` leaves"
    if is_file(folder / "sample_submission.csv") and not is_file(folder / "solution.csv"):
        return "sample_submission.csv and no solution.csv"
    return ""


def refuse_hand_labels(catalogue: Catalogue, image_ids: Collection[str], where: str, advice: str) -> None:
    """Refuse what a person says of a competition's queries.

    Args:
        catalogue: all rows of the data folder.
        image_ids: of whom something is said, or asked.
        where: the file or the command that does so, for the message.
        advice: what to do, for the message.

    Raises:
        InputError: the folder is a competition's, and one of the photographs is a query.
    """
    if not (found := find_competition(catalogue.root)):
        return
    queries = sorted(set(catalogue.query.image_ids) & set(image_ids))
    if queries:
        raise InputError(
            f"{where}: expected nothing about the queries of a competition, whose rules forbid labels made by hand; "
            f"{catalogue.root} is a competition's folder (it has {found}), and {first_of(queries)} "
            f"{'is a query' if len(queries) == 1 else 'are queries'} of it. {advice}"
        )
