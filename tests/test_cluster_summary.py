"""The page about discovered individuals."""

import re
from pathlib import Path

import pandas as pd

from reid.decision.discovered import CLUSTERS_COLUMNS, Clusters, Cut
from reid.report.cluster_summary import write_cluster_summary

ROWS = [
    ("1", "Lynx", "cluster_Lynx_1", "Mira", 0.9, ""),
    ("2", "Lynx", "cluster_Lynx_1", "Mira", 0.9, "linked"),
    ("3", "Lynx", "cluster_Lynx_<b>", "", float("nan"), "alone unreadable"),
    ("4", "Lynx", "cluster_Lynx_3", "", float("nan"), "alone"),
    ("5", "Newt", "cluster_Newt_1", "", float("nan"), "alone borrowed"),
]
CUTS = {
    "Lynx": Cut("Lynx", 0.41, (0.38, 0.45), 0.7, (0.6, 0.8), 2.0, 2.5, 0.5, 9, 40, "logistic", notes=("few & old",)),
    "Newt": Cut("Newt", 0.5, (0.4, 0.6), None, None, 1.0, 1.0, None, 9, 40, "logistic", ("Lynx",)),
}


def page_of(folder: Path) -> str:
    clusters = Clusters(pd.DataFrame(ROWS, columns=list(CLUSTERS_COLUMNS)), pd.DataFrame(), CUTS)
    write_cluster_summary(folder / "report.html", clusters)
    return (folder / "report.html").read_text("utf-8")


def cells(page: str) -> list[list[str]]:
    """The text of every row of the page's tables."""
    rows = re.findall(r"<tr>(.*?)</tr>", page, re.DOTALL)
    return [[cell.strip() for cell in re.findall(r"<td>(.*?)</td>", row, re.DOTALL)] for row in rows]


def test_cuts_and_sizes_stand_on_the_page(tmp_path: Path) -> None:
    page = page_of(tmp_path)
    rows = cells(page)
    assert ["Lynx", "4", "3", "1", "0.410", "0.380 to 0.450", "0.700 (0.600 to 0.800)"] in rows
    assert ["Newt", "1", "1", "0", "0.500", "0.400 to 0.600", "\u2014"] in rows
    assert [row for row in rows if len(row) == 2][:2] == [["1", "2"], ["2", "1"]], "two of one photograph, one of two"
    assert "cluster_Lynx_1 (2), cluster_Lynx_3 (1), cluster_Lynx_&lt;b&gt; (1)." in page
    assert "few &amp; old" in page
    assert "Pair score and cut were fitted on other datasets: Lynx." in page
    assert "<li>alone: 2 (no other photograph is in its cluster)</li>" in page
    assert page_of(tmp_path) == page


def test_the_page_loads_and_runs_nothing(tmp_path: Path) -> None:
    page = page_of(tmp_path)
    assert "default-src 'none'" in page
    assert not re.search(r"<script|src=|href=|url\(", page)
