"""Measures the kit against its peers, case by case, in one process and in turns.

    pip install -e '.[bench]'
    python benchmarks/run.py                  # every case
    python benchmarks/run.py search --quick   # one case, small sizes

The tables are printed as they are measured; they lie as CSV, with a plot each, in `--out`. Read the ratios: the peers
of a table share what else the machine does at that time, two tables don't.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import decode
import losses
import mining
import pandas as pd
import search
from harness import Contest, NotHereError, Options, machine, plot, show, table


@dataclass(frozen=True)
class Case:
    """A line of the list below.

    Attributes:
        contests: from small to large.
        across: what the plot's x axis counts.
    """

    contests: Callable[[Options], Iterator[Contest]]
    across: str


CASES = {
    "search": Case(search.contests, "photographs in the gallery"),
    "losses": Case(losses.contests, "photographs in the batch"),
    "mining": Case(mining.contests, "photographs in the batch"),
    "decode": Case(decode.contests, "pixels on a side"),
}


def main() -> None:
    """Runs the named cases, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(CASES)}; all when none is named")
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--seconds", type=float, default=10, help="of timed rounds per size (at least 3 rounds); 10")
    parser.add_argument("--photos", type=Path, default=Path("../shared/photos-large"), help="a folder of large JPEGs")
    parser.add_argument("--out", type=Path, default=Path("build/bench"), help="where CSV and PNG go; build/bench")
    asked = parser.parse_args()
    if unknown := set(asked.names) - set(CASES):
        parser.error(f"expected cases of {', '.join(CASES)}; found {', '.join(sorted(unknown))}")
    asked.out.mkdir(parents=True, exist_ok=True)
    for name in asked.names or CASES:
        run_case(name, CASES[name], Options(asked.quick, asked.seconds, asked.photos), asked.out)


def run_case(name: str, case: Case, options: Options, out: Path) -> None:
    """Prints each contest's table as soon as it is measured; what is measured so far always lies in `out`."""
    print(f"\n## {name}\n{machine()}", flush=True)
    measured: list[pd.DataFrame] = []
    try:
        for rows in table(case.contests(options), options.seconds):
            print(f"\n{show(rows)}", flush=True)
            measured.append(rows)
            everything = pd.concat(measured)
            everything.to_csv(out / f"{name}.csv", index=False)
            plot(everything, name, case.across, out / f"{name}.png")
    except NotHereError as reason:
        print(f"skipped: {reason}", file=sys.stderr)


if __name__ == "__main__":
    main()
